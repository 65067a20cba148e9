//! Words and tags for documents that are vectors: what hybrid search and filters are measured on.
//!
//! The heaviest terms of a learned-sparse vector are mostly the words of its text, the others are
//! expansions. So a document's text is made of its heaviest terms, repeated by their weight, and
//! of words that every text has, by Zipf's law; a query's of its heaviest terms and one such word.

use anyhow::Result;
use laconic_tantivy::{Bm25Query, CachedFilter, SparseVector};
use tantivy::query::TermQuery;
use tantivy::schema::{Field, IndexRecordOption, STRING, Schema, SchemaBuilder, TEXT};
use tantivy::{TantivyDocument, Term};
use xxhash_rust::xxh3::xxh3_64;

/// Distinct words of a document that come from its vector, and most occurrences of one.
const DOC_WORDS: usize = 60;
const MAX_REPEATS: u64 = 6;
/// Words that any text has, and how many of them there are for every other word.
const COMMON_WORDS: u64 = 100;
const COMMON_SHARE: f64 = 0.7;
/// Words of a query that come from its vector.
const QUERY_WORDS: usize = 6;

/// Percentages of the documents that tags select.
pub(super) const TAGS: [(&str, u64); 4] = [("50", 500), ("10", 100), ("1", 10), ("0.1", 1)];

/// The fields beside the vector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextFields {
    text: Field,
    tag: Field,
}

impl TextFields {
    pub(crate) fn add_to(schema: &mut SchemaBuilder) -> TextFields {
        TextFields {
            text: schema.add_text_field("text", TEXT),
            tag: schema.add_text_field("tag", STRING),
        }
    }

    /// The fields of an index that has them.
    pub(crate) fn find(schema: &Schema) -> Option<TextFields> {
        Some(TextFields {
            text: schema.get_field("text").ok()?,
            tag: schema.get_field("tag").ok()?,
        })
    }

    /// Text and tags of document number `number`.
    pub(crate) fn document(self, vector: &SparseVector, number: u64) -> TantivyDocument {
        let mut random = Random(number);
        let mut words = Vec::new();
        for (term, weight) in heaviest(vector, DOC_WORDS) {
            let n = 1 + random.below(repeats(weight));
            words.extend((0..n).map(|_| word(term)));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a few hundred words"
        )]
        let n_common = (super::real(words.len() as u64) * COMMON_SHARE) as u64;
        words.extend((0..n_common).map(|_| random.common_word()));
        let mut document = TantivyDocument::default();
        document.add_text(self.text, words.join(" "));
        for (tag, per_thousand) in TAGS {
            if random.below(1000) < per_thousand {
                document.add_text(self.tag, tag);
            }
        }
        document
    }

    /// The words of query number `number`.
    pub(super) fn words(self, vector: &SparseVector, number: u64) -> Vec<Term> {
        let words = heaviest(vector, QUERY_WORDS).into_iter();
        let mut words: Vec<String> = words.map(|(term, _)| word(term)).collect();
        words.push(Random(number).common_word());
        words.sort();
        words.dedup();
        let term = |word: String| Term::from_field_text(self.text, &word);
        words.into_iter().map(term).collect()
    }

    /// The same as a BM25 query.
    pub(super) fn bm25(words: &[Term]) -> Result<Bm25Query> {
        Ok(Bm25Query::new(
            words.iter().map(|term| (term.clone(), 1.0)),
        )?)
    }

    /// The documents of each tag, remembered once they were found.
    pub(super) fn cached_filters(self) -> Vec<CachedFilter> {
        let cached = |(tag, _)| CachedFilter::new(Box::new(self.tagged(tag)));
        TAGS.into_iter().map(cached).collect()
    }

    /// The documents with a tag.
    pub(super) fn tagged(self, tag: &str) -> TermQuery {
        TermQuery::new(
            Term::from_field_text(self.tag, tag),
            IndexRecordOption::Basic,
        )
    }
}

/// The `n` heaviest terms, heaviest first.
fn heaviest(vector: &SparseVector, n: usize) -> Vec<(&str, f32)> {
    let mut terms: Vec<(&str, f32)> = vector.iter().collect();
    terms.sort_by(|a, b| b.1.total_cmp(&a.1));
    terms.truncate(n);
    terms
}

/// How often a word of this weight occurs at most.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "weights are positive; the cast saturates"
)]
fn repeats(weight: f32) -> u64 {
    ((weight * weight) as u64).clamp(1, MAX_REPEATS)
}

/// A term as something that any tokenizer takes for one word.
fn word(term: &str) -> String {
    format!("w{:x}", xxh3_64(term.as_bytes()))
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = xxh3_64(&self.0.to_le_bytes());
        self.0 % bound
    }

    /// Word number n as often as 1/n.
    fn common_word(&mut self) -> String {
        let harmonic = |n: u64| (1..=n).map(|n| 1.0 / super::real(n)).sum::<f64>();
        let mut left = super::real(self.below(1 << 32)) / super::real(1 << 32);
        left *= harmonic(COMMON_WORDS);
        let mut n = 1;
        while n < COMMON_WORDS && left > 1.0 / super::real(n) {
            left -= 1.0 / super::real(n);
            n += 1;
        }
        format!("common{n}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tantivy::schema::Value;

    #[test]
    fn texts_have_the_words_of_their_queries_and_tags_their_share() {
        let mut schema = Schema::builder();
        let fields = TextFields::add_to(&mut schema);
        let vector = SparseVector::from_pairs([("a", 3.0), ("b", 0.5)]).unwrap();
        let (mut tagged, n) = (0, 4000);
        for number in 0..n {
            let document = fields.document(&vector, number);
            let text = document.get_first(fields.text);
            let text = text.and_then(|text| text.as_str()).unwrap();
            assert!(
                text.contains(&word("a")) && text.contains(&word("b")),
                "{text}"
            );
            tagged += u64::from(document.get_all(fields.tag).count() > 0);
        }
        let expected = n / 2..n * 6 / 10;
        assert!(expected.contains(&tagged), "{tagged}");
        let words = fields.words(&vector, 7);
        assert_eq!(words.len(), 3);
        assert_eq!(words, fields.words(&vector, 7));
    }
}
