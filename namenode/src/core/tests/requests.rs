//! Every request is answered exactly once, whatever it is and whenever it comes.

use std::path::Path;
use std::time::Duration;

use base::disk::MemDisk;
use proto::cluster as c;
use proto::error::ErrorCode;
use proto::namespace as n;

use super::super::{CoreConfig, Effect};
use super::harness::*;
use crate::service::request::{Request, Response};

/// One of each kind, mostly nonsense.
fn one_of_each() -> Vec<Request> {
    let header = header();
    vec![
        n::ServerInfoRequest { header: header.clone() }.into(),
        mkdir("/tmp/d").into(),
        create("/tmp/f", 9).into(),
        n::AddBlockRequest { header: call(8, 1), ..Default::default() }.into(),
        n::AbandonBlockRequest { header: call(8, 2), ..Default::default() }.into(),
        n::CompleteRequest { header: call(8, 3), last: Some(n::FinishedBlock::default()), ..Default::default() }.into(),
        n::DiscardRequest { header: call(8, 4), ..Default::default() }.into(),
        n::RenameRequest { header: header.clone(), from: "/x".into(), to: "/y".into(), replace: true, exchange: false }
            .into(),
        n::DeleteRequest { header: header.clone(), path: "/x".into(), recursive: true }.into(),
        n::StatRequest { header: header.clone(), path: "/..".into(), no_follow: false }.into(),
        n::ListRequest { header: header.clone(), path: "/".into(), ..Default::default() }.into(),
        n::OpenRequest { header: header.clone(), path: "/x".into(), ..Default::default() }.into(),
        n::RenewLeaseRequest { header: header.clone() }.into(),
        n::ReportBadReplicaRequest { header: header.clone(), ..Default::default() }.into(),
        n::ClusterStatusRequest { header: header.clone() }.into(),
        n::ListNodesRequest { header }.into(),
        Datanode::new(7).registration().into(),
        c::HeartbeatRequest { node: "nobody".into(), ..Default::default() }.into(),
        c::IncrementalReportRequest { node: "nobody".into(), ..Default::default() }.into(),
        c::ReportHashesRequest { node: "nobody".into(), ..Default::default() }.into(),
        c::ReportBucketsRequest { node: "nobody".into(), ..Default::default() }.into(),
    ]
}

#[test]
fn every_kind_of_request_has_one_answer_of_its_kind() {
    let mut bench = Bench::new();
    let tickets: Vec<_> =
        one_of_each().into_iter().map(|request| (request.command(), bench.send("ana", request))).collect();
    bench.settle();
    bench.pass(Duration::from_secs(1));
    assert_eq!((bench.unanswered(), bench.stopped.clone()), (0, None));
    for (command, ticket) in &tickets {
        let answer = &bench.replies[ticket];
        let internal = answer.as_ref().is_err_and(|error| error.code == ErrorCode::Internal);
        assert!(!internal, "{command}: {answer:?}");
    }
    // Datanodes' calls and readers' reports are answered with what to do next, never with an error.
    let good = ["serverInfo", "mkdirs", "listStatus", "renewLease", "clusterStatus", "register", "heartbeat"];
    for (command, ticket) in tickets {
        let expected = good.contains(&command) || command.contains("eport");
        assert_eq!(bench.replies[&ticket].is_ok(), expected, "{command}: {:?}", bench.replies[&ticket]);
    }
}

#[test]
fn a_member_that_does_not_lead_yet_answers_and_promises_nothing() {
    let mut bench = Bench::new();
    bench.pass(Duration::from_secs(1));
    let (disk, config, now) = (bench.disk.clone(), bench.config.clone(), bench.now);
    let before = bench.contents();
    disk.process_died();
    drop(bench);
    let mut bench = Bench::open(config, disk, now);
    bench.disk_is_slow = true;
    bench.settle();
    let tickets: Vec<_> =
        one_of_each().into_iter().map(|request| (request.command(), bench.send("ana", request))).collect();
    bench.settle();
    for (command, ticket) in tickets {
        let answer = bench.replies.get(&ticket).unwrap_or_else(|| panic!("{command} waits"));
        if let Err(error) = answer {
            // What is malformed is refused for that, whoever leads.
            let malformed = [ErrorCode::InvalidArgument, ErrorCode::InvalidPath].contains(&error.code);
            assert!(error.retryable() || malformed, "{command}: {error}");
        } else {
            assert!(["heartbeat", "register"].contains(&command) || command.contains("eport"), "{command}");
        }
    }
    bench.disk_is_slow = false;
    bench.settle();
    assert_eq!(bench.unanswered(), 0);
    assert_eq!(bench.contents(), before, "nothing of it was carried out");
}

#[test]
fn malformed_calls_are_refused_before_anything_is_looked_at() {
    let mut bench = Bench::new();
    let code = |bench: &mut Bench, header| {
        bench.ask::<n::StatResponse>(n::StatRequest { header, path: "/".into(), no_follow: false }).unwrap_err().code
    };
    assert_eq!(code(&mut bench, None), ErrorCode::InvalidArgument);
    let other = header().map(|header| proto::common::RequestHeader { protocol_version: 99, ..header });
    assert_eq!(code(&mut bench, other), ErrorCode::VersionMismatch);
    let odd = call(1, 1).map(|header| proto::common::RequestHeader { session: vec![1; 3].into(), ..header });
    assert_eq!(code(&mut bench, odd), ErrorCode::InvalidArgument);
    let register = c::RegisterRequest { protocol_version: 99, ..Datanode::new(1).registration() };
    assert_eq!(bench.ask::<c::RegisterResponse>(register).unwrap_err().code, ErrorCode::VersionMismatch);
}

#[test]
fn overload_is_refused_and_everything_accepted_is_answered() {
    let mut bench = Bench::with(CoreConfig { max_waiting: 10, max_batch_commands: 3, ..config() }, MemDisk::new());
    bench.disk_is_slow = true;
    let tickets: Vec<_> = (0..40).map(|n| bench.send("ana", mkdir(&format!("/tmp/{n}")))).collect();
    bench.settle();
    let refused: Vec<_> = tickets.iter().filter(|ticket| bench.replies.contains_key(ticket)).collect();
    assert!(!refused.is_empty() && refused.len() < 31, "{}", refused.len());
    for ticket in refused {
        assert_eq!(bench.replies[ticket].as_ref().unwrap_err().code, ErrorCode::Overloaded);
    }
    bench.disk_is_slow = false;
    bench.settle();
    assert_eq!(bench.unanswered(), 0);
    let made = bench.replies.values().filter(|reply| reply.is_ok()).count() as u64;
    let listed: n::ListResponse =
        bench.ask(n::ListRequest { header: header(), path: "/tmp".into(), ..Default::default() }).unwrap();
    assert_eq!(listed.entries.len() as u64, made);
    bench.mkdir("/tmp/afterwards").unwrap();
}

#[test]
fn a_call_that_is_too_long_takes_nobody_with_it() {
    let mut bench = Bench::new();
    let before = bench.send("ana", mkdir("/tmp/a"));
    let long = bench.send("ana", mkdir(&format!("/{}", "x/".repeat(100_000))));
    let after = bench.send("ana", mkdir("/tmp/b"));
    bench.settle();
    assert!(bench.replies[&before].is_ok() && bench.replies[&after].is_ok());
    assert_eq!(bench.replies[&long].as_ref().unwrap_err().code, ErrorCode::NameTooLong);
}

#[test]
fn f_10_a_full_disk_refuses_what_grows_and_deletes_still_work() {
    let disk = MemDisk::new();
    disk.add_device(Path::new(DIR), 1_500_000);
    let mut bench = Bench::with(config(), disk.clone());
    let name = |n: u32| format!("/tmp/{n}{}", "x".repeat(200));
    let mut made = 0;
    let refusal = loop {
        match bench.mkdir(&name(made)) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 20_000, "it never gets full");
    };
    assert_eq!(refusal.code, ErrorCode::NoSpace);
    assert!(!refusal.hint.is_empty());
    assert_eq!((bench.unanswered(), bench.stopped.clone()), (0, None));
    assert!(made > 100, "{made}");
    bench.stat(&name(0)).unwrap();
    for n in 0..made.min(50) {
        bench.delete(&name(n)).unwrap();
    }
    // Room comes back.
    disk.add_device(Path::new(DIR), 1 << 30);
    bench.delete(&name(50)).unwrap();
    bench.pass(Duration::from_secs(5));
    bench.mkdir("/tmp/again").unwrap();
    let mut bench = bench.restart();
    bench.stat("/tmp/again").unwrap();
    assert_eq!(bench.stat(&name(3)).unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn f_10_a_file_that_is_in_its_place_is_flushed_although_the_disk_is_full() {
    let disk = MemDisk::new();
    disk.add_device(Path::new(DIR), 1_500_000);
    let mut bench = Bench::with(config(), disk);
    let mut open = |name: &str, session, publish: n::Publish| {
        let without = n::CreateRequest { with_first_block: false, publish: publish as i32, ..create(name, session) };
        bench.ask::<n::CreateResponse>(without).unwrap()
    };
    let (there, hidden) = (open("/tmp/there", 5, n::Publish::AtOnce), open("/tmp/hidden", 6, n::Publish::OnClose));
    let mut made = 0;
    while bench.mkdir(&format!("/tmp/{made}{}", "x".repeat(200))).is_ok() {
        made += 1;
        assert!(made < 20_000, "it never gets full");
    }
    let mut flush = |session, call_number, file: &n::CreateResponse| {
        let (header, inode, lease_epoch) = (call(session, call_number), file.inode, file.lease_epoch);
        bench.ask::<n::PublishResponse>(n::PublishRequest { header, inode, lease_epoch })
    };
    for call_number in 2..30 {
        flush(5, call_number, &there).unwrap();
    }
    assert_eq!(flush(6, 2, &hidden).unwrap_err().code, ErrorCode::NoSpace, "a name takes room");
    // What was written is not lost for that.
    for (session, call_number, file) in [(5, 30, &there), (6, 3, &hidden)] {
        let (header, inode, lease_epoch) = (call(session, call_number), file.inode, file.lease_epoch);
        let close = n::CompleteRequest { header, inode, lease_epoch, ..n::CompleteRequest::default() };
        bench.ask::<n::CompleteResponse>(close).unwrap();
    }
    bench.stat("/tmp/hidden").unwrap();
}

#[test]
fn devices_are_made_by_superusers_pipes_and_sockets_by_everybody() {
    let mut bench = Bench::new();
    let mut make = |user: &str, kind: n::FileKind| {
        let path = format!("/tmp/{user}-{kind:?}");
        let make = n::MakeNodeRequest { header: header(), path, kind: kind as i32, mode: 0o600, ..Default::default() };
        bench.ask_as::<n::MakeNodeResponse>(user, make)
    };
    for kind in [n::FileKind::BlockDevice, n::FileKind::CharacterDevice] {
        let refused = make("ana", kind).unwrap_err();
        assert_eq!(refused.code, ErrorCode::PermissionDenied);
        assert!(refused.message.contains("only superusers make devices"), "{refused:?}");
        make("root", kind).unwrap();
    }
    for kind in [n::FileKind::Fifo, n::FileKind::Socket] {
        make("ana", kind).unwrap();
    }
}

#[test]
fn n_7_a_repeated_call_takes_effect_once() {
    let mut bench = Bench::new();
    let once = n::MkdirRequest { header: call(4, 1), ..mkdir("/tmp/d") };
    let first: n::MkdirResponse = bench.ask(once.clone()).unwrap();
    let again: n::MkdirResponse = bench.ask(once.clone()).unwrap();
    assert_eq!(first, again);
    // Twice in one batch, and after a restart.
    let twice = n::MkdirRequest { header: call(4, 2), ..mkdir("/tmp/e") };
    let tickets = [bench.send("ana", twice.clone()), bench.send("ana", twice)];
    bench.settle();
    assert_eq!(bench.replies[&tickets[0]], bench.replies[&tickets[1]]);
    let mut bench = bench.restart();
    let late: n::MkdirResponse = bench.ask(once).unwrap();
    assert_eq!(first, late);
}

#[test]
fn n_7_only_what_was_looked_up_in_its_session_is_said_to_be_decided() {
    let mut bench = Bench::new();
    let mut refused = |request: Request| match bench.ask::<Response>(request) {
        Err(error) => (error.code, error.decided),
        Ok(answer) => panic!("{answer:?}"),
    };
    let again = n::MkdirRequest { header: call(4, 1), ..mkdir("/tmp") };
    assert_eq!(refused(again.clone().into()), (ErrorCode::AlreadyExists, true));
    assert_eq!(refused(again.clone().into()), (ErrorCode::AlreadyExists, true), "from memory");
    assert_eq!(refused(mkdir("/tmp").into()), (ErrorCode::AlreadyExists, false), "without a session");
    // An acknowledged call, another version, no datanode: nobody looked whether the call was known.
    let acknowledged =
        |header: proto::common::RequestHeader| proto::common::RequestHeader { lowest_unanswered: 2, ..header };
    let next = n::MkdirRequest { header: call(4, 2).map(acknowledged), ..mkdir("/tmp") };
    assert_eq!(refused(next.into()), (ErrorCode::AlreadyExists, true));
    assert_eq!(refused(again.into()), (ErrorCode::SessionExpired, false));
    let foreign = call(4, 3).map(|header| proto::common::RequestHeader { protocol_version: 99, ..header });
    let foreign = n::MkdirRequest { header: foreign, ..mkdir("/tmp") };
    assert_eq!(refused(foreign.into()), (ErrorCode::VersionMismatch, false));
    assert_eq!(refused(create("/tmp/f", 5).into()), (ErrorCode::NotEnoughNodes, false));
}

#[test]
fn n_7_what_a_deposed_leader_has_in_its_log_is_of_unknown_outcome() {
    let mut bench = Bench::new();
    bench.disk_is_slow = true;
    let mut send = |n: u64| {
        let ticket = bench.send("ana", n::MkdirRequest { header: call(7, n), ..mkdir(&format!("/tmp/{n}")) });
        bench.settle();
        ticket
    };
    // Two entries are under way; the third call waits for one of them.
    let tickets = [send(1), send(2), send(3)];
    let mut out = Vec::new();
    bench.core.abandon_all(&mut out);
    let code = |wanted: &crate::service::request::Ticket| {
        out.iter().find_map(|effect| match effect {
            Effect::Reply { ticket, response: Err(error) } if ticket == wanted => Some(error.code),
            _ => None,
        })
    };
    // Both are repeated with their numbers; only of the last one it is sure that it did not happen.
    let codes = tickets.each_ref().map(code);
    let (unknown, undone) = (Some(ErrorCode::OutcomeUnknown), Some(ErrorCode::NotLeader));
    assert_eq!(codes, [unknown, unknown, undone]);
}

#[test]
fn a_command_that_is_too_long_for_an_entry_is_refused_by_itself() {
    let mut bench = Bench::with(CoreConfig { max_batch_bytes: 1200, ..config() }, MemDisk::new());
    bench.nodes(1);
    let long = format!("/tmp/{}", "a".repeat(250));
    let longer =
        n::RenameRequest { header: call(1, 1), from: long.clone(), to: format!("{long}b"), ..Default::default() };
    let mkdir = |n: u64| n::MkdirRequest { header: call(2, n), ..mkdir(&format!("/tmp/{n:0100}")) };
    // All of them wait together; together they are more than an entry.
    let refused = bench.send("ana", longer);
    let tickets: Vec<_> = (1..=40).map(|n| bench.send("ana", mkdir(n))).collect();
    let before = bench.core.applied;
    bench.settle();
    let error = bench.replies[&refused].clone().unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert!(error.message.contains("too long"), "{error}");
    for ticket in tickets {
        assert!(bench.replies[&ticket].is_ok(), "{:?}", bench.replies[&ticket]);
    }
    assert!(bench.core.applied.raw() - before.raw() >= 4, "several entries");
}
