//! Every operation at random, over few names so that they meet: hard links × rename × snapshot × quota × delete × concat.
//! No second implementation of the rules is compared; what must hold whatever the rules decide is demanded after every
//! step:
//!
//! - the recount from scratch agrees, and everything that is kept has an owner (SC-10, SC-11, SC-13, SC-21, SC-23);
//! - what snapshots see does not change, to the last attribute (N-6);
//! - a quota that was kept is kept (exact at commit);
//! - totals are what a walk over the tree finds;
//! - replay and images give the same state (SC-01, SC-02, SC-03, SC-09).

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use proto::log::command::Op;
use proto::log::{
    AbandonBlock, AclEntry, AllowSnapshots, ChangeAcl, Concat, Create, CreateSnapshot, Delete, DeleteSnapshot, Discard,
    Link, MakeNode, Mkdir, Reclaim, RemoveXattr, Rename, RenameSnapshot, SetAccessTimes, SetAttributes, SetQuota,
    SetXattr, Symlink,
};
use proto::namespace::{AclChange, ContentSummaryResponse, FileKind, FileStatus, GetXattrsRequest};

use super::harness::{BLOCK, Bench, Draft, SUPER, by, caller, new_file, path};
use crate::namespace::Namespace;

const USERS: [&str; 3] = [SUPER, "ann", "bob"];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Bytes that decide: each number picks among few things.
#[derive(Clone, Copy, Debug)]
struct Step {
    kind: u8,
    user: u8,
    paths: [u16; 2],
    number: u32,
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<u8>(), any::<u8>(), any::<[u16; 2]>(), any::<u32>())
        .prop_map(|(kind, user, paths, number)| Step { kind, user, paths, number });
    proptest::collection::vec(step, 1..most)
}

/// One to three names below a root that is covered by snapshots now and then.
fn spot(pick: u16) -> String {
    let depth = 1 + usize::from(pick >> 12) % 3;
    let name = |at: usize| NAMES[usize::from(pick >> (2 * at)) % NAMES.len()];
    (0..depth).fold("/r".to_owned(), |path, at| format!("{path}/{}", name(at)))
}

/// What a snapshot shows of one path.
#[derive(Clone, PartialEq, Debug)]
struct Shown {
    status: FileStatus,
    xattrs: Vec<(String, Vec<u8>)>,
    blocks: Vec<i64>,
}

struct World {
    bench: Bench,
    drafts: Vec<(usize, Draft)>,
    /// What each snapshot showed when it was made: by its path.
    kept: BTreeMap<String, BTreeMap<String, Shown>>,
    /// Usage of directories with quotas before the step.
    usage: BTreeMap<String, ContentSummaryResponse>,
}

fn show(namespace: &Namespace, at: &str) -> BTreeMap<String, Shown> {
    let mut all = BTreeMap::new();
    let mut open = vec![String::new()];
    while let Some(below) = open.pop() {
        let here = format!("{at}{below}");
        let status = namespace.stat_link(&caller(SUPER), &path(&here)).unwrap();
        let request = GetXattrsRequest { path: here.clone(), no_follow: true, ..GetXattrsRequest::default() };
        let xattrs = namespace.xattrs(&caller(SUPER), &request).unwrap();
        let mut blocks = Vec::new();
        if status.kind() == FileKind::File {
            let file = namespace.open(&caller(SUPER), &path(&here), 0..u64::MAX, usize::MAX).unwrap();
            blocks = file.blocks.iter().map(|block| block.block.raw()).collect();
            assert_eq!(file.blocks.iter().map(|block| block.len_bytes).sum::<u64>(), status.len_bytes, "{here}");
        }
        if status.kind() == FileKind::Directory {
            let (entries, more) = namespace.list(&caller(SUPER), &path(&here), "", 1000).unwrap();
            assert!(!more);
            assert_eq!(entries.len() as u64, status.children, "{here}");
            open.extend(entries.iter().map(|entry| format!("{below}/{}", entry.path)));
        }
        let shown = Shown {
            status: FileStatus {
                path: String::new(),
                open_for_write: false,
                nlink: 0,
                snapshottable: false,
                has_quota: false,
                // Snapshots do not count them.
                subdirectories: 0,
                ..status
            },
            xattrs: xattrs.into_iter().map(|xattr| (xattr.name, xattr.value.to_vec())).collect(),
            blocks,
        };
        all.insert(below, shown);
    }
    all
}

fn delete(path: String, recursive: bool) -> Op {
    Op::Delete(Delete { path, recursive, checked_inode: 0 })
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.mkdir(SUPER, "/r", 0o777).unwrap();
        bench.mkdir(SUPER, "/r/a", 0o777).unwrap();
        bench.run(by(SUPER), Op::AllowSnapshots(AllowSnapshots { path: "/r/a".into(), allow: true })).result.unwrap();
        Self { bench, drafts: Vec::new(), kept: BTreeMap::new(), usage: BTreeMap::new() }
    }

    fn run(&mut self, user: &str, op: Op) -> bool {
        self.bench.run(by(user), op).result.is_ok()
    }

    fn summary(&self, at: &str) -> Option<ContentSummaryResponse> {
        self.bench.namespace.content_summary(&caller(SUPER), &path(at)).ok()
    }

    fn step(&mut self, step: Step) {
        let user = USERS[usize::from(step.user) % USERS.len()];
        let [from, to] = step.paths.map(spot);
        let number = step.number;
        match step.kind % 32 {
            0..=2 => drop(self.run(
                user,
                Op::Mkdir(Mkdir { path: from, mode: 0o777, parents: number & 1 == 0, unmasked_mode: Some(0o777) }),
            )),
            3..=6 => self.create(user, from, number),
            7 => self.go_on(number),
            8..=11 => drop(
                self.run(user, Op::Rename(Rename { from, to, replace: number & 1 == 0, exchange: number & 6 == 0 })),
            ),
            12..=13 => drop(self.run(user, delete(from, number & 3 != 0))),
            14..=16 => drop(self.run(user, Op::Link(Link { existing: from, path: to }))),
            17 if number & 16 == 0 => {
                let (kind, mode, unmasked_mode) = (4 + number % 4, 0o640, Some(0o666));
                self.run(user, Op::MakeNode(MakeNode { path: from, kind, mode, unmasked_mode, device: number }));
            }
            17 => {
                let target = ["b", "../c", "/r/a", "/nowhere", "d/../d"][number as usize % 5].to_owned();
                self.run(user, Op::Symlink(Symlink { path: from, target, parents: number & 8 == 0 }));
            }
            18 => self.attributes(user, from, number),
            19 => self.quota(from, number),
            20 => {
                let name = ["user.x", "user.y", "trusted.z"][number as usize % 3].to_owned();
                let value = number.to_le_bytes().to_vec().into();
                let set = SetXattr { path: from, name, value, create: true, replace: true, no_follow: false };
                self.run(user, Op::SetXattr(set));
            }
            21 => drop(
                self.run(user, Op::RemoveXattr(RemoveXattr { path: from, name: "user.x".into(), no_follow: false })),
            ),
            22 => self.acl(user, from, number),
            23 => {
                let sources = vec![to, spot(step.paths[0] ^ 1)];
                self.run(user, Op::Concat(Concat { target: from, sources }));
            }
            24..=25 => self.make_snapshot(number),
            26 => self.drop_snapshot(number),
            27 => drop(self.run(SUPER, Op::AllowSnapshots(AllowSnapshots { path: from, allow: number & 1 == 0 }))),
            28..=30 => drop(self.run(SUPER, Op::Reclaim(Reclaim { limit: 1 + number % 7 }))),
            _ => {
                let inodes = vec![16_385 + u64::from(number % 40)];
                self.run(SUPER, Op::SetAccessTimes(SetAccessTimes { inodes, atime_ns: vec![i64::from(number)] }));
            }
        }
        self.check();
    }

    fn create(&mut self, user: &str, path: String, number: u32) {
        let create = Create {
            path,
            overwrite: number & 1 == 0,
            parents: number & 2 == 0,
            publish_at_once: number & 4 == 0,
            with_first_block: number & 8 == 0,
            replication: 1 + number % 3,
            ..new_file()
        };
        if let Ok(draft) = self.bench.create_with(by(user), create) {
            let owner = USERS.iter().position(|name| *name == user).unwrap();
            self.drafts.push((owner, draft));
        }
        // Most files are closed at once: what is open is the exception.
        if number & 48 != 0 {
            self.go_on(number | 1);
        }
    }

    fn go_on(&mut self, number: u32) {
        if self.drafts.is_empty() {
            return;
        }
        let at = if number & 1 == 1 { self.drafts.len() - 1 } else { number as usize % self.drafts.len() };
        let (owner, draft) = self.drafts[at].clone();
        let (user, len) = (USERS[owner], 1 + u64::from(number) % (4 * BLOCK));
        match number % 8 {
            6 => {
                if let Ok(block) = self.bench.add_block(user, &draft, len) {
                    self.drafts[at].1.block = Some(block);
                }
            }
            7 if number & 64 == 0 => {
                self.run(user, Op::Discard(Discard { inode: draft.inode, lease_epoch: draft.epoch }));
                self.drafts.remove(at);
            }
            7 => {
                if let Some(block) = &draft.block {
                    let (id, stamp) = (block.block.raw(), block.stamp.raw());
                    let abandon = AbandonBlock { inode: draft.inode, lease_epoch: draft.epoch, id, stamp };
                    if self.run(user, Op::AbandonBlock(abandon)) {
                        self.drafts[at].1.block = None;
                    }
                }
            }
            _ => {
                let closed = self.bench.complete(user, &draft, len).is_ok();
                if closed || number & 128 == 0 {
                    self.drafts.remove(at);
                }
            }
        }
    }

    fn attributes(&mut self, user: &str, path: String, number: u32) {
        let mut set = SetAttributes { path, no_follow: number & 1 == 0, ..SetAttributes::default() };
        match number % 6 {
            0 => set.mode = Some([0o777, 0o700, 0o1777, 0o644][number as usize / 6 % 4]),
            1 => set.owner = Some(USERS[number as usize / 6 % 3].to_owned()),
            2 => set.group = Some(user.to_owned()),
            3 => (set.mtime_ns, set.atime_ns) = (Some(i64::from(number)), Some(-1)),
            4 => set.mtime_now = true,
            _ => set.replication = Some(1 + number % 4),
        }
        self.run(user, Op::SetAttributes(set));
    }

    fn quota(&mut self, path: String, number: u32) {
        let mut set = SetQuota { path, ..SetQuota::default() };
        match number % 4 {
            0 => set.name_quota = Some(1 + u64::from(number / 4 % 8)),
            1 => set.space_quota_bytes = Some(u64::from(number / 4 % 64) * BLOCK),
            2 => set.clear_names = true,
            _ => set.clear_space = true,
        }
        self.run(SUPER, Op::SetQuota(set));
        self.usage.clear();
    }

    fn acl(&mut self, user: &str, path: String, number: u32) {
        let change = [
            AclChange::Modify,
            AclChange::RemoveEntries,
            AclChange::Set,
            AclChange::RemoveDefault,
            AclChange::RemoveAll,
        ];
        let entry = |scope, tag, name: &str, rights| AclEntry { scope, tag, name: name.into(), rights };
        let scope = number / 5 % 2;
        let mut entries = vec![entry(scope, 0, "bob", number / 10 % 8)];
        if number & 1 == 0 {
            entries.extend([entry(scope, 0, "", 7), entry(scope, 1, "", 5), entry(scope, 3, "", 1)]);
        }
        let change = change[number as usize % 5] as u32;
        self.run(user, Op::ChangeAcl(ChangeAcl { path, change, entries }));
    }

    fn roots(&self) -> Vec<String> {
        let all = self.bench.namespace.list_snapshots(&caller(SUPER), "").unwrap();
        all.into_iter().map(|one| one.directory).collect()
    }

    fn make_snapshot(&mut self, number: u32) {
        let roots = self.roots();
        let Some(root) = roots.get(number as usize % roots.len().max(1)).cloned() else { return };
        let name = format!("s{}", number / 16 % 6);
        if self.run(SUPER, Op::CreateSnapshot(CreateSnapshot { path: root.clone(), name: name.clone() })) {
            let at = format!("{root}/.snapshot/{name}");
            let shown = show(&self.bench.namespace, &at);
            let now = show(&self.bench.namespace, &root);
            assert_eq!(shown.keys().collect::<Vec<_>>(), now.keys().collect::<Vec<_>>(), "as it is now");
            self.kept.insert(at, shown);
        }
    }

    fn drop_snapshot(&mut self, number: u32) {
        let Some(at) = self.kept.keys().nth(number as usize % self.kept.len().max(1)).cloned() else { return };
        let (root, name) = at.split_once("/.snapshot/").unwrap();
        if number & 64 == 0 {
            let to = format!("t{}", number / 128 % 4);
            if self
                .run(SUPER, Op::RenameSnapshot(RenameSnapshot { path: root.into(), from: name.into(), to: to.clone() }))
                && let Some(shown) = self.kept.remove(&at)
            {
                self.kept.insert(format!("{root}/.snapshot/{to}"), shown);
            }
            return;
        }
        assert!(self.run(SUPER, Op::DeleteSnapshot(DeleteSnapshot { path: root.into(), name: name.into() })));
        self.kept.remove(&at);
    }

    fn check(&mut self) {
        assert_eq!(self.bench.namespace.recount(), self.bench.namespace.counts());
        for (at, shown) in self.moved_snapshots() {
            let now = show(&self.bench.namespace, &at);
            if now != shown {
                let differs = |(path, one): &(&String, &Shown)| now.get(*path) != Some(*one);
                let first = shown.iter().find(differs).map(|(path, one)| (path, one, now.get(path)));
                panic!("{at} changed: {first:#?}, it shows {:?}", now.keys());
            }
        }
        self.check_totals_and_quotas();
    }

    /// A directory with snapshots may lie in one that was renamed: then its snapshots have other paths now.
    fn moved_snapshots(&mut self) -> Vec<(String, BTreeMap<String, Shown>)> {
        let roots = self.roots();
        let mut kept = BTreeMap::new();
        for (at, shown) in &self.kept {
            let (_, name) = at.split_once("/.snapshot/").unwrap();
            let inode = shown[""].status.inode;
            let root = roots.iter().find(|root| self.bench.stat(root).is_some_and(|status| status.inode == inode));
            let root = root.unwrap_or_else(|| panic!("{at} has no directory any more"));
            kept.insert(format!("{root}/.snapshot/{name}"), shown.clone());
        }
        self.kept = kept;
        self.kept.clone().into_iter().collect()
    }

    fn check_totals_and_quotas(&mut self) {
        let mut usage = BTreeMap::new();
        let tree = show(&self.bench.namespace, "/r");
        for (at, shown) in tree.iter().filter(|(_, shown)| shown.status.kind() == FileKind::Directory) {
            let summary = self.summary(&format!("/r{at}")).unwrap();
            let below = |path: &&String| at.is_empty() || *path == at || path.starts_with(&format!("{at}/"));
            let count = |kind: FileKind| {
                tree.iter().filter(|(path, one)| below(path) && one.status.kind() == kind).count() as u64
            };
            let nodes = [FileKind::Fifo, FileKind::Socket, FileKind::CharacterDevice, FileKind::BlockDevice];
            let files = count(FileKind::File) + nodes.into_iter().map(count).sum::<u64>();
            let walked = (files, count(FileKind::Directory), count(FileKind::Symlink));
            assert_eq!((summary.files, summary.directories, summary.symlinks), walked, "{at}");
            let bytes: u64 = tree
                .iter()
                .filter(|(path, one)| below(path) && one.status.kind() == FileKind::File)
                .map(|(_, one)| one.status.len_bytes)
                .sum();
            assert_eq!(summary.len_bytes, bytes, "{at}");
            let before = self.usage.get(&shown.status.inode.to_string());
            if let (Some(quota), Some(before)) = (summary.name_quota, before) {
                let most = quota.max(before.names_used);
                assert!(summary.names_used <= most, "{at}: {} names, {quota} allowed", summary.names_used);
            }
            if let (Some(quota), Some(before)) = (summary.space_quota_bytes, before) {
                let most = quota.max(before.space_bytes);
                assert!(summary.space_bytes <= most, "{at}: {} bytes, {quota} allowed", summary.space_bytes);
            }
            usage.insert(shown.status.inode.to_string(), summary);
        }
        self.usage = usage;
    }

    /// Everything goes, and nothing is left behind.
    fn end(&mut self) {
        for at in self.kept.keys().cloned().collect::<Vec<_>>() {
            let (root, name) = at.split_once("/.snapshot/").unwrap();
            assert!(self.run(SUPER, Op::DeleteSnapshot(DeleteSnapshot { path: root.into(), name: name.into() })));
            self.kept.remove(&at);
        }
        // Symbolic links led out of it now and then.
        let (tops, _) = self.bench.namespace.list(&caller(SUPER), &path("/"), "", 1000).unwrap();
        for top in tops.into_iter().filter(|top| top.path != "tmp") {
            assert!(self.run(SUPER, delete(format!("/{}", top.path), true)));
        }
        for (owner, draft) in std::mem::take(&mut self.drafts) {
            self.run(USERS[owner], Op::Discard(Discard { inode: draft.inode, lease_epoch: draft.epoch }));
        }
        self.bench.reclaim_all();
        self.bench.check();
        let counts = self.bench.namespace.counts();
        assert_eq!((counts.files, counts.directories, counts.symlinks, counts.blocks), (0, 2, 0, 0), "/ and /tmp");
        assert_eq!(self.bench.namespace.leftovers(), [0; 10], "nothing in any side table");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, rng_seed: RngSeed::Fixed(0x5ca1_ab1e), max_shrink_iters: 4000, ..ProptestConfig::default() })]
    #[test]
    fn n_1_n_6_n_8_whatever_is_done_the_recount_agrees_and_snapshots_stay(steps in steps(90)) {
        let mut world = World::new();
        for (at, step) in steps.iter().enumerate() {
            world.step(*step);
            if at % 16 == 15 {
                world.bench.check();
            }
        }
        world.bench.check();
        world.end();
    }
}
