//! What a connection may not take forever for.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::clock::Moment;
use tokio::time::{Instant, Sleep};

use super::Limits;

/// Time for a frame from its first byte to its last, and for a client to read answers that wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The preamble.
    Preamble,
    /// The rest of a frame.
    Frame,
    /// Reading of answers.
    Answers,
    /// A call.
    Idle,
}

impl Overdue {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Preamble => "the preamble did not come in time",
            Self::Frame => "the rest of a frame did not come in time",
            Self::Answers => "answers were not read in time",
            Self::Idle => "no call came in time",
        }
    }
}

/// Looks at the clock once in a while instead of setting a timer with every call.
#[derive(Debug)]
pub(super) struct Timer {
    limits: Limits,
    sleep: Pin<Box<Sleep>>,
    last_call: Moment,
    /// Since when the rest of a frame is awaited, as far as was noticed.
    partial: Option<Moment>,
    /// How far the client had read its answers, and since when it has not read on.
    stalled: Option<(u64, Moment)>,
}

impl Timer {
    pub(super) fn new(limits: Limits, now: Moment) -> Self {
        Self {
            limits,
            sleep: Box::pin(tokio::time::sleep(limits.preamble)),
            last_call: now,
            partial: None,
            stalled: None,
        }
    }

    /// A call, or a cancellation, was taken.
    pub(super) const fn call_taken(&mut self, now: Moment) {
        self.last_call = now;
    }

    /// Ready when it is time to look; sets itself anew then.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.sleep.as_mut().poll(context));
        let pause = (self.limits.idle.min(PATIENCE) / 4).max(Duration::from_millis(10));
        self.sleep.as_mut().reset(Instant::now() + pause);
        Poll::Ready(())
    }

    /// What is overdue. The state: was a preamble read, is a frame there in part, does no call wait; and how far the
    /// client has read, if answers wait for it.
    pub(super) fn overdue(
        &mut self,
        now: Moment,
        (greeted, partial, idle): (bool, bool, bool),
        waiting_at: Option<u64>,
    ) -> Option<Overdue> {
        if !greeted {
            return (now.since(self.last_call) >= self.limits.preamble).then_some(Overdue::Preamble);
        }
        self.stalled = match (waiting_at, self.stalled) {
            (None, _) => None,
            (Some(at), Some((before, since))) if at == before => Some((at, since)),
            (Some(at), _) => Some((at, now)),
        };
        self.partial = partial.then(|| self.partial.map_or(now, |since| since.max(self.last_call)));
        let quiet = now.since(self.last_call);
        if self.stalled.is_some_and(|(_, since)| now.since(since) >= PATIENCE) {
            Some(Overdue::Answers)
        } else if self.partial.is_some_and(|since| now.since(since) >= PATIENCE) {
            Some(Overdue::Frame)
        } else if idle && waiting_at.is_none() && quiet >= self.limits.idle {
            Some(Overdue::Idle)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_silence_has_its_limit() {
        let at = |seconds| Moment::after_start(Duration::from_secs(seconds));
        let limits = Limits { preamble: Duration::from_secs(5), idle: Duration::from_secs(600) };
        let mut timer = Timer::new(limits, at(0));
        assert_eq!(timer.overdue(at(4), (false, false, true), None), None);
        assert_eq!(timer.overdue(at(5), (false, true, true), None), Some(Overdue::Preamble));
        timer.call_taken(at(100));
        assert_eq!(timer.overdue(at(140), (true, true, true), None), None, "it may have begun just now");
        assert_eq!(timer.overdue(at(169), (true, true, true), None), None);
        assert_eq!(timer.overdue(at(170), (true, true, true), None), Some(Overdue::Frame));
        assert_eq!(timer.overdue(at(699), (true, false, true), None), None);
        assert_eq!(timer.overdue(at(700), (true, false, false), None), None, "a call is under way");
        assert_eq!(timer.overdue(at(700), (true, false, true), None), Some(Overdue::Idle));
        for (second, read, overdue) in
            [(800, 1, None), (829, 1, None), (830, 1, Some(Overdue::Answers)), (831, 2, None)]
        {
            assert_eq!(timer.overdue(at(second), (true, false, false), Some(read)), overdue);
        }
    }
}
