//! Calls to the namenodes: one connection to each, deadlines, retries with the same number, failover.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base::clock::{Clock, Moment};
use base::random::Randomness;
use parking_lot::Mutex;
use proto::common::RequestHeader;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::methods::Method;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use crate::address::{ClusterAddress, HostPort};
use crate::retry::{ATTEMPT_TIMEOUT, Attempts, Next, Verdict, judge};
use crate::session::{CallNumber, Session};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest answer: a page of a listing, or the blocks of a very large file.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A connection to a namenode.
type Stub = tonic::client::Grpc<Channel>;

/// The namenodes, as this client reaches them.
#[derive(Debug)]
pub(crate) struct Rpc {
    namenodes: Vec<Namenode>,
    preferred: AtomicUsize,
    ever_connected: AtomicBool,
    user: String,
    /// How long a cluster that was never reached is tried.
    patience: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Randomness>,
}

#[derive(Debug)]
struct Namenode {
    address: HostPort,
    endpoint: Endpoint,
    stub: Mutex<Option<Stub>>,
}

/// One call: what it is called in messages, its end, and its number if it changes something.
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static str,
    pub(crate) until: Moment,
    pub(crate) session: Option<&'a Arc<Session>>,
}

/// Why an attempt brought no answer.
struct Failed {
    error: FsError,
    verdict: Verdict,
    /// No namenode was reached at all.
    unreached: bool,
}

impl Rpc {
    pub(crate) fn new(
        address: &ClusterAddress,
        user: String,
        patience: Duration,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Randomness>,
    ) -> FsResult<Self> {
        let namenode = |address: &HostPort| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .map_err(|error| FsError::new(ErrorCode::InvalidArgument, format!("{address}: {error}")))?
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true);
            Ok(Namenode { address: address.clone(), endpoint, stub: Mutex::new(None) })
        };
        let namenodes = address.namenodes().iter().map(namenode).collect::<FsResult<_>>()?;
        let (preferred, ever_connected) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Self { namenodes, preferred, ever_connected, user, patience, clock, random })
    }

    /// Makes a call, in as many attempts as it needs; the header is filled in here.
    pub(crate) async fn call<M: Method>(&self, call: Call<'_>, request: &M) -> FsResult<M::Answer> {
        let begun = self.clock.now();
        let number = match call.session {
            Some(session) => Some(session.begin().await),
            None => None,
        };
        let mut attempts = Attempts::new(call.operation, number.is_some());
        loop {
            let failed = match self.attempt(&call, number.as_ref(), request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if matches!(failed.verdict, Verdict::Again { elsewhere: true, .. }) {
                self.preferred.fetch_add(1, Ordering::Relaxed);
            }
            let patient = !failed.unreached || self.ever_connected.load(Ordering::Relaxed);
            let until = if patient { call.until } else { call.until.min(begun.plus(self.patience)) };
            let now = self.clock.now();
            match attempts.failed(failed.error, failed.verdict, until, now, self.random.as_ref()) {
                Next::AfterPause(pause) => tokio::time::sleep(pause).await,
                Next::End(error) => return Err(error),
            }
        }
    }

    async fn attempt<M: Method>(
        &self,
        call: &Call<'_>,
        number: Option<&CallNumber>,
        request: &M,
    ) -> Result<M::Answer, Failed> {
        let left = call.until.since(self.clock.now()).min(ATTEMPT_TIMEOUT);
        let namenode = self.namenode();
        let stub = self.connect(namenode, left).await?;
        self.ever_connected.store(true, Ordering::Relaxed);
        let mut request = request.clone();
        request.set_header(self.header(number, left));
        let error = match tokio::time::timeout(left, send(stub, request)).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => {
                if status.details().is_empty() {
                    // Not a refusal of the namenode: the connection itself failed.
                    *namenode.stub.lock() = None;
                }
                explained(&status, namenode)
            }
            Err(elapsed) => {
                *namenode.stub.lock() = None;
                let text = format!("{} at {} was not answered in time ({elapsed})", call.operation, namenode.address);
                FsError::new(ErrorCode::Timeout, text).with_hint("try again")
            }
        };
        Err(Failed { verdict: judge(&error), error, unreached: false })
    }

    fn namenode(&self) -> &Namenode {
        let at = self.preferred.load(Ordering::Relaxed) % self.namenodes.len().max(1);
        // A cluster address names at least one namenode.
        &self.namenodes[at]
    }

    async fn connect(&self, namenode: &Namenode, within: Duration) -> Result<Stub, Failed> {
        if let Some(stub) = namenode.stub.lock().clone() {
            return Ok(stub);
        }
        let refused = |why: String| Failed {
            error: FsError::new(
                ErrorCode::Unavailable,
                format!("cannot reach the cluster: {why} ({})", namenode.address),
            )
            .with_hint("start a local one with `blockyard dev`, or name another with --fs"),
            // Nothing was sent.
            verdict: Verdict::Again { elsewhere: true, doubtful: false },
            unreached: true,
        };
        match tokio::time::timeout(within, namenode.endpoint.connect()).await {
            Ok(Ok(channel)) => {
                let stub = Stub::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
                Ok(namenode.stub.lock().get_or_insert(stub).clone())
            }
            Ok(Err(error)) => Err(refused(root_cause(&error))),
            Err(_) => Err(refused("no answer in time".to_owned())),
        }
    }

    fn header(&self, number: Option<&CallNumber>, left: Duration) -> RequestHeader {
        let mut header = RequestHeader {
            protocol_version: proto::PROTOCOL_VERSION,
            user: self.user.clone(),
            request_id: format!("{:016x}", self.random.next_u64()),
            deadline_ms: left.as_millis() as u64,
            ..RequestHeader::default()
        };
        if let Some(number) = number {
            header.session = bytes::Bytes::copy_from_slice(number.session_id().as_bytes());
            header.call = number.number();
            header.lowest_unanswered = number.lowest_unanswered();
        }
        header
    }
}

/// One attempt over gRPC.
async fn send<M: Method>(mut stub: Stub, request: M) -> Result<tonic::Response<M::Answer>, tonic::Status> {
    stub.ready().await.map_err(|error| tonic::Status::unavailable(root_cause(&error)))?;
    let path = PathAndQuery::from_static(M::GRPC_PATH);
    stub.unary(tonic::Request::new(request), path, tonic_prost::ProstCodec::default()).await
}

/// Our refusal if the status carries one; otherwise what the connection says, with the address.
fn explained(status: &tonic::Status, namenode: &Namenode) -> FsError {
    let mut error = FsError::from_status(status);
    if status.details().is_empty() {
        if error.code == ErrorCode::Internal {
            // The transport reports broken connections as unknown or internal errors.
            error.code = ErrorCode::Unavailable;
        }
        error.message = format!("the connection to {} failed: {}", namenode.address, status.message());
        error.hint = format!("check that a namenode of Blockyard listens on {}", namenode.address);
    }
    error
}

/// The innermost error says what happened; the outer ones only where.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
