//! `cp`: copies within the cluster. The bytes go through this machine.

use std::ffi::OsStr;

use base::local;
use clap::Args;
use client::{ErrorCode, FileKind, FileStatus, FsError};

use super::Outcome;
use super::context::Context;
use super::copy::Keep;
use super::copy::duplicate::{Duplicate, duplicate, preserve};
use super::digest::DigestOptions;
use super::each::expand_all;
use super::failure::Failure;
use super::filter::FILTERS_HELP;
use super::mv::{Destination, refuse_doubles};
use super::paths::walk::{Found, Walk};
use super::paths::{PATHS_HELP, is_within, name_of};
use super::put::enter_directory;
use super::transfer::{Plan, Transfer, TransferOptions};

/// Flags of `cp`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
If DESTINATION is a directory, the sources are copied into it; otherwise it is the name of the copy. It is taken as it
is written: no patterns. Symbolic links below a directory are copied as links; a file that is there is only replaced
with -f, and only when the copy is whole. A long file is written in parts side by side, each of which counts as one of
--jobs. --resume leaves a file alone that is at its target with the same length and the same time of change; if only
the time differs, both are read and compared.

{FILTERS_HELP}

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
            self.file(source.to_owned(), status, target, name_of(source).unwrap_or_default()).await;
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
            let inside = below.trim_start_matches('/');
            // What another copy is putting there is nobody's data, and what one left over nobody's either.
            if name_of(&found.path).is_some_and(|name| local::is_temporary(OsStr::new(name))) {
                walk.prune();
                continue;
            }
            match found.status.kind() {
                FileKind::Directory if !shared.filters.enters(inside) => walk.prune(),
                FileKind::Directory => match self.directory(&to, &found.status).await {
                    Ok(true) => directories.push((to, found.status)),
                    Ok(false) => {}
                    Err(failure) => {
                        walk.prune();
                        shared.failed(failure.at(&to)).await;
                    }
                },
                _ if !shared.filters.takes(inside) => {}
                FileKind::Symlink => {
                    if let Err(failure) = self.link(&found, &to).await {
                        shared.failed(failure.at(&to)).await;
                    }
                }
                _ if found.status.open_for_write => {
                    shared.left_out(&found.path, "is being written");
                }
                _ => {
                    let inside = inside.to_owned();
                    self.file(found.path, found.status, to, &inside).await;
                }
            }
        }
        if self.options.preserve {
            self.transfer.settle().await;
            // What is made in a directory changes its time: the deepest ones come first.
            for (path, status) in directories.iter().rev() {
                if let Err(failure) = preserve(self.context, path, status, Keep::All).await {
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
        enter_directory(&self.transfer.shared(), path, mode | 0o700, false).await
    }

    /// `below` is its path below the directory that was named, or its name.
    async fn file(&mut self, source: String, status: FileStatus, target: String, below: &str) {
        let shared = self.transfer.shared();
        if shared.filters.takes(below) {
            shared.progress.found(status.len_bytes);
            let (keep, digest) = (Keep::of(self.options.preserve), self.options.digest.wanted());
            self.transfer.start(duplicate(shared, Duplicate { source, status, target, keep, digest })).await;
        }
    }

    async fn link(&self, found: &Found, to: &str) -> Outcome {
        let shared = self.transfer.shared();
        let target = &found.status.symlink_target;
        if shared.manner.dry_run {
            return shared.planned(Plan { act: "link", from: target, path: to, bytes: 0 });
        }
        match self.context.client.symlink(to, target, false).await {
            // The same link is there already: nothing is missing.
            Err(error) if shared.manner.resume && error.code == ErrorCode::AlreadyExists => {
                let there = self.context.client.stat_link(to).await?;
                if there.symlink_target == *target { Ok(()) } else { Err(error.into()) }
            }
            other => other.map(drop).map_err(Failure::from),
        }
    }
}
