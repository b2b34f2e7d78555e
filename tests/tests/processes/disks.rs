//! Disks of real processes hang, fail and fill up, by the plan that `BLOCKYARD_DISK_FAULTS` names: each keeps its trouble to
//! itself.
//!
//! Three datanodes with two disks each, `a` and `b`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::ledger::Content;
use tests::{Cluster, Options, wait};

/// A writer goes on within this time when a disk stops answering (L-5), and a reader within [`READ_STALL`].
const WRITE_STALL: Duration = Duration::from_secs(5);
const READ_STALL: Duration = Duration::from_secs(1);
const NODES: [&str; 3] = ["dn1", "dn2", "dn3"];

struct Disks {
    cluster: Cluster,
    home: tempfile::TempDir,
}

/// What became of the load while something was wrong.
#[derive(Debug, Default)]
struct Stalls {
    puts: u64,
    longest_put: Duration,
    cats: u64,
    longest_cat: Duration,
    /// Longest time since any node's last heartbeat.
    longest_silence: Duration,
}

fn content(n: u64) -> Content {
    Content { seed: 7000 + n, len_bytes: 300_000 }
}

impl Disks {
    fn start() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let plan = home.path().join("plan").display().to_string();
        let mut options = Options::default()
            .env("BLOCKYARD_DISK_FAULTS", &plan)
            .env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "500ms")
            .env("BLOCKYARD_NAMENODE__DELETE_DELAY", "0s")
            .env("BLOCKYARD_DATANODE__DISK_SLOW_AFTER", "2s")
            .env("BLOCKYARD_DATANODE__DISK_HUNG_AFTER", "5s");
        for node in NODES {
            let dirs: Vec<String> =
                ["a", "b"].map(|disk| home.path().join(format!("{node}-{disk}")).display().to_string()).into();
            options.role_environment.push(format!("{node}:BLOCKYARD_DATANODE__DIRS={dirs:?}"));
        }
        Self { cluster: Cluster::with(options), home }
    }
    fn plan(&self, text: &str) {
        let (plan, new) = (self.home.path().join("plan"), self.home.path().join("plan.new"));
        std::fs::write(&new, text).expect("writes");
        std::fs::rename(&new, &plan).expect("renames");
    }
    fn put(&self, n: u64) -> Duration {
        let began = Instant::now();
        self.cluster.run_with_input(&["put", "-", &format!("/f{n}")], &content(n).bytes()).ok();
        began.elapsed()
    }
    fn put_all(&self, numbers: std::ops::Range<u64>) {
        for n in numbers {
            self.put(n);
        }
    }
    fn cat(&self, n: u64) -> Duration {
        let began = Instant::now();
        let got = self.cluster.run(&["cat", &format!("/f{n}")]).ok().stdout;
        assert!(got == content(n).bytes(), "/f{n} differs");
        began.elapsed()
    }
    fn nodes(&self) -> Vec<Value> {
        let text = self.cluster.run(&["node", "ls", "--json"]).ok().text();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
    /// State and reason of every storage of a node.
    fn storages(&self, name: &str) -> Vec<(String, String)> {
        let id = &self.cluster.role(name).id;
        let node = self.nodes().into_iter().find(|node| node["id"] == id.as_str()).expect("the node");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let storages = node["storages"].as_array().expect("storages").iter();
        storages.map(|one| (text(&one["state"]), text(&one["why"]))).collect()
    }
    /// Waits until one storage of a node is in this state and the other one is well; the reason.
    fn until_state(&self, name: &str, state: &str) -> String {
        wait::until(&format!("a disk of {name} is {state}"), Duration::from_secs(60), || {
            let storages = self.storages(name);
            let others = storages.iter().filter(|(other, _)| other != state);
            let well = others.clone().count() == 1 && others.clone().all(|(other, _)| other == "normal");
            well.then(|| storages.iter().find(|(one, _)| one == state).map(|(_, why)| why.clone())).flatten()
        })
    }
    fn until_normal(&self, name: &str) {
        wait::until(&format!("the disks of {name} are well"), Duration::from_secs(60), || {
            self.storages(name).iter().all(|(state, _)| state == "normal").then_some(())
        });
    }
    /// Writes, reads and looks at heartbeats while something goes on.
    fn load(&self, first: u64, during: impl FnOnce()) -> Stalls {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                let mut stalls = Stalls::default();
                while !done.load(Ordering::SeqCst) {
                    stalls.longest_put = stalls.longest_put.max(self.put(first + stalls.puts));
                    stalls.puts += 1;
                }
                stalls
            });
            let reading = scope.spawn(|| {
                let mut stalls = Stalls::default();
                while !done.load(Ordering::SeqCst) {
                    stalls.longest_cat = stalls.longest_cat.max(self.cat(stalls.cats % 6));
                    stalls.cats += 1;
                    let seen = self.nodes().iter().filter_map(|node| node["last_contact_ms"].as_u64()).max();
                    stalls.longest_silence = stalls.longest_silence.max(Duration::from_millis(seen.expect("nodes")));
                }
                stalls
            });
            during();
            done.store(true, Ordering::SeqCst);
            let (written, read) = (working.join().expect("writer"), reading.join().expect("reader"));
            Stalls { puts: written.puts, longest_put: written.longest_put, ..read }
        })
    }
    fn all_there(&self, numbers: impl IntoIterator<Item = u64>) {
        for n in numbers {
            self.cat(n);
        }
    }
    fn blocks_below(&self, disk: &str) -> usize {
        let mut waiting: Vec<PathBuf> = vec![self.home.path().join(disk).join("current")];
        let mut found = 0;
        while let Some(dir) = waiting.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    waiting.push(entry.path());
                } else {
                    found += usize::from(entry.path().extension().is_none());
                }
            }
        }
        found
    }
}

#[test]
fn sc_53_l_5_one_of_two_disks_hangs_under_load_and_is_taken_back() {
    let disks = Disks::start();
    let (puts, cats): (Vec<_>, Vec<_>) = (0..6).map(|n| (disks.put(n), disks.cat(n))).unzip();
    let usual = |times: &[Duration]| times.iter().max().copied().unwrap_or_default();
    let held = disks.blocks_below("dn1-a");
    let mut why = String::new();
    let stalls = disks.load(100, || {
        disks.plan("any hang on=/dn1-a/ from=1\n");
        why = disks.until_state("dn1", "hung");
    });
    println!("{stalls:?}; usual: put {:?}, cat {:?}; {why}", usual(&puts), usual(&cats));
    assert!(why.contains("no answer from the disk") && why.contains("dn1-a"), "{why}");
    assert!(stalls.puts >= 2 && stalls.cats >= 2, "{stalls:?}");
    // Commands start processes, on a machine that does other things as well.
    let slack = Duration::from_secs(2);
    assert!(stalls.longest_put <= WRITE_STALL + usual(&puts) + slack, "{stalls:?}");
    assert!(stalls.longest_cat <= READ_STALL + usual(&cats) + slack, "{stalls:?}");
    assert!(stalls.longest_silence <= Duration::from_secs(3), "heartbeats go on: {stalls:?}");
    // Deletes of other disks go on.
    disks.cluster.run(&["rm", "/f100"]).ok();
    // It answers again: checked, and used with everything that it had.
    disks.plan("");
    disks.until_normal("dn1");
    assert!(disks.blocks_below("dn1-a") >= held, "nothing is forgotten");
    disks.all_there((0..6).chain(101..100 + stalls.puts));
    let after = disks.load(500, || wait::let_pass(Duration::from_secs(1)));
    assert!(after.puts >= 1, "{after:?}");
    assert!(!disks.cluster.logs().contains("panicked"), "{}", disks.cluster.logs());
}

#[test]
fn sc_48_f_9_a_failed_sync_takes_one_disk_out_and_its_blocks_are_copied_again() {
    let disks = Disks::start();
    disks.put_all(0..6);
    disks.plan("sync fail=EIO on=/dn2-b/current/ at=1\n");
    let why = wait::until("the sync is met", Duration::from_secs(60), || {
        disks.put(10);
        disks.cluster.run(&["rm", "/f10"]).ok();
        let storages = disks.storages("dn2");
        storages.into_iter().find(|(state, _)| state == "failed").map(|(_, why)| why)
    });
    assert!(why.contains("sync") && why.contains("/dn2-b/"), "{why}");
    disks.plan("");
    // For this run: no second sync says that all is well.
    disks.put(11);
    assert_eq!(disks.until_state("dn2", "failed"), why);
    disks.all_there((0..6).chain([11]));
    let page = disks.cluster.run(&["node", "ls"]).ok().text();
    assert!(page.contains("2 (1 failed)") && page.contains(&why), "{page}");
}

#[test]
fn f_10_a_full_disk_and_one_that_takes_no_writes_refuse_cleanly_and_serve() {
    let disks = Disks::start();
    disks.put_all(0..6);
    disks.plan("any fail=ENOSPC on=/dn1-a/ from=1\n");
    disks.put_all(20..26);
    disks.all_there((0..6).chain(20..26));
    assert!(
        NODES.iter().all(|node| disks.storages(node).iter().all(|(state, _)| state == "normal")),
        "full is not broken"
    );
    // Deletes work on a full disk, though no name can be made in its trash.
    let before = disks.blocks_below("dn1-a");
    (0..6).chain(20..23).for_each(|n| drop(disks.cluster.run(&["rm", &format!("/f{n}")]).ok()));
    if before > 0 {
        wait::until("deletes on the full disk", Duration::from_secs(90), || {
            (disks.blocks_below("dn1-a") < before).then_some(())
        });
    }
    disks.plan("any fail=EROFS on=/dn3-b/ from=1\n");
    let why = wait::until("the disk that takes no writes is met", Duration::from_secs(60), || {
        disks.put(30);
        disks.cluster.run(&["rm", "/f30"]).ok();
        disks.storages("dn3").into_iter().find(|(state, _)| state == "read-only").map(|(_, why)| why)
    });
    assert!(why.contains("Read-only file system"), "{why}");
    disks.put_all(40..43);
    disks.all_there((23..26).chain(40..43));
}

#[test]
fn sc_54_sc_52_a_disk_that_cannot_be_read_at_start_is_left_out_and_bad_sectors_are_repaired() {
    let mut disks = Disks::start();
    disks.put_all(0..6);
    disks.cluster.kill_all();
    disks.plan("read fail=EIO on=/dn1-a/identity from=1\n");
    disks.cluster.restart();
    let why = disks.until_state("dn1", "failed");
    assert!(why.contains("its node started without it"), "{why}");
    disks.all_there(0..6);
    disks.cluster.kill_all();
    disks.plan("");
    disks.cluster.restart();
    disks.until_normal("dn1");
    // Sectors under the data of one node go bad: readers go elsewhere, and the namenode hears of it. Which node is read from
    // first depends on names that are drawn.
    let healed = || {
        NODES.into_iter().find_map(|node| {
            let bad = |disk: &str| format!("read fail=EIO on=/{node}-{disk}/current/ from=1\n");
            disks.plan(&(bad("a") + &bad("b")));
            disks.all_there(0..6);
            disks.cluster.logs().contains("replica is corrupt").then_some(())
        })
    };
    wait::until("damage is noticed", Duration::from_secs(60), healed);
    disks.plan("");
    wait::until("every block has its copies again", Duration::from_secs(90), || {
        let fsck = disks.cluster.run(&["fsck", "/"]);
        (fsck.code() == 0).then_some(())
    });
    disks.all_there(0..6);
}
