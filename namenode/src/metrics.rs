//! The namenode's figures for `/metrics`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base::metrics::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

use crate::core::Shared;

/// A call, by name and outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: &'static str,
    code: &'static str,
}

/// What the doors and the committer count.
#[derive(Clone, Debug)]
pub struct Figures {
    calls: Family<Call, Counter>,
    seconds: Histogram,
    inflight: Gauge,
    syncs: Histogram,
}

impl Figures {
    /// Registers everything, with a collector over the state.
    #[must_use]
    pub fn new(metrics: &Metrics, shared: &Arc<Shared>) -> Self {
        let new = Self {
            calls: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.000_1, 4.0, 10)),
            inflight: Gauge::default(),
            syncs: Histogram::new(exponential_buckets(0.000_1, 4.0, 10)),
        };
        metrics.register(|registry| {
            registry.register("blockyard_rpc_requests", "Calls answered", new.calls.clone());
            let unit = Unit::Seconds;
            registry.register_with_unit("blockyard_rpc_duration", "Time to answer", unit, new.seconds.clone());
            registry.register("blockyard_rpc_inflight", "Calls in work", new.inflight.clone());
            let help = "Time of one write and sync of the log";
            registry.register_with_unit("blockyard_editlog_sync_duration", help, Unit::Seconds, new.syncs.clone());
            registry.register_collector(Box::new(State { shared: Arc::clone(shared) }));
        });
        new
    }

    /// A call begins.
    pub fn begin(&self) {
        self.inflight.inc();
    }
    /// A call ended.
    pub fn end(&self, method: &'static str, code: &'static str, took: Duration) {
        self.inflight.dec();
        self.calls.get_or_create(&Call { method, code }).inc();
        self.seconds.observe(took.as_secs_f64());
    }
    /// The log was written and synced.
    pub fn synced(&self, took: Duration) {
        self.syncs.observe(took.as_secs_f64());
    }
}

/// The state, looked at when someone asks.
#[derive(Debug)]
struct State {
    shared: Arc<Shared>,
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for (name, help, value) in self.values() {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

impl State {
    fn values(&self) -> [(&'static str, &'static str, u64); 24] {
        self.shared.with((0, 0), |view| {
            let names = view.namespace.counts();
            let blocks = view.blocks.counts();
            let (live, stale, dead) = view.blocks.node_counts();
            let registry = view.blocks.registry();
            let counted = registry.storages().filter(|(index, _)| registry.counts(*index)).map(|(_, storage)| storage);
            let sum = counted.fold((0, 0, 0), |(capacity, used, free), storage| {
                (capacity + storage.capacity_bytes, used + storage.used_bytes, free + storage.available_bytes)
            });
            [
                ("blockyard_namenode_leads", "1 if this member leads", u64::from(view.member.serving)),
                ("blockyard_namenode_safemode", "1 in safe mode", u64::from(view.blocks.safe_mode().is_some())),
                ("blockyard_namenode_files", "Files", names.files),
                ("blockyard_namenode_directories", "Directories", names.directories),
                ("blockyard_namenode_blocks", "Blocks", names.blocks),
                ("blockyard_leases", "Files open for writing", names.open_files),
                ("blockyard_lease_recoveries", "Files that are being recovered", view.blocks.recoveries()),
                ("blockyard_namenode_reclaim_pending", "Unlinked inodes to reclaim", names.reclaim_pending),
                ("blockyard_blocks_under_replicated", "Blocks with too few copies", blocks.under_replicated),
                ("blockyard_blocks_endangered", "Blocks with too few copies, one or none left", blocks.endangered),
                ("blockyard_blocks_judged", "Blocks looked at since the start", view.blocks.judged()),
                ("blockyard_blocks_missing", "Blocks without a live copy", blocks.missing),
                ("blockyard_blocks_corrupt", "Blocks with a damaged copy", blocks.corrupt),
                ("blockyard_blocks_pending_replication", "Copies under way", blocks.pending_copy),
                ("blockyard_blocks_pending_deletion", "Replicas to remove", blocks.pending_delete),
                ("blockyard_delete_alarms", "Pauses of unasked deletes", blocks.delete_alarms),
                ("blockyard_datanodes_live", "Live datanodes", live),
                ("blockyard_datanodes_stale", "Stale datanodes", stale),
                ("blockyard_datanodes_dead", "Dead datanodes", dead),
                ("blockyard_capacity_total_bytes", "Size of all storages", sum.0),
                ("blockyard_capacity_used_bytes", "Bytes of blocks", sum.1),
                ("blockyard_capacity_free_bytes", "Bytes that blocks may still take", sum.2),
                ("blockyard_namenode_applied_index", "Log entries applied", view.namespace.applied().0.raw()),
                ("blockyard_raft_term", "Current term", view.member.term.raw()),
            ]
        })
    }
}
