//! Images, restarts, safe mode: what was acknowledged is there.

use std::time::Duration;

use proto::error::ErrorCode;
use proto::namespace as n;

use super::super::{CoreConfig, Event};
use super::harness::*;

#[test]
fn a_new_cluster_formats_itself_and_makes_its_first_directories() {
    let mut bench = Bench::new();
    let tmp = bench.stat("/tmp").unwrap();
    assert_eq!((tmp.mode, tmp.owner.as_str()), (0o1777, "root"));
    assert_eq!(bench.stat("/user/ana").unwrap().owner, "ana");
    let info: n::ServerInfoResponse = bench.ask(n::ServerInfoRequest { header: header() }).unwrap();
    assert_eq!((info.cluster.as_str(), info.pool.as_str(), info.safe_mode), ("CID-1", "BP-1", false));
    let before = bench.contents();
    let mut bench = bench.restart();
    assert_eq!(bench.contents(), before, "it does so once");
    bench.stat("/tmp").unwrap();
}

#[test]
fn f_3_killed_at_any_moment_it_comes_back_with_what_it_acknowledged() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(2);
    for round in 0..5_u8 {
        bench.file(&format!("/tmp/f{round}"), round + 1, &mut nodes).unwrap();
        bench.mkdir(&format!("/tmp/d{round}")).unwrap();
        // One more is on its way when the process dies: not acknowledged.
        bench.disk_is_slow = true;
        bench.send("ana", mkdir(&format!("/tmp/lost{round}")));
        bench.settle();
        assert_eq!(bench.unanswered(), 1);
        bench = bench.restart();
        for before in 0..=round {
            bench.stat(&format!("/tmp/f{before}")).unwrap();
            bench.stat(&format!("/tmp/d{before}")).unwrap();
        }
        assert_eq!(bench.stat(&format!("/tmp/lost{round}")).unwrap_err().code, ErrorCode::NotFound);
        assert!(bench.status().safe_mode, "its blocks are to be found again");
        assert_eq!(bench.mkdir("/tmp/no").unwrap_err().code, ErrorCode::SafeMode);
        nodes.iter_mut().for_each(|node| node.restart(&mut bench));
        assert!(!bench.status().safe_mode, "and are");
    }
}

#[test]
fn i_5_image_and_log_give_the_same_state() {
    let config = CoreConfig { image_every_entries: 20, ..config() };
    let mut bench = Bench::with(config, base::disk::MemDisk::new());
    let mut images = 0;
    for n in 0..100 {
        bench.mkdir(&format!("/tmp/{n}")).unwrap();
        if n % 3 == 0 {
            bench.delete(&format!("/tmp/{n}")).unwrap();
        }
        if n % 7 == 0 && !bench.image_jobs.is_empty() {
            assert_eq!(bench.image_jobs.len(), 1, "one image at a time");
            bench.write_image();
            images += 1;
        }
        if n % 25 == 0 {
            let before = bench.contents();
            bench = bench.restart();
            assert_eq!(bench.contents(), before);
        }
    }
    assert!(images >= 3, "{images}");
}

#[test]
fn an_image_that_fails_is_tried_again_a_minute_later() {
    let config = CoreConfig { image_every_entries: 5, ..config() };
    let mut bench = Bench::with(config, base::disk::MemDisk::new());
    (0..10).for_each(|n| drop(bench.mkdir(&format!("/tmp/{n}")).unwrap()));
    assert!(bench.image_jobs.pop_front().is_some());
    bench.event(Event::ImageWritten(Err("the disk is full".into())));
    bench.settle();
    bench.pass(Duration::from_secs(59));
    assert!(bench.image_jobs.is_empty());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.image_jobs.len(), 1);
    bench.write_image();
    let before = bench.contents();
    assert_eq!(bench.restart().contents(), before);
}

#[test]
fn an_idle_log_carries_time_forward() {
    let mut bench = Bench::new();
    let before = bench.core.applied();
    bench.pass(Duration::from_secs(59));
    assert_eq!(bench.core.applied(), before);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.core.applied(), before.next());
}
