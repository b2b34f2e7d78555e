//! How long a connection has owed us a word. Pure: the time comes in.
//!
//! Time counts while a call waits for its answer or bytes wait to be sent, over all calls, also those that were given
//! up meanwhile; time without calls does not count. Whatever arrives sets it back.

use std::time::Duration;

use tokio::time::Instant;

/// The silence of one connection.
#[derive(Debug)]
pub(super) struct Silence {
    limit: Duration,
    lasted: Duration,
    /// Since when something waits that is not in `lasted` yet.
    since: Option<Instant>,
}

impl Silence {
    /// Of a connection that may be silent for `limit`.
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, lasted: Duration::ZERO, since: None }
    }

    /// Something arrived.
    pub(super) const fn heard(&mut self) {
        self.lasted = Duration::ZERO;
        self.since = None;
    }

    /// Notes whether something waits from now on. When it will have lasted too long, if nothing comes.
    pub(super) fn note(&mut self, now: Instant, waits: bool) -> Option<Instant> {
        if let Some(since) = self.since {
            self.lasted += now.saturating_duration_since(since);
        }
        self.since = waits.then_some(now);
        waits.then(|| now + self.limit.saturating_sub(self.lasted))
    }

    /// Has it lasted too long?
    pub(super) fn is_too_long(&self) -> bool {
        self.lasted >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waiting_counts_and_a_word_sets_it_back() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut silence = Silence::new(Duration::from_secs(10));
        assert_eq!(silence.note(at(0), true), Some(at(10)));
        assert_eq!(silence.note(at(4), false), None, "the call was given up");
        assert_eq!(silence.note(at(100), true), Some(at(106)), "idle time does not count, that of given up calls does");
        silence.heard();
        assert_eq!(silence.note(at(105), true), Some(at(115)));
        assert!(!silence.is_too_long());
        silence.note(at(115), true);
        assert!(silence.is_too_long());
    }
}
