//! Looks at the operations page of a role.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Time for one look.
const ANSWER: Duration = Duration::from_secs(2);
/// An answer is never longer.
const ANSWER_LIMIT_BYTES: u64 = 1 << 20;

/// The whole answer, head included. `address` is `HOST:PORT`.
///
/// # Errors
/// The connection's; `InvalidInput` for an address that is none; `TimedOut`.
///
/// # Cancel safety
/// Yes.
pub(crate) async fn ask(address: &str, path: &str) -> io::Result<String> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("{address:?} is not HOST:PORT"));
    let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
    let port = port.parse().map_err(|_not_a_number| invalid())?;
    let mut stream = base::net::dial(host.trim_matches(['[', ']']), port, ANSWER).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    let read = async { stream.take(ANSWER_LIMIT_BYTES).read_to_string(&mut text).await };
    tokio::time::timeout(ANSWER, read).await.map_err(io::Error::other)??;
    Ok(text)
}

/// Did it say yes?
pub(crate) fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200")
}
