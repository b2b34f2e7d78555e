//! Stamps and pipelines of open blocks, the first flush of a file, and what becomes of calls that come twice.

use proto::error::ErrorCode;
use proto::ids::{BlockId, GenerationStamp, InodeId};
use proto::log::command::Op;
use proto::log::{Create, SetQuota};

use super::harness::{BLOCK, Bench, Draft, SUPER, by, caller, code, homes, image_of, new_file, path, session};
use crate::namespace::{BlockEffect, Namespace, Outcome, StorageIndex};

fn block_of(draft: &Draft) -> (BlockId, GenerationStamp) {
    draft.block.as_ref().map(|block| (block.block, block.stamp)).unwrap()
}

#[test]
fn a_pipeline_stands_again_only_at_the_reserved_stamp_with_enough_nodes() {
    let mut bench = Bench::new();
    let mut draft = bench.create("ann", "/tmp/f", true).unwrap();
    let (block, first) = block_of(&draft);
    let early = draft.update_pipeline(first.raw() + 1, 10, homes(2));
    assert_eq!(code(bench.run(by("ann"), early).result), ErrorCode::StaleStamp, "nothing is reserved");
    let [one, two] = [(); 2].map(|()| bench.new_stamp("ann", &draft).unwrap());
    assert!(first.raw() < one && one < two);
    assert_eq!(bench.namespace.block(block).unwrap().stamp, first, "a reserved stamp is not in force");
    let lease = bench.namespace.open_files().remove(0);
    assert_eq!(lease.reserved_stamp, Some(GenerationStamp::from_raw(two)));
    for (refused, reason) in [
        (draft.update_pipeline(one, 10, homes(2)), ErrorCode::StaleStamp),
        (draft.update_pipeline(two + 1, 10, homes(2)), ErrorCode::StaleStamp),
        (draft.update_pipeline(two, 10, homes(1)), ErrorCode::WriteFailed),
        (draft.update_pipeline(two, 10, vec![]), ErrorCode::WriteFailed),
        (draft.update_pipeline(two, 10, vec!["DS-9".into(), "DS-0".into()]), ErrorCode::InvalidArgument),
        (draft.update_pipeline(two, 4 * BLOCK + 1, homes(2)), ErrorCode::InvalidArgument),
    ] {
        let hash = bench.namespace.store.hash;
        let applied = bench.run(by("ann"), refused.clone());
        assert_eq!((code(applied.result), applied.effects), (reason, vec![]), "{refused:?}");
        assert_eq!(bench.namespace.store.hash, hash, "a refusal changes nothing (SC-03)");
    }
    bench.check();

    let applied = bench.run(by("ann"), draft.update_pipeline(two, 10, homes(2)));
    let (stamp, storages) = (GenerationStamp::from_raw(two), vec![StorageIndex(0), StorageIndex(1)]);
    assert_eq!(applied.effects, [BlockEffect::Restamped { block, stamp, replication: 3, storages: storages.clone() }]);
    let view = bench.namespace.lease(InodeId::from_raw(draft.inode)).unwrap();
    assert_eq!(view.lease.reserved_stamp, None);
    let last = view.last_block.unwrap();
    assert_eq!((last.stamp, last.storages, last.committed, last.len_bytes), (stamp, storages, false, 0));
    bench.check();

    // Whoever has the stamp of before is behind.
    assert_eq!(code(bench.complete("ann", &draft, 10)), ErrorCode::StaleStamp);
    assert_eq!(code(bench.new_stamp("ann", &draft)), ErrorCode::StaleStamp);
    draft.block.as_mut().unwrap().stamp = stamp;
    let three = bench.new_stamp("ann", &draft).unwrap();
    assert!(three > two);
    assert_eq!(bench.complete("ann", &draft, 10).unwrap().len_bytes, 10, "a reserved stamp does not have to be used");
    assert_eq!(code(bench.new_stamp("ann", &draft)), ErrorCode::LeaseLost);
    bench.check();
}

#[test]
fn a_stamp_that_was_reserved_for_a_block_is_no_other_blocks() {
    for given_up in [false, true] {
        let mut bench = Bench::new();
        let mut draft = bench.create("ann", "/tmp/f", true).unwrap();
        let stamp = bench.new_stamp("ann", &draft).unwrap();
        if given_up {
            let (block, of) = block_of(&draft);
            let (inode, lease_epoch) = (draft.inode, draft.epoch);
            let abandon = proto::log::AbandonBlock { inode, lease_epoch, id: block.raw(), stamp: of.raw() };
            bench.run(by("ann"), Op::AbandonBlock(abandon)).result.unwrap();
            bench.check();
            let none = Draft { block: None, ..draft.clone() };
            draft.block = Some(bench.add_block("ann", &none, 0).unwrap());
        } else {
            draft.block = Some(bench.add_block("ann", &draft, BLOCK).unwrap());
        }
        assert_eq!(bench.namespace.open_files()[0].reserved_stamp, None);
        assert_eq!(code(bench.update_pipeline("ann", &mut draft, stamp, 0)), ErrorCode::StaleStamp);
        bench.check();
    }
}

#[test]
fn stamps_are_for_the_open_last_block_of_whoever_writes() {
    let mut bench = Bench::new();
    let mut draft = bench
        .create_with(
            super::harness::From { user: "ann", session: Some((session(1), 1, 1)) },
            Create { path: "/tmp/f".into(), ..new_file() },
        )
        .unwrap();
    assert_eq!(code(bench.run(by("ann"), draft.new_stamp()).result), ErrorCode::LeaseLost, "without her session");
    let hers = super::harness::From { user: "ann", session: Some((session(1), 2, 2)) };
    bench.run(hers, draft.new_stamp()).result.unwrap();
    let epoch = draft.epoch;
    draft.epoch += 1;
    assert_eq!(code(bench.run(by("ann"), draft.new_stamp()).result), ErrorCode::LeaseLost);
    draft.epoch = epoch;

    let mut draft = bench.create("ann", "/tmp/g", false).unwrap();
    let first = draft.clone();
    draft.block = Some(bench.add_block("ann", &draft, BLOCK).unwrap());
    assert_eq!(code(bench.new_stamp("ann", &first)), ErrorCode::InvalidArgument, "not the last block");
    let none = Create { path: "/tmp/h".into(), with_first_block: false, ..new_file() };
    let mut empty = bench.create_with(by("ann"), none).unwrap();
    empty.block = draft.block.clone();
    assert_eq!(code(bench.new_stamp("ann", &empty)), ErrorCode::InvalidArgument, "another file's block");
    bench.check();
}

#[test]
fn d_2_a_published_file_is_in_the_tree_and_is_written_on() {
    let mut bench = Bench::new();
    let old = bench.file("ann", "/tmp/f", 7);
    let over = Create { path: "/tmp/f".into(), overwrite: true, ..new_file() };
    let mut draft = bench.create_with(by("ann"), over).unwrap();
    let (block, _) = block_of(&draft);
    assert_eq!(bench.stat("/tmp/f").unwrap().inode, old.inode);
    let applied = bench.run(by("ann"), draft.publish());
    let Ok(Outcome::Status(status)) = applied.result else { panic!("{:?}", applied.result) };
    assert_eq!((status.inode, status.path.as_str(), status.open_for_write), (draft.inode, "/tmp/f", true));
    // SC-31: what it replaced goes, and nothing of it.
    assert!(matches!(applied.effects[..], [BlockEffect::Freed { block: gone, .. }] if gone != block));
    bench.reclaim_all();
    assert!(bench.namespace.block(block).is_some_and(|block| !block.committed));
    let again = bench.run(by("ann"), draft.publish());
    assert_eq!((again.result, again.effects), (Ok(Outcome::Status(bench.stat("/tmp/f").unwrap())), vec![]));
    bench.check();
    let opened = bench.open("ann", "/tmp/f").unwrap();
    assert!(matches!(&opened.blocks[..], [last] if last.block == block && !last.committed));
    draft.block = Some(bench.add_block("ann", &draft, 4 * BLOCK).unwrap());
    bench.run(by("ann"), draft.publish()).result.unwrap();
    assert_eq!(bench.complete("ann", &draft, 5).unwrap().len_bytes, 4 * BLOCK + 5);
    assert_eq!(code(bench.run(by("ann"), draft.publish()).result), ErrorCode::LeaseLost);
    bench.check();
}

#[test]
fn sc_03_a_file_that_cannot_be_published_stays_as_it_was() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/d", 0o777).unwrap();
    let draft = bench.create("ann", "/d/f", false).unwrap();
    let refused = |bench: &mut Bench, reason: ErrorCode| {
        let (hash, next) = (bench.namespace.store.hash, bench.namespace.next);
        let applied = bench.run(by("ann"), draft.publish());
        assert_eq!((code(applied.result), applied.effects), (reason, vec![]));
        assert_eq!((bench.namespace.store.hash, bench.namespace.next), (hash, next), "{reason:?}");
        bench.check();
    };
    let mode = |bench: &mut Bench, mode| {
        let set = proto::log::SetAttributes { path: "/d".into(), mode: Some(mode), ..Default::default() };
        bench.run(by(SUPER), Op::SetAttributes(set)).result.unwrap();
    };
    mode(&mut bench, 0o755);
    refused(&mut bench, ErrorCode::PermissionDenied);
    mode(&mut bench, 0o777);
    bench.file("bob", "/d/f", 3);
    refused(&mut bench, ErrorCode::AlreadyExists);
    bench.delete("bob", "/d/f", false).unwrap();
    let quota = SetQuota { path: "/d".into(), space_quota_bytes: Some(12 * BLOCK - 1), ..SetQuota::default() };
    bench.run(by(SUPER), Op::SetQuota(quota)).result.unwrap();
    refused(&mut bench, ErrorCode::QuotaExceeded);
    let quota = SetQuota { path: "/d".into(), space_quota_bytes: Some(12 * BLOCK), ..SetQuota::default() };
    bench.run(by(SUPER), Op::SetQuota(quota)).result.unwrap();
    // SC-02: the place is a directory, not a path.
    bench.rename(SUPER, "/d", "/e", false).unwrap();
    bench.run(by("ann"), draft.publish()).result.unwrap();
    let used = bench.namespace.content_summary(&caller(SUPER), &path("/e")).unwrap();
    assert_eq!(used.space_bytes, 12 * BLOCK, "an open block counts in full");
    assert_eq!(bench.complete("ann", &draft, 9).unwrap().path, "/e/f");
    bench.check();
}

#[test]
fn sc_01_a_place_that_is_gone_takes_no_file() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/d", 0o777).unwrap();
    let draft = bench.create("ann", "/d/f", false).unwrap();
    bench.delete(SUPER, "/d", true).unwrap();
    assert_eq!(code(bench.run(by("ann"), draft.publish()).result), ErrorCode::NotFound);
    bench.mkdir(SUPER, "/d", 0o777).unwrap();
    assert_eq!(code(bench.run(by("ann"), draft.publish()).result), ErrorCode::NotFound, "another directory");
    assert_eq!(bench.namespace.lease(InodeId::from_raw(draft.inode)).unwrap().path, "");
    bench.check();
}

/// Every call of version 4, each as it is sent by a session that loses the answer.
#[test]
fn n_7_a_call_that_comes_twice_is_done_once_and_answered_twice() {
    let from = |call| super::harness::From { user: "ann", session: Some((session(1), call, call.max(1))) };
    let mut bench = Bench::new();
    let twice = |bench: &mut Bench, call: u64, op: Op| -> Outcome {
        let first = bench.run(from(call), op.clone());
        let before = (bench.namespace.store.hash, bench.namespace.next);
        bench.namespace = Namespace::read_from(&mut image_of(&bench.namespace).as_slice()).unwrap();
        let again = bench.run(from(call), op.clone());
        assert_eq!((&again.result, again.effects, again.replayed), (&first.result, vec![], true), "{op:?}");
        assert_eq!((bench.namespace.store.hash, bench.namespace.next), before, "{op:?}");
        first.result.unwrap_or_else(|error| panic!("{op:?}: {error}"))
    };
    let created = twice(&mut bench, 1, Op::Create(Create { path: "/tmp/f".into(), ..new_file() }));
    let Outcome::Create { inode, lease_epoch, first_block, .. } = created else { panic!("{created:?}") };
    let mut draft = Draft { inode: inode.raw(), epoch: lease_epoch.raw(), block: first_block };
    let Outcome::NewStamp { stamp, .. } = twice(&mut bench, 2, draft.new_stamp()) else { panic!("a stamp") };
    assert_eq!(twice(&mut bench, 3, draft.update_pipeline(stamp.raw(), 10, homes(2))), Outcome::Done);
    draft.block.as_mut().unwrap().stamp = stamp;
    assert!(matches!(twice(&mut bench, 4, draft.publish()), Outcome::Status(_)));
    let complete =
        proto::log::Complete { inode: draft.inode, lease_epoch: draft.epoch, last: draft.committed(2 * BLOCK) };
    twice(&mut bench, 5, Op::Complete(complete));
    let append = Op::Append(proto::log::Append { path: "/tmp/f".into(), ..Default::default() });
    let Outcome::Appending { lease_epoch, status, last, .. } = twice(&mut bench, 6, append) else { panic!("append") };
    assert_eq!((status.len_bytes, last.as_ref().map(|last| last.len_bytes)), (2 * BLOCK, Some(2 * BLOCK)));
    assert!(lease_epoch.raw() > draft.epoch);
    let recover = Op::RecoverLease(proto::log::RecoverLease { path: "/tmp/f".into(), accept_loss: false });
    assert!(matches!(twice(&mut bench, 7, recover), Outcome::Recovering { closed: false, .. }));
    let view = bench.recovery();
    assert!(matches!(twice(&mut bench, 8, super::harness::finish(&view, 3 * BLOCK, 1)), Outcome::Complete(_)));
    let truncate =
        |len_bytes| Op::Truncate(proto::log::Truncate { path: "/tmp/f".into(), len_bytes, ..Default::default() });
    assert!(matches!(twice(&mut bench, 9, truncate(BLOCK)), Outcome::Truncated { done: false, .. }));
    let view = bench.recovery();
    let begin = proto::log::BeginRecovery { inode: draft.inode, lease_epoch: view.lease.lease_epoch.raw() };
    assert_eq!(twice(&mut bench, 10, Op::BeginRecovery(begin)), Outcome::Done);
    let view = bench.recovery();
    twice(&mut bench, 11, super::harness::finish(&view, BLOCK, 2));
    assert!(matches!(twice(&mut bench, 12, truncate(0)), Outcome::Truncated { done: true, .. }));
    bench.check();
}

/// A new stamp for which the leader chose these storages.
fn offered(bench: &mut Bench, draft: &Draft, storages: &[&str]) -> u64 {
    let Op::NewStamp(new) = draft.new_stamp() else { panic!("a new stamp") };
    let more = storages.iter().map(|storage| (*storage).to_owned()).collect();
    match bench.run(by("ann"), Op::NewStamp(proto::log::NewStamp { more, ..new })).result.unwrap() {
        Outcome::NewStamp { stamp, .. } => stamp.raw(),
        other => panic!("{other:?}"),
    }
}
fn named(storages: &[&str]) -> Vec<String> {
    storages.iter().map(|storage| (*storage).to_owned()).collect()
}

#[test]
fn a_pipeline_is_of_those_before_it_and_of_those_that_were_offered() {
    let mut bench = Bench::new();
    (3..6).for_each(|n| bench.add_storage(n));
    let mut draft = bench.create("ann", "/tmp/f", true).unwrap();
    let first = offered(&mut bench, &draft, &["DS-3"]);
    let refused = bench.run(by("ann"), draft.update_pipeline(first, 10, named(&["DS-0", "DS-4"]))).result.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    assert!(refused.message.contains("DS-4") && !refused.hint.is_empty(), "{refused}");
    // One that was offered for a stamp that came to nothing may be in the next one, which it was kept for.
    let second = offered(&mut bench, &draft, &["DS-4"]);
    bench.check();
    let lease = bench.namespace.open_files().remove(0);
    let view = bench.namespace.file_for_write(lease.inode, lease.lease_epoch, None).unwrap();
    assert_eq!(view.offered, [StorageIndex(3), StorageIndex(4)]);
    bench.run(by("ann"), draft.update_pipeline(second, 10, named(&["DS-2", "DS-3", "DS-4"]))).result.unwrap();
    bench.check();
    // What left the pipeline, or was offered for an earlier one, is a stranger from then on.
    draft.block.as_mut().unwrap().stamp = GenerationStamp::from_raw(second);
    let third = offered(&mut bench, &draft, &[]);
    for stranger in ["DS-0", "DS-5"] {
        let update = draft.update_pipeline(third, 10, named(&["DS-2", stranger]));
        assert_eq!(code(bench.run(by("ann"), update).result), ErrorCode::InvalidArgument, "{stranger}");
    }
    bench.run(by("ann"), draft.update_pipeline(third, 10, named(&["DS-3", "DS-2"]))).result.unwrap();
    bench.check();
}

#[test]
fn u_1_entries_of_version_4_take_any_storage_as_they_did() {
    let mut bench = Bench::new();
    bench.add_storage(3);
    bench.version = 4;
    let draft = bench.create("ann", "/tmp/f", true).unwrap();
    let stamp = offered(&mut bench, &draft, &[]);
    bench.run(by("ann"), draft.update_pipeline(stamp, 10, named(&["DS-0", "DS-3"]))).result.unwrap();
    bench.file("ann", "/tmp/g", 700);
    bench.append("ann", "/tmp/g").unwrap();
    let last = bench.namespace.open_files().remove(1);
    assert!(!bench.namespace.lease(last.inode).unwrap().last_block.unwrap().untouched);
    // Nothing of what is new: an image of the layout before has the same bytes, and the same hash.
    let mut image = image_of(&bench.namespace);
    image[8..12].copy_from_slice(&4_u32.to_le_bytes());
    let loaded = Namespace::read_from(&mut image.as_slice()).unwrap();
    assert_eq!(loaded.state_hash(), bench.namespace.state_hash());
    bench.check();
}
