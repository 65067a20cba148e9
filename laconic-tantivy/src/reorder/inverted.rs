//! The inverted index of a segment whose documents come from others, in any order.

use std::ops::Range;

use tantivy::directory::WritePtr;
use tantivy::error::DataCorruption;
use tantivy::fieldnorm::{FieldNormReader, FieldNormReaders, FieldNormsSerializer};
use tantivy::index::SegmentComponent;
use tantivy::postings::{FieldSerializer, InvertedIndexSerializer, Postings};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, DocSet, Segment, SegmentReader, TERMINATED};

use super::lists::{FieldLists, List};
use super::rows::Rows;

/// What a segment is made from.
pub(crate) struct Source<'a> {
    pub(crate) readers: &'a [SegmentReader],
    pub(crate) rows: &'a Rows,
    /// The new numbers of the documents of this segment.
    pub(crate) range: Range<DocId>,
    pub(crate) memory_budget: usize,
}

/// Writes field norms, terms, postings and positions. `progress` is told how many bytes of
/// posting lists have been read since it was told last.
pub(crate) fn write_inverted_index(
    source: &Source<'_>,
    target: &Segment,
    progress: &mut dyn FnMut(u64),
) -> tantivy::Result<()> {
    write_field_norms(source, target)?;
    let norms = FieldNormReaders::open(target.open_read(SegmentComponent::FieldNorms)?)?;
    let mut serializer = InvertedIndexSerializer::open(target)?;
    let schema = target.schema();
    for (field, entry) in schema.fields().filter(|(_, entry)| entry.is_indexed()) {
        let option = entry.field_type().index_record_option();
        let norm_ids = entry.has_fieldnorms().then(|| source.norm_ids(field));
        let n_tokens = source.n_tokens(field, norm_ids.transpose()?.as_deref())?;
        let serializer = serializer.new_field(field, n_tokens, norms.get_field(field)?)?;
        let lists = FieldLists::open(source.readers, field)?;
        let permuter = ListPermuter {
            source,
            lists: &lists,
            has_positions: option.is_some_and(IndexRecordOption::has_positions),
            postings: Vec::new(),
            positions: Vec::new(),
            position_ends: Vec::new(),
        };
        permuter.write(serializer, progress)?;
    }
    Ok(serializer.close()?)
}

fn write_field_norms(source: &Source<'_>, target: &Segment) -> tantivy::Result<()> {
    let component = SegmentComponent::FieldNorms;
    let mut serializer = FieldNormsSerializer::from_write(target.open_write(component)?)?;
    let schema = target.schema();
    for (field, entry) in schema.fields() {
        if entry.is_indexed() && entry.has_fieldnorms() {
            serializer.serialize_field(field, &source.norm_ids(field)?)?;
        }
    }
    Ok(serializer.close()?)
}

impl Source<'_> {
    pub(crate) fn n_docs(&self) -> DocId {
        self.range.end - self.range.start
    }

    fn norm_ids(&self, field: Field) -> tantivy::Result<Vec<u8>> {
        let norms = self.readers.iter().map(|r| r.get_fieldnorms_reader(field));
        let norms = norms.collect::<Result<Vec<_>, _>>()?;
        let rows = self.rows.old(&self.range).iter();
        Ok(rows
            .map(|old| norms[old.segment_ord as usize].fieldnorm_id(old.doc_id))
            .collect())
    }

    /// Tokens of the field, as Tantivy's merges count them: known of a segment from which all
    /// documents come, else estimated by their field norms, or else by their share.
    fn n_tokens(&self, field: Field, norm_ids: Option<&[u8]>) -> tantivy::Result<u64> {
        let mut taken = vec![(0u64, 0u64); self.readers.len()];
        for (place, old) in self.rows.old(&self.range).iter().enumerate() {
            let (n_docs, n_tokens) = &mut taken[old.segment_ord as usize];
            *n_docs += 1;
            let norm = norm_ids.map_or(0, |ids| FieldNormReader::id_to_fieldnorm(ids[place]));
            *n_tokens += u64::from(norm);
        }
        let mut sum = 0;
        for (reader, (n_docs, by_norms)) in self.readers.iter().zip(taken) {
            let all = reader.inverted_index(field)?.total_num_tokens();
            let all_docs = u64::from(reader.max_doc());
            sum += if n_docs == all_docs {
                all
            } else if norm_ids.is_some() {
                by_norms
            } else {
                let share = u128::from(all) * u128::from(n_docs) / u128::from(all_docs.max(1));
                u64::try_from(share).unwrap_or(all)
            };
        }
        Ok(sum)
    }
}

/// Brings the posting lists of a field into the new order, one after another.
struct ListPermuter<'a> {
    source: &'a Source<'a>,
    lists: &'a FieldLists,
    has_positions: bool,
    /// Each document with its frequency or, in a field with positions, with its place in
    /// `position_ends`.
    postings: Vec<(DocId, u32)>,
    /// Each position as the distance from the one before.
    positions: Vec<u32>,
    position_ends: Vec<usize>,
}

impl ListPermuter<'_> {
    fn write(
        mut self,
        mut serializer: FieldSerializer<'_, WritePtr>,
        progress: &mut dyn FnMut(u64),
    ) -> tantivy::Result<()> {
        let lists = self.lists;
        lists.for_each_term(|term, lists| {
            self.write_term(term, lists, &mut serializer)?;
            let read = lists
                .iter()
                .map(|(_, info)| info.postings_range.len() as u64);
            progress(read.sum());
            Ok(())
        })?;
        Ok(serializer.close()?)
    }

    /// A list too large for the memory is brought in order piece by piece.
    fn write_term(
        &mut self,
        term: &[u8],
        lists: &[List],
        serializer: &mut FieldSerializer<'_, WritePtr>,
    ) -> tantivy::Result<()> {
        let has_freqs = self.has_freqs(lists)?;
        let pieces = self.pieces(lists);
        let doc_freq = match pieces.as_slice() {
            [whole] => {
                self.gather(lists, whole, has_freqs)?;
                self.postings.len()
            }
            _ => self.count(lists)?,
        };
        if doc_freq == 0 {
            return Ok(());
        }
        let doc_freq = u32::try_from(doc_freq).unwrap_or(u32::MAX);
        serializer.new_term(term, doc_freq, has_freqs)?;
        for piece in &pieces {
            if pieces.len() > 1 {
                self.gather(lists, piece, has_freqs)?;
            }
            self.write_gathered(piece.start - self.source.range.start, has_freqs, serializer);
        }
        Ok(serializer.close_term()?)
    }

    /// A JSON field has frequencies of its texts but not of its numbers.
    fn has_freqs(&self, lists: &[List]) -> tantivy::Result<bool> {
        let mut with_freqs = 0;
        for (segment, info) in lists {
            let segment = self.lists.segment(*segment);
            let option = IndexRecordOption::WithFreqs;
            let block = segment.read_block_postings_from_terminfo(info, option)?;
            with_freqs += usize::from(!block.freqs().is_empty());
        }
        if with_freqs != 0 && with_freqs != lists.len() {
            let fault = "segments do not agree on whether a term has frequencies";
            return Err(DataCorruption::comment_only(fault).into());
        }
        Ok(with_freqs != 0)
    }

    /// The range of the segment, cut so that the postings of each piece fit the memory.
    fn pieces(&self, lists: &[List]) -> Vec<Range<DocId>> {
        let bytes = lists.iter().map(|(_, info)| {
            let postings = 16 * u64::from(info.doc_freq);
            // A position is packed into few bits.
            postings + 16 * info.positions_range.len() as u64
        });
        let n_pieces = bytes
            .sum::<u64>()
            .div_ceil(self.source.memory_budget.max(1) as u64);
        let size = self
            .source
            .n_docs()
            .div_ceil(u32::try_from(n_pieces.max(1)).unwrap_or(u32::MAX));
        let Range { start, end } = self.source.range;
        let starts = (start..end).step_by(size.max(1) as usize);
        starts.map(|start| start..(start + size).min(end)).collect()
    }

    fn count(&self, lists: &[List]) -> tantivy::Result<usize> {
        let Source { rows, range, .. } = self.source;
        let mut count = 0;
        for list in lists {
            self.lists.for_each_posting(list, |doc, _| {
                count += usize::from(rows.new_in(range, list.0, doc).is_some());
            })?;
        }
        Ok(count)
    }

    /// Collects the postings of a piece, in order.
    fn gather(
        &mut self,
        lists: &[List],
        piece: &Range<DocId>,
        has_freqs: bool,
    ) -> tantivy::Result<()> {
        self.postings.clear();
        self.positions.clear();
        self.position_ends.clear();
        for list in lists {
            match self.has_positions && has_freqs {
                true => self.gather_with_positions(list, piece)?,
                false => {
                    let (rows, postings) = (self.source.rows, &mut self.postings);
                    self.lists.for_each_posting(list, |doc, freq| {
                        let doc = rows.new_in(piece, list.0, doc);
                        postings.extend(doc.map(|doc| (doc, freq)));
                    })?;
                }
            }
        }
        self.postings.sort_unstable_by_key(|(doc, _)| *doc);
        Ok(())
    }

    fn gather_with_positions(
        &mut self,
        (segment, info): &List,
        piece: &Range<DocId>,
    ) -> tantivy::Result<()> {
        let option = IndexRecordOption::WithFreqsAndPositions;
        let lists = self.lists.segment(*segment);
        let mut postings = lists.read_postings_from_terminfo(info, option)?;
        while postings.doc() != TERMINATED {
            if let Some(doc) = self.source.rows.new_in(piece, *segment, postings.doc()) {
                let start = self.positions.len();
                postings.append_positions_with_offset(0, &mut self.positions);
                for place in (start + 1..self.positions.len()).rev() {
                    self.positions[place] -= self.positions[place - 1];
                }
                let number = u32::try_from(self.position_ends.len()).unwrap_or(u32::MAX);
                self.postings.push((doc, number));
                self.position_ends.push(self.positions.len());
            }
            postings.advance();
        }
        Ok(())
    }

    fn write_gathered(
        &self,
        offset: DocId,
        has_freqs: bool,
        serializer: &mut FieldSerializer<'_, WritePtr>,
    ) {
        for &(doc, payload) in &self.postings {
            let doc = offset + doc;
            match (has_freqs, self.has_positions) {
                (false, _) => serializer.write_doc(doc, 0, &[]),
                (true, false) => serializer.write_doc(doc, payload, &[]),
                (true, true) => {
                    let positions = self.positions_of(payload as usize);
                    let freq = u32::try_from(positions.len()).unwrap_or(u32::MAX);
                    serializer.write_doc(doc, freq, positions);
                }
            }
        }
    }

    fn positions_of(&self, number: usize) -> &[u32] {
        let start = number
            .checked_sub(1)
            .map_or(0, |before| self.position_ends[before]);
        &self.positions[start..self.position_ends[number]]
    }
}
