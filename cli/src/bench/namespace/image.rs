//! Images: how long writers wait for the frozen view, and how long writing and loading take.

use std::path::Path;
use std::sync::Arc;

use base::clock::{Clock, SystemClock};
use base::disk::OsDisk;
use base::random::{OsRandom, Randomness};
use namenode::consensus::{Consensus, ConsensusConfig, Identity, ImageMeta};
use namenode::namespace::Namespace;
use proto::ids::{ClusterId, MemberId, PoolId};

use super::Outcome;
use super::report::Report;

/// Longest of several pauses, since one of them may have been lucky.
const PAUSES: usize = 5;

/// Writes an image through the image store and loads it. Its length.
pub(super) fn measure(namespace: &Namespace, folder: &Path, report: &mut Report) -> Outcome<u64> {
    let clock = SystemClock::new();
    let disk = OsDisk::shared();
    let random: Arc<dyn Randomness> = Arc::new(OsRandom);
    let dir = folder.join("namenode");
    let member = MemberId::from_raw(1);
    let identity =
        Identity { cluster: ClusterId::new("bench"), pool: PoolId::new("bench"), member, initial_voters: vec![member] };
    let config = ConsensusConfig::default();
    let failed = |error: &dyn std::fmt::Display| format!("the image cannot be measured: {error}");
    Consensus::format(&disk, &dir, &identity, &config, &random).map_err(|error| failed(&error))?;
    let images = Consensus::open(&disk, &dir, None, config, &random).map_err(|error| failed(&error))?.images;

    let (index, term) = namespace.applied();
    let mut longest = std::time::Duration::ZERO;
    for _ in 0..PAUSES {
        let started = clock.now();
        let meta = ImageMeta { index, term, state_hash: namespace.state_hash() };
        let frozen = namespace.freeze();
        longest = longest.max(clock.now().since(started));
        drop((meta, frozen));
    }
    report.millis("image_pause_ms", longest);

    let meta = ImageMeta { index, term, state_hash: namespace.state_hash() };
    let frozen = namespace.freeze();
    let started = clock.now();
    let cpu = base::process::thread_cpu();
    let written = images
        .write(meta, &mut |out| frozen.write_to(out).map_err(std::io::Error::other))
        .map_err(|error| failed(&error))?;
    report.millis("image_write_ms", clock.now().since(started));
    report.millis("image_write_cpu_ms", base::process::thread_cpu() - cpu);
    drop(frozen);
    report.number("image_bytes", written.body_bytes);

    let started = clock.now();
    let cpu = base::process::thread_cpu();
    let mut reader = images.open(index).map_err(|error| failed(&error))?;
    let loaded = Namespace::read_from(&mut reader).map_err(|error| failed(&error))?;
    report.millis("image_load_ms", clock.now().since(started));
    report.millis("image_load_cpu_ms", base::process::thread_cpu() - cpu);
    if loaded.state_hash() != namespace.state_hash() {
        return Err("the image that was loaded is not the one that was written".to_owned());
    }
    Ok(written.body_bytes)
}
