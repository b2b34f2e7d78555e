//! Both implementations side by side: each step is asked of both, and the answers are compared.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use proto::error::{ErrorCode, FsResult};
use proto::ids::SessionId;
use proto::log::command::Op;
use proto::log::{
    AbandonBlock, AclEntry, AddBlock, AllowSnapshots, Append, BeginRecovery, ChangeAcl, CommittedBlock, Complete,
    Concat, Create, CreateSnapshot, Delete, DeleteSnapshot, Discard, Link, Mkdir, NewStamp, Publish, Reclaim,
    RecoverLease, ReleaseLease, RemoveXattr, Rename, RenameSnapshot, SetAccessTimes, SetAttributes, SetQuota, SetXattr,
    Symlink, Truncate, UpdatePipeline,
};
use proto::namespace::{AclChange, AclTag, GetXattrsRequest};

use super::acl::{Change, Tag};
use super::attributes::Wanted;
use super::compare::{Ids, bare, compare, record, status_of};
use super::files::{NewFile, Said};
use super::look::Seen;
use super::names::Made;
use super::rights::Person;
use super::rules::{Last, State, Told};
use super::steps::{NAMES, PEOPLE, Step, caller, change, entries, mode, spot, target};
use super::tree::Id;
use crate::namespace::tests::harness::{BLOCK, Bench, SUPER, by, code, finish, homes, image_of, path, replay, session};
use crate::namespace::{Namespace, Outcome};

const ROOT: &Person = &PEOPLE[0];

/// A file that somebody writes, or wrote.
#[derive(Clone, Debug)]
struct Draft {
    id: Id,
    user: usize,
    inode: u64,
    epoch: u64,
    block: Option<(i64, u64)>,
}

pub(super) struct World {
    bench: Bench,
    state: State,
    ids: Ids,
    drafts: Vec<Draft>,
    calls: [u64; PEOPLE.len()],
    steps: usize,
    tally: Tally,
}

/// How often each operation was done, and how often refused for which reason.
pub(super) type Tally = BTreeMap<(String, Option<&'static str>), u64>;

/// Both said the same: success, or one of the refusals that are right.
fn agree<T, U: Debug>(what: &dyn Debug, expected: Told<T>, told: FsResult<U>) -> Option<(T, U)> {
    match (expected, told) {
        (Ok(expected), Ok(told)) => Some((expected, told)),
        (Err(right), Err(error)) => {
            assert!(
                right.0.contains(&error.code),
                "{what:?}: must be one of {:?}, not {:?}: {error}",
                right.0,
                error.code
            );
            None
        }
        (Ok(_), Err(error)) => panic!("{what:?}: is refused: {:?}: {error}", error.code),
        (Err(right), Ok(told)) => panic!("{what:?}: must be one of {:?}, not {told:?}", right.0),
    }
}

fn session_of(user: usize) -> SessionId {
    session(1 + user as u8)
}

fn said(block: Said) -> Option<CommittedBlock> {
    block.map(|(id, stamp, len_bytes)| CommittedBlock {
        id,
        stamp,
        len_bytes,
        storages: homes(2),
        digest: Bytes::new(),
    })
}

fn keep(no_follow: bool) -> Last {
    if no_follow { Last::Keep } else { Last::Follow }
}

impl World {
    pub(super) fn new() -> Self {
        let mut state = State::new(SUPER);
        // What the harness did before: `/tmp` was its fifth entry.
        state.now_ns = 4_000_000;
        state.mkdir(ROOT, "/tmp", Made { mode: 0o1777, unmasked: None }, false).unwrap();
        let mut world = Self {
            bench: Bench::new(),
            state,
            ids: Ids::default(),
            drafts: Vec::new(),
            calls: [0; PEOPLE.len()],
            steps: 0,
            tally: Tally::new(),
        };
        world.mkdir(0, "/w", Made { mode: 0o777, unmasked: None }, false);
        world.mkdir(2, "/w/a", Made { mode: 0o777, unmasked: None }, false);
        world.mkdir(0, "/w/b", Made { mode: 0o1777, unmasked: None }, false);
        world.allow_snapshots(0, "/w/a", true);
        world.compare();
        world
    }

    /// Runs a command of the next call of somebody's session.
    fn run(&mut self, user: usize, op: Op) -> FsResult<Outcome> {
        self.calls[user] += 1;
        let call = self.calls[user];
        let name = format!("{op:?}");
        let name = name.split('(').next().unwrap_or_default().to_owned();
        let told = self.bench.run_as(record(&PEOPLE[user]), Some((session_of(user), call, call)), op).result;
        let reason = told.as_ref().err().map(|error| error.code.as_str());
        *self.tally.entry((name, reason)).or_default() += 1;
        told
    }
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }
    fn begin(&mut self) {
        self.state.now_ns = 1_000_000 * self.bench.log.len() as i64;
    }

    pub(super) fn step(&mut self, step: Step) {
        let snapshots = self.snapshot_paths();
        let [from, to] = step.spots.map(|pick| spot(&self.state.tree, &snapshots, pick));
        let (user, number) = (caller(step.user), step.number);
        self.begin();
        match step.kind % 50 {
            0..=3 => {
                let unmasked = (number & 0x10 == 0).then_some(mode(number >> 8) | 0o600);
                self.mkdir(user, &from, Made { mode: mode(number / 32), unmasked }, number & 1 == 0);
            }
            4..=8 => {
                // Most files go into directories, not into their place.
                let inside = number & 0xc0_0000 != 0 && !self.files().any(|path| path == from);
                let path = if inside { format!("{from}/{}", NAMES[number as usize >> 24 & 3]) } else { from };
                self.create(user, &path.replace("//", "/"), number);
            }
            9..=13 => self.go_on(number),
            14..=17 => {
                let replace = number & 3 != 0;
                let exchange = number & 0x1c == 0;
                let expected = match exchange {
                    true => self.state.exchange(&PEOPLE[user], &from, &to),
                    false => self.state.rename(&PEOPLE[user], &from, &to, replace),
                };
                let op = Rename { from, to, replace, exchange };
                agree(&op, expected, self.run(user, Op::Rename(op.clone())));
            }
            18..=19 => {
                let recursive = number & 3 != 0;
                let expected = self.state.delete(&PEOPLE[user], &from, recursive);
                let op = Delete { path: from, recursive, checked_inode: 0 };
                if let Some(((files, directories), told)) = agree(&op, expected, self.run(user, Op::Delete(op.clone())))
                {
                    assert_eq!(told, Outcome::Deleted { files, directories }, "{op:?}");
                }
            }
            20..=22 => {
                let expected = self.state.link(&PEOPLE[user], &from, &to);
                let op = Link { existing: from, path: to };
                let told = agree(&op, expected, self.run(user, Op::Link(op.clone())));
                self.check_status(told);
            }
            23..=24 => {
                let (target, parents) = (target(number / 2).to_owned(), number & 1 == 0);
                let expected = self.state.symlink(&PEOPLE[user], &from, &target, parents);
                let op = Symlink { path: from, target, parents };
                let told = agree(&op, expected, self.run(user, Op::Symlink(op.clone())));
                self.check_status(told);
            }
            25..=26 => self.set_attributes(user, from, number),
            27 => self.set_quota(user, from, number),
            28..=29 => self.set_xattr(user, from, number),
            30..=31 => self.change_acl(user, from, number),
            32 => self.concat(user, from, number),
            33 => self.create_snapshot(user, &from, number),
            34 => self.end_snapshot(user, number),
            35 => self.allow_snapshots(if number & 2 == 0 { 0 } else { user }, &from, number & 1 == 0),
            36 => {
                self.bench.run(by(SUPER), Op::Reclaim(Reclaim { limit: 1 + number % 9 })).result.unwrap();
            }
            37 => self.release(user, number),
            38 => self.see_access(number),
            40..=42 => self.append(user, from, number),
            43..=45 => self.truncate(user, from, number),
            46 => self.recover_lease(user, from),
            47..=48 => self.end_recovery(number),
            49 => self.repair(number),
            _ => {
                self.bench.namespace = Namespace::read_from(&mut image_of(&self.bench.namespace).as_slice()).unwrap();
            }
        }
        self.look(caller(step.user.rotate_left(3)), &spot(&self.state.tree, &snapshots, step.spots[1]), number);
        self.steps += 1;
        if self.steps.is_multiple_of(3) {
            self.compare();
        }
    }

    /// What was done so far, after what the harness does.
    pub(super) fn operations(&self) -> String {
        let line = |entry: &proto::log::Entry| {
            let user = entry.callers.first().map_or("", |caller| &caller.user);
            let op = entry.commands.first().and_then(|command| command.op.as_ref());
            format!("{user}: {op:?}\n")
        };
        self.bench.log.iter().skip(5).map(line).collect()
    }

    fn snapshot_paths(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (path, id) in self.state.tree.paths() {
            for snapshot in self.state.snapshots.get(&id).into_iter().flatten() {
                let top = format!("{path}/.snapshot/{}", snapshot.name);
                all.extend(snapshot.tree.paths().into_iter().map(|(below, _)| format!("{top}{below}")));
            }
        }
        all
    }
    fn compare(&mut self) {
        assert_eq!(self.bench.namespace.recount(), self.bench.namespace.counts());
        compare(&self.state, &self.bench.namespace, ROOT, &mut self.ids);
    }
    /// A new or changed inode is told as it is.
    fn check_status(&mut self, told: Option<(Id, Outcome)>) {
        let Some((id, outcome)) = told else { return };
        let (Outcome::Status(status) | Outcome::Mkdir(status) | Outcome::Complete(status)) = outcome else {
            panic!("{outcome:?}")
        };
        self.ids.pair(id, status.inode);
        assert_eq!(bare(&status), status_of(&self.state.tree, id, false), "{}", status.path);
    }

    fn mkdir(&mut self, user: usize, path: &str, made: Made, parents: bool) {
        self.begin();
        let expected = self.state.mkdir(&PEOPLE[user], path, made, parents);
        let op = Mkdir { path: path.into(), mode: made.mode, parents, unmasked_mode: made.unmasked };
        let told = agree(&op, expected, self.run(user, Op::Mkdir(op.clone())));
        self.check_status(told);
    }

    fn create(&mut self, user: usize, path: &str, number: u32) {
        let unmasked = (number & 0x1000 == 0).then_some(0o666);
        let made =
            Made { mode: mode(number >> 13) & 0o7666 | if number & 0x30_0000 == 0 { 0 } else { 0o600 }, unmasked };
        let new = NewFile {
            made,
            overwrite: number & 1 == 0,
            parents: number & 2 == 0,
            at_once: number & 4 == 0,
            first_block: number & 24 != 0,
            replication: [1, 2, 3, 3][number as usize / 32 % 4],
            block_size_bytes: [1, 4, 4, 8][number as usize / 128 % 4] * BLOCK,
        };
        let expected = self.state.create(&PEOPLE[user], path, &new);
        let op = Create {
            path: path.into(),
            mode: made.mode,
            overwrite: new.overwrite,
            parents: new.parents,
            replication: new.replication as u32,
            block_size_bytes: new.block_size_bytes,
            publish_at_once: new.at_once,
            with_first_block: new.first_block,
            first_block_storages: homes(3),
            unmasked_mode: unmasked,
        };
        let told = agree(&op, expected, self.run(user, Op::Create(op.clone())));
        let Some((id, Outcome::Create { inode, lease_epoch, first_block, .. })) = told else { return };
        self.ids.pair(id, inode.raw());
        let block = first_block.map(|block| (block.block.raw(), block.stamp.raw()));
        assert_eq!(block.is_some(), new.first_block);
        if let Some(block) = block {
            self.state.name_last_block(id, block);
        }
        self.drafts.push(Draft { id, user, inode: inode.raw(), epoch: lease_epoch.raw(), block });
        // Most files are closed at once: what is open is the exception.
        if number & 0x600 != 0 {
            self.begin();
            self.complete(self.drafts.len() - 1, user, 1 + u64::from(number >> 11) % new.block_size_bytes);
        }
    }
    fn go_on(&mut self, number: u32) {
        let Some(at) = (number as usize / 64).checked_rem(self.drafts.len()) else { return };
        let draft = self.drafts[at].clone();
        let user = if number & 0x38 == 0 { (draft.user + 1) % PEOPLE.len() } else { draft.user };
        let (len, who) = (u64::from(number >> 12) % (5 * BLOCK), &PEOPLE[user]);
        let (inode, lease_epoch) = (draft.inode, draft.epoch);
        match number % 8 {
            0..=3 => {
                let last = draft.block.filter(|_| number & 0xf00 != 0).map(|(id, stamp)| (id, stamp, len));
                let expected = self.state.add_block(who, draft.id, last);
                let op = AddBlock { inode, lease_epoch, previous: said(last), storages: homes(3) };
                let told = agree(&op, expected, self.run(user, Op::AddBlock(op.clone())));
                if let Some(((), Outcome::AddBlock(new))) = told {
                    let block = (new.block.raw(), new.stamp.raw());
                    self.state.name_last_block(draft.id, block);
                    self.drafts[at].block = Some(block);
                }
            }
            4 => {
                let (id, stamp) = draft.block.unwrap_or((7, 7));
                let stamp = stamp + u64::from(number & 0xf00 == 0);
                let expected = self.state.abandon_block(who, draft.id, id, stamp);
                let op = AbandonBlock { inode, lease_epoch, id, stamp };
                agree(&op, expected, self.run(user, Op::AbandonBlock(op)));
            }
            5 if number & 0x1000 == 0 => {
                let expected = self.state.discard(who, draft.id);
                let op = Discard { inode, lease_epoch };
                agree(&op, expected, self.run(user, Op::Discard(op)));
            }
            _ => self.complete(at, user, len),
        }
    }
    fn complete(&mut self, at: usize, user: usize, len: u64) {
        let draft = self.drafts[at].clone();
        let last = draft.block.filter(|_| len % 9 != 8).map(|(id, stamp)| (id, stamp, len));
        let expected = self.state.complete(&PEOPLE[user], draft.id, last);
        let op = Complete { inode: draft.inode, lease_epoch: draft.epoch, last: said(last) };
        let told = agree(&op, expected, self.run(user, Op::Complete(op.clone())));
        let closed = told.is_some();
        self.check_status(told);
        // What is over is tried again now and then.
        if closed && !len.is_multiple_of(4) {
            self.drafts.remove(at);
        }
    }
    fn release(&mut self, user: usize, number: u32) {
        if number & 7 != 0 {
            return;
        }
        let expected = self.state.release_all(&PEOPLE[user]);
        let session = Bytes::copy_from_slice(session_of(user).as_bytes());
        let told = self.bench.run(by(SUPER), Op::ReleaseLease(ReleaseLease { session, ..ReleaseLease::default() }));
        agree(&"release", expected, told.result);
    }
    fn see_access(&mut self, number: u32) {
        let Some((inode, id)) = self.ids.nth(number as usize / 4) else { return };
        let atime_ns = self.state.now_ns - i64::from(number & 3) * 100_000_000;
        self.state.saw_access(id, atime_ns);
        let op = SetAccessTimes { inodes: vec![inode], atime_ns: vec![atime_ns] };
        self.bench.run(by(SUPER), Op::SetAccessTimes(op)).result.unwrap();
    }

    fn set_attributes(&mut self, user: usize, path: String, number: u32) {
        let n = number as usize / 16;
        let mut wanted = Wanted::default();
        let person = PEOPLE[n % PEOPLE.len()];
        match number % 8 {
            0 | 1 => wanted.mode = Some(mode(number / 16)),
            2 => wanted.owner = Some(person.name.to_owned()),
            3 => wanted.group = person.groups.last().map(|group| (*group).to_owned()),
            4 => (wanted.mtime_ns, wanted.atime_ns) = (Some(i64::from(number)), Some(-1)),
            5 => wanted.mtime_ns = Some(self.state.now_ns),
            6 => {
                (wanted.mode, wanted.group) = (Some(0o2770), person.groups.last().map(|group| (*group).to_owned()));
            }
            _ => wanted.replication = Some([0, 1, 2, 3, 5, 512, 513, 4][n % 8]),
        }
        let no_follow = number & 8 == 0;
        let expected = self.state.set_attributes(&PEOPLE[user], &path, keep(no_follow), &wanted);
        let op = SetAttributes {
            path,
            mode: wanted.mode,
            owner: wanted.owner,
            group: wanted.group,
            mtime_ns: wanted.mtime_ns.filter(|_| number % 8 != 5),
            atime_ns: wanted.atime_ns,
            replication: wanted.replication.map(|copies| copies as u32),
            no_follow,
            mtime_now: number % 8 == 5,
            atime_now: false,
        };
        agree(&op, expected, self.run(user, Op::SetAttributes(op.clone())));
    }
    fn set_quota(&mut self, user: usize, path: String, number: u32) {
        let user = if number & 3 == 0 { user } else { 0 };
        let names = [None, Some(None), Some(Some(2 + u64::from(number / 64 % 12)))][number as usize / 4 % 3];
        let space = [None, Some(None), Some(Some(u64::from(number / 1024 % 64) * BLOCK))][number as usize / 16 % 3];
        let expected = self.state.set_quota(&PEOPLE[user], &path, names, space);
        let op = SetQuota {
            path,
            name_quota: names.flatten(),
            space_quota_bytes: space.flatten(),
            clear_names: names == Some(None),
            clear_space: space == Some(None),
        };
        agree(&op, expected, self.run(user, Op::SetQuota(op.clone())));
    }
    fn set_xattr(&mut self, user: usize, path: String, number: u32) {
        let name = ["user.x", "user.y", "trusted.z", "raw.r", "security.s", "system.t"][number as usize / 8 % 6];
        let no_follow = number & 1 == 0;
        let who = &PEOPLE[user];
        if number & 6 == 0 {
            // Mostly one that is there.
            let paths = self.state.tree.paths().into_iter();
            let there: Vec<(String, String)> = paths
                .filter_map(|(path, id)| Some((path, self.state.tree.get(id).xattrs.keys().next()?.clone())))
                .collect();
            let picked = (number as usize / 64).checked_rem(there.len()).filter(|_| number & 0x30_0000 != 0);
            let (path, name) = match picked.map(|at| &there[at]) {
                Some((path, name)) if !path.is_empty() => (path.clone(), name.as_str()),
                _ => (path, name),
            };
            let expected = self.state.remove_xattr(who, &path, keep(no_follow), name);
            let op = RemoveXattr { path, name: name.into(), no_follow };
            agree(&op, expected, self.run(user, Op::RemoveXattr(op.clone())));
            return;
        }
        let (create, replace) = (number & 2 != 0, number & 4 != 0);
        let value = number.to_le_bytes();
        let expected = self.state.set_xattr(who, (&path, keep(no_follow)), (name, &value), (create, replace));
        let value = Bytes::copy_from_slice(&value);
        let op = SetXattr { path, name: name.into(), value, create, replace, no_follow };
        agree(&op, expected, self.run(user, Op::SetXattr(op.clone())));
    }
    fn change_acl(&mut self, user: usize, path: String, number: u32) {
        let change = change(number);
        let given = [
            entries(number.rotate_left(7)),
            if number & 0x100 == 0 { entries(number.rotate_left(19)) } else { vec![] },
        ];
        let expected = self.state.change_acl(&PEOPLE[user], &path, change, [&given[0], &given[1]]);
        let entry = |scope: usize, (tag, rights): &(Tag, u32)| {
            let (tag, name) = match tag {
                Tag::Owner => (AclTag::User, ""),
                Tag::User(name) => (AclTag::User, name.as_str()),
                Tag::OwningGroup => (AclTag::Group, ""),
                Tag::Group(name) => (AclTag::Group, name.as_str()),
                Tag::Mask => (AclTag::Mask, ""),
                Tag::Other => (AclTag::Other, ""),
            };
            AclEntry { scope: scope as u32, tag: tag as u32, name: name.to_owned(), rights: *rights }
        };
        let entries = given.iter().enumerate().flat_map(|(scope, list)| list.iter().map(move |one| entry(scope, one)));
        let kind = match change {
            Change::Modify => AclChange::Modify,
            Change::RemoveEntries => AclChange::RemoveEntries,
            Change::Set => AclChange::Set,
            Change::RemoveDefault => AclChange::RemoveDefault,
            Change::RemoveAll => AclChange::RemoveAll,
        };
        let op = ChangeAcl { path, change: kind as u32, entries: entries.collect() };
        agree(&op, expected, self.run(user, Op::ChangeAcl(op.clone())));
    }

    /// What only a snapshot that is gone still saw is refused until it is swept away: then either is right.
    fn concat(&mut self, user: usize, spot: String, number: u32) {
        let (target, sources) = self.parts(user, spot, number);
        let before = self.state.clone();
        let expected = self.state.concat(&PEOPLE[user], &target, &sources);
        let swept = self.bench.namespace.reclaim_pending() == 0;
        let op = Concat { target, sources };
        let told = self.run(user, Op::Concat(op.clone()));
        let still_held = told.as_ref().is_err_and(|error| error.code == ErrorCode::InvalidArgument);
        if expected.is_ok() && !swept && still_held {
            self.state = before;
            return;
        }
        agree(&op, expected, told);
    }

    /// A file and others beside it. Such that fit each other are rare, so they are mostly made first.
    fn parts(&mut self, user: usize, spot: String, number: u32) -> (String, Vec<String>) {
        let above = |path: &str| path.rsplit_once('/').map_or(String::new(), |(above, _)| above.to_owned());
        let directory = if self.files().any(|path| path == spot) { above(&spot) } else { spot.clone() };
        let beside = |name: &str| format!("{}/{name}", directory.trim_end_matches('/'));
        let mut sources: Vec<String> = self.files().filter(|path| above(path) == directory).collect();
        if number & 0x3000_0000 == 0 {
            sources.push(beside(NAMES[number as usize / 4096 % 4]));
            sources.truncate(1 + number as usize / 64 % 3);
            return (spot, sources);
        }
        for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
            self.begin();
            // Written over what is there, with a first block, and closed.
            self.create(user, &beside(name), number.rotate_left(5 * at as u32) & !0x7 | 0x208);
        }
        self.begin();
        let sources = [beside("b"), beside("c")];
        (beside("a"), sources[..1 + (number & 1) as usize].to_vec())
    }
    fn files(&self) -> impl Iterator<Item = String> {
        let paths = self.state.tree.paths().into_iter();
        paths.filter(|(_, id)| self.state.tree.get(*id).file().is_some()).map(|(path, _)| path)
    }
    fn roots(&self) -> Vec<String> {
        let paths = self.state.tree.paths().into_iter();
        let marked = paths.filter(|(_, id)| self.state.tree.get(*id).snapshottable);
        marked.map(|(path, _)| if path.is_empty() { "/".to_owned() } else { path }).collect()
    }
    fn create_snapshot(&mut self, user: usize, spot: &str, number: u32) {
        let roots = self.roots();
        let any = number & 7 == 0 || roots.is_empty();
        let at = if any { spot.to_owned() } else { roots[number as usize / 8 % roots.len()].clone() };
        let name = format!("s{}", number / 256 % 4);
        let expected = self.state.create_snapshot(&PEOPLE[user], &at, &name);
        let op = CreateSnapshot { path: at, name };
        agree(&op, expected, self.run(user, Op::CreateSnapshot(op.clone())));
    }
    fn end_snapshot(&mut self, user: usize, number: u32) {
        let roots = self.roots();
        let Some(root) = (number as usize / 8).checked_rem(roots.len()).map(|at| roots[at].clone()) else { return };
        let name = |number: u32| format!("s{}", number % 4);
        let (user, any, to) = (if number & 1 == 0 { user } else { 0 }, name(number / 256), name(number / 1024));
        // Mostly one that is there.
        let top = self.state.find(ROOT, &root, Last::Follow).unwrap();
        let there = self.state.snapshots.get(&top).map_or(&[][..], |snapshots| snapshots);
        let picked = (number as usize / 256).checked_rem(there.len()).filter(|_| number & 0x3000 != 0);
        let name = picked.map_or(any, |at| there[at].name.clone());
        let who = &PEOPLE[user];
        if number & 6 == 0 {
            let expected = self.state.rename_snapshot(who, &root, &name, &to);
            let op = RenameSnapshot { path: root, from: name, to };
            agree(&op, expected, self.run(user, Op::RenameSnapshot(op.clone())));
        } else {
            let expected = self.state.delete_snapshot(who, &root, &name);
            let op = DeleteSnapshot { path: root, name };
            agree(&op, expected, self.run(user, Op::DeleteSnapshot(op.clone())));
        }
    }
    fn allow_snapshots(&mut self, user: usize, path: &str, allow: bool) {
        self.begin();
        let expected = self.state.allow_snapshots(&PEOPLE[user], path, allow);
        let op = AllowSnapshots { path: path.into(), allow };
        agree(&op, expected, self.run(user, Op::AllowSnapshots(op.clone())));
    }

    /// Every question about a path, as somebody.
    fn look(&mut self, user: usize, at: &str, number: u32) {
        let (who, caller, place) = (&PEOPLE[user], record(&PEOPLE[user]), path(at));
        let (state, namespace) = (&self.state, &self.bench.namespace);
        let what = |question: &str| format!("{} asks to {question} {at}", who.name);
        for (last, told) in
            [(Last::Follow, namespace.stat(&caller, &place)), (Last::Keep, namespace.stat_link(&caller, &place))]
        {
            if let Some((Seen::Node { tree, id, past }, told)) = agree(&what("stat"), state.look(who, at, last), told) {
                assert_eq!(bare(&told), status_of(tree, id, past), "{at}");
                self.ids.pair(id, told.inode);
            }
        }
        if let Some((names, told)) =
            agree(&what("list"), state.list(who, at), namespace.list(&caller, &place, "", 1000))
        {
            assert!(told.0.iter().map(|status| &status.path).eq(&names), "{at}");
        }
        let opened = namespace.open(&caller, &place, 0..u64::MAX, usize::MAX);
        if let Some((len, told)) = agree(&what("open"), state.open(who, at), opened) {
            assert_eq!(told.status.len_bytes, len, "{at}");
        }
        let rights = number % 8;
        let told = namespace.check_access(&caller, &place, rights);
        if let Some((may, told)) = agree(&what("access"), state.check_access(who, at, rights), told) {
            assert_eq!(told, may, "{} has {rights} on {at}", who.name);
        }
        let request = GetXattrsRequest { path: at.to_owned(), ..GetXattrsRequest::default() };
        let told = namespace.xattrs(&caller, &request);
        if let Some((all, told)) = agree(&what("xattrs"), state.xattrs(who, at, Last::Follow), told) {
            assert!(told.iter().map(|xattr| &xattr.name).eq(all.keys()), "{at}: {told:?}, not {all:?}");
        }
        let name = ["user.x", "trusted.z", "raw.r"][number as usize / 8 % 3];
        let told = namespace.xattrs(&caller, &GetXattrsRequest { names: vec![name.to_owned()], ..request });
        if let Some((value, told)) = agree(&what(name), state.xattr(who, at, name), told) {
            assert!(told.is_empty() && value.is_empty() || told[0].value == value, "{at}");
        }
        let told = namespace.content_summary(&caller, &place);
        if let Some((usage, told)) = agree(&what("summary"), state.summary(who, at), told) {
            assert_eq!((told.names_used, told.space_bytes), (usage.names(), usage.space_bytes), "{at}");
        }
    }

    /// A file, where the spot is none.
    fn some_file(&self, spot: String, number: u32) -> String {
        let files: Vec<String> = self.files().collect();
        let any = number & 0x700 == 0 || files.is_empty() || files.contains(&spot);
        if any { spot } else { files[number as usize / 4096 % files.len()].clone() }
    }
    fn append(&mut self, user: usize, spot: String, number: u32) {
        let (path, new_block) = (self.some_file(spot, number), number & 7 == 0);
        let expected = self.state.append(&PEOPLE[user], &path, new_block);
        let op = Append { path, new_block, good: homes(3) };
        let told = agree(&op, expected, self.run(user, Op::Append(op.clone())));
        let Some(((id, len_bytes, floor), Outcome::Appending { inode, lease_epoch, status, last })) = told else {
            return;
        };
        self.ids.pair(id, inode.raw());
        assert_eq!((status.len_bytes, last.as_ref().map(|last| last.len_bytes)), (len_bytes, floor), "{op:?}");
        assert_eq!(bare(&status), status_of(&self.state.tree, id, false), "{op:?}");
        if let Some(last) = &last {
            self.state.reserved.insert(id, last.new_stamp.raw());
        }
        let block = last.map(|last| (last.block.raw(), last.stamp.raw()));
        self.drafts.retain(|draft| draft.id != id);
        self.drafts.push(Draft { id, user, inode: inode.raw(), epoch: lease_epoch.raw(), block });
        if number & 0x1800 != 0 {
            self.begin();
            let most = self.state.tree.get(id).file().map_or(0, |file| file.block_size_bytes);
            let floor = floor.unwrap_or(0);
            self.complete(self.drafts.len() - 1, user, floor + u64::from(number >> 13) % (most - floor + 1));
        }
    }
    fn truncate(&mut self, user: usize, spot: String, number: u32) {
        let path = self.some_file(spot, number);
        let node = self.state.find(ROOT, &path, Last::Follow).ok();
        let file = node.and_then(|id| self.state.tree.get(id).file());
        let (len, ends) = match file {
            Some(file) => {
                let mut at = 0;
                let ends = file.blocks.iter().map(|block| {
                    at += block.visible_bytes();
                    at
                });
                (file.len_bytes(), ends.collect::<Vec<u64>>())
            }
            None => (0, vec![]),
        };
        let len_bytes = match number & 3 {
            0 => u64::from(number >> 13) % (len + 2),
            1 if !ends.is_empty() => ends[number as usize / 8192 % ends.len()],
            2 => 0,
            _ => len.saturating_sub(1 + u64::from(number >> 13) % 64),
        };
        // The right one, a wrong one, or none.
        let expected_len_bytes = match number >> 2 & 7 {
            0 | 1 => Some(len),
            2 => Some(len + 1 + u64::from(number >> 13) % 64),
            _ => None,
        };
        let expected = self.state.truncate(&PEOPLE[user], &path, (len_bytes, expected_len_bytes));
        let op = Truncate { path, len_bytes, expected_len_bytes, ..Default::default() };
        let told = agree(&op, expected, self.run(user, Op::Truncate(op.clone())));
        let Some(((id, done), Outcome::Truncated { status, done: told })) = told else { return };
        assert_eq!((done, bare(&status)), (told, status_of(&self.state.tree, id, false)), "{op:?}");
        self.drafts.retain(|draft| draft.id != id);
    }
    fn recover_lease(&mut self, user: usize, path: String) {
        let expected = self.state.recover_lease(&PEOPLE[user], &path);
        let op = RecoverLease { path, accept_loss: false };
        let told = agree(&op, expected, self.run(user, Op::RecoverLease(op.clone())));
        let Some(((id, closed), Outcome::Recovering { status, closed: told })) = told else { return };
        assert_eq!((closed, bare(&status)), (told, status_of(&self.state.tree, id, false)), "{op:?}");
    }
    /// The cluster's own commands.
    fn run_own(&mut self, op: Op) -> FsResult<Outcome> {
        let name = format!("{op:?}").split('(').next().unwrap_or_default().to_owned();
        let told = self.bench.run(by(SUPER), op).result;
        *self.tally.entry((name, told.as_ref().err().map(|error| error.code.as_str()))).or_default() += 1;
        told
    }
    /// Ends one of the recoveries that are under way, or begins it again.
    fn end_recovery(&mut self, number: u32) {
        let leases: Vec<_> = self.bench.namespace.recovering().collect();
        let Some(at) = (number as usize / 16).checked_rem(leases.len()) else { return };
        let view = self.bench.namespace.lease(leases[at].inode).unwrap();
        if number & 7 == 0 {
            let (inode, lease_epoch) = (view.lease.inode.raw(), view.lease.lease_epoch.raw());
            self.run_own(Op::BeginRecovery(BeginRecovery { inode, lease_epoch })).unwrap();
            let again = self.bench.namespace.lease(view.lease.inode).unwrap();
            assert!(again.lease.recovery.unwrap().stamp > view.lease.recovery.unwrap().stamp);
            assert_eq!(code(self.run_own(finish(&view, 1, 1))), ErrorCode::StaleStamp);
            return;
        }
        let last = view.last_block.clone().unwrap();
        let target = view.lease.recovery.unwrap().target_len_bytes;
        let some = last.len_bytes + u64::from(number >> 12) % (view.block_size_bytes - last.len_bytes + 3);
        let len = target.filter(|_| number & 0xf00 != 0).unwrap_or(some);
        let copies = number >> 4 & 3;
        let end = (copies > 0 && len > 0).then_some(len);
        let op = finish(&view, len, copies);
        let known = self.ids.of(view.lease.inode.raw()).filter(|id| self.state.tree.nodes.contains_key(id));
        match known {
            Some(id) => {
                let expected = self.state.finish_recovery(id, view.lease.recovery.unwrap().stamp.raw(), end);
                agree(&"the end of a recovery", expected, self.run_own(op));
            }
            // Only snapshots see it: with just what they see of it.
            None => {
                assert_eq!((target, view.path.as_str()), (Some(last.len_bytes), ""));
                assert_eq!(self.run_own(op).is_ok(), end == target);
            }
        }
    }
    /// What a writer does when its pipeline broke, or when it flushes for the first time.
    fn repair(&mut self, number: u32) {
        let Some(at) = (number as usize / 64).checked_rem(self.drafts.len()) else { return };
        let draft = self.drafts[at].clone();
        let user = if number & 0x38 == 0 { (draft.user + 1) % PEOPLE.len() } else { draft.user };
        let (who, inode, lease_epoch) = (&PEOPLE[user], draft.inode, draft.epoch);
        let (id, stamp) = draft.block.unwrap_or((7, 7));
        match number % 8 {
            0..=2 => {
                let stamp = stamp + u64::from(number & 0xf000 == 0);
                let expected = self.state.new_stamp(who, draft.id, (id, stamp));
                let op = NewStamp { inode, lease_epoch, id, stamp, more: homes(3) };
                let told = agree(&op, expected, self.run(user, Op::NewStamp(op.clone())));
                if let Some(((), Outcome::NewStamp { stamp: new, .. })) = told {
                    assert!(new.raw() > stamp);
                    self.state.reserved.insert(draft.id, new.raw());
                    // Mostly the pipeline stands again at once.
                    if number & 0x100_0000 == 0 {
                        self.repair(number & !7 | 3);
                    }
                }
            }
            3..=5 => {
                let reserved = self.state.reserved.get(&draft.id).copied().unwrap_or(stamp + 1);
                let new_stamp = reserved + u64::from(number & 0xf000 == 0);
                let len_bytes = u64::from(number >> 12) % (5 * BLOCK);
                let expected = self.state.update_pipeline(who, draft.id, (id, stamp), (new_stamp, len_bytes));
                let storages = homes(2 + (number & 1));
                let op = UpdatePipeline { inode, lease_epoch, id, stamp, new_stamp, len_bytes, storages };
                if agree(&op, expected, self.run(user, Op::UpdatePipeline(op.clone()))).is_some() {
                    self.drafts[at].block = Some((id, new_stamp));
                }
            }
            6 => {
                let expected = self.state.publish(who, draft.id);
                let told = agree(&"publish", expected, self.run(user, Op::Publish(Publish { inode, lease_epoch })));
                self.check_status(told);
            }
            _ => {
                // The cluster does not ask who it is: only for the lease that it means.
                let theirs = &PEOPLE[draft.user];
                let expected = self.state.begin_recovery(theirs, draft.id);
                let told = self.run_own(Op::BeginRecovery(BeginRecovery { inode, lease_epoch }));
                agree(&"the begin of a recovery", expected, told);
            }
        }
    }

    /// From an image, and from the log: the same tree, and the same bytes.
    pub(super) fn restart(&mut self) {
        self.compare();
        self.bench.check();
        let loaded = Namespace::read_from(&mut image_of(&self.bench.namespace).as_slice()).unwrap();
        compare(&self.state, &loaded, ROOT, &mut self.ids);
        let mut replayed = Namespace::new();
        replay(&mut replayed, &self.bench.log, 0);
        compare(&self.state, &replayed, ROOT, &mut self.ids);
    }

    /// Everything goes, and nothing is left behind.
    pub(super) fn end(&mut self) {
        for root in self.roots() {
            let id = self.state.find(ROOT, &root, Last::Follow).unwrap();
            let names: Vec<String> =
                self.state.snapshots.get(&id).into_iter().flatten().map(|snapshot| snapshot.name.clone()).collect();
            for name in names {
                let op = DeleteSnapshot { path: root.clone(), name };
                self.bench.run(by(SUPER), Op::DeleteSnapshot(op)).result.unwrap();
            }
        }
        for name in self.state.tree.get(self.state.tree.root).entries().into_iter().flatten().map(|(name, _)| name) {
            self.bench.delete(SUPER, &format!("/{name}"), true).unwrap();
        }
        for user in 0..PEOPLE.len() {
            let session = Bytes::copy_from_slice(session_of(user).as_bytes());
            let release = ReleaseLease { session, ..ReleaseLease::default() };
            self.bench.run(by(SUPER), Op::ReleaseLease(release)).result.unwrap();
        }
        self.bench.reclaim_all();
        self.bench.check();
        let counts = self.bench.namespace.counts();
        assert_eq!((counts.files, counts.directories, counts.symlinks), (0, 1, 0), "the root");
        assert_eq!((counts.blocks, counts.open_files, counts.reclaim_pending), (0, 0, 0));
        let [targets, _, _, _, history @ .., waiting] = self.bench.namespace.leftovers();
        assert_eq!((targets, history, waiting), (0, [0; 5], 0), "but for attributes of the root");
    }
}
