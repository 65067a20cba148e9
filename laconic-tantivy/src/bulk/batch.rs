//! [`Batch`]: documents with their vectors on the way to another thread.

use tantivy::TantivyDocument;
use tantivy::schema::Value;

use crate::vector::VectorParts;

/// A batch has at most so many documents,
const BATCH_DOCS: usize = 64;
/// and ends with the one that makes it larger than this many bytes.
pub(crate) const BATCH_BYTES: usize = 128 << 10;

/// Documents with copies of their vectors, end to end: three allocations for each would be freed
/// by another thread than made them, and allocators do not like that.
#[derive(Default)]
pub(crate) struct Batch {
    documents: Vec<TantivyDocument>,
    /// For each document, where its terms end in `text`, and how many there are up to it.
    text_ends: Vec<(usize, usize)>,
    text: Vec<u8>,
    ends: Vec<u32>,
    weights: Vec<f32>,
}

impl Batch {
    pub(crate) fn push(&mut self, document: TantivyDocument, vector: VectorParts<'_>) {
        self.documents.push(document);
        self.text.extend_from_slice(vector.text);
        self.ends.extend_from_slice(vector.ends);
        self.weights.extend_from_slice(vector.weights);
        self.text_ends.push((self.text.len(), self.ends.len()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    pub(crate) fn into_each<E>(
        self,
        mut visit: impl FnMut(TantivyDocument, VectorParts<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut text_start, mut start) = (0, 0);
        for (document, (text_end, end)) in self.documents.into_iter().zip(self.text_ends) {
            let vector = VectorParts {
                text: &self.text[text_start..text_end],
                ends: &self.ends[start..end],
                weights: &self.weights[start..end],
            };
            visit(document, vector)?;
            (text_start, start) = (text_end, end);
        }
        Ok(())
    }
}

/// How much has been put together.
#[derive(Default)]
pub(crate) struct BatchSize {
    n_docs: usize,
    bytes: usize,
}

impl BatchSize {
    pub(crate) fn add(&mut self, document: &TantivyDocument, vector: VectorParts<'_>) {
        let per_term = size_of::<u32>() + size_of::<f32>();
        self.n_docs += 1;
        self.bytes += weight(document) + vector.text.len() + vector.ends.len() * per_term;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.n_docs >= BATCH_DOCS || self.bytes >= BATCH_BYTES
    }
}

/// About how many bytes a document takes.
fn weight(document: &TantivyDocument) -> usize {
    document
        .field_values()
        .map(|(_, value)| weight_of_value(value))
        .sum()
}

fn weight_of_value<'a>(value: impl Value<'a>) -> usize {
    const NODE: usize = 16;
    if let Some(text) = value.as_str() {
        return NODE + text.len();
    }
    if let Some(bytes) = value.as_bytes() {
        return NODE + bytes.len();
    }
    if let Some(values) = value.as_array() {
        return NODE + values.map(weight_of_value).sum::<usize>();
    }
    match value.as_object() {
        Some(entries) => {
            let entries = entries.map(|(key, value)| NODE + key.len() + weight_of_value(value));
            NODE + entries.sum::<usize>()
        }
        None => NODE,
    }
}
