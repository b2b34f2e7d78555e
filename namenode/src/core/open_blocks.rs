//! Open blocks, some at a time: where they are placed, for who has to know that; and those that are open again and lack
//! copies while their writers do not write are taken from writers that leave them so ([`Reopened`]).

use base::clock::Moment;
use proto::ids::{InodeId, LeaseEpoch};

use super::NamenodeCore;
use super::recovery::begin;
use crate::blocks::Reopened;
use crate::namespace::OpenLease;

/// Open files that are looked at in a second.
const LOOK: usize = 512;

impl NamenodeCore {
    /// Looks at the next open files.
    pub(super) fn look_at_open_blocks(&mut self, now: Moment) {
        let mut endangered: Vec<(InodeId, LeaseEpoch)> = Vec::new();
        {
            let namespace = self.shared.namespace.read();
            if self.open_look.is_none() {
                self.open_look_end = namespace.next_inode();
            }
            let open = namespace.open_files_after(self.open_look, LOOK);
            // Those that are younger than the look are not waited for: it would never end while many are made.
            let goes_on = open.last().filter(|last| open.len() == LOOK && last.inode < self.open_look_end);
            self.open_look = goes_on.map(|last| last.inode);
            let mut blocks = self.shared.blocks.write();
            for lease in &open {
                let last = namespace.lease(lease.inode).and_then(|lease| lease.last_block);
                if let Some(last) = last.filter(|last| !last.committed) {
                    blocks.is_open_at(last.block, &last.storages);
                }
            }
            if self.open_look.is_none() {
                blocks.looked_at_open_files();
            }
            for OpenLease { inode, lease_epoch, .. } in open.into_iter().filter(|lease| lease.recovery.is_none()) {
                let Some(last) = namespace.reopened_block(inode) else { continue };
                let reopened = Reopened {
                    block: last.block,
                    stamp: last.stamp,
                    floor_bytes: last.len_bytes,
                    replication: last.replication,
                    least: namespace.minimum_copies(last.replication),
                    homes: &last.storages,
                    untouched: last.untouched,
                };
                if blocks.look_at_reopened(reopened, now) && !blocks.is_recovering(inode) {
                    tracing::warn!(%inode, block = %last.block, "a file is taken from its writer: copies lack");
                    blocks.recovery_is_logged(inode);
                    endangered.push((inode, lease_epoch));
                }
            }
        }
        for (inode, epoch) in endangered {
            self.log_recovery(inode, begin(inode, epoch));
        }
    }
}
