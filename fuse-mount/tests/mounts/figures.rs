//! What a mount tells of itself.

use std::fs;

use base::metrics::Metrics;

use crate::place::{Place, by_program};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_their_times_errors_and_bytes_are_counted() {
    let Some(place) = Place::with(1).await else { return };
    let (dir, metrics) = (place.dir(0), Metrics::new("mount"));
    place.mounts[0].0.tell(&metrics);
    let open = by_program(move || {
        fs::write(dir.join("f"), [b'a'; 5000]).unwrap();
        assert!(fs::metadata(dir.join("missing")).is_err());
        fs::OpenOptions::new().append(true).open(dir.join("f")).unwrap()
    })
    .await;
    let text = metrics.encode().unwrap();
    for line in [
        "blockyard_mount_request_seconds_count{request=\"create\"} 1",
        "blockyard_mount_request_seconds_bucket{le=\"+Inf\",request=\"write\"} 1",
        "blockyard_mount_errors_total{request=\"lookup\",errno=\"2\"} ",
        "blockyard_mount_written_bytes_total 5000",
        "blockyard_mount_open_files 1",
        "blockyard_mount_cache_bytes 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    by_program(move || drop(open)).await;
    place.end().await;
}
