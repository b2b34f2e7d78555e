//! Files that another process opened and handed over as descriptors: they are read at positions, and nothing else.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags};

use crate::moved::{Move, note};

/// A file that was handed over.
#[derive(Debug)]
pub struct PassedFile(File);

impl From<OwnedFd> for PassedFile {
    fn from(descriptor: OwnedFd) -> Self {
        Self(File::from(descriptor))
    }
}

impl PassedFile {
    /// Fills `buffer` from `offset_bytes` on if that takes no wait: everything is in the page cache. False: it is not, or
    /// the file ends before, or its file system cannot tell; then `buffer` holds anything.
    ///
    /// # Errors
    /// The system's.
    pub fn read_now(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<bool> {
        let want = buffer.len();
        match rustix::io::preadv2(&self.0, &mut [IoSliceMut::new(buffer)], offset_bytes, ReadWriteFlags::NOWAIT) {
            Ok(read) => {
                note(Move::Read, read);
                Ok(read == want)
            }
            // A kernel, or a fence around this process, that does not know the call: the ordinary one is made then.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR | Errno::NOSYS | Errno::PERM | Errno::INVAL) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Fills `buffer` from `offset_bytes` on. Blocks.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` if the file ends before.
    pub fn read_exact(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset_bytes)?;
        note(Move::Read, buffer.len());
        Ok(())
    }

    /// Can nothing be written through it?
    ///
    /// # Errors
    /// The system's.
    pub fn is_read_only(&self) -> io::Result<bool> {
        Ok(rustix::fs::fcntl_getfl(&self.0)? & OFlags::ACCMODE == OFlags::RDONLY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cached_is_read_at_once_and_the_end_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [7; 5000]).unwrap();
        let file = PassedFile::from(OwnedFd::from(File::open(&path).unwrap()));
        assert!(file.is_read_only().unwrap());
        let mut buffer = [0; 1000];
        file.read_exact(&mut buffer, 4000).unwrap();
        assert_eq!(buffer, [7; 1000]);
        // Whether the file system can tell is its own affair; what it gives is right, and never less than asked for.
        let mut at_once = [0; 1000];
        assert!(!file.read_now(&mut at_once, 100).unwrap() || at_once == [7; 1000]);
        assert!(!file.read_now(&mut at_once, 4001).unwrap());
        assert_eq!(file.read_exact(&mut buffer, 4001).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let writable = File::options().read(true).write(true).open(&path).unwrap();
        assert!(!PassedFile::from(OwnedFd::from(writable)).is_read_only().unwrap());
    }
}
