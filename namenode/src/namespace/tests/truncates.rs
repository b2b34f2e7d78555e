//! Cutting files: at boundaries, inside blocks, and what snapshots see afterwards.

use proto::error::ErrorCode;
use proto::log::command::Op;
use proto::log::{Create, DeleteSnapshot, Link, SetAttributes, Settings, Truncate, UpdateSettings};
use proto::path::FsPath;

use super::appends::{blocks, quota, snapshot};
use super::harness::{BLOCK, Bench, Draft, SUPER, by, caller, code, new_file, path, settings};
use crate::namespace::ops::MAX_CUT_BLOCKS;
use crate::namespace::{BlockEffect, Outcome};

/// A closed file with blocks of these lengths.
fn file_of(bench: &mut Bench, at: &str, lens: &[u64]) {
    let none = Create { path: at.into(), with_first_block: false, ..new_file() };
    let mut draft = bench.create_with(by("ann"), none).unwrap();
    write(bench, &mut draft, lens);
}
/// Blocks of these lengths behind those that there are.
fn write(bench: &mut Bench, draft: &mut Draft, lens: &[u64]) {
    let mut before = 0;
    for len in lens {
        draft.block = Some(bench.add_block("ann", draft, before).unwrap());
        before = *len;
    }
    bench.complete("ann", draft, before).unwrap();
}
fn append_blocks(bench: &mut Bench, at: &str, lens: &[u64]) {
    let mut draft = bench.append_with(by("ann"), at, true).unwrap().draft;
    write(bench, &mut draft, lens);
}
fn delete_snapshot(bench: &mut Bench, at: &str, name: &str) {
    let gone = DeleteSnapshot { path: at.into(), name: name.into() };
    bench.run(by(SUPER), Op::DeleteSnapshot(gone)).result.unwrap();
    bench.reclaim_all();
}
fn space(bench: &Bench, at: &str) -> u64 {
    bench.namespace.content_summary(&caller(SUPER), &path(at)).unwrap().space_bytes
}

#[test]
fn d_6_whole_blocks_behind_the_cut_go_in_the_same_step() {
    let mut bench = Bench::new();
    file_of(&mut bench, "/tmp/f", &[1000, 4 * BLOCK, 7]);
    let before = blocks(&bench, "/tmp/f");
    let (status, done) = bench.truncate("ann", "/tmp/f", 1007 + 4 * BLOCK).unwrap();
    assert_eq!((status.len_bytes, done), (1007 + 4 * BLOCK, true), "as it was");
    let op = Op::Truncate(proto::log::Truncate { path: "/tmp/f".into(), len_bytes: 1000, ..Default::default() });
    let applied = bench.run(by("ann"), op);
    let Ok(Outcome::Truncated { status, done: true }) = applied.result else { panic!("{:?}", applied.result) };
    assert_eq!((status.len_bytes, status.open_for_write), (1000, false));
    let freed: Vec<i64> = applied
        .effects
        .iter()
        .map(|effect| match effect {
            BlockEffect::Freed { block, committed: true, .. } => block.raw(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(freed, [before[1].0, before[2].0]);
    assert_eq!((blocks(&bench, "/tmp/f"), space(&bench, "/tmp/f")), (before[..1].to_vec(), 3000));
    bench.check();
    assert_eq!(bench.truncate("ann", "/tmp/f", 0).unwrap().0.len_bytes, 0);
    assert_eq!((blocks(&bench, "/tmp/f"), bench.namespace.counts().blocks), (vec![], 0));
    assert!(bench.truncate("ann", "/tmp/f", 0).unwrap().1);
    bench.check();
    // SC-46: what comes after are other blocks, and nothing of before.
    append_blocks(&mut bench, "/tmp/f", &[3]);
    let after = blocks(&bench, "/tmp/f");
    assert!(after.len() == 1 && after[0].2 == 3 && before.iter().all(|(id, ..)| *id < after[0].0));
    bench.check();
}

#[test]
fn d_6_a_cut_that_was_reckoned_from_another_length_is_refused_and_cuts_nothing() {
    let mut bench = Bench::new();
    file_of(&mut bench, "/tmp/f", &[1000]);
    // Somebody looked at it now, and reckons with 1000 bytes; meanwhile more of it was acknowledged.
    append_blocks(&mut bench, "/tmp/f", &[500]);
    let before = blocks(&bench, "/tmp/f");
    let cut = |len_bytes, expected_len_bytes| {
        Op::Truncate(proto::log::Truncate {
            path: "/tmp/f".into(),
            len_bytes,
            expected_len_bytes,
            ..Default::default()
        })
    };
    for expected in [1000, 1499, 1501, 0] {
        for len_bytes in [0, 900, 1000] {
            let refused = bench.run(by("ann"), cut(len_bytes, Some(expected))).result.unwrap_err();
            assert_eq!(refused.code, ErrorCode::Changed, "{refused}");
            assert!(refused.message.contains("1500 bytes") && refused.hint.contains("try again"), "{refused}");
        }
    }
    assert_eq!((blocks(&bench, "/tmp/f"), bench.stat("/tmp/f").unwrap().len_bytes), (before, 1500));
    let applied = bench.run(by("ann"), cut(1000, Some(1500)));
    assert!(matches!(&applied.result, Ok(Outcome::Truncated { status, done: true }) if status.len_bytes == 1000));
    // Open, it has no length to reckon with.
    bench.append("ann", "/tmp/f").unwrap();
    assert_eq!(code(bench.run(by("ann"), cut(10, Some(1000))).result), ErrorCode::FileOpen);
    bench.check();
}

#[test]
fn d_6_a_cut_inside_a_block_is_seen_at_once_and_a_recovery_cuts_its_replicas() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/d", 0o777).unwrap();
    file_of(&mut bench, "/d/f", &[4 * BLOCK, 2000, 7]);
    let whole = blocks(&bench, "/d/f");
    quota(&mut bench, "/d", 3 * (4 * BLOCK + 2007));
    let applied = bench.run(
        by("ann"),
        Op::Truncate(proto::log::Truncate { path: "/d/f".into(), len_bytes: 4 * BLOCK + 500, ..Default::default() }),
    );
    assert!(matches!(&applied.result, Ok(Outcome::Truncated { status, done: false }) if status.open_for_write));
    let [BlockEffect::Freed { .. }, BlockEffect::Reopened { block, stamp, len_bytes: 500, .. }] = &applied.effects[..]
    else {
        panic!("{:?}", applied.effects)
    };
    assert_eq!(block.raw(), whole[1].0);
    let cut = vec![whole[0], (whole[1].0, whole[1].1, 500)];
    assert_eq!((blocks(&bench, "/d/f"), bench.stat("/d/f").unwrap().len_bytes), (cut.clone(), 4 * BLOCK + 500));
    // Longer replicas are still there: nobody may ask them how long the block is.
    assert!(bench.open("bob", "/d/f").unwrap().blocks.iter().all(|block| block.committed));
    assert_eq!(space(&bench, "/d"), 3 * (4 * BLOCK + 500), "it does not grow, whatever a quota says (R-3)");
    assert_eq!(code(bench.append("ann", "/d/f")), ErrorCode::FileOpen);
    bench.check();

    let view = bench.recovery();
    let recovery = view.lease.recovery.unwrap();
    assert_eq!((recovery.target_len_bytes, view.lease.session), (Some(500), None));
    assert!(recovery.stamp > *stamp);
    for len in [499, 501, 2000, 0] {
        assert_eq!(code(bench.finish(&view, len, 2).result), ErrorCode::InvalidArgument, "{len}");
    }
    assert_eq!(code(bench.finish(&view, 500, 0).result), ErrorCode::InvalidArgument, "nobody has it");
    let applied = bench.finish(&view, 500, 1);
    assert!(matches!(applied.result, Ok(Outcome::Complete(status)) if !status.open_for_write));
    assert!(matches!(
        &applied.effects[..],
        [BlockEffect::Committed { stamp, len_bytes: 500, storages, .. }] if *stamp == recovery.stamp && storages.len() == 1
    ));
    assert_eq!((blocks(&bench, "/d/f"), space(&bench, "/d")), (cut, 3 * (4 * BLOCK + 500)));
    bench.check();
    // SC-46: cut and grown again.
    quota(&mut bench, "/d", 1 << 40);
    let draft = bench.append("ann", "/d/f").unwrap().draft;
    assert_eq!(bench.complete("ann", &draft, 501).unwrap().len_bytes, 4 * BLOCK + 501);
    bench.check();
}

#[test]
fn l_6_a_cut_that_does_not_end_is_begun_again_with_the_same_aim() {
    let mut bench = Bench::new();
    file_of(&mut bench, "/tmp/f", &[2000]);
    assert!(!bench.truncate("ann", "/tmp/f", 900).unwrap().1);
    let first = bench.recovery();
    let begin =
        proto::log::BeginRecovery { inode: first.lease.inode.raw(), lease_epoch: first.lease.lease_epoch.raw() };
    bench.run(by(SUPER), Op::BeginRecovery(begin)).result.unwrap();
    let second = bench.recovery();
    let (one, two) = (first.lease.recovery.unwrap(), second.lease.recovery.unwrap());
    assert!(two.stamp > one.stamp);
    assert_eq!(two.target_len_bytes, Some(900));
    assert_eq!(code(bench.finish(&first, 900, 2).result), ErrorCode::StaleStamp);
    bench.finish(&second, 900, 2).result.unwrap();
    bench.check();
}

#[test]
fn sc_12_n_6_whole_blocks_that_a_snapshot_sees_stay_until_it_goes() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/r", 0o777).unwrap();
    file_of(&mut bench, "/r/f", &[10, 20]);
    snapshot(&mut bench, "/r", "s1");
    append_blocks(&mut bench, "/r/f", &[30, 40]);
    snapshot(&mut bench, "/r", "s2");
    append_blocks(&mut bench, "/r/f", &[50]);
    let all = blocks(&bench, "/r/f");
    let past = |bench: &Bench, name: &str| blocks(bench, &format!("/r/.snapshot/{name}/f"));
    let freed = |applied: &crate::namespace::Applied| -> Vec<i64> {
        let of =
            |effect: &BlockEffect| if let BlockEffect::Freed { block, .. } = effect { Some(block.raw()) } else { None };
        applied.effects.iter().filter_map(of).collect()
    };
    let cut = |len_bytes| Op::Truncate(proto::log::Truncate { path: "/r/f".into(), len_bytes, ..Default::default() });
    // The last block is in no snapshot; two are in the second one.
    let applied = bench.run(by("ann"), cut(30));
    assert_eq!(freed(&applied), [all[4].0]);
    assert_eq!(
        (blocks(&bench, "/r/f"), past(&bench, "s1"), past(&bench, "s2")),
        (all[..2].to_vec(), all[..2].to_vec(), all[..4].to_vec())
    );
    assert_eq!(space(&bench, "/r"), 3 * 30, "what only snapshots see is in no total");
    bench.check();
    // Others take their places, and go in their turn.
    append_blocks(&mut bench, "/r/f", &[60]);
    snapshot(&mut bench, "/r", "s3");
    let third = blocks(&bench, "/r/f");
    assert_eq!((third[2].1, third[2].2), (30, 60));
    let applied = bench.run(by("ann"), cut(10));
    assert!(freed(&applied).is_empty());
    assert_eq!(past(&bench, "s1"), all[..2].to_vec());
    assert_eq!(past(&bench, "s2"), all[..4].to_vec());
    assert_eq!(past(&bench, "s3"), third);
    let set = SetAttributes { path: "/r/f".into(), replication: Some(2), ..SetAttributes::default() };
    bench.run(by("ann"), Op::SetAttributes(set)).result.unwrap();
    bench.check();

    // Each block goes with the last snapshot that sees it.
    delete_snapshot(&mut bench, "/r", "s2");
    assert_eq!((past(&bench, "s1"), past(&bench, "s3")), (all[..2].to_vec(), third.clone()));
    assert_eq!(bench.namespace.counts().blocks, 3, "two of the second one only are gone");
    bench.check();
    delete_snapshot(&mut bench, "/r", "s1");
    assert_eq!((past(&bench, "s3"), bench.namespace.counts().blocks), (third.clone(), 3));
    bench.check();
    bench.delete("ann", "/r/f", false).unwrap();
    assert_eq!(past(&bench, "s3"), third);
    bench.check();
    delete_snapshot(&mut bench, "/r", "s3");
    assert_eq!((bench.namespace.counts().blocks, bench.namespace.leftovers()), (0, [0; 10]));
    bench.check();
}

#[test]
fn sc_12_no_byte_that_a_snapshot_sees_is_cut_off_inside_a_block() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/r", 0o777).unwrap();
    file_of(&mut bench, "/r/f", &[1000]);
    snapshot(&mut bench, "/r", "s1");
    let hash = bench.namespace.store.hash;
    let refused = bench.truncate("ann", "/r/f", 999).unwrap_err();
    assert!(refused.code == ErrorCode::Unsupported && refused.hint.contains("0 bytes"), "{refused}");
    assert_eq!(bench.namespace.store.hash, hash);
    // What was appended since is nobody's but the file's.
    let draft = bench.append("ann", "/r/f").unwrap().draft;
    bench.complete("ann", &draft, 1500).unwrap();
    assert_eq!(code(bench.truncate("ann", "/r/f", 999)), ErrorCode::Unsupported);
    assert!(!bench.truncate("ann", "/r/f", 1200).unwrap().1);
    bench.finish(&bench.recovery(), 1200, 2).result.unwrap();
    assert!(!bench.truncate("ann", "/r/f", 1000).unwrap().1);
    bench.finish(&bench.recovery(), 1000, 2).result.unwrap();
    assert_eq!(blocks(&bench, "/r/.snapshot/s1/f"), blocks(&bench, "/r/f"));
    bench.check();
    // With the snapshot the reason goes.
    delete_snapshot(&mut bench, "/r", "s1");
    assert!(!bench.truncate("ann", "/r/f", 999).unwrap().1);
    bench.finish(&bench.recovery(), 999, 2).result.unwrap();
    bench.check();
}

/// A file whose last block a snapshot sees, and one with copies of its first bytes.
fn seen_with_tail(lens: &[u64], tail: &[u64]) -> Bench {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/r", 0o777).unwrap();
    file_of(&mut bench, "/r/f", lens);
    snapshot(&mut bench, "/r", "s1");
    file_of(&mut bench, "/r/t", tail);
    bench
}

#[test]
fn n_4_all_of_a_file_is_replaced_in_one_step_under_all_its_names() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/q", 0o777).unwrap();
    let old = bench.file("ann", "/tmp/f", 10);
    bench.run(by("ann"), Op::Link(Link { existing: "/tmp/f".into(), path: "/q/g".into() })).result.unwrap();
    let whole = |path: &str, tail: &str, inode| {
        let (path, tail, expected_inode) = (path.into(), Some(tail.into()), Some(inode));
        Op::Truncate(Truncate { path, tail, whole: true, expected_inode, ..Default::default() })
    };
    file_of(&mut bench, "/tmp/t", &[300, 200]);
    let mut refused = |op| code(bench.run(by("ann"), op).result);
    assert_eq!(refused(whole("/tmp/f", "/tmp/t", old.inode + 1)), ErrorCode::Changed);
    assert_eq!(refused(whole("/tmp/f", "/tmp/none", old.inode)), ErrorCode::NotFound);
    assert_eq!(refused(whole("/q/g", "/tmp/t", old.inode)), ErrorCode::InvalidArgument, "not beside it");
    assert_eq!(
        refused(Op::Truncate(Truncate { path: "/tmp/f".into(), expected_inode: Some(1), ..Default::default() })),
        ErrorCode::Changed
    );
    bench.check();
    bench.run(by("ann"), whole("/tmp/f", "/tmp/t", old.inode)).result.unwrap();
    let now = ["/tmp/f", "/q/g"].map(|at| bench.stat(at).unwrap());
    assert_eq!(now.each_ref().map(|status| (status.inode, status.len_bytes)), [(old.inode, 500); 2]);
    assert_eq!((now[0].nlink, bench.stat("/tmp/t")), (2, None));
    bench.check();
    // A snapshot keeps what was there.
    snapshot(&mut bench, "/q", "s1");
    bench.file("ann", "/q/t", 5);
    bench.run(by("ann"), whole("/q/g", "/q/t", old.inode)).result.unwrap();
    assert_eq!(["/q/g", "/tmp/f", "/q/.snapshot/s1/g"].map(|at| bench.stat(at).unwrap().len_bytes), [5, 5, 500]);
    assert_eq!(bench.open("ann", "/q/.snapshot/s1/g").unwrap().blocks.len(), 2);
    bench.check();
}

/// A cut that names its tail, and the block that was copied from.
fn with_tail(bench: &Bench, at: &str, len_bytes: u64, tail: &str) -> Truncate {
    let namespace = &bench.namespace;
    let open = namespace.open(&caller("ann"), &FsPath::parse(at).unwrap(), 0..u64::MAX, 100).unwrap();
    let cut = open.blocks.iter().find(|block| block.offset_bytes + block.len_bytes > len_bytes).unwrap();
    Truncate {
        whole: false,
        expected_inode: None,
        path: at.into(),
        len_bytes,
        expected_len_bytes: Some(open.status.len_bytes),
        tail: Some(tail.into()),
        tail_block: cut.block.raw(),
        tail_stamp: cut.stamp.raw(),
    }
}

#[test]
fn sc_12_n_6_a_tail_takes_the_place_of_a_block_that_a_snapshot_sees() {
    for (lens, tail, len_bytes) in
        [(&[100u64, 200][..], &[150u64][..], 250), (&[100, 200], &[99], 99), (&[100], &[60, 30], 90)]
    {
        let mut bench = seen_with_tail(lens, tail);
        let (seen, copied) = (blocks(&bench, "/r/f"), blocks(&bench, "/r/t"));
        let op = with_tail(&bench, "/r/f", len_bytes, "/r/t");
        let applied = bench.run(by("ann"), Op::Truncate(op));
        let Ok(Outcome::Truncated { status, done: true }) = applied.result else { panic!("{:?}", applied.result) };
        assert_eq!((status.len_bytes, status.open_for_write), (len_bytes, false));
        let whole = seen.len() - if len_bytes < 100 { lens.len() } else { 1 };
        let begin: u64 = lens[..whole].iter().sum();
        let behind = copied.into_iter().map(|(id, offset, len)| (id, begin + offset, len));
        let wanted: Vec<_> = seen[..whole].iter().copied().chain(behind).collect();
        assert_eq!(blocks(&bench, "/r/f"), wanted);
        assert_eq!(blocks(&bench, "/r/.snapshot/s1/f"), seen, "it is what it was");
        assert!(bench.stat("/r/t").is_none());
        bench.check();
        delete_snapshot(&mut bench, "/r", "s1");
        assert_eq!(blocks(&bench, "/r/f"), wanted);
        bench.check();
    }
}

#[test]
fn d_6_a_tail_that_is_not_what_was_copied_changes_nothing() {
    let mut bench = seen_with_tail(&[100, 200], &[150]);
    file_of(&mut bench, "/r/other", &[100, 200]);
    bench.mkdir(SUPER, "/q", 0o777).unwrap();
    file_of(&mut bench, "/q/t", &[150]);
    let good = with_tail(&bench, "/r/f", 250, "/r/t");
    let other = with_tail(&bench, "/r/other", 250, "/r/t");
    let hash = bench.namespace.store.hash;
    let refused = [
        (Truncate { expected_len_bytes: Some(299), ..good.clone() }, ErrorCode::Changed),
        (Truncate { expected_len_bytes: None, ..good.clone() }, ErrorCode::Changed),
        (Truncate { tail_block: other.tail_block, ..good.clone() }, ErrorCode::Changed),
        (Truncate { tail_stamp: good.tail_stamp + 1, ..good.clone() }, ErrorCode::Changed),
        (Truncate { len_bytes: 249, ..good.clone() }, ErrorCode::Changed),
        (Truncate { tail: Some("/r/none".into()), ..good.clone() }, ErrorCode::NotFound),
        (Truncate { tail: Some("/q/t".into()), ..good.clone() }, ErrorCode::InvalidArgument),
        (Truncate { tail: Some("/r/f".into()), ..good.clone() }, ErrorCode::InvalidArgument),
        (Truncate { tail: Some(String::new()), ..good.clone() }, ErrorCode::InvalidPath),
    ];
    for (op, wanted) in refused {
        let applied = bench.run(by("ann"), Op::Truncate(op.clone()));
        assert_eq!(applied.result.unwrap_err().code, wanted, "{op:?}");
        assert_eq!(bench.namespace.store.hash, hash, "{op:?}");
    }
    // At the begin of a block nothing has to be copied, and nothing takes its place.
    let at = Truncate { len_bytes: 100, ..good };
    assert_eq!(code(bench.run(by("ann"), Op::Truncate(at)).result), ErrorCode::Changed);
    bench.check();
}

#[test]
fn sc_12_a_block_with_others_behind_it_in_a_snapshot_does_not_grow() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/r", 0o777).unwrap();
    file_of(&mut bench, "/r/f", &[100, 200]);
    snapshot(&mut bench, "/r", "s1");
    let both = blocks(&bench, "/r/f");
    bench.truncate("ann", "/r/f", 100).unwrap();
    let opened = bench.append("ann", "/r/f").unwrap();
    assert_eq!((opened.last, opened.status.len_bytes), (None, 100), "as if it had no room");
    let mut draft = opened.draft;
    write(&mut bench, &mut draft, &[300]);
    assert_eq!(blocks(&bench, "/r/.snapshot/s1/f"), both);
    bench.check();
    delete_snapshot(&mut bench, "/r", "s1");
    bench.truncate("ann", "/r/f", 100).unwrap();
    assert!(bench.append("ann", "/r/f").unwrap().last.is_some(), "nobody sees it any more");
    bench.check();
}

#[test]
fn r_5_one_call_cuts_off_so_many_blocks_and_says_so() {
    let mut bench = Bench::new();
    let many = Settings { max_blocks_per_file: MAX_CUT_BLOCKS + 2, ..settings() };
    bench.run(by(SUPER), Op::UpdateSettings(UpdateSettings { settings: Some(many) })).result.unwrap();
    file_of(&mut bench, "/tmp/f", &vec![1; MAX_CUT_BLOCKS as usize + 2]);
    let refused = bench.truncate("ann", "/tmp/f", 1).unwrap_err();
    assert!(refused.code == ErrorCode::InvalidArgument && !refused.hint.is_empty(), "{refused}");
    bench.truncate("ann", "/tmp/f", 2).unwrap();
    bench.truncate("ann", "/tmp/f", 1).unwrap();
    assert_eq!(bench.namespace.recount().blocks, 1);
}
