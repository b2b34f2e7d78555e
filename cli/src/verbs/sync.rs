//! `sync`: a tree becomes the same as another: from this machine into the cluster, back, or within the cluster.
//!
//! ```text
//!   for each directory:  side (list) source ─┐
//!                        side (list) there  ─┴▶ plan, pure ─▶ steps ─▶ do_step ─▶ copies, side by side (transfer)
//!   at the end, if nothing failed: files and links take the place of directories, each when it is whole, and if
//!   still nothing failed, what the source does not have is removed (--delete)
//! ```
//!
//! Nothing outside of the destination is ever changed: links are copied as links and not followed, neither there nor
//! here, except for the two directories that are named.

mod act;
mod bin;
mod plan;
mod side;
mod survey;

use base::local;
use clap::Args;
use client::{ErrorCode, FsError};

use super::Outcome;
use super::context::Context;
use super::copy::Keep;
use super::digest::DigestOptions;
use super::failure::Failure;
use super::filter::{FILTERS_HELP, join};
use super::paths::is_within;
use super::text::plain;
use super::transfer::{FlowOptions, Manner, Transfer, local as on_disk};
use act::{Act, Over};
use plan::{Doubles, Entry, Kind, Rules, Step, plan};
use side::{Origin, Role, Side};
use survey::Survey;

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
that is in the way of something else is replaced when that is whole; a directory only with --delete, at the end, and
only if nothing failed before.

--delete removes what SOURCE does not have, at the end, and only if nothing failed before: into the trash if the
cluster keeps one. What --include and --exclude leave out is neither copied nor removed, and so is what cannot be
copied: files that are being written, sockets, devices. A directory that holds such a thing stays with it.

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
    let mut going = Going { act, rules, replacements: Vec::new(), removals: Vec::new(), directories: Vec::new() };
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

/// Two names of the source are one at the destination: the second copy would take the place of the first.
fn one_name(level: &Level, name: &str, first: &str) -> Failure {
    let text = format!("its name differs from {first} only in case, and the destination does not tell them apart");
    let error = FsError::new(ErrorCode::AlreadyExists, text).with_path(level.source.child(name).shown());
    error.with_hint("rename one of them; it was not copied").into()
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

impl Level {
    fn removal(&self, entry: &Entry<Origin>) -> Removal {
        let (target, below) = (self.there.child(&entry.name), join(&self.below, &entry.name));
        Removal { target, below, is_directory: entry.kind == Kind::Directory }
    }
}

/// What the source does not have.
#[derive(Clone, Debug)]
struct Removal {
    target: Side,
    /// Its path below what was named.
    below: String,
    is_directory: bool,
}

/// A file or a link of the source, and the directory that is in its way.
#[derive(Clone, Debug)]
struct Replacement {
    from: Side,
    entry: Entry<Origin>,
    old: Removal,
}

/// A `sync` that is under way.
struct Going {
    act: Act,
    rules: Rules,
    /// What takes the place of directories at the end.
    replacements: Vec<Replacement>,
    /// What is removed at the end.
    removals: Vec<Removal>,
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
        let source = level.source.list(&shared, Role::Source).await?;
        let there = if level.exists { level.there.list(&shared, Role::Destination).await? } else { Vec::new() };
        let doubles = self.doubles(level, &source, &there).await?;
        for step in plan(&level.below, &source, &there, self.rules, &shared.filters) {
            if self.act.is_stopped() {
                return Ok(());
            }
            if let Some((number, first)) = step.source().and_then(|number| doubles.source.get_key_value(&number)) {
                self.act.failed(one_name(level, &source[*number].name, &source[*first].name)).await;
                continue;
            }
            // It is what the source has under a name that is the same there.
            if matches!(&step, Step::Remove { there } if doubles.there.contains(there)) {
                continue;
            }
            if let Err(failure) = self.do_step(level, &source, &there, step, waiting).await {
                self.act.failed(failure).await;
            }
        }
        Ok(())
    }

    /// Names of this directory that the destination does not tell apart. It is asked only if it matters.
    async fn doubles(
        &self,
        level: &Level,
        source: &[Entry<Origin>],
        there: &[Entry<Origin>],
    ) -> Result<Doubles, Failure> {
        let Side::Local(path) = &level.there else { return Ok(Doubles::default()) };
        let found = Doubles::of(source, there);
        if found.is_empty() || !level.exists || self.act.is_dry() {
            return Ok(Doubles::default());
        }
        let here = path.clone();
        let folds = on_disk("look at", path, move || local::folds_case(&here)).await?;
        Ok(if folds { found } else { Doubles::default() })
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
            Step::Remove { there: number } => {
                self.removals.push(level.removal(&there[*number]));
                return Ok(());
            }
            Step::Same { source: number }
            | Step::Compare { source: number }
            | Step::Copy { source: number }
            | Step::Link { source: number, .. }
            | Step::Enter { source: number, .. }
            | Step::Replace { source: number, .. }
            | Step::Blocked { source: number }
            | Step::LeaveOut { source: number, .. } => (&source[*number], at(&source[*number])),
        };
        let (entry, (from, to)) = (from, to);
        match step {
            Step::Same { .. } => self.act.same(),
            Step::Copy { .. } => self.act.copy(from, to, entry, false).await,
            Step::Compare { .. } => self.act.copy(from, to, entry, true).await,
            Step::Link { replace, .. } => self.act.link(&to, entry, replace.then_some(Over::Small)).await?,
            Step::Enter { make, .. } => {
                let exists = if make { self.make(&to, &entry.origin).await? } else { true };
                waiting.push(Level { source: from, there: to, below: join(&level.below, &entry.name), exists });
            }
            Step::Blocked { .. } => {
                let error = FsError::new(ErrorCode::IsADirectory, "a directory is in the way").with_path(to.shown());
                return Err(Failure::from(error.with_hint("it is replaced with --delete")));
            }
            Step::LeaveOut { why, .. } => self.act.shared().left_out(&from.shown(), why),
            Step::Replace { there: number, .. } => {
                let replacement = Replacement { from, entry: entry.clone(), old: level.removal(&there[number]) };
                self.replace(level, replacement, waiting).await?;
            }
            Step::Remove { .. } => {}
        }
        Ok(())
    }

    /// Something is in the way. Directories wait for the end: much is lost with them.
    async fn replace(&mut self, level: &Level, one: Replacement, waiting: &mut Vec<Level>) -> Outcome {
        if one.old.is_directory {
            self.replacements.push(one);
            return Ok(());
        }
        let Replacement { from, entry, old } = one;
        let to = old.target;
        match entry.kind {
            Kind::Directory => {
                // Nothing goes for a directory that cannot be read.
                from.list(&self.act.shared(), Role::Doomed).await?;
                if self.act.directory_in_place(&to, &entry.origin).await? {
                    self.directories.push((to.clone(), entry.origin));
                }
                let exists = !self.act.is_dry();
                waiting.push(Level { source: from, there: to, below: join(&level.below, &entry.name), exists });
                Ok(())
            }
            Kind::Link(_) => self.act.link_in_place(&to, &entry, Over::Small).await,
            _ => self.act.copy_in_place(from, to, &entry, Over::Small).await,
        }
    }

    /// Replaces a directory, unless something in it must stay.
    async fn replace_directory(&mut self, one: Replacement) -> Outcome {
        let Replacement { from, entry, old } = one;
        let shared = self.act.shared();
        let survey = Survey::of(&shared, &old.target, &old.below, true).await?;
        if let Some(first) = survey.any_that_stays().await? {
            shared.left_out(&from.shown(), &format!("would replace {}, which stays,", first.shown()));
            return Ok(());
        }
        match entry.kind {
            Kind::Link(_) => self.act.link_in_place(&old.target, &entry, Over::Directory).await,
            _ => self.act.copy_in_place(from, old.target, &entry, Over::Directory).await,
        }
    }

    /// Removes a tree, but for what must stay.
    async fn remove(&mut self, old: &Removal) -> Outcome {
        let shared = self.act.shared();
        let mut survey = Survey::of(&shared, &old.target, &old.below, old.is_directory).await?;
        while let Some(target) = survey.next().await? {
            if self.act.is_stopped() {
                return Ok(());
            }
            if let Err(failure) = self.act.remove(&target).await {
                self.act.failed(failure.at(&target.shown())).await;
            }
        }
        if let Some(first) = survey.stays() {
            // As it was wished: nothing of the source was left out.
            let text = format!("{} stays, because it holds {}", plain(&old.target.shown()), plain(&first.shown()));
            shared.progress.aside(|| shared.context.output.note(&text));
        }
        Ok(())
    }

    /// What waits until everything else is there, and is not done if something failed.
    async fn destroy(&mut self) {
        let (replacements, removals) = (std::mem::take(&mut self.replacements), std::mem::take(&mut self.removals));
        let wanted = !replacements.is_empty() || !removals.is_empty();
        for one in replacements {
            if self.act.has_failed() || self.act.is_stopped() {
                break;
            }
            let shown = one.old.target.shown();
            if let Err(failure) = self.replace_directory(one).await {
                self.act.failed(failure.at(&shown)).await;
            }
        }
        self.act.settle().await;
        if self.act.has_failed() {
            if wanted {
                self.act.context().output.note("nothing was removed, because something failed before");
            }
            return;
        }
        for old in &removals {
            if self.act.is_stopped() {
                return;
            }
            if let Err(failure) = self.remove(old).await {
                self.act.failed(failure.at(&old.target.shown())).await;
            }
        }
    }

    async fn finish(mut self) -> Outcome {
        self.act.settle().await;
        self.destroy().await;
        // What is made in a directory changes its time: the deepest ones come first.
        for (side, origin) in std::mem::take(&mut self.directories).into_iter().rev() {
            if let Err(failure) = self.act.preserve_directory(&side, &origin).await {
                self.act.failed(failure.at(&side.shown())).await;
            }
        }
        self.act.finish().await
    }
}
