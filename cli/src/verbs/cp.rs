//! `cp`: copies within the cluster. The bytes go through this machine.

use std::sync::Arc;

use clap::Args;
use client::{Attributes, CreateOptions, ErrorCode, FileKind, FileStatus, FsError, Time};

use super::Outcome;
use super::context::Context;
use super::digest::DigestOptions;
use super::each::expand_all;
use super::failure::Failure;
use super::mv::{Destination, refuse_doubles};
use super::paths::walk::{Found, Walk};
use super::paths::{PATHS_HELP, is_within};
use super::put::make_directory;
use super::transfer::{Shared, Transfer, TransferOptions};

/// Flags of `cp`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
If DESTINATION is a directory, the sources are copied into it; otherwise it is the name of the copy. It is taken as it
is written: no patterns. Symbolic links below a directory are copied as links; a file that is there is only replaced
with -f, and only when the copy is whole.

{PATHS_HELP}

Examples:
  blockyard cp /data/x /data/y
  blockyard cp -r -p /data /backup/data")
)]
pub(crate) struct CpOptions {
    /// What to copy, then where to
    #[arg(required = true, num_args = 2.., value_name = "SOURCE… DESTINATION")]
    paths: Vec<String>,
    #[command(flatten)]
    transfer: TransferOptions,
    /// Keep modes, times, copies and block sizes; owners and groups where that is allowed
    #[arg(short, long)]
    preserve: bool,
    #[command(flatten)]
    digest: DigestOptions,
}

/// Runs `cp`.
pub(crate) async fn run(options: &CpOptions, context: &Context) -> Outcome {
    let Some((target, arguments)) = options.paths.split_last() else {
        return Err(Failure::usage("nothing to copy", "blockyard cp SOURCE… DESTINATION"));
    };
    let sources = expand_all(context, arguments).await?;
    let destination = Destination::find(context, target, sources.len() > 1).await?;
    refuse_doubles(sources.iter().map(|source| (source.clone(), destination.of(source))), String::clone)?;
    let mut copy = Copy { options, context, transfer: Transfer::new("cp", &options.transfer, context) };
    for source in &sources {
        if let Err(failure) = copy.source(source, &destination).await {
            copy.transfer.shared().failed(failure.at(source)).await;
        }
    }
    let summary = options.transfer.recursive || sources.len() > 1;
    copy.transfer.finish(summary).await
}

struct Copy<'a> {
    options: &'a CpOptions,
    context: &'a Context,
    transfer: Transfer,
}

impl Copy<'_> {
    async fn source(&mut self, source: &str, destination: &Destination) -> Outcome {
        // Named by itself a link stands for what it leads to.
        let status = self.context.client.stat(source).await?;
        let target = destination.of(source);
        if status.kind() != FileKind::Directory {
            self.file(source.to_owned(), status, target).await;
            return Ok(());
        }
        if !self.options.transfer.recursive {
            let error = FsError::new(ErrorCode::IsADirectory, "is a directory").with_path(source);
            return Err(Failure::from(error.with_hint("copy the tree with -r")));
        }
        // Links may lead back: what counts is where both really are.
        let (real_source, real_target) =
            (self.context.real_path(source).await?, self.context.real_path(&target).await?);
        if is_within(&real_target, &real_source) {
            let error = FsError::new(ErrorCode::InvalidMove, "a directory is not copied into itself");
            return Err(Failure::from(error.with_path(target)));
        }
        self.tree(source, status, &target).await
    }

    async fn tree(&mut self, source: &str, status: FileStatus, target: &str) -> Outcome {
        let made = self.directory(target, &status).await?;
        let top = Found { path: source.to_owned(), depth: 0, status };
        let mut walk = Walk::below(&self.context.client, &top);
        let mut directories = Vec::new();
        if made {
            directories.push((target.to_owned(), top.status));
        }
        let shared = self.transfer.shared();
        while let Some(found) = walk.next().await {
            if shared.is_stopped() {
                return Ok(());
            }
            let found = match found {
                Ok(found) => found,
                Err(failure) => {
                    shared.failed(failure).await;
                    continue;
                }
            };
            let below = found.path.strip_prefix(source.trim_end_matches('/')).unwrap_or_default();
            let to = format!("{}{below}", if target == "/" { "" } else { target });
            match found.status.kind() {
                FileKind::Directory => match self.directory(&to, &found.status).await {
                    Ok(true) => directories.push((to, found.status)),
                    Ok(false) => {}
                    Err(failure) => {
                        walk.prune();
                        shared.failed(failure.at(&to)).await;
                    }
                },
                FileKind::Symlink => {
                    let made = self.context.client.symlink(&to, &found.status.symlink_target, false).await;
                    if let Err(error) = made {
                        shared.failed(Failure::from(error).at(&to)).await;
                    }
                }
                _ if found.status.open_for_write => {
                    shared.left_out(&found.path, "is being written");
                }
                _ => self.file(found.path, found.status, to).await,
            }
        }
        if self.options.preserve {
            self.transfer.settle().await;
            // What is made in a directory changes its time: the deepest ones come first.
            for (path, status) in directories.iter().rev() {
                if let Err(failure) = preserve(self.context, path, status).await {
                    shared.failed(failure.at(path)).await;
                }
            }
        }
        Ok(())
    }

    /// `false`: it was there, and keeps what it has.
    async fn directory(&self, path: &str, status: &FileStatus) -> Result<bool, Failure> {
        // Its owner must be able to fill it.
        let mode = if self.options.preserve { status.mode & 0o777 } else { self.context.masked(status.mode & 0o777) };
        make_directory(self.context, path, mode | 0o700, false).await
    }

    async fn file(&mut self, source: String, status: FileStatus, target: String) {
        let shared = self.transfer.shared();
        shared.progress.found(status.len_bytes);
        let keep = self.options.preserve;
        let mode = if keep { status.mode & 0o7777 } else { self.context.masked(status.mode & 0o777) };
        let create = CreateOptions {
            overwrite: shared.force,
            mode: Some(mode),
            empty: status.len_bytes == 0,
            replication: if keep { status.replication } else { 0 },
            block_size_bytes: if keep { status.block_size_bytes } else { 0 },
            digest: Some(self.options.digest.wanted()),
            ..CreateOptions::default()
        };
        self.transfer.start(copy_file(shared, source, status, target, create, keep)).await;
    }
}

async fn copy_file(
    shared: Arc<Shared>,
    source: String,
    status: FileStatus,
    target: String,
    create: CreateOptions,
    keep: bool,
) -> Outcome {
    if source == target {
        let error = FsError::new(ErrorCode::InvalidMove, "a file is not copied to itself").with_path(source);
        return Err(Failure::from(error));
    }
    let client = &shared.context.client;
    let mut reader = client.open(&source).await.map_err(|error| Failure::from(error).at(&source))?;
    let at_target = |error: FsError| {
        let exists = error.code == ErrorCode::AlreadyExists;
        Failure::from(error).at(&target).or_hint(|| exists.then(|| "replace it with -f".to_owned()))
    };
    let mut writer = client.create(&target, create).await.map_err(at_target)?;
    while let Some(bytes) = reader.next().await.map_err(|error| Failure::from(error).at(&source))? {
        let len_bytes = bytes.len() as u64;
        writer.write(bytes).await.map_err(at_target)?;
        shared.progress.moved(len_bytes);
    }
    writer.close().await.map_err(at_target)?;
    if keep { preserve(&shared.context, &target, &status).await.map_err(|failure| failure.at(&target)) } else { Ok(()) }
}

/// Gives a copy the times and the mode of its original, and its owner and group if the caller may.
async fn preserve(context: &Context, path: &str, status: &FileStatus) -> Outcome {
    let times = Attributes {
        mode: Some(status.mode & 0o7777),
        mtime: Some(Time::At(status.mtime_ns)),
        atime: Some(Time::At(status.atime_ns)),
        ..Attributes::default()
    };
    let made = context.client.set_attributes(path, &times).await?;
    if (made.owner.as_str(), made.group.as_str()) == (status.owner.as_str(), status.group.as_str()) {
        return Ok(());
    }
    let owner =
        Attributes { owner: Some(status.owner.clone()), group: Some(status.group.clone()), ..Attributes::default() };
    match context.client.set_attributes(path, &owner).await {
        Err(error) if error.code != ErrorCode::PermissionDenied => Err(error.into()),
        _ => Ok(()),
    }
}
