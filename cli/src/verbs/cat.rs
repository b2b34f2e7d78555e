//! `cat`: files to standard output.

use std::io::Write;

use clap::Args;

use super::Outcome;
use super::context::{Context, typed};
use super::failure::Failure;

/// Flags of `cat`.
#[derive(Debug, Args)]
pub(crate) struct CatOptions {
    /// Files of the cluster
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

/// Runs `cat`.
pub(crate) async fn run(options: &CatOptions, context: &Context) -> Outcome {
    for path in &options.paths {
        match copy_out(context, typed(path)).await {
            Ok(()) => context.output.item_done(),
            Err(failure) if failure.is_quiet() => return Err(failure),
            Err(failure) => context.output.item_failed(&context.explained(failure).await),
        }
    }
    Ok(())
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
