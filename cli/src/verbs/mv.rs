//! `mv`: other names.

use std::collections::BTreeMap;

use clap::Args;
use client::{ErrorCode, FileKind, FsError, Replace};
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::each::{Named, named, together};
use super::failure::Failure;
use super::paths::{PATHS_HELP, below, name_of};

/// Flags of `mv`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
If DESTINATION is a directory, everything is moved into it; otherwise it is the new name.
DESTINATION is taken as it is written: no patterns. Nothing is moved if two of the sources would get the same name.

{PATHS_HELP}

Examples:
  blockyard mv /data/new /data/old              another name
  blockyard mv '/in/*.csv' /data/               into a directory
  blockyard mv --exchange /tables/new /tables/live   nobody ever finds none"))]
pub(crate) struct MvOptions {
    /// What to move, then where to
    #[arg(required = true, num_args = 2.., value_name = "SOURCE… DESTINATION")]
    paths: Vec<String>,
    /// Replace a file that is there
    #[arg(short, long)]
    force: bool,
    /// Exchange two names: each gets what the other one had, in one step
    #[arg(long, conflicts_with = "force")]
    exchange: bool,
}

/// Where sources go: into a directory, or to exactly one name.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) path: String,
    pub(crate) into: bool,
}

impl Destination {
    /// Looks at what is there. `several`: more than one thing is to go there.
    pub(crate) async fn find(context: &Context, typed: &str, several: bool) -> Result<Self, Failure> {
        let path = context.absolute(typed)?;
        let into = context.look(&path).await?.is_some_and(|status| status.kind() == FileKind::Directory);
        let names_a_directory = typed.ends_with('/') && path != "/";
        if !into && (names_a_directory || several) {
            let message = if several { "several things only go into a directory" } else { "not a directory" };
            let error = FsError::new(ErrorCode::NotADirectory, message).with_path(path);
            return Err(Failure::from(error.with_hint("make it with `blockyard mkdir`")));
        }
        Ok(Self { path, into })
    }

    /// The path that a source gets.
    pub(crate) fn of(&self, source: &str) -> String {
        match (self.into, name_of(source)) {
            (true, Some(name)) => below(&self.path, name),
            _ => self.path.clone(),
        }
    }
}

/// Refuses sources that would get the same name: the later one would take the place of the earlier one, or fail half
/// way. To be asked before anything is changed.
pub(crate) fn refuse_doubles<T: Ord>(
    pairs: impl IntoIterator<Item = (String, T)>,
    shown: impl Fn(&T) -> String,
) -> Outcome {
    let mut taken: BTreeMap<T, String> = BTreeMap::new();
    for (source, target) in pairs {
        if let Some(first) = taken.get(&target) {
            let message = format!("{first} and {source} would both become {}", shown(&target));
            return Err(Failure::usage(message, "take them one by one, each to a name of its own"));
        }
        taken.insert(target, source);
    }
    Ok(())
}

/// Runs `mv`.
pub(crate) async fn run(options: &MvOptions, context: &Context) -> Outcome {
    let Some((target, arguments)) = options.paths.split_last() else {
        return Err(Failure::usage("name a source and a destination", "see --help"));
    };
    let sources = named(context, arguments).await?;
    if options.exchange {
        return exchange(context, &sources, target).await;
    }
    if sources.is_empty() {
        return Ok(());
    }
    let destination = Destination::find(context, target, arguments.len().max(sources.len()) > 1).await?;
    refuse_doubles(sources.iter().map(|Named { path, .. }| (path.clone(), destination.of(path))), String::clone)?;
    let replace = if options.force { Replace::Allow } else { Replace::Refuse };
    together(context, sources, &async |from: &str| {
        let to = destination.of(from);
        context.client.rename(from, &to, replace).await.map_err(|error| {
            let exists = error.code == ErrorCode::AlreadyExists;
            Failure::from(error).or_hint(|| exists.then(|| "replace it with -f".to_owned()))
        })?;
        if context.output.is_json() {
            context.output.object(&json!({"v": 1, "type": "moved", "from": from, "path": to}))?;
        }
        Ok(())
    })
    .await
}

/// DESTINATION is the other name as it is written, also that of a directory.
async fn exchange(context: &Context, sources: &[Named], target: &str) -> Outcome {
    let [Named { path: from, .. }] = sources else {
        return Err(Failure::usage("two names are exchanged", "blockyard mv --exchange ONE OTHER"));
    };
    let to = context.absolute(target)?;
    context.client.rename(from, &to, Replace::Exchange).await?;
    if context.output.is_json() {
        context.output.object(&json!({"v": 1, "type": "exchanged", "from": from, "path": to}))?;
    }
    Ok(())
}
