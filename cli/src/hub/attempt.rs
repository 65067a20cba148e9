//! Attempts, and which failures are worth another one.

use std::time::Duration;

use super::error::{HubError, Result};

/// Attempts that bring nothing, one after another, until we give up.
const MAX_ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(250);

pub(super) type Attempt<T> = std::result::Result<T, Failure>;

/// An attempt that failed.
pub(super) struct Failure {
    pub(super) error: HubError,
    pub(super) is_passing: bool,
    /// Whether it brought something nonetheless.
    pub(super) has_progressed: bool,
    /// How long the hub wants us to wait.
    pub(super) wait: Option<Duration>,
}

impl Failure {
    pub(super) fn passing(error: HubError) -> Self {
        Self {
            error,
            is_passing: true,
            has_progressed: false,
            wait: None,
        }
    }

    pub(super) fn lasting(error: HubError) -> Self {
        Self {
            is_passing: false,
            ..Self::passing(error)
        }
    }
}

/// Tries until it works, something lasting is in the way, or too many attempts in a row brought
/// nothing; waits twice as long each time.
pub(super) fn patiently<T>(mut attempt: impl FnMut() -> Attempt<T>) -> Result<T> {
    let mut n_vain = 0;
    loop {
        let failure = match attempt() {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        n_vain = if failure.has_progressed {
            1
        } else {
            n_vain + 1
        };
        if !failure.is_passing || n_vain >= MAX_ATTEMPTS {
            return Err(failure.error);
        }
        let wait = failure.wait.unwrap_or(FIRST_WAIT * 2_u32.pow(n_vain - 1));
        log::info!("{}; trying again in {} ms", failure.error, wait.as_millis());
        std::thread::sleep(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(failure: impl Fn(u32) -> Failure) -> u32 {
        let mut n = 0;
        let outcome: Result<()> = patiently(|| {
            n += 1;
            Err(Failure {
                wait: Some(Duration::ZERO),
                ..failure(n)
            })
        });
        assert!(outcome.is_err());
        n
    }

    #[test]
    fn vain_attempts_are_counted_and_others_are_not() {
        let passing = || Failure::passing(HubError::network("x"));
        assert_eq!(count(|_| passing()), MAX_ATTEMPTS);
        assert_eq!(count(|_| Failure::lasting(HubError::network("x"))), 1);
        let until_the_tenth = |n| Failure {
            has_progressed: n <= 10,
            ..passing()
        };
        assert_eq!(count(until_the_tenth), 10 + MAX_ATTEMPTS - 1);
    }
}
