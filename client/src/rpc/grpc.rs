//! Calls over gRPC.

mod raw;

use std::time::Duration;

use parking_lot::Mutex;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::framing::MAX_ANSWER_BYTES;
use proto::methods::Method;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use self::raw::RawCodec;
use super::link::{Trouble, decoded};
use crate::address::HostPort;

/// A connection to a namenode.
type Stub = tonic::client::Grpc<Channel>;

/// The connection to one namenode, made when it is needed.
#[derive(Debug)]
pub(super) struct GrpcLink {
    endpoint: Endpoint,
    /// The current one and its number.
    stub: Mutex<(u64, Option<Stub>)>,
}

impl GrpcLink {
    pub(super) fn new(address: &HostPort, connect_timeout: Duration) -> FsResult<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| FsError::new(ErrorCode::InvalidArgument, format!("{address}: {error}")))?
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true);
        Ok(Self { endpoint, stub: Mutex::default() })
    }

    /// A connection and its number; the one that is there if it was not forgotten.
    pub(super) async fn connect(&self) -> Result<(u64, Stub), Trouble> {
        if let (number, Some(stub)) = &*self.stub.lock() {
            return Ok((*number, stub.clone()));
        }
        let channel = self.endpoint.connect().await.map_err(|error| Trouble::Unreached(root_cause(&error)))?;
        let stub = Stub::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        let mut current = self.stub.lock();
        if current.1.is_none() {
            *current = (current.0 + 1, Some(stub.clone()));
        }
        Ok((current.0, current.1.clone().unwrap_or(stub)))
    }

    /// The next call makes a new connection if this one is the current one.
    pub(super) fn forget(&self, number: u64) {
        let mut current = self.stub.lock();
        if current.0 == number {
            current.1 = None;
        }
    }

    /// One call.
    pub(super) async fn call<M: Method>(
        &self,
        (number, mut stub): (u64, Stub),
        request: M,
    ) -> Result<M::Answer, Trouble> {
        let sent = async {
            stub.ready().await.map_err(|error| tonic::Status::unavailable(root_cause(&error)))?;
            let path = PathAndQuery::from_static(M::GRPC_PATH);
            stub.unary(tonic::Request::new(request), path, RawCodec::default()).await
        };
        match sent.await {
            Ok(answer) => decoded::<M>(answer.into_inner()),
            Err(status) if !status.details().is_empty() => Err(Trouble::Refused(FsError::from_status(&status))),
            Err(status) => {
                // Not a refusal of the namenode: the connection itself failed, or what answers is none.
                self.forget(number);
                let code = match FsError::from_status(&status).code {
                    // The transport reports broken connections as unknown or internal errors.
                    ErrorCode::Internal => ErrorCode::Unavailable,
                    code => code,
                };
                Err(Trouble::Broken(code, status.message().to_owned()))
            }
        }
    }
}

/// The innermost error says what happened; the outer ones only where.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
