//! From bytes to frames, however the bytes are cut.

use bytes::{Buf, BytesMut};

use super::{Broken, HEAD_BYTES, Head, Kind, MAGIC, PREAMBLE_BYTES, Side, VERSION};

/// A frame, still in the buffer that it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Call, kind and method.
    pub head: Head,
    /// The message, encoded.
    pub message: &'a [u8],
}

/// Takes the bytes of a connection and gives its frames.
///
/// It sets no memory aside for a length that a frame claims: the buffer grows with the bytes that are there, and its
/// owner decides how fast. Once broken, it stays broken.
#[derive(Debug)]
pub struct Decoder {
    side: Side,
    buffer: BytesMut,
    /// Bytes at the front of the buffer that the last frame held.
    used: usize,
    greeted: bool,
    broken: Option<Broken>,
}

impl Decoder {
    /// A decoder of what a side reads, the preamble first.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self { side, buffer: BytesMut::new(), used: 0, greeted: false, broken: None }
    }

    /// Where further bytes are appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.consume();
        &mut self.buffer
    }

    /// Bytes that were taken and belong to no frame that was given out.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() - self.used
    }

    /// Was a whole and right preamble read?
    #[must_use]
    pub const fn greeted(&self) -> bool {
        self.greeted
    }

    /// The next frame; `None` until more bytes are there.
    ///
    /// # Errors
    /// [`Broken`], from then on always the same.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Broken> {
        self.consume();
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let found = match self.greeted {
            true => self.find(),
            false => match self.greet() {
                Ok(true) => self.find(),
                Ok(false) => Ok(None),
                Err(broken) => Err(broken),
            },
        };
        match found {
            Ok(None) => Ok(None),
            Ok(Some(head)) => Ok(Some(Frame { head, message: &self.buffer[HEAD_BYTES..self.used] })),
            Err(broken) => {
                self.broken = Some(broken.clone());
                Err(broken)
            }
        }
    }

    fn consume(&mut self) {
        self.buffer.advance(self.used);
        self.used = 0;
    }

    /// Looks at the preamble; a stranger is recognised by the first byte that is wrong.
    fn greet(&mut self) -> Result<bool, Broken> {
        let there = self.buffer.len().min(MAGIC.len());
        if self.buffer[..there] != MAGIC[..there] {
            let mut first = [0; 4];
            first[..there].copy_from_slice(&self.buffer[..there]);
            return Err(Broken::Stranger(first));
        }
        if self.buffer.len() < PREAMBLE_BYTES {
            return Ok(false);
        }
        match number(&self.buffer[4..]) {
            VERSION => {
                self.buffer.advance(PREAMBLE_BYTES);
                self.greeted = true;
                Ok(true)
            }
            other => Err(Broken::Version(other)),
        }
    }

    /// The head of the frame at the front of the buffer, if all of the frame is there.
    fn find(&mut self) -> Result<Option<Head>, Broken> {
        if self.buffer.len() < HEAD_BYTES {
            return Ok(None);
        }
        let (len, limit_bytes) = (number(&self.buffer[4..]), self.side.limit_bytes());
        let len_bytes = usize::try_from(len).unwrap_or(usize::MAX);
        if len_bytes > limit_bytes {
            return Err(Broken::TooLong { len_bytes: u64::from(len), limit_bytes });
        }
        let end = HEAD_BYTES + len_bytes;
        if self.buffer.len() < end {
            return Ok(None);
        }
        if crc_fast::crc32_iscsi(&self.buffer[4..end]) != number(&self.buffer) {
            return Err(Broken::Checksum);
        }
        let kind = number(&self.buffer[16..]);
        let kind = Kind::read_by(self.side, kind).ok_or(Broken::Kind(kind))?;
        let call = u64::from(number(&self.buffer[8..])) | u64::from(number(&self.buffer[12..])) << 32;
        self.used = end;
        Ok(Some(Head { call, kind, method: number(&self.buffer[20..]) }))
    }
}

/// The number in the first four bytes; the caller has seen that they are there.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |first| u32::from_le_bytes(*first))
}
