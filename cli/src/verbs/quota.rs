//! `quota`: limits of directories, on names and on bytes.

use clap::{ArgAction, Args, Subcommand};
use client::Quota;
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::each::{each, each_together};
use super::paths::PATHS_HELP;
use super::text::plain;
use super::text::size::{parse_positive, shown};

/// `quota VERB`.
#[derive(Debug, Args)]
pub(crate) struct QuotaVerb {
    #[command(subcommand)]
    pub(crate) verb: QuotaCommand,
}

/// Verbs below `quota`.
#[derive(Debug, Subcommand)]
pub(crate) enum QuotaCommand {
    /// Show quotas and what is used of them
    Get(QuotaGetOptions),
    /// Set quotas; for the superuser
    Set(QuotaSetOptions),
    /// Remove quotas; for the superuser
    Clear(QuotaClearOptions),
}

/// Flags of `quota get`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, after_help = PATHS_HELP)]
pub(crate) struct QuotaGetOptions {
    /// Directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Sizes as 1.2 GiB
    #[arg(short = 'h', long = "human-readable")]
    human: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Flags of `quota set`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
Names are files, directories and links, the directory itself included. Space is bytes on disks: every copy counts, so
a file of 1 GiB with three copies takes 3 GiB.

{PATHS_HELP}

Examples:
  blockyard quota set --names 1000000 --space 10T /user/ana
  blockyard quota clear --space /user/ana")
)]
pub(crate) struct QuotaSetOptions {
    /// Directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// At most this many names
    #[arg(short, long, value_name = "N", required_unless_present = "space", value_parser = clap::value_parser!(u64).range(1..))]
    names: Option<u64>,
    /// At most this many bytes on disks, with K, M, G, T
    #[arg(short, long, value_name = "SIZE", value_parser = parse_positive)]
    space: Option<u64>,
}

/// Flags of `quota clear`.
#[derive(Debug, Args)]
#[command(after_help = PATHS_HELP)]
pub(crate) struct QuotaClearOptions {
    /// Directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// That of names only
    #[arg(short, long)]
    names: bool,
    /// That of space only
    #[arg(short, long)]
    space: bool,
}

/// Runs `quota VERB`.
pub(crate) async fn run(verb: &QuotaCommand, context: &Context) -> Outcome {
    match verb {
        QuotaCommand::Get(options) => {
            each(context, &options.paths, async |path| print(context, path, options.human).await).await
        }
        QuotaCommand::Set(options) => {
            let limit = |value: Option<u64>| value.map_or(Quota::Keep, Quota::Limit);
            set(context, &options.paths, limit(options.names), limit(options.space)).await
        }
        QuotaCommand::Clear(options) => {
            let both = options.names == options.space;
            let clear = |wanted| if both || wanted { Quota::Clear } else { Quota::Keep };
            set(context, &options.paths, clear(options.names), clear(options.space)).await
        }
    }
}

async fn set(context: &Context, paths: &[String], names: Quota, space: Quota) -> Outcome {
    each_together(context, paths, false, async |path| {
        context.client.set_quota(path, names, space).await?;
        if context.output.is_json() { print(context, path, false).await } else { Ok(()) }
    })
    .await
}

async fn print(context: &Context, path: &str, human: bool) -> Outcome {
    let summary = context.client.content_summary(path).await?;
    if context.output.is_json() {
        return context.output.object(&json!({
            "v": 1, "type": "quota", "path": path, "name_quota": summary.name_quota, "names": summary.names_used,
            "space_quota": summary.space_quota_bytes, "space": summary.space_bytes,
        }));
    }
    let names = of(summary.names_used.to_string(), summary.name_quota.map(|quota| quota.to_string()));
    let space = of(shown(summary.space_bytes, human), summary.space_quota_bytes.map(|quota| shown(quota, human)));
    context.output.line(&format!("{}  names {names}  space {space}", plain(path)))
}

fn of(used: String, quota: Option<String>) -> String {
    match quota {
        Some(quota) => format!("{used} of {quota}"),
        None => format!("{used} (no quota)"),
    }
}
