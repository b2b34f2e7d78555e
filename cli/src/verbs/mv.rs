//! `mv`: other names.

use clap::Args;
use client::{ErrorCode, FileKind, FsError, Replace};
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::each::each_together;
use super::failure::Failure;
use super::paths::{PATHS_HELP, below, name_of};

/// Flags of `mv`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
If DESTINATION is a directory, everything is moved into it; otherwise it is the new name.
DESTINATION is taken as it is written: no patterns.

{PATHS_HELP}

Examples:
  blockyard mv /data/new /data/old              another name
  blockyard mv '/in/*.csv' /data/               into a directory"))]
pub(crate) struct MvOptions {
    /// What to move, then where to
    #[arg(required = true, num_args = 2.., value_name = "SOURCE… DESTINATION")]
    paths: Vec<String>,
    /// Replace a file that is there
    #[arg(short, long)]
    force: bool,
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

/// The sources that patterns and paths name, and where they go.
pub(crate) async fn sources_and_destination(
    context: &Context,
    paths: &[String],
) -> Result<(Vec<String>, Destination), Failure> {
    let Some((target, sources)) = paths.split_last() else {
        return Err(Failure::usage("name a source and a destination", "see --help"));
    };
    let mut several = sources.len() > 1;
    if let [only] = sources {
        // A pattern may stand for many; one that fits nothing is told when it is worked on.
        several = super::paths::glob::is_special(only) && context.expand(only).await.is_ok_and(|found| found.len() > 1);
    }
    Ok((sources.to_vec(), Destination::find(context, target, several).await?))
}

/// Runs `mv`.
pub(crate) async fn run(options: &MvOptions, context: &Context) -> Outcome {
    let (sources, destination) = sources_and_destination(context, &options.paths).await?;
    let replace = if options.force { Replace::Allow } else { Replace::Refuse };
    each_together(context, &sources, false, async |from| {
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
