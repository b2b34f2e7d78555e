//! Access times: noted when files are opened, logged some at a time. Best effort, as in HDFS: they are coarse, and those
//! noted since the last entry are lost with the leader.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use proto::log::SetAccessTimes;
use proto::namespace as n;

use crate::service::request::Request;

/// Files that are remembered; further ones are forgotten until the next entry.
const MAX_NOTED: usize = 16_384;
/// Files in one entry.
const MAX_PER_ENTRY: usize = 1000;

/// Files that were opened since the last entry, and when.
#[derive(Debug, Default)]
pub(super) struct Accesses(Mutex<BTreeMap<u64, i64>>);

impl Accesses {
    /// Notes that a file was opened, if its access time is old enough to be worth an entry. What a snapshot shows is not
    /// touched.
    pub(super) fn note(&self, request: &Request, status: &n::FileStatus, (wall_ns, precision_ms): (i64, u64)) {
        let Request::Open(request) = request else { return };
        let old_ns = i64::try_from(precision_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        let old = precision_ms > 0 && wall_ns.saturating_sub(status.atime_ns) >= old_ns;
        if !old || request.path.contains("/.snapshot/") {
            return;
        }
        let mut noted = self.0.lock();
        if noted.len() < MAX_NOTED {
            noted.insert(status.inode, wall_ns);
        }
    }

    /// The next entry, if there is something to log.
    pub(super) fn take(&self) -> Option<SetAccessTimes> {
        let mut noted = self.0.lock();
        let mut set = SetAccessTimes::default();
        while let Some((inode, atime_ns)) = noted.pop_first() {
            set.inodes.push(inode);
            set.atime_ns.push(atime_ns);
            if set.inodes.len() >= MAX_PER_ENTRY {
                break;
            }
        }
        (!set.inodes.is_empty()).then_some(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_access_times_are_noted_once_and_logged_together() {
        let accesses = Accesses::default();
        let open = |path: &str| Request::Open(n::OpenRequest { path: path.into(), ..Default::default() });
        let opened = |inode, atime_ns| n::FileStatus { inode, atime_ns, ..Default::default() };
        let now_ns = 10_000_000_000;
        accesses.note(&open("/a"), &opened(7, 0), (now_ns, 5000));
        accesses.note(&open("/a"), &opened(7, 0), (now_ns + 1, 5000));
        accesses.note(&open("/b"), &opened(8, now_ns - 1), (now_ns, 5000));
        accesses.note(&open("/d/.snapshot/s/c"), &opened(9, 0), (now_ns, 5000));
        accesses.note(&open("/e"), &opened(10, 0), (now_ns, 0));
        let set = accesses.take().unwrap();
        assert_eq!((set.inodes, set.atime_ns), (vec![7], vec![now_ns + 1]));
        assert!(accesses.take().is_none());
        for inode in 0..2 * MAX_NOTED as u64 {
            accesses.note(&open("/a"), &opened(inode, 0), (now_ns, 1));
        }
        let entries = std::iter::from_fn(|| accesses.take()).map(|set| set.inodes.len());
        assert_eq!(entries.sum::<usize>(), MAX_NOTED, "bounded");
    }
}
