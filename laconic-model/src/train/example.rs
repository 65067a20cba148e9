//! What is learnt from: queries with passages that answer them and passages that do not.

use std::borrow::Cow;

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use xxhash_rust::xxh3::Xxh3;

use super::network::MASKED;
use super::random::Random;
use super::recipe::Recipe;
use super::step::Batch;
use crate::error::Error;
use crate::preset::Preset;
use crate::text::Text;
use crate::tokenize::{Specials, TextTokenizer};

/// A passage: a document, or part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Passage {
    /// Its title, if it has one.
    pub title: Option<String>,
    /// Its body.
    pub body: String,
}

/// A query, the passage that answers it, and passages that look as if they did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Example {
    /// The query.
    pub query: String,
    /// The passage that answers it.
    pub positive: Passage,
    /// Hard negatives, the hardest first. Phase 1 needs none.
    pub negatives: Vec<Passage>,
    /// Examples of one group, such as those made from one document, are never each other's
    /// negatives.
    pub group: Option<String>,
}

/// Turns texts into token ids for training.
pub(super) struct Tokens<'a> {
    pub(super) tokenizer: &'a TextTokenizer,
    pub(super) specials: Specials,
    pub(super) query_preset: Preset,
    pub(super) document_preset: Preset,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(
        tokenizer: &'a TextTokenizer,
        specials: Specials,
        preset: &Preset,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        let of_length = |length: usize| {
            let mut preset = preset.clone();
            preset.set("max_length", &length.to_string())?;
            Ok::<_, Error>(preset)
        };
        Ok(Self {
            tokenizer,
            specials,
            query_preset: of_length(recipe.query_length)?,
            document_preset: of_length(recipe.document_length)?,
        })
    }

    pub(super) fn query(&self, query: &str) -> Result<Vec<u32>, Error> {
        self.ids(Text::Query(query), &self.query_preset)
    }

    pub(super) fn passage(&self, passage: &Passage) -> Result<Vec<u32>, Error> {
        let text = Text::Document {
            title: passage.title.as_deref(),
            body: &passage.body,
        };
        self.ids(text, &self.document_preset)
    }

    fn ids(&self, text: Text<'_>, preset: &Preset) -> Result<Vec<u32>, Error> {
        let mut ids = self.tokenizer.tokenize(text, preset, self.specials)?.ids;
        if ids.is_empty() {
            // A text without tokens has no position to pool; one that stands for nothing keeps
            // the batch in shape.
            ids.push(0);
        }
        Ok(ids)
    }

    /// The batch of some examples, each with `negatives` hard negatives.
    pub(super) fn batch(
        &self,
        examples: &[&Example],
        negatives: usize,
        device: &Device,
    ) -> Result<Batch, Error> {
        let queries: Result<Vec<_>, Error> = examples
            .par_iter()
            .map(|example| self.query(&example.query))
            .collect();
        let passages: Vec<&Passage> = examples
            .iter()
            .flat_map(|example| {
                std::iter::once(&example.positive).chain(example.negatives.iter().take(negatives))
            })
            .collect();
        let documents: Result<Vec<_>, Error> = passages
            .par_iter()
            .map(|passage| self.passage(passage))
            .collect();
        Ok(Batch {
            queries: queries?,
            documents: documents?,
            per_query: 1 + negatives,
            exempt: exempt(examples, &passages, negatives, device)?,
        })
    }
}

/// Marks passages that answer a query although they came with another: those of the query's
/// group, and those that equal its own passage.
fn exempt(
    examples: &[&Example],
    passages: &[&Passage],
    negatives: usize,
    device: &Device,
) -> Result<Option<Tensor>, Error> {
    let per_query = 1 + negatives;
    let mut is_any = false;
    let mut marks = vec![0.0_f32; examples.len() * passages.len()];
    for (query, example) in examples.iter().enumerate() {
        for (at, passage) in passages.iter().enumerate() {
            let brought_by = at / per_query;
            if brought_by == query {
                continue;
            }
            let is_positive = at % per_query == 0;
            let same_group = is_positive
                && example.group.is_some()
                && example.group == examples[brought_by].group;
            if same_group || **passage == example.positive {
                marks[query * passages.len() + at] = MASKED;
                is_any = true;
            }
        }
    }
    if !is_any {
        return Ok(None);
    }
    let shape = (examples.len(), passages.len());
    Ok(Some(Tensor::from_vec(marks, shape, device)?))
}

/// The examples of each batch, epoch after epoch, each in an order of its own.
pub(super) struct Order {
    seed: u64,
    n_examples: usize,
    epoch: usize,
    permutation: Vec<usize>,
}

impl Order {
    pub(super) fn new(seed: u64, n_examples: usize) -> Self {
        Self {
            seed,
            n_examples,
            epoch: usize::MAX,
            permutation: Vec::new(),
        }
    }

    /// The examples of batch number `batch`: a function of that number. An epoch's last, shorter
    /// batch is left out, so that every loss has as many negatives.
    pub(super) fn batch(&mut self, batch: usize, size: usize) -> &[usize] {
        let size = size.min(self.n_examples);
        let per_epoch = (self.n_examples / size.max(1)).max(1);
        let epoch = batch / per_epoch;
        if epoch != self.epoch {
            let key = [
                self.seed,
                u64::try_from(epoch).unwrap_or(u64::MAX),
                0x6f72_6465_7273,
            ];
            self.permutation = Random::keyed(&key).permutation(self.n_examples);
            self.epoch = epoch;
        }
        let start = batch % per_epoch * size;
        &self.permutation[start..start + size]
    }
}

/// 128-bit hash of all examples, in order.
pub(super) fn fingerprint(examples: &[Example]) -> String {
    let mut hash = Xxh3::new();
    let mut part = |text: Option<&str>| {
        let text = text.map_or(Cow::Borrowed("-"), |text| Cow::Owned(format!("+{text}")));
        hash.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(text.as_bytes());
    };
    for example in examples {
        part(Some(&example.query));
        part(example.group.as_deref());
        for passage in std::iter::once(&example.positive).chain(&example.negatives) {
            part(passage.title.as_deref());
            part(Some(&passage.body));
        }
        part(None);
    }
    format!("{:032x}", hash.digest128())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_each_example_once_in_an_order_of_its_own() {
        let mut order = Order::new(3, 100);
        let mut epoch = |number: usize| -> Vec<usize> {
            let batches = number * 10..number * 10 + 10;
            batches
                .flat_map(|batch| order.batch(batch, 10).to_vec())
                .collect()
        };
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        for mut epoch in [first, second] {
            epoch.sort_unstable();
            assert!(epoch.into_iter().eq(0..100));
        }
        let mut fresh = Order::new(3, 100);
        assert_eq!(fresh.batch(17, 10), Order::new(3, 100).batch(17, 10));
        assert_eq!(
            Order::new(3, 5).batch(9, 10).len(),
            5,
            "fewer examples than a batch"
        );
    }

    fn example(query: &str, body: &str, group: Option<&str>) -> Example {
        Example {
            query: query.to_owned(),
            positive: Passage {
                title: None,
                body: body.to_owned(),
            },
            negatives: vec![Passage::default(), Passage::default()],
            group: group.map(str::to_owned),
        }
    }

    #[test]
    fn right_answers_of_others_are_exempt() {
        let examples = [
            example("a", "1", Some("g")),
            example("b", "2", Some("g")),
            example("c", "1", None),
            example("d", "3", None),
        ];
        let examples: Vec<&Example> = examples.iter().collect();
        let passages: Vec<&Passage> = examples
            .iter()
            .flat_map(|example| [&example.positive, &example.negatives[0]])
            .collect();
        let marks = exempt(&examples, &passages, 1, &Device::Cpu)
            .unwrap()
            .unwrap();
        let marks = marks.to_vec2::<f32>().unwrap();
        let exempted: Vec<Vec<usize>> = marks
            .iter()
            .map(|row| (0..8).filter(|at| row[*at] < 0.0).collect())
            .collect();
        // a: b by group, c by text; b: a by group; c: a by text; d: nothing.
        assert_eq!(exempted, [vec![2, 4], vec![0], vec![0], vec![]]);
        let apart: Vec<&Example> = examples[2..].to_vec();
        assert!(
            exempt(&apart, &passages[4..], 1, &Device::Cpu)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn the_fingerprint_sees_every_text_and_where_it_stands() {
        let base = example("a", "1", Some("g"));
        let hash = |example: &Example| fingerprint(std::slice::from_ref(example));
        let mut seen = vec![hash(&base), fingerprint(&[base.clone(), base.clone()])];
        let mut change = |edit: fn(&mut Example)| {
            let mut example = base.clone();
            edit(&mut example);
            seen.push(hash(&example));
        };
        change(|example| example.query.push('x'));
        change(|example| example.group = None);
        change(|example| example.positive.title = Some(String::new()));
        change(|example| example.negatives[1].body.push('x'));
        change(|example| drop(example.negatives.pop()));
        let n_seen = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), n_seen);
    }
}
