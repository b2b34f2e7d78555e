//! A namenode that follows a script, over both carriers.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use base::net::{TcpListener, TcpStream};
use client::{Carrier, ErrorCode, FsError};
use proto::framing::{Decoder, Frame, Head, Kind, Side, preamble, put};
use proto::methods::Method;
use proto::namespace as n;
use proto::namespace::namespace_server::{Namespace, NamespaceServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::{Script, Step};

#[derive(Clone)]
struct Fake(Arc<Script>);

impl Fake {
    async fn made(&self, request: n::MkdirRequest) -> Result<Response<n::MkdirResponse>, Status> {
        match self.0.next(request) {
            Step::Accept => Ok(Response::new(n::MkdirResponse { status: Some(n::FileStatus::default()) })),
            Step::Hollow => Ok(Response::new(n::MkdirResponse::default())),
            Step::Refuse(code) => Err(FsError::new(code, "as scripted").to_status()),
            Step::Decide(code) => Err(FsError::new(code, "as scripted").decided().to_status()),
            Step::Vanish => Err(Status::unavailable("connection reset")),
            Step::Silence => std::future::pending().await,
            Step::Farewell | Step::Garble => Err(FsError::new(ErrorCode::NotLeader, "as scripted").to_status()),
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

/// Starts it.
pub(super) async fn serve(carrier: Carrier, steps: impl IntoIterator<Item = Step>) -> (SocketAddr, Arc<Script>) {
    let script = Arc::new(Script::new(steps));
    let listener = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    match carrier {
        Carrier::Grpc => {
            let server = tonic::transport::Server::builder()
                .add_service(NamespaceServer::new(Fake(Arc::clone(&script))))
                .serve_with_incoming(TcpIncoming::from(listener));
            tokio::spawn(server);
        }
        Carrier::Framed => {
            tokio::spawn(accept(listener, Arc::clone(&script)));
        }
    }
    (address, script)
}

async fn accept(listener: TcpListener, script: Arc<Script>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, Arc::clone(&script)));
    }
}

/// One framed connection; it ends when the script says so.
async fn connection(mut stream: TcpStream, script: Arc<Script>) {
    let mut decoder = Decoder::new(Side::Server);
    let mut out = preamble().to_vec();
    while stream.read_buf(decoder.buffer()).await.unwrap_or(0) > 0 {
        while let Some(frame) = decoder.next_frame().unwrap() {
            if !answer(frame, &script, &mut out) {
                // What was said before still counts.
                drop(stream.write_all(&out).await);
                return;
            }
        }
        stream.write_all(&out).await.unwrap();
        out.clear();
    }
}

/// Answers a frame; false ends the connection.
fn answer(frame: Frame<'_>, script: &Script, out: &mut Vec<u8>) -> bool {
    let Head { call, kind, method } = frame.head;
    let refuse = |out: &mut Vec<u8>, kind, call, code| {
        put(out, Head { call, kind, method }, &FsError::new(code, "as scripted").to_detail()).unwrap();
    };
    if kind == Kind::Cancel {
        script.cancelled.lock().unwrap().push(call);
        return true;
    }
    if method != n::MkdirRequest::NUMBER {
        refuse(out, Kind::Refusal, call, ErrorCode::Unsupported);
        return true;
    }
    let request = <n::MkdirRequest as prost::Message>::decode(frame.message).unwrap();
    match script.next(request) {
        Step::Accept => {
            let answer = n::MkdirResponse { status: Some(n::FileStatus::default()) };
            put(out, Head { call, kind: Kind::Answer, method }, &answer).unwrap();
        }
        Step::Hollow => put(out, Head { call, kind: Kind::Answer, method }, &n::MkdirResponse::default()).unwrap(),
        Step::Refuse(code) => refuse(out, Kind::Refusal, call, code),
        Step::Decide(code) => {
            let detail = FsError::new(code, "as scripted").decided().to_detail();
            put(out, Head { call, kind: Kind::Refusal, method }, &detail).unwrap();
        }
        Step::Garble => {
            // A text that is no message where the answer has one.
            let garbage = proto::common::Block { pool: "\u{7f}".repeat(9), ..Default::default() };
            put(out, Head { call, kind: Kind::Answer, method }, &garbage).unwrap();
        }
        Step::Vanish => return false,
        Step::Farewell => {
            refuse(out, Kind::GoingAway, call - 1, ErrorCode::Unavailable);
            return false;
        }
        Step::Silence => {}
    }
    true
}
