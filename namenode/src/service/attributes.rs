//! Changes beside the data of files become commands: nothing has to be chosen or proven for them.

use base::calendar::DateTime;
use proto::log::command::Op;
use proto::log::{self, AclEntry};
use proto::namespace as n;

use super::request::Request;

/// The paths that a request names: what it is about, and what comes of it.
pub(crate) const fn paths(request: &Request) -> [Option<&String>; 2] {
    match request {
        Request::SetAttributes(r) => [Some(&r.path), None],
        Request::Symlink(r) => [Some(&r.path), None],
        Request::MakeNode(r) => [Some(&r.path), None],
        Request::Link(r) => [Some(&r.existing), Some(&r.path)],
        Request::ContentSummary(r) => [Some(&r.path), None],
        Request::SetQuota(r) => [Some(&r.path), None],
        Request::SetXattr(r) => [Some(&r.path), None],
        Request::GetXattrs(r) => [Some(&r.path), None],
        Request::RemoveXattr(r) => [Some(&r.path), None],
        Request::ChangeAcl(r) => [Some(&r.path), None],
        Request::GetAcl(r) => [Some(&r.path), None],
        Request::Concat(r) => [Some(&r.target), None],
        Request::CheckAccess(r) => [Some(&r.path), None],
        Request::AllowSnapshots(r) => [Some(&r.path), None],
        Request::CreateSnapshot(r) => [Some(&r.path), None],
        Request::RenameSnapshot(r) => [Some(&r.path), None],
        Request::DeleteSnapshot(r) => [Some(&r.path), None],
        Request::ListSnapshots(r) if !r.path.is_empty() => [Some(&r.path), None],
        Request::DiffSnapshots(r) => [Some(&r.path), None],
        Request::Fsck(r) => [Some(&r.path), None],
        Request::Append(r) => [Some(&r.path), None],
        Request::Truncate(r) => [Some(&r.path), r.tail.as_ref()],
        Request::RecoverLease(r) => [Some(&r.path), None],
        Request::ListLeases(r) if !r.path.is_empty() => [Some(&r.path), None],
        _ => [None, None],
    }
}

/// The command of a request; `None` for requests of other kinds.
pub(super) fn command(request: &Request, wall_ns: i64) -> Option<Op> {
    Some(match request {
        Request::SetAttributes(r) => Op::SetAttributes(log::SetAttributes {
            path: r.path.clone(),
            mode: r.mode,
            owner: r.owner.clone(),
            group: r.group.clone(),
            mtime_ns: r.mtime_ns,
            atime_ns: r.atime_ns,
            replication: r.replication,
            no_follow: r.no_follow,
            mtime_now: r.mtime_now,
            atime_now: r.atime_now,
        }),
        Request::Symlink(r) => {
            Op::Symlink(log::Symlink { path: r.path.clone(), target: r.target.clone(), parents: r.parents })
        }
        Request::MakeNode(r) => Op::MakeNode(log::MakeNode {
            path: r.path.clone(),
            kind: u32::try_from(r.kind).unwrap_or_default(),
            mode: r.mode,
            unmasked_mode: r.unmasked_mode,
            device: r.device,
        }),
        Request::Link(r) => Op::Link(log::Link { existing: r.existing.clone(), path: r.path.clone() }),
        Request::SetQuota(r) => Op::SetQuota(log::SetQuota {
            path: r.path.clone(),
            name_quota: r.name_quota,
            space_quota_bytes: r.space_quota_bytes,
            clear_names: r.clear_names,
            clear_space: r.clear_space,
        }),
        Request::SetXattr(r) => {
            let xattr = r.xattr.clone().unwrap_or_default();
            let (create, replace, no_follow) = (r.create, r.replace, r.no_follow);
            let (path, name, value) = (r.path.clone(), xattr.name, xattr.value);
            Op::SetXattr(log::SetXattr { path, name, value, create, replace, no_follow })
        }
        Request::RemoveXattr(r) => {
            Op::RemoveXattr(log::RemoveXattr { path: r.path.clone(), name: r.name.clone(), no_follow: r.no_follow })
        }
        Request::ChangeAcl(r) => Op::ChangeAcl(change_acl(r)),
        Request::Concat(r) => Op::Concat(log::Concat { target: r.target.clone(), sources: r.sources.clone() }),
        Request::AllowSnapshots(r) => Op::AllowSnapshots(log::AllowSnapshots { path: r.path.clone(), allow: r.allow }),
        Request::CreateSnapshot(r) => {
            let name = if r.name.is_empty() { name_of_now(wall_ns) } else { r.name.clone() };
            Op::CreateSnapshot(log::CreateSnapshot { path: r.path.clone(), name })
        }
        Request::RenameSnapshot(r) => {
            let (path, from, to) = (r.path.clone(), r.from.clone(), r.to.clone());
            Op::RenameSnapshot(log::RenameSnapshot { path, from, to })
        }
        Request::DeleteSnapshot(r) => {
            Op::DeleteSnapshot(log::DeleteSnapshot { path: r.path.clone(), name: r.name.clone() })
        }
        _ => return None,
    })
}

fn change_acl(r: &n::ChangeAclRequest) -> log::ChangeAcl {
    let entry = |entry: &n::AclEntry| AclEntry {
        scope: entry.scope.cast_unsigned(),
        tag: entry.tag.cast_unsigned(),
        name: entry.name.clone(),
        rights: entry.rights,
    };
    let entries = r.entries.iter().map(entry).collect();
    log::ChangeAcl { path: r.path.clone(), change: r.change.cast_unsigned(), entries }
}

/// Name of a snapshot that nobody named, in HDFS's form: `s20261122-094121.432`.
fn name_of_now(wall_ns: i64) -> String {
    let t = DateTime::of_unix_ns(wall_ns);
    let date = format!("{:04}{:02}{:02}", t.year, t.month, t.day);
    format!("s{date}-{:02}{:02}{:02}.{:03}", t.hour, t.minute, t.second, t.millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unnamed_snapshots_are_called_as_in_hdfs() {
        assert_eq!(name_of_now(1_795_339_719_515_000_000), "s20261122-092839.515");
    }
}
