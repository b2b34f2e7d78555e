//! What holds before anybody is asked who they are.

use std::time::Duration;

use base::config::HumanDuration;
use base::net::TcpStream;
use namenode::config::NamenodeConfig;
use proto::common::RequestHeader;
use proto::error::ErrorCode;
use proto::framing::Kind;
use proto::namespace as n;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::{Namenode, SOON, config, header, result};

const SHORT: HumanDuration = HumanDuration(Duration::from_millis(200));
/// HTTP/2's preface and an empty SETTINGS frame.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Waits until the server closes the connection.
async fn closes(stream: &mut TcpStream) {
    let mut said = Vec::new();
    // A reset is an end, too.
    drop(tokio::time::timeout(SOON, stream.read_to_end(&mut said)).await.expect("the server closes it"));
}

#[tokio::test]
async fn a_connection_that_says_nothing_or_half_a_preamble_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(NamenodeConfig { preamble_timeout: SHORT, ..config(dir.path()) }).await;
    for opening in ["", "b", "PR", "hrp", "byk1", "byk1\x01\0"] {
        let mut stream = namenode.connect().await;
        stream.write_all(opening.as_bytes()).await.unwrap();
        closes(&mut stream).await;
    }
    let mut caller = namenode.framed().await;
    // Whoever came after it, and said nothing, has used up this time.
    closes(&mut namenode.connect().await).await;
    caller.ask(&n::ServerInfoRequest { header: header() }).await.unwrap();
    drop(caller);
    namenode.stop().await;
}

#[tokio::test]
async fn strangers_are_closed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let patient = HumanDuration(Duration::from_secs(3600));
    let namenode = Namenode::start(NamenodeConfig { preamble_timeout: patient, ..config(dir.path()) }).await;
    for opening in ["GET / HTTP/1.1\r\n\r\n", "hrpc\x09\0\0", "x", "\x16\x03\x01\x02"] {
        let mut stream = namenode.connect().await;
        stream.write_all(opening.as_bytes()).await.unwrap();
        closes(&mut stream).await;
    }
    namenode.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_with_calls_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(NamenodeConfig { idle_timeout: SHORT, ..config(dir.path()) }).await;
    let (mut busy, mut idle, mut h2) = (namenode.framed().await, namenode.framed().await, namenode.connect().await);
    idle.ask(&n::ServerInfoRequest { header: header() }).await.unwrap();
    h2.write_all(HTTP2).await.unwrap();
    let said = {
        let mut ended = std::pin::pin!(idle.next());
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            assert!(tokio::time::Instant::now() < deadline, "an idle connection stays");
            busy.ask(&n::ServerInfoRequest { header: header() }).await.unwrap();
            tokio::select! {
                biased;
                said = &mut ended => break said,
                () = std::future::ready(()) => {}
            }
        }
    };
    let (head, message) = said.unwrap();
    assert_eq!(head.kind, Kind::GoingAway);
    assert_eq!(result::<()>(head, &message).unwrap_err().code, ErrorCode::Unavailable);
    assert!(idle.next().await.is_none());
    closes(&mut h2).await;
    busy.ask(&n::ServerInfoRequest { header: header() }).await.unwrap();
    drop(busy);
    namenode.stop().await;
}

#[tokio::test]
async fn connections_are_capped_over_both_carriers() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(NamenodeConfig { max_connections: 2, ..config(dir.path()) }).await;
    let info = n::ServerInfoRequest { header: header() };
    // The caller that waited for the start may still hold its place.
    let mut framed = loop {
        let mut caller = namenode.framed().await;
        let frame = caller.frame(&info);
        if caller.stream.write_all(&frame).await.is_ok() && caller.next().await.is_some() {
            break caller;
        }
    };
    let grpc = loop {
        let mut caller = namenode.grpc().await;
        if caller.ask(&info).await.is_ok() {
            break caller;
        }
    };
    for _ in 0..3 {
        closes(&mut namenode.connect().await).await;
    }
    framed.ask(&info).await.unwrap();
    drop(grpc);
    loop {
        let mut caller = namenode.framed().await;
        let frame = caller.frame(&info);
        if caller.stream.write_all(&frame).await.is_ok() && caller.next().await.is_some() {
            break;
        }
    }
    drop(framed);
    namenode.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_not_read_either() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let mut caller = namenode.framed().await;
    let mut bytes = Vec::new();
    for i in 0..500 {
        let path = format!("/tmp/{}{i}", "n".repeat(150));
        bytes.extend(caller.frame(&n::MkdirRequest { header: header(), path, mode: 0o755, ..Default::default() }));
    }
    caller.send(&bytes).await;
    for _ in 0..500 {
        assert_eq!(caller.next().await.unwrap().0.kind, Kind::Answer);
    }

    let padded = RequestHeader { request_id: "i".repeat(100_000), ..header().unwrap() };
    let list = n::ListRequest { header: Some(padded), path: "/tmp".into(), ..Default::default() };
    let (mut sent_bytes, mut calls) = (0, 0);
    const OFFERED_BYTES: usize = 128 << 20;
    let stuck = loop {
        assert!(sent_bytes < OFFERED_BYTES, "the server read {sent_bytes} bytes whose answers nobody reads");
        let frame = caller.frame(&list);
        let mut left = &frame[..];
        let sent = tokio::time::timeout(Duration::from_secs(2), async {
            while !left.is_empty() {
                let n = caller.stream.write(left).await.unwrap();
                left = &left[n..];
            }
        });
        let stuck = sent.await.is_err();
        sent_bytes += frame.len() - left.len();
        if stuck {
            break left.to_vec();
        }
        calls += 1;
    };
    // Others are served, and nothing was lost.
    namenode.framed().await.ask(&n::ServerInfoRequest { header: header() }).await.unwrap();
    let mut last = 500;
    for _ in 0..calls {
        let (head, message) = caller.next().await.unwrap();
        assert_eq!(result::<n::ListResponse>(head, &message).unwrap().entries.len(), 500);
        assert_eq!(head.call, last + 1);
        last = head.call;
    }
    caller.send(&stuck).await;
    assert_eq!(caller.next().await.unwrap().0.call, last + 1);
    drop(caller);
    namenode.stop().await;
}
