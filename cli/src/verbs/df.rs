//! `df`: the room of the whole cluster.

use clap::{ArgAction, Args};
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::text::size::shown;
use super::text::table::table;

/// Flags of `df`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "Counts bytes on disks: a file of 1 GiB with three copies takes 3 GiB of them. `blockyard node ls` has it for each node."
)]
pub(crate) struct DfOptions {
    /// Sizes as 1.2 GiB
    #[arg(short = 'h', long = "human-readable")]
    human: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Runs `df`.
pub(crate) async fn run(options: &DfOptions, context: &Context) -> Outcome {
    let status = context.client.status().await?;
    let percent = percent(status.used_bytes, status.capacity_bytes);
    if context.output.is_json() {
        return context.output.object(&json!({
            "v": 1, "type": "df", "fs": context.fs(), "capacity": status.capacity_bytes, "used": status.used_bytes,
            "available": status.available_bytes, "percent": percent,
        }));
    }
    let head = ["filesystem", "size", "used", "available", "use"].map(str::to_owned).to_vec();
    let row = vec![
        context.fs().to_owned(),
        shown(status.capacity_bytes, options.human),
        shown(status.used_bytes, options.human),
        shown(status.available_bytes, options.human),
        format!("{percent}%"),
    ];
    context.output.block(&table(&[head, row], &[1, 2, 3, 4]))
}

/// Whole percents, rounded up: something used is never 0 %.
fn percent(used: u64, capacity: u64) -> u64 {
    let percent = u128::from(used).saturating_mul(100).div_ceil(u128::from(capacity.max(1)));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_round_up() {
        assert_eq!([percent(0, 10), percent(1, 1000), percent(5, 10), percent(0, 0)], [0, 1, 50, 0]);
    }
}
