//! A namenode over its real door: gRPC on a loopback port, files in a temporary folder.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::time::Duration;

use base::task::CancellationToken;
use namenode::config::NamenodeConfig;
use namenode::server::{Running, start};
use proto::PROTOCOL_VERSION;
use proto::common::RequestHeader;
use proto::error::{ErrorCode, FsError};
use proto::namespace as n;
use proto::namespace::namespace_client::NamespaceClient;
use tonic::transport::Channel;

struct Namenode {
    running: Running,
    client: NamespaceClient<Channel>,
}

fn header() -> Option<RequestHeader> {
    Some(RequestHeader { protocol_version: PROTOCOL_VERSION, user: "ana".into(), ..Default::default() })
}

fn config(dir: &std::path::Path) -> NamenodeConfig {
    NamenodeConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        http: "127.0.0.1:0".parse().unwrap(),
        dir: dir.join("namenode"),
        superuser: "ana".into(),
        ..NamenodeConfig::default()
    }
}

impl Namenode {
    async fn start(dir: &std::path::Path) -> Self {
        let running = start(config(dir), CancellationToken::new()).await.unwrap();
        let endpoint = format!("http://{}", running.address);
        let mut client = NamespaceClient::connect(endpoint).await.unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while let Err(status) = client.server_info(n::ServerInfoRequest { header: header() }).await {
            assert!(FsError::from_status(&status).retryable(), "{status}");
            assert!(tokio::time::Instant::now() < deadline, "the namenode does not lead: {status}");
            tokio::task::yield_now().await;
        }
        Self { running, client }
    }
    async fn stop(self) {
        drop(self.client);
        self.running.shutdown.cancel();
        self.running.join.await.unwrap().unwrap();
    }
    async fn mkdir(&mut self, path: &str) -> Result<n::FileStatus, FsError> {
        let request =
            n::MkdirRequest { header: header(), path: path.into(), mode: 0o755, parents: false, unmasked_mode: None };
        let answer = self.client.mkdir(request).await.map_err(|status| FsError::from_status(&status))?;
        Ok(answer.into_inner().status.unwrap())
    }
    async fn stat(&mut self, path: &str) -> Result<n::FileStatus, FsError> {
        let request = n::StatRequest { header: header(), path: path.into(), no_follow: false };
        let answer = self.client.stat(request).await.map_err(|status| FsError::from_status(&status))?;
        Ok(answer.into_inner().status.unwrap())
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start(dir.path()).await;
    assert!(namenode.running.formatted);
    let cluster = namenode.running.cluster.clone();
    assert_eq!(namenode.stat("/tmp").await.unwrap().mode, 0o1777);
    assert_eq!(namenode.stat("/user/ana").await.unwrap().owner, "ana");
    let made = namenode.mkdir("/a").await.unwrap();
    assert_eq!(namenode.stat("/a").await.unwrap(), made);
    assert_eq!(namenode.mkdir("/a").await.unwrap_err().code, ErrorCode::AlreadyExists);
    assert_eq!(namenode.stat("/b").await.unwrap_err().code, ErrorCode::NotFound);
    namenode.stop().await;
    let mut namenode = Namenode::start(dir.path()).await;
    assert!(!namenode.running.formatted);
    assert_eq!(namenode.running.cluster, cluster);
    assert_eq!(namenode.stat("/a").await.unwrap(), made);
    namenode.stop().await;
}

#[tokio::test]
async fn a_client_of_another_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start(dir.path()).await;
    let header = header().map(|header| RequestHeader { protocol_version: PROTOCOL_VERSION + 1, ..header });
    let status = namenode.client.stat(n::StatRequest { header, path: "/".into(), no_follow: false }).await.unwrap_err();
    let error = FsError::from_status(&status);
    assert_eq!(error.code, ErrorCode::VersionMismatch);
    assert!(!error.hint.is_empty());
    let status =
        namenode.client.stat(n::StatRequest { header: None, path: "/".into(), no_follow: false }).await.unwrap_err();
    assert_eq!(FsError::from_status(&status).code, ErrorCode::InvalidArgument);
    namenode.stop().await;
}

#[tokio::test]
async fn a_folder_in_use_and_an_open_address_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(dir.path()).await;
    let second = start(config(dir.path()), CancellationToken::new()).await.unwrap_err();
    assert!(second.to_string().contains("in use"), "{second}");
    let taken = NamenodeConfig { listen: namenode.running.address, ..config(dir.path()) };
    let busy = start(taken, CancellationToken::new()).await.unwrap_err();
    assert!(format!("{busy}").contains("another process"), "{busy}");
    let open = NamenodeConfig { listen: "0.0.0.0:0".parse().unwrap(), ..config(dir.path()) };
    let refused = start(open, CancellationToken::new()).await.unwrap_err();
    assert!(refused.to_string().contains("loopback"), "{refused}");
    namenode.stop().await;
}
