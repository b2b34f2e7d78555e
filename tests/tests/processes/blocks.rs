//! Where blocks are, whether their replicas are sound, and files that are watched while they grow.

use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::command::Ended;
use tests::ledger::Content;
use tests::{Cluster, Options, cluster, wait};

const PATIENCE: Duration = Duration::from_secs(60);

fn objects(ended: &Ended) -> Vec<Value> {
    ended.text().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn put(cluster: &Cluster, path: &str, len_bytes: u64) {
    let bytes = Content { seed: len_bytes, len_bytes }.bytes();
    cluster.run_with_input(&["put", "--block-size", "1M", "-", path], &bytes).ok();
}

#[test]
fn blocks_are_located_by_their_file_and_by_their_id() {
    let cluster = Cluster::start();
    put(&cluster, "/f", (2 << 20) + 5);
    cluster.run(&["mkdir", "-p", "/deep/er"]).ok();
    put(&cluster, "/deep/er/g", 7);
    let blocks = objects(&cluster.run(&["block", "locate", "/f", "--json"]).ok());
    let of = |key: &str| blocks.iter().map(|block| block[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("offset"), [0, 1 << 20, 2 << 20]);
    assert_eq!(of("length"), [1 << 20, 1 << 20, 5]);
    let ids: Vec<&str> =
        cluster.ready().roles.iter().map(|role| role.id.as_str()).filter(|id| !id.is_empty()).collect();
    for block in &blocks {
        let replicas = block["replicas"].as_array().expect("replicas");
        assert_eq!((replicas.len(), &block["corrupt"]), (3, &false.into()));
        let mut nodes: Vec<&str> = replicas.iter().map(|one| one["node"].as_str().expect("a node")).collect();
        nodes.sort_unstable();
        let mut all = ids.clone();
        all.sort_unstable();
        assert_eq!(nodes, all, "one replica on each node");
        assert!(replicas.iter().all(|one| one["rack"].as_str().is_some_and(|rack| rack.starts_with('/'))));
    }
    let id = blocks[1]["id"].to_string();
    for named in [id.clone(), format!("blk_{id}"), format!("blk_{id}_{}", blocks[1]["generation"])] {
        let found = objects(&cluster.run(&["block", "locate", &named, "--json"]).ok());
        assert_eq!((found.len(), &found[0]["path"], &found[0]["index"]), (1, &"/f".into(), &1.into()), "{named}");
    }
    let text = cluster.run(&["block", "locate", "/f", &id, "/deep/er/*"]).ok().text();
    assert!(text.contains("3 blocks, 9 replicas\n") && text.contains("/deep/er/g  7 B"), "{text}");
    let missing = cluster.run(&["block", "locate", &id, "--below", "/deep"]);
    assert_eq!(missing.code(), 3);
    assert!(missing.stderr.contains("no file below /deep that you may read has the block"), "{}", missing.stderr);
    let directory = cluster.run(&["block", "locate", "/deep"]);
    assert_eq!(directory.code(), 1);
    assert!(directory.stderr.contains("is a directory"), "{}", directory.stderr);
}

#[test]
fn every_replica_is_verified_damage_is_repaired_and_a_silent_node_is_told() {
    use std::os::unix::fs::FileExt;
    let options = Options::default().env("BLOCKYARD_NAMENODE__HEARTBEAT_INTERVAL", "200ms");
    let cluster = Cluster::with(options.env("BLOCKYARD_DATANODE__SCRUB_RATE", "0"));
    put(&cluster, "/f", 3_000_000);
    let sound = cluster.run(&["block", "verify", "/f"]).ok().text();
    assert_eq!(sound, "/f  3 blocks, 9 replicas, 8.6 MiB read: all sound\n");
    let replicas = objects(&cluster.run(&["block", "verify", "/f", "--json"]).ok());
    let of = |index: u64| {
        let of_block = replicas.iter().filter(move |one| one["type"] == "replica" && one["index"] == index);
        of_block.map(|one| one["sha256"].as_str().expect("a sum").to_owned()).collect::<Vec<_>>()
    };
    assert!((0..3).all(|index| of(index).len() == 3 && of(index).iter().all(|sum| *sum == of(index)[0])));
    assert_ne!(of(0)[0], of(1)[0]);

    // A replica that no reader would take: not the first one.
    let blocks = objects(&cluster.run(&["block", "locate", "/f", "--json"]).ok());
    let (id, victim) = (blocks[1]["id"].to_string(), &blocks[1]["replicas"][2]["node"]);
    let dir = &cluster.ready().roles.iter().find(|role| role.id == *victim).expect("its node").dir;
    let file = find(dir, &format!("blk_{id}"));
    let bytes = std::fs::read(&file).expect("data");
    let open = std::fs::OpenOptions::new().write(true).open(&file).expect("data");
    open.write_all_at(&[bytes[700_000] ^ 4], 700_000).expect("flip");
    let damaged = cluster.run(&["block", "verify", "/f"]);
    assert_eq!(damaged.code(), 6, "{}{}", damaged.text(), damaged.stderr);
    let said = damaged.text();
    assert!(said.starts_with(&format!("damaged     block {id} of /f on 127.0.0.1:")), "{said}");
    assert!(said.ends_with("/f  3 blocks, 9 replicas, 8.6 MiB read: 1 damaged\n"), "{said}");
    wait::until("the repair of what was found", PATIENCE, || {
        let ended = cluster.run(&["block", "verify", &id, "--json"]);
        let last = objects(&ended).pop().filter(|last| last["sound"] == true && last["replicas"] == 3);
        last.map(|_| assert_eq!(ended.code(), 0))
    });

    cluster.kill("dn2");
    let silent = cluster.run(&["block", "verify", "/f", "--json"]);
    assert_eq!(silent.code(), 6);
    let last = objects(&silent).pop().expect("a summary");
    assert_eq!((&last["unreadable"], &last["damaged"], &last["sound"]), (&3.into(), &0.into(), &false.into()));
}

fn find(top: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if entry.file_name().to_string_lossy() == name => return path,
                _ => {}
            }
        }
    }
    panic!("no {name} below {}", top.display());
}

/// A command whose output is watched.
struct Watched {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Watched {
    fn start(cluster: &Cluster, args: &[&str]) -> Self {
        let mut command = cluster.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (said, mut out) = (Arc::new(Mutex::new(Vec::new())), child.stdout.take().expect("piped"));
        let keep = Arc::clone(&said);
        let reader = base::task::thread("watched", move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = out.read(&mut buffer) {
                keep.lock().expect("lock").extend_from_slice(&buffer[..read]);
            }
        });
        // It ends with the pipe.
        drop(reader.expect("thread"));
        Self { child, said }
    }
    fn has_said(&self, what: &str) {
        wait::until(what, PATIENCE, || {
            let said = self.said.lock().expect("lock");
            (String::from_utf8_lossy(&said) == what).then_some(())
        });
    }
    fn ended(mut self) -> (i32, String) {
        let status = tests::command::wait_with_patience(&mut self.child, PATIENCE);
        let mut text = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut text).expect("stderr");
        (status.code().unwrap_or(-1), text)
    }
}

#[test]
fn tail_follows_a_file_that_grows_is_replaced_and_goes() {
    let cluster = Cluster::with(Options { datanodes: 1, ..Options::default() });
    let write = |path: &str, text: &str| {
        cluster.run_with_input(&["put", "-f", "-", path], text.as_bytes()).ok();
    };
    write("/log", "one\ntwo\n");
    let tail = Watched::start(&cluster, &["tail", "-n", "1", "-f", "--interval", "20ms", "/log"]);
    tail.has_said("two\n");
    write("/more", "three\nfour\n");
    cluster.run(&["concat", "/log", "/more"]).ok();
    tail.has_said("two\nthree\nfour\n");
    write("/log", "another\n");
    tail.has_said("two\nthree\nfour\nanother\n");
    cluster::signal(i32::try_from(tail.child.id()).expect("pid"), Signal::INT);
    let (code, said) = tail.ended();
    assert_eq!(code, 130);
    assert!(said.contains("/log was replaced") && !said.contains("hint"), "{said}");

    // Cut, and grown again, between two looks: to more than before, and to exactly as much.
    write("/cut", "first\nsecond\n");
    let tail = Watched::start(&cluster, &["tail", "-f", "-s", "20ms", "/cut"]);
    let pid = i32::try_from(tail.child.id()).expect("pid");
    tail.has_said("first\nsecond\n");
    let mut shown = "first\nsecond\n".to_owned();
    for added in ["a longer one\n", "another one.\n"] {
        cluster::signal(pid, Signal::STOP);
        cluster.run(&["truncate", "-s", "6", "/cut"]).ok();
        cluster.run_with_input(&["append", "-", "/cut"], added.as_bytes()).ok();
        cluster::signal(pid, Signal::CONT);
        shown = format!("{shown}first\n{added}");
        tail.has_said(&shown);
    }
    cluster::signal(pid, Signal::INT);
    let (code, said) = tail.ended();
    assert_eq!((code, said.matches("/cut: file truncated").count()), (130, 2), "{said}");

    write("/b", "b\n");
    let tail = Watched::start(&cluster, &["tail", "-f", "-s", "20ms", "/log", "/b"]);
    tail.has_said("==> /log <==\nanother\n\n==> /b <==\nb\n");
    write("/c", "more b\n");
    cluster.run(&["concat", "/b", "/c"]).ok();
    tail.has_said("==> /log <==\nanother\n\n==> /b <==\nb\nmore b\n");
    cluster.run(&["rm", "/log"]).ok();
    let (code, said) = tail.ended();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("no such file or directory: /log"), "{said}");
    let (code, said) = Watched::start(&cluster, &["tail", "-f", "/b", "/none"]).ended();
    assert_eq!(code, 3, "{said}");
    assert_eq!(cluster.run(&["tail", "--interval", "1s", "/b"]).code(), 2, "an interval without -f means nothing");
    assert_eq!(cluster.run(&["tail", "-f", "--interval", "5", "/b"]).code(), 2);
}
