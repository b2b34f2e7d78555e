//! Extended attributes, with the rights of each class: `user.` follows the mode, `trusted.`, `security.` and `raw.` are
//! for superusers, `system.` is nobody's (ACLs have calls of their own).

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::{RemoveXattr, SetXattr};
use proto::path::FsPath;

use crate::namespace::access::{READ, WRITE, Who};
use crate::namespace::resolve::Last;
use crate::namespace::store::Xattr;
use crate::namespace::{Call, Namespace, Outcome, registry};

/// Longest name with its class, in bytes, as in Linux.
pub(in crate::namespace) const MAX_NAME_BYTES: usize = 255;
/// Longest name and value together, in bytes, as in HDFS.
pub(in crate::namespace) const MAX_XATTR_BYTES: usize = 16_384;
/// Attributes of one inode, as in HDFS.
pub(in crate::namespace) const MAX_XATTRS: usize = 32;

/// Who may see and change an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    User,
    Trusted,
    Security,
    Raw,
    System,
}

/// Checks a name and tells its class.
pub(in crate::namespace) fn check_name(name: &str) -> FsResult<()> {
    class_of(name).map(drop)
}

fn class_of(name: &str) -> FsResult<Class> {
    let bad = || {
        registry::invalid(format!("{name:.64?} is no name of an extended attribute"))
            .with_hint("write its class in front, such as user.colour (user, trusted, security, system, raw)")
    };
    let (class, rest) = name.split_once('.').ok_or_else(bad)?;
    if rest.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
        return Err(bad());
    }
    match class {
        "user" => Ok(Class::User),
        "trusted" => Ok(Class::Trusted),
        "security" => Ok(Class::Security),
        "raw" => Ok(Class::Raw),
        "system" => Ok(Class::System),
        _ => Err(bad()),
    }
}

impl Namespace {
    pub(in crate::namespace) fn set_xattr(&mut self, call: &Call<'_>, set: &SetXattr) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&set.path)?;
        let class = class_of(&set.name)?;
        if !set.create && !set.replace {
            return Err(registry::invalid(
                "say whether the attribute may be new (create), may exist (replace), or both".to_owned(),
            ));
        }
        if set.name.len() + set.value.len() > MAX_XATTR_BYTES {
            return Err(registry::invalid(format!("name and value have more than {MAX_XATTR_BYTES} bytes together")));
        }
        let slot = self.find(&who, &path, Last::keep(set.no_follow))?;
        self.check_change(&who, slot, class, &set.name)?;
        let mut xattrs = self.store.xattrs_of(slot).to_vec();
        let value = bytes::Bytes::copy_from_slice(&set.value);
        match xattrs.binary_search_by(|xattr| xattr.name.as_ref().cmp(&set.name)) {
            Ok(at) if set.replace => {
                if let Some(xattr) = xattrs.get_mut(at) {
                    xattr.value = value;
                }
            }
            Ok(_) => {
                return Err(FsError::new(ErrorCode::AlreadyExists, format!("the attribute {} exists", set.name))
                    .with_path(path.as_str())
                    .with_hint("allow it to be replaced"));
            }
            Err(_) if !set.create => return Err(no_attribute(&set.name, &path)),
            Err(_) if xattrs.len() >= MAX_XATTRS => {
                return Err(FsError::new(
                    ErrorCode::NoSpace,
                    format!("it has {MAX_XATTRS} attributes, the most that it may"),
                )
                .with_path(path.as_str()));
            }
            Err(at) => xattrs.insert(at, Xattr { name: set.name.as_str().into(), value }),
        }

        self.store.set_xattrs(slot, Some(xattrs.into()));
        self.store.edit(slot, |inode| inode.ctime_ns = call.now_ns);
        Ok(Outcome::Done)
    }

    pub(in crate::namespace) fn remove_xattr(&mut self, call: &Call<'_>, remove: &RemoveXattr) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&remove.path)?;
        let class = class_of(&remove.name)?;
        let slot = self.find(&who, &path, Last::keep(remove.no_follow))?;
        self.check_change(&who, slot, class, &remove.name)?;
        let xattrs = self.store.xattrs_of(slot);
        let left: Vec<Xattr> = xattrs.iter().filter(|xattr| *xattr.name != remove.name).cloned().collect();
        if left.len() == xattrs.len() {
            return Err(no_attribute(&remove.name, &path));
        }

        self.store.set_xattrs(slot, (!left.is_empty()).then(|| left.into()));
        self.store.edit(slot, |inode| inode.ctime_ns = call.now_ns);
        Ok(Outcome::Done)
    }

    fn check_change(&self, who: &Who<'_>, slot: u32, class: Class, name: &str) -> FsResult<()> {
        let inode = self.store.inode(slot);
        match class {
            Class::User if inode.is_symlink() => {
                Err(registry::invalid("a symbolic link has no user attributes".to_owned()))
            }
            // In a sticky directory everybody may write: the attributes of the directory itself are its owner's.
            Class::User if inode.is_dir() && inode.is_sticky() => who.need_ownership(&self.store, slot),
            Class::User => who.need(&self.store, slot, WRITE),
            Class::Trusted | Class::Security | Class::Raw => who.need_superuser("change such attributes"),
            Class::System => Err(FsError::new(ErrorCode::PermissionDenied, format!("{name} belongs to the system"))
                .with_path(self.store.path(slot))
                .with_hint("ACLs are changed with `blockyard acl`")),
        }
    }

    /// Attributes that the caller may see: all, or those that are named; of an inode now, or as a snapshot sees it.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`; `NoAttribute` for a named one that is not there.
    pub(in crate::namespace) fn visible_xattrs(
        &self,
        who: &Who<'_>,
        (slot, snapshot): (u32, Option<u64>),
        names: &[String],
        path: &FsPath,
    ) -> FsResult<Vec<Xattr>> {
        for name in names {
            match class_of(name)? {
                Class::User => {}
                _ if who.superuser => {}
                _ => who.need_superuser("see such attributes")?,
            }
        }
        if !base::mutated!(Sc104AttributesAreShown) {
            self.need_at(who, slot, snapshot, READ, path)?;
        }
        let xattrs = match self.version(slot, snapshot) {
            Some(version) => version.xattrs.as_deref().unwrap_or_default(),
            None => self.store.xattrs_of(slot),
        };
        if names.is_empty() {
            // What is raw shows only to those who ask for it by name.
            let seen = |xattr: &&Xattr| match class_of(&xattr.name) {
                Ok(Class::User) => true,
                Ok(Class::Trusted | Class::Security) => who.superuser,
                _ => false,
            };
            return Ok(xattrs.iter().filter(seen).cloned().collect());
        }
        let named = |name: &String| {
            let found = xattrs.iter().find(|xattr| *xattr.name == *name).cloned();
            found.ok_or_else(|| no_attribute(name, path))
        };
        names.iter().map(named).collect()
    }
}

fn no_attribute(name: &str, path: &FsPath) -> FsError {
    FsError::new(ErrorCode::NoAttribute, format!("there is no attribute {name}")).with_path(path.as_str())
}
