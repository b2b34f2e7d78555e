//! `lease`: who writes which files, and taking files from writers that are gone.

use clap::{Args, Subcommand};
use client::{LeaseStatus, RecoveredLease};
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::each::each;
use super::failure::Failure;
use super::paths::PATHS_HELP;
use super::text::plain;
use super::text::size::size;
use super::text::table::table;
use super::truncate::until_closed;

/// `lease VERB`.
#[derive(Debug, Args)]
pub(crate) struct LeaseVerb {
    #[command(subcommand)]
    pub(crate) verb: LeaseCommand,
}

/// Verbs below `lease`.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// Show the files that are being written, and by whom
    Ls(LsOptions),
    /// Take files from their writers and close them
    Recover(RecoverOptions),
}

/// Flags of `lease ls`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
STATE is `writing`, `new` for a file that is not visible before it is closed or flushed, or `closing` for one that the
cluster takes from its writer; what that waits for stands behind it. SILENT is how long nothing was heard of the writer:
after a minute others may have the file, after 20 minutes the cluster closes it by itself. SIZE is that of finished
blocks.

{PATHS_HELP}

Examples:
  blockyard lease ls
  blockyard lease ls --json /logs | jq 'select(.silent_ms > 60000)'")
)]
pub(crate) struct LsOptions {
    /// Files, or trees [default: all]
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
}

/// Flags of `lease recover`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
The writer, if there still is one, can change the file no more. The file keeps everything that was flushed, and perhaps
some of what followed; one that was never visible is gone. A file that is closed already stays as it is.

For whom may write the file.

A recovery waits for datanodes that may hold more than those that answer; `lease ls` names them. If they are gone for
good, decommission them (`blockyard node decommission`): then nobody waits for them. --accept-loss, for superusers, says
the same for the datanodes of these files only, and of damaged replicas as well. It may LOSE what was flushed, for ever:
the file is closed with the best of what is left, after half a minute for everybody who does answer. A block of which
nothing is left goes; one that readers have seen before stays, and is missing. Nodes that come back later bring nothing
of it back.

{PATHS_HELP}

Examples:
  blockyard lease recover /logs/today
  blockyard lease recover --accept-loss /logs/today    what does not answer is lost")
)]
pub(crate) struct RecoverOptions {
    /// Files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Do not wait until they are closed
    #[arg(long)]
    no_wait: bool,
    /// Give up what may be on datanodes that do not answer: flushed bytes may be LOST
    #[arg(long)]
    accept_loss: bool,
}

/// Runs `lease VERB`.
pub(crate) async fn run(verb: &LeaseCommand, context: &Context) -> Outcome {
    match verb {
        LeaseCommand::Ls(options) if options.paths.is_empty() => ls(context, "").await,
        LeaseCommand::Ls(options) => each(context, &options.paths, async |path| ls(context, path).await).await,
        LeaseCommand::Recover(options) => {
            each(context, &options.paths, async |path| recover(options, context, path).await).await
        }
    }
}

async fn ls(context: &Context, path: &str) -> Outcome {
    let (mut rows, mut after) = (Vec::new(), 0);
    loop {
        let (leases, more) = context.client.list_leases(path, after, 0).await?;
        for lease in &leases {
            match context.output.is_json() {
                true => context.output.object(&object(lease))?,
                false => rows.push(row(lease)),
            }
        }
        match leases.last() {
            Some(last) if more && last.inode > after => after = last.inode,
            _ => break,
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let head = ["PATH", "STATE", "SILENT", "SIZE", "OWNER", "HOLDER"].map(str::to_owned).to_vec();
    context.output.block(&table(&[vec![head], rows].concat(), &[2, 3]))
}

fn row(lease: &LeaseStatus) -> Vec<String> {
    let holder = if lease.holder.is_empty() { "-".to_owned() } else { lease.holder.chars().take(12).collect() };
    let path = plain(&lease.path).into_owned();
    vec![path, state(lease), seconds(lease.silent_ms), size(lease.len_bytes), plain(&lease.owner).into_owned(), holder]
}

fn state(lease: &LeaseStatus) -> String {
    match (lease.recovering, lease.published) {
        (true, _) if lease.waits_for.is_empty() => "closing".to_owned(),
        (true, _) => format!("closing: {}", plain(&lease.waits_for)),
        (false, true) => "writing".to_owned(),
        (false, false) => "new".to_owned(),
    }
}

fn seconds(ms: u64) -> String {
    format!("{} s", ms / 1000)
}

fn object(lease: &LeaseStatus) -> serde_json::Value {
    json!({
        "v": 1, "type": "lease", "path": lease.path, "inode": lease.inode, "owner": lease.owner,
        "holder": lease.holder, "silent_ms": lease.silent_ms, "published": lease.published,
        "recovering": lease.recovering, "waits_for": lease.waits_for, "size": lease.len_bytes,
    })
}

async fn recover(options: &RecoverOptions, context: &Context, path: &str) -> Result<(), Failure> {
    let RecoveredLease { mut status, mut closed } = if options.accept_loss {
        let text = "what datanodes that do not answer hold of it is given up, also what was flushed";
        context.output.note(&format!("{}: {text}", plain(path)));
        context.client.recover_lease_accepting_loss(path).await?
    } else {
        context.client.recover_lease(path).await?
    };
    if !closed && !options.no_wait {
        status = Some(until_closed(context, path, "its datanodes agree on what they have").await?);
        closed = true;
    }
    if context.output.is_json() {
        let len_bytes = status.map(|status| status.len_bytes);
        let object = json!({"v": 1, "type": "lease-recover", "path": path, "closed": closed, "size": len_bytes});
        return context.output.object(&object);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_says_what_it_waits_for() {
        let lease = LeaseStatus { path: "/x".into(), published: true, silent_ms: 61_900, ..LeaseStatus::default() };
        assert_eq!(row(&lease), ["/x", "writing", "61 s", "0 B", "", "-"]);
        assert_eq!(state(&LeaseStatus { published: false, ..lease.clone() }), "new");
        let waits_for = "2 datanodes".to_owned();
        let closing = LeaseStatus { recovering: true, waits_for, ..lease };
        assert_eq!(state(&closing), "closing: 2 datanodes");
        assert_eq!(object(&closing)["silent_ms"], 61_900);
    }
}
