//! Who renewed when: soft state of the leader. Only the release of a lease is logged.

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use proto::ids::SessionId;

use crate::namespace::OpenLease;

/// Last sign of life of each session that this leader heard of.
#[derive(Debug, Default)]
pub(super) struct Leases {
    heard: BTreeMap<SessionId, Moment>,
    since: Moment,
}

/// Sessions that are remembered; the longest silent ones make room.
const MAX_SESSIONS: usize = 1 << 20;

impl Leases {
    /// A sign of life: every call of a session renews its leases.
    pub(super) fn touch(&mut self, session: SessionId, now: Moment) {
        if self.heard.len() >= MAX_SESSIONS && !self.heard.contains_key(&session) {
            self.since = now;
            self.heard.clear();
        }
        self.heard.insert(session, now);
    }
    /// A new leader gives every holder the whole time again: it cannot know when they renewed.
    pub(super) fn begin(&mut self, now: Moment) {
        self.heard.clear();
        self.since = now;
    }
    /// The leases whose holders were silent for the hard limit. Forgets sessions that were silent twice as long.
    pub(super) fn expired(&mut self, open: Vec<OpenLease>, hard_limit: Duration, now: Moment) -> Vec<OpenLease> {
        self.heard.retain(|_, at| now.since(*at) < hard_limit.saturating_mul(2));
        let silent = |lease: &OpenLease| {
            lease.session.is_some_and(|s| now.since(*self.heard.get(&s).unwrap_or(&self.since)) >= hard_limit)
        };
        open.into_iter().filter(silent).collect()
    }
}

#[cfg(test)]
mod tests {
    use proto::ids::{InodeId, LeaseEpoch};

    use super::*;

    #[test]
    fn only_silence_for_the_whole_limit_ends_a_lease() {
        let at = |secs| Moment::after_start(Duration::from_secs(secs));
        let lease = |byte| OpenLease {
            inode: InodeId::ROOT,
            lease_epoch: LeaseEpoch::from_raw(1),
            session: Some(SessionId::new([byte; 16])),
            unpublished: false,
            reserved_stamp: None,
            recovery: None,
        };
        let mut leases = Leases::default();
        leases.begin(at(100));
        leases.touch(SessionId::new([1; 16]), at(150));
        let limit = Duration::from_secs(60);
        let open = || vec![lease(1), lease(2), OpenLease { session: None, ..lease(3) }];
        assert!(leases.expired(open(), limit, at(159)).is_empty(), "a new leader waits the whole limit");
        assert_eq!(leases.expired(open(), limit, at(160)), [lease(2)]);
        assert_eq!(leases.expired(open(), limit, at(210)).len(), 2);
    }
}
