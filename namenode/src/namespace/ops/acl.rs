//! ACLs: what a mode cannot say. Entries are checked and merged here; who may do what is decided in `access`.
//!
//! ```text
//!   request entries ─▶ whole ACL of the inode (mode + stored entries) ─▶ merged ─▶ mask ─▶ mode + stored entries
//! ```
//!
//! As in HDFS and POSIX 1003.1e: with named entries the mode's group bits are the mask, and the owning group's own
//! rights are a stored entry.

use std::sync::Arc;

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::{AclEntry, ChangeAcl};
use proto::namespace::{AclChange, AclScope, AclTag};
use proto::path::FsPath;

use crate::namespace::access::check_principal;
use crate::namespace::resolve::Last;
use crate::namespace::store::{Acl, AclName};
use crate::namespace::{Call, Namespace, Outcome, registry};

/// Entries of one scope, as in HDFS.
pub(in crate::namespace) const MAX_ENTRIES: usize = 32;

/// Entries in order of names, each name once.
type Entries = Vec<(AclName, u8)>;

impl Namespace {
    pub(in crate::namespace) fn change_acl(&mut self, call: &Call<'_>, change: &ChangeAcl) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&change.path)?;
        let kind = i32::try_from(change.change).ok().and_then(|kind| AclChange::try_from(kind).ok());
        let slot = self.find(&who, &path, Last::Follow)?;
        who.need_ownership(&self.store, slot)?;
        if self.store.inode(slot).is_symlink() {
            return Err(bad("a symbolic link has no ACL", &path));
        }
        if change.entries.len() > 2 * MAX_ENTRIES {
            return Err(bad(&format!("an ACL has at most {MAX_ENTRIES} entries of each scope"), &path));
        }
        for entry in &change.entries {
            check_entry(entry, &path)?;
        }
        let unknown = |entry: &&AclEntry| !entry.name.is_empty() && self.store.interned.find(&entry.name).is_none();
        if !self.store.interned.has_room_for(change.entries.iter().filter(unknown).count()) {
            return Err(FsError::new(
                ErrorCode::NoSpace,
                "the namespace holds as many names of users and groups as ACLs may add",
            )
            .with_hint("name users and groups that are known already"));
        }
        // Names of removed entries need no number: an unknown one is in no ACL. New ones are given numbers only once
        // everything is checked, so the check works on the names as they are.
        let plan = self.plan(slot, kind.unwrap_or(AclChange::Unspecified), &change.entries, &path)?;

        let number = |namespace: &mut Self, name: PlannedName| match name {
            PlannedName::Known(name) => name,
            PlannedName::User(user) => AclName::User(namespace.store.interned.intern(&user)),
            PlannedName::Group(group) => AclName::Group(namespace.store.interned.intern(&group)),
        };
        let mut numbered = |entries: Planned| -> Entries {
            let mut entries: Entries = entries.into_iter().map(|(name, rights)| (number(self, name), rights)).collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            entries
        };
        let (access, default) = (numbered(plan.access), numbered(plan.default));
        let get = |name: AclName| access.iter().find(|(other, _)| *other == name).map(|(_, rights)| u16::from(*rights));
        let extended =
            access.iter().any(|(name, _)| matches!(name, AclName::User(_) | AclName::Group(_) | AclName::Mask));
        let group = if extended { get(AclName::Mask) } else { get(AclName::OwningGroup) };
        let bits = get(AclName::Owner).unwrap_or(0) << 6 | group.unwrap_or(0) << 3 | get(AclName::Other).unwrap_or(0);
        let kept = |name: &AclName| matches!(name, AclName::User(_) | AclName::Group(_) | AclName::OwningGroup);
        let access =
            if extended { access.iter().filter(|(name, _)| kept(name)).copied().collect() } else { Vec::new() };
        let acl = Acl { access, default };
        self.store.set_acl(slot, (!acl.is_empty()).then(|| Arc::new(acl)));
        self.store.edit(slot, |inode| {
            inode.mode = inode.mode & 0o7000 | bits;
            inode.ctime_ns = call.now_ns;
        });
        if self.store.inode(slot).is_dir() {
            self.store.rights_changed(slot);
        }
        Ok(Outcome::Done)
    }

    fn plan(&self, slot: u32, kind: AclChange, entries: &[AclEntry], path: &FsPath) -> FsResult<Plan> {
        let known =
            |entries: Entries| entries.into_iter().map(|(name, rights)| (PlannedName::Known(name), rights)).collect();
        let acl = self.store.acl_of(slot).map(|acl| Acl::clone(acl)).unwrap_or_default();
        let mut plan =
            Plan { access: known(access_entries(self.store.inode(slot).mode, &acl)), default: known(acl.default) };
        let mut touched = Vec::new();
        let removing = kind == AclChange::RemoveEntries;
        let of_scope = |scope: AclScope| entries.iter().filter(move |entry| entry.scope == scope as u32);
        for (scope, list) in [(AclScope::Access, &mut plan.access), (AclScope::Default, &mut plan.default)] {
            let mut given: Planned = Vec::new();
            for entry in of_scope(scope) {
                let name = self.planned(entry);
                if given.iter().any(|(other, _)| *other == name) {
                    return Err(bad("an entry is named twice", path));
                }
                given.push((name, entry.rights as u8));
            }
            let before = list.len();
            match kind {
                AclChange::Modify => merge(list, &given),
                AclChange::RemoveEntries => list.retain(|(name, _)| !given.iter().any(|(gone, _)| gone == name)),
                AclChange::Set if !given.is_empty() => *list = given.clone(),
                AclChange::RemoveDefault if scope == AclScope::Default => list.clear(),
                AclChange::RemoveAll if scope == AclScope::Default => list.clear(),
                AclChange::RemoveAll => list.retain(|(name, _)| {
                    matches!(name, PlannedName::Known(AclName::Owner | AclName::OwningGroup | AclName::Other))
                }),
                AclChange::Set | AclChange::RemoveDefault => {}
                AclChange::Unspecified => return Err(bad("the call does not say what to change", path)),
            }
            // As in HDFS and setfacl: the mask of a scope follows whatever is said in it, also if that is no news;
            // another scope's stays.
            let said = match kind {
                AclChange::RemoveEntries => list.len() != before,
                AclChange::Modify | AclChange::Set => !given.is_empty(),
                _ => false,
            };
            touched.extend(said.then_some(scope));
        }
        if plan.default.iter().all(|(name, _)| *name == PlannedName::Known(AclName::Mask)) && removing {
            plan.default.clear();
        }
        // Base entries before masks: the owning group of a default ACL is limited by its mask, too.
        complete_default(&mut plan);
        for (scope, list) in [(AclScope::Access, &mut plan.access), (AclScope::Default, &mut plan.default)] {
            let says_mask = of_scope(scope).any(|entry| entry.tag == AclTag::Mask as u32);
            complete_mask(list, touched.contains(&scope), says_mask, removing, path)?;
        }
        self.check_plan(slot, &plan, path)?;
        Ok(plan)
    }

    fn planned(&self, entry: &AclEntry) -> PlannedName {
        let known = |name| self.store.interned.find(name);
        match AclTag::try_from(entry.tag.cast_signed()) {
            Ok(AclTag::User) if entry.name.is_empty() => PlannedName::Known(AclName::Owner),
            Ok(AclTag::User) => match known(&entry.name) {
                Some(number) => PlannedName::Known(AclName::User(number)),
                None => PlannedName::User(entry.name.clone()),
            },
            Ok(AclTag::Group) if entry.name.is_empty() => PlannedName::Known(AclName::OwningGroup),
            Ok(AclTag::Group) => match known(&entry.name) {
                Some(number) => PlannedName::Known(AclName::Group(number)),
                None => PlannedName::Group(entry.name.clone()),
            },
            Ok(AclTag::Mask) => PlannedName::Known(AclName::Mask),
            Ok(AclTag::Other) | Err(_) => PlannedName::Known(AclName::Other),
        }
    }

    fn check_plan(&self, slot: u32, plan: &Plan, path: &FsPath) -> FsResult<()> {
        let base = [AclName::Owner, AclName::OwningGroup, AclName::Other];
        if !base.iter().all(|name| has(&plan.access, *name)) {
            return Err(bad("an ACL has entries for the owner, the owning group and others", path));
        }
        if plan.access.len() > MAX_ENTRIES || plan.default.len() > MAX_ENTRIES {
            return Err(bad(&format!("an ACL has at most {MAX_ENTRIES} entries of each scope"), path));
        }
        if !plan.default.is_empty() && !self.store.inode(slot).is_dir() {
            return Err(bad("only directories have a default ACL", path));
        }
        Ok(())
    }
}

/// The whole access ACL, what the mode says included.
pub(in crate::namespace) fn access_entries(mode: u16, acl: &Acl) -> Entries {
    let bits = |shift: u16| (mode >> shift & 7) as u8;
    let mut entries = vec![(AclName::Owner, bits(6)), (AclName::Other, bits(0))];
    if acl.access.is_empty() {
        entries.push((AclName::OwningGroup, bits(3)));
    } else {
        entries.extend(&acl.access);
        entries.push((AclName::Mask, bits(3)));
    }
    entries.sort_unstable_by_key(|(name, _)| *name);
    entries
}

/// A name that may have no number yet: numbers are given when nothing can fail any more.
#[derive(Clone, PartialEq, Eq, Debug)]
enum PlannedName {
    Known(AclName),
    User(String),
    Group(String),
}

type Planned = Vec<(PlannedName, u8)>;

#[derive(Clone, Debug)]
struct Plan {
    access: Planned,
    default: Planned,
}

fn has(entries: &Planned, name: AclName) -> bool {
    entries.iter().any(|(other, _)| *other == PlannedName::Known(name))
}

fn merge(list: &mut Planned, given: &Planned) {
    for (name, rights) in given {
        match list.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = *rights,
            None => list.push((name.clone(), *rights)),
        }
    }
}

const fn is_named(name: &PlannedName) -> bool {
    matches!(
        name,
        PlannedName::User(_) | PlannedName::Group(_) | PlannedName::Known(AclName::User(_) | AclName::Group(_))
    )
}

/// Where there are named entries there is a mask: the one that was given, or what all that it limits have together.
fn complete_mask(list: &mut Planned, touched: bool, given: bool, removing: bool, path: &FsPath) -> FsResult<()> {
    let named = list.iter().any(|(name, _)| is_named(name));
    if removing && given && named {
        return Err(bad("the mask is needed by the named entries and cannot be removed", path));
    }
    if given && !removing || !touched {
        return Ok(());
    }
    let limited = |name: &PlannedName| is_named(name) || *name == PlannedName::Known(AclName::OwningGroup);
    let union = list.iter().filter(|(name, _)| limited(name)).fold(0, |rights, (_, more)| rights | more);
    list.retain(|(name, _)| *name != PlannedName::Known(AclName::Mask));
    if named {
        list.push((PlannedName::Known(AclName::Mask), union));
    }
    Ok(())
}

/// A default ACL has the three base entries: those that are not given are those of the directory itself.
fn complete_default(plan: &mut Plan) {
    if plan.default.is_empty() {
        return;
    }
    for name in [AclName::Owner, AclName::OwningGroup, AclName::Other] {
        if !has(&plan.default, name) {
            let rights = plan
                .access
                .iter()
                .find(|(other, _)| *other == PlannedName::Known(name))
                .map_or(0, |(_, rights)| *rights);
            plan.default.push((PlannedName::Known(name), rights));
        }
    }
}

fn check_entry(entry: &AclEntry, path: &FsPath) -> FsResult<()> {
    let tag = AclTag::try_from(entry.tag.cast_signed());
    if AclScope::try_from(entry.scope.cast_signed()).is_err() || tag.is_err() || entry.rights > 7 {
        return Err(bad("an entry has an unknown scope or kind, or impossible rights", path));
    }
    match tag {
        Ok(AclTag::User | AclTag::Group) if entry.name.is_empty() => Ok(()),
        Ok(AclTag::User) => check_principal("user", &entry.name),
        Ok(AclTag::Group) => check_principal("group", &entry.name),
        _ if entry.name.is_empty() => Ok(()),
        _ => Err(bad("masks and entries for others have no name", path)),
    }
}

fn bad(what: &str, path: &FsPath) -> FsError {
    let error = registry::invalid(what.to_owned()).with_path(path.as_str());
    FsError { code: ErrorCode::InvalidArgument, ..error }
}
