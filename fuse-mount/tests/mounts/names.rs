//! Names and what they have beside content.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use fuse_mount::MountConfig;

use crate::place::{Place, as_user, by_program, config, mount};

/// More than several pages of the namenode, and of the kernel.
const MANY: usize = 2500;
/// More than one page of the kernel.
const SOME: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_are_made_moved_and_removed_as_elsewhere() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        fs::create_dir_all(dir.join("a/b/c")).unwrap();
        fs::write(dir.join("a/b/c/f"), b"x").unwrap();
        assert_eq!(fs::remove_dir(dir.join("a/b")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        assert_eq!(fs::create_dir(dir.join("a")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::remove_file(dir.join("a")).unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(fs::remove_dir(dir.join("a/b/c/f")).unwrap_err().kind(), ErrorKind::NotADirectory);
        assert_eq!(fs::read(dir.join("a/b/c/f/g")).unwrap_err().kind(), ErrorKind::NotADirectory);
        let long = "n".repeat(256);
        assert_eq!(fs::write(dir.join(long), b"").unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
        // An open file is found below whatever its directories are called.
        let mut file = OpenOptions::new().append(true).open(dir.join("a/b/c/f")).unwrap();
        fs::rename(dir.join("a"), dir.join("z")).unwrap();
        file.write_all(b"y").unwrap();
        drop(file);
        assert_eq!(fs::read(dir.join("z/b/c/f")).unwrap(), b"xy");
        let into_itself = fs::rename(dir.join("z"), dir.join("z/b/z")).unwrap_err();
        assert_eq!(into_itself.raw_os_error(), Some(libc::EINVAL));
        // Links.
        symlink("b/c", dir.join("z/link")).unwrap();
        assert_eq!(fs::read_link(dir.join("z/link")).unwrap().to_str(), Some("b/c"));
        assert_eq!(fs::read(dir.join("z/link/f")).unwrap(), b"xy");
        assert!(fs::symlink_metadata(dir.join("z/link")).unwrap().is_symlink());
        fs::hard_link(dir.join("z/b/c/f"), dir.join("g")).unwrap();
        assert_eq!(fs::metadata(dir.join("g")).unwrap().nlink(), 2);
        fs::remove_dir_all(dir.join("z")).unwrap();
        assert_eq!((fs::read(dir.join("g")).unwrap(), fs::read_dir(&dir).unwrap().count()), (b"xy".to_vec(), 1));
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_that_are_no_text_come_back_as_they_were() {
    let Some(place) = Place::with(2).await else { return };
    let (here, there, client) = (place.dir(0), place.dir(1), place.cluster.client().unwrap());
    let names: [&[u8]; 6] =
        [b"latin \xe9", b"\xff\xfe", "é".as_bytes(), "\u{10FF80}".as_bytes(), b"cut \xe2\x82", b"\xc3("];
    by_program(move || {
        for (number, name) in names.into_iter().enumerate() {
            let name = OsStr::from_bytes(name);
            fs::write(here.join(name), [number as u8]).unwrap();
            symlink(name, here.join(format!("link{number}"))).unwrap();
        }
        for dir in [&here, &there] {
            let listed: BTreeSet<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            for (number, name) in names.into_iter().enumerate() {
                let (name, link) = (OsStr::from_bytes(name), dir.join(format!("link{number}")));
                assert!(listed.contains(name), "{name:?} in {listed:?}");
                assert_eq!(fs::read(dir.join(name)).unwrap(), [number as u8]);
                assert_eq!(fs::read_link(&link).unwrap(), *name);
                assert_eq!(fs::symlink_metadata(&link).unwrap().len(), name.len() as u64);
                assert_eq!(fs::read(link).unwrap(), [number as u8], "through a link");
            }
        }
        fs::rename(here.join(OsStr::from_bytes(names[0])), here.join(OsStr::from_bytes(b"\x80"))).unwrap();
        fs::remove_file(here.join(OsStr::from_bytes(names[1]))).unwrap();
    })
    .await;
    // Other doors have it as text.
    assert_eq!(client.stat("/t/\u{10FF80}").await.unwrap().len_bytes, 1);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thousands_of_names_are_listed_once_each() {
    let Some(place) = Place::with(1).await else { return };
    let client = place.cluster.client().unwrap();
    let name = |number: usize| format!("a-name-of-some-length-{number:06}");
    client.mkdir("/t/many", 0o755, false).await.unwrap();
    // Many calls at a time share the namenode's syncs.
    let mut calls = base::task::JoinSet::new();
    for number in 0..MANY {
        let (client, path) = (client.clone(), format!("/t/many/{}", name(number)));
        calls.spawn(async move { client.mkdir(&path, 0o755, false).await.unwrap() });
        if number % 64 == 0 {
            while calls.join_next().await.is_some() {}
        }
    }
    while calls.join_next().await.is_some() {}
    let dir = place.dir(0);
    by_program(move || {
        let names: Vec<String> = fs::read_dir(dir.join("many"))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert!(entry.metadata().unwrap().is_dir());
                entry.file_name().into_string().unwrap()
            })
            .collect();
        let set: BTreeSet<String> = names.iter().cloned().collect();
        assert_eq!((names.len(), set), (MANY, (0..MANY).map(name).collect()));
        // Made by several programs, and removed while they are listed, as `rm -r` does.
        fs::create_dir(dir.join("some")).unwrap();
        std::thread::scope(|scope| {
            for part in 0..8 {
                let dir = &dir;
                scope.spawn(move || {
                    for number in (part..SOME).step_by(8) {
                        File::create(dir.join("some").join(name(number))).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(dir.join("some")).unwrap().count(), SOME);
        for entry in fs::read_dir(dir.join("some")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        fs::remove_dir(dir.join("some")).unwrap();
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attributes_are_set_and_kept_also_when_the_content_changes() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let path = dir.join("f");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"0123456789").unwrap();
        let times = |s| FileTimes::new().set_modified(UNIX_EPOCH + Duration::new(s, 123_456_789));
        // As `cp -p` and `tar` do: before the descriptor is closed.
        file.set_times(times(1_000_000_000)).unwrap();
        drop(file);
        let found = |what: &str| {
            let meta = fs::metadata(&path).unwrap();
            (meta.mtime(), meta.mtime_nsec(), meta.mode() & 0o7777, meta.uid(), meta.gid(), what.to_owned())
        };
        let (mtime, nsec, ..) = found("");
        assert_eq!((mtime, nsec), (1_000_000_000, 123_456_789));
        fs::set_permissions(&path, Permissions::from_mode(0o4751)).unwrap();
        std::os::unix::fs::chown(&path, Some(12_345), Some(54_321)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o4751)).unwrap();
        set_xattr(&path, "user.colour", b"blue");
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"X", 4).unwrap();
        file.set_times(times(1_111_111_111)).unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"0123X56789");
        let wanted = (1_111_111_111, 123_456_789, 0o4751, 12_345, 54_321, "replaced".to_owned());
        assert_eq!(found("replaced"), wanted);
        assert_eq!(xattr(&path, "user.colour").unwrap(), b"blue");
        assert_eq!(xattr(&path, "user.size").unwrap_err().raw_os_error(), Some(libc::ENODATA));
        let space = base::mounts::mounted_at(dir.canonicalize().unwrap().parent().unwrap()).unwrap().unwrap();
        assert_eq!(space.kind, fuse_mount::KIND);
    })
    .await;
    place.end().await;
}

fn set_xattr(path: &std::path::Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn xattr(path: &std::path::Path, name: &str) -> std::io::Result<Vec<u8>> {
    let mut value = vec![0; 100];
    let len = rustix::fs::getxattr(path, name, &mut value[..])?;
    value.truncate(len);
    Ok(value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn n_4_names_are_exchanged_also_those_of_a_file_and_a_directory() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/in"), b"below").unwrap();
        fs::write(dir.join("f"), b"file").unwrap();
        let exchange =
            |from: &str, to: &str| renameat_with(CWD, dir.join(from), CWD, dir.join(to), RenameFlags::EXCHANGE);
        for _ in 0..2 {
            exchange("d", "f").unwrap();
            assert_eq!(fs::read(dir.join("d")).unwrap(), b"file");
            assert_eq!(fs::read(dir.join("f/in")).unwrap(), b"below");
            exchange("f", "d").unwrap();
            assert_eq!(fs::read(dir.join("d/in")).unwrap(), b"below");
        }
        let onto = |to: &str| renameat_with(CWD, dir.join("f"), CWD, dir.join(to), RenameFlags::NOREPLACE);
        assert_eq!(onto("d").unwrap_err(), rustix::io::Errno::EXIST);
        onto("g").unwrap();
        fs::rename(dir.join("g"), dir.join("f")).unwrap();
        assert_eq!(exchange("f", "none").unwrap_err(), rustix::io::Errno::NOENT);
        assert_eq!(exchange("d", "d/in").unwrap_err(), rustix::io::Errno::INVAL);
    })
    .await;
    place.end().await;
}

/// Of nobody here.
const STRANGER: u32 = 12_345;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_may_not_change_a_file_does_not_change_it_while_others_do() {
    let Some(mut place) = Place::with(0).await else { return };
    let config = config(place.cluster.uri(), Duration::from_secs(30));
    place.mounts.push(mount(MountConfig { allow_other: true, cache_bytes: 64 << 10, ..config }).await);
    let dir = place.dir(0);
    by_program(move || {
        let path = dir.join("f");
        fs::write(&path, b"0123456789").unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        file.write_all_at(b"X", 3).unwrap();
        as_user(STRANGER, || {
            let emptied = OpenOptions::new().read(true).custom_flags(libc::O_TRUNC).open(&path);
            assert_eq!(emptied.unwrap_err().raw_os_error(), Some(libc::EACCES));
            let read = File::open(&path).unwrap();
            let set = read.set_times(FileTimes::new().set_modified(UNIX_EPOCH));
            assert_eq!(set.unwrap_err().raw_os_error(), Some(libc::EPERM));
        });
        file.sync_all().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"012X456789");
        assert_ne!(fs::metadata(&path).unwrap().mtime(), 0);
        // Without a name, by its descriptor.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(&path).unwrap();
        let by_descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        as_user(STRANGER, || {
            assert_eq!(File::open(&by_descriptor).unwrap_err().raw_os_error(), Some(libc::EACCES));
        });
        assert_eq!(fs::read(&by_descriptor).unwrap(), b"012X456789");
        // More than there is room for: whoever may not remove it is told so, before anything of it is fetched.
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/large"), vec![1; 100_000]).unwrap();
        let large = File::open(dir.join("d/large")).unwrap();
        let removed = as_user(STRANGER, || fs::remove_file(dir.join("d/large")));
        assert_eq!(removed.unwrap_err().raw_os_error(), Some(libc::EACCES));
        assert_eq!(fs::remove_file(dir.join("d/large")).unwrap_err().raw_os_error(), Some(libc::EBUSY));
        drop(large);
    })
    .await;
    place.end().await;
}

/// Programs that remove what they list, while others list it, too, and make more: each name is given once, and nobody misses one
/// that was there all the time.
fn remove_while_others_list(dir: &Path) {
    let name = |number: usize| format!("{}{number:04}", "a-long-name".repeat(18));
    (0..500).for_each(|number| drop(File::create(dir.join(name(number))).unwrap()));
    let list = || -> BTreeSet<String> {
        let names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let set: BTreeSet<_> = names.iter().cloned().collect();
        assert_eq!(names.len(), set.len(), "each of them once");
        set
    };
    let mut there: BTreeSet<_> = (0..500).map(name).collect();
    // The third time the kernel has kept it.
    (0..3).for_each(|_| assert!(list() == there));
    let mut slow = fs::read_dir(dir).unwrap();
    let mut seen: Vec<String> = Vec::new();
    for round in 0..10 {
        for entry in slow.by_ref().take(30) {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if seen.len().is_multiple_of(2) {
                fs::remove_file(dir.join(&name)).unwrap();
                there.remove(&name);
            }
            seen.push(name);
        }
        let new = format!("new{round}");
        File::create(dir.join(&new)).unwrap();
        there.insert(new);
        assert!(list() == there, "round {round}");
    }
    seen.extend(slow.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
    let set: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(set.len(), seen.len(), "each of them once");
    assert!((0..500).map(name).all(|name| set.contains(&name)), "none was missed");
    for name in list() {
        fs::remove_file(dir.join(name)).unwrap();
    }
    fs::remove_dir(dir).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn listings_that_the_kernel_keeps_are_what_programs_have_left_there() {
    let Some(mut place) = Place::with(1).await else { return };
    let paged = MountConfig { max_whole_names: 100, ..config(place.cluster.uri(), Duration::from_secs(30)) };
    place.mounts.push(mount(paged).await);
    let (whole, pages) = (place.dir(0).join("whole"), place.dir(1).join("pages"));
    by_program(move || {
        for dir in [whole, pages] {
            fs::create_dir(&dir).unwrap();
            remove_while_others_list(&dir);
        }
    })
    .await;
    place.end().await;
}

/// A second later at most another mount's names are here, and those that it took away are not, also where the kernel has
/// been told that there is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn v_5_names_and_attributes_of_another_mount_are_seen_a_second_later() {
    let Some(place) = Place::with(2).await else { return };
    let (here, there) = (place.dir(0), place.dir(1));
    by_program(move || {
        let lists = |name: &str| fs::read_dir(&here).unwrap().any(|entry| entry.unwrap().file_name() == name);
        for round in 0..2 {
            let name = format!("f{round}");
            (0..3).for_each(|_| assert!(!lists(&name) && !here.join(&name).exists()));
            File::create(there.join(&name)).unwrap();
            let begun = std::time::Instant::now();
            while !(lists(&name) && here.join(&name).exists()) {
                assert!(begun.elapsed() < Duration::from_secs(3), "it is not there");
            }
            // Attributes, too.
            fs::write(there.join(&name), b"written there").unwrap();
            fs::set_permissions(there.join(&name), Permissions::from_mode(0o612)).unwrap();
            let begun = std::time::Instant::now();
            let seen = || fs::metadata(here.join(&name)).map(|info| (info.len(), info.mode() & 0o7777)).unwrap();
            while seen() != (13, 0o612) {
                assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", seen());
            }
            assert_eq!(fs::read(here.join(&name)).unwrap(), b"written there");
            fs::remove_file(there.join(&name)).unwrap();
            let begun = std::time::Instant::now();
            while lists(&name) || here.join(&name).exists() {
                assert!(begun.elapsed() < Duration::from_secs(3), "it is there");
            }
        }
    })
    .await;
    place.end().await;
}
