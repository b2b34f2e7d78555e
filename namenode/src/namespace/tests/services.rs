//! Nodes out of service: who may say so, what it changes, and that it is part of the state.

use proto::error::ErrorCode;
use proto::log::command::Op;
use proto::log::{SetNodeService, Tick};
use proto::namespace::NodeService as Wanted;

use super::harness::{Bench, From, SUPER, by, code, image_of, session};
use crate::namespace::{Namespace, NodeService, Outcome};

fn set(node: &str, service: Wanted, maintenance_ms: u64) -> Op {
    Op::SetNodeService(SetNodeService { node: node.into(), service: service as u32, maintenance_ms })
}
fn in_force(namespace: &Namespace) -> Vec<(String, NodeService)> {
    namespace.services_in_force().into_iter().map(|(node, service)| (node.as_str().to_owned(), service)).collect()
}

#[test]
fn only_a_superuser_takes_a_registered_node_out_of_service() {
    let mut bench = Bench::new();
    let hash = bench.namespace.state_hash();
    let refused = |bench: &mut Bench, user: &str, op: Op| code(bench.run(by(user), op).result);
    assert_eq!(refused(&mut bench, "ann", set("node-1", Wanted::Decommissioned, 0)), ErrorCode::PermissionDenied);
    assert_eq!(refused(&mut bench, SUPER, set("node-9", Wanted::Decommissioned, 0)), ErrorCode::NotFound);
    assert_eq!(refused(&mut bench, SUPER, set("a/b", Wanted::Decommissioned, 0)), ErrorCode::InvalidArgument);
    assert_eq!(refused(&mut bench, SUPER, set("node-1", Wanted::Unspecified, 0)), ErrorCode::InvalidArgument);
    assert_eq!(refused(&mut bench, SUPER, set("node-1", Wanted::Decommissioned, 5)), ErrorCode::InvalidArgument);
    let unheard = SetNodeService { node: "node-1".into(), service: 77, maintenance_ms: 0 };
    assert_eq!(refused(&mut bench, SUPER, Op::SetNodeService(unheard)), ErrorCode::InvalidArgument);
    assert_eq!(in_force(&bench.namespace), []);
    assert_ne!(bench.namespace.state_hash(), hash, "the log has gone on");
    let done = bench.run(by(SUPER), set("node-1", Wanted::Decommissioned, 0));
    assert_eq!((done.result, done.effects.len()), (Ok(Outcome::Named("node-1".into())), 0));
    assert_eq!(in_force(&bench.namespace), [("node-1".into(), NodeService::Decommissioned)]);
    bench.check();
    bench.run(by(SUPER), set("node-1", Wanted::InService, 0)).result.unwrap();
    assert_eq!(in_force(&bench.namespace), []);
    bench.check();
}

#[test]
fn d_7_the_minimum_of_copies_counts_nodes_that_were_not_told_to_go() {
    let mut bench = Bench::new();
    let minimum = |bench: &Bench| bench.namespace.minimum_copies(3);
    assert_eq!(minimum(&bench), 2);
    bench.run(by(SUPER), set("node-0", Wanted::Maintenance, 0)).result.unwrap();
    bench.run(by(SUPER), set("node-1", Wanted::Decommissioned, 0)).result.unwrap();
    assert_eq!(minimum(&bench), 2, "a node in maintenance comes back");
    bench.run(by(SUPER), set("node-2", Wanted::Decommissioned, 0)).result.unwrap();
    assert_eq!(minimum(&bench), 1);
    bench.run(by(SUPER), set("node-0", Wanted::Decommissioned, 0)).result.unwrap();
    assert_eq!(minimum(&bench), 1, "one copy is asked for in any case");
    bench.run(by(SUPER), set("node-0", Wanted::InService, 0)).result.unwrap();
    bench.run(by(SUPER), set("node-2", Wanted::InService, 0)).result.unwrap();
    assert_eq!(minimum(&bench), 2);
    bench.check();
}

#[test]
fn a_maintenance_ends_by_the_time_of_the_log_and_a_retry_does_not_make_it_longer() {
    let mut bench = Bench::new();
    bench.elapsed_ms = 0;
    let from = From { user: SUPER, session: Some((session(1), 1, 1)) };
    let now_ms = bench.namespace.log_time_ms();
    bench.run(from, set("node-1", Wanted::Maintenance, 1000)).result.unwrap();
    let until_ms = now_ms + 1000;
    assert_eq!(in_force(&bench.namespace), [("node-1".into(), NodeService::Maintenance { until_ms })]);
    assert_eq!(bench.namespace.next_end_of_maintenance_ms(), Some(until_ms));
    bench.elapsed_ms = 999;
    let again = bench.run(from, set("node-1", Wanted::Maintenance, 1000));
    assert!(again.replayed && again.result == Ok(Outcome::Named("node-1".into())));
    assert_eq!(in_force(&bench.namespace).len(), 1);
    bench.check();
    bench.elapsed_ms = 1;
    bench.run(by(SUPER), Op::Tick(Tick {})).result.unwrap();
    assert_eq!((in_force(&bench.namespace), bench.namespace.next_end_of_maintenance_ms()), (vec![], None));
    bench.check();
    bench.run(by(SUPER), set("node-1", Wanted::Maintenance, u64::MAX)).result.unwrap();
    bench.run(by(SUPER), set("node-2", Wanted::Maintenance, 0)).result.unwrap();
    let forever = NodeService::Maintenance { until_ms: 0 };
    assert_eq!(in_force(&bench.namespace)[1], ("node-2".into(), forever));
    bench.check();
}

#[test]
fn i_5_services_are_part_of_images_and_of_the_state_hash() {
    let mut bench = Bench::new();
    // A second disk of a node: the service is said once.
    let disk = proto::log::RegisterStorage {
        storage: "DS-9".into(),
        node: "node-1".into(),
        media: "SSD".into(),
        rack: "/r".into(),
    };
    bench.run(by(SUPER), Op::RegisterStorage(disk)).result.unwrap();
    let before = image_of(&bench.namespace);
    bench.run(by(SUPER), set("node-1", Wanted::Maintenance, 5000)).result.unwrap();
    let with = image_of(&bench.namespace);
    let loaded = Namespace::read_from(&mut with.as_slice()).unwrap();
    assert_eq!(in_force(&loaded), in_force(&bench.namespace));
    assert_eq!(loaded.state_hash(), bench.namespace.state_hash());
    assert!(with.len() > before.len() + 4);
    // Of two states that differ in nothing else the hashes differ.
    let mut other = Bench::new();
    other.namespace = Namespace::read_from(&mut with.as_slice()).unwrap();
    let node = proto::ids::NodeId::parse("node-1").unwrap();
    let hash = other.namespace.state_hash();
    other.namespace.registry.set_service(node, NodeService::Maintenance { until_ms: 1 });
    assert_ne!(other.namespace.state_hash(), hash);
    bench.check();
}
