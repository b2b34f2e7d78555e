//! The gRPC door: the client's service and the datanodes' service on one port.

use std::time::Duration;

use proto::cluster as c;
use proto::cluster::cluster_server::{Cluster, ClusterServer};
use proto::error::{ErrorCode, FsError};
use proto::namespace as n;
use proto::namespace::namespace_server::{Namespace, NamespaceServer};
use tonic::transport::Server;
use tonic::transport::server::Router;

use super::desk::Desk;
use crate::service::request::{Request, Response, WrongAnswer};

/// Longest message of a client: paths are at most 8,000 bytes.
const CLIENT_MESSAGE_BYTES: usize = 1 << 20;
/// Longest message of a datanode: a part of a full report.
const NODE_MESSAGE_BYTES: usize = 16 << 20;
/// Calls under way on one connection.
const STREAMS: u32 = 1024;

/// The services behind a desk, with their limits.
#[must_use]
pub fn router(desk: Desk) -> Router {
    let door = Grpc { desk };
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .add_service(NamespaceServer::new(door.clone()).max_decoding_message_size(CLIENT_MESSAGE_BYTES))
        .add_service(ClusterServer::new(door).max_decoding_message_size(NODE_MESSAGE_BYTES))
}

#[derive(Clone, Debug)]
struct Grpc {
    desk: Desk,
}

impl Grpc {
    async fn call<Q, A>(&self, request: tonic::Request<Q>) -> Result<tonic::Response<A>, tonic::Status>
    where
        Q: Into<Request>,
        A: TryFrom<Response, Error = WrongAnswer>,
    {
        let address = request.remote_addr().map_or_else(|| "unknown".to_owned(), |peer| peer.ip().to_string());
        let answer = self.desk.call(request.into_inner().into(), &address).await;
        let kind = |wrong: WrongAnswer| FsError::new(ErrorCode::Internal, wrong.to_string());
        match answer.and_then(|response| A::try_from(response).map_err(kind)) {
            Ok(answer) => Ok(tonic::Response::new(answer)),
            Err(error) => Err(error.to_status()),
        }
    }
}

macro_rules! service {
    ($service:ident { $($method:ident($request:path) -> $response:path;)* }) => {
        #[tonic::async_trait]
        impl $service for Grpc {
            $(async fn $method(&self, request: tonic::Request<$request>) -> Result<tonic::Response<$response>, tonic::Status> {
                self.call(request).await
            })*
        }
    };
}

macro_rules! namespace_service {
    ($($number:literal $name:ident $method:ident($request:ident -> $response:ident) = $command:literal;)*) => {
        service!(Namespace { $($method(n::$request) -> n::$response;)* });
    };
}
proto::client_methods!(namespace_service);

service!(Cluster {
    register(c::RegisterRequest) -> c::RegisterResponse;
    heartbeat(c::HeartbeatRequest) -> c::HeartbeatResponse;
    incremental_report(c::IncrementalReportRequest) -> c::IncrementalReportResponse;
    report_hashes(c::ReportHashesRequest) -> c::ReportHashesResponse;
    report_buckets(c::ReportBucketsRequest) -> c::ReportBucketsResponse;
});
