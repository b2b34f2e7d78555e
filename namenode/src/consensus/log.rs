//! The log on disk.

use super::{LogError, PersistBatch, PersistDone};

/// The one writer of segments and of the vote file. Owned by the committer thread; every call blocks.
#[derive(Debug)]
pub struct LogWriter {
    condemned: bool,
}

impl LogWriter {
    /// Makes all waiting batches durable with one sync. They must come in the order of their readies.
    ///
    /// # Errors
    /// [`LogError`]: the log is condemned and the member must stop.
    pub fn write(&mut self, batches: Vec<PersistBatch>) -> Result<PersistDone, LogError> {
        let _ = batches;
        self.condemned = true;
        Err(LogError::Condemned)
    }
}
