//! Changes become the cluster's: at close, at fsync, and before a file loses its last name.

use std::ops::Range;
use std::sync::Arc;

use base::local::temporary_name;
use client::{
    AclChange, AppendOptions, Attributes, Client, CreateOptions, ErrorCode, FileStatus, FsError, FsResult, Replace,
    Writer,
};

use crate::commit::{Commit, commit};
use crate::config::SyncAt;
use crate::core::{Answer, Core};
use crate::draft::{Draft, Place, read_piece};
use crate::errno::Errno;
use crate::files::lose;
use crate::open_file::{How, OpenFile, State};
use tokio::sync::OwnedMutexGuard;

/// Times that a commit begins again because its file was moved.
const MOVES: u32 = 3;
/// Bytes of a changed copy that are handed on at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// A file that is about to lose a name. Nothing is committed of it as long as this lives, and nobody gets a descriptor.
#[derive(Debug)]
pub(crate) struct Kept {
    file: Arc<OpenFile>,
    state: OwnedMutexGuard<State>,
    /// What programs have open is here, or there is nothing.
    is_here: bool,
}

impl Core {
    /// All that this mount has of a file is the cluster's when this returns.
    pub(crate) async fn commit(&self, file: &OpenFile, state: &mut State) -> Answer<()> {
        let was_clean = matches!(state.how, How::Clean(_));
        self.commit_content(file, state).await?;
        self.give_times(file, state, was_clean).await
    }

    /// The same without the times that were set.
    pub(crate) async fn commit_content(&self, file: &OpenFile, state: &mut State) -> Answer<()> {
        if let Some(failed) = state.failed {
            return Err(failed);
        }
        match &mut state.how {
            How::Clean(_) => Ok(()),
            How::Stream(_) => self.end_stream(file, state).await,
            How::Draft(draft) if state.unlinked || !draft.is_changed() => Ok(()),
            How::Draft(_) => {
                let _under_way = self.behind.begin();
                let status = self.commit_under_its_name(file, state).await?;
                // Its room is for others, and the cluster says what the file is from now on.
                state.how = How::Clean(None);
                self.committed_but_for_times(file, state, status);
                Ok(())
            }
        }
    }

    /// Everything that is open, before the mount ends.
    pub(crate) async fn commit_all(&self) {
        for file in self.files() {
            let mut state = file.state.lock().await;
            if let Err(error) = self.commit(&file, &mut state).await {
                let path = self.path(file.number).unwrap_or_default();
                tracing::error!("{path} was not committed: error {}", error.number());
            }
            self.behind.step();
        }
    }

    /// The file is closed in the cluster.
    pub(crate) async fn end_stream(&self, file: &OpenFile, state: &mut State) -> Answer<()> {
        let How::Stream(stream) = std::mem::replace(&mut state.how, How::Clean(None)) else { return Ok(()) };
        // Whoever stops waiting for this does not know what became of it.
        state.failed = Some(Errno::EIO);
        match self.change(stream.writer.close()).await {
            Ok(status) => {
                state.failed = None;
                self.committed_but_for_times(file, state, status);
                Ok(())
            }
            Err(error) => Err(lose(state, &error)),
        }
    }

    /// A commit put its own time in the place of one that a program had set before. What cannot be given is given with the next
    /// commit, unless somebody else has put another file there until then (`was_clean`: nothing was committed now).
    pub(crate) async fn give_times(&self, file: &OpenFile, state: &mut State, was_clean: bool) -> Answer<()> {
        if !state.has_times() {
            return Ok(());
        }
        if was_clean && self.same(&self.own, file.number).await == Err(Errno::ESTALE) {
            state.times = Attributes::default();
            return Ok(());
        }
        let path = self.path(file.number)?;
        let status = self.change(self.own.set_attributes(&path, &state.times)).await?;
        state.times = Attributes::default();
        self.committed(file, status);
        Ok(())
    }

    /// Of what is committed behind whoever closed it: programs were shown the time of the last change, and it stays.
    pub(crate) fn keep_shown_time(file: &OpenFile, state: &mut State) {
        let changed = match &state.how {
            How::Clean(_) => false,
            How::Stream(stream) => stream.writer.written_bytes() > 0,
            How::Draft(draft) => draft.is_changed(),
        };
        if changed && state.times.mtime.is_none() {
            let shown = file.seen.lock().local;
            state.times.mtime = shown.map(|(_, mtime_ns)| client::Time::At(mtime_ns));
        }
    }

    /// Times of a file with changes are given to it when they are committed.
    pub(crate) fn keep_times(file: &OpenFile, state: &mut State, attributes: &Attributes) {
        let changed = match &state.how {
            How::Clean(_) => false,
            How::Stream(_) => true,
            How::Draft(draft) => draft.is_changed() || state.unlinked,
        };
        let (mtime, atime) = (attributes.mtime, attributes.atime);
        if !changed {
            // It has them. Older ones that it did not get after a commit are of no use any more.
            state.times.mtime = state.times.mtime.filter(|_| mtime.is_none());
            state.times.atime = state.times.atime.filter(|_| atime.is_none());
            return;
        }
        state.times.mtime = mtime.or(state.times.mtime);
        state.times.atime = atime.or(state.times.atime);
        if let Some(client::Time::At(ns)) = mtime
            && let Some((_, local_ns)) = &mut file.seen.lock().local
        {
            *local_ns = ns;
        }
    }

    /// Whoever moves a directory above the file in the middle of a commit makes it begin again, as often as that may be.
    async fn commit_under_its_name(&self, file: &OpenFile, state: &mut State) -> Answer<FileStatus> {
        for _ in 0..MOVES {
            let path = self.path(file.number)?;
            match self.commit_draft(file, state).await {
                Err(Errno::ENOENT | Errno::ESTALE) => {}
                ended => return ended,
            }
            // The cluster may have moved it before its new path is known here.
            self.moves_are_known().await;
            if self.path(file.number)? == path {
                break;
            }
        }
        self.commit_draft(file, state).await
    }

    async fn commit_draft(&self, file: &OpenFile, state: &mut State) -> Answer<FileStatus> {
        let now = self.status_for_commit(file, state).await?;
        let path = self.path(file.number)?;
        let unlinked = state.unlinked;
        let How::Draft(draft) = &mut state.how else { return Ok(now) };
        let all = 0..draft.len_bytes();
        let changed = draft.changed(now.nlink, unlinked);
        if changed.base_len_bytes != now.len_bytes && commit(&changed) != Commit::Replace {
            // Somebody else changed it since it was opened: the last one who closes it is right, as a whole.
            return if now.nlink > 1 && all.end > 0 {
                self.rewrite(file, state, &path, &now).await
            } else {
                self.replace(file, state, &path, &now).await
            };
        }
        match commit(&changed) {
            Commit::Nothing => Ok(now),
            Commit::Cut => {
                let status = self.cut_in_cluster((&path, now.inode), all.end).await?;
                draft.committed();
                Ok(status)
            }
            Commit::Append => {
                let mut writer = self.change(self.own.append(&path, AppendOptions::default())).await?;
                if writer.status().inode != now.inode {
                    // Another file got the name meanwhile. Nothing was given to this writer: it stays as it is.
                    self.change(writer.close()).await?;
                    return Err(Errno::ESTALE);
                }
                let sent = self.send(file, &mut writer, draft, changed.base_len_bytes..all.end).await;
                self.finish(draft, writer, sent).await
            }
            Commit::Rewrite => self.rewrite(file, state, &path, &now).await,
            Commit::Replace => self.replace(file, state, &path, &now).await,
        }
    }

    async fn finish(&self, draft: &mut Draft, writer: Writer, sent: FsResult<()>) -> Answer<FileStatus> {
        sent?;
        let status = self.change(writer.close()).await?;
        draft.committed();
        Ok(status)
    }

    /// The file that is to be changed, as the cluster has it; also one that an earlier commit made of it without an answer.
    async fn status_for_commit(&self, file: &OpenFile, state: &mut State) -> Answer<FileStatus> {
        let path = self.path(file.number)?;
        let status = self.ask(self.own.stat_link(&path)).await?;
        if status.inode != self.inodes.lock().inode(file.number) {
            if state.maybe_inode != Some(status.inode) {
                return Err(Errno::ESTALE);
            }
            self.inodes.lock().replaced(file.number, status.inode);
        }
        if let Some(inode) = state.maybe_inode.take() {
            self.inodes.lock().unreserve(inode);
        }
        Ok(status)
    }

    /// A new file is written beside the old one, gets its attributes, and then its name.
    async fn replace(&self, file: &OpenFile, state: &mut State, path: &str, old: &FileStatus) -> Answer<FileStatus> {
        let How::Draft(draft) = &mut state.how else { return Err(Errno::EIO) };
        let range = 0..draft.len_bytes();
        self.need_base(file.number, draft, range.clone()).await?;
        let name = temporary_name();
        let temporary = beside(path, &name);
        let made = self.write_beside(file, draft, range, &temporary, old).await;
        let made = match made {
            Ok(made) => {
                self.inodes.lock().reserve(file.number, made.inode);
                made
            }
            Err(error) => {
                self.discard(file.number, path, &name).await;
                return Err(error.into());
            }
        };
        match self.change(self.own.rename(&temporary, path, Replace::Allow)).await {
            Ok(()) => {}
            Err(error) if error.code == ErrorCode::OutcomeUnknown => {
                state.maybe_inode = Some(made.inode);
                return Err(error.into());
            }
            Err(error) => {
                self.inodes.lock().unreserve(made.inode);
                self.discard(file.number, path, &name).await;
                return Err(error.into());
            }
        }
        draft.committed();
        self.inodes.lock().replaced(file.number, made.inode);
        Ok(made)
    }

    /// As [`Core::replace`], of a file with further names: it stays the one that it is, and takes what was written beside it.
    async fn rewrite(&self, file: &OpenFile, state: &mut State, path: &str, old: &FileStatus) -> Answer<FileStatus> {
        let How::Draft(draft) = &mut state.how else { return Err(Errno::EIO) };
        let range = 0..draft.len_bytes();
        self.need_base(file.number, draft, range.clone()).await?;
        let name = temporary_name();
        let temporary = beside(path, &name);
        let len_bytes = range.end;
        let written = match self.write_content(file, draft, range, &temporary, old).await {
            Ok(_) => self.change(self.own.replace_content(path, old.inode, &temporary)).await,
            Err(error) => Err(error),
        };
        let written = written.and_then(|status| has_all(path, status.len_bytes, len_bytes).map(|()| status));
        let status = match written {
            Ok(status) => status,
            Err(error) => {
                self.discard(file.number, path, &name).await;
                return Err(error.into());
            }
        };
        draft.committed();
        Ok(status)
    }

    async fn write_content(
        &self,
        file: &OpenFile,
        draft: &Draft,
        range: Range<u64>,
        temporary: &str,
        old: &FileStatus,
    ) -> FsResult<FileStatus> {
        let options = CreateOptions {
            // Nobody else reads it before it is as the old one.
            mode: Some(0o600),
            replication: old.replication,
            block_size_bytes: old.block_size_bytes,
            empty: range.is_empty(),
            ..CreateOptions::default()
        };
        let mut writer = self.change(self.own.create(temporary, options)).await?;
        self.send(file, &mut writer, draft, range).await?;
        self.change(writer.close()).await
    }

    async fn write_beside(
        &self,
        file: &OpenFile,
        draft: &Draft,
        range: Range<u64>,
        temporary: &str,
        old: &FileStatus,
    ) -> FsResult<FileStatus> {
        let made = self.write_content(file, draft, range, temporary, old).await?;
        self.copy_attributes(old, temporary, &made).await
    }

    /// What a new file has beside its content is that of the old one.
    async fn copy_attributes(&self, old: &FileStatus, temporary: &str, made: &FileStatus) -> FsResult<FileStatus> {
        let mut status = made.clone();
        if (&made.owner, &made.group) != (&old.owner, &old.group) {
            let attributes = Attributes {
                owner: (made.owner != old.owner).then(|| old.owner.clone()),
                group: (made.group != old.group).then(|| old.group.clone()),
                ..Attributes::default()
            };
            status = self.change(self.own.set_attributes(temporary, &attributes)).await?;
        }
        for xattr in self.ask(self.own.xattrs(&old.path, &[])).await? {
            self.change(self.own.set_xattr(temporary, &xattr.name, xattr.value, true, true)).await?;
        }
        if old.has_acl {
            let entries = self.ask(self.own.acl(&old.path)).await?.entries;
            self.change(self.own.change_acl(temporary, AclChange::Set, entries)).await?;
        }
        if old.has_acl || status.mode != old.mode {
            let attributes = Attributes { mode: Some(old.mode), ..Attributes::default() };
            status = self.change(self.own.set_attributes(temporary, &attributes)).await?;
        }
        Ok(status)
    }

    async fn send(&self, file: &OpenFile, writer: &mut Writer, draft: &Draft, range: Range<u64>) -> FsResult<()> {
        for (piece, place) in draft.pieces(range) {
            for part in parts(piece) {
                let bytes = self.ask(read_piece(part, place.clone(), draft.base.as_ref())).await?;
                self.change(writer.write(bytes)).await?;
                self.goes_on(file);
            }
        }
        Ok(())
    }

    /// Brings everything of a copy here that is only in the cluster.
    async fn fetch(&self, file: &OpenFile, draft: &mut Draft) -> Answer<()> {
        let all = 0..draft.len_bytes();
        self.need_base(file.number, draft, all.clone()).await?;
        let (until, pieces) = (self.room_until(), draft.pieces(all));
        let missing = pieces.iter().filter(|(_, place)| matches!(place, Place::Base));
        if !draft.could_hold(missing.map(|(piece, _)| piece.end - piece.start).sum()) {
            return Err(Errno::ENOSPC);
        }
        for (piece, place) in pieces {
            if !matches!(place, Place::Base) {
                continue;
            }
            for part in parts(piece) {
                let start = part.start;
                let bytes = self.ask(read_piece(part, place.clone(), draft.base.as_ref())).await?;
                loop {
                    let room = self.room_to_come(draft, bytes.len() as u64, until);
                    let kept = draft.put(start, bytes.clone()).await;
                    if self.found_room(file, kept, room, until).await? {
                        break;
                    }
                }
                self.goes_on(file);
            }
        }
        Ok(())
    }

    /// Cuts a file in the cluster, for whoever may: that was asked. False: it cannot be cut there.
    pub(crate) async fn cut(&self, file: &OpenFile, state: &mut State, len_bytes: u64) -> Answer<bool> {
        let (path, inode) = (self.path(file.number)?, self.inodes.lock().inode(file.number));
        match self.cut_in_cluster((&path, inode), len_bytes).await {
            Ok(status) => {
                state.how = How::Clean(None);
                state.changed();
                self.committed(file, status);
                Ok(true)
            }
            // Too many blocks for one call.
            Err(Errno::EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn cut_in_cluster(&self, (path, inode): (&str, u64), len_bytes: u64) -> Answer<FileStatus> {
        let cut = self.change(self.own.truncate_inode(path, inode, len_bytes)).await?;
        if cut.done {
            return Ok(cut.status);
        }
        Ok(self.change(self.own.until_closed(path, self.config.deadline)).await?)
    }

    /// Before a file loses a name in the last of these directories: if it is the last one that is known, and programs have it
    /// open, what is in it is brought here. Whoever opens a file by that name meanwhile waits, and learns that it is gone.
    pub(crate) async fn keep_content(
        &self,
        uid: u32,
        client: &Client,
        directories: &[u64],
        number: Option<u64>,
    ) -> Answer<Option<Kept>> {
        let Some(number) = number else { return Ok(None) };
        let file = self.hold(number, || OpenFile::new(number, FileStatus::default(), How::Clean(None)));
        let kept = self.keep_held(uid, client, directories, &file).await;
        match kept {
            Ok((state, is_here)) => Ok(Some(Kept { file, state, is_here })),
            Err(error) => {
                self.end_hold(&file, false, false).await;
                Err(error)
            }
        }
    }

    async fn keep_held(
        &self,
        uid: u32,
        client: &Client,
        directories: &[u64],
        file: &OpenFile,
    ) -> Answer<(OwnedMutexGuard<State>, bool)> {
        let mut state = file.lock_for_long(self.config.deadline).await?;
        let is_used = file.is_open() || !matches!(state.how, How::Clean(_));
        let is_last = !self.inodes.lock().has_another_name(file.number);
        if is_used && is_last && state.failed.is_none() && !state.unlinked {
            let owner = file.seen.lock().status.owner.clone();
            self.may_lose_name(uid, client, directories, &owner).await?;
            self.bring_here(file, &mut state).await?;
        }
        Ok((state, is_last || !is_used))
    }

    /// The other end of [`Core::keep_content`].
    pub(crate) async fn let_kept_go(&self, kept: &mut Option<Kept>, has_lost_name: bool) {
        let Some(Kept { file, mut state, is_here }) = kept.take() else { return };
        let is_nameless = has_lost_name && self.inodes.lock().path(file.number).is_none();
        match &state.how {
            // Another mount took its other name away, and what was not changed here is gone with it.
            How::Draft(_) | How::Stream(_) if is_nameless && !is_here => state.failed = Some(Errno::EIO),
            _ if is_nameless => self.stands_alone(&file, &mut state),
            // Its room is for others.
            How::Draft(draft) if !draft.is_changed() && !state.unlinked => state.how = How::Clean(None),
            _ => {}
        }
        drop(state);
        self.end_hold(&file, false, self.config.sync == SyncAt::Fsync).await;
    }

    /// May a name be taken from the last of these directories, and from the others for another one?
    async fn may_lose_name(&self, uid: u32, client: &Client, directories: &[u64], owner: &str) -> Answer<()> {
        let Some((last, others)) = directories.split_last() else { return Ok(()) };
        for directory in others {
            self.may_change_names(client, *directory).await?;
        }
        self.may_remove(uid, client, *last, owner).await
    }

    /// What is in a file that programs have open is kept for them.
    async fn bring_here(&self, file: &OpenFile, state: &mut State) -> Answer<()> {
        state.elsewhere = self.has_unknown_names(file).await?;
        if state.elsewhere {
            self.commit(file, state).await?;
        }
        if file.is_open() {
            let draft = self.draft(file, state).await?;
            let fetched = self.fetch(file, draft).await;
            if fetched.is_err() && !draft.is_changed() {
                // Its room is for others.
                state.how = How::Clean(None);
            }
            // Nothing of it was removed: it is too long to be kept here for those who have it open.
            fetched.map_err(|error| if error == Errno::ENOSPC { Errno::EBUSY } else { error })?;
        }
        Ok(())
    }

    /// Does the cluster have a file under further names, of whose known ones only one is left?
    async fn has_unknown_names(&self, file: &OpenFile) -> Answer<bool> {
        match self.same(&self.own, file.number).await {
            Ok(status) => {
                file.seen.lock().takes_rights(&status);
                Ok(status.nlink > 1)
            }
            // Its name leads to another file: nothing is known of it.
            Err(Errno::ESTALE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// An open file has no name any more.
    pub(crate) fn stands_alone(&self, file: &OpenFile, state: &mut State) {
        state.unlinked = true;
        match &mut state.how {
            How::Draft(draft) => draft.stands_alone(),
            // Nobody has it open: what was on its way to the cluster is wanted by nobody.
            How::Stream(_) => state.how = How::Clean(None),
            How::Clean(_) => {}
        }
        self.show_local(file, state);
        file.seen.lock().unlinked = true;
    }

    fn committed(&self, file: &OpenFile, status: FileStatus) {
        self.now_shows(file, status, false);
    }

    /// Until a file has its times, programs are shown those that it will have.
    fn committed_but_for_times(&self, file: &OpenFile, state: &State, status: FileStatus) {
        self.now_shows(file, status, state.times.mtime.is_some());
    }

    fn now_shows(&self, file: &OpenFile, status: FileStatus, keeps_local: bool) {
        // First: what the cluster was asked before counts as old from now on.
        self.inodes.lock().changed(status.inode);
        let mut seen = file.seen.lock();
        seen.local = seen.local.filter(|_| keeps_local);
        seen.status = status;
    }

    /// A new file that gets nobody's name: where it was made, or where its directory is by now.
    async fn discard(&self, number: u64, path: &str, name: &str) {
        self.remove_quietly(&beside(path, name)).await;
        if let Ok(now) = self.path(number)
            && now != path
        {
            self.remove_quietly(&beside(&now, name)).await;
        }
    }

    async fn remove_quietly(&self, path: &str) {
        if let Err(error) = self.change(self.own.delete(path, false)).await
            && error.code != ErrorCode::NotFound
        {
            tracing::warn!("{path} is left over: {error}");
        }
    }
}

/// A namenode that does not know how to replace a content as a whole answers as if it had: the length tells.
fn has_all(path: &str, answered_bytes: u64, len_bytes: u64) -> FsResult<()> {
    if answered_bytes == len_bytes {
        return Ok(());
    }
    let message = format!("the namenode did not take the content: {answered_bytes} bytes instead of {len_bytes}");
    tracing::error!("{path} was not committed: {message}");
    Err(FsError::new(ErrorCode::Internal, message).with_path(path))
}

/// A range in pieces that are handed on at a time.
fn parts(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    (range.start..end)
        .step_by(usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX))
        .map(move |at| at..end.min(at + PIECE_BYTES))
}

/// Another name in the directory of a path.
fn beside(path: &str, name: &str) -> String {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    format!("{directory}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_that_was_not_taken_is_an_error() {
        assert!(has_all("/a", 7, 7).is_ok());
        let refused = has_all("/a", 3, 7).unwrap_err();
        assert_eq!(Errno::from(refused), Errno::EIO);
    }

    #[test]
    fn ranges_are_handed_on_in_pieces() {
        let all: Vec<_> = parts(5..PIECE_BYTES * 2 + 6).collect();
        assert_eq!(
            all,
            vec![5..PIECE_BYTES + 5, PIECE_BYTES + 5..PIECE_BYTES * 2 + 5, PIECE_BYTES * 2 + 5..PIECE_BYTES * 2 + 6]
        );
        assert_eq!((parts(3..3).count(), beside("/a/b", "x"), beside("/b", "x")), (0, "/a/x".into(), "/x".into()));
    }
}
