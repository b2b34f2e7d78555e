//! Waits until a role says on its operations page that it can serve.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Time for one look.
const ANSWER: Duration = Duration::from_secs(2);
/// An answer is never longer.
const ANSWER_LIMIT_BYTES: u64 = 64 * 1024;

/// Looks at `/readyz` until it says yes.
///
/// # Errors
/// After `patience`, with the last reasons.
///
/// # Cancel safety
/// Yes.
pub(crate) async fn until_ready(page: SocketAddr, patience: Duration) -> io::Result<()> {
    let mut last = String::from("no answer");
    let wait = async {
        loop {
            match ask(page).await {
                Ok(text) if text.starts_with("HTTP/1.1 200") => return,
                Ok(text) => last = text.rsplit("\r\n").next().unwrap_or_default().trim().to_owned(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let outcome = tokio::time::timeout(patience, wait).await;
    outcome.map_err(|elapsed| {
        io::Error::new(io::ErrorKind::TimedOut, format!("not ready at http://{page}/readyz: {last} ({elapsed})"))
    })
}

async fn ask(page: SocketAddr) -> io::Result<String> {
    let mut stream = base::net::dial(&page.ip().to_string(), page.port(), ANSWER).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {page}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    let read = async { stream.take(ANSWER_LIMIT_BYTES).read_to_string(&mut text).await };
    tokio::time::timeout(ANSWER, read).await.map_err(io::Error::other)??;
    Ok(text)
}
