//! `node`: the datanodes, and which of them are in service.

use std::time::Duration;

use base::config::HumanDuration;
use clap::{Args, Subcommand};
use client::NodeService;
use serde_json::json;

use super::Outcome;
use super::cluster;
use super::context::Context;
use super::failure::Failure;
use super::jobs;

/// `node VERB`.
#[derive(Debug, Args)]
pub(crate) struct NodeVerb {
    #[command(subcommand)]
    pub(crate) verb: NodeCommand,
}

/// Verbs below `node`.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// The datanodes, with their state, service and room
    Ls,
    /// Empty datanodes, so that they can go for good; for the superuser
    Decommission(DecommissionOptions),
    /// Take datanodes back into service; for the superuser
    Recommission(RecommissionOptions),
    /// Let datanodes be away for a while without their blocks being copied; for the superuser
    Maintenance(MaintenanceOptions),
}

const NAMES_HELP: &str = "\
A datanode is named by its id, its host, or its HOST:PORT, as `blockyard node ls` shows them.";

/// Flags of `node decommission`.
#[derive(Debug, Args)]
#[command(
    after_help = NAMES_HELP,
    after_long_help = format!("\
Nothing is written to the datanode any more, and its blocks are copied to others; it goes on serving them meanwhile, and
removes nothing. When `blockyard jobs ls` says \"done\", everything it holds has as many copies elsewhere as it should
have, and the datanode can be stopped for good. What is in the way is named there: a file that is being written on it,
or blocks for which there are not enough other datanodes, or no room on them.

Stopping it earlier is like losing it: the cluster copes, with fewer copies for a while.

{NAMES_HELP}

Examples:
  blockyard node decommission 10.0.0.7 --wait
  blockyard jobs watch decommission-<node>
  blockyard node recommission 10.0.0.7           changed your mind")
)]
pub(crate) struct DecommissionOptions {
    /// Datanodes
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Stay until they can be stopped
    #[arg(short, long)]
    wait: bool,
}

/// Flags of `node recommission`.
#[derive(Debug, Args)]
#[command(after_help = NAMES_HELP)]
pub(crate) struct RecommissionOptions {
    /// Datanodes
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
}

/// Flags of `node maintenance`.
#[derive(Debug, Args)]
#[command(
    after_help = NAMES_HELP,
    after_long_help = format!("\
For a restart, a new disk, a kernel: nothing is written to the datanode, and only blocks of which no copy is elsewhere
are copied. When `blockyard jobs ls` says \"done\", it can be stopped, and nothing is copied because of it as long as the
maintenance lasts. It ends with --for, or with `blockyard node recommission`; a datanode that is not back then counts as
dead, and its blocks are copied.

While it is away some blocks may have a single copy within reach: another loss in that time may make them unreadable
until the datanode is back.

{NAMES_HELP}

Examples:
  blockyard node maintenance 10.0.0.7 --for 2h --wait
  blockyard node recommission 10.0.0.7")
)]
pub(crate) struct MaintenanceOptions {
    /// Datanodes
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// End by itself after this time, such as 30m or 2h [default: when told so]
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    lasting: Option<Duration>,
    /// Stay until they can be stopped
    #[arg(short, long)]
    wait: bool,
}

fn lasting(text: &str) -> Result<Duration, String> {
    match text.parse::<HumanDuration>() {
        Ok(HumanDuration(time)) if time >= Duration::from_secs(1) => Ok(time),
        Ok(_) => Err("write 1s at least".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs a verb below `node`.
pub(crate) async fn run(verb: &NodeCommand, context: &Context) -> Outcome {
    match verb {
        NodeCommand::Ls => cluster::nodes(context).await,
        NodeCommand::Decommission(options) => {
            set(context, &options.nodes, NodeService::Decommissioned, None, options.wait).await
        }
        NodeCommand::Recommission(options) => set(context, &options.nodes, NodeService::InService, None, false).await,
        NodeCommand::Maintenance(options) => {
            set(context, &options.nodes, NodeService::Maintenance, options.lasting, options.wait).await
        }
    }
}

/// Tells each node its service, then waits for all of them if that is wished.
async fn set(
    context: &Context,
    nodes: &[String],
    service: NodeService,
    lasting: Option<Duration>,
    wait: bool,
) -> Outcome {
    let mut begun = Vec::new();
    for name in nodes {
        match context.client.set_node_state(name, service, lasting).await {
            Ok((node, job)) => {
                context.output.item_done();
                say(context, &node, &job, service)?;
                if !job.is_empty() {
                    begun.push(job);
                }
            }
            Err(error) => context.output.item_failed(&Failure::from(error)),
        }
    }
    if wait {
        for_all(
            &begun,
            async |job: &str| jobs::watch(context, job, true).await,
            |failure| context.output.item_failed(failure),
        )
        .await
    } else {
        Ok(())
    }
}

/// Waits for each job to its end, whatever became of the others, and says of each that failed why: whoever takes the nodes
/// away next must not take one for empty because another was. Only Ctrl-C, or nobody who reads, ends it before.
async fn for_all(jobs: &[String], watch: impl AsyncFn(&str) -> Outcome, failed: impl Fn(&Failure)) -> Outcome {
    for job in jobs {
        match watch(job).await {
            Ok(()) => {}
            Err(failure) if failure.ends_all() => return Err(failure),
            Err(failure) => failed(&failure),
        }
    }
    Ok(())
}

fn say(context: &Context, node: &str, job: &str, service: NodeService) -> Outcome {
    let word = match service {
        NodeService::Decommissioned => "decommissioning",
        NodeService::Maintenance => "entering maintenance",
        NodeService::InService | NodeService::Unspecified => "in service",
    };
    if context.output.is_json() {
        let job = (!job.is_empty()).then_some(job);
        return context
            .output
            .object(&json!({"v": 1, "type": "node-service", "id": node, "service": word, "job": job}));
    }
    context.output.line(&match job {
        "" => format!("{node} {word}"),
        job => format!("{node} {word}, job {job}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Status;
    use client::{ErrorCode, FsError};
    use std::cell::Cell;

    #[tokio::test]
    async fn every_job_is_waited_for_whatever_became_of_those_before() {
        let (watched, failed) = (Cell::new(0), Cell::new(0));
        let jobs = ["cancelled-1", "done-2", "gone-3", "done-4"].map(str::to_owned);
        let watch = async |job: &str| {
            watched.set(watched.get() + 1);
            if job.starts_with("done") { Ok(()) } else { Err(Failure::from(FsError::new(ErrorCode::NotFound, "over"))) }
        };
        for_all(&jobs, watch, |_| failed.set(failed.get() + 1)).await.unwrap();
        assert_eq!((watched.get(), failed.get()), (4, 2));
        watched.set(0);
        let interrupted = async |_: &str| {
            watched.set(watched.get() + 1);
            Outcome::Err(Failure::interrupted("they go on"))
        };
        let ended = for_all(&jobs, interrupted, |_| failed.set(9)).await.unwrap_err();
        assert_eq!((ended.status(), watched.get(), failed.get()), (Status::INTERRUPTED, 1, 2));
    }

    #[test]
    fn a_maintenance_lasts_a_second_at_least() {
        assert_eq!(lasting("2h"), Ok(Duration::from_secs(7200)));
        assert!(lasting("10ms").is_err() && lasting("soon").is_err());
    }
}
