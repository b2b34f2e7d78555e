//! Appending: what a file has stays, and the lease comes with its length.

use proto::error::ErrorCode;
use proto::log::command::Op;
use proto::log::{AbandonBlock, AllowSnapshots, Create, CreateSnapshot, SetQuota};

use super::harness::{BLOCK, Bench, SUPER, by, caller, code, homes, new_file, path};
use crate::namespace::{BlockEffect, BlockView, Namespace};

/// Space of a directory, all copies counted, and the bytes of its files.
fn used(namespace: &Namespace, at: &str) -> (u64, u64) {
    let summary = namespace.content_summary(&caller(SUPER), &path(at)).unwrap();
    (summary.space_bytes, summary.len_bytes)
}
pub(super) fn quota(bench: &mut Bench, at: &str, space_bytes: u64) {
    let set = SetQuota { path: at.into(), space_quota_bytes: Some(space_bytes), ..SetQuota::default() };
    bench.run(by(SUPER), Op::SetQuota(set)).result.unwrap();
}
pub(super) fn snapshot(bench: &mut Bench, at: &str, name: &str) {
    bench.run(by(SUPER), Op::AllowSnapshots(AllowSnapshots { path: at.into(), allow: true })).result.unwrap();
    let create = CreateSnapshot { path: at.into(), name: name.into() };
    bench.run(by(SUPER), Op::CreateSnapshot(create)).result.unwrap();
}
/// Ids, offsets and lengths of a file's blocks.
pub(super) fn blocks(bench: &Bench, at: &str) -> Vec<(i64, u64, u64)> {
    let place = |block: &BlockView| (block.block.raw(), block.offset_bytes, block.len_bytes);
    bench.open(SUPER, at).unwrap().blocks.iter().map(place).collect()
}

#[test]
fn sc_29_the_length_comes_in_the_reply_that_grants_the_lease() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/d", 0o777).unwrap();
    let closed = bench.file("ann", "/d/f", 700);
    assert_eq!(used(&bench.namespace, "/d"), (3 * 700, 700));
    let before = bench.open("ann", "/d/f").unwrap().blocks.remove(0);
    let first = bench.append("ann", "/d/f").unwrap();
    let last = first.last.clone().unwrap();
    assert_eq!((first.status.inode, first.status.len_bytes, last.len_bytes), (closed.inode, 700, 700));
    assert_eq!((last.block, last.stamp, last.offset_bytes), (before.block, before.stamp, 0));
    assert!(first.status.open_for_write && last.new_stamp > last.stamp);
    assert_eq!((last.block_size_bytes, last.replication, last.storages), (4 * BLOCK, 3, before.storages.clone()));
    // Nobody else gets it, and nobody sees less of it.
    assert_eq!(code(bench.append("ann", "/d/f")), ErrorCode::FileOpen);
    assert_eq!(code(bench.truncate("ann", "/d/f", 1)), ErrorCode::FileOpen);
    assert_eq!(bench.stat("/d/f").unwrap().len_bytes, 700);
    let seen = bench.open("bob", "/d/f").unwrap();
    assert!(matches!(&seen.blocks[..], [block] if !block.committed && block.len_bytes == 700));
    assert_eq!((used(&bench.namespace, "/d"), bench.namespace.committed_blocks()), ((3 * 4 * BLOCK, 700), 0));
    bench.check();

    // What the first one wrote is what the second one begins with.
    let mut draft = first.draft;
    bench.update_pipeline("ann", &mut draft, last.new_stamp.raw(), 700).unwrap();
    bench.complete("ann", &draft, 900).unwrap();
    assert_eq!((used(&bench.namespace, "/d"), bench.namespace.committed_blocks()), ((3 * 900, 900), 1));
    let second = bench.append("ann", "/d/f").unwrap();
    assert_eq!((second.status.len_bytes, second.last.map(|last| last.len_bytes)), (900, Some(900)));
    assert!(second.draft.epoch > draft.epoch);
    assert_eq!(code(bench.complete("ann", &draft, 950)), ErrorCode::LeaseLost);
    bench.check();
}

#[test]
fn sc_39_what_was_finished_before_is_never_given_up() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 700);
    let mut draft = bench.append("ann", "/tmp/f").unwrap().draft;
    let stamp = bench.namespace.open_files()[0].reserved_stamp.unwrap().raw();
    let block = draft.block.clone().unwrap();
    let abandon = |draft: &super::harness::Draft| {
        let (inode, lease_epoch) = (draft.inode, draft.epoch);
        Op::AbandonBlock(AbandonBlock { inode, lease_epoch, id: block.block.raw(), stamp: block.stamp.raw() })
    };
    let hash = bench.namespace.store.hash;
    assert_eq!(code(bench.update_pipeline("ann", &mut draft, stamp, 699)), ErrorCode::InvalidArgument);
    assert_eq!(code(bench.complete("ann", &draft, 699)), ErrorCode::InvalidArgument);
    assert_eq!(code(bench.complete("ann", &draft, 0)), ErrorCode::InvalidArgument);
    assert_eq!(code(bench.add_block("ann", &draft, 699)), ErrorCode::InvalidArgument);
    assert_eq!(code(bench.complete("ann", &draft, 4 * BLOCK + 1)), ErrorCode::InvalidArgument);
    let unnamed = super::harness::Draft { block: None, ..draft.clone() };
    assert_eq!(code(bench.complete("ann", &unnamed, 0)), ErrorCode::InvalidArgument);
    let refused = bench.run(by("ann"), abandon(&draft));
    assert_eq!(code(refused.result), ErrorCode::InvalidArgument);
    assert_eq!(bench.namespace.store.hash, hash);
    bench.check();

    // Nothing was added: it is closed as it was.
    let status = bench.complete("ann", &draft, 700).unwrap();
    assert_eq!((status.len_bytes, status.open_for_write), (700, false));
    bench.check();
}

#[test]
fn a_block_follows_where_the_last_one_is_full_or_is_to_stay() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/full", 4 * BLOCK);
    bench.file("ann", "/tmp/part", BLOCK);
    let none = Create { path: "/tmp/empty".into(), with_first_block: false, ..new_file() };
    let draft = bench.create_with(by("ann"), none).unwrap();
    bench.complete("ann", &draft, 0).unwrap();
    for (at, new_block, len) in [("/tmp/full", false, 4 * BLOCK), ("/tmp/part", true, BLOCK), ("/tmp/empty", false, 0)]
    {
        let applied = bench.append_with(by("ann"), at, new_block).unwrap();
        assert_eq!((applied.last, applied.status.len_bytes), (None, len), "{at}");
        let mut draft = applied.draft;
        let none = super::harness::Draft { block: None, ..draft.clone() };
        let block = bench.add_block("ann", &none, 0).unwrap();
        assert_eq!(block.offset_bytes, len, "{at}");
        draft.block = Some(block);
        bench.check();
        assert_eq!(bench.complete("ann", &draft, 5).unwrap().len_bytes, len + 5);
    }
    assert_eq!(blocks(&bench, "/tmp/part").len(), 2);
    // Opened and closed again with nothing written: as it was.
    let draft = bench.append_with(by("ann"), "/tmp/full", true).unwrap().draft;
    assert_eq!(bench.complete("ann", &draft, 0).unwrap().len_bytes, 4 * BLOCK + 5);
    bench.check();
}

#[test]
fn sc_03_r_3_an_append_that_is_refused_leaves_the_file_closed() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/d", 0o777).unwrap();
    bench.file("ann", "/d/f", BLOCK);
    quota(&mut bench, "/d", 3 * 4 * BLOCK - 1);
    let (hash, next) = (bench.namespace.store.hash, bench.namespace.next);
    assert_eq!(code(bench.append("bob", "/d/f")), ErrorCode::PermissionDenied);
    assert_eq!(code(bench.append("ann", "/d/f")), ErrorCode::QuotaExceeded);
    assert_eq!(code(bench.append("ann", "/d")), ErrorCode::IsADirectory);
    assert_eq!(code(bench.append("ann", "/d/none")), ErrorCode::NotFound);
    assert_eq!(code(bench.truncate("bob", "/d/f", 0)), ErrorCode::PermissionDenied);
    assert_eq!(code(bench.truncate("ann", "/d/f", BLOCK + 1)), ErrorCode::InvalidArgument);
    assert_eq!((bench.namespace.store.hash, bench.namespace.next), (hash, next));
    assert!(!bench.stat("/d/f").unwrap().open_for_write);
    bench.check();

    quota(&mut bench, "/d", 3 * 4 * BLOCK);
    let opened = bench.append("ann", "/d/f").unwrap();
    assert_eq!(used(&bench.namespace, "/d"), (3 * 4 * BLOCK, BLOCK));
    assert_eq!(code(bench.create("ann", "/d/g", true)), ErrorCode::QuotaExceeded);
    let refused = bench.add_block("ann", &opened.draft, 2 * BLOCK);
    assert_eq!(code(refused), ErrorCode::QuotaExceeded, "a further block has no room");
    bench.complete("ann", &opened.draft, 2 * BLOCK).unwrap();
    assert_eq!(used(&bench.namespace, "/d"), (3 * 2 * BLOCK, 2 * BLOCK));
    bench.check();
}

#[test]
fn the_block_map_is_told_of_a_block_that_is_open_again_and_finished_again() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 700);
    let append = proto::log::Append { path: "/tmp/f".into(), good: homes(3), ..Default::default() };
    let applied = bench.run(by("ann"), Op::Append(append));
    let [BlockEffect::Reopened { block, stamp, len_bytes: 700, finished_bytes: 700, replication: 3, storages }] =
        &applied.effects[..]
    else {
        panic!("{:?}", applied.effects)
    };
    assert_eq!(storages.len(), 2);
    let state = bench.namespace.block(*block).unwrap();
    assert_eq!((state.stamp, state.committed, state.len_bytes), (*stamp, false, 700));
    let lease = bench.namespace.open_files().remove(0);
    let view = bench.namespace.lease(lease.inode).unwrap();
    assert_eq!((view.path.as_str(), view.owner.as_str(), view.len_bytes), ("/tmp/f", "ann", 700));
    let writing = bench.namespace.file_for_write(lease.inode, lease.lease_epoch, None).unwrap();
    assert_eq!((writing.reserved_stamp, writing.unpublished, writing.len_bytes), (lease.reserved_stamp, false, 700));
    let new_stamp = lease.reserved_stamp.unwrap();
    let mut draft = super::harness::Draft { inode: lease.inode.raw(), epoch: lease.lease_epoch.raw(), block: None };
    draft.block = Some(crate::namespace::NewBlock {
        block: *block,
        stamp: *stamp,
        offset_bytes: 0,
        replication: 3,
        block_size_bytes: 4 * BLOCK,
        storages: storages.clone(),
    });
    bench.run(by("ann"), draft.update_pipeline(new_stamp.raw(), 700, homes(3))).result.unwrap();
    draft.block.as_mut().unwrap().stamp = new_stamp;
    let complete = proto::log::Complete { inode: draft.inode, lease_epoch: draft.epoch, last: draft.committed(701) };
    let applied = bench.run(by("ann"), Op::Complete(complete));
    assert!(matches!(
        &applied.effects[..],
        [BlockEffect::Committed { block: told, stamp, len_bytes: 701, .. }] if told == block && *stamp == new_stamp
    ));
    bench.check();
}

#[test]
fn n_6_a_snapshot_keeps_the_length_that_the_file_had() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/r", 0o777).unwrap();
    bench.file("ann", "/r/f", 700);
    let whole = blocks(&bench, "/r/f");
    snapshot(&mut bench, "/r", "s1");
    let draft = bench.append("ann", "/r/f").unwrap().draft;
    let past = |bench: &Bench, name: &str| {
        (
            bench.stat(&format!("/r/.snapshot/{name}/f")).unwrap().len_bytes,
            blocks(bench, &format!("/r/.snapshot/{name}/f")),
        )
    };
    assert_eq!(past(&bench, "s1"), (700, whole.clone()), "while it is open");
    // A snapshot of an open file has what was finished before.
    snapshot(&mut bench, "/r", "s2");
    assert_eq!(past(&bench, "s2"), (700, whole.clone()));
    assert!(bench.open(SUPER, "/r/.snapshot/s2/f").unwrap().blocks.iter().all(|block| block.committed));
    bench.complete("ann", &draft, 1000).unwrap();
    snapshot(&mut bench, "/r", "s3");
    for name in ["s1", "s2"] {
        assert_eq!(past(&bench, name), (700, whole.clone()), "{name}");
    }
    let longer = vec![(whole[0].0, 0, 1000)];
    assert_eq!(past(&bench, "s3"), (1000, longer.clone()));
    bench.check();
    let draft = bench.append("ann", "/r/f").unwrap().draft;
    bench.complete("ann", &draft, 2000).unwrap();
    bench.delete("ann", "/r/f", false).unwrap();
    assert_eq!((past(&bench, "s1"), past(&bench, "s3")), ((700, whole), (1000, longer)));
    bench.check();
}

#[test]
fn sc_11_n_6_a_file_that_is_deleted_while_it_is_appended_to_is_finished_for_its_snapshots() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/r", 0o777).unwrap();
    bench.mkdir(SUPER, "/r/d", 0o777).unwrap();
    bench.file("ann", "/r/f", 700);
    bench.file("ann", "/r/d/g", 300);
    snapshot(&mut bench, "/r", "s1");
    let mut draft = bench.append("ann", "/r/f").unwrap().draft;
    let stamp = bench.namespace.open_files()[0].reserved_stamp.unwrap().raw();
    bench.update_pipeline("ann", &mut draft, stamp, 700).unwrap();
    let below = bench.append("ann", "/r/d/g").unwrap().draft;
    bench.delete(SUPER, "/r/d", true).unwrap();
    bench.delete("ann", "/r/f", false).unwrap();
    bench.reclaim_all();
    bench.check();
    for (gone, len) in [(&draft, 900), (&below, 900)] {
        assert_eq!(code(bench.complete("ann", gone, len)), ErrorCode::NotFound);
        assert_eq!(code(bench.new_stamp("ann", gone)), ErrorCode::NotFound);
    }
    let leases: Vec<_> = bench.namespace.recovering().collect();
    assert_eq!(leases.len(), 2);
    for lease in leases {
        let view = bench.namespace.lease(lease.inode).unwrap();
        let floor = view.last_block.as_ref().unwrap().len_bytes;
        assert_eq!((lease.recovery.unwrap().target_len_bytes, view.path.as_str()), (Some(floor), ""));
        assert_eq!(code(bench.finish(&view, floor + 1, 2).result), ErrorCode::InvalidArgument);
        bench.finish(&view, floor, 2).result.unwrap();
    }
    bench.check();
    assert_eq!(bench.namespace.open_files(), []);
    assert_eq!(bench.stat("/r/.snapshot/s1/f").unwrap().len_bytes, 700);
    assert_eq!(bench.stat("/r/.snapshot/s1/d/g").unwrap().len_bytes, 300);
    let gone = proto::log::DeleteSnapshot { path: "/r".into(), name: "s1".into() };
    bench.run(by(SUPER), Op::DeleteSnapshot(gone)).result.unwrap();
    bench.reclaim_all();
    assert_eq!((bench.namespace.counts().blocks, bench.namespace.counts().open_files), (0, 0));
    bench.check();
}

#[test]
fn sc_11_a_snapshot_that_goes_takes_a_recovery_for_it_along() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/r", 0o777).unwrap();
    bench.file("ann", "/r/f", 700);
    snapshot(&mut bench, "/r", "s1");
    bench.append("ann", "/r/f").unwrap();
    bench.delete("ann", "/r/f", false).unwrap();
    let view = bench.recovery();
    let gone = proto::log::DeleteSnapshot { path: "/r".into(), name: "s1".into() };
    bench.run(by(SUPER), Op::DeleteSnapshot(gone)).result.unwrap();
    bench.reclaim_all();
    assert_eq!(code(bench.finish(&view, 700, 2).result), ErrorCode::NotFound);
    assert_eq!((bench.namespace.counts().blocks, bench.namespace.counts().open_files), (0, 0));
    bench.check();
}
