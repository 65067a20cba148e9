//! What happens when memory runs short: a batch is asked for before it is run, and runs in parts
//! if it is refused.

use crate::error::Error;

/// Asks the allocator for `n_bytes` and gives them back at once.
///
/// Allocations of the forward pass abort the process if they are refused; this one can be refused.
///
/// # Errors
///
/// [`Error::is_out_of_memory`] if the allocator refuses.
pub(crate) fn reserve(n_bytes: usize) -> Result<(), Error> {
    let mut room = Vec::<u8>::new();
    room.try_reserve_exact(n_bytes).map_err(|source| {
        Error::out_of_memory(format!(
            "making room for a batch: {} MiB are not to be had; take smaller batches or a shorter \
             max_length, or end other programs",
            n_bytes >> 20
        ))
        .with_source(source)
    })?;
    // An allocation that nobody sees may be left out by the compiler.
    std::hint::black_box(&room);
    Ok(())
}

/// Runs batches in parts that memory has room for, and remembers what was too much.
pub(crate) struct Budget {
    /// The smallest number of tokens that was refused.
    refused: usize,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self {
            refused: usize::MAX,
        }
    }

    /// Results of `work` for the texts of `batch`, in their order. A part that memory has no room
    /// for is halved, down to single texts.
    ///
    /// # Errors
    ///
    /// That of `work`, naming the text if it has no room for even one.
    pub(crate) fn run<T>(
        &mut self,
        batch: &[usize],
        n_tokens: impl Fn(usize) -> usize,
        mut work: impl FnMut(&[usize]) -> Result<Vec<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut done = Vec::with_capacity(batch.len());
        let mut left = vec![batch];
        while let Some(part) = left.pop() {
            let size = part.iter().map(|idx| n_tokens(*idx)).sum();
            let is_hopeless = size >= self.refused;
            match part {
                [_, _, ..] if is_hopeless => halve(part, &mut left),
                _ => match work(part) {
                    Ok(results) => done.extend(results),
                    Err(error) if !error.is_out_of_memory() => return Err(error),
                    Err(error) if part.len() < 2 => {
                        return Err(part
                            .iter()
                            .fold(error, |error, idx| error.at_document(*idx)));
                    }
                    Err(error) => {
                        log::debug!("a batch of {size} tokens is halved: {error}");
                        self.refused = size;
                        halve(part, &mut left);
                    }
                },
            }
        }
        Ok(done)
    }
}

/// Pushes the first half last: it is popped first.
fn halve<'a>(part: &'a [usize], left: &mut Vec<&'a [usize]>) {
    let (first, second) = part.split_at(part.len().div_ceil(2));
    left.extend([second, first]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 9] = [40, 30, 30, 20, 9, 8, 7, 2, 1];

    /// Runs the texts with room for so many tokens; the sizes of all attempts, and the outcome.
    fn run(budget: &mut Budget, limit: usize) -> (Vec<usize>, Result<Vec<usize>, Error>) {
        let batch: Vec<usize> = (0..LENGTHS.len()).collect();
        let mut attempts = Vec::new();
        let done = budget.run(
            &batch,
            |idx| LENGTHS[idx],
            |part| {
                let size = part.iter().map(|idx| LENGTHS[*idx]).sum();
                attempts.push(size);
                match size <= limit {
                    true => Ok(part.to_vec()),
                    false => Err(Error::out_of_memory("no room")),
                }
            },
        );
        (attempts, done)
    }

    #[test]
    fn batches_are_halved_until_they_fit_and_keep_their_order() {
        for limit in [40, 41, 60, 99, 147, 1000] {
            let (attempts, done) = run(&mut Budget::new(), limit);
            assert_eq!(done.unwrap(), [0, 1, 2, 3, 4, 5, 6, 7, 8], "limit {limit}");
            let n_refused = attempts.iter().filter(|size| **size > limit).count();
            assert!(n_refused <= 4, "{attempts:?} at {limit}");
        }
    }

    #[test]
    fn what_was_refused_once_is_not_tried_again() {
        let mut budget = Budget::new();
        let (first, _) = run(&mut budget, 60);
        let (second, done) = run(&mut budget, 60);
        assert!(first.iter().any(|size| *size > 60));
        assert!(second.iter().all(|size| *size <= 60), "{second:?}");
        assert_eq!(done.unwrap().len(), LENGTHS.len());
    }

    #[test]
    fn a_text_that_does_not_fit_alone_is_named() {
        let (_, done) = run(&mut Budget::new(), 35);
        let error = done.unwrap_err();
        assert!(error.is_out_of_memory());
        assert_eq!(error.document_idx(), Some(0));
    }

    #[test]
    fn other_failures_end_the_batch_at_once() {
        let mut n_calls = 0;
        let done: Result<Vec<()>, Error> = Budget::new().run(
            &[3, 4],
            |_| 1,
            |_| {
                n_calls += 1;
                Err(Error::invalid_input("odd"))
            },
        );
        assert!(done.unwrap_err().is_invalid_input());
        assert_eq!(n_calls, 1);
    }

    #[test]
    fn the_allocator_is_asked() {
        assert!(reserve(1 << 20).is_ok());
        assert!(
            reserve(isize::MAX.unsigned_abs())
                .unwrap_err()
                .is_out_of_memory()
        );
        assert!(reserve(usize::MAX).unwrap_err().is_out_of_memory());
    }
}
