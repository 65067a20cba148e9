//! A segment without its deleted documents: spliced first, under a name for the time being, then
//! written anew from its own files. So nothing has to be stored.

use tantivy::directory::Directory;
use tantivy::directory::error::DeleteError;
use tantivy::index::{SegmentComponent, SegmentMeta};
use tantivy::{Segment, SegmentReader};

use super::piece::Piece;
use super::segment::{Assembly, derived_id, files};
use crate::bounds::EXTENSION;
use crate::reorder::{Rows, Source, write_segment};

/// Bytes of postings held while one list is written.
const MEMORY_BUDGET: usize = 256 << 20;

impl Assembly<'_> {
    /// Writes the live documents of `source` as a segment, `None` if there are none.
    pub(super) fn purged(
        &mut self,
        source: &Segment,
        pieces: &[Piece],
    ) -> tantivy::Result<Option<SegmentMeta>> {
        let meta = source.meta();
        if meta.num_docs() == 0 {
            return Ok(None);
        }
        let whole = self.target(derived_id(meta.id(), "whole"), meta);
        self.write(source, &whole, pieces, None)?;
        let target = self.index.new_segment_meta(meta.id(), meta.num_docs());
        let target = self.index.segment(target);
        write_live(&whole, &target)?;
        let bounds = SegmentComponent::Custom(EXTENSION.to_owned());
        let bounds = whole.relative_path(bounds);
        for path in files(&whole, self.metas).into_iter().chain([bounds]) {
            match self.index.directory().delete(&path) {
                Ok(()) | Err(DeleteError::FileDoesNotExist(_)) => {}
                Err(error) => return Err(std::io::Error::other(error).into()),
            }
        }
        whole.meta().untrack_temp_docstore();
        Ok(Some(target.meta().clone()))
    }
}

fn write_live(whole: &Segment, target: &Segment) -> tantivy::Result<()> {
    let readers = [SegmentReader::open(whole)?];
    let rows = Rows::stacked(&readers);
    let source = Source {
        readers: &readers,
        rows: &rows,
        range: 0..rows.n_docs(),
        memory_budget: MEMORY_BUDGET,
    };
    write_segment(&source, target, 1, &mut |_| ())
}
