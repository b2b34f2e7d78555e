//! A file of the cluster to this machine. It gets its name when it is whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::local::{self, LocalInfo, LocalKind, LocalTimes, LocalWriter};
use bytes::Bytes;
use client::{ErrorCode, FileStatus, Reader};

use super::content::{Hasher, of_bytes_at, of_cluster, of_local};
use super::part::{Part, Source};
use super::same::{Likeness, Looks};
use super::upload::with_force;
use super::{Done, Keep, differs};
use crate::verbs::Outcome;
use crate::verbs::failure::Failure;
use crate::verbs::transfer::{CHUNK_BYTES, Plan, Shared, local};

/// One file to copy.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) remote: String,
    pub(crate) target: PathBuf,
    pub(crate) keep: Keep,
    /// What comes is kept if it is cut off, and gone on with.
    pub(crate) in_parts: bool,
}

/// Times of an entry, for a local copy of it.
pub(crate) const fn times_of(status: &FileStatus) -> LocalTimes {
    LocalTimes { mtime_ns: status.mtime_ns, atime_ns: status.atime_ns }
}

/// Copies a file.
pub(crate) async fn download(shared: Arc<Shared>, job: Download) -> Result<Done, Failure> {
    let manner = shared.manner;
    let (here, target) = (job.target.clone(), job.target.as_path());
    let there = match manner.force && !manner.resume {
        true => None,
        false => local("look at", target, move || local::info(&here)).await?,
    };
    if there.is_some() && !manner.force && !manner.resume {
        return Err(taken(target));
    }
    let opened = shared.context.client.open(&job.remote).await;
    let reader = opened.map_err(|error| Failure::from(error).at(&job.remote))?;
    if let Some(there) = there {
        if manner.resume && is_same(&shared, &job, &there, reader.status()).await? {
            return same(&shared, &job, reader.status()).await;
        }
        if !manner.force {
            return Err(taken(target));
        }
    }
    if manner.dry_run {
        let (path, bytes) = (target.display().to_string(), reader.len_bytes());
        shared.planned(Plan { act: "copy", from: &job.remote, path: &path, bytes })?;
        return Ok(Done::Planned);
    }
    let looks = Finish::of(&shared, &job, reader.status());
    match job.in_parts {
        true => in_parts(&shared, reader, &job, looks).await?,
        false => at_once(&shared, reader, &job, looks).await?,
    }
    Ok(Done::Copied)
}

/// What the copy looks like in the end.
#[derive(Clone, Copy, Debug)]
struct Finish {
    /// Before the umask.
    create_mode: u32,
    mode: Option<u32>,
    /// What a file gets that was made before with whatever mode.
    part_mode: u32,
    times: Option<LocalTimes>,
    force: bool,
}

impl Finish {
    fn of(shared: &Shared, job: &Download, status: &FileStatus) -> Self {
        let mode = (job.keep == Keep::All).then_some(status.mode);
        let create_mode = status.mode & 0o777;
        let part_mode = mode.unwrap_or_else(|| shared.context.masked(create_mode));
        let times = (job.keep != Keep::Nothing).then(|| times_of(status));
        Self { create_mode, mode, part_mode, times, force: shared.manner.force }
    }
}

/// Is the whole file at its target already?
async fn is_same(shared: &Shared, job: &Download, there: &LocalInfo, status: &FileStatus) -> Result<bool, Failure> {
    if there.kind != LocalKind::File {
        return Ok(false);
    }
    let source = Looks { len_bytes: status.len_bytes, mtime_ns: status.mtime_ns };
    let here = Looks { len_bytes: there.len_bytes, mtime_ns: there.times.mtime_ns };
    Ok(match source.likeness(&here) {
        Likeness::OtherLength => false,
        Likeness::SameTime => true,
        Likeness::OtherTime => of_local(&job.target).await? == of_cluster(&shared.context, &job.remote).await?,
    })
}

/// A file that is there may still have other attributes than it should.
async fn same(shared: &Shared, job: &Download, status: &FileStatus) -> Result<Done, Failure> {
    shared.progress.same(status.len_bytes);
    if job.keep == Keep::All && !shared.manner.dry_run {
        let (here, mode, times) = (job.target.clone(), status.mode, times_of(status));
        local("change", &job.target, move || local::set_attributes(&here, mode, times)).await?;
    }
    Ok(Done::Same)
}

/// Receives a file in one run: what came is gone if it fails.
async fn at_once(shared: &Shared, mut reader: Reader, job: &Download, looks: Finish) -> Outcome {
    let mut writer: Option<LocalWriter> = None;
    let mut hasher = shared.manner.verify.then(Hasher::default);
    loop {
        let (pieces, ended) = next_pieces(shared, &mut reader).await.map_err(|failure| failure.at(&job.remote))?;
        let target = job.target.clone();
        let written = local("write", &job.target, move || {
            let mut file = match writer {
                Some(file) => file,
                None => LocalWriter::create(&target, looks.create_mode)?,
            };
            for piece in &pieces {
                file.write(piece)?;
                if let Some(hasher) = &mut hasher {
                    hasher.update(piece);
                }
            }
            if !ended {
                return Ok((Some(file), hasher, true));
            }
            if let Some(came) = &hasher
                && of_bytes_at(u64::MAX, |buffer, at| file.read_at(buffer, at))?.content() != came.content()
            {
                return Ok((None, hasher, false));
            }
            file.give(looks.mode, looks.times)?;
            file.finish(&target, looks.force)?;
            Ok((None, hasher, true))
        });
        let verified;
        (writer, hasher, verified) = written.await.map_err(|failure| when_taken(failure, &job.target))?;
        if !verified {
            return Err(differs(&job.target.display().to_string()));
        }
        if ended {
            return Ok(());
        }
    }
}

/// Receives what is missing of a file: what came stays if it fails.
async fn in_parts(shared: &Shared, mut reader: Reader, job: &Download, looks: Finish) -> Outcome {
    let status = reader.status();
    let source = Source { inode: status.inode, mtime_ns: status.mtime_ns, len_bytes: status.len_bytes };
    let target = job.target.clone();
    let opened = local("write", &job.target, move || Part::open(&target, looks.create_mode, source)).await;
    let (mut part, have_bytes) = opened?;
    shared.progress.there(have_bytes);
    reader.seek(have_bytes);
    loop {
        let (pieces, ended) = next_pieces(shared, &mut reader).await.map_err(|failure| failure.at(&job.remote))?;
        part = local("write", &job.target, move || {
            pieces.iter().try_for_each(|piece| part.write(piece))?;
            Ok(part)
        })
        .await?;
        if ended {
            break;
        }
    }
    let (target, verify) = (job.target.clone(), shared.manner.verify);
    let finished = local("write", &job.target, move || {
        if verify && part.read_back()? != part.content() {
            part.start_over()?;
            return Ok(false);
        }
        part.finish(&target, looks.part_mode, looks.times, looks.force)?;
        Ok(true)
    });
    match finished.await.map_err(|failure| when_taken(failure, &job.target))? {
        true => Ok(()),
        false => Err(differs(&job.target.display().to_string())),
    }
}

/// Pieces of about one chunk, and whether the file ended with them.
async fn next_pieces(shared: &Shared, reader: &mut Reader) -> Result<(Vec<Bytes>, bool), Failure> {
    let mut pieces = Vec::new();
    let mut have = 0;
    while have < CHUNK_BYTES {
        // Asked to the very end, although the length is known: only then can the connection serve the next file.
        let Some(piece) = reader.next().await? else { return Ok((pieces, true)) };
        have += piece.len();
        shared.progress.moved(piece.len() as u64);
        pieces.push(piece);
    }
    Ok((pieces, false))
}

fn when_taken(failure: Failure, target: &Path) -> Failure {
    if failure.code() == ErrorCode::AlreadyExists { taken(target) } else { failure }
}

fn taken(path: &Path) -> Failure {
    let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
    with_force(Failure::local("write", path, &exists))
}
