//! A namespace with its block map, fed as the server feeds them: entries of many commands, effects carried over, then
//! what datanodes report.

use std::time::Duration;

use base::clock::Moment;
use base::process::thread_cpu;
use base::random::SeededRandom;
use bytes::Bytes;
use namenode::blocks::{BlockManager, BlocksConfig};
use namenode::namespace::{Applied, COMMAND_SET_VERSION, Namespace, NewBlock, Outcome as Told};
use proto::cluster::{IncrementalReportRequest, RegisterRequest, ReplicaRecord, ReplicaState, StorageReport};
use proto::error::FsResult;
use proto::ids::{LogIndex, NodeId, Term};
use proto::log::command::Op;
use proto::log::{
    CallerRecord, Command, CommittedBlock, Complete, Create, Delete, Entry, Format, Mkdir, Reclaim, RegisterStorage,
    Settings,
};
use proto::path::FsPath;

use super::Outcome;
use super::names::{self, FILES_PER_DIRECTORY};
use super::report::Report;
use crate::bench::mix::mix;

/// Commands of an entry: as many clients, each with a session and one call on its way.
pub(super) const BATCH: usize = 64;
/// Copies of a block.
const REPLICATION: usize = 3;
/// Changes of an incremental report.
const CHANGES: usize = 1000;
/// The user above all permission checks, and the one that calls.
pub(super) const SUPERUSER: &str = "operator";
pub(super) const USER: &str = "analyst";
pub(super) const CLUSTER: &str = "CID-bench";
pub(super) const POOL: &str = "BP-bench";
const TERM: Term = Term::from_raw(1);
/// Between two looks of the block map at what became due: ten thousand files a second, so that nodes report long before
/// a block has settled. A block that settles first is copied again for nothing, and its commands lie there for nodes
/// that never ask.
const FILES_PER_TICK: u64 = 1024;
const TICK: Duration = Duration::from_millis(100);
/// Inodes and blocks that a step of reclaiming frees, as in the server.
const RECLAIM_STEP: u32 = 128;
/// Steps of reclaiming between two reports of nodes that removed what they were told to.
const STEPS_PER_REPORT: u64 = 256;
/// Names that one call lists, as in the client.
const PAGE: usize = 1000;

/// CPU time that was spent in each part: other work of the machine is not counted.
#[derive(Default)]
struct Spent {
    create: Duration,
    complete: Duration,
    effects: Duration,
    reports: Duration,
}

/// A datanode with its storage.
struct Node {
    node: String,
    storage: String,
    sequence: u64,
    changes: Vec<ReplicaRecord>,
}

/// A namespace and its block map.
pub(super) struct World {
    pub(super) namespace: Namespace,
    pub(super) blocks: BlockManager,
    index: u64,
    calls: u64,
    now: Moment,
    random: SeededRandom,
    nodes: Vec<Node>,
    spent: Spent,
    /// Is time taken? Not where instructions are counted: what reads the clock there cannot be run.
    timed: bool,
}

/// Memory of this process.
pub(super) fn resident_bytes() -> u64 {
    base::process::resident_bytes().unwrap_or(0)
}

/// CPU time of this thread so far, where time is taken.
fn cpu(timed: bool) -> Duration {
    if timed { thread_cpu() } else { Duration::ZERO }
}

/// Who calls: in groups, and no superuser, so that rights are looked at.
pub(super) fn caller() -> CallerRecord {
    CallerRecord { user: USER.into(), groups: vec![USER.into(), "warehouse".into(), "staff".into()] }
}

fn operator() -> CallerRecord {
    CallerRecord { user: SUPERUSER.into(), groups: vec!["supergroup".into()] }
}

fn session(client: usize) -> Bytes {
    Bytes::copy_from_slice(&(mix(client as u64) as u128).to_le_bytes())
}

impl World {
    /// Formatted, with nodes on ten racks.
    pub(super) fn new(nodes: u64, timed: bool) -> Outcome<Self> {
        let now = Moment::START;
        let long = Duration::from_secs(1 << 40);
        // Its time runs in leaps, in which no node falls silent.
        let config =
            BlocksConfig { stale_after: long, dead_after: long, rescan_every: long, ..BlocksConfig::default() };
        let mut world = Self {
            namespace: Namespace::new(),
            blocks: BlockManager::new(config, now),
            index: 0,
            calls: 0,
            now,
            random: SeededRandom::new(1),
            nodes: Vec::new(),
            spent: Spent::default(),
            timed,
        };
        let settings = Settings {
            superuser_group: "supergroup".into(),
            default_replication: 3,
            default_block_size_bytes: 128 << 20,
            max_replication: 512,
            min_block_size_bytes: 1 << 20,
            max_block_size_bytes: 1 << 40,
            lease_hard_limit_ms: 1_200_000,
            feature_level: 1,
            max_blocks_per_file: 10_000,
            max_directory_entries: 1 << 26,
            ..Settings::default()
        };
        let format = Format {
            cluster: CLUSTER.into(),
            pool: POOL.into(),
            superuser: SUPERUSER.into(),
            settings: Some(settings),
        };
        world.apply_own(Op::Format(format))?;
        world.blocks.lead(TERM, now);
        for number in 0..nodes {
            world.add_node(number)?;
        }
        world.blocks.look_at_safe_mode(&world.namespace, now);
        // The first call of a session is number 1: every client makes one.
        world.apply_batch((0..BATCH).map(|_| Op::Tick(proto::log::Tick {})).collect());
        Ok(world)
    }

    fn cpu(&self) -> Duration {
        cpu(self.timed)
    }

    fn add_node(&mut self, number: u64) -> Outcome<()> {
        let (node, storage) = (format!("node-{number:05}"), format!("DS-{number:08}-0000-0000-0000-000000000000"));
        let rack = format!("/rack-{}", number % 10);
        self.apply_own(Op::RegisterStorage(RegisterStorage {
            storage: storage.clone(),
            node: node.clone(),
            media: "DISK".into(),
            rack: rack.clone(),
        }))?;
        let record = self.namespace.storages().last().ok_or("no storage")?;
        self.blocks.add_storage(&record.storage, &record.node, &record.media).map_err(|error| error.to_string())?;
        let id = NodeId::parse(&node).map_err(|error| error.to_string())?;
        let report = StorageReport {
            storage: storage.clone(),
            media: "DISK".into(),
            capacity_bytes: 1 << 44,
            available_bytes: 1 << 44,
            incarnation: 1,
            ..StorageReport::default()
        };
        let request = RegisterRequest {
            node: node.clone(),
            host: format!("10.0.{}.{}", number / 250, number % 250),
            transfer_port: 9866,
            rack,
            storages: vec![report],
            ..RegisterRequest::default()
        };
        self.blocks.registered(&id, &request, self.now);
        self.nodes.push(Node { node, storage, sequence: 1, changes: Vec::new() });
        Ok(())
    }

    /// An entry of the cluster itself.
    fn apply_own(&mut self, op: Op) -> Outcome<Told> {
        let command = Command { op: Some(op), ..Command::default() };
        let entry = self.entry(operator(), vec![command]);
        let applied = self.apply(&entry).0;
        applied.into_iter().next().ok_or("no answer")?.result.map_err(|error| error.to_string())
    }

    fn entry(&self, caller: CallerRecord, commands: Vec<Command>) -> Entry {
        Entry {
            version: COMMAND_SET_VERSION,
            leader_wall_ns: 1_700_000_000_000_000_000 + 1_000_003 * self.index as i64,
            elapsed_ms: 1,
            callers: vec![caller],
            commands,
        }
    }

    /// Applies an entry and carries its effects over, as the core does; the time that the first took.
    fn apply(&mut self, entry: &Entry) -> (Vec<Applied>, Duration) {
        self.index += 1;
        let started = self.cpu();
        let applied = self.namespace.apply(LogIndex::from_raw(self.index), TERM, entry);
        let ended = self.cpu();
        let mut taken = 0;
        for effect in applied.iter().flat_map(|applied| &applied.effects) {
            self.blocks.effect(effect, &self.namespace, self.now);
            taken += 1;
        }
        self.blocks.judge_due(&self.namespace, self.now, 2 * taken);
        self.spent.effects += self.cpu().saturating_sub(ended);
        (applied, ended.saturating_sub(started))
    }

    /// A batch of commands, one of each client.
    fn apply_batch(&mut self, ops: Vec<Op>) -> (Vec<Applied>, Duration) {
        self.calls += 1;
        let call = self.calls;
        let commands = ops
            .into_iter()
            .enumerate()
            .map(|(client, op)| Command {
                caller: 0,
                session: session(client),
                call,
                lowest_unanswered: if client == BATCH { 1 } else { call },
                op: Some(op),
            })
            .collect();
        let entry = self.entry(caller(), commands);
        self.apply(&entry)
    }

    /// The directories of so many files.
    pub(super) fn make_directories(&mut self, files: u64) -> Outcome<()> {
        self.make_tree("bench", files.div_ceil(FILES_PER_DIRECTORY))
    }

    /// Makes a tree of directories that the caller may write in.
    fn make_tree(&mut self, tree: &str, directories: u64) -> Outcome<()> {
        let mkdir = |path: String, mode| Mkdir { path, mode, parents: false, unmasked_mode: None };
        self.apply_own(Op::Mkdir(mkdir(format!("/{tree}"), 0o777)))?;
        let mut number = 0;
        while number < directories {
            let until = directories.min(number + BATCH as u64);
            let ops = (number..until).map(|n| Op::Mkdir(mkdir(names::directory(tree, n), 0o755))).collect();
            let (applied, _) = self.apply_batch(ops);
            for applied in applied {
                applied.result.map_err(|error| error.to_string())?;
            }
            number = until;
        }
        Ok(())
    }

    /// Makes files: create with a first block, complete, report.
    pub(super) fn create_files(&mut self, files: u64) -> Outcome<()> {
        self.create_all(files, &|number| names::file("bench", number))
    }

    /// A directory in which the caller may make and delete.
    pub(super) fn make_top(&mut self) -> Outcome<()> {
        self.apply_own(Op::Mkdir(Mkdir { path: "/top".into(), mode: 0o777, parents: false, unmasked_mode: None }))
            .map(drop)
    }
    /// A tree of so many files.
    pub(super) fn create_tree(&mut self, tree: &str, files: u64) -> Outcome<()> {
        self.make_tree(tree, files.div_ceil(FILES_PER_DIRECTORY))?;
        self.create_all(files, &|number| names::file(tree, number))
    }
    /// One directory with all of them.
    pub(super) fn create_wide(&mut self, tree: &str, files: u64) -> Outcome<()> {
        self.make_tree(tree, 0)?;
        self.create_all(files, &|number| names::wide_file(tree, number))
    }
    /// Node, storage and rack of each.
    pub(super) fn node_names(&self) -> Vec<(String, String, String)> {
        let rack = |number: usize| format!("/rack-{}", number % 10);
        let names = |(number, node): (usize, &Node)| (node.node.clone(), node.storage.clone(), rack(number));
        self.nodes.iter().enumerate().map(names).collect()
    }

    fn create_all(&mut self, files: u64, path: &dyn Fn(u64) -> String) -> Outcome<()> {
        let mut number = 0;
        while number < files {
            let until = files.min(number + BATCH as u64);
            self.create_batch(path, number..until)?;
            if until / FILES_PER_TICK != number / FILES_PER_TICK {
                self.tick();
            }
            number = until;
        }
        self.send_reports(1)?;
        self.tick();
        Ok(())
    }

    fn create_batch(&mut self, path: &dyn Fn(u64) -> String, numbers: std::ops::Range<u64>) -> Outcome<()> {
        let homes: Vec<[usize; REPLICATION]> = numbers.clone().map(|number| self.homes(number)).collect();
        let names_of = |homes: &[usize; REPLICATION]| -> Vec<String> {
            homes.iter().filter_map(|home| self.nodes.get(*home)).map(|node| node.storage.clone()).collect()
        };
        let creates = numbers
            .clone()
            .zip(&homes)
            .map(|(number, homes)| {
                Op::Create(Create {
                    path: path(number),
                    mode: 0o644,
                    with_first_block: true,
                    first_block_storages: names_of(homes),
                    ..Create::default()
                })
            })
            .collect();
        let (applied, took) = self.apply_batch(creates);
        self.spent.create += took;
        let mut drafts: Vec<(u64, u64, NewBlock)> = Vec::with_capacity(BATCH);
        for applied in applied {
            match applied.result.map_err(|error| error.to_string())? {
                Told::Create { inode, lease_epoch, first_block: Some(block), .. } => {
                    drafts.push((inode.raw(), lease_epoch.raw(), block));
                }
                other => return Err(format!("a create was answered with {other:?}")),
            }
        }
        let len_bytes = 64 << 20;
        let names_of = |homes: &[usize; REPLICATION]| -> Vec<String> {
            homes.iter().filter_map(|home| self.nodes.get(*home)).map(|node| node.storage.clone()).collect()
        };
        let completes = drafts
            .iter()
            .zip(&homes)
            .map(|((inode, lease_epoch, block), homes)| {
                let digest = mix(*inode) as u128 * 3;
                Op::Complete(Complete {
                    inode: *inode,
                    lease_epoch: *lease_epoch,
                    last: Some(CommittedBlock {
                        id: block.block.raw(),
                        stamp: block.stamp.raw(),
                        len_bytes,
                        storages: names_of(homes),
                        digest: Bytes::copy_from_slice(&digest.to_le_bytes()),
                    }),
                })
            })
            .collect();
        let (applied, took) = self.apply_batch(completes);
        self.spent.complete += took;
        for applied in applied {
            applied.result.map_err(|error| error.to_string())?;
        }
        for ((_, _, block), homes) in drafts.iter().zip(&homes) {
            let record = ReplicaRecord {
                id: block.block.raw(),
                stamp: block.stamp.raw(),
                len_bytes,
                state: ReplicaState::Finalized.into(),
                ..ReplicaRecord::default()
            };
            for home in homes {
                if let Some(node) = self.nodes.get_mut(*home) {
                    node.changes.push(record);
                }
            }
        }
        self.send_reports(CHANGES)
    }

    /// Three nodes, on two racks at least.
    fn homes(&self, number: u64) -> [usize; REPLICATION] {
        let (count, at) = (self.nodes.len() as u64, mix(number ^ 0xabcd));
        let (second, third) = (1 + at % (count - 2), 1 + (at >> 20) % (count - 2));
        let third = if third >= second { third + 1 } else { third };
        [0, second, third].map(|step| ((at >> 40).wrapping_add(step) % count) as usize)
    }

    /// Sends what nodes with at least so many changes have to say.
    fn send_reports(&mut self, least: usize) -> Outcome<()> {
        for node in &mut self.nodes {
            if node.changes.len() < least {
                continue;
            }
            let request = IncrementalReportRequest {
                node: node.node.clone(),
                storage: node.storage.clone(),
                incarnation: 1,
                first_sequence: node.sequence,
                changes: std::mem::take(&mut node.changes),
            };
            let started = cpu(self.timed);
            let taken = self.blocks.incremental(&request, &self.namespace, self.now);
            self.spent.reports += cpu(self.timed).saturating_sub(started);
            node.sequence += request.changes.len() as u64;
            let taken = taken.map_err(|error| error.to_string())?;
            if taken.reregister || taken.next_sequence != node.sequence {
                return Err("a report was not taken".to_owned());
            }
            node.changes = request.changes;
            node.changes.clear();
        }
        Ok(())
    }

    fn tick(&mut self) {
        self.now = self.now.plus(TICK);
        self.blocks.tick(&self.namespace, self.now, &self.random);
    }

    /// Speed of making files.
    pub(super) fn report_speed(&self, files: u64, report: &mut Report) {
        report.number("files", files);
        report.rate("creates_per_second", files, self.spent.create);
        report.rate("completes_per_second", files, self.spent.complete);
        report.rate("create_and_complete_per_second", files, self.spent.create + self.spent.complete);
        report.rate("block_effects_per_second", 2 * files, self.spent.effects);
        report.rate("replica_reports_per_second", 3 * files, self.spent.reports);
    }

    /// Memory, as the parts say and as the system says.
    pub(super) fn report_memory(&self, files: u64, before_bytes: u64, report: &mut Report) {
        let per_file = |bytes: u64| bytes as f64 / files as f64;
        let resident = resident_bytes().saturating_sub(before_bytes);
        let mut all = 0;
        for (part, bytes) in self.namespace.memory_by_part().into_iter().chain(self.blocks.replicas().memory_by_part())
        {
            report.ratio(&format!("{part}_bytes_per_file"), per_file(bytes));
            all += bytes;
        }
        report.ratio("all_parts_bytes_per_file", per_file(all));
        report.ratio("resident_bytes_per_file", per_file(resident));
        report.number("resident_bytes", resident);
        report.number("blocks_to_judge", self.blocks.blocks_to_judge());
    }

    /// Memory by the account of all parts.
    fn parts_bytes(&self) -> u64 {
        let parts = self.namespace.memory_by_part().into_iter().chain(self.blocks.replicas().memory_by_part());
        parts.map(|(_, bytes)| bytes).sum()
    }

    /// Status of random files.
    pub(super) fn stat_random(&self, calls: u64, rounds: u64, report: &mut Report) -> Outcome<()> {
        let caller = caller();
        let (files, tree) = (self.namespace.counts().files, "bench");
        let paths: Vec<String> = (0..calls).map(|n| names::file(tree, mix(n ^ 0x777) % files)).collect();
        let started = self.cpu();
        for path in (0..rounds).flat_map(|_| &paths) {
            let status = stat(&self.namespace, &caller, path).map_err(|error| error.to_string())?;
            std::hint::black_box(&status);
        }
        report.rate("stats_per_second", calls * rounds, self.cpu().saturating_sub(started));
        Ok(())
    }

    /// Lists every directory.
    pub(super) fn list_all(&self, rounds: u64, report: &mut Report) -> Outcome<()> {
        let caller = caller();
        let files = self.namespace.counts().files;
        let directories = files.div_ceil(FILES_PER_DIRECTORY).min(4000);
        let mut listed = 0;
        let started = self.cpu();
        for number in (0..rounds).flat_map(|_| 0..directories) {
            let path = FsPath::parse(&names::directory("bench", number)).map_err(|error| error.to_string())?;
            let mut after = String::new();
            loop {
                let (page, more) =
                    self.namespace.list(&caller, &path, &after, PAGE).map_err(|error| error.to_string())?;
                listed += page.len() as u64;
                match page.last().filter(|_| more) {
                    Some(last) => after.clone_from(&last.path),
                    None => break,
                }
            }
        }
        report.rate("list_entries_per_second", listed, self.cpu().saturating_sub(started));
        Ok(())
    }

    /// Deletes everything, reclaims it, makes it again under another name: memory must be used again.
    pub(super) fn delete_and_make_again(&mut self, files: u64, report: &mut Report) -> Outcome<()> {
        let full = resident_bytes();
        let started = self.cpu();
        self.apply_own(Op::Delete(Delete { path: "/bench".into(), recursive: true, checked_inode: 0 }))?;
        report.millis("delete_everything_ms", self.cpu().saturating_sub(started));
        let (started, mut longest, mut steps) = (self.cpu(), Duration::ZERO, 0_u64);
        while self.namespace.reclaim_pending() > 0 {
            let entry = self.entry(
                operator(),
                vec![Command { op: Some(Op::Reclaim(Reclaim { limit: RECLAIM_STEP })), ..Command::default() }],
            );
            longest = longest.max(self.apply(&entry).1);
            steps += 1;
            if steps.is_multiple_of(STEPS_PER_REPORT) {
                self.report_gone()?;
            }
        }
        report.rate("reclaimed_per_second", files, self.cpu().saturating_sub(started));
        report.millis("reclaim_longest_step_ms", longest);
        self.report_gone()?;
        report.number("resident_bytes_after_delete", resident_bytes());
        report.number("all_parts_bytes_after_delete", self.parts_bytes());
        self.create_tree("again", files)?;
        let again = resident_bytes();
        report.number("resident_bytes_made_again", again);
        report.number("all_parts_bytes_made_again", self.parts_bytes());
        report.ratio("resident_growth_percent", (again as f64 / full as f64 - 1.0) * 100.0);
        Ok(())
    }

    /// The nodes confirm that the replicas are gone.
    fn report_gone(&mut self) -> Outcome<()> {
        let page = 1 << 16;
        for number in 0..self.nodes.len() {
            let storage =
                self.blocks.storages_named(&[self.nodes.get(number).map_or_else(String::new, |n| n.storage.clone())]);
            let Some(storage) = storage.first().copied() else { continue };
            loop {
                let left = self.blocks.replicas().odd_on(storage, page);
                if left.is_empty() {
                    break;
                }
                let deleted = |block: &proto::ids::BlockId| ReplicaRecord {
                    id: block.raw(),
                    state: ReplicaState::Deleted.into(),
                    ..ReplicaRecord::default()
                };
                let Some(node) = self.nodes.get_mut(number) else { break };
                node.changes.extend(left.iter().map(deleted));
                self.send_reports(1)?;
            }
        }
        self.tick();
        Ok(())
    }
}

/// As a door asks: from text to status.
pub(super) fn stat(namespace: &Namespace, who: &CallerRecord, path: &str) -> FsResult<proto::namespace::FileStatus> {
    namespace.stat(who, &FsPath::parse(path)?)
}
