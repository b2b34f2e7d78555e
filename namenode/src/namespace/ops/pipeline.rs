//! The pipeline of an open last block, and the first flush of its file.
//!
//! ```text
//!   NewStamp ─▶ a stamp is reserved; the block keeps its own      (a node of the pipeline failed)
//!   the client builds a pipeline at the reserved stamp
//!   UpdatePipeline ─▶ the block has the new stamp: replicas of the old one count for nothing
//! ```

use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, GenerationStamp};
use proto::log::{NewStamp, Publish, UpdatePipeline};

use super::blocks::check_stamp;
use crate::namespace::store::records::{Block, Open};
use crate::namespace::store::totals::Totals;
use crate::namespace::store::{NONE, Store};
use crate::namespace::{BlockEffect, Call, Namespace, Outcome, StorageIndex, registry};

/// Since this version of the commands it is noted which storages a writer was offered, and whether a block that is open
/// again got a pipeline.
pub(super) const SINCE_OFFERS: u32 = 5;

impl Namespace {
    pub(in crate::namespace) fn new_stamp(&mut self, call: &Call<'_>, new: &NewStamp) -> FsResult<Outcome> {
        let slot = self.writable(new.inode, new.lease_epoch, call.session)?;
        let (_, block) = self.open_last(slot, new.id)?;
        check_stamp(&block, new.stamp)?;
        let more = self.known_storages(&new.more)?;
        self.check_room(0)?;

        let stamp = self.reserve_stamp(slot);
        self.offer(call, slot, &more);
        Ok(Outcome::NewStamp { stamp, more: more.into_iter().map(StorageIndex).collect() })
    }

    pub(in crate::namespace) fn update_pipeline(
        &mut self,
        call: &Call<'_>,
        update: &UpdatePipeline,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let slot = self.writable(update.inode, update.lease_epoch, call.session)?;
        let (last, block) = self.open_last(slot, update.id)?;
        check_stamp(&block, update.stamp)?;
        let Some(open) = self.store.open_of(slot).cloned() else {
            return Err(registry::invalid("the file is not being written".to_owned()));
        };
        if open.reserved_stamp == 0 || open.reserved_stamp != update.new_stamp {
            let message = format!("stamp {} is not the one that was reserved", update.new_stamp);
            return Err(FsError::new(ErrorCode::StaleStamp, message));
        }
        check_length(&self.store, slot, &block, update.len_bytes)?;
        let homes = self.known_storages(&update.storages)?;
        if call.version >= SINCE_OFFERS {
            self.check_offered(last, &open, &homes)?;
        }
        self.check_copies_of_pipeline(slot, &homes)?;

        self.store.restamp_block(last, update.new_stamp, &homes);
        self.store.set_open(slot, Open { reserved_stamp: 0, offered: Vec::new(), ..open });
        effects.push(BlockEffect::Restamped {
            block: BlockId::from_raw(block.id),
            stamp: GenerationStamp::from_raw(update.new_stamp),
            replication: u32::from(self.store.inode(slot).replication),
            storages: homes.into_iter().map(StorageIndex).collect(),
        });
        Ok(Outcome::Done)
    }

    /// A pipeline is made of storages of the one before it, and of those that its writer was offered since. What a
    /// recovery asks later, and what a token is good for, must not be for a writer to choose.
    fn check_offered(&self, last: u32, open: &Open, homes: &[u32]) -> FsResult<()> {
        let known =
            |storage: &u32| self.store.homes(last).any(|home| home == *storage) || open.offered.contains(storage);
        let Some(stranger) = homes.iter().find(|storage| !known(storage)) else { return Ok(()) };
        let name = self.registry.records().get(*stranger as usize).map_or("?", |record| record.storage.as_str());
        let text = format!("{name} is neither of the pipeline of the block, nor was it offered for the next one");
        Err(registry::invalid(text).with_hint("ask for further datanodes with the new stamp"))
    }

    /// Notes storages that a writer is told of. Entries of versions before that did not.
    pub(super) fn offer(&mut self, call: &Call<'_>, slot: u32, storages: &[u32]) {
        let open = self.store.open_of(slot).filter(|_| call.version >= SINCE_OFFERS && !storages.is_empty());
        if let Some(mut open) = open.cloned() {
            open.offer(storages);
            self.store.set_open(slot, open);
        }
    }

    /// Fewer nodes than the minimum are no pipeline: the write fails, and says so.
    fn check_copies_of_pipeline(&self, slot: u32, homes: &[u32]) -> FsResult<()> {
        let nodes = self.registry.nodes_of(homes);
        let needed = self.minimum_copies(self.store.inode(slot).replication.into());
        if nodes >= needed as usize {
            return Ok(());
        }
        Err(FsError::new(ErrorCode::WriteFailed, format!("the pipeline has {nodes} nodes left, {needed} are needed"))
            .with_hint("see `blockyard node ls`; what was flushed is not lost"))
    }

    /// The file appears in its place, as `complete` would put it there, and is written on. Success also when it did
    /// before.
    pub(in crate::namespace) fn publish(
        &mut self,
        call: &Call<'_>,
        publish: &Publish,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let slot = self.writable(publish.inode, publish.lease_epoch, call.session)?;
        self.work += self.store.links_of(slot).len();
        let Some(open) = self.store.open_of(slot).cloned() else {
            return Err(registry::invalid("the file is not being written".to_owned()));
        };
        if let Some(pin) = &open.pin {
            let place = self.place(&self.who_calls(call)?, pin)?;
            let less = place.old.map_or_else(Totals::default, |old| self.store.weight(old));
            self.check_quota(place.directory, self.store.weight(slot), less, NONE)?;

            self.store.set_open(slot, Open { pin: None, ..open });
            self.put_in_place(place.directory, &place.name, slot, place.old, call.now_ns, effects);
        }
        let path = self.store.path(slot);
        Ok(Outcome::Status(self.status(slot, &path)))
    }

    /// The open last block of a file, which must be the one that is meant.
    pub(super) fn open_last(&self, slot: u32, id: i64) -> FsResult<(u32, Block)> {
        let last = self.store.extent(slot).last;
        let block = (last != NONE).then(|| self.store.block(last)).filter(|block| block.id == id);
        match block {
            None => Err(registry::invalid(format!("{} is not the last block of the file", BlockId::from_raw(id)))),
            Some(block) if block.committed() => {
                Err(registry::invalid(format!("{} has its final length", BlockId::from_raw(id))))
            }
            Some(block) => Ok((last, block)),
        }
    }

    /// Gives the next stamp, for the last block of an open file.
    pub(super) fn reserve_stamp(&mut self, slot: u32) -> GenerationStamp {
        let stamp = self.next.stamp;
        self.next.stamp = stamp.next();
        if let Some(open) = self.store.open_of(slot).cloned() {
            self.store.set_open(slot, Open { reserved_stamp: stamp.raw(), ..open });
        }
        stamp
    }
}

/// No byte of an open block that readers saw when it was finished may be lost (SC-39), and none is beyond its end.
pub(super) fn check_length(store: &Store, slot: u32, block: &Block, len_bytes: u64) -> FsResult<()> {
    let most = store.inode(slot).block_size_bytes();
    if len_bytes > most {
        return Err(registry::invalid(format!("the block has {len_bytes} bytes, {most} at most")));
    }
    if len_bytes < block.len_bytes {
        let least = block.len_bytes;
        return Err(registry::invalid(format!("the block has {len_bytes} bytes, it had {least} before")));
    }
    Ok(())
}
