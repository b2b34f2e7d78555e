//! Snapshots: what they see, what they keep, what goes with them.

use proto::error::{ErrorCode, FsResult};
use proto::log::command::Op;
use proto::log::{AllowSnapshots, CreateSnapshot, DeleteSnapshot, Link, RenameSnapshot, SetAttributes, SetXattr};
use proto::namespace::{DiffKind, DiffSnapshotsRequest, GetXattrsRequest};

use super::harness::{Bench, SUPER, by, caller, code, path};
use crate::namespace::{BlockEffect, Outcome};

fn prepared() -> Bench {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/r", 0o755).unwrap();
    bench.run(by(SUPER), Op::AllowSnapshots(AllowSnapshots { path: "/tmp/r".into(), allow: true })).result.unwrap();
    bench
}
fn snap(bench: &mut Bench, name: &str) -> FsResult<Outcome> {
    bench.run(by("ann"), Op::CreateSnapshot(CreateSnapshot { path: "/tmp/r".into(), name: name.into() })).result
}
fn unsnap(bench: &mut Bench, name: &str) -> Vec<BlockEffect> {
    let delete = DeleteSnapshot { path: "/tmp/r".into(), name: name.into() };
    bench.run(by("ann"), Op::DeleteSnapshot(delete)).result.unwrap();
    let mut effects = Vec::new();
    while bench.namespace.reclaim_pending() > 0 {
        let step = bench.run(by(SUPER), Op::Reclaim(proto::log::Reclaim { limit: 3 }));
        step.result.unwrap();
        effects.extend(step.effects);
    }
    effects
}
fn names(bench: &Bench, at: &str) -> Vec<String> {
    let (entries, _) = bench.namespace.list(&caller("ann"), &path(at), "", 1000).unwrap();
    entries.into_iter().map(|entry| entry.path).collect()
}

#[test]
fn n_6_what_was_there_stays_there() {
    let mut bench = prepared();
    bench.file("ann", "/tmp/r/f", 10);
    bench.mkdir("ann", "/tmp/r/d", 0o755).unwrap();
    bench.file("ann", "/tmp/r/d/g", 20);
    assert_eq!(snap(&mut bench, "s1").unwrap(), Outcome::Named("/tmp/r/.snapshot/s1".into()));
    bench.delete("ann", "/tmp/r/f", false).unwrap();
    bench.file("ann", "/tmp/r/f", 30);
    bench.rename("ann", "/tmp/r/d", "/tmp/r/e", false).unwrap();
    bench.file("ann", "/tmp/r/e/new", 1);
    let mode = SetAttributes { path: "/tmp/r/e/g".into(), mode: Some(0o600), ..SetAttributes::default() };
    bench.run(by("ann"), Op::SetAttributes(mode)).result.unwrap();
    bench.check();
    assert_eq!(names(&bench, "/tmp/r/.snapshot"), ["s1"]);
    assert_eq!(names(&bench, "/tmp/r/.snapshot/s1"), ["d", "f"]);
    assert_eq!(names(&bench, "/tmp/r/.snapshot/s1/d"), ["g"]);
    assert_eq!(bench.open("ann", "/tmp/r/.snapshot/s1/f").unwrap().status.len_bytes, 10);
    assert_eq!(bench.stat("/tmp/r/.snapshot/s1/d/g").unwrap().mode, 0o644);
    assert_eq!(bench.stat("/tmp/r/e/g").unwrap().mode, 0o600);
    assert_eq!(names(&bench, "/tmp/r/e"), ["g", "new"]);
    // Its blocks go with the snapshot, not before.
    assert!(matches!(unsnap(&mut bench, "s1")[..], [BlockEffect::Freed { len_bytes: 10, .. }]));
    assert_eq!(bench.namespace.leftovers(), [0; 10]);
    bench.check();
}

#[test]
fn sc_10_a_tree_that_was_moved_out_is_kept_as_it_was() {
    let mut bench = prepared();
    bench.mkdir("ann", "/tmp/r/d", 0o755).unwrap();
    bench.file("ann", "/tmp/r/d/f", 10);
    bench.file("ann", "/tmp/r/d/g", 10);
    snap(&mut bench, "s1").unwrap();
    bench.rename("ann", "/tmp/r/d", "/tmp/out", false).unwrap();
    bench.delete("ann", "/tmp/out/f", false).unwrap();
    bench.file("ann", "/tmp/out/h", 10);
    bench.rename("ann", "/tmp/out/g", "/tmp/g", false).unwrap();
    bench.check();
    assert_eq!(names(&bench, "/tmp/r/.snapshot/s1/d"), ["f", "g"]);
    bench.delete("ann", "/tmp/out", true).unwrap();
    bench.reclaim_all();
    bench.check();
    assert_eq!(names(&bench, "/tmp/r/.snapshot/s1/d"), ["f", "g"]);
    assert!(bench.open("ann", "/tmp/r/.snapshot/s1/d/f").is_ok());
    unsnap(&mut bench, "s1");
    bench.reclaim_all();
    bench.check();
    assert_eq!(bench.namespace.counts().blocks, 1, "/tmp/g is left");
    assert_eq!(bench.namespace.leftovers(), [0; 10]);
}

#[test]
fn sc_11_files_open_in_a_deleted_tree_are_nobodys_and_keep_what_was_acknowledged() {
    let mut bench = prepared();
    bench.mkdir("ann", "/tmp/r/d", 0o755).unwrap();
    let mut draft = bench.create("ann", "/tmp/r/d/f", true).unwrap();
    draft.block = Some(bench.add_block("ann", &draft, 4096).unwrap());
    snap(&mut bench, "s1").unwrap();
    bench.delete("ann", "/tmp/r/d", true).unwrap();
    bench.reclaim_all();
    bench.check();
    assert_eq!(code(bench.complete("ann", &draft, 7)), ErrorCode::NotFound);
    assert_eq!(bench.namespace.counts().open_files, 0);
    let file = bench.open("ann", "/tmp/r/.snapshot/s1/d/f").unwrap();
    assert_eq!((file.status.len_bytes, file.blocks.len()), (4096, 1));
    unsnap(&mut bench, "s1");
    bench.reclaim_all();
    assert_eq!(bench.namespace.counts().blocks, 0);
    bench.check();
}

#[test]
fn an_open_file_is_seen_with_the_length_it_had() {
    let mut bench = prepared();
    let mut draft = bench.create("ann", "/tmp/r/f", true).unwrap();
    draft.block = Some(bench.add_block("ann", &draft, 4096).unwrap());
    snap(&mut bench, "s1").unwrap();
    draft.block = Some(bench.add_block("ann", &draft, 4096).unwrap());
    bench.complete("ann", &draft, 5).unwrap();
    assert_eq!(bench.stat("/tmp/r/f").unwrap().len_bytes, 8197);
    let seen = bench.open("ann", "/tmp/r/.snapshot/s1/f").unwrap();
    assert_eq!((seen.status.len_bytes, seen.blocks.len()), (4096, 1));
    bench.check();
}

#[test]
fn what_is_younger_than_the_snapshot_goes_with_its_tree() {
    let mut bench = prepared();
    bench.mkdir("ann", "/tmp/r/d", 0o755).unwrap();
    bench.file("ann", "/tmp/r/d/old", 10);
    snap(&mut bench, "s1").unwrap();
    for n in 0..20 {
        bench.file("ann", &format!("/tmp/r/d/new{n}"), 10);
    }
    bench.mkdir("ann", "/tmp/r/d/sub", 0o755).unwrap();
    bench.file("ann", "/tmp/r/d/sub/x", 10);
    bench.delete("ann", "/tmp/r/d", true).unwrap();
    bench.check();
    bench.reclaim_all();
    bench.check();
    assert_eq!(bench.namespace.counts().blocks, 1);
    let summary = bench.namespace.content_summary(&caller(SUPER), &path("/tmp/r")).unwrap();
    assert_eq!((summary.files, summary.snapshot_files, summary.snapshot_len_bytes), (0, 1, 10));
}

#[test]
fn a_hard_link_outside_is_covered_as_well() {
    let mut bench = prepared();
    bench.file("ann", "/tmp/r/f", 10);
    bench.run(by("ann"), Op::Link(Link { existing: "/tmp/r/f".into(), path: "/tmp/l".into() })).result.unwrap();
    snap(&mut bench, "s1").unwrap();
    bench.delete("ann", "/tmp/r/f", false).unwrap();
    let mode = SetAttributes { path: "/tmp/l".into(), mode: Some(0o600), ..SetAttributes::default() };
    bench.run(by("ann"), Op::SetAttributes(mode)).result.unwrap();
    assert_eq!(bench.stat("/tmp/r/.snapshot/s1/f").unwrap().mode, 0o644);
    bench.check();
    bench.delete("ann", "/tmp/l", false).unwrap();
    assert!(bench.open("ann", "/tmp/r/.snapshot/s1/f").is_ok());
    bench.check();
    assert_eq!(unsnap(&mut bench, "s1").len(), 1);
    assert_eq!(bench.namespace.leftovers(), [0; 10]);
}

#[test]
fn snapshots_cannot_be_changed_and_their_name_is_reserved() {
    let mut bench = prepared();
    bench.file("ann", "/tmp/r/f", 10);
    snap(&mut bench, "s1").unwrap();
    for at in ["/tmp/r/.snapshot/x", "/tmp/r/.snapshot/s1/x", "/tmp/.snapshot"] {
        assert_eq!(code(bench.mkdir(SUPER, at, 0o755)), ErrorCode::ReadOnly, "{at}");
    }
    assert_eq!(code(bench.delete(SUPER, "/tmp/r/.snapshot/s1/f", false)), ErrorCode::ReadOnly);
    assert_eq!(code(bench.rename(SUPER, "/tmp/r/.snapshot/s1/f", "/tmp/x", false)), ErrorCode::ReadOnly);
    assert_eq!(code(bench.rename(SUPER, "/tmp/r/f", "/tmp/r/.snapshot", false)), ErrorCode::ReadOnly);
    assert_eq!(code(bench.create(SUPER, "/tmp/r/.snapshot/s1/g", false)), ErrorCode::ReadOnly);
    assert_eq!(code(bench.delete(SUPER, "/tmp/r", true)), ErrorCode::NotEmpty);
    assert_eq!(code(bench.delete(SUPER, "/tmp", true)), ErrorCode::NotEmpty, "nor what it lies in");
    assert_eq!(code(bench.rename(SUPER, "/tmp/r", "/tmp/q", false)), ErrorCode::InvalidArgument);
    assert_eq!(code(snap(&mut bench, "s1")), ErrorCode::AlreadyExists);
    for bad in ["", "a/b", ".", "..", ".snapshot"] {
        assert!(snap(&mut bench, bad).is_err(), "{bad:?}");
    }
    let refused = bench.run(by("bob"), Op::CreateSnapshot(CreateSnapshot { path: "/tmp/r".into(), name: "b".into() }));
    assert_eq!(code(refused.result), ErrorCode::PermissionDenied);
    let nested = AllowSnapshots { path: "/tmp".into(), allow: true };
    assert_eq!(code(bench.run(by(SUPER), Op::AllowSnapshots(nested)).result), ErrorCode::InvalidArgument);
    let rename = RenameSnapshot { path: "/tmp/r".into(), from: "s1".into(), to: "s2".into() };
    bench.run(by("ann"), Op::RenameSnapshot(rename)).result.unwrap();
    assert_eq!(names(&bench, "/tmp/r/.snapshot/s2"), ["f"]);
    assert_eq!(code(bench.namespace.stat(&caller("ann"), &path("/tmp/r/.snapshot/s1"))), ErrorCode::NotFound);
    assert_eq!(code(bench.namespace.stat(&caller("ann"), &path("/tmp/.snapshot"))), ErrorCode::NotFound);
    bench.check();
}

#[test]
fn a_middle_snapshot_goes_and_the_others_see_what_they_saw() {
    let mut bench = prepared();
    for (snapshot, mode) in [("s1", 0o601), ("s2", 0o602), ("s3", 0o603)] {
        if bench.stat("/tmp/r/f").is_none() {
            bench.file("ann", "/tmp/r/f", 10);
        }
        let set = SetAttributes { path: "/tmp/r/f".into(), mode: Some(mode), ..SetAttributes::default() };
        bench.run(by("ann"), Op::SetAttributes(set)).result.unwrap();
        snap(&mut bench, snapshot).unwrap();
    }
    bench.delete("ann", "/tmp/r/f", false).unwrap();
    unsnap(&mut bench, "s2");
    bench.check();
    assert_eq!(bench.stat("/tmp/r/.snapshot/s1/f").unwrap().mode, 0o601);
    assert_eq!(bench.stat("/tmp/r/.snapshot/s3/f").unwrap().mode, 0o603);
    unsnap(&mut bench, "s3");
    bench.check();
    assert_eq!(bench.stat("/tmp/r/.snapshot/s1/f").unwrap().mode, 0o601);
    assert_eq!(unsnap(&mut bench, "s1").len(), 1);
    assert_eq!(bench.namespace.leftovers(), [0; 10]);
    bench.check();
}

#[test]
fn differences_are_told() {
    let mut bench = prepared();
    for name in ["kept", "changed", "gone", "moved"] {
        bench.file("ann", &format!("/tmp/r/{name}"), 10);
    }
    bench.mkdir("ann", "/tmp/r/d", 0o755).unwrap();
    bench.file("ann", "/tmp/r/d/inner", 10);
    snap(&mut bench, "s1").unwrap();
    bench.delete("ann", "/tmp/r/gone", false).unwrap();
    bench.rename("ann", "/tmp/r/moved", "/tmp/r/d/here", false).unwrap();
    bench.file("ann", "/tmp/r/new", 1);
    let set = SetAttributes { path: "/tmp/r/changed".into(), mode: Some(0o600), ..SetAttributes::default() };
    bench.run(by("ann"), Op::SetAttributes(set)).result.unwrap();
    snap(&mut bench, "s2").unwrap();
    let diff = |bench: &Bench, from: &str, to: &str| -> Vec<(DiffKind, String, String)> {
        let request = DiffSnapshotsRequest { header: None, path: "/tmp/r".into(), from: from.into(), to: to.into() };
        let entries = bench.namespace.diff_snapshots(&caller("ann"), &request).unwrap();
        entries.into_iter().map(|entry| (entry.kind(), entry.path, entry.target)).collect()
    };
    let line = |kind, path: &str, target: &str| (kind, path.to_owned(), target.to_owned());
    let forward = [
        line(DiffKind::Modified, "", ""),
        line(DiffKind::Modified, "changed", ""),
        line(DiffKind::Modified, "d", ""),
        line(DiffKind::Deleted, "gone", ""),
        line(DiffKind::Renamed, "moved", "d/here"),
        line(DiffKind::Created, "new", ""),
    ];
    assert_eq!(diff(&bench, "s1", "s2"), forward);
    assert_eq!(diff(&bench, "s1", ""), forward, "nothing happened since");
    assert_eq!(diff(&bench, "s2", ""), []);
    let back: Vec<_> = diff(&bench, "s2", "s1").into_iter().map(|(kind, path, _)| (kind, path)).collect();
    assert!(
        back.contains(&(DiffKind::Created, "gone".to_owned())) && back.contains(&(DiffKind::Deleted, "new".to_owned()))
    );
}

#[test]
fn fsck_goes_through_everything_in_steps_of_any_size() {
    let mut bench = prepared();
    for n in 0..7 {
        bench.mkdir("ann", &format!("/tmp/r/d{n}"), 0o755).unwrap();
        bench.file("ann", &format!("/tmp/r/d{n}/f"), 10);
    }
    for most in [1, 2, 3, 100] {
        let (mut cursor, mut files, mut directories) = (Vec::new(), Vec::new(), 0);
        loop {
            let step = bench.namespace.fsck_step(&caller(SUPER), &path("/"), &cursor, most).unwrap();
            assert_eq!(step.contradictions, [""; 0]);
            files.extend(step.files.into_iter().map(|file| file.path));
            directories += step.directories;
            cursor = step.cursor;
            if cursor.is_empty() {
                break;
            }
        }
        let expected: Vec<String> = (0..7).map(|n| format!("/tmp/r/d{n}/f")).collect();
        assert_eq!((files, directories), (expected, 10), "{most}");
    }
    assert_eq!(code(bench.namespace.fsck_step(&caller("ann"), &path("/"), &[], 9)), ErrorCode::PermissionDenied);
}

#[test]
fn sc_23_history_that_is_gone_decides_nothing_any_more() {
    let mut bench = prepared();
    bench.file("ann", "/tmp/r/t", 10);
    bench.file("ann", "/tmp/r/s", 10);
    snap(&mut bench, "s1").unwrap();
    let mode = SetAttributes { path: "/tmp/r/s".into(), mode: Some(0o600), ..SetAttributes::default() };
    bench.run(by("ann"), Op::SetAttributes(mode)).result.unwrap();
    unsnap(&mut bench, "s1");
    bench.check();
    // A member that was loaded from an image joins them, so this one must, too.
    let (target, sources) = ("/tmp/r/t".to_owned(), vec!["/tmp/r/s".to_owned()]);
    bench.run(by("ann"), Op::Concat(proto::log::Concat { target, sources })).result.unwrap();
    bench.check();
}

#[test]
fn r_5_a_deep_tree_that_snapshots_held_goes_in_bounded_steps() {
    let mut bench = prepared();
    snap(&mut bench, "s1").unwrap();
    let deep = (0..300).fold("/tmp/r".to_owned(), |path, n| format!("{path}/{n}"));
    let mkdir = proto::log::Mkdir { path: deep.clone(), mode: 0o755, parents: true, unmasked_mode: None };
    bench.run(by("ann"), Op::Mkdir(mkdir)).result.unwrap();
    snap(&mut bench, "s2").unwrap();
    let mut path = deep;
    while path != "/tmp/r" {
        bench.delete("ann", &path, false).unwrap();
        path.truncate(path.rfind('/').unwrap());
    }
    bench.check();
    let removed = bench.run(by("ann"), Op::DeleteSnapshot(DeleteSnapshot { path: "/tmp/r".into(), name: "s2".into() }));
    removed.result.unwrap();
    let mut steps = 0;
    while bench.namespace.reclaim_pending() > 0 {
        bench.run(by(SUPER), Op::Reclaim(proto::log::Reclaim { limit: 50 })).result.unwrap();
        steps += 1;
    }
    assert!(steps > 10, "{steps} steps");
    bench.check();
    assert_eq!(bench.namespace.counts().directories, 3, "nothing is kept for s1, which never saw it");
}

#[test]
fn sc_11_a_writer_whose_last_living_name_goes_is_done() {
    let mut bench = prepared();
    bench.mkdir("ann", "/tmp/r/d", 0o755).unwrap();
    bench.create("ann", "/tmp/r/d/f", true).unwrap();
    bench.run(by("ann"), Op::Link(Link { existing: "/tmp/r/d/f".into(), path: "/tmp/x".into() })).result.unwrap();
    snap(&mut bench, "s1").unwrap();
    bench.delete("ann", "/tmp/r/d", true).unwrap();
    bench.reclaim_all();
    bench.delete("ann", "/tmp/x", false).unwrap();
    assert_eq!(bench.namespace.counts().open_files, 0);
    bench.check();
}

#[test]
fn sc_11_so_is_one_whose_last_living_name_goes_while_its_tree_is_reclaimed() {
    let mut bench = prepared();
    bench.mkdir("ann", "/tmp/r/d", 0o755).unwrap();
    bench.mkdir("ann", "/tmp/gone", 0o755).unwrap();
    bench.create("ann", "/tmp/r/d/f", true).unwrap();
    bench.run(by("ann"), Op::Link(Link { existing: "/tmp/r/d/f".into(), path: "/tmp/gone/x".into() })).result.unwrap();
    snap(&mut bench, "s1").unwrap();
    bench.delete("ann", "/tmp/r/d", true).unwrap();
    bench.reclaim_all();
    assert_eq!(bench.namespace.counts().open_files, 1, "it has a name");
    bench.delete("ann", "/tmp/gone", true).unwrap();
    bench.reclaim_all();
    assert_eq!(bench.namespace.counts().open_files, 0);
    bench.check();
}

#[test]
fn differences_below_directories_that_are_closed_are_not_told() {
    let mut bench = prepared();
    bench.mkdir("ann", "/tmp/r/secret", 0o700).unwrap();
    snap(&mut bench, "s1").unwrap();
    bench.file("ann", "/tmp/r/secret/f", 10);
    let request = DiffSnapshotsRequest { header: None, path: "/tmp/r".into(), from: "s1".into(), to: String::new() };
    assert!(bench.namespace.diff_snapshots(&caller("ann"), &request).is_ok());
    assert_eq!(code(bench.namespace.diff_snapshots(&caller("bob"), &request)), ErrorCode::PermissionDenied);
}

#[test]
fn n_6_extended_attributes_in_a_snapshot_are_asked_for_by_the_same_rules_whatever_changed_since() {
    let mut bench = prepared();
    bench.file("ann", "/tmp/r/f", 10);
    for name in ["user.u", "trusted.t", "raw.r"] {
        let (path, name) = ("/tmp/r/f".to_owned(), name.to_owned());
        let set = SetXattr { path, name, value: "v".into(), create: true, replace: false, no_follow: false };
        bench.run(by(SUPER), Op::SetXattr(set)).result.unwrap();
    }
    snap(&mut bench, "s1").unwrap();
    let answers = |bench: &Bench| {
        let mut answers = Vec::new();
        for (user, names) in [
            (SUPER, vec![]),
            ("ann", vec![]),
            ("ann", vec!["trusted.t"]),
            (SUPER, vec!["raw.r"]),
            ("ann", vec!["user.n"]),
        ] {
            let names = names.into_iter().map(str::to_owned).collect();
            let request = GetXattrsRequest { path: "/tmp/r/.snapshot/s1/f".into(), names, ..Default::default() };
            let told = bench.namespace.xattrs(&caller(user), &request).map_err(|error| error.code);
            answers.push(told.map(|xattrs| xattrs.into_iter().map(|xattr| xattr.name).collect::<Vec<_>>()));
        }
        answers
    };
    let names = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
    let before = answers(&bench);
    let expected = [
        names(&["trusted.t", "user.u"]),
        names(&["user.u"]),
        Err(ErrorCode::PermissionDenied),
        names(&["raw.r"]),
        Err(ErrorCode::NoAttribute),
    ];
    assert_eq!(before, expected);
    let mode = SetAttributes { path: "/tmp/r/f".into(), mode: Some(0o640), ..SetAttributes::default() };
    bench.run(by("ann"), Op::SetAttributes(mode)).result.unwrap();
    assert_eq!(answers(&bench), before);
    bench.check();
}
