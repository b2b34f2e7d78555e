//! `get`: files and trees out of the cluster. A local file gets its name when it is whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::local::{self, LocalTimes, LocalWriter};
use bytes::Bytes;
use clap::Args;
use client::{ErrorCode, FileKind, FileStatus, FsError, Reader};

use super::Outcome;
use super::cat::copy_out;
use super::context::Context;
use super::each::expand_all;
use super::failure::Failure;
use super::mv::refuse_doubles;
use super::paths::{below, name_of};
use super::transfer::{CHUNK_BYTES, Shared, Transfer, TransferOptions, local};

/// Flags of `get`.
#[derive(Debug, Args)]
#[command(
    after_help = "If DESTINATION is a directory, the sources are copied into it; otherwise it is the name of the copy.
`-` as the destination is standard output. A file that is there is only replaced with -f. Symbolic links to files are
followed.

Examples:
  blockyard get /data/report.csv .            a file
  blockyard get -r /data/logs logs            a tree; as logs/logs if logs exists
  blockyard get /backup.tar - | tar t         a stream"
)]
pub(crate) struct GetOptions {
    /// Paths of the cluster, then where to copy them on this machine
    #[arg(required = true, num_args = 2.., value_name = "SOURCE… DESTINATION")]
    paths: Vec<String>,
    #[command(flatten)]
    transfer: TransferOptions,
    /// Keep modes and times
    #[arg(short, long)]
    preserve: bool,
}

impl GetOptions {
    /// Is the destination standard output?
    pub(crate) fn to_stdout(&self) -> bool {
        self.paths.last().is_some_and(|last| last == "-")
    }
}

/// Runs `get`.
pub(crate) async fn run(options: &GetOptions, context: &Context) -> Outcome {
    let Some((target, sources)) = options.paths.split_last() else {
        return Err(Failure::usage("nothing to get", "blockyard get SOURCE… DESTINATION"));
    };
    if options.to_stdout() {
        for source in sources {
            for path in context.expand(source).await? {
                if let Err(failure) = copy_out(context, &path).await {
                    return Err(context.explained(failure).await);
                }
            }
        }
        return Ok(());
    }
    let target_path = PathBuf::from(target);
    let existing = local::info(&target_path).map_err(|error| Failure::local("look at", &target_path, &error))?;
    let into = existing.is_some_and(|found| found.is_dir());
    let found = expand_all(context, sources).await?;
    if !into && (found.len() > 1 || target.ends_with('/')) {
        return Err(Failure::item(&target_path, "not a directory on this machine", "make it with mkdir"));
    }
    let target_of = |source: &str| target_of(source, &target_path, into);
    refuse_doubles(found.iter().map(|source| (source.clone(), target_of(source))), |path| path.display().to_string())?;
    let transfer = Transfer::new("get", &options.transfer, context);
    let mut get = Get { options, context, transfer, directories: Vec::new() };
    for source in &found {
        if let Err(failure) = get.source(source, target_of(source)).await {
            get.transfer.shared().failed(failure.at(source)).await;
        }
    }
    if options.preserve {
        get.transfer.settle().await;
        // What is made in a directory changes its time: the deepest ones come first.
        for (path, mode, times) in std::mem::take(&mut get.directories).into_iter().rev() {
            let here = path.clone();
            if let Err(failure) = local("change", &path, move || local::set_attributes(&here, mode, times)).await {
                get.transfer.shared().failed(failure).await;
            }
        }
    }
    get.transfer.finish(options.transfer.recursive || found.len() > 1).await
}

struct Get<'a> {
    options: &'a GetOptions,
    context: &'a Context,
    transfer: Transfer,
    /// The directories that were made, with what they get in the end.
    directories: Vec<(PathBuf, u32, LocalTimes)>,
}

/// Where the copy of a source goes.
fn target_of(source: &str, target: &Path, into: bool) -> PathBuf {
    match (into, name_of(source)) {
        (true, Some(name)) => target.join(name),
        _ => target.to_owned(),
    }
}

/// Times of an entry, for a local copy of it.
const fn times_of(status: &FileStatus) -> LocalTimes {
    LocalTimes { mtime_ns: status.mtime_ns, atime_ns: status.atime_ns }
}

impl Get<'_> {
    async fn source(&mut self, source: &str, target: PathBuf) -> Outcome {
        let status = self.context.client.stat(source).await?;
        if status.kind() != FileKind::Directory {
            self.file(source.to_owned(), &status, target).await;
            return Ok(());
        }
        if !self.options.transfer.recursive {
            let error = FsError::new(ErrorCode::IsADirectory, "is a directory").with_path(source);
            return Err(Failure::from(error.with_hint("copy the tree with -r")));
        }
        self.tree(source, &status, target).await
    }

    async fn file(&mut self, source: String, status: &FileStatus, target: PathBuf) {
        let shared = self.transfer.shared();
        shared.progress.found(status.len_bytes);
        self.transfer.start(get_file(shared, source, target, self.options.preserve)).await;
    }

    async fn tree(&mut self, source: &str, status: &FileStatus, target: PathBuf) -> Outcome {
        if make_directory(&target, status.mode).await? {
            self.made(&target, status);
        }
        let mut waiting = vec![(source.to_owned(), target)];
        while let Some((source, target)) = waiting.pop() {
            if let Err(failure) = self.directory(&source, &target, &mut waiting).await {
                self.transfer.shared().failed(failure.at(&source)).await;
            }
        }
        Ok(())
    }

    fn made(&mut self, target: &Path, status: &FileStatus) {
        if self.options.preserve {
            self.directories.push((target.to_owned(), status.mode, times_of(status)));
        }
    }

    async fn directory(&mut self, source: &str, target: &Path, waiting: &mut Vec<(String, PathBuf)>) -> Outcome {
        let mut listing = self.context.client.list(source)?;
        let shared = self.transfer.shared();
        while let Some(entry) = listing.next().await? {
            if shared.is_stopped() {
                waiting.clear();
                return Ok(());
            }
            let (from, to) = (below(source, &entry.path), target.join(&entry.path));
            match entry.kind() {
                FileKind::Directory => match make_directory(&to, entry.mode).await {
                    Ok(made) => {
                        if made {
                            self.made(&to, &entry);
                        }
                        waiting.push((from, to));
                    }
                    Err(failure) => shared.failed(failure).await,
                },
                FileKind::Symlink => match self.context.client.stat(&from).await {
                    Ok(status) if status.kind() == FileKind::Directory => {
                        shared.left_out(&from, "leads to a directory");
                    }
                    Ok(status) => self.file(from, &status, to).await,
                    Err(error) => shared.failed(Failure::from(error).at(&from)).await,
                },
                _ if entry.open_for_write => shared.left_out(&from, "is being written"),
                _ => self.file(from, &entry, to).await,
            }
        }
        Ok(())
    }
}

/// Makes a local directory that this user can fill, whatever its mode in the cluster says. `false`: one was there, and
/// stays as it is.
async fn make_directory(path: &Path, mode: u32) -> Result<bool, Failure> {
    let here = path.to_owned();
    local("make the directory", path, move || local::create_dir(&here, mode & 0o777 | 0o700)).await
}

async fn get_file(shared: Arc<Shared>, source: String, target: PathBuf, preserve: bool) -> Outcome {
    if !shared.force {
        let here = target.clone();
        if local("look at", &target, move || local::info(&here)).await?.is_some() {
            return Err(taken(&target));
        }
    }
    let mut reader = shared.context.client.open(&source).await.map_err(|error| Failure::from(error).at(&source))?;
    let mode = reader.status().mode & 0o777;
    let kept = preserve.then(|| (reader.status().mode, times_of(reader.status())));
    let mut writer: Option<LocalWriter> = None;
    loop {
        let (pieces, ended) = next_pieces(&shared, &mut reader).await.map_err(|failure| failure.at(&source))?;
        let (here, force) = (target.clone(), shared.force);
        let written = local("write", &target, move || {
            let mut file = match writer {
                Some(file) => file,
                None => LocalWriter::create(&here, mode)?,
            };
            pieces.iter().try_for_each(|piece| file.write(piece))?;
            if ended {
                if let Some((mode, times)) = kept {
                    file.set_attributes(mode, times)?;
                }
                file.finish(&here, force)?;
                return Ok(None);
            }
            Ok(Some(file))
        });
        writer = written
            .await
            .map_err(|failure| if failure.code() == ErrorCode::AlreadyExists { taken(&target) } else { failure })?;
        if ended {
            return Ok(());
        }
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

fn taken(path: &Path) -> Failure {
    let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
    Failure::local("write", path, &exists).or_hint(|| Some("replace it with -f".to_owned()))
}
