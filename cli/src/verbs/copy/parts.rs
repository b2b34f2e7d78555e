//! The copy of one long file in parts that are written side by side (`client::parts`), as streams are free.
//!
//! ```text
//!   cut ─▶ write: a stream for each part, read and written ─▶ publish: joined, named ─▶ compared, with --verify
//!    └────────────┴── not so: one writer copies the file ────────┘
//! ```
//!
//! What is refused here need not be refused to one writer: a quota may have room for one name and not for those of the
//! parts, a file that is replaced counts until it is. And where it is, that is said in its words.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use client::parts::{LEAST_PART_BYTES, WrittenPart};
use client::{CreateOptions, ErrorCode, FileKind, FsError, PartedFile, Writer};

use super::content::{Content, Hasher, of_range};
use super::differs;
use crate::verbs::failure::Failure;
use crate::verbs::transfer::Shared;

/// The right to write, as access is asked for.
const WRITE: u32 = 2;
/// Tests cut short files, too.
const LEAST_BYTES: u64 = if cfg!(test) { 100 << 10 } else { LEAST_PART_BYTES };

/// Where the bytes of a part come from.
pub(super) trait Pieces: Send + 'static {
    /// The next bytes; none at the end of the part, never before.
    fn next(&mut self) -> impl Future<Output = Result<Bytes, Failure>> + Send;
}

/// Parts that are written to their ends, and seen by nobody.
pub(super) struct Written {
    going: Arc<Going>,
    ranges: Vec<Range<u64>>,
    parts: Vec<Part>,
}

/// A part, and what was read of its source if the copy is compared with it.
struct Part {
    writer: Writer,
    content: Option<Content>,
}

/// A file under way.
struct Going {
    shared: Arc<Shared>,
    file: PartedFile,
    remote: String,
    moved_bytes: AtomicU64,
}

/// Why a part came to nothing.
enum Stop {
    /// One writer may fare better.
    Refused,
    Failed(Failure),
}

/// Is a file too short for parts, whatever its blocks are?
pub(super) const fn is_short(len_bytes: u64) -> bool {
    len_bytes < 2 * LEAST_BYTES
}

/// The ranges in which a file is copied. `None`: one writer is as good, or what is at its place is for one to refuse.
pub(super) async fn cut(
    shared: &Shared,
    remote: &str,
    create: &CreateOptions,
    len_bytes: u64,
) -> Result<Option<Vec<Range<u64>>>, Failure> {
    let most = shared.streams.most();
    if is_short(len_bytes) || most < 2 {
        return Ok(None);
    }
    let block_size_bytes = match create.block_size_bytes {
        0 => shared.block_size_bytes().await?,
        given => given,
    };
    match client::parts::cut(len_bytes, block_size_bytes, most, LEAST_BYTES) {
        Some(ranges) if is_free(shared, remote, create).await? => Ok(Some(ranges)),
        _ => Ok(None),
    }
}

/// Is nothing at a path, or a file that may be replaced? Then renaming to it does what creating it does.
async fn is_free(shared: &Shared, remote: &str, create: &CreateOptions) -> Result<bool, Failure> {
    let client = &shared.context.client;
    match client.stat_link(remote).await {
        Err(error) if error.code == ErrorCode::NotFound => Ok(true),
        Err(error) if error.retryable() => Err(Failure::from(error).at(remote)),
        Err(_) => Ok(false),
        Ok(status) if create.overwrite && status.kind() == FileKind::File && !status.open_for_write => {
            Ok(client.check_access(remote, WRITE).await.map_err(|error| Failure::from(error).at(remote))?)
        }
        Ok(_) => Ok(false),
    }
}

/// Writes all parts, each from its source. `None`: one writer is to do it.
pub(super) async fn write<P: Pieces>(
    shared: &Arc<Shared>,
    remote: &str,
    create: CreateOptions,
    sources: Vec<(Range<u64>, P)>,
) -> Result<Option<Written>, Failure> {
    let Ok(file) = shared.context.client.create_in_parts(remote, create) else { return Ok(None) };
    let (shared, remote) = (Arc::clone(shared), remote.to_owned());
    let going = Arc::new(Going { shared, file, remote, moved_bytes: AtomicU64::new(0) });
    let (ranges, pieces): (Vec<_>, Vec<P>) = sources.into_iter().unzip();
    let works = pieces.into_iter().map(|pieces| Arc::clone(&going).write_part(pieces)).collect();
    match going.shared.streams.share(works).await {
        Ok(parts) => Ok(Some(Written { going, ranges, parts })),
        Err(stop) => going.stopped(stop).map(|()| None),
    }
}

impl Going {
    async fn write_part(self: Arc<Self>, mut pieces: impl Pieces) -> Result<Part, Stop> {
        let mut writer = self.file.begin().await.map_err(|error| self.refused(error))?;
        let mut hasher = self.shared.manner.verify.then(Hasher::default);
        let mut piece = pieces.next().await.map_err(Stop::Failed)?;
        while !piece.is_empty() {
            let len_bytes = piece.len() as u64;
            if let Some(hasher) = &mut hasher {
                hasher.update(&piece);
            }
            // Reading ahead by one piece.
            let read = async { pieces.next().await.map_err(Stop::Failed) };
            let written = async { writer.write(piece).await.map_err(|error| self.not_written(error)) };
            (piece, ()) = tokio::try_join!(read, written)?;
            self.shared.progress.moved(len_bytes);
            self.moved_bytes.fetch_add(len_bytes, Ordering::Relaxed);
        }
        Ok(Part { writer, content: hasher.map(|hasher| hasher.content()) })
    }

    /// What a part could not begin with, or the file not end with.
    fn refused(&self, error: FsError) -> Stop {
        use ErrorCode::{Corrupt, Internal, OutcomeUnknown, VersionMismatch, WrongCluster};
        let is_broken = matches!(error.code, Corrupt | Internal | OutcomeUnknown | VersionMismatch | WrongCluster);
        match error.retryable() || is_broken {
            true => Stop::Failed(Failure::from(error).at(&self.remote)),
            false => Stop::Refused,
        }
    }

    /// In the middle only what is counted can be another thing for one writer.
    fn not_written(&self, error: FsError) -> Stop {
        match error.code {
            ErrorCode::QuotaExceeded | ErrorCode::InvalidArgument => Stop::Refused,
            _ => Stop::Failed(Failure::from(error).at(&self.remote)),
        }
    }

    fn stopped(&self, stop: Stop) -> Result<(), Failure> {
        match stop {
            Stop::Refused => {
                // What was moved is moved again.
                self.shared.progress.again(self.moved_bytes.load(Ordering::Relaxed));
                Ok(())
            }
            Stop::Failed(failure) => Err(failure),
        }
    }

    /// Is a part of the copy what was read?
    async fn compare(self: Arc<Self>, range: Range<u64>, read: Content) -> Result<(), Failure> {
        let there = of_range(&self.shared.context, &self.remote, range).await?;
        if there == read { Ok(()) } else { Err(differs(&self.remote)) }
    }
}

impl Written {
    /// Publishes the file, and compares it if that is wished. `false`: one writer is to copy it.
    pub(super) async fn publish(self) -> Result<bool, Failure> {
        let Self { going, ranges, parts } = self;
        let (writers, contents): (Vec<_>, Vec<_>) = parts.into_iter().map(|part| (part.writer, part.content)).unzip();
        let whole = |(writer, range): (Writer, &Range<u64>)| WrittenPart { writer, len_bytes: range.end - range.start };
        let written = writers.into_iter().zip(&ranges).map(whole).collect();
        if let Err(error) = going.file.clone().publish(written).await {
            return going.stopped(going.refused(error)).map(|()| false);
        }
        let read = ranges.into_iter().zip(contents).filter_map(|(range, content)| Some((range, content?)));
        let works = read.map(|(range, content)| Arc::clone(&going).compare(range, content)).collect();
        going.shared.streams.share(works).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
