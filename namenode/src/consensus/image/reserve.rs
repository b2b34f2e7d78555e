//! Room set aside for the next image.

use std::io;
use std::path::{Path, PathBuf};

use base::crash::CrashPoint;
use base::disk::{Disk, OpenMode};

const NAME: &str = "image.reserve";

/// Who has the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody: the disk was too full.
    Absent,
    /// The reserve file.
    Held,
    /// As many images being written or received as this.
    Lent(u32),
}

/// The reserve file. Its state is behind a lock of its owner.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    state: State,
    wanted_bytes: u64,
}

impl Reserve {
    pub(super) fn new(dir: &Path, wanted_bytes: u64) -> Self {
        Self { path: dir.join(NAME), state: State::Absent, wanted_bytes }
    }

    /// Images have grown: more room is wanted from now on.
    pub(super) fn want(&mut self, bytes: u64) {
        if bytes > self.wanted_bytes {
            self.wanted_bytes = bytes;
            if self.state == State::Held {
                self.state = State::Absent;
            }
        }
    }

    /// Gives the room to an image that is about to be written.
    pub(super) fn lend(&mut self, disk: &dyn Disk) -> io::Result<()> {
        if let State::Lent(count) = self.state {
            self.state = State::Lent(count + 1);
            return Ok(());
        }
        if disk.info(&self.path)?.is_some() {
            disk.remove_file(&self.path, CrashPoint::ReserveAllocate)?;
        }
        self.state = State::Lent(1);
        Ok(())
    }

    /// The image is written, or given up.
    pub(super) fn give_back(&mut self, disk: &dyn Disk) {
        match self.state {
            State::Lent(count) if count > 1 => self.state = State::Lent(count - 1),
            _ => {
                self.state = State::Absent;
                self.hold(disk);
            }
        }
    }

    /// Takes the room if nobody has it. True unless the disk has none.
    pub(super) fn hold(&mut self, disk: &dyn Disk) -> bool {
        if self.state == State::Absent {
            match self.allocate(disk) {
                Ok(true) => self.state = State::Held,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, path = %self.path.display(), "no room set aside for an image"),
            }
        }
        self.state != State::Absent
    }

    fn allocate(&self, disk: &dyn Disk) -> io::Result<bool> {
        let point = CrashPoint::ReserveAllocate;
        let have = disk.info(&self.path)?.map(|info| info.len_bytes);
        if have.is_some_and(|bytes| bytes >= self.wanted_bytes) {
            return Ok(true);
        }
        let available = disk.space(self.path.parent().unwrap_or(&self.path))?.available_bytes;
        if available < self.wanted_bytes.saturating_sub(have.unwrap_or(0)) {
            return Ok(false);
        }
        let file = match have {
            Some(_) => disk.open(&self.path, OpenMode::ReadWrite)?,
            None => disk.create_new(&self.path, point)?,
        };
        file.allocate(0, self.wanted_bytes, point)?;
        Ok(true)
    }
}
