//! `get`: files and trees out of the cluster. A local file gets its name when it is whole.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use base::local::{self, LocalTimes};
use clap::Args;
use client::{ErrorCode, FileKind, FileStatus, FsError};

use super::Outcome;
use super::cat::copy_out;
use super::context::Context;
use super::copy::Keep;
use super::copy::download::{Download, download, times_of};
use super::each::expand_all;
use super::failure::Failure;
use super::filter::{FILTERS_HELP, join};
use super::mv::refuse_doubles;
use super::paths::{below, name_of};
use super::transfer::{Plan, Shared, Transfer, TransferOptions, local};

/// Flags of `get`.
#[derive(Debug, Args)]
#[command(
    after_help = format!("If DESTINATION is a directory, the sources are copied into it; otherwise it is the name of the copy.
`-` as the destination is standard output. A file that is there is only replaced with -f. Symbolic links to files are
followed.

--resume leaves a file alone that is at its target with the same length and the same time of change; if only the time
differs, both are read and compared. A file that was cut off goes on where it was: what came is kept beside it, as
.blockyard-….part and .state, until it is whole. What is kept is read and compared with its note first.

{FILTERS_HELP}

Examples:
  blockyard get /data/report.csv .            a file
  blockyard get -r /data/logs logs            a tree; as logs/logs if logs exists
  blockyard get -r --resume -p /data/logs logs              the same again, after it was interrupted
  blockyard get /backup.tar - | tar t         a stream")
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
    /// May what came of a file stay if it is cut off?
    pub(crate) const fn keeps_parts(&self) -> bool {
        self.transfer.resume
    }
}

/// Runs `get`.
pub(crate) async fn run(options: &GetOptions, context: &Context) -> Outcome {
    let Some((target, sources)) = options.paths.split_last() else {
        return Err(Failure::usage("nothing to get", "blockyard get SOURCE… DESTINATION"));
    };
    if options.to_stdout() {
        let TransferOptions { resume, flow, .. } = &options.transfer;
        if *resume || flow.verify || flow.dry_run {
            let hint = "name a file as the destination";
            return Err(Failure::usage("--resume, --verify and --dry-run are not for standard output", hint));
        }
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

impl Get<'_> {
    async fn source(&mut self, source: &str, target: PathBuf) -> Outcome {
        let status = self.context.client.stat(source).await?;
        if status.kind() != FileKind::Directory {
            self.file(source.to_owned(), &status, target, name_of(source).unwrap_or_default()).await;
            return Ok(());
        }
        if !self.options.transfer.recursive {
            let error = FsError::new(ErrorCode::IsADirectory, "is a directory").with_path(source);
            return Err(Failure::from(error.with_hint("copy the tree with -r")));
        }
        self.tree(source, &status, target).await
    }

    /// `below` is its path below the directory that was named, or its name.
    async fn file(&mut self, remote: String, status: &FileStatus, target: PathBuf, below: &str) {
        let shared = self.transfer.shared();
        if shared.filters.takes(below) {
            shared.progress.found(status.len_bytes);
            let keep = Keep::of(self.options.preserve);
            let in_parts = shared.manner.resume;
            self.transfer.start(download(shared, Download { remote, target, keep, in_parts })).await;
        }
    }

    async fn tree(&mut self, source: &str, status: &FileStatus, target: PathBuf) -> Outcome {
        self.enter(&target, status).await?;
        let mut waiting = vec![Level { remote: source.to_owned(), local: target, below: String::new() }];
        while let Some(level) = waiting.pop() {
            if let Err(failure) = self.directory(&level, &mut waiting).await {
                self.transfer.shared().failed(failure.at(&level.remote)).await;
            }
        }
        Ok(())
    }

    async fn enter(&mut self, target: &Path, status: &FileStatus) -> Outcome {
        if enter_directory(&self.transfer.shared(), target, status.mode).await? && self.options.preserve {
            self.directories.push((target.to_owned(), status.mode, times_of(status)));
        }
        Ok(())
    }

    async fn directory(&mut self, level: &Level, waiting: &mut Vec<Level>) -> Outcome {
        let mut listing = self.context.client.list(&level.remote)?;
        let shared = self.transfer.shared();
        while let Some(entry) = listing.next().await? {
            if shared.is_stopped() {
                waiting.clear();
                return Ok(());
            }
            // What another copy is putting there is nobody's data, and what one left over nobody's either.
            if local::is_temporary(OsStr::new(&entry.path)) {
                continue;
            }
            let inside = join(&level.below, &entry.path);
            let (remote, local) = (below(&level.remote, &entry.path), level.local.join(&entry.path));
            let wanted = match entry.kind() {
                FileKind::Directory => shared.filters.enters(&inside),
                _ => shared.filters.takes(&inside),
            };
            if !wanted {
                continue;
            }
            match entry.kind() {
                FileKind::Directory => match self.enter(&local, &entry).await {
                    Ok(()) => waiting.push(Level { remote, local, below: inside }),
                    Err(failure) => shared.failed(failure).await,
                },
                FileKind::Symlink => match self.context.client.stat(&remote).await {
                    Ok(status) if status.kind() == FileKind::Directory => {
                        shared.left_out(&remote, "leads to a directory");
                    }
                    Ok(status) => self.file(remote, &status, local, &inside).await,
                    Err(error) => shared.failed(Failure::from(error).at(&remote)).await,
                },
                _ if entry.open_for_write => shared.left_out(&remote, "is being written"),
                _ => self.file(remote, &entry, local, &inside).await,
            }
        }
        Ok(())
    }
}

/// A directory that is to be copied.
#[derive(Debug)]
struct Level {
    remote: String,
    local: PathBuf,
    /// Its path below the directory that was named.
    below: String,
}

/// Makes a local directory that this user can fill, whatever its mode in the cluster says, or says that it would.
/// `false`: one was there, and stays as it is, or none was made.
pub(crate) async fn enter_directory(shared: &Shared, path: &Path, mode: u32) -> Result<bool, Failure> {
    let here = path.to_owned();
    if !shared.manner.dry_run {
        return local("make the directory", path, move || local::create_dir(&here, mode & 0o777 | 0o700)).await;
    }
    match local("look at", path, move || local::info(&here)).await? {
        None => {
            let path = path.display().to_string();
            shared.planned(Plan { act: "mkdir", from: "", path: &path, bytes: 0 })?;
            Ok(false)
        }
        Some(found) if found.is_dir() => Ok(false),
        Some(_) => {
            let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            Err(Failure::local("make the directory", path, &exists))
        }
    }
}
