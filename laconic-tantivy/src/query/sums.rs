//! [`Sums`]: room for the sums of documents.

use std::cell::RefCell;

/// Room for sums of documents, kept by the thread from query to query: fresh memory of this size
/// costs more than a short query.
#[derive(Default)]
pub(crate) struct Sums(Vec<u32>);

thread_local! {
    static SUMS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

impl Sums {
    /// Makes room for at least `n_docs` sums, of whatever value.
    pub(crate) fn make_room(&mut self, n_docs: usize) {
        if self.0.is_empty() {
            self.0 = SUMS.take();
        }
        if self.0.len() < n_docs {
            self.0.resize(n_docs, 0);
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u32] {
        &mut self.0
    }
}

impl Drop for Sums {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            let sums = std::mem::take(&mut self.0);
            // An evaluation may be dropped while its thread ends.
            let _ = SUMS.try_with(|kept| kept.replace(sums));
        }
    }
}
