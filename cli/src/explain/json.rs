//! Explanations as JSON, for machines.
//!
//! | Key | Holds |
//! |---|---|
//! | `fusion[]` | of hybrid search, for each list: `list`, `rank`, `score`, `rescored`, `normalized`, `weight`, `contribution` |
//! | `learned.score` | the sum of the contributions |
//! | `learned.terms[]` | `term`, `readable`, `impact`, `document_weight`, `query_weight`, `contribution`, `share`, largest first |
//! | … `.expansion` | `document`, `query`: whether the term is absent from the text's own tokens; null if unknown |
//! | … `.source` | `document`, `query`: the word that gave the weight, or null: `part`, `word`, `bytes`, `chars` |
//! | `bm25.score` | the score of all clauses together |
//! | `bm25.clauses[]` | `clause`, `boost`, `score`, `share`, largest first |
//! | `snippets[]` | `part`, `text`, `bytes` of it in that part, `highlighted` ranges of bytes in it |
//! | `tantivy[]` | each part as a tree of Tantivy's `Explanation`: `value`, `description`, `details` |
//!
//! A `rank` is null where the list did not find the document. Of hybrid search `tantivy` is one tree.
//! `learned` and `bm25` are there if that side was searched. Ranges are `[start, end]`.

use std::ops::Range;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Bm25Part, Fragment, HitExplanation, LearnedPart, LearnedTerm, SourceWord};

impl HitExplanation {
    /// The explanation under stable keys.
    ///
    /// # Errors
    /// Never in practice: Tantivy's trees can be written as JSON.
    pub fn to_json(&self) -> Result<Value> {
        let fragments = self.fragments.iter().map(fragment);
        let mut value = json!({
            "snippets": fragments.collect::<Value>(),
            "tantivy": serde_json::to_value(self.explanations())?,
        });
        if !self.fusion.is_empty() {
            value["fusion"] = super::fusion::json(&self.fusion);
        }
        if let Some(part) = &self.learned {
            value["learned"] = learned(part);
        }
        if let Some(part) = &self.bm25 {
            value["bm25"] = bm25(part);
        }
        Ok(value)
    }
}

fn learned(part: &LearnedPart) -> Value {
    json!({
        "score": part.score,
        "terms": part.terms.iter().map(term).collect::<Value>(),
    })
}

fn term(term: &LearnedTerm) -> Value {
    let part = &term.contribution;
    json!({
        "term": part.term,
        "readable": term.readable,
        "impact": part.impact,
        "document_weight": part.document_weight,
        "query_weight": part.query_weight,
        "contribution": part.contribution,
        "share": part.share,
        "expansion": {
            "document": term.is_expansion.document,
            "query": term.is_expansion.query,
        },
        "source": {
            "document": term.source.document.as_ref().map(source),
            "query": term.source.query.as_ref().map(source),
        },
    })
}

fn source(source: &SourceWord) -> Value {
    let (bytes, chars) = source.place.clone().unzip();
    json!({
        "part": source.part,
        "word": source.place.is_some().then_some(&source.word),
        "bytes": bytes.map(range),
        "chars": chars.map(range),
    })
}

fn bm25(part: &Bm25Part) -> Value {
    let clause = |clause: &super::Bm25Match| {
        json!({
            "clause": clause.label,
            "boost": clause.boost,
            "score": clause.score,
            "share": clause.share,
        })
    };
    json!({
        "score": part.score,
        "clauses": part.clauses.iter().map(clause).collect::<Value>(),
    })
}

fn fragment(fragment: &Fragment) -> Value {
    json!({
        "part": fragment.part,
        "text": fragment.text,
        "bytes": range(fragment.place.clone()),
        "highlighted": fragment.highlighted.iter().cloned().map(range).collect::<Value>(),
    })
}

fn range(range: Range<usize>) -> [usize; 2] {
    [range.start, range.end]
}
