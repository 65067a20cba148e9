//! [`ImpactBuffer`]: the impacts of one segment under construction, on their way from vectors to
//! posting lists.
//!
//! Vectors come document by document, posting lists go term by term. The postings of a few
//! thousand documents, a *run*, are sorted by term while they are in the processor's cache, and
//! kept in three bytes each: the document's place in the run, and the impact. A term's list is
//! the concatenation of its pieces in all runs.

use tantivy::DocId;

use super::term_table::{TermTable, Terms};
use crate::reorder::{Forward, MIN_DOC_FREQ};
use crate::vector::VectorParts;
use crate::{ImpactQuantizer, MAX_TERMS, QuantizationLoss};

/// A run ends with the document that fills it: a million postings are sorted within a cache of
/// the second or third level, and give the pieces of common terms a length worth their entry.
const MAX_RUN: usize = 1 << 20;

/// Documents of a run are numbered in 16 bits.
const MAX_RUN_DOCS: usize = 1 << 16;

/// Share of the memory budget for the postings of a run, at the most.
const RUN_SHARE: usize = 128;

/// Bytes of a posting while its list is put together and packed, at the most.
const LIST_POSTING: usize = 24;

/// Bytes of a term while its list is entered in dictionary and bounds.
const TERM_BYTES: usize = 96;

/// Bytes of bounds for a posting: a quarter of its list, in buffers that double as they grow.
const BOUNDS_POSTING: usize = 1;

/// Marks the end of a chain of pieces.
const NONE: u32 = u32::MAX;

/// Document within the run (two bytes), impact.
type RunPosting = [u8; 3];

/// Consecutive documents, their postings sorted by term.
struct Run {
    first_doc: DocId,
    postings: Vec<RunPosting>,
}

/// The postings of one term in one run.
#[derive(Clone, Copy)]
struct Piece {
    run: u32,
    start: u32,
    len: u32,
    /// The term's piece in a later run.
    next: u32,
}

/// The chain of pieces of one term.
#[derive(Clone, Copy)]
struct Chain {
    first: u32,
    last: u32,
    doc_freq: u32,
}

/// Collects impacts.
pub(crate) struct ImpactBuffer {
    quantizer: ImpactQuantizer,
    term_ids: TermTable,
    run_capacity: usize,
    /// Of the run under construction, in document order: terms, impacts, and for each document
    /// the end of its postings.
    run_terms: Vec<u32>,
    run_impacts: Vec<u8>,
    run_doc_ends: Vec<usize>,
    /// For each term, where its next posting goes; made when a run ends.
    next: Vec<u32>,
    runs: Vec<Run>,
    pieces: Vec<Piece>,
    chains: Vec<Chain>,
    n_docs: DocId,
    /// Postings of finished runs.
    n_postings: usize,
    longest_list: u32,
    impact_sum: u64,
    loss: QuantizationLoss,
}

impl ImpactBuffer {
    pub(crate) fn new(quantizer: ImpactQuantizer, memory_budget: usize) -> ImpactBuffer {
        ImpactBuffer {
            quantizer,
            term_ids: TermTable::new(),
            run_capacity: MAX_RUN.min(memory_budget / RUN_SHARE),
            run_terms: Vec::new(),
            run_impacts: Vec::new(),
            run_doc_ends: Vec::new(),
            next: Vec::new(),
            runs: Vec::new(),
            pieces: Vec::new(),
            chains: Vec::new(),
            n_docs: 0,
            n_postings: 0,
            longest_list: 0,
            impact_sum: 0,
            loss: QuantizationLoss::default(),
        }
    }

    /// Appends the next document.
    pub(crate) fn push(&mut self, vector: VectorParts<'_>) {
        if self.run_terms.capacity() == 0 {
            self.run_terms.reserve_exact(self.run_capacity + MAX_TERMS);
            self.run_impacts
                .reserve_exact(self.run_capacity + MAX_TERMS);
        }
        let VectorParts {
            text,
            ends,
            weights,
        } = vector;
        // Copies, which stay in registers throughout the loop.
        let (quantizer, mut loss) = (self.quantizer, self.loss);
        let (mut start, mut impact_sum) = (0, 0);
        for (&end, &weight) in ends.iter().zip(weights) {
            let end = end as usize;
            if let Some(impact) = quantizer.counted_impact(weight, &mut loss) {
                self.run_terms.push(self.term_ids.number(text, start..end));
                self.run_impacts.push(impact);
                impact_sum += u64::from(impact);
            }
            start = end;
        }
        self.loss = loss;
        self.impact_sum += impact_sum;
        self.run_doc_ends.push(self.run_terms.len());
        self.n_docs += 1;
        if self.run_terms.len() >= self.run_capacity || self.run_doc_ends.len() == MAX_RUN_DOCS {
            self.end_run();
        }
    }

    /// Sorts the run under construction by term: a counting sort, in which documents stay in
    /// order.
    fn end_run(&mut self) {
        if self.run_doc_ends.is_empty() {
            return;
        }
        let n_run_docs = u32::try_from(self.run_doc_ends.len()).unwrap_or(u32::MAX);
        self.link_pieces();
        let next = &mut self.next;
        let mut postings = vec![[0; 3]; self.run_terms.len()];
        let mut start = 0;
        for (doc, &end) in (0u16..=u16::MAX).zip(&self.run_doc_ends) {
            let [low, high] = doc.to_le_bytes();
            let terms = &self.run_terms[start..end];
            for (&term_id, &impact) in terms.iter().zip(&self.run_impacts[start..end]) {
                let slot = &mut next[term_id as usize];
                postings[*slot as usize] = [low, high, impact];
                *slot += 1;
            }
            start = end;
        }
        self.n_postings += postings.len();
        self.runs.push(Run {
            first_doc: self.n_docs - n_run_docs,
            postings,
        });
        self.run_terms.clear();
        self.run_impacts.clear();
        self.run_doc_ends.clear();
    }

    /// Enters a piece for every term of the run, and sets `next` to their starts.
    fn link_pieces(&mut self) {
        // The memory budget ends the segment long before 2^32 runs or pieces.
        let run = u32::try_from(self.runs.len()).unwrap_or(NONE);
        let mut start = 0;
        let no_pieces = Chain {
            first: NONE,
            last: NONE,
            doc_freq: 0,
        };
        self.chains.resize(self.term_ids.len(), no_pieces);
        self.next.clear();
        for (len, chain) in self.term_ids.take_counts().zip(&mut self.chains) {
            self.next.push(start);
            if len == 0 {
                continue;
            }
            let number = u32::try_from(self.pieces.len()).unwrap_or(NONE);
            match self.pieces.get_mut(chain.last as usize) {
                Some(last) => last.next = number,
                None => chain.first = number,
            }
            chain.last = number;
            chain.doc_freq += len;
            self.longest_list = self.longest_list.max(chain.doc_freq);
            self.pieces.push(Piece {
                run,
                start,
                len,
                next: NONE,
            });
            start += len;
        }
    }

    pub(crate) fn n_postings(&self) -> usize {
        self.n_postings + self.run_terms.len()
    }

    pub(crate) fn loss(&self) -> QuantizationLoss {
        self.loss
    }

    /// Bytes held now and needed on top while posting lists are made of them.
    pub(crate) fn mem_usage(&self) -> usize {
        let run_posting = size_of::<u32>() + size_of::<u8>() + size_of::<RunPosting>();
        let run = (self.run_capacity + MAX_TERMS) * run_posting
            + self.run_doc_ends.capacity() * size_of::<usize>();
        // Its chain, its place in `next`, its place in the order of lists, and its entries in the
        // table of terms beside the bounds and in the dictionary.
        let term = size_of::<Chain>() + 2 * size_of::<u32>() + TERM_BYTES;
        run + self.n_postings * size_of::<RunPosting>()
            + self.runs.capacity() * size_of::<Run>()
            + self.pieces.capacity() * size_of::<Piece>()
            + self.term_ids.len().max(self.chains.capacity()) * term
            + self.term_ids.mem_usage()
            + self.longest_list as usize * LIST_POSTING
            + self.n_postings() * BOUNDS_POSTING
    }

    /// Bytes needed on top to find an order of the documents: their terms, once in all and once in
    /// the parts they are cut into, and what bisection keeps of documents and terms.
    pub(crate) fn ordering_bytes(&self) -> usize {
        let doc = 96;
        let term = 40;
        2 * size_of::<u32>() * self.n_postings()
            + self.n_docs as usize * doc
            + self.term_ids.len() * term
    }

    /// The terms of each document pushed; rare ones, which tell nothing about an order, are left
    /// out.
    pub(crate) fn forward(&mut self) -> Forward {
        self.end_run();
        let kept = |chain: &&Chain| chain.doc_freq >= MIN_DOC_FREQ;
        let mut ends = vec![0; self.n_docs as usize];
        for chain in self.chains.iter().filter(kept) {
            for_each_doc(&self.runs, &self.pieces, chain, |doc| ends[doc] += 1);
        }
        let mut sum = 0;
        for end in &mut ends {
            // The start for now; filling moves it to the end.
            sum += std::mem::replace(end, sum);
        }
        let mut terms = vec![0; sum];
        let mut n_terms = 0;
        for (number, chain) in (0..).zip(self.chains.iter().filter(kept)) {
            for_each_doc(&self.runs, &self.pieces, chain, |doc| {
                terms[ends[doc]] = number;
                ends[doc] += 1;
            });
            n_terms += 1;
        }
        Forward {
            ends,
            terms,
            n_terms,
        }
    }

    /// The posting lists of all documents pushed.
    pub(crate) fn into_posting_lists(mut self) -> PostingLists {
        self.end_run();
        let mut order: Vec<u32> = (0..).take(self.term_ids.len()).collect();
        let terms = self.term_ids.into_terms();
        order.sort_unstable_by(|a, b| terms.get(*a).cmp(terms.get(*b)));
        PostingLists {
            terms,
            order,
            runs: self.runs,
            pieces: self.pieces,
            chains: self.chains,
            longest_list: self.longest_list as usize,
            impact_sum: self.impact_sum,
        }
    }
}

fn for_each_doc(runs: &[Run], pieces: &[Piece], chain: &Chain, mut visit: impl FnMut(usize)) {
    let mut piece = chain.first;
    while let Some(&Piece {
        run,
        start,
        len,
        next,
    }) = pieces.get(piece as usize)
    {
        let Run {
            first_doc,
            postings,
        } = &runs[run as usize];
        for [low, high, _] in &postings[start as usize..][..len as usize] {
            visit(*first_doc as usize + usize::from(u16::from_le_bytes([*low, *high])));
        }
        piece = next;
    }
}

/// Posting lists in memory, term by term.
pub(crate) struct PostingLists {
    terms: Terms,
    /// Term numbers in byte order of the terms.
    order: Vec<u32>,
    runs: Vec<Run>,
    pieces: Vec<Piece>,
    chains: Vec<Chain>,
    longest_list: usize,
    impact_sum: u64,
}

impl PostingLists {
    /// The sum of all impacts.
    pub(crate) fn impact_sum(&self) -> u64 {
        self.impact_sum
    }

    /// Number of lists.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Visits the lists in byte order of their terms: documents in ascending order, and their
    /// impacts. `new_ids` says which number a document gets; `None` leaves them as pushed.
    pub(crate) fn for_each<E>(
        &self,
        new_ids: Option<&[DocId]>,
        mut visit: impl FnMut(&[u8], &[DocId], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut docs = Vec::with_capacity(self.longest_list);
        let mut impacts = Vec::with_capacity(self.longest_list);
        for &id in &self.order {
            docs.clear();
            impacts.clear();
            let mut piece = self.chains[id as usize].first;
            while let Some(&Piece {
                run,
                start,
                len,
                next,
            }) = self.pieces.get(piece as usize)
            {
                let Run {
                    first_doc,
                    postings,
                } = &self.runs[run as usize];
                let postings = &postings[start as usize..][..len as usize];
                let doc =
                    |[low, high, _]: &RunPosting| u32::from(u16::from_le_bytes([*low, *high]));
                docs.extend(postings.iter().map(|posting| first_doc + doc(posting)));
                impacts.extend(postings.iter().map(|[.., impact]| *impact));
                piece = next;
            }
            if let Some(new_ids) = new_ids {
                renumber(&mut docs, &mut impacts, new_ids);
            }
            visit(self.terms.get(id), &docs, &impacts)?;
        }
        Ok(())
    }
}

/// Gives the documents of a list their new numbers, and the list their order.
fn renumber(docs: &mut [DocId], impacts: &mut [u8], new_ids: &[DocId]) {
    let new_id = |doc: DocId| u64::from(new_ids[doc as usize]);
    let postings = docs.iter().zip(&*impacts);
    let mut postings: Vec<u64> = postings
        .map(|(&doc, &impact)| new_id(doc) << 8 | u64::from(impact))
        .collect();
    postings.sort_unstable();
    for (posting, (doc, impact)) in postings.iter().zip(docs.iter_mut().zip(impacts)) {
        let [i, a, b, c, d, ..] = posting.to_le_bytes();
        *impact = i;
        *doc = u32::from_le_bytes([a, b, c, d]);
    }
}
