//! Random operations against a simple map: the tree, what callers are told, replay, images, retries.

mod plain;
mod second;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use proto::error::{ErrorCode, FsResult};
use proto::ids::{LogIndex, SessionId, Term};
use proto::log::command::Op;
use proto::log::{
    AbandonBlock, AddBlock, CommittedBlock, Complete, Create, Delete, Discard, Entry, Mkdir, Reclaim, ReleaseLease,
    Rename,
};
use proto::namespace::FileStatus;

use super::harness::{
    BLOCK, Bench, From, SUPER, by, caller, code, command, homes, image_of, new_file, path, replay, session,
};
use crate::namespace::sessions::IDLE_MS;
use crate::namespace::{Applied, BlockEffect, Namespace, Outcome};
use plain::{BLOCK_SIZE, NewFile, Node, Plain};

/// The superuser writes without a session, the others in one.
const USERS: [&str; 3] = [SUPER, "ann", "bob"];

/// A path, chosen when it is needed: most operations are to meet something that is there.
#[derive(Clone, Debug)]
struct Spot {
    kind: Meets,
    pick: usize,
    path: String,
}

#[derive(Clone, Copy, Debug)]
enum Meets {
    Something,
    ADirectory,
    Anything,
}

#[derive(Clone, Debug)]
enum Step {
    Mkdir { user: usize, path: Spot, mode: u32, parents: bool },
    Create { user: usize, path: Spot, mode: u32, overwrite: bool, parents: bool, at_once: bool, first: bool },
    AddBlock { by_holder: bool, draft: usize, len: u64 },
    Abandon { by_holder: bool, draft: usize },
    Complete { by_holder: bool, draft: usize, len: u64 },
    Discard { by_holder: bool, draft: usize },
    Release { draft: usize },
    Repair { by_holder: bool, draft: usize, len: u64 },
    Publish { by_holder: bool, draft: usize },
    Append { user: usize, path: Spot, new_block: bool },
    Truncate { user: usize, path: Spot, len: u64 },
    TakeOver { user: usize, path: Spot },
    EndRecovery { pick: usize, len: u64, copies: u32 },
    Rename { user: usize, from: Spot, to: Spot, replace: bool },
    Delete { user: usize, path: Spot, recursive: bool },
    Reclaim { limit: u32 },
    Look { user: usize, path: Spot },
    Again { user: usize },
    Wait { ms: u64 },
}

fn spots() -> impl Strategy<Value = Spot> {
    let kinds = prop_oneof![2 => Just(Meets::Something), 2 => Just(Meets::ADirectory), 1 => Just(Meets::Anything)];
    let names = proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 0..5);
    (kinds, any::<usize>(), names).prop_map(|(kind, pick, names)| Spot {
        kind,
        pick,
        path: format!("/{}", names.join("/")),
    })
}

fn at(path: &str) -> Spot {
    Spot { kind: Meets::Anything, pick: 0, path: path.into() }
}

fn steps() -> impl Strategy<Value = Step> {
    let modes =
        || proptest::sample::select(vec![0o755_u32, 0o755, 0o777, 0o777, 0o777, 0o1777, 0o1777, 0o700, 0o500, 0]);
    let lens = || prop_oneof![4 => 1..=BLOCK_SIZE, 1 => Just(0), 1 => Just(BLOCK_SIZE), 1 => Just(BLOCK_SIZE + 1)];
    let mostly = || proptest::bool::weighted(0.9);
    let seldom = || proptest::bool::weighted(0.4);
    let user = 0..USERS.len();
    prop_oneof![
        6 => (user.clone(), spots(), modes(), mostly())
            .prop_map(|(user, path, mode, parents)| Step::Mkdir { user, path, mode, parents }),
        8 => (user.clone(), spots(), modes(), (any::<bool>(), mostly(), any::<bool>(), any::<bool>())).prop_map(
            |(user, path, mode, (overwrite, parents, at_once, first))| {
                Step::Create { user, path, mode, overwrite, parents, at_once, first }
            }
        ),
        4 => (mostly(), any::<usize>(), lens())
            .prop_map(|(by_holder, draft, len)| Step::AddBlock { by_holder, draft, len }),
        1 => (mostly(), any::<usize>()).prop_map(|(by_holder, draft)| Step::Abandon { by_holder, draft }),
        8 => (mostly(), any::<usize>(), lens())
            .prop_map(|(by_holder, draft, len)| Step::Complete { by_holder, draft, len }),
        1 => (mostly(), any::<usize>()).prop_map(|(by_holder, draft)| Step::Discard { by_holder, draft }),
        1 => any::<usize>().prop_map(|draft| Step::Release { draft }),
        2 => (mostly(), any::<usize>(), lens())
            .prop_map(|(by_holder, draft, len)| Step::Repair { by_holder, draft, len }),
        1 => (mostly(), any::<usize>()).prop_map(|(by_holder, draft)| Step::Publish { by_holder, draft }),
        3 => (user.clone(), spots(), seldom())
            .prop_map(|(user, path, new_block)| Step::Append { user, path, new_block }),
        3 => (user.clone(), spots(), lens()).prop_map(|(user, path, len)| Step::Truncate { user, path, len }),
        1 => (user.clone(), spots()).prop_map(|(user, path)| Step::TakeOver { user, path }),
        3 => (any::<usize>(), lens(), 0_u32..4)
            .prop_map(|(pick, len, copies)| Step::EndRecovery { pick, len, copies }),
        10 => (user.clone(), spots(), spots(), any::<bool>())
            .prop_map(|(user, from, to, replace)| Step::Rename { user, from, to, replace }),
        3 => (user.clone(), spots(), seldom())
            .prop_map(|(user, path, recursive)| Step::Delete { user, path, recursive }),
        2 => (1_u32..6).prop_map(|limit| Step::Reclaim { limit }),
        4 => (user.clone(), spots()).prop_map(|(user, path)| Step::Look { user, path }),
        3 => user.prop_map(|user| Step::Again { user }),
        1 => (0..IDLE_MS * 2).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// A user's session, and its latest call.
#[derive(Clone)]
struct Caller {
    session: SessionId,
    call: u64,
    latest: Option<(Op, Applied)>,
    heard_ms: u64,
}

struct Twins {
    bench: Bench,
    model: Plain,
    callers: Vec<Option<Caller>>,
    sessions: u8,
    /// Blocks by the effects that the block map is given: stamp, and whether committed.
    blocks: BTreeMap<i64, (u64, bool)>,
    images: Vec<Vec<u8>>,
}

fn node_of(status: &FileStatus) -> Node {
    Node {
        inode: status.inode,
        directory: status.kind == proto::namespace::FileKind::Directory as i32,
        mode: status.mode,
        owner: status.owner.clone(),
        len_bytes: status.len_bytes,
        open: status.open_for_write,
        mtime_ns: status.mtime_ns,
    }
}

impl Twins {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.delete(SUPER, "/tmp", true).unwrap();
        let mut model = Plain::new(node_of(&bench.stat("/").unwrap()));
        model.next_inode += 1;
        let images = vec![image_of(&bench.namespace)];
        let mut twins =
            Self { bench, model, callers: vec![None; USERS.len()], sessions: 0, blocks: BTreeMap::new(), images };
        for (path, mode) in [("/a", 0o777), ("/b", 0o1777)] {
            twins.step(&Step::Mkdir { user: 0, path: at(path), mode, parents: false });
        }
        twins
    }

    /// The path that is meant, now.
    fn path(&self, spot: &Spot) -> String {
        let pick = |of: Vec<&String>| of[spot.pick % of.len()].clone();
        let tree = &self.model.tree;
        match spot.kind {
            Meets::Something => pick(tree.keys().skip(usize::from(tree.len() > 1)).collect()),
            Meets::ADirectory => {
                let directory = pick(tree.iter().filter(|(_, node)| node.directory).map(|(path, _)| path).collect());
                format!("{}/{}", directory.trim_end_matches('/'), &spot.path[1..].get(..1).unwrap_or("a"))
            }
            Meets::Anything => spot.path.clone(),
        }
    }

    fn holder(&mut self, user: usize) -> Option<SessionId> {
        if user == 0 {
            return None;
        }
        let (sessions, heard_ms) = (&mut self.sessions, self.bench.namespace.log_time_ms());
        let caller = self.callers[user].get_or_insert_with(|| {
            *sessions += 1;
            Caller { session: session(*sessions), call: 0, latest: None, heard_ms }
        });
        Some(caller.session)
    }

    /// Sends a command and holds the outcome against what the model says.
    fn send(&mut self, user: usize, op: Op) -> Applied {
        self.holder(user);
        let Some(caller) = self.callers[user].clone() else {
            return self.run(From { user: USERS[user], session: None }, op);
        };
        let call = caller.call + 1;
        let from = From { user: USERS[user], session: Some((caller.session, call, call.saturating_sub(1).max(1))) };
        let applied = self.run(from, op.clone());
        let heard_ms = self.bench.namespace.log_time_ms();
        self.callers[user] = Some(Caller { call, latest: Some((op, applied.clone())), heard_ms, ..caller });
        applied
    }
    fn run(&mut self, from: From<'_>, op: Op) -> Applied {
        let applied = self.bench.run(from, op);
        for effect in &applied.effects {
            match effect {
                BlockEffect::Allocated { block, stamp, .. } => {
                    assert!(self.blocks.insert(block.raw(), (stamp.raw(), false)).is_none(), "an id is given twice");
                }
                BlockEffect::Replicated { block, .. } => assert!(self.blocks.contains_key(&block.raw())),
                BlockEffect::Committed { block, stamp, .. } => {
                    let before = self.blocks.insert(block.raw(), (stamp.raw(), true));
                    assert!(before.is_some_and(|(old, done)| old <= stamp.raw() && !done), "an open block is finished");
                }
                BlockEffect::Restamped { block, stamp, .. } => {
                    let before = self.blocks.insert(block.raw(), (stamp.raw(), false));
                    assert!(before.is_some_and(|(old, done)| old < stamp.raw() && !done), "stamps of a block rise");
                }
                BlockEffect::Reopened { block, stamp, .. } => {
                    assert_eq!(self.blocks.insert(block.raw(), (stamp.raw(), false)), Some((stamp.raw(), true)));
                }
                BlockEffect::Freed { block, stamp, committed, .. } => {
                    assert_eq!(self.blocks.remove(&block.raw()), Some((stamp.raw(), *committed)));
                }
            }
        }
        self.images.push(image_of(&self.bench.namespace));
        applied
    }

    /// A session that was idle for long is forgotten; the client begins another one. True if that is so.
    fn begins_anew(&mut self, user: usize) -> bool {
        let Some(caller) = &self.callers[user] else { return false };
        let idle_ms = self.bench.namespace.log_time_ms() + self.bench.elapsed_ms - caller.heard_ms;
        let holds = self.bench.namespace.open_files().iter().any(|lease| lease.session == Some(caller.session));
        let known = self.bench.namespace.sessions.knows(caller.session);
        if idle_ms < IDLE_MS || holds {
            assert!(known || caller.call == 0, "a session was dropped too early (N-7)");
        }
        if known && idle_ms >= IDLE_MS {
            // It goes with this very entry, or stays: either is right. Do not depend on it.
            self.bench.run(by(SUPER), Op::Tick(proto::log::Tick {})).result.unwrap();
            self.images.push(image_of(&self.bench.namespace));
        }
        if self.bench.namespace.sessions.knows(caller.session) || caller.call == 0 {
            return false;
        }
        self.callers[user] = None;
        true
    }

    fn step(&mut self, step: &Step) {
        if let Step::Wait { ms } = step {
            self.bench.elapsed_ms = *ms;
            self.bench.run(by(SUPER), Op::Tick(proto::log::Tick {})).result.unwrap();
            self.images.push(image_of(&self.bench.namespace));
            self.bench.elapsed_ms = 10;
            return;
        }
        for user in 1..USERS.len() {
            self.begins_anew(user);
        }
        self.model.now_ns = 1_000_000 * self.bench.log.len() as i64;
        match step {
            Step::Mkdir { user, path, mode, parents } => {
                let path = &self.path(path);
                let expected = self.model.mkdir(USERS[*user], path, *mode, *parents);
                let op = Mkdir { path: path.clone(), mode: *mode, parents: *parents, unmasked_mode: None };
                let told = self.send(*user, Op::Mkdir(op)).result;
                agree(step, expected, told, |outcome, inode| matches!(outcome, Outcome::Mkdir(s) if s.inode == inode));
            }
            Step::Create { user, path, mode, overwrite, parents, at_once, first } => {
                let (path, holder) = (&self.path(path), self.holder(*user));
                let new = NewFile {
                    user: USERS[*user],
                    holder,
                    path,
                    mode: *mode,
                    overwrite: *overwrite,
                    parents: *parents,
                    at_once: *at_once,
                    first_block: *first,
                };
                let expected = self.model.create(&new);
                let op = Create {
                    path: path.clone(),
                    mode: *mode,
                    overwrite: *overwrite,
                    parents: *parents,
                    publish_at_once: *at_once,
                    with_first_block: *first,
                    ..new_file()
                };
                let told = self.send(*user, Op::Create(op)).result;
                agree(step, expected, told, |outcome, expected| match outcome {
                    Outcome::Create { inode, lease_epoch, first_block, .. } => {
                        let first = first_block.map(|block| block.block.raw());
                        (inode.raw(), lease_epoch.raw(), first) == expected
                    }
                    _ => false,
                });
            }
            Step::Rename { user, from, to, replace } => {
                let (from, to) = (&self.path(from), &self.path(to));
                let expected = self.model.rename(USERS[*user], from, to, *replace);
                let op = Rename { from: from.clone(), to: to.clone(), replace: *replace, exchange: false };
                let told = self.send(*user, Op::Rename(op)).result;
                agree(step, expected, told, |outcome, ()| outcome == Outcome::Done);
            }
            Step::Delete { user, path, recursive } => {
                let path = &self.path(path);
                let expected = self.model.delete(USERS[*user], path, *recursive);
                let op = Delete { path: path.clone(), recursive: *recursive, checked_inode: 0 };
                let told = self.send(*user, Op::Delete(op)).result;
                agree(step, expected, told, |outcome, (files, directories)| {
                    outcome == Outcome::Deleted { files, directories }
                });
            }
            Step::Reclaim { limit } => {
                let before = self.bench.namespace.reclaim_pending();
                let applied = self.run(by(SUPER), Op::Reclaim(Reclaim { limit: *limit }));
                let pending = self.bench.namespace.reclaim_pending();
                assert_eq!(applied.result, Ok(Outcome::Reclaimed { pending }));
                assert!(applied.effects.len() <= 64 + *limit as usize, "steps are bounded");
                let queue = self.bench.namespace.queue.len();
                assert!(before == 0 || pending < before || queue > 0, "and they end");
            }
            Step::Look { user, path } => self.look(USERS[*user], &self.path(path)),
            Step::Again { user } => self.again(*user),
            Step::Append { user, path, new_block } => {
                let (path, holder) = (&self.path(path), self.holder(*user));
                let expected = self.model.append(USERS[*user], holder, path, *new_block);
                let op = proto::log::Append { path: path.clone(), new_block: *new_block, ..Default::default() };
                let told = self.send(*user, Op::Append(op)).result;
                agree(step, expected, told, |outcome, expected| match outcome {
                    Outcome::Appending { inode, lease_epoch, status, last } => {
                        let last = last.map(|last| (last.block.raw(), last.len_bytes));
                        (inode.raw(), lease_epoch.raw(), status.len_bytes, last) == expected
                    }
                    _ => false,
                });
            }
            Step::Truncate { user, path, len } => {
                let path = &self.path(path);
                let expected = self.model.truncate(USERS[*user], path, *len);
                let op = proto::log::Truncate { path: path.clone(), len_bytes: *len, ..Default::default() };
                let told = self.send(*user, Op::Truncate(op)).result;
                agree(
                    step,
                    expected,
                    told,
                    |outcome, done| matches!(outcome, Outcome::Truncated { done: told, .. } if told == done),
                );
            }
            Step::TakeOver { user, path } => {
                let path = &self.path(path);
                let expected = self.model.recover_lease(USERS[*user], path);
                let op = proto::log::RecoverLease { path: path.clone(), accept_loss: false };
                let told = self.send(*user, Op::RecoverLease(op)).result;
                agree(
                    step,
                    expected,
                    told,
                    |outcome, closed| matches!(outcome, Outcome::Recovering { closed: told, .. } if told == closed),
                );
            }
            Step::EndRecovery { pick, len, copies } => self.end_recovery(step, *pick, *len, *copies),
            Step::AddBlock { draft, .. }
            | Step::Abandon { draft, .. }
            | Step::Complete { draft, .. }
            | Step::Discard { draft, .. }
            | Step::Repair { draft, .. }
            | Step::Publish { draft, .. }
            | Step::Release { draft } => {
                if let Some(draft) = self.pick_draft(*draft) {
                    self.write(step, draft);
                }
            }
            Step::Wait { .. } => {}
        }
        self.compare();
    }

    /// Most calls are for a file that is still being written.
    fn pick_draft(&self, pick: usize) -> Option<usize> {
        let drafts = &self.model.drafts;
        let writing: Vec<usize> = (0..drafts.len()).filter(|at| !drafts[*at].over).collect();
        let any = pick.is_multiple_of(8) || writing.is_empty();
        if any { pick.checked_rem(drafts.len()) } else { Some(writing[pick % writing.len()]) }
    }

    /// Steps of a writer.
    fn write(&mut self, step: &Step, at: usize) {
        self.model.now_ns = 1_000_000 * self.bench.log.len() as i64;
        let draft = self.model.drafts[at].clone();
        let by_holder = match step {
            Step::AddBlock { by_holder, .. }
            | Step::Abandon { by_holder, .. }
            | Step::Complete { by_holder, .. }
            | Step::Discard { by_holder, .. }
            | Step::Repair { by_holder, .. }
            | Step::Publish { by_holder, .. } => *by_holder,
            _ => true,
        };
        let is_holder = |user: &usize| {
            self.callers[*user].as_ref().map(|caller| caller.session) == draft.holder
                && (*user == 0) == draft.holder.is_none()
        };
        let user = (0..USERS.len()).find(is_holder).unwrap_or(1);
        let user = if by_holder { user } else { (user + 1) % USERS.len() };
        let holder = self.holder(user);
        let (inode, lease_epoch) = (draft.inode, draft.epoch);
        let finished = |len_bytes| {
            draft.open_block().map(|(id, stamp)| CommittedBlock {
                id,
                stamp,
                len_bytes,
                storages: homes(2),
                ..CommittedBlock::default()
            })
        };
        match step {
            Step::AddBlock { len, .. } => {
                let expected = self.model.add_block(at, holder, *len);
                let op = AddBlock { inode, lease_epoch, previous: finished(*len), storages: homes(3) };
                let told = self.send(user, Op::AddBlock(op)).result;
                agree(
                    step,
                    expected,
                    told,
                    |outcome, id| matches!(outcome, Outcome::AddBlock(b) if b.block.raw() == id),
                );
            }
            Step::Abandon { .. } => {
                let expected = self.model.abandon(at, holder);
                let (id, stamp) = draft.blocks.last().map_or((7, 7), |block| (block.0, block.1));
                let op = AbandonBlock { inode, lease_epoch, id, stamp };
                let told = self.send(user, Op::AbandonBlock(op)).result;
                agree(step, expected, told, |outcome, ()| outcome == Outcome::Done);
            }
            Step::Complete { len, .. } => {
                let expected = self.model.complete(USERS[user], at, holder, *len);
                let op = Complete { inode, lease_epoch, last: finished(*len) };
                let told = self.send(user, Op::Complete(op)).result;
                agree(
                    step,
                    expected,
                    told,
                    |outcome, (path, len_bytes)| matches!(outcome, Outcome::Complete(status) if (&status.path, status.len_bytes) == (&path, len_bytes)),
                );
            }
            Step::Repair { len, .. } => {
                let (id, stamp) = draft.open_block().unwrap_or((7, 7));
                let expected = self.model.new_stamp(at, holder);
                let op = proto::log::NewStamp { inode, lease_epoch, id, stamp, more: homes(2) };
                let told = self.send(user, Op::NewStamp(op)).result;
                agree(
                    step,
                    expected,
                    told,
                    |outcome, stamp| matches!(outcome, Outcome::NewStamp { stamp: told, .. } if told.raw() == stamp),
                );
                if self.begins_anew(user) {
                    return;
                }
                let new_stamp = self.model.drafts[at].reserved.unwrap_or(7);
                let expected = self.model.update_pipeline(at, holder, *len);
                let (len_bytes, storages) = (*len, homes(2));
                let op = proto::log::UpdatePipeline { inode, lease_epoch, id, stamp, new_stamp, len_bytes, storages };
                let told = self.send(user, Op::UpdatePipeline(op)).result;
                agree(step, expected, told, |outcome, ()| outcome == Outcome::Done);
            }
            Step::Publish { .. } => {
                let expected = self.model.publish(USERS[user], at, holder);
                let told = self.send(user, Op::Publish(proto::log::Publish { inode, lease_epoch })).result;
                agree(
                    step,
                    expected,
                    told,
                    |outcome, path| matches!(outcome, Outcome::Status(status) if status.path == path),
                );
            }
            Step::Discard { .. } => {
                let expected = self.model.give_up(at, holder);
                let told = self.send(user, Op::Discard(Discard { inode, lease_epoch })).result;
                agree(step, expected, told, |outcome, ()| outcome == Outcome::Done);
            }
            _ => {
                let expected = self.model.give_up(at, draft.holder);
                let session = draft.holder.map_or_else(Vec::new, |session| session.as_bytes().to_vec()).into();
                let op = Op::ReleaseLease(ReleaseLease { session, inode, lease_epoch });
                let told = self.run(by(SUPER), op).result;
                agree(step, expected, told, |outcome, ()| outcome == Outcome::Done);
            }
        }
    }

    /// A recovery ends, or what was meant to be its end is refused.
    fn end_recovery(&mut self, step: &Step, pick: usize, len: u64, copies: u32) {
        let drafts = &self.model.drafts;
        let recovering: Vec<usize> =
            (0..drafts.len()).filter(|at| !drafts[*at].over && drafts[*at].recovery.is_some()).collect();
        let Some(at) = pick.checked_rem(recovering.len()).map(|pick| recovering[pick]) else { return };
        let draft = drafts[at].clone();
        let Some((stamp, target)) = draft.recovery else { return };
        let len = target.filter(|_| !pick.is_multiple_of(5)).unwrap_or(len);
        let op = proto::log::FinishRecovery {
            inode: draft.inode,
            lease_epoch: draft.epoch,
            id: draft.open_block().map_or(7, |(id, _)| id),
            stamp,
            len_bytes: len,
            storages: homes(copies),
        };
        let expected = self.model.finish_recovery(at, (copies > 0 && len > 0).then_some(len));
        let told = self.run(by(SUPER), Op::FinishRecovery(op)).result;
        agree(
            step,
            expected,
            told,
            |outcome, len| matches!(outcome, Outcome::Complete(status) if status.len_bytes == len),
        );
    }

    /// The latest call of a session comes once more, as after a lost answer.
    fn again(&mut self, user: usize) {
        let Some(Caller { session, call, latest: Some((op, first)), .. }) = self.callers[user].clone() else { return };
        let before = (self.bench.namespace.store.hash, self.bench.namespace.next);
        let from = From { user: USERS[user], session: Some((session, call, call.saturating_sub(1).max(1))) };
        let again = self.run(from, op);
        assert_eq!((again.result, again.effects, again.replayed), (first.result, vec![], true));
        assert_eq!((self.bench.namespace.store.hash, self.bench.namespace.next), before, "a retry changes nothing");
        if let Some(caller) = &mut self.callers[user] {
            caller.heard_ms = self.bench.namespace.log_time_ms();
        }
    }

    fn look(&self, user: &str, text: &str) {
        let (who, at) = (caller(user), path(text));
        let stat = self.bench.namespace.stat(&who, &at).map(|status| node_of(&status)).map_err(|error| error.code);
        assert_eq!(stat, self.model.find(user, text).cloned(), "{user} looks at {text}");
        let listed = self.bench.namespace.list(&who, &at, "", 1000).map_err(|error| error.code);
        let listed = listed.map(|(page, _)| page.into_iter().map(|status| status.path).collect::<Vec<_>>());
        let expected = self.model.list(user, text);
        assert_eq!(listed, expected.map(|names| names.into_iter().map(str::to_owned).collect()), "{user} lists {text}");
        let opened = self.bench.open(user, text).map_err(|error| error.code);
        let len = opened.as_ref().map(|file| file.status.len_bytes).map_err(|code| *code);
        assert_eq!(len, self.model.open(user, text), "{user} opens {text}");
        if let Ok(file) = opened {
            assert_eq!(file.blocks.iter().map(|block| block.len_bytes).sum::<u64>(), file.status.len_bytes);
        }
    }

    /// The whole tree, page by page, and every derived structure.
    fn compare(&self) {
        let mut found = BTreeMap::new();
        let mut directories = vec!["/".to_owned()];
        found.insert("/".to_owned(), node_of(&self.bench.stat("/").unwrap()));
        while let Some(directory) = directories.pop() {
            let mut after = String::new();
            loop {
                let at = path(&directory);
                let (page, more) = self.bench.namespace.list(&caller(SUPER), &at, &after, 2).unwrap();
                for status in page {
                    let child = at.join(&status.path).unwrap();
                    assert_eq!(self.bench.stat(child.as_str()).map(|found| node_of(&found)), Some(node_of(&status)));
                    if node_of(&status).directory {
                        directories.push(child.as_str().to_owned());
                    }
                    after.clone_from(&status.path);
                    found.insert(child.as_str().to_owned(), node_of(&status));
                }
                if !more {
                    break;
                }
            }
        }
        assert_eq!(found, self.model.tree);
        let counts = self.bench.namespace.counts();
        assert_eq!(self.bench.namespace.recount(), counts);
        let directories = self.model.tree.values().filter(|node| node.directory).count() as u64;
        assert_eq!((counts.directories, counts.files), (directories, self.model.tree.len() as u64 - directories));
        let mut blocks = BTreeMap::new();
        self.bench.namespace.for_each_block(|view| {
            blocks.insert(view.block.raw(), (view.stamp.raw(), view.committed));
        });
        assert_eq!(blocks, self.blocks, "the block map is told of every change (I-12)");
    }

    /// Restarts at every index: image and the rest of the log lead to the same bytes.
    fn restart_everywhere(&self) {
        self.bench.check();
        let last = self.images.last().unwrap();
        let first = self.bench.log.len() + 1 - self.images.len();
        for (i, image) in self.images.iter().enumerate() {
            let mut namespace = Namespace::read_from(&mut image.as_slice()).unwrap();
            assert_eq!(image_of(&namespace), *image, "an image of an image is the same");
            replay(&mut namespace, &self.bench.log, first + i);
            assert_eq!(image_of(&namespace), *last, "from the image at {}", first + i);
            assert_eq!(namespace.state_hash(), self.bench.namespace.state_hash());
        }
    }
}

/// Both said the same.
fn agree<T>(step: &Step, expected: plain::Told<T>, told: FsResult<Outcome>, same: impl FnOnce(Outcome, T) -> bool) {
    match (expected, told) {
        (Ok(expected), Ok(outcome)) => assert!(same(outcome.clone(), expected), "{step:?}: {outcome:?}"),
        (Err(expected), Err(error)) => assert_eq!(error.code, expected, "{step:?}: {error}"),
        (Ok(_), Err(error)) => panic!("{step:?} is refused: {error}"),
        (Err(expected), Ok(outcome)) => panic!("{step:?} must be {expected:?}, not {outcome:?}"),
    }
}

fn fixed(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(fixed(256, 2))]

    #[test]
    fn n_1_n_4_n_7_n_8_random_operations_do_as_a_simple_map_does(steps in proptest::collection::vec(steps(), 1..90)) {
        let mut twins = Twins::new();
        for step in &steps {
            twins.step(step);
        }
        twins.restart_everywhere();
        // Whatever happened: when all is given up and deleted, nothing is left.
        for draft in 0..twins.model.drafts.len() {
            twins.write(&Step::Release { draft }, draft);
        }
        for name in ["/a", "/b", "/c"] {
            twins.step(&Step::Delete { user: 0, path: at(name), recursive: true });
        }
        twins.bench.reclaim_all();
        let left = twins.bench.namespace.counts();
        prop_assert_eq!((left.files, left.directories, left.blocks), (0, 1, 0));
        prop_assert_eq!((left.open_files, left.reclaim_pending), (0, 0));
        twins.bench.check();
    }

    #[test]
    fn n_5_a_name_that_stays_is_listed_once_whatever_happens_around_it(
        stay in proptest::collection::btree_set("[a-z]{1,3}", 1..40),
        churn in proptest::collection::vec(("[a-z]{1,3}", "[a-z]{1,3}", 0_u8..3), 0..80),
        limit in 1_usize..7,
    ) {
        let mut bench = Bench::new();
        bench.mkdir(SUPER, "/d", 0o755).unwrap();
        for name in &stay {
            bench.mkdir(SUPER, &format!("/d/{name}"), 0o755).unwrap();
        }
        let mut churn = churn.into_iter().filter(|(name, other, _)| !stay.contains(name) && !stay.contains(other));
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let (page, more) = bench.namespace.list(&caller(SUPER), &path("/d"), &after, limit).unwrap();
            prop_assert!(page.len() <= limit);
            seen.extend(page.into_iter().map(|status| status.path));
            if !more {
                break;
            }
            after.clone_from(seen.last().unwrap());
            for (name, other, what) in churn.by_ref().take(3) {
                let (name, other) = (format!("/d/{name}"), format!("/d/{other}"));
                match what {
                    0 => bench.mkdir(SUPER, &name, 0o755).map(drop),
                    1 => bench.delete(SUPER, &name, true).map(drop),
                    _ => bench.rename(SUPER, &name, &other, true).map(drop),
                }
                .ok();
            }
        }
        prop_assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "in order, nothing twice: {:?}", seen);
        prop_assert!(stay.iter().all(|name| seen.contains(name)));
    }

    #[test]
    fn i_5_one_entry_or_many_is_the_same_for_the_tree(steps in proptest::collection::vec(steps(), 1..40)) {
        let ops: Vec<(usize, Op)> = steps.into_iter().filter_map(|step| match step {
            Step::Mkdir { user, path, mode, parents } => {
                Some((user, Op::Mkdir(Mkdir { path: path.path, mode, parents, unmasked_mode: None })))
            }
            Step::Create { user, path, mode, overwrite, parents, at_once, .. } => Some((user, Op::Create(Create {
                path: path.path, mode, overwrite, parents, publish_at_once: at_once, ..new_file()
            }))),
            Step::Rename { user, from, to, replace } => {
                Some((user, Op::Rename(Rename { from: from.path, to: to.path, replace, exchange: false })))
            }
            Step::Delete { user, path, recursive } => Some((user, Op::Delete(Delete { path: path.path, recursive, checked_inode: 0 }))),
            Step::Reclaim { limit } => Some((0, Op::Reclaim(Reclaim { limit }))),
            _ => None,
        }).collect();
        let entry = |commands: Vec<proto::log::Command>| {
            Entry { version: 1, callers: USERS.map(caller).to_vec(), commands, ..Entry::default() }
        };
        let commands: Vec<_> = ops
            .into_iter()
            .map(|(user, op)| proto::log::Command { caller: user as u32, ..command(op) })
            .collect();
        let (mut one, mut many) = (Bench::new().namespace, Bench::new().namespace);
        let at = one.applied().0.raw();
        let together = one.apply(LogIndex::from_raw(at + 1), Term::from_raw(1), &entry(commands.clone()));
        let each: Vec<Applied> = commands.into_iter().enumerate().flat_map(|(i, command)| {
            many.apply(LogIndex::from_raw(at + 1 + i as u64), Term::from_raw(1), &entry(vec![command]))
        }).collect();
        prop_assert_eq!(together, each);
        prop_assert_eq!((one.store.hash, one.next, one.counts()), (many.store.hash, many.next, many.counts()));
    }
}

#[test]
fn n_7_a_retry_after_a_restart_is_answered_from_the_image() {
    let mut twins = Twins::new();
    twins.step(&Step::Create {
        user: 1,
        path: at("/a/f"),
        mode: 0o644,
        overwrite: false,
        parents: false,
        at_once: false,
        first: true,
    });
    twins.step(&Step::Complete { by_holder: true, draft: 0, len: BLOCK });
    twins.bench.namespace = Namespace::read_from(&mut twins.images.last().unwrap().as_slice()).unwrap();
    twins.step(&Step::Again { user: 1 });
    let lost = Discard { inode: twins.model.drafts[0].inode, lease_epoch: twins.model.drafts[0].epoch };
    assert_eq!(
        code(twins.send(1, Op::Discard(lost)).result),
        ErrorCode::LeaseLost,
        "a late discard takes nothing back"
    );
    twins.compare();
}
