//! An open file with the standard library's traits.

use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use proto::error::FsResult;
use proto::namespace::FileStatus;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt};

use super::Engine;
use crate::io::into_io;
use crate::{AsyncReader, BlockLocation};

/// A file that is open for reading: [`Read`], [`BufRead`] and [`Seek`], and ranges without moving the position. What
/// it shows is the file as it was when it was opened.
#[derive(Debug)]
pub struct Reader {
    reader: AsyncReader,
    engine: Arc<Engine>,
}

impl Reader {
    pub(super) fn new(reader: crate::Reader, engine: Arc<Engine>) -> Self {
        Self { reader: reader.into_async(), engine }
    }

    /// What is known of the file.
    #[must_use]
    pub const fn status(&self) -> &FileStatus {
        self.reader.get_ref().status()
    }
    /// Length in bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.reader.get_ref().len_bytes()
    }
    /// The blocks and who holds them.
    #[must_use]
    pub fn locations(&self) -> Vec<BlockLocation> {
        self.reader.get_ref().locations()
    }

    /// As [`crate::Reader::read_at`].
    ///
    /// # Errors
    /// As there; `InvalidArgument` inside an async runtime.
    pub fn read_at(&self, offset_bytes: u64, len_bytes: usize) -> FsResult<Bytes> {
        self.engine.run(self.reader.get_ref().read_at(offset_bytes, len_bytes))?
    }

    /// As [`crate::Reader::read_exact_at`].
    ///
    /// # Errors
    /// As there; `InvalidArgument` inside an async runtime.
    pub fn read_exact_at(&self, offset_bytes: u64, len_bytes: usize) -> FsResult<Bytes> {
        self.engine.run(self.reader.get_ref().read_exact_at(offset_bytes, len_bytes))?
    }

    /// As [`crate::Reader::read_ranges`].
    ///
    /// # Errors
    /// As there; `InvalidArgument` inside an async runtime.
    pub fn read_ranges(&self, ranges: &[Range<u64>]) -> FsResult<Vec<Bytes>> {
        self.engine.run(self.reader.get_ref().read_ranges(ranges))?
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.engine.run(self.reader.read(out)).map_err(into_io)?
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.reader.buffered().is_empty() {
            self.engine.run(self.reader.fill_buf()).map_err(into_io)?.map(|_| ())?;
        }
        Ok(self.reader.buffered())
    }

    fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.engine.run(self.reader.seek(to)).map_err(into_io)?
    }
}
