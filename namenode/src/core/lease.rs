//! Who renewed when, and who writes what: soft state of the leader. Only the release of a lease is logged.
//!
//! Which files a session writes is in the log; here it is kept by session, as entries are applied, so that of very many
//! open files only those of sessions that may be silent are looked at. Each entry is checked against the namespace
//! before anything comes of it, so one too many does no harm, and does not stay: sessions live as long as their programs,
//! and their files may be deleted, replaced or recovered by others. A new leader goes through all open files once, in
//! steps.

mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::clock::Moment;
use proto::ids::{InodeId, SessionId};

use crate::namespace::OpenLease;
use written::Written;

/// Last sign of life of each session that this leader heard of, and the files of those that write.
#[derive(Debug, Default)]
pub struct Leases {
    /// Heard of since `turned`.
    heard: BTreeMap<SessionId, Moment>,
    /// Heard of in the hard limit before it.
    heard_before: BTreeMap<SessionId, Moment>,
    turned: Moment,
    since: Moment,
    files: BTreeMap<SessionId, Written>,
    /// Writing sessions, by the time of the next look at them.
    due: BTreeSet<(Moment, SessionId)>,
}

/// Sessions that are remembered; beyond it all have the whole time again.
const MAX_SESSIONS: usize = 1 << 20;
/// A writing session is looked at this often at least: limits may change.
const LOOK: Duration = Duration::from_secs(5);
/// A session whose files were to be released is looked at again after this time, in case nothing came of it.
const RELEASE_AGAIN: Duration = Duration::from_secs(5);
/// Files of sessions that are heard of, which are looked at with one look at silent ones.
const SWEPT: usize = 512;

impl Leases {
    /// A sign of life: every call of a session renews its leases.
    pub(super) fn touch(&mut self, session: SessionId, now: Moment) {
        if self.heard.len() >= MAX_SESSIONS && !self.heard.contains_key(&session) {
            self.since = now;
            self.heard.clear();
            self.heard_before.clear();
        }
        self.heard.insert(session, now);
    }
    /// A new leader gives every holder the whole time again: it cannot know when they renewed.
    pub(super) fn begin(&mut self, now: Moment) {
        *self = Self { since: now, turned: now, ..Self::default() };
    }
    /// Time since a session was heard of, as far as this leader knows.
    #[must_use]
    pub fn silence(&self, session: SessionId, now: Moment) -> Duration {
        let heard = self.heard.get(&session).or_else(|| self.heard_before.get(&session));
        now.since(*heard.unwrap_or(&self.since))
    }

    /// A session writes a file. `is_its`: does it write this file, as the namespace has it?
    pub(super) fn opened(&mut self, session: SessionId, inode: InodeId, now: Moment, is_its: impl Fn(InodeId) -> bool) {
        // One without files is due until its next look: it may be the same session again.
        let files = self.files.entry(session).or_insert_with(|| {
            self.due.insert((now.plus(LOOK), session));
            Written::default()
        });
        files.insert(inode, is_its);
    }
    /// Files that sessions write, and those that they do not write any more and that were not looked at since.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.files.values().map(Written::len).sum()
    }
    /// It does not any more.
    pub(super) fn closed(&mut self, session: SessionId, inode: InodeId) {
        // The session itself stays until its next look.
        if let Some(files) = self.files.get_mut(&session) {
            files.remove(inode);
        }
    }

    /// Leases whose holders were silent for the hard limit, `most` at a time or a few more. `lease`: what the namespace
    /// says of a file.
    pub(super) fn expired(
        &mut self,
        hard_limit: Duration,
        now: Moment,
        most: usize,
        lease: impl Fn(InodeId) -> Option<OpenLease>,
    ) -> Vec<OpenLease> {
        if now.since(self.turned) >= hard_limit {
            self.turned = now;
            self.heard_before = std::mem::take(&mut self.heard);
        }
        let (mut expired, mut to_sweep) = (Vec::new(), SWEPT);
        while let Some((at, session)) = self.due.first().copied()
            && at <= now
            && expired.len() < most
        {
            self.due.remove(&(at, session));
            let silence = self.silence(session, now);
            let Some(files) = self.files.get_mut(&session) else { continue };
            if files.is_empty() {
                self.files.remove(&session);
                continue;
            }
            if silence < hard_limit {
                let is_its = |inode| lease(inode).is_some_and(|lease| lease.session == Some(session));
                to_sweep -= files.sweep(to_sweep, is_its);
                self.due.insert((now.plus(LOOK.min(hard_limit.saturating_sub(silence))), session));
                continue;
            }
            let mut left = BTreeSet::new();
            for inode in files.take() {
                if let Some(lease) = lease(inode).filter(|lease| lease.session == Some(session)) {
                    expired.push(lease);
                    left.insert(inode);
                }
            }
            if left.is_empty() {
                self.files.remove(&session);
            } else {
                files.put_back(left);
                self.due.insert((now.plus(RELEASE_AGAIN), session));
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use proto::ids::LeaseEpoch;

    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }
    fn session(byte: u8) -> SessionId {
        SessionId::new([byte; 16])
    }
    fn lease(byte: u8) -> OpenLease {
        OpenLease {
            inode: InodeId::from_raw(u64::from(byte)),
            lease_epoch: LeaseEpoch::from_raw(1),
            session: Some(session(byte)),
            unpublished: false,
            reserved_stamp: None,
            recovery: None,
        }
    }
    fn of(inode: InodeId) -> Option<OpenLease> {
        Some(lease(inode.raw() as u8))
    }
    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn only_silence_for_the_whole_limit_ends_a_lease() {
        let mut leases = Leases::default();
        leases.begin(at(100));
        [1, 2, 3]
            .into_iter()
            .for_each(|byte| leases.opened(session(byte), InodeId::from_raw(u64::from(byte)), at(100), |_| true));
        leases.touch(session(1), at(150));
        // One of them writes the third file no more.
        leases.closed(session(3), InodeId::from_raw(3));
        assert!(leases.expired(LIMIT, at(159), 10, of).is_empty(), "a new leader waits the whole limit");
        assert_eq!(leases.expired(LIMIT, at(160), 10, of), [lease(2)]);
        assert!(leases.expired(LIMIT, at(161), 10, of).is_empty(), "told once, for now");
        let of_first = |inode: InodeId| of(inode).filter(|_| inode.raw() == 1);
        assert!(leases.expired(LIMIT, at(166), 10, of_first).is_empty(), "it is closed");
        assert_eq!(leases.silence(session(1), at(200)), Duration::from_secs(50));
        assert_eq!(leases.expired(LIMIT, at(210), 10, of), [lease(1)]);
        assert_eq!(leases.expired(LIMIT, at(215), 10, of), [lease(1)], "again, because nothing came of it");
        assert!(leases.expired(LIMIT, at(220), 10, |_| None).is_empty());
        assert!(leases.files.is_empty() && leases.due.is_empty(), "nothing of what is closed stays");
    }

    #[test]
    fn a_session_that_was_forgotten_was_silent() {
        let mut leases = Leases::default();
        leases.begin(at(0));
        leases.touch(session(1), at(50));
        leases.opened(session(1), InodeId::from_raw(1), at(50), |_| true);
        for now in (60..=180).step_by(10) {
            let silent = leases.expired(LIMIT, at(now), 10, of).len();
            assert_eq!(silent, usize::from(now >= 110), "{now}");
        }
        assert!(leases.heard.is_empty() && leases.heard_before.is_empty(), "what was long silent is not kept");
        assert!(leases.silence(session(1), at(180)) >= LIMIT);
    }

    #[test]
    fn very_many_are_ended_some_at_a_time() {
        let mut leases = Leases::default();
        leases.begin(at(0));
        (0..100).for_each(|byte| leases.opened(session(byte), InodeId::from_raw(u64::from(byte)), at(0), |_| true));
        let mut ended = BTreeSet::new();
        for _ in 0..10 {
            let some = leases.expired(LIMIT, at(60), 10, of);
            assert_eq!(some.len(), 10);
            ended.extend(some.into_iter().map(|lease| lease.inode));
        }
        assert_eq!(ended.len(), 100);
    }

    #[test]
    fn what_others_took_from_a_session_that_lives_does_not_stay() {
        let mut leases = Leases::default();
        leases.begin(at(0));
        // It writes one file after the other, all of which somebody deletes at once.
        for n in 1..=1000 {
            leases.opened(session(1), InodeId::from_raw(n), at(0), |_| false);
        }
        assert!(leases.count() < 5, "{}", leases.count());
        // One that opens and closes all the time has one look before it, not one for each time.
        for n in 1..=100 {
            let inode = InodeId::from_raw(n);
            leases.opened(session(3), inode, at(0).plus(Duration::from_millis(n)), |_| true);
            leases.closed(session(3), inode);
        }
        assert_eq!(leases.due.len(), 2);
        // It writes very many at a time, and all but the last one are taken from it; it opens no more.
        for n in 1..=2000 {
            leases.opened(session(2), InodeId::from_raw(n), at(0), |_| true);
        }
        assert!(leases.count() >= 2000);
        let last = |inode: InodeId| Some(OpenLease { inode, session: Some(session(2)), ..lease(0) });
        let last = |inode: InodeId| last(inode).filter(|_| inode.raw() == 2000);
        for now in 1..=60 {
            [1, 2].into_iter().for_each(|byte| leases.touch(session(byte), at(now)));
            assert!(leases.expired(LIMIT, at(now), 10, last).is_empty());
        }
        assert_eq!((leases.count(), leases.files.len(), leases.due.len()), (1, 1, 1));
        assert_eq!(leases.expired(LIMIT, at(200), 10, last).len(), 1, "it is not forgotten");
    }
}
