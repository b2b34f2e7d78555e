//! The container of an image: header, checksummed chunks, trailer. What the body says is the namespace's matter.
//!
//! ```text
//!   magic(8) version(4) length(4) ImageHeader… crc(4)
//!   length(4) crc(4) bytes…      chunk 0: at most 256 KiB; its checksum covers its number as well
//!   length(4) crc(4) bytes…      chunk 1 …
//!   0(4)      crc(4)             the end
//!   magic(8) body bytes(8) chunks(8) crc of all before the trailer(4) crc of the trailer(4)
//! ```
#![deny(clippy::indexing_slicing)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::DiskFile;
use base::two_slot::crc32c;
use crc_fast::{CrcAlgorithm, Digest};
use prost::Message;
use proto::log::ImageHeader;

use crate::consensus::ImageError;

/// Version of images that this program writes, and the newest that it reads.
pub(super) const VERSION: u32 = 1;
/// Bytes of body in a chunk, at most.
pub(super) const CHUNK_BYTES: usize = 256 << 10;

const MAGIC: [u8; 8] = *b"BYIMAGE\0";
const END_MAGIC: [u8; 8] = *b"BYIMGEND";
const MAX_HEADER_BYTES: u32 = 64 << 10;
const CHUNK_HEAD_BYTES: usize = 8;
const TRAILER_BYTES: usize = 32;
/// The kernel is asked to write back whenever this much is waiting.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// What the trailer says, once the whole file was seen to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) body_bytes: u64,
    /// CRC-32C of everything before the trailer.
    pub(super) digest: u32,
    pub(super) file_bytes: u64,
}

fn chunk_crc(number: u64, data: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&number.to_le_bytes());
    digest.update(data);
    digest.finalize() as u32
}

/// Writes an image: use as `io::Write` for the body, then [`ImageWriter::finish`].
#[derive(Debug)]
pub(super) struct ImageWriter {
    file: Arc<dyn DiskFile>,
    offset: u64,
    flushed: u64,
    chunk: Vec<u8>,
    chunks: u64,
    body_bytes: u64,
    digest: Digest,
}

impl ImageWriter {
    pub(super) fn begin(file: Arc<dyn DiskFile>, header: &ImageHeader) -> io::Result<Self> {
        let digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let chunk = Vec::with_capacity(CHUNK_BYTES);
        let mut writer = Self { file, offset: 0, flushed: 0, chunk, chunks: 0, body_bytes: 0, digest };
        let body = header.encode_to_vec();
        let mut bytes = Vec::with_capacity(body.len() + 20);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&body);
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        writer.put(&bytes)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.offset)?;
        self.digest.update(bytes);
        self.offset += bytes.len() as u64;
        if self.offset - self.flushed >= WRITEBACK_BYTES {
            self.file.start_writeback(self.flushed, self.offset - self.flushed);
            self.flushed = self.offset;
        }
        Ok(())
    }

    fn put_chunk(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        let mut head = Vec::with_capacity(CHUNK_HEAD_BYTES);
        head.extend_from_slice(&u32::try_from(chunk.len()).unwrap_or(u32::MAX).to_le_bytes());
        head.extend_from_slice(&chunk_crc(self.chunks, &chunk).to_le_bytes());
        self.put(&head)?;
        self.put(&chunk)?;
        self.chunks += 1;
        self.body_bytes += chunk.len() as u64;
        self.chunk = chunk;
        self.chunk.clear();
        Ok(())
    }

    /// Ends the image. Not durable yet.
    pub(super) fn finish(mut self) -> io::Result<Totals> {
        if !self.chunk.is_empty() {
            self.put_chunk()?;
        }
        let chunks = self.chunks;
        self.put_chunk()?;
        let digest = self.digest.finalize() as u32;
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend_from_slice(&END_MAGIC);
        trailer.extend_from_slice(&self.body_bytes.to_le_bytes());
        trailer.extend_from_slice(&chunks.to_le_bytes());
        trailer.extend_from_slice(&digest.to_le_bytes());
        let crc = crc32c(&trailer);
        trailer.extend_from_slice(&crc.to_le_bytes());
        self.put(&trailer)?;
        Ok(Totals { body_bytes: self.body_bytes, digest, file_bytes: self.offset })
    }
}

impl io::Write for ImageWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES - self.chunk.len();
        let (now, _) = bytes.split_at(bytes.len().min(room));
        self.chunk.extend_from_slice(now);
        if self.chunk.len() == CHUNK_BYTES {
            self.put_chunk()?;
        }
        Ok(now.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads an image, chunk by chunk.
#[derive(Debug)]
pub(super) struct ChunkReader {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    offset: u64,
    chunks: u64,
    body_bytes: u64,
    digest: Digest,
    ended: bool,
}

impl ChunkReader {
    /// Reads the header.
    pub(super) fn begin(file: Arc<dyn DiskFile>, path: &Path) -> Result<(Self, ImageHeader), ImageError> {
        let digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let path = path.to_path_buf();
        let mut reader = Self { file, path, offset: 0, chunks: 0, body_bytes: 0, digest, ended: false };
        let mut bytes = reader.take(16)?;
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| reader.damaged("the header is cut short"))?;
        let numbers = (number32(rest, 0), number32(rest, 4));
        let (Some(version), Some(len)) = numbers else { return Err(reader.damaged("the header is cut short")) };
        if *magic != MAGIC || len > MAX_HEADER_BYTES {
            return Err(reader.damaged("this is not the header of an image"));
        }
        let body = reader.take(len as usize)?;
        bytes.extend_from_slice(&body);
        let crc = number32(&reader.take(4)?, 0);
        if crc != Some(crc32c(&bytes)) {
            return Err(reader.damaged("the header does not verify"));
        }
        if version != VERSION {
            let file = reader.path.display().to_string();
            return Err(ImageError::Newer { file, found: version, known: VERSION });
        }
        let header = ImageHeader::decode(body.as_slice())
            .map_err(|error| reader.damaged(&format!("the header is malformed: {error}")))?;
        Ok((reader, header))
    }

    /// Reads the next chunk; empty at the end of the body.
    pub(super) fn next(&mut self) -> Result<Vec<u8>, ImageError> {
        if self.ended {
            return Ok(Vec::new());
        }
        let head = self.take(CHUNK_HEAD_BYTES)?;
        let (Some(len), Some(crc)) = (number32(&head, 0), number32(&head, 4)) else {
            return Err(self.damaged("a chunk is cut short"));
        };
        if len as usize > CHUNK_BYTES {
            return Err(self.damaged("a chunk is longer than chunks can be"));
        }
        let data = self.take(len as usize)?;
        if crc != chunk_crc(self.chunks, &data) {
            return Err(self.damaged("a chunk does not verify"));
        }
        if data.is_empty() {
            self.ended = true;
        } else {
            self.chunks += 1;
            self.body_bytes += data.len() as u64;
        }
        Ok(data)
    }

    /// Reads what is left of the body, then the trailer, and compares them.
    pub(super) fn verify_to_end(mut self) -> Result<Totals, ImageError> {
        while !self.next()?.is_empty() {}
        let digest = self.digest.finalize() as u32;
        let trailer = self.take(TRAILER_BYTES)?;
        let agrees = trailer.get(..8) == Some(&END_MAGIC)
            && trailer.get(8..16) == Some(&self.body_bytes.to_le_bytes())
            && trailer.get(16..24) == Some(&self.chunks.to_le_bytes())
            && number32(&trailer, 24) == Some(digest)
            && number32(&trailer, 28) == trailer.get(..28).map(crc32c);
        if !agrees {
            return Err(self.damaged("the trailer does not agree with the body"));
        }
        let file_bytes = self.file.len_bytes().map_err(|source| self.io(source))?;
        if file_bytes != self.offset {
            return Err(self.damaged("there are bytes behind the trailer"));
        }
        Ok(Totals { body_bytes: self.body_bytes, digest, file_bytes })
    }

    /// Takes bytes of a length that was bounded before.
    fn take(&mut self, len: usize) -> Result<Vec<u8>, ImageError> {
        let mut bytes = vec![0; len];
        match self.file.read_exact_at(&mut bytes, self.offset) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged("the file is cut short"));
            }
            Err(error) => return Err(self.io(error)),
        }
        self.digest.update(&bytes);
        self.offset += len as u64;
        Ok(bytes)
    }

    fn damaged(&self, what: &str) -> ImageError {
        ImageError::Damaged { file: self.path.display().to_string(), offset: self.offset, what: what.to_owned() }
    }

    fn io(&self, source: io::Error) -> ImageError {
        ImageError::Io { operation: "read", path: self.path.display().to_string(), source }
    }
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
