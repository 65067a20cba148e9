//! Hard negatives: documents that an index ranks high for a query and that do not answer it.

use anyhow::Result;
use laconic_model::train::{Example, Passage};
use tantivy::query::TermQuery;
use tantivy::schema::IndexRecordOption;

use crate::corpus::Found;
use crate::retrieval::{Question, Retriever};

/// How negatives are chosen from a ranking.
pub(crate) struct Miner<'a> {
    pub(crate) retriever: Retriever<'a>,
    /// Hits looked at.
    pub(crate) depth: usize,
    /// Hits passed over at the top.
    pub(crate) skip: usize,
    /// Negatives wanted.
    pub(crate) negatives: usize,
    /// A hit that scores more than this share of the positive's score may be an answer that
    /// nobody marked (RocketQA, Qu et al. 2021, section 3.2, finds most of the top hits to be),
    /// and is left out.
    pub(crate) margin: f32,
}

/// What mining found for an example.
pub(crate) struct Mined {
    /// The example with its negatives, hardest first.
    pub(crate) example: Example,
    /// Hits left out because they score too close to the positive.
    pub(crate) n_too_close: usize,
}

impl Miner<'_> {
    /// Negatives for an example, whose group is the id of its document in the index. Without one
    /// the best hit's score stands in for the positive's.
    pub(crate) fn mine(&mut self, example: Example) -> Result<Mined> {
        let question = Question {
            id: "1".to_owned(),
            text: Some(example.query.clone()),
            vector: None,
            has_syntax: false,
        };
        let hits = self.retriever.ask(&question, self.depth)?;
        let limit = self
            .positive_score(&question, &example, &hits)?
            .map(|score| score * self.margin);
        let mut mined = Mined {
            example: Example {
                negatives: Vec::new(),
                ..example
            },
            n_too_close: 0,
        };
        for hit in hits.iter().skip(self.skip) {
            if mined.example.negatives.len() == self.negatives {
                break;
            }
            if mined.example.group.as_deref() == Some(hit.id.as_str()) {
                continue;
            }
            if limit.is_some_and(|limit| hit.score > limit) {
                mined.n_too_close += 1;
                continue;
            }
            let stored = self
                .retriever
                .corpus
                .document(&self.retriever.searcher, hit.address)?;
            let passage = Passage {
                title: stored.title,
                body: stored.text,
            };
            if passage != mined.example.positive {
                mined.example.negatives.push(passage);
            }
        }
        Ok(mined)
    }

    fn positive_score(
        &mut self,
        question: &Question,
        example: &Example,
        hits: &[Found],
    ) -> Result<Option<f32>> {
        let best = hits.first().map(|hit| hit.score);
        let Some(id) = &example.group else {
            return Ok(best);
        };
        if let Some(hit) = hits.iter().find(|hit| hit.id == *id) {
            return Ok(Some(hit.score));
        }
        // Not among the hits: scored alone.
        let term = self.retriever.corpus.id_term(id);
        let filter = TermQuery::new(term, IndexRecordOption::Basic);
        self.retriever.filter = Some(Box::new(filter));
        let alone = self.retriever.ask(question, 1);
        self.retriever.filter = None;
        Ok(alone?.first().map_or(best, |hit| Some(hit.score)))
    }
}
