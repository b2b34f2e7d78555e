//! Uploads in parts: one file, written in the order of the parts, that appears when it is closed.
//!
//! ```text
//!   put_part(0), put_part(1), put_part(2)   queued when they are asked for, in this order
//!   whichever future runs ────────────────▶ writes what is queued, up to its own part, into the one writer
//! ```
//!
//! So futures may be awaited in any order, nothing is written anywhere else before, the file has blocks of full length,
//! and an upload that ends early leaves nothing behind.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use client::{FsResult, Writer};
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use parking_lot::Mutex;

use crate::error::{Doing, refused, wrong};
use crate::put::put_result;

/// An upload under way.
pub(crate) struct Upload {
    shared: Arc<Shared>,
    /// Parts so far.
    parts: usize,
}

struct Shared {
    location: Path,
    /// Parts that were asked for and are not written. As many as the caller holds futures.
    queue: Mutex<VecDeque<PutPayload>>,
    line: tokio::sync::Mutex<Line>,
}

/// What is written.
struct Line {
    /// None when the upload is over.
    writer: Option<Writer>,
    parts: usize,
    /// A part is being written. If nobody is at it, its future was dropped in the middle.
    inside: bool,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.shared.location.as_ref();
        f.debug_struct("Upload").field("location", &location).field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl Upload {
    pub(crate) fn new(location: Path, writer: Writer) -> Self {
        let line = Line { writer: Some(writer), parts: 0, inside: false };
        let shared = Shared { location, queue: Mutex::default(), line: tokio::sync::Mutex::new(line) };
        Self { shared: Arc::new(shared), parts: 0 }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.shared.queue.lock().push_back(data);
        self.parts += 1;
        let (shared, parts) = (Arc::clone(&self.shared), self.parts);
        Box::pin(async move { shared.write_up_to(&mut *shared.line.lock().await, parts).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let mut line = self.shared.line.lock().await;
        self.shared.write_up_to(&mut line, self.parts).await?;
        let writer = line.writer.take().ok_or_else(over)?;
        let closed = writer.close().await;
        let status = closed.map_err(|error| refused(error, &self.shared.location, Doing::Writing))?;
        Ok(put_result(&status))
    }

    async fn abort(&mut self) -> Result<()> {
        // A writer that is dropped publishes nothing.
        drop(self.shared.line.lock().await.writer.take().ok_or_else(over)?);
        self.shared.queue.lock().clear();
        Ok(())
    }
}

impl Shared {
    /// Writes until so many parts are written.
    async fn write_up_to(&self, line: &mut Line, parts: usize) -> Result<()> {
        if line.inside {
            return Err(wrong("a part of this upload was given up in the middle: abort it and begin again"));
        }
        while line.parts < parts {
            let writer = line.writer.as_mut().ok_or_else(over)?;
            let part = self.queue.lock().pop_front();
            let part = part.ok_or_else(|| wrong("a part before this one could not be written"))?;
            line.inside = true;
            let written = write(writer, part).await;
            line.inside = false;
            written.map_err(|error| refused(error, &self.location, Doing::Writing))?;
            line.parts += 1;
        }
        Ok(())
    }
}

/// A writer that failed once says the same for ever.
pub(crate) async fn write(writer: &mut Writer, payload: PutPayload) -> FsResult<()> {
    for bytes in payload {
        writer.write(bytes).await?;
    }
    Ok(())
}

fn over() -> object_store::Error {
    wrong("the upload is over: it was completed or aborted")
}
