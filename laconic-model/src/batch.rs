//! Which texts go through the network together.

use crate::tokenize::Tokens;

/// Indices of the texts of each batch, longest texts first.
///
/// Texts of like length share a batch, so that the attention tasks of a batch
/// are alike; and what needs most memory is met first, not after an hour.
/// Empty texts are left out: they have the empty vector. So are texts whose weights are looked up.
pub(crate) fn plan(texts: &[Tokens], max_tokens: usize, max_texts: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..texts.len())
        .filter(|idx| !texts[*idx].ids.is_empty() && !texts[*idx].is_looked_up)
        .collect();
    order.sort_by_key(|idx| std::cmp::Reverse(texts[*idx].ids.len()));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut n_tokens = 0;
    for idx in order {
        let len = texts[idx].ids.len();
        match batches.last_mut() {
            Some(batch) if n_tokens + len <= max_tokens && batch.len() < max_texts => {
                n_tokens += len;
                batch.push(idx);
            }
            _ => {
                n_tokens = len;
                batches.push(vec![idx]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lengths: &[usize]) -> Vec<Tokens> {
        lengths
            .iter()
            .map(|len| Tokens {
                ids: vec![0; *len],
                ..Tokens::default()
            })
            .collect()
    }

    #[test]
    fn batches_keep_the_budget_and_every_text_that_has_tokens() {
        let lengths: Vec<usize> = (0..300).map(|i| i * 37 % 90).collect();
        let texts = texts(&lengths);
        for (max_tokens, max_texts) in [(0, 0), (1, 1), (90, 3), (200, 1000), (usize::MAX, 7)] {
            let plan = plan(&texts, max_tokens, max_texts);
            let mut seen: Vec<usize> = plan.iter().flatten().copied().collect();
            assert!(
                seen.iter()
                    .map(|idx| lengths[*idx])
                    .is_sorted_by(|a, b| a >= b)
            );
            seen.sort_unstable();
            let expected: Vec<usize> = (0..300).filter(|idx| lengths[*idx] > 0).collect();
            assert_eq!(seen, expected);
            for batch in plan.iter().filter(|batch| batch.len() > 1) {
                assert!(batch.len() <= max_texts);
                assert!(batch.iter().map(|idx| lengths[*idx]).sum::<usize>() <= max_tokens);
            }
        }
    }
}
