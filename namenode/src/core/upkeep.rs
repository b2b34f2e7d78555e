//! What the cluster does by itself: formatting, time, leases, reclaiming, images.

use std::collections::BTreeSet;
use std::time::Duration;

use base::clock::Moment;
use parking_lot::RwLockWriteGuard;
use proto::log::command::Op;
use proto::log::{self, CallerRecord};

use super::batch::{Step, Then, Waiting};
use super::trash::{Found, Trash};
use super::{Bootstrap, Effect, ImageJob, NamenodeCore};
use crate::consensus::{ImageInfo, ImageMeta, Room};

/// Where the cluster's own work stands.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// When the last entry was proposed: time in the log counts from it.
    pub(super) last_entry: Moment,
    /// Steps in the log.
    pub(super) running: BTreeSet<Step>,
    bytes: u64,
    entries: u64,
    image_under_way: bool,
    image_retry: Option<Moment>,
    leases_at: Moment,
    accesses_at: Moment,
    /// The last tick.
    pub(super) ticked: Moment,
    pub(super) trash: Trash,
}

/// Steps of the block map's scans in one tick; whoever waits may read in between.
const STEPS_PER_TICK: usize = 16;
/// Inodes and blocks that one step of reclaiming takes: a third of a millisecond of the apply thread (measured: 2.6 µs
/// each, replicas included).
const RECLAIM_STEP: u32 = 128;
/// Time between two looks at leases.
const LEASE_LOOK: Duration = Duration::from_secs(1);
/// Leases that are released with one look.
const RELEASES: usize = 512;
/// Time between two entries of access times.
const ACCESS_TIMES_EVERY: Duration = Duration::from_secs(10);
/// Time after which an image that could not be written is tried again.
const IMAGE_RETRY: Duration = Duration::from_secs(60);
/// Age of a quorum's answer after which a leader of a group asks again.
const QUORUM_ASK: Duration = Duration::from_secs(1);

impl Upkeep {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            last_entry: now,
            running: BTreeSet::new(),
            bytes: 0,
            entries: 0,
            image_under_way: false,
            image_retry: None,
            leases_at: now,
            accesses_at: now,
            ticked: now,
            trash: Trash::new(now),
        }
    }
    pub(super) fn done(&mut self, step: Step) {
        self.running.remove(&step);
    }
    /// Begins a step. False if it is under way.
    fn begin(&mut self, step: Step) -> bool {
        self.running.insert(step)
    }
    pub(super) fn note_entry(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.entries += 1;
    }
}

impl NamenodeCore {
    /// Time passed.
    pub(super) fn tick(&mut self, now: Moment, wall_ns: i64, out: &mut Vec<Effect>) {
        self.consensus.tick();
        self.upkeep.ticked = now;
        {
            let mut member = self.shared.member.write();
            member.uptime_ms = now.since(self.started).as_millis() as u64;
            member.log_stalled = self.consensus.is_stalled();
        }
        if self.role.serving && self.alone() {
            self.shared.blocks.write().quorum_confirmed(now);
        }
        self.tick_blocks(now);
        // Followers write images as well: their log would grow for ever.
        if self.upkeep.image_retry.is_some_and(|at| at <= now) {
            self.upkeep.image_retry = None;
        }
        self.relieve_the_disk(now, out);
        if !self.role.serving {
            return;
        }
        self.bootstrap();
        self.scan_leases(now);
        self.look_at_leases(now);
        self.look_at_recoveries(now);
        self.log_access_times(now);
        self.look_at_trash(now, wall_ns);
        self.end_maintenance(now);
        if now.since(self.upkeep.last_entry) >= self.config.idle_entry {
            self.step(Step::Time, [Op::Tick(log::Tick {})]);
        }
        if !self.alone() && !self.asking() {
            self.ask_if_due(now, out);
        }
        self.retry_parked((now, wall_ns), out);
    }

    fn ask_if_due(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let stale = self.shared.blocks.read().quorum_age(now).is_none_or(|age| age >= QUORUM_ASK);
        if stale {
            self.ask_quorum(now, out);
        }
    }

    fn tick_blocks(&self, now: Moment) {
        let namespace = self.shared.namespace.read();
        if namespace.identity().is_none() {
            return;
        }
        let mut blocks = self.shared.blocks.write();
        let mut more = blocks.tick(&*namespace, now, &*self.random);
        for _ in 1..STEPS_PER_TICK {
            if !more {
                break;
            }
            RwLockWriteGuard::bump(&mut blocks);
            more = blocks.step(&*namespace, now);
        }
    }

    /// Puts the cluster's own operations to the log, one group of a kind at a time.
    pub(super) fn step(&mut self, step: Step, ops: impl IntoIterator<Item = Op>) {
        if !self.upkeep.begin(step) {
            return;
        }
        let record = self.own_record();
        for op in ops {
            self.own(record.clone(), op, step);
        }
    }
    fn own(&mut self, record: CallerRecord, op: Op, step: Step) {
        self.waiting.push_back(Waiting { record, call: (bytes::Bytes::new(), 0, 0), op, then: Then::Upkeep(step) });
    }

    /// Formats an unformatted cluster: identity, settings, key and first directories in one entry.
    pub(super) fn bootstrap(&mut self) {
        if self.shared.namespace.read().identity().is_some() {
            return;
        }
        let Some(Bootstrap { superuser, settings, directories }) = self.config.bootstrap.clone() else { return };
        if !self.upkeep.begin(Step::Format) {
            return;
        }
        let group = settings.superuser_group.clone();
        let as_user = |user: &str| CallerRecord { user: user.to_owned(), groups: vec![user.to_owned(), group.clone()] };
        let mut key = vec![0; auth::KEY_BYTES];
        self.random.fill(&mut key);
        let format = log::Format {
            cluster: self.identity.cluster.as_str().to_owned(),
            pool: self.identity.pool.as_str().to_owned(),
            superuser: superuser.clone(),
            settings: Some(settings),
        };
        self.own(as_user(&superuser), Op::Format(format), Step::Format);
        self.own(as_user(&superuser), Op::SetBlockKey(log::SetBlockKey { number: 1, key: key.into() }), Step::Format);
        for directory in directories {
            let mkdir = log::Mkdir { path: directory.path, mode: directory.mode, parents: true, unmasked_mode: None };
            self.own(as_user(&directory.owner), Op::Mkdir(mkdir), Step::Format);
        }
    }

    /// Many reads, one entry now and then; nothing while nothing was read.
    fn log_access_times(&mut self, now: Moment) {
        if now.since(self.upkeep.accesses_at) < ACCESS_TIMES_EVERY {
            return;
        }
        self.upkeep.accesses_at = now;
        if let Some(set) = self.shared.accesses.take() {
            self.step(Step::AccessTimes, [Op::SetAccessTimes(set)]);
        }
    }

    fn look_at_trash(&mut self, now: Moment, wall_ns: i64) {
        if self.upkeep.running.contains(&Step::Trash) || self.long.is_full() {
            return;
        }
        let found = {
            let namespace = self.shared.namespace.read();
            let record = Self::own_record_in(&namespace);
            self.upkeep.trash.look(&namespace, &record, (now, wall_ns))
        };
        let Found { renames, old } = found;
        if renames.is_empty() && old.is_empty() || !self.upkeep.begin(Step::Trash) {
            return;
        }
        for (record, rename) in renames {
            self.own(record, Op::Rename(rename), Step::Trash);
        }
        for (record, tree) in old {
            self.delete_tree(record, tree, Then::Upkeep(Step::Trash));
        }
    }

    fn look_at_leases(&mut self, now: Moment) {
        if now.since(self.upkeep.leases_at) < LEASE_LOOK {
            return;
        }
        self.upkeep.leases_at = now;
        self.find_recoveries();
        self.look_at_open_blocks(now);
        if self.upkeep.running.contains(&Step::ReleaseLease) {
            return;
        }
        let expired = {
            let namespace = self.shared.namespace.read();
            let limit_ms = namespace.settings().lease_hard_limit_ms;
            if limit_ms == 0 {
                return;
            }
            let lease = |inode| namespace.open_lease(inode);
            self.shared.leases.write().expired(Duration::from_millis(limit_ms), now, RELEASES, lease)
        };
        let release = |lease: crate::namespace::OpenLease| {
            Op::ReleaseLease(log::ReleaseLease {
                session: lease.session.map(|session| session.as_bytes().to_vec().into()).unwrap_or_default(),
                inode: lease.inode.raw(),
                lease_epoch: lease.lease_epoch.raw(),
            })
        };
        if !expired.is_empty() {
            tracing::info!(files = expired.len(), "writers were silent for the lease's hard limit");
            self.step(Step::ReleaseLease, expired.into_iter().map(release));
        }
    }

    /// Goes on with what a commit made necessary.
    pub(super) fn after_commit(&mut self, out: &mut Vec<Effect>) {
        if self.role.serving && self.shared.namespace.read().reclaim_pending() > 0 {
            self.step(Step::Reclaim, [Op::Reclaim(log::Reclaim { limit: RECLAIM_STEP })]);
        }
        let due = self.upkeep.bytes >= self.config.image_every_bytes
            || self.upkeep.entries >= self.config.image_every_entries;
        if due && self.may_write_image() {
            self.begin_image(out);
        }
    }

    const fn may_write_image(&self) -> bool {
        !self.upkeep.image_under_way && self.upkeep.image_retry.is_none()
    }

    fn begin_image(&mut self, out: &mut Vec<Effect>) {
        let namespace = self.shared.namespace.read();
        let (index, term) = namespace.applied();
        let meta = ImageMeta { index, term, state_hash: namespace.state_hash() };
        out.push(Effect::WriteImage(Box::new(ImageJob { meta, frozen: namespace.freeze() })));
        self.upkeep.image_under_way = true;
        self.upkeep.bytes = 0;
        self.upkeep.entries = 0;
    }

    /// On a full disk an image is written before its time (its room is held): the log below the one before it goes.
    fn relieve_the_disk(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let short = self.consensus.room() != Room::Normal;
        if short && self.upkeep.entries > 0 && self.may_write_image() {
            self.begin_image(out);
            self.upkeep.image_retry = Some(now.plus(IMAGE_RETRY));
        }
    }

    /// The image thread is done.
    pub(super) fn image_written(&mut self, result: Result<ImageInfo, String>, now: Moment) {
        self.upkeep.image_under_way = false;
        match result {
            Ok(image) => {
                tracing::info!(index = image.meta.index.raw(), bytes = image.body_bytes, "an image was written");
                self.consensus.image_written(&image);
            }
            Err(error) => {
                tracing::error!(error, "an image could not be written; the log is kept, and it is tried again");
                self.upkeep.bytes = self.config.image_every_bytes;
                self.upkeep.image_retry = Some(now.plus(IMAGE_RETRY));
            }
        }
    }
}
