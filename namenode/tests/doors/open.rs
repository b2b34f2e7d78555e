//! What only gRPC has: health and reflection.

use proto::namespace::namespace_server::NamespaceServer;
use tokio_stream::StreamExt;
use tonic::server::NamedService;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::harness::{Namenode, config};

async fn channel(namenode: &Namenode) -> Channel {
    Channel::from_shared(format!("http://{}", namenode.address())).unwrap().connect().await.unwrap()
}

fn question(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_says_serving_when_it_serves_and_knows_its_services() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let mut health = HealthClient::new(channel(&namenode).await);
    for service in ["", <NamespaceServer<()> as NamedService>::NAME] {
        let mut watched = health.watch(question(service)).await.unwrap().into_inner();
        // It leads already, and leaves safe mode a moment later.
        while watched.next().await.unwrap().unwrap().status() != ServingStatus::Serving {}
        assert_eq!(health.check(question(service)).await.unwrap().into_inner().status(), ServingStatus::Serving);
    }
    let unknown = health.check(question("a.stranger")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let mut watched = health.watch(question("")).await.unwrap().into_inner();
    assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    namenode.running.shutdown.cancel();
    assert!(watched.next().await.is_none_or(|last| last.is_err() || last.unwrap().status() != ServingStatus::Serving));
    drop((watched, health));
    namenode.stop().await;
}

#[tokio::test]
async fn reflection_shows_the_services_and_their_messages() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let mut reflection = ServerReflectionClient::new(channel(&namenode).await);
    let questions = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("blockyard.namespace.v1.StatRequest".to_owned()),
        MessageRequest::FileContainingSymbol("blockyard.log.v1.Entry".to_owned()),
    ];
    let questions = questions
        .map(|message_request| ServerReflectionRequest { host: String::new(), message_request: Some(message_request) });
    let mut answers = reflection.server_reflection_info(tokio_stream::iter(questions)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(services)) = answers.next().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["blockyard.namespace.v1.Namespace", "blockyard.cluster.v1.Cluster", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert!(!names.contains(&"blockyard.cluster.v1.Peer"), "what is not served is not listed");
    let found = answers.next().await.unwrap().unwrap().message_response;
    assert!(matches!(found, Some(MessageResponse::FileDescriptorResponse(_))), "{found:?}");
    // What the doors do not speak is not shown: either as an error in the stream, or as one that ends it.
    let hidden = answers.next().await.unwrap();
    let shown = matches!(&hidden, Ok(answer) if matches!(answer.message_response, Some(MessageResponse::FileDescriptorResponse(_))));
    assert!(!shown, "{hidden:?}");
    drop((answers, reflection));
    namenode.stop().await;
}
