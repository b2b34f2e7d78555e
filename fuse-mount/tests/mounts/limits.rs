//! What there is no room for: quotas and the folder of changed copies.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use client::Quota;
use fuse_mount::MountConfig;

use crate::place::{BLOCK_BYTES, Place, by_program, close, config, content, mount};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn quotas_are_edquot_and_what_was_there_stays() {
    let Some(place) = Place::with(1).await else { return };
    let (dir, client) = (place.dir(0), place.cluster.client().unwrap());
    let (kept, at) = (content(1000, 1), dir.clone());
    let wanted = kept.clone();
    by_program(move || fs::write(at.join("f"), kept).unwrap()).await;
    client.set_quota("/t", Quota::Limit(3), Quota::Limit(2 * BLOCK_BYTES)).await.unwrap();
    by_program(move || {
        fs::write(dir.join("g"), b"one more").unwrap();
        let over = [File::create(dir.join("h")).map(drop), fs::create_dir(dir.join("d"))];
        for refused in over {
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EDQUOT), "names");
        }
        fs::remove_file(dir.join("g")).unwrap();
        // At the latest the close says so, of what is appended as of what is changed in place.
        let mut long = OpenOptions::new().append(true).open(dir.join("f")).unwrap();
        let written = long.write_all(&content(3 * BLOCK_BYTES as usize, 2));
        let told = [written.err().and_then(|error| error.raw_os_error()), close(long)];
        assert!(told.contains(&Some(libc::EDQUOT)), "{told:?}");
        let changed = OpenOptions::new().write(true).open(dir.join("f")).unwrap();
        changed.write_all_at(&content(3 * BLOCK_BYTES as usize, 3), 10).unwrap();
        assert_eq!(changed.sync_all().unwrap_err().raw_os_error(), Some(libc::EDQUOT), "fsync");
        assert_eq!(close(changed), Some(libc::EDQUOT), "and close");
    })
    .await;
    // Programs of this mount may see the change that was refused until the last use of it has ended.
    let reader = client.open("/t/f").await.unwrap();
    let read = reader.read_at(0, 4 * BLOCK_BYTES as usize).await.unwrap();
    assert!(read.starts_with(&wanted) && read.len() as u64 <= 2 * BLOCK_BYTES, "{} bytes", read.len());
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn more_changes_than_the_cache_folder_may_hold_are_enospc_and_those_before_are_kept() {
    let Some(mut place) = Place::with(0).await else { return };
    let config = config(place.cluster.uri(), Duration::from_secs(30));
    place.mounts.push(mount(MountConfig { cache_bytes: 1 << 20, ..config }).await);
    let dir = place.dir(0);
    by_program(move || {
        let mut bytes = content(3 << 20, 5);
        fs::write(dir.join("f"), &bytes).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(dir.join("f")).unwrap();
        file.write_all_at(&[b'x'; 1 << 19], 100).unwrap();
        bytes[100..100 + (1 << 19)].fill(b'x');
        let over = file.write_all_at(&[b'y'; 2 << 20], 1 << 20);
        assert_eq!(over.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(close(file), None);
        // Of the write that was refused a part may be there, as elsewhere.
        let read = fs::read(dir.join("f")).unwrap();
        assert!(read[..1 << 20] == bytes[..1 << 20]);
        for (at, (is, was)) in read.iter().zip(&bytes).enumerate().skip(1 << 20) {
            assert!(is == was || *is == b'y', "byte {at}");
        }
        // What it held is there for others.
        let file = OpenOptions::new().write(true).open(dir.join("f")).unwrap();
        file.write_all_at(&[b'z'; 1 << 19], 0).unwrap();
        assert_eq!(close(file), None);
    })
    .await;
    place.end().await;
}
