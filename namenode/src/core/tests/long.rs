//! Deletes of large trees and long reads: in steps, with everything else in between.

use std::time::Duration;

use proto::error::{ErrorCode, FsResult};
use proto::namespace as n;

use super::super::Event;
use super::harness::{Bench, call, header, mkdir};
use crate::namespace::walk::NAMES_AT_ONCE;
use crate::service::request::Ticket;

/// Directories of a tree that takes several steps.
const WIDE: u64 = 3 * NAMES_AT_ONCE as u64;
const TREE: &str = "/user/ana/t";

fn with_tree() -> Bench {
    let mut bench = Bench::new();
    bench.mkdir(TREE).unwrap();
    for at in 0..WIDE {
        bench.send("ana", mkdir(&format!("{TREE}/d{at:05}")));
    }
    bench.settle();
    assert_eq!((bench.unanswered(), bench.steps), (0, 0));
    bench
}
fn delete(bench: &mut Bench) -> Ticket {
    let request = n::DeleteRequest { header: header(), path: TREE.into(), recursive: true };
    let ticket = bench.send("ana", request);
    bench.settle();
    ticket
}
fn as_root(bench: &mut Bench, path: &str) {
    bench.ask_as::<n::MkdirResponse>("root", n::MkdirRequest { mode: 0o700, parents: true, ..mkdir(path) }).unwrap();
}
fn chown(bench: &mut Bench, path: &str, owner: &str) {
    let request = n::SetAttributesRequest {
        header: header(),
        path: path.into(),
        owner: Some(owner.into()),
        ..Default::default()
    };
    bench.ask_as::<n::SetAttributesResponse>("root", request).unwrap();
}
fn code(bench: &Bench, ticket: Ticket) -> Option<ErrorCode> {
    bench.replies.get(&ticket).and_then(|reply| reply.as_ref().err()).map(|error| error.code)
}

#[test]
fn a_large_tree_is_deleted_after_its_rights_were_looked_at_in_steps() {
    let mut bench = with_tree();
    let gone = bench.delete(TREE).unwrap();
    assert_eq!((gone.files, gone.directories), (0, WIDE + 1));
    assert!(bench.steps >= WIDE / NAMES_AT_ONCE as u64, "{}", bench.steps);
    assert!(bench.most_looks <= 20 * NAMES_AT_ONCE as u64, "{} looks in one step", bench.most_looks);
    assert_eq!(bench.stat(TREE).unwrap_err().code, ErrorCode::NotFound);
    let steps = bench.steps;
    let mut bench = bench.restart();
    assert_eq!(bench.stat(TREE).unwrap_err().code, ErrorCode::NotFound, "and replay agrees, without a step");
    assert_eq!((bench.steps, steps > 0), (0, true));
}

#[test]
fn a_tree_that_is_deeper_than_a_step_is_deleted_too() {
    let mut bench = Bench::new();
    bench.mkdir(TREE).unwrap();
    let deep = format!("{TREE}{}", "/d".repeat(NAMES_AT_ONCE + 200));
    let made = n::MkdirRequest { parents: true, ..mkdir(&deep) };
    bench.ask_as::<n::MkdirResponse>("ana", made).unwrap();
    let ticket = delete(&mut bench);
    assert!(bench.replies[&ticket].is_ok(), "{:?}", bench.replies[&ticket]);
    assert!(bench.steps > 1);
    assert_eq!(bench.stat(TREE).unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn others_have_their_turn_between_the_steps() {
    let mut bench = with_tree();
    bench.held_up = true;
    let ticket = delete(&mut bench);
    let mut done = 0;
    while bench.step() {
        bench.mkdir(&format!("/user/ana/m{done}")).unwrap();
        bench.stat(&format!("{TREE}/d00000")).map_or_else(|error| assert_eq!(error.code, ErrorCode::NotFound), drop);
        done += 1;
    }
    assert!(done > 2 && bench.replies[&ticket].is_ok(), "{done}");
}

#[test]
fn rights_that_went_while_they_were_looked_at_are_missed() {
    let mut bench = with_tree();
    bench.held_up = true;
    let ticket = delete(&mut bench);
    assert!(bench.step());
    // Behind where the look stands, and not empty: who deletes needs all rights there.
    as_root(&mut bench, &format!("{TREE}/d00001/roots/x"));
    chown(&mut bench, &format!("{TREE}/d00001"), "root");
    bench.held_up = false;
    bench.settle();
    assert_eq!(code(&bench, ticket), Some(ErrorCode::PermissionDenied));
    assert!(bench.replies[&ticket].as_ref().is_err_and(|error| error.path.starts_with(TREE)));
    assert!(bench.stat(TREE).is_ok());
}

#[test]
fn a_tree_that_changes_all_the_time_is_given_up_with_a_word() {
    let mut bench = with_tree();
    bench.held_up = true;
    let ticket = delete(&mut bench);
    let mut changes = 0;
    while bench.step() {
        bench.mkdir(&format!("{TREE}/d00000/{changes}")).unwrap();
        changes += 1;
    }
    let refused = bench.replies[&ticket].clone().unwrap_err();
    assert!(refused.code == ErrorCode::Overloaded && refused.retryable(), "{refused}");
    assert!(!refused.hint.is_empty() && refused.path == TREE);
    assert!((8..100).contains(&changes), "{changes} steps of four looks at the tree");
    // Once it holds still, the same call does it.
    bench.held_up = false;
    assert!(bench.delete(TREE).is_ok());
}

#[test]
fn entries_under_way_are_waited_for_because_they_may_take_rights_away() {
    let mut bench = with_tree();
    as_root(&mut bench, "/user/ana/t/d00003/roots");
    chown(&mut bench, "/user/ana/t/d00003/roots", "ana");
    bench.held_up = true;
    let ticket = delete(&mut bench);
    // In the log, and not applied yet, when the look at the tree ends.
    bench.disk_is_slow = true;
    let owner = Some("root".to_owned());
    let request =
        n::SetAttributesRequest { header: header(), path: format!("{TREE}/d00003"), owner, ..Default::default() };
    let taken = bench.send("root", request);
    bench.settle();
    while bench.step() {}
    assert!(!bench.replies.contains_key(&ticket) && !bench.replies.contains_key(&taken));
    (bench.disk_is_slow, bench.held_up) = (false, false);
    bench.settle();
    assert!(bench.replies[&taken].is_ok());
    assert_eq!(code(&bench, ticket), Some(ErrorCode::PermissionDenied));
}

#[test]
fn a_path_that_leads_to_another_tree_by_then_deletes_nothing() {
    let mut bench = with_tree();
    bench.held_up = true;
    let ticket = delete(&mut bench);
    assert!(bench.step());
    let rename = |from: &str, to: &str| n::RenameRequest {
        header: header(),
        from: from.into(),
        to: to.into(),
        replace: false,
        exchange: false,
    };
    bench.ask::<n::RenameResponse>(rename(TREE, "/user/ana/aside")).unwrap();
    // A small one, in which the caller has every right.
    let made = n::MkdirRequest { parents: true, ..mkdir(&format!("{TREE}/x")) };
    bench.ask_as::<n::MkdirResponse>("ana", made).unwrap();
    bench.held_up = false;
    bench.settle();
    assert_eq!(code(&bench, ticket), Some(ErrorCode::NotFound));
    assert!(bench.stat(&format!("{TREE}/x")).is_ok(), "it is not what was to be deleted");
    assert!(bench.stat("/user/ana/aside").is_ok());
}

#[test]
fn long_reads_are_answered_in_steps() {
    let mut bench = with_tree();
    let ask = |bench: &mut Bench, user: &str| -> FsResult<n::ContentSummaryResponse> {
        bench.ask_as(user, n::ContentSummaryRequest { header: header(), path: TREE.into() })
    };
    let whole = ask(&mut bench, "root").unwrap();
    assert_eq!((whole.directories, bench.steps), (WIDE + 1, 0));
    assert_eq!(ask(&mut bench, "ana").unwrap(), whole);
    assert!(bench.steps >= WIDE / NAMES_AT_ONCE as u64 - 1, "{}", bench.steps);
    assert!(bench.most_looks <= 20 * NAMES_AT_ONCE as u64, "{} looks in one step", bench.most_looks);
}

/// Two directories: a wide one that nobody touches, and one in which something is made all the time.
fn with_busy_tree() -> Bench {
    let mut bench = with_tree();
    bench.mkdir("/user/ana/top").unwrap();
    let (from, to) = (TREE.into(), "/user/ana/top/wide".into());
    bench
        .ask::<n::RenameResponse>(n::RenameRequest { header: header(), from, to, replace: false, exchange: false })
        .unwrap();
    bench.mkdir("/user/ana/top/busy").unwrap();
    bench
}

#[test]
fn a_tree_in_which_directories_are_made_all_the_time_can_be_deleted() {
    let mut bench = with_busy_tree();
    bench.held_up = true;
    let request = n::DeleteRequest { header: header(), path: "/user/ana/top".into(), recursive: true };
    let ticket = bench.send("ana", request);
    bench.settle();
    let mut made = 0;
    while bench.step() {
        if bench.mkdir(&format!("/user/ana/top/busy/{made}")).is_ok() {
            made += 1;
        }
        assert!(made < 100);
    }
    assert!(made > 2 && bench.replies[&ticket].is_ok(), "{made} {:?}", bench.replies[&ticket]);
    assert_eq!(bench.stat("/user/ana/top").unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn rights_that_go_in_a_busy_tree_are_noticed_on_the_spot() {
    let mut bench = with_busy_tree();
    bench.held_up = true;
    let request = n::DeleteRequest { header: header(), path: "/user/ana/top".into(), recursive: true };
    let ticket = bench.send("ana", request);
    bench.settle();
    let mut made = 0;
    while bench.step() {
        if made == 2 {
            as_root(&mut bench, "/user/ana/top/busy/roots/x");
        }
        made += 1;
    }
    assert_eq!(code(&bench, ticket), Some(ErrorCode::PermissionDenied));
    assert!(bench.stat("/user/ana/top").is_ok());
}

#[test]
fn the_same_call_that_comes_again_gets_the_walk_that_is_under_way() {
    let mut bench = with_tree();
    bench.held_up = true;
    let request = || n::DeleteRequest { header: call(9, 1), path: TREE.into(), recursive: true };
    let first = bench.send("ana", request());
    bench.settle();
    assert!(bench.step());
    let again: Vec<Ticket> = (0..3)
        .map(|_| {
            let ticket = bench.send("ana", request());
            bench.settle();
            ticket
        })
        .collect();
    for ticket in [first, again[0], again[1]] {
        assert_eq!(code(&bench, ticket), Some(ErrorCode::Overloaded), "who asked before is told that it came again");
    }
    let mut steps = 1;
    while bench.step() {
        steps += 1;
    }
    assert!(bench.replies[&again[2]].is_ok());
    let alone = {
        let mut bench = with_tree();
        bench.delete(TREE).unwrap();
        bench.steps
    };
    assert_eq!(steps, alone, "one walk for all of them");
}

#[test]
fn a_walk_for_nobody_ends() {
    let mut bench = with_tree();
    bench.held_up = true;
    let read = bench.send("ana", n::ContentSummaryRequest { header: header(), path: TREE.into() });
    let plain = delete(&mut bench);
    let request = || n::DeleteRequest { header: call(9, 1), path: TREE.into(), recursive: true };
    let in_session = bench.send("ana", request());
    bench.settle();
    for ticket in [read, plain, in_session] {
        bench.event(Event::Gone(ticket));
    }
    bench.settle();
    assert_eq!(code(&bench, read), Some(ErrorCode::Timeout));
    // One without a session cannot be asked for again; the other one waits for its caller for a while.
    (0..2).for_each(|_| assert!(bench.step()));
    assert_eq!((code(&bench, plain), bench.replies.contains_key(&in_session)), (Some(ErrorCode::Timeout), false));
    bench.pass(Duration::from_secs(61));
    while bench.step() {}
    assert_eq!(code(&bench, in_session), Some(ErrorCode::Timeout));
    assert!(bench.stat(TREE).is_ok(), "nothing was done");
    bench.held_up = false;
    assert!(bench.ask::<n::DeleteResponse>(request()).is_ok(), "and the same call can still be made");
}
