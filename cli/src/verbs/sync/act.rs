//! What `sync` does to its destination, whichever side that is.

use std::sync::Arc;

use base::local;
use client::{BlockDigest, CreateOptions};

use super::SyncOptions;
use super::bin::Bin;
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
        let job = self.file_copy(from, to, &entry.origin);
        self.transfer
            .start(async move {
                if compare && content_of(&job.shared, &job.from).await? == content_of(&job.shared, &job.to).await? {
                    job.shared.progress.same(job.origin.len_bytes());
                    return Ok(Done::Same);
                }
                if job.shared.manner.dry_run { job.planned() } else { job.run().await }
            })
            .await;
    }

    /// Copies a file to where something of another kind is, which stays until the copy is whole.
    pub(super) async fn copy_in_place(&mut self, from: Side, to: Side, entry: &Entry<Origin>, over: Over) -> Outcome {
        if self.is_dry() {
            plan_removal(&self.shared, &to)?;
            self.copy(from, to, entry, false).await;
            return Ok(());
        }
        // A download gets its name with a rename, which takes the place of a link, too. In the cluster a file that is
        // written over a link would go where that leads.
        if over == Over::Small && matches!(to, Side::Local(_)) {
            let job = self.file_copy(from, to, &entry.origin);
            let shared = self.shared();
            let copied = async move { job.run().await.inspect(|_| shared.removed()) };
            self.transfer.start(copied).await;
            return Ok(());
        }
        self.copy_beside(from, to, entry).await
    }

    /// Not side by side with other files: it is rare that something is in the way.
    async fn copy_beside(&mut self, from: Side, to: Side, entry: &Entry<Origin>) -> Outcome {
        let (bin, new) = (self.bin().await?, to.beside());
        let mut job = self.file_copy(from, new.clone(), &entry.origin);
        // Nobody would find its part again: the name is a new one each time.
        job.resume = false;
        if let Err(failure) = job.run().await {
            bin.discard(&new).await;
            return Err(failure);
        }
        bin.put_in_place(&new, &to).await?;
        self.shared.removed();
        self.shared.progress.file_done();
        self.context.output.item_done();
        Ok(())
    }

    fn file_copy(&self, from: Side, to: Side, origin: &Origin) -> FileCopy {
        let create = CreateOptions {
            overwrite: true,
            mode: Some(self.context.masked(origin.mode() & 0o777)),
            digest: Some(self.digest),
            ..CreateOptions::default()
        };
        self.shared.progress.found(origin.len_bytes());
        let (shared, origin, keep, resume, digest) =
            (self.shared(), origin.clone(), self.keep, self.resume, self.digest);
        FileCopy { shared, from, to, origin, create, keep, resume, digest }
    }

    /// Makes a directory where a file or a link is.
    pub(super) async fn directory_in_place(&mut self, to: &Side, found: &Origin) -> Result<bool, Failure> {
        if self.is_dry() {
            plan_removal(&self.shared, to)?;
            // Nothing is looked at: what is there would be gone by then.
            self.shared.planned(Plan { act: "mkdir", from: "", path: &to.shown(), bytes: 0 })?;
            return Ok(false);
        }
        let (bin, new) = (self.bin().await?, to.beside());
        let made = self.make_directory(&new, found).await?;
        bin.put_in_place(&new, to).await?;
        self.shared.removed();
        Ok(made)
    }

    /// Makes a link like that of the source; `over`: what is in its place.
    pub(super) async fn link(&mut self, to: &Side, entry: &Entry<Origin>, over: Option<Over>) -> Outcome {
        let Kind::Link(target) = &entry.kind else { return Ok(()) };
        self.shared.progress.found(0);
        if self.is_dry() {
            self.shared.planned(Plan { act: "link", from: target, path: &to.shown(), bytes: 0 })?;
        } else {
            match (over, to) {
                (None, _) => make_link(&self.shared, to, target, false).await?,
                (Some(Over::Small), Side::Local(_)) => make_link(&self.shared, to, target, true).await?,
                (Some(_), _) => {
                    let (bin, new) = (self.bin().await?, to.beside());
                    make_link(&self.shared, &new, target, false).await?;
                    bin.put_in_place(&new, to).await?;
                }
            }
        }
        self.shared.progress.file_done();
        self.context.output.item_done();
        Ok(())
    }

    /// Makes a link where something of another kind is.
    pub(super) async fn link_in_place(&mut self, to: &Side, entry: &Entry<Origin>, over: Over) -> Outcome {
        if self.is_dry() {
            plan_removal(&self.shared, to)?;
            return self.link(to, entry, Some(over)).await;
        }
        self.link(to, entry, Some(over)).await?;
        self.shared.removed();
        Ok(())
    }

    /// Removes what is at the destination, with all that is in it.
    pub(super) async fn remove(&mut self, target: &Side) -> Outcome {
        if self.is_dry() {
            return plan_removal(&self.shared, target);
        }
        self.bin().await?.remove(target).await?;
        self.shared.removed();
        Ok(())
    }

    /// Where things go that are removed. The cluster is asked once whether it keeps them.
    async fn bin(&mut self) -> Result<Bin, Failure> {
        let keeps = match self.trash {
            Some(keeps) => keeps,
            None => !self.skip_trash && self.context.client.server_info().await?.trash_interval_ms > 0,
        };
        self.trash = Some(keeps);
        Ok(Bin::new(self.shared(), keeps))
    }
}

/// What something new takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// A file or a link.
    Small,
    /// A directory, with all that is in it.
    Directory,
}

/// The copy of one file.
struct FileCopy {
    shared: Arc<Shared>,
    from: Side,
    to: Side,
    origin: Origin,
    create: CreateOptions,
    keep: Keep,
    resume: bool,
    digest: BlockDigest,
}

impl FileCopy {
    /// Tells of the copy. Not asked what is in the way: that is known, and would be replaced.
    fn planned(&self) -> Result<Done, Failure> {
        let (from, path, bytes) = (self.from.shown(), self.to.shown(), self.origin.len_bytes());
        self.shared.planned(Plan { act: "copy", from: &from, path: &path, bytes })?;
        Ok(Done::Planned)
    }

    async fn run(self) -> Result<Done, Failure> {
        let Self { shared, from, to, origin, create, keep, resume, digest } = self;
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
    }
}

fn plan_removal(shared: &Shared, target: &Side) -> Outcome {
    shared.planned(Plan { act: "remove", from: "", path: &target.shown(), bytes: 0 })?;
    shared.removed();
    Ok(())
}

async fn make_link(shared: &Shared, at: &Side, target: &str, replace: bool) -> Outcome {
    match at {
        Side::Local(path) => {
            let (here, target) = (path.clone(), target.to_owned());
            on_disk("link", path, move || local::create_link(target.as_ref(), &here, replace)).await
        }
        Side::Cluster(path) => {
            let made = shared.context.client.symlink(path, target, false).await;
            made.map(drop).map_err(|error| Failure::from(error).at(path))
        }
    }
}

async fn content_of(shared: &Shared, side: &Side) -> Result<content::Content, Failure> {
    match side {
        Side::Local(path) => content::of_local(path).await,
        Side::Cluster(path) => content::of_cluster(&shared.context, path).await,
    }
}
