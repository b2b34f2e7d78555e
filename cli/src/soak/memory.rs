//! The memory of every process of a run, looked at every two seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::clock::{Clock, Moment};
use base::process::{resident_bytes, resident_bytes_of};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::shared::Shared;
use super::slope::Growth;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// Name of this process.
const SOAK: &str = "soak";

/// What was seen of each process.
#[derive(Debug, Default)]
pub(super) struct Memory {
    of: Mutex<BTreeMap<String, (Option<Moment>, Growth)>>,
}

impl Memory {
    /// Looks for ever.
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn watch(&self, shared: &Shared, cluster: &tokio::sync::Mutex<Cluster>) {
        loop {
            let known = cluster.lock().await.known();
            let now = shared.clock.now();
            for one in known.into_iter().filter(|one| !one.stopped) {
                if let Some(bytes) = resident_bytes_of(one.pid) {
                    self.add(&one.name, one.since, now, bytes);
                }
            }
            if let Some(bytes) = resident_bytes() {
                self.add(SOAK, shared.began, now, bytes);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn add(&self, name: &str, since: Moment, now: Moment, bytes: u64) {
        let mut of = self.of.lock();
        let (life, growth) = of.entry(name.to_owned()).or_default();
        if *life != Some(since) {
            *life = Some(since);
            growth.begins();
        }
        growth.add(now.since(since), bytes);
    }

    /// Processes that grow without bound, with their slopes in bytes a minute.
    pub(super) fn without_bound(&self) -> Vec<(String, f64)> {
        let of = self.of.lock();
        let bad = of.iter().filter(|(_, (_, growth))| growth.is_without_bound());
        bad.map(|(name, (_, growth))| (name.clone(), growth.bytes_per_minute().unwrap_or(0.0))).collect()
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let of = self.of.lock();
        let one = |growth: &Growth| {
            json!({
                "slope_bytes_per_minute": growth.bytes_per_minute().map(|slope| slope.round() as i64),
                "most_bytes": growth.most_bytes(), "looked_at_s": growth.looked_at().as_secs(),
                "without_bound": growth.is_without_bound(),
            })
        };
        of.iter().map(|(name, (_, growth))| (name.clone(), one(growth))).collect()
    }
    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let of = self.of.lock();
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let one = |(name, (_, growth)): (&String, &(Option<Moment>, Growth))| {
            let most = mib(growth.most_bytes() as f64);
            let slope = growth.bytes_per_minute().map_or("too short to tell a slope".to_owned(), |slope| {
                format!("{:+.2} MiB a minute over {} s", mib(slope), growth.looked_at().as_secs())
            });
            format!("{name:<9} {most:>6.0} MiB at most, {slope}")
        };
        of.iter().map(one).collect()
    }
}

/// Shared with the task that looks.
pub(super) type SharedMemory = Arc<Memory>;

/// The clock of a run; named here so that the shell needs no other.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(base::clock::SystemClock::new())
}
