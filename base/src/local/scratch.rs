//! A local file without a name: bytes that are put aside, and gone with whoever holds them. Calls block.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{part, temporary_name};

/// A file that lost its name when it was made: nobody else finds it, and the system takes its space back when it is dropped,
/// however the process ends. What was never written in it reads as zeros and takes no space.
#[derive(Debug)]
pub struct ScratchFile {
    file: File,
}

impl ScratchFile {
    /// Makes one in a folder that is there.
    ///
    /// # Errors
    /// The system's.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(temporary_name());
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self { file })
    }
    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// The system's; some of the bytes may be there then.
    pub fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset_bytes)
    }
    /// `want_bytes` from `offset_bytes` on; fewer only at the end.
    ///
    /// # Errors
    /// The system's.
    pub fn read_at(&self, offset_bytes: u64, want_bytes: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(want_bytes);
        let have = part::read_at(&self.file, &mut buffer, offset_bytes)?;
        buffer.truncate(have);
        Ok(buffer.freeze())
    }
    /// Gives the room of a range back, where the file system can; then it reads as zeros.
    ///
    /// # Errors
    /// The system's.
    pub fn punch(&self, range: Range<u64>) -> io::Result<()> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, how, range.start, range.end.saturating_sub(range.start)) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
    /// Gives it a length: what is behind is gone, what is new reads as zeros.
    ///
    /// # Errors
    /// The system's.
    pub fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_no_name_and_holes_are_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let file = ScratchFile::create(dir.path()).unwrap();
        assert!(super::super::read_dir(dir.path()).unwrap().is_empty());
        file.write_at(5, b"abc").unwrap();
        assert_eq!(&file.read_at(3, 100).unwrap()[..], b"\0\0abc");
        file.set_len(6).unwrap();
        file.set_len(8).unwrap();
        assert_eq!(&file.read_at(5, 100).unwrap()[..], b"a\0\0");
    }
}
