//! [`write_segment`]: a segment with documents of others, in any order, and nothing lost.
//!
//! Tantivy's merger can shuffle documents, but only into the order of a field. So the components
//! are written here, by the same serializers and, for fast fields, the same merge. What Tantivy
//! does not let anyone permute from outside, components of other programs, is refused.

use tantivy::columnar::{
    ColumnType, ColumnarReader, MergeRowOrder, RowAddr, ShuffleMergeOrder, merge_columnar,
};
use tantivy::directory::TerminatingWrite;
use tantivy::index::SegmentComponent;
use tantivy::schema::{Schema, Type};
use tantivy::store::StoreWriter;
use tantivy::{BitSet, Index, Segment};

use super::inverted::{Source, write_inverted_index};
use crate::Error;
use crate::bounds::{EXTENSION, write_bounds};

/// Refuses an index with a component that cannot be permuted.
pub(crate) fn check_components(index: &Index) -> Result<(), Error> {
    let mut plugins = index.custom_plugins().iter();
    let foreign = plugins.find(|plugin| plugin.extensions() != [EXTENSION]);
    match foreign {
        None => Ok(()),
        Some(plugin) => Err(Error::invalid(format!(
            "the index has a component of another program (`.{}` files), which cannot be brought \
             into another order; merge without reordering",
            plugin.extensions().join("`, `.")
        ))),
    }
}

/// Writes the documents of `source` as `target`. `progress` is told how many bytes of posting
/// lists have been read since it was told last.
pub(crate) fn write_segment(
    source: &Source<'_>,
    target: &Segment,
    n_threads: usize,
    progress: &mut dyn FnMut(u64),
) -> tantivy::Result<()> {
    let write_values = || {
        write_fast_fields(source, target)?;
        write_store(source, target)
    };
    if n_threads > 1 {
        std::thread::scope(|scope| {
            let values = scope.spawn(write_values);
            write_inverted_index(source, target, progress)?;
            values
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
    } else {
        write_inverted_index(source, target, progress)?;
        write_values()?;
    }
    write_bounds(target)
}

fn write_fast_fields(source: &Source<'_>, target: &Segment) -> tantivy::Result<()> {
    let files = source.readers.iter().map(|reader| {
        let file = reader.open_read(SegmentComponent::FastFields)?;
        tantivy::Result::Ok(ColumnarReader::open(file)?)
    });
    let columnars = files.collect::<Result<Vec<_>, _>>()?;
    let columnars: Vec<&ColumnarReader> = columnars.iter().collect();
    let mut write = target.open_write(SegmentComponent::FastFields)?;
    merge_columnar(
        &columnars,
        &required_columns(&target.schema()),
        MergeRowOrder::Shuffled(row_order(source)),
        &mut write,
    )?;
    Ok(write.terminate()?)
}

fn row_order(source: &Source<'_>) -> ShuffleMergeOrder {
    let readers = source.readers.iter();
    let mut taken: Vec<BitSet> = readers
        .map(|reader| BitSet::with_max_value(reader.max_doc()))
        .collect();
    let rows = source.rows.old(&source.range).iter().map(|old| {
        taken[old.segment_ord as usize].insert(old.doc_id);
        RowAddr {
            segment_ord: old.segment_ord,
            row_id: old.doc_id,
        }
    });
    let new_row_id_to_old_row_id = rows.collect();
    let readers = taken.iter().zip(source.readers);
    // A whole segment is merged faster without a set.
    let sets = readers.map(|(taken, reader)| {
        let is_whole = taken.len() == reader.max_doc() as usize;
        (!is_whole).then(|| taken.into())
    });
    ShuffleMergeOrder {
        new_row_id_to_old_row_id,
        alive_bitsets: sets.collect(),
    }
}

/// Columns that are there even if no document has a value; as Tantivy's merges ask for them.
fn required_columns(schema: &Schema) -> Vec<(String, ColumnType)> {
    let fast = schema.fields().filter(|(_, entry)| entry.is_fast());
    let columns = fast.filter_map(|(_, entry)| {
        let column = match entry.field_type().value_type() {
            Type::Str | Type::Facet => ColumnType::Str,
            Type::U64 => ColumnType::U64,
            Type::I64 => ColumnType::I64,
            Type::F64 => ColumnType::F64,
            Type::Bool => ColumnType::Bool,
            Type::Date => ColumnType::DateTime,
            Type::Bytes => ColumnType::Bytes,
            Type::IpAddr => ColumnType::IpAddr,
            Type::Json | Type::Custom => return None,
        };
        Some((entry.name().to_owned(), column))
    });
    columns.collect()
}

fn write_store(source: &Source<'_>, target: &Segment) -> tantivy::Result<()> {
    let settings = target.index().settings();
    // With a cache that holds the store, each of its blocks is decompressed once.
    let n_blocks = source.memory_budget / settings.docstore_blocksize.max(1);
    let n_blocks = (n_blocks / source.readers.len().max(1)).max(1);
    let stores = source.readers.iter().map(|r| r.get_store_reader(n_blocks));
    let stores = stores.collect::<Result<Vec<_>, _>>()?;
    let mut writer = StoreWriter::new(
        target.open_write(SegmentComponent::Store)?,
        settings.docstore_compression,
        settings.docstore_blocksize,
        settings.docstore_compress_dedicated_thread,
    )?;
    for old in source.rows.old(&source.range) {
        let document = stores[old.segment_ord as usize].get_document_bytes(old.doc_id)?;
        writer.store_bytes(&document)?;
    }
    Ok(writer.close()?)
}
