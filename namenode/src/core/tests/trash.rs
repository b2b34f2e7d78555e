//! The emptier of the trash, and access times.

use std::time::Duration;

use base::disk::MemDisk;
use proto::namespace as n;

use super::super::{CoreConfig, Event};
use super::harness::*;

fn with_settings(change: impl FnOnce(&mut proto::log::Settings)) -> Bench {
    let mut config: CoreConfig = config();
    if let Some(bootstrap) = &mut config.bootstrap {
        change(&mut bootstrap.settings);
    }
    Bench::with(config, MemDisk::new())
}

fn trash_of_ana(bench: &mut Bench) -> Vec<String> {
    let request = n::ListRequest { header: header(), path: "/user/ana/.Trash".into(), ..Default::default() };
    let answer: n::ListResponse = bench.ask(request).unwrap();
    answer.entries.into_iter().map(|entry| entry.path).collect()
}

fn throw_away(bench: &mut Bench, name: &str) {
    let path = format!("/user/ana/.Trash/Current/{name}");
    let request = n::MkdirRequest { header: header(), path, mode: 0o700, parents: true, unmasked_mode: None };
    bench.ask::<n::MkdirResponse>(request).unwrap();
}

#[test]
fn what_is_thrown_away_becomes_a_checkpoint_and_goes_when_it_is_old() {
    let mut bench =
        with_settings(|settings| (settings.trash_interval_ms, settings.trash_checkpoint_ms) = (20_000, 5_000));
    throw_away(&mut bench, "a");
    assert_eq!(trash_of_ana(&mut bench), ["Current"]);
    bench.pass(Duration::from_secs(7));
    let checkpoints = trash_of_ana(&mut bench);
    assert_eq!(checkpoints.len(), 1);
    assert!(checkpoints[0].bytes().all(|byte| byte.is_ascii_digit()), "{checkpoints:?}");
    assert!(bench.stat(&format!("/user/ana/.Trash/{}/a", checkpoints[0])).is_ok());
    // The wall clock of this test stands still: the next one has the same time.
    throw_away(&mut bench, "b");
    bench.pass(Duration::from_secs(7));
    assert_eq!(trash_of_ana(&mut bench).len(), 2);
    bench.pass(Duration::from_secs(60));
    assert_eq!(trash_of_ana(&mut bench), [""; 0]);
}

#[test]
fn without_an_interval_nothing_is_emptied_and_what_is_no_checkpoint_stays() {
    let mut bench = with_settings(|_| {});
    throw_away(&mut bench, "a");
    bench.pass(Duration::from_secs(100));
    assert_eq!(trash_of_ana(&mut bench), ["Current"]);
    let mut bench = with_settings(|settings| settings.trash_interval_ms = 5_000);
    throw_away(&mut bench, "a");
    bench.mkdir("/user/ana/.Trash/kept").unwrap();
    bench.pass(Duration::from_secs(100));
    assert_eq!(trash_of_ana(&mut bench), ["kept"]);
}

#[test]
fn a_trash_that_leads_elsewhere_is_left_alone() {
    let mut bench = with_settings(|settings| settings.trash_interval_ms = 5_000);
    let backup = n::MkdirRequest {
        header: header(),
        path: "/tmp/backups/202611220000".into(),
        mode: 0o755,
        parents: true,
        unmasked_mode: None,
    };
    bench.ask_as::<n::MkdirResponse>("root", backup).unwrap();
    let (path, target) = ("/user/ana/.Trash".to_owned(), "/tmp/backups".to_owned());
    bench.ask::<n::SymlinkResponse>(n::SymlinkRequest { header: header(), path, target, parents: false }).unwrap();
    bench.pass(Duration::from_secs(60));
    assert!(bench.stat("/tmp/backups/202611220000").is_ok());
}

const CHECKPOINT: &str = "/user/ana/.Trash/261122092839";

/// A checkpoint that is thrown away after 20 s, and a directory of the same user.
fn with_a_checkpoint() -> Bench {
    let mut bench = with_settings(|settings| settings.trash_interval_ms = 20_000);
    for path in [format!("{CHECKPOINT}/old"), "/user/ana/live/data".to_owned()] {
        let made = n::MkdirRequest { parents: true, ..mkdir(&path) };
        bench.ask::<n::MkdirResponse>(made).unwrap();
    }
    bench.pass(Duration::from_secs(2));
    bench
}
/// Time passes, and the log's time with it, which needs an entry; then the emptier looks.
fn pass_in_the_log(bench: &mut Bench, secs: u64) {
    bench.pass(Duration::from_secs(secs));
    let path = format!("/tmp/{secs}");
    bench.mkdir(&path).unwrap();
    bench.pass(Duration::from_secs(2));
}
fn exchange() -> n::RenameRequest {
    let (from, to) = (CHECKPOINT.into(), "/user/ana/live".into());
    n::RenameRequest { header: header(), from, to, replace: false, exchange: true }
}

#[test]
fn what_takes_the_place_of_an_old_checkpoint_is_as_old_as_it_is_there() {
    let mut bench = with_a_checkpoint();
    bench.pass(Duration::from_secs(15));
    bench.ask::<n::RenameResponse>(exchange()).unwrap();
    pass_in_the_log(&mut bench, 15);
    bench.stat(&format!("{CHECKPOINT}/data")).expect("it is there for 15 s, whatever was there before");
    bench.stat("/user/ana/live/old").unwrap();
    pass_in_the_log(&mut bench, 10);
    assert_eq!(trash_of_ana(&mut bench), [""; 0], "it is thrown away as well, at its time");
    bench.stat("/user/ana/live/old").unwrap();
}

#[test]
fn what_takes_the_place_of_an_old_checkpoint_at_the_last_moment_is_left_alone() {
    let mut bench = with_a_checkpoint();
    bench.pass(Duration::from_secs(17));
    // The exchange is on its way to the log when the checkpoint is found old, by the log's time.
    bench.now = bench.now.plus(Duration::from_secs(4));
    bench.mkdir("/tmp/later").unwrap();
    bench.stat(&format!("{CHECKPOINT}/old")).unwrap();
    bench.disk_is_slow = true;
    let exchanged = bench.send("ana", exchange());
    bench.settle();
    bench.event(Event::Tick);
    bench.settle();
    assert!(!bench.replies.contains_key(&exchanged));
    bench.disk_is_slow = false;
    bench.settle();
    bench.replies[&exchanged].as_ref().unwrap();
    bench.pass(Duration::from_secs(5));
    bench.stat(&format!("{CHECKPOINT}/data")).expect("nobody threw this away");
}

#[test]
fn a_checkpoint_goes_by_its_owners_rights() {
    let mut bench = with_a_checkpoint();
    let of_root = format!("{CHECKPOINT}/old/root");
    for path in [of_root.clone(), format!("{of_root}/a")] {
        bench.ask_as::<n::MkdirResponse>("root", n::MkdirRequest { mode: 0o700, ..mkdir(&path) }).unwrap();
    }
    bench.pass(Duration::from_secs(90));
    assert_eq!(trash_of_ana(&mut bench), ["261122092839"], "ana could not remove it either");
}

#[test]
fn access_times_follow_reads_in_one_entry_now_and_then() {
    let mut bench = with_settings(|settings| settings.access_time_precision_ms = 1);
    let mut nodes = bench.nodes(3);
    let made = bench.file("/tmp/f", 1, &mut nodes).unwrap();
    // The wall clock of this test stands still, so the file is made old.
    let old = n::SetAttributesRequest {
        header: header(),
        path: "/tmp/f".into(),
        atime_ns: Some(5),
        ..n::SetAttributesRequest::default()
    };
    bench.ask::<n::SetAttributesResponse>(old).unwrap();
    let open = || n::OpenRequest { header: header(), path: "/tmp/f".into(), ..Default::default() };
    for _ in 0..5 {
        bench.ask::<n::OpenResponse>(open()).unwrap();
    }
    assert_eq!(bench.stat("/tmp/f").unwrap().atime_ns, 5, "not at once");
    bench.run(12, &mut nodes);
    assert_eq!(bench.stat("/tmp/f").unwrap().atime_ns, made.mtime_ns);
}
