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
    /// The refusal of a part, or of joining and naming them: [`ErrorCode::QuotaExceeded`] also if the quota has no room
    /// for the parts beside what the file replaces, [`ErrorCode::AlreadyExists`] if something has the name and is not to
    /// be replaced. Nothing is left of the file then, except that after [`ErrorCode::OutcomeUnknown`] it may be there,
    /// whole; and parts that could not be removed, because the namenode cannot be reached.
    ///
    /// # Cancel safety
    /// If the future is dropped, publishing goes on: the file will be there, whole, or nothing of it.
    pub async fn publish(self, parts: Vec<Writer>) -> FsResult<FileStatus> {
        let tasks = self.client.inner.tasks.clone();
        let finished = base::task::spawn(&tasks, self.finish(parts)).await;
        finished.unwrap_or_else(|error| Err(FsError::new(ErrorCode::Internal, error.to_string())))
    }

    async fn finish(self, parts: Vec<Writer>) -> FsResult<FileStatus> {
        let Closed { seen, parts } = close_all(parts).await;
        let published = match parts {
            Ok(parts) => self.join(&parts).await,
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

/// Closes all, whatever becomes of any: what can be seen afterwards must be known.
async fn close_all(parts: Vec<Writer>) -> Closed {
    let (mut closing, count) = (JoinSet::new(), parts.len());
    for (number, part) in parts.into_iter().enumerate() {
        closing.spawn(async move {
            let path = part.path().as_str().to_owned();
            (number, path, part.close().await)
        });
    }
    let (mut seen, mut statuses, mut refusal) = (Vec::new(), vec![None; count], None);
    while let Some(closed) = closing.join_next().await {
        match closed {
            Ok((number, _, Ok(status))) => {
                seen.push(status.path.clone());
                if let Some(place) = statuses.get_mut(number) {
                    *place = Some(status);
                }
            }
            Ok((_, path, Err(error))) => {
                if error.code == ErrorCode::OutcomeUnknown {
                    seen.push(path);
                }
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
