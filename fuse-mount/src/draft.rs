//! A changed copy of a file, on this machine: what was written lies in a local file, the rest is where it was.
//!
//! ```text
//!   byte of the copy ─┬ written or fetched here ─▶ the local file
//!                     ├ in a hole               ─▶ zero
//!                     ├ below `floor`           ─▶ the file as the cluster has it
//!                     └ else                    ─▶ zero
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::local::ScratchFile;
use base::task;
use bytes::{Bytes, BytesMut};
use client::Reader;

use crate::commit::Changed;
use crate::errno::Errno;
use crate::ranges::Ranges;

/// Room for the local bytes of all copies of a mount.
#[derive(Debug)]
pub(crate) struct Room {
    held_bytes: AtomicU64,
    most_bytes: u64,
}

impl Room {
    pub(crate) const fn new(most_bytes: u64) -> Self {
        Self { held_bytes: AtomicU64::new(0), most_bytes }
    }
    /// Bytes that are held, and the most that may be.
    pub(crate) fn figures(&self) -> (u64, u64) {
        (self.held_bytes.load(Ordering::Relaxed), self.most_bytes)
    }
    fn take(&self, bytes: u64) -> Result<(), Errno> {
        let more = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.most_bytes);
        let taken = self.held_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(drop).map_err(|_full| Errno::ENOSPC)
    }
    fn give_back(&self, bytes: u64) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A changed copy.
#[derive(Debug)]
pub(crate) struct Draft {
    local: Arc<ScratchFile>,
    room: Arc<Room>,
    held_bytes: u64,
    /// What the local file has.
    have: Ranges,
    /// What was written since the last commit.
    written: Ranges,
    /// What was made zeros, unless the local file has something since.
    holes: Ranges,
    /// The file as the cluster has it; `None`: it was committed, and not looked at since.
    pub(crate) base: Option<Arc<Reader>>,
    base_len_bytes: u64,
    floor_len_bytes: u64,
    len_bytes: u64,
}

/// Where a piece of the copy is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Local(Arc<ScratchFile>),
    /// Only if `Draft::base` is there.
    Base,
    Zero,
}

impl Draft {
    pub(crate) fn new(local: ScratchFile, room: Arc<Room>, base: Option<Arc<Reader>>, len_bytes: u64) -> Self {
        let (have, written) = (Ranges::default(), Ranges::default());
        let (base_len_bytes, floor_len_bytes) = (len_bytes, len_bytes);
        Self {
            local: Arc::new(local),
            room,
            held_bytes: 0,
            have,
            written,
            holes: Ranges::default(),
            base,
            base_len_bytes,
            floor_len_bytes,
            len_bytes,
        }
    }

    pub(crate) const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Could it have so much more, if it were alone?
    pub(crate) fn could_hold(&self, more_bytes: u64) -> bool {
        self.held_bytes.saturating_add(more_bytes) <= self.room.most_bytes
    }

    /// Is there something that the cluster does not have?
    pub(crate) fn is_changed(&self) -> bool {
        let same = self.len_bytes == self.base_len_bytes && self.floor_len_bytes == self.base_len_bytes;
        !(same && self.written.is_empty())
    }

    pub(crate) fn changed(&self, names: u32, unlinked: bool) -> Changed {
        Changed {
            base_len_bytes: self.base_len_bytes,
            floor_len_bytes: self.floor_len_bytes,
            len_bytes: self.len_bytes,
            first_written: self.written.first(),
            names,
            unlinked,
        }
    }

    /// The cluster has all of it now.
    pub(crate) fn committed(&mut self) {
        self.written.clear();
        self.base = None;
        (self.base_len_bytes, self.floor_len_bytes) = (self.len_bytes, self.len_bytes);
    }

    /// The file as the cluster has it is not to be asked for again: all of it is here.
    pub(crate) fn stands_alone(&mut self) {
        self.base = None;
        self.floor_len_bytes = 0;
    }

    /// The pieces of a range in order, and where they are; up to the end.
    pub(crate) fn pieces(&self, range: Range<u64>) -> Vec<(Range<u64>, Place)> {
        let range = range.start.min(self.len_bytes)..range.end.min(self.len_bytes);
        let mut pieces = Vec::new();
        for (piece, here) in self.have.pieces(range) {
            if here {
                pieces.push((piece, Place::Local(Arc::clone(&self.local))));
                continue;
            }
            for (piece, hole) in self.holes.pieces(piece) {
                let edge = if hole { piece.start } else { self.floor_len_bytes.clamp(piece.start, piece.end) };
                let parts = [(piece.start..edge, Place::Base), (edge..piece.end, Place::Zero)];
                pieces.extend(parts.into_iter().filter(|(part, _)| !part.is_empty()));
            }
        }
        pieces
    }

    /// Writes bytes that a program gave.
    pub(crate) async fn write(&mut self, offset_bytes: u64, bytes: Bytes) -> Result<(), Errno> {
        let range = offset_bytes..offset_bytes + bytes.len() as u64;
        self.put(offset_bytes, bytes).await?;
        self.written.add(range.clone());
        self.len_bytes = self.len_bytes.max(range.end);
        Ok(())
    }

    /// Keeps bytes that the cluster has.
    pub(crate) async fn put(&mut self, offset_bytes: u64, bytes: Bytes) -> Result<(), Errno> {
        let range = offset_bytes..offset_bytes + bytes.len() as u64;
        let new = self.have.pieces(range.clone()).into_iter().filter(|(_, here)| !here);
        let new_bytes = new.map(|(piece, _)| piece.end - piece.start).sum();
        self.room.take(new_bytes)?;
        self.held_bytes += new_bytes;
        let local = Arc::clone(&self.local);
        let kept = on_disk(move || local.write_at(offset_bytes, &bytes)).await;
        match kept {
            Ok(()) => self.have.add(range),
            Err(_) => {
                self.room.give_back(new_bytes);
                self.held_bytes -= new_bytes;
            }
        }
        kept
    }

    /// Makes a range zeros, up to the end. What was here of it takes no room any more.
    pub(crate) async fn zero(&mut self, range: Range<u64>) -> Result<(), Errno> {
        let range = range.start.min(self.len_bytes)..range.end.min(self.len_bytes);
        let (local, hole) = (Arc::clone(&self.local), range.clone());
        if self.have.bytes_of(range.clone()) > 0 {
            on_disk(move || local.punch(hole)).await?;
        }
        self.give_back(range.clone());
        self.have.remove(range.clone());
        self.holes.add(range.clone());
        self.written.add(range);
        Ok(())
    }

    /// A range of the local file is gone.
    fn give_back(&mut self, range: Range<u64>) {
        let bytes = self.have.bytes_of(range);
        self.room.give_back(bytes);
        self.held_bytes -= bytes;
    }

    /// Gives it a length.
    pub(crate) async fn set_len(&mut self, len_bytes: u64) -> Result<(), Errno> {
        if len_bytes < self.len_bytes {
            let local = Arc::clone(&self.local);
            on_disk(move || local.set_len(len_bytes)).await?;
            self.give_back(len_bytes..self.len_bytes);
            self.have.cut(len_bytes);
            self.written.cut(len_bytes);
            self.holes.cut(len_bytes);
            self.floor_len_bytes = self.floor_len_bytes.min(len_bytes);
        }
        self.len_bytes = len_bytes;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.room.give_back(self.held_bytes);
    }
}

/// Reads a piece; `base` is asked for what is not here.
pub(crate) async fn read_piece(
    range: Range<u64>,
    place: Place,
    base: Option<&Arc<Reader>>,
) -> Result<Bytes, client::FsError> {
    let want_bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    match place {
        Place::Zero => Ok(BytesMut::zeroed(want_bytes).freeze()),
        Place::Base => match base {
            Some(base) => base.read_exact_at(range.start, want_bytes).await,
            None => Err(lost("the file as it was before is not there any more")),
        },
        Place::Local(local) => {
            let read = task::blocking(move || local.read_at(range.start, want_bytes)).await;
            let bytes = read.and_then(|read| read).map_err(|error| lost(&format!("the cache folder: {error}")))?;
            if bytes.len() == want_bytes { Ok(bytes) } else { Err(lost("the cache folder lost bytes")) }
        }
    }
}

fn lost(text: &str) -> client::FsError {
    client::FsError::new(client::ErrorCode::Internal, text)
}

async fn on_disk(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), Errno> {
    task::blocking(work).await.and_then(|done| done).map_err(|error| Errno::of_local(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(len_bytes: u64, most_bytes: u64) -> (Draft, Arc<Room>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let room = Arc::new(Room::new(most_bytes));
        let draft = Draft::new(ScratchFile::create(dir.path()).unwrap(), Arc::clone(&room), None, len_bytes);
        (draft, room, dir)
    }

    fn places(draft: &Draft) -> String {
        let letter = |(range, place): (Range<u64>, Place)| match place {
            Place::Local(_) => format!("l{}", range.end - range.start),
            Place::Base => format!("b{}", range.end - range.start),
            Place::Zero => format!("z{}", range.end - range.start),
        };
        draft.pieces(0..u64::MAX).into_iter().map(letter).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn bytes_are_where_they_were_put_and_a_cut_leaves_zeros() {
        let (mut draft, _, _dir) = draft(10, 100);
        assert_eq!((places(&draft).as_str(), draft.is_changed()), ("b10", false));
        draft.write(4, Bytes::from_static(b"xy")).await.unwrap();
        assert_eq!(places(&draft), "b4 l2 b4");
        draft.set_len(5).await.unwrap();
        draft.set_len(12).await.unwrap();
        assert_eq!((places(&draft).as_str(), draft.is_changed()), ("b4 l1 z7", true));
        draft.write(14, Bytes::from_static(b"z")).await.unwrap();
        assert_eq!(places(&draft), "b4 l1 z9 l1");
        draft.committed();
        assert_eq!((places(&draft).as_str(), draft.is_changed()), ("b4 l1 b9 l1", false));
    }

    #[tokio::test]
    async fn holes_are_zeros_until_something_is_written_there() {
        let (mut draft, _, _dir) = draft(10, 100);
        draft.write(2, Bytes::from_static(b"abcd")).await.unwrap();
        draft.zero(4..8).await.unwrap();
        assert_eq!((places(&draft).as_str(), draft.is_changed()), ("b2 l2 z4 b2", true));
        draft.write(5, Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(places(&draft), "b2 l2 z1 l1 z2 b2");
        draft.set_len(7).await.unwrap();
        draft.set_len(9).await.unwrap();
        assert_eq!(places(&draft), "b2 l2 z1 l1 z1 z2");
        // Not beyond the end.
        draft.zero(8..100).await.unwrap();
        assert_eq!((draft.len_bytes(), draft.changed(1, false).first_written), (9, Some(2)));
    }

    #[tokio::test]
    async fn the_room_of_all_copies_is_bounded_and_given_back() {
        let (mut draft, room, _dir) = draft(0, 6);
        draft.write(0, Bytes::from_static(b"abcd")).await.unwrap();
        draft.write(2, Bytes::from_static(b"CDEF")).await.unwrap();
        assert_eq!(draft.write(6, Bytes::from_static(b"g")).await.unwrap_err(), Errno::ENOSPC);
        assert_eq!(room.take(1), Err(Errno::ENOSPC));
        // What is cut or made a hole of takes none, and may be written again.
        draft.set_len(5).await.unwrap();
        draft.zero(1..4).await.unwrap();
        assert_eq!(room.figures(), (2, 6));
        for _ in 0..10 {
            draft.write(1, Bytes::from_static(b"xyz")).await.unwrap();
            draft.zero(1..4).await.unwrap();
        }
        assert_eq!((room.figures(), places(&draft).as_str()), ((2, 6), "l1 z3 l1"));
        drop(draft);
        assert_eq!(room.take(6), Ok(()));
    }
}
