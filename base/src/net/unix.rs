//! Unix sockets, and descriptors that travel over them.
//!
//! ```text
//!   send_passing ══ bytes + SCM_RIGHTS ══▶ receive_passing      the receiver owns copies; the sender's stay its own
//! ```
//!
//! The simulation has no descriptors: what has none ([`crate::disk::DiskFile::descriptor`]) is not handed over.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::Interest;

pub use tokio::net::UnixStream;

use crate::disk::dir_of;

/// Longest path of a socket: `sun_path` has 108 bytes, and a zero ends it.
pub const MAX_PATH_BYTES: usize = 107;
/// Most descriptors that one message may carry here.
pub const MAX_PASSED: usize = 4;
/// Bytes received at a time.
const RECEIVE_BYTES: usize = 4096;

/// A listening Unix socket; its name goes when it is dropped.
#[derive(Debug)]
pub struct UnixListener {
    listener: tokio::net::UnixListener,
    path: PathBuf,
    /// Device and inode of the name, so that nobody else's is removed.
    identity: (u64, u64),
}

/// Listens at a path. A socket that a dead process left there is replaced; a living one is not. `mode` says who may
/// connect: writing to the name is what it takes.
///
/// # Errors
/// The system's, with the path and what to do in its text: a path that is too long or relative, a name that is taken, a
/// folder in which anybody could put a socket of his own.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let explain =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()));
    check_path(path).and_then(|()| clear(path)).map_err(explain)?;
    let listener = tokio::net::UnixListener::bind(path).map_err(explain)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(explain)?;
    let meta = fs::symlink_metadata(path).map_err(explain)?;
    Ok(UnixListener { listener, path: path.to_path_buf(), identity: (meta.dev(), meta.ino()) })
}

/// Can a socket have this path?
///
/// # Errors
/// `InvalidInput`, saying why not.
pub fn check_path(path: &Path) -> io::Result<()> {
    let len = path.as_os_str().as_bytes().len();
    let refuse = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if len > MAX_PATH_BYTES {
        return refuse(format!("the path has {len} bytes, a socket's at most {MAX_PATH_BYTES}: choose a shorter one"));
    }
    if !path.is_absolute() {
        return refuse("the path is not absolute".to_owned());
    }
    Ok(())
}

/// Makes sure that the name is free, and that its folder is not everybody's.
fn clear(path: &Path) -> io::Result<()> {
    let dir = dir_of(path);
    if fs::metadata(&dir)?.mode() & 0o002 != 0 {
        let text =
            format!("everybody may write to {}, and so put a socket there: choose another folder", dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let taken = |text: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(meta) if !meta.file_type().is_socket() => taken("something that is no socket has this name: choose another"),
        Ok(_) if is_listened(path)? => taken("another process listens there: stop it or choose another path"),
        Ok(_) => fs::remove_file(path),
    }
}

/// Does a process listen there? Never waits: one that is stopped, with a full queue, listens too.
fn is_listened(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl UnixListener {
    /// The next connection.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Cancel safety
    /// No connection is lost if the future is dropped.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnixListener {
    fn drop(&mut self) {
        let ours = |meta: &fs::Metadata| (meta.dev(), meta.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| ours(&meta))
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "a socket's name stays behind");
        }
    }
}

/// Connects to a socket.
///
/// # Errors
/// The system's; `TimedOut`.
///
/// # Cancel safety
/// Dropping the future closes the half-made connection.
pub async fn dial(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let connected = tokio::time::timeout(timeout, UnixStream::connect(path)).await;
    connected.map_err(|elapsed| io::Error::new(io::ErrorKind::TimedOut, elapsed.to_string()))?
}

/// User and process at the other end, as the kernel knows them; the process may be unknown.
///
/// # Errors
/// The system's.
pub fn peer(stream: &UnixStream) -> io::Result<(u32, Option<i32>)> {
    let peer = stream.peer_cred()?;
    Ok((peer.uid(), peer.pid()))
}

/// Sends bytes, and with the first of them copies of descriptors, at most [`MAX_PASSED`].
///
/// # Errors
/// The system's.
///
/// # Cancel safety
/// Some of it may have been sent: the connection is useless if the future is dropped.
pub async fn send_passing(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        stream.writable().await?;
        let (rest, passed) = (bytes.get(sent..).unwrap_or_default(), if sent == 0 { descriptors } else { &[] });
        match stream.try_io(Interest::WRITABLE, || send_once(stream, rest, passed)) {
            Ok(n) => sent += n,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn send_once(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PASSED))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(rustix::net::sendmsg(stream, &[IoSlice::new(bytes)], &mut control, flags)?)
}

/// Sends bytes at once, all or none of them.
///
/// # Errors
/// The system's; `WouldBlock` if the peer takes nothing in. After `WriteZero` a part was sent and the connection is useless.
pub fn send_now(stream: &UnixStream, bytes: &[u8]) -> io::Result<()> {
    let sent = send_once(stream, bytes, &[])?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives what is there, at least a byte, and the descriptors that came with it; 0 at the end.
///
/// # Errors
/// The system's.
///
/// # Cancel safety
/// Nothing is lost if the future is dropped.
pub async fn receive_passing(
    stream: &UnixStream,
    inbox: &mut BytesMut,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, || receive_once(stream, inbox, descriptors)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            other => return other,
        }
    }
}

fn receive_once(stream: &UnixStream, inbox: &mut BytesMut, descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PASSED))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [0; RECEIVE_BYTES];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags)?.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    inbox.extend_from_slice(buffer.get(..received).unwrap_or_default());
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passed::PassedFile;
    use std::os::fd::AsFd;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn descriptors_travel_with_their_bytes_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = listen(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let ours = dial(&path, SECOND * 5).await.unwrap();
        let theirs = listener.accept().await.unwrap();
        assert_eq!(peer(&theirs).unwrap(), (rustix::process::getuid().as_raw(), Some(std::process::id() as i32)));

        let write = |name: &str| {
            fs::write(dir.path().join(name), name).unwrap();
            fs::File::open(dir.path().join(name)).unwrap()
        };
        let (a, b) = (write("aa"), write("bb"));
        send_passing(&theirs, b"none", &[]).await.unwrap();
        send_passing(&theirs, b"1", &[a.as_fd(), b.as_fd()]).await.unwrap();
        send_now(&theirs, b"2").unwrap();
        let (mut inbox, mut passed) = (BytesMut::new(), Vec::new());
        while inbox.len() < 5 {
            receive_passing(&ours, &mut inbox, &mut passed).await.unwrap();
        }
        assert_eq!(passed.len(), 2, "no later than their bytes");
        let texts = passed.into_iter().map(|descriptor| {
            let mut text = [0; 2];
            PassedFile::from(descriptor).read_exact(&mut text, 0).unwrap();
            text
        });
        assert_eq!(texts.collect::<Vec<_>>(), [*b"aa", *b"bb"]);
        let mut none = Vec::new();
        while inbox.len() < 6 {
            receive_passing(&ours, &mut inbox, &mut none).await.unwrap();
        }
        assert_eq!((&inbox[..], none.len()), (&b"none12"[..], 0));
        drop((theirs, listener));
        assert_eq!(receive_passing(&ours, &mut inbox, &mut none).await.unwrap(), 0);
        assert!(!path.exists(), "the name goes with the listener");
    }

    #[tokio::test]
    async fn a_dead_ones_socket_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let living = listen(&path, 0o600).unwrap();
        let text = listen(&path, 0o600).unwrap_err().to_string();
        assert!(text.contains("another process listens there"), "{text}");
        drop(living);
        fs::write(&path, "a file").unwrap();
        assert_eq!(listen(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"a file");

        let text = listen(&dir.path().join("x".repeat(108)), 0o600).unwrap_err().to_string();
        assert!(text.contains("at most 107: choose a shorter one"), "{text}");
        assert!(listen(Path::new("s"), 0o600).unwrap_err().to_string().contains("not absolute"));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = listen(&dir.path().join("t"), 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    }

    #[tokio::test]
    async fn an_owner_that_takes_no_connection_is_found_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _stopped = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let connect = || {
            let socket =
                rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
            rustix::net::connect(&socket, &SocketAddrUnix::new(&path).unwrap()).map(|()| socket)
        };
        let queue: Vec<_> = (0..100_000).map_while(|_| connect().ok()).collect();
        assert_eq!(connect().unwrap_err(), Errno::AGAIN, "its queue is full after {}", queue.len());
        let text = listen(&path, 0o600).unwrap_err().to_string();
        assert!(text.contains("another process listens there"), "{text}");
    }

    #[tokio::test]
    async fn a_full_socket_says_so_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let listener = listen(&dir.path().join("s"), 0o600).unwrap();
        let ours = dial(listener.path(), SECOND * 5).await.unwrap();
        let full = (0..10_000).find_map(|_| send_now(&ours, &[0; 8192]).err()).unwrap();
        assert!(matches!(full.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::WriteZero), "{full}");
    }
}
