//! Who writes what, in steps: superusers see all open files, others their own.

use base::clock::Moment;
use proto::error::FsResult;
use proto::ids::InodeId;
use proto::log::CallerRecord;
use proto::namespace as n;
use proto::path::FsPath;

use super::View;
use crate::namespace::{LeaseView, Namespace};

/// Files in an answer, if the client names no limit, and at most.
const PAGE: usize = 1000;

/// One page.
#[derive(Debug)]
pub(super) struct LeaseRead {
    /// Files of this tree only.
    tree: Option<FsPath>,
    after: Option<InodeId>,
    limit: usize,
    now: Moment,
    found: Vec<n::LeaseStatus>,
    more: bool,
}

impl LeaseRead {
    /// # Errors
    /// `InvalidPath`.
    pub(super) fn new(r: &n::ListLeasesRequest, now: Moment) -> FsResult<Self> {
        let tree = if r.path.is_empty() { None } else { Some(FsPath::parse(&r.path)?) };
        let after = (r.start_after > 0).then(|| InodeId::from_raw(r.start_after));
        let limit = if r.limit == 0 { PAGE } else { (r.limit as usize).min(PAGE) };
        Ok(Self { tree, after, limit, now, found: Vec::new(), more: false })
    }

    /// Looks at up to `left` open files. True: the page is full, or there are no more.
    pub(super) fn step(&mut self, view: &View<'_>, who: &CallerRecord, left: &mut usize) -> bool {
        let all = view.namespace.is_superuser(who);
        let open = view.namespace.open_files_after(self.after, *left);
        let last = open.len() < *left;
        *left -= open.len();
        for lease in open {
            let Some(file) = view.namespace.lease(lease.inode) else { continue };
            if (all || file.owner == who.user) && self.is_wanted(&file.path) {
                if self.found.len() == self.limit {
                    self.more = true;
                    return true;
                }
                self.found.push(status(view, file, self.now));
            }
            self.after = Some(lease.inode);
        }
        last
    }

    fn is_wanted(&self, path: &str) -> bool {
        let Some(tree) = &self.tree else { return true };
        let below = |rest: &str| rest.is_empty() || rest.starts_with('/') || tree.as_str() == "/";
        path.strip_prefix(tree.as_str()).is_some_and(below)
    }

    pub(super) fn answer(self) -> n::ListLeasesResponse {
        n::ListLeasesResponse { leases: self.found, more: self.more }
    }
}

fn status(view: &View<'_>, file: LeaseView, now: Moment) -> n::LeaseStatus {
    let LeaseView { lease, path, owner, len_bytes, .. } = file;
    let silence = lease.session.map(|session| view.leases.read().silence(session, now));
    let recovering = lease.recovery.is_some() || view.blocks.is_recovering(lease.inode);
    n::LeaseStatus {
        inode: lease.inode.raw(),
        path,
        owner,
        holder: lease.session.map(Namespace::session_for_people).unwrap_or_default(),
        silent_ms: silence.map_or(0, |silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)),
        published: !lease.unpublished,
        recovering,
        waits_for: if recovering { waits_for(view, lease.inode, now) } else { String::new() },
        len_bytes,
    }
}

fn waits_for(view: &View<'_>, inode: InodeId, now: Moment) -> String {
    let text = view.blocks.recovery_waits_for(inode, now);
    if text.is_empty() { "the leader to take it up".to_owned() } else { text }
}
