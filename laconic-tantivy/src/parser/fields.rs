//! Fields of the schema as a query names them.

use tantivy::Score;
use tantivy::query::{Query, QueryParser, QueryParserError};
use tantivy::query_grammar::{
    Delimiter, UserInputAst, UserInputBound, UserInputLeaf, UserInputLiteral,
};
use tantivy::schema::{Field, FieldType, Schema};
use tantivy::tokenizer::{TextAnalyzer, TokenizerManager};

use super::fault::Fault;
use super::syntax::{FieldName, Words};
use crate::field::is_laconic;
use crate::{Error, LaconicField};

/// The schema, and how its text is analysed.
#[derive(Clone)]
pub(super) struct Fields {
    pub(super) schema: Schema,
    pub(super) tokenizers: TokenizerManager,
    /// The JSON field in which names are looked up that the schema does not have.
    pub(super) further: Option<Field>,
}

/// A text field that words are sought in.
#[derive(Clone)]
pub(super) struct TextField {
    pub(super) field: Field,
    pub(super) boost: Score,
    pub(super) analyzer: TextAnalyzer,
}

impl TextField {
    /// The tokens of a text.
    pub(super) fn tokens(&self, text: &str) -> Vec<String> {
        let mut tokens = Vec::new();
        let mut analyzer = self.analyzer.clone();
        let mut stream = analyzer.token_stream(text);
        stream.process(&mut |token| tokens.push(token.text.clone()));
        tokens
    }
}

/// What a name in a query stands for.
pub(super) struct Named {
    pub(super) field: Field,
    /// The name in full, as Tantivy's parser finds it.
    path: String,
}

impl Fields {
    /// Finds a field, or a path in a JSON field.
    pub(super) fn named(&self, name: &FieldName) -> Result<Named, Fault> {
        // Tantivy keeps its own marks in terms of JSON paths, and panics where it meets them twice.
        if name.name.contains(char::is_control) {
            let message = "a field's name has no control characters";
            return Err(Fault::new(name.at, message));
        }
        let found = self.schema.find_field(&name.name);
        let is_json = |field| matches!(self.field_type(field), FieldType::JsonObject(_));
        match (found, self.further) {
            (Some((field, _)), _) if is_laconic(self.schema.get_field_entry(field)) => {
                let message = format!(
                    "`{}` holds learned-sparse vectors; plain words are sought there by way of \
                     the encoder",
                    name.name
                );
                Err(Fault::new(name.at, message))
            }
            (Some((field, path)), _) if path.is_empty() || is_json(field) => Ok(Named {
                field,
                path: name.name.clone(),
            }),
            (_, Some(further)) => Ok(Named {
                field: further,
                path: format!("{}.{}", self.escaped_name(further), name.name),
            }),
            (_, None) => Err(Fault::new(name.at, self.unknown(&name.name))),
        }
    }

    fn unknown(&self, name: &str) -> String {
        let known = self.schema.fields().map(|(_, entry)| entry);
        let known = known.filter(|entry| entry.is_indexed() && !is_laconic(entry));
        let known: Vec<&str> = known.map(|entry| entry.name()).collect();
        format!(
            "unknown field `{name}`; fields are {}. For plain text put a backslash before the \
             colon",
            known.join(", ")
        )
    }

    fn escaped_name(&self, field: Field) -> String {
        self.schema.get_field_name(field).replace('.', "\\.")
    }

    fn field_type(&self, field: Field) -> &FieldType {
        self.schema.get_field_entry(field).field_type()
    }

    /// The field if BM25 can rank by it: text with frequencies, not a keyword.
    pub(super) fn ranked(&self, field: Field, boost: Score) -> Option<TextField> {
        let FieldType::Str(options) = self.field_type(field) else {
            return None;
        };
        let indexing = options.get_indexing_options()?;
        let is_ranked = indexing.index_option().has_freq() && indexing.fieldnorms();
        Some(TextField {
            field,
            boost,
            analyzer: self
                .tokenizers
                .get(indexing.tokenizer())
                .filter(|_| is_ranked)?,
        })
    }

    /// A default field.
    pub(super) fn default_field(&self, field: Field, boost: Score) -> Result<TextField, Error> {
        let name = self.schema.get_field_name(field);
        if !(0.0..=super::lex::MAX_BOOST).contains(&boost) {
            return Err(Error::invalid(format!(
                "the boost {boost} of field `{name}` is not a number from 0 to 1,000,000"
            )));
        }
        if LaconicField::of(&self.schema, field).is_ok() {
            return Err(Error::invalid(format!(
                "field `{name}` is a laconic field; words for BM25 need a text field"
            )));
        }
        self.ranked(field, boost).ok_or_else(|| {
            Error::invalid(format!(
                "words cannot be sought in field `{name}`: BM25 needs a text field with \
                 frequencies, field norms and a registered tokenizer"
            ))
        })
    }

    /// Tantivy's query for words or a phrase in one field.
    pub(super) fn words(
        &self,
        named: &Named,
        words: &Words,
        at: usize,
    ) -> Result<Box<dyn Query>, Fault> {
        let literal = UserInputLiteral {
            field_name: Some(named.path.clone()),
            phrase: words.text.clone(),
            delimiter: Delimiter::None,
            slop: words.slop,
            prefix: words.is_prefix,
        };
        self.build(literal.into(), at)
    }

    /// As [`words`](Fields::words), for a field that was not named.
    pub(super) fn words_in(
        &self,
        field: Field,
        words: &Words,
        at: usize,
    ) -> Result<Box<dyn Query>, Fault> {
        let path = self.escaped_name(field);
        self.words(&Named { field, path }, words, at)
    }

    /// Tantivy's query for documents that have a value.
    pub(super) fn exists(&self, named: &Named, at: usize) -> Result<Box<dyn Query>, Fault> {
        if !self.field_type(named.field).is_fast() {
            let name = self.schema.get_field_name(named.field);
            let message = format!("`{name}` is not a fast field, so `{name}:*` cannot be asked");
            return Err(Fault::new(at, message));
        }
        let field = named.path.clone();
        self.build(UserInputLeaf::Exists { field }, at)
    }

    /// Tantivy's query for a range or a set, which was `written` so.
    pub(super) fn parsed(
        &self,
        named: &Named,
        leaf: &UserInputLeaf,
        written: &str,
        at: usize,
    ) -> Result<Box<dyn Query>, Fault> {
        let entry = self.schema.get_field_entry(named.field);
        if let UserInputLeaf::Range { lower, upper, .. } = leaf {
            check_range(entry.field_type(), entry.name(), lower, upper)
                .map_err(|message| Fault::new(at, message))?;
        }
        let values = values(leaf);
        for value in &values {
            let one = UserInputLeaf::Set {
                field: Some(named.path.clone()),
                elements: vec![(*value).to_owned()],
            };
            let offset = written.find(value).unwrap_or(0);
            self.build(one, at + offset)?;
        }
        self.build(with_field(leaf.clone(), &named.path), at)
    }

    fn build(&self, leaf: UserInputLeaf, at: usize) -> Result<Box<dyn Query>, Fault> {
        let value = match &leaf {
            UserInputLeaf::Literal(literal) => literal.phrase.clone(),
            leaf => values(leaf).join(" "),
        };
        let parser = QueryParser::new(self.schema.clone(), Vec::new(), self.tokenizers.clone());
        parser
            .build_query_from_user_input_ast(UserInputAst::from(leaf))
            .map_err(|error| Fault::new(at, explained(&error, &value)))
    }
}

fn with_field(leaf: UserInputLeaf, path: &str) -> UserInputLeaf {
    let field = Some(path.to_owned());
    match leaf {
        UserInputLeaf::Range { lower, upper, .. } => UserInputLeaf::Range {
            field,
            lower,
            upper,
        },
        UserInputLeaf::Set { elements, .. } => UserInputLeaf::Set { field, elements },
        other => other,
    }
}

/// What Tantivy would find out only when searching, or not at all.
fn check_range(
    field_type: &FieldType,
    name: &str,
    lower: &UserInputBound,
    upper: &UserInputBound,
) -> Result<(), String> {
    let bounds = [lower, upper].map(|bound| match bound {
        UserInputBound::Unbounded => None,
        bound => Some(bound.term_str()),
    });
    if bounds == [None, None] {
        return Err(format!(
            "a range needs a bound; write {name}:* for any value"
        ));
    }
    let FieldType::JsonObject(_) = field_type else {
        return Ok(());
    };
    if !field_type.is_fast() {
        return Err(format!(
            "`{name}` is not a fast field; ranges of JSON values need one"
        ));
    }
    let is_number = |bound: &str| bound.parse::<f64>().is_ok();
    match bounds {
        [Some(lower), Some(upper)] if is_number(lower) != is_number(upper) => {
            Err("one bound of the range is a number, the other is not".to_owned())
        }
        _ => Ok(()),
    }
}

/// The values of a range or set.
fn values(leaf: &UserInputLeaf) -> Vec<&str> {
    match leaf {
        UserInputLeaf::Range { lower, upper, .. } => [lower, upper]
            .into_iter()
            .filter(|bound| **bound != UserInputBound::Unbounded)
            .map(UserInputBound::term_str)
            .collect(),
        UserInputLeaf::Set { elements, .. } => elements.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Tantivy's message, or a better one.
fn explained(error: &QueryParserError, value: &str) -> String {
    use QueryParserError as E;
    let kind = match error {
        E::ExpectedInt(_) => "a whole number",
        E::ExpectedFloat(_) => "a number",
        E::ExpectedBool(_) => "true or false",
        E::DateFormatError(_) => "a date as in RFC 3339, e.g. 2021-05-04T00:00:00Z",
        E::IpFormatError(_) => "an IP address",
        E::ExpectedBase64(_) => "bytes in base64",
        E::FacetFormatError(_) => "a facet, e.g. /category/part",
        E::FieldNotIndexed(name) => return format!("field `{name}` is not indexed"),
        E::FieldDoesNotHavePositionsIndexed(name) => {
            return format!("field `{name}` is indexed without positions, which phrases need");
        }
        E::PhrasePrefixRequiresAtLeastTwoTerms { .. } => {
            return "a phrase that may go on (`\"…\"*`) needs two words at least".to_owned();
        }
        other => return other.to_string(),
    };
    format!("`{value}` is not {kind}, which the field holds")
}
