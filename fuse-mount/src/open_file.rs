//! Open files: one for all handles of a file, with what this mount has of it that the cluster has not.
//!
//! ```text
//!   Clean ── write at the end ─────────▶ Stream   a writer of the client: bytes go straight to the datanodes
//!     │                                    │ close        │ write elsewhere, read what nobody has yet: closed first
//!     │◀───────────────────────────────────┘              ▼
//!     └── write elsewhere, longer ─────▶ Draft    a changed copy on this machine
//!     ◀── committed at close, fsync ───────┘
//! ```

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::clock::Moment;
use bytes::{Bytes, BytesMut};
use client::{Attributes, FileStatus, FsResult, Reader, Writer};
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, OwnedMutexGuard};

use crate::draft::Draft;
use crate::errno::Errno;

/// Where the content of an open file is.
#[derive(Debug)]
pub(crate) enum How {
    /// In the cluster; the reader is made when it is wanted.
    Clean(Option<Arc<Reader>>),
    /// On its way into the cluster.
    Stream(Box<Stream>),
    /// Changed on this machine.
    Draft(Draft),
}

/// A file that grows at its end.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) writer: Writer,
    /// For those who read what was written.
    pub(crate) reader: Option<Reader>,
    pub(crate) flushed_bytes: u64,
}

impl Stream {
    pub(crate) const fn new(writer: Writer) -> Self {
        let flushed_bytes = writer.position_bytes();
        Self { writer, reader: None, flushed_bytes }
    }
    pub(crate) const fn len_bytes(&self) -> u64 {
        self.writer.position_bytes()
    }
}

/// What is done to one file at a time.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) how: How,
    /// Bytes that a program was told of are lost: every later write, fsync and close says so.
    pub(crate) failed: Option<Errno>,
    /// A program was told that what is here could not be committed, or is lost.
    pub(crate) told: bool,
    /// Times that were set while there were changes: a commit would put its own in their place.
    pub(crate) times: Attributes,
    /// The inode of a commit whose outcome is not known.
    pub(crate) maybe_inode: Option<u64>,
    /// A sync that took long and failed: until then others are not worth a try.
    pub(crate) tried: Option<(Moment, Errno)>,
    pub(crate) unlinked: bool,
    /// The cluster has it under names that this mount does not know.
    pub(crate) elsewhere: bool,
}

impl State {
    /// Is there anything that the cluster has not?
    pub(crate) fn has_changes(&self) -> bool {
        match &self.how {
            How::Clean(_) => self.has_times(),
            How::Stream(_) => true,
            How::Draft(draft) => draft.is_changed() && !self.unlinked,
        }
    }
    /// Are there times that are to be set when the content is the cluster's?
    pub(crate) fn has_times(&self) -> bool {
        self.times != Attributes::default() && !self.unlinked
    }
    /// Its content was changed now: what was told before is of other bytes.
    pub(crate) fn changed(&mut self) {
        self.told = false;
        self.times.mtime = None;
    }
    /// Notes that a program hears what became of its bytes.
    pub(crate) fn tell(&mut self, ended: Result<(), Errno>) -> Result<(), Errno> {
        self.told = ended.is_err() || self.told && self.failed.is_some();
        ended
    }
    /// Is there somewhere for a change to go?
    pub(crate) fn takes_changes(&self) -> Result<(), Errno> {
        match self.failed {
            Some(failed) => Err(failed),
            // Its other names would never show it.
            None if self.unlinked && self.elsewhere => Err(Errno::EIO),
            None => Ok(()),
        }
    }
}

/// What is shown of an open file without waiting for what is done to it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// As the cluster said last.
    pub(crate) status: FileStatus,
    /// Length and time of the last change here, if that is not what the cluster says.
    pub(crate) local: Option<(u64, i64)>,
    pub(crate) unlinked: bool,
    /// Bytes of an earlier `open` are lost, and nobody was told yet.
    pub(crate) late: Option<Errno>,
}

impl Seen {
    /// Who may do what with the file, as the cluster says by now.
    pub(crate) fn takes_rights(&mut self, status: &FileStatus) {
        self.status.mode = status.mode;
        self.status.owner.clone_from(&status.owner);
        self.status.group.clone_from(&status.group);
    }
    /// What the cluster says, with what is newer here.
    pub(crate) fn over(&self, status: FileStatus) -> FileStatus {
        match self.local {
            Some((len_bytes, mtime_ns)) => FileStatus { len_bytes, mtime_ns, ctime_ns: mtime_ns, ..status },
            None => status,
        }
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) number: u64,
    /// Whoever holds it waits for steps that each end by the deadline.
    pub(crate) state: Arc<tokio::sync::Mutex<State>>,
    pub(crate) seen: Mutex<Seen>,
    /// Steps of long work on it that ended: whoever waits for it sees that it goes on.
    steps: AtomicU64,
    /// What programs hold, as far as the kernel said.
    descriptors: AtomicU64,
}

impl OpenFile {
    pub(crate) fn new(number: u64, status: FileStatus, how: How) -> Self {
        let (failed, times, maybe_inode) = (None, Attributes::default(), None);
        let local = match &how {
            How::Stream(stream) => Some((stream.len_bytes(), status.mtime_ns)),
            How::Clean(_) | How::Draft(_) => None,
        };
        Self {
            number,
            state: Arc::new(tokio::sync::Mutex::new(State {
                how,
                failed,
                told: false,
                times,
                maybe_inode,
                tried: None,
                unlinked: false,
                elsewhere: false,
            })),
            seen: Mutex::new(Seen { status, local, unlinked: false, late: None }),
            steps: AtomicU64::new(0),
            descriptors: AtomicU64::new(0),
        }
    }
    /// A piece of its content has come or gone.
    pub(crate) fn goes_on(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
    /// Has a program a descriptor of it? Without one it is only being committed.
    pub(crate) fn is_open(&self) -> bool {
        self.descriptors.load(Ordering::SeqCst) > 0
    }
    /// Does it only keep others from opening a file that loses its name? Nothing is known of that one here.
    pub(crate) fn is_placeholder(&self) -> bool {
        self.seen.lock().status.inode == 0
    }
    /// A program gets a descriptor.
    pub(crate) fn opened(&self) {
        self.descriptors.fetch_add(1, Ordering::SeqCst);
    }
    /// A descriptor was closed for good.
    pub(crate) fn closed(&self) {
        self.descriptors.fetch_sub(1, Ordering::SeqCst);
    }
    /// Its lock: whoever has it works for others who came before. A long content that is on its way moves the deadline with
    /// each piece of it: it is waited for as by whoever closes the file.
    pub(crate) async fn lock_within(&self, deadline: Duration) -> Result<MutexGuard<'_, State>, Errno> {
        self.wait_for(self.state.lock(), deadline).await
    }
    /// As [`OpenFile::lock_within`], for who keeps it beyond a call.
    pub(crate) async fn lock_for_long(&self, deadline: Duration) -> Result<OwnedMutexGuard<State>, Errno> {
        self.wait_for(Arc::clone(&self.state).lock_owned(), deadline).await
    }
    async fn wait_for<G>(&self, lock: impl Future<Output = G>, deadline: Duration) -> Result<G, Errno> {
        let mut lock = std::pin::pin!(lock);
        loop {
            let steps = self.steps.load(Ordering::Relaxed);
            match tokio::time::timeout(deadline, lock.as_mut()).await {
                Ok(guard) => return Ok(guard),
                Err(_elapsed) if self.steps.load(Ordering::Relaxed) != steps => {}
                Err(_elapsed) => return Err(Errno::EIO),
            }
        }
    }
}

/// What one `open` made.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) file: Arc<OpenFile>,
    pub(crate) writes: bool,
    pub(crate) appends: bool,
    pub(crate) sequence: tokio::sync::Mutex<Sequence>,
}

impl Handle {
    pub(crate) fn new(file: Arc<OpenFile>, flags: i32) -> Self {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        Self { file, writes, appends: flags & libc::O_APPEND != 0, sequence: tokio::sync::Mutex::default() }
    }
}

/// How a read is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By the reader that goes ahead.
    Ahead,
    /// By that reader, from here on: this is the second read in a row.
    AheadFromHere,
    /// By itself.
    Alone,
}

/// Reads of one handle, as far as they go through the file: they share a reader that goes ahead.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    of: Option<Arc<Reader>>,
    reader: Option<Reader>,
    rest: Bytes,
    /// Where the reader is, without `rest`.
    at_bytes: u64,
    last_end_bytes: u64,
}

impl Sequence {
    const fn way(&self, offset_bytes: u64) -> Way {
        match (offset_bytes == self.at_bytes, offset_bytes == self.last_end_bytes) {
            (true, _) => Way::Ahead,
            (false, true) => Way::AheadFromHere,
            (false, false) => Way::Alone,
        }
    }

    /// Reads a range of the file that `shared` reads, shorter only at its end.
    pub(crate) async fn read(&mut self, shared: &Arc<Reader>, offset_bytes: u64, len_bytes: usize) -> FsResult<Bytes> {
        if !self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, shared)) {
            *self = Self { of: Some(Arc::clone(shared)), reader: Some(shared.another()), ..Self::default() };
        }
        let way = self.way(offset_bytes);
        self.last_end_bytes = offset_bytes.saturating_add(len_bytes as u64).min(shared.len_bytes());
        match (way, &mut self.reader) {
            (Way::Alone, _) | (_, None) => shared.read_at(offset_bytes, len_bytes).await,
            (Way::Ahead, Some(_)) => self.ahead(len_bytes).await,
            (Way::AheadFromHere, Some(reader)) => {
                reader.seek(offset_bytes);
                self.rest = Bytes::new();
                self.at_bytes = offset_bytes;
                self.ahead(len_bytes).await
            }
        }
    }

    async fn ahead(&mut self, len_bytes: usize) -> FsResult<Bytes> {
        let Some(reader) = &mut self.reader else { return Ok(Bytes::new()) };
        let mut parts: Vec<Bytes> = Vec::new();
        let mut have = 0;
        while have < len_bytes {
            if self.rest.is_empty() {
                match reader.next().await? {
                    Some(bytes) => self.rest = bytes,
                    None => break,
                }
            }
            let part = self.rest.split_to(self.rest.len().min(len_bytes - have));
            have += part.len();
            self.at_bytes += part.len() as u64;
            parts.push(part);
        }
        Ok(joined(parts))
    }
}

/// Pieces in one; a single one is not copied.
pub(crate) fn joined(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() <= 1 {
        return parts.pop().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use base::clock::{Clock, SystemClock};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn l_10_a_long_commit_is_waited_for_while_it_goes_on_and_no_longer() {
        const DEADLINE: Duration = Duration::from_millis(50);
        let file = Arc::new(OpenFile::new(1, FileStatus::default(), How::Clean(None)));
        let (commits, state) = (Arc::clone(&file), file.state.lock().await);
        let hands_on_pieces = move || {
            let clock = SystemClock::new();
            while clock.now().elapsed_from_start() < 4 * DEADLINE {
                commits.goes_on();
            }
        };
        let committing = async {
            base::task::blocking(hands_on_pieces).await.unwrap();
            drop(state);
        };
        let (waited, ()) = tokio::join!(file.lock_within(DEADLINE), committing);
        assert!(waited.is_ok(), "it went on for longer than the deadline");
        // Whoever has it now does nothing.
        assert_eq!(file.lock_within(DEADLINE).await.err(), Some(Errno::EIO));
    }

    #[test]
    fn a_sequence_is_found_and_others_do_not_disturb_it() {
        let sequence = |at_bytes, last_end_bytes| Sequence { at_bytes, last_end_bytes, ..Sequence::default() };
        assert_eq!(sequence(0, 0).way(0), Way::Ahead);
        assert_eq!(sequence(100, 100).way(100), Way::Ahead);
        // Somebody reads elsewhere, and the sequence goes on.
        assert_eq!(sequence(100, 100).way(5000), Way::Alone);
        assert_eq!(sequence(100, 5010).way(100), Way::Ahead);
        // The second of a row that begins elsewhere.
        assert_eq!(sequence(100, 5010).way(5010), Way::AheadFromHere);
    }

    #[test]
    fn one_piece_is_not_copied() {
        let bytes = Bytes::from_static(b"abc");
        assert_eq!(joined(vec![bytes.clone()]).as_ptr(), bytes.as_ptr());
        assert_eq!(&joined(vec![bytes.clone(), bytes])[..], b"abcabc");
        assert!(joined(vec![]).is_empty());
    }
}
