//! Background tasks that panic: who can go on does, and says so; else the server ends with a word. Needs a build with debug
//! assertions, as all tests have: `BLOCKYARD_PANIC` makes the task of that name panic once.

use std::time::Duration;

use tests::{Cluster, Options, wait};

use super::dev::page;

/// A cluster in which the first datanode, or the namenode, has such a panic.
fn cluster(role: &str, task: &str) -> Cluster {
    let mut options = Options { datanodes: 2, ..Options::default() };
    options.role_environment.push(format!("{role}:BLOCKYARD_PANIC={task}"));
    Cluster::with(options)
}

#[test]
fn l_9_sc_84_upkeep_and_scrubbers_go_on_after_a_panic_and_it_is_counted() {
    for task in ["dn-upkeep", "dn-scrub"] {
        let cluster = cluster("dn1", task);
        let http = &cluster.role("dn1").http;
        wait::until("the panic is counted", Duration::from_secs(30), || {
            page(http, "/metrics").contains("blockyard_background_panics_total 1").then_some(())
        });
        assert!(cluster.logs().contains(&format!("{task} panicked")), "{}", cluster.logs());
        cluster.run_with_input(&["put", "-", "/x"], b"x").ok();
        assert!(cluster.alive("dn1"));
    }
}

#[test]
fn l_9_sc_84_a_datanode_without_its_acceptor_ends_with_a_word() {
    let cluster = cluster("dn1", "dn-accept");
    let event = cluster.event("the end of dn1", |event| event["type"] == "exit");
    assert_eq!(event["name"], "dn1");
    assert!(cluster.logs().contains("the acceptor"), "{}", cluster.logs());
}

#[test]
fn l_9_sc_84_a_namenode_whose_commits_panic_ends_with_a_word_and_starts_again() {
    let mut options = Options { datanodes: 1, ..Options::default() };
    options.role_environment.push("namenode:BLOCKYARD_PANIC=nn-commit".to_owned());
    let mut cluster = Cluster::unstarted(options);
    let refused = cluster.start_again().expect_err("it ends before it leads");
    assert!(refused.contains("nn-commit panicked"), "{refused}");
    cluster.options().role_environment.clear();
    cluster.restart();
    cluster.run_with_input(&["put", "-", "/x"], b"x").ok();
}
