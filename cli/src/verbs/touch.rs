//! `touch`: times, and files that are empty.

use clap::Args;
use client::{Attributes, CreateOptions, Time};

use super::Outcome;
use super::context::Context;
use super::each::each_together;
use super::entry::object;
use super::paths::PATHS_HELP;
use super::text::time::parse_time;

/// Flags of `touch`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
DATE is 2026-11-22, '2026-11-22 09:28:39', 2026-11-22T09:28:39+02:00 or @SECONDS; UTC unless it names a zone.

{PATHS_HELP}

Examples:
  blockyard touch /data/_SUCCESS
  blockyard touch -d 2026-01-01 /data/x         both times
  blockyard touch -m -r /data/x /data/y         the time of the last change, as that of /data/x")
)]
pub(crate) struct TouchOptions {
    /// Files; one that is not there is made, empty
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// The time of the last access only
    #[arg(short, long)]
    access: bool,
    /// The time of the last change only
    #[arg(short, long)]
    modification: bool,
    /// Make no file
    #[arg(short = 'c', long)]
    no_create: bool,
    /// This time instead of now
    #[arg(short, long, value_name = "DATE", value_parser = parse_time, allow_hyphen_values = true, conflicts_with = "reference")]
    date: Option<i64>,
    /// The times of this file of the cluster
    #[arg(short, long, value_name = "FILE")]
    reference: Option<String>,
}

/// Runs `touch`.
pub(crate) async fn run(options: &TouchOptions, context: &Context) -> Outcome {
    let (mtime, atime) = match (&options.reference, options.date) {
        (Some(file), _) => {
            let status = context.client.stat(&context.absolute(file)?).await?;
            (Time::At(status.mtime_ns), Time::At(status.atime_ns))
        }
        (None, Some(ns)) => (Time::At(ns), Time::At(ns)),
        (None, None) => (Time::Now, Time::Now),
    };
    let both = options.access == options.modification;
    let attributes = Attributes {
        mtime: (both || options.modification).then_some(mtime),
        atime: (both || options.access).then_some(atime),
        ..Attributes::default()
    };
    let timed = options.reference.is_some() || options.date.is_some();
    each_together(context, &options.paths, false, async |path| {
        let status = match context.look(path).await? {
            Some(_) => context.client.set_attributes(path, &attributes).await?,
            None if options.no_create => return Ok(()),
            None => {
                let create =
                    CreateOptions { mode: Some(context.masked(0o666)), empty: true, ..CreateOptions::default() };
                let made = context.client.create(path, create).await?.close().await?;
                if timed { context.client.set_attributes(path, &attributes).await? } else { made }
            }
        };
        if context.output.is_json() { context.output.record(&object(&status, path)) } else { Ok(()) }
    })
    .await
}
