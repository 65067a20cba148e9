//! Rows of a matrix: read, dealt into tiles, and written a few columns at a time.

use std::marker::PhantomData;
use std::ops::Range;

use super::{GROUP, Lanes};

/// Some columns of some rows of a row-major matrix.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
    columns: (usize, usize),
}

impl<'a> Rows<'a> {
    /// All of a matrix of `width` columns.
    pub(crate) fn of(values: &'a [f32], width: usize) -> Self {
        Self {
            values,
            stride: width,
            columns: (0, width),
        }
    }

    pub(crate) fn columns(self, columns: Range<usize>) -> Self {
        Self {
            columns: (self.columns.0 + columns.start, columns.len()),
            ..self
        }
    }

    pub(crate) fn rows(self, rows: Range<usize>) -> Self {
        Self {
            values: &self.values[rows.start * self.stride..rows.end * self.stride],
            ..self
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.stride
    }

    pub(crate) fn width(&self) -> usize {
        self.columns.1
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a [f32]> {
        let (start, width) = self.columns;
        let rows = self.values.chunks_exact(self.stride);
        rows.map(move |row| &row[start..start + width])
    }
}

/// Rows dealt into as few tiles as there can be, of nearly equal height.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    n_rows: usize,
    n_tiles: usize,
    height: usize,
    /// The first so many are taller by one.
    n_taller: usize,
}

impl Tiles {
    pub(super) fn new(n_rows: usize, max_height: usize) -> Self {
        let n_tiles = n_rows.div_ceil(max_height);
        Self {
            n_rows,
            n_tiles,
            height: n_rows / n_tiles.max(1),
            n_taller: n_rows % n_tiles.max(1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.n_tiles
    }

    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The rows of one tile.
    pub(super) fn tile(&self, idx: usize) -> Range<usize> {
        self.start(idx)..self.start(idx + 1)
    }

    /// The rows of several tiles.
    pub(super) fn span(&self, tiles: &Range<usize>) -> Range<usize> {
        self.start(tiles.start)..self.start(tiles.end)
    }

    pub(super) fn heights(self) -> impl Iterator<Item = usize> {
        (0..self.n_tiles).map(move |idx| self.tile(idx).len())
    }

    fn start(&self, idx: usize) -> usize {
        idx * self.height + idx.min(self.n_taller)
    }
}

/// A row-major matrix that several threads write, each its own rectangles.
pub(super) struct Output<'a> {
    values: *mut f32,
    len: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: `write` is the only access, and its callers keep to rectangles of their own.
#[allow(
    unsafe_code,
    reason = "threads write disjoint columns of the same rows"
)]
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    pub(super) fn new(values: &'a mut [f32], stride: usize) -> Self {
        Self {
            values: values.as_mut_ptr(),
            len: values.len(),
            stride,
            borrow: PhantomData,
        }
    }

    /// Writes the columns of one group in consecutive rows.
    ///
    /// # Safety
    /// No other thread may write the same rows of the same group meanwhile.
    #[allow(
        unsafe_code,
        reason = "threads write disjoint columns of the same rows"
    )]
    pub(super) unsafe fn write(&self, first_row: usize, group: usize, rows: &[Lanes]) {
        assert!((group + 1) * GROUP <= self.stride, "a group of the matrix");
        for (idx, lanes) in rows.iter().enumerate() {
            let at = (first_row + idx) * self.stride + group * GROUP;
            assert!(at + GROUP <= self.len, "a row of the matrix");
            // SAFETY: the range was just checked; the caller vouches for nobody else's being there.
            unsafe {
                let place = self.values.add(at);
                place.copy_from_nonoverlapping(lanes.as_ptr(), GROUP);
            }
        }
    }
}
