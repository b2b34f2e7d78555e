//! What is mounted where on this machine, and taking it away. Nothing here looks into a mounted file system, so nothing
//! waits for one that does not answer. Calls block.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;

/// A line of the table of mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedAt {
    /// Where.
    pub target: PathBuf,
    /// `fuse`, `ext4`, …
    pub kind: String,
    /// What was mounted, in its own words.
    pub source: String,
    /// Its device, `MAJOR:MINOR`.
    pub device: String,
}

/// How something is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// Only if nobody uses it (`EBUSY`).
    Idle,
    /// From the tree at once; who uses it goes on, and it ends with the last of them.
    Detach,
    /// At once, with an error for everything that is under way.
    Abort,
}

/// The table of mounts, in the order in which they were made.
///
/// # Errors
/// The system's; systems without `/proc` have none.
pub fn mounts() -> io::Result<Vec<MountedAt>> {
    Ok(parse(&fs::read_to_string("/proc/self/mountinfo")?))
}

/// What is mounted at exactly this path, the topmost; its path must be absolute and without links.
///
/// # Errors
/// As [`mounts`].
pub fn mounted_at(target: &Path) -> io::Result<Option<MountedAt>> {
    Ok(mounts()?.into_iter().rev().find(|mount| mount.target == target))
}

/// Takes away what is mounted at a path.
///
/// # Errors
/// The system's.
pub fn unmount(target: &Path, how: Unmount) -> io::Result<()> {
    let flags = match how {
        Unmount::Idle => UnmountFlags::NOFOLLOW,
        Unmount::Detach => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
        Unmount::Abort => UnmountFlags::NOFOLLOW | UnmountFlags::FORCE | UnmountFlags::DETACH,
    };
    Ok(rustix::mount::unmount(target, flags)?)
}

/// How far the kernel reads ahead of programs on a device, `MAJOR:MINOR`, in KiB. Needs root.
///
/// # Errors
/// The system's.
pub fn set_read_ahead(device: &str, kib: u32) -> io::Result<()> {
    fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), kib.to_string())
}

/// `ID PARENT MAJOR:MINOR ROOT TARGET OPTIONS [TAGS…] - KIND SOURCE SUPER`
fn parse(table: &str) -> Vec<MountedAt> {
    let line = |line: &str| {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(2);
        let (device, target) = (place.next()?, place.nth(1)?);
        let mut what = what.split(' ');
        let (kind, source) = (what.next()?, what.next()?);
        let (target, source) = (PathBuf::from(plain(target)), plain(source));
        Some(MountedAt { target, kind: kind.to_owned(), source, device: device.to_owned() })
    };
    table.lines().filter_map(line).collect()
}

/// Without the escapes of the table: `\040` is a space.
fn plain(word: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(word.to_owned(), |word, (escape, meant)| word.replace(escape, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            40 22 0:41 / /mnt/a\\040b rw,nosuid - fuse.blockyard blockyard://h:1 rw,user_id=0\nnonsense\n";
        let mounts = parse(table);
        assert_eq!(mounts.len(), 2);
        let at = |n: usize| (mounts[n].target.to_str().unwrap(), mounts[n].kind.as_str(), mounts[n].device.as_str());
        assert_eq!(at(0), ("/", "ext4", "254:0"));
        assert_eq!(at(1), ("/mnt/a b", "fuse.blockyard", "0:41"));
        assert_eq!(mounts[1].source, "blockyard://h:1");
    }

    #[test]
    fn this_machine_has_a_root_and_a_folder_is_no_mount() {
        assert!(mounted_at(Path::new("/")).unwrap().is_some());
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(mounted_at(dir.path()).unwrap(), None);
        assert!(unmount(dir.path(), Unmount::Idle).is_err());
    }
}
