//! Requests on the content of files: reading, writing, lengths.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use base::clock::{Clock, Moment};
use base::local::ScratchFile;
use base::task;
use bytes::Bytes;
use client::{AppendOptions, Attributes, Client, Reader};
use fuser::WriteFlags;
use tokio::sync::futures::Notified;

use crate::core::{Answer, Core};
use crate::draft::{Draft, read_piece};
use crate::errno::Errno;
use crate::inodes::Version;
use crate::open_file::{Handle, How, OpenFile, State, Stream, joined};

/// No file is longer: what the kernel counts with.
const MAX_FILE_BYTES: u64 = i64::MAX as u64;
/// Zeros beyond the end of a file that may come at once without a look at the cluster's room, in bytes.
const MAX_UNASKED_ZEROS: u64 = 64 << 20;
/// The right to write, for `check_access`.
const WRITE: u32 = 2;

impl Core {
    pub(crate) async fn read(&self, handle: u64, offset_bytes: u64, len_bytes: usize) -> Answer<Bytes> {
        let handle = self.handle(handle)?;
        let mut state = self.lock(&handle.file).await?;
        match &mut state.how {
            How::Clean(reader) => {
                let end_bytes = offset_bytes.saturating_add(len_bytes as u64);
                // Somebody else is writing it: there may be more by now.
                let grows = |reader: &Arc<Reader>| reader.status().open_for_write && end_bytes > reader.len_bytes();
                let shared = match reader {
                    Some(reader) if !grows(reader) => Arc::clone(reader),
                    _ => Arc::clone(reader.insert(self.reader(handle.file.number).await?)),
                };
                drop(state);
                self.read_clean(&handle, &shared, offset_bytes, len_bytes).await
            }
            How::Stream(stream) => self.read_stream(&handle.file, stream, offset_bytes, len_bytes).await,
            How::Draft(draft) => {
                let range = offset_bytes..offset_bytes.saturating_add(len_bytes as u64);
                self.need_base(handle.file.number, draft, range.clone()).await?;
                let (pieces, base) = (draft.pieces(range), draft.base.clone());
                drop(state);
                let mut parts = Vec::new();
                for (piece, place) in pieces {
                    parts.push(self.ask(read_piece(piece, place, base.as_ref())).await?);
                }
                Ok(joined(parts))
            }
        }
    }

    async fn read_clean(
        &self,
        handle: &Handle,
        shared: &Arc<Reader>,
        offset_bytes: u64,
        len_bytes: usize,
    ) -> Answer<Bytes> {
        // Who reads at the same time as another through one handle is no sequence.
        let read = match handle.sequence.try_lock() {
            Ok(mut sequence) => self.ask(sequence.read(shared, offset_bytes, len_bytes)).await,
            Err(_taken) => self.ask(shared.read_at(offset_bytes, len_bytes)).await,
        };
        Ok(read?)
    }

    /// What is being written: as far as it is wanted, it is flushed first.
    async fn read_stream(
        &self,
        file: &OpenFile,
        stream: &mut Stream,
        offset_bytes: u64,
        len_bytes: usize,
    ) -> Answer<Bytes> {
        let end_bytes = offset_bytes.saturating_add(len_bytes as u64).min(stream.len_bytes());
        if offset_bytes >= end_bytes {
            return Ok(Bytes::new());
        }
        if stream.flushed_bytes < end_bytes {
            self.change(stream.writer.flush()).await?;
            stream.flushed_bytes = stream.len_bytes();
            stream.reader = None;
        }
        if stream.reader.is_none() {
            stream.reader = Some(self.ask(self.own.open(&self.path(file.number)?)).await?);
        }
        let Some(reader) = &stream.reader else { return Err(Errno::EIO) };
        let want_bytes = usize::try_from(end_bytes - offset_bytes).unwrap_or(len_bytes);
        Ok(self.ask(reader.read_exact_at(offset_bytes, want_bytes)).await?)
    }

    pub(crate) async fn write(&self, handle: u64, offset_bytes: u64, bytes: Bytes, flags: WriteFlags) -> Answer<()> {
        let handle = self.handle(handle)?;
        let file = &handle.file;
        let mut state = self.lock(file).await?;
        let taken = state.takes_changes();
        state.told |= taken.is_err();
        taken?;
        // Pages of a mapped file belong where they are, however the descriptor was opened.
        let appends = handle.appends && !flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        if !appends {
            self.look_again(file, &mut state).await?;
        }
        let offset_bytes = if appends { len_of(file, &state) } else { offset_bytes };
        let end_bytes = offset_bytes.checked_add(bytes.len() as u64).filter(|end| *end <= MAX_FILE_BYTES);
        end_bytes.ok_or(Errno::EFBIG)?;
        if flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) && !state.unlinked {
            self.end_setuid(file).await?;
        }
        let written = self.write_to(file, &mut state, (offset_bytes, appends), bytes).await;
        state.told |= written.is_err() && state.failed.is_some();
        written?;
        state.changed();
        self.show_local(file, &state);
        Ok(())
    }

    /// Whoever changes a program that runs as its owner does not choose what the owner does.
    async fn end_setuid(&self, file: &OpenFile) -> Answer<()> {
        let mode = file.seen.lock().status.mode;
        let wanted = without_setuid(mode);
        if wanted != mode {
            let attributes = Attributes { mode: Some(wanted), ..Attributes::default() };
            let status = self.change(self.own.set_attributes(&self.path(file.number)?, &attributes)).await?;
            self.inodes.lock().changed(status.inode);
            file.seen.lock().status.mode = wanted;
            self.forget_attributes(file.number);
        }
        Ok(())
    }

    /// Before a file is changed of which nothing is changed here yet: it may be another one, or longer, by now.
    async fn look_again(&self, file: &OpenFile, state: &mut State) -> Answer<()> {
        let changed = match &state.how {
            How::Clean(_) => false,
            How::Stream(_) => true,
            How::Draft(draft) => draft.is_changed(),
        };
        if changed || state.unlinked {
            return Ok(());
        }
        let status = self.status(&self.own, file.number).await?;
        let mut seen = file.seen.lock();
        let same = Version::of(&status) == Version::of(&seen.status);
        if !same || !matches!(state.how, How::Clean(_)) {
            state.how = How::Clean(None);
        }
        (seen.status, seen.local) = (status, None);
        drop(seen);
        if !same {
            self.forget_attributes(file.number);
        }
        Ok(())
    }

    async fn write_to(
        &self,
        file: &OpenFile,
        state: &mut State,
        (offset_bytes, appends): (u64, bool),
        bytes: Bytes,
    ) -> Answer<()> {
        let at_end = offset_bytes == len_of(file, state);
        if at_end && !state.unlinked && matches!(state.how, How::Clean(_)) {
            self.begin_stream(file, state, (offset_bytes, appends)).await?;
        }
        if at_end && let How::Stream(stream) = &mut state.how {
            let written = self.change(stream.writer.write(bytes)).await;
            return written.map_err(|error| lose(state, &error));
        }
        self.has_room_for_zeros(offset_bytes.saturating_sub(len_of(file, state))).await?;
        let draft = self.draft(file, state).await?;
        let until = self.room_until();
        loop {
            let room = self.room_to_come(draft, bytes.len() as u64, until);
            let written = draft.write(offset_bytes, bytes.clone()).await;
            if self.found_room(file, written, room, until).await? {
                return Ok(());
            }
        }
    }

    /// Until when a request waits for room in the cache folder.
    pub(crate) fn room_until(&self) -> Moment {
        self.clock.now().plus(self.config.deadline)
    }
    /// Room that may come for more bytes of a copy; `None`: none that it could wait for.
    pub(crate) fn room_to_come(&self, draft: &Draft, more_bytes: u64, until: Moment) -> Option<Notified<'_>> {
        let waits = self.clock.now() < until && draft.could_hold(more_bytes);
        if waits { self.behind.room_to_come() } else { None }
    }
    /// Was there room in the cache folder for what was tried? Room that other files take is given back when they are committed:
    /// if some were when the try began, the end of one is waited for, and then it is worth another try (false).
    pub(crate) async fn found_room(
        &self,
        file: &OpenFile,
        tried: Answer<()>,
        room: Option<impl Future<Output = ()>>,
        until: Moment,
    ) -> Answer<bool> {
        let (Err(Errno::ENOSPC), Some(room)) = (tried, room) else { return tried.map(|()| true) };
        // Then, too: room comes back in other ways.
        drop(tokio::time::timeout(until.since(self.clock.now()), room).await);
        // Whoever waits for this file sees that it goes on.
        self.goes_on(file);
        Ok(false)
    }

    /// Zeros that nobody wrote are stored as all bytes are. Before there are many, the cluster is asked whether it could take
    /// even one copy of them: so that nobody hears of it only after they were sent.
    async fn has_room_for_zeros(&self, zeros_bytes: u64) -> Answer<()> {
        if zeros_bytes <= MAX_UNASKED_ZEROS || zeros_bytes <= self.statfs().await?.available_bytes {
            return Ok(());
        }
        Err(Errno::ENOSPC)
    }

    /// Opens a file in the cluster for writing at its end, if that is where it was believed to be, or wherever it is by now.
    async fn begin_stream(&self, file: &OpenFile, state: &mut State, (at_bytes, anywhere): (u64, bool)) -> Answer<()> {
        let path = self.path(file.number)?;
        let writer = self.change(self.own.append(&path, AppendOptions::default())).await?;
        let inode = self.inodes.lock().inode(file.number);
        let moved = writer.position_bytes() != at_bytes && !anywhere;
        if moved || writer.status().inode != inode {
            // Somebody else wrote it meanwhile. Nothing was given to this writer: the file stays as it is.
            self.change(writer.close()).await?;
            return Err(Errno::ESTALE);
        }
        state.how = How::Stream(Box::new(Stream::new(writer)));
        Ok(())
    }

    /// The changed copy of a file, made if there is none.
    pub(crate) async fn draft<'a>(&self, file: &OpenFile, state: &'a mut State) -> Answer<&'a mut Draft> {
        if let How::Stream(_) = state.how {
            self.end_stream(file, state).await?;
        }
        if let How::Clean(reader) = &mut state.how {
            let len_bytes = file.seen.lock().status.len_bytes;
            let base = reader.take();
            let folder = self.config.cache_dir.clone();
            let local = task::blocking(move || ScratchFile::create(&folder)).await.and_then(|made| made);
            let local = local.map_err(|error| {
                tracing::error!("the cache folder {} cannot be used: {error}", self.config.cache_dir.display());
                Errno::of_local(&error)
            })?;
            state.how = How::Draft(Draft::new(local, Arc::clone(&self.room), base, len_bytes));
        }
        match &mut state.how {
            How::Draft(draft) => Ok(draft),
            How::Clean(_) | How::Stream(_) => Err(Errno::EIO),
        }
    }

    /// Sees to it that what a range of a copy has of the cluster can be read.
    pub(crate) async fn need_base(&self, number: u64, draft: &mut Draft, range: Range<u64>) -> Answer<()> {
        let pieces = draft.pieces(range);
        if draft.base.is_none() && pieces.iter().any(|(_, place)| matches!(place, crate::draft::Place::Base)) {
            draft.base = Some(self.reader(number).await?);
        }
        Ok(())
    }

    /// A reader of what the cluster has now.
    pub(crate) async fn reader(&self, number: u64) -> Answer<Arc<Reader>> {
        let reader = self.ask(self.own.open(&self.path(number)?)).await?;
        let inode = self.inodes.lock().inode(number);
        if reader.status().inode == inode { Ok(Arc::new(reader)) } else { Err(Errno::ESTALE) }
    }

    /// Length and time of an open file are this mount's while it has changes.
    pub(crate) fn show_local(&self, file: &OpenFile, state: &State) {
        let len_bytes = len_of(file, state);
        file.seen.lock().local = Some((len_bytes, self.now_ns()));
    }

    /// Gives a file a length, open or not.
    pub(crate) async fn set_len(
        &self,
        client: &Client,
        number: u64,
        handle: Option<u64>,
        len_bytes: u64,
    ) -> Answer<()> {
        if len_bytes > MAX_FILE_BYTES {
            return Err(Errno::EFBIG);
        }
        // Whoever has it open for writing may cut it, whatever its mode is by now.
        if let Some(handle) = handle.and_then(|handle| self.handle(handle).ok()).filter(|handle| handle.writes) {
            return self.set_len_of(&handle.file, len_bytes).await;
        }
        if !self.ask(client.check_access(&self.path(number)?, WRITE)).await? {
            return Err(Errno::EACCES);
        }
        let status = self.status(client, number).await?;
        let file = self.hold(number, || OpenFile::new(number, status, How::Clean(None)));
        let set = self.set_len_at_once(&file, len_bytes).await;
        self.end_hold(&file, false, false).await;
        set
    }
    async fn set_len_at_once(&self, file: &OpenFile, len_bytes: u64) -> Answer<()> {
        let mut state = self.lock(file).await?;
        let had_changes = state.has_changes();
        self.set_len_in(file, &mut state, len_bytes).await?;
        let ended = self.commit(file, &mut state).await;
        if ended.is_err() && !had_changes && !file.is_open() {
            // Whoever asked for it is told that it did not happen.
            state.how = How::Clean(None);
            file.seen.lock().local = None;
        }
        state.tell(ended)
    }

    pub(crate) async fn set_len_of(&self, file: &OpenFile, len_bytes: u64) -> Answer<()> {
        let mut state = self.lock(file).await?;
        self.set_len_in(file, &mut state, len_bytes).await
    }

    async fn set_len_in(&self, file: &OpenFile, state: &mut State, len_bytes: u64) -> Answer<()> {
        state.takes_changes()?;
        if matches!(state.how, How::Stream(_)) && len_bytes < len_of(file, state) {
            self.end_stream(file, state).await?;
        }
        self.look_again(file, state).await?;
        let now_bytes = len_of(file, state);
        if len_bytes == now_bytes {
            return Ok(());
        }
        if len_bytes < now_bytes {
            let in_cluster = matches!(state.how, How::Clean(_)) && !state.unlinked;
            if in_cluster && self.cut(file, state, len_bytes).await? {
                return Ok(());
            }
        }
        self.has_room_for_zeros(len_bytes.saturating_sub(now_bytes)).await?;
        self.draft(file, state).await?.set_len(len_bytes).await?;
        state.changed();
        self.show_local(file, state);
        Ok(())
    }

    /// Makes room up to `end_bytes`, as `fallocate` does: the file gets longer.
    pub(crate) async fn reach(&self, handle: u64, end_bytes: u64) -> Answer<()> {
        self.writes(handle)?;
        let handle = self.handle(handle)?;
        let longer = end_bytes > len_of(&handle.file, &*self.lock(&handle.file).await?);
        if longer { self.set_len_of(&handle.file, end_bytes).await } else { Ok(()) }
    }

    /// May a descriptor change its file?
    pub(crate) fn writes(&self, handle: u64) -> Answer<()> {
        if self.handle(handle)?.writes { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// Makes a range of a file zeros, as far as it is long. They are bytes like others in the cluster.
    pub(crate) async fn zero(&self, handle: u64, range: Range<u64>) -> Answer<()> {
        self.writes(handle)?;
        let handle = self.handle(handle)?;
        let file = &handle.file;
        let mut state = self.lock(file).await?;
        state.takes_changes()?;
        self.look_again(file, &mut state).await?;
        if range.start >= len_of(file, &state) {
            return Ok(());
        }
        self.draft(file, &mut state).await?.zero(range).await?;
        state.changed();
        self.show_local(file, &state);
        Ok(())
    }
}

/// Setgid without the right to execute is no setgid.
pub(crate) const fn without_setuid(mode: u32) -> u32 {
    let setgid = if mode & 0o010 == 0 { 0 } else { 0o2000 };
    mode & !(0o4000 | setgid)
}

/// Length of a file as this mount's programs see it.
pub(crate) fn len_of(file: &OpenFile, state: &State) -> u64 {
    match &state.how {
        How::Clean(_) => file.seen.lock().status.len_bytes,
        How::Stream(stream) => stream.len_bytes(),
        How::Draft(draft) => draft.len_bytes(),
    }
}

/// Bytes that programs gave are lost.
pub(crate) fn lose(state: &mut State, error: &client::FsError) -> Errno {
    let errno = Errno::from(error);
    tracing::error!("what was written is lost: {error}");
    state.failed = Some(errno);
    state.how = How::Clean(None);
    errno
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_ends_setuid_and_setgid() {
        assert_eq!((without_setuid(0o6755), without_setuid(0o2644), without_setuid(0o1777)), (0o755, 0o2644, 0o1777));
    }
}
