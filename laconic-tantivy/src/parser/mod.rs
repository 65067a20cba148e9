//! [`HybridParser`]: one query text for both sides, BM25 and the encoder.

mod escapes;
mod excluded;
mod fault;
mod fields;
mod interpret;
mod lex;
mod scan;
mod syntax;
mod text;

use tantivy::query::Query;
use tantivy::schema::{Field, FieldType};
use tantivy::{Index, Score, Term};

use crate::Error;
use fields::{Fields, TextField};
use interpret::Interpreter;

/// Reads a query for both sides of hybrid retrieval.
///
/// Plain text goes to both sides: its words to BM25, all of it to the encoder. Tantivy's query
/// syntax acts on the BM25 side and as a filter, while the free words go to the encoder:
///
/// | Written | BM25 | Encoder | Filter |
/// |---|---|---|---|
/// | `spinal cord` | both words | `spinal cord` | |
/// | `"spinal cord"` | the phrase | `spinal cord` | |
/// | `spinal^2`, `(spinal cord)^2` | weighted | without `^2` | |
/// | `title:cord` | in that field, optional | | |
/// | `+cord`, `+"spinal cord"`, `+title:cord` | scored | if without field | must match |
/// | `-cord`, `NOT cord` | | | must not match |
/// | `a AND b`, `a OR b`, `a AND (b OR NOT c)` | what is not negated | likewise | must hold |
/// | `year:2019`, `year:[2019 TO *]`, `lang: IN [de en]` | | | must match |
/// | `year:*` | | | has a value (fast fields) |
/// | `*` | | | everything, if nothing else is asked |
///
/// Fields of numbers, dates, facets and JSON, and keywords (text without frequencies) are filters
/// only. A phrase may have a slop (`"…"~2`) or go on (`"spinal co"*`). AND binds more tightly than
/// OR; both bind only the clauses beside them, so that in `a OR b c` the word `c` is optional.
/// Parentheses alone change nothing.
///
/// What is not syntax is text: brackets without a field, `+` and `-` before a space, quotes and
/// parentheses within a word, a `'` that nothing closes. A backslash makes a character plain,
/// quotes make operators plain (`"AND"`), and [`plain`](HybridParser::plain) takes a whole text
/// without looking for syntax. Mistakes are errors that tell the
/// [column](Error::column) and point at it.
///
/// ```
/// use laconic_tantivy::HybridParser;
/// use tantivy::schema::{INDEXED, Schema, TEXT};
/// use tantivy::Index;
///
/// let mut schema = Schema::builder();
/// let text = schema.add_text_field("text", TEXT);
/// schema.add_u64_field("year", INDEXED);
/// let index = Index::create_in_ram(schema.build());
///
/// let parser = HybridParser::for_index(&index, [(text, 1.0)])?;
/// let query = parser.parse("+cord injury, acute -review year:[2019 TO *]")?;
/// assert_eq!(query.text, "cord injury, acute");
/// assert_eq!(query.words.len(), 3);
/// assert!(query.filter.is_some());
///
/// let error = parser.parse("cord yaer:2019").unwrap_err();
/// assert_eq!(error.column(), Some(6));
/// assert!(error.to_string().ends_with("\n  cord yaer:2019\n       ^"));
/// assert_eq!(parser.plain("cord yaer:2019").text, "cord yaer:2019");
/// # Ok::<(), laconic_tantivy::Error>(())
/// ```
#[derive(Clone)]
pub struct HybridParser {
    fields: Fields,
    defaults: Vec<TextField>,
}

/// A query taken apart into what each side needs.
#[derive(Debug)]
#[non_exhaustive]
pub struct ParsedQuery {
    /// The free words for the encoder, as written but for what acted as syntax. A query without
    /// syntax is here unchanged.
    pub text: String,
    /// The disjunction of words that BM25 scores, each with its boost. A word given twice is here
    /// twice, and a word sought in two fields is here for each.
    pub words: Vec<(Term, Score)>,
    /// Further optional clauses that BM25 scores, phrases, with their boosts.
    pub clauses: Vec<Box<dyn Query>>,
    /// What documents have to match, to be applied without a score.
    pub filter: Option<Box<dyn Query>>,
}

impl HybridParser {
    /// A parser for the fields of `index`, whose free words are sought in `default_fields`, each
    /// with its boost.
    ///
    /// # Errors
    /// `is_invalid_input` when a default field is not one that BM25 can rank by (text with
    /// frequencies and field norms, not a laconic field) or a boost is not a number from 0 to
    /// 1,000,000.
    pub fn for_index(
        index: &Index,
        default_fields: impl IntoIterator<Item = (Field, Score)>,
    ) -> Result<HybridParser, Error> {
        let fields = Fields {
            schema: index.schema(),
            tokenizers: index.tokenizers().clone(),
            further: None,
        };
        let defaults = default_fields.into_iter();
        let defaults = defaults.map(|(field, boost)| fields.default_field(field, boost));
        Ok(HybridParser {
            defaults: defaults.collect::<Result<_, _>>()?,
            fields,
        })
    }

    /// Takes names that the schema does not have for paths in the JSON field `further`. No field
    /// is unknown then.
    ///
    /// # Errors
    /// `is_invalid_input` when it is not a JSON field.
    pub fn with_further_fields(mut self, further: Field) -> Result<HybridParser, Error> {
        let entry = self.fields.schema.get_field_entry(further);
        if !matches!(entry.field_type(), FieldType::JsonObject(_)) {
            let message = format!("field `{}` is not a JSON field", entry.name());
            return Err(Error::invalid(message));
        }
        self.fields.further = Some(further);
        Ok(self)
    }

    /// Parses a query.
    ///
    /// # Errors
    /// `is_invalid_input`, with [`Error::column`], when a quote, bracket or parenthesis is not
    /// closed, an operator lacks a side, a field is unknown, laconic or not indexed, or a value is
    /// not of the field's type.
    pub fn parse(&self, query: &str) -> Result<ParsedQuery, Error> {
        let mut interpreter = Interpreter::new(self);
        scan::scan(query)
            .and_then(|items| interpreter.optional(&items, 1.0))
            .map_err(|fault| fault.in_query(query))?;
        Ok(interpreter.finish(query))
    }

    /// Takes `text` as plain words, whatever it holds.
    pub fn plain(&self, text: &str) -> ParsedQuery {
        let words = self.defaults.iter().flat_map(|default| {
            let term = |token: String| Term::from_field_text(default.field, &token);
            let tokens = default.tokens(text).into_iter();
            tokens.map(move |token| (term(token), default.boost))
        });
        ParsedQuery {
            text: text.to_owned(),
            words: words.collect(),
            clauses: Vec::new(),
            filter: None,
        }
    }
}

impl std::fmt::Debug for HybridParser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.defaults.iter().map(|default| {
            let name = self.fields.schema.get_field_name(default.field);
            (name, default.boost)
        });
        f.debug_struct("HybridParser")
            .field("default_fields", &names.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
