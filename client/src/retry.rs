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
    /// The answer cannot be read: what the namenode said is not known. The same number again brings it again.
    Garbled,
}

/// Judges a refusal that a server sent, or a connection that broke under a call.
#[must_use]
pub const fn judge(error: &FsError) -> Verdict {
    match error.code {
        ErrorCode::NotLeader => Verdict::Again { elsewhere: true, doubtful: false },
        ErrorCode::SafeMode | ErrorCode::Overloaded | ErrorCode::NotEnoughNodes | ErrorCode::NotReplicatedYet => {
            Verdict::Again { elsewhere: false, doubtful: false }
        }
        // The same number again: whoever leads answers from memory if the first attempt took effect. A namenode that
        // hangs keeps its connections and says nothing: only another one can help.
        ErrorCode::Unavailable | ErrorCode::Timeout => Verdict::Again { elsewhere: true, doubtful: true },
        ErrorCode::OutcomeUnknown => Verdict::Again { elsewhere: false, doubtful: true },
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

/// Answers to one call that may be unreadable before it ends: one may have been damaged on its way, two were not.
const MAX_GARBLED: u32 = 3;

/// What a caller is told when the namenode said yes to a call that changes something, in an answer that lacks a part:
/// it would say the same again.
#[must_use]
pub fn unread_success(operation: &str, why: &FsError) -> FsError {
    let text = format!("{operation} was not refused, but what became of it is not known: {}", why.message);
    FsError::new(ErrorCode::OutcomeUnknown, text).with_hint("look before trying again")
}

/// Longest wait for the answer to one attempt: a silent namenode does not use up the whole deadline.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// The first wait where another namenode may be asked instead; it doubles with every silence, so that a call that
/// takes its time is not asked for again and again.
const FIRST_ATTEMPT: Duration = Duration::from_secs(3);
/// No attempt is made shorter than this for the sake of another namenode.
const SHORT_ATTEMPT: Duration = Duration::from_millis(250);

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
    garbled: u32,
    silent: u32,
    backoff: Backoff,
}

impl Attempts {
    /// Of a call that changes something if it is `numbered`.
    #[must_use]
    pub fn new(operation: &'static str, numbered: bool) -> Self {
        Self { operation, numbered, doubt: false, garbled: 0, silent: 0, backoff: Backoff::default() }
    }

    /// Longest wait for the answer to the next attempt of a call that ends after `left`, in a cluster of `namenodes`.
    /// Where there is another one, no silence uses up more than half of what is left.
    #[must_use]
    pub fn patience(&self, left: Duration, namenodes: usize) -> Duration {
        if namenodes < 2 {
            return left.min(ATTEMPT_TIMEOUT);
        }
        let step = FIRST_ATTEMPT.saturating_mul(1 << self.silent.min(8)).min(ATTEMPT_TIMEOUT);
        step.min((left / 2).max(SHORT_ATTEMPT)).min(left)
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
        self.silent += u32::from(error.code == ErrorCode::Timeout);
        match verdict {
            // After doubt a refusal is only the whole truth if the namenode looked the call up in its session: what is
            // refused before that (a limit, a version, a frame) says nothing about the attempts before.
            Verdict::Final => return Next::End(self.in_doubt_unless(error.decided, error)),
            Verdict::Garbled => {
                self.doubt |= self.numbered;
                self.garbled += 1;
                if !self.numbered || self.garbled >= MAX_GARBLED {
                    return Next::End(self.in_doubt_unless(false, error));
                }
            }
            Verdict::Again { doubtful, .. } => self.doubt |= doubtful && self.numbered,
        }
        let pause = self.backoff.pause(random);
        if now.plus(pause) < until {
            return Next::AfterPause(pause);
        }
        Next::End(self.in_doubt_unless(false, error))
    }

    fn in_doubt_unless(&self, certain: bool, error: FsError) -> FsError {
        if self.doubt && !certain { unknown_outcome(self.operation, &error) } else { error }
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
        let refusal = |code| FsError::new(code, "x");
        let end = |numbered: bool, codes: &[ErrorCode]| {
            ended(numbered, &codes.iter().map(|code| (refusal(*code), judge(&refusal(*code)))).collect::<Vec<_>>())
        };
        use ErrorCode::{NoSpace, NotFound, NotLeader, OutcomeUnknown, SessionExpired, Timeout};
        assert_eq!(end(true, &[NotLeader, NotLeader]), NotLeader);
        assert_eq!(end(true, &[Timeout, NotLeader]), OutcomeUnknown);
        assert_eq!(end(false, &[Timeout, NotLeader]), NotLeader);
        assert_eq!(end(true, &[OutcomeUnknown, NotLeader]), OutcomeUnknown, "a deposed leader had it in its log");
        assert_eq!(end(true, &[SessionExpired]), SessionExpired);
        assert_eq!(end(true, &[NoSpace]), NoSpace);
        assert_eq!(end(false, &[Timeout, NotFound]), NotFound);
        let certain = refusal(NotFound).decided();
        let doubt = (refusal(Timeout), judge(&refusal(Timeout)));
        assert_eq!(
            ended(true, &[doubt.clone(), (certain, Verdict::Final)]),
            NotFound,
            "a retry is answered as the first attempt was"
        );
        for code in ErrorCode::ALL.iter().filter(|code| judge(&refusal(**code)) == Verdict::Final) {
            let early = (refusal(*code), Verdict::Final);
            assert_eq!(ended(true, &[doubt.clone(), early]), OutcomeUnknown, "{code:?} before the look-up");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_asked_for_again_and_then_in_doubt() {
        let garbled = (FsError::new(ErrorCode::Corrupt, "x"), Verdict::Garbled);
        let refused = |error: FsError| (error, Verdict::Final);
        let missing = FsError::not_found("/x");
        assert_eq!(ended(true, &[garbled.clone(), refused(missing.clone().decided())]), ErrorCode::NotFound);
        assert_eq!(ended(true, &[garbled.clone(), refused(missing)]), ErrorCode::OutcomeUnknown);
        assert_eq!(ended(true, &vec![garbled.clone(); MAX_GARBLED as usize]), ErrorCode::OutcomeUnknown);
        assert_eq!(ended(false, &[garbled]), ErrorCode::Corrupt, "what changes nothing is in no doubt");
    }

    /// How a call ends whose attempts fail like this; the deadline comes with the last one.
    fn ended(numbered: bool, failures: &[(FsError, Verdict)]) -> ErrorCode {
        let (random, start) = (SeededRandom::new(1), Moment::START);
        let mut attempts = Attempts::new("mkdir", numbered);
        let mut next = Next::AfterPause(Duration::ZERO);
        for (number, (error, verdict)) in failures.iter().enumerate() {
            assert!(matches!(next, Next::AfterPause(_)), "{failures:?} ended early");
            let until = if number + 1 == failures.len() { start } else { start.plus(Duration::from_secs(9)) };
            next = attempts.failed(error.clone(), *verdict, until, start, &random);
        }
        match next {
            Next::End(error) => error.code,
            Next::AfterPause(_) => panic!("{failures:?} did not end"),
        }
    }

    #[test]
    fn l_10_a_silent_namenode_leaves_time_for_another_one() {
        let secs = Duration::from_secs;
        let mut attempts = Attempts::new("mkdir", true);
        assert_eq!(attempts.patience(secs(30), 1), ATTEMPT_TIMEOUT, "nobody else can be asked");
        assert_eq!(attempts.patience(secs(4), 1), secs(4));
        assert_eq!(attempts.patience(secs(30), 3), FIRST_ATTEMPT);
        assert_eq!(attempts.patience(secs(4), 3), secs(2), "half is kept");
        assert_eq!(attempts.patience(Duration::from_millis(300), 3), SHORT_ATTEMPT);
        assert_eq!(attempts.patience(Duration::from_millis(10), 3), Duration::from_millis(10));
        let (silence, random) = (FsError::new(ErrorCode::Timeout, "x"), SeededRandom::new(1));
        assert!(matches!(judge(&silence), Verdict::Again { elsewhere: true, doubtful: true }));
        let mut waited = Vec::new();
        for _ in 0..40 {
            let later = Moment::START.plus(secs(9));
            let next = attempts.failed(silence.clone(), judge(&silence), later, Moment::START, &random);
            assert!(matches!(next, Next::AfterPause(_)));
            waited.push(attempts.patience(secs(60), 3).as_secs());
        }
        assert_eq!(waited[..3], [6, 10, 10], "a call that takes its time gets it");
        assert_eq!(waited[39], 10);
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
