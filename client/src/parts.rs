//! One file whose parts are written side by side, and that appears, whole, under its name.
//!
//! ```text
//!   cut (pure): length, block size ─▶ ranges of whole blocks
//!   begin, for each ─▶ a writer of `.blockyard-….part` beside the target, which nobody sees while it is open
//!   publish ─▶ all are closed, together ─▶ concat: their blocks become those of the first ─▶ rename to the target
//!              └──────────── join: in steps as large as a namenode takes ────────────┘
//! ```
//!
//! A part is closed only when all are written to their ends. So a writer that fails, or dies, leaves what every other
//! writer leaves: nothing that anybody sees. From the first close to the rename, which are a few calls, the parts are
//! files with names that `put -r` and `sync` pass over; a failure in between removes them, a caller that gives up does
//! not interrupt it. Only a process that is killed just then leaves them.

mod cut;
mod join;

use std::ffi::OsStr;
use std::time::Duration;

use base::local::{is_temporary, temporary_name};
use base::task::JoinSet;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::FileStatus;
use proto::path::FsPath;

use crate::attributes::Attributes;
use crate::client::{Client, CreateOptions, Replace};
use crate::write::Writer;

pub use cut::{LEAST_PART_BYTES, cut};
pub(crate) use join::MAX_SOURCES;
pub use join::{Piece, steps};

/// Time to remove parts that did not become a file; then whoever waits is told, and they stay.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);
/// What the owner of a part must be allowed: a namenode joins only what the caller may read and write.
const JOINABLE: u32 = 0o600;
/// Mode of new files when nobody says anything.
const DEFAULT_MODE: u32 = 0o644;

/// A file that is written in parts. Cloning is cheap: each part may have a task of its own.
#[derive(Clone, Debug)]
pub struct PartedFile {
    client: Client,
    target: FsPath,
    options: CreateOptions,
}

/// A part that is written to its end.
#[derive(Debug)]
pub struct WrittenPart {
    /// Its writer, not closed yet.
    pub writer: Writer,
    /// Bytes that it must have.
    pub len_bytes: u64,
}

/// What became of closing the parts.
struct Closed {
    /// Paths at which there may be something to see now.
    seen: Vec<String>,
    /// The parts, in order, each with the path at which it is; or the first refusal.
    parts: FsResult<Vec<FileStatus>>,
}

impl Client {
    /// A file that is written in parts (see [`PartedFile`]). Nothing is asked before the first part begins.
    ///
    /// `options` are those of the file. It takes the place of a file that is there only with
    /// [`CreateOptions::overwrite`], when it is whole; a symbolic link that is there is replaced, not followed.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidPath`]; [`ErrorCode::InvalidArgument`] for a file that is to be seen at once.
    pub fn create_in_parts(&self, path: &str, options: CreateOptions) -> FsResult<PartedFile> {
        let target = FsPath::parse(path)?;
        if target.is_root() {
            return Err(FsError::new(ErrorCode::IsADirectory, "the root is a directory").with_path(path));
        }
        if options.publish_at_once {
            let text = "a file in parts appears when it is whole, not at once";
            return Err(FsError::new(ErrorCode::InvalidArgument, text).with_path(path));
        }
        Ok(PartedFile { client: self.clone(), target, options })
    }
}

impl PartedFile {
    /// Begins a part. Write it to its end, keep it, and give it to [`PartedFile::publish`]; a part that is dropped
    /// leaves nothing. All but the last should be whole blocks: what is joined keeps its blocks as they are.
    ///
    /// # Errors
    /// As [`Client::create`].
    ///
    /// # Cancel safety
    /// As [`Client::create`].
    pub async fn begin(&self) -> FsResult<Writer> {
        let options = CreateOptions {
            mode: Some(self.mode() | JOINABLE),
            overwrite: false,
            // A part without data cannot be joined.
            empty: false,
            ..self.options.clone()
        };
        let beside = self.target.parent().unwrap_or_else(FsPath::root).join(&temporary_name())?;
        self.client.create(beside.as_str(), options).await.map_err(|error| self.named(error))
    }

    /// Publishes the file: its parts in this order, each written to its end and not empty.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] if a part has not the length that it must have. The refusal of a part, or of joining and naming them: [`ErrorCode::QuotaExceeded`] also if the quota has no room
    /// for the parts beside what the file replaces, [`ErrorCode::AlreadyExists`] if something has the name and is not to
    /// be replaced. Nothing is left of the file then, except that after [`ErrorCode::OutcomeUnknown`] it may be there,
    /// whole; and parts that could not be removed, because the namenode cannot be reached.
    ///
    /// # Cancel safety
    /// If the future is dropped, publishing goes on: the file will be there, whole, or nothing of it.
    pub async fn publish(self, parts: Vec<WrittenPart>) -> FsResult<FileStatus> {
        let tasks = self.client.inner.tasks.clone();
        let finished = base::task::spawn(&tasks, self.finish(parts)).await;
        finished.unwrap_or_else(|error| Err(FsError::new(ErrorCode::Internal, error.to_string())))
    }

    async fn finish(self, parts: Vec<WrittenPart>) -> FsResult<FileStatus> {
        let (writers, wanted): (Vec<_>, Vec<_>) = parts.into_iter().map(|part| (part.writer, part.len_bytes)).unzip();
        let closing = writers.into_iter().map(|part| (part.path().as_str().to_owned(), part.close())).collect();
        let Closed { seen, parts } = close_all(closing).await;
        let published = match parts.and_then(|parts| with_lengths(parts, &wanted)) {
            Ok(parts) => {
                // Apart, so that what was closed is removed after a panic, too.
                let (tasks, file) = (self.client.inner.tasks.clone(), self.clone());
                let joined = base::task::spawn(&tasks, async move { file.join(&parts).await }).await;
                joined.unwrap_or_else(|error| Err(FsError::new(ErrorCode::Internal, error.to_string())))
            }
            Err(error) => Err(error),
        };
        match published {
            Ok(status) => Ok(status),
            Err(error) => {
                remove_all(&self.client, seen).await;
                Err(self.named(error))
            }
        }
    }

    /// Makes the file of its parts, where they are: their directory may have been moved while they were written, and the
    /// file goes with it, as one that is written by one writer does.
    async fn join(&self, parts: &[FileStatus]) -> FsResult<FileStatus> {
        let pieces: Vec<Piece> = parts.iter().map(|part| Piece::of(part.path.clone(), part)).collect();
        let (Some((first, others)), Some(status)) = (pieces.split_first(), parts.first()) else {
            return Err(FsError::new(ErrorCode::InvalidArgument, "a file has one part at least"));
        };
        let directory = FsPath::parse(&first.path)?.parent().unwrap_or_else(FsPath::root);
        let target = directory.join(self.target.name().unwrap_or_default())?;
        let joined = self.client.join(&first.path, others).await?.unwrap_or_else(|| status.clone());
        // As it was made, with what it inherited, without what only joining needed.
        let mode = joined.mode & !(JOINABLE & !self.mode());
        if mode != joined.mode {
            self.client.set_attributes(&first.path, &Attributes { mode: Some(mode), ..Attributes::default() }).await?;
        }
        let replace = if self.options.overwrite { Replace::Allow } else { Replace::Refuse };
        self.client.rename(&first.path, target.as_str(), replace).await?;
        Ok(FileStatus { path: target.into(), mode, ..joined })
    }

    fn mode(&self) -> u32 {
        self.options.mode.unwrap_or(DEFAULT_MODE)
    }

    /// A refusal that names a part is about the file.
    fn named(&self, error: FsError) -> FsError {
        let name = error.path.rsplit('/').next().unwrap_or_default();
        if is_temporary(OsStr::new(name)) { error.with_path(self.target.as_str()) } else { error }
    }
}

/// Closes all, whatever becomes of any: what can be seen afterwards must be known. Of what was refused, or ended in a way
/// that says nothing, a file may be there as well.
async fn close_all<F>(parts: Vec<(String, F)>) -> Closed
where
    F: Future<Output = FsResult<FileStatus>> + Send + 'static,
{
    let (mut closing, mut seen, mut futures) = (JoinSet::new(), Vec::new(), Vec::new());
    for (path, future) in parts {
        seen.push(path);
        futures.push(future);
    }
    for (number, future) in futures.into_iter().enumerate() {
        closing.spawn(async move { (number, future.await) });
    }
    let (mut statuses, mut refusal) = (vec![None; seen.len()], None);
    while let Some(closed) = closing.join_next().await {
        match closed {
            Ok((number, Ok(status))) => {
                // Its directory may have been moved.
                if let (Some(place), Some(path)) = (statuses.get_mut(number), seen.get_mut(number)) {
                    path.clone_from(&status.path);
                    *place = Some(status);
                }
            }
            Ok((_, Err(error))) => {
                refusal.get_or_insert(error);
            }
            Err(error) => {
                refusal.get_or_insert(FsError::new(ErrorCode::Internal, error.to_string()));
            }
        }
    }
    let parts = match refusal {
        Some(error) => Err(error),
        None => Ok(statuses.into_iter().flatten().collect()),
    };
    Closed { seen, parts }
}

/// The parts, if each has the length that it must have: what is too short in the middle would not be seen any more.
fn with_lengths(parts: Vec<FileStatus>, wanted: &[u64]) -> FsResult<Vec<FileStatus>> {
    let differs = |(part, wanted): (&FileStatus, &u64)| part.len_bytes != *wanted;
    match parts.iter().zip(wanted).position(differs) {
        None if parts.len() == wanted.len() => Ok(parts),
        at => {
            let number = at.unwrap_or(parts.len());
            let found = parts.get(number).map_or(0, |part| part.len_bytes);
            let wanted = wanted.get(number).copied().unwrap_or_default();
            let text = format!(
                "part {} of {} has {found} bytes instead of {wanted}; nothing was published",
                number + 1,
                parts.len()
            );
            Err(FsError::new(ErrorCode::Internal, text))
        }
    }
}

/// Removes parts that became no file, if the namenode can be told in time. Those that were joined are gone already.
async fn remove_all(client: &Client, paths: Vec<String>) {
    let mut removing = JoinSet::new();
    for path in paths {
        let client = client.clone();
        removing.spawn(async move {
            match client.delete(&path, false).await {
                Err(error) if error.code != ErrorCode::NotFound => tracing::warn!("{path} was not removed: {error}"),
                _ => {}
            }
        });
    }
    let removed = async { while removing.join_next().await.is_some() {} };
    if tokio::time::timeout(REMOVE_WITHIN, removed).await.is_err() {
        tracing::warn!("parts of a file that was not published could not be removed in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(path: &str, len_bytes: u64) -> FileStatus {
        FileStatus { path: path.into(), len_bytes, ..FileStatus::default() }
    }

    #[tokio::test]
    async fn whatever_became_of_closing_a_part_it_is_known_where_something_may_be() {
        for odd in [ErrorCode::OutcomeUnknown, ErrorCode::Internal, ErrorCode::Unavailable] {
            let close = |number: u64| async move {
                match number {
                    0 => panic!("a fault of ours"),
                    1 => Err(FsError::new(odd, "odd")),
                    _ => Ok(closed("/moved/c", 7)),
                }
            };
            let parts = ["/a", "/b", "/c"].into_iter().zip(0..).map(|(path, number)| (path.to_owned(), close(number)));
            let Closed { seen, parts } = close_all(parts.collect()).await;
            assert_eq!(seen, ["/a", "/b", "/moved/c"], "{odd:?}");
            assert!(matches!(parts.unwrap_err().code, code if code == odd || code == ErrorCode::Internal));
        }
    }

    #[test]
    fn a_part_that_is_not_as_long_as_it_must_be_is_told_by_its_number() {
        let parts = || vec![closed("/a", 10), closed("/b", 10), closed("/c", 3)];
        assert_eq!(with_lengths(parts(), &[10, 10, 3]).unwrap(), parts());
        let error = with_lengths(parts(), &[10, 11, 3]).unwrap_err();
        assert!(error.message.starts_with("part 2 of 3 has 10 bytes instead of 11"), "{error}");
        assert!(!error.retryable());
        assert!(with_lengths(parts(), &[10, 10]).is_err() && with_lengths(parts(), &[10, 10, 3, 4]).is_err());
    }
}
