//! The registry behind `/metrics`: a role's own metrics plus what every process tells of itself.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::clock::{Clock, SystemClock};
use crate::disk::sync_counts;
use crate::moved::{Move, counts};
use crate::process::process_cpu;

/// The metrics of one role. Names begin with `blockyard_`; labels never hold paths.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
}

impl Metrics {
    /// A registry with build information, up-time and the process' own figures.
    #[must_use]
    pub fn new(role: &str) -> Arc<Self> {
        let mut registry = Registry::default();
        let labels = [("role", role.to_owned()), ("version", env!("CARGO_PKG_VERSION").to_owned())];
        registry.register("blockyard_build", "What runs here", Info::new(labels));
        registry.register_collector(Box::new(ProcessFigures { clock: SystemClock::new() }));
        Arc::new(Self { registry: Mutex::new(registry) })
    }

    /// Registers metrics. Do it once, at the start: a registry never forgets.
    pub fn register<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        with(&mut self.registry.lock())
    }

    /// The text of `/metrics`. Collectors run now.
    ///
    /// # Errors
    /// If a collector fails.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }
}

/// Read when asked for, from /proc.
#[derive(Debug)]
struct ProcessFigures {
    clock: SystemClock,
}

impl Collector for ProcessFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let up = self.clock.now().elapsed_from_start().as_secs_f64();
        gauge(&mut encoder, "blockyard_up", "Time since the start", Some(&Unit::Seconds), up)?;
        let status = ProcSelf::read();
        if let Some(bytes) = status.resident_bytes {
            gauge(&mut encoder, "process_resident_memory", "Resident memory", Some(&Unit::Bytes), bytes)?;
        }
        if let Some(threads) = status.threads {
            gauge(&mut encoder, "process_threads", "Threads", None, threads)?;
        }
        if let Some(open) = status.open_descriptors {
            gauge(&mut encoder, "process_open_fds", "Open file descriptors", None, open)?;
        }
        let (name, help) = ("process_cpu", "Processor time, user and system");
        let metric = ConstCounter::new(process_cpu().as_secs_f64());
        metric.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Counter)?)?;
        // Roles that share a process have the same number here: who adds up counts such a process once.
        let pid = f64::from(rustix::process::getpid().as_raw_nonzero().get());
        gauge(&mut encoder, "process_pid", "Number of the process on its host", None, pid)?;
        syncs(&mut encoder)?;
        moved(&mut encoder)
    }
}

/// Bytes moved between this process and the kernel, and the calls for it; of the whole process.
fn moved(encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let counts = counts();
    let (name, help) = ("blockyard_moving_calls", "System calls that moved data");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (what, moved) in Move::ALL.into_iter().zip(counts) {
        ConstCounter::new(moved.calls).encode(family.encode_family(&[("of", what.name())])?)?;
    }
    let (name, help) = ("blockyard_moved_bytes", "Data moved by system calls");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (what, moved) in Move::ALL.into_iter().zip(counts) {
        ConstCounter::new(moved.bytes).encode(family.encode_family(&[("of", what.name())])?)?;
    }
    Ok(())
}

/// Waits for disks, by what was made durable; of the whole process.
fn syncs(encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let (name, help) = ("blockyard_disk_syncs", "Waits until something is durable");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    let counts = sync_counts();
    for (of, count) in [("data", counts.data), ("names", counts.names), ("everything", counts.everything)] {
        ConstCounter::new(count).encode(family.encode_family(&[("of", of)])?)?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> Result<(), fmt::Error> {
    let inner = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    ConstGauge::new(value).encode(inner)
}

/// What Linux tells of this process; nothing elsewhere.
#[derive(Debug, Default)]
struct ProcSelf {
    resident_bytes: Option<f64>,
    threads: Option<f64>,
    open_descriptors: Option<f64>,
}

impl ProcSelf {
    fn read() -> Self {
        let mut this = Self::default();
        if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
            let field = |name: &str| -> Option<f64> {
                let line = status.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_whitespace().next()?.parse().ok()
            };
            this.resident_bytes = field("VmRSS:").map(|kib| kib * 1024.0);
            this.threads = field("Threads:");
        }
        this.open_descriptors = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn own_metrics_stand_beside_the_process_figures() {
        let metrics = Metrics::new("test");
        let counter: Counter = Counter::default();
        metrics.register(|registry| registry.register("blockyard_things", "Things", counter.clone()));
        counter.inc();
        let text = metrics.encode().unwrap();
        let pid = format!("process_pid {}", std::process::id());
        let mut lines = vec!["blockyard_things_total 1", "blockyard_up_seconds ", "process_cpu_seconds_total ", &pid];
        lines.extend([
            "blockyard_moving_calls_total{of=\"sendfile\"} ",
            "blockyard_moved_bytes_total{of=\"read\"} ",
            "# EOF",
        ]);
        for line in lines {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn every_kind_of_sync_is_counted() {
        use crate::crash::CrashPoint;
        use crate::disk::{Disk, OsDisk};
        let dir = tempfile::tempdir().unwrap();
        // Other tests of this process sync as well: each kind goes up by one at least.
        let before = sync_counts();
        OsDisk.create_new(&dir.path().join("x"), CrashPoint::BlockCreate).unwrap().sync(CrashPoint::BlockSync).unwrap();
        OsDisk.sync_dir(dir.path(), CrashPoint::BlockDirSync).unwrap();
        OsDisk.sync_all(dir.path(), CrashPoint::VolumeSync).unwrap();
        let after = sync_counts();
        assert!(after.data > before.data && after.names > before.names && after.everything > before.everything);
        let text = Metrics::new("test").encode().unwrap();
        for of in ["data", "names", "everything"] {
            assert!(text.contains(&format!("blockyard_disk_syncs_total{{of=\"{of}\"}} ")), "{of} in {text}");
        }
    }
}
