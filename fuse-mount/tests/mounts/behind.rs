//! Mounts in which a close promises nothing: what is closed is committed behind the programs.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base::metrics::Metrics;
use client::Client;
use fuse_mount::{MountConfig, SyncAt};

use crate::failures::Line;
use crate::place::{BLOCK_BYTES, GRACE, Place, by_program, close, config, content, mount};

/// Longest time until a commit is seen.
const PATIENCE: Duration = Duration::from_secs(30);

fn behind(uri: String, deadline: Duration) -> MountConfig {
    MountConfig { sync: SyncAt::Fsync, ..config(uri, deadline) }
}

/// A cluster with one such mount.
async fn place() -> Option<Place> {
    let mut place = Place::with(0).await?;
    place.mounts.push(mount(behind(place.cluster.uri(), Duration::from_secs(30))).await);
    Some(place)
}

/// Waits until the cluster has a file that is closed and holds these bytes.
async fn until_there(client: &Client, path: &str, wanted: &[u8]) {
    let begun = Instant::now();
    loop {
        let status = client.stat(path).await;
        let whole = status.is_ok_and(|status| !status.open_for_write && status.len_bytes == wanted.len() as u64);
        if whole && client.open(path).await.unwrap().read_at(0, wanted.len()).await.unwrap() == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{path} is not there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_closed_is_what_programs_here_see_at_once_and_others_soon() {
    let Some(place) = place().await else { return };
    let (dir, bytes) = (place.dir(0), content(2 * BLOCK_BYTES as usize + 777, 3));
    let (at, wanted) = (dir.clone(), bytes.clone());
    by_program(move || {
        for round in 0..20 {
            let name = at.join(format!("f{round}"));
            fs::write(&name, &bytes).unwrap();
            assert_eq!(fs::metadata(&name).unwrap().len(), bytes.len() as u64);
            assert!(fs::read(&name).unwrap() == bytes, "round {round}");
        }
        // Synced is durable, as ever.
        let synced = File::create(at.join("synced")).unwrap();
        synced.write_all_at(b"synced", 0).unwrap();
        synced.sync_all().unwrap();
    })
    .await;
    let client = place.cluster.client().unwrap();
    let synced = client.open("/t/synced").await.unwrap();
    assert_eq!(&synced.read_at(0, 6).await.unwrap()[..], b"synced");
    for round in 0..20 {
        until_there(&client, &format!("/t/f{round}"), &wanted).await;
    }
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_time_that_programs_saw_after_a_close_stays() {
    let Some(place) = place().await else { return };
    let dir = place.dir(0);
    let seen = by_program(move || {
        fs::write(dir.join("new"), b"bytes").unwrap();
        fs::write(dir.join("changed"), content(500, 1)).unwrap();
        change(&dir.join("changed"), 100);
        ["new", "changed"].map(|name| {
            let info = fs::metadata(dir.join(name)).unwrap();
            (name, info.mtime() * 1_000_000_000 + info.mtime_nsec())
        })
    })
    .await;
    let client = place.cluster.client().unwrap();
    for (name, mtime_ns) in seen {
        let (path, begun) = (format!("/t/{name}"), Instant::now());
        loop {
            let status = client.stat(&path).await.unwrap();
            if !status.open_for_write && status.mtime_ns == mtime_ns {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{path}: {} instead of {mtime_ns}", status.mtime_ns);
            tokio::task::yield_now().await;
        }
    }
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_close_has_told_is_not_told_to_the_next_one() {
    let Some(mut place) = Place::with(0).await else { return };
    let line = Line::to(place.cluster.uri()).await;
    place.mounts.push(mount(config(line.uri.clone(), Duration::from_secs(2))).await);
    let path = place.dir(0).join("f");
    let at = path.clone();
    let changed = by_program(move || {
        fs::write(&at, content(1000, 7)).unwrap();
        let file = OpenOptions::new().write(true).open(&at).unwrap();
        file.write_all_at(b"changed", 10).unwrap();
        file
    })
    .await;
    line.up.send(false).unwrap();
    by_program(move || assert!(close(changed).is_some(), "it cannot be committed")).await;
    line.up.send(true).unwrap();
    by_program(move || {
        let begun = Instant::now();
        let file = loop {
            match OpenOptions::new().write(true).open(&path) {
                Ok(file) => break file,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
        };
        file.write_all_at(b"again", 20).unwrap();
        assert_eq!(close(file), None);
        assert_eq!(fs::read(&path).unwrap()[20..25], *b"again");
    })
    .await;
    place.end().await;
}

/// Changes a byte in the middle, so that closing has a new file take the place of this one.
fn change(path: &Path, at: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"CHANGED", at).unwrap();
    assert_eq!(close(file), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_done_to_a_file_right_after_its_close_is_not_lost_in_its_commit() {
    let Some(place) = place().await else { return };
    let (dir, bytes) = (place.dir(0), content(BLOCK_BYTES as usize + 5, 4));
    let (at, mut wanted) = (dir.clone(), bytes.clone());
    by_program(move || {
        for name in ["linked", "attributes", "moved", "one", "other", "removed", "replaced", "again"] {
            fs::write(at.join(name), &bytes).unwrap();
            change(&at.join(name), 100);
            let path = at.join(name);
            match name {
                "linked" => fs::hard_link(&path, at.join("second")).unwrap(),
                "attributes" => {
                    let (value, flags) = (b"red", rustix::fs::XattrFlags::empty());
                    rustix::fs::setxattr(&path, "user.colour", value, flags).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
                }
                "moved" => fs::rename(&path, at.join("here")).unwrap(),
                "other" => {
                    let exchange = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(rustix::fs::CWD, at.join("one"), rustix::fs::CWD, &path, exchange)
                        .unwrap();
                }
                "removed" => fs::remove_file(&path).unwrap(),
                "replaced" => {
                    fs::write(at.join("new"), b"new").unwrap();
                    fs::rename(at.join("new"), &path).unwrap();
                }
                "again" => change(&path, 200),
                _ => {}
            }
        }
        assert_eq!(fs::metadata(at.join("second")).unwrap().nlink(), 2);
    })
    .await;
    wanted[100..107].copy_from_slice(b"CHANGED");
    let client = place.cluster.client().unwrap();
    for name in ["linked", "second", "attributes", "here", "one", "other"] {
        until_there(&client, &format!("/t/{name}"), &wanted).await;
    }
    until_there(&client, "/t/replaced", b"new").await;
    wanted[200..207].copy_from_slice(b"CHANGED");
    until_there(&client, "/t/again", &wanted).await;
    assert_eq!(client.stat("/t/attributes").await.unwrap().mode, 0o640);
    let colour = client.xattrs("/t/attributes", &["user.colour".to_owned()]).await.unwrap();
    assert_eq!(&colour[0].value[..], b"red");
    for gone in ["moved", "removed", "new"] {
        assert!(client.stat(&format!("/t/{gone}")).await.is_err(), "{gone}");
    }
    // Nothing else is left of it.
    let (mut listing, mut names) = (client.list("/t").unwrap(), Vec::new());
    while let Some(entry) = listing.next().await.unwrap() {
        names.push(entry.path);
    }
    assert_eq!(names.len(), 8, "{names:?}");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_mount_ends_when_what_was_closed_is_in_the_cluster() {
    let Some(mut place) = place().await else { return };
    let dir = place.dir(0);
    by_program(move || {
        for number in 0..200 {
            fs::write(dir.join(format!("f{number}")), content(3000, number)).unwrap();
        }
    })
    .await;
    let (mounted, dir) = place.mounts.pop().unwrap();
    mounted.unmount(GRACE).await.unwrap();
    drop(dir);
    let client = place.cluster.client().unwrap();
    for number in 0..200 {
        let path = format!("/t/f{number}");
        let status = client.stat(&path).await.unwrap();
        assert_eq!((status.len_bytes, status.open_for_write), (3000, false), "{path}");
        assert!(client.open(&path).await.unwrap().read_at(0, 3000).await.unwrap() == content(3000, number), "{path}");
    }
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d_3_what_could_not_be_committed_is_told_to_whoever_opens_the_file_next_once() {
    let Some(mut place) = Place::with(0).await else { return };
    let line = Line::to(place.cluster.uri()).await;
    place.mounts.push(mount(behind(line.uri.clone(), Duration::from_secs(2))).await);
    let (dir, metrics) = (place.dir(0), Metrics::new("mount"));
    place.mounts[0].0.tell(&metrics);
    let path = dir.join("f");
    let at = path.clone();
    let changed = by_program(move || {
        fs::write(&at, content(1000, 7)).unwrap();
        File::open(&at).unwrap().sync_all().unwrap();
        let file = OpenOptions::new().write(true).open(&at).unwrap();
        file.write_all_at(b"changed", 10).unwrap();
        file
    })
    .await;
    line.up.send(false).unwrap();
    by_program(move || assert_eq!(close(changed), None, "it promises nothing")).await;
    let begun = Instant::now();
    while !metrics.encode().unwrap().contains("blockyard_mount_errors_total{request=\"release\"") {
        assert!(begun.elapsed() < PATIENCE, "the commit does not end");
        tokio::task::yield_now().await;
    }
    line.up.send(true).unwrap();
    by_program(move || {
        let opened = || {
            let begun = Instant::now();
            loop {
                match OpenOptions::new().write(true).open(&path) {
                    Ok(file) => return file,
                    Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
                }
            }
        };
        // Who only reads does not hear of it, and takes it from nobody.
        while let Err(error) = fs::read(&path) {
            assert!(begun.elapsed() < 2 * PATIENCE, "{error}");
        }
        let file = opened();
        assert!(file.sync_all().is_err(), "told");
        file.sync_all().unwrap();
        assert_eq!(close(file), None, "once");
        assert_eq!(close(opened()), None);
        // The file is what it was: nothing is half done.
        assert!(fs::read(&path).unwrap() == content(1000, 7));
    })
    .await;
    place.end().await;
}

/// One changes files and moves them about, others list the directory all the time. What a listing said before a change, and is
/// told after it, takes no name away and makes no file shorter.
async fn listed_while_it_changes(place: Place) {
    let dir = place.dir(0);
    by_program(move || {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        for entry in fs::read_dir(&dir).unwrap() {
                            // It may have gone meanwhile.
                            drop(entry.unwrap().metadata());
                        }
                    }
                });
            }
            let changed = std::panic::catch_unwind(|| (0..120).for_each(|round| change_and_move(&dir, round)));
            done.store(true, Ordering::Relaxed);
            changed.unwrap();
        });
    })
    .await;
    place.end().await;
}

fn change_and_move(dir: &Path, round: usize) {
    let (here, there) = (dir.join(format!("f{}", round % 3)), dir.join("there"));
    let mut wanted = content(200 + round * 7, round as u64);
    let says = |path: &Path, wanted: &[u8]| {
        assert_eq!(fs::metadata(path).unwrap().len(), wanted.len() as u64, "round {round}");
        assert!(fs::read(path).unwrap() == wanted, "round {round}");
    };
    fs::write(&here, &wanted).unwrap();
    says(&here, &wanted);
    change(&here, 100);
    wanted[100..107].copy_from_slice(b"CHANGED");
    says(&here, &wanted);
    let open = OpenOptions::new().write(true).open(&here).unwrap();
    fs::rename(&here, &there).unwrap();
    open.write_all_at(b"MOVED", 50).unwrap();
    assert_eq!(close(open), None, "round {round}");
    wanted[50..55].copy_from_slice(b"MOVED");
    says(&there, &wanted);
    fs::rename(&there, &here).unwrap();
    says(&here, &wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn v_5_listings_that_are_told_late_change_nothing_where_a_close_promises_nothing() {
    let Some(place) = place().await else { return };
    listed_while_it_changes(place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn v_5_listings_that_are_told_late_change_nothing() {
    let Some(place) = Place::with(1).await else { return };
    listed_while_it_changes(place).await;
}

/// Programs that prepare a file beside an old one and exchange the two have either of them whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_exchanged_is_in_the_cluster_before() {
    let Some(place) = place().await else { return };
    let (dir, client) = (place.dir(0), place.cluster.client().unwrap());
    let at = dir.clone();
    by_program(move || {
        for (name, salt) in [("one", 1), ("other", 2)] {
            fs::write(at.join(name), content(700, salt)).unwrap();
            change(&at.join(name), 100);
        }
        let (cwd, exchange) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
        rustix::fs::renameat_with(cwd, at.join("one"), cwd, at.join("other"), exchange).unwrap();
    })
    .await;
    for (name, salt) in [("one", 2), ("other", 1)] {
        let mut wanted = content(700, salt);
        wanted[100..107].copy_from_slice(b"CHANGED");
        let path = format!("/t/{name}");
        assert!(client.open(&path).await.unwrap().read_at(0, 700).await.unwrap() == wanted, "{path}");
    }
    place.end().await;
}
