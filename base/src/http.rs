//! The operations page of every role: `/livez`, `/readyz`, `/metrics` over HTTP/1.1.
//!
//! ```text
//!   GET /livez    200 while the process can answer
//!   GET /readyz   200 when it can serve, else 503 {"ready":false,"reasons":[…]}
//!   GET /metrics  Prometheus text
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::net::TcpListener;

/// Says whether the role can serve: `Err` with the reasons why not, for people.
pub type Readiness = Arc<dyn Fn() -> Result<(), Vec<String>> + Send + Sync>;

#[derive(Clone)]
struct Pages {
    ready: Readiness,
    metrics: Arc<Metrics>,
}

/// Serves the three pages until `stop` is cancelled, then finishes requests under way.
///
/// # Errors
/// The listener's, when it can accept no more.
///
/// # Cancel safety
/// Dropping the future closes the listener at once.
pub async fn serve(
    listener: TcpListener,
    ready: Readiness,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> io::Result<()> {
    axum::serve(listener, router(ready, metrics)).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

/// The three pages as a router, for a role that has more pages of its own.
pub fn router(ready: Readiness, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .with_state(Pages { ready, metrics })
}

async fn readyz(State(pages): State<Pages>) -> Response {
    let (status, body) = match (pages.ready)() {
        Ok(()) => (StatusCode::OK, serde_json::json!({"ready": true, "reasons": []})),
        Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({"ready": false, "reasons": reasons})),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn metrics_page(State(pages): State<Pages>) -> Response {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match pages.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// An address that a server may not listen on yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is not a loopback address, and there is no authentication or encryption yet: anyone who reaches this port \
     could read and change everything. Listen on 127.0.0.1, or add --insecure if the network is trusted"
)]
pub struct NotLoopback {
    /// The address asked for.
    pub address: SocketAddr,
}

/// Refuses addresses that other machines can reach, unless the operator took the risk with `--insecure`.
///
/// # Errors
/// [`NotLoopback`] says why and what to do.
pub fn refuse_non_loopback(address: SocketAddr, insecure: bool) -> Result<(), NotLoopback> {
    if insecure || address.ip().to_canonical().is_loopback() { Ok(()) } else { Err(NotLoopback { address }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn pages_answer_and_stop_ends_the_server() {
        let listener = crate::net::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let ready: Readiness = Arc::new(|| Err(vec!["no \"leader\"".into()]));
        let server = tokio::spawn(serve(listener, ready, Metrics::new("test"), stop.clone()));
        assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let not_ready = fetch(address, "/readyz").await;
        assert!(not_ready.starts_with("HTTP/1.1 503"), "{not_ready}");
        assert!(not_ready.contains(r#""reasons":["no \"leader\""]"#), "{not_ready}");
        let metrics = fetch(address, "/metrics").await;
        assert!(metrics.contains("blockyard_build_info{role=\"test\""), "{metrics}");
        assert!(metrics.contains("process_resident_memory_bytes"), "{metrics}");
        assert!(fetch(address, "/nothing").await.starts_with("HTTP/1.1 404"));
        stop.cancel();
        server.await.unwrap().unwrap();
    }

    #[test]
    fn only_loopback_without_the_flag() {
        for good in ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(refuse_non_loopback(good.parse().unwrap(), false).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[::ffff:10.0.0.1]:1"] {
            let error = refuse_non_loopback(bad.parse().unwrap(), false).unwrap_err();
            assert!(error.to_string().contains("--insecure"));
            assert!(refuse_non_loopback(bad.parse().unwrap(), true).is_ok());
        }
    }
}
