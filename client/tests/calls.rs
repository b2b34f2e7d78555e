//! Calls over real sockets against a namenode that follows a script: retries, failover, doubt.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start their own servers, and may fail loudly"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Client, ErrorCode, FsError};
use proto::common::RequestHeader;
use proto::namespace as n;
use proto::namespace::namespace_server::{Namespace, NamespaceServer};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// What the namenode does with the next `mkdir`.
enum Step {
    Accept,
    Refuse(ErrorCode),
    /// It takes effect, and the answer is lost.
    Vanish,
}

#[derive(Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    seen: Mutex<Vec<RequestHeader>>,
}

#[derive(Clone)]
struct Fake(Arc<Script>);

impl Fake {
    async fn made(&self, request: n::MkdirRequest) -> Result<Response<n::MkdirResponse>, Status> {
        self.0.seen.lock().unwrap().push(request.header.unwrap());
        let step = self.0.steps.lock().unwrap().pop_front().unwrap_or(Step::Accept);
        match step {
            Step::Accept => Ok(Response::new(n::MkdirResponse { status: Some(n::FileStatus::default()) })),
            Step::Refuse(code) => Err(FsError::new(code, "as scripted").to_status()),
            Step::Vanish => Err(Status::unavailable("connection reset")),
        }
    }
}

macro_rules! service {
    ($($name:ident($request:ident -> $response:ident);)*) => {
        impl Namespace for Fake {
            fn mkdir<'a, 'b>(
                &'a self,
                request: Request<n::MkdirRequest>,
            ) -> Pin<Box<dyn Future<Output = Result<Response<n::MkdirResponse>, Status>> + Send + 'b>>
            where
                'a: 'b,
                Self: 'b,
            {
                Box::pin(self.made(request.into_inner()))
            }
            $(fn $name<'a, 'b>(
                &'a self,
                _: Request<n::$request>,
            ) -> Pin<Box<dyn Future<Output = Result<Response<n::$response>, Status>> + Send + 'b>>
            where
                'a: 'b,
                Self: 'b,
            {
                Box::pin(async { Err(Status::unimplemented("not in the script")) })
            })*
        }
    };
}

macro_rules! all_but_mkdir {
    (1 $first:ident $first_method:ident($first_request:ident -> $first_response:ident) = $first_command:literal;
     2 Mkdir mkdir($mkdir_request:ident -> $mkdir_response:ident) = $mkdir_command:literal;
     $($number:literal $name:ident $method:ident($request:ident -> $response:ident) = $command:literal;)*) => {
        service! {
            $first_method($first_request -> $first_response);
            $($method($request -> $response);)*
        }
    };
}
proto::client_methods!(all_but_mkdir);

async fn serve(steps: impl IntoIterator<Item = Step>) -> (SocketAddr, Arc<Script>) {
    let script = Arc::new(Script { steps: Mutex::new(steps.into_iter().collect()), ..Script::default() });
    let listener = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(NamespaceServer::new(Fake(Arc::clone(&script))))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    (address, script)
}

fn client(addresses: &str, timeout: Duration) -> Client {
    Client::builder().connect(addresses).user("ana").timeout(timeout).patience(timeout).build().unwrap()
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn sc_97_a_retry_repeats_its_number() {
    let steps = [Step::Vanish, Step::Refuse(ErrorCode::SafeMode), Step::Refuse(ErrorCode::Overloaded), Step::Accept];
    let (address, script) = serve(steps).await;
    let client = client(&address.to_string(), LONG);
    client.mkdir("/a", 0o755, false).await.unwrap();
    client.mkdir("/b", 0o755, false).await.unwrap();
    let seen = script.seen.lock().unwrap();
    let numbers: Vec<_> = seen.iter().map(|header| (header.call, header.lowest_unanswered)).collect();
    assert_eq!(numbers, [(1, 1), (1, 1), (1, 1), (1, 1), (2, 2)]);
    assert!(seen.iter().all(|header| header.session == seen[0].session && header.session.len() == 16));
    assert!(seen.iter().all(|header| header.user == "ana" && header.protocol_version == proto::PROTOCOL_VERSION));
}

#[tokio::test]
async fn a_refusal_is_passed_on_at_once() {
    let (address, script) = serve([Step::Refuse(ErrorCode::PermissionDenied)]).await;
    let error = client(&address.to_string(), LONG).mkdir("/a", 0o755, false).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    assert_eq!(script.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn another_namenode_is_asked_when_the_first_does_not_lead_or_answer() {
    let (follower, script) = serve((0..1000).map(|_| Step::Refuse(ErrorCode::NotLeader))).await;
    let (leader, leading) = serve([]).await;
    // Nothing listens on the first one: the port was free a moment ago.
    let unused = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap().local_addr().unwrap();
    let client = client(&format!("blockyard://{unused},{follower},{leader}"), LONG);
    client.mkdir("/a", 0o755, false).await.unwrap();
    client.mkdir("/b", 0o755, false).await.unwrap();
    assert_eq!(script.seen.lock().unwrap().len(), 1, "the leader is remembered");
    assert_eq!(leading.seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn sc_98_doubt_is_said_and_only_doubt() {
    let (address, _) = serve((0..1000).map(|_| Step::Vanish)).await;
    let short = Duration::from_millis(300);
    let error = client(&address.to_string(), short).mkdir("/a", 0o755, false).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::OutcomeUnknown, "{error}");

    let (address, _) = serve((0..1000).map(|_| Step::Refuse(ErrorCode::SafeMode))).await;
    let error = client(&address.to_string(), short).mkdir("/a", 0o755, false).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::SafeMode, "a refusal leaves no doubt");

    let unused = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap().local_addr().unwrap();
    let error = client(&unused.to_string(), short).mkdir("/a", 0o755, false).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable, "nothing was sent");
    assert!(error.message.to_lowercase().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn a_forgotten_session_is_replaced_unless_there_is_doubt() {
    let (address, script) = serve([Step::Refuse(ErrorCode::SessionExpired), Step::Accept]).await;
    client(&address.to_string(), LONG).mkdir("/a", 0o755, false).await.unwrap();
    let seen = script.seen.lock().unwrap().clone();
    assert_ne!(seen[0].session, seen[1].session);
    assert_eq!(seen[1].call, 1);

    let (address, _) = serve([Step::Vanish, Step::Refuse(ErrorCode::SessionExpired)]).await;
    let error = client(&address.to_string(), LONG).mkdir("/a", 0o755, false).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::OutcomeUnknown);
}

#[tokio::test]
async fn calls_that_change_nothing_carry_no_number() {
    let (address, _) = serve([]).await;
    let error = client(&address.to_string(), Duration::from_millis(300)).stat("/a").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unsupported, "{error}");
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_named() {
    let listener = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        }
    });
    let error = client(&address.to_string(), Duration::from_millis(500)).stat("/a").await.unwrap_err();
    assert!(error.retryable() && error.to_string().contains(&address.to_string()), "{error:?}");
}
