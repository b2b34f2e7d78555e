//! Clusters that do not answer, mounts that are taken away, and what was promised then.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::mounts::Unmount;
use fuse_mount::{MountError, Mounted};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::content::Map;
use crate::place::{BLOCK_BYTES, Place, by_program, close, config, content, mount};

/// Of the mounts here.
const DEADLINE: Duration = Duration::from_secs(2);
/// A request may be several calls, each with the deadline; and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(15);

/// Stands between a mount and its namenode, and can be silent.
pub(crate) struct Line {
    pub(crate) uri: String,
    pub(crate) up: watch::Sender<bool>,
}

impl Line {
    pub(crate) async fn to(namenode: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("blockyard://{}", listener.local_addr().unwrap());
        let (up, seen) = watch::channel(true);
        let namenode = Arc::new(namenode.trim_start_matches("blockyard://").to_owned());
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let (namenode, mut seen) = (Arc::clone(&namenode), seen.clone());
                tokio::spawn(async move {
                    if !*seen.borrow() {
                        // It takes connections and says nothing.
                        drop(seen.wait_for(|up| *up).await);
                        return;
                    }
                    let mut there = TcpStream::connect(namenode.as_str()).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut here, &mut there) => {}
                        _ = seen.wait_for(|up| !*up) => {}
                    }
                });
            }
        });
        Self { uri, up }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l_10_without_a_namenode_calls_end_with_errors_and_go_on_when_it_is_back() {
    let Some(mut place) = Place::with(0).await else { return };
    let line = Line::to(place.cluster.uri()).await;
    place.mounts.push(mount(config(line.uri.clone(), DEADLINE)).await);
    let dir = place.dir(0);
    let (at, bytes) = (dir.clone(), content(100_000, 7));
    let kept = bytes.clone();
    let (file, changed) = by_program(move || {
        fs::write(at.join("f"), &bytes).unwrap();
        let mut file = File::create(at.join("g")).unwrap();
        file.write_all(b"begun").unwrap();
        let changed = OpenOptions::new().read(true).write(true).open(at.join("f")).unwrap();
        changed.write_all_at(b"changed", 10).unwrap();
        (file, changed)
    })
    .await;
    line.up.send(false).unwrap();
    let at = dir.clone();
    let changed = by_program(move || {
        let within = |what: &str, work: &mut dyn FnMut() -> std::io::Result<()>| {
            let begun = Instant::now();
            let error = work().expect_err(what);
            assert!(begun.elapsed() < PATIENCE, "{what} took {:?}", begun.elapsed());
            assert!(
                [libc::EIO, libc::ETIMEDOUT, libc::EBUSY].contains(&error.raw_os_error().unwrap()),
                "{what}: {error}"
            );
        };
        within("stat", &mut || fs::metadata(at.join("other")).map(drop));
        within("list", &mut || fs::read_dir(&at).and_then(|mut all| all.next().unwrap().map(drop)));
        within("create", &mut || File::create(at.join("new")).map(drop));
        within("mkdir", &mut || fs::create_dir(at.join("directory")));
        within("fsync", &mut || changed.sync_all());
        drop(file);
        changed
    })
    .await;
    line.up.send(true).unwrap();
    by_program(move || {
        // The change was told to have failed, and is still there: the next try says what became of it.
        changed.sync_all().unwrap();
        drop(changed);
        let read = fs::read(dir.join("f")).unwrap();
        assert!(read[10..17] == *b"changed" && read[17..] == kept[17..]);
        fs::write(dir.join("after"), b"after").unwrap();
        assert_eq!(fs::read(dir.join("after")).unwrap(), b"after");
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l_10_many_who_wait_for_one_file_are_all_told_within_the_deadline() {
    let Some(mut place) = Place::with(0).await else { return };
    let line = Line::to(place.cluster.uri()).await;
    place.mounts.push(mount(config(line.uri.clone(), DEADLINE)).await);
    let dir = place.dir(0);
    let changed = by_program(move || {
        fs::write(dir.join("f"), content(1000, 7)).unwrap();
        let changed = OpenOptions::new().read(true).write(true).open(dir.join("f")).unwrap();
        changed.write_all_at(b"changed", 10).unwrap();
        changed
    })
    .await;
    line.up.send(false).unwrap();
    let changed = by_program(move || {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| changed.sync_all().unwrap_err());
            }
        });
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        changed
    })
    .await;
    line.up.send(true).unwrap();
    by_program(move || {
        let begun = Instant::now();
        while changed.sync_all().is_err() {
            assert!(begun.elapsed() < PATIENCE);
        }
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d_3_without_datanodes_what_cannot_be_kept_is_told_and_synced_bytes_stay() {
    let Some(mut place) = Place::with(0).await else { return };
    place.mounts.push(mount(config(place.cluster.uri(), DEADLINE)).await);
    let dir = place.dir(0);
    let at = dir.clone();
    let mut file = by_program(move || {
        let mut file = File::create(at.join("f")).unwrap();
        file.write_all(b"synced").unwrap();
        file.sync_all().unwrap();
        file
    })
    .await;
    place.cluster.stop_datanode(0).await.unwrap();
    by_program(move || {
        let begun = Instant::now();
        // Taken on the way, perhaps; but then the sync says what became of it, and so does everything after it.
        let written = file.write_all(&content(100_000, 9));
        let synced = file.sync_all();
        assert!(written.is_err() || synced.is_err());
        assert!(file.write_all(b"again").is_err(), "the next write");
        assert!(file.sync_all().is_err(), "the next fsync");
        assert!(rustix::fs::fsync(&file).is_err());
        assert!(close(file).is_some(), "and close");
        assert!(begun.elapsed() < 4 * PATIENCE);
    })
    .await;
    place.cluster.start_datanode(0).await.unwrap();
    let client = place.cluster.client().unwrap();
    let recovered = client.recover_lease("/t/f").await.unwrap();
    if !recovered.closed {
        client.until_closed("/t/f", Duration::from_secs(60)).await.unwrap();
    }
    by_program(move || {
        let read = fs::read(dir.join("f")).unwrap();
        assert!(read.starts_with(b"synced"), "{} bytes", read.len());
        fs::write(dir.join("g"), content(BLOCK_BYTES as usize, 1)).unwrap();
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn umount_works_without_a_cluster_and_in_use_is_said() {
    let Some(mut place) = Place::with(0).await else { return };
    let line = Line::to(place.cluster.uri()).await;
    let (mounted, dir) = mount(config(line.uri.clone(), DEADLINE)).await;
    let at = dir.path().to_path_buf();
    let again = Mounted::start(config(line.uri.clone(), DEADLINE), &at).await;
    assert!(matches!(again, Err(MountError::Taken(_))), "{again:?}");
    let file = by_program(move || File::create(at.join("f")).unwrap()).await;
    line.up.send(false).unwrap();
    let at = dir.path().to_path_buf();
    let begun = Instant::now();
    let busy = by_program(move || fuse_mount::unmount(&at, Unmount::Idle)).await;
    assert!(matches!(busy, Err(MountError::InUse(_))), "{busy:?}");
    let at = dir.path().to_path_buf();
    by_program(move || fuse_mount::unmount(&at, Unmount::Detach)).await.unwrap();
    assert!(begun.elapsed() < PATIENCE);
    let at = dir.path().to_path_buf();
    assert!(matches!(
        by_program(move || fuse_mount::unmount(&at, Unmount::Idle)).await,
        Err(MountError::NotMounted(_))
    ));
    by_program(move || drop(file)).await;
    // The process of the mount ends by itself.
    mounted.until(std::future::pending(), PATIENCE).await.unwrap();
    line.up.send(true).unwrap();
    place.mounts.push(mount(config(place.cluster.uri(), DEADLINE)).await);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_for_which_nobody_waited_is_no_success() {
    let Some(place) = Place::with(0).await else { return };
    let line = Line::to(place.cluster.uri()).await;
    let (mounted, dir) = mount(config(line.uri.clone(), Duration::from_secs(30))).await;
    let at = dir.path().join("t/f");
    let file = by_program(move || {
        let mut file = File::create(at).unwrap();
        file.write_all(b"begun").unwrap();
        file
    })
    .await;
    line.up.send(false).unwrap();
    mounted.unmount(Duration::from_secs(1)).await.unwrap();
    assert_eq!(by_program(move || close(file)).await, Some(libc::EIO));
    line.up.send(true).unwrap();
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_changed_after_close_is_committed_whoever_takes_the_mount_away() {
    let Some(place) = Place::with(0).await else { return };
    let (mounted, dir) = mount(config(place.cluster.uri(), PATIENCE)).await;
    let at = dir.path().to_path_buf();
    by_program(move || {
        fs::write(at.join("t/f"), b"0123456789").unwrap();
        let file = OpenOptions::new().read(true).write(true).open(at.join("t/f")).unwrap();
        let map = Map::of(&file, 10);
        drop(file);
        map.bytes()[0] = b'!';
        fuse_mount::unmount(&at, Unmount::Detach).unwrap();
        drop(map);
    })
    .await;
    mounted.until(std::future::pending(), PATIENCE).await.unwrap();
    let reader = place.cluster.client().unwrap().open("/t/f").await.unwrap();
    assert_eq!(&reader.read_at(0, 10).await.unwrap()[..], b"!123456789");
    place.end().await;
}
