//! Bad calls of the contract itself, as no client of ours makes them.

use proto::common::RequestHeader;
use proto::error::{ErrorCode, FsError};
use proto::namespace::MkdirRequest;
use proto::namespace::namespace_client::NamespaceClient;
use tests::{Cluster, Options};
use tonic::transport::Channel;

fn header(version: u32, call: u64) -> Option<RequestHeader> {
    Some(RequestHeader {
        protocol_version: version,
        user: "root".to_owned(),
        request_id: format!("test-{call}"),
        session: vec![7; 16].into(),
        call,
        lowest_unanswered: 1,
        deadline_ms: 10_000,
    })
}

async fn mkdir(client: &mut NamespaceClient<Channel>, version: u32, call: u64, path: &str) -> Result<(), FsError> {
    let request = MkdirRequest {
        header: header(version, call),
        path: path.to_owned(),
        mode: 0o755,
        parents: false,
        unmasked_mode: None,
    };
    client.mkdir(request).await.map(drop).map_err(|status| FsError::from_status(&status))
}

#[test]
fn another_version_and_names_with_nul_are_refused_by_name() {
    let cluster = Cluster::with(Options { datanodes: 1, ..Options::default() });
    let address = cluster.ready().fs.replace("blockyard://", "http://");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = NamespaceClient::connect(address).await.unwrap();
        for version in [0, proto::PROTOCOL_VERSION + 1, u32::MAX] {
            let refused = mkdir(&mut client, version, 1, "/never").await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::VersionMismatch, "{refused}");
        }
        for path in ["/a\0b", "//", "/a//b", "/..", "/a/../b", "", "a", &format!("/{}", "n".repeat(300))] {
            let refused = mkdir(&mut client, proto::PROTOCOL_VERSION, 1, path).await.unwrap_err();
            let named = [ErrorCode::InvalidPath, ErrorCode::NameTooLong].contains(&refused.code);
            assert!(named, "{path:?}: {refused}");
        }
        // No header at all is no reason to panic either.
        let bare =
            MkdirRequest { header: None, path: "/never".to_owned(), mode: 0, parents: false, unmasked_mode: None };
        assert!(client.mkdir(bare).await.is_err());
    });
    assert!(!cluster.run(&["stat", "/never"]).status.success());
    assert!(!cluster.logs().contains("panicked"), "{}", cluster.logs());
}
