//! `cat`: files to standard output.

use std::io::Write;

use clap::Args;

use super::Outcome;
use super::context::Context;
use super::each::each;
use super::failure::Failure;
use super::paths::PATHS_HELP;

/// Flags of `cat`.
#[derive(Debug, Args)]
#[command(after_help = PATHS_HELP)]
pub(crate) struct CatOptions {
    /// Files of the cluster
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

/// Runs `cat`.
pub(crate) async fn run(options: &CatOptions, context: &Context) -> Outcome {
    each(context, &options.paths, async |path| copy_out(context, path).await).await
}

/// Writes one file to standard output.
pub(crate) async fn copy_out(context: &Context, path: &str) -> Outcome {
    let mut reader = context.client.open(path).await?;
    while let Some(bytes) = reader.next().await? {
        let mut out = std::io::stdout().lock();
        out.write_all(&bytes).map_err(|error| Failure::output(&error))?;
    }
    std::io::stdout().lock().flush().map_err(|error| Failure::output(&error))
}
