//! `put`: local files and trees into the cluster.
//!
//! Links are followed, as `hdfs dfs -put` does: the cluster gets what they lead to. A link that leads to
//! nothing, to a directory that contains it, or to a device is a failed item; everything else is copied.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::local::{self, LocalInfo, LocalKind, LocalReader, LocalTimes};
use bytes::Bytes;
use clap::Args;
use client::{Attributes, CreateOptions, ErrorCode, FileKind, Time, Writer};

use super::Outcome;
use super::context::Context;
use super::digest::DigestOptions;
use super::failure::Failure;
use super::mv::{Destination, refuse_doubles};
use super::paths::below;
use super::text::size::parse_positive;
use super::transfer::{CHUNK_BYTES, Shared, Transfer, TransferOptions, local};

/// Flags of `put`.
#[derive(Debug, Args)]
#[command(
    after_help = "If DESTINATION is a directory, the sources are copied into it; otherwise it is the name of the copy.
`-` as the source is standard input. Links are followed. Files appear when they are whole and durable.

Examples:
  blockyard put report.csv /data/             a file into a directory
  blockyard put -r logs /data/logs            a tree; as /data/logs/logs if /data/logs exists
  tar c . | blockyard put - /backup.tar       a stream"
)]
pub(crate) struct PutOptions {
    /// Local files, then where to put them
    #[arg(required = true, num_args = 2.., value_name = "SOURCE… DESTINATION")]
    paths: Vec<String>,
    #[command(flatten)]
    transfer: TransferOptions,
    /// Make what is missing above DESTINATION
    #[arg(short, long)]
    parents: bool,
    /// Keep modes and times
    #[arg(long)]
    preserve: bool,
    /// Copies of each file [default: the cluster's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    replication: Option<u32>,
    /// Bytes of a block, with K, M or G [default: the cluster's]
    #[arg(long, value_name = "SIZE", value_parser = parse_positive)]
    block_size: Option<u64>,
    #[command(flatten)]
    digest: DigestOptions,
}

/// One file to copy.
#[derive(Debug)]
struct FileJob {
    local: PathBuf,
    len_bytes: u64,
    remote: String,
    create: CreateOptions,
    /// What the copy gets of the original, if that was asked for.
    keep: Option<Kept>,
}

/// Mode and times of an original.
#[derive(Clone, Copy, Debug)]
struct Kept {
    mode: u32,
    times: LocalTimes,
}

impl Kept {
    async fn give(self, context: &Context, path: &str) -> Outcome {
        let attributes = Attributes {
            mode: Some(self.mode),
            mtime: Some(Time::At(self.times.mtime_ns)),
            atime: Some(Time::At(self.times.atime_ns)),
            ..Attributes::default()
        };
        context.client.set_attributes(path, &attributes).await.map_err(|error| Failure::from(error).at(path))?;
        Ok(())
    }
}

/// Runs `put`.
pub(crate) async fn run(options: &PutOptions, context: &Context) -> Outcome {
    let Some((target, sources)) = options.paths.split_last() else {
        return Err(Failure::usage("nothing to put", "blockyard put SOURCE… DESTINATION"));
    };
    let Destination { path: target, into } = Destination::find(context, target, sources.len() > 1).await?;
    if into {
        refuse_doubles(targets(sources, &target), String::clone)?;
    }
    let transfer = Transfer::new("put", &options.transfer, context);
    let mut put = Put { options, context, transfer, directories: Vec::new() };
    for source in sources {
        if let Err(failure) = put.source(source, &target, into).await {
            put.transfer.shared().failed(failure.at(source)).await;
        }
    }
    if options.preserve {
        put.transfer.settle().await;
        // What is made in a directory changes its time: the deepest ones come first.
        for (path, kept) in put.directories.iter().rev() {
            if let Err(failure) = kept.give(context, path).await {
                put.transfer.shared().failed(failure).await;
            }
        }
    }
    put.transfer.finish(options.transfer.recursive || sources.len() > 1).await
}

/// What each local source becomes in a directory. One that has no name is told when its turn comes.
fn targets(sources: &[String], directory: &str) -> Vec<(String, String)> {
    let target = |source: &String| Some((source.clone(), below(directory, &base_name(Path::new(source)).ok()?)));
    sources.iter().filter_map(target).collect()
}

struct Put<'a> {
    options: &'a PutOptions,
    context: &'a Context,
    transfer: Transfer,
    /// The directories that were made, with what they get in the end. One that was there keeps what it has.
    directories: Vec<(String, Kept)>,
}

impl Put<'_> {
    async fn source(&mut self, source: &str, target: &str, into: bool) -> Outcome {
        if source == "-" {
            return self.standard_input(target, into).await;
        }
        let path = PathBuf::from(source);
        let found = look(&path)?;
        let remote = match into {
            true => below(target, &base_name(&path)?),
            false => target.to_owned(),
        };
        match found.kind {
            LocalKind::Directory if !self.options.transfer.recursive => {
                Err(Failure::item(&path, "is a directory", "copy the tree with -r"))
            }
            LocalKind::Directory => self.tree(path, found, remote).await,
            _ => self.file(path, found, remote, self.options.parents).await,
        }
    }

    async fn standard_input(&mut self, target: &str, into: bool) -> Outcome {
        if into {
            return Err(Failure::usage("standard input needs a name", "give the path of a file as the destination"));
        }
        let create =
            CreateOptions { mode: Some(self.context.masked(0o666)), ..self.create_options(self.options.parents) };
        let (shared, remote) = (self.transfer.shared(), target.to_owned());
        let copy = async move {
            let writer = create_file(&shared, &remote, create).await?;
            copy_in(&shared, writer, LocalReader::stdin(), Bytes::new(), Path::new("-")).await
        };
        self.transfer.start(copy).await;
        Ok(())
    }

    fn create_options(&self, parents: bool) -> CreateOptions {
        CreateOptions {
            overwrite: self.options.transfer.force,
            parents,
            replication: self.options.replication.unwrap_or(0),
            block_size_bytes: self.options.block_size.unwrap_or(0),
            digest: Some(self.options.digest.wanted()),
            ..CreateOptions::default()
        }
    }

    async fn file(&mut self, local: PathBuf, found: LocalInfo, remote: String, parents: bool) -> Outcome {
        if found.kind != LocalKind::File {
            return Err(Failure::item(&local, "is neither a file nor a directory", "it was not copied"));
        }
        let create =
            CreateOptions { mode: Some(self.context.masked(found.mode & 0o777)), ..self.create_options(parents) };
        let keep = self.kept(found);
        let job = FileJob { local, len_bytes: found.len_bytes, remote, create, keep };
        let shared = self.transfer.shared();
        shared.progress.found(job.len_bytes);
        self.transfer.start(put_file(shared, job)).await;
        Ok(())
    }

    fn kept(&self, found: LocalInfo) -> Option<Kept> {
        self.options.preserve.then_some(Kept { mode: found.mode, times: found.times })
    }

    /// Copies a tree: each directory is made before what is in it, files are copied side by side.
    async fn tree(&mut self, root: PathBuf, found: LocalInfo, remote: String) -> Outcome {
        self.directory(&remote, found, self.options.parents).await?;
        let mut waiting = vec![(root, remote, vec![found.identity])];
        while let Some((directory, remote, ancestors)) = waiting.pop() {
            let shared = self.transfer.shared();
            let here = directory.clone();
            let entries = match local("read", &directory, move || local::read_dir(&here)).await {
                Ok(entries) => entries,
                Err(failure) => {
                    shared.failed(failure).await;
                    continue;
                }
            };
            for (name, found) in entries {
                if shared.is_stopped() {
                    return Ok(());
                }
                let path = directory.join(&name);
                let done = match self.entry(&path, found, &remote, &ancestors).await {
                    Ok(Some((target, identity))) => {
                        let mut chain = ancestors.clone();
                        chain.push(identity);
                        waiting.push((path, target, chain));
                        continue;
                    }
                    Ok(None) => Ok(()),
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = done {
                    shared.failed(failure).await;
                }
            }
        }
        Ok(())
    }

    /// Starts the copy of a file, or makes a directory and answers where it is and which it was.
    async fn entry(
        &mut self,
        path: &Path,
        found: LocalInfo,
        remote: &str,
        ancestors: &[(u64, u64)],
    ) -> Result<Option<(String, (u64, u64))>, Failure> {
        let target = below(remote, &base_name(path)?);
        let followed = if found.kind == LocalKind::Symlink { look(path)? } else { found };
        if !followed.is_dir() {
            self.file(path.to_owned(), followed, target, false).await?;
            return Ok(None);
        }
        if ancestors.contains(&followed.identity) {
            return Err(Failure::item(path, "is a link to a directory that contains it", "it was not copied"));
        }
        self.directory(&target, followed, false).await?;
        Ok(Some((target, followed.identity)))
    }

    async fn directory(&mut self, remote: &str, found: LocalInfo, parents: bool) -> Outcome {
        // Its owner must be able to fill it, also where the original is read-only.
        let mode = self.context.masked(found.mode & 0o777) | 0o700;
        if make_directory(self.context, remote, mode, parents).await?
            && let Some(kept) = self.kept(found)
        {
            self.directories.push((remote.to_owned(), kept));
        }
        Ok(())
    }
}

/// Makes a directory of the cluster. `false`: one was there, and stays as it is.
pub(crate) async fn make_directory(context: &Context, path: &str, mode: u32, parents: bool) -> Result<bool, Failure> {
    // Without `parents` first: with it the answer does not tell whether it was there.
    let mut made = context.client.mkdir(path, mode, false).await;
    if parents && made.as_ref().is_err_and(|error| error.code == ErrorCode::NotFound) {
        made = context.client.mkdir(path, mode, true).await;
    }
    match made {
        Ok(_) => Ok(true),
        Err(error) if error.code == ErrorCode::AlreadyExists => {
            let there = context.look(path).await?;
            let directory = there.is_some_and(|status| status.kind() == FileKind::Directory);
            if directory { Ok(false) } else { Err(error.into()) }
        }
        Err(error) => Err(error.into()),
    }
}

/// What is at a local path, links followed.
fn look(path: &Path) -> Result<LocalInfo, Failure> {
    let found = local::info(path).map_err(|error| Failure::local("read", path, &error))?;
    let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "no such file or directory");
    found.ok_or_else(|| Failure::local("read", path, &missing()))
}

/// The name under which a local path is copied into a directory.
fn base_name(path: &Path) -> Result<String, Failure> {
    let name = match path.file_name() {
        Some(name) => name.to_owned(),
        // `.`, `..` and such: the name of what they lead to.
        None => local::canonical(path)
            .map_err(|error| Failure::local("read", path, &error))?
            .file_name()
            .map(std::ffi::OsStr::to_owned)
            .ok_or_else(|| Failure::item(path, "has no name", "name the destination"))?,
    };
    name.into_string().map_err(|name| {
        Failure::item(&path.with_file_name(name), "its name is not UTF-8", "rename it; it was not copied")
    })
}

async fn create_file(shared: &Shared, remote: &str, options: CreateOptions) -> Result<Writer, Failure> {
    shared.context.client.create(remote, options).await.map_err(|error| {
        let exists = error.code == ErrorCode::AlreadyExists;
        Failure::from(error).at(remote).or_hint(|| exists.then(|| "replace it with -f".to_owned()))
    })
}

async fn put_file(shared: Arc<Shared>, job: FileJob) -> Outcome {
    let (path, want) = (job.local.clone(), first_chunk_bytes(job.len_bytes));
    let (reader, first) = local("read", &job.local, move || {
        let mut reader = LocalReader::open(&path)?;
        let first = reader.read_chunk(want)?;
        Ok((reader, first))
    })
    .await?;
    let ended = first.len() < want;
    let create = CreateOptions { empty: first.is_empty(), ..job.create };
    let mut writer = create_file(&shared, &job.remote, create).await?;
    if ended {
        write_chunk(&shared, &mut writer, first).await?;
        close(writer).await?;
    } else {
        copy_in(&shared, writer, reader, first, &job.local).await?;
    }
    match job.keep {
        Some(kept) => kept.give(&shared.context, &job.remote).await,
        None => Ok(()),
    }
}

/// A byte more than the file has, so that its end is seen at once.
fn first_chunk_bytes(len_bytes: u64) -> usize {
    usize::try_from(len_bytes).unwrap_or(usize::MAX).saturating_add(1).min(CHUNK_BYTES)
}

/// Copies `chunk`, then the rest of `reader`, reading ahead by one chunk; then publishes.
async fn copy_in(
    shared: &Shared,
    mut writer: Writer,
    mut reader: LocalReader,
    mut chunk: Bytes,
    path: &Path,
) -> Outcome {
    loop {
        let read = local("read", path, move || {
            let next = reader.read_chunk(CHUNK_BYTES)?;
            Ok((reader, next))
        });
        // A write that failed is said at once, even while standard input brings nothing.
        ((reader, chunk), ()) = tokio::try_join!(read, write_chunk(shared, &mut writer, chunk))?;
        if chunk.is_empty() {
            return close(writer).await;
        }
    }
}

async fn write_chunk(shared: &Shared, writer: &mut Writer, chunk: Bytes) -> Outcome {
    let len_bytes = chunk.len() as u64;
    writer.write(chunk).await.map_err(|error| Failure::from(error).at(writer.path().as_str()))?;
    shared.progress.moved(len_bytes);
    Ok(())
}

async fn close(writer: Writer) -> Outcome {
    let path = writer.path().clone();
    writer.close().await.map_err(|error| Failure::from(error).at(path.as_str()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_the_same_name_are_seen_whatever_they_are_called() {
        let sources = ["a/x", "b/x/", "."].map(str::to_owned);
        let refused = refuse_doubles(targets(&sources, "/d"), String::clone).unwrap_err().text();
        assert!(refused.contains("a/x and b/x/ would both become /d/x"), "{refused}");
        refuse_doubles(targets(&sources[1..], "/d"), String::clone).unwrap();
    }

    #[test]
    fn names_of_copies() {
        assert_eq!(base_name(Path::new("/a/b/")).unwrap(), "b");
        let here = local::canonical(Path::new(".")).unwrap();
        assert_eq!(base_name(Path::new(".")).unwrap(), here.file_name().unwrap().to_str().unwrap());
        assert!(base_name(Path::new("/")).is_err());
    }
}
