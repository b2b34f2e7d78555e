//! The namespace: a deterministic state machine over the log. No clock, no randomness, no I/O.
//!
//! ```text
//!   log::Entry ──apply──▶ [Applied { result, effects, replayed }]     one for each command, in order
//!                  │
//!       ┌──────────┼─────────────┬──────────────┐
//!   sessions     ops/          registry        queue of unlinked trees
//!   (retries)    validate,     (storages,      (reclaimed in bounded steps)
//!                then change   keys, settings)
//!                  │
//!                store        inodes, entries, blocks, open files: 16 KiB pages, running hash
//!                  │
//!   freeze() ──▶ FrozenNamespace ──write_to──▶ image ──read_from──▶ an equal Namespace
//! ```
//!
//! Rules of this module:
//! - *Closed*: whatever a command reads is in the log or came from it. Ids and stamps are given here.
//! - *Validate, then change*: an operation decides first and then makes changes that cannot fail (scar SC-03).
//! - *By inode*: writers name inodes, not paths, and a writer whose file was unlinked is told so (SC-01, SC-02).
//! - *One fact once*: who writes a file is in one table; leases, totals and indexes are derived from it (SC-13).
//!
//! Read `api` first, then `ops/create.rs`, then `store.rs`. Formats: `docs/formats/commands.md`, `image.md`.

pub(crate) mod access;
mod answers;
mod api;
mod audit;
mod diff;
mod fsck;
mod hash;
mod image;
mod ops;
mod query;
mod registry;
mod resolve;
mod services;
mod sessions;
mod store;
mod summary;
#[cfg(test)]
mod tests;
mod view;
pub(crate) mod walk;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use api::*;
pub use fsck::{FileLookedAt, FsckStep};
pub use image::FrozenNamespace;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, GenerationStamp, InodeId, LeaseEpoch, LogIndex, SessionId, Term};
use proto::log::command::Op;
use proto::log::{CallerRecord, Command, Entry, Settings};
use registry::Registry;
pub use services::NodeService;
use sessions::{Admission, Sessions};
use store::Store;
use store::history::Purge;
#[cfg(test)]
pub(crate) use store::looks;

/// The whole namespace.
pub struct Namespace {
    identity: Option<Identity>,
    settings: Settings,
    keys: Vec<BlockKey>,
    registry: Registry,
    store: Store,
    sessions: Sessions,
    next: NextIds,
    /// Tops of unlinked trees, by inode id; the last one is reclaimed first.
    queue: Vec<u64>,
    /// Inodes in those trees. Derived.
    pending: u64,
    /// Trees that snapshots hold, in which what they do not see is looked for; the last one first.
    sweeps: Vec<Sweep>,
    /// A snapshot was removed: what only it saw is being looked for.
    purge: Option<Purge>,
    /// Directories that may have snapshots, by id. Derived.
    snapshottable: BTreeSet<u64>,
    /// Id of the newest snapshot that was ever made; 0 at first.
    last_snapshot: u64,
    log_time_ms: u64,
    applied: (LogIndex, Term),
    /// What the commands of this slice cost so far: see [`Namespace::apply_within`].
    work: usize,
    /// What the command that is being applied leaves to the leader: see [`Applied::unchecked`].
    unchecked: Option<InodeId>,
}

/// A directory of a tree that snapshots hold, and how far it was looked through.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Sweep {
    /// Its id.
    directory: u64,
    /// Entries up to this name are done.
    after: Box<str>,
    /// The newest snapshot that sees the tree.
    died: u64,
}

/// What the commands of one slice may cost together, in looks at entries: a quarter of a millisecond of ordinary ones.
pub const WORK_AT_ONCE: usize = 1024;
/// What an ordinary command costs: 32 of them are a slice.
pub const COMMAND_WORK: usize = 32;

/// The ids that are given next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct NextIds {
    inode: InodeId,
    block: BlockId,
    stamp: GenerationStamp,
    epoch: LeaseEpoch,
}

impl NextIds {
    /// Are there so many ids of each kind left? The last one is never given: counting would stop at it.
    fn has_left(&self, more: u64) -> bool {
        let inode = self.inode.raw().checked_add(more);
        let block = self.block.raw().checked_add_unsigned(more);
        let rest = self.stamp.raw().checked_add(more).and(self.epoch.raw().checked_add(more));
        inode.and(block).and(rest).is_some()
    }
}

/// The circumstances of one command.
struct Call<'a> {
    /// Of the command set, as the entry has it.
    version: u32,
    caller: Option<&'a CallerRecord>,
    session: Option<SessionId>,
    now_ns: i64,
}

impl Call<'_> {
    fn caller(&self) -> FsResult<&CallerRecord> {
        self.caller.ok_or_else(|| FsError::new(ErrorCode::InvalidArgument, "the command names no caller"))
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Namespace {
    /// An unformatted namespace: everything but `Format` and `Tick` is refused.
    #[must_use]
    pub fn new() -> Self {
        Self {
            identity: None,
            settings: Settings::default(),
            keys: Vec::new(),
            registry: Registry::default(),
            store: Store::new(),
            sessions: Sessions::new(),
            next: NextIds {
                inode: InodeId::ROOT,
                block: BlockId::FIRST,
                stamp: GenerationStamp::FIRST,
                epoch: LeaseEpoch::from_raw(1),
            },
            queue: Vec::new(),
            pending: 0,
            sweeps: Vec::new(),
            purge: None,
            snapshottable: BTreeSet::new(),
            last_snapshot: 0,
            log_time_ms: 0,
            applied: (LogIndex::default(), Term::default()),
            work: 0,
            unchecked: None,
        }
    }

    /// Can this build apply the entry? The caller must stop, not skip, when it cannot: skipping would make this
    /// member differ from the others.
    ///
    /// # Errors
    /// `VersionMismatch` for a newer command set.
    pub fn check_version(entry: &Entry) -> FsResult<()> {
        if entry.version <= COMMAND_SET_VERSION {
            return Ok(());
        }
        let message =
            format!("the log has commands of version {}, this build knows {COMMAND_SET_VERSION}", entry.version);
        Err(FsError::new(ErrorCode::VersionMismatch, message).with_hint("start a newer build on this member"))
    }

    /// Applies one entry; exactly one [`Applied`] for each command, in order. An entry without commands moves time
    /// and index only. An entry that [`Namespace::check_version`] refuses, or that was applied before, changes
    /// nothing and refuses each command.
    pub fn apply(&mut self, index: LogIndex, term: Term, entry: &Entry) -> Vec<Applied> {
        match self.begin(index, term, entry) {
            Ok(()) => self.apply_some(entry, &entry.commands),
            Err(refusal) => entry.commands.iter().map(|_| Applied::refused(refusal.clone())).collect(),
        }
    }

    /// Begins with an entry, whose commands follow by [`Namespace::apply_some`], all of them and in their order: so
    /// that whoever waits to read may look in between.
    ///
    /// # Errors
    /// For an entry that [`Namespace::check_version`] refuses, or that was applied before. Nothing may follow then.
    pub fn begin(&mut self, index: LogIndex, term: Term, entry: &Entry) -> FsResult<()> {
        Self::check_version(entry).and_then(|()| self.check_next(index))?;
        self.applied = (index, term);
        self.log_time_ms = self.log_time_ms.saturating_add(entry.elapsed_ms);
        self.sessions.expire(self.log_time_ms);
        Ok(())
    }

    /// Applies the next commands of an entry; see [`Namespace::begin`].
    pub fn apply_some(&mut self, entry: &Entry, commands: &[Command]) -> Vec<Applied> {
        commands.iter().map(|command| self.apply_one(entry, command)).collect()
    }

    /// As [`Namespace::apply_some`], but only as many commands, at least one, as [`WORK_AT_ONCE`] allows.
    pub fn apply_within(&mut self, entry: &Entry, commands: &[Command]) -> Vec<Applied> {
        let (mut applied, mut work) = (Vec::new(), 0);
        for command in commands {
            self.work = 0;
            applied.push(self.apply_one(entry, command));
            work += COMMAND_WORK + self.work;
            if work >= WORK_AT_ONCE {
                break;
            }
        }
        applied
    }

    fn check_next(&self, index: LogIndex) -> FsResult<()> {
        if index > self.applied.0 {
            return Ok(());
        }
        Err(FsError::new(ErrorCode::Internal, format!("{index} comes after {} was applied", self.applied.0)))
    }

    fn apply_one(&mut self, entry: &Entry, command: &Command) -> Applied {
        let session = match command.session.as_ref() {
            [] => None,
            bytes => match SessionId::from_slice(bytes) {
                Some(session) => Some(session),
                None => return Applied::refused(FsError::new(ErrorCode::InvalidArgument, "a session is 16 bytes")),
            },
        };
        if let Some(session) = session {
            match self.sessions.admit(session, command.call, command.lowest_unanswered, self.log_time_ms) {
                Ok(Admission::New) => {}
                Ok(Admission::Again(answer)) => {
                    return Applied {
                        result: answers::decode(&answer),
                        effects: Vec::new(),
                        replayed: true,
                        looked_up: true,
                        unchecked: None,
                    };
                }
                Err(refusal) => return Applied::refused(refusal),
            }
        }
        let caller = entry.callers.get(command.caller as usize);
        let call = Call { version: entry.version, caller, session, now_ns: entry.leader_wall_ns };
        let mut effects = Vec::new();
        self.unchecked = None;
        let result = self.run(&call, command.op.as_ref(), &mut effects);
        if let Some(session) = session
            && !result.as_ref().is_err_and(|refusal| is_asked_again(entry.version, refusal))
        {
            self.sessions.remember(session, command.call, answers::encode(&result));
        }
        Applied { result, effects, replayed: false, looked_up: session.is_some(), unchecked: self.unchecked.take() }
    }

    fn run(&mut self, call: &Call<'_>, op: Option<&Op>, effects: &mut Vec<BlockEffect>) -> FsResult<Outcome> {
        let Some(op) = op else {
            return Err(FsError::new(ErrorCode::Unsupported, "the command set of this version has no such command"));
        };
        match op {
            Op::Format(format) => return self.format(call, format),
            Op::Tick(_) => return Ok(Outcome::Done),
            _ if self.identity.is_none() => {
                return Err(FsError::new(ErrorCode::Unavailable, "the cluster is not formatted yet"));
            }
            _ => {}
        }
        match op {
            Op::Mkdir(mkdir) => self.mkdir(call, mkdir),
            Op::Create(create) => self.create(call, create, effects),
            Op::AddBlock(add) => self.add_block(call, add, effects),
            Op::AbandonBlock(abandon) => self.abandon_block(call, abandon, effects),
            Op::Complete(complete) => self.complete(call, complete, effects),
            Op::Discard(discard) => self.discard(call, discard, effects),
            Op::Rename(rename) => self.rename(call, rename, effects),
            Op::Delete(delete) => self.delete(call, delete, effects),
            Op::Reclaim(reclaim) => Ok(self.reclaim(reclaim, effects)),
            Op::ReleaseLease(release) => self.release_lease(call, release, effects),
            Op::RegisterStorage(register) => self.register_storage(register),
            Op::SetBlockKey(key) => self.set_block_key(key),
            Op::UpdateSettings(update) => self.update_settings(call, update),
            Op::SetAttributes(set) => self.set_attributes(call, set, effects),
            Op::Symlink(symlink) => self.symlink(call, symlink),
            Op::MakeNode(make) => self.make_node(call, make),
            Op::Link(link) => self.link(call, link),
            Op::SetQuota(set) => self.set_quota(call, set),
            Op::SetXattr(set) => self.set_xattr(call, set),
            Op::RemoveXattr(remove) => self.remove_xattr(call, remove),
            Op::ChangeAcl(change) => self.change_acl(call, change),
            Op::Concat(concat) => self.concat(call, concat, effects),
            Op::SetAccessTimes(set) => Ok(self.set_access_times(set)),
            Op::AllowSnapshots(allow) => self.allow_snapshots(call, allow),
            Op::CreateSnapshot(create) => self.create_snapshot(call, create),
            Op::RenameSnapshot(rename) => self.rename_snapshot(call, rename),
            Op::DeleteSnapshot(delete) => self.delete_snapshot(call, delete),
            Op::NewStamp(new) => self.new_stamp(call, new),
            Op::UpdatePipeline(update) => self.update_pipeline(call, update, effects),
            Op::Publish(publish) => self.publish(call, publish, effects),
            Op::Append(append) => self.append(call, append, effects),
            Op::Truncate(truncate) => self.truncate(call, truncate, effects),
            Op::BeginRecovery(begin) => self.begin_recovery(call, begin, effects),
            Op::RecoverLease(recover) => self.recover_lease(call, recover, effects),
            Op::FinishRecovery(finish) => self.finish_recovery(call, finish, effects),
            Op::SetNodeService(set) => self.set_node_service(call, set),
            Op::Format(_) | Op::Tick(_) => Ok(Outcome::Done),
        }
    }

    /// A view of this moment for writing an image elsewhere, made in time proportional to the number of pages.
    #[must_use]
    pub fn freeze(&self) -> FrozenNamespace {
        FrozenNamespace::of(self)
    }

    /// Reads an image body.
    ///
    /// # Errors
    /// [`ImageError`]: the reader failed, or what it gave is not a whole and consistent image.
    pub fn read_from(reader: &mut (dyn std::io::Read + Send)) -> Result<Self, ImageError> {
        image::read(reader)
    }
}

impl Applied {
    /// What is said of a command that was not applied.
    pub(crate) fn refused(refusal: FsError) -> Self {
        Self { result: Err(refusal), effects: Vec::new(), replayed: false, looked_up: false, unchecked: None }
    }
}

/// An answer as sessions keep it.
type Answer = Arc<[u8]>;

/// Since this version of the commands a call that was refused because the file is open is over.
const SINCE_OPEN_IS_AN_ANSWER: u32 = 8;

/// Is the same call sent again after this refusal, to find out whether it is over? Then it is not remembered. Clients take "is
/// being written" for an answer: what was refused with it does not happen later, when a late copy of the call comes.
fn is_asked_again(version: u32, refusal: &FsError) -> bool {
    let is_answer = version >= SINCE_OPEN_IS_AN_ANSWER
        && refusal.code == ErrorCode::FileOpen
        && !base::mutated!(Sc97RefusalIsForgotten);
    refusal.retryable() && !is_answer
}
