//! The gRPC door: the open one. The client's service, the datanodes' service, health and reflection.
//!
//! ```text
//!   port ─▶ Incoming (place, activity) ─▶ tonic ─┬▶ Namespace, Cluster ─▶ desk
//!                                                ├▶ grpc.health.v1.Health: can it serve, now?
//!                                                └▶ reflection: the schemas, for tools without them
//! ```

mod activity;
mod health;
mod incoming;

use std::time::Duration;

use base::http::Readiness;
use base::task::CancellationToken;
use proto::cluster as c;
use proto::cluster::cluster_server::{Cluster, ClusterServer};
use proto::error::{ErrorCode, FsError};
use proto::framing::{MAX_CALLS, MAX_REQUEST_BYTES};
use proto::namespace as n;
use proto::namespace::namespace_server::{Namespace, NamespaceServer};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;

pub(super) use activity::Activity;
pub(super) use incoming::Incoming;

use super::desk::Desk;
use super::{Carrier, Peer};
use crate::service::request::{Request, Response, WrongAnswer};

/// Longest message of a datanode: a part of a full report.
const NODE_MESSAGE_BYTES: usize = 16 << 20;

/// Services that reflection lists; the schemas describe one more, between namenodes, that is not served here.
const SERVED: [&str; 3] = [
    <NamespaceServer<()> as NamedService>::NAME,
    <ClusterServer<()> as NamedService>::NAME,
    <HealthServer<()> as NamedService>::NAME,
];

/// Serves connections that the port hands over, until the token is cancelled; then calls under way are answered.
pub(super) async fn serve(
    desk: Desk,
    ready: Readiness,
    incoming: mpsc::Receiver<Incoming>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let door = Grpc { desk };
    let mut server = Server::builder()
        .max_concurrent_streams(u32::try_from(MAX_CALLS).unwrap_or(u32::MAX))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .add_service(NamespaceServer::new(door.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(ClusterServer::new(door).max_decoding_message_size(NODE_MESSAGE_BYTES))
        .add_service(health::server(ready, stop.clone()));
    let described = || {
        SERVED
            .iter()
            .fold(tonic_reflection::server::Builder::configure(), |builder, name| builder.with_service_name(*name))
            .register_encoded_file_descriptor_set(proto::SERVICES)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (described().build_v1(), described().build_v1alpha()) {
        (Ok(now), Ok(older)) => server = server.add_service(now).add_service(older),
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "there is no reflection: the schemas are damaged"),
    }
    let incoming = ReceiverStream::new(incoming).map(Ok::<_, std::io::Error>);
    server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await
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
        let activity = request.extensions().get::<Activity>().cloned();
        let unknown = || Peer::new("unknown", Carrier::Grpc);
        let peer = activity.as_ref().map_or_else(unknown, |activity| activity.peer().clone());
        let _call = activity.as_ref().map(Activity::begin);
        let answer = self.desk.call(request.into_inner().into(), &peer).await;
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
