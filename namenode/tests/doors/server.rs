//! Start, stop, restart, and what is refused at the start.

use base::task::CancellationToken;
use namenode::config::NamenodeConfig;
use namenode::server::start;
use proto::PROTOCOL_VERSION;
use proto::common::RequestHeader;
use proto::error::{ErrorCode, FsError};
use proto::namespace as n;

use super::harness::{Framed, Namenode, config, header};

async fn mkdir(caller: &mut Framed, path: &str) -> Result<n::FileStatus, FsError> {
    let request = n::MkdirRequest { header: header(), path: path.into(), mode: 0o755, ..Default::default() };
    caller.ask(&request).await.map(|answer| answer.status.unwrap())
}

async fn stat(caller: &mut Framed, path: &str) -> Result<n::FileStatus, FsError> {
    let request = n::StatRequest { header: header(), path: path.into(), no_follow: false };
    caller.ask(&request).await.map(|answer| answer.status.unwrap())
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    assert!(namenode.running.formatted);
    let cluster = namenode.running.cluster.clone();
    let mut caller = namenode.framed().await;
    assert_eq!(stat(&mut caller, "/tmp").await.unwrap().mode, 0o1777);
    assert_eq!(stat(&mut caller, "/user/ana").await.unwrap().owner, "ana");
    let made = mkdir(&mut caller, "/a").await.unwrap();
    assert_eq!(stat(&mut caller, "/a").await.unwrap(), made);
    assert_eq!(mkdir(&mut caller, "/a").await.unwrap_err().code, ErrorCode::AlreadyExists);
    assert_eq!(stat(&mut caller, "/b").await.unwrap_err().code, ErrorCode::NotFound);
    namenode.stop().await;
    let namenode = Namenode::start(config(dir.path())).await;
    assert!(!namenode.running.formatted);
    assert_eq!(namenode.running.cluster, cluster);
    assert_eq!(stat(&mut namenode.framed().await, "/a").await.unwrap(), made);
    namenode.stop().await;
}

#[tokio::test]
async fn a_client_of_another_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let mut caller = namenode.framed().await;
    let header = header().map(|header| RequestHeader { protocol_version: PROTOCOL_VERSION + 1, ..header });
    let request = n::StatRequest { header, path: "/".into(), no_follow: false };
    let error = caller.ask(&request).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::VersionMismatch);
    assert!(!error.hint.is_empty());
    let error = caller.ask(&n::StatRequest { header: None, ..request }).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    namenode.stop().await;
}

#[tokio::test]
async fn a_folder_in_use_and_an_open_address_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let second = start(config(dir.path()), CancellationToken::new()).await.unwrap_err();
    assert!(second.to_string().contains("in use"), "{second}");
    let taken = NamenodeConfig { listen: namenode.address(), ..config(dir.path()) };
    let busy = start(taken, CancellationToken::new()).await.unwrap_err();
    assert!(format!("{busy}").contains("another process"), "{busy}");
    let open = NamenodeConfig { listen: "0.0.0.0:0".parse().unwrap(), ..config(dir.path()) };
    let refused = start(open, CancellationToken::new()).await.unwrap_err();
    assert!(refused.to_string().contains("loopback"), "{refused}");
    namenode.stop().await;
}
