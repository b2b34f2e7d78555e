//! A local file into the cluster. It appears there when it is whole and durable.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::local::{LocalInfo, LocalReader, LocalTimes, SharedFile};
use bytes::Bytes;
use client::{Attributes, CreateOptions, ErrorCode, FileKind, Time, Writer};

use super::content::{Hasher, of_cluster, of_local};
use super::parts::{self, Pieces};
use super::same::{Likeness, Looks};
use super::{Done, differs};
use crate::verbs::Outcome;
use crate::verbs::context::Context;
use crate::verbs::failure::Failure;
use crate::verbs::transfer::{CHUNK_BYTES, Plan, Shared, local};

/// One file to copy.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) local: PathBuf,
    pub(crate) found: LocalInfo,
    pub(crate) remote: String,
    pub(crate) create: CreateOptions,
    /// What the copy gets of the original, if that was asked for.
    pub(crate) keep: Option<Kept>,
}

/// What a copy gets of its original.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) mode: Option<u32>,
    pub(crate) times: LocalTimes,
}

impl Kept {
    pub(crate) async fn give(self, context: &Context, path: &str) -> Outcome {
        let attributes = Attributes {
            mode: self.mode,
            mtime: Some(Time::At(self.times.mtime_ns)),
            atime: Some(Time::At(self.times.atime_ns)),
            ..Attributes::default()
        };
        context.client.set_attributes(path, &attributes).await.map_err(|error| Failure::from(error).at(path))?;
        Ok(())
    }
}

/// Copies a file.
pub(crate) async fn upload(shared: Arc<Shared>, job: Upload) -> Result<Done, Failure> {
    let manner = shared.manner;
    if manner.resume && is_there(&shared, &job).await? {
        shared.progress.same(job.found.len_bytes);
        if let Some(kept) = job.keep.filter(|_| !manner.dry_run) {
            kept.give(&shared.context, &job.remote).await?;
        }
        return Ok(Done::Same);
    }
    if manner.dry_run {
        return plan(&shared, &job).await;
    }
    if !in_parts(&shared, &job).await? {
        in_sequence(&shared, &job).await?;
    }
    if let Some(kept) = job.keep {
        kept.give(&shared.context, &job.remote).await?;
    }
    Ok(Done::Copied)
}

/// Copies a long file in parts, several at a time. `false`: it was not to be.
async fn in_parts(shared: &Arc<Shared>, job: &Upload) -> Result<bool, Failure> {
    if parts::is_short(job.found.len_bytes) {
        return Ok(false);
    }
    let path = job.local.clone();
    let opened = local("read", &job.local, move || {
        let file = SharedFile::open(&path)?;
        Ok((file.info()?, Arc::new(file)))
    });
    let (info, file) = opened.await?;
    // What is appended from now on is not looked at.
    let Some(ranges) = parts::cut(shared, &job.remote, &job.create, info.len_bytes).await? else { return Ok(false) };
    let part = |range: Range<u64>| {
        let (file, path) = (Arc::clone(&file), job.local.clone());
        (range.clone(), LocalPart { file, path, range })
    };
    let sources = ranges.into_iter().map(part).collect();
    let Some(written) = parts::write(shared, &job.remote, job.create.clone(), sources).await? else {
        return Ok(false);
    };
    if shared.manner.verify {
        let now = file.info().map_err(|error| Failure::local("look at", &job.local, &error))?;
        unchanged(now, job)?;
    }
    written.publish().await
}

/// A range of a local file.
struct LocalPart {
    file: Arc<SharedFile>,
    path: PathBuf,
    range: Range<u64>,
}

impl Pieces for LocalPart {
    async fn next(&mut self) -> Result<Bytes, Failure> {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let (file, at, want) = (Arc::clone(&self.file), self.range.start, left.min(CHUNK_BYTES));
        if want == 0 {
            return Ok(Bytes::new());
        }
        let piece = local("read", &self.path, move || file.read_chunk_at(at, want)).await?;
        if piece.len() < want {
            return Err(changed(&self.path));
        }
        self.range.start += piece.len() as u64;
        Ok(piece)
    }
}

/// Copies a file with one writer.
async fn in_sequence(shared: &Shared, job: &Upload) -> Outcome {
    let manner = shared.manner;
    let (path, want) = (job.local.clone(), first_chunk_bytes(job.found.len_bytes));
    let (reader, first) = local("read", &job.local, move || {
        let mut reader = LocalReader::open(&path)?;
        let first = reader.read_chunk(want)?;
        Ok((reader, first))
    })
    .await?;
    let ended = first.len() < want;
    let create = CreateOptions { empty: first.is_empty(), ..job.create.clone() };
    let writer = create_file(shared, &job.remote, create).await?;
    let mut going = Going { shared, writer, hasher: manner.verify.then(Hasher::default) };
    let reader = match ended {
        true => {
            going.write(first).await?;
            reader
        }
        false => going.write_all(reader, first, &job.local).await?,
    };
    if manner.verify
        && let Some(now) = reader.info().map_err(|error| Failure::local("look at", &job.local, &error))?
    {
        unchanged(now, job)?;
    }
    going.close().await
}

/// Copies standard input.
pub(crate) async fn upload_stream(shared: Arc<Shared>, remote: String, create: CreateOptions) -> Result<Done, Failure> {
    if shared.manner.dry_run {
        refuse_taken(&shared, &remote).await?;
        shared.planned(Plan { act: "copy", from: "-", path: &remote, bytes: 0 })?;
        return Ok(Done::Planned);
    }
    let writer = create_file(&shared, &remote, create).await?;
    let mut going = Going { shared: &shared, writer, hasher: shared.manner.verify.then(Hasher::default) };
    going.write_all(LocalReader::stdin(), Bytes::new(), Path::new("-")).await?;
    going.close().await?;
    Ok(Done::Copied)
}

/// Is the whole file at its target already?
async fn is_there(shared: &Shared, job: &Upload) -> Result<bool, Failure> {
    let Some(status) = shared.context.look(&job.remote).await? else { return Ok(false) };
    if status.kind() != FileKind::File || status.open_for_write {
        return Ok(false);
    }
    let there = Looks { len_bytes: status.len_bytes, mtime_ns: status.mtime_ns };
    let here = Looks { len_bytes: job.found.len_bytes, mtime_ns: job.found.times.mtime_ns };
    Ok(match here.likeness(&there) {
        Likeness::OtherLength => false,
        Likeness::SameTime => true,
        Likeness::OtherTime => of_local(&job.local).await? == of_cluster(&shared.context, &job.remote).await?,
    })
}

async fn plan(shared: &Shared, job: &Upload) -> Result<Done, Failure> {
    refuse_taken(shared, &job.remote).await?;
    let from = job.local.display().to_string();
    shared.planned(Plan { act: "copy", from: &from, path: &job.remote, bytes: job.found.len_bytes })?;
    Ok(Done::Planned)
}

/// The failure that a copy to this path would have because of what is there.
pub(crate) async fn refuse_taken(shared: &Shared, path: &str) -> Outcome {
    let Some(status) = shared.context.look(path).await? else { return Ok(()) };
    let refused = |code, text: &str| Failure::from(client::FsError::new(code, text).with_path(path));
    match status.kind() {
        FileKind::Directory => Err(refused(ErrorCode::IsADirectory, "is a directory")),
        _ if shared.manner.force => Ok(()),
        _ => Err(with_force(refused(ErrorCode::AlreadyExists, "the file exists"))),
    }
}

/// A file that is there is no reason to give up.
pub(super) fn with_force(failure: Failure) -> Failure {
    let exists = failure.code() == ErrorCode::AlreadyExists;
    failure.or_hint(|| exists.then(|| "replace it with -f".to_owned()))
}

async fn create_file(shared: &Shared, remote: &str, options: CreateOptions) -> Result<Writer, Failure> {
    let created = shared.context.client.create(remote, options).await;
    created.map_err(|error| with_force(Failure::from(error).at(remote)))
}

/// Was the file the same at the end as when it was found?
fn unchanged(now: LocalInfo, job: &Upload) -> Outcome {
    let looks = |info: &LocalInfo| (info.identity, info.len_bytes, info.times.mtime_ns);
    if looks(&now) == looks(&job.found) { Ok(()) } else { Err(changed(&job.local)) }
}

fn changed(path: &Path) -> Failure {
    Failure::item(path, "changed while it was read", "it was not copied; copy it again when it is at rest")
}

/// A byte more than the file has, so that its end is seen at once.
fn first_chunk_bytes(len_bytes: u64) -> usize {
    usize::try_from(len_bytes).unwrap_or(usize::MAX).saturating_add(1).min(CHUNK_BYTES)
}

/// A file that is being written.
struct Going<'a> {
    shared: &'a Shared,
    writer: Writer,
    /// What was read, if the copy is compared with it in the end.
    hasher: Option<Hasher>,
}

impl Going<'_> {
    async fn write(&mut self, chunk: Bytes) -> Outcome {
        let len_bytes = chunk.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        let written = self.writer.write(chunk).await;
        written.map_err(|error| Failure::from(error).at(self.writer.path().as_str()))?;
        self.shared.progress.moved(len_bytes);
        Ok(())
    }

    /// Copies `chunk`, then the rest of `reader`, reading ahead by one chunk.
    async fn write_all(
        &mut self,
        mut reader: LocalReader,
        mut chunk: Bytes,
        path: &Path,
    ) -> Result<LocalReader, Failure> {
        loop {
            let read = local("read", path, move || {
                let next = reader.read_chunk(CHUNK_BYTES)?;
                Ok((reader, next))
            });
            // A write that failed is said at once, even while standard input brings nothing.
            ((reader, chunk), ()) = tokio::try_join!(read, self.write(chunk))?;
            if chunk.is_empty() {
                return Ok(reader);
            }
        }
    }

    /// Publishes the file, and compares it if that is wished.
    async fn close(self) -> Outcome {
        let path = self.writer.path().clone();
        self.writer.close().await.map_err(|error| Failure::from(error).at(path.as_str()))?;
        let Some(read) = self.hasher else { return Ok(()) };
        let there = of_cluster(&self.shared.context, path.as_str()).await?;
        if there == read.content() { Ok(()) } else { Err(differs(path.as_str())) }
    }
}

#[cfg(test)]
mod tests {
    use base::local::LocalWriter;

    use super::*;

    #[tokio::test]
    async fn a_part_ends_where_it_should_and_a_file_that_became_shorter_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut writer = LocalWriter::create(&path, 0o644).unwrap();
        writer.write(&vec![7; CHUNK_BYTES + 10]).unwrap();
        writer.finish(&path, false).unwrap();
        let file = Arc::new(SharedFile::open(&path).unwrap());
        let (end, part) =
            (CHUNK_BYTES as u64 + 10, |range| LocalPart { file: Arc::clone(&file), path: path.clone(), range });
        let mut whole = part(5..end);
        for len in [CHUNK_BYTES, 5, 0, 0] {
            assert_eq!(whole.next().await.unwrap().len(), len);
        }
        let mut longer = part(5..end + 1);
        assert_eq!(longer.next().await.unwrap().len(), CHUNK_BYTES);
        let failure = longer.next().await.unwrap_err();
        assert!(failure.text().contains("changed while it was read"), "{}", failure.text());
    }
}
