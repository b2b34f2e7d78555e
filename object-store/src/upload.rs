//! Uploads in parts: one file, written in the order of the parts, that appears when it is closed.
//!
//! ```text
//!   put_part(0), put_part(1), put_part(2)   queued when they are asked for, in this order
//!   whichever future runs ────────────────▶ writes what is queued, up to its own part, into the one writer
//! ```
//!
//! So futures may be awaited in any order, nothing is written anywhere else before, the file has blocks of full length,
//! and an upload that ends early leaves nothing behind.
//!
//! The part that is being written belongs to the upload, not to the future that began it: whoever is polled goes on with it.
//! A future that was polled once and is then left alone, or dropped, holds nobody up.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use client::{FsResult, Writer};
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, Aborted, BoxFuture, Shared, abortable};
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use parking_lot::Mutex;

use crate::error::{Doing, refused, wrong};
use crate::put::put_result;

/// An upload under way.
pub(crate) struct Upload {
    common: Arc<Common>,
    /// Parts so far.
    parts: usize,
}

/// What the upload and the futures of its parts have in common.
struct Common {
    location: Path,
    line: Mutex<Line>,
    /// Here while no part is being written; gone when the upload is over.
    writer: Arc<Mutex<Option<Writer>>>,
}

/// What is to be written.
#[derive(Default)]
struct Line {
    /// Parts that were asked for and are not begun. As many as the caller holds futures.
    queue: VecDeque<PutPayload>,
    /// Parts that were written.
    written: usize,
    current: Option<Current>,
    is_over: bool,
}

/// The part that is being written. Clones are the same write: each that is polled drives it, and all hear of its end.
#[derive(Clone)]
struct Current {
    writing: Shared<BoxFuture<'static, Result<FsResult<()>, Aborted>>>,
    stop: AbortHandle,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.common.location.as_ref();
        f.debug_struct("Upload").field("location", &location).field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl Upload {
    pub(crate) fn new(location: Path, writer: Writer) -> Self {
        let writer = Arc::new(Mutex::new(Some(writer)));
        Self { common: Arc::new(Common { location, line: Mutex::default(), writer }), parts: 0 }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.common.line.lock().queue.push_back(data);
        self.parts += 1;
        let (common, parts) = (Arc::clone(&self.common), self.parts);
        Box::pin(async move { common.write_up_to(parts).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.common.write_up_to(self.parts).await?;
        let writer = self.common.end().ok_or_else(over)?;
        let closed = writer.close().await;
        let status = closed.map_err(|error| refused(error, &self.common.location, Doing::Writing))?;
        Ok(put_result(&status))
    }

    async fn abort(&mut self) -> Result<()> {
        let current = self.common.line.lock().current.take();
        if let Some(Current { writing, stop, .. }) = current {
            stop.abort();
            // It ends at once, whoever else has a share in it, and the writer with it.
            match writing.await {
                Ok(_) | Err(Aborted) => {}
            }
        }
        let was_over = self.common.line.lock().is_over;
        // A writer that is dropped publishes nothing.
        drop(self.common.end());
        if was_over { Err(over()) } else { Ok(()) }
    }
}

impl Common {
    /// Writes until so many parts are written.
    async fn write_up_to(&self, parts: usize) -> Result<()> {
        while let Some(current) = self.next(parts)? {
            let written = current.writing.clone().await;
            let mut line = self.line.lock();
            // Whoever hears of it first takes note.
            let is_news = line.current.take_if(|now| now.writing.ptr_eq(&current.writing)).is_some();
            match written {
                Ok(Ok(())) => line.written += usize::from(is_news),
                Ok(Err(error)) => return Err(refused(error, &self.location, Doing::Writing)),
                Err(Aborted) => return Err(over()),
            }
        }
        Ok(())
    }

    /// The part that is being written, or the next one; `None` if so many parts are written.
    fn next(&self, parts: usize) -> Result<Option<Current>> {
        let mut line = self.line.lock();
        if line.is_over {
            return Err(over());
        }
        if line.written >= parts {
            return Ok(None);
        }
        if line.current.is_none() {
            let part = line.queue.pop_front();
            let part = part.ok_or_else(|| wrong("a part before this one could not be written"))?;
            let mut writer = self.writer.lock().take().ok_or_else(over)?;
            let back = Arc::clone(&self.writer);
            let (writing, stop) = abortable(async move {
                let written = write(&mut writer, part).await;
                *back.lock() = Some(writer);
                written
            });
            line.current = Some(Current { writing: writing.boxed().shared(), stop });
        }
        Ok(line.current.clone())
    }

    /// The upload is over: its writer, if it has one that rests.
    fn end(&self) -> Option<Writer> {
        let mut line = self.line.lock();
        line.is_over = true;
        line.queue.clear();
        self.writer.lock().take()
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
