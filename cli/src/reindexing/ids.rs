//! [`Ids`]: the ids of an index's documents, wherever the index has them.

use std::ops::Range;

use anyhow::Result;
use laconic_tantivy::UnitDocuments;
use tantivy::columnar::MonotonicallyMappableToU64;
use tantivy::index::SegmentId;
use tantivy::schema::{Field, FieldEntry, FieldType, IndexRecordOption, Schema, Value};
use tantivy::{DocId, DocSet, SegmentReader, TERMINATED, TantivyDocument};

use crate::terminal::{MissingError, UsageError};

/// Documents whose ids are read out of the term dictionary at a time: each such pass goes through
/// all terms of the segment.
const WINDOW: DocId = 1 << 20;

/// Where the ids of documents are.
pub(super) enum Ids {
    /// With the stored documents.
    Stored(Field),
    /// In a column.
    Fast(String),
    /// In the term dictionary, a term a document.
    Terms {
        field: Field,
        window: Option<Window>,
    },
}

/// The ids of a range of documents.
pub(super) struct Window {
    segment: SegmentId,
    docs: Range<DocId>,
    /// One behind the other.
    text: String,
    /// For each document.
    places: Vec<Place>,
}

impl Ids {
    /// Finds the ids of the field `name`: where they are stored, in a column, or indexed as a
    /// whole.
    ///
    /// # Errors
    /// When they are nowhere.
    pub(super) fn of_field(schema: &Schema, name: &str) -> Result<Ids> {
        let field = schema.get_field(name).ok();
        let entry = field.map(|field| (field, schema.get_field_entry(field)));
        match entry {
            Some((field, entry)) if entry.is_stored() => Ok(Ids::Stored(field)),
            Some((_, entry)) if holds_ids(entry) && has_whole_column(entry) => {
                Ok(Ids::Fast(name.to_owned()))
            }
            Some((field, entry)) if holds_ids(entry) && entry.is_indexed() => Ok(Ids::Terms {
                field,
                window: None,
            }),
            _ => Err(UsageError(format!(
                "the index has no field `{name}` that could tell its documents apart, stored, \
                 fast or indexed; name one with --id-field: {}",
                candidates(schema)
            ))
            .into()),
        }
    }

    /// The ids of documents of a unit, ascending, of segment `segment`.
    ///
    /// # Errors
    /// When a document has none, or several where the first cannot be told.
    pub(super) fn of(
        &mut self,
        documents: &UnitDocuments<'_>,
        docs: &[DocId],
    ) -> Result<Vec<String>> {
        let missing = |doc: DocId| {
            let unit = documents.unit();
            MissingError(format!("document {doc} of unit {unit} has no id"))
        };
        let reader = documents.reader();
        let mut ids = Vec::with_capacity(docs.len());
        match self {
            Ids::Stored(field) => {
                for &doc in docs {
                    let id = stored_value(&documents.stored(doc)?, *field);
                    ids.push(id.ok_or_else(|| missing(doc))?);
                }
            }
            Ids::Fast(name) => {
                let column = Column::open(reader, name)?;
                for &doc in docs {
                    ids.push(column.value(doc)?.ok_or_else(|| missing(doc))?);
                }
            }
            Ids::Terms { field, window } => {
                for &doc in docs {
                    let id = match window {
                        Some(window) if window.covers(reader, doc) => window.id(doc)?,
                        _ => {
                            let read = Window::read(reader, *field, doc)?;
                            window.insert(read).id(doc)?
                        }
                    };
                    ids.push(id.ok_or_else(|| missing(doc))?);
                }
            }
        }
        Ok(ids)
    }
}

fn holds_ids(entry: &FieldEntry) -> bool {
    matches!(
        entry.field_type(),
        FieldType::Str(_) | FieldType::U64(_) | FieldType::I64(_)
    )
}

/// A text column may hold tokens instead.
fn has_whole_column(entry: &FieldEntry) -> bool {
    let tokenizer = match entry.field_type() {
        FieldType::Str(options) => options.get_fast_field_tokenizer_name(),
        _ => None,
    };
    entry.is_fast() && tokenizer.is_none_or(|name| name == "raw")
}

fn candidates(schema: &Schema) -> String {
    let fields = schema.fields().map(|(_, entry)| entry);
    let fields = fields.filter(|entry| {
        holds_ids(entry) && (entry.is_stored() || entry.is_fast() || entry.is_indexed())
    });
    let names: Vec<_> = fields.map(FieldEntry::name).collect();
    names.join(", ")
}

/// The first value of a field, in its decimal form if it is a whole number.
fn stored_value(document: &TantivyDocument, field: Field) -> Option<String> {
    let value = document.get_first(field)?;
    let number = || value.as_u64().map(|n| n.to_string());
    let signed = || value.as_i64().map(|n| n.to_string());
    value
        .as_str()
        .map(str::to_owned)
        .or_else(number)
        .or_else(signed)
}

/// A column of ids.
enum Column {
    Text(tantivy::columnar::StrColumn),
    Unsigned(tantivy::columnar::Column<u64>),
    Signed(tantivy::columnar::Column<i64>),
    /// No document of the segment has a value.
    Empty,
}

impl Column {
    fn open(reader: &SegmentReader, name: &str) -> Result<Column> {
        let columns = reader.fast_fields();
        let field = reader.schema().get_field(name)?;
        Ok(match reader.schema().get_field_entry(field).field_type() {
            FieldType::U64(_) => Column::Unsigned(columns.u64(name)?),
            FieldType::I64(_) => Column::Signed(columns.i64(name)?),
            _ => columns.str(name)?.map_or(Column::Empty, Column::Text),
        })
    }

    fn value(&self, doc: DocId) -> Result<Option<String>> {
        Ok(match self {
            Column::Empty => None,
            Column::Unsigned(column) => column.first(doc).map(|n| n.to_string()),
            Column::Signed(column) => column.first(doc).map(|n| n.to_string()),
            Column::Text(column) => {
                let Some(ord) = column.ords().first(doc) else {
                    return Ok(None);
                };
                let mut id = String::new();
                column.ord_to_str(ord, &mut id)?.then_some(id)
            }
        })
    }
}

/// Where the id of a document is in the text of a window.
#[derive(Clone, Copy)]
enum Place {
    Nowhere,
    At {
        start: usize,
        end: usize,
    },
    /// The field has more terms than one.
    Several,
}

impl Window {
    /// Reads the ids of `first` and the documents behind it.
    fn read(reader: &SegmentReader, field: Field, first: DocId) -> Result<Window> {
        let docs = first..first.saturating_add(WINDOW).min(reader.max_doc());
        let mut window = Window {
            segment: reader.segment_id(),
            text: String::new(),
            places: docs.clone().map(|_| Place::Nowhere).collect(),
            docs,
        };
        let is_text = |kind: &FieldType| matches!(kind, FieldType::Str(_));
        let kind = reader.schema().get_field_entry(field).field_type().clone();
        let index = reader.inverted_index(field)?;
        let mut terms = index.terms().stream()?;
        while terms.advance() {
            let start = window.text.len();
            match <[u8; 8]>::try_from(terms.key()) {
                _ if is_text(&kind) => window.text.push_str(&String::from_utf8_lossy(terms.key())),
                Ok(bytes) => {
                    let bits = u64::from_be_bytes(bytes);
                    let number = match kind {
                        FieldType::I64(_) => i64::from_u64(bits).to_string(),
                        _ => bits.to_string(),
                    };
                    window.text.push_str(&number);
                }
                Err(_) => continue,
            }
            let end = window.text.len();
            let mut list =
                index.read_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?;
            if list.doc() < window.docs.start {
                list.seek(window.docs.start);
            }
            let mut is_used = false;
            while list.doc() < window.docs.end && list.doc() != TERMINATED {
                let place = list.doc() - window.docs.start;
                if let Some(place) = window.places.get_mut(place as usize) {
                    *place = match place {
                        Place::Nowhere => Place::At { start, end },
                        _ => Place::Several,
                    };
                }
                is_used = true;
                list.advance();
            }
            if !is_used {
                window.text.truncate(start);
            }
        }
        Ok(window)
    }

    fn covers(&self, reader: &SegmentReader, doc: DocId) -> bool {
        self.segment == reader.segment_id() && self.docs.contains(&doc)
    }

    fn id(&self, doc: DocId) -> Result<Option<String>> {
        match self.places.get((doc - self.docs.start) as usize) {
            Some(Place::At { start, end }) => Ok(self.text.get(*start..*end).map(str::to_owned)),
            Some(Place::Several) => Err(UsageError(format!(
                "document {doc} has several terms in the field of ids, which is not stored; ids \
                 have to be indexed as a whole, stored or fast"
            ))
            .into()),
            Some(Place::Nowhere) | None => Ok(None),
        }
    }
}
