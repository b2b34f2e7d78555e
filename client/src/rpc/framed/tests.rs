//! Connections that go wrong, against sockets that do what the test wants.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use base::net::{TcpListener, TcpStream};
use proto::namespace::StatRequest;
use tokio::io::AsyncReadExt;

use super::*;

const SOON: Duration = Duration::from_secs(20);

async fn listener() -> (TcpListener, HostPort) {
    let listener = base::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, HostPort { host: "127.0.0.1".to_owned(), port })
}

/// Makes a call and gives it up once it is in the outbox.
async fn give_up(handle: &Handle, path: &str) {
    let request = StatRequest { path: path.to_owned(), ..StatRequest::default() };
    let call = handle.call(&request);
    tokio::pin!(call);
    tokio::select! {
        biased;
        _ = &mut call => panic!("nobody answers"),
        () = std::future::ready(()) => {}
    }
}

/// Reads until the connection ends.
async fn ends(mut stream: TcpStream) {
    let mut read = Vec::new();
    // Reset or closed, both are its end.
    drop(tokio::time::timeout(SOON, stream.read_to_end(&mut read)).await.expect("the connection ends"));
}

#[tokio::test]
async fn a_silent_connection_is_given_up_although_all_callers_gave_up_before() {
    let (listener, address) = listener().await;
    let link = FramedLink::new(&address, SOON, Duration::from_millis(50));
    let handle = link.connect().await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let calls = async {
        while handle.takes_calls() {
            give_up(&handle, "/a").await;
            // Waits a moment, as callers with a short time-out of their own do.
            drop(tokio::time::timeout(Duration::from_millis(5), handle.call(&StatRequest::default())).await);
        }
    };
    tokio::time::timeout(SOON, calls).await.expect("the connection is given up");
    ends(server).await;
    assert!(link.open().is_none());
}

#[tokio::test]
async fn a_deserted_connection_ends_while_its_write_is_blocked() {
    let (listener, address) = listener().await;
    let link = FramedLink::new(&address, SOON, Duration::from_secs(3600));
    let handle = link.connect().await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let shared = handle.shared();
    // More than the buffers of both sockets hold: nobody reads.
    let path = "x".repeat(60 << 10);
    while shared.outbox_bytes() < 8 << 20 {
        give_up(&handle, &path).await;
        tokio::task::yield_now().await;
    }
    link.forget(&handle);
    drop(handle);
    let ended = async {
        while !shared.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("it ends although nobody reads");
    drop(server);
}

#[tokio::test]
async fn only_the_connection_that_was_silent_is_forgotten() {
    let (listener, address) = listener().await;
    let link = FramedLink::new(&address, SOON, SOON);
    let first = link.connect().await.unwrap();
    link.forget(&first);
    let second = link.connect().await.unwrap();
    link.forget(&first);
    assert!(Arc::ptr_eq(&link.connect().await.unwrap(), &second));
    drop(listener);
}

#[tokio::test]
async fn who_waits_for_a_dial_shares_its_failure() {
    let (listener, address) = listener().await;
    drop(listener);
    let link = Arc::new(FramedLink::new(&address, SOON, SOON));
    let only_one = link.dialling.lock().await;
    let mut calls = base::task::JoinSet::new();
    for _ in 0..5 {
        let link = Arc::clone(&link);
        calls.spawn(async move { matches!(link.connect().await, Err(Trouble::Unreached(_))) });
    }
    // All of them wait for the one that dials.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(only_one);
    while let Some(ended) = calls.join_next().await {
        assert!(ended.unwrap());
    }
    assert_eq!(link.failed.lock().0, 1, "one dial for all");
    assert!(link.connect().await.is_err());
    assert_eq!(link.failed.lock().0, 2, "who comes later dials again");
}
