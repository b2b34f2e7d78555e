//! A namespace with its log, so that every test can replay it.

use bytes::Bytes;
use proto::error::{ErrorCode, FsResult};
use proto::ids::{GenerationStamp, LogIndex, SessionId, Term};
use proto::log::command::Op;
use proto::log::{
    AddBlock, Append, BeginRecovery, CallerRecord, Command, CommittedBlock, Complete, Create, Delete, Entry,
    FinishRecovery, Format, Mkdir, NewStamp, Publish, Reclaim, RegisterStorage, Rename, Settings, Truncate,
    UpdatePipeline,
};
use proto::namespace::FileStatus;
use proto::path::FsPath;

use crate::namespace::{
    Applied, COMMAND_SET_VERSION, LeaseView, Namespace, NewBlock, OpenFile, Outcome, ReopenedBlock, StorageIndex,
};

/// The user that formats.
pub(super) const SUPER: &str = "hdfs";
/// Smallest block of the test settings.
pub(super) const BLOCK: u64 = 1024;

pub(super) fn settings() -> Settings {
    Settings {
        superuser_group: "supergroup".into(),
        default_replication: 3,
        default_block_size_bytes: 4 * BLOCK,
        max_replication: 512,
        min_block_size_bytes: BLOCK,
        max_block_size_bytes: 1 << 40,
        lease_hard_limit_ms: 60_000,
        feature_level: 1,
        max_blocks_per_file: 100,
        max_directory_entries: 1000,
        ..Default::default()
    }
}

pub(super) fn caller(user: &str) -> CallerRecord {
    CallerRecord { user: user.into(), groups: vec![user.into()] }
}
pub(super) fn path(text: &str) -> FsPath {
    FsPath::parse(text).unwrap()
}
pub(super) fn session(n: u8) -> SessionId {
    SessionId::new([n; 16])
}

/// Who sends a command, and as which call.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) user: &'a str,
    pub(super) session: Option<(SessionId, u64, u64)>,
}

pub(super) fn by(user: &str) -> From<'_> {
    From { user, session: None }
}

pub(super) struct Bench {
    pub(super) namespace: Namespace,
    pub(super) log: Vec<Entry>,
    pub(super) elapsed_ms: u64,
    /// Of the entries.
    pub(super) version: u32,
}

impl Bench {
    /// Not formatted.
    pub(super) fn empty() -> Self {
        Self { namespace: Namespace::new(), log: Vec::new(), elapsed_ms: 10, version: COMMAND_SET_VERSION }
    }
    /// Formatted, with three nodes of one storage each; `/tmp` for everybody.
    pub(super) fn new() -> Self {
        let mut bench = Self::empty();
        let format = Format {
            cluster: "CID-1".into(),
            pool: "BP-1".into(),
            superuser: SUPER.into(),
            settings: Some(settings()),
        };
        bench.run(by(SUPER), Op::Format(format)).result.unwrap();
        for n in 0..3 {
            bench.add_storage(n);
        }
        bench.mkdir(SUPER, "/tmp", 0o1777).unwrap();
        bench
    }
    pub(super) fn add_storage(&mut self, n: u32) {
        let register = RegisterStorage {
            storage: format!("DS-{n}"),
            node: format!("node-{n}"),
            media: "DISK".into(),
            rack: "/default-rack".into(),
        };
        self.run(by(SUPER), Op::RegisterStorage(register)).result.unwrap();
    }
    /// Applies one command as an entry of its own.
    pub(super) fn run(&mut self, from: From<'_>, op: Op) -> Applied {
        self.run_as(caller(from.user), from.session, op)
    }
    /// As [`Bench::run`], of a caller with any groups.
    pub(super) fn run_as(&mut self, caller: CallerRecord, session: Option<(SessionId, u64, u64)>, op: Op) -> Applied {
        let (session, call, lowest_unanswered) = match session {
            Some((session, call, lowest)) => (Bytes::copy_from_slice(session.as_bytes()), call, lowest),
            None => (Bytes::new(), 0, 0),
        };
        let command = Command { caller: 0, session, call, lowest_unanswered, op: Some(op) };
        let entry = Entry {
            version: self.version,
            leader_wall_ns: 1_000_000 * self.log.len() as i64,
            elapsed_ms: self.elapsed_ms,
            callers: vec![caller],
            commands: vec![command],
        };
        let index = LogIndex::from_raw(self.log.len() as u64 + 1);
        let mut applied = self.namespace.apply(index, Term::from_raw(1), &entry);
        self.log.push(entry);
        assert_eq!(applied.len(), 1);
        applied.remove(0)
    }
    pub(super) fn mkdir(&mut self, user: &str, path: &str, mode: u32) -> FsResult<Outcome> {
        self.run(by(user), Op::Mkdir(Mkdir { path: path.into(), mode, parents: false, unmasked_mode: None })).result
    }
    pub(super) fn rename(&mut self, user: &str, from: &str, to: &str, replace: bool) -> FsResult<Outcome> {
        self.run(by(user), Op::Rename(Rename { from: from.into(), to: to.into(), replace, exchange: false })).result
    }
    pub(super) fn delete(&mut self, user: &str, path: &str, recursive: bool) -> FsResult<Outcome> {
        self.run(by(user), Op::Delete(Delete { path: path.into(), recursive, checked_inode: 0 })).result
    }
    /// Creates with a first block on three nodes; returns inode, epoch and block.
    pub(super) fn create(&mut self, user: &str, path: &str, at_once: bool) -> FsResult<Draft> {
        self.create_with(by(user), Create { path: path.into(), publish_at_once: at_once, ..new_file() })
    }
    pub(super) fn create_with(&mut self, from: From<'_>, create: Create) -> FsResult<Draft> {
        match self.run(from, Op::Create(create)).result? {
            Outcome::Create { inode, lease_epoch, first_block, .. } => {
                Ok(Draft { inode: inode.raw(), epoch: lease_epoch.raw(), block: first_block })
            }
            other => panic!("{other:?}"),
        }
    }
    pub(super) fn add_block(&mut self, user: &str, draft: &Draft, len: u64) -> FsResult<NewBlock> {
        let add = AddBlock {
            inode: draft.inode,
            lease_epoch: draft.epoch,
            previous: draft.committed(len),
            storages: homes(3),
        };
        match self.run(by(user), Op::AddBlock(add)).result? {
            Outcome::AddBlock(block) => Ok(block),
            other => panic!("{other:?}"),
        }
    }
    pub(super) fn complete(&mut self, user: &str, draft: &Draft, len: u64) -> FsResult<FileStatus> {
        let complete = Complete { inode: draft.inode, lease_epoch: draft.epoch, last: draft.committed(len) };
        match self.run(by(user), Op::Complete(complete)).result? {
            Outcome::Complete(status) => Ok(status),
            other => panic!("{other:?}"),
        }
    }
    /// A closed file of one block.
    pub(super) fn file(&mut self, user: &str, path: &str, len: u64) -> FileStatus {
        let draft = self.create(user, path, false).unwrap();
        self.complete(user, &draft, len).unwrap()
    }
    /// Opens a closed file for writing at its end.
    pub(super) fn append(&mut self, user: &str, path: &str) -> FsResult<Appending> {
        self.append_with(by(user), path, false)
    }
    pub(super) fn append_with(&mut self, from: From<'_>, path: &str, new_block: bool) -> FsResult<Appending> {
        match self.run(from, Op::Append(Append { path: path.into(), new_block, good: Vec::new() })).result? {
            Outcome::Appending { inode, lease_epoch, status, last } => {
                let block = last.clone().map(|last| NewBlock {
                    block: last.block,
                    stamp: last.stamp,
                    offset_bytes: last.offset_bytes,
                    replication: last.replication,
                    block_size_bytes: last.block_size_bytes,
                    storages: last.storages,
                });
                let draft = Draft { inode: inode.raw(), epoch: lease_epoch.raw(), block };
                Ok(Appending { draft, status, last })
            }
            other => panic!("{other:?}"),
        }
    }
    /// Cuts a closed file: its status, and whether that was all.
    pub(super) fn truncate(&mut self, user: &str, path: &str, len_bytes: u64) -> FsResult<(FileStatus, bool)> {
        match self
            .run(by(user), Op::Truncate(Truncate { path: path.into(), len_bytes, ..Truncate::default() }))
            .result?
        {
            Outcome::Truncated { status, done } => Ok((status, done)),
            other => panic!("{other:?}"),
        }
    }
    /// Reserves a stamp for the open last block of a file.
    pub(super) fn new_stamp(&mut self, user: &str, draft: &Draft) -> FsResult<u64> {
        match self.run(by(user), draft.new_stamp()).result? {
            Outcome::NewStamp { stamp, more } => {
                assert_eq!(more, [StorageIndex(2)]);
                Ok(stamp.raw())
            }
            other => panic!("{other:?}"),
        }
    }
    /// Gives the open last block a reserved stamp, and two nodes.
    pub(super) fn update_pipeline(&mut self, user: &str, draft: &mut Draft, stamp: u64, len: u64) -> FsResult<()> {
        self.run(by(user), draft.update_pipeline(stamp, len, homes(2))).result?;
        if let Some(block) = &mut draft.block {
            block.stamp = GenerationStamp::from_raw(stamp);
        }
        Ok(())
    }
    /// The recovery of the only file that is being recovered.
    pub(super) fn recovery(&self) -> LeaseView {
        let all: Vec<_> = self.namespace.recovering().collect();
        assert_eq!(all.len(), 1, "{all:?}");
        self.namespace.lease(all[0].inode).unwrap()
    }
    /// Ends it, with so many copies of this length.
    pub(super) fn finish(&mut self, view: &LeaseView, len_bytes: u64, copies: u32) -> Applied {
        self.run(by(SUPER), finish(view, len_bytes, copies))
    }
    /// Reclaims until nothing waits.
    pub(super) fn reclaim_all(&mut self) {
        while self.namespace.reclaim_pending() > 0 {
            self.run(by(SUPER), Op::Reclaim(Reclaim { limit: 3 })).result.unwrap();
        }
    }
    /// A file with all its blocks that are committed.
    pub(super) fn open(&self, user: &str, path_text: &str) -> FsResult<OpenFile> {
        self.namespace.open(&caller(user), &path(path_text), 0..u64::MAX, usize::MAX)
    }
    pub(super) fn stat(&self, path_text: &str) -> Option<FileStatus> {
        self.namespace.stat(&caller(SUPER), &path(path_text)).ok()
    }

    /// Replays the log, and loads an image of every kind of moment: all must be equal to the live state.
    pub(super) fn check(&self) {
        assert_eq!(self.namespace.recount(), self.namespace.counts());
        let live = image_of(&self.namespace);
        let mut replayed = Namespace::new();
        replay(&mut replayed, &self.log, 0);
        assert_eq!(replayed.state_hash(), self.namespace.state_hash(), "replay equals live");
        assert_eq!(image_of(&replayed), live, "images are byte-identical");
        let mut loaded = Namespace::read_from(&mut live.as_slice()).unwrap();
        assert_eq!(loaded.state_hash(), self.namespace.state_hash(), "a loaded image equals live");
        assert_eq!(loaded.recount(), self.namespace.counts());
        assert_eq!(image_of(&loaded), live);
        // What comes after must be the same too: ids, stamps, order of reclaiming.
        let next = Entry {
            version: self.version,
            callers: vec![caller(SUPER)],
            commands: vec![
                command(Op::Reclaim(Reclaim { limit: 2 })),
                command(Op::Create(Create { path: "/after".into(), ..new_file() })),
            ],
            ..Entry::default()
        };
        let at = LogIndex::from_raw(self.log.len() as u64 + 1);
        let one = replayed.apply(at, Term::from_raw(2), &next);
        assert_eq!(one, loaded.apply(at, Term::from_raw(2), &next));
        assert_eq!(replayed.state_hash(), loaded.state_hash());
    }
}

pub(super) fn replay(namespace: &mut Namespace, log: &[Entry], from: usize) {
    for (i, entry) in log.iter().enumerate().skip(from) {
        namespace.apply(LogIndex::from_raw(i as u64 + 1), Term::from_raw(1), entry);
    }
}
pub(super) fn image_of(namespace: &Namespace) -> Vec<u8> {
    let mut bytes = Vec::new();
    namespace.freeze().write_to(&mut bytes).unwrap();
    bytes
}
pub(super) fn command(op: Op) -> Command {
    Command { op: Some(op), ..Command::default() }
}
pub(super) fn homes(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("DS-{n}")).collect()
}
pub(super) fn new_file() -> Create {
    Create { mode: 0o644, with_first_block: true, first_block_storages: homes(3), ..Create::default() }
}
pub(super) fn code<T: std::fmt::Debug>(result: FsResult<T>) -> ErrorCode {
    result.expect_err("a refusal").code
}

/// The end of a recovery.
pub(super) fn finish(view: &LeaseView, len_bytes: u64, copies: u32) -> Op {
    Op::FinishRecovery(FinishRecovery {
        inode: view.lease.inode.raw(),
        lease_epoch: view.lease.lease_epoch.raw(),
        id: view.last_block.as_ref().unwrap().block.raw(),
        stamp: view.lease.recovery.unwrap().stamp.raw(),
        len_bytes,
        storages: homes(copies),
    })
}

/// A closed file that is open for writing at its end.
#[derive(Clone, Debug)]
pub(super) struct Appending {
    pub(super) draft: Draft,
    pub(super) status: FileStatus,
    pub(super) last: Option<ReopenedBlock>,
}

/// A file under construction.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) inode: u64,
    pub(super) epoch: u64,
    pub(super) block: Option<NewBlock>,
}

impl Draft {
    fn last(&self) -> (i64, u64) {
        self.block.as_ref().map_or((7, 7), |block| (block.block.raw(), block.stamp.raw()))
    }
    pub(super) fn new_stamp(&self) -> Op {
        let (id, stamp) = self.last();
        let (inode, lease_epoch) = (self.inode, self.epoch);
        Op::NewStamp(NewStamp { inode, lease_epoch, id, stamp, more: vec!["DS-2".into()] })
    }
    pub(super) fn update_pipeline(&self, new_stamp: u64, len_bytes: u64, storages: Vec<String>) -> Op {
        let (id, stamp) = self.last();
        let (inode, lease_epoch) = (self.inode, self.epoch);
        Op::UpdatePipeline(UpdatePipeline { inode, lease_epoch, id, stamp, new_stamp, len_bytes, storages })
    }
    pub(super) fn publish(&self) -> Op {
        Op::Publish(Publish { inode: self.inode, lease_epoch: self.epoch })
    }
    pub(super) fn begin_recovery(&self) -> Op {
        Op::BeginRecovery(BeginRecovery { inode: self.inode, lease_epoch: self.epoch })
    }
    /// The last block with a length and two proven copies.
    pub(super) fn committed(&self, len_bytes: u64) -> Option<CommittedBlock> {
        self.block.as_ref().map(|block| CommittedBlock {
            id: block.block.raw(),
            stamp: block.stamp.raw(),
            len_bytes,
            storages: homes(2),
            digest: Bytes::new(),
        })
    }
}
