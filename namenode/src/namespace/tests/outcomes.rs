//! Outcomes and rights of each operation.

use proto::error::ErrorCode;
use proto::ids::BlockId;
use proto::log::command::Op;
use proto::log::{AbandonBlock, Create, Discard, Mkdir, Reclaim, Rename, SetBlockKey, Settings, Tick, UpdateSettings};

use super::harness::{BLOCK, Bench, From, SUPER, by, caller, code, homes, new_file, path, session, settings};
use crate::namespace::{BlockEffect, Namespace, Outcome, StorageIndex};

#[test]
fn nothing_before_format_and_format_once() {
    let mut bench = Bench::empty();
    assert_eq!(code(bench.mkdir(SUPER, "/a", 0o755)), ErrorCode::Unavailable);
    assert_eq!(code(bench.namespace.stat(&caller(SUPER), &path("/"))), ErrorCode::Unavailable);
    bench.run(by(SUPER), Op::Tick(Tick {})).result.unwrap();
    bench.check();
    let mut bench = Bench::new();
    let format = Op::Format(proto::log::Format { settings: Some(settings()), ..proto::log::Format::default() });
    assert_eq!(code(bench.run(by(SUPER), format).result), ErrorCode::AlreadyExists);
}

#[test]
fn a_file_appears_whole_at_complete() {
    let mut bench = Bench::new();
    let mut draft = bench.create("ann", "/tmp/f", false).unwrap();
    assert!(bench.stat("/tmp/f").is_none());
    draft.block = Some(bench.add_block("ann", &draft, 4 * BLOCK).unwrap());
    assert!(bench.stat("/tmp/f").is_none());
    let status = bench.complete("ann", &draft, 10).unwrap();
    assert_eq!((status.len_bytes, status.owner.as_str(), status.group.as_str()), (4 * BLOCK + 10, "ann", "supergroup"));
    let open = bench.open("bob", "/tmp/f").unwrap();
    assert_eq!(open.status, bench.stat("/tmp/f").unwrap());
    let offsets: Vec<_> = open.blocks.iter().map(|b| (b.offset_bytes, b.len_bytes, b.committed)).collect();
    assert_eq!(offsets, [(0, 4 * BLOCK, true), (4 * BLOCK, 10, true)]);
    let state = bench.namespace.block(open.blocks[1].block).unwrap();
    assert_eq!((state.stamp, state.len_bytes, state.committed, state.replication), (open.blocks[1].stamp, 10, true, 3));
    let part = |range, limit| bench.namespace.open(&caller("bob"), &path("/tmp/f"), range, limit).unwrap().blocks;
    assert_eq!(part(0..4 * BLOCK, 9), open.blocks[..1]);
    assert_eq!(part(4 * BLOCK..u64::MAX, 9), open.blocks[1..]);
    assert_eq!(part(0..u64::MAX, 1), open.blocks[..1]);
    assert_eq!(part(4 * BLOCK + 10..u64::MAX, 9), []);
    let mut all = Vec::new();
    bench.namespace.for_each_block(|view| all.push(view));
    assert_eq!(all, open.blocks);
    assert_eq!(bench.namespace.committed_blocks(), 2);
    assert_eq!(bench.namespace.blocks_after(Some(BlockId::FIRST), 5), [BlockId::FIRST.next()]);
    bench.check();
}

#[test]
fn a_file_that_is_visible_at_once_is_listed_as_open() {
    let mut bench = Bench::new();
    let draft = bench.create("ann", "/tmp/f", true).unwrap();
    let status = bench.stat("/tmp/f").unwrap();
    assert!(status.open_for_write);
    let blocks = bench.open("ann", "/tmp/f").unwrap().blocks;
    assert!(matches!(&blocks[..], [block] if !block.committed && block.len_bytes == 0 && block.storages.len() == 3));
    bench.namespace.for_each_block(|block| assert!(!block.committed && block.storages.len() == 3));
    let create = |overwrite| Create { path: "/tmp/f".into(), overwrite, publish_at_once: true, ..new_file() };
    assert_eq!(code(bench.create_with(by("ann"), create(false))), ErrorCode::FileOpen);
    let second = bench.create_with(by("ann"), create(true)).unwrap();
    assert_eq!(code(bench.complete("ann", &draft, 1)), ErrorCode::NotFound);
    bench.complete("ann", &second, 2).unwrap();
    assert!(!bench.stat("/tmp/f").unwrap().open_for_write);
    assert_eq!(code(bench.create_with(by("ann"), create(false))), ErrorCode::AlreadyExists);
    bench.check();
}

#[test]
fn complete_replaces_only_if_create_said_so() {
    let mut bench = Bench::new();
    let keep = bench.create("ann", "/tmp/f", false).unwrap();
    let over = bench.create_with(by("ann"), Create { path: "/tmp/f".into(), overwrite: true, ..new_file() }).unwrap();
    let before = bench.file("ann", "/tmp/f", 1);
    assert_eq!(code(bench.complete("ann", &keep, 5)), ErrorCode::AlreadyExists);
    let applied = bench.run(
        by("ann"),
        Op::Complete(proto::log::Complete { inode: over.inode, lease_epoch: over.epoch, last: over.committed(9) }),
    );
    assert!(
        applied.effects.iter().any(|effect| matches!(effect, BlockEffect::Freed { len_bytes: 1, committed: true, .. }))
    );
    let after = bench.stat("/tmp/f").unwrap();
    assert_eq!((after.len_bytes, after.inode), (9, over.inode));
    assert_ne!(before.inode, after.inode);
    // The refused draft can still be given up.
    let discard = Op::Discard(Discard { inode: keep.inode, lease_epoch: keep.epoch });
    assert!(matches!(bench.run(by("ann"), discard).effects[..], [BlockEffect::Freed { committed: false, .. }]));
    bench.check();
}

#[test]
fn rights_are_checked_again_at_complete() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o777).unwrap();
    let draft = bench.create("bob", "/tmp/d/f", false).unwrap();
    bench.rename("ann", "/tmp/d", "/tmp/e", false).unwrap();
    bench.mkdir("ann", "/tmp/d", 0o700).unwrap();
    assert_eq!(bench.complete("bob", &draft, 1).unwrap().path, "/tmp/e/f", "the pinned directory counts");
    let first = bench.create("bob", "/tmp/mine", false).unwrap();
    bench.file("ann", "/tmp/mine", 1);
    assert_eq!(code(bench.complete("bob", &first, 1)), ErrorCode::AlreadyExists);
    let create = Create { path: "/tmp/other".into(), overwrite: true, ..new_file() };
    let second = bench.create_with(by("bob"), create).unwrap();
    bench.file("ann", "/tmp/other", 1);
    assert_eq!(
        code(bench.complete("bob", &second, 1)),
        ErrorCode::PermissionDenied,
        "ann's file is not bob's to replace"
    );
    bench.check();
}

#[test]
fn empty_files_and_unused_blocks() {
    let mut bench = Bench::new();
    let none = Create { with_first_block: false, first_block_storages: vec![], path: "/tmp/a".into(), ..new_file() };
    let draft = bench.create_with(by("ann"), none).unwrap();
    assert_eq!(bench.complete("ann", &draft, 0).unwrap().len_bytes, 0);
    // A first block that nobody wrote to: not named, or named with no bytes.
    let mut draft = bench.create("ann", "/tmp/b", false).unwrap();
    draft.block = None;
    assert_eq!(bench.complete("ann", &draft, 0).unwrap().len_bytes, 0);
    let draft = bench.create("ann", "/tmp/c", false).unwrap();
    assert_eq!(bench.complete("ann", &draft, 0).unwrap().len_bytes, 0);
    assert_eq!(bench.namespace.counts().blocks, 0);
    // A later block that is not named is an error: its bytes may be acknowledged.
    let mut draft = bench.create("ann", "/tmp/d", false).unwrap();
    draft.block = Some(bench.add_block("ann", &draft, 5).unwrap());
    let silent = super::harness::Draft { block: None, ..draft.clone() };
    assert_eq!(code(bench.complete("ann", &silent, 0)), ErrorCode::InvalidArgument);
    let block = draft.block.clone().unwrap();
    let abandon = Op::AbandonBlock(AbandonBlock {
        inode: draft.inode,
        lease_epoch: draft.epoch,
        id: block.block.raw(),
        stamp: block.stamp.raw(),
    });
    bench.run(by("ann"), abandon.clone()).result.unwrap();
    bench.run(by("ann"), abandon).result.unwrap();
    assert_eq!(bench.complete("ann", &silent, 0).unwrap().len_bytes, 5);
    bench.check();
}

#[test]
fn blocks_are_bounded_and_proven() {
    let mut bench = Bench::new();
    let draft = bench.create("ann", "/tmp/f", false).unwrap();
    assert_eq!(code(bench.add_block("ann", &draft, 0)), ErrorCode::InvalidArgument);
    assert_eq!(code(bench.add_block("ann", &draft, 4 * BLOCK + 1)), ErrorCode::InvalidArgument);
    let mut wrong = draft.clone();
    wrong.epoch += 1;
    assert_eq!(code(bench.add_block("ann", &wrong, 1)), ErrorCode::LeaseLost);
    let add = |storages| proto::log::AddBlock {
        inode: draft.inode,
        lease_epoch: draft.epoch,
        previous: draft.committed(1),
        storages,
    };
    assert_eq!(code(bench.run(by("ann"), Op::AddBlock(add(vec![]))).result), ErrorCode::NotEnoughNodes);
    let twice = vec!["DS-0".to_owned(), "DS-0".to_owned()];
    assert_eq!(code(bench.run(by("ann"), Op::AddBlock(add(twice))).result), ErrorCode::InvalidArgument);
    let one_copy = proto::log::Complete {
        inode: draft.inode,
        lease_epoch: draft.epoch,
        last: draft.committed(1).map(|block| proto::log::CommittedBlock { storages: homes(1), ..block }),
    };
    assert_eq!(code(bench.run(by("ann"), Op::Complete(one_copy)).result), ErrorCode::NotReplicatedYet);
    assert_eq!((bench.namespace.minimum_copies(1), bench.namespace.minimum_copies(9)), (1, 2));
    let mut draft = draft;
    for _ in 1..100 {
        draft.block = Some(bench.add_block("ann", &draft, 1).unwrap());
    }
    assert_eq!(code(bench.add_block("ann", &draft, 1)), ErrorCode::InvalidArgument);
    assert_eq!(bench.complete("ann", &draft, 2).unwrap().len_bytes, 101);
    // A file with many blocks is freed in steps.
    bench.delete("ann", "/tmp/f", false).unwrap();
    assert_eq!(bench.namespace.reclaim_pending(), 1);
    bench.check();
    for (freed, pending) in [(60, 1), (40, 0)] {
        let applied = bench.run(by(SUPER), Op::Reclaim(Reclaim { limit: 60 }));
        assert_eq!((applied.result, applied.effects.len()), (Ok(Outcome::Reclaimed { pending }), freed));
        bench.check();
    }
}

#[test]
fn n_4_names_are_exchanged_in_one_step_whatever_they_stand_for() {
    let mut bench = Bench::new();
    for at in ["/tmp/d", "/tmp/d/sub", "/tmp/e"] {
        bench.mkdir("ann", at, 0o755).unwrap();
    }
    bench.file("ann", "/tmp/d/f", 10);
    bench.file("ann", "/tmp/e/g", 20);
    let exchange = |bench: &mut Bench, user: &str, from: &str, to: &str| {
        let op = Op::Rename(Rename { from: from.into(), to: to.into(), replace: false, exchange: true });
        bench.run(by(user), op).result.map(drop)
    };
    let id = |bench: &Bench, at: &str| bench.stat(at).unwrap().inode;
    let pairs = [("/tmp/d/f", "/tmp/e/g"), ("/tmp/d/sub", "/tmp/e/g"), ("/tmp/d/f", "/tmp/d/sub")];
    for (from, to) in pairs.into_iter().chain([("/tmp/d", "/tmp/e"); 2]) {
        // As they are by now: a file may be a directory, and the other way round.
        let (one, other) = (id(&bench, from), id(&bench, to));
        exchange(&mut bench, "ann", from, to).unwrap();
        assert_eq!((id(&bench, from), id(&bench, to)), (other, one), "{from} {to}");
        bench.check();
    }
    let hash = bench.namespace.store.hash;
    for (user, from, to, wanted) in [
        ("ann", "/tmp/d", "/tmp/none", ErrorCode::NotFound),
        ("ann", "/tmp/none", "/tmp/d", ErrorCode::NotFound),
        ("ann", "/tmp/d", "/tmp/d/sub", ErrorCode::InvalidMove),
        ("ann", "/tmp/d/sub", "/tmp/d", ErrorCode::InvalidMove),
        ("ann", "/tmp/d", "/", ErrorCode::InvalidMove),
        ("ann", "/", "/tmp/d", ErrorCode::InvalidMove),
        ("ann", "/tmp/d", "/tmp/d", ErrorCode::AlreadyExists),
        ("bob", "/tmp/d/f", "/tmp/e/g", ErrorCode::PermissionDenied),
    ] {
        assert_eq!(code(exchange(&mut bench, user, from, to)), wanted, "{user} {from} {to}");
        assert_eq!(bench.namespace.store.hash, hash);
    }
    // In entries of before the word is not known.
    bench.version = 5;
    assert_eq!(code(exchange(&mut bench, "ann", "/tmp/d", "/tmp/e")), ErrorCode::AlreadyExists);
}

#[test]
fn renames_as_hdfs_does() {
    let mut bench = Bench::new();
    for dir in ["/a", "/a/sub", "/empty", "/full"] {
        bench.mkdir(SUPER, dir, 0o755).unwrap();
    }
    for file in ["/f", "/g", "/full/x"] {
        bench.file(SUPER, file, 1);
    }
    let cases = [
        ("/none", "/x", true, ErrorCode::NotFound),
        ("/f", "/none/x", true, ErrorCode::NotFound),
        ("/f", "/g/x", true, ErrorCode::NotADirectory),
        ("/f", "/f", true, ErrorCode::AlreadyExists),
        ("/f", "/g", false, ErrorCode::AlreadyExists),
        ("/a", "/a/sub/x", true, ErrorCode::InvalidMove),
        ("/f", "/empty", true, ErrorCode::IsADirectory),
        ("/a", "/f", true, ErrorCode::NotADirectory),
        ("/a", "/full", true, ErrorCode::NotEmpty),
    ];
    for (from, to, replace, wanted) in cases {
        assert_eq!(code(bench.rename(SUPER, from, to, replace)), wanted, "{from} {to}");
    }
    bench.rename(SUPER, "/f", "/g", true).unwrap();
    bench.rename(SUPER, "/a", "/empty", true).unwrap();
    assert!(bench.stat("/empty/sub").is_some() && bench.stat("/f").is_none() && bench.stat("/a").is_none());
    bench.check();
}

#[test]
fn deletes_count_and_check_the_whole_tree() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o777).unwrap();
    bench.mkdir("ann", "/tmp/d/e", 0o777).unwrap();
    bench.mkdir("bob", "/tmp/d/e/locked", 0o755).unwrap();
    bench.file("bob", "/tmp/d/e/locked/f", 1);
    assert_eq!(code(bench.delete("ann", "/tmp/d", false)), ErrorCode::NotEmpty);
    assert_eq!(code(bench.delete("ann", "/tmp/d", true)), ErrorCode::PermissionDenied);
    assert_eq!(code(bench.delete("bob", "/tmp/d", true)), ErrorCode::PermissionDenied, "sticky /tmp");
    bench.delete("bob", "/tmp/d/e/locked/f", false).unwrap();
    bench.file("ann", "/tmp/d/e/g", 1);
    assert_eq!(bench.delete("ann", "/tmp/d", true), Ok(Outcome::Deleted { files: 1, directories: 3 }));
    assert_eq!(code(bench.delete("ann", "/tmp/d", true)), ErrorCode::NotFound);
    bench.check();
}

#[test]
fn rights_decide() {
    let mut bench = Bench::new();
    assert_eq!(code(bench.mkdir("ann", "/ann", 0o755)), ErrorCode::PermissionDenied);
    bench.mkdir("ann", "/tmp/ann", 0o700).unwrap();
    bench.file("ann", "/tmp/ann/f", 1);
    let bob = caller("bob");
    assert_eq!(code(bench.namespace.stat(&bob, &path("/tmp/ann/f"))), ErrorCode::PermissionDenied);
    assert_eq!(code(bench.namespace.stat(&bob, &path("/tmp/ann/none"))), ErrorCode::PermissionDenied);
    assert!(bench.namespace.stat(&bob, &path("/tmp/ann")).is_ok());
    assert_eq!(code(bench.namespace.list(&bob, &path("/tmp/ann"), "", 5)), ErrorCode::PermissionDenied);
    let of_supergroup = proto::log::CallerRecord { user: "eve".into(), groups: vec!["supergroup".into()] };
    assert!(bench.namespace.stat(&of_supergroup, &path("/tmp/ann/f")).is_ok());
    let create = Create { path: "/tmp/secret".into(), mode: 0o600, ..new_file() };
    let draft = bench.create_with(by("ann"), create).unwrap();
    bench.complete("ann", &draft, 1).unwrap();
    assert_eq!(code(bench.open("bob", "/tmp/secret")), ErrorCode::PermissionDenied);
    assert_eq!(code(bench.open("bob", "/tmp")), ErrorCode::IsADirectory);
    assert_eq!(code(bench.namespace.stat(&bob, &path("/tmp/secret/x"))), ErrorCode::NotADirectory);
    assert_eq!(code(bench.rename("bob", "/tmp/secret", "/tmp/mine", false)), ErrorCode::PermissionDenied);
    assert_eq!(code(bench.run(by("a/b"), Op::Mkdir(Mkdir::default())).result), ErrorCode::InvalidArgument);
    bench.check();
}

#[test]
fn parents_are_made_with_rights_to_go_on() {
    let mut bench = Bench::new();
    let mkdir = Mkdir { path: "/tmp/a/b/c".into(), mode: 0o050, parents: true, unmasked_mode: None };
    bench.run(by("ann"), Op::Mkdir(mkdir)).result.unwrap();
    assert_eq!(bench.stat("/tmp/a/b").unwrap().mode, 0o350);
    assert_eq!(bench.stat("/tmp/a/b/c").unwrap().mode, 0o050);
    assert_eq!(code(bench.mkdir("ann", "/tmp/x/y", 0o755)), ErrorCode::NotFound);
    let create = Create { path: "/tmp/p/q/f".into(), ..new_file() };
    assert_eq!(code(bench.create_with(by("ann"), create.clone())), ErrorCode::NotFound);
    let draft = bench.create_with(by("ann"), Create { parents: true, ..create }).unwrap();
    assert_eq!(bench.stat("/tmp/p/q").unwrap().mode, 0o777);
    bench.complete("ann", &draft, 1).unwrap();
    bench.check();
}

#[test]
fn listings_come_in_pages() {
    let mut bench = Bench::new();
    for n in (0..1000).rev() {
        if n != 500 {
            bench.mkdir(SUPER, &format!("/tmp/{n:03}"), 0o755).unwrap();
        }
    }
    let list = |after: &str, limit| bench.namespace.list(&caller("bob"), &path("/tmp"), after, limit).unwrap();
    let mut names = Vec::new();
    loop {
        let (page, more) = list(names.last().map_or("", String::as_str), 64);
        names.extend(page.into_iter().map(|status| status.path));
        if !more {
            break;
        }
    }
    assert_eq!(names.len(), 999);
    assert!(names.is_sorted());
    assert_eq!(list("500", 1).0[0].path, "501", "the name need not exist");
    assert_eq!(bench.stat("/tmp").unwrap().children, 999);
    bench.mkdir(SUPER, "/tmp/500", 0o755).unwrap();
    assert_eq!(code(bench.mkdir(SUPER, "/tmp/x", 0o755)), ErrorCode::NoSpace);
    assert_eq!(code(bench.rename(SUPER, "/tmp/1", "/tmp/x", false)), ErrorCode::NotFound);
    bench.file(SUPER, "/f", 1);
    assert_eq!(code(bench.rename(SUPER, "/f", "/tmp/x", false)), ErrorCode::NoSpace);
    let (page, more) = bench.namespace.list(&caller("bob"), &path("/f"), "zzz", 5).unwrap();
    assert_eq!((page.len(), page[0].path.as_str(), more), (1, "", false));
}

#[test]
fn retries_take_effect_once() {
    let mut bench = Bench::new();
    let from = |call, lowest| From { user: "ann", session: Some((session(9), call, lowest)) };
    let create = Op::Create(Create { path: "/tmp/f".into(), publish_at_once: true, ..new_file() });
    let first = bench.run(from(1, 1), create.clone());
    assert!(!first.replayed && first.effects.len() == 1);
    let hash = bench.namespace.store.hash;
    let again = bench.run(from(1, 1), create.clone());
    assert_eq!((again.result, again.effects, again.replayed), (first.result.clone(), vec![], true));
    assert_eq!(bench.namespace.store.hash, hash);
    assert!(bench.namespace.remembers(Some(session(9)), 1));
    // Refusals are answers too, unless they may be over soon.
    let mkdir = Op::Mkdir(Mkdir { path: "/tmp/d/e".into(), mode: 0o755, parents: false, unmasked_mode: None });
    assert_eq!(code(bench.run(from(2, 1), mkdir.clone()).result), ErrorCode::NotFound);
    bench.mkdir("ann", "/tmp/d", 0o755).unwrap();
    let late = bench.run(from(2, 1), mkdir);
    assert_eq!((code(late.result), late.replayed), (ErrorCode::NotFound, true));
    let Ok(Outcome::Create { inode, lease_epoch, first_block: Some(block), .. }) = first.result else { panic!() };
    let complete = |copies| {
        Op::Complete(proto::log::Complete {
            inode: inode.raw(),
            lease_epoch: lease_epoch.raw(),
            last: Some(proto::log::CommittedBlock {
                id: block.block.raw(),
                stamp: block.stamp.raw(),
                len_bytes: 3,
                storages: homes(copies),
                ..proto::log::CommittedBlock::default()
            }),
        })
    };
    assert_eq!(code(bench.run(from(3, 3), complete(1)).result), ErrorCode::NotReplicatedYet);
    assert!(bench.run(from(3, 3), complete(2)).result.is_ok());
    assert_eq!(code(bench.run(from(1, 1), create).result), ErrorCode::SessionExpired);
    bench.check();
    // The answers survive an image.
    let mut loaded = Namespace::read_from(&mut super::harness::image_of(&bench.namespace).as_slice()).unwrap();
    std::mem::swap(&mut loaded, &mut bench.namespace);
    assert!(bench.run(from(3, 3), complete(2)).replayed);
}

/// Who is told that a file is being written takes that for the answer: a copy of the call that was under way all the time does
/// not cut the file after all.
#[test]
fn n_7_a_call_that_was_refused_because_the_file_is_open_does_not_happen_later() {
    let mut bench = Bench::new();
    let from = |call, lowest| From { user: "ann", session: Some((session(9), call, lowest)) };
    for (version, takes_effect_late) in [(7, true), (8, false)] {
        let path = format!("/tmp/f{version}");
        let opened =
            bench.run(by("ann"), Op::Create(Create { path: path.clone(), publish_at_once: true, ..new_file() }));
        let Ok(Outcome::Create { inode, lease_epoch, .. }) = opened.result else { panic!() };
        bench.version = version;
        let append = Op::Append(proto::log::Append { path, ..Default::default() });
        let call = u64::from(version);
        assert_eq!(code(bench.run(from(call, 1), append.clone()).result), ErrorCode::FileOpen);
        let (inode, lease_epoch) = (inode.raw(), lease_epoch.raw());
        bench.run(by("ann"), Op::Complete(proto::log::Complete { inode, lease_epoch, last: None })).result.unwrap();
        let late = bench.run(from(call, 1), append);
        assert_eq!((late.result.is_ok(), late.replayed), (takes_effect_late, !takes_effect_late), "version {version}");
    }
    bench.check();
}

#[test]
fn the_registry_keeps_storages_with_their_nodes() {
    let mut bench = Bench::new();
    let register = |storage: &str, node: &str, rack: &str| {
        Op::RegisterStorage(proto::log::RegisterStorage {
            storage: storage.into(),
            node: node.into(),
            media: "SSD".into(),
            rack: rack.into(),
        })
    };
    let again = bench.run(by(SUPER), register("DS-1", "node-1", "/r2")).result;
    assert_eq!(again, Ok(Outcome::StorageRegistered(StorageIndex(1))));
    assert_eq!(bench.namespace.storages()[1].rack, "/r2");
    assert_eq!(code(bench.run(by(SUPER), register("DS-1", "node-2", "/r2")).result), ErrorCode::AlreadyExists);
    assert_eq!(code(bench.run(by(SUPER), register("disk", "node-2", "/r2")).result), ErrorCode::InvalidArgument);
    let key = |number, byte| Op::SetBlockKey(SetBlockKey { number, key: vec![byte; 32].into() });
    for (number, fits) in [(1, true), (2, true), (2, true), (1, false), (5, true), (6, true)] {
        assert_eq!(bench.run(by(SUPER), key(number, number as u8)).result.is_ok(), fits, "{number}");
    }
    assert_eq!(bench.namespace.block_keys().iter().map(|key| key.number).collect::<Vec<_>>(), [2, 5, 6]);
    let update = |settings| Op::UpdateSettings(UpdateSettings { settings: Some(settings) });
    assert_eq!(code(bench.run(by("ann"), update(settings())).result), ErrorCode::PermissionDenied);
    let wrong = Settings { default_replication: 0, ..settings() };
    assert_eq!(code(bench.run(by(SUPER), update(wrong)).result), ErrorCode::InvalidArgument);
    bench.run(by(SUPER), update(Settings { max_directory_entries: 7, ..settings() })).result.unwrap();
    assert_eq!(bench.namespace.settings().max_directory_entries, 7);
    bench.check();
}

#[test]
fn entries_of_the_future_and_of_the_past_change_nothing() {
    use proto::ids::{LogIndex, Term};
    let mut bench = Bench::new();
    let hash = bench.namespace.state_hash();
    let mut entry = bench.log.last().cloned().unwrap();
    let old = bench.namespace.apply(LogIndex::from_raw(1), Term::from_raw(1), &entry);
    assert_eq!(old[0].result.as_ref().err().map(|error| error.code), Some(ErrorCode::Internal));
    entry.version = crate::namespace::COMMAND_SET_VERSION + 1;
    assert!(Namespace::check_version(&entry).is_err());
    let new = bench.namespace.apply(LogIndex::from_raw(1000), Term::from_raw(1), &entry);
    assert_eq!(new[0].result.as_ref().err().map(|error| error.code), Some(ErrorCode::VersionMismatch));
    assert_eq!(bench.namespace.state_hash(), hash);
}
