//! Calls to the namenodes over gRPC.

use std::time::Duration;

use proto::cluster::cluster_client::ClusterClient;
use proto::error::{ErrorCode, FsError, FsResult};
use tonic::transport::{Channel, Endpoint};

use crate::agent::{Answer, CALL_LIFE, Call};
use crate::config::BadSetting;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest answer: a heartbeat's commands.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The namenodes of the list; connections are made when they are needed, and again when they are lost.
#[derive(Clone, Debug)]
pub(super) struct Namenodes {
    stubs: Vec<ClusterClient<Channel>>,
}

impl Namenodes {
    /// Stubs for `HOST:PORT` each. Needs a tokio runtime; dials nothing.
    pub(super) fn new(addresses: &[String]) -> Result<Self, BadSetting> {
        let stub = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .map_err(|error| BadSetting { key: "namenodes", what: format!("{address:?}: {error}") })?
                .connect_timeout(CONNECT)
                .tcp_nodelay(true);
            Ok(ClusterClient::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_ANSWER_BYTES))
        };
        Ok(Self { stubs: addresses.iter().map(stub).collect::<Result<_, _>>()? })
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.stubs.len()
    }
    /// Makes a call and waits for its answer, no longer than the agent does.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up; the namenode may have taken it.
    pub(super) async fn call(&self, namenode: usize, call: Call) -> FsResult<Answer> {
        let Some(stub) = self.stubs.get(namenode).cloned() else {
            return Err(FsError::new(ErrorCode::Internal, format!("there is no namenode {namenode}")));
        };
        match tokio::time::timeout(CALL_LIFE, answer(stub, call)).await {
            Ok(answer) => answer.map_err(|status| FsError::from_status(&status)),
            Err(elapsed) => Err(FsError::new(ErrorCode::Timeout, format!("the namenode did not answer ({elapsed})"))),
        }
    }
}

async fn answer(mut stub: ClusterClient<Channel>, call: Call) -> Result<Answer, tonic::Status> {
    Ok(match call {
        Call::Register(request) => Answer::Register(stub.register(request).await?.into_inner()),
        Call::Heartbeat(request) => Answer::Heartbeat(stub.heartbeat(request).await?.into_inner()),
        Call::Incremental(request) => Answer::Incremental(stub.incremental_report(request).await?.into_inner()),
        Call::Hashes(request) => Answer::Hashes(stub.report_hashes(request).await?.into_inner()),
        Call::Buckets(request) => Answer::Buckets(stub.report_buckets(request).await?.into_inner()),
    })
}
