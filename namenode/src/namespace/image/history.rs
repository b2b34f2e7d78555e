//! Attributes and history as records, both ways: what was written is read, and everything else is a fault.
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use super::records::{
    AclRecord, AttributesRecord, CutRecord, GhostRecord, HistoryRecord, InodeRecord, SnapshotRecord, VersionRecord,
    XattrRecord,
};
use crate::namespace::ops::acl::MAX_ENTRIES;
use crate::namespace::ops::xattrs;
use crate::namespace::store::cuts::{Cut, CutKey};
use crate::namespace::store::history::{Ghost, GhostKey, Snapshot, Version, VersionKey};
use crate::namespace::store::records::Inode;
use crate::namespace::store::{Acl, AclName, Quota, Store, Xattr};

/// A record that breaks a rule.
type Fault = String;

fn check(right: bool, what: &str) -> Result<(), Fault> {
    if right { Ok(()) } else { Err(what.to_owned()) }
}

pub(super) fn attributes_record(
    inode: u64,
    xattrs: Option<&Arc<[Xattr]>>,
    acl: Option<&Arc<Acl>>,
    quota: Option<&Quota>,
) -> AttributesRecord {
    let entries = |entries: &[(AclName, u8)]| -> Vec<AclRecord> {
        let record = |(name, rights): &(AclName, u8)| {
            let (kind, number) = name.numbers();
            AclRecord { kind, number, rights: u32::from(*rights) }
        };
        entries.iter().map(record).collect()
    };
    let xattr = |xattr: &Xattr| XattrRecord { name: xattr.name.to_string(), value: xattr.value.clone() };
    AttributesRecord {
        inode,
        xattrs: xattrs.into_iter().flat_map(|xattrs| xattrs.iter()).map(xattr).collect(),
        acl_access: acl.map(|acl| entries(&acl.access)).unwrap_or_default(),
        acl_default: acl.map(|acl| entries(&acl.default)).unwrap_or_default(),
        name_quota: quota.and_then(|quota| quota.names),
        space_quota_bytes: quota.and_then(|quota| quota.space_bytes),
    }
}

/// The three values of a record, checked.
pub(super) struct Attributes {
    pub(super) xattrs: Option<Arc<[Xattr]>>,
    pub(super) acl: Option<Arc<Acl>>,
    pub(super) quota: Option<Quota>,
}

pub(super) fn attributes_of(record: &AttributesRecord, strings: usize) -> Result<Attributes, Fault> {
    check(record.xattrs.len() <= xattrs::MAX_XATTRS, "too many extended attributes")?;
    let mut kept: Vec<Xattr> = Vec::with_capacity(record.xattrs.len());
    for xattr in &record.xattrs {
        xattrs::check_name(&xattr.name).map_err(|error| error.to_string())?;
        check(xattr.name.len() + xattr.value.len() <= xattrs::MAX_XATTR_BYTES, "a long extended attribute")?;
        let ascending = kept.last().is_none_or(|last| *last.name < *xattr.name);
        check(ascending, "extended attributes are out of order")?;
        // The value must not keep the image in memory.
        let value = bytes::Bytes::copy_from_slice(&xattr.value);
        kept.push(Xattr { name: xattr.name.as_str().into(), value });
    }
    let (access, default) = (entries_of(&record.acl_access, strings)?, entries_of(&record.acl_default, strings)?);
    let acl = Acl { access, default };
    let quota = Quota { names: record.name_quota, space_bytes: record.space_quota_bytes };
    Ok(Attributes {
        xattrs: (!kept.is_empty()).then(|| kept.into()),
        acl: (!acl.is_empty()).then(|| Arc::new(acl)),
        quota: (quota != Quota::default()).then_some(quota),
    })
}

fn entries_of(records: &[AclRecord], strings: usize) -> Result<Vec<(AclName, u8)>, Fault> {
    check(records.len() <= MAX_ENTRIES, "too many ACL entries")?;
    let mut entries: Vec<(AclName, u8)> = Vec::with_capacity(records.len());
    for record in records {
        let name = AclName::of(record.kind, record.number).ok_or("an unknown kind of ACL entry")?;
        let rights = u8::try_from(record.rights).ok().filter(|rights| *rights <= 7).ok_or("impossible rights")?;
        check((record.number as usize) < strings.max(1), "an ACL entry without a string")?;
        check(entries.last().is_none_or(|(last, _)| *last < name), "ACL entries are out of order")?;
        entries.push((name, rights));
    }
    Ok(entries)
}

pub(super) fn snapshot_record(directory: u64, snapshot: &Snapshot) -> SnapshotRecord {
    SnapshotRecord { directory, id: snapshot.id, name: snapshot.name.to_string(), created_ns: snapshot.created_ns }
}

pub(super) fn ghost_record(key: &GhostKey, ghost: &Ghost) -> HistoryRecord {
    let ghost = GhostRecord {
        directory: key.directory,
        name: key.name.to_string(),
        died: key.died,
        inode: ghost.inode,
        born: ghost.born,
        root: ghost.root,
    };
    HistoryRecord { ghost: Some(ghost), ..HistoryRecord::default() }
}

pub(super) fn cut_record(key: &CutKey, cut: &Cut, block: i64) -> HistoryRecord {
    let record =
        CutRecord { inode: key.inode, position: key.position, died: key.died, block, born: cut.born, root: cut.root };
    HistoryRecord { cut: Some(record), ..HistoryRecord::default() }
}

pub(super) fn version_record(key: &VersionKey, version: &Version) -> HistoryRecord {
    let inode = &version.inode;
    let fields = InodeRecord {
        id: key.inode,
        kind: inode.kind as u32,
        flags: u32::from(inode.flags),
        mode: u32::from(inode.mode),
        owner: inode.owner,
        group: inode.group,
        mtime_ns: inode.mtime_ns,
        ctime_ns: inode.ctime_ns,
        atime_ns: inode.atime_ns,
        replication: u32::from(inode.replication),
        block_size_units: inode.block_size_units,
        ..InodeRecord::default()
    };
    let some = version.xattrs.is_some() || version.acl.is_some();
    let record = VersionRecord {
        inode: Some(fields),
        snapshot: key.snapshot,
        blocks: version.blocks,
        len_bytes: version.len_bytes,
        root: version.root,
        attributes: some.then(|| attributes_record(0, version.xattrs.as_ref(), version.acl.as_ref(), None)),
    };
    HistoryRecord { version: Some(record), ..HistoryRecord::default() }
}

/// Takes a record of the history over. `last`: id of the newest snapshot ever.
pub(super) fn take(
    store: &mut Store,
    record: &HistoryRecord,
    last: u64,
    inode_of: impl Fn(&InodeRecord) -> Result<Inode, Fault>,
) -> Result<(), Fault> {
    match (&record.birth, &record.ghost, &record.version, &record.cut) {
        (Some(birth), None, None, None) => {
            let slot = store.slot(birth.entry).ok_or("the birth of no entry")?;
            check(birth.born > 0 && birth.born <= last && store.born_of(slot) == 0, "an impossible birth")?;
            store.set_born(slot, birth.born);
        }
        (None, Some(ghost), None, None) => take_ghost(store, ghost, last)?,
        (None, None, Some(version), None) => take_version(store, version, last, inode_of)?,
        (None, None, None, Some(cut)) => {
            check(cut.born < cut.died && cut.died <= last, "a cut that no snapshot could see")?;
            let key = CutKey { inode: cut.inode, position: cut.position, died: cut.died };
            let slot = store.block_slot(cut.block).ok_or("a cut of no block")?;
            let cut = Cut { slot, born: cut.born, root: cut.root };
            check(store.load_cut(key, cut), "a cut of a block that is not cut off, or twice")?;
        }
        _ => return Err("a record of no or of several kinds".to_owned()),
    }
    Ok(())
}

fn take_ghost(store: &mut Store, ghost: &GhostRecord, last: u64) -> Result<(), Fault> {
    proto::path::check_name(&ghost.name).map_err(|error| error.to_string())?;
    let directory = store.slot(ghost.directory).is_some_and(|slot| store.inode(slot).is_dir());
    check(directory && store.slot(ghost.inode).is_some(), "a ghost of nothing, or nowhere")?;
    check(ghost.born < ghost.died && ghost.died <= last, "a ghost that no snapshot could see")?;
    let key = GhostKey { directory: ghost.directory, name: ghost.name.as_str().into(), died: ghost.died };
    check(store.ghosts.get(&key).is_none(), "a ghost twice")?;
    store.put_ghost(key, Ghost { inode: ghost.inode, born: ghost.born, root: ghost.root });
    Ok(())
}

fn take_version(
    store: &mut Store,
    version: &VersionRecord,
    last: u64,
    inode_of: impl Fn(&InodeRecord) -> Result<Inode, Fault>,
) -> Result<(), Fault> {
    let record = version.inode.as_ref().ok_or("a version of nothing")?;
    let inode = inode_of(record)?;
    let strings = store.interned.texts().len();
    let known = (inode.owner as usize) < strings && (inode.group as usize) < strings;
    check(known, "an owner or group without a string")?;
    let now = store.slot(record.id).map(|slot| store.inode(slot).kind);
    check(now == Some(inode.kind), "a version of another kind, or of nothing")?;
    check(version.snapshot > 0 && version.snapshot <= last, "a version of no snapshot")?;
    let attributes = attributes_of(&version.attributes.clone().unwrap_or_default(), strings)?;
    let key = VersionKey { inode: record.id, snapshot: version.snapshot };
    check(store.versions.get(&key).is_none(), "a version twice")?;
    let version = Version {
        inode: Inode { id: record.id, ..inode },
        blocks: version.blocks,
        len_bytes: version.len_bytes,
        xattrs: attributes.xattrs,
        acl: attributes.acl,
        root: version.root,
    };
    store.put_version(key, version);
    Ok(())
}
