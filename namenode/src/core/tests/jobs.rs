//! Nodes out of service and balancing, through requests and log.

use std::time::Duration;

use proto::error::{ErrorCode, FsResult};
use proto::namespace as n;
use proto::namespace::NodeService;

use super::harness::*;

fn set(node: &str, service: NodeService, maintenance_ms: u64) -> n::SetNodeStateRequest {
    n::SetNodeStateRequest { header: header(), node: node.into(), service: service.into(), maintenance_ms }
}
fn jobs(bench: &mut Bench) -> Vec<n::JobStatus> {
    bench.ask::<n::ListJobsResponse>(n::ListJobsRequest { header: header(), job: String::new() }).unwrap().jobs
}
fn services(bench: &mut Bench) -> Vec<String> {
    let nodes: n::ListNodesResponse = bench.ask(n::ListNodesRequest { header: header() }).unwrap();
    nodes.nodes.into_iter().map(|node| node.service).collect()
}

#[test]
fn l_7_a_decommission_goes_through_the_log_and_names_the_file_that_holds_it_up() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(4);
    bench.file("/tmp/f", 1, &mut nodes[..3]).unwrap();
    let open = bench.create("/tmp/open", 2, n::Publish::AtOnce).unwrap();
    let pipeline = open.first_block.clone().unwrap().locations;
    let victim = nodes.iter().position(|node| pipeline.iter().any(|at| at.node == node.name)).unwrap();
    bench.run(15, &mut nodes);
    let name = nodes[victim].name.clone();
    let refused: FsResult<n::SetNodeStateResponse> = bench.ask(set(&name, NodeService::Decommissioned, 0));
    assert_eq!(refused.unwrap_err().code, ErrorCode::PermissionDenied);
    let told: n::SetNodeStateResponse = bench.ask_as("root", set(&name, NodeService::Decommissioned, 0)).unwrap();
    assert_eq!((told.node.as_str(), told.job), (name.as_str(), format!("decommission-{name}")));
    bench.run(40, &mut nodes);
    let listed = jobs(&mut bench);
    assert_eq!((listed.len(), listed[0].state.as_str(), listed[0].blocked), (1, "blocked", 1));
    let why = &listed[0].blocked_by[0];
    assert!(why.contains(": is being written") && !why.contains('/'), "{why}: paths are for superusers");
    let all = n::ListJobsRequest { header: header(), job: String::new() };
    let listed = bench.ask_as::<n::ListJobsResponse>("root", all).unwrap().jobs;
    assert!(listed[0].blocked_by[0].contains("/tmp/open: is being written"), "{:?}", listed[0].blocked_by);
    assert_eq!(services(&mut bench)[victim], "decommissioning");
    // Killed and started again: the log knows it.
    let mut bench = bench.restart();
    nodes.iter_mut().for_each(|node| node.restart(&mut bench));
    assert_eq!(services(&mut bench)[victim], "decommissioning");
    let discard = n::DeleteRequest { header: header(), path: "/tmp/open".into(), recursive: false };
    bench.ask::<n::DeleteResponse>(discard).unwrap();
    bench.run(60, &mut nodes);
    assert_eq!(jobs(&mut bench)[0].state, "done");
    assert_eq!(services(&mut bench)[victim], "decommissioned");
    assert_eq!((bench.status().leaving_nodes, bench.status().moving, bench.status().under_replicated), (1, 0, 0));
    // Gone: it is not counted among the dead.
    nodes[victim].up = false;
    bench.run(330, &mut nodes);
    assert_eq!(bench.status().dead_nodes, 0);
    let cancel = |job: &str| n::CancelJobRequest { header: header(), job: job.into() };
    let missing: FsResult<n::CancelJobResponse> = bench.ask_as("root", cancel("decommission-x"));
    assert_eq!(missing.unwrap_err().code, ErrorCode::NotFound);
    let job = format!("decommission-{name}");
    let refused: FsResult<n::CancelJobResponse> = bench.ask(cancel(&job));
    assert_eq!(refused.unwrap_err().code, ErrorCode::PermissionDenied);
    bench.ask_as::<n::CancelJobResponse>("root", cancel(&job)).unwrap();
    assert_eq!((services(&mut bench)[victim].as_str(), jobs(&mut bench).len()), ("in service", 0));
    assert_eq!(bench.status().dead_nodes, 1);
}

#[test]
fn a_maintenance_ends_in_time_although_nobody_writes() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(2);
    let name = nodes[0].name.clone();
    let told: n::SetNodeStateResponse = bench.ask_as("root", set(&name, NodeService::Maintenance, 20_000)).unwrap();
    assert_eq!(told.job, format!("maintenance-{name}"));
    bench.run(5, &mut nodes);
    assert_eq!(services(&mut bench), ["in maintenance", "in service"]);
    let listed: n::ListNodesResponse = bench.ask(n::ListNodesRequest { header: header() }).unwrap();
    assert!((1..=20_000).contains(&listed.nodes[0].service_ends_in_ms));
    nodes[0].up = false;
    bench.run(10, &mut nodes);
    assert_eq!(services(&mut bench), ["in maintenance", "in service"]);
    bench.run(10, &mut nodes);
    assert_eq!(services(&mut bench), ["in service", "in service"]);
    assert!(jobs(&mut bench).is_empty());
}

#[test]
fn nodes_are_named_by_id_host_or_host_and_port() {
    let mut bench = Bench::new();
    let nodes = bench.nodes(3);
    let listed: n::ListNodesResponse = bench.ask(n::ListNodesRequest { header: header() }).unwrap();
    let first = &listed.nodes[0];
    let same_host = listed.nodes.iter().filter(|node| node.host == first.host).count();
    let named = |bench: &mut Bench, text: &str| {
        let answer: FsResult<n::SetNodeStateResponse> = bench.ask_as("root", set(text, NodeService::Maintenance, 0));
        answer.map(|told| told.node).map_err(|error| error.code)
    };
    assert_eq!(named(&mut bench, &nodes[1].name), Ok(nodes[1].name.clone()));
    let by_host = named(&mut bench, &first.host);
    let expected = if same_host == 1 { Ok(first.node.clone()) } else { Err(ErrorCode::InvalidArgument) };
    assert_eq!(by_host, expected);
    assert_eq!(named(&mut bench, "nobody"), Err(ErrorCode::NotFound));
    let unspecified: FsResult<n::SetNodeStateResponse> =
        bench.ask_as("root", set(&nodes[1].name, NodeService::Unspecified, 0));
    assert_eq!(unspecified.unwrap_err().code, ErrorCode::InvalidArgument);
}

#[test]
fn a_balance_is_begun_and_ended_by_superusers() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(2);
    let balance = |threshold_percent| n::BalanceRequest { header: header(), threshold_percent, rate_bytes_per_s: 0 };
    let code = |answer: FsResult<n::BalanceResponse>| answer.map_err(|error| error.code).map(|told| told.job);
    assert_eq!(code(bench.ask(balance(0))), Err(ErrorCode::PermissionDenied));
    assert_eq!(code(bench.ask_as("root", balance(101))), Err(ErrorCode::InvalidArgument));
    let job = code(bench.ask_as("root", balance(0))).unwrap();
    assert_eq!(code(bench.ask_as("root", balance(10))), Ok(job.clone()), "the same again is the same");
    assert_eq!(code(bench.ask_as("root", balance(20))), Err(ErrorCode::AlreadyExists));
    bench.pass(Duration::from_secs(1));
    bench.run(1, &mut nodes);
    assert_eq!(jobs(&mut bench)[0].state, "done", "there is nothing to even out");
    let cancel = |job: &str| n::CancelJobRequest { header: header(), job: job.into() };
    bench.ask_as::<n::CancelJobResponse>("root", cancel(&job)).unwrap();
    let refused: FsResult<n::CancelJobResponse> = bench.ask(cancel(&job));
    assert_eq!(refused.unwrap_err().code, ErrorCode::PermissionDenied);
    let missing: FsResult<n::CancelJobResponse> = bench.ask_as("root", cancel("balance-9-9"));
    assert_eq!(missing.unwrap_err().code, ErrorCode::NotFound);
    let one: FsResult<n::ListJobsResponse> =
        bench.ask(n::ListJobsRequest { header: header(), job: "balance-9-9".into() });
    assert_eq!(one.unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn f_3_a_namenode_that_starts_while_a_node_is_in_maintenance_copies_nothing_of_it() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(4);
    for at in 0..5 {
        bench.file(&format!("/tmp/{at}"), at + 1, &mut nodes[..3]).unwrap();
    }
    bench.run(15, &mut nodes);
    let name = nodes[1].name.clone();
    bench.ask_as::<n::SetNodeStateResponse>("root", set(&name, NodeService::Maintenance, 3_600_000)).unwrap();
    bench.run(5, &mut nodes);
    nodes[1].up = false;
    let mut bench = bench.restart();
    nodes.iter_mut().filter(|node| node.up).for_each(|node| node.restart(&mut bench));
    bench.run(330, &mut nodes);
    assert!(!bench.status().safe_mode);
    assert!(nodes[3].held.is_empty(), "nothing is lost: {:?}", nodes[3].held);
    assert_eq!(bench.status().under_replicated, 0);
    // It comes back with everything, and nothing is removed either.
    nodes[1].up = true;
    nodes[1].restart(&mut bench);
    bench.ask_as::<n::SetNodeStateResponse>("root", set(&name, NodeService::InService, 0)).unwrap();
    bench.run(90, &mut nodes);
    assert_eq!(nodes.iter().map(|node| node.held.len()).collect::<Vec<_>>(), [5, 5, 5, 0]);
}
