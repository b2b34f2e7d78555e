//! How much is looked at while the lock is held once: counted at the records themselves, whoever looks.

use proto::error::{ErrorCode, FsResult};
use proto::log::command::Op;
use proto::log::{
    AddBlock, AllowSnapshots, CallerRecord, Concat, Create, CreateSnapshot, Delete, DeleteSnapshot, Entry, Link, Mkdir,
    Rename, SetAttributes, SetQuota, Settings, UpdateSettings,
};
use proto::namespace::{DiffKind, DiffSnapshotsRequest};
use proto::path::MAX_DEPTH;

use super::harness::{Bench, SUPER, by, caller, code, command, homes, new_file, path, settings};
use crate::namespace::ops::{CHECKED_AT_ONCE, MAX_MOVED_BLOCKS, MAX_NAMES, MAX_SOURCES};
use crate::namespace::store::looks;
use crate::namespace::walk::{
    DiffWalk, FsckWalk, ListWalk, NAMES_AT_ONCE, Need, RightsWalk, SnapshotsWalk, StatWalk, SummaryWalk, Walk,
};
use crate::namespace::{Applied, COMMAND_SET_VERSION, Namespace, Outcome};

/// Records that a step may look at: some for each name.
const LOOKS_OF_A_STEP: u64 = 20 * NAMES_AT_ONCE as u64;
/// Entries of a directory that is wide enough to take several steps.
const WIDE: u64 = 6 * NAMES_AT_ONCE as u64;

/// With room for wide directories, and `/tmp/w` of ann's, of which there may be snapshots.
fn roomy() -> Bench {
    let mut bench = Bench::new();
    let roomy = Settings { max_directory_entries: 100_000, max_blocks_per_file: 100_000, ..settings() };
    bench.run(by(SUPER), Op::UpdateSettings(UpdateSettings { settings: Some(roomy) })).result.unwrap();
    bench.mkdir("ann", "/tmp/w", 0o755).unwrap();
    bench.run(by(SUPER), Op::AllowSnapshots(AllowSnapshots { path: "/tmp/w".into(), allow: true })).result.unwrap();
    bench
}
fn directories(bench: &mut Bench, at: &str, count: u64) {
    for n in 0..count {
        bench.mkdir("ann", &format!("{at}/d{n:05}"), 0o755).unwrap();
    }
}
fn empty_files(bench: &mut Bench, at: &str, count: u64) {
    for n in 0..count {
        let create =
            Create { path: format!("{at}/f{n:05}"), with_first_block: false, publish_at_once: true, ..new_file() };
        bench.run(by("ann"), Op::Create(create)).result.unwrap();
    }
}
fn snap(bench: &mut Bench, name: &str) {
    let create = CreateSnapshot { path: "/tmp/w".into(), name: name.into() };
    bench.run(by("ann"), Op::CreateSnapshot(create)).result.unwrap();
}

/// Goes on for one step, and counts.
fn step<W: Walk>(namespace: &Namespace, who: &CallerRecord, walk: &mut W) -> FsResult<bool> {
    let who = namespace.who(who).unwrap();
    let (done, looks) = looks::during(|| walk.step(namespace, &who, &mut NAMES_AT_ONCE.clone()));
    assert!(looks <= LOOKS_OF_A_STEP, "{looks} looks in one step");
    done
}
/// Walks to the end. The answer, and the steps that it took.
fn walk<W: Walk>(bench: &Bench, user: &str, mut walk: W) -> FsResult<(W::Answer, u64)> {
    let mut steps = 1;
    while !step(&bench.namespace, &caller(user), &mut walk)? {
        steps += 1;
    }
    Ok((walk.answer(), steps))
}
fn rights_step(bench: &Bench, user: &str, rights: &mut RightsWalk) -> FsResult<bool> {
    let record = caller(user);
    let who = bench.namespace.who(&record).unwrap();
    let step = || rights.step(&bench.namespace, &who, &mut NAMES_AT_ONCE.clone());
    let (done, looks) = looks::during(step);
    assert!(looks <= LOOKS_OF_A_STEP, "{looks} looks in one step");
    done
}
fn rights(bench: &Bench, user: &str, rights: &mut RightsWalk) -> FsResult<u64> {
    let mut steps = 1;
    while !rights_step(bench, user, rights)? {
        steps += 1;
    }
    Ok(steps)
}
fn to_delete(bench: &Bench, at: &str) -> RightsWalk {
    RightsWalk::new(Need::ToDelete, bench.stat(at).unwrap().inode)
}

#[test]
fn rights_on_a_wide_tree_are_looked_at_in_steps() {
    let mut bench = roomy();
    directories(&mut bench, "/tmp/w", WIDE);
    bench.mkdir("ann", "/tmp/w/d02999/x", 0o755).unwrap();
    let steps = rights(&bench, "ann", &mut to_delete(&bench, "/tmp/w")).unwrap();
    assert!((WIDE / NAMES_AT_ONCE as u64..6 * WIDE / NAMES_AT_ONCE as u64).contains(&steps), "{steps}");
    // An empty directory of somebody else is no obstacle, one with something in it is, wherever it lies.
    let other = |bench: &mut Bench, at: &str| {
        let own = SetAttributes { path: at.into(), owner: Some("bob".into()), ..SetAttributes::default() };
        bench.run(by(SUPER), Op::SetAttributes(own)).result.unwrap();
    };
    other(&mut bench, "/tmp/w/d00007");
    assert!(rights(&bench, "ann", &mut to_delete(&bench, "/tmp/w")).is_ok());
    other(&mut bench, "/tmp/w/d02999");
    let refused = rights(&bench, "ann", &mut to_delete(&bench, "/tmp/w")).unwrap_err();
    assert_eq!((refused.code, &*refused.path), (ErrorCode::PermissionDenied, "/tmp/w/d02999"));
}

#[test]
fn what_could_take_rights_away_is_noticed_and_nothing_else() {
    let mut bench = roomy();
    for at in ["/tmp/w/a", "/tmp/w/a/b", "/tmp/w/empty", "/tmp/w/sticky"] {
        bench.mkdir("ann", at, 0o755).unwrap();
    }
    let set = |path: &str, set: SetAttributes| Op::SetAttributes(SetAttributes { path: path.into(), ..set });
    bench
        .run(by("ann"), set("/tmp/w/sticky", SetAttributes { mode: Some(0o1777), ..Default::default() }))
        .result
        .unwrap();
    bench.file("ann", "/tmp/w/a/b/f", 1);
    bench.file("ann", "/tmp/w/sticky/f", 1);
    let mkdir = |path: &str| Op::Mkdir(Mkdir { path: path.into(), mode: 0o700, parents: false, unmasked_mode: None });
    let rename = |from: &str, to: &str| {
        Op::Rename(proto::log::Rename { from: from.into(), to: to.into(), replace: false, exchange: false })
    };
    let create = |path: &str| Op::Create(Create { path: path.into(), publish_at_once: true, ..new_file() });
    let acl = proto::log::ChangeAcl {
        path: "/tmp/w/a".into(),
        change: proto::namespace::AclChange::RemoveAll as u32,
        entries: Vec::new(),
    };
    let cases = [
        ("ann", set("/tmp/w/a/b", SetAttributes { mode: Some(0o700), ..Default::default() }), true),
        (SUPER, set("/tmp/w/a/b", SetAttributes { owner: Some("bob".into()), ..Default::default() }), true),
        (SUPER, set("/tmp/w/a/b", SetAttributes { owner: Some("ann".into()), ..Default::default() }), true),
        (SUPER, set("/tmp/w/sticky/f", SetAttributes { owner: Some("bob".into()), ..Default::default() }), true),
        ("ann", Op::ChangeAcl(acl), true),
        (SUPER, mkdir("/tmp/w/a/new"), true),
        (SUPER, create("/tmp/w/empty/f"), true),
        (SUPER, create("/tmp/w/sticky/g"), true),
        (SUPER, mkdir("/tmp/out"), false),
        (SUPER, rename("/tmp/out", "/tmp/w/a/in"), true),
        (SUPER, rename("/tmp/w/a/in", "/tmp/out"), false),
        (SUPER, create("/tmp/w/a/b/g"), false),
        ("ann", set("/tmp/w/a/b/f", SetAttributes { mode: Some(0), ..Default::default() }), false),
        (SUPER, set("/tmp/w/a/b/f", SetAttributes { owner: Some("bob".into()), ..Default::default() }), false),
        ("ann", set("/tmp/w/a/b", SetAttributes { mtime_ns: Some(7), ..Default::default() }), false),
        (SUPER, mkdir("/tmp/else"), false),
        (SUPER, Op::Delete(Delete { path: "/tmp/w/a/new".into(), recursive: true, checked_inode: 0 }), false),
    ];
    for (user, op, noticed) in cases {
        let mut walk = to_delete(&bench, "/tmp/w");
        // As a superuser: what may be there is not the question here.
        rights(&bench, SUPER, &mut walk).unwrap();
        assert!(walk.still_true(&bench.namespace));
        bench.run(by(user), op.clone()).result.unwrap_or_else(|error| panic!("{op:?}: {error}"));
        assert_eq!(!walk.still_true(&bench.namespace), noticed, "{op:?}");
    }
    bench.check();
}

#[test]
fn what_left_the_tree_meanwhile_is_not_asked_for() {
    let mut bench = roomy();
    directories(&mut bench, "/tmp/w", WIDE);
    bench.mkdir("ann", "/tmp/w/a", 0o755).unwrap();
    bench.mkdir("bob", "/tmp/bobs", 0o700).unwrap();
    bench.mkdir("bob", "/tmp/bobs/x", 0o700).unwrap();
    let mut walk = to_delete(&bench, "/tmp/w");
    bench.rename(SUPER, "/tmp/bobs", "/tmp/w/d00100", true).unwrap();
    assert!(!rights_step(&bench, SUPER, &mut walk).unwrap(), "the directory is known, and not looked into yet");
    bench.rename(SUPER, "/tmp/w/d00100", "/tmp/bobs", false).unwrap();
    let mut steps = 0;
    while !rights_step(&bench, "ann", &mut walk).unwrap() {
        steps += 1;
    }
    assert!(steps > 1);
}

/// Applies a delete as an entry of its own, and counts.
fn delete(bench: &mut Bench, user: &str, at: &str, checked_inode: u64) -> (Applied, u64) {
    let delete = Op::Delete(Delete { path: at.into(), recursive: true, checked_inode });
    looks::during(|| bench.run(by(user), delete))
}

#[test]
fn a_large_tree_is_deleted_on_the_leaders_word_and_apply_looks_at_little() {
    let mut bench = roomy();
    directories(&mut bench, "/tmp/w", WIDE);
    let inode = bench.stat("/tmp/w").unwrap().inode;
    let before = bench.namespace.store.hash;
    let (refused, looks) = delete(&mut bench, "ann", "/tmp/w", 0);
    assert_eq!(refused.unchecked.map(proto::ids::InodeId::raw), Some(inode));
    assert!(looks <= 20 * CHECKED_AT_ONCE as u64, "{looks}");
    let refusal = refused.result.unwrap_err();
    assert!(refusal.code == ErrorCode::Overloaded && refusal.retryable() && !refusal.hint.is_empty());
    for another in [1, inode + 1] {
        let (refused, _) = delete(&mut bench, "ann", "/tmp/w", another);
        assert_eq!(
            (refused.unchecked, code(refused.result)),
            (None, ErrorCode::NotFound),
            "it stands for another tree"
        );
    }
    assert_eq!(bench.namespace.store.hash, before);
    let (gone, looks) = delete(&mut bench, "ann", "/tmp/w", inode);
    assert_eq!(gone.result, Ok(Outcome::Deleted { files: 0, directories: WIDE + 1 }));
    assert!(looks < 200, "{looks}");
    bench.check();
    bench.reclaim_all();
    bench.check();
}

#[test]
fn small_trees_are_checked_at_once_and_entries_of_older_versions_always() {
    let mut bench = roomy();
    directories(&mut bench, "/tmp/w", 100);
    bench.mkdir("bob", "/tmp/b", 0o755).unwrap();
    for n in 0..2 * CHECKED_AT_ONCE {
        bench.mkdir("bob", &format!("/tmp/b/{n}"), 0o755).unwrap();
    }
    assert_eq!(code(delete(&mut bench, "bob", "/tmp/w", 0).0.result), ErrorCode::PermissionDenied);
    assert!(delete(&mut bench, "ann", "/tmp/w", 0).0.result.is_ok());
    bench.version = 2;
    assert!(delete(&mut bench, "bob", "/tmp/b", 0).0.result.is_ok());
    bench.check();
}

#[test]
fn commands_are_applied_as_many_at_a_time_as_their_work_allows() {
    let mut bench = roomy();
    for n in 0..40 {
        bench.mkdir("ann", &format!("/tmp/w/{n}"), 0o755).unwrap();
        directories(&mut bench, &format!("/tmp/w/{n}"), 200);
    }
    let delete = |n| Op::Delete(Delete { path: format!("/tmp/w/{n}"), recursive: true, checked_inode: 0 });
    let mkdir = |n| Op::Mkdir(Mkdir { path: format!("/tmp/{n}"), mode: 0o755, parents: false, unmasked_mode: None });
    let entry = |ops: Vec<Op>| Entry {
        version: bench.version,
        callers: vec![caller("ann")],
        commands: ops.into_iter().map(command).collect(),
        ..Entry::default()
    };
    let entries = [(entry((0..40).map(delete).collect()), 1..=8), (entry((100..180).map(mkdir).collect()), 32..=32)];
    for (entry, expected) in entries {
        let (index, term) = bench.namespace.applied();
        bench.namespace.begin(proto::ids::LogIndex::from_raw(index.raw() + 1), term, &entry).unwrap();
        let (mut done, mut slices) = (0, Vec::new());
        while done < entry.commands.len() {
            let run = || bench.namespace.apply_within(&entry, &entry.commands[done..]);
            let (applied, looks) = looks::during(run);
            assert!(applied.iter().all(|applied| applied.result.is_ok()));
            assert!(looks <= 12_000, "{looks} looks in one slice");
            done += applied.len();
            slices.push(applied.len());
        }
        slices.pop();
        assert!(slices.iter().all(|count| expected.contains(count)), "{slices:?}");
    }
}

#[test]
fn totals_of_a_wide_tree_take_steps_for_who_may_not_look_everywhere() {
    let mut bench = roomy();
    directories(&mut bench, "/tmp/w", WIDE);
    bench.file("ann", "/tmp/w/d00000/f", 10);
    let (whole, steps) = walk(&bench, SUPER, SummaryWalk::new(path("/tmp/w"))).unwrap();
    assert_eq!((whole.directories, whole.files, steps), (WIDE + 1, 1, 1));
    let (seen, steps) = walk(&bench, "bob", SummaryWalk::new(path("/tmp/w"))).unwrap();
    assert_eq!(seen, whole);
    assert!(steps >= WIDE / NAMES_AT_ONCE as u64, "{steps}");
    let hide = SetAttributes { path: "/tmp/w/d02000".into(), mode: Some(0o700), ..SetAttributes::default() };
    bench.run(by("ann"), Op::SetAttributes(hide)).result.unwrap();
    let refused = walk(&bench, "bob", SummaryWalk::new(path("/tmp/w"))).map(|(summary, _)| summary);
    assert_eq!(code(refused), ErrorCode::PermissionDenied);
}

#[test]
fn what_snapshots_see_is_found_in_steps_between_what_came_and_went() {
    let mut bench = roomy();
    bench.mkdir("ann", "/tmp/w/d", 0o755).unwrap();
    bench.file("ann", "/tmp/w/d/a", 1);
    bench.file("ann", "/tmp/w/d/z", 2);
    snap(&mut bench, "s1");
    bench.delete("ann", "/tmp/w/d/z", false).unwrap();
    empty_files(&mut bench, "/tmp/w/d", WIDE);
    snap(&mut bench, "s2");
    let at = path("/tmp/w/.snapshot/s1/d");
    let ((entries, more), steps) = walk(&bench, "ann", ListWalk::new(at.clone(), "", 10)).unwrap();
    assert_eq!(entries.iter().map(|entry| &*entry.path).collect::<Vec<_>>(), ["a", "z"]);
    assert!(!more && steps >= WIDE / NAMES_AT_ONCE as u64, "{steps}");
    let ((entries, more), _) = walk(&bench, "ann", ListWalk::new(at.clone(), "", 1)).unwrap();
    assert_eq!((&*entries[0].path, more), ("a", true));
    let ((entries, more), _) = walk(&bench, "ann", ListWalk::new(at.clone(), "a", 1)).unwrap();
    assert_eq!((&*entries[0].path, more), ("z", false));

    let status = |bench: &Bench, at: &str| {
        let record = caller("ann");
        let begun = StatWalk::begin(&bench.namespace, &bench.namespace.who(&record).unwrap(), &path(at), LAST).unwrap();
        walk(bench, "ann", begun).unwrap()
    };
    let (seen, steps) = status(&bench, "/tmp/w/.snapshot/s1/d");
    assert_eq!(seen.children, 2);
    assert!(steps >= WIDE / NAMES_AT_ONCE as u64, "{steps}");
    assert_eq!(status(&bench, "/tmp/w/.snapshot/s2/d").0.children, WIDE + 1);
    assert_eq!((status(&bench, "/tmp/w/d").0.children, status(&bench, "/tmp/w/d").1), (WIDE + 1, 1));

    let (past, steps) = walk(&bench, "ann", SummaryWalk::new(path("/tmp/w/.snapshot/s1"))).unwrap();
    assert_eq!((past.files, past.directories, past.len_bytes, past.space_bytes), (2, 2, 3, 9));
    assert!(steps >= WIDE / NAMES_AT_ONCE as u64, "{steps}");
    // What only snapshots hold is looked for among all ghosts.
    for n in 0..WIDE {
        bench.delete("ann", &format!("/tmp/w/d/f{n:05}"), false).unwrap();
    }
    let (now, steps) = walk(&bench, SUPER, SummaryWalk::new(path("/tmp/w"))).unwrap();
    assert_eq!((now.files, now.snapshot_files, now.snapshot_len_bytes), (1, WIDE + 1, 2));
    assert!(steps >= WIDE / NAMES_AT_ONCE as u64, "{steps}");
}

const LAST: crate::namespace::resolve::Last = crate::namespace::resolve::Last::Follow;

#[test]
fn a_walk_whose_snapshot_goes_says_so() {
    let mut bench = roomy();
    empty_files(&mut bench, "/tmp/w", WIDE);
    snap(&mut bench, "s1");
    let ann = caller("ann");
    let at = path("/tmp/w/.snapshot/s1");
    let mut summary = SummaryWalk::new(at.clone());
    let mut list = ListWalk::new(at, "", 5000);
    let request = DiffSnapshotsRequest { path: "/tmp/w".into(), from: "s1".into(), ..Default::default() };
    let mut diff = DiffWalk::new(&request).unwrap();
    assert!(!step(&bench.namespace, &ann, &mut summary).unwrap());
    assert!(!step(&bench.namespace, &ann, &mut list).unwrap());
    assert!(!step(&bench.namespace, &ann, &mut diff).unwrap());
    let gone = DeleteSnapshot { path: "/tmp/w".into(), name: "s1".into() };
    bench.run(by("ann"), Op::DeleteSnapshot(gone)).result.unwrap();
    assert_eq!(code(step(&bench.namespace, &ann, &mut summary)), ErrorCode::NotFound);
    assert_eq!(code(step(&bench.namespace, &ann, &mut list)), ErrorCode::NotFound);
    assert_eq!(code(step(&bench.namespace, &ann, &mut diff)), ErrorCode::NotFound);
}

#[test]
fn snapshots_are_listed_in_steps_and_found_by_name_in_one() {
    let mut bench = roomy();
    for n in 0..WIDE {
        snap(&mut bench, &format!("s{:05}", (n * 7) % WIDE));
    }
    let (all, steps) = walk(&bench, "ann", SnapshotsWalk::new("/tmp/w").unwrap()).unwrap();
    assert_eq!(all.len() as u64, WIDE);
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id), "oldest first");
    assert_eq!(steps, WIDE / NAMES_AT_ONCE as u64);
    let (directories, _) = walk(&bench, SUPER, SnapshotsWalk::new("").unwrap()).unwrap();
    assert_eq!((&*directories[0].directory, directories[0].snapshots), ("/tmp/w", WIDE));
    let ((names, more), looks) =
        looks::during(|| bench.namespace.list(&caller("ann"), &path("/tmp/w/.snapshot"), "s00999", 3).unwrap());
    assert_eq!(names.iter().map(|entry| &*entry.path).collect::<Vec<_>>(), ["s01000", "s01001", "s01002"]);
    assert!(more && looks < 200, "{looks}");
}

#[test]
fn differences_of_wide_directories_are_found_in_steps() {
    let mut bench = roomy();
    bench.mkdir("ann", "/tmp/w/d", 0o755).unwrap();
    bench.mkdir("ann", "/tmp/w/moved", 0o755).unwrap();
    empty_files(&mut bench, "/tmp/w/d", WIDE);
    directories(&mut bench, "/tmp/w/d", WIDE);
    snap(&mut bench, "s1");
    for n in (0..WIDE).step_by(100) {
        bench.delete("ann", &format!("/tmp/w/d/f{n:05}"), false).unwrap();
        bench.mkdir("ann", &format!("/tmp/w/d/g{n:05}"), 0o755).unwrap();
    }
    bench.rename("ann", "/tmp/w/d/f00001", "/tmp/w/one", false).unwrap();
    bench.rename("ann", "/tmp/w/moved", "/tmp/w/d/away", false).unwrap();
    bench.mkdir("ann", "/tmp/w/d/away/new", 0o755).unwrap();
    let request = DiffSnapshotsRequest { path: "/tmp/w".into(), from: "s1".into(), ..Default::default() };
    let (entries, steps) = walk(&bench, "ann", DiffWalk::new(&request).unwrap()).unwrap();
    assert!(steps >= 3 * WIDE / NAMES_AT_ONCE as u64, "{steps}");
    let of = |kind: DiffKind| entries.iter().filter(|entry| entry.kind() == kind).collect::<Vec<_>>();
    let hundredth = WIDE.div_ceil(100) as usize;
    assert_eq!((of(DiffKind::Deleted).len(), of(DiffKind::Created).len()), (hundredth, hundredth + 1));
    let renamed: Vec<_> = of(DiffKind::Renamed).iter().map(|entry| (&*entry.path, &*entry.target)).collect();
    assert_eq!(renamed, [("d/f00001", "one"), ("moved", "d/away")]);
    let modified: Vec<_> = of(DiffKind::Modified).iter().map(|entry| &*entry.path).collect();
    assert_eq!(modified, ["", "d", "d/away"]);
    let same = DiffSnapshotsRequest { to: "s1".into(), ..request };
    let (entries, steps) = walk(&bench, "ann", DiffWalk::new(&same).unwrap()).unwrap();
    assert!(entries.is_empty() && steps >= 2 * WIDE / NAMES_AT_ONCE as u64, "{steps}");
}

#[test]
fn fsck_adds_wide_directories_up_in_steps_and_says_if_they_do_not_hold_still() {
    let mut bench = roomy();
    empty_files(&mut bench, "/tmp/w", WIDE);
    let fsck = || FsckWalk::new(path("/tmp/w"), &[], 1000).unwrap();
    let (found, steps) = walk(&bench, SUPER, fsck()).unwrap();
    assert_eq!((found.directories, found.files.len(), found.recounted), (1, 1000, true));
    assert!(found.contradictions.is_empty() && steps >= (WIDE + 1000) / NAMES_AT_ONCE as u64, "{steps}");
    // Names go from behind where it stands to before it: a sum of no one moment.
    let mut busy = fsck();
    let mut n = WIDE;
    while !step(&bench.namespace, &caller(SUPER), &mut busy).unwrap() {
        n -= 1;
        bench.rename("ann", &format!("/tmp/w/f{n:05}"), &format!("/tmp/w/a{n:05}"), false).unwrap();
    }
    let found = busy.answer();
    assert!(found.contradictions.is_empty() && !found.recounted, "{:?}", found.contradictions);
    // A change that is over in time is none.
    let mut calm = fsck();
    assert!(!step(&bench.namespace, &caller(SUPER), &mut calm).unwrap());
    bench.rename("ann", "/tmp/w/f00000", "/tmp/w/zzz", false).unwrap();
    while !step(&bench.namespace, &caller(SUPER), &mut calm).unwrap() {}
    let found = calm.answer();
    assert!(found.contradictions.is_empty() && found.recounted);
    // What is wrong is found, in whatever step it lies.
    let slot = bench.namespace.store.slot(bench.stat("/tmp/w").unwrap().inode).unwrap();
    let mut totals = bench.namespace.store.directory(slot).below;
    totals.files += 1;
    bench.namespace.store.set_totals(slot, totals);
    let (found, _) = walk(&bench, SUPER, fsck()).unwrap();
    assert_eq!(found.contradictions, ["/tmp/w: its totals are not the sum of its entries"]);
}

#[test]
fn a_file_with_all_its_names_changes_within_bounds() {
    let mut bench = roomy();
    bench.mkdir("ann", "/tmp/w/q", 0o755).unwrap();
    let quota = SetQuota { path: "/tmp/w".into(), name_quota: Some(1 << 20), ..SetQuota::default() };
    bench.run(by(SUPER), Op::SetQuota(quota)).result.unwrap();
    let draft = bench.create("ann", "/tmp/w/q/f", true).unwrap();
    for n in 1..u64::from(MAX_NAMES) {
        bench.mkdir("ann", &format!("/tmp/w/q/d{n}"), 0o755).unwrap();
        let link = Link { existing: "/tmp/w/q/f".into(), path: format!("/tmp/w/q/d{n}/l") };
        bench.run(by("ann"), Op::Link(link)).result.unwrap();
    }
    let add =
        AddBlock { inode: draft.inode, lease_epoch: draft.epoch, previous: draft.committed(1024), storages: homes(3) };
    let (added, looks) = looks::during(|| bench.run(by("ann"), Op::AddBlock(add)));
    added.result.unwrap();
    assert!(looks <= 60 * u64::from(MAX_NAMES), "{looks} looks for {MAX_NAMES} names in directories of their own");
    bench.check();
}

#[test]
fn as_many_directories_below_each_other_as_a_path_may_have_are_made_with_a_few_looks_each() {
    let mut bench = roomy();
    // Once with a snapshot above them, which changes what is kept of new entries.
    for covered in [false, true] {
        if covered {
            snap(&mut bench, "s");
        }
        let deep = format!("/tmp/w{}", format!("/{covered}").repeat(MAX_DEPTH - 2));
        let make = Mkdir { path: deep.clone(), mode: 0o755, parents: true, ..Mkdir::default() };
        let (made, looks) = looks::during(|| bench.run(by("ann"), Op::Mkdir(make)));
        made.result.unwrap();
        assert!(looks <= 30 * MAX_DEPTH as u64, "{looks} looks");
        assert_eq!(bench.stat(&deep).unwrap().path, deep);
        bench.check();
    }
}

#[test]
fn who_moves_or_removes_a_tree_does_not_look_at_snapshots_elsewhere() {
    let mut bench = roomy();
    let allow = |path: &str, allow| Op::AllowSnapshots(AllowSnapshots { path: path.into(), allow });
    snap(&mut bench, "s");
    bench.mkdir("ann", "/tmp/many", 0o755).unwrap();
    for n in 0..WIDE {
        let path = format!("/tmp/many/d{n:05}");
        bench.mkdir("ann", &path, 0o755).unwrap();
        bench.run(by(SUPER), allow(&path, true)).result.unwrap();
        let create = CreateSnapshot { path, name: "s".into() };
        bench.run(by("ann"), Op::CreateSnapshot(create)).result.unwrap();
    }
    bench.mkdir("ann", "/tmp/other", 0o755).unwrap();
    bench.mkdir("ann", "/tmp/other/d", 0o755).unwrap();
    let rename = |from: &str, to: &str| Op::Rename(Rename { from: from.into(), to: to.into(), ..Rename::default() });
    let delete = |path: &str| Op::Delete(Delete { path: path.into(), recursive: true, ..Delete::default() });
    let mut little = |user: &str, op: Op| {
        let (done, looks) = looks::during(|| bench.run(by(user), op));
        assert!(looks < 500, "{looks} looks");
        done.result.map_err(|error| error.code)
    };
    little(SUPER, allow("/tmp/other/d", true)).unwrap();
    // Into a tree of which there are snapshots: what may have some of its own stays outside.
    assert_eq!(little("ann", rename("/tmp/other", "/tmp/w/o")).unwrap_err(), ErrorCode::InvalidArgument);
    little(SUPER, allow("/tmp/other/d", false)).unwrap();
    little("ann", rename("/tmp/other", "/tmp/w/o")).unwrap();
    little("ann", delete("/tmp/w/o")).unwrap();
    // Whoever is refused is told where.
    assert_eq!(bench.run(by(SUPER), delete("/tmp/many")).result.unwrap_err().code, ErrorCode::NotEmpty);
    for n in 0..WIDE {
        let remove = DeleteSnapshot { path: format!("/tmp/many/d{n:05}"), name: "s".into() };
        bench.run(by("ann"), Op::DeleteSnapshot(remove)).result.unwrap();
    }
    bench.run(by(SUPER), delete("/tmp/many")).result.unwrap();
    bench.check();
}

#[test]
fn concat_takes_as_many_sources_and_blocks_as_one_step_can_move() {
    let mut bench = roomy();
    bench.file("ann", "/tmp/w/t", 1);
    let names: Vec<String> = (0..=MAX_SOURCES).map(|n| format!("/tmp/w/s{n}")).collect();
    for name in &names {
        bench.file("ann", name, 1);
    }
    let concat = |sources: &[String]| Op::Concat(Concat { target: "/tmp/w/t".into(), sources: sources.to_vec() });
    let refused = bench.run(by("ann"), concat(&names)).result.unwrap_err();
    assert_eq!((refused.code, refused.hint.is_empty()), (ErrorCode::InvalidArgument, false));
    let (joined, looks) = looks::during(|| bench.run(by("ann"), concat(&names[..MAX_SOURCES])));
    joined.result.unwrap();
    assert!(looks <= 100 * MAX_SOURCES as u64, "{looks}");
    assert_eq!(bench.stat("/tmp/w/t").unwrap().len_bytes, 1 + MAX_SOURCES as u64);

    let mut draft = bench.create("ann", "/tmp/w/long", true).unwrap();
    for _ in 0..MAX_MOVED_BLOCKS {
        draft.block = Some(bench.add_block("ann", &draft, 1).unwrap());
    }
    bench.complete("ann", &draft, 1).unwrap();
    let long = ["/tmp/w/long".to_owned()];
    let refused = bench.run(by("ann"), concat(&long)).result.unwrap_err();
    assert_eq!((refused.code, refused.hint.contains("copy")), (ErrorCode::InvalidArgument, true));
    // One block less can be joined, which entries of older versions refused: a log of them is replayed as it was.
    bench.truncate("ann", "/tmp/w/long", MAX_MOVED_BLOCKS).unwrap();
    for version in [3, 4] {
        bench.version = version;
        let refused = bench.run(by("ann"), concat(&long)).result.unwrap_err();
        assert!(refused.message.contains("one call moves 5000"), "{refused}");
    }
    bench.version = COMMAND_SET_VERSION;
    let (joined, looks) = looks::during(|| bench.run(by("ann"), concat(&long)));
    joined.result.unwrap();
    assert!(looks <= 20 * MAX_MOVED_BLOCKS, "{looks}");
    bench.check();

    let mut draft = bench.create("ann", "/tmp/w/longer", true).unwrap();
    for _ in 0..MAX_MOVED_BLOCKS {
        draft.block = Some(bench.add_block("ann", &draft, 1).unwrap());
    }
    bench.complete("ann", &draft, 1).unwrap();
    bench.version = 2;
    bench.run(by("ann"), concat(&["/tmp/w/longer".to_owned()])).result.unwrap();
    bench.check();
}

#[test]
fn r_5_what_a_change_looks_at_grows_with_the_past_of_its_file_and_not_with_its_square() {
    let mut bench = roomy();
    let file = "/tmp/w/f";
    let draft = bench.create("ann", file, true).unwrap();
    bench.complete("ann", &draft, 7).unwrap();
    // As many states as cuts, each of which one snapshot sees.
    let many = 300;
    for n in 0..many {
        snap(&mut bench, &format!("s{n:05}"));
        bench.truncate("ann", file, 0).unwrap();
        let mut draft = bench.append_with(by("ann"), file, true).unwrap().draft;
        draft.block = Some(bench.add_block("ann", &draft, 0).unwrap());
        bench.complete("ann", &draft, 7).unwrap();
    }
    bench.check();
    snap(&mut bench, "last");
    let private = SetAttributes { path: file.into(), mode: Some(0o600), ..SetAttributes::default() };
    bench.run(by("ann"), Op::SetAttributes(private)).result.unwrap();
    let cut = |len_bytes| Op::Truncate(proto::log::Truncate { path: file.into(), len_bytes, ..Default::default() });
    let append = Op::Append(proto::log::Append { path: file.into(), new_block: false, good: Vec::new() });
    let mut looks_of = |op| {
        bench.namespace.work = 0;
        let (applied, looks) = looks::during(|| bench.run(by("ann"), op));
        assert!(looks <= 20 * many, "{looks} looks at {many} states and cuts: {:?}", applied.result);
        assert!(bench.namespace.work >= 2 * many as usize, "it counts as work: {}", bench.namespace.work);
        applied.result
    };
    assert_eq!(code(looks_of(cut(3))), ErrorCode::Unsupported, "the last snapshot sees 7 bytes");
    assert!(matches!(looks_of(cut(0)), Ok(Outcome::Truncated { done: true, .. })));
    let mut draft = bench.append_with(by("ann"), file, true).unwrap().draft;
    draft.block = Some(bench.add_block("ann", &draft, 0).unwrap());
    bench.complete("ann", &draft, 7).unwrap();
    bench.namespace.work = 0;
    let (applied, looks) = looks::during(|| bench.run(by("ann"), append));
    assert!(matches!(applied.result, Ok(Outcome::Appending { last: Some(_), .. })), "{:?}", applied.result);
    assert!(looks <= 20 * many && bench.namespace.work >= 2 * many as usize, "{looks} looks");
    bench.check();
}
