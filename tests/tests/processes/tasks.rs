//! Background tasks that panic: who can go on does, and says so; else the server ends with a word. Needs a build with debug
//! assertions, as all tests have: `BLOCKYARD_PANIC` makes the task of that name panic once.

use std::time::Duration;

use tests::{Cluster, Options, wait};

use super::dev::page;

/// A cluster of two datanodes in which this role has such a panic.
fn options(role: &str, task: &str) -> Options {
    let mut options = Options { datanodes: 2, ..Options::default() };
    options.role_environment.push(format!("{role}:BLOCKYARD_PANIC={task}"));
    options
}

#[test]
fn l_9_sc_84_upkeep_and_scrubbers_go_on_after_a_panic_and_it_is_counted() {
    for task in ["dn-upkeep", "dn-scrub"] {
        let cluster = Cluster::with(options("dn1", task));
        let http = &cluster.role("dn1").http;
        wait::until("the panic is counted", Duration::from_secs(30), || {
            page(http, "/metrics").contains("blockyard_background_panics_total 1").then_some(())
        });
        assert!(cluster.logs().contains(&format!("{task} panicked")), "{}", cluster.logs());
        cluster.run_with_input(&["put", "-", "/x"], b"x").ok();
        assert!(cluster.alive("dn1"));
    }
}

/// Starts a cluster with such a panic; what was said until the role ended.
fn end_of(role: &str, task: &str) -> (Cluster, String) {
    let mut cluster = Cluster::unstarted(options(role, task));
    // It may end before the others are ready, or after.
    let told = match cluster.start_again() {
        Err(text) => text,
        Ok(()) => cluster.event("the end of the role", |event| event["type"] == "exit").to_string(),
    };
    let said = format!("{told}{}", cluster.logs());
    (cluster, said)
}

#[test]
fn l_9_sc_84_a_datanode_without_its_acceptor_ends_with_a_word() {
    let (_cluster, said) = end_of("dn1", "dn-accept");
    assert!(said.contains("dn1") && said.contains("the acceptor"), "{said}");
}

#[test]
fn l_9_sc_84_a_namenode_whose_commits_panic_ends_with_a_word_and_starts_again() {
    let (mut cluster, said) = end_of("namenode", "nn-commit");
    assert!(said.contains("nn-commit panicked"), "{said}");
    cluster.kill_all();
    cluster.options().role_environment.clear();
    cluster.restart();
    cluster.run_with_input(&["put", "-", "/x"], b"x").ok();
}
