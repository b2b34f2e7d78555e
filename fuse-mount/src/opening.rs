//! Requests that open files and close them, and make durable what was written.

use std::sync::Arc;

use base::clock::Clock;
use client::{Client, CreateOptions, ErrorCode, FileStatus, Reader};
use fuser::FileAttr;

use crate::attr::attr;
use crate::changes::Asked;
use crate::config::SyncAt;
use crate::core::{Answer, Core};
use crate::errno::Errno;
use crate::files::lose;
use crate::inodes::Version;
use crate::names::ASKS;
use crate::open_file::{Handle, How, OpenFile, State, Stream};

/// Rights of `check_access`.
const READ: u32 = 4;
const WRITE: u32 = 2;

/// What an `open` asks for.
#[derive(Clone, Copy, Debug)]
struct Rights {
    reads: bool,
    writes: bool,
}

impl Rights {
    const fn of(flags: i32) -> Self {
        let reads = flags & libc::O_ACCMODE != libc::O_WRONLY;
        // Whoever only reads may still ask for an empty file.
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        Self { reads, writes }
    }
    const fn bits(self) -> u32 {
        (if self.reads { READ } else { 0 }) | (if self.writes { WRITE } else { 0 })
    }
}

/// What the cluster has of a file.
#[derive(Debug)]
struct Content {
    asked: Asked,
    status: FileStatus,
    reader: Option<Arc<Reader>>,
}

/// What opening made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) handle: u64,
    /// The kernel's pages of the file are what the file is.
    pub(crate) keep_pages: bool,
}

impl Core {
    /// Makes a file and opens it. Without `O_EXCL` one that somebody else made meanwhile is opened.
    pub(crate) async fn create(
        &self,
        uid: u32,
        (directory, name): (u64, &str),
        (mode, umask): (u32, u32),
        flags: i32,
    ) -> Answer<(FileAttr, Opened)> {
        let (path, client) = (self.path_in(directory, name)?, self.client(uid)?);
        let mode = mode & 0o7777;
        let options = CreateOptions {
            mode: Some(mode & !umask),
            unmasked_mode: Some(mode),
            empty: true,
            publish_at_once: true,
            ..CreateOptions::default()
        };
        let writer = match self.change(client.create(&path, options)).await {
            Ok(writer) => writer,
            Err(error) if error.code == ErrorCode::AlreadyExists && flags & libc::O_EXCL == 0 => {
                let attr = self.look_up(&client, directory, name).await?;
                let opened = self.open(uid, attr.ino.0, flags).await;
                if opened.is_err() {
                    // The kernel is not told of it.
                    self.inodes.lock().forget(attr.ino.0, 1);
                }
                return Ok((attr, opened?));
            }
            Err(error) => return Err(error.into()),
        };
        let status = writer.status().clone();
        let number = self.inodes.lock().made(directory, name, status.inode);
        let attr = attr(number, &status, &self.people);
        let file = self.hold(number, || OpenFile::new(number, status, How::Stream(Box::new(Stream::new(writer)))));
        file.opened();
        let handle = self.add_handle(Handle::new(file, flags));
        Ok((attr, Opened { handle, keep_pages: false }))
    }

    /// Makes an empty file.
    pub(crate) async fn make(&self, uid: u32, at: (u64, &str), modes: (u32, u32)) -> Answer<FileAttr> {
        let (attr, opened) = self.create(uid, at, modes, libc::O_WRONLY | libc::O_EXCL).await?;
        let flushed = self.flush(opened.handle).await;
        self.release(opened.handle, false).await;
        if flushed.is_err() {
            self.inodes.lock().forget(attr.ino.0, 1);
        }
        flushed.map(|()| attr)
    }

    pub(crate) async fn open(&self, uid: u32, number: u64, flags: i32) -> Answer<Opened> {
        let client = self.client(uid)?;
        let rights = Rights::of(flags);
        if let Some(file) = self.file(number).filter(|file| file.seen.lock().unlinked && file.is_open()) {
            if !self.permits(uid, &file.seen.lock().status, rights.bits()) {
                return Err(Errno::EACCES);
            }
            return self.open_unlinked(&file, flags).await;
        }
        // What was closed a moment ago may be on its way into the cluster, under another inode.
        drop(self.hold_still(self.file(number).as_deref()).await?);
        if rights.writes && !self.ask(client.check_access(&self.path(number)?, WRITE)).await? {
            return Err(Errno::EACCES);
        }
        let asked = self.ask_for_content(&client, number, rights).await?;
        let (version, inode) = (Version::of(&asked.status), asked.status.inode);
        let (keep_pages, shows_another) = {
            let mut inodes = self.inodes.lock();
            let keeps = inodes.keeps_pages(number, version) && !asked.status.open_for_write;
            (keeps, inodes.shows_another(number, version))
        };
        if shows_another {
            self.forget_attributes(number);
        }
        let file = self.hold(number, || OpenFile::new(number, asked.status.clone(), How::Clean(asked.reader.clone())));
        self.renew_or_let_go(&file, asked, flags).await?;
        // Who only reads hears of nothing at close.
        if rights.writes
            && let Some(lost) = self.behind.take_lost(inode)
        {
            file.seen.lock().late = Some(lost);
        }
        Ok(Opened { handle: self.add_handle(Handle::new(file, flags)), keep_pages })
    }

    /// What the cluster has of a file that is to be opened; once more, if this mount commits something of it meanwhile.
    async fn ask_for_content(&self, client: &Client, number: u64, rights: Rights) -> Answer<Content> {
        for _ in 0..ASKS {
            let (asked, inode) = {
                let inodes = self.inodes.lock();
                (inodes.asked(), inodes.inode(number))
            };
            let path = self.path(number)?;
            let found = match rights.reads {
                true => {
                    self.ask(client.open(&path)).await.map(|reader| (reader.status().clone(), Some(Arc::new(reader))))
                }
                false => self.ask(client.stat(&path)).await.map(|status| (status, None)),
            };
            let found = found.map_err(Errno::from);
            let is_same = {
                let inodes = self.inodes.lock();
                let is_same = found.as_ref().is_ok_and(|(status, _)| status.inode == inodes.inode(number));
                is_same && !inodes.is_old_inode(asked, inode)
            };
            match found {
                Ok((status, reader)) if is_same => return Ok(Content { asked, status, reader }),
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
            // It is being committed, moved, or was; else its name leads to another file by now, or to none.
            drop(self.hold_still(self.file(number).as_deref()).await?);
            self.moves_are_known().await;
            if self.path(number)? == path && !self.inodes.lock().is_old_inode(asked, inode) {
                break;
            }
        }
        Err(Errno::ESTALE)
    }

    /// By its descriptor, through /proc: it has no name.
    async fn open_unlinked(&self, file: &Arc<OpenFile>, flags: i32) -> Answer<Opened> {
        let number = file.number;
        let held = self.hold(number, || OpenFile::new(number, file.seen.lock().status.clone(), How::Clean(None)));
        if !Arc::ptr_eq(&held, file) || !held.is_open() {
            self.end_hold(&held, false, false).await;
            return Err(Errno::ESTALE);
        }
        held.opened();
        self.cut_if_wanted(&held, flags).await?;
        Ok(Opened { handle: self.add_handle(Handle::new(held, flags)), keep_pages: true })
    }

    /// A file that is held gets a descriptor, or is let go.
    async fn renew_or_let_go(&self, file: &Arc<OpenFile>, asked: Content, flags: i32) -> Answer<()> {
        if let Err(error) = self.renew(file, asked).await {
            self.end_hold(file, false, false).await;
            return Err(error);
        }
        self.cut_if_wanted(file, flags).await
    }

    /// `O_TRUNC` of a file that has its descriptor already. After an error it has none.
    async fn cut_if_wanted(&self, file: &Arc<OpenFile>, flags: i32) -> Answer<()> {
        if flags & libc::O_TRUNC == 0 {
            return Ok(());
        }
        let cut = self.set_len_of(file, 0).await;
        if cut.is_err() {
            file.closed();
            self.end_hold(file, false, false).await;
        }
        cut
    }

    /// A file that is opened shows what the cluster has, unless this mount has something newer. It has one descriptor more then:
    /// whoever takes its last name away brings its content here first.
    async fn renew(&self, file: &OpenFile, asked: Content) -> Answer<()> {
        let mut state = self.lock(file).await?;
        if state.unlinked {
            return Err(Errno::ESTALE);
        }
        let clean = match &state.how {
            How::Clean(_) => true,
            How::Stream(_) => false,
            How::Draft(draft) => !draft.is_changed(),
        };
        if clean {
            let Content { asked, mut status, mut reader } = asked;
            if self.inodes.lock().is_old_inode(asked, status.inode) {
                // Committed since the cluster was asked. While this file is held, nothing more is.
                (status, reader) = (self.status(&self.own, file.number).await?, None);
            }
            state.how = How::Clean(reader);
            let mut seen = file.seen.lock();
            (seen.status, seen.local) = (status, None);
        }
        file.opened();
        Ok(())
    }

    /// A descriptor is closed.
    pub(crate) async fn flush(&self, handle: u64) -> Answer<()> {
        let handle = self.handle(handle)?;
        if !handle.writes {
            return Ok(());
        }
        if self.config.sync == SyncAt::Fsync {
            return self.flush_behind(&handle.file).await;
        }
        let mut state = self.lock(&handle.file).await?;
        // A shell that gives its descriptor to a child closes its own before anything is written.
        if let How::Stream(stream) = &state.how
            && stream.writer.written_bytes() == 0
            && state.failed.is_none()
        {
            return Ok(());
        }
        let ended = self.commit(&handle.file, &mut state).await;
        state.tell(ended)?;
        told_late(&handle.file)
    }

    /// The same where a close promises nothing: what is known to be lost is told, the rest is committed at the last close.
    async fn flush_behind(&self, file: &OpenFile) -> Answer<()> {
        // Else it is being committed.
        if let Ok(mut state) = file.state.try_lock()
            && let Some(failed) = state.failed
        {
            return state.tell(Err(failed));
        }
        told_late(file)?;
        // Where nothing goes on, it is not the close that helps.
        drop(tokio::time::timeout(self.config.deadline, self.behind.room()).await);
        Ok(())
    }

    /// What was written is durable when this returns.
    pub(crate) async fn fsync(&self, handle: u64) -> Answer<()> {
        let handle = self.handle(handle)?;
        let mut state = self.lock(&handle.file).await?;
        let ended = self.sync(&handle.file, &mut state).await;
        state.tell(ended)?;
        told_late(&handle.file)
    }

    async fn sync(&self, file: &OpenFile, state: &mut State) -> Answer<()> {
        if let Some(failed) = state.failed {
            return Err(failed);
        }
        if let How::Stream(stream) = &mut state.how {
            let synced = self.change(stream.writer.sync_data()).await;
            return synced.map_err(|error| lose(state, &error));
        }
        // The kernel lets one after the other sync a file: those who waited for one that failed are told the same.
        let begun = self.clock.now();
        if let Some((until, errno)) = state.tried
            && begun < until
        {
            return Err(errno);
        }
        let ended = self.commit(file, state).await;
        let now = self.clock.now();
        let slow = now.since(begun) >= self.config.deadline / 2;
        state.tried = ended.err().filter(|_| slow).map(|errno| (now.plus(self.config.deadline / 100), errno));
        ended
    }

    /// The last descriptor of an `open` is gone, and nobody waits for what becomes of it; `behind`: nor did its close. Errors
    /// are logged, and those that no program was told of are kept for who opens the file next.
    pub(crate) async fn release(&self, handle: u64, behind: bool) {
        let Some(handle) = self.remove_handle(handle) else { return };
        let file = &handle.file;
        file.closed();
        // Only for what is to be brought to the cluster; who waits for another's commit of the same file takes no turn.
        let (mut waits, mut gives_room) = (false, false);
        if (handle.writes || !file.is_open())
            && let Ok(state) = file.state.try_lock()
        {
            waits = behind && state.has_changes();
            gives_room = matches!(state.how, How::Draft(_));
        }
        let under_way = gives_room.then(|| self.behind.begin());
        let turn = if waits { self.behind.turn().await } else { None };
        self.end_hold(file, handle.writes, behind).await;
        drop((turn, handle));
        // Last: whoever waits for room finds it.
        drop(under_way);
    }

    /// One hold of a file less. What is left of changes is brought to the cluster by whoever writes (`commits`), and by the last
    /// one: a file that was mapped is written after its descriptor was closed.
    pub(crate) async fn end_hold(&self, file: &OpenFile, commits: bool, behind: bool) {
        if !commits && self.let_go_of_one_of_many(file.number) {
            return;
        }
        let mut state = file.state.lock().await;
        if behind {
            Self::keep_shown_time(file, &mut state);
        }
        let ended = self.commit_for_nobody(file, &mut state).await;
        let (inode, unlinked, told) = (self.inodes.lock().inode(file.number), state.unlinked, state.told);
        // Before the lock is let go: who waits for it sees whether anybody has the file.
        let was_last = self.let_go(file.number);
        if was_last && !unlinked {
            let untold = ended.err().filter(|_| !told).or_else(|| file.seen.lock().late.take());
            untold.into_iter().for_each(|errno| self.behind.lose(inode, errno));
        }
        drop(state);
    }

    /// As [`Core::commit`], where nobody is told of an error: it is logged. Times that a file did not get are no lost bytes.
    async fn commit_for_nobody(&self, file: &OpenFile, state: &mut State) -> Answer<()> {
        let known = state.failed.is_some();
        let was_clean = matches!(state.how, How::Clean(_));
        let ended = self.commit_content(file, state).await;
        let times = if ended.is_ok() { self.give_times(file, state, was_clean).await } else { Ok(()) };
        let path = || self.path(file.number).unwrap_or_default();
        if let Err(error) = ended
            && !known
        {
            let errno = self.figures.failed("release", error);
            tracing::error!("{} was not committed behind its close: error {}", path(), errno.number());
        }
        if let Err(error) = times {
            let errno = self.figures.failed("release", error);
            tracing::warn!("{} has not got the times that it was given: error {}", path(), errno.number());
        }
        ended
    }
}

/// Whoever opened a file after bytes of it were lost is told once.
fn told_late(file: &OpenFile) -> Answer<()> {
    file.seen.lock().late.take().map_or(Ok(()), Err)
}
