//! `concat`: files become one, without a byte being copied.

use clap::Args;

use super::Outcome;
use super::context::Context;
use super::each::settle;
use super::entry::object;
use super::failure::Failure;
use super::paths::PATHS_HELP;

/// Flags of `concat`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
The blocks of the sources are appended to the target, in the order in which they are named; the sources are gone then.
All of it happens, or nothing. Of more than 250 sources that holds for each 250: what was joined before one that fails
stays joined.

{PATHS_HELP}

Example:
  blockyard concat /data/all '/data/part-*'")
)]
pub(crate) struct ConcatOptions {
    /// The file that grows
    target: String,
    /// Files that become a part of it; a pattern stands for what fits, by name
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
}

/// Runs `concat`.
pub(crate) async fn run(options: &ConcatOptions, context: &Context) -> Outcome {
    let target = context.absolute(&options.target)?;
    let mut sources = Vec::new();
    for argument in &options.sources {
        sources.extend(context.expand(argument).await?);
    }
    sources.retain(|source| *source != target);
    let done = match context.client.concat(&target, &sources).await {
        Ok(status) if context.output.is_json() => context.output.record(&object(&status, &target)),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::from(error).at(&target)),
    };
    settle(context, &options.target, done).await
}
