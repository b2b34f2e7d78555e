//! Writers that die, meet, or come too late.

use proto::error::ErrorCode;
use proto::log::command::Op;
use proto::log::{Complete, Create, Discard, ReleaseLease};

use super::harness::{BLOCK, Bench, From, SUPER, by, code, new_file, session};
use crate::namespace::{BlockEffect, Outcome};

fn over(text: &str, at_once: bool) -> Create {
    Create { path: text.into(), overwrite: true, publish_at_once: at_once, ..new_file() }
}

#[test]
fn d_5_a_writer_that_dies_leaves_what_it_would_have_replaced() {
    let mut bench = Bench::new();
    let old = bench.file("ann", "/tmp/f", 7);
    let from = From { user: "ann", session: Some((session(1), 1, 1)) };
    let mut draft = bench.create_with(from, over("/tmp/f", false)).unwrap();
    let next = From { user: "ann", session: Some((session(1), 2, 2)) };
    let add = proto::log::AddBlock {
        inode: draft.inode,
        lease_epoch: draft.epoch,
        previous: draft.committed(BLOCK),
        storages: super::harness::homes(3),
    };
    let Ok(Outcome::AddBlock(block)) = bench.run(next, Op::AddBlock(add)).result else { panic!() };
    draft.block = Some(block);
    assert_eq!(bench.stat("/tmp/f").as_ref(), Some(&old), "nothing shows while it is written");
    let release =
        ReleaseLease { session: session(1).as_bytes().to_vec().into(), inode: draft.inode, lease_epoch: draft.epoch };
    let applied = bench.run(by(SUPER), Op::ReleaseLease(release));
    assert_eq!(applied.effects.len(), 2, "its blocks go");
    assert_eq!(bench.stat("/tmp/f").as_ref(), Some(&old));
    assert_eq!(bench.open("ann", "/tmp/f").unwrap().blocks.len(), 1);
    // It was only asleep: too late.
    let late = From { user: "ann", session: Some((session(1), 3, 3)) };
    let complete = Complete { inode: draft.inode, lease_epoch: draft.epoch, last: draft.committed(1) };
    assert_eq!(code(bench.run(late, Op::Complete(complete)).result), ErrorCode::NotFound);
    assert_eq!(bench.stat("/tmp/f").as_ref(), Some(&old));
    bench.check();
}

#[test]
fn v_4_a_visible_file_of_a_dead_writer_is_nobodys() {
    let mut bench = Bench::new();
    let from = |call| From { user: "ann", session: Some((session(1), call, call)) };
    let draft = bench.create_with(from(1), over("/tmp/f", true)).unwrap();
    let release = ReleaseLease { session: session(1).as_bytes().to_vec().into(), ..ReleaseLease::default() };
    bench.run(by(SUPER), Op::ReleaseLease(release)).result.unwrap();
    let complete = |epoch| Op::Complete(Complete { inode: draft.inode, lease_epoch: epoch, last: draft.committed(1) });
    for epoch in [draft.epoch, draft.epoch + 1] {
        assert_eq!(code(bench.run(from(epoch + 1), complete(epoch)).result), ErrorCode::LeaseLost);
    }
    assert!(bench.stat("/tmp/f").unwrap().open_for_write);
    let second = bench.create_with(by("ann"), over("/tmp/f", false)).unwrap();
    bench.complete("ann", &second, 3).unwrap();
    let now = bench.stat("/tmp/f").unwrap();
    assert_eq!((now.inode, now.len_bytes, now.open_for_write), (second.inode, 3, false));
    bench.check();
}

#[test]
fn n_4_a_rename_over_an_open_file_takes_it_from_its_writer() {
    let mut bench = Bench::new();
    let draft = bench.create("ann", "/tmp/f", true).unwrap();
    let new = bench.file("ann", "/tmp/new", 5);
    assert_eq!(code(bench.rename("ann", "/tmp/new", "/tmp/f", false)), ErrorCode::AlreadyExists);
    let rename = proto::log::Rename { from: "/tmp/new".into(), to: "/tmp/f".into(), replace: true, exchange: false };
    let applied = bench.run(by("ann"), Op::Rename(rename));
    assert!(matches!(applied.effects[..], [BlockEffect::Freed { committed: false, .. }]));
    assert_eq!(code(bench.add_block("ann", &draft, 1)), ErrorCode::NotFound);
    assert_eq!(code(bench.complete("ann", &draft, 1)), ErrorCode::NotFound);
    let now = bench.stat("/tmp/f").unwrap();
    assert_eq!((now.inode, now.len_bytes, now.open_for_write), (new.inode, 5, false));
    assert!(bench.namespace.open_files().is_empty());
    bench.check();
}

#[test]
fn n_1_of_two_writers_of_a_new_name_the_first_to_complete_wins() {
    let mut bench = Bench::new();
    let (first, second) =
        (bench.create("ann", "/tmp/f", false).unwrap(), bench.create("ann", "/tmp/f", false).unwrap());
    bench.complete("ann", &second, 2).unwrap();
    assert_eq!(code(bench.complete("ann", &first, 1)), ErrorCode::AlreadyExists);
    assert_eq!(bench.stat("/tmp/f").unwrap().inode, second.inode);
    let give_up = |draft: &super::harness::Draft| Op::Discard(Discard { inode: draft.inode, lease_epoch: draft.epoch });
    assert_eq!(code(bench.run(by("ann"), give_up(&second)).result), ErrorCode::LeaseLost, "published is published");
    bench.run(by("ann"), give_up(&first)).result.unwrap();
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 2);
    bench.check();
}

#[test]
fn n_1_a_directory_made_meanwhile_stays() {
    let mut bench = Bench::new();
    let draft = bench.create_with(by("ann"), over("/tmp/x", false)).unwrap();
    bench.mkdir("ann", "/tmp/x", 0o755).unwrap();
    assert_eq!(code(bench.complete("ann", &draft, 1)), ErrorCode::IsADirectory);
    assert_eq!(code(bench.create_with(by("ann"), over("/tmp/x", true))), ErrorCode::IsADirectory);
    bench.rename("ann", "/tmp/x", "/tmp/y", false).unwrap();
    assert_eq!(bench.complete("ann", &draft, 1).unwrap().path, "/tmp/x", "a refused complete may come again");
    assert_eq!(code(bench.mkdir("ann", "/tmp/x", 0o755)), ErrorCode::AlreadyExists, "nor a directory over a file");
    bench.check();
}

#[test]
fn s_3_sticky_bits_hold_inside_a_tree_that_is_deleted() {
    let mut bench = Bench::new();
    bench.mkdir("bob", "/tmp/bob", 0o777).unwrap();
    bench.mkdir("ann", "/tmp/bob/shared", 0o1777).unwrap();
    bench.file("ann", "/tmp/bob/shared/hers", 1);
    bench.file("bob", "/tmp/bob/shared/his", 1);
    assert_eq!(code(bench.delete("bob", "/tmp/bob/shared/hers", false)), ErrorCode::PermissionDenied);
    assert_eq!(code(bench.delete("bob", "/tmp/bob", true)), ErrorCode::PermissionDenied, "nor with all around it");
    bench.delete("bob", "/tmp/bob/shared/his", false).unwrap();
    assert_eq!(code(bench.delete("bob", "/tmp/bob", true)), ErrorCode::PermissionDenied);
    assert_eq!(bench.delete("ann", "/tmp/bob/shared", true), Ok(Outcome::Deleted { files: 1, directories: 1 }));
    bench.delete("bob", "/tmp/bob", true).unwrap();
    bench.check();
}

#[test]
fn s_3_sticky_bits_hold_on_both_sides_of_a_rename() {
    let mut bench = Bench::new();
    bench.mkdir("bob", "/tmp/open", 0o777).unwrap();
    for file in ["/tmp/hers", "/tmp/open/hers"] {
        bench.file("ann", file, 1);
    }
    bench.file("bob", "/tmp/his", 1);
    assert_eq!(code(bench.rename("bob", "/tmp/hers", "/tmp/open/x", false)), ErrorCode::PermissionDenied, "from");
    assert_eq!(code(bench.rename("bob", "/tmp/his", "/tmp/hers", true)), ErrorCode::PermissionDenied, "onto");
    bench.rename("bob", "/tmp/open/hers", "/tmp/open/taken", false).unwrap();
    bench.rename("bob", "/tmp/his", "/tmp/open/taken", true).unwrap();
    bench.rename(SUPER, "/tmp/hers", "/tmp/open/x", false).unwrap();
    bench.check();
}

#[test]
fn times_of_directories_follow_their_entries() {
    let mut bench = Bench::new();
    for dir in ["/a", "/b"] {
        bench.mkdir(SUPER, dir, 0o755).unwrap();
    }
    let times = |bench: &Bench| ["/", "/a", "/b"].map(|dir| bench.stat(dir).map_or(i64::MIN, |status| status.mtime_ns));
    let moved = |bench: &mut Bench, what: &str, change: &dyn Fn(&mut Bench), wanted: [bool; 3]| {
        let before = times(bench);
        change(bench);
        let after = times(bench);
        assert_eq!([0, 1, 2].map(|i| after[i] > before[i]), wanted, "{what}");
    };
    moved(&mut bench, "a draft", &|bench| drop(bench.create(SUPER, "/a/draft", false).unwrap()), [false; 3]);
    moved(&mut bench, "a file", &|bench| drop(bench.file(SUPER, "/a/f", 1)), [false, true, false]);
    moved(&mut bench, "a move", &|bench| drop(bench.rename(SUPER, "/a/f", "/b/f", false)), [false, true, true]);
    moved(&mut bench, "a delete", &|bench| drop(bench.delete(SUPER, "/b/f", false)), [false, false, true]);
    moved(&mut bench, "mkdir", &|bench| drop(bench.mkdir(SUPER, "/a/d", 0o755)), [false, true, false]);
    moved(&mut bench, "a refusal", &|bench| drop(bench.mkdir(SUPER, "/a/d", 0o755)), [false; 3]);
    moved(&mut bench, "below", &|bench| drop(bench.mkdir(SUPER, "/a/d/e", 0o755)), [false; 3]);
    moved(&mut bench, "deleted with a tree", &|bench| drop(bench.delete(SUPER, "/a", true)), [true, false, false]);
}
