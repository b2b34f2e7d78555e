//! The end of a run: all faults are lifted, the cluster becomes whole, every byte is compared, the check is clean.

use std::time::Duration;

use base::task::JoinSet;
use client::{Client, ClusterStatusResponse, LocalReads};
use tokio::sync::Mutex;

use super::child;
use super::cluster::{self, Cluster};
use super::faults::KILLED;
use super::model::State;
use super::reading;
use super::replicas;
use super::shared::{Shared, TOP};
use super::worker::Worker;
use crate::verbs::Failure;

/// Longest time until everything is whole: leases run out, recoveries end, copies are made.
const WHOLE: Duration = Duration::from_secs(420);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// So many looks in a row that are good: a change that is just under way does not hide a lack.
const LOOKS: u32 = 8;

/// What came out of the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Finished {
    /// Time until everything was whole; `None`: it did not become so.
    pub(super) whole_after_s: Option<u64>,
    /// What the check said.
    pub(super) fsck: String,
    pub(super) fsck_status: Option<i32>,
}

/// Lets all that is stopped go on, and starts what is dead.
///
/// # Errors
/// If a role does not start.
pub(super) async fn lift(shared: &Shared, cluster: &Mutex<Cluster>) -> Result<(), Failure> {
    let mut cluster = cluster.lock().await;
    let known = cluster.known();
    for one in known.iter().filter(|one| one.stopped) {
        cluster.hold(&one.name, false)?;
    }
    for name in cluster.names() {
        if !known.iter().any(|one| one.name == name) {
            let page = cluster.start_role(&name).await?;
            cluster::ready(&name, page).await?;
        }
    }
    drop(known);
    tracing::info!(operations = shared.so_far().0, "all faults are lifted");
    Ok(())
}

/// Waits, verifies, checks.
///
/// # Errors
/// If the check cannot be run.
pub(super) async fn finish(
    shared: &std::sync::Arc<Shared>,
    workers: Vec<Worker>,
    datanodes: u16,
    user: &str,
) -> Result<Finished, Failure> {
    let client = shared.client(LocalReads::Off)?;
    let whole_after_s = until_whole(shared, &client, datanodes).await;
    let mut verifying = JoinSet::new();
    for mut worker in workers {
        let shared = std::sync::Arc::clone(shared);
        verifying.spawn(async move {
            let done = match worker.settle_all().await {
                Ok(()) => worker.verify_all().await,
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                shared.found("unreadable", TOP, error.to_string());
            }
        });
    }
    while let Some(ended) = verifying.join_next().await {
        if let Err(panic) = ended {
            shared.found("unreadable", TOP, panic.to_string());
        }
    }
    what_killed_clients_left(shared, &client).await;
    let (fsck_status, fsck) = child::run(shared.fs(), user, &["fsck", "--full", "--rate", "4G", "/"]).await?;
    if fsck_status != Some(0) {
        shared.found("fsck", "/", format!("ended with {fsck_status:?}: {}", fsck.trim()));
    }
    Ok(Finished { whole_after_s, fsck, fsck_status })
}

/// What is not as it should be.
fn lack(status: &ClusterStatusResponse, datanodes: u16) -> Option<String> {
    let lacks = [
        (u64::from(status.safe_mode), "safe mode"),
        (u64::from(datanodes).saturating_sub(status.live_nodes), "datanodes are not live"),
        (status.under_replicated, "blocks have too few copies"),
        (status.missing, "blocks are missing"),
        (status.corrupt, "blocks have damaged copies"),
        (status.pending_copy, "copies are under way"),
        (status.open_files, "files are open"),
    ];
    let lacks = lacks.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let lacks: Vec<String> = lacks.collect();
    (!lacks.is_empty()).then(|| lacks.join(", "))
}

async fn until_whole(shared: &Shared, client: &Client, datanodes: u16) -> Option<u64> {
    let from = shared.clock.now();
    let (mut good, mut last) = (0, String::new());
    while shared.clock.now().since(from) < WHOLE {
        match client.status().await.map(|status| lack(&status, datanodes)) {
            Ok(None) => good += 1,
            Ok(Some(lack)) => (good, last) = (0, lack),
            Err(error) => (good, last) = (0, error.to_string()),
        }
        if good >= LOOKS {
            return Some(shared.clock.now().since(from).as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
    shared.found("not whole", "/", format!("after {} s: {last}", WHOLE.as_secs()));
    None
}

/// Every replica of a file that was just read is what the reader saw.
pub(super) async fn every_replica(shared: &Shared, client: &Client, path: &str, state: &State) {
    let State::File { content, .. } = state else { return };
    if let Err(error) = replicas::compare(shared, client, path, content).await {
        shared.found("unreadable", path, error.to_string());
    }
}

/// Of a client that was killed there is at least what it flushed, and nothing if it never did.
async fn what_killed_clients_left(shared: &Shared, client: &Client) {
    let path = format!("{TOP}/{KILLED}");
    let Some(book) = shared.books.last() else { return };
    let listed = async { client.list(&path)?.collect().await };
    let names: Vec<String> = match listed.await {
        Ok(entries) => entries.into_iter().map(|entry| entry.path).collect(),
        Err(error) => return shared.found("unreadable", &path, error.to_string()),
    };
    let wrong = book.lock().judge_listing(&names);
    if let Some(text) = wrong {
        shared.found("half", &path, text);
    }
    let known = book.lock().names();
    for name in known {
        let (place, (_, allowed)) = (format!("{path}/{name}"), book.lock().allowed(&name));
        match reading::judge(shared, client, &place, allowed).await {
            Ok(Ok(state)) => every_replica(shared, client, &place, &state).await,
            Ok(Err(wrong)) => shared.found_wrong(&place, &wrong),
            Err(error) => shared.found("unreadable", &place, error.to_string()),
        }
    }
}
