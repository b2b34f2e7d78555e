//! Data connections: what passes is counted (see [`crate::moved`]), long parts are received with one call.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use bytes::{Buf, BufMut, BytesMut};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::BlockingStream;
use crate::moved::{Move, note};

/// A blocking connection whose bytes are counted.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a>(pub &'a BlockingStream);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.0;
        let received = stream.read(buffer)?;
        note(Move::Receive, received);
        Ok(received)
    }

    /// Waits in the kernel until everything is there: as a rule one call, however the bytes arrive.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` if the peer ends before; `WouldBlock` if nothing at all came within the time limit of
    /// a receive.
    fn read_exact(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match rustix::net::recv(self.0.as_fd(), &mut *buffer, RecvFlags::WAITALL) {
                Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, received)) => {
                    note(Move::Receive, received);
                    buffer = buffer.get_mut(received..).unwrap_or_default();
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.0;
        let sent = stream.write(bytes)?;
        note(Move::Send, sent);
        Ok(sent)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives at most `most_bytes` more into a buffer; 0 at the end.
///
/// # Errors
/// The connection's.
///
/// # Cancel safety
/// Nothing is lost if the future is dropped.
pub async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    inbox: &mut BytesMut,
    most_bytes: usize,
) -> io::Result<usize> {
    inbox.reserve(most_bytes);
    let received = stream.read_buf(&mut inbox.limit(most_bytes)).await?;
    note(Move::Receive, received);
    Ok(received)
}

/// Sends all of some bytes.
///
/// # Errors
/// The connection's.
///
/// # Cancel safety
/// If the future is dropped, some of the bytes may be sent: the connection is of no use any more.
pub async fn send_all(stream: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        send_some(stream, &mut bytes).await?;
    }
    Ok(())
}

/// Sends some of what a buffer holds, and takes it from there.
///
/// # Errors
/// The connection's; `WriteZero` if it takes nothing any more.
///
/// # Cancel safety
/// Nothing is lost or sent twice if the future is dropped.
pub async fn send_some(stream: &mut (impl AsyncWrite + Unpin), bytes: &mut impl Buf) -> io::Result<()> {
    match stream.write_buf(bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        sent => {
            note(Move::Send, sent);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_long_part_is_waited_for_and_an_early_end_is_told() {
        let listener = crate::net::listen_blocking(([127, 0, 0, 1], 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ours = Arc::new(crate::net::dial_blocking("127.0.0.1", port, Duration::from_secs(5)).unwrap());
        let theirs = listener.accept().unwrap().0;
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for piece in bytes.chunks(7001) {
                    Counted(&theirs).write_all(piece).unwrap();
                }
                theirs.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut whole = vec![0; bytes.len() - 1];
            Counted(&ours).read_exact(&mut whole).unwrap();
            assert!(whole == bytes[..whole.len()]);
            let error = Counted(&ours).read_exact(&mut [0; 2]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        });
        // And silence ends it.
        let theirs = crate::net::dial_blocking("127.0.0.1", port, Duration::from_secs(5)).unwrap();
        theirs.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let error = Counted(&theirs).read_exact(&mut [0; 2]).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    }
}
