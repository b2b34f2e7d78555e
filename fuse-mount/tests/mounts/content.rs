//! What is in files: written, read, changed, seen by another mount.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::time::Duration;

use client::FileStatus;
use fuse_mount::MountConfig;

use crate::place::{BLOCK_BYTES, Place, by_program, close, config, content, mount};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn v_5_what_is_written_is_read_and_is_in_the_cluster() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    let bytes = content(3 * BLOCK_BYTES as usize + 12_345, 1);
    let wanted = bytes.clone();
    by_program(move || {
        let path = dir.join("f");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), bytes.len() as u64);
        assert!(fs::read(&path).unwrap() == bytes);
        let file = File::open(&path).unwrap();
        for offset in [0, 5, BLOCK_BYTES - 3, 2 * BLOCK_BYTES + 1, bytes.len() as u64 - 4] {
            let mut some = [0; 4];
            file.read_exact_at(&mut some, offset).unwrap();
            assert_eq!(some[..], bytes[offset as usize..][..4], "at {offset}");
        }
        assert_eq!(file.read_at(&mut [0; 4], bytes.len() as u64).unwrap(), 0);
        // Empty, and appended to.
        fs::write(dir.join("empty"), b"").unwrap();
        assert_eq!(fs::read(dir.join("empty")).unwrap(), b"");
        let begun = std::time::Instant::now();
        for word in ["one ", "two ", "three"] {
            // Of an append right after another one the namenode at times names no datanode: that is told, nothing of it is
            // there, and the next try finds one.
            loop {
                let mut log = OpenOptions::new().append(true).create(true).open(dir.join("log")).unwrap();
                let written = log.write_all(word.as_bytes());
                if close(log).is_none() && written.is_ok() {
                    break;
                }
                assert!(begun.elapsed().as_secs() < 60, "{word:?} is never taken");
            }
        }
        assert_eq!(fs::read_to_string(dir.join("log")).unwrap(), "one two three");
    })
    .await;
    let client = place.cluster.client().unwrap();
    let status = client.stat("/t/f").await.unwrap();
    assert_eq!((status.len_bytes, status.open_for_write), (wanted.len() as u64, false));
    let read = client.open("/t/f").await.unwrap().read_at(0, wanted.len()).await.unwrap();
    assert!(read == wanted);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn v_5_files_are_overwritten_cut_and_made_longer_in_any_order() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let path = dir.join("f");
        let mut model = content(2 * BLOCK_BYTES as usize, 2);
        fs::write(&path, &model).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        file.write_all_at(b"changed", 1000).unwrap();
        model[1000..1007].copy_from_slice(b"changed");
        let mut some = [0; 9];
        file.read_exact_at(&mut some, 999).unwrap();
        assert_eq!(some[..], model[999..1008]);
        file.sync_all().unwrap();
        assert!(fs::read(&path).unwrap() == model, "by another descriptor");
        // Beyond the end: what is between is zeros.
        file.write_all_at(b"far", model.len() as u64 + 5000).unwrap();
        model.resize(model.len() + 5000, 0);
        model.extend_from_slice(b"far");
        file.set_len(70_000).unwrap();
        model.truncate(70_000);
        file.set_len(80_000).unwrap();
        model.resize(80_000, 0);
        file.seek(SeekFrom::Start(79_999)).unwrap();
        file.write_all(b"end").unwrap();
        model.truncate(79_999);
        model.extend_from_slice(b"end");
        assert_eq!(file.metadata().unwrap().len(), model.len() as u64);
        drop(file);
        assert!(fs::read(&path).unwrap() == model);
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "it is the same file to programs");
        // By path, and O_TRUNC.
        OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert_eq!(fs::read(&path).unwrap(), model[..10]);
        let mut file = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn v_5_another_mount_sees_what_was_closed_or_synced() {
    let Some(place) = Place::with(2).await else { return };
    let (here, there) = (place.dir(0), place.dir(1));
    by_program(move || {
        fs::write(here.join("f"), b"first").unwrap();
        assert_eq!(fs::read(there.join("f")).unwrap(), b"first");
        // In the middle, and back again.
        let file = OpenOptions::new().write(true).open(there.join("f")).unwrap();
        file.write_all_at(b"R", 2).unwrap();
        drop(file);
        assert_eq!(fs::read(here.join("f")).unwrap(), b"fiRst");
        // Synced, and still open: as far as it was synced.
        let mut log = File::create(here.join("log")).unwrap();
        log.write_all(b"synced").unwrap();
        log.sync_all().unwrap();
        assert_eq!(fs::read(there.join("log")).unwrap(), b"synced");
        let open = File::open(there.join("log")).unwrap();
        log.write_all(b" and closed").unwrap();
        drop(log);
        assert_eq!(fs::read(there.join("log")).unwrap(), b"synced and closed");
        // Seen at an open, however lately the attributes were asked for; and by who has it open, after a while.
        fs::write(here.join("grows"), b"1").unwrap();
        assert_eq!(fs::metadata(there.join("grows")).unwrap().len(), 1);
        fs::write(here.join("grows"), b"two").unwrap();
        assert_eq!(fs::read(there.join("grows")).unwrap(), b"two");
        let begun = std::time::Instant::now();
        while open.metadata().unwrap().len() != 17 {
            assert!(begun.elapsed().as_secs() < 20, "never seen");
        }
        // Names at once, because they were not asked for before.
        fs::rename(there.join("log"), there.join("renamed")).unwrap();
        assert_eq!(fs::read(here.join("renamed")).unwrap(), b"synced and closed");
        // A file that is open here and replaced there goes on here.
        let open = File::open(here.join("f")).unwrap();
        fs::write(there.join("g"), b"other").unwrap();
        fs::rename(there.join("g"), there.join("f")).unwrap();
        assert_eq!(open.metadata().unwrap().len(), 5);
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unlinked_files_live_while_they_are_open() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let bytes = content(BLOCK_BYTES as usize + 77, 3);
        fs::write(dir.join("f"), &bytes).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(dir.join("f")).unwrap();
        fs::remove_file(dir.join("f")).unwrap();
        assert_eq!(fs::metadata(dir.join("f")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        let mut some = vec![0; bytes.len()];
        file.read_exact_at(&mut some, 0).unwrap();
        assert!(some == bytes);
        file.write_all_at(b"more", bytes.len() as u64).unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.metadata().unwrap().len(), bytes.len() as u64 + 4);
        // A file that never had anything in it but what comes now, as temporary files are.
        let mut options = OpenOptions::new();
        let mut scratch = options.read(true).write(true).create_new(true).open(dir.join("tmp")).unwrap();
        fs::remove_file(dir.join("tmp")).unwrap();
        scratch.write_all(b"scratch").unwrap();
        scratch.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        scratch.read_to_string(&mut text).unwrap();
        assert_eq!(text, "scratch");
        // What a rename takes the place of lives on in the same way.
        fs::write(dir.join("old"), b"old").unwrap();
        let old = File::open(dir.join("old")).unwrap();
        fs::write(dir.join("new"), b"new").unwrap();
        fs::rename(dir.join("new"), dir.join("old")).unwrap();
        let mut some = [0; 3];
        old.read_exact_at(&mut some, 0).unwrap();
        assert_eq!((&some, fs::read(dir.join("old")).unwrap().as_slice()), (b"old", &b"new"[..]));
        drop((file, scratch, old));
        let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["old"], "nothing is left over");
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_being_written_is_read_by_the_same_program() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let bytes = content(BLOCK_BYTES as usize * 2, 4);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create_new(true).open(dir.join("pack")).unwrap();
        let mut some = vec![0; 5000];
        for (number, part) in bytes.chunks(50_000).enumerate() {
            file.write_all(part).unwrap();
            let at = number * 50_000;
            let want = part.len().min(5000);
            file.read_exact_at(&mut some[..want], at as u64).unwrap();
            assert!(some[..want] == part[..want], "at {at}");
        }
        // The header is written last, as archivers do.
        file.write_all_at(b"HEAD", 0).unwrap();
        file.write_all(b"tail").unwrap();
        drop(file);
        let read = fs::read(dir.join("pack")).unwrap();
        assert!(read[..4] == *b"HEAD" && read[4..bytes.len()] == bytes[4..] && read.ends_with(b"tail"));
        assert_eq!(read.len(), bytes.len() + 4);
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_with_two_names_stay_one_when_they_are_changed() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        fs::write(dir.join("a"), b"0123456789").unwrap();
        fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
        assert_eq!(fs::metadata(dir.join("a")).unwrap().nlink(), 2);
        let file = OpenOptions::new().write(true).open(dir.join("b")).unwrap();
        file.write_all_at(b"XY", 3).unwrap();
        drop(file);
        assert_eq!(fs::read(dir.join("a")).unwrap(), b"012XY56789");
        assert_eq!(fs::metadata(dir.join("a")).unwrap().ino(), fs::metadata(dir.join("b")).unwrap().ino());
        fs::remove_file(dir.join("b")).unwrap();
        assert_eq!(fs::read(dir.join("a")).unwrap(), b"012XY56789");
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_is_moved_while_it_is_synced_is_one_file_with_the_new_name() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/a"), [0; 1000]).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(dir.join("d/a")).unwrap();
        let places = ["d/a", "d/b", "e/b", "e/a"].map(|name| dir.join(name));
        for round in 0..12_u8 {
            let (from, to) = (&places[usize::from(round) % 4], &places[usize::from(round + 1) % 4]);
            file.write_all_at(&[round; 700], u64::from(round)).unwrap();
            std::thread::scope(|scope| {
                let synced = scope.spawn(|| file.sync_all());
                // By its own name, or by that of its directory.
                let (from, to) = if round % 2 == 0 {
                    (from.as_path(), to.as_path())
                } else {
                    (from.parent().unwrap(), to.parent().unwrap())
                };
                fs::rename(from, to).unwrap();
                synced.join().unwrap().unwrap();
            });
            let all: Vec<_> = fs::read_dir(to.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert_eq!(all.iter().collect::<Vec<_>>(), [to], "round {round}");
            assert_eq!(fs::read(to).unwrap()[usize::from(round)..][..700], [round; 700]);
        }
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn zeros_for_which_there_is_no_room_are_refused_before_they_are_sent() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(dir.join("f")).unwrap();
        let begun = std::time::Instant::now();
        for refused in [file.set_len(1 << 50), file.write_all_at(b"far", 1 << 50), allocate(&file, 1 << 50)] {
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        }
        assert!(begun.elapsed().as_secs() < 20);
        file.set_len(1 << 20).unwrap();
        assert_eq!(close(file), None);
        assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), 1 << 20);
    })
    .await;
    place.end().await;
}

fn allocate(file: &File, len: u64) -> std::io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cut_inside_a_block_is_done_at_once_and_of_the_file_that_is_meant_only() {
    let Some(place) = Place::with(1).await else { return };
    let (dir, client) = (place.dir(0), place.cluster.client().unwrap());
    let (bytes, at) = (content(BLOCK_BYTES as usize + 1000, 3), dir.clone());
    let wanted = bytes.clone();
    by_program(move || fs::write(at.join("f"), bytes).unwrap()).await;
    let inode = client.stat("/t/f").await.unwrap().inode;
    let other = client.truncate_inode("/t/f", inode + 1, 7).await.unwrap_err();
    assert_eq!(
        (other.code, client.stat("/t/f").await.unwrap().len_bytes),
        (client::ErrorCode::Changed, BLOCK_BYTES + 1000)
    );
    for len in [BLOCK_BYTES + 7, BLOCK_BYTES, 100] {
        let cut = client.truncate_inode("/t/f", inode, len).await.unwrap();
        assert!(cut.done && !cut.status.open_for_write);
        assert_eq!((cut.status.len_bytes, cut.status.inode), (len, inode));
    }
    by_program(move || {
        assert_eq!(fs::read(dir.join("f")).unwrap(), wanted[..100]);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left over");
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn opening_exclusively_and_direct_requests() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let exclusive = || OpenOptions::new().write(true).create_new(true).open(dir.join("lock"));
        drop(exclusive().unwrap());
        assert_eq!(exclusive().unwrap_err().kind(), ErrorKind::AlreadyExists);
        let missing = OpenOptions::new().write(true).open(dir.join("missing"));
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
        // Each of several programs that append puts its words whole behind those of the others.
        let mut first = OpenOptions::new().append(true).create(true).open(dir.join("log")).unwrap();
        let mut second = OpenOptions::new().append(true).open(dir.join("log")).unwrap();
        for round in 0..10 {
            write!(first, "a{round}").unwrap();
            write!(second, "b{round}").unwrap();
        }
        drop((first, second));
        let wanted: String = (0..10).map(|round| format!("a{round}b{round}")).collect();
        assert_eq!(fs::read_to_string(dir.join("log")).unwrap(), wanted);
        let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(dir.join("log"));
        let mut text = String::new();
        direct.unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, wanted);
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mapped_files_are_read_and_changed() {
    let Some(place) = Place::with(2).await else { return };
    let (here, there) = (place.dir(0), place.dir(1));
    by_program(move || {
        let mut bytes = content(3 * 4096 + 100, 5);
        fs::write(here.join("f"), &bytes).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(here.join("f")).unwrap();
        let map = Map::of(&file, bytes.len());
        assert!(*map.bytes() == bytes);
        map.bytes()[5000..5007].copy_from_slice(b"changed");
        bytes[5000..5007].copy_from_slice(b"changed");
        map.sync();
        file.sync_all().unwrap();
        assert!(fs::read(there.join("f")).unwrap() == bytes, "synced");
        // Changed after the descriptor was closed, as programs do: written when the last use ends.
        drop(file);
        map.bytes()[0] = b'!';
        bytes[0] = b'!';
        map.sync();
        drop(map);
        let begun = std::time::Instant::now();
        while fs::read(there.join("f")).unwrap() != bytes {
            assert!(begun.elapsed().as_secs() < 20, "never seen");
        }
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_changed_in_a_private_mapping_is_nobody_elses() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let bytes = content(3 * 4096 + 100, 8);
        fs::write(dir.join("f"), &bytes).unwrap();
        // A descriptor that only reads is enough for it.
        let file = File::open(dir.join("f")).unwrap();
        let (mine, other) = (Map::private(&file, bytes.len()), Map::private(&file, bytes.len()));
        mine.bytes()[5000..5007].copy_from_slice(b"changed");
        assert!(*other.bytes() == bytes && mine.bytes()[5000..5007] == *b"changed");
        mine.sync();
        file.sync_all().unwrap();
        drop(file);
        assert!(fs::read(dir.join("f")).unwrap() == bytes);
        // What others write is seen where nothing was changed.
        fs::OpenOptions::new().write(true).open(dir.join("f")).unwrap().write_all_at(b"new", 9000).unwrap();
        assert!(mine.bytes()[5000..5007] == *b"changed");
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pages_of_a_mapped_file_stay_where_they_are_also_of_one_that_appends() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let mut bytes = content(5000, 6);
        fs::write(dir.join("f"), &bytes).unwrap();
        let file = OpenOptions::new().read(true).append(true).open(dir.join("f")).unwrap();
        let map = Map::of(&file, bytes.len());
        map.bytes()[10] = b'!';
        bytes[10] = b'!';
        map.sync();
        drop(map);
        assert_eq!(close(file), None);
        assert!(fs::read(dir.join("f")).unwrap() == bytes);
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_another_mount_changed_is_looked_at_again_before_it_is_changed() {
    let Some(place) = Place::with(2).await else { return };
    let (here, there) = (place.dir(0), place.dir(1));
    by_program(move || {
        let opened = |name: &str| {
            fs::write(here.join(name), [b'a'; 100]).unwrap();
            OpenOptions::new().read(true).write(true).open(here.join(name)).unwrap()
        };
        let append = |name: &str| {
            let mut file = OpenOptions::new().append(true).open(there.join(name)).unwrap();
            file.write_all(&[b'b'; 100]).unwrap();
            assert_eq!(close(file), None);
        };
        let mut long = vec![b'a'; 100];
        long.resize(200, b'b');
        for (name, offset_bytes, synced) in [("end", 200, false), ("middle", 50, false), ("again", 200, true)] {
            let file = opened(name);
            if synced {
                file.write_all_at(b"a", 7).unwrap();
                file.sync_all().unwrap();
            }
            append(name);
            file.write_all_at(b"x", offset_bytes as u64).unwrap();
            assert_eq!(close(file), None, "{name}");
            let mut wanted = long.clone();
            wanted.resize(200.max(offset_bytes + 1), b'?');
            wanted[offset_bytes] = b'x';
            assert!(fs::read(there.join(name)).unwrap() == wanted, "{name}");
        }
        let file = opened("cut");
        append("cut");
        file.set_len(100).unwrap();
        assert_eq!(fs::read(there.join("cut")).unwrap().len(), 100);
        // Another file by now.
        let file = opened("f");
        fs::write(there.join("g"), b"other").unwrap();
        fs::rename(there.join("g"), there.join("f")).unwrap();
        assert_eq!(file.set_len(1).unwrap_err().raw_os_error(), Some(libc::ESTALE));
        let changed = file.set_permissions(fs::Permissions::from_mode(0o777));
        assert_eq!(changed.unwrap_err().raw_os_error(), Some(libc::ESTALE));
        assert_eq!(fs::read(there.join("f")).unwrap(), b"other");
        assert_eq!(fs::metadata(there.join("f")).unwrap().mode() & 0o777, 0o644);
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_name_that_is_not_known_here_would_never_get_is_refused() {
    let Some(place) = Place::with(1).await else { return };
    let (dir, client) = (place.dir(0), place.cluster.client().unwrap());
    let at = dir.clone();
    by_program(move || fs::write(at.join("f"), b"0123456789").unwrap()).await;
    client.link("/t/f", "/t/g").await.unwrap();
    by_program(move || {
        let file = OpenOptions::new().read(true).write(true).open(dir.join("f")).unwrap();
        file.write_all_at(b"before", 0).unwrap();
        fs::remove_file(dir.join("f")).unwrap();
        assert_eq!(file.write_all_at(b"after", 0).unwrap_err().raw_os_error(), Some(libc::EIO));
        let mut some = [0; 10];
        file.read_exact_at(&mut some, 0).unwrap();
        assert_eq!((&some, fs::read(dir.join("g")).unwrap().as_slice()), (b"before6789", &b"before6789"[..]));
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_committed_takes_no_room_any_more() {
    let Some(mut place) = Place::with(0).await else { return };
    let config = MountConfig { cache_bytes: 50_000, ..config(place.cluster.uri(), Duration::from_secs(30)) };
    place.mounts.push(mount(config).await);
    let dir = place.dir(0);
    by_program(move || {
        fs::write(dir.join("f"), content(200_000, 1)).unwrap();
        let wanted = content(200_000, 2);
        let file = OpenOptions::new().write(true).open(dir.join("f")).unwrap();
        for (number, part) in wanted.chunks(40_000).enumerate() {
            file.write_all_at(part, number as u64 * 40_000).unwrap();
            file.sync_all().unwrap();
        }
        assert!(fs::read(dir.join("f")).unwrap() == wanted);
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_file_that_takes_the_place_of_an_old_one_is_nobody_elses_before() {
    let Some(place) = Place::with(1).await else { return };
    let (dir, client) = (place.dir(0), place.cluster.client().unwrap());
    let syncing = base::task::blocking(move || {
        let len = 20 * BLOCK_BYTES as usize;
        fs::write(dir.join("f"), content(len, 1)).unwrap();
        fs::set_permissions(dir.join("f"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(dir.join("f"), Some(12_345), Some(54_321)).unwrap();
        let file = OpenOptions::new().write(true).open(dir.join("f")).unwrap();
        file.write_all_at(&content(len, 2), 0).unwrap();
        file.sync_all().unwrap();
        fs::metadata(dir.join("f")).unwrap()
    });
    let mut syncing = std::pin::pin!(syncing);
    let ended = loop {
        tokio::select! {
            ended = &mut syncing => break ended.unwrap(),
            all = client.list("/t").unwrap().collect() => {
                let beside = |status: &&FileStatus| status.path != "f";
                for status in all.unwrap().iter().filter(beside) {
                    let private = status.mode & 0o777 == 0o600;
                    assert!(private || status.group == "gid54321", "{status:?}");
                }
            }
        }
    };
    assert_eq!((ended.mode() & 0o777, ended.uid(), ended.gid()), (0o640, 12_345, 54_321));
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_with_two_names_is_changed_in_one_step_under_both() {
    let Some(place) = Place::with(1).await else { return };
    let (dir, client) = (place.dir(0), place.cluster.client().unwrap());
    let len = 20 * BLOCK_BYTES as usize;
    let syncing = base::task::blocking(move || {
        fs::write(dir.join("f"), content(len, 1)).unwrap();
        fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
        let inode = fs::metadata(dir.join("f")).unwrap().ino();
        let file = OpenOptions::new().write(true).open(dir.join("f")).unwrap();
        file.write_all_at(&content(len, 2), 0).unwrap();
        file.sync_all().unwrap();
        assert_eq!(fs::metadata(dir.join("g")).unwrap().ino(), inode);
    });
    let mut syncing = std::pin::pin!(syncing);
    loop {
        tokio::select! {
            ended = &mut syncing => break ended.unwrap(),
            all = client.list("/t").unwrap().collect() => {
                for status in all.unwrap().iter().filter(|status| status.path == "g") {
                    assert_eq!((status.len_bytes, status.open_for_write), (len as u64, false));
                }
            }
        }
    }
    let reader = client.open("/t/g").await.unwrap();
    assert!(reader.read_at(0, len).await.unwrap() == content(len, 2));
    assert_eq!(client.list("/t").unwrap().collect().await.unwrap().len(), 2, "nothing is left over");
    place.end().await;
}

/// A file in memory, shared.
pub(crate) struct Map {
    at: *mut libc::c_void,
    len: usize,
}

impl Map {
    pub(crate) fn of(file: &File, len: usize) -> Self {
        Self::by(file, len, libc::MAP_SHARED)
    }
    /// Changes are this mapping's alone.
    fn private(file: &File, len: usize) -> Self {
        Self::by(file, len, libc::MAP_PRIVATE)
    }
    fn by(file: &File, len: usize, kind: i32) -> Self {
        use std::os::fd::AsRawFd;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of an open file, wherever the system likes.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, kind, file.as_raw_fd(), 0) };
        assert!(at != libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { at, len }
    }
    #[allow(clippy::mut_from_ref, reason = "one thread of one test has it, a line at a time")]
    pub(crate) fn bytes(&self) -> &mut [u8] {
        // SAFETY: mapped with this length for as long as `self` lives, and nobody cuts the file.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast(), self.len) }
    }
    fn sync(&self) {
        // SAFETY: the whole of a mapping.
        assert_eq!(unsafe { libc::msync(self.at, self.len, libc::MS_SYNC) }, 0);
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the whole of a mapping that nobody uses any more.
        assert_eq!(unsafe { libc::munmap(self.at, self.len) }, 0);
    }
}
