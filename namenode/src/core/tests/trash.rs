//! The emptier of the trash, and access times.

use std::time::Duration;

use base::disk::MemDisk;
use proto::namespace as n;

use super::super::CoreConfig;
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
