//! System calls that std does not offer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};

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

/// As [`send_file`], on a socket of which nobody else makes use meanwhile, and tells the two things that it waits for apart:
/// what `reading` gives is held while the file's disk may be waited for, and never while the peer is. The peer may take as
/// long as the socket's time for a send allows.
///
/// # Errors
/// As [`send_file`]; `WouldBlock` if the peer takes nothing for that long. The socket may wait again then, as before.
pub fn send_file_watched<G>(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset_bytes: u64,
    len_bytes: u64,
    reading: impl Fn() -> G,
) -> io::Result<()> {
    // A socket that waits would do so inside the very call that reads the file.
    let _unwaiting = Unwaiting::begin(socket)?;
    let mut offset = offset_bytes;
    let mut left = len_bytes;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
        let sent = {
            let _reading = reading();
            rustix::fs::sendfile(socket, file, Some(&mut offset), count)
        };
        match sent {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                note(Move::SendFile, n);
                left -= n as u64;
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for_room(socket)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A socket that does not wait, until this is dropped.
struct Unwaiting<'a>(BorrowedFd<'a>);

impl<'a> Unwaiting<'a> {
    fn begin(socket: BorrowedFd<'a>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(socket, true)?;
        Ok(Self(socket))
    }
}

impl Drop for Unwaiting<'_> {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::ioctl_fionbio(self.0, false) {
            tracing::error!(%error, "a socket cannot be made to wait again");
        }
    }
}

/// Waits until the peer has taken something, or is gone, for as long as a send may take.
#[allow(unsafe_code, reason = "rustix has poll only with a feature that nothing else here needs")]
fn wait_for_room(socket: BorrowedFd<'_>) -> io::Result<()> {
    let limit = sockopt::socket_timeout(socket, Timeout::Send)?;
    let milliseconds =
        limit.map_or(-1, |limit| i32::try_from(limit.max(Duration::from_millis(1)).as_millis()).unwrap_or(i32::MAX));
    let mut wanted = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which lives on this stack during the call, and a descriptor that `socket` keeps open.
    match unsafe { libc::poll(&raw mut wanted, 1, milliseconds) } {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        n if n > 0 => Ok(()),
        _ => {
            let error = io::Error::last_os_error();
            // Waited for anew by the caller: a signal is no reason to give up.
            if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
        }
    }
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use super::*;

    /// More than the buffers of two sockets hold.
    const BYTES: usize = 24 << 20;
    const PATIENCE: Duration = Duration::from_secs(60);

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }
    fn file() -> (File, Vec<u8>) {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..BYTES).map(|n| (n / 5) as u8).collect();
        file.write_all(&bytes).unwrap();
        (file, bytes)
    }
    fn waits(socket: &TcpStream) -> bool {
        !rustix::fs::fcntl_getfl(socket).unwrap().contains(rustix::fs::OFlags::NONBLOCK)
    }

    struct Held(Arc<AtomicUsize>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn sc_53_a_peer_that_takes_nothing_is_not_taken_for_a_disk_that_does_not_answer() {
        let (ours, mut theirs) = pair();
        let (file, bytes) = file();
        let (entered, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let sending = {
            let (entered, held) = (Arc::clone(&entered), Arc::clone(&held));
            crate::task::thread("sending", move || {
                let reading = || {
                    entered.fetch_add(1, Ordering::SeqCst);
                    held.fetch_add(1, Ordering::SeqCst);
                    Held(Arc::clone(&held))
                };
                send_file_watched(ours.as_fd(), file.as_fd(), 100, BYTES as u64 - 100, reading).unwrap();
                waits(&ours)
            })
            .unwrap()
        };
        let began = Instant::now();
        while entered.load(Ordering::SeqCst) == 0 || held.load(Ordering::SeqCst) > 0 {
            assert!(began.elapsed() < PATIENCE, "the peer is waited for as if it were the disk");
            std::thread::yield_now();
        }
        assert!(!sending.is_finished(), "the peer has read nothing");
        let mut got = vec![0; BYTES - 100];
        theirs.read_exact(&mut got).unwrap();
        assert!(got == bytes[100..], "and it gets every byte");
        assert!(sending.join().unwrap(), "the socket waits again, as before");
        assert_eq!(held.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_peer_that_takes_nothing_for_too_long_is_given_up_and_so_is_a_file_that_is_too_short() {
        let (ours, _theirs) = pair();
        let (file, _) = file();
        ours.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        let send = |from, len| send_file_watched(ours.as_fd(), file.as_fd(), from, len, || ());
        assert_eq!(send(BYTES as u64 - 9, 10).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(send(0, BYTES as u64).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(waits(&ours));
    }
}
