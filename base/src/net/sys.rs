//! System calls that std does not offer.

use std::io;
use std::os::fd::BorrowedFd;

use crate::moved::{Move, note};

/// Sends `len_bytes` of a file to a socket without copying through user space.
///
/// # Errors
/// The system's; `UnexpectedEof` if the file ends before.
pub fn send_file(socket: BorrowedFd<'_>, file: BorrowedFd<'_>, offset_bytes: u64, len_bytes: u64) -> io::Result<()> {
    let mut offset = offset_bytes;
    let mut left = len_bytes;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::sendfile(socket, file, Some(&mut offset), count) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                note(Move::SendFile, n);
                left -= n as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends bytes and tells the kernel that more follows at once, so that both leave in one segment.
///
/// # Errors
/// The system's.
pub fn send_more(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    use rustix::net::SendFlags;
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::MORE | SendFlags::NOSIGNAL) {
            Ok(n) => {
                note(Move::Send, n);
                bytes = bytes.get(n..).unwrap_or_default();
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
