//! A file that is being written, with the standard library's trait.

use std::io::{self, Write};
use std::sync::Arc;

use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::FileStatus;
use tokio::io::AsyncWriteExt;

use super::Engine;
use crate::AsyncWriter;
use crate::io::into_io;

/// A file that is being written. It appears, whole, when [`Writer::close`] succeeds; one that is dropped before publishes
/// nothing that was not visible before. [`Write::flush`] makes nothing durable, and shows nothing: see
/// [`Writer::hflush`] and [`Writer::sync_data`].
#[derive(Debug)]
pub struct Writer {
    writer: AsyncWriter,
    engine: Arc<Engine>,
}

impl Writer {
    pub(super) fn new(writer: crate::Writer, engine: Arc<Engine>) -> Self {
        Self { writer: writer.into_async(), engine }
    }

    /// As [`crate::Writer::flush`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn hflush(&mut self) -> FsResult<()> {
        self.engine.run(self.writer.hflush())?
    }

    /// As [`crate::Writer::sync_data`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn sync_data(&mut self) -> FsResult<()> {
        self.engine.run(self.writer.sync_data())?
    }

    /// Publishes the file: when this returns, its bytes are durable on every node of the pipeline and its name is in
    /// the namespace.
    ///
    /// # Errors
    /// As [`crate::Writer::close`]; [`ErrorCode::InvalidArgument`] inside an async runtime: nothing is published then.
    pub fn close(mut self) -> FsResult<FileStatus> {
        let closed = self.engine.run(self.writer.shutdown())?;
        match (self.writer.status(), self.writer.failure(), closed) {
            (Some(status), _, _) => Ok(status.clone()),
            (_, Some(error), _) => Err(error.clone()),
            (None, None, closed) => {
                let why = closed.err().map_or_else(|| "it says nothing".to_owned(), |error| error.to_string());
                Err(FsError::new(ErrorCode::Internal, format!("a writer ended without a result: {why}")))
            }
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.engine.run(self.writer.write(bytes)).map_err(into_io)?
    }

    fn flush(&mut self) -> io::Result<()> {
        self.engine.run(self.writer.flush()).map_err(into_io)?
    }
}
