//! Decoding an image: every record is checked by itself, then the whole is checked to be one tree.
//!
//! ```text
//!   "image-ahead" thread: disk ─▶ checksums ─▶ frames ──(a few)──▶ this thread: records ─▶ store ─▶ whole
//! ```
#![deny(clippy::indexing_slicing)]

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hashbrown::HashMap;
use proto::ids::{
    BlockId, ClusterId, GenerationStamp, InodeId, LeaseEpoch, LogIndex, NodeId, PoolId, SessionId, StorageId, Term,
};
use rustc_hash::FxBuildHasher;

use super::decode::{BlockFields, InodeFields};
use super::frame::{Frame, FrameReader, cut_short};
use super::records::{
    AnswerOfCall, AttributesRecord, End, Key, Meta, OpenRecord, Queued, SessionRecord, SnapshotRecord, Storage,
    SweepRecord, Text,
};
use super::{KNOWN_VERSIONS, MAGIC, SINCE_OFFERS, SINCE_RECOVERY, Section, VERSION, history};
use crate::namespace::access::check_principal;
use crate::namespace::registry::{MAX_KEYS, MAX_STORAGES, check_settings};
use crate::namespace::sessions::{MAX_OUTCOMES, MAX_RANGES_OF_LOWEST, MAX_SESSIONS, Session};
use crate::namespace::store::history::{Phase, Purge, Snapshot};
use crate::namespace::store::records::{Block, Inode, Kind, MAX_OFFERED, Open, Pin, Recovering, flags, rare};
use crate::namespace::store::sharded::SHARDS;
use crate::namespace::store::{NONE, Store};
use crate::namespace::{BlockKey, Identity, ImageError, Namespace, NextIds, NodeService, StorageRecord, Sweep};

/// Longest media and rack, as at registration.
const MAX_TEXT_BYTES: usize = 255;
/// Most storages of a block.
const MAX_HOMES: usize = 512;

/// A record that breaks a rule.
type Fault = String;

/// Frames that are read before they are needed, of a quarter of a megabyte mostly.
const AHEAD: usize = 16;

/// Reads an image body to its end.
pub(in crate::namespace) fn read(reader: &mut (dyn Read + Send)) -> Result<Namespace, ImageError> {
    let mut head = [0; 12];
    reader.read_exact(&mut head).map_err(|error| cut_short(error, 0))?;
    let (magic, version) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(ImageError::Damaged { what: "it does not begin like an image".into(), section: 0, offset: 0 });
    }
    let found = version.try_into().map_or(0, u32::from_le_bytes);
    if !KNOWN_VERSIONS.contains(&found) && !base::mutated!(Sc24NewerImageIsRead) {
        return Err(ImageError::Version { found, known: VERSION });
    }
    let frames = FrameReader::new(reader, head.len() as u64);
    let (ahead, read) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || read_ahead(frames, &ahead));
        // The receiver goes with this closure: a reader that is ahead of a damaged record stops then.
        let read = read;
        load(&read, found)
    })
}

/// Reads frames until the last one, and that nothing follows it; ends early when nobody wants more.
fn read_ahead(mut frames: FrameReader<'_>, ahead: &SyncSender<Result<Frame, ImageError>>) {
    loop {
        let frame = frames.next().and_then(|frame| match frame.section {
            Section::End => frames.expect_end().map(|()| frame),
            _ => Ok(frame),
        });
        let more = frame.as_ref().is_ok_and(|frame| frame.section != Section::End);
        if ahead.send(frame).is_err() || !more {
            return;
        }
    }
}

fn load(frames: &Receiver<Result<Frame, ImageError>>, version: u32) -> Result<Namespace, ImageError> {
    let mut loader = Loader { version, ..Loader::default() };
    loader.namespace.store.begin_loading();
    loop {
        let ended = || ImageError::Io(std::io::Error::other("the thread that reads ahead ended"));
        let frame = frames.recv().map_err(|_closed| ended())??;
        if loader.take(&frame)? {
            return loader.finish().map_err(|what| frame.damaged(what));
        }
        loader.records += u64::from(frame.records());
    }
}

#[derive(Default)]
struct Loader {
    /// Of the layout.
    version: u32,
    namespace: Namespace,
    meta: Option<()>,
    records: u64,
    /// Slot and parent's id of each linked inode, until all inodes are there.
    entries: Vec<(u32, u64)>,
    last_inode: u64,
    /// Slot of each further entry, and the id of its inode.
    links: Vec<(u32, u64)>,
    /// Inode of the last block.
    last_block: u64,
    /// Blocks that were cut off.
    cut_blocks: usize,
    /// Sessions whose answers are not all there, and how many are missing.
    sessions: std::collections::VecDeque<(SessionId, Session, u32)>,
    last_session: Option<SessionId>,
    state_hash: u64,
}

impl Loader {
    /// Takes a frame over; true after the last one.
    fn take(&mut self, frame: &Frame) -> Result<bool, ImageError> {
        if self.meta.is_none() && frame.section != Section::Meta {
            return Err(frame.damaged("the first section is missing"));
        }
        match frame.section {
            Section::Meta => frame.each(|record| self.take_meta(record)),
            Section::Strings => frame.each(|record| self.take_text(&record)),
            Section::Storages => frame.each(|record| self.take_storage(record)),
            Section::Keys => frame.each(|record| self.take_key(record)),
            Section::Inodes => frame.each_raw(|record| self.take_inode(&InodeFields::decode(record)?)),
            Section::Blocks => {
                let mut storages = Vec::new();
                frame.each_raw(|record| {
                    let block = BlockFields::decode(record, &mut storages)?;
                    self.take_block(&block, &storages)
                })
            }
            Section::Open => frame.each(|record| self.take_open(&record)),
            Section::Sessions => frame.each(|record| self.take_session(&record)),
            Section::Answers => frame.each(|record| self.take_answer(&record)),
            Section::Queue => frame.each(|record: Queued| {
                self.namespace.queue.push(record.inode);
                Ok(())
            }),
            Section::Attributes => frame.each(|record| self.take_attributes(&record)),
            Section::Snapshots => frame.each(|record| self.take_snapshot(&record)),
            Section::History => frame.each(|record| {
                let namespace = &mut self.namespace;
                history::take(&mut namespace.store, &record, namespace.last_snapshot, |inode| {
                    inode_of(&InodeFields::of(inode))
                })
            }),
            Section::Sweeps => frame.each(|record| self.take_sweep(&record)),
            Section::End => {
                let records = self.records;
                frame.each(|end: End| {
                    self.state_hash = end.state_hash;
                    check(end.records == records, || format!("{records} records instead of {}", end.records))
                })?;
                return Ok(true);
            }
        }?;
        Ok(false)
    }

    fn take_meta(&mut self, meta: Meta) -> Result<(), Fault> {
        check(self.meta.is_none(), || "a second one".into())?;
        self.meta = Some(());
        let namespace = &mut self.namespace;
        let settings = meta.settings.unwrap_or_default();
        if meta.formatted {
            check_settings(&settings).map_err(|error| error.to_string())?;
            check_principal("user", &meta.superuser).map_err(|error| error.to_string())?;
            namespace.identity = Some(Identity {
                cluster: ClusterId::parse(&meta.cluster).map_err(|bad| bad.to_string())?,
                pool: PoolId::parse(&meta.pool).map_err(|bad| bad.to_string())?,
                superuser: meta.superuser,
            });
        }
        namespace.settings = settings;
        namespace.applied = (LogIndex::from_raw(meta.index), Term::from_raw(meta.term));
        namespace.log_time_ms = meta.log_time_ms;
        namespace.last_snapshot = meta.last_snapshot;
        let first = namespace.next;
        namespace.next = NextIds {
            inode: InodeId::from_raw(meta.next_inode),
            block: BlockId::from_raw(meta.next_block),
            stamp: GenerationStamp::from_raw(meta.next_stamp),
            epoch: LeaseEpoch::from_raw(meta.next_epoch),
        };
        let next = namespace.next;
        let forward = next.inode >= first.inode
            && next.block >= first.block
            && next.stamp >= first.stamp
            && next.epoch >= first.epoch;
        check(forward, || "ids before the first ones".into())
    }

    fn take_text(&mut self, record: &Text) -> Result<(), Fault> {
        check_principal("user or group", &record.text).map_err(|error| error.to_string())?;
        let interned = &mut self.namespace.store.interned;
        check(interned.find(&record.text).is_none(), || "a string twice".into())?;
        interned.intern(&record.text);
        Ok(())
    }

    fn take_storage(&mut self, record: Storage) -> Result<(), Fault> {
        let registry = &mut self.namespace.registry;
        let storage = StorageId::parse(&record.storage).map_err(|bad| bad.to_string())?;
        let node = NodeId::parse(&record.node).map_err(|bad| bad.to_string())?;
        check(registry.records().len() < MAX_STORAGES, || "too many storages".into())?;
        check(registry.find(&storage).is_none(), || "a storage twice".into())?;
        check(record.media.len() <= MAX_TEXT_BYTES && record.rack.len() <= MAX_TEXT_BYTES, || "a long text".into())?;
        let service = match (record.service, record.service_until_ms) {
            (0, 0) => NodeService::InService,
            (service, until_ms) => {
                check(!registry.has_node(&node), || "a service that is not with the first storage of its node".into())?;
                let service = NodeService::from_parts(service, until_ms).filter(|service| !service.is_in_service());
                service.ok_or("a service that does not exist")?
            }
        };
        if !service.is_in_service() {
            registry.set_service(node.clone(), service);
        }
        registry.push(StorageRecord { storage, node, media: record.media, rack: record.rack });
        Ok(())
    }

    fn take_key(&mut self, record: Key) -> Result<(), Fault> {
        let keys = &mut self.namespace.keys;
        let ascending = keys.last().is_none_or(|last| last.number < record.number);
        check(ascending && keys.len() < MAX_KEYS, || "too many keys, or out of order".into())?;
        // The key must not lie in memory as a part of the image.
        keys.push(BlockKey { number: record.number, key: bytes::Bytes::copy_from_slice(&record.key) });
        Ok(())
    }

    fn take_inode(&mut self, record: &InodeFields<'_>) -> Result<(), Fault> {
        let fits = record.id > self.last_inode && record.id < self.namespace.next.inode.raw();
        check(fits, || format!("inode {} is out of order, or was never given", record.id))?;
        self.last_inode = record.id;
        let inode = inode_of(record)?;
        let strings = self.namespace.store.interned.texts().len() as u64;
        let known = u64::from(inode.owner) < strings && u64::from(inode.group) < strings;
        check(known, || "an owner or group without a string".into())?;
        let store = &mut self.namespace.store;
        check(store.inodes.has_room(1), || "too many inodes".into())?;
        let slot = store.add_inode(inode);
        match inode.kind {
            Kind::Symlink => {
                let len = record.symlink.len();
                let fits = (1..=proto::path::MAX_PATH_BYTES).contains(&len) && !record.symlink.contains('\0');
                check(fits, || format!("symbolic link {} has no target", record.id))?;
                store.set_target(slot, Some(record.symlink.into()));
            }
            Kind::Link => self.links.push((slot, record.target)),
            _ => {}
        }
        if inode.has(flags::SNAPSHOTTABLE) {
            self.namespace.snapshottable.insert(record.id);
        }
        let store = &mut self.namespace.store;
        if record.parent == 0 {
            let is_root = record.id == InodeId::ROOT.raw();
            check(!(is_root && inode.flags & !flags::SNAPSHOTTABLE != 0), || "the root has flags".into())?;
            let floating = is_root || inode.has(flags::UNPUBLISHED | flags::DETACHED | flags::HELD);
            return check(floating && record.name.is_empty(), || format!("inode {} has no place", record.id));
        }
        let floating = flags::UNPUBLISHED | flags::DETACHED | flags::HELD;
        check(!inode.has(floating), || "an entry of what is not linked".into())?;
        check(record.id != InodeId::ROOT.raw(), || "the root has a parent".into())?;
        proto::path::check_name(record.name).map_err(|error| error.to_string())?;
        store.set_name(slot, record.name);
        self.entries.push((slot, record.parent));
        Ok(())
    }

    fn take_block(&mut self, record: &BlockFields<'_>, homes: &[u32]) -> Result<(), Fault> {
        let next = self.namespace.next;
        // Within a file they are in the file's order, which joined files do not have from the ids.
        check(self.last_block <= record.inode, || "blocks are out of order".into())?;
        self.last_block = record.inode;
        let ids = BlockId::FIRST.raw()..next.block.raw();
        let stamps = GenerationStamp::FIRST.raw()..next.stamp.raw();
        let given = ids.contains(&record.id) && stamps.contains(&record.stamp);
        check(given, || format!("block {} or its stamp was never given", record.id))?;
        check(homes.len() <= MAX_HOMES, || "too many storages".into())?;
        let storages = self.namespace.registry.records().len() as u64;
        check(homes.iter().all(|home| u64::from(*home) < storages), || "an unknown storage".into())?;
        let store = &mut self.namespace.store;
        let slot = store.slot(record.inode).ok_or_else(|| format!("block {} of no inode", record.id))?;
        let file = *store.inode(slot);
        check(file.is_file() && store.block_slot(record.id).is_none(), || format!("block {} is twice", record.id))?;
        let last = store.extent(slot).last;
        let flags = u8::try_from(record.flags).map_err(|error| error.to_string())?;
        let (old, cut) = (self.version < SINCE_RECOVERY, flags & flags::CUT != 0);
        let known = match self.version {
            _ if old => flags::COMMITTED,
            SINCE_OFFERS.. => flags::COMMITTED | flags::CUT | flags::UNTOUCHED,
            _ => flags::COMMITTED | flags::CUT,
        };
        check(flags & !known == 0, || "unknown flags".into())?;
        let settled = cut || last == NONE || store.block(last).committed();
        check(settled, || format!("block {} comes after an open one", record.id))?;
        let committed = flags & flags::COMMITTED != 0;
        let may_be_open = !cut && file.has(flags::OPEN | flags::DETACHED);
        check(committed || may_be_open, || "an open block in a closed file".into())?;
        // An open block with a length was finished before.
        let fits = if committed { record.len_bytes > 0 } else { !old || record.len_bytes == 0 };
        check(fits, || "the length contradicts the state".into())?;
        let untouched = flags & flags::UNTOUCHED != 0;
        check(!untouched || (!committed && record.len_bytes > 0), || "no block that is open again".into())?;
        check(record.len_bytes <= file.block_size_bytes(), || "a block above the block size".into())?;
        let digest = match record.digest {
            [] => None,
            bytes => Some(bytes.try_into().map_err(|error| format!("digest: {error}"))?),
        };
        check(store.blocks.has_room(1), || "too many blocks".into())?;
        let block =
            Block { id: record.id, stamp: record.stamp, len_bytes: record.len_bytes, flags, ..Block::default() };
        if cut {
            self.cut_blocks += 1;
            store.load_cut_block(slot, block, homes, digest);
        } else {
            store.load_block(slot, block, homes, digest);
        }
        Ok(())
    }

    fn take_attributes(&mut self, record: &AttributesRecord) -> Result<(), Fault> {
        let store = &mut self.namespace.store;
        let slot = store.slot(record.inode).filter(|slot| store.inode(*slot).kind != Kind::Link);
        let slot = slot.ok_or_else(|| format!("attributes of no inode {}", record.inode))?;
        let again = store.xattrs.get(&record.inode).is_some()
            || store.acls.get(&record.inode).is_some()
            || store.quotas.get(&record.inode).is_some();
        check(!again, || format!("attributes of inode {} twice", record.inode))?;
        let attributes = history::attributes_of(record, store.interned.texts().len())?;
        let directory = store.inode(slot).is_dir();
        let default = attributes.acl.as_ref().is_some_and(|acl| !acl.default.is_empty());
        check(directory || (attributes.quota.is_none() && !default), || "a file with what directories have".into())?;
        store.set_xattrs(slot, attributes.xattrs);
        store.set_acl(slot, attributes.acl);
        store.set_quota(slot, attributes.quota);
        Ok(())
    }

    fn take_snapshot(&mut self, record: &SnapshotRecord) -> Result<(), Fault> {
        let namespace = &mut self.namespace;
        check(namespace.snapshottable.contains(&record.directory), || "a snapshot of what has none".into())?;
        proto::path::check_name(&record.name).map_err(|error| error.to_string())?;
        let before = namespace.store.snapshots_of(record.directory);
        let newer = before.last().is_none_or(|last| last.id < record.id) && record.id <= namespace.last_snapshot;
        check(newer && record.id > 0, || "snapshots are out of order".into())?;
        check(before.iter().all(|one| *one.name != *record.name), || "a name of a snapshot twice".into())?;
        let (id, name) = (record.id, record.name.as_str().into());
        namespace.store.add_snapshot(record.directory, Snapshot { id, name, created_ns: record.created_ns });
        Ok(())
    }

    fn take_sweep(&mut self, record: &SweepRecord) -> Result<(), Fault> {
        check(record.died <= self.namespace.last_snapshot, || "a sweep of no snapshot".into())?;
        check(record.after.len() <= proto::path::MAX_NAME_BYTES, || "a long name".into())?;
        let (directory, after, died) = (record.directory, record.after.as_str().into(), record.died);
        if record.purge != 0 {
            let phase = match record.purge {
                1 => Phase::Versions,
                2 => Phase::Births,
                3 => Phase::Ghosts,
                4 => Phase::Cuts,
                other => return Err(format!("an unknown phase {other} of a purge")),
            };
            let shard = record.shard as usize;
            check(self.namespace.purge.is_none() && shard < SHARDS, || "a purge twice, or nowhere".into())?;
            self.namespace.purge =
                Some(Purge { phase, shard, number: directory, name: after, snapshot: died, position: record.position });
            return Ok(());
        }
        self.namespace.sweeps.push(Sweep { directory, after, died });
        Ok(())
    }

    /// Joins further entries to their inodes.
    fn join_links(&mut self) -> Result<(), Fault> {
        let store = &mut self.namespace.store;
        for (link, target) in std::mem::take(&mut self.links) {
            let slot =
                store.slot(target).filter(|slot| !matches!(store.inode(*slot).kind, Kind::Directory | Kind::Link));
            let slot = slot.ok_or_else(|| format!("an entry of inode {target}, which has none"))?;
            store.join_link(link, slot);
        }
        Ok(())
    }

    fn take_open(&mut self, record: &OpenRecord) -> Result<(), Fault> {
        let next = self.namespace.next;
        let store = &mut self.namespace.store;
        check(record.epoch < next.epoch.raw(), || "a lease that was never given".into())?;
        let slot = store.slot(record.inode).filter(|slot| store.inode(*slot).has(flags::OPEN));
        let slot = slot.filter(|slot| store.open_of(*slot).is_none());
        let slot = slot.ok_or_else(|| format!("inode {} is not open, or twice", record.inode))?;
        let pinned = record.pin_parent != 0;
        check(pinned == store.inode(slot).has(flags::UNPUBLISHED), || "a pin contradicts its inode".into())?;
        let pin = if pinned {
            proto::path::check_name(&record.pin_name).map_err(|error| error.to_string())?;
            let name = record.pin_name.as_str().into();
            Some(Pin { parent: record.pin_parent, name, overwrite: record.pin_overwrite })
        } else {
            None
        };
        let session = match record.session.as_ref() {
            [] => None,
            bytes => Some(SessionId::from_slice(bytes).ok_or("a session is 16 bytes")?),
        };
        let (target_len_bytes, accept_loss) = (record.target_len_bytes, record.accept_loss);
        check(record.recovering || !accept_loss, || "a loss of what is not recovered".into())?;
        let recovery = record.recovering.then_some(Recovering { target_len_bytes, accept_loss });
        let storages = self.namespace.registry.records().len() as u64;
        let offered = record.offered.clone();
        let fits = offered.len() <= MAX_OFFERED && offered.iter().all(|storage| u64::from(*storage) < storages);
        check(fits && (offered.is_empty() || record.reserved_stamp != 0), || "impossible offers".into())?;
        let open = Open { epoch: record.epoch, session, pin, reserved_stamp: record.reserved_stamp, offered, recovery };
        check_recovery(store, slot, &open, (record.target_len_bytes, next.stamp.raw()))?;
        store.set_open(slot, open);
        Ok(())
    }

    fn take_session(&mut self, record: &SessionRecord) -> Result<(), Fault> {
        let id = SessionId::from_slice(&record.session).ok_or("a session is 16 bytes")?;
        check(self.last_session.is_none_or(|last| last < id), || "sessions are out of order".into())?;
        self.last_session = Some(id);
        check(self.sessions.len() < MAX_SESSIONS, || "too many sessions".into())?;
        let few = record.answers as usize <= MAX_OUTCOMES && record.forgotten.len() <= 2 * MAX_RANGES_OF_LOWEST;
        check(few && record.lowest > 0, || "impossible numbers".into())?;
        let mut session = Session { seen: record.seen, lowest: record.lowest, ..Session::default() };
        let mut above = Some(record.lowest);
        let mut ends = record.forgotten.iter().copied();
        while let Some(first) = ends.next() {
            let last = ends.next().ok_or("half a range")?;
            let apart = above.is_some_and(|above| above <= first && first <= last);
            check(apart, || "ranges are out of order".into())?;
            session.forgotten.insert(first, last);
            // Adjacent ranges would be one; the numbers end at u64::MAX, which a client may use.
            above = last.checked_add(2);
        }
        self.sessions.push_back((id, session, record.answers));
        Ok(())
    }

    fn take_answer(&mut self, record: &AnswerOfCall) -> Result<(), Fault> {
        self.restore_full_sessions();
        let (_, session, missing) = self.sessions.front_mut().ok_or("an answer of no session")?;
        let fits = record.call >= session.lowest && session.outcomes.iter().all(|(call, _)| *call != record.call);
        check(fits, || format!("call {} is answered twice, or acknowledged", record.call))?;
        session.outcomes.push_back((record.call, record.answer.as_ref().into()));
        *missing -= 1;
        Ok(())
    }

    fn restore_full_sessions(&mut self) {
        while let Some((id, session, _)) = self.sessions.pop_front_if(|(_, _, missing)| *missing == 0) {
            self.namespace.sessions.restore(id, session);
        }
    }

    /// Puts the whole together and checks it as a whole.
    fn finish(mut self) -> Result<Namespace, Fault> {
        self.restore_full_sessions();
        check(self.sessions.is_empty(), || "answers are missing".into())?;
        self.join_links()?;
        self.link_entries()?;
        self.namespace.store.end_loading();
        self.check_queue()?;
        self.check_held()?;
        let cuts = self.namespace.store.cuts.len();
        check(self.cut_blocks == cuts, || "a block that was cut off from nowhere".into())?;
        let floating = self.floating()?;
        self.count_totals(floating)?;
        let Self { mut namespace, state_hash, .. } = self;
        for lease in namespace.open_files() {
            if let Some(session) = lease.session {
                check(namespace.sessions.knows(session), || format!("{} is written by no session", lease.inode))?;
            }
            namespace.sessions.lease_taken(lease.session);
        }
        for top in &namespace.queue {
            if let Some(slot) = namespace.store.slot(*top) {
                namespace.pending += namespace.store.weight(slot).names();
            }
        }
        check(namespace.state_hash() == state_hash, || "the state hash does not match".into())?;
        Ok(namespace)
    }

    fn link_entries(&mut self) -> Result<(), Fault> {
        let store = &mut self.namespace.store;
        // The parent's slot takes the place of its id; entries of one directory mostly stand together.
        let mut last = (0, NONE);
        let entries = std::mem::take(&mut self.entries).into_iter().map(|(slot, parent)| {
            if last.0 != parent {
                let found = store.slot(parent).filter(|parent| store.inode(*parent).is_dir());
                last = (parent, found.ok_or_else(|| format!("{:?} has no directory", store.name(slot)))?);
            }
            Ok((slot, last.1))
        });
        let entries: Vec<(u32, u32)> = entries.collect::<Result<_, Fault>>()?;
        check(store.link_all(&entries), || "a name twice in a directory".into())
    }

    fn check_held(&self) -> Result<(), Fault> {
        let store = &self.namespace.store;
        for slot in store.inodes.all() {
            let inode = store.inode(slot);
            let id = inode.id;
            let held = inode.has(flags::HELD);
            check(!held || inode.has_rare(rare::GHOSTS), || format!("inode {id} is held by no snapshot"))?;
            check(inode.kind != Kind::Link || inode.parent != NONE, || format!("entry {id} is nowhere"))?;
        }
        Ok(())
    }

    fn check_queue(&self) -> Result<(), Fault> {
        let store = &self.namespace.store;
        let mut seen: HashMap<u64, (), FxBuildHasher> = HashMap::default();
        for top in &self.namespace.queue {
            let detached = store.slot(*top).is_some_and(|slot| store.inode(slot).has(flags::DETACHED));
            check(detached && seen.insert(*top, ()).is_none(), || format!("inode {top} is queued by mistake"))?;
        }
        Ok(())
    }

    /// Slots of all inodes without a directory, after checking that each has a reason: the root, an unpublished
    /// file, or the top of an unlinked tree on the queue.
    fn floating(&self) -> Result<Vec<u32>, Fault> {
        let store = &self.namespace.store;
        let (mut floating, mut open, mut detached) = (Vec::new(), 0, 0);
        for slot in store.inodes.all() {
            let inode = store.inode(slot);
            open += usize::from(inode.has(flags::OPEN));
            detached += usize::from(inode.has(flags::DETACHED));
            if inode.parent == NONE {
                floating.push(slot);
            }
        }
        check(open == store.open.len(), || "an open file without its lease".into())?;
        check(detached == self.namespace.queue.len(), || "an unlinked tree that is not on the queue".into())?;
        let root = store.slot(InodeId::ROOT.raw()).filter(|slot| store.inode(*slot).is_dir());
        check(root.is_some() == self.namespace.identity.is_some(), || "the root is missing, or alone".into())?;
        Ok(floating)
    }

    /// Sets the totals of all directories, from below. What is not reached from above is in a loop.
    fn count_totals(&mut self, tops: Vec<u32>) -> Result<(), Fault> {
        let store = &mut self.namespace.store;
        let reached = store.count_totals(tops);
        check(reached == u64::from(store.inodes.len()), || "directories in a loop".into())?;
        Ok(())
    }
}

fn inode_of(record: &InodeFields<'_>) -> Result<Inode, Fault> {
    let kind = match record.kind {
        1 => Kind::File,
        2 => Kind::Directory,
        3 => Kind::Symlink,
        4 => Kind::Link,
        5 => Kind::Fifo,
        6 => Kind::Socket,
        7 => Kind::CharacterDevice,
        8 => Kind::BlockDevice,
        other => return Err(format!("unknown kind {other} of inode")),
    };
    let small = |number: u32| u16::try_from(number).map_err(|error| error.to_string());
    let inode = Inode {
        id: record.id,
        mtime_ns: record.mtime_ns,
        ctime_ns: record.ctime_ns,
        atime_ns: record.atime_ns,
        owner: record.owner,
        group: record.group,
        block_size_units: record.block_size_units,
        mode: small(record.mode)?,
        replication: small(record.replication)?,
        kind,
        flags: u8::try_from(record.flags).map_err(|error| error.to_string())?,
        ..Inode::default()
    };
    let allowed = match inode.kind {
        Kind::Directory => flags::DETACHED | flags::HELD | flags::SNAPSHOTTABLE,
        Kind::File => flags::ALL & !flags::SNAPSHOTTABLE,
        _ => flags::DETACHED | flags::HELD,
    };
    check(inode.mode <= 0o7777 && inode.flags & !allowed == 0, || "impossible mode or flags".into())?;
    let writing = inode.has(flags::OPEN);
    check(writing || !inode.has(flags::UNPUBLISHED), || "an unpublished file that nobody writes".into())?;
    check(!(writing && inode.has(flags::DETACHED)), || "the top of an unlinked tree is being written".into())?;
    let sized = inode.block_size_units > 0 && inode.replication > 0;
    let unsized_ = inode.block_size_units == 0 && inode.replication == 0;
    let fits = match inode.kind {
        Kind::File => sized,
        Kind::CharacterDevice | Kind::BlockDevice => inode.replication == 0,
        _ => unsized_,
    };
    check(fits, || "block size or replication contradict the kind".into())?;
    Ok(inode)
}

/// A stamp is reserved for an open last block only, and a recovery is nobody's and has one.
fn check_recovery(
    store: &Store,
    slot: u32,
    open: &Open,
    (target_len_bytes, next_stamp): (Option<u64>, u64),
) -> Result<(), Fault> {
    let last = store.extent(slot).last;
    let block = (last != NONE).then(|| store.block(last)).filter(|block| !block.committed());
    let stamp = open.reserved_stamp;
    if stamp != 0 {
        let fits = block.is_some_and(|block| block.stamp < stamp) && stamp < next_stamp;
        check(fits, || format!("stamp {stamp} is reserved by mistake"))?;
    }
    let plain = open.recovery.is_none() && target_len_bytes.is_none();
    let nobodys = open.session.is_none() && open.pin.is_none();
    let recovers = open.recovery.is_some() && nobodys && stamp != 0;
    let target = target_len_bytes.is_none_or(|target| block.is_some_and(|block| block.len_bytes == target));
    check(plain || (recovers && target), || "an impossible recovery".into())
}

fn check(right: bool, what: impl FnOnce() -> Fault) -> Result<(), Fault> {
    if right { Ok(()) } else { Err(what()) }
}
