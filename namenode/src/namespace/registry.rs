//! What is known of the cluster besides files: identity, settings, storages, keys of block tokens.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{ClusterId, NodeId, PoolId, StorageId};
use proto::log::{Format, RegisterStorage, SetBlockKey, Settings, UpdateSettings};
use rustc_hash::FxBuildHasher;

use super::store::records::{BLOCK_SIZE_UNIT, Kind};
use super::store::{Store, fresh};
use super::{BlockKey, Call, Identity, Namespace, Outcome, StorageIndex, StorageRecord, access};

/// Storages: their numbers have 24 bits.
pub(crate) const MAX_STORAGES: usize = 1 << 24;
/// Longest media and rack, in bytes.
const MAX_TEXT_BYTES: usize = 255;
/// Keys that are kept: the one in use, and those of tokens that are still out.
pub(crate) const MAX_KEYS: usize = 3;
/// Length of a key, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// Most copies that settings may allow, as in HDFS.
const MAX_REPLICATION: u32 = 512;
/// Largest block that settings may allow: 1 TiB.
const MAX_BLOCK_SIZE_BYTES: u64 = 1 << 40;
/// Most blocks per file and entries per directory that settings may allow.
const MAX_BLOCKS_PER_FILE: u64 = 1 << 20;
const MAX_DIRECTORY_ENTRIES: u32 = 64 << 20;
/// Mode of the root at format, as in HDFS.
const ROOT_MODE: u16 = 0o755;

/// Storages by number and by id.
#[derive(Default)]
pub(crate) struct Registry {
    records: Arc<Vec<StorageRecord>>,
    numbers: HashMap<StorageId, u32, FxBuildHasher>,
    nodes: BTreeSet<NodeId>,
}

impl Registry {
    pub(crate) const fn records(&self) -> &Arc<Vec<StorageRecord>> {
        &self.records
    }
    pub(crate) fn find(&self, storage: &StorageId) -> Option<u32> {
        self.numbers.get(storage).copied()
    }
    /// Number of nodes that ever had a storage.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }
    /// Distinct nodes among storages.
    pub(crate) fn nodes_of(&self, storages: &[u32]) -> usize {
        if base::mutated!(Sc67DisksAreNodes) {
            return storages.len();
        }
        let nodes: BTreeSet<&NodeId> = storages
            .iter()
            .filter_map(|number| self.records.get(*number as usize))
            .map(|record| &record.node)
            .collect();
        nodes.len()
    }
    /// Adds a storage that is not there.
    pub(crate) fn push(&mut self, record: StorageRecord) -> u32 {
        let number = self.records.len() as u32;
        self.numbers.insert(record.storage.clone(), number);
        self.nodes.insert(record.node.clone());
        Arc::make_mut(&mut self.records).push(record);
        number
    }
}

impl Namespace {
    pub(super) fn format(&mut self, call: &Call<'_>, format: &Format) -> FsResult<Outcome> {
        if self.identity.is_some() {
            return Err(FsError::new(ErrorCode::AlreadyExists, "the cluster is formatted"));
        }
        let cluster = ClusterId::parse(&format.cluster).map_err(|bad| invalid(bad.to_string()))?;
        let pool = PoolId::parse(&format.pool).map_err(|bad| invalid(bad.to_string()))?;
        access::check_principal("user", &format.superuser)?;
        let settings = format.settings.clone().unwrap_or_default();
        check_settings(&settings)?;
        let owner = self.store.interned.intern(&format.superuser);
        let group = self.store.interned.intern(&settings.superuser_group);
        let root = fresh(self.next.inode.raw(), Kind::Directory, ROOT_MODE, owner, group, call.now_ns);
        self.next.inode = self.next.inode.next();
        self.store.add_inode(root);
        self.identity = Some(Identity { cluster, pool, superuser: format.superuser.clone() });
        self.settings = settings;
        Ok(Outcome::Done)
    }

    pub(super) fn update_settings(&mut self, call: &Call<'_>, update: &UpdateSettings) -> FsResult<Outcome> {
        let caller = call.caller()?;
        if !self.is_superuser(caller) {
            return Err(FsError::new(ErrorCode::PermissionDenied, "only a superuser changes settings"));
        }
        let settings = update.settings.clone().unwrap_or_default();
        check_settings(&settings)?;
        self.settings = settings;
        Ok(Outcome::Done)
    }

    pub(super) fn register_storage(&mut self, register: &RegisterStorage) -> FsResult<Outcome> {
        let storage = StorageId::parse(&register.storage).map_err(|bad| invalid(bad.to_string()))?;
        let node = NodeId::parse(&register.node).map_err(|bad| invalid(bad.to_string()))?;
        if register.media.len() > MAX_TEXT_BYTES || register.rack.len() > MAX_TEXT_BYTES {
            return Err(invalid(format!("media and rack have at most {MAX_TEXT_BYTES} bytes")));
        }
        let record = StorageRecord { storage, node, media: register.media.clone(), rack: register.rack.clone() };
        let number = match self.registry.find(&record.storage) {
            None if self.registry.records.len() >= MAX_STORAGES => {
                return Err(FsError::new(ErrorCode::NoSpace, "the registry of storages is full"));
            }
            None => self.registry.push(record),
            Some(number) => {
                self.update_storage(number, record)?;
                number
            }
        };
        Ok(Outcome::StorageRegistered(StorageIndex(number)))
    }

    fn update_storage(&mut self, number: u32, record: StorageRecord) -> FsResult<()> {
        let known = self.registry.records.get(number as usize);
        let Some(known) = known.filter(|known| known.node == record.node) else {
            let message = format!("{} belongs to another node", record.storage);
            return Err(FsError::new(ErrorCode::AlreadyExists, message)
                .with_hint("a disk was copied or moved to another node: format it, or move it back"));
        };
        if *known != record
            && let Some(slot) = Arc::make_mut(&mut self.registry.records).get_mut(number as usize)
        {
            *slot = record;
        }
        Ok(())
    }

    pub(super) fn set_block_key(&mut self, key: &SetBlockKey) -> FsResult<Outcome> {
        if !KEY_BYTES.contains(&key.key.len()) {
            return Err(invalid(format!("a key has {} to {} bytes", KEY_BYTES.start(), KEY_BYTES.end())));
        }
        if let Some(last) = self.keys.last() {
            if last.number == key.number && last.key == key.key {
                return Ok(Outcome::Done);
            }
            if last.number >= key.number {
                return Err(FsError::new(ErrorCode::AlreadyExists, format!("key {} was set before", key.number)));
            }
        }
        self.keys.push(BlockKey { number: key.number, key: key.key.clone() });
        let surplus = self.keys.len().saturating_sub(MAX_KEYS);
        self.keys.drain(..surplus);
        Ok(Outcome::Done)
    }

    /// Copies that `complete` and a further block ask for: min(2, replication, registered nodes), at least 1.
    #[must_use]
    pub fn minimum_copies(&self, replication: u32) -> u32 {
        let nodes = u32::try_from(self.registry.nodes()).unwrap_or(u32::MAX);
        replication.min(nodes).clamp(1, 2)
    }

    /// Numbers of storages that a command names.
    pub(super) fn known_storages(&self, names: &[String]) -> FsResult<Vec<u32>> {
        let mut numbers = Vec::with_capacity(names.len().min(MAX_REPLICATION as usize));
        for name in names {
            let storage = StorageId::parse(name).map_err(|bad| invalid(bad.to_string()))?;
            let number = self.registry.find(&storage).ok_or_else(|| invalid(format!("{storage} is not registered")))?;
            if numbers.contains(&number) {
                return Err(invalid(format!("{storage} is named twice")));
            }
            numbers.push(number);
        }
        if numbers.len() > MAX_REPLICATION as usize {
            return Err(invalid(format!("a block has at most {MAX_REPLICATION} storages")));
        }
        Ok(numbers)
    }
}

/// Checks settings as a whole.
pub(crate) fn check_settings(settings: &Settings) -> FsResult<()> {
    access::check_principal("group", &settings.superuser_group)?;
    let sizes = settings.min_block_size_bytes..=settings.max_block_size_bytes;
    let faults = [
        (settings.max_replication == 0 || settings.max_replication > MAX_REPLICATION, "max_replication is 1 to 512"),
        (
            settings.default_replication == 0 || settings.default_replication > settings.max_replication,
            "default_replication is 1 to max_replication",
        ),
        (
            settings.min_block_size_bytes < BLOCK_SIZE_UNIT || settings.max_block_size_bytes > MAX_BLOCK_SIZE_BYTES,
            "block sizes are 512 bytes to 1 TiB",
        ),
        (
            !sizes.contains(&settings.default_block_size_bytes)
                || !settings.default_block_size_bytes.is_multiple_of(BLOCK_SIZE_UNIT),
            "default_block_size_bytes is a multiple of 512 between the smallest and the largest",
        ),
        (
            settings.max_blocks_per_file == 0 || settings.max_blocks_per_file > MAX_BLOCKS_PER_FILE,
            "max_blocks_per_file is 1 to 1048576",
        ),
        (
            settings.max_directory_entries == 0 || settings.max_directory_entries > MAX_DIRECTORY_ENTRIES,
            "max_directory_entries is 1 to 67108864",
        ),
    ];
    match faults.iter().find(|(wrong, _)| *wrong) {
        Some((_, rule)) => Err(invalid(format!("settings: {rule}"))),
        None => Ok(()),
    }
}

pub(super) fn invalid(message: String) -> FsError {
    FsError::new(ErrorCode::InvalidArgument, message)
}

/// The root of a formatted store.
pub(super) fn root(store: &Store) -> Option<u32> {
    store.slot(proto::ids::InodeId::ROOT.raw())
}
