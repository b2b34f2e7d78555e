//! What the cluster knows of a name, as the kernel wants it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{FileKind, FileStatus};
use fuser::{FileAttr, FileType, INodeNo};

use crate::people::People;
use crate::spelling::read;

/// Unit of [`FileAttr::blocks`] in bytes.
const SECTOR_BYTES: u64 = 512;
/// What programs are told is a good size of a request, in bytes.
const GOOD_REQUEST_BYTES: u32 = 1 << 20;
/// What programs are told that a directory is long, in bytes.
const DIRECTORY_BYTES: u64 = 4096;

/// Kind of a name.
#[must_use]
pub(crate) fn kind(status: &FileStatus) -> FileType {
    match status.kind() {
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharacterDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::File | FileKind::Unspecified => FileType::RegularFile,
    }
}

/// What `mknod` is to make, unless that is a file.
#[must_use]
pub(crate) const fn node_kind(mode: u32) -> Option<FileKind> {
    match mode & libc::S_IFMT {
        libc::S_IFIFO => Some(FileKind::Fifo),
        libc::S_IFSOCK => Some(FileKind::Socket),
        libc::S_IFCHR => Some(FileKind::CharacterDevice),
        libc::S_IFBLK => Some(FileKind::BlockDevice),
        _ => None,
    }
}

/// Attributes of a name, under the number that the kernel knows.
#[must_use]
pub(crate) fn attr(inode: u64, status: &FileStatus, people: &People) -> FileAttr {
    let kind = kind(status);
    let size = match kind {
        FileType::Directory => DIRECTORY_BYTES,
        // As programs gave it.
        FileType::Symlink => read(&status.symlink_target).len() as u64,
        _ => status.len_bytes,
    };
    FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: size.div_ceil(SECTOR_BYTES),
        atime: time(status.atime_ns),
        mtime: time(status.mtime_ns),
        ctime: time(status.ctime_ns),
        crtime: UNIX_EPOCH,
        kind,
        perm: (status.mode & 0o7777) as u16,
        // As elsewhere: the name of a directory, its `.`, and the `..` of each one in it.
        nlink: if kind == FileType::Directory { status.subdirectories.saturating_add(2) } else { status.nlink.max(1) },
        uid: people.uid(&status.owner),
        gid: people.gid(&status.group),
        rdev: status.device,
        blksize: GOOD_REQUEST_BYTES,
        flags: 0,
    }
}

/// A name that is not there, of which the kernel may remember that: it has no number.
#[must_use]
pub(crate) fn nothing() -> FileAttr {
    attr(0, &FileStatus::default(), &People::default())
}

/// A time of the cluster.
#[must_use]
fn time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    let time = if ns < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// A time that the kernel gave, in ns since the Unix epoch; the nearest that fits.
///
/// The kernel says whole seconds, rounded down, and ns above them. fuser 0.18 adds the ns to the wrong side of times before
/// the epoch (`system_time_from_time`): here they come back to theirs.
#[must_use]
pub(crate) fn given_ns(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => {
            let (seconds, above) = (before.duration().as_secs(), before.duration().subsec_nanos());
            let seconds_ns = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000_000_000));
            seconds_ns.map_or(i64::MIN, |ns| i64::from(above) - ns)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_also_from_before_1970() {
        for at in [0, 1, 1_700_000_000_123_456_789, -86_400_000_000_000, i64::MAX] {
            assert_eq!(given_ns(time(at)), at);
        }
        // As fuser gives what the kernel said: 2 seconds before, and 3 ns after that.
        assert_eq!(given_ns(UNIX_EPOCH - Duration::new(2, 3)), -1_999_999_997);
        assert_eq!(time(-1_999_999_997), UNIX_EPOCH - Duration::new(1, 999_999_997));
    }

    #[test]
    fn a_file_is_shown_as_it_is() {
        let status = FileStatus {
            kind: FileKind::File as i32,
            len_bytes: 1025,
            mode: 0o104_755,
            owner: "uid12".into(),
            group: "gid13".into(),
            nlink: 2,
            ..FileStatus::default()
        };
        let attr = attr(16_400, &status, &People::default());
        assert_eq!((attr.ino, attr.size, attr.blocks, attr.perm), (INodeNo(16_400), 1025, 3, 0o4755));
        assert_eq!((attr.kind, attr.nlink, attr.uid, attr.gid), (FileType::RegularFile, 2, 12, 13));
    }
}
