//! Frames: batches of length-delimited records of one section, with a checksum.
//!
//! ```text
//!   u32 kind │ u32 payload bytes │ u32 records │ u32 CRC32C of the twelve bytes before and the payload │ payload
//! ```
#![deny(clippy::indexing_slicing)]

use std::io::{Read, Write};

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::encode_varint;

use super::Section;
use super::decode::delimited;
use super::encode::Fields;
use crate::namespace::ImageError;

/// A frame is written when it has grown to this.
const FLUSH_BYTES: usize = 256 * 1024;
/// A longer payload is damage: one record never reaches it.
const MAX_PAYLOAD_BYTES: u32 = 8 << 20;
const HEADER_BYTES: usize = 16;

fn crc(header: &[u8], payload: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(header);
    digest.update(payload);
    digest.finalize() as u32
}

/// Writes frames.
pub(super) struct FrameWriter<'a> {
    writer: &'a mut dyn Write,
    section: Section,
    payload: Vec<u8>,
    record: Vec<u8>,
    records: u32,
    total: u64,
}

impl<'a> FrameWriter<'a> {
    pub(super) fn new(writer: &'a mut dyn Write) -> Self {
        Self { writer, section: Section::Meta, payload: Vec::new(), record: Vec::new(), records: 0, total: 0 }
    }
    /// Appends a record to a section. Sections come in their order.
    pub(super) fn put(&mut self, section: Section, record: &impl Message) -> Result<(), ImageError> {
        self.begin(section)?;
        record
            .encode_length_delimited(&mut self.payload)
            .map_err(|error| ImageError::Io(std::io::Error::other(error)))?;
        self.end_record()
    }
    /// As [`FrameWriter::put`], with what `encode` appends.
    pub(super) fn put_encoded(
        &mut self,
        section: Section,
        encode: impl FnOnce(&mut Fields<'_>),
    ) -> Result<(), ImageError> {
        self.begin(section)?;
        self.record.clear();
        encode(&mut Fields::new(&mut self.record));
        encode_varint(self.record.len() as u64, &mut self.payload);
        self.payload.extend_from_slice(&self.record);
        self.end_record()
    }
    fn begin(&mut self, section: Section) -> Result<(), ImageError> {
        if section != self.section {
            self.flush()?;
            self.section = section;
        }
        Ok(())
    }
    fn end_record(&mut self) -> Result<(), ImageError> {
        self.records += 1;
        self.total += 1;
        if self.payload.len() >= FLUSH_BYTES { self.flush() } else { Ok(()) }
    }
    /// Records so far.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }
    /// Writes what is left.
    pub(super) fn flush(&mut self) -> Result<(), ImageError> {
        if self.records == 0 {
            return Ok(());
        }
        let mut header = Vec::with_capacity(HEADER_BYTES);
        let len = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        if len > MAX_PAYLOAD_BYTES {
            // An image that no reader takes must not replace the log.
            let what = format!("a record of {:?} is above {MAX_PAYLOAD_BYTES} bytes", self.section);
            return Err(ImageError::Io(std::io::Error::other(what)));
        }
        for word in [self.section as u32, len, self.records] {
            header.extend_from_slice(&word.to_le_bytes());
        }
        let crc = crc(&header, &self.payload);
        header.extend_from_slice(&crc.to_le_bytes());
        self.writer.write_all(&header)?;
        self.writer.write_all(&self.payload)?;
        self.payload.clear();
        self.records = 0;
        Ok(())
    }
}

/// A frame whose checksum is right.
pub(super) struct Frame {
    pub(super) section: Section,
    /// Where it begins in the body.
    pub(super) offset: u64,
    records: u32,
    payload: Bytes,
}

/// Reads frames.
pub(super) struct FrameReader<'a> {
    reader: &'a mut (dyn Read + Send),
    offset: u64,
    last: Section,
}

impl<'a> FrameReader<'a> {
    /// `offset`: bytes of the body that were read before.
    pub(super) fn new(reader: &'a mut (dyn Read + Send), offset: u64) -> Self {
        Self { reader, offset, last: Section::Meta }
    }
    /// The next frame. No more memory is taken than there are bytes.
    pub(super) fn next(&mut self) -> Result<Frame, ImageError> {
        let offset = self.offset;
        let damaged = |section, what: &str| ImageError::Damaged { what: what.to_owned(), section, offset };
        let mut header = [0; HEADER_BYTES];
        read_exact(self.reader, &mut header).map_err(|error| cut_short(error, offset))?;
        let mut words = header.as_slice();
        let (kind, len, records, wanted) =
            (words.get_u32_le(), words.get_u32_le(), words.get_u32_le(), words.get_u32_le());
        let section = Section::from_number(kind).ok_or_else(|| damaged(kind, "unknown kind of section"))?;
        if len > MAX_PAYLOAD_BYTES {
            return Err(damaged(kind, "impossible length"));
        }
        if section < self.last {
            return Err(damaged(kind, "sections are out of order"));
        }
        let mut payload = Vec::new();
        self.reader.take(u64::from(len)).read_to_end(&mut payload)?;
        if payload.len() != len as usize {
            return Err(damaged(kind, "the image ends inside a section"));
        }
        let summed = header.split_last_chunk::<4>().map_or(&[][..], |(summed, _)| summed);
        if crc(summed, &payload) != wanted {
            return Err(damaged(kind, "checksum mismatch"));
        }
        self.offset += (HEADER_BYTES + payload.len()) as u64;
        self.last = section;
        Ok(Frame { section, offset, records, payload: payload.into() })
    }
    /// Nothing may follow.
    pub(super) fn expect_end(&mut self) -> Result<(), ImageError> {
        let mut rest = Vec::new();
        self.reader.take(1).read_to_end(&mut rest)?;
        if rest.is_empty() {
            return Ok(());
        }
        Err(ImageError::Damaged {
            what: "bytes after the end".into(),
            section: Section::End as u32,
            offset: self.offset,
        })
    }
}

impl Frame {
    /// Damage in this frame.
    pub(super) fn damaged(&self, what: impl Into<String>) -> ImageError {
        ImageError::Damaged { what: what.into(), section: self.section as u32, offset: self.offset }
    }
    /// Number of records that the header says.
    pub(super) const fn records(&self) -> u32 {
        self.records
    }
    /// Calls `take` with the bytes of each record.
    pub(super) fn each_raw(&self, mut take: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), ImageError> {
        let (mut rest, mut found) = (self.payload.as_ref(), 0_u32);
        while !rest.is_empty() {
            delimited(&mut rest).and_then(&mut take).map_err(|what| self.damaged(format!("record {found}: {what}")))?;
            found += 1;
        }
        if found == self.records { Ok(()) } else { Err(self.damaged("wrong number of records")) }
    }
    /// Decodes all records.
    pub(super) fn each<R: Message + Default>(
        &self,
        mut take: impl FnMut(R) -> Result<(), String>,
    ) -> Result<(), ImageError> {
        let mut rest = self.payload.clone();
        let mut found = 0_u32;
        while rest.has_remaining() {
            let record = R::decode_length_delimited(&mut rest)
                .map_err(|error| self.damaged(format!("record {found} cannot be decoded: {error}")))?;
            take(record).map_err(|what| self.damaged(format!("record {found}: {what}")))?;
            found += 1;
        }
        if found == self.records { Ok(()) } else { Err(self.damaged("wrong number of records")) }
    }
}

/// `Read::read_exact` on a trait object.
fn read_exact(reader: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<()> {
    reader.read_exact(buffer)
}

/// An image that ends is damaged; everything else is the reader's failure.
pub(super) fn cut_short(error: std::io::Error, offset: u64) -> ImageError {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return ImageError::Damaged { what: "the image ends early".into(), section: 0, offset };
    }
    ImageError::Io(error)
}
