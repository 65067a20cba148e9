//! [`TermWeights`]: terms and weights as a line gives them, in one buffer.

/// Terms with their weights in the file's order, not yet checked; repetitions included.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TermWeights {
    /// All terms, one behind the other.
    text: String,
    /// Where each term ends, and its weight.
    pairs: Vec<(usize, f32)>,
}

impl TermWeights {
    /// Room for so many terms of some length.
    pub(super) fn with_capacity(n_terms: usize) -> TermWeights {
        TermWeights {
            text: String::with_capacity(8 * n_terms),
            pairs: Vec::with_capacity(n_terms),
        }
    }

    pub(super) fn push(&mut self, term: &str, weight: f32) {
        self.text.push_str(term);
        self.end_term(weight);
    }

    /// The buffer, for a term that comes in parts: [`end_term`](TermWeights::end_term) follows.
    pub(super) fn text_mut(&mut self) -> &mut String {
        &mut self.text
    }

    /// What was put into the buffer since the last term is a term of this weight.
    pub(super) fn end_term(&mut self, weight: f32) {
        self.pairs.push((self.text.len(), weight));
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pairs in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f32)> {
        let mut start = 0;
        self.pairs.iter().map(move |&(end, weight)| {
            let term = self.text.get(start..end).unwrap_or_default();
            start = end;
            (term, weight)
        })
    }
}
