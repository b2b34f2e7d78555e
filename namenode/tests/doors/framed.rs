//! The framed door: calls overlap, have deadlines, can be cancelled; nonsense ends a connection and nothing else.

use base::random::{Randomness, SeededRandom};
use proto::PROTOCOL_VERSION;
use proto::cluster::cluster_client::ClusterClient;
use proto::cluster::{RegisterRequest, StorageReport};
use proto::common::RequestHeader;
use proto::error::{ErrorCode, FsError};
use proto::framing::{Head, Kind, MAX_REQUEST_BYTES, preamble, put};
use proto::methods::Method;
use proto::namespace as n;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::audit;
use super::harness::{Framed, Namenode, config, header, numbered, result};

fn mkdir(path: &str) -> n::MkdirRequest {
    n::MkdirRequest { header: header(), path: path.into(), mode: 0o755, ..Default::default() }
}

fn stat(path: &str) -> n::StatRequest {
    n::StatRequest { header: header(), path: path.into(), no_follow: false }
}

/// A call that waits for a while: a file whose block nobody has proven yet is to be completed.
async fn slow_call(namenode: &Namenode, path: &str) -> n::CompleteRequest {
    let endpoint = format!("http://{}", namenode.address());
    let storage = StorageReport {
        storage: "DS-00000000-0000-0000-0000-000000000001".into(),
        media: "DISK".into(),
        capacity_bytes: 1 << 40,
        available_bytes: 1 << 40,
        incarnation: 1,
        ..Default::default()
    };
    let register = RegisterRequest {
        protocol_version: PROTOCOL_VERSION,
        node: "00000000-0000-0000-0000-000000000001".into(),
        host: "somewhere".into(),
        transfer_port: 9866,
        storages: vec![storage],
        ..Default::default()
    };
    ClusterClient::connect(endpoint).await.unwrap().register(register).await.unwrap();
    let create = n::CreateRequest {
        header: numbered(1, 1),
        path: path.into(),
        mode: 0o644,
        replication: 1,
        publish: n::Publish::OnClose.into(),
        with_first_block: true,
        ..Default::default()
    };
    let created = namenode.framed().await.ask(&create).await.unwrap();
    let mut block = created.first_block.unwrap().block.unwrap();
    block.len_bytes = 1;
    let last = Some(n::FinishedBlock { block: Some(block), ..Default::default() });
    n::CompleteRequest { header: numbered(1, 2), inode: created.inode, lease_epoch: created.lease_epoch, last }
}

#[tokio::test]
async fn a_call_that_waits_blocks_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let slow = slow_call(&namenode, "/slow").await;
    let mut caller = namenode.framed().await;
    let mut bytes = caller.frame(&slow);
    bytes.extend(caller.frame(&mkdir("/fast")));
    bytes.extend(caller.frame(&stat("/")));
    caller.send(&bytes).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        let (head, message) = caller.next().await.unwrap();
        calls.push(head.call);
        if head.call == 1 {
            let error = result::<n::CompleteResponse>(head, &message).unwrap_err();
            assert_eq!(error.code, ErrorCode::NotReplicatedYet);
        } else {
            assert_eq!(head.kind, Kind::Answer);
        }
    }
    assert_eq!(calls, [3, 2, 1], "the read at once, then the change, then the one that waited");
    drop(caller);
    namenode.stop().await;
}

#[tokio::test]
async fn many_calls_of_one_write_are_all_answered() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let mut caller = namenode.framed().await;
    let mut bytes = Vec::new();
    for i in 0..500 {
        bytes.extend(caller.frame(&mkdir(&format!("/many{i}"))));
        bytes.extend(caller.frame(&stat("/tmp")));
    }
    caller.send(&bytes).await;
    let mut calls = Vec::new();
    for _ in 0..1000 {
        let (head, message) = caller.next().await.unwrap();
        assert_eq!(head.kind, Kind::Answer, "{:?}", result::<n::StatResponse>(head, &message));
        calls.push(head.call);
    }
    calls.sort_unstable();
    assert!(calls.into_iter().eq(1..=1000));
    assert_eq!(audit::records(&["cmd=mkdirs", "src=/many", "proto=framed", "result=ok"]).len(), 500);
    drop(caller);
    namenode.stop().await;
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_waits() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let mut slow = slow_call(&namenode, "/deadline").await;
    slow.header.as_mut().unwrap().deadline_ms = 20;
    let error = namenode.framed().await.ask(&slow).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Timeout);
    assert!(error.message.contains("20 ms"), "{error}");
    namenode.stop().await;
}

#[tokio::test]
async fn a_cancelled_call_is_abandoned_and_so_are_those_of_a_lost_connection() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let slow = slow_call(&namenode, "/cancelled").await;
    let source = format!("src=/.reserved/.inodes/{}\t", slow.inode);
    let abandoned = || audit::records(&["cmd=completeFile", &source, "proto=framed", "result=abandoned"]).len();
    let mut caller = namenode.framed().await;
    let frame = caller.frame(&slow);
    caller.send(&frame).await;
    caller.cancel(1).await;
    // Of no meaning, and no harm: it is over, it never was.
    caller.cancel(1).await;
    caller.cancel(77).await;
    caller.cancel(0).await;
    caller.ask(&stat("/")).await.unwrap();
    assert_eq!(abandoned(), 1);

    let frame = caller.frame(&slow);
    caller.send(&frame).await;
    drop(caller);
    let deadline = tokio::time::Instant::now() + super::harness::SOON;
    let mut other = namenode.framed().await;
    while abandoned() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "the lost connection was not noticed");
        other.ask(&stat("/")).await.unwrap();
    }
    drop(other);
    namenode.stop().await;
}

/// The farewell that ends a connection.
async fn farewell(caller: &mut Framed) -> (u64, FsError) {
    let (head, message) = caller.next().await.expect("a farewell");
    assert_eq!(head.kind, Kind::GoingAway);
    let error = result::<()>(head, &message).unwrap_err();
    assert!(caller.next().await.is_none(), "the connection ends");
    (head.call, error)
}

#[tokio::test]
async fn a_claimed_length_is_refused_before_the_bytes_come() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let mut caller = namenode.framed().await;
    caller.ask(&stat("/")).await.unwrap();
    let mut head = vec![0; 4];
    head.extend((MAX_REQUEST_BYTES as u32 + 1).to_le_bytes());
    head.extend([0; 16]);
    caller.send(&head).await;
    let (last, error) = farewell(&mut caller).await;
    assert_eq!((last, error.code), (1, ErrorCode::InvalidArgument));
    assert!(error.message.contains("too long"), "{error}");

    // The longest one that may be sent is read.
    let mut caller = namenode.framed().await;
    let long = n::StatRequest { header: header(), path: "x".repeat(MAX_REQUEST_BYTES - 100), no_follow: false };
    assert_eq!(caller.ask(&long).await.unwrap_err().code, ErrorCode::InvalidPath);
    drop(caller);
    namenode.stop().await;
}

#[tokio::test]
async fn numbers_that_do_not_ascend_and_other_versions_end_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let mut caller = namenode.framed().await;
    caller.ask(&stat("/")).await.unwrap();
    let mut again = Vec::new();
    let head = Head { call: 1, kind: Kind::Request, method: n::StatRequest::NUMBER };
    put(&mut again, head, &stat("/")).unwrap();
    caller.send(&again).await;
    assert_eq!(farewell(&mut caller).await.1.code, ErrorCode::InvalidArgument);

    let mut stream = namenode.connect().await;
    stream.write_all(b"byk1\x07\0\0\0").await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert_eq!(said[..8], preamble());
    let text = String::from_utf8_lossy(&said);
    assert!(text.contains("version 7 of the framing, this program speaks 1"), "{text}");
    namenode.stop().await;
}

#[tokio::test]
async fn noise_after_the_preamble_ends_its_connection_only() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let random = SeededRandom::new(11);
    let mut good = namenode.framed().await;
    for round in 0..60_u64 {
        let mut stream = namenode.connect().await;
        let mut noise = vec![0; 1 + random.below(4000) as usize];
        random.fill(&mut noise);
        let mut bytes = preamble().to_vec();
        if round % 3 == 0 {
            // A right checksum, and a message of noise.
            let call = Head { call: 1, kind: Kind::Request, method: 1 + random.below(40) as u32 };
            put(&mut bytes, call, &noise).unwrap();
            bytes.truncate(bytes.len() - usize::from(round % 2 == 0));
        } else {
            bytes.extend(&noise);
        }
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = Vec::new();
        // However it ends.
        drop(stream.read_to_end(&mut said).await);
        good.ask(&stat("/")).await.unwrap();
    }
    drop(good);
    namenode.stop().await;
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_says_farewell() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let slow = slow_call(&namenode, "/stopping").await;
    let mut caller = namenode.framed().await;
    let mut bytes = caller.frame(&slow);
    bytes.extend(caller.frame(&stat("/")));
    caller.send(&bytes).await;
    assert_eq!(caller.next().await.unwrap().0.call, 2);
    namenode.running.shutdown.cancel();
    let (head, message) = caller.next().await.unwrap();
    assert_eq!((head.kind, head.call), (Kind::GoingAway, 2));
    assert_eq!(result::<()>(head, &message).unwrap_err().code, ErrorCode::Unavailable);
    let (head, _) = caller.next().await.unwrap();
    assert_eq!((head.kind, head.call), (Kind::Refusal, 1), "it waited for its proof to the end");
    assert!(caller.next().await.is_none());
    namenode.stop().await;
}

#[tokio::test]
async fn request_ids_and_users_of_any_length_are_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let mut caller = namenode.framed().await;
    let long = RequestHeader { request_id: "i".repeat(100_000), ..header().unwrap() };
    caller.ask(&n::StatRequest { header: Some(long), ..stat("/") }).await.unwrap();
    let long = RequestHeader { user: "u".repeat(100_000), ..header().unwrap() };
    let error = caller.ask(&n::StatRequest { header: Some(long), ..stat("/") }).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    drop(caller);
    namenode.stop().await;
}

#[tokio::test]
async fn a_read_of_many_steps_blocks_no_other() {
    const WIDE: u64 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let mut caller = namenode.framed().await;
    caller.ask(&mkdir("/w")).await.unwrap();
    for first in (0..WIDE).step_by(100) {
        let frames = (first..first + 100).flat_map(|n| caller.frame(&mkdir(&format!("/w/{n}")))).collect::<Vec<_>>();
        caller.send(&frames).await;
        for _ in 0..100 {
            let (head, message) = caller.next().await.unwrap();
            result::<n::MkdirResponse>(head, &message).unwrap();
        }
    }
    // Not the superuser: each directory is asked whether bob may look into it.
    let header = header().map(|header| RequestHeader { user: "bob".into(), ..header });
    let summary = n::ContentSummaryRequest { header, path: "/w".into() };
    let (long, short) = (caller.frame(&summary), caller.frame(&stat("/w")));
    caller.send(&[long, short].concat()).await;
    let (head, message) = caller.next().await.unwrap();
    let status = result::<n::StatResponse>(head, &message).unwrap().status.unwrap();
    assert_eq!(status.children, WIDE, "the status was asked for last and is answered first");
    let (head, message) = caller.next().await.unwrap();
    let seen = result::<n::ContentSummaryResponse>(head, &message).unwrap();
    assert_eq!((seen.directories, seen.files), (WIDE + 1, 0));
    assert_eq!(namenode.grpc().await.ask(&summary).await.unwrap(), seen);
    namenode.stop().await;
}
