//! [`Cursor`]: a position in one posting list, with the query weight of its term.

use tantivy::{DocId, TERMINATED};

use super::contribution::{Computed, Contribution};
use super::list::{BLOCK_LEN, PostingList, Skip};

/// A position in the posting list of one term of a query.
pub(crate) struct Cursor {
    list: PostingList,
    /// The current block; `n_packed` is the rest, larger numbers are past the end.
    block: usize,
    /// Of the current block, if it is bit-packed.
    skip: Option<Skip>,
    /// First byte of the current block.
    offset: usize,
    /// Last document of the block before.
    before: DocId,
    /// The documents of the current block are in `docs`, its impacts in `freqs`.
    has_docs: bool,
    has_freqs: bool,
    /// Postings of the current block, and the current one.
    len: usize,
    idx: usize,
    /// A contribution is an entry of `freqs`, at most `max_impact`, times this.
    query_weight: u32,
    max_impact: u32,
    /// Where contributions are not multiples of the frequencies, `freqs` holds them.
    computed: Option<Computed>,
    max_contribution: u32,
    /// First byte of every block, once there was reason to go backwards.
    offsets: Vec<u32>,
    docs: [u32; BLOCK_LEN],
    freqs: [u32; BLOCK_LEN],
}

impl Cursor {
    pub(crate) fn new(list: PostingList, contribution: Contribution) -> Cursor {
        let max_contribution = contribution.max();
        let (query_weight, max_impact, computed) = match contribution {
            Contribution::Impact {
                query_weight,
                max_impact,
            } => (query_weight, u32::from(max_impact), None),
            Contribution::Bm25(bm25) => (1, u32::MAX, Some(Computed::Bm25(Box::new(bm25)))),
            Contribution::Listed(listed) => (1, u32::MAX, Some(Computed::Listed(listed))),
        };
        Cursor {
            block: 0,
            skip: list.skip(0),
            list,
            offset: 0,
            before: 0,
            has_docs: false,
            has_freqs: false,
            len: 0,
            idx: 0,
            query_weight,
            max_impact,
            computed,
            max_contribution,
            offsets: Vec::new(),
            docs: [0; BLOCK_LEN],
            freqs: [0; BLOCK_LEN],
        }
    }

    /// The document it stands on, `TERMINATED` past the last.
    #[inline]
    pub(crate) fn doc(&mut self) -> DocId {
        self.load_docs();
        self.docs[..self.len]
            .get(self.idx)
            .copied()
            .unwrap_or(TERMINATED)
    }

    /// Number of postings of the list, deleted documents included.
    pub(crate) fn doc_freq(&self) -> u32 {
        self.list.doc_freq()
    }

    /// No posting contributes more.
    pub(crate) fn max_contribution(&self) -> u32 {
        self.max_contribution
    }

    /// The current document's impact; meaningless past the last.
    pub(crate) fn impact(&mut self) -> u32 {
        self.load_docs();
        self.load_freqs();
        self.freqs[self.idx % BLOCK_LEN]
    }

    /// The current document's share of the sum.
    pub(crate) fn contribution(&mut self) -> u32 {
        self.impact().wrapping_mul(self.query_weight)
    }

    /// Goes to the first document at or after `target`, forwards only.
    #[inline]
    pub(crate) fn seek(&mut self, target: DocId) -> DocId {
        self.skip_to(target);
        self.load_docs();
        let docs = &self.docs[..self.len];
        let ahead = docs.get(self.idx..).unwrap_or_default();
        self.idx += ahead.partition_point(|&doc| doc < target);
        if self.idx < self.len {
            return self.docs[self.idx];
        }
        if self.skip.is_some() {
            // Only a skip entry that lies about its block leads here.
            self.next_block();
            return self.seek(target);
        }
        TERMINATED
    }

    /// Goes to the first document at or after `target`, in whatever direction.
    #[inline]
    pub(crate) fn seek_anywhere(&mut self, target: DocId) -> DocId {
        self.approach(target);
        self.seek(target)
    }

    /// Goes to the block where `target` would be, in whatever direction, decoding nothing; `seek`
    /// is next.
    ///
    /// It reads a byte of the block. The processor waits for memory of several cursors at a time
    /// when they all approach before any of them decodes, which takes a third of the time.
    #[inline]
    pub(crate) fn approach(&mut self, target: DocId) {
        let is_behind = self.block > 0 && target <= self.before;
        let is_ahead = self.skip.is_some_and(|skip| skip.last_doc < target);
        if is_behind || (is_ahead && !self.offsets.is_empty()) {
            self.jump(target);
        } else {
            self.idx = 0;
            self.skip_to(target);
        }
        std::hint::black_box(self.list.byte(self.offset));
    }

    /// Goes to the block where `target` would be, by binary search.
    fn jump(&mut self, target: DocId) {
        if self.offsets.is_empty() {
            self.offsets = self.list.block_offsets();
        }
        let block = self.list.first_block_reaching(target);
        let before = block
            .checked_sub(1)
            .and_then(|before| self.list.skip(before));
        let offset = self.offsets.get(block).copied().unwrap_or(u32::MAX);
        self.enter(
            block,
            offset as usize,
            before.map_or(0, |skip| skip.last_doc),
        );
    }

    /// Goes to the block where `target` would be, decoding nothing.
    #[inline]
    fn skip_to(&mut self, target: DocId) {
        while let Some(skip) = self.skip
            && skip.last_doc < target
        {
            self.next_block();
        }
    }

    #[inline]
    fn next_block(&mut self) {
        if let Some(skip) = self.skip {
            self.enter(self.block + 1, self.offset + skip.len(), skip.last_doc);
        } else {
            // Behind the rest there is nothing.
            self.enter(self.block + 1, 0, DocId::MAX);
            self.has_docs = true;
            self.has_freqs = true;
        }
    }

    #[inline]
    fn enter(&mut self, block: usize, offset: usize, before: DocId) {
        self.block = block;
        self.offset = offset;
        self.before = before;
        self.skip = self.list.skip(block);
        self.has_docs = false;
        self.has_freqs = false;
        self.len = 0;
        self.idx = 0;
    }

    #[inline]
    fn load_docs(&mut self) {
        if !self.has_docs {
            self.decode_docs();
        }
    }

    #[inline]
    fn load_freqs(&mut self) {
        if !self.has_freqs {
            self.has_freqs = true;
            if let Some(skip) = self.skip {
                if !self.list.decode_freqs(skip, self.offset, &mut self.freqs) {
                    self.len = 0;
                }
                if skip.max_freq() > u64::from(self.max_impact) {
                    self.clamp_freqs();
                }
                self.compute();
            }
        }
    }

    /// Once for a block, so that the inner loops need not.
    fn clamp_freqs(&mut self) {
        // The largest impact has all its bits set, so only a higher bit exceeds it.
        let union = self.freqs.iter().fold(0, |union, freq| union | freq);
        if union > self.max_impact {
            for freq in &mut self.freqs {
                *freq = self.max_impact.min(*freq);
            }
        }
    }

    fn decode_docs(&mut self) {
        self.has_docs = true;
        let decoded = match self.skip {
            Some(skip) => self
                .list
                .decode_docs(skip, self.offset, self.before, &mut self.docs)
                .then_some(BLOCK_LEN),
            None => {
                self.has_freqs = true;
                let (docs, freqs) = (&mut self.docs, &mut self.freqs);
                let decoded = self.list.decode_rest(self.offset, self.before, docs, freqs);
                self.clamp_freqs();
                decoded
            }
        };
        self.len = decoded.unwrap_or(0);
        if self.skip.is_none() {
            self.compute();
        }
    }

    /// Puts contributions in the place of the frequencies, where that is how they are made.
    #[inline]
    fn compute(&mut self) {
        if let Some(computed) = &self.computed {
            computed.replace(self.block, &self.docs[..self.len], &mut self.freqs);
        }
    }

    /// Adds the contributions of all documents in `[start, start + sums.len())` to `sums` and
    /// goes to the first document after them. The cursor must stand at `start` or later.
    /// Returns how many postings it passed.
    ///
    /// This loop is where exhaustive search spends its time: whole blocks run without looking
    /// for the end of the window, and an out-of-range document of a damaged file is skipped by
    /// the same comparison that keeps the access in bounds.
    #[inline]
    pub(crate) fn accumulate(&mut self, start: DocId, sums: &mut [u32]) -> usize {
        let end = start.saturating_add(u32::try_from(sums.len()).unwrap_or(u32::MAX));
        let mut n_passed = 0;
        loop {
            self.load_docs();
            let docs = self.docs[..self.len].get(self.idx..).unwrap_or_default();
            let (Some(&first), Some(&last)) = (docs.first(), docs.last()) else {
                return n_passed;
            };
            if first >= end {
                return n_passed;
            }
            let whole_block = last < end;
            let n = if whole_block {
                docs.len()
            } else {
                docs.partition_point(|&doc| doc < end)
            };
            self.load_freqs();
            let docs = self.docs[..self.len].get(self.idx..self.idx + n);
            let freqs = self.freqs.get(self.idx..).unwrap_or_default();
            for (&doc, &freq) in docs.unwrap_or_default().iter().zip(freqs) {
                if let Some(sum) = sums.get_mut(doc.wrapping_sub(start) as usize) {
                    *sum = sum.wrapping_add(freq.wrapping_mul(self.query_weight));
                }
            }
            n_passed += n;
            if !whole_block {
                self.idx += n;
                return n_passed;
            }
            self.next_block();
        }
    }

    /// Appends the postings in front of `end`, from here on, and goes behind them.
    pub(crate) fn decode_below(
        &mut self,
        end: DocId,
        docs: &mut Vec<DocId>,
        contributions: &mut Vec<u32>,
    ) {
        loop {
            self.load_docs();
            let ahead = self.docs[..self.len].get(self.idx..).unwrap_or_default();
            let n = match (ahead.first(), ahead.last()) {
                (Some(_), Some(&last)) if last < end => ahead.len(),
                (Some(&first), _) if first < end => ahead.partition_point(|&doc| doc < end),
                _ => return,
            };
            let whole_block = n == ahead.len();
            docs.extend_from_slice(&ahead[..n]);
            self.load_freqs();
            let freqs = self.freqs.get(self.idx..self.idx + n).unwrap_or_default();
            let contribution = |freq: &u32| freq.wrapping_mul(self.query_weight);
            contributions.extend(freqs.iter().map(contribution));
            if !whole_block {
                self.idx += n;
                return;
            }
            self.next_block();
        }
    }

    /// Calls `visit` for every document from here to the end.
    pub(crate) fn for_each_doc(&mut self, mut visit: impl FnMut(DocId)) {
        loop {
            self.load_docs();
            let docs = self.docs[..self.len].get(self.idx..).unwrap_or_default();
            if docs.is_empty() && self.skip.is_none() {
                return;
            }
            for &doc in docs {
                visit(doc);
            }
            self.next_block();
        }
    }

    /// Calls `visit(doc, contribution)` for every posting from here to the end whose document is
    /// `wanted`.
    #[inline]
    pub(crate) fn for_each_where(
        &mut self,
        wanted: impl Fn(DocId) -> bool,
        mut visit: impl FnMut(DocId, u32),
    ) {
        let mut found = [0u8; BLOCK_LEN];
        loop {
            self.load_docs();
            let docs = self.docs[..self.len].get(self.idx..).unwrap_or_default();
            if docs.is_empty() && self.skip.is_none() {
                return;
            }
            let mut n_found = 0;
            for (idx, &doc) in (0u8..).zip(docs) {
                found[n_found % BLOCK_LEN] = idx;
                n_found += usize::from(wanted(doc));
            }
            if n_found > 0 {
                self.load_freqs();
                for &idx in &found[..n_found] {
                    let idx = (self.idx + usize::from(idx)) % BLOCK_LEN;
                    visit(
                        self.docs[idx],
                        self.freqs[idx].wrapping_mul(self.query_weight),
                    );
                }
            }
            self.next_block();
        }
    }

    /// A cursor over the impacts of a laconic field.
    pub(crate) fn of_impacts(list: PostingList, max_impact: u8) -> Cursor {
        let query_weight = 1;
        let contribution = Contribution::Impact {
            query_weight,
            max_impact,
        };
        Cursor::new(list, contribution)
    }

    /// Calls `visit(doc, impact)` for every posting from here to the end.
    pub(crate) fn for_each(&mut self, mut visit: impl FnMut(DocId, u32)) {
        loop {
            self.load_docs();
            self.load_freqs();
            let docs = self.docs[..self.len].get(self.idx..).unwrap_or_default();
            if docs.is_empty() && self.skip.is_none() {
                return;
            }
            let freqs = self.freqs.get(self.idx..).unwrap_or_default();
            for (&doc, &freq) in docs.iter().zip(freqs) {
                visit(doc, freq);
            }
            self.next_block();
        }
    }
}
