//! Reports that are late, doubled, reordered, cut, or from another life.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proto::cluster::{ReplicaRecord, ReplicaState};
use proto::report::BUCKETS;

use super::super::replicas::MAX_UNKNOWN;
use super::harness::*;

fn good(bench: &Bench, n: i64) -> bool {
    bench.map.replicas().is_good(block(n), bench.storage(0, 0))
}

/// One node; blocks 0..9 are committed and asked for once.
fn bench() -> Bench {
    let mut bench = Bench::new(1);
    (0..9).for_each(|n| {
        bench.allocate(n, 1, Vec::new());
        bench.commit(n);
    });
    bench
}

#[test]
fn doubled_and_overlapping_changes_count_once() {
    let mut bench = bench();
    (0..4).for_each(|n| bench.put(0, 0, whole(n)));
    assert_eq!(bench.report_from(0, 0, 1).next_sequence, 5);
    bench.erase(0, 0, 2);
    assert_eq!(bench.report_from(0, 0, 2).next_sequence, 6);
    assert_eq!(bench.report_from(0, 0, 1).next_sequence, 6, "all of it is old");
    assert!(!good(&bench, 2) && good(&bench, 3));
    assert_eq!(bench.map.replicas().count_on(bench.storage(0, 0)), 3);
    assert_eq!(bench.full_report(0), 0);
}

#[test]
fn a_gap_is_asked_for() {
    let mut bench = bench();
    (0..4).for_each(|n| bench.put(0, 0, whole(n)));
    let answer = bench.report_from(0, 0, 3);
    assert_eq!((answer.next_sequence, answer.full_report), (1, false));
    assert!(!good(&bench, 3), "nothing behind a gap is taken");
    assert_eq!(bench.report_from(0, 0, 1).next_sequence, 5);
    assert!(good(&bench, 3));
}

#[test]
fn a_gap_that_cannot_be_filled_ends_with_the_next_full_report() {
    let mut bench = bench();
    (0..4).for_each(|n| bench.put(0, 0, whole(n)));
    // The node has forgotten changes 1 to 3: it reports in full, and goes on behind the report.
    assert_eq!(bench.report_from(0, 0, 4).next_sequence, 1);
    assert!(bench.full_report(0) > 0);
    bench.put(0, 0, whole(4));
    assert_eq!(bench.report_from(0, 0, 5).next_sequence, 6, "what the report has shown is no gap");
    assert!(good(&bench, 0) && good(&bench, 4));
    bench.put(0, 0, whole(5));
    bench.put(0, 0, whole(6));
    assert_eq!(bench.report_from(0, 0, 7).next_sequence, 6, "what it has not shown is one");
}

#[test]
fn changes_of_another_life_are_not_taken() {
    let mut bench = bench();
    bench.put(0, 0, whole(1));
    bench.nodes[0].disks[0].incarnation = 99;
    assert!(bench.report_from(0, 0, 1).reregister);
    let hashes = bench.hashes_request(0, 0);
    assert!(bench.map.hashes(&hashes, &bench.world, bench.now).unwrap().reregister);
    let buckets = bench.buckets_request((0, 0), 1, &[1], true);
    assert!(bench.map.buckets(&buckets, &bench.world, bench.now).unwrap().reregister);
    assert!(!good(&bench, 1));
}

#[test]
fn equal_hashes_are_a_full_report_and_only_buckets_that_differ_are_asked_for() {
    let mut bench = bench();
    (0..4).for_each(|n| bench.hold(0, whole(n)));
    assert_eq!(bench.full_report(0), 0);
    bench.put(0, 0, whole(7));
    bench.erase(0, 0, 2);
    let asked = bench.hashes_request(0, 0);
    let answer = bench.map.hashes(&asked, &bench.world, bench.now).unwrap();
    let mut expected = vec![block(7).bucket(), block(2).bucket()];
    expected.sort_unstable();
    assert_eq!(answer.differing, expected);
    assert_eq!(bench.full_report(0), 2);
    assert!(good(&bench, 7) && !good(&bench, 2));
    // The same changes come later: old news.
    bench.report(0);
    assert_eq!(bench.full_report(0), 0);
}

#[test]
fn sc_68_a_report_counts_when_its_last_bucket_came() {
    let mut bench = bench();
    (0..4).for_each(|n| bench.put(0, 0, whole(n)));
    bench.lead(2);
    let asked = bench.hashes_request(0, 0);
    let answer = bench.map.hashes(&asked, &bench.world, bench.now).unwrap();
    let (first, rest) = answer.differing.split_at(1);
    let part = bench.buckets_request((0, 0), answer.report, first, false);
    assert!(!bench.map.buckets(&part, &bench.world, bench.now).unwrap().restart);
    assert!(bench.map.wants_full_report(bench.index(0)), "half a report is none");
    // The last part does not hold everything that was asked for: begin again.
    let short = bench.buckets_request((0, 0), answer.report, &rest[1..], true);
    assert!(bench.map.buckets(&short, &bench.world, bench.now).unwrap().restart);
    assert!(bench.map.wants_full_report(bench.index(0)));
    bench.full_report(0);
    assert!(!bench.map.wants_full_report(bench.index(0)));
    (0..4).for_each(|n| assert!(good(&bench, n)));
}

#[test]
fn a_part_of_an_overtaken_report_is_refused() {
    let mut bench = bench();
    bench.put(0, 0, whole(1));
    let asked = bench.hashes_request(0, 0);
    let first = bench.map.hashes(&asked, &bench.world, bench.now).unwrap();
    let second = bench.map.hashes(&asked, &bench.world, bench.now).unwrap();
    let of_first = bench.buckets_request((0, 0), first.report, &first.differing, true);
    assert!(bench.map.buckets(&of_first, &bench.world, bench.now).unwrap().restart);
    let of_second = bench.buckets_request((0, 0), second.report, &second.differing, true);
    assert!(!bench.map.buckets(&of_second, &bench.world, bench.now).unwrap().restart);
}

#[test]
fn sc_64_a_bucket_older_than_a_change_does_not_undo_it() {
    let mut bench = bench();
    bench.hold(0, whole(1));
    bench.put(0, 0, whole(3));
    let asked = bench.hashes_request(0, 0);
    let answer = bench.map.hashes(&asked, &bench.world, bench.now).unwrap();
    let of_then = bench.buckets_request((0, 0), answer.report, &answer.differing, true);
    let old = proto::cluster::ReportBucketsRequest {
        buckets: vec![
            proto::cluster::Bucket { bucket: block(1).bucket(), replicas: vec![whole(1)] },
            proto::cluster::Bucket { bucket: block(3).bucket(), replicas: Vec::new() },
        ],
        sequence: 1,
        ..of_then
    };
    // Meanwhile block 1 was deleted and block 3 came, and both were told.
    bench.erase(0, 0, 1);
    bench.report(0);
    assert!(!bench.map.buckets(&old, &bench.world, bench.now).unwrap().restart);
    assert!(!good(&bench, 1), "a deleted one does not come back");
    assert!(good(&bench, 3), "a new one does not vanish");
}

#[test]
fn sc_64_a_change_older_than_a_bucket_does_not_undo_it() {
    let mut bench = bench();
    bench.put(0, 0, whole(1));
    bench.erase(0, 0, 1);
    bench.put(0, 0, whole(2));
    bench.full_report(0);
    assert!(!good(&bench, 1) && good(&bench, 2));
    let at = &bench.nodes[0].disks[0];
    let late = proto::cluster::IncrementalReportRequest {
        node: bench.nodes[0].name.clone(),
        storage: at.name.clone(),
        incarnation: at.incarnation,
        first_sequence: 1,
        changes: at.changes[..1].to_vec(),
    };
    bench.map.incremental(&late, &bench.world, bench.now).unwrap();
    assert!(!good(&bench, 1), "the report had shown that it is gone");
    bench.report_from(0, 0, 2);
    assert!(!good(&bench, 1) && good(&bench, 2));
}

#[test]
fn half_written_replicas_are_news_even_if_the_hashes_were_equal() {
    let mut bench = bench();
    let half = record(block(1), STAMP, 9, ReplicaState::WaitingRecovery);
    bench.put(0, 0, half);
    assert_eq!(bench.full_report(0), 0, "hashes do not cover it");
    bench.report(0);
    assert!(bench.map.replicas().odd_at(block(1), bench.storage(0, 0)).is_some());
    bench.put(0, 0, ReplicaRecord { state: ReplicaState::Deleted as i32, ..half });
    assert_eq!(bench.full_report(0), 0);
    bench.report(0);
    assert!(bench.map.replicas().odd_at(block(1), bench.storage(0, 0)).is_none());
}

#[test]
fn a_half_written_replica_that_goes_during_the_first_full_report_is_gone() {
    let mut bench = bench();
    let half = record(block(1), STAMP, 9, ReplicaState::WaitingRecovery);
    bench.hold(0, half);
    bench.begin_life(0);
    bench.report(0);
    // Deleted before the hashes are asked for; the change is told after them.
    bench.put(0, 0, ReplicaRecord { state: ReplicaState::Deleted as i32, ..half });
    bench.full_report(0);
    bench.report(0);
    assert!(bench.map.replicas().odd_at(block(1), bench.storage(0, 0)).is_none());
}

#[test]
fn sc_66_what_a_new_life_of_a_node_does_not_tell_again_is_gone() {
    let mut bench = bench();
    bench.hold(0, record(block(1), STAMP, 9, ReplicaState::WaitingRecovery));
    bench.hold(0, record(block(2), STAMP, LEN, ReplicaState::Corrupt));
    bench.hold(0, record(block(3), STAMP, LEN, ReplicaState::Corrupt));
    assert_eq!(bench.map.counts().corrupt, 2);
    // Two were deleted, and the node died before it told.
    bench.erase(0, 0, 1);
    bench.erase(0, 0, 2);
    bench.restart(0);
    let odd = |n| bench.map.replicas().odd_at(block(n), bench.storage(0, 0)).is_some();
    assert_eq!((odd(1), odd(2), odd(3)), (false, false, true));
    assert_eq!(bench.map.counts().corrupt, 1);
}

#[test]
fn sc_73_unknown_replicas_are_kept_and_explained_later() {
    let mut bench = Bench::new(2);
    (0..2).for_each(|node| bench.hold(node, whole(4)));
    assert!(bench.map.replicas().good(block(4)).is_empty());
    bench.allocate(4, 2, Vec::new());
    assert!(bench.map.replicas().good(block(4)).is_empty(), "an open block has no good replicas");
    bench.commit(4);
    assert_eq!(bench.map.replicas().good(block(4)).len(), 2);
    assert_eq!((bench.full_report(0), bench.map.counts().under_replicated), (0, 0));
}

#[test]
fn sc_64_a_report_before_the_commit_is_judged_after_it() {
    for (len_bytes, stamp, counts) in [(LEN, STAMP, true), (LEN - 1, STAMP, false), (LEN, STAMP.next(), false)] {
        let mut bench = Bench::new(1);
        bench.allocate(1, 1, Vec::new());
        bench.hold(0, record(block(1), stamp, len_bytes, ReplicaState::Finalized));
        bench.commit(1);
        assert_eq!(good(&bench, 1), counts, "{len_bytes} {stamp}");
        assert_eq!(bench.full_report(0), 0, "good or not, it is what the node said");
    }
}

#[test]
fn the_table_of_unknown_replicas_is_bounded_and_empties_by_explanation() {
    let mut bench = Bench::new(1);
    (0..MAX_UNKNOWN as i64 + 5).for_each(|n| bench.put(0, 0, whole(n)));
    let answer = bench.report_from(0, 0, 1);
    assert!(answer.full_report, "what does not fit has to be told again");
    assert_eq!(answer.next_sequence, MAX_UNKNOWN as u64 + 1);
    assert!(bench.map.wants_full_report(bench.index(0)));
    // The log comes: what was unknown is explained, and there is room for the rest.
    for n in 0..MAX_UNKNOWN as i64 {
        bench.allocate(n, 1, Vec::new());
        bench.commit(n);
    }
    assert_eq!(bench.report_from(0, 0, answer.next_sequence).next_sequence, MAX_UNKNOWN as u64 + 6);
    bench.full_report(0);
    assert!(!bench.map.wants_full_report(bench.index(0)));
    assert_eq!(bench.map.replicas().known_blocks(), MAX_UNKNOWN as u64);
}

#[test]
fn malformed_reports_are_refused_whole_or_from_the_bad_record_on() {
    let mut bench = bench();
    let bad = ReplicaRecord { state: 77, ..whole(1) };
    bench.put(0, 0, whole(0));
    bench.nodes[0].disks[0].changes.push(bad);
    let request = proto::cluster::IncrementalReportRequest {
        node: bench.nodes[0].name.clone(),
        storage: bench.nodes[0].disks[0].name.clone(),
        incarnation: 1,
        first_sequence: 1,
        changes: vec![whole(0), bad],
    };
    assert!(bench.map.incremental(&request, &bench.world, bench.now).is_err());
    assert!(good(&bench, 0));
    let mut hashes = bench.hashes_request(0, 0);
    hashes.hashes.pop();
    assert!(bench.map.hashes(&hashes, &bench.world, bench.now).is_err());
    let buckets = |bucket, replicas| proto::cluster::ReportBucketsRequest {
        buckets: vec![proto::cluster::Bucket { bucket, replicas }],
        ..bench.buckets_request((0, 0), 1, &[], true)
    };
    let gone = ReplicaRecord { state: ReplicaState::Deleted as i32, ..whole(1) };
    for bad in [
        buckets(1024, Vec::new()),
        buckets(block(1).bucket() + 1, vec![whole(1)]),
        buckets(block(1).bucket(), vec![bad]),
        buckets(block(1).bucket(), vec![gone]),
    ] {
        assert!(bench.map.buckets(&bad, &bench.world, bench.now).is_err());
    }
    assert!(good(&bench, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    /// Whatever is lost, doubled or restarted on the way, in the end the map believes what the disk holds.
    #[test]
    fn f_14_reports_end_in_what_the_disk_holds(steps in prop::collection::vec((0_u8..9, 0_i64..9), 1..60)) {
        let mut bench = bench();
        let mut asked = None;
        for (step, n) in steps {
            match step {
                0 | 1 => bench.put(0, 0, whole(n)),
                2 => bench.erase(0, 0, n),
                3 => bench.put(0, 0, record(block(n), STAMP, 7, ReplicaState::WaitingRecovery)),
                4 => bench.report(0),
                5 => {
                    // Told, and the answer is lost: told again later.
                    let told = bench.nodes[0].disks[0].told;
                    bench.report(0);
                    bench.nodes[0].disks[0].told = told;
                }
                6 => {
                    let request = bench.hashes_request(0, 0);
                    asked = bench.map.hashes(&request, &bench.world, bench.now).ok().filter(|a| !a.reregister);
                }
                7 => if let Some(answer) = asked.take() {
                    let request = bench.buckets_request((0, 0), answer.report, &answer.differing, true);
                    bench.map.buckets(&request, &bench.world, bench.now).unwrap();
                },
                _ => bench.restart(0),
            }
        }
        bench.report(0);
        bench.full_report(0);
        let storage = bench.storage(0, 0);
        for n in 0..9 {
            let held = bench.nodes[0].disks[0].held.get(&block(n));
            let whole = held.is_some_and(|record| record.state == ReplicaState::Finalized as i32);
            prop_assert_eq!(bench.map.replicas().is_good(block(n), storage), whole, "block {}", n);
            let odd = bench.map.replicas().odd_at(block(n), storage).is_some();
            prop_assert_eq!(odd, held.is_some() && !whole, "block {}", n);
        }
        prop_assert_eq!(bench.full_report(0), 0);
    }
}

#[test]
fn a_full_report_counts_as_hearing_of_everything_that_is_whole() {
    // A namenode that started after the node: the changes before the report are never told.
    let mut stream = crate::blocks::reports::Stream::default();
    assert!(stream.registered(7, BTreeSet::new));
    let (hashes, replicas) = (vec![0; BUCKETS], crate::blocks::Replicas::default());
    let answer = stream.hashes(crate::blocks::StorageIndex(0), (7, 5), &hashes, 1, &replicas, None);
    assert_eq!(answer, Ok(Some(Vec::new())));
    assert_eq!(stream.heard(), 5, "what a delete command did by change 5 is known");
}
