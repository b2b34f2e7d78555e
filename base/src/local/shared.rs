//! A file that several read at the same time, each where it likes. Calls block.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::{LocalInfo, part};

/// An open file without a position: whatever happens to its name, all see the same one.
#[derive(Debug)]
pub struct SharedFile {
    file: File,
}

impl SharedFile {
    /// Opens a file.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }
    /// What is known of it now.
    ///
    /// # Errors
    /// The system's.
    pub fn info(&self) -> io::Result<LocalInfo> {
        Ok(LocalInfo::of(&self.file.metadata()?))
    }
    /// `want_bytes` from `offset_bytes` on; fewer only at the end.
    ///
    /// # Errors
    /// The system's.
    pub fn read_chunk_at(&self, offset_bytes: u64, want_bytes: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(want_bytes);
        let have = part::read_at(&self.file, &mut buffer, offset_bytes)?;
        buffer.truncate(have);
        Ok(buffer.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LocalWriter, info};
    use super::*;

    #[test]
    fn reads_do_not_move_each_other_and_stay_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let write = |bytes: &[u8]| {
            let mut writer = LocalWriter::create(&path, 0o644).unwrap();
            writer.write(bytes).unwrap();
            writer.finish(&path, true).unwrap();
        };
        write(b"0123456789");
        let file = SharedFile::open(&path).unwrap();
        assert_eq!(file.info().unwrap(), info(&path).unwrap().unwrap());
        assert_eq!(file.read_chunk_at(4, 3).unwrap(), "456");
        assert_eq!(file.read_chunk_at(0, 2).unwrap(), "01");
        assert_eq!(file.read_chunk_at(8, 100).unwrap(), "89");
        assert!(file.read_chunk_at(10, 1).unwrap().is_empty());
        write(b"another");
        assert_eq!(file.read_chunk_at(0, 100).unwrap(), "0123456789");
        assert_ne!(file.info().unwrap().identity, info(&path).unwrap().unwrap().identity);
    }
}
