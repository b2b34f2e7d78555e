//! The network seam of the thin shells: listening, dialling, sendfile. Protocols are pure and live elsewhere.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream, ToSocketAddrs};
use std::time::Duration;

pub use std::net::TcpStream as BlockingStream;
pub use tokio::net::tcp::{OwnedReadHalf as ReadHalf, OwnedWriteHalf as WriteHalf};
pub use tokio::net::{TcpListener, TcpStream};

pub(crate) mod sys;

pub use sys::send_file;

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
