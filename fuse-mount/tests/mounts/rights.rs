//! Who may do what, and kinds of names beside files and directories: as ext4 answers.

use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use fuse_mount::MountConfig;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::place::{Place, as_user, by_program, config, mount};

/// Of nobody here.
const STRANGER: u32 = 12_345;

/// A mount for all users, with little room for changed copies.
async fn shared() -> Option<Place> {
    let mut place = Place::with(0).await?;
    let config = config(place.cluster.uri(), Duration::from_secs(30));
    place.mounts.push(mount(MountConfig { allow_other: true, cache_bytes: 64 << 10, ..config }).await);
    Some(place)
}

fn refused<T: std::fmt::Debug>(tried: std::io::Result<T>) -> Option<i32> {
    tried.unwrap_err().raw_os_error()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pipes_sockets_and_devices_are_names_like_others() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let make = |name: &str, kind, device| mknodat(CWD, dir.join(name), kind, Mode::from(0o640), device);
        make("pipe", FileType::Fifo, 0).unwrap();
        make("device", FileType::CharacterDevice, makedev(5, 300)).unwrap();
        make("disk", FileType::BlockDevice, makedev(8, 1)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        let kind = |name: &str| fs::symlink_metadata(dir.join(name)).unwrap();
        assert!(kind("pipe").file_type().is_fifo() && kind("socket").file_type().is_socket());
        assert!(kind("device").file_type().is_char_device() && kind("disk").file_type().is_block_device());
        assert_eq!((kind("device").rdev(), kind("disk").rdev()), (makedev(5, 300), makedev(8, 1)));
        assert_eq!((kind("pipe").mode() & 0o7777, kind("pipe").len(), kind("pipe").nlink()), (0o640, 0, 1));
        assert_eq!(make("pipe", FileType::Fifo, 0).unwrap_err(), rustix::io::Errno::EXIST);
        // What goes through a pipe goes through this machine's kernel.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                OpenOptions::new().write(true).open(dir.join("pipe")).unwrap().write_all(b"through").unwrap()
            });
            let mut text = String::new();
            File::open(dir.join("pipe")).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "through");
        });
        fs::hard_link(dir.join("pipe"), dir.join("further")).unwrap();
        fs::rename(dir.join("pipe"), dir.join("disk")).unwrap();
        assert_eq!(kind("disk").nlink(), 2);
        for name in ["further", "disk", "device", "socket"] {
            fs::remove_file(dir.join(name)).unwrap();
        }
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_owners_set_other_times_than_now_and_setgid_is_for_members() {
    let Some(place) = shared().await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let file = File::create(dir.join("f")).unwrap();
        fs::set_permissions(dir.join("f"), Permissions::from_mode(0o666)).unwrap();
        as_user(STRANGER, || {
            let file = OpenOptions::new().write(true).open(dir.join("f")).unwrap();
            let times = FileTimes::new().set_modified(UNIX_EPOCH);
            assert_eq!(refused(file.set_times(times)), Some(libc::EPERM));
            // "Now" is for all who may write.
            rustix::fs::utimensat(CWD, dir.join("f"), &NOW, rustix::fs::AtFlags::empty()).unwrap();
        });
        drop(file);
        let setgid = |gid| {
            chown(dir.join("f"), Some(STRANGER), Some(gid)).unwrap();
            as_user(STRANGER, || fs::set_permissions(dir.join("f"), Permissions::from_mode(0o2755)).unwrap());
            fs::metadata(dir.join("f")).unwrap().mode() & 0o7777
        };
        // The thread is of root's group still.
        assert_eq!((setgid(0), setgid(54_321)), (0o2755, 0o755));
        fs::create_dir(dir.join("d")).unwrap();
        fs::set_permissions(dir.join("d"), Permissions::from_mode(0o2775)).unwrap();
        fs::create_dir(dir.join("d/e")).unwrap();
        assert_eq!(fs::metadata(dir.join("d/e")).unwrap().mode() & 0o7000, 0o2000);
    })
    .await;
    place.end().await;
}

/// Both times.
const NOW: rustix::fs::Timestamps = {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::Timestamps { last_access: now, last_modification: now }
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_sticky_directory_nothing_is_fetched_for_who_may_not_remove_it() {
    let Some(place) = shared().await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let sticky = dir.join("sticky");
        fs::create_dir(&sticky).unwrap();
        fs::set_permissions(&sticky, Permissions::from_mode(0o1777)).unwrap();
        // More than there is room for: whoever may remove it is told that it is in use.
        fs::write(sticky.join("large"), vec![1; 100_000]).unwrap();
        fs::write(sticky.join("small"), b"x").unwrap();
        let open = File::open(sticky.join("large")).unwrap();
        let remove = |path: &Path| fs::remove_file(path);
        as_user(STRANGER, || {
            fs::write(sticky.join("own"), b"x").unwrap();
            assert_eq!(refused(remove(&sticky.join("large"))), Some(libc::EPERM));
            assert_eq!(refused(fs::rename(sticky.join("own"), sticky.join("large"))), Some(libc::EPERM));
            assert_eq!(refused(remove(&sticky.join("small"))), Some(libc::EPERM));
            let own = File::open(sticky.join("own")).unwrap();
            remove(&sticky.join("own")).unwrap();
            drop(own);
        });
        assert_eq!(refused(remove(&sticky.join("large"))), Some(libc::EBUSY));
        drop(open);
    })
    .await;
    place.end().await;
}

/// An ACL as the kernel lays it out: tag, rights, number.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let entry = |(tag, rights, number): &(u16, u16, u32)| {
        tag.to_le_bytes().into_iter().chain(rights.to_le_bytes()).chain(number.to_le_bytes()).collect::<Vec<u8>>()
    };
    2_u32.to_le_bytes().into_iter().chain(entries.iter().flat_map(entry)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn acls_are_attributes_and_count() {
    use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};
    const ACCESS: &str = "system.posix_acl_access";
    const DEFAULT: &str = "system.posix_acl_default";
    const NONE: u32 = u32::MAX;
    let Some(place) = shared().await else { return };
    let dir = place.dir(0);
    by_program(move || {
        let get = |path: &Path, name: &str| {
            let mut value = vec![0; 200];
            let len = getxattr(path, name, &mut value[..])?;
            value.truncate(len);
            Ok::<_, rustix::io::Errno>(value)
        };
        let (file, folder) = (dir.join("f"), dir.join("d"));
        fs::write(&file, b"secret").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(get(&file, ACCESS), Err(rustix::io::Errno::NODATA));
        assert_eq!(as_user(STRANGER, || refused(fs::read(&file))), Some(libc::EACCES));
        let wanted = acl(&[(1, 6, NONE), (2, 4, STRANGER), (4, 0, NONE), (0x10, 4, NONE), (0x20, 0, NONE)]);
        setxattr(&file, ACCESS, &wanted, XattrFlags::empty()).unwrap();
        assert_eq!(get(&file, ACCESS).unwrap(), wanted);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640, "the mask");
        assert_eq!(as_user(STRANGER, || fs::read(&file).unwrap()), b"secret");
        let others = as_user(STRANGER, || setxattr(&file, ACCESS, &wanted, XattrFlags::empty()).unwrap_err());
        assert_eq!(others, rustix::io::Errno::PERM);
        removexattr(&file, ACCESS).unwrap();
        assert_eq!(
            (get(&file, ACCESS), fs::metadata(&file).unwrap().mode() & 0o777),
            (Err(rustix::io::Errno::NODATA), 0o640)
        );
        assert_eq!(as_user(STRANGER, || refused(fs::read(&file))), Some(libc::EACCES));
        // Of a directory, for what will be made in it.
        fs::create_dir(&folder).unwrap();
        setxattr(&folder, DEFAULT, &wanted, XattrFlags::empty()).unwrap();
        assert_eq!(get(&folder, DEFAULT).unwrap(), wanted);
        fs::write(folder.join("g"), b"x").unwrap();
        assert_eq!(get(&folder.join("g"), ACCESS).unwrap(), wanted);
        removexattr(&folder, DEFAULT).unwrap();
        assert_eq!(get(&folder, DEFAULT), Err(rustix::io::Errno::NODATA));
    })
    .await;
    place.end().await;
}
