//! The datanode's figures for `/metrics`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::metrics::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Unit;
use proto::ids::StorageId;

use crate::node::Node;
use crate::store::VolumeState;

/// An operation, by name and outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
    outcome: &'static str,
}

/// What the transfer server and the agent count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    operations: Family<Operation, Counter>,
    /// Data bytes received and stored.
    pub(crate) received_bytes: Counter,
    /// Data bytes sent to readers and to other nodes.
    pub(crate) sent_bytes: Counter,
    /// Open data connections.
    pub(crate) connections: Gauge,
    /// Data connections closed as they came, because there were too many.
    pub(crate) turned_away: Counter,
    /// Bytes that scrubbers read.
    pub(crate) scrub_bytes: Counter,
    /// Replicas that scrubbers read to their end.
    pub(crate) scrub_replicas: Counter,
    /// Replicas that scrubbers found damaged.
    pub(crate) scrub_errors: Counter,
    scrub_oldest: Family<Storage, Gauge>,
    /// Pieces of work of background tasks that panicked.
    pub(crate) panics: Counter,
    /// Open local connections.
    pub(crate) local_connections: Gauge,
    copied_bytes: Family<Reason, Counter>,
    copy_wait: Counter<f64, AtomicU64>,
    copies: Gauge,
    copies_most: Gauge,
}

/// Why a block is copied to another node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// A disk of this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Storage {
    storage: String,
}

/// A disk of this node in a state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    storage: String,
    state: &'static str,
}

impl Figures {
    /// Registers everything, with a collector over the node.
    #[must_use]
    pub(crate) fn new(metrics: &Metrics, node: &Arc<Node>) -> Self {
        let new = Self::default();
        metrics.register(|registry| {
            registry.register("blockyard_datanode_operations", "Operations ended", new.operations.clone());
            let (name, help) = ("blockyard_datanode_received_bytes", "Data bytes received and stored");
            registry.register(name, help, new.received_bytes.clone());
            let (name, help) = ("blockyard_datanode_sent_bytes", "Data bytes sent");
            registry.register(name, help, new.sent_bytes.clone());
            let (name, help) = ("blockyard_datanode_connections", "Open data connections");
            registry.register(name, help, new.connections.clone());
            let (name, help) = ("blockyard_datanode_connections_turned_away", "Connections beyond the limit");
            registry.register(name, help, new.turned_away.clone());
            let (name, help) = ("blockyard_scrub_bytes", "Bytes read by scrubbers");
            registry.register(name, help, new.scrub_bytes.clone());
            let (name, help) = ("blockyard_scrub_replicas", "Replicas read to their end by scrubbers");
            registry.register(name, help, new.scrub_replicas.clone());
            let (name, help) = ("blockyard_scrub_errors", "Replicas found damaged by scrubbers");
            registry.register(name, help, new.scrub_errors.clone());
            let (name, help) = ("blockyard_scrub_oldest_seconds", "No replica of the disk was unread for longer");
            registry.register(name, help, new.scrub_oldest.clone());
            let (name, help) = ("blockyard_background_panics", "Work of background tasks that panicked");
            registry.register(name, help, new.panics.clone());
            let (name, help) = ("blockyard_datanode_local_connections", "Open connections of the local door");
            registry.register(name, help, new.local_connections.clone());
            let (name, help) = ("blockyard_replication_bytes", "Data bytes sent to nodes for blocks that lack copies");
            registry.register(name, help, new.copied_bytes.clone());
            let help = "Time that copies waited for the rate of copies";
            registry.register_with_unit("blockyard_replication_wait", help, Unit::Seconds, new.copy_wait.clone());
            registry.register("blockyard_datanode_copies", "Copies to other nodes under way", new.copies.clone());
            let (name, help) = ("blockyard_datanode_copies_most", "Copies at a time since the start, at most");
            registry.register(name, help, new.copies_most.clone());
            registry.register_collector(Box::new(State { node: Arc::clone(node) }));
        });
        new
    }

    /// How long ago the replica that was read longest ago was read.
    pub(crate) fn scrub_oldest(&self, storage: &StorageId, age_s: u64) {
        let label = Storage { storage: storage.to_string() };
        self.scrub_oldest.get_or_create(&label).set(i64::try_from(age_s).unwrap_or(i64::MAX));
    }
    /// A copy to another node begins.
    pub(crate) fn copy_begins(&self) {
        let now = self.copies.inc() + 1;
        self.copies_most.inner().fetch_max(now, Ordering::Relaxed);
    }
    /// A copy to another node ended.
    pub(crate) fn copy_ends(&self, good: bool) {
        self.copies.dec();
        self.ended("copy", good);
    }
    /// A packet of a copy was sent.
    pub(crate) fn copied(&self, len_bytes: u64, urgent: bool) {
        let reason = if urgent { "endangered" } else { "lacking" };
        self.sent_bytes.inc_by(len_bytes);
        self.copied_bytes.get_or_create(&Reason { reason }).inc_by(len_bytes);
    }
    /// A copy waits for the rate of copies.
    pub(crate) fn copy_waited(&self, wait: Duration) {
        self.copy_wait.inc_by(wait.as_secs_f64());
    }
    /// An operation ended.
    pub(crate) fn ended(&self, operation: &'static str, good: bool) {
        let outcome = if good { "ok" } else { "failed" };
        self.operations.get_or_create(&Operation { operation, outcome }).inc();
    }
}

/// The store, looked at when someone asks. No disk call.
#[derive(Debug)]
struct State {
    node: Arc<Node>,
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let counts = self.node.store().counts();
        let reports = self.node.store().reports();
        let working = || reports.iter().filter(|report| !report.failed);
        let values = [
            ("blockyard_datanode_blocks", "Replicas that are whole", counts.finalized),
            ("blockyard_datanode_used_bytes", "Bytes of replicas", counts.used_bytes),
            ("blockyard_datanode_reserved_bytes", "Bytes set aside for writers", counts.reserved_bytes),
            ("blockyard_datanode_volumes_working", "Volumes in service", counts.volumes_working),
            ("blockyard_datanode_volumes_failed", "Volumes taken out", counts.volumes_failed),
            ("blockyard_datanode_capacity_bytes", "Size of the disks", working().map(|r| r.capacity_bytes).sum()),
            ("blockyard_datanode_free_bytes", "Bytes that blocks may take", working().map(|r| r.available_bytes).sum()),
            (
                "blockyard_datanode_loans",
                "Replicas whose descriptors are lent",
                self.node.store().loans().lent() as u64,
            ),
            ("blockyard_datanode_highest_term", "Highest term of a leader seen", self.node.highest_term().raw()),
        ];
        for (name, help, value) in values {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let (name, help) = ("blockyard_datanode_volume_state", "1 for the state that a volume is in");
        let mut states = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (storage, _, now, _) in self.node.store().health() {
            for state in VolumeState::ALL {
                let label = InState { storage: storage.to_string(), state: state.as_str() };
                ConstGauge::new(u64::from(state == now)).encode(states.encode_family(&label)?)?;
            }
        }
        let (name, help) = ("blockyard_datanode_loans_revoked", "Loans of descriptors called back");
        let revoked = ConstCounter::new(self.node.store().loans().revoked());
        revoked.encode(encoder.encode_descriptor(name, help, None, revoked.metric_type())?)?;
        Ok(())
    }
}
