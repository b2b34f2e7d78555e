//! Calls over real sockets against a namenode that follows a script: retries, failover, doubt.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start their own servers, and may fail loudly"
)]

mod fake;
mod files;
mod garbled;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use client::{Carrier, Client, ErrorCode};
use fake::serve;
use proto::common::RequestHeader;
use proto::namespace as n;

/// What the namenode does with the next `mkdir`.
enum Step {
    Accept,
    /// Refused before anyone looks whether the call is known.
    Refuse(ErrorCode),
    /// Refused by the state machine.
    Decide(ErrorCode),
    /// It takes effect, and the answer cannot be read. (gRPC: see `garbled`.)
    Garble,
    /// It takes effect, and the answer lacks what it is about.
    Hollow,
    /// It takes effect, and the answer is lost.
    Vanish,
    /// It does not take effect: the namenode takes no more calls. (gRPC has no such word: refused there.)
    Farewell,
    /// There is no answer, ever.
    Silence,
}

/// Both carriers: what a client does must not depend on them.
const BOTH: [Carrier; 2] = [Carrier::Framed, Carrier::Grpc];

#[derive(Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    seen: Mutex<Vec<RequestHeader>>,
    /// Calls that the client cancelled (framed carrier).
    cancelled: Mutex<Vec<u64>>,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: Mutex::new(steps.into_iter().collect()), ..Self::default() }
    }
    /// Notes a call, and says what becomes of it.
    fn next(&self, request: n::MkdirRequest) -> Step {
        self.seen.lock().unwrap().push(request.header.unwrap());
        self.steps.lock().unwrap().pop_front().unwrap_or(Step::Accept)
    }
}

fn client(carrier: Carrier, addresses: &str, timeout: Duration) -> Client {
    Client::builder()
        .carrier(carrier)
        .connect(addresses)
        .user("ana")
        .timeout(timeout)
        .patience(timeout)
        .build()
        .unwrap()
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn sc_97_a_retry_repeats_its_number() {
    for carrier in BOTH {
        let steps =
            [Step::Vanish, Step::Refuse(ErrorCode::SafeMode), Step::Refuse(ErrorCode::Overloaded), Step::Accept];
        let (address, script) = serve(carrier, steps).await;
        let client = client(carrier, &address.to_string(), LONG);
        client.mkdir("/a", 0o755, false).await.unwrap();
        client.mkdir("/b", 0o755, false).await.unwrap();
        let seen = script.seen.lock().unwrap();
        let numbers: Vec<_> = seen.iter().map(|header| (header.call, header.lowest_unanswered)).collect();
        assert_eq!(numbers, [(1, 1), (1, 1), (1, 1), (1, 1), (2, 2)]);
        assert!(seen.iter().all(|header| header.session == seen[0].session && header.session.len() == 16));
        assert!(seen.iter().all(|header| header.user == "ana" && header.protocol_version == proto::PROTOCOL_VERSION));
    }
}

#[tokio::test]
async fn a_refusal_is_passed_on_at_once() {
    for carrier in BOTH {
        let (address, script) = serve(carrier, [Step::Refuse(ErrorCode::PermissionDenied)]).await;
        let error = client(carrier, &address.to_string(), LONG).mkdir("/a", 0o755, false).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        assert_eq!(script.seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn another_namenode_is_asked_when_the_first_does_not_lead_or_answer() {
    for carrier in BOTH {
        let (follower, script) = serve(carrier, (0..1000).map(|_| Step::Refuse(ErrorCode::NotLeader))).await;
        let (leader, leading) = serve(carrier, []).await;
        // Nothing listens on the first one: the port was free a moment ago.
        let unused = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap().local_addr().unwrap();
        let client = client(carrier, &format!("blockyard://{unused},{follower},{leader}"), LONG);
        client.mkdir("/a", 0o755, false).await.unwrap();
        client.mkdir("/b", 0o755, false).await.unwrap();
        assert_eq!(script.seen.lock().unwrap().len(), 1, "the leader is remembered");
        assert_eq!(leading.seen.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn sc_98_doubt_is_said_and_only_doubt() {
    for carrier in BOTH {
        let (address, _) = serve(carrier, (0..1000).map(|_| Step::Vanish)).await;
        let short = Duration::from_millis(300);
        let error = client(carrier, &address.to_string(), short).mkdir("/a", 0o755, false).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::OutcomeUnknown, "{error}");

        let (address, _) = serve(carrier, (0..1000).map(|_| Step::Refuse(ErrorCode::SafeMode))).await;
        let error = client(carrier, &address.to_string(), short).mkdir("/a", 0o755, false).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::SafeMode, "a refusal leaves no doubt");

        let unused = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap().local_addr().unwrap();
        let error = client(carrier, &unused.to_string(), short).mkdir("/a", 0o755, false).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable, "nothing was sent");
        assert!(error.message.to_lowercase().contains("connection refused"), "{error}");
    }
}

#[tokio::test]
async fn after_doubt_only_what_was_looked_up_is_certain() {
    for carrier in BOTH {
        let end = async |steps: [Step; 2]| {
            let (address, _) = serve(carrier, steps).await;
            client(carrier, &address.to_string(), LONG).mkdir("/a", 0o755, false).await.unwrap_err().code
        };
        assert_eq!(end([Step::Vanish, Step::Decide(ErrorCode::AlreadyExists)]).await, ErrorCode::AlreadyExists);
        for code in [ErrorCode::VersionMismatch, ErrorCode::Corrupt, ErrorCode::Unsupported, ErrorCode::NotFound] {
            assert_eq!(end([Step::Vanish, Step::Refuse(code)]).await, ErrorCode::OutcomeUnknown, "{code:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_asked_for_again() {
    let (address, script) = serve(Carrier::Framed, [Step::Garble]).await;
    client(Carrier::Framed, &address.to_string(), LONG).mkdir("/a", 0o755, false).await.unwrap();
    let numbers: Vec<_> = script.seen.lock().unwrap().iter().map(|header| header.call).collect();
    assert_eq!(numbers, [1, 1], "with the same number");
    let (address, _) = serve(Carrier::Framed, (0..1000).map(|_| Step::Garble)).await;
    let error = client(Carrier::Framed, &address.to_string(), LONG).mkdir("/a", 0o755, false).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::OutcomeUnknown, "{error}");
}

#[tokio::test]
async fn an_answer_over_grpc_that_cannot_be_read_is_not_asked_for_until_the_deadline() {
    let address = garbled::serve().await;
    let client = client(Carrier::Grpc, &address.to_string(), LONG);
    let error = client.stat("/a").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Corrupt, "{error}");
    assert!(error.hint.contains("release") && !error.retryable(), "{error:?}");
    let error = client.mkdir("/a", 0o755, false).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::OutcomeUnknown, "{error}");
}

#[tokio::test]
async fn a_success_that_is_half_told_is_in_doubt() {
    for carrier in BOTH {
        let (address, script) = serve(carrier, [Step::Hollow]).await;
        let error = client(carrier, &address.to_string(), LONG).mkdir("/a", 0o755, false).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::OutcomeUnknown, "{error}");
        assert!(error.message.contains("incomplete"), "{error}");
        assert_eq!(script.seen.lock().unwrap().len(), 1, "it would say the same again");
    }
}

#[tokio::test]
async fn l_10_a_namenode_that_hangs_is_left_for_another_within_the_deadline() {
    for carrier in BOTH {
        let (hanging, silent) = serve(carrier, (0..9).map(|_| Step::Silence)).await;
        let (leader, leading) = serve(carrier, []).await;
        let client = client(carrier, &format!("blockyard://{hanging},{leader}"), Duration::from_secs(4));
        client.mkdir("/a", 0o755, false).await.unwrap();
        client.mkdir("/b", 0o755, false).await.unwrap();
        let numbers = |script: &Script| script.seen.lock().unwrap().iter().map(|head| head.call).collect::<Vec<_>>();
        assert_eq!((numbers(&silent), numbers(&leading)), (vec![1], vec![1, 2]), "with the same number, and for good");
    }
}

#[tokio::test]
async fn a_forgotten_session_is_replaced_unless_there_is_doubt() {
    for carrier in BOTH {
        let (address, script) = serve(carrier, [Step::Refuse(ErrorCode::SessionExpired), Step::Accept]).await;
        client(carrier, &address.to_string(), LONG).mkdir("/a", 0o755, false).await.unwrap();
        let seen = script.seen.lock().unwrap().clone();
        assert_ne!(seen[0].session, seen[1].session);
        assert_eq!(seen[1].call, 1);

        let (address, _) = serve(carrier, [Step::Vanish, Step::Refuse(ErrorCode::SessionExpired)]).await;
        let error = client(carrier, &address.to_string(), LONG).mkdir("/a", 0o755, false).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::OutcomeUnknown);
    }
}

#[tokio::test]
async fn calls_that_change_nothing_carry_no_number() {
    for carrier in BOTH {
        let (address, _) = serve(carrier, []).await;
        let error = client(carrier, &address.to_string(), Duration::from_millis(300)).stat("/a").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unsupported, "{error}");
    }
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_named() {
    for carrier in BOTH {
        let listener = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            }
        });
        let error = client(carrier, &address.to_string(), Duration::from_millis(500)).stat("/a").await.unwrap_err();
        assert!(error.retryable() && error.to_string().contains(&address.to_string()), "{error:?}");
    }
}

#[tokio::test]
async fn a_call_that_a_going_namenode_did_not_take_leaves_no_doubt() {
    let (address, script) = serve(Carrier::Framed, (0..1000).map(|_| Step::Farewell)).await;
    let short = Duration::from_millis(300);
    let error = client(Carrier::Framed, &address.to_string(), short).mkdir("/a", 0o755, false).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable, "{error}");
    assert!(script.seen.lock().unwrap().len() > 1, "it was tried again on a new connection");
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_and_the_connection_serves_the_next() {
    let (address, script) = serve(Carrier::Framed, [Step::Accept, Step::Silence]).await;
    let client = client(Carrier::Framed, &address.to_string(), LONG);
    client.mkdir("/a", 0o755, false).await.unwrap();
    let silent = tokio::time::timeout(Duration::from_millis(100), client.mkdir("/b", 0o755, false)).await;
    assert!(silent.is_err());
    client.mkdir("/c", 0o755, false).await.unwrap();
    assert_eq!(*script.cancelled.lock().unwrap(), [2], "the second call of the one connection");
}

#[tokio::test]
async fn many_calls_share_one_connection_and_answers_find_their_calls() {
    let codes = [ErrorCode::NotFound, ErrorCode::AlreadyExists, ErrorCode::PermissionDenied];
    let steps = (0..300).map(|i| Step::Refuse(codes[i % 3]));
    let (address, script) = serve(Carrier::Framed, steps).await;
    let client = client(Carrier::Framed, &address.to_string(), LONG);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let client = client.clone();
        calls.spawn(async move { client.mkdir("/a", 0o755, false).await.unwrap_err().code });
    }
    let mut ended = calls.join_all().await;
    ended.sort_by_key(|code| *code as u32);
    assert_eq!(ended.chunks(100).map(|chunk| chunk[0]).collect::<Vec<_>>(), codes);
    assert_eq!(script.seen.lock().unwrap().len(), 300);
}
