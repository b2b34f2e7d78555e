//! `blockyard dev`: its flags, its lines, its end; and the operations pages of every role.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tests::command::{self, arg, blockyard};
use tests::{Cluster, Options, wait};

#[test]
fn exec_runs_a_command_against_an_ephemeral_cluster_and_ends_with_its_status() {
    let home = tempfile::tempdir().unwrap();
    let binary = command::binary();
    let script = format!(
        "set -e; B={}; echo inside | $B put - /x; $B cat /x; $B stat /x | grep -q 'copies *2'; \
         $B ls -d /tmp -l | grep -q rwxrwxrwt; $B stat /user/$($B --help >/dev/null; id -un); exit 37",
        arg(&binary)
    );
    for more in [&[][..], &["--processes"]] {
        let mut dev = blockyard(["dev", "--ephemeral", "--datanodes", "2", "--ports", "random", "--exec", &script]);
        dev.args(more).env("TMPDIR", home.path()).current_dir(home.path());
        let ended = command::run(dev);
        assert_eq!(ended.code(), 37, "{}{}", ended.text(), ended.stderr);
        assert!(ended.text().contains("inside"), "{}", ended.text());
        let left = std::fs::read_dir(home.path()).unwrap().count();
        assert_eq!(left, 0, "nothing stays of an ephemeral cluster");
    }
}

#[test]
fn one_process_runs_all_roles_and_its_folder_starts_again_with_other_processes_and_ports() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let binary = command::binary();
    let put = format!("echo kept | {} put - /kept", arg(&binary));
    let cat = format!("{} cat /kept", arg(&binary));
    let run = |more: &[&str], script: &str| {
        let mut dev = blockyard(["dev", "--dir", arg(&dir), "--ports", "random", "--exec", script]);
        dev.args(more);
        command::run(dev).ok()
    };
    run(&[], &put);
    assert!(run(&["--processes"], &cat).text().contains("kept"));
    assert!(run(&[], &cat).text().contains("kept"));
}

#[test]
fn a_row_of_ports_is_taken_from_its_base() {
    // Below the ports that systems hand out by themselves, which the tests beside this one take and leave all the time. Another
    // process may hold one all the same: then the next row is tried.
    let first = 10_000 + u16::try_from(std::process::id() % 1000).unwrap() * 20;
    let mut refused = String::new();
    let ended = (0..20).find_map(|row| {
        let base = (first + 10 * row).to_string();
        let dev = blockyard(["dev", "--ephemeral", "--ports", &base, "--exec", "echo at $BLOCKYARD_FS"]);
        let ended = command::run(dev);
        refused.push_str(&ended.stderr);
        (ended.code() == 0).then_some((ended, base))
    });
    let (ended, base) = ended.unwrap_or_else(|| panic!("none of twenty rows of ports is free: {refused}"));
    assert!(ended.text().contains(&format!("at blockyard://127.0.0.1:{base}")), "{}", ended.text());
}

pub(crate) fn page(address: &str, path: &str) -> String {
    let address = address.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("the page listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answer");
    text
}

#[test]
fn every_role_says_that_it_lives_that_it_is_ready_and_what_it_counts() {
    let cluster = Cluster::with(Options { datanodes: 2, ..Options::default() });
    cluster.run_with_input(&["put", "-", "/x"], &[7; 5000]).ok();
    assert_eq!(cluster.ready().v, 1);
    assert_eq!(cluster.ready().roles.len(), 3);
    for role in &cluster.ready().roles {
        assert!(page(&role.http, "/livez").starts_with("HTTP/1.1 200"), "{role:?}");
        assert!(page(&role.http, "/readyz").starts_with("HTTP/1.1 200"), "{role:?}");
        let metrics = page(&role.http, "/metrics");
        let own = match role.role.as_str() {
            "namenode" => "blockyard_namenode_files 1",
            _ => "blockyard_datanode_blocks 1",
        };
        assert!(metrics.contains(own), "{}: {metrics}", role.name);
        assert!(metrics.contains("process_resident_memory_bytes"), "{metrics}");
    }
    // Without any datanode the namenode is alive, and says after a while that it is not whole.
    cluster.kill("dn1");
    cluster.kill("dn2");
    assert!(page(&cluster.role("namenode").http, "/livez").starts_with("HTTP/1.1 200"));
}

/// The audit lines of a kind of call on a path, from the namenode's log.
fn audit(cluster: &Cluster, command: &str, path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(cluster.data_dir().join("logs").join("namenode.log")).expect("log");
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = records
        .filter(|record| record["target"] == "audit")
        .filter_map(|record| record["msg"].as_str().map(str::to_owned));
    lines.filter(|line| line.contains(&format!("\tcmd={command}\tsrc={path}\t"))).collect()
}

#[test]
fn s_10_every_call_leaves_exactly_one_audit_record() {
    let cluster = Cluster::with(Options { datanodes: 1, ..Options::default() });
    cluster.run(&["--user", "bob", "mkdir", "/tmp/seen"]).ok();
    assert_eq!(cluster.run(&["--user", "bob", "mkdir", "/refused"]).code(), 4);
    // The log is written behind the answers; the calls that follow are recorded after those that are looked for.
    cluster.run(&["stat", "/tmp/seen"]).ok();
    wait::until("the record of the last call", Duration::from_secs(10), || {
        (!audit(&cluster, "getfileinfo", "/tmp/seen").is_empty()).then_some(())
    });
    let made = audit(&cluster, "mkdirs", "/tmp/seen");
    assert_eq!(made.len(), 1, "{made:?}");
    for words in ["allowed=true", "ugi=bob ", "ip=/127.0.0.1", "result=ok"] {
        assert!(made[0].contains(words), "{words:?} is not in {made:?}");
    }
    let denied = audit(&cluster, "mkdirs", "/refused");
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert!(denied[0].contains("allowed=false") && denied[0].contains("result=permission_denied"), "{denied:?}");
}
