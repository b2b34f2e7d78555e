//! What `sync` does to its destination, whichever side that is.

use std::sync::Arc;

use base::local;
use client::{BlockDigest, CreateOptions, ErrorCode};

use super::SyncOptions;
use super::plan::{Entry, Kind};
use super::side::{Origin, Side};
use crate::verbs::Outcome;
use crate::verbs::context::Context;
use crate::verbs::copy::download::{Download, download, times_of};
use crate::verbs::copy::duplicate::{Duplicate, duplicate, preserve};
use crate::verbs::copy::upload::{Kept, Upload, upload};
use crate::verbs::copy::{Done, Keep, content};
use crate::verbs::failure::Failure;
use crate::verbs::transfer::{Plan, Shared, Transfer, local as on_disk};
use crate::verbs::trash::Trash;
use crate::verbs::{get, put};

/// The destination's hands.
pub(super) struct Act {
    context: Context,
    transfer: Transfer,
    shared: Arc<Shared>,
    keep: Keep,
    digest: BlockDigest,
    resume: bool,
    skip_trash: bool,
    /// Does the cluster keep what is removed? Asked once, when something is.
    trash: Option<bool>,
}

impl Act {
    pub(super) fn new(context: &Context, transfer: Transfer, keep: Keep, options: &SyncOptions) -> Self {
        let (digest, resume, skip_trash) = (options.digest.wanted(), options.resume, options.skip_trash);
        let shared = transfer.shared();
        Self { context: context.clone(), transfer, shared, keep, digest, resume, skip_trash, trash: None }
    }

    pub(super) const fn context(&self) -> &Context {
        &self.context
    }
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
    pub(super) fn is_dry(&self) -> bool {
        self.shared.manner.dry_run
    }
    pub(super) fn is_stopped(&self) -> bool {
        self.shared.is_stopped()
    }
    pub(super) fn has_failed(&self) -> bool {
        self.context.output.failed() > 0
    }
    pub(super) async fn failed(&self, failure: Failure) {
        self.shared.failed(failure).await;
    }
    pub(super) fn same(&self) {
        self.shared.progress.found(0);
        self.shared.progress.same(0);
        self.context.output.item_done();
    }
    pub(super) async fn settle(&mut self) {
        self.transfer.settle().await;
    }
    pub(super) async fn finish(self) -> Outcome {
        self.transfer.finish(true).await
    }

    /// Makes a directory that this user can fill. `false`: one was there, or this is a dry run.
    pub(super) async fn make_directory(&self, there: &Side, found: &Origin) -> Result<bool, Failure> {
        match there {
            Side::Local(path) => get::enter_directory(&self.shared, path, found.mode()).await,
            Side::Cluster(path) => {
                let keeps = self.keep == Keep::All && matches!(found, Origin::Cluster(_));
                let mode = found.mode() & 0o777;
                let mode = if keeps { mode } else { self.context.masked(mode) };
                let made = put::enter_directory(&self.shared, path, mode | 0o700, false).await;
                made.map_err(|failure| failure.at(path))
            }
        }
    }

    /// Gives a directory that was made the mode and the times of its source, if that is wished.
    pub(super) async fn preserve_directory(&self, side: &Side, origin: &Origin) -> Outcome {
        if self.keep != Keep::All {
            return Ok(());
        }
        match (side, origin) {
            (Side::Cluster(path), Origin::Local(info)) => {
                Kept { mode: Some(info.mode), times: info.times }.give(&self.context, path).await
            }
            (Side::Cluster(path), Origin::Cluster(status)) => preserve(&self.context, path, status, Keep::All).await,
            (Side::Local(path), Origin::Cluster(status)) => {
                let (here, mode, times) = (path.clone(), status.mode, times_of(status));
                on_disk("change", path, move || local::set_attributes(&here, mode, times)).await
            }
            (Side::Local(_), Origin::Local(_)) => Ok(()),
        }
    }

    /// Starts the copy of a file; with `compare` only if the contents differ.
    pub(super) async fn copy(&mut self, from: Side, to: Side, entry: &Entry<Origin>, compare: bool) {
        let (shared, origin, keep, resume) = (self.shared(), entry.origin.clone(), self.keep, self.resume);
        let digest = self.digest;
        let create = CreateOptions {
            overwrite: true,
            mode: Some(self.context.masked(origin.mode() & 0o777)),
            digest: Some(digest),
            ..CreateOptions::default()
        };
        self.shared.progress.found(origin.len_bytes());
        let job = async move {
            if compare && content_of(&shared, &from).await? == content_of(&shared, &to).await? {
                shared.progress.same(origin.len_bytes());
                return Ok(Done::Same);
            }
            if shared.manner.dry_run {
                // Not asked what is in the way: that would have been removed before.
                let (from, path, bytes) = (from.shown(), to.shown(), origin.len_bytes());
                shared.planned(Plan { act: "copy", from: &from, path: &path, bytes })?;
                return Ok(Done::Planned);
            }
            match (from, to, origin) {
                (Side::Local(local), Side::Cluster(remote), Origin::Local(found)) => {
                    let mode = (keep == Keep::All).then_some(found.mode);
                    let keep = Some(Kept { mode, times: found.times });
                    upload(shared, Upload { local, found, remote, create, keep }).await
                }
                (Side::Cluster(source), Side::Cluster(target), Origin::Cluster(status)) => {
                    duplicate(shared, Duplicate { source, status: *status, target, keep, digest }).await
                }
                (Side::Cluster(remote), Side::Local(target), _) => {
                    download(shared, Download { remote, target, keep, in_parts: resume }).await
                }
                // One of them is in the cluster, and entries of a side are of its kind.
                (Side::Local(path), _, _) => Err(Failure::item(&path, "is not in the cluster", "nothing was copied")),
                (Side::Cluster(_), Side::Cluster(path), _) => {
                    Err(Failure::server("the listing of the cluster is not of the cluster").at(&path))
                }
            }
        };
        self.transfer.start(job).await;
    }

    /// Makes a link like that of the source.
    pub(super) async fn link(&self, to: &Side, entry: &Entry<Origin>, replace: bool) -> Outcome {
        let Kind::Link(target) = &entry.kind else { return Ok(()) };
        self.shared.progress.found(0);
        if self.is_dry() {
            self.shared.planned(Plan { act: "link", from: target, path: &to.shown(), bytes: 0 })?;
        } else {
            match to {
                Side::Local(path) => {
                    let (here, target) = (path.clone(), target.clone());
                    on_disk("link", path, move || local::create_link(target.as_ref(), &here, replace)).await?;
                }
                Side::Cluster(path) => {
                    let at = |error: client::FsError| Failure::from(error).at(path);
                    if replace {
                        self.context.client.delete(path, false).await.map_err(at)?;
                    }
                    self.context.client.symlink(path, target, false).await.map_err(at)?;
                }
            }
        }
        self.shared.progress.file_done();
        self.context.output.item_done();
        Ok(())
    }

    /// Removes what is at the destination, with all that is in it.
    pub(super) async fn remove(&mut self, target: &Side) -> Outcome {
        if self.is_dry() {
            self.shared.planned(Plan { act: "remove", from: "", path: &target.shown(), bytes: 0 })?;
            self.shared.removed();
            return Ok(());
        }
        match target {
            Side::Local(path) => {
                let here = path.clone();
                on_disk("remove", path, move || local::remove(&here)).await?;
            }
            Side::Cluster(path) => self.remove_in_cluster(path).await.map_err(|failure| failure.at(path))?,
        }
        self.shared.removed();
        Ok(())
    }

    async fn remove_in_cluster(&mut self, path: &str) -> Outcome {
        let keeps = match self.trash {
            Some(keeps) => keeps,
            None => !self.skip_trash && self.context.client.server_info().await?.trash_interval_ms > 0,
        };
        self.trash = Some(keeps);
        let trash = Trash::of(&self.context);
        if keeps && !trash.holds(path) {
            return trash.take(&self.context, path).await.map(drop);
        }
        match self.context.client.delete(path, true).await {
            // It is gone, whoever removed it.
            Err(error) if error.code == ErrorCode::NotFound => Ok(()),
            other => other.map(drop).map_err(Failure::from),
        }
    }
}

async fn content_of(shared: &Shared, side: &Side) -> Result<content::Content, Failure> {
    match side {
        Side::Local(path) => content::of_local(path).await,
        Side::Cluster(path) => content::of_cluster(&shared.context, path).await,
    }
}
