//! What to do after a call failed: pure decisions, so that they can be tested without a network.

use std::time::Duration;

use base::random::Randomness;
use proto::error::{ErrorCode, FsError};

/// What a failed attempt means for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is the answer.
    Final,
    /// Try again after a pause.
    Again {
        /// At another namenode, if there is one.
        elsewhere: bool,
        /// May the failed attempt have taken effect?
        doubtful: bool,
    },
}

/// Judges a refusal that a server sent, or a connection that broke under a call.
#[must_use]
pub const fn judge(error: &FsError) -> Verdict {
    match error.code {
        ErrorCode::NotLeader => Verdict::Again { elsewhere: true, doubtful: false },
        ErrorCode::SafeMode | ErrorCode::Overloaded | ErrorCode::NotEnoughNodes | ErrorCode::NotReplicatedYet => {
            Verdict::Again { elsewhere: false, doubtful: false }
        }
        ErrorCode::Unavailable => Verdict::Again { elsewhere: true, doubtful: true },
        // The same number again: the server answers from memory if the first attempt took effect.
        ErrorCode::Timeout | ErrorCode::OutcomeUnknown => Verdict::Again { elsewhere: false, doubtful: true },
        _ => Verdict::Final,
    }
}

/// What a caller is told when a call that changes something ends without an answer of which it is sure.
#[must_use]
pub fn unknown_outcome(operation: &str, last: &FsError) -> FsError {
    let text =
        format!("{operation} was sent and not answered in time: it may or may not have happened ({})", last.message);
    FsError { path: last.path.clone(), ..FsError::new(ErrorCode::OutcomeUnknown, text) }
        .with_hint("look before trying again")
}

/// Pauses between attempts: doubling, with jitter, bounded.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    limit: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Duration::from_millis(20), limit: Duration::from_secs(1) }
    }
}

impl Backoff {
    /// The next pause: between half of and the whole current step.
    pub fn pause(&mut self, random: &dyn Randomness) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.limit);
        let half = step / 2;
        half + Duration::from_micros(random.below(half.as_micros() as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::random::SeededRandom;

    #[test]
    fn only_codes_that_call_themselves_retryable_are_retried() {
        for code in ErrorCode::ALL.iter().filter(|code| **code != ErrorCode::OutcomeUnknown) {
            let again = judge(&FsError::new(*code, "x")) != Verdict::Final;
            assert!(!again || code.retryable(), "{code:?}");
        }
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let random = SeededRandom::new(3);
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..10).map(|_| backoff.pause(&random)).collect();
        assert!(pauses[0] >= Duration::from_millis(10) && pauses[0] <= Duration::from_millis(20));
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(1)));
        assert!(pauses[9] >= Duration::from_millis(500));
    }
}
