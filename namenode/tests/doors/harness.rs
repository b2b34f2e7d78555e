//! A namenode in this process, and callers of both carriers.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base::net::TcpStream;
use base::task::CancellationToken;
use namenode::config::NamenodeConfig;
use namenode::server::{Running, start};
use prost::Message;
use proto::PROTOCOL_VERSION;
use proto::common::{ErrorDetail, RequestHeader};
use proto::error::FsError;
use proto::framing::{Decoder, Head, Kind, Side, preamble, put, put_bare};
use proto::methods::Method;
use proto::namespace as n;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

/// Longest wait for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn header() -> Option<RequestHeader> {
    Some(RequestHeader { protocol_version: PROTOCOL_VERSION, user: "ana".into(), ..Default::default() })
}

/// Header of a numbered call.
pub(crate) fn numbered(session: u8, call: u64) -> Option<RequestHeader> {
    let session = vec![session; 16].into();
    header().map(|header| RequestHeader { session, call, lowest_unanswered: call, ..header })
}

pub(crate) fn config(dir: &Path) -> NamenodeConfig {
    NamenodeConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        http: "127.0.0.1:0".parse().unwrap(),
        dir: dir.join("namenode"),
        superuser: "ana".into(),
        ..NamenodeConfig::default()
    }
}

/// A namenode that leads.
pub(crate) struct Namenode {
    pub(crate) running: Running,
}

impl Namenode {
    pub(crate) async fn start(config: NamenodeConfig) -> Self {
        super::audit::listen();
        let running = start(config, CancellationToken::new()).await.unwrap();
        let this = Self { running };
        let mut caller = this.framed().await;
        let deadline = tokio::time::Instant::now() + SOON;
        while let Err(error) = caller.ask(&n::ServerInfoRequest { header: header() }).await {
            assert!(error.retryable(), "{error}");
            assert!(tokio::time::Instant::now() < deadline, "the namenode does not lead: {error}");
            tokio::task::yield_now().await;
        }
        this
    }
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address
    }
    pub(crate) async fn framed(&self) -> Framed {
        Framed::connect(self.address()).await
    }
    pub(crate) async fn grpc(&self) -> Grpc {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address())).unwrap();
        Grpc { stub: tonic::client::Grpc::new(endpoint.connect().await.unwrap()) }
    }
    pub(crate) async fn connect(&self) -> TcpStream {
        base::net::dial("127.0.0.1", self.address().port(), SOON).await.unwrap()
    }
    pub(crate) async fn stop(self) {
        self.running.shutdown.cancel();
        tokio::time::timeout(SOON, self.running.join).await.unwrap().unwrap().unwrap();
    }
}

/// What a server said to a call.
pub(crate) type Said = (Head, Vec<u8>);

/// A caller of the framed carrier that can do everything wrong.
pub(crate) struct Framed {
    pub(crate) stream: TcpStream,
    decoder: Decoder,
    last: u64,
}

impl Framed {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut stream = base::net::dial("127.0.0.1", address.port(), SOON).await.unwrap();
        stream.write_all(&preamble()).await.unwrap();
        Self { stream, decoder: Decoder::new(Side::Client), last: 0 }
    }
    /// The frame of the next call.
    pub(crate) fn frame<M: Method>(&mut self, request: &M) -> Vec<u8> {
        self.frame_of(M::NUMBER, request)
    }
    /// The frame of the next call, with any message.
    pub(crate) fn frame_of(&mut self, method: u32, message: &impl Message) -> Vec<u8> {
        self.last += 1;
        let mut out = Vec::new();
        put(&mut out, Head { call: self.last, kind: Kind::Request, method }, message).unwrap();
        out
    }
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }
    pub(crate) async fn cancel(&mut self, call: u64) {
        let mut out = Vec::new();
        put_bare(&mut out, Head { call, kind: Kind::Cancel, method: 0 });
        self.send(&out).await;
    }
    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some((frame.head, frame.message.to_vec()));
            }
            let read =
                tokio::time::timeout(SOON, self.stream.read_buf(self.decoder.buffer())).await.expect("an answer");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
    /// One call, alone on the connection.
    pub(crate) async fn ask<M: Method>(&mut self, request: &M) -> Result<M::Answer, FsError> {
        let frame = self.frame(request);
        self.send(&frame).await;
        let (head, message) = self.next().await.expect("an answer");
        assert_eq!((head.call, head.method), (self.last, M::NUMBER));
        result(head, &message)
    }
}

/// What a frame means to the caller.
pub(crate) fn result<A: Message + Default>(head: Head, message: &[u8]) -> Result<A, FsError> {
    match head.kind {
        Kind::Answer => Ok(A::decode(message).unwrap()),
        _ => Err(FsError::from_detail(ErrorDetail::decode(message).unwrap())),
    }
}

/// A caller of gRPC.
pub(crate) struct Grpc {
    stub: tonic::client::Grpc<Channel>,
}

impl Grpc {
    pub(crate) async fn ask<M: Method>(&mut self, request: &M) -> Result<M::Answer, FsError> {
        self.ask_with::<M, M>(request.clone()).await
    }
    /// A call with any message.
    pub(crate) async fn ask_with<M: Method, Q: Message + 'static>(&mut self, message: Q) -> Result<M::Answer, FsError> {
        self.stub.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<Q, M::Answer>::default();
        let path = PathAndQuery::from_static(M::GRPC_PATH);
        let answered = self.stub.unary(tonic::Request::new(message), path, codec).await;
        answered.map(tonic::Response::into_inner).map_err(|status| FsError::from_status(&status))
    }
}
