//! A log file that cannot fill the disk: at its limit it becomes `<name>.1`, replacing the one before.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes after which the file is turned over.
const LIMIT_BYTES: u64 = 64 << 20;

/// An appending log file, shared by all threads. Never more than two files of 64 MiB.
#[derive(Debug, Clone)]
pub struct RotatingFile(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    len_bytes: u64,
    limit_bytes: u64,
}

impl RotatingFile {
    /// Opens the file for appending, creating it.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with_limit(path, LIMIT_BYTES)
    }

    fn with_limit(path: &Path, limit_bytes: u64) -> io::Result<Self> {
        let (file, len_bytes) = open(path)?;
        Ok(Self(Arc::new(Mutex::new(Inner { path: path.to_owned(), file, len_bytes, limit_bytes }))))
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("log file {}: {error}", path.display()));
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(explain)?;
    let len_bytes = file.metadata().map_err(explain)?.len();
    Ok((file, len_bytes))
}

impl Inner {
    fn turn_over(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, PathBuf::from(old))?;
        (self.file, self.len_bytes) = open(&self.path)?;
        Ok(())
    }
}

/// Writes one event.
#[derive(Debug)]
pub struct LogWriter(Arc<Mutex<Inner>>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.0.lock();
        if inner.len_bytes >= inner.limit_bytes {
            inner.turn_over()?;
        }
        inner.file.write_all(bytes)?;
        inner.len_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for RotatingFile {
    type Writer = LogWriter;
    fn make_writer(&'a self) -> LogWriter {
        LogWriter(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_turned_over_and_lines_stay_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("role.log");
        let log = RotatingFile::with_limit(&path, 100).unwrap();
        for i in 0..40 {
            writeln!(log.make_writer(), "line {i:04}").unwrap();
        }
        let now = std::fs::read_to_string(&path).unwrap();
        let before = std::fs::read_to_string(dir.path().join("role.log.1")).unwrap();
        assert!(now.len() <= 110 && before.len() <= 110);
        assert!(now.ends_with("line 0039\n"));
        assert!(now.lines().chain(before.lines()).all(|line| line.len() == 9));
    }
}
