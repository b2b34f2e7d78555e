//! `grpc.health.v1.Health`: the standard question of load balancers and probes.
//!
//! The answer is readiness, as on `/readyz`, and it is of the moment of the question. Known are the whole server (the
//! empty name) and the client's service. The datanodes' service is not: they must reach it before anything is ready.

use std::pin::Pin;
use std::time::Duration;

use base::http::Readiness;
use base::task::CancellationToken;
use proto::namespace::namespace_server::NamespaceServer;
use tokio_stream::Stream;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Time between two looks of a watcher.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const NAMESPACE: &str = <NamespaceServer<()> as NamedService>::NAME;

/// The service.
pub(super) fn server(ready: Readiness, stop: CancellationToken) -> HealthServer<impl Health> {
    HealthServer::new(Answers { ready, stop })
}

#[derive(Clone)]
struct Answers {
    ready: Readiness,
    stop: CancellationToken,
}

impl Answers {
    fn status_of(&self, service: &str) -> ServingStatus {
        match service {
            "" | NAMESPACE if self.stop.is_cancelled() || (self.ready)().is_err() => ServingStatus::NotServing,
            "" | NAMESPACE => ServingStatus::Serving,
            _ => ServingStatus::ServiceUnknown,
        }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

#[tonic::async_trait]
impl Health for Answers {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match self.status_of(&request.into_inner().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("this service is not known here")),
            status => Ok(Response::new(answer(status))),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (this, service) = (self.clone(), request.into_inner().service);
        let changes = futures_util::stream::unfold(None, move |told| {
            let (this, service) = (this.clone(), service.clone());
            async move {
                loop {
                    let status = this.status_of(&service);
                    if told != Some(status) {
                        return Some((Ok(answer(status)), Some(status)));
                    }
                    tokio::select! {
                        () = this.stop.cancelled() => return None,
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
