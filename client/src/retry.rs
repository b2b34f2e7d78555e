//! What to do after a call failed: pure decisions, so that they can be tested without a network.

use std::time::Duration;

use base::clock::Moment;
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

/// Longest wait for the answer to one attempt: a silent namenode does not use up the whole deadline.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a failed attempt leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, after a pause.
    AfterPause(Duration),
    /// The call ends with this.
    End(FsError),
}

/// The attempts of one call: what is known of it after each failure. Pure; the caller has clock and network.
#[derive(Clone, Debug)]
pub struct Attempts {
    operation: &'static str,
    /// Calls without a number change nothing: nobody can be in doubt about them.
    numbered: bool,
    doubt: bool,
    backoff: Backoff,
}

impl Attempts {
    /// Of a call that changes something if it is `numbered`.
    #[must_use]
    pub fn new(operation: &'static str, numbered: bool) -> Self {
        Self { operation, numbered, doubt: false, backoff: Backoff::default() }
    }

    /// An attempt failed; no other one may begin at `until` or later.
    pub fn failed(
        &mut self,
        error: FsError,
        verdict: Verdict,
        until: Moment,
        now: Moment,
        random: &dyn Randomness,
    ) -> Next {
        let Verdict::Again { doubtful, .. } = verdict else {
            // A refusal of a retry is only the whole truth if the attempts before it cannot have taken effect. One for
            // want of room is made before the namenode looks whether it knows the call.
            let unsure = self.doubt && matches!(error.code, ErrorCode::SessionExpired | ErrorCode::NoSpace);
            return Next::End(if unsure { unknown_outcome(self.operation, &error) } else { error });
        };
        self.doubt |= doubtful && self.numbered;
        let pause = self.backoff.pause(random);
        if now.plus(pause) < until {
            return Next::AfterPause(pause);
        }
        Next::End(if self.doubt { unknown_outcome(self.operation, &error) } else { error })
    }
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
    fn a_call_is_in_doubt_only_after_an_attempt_that_may_have_taken_effect() {
        let (random, start) = (SeededRandom::new(1), Moment::START);
        let end = |numbered: bool, codes: &[ErrorCode]| {
            let mut attempts = Attempts::new("mkdir", numbered);
            let mut next = Next::AfterPause(Duration::ZERO);
            for (number, code) in codes.iter().enumerate() {
                assert!(matches!(next, Next::AfterPause(_)), "{codes:?} ended early");
                let error = FsError::new(*code, "x");
                let until = if number + 1 == codes.len() { start } else { start.plus(Duration::from_secs(9)) };
                next = attempts.failed(error.clone(), judge(&error), until, start, &random);
            }
            match next {
                Next::End(error) => error.code,
                Next::AfterPause(_) => panic!("{codes:?} did not end"),
            }
        };
        use ErrorCode::{NoSpace, NotFound, NotLeader, OutcomeUnknown, SessionExpired, Timeout};
        assert_eq!(end(true, &[NotLeader, NotLeader]), NotLeader);
        assert_eq!(end(true, &[Timeout, NotLeader]), OutcomeUnknown);
        assert_eq!(end(false, &[Timeout, NotLeader]), NotLeader);
        assert_eq!(end(true, &[OutcomeUnknown, NotLeader]), OutcomeUnknown, "a deposed leader had it in its log");
        assert_eq!(end(true, &[Timeout, NotFound]), NotFound, "a retry is answered as the first attempt was");
        assert_eq!(end(true, &[Timeout, SessionExpired]), OutcomeUnknown);
        assert_eq!(end(true, &[SessionExpired]), SessionExpired);
        assert_eq!(
            end(true, &[Timeout, NoSpace]),
            OutcomeUnknown,
            "refused before anyone looked for the first attempt"
        );
        assert_eq!(end(true, &[NoSpace]), NoSpace);
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
