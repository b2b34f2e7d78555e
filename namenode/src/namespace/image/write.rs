//! The frozen view and its encoding.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use proto::ids::{InodeId, LogIndex, SessionId, Term};
use proto::log::Settings;

use super::decode::{BlockFields, InodeFields};
use super::encode::Fields;
use super::frame::FrameWriter;
use super::records::{
    AnswerOfCall, BirthRecord, End, HistoryRecord, Key, Meta, OpenRecord, Queued, SessionRecord, Storage, SweepRecord,
    Text,
};
use super::{MAGIC, Section, VERSION, history};
use crate::namespace::services::Services;
use crate::namespace::sessions::Session;
use crate::namespace::store::NONE;
use crate::namespace::store::cuts::{Cut, CutKey};
use crate::namespace::store::history::{Ghost, GhostKey, Purge, Snapshot, Version, VersionKey};
use crate::namespace::store::ids::FrozenIds;
use crate::namespace::store::names::NamePages;
use crate::namespace::store::packed::{PackedBlock, Wide};
use crate::namespace::store::records::{Inode, Kind, Open, rare};
use crate::namespace::store::sharded::Sharded;
use crate::namespace::store::slab::Pages;
use crate::namespace::store::{Acl, Quota, Xattr};
use crate::namespace::{BlockKey, Identity, ImageError, Namespace, NextIds, NodeService, StorageRecord, Sweep};

/// A namespace at one moment, independent of what happens to the original. Holding it costs the memory of the
/// pages that change meanwhile.
pub struct FrozenNamespace {
    identity: Option<Identity>,
    settings: Settings,
    keys: Vec<BlockKey>,
    storages: Arc<Vec<StorageRecord>>,
    services: Services,
    strings: Arc<Vec<Arc<str>>>,
    inodes: Pages<Inode>,
    names: NamePages,
    ids: FrozenIds,
    blocks: Pages<PackedBlock>,
    wide_blocks: Wide,
    more_homes: Sharded<u32, Box<[u32]>>,
    open: Sharded<u64, Open>,
    sessions: Sharded<SessionId, Arc<Session>>,
    queue: Vec<u64>,
    targets: Sharded<u64, Arc<str>>,
    xattrs: Sharded<u64, Arc<[Xattr]>>,
    acls: Sharded<u64, Arc<Acl>>,
    quotas: Sharded<u64, Quota>,
    snapshots: BTreeMap<u64, Vec<Snapshot>>,
    born: Sharded<u64, u64>,
    ghosts: Sharded<GhostKey, Ghost>,
    versions: Sharded<VersionKey, Arc<Version>>,
    cuts: Sharded<CutKey, Cut>,
    sweeps: Vec<Sweep>,
    purge: Option<Purge>,
    last_snapshot: u64,
    next: NextIds,
    log_time_ms: u64,
    applied: (LogIndex, Term),
    state_hash: u64,
}

impl FrozenNamespace {
    pub(in crate::namespace) fn of(namespace: &Namespace) -> Self {
        let store = &namespace.store;
        Self {
            identity: namespace.identity.clone(),
            settings: namespace.settings.clone(),
            keys: namespace.keys.clone(),
            storages: namespace.registry.records().clone(),
            services: namespace.registry.services().clone(),
            strings: store.interned.texts().clone(),
            inodes: store.inodes.freeze(),
            names: store.names.pages().clone(),
            ids: store.by_id.freeze(),
            blocks: store.blocks.freeze(),
            more_homes: store.more_homes.clone(),
            wide_blocks: store.wide_blocks.clone(),
            open: store.open.clone(),
            sessions: namespace.sessions.freeze(),
            queue: namespace.queue.clone(),
            targets: store.targets.clone(),
            xattrs: store.xattrs.clone(),
            acls: store.acls.clone(),
            quotas: store.quotas.clone(),
            snapshots: store.snapshots().clone(),
            born: store.born.clone(),
            ghosts: store.ghosts.clone(),
            versions: store.versions.clone(),
            cuts: store.cuts.clone(),
            sweeps: namespace.sweeps.clone(),
            purge: namespace.purge.clone(),
            last_snapshot: namespace.last_snapshot,
            next: namespace.next,
            log_time_ms: namespace.log_time_ms,
            applied: namespace.applied,
            state_hash: namespace.state_hash(),
        }
    }

    /// Index and term of the last entry that is in it.
    #[must_use]
    pub const fn applied(&self) -> (LogIndex, Term) {
        self.applied
    }
    /// [`Namespace::state_hash`] of that moment.
    #[must_use]
    pub const fn state_hash(&self) -> u64 {
        self.state_hash
    }

    /// Encodes the image body. Two members at the same index write the same bytes.
    ///
    /// # Errors
    /// [`ImageError::Io`] of the writer.
    pub fn write_to(&self, writer: &mut dyn Write) -> Result<(), ImageError> {
        writer.write_all(&MAGIC)?;
        writer.write_all(&VERSION.to_le_bytes())?;
        let mut frames = FrameWriter::new(writer);
        frames.put(Section::Meta, &self.meta())?;
        self.write_registry(&mut frames)?;
        for (_, slot) in self.ids.iter() {
            let inode = self.inode_fields(self.inodes.get(slot));
            frames.put_encoded(Section::Inodes, |fields| encode_inode(&inode, fields))?;
        }
        for (id, slot) in self.ids.iter() {
            self.write_blocks(&mut frames, id, self.inodes.get(slot))?;
        }
        for (id, open) in self.open.sorted() {
            if open.pin.is_some() && base::mutated!(Sc13LeasesAreNotTheOpenFiles) {
                continue;
            }
            frames.put(Section::Open, &open_record(*id, open))?;
        }
        self.write_sessions(&mut frames)?;
        for inode in &self.queue {
            frames.put(Section::Queue, &Queued { inode: *inode })?;
        }
        self.write_attributes(&mut frames)?;
        self.write_history(&mut frames)?;
        let end = End { records: frames.total(), state_hash: self.state_hash };
        frames.put(Section::End, &end)?;
        frames.flush()
    }

    fn meta(&self) -> Meta {
        let identity = self.identity.as_ref();
        Meta {
            formatted: identity.is_some(),
            cluster: identity.map_or_else(String::new, |identity| identity.cluster.to_string()),
            pool: identity.map_or_else(String::new, |identity| identity.pool.to_string()),
            superuser: identity.map_or_else(String::new, |identity| identity.superuser.clone()),
            settings: Some(self.settings.clone()),
            index: self.applied.0.raw(),
            term: self.applied.1.raw(),
            next_inode: self.next.inode.raw(),
            next_block: self.next.block.raw(),
            next_stamp: self.next.stamp.raw(),
            next_epoch: self.next.epoch.raw(),
            log_time_ms: self.log_time_ms,
            last_snapshot: self.last_snapshot,
        }
    }

    fn write_attributes(&self, frames: &mut FrameWriter<'_>) -> Result<(), ImageError> {
        let mut ids: Vec<u64> = self.xattrs.sorted().into_iter().map(|(id, _)| *id).collect();
        ids.extend(self.acls.sorted().into_iter().map(|(id, _)| *id));
        ids.extend(self.quotas.sorted().into_iter().map(|(id, _)| *id));
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| *id != InodeId::ROOT.raw() || !base::mutated!(Sc09RootIsSpecial));
        for id in ids {
            let record = history::attributes_record(id, self.xattrs.get(&id), self.acls.get(&id), self.quotas.get(&id));
            frames.put(Section::Attributes, &record)?;
        }
        Ok(())
    }

    fn write_history(&self, frames: &mut FrameWriter<'_>) -> Result<(), ImageError> {
        for (directory, snapshot) in self.snapshots.iter().flat_map(|(id, all)| all.iter().map(move |one| (id, one))) {
            frames.put(Section::Snapshots, &history::snapshot_record(*directory, snapshot))?;
        }
        for (entry, born) in self.born.sorted() {
            let birth = Some(BirthRecord { entry: *entry, born: *born });
            frames.put(Section::History, &HistoryRecord { birth, ..HistoryRecord::default() })?;
        }
        for (key, ghost) in self.ghosts.sorted() {
            frames.put(Section::History, &history::ghost_record(key, ghost))?;
        }
        for (key, version) in self.versions.sorted() {
            frames.put(Section::History, &history::version_record(key, version))?;
        }
        for (key, cut) in self.cuts.sorted() {
            frames.put(
                Section::History,
                &history::cut_record(key, cut, self.blocks.get(cut.slot).unpack(cut.slot, &self.wide_blocks).id),
            )?;
        }
        for sweep in &self.sweeps {
            let (directory, after, died) = (sweep.directory, sweep.after.to_string(), sweep.died);
            frames.put(Section::Sweeps, &SweepRecord { directory, after, died, ..SweepRecord::default() })?;
        }
        if let Some(purge) = &self.purge {
            let record = SweepRecord {
                directory: purge.number,
                after: purge.name.to_string(),
                died: purge.snapshot,
                purge: purge.phase as u32,
                shard: purge.shard as u32,
                position: purge.position,
            };
            frames.put(Section::Sweeps, &record)?;
        }
        Ok(())
    }

    fn write_registry(&self, frames: &mut FrameWriter<'_>) -> Result<(), ImageError> {
        for text in self.strings.iter() {
            frames.put(Section::Strings, &Text { text: text.as_ref().to_owned() })?;
        }
        let mut told = BTreeSet::new();
        for record in self.storages.iter() {
            // The service is its node's, and stands with the first storage of it.
            let first = !self.services.is_empty() && told.insert(&record.node);
            let service = if first { self.services.get(&record.node) } else { NodeService::InService };
            let (service, service_until_ms) = if service.is_in_service() { (0, 0) } else { service.parts() };
            let record = Storage {
                storage: record.storage.to_string(),
                node: record.node.to_string(),
                media: record.media.clone(),
                rack: record.rack.clone(),
                service,
                service_until_ms,
            };
            frames.put(Section::Storages, &record)?;
        }
        for key in &self.keys {
            frames.put(Section::Keys, &Key { number: key.number, key: key.key.clone() })?;
        }
        Ok(())
    }

    fn inode_fields(&self, inode: &Inode) -> InodeFields<'_> {
        InodeFields {
            id: inode.id,
            parent: if inode.parent == NONE { 0 } else { self.inodes.get(inode.parent).id },
            name: self.names.text(inode.name),
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
            target: if inode.kind == Kind::Link { self.inodes.get(inode.content).id } else { 0 },
            symlink: if inode.is_symlink() { self.targets.get(&inode.id).map_or("", |target| target) } else { "" },
        }
    }

    fn write_blocks(&self, frames: &mut FrameWriter<'_>, id: u64, inode: &Inode) -> Result<(), ImageError> {
        let mut at = if inode.is_file() { inode.content } else { NONE };
        while at != NONE {
            at = self.write_block(frames, id, at)?;
        }
        if inode.has_rare(rare::CUTS) {
            let (from, to) = CutKey::all_of(id);
            for (_, cut) in self.cuts.range(id as usize, (Bound::Included(from), Bound::Included(to))) {
                self.write_block(frames, id, cut.slot)?;
            }
        }
        Ok(())
    }
    /// Writes a block of an inode; returns the slot of the one behind it.
    fn write_block(&self, frames: &mut FrameWriter<'_>, id: u64, at: u32) -> Result<u32, ImageError> {
        let packed = self.blocks.get(at);
        let block = packed.unpack(at, &self.wide_blocks);
        let more = if packed.is_full() { self.more_homes.get(&at) } else { None };
        let homes = packed.inline_homes().chain(more.into_iter().flatten().copied());
        let fields = BlockFields {
            inode: id,
            id: block.id,
            stamp: block.stamp,
            len_bytes: block.len_bytes,
            flags: u32::from(block.flags),
            digest: packed.digest().map_or(&[], |digest| digest),
        };
        frames.put_encoded(Section::Blocks, |out| encode_block(&fields, homes, out))?;
        Ok(block.next)
    }

    fn write_sessions(&self, frames: &mut FrameWriter<'_>) -> Result<(), ImageError> {
        let sessions = self.sessions.sorted();
        for (id, session) in &sessions {
            let record = SessionRecord {
                session: Bytes::copy_from_slice(id.as_bytes()),
                seen: session.seen,
                lowest: session.lowest,
                forgotten: session.forgotten.iter().flat_map(|(first, last)| [*first, *last]).collect(),
                answers: session.outcomes.len() as u32,
            };
            frames.put(Section::Sessions, &record)?;
        }
        for (call, answer) in sessions.iter().flat_map(|(_, session)| &session.outcomes) {
            frames.put(Section::Answers, &AnswerOfCall { call: *call, answer: Bytes::copy_from_slice(answer) })?;
        }
        Ok(())
    }
}

/// As `InodeRecord` of [`super::records`].
pub(super) fn encode_inode(inode: &InodeFields<'_>, out: &mut Fields<'_>) {
    out.uint(1, inode.id);
    out.uint(2, inode.parent);
    out.bytes(3, inode.name.as_bytes());
    out.uint(4, inode.kind.into());
    out.uint(5, inode.flags.into());
    out.uint(6, if base::mutated!(Sc08ModeIsCut) { inode.mode & 0xff } else { inode.mode }.into());
    out.uint(7, inode.owner.into());
    out.uint(8, inode.group.into());
    out.sfixed(9, inode.mtime_ns);
    out.sfixed(10, inode.ctime_ns);
    out.sfixed(11, inode.atime_ns);
    out.uint(12, inode.replication.into());
    out.uint(13, inode.block_size_units.into());
    out.uint(14, inode.target);
    out.bytes(15, inode.symlink.as_bytes());
}

/// As `BlockRecord` of [`super::records`].
pub(super) fn encode_block(block: &BlockFields<'_>, homes: impl Iterator<Item = u32> + Clone, out: &mut Fields<'_>) {
    out.uint(1, block.inode);
    out.sint(2, block.id);
    out.uint(3, block.stamp);
    out.uint(4, block.len_bytes);
    out.uint(5, block.flags.into());
    out.uints(6, homes);
    out.bytes(7, block.digest);
}

fn open_record(inode: u64, open: &Open) -> OpenRecord {
    let pin = open.pin.as_ref();
    OpenRecord {
        inode,
        epoch: open.epoch,
        session: open.session.map_or_else(Bytes::new, |session| Bytes::copy_from_slice(session.as_bytes())),
        pin_parent: pin.map_or(0, |pin| pin.parent),
        pin_name: pin.map_or_else(String::new, |pin| pin.name.to_string()),
        pin_overwrite: pin.is_some_and(|pin| pin.overwrite),
        reserved_stamp: open.reserved_stamp,
        recovering: open.recovery.is_some(),
        target_len_bytes: open.recovery.and_then(|recovery| recovery.target_len_bytes),
        accept_loss: open.recovery.is_some_and(|recovery| recovery.accept_loss),
        offered: open.offered.clone(),
    }
}
