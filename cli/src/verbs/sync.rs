//! `sync`: a tree becomes the same as another: from this machine into the cluster, back, or within the cluster.
//!
//! ```text
//!   for each directory:  side (list) source ─┐
//!                        side (list) there  ─┴▶ plan, pure ─▶ steps ─▶ do_step ─▶ copies, side by side (transfer)
//!   at the end, if nothing failed: what the source does not have is removed (--delete)
//! ```
//!
//! Nothing outside of the destination is ever changed: links are copied as links and not followed, neither there nor
//! here, except for the two directories that are named.

mod act;
mod plan;
mod side;

use clap::Args;
use client::{ErrorCode, FsError};

use super::Outcome;
use super::context::Context;
use super::copy::Keep;
use super::digest::DigestOptions;
use super::failure::Failure;
use super::filter::{FILTERS_HELP, join};
use super::paths::is_within;
use super::transfer::{FlowOptions, Manner, Transfer};
use act::Act;
use plan::{Entry, Rules, Step, plan};
use side::{Origin, Side};

/// Flags of `sync`.
#[derive(Debug, Args)]
#[command(
    after_help = FILTERS_HELP,
    after_long_help = format!("\
Copies what DESTINATION lacks or has otherwise, so that what is in the directory DESTINATION becomes what is in the
directory SOURCE. One of them is in the cluster, or both: such a path is written blockyard:/PATH. DESTINATION is made
if it is not there.

A file is copied if its length or its time of change differs; copies get the time of their source. With --checksum
files of the same length are read on both sides and compared. Symbolic links are copied as they are. A file or a link
that is in the way of something else is replaced; a directory only with --delete.

--delete removes what SOURCE does not have, at the end, and only if nothing failed before: into the trash if the
cluster keeps one. What --include and --exclude leave out is neither copied nor removed, and so is what cannot be
copied: files that are being written, sockets, devices.

{FILTERS_HELP}

Examples:
  blockyard sync logs blockyard:/data/logs                  into the cluster
  blockyard sync --delete --dry-run logs blockyard:/data/logs      what would be done?
  blockyard sync blockyard:/data/logs logs                  and back
  blockyard sync --checksum blockyard:/data blockyard:/copy        within the cluster")
)]
pub(crate) struct SyncOptions {
    /// The directory to copy from: a path of this machine, or blockyard:PATH
    source: String,
    /// The directory that becomes the same: a path of this machine, or blockyard:PATH
    destination: String,
    #[command(flatten)]
    flow: FlowOptions,
    /// Remove what the source does not have
    #[arg(long)]
    delete: bool,
    /// Compare files by what is in them, not by their times
    #[arg(long)]
    checksum: bool,
    /// Keep downloads that are cut off, and go on with them
    #[arg(long)]
    resume: bool,
    /// Keep modes, too; within the cluster also copies, block sizes, and owners where that is allowed
    #[arg(short, long)]
    preserve: bool,
    /// Remove for good, whatever the cluster keeps
    #[arg(long, requires = "delete")]
    skip_trash: bool,
    #[command(flatten)]
    digest: DigestOptions,
}

impl SyncOptions {
    /// May what came of a file stay if it is cut off?
    pub(crate) const fn keeps_parts(&self) -> bool {
        self.resume
    }
    fn manner(&self) -> Manner {
        // `Manner::resume` would compare what is there once more; downloads ask for their parts by themselves.
        Manner { force: true, resume: false, verify: self.flow.verify, dry_run: self.flow.dry_run }
    }
}

/// Runs `sync`.
pub(crate) async fn run(options: &SyncOptions, context: &Context) -> Outcome {
    let (source, there) = sides(options, context)?;
    let found = source.look(context).await?;
    let Some(found) = found else { return Err(context.explained(missing(&source)).await) };
    if !found.is_directory() {
        let error = FsError::new(ErrorCode::NotADirectory, "is not a directory").with_path(source.shown());
        return Err(Failure::from(error.with_hint("copy a file with put, get or cp")));
    }
    apart(&source, &there, context).await?;
    let transfer = Transfer::with("sync", &options.flow, options.manner(), context);
    let keep = if options.preserve { Keep::All } else { Keep::Times };
    let act = Act::new(context, transfer, keep, options);
    let rules = Rules { checksum: options.checksum, delete: options.delete };
    let mut going = Going { act, rules, removals: Vec::new(), directories: Vec::new() };
    let exists = going.enter_top(&there, &found).await?;
    going.tree(Level { source, there, below: String::new(), exists }).await;
    going.finish().await
}

/// Both ends. One of them must be in the cluster.
fn sides(options: &SyncOptions, context: &Context) -> Result<(Side, Side), Failure> {
    let (source, there) = (Side::parse(&options.source, context)?, Side::parse(&options.destination, context)?);
    if let (Side::Local(_), Side::Local(_)) = (&source, &there) {
        return Err(Failure::usage(
            "neither SOURCE nor DESTINATION is in the cluster",
            "write a path of the cluster as blockyard:/PATH",
        ));
    }
    Ok((source, there))
}

fn missing(source: &Side) -> Failure {
    match source {
        Side::Local(path) => {
            let error = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file or directory");
            Failure::local("read", path, &error)
        }
        Side::Cluster(path) => FsError::not_found(path.as_str()).into(),
    }
}

/// A tree is not made the same as one that it lies in, or that lies in it: it would never end, or remove its source.
async fn apart(source: &Side, there: &Side, context: &Context) -> Outcome {
    let (Side::Cluster(source), Side::Cluster(there)) = (source, there) else { return Ok(()) };
    let (real_source, real_there) = (context.real_path(source).await?, context.real_path(there).await?);
    if !is_within(&real_there, &real_source) && !is_within(&real_source, &real_there) {
        return Ok(());
    }
    let error = FsError::new(ErrorCode::InvalidMove, format!("{source} and {there} are one in the other"));
    Err(Failure::from(error.with_path(there).with_hint("name two directories that lie apart")))
}

/// A directory on both sides.
#[derive(Clone, Debug)]
struct Level {
    source: Side,
    there: Side,
    /// Their path below what was named.
    below: String,
    /// Is it there at the destination?
    exists: bool,
}

/// A `sync` that is under way.
struct Going {
    act: Act,
    rules: Rules,
    /// What is removed at the end.
    removals: Vec<Side>,
    /// Directories that were made, with what they get in the end.
    directories: Vec<(Side, Origin)>,
}

impl Going {
    /// Makes the destination, or finds it.
    async fn enter_top(&mut self, there: &Side, found: &Origin) -> Result<bool, Failure> {
        let context = self.act.context();
        match there.look(context).await? {
            Some(origin) if origin.is_directory() => Ok(true),
            Some(_) => {
                let error = FsError::new(ErrorCode::NotADirectory, "is not a directory").with_path(there.shown());
                Err(Failure::from(error.with_hint("name another destination, or remove it")))
            }
            None => self.make(there, found).await,
        }
    }

    /// Answers whether the directory is there now.
    async fn make(&mut self, there: &Side, found: &Origin) -> Result<bool, Failure> {
        let made = self.act.make_directory(there, found).await?;
        if made {
            self.directories.push((there.clone(), found.clone()));
        }
        Ok(!self.act.is_dry())
    }

    async fn tree(&mut self, top: Level) {
        let mut waiting = vec![top];
        while let Some(level) = waiting.pop() {
            if self.act.is_stopped() {
                return;
            }
            if let Err(failure) = self.directory(&level, &mut waiting).await {
                self.act.failed(failure.at(&level.source.shown())).await;
            }
        }
    }

    async fn directory(&mut self, level: &Level, waiting: &mut Vec<Level>) -> Outcome {
        let shared = self.act.shared();
        let source = level.source.list(&shared, true).await?;
        let there = if level.exists { level.there.list(&shared, false).await? } else { Vec::new() };
        let mut steps = plan(&level.below, &source, &there, self.rules, &shared.filters).into_iter();
        while let Some(step) = steps.next() {
            if self.act.is_stopped() {
                return Ok(());
            }
            let displaces = matches!(step, Step::Displace { .. });
            if let Err(failure) = self.do_step(level, &source, &there, step, waiting).await {
                self.act.failed(failure).await;
                // What was in the way is still there: the next step would go through it, if it is a link.
                if displaces {
                    steps.next();
                }
            }
        }
        Ok(())
    }

    async fn do_step(
        &mut self,
        level: &Level,
        source: &[Entry<Origin>],
        there: &[Entry<Origin>],
        step: Step,
        waiting: &mut Vec<Level>,
    ) -> Outcome {
        let at = |entry: &Entry<Origin>| (level.source.child(&entry.name), level.there.child(&entry.name));
        // The plan numbers what is in these lists.
        let (from, to) = match &step {
            Step::Displace { there: number } | Step::Remove { there: number } => {
                let target = at(&there[*number]).1;
                if matches!(step, Step::Displace { .. }) {
                    return self.act.remove(&target).await;
                }
                self.removals.push(target);
                return Ok(());
            }
            Step::Same { source: number }
            | Step::Compare { source: number }
            | Step::Copy { source: number }
            | Step::Link { source: number, .. }
            | Step::Enter { source: number, .. }
            | Step::Blocked { source: number }
            | Step::LeaveOut { source: number, .. } => (&source[*number], at(&source[*number])),
        };
        let (entry, (from, to)) = (from, to);
        match step {
            Step::Same { .. } => self.act.same(),
            Step::Copy { .. } => self.act.copy(from, to, entry, false).await,
            Step::Compare { .. } => self.act.copy(from, to, entry, true).await,
            Step::Link { replace, .. } => self.act.link(&to, entry, replace).await?,
            Step::Enter { make, .. } => {
                let exists = if make { self.make(&to, &entry.origin).await? } else { true };
                waiting.push(Level { source: from, there: to, below: join(&level.below, &entry.name), exists });
            }
            Step::Blocked { .. } => {
                let error = FsError::new(ErrorCode::IsADirectory, "a directory is in the way").with_path(to.shown());
                return Err(Failure::from(error.with_hint("it is replaced with --delete")));
            }
            Step::LeaveOut { why, .. } => self.act.shared().left_out(&from.shown(), why),
            Step::Displace { .. } | Step::Remove { .. } => {}
        }
        Ok(())
    }

    async fn finish(mut self) -> Outcome {
        self.act.settle().await;
        let removals = std::mem::take(&mut self.removals);
        if !removals.is_empty() && self.act.has_failed() {
            let context = self.act.context();
            context.output.note("nothing was removed, because something failed before");
        } else {
            for target in &removals {
                if self.act.is_stopped() {
                    break;
                }
                if let Err(failure) = self.act.remove(target).await {
                    self.act.failed(failure.at(&target.shown())).await;
                }
            }
        }
        // What is made in a directory changes its time: the deepest ones come first.
        for (side, origin) in std::mem::take(&mut self.directories).into_iter().rev() {
            if let Err(failure) = self.act.preserve_directory(&side, &origin).await {
                self.act.failed(failure.at(&side.shown())).await;
            }
        }
        self.act.finish().await
    }
}
