//! Limits of directories.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::SetQuota;
use proto::path::FsPath;

use crate::namespace::resolve::Last;
use crate::namespace::store::Quota;
use crate::namespace::{Call, Namespace, Outcome, registry};

impl Namespace {
    /// For superusers. A limit below what is there already is allowed: it refuses growth.
    pub(in crate::namespace) fn set_quota(&mut self, call: &Call<'_>, set: &SetQuota) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&set.path)?;
        who.need_superuser("set quotas")?;
        let slot = self.find(&who, &path, Last::Follow)?;
        if !self.store.inode(slot).is_dir() {
            return Err(FsError::new(ErrorCode::NotADirectory, "only directories have quotas").with_path(path.as_str()));
        }
        let limits = [("names", set.name_quota, set.clear_names), ("space", set.space_quota_bytes, set.clear_space)];
        for (what, limit, clear) in limits {
            if limit.is_some() && clear {
                return Err(registry::invalid(format!("the quota of {what} is set and cleared by one call")));
            }
        }
        // The directory itself counts, so 0 names could never be kept.
        if set.name_quota == Some(0) {
            return Err(registry::invalid("a quota of names is at least 1: the directory itself counts".to_owned()));
        }

        let before = self.store.quota_of(slot);
        let names = if set.clear_names { None } else { set.name_quota.or(before.names) };
        let space_bytes = if set.clear_space { None } else { set.space_quota_bytes.or(before.space_bytes) };
        let quota = Quota { names, space_bytes };
        self.store.set_quota(slot, (quota != Quota::default()).then_some(quota));
        Ok(Outcome::Done)
    }
}
