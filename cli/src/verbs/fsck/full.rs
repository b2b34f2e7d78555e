//! `fsck --full`: every replica of every block of a tree is read whole by its datanode.
//!
//! ```text
//!   walk ─▶ open each file ─▶ its blocks' replicas ─▶ one at a time for each node, at the rate that was asked for
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use base::task::JoinSet;
use client::{ErrorCode, FileKind, FsResult, LocatedBlock, ReplicaCheck, StorageLocation, digest_of};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::verbs::Outcome;
use crate::verbs::context::Context;
use crate::verbs::failure::Failure;
use crate::verbs::paths::walk::{Found, Walk};
use crate::verbs::text::plain;

/// Replicas that are read, or wait for their node, at a time.
const IN_FLIGHT: usize = 32;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Full {
    /// Replicas that were read whole, and their bytes.
    pub(super) replicas: u64,
    pub(super) bytes: u64,
    /// Of them, those that are not what they should be.
    pub(super) damaged: u64,
    /// Replicas that their nodes could not be asked about.
    pub(super) unread: u64,
    /// Blocks that the namespace has no digest of.
    pub(super) without_digest: u64,
}

/// A replica that was asked about.
#[derive(Debug)]
struct Finding {
    path: String,
    block: i64,
    replica: StorageLocation,
    found: FsResult<ReplicaCheck>,
}

struct Reading<'a> {
    context: &'a Context,
    rate_bytes_per_s: u64,
    asked: JoinSet<Finding>,
    /// Whose turn it is at each node: the rate is a node's, not a replica's.
    turns: BTreeMap<String, Arc<Semaphore>>,
    full: Full,
}

/// Has everything at and below a path read. Damaged replicas are told as they are found.
pub(super) async fn read(context: &Context, path: &str, rate_bytes_per_s: u64) -> Result<Full, Failure> {
    let (asked, turns, full) = (JoinSet::new(), BTreeMap::new(), Full::default());
    let mut reading = Reading { context, rate_bytes_per_s, asked, turns, full };
    let status = context.client.stat(path).await?;
    let top = Found { path: path.to_owned(), depth: 0, status };
    let mut walk = Walk::below(&context.client, &top);
    reading.entry(&top).await?;
    while let Some(found) = walk.next().await {
        match found {
            Ok(found) => reading.entry(&found).await?,
            // A directory that was removed since it was listed.
            Err(failure) if failure.code() == ErrorCode::NotFound => {}
            Err(failure) => context.output.item_failed(&failure),
        }
    }
    while !reading.asked.is_empty() {
        reading.take().await?;
    }
    Ok(reading.full)
}

impl Reading<'_> {
    async fn entry(&mut self, found: &Found) -> Outcome {
        if found.status.kind() != FileKind::File {
            return Ok(());
        }
        let reader = match self.context.client.open(&found.path).await {
            Ok(reader) => reader,
            // Removed since it was listed.
            Err(error) if error.code == ErrorCode::NotFound => return Ok(()),
            Err(error) => {
                self.context.output.item_failed(&Failure::from(error).at(&found.path));
                return Ok(());
            }
        };
        for block in reader.blocks() {
            // The last block of a file that is being written has no length yet.
            if block.block.as_ref().is_none_or(|named| named.len_bytes == 0) {
                continue;
            }
            self.full.without_digest += u64::from(digest_of(block).is_none());
            for replica in &block.locations {
                while self.asked.len() >= IN_FLIGHT {
                    self.take().await?;
                }
                self.ask(&found.path, block, replica);
            }
        }
        Ok(())
    }

    fn ask(&mut self, path: &str, block: &LocatedBlock, replica: &StorageLocation) {
        let turn = self.turns.entry(replica.node.clone()).or_insert_with(|| Arc::new(Semaphore::new(1)));
        let (client, turn, rate) = (self.context.client.clone(), Arc::clone(turn), self.rate_bytes_per_s);
        let (path, block, replica) = (path.to_owned(), block.clone(), replica.clone());
        self.asked.spawn(async move {
            let held = turn.acquire_owned().await;
            let found = client.verify_replica(&block, &replica, rate).await;
            drop(held);
            Finding { path, block: block.block.map_or(0, |named| named.id), replica, found }
        });
    }

    /// Takes the next finding.
    async fn take(&mut self) -> Outcome {
        let Some(finding) = self.asked.join_next().await else { return Ok(()) };
        let finding = finding.map_err(|panic| Failure::server(format!("a question to a datanode failed: {panic}")))?;
        match &finding.found {
            Ok(check) => {
                self.full.replicas += 1;
                self.full.bytes += check.len_bytes;
                match &check.damage {
                    Some(damage) => {
                        self.full.damaged += 1;
                        tell(self.context, &finding, damage)
                    }
                    None => Ok(()),
                }
            }
            Err(error) => {
                self.full.unread += 1;
                let failure = Failure::from(error.clone()).at(&finding.path);
                self.context.output.item_failed(&failure);
                Ok(())
            }
        }
    }
}

fn tell(context: &Context, finding: &Finding, damage: &str) -> Outcome {
    let Finding { path, block, replica, .. } = finding;
    if context.output.is_json() {
        return context.output.object(&json!({
            "v": 1, "type": "fsck-replica", "path": path, "block": block, "node": replica.node,
            "storage": replica.storage, "address": address(replica), "damage": damage,
        }));
    }
    context.output.line(&line(path, *block, replica, damage))
}

fn line(path: &str, block: i64, replica: &StorageLocation, damage: &str) -> String {
    let at = address(replica);
    format!("DAMAGED     {}  replica of blk_{block} on {at} (node {}): {damage}", plain(path), replica.node)
}

fn address(replica: &StorageLocation) -> String {
    format!("{}:{}", replica.host, replica.transfer_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_replica_is_named_by_path_block_and_node() {
        let replica = StorageLocation {
            node: "n-1".into(),
            host: "dn".into(),
            transfer_port: 9866,
            ..StorageLocation::default()
        };
        let text = line("/a", 1_073_741_825, &replica, "the data are short");
        assert_eq!(text, "DAMAGED     /a  replica of blk_1073741825 on dn:9866 (node n-1): the data are short");
    }
}
