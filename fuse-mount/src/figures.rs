//! What a mount counts, for its operations page.

use std::sync::{Arc, Weak};
use std::time::Duration;

use base::metrics::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use crate::core::Core;
use crate::errno::Errno;

/// Borders of the times that are told apart, in seconds: from what the kernel's pages take to a deadline.
const BORDERS_S: [f64; 9] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1, 1.0, 5.0, 30.0];

/// A kind of request of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    request: &'static str,
}

/// An answer that was an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    request: &'static str,
    errno: i32,
}

/// Counters of one mount.
#[derive(Debug)]
pub(crate) struct Figures {
    requests: Family<Request, Histogram, fn() -> Histogram>,
    errors: Family<Refusal, Counter>,
    pub(crate) read_bytes: Counter,
    pub(crate) written_bytes: Counter,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            requests: Family::new_with_constructor(|| Histogram::new(BORDERS_S)),
            errors: Family::default(),
            read_bytes: Counter::default(),
            written_bytes: Counter::default(),
        }
    }
}

impl Figures {
    /// A request was answered.
    pub(crate) fn answered(&self, request: &'static str, after: Duration) {
        self.requests.get_or_create(&Request { request }).observe(after.as_secs_f64());
    }
    /// Its answer is an error: counted, and given back.
    pub(crate) fn failed(&self, request: &'static str, errno: Errno) -> Errno {
        self.errors.get_or_create(&Refusal { request, errno: errno.number() }).inc();
        errno
    }

    /// Registers everything, with a collector over what a mount holds.
    pub(crate) fn register(core: &Arc<Core>, metrics: &Metrics) {
        let figures = &core.figures;
        metrics.register(|registry| {
            let (name, help) = ("blockyard_mount_request", "Time until a request of the kernel was answered");
            registry.register_with_unit(name, help, Unit::Seconds, figures.requests.clone());
            registry.register("blockyard_mount_errors", "Answers that were errors", figures.errors.clone());
            let help = "Data bytes that were read by requests: not those of the kernel's pages";
            registry.register("blockyard_mount_read_bytes", help, figures.read_bytes.clone());
            registry.register("blockyard_mount_written_bytes", "Data bytes taken", figures.written_bytes.clone());
            registry.register_collector(Box::new(Held(Arc::downgrade(core))));
        });
    }
}

/// Looked at when asked for.
#[derive(Debug)]
struct Held(Weak<Core>);

impl Collector for Held {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(core) = self.0.upgrade() else { return Ok(()) };
        let (held_bytes, most_bytes) = core.room.figures();
        let gauges = [
            ("blockyard_mount_open_files", "Files that are open", core.files().len() as u64),
            (
                "blockyard_mount_known_names",
                "Files and directories that the kernel remembers",
                core.inodes.lock().len(),
            ),
            ("blockyard_mount_commits", "Changed files that are being committed", core.behind.under_way()),
            ("blockyard_mount_cache_bytes", "Bytes of changed copies in the cache folder", held_bytes),
            ("blockyard_mount_cache_most_bytes", "Most bytes that may be there", most_bytes),
        ];
        for (name, help, value) in gauges {
            let inner = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value as f64).encode(inner)?;
        }
        Ok(())
    }
}
