//! A datanode without disks: it says what a real one would say of as many replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use base::task::CancellationToken;
use namenode::blocks::{BlockManager, Names, StorageIndex};
use proto::cluster::cluster_client::ClusterClient;
use proto::cluster::node_command::Kind;
use proto::cluster::{
    Bucket, HeartbeatRequest, IncrementalReportRequest, RegisterRequest, ReplicaRecord, ReplicaState,
    ReportBucketsRequest, ReportHashesRequest, StorageReport,
};
use proto::ids::{BlockId, GenerationStamp};
use proto::report::{BUCKETS, replica_hash};
use tonic::transport::Channel;

use super::super::Outcome;

/// Buckets of one call, as a datanode sends them.
const BUCKETS_AT_ONCE: usize = 32;
const INCARNATION: u64 = 7;

/// Who it is and what it holds.
pub(super) struct FakeNode {
    pub(super) node: String,
    pub(super) storage: String,
    pub(super) rack: String,
    sequence: u64,
    buckets: Vec<Vec<ReplicaRecord>>,
}

impl FakeNode {
    /// One without replicas.
    pub(super) fn new(node: &str, storage: &str, rack: &str) -> Self {
        let buckets = vec![Vec::new(); BUCKETS];
        Self { node: node.to_owned(), storage: storage.to_owned(), rack: rack.to_owned(), sequence: 0, buckets }
    }
    /// Holds what the block map says of this storage.
    pub(super) fn hold_all_of(&mut self, storage: StorageIndex, blocks: &BlockManager, names: &dyn Names) {
        let every = (0..BUCKETS as u32).collect();
        for block in blocks.replicas().in_buckets(storage, &every) {
            self.hold(block, names);
        }
    }
    /// Holds a replica of this block.
    pub(super) fn hold(&mut self, block: BlockId, names: &dyn Names) {
        if let (Some(facts), Some(bucket)) = (names.facts(block), self.buckets.get_mut(block.bucket() as usize)) {
            bucket.push(ReplicaRecord {
                id: block.raw(),
                stamp: facts.stamp.raw(),
                len_bytes: facts.len_bytes,
                state: ReplicaState::Finalized.into(),
                ..ReplicaRecord::default()
            });
        }
    }
    fn replicas(&self) -> u64 {
        self.buckets.iter().map(Vec::len).sum::<usize>() as u64
    }
    fn storage_report(&self) -> StorageReport {
        StorageReport {
            storage: self.storage.clone(),
            media: "DISK".into(),
            capacity_bytes: 1 << 50,
            available_bytes: 1 << 50,
            incarnation: INCARNATION,
            sequence: self.sequence,
            ..StorageReport::default()
        }
    }

    /// Registers and reports everything. The number of replicas.
    pub(super) async fn join(&mut self, stub: &mut ClusterClient<Channel>, cluster: &str) -> Outcome<u64> {
        let request = RegisterRequest {
            protocol_version: proto::PROTOCOL_VERSION,
            cluster: cluster.to_owned(),
            node: self.node.clone(),
            host: "127.0.0.1".into(),
            transfer_port: 9,
            rack: self.rack.clone(),
            storages: vec![self.storage_report()],
            ..RegisterRequest::default()
        };
        stub.register(request).await.map_err(|status| format!("a node cannot register: {status}"))?;
        self.report(stub).await?;
        Ok(self.replicas())
    }

    /// A full report: hashes, then the buckets that differ.
    async fn report(&self, stub: &mut ClusterClient<Channel>) -> Outcome<()> {
        let failed = |status: tonic::Status| format!("a full report failed: {status}");
        let hash = |record: &ReplicaRecord| {
            replica_hash(BlockId::from_raw(record.id), GenerationStamp::from_raw(record.stamp), record.len_bytes)
        };
        let of_bucket = |bucket: &Vec<ReplicaRecord>| bucket.iter().map(hash).fold(0, u64::wrapping_add);
        let request = ReportHashesRequest {
            node: self.node.clone(),
            storage: self.storage.clone(),
            incarnation: INCARNATION,
            sequence: self.sequence,
            hashes: self.buckets.iter().map(of_bucket).collect(),
            replicas: self.replicas(),
        };
        let answer = stub.report_hashes(request).await.map_err(failed)?.into_inner();
        let parts: Vec<&[u32]> = answer.differing.chunks(BUCKETS_AT_ONCE).collect();
        for (number, part) in parts.iter().enumerate() {
            let bucket = |bucket: &u32| Bucket {
                bucket: *bucket,
                replicas: self.buckets.get(*bucket as usize).cloned().unwrap_or_default(),
            };
            let request = ReportBucketsRequest {
                node: self.node.clone(),
                storage: self.storage.clone(),
                incarnation: INCARNATION,
                sequence: self.sequence,
                report: answer.report,
                buckets: part.iter().map(bucket).collect(),
                last: number + 1 == parts.len(),
            };
            let taken = stub.report_buckets(request).await.map_err(failed)?.into_inner();
            if taken.reregister || taken.restart {
                return Err("a full report was not taken".to_owned());
            }
        }
        Ok(())
    }

    /// Heartbeats until it is told to stop; deletes what it is told to delete.
    pub(super) async fn live(
        mut self,
        mut stub: ClusterClient<Channel>,
        every: Duration,
        stop: CancellationToken,
    ) -> Outcome<()> {
        let mut ticks = tokio::time::interval(every);
        let mut highest_term = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _at = ticks.tick() => {}
            }
            let request = HeartbeatRequest {
                node: self.node.clone(),
                storages: vec![self.storage_report()],
                highest_term,
                ..HeartbeatRequest::default()
            };
            let answer = stub.heartbeat(request).await.map_err(|status| format!("a heartbeat failed: {status}"))?;
            let answer = answer.into_inner();
            if answer.leader {
                highest_term = highest_term.max(answer.term);
            }
            let mut gone = Vec::new();
            for command in answer.commands {
                if let Some(Kind::Delete(delete)) = command.kind {
                    gone.extend(delete.blocks.iter().map(|block| block.id));
                }
            }
            self.delete(&mut stub, &gone).await?;
        }
    }

    async fn delete(&mut self, stub: &mut ClusterClient<Channel>, gone: &[i64]) -> Outcome<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut by_bucket: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
        for id in gone {
            by_bucket.entry(BlockId::from_raw(*id).bucket()).or_default().push(*id);
        }
        for (bucket, ids) in by_bucket {
            if let Some(bucket) = self.buckets.get_mut(bucket as usize) {
                bucket.retain(|record| !ids.contains(&record.id));
            }
        }
        let record =
            |id: &i64| ReplicaRecord { id: *id, state: ReplicaState::Deleted.into(), ..ReplicaRecord::default() };
        let request = IncrementalReportRequest {
            node: self.node.clone(),
            storage: self.storage.clone(),
            incarnation: INCARNATION,
            first_sequence: self.sequence + 1,
            changes: gone.iter().map(record).collect(),
        };
        self.sequence += gone.len() as u64;
        stub.incremental_report(request).await.map_err(|status| format!("changes were not taken: {status}"))?;
        Ok(())
    }
}
