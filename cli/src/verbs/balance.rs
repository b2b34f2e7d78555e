//! `balance`: begins a job of the namenode's.

use clap::Args;
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::jobs;
use super::text::size::parse_positive;

/// Flags of `balance`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The namenode moves blocks from fuller datanodes to emptier ones until each is within --threshold percent of the mean:
a copy is made and checked, and only then is the old one removed, so no block has a copy or a rack less than before at
any moment. Blocks that lack copies go first. The job ends when the namenode that leads changes: begin it again then.

Examples:
  blockyard balance --threshold 5 --rate 100MB --wait
  blockyard jobs ls
  blockyard jobs cancel balance-1-1")]
pub(crate) struct BalanceOptions {
    /// Percent of its size by which a datanode may be fuller or emptier than the mean
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100), default_value = "10")]
    threshold: u32,
    /// Bytes a second that are moved at most, such as 50MB [default: what the datanodes allow]
    #[arg(long, value_name = "SIZE", value_parser = parse_positive)]
    rate: Option<u64>,
    /// Stay until it is over
    #[arg(short, long)]
    wait: bool,
}

/// Runs `balance`.
pub(crate) async fn run(options: &BalanceOptions, context: &Context) -> Outcome {
    let job = context.client.balance(options.threshold, options.rate.unwrap_or(0)).await?;
    if context.output.is_json() {
        context.output.object(&json!({"v": 1, "type": "job-begun", "job": job}))?;
    } else {
        context.output.line(&format!("job {job}"))?;
    }
    if options.wait { jobs::watch(context, &job, true).await } else { Ok(()) }
}
