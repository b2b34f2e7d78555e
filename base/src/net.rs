//! The network seam of the thin shells: listening, dialling, sendfile. Protocols are pure and live elsewhere.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream, ToSocketAddrs};
use std::time::Duration;

pub use std::net::TcpStream as BlockingStream;
pub use tokio::net::tcp::{OwnedReadHalf as ReadHalf, OwnedWriteHalf as WriteHalf};
pub use tokio::net::{TcpListener, TcpStream};

mod stream;
pub(crate) mod sys;
pub mod unix;

pub use stream::{Counted, receive, send_all, send_some};
pub use sys::{send_file, send_file_watched, send_more};

/// Listens on an address; port 0 takes a free one.
///
/// # Errors
/// The system's, with the address and what to do in its text.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| explain_bind(address, &error))
}

/// Listens for blocking connections.
///
/// # Errors
/// As [`listen`].
pub fn listen_blocking(address: SocketAddr) -> io::Result<StdListener> {
    StdListener::bind(address).map_err(|error| explain_bind(address, &error))
}

fn explain_bind(address: SocketAddr, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; another process holds this port: stop it or choose another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
}

/// Dials with a time-out, for blocking use. Nagle's delay is off.
///
/// # Errors
/// The last address' error; `InvalidInput` if the host has no address.
pub fn dial_blocking(host: &str, port: u16, timeout: Duration) -> io::Result<StdStream> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match StdStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = io::Error::new(error.kind(), format!("connect to {address}: {error}")),
        }
    }
    Err(last)
}

/// Dials from async code. Nagle's delay is off.
///
/// # Errors
/// As [`dial_blocking`]; `TimedOut` after the time-out.
///
/// # Cancel safety
/// Dropping the future closes the half-made connection.
pub async fn dial(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(timeout, TcpStream::connect((host, port)))
        .await
        .map_err(|elapsed| io::Error::new(io::ErrorKind::TimedOut, format!("connect to {host}:{port}: {elapsed}")))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Turns an accepted connection over to a thread of its own: blocking, Nagle's delay off, a limit for each send.
///
/// # Errors
/// The system's.
pub fn into_blocking(stream: TcpStream, send_timeout: Duration) -> io::Result<BlockingStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(send_timeout))?;
    Ok(stream)
}

/// Ends a connection so that the last words sent on it arrive: says "no more", then takes in what still comes.
/// Closing with unread bytes would reset the connection and may destroy what the peer has not read yet.
///
/// Ends after `limit_bytes` or a silence of `patience`, whatever the peer does.
pub fn close_gently(stream: &BlockingStream, limit_bytes: usize, patience: Duration) {
    use std::io::Read;
    let said = stream.shutdown(std::net::Shutdown::Write).and_then(|()| stream.set_read_timeout(Some(patience)));
    let (mut reader, mut buffer, mut left) = (stream, [0; 16 * 1024], limit_bytes);
    while said.is_ok() && left > 0 {
        match reader.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => left = left.saturating_sub(n),
        }
    }
}

/// As [`close_gently`], from async code: says "no more", then takes in what still comes, for `patience` at most.
///
/// # Errors
/// The connection's.
///
/// # Cancel safety
/// Dropping the future ends the courtesy.
pub async fn end_gently(stream: &mut TcpStream, patience: Duration) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.shutdown().await?;
    let mut buffer = [0; 4 * 1024];
    let drained = tokio::time::timeout(patience, async {
        while stream.read(&mut buffer).await? > 0 {}
        Ok(())
    });
    // A peer that goes on sending is cut off.
    drained.await.unwrap_or(Ok(()))
}
