//! `trash`, and how `rm` moves things into it.
//!
//! ```text
//!   /user/USER/.Trash/Current/data/x          what was /data/x
//!                     Current/data/x~1795…    what was /data/x later on: a name that is taken gets the time in ms (names)
//!                     261122093000/…          a checkpoint: the namenode makes them of Current, and removes old ones
//! ```

mod names;

use base::clock::{Clock, SystemClock};
use clap::{Args, Subcommand};
use client::{ErrorCode, FileKind, FileStatus, FsError, Replace};
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::each::{each_new, settle, start};
use super::entry::kind_name;
use super::failure::Failure;
use super::paths::walk::Walk;
use super::paths::{below, is_within, name_of, parent_of, trash_of};
use super::text::plain;
use super::text::size::size;
use super::text::time::short_time;

/// Rights of directories in the trash: nobody else looks into it.
const MODE: u32 = 0o700;
/// How often something is moved into the trash before that counts as failed.
const TRIES: usize = 5;
/// Where what was removed last is.
const CURRENT: &str = "Current";

/// `trash VERB`.
#[derive(Debug, Args)]
pub(crate) struct TrashVerb {
    #[command(subcommand)]
    pub(crate) verb: TrashCommand,
}

/// Verbs below `trash`.
#[derive(Debug, Subcommand)]
pub(crate) enum TrashCommand {
    /// Show what is in your trash
    Ls,
    /// Move something back to where it was
    Restore(RestoreOptions),
    /// Remove everything in your trash for good
    Empty,
}

/// Flags of `trash restore`.
#[derive(Debug, Args)]
#[command(after_help = "Of several that had this path the one that was removed last comes back.

Examples:
  blockyard trash restore /data/x
  blockyard trash restore /data/x --to /data/x-from-trash")]
pub(crate) struct RestoreOptions {
    /// Where it was
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// A new path for it
    #[arg(long, value_name = "PATH")]
    to: Option<String>,
}

/// The trash of one user.
#[derive(Debug)]
pub(crate) struct Trash {
    root: String,
}

impl Trash {
    /// The caller's.
    pub(crate) fn of(context: &Context) -> Self {
        Self { root: trash_of(context.user()) }
    }

    /// Is this path in the trash, or the trash itself?
    pub(crate) fn holds(&self, path: &str) -> bool {
        is_within(path, &self.root)
    }

    /// Moves something into the trash; answers where it is.
    pub(crate) async fn take(&self, context: &Context, path: &str) -> Result<String, Failure> {
        if is_within(&self.root, path) {
            let error = FsError::new(ErrorCode::InvalidMove, "it holds your trash and cannot be moved there");
            return Err(Failure::from(error.with_path(path).with_hint("remove it for good with --skip-trash")));
        }
        let there = async || self.look(context, path).await.map(|status| status.is_some());
        until_kept(path, async || self.try_take(context, path).await, there).await
    }

    async fn try_take(&self, context: &Context, path: &str) -> Result<String, Failure> {
        let parent = self.make_parents(context, parent_of(path).unwrap_or("/")).await?;
        let name = name_of(path).unwrap_or_default();
        let target = below(&parent, &names::kept(name));
        let too_long = |error: FsError| {
            let too_long = error.code == ErrorCode::NameTooLong;
            Failure::from(error).or_hint(|| too_long.then(|| "remove it for good with --skip-trash".to_owned()))
        };
        match context.client.rename(path, &target, Replace::Refuse).await {
            Err(error) if error.code == ErrorCode::AlreadyExists => {
                let target = below(&parent, &names::kept_at(name, now_ms()));
                context.client.rename(path, &target, Replace::Refuse).await.map_err(too_long)?;
                Ok(target)
            }
            other => other.map(|()| target).map_err(too_long),
        }
    }

    /// Makes the directory of the trash that stands for one of the cluster. Where a file has the name of one above it,
    /// it gets another name.
    async fn make_parents(&self, context: &Context, of: &str) -> Result<String, Failure> {
        let parts = || of.split('/').filter(|name| !name.is_empty());
        let mut path = below(&self.root, CURRENT);
        // Looked at from above, because a link that was removed may have the name: `mkdir` would follow it out of the trash.
        let mut there = true;
        for name in parts() {
            let wanted = below(&path, &names::kept(name));
            let status = if there { self.look(context, &wanted).await? } else { None };
            there = status.is_some();
            let taken = status.is_some_and(|status| status.kind() != FileKind::Directory);
            path = if taken { below(&path, &names::kept_at(name, now_ms())) } else { wanted };
        }
        match context.client.mkdir(&path, MODE, true).await {
            Ok(_) => Ok(path),
            Err(refused) => {
                let hint = format!("your trash would be {}; --skip-trash removes for good", self.root);
                Err(Failure::from(refused.with_hint(hint)))
            }
        }
    }

    /// What has a name in the trash, itself.
    async fn look(&self, context: &Context, path: &str) -> Result<Option<FileStatus>, Failure> {
        match context.client.stat_link(path).await {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the directories above something that left the trash, as far as nothing else is in them.
    async fn tidy(&self, context: &Context, from: &str) -> Outcome {
        let mut path = from;
        while let Some(parent) = parent_of(path).filter(|parent| self.holds(parent) && *parent != self.root) {
            // A link in the trash was removed by somebody; it is not what was above.
            let status = context.client.stat_link(parent).await;
            if !status.is_ok_and(|status| status.kind() == FileKind::Directory) {
                break;
            }
            match context.client.delete(parent, false).await {
                Ok(_) => path = parent,
                Err(error) if matches!(error.code, ErrorCode::NotEmpty | ErrorCode::NotFound) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Current and the checkpoints, newest first.
    async fn checkpoints(&self, context: &Context) -> Result<Vec<String>, Failure> {
        let entries = match context.client.list(&self.root)?.collect().await {
            Err(error) if error.code == ErrorCode::NotFound => return Ok(vec![]),
            other => other?,
        };
        let mut names: Vec<String> =
            entries.into_iter().map(|entry| entry.path).filter(|name| !name.is_empty()).collect();
        names.sort_by(|a, b| (b == CURRENT, b).cmp(&(a == CURRENT, a)));
        Ok(names)
    }

    /// Where what had a path is now: what was removed last.
    async fn find(&self, context: &Context, path: &str) -> Result<Option<String>, Failure> {
        if self.holds(path) {
            return Ok(context.look(path).await?.map(|_| path.to_owned()));
        }
        for checkpoint in self.checkpoints(context).await? {
            if let Some(found) = find_in(context, below(&self.root, &checkpoint), path).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Where what had a path is in a checkpoint: what was kept last.
async fn find_in(context: &Context, checkpoint: String, path: &str) -> Result<Option<String>, Failure> {
    // What stands for the names so far, with the latest time on the way.
    let mut places = vec![(0, checkpoint)];
    let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) = names.next() {
        let (mut next, above) = (Vec::new(), names.peek().is_some());
        for (latest, directory) in places {
            let kept = kept_in(context, &directory, name, above).await?;
            next.extend(kept.into_iter().map(|(time, entry)| (time.max(latest), below(&directory, &entry))));
        }
        places = next;
    }
    Ok(places.into_iter().max().map(|(_, found)| found))
}

/// What stands for `name` in a directory of the trash, and since when. `above`: as a directory on the way. A symbolic
/// link in the trash is a thing that was removed, and leads nowhere.
async fn kept_in(context: &Context, directory: &str, name: &str, above: bool) -> Result<Vec<(u64, String)>, Failure> {
    let mut listing = context.client.list(directory)?.starting_before(name);
    let mut found = Vec::new();
    loop {
        let (entry, kind) = match listing.next().await {
            Ok(Some(entry)) => (entry.path.clone(), entry.kind()),
            Err(error) if !matches!(error.code, ErrorCode::NotFound | ErrorCode::NotADirectory) => {
                return Err(error.into());
            }
            Ok(None) | Err(_) => return Ok(found),
        };
        if entry.as_str() > name && !entry.starts_with(name) {
            return Ok(found);
        }
        if above && kind != FileKind::Directory {
            continue;
        }
        let (was, time) = names::was(&entry);
        if entry == name {
            found.push((0, entry));
        } else if was == name {
            found.push((time, entry));
        }
    }
}

/// Moves something into the trash, again if its directory there went away between two calls: then `Current` has just
/// become a checkpoint. Only if `there` says that it is gone itself, it was not found.
async fn until_kept(
    path: &str,
    mut attempt: impl AsyncFnMut() -> Result<String, Failure>,
    there: impl AsyncFn() -> Result<bool, Failure>,
) -> Result<String, Failure> {
    for _ in 0..TRIES {
        match attempt().await {
            Err(failure) if failure.code() == ErrorCode::NotFound && there().await? => {}
            other => return other,
        }
    }
    let error = FsError::new(ErrorCode::Overloaded, "your trash was renamed again and again meanwhile").with_path(path);
    Err(Failure::from(error.with_hint("try again in a moment")))
}

fn now_ms() -> u64 {
    u64::try_from(SystemClock::new().wall_ns() / 1_000_000).unwrap_or(0)
}

/// Runs `trash VERB`.
pub(crate) async fn run(verb: &TrashCommand, context: &Context) -> Outcome {
    match verb {
        TrashCommand::Ls => ls(context).await,
        TrashCommand::Restore(options) => restore(options, context).await,
        TrashCommand::Empty => empty(context).await,
    }
}

async fn ls(context: &Context) -> Outcome {
    let trash = Trash::of(context);
    for checkpoint in trash.checkpoints(context).await? {
        let directory = below(&trash.root, &checkpoint);
        let mut walk = Walk::below(&context.client, &start(context, &directory).await?);
        while let Some(found) = walk.next().await {
            let found = match found {
                Ok(found) => found,
                Err(failure) => {
                    context.output.item_failed(&failure);
                    continue;
                }
            };
            // Directories with something in them are said by what is in them.
            if found.is_directory() && found.status.children > 0 {
                continue;
            }
            let was = names::path_was(found.path.strip_prefix(&directory).unwrap_or_default());
            if context.output.is_json() {
                context.output.object(&json!({
                    "v": 1, "type": "trash", "checkpoint": checkpoint, "path": found.path, "original": was,
                    "kind": kind_name(found.status.kind()), "size": found.status.len_bytes,
                }))?;
                continue;
            }
            let (bytes, changed) = (size(found.status.len_bytes), short_time(found.status.mtime_ns));
            let slash = if found.is_directory() { "/" } else { "" };
            context.output.line(&format!("{checkpoint:<12}  {bytes:>10}  {changed}  {}{slash}", plain(&was)))?;
        }
    }
    Ok(())
}

async fn restore(options: &RestoreOptions, context: &Context) -> Outcome {
    if options.to.is_some() && options.paths.len() > 1 {
        return Err(Failure::usage("--to is for one path", "restore them one by one"));
    }
    let trash = Trash::of(context);
    each_new(context, &options.paths, async |path| {
        let Some(from) = trash.find(context, path).await? else {
            let error = FsError::new(ErrorCode::NotFound, "not in your trash").with_path(path);
            return Err(Failure::from(error.with_hint("see what is there with `blockyard trash ls`")));
        };
        let to = match &options.to {
            Some(to) => context.absolute(to)?,
            None => original(&trash, path),
        };
        if let Some(parent) = parent_of(&to) {
            context.client.mkdir(parent, context.masked(0o777), true).await?;
        }
        context.client.rename(&from, &to, Replace::Refuse).await.map_err(|error| {
            let exists = error.code == ErrorCode::AlreadyExists;
            Failure::from(error).at(&to).or_hint(|| exists.then(|| "give it another path with --to".to_owned()))
        })?;
        trash.tidy(context, &from).await?;
        match context.output.is_json() {
            true => context.output.object(&json!({"v": 1, "type": "restored", "from": from, "path": to})),
            false => context.output.line(&format!("restored {}", plain(&to))),
        }
    })
    .await
}

/// Where something was, of which the path in the trash may have been given.
fn original(trash: &Trash, path: &str) -> String {
    let inside = path.strip_prefix(&trash.root).and_then(|rest| rest.strip_prefix('/'));
    let was = inside.and_then(|rest| rest.find('/').and_then(|at| rest.get(at..)));
    was.map_or_else(|| path.to_owned(), names::path_was)
}

async fn empty(context: &Context) -> Outcome {
    let trash = Trash::of(context);
    let (mut files, mut directories) = (0, 0);
    for checkpoint in trash.checkpoints(context).await? {
        let path = below(&trash.root, &checkpoint);
        let removed = context.client.delete(&path, true).await.map_err(|error| Failure::from(error).at(&path));
        if let Ok(removed) = &removed {
            files += removed.files;
            directories += removed.directories;
        }
        settle(context, &path, removed.map(drop)).await?;
    }
    if context.output.is_json() {
        let path = &trash.root;
        let object = json!({"v": 1, "type": "removed", "path": path, "files": files, "directories": directories});
        return context.output.object(&object);
    }
    context.output.line(&format!("removed {files} files for good"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_trash_tell_what_they_were() {
        let trash = Trash { root: "/user/ana/.Trash".into() };
        assert_eq!(original(&trash, "/user/ana/.Trash/Current/d/x"), "/d/x");
        assert_eq!(original(&trash, "/user/ana/.Trash/Current/d/x~1795339719515"), "/d/x");
        assert_eq!(original(&trash, "/d/x1795339719515"), "/d/x1795339719515");
        assert!(trash.holds("/user/ana/.Trash/Current") && !trash.holds("/user/ana/.Trashy"));
    }

    #[tokio::test]
    async fn a_trash_that_goes_away_meanwhile_is_made_again() {
        let missing = || Err(Failure::from(FsError::not_found("/user/ana/.Trash/Current/d")));
        let mut left = 2;
        let mut attempt = async || {
            left -= 1;
            if left > 0 { missing() } else { Ok("kept".to_owned()) }
        };
        assert_eq!(until_kept("/d/x", &mut attempt, async || Ok(true)).await.unwrap(), "kept");
        let code = |result: Result<String, Failure>| result.unwrap_err().code();
        assert_eq!(code(until_kept("/d/x", async || missing(), async || Ok(false)).await), ErrorCode::NotFound);
        // Whoever takes "not found" for success must not take this for it.
        assert_eq!(code(until_kept("/d/x", async || missing(), async || Ok(true)).await), ErrorCode::Overloaded);
    }
}
