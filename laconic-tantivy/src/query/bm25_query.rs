//! [`Bm25Query`]: BM25 over the words of text fields, with parameters of one's own.

use std::collections::BTreeMap;

use tantivy::query::{BooleanQuery, EnableScoring, Occur, Query, TermQuery, Weight};
use tantivy::schema::{Field, FieldType, IndexRecordOption, Schema};
use tantivy::{Index, Term};

use super::sum_query::{Parts, SumQuery};
use super::weight::SumWeight;
use crate::{Error, Identity};

/// The parameters of BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25
/// and Beyond", 2009, section 3.4.3).
///
/// A term scores idf × tf × (k1 + 1) / (tf + k1 × (1 − b + b × length / average length)), with
/// idf = ln(1 + (N − n + 0.5) / (n + 0.5)). The default is Tantivy's: k1 = 1.2, b = 0.75.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bm25 {
    pub(super) k1: f32,
    pub(super) b: f32,
}

impl Default for Bm25 {
    fn default() -> Bm25 {
        Bm25 { k1: 1.2, b: 0.75 }
    }
}

impl Bm25 {
    /// `k1`, at least 0, says how slowly a repeated word stops to count; `b`, 0 to 1, how much
    /// long documents are held back.
    ///
    /// # Errors
    /// `is_invalid_input` for values out of range.
    pub fn new(k1: f32, b: f32) -> Result<Bm25, Error> {
        if !(0.0..=1000.0).contains(&k1) {
            let message = format!("BM25's k1 is {k1}; it has to be between 0 and 1000");
            return Err(Error::invalid(message));
        }
        if !(0.0..=1.0).contains(&b) {
            let message = format!("BM25's b is {b}; it has to be between 0 and 1");
            return Err(Error::invalid(message));
        }
        Ok(Bm25 { k1, b })
    }
}

/// Scores documents by BM25: any of some words, in one or several text fields.
///
/// The same documents and, at the default parameters, the same scores as a Tantivy `BooleanQuery`
/// of optional `TermQuery`s, up to the rounding of its sums. But k1 and b may be chosen per query
/// and per field, on text fields as they are; the bounds that pruning uses are exact for any of
/// them and across segments; and [`LaconicTopK`](crate::LaconicTopK) searches it as well.
///
/// ```
/// use laconic_tantivy::{Bm25, Bm25Query};
/// use tantivy::collector::TopDocs;
/// use tantivy::schema::{Schema, TEXT};
/// use tantivy::{Index, doc};
///
/// let mut schema = Schema::builder();
/// let body = schema.add_text_field("body", TEXT);
/// let index = Index::create_in_ram(schema.build());
/// let mut writer = index.writer_with_num_threads(1, 15_000_000)?;
/// writer.add_document(doc!(body => "a spade is a spade"))?;
/// writer.add_document(doc!(body => "a fork in the road"))?;
/// writer.commit()?;
///
/// let query = Bm25Query::of_text(&index, &[(body, 1.0)], "Spade!")?
///     .with_parameters(Bm25::new(0.9, 0.4)?);
/// let hits = index.reader()?.searcher().search(&query, &TopDocs::with_limit(2).order_by_score())?;
/// assert_eq!(hits.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Bm25Query {
    /// With their boosts, in the order of terms.
    terms: Vec<(Term, f32)>,
    parameters: Bm25,
    by_field: Vec<(Field, Bm25)>,
}

impl Bm25Query {
    /// Any of `terms`, each with a boost. A term given twice gets both boosts; one with boost 0
    /// is left out.
    ///
    /// # Errors
    /// `is_invalid_input` for a boost that is negative or not finite.
    pub fn new(terms: impl IntoIterator<Item = (Term, f32)>) -> Result<Bm25Query, Error> {
        let mut boosts = BTreeMap::<Term, f32>::new();
        for (term, boost) in terms {
            check_factor(boost, || format!("the boost of {term:?}"))?;
            *boosts.entry(term).or_default() += boost;
        }
        Ok(Bm25Query {
            terms: boosts
                .into_iter()
                .filter(|(_, boost)| *boost > 0.0)
                .collect(),
            parameters: Bm25::default(),
            by_field: Vec::new(),
        })
    }

    /// Any of the words of a plain text in any of `fields`, each with a boost. There is no query
    /// syntax; a word given twice counts twice.
    ///
    /// # Errors
    /// `is_invalid_input` for a boost as above; Tantivy's, when a tokenizer is not registered.
    pub fn of_text(index: &Index, fields: &[(Field, f32)], text: &str) -> Result<Bm25Query, Error> {
        let mut terms = Vec::new();
        for &(field, boost) in fields {
            let mut analyzer = index
                .tokenizer_for_field(field)
                .map_err(|e| Error::during("analysing the words of a query", e))?;
            analyzer.token_stream(text).process(&mut |token| {
                terms.push((Term::from_field_text(field, &token.text), boost));
            });
        }
        Bm25Query::new(terms)
    }

    /// The same as a Tantivy query, if that is a `TermQuery` on a text field or a `BooleanQuery`
    /// of optional ones. Other queries can be added to a [`HybridQuery`](crate::HybridQuery) as
    /// clauses. Tantivy does not show what is in a `BoostQuery`, so that is one of the others.
    pub fn of_query(query: &dyn Query, schema: &Schema) -> Option<Bm25Query> {
        let mut terms = Vec::new();
        collect_terms(query, schema, &mut terms).then_some(())?;
        Bm25Query::new(terms.into_iter().map(|term| (term, 1.0))).ok()
    }

    /// Uses `parameters` for every field without parameters of its own.
    #[must_use]
    pub fn with_parameters(mut self, parameters: Bm25) -> Bm25Query {
        self.parameters = parameters;
        self
    }

    /// Uses `parameters` for `field`.
    #[must_use]
    pub fn with_field_parameters(mut self, field: Field, parameters: Bm25) -> Bm25Query {
        self.by_field.retain(|(other, _)| *other != field);
        self.by_field.push((field, parameters));
        self
    }

    /// The terms with their boosts, in the order of terms.
    pub fn terms(&self) -> impl Iterator<Item = (&Term, f32)> {
        self.terms.iter().map(|(term, boost)| (term, *boost))
    }

    pub(super) fn parameters_of(&self, field: Field) -> Bm25 {
        let own = self.by_field.iter().find(|(other, _)| *other == field);
        own.map_or(self.parameters, |(_, parameters)| *parameters)
    }
}

/// Refuses weights and boosts that no score can be multiplied by.
pub(super) fn check_factor(factor: f32, what: impl FnOnce() -> String) -> Result<(), Error> {
    if factor.is_finite() && factor >= 0.0 {
        return Ok(());
    }
    let what = what();
    Err(Error::invalid(format!(
        "{what} is {factor}; it has to be finite and not negative"
    )))
}

/// Refuses fields whose terms have no BM25.
pub(super) fn check_field(schema: &Schema, field: Field) -> Result<(), Error> {
    let entry = schema.get_field_entry(field);
    let name = entry.name();
    let FieldType::Str(options) = entry.field_type() else {
        return Err(Error::invalid(format!(
            "field `{name}` is not a text field; add a query on it as a clause or as a filter"
        )));
    };
    let Some(indexing) = options.get_indexing_options() else {
        return Err(Error::invalid(format!("field `{name}` is not indexed")));
    };
    if Identity::is_laconic_name(indexing.tokenizer()) {
        return Err(Error::invalid(format!(
            "field `{name}` is a laconic field; search it with a LaconicQuery"
        )));
    }
    Ok(())
}

/// Whether `query` is nothing but optional terms of text fields with frequencies as they are.
fn collect_terms(query: &dyn Query, schema: &Schema, terms: &mut Vec<Term>) -> bool {
    if let Some(term) = query.downcast_ref::<TermQuery>() {
        let entry = schema.get_field_entry(term.term().field());
        let option = entry.field_type().index_record_option();
        terms.push(term.term().clone());
        // Tantivy does not tell whether the query asked for frequencies, so that they must make
        // no difference; the parsers of Tantivy ask for them wherever there are any.
        return check_field(schema, term.term().field()).is_ok()
            && option.is_some_and(IndexRecordOption::has_freq);
    }
    let Some(boolean) = query.downcast_ref::<BooleanQuery>() else {
        return false;
    };
    let mut clauses = boolean.clauses().iter();
    boolean.get_minimum_number_should_match() <= 1
        && clauses.all(|(occur, clause)| {
            *occur == Occur::Should && collect_terms(clause.as_ref(), schema, terms)
        })
}

impl SumQuery for Bm25Query {
    fn parts(&self) -> Parts<'_> {
        Parts {
            words: vec![(self, 1.0)],
            ..Parts::default()
        }
    }
}

impl Query for Bm25Query {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(SumWeight::new(&self.parts(), scoring)?))
    }

    fn query_terms<'a>(&'a self, visitor: &mut dyn FnMut(&'a Term, bool)) {
        for (term, _) in &self.terms {
            visitor(term, false);
        }
    }
}
