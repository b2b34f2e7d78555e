//! What happens in a run: a pure function of its seed.
//!
//! ```text
//!   seed ─┬▶ faults(seed, …)        when, what, whom, for how long
//!         └▶ Steps(seed, worker)    what a worker does next: kind, which of its files, how long, how fast
//! ```
//!
//! A step names files by numbers, which the worker takes modulo what it has: that depends on what the cluster did.

use std::time::Duration;

use base::random::{Randomness, SeededRandom};
use clap::ValueEnum;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum FaultKind {
    /// kill -9 of a datanode, and a restart
    KillDatanode,
    /// SIGSTOP of a datanode for 1 to 30 s
    StopDatanode,
    /// kill -9 of the namenode, and a restart
    KillNamenode,
    /// SIGSTOP of the namenode for 1 to 30 s
    StopNamenode,
    /// kill -9 of a client that writes
    KillClient,
    /// Every call on a datanode's disk takes longer
    SlowDisk,
    /// No call on a datanode's disk ends
    HangDisk,
    /// A sync on a datanode's disk fails; it is started again afterwards
    FailSync,
    /// A datanode's disk has no room for blocks
    FullDisk,
    /// Reads from a datanode's disk give flipped bits
    FlipDisk,
}

impl FaultKind {
    /// All of them, with how often each is drawn.
    const WEIGHTS: [(Self, u64); 10] = [
        (Self::KillDatanode, 10),
        (Self::StopDatanode, 5),
        (Self::KillNamenode, 3),
        (Self::StopNamenode, 2),
        (Self::KillClient, 5),
        (Self::SlowDisk, 1),
        (Self::HangDisk, 1),
        (Self::FailSync, 1),
        (Self::FullDisk, 1),
        (Self::FlipDisk, 1),
    ];

    /// All of them.
    pub(super) fn all() -> Vec<Self> {
        Self::WEIGHTS.map(|(kind, _)| kind).to_vec()
    }
    /// Name in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::KillDatanode => "kill_datanode",
            Self::StopDatanode => "stop_datanode",
            Self::KillNamenode => "kill_namenode",
            Self::StopNamenode => "stop_namenode",
            Self::KillClient => "kill_client",
            Self::SlowDisk => "slow_disk",
            Self::HangDisk => "hang_disk",
            Self::FailSync => "fail_sync",
            Self::FullDisk => "full_disk",
            Self::FlipDisk => "flip_disk",
        }
    }
    /// What a disk does wrong, as a line of a plan of [`base::disk::FaultyDisk`]: it strikes the files of blocks.
    pub(super) const fn disk_plan(self) -> Option<&'static str> {
        Some(match self {
            Self::SlowDisk => "any delay=40 on=/current/ from=1",
            Self::HangDisk => "any hang on=/current/ from=1",
            Self::FailSync => "sync fail=EIO on=blk_ at=1",
            Self::FullDisk => "write fail=ENOSPC on=blk_ from=1",
            Self::FlipDisk => "read flip on=blk_ from=1",
            _ => return None,
        })
    }
    const fn is_of_a_datanode(self) -> bool {
        matches!(self, Self::KillDatanode | Self::StopDatanode) || self.disk_plan().is_some()
    }
    const fn is_of_the_namenode(self) -> bool {
        matches!(self, Self::KillNamenode | Self::StopNamenode)
    }
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// From the beginning of the load.
    pub(super) at: Duration,
    pub(super) kind: FaultKind,
    /// Number of the datanode, from 1; 0 where none is meant.
    pub(super) node: u16,
    pub(super) lasts: Duration,
}

impl Fault {
    fn end(&self) -> Duration {
        self.at + self.lasts
    }
}

/// What the faults of a run are to be.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) seed: u64,
    pub(super) datanodes: u16,
    pub(super) length: Duration,
    /// Kinds that are allowed.
    pub(super) kinds: Vec<FaultKind>,
}

/// Time before the first fault: files are there by then.
const FIRST_MS: u64 = 3000;
/// Time between two faults.
const GAP_MS: (u64, u64) = (1500, 5000);
/// No client is killed in the last part of a run: its leases need time to run out.
const LAST_CLIENT: Duration = Duration::from_secs(45);
/// A second datanode breaks only for as long as this.
const SHORT_MS: u64 = 4000;
/// Longest time that a datanode stays dead: long enough for the copies of what has one copy left to begin.
const LONG_MS: (u64, u64) = (14_000, 35_000);

/// The faults of a run, in the order of time. All of them are over at its end.
///
/// The last datanode is never killed, and the namenode only in the first half: their memory is looked at over a long time.
pub(super) fn faults(wanted: &Wanted) -> Vec<Fault> {
    let random = SeededRandom::new(wanted.seed);
    let mut faults: Vec<Fault> = Vec::new();
    let mut at = Duration::from_millis(FIRST_MS + random.below(1000));
    while at < wanted.length {
        let fault = one(wanted, &random, &faults, at);
        if let Some(fault) = fault.filter(|fault| fault.end() <= wanted.length) {
            faults.push(fault);
        }
        at += Duration::from_millis(GAP_MS.0 + random.below(GAP_MS.1 - GAP_MS.0));
    }
    faults
}

/// A fault at a moment, unless those that are under way leave no room for the one that was drawn.
fn one(wanted: &Wanted, random: &SeededRandom, faults: &[Fault], at: Duration) -> Option<Fault> {
    let under_way = || faults.iter().filter(move |fault| fault.end() > at);
    let kind = draw(random, &FaultKind::WEIGHTS);
    // Everything is drawn in any case, so that what is left out changes nothing that comes later.
    let (node, long, part) = (random.below(wanted.datanodes.into()), random.below(10) < 3, random.below(1000));
    if !wanted.kinds.contains(&kind) {
        return None;
    }
    let mut lasts_ms = match kind {
        FaultKind::KillDatanode if long => between(LONG_MS, part),
        FaultKind::KillDatanode => between((200, SHORT_MS), part),
        FaultKind::KillNamenode => between((100, 3000), part),
        // The square: short ones are more frequent, all lengths occur.
        FaultKind::StopDatanode | FaultKind::StopNamenode => between((1000, 30_000), part * part / 1000),
        FaultKind::KillClient => between((50, 4000), part),
        FaultKind::SlowDisk | FaultKind::HangDisk | FaultKind::FailSync | FaultKind::FullDisk | FaultKind::FlipDisk => {
            between((1000, 12_000), part)
        }
    };
    let mut node = u16::try_from(node).unwrap_or(0) + 1;
    if kind.is_of_the_namenode() {
        if under_way().any(|fault| fault.kind.is_of_the_namenode()) {
            return None;
        }
        if kind == FaultKind::KillNamenode && at * 2 > wanted.length {
            return None;
        }
        node = 0;
    } else if kind.is_of_a_datanode() {
        let broken: Vec<&Fault> = under_way().filter(|fault| fault.kind.is_of_a_datanode()).collect();
        match broken[..] {
            [] => {}
            [other] if other.node != node => lasts_ms = lasts_ms.min(SHORT_MS),
            _ => return None,
        }
        if matches!(kind, FaultKind::KillDatanode | FaultKind::FailSync) && node == wanted.datanodes {
            return None;
        }
    } else {
        if at + LAST_CLIENT > wanted.length {
            return None;
        }
        node = 0;
    }
    Some(Fault { at, kind, node, lasts: Duration::from_millis(lasts_ms) })
}

/// A number of a range, `part` thousandths from its beginning.
const fn between((from, to): (u64, u64), part: u64) -> u64 {
    from + (to - from) * part / 1000
}

/// One of several, each as often as its weight says.
fn draw<T: Copy>(random: &SeededRandom, weights: &[(T, u64)]) -> T {
    let mut left = random.below(weights.iter().map(|(_, weight)| weight).sum());
    for (value, weight) in weights {
        if left < *weight {
            return *value;
        }
        left -= weight;
    }
    weights[0].0
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A new file.
    Write,
    /// A new file in the place of one that is there.
    Overwrite,
    /// A new file that is flushed and synced while it is written.
    WriteFlushed,
    /// An addition to a file, at any byte.
    Append,
    /// A file is cut, at any byte.
    Truncate,
    /// A writer that is dropped before it is closed: nothing may come of it.
    Abandon,
    /// A file of the worker's own, from its beginning to its end.
    Read,
    /// Ranges of a file.
    ReadRanges,
    /// A file of another worker, whatever that does with it meanwhile.
    ReadOther,
    /// A move to a new name.
    Rename,
    /// A move onto a name that is there.
    Replace,
    Delete,
    List,
    /// A snapshot of the worker's directory; the one before goes.
    Snapshot,
    /// A file as it was when the snapshot was made.
    ReadSnapshot,
}

impl Kind {
    const WEIGHTS: [(Self, u64); 15] = [
        (Self::Write, 20),
        (Self::Overwrite, 8),
        (Self::WriteFlushed, 12),
        (Self::Append, 14),
        (Self::Truncate, 5),
        (Self::Abandon, 2),
        (Self::Read, 18),
        (Self::ReadRanges, 8),
        (Self::ReadOther, 12),
        (Self::Rename, 5),
        (Self::Replace, 3),
        (Self::Delete, 8),
        (Self::List, 5),
        (Self::Snapshot, 2),
        (Self::ReadSnapshot, 5),
    ];

    /// Name in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Overwrite => "overwrite",
            Self::WriteFlushed => "write_flushed",
            Self::Append => "append",
            Self::Truncate => "truncate",
            Self::Abandon => "abandon",
            Self::Read => "read",
            Self::ReadRanges => "read_ranges",
            Self::ReadOther => "read_other",
            Self::Rename => "rename",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Snapshot => "snapshot",
            Self::ReadSnapshot => "read_snapshot",
        }
    }
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) kind: Kind,
    /// Which of what is there.
    pub(super) pick: u64,
    /// Which of the others, or where in a file.
    pub(super) other: u64,
    /// Length of a new content.
    pub(super) len_bytes: u64,
    /// Copies of a new file.
    pub(super) replication: u32,
    pub(super) block_size_bytes: u64,
    /// Rest after each piece that is written: slow writers are under way for seconds.
    pub(super) rest: Duration,
}

/// Bytes that are given to a writer at a time.
pub(super) const PIECE_BYTES: u64 = 64 << 10;

/// The steps of a worker, without an end.
#[derive(Debug)]
pub(super) struct Steps {
    random: SeededRandom,
}

impl Steps {
    /// Those of a worker of the run with this seed.
    pub(super) fn new(seed: u64, worker: u64) -> Self {
        // Far from the seeds of the neighbours.
        let apart = SeededRandom::new(seed ^ (worker + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).next_u64();
        Self { random: SeededRandom::new(apart) }
    }
}

impl Iterator for Steps {
    type Item = Step;
    fn next(&mut self) -> Option<Step> {
        let random = &self.random;
        let kind = draw(random, &Kind::WEIGHTS);
        let (pick, other) = (random.next_u64(), random.next_u64());
        let (size, part) = (random.below(100), random.below(1 << 20));
        let (from, to) = match size {
            0..3 => (0, 1),
            3..55 => (1, 64 << 10),
            55..90 => (64 << 10, 2 << 20),
            _ => (2 << 20, 12 << 20),
        };
        let len_bytes = from + (to - from) * part / (1 << 20);
        let replication = if random.below(10) < 3 { 2 } else { 3 };
        let block_size_bytes = [1 << 20, 2 << 20, 8 << 20][random.below(3) as usize % 3];
        let slow = random.below(4) == 0;
        let longest_ms = (6000 / (len_bytes / PIECE_BYTES + 1)).min(500);
        let rest = Duration::from_millis(if slow { random.below(longest_ms + 1) } else { 0 });
        Some(Step { kind, pick, other, len_bytes, replication, block_size_bytes, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn wanted(seed: u64, minutes: u64) -> Wanted {
        Wanted { seed, datanodes: 5, length: Duration::from_secs(minutes * 60), kinds: FaultKind::all() }
    }

    #[test]
    fn the_same_seed_is_the_same_run_and_another_is_not() {
        assert_eq!(faults(&wanted(7, 10)), faults(&wanted(7, 10)));
        assert_ne!(faults(&wanted(7, 10)), faults(&wanted(8, 10)));
        let steps = |seed, worker| Steps::new(seed, worker).take(100).collect::<Vec<_>>();
        assert_eq!(steps(7, 3), steps(7, 3));
        assert_ne!(steps(7, 3), steps(7, 4));
        assert_ne!(steps(7, 3), steps(8, 3));
    }

    #[test]
    fn every_kind_occurs_every_few_seconds_and_all_are_over_at_the_end() {
        for seed in 0..20 {
            let wanted = wanted(seed, 30);
            let faults = faults(&wanted);
            let kinds: BTreeSet<FaultKind> = faults.iter().map(|fault| fault.kind).collect();
            assert_eq!(kinds.len(), FaultKind::WEIGHTS.len(), "seed {seed}");
            let each = wanted.length.as_secs_f64() / faults.len() as f64;
            assert!((2.0..10.0).contains(&each), "seed {seed}: one in {each} s");
            assert!(faults.iter().all(|fault| fault.end() <= wanted.length));
            assert!(faults.windows(2).all(|two| two[0].at < two[1].at));
        }
    }

    #[test]
    fn no_more_breaks_at_a_time_than_must_be_survived() {
        for seed in 0..50 {
            let faults = faults(&wanted(seed, 20));
            for (number, fault) in faults.iter().enumerate() {
                let together: Vec<&Fault> = faults[..number].iter().filter(|one| one.end() > fault.at).collect();
                let nodes: Vec<u16> =
                    together.iter().filter(|one| one.kind.is_of_a_datanode()).map(|one| one.node).collect();
                if fault.kind.is_of_a_datanode() {
                    assert!(nodes.len() <= 1 && !nodes.contains(&fault.node), "seed {seed}: {fault:?} {together:?}");
                    assert!(nodes.is_empty() || fault.lasts <= Duration::from_millis(SHORT_MS));
                }
                if fault.kind.is_of_the_namenode() {
                    assert!(!together.iter().any(|one| one.kind.is_of_the_namenode()), "seed {seed}");
                }
                assert!(fault.kind != FaultKind::KillDatanode || fault.node < 5, "the last one is never killed");
            }
        }
    }

    #[test]
    fn datanodes_are_away_for_long_enough_that_repair_begins() {
        let long = |fault: &&Fault| fault.kind == FaultKind::KillDatanode && fault.lasts > Duration::from_secs(13);
        let counts = (0..20).map(|seed| faults(&wanted(seed, 30)).iter().filter(long).count());
        assert!(counts.min().is_some_and(|least| least >= 5));
    }

    #[test]
    fn kinds_that_are_not_wanted_do_not_occur_and_change_no_other() {
        let all = faults(&wanted(3, 30));
        let clients = faults(&Wanted { kinds: vec![FaultKind::KillClient], ..wanted(3, 30) });
        assert!(clients.iter().all(|fault| fault.kind == FaultKind::KillClient));
        let of_all: Vec<Fault> = all.into_iter().filter(|fault| fault.kind == FaultKind::KillClient).collect();
        assert_eq!(clients, of_all);
    }

    #[test]
    fn steps_are_of_every_kind_and_files_of_every_length() {
        let steps: Vec<Step> = Steps::new(1, 1).take(5000).collect();
        let kinds: BTreeSet<Kind> = steps.iter().map(|step| step.kind).collect();
        assert_eq!(kinds.len(), Kind::WEIGHTS.len());
        let share = |fits: &dyn Fn(&Step) -> bool| steps.iter().filter(|step| fits(step)).count() as f64 / 5000.0;
        assert!(share(&|step| step.len_bytes == 0) > 0.01);
        assert!(share(&|step| step.len_bytes > step.block_size_bytes) > 0.05, "files of many blocks");
        assert!((0.2..0.4).contains(&share(&|step| step.replication == 2)));
        assert!(share(&|step| step.rest > Duration::ZERO) > 0.1, "slow writers");
        let longest = steps.iter().map(|step| step.rest * u32::try_from(step.len_bytes / PIECE_BYTES + 1).unwrap());
        assert!(longest.max().is_some_and(|most| most <= Duration::from_secs(7)));
    }
}
