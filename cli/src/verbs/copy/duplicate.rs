//! A file of the cluster to another place in it. The bytes go through this machine.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use client::{Attributes, BlockDigest, CreateOptions, ErrorCode, FileKind, FileStatus, FsError, Reader, Time};

use super::content::{Hasher, of_cluster};
use super::parts::{self, Pieces};
use super::same::{Likeness, Looks};
use super::upload::{refuse_taken, with_force};
use super::{Done, Keep, differs};
use crate::verbs::Outcome;
use crate::verbs::context::Context;
use crate::verbs::failure::Failure;
use crate::verbs::transfer::{Plan, Shared};

/// One file to copy.
#[derive(Debug)]
pub(crate) struct Duplicate {
    pub(crate) source: String,
    pub(crate) status: FileStatus,
    pub(crate) target: String,
    pub(crate) keep: Keep,
    pub(crate) digest: BlockDigest,
}

impl Duplicate {
    fn create_options(&self, shared: &Shared) -> CreateOptions {
        let (all, status) = (self.keep == Keep::All, &self.status);
        let mode = if all { status.mode & 0o7777 } else { shared.context.masked(status.mode & 0o777) };
        CreateOptions {
            overwrite: shared.manner.force,
            mode: Some(mode),
            empty: status.len_bytes == 0,
            replication: if all { status.replication } else { 0 },
            block_size_bytes: if all { status.block_size_bytes } else { 0 },
            digest: Some(self.digest),
            ..CreateOptions::default()
        }
    }
}

/// Copies a file.
pub(crate) async fn duplicate(shared: Arc<Shared>, job: Duplicate) -> Result<Done, Failure> {
    let Duplicate { source, status, target, keep, .. } = &job;
    if source == target {
        let error = FsError::new(ErrorCode::InvalidMove, "a file is not copied to itself").with_path(source);
        return Err(Failure::from(error));
    }
    if shared.manner.resume && is_there(&shared, &job).await? {
        shared.progress.same(status.len_bytes);
        if *keep != Keep::Nothing && !shared.manner.dry_run {
            preserve(&shared.context, target, status, *keep).await.map_err(|failure| failure.at(target))?;
        }
        return Ok(Done::Same);
    }
    if shared.manner.dry_run {
        refuse_taken(&shared, target).await?;
        shared.planned(Plan { act: "copy", from: source, path: target, bytes: status.len_bytes })?;
        return Ok(Done::Planned);
    }
    copy(&shared, &job).await?;
    if *keep != Keep::Nothing {
        preserve(&shared.context, target, status, *keep).await.map_err(|failure| failure.at(target))?;
    }
    Ok(Done::Copied)
}

async fn copy(shared: &Arc<Shared>, job: &Duplicate) -> Outcome {
    let Duplicate { source, target, .. } = job;
    let client = &shared.context.client;
    let at_source = |error: FsError| Failure::from(error).at(source);
    let at_target = |error: FsError| with_force(Failure::from(error).at(target));
    let mut reader = client.open(source).await.map_err(at_source)?;
    if in_parts(shared, job, &reader).await? {
        return Ok(());
    }
    let create = CreateOptions { empty: reader.len_bytes() == 0, ..job.create_options(shared) };
    let mut writer = client.create(target, create).await.map_err(at_target)?;
    let mut hasher = shared.manner.verify.then(Hasher::default);
    while let Some(bytes) = reader.next().await.map_err(at_source)? {
        let len_bytes = bytes.len() as u64;
        if let Some(hasher) = &mut hasher {
            hasher.update(&bytes);
        }
        writer.write(bytes).await.map_err(at_target)?;
        shared.progress.moved(len_bytes);
    }
    writer.close().await.map_err(at_target)?;
    let Some(read) = hasher else { return Ok(()) };
    let there = of_cluster(&shared.context, target).await?;
    if there == read.content() { Ok(()) } else { Err(differs(target)) }
}

/// Copies a long file in parts, several at a time. `false`: it was not to be. One that is being written may become longer.
async fn in_parts(shared: &Arc<Shared>, job: &Duplicate, reader: &Reader) -> Result<bool, Failure> {
    if reader.status().open_for_write {
        return Ok(false);
    }
    let create = job.create_options(shared);
    let Some(ranges) = parts::cut(shared, &job.target, &create, reader.len_bytes()).await? else { return Ok(false) };
    let part = |range: Range<u64>| {
        let mut reader = reader.another();
        reader.seek(range.start);
        reader.end_at(range.end);
        let left_bytes = range.end - range.start;
        (range, ClusterPart { reader, source: job.source.clone(), left_bytes })
    };
    let sources = ranges.into_iter().map(part).collect();
    match parts::write(shared, &job.target, create, sources).await? {
        Some(written) => written.publish().await,
        None => Ok(false),
    }
}

/// A range of a file of the cluster.
struct ClusterPart {
    reader: Reader,
    source: String,
    left_bytes: u64,
}

impl Pieces for ClusterPart {
    async fn next(&mut self) -> Result<Bytes, Failure> {
        let read = self.reader.next().await.map_err(|error| Failure::from(error).at(&self.source))?;
        let read = read.unwrap_or_default();
        taken(&mut self.left_bytes, read.len() as u64).map_err(|error| Failure::from(error).at(&self.source))?;
        Ok(read)
    }
}

/// Takes so many bytes off those that are left; none are the end.
fn taken(left_bytes: &mut u64, len_bytes: u64) -> Result<(), FsError> {
    match left_bytes.checked_sub(len_bytes) {
        Some(left) if len_bytes > 0 || left == 0 => {
            *left_bytes = left;
            Ok(())
        }
        Some(left) => {
            let text = format!("the file ended {left} bytes before the end of a part that is copied");
            Err(FsError::new(ErrorCode::Changed, text).with_hint("it became shorter meanwhile; copy it again"))
        }
        None => Err(FsError::new(ErrorCode::Changed, "more was read than there is in a part that is copied")),
    }
}

/// Is the whole file at its target already?
async fn is_there(shared: &Shared, job: &Duplicate) -> Result<bool, Failure> {
    let Some(there) = shared.context.look(&job.target).await? else { return Ok(false) };
    if there.kind() != FileKind::File || there.open_for_write {
        return Ok(false);
    }
    let looks = |status: &FileStatus| Looks { len_bytes: status.len_bytes, mtime_ns: status.mtime_ns };
    Ok(match looks(&job.status).likeness(&looks(&there)) {
        Likeness::OtherLength => false,
        Likeness::SameTime => true,
        Likeness::OtherTime => {
            of_cluster(&shared.context, &job.source).await? == of_cluster(&shared.context, &job.target).await?
        }
    })
}

/// Gives a copy the times of its original; of `Keep::All` the mode, too, and its owner and group if the caller may.
pub(crate) async fn preserve(context: &Context, path: &str, status: &FileStatus, keep: Keep) -> Outcome {
    let times = Attributes {
        mode: (keep == Keep::All).then_some(status.mode & 0o7777),
        mtime: Some(Time::At(status.mtime_ns)),
        atime: Some(Time::At(status.atime_ns)),
        ..Attributes::default()
    };
    let made = context.client.set_attributes(path, &times).await?;
    let owned = (made.owner.as_str(), made.group.as_str()) == (status.owner.as_str(), status.group.as_str());
    if keep != Keep::All || owned {
        return Ok(());
    }
    let owner =
        Attributes { owner: Some(status.owner.clone()), group: Some(status.group.clone()), ..Attributes::default() };
    match context.client.set_attributes(path, &owner).await {
        Err(error) if error.code != ErrorCode::PermissionDenied => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_to_its_end_and_not_beyond() {
        let mut left = 10;
        taken(&mut left, 7).unwrap();
        assert_eq!(taken(&mut left, 0).unwrap_err().code, ErrorCode::Changed, "three bytes are missing");
        assert_eq!(taken(&mut left, 4).unwrap_err().code, ErrorCode::Changed);
        taken(&mut left, 3).unwrap();
        taken(&mut left, 0).unwrap();
        assert_eq!(left, 0);
    }
}
