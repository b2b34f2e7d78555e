//! Names and what they have beside content.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, UNIX_EPOCH};

use crate::place::{Place, by_program};

/// More than several pages of the namenode, and of the kernel.
const MANY: usize = 2500;

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
async fn thousands_of_names_are_listed_once_each() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        fs::create_dir(dir.join("many")).unwrap();
        let name = |number: usize| format!("a-name-of-some-length-{number:06}");
        std::thread::scope(|scope| {
            for part in 0..8 {
                let (dir, name) = (&dir, &name);
                scope.spawn(move || {
                    for number in (part..MANY).step_by(8) {
                        File::create(dir.join("many").join(name(number))).unwrap();
                    }
                });
            }
        });
        let listed = || -> Vec<String> {
            let entries = fs::read_dir(dir.join("many")).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let names = listed();
        let set: BTreeSet<String> = names.iter().cloned().collect();
        assert_eq!((names.len(), set), (MANY, (0..MANY).map(name).collect()));
        for entry in fs::read_dir(dir.join("many")).unwrap() {
            assert!(entry.unwrap().metadata().unwrap().is_file());
        }
        // Removed while it is listed, as `rm -r` does.
        for entry in fs::read_dir(dir.join("many")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        assert!(listed().is_empty());
        fs::remove_dir(dir.join("many")).unwrap();
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
