//! Recovery: who is fenced, which end counts, and what is closed at once.

use proto::error::ErrorCode;
use proto::ids::InodeId;
use proto::log::command::Op;
use proto::log::{Create, Discard, RecoverLease, ReleaseLease};

use super::harness::{BLOCK, Bench, Draft, From, SUPER, by, code, finish, homes, image_of, new_file, session};
use crate::namespace::{BlockEffect, ImageError, LeaseView, Namespace, Outcome};

fn recover(bench: &mut Bench, user: &str, path: &str) -> proto::error::FsResult<bool> {
    match bench.run(by(user), Op::RecoverLease(RecoverLease { path: path.into(), accept_loss: false })).result? {
        Outcome::Recovering { closed, .. } => Ok(closed),
        other => panic!("{other:?}"),
    }
}
/// Everything that whoever wrote a file may still send.
fn calls_of_a_writer(draft: &Draft, stamp: u64) -> Vec<Op> {
    let (inode, lease_epoch) = (draft.inode, draft.epoch);
    let block = draft.block.as_ref().unwrap();
    vec![
        Op::AddBlock(proto::log::AddBlock { inode, lease_epoch, previous: draft.committed(900), storages: homes(3) }),
        Op::AbandonBlock(proto::log::AbandonBlock {
            inode,
            lease_epoch,
            id: block.block.raw(),
            stamp: block.stamp.raw(),
        }),
        Op::Complete(proto::log::Complete { inode, lease_epoch, last: draft.committed(900) }),
        Op::Discard(Discard { inode, lease_epoch }),
        Op::ReleaseLease(ReleaseLease { inode, lease_epoch, ..ReleaseLease::default() }),
        draft.new_stamp(),
        draft.update_pipeline(stamp, 900, homes(3)),
        draft.publish(),
        draft.begin_recovery(),
    ]
}

#[test]
fn sc_25_a_writer_whose_file_is_recovered_commits_nothing() {
    for finished in [false, true] {
        let mut bench = Bench::new();
        let draft = bench.create("ann", "/tmp/f", true).unwrap();
        let reserved = bench.new_stamp("ann", &draft).unwrap();
        assert!(!recover(&mut bench, "ann", "/tmp/f").unwrap());
        let view = bench.recovery();
        assert!(view.lease.recovery.unwrap().stamp.raw() > reserved && view.lease.lease_epoch.raw() > draft.epoch);
        if finished {
            bench.finish(&view, 800, 1).result.unwrap();
        }
        let state = image_of(&bench.namespace);
        let calls = calls_of_a_writer(&draft, reserved);
        // Also one who guesses the lease of the recovery, or its stamp.
        let guessed = Draft { epoch: view.lease.lease_epoch.raw(), ..draft.clone() };
        let guesses = calls_of_a_writer(&guessed, view.lease.recovery.unwrap().stamp.raw());
        for op in calls.into_iter().chain(guesses.into_iter().take(8)) {
            let applied = bench.run(by("ann"), op.clone());
            assert_eq!((code(applied.result), applied.effects), (ErrorCode::LeaseLost, vec![]), "{op:?}");
        }
        let (hash, next) = (bench.namespace.store.hash, bench.namespace.next);
        bench.namespace = Namespace::read_from(&mut state.as_slice()).unwrap();
        assert_eq!((bench.namespace.store.hash, bench.namespace.next), (hash, next), "nothing changed");
        if !finished {
            assert!(bench.finish(&view, 800, 1).result.is_ok());
        }
        let status = bench.stat("/tmp/f").unwrap();
        assert_eq!((status.len_bytes, status.open_for_write), (800, false));
    }
}

#[test]
fn sc_26_of_two_recoveries_only_the_later_one_counts() {
    let mut bench = Bench::new();
    let draft = bench.create("ann", "/tmp/f", true).unwrap();
    bench.run(by(SUPER), draft.begin_recovery()).result.unwrap();
    let mut views: Vec<LeaseView> = vec![bench.recovery()];
    for _ in 0..3 {
        let last = &views.last().unwrap().lease;
        let begin = proto::log::BeginRecovery { inode: draft.inode, lease_epoch: last.lease_epoch.raw() };
        bench.run(by(SUPER), Op::BeginRecovery(begin)).result.unwrap();
        views.push(bench.recovery());
    }
    let stamps: Vec<_> = views.iter().map(|view| view.lease.recovery.unwrap().stamp).collect();
    assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "{stamps:?}");
    assert_eq!(code(bench.run(by(SUPER), draft.begin_recovery()).result), ErrorCode::LeaseLost, "of the lease before");
    let last = views.pop().unwrap();
    for view in &views {
        let applied = bench.finish(view, 500, 3);
        assert_eq!((code(applied.result), applied.effects), (ErrorCode::StaleStamp, vec![]));
        assert_eq!(code(bench.finish(view, 0, 0).result), ErrorCode::StaleStamp, "nor does it drop the block");
    }
    bench.check();
    let applied = bench.finish(&last, 500, 1);
    let stamp = stamps[3];
    assert!(matches!(
        &applied.effects[..],
        [BlockEffect::Committed { stamp: told, len_bytes: 500, storages, .. }] if *told == stamp && storages.len() == 1
    ));
    assert_eq!(bench.namespace.block(draft.block.unwrap().block).unwrap().stamp, stamp);
    let again = bench.finish(&last, 400, 2);
    assert_eq!((code(again.result), again.effects), (ErrorCode::LeaseLost, vec![]));
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 500);
    bench.check();
}

#[test]
fn sc_33_a_block_that_nobody_wrote_goes_and_the_file_is_closed_without_it() {
    let mut bench = Bench::new();
    let mut draft = bench.create("ann", "/tmp/f", true).unwrap();
    draft.block = Some(bench.add_block("ann", &draft, 4 * BLOCK).unwrap());
    let block = draft.block.clone().unwrap().block;
    assert_eq!(bench.namespace.committed_blocks(), 1, "safe mode waits for what was finished only");
    assert!(!recover(&mut bench, "ann", "/tmp/f").unwrap());
    let applied = bench.finish(&bench.recovery(), 0, 0);
    assert!(
        matches!(&applied.effects[..], [BlockEffect::Freed { block: gone, committed: false, .. }] if *gone == block)
    );
    let status = bench.stat("/tmp/f").unwrap();
    assert_eq!((status.len_bytes, status.open_for_write), (4 * BLOCK, false));
    assert_eq!(bench.open("ann", "/tmp/f").unwrap().blocks.len(), 1);
    bench.check();
}

#[test]
fn l_6_what_needs_no_replica_is_closed_at_once() {
    let mut bench = Bench::new();
    let none = Create { path: "/tmp/empty".into(), with_first_block: false, publish_at_once: true, ..new_file() };
    bench.create_with(by("ann"), none).unwrap();
    assert!(recover(&mut bench, "ann", "/tmp/empty").unwrap(), "no block");
    assert!(recover(&mut bench, "ann", "/tmp/empty").unwrap(), "closed already");
    bench.file("ann", "/tmp/full", 4 * BLOCK);
    let draft = bench.append("ann", "/tmp/full").unwrap().draft;
    bench.run(by(SUPER), draft.begin_recovery()).result.unwrap();
    let status = bench.stat("/tmp/full").unwrap();
    assert_eq!((status.len_bytes, status.open_for_write), (4 * BLOCK, false), "all its blocks are finished");
    assert_eq!(code(bench.complete("ann", &draft, 0)), ErrorCode::LeaseLost);
    // What nobody saw goes, and what it would have replaced stays (D-5).
    let hidden = bench.create_with(by("ann"), Create { path: "/tmp/full".into(), overwrite: true, ..new_file() });
    let applied = bench.run(by(SUPER), hidden.unwrap().begin_recovery());
    assert!(matches!(applied.effects[..], [BlockEffect::Freed { committed: false, .. }]));
    assert_eq!(bench.stat("/tmp/full").unwrap().inode, status.inode);
    assert_eq!((bench.namespace.open_files(), bench.namespace.recovering().count()), (vec![], 0));
    bench.check();
}

#[test]
fn v_4_a_file_is_taken_from_its_writer_by_whoever_may_write_it() {
    let mut bench = Bench::new();
    let hers = From { user: "ann", session: Some((session(1), 1, 1)) };
    let draft = bench.create_with(hers, Create { path: "/tmp/f".into(), publish_at_once: true, ..new_file() }).unwrap();
    assert_eq!(code(recover(&mut bench, "bob", "/tmp/f")), ErrorCode::PermissionDenied);
    assert_eq!(code(recover(&mut bench, "ann", "/tmp")), ErrorCode::IsADirectory);
    assert_eq!(code(recover(&mut bench, "ann", "/tmp/none")), ErrorCode::NotFound);
    let id = InodeId::from_raw(draft.inode);
    assert_eq!(bench.namespace.lease(id).unwrap().lease.session, Some(session(1)));
    assert!(!recover(&mut bench, SUPER, "/tmp/f").unwrap());
    let begun = bench.recovery();
    assert_eq!((begun.lease.session, begun.path.as_str()), (None, "/tmp/f"));
    // Who asks again does not disturb it.
    assert!(!recover(&mut bench, "ann", "/tmp/f").unwrap());
    assert_eq!(bench.recovery(), begun);
    assert_eq!(code(bench.append("ann", "/tmp/f")), ErrorCode::FileOpen);
    bench.check();
    bench.finish(&begun, 7, 2).result.unwrap();
    assert!(recover(&mut bench, "ann", "/tmp/f").unwrap());
    assert!(bench.append("ann", "/tmp/f").is_ok());
    bench.check();
}

#[test]
fn d_5_a_published_file_that_is_given_up_is_closed_at_what_its_replicas_hold() {
    for silent in [false, true] {
        let mut bench = Bench::new();
        let hers = |call| From { user: "ann", session: Some((session(1), call, call)) };
        let over = Create { path: "/tmp/f".into(), ..new_file() };
        let draft = bench.create_with(hers(1), over).unwrap();
        bench.run(hers(2), draft.publish()).result.unwrap();
        let (inode, lease_epoch) = (draft.inode, draft.epoch);
        let applied = if silent {
            let session = session(1).as_bytes().to_vec().into();
            bench.run(by(SUPER), Op::ReleaseLease(ReleaseLease { session, ..ReleaseLease::default() }))
        } else {
            bench.run(hers(3), Op::Discard(Discard { inode, lease_epoch }))
        };
        assert_eq!((applied.result, applied.effects), (Ok(Outcome::Done), vec![]));
        bench.check();
        bench.finish(&bench.recovery(), 3000, 2).result.unwrap();
        assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 3000);
        bench.check();
    }
}

#[test]
fn sc_39_a_recovery_never_ends_below_what_the_file_had() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 700);
    bench.append("ann", "/tmp/f").unwrap();
    assert!(!recover(&mut bench, "ann", "/tmp/f").unwrap());
    let view = bench.recovery();
    assert_eq!(
        (view.last_block.as_ref().unwrap().len_bytes, view.lease.recovery.unwrap().target_len_bytes),
        (700, None)
    );
    let hash = bench.namespace.store.hash;
    for (len, copies) in [(699, 3), (0, 3), (0, 0), (700, 0), (4 * BLOCK + 1, 3)] {
        let applied = bench.finish(&view, len, copies);
        assert_eq!((code(applied.result), applied.effects), (ErrorCode::InvalidArgument, vec![]), "{len} {copies}");
    }
    let Op::FinishRecovery(good) = finish(&view, 700, 1) else { panic!("the end of a recovery") };
    let unknown = proto::log::FinishRecovery { storages: vec!["DS-77".into()], ..good.clone() };
    assert_eq!(code(bench.run(by(SUPER), Op::FinishRecovery(unknown)).result), ErrorCode::InvalidArgument);
    let other = proto::log::FinishRecovery { id: good.id + 1, ..good };
    assert_eq!(code(bench.run(by(SUPER), Op::FinishRecovery(other)).result), ErrorCode::InvalidArgument);
    assert_eq!(bench.namespace.store.hash, hash);
    bench.finish(&view, 700, 1).result.unwrap();
    bench.check();
}

#[test]
fn sc_01_sc_02_recovery_names_inodes_and_notices_when_they_are_gone() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/a", 0o777).unwrap();
    for at in ["/a/f", "/a/g"] {
        bench.create("ann", at, true).unwrap();
        assert!(!recover(&mut bench, "ann", at).unwrap());
    }
    let leases: Vec<_> = bench.namespace.recovering().collect();
    let [first, second] = [0, 1].map(|at| bench.namespace.lease(leases[at].inode).unwrap());
    bench.rename(SUPER, "/a", "/b", false).unwrap();
    bench.finish(&first, 9, 2).result.unwrap();
    assert_eq!(bench.stat("/b/f").unwrap().len_bytes, 9);
    bench.delete(SUPER, "/b", true).unwrap();
    assert_eq!(bench.namespace.recovering().count(), 0, "nobody is to be asked for what is gone");
    assert_eq!(bench.namespace.lease(second.lease.inode), None);
    let applied = bench.finish(&second, 9, 2);
    assert_eq!((code(applied.result), applied.effects), (ErrorCode::NotFound, vec![]));
    let begin =
        proto::log::BeginRecovery { inode: second.lease.inode.raw(), lease_epoch: second.lease.lease_epoch.raw() };
    assert_eq!(code(bench.run(by(SUPER), Op::BeginRecovery(begin)).result), ErrorCode::NotFound);
    bench.check();
    bench.reclaim_all();
    assert_eq!((bench.namespace.counts().blocks, bench.namespace.counts().open_files), (0, 0));
    assert_eq!(code(bench.finish(&second, 9, 2).result), ErrorCode::NotFound);
    bench.check();
}

#[test]
fn sc_24_entries_of_before_leave_files_open_as_they_did_and_their_images_load() {
    let mut bench = Bench::new();
    bench.version = 3;
    let draft = bench.create("ann", "/tmp/f", true).unwrap();
    let (inode, lease_epoch) = (draft.inode, draft.epoch);
    bench.run(by("ann"), Op::Discard(Discard { inode, lease_epoch })).result.unwrap();
    let lease = bench.namespace.open_files().remove(0);
    assert_eq!((lease.session, lease.recovery, lease.reserved_stamp), (None, None, None));
    bench.check();
    // An image that has nothing of what is new has the bytes of before, but for its version.
    let mut image = image_of(&bench.namespace);
    let hash = bench.namespace.state_hash();
    image[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let mut loaded = Namespace::read_from(&mut image.as_slice()).unwrap();
    assert_eq!(loaded.state_hash(), hash);
    std::mem::swap(&mut bench.namespace, &mut loaded);
    // The leader of this version has it recovered.
    bench.version = crate::namespace::COMMAND_SET_VERSION;
    let orphan = Draft { epoch: lease.lease_epoch.raw(), ..draft };
    bench.run(by(SUPER), orphan.begin_recovery()).result.unwrap();
    bench.finish(&bench.recovery(), 5, 1).result.unwrap();
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 5);

    // Open blocks with a length are not for readers of before: nor is an image that claims to be so old.
    bench.append("ann", "/tmp/f").unwrap();
    let mut image = image_of(&bench.namespace);
    assert!(Namespace::read_from(&mut image.as_slice()).is_ok());
    image[8..12].copy_from_slice(&2_u32.to_le_bytes());
    assert!(matches!(Namespace::read_from(&mut image.as_slice()), Err(ImageError::Damaged { .. })));
}

#[test]
fn r_5_open_files_are_told_in_steps_of_any_size() {
    let mut bench = Bench::new();
    let mut all: Vec<InodeId> = Vec::new();
    for n in 0..100 {
        let draft = bench.create("ann", &format!("/tmp/{n}"), n % 3 == 0).unwrap();
        all.push(InodeId::from_raw(draft.inode));
    }
    for step in [1, 7, 64, 99, 100, 1000] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = bench.namespace.open_files_after(after, step);
            assert!(page.len() <= step);
            let Some(last) = page.last() else { break };
            after = Some(last.inode);
            found.extend(page.iter().map(|lease| lease.inode));
        }
        assert_eq!(found, all, "{step}");
    }
    assert_eq!(bench.namespace.open_files().len(), 100);
    assert_eq!(bench.namespace.recovering().count(), 0);
}

#[test]
fn only_a_superuser_accepts_a_loss_and_it_holds_until_the_file_is_closed() {
    let accept = || Op::RecoverLease(RecoverLease { path: "/tmp/f".into(), accept_loss: true });
    let mut bench = Bench::new();
    bench.create("ann", "/tmp/f", true).unwrap();
    let refused = bench.run(by("ann"), accept());
    assert_eq!((code(refused.result), refused.effects), (ErrorCode::PermissionDenied, vec![]));
    assert_eq!(bench.namespace.recovering().count(), 0, "a refusal changes nothing");
    assert!(!recover(&mut bench, "ann", "/tmp/f").unwrap());
    let before = bench.recovery();
    assert!(!before.lease.recovery.unwrap().accept_loss);
    // What was asked under the rule of before counts for nothing any more: the stamp is another one.
    bench.run(by(SUPER), accept()).result.unwrap();
    let accepted = bench.recovery();
    let stamp = |view: &LeaseView| view.lease.recovery.unwrap().stamp;
    assert!(accepted.lease.recovery.unwrap().accept_loss && stamp(&accepted) > stamp(&before));
    assert_eq!(code(bench.finish(&before, 500, 1).result), ErrorCode::StaleStamp);
    bench.check();
    // A further try is made under the same word, and so is what the next leader makes.
    let begin =
        proto::log::BeginRecovery { inode: accepted.lease.inode.raw(), lease_epoch: accepted.lease.lease_epoch.raw() };
    bench.run(by(SUPER), Op::BeginRecovery(begin)).result.unwrap();
    let again = bench.recovery();
    assert!(again.lease.recovery.unwrap().accept_loss && stamp(&again) > stamp(&accepted));
    bench.check();
    bench.finish(&again, 500, 1).result.unwrap();
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 500);
    bench.run(by(SUPER), accept()).result.unwrap();
    assert!(!bench.stat("/tmp/f").unwrap().open_for_write, "a closed file stays as it is");
    // The next recovery of the file knows nothing of it.
    bench.append("ann", "/tmp/f").unwrap();
    assert!(!recover(&mut bench, "ann", "/tmp/f").unwrap());
    assert!(!bench.recovery().lease.recovery.unwrap().accept_loss);
    bench.check();
}

#[test]
fn a_block_that_is_open_again_is_untouched_until_a_pipeline_is_logged() {
    let mut bench = Bench::new();
    let untouched = |bench: &Bench| {
        let lease = bench.namespace.open_files().remove(0);
        bench.namespace.lease(lease.inode).unwrap().last_block.unwrap().untouched
    };
    let draft = bench.create("ann", "/tmp/f", true).unwrap();
    assert!(!untouched(&bench), "a new block has a pipeline in the log from the beginning");
    bench.complete("ann", &draft, 700).unwrap();
    let appending = bench.append("ann", "/tmp/f").unwrap();
    let mut draft = appending.draft;
    assert!(untouched(&bench));
    bench.check();
    // A stamp that is reserved is no pipeline yet, nor is a recovery.
    let stamp = bench.new_stamp("ann", &draft).unwrap();
    assert!(untouched(&bench));
    bench.update_pipeline("ann", &mut draft, stamp, 700).unwrap();
    assert!(!untouched(&bench));
    bench.complete("ann", &draft, 900).unwrap();
    bench.append("ann", "/tmp/f").unwrap();
    recover(&mut bench, "ann", "/tmp/f").unwrap();
    assert!(untouched(&bench));
    bench.check();
    bench.finish(&bench.recovery(), 900, 1).result.unwrap();
    bench.check();
    assert!(!bench.truncate("ann", "/tmp/f", 300).unwrap().1);
    assert!(untouched(&bench));
    bench.finish(&bench.recovery(), 300, 2).result.unwrap();
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 300);
    bench.check();
}
