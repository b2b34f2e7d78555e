//! What bad input gets: a clear refusal that says what to do; no panic, no half-applied change, no loss.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::random::SeededRandom;
use tests::command::{self, arg, blockyard};
use tests::{Cluster, Options, tree};

fn ports_of(cluster: &Cluster) -> Vec<SocketAddr> {
    let ready = cluster.ready();
    let plain = |uri: &str| uri.rsplit('/').next().unwrap().parse::<SocketAddr>().unwrap();
    let mut ports = vec![plain(&ready.fs), plain(&ready.http)];
    for role in ready.roles.iter().filter(|role| role.role == "datanode") {
        ports.extend([plain(&role.data), plain(&role.http)]);
    }
    ports
}

/// Openings that a port may meet: noise, lengths of 2 GiB, other protocols, half a message.
fn openings() -> Vec<Vec<u8>> {
    let noise = tree::bytes(&SeededRandom::new(5), 64 * 1024);
    let two_gib = 0x7fff_ffff_u32.to_be_bytes();
    let varint_two_gib = [0xff, 0xff, 0xff, 0xff, 0x07];
    let mut all = vec![
        noise,
        vec![0; 4096],
        vec![0xff; 4096],
        two_gib.repeat(64),
        b"GET / HTTP/1.1\r\n".to_vec(),
        b"GET /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\x00\x00\x00\x00".to_vec(),
        b"hrpc\x09\x00\x00\x7f\xff\xff\xff".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ];
    // The data protocol: version 28, each operation, then a header that claims 2 GiB.
    for operation in [80_u8, 81, 82, 83, 84, 85, 86, 87, 88, 0, 255] {
        let mut opening = vec![0, 28, operation];
        opening.extend(varint_two_gib);
        opening.extend([1, 2, 3, 4]);
        all.push(opening);
    }
    all.push(vec![0, 27, 81, 0]);
    all.push(vec![0]);
    all
}

fn resident_bytes(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn garbage_and_huge_lengths_on_every_port_change_nothing() {
    let cluster = Cluster::start();
    cluster.run_with_input(&["put", "-", "/x"], b"before").ok();
    let before: Vec<u64> = cluster.ready().roles.iter().map(|role| resident_bytes(role.pid)).collect();
    for port in ports_of(&cluster) {
        for opening in openings() {
            let mut stream = TcpStream::connect(port).expect("the port listens");
            stream.set_read_timeout(Some(Duration::from_millis(40))).expect("time-out");
            // A server may close before it has read all: that is a fine refusal.
            if stream.write_all(&opening).is_ok() {
                let mut answer = [0; 512];
                match stream.read(&mut answer) {
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
    for (role, before) in cluster.ready().roles.iter().zip(before) {
        assert!(cluster.alive(&role.name), "{} died of garbage", role.name);
        let grown = resident_bytes(role.pid).saturating_sub(before);
        assert!(grown < 256 << 20, "{} grew by {grown} bytes", role.name);
    }
    assert_eq!(cluster.run(&["cat", "/x"]).ok().stdout, b"before");
    cluster.run_with_input(&["put", "-", "/y"], b"after").ok();
    assert!(!cluster.logs().contains("panicked"), "{}", cluster.logs());
}

#[test]
fn a_port_in_use_is_named() {
    let held = TcpListener::bind("127.0.0.1:0").expect("port");
    let port = held.local_addr().expect("address").port().to_string();
    let ended = command::run(blockyard(["dev", "--ephemeral", "--ports", &port, "--exec", "true"]));
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("port {port} is in use")), "{}", ended.stderr);

    let home = tempfile::tempdir().unwrap();
    let (listen, dir) = (format!("127.0.0.1:{port}"), home.path().join("namenode"));
    let ended = command::run(blockyard([
        "namenode",
        "--listen",
        &listen,
        "--dir",
        arg(&dir),
        "--set",
        "namenode.http=127.0.0.1:0",
    ]));
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("another process holds this port"), "{}", ended.stderr);
}

#[test]
fn a_folder_that_cannot_be_written_is_named_with_advice() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, b"in the way").unwrap();
    for dir in [file.join("data"), file.clone(), PathBuf::from("/proc/blockyard-data")] {
        let ended = command::run(blockyard(["dev", "--ports", "random", "--dir", arg(&dir), "--exec", "true"]));
        assert_eq!(ended.code(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(arg(&dir)), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
    assert_eq!(fs::read(&file).unwrap(), b"in the way");
}

#[test]
fn non_loopback_addresses_are_refused_without_the_flag() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("namenode");
    let ended = command::run(blockyard(["namenode", "--listen", "0.0.0.0:0", "--dir", arg(&dir)]));
    assert_eq!(ended.code(), 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("--insecure"), "{}", ended.stderr);
    assert!(!dir.exists(), "nothing was made");
}

#[test]
fn bad_configuration_is_refused_with_every_fault() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("blockyard.toml");
    fs::write(&file, "[namenode]\nlisten = 7\nlisen = \"127.0.0.1:1\"\n").unwrap();
    let ended = command::run(blockyard(["namenode", "--config", arg(&file)]));
    assert_eq!(ended.code(), 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("did you mean \"namenode.listen\"?"), "{}", ended.stderr);
    assert!(ended.stderr.contains(":2: namenode.listen"), "{}", ended.stderr);
}

/// A stopped cluster with one acknowledged file.
fn stopped_with_a_file() -> Cluster {
    let mut cluster = Cluster::start();
    cluster.run_with_input(&["put", "-", "/kept"], b"kept").ok();
    for i in 0..20 {
        cluster.run(&["mkdir", &format!("/d{i}")]).ok();
    }
    assert!(cluster.stop().success());
    cluster
}

fn comes_back(cluster: &mut Cluster) {
    cluster.restart();
    assert_eq!(cluster.run(&["cat", "/kept"]).ok().stdout, b"kept");
}

/// Starts and expects a refusal that contains all of `words`.
fn is_refused(cluster: &mut Cluster, words: &[&str]) -> String {
    let said = cluster.start_again().expect_err("it must not start");
    let said = format!("{said}{}", cluster.logs());
    assert!(!said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    said
}

#[test]
fn a_datanode_of_another_cluster_is_refused() {
    let (mut mine, other) = (stopped_with_a_file(), stopped_with_a_file());
    let own = mine.data_dir().join("dn1");
    let aside = mine.scratch("aside");
    fs::rename(&own, &aside).unwrap();
    fs::rename(other.data_dir().join("dn1"), &own).unwrap();
    is_refused(&mut mine, &["dn1", "cluster"]);
    fs::rename(&own, mine.scratch("stranger")).unwrap();
    fs::rename(&aside, &own).unwrap();
    comes_back(&mut mine);
}

fn log_files(cluster: &Cluster) -> Vec<PathBuf> {
    let dir = cluster.data_dir().join("namenode");
    let entries = fs::read_dir(&dir).expect("namenode folder").map(|entry| entry.unwrap().path());
    let mut logs: Vec<PathBuf> =
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("log-")).collect();
    logs.sort();
    logs
}

/// Offset of the last byte that is not zero.
fn used_bytes(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("log");
    bytes.iter().rposition(|byte| *byte != 0).expect("records") as u64
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("read");
    file.write_all_at(&[byte[0] ^ 0x40], offset).expect("write");
}

#[test]
fn a_corrupt_log_record_is_refused_and_the_undamaged_file_is_accepted_again() {
    let mut cluster = stopped_with_a_file();
    let log = log_files(&cluster).swap_remove(0);
    let middle = used_bytes(&log) / 2;
    flip(&log, middle);
    is_refused(&mut cluster, &["damaged", "Restore"]);
    flip(&log, middle);
    comes_back(&mut cluster);
}

#[test]
fn a_lost_identity_is_refused_never_made_anew() {
    let mut cluster = stopped_with_a_file();
    let identity = cluster.data_dir().join("namenode").join("identity");
    let aside = cluster.scratch("identity");
    fs::rename(&identity, &aside).unwrap();
    is_refused(&mut cluster, &["identity", "missing"]);
    assert!(!identity.exists(), "nothing was made in its place");
    fs::rename(&aside, &identity).unwrap();
    comes_back(&mut cluster);
}

#[test]
fn paths_that_break_the_rules_are_refused() {
    let cluster = Cluster::with(Options { datanodes: 1, ..Options::default() });
    let long = format!("/{}", "n".repeat(300));
    for path in ["/a/../b", "/a/./b", "relative/path", &long] {
        let ended = cluster.run(&["mkdir", path]);
        assert!(!ended.status.success(), "mkdir {path:?} must fail");
        assert!(ended.stderr.contains("error"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
    // Nothing came into being.
    let listed = cluster.run(&["ls", "--json", "/"]).ok().text();
    let mut names: Vec<String> = listed
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .filter(|line| line["type"] == "entry")
        .map(|line| line["path"].as_str().expect("path").to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["/tmp", "/user"], "{listed}");
}
