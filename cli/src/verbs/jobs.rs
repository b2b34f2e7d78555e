//! `jobs`: long work of the cluster, how far it is, and what is in its way.

use std::time::Duration;

use clap::{Args, Subcommand};
use client::{ErrorCode, FsError, JobStatus};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};

use super::Outcome;
use super::context::Context;
use super::failure::Failure;
use super::output::on_terminal;
use super::rate::eta_text;
use super::text::plain;
use super::text::size::size;
use super::text::table::table;
use super::text::time::duration;

/// Time between two looks at a job.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks at an unchanged job between two lines of it, where nobody watches a terminal.
const LINES_EVERY: u32 = 20;
/// Looks for which a job that is blocked must be so before that is told: a leader just elected knows little.
const SURE_AFTER: u32 = 4;

/// `jobs VERB`.
#[derive(Debug, Args)]
pub(crate) struct JobsVerb {
    #[command(subcommand)]
    pub(crate) verb: JobsCommand,
}

/// Verbs below `jobs`.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Every job: datanodes that are emptied, balancing
    Ls,
    /// Look at a job until it ends
    Watch(WatchOptions),
    /// End a job: a datanode that was being emptied is back in service; for the superuser
    Cancel(CancelOptions),
}

/// Flags of `jobs watch`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
It ends when the job does, with status 0 if it is done, and 1 if it was cancelled or is blocked for good. A datanode
that is being emptied and is blocked is waited for: what is in the way is told, and may go.

Examples:
  blockyard jobs watch decommission-<node>
  blockyard jobs watch balance-1-1 --json")]
pub(crate) struct WatchOptions {
    /// Its name, as `jobs ls` shows it
    #[arg(value_name = "JOB")]
    job: String,
}

/// Flags of `jobs cancel`.
#[derive(Debug, Args)]
pub(crate) struct CancelOptions {
    /// Their names, as `jobs ls` shows them
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

/// Runs a verb below `jobs`.
pub(crate) async fn run(verb: &JobsCommand, context: &Context) -> Outcome {
    match verb {
        JobsCommand::Ls => list(context).await,
        JobsCommand::Watch(options) => watch(context, &options.job, false).await,
        JobsCommand::Cancel(options) => cancel(context, &options.jobs).await,
    }
}

async fn list(context: &Context) -> Outcome {
    let jobs = context.client.jobs().await?;
    if context.output.is_json() {
        return jobs.iter().try_for_each(|job| context.output.object(&object(job)));
    }
    if jobs.is_empty() {
        return Ok(());
    }
    let head = ["job", "state", "blocks", "bytes", "rate", "eta", "for"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(jobs.iter().map(row)).collect();
    let blockers: String = jobs.iter().map(blockers).collect();
    context.output.block(&(table(&rows, &[2, 3, 4, 5, 6]) + &blockers))
}

async fn cancel(context: &Context, jobs: &[String]) -> Outcome {
    for job in jobs {
        match context.client.cancel_job(job).await {
            Ok(()) => {
                context.output.item_done();
                if context.output.is_json() {
                    context.output.object(&json!({"v": 1, "type": "job-cancelled", "job": job}))?;
                }
            }
            Err(error) => context.output.item_failed(&Failure::from(error)),
        }
    }
    Ok(())
}

/// Looks at a job until it is over. `begun`: this command began it, so that another leader that does not know it yet, or
/// had it end with the one before, is told apart from a name that is wrong.
pub(crate) async fn watch(context: &Context, name: &str, begun: bool) -> Outcome {
    let bar = (on_terminal() && !context.output.is_json())
        .then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4)));
    let ended = look_on(context, name, begun, bar.as_ref()).await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    ended
}

async fn look_on(context: &Context, name: &str, begun: bool, bar: Option<&ProgressBar>) -> Outcome {
    let (mut told, mut looks, mut blocked) = (String::new(), 0, 0);
    loop {
        let job = match context.client.job(name).await {
            Ok(job) => job,
            Err(error) if begun && error.code == ErrorCode::NotFound => {
                let error =
                    FsError::new(ErrorCode::NotFound, format!("{name} is over: it was cancelled, or its leader went"));
                return Err(Failure::from(error.with_hint("see `blockyard jobs ls`")));
            }
            Err(error) => return Err(error.into()),
        };
        blocked = if job.state == "blocked" { blocked + 1 } else { 0 };
        let line = line(&job);
        let news = line != told;
        match bar {
            Some(bar) => bar.set_message(line.clone()),
            None if context.output.is_json() && (news || looks % LINES_EVERY == 0) => {
                context.output.object(&object(&job))?
            }
            None if blocked == SURE_AFTER => context.output.note(format!("{}\n{}", line, blockers(&job)).trim_end()),
            None => {}
        }
        if let Some(bar) = bar
            && blocked == SURE_AFTER
        {
            bar.suspend(|| context.output.note(format!("{}\n{}", line, blockers(&job)).trim_end()));
        }
        told = line;
        looks += 1;
        if let Some(ended) = ended(&job) {
            if !context.output.is_json() && ended.is_ok() {
                context.output.line(&told)?;
            }
            return ended;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Is it over, and how?
fn ended(job: &JobStatus) -> Option<Outcome> {
    let failed = |why: &str| {
        let error = FsError::new(ErrorCode::Internal, format!("{} {why}", job.job));
        Some(Err(Failure::from(error.with_hint(job.blocked_by.first().cloned().unwrap_or_default()))))
    };
    match job.state.as_str() {
        "done" => Some(Ok(())),
        "cancelled" => failed("was cancelled"),
        // A balance that cannot get further has ended; a datanode may be freed by what others do.
        "blocked" if job.kind == "balance" => failed("cannot get further"),
        _ => None,
    }
}

fn row(job: &JobStatus) -> Vec<String> {
    vec![
        job.job.clone(),
        job.state.clone(),
        format!("{}/{}", job.done_blocks, job.total_blocks),
        format!("{} of {}", size(job.done_bytes), size(job.total_bytes)),
        if job.rate_bytes_per_s == 0 { "-".to_owned() } else { format!("{}/s", size(job.rate_bytes_per_s)) },
        if job.eta_ms == 0 { "-".to_owned() } else { eta_text(Duration::from_millis(job.eta_ms)) },
        duration(job.running_ms),
    ]
}

fn line(job: &JobStatus) -> String {
    let rate = if job.rate_bytes_per_s == 0 { String::new() } else { format!("  {}/s", size(job.rate_bytes_per_s)) };
    let eta = match job.eta_ms {
        0 => String::new(),
        ms => format!("  eta {}", eta_text(Duration::from_millis(ms))),
    };
    let blocked = if job.blocked == 0 { String::new() } else { format!("  {} blocked", job.blocked) };
    let (blocks, bytes) = (format!("{}/{} blocks", job.done_blocks, job.total_blocks), size(job.done_bytes));
    format!("{}  {}  {blocks}  {bytes} of {}{rate}{eta}{blocked}", job.job, job.state, size(job.total_bytes))
}

/// What is in the way, a line each.
fn blockers(job: &JobStatus) -> String {
    let mut text: String = job.blocked_by.iter().map(|why| format!("  {}: {}\n", job.job, plain(why))).collect();
    let more = job.blocked.saturating_sub(job.blocked_by.len() as u64);
    if more > 0 {
        text.push_str(&format!("  {}: and {more} more\n", job.job));
    }
    text
}

fn object(job: &JobStatus) -> Value {
    json!({
        "v": 1, "type": "job", "job": job.job, "kind": job.kind, "state": job.state,
        "node": (!job.subject.is_empty()).then_some(&job.subject),
        "blocks_done": job.done_blocks, "blocks_total": job.total_blocks,
        "bytes_done": job.done_bytes, "bytes_total": job.total_bytes, "rate_bps": job.rate_bytes_per_s,
        "eta_ms": (job.eta_ms > 0).then_some(job.eta_ms), "running_ms": job.running_ms,
        "blocked": job.blocked, "blocked_by": job.blocked_by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: &str) -> JobStatus {
        JobStatus {
            job: "decommission-n1".into(),
            kind: "decommission".into(),
            state: state.into(),
            subject: "n1".into(),
            done_blocks: 3,
            total_blocks: 7,
            done_bytes: 3 << 20,
            total_bytes: 7 << 20,
            rate_bytes_per_s: 1 << 20,
            eta_ms: 4000,
            running_ms: 65_000,
            blocked_by: vec!["block 5 of /x\n: why".into()],
            blocked: 3,
        }
    }

    #[test]
    fn a_job_in_a_line_and_as_an_object() {
        let text = "decommission-n1  running  3/7 blocks  3.0 MiB of 7.0 MiB  1.0 MiB/s  eta 4s  3 blocked";
        assert_eq!(line(&job("running")), text);
        assert_eq!(row(&job("running"))[4..], ["1.0 MiB/s", "4s", "1m05s"]);
        let idle = JobStatus { rate_bytes_per_s: 0, eta_ms: 0, ..job("blocked") };
        assert_eq!(row(&idle)[4..6], ["-", "-"]);
        assert_eq!(object(&idle)["eta_ms"], Value::Null);
        let named = blockers(&idle);
        assert_eq!(named.lines().count(), 2, "a path cannot break the line: {named}");
        assert!(named.ends_with("and 2 more\n"));
    }

    #[test]
    fn a_node_that_is_blocked_is_waited_for_and_a_balance_is_over() {
        assert!(ended(&job("running")).is_none() && ended(&job("blocked")).is_none());
        assert!(ended(&job("done")).is_some_and(|ended| ended.is_ok()));
        let balance = JobStatus { kind: "balance".into(), ..job("blocked") };
        assert!(ended(&balance).is_some_and(|ended| ended.is_err()));
        assert!(ended(&job("cancelled")).is_some_and(|ended| ended.is_err()));
    }
}
