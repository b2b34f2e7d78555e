//! Every durable step is killed at, before and after: the role dies there, and nothing acknowledged is lost.

use std::time::{Duration, Instant};

use base::crash::CrashPoint;
use tests::ledger::Ledger;
use tests::{Cluster, Options, wait, workload};

/// Where a point is reached.
struct Reach {
    role: &'static str,
    /// Which passing of the point dies; the first ones of a point are those of the start.
    nth: u32,
}

/// Longest time until the armed role must have died.
const REACHED: Duration = Duration::from_secs(40);

/// Every point that a plain workload passes, with every role that passes it. A point that is not here must be in
/// [`ELSEWHERE`]: the test compares with [`CrashPoint::ALL`].
fn reached_by(point: CrashPoint) -> Vec<Reach> {
    let namenode = |nth| Reach { role: "namenode", nth };
    let datanode = |nth| Reach { role: "dn1", nth };
    match point {
        CrashPoint::CreateServerDir => vec![namenode(1)],
        CrashPoint::IdentitySync => vec![namenode(1), namenode(2), datanode(1)],
        CrashPoint::SegmentCreate => vec![namenode(1), namenode(2)],
        CrashPoint::NamenodeDirSync => vec![namenode(1), namenode(3)],
        CrashPoint::LogSync => vec![namenode(1), namenode(2), namenode(9)],
        CrashPoint::VoteSync => vec![namenode(1), namenode(2)],
        CrashPoint::SegmentRemove
        | CrashPoint::ImageCreate
        | CrashPoint::ImageSync
        | CrashPoint::ImageRename
        | CrashPoint::ImageRemove
        | CrashPoint::ReserveAllocate => vec![namenode(1)],
        CrashPoint::BlockCreate
        | CrashPoint::MetaCreate
        | CrashPoint::BlockSync
        | CrashPoint::MetaSync
        | CrashPoint::BlockDirSync => vec![datanode(1), datanode(4)],
        // The volume itself, then folders below it.
        CrashPoint::VolumeDirCreate => vec![datanode(1), datanode(2), datanode(3)],
        // Making the record, and keeping how far the scrubber has come.
        CrashPoint::ScrubSync => vec![datanode(1), datanode(3), datanode(7)],
        // The room for deletes, at the start of a volume.
        CrashPoint::RoomAllocate => vec![datanode(1), datanode(2)],
        CrashPoint::BlockRemove | CrashPoint::MetaRemove | CrashPoint::TermSync => vec![datanode(1)],
        _ => vec![],
    }
}

/// Points that a plain workload cannot pass, and who kills there instead.
const ELSEWHERE: &[(CrashPoint, &str)] = &[
    (
        CrashPoint::LogTruncate,
        "only a torn tail is cut, and kill -9 tears nothing: torn_tail_is_cut_and_the_cut_survives_a_crash below",
    ),
    (
        CrashPoint::VolumeSync,
        "only a start that finds blocks passes it: what_a_killed_node_left_in_the_page_cache_is_durable_before_it_is_reported \
         in datanode/src/store/tests.rs",
    ),
    (CrashPoint::LeavesCreate, OF_LEAVES),
    (CrashPoint::LeavesSync, OF_LEAVES),
    (CrashPoint::LeavesRename, OF_LEAVES),
    (CrashPoint::LeavesRemove, OF_LEAVES),
    (CrashPoint::CheckCreate, OF_CHECKS),
    (CrashPoint::CheckSync, OF_CHECKS),
    (CrashPoint::CheckRemove, OF_CHECKS),
    (
        CrashPoint::RoomRemove,
        "only a full disk needs the room: f_3_a_stop_at_any_step_around_the_room_for_deletes_costs_nothing in \
         datanode/src/store/tests/health.rs",
    ),
    (CrashPoint::SideCreate, OF_REOPENING),
    (CrashPoint::SideSync, OF_REOPENING),
    (CrashPoint::SideRemove, OF_REOPENING),
    (CrashPoint::RestampRename, OF_REOPENING),
    (CrashPoint::ReplicaCut, OF_REOPENING),
];

/// Points of the check of a disk that hung, which a plain workload does not have.
const OF_CHECKS: &str = "only a disk that hung is tried: f_3_a_stop_at_any_step_of_a_check_costs_nothing in \
     datanode/src/store/tests/health.rs";

/// Points of going on with a replica: after a failure, for an append, in a recovery, and of making a part of a chunk durable.
const OF_REOPENING: &str = "a workload of whole files without failures appends to nothing and recovers nothing: \
     sc_51_a_stop_at_any_step_of_an_append_or_a_recovery_leaves_one_truth in datanode/src/store/tests/recovery.rs";

/// Points of giving a digest to a replica without one, which our own clients never leave behind.
const OF_LEAVES: &str = "only replicas of writers without a digest get one from the scrubber: \
     f_3_a_stop_at_any_step_of_giving_leaves_keeps_the_replica_whole in datanode/src/store/tests/digest.rs";

/// Short times and small files, so that images, segments and removals come within seconds.
fn hurried() -> Options {
    Options { datanodes: 2, ..Options::default() }
        .env("BLOCKYARD_NAMENODE__IMAGE_EVERY", "4KiB")
        .env("BLOCKYARD_NAMENODE__LOG_SEGMENT", "64KiB")
        .env("BLOCKYARD_NAMENODE__DELETE_DELAY", "0s")
        .env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms")
        .env("BLOCKYARD_DATANODE__SCRUB_PERIOD", "1s")
}

fn die_and_come_back(point: CrashPoint, side: &str, reach: &Reach) {
    let spelled = format!("{}:{side}:{}", point.name(), reach.nth);
    let what = format!("{} at {spelled}", reach.role);
    let began = Instant::now();
    let mut cluster = Cluster::unstarted(hurried().crash(reach.role, &spelled));
    let mut ledger = Ledger::default();
    if cluster.start_again().is_ok() {
        // It may die at this very command.
        cluster.run(&["mkdir", workload::DIRECTORY]);
        workload::run(&cluster, &mut ledger, reach.nth.into(), 1, 400_000, |_| {
            wait::until(&format!("the death of {what}"), REACHED, || (!cluster.alive(reach.role)).then_some(()));
        });
    }
    cluster.kill_all();
    cluster.options().role_environment.clear();
    cluster.restart();
    cluster.run(&["mkdir", "-p", workload::DIRECTORY]).ok();
    ledger.check(&cluster, workload::DIRECTORY);
    cluster.run_with_input(&["put", "-", "/afterwards"], b"goes on").ok();
    assert_eq!(cluster.run(&["cat", "/afterwards"]).ok().stdout, b"goes on", "{what}");
    println!("{what}: {} names, {:.1} s", ledger.len(), began.elapsed().as_secs_f64());
}

#[test]
fn every_point_is_reached_or_has_a_reason() {
    for point in CrashPoint::ALL {
        let elsewhere = ELSEWHERE.iter().filter(|(other, _)| other == point).count();
        let here = usize::from(!reached_by(*point).is_empty());
        assert_eq!(here + elsewhere, 1, "{} must be in reached_by or in ELSEWHERE", point.name());
    }
}

#[test]
fn heavy_crash_points_of_the_namenode() {
    kill_at_each("namenode");
}

#[test]
fn heavy_crash_points_of_a_datanode() {
    kill_at_each("dn1");
}

fn kill_at_each(role: &str) {
    if !tests::heavy("crash-points") {
        return;
    }
    for point in CrashPoint::ALL {
        for reach in reached_by(*point).iter().filter(|reach| reach.role == role) {
            die_and_come_back(*point, "before", reach);
            die_and_come_back(*point, "after", reach);
        }
    }
}

/// The points that every change passes, in every run of the tests.
#[test]
fn a_crash_around_the_syncs_that_acknowledge_loses_nothing() {
    for (point, role) in [(CrashPoint::LogSync, "namenode"), (CrashPoint::MetaSync, "dn1")] {
        for side in ["before", "after"] {
            die_and_come_back(point, side, &Reach { role, nth: 6 });
        }
    }
}
