//! Regressions against the scars of other file systems, by name.

use proto::error::ErrorCode;
use proto::ids::{InodeId, LeaseEpoch};
use proto::log::command::Op;
use proto::log::{AbandonBlock, Create, Discard, Mkdir, ReleaseLease};

use super::harness::{BLOCK, Bench, Draft, SUPER, by, caller, code, homes, image_of, new_file, path, session};
use crate::namespace::{Counts, Namespace};

/// Every call of a writer, each on a fresh copy of the state.
fn writer_calls(draft: &Draft) -> Vec<Op> {
    let block = draft.block.as_ref().unwrap();
    vec![
        Op::AddBlock(proto::log::AddBlock {
            inode: draft.inode,
            lease_epoch: draft.epoch,
            previous: draft.committed(7),
            storages: homes(3),
        }),
        Op::AbandonBlock(AbandonBlock {
            inode: draft.inode,
            lease_epoch: draft.epoch,
            id: block.block.raw(),
            stamp: block.stamp.raw(),
        }),
        Op::Complete(proto::log::Complete { inode: draft.inode, lease_epoch: draft.epoch, last: draft.committed(7) }),
        Op::Discard(Discard { inode: draft.inode, lease_epoch: draft.epoch }),
        Op::ReleaseLease(ReleaseLease { inode: draft.inode, lease_epoch: draft.epoch, ..ReleaseLease::default() }),
    ]
}

#[test]
fn sc_01_writers_of_a_deleted_tree_are_refused_and_replay() {
    for at_once in [true, false] {
        for step in 0..5 {
            let mut bench = Bench::new();
            bench.mkdir(SUPER, "/a", 0o755).unwrap();
            bench.mkdir(SUPER, "/a/b", 0o755).unwrap();
            let draft = bench.create(SUPER, "/a/b/f", at_once).unwrap();
            bench.delete(SUPER, "/a", true).unwrap();
            let op = writer_calls(&draft).swap_remove(step);
            let applied = bench.run(by(SUPER), op);
            if at_once {
                assert_eq!(code(applied.result), ErrorCode::NotFound);
                assert!(applied.effects.is_empty());
            }
            bench.check();
            bench.reclaim_all();
            let draft_is_left = !at_once && bench.namespace.counts().open_files == 1;
            if draft_is_left {
                let discard = Discard { inode: draft.inode, lease_epoch: draft.epoch };
                bench.run(by(SUPER), Op::Discard(discard)).result.unwrap();
            }
            bench.check();
            let counts = bench.namespace.counts();
            assert_eq!(counts, Counts { directories: 2, ..Counts::default() }, "nothing is left behind");
        }
    }
}

#[test]
fn sc_01_a_pinned_file_whose_directory_was_deleted_cannot_appear() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/a", 0o755).unwrap();
    let draft = bench.create(SUPER, "/a/f", false).unwrap();
    bench.file(SUPER, "/a/other", 1);
    bench.delete(SUPER, "/a", true).unwrap();
    assert_eq!(code(bench.complete(SUPER, &draft, 7)), ErrorCode::NotFound);
    bench.reclaim_all();
    assert_eq!(code(bench.complete(SUPER, &draft, 7)), ErrorCode::NotFound, "also when it is reclaimed");
    bench.mkdir(SUPER, "/a", 0o755).unwrap();
    assert_eq!(code(bench.complete(SUPER, &draft, 7)), ErrorCode::NotFound, "a new directory is another one");
    bench.check();
}

#[test]
fn sc_02_a_rename_between_the_calls_of_a_writer_does_not_matter() {
    for at_once in [true, false] {
        let mut bench = Bench::new();
        bench.mkdir(SUPER, "/a", 0o755).unwrap();
        let mut draft = bench.create(SUPER, "/a/f", at_once).unwrap();
        bench.rename(SUPER, "/a", "/b", false).unwrap();
        draft.block = Some(bench.add_block(SUPER, &draft, BLOCK).unwrap());
        bench.rename(SUPER, "/b", "/c", false).unwrap();
        let status = bench.complete(SUPER, &draft, 5).unwrap();
        assert_eq!((status.path.as_str(), status.len_bytes), ("/c/f", BLOCK + 5));
        bench.check();
    }
}

#[test]
fn sc_03_a_refusal_changes_nothing() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o700).unwrap();
    bench.file("ann", "/tmp/d/f", 1);
    let draft = bench.create("ann", "/tmp/d/open", true).unwrap();
    let pinned = bench.create("ann", "/tmp/d/f", false).err();
    assert!(pinned.is_some(), "the file exists");
    let bad_block =
        |len_bytes, storages| draft.committed(len_bytes).map(|block| proto::log::CommittedBlock { storages, ..block });
    let complete = |last| Op::Complete(proto::log::Complete { inode: draft.inode, lease_epoch: draft.epoch, last });
    let refused = [
        ("bob", Op::Mkdir(Mkdir { path: "/tmp/d/x/y".into(), mode: 0o755, parents: true, unmasked_mode: None })),
        ("ann", Op::Mkdir(Mkdir { path: "/tmp/d/x".into(), mode: 0o1_0000, parents: false, unmasked_mode: None })),
        ("ann", Op::Mkdir(Mkdir { path: "/tmp/d/f/x".into(), mode: 0o755, parents: true, unmasked_mode: None })),
        ("newcomer", Op::Create(Create { path: "/tmp/d/new".into(), ..new_file() })),
        (
            "ann",
            Op::Create(Create {
                path: "/tmp/q/new".into(),
                first_block_storages: homes(9),
                unmasked_mode: None,
                parents: true,
                ..new_file()
            }),
        ),
        ("ann", Op::Create(Create { path: "/tmp/q/new".into(), replication: 513, parents: true, ..new_file() })),
        ("ann", Op::Create(Create { path: "/tmp/q/new".into(), block_size_bytes: 1000, parents: true, ..new_file() })),
        ("ann", complete(bad_block(4 * BLOCK + 1, homes(2)))),
        ("ann", complete(bad_block(1, homes(1)))),
        ("ann", complete(bad_block(1, vec!["DS-9".into(), "DS-0".into()]))),
        ("ann", complete(draft.committed(1).map(|block| proto::log::CommittedBlock { stamp: 1, ..block }))),
        ("ann", complete(draft.committed(1).map(|block| proto::log::CommittedBlock { id: 1, ..block }))),
        (
            "bob",
            Op::Rename(proto::log::Rename {
                from: "/tmp/d/f".into(),
                to: "/tmp/f".into(),
                replace: true,
                exchange: false,
            }),
        ),
        (
            "ann",
            Op::Rename(proto::log::Rename {
                from: "/tmp/d".into(),
                to: "/tmp/d/e".into(),
                replace: true,
                exchange: false,
            }),
        ),
        ("bob", Op::Delete(proto::log::Delete { path: "/tmp/d".into(), recursive: true, checked_inode: 0 })),
        ("ann", Op::Delete(proto::log::Delete { path: "/tmp/d".into(), recursive: false, checked_inode: 0 })),
    ];
    for (user, op) in refused {
        let strip = |namespace: &Namespace| {
            // All but the index and the time, which every entry moves.
            (namespace.store.hash, namespace.sessions.hash, namespace.next, namespace.counts(), namespace.queue.clone())
        };
        let before = strip(&bench.namespace);
        let names = bench.namespace.store.interned.texts().len();
        let applied = bench.run(by(user), op.clone());
        assert!(applied.result.is_err() && applied.effects.is_empty(), "{op:?}");
        assert_eq!(strip(&bench.namespace), before, "{op:?}");
        assert_eq!(bench.namespace.store.interned.texts().len(), names, "{op:?}");
    }
    bench.check();
}

#[test]
fn sc_04_what_is_accepted_replays_and_comes_back() {
    let mut bench = Bench::new();
    let odd = ["/ ", "/a b", "/…", "/.a", "/a..", "/~", "/a:b", "/%2f", "/\n", "/\u{202e}x", "/ä", "/a\u{308}"];
    for text in odd {
        bench.file(SUPER, text, 1);
    }
    for text in ["", "x", "//", "//x", "/x//y", "/x/", "/.", "/x/..", "/\0", &format!("/{}", "n".repeat(300))] {
        assert!(bench.create(SUPER, text, false).is_err(), "{text:?}");
        assert!(bench.mkdir(SUPER, text, 0o755).is_err());
        assert!(bench.rename(SUPER, "/ ", text, true).is_err());
        assert!(bench.rename(SUPER, text, "/new", true).is_err());
        assert!(bench.delete(SUPER, text, true).is_err());
    }
    for text in odd {
        assert_eq!(bench.stat(text).unwrap().path, text);
    }
    bench.check();
}

#[test]
fn sc_09_the_root_is_an_inode_like_others() {
    let mut bench = Bench::new();
    let root = bench.stat("/").unwrap();
    assert_eq!((root.inode, root.mode, root.owner.as_str(), root.children), (16_385, 0o755, SUPER, 1));
    assert_eq!(code(bench.delete(SUPER, "/", true)), ErrorCode::InvalidArgument);
    assert_eq!(code(bench.rename(SUPER, "/", "/x", true)), ErrorCode::InvalidMove);
    assert_eq!(code(bench.rename(SUPER, "/tmp", "/", true)), ErrorCode::InvalidMove);
    assert_eq!(code(bench.create(SUPER, "/", true)), ErrorCode::IsADirectory);
    assert_eq!(code(bench.mkdir(SUPER, "/", 0o755)), ErrorCode::AlreadyExists);
    let mkdir = Mkdir { path: "/".into(), mode: 0o700, parents: true, unmasked_mode: None };
    bench.run(by(SUPER), Op::Mkdir(mkdir)).result.unwrap();
    assert_eq!(bench.stat("/").unwrap(), root, "mkdir -p leaves it as it is");
    let (listed, more) = bench.namespace.list(&caller("bob"), &path("/"), "", 10).unwrap();
    assert_eq!((listed.len(), listed[0].path.as_str(), more), (1, "tmp", false));
    bench.check();
}

#[test]
fn sc_11_sc_13_leases_are_the_open_files() {
    let mut bench = Bench::new();
    let from = super::harness::From { user: SUPER, session: Some((session(1), 1, 1)) };
    let create = Create { path: "/tmp/f".into(), publish_at_once: true, ..new_file() };
    let draft = bench.create_with(from, create).unwrap();
    let other = bench.create(SUPER, "/tmp/g", false).unwrap();
    let loaded = Namespace::read_from(&mut image_of(&bench.namespace).as_slice()).unwrap();
    assert_eq!(loaded.open_files(), bench.namespace.open_files());
    assert_eq!(loaded.open_files().len(), 2);
    let (inode, epoch) = (InodeId::from_raw(draft.inode), LeaseEpoch::from_raw(draft.epoch));
    assert!(loaded.file_for_write(inode, epoch, Some(session(1))).is_ok());
    assert_eq!(code(loaded.file_for_write(inode, epoch, Some(session(2)))), ErrorCode::LeaseLost);
    assert_eq!(code(loaded.file_for_write(inode, epoch, None)), ErrorCode::LeaseLost);

    // The writer dies: the visible file stays open, nobody's, and can be deleted.
    let release = ReleaseLease { session: session(1).as_bytes().to_vec().into(), ..ReleaseLease::default() };
    bench.run(by(SUPER), Op::ReleaseLease(release)).result.unwrap();
    assert_eq!(code(bench.namespace.file_for_write(inode, epoch, Some(session(1)))), ErrorCode::LeaseLost);
    assert!(bench.stat("/tmp/f").unwrap().open_for_write);
    bench.check();
    bench.delete(SUPER, "/tmp/f", false).unwrap();
    bench.complete(SUPER, &other, 3).unwrap();
    assert!(bench.namespace.open_files().is_empty());
    bench.check();
}

#[test]
fn sc_67_two_disks_of_one_node_are_one_copy() {
    let mut bench = Bench::new();
    let second = proto::log::RegisterStorage {
        storage: "DS-0b".into(),
        node: "node-0".into(),
        media: "DISK".into(),
        rack: "/default-rack".into(),
    };
    bench.run(by(SUPER), Op::RegisterStorage(second)).result.unwrap();
    let draft = bench.create(SUPER, "/tmp/f", false).unwrap();
    let proven_on = |storages: &[&str]| {
        let storages = storages.iter().map(|storage| (*storage).to_owned()).collect();
        let last = draft.committed(7).map(|block| proto::log::CommittedBlock { storages, ..block });
        Op::Complete(proto::log::Complete { inode: draft.inode, lease_epoch: draft.epoch, last })
    };
    assert_eq!(code(bench.run(by(SUPER), proven_on(&["DS-0", "DS-0b"])).result), ErrorCode::NotReplicatedYet);
    bench.run(by(SUPER), proven_on(&["DS-0", "DS-0b", "DS-1"])).result.unwrap();
    bench.check();
}

#[test]
fn sc_21_sc_23_entries_and_counters_agree_after_every_step() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/a", 0o755).unwrap();
    for n in 0..30 {
        bench.mkdir(SUPER, &format!("/a/d{n}"), 0o755).unwrap();
        bench.file(SUPER, &format!("/a/d{n}/f"), 1);
        if n % 3 == 0 {
            bench.rename(SUPER, &format!("/a/d{n}"), &format!("/d{n}"), false).unwrap();
        }
        if n % 4 == 0 {
            bench.delete(SUPER, &if n % 3 == 0 { format!("/d{n}") } else { format!("/a/d{n}") }, true).unwrap();
        }
        assert_eq!(bench.namespace.recount(), bench.namespace.counts());
    }
    bench.check();
    bench.delete(SUPER, "/a", true).unwrap();
    bench.check();
    bench.reclaim_all();
    bench.check();
}
