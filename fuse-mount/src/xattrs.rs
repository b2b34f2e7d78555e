//! Requests on extended attributes. The namespace keeps those that mean nothing to kernels; ACLs are its own.

use bytes::Bytes;
use client::{AclChange, AclEntry, AclScope, AclTag, Xattr};

use crate::acl;
use crate::core::{Answer, Core};
use crate::errno::Errno;

impl Core {
    pub(crate) async fn set_xattr(&self, uid: u32, number: u64, name: &str, value: Bytes, flags: i32) -> Answer<()> {
        let open = self.file(number);
        // A commit in the middle may have copied the attributes already.
        let _still = self.hold_still(open.as_deref()).await?;
        if let Some(scope) = acl::scope(name) {
            let entries = acl::decoded(&value, scope, &self.people)?;
            return self.set_acl(uid, number, scope, entries).await;
        }
        refuse_foreign(name)?;
        let (path, client) = (self.path(number)?, self.client(uid)?);
        let (create, replace) = (flags & libc::XATTR_REPLACE == 0, flags & libc::XATTR_CREATE == 0);
        Ok(self.change(client.set_xattr(&path, name, value, create, replace)).await?)
    }

    pub(crate) async fn xattr(&self, uid: u32, number: u64, name: &str) -> Answer<Bytes> {
        if let Some(scope) = acl::scope(name) {
            return self.acl(uid, number, scope).await;
        }
        refuse_foreign(name)?;
        let (path, client) = (self.path(number)?, self.client(uid)?);
        let found = self.ask(client.xattrs(&path, &[name.to_owned()])).await?;
        found.into_iter().next().map(|xattr| xattr.value).ok_or(Errno::ENODATA)
    }

    /// Names of all that the caller may see, each with a NUL behind it. To know them takes no right on the file.
    pub(crate) async fn xattr_names(&self, uid: u32, number: u64) -> Answer<Vec<u8>> {
        let found = self.ask(self.own.xattrs(&self.path(number)?, &[])).await?;
        let shown =
            |xattr: &Xattr| refuse_foreign(&xattr.name).is_ok() && (uid == 0 || !xattr.name.starts_with("trusted."));
        let mut names: Vec<String> = found.into_iter().filter(shown).map(|xattr| xattr.name).collect();
        for (name, scope) in acl::ATTRIBUTES {
            match self.acl(uid, number, scope).await {
                Ok(_) => names.push(name.to_owned()),
                Err(Errno::ENODATA) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(names.into_iter().flat_map(|name| name.into_bytes().into_iter().chain([0])).collect())
    }

    pub(crate) async fn remove_xattr(&self, uid: u32, number: u64, name: &str) -> Answer<()> {
        let open = self.file(number);
        let _still = self.hold_still(open.as_deref()).await?;
        if let Some(scope) = acl::scope(name) {
            return self.set_acl(uid, number, scope, Vec::new()).await;
        }
        refuse_foreign(name)?;
        let (path, client) = (self.path(number)?, self.client(uid)?);
        Ok(self.change(client.remove_xattr(&path, name)).await?)
    }

    /// What a mode cannot say, of one scope.
    async fn acl(&self, uid: u32, number: u64, scope: AclScope) -> Answer<Bytes> {
        // Listings ask for it name by name, and were just told that there is none.
        if self.inodes.lock().is_plain(number, self.now_ns()) {
            return Err(Errno::ENODATA);
        }
        let (path, client) = (self.path(number)?, self.client(uid)?);
        let entries = self.ask(client.acl(&path)).await?.entries;
        let named = |entry: &AclEntry| entry.tag() == AclTag::Mask || !entry.name.is_empty();
        let says = |entry: &AclEntry| entry.scope() == scope && (scope == AclScope::Default || named(entry));
        if entries.iter().any(says) {
            Ok(acl::encoded(&entries, scope, &self.people).into())
        } else {
            Err(Errno::ENODATA)
        }
    }

    /// Without entries it is taken away, and the mode stays.
    async fn set_acl(&self, uid: u32, number: u64, scope: AclScope, entries: Vec<AclEntry>) -> Answer<()> {
        let (path, client) = (self.path(number)?, self.client(uid)?);
        let (change, entries) = match (entries.is_empty(), scope) {
            (false, _) => (AclChange::Set, entries),
            (true, AclScope::Default) => (AclChange::RemoveDefault, entries),
            (true, AclScope::Access) => (AclChange::Set, acl::of_mode(self.same(&client, number).await?.mode)),
        };
        let set = self.change(client.change_acl(&path, change, entries)).await;
        {
            let mut inodes = self.inodes.lock();
            // What was asked before, and is told from now on, says nothing of it.
            let inode = inodes.inode(number);
            inodes.changed(inode);
            inodes.not_plain(number);
        }
        self.forget_attributes(number);
        if let (Some(file), Ok(status)) = (self.file(number), self.same(&self.own, number).await) {
            file.seen.lock().takes_rights(&status);
        }
        set.map_err(|error| Errno::of_owners(error.code))
    }
}

/// Attributes by which kernels mean something: what the namespace would only keep is not taken.
fn refuse_foreign(name: &str) -> Answer<()> {
    let kept = name.starts_with("user.") || name.starts_with("trusted.");
    if kept { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_means_nothing_to_the_kernel_is_kept() {
        assert!(refuse_foreign("user.colour").is_ok() && refuse_foreign("trusted.x").is_ok());
        for name in ["security.capability", "system.posix_acl_access", "raw.x", "user"] {
            assert_eq!(refuse_foreign(name), Err(Errno::EOPNOTSUPP), "{name}");
        }
    }
}
