//! The namenode without threads, sockets, files or clocks: events in, effects out.
//!
//! ```text
//!                    ┌───────────────────────────── NamenodeCore ─────────────────────────────┐
//!   Request ─────────▶ intake: version, leadership, placement, receipts ─▶ waiting ─▶ batch ──┐ │
//!   Raft, Persisted ─▶ consensus ─▶ committed: namespace.apply ─▶ blocks ─▶ Reply             │ │
//!   Tick ────────────▶ upkeep: Raft's time, dead nodes, leases, reclaiming, images    ◀───────┘ │
//!                    └──────────────────────────────────────────────────────────────────────────┘
//!   Effect: Reply · Persist (committer) · SendRaft (peers) · WriteImage (image thread) · Stop
//! ```
//!
//! The server puts threads around it, the simulation an event queue: both run this very thing. All waiting
//! operations go into one log entry; they are answered after the entry is applied. Whoever drives it calls
//! [`NamenodeCore::take`] for each event and [`NamenodeCore::pump`] after a handful of them.
//!
//! Locks, in this order: namespace, block map, member. They are held for a slice of an event or entry, never
//! across an effect. What needs many slices is done one at a time (`long.rs`), with other events in between.

mod access_times;
mod batch;
mod commit;
mod config;
mod event;
mod intake;
mod jobs;
mod lease;
mod long;
mod nodes;
mod open_blocks;
mod recovery;
mod shared;
#[cfg(test)]
mod tests;
mod trash;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use base::clock::Moment;
use base::disk::Disk;
use base::random::Randomness;
use proto::ids::{ClusterId, InodeId, LogIndex};

pub use config::{Bootstrap, CoreConfig, InitialDirectory};
pub use event::{Effect, Event, ImageJob};
pub use lease::Leases;
pub use shared::Shared;

use crate::blocks::BlockManager;
use crate::consensus::{Consensus, ConsensusError, Identity, ImageStore, LogWriter, Role};
use crate::namespace::{self, Namespace};
use batch::{Flight, Waiting};
use intake::{Parked, Reads};
use long::LongWork;
use recovery::Scan;
use upkeep::Upkeep;

/// The namenode's decisions. One thread owns it.
#[derive(Debug)]
pub struct NamenodeCore {
    config: CoreConfig,
    random: Arc<dyn Randomness>,
    identity: Identity,
    consensus: Consensus,
    images: ImageStore,
    shared: Arc<Shared>,
    role: Role,
    waiting: VecDeque<Waiting>,
    flights: BTreeMap<u64, Flight>,
    next_context: u64,
    parked: Vec<Parked>,
    reads: Reads,
    long: LongWork,
    scan: Scan,
    /// Up to where open files were looked at for copies that they lack.
    open_look: Option<InodeId>,
    /// The first inode that was not there yet when it began.
    open_look_end: InodeId,
    upkeep: Upkeep,
    applied: LogIndex,
    started: Moment,
    stopped: bool,
}

/// A core with what its driver needs beside it.
#[derive(Debug)]
pub struct OpenedCore {
    /// The core.
    pub core: NamenodeCore,
    /// For the committer.
    pub writer: LogWriter,
    /// For the image thread.
    pub images: ImageStore,
    /// State that doors may read.
    pub shared: Arc<Shared>,
    /// Who this member is.
    pub identity: Identity,
    /// What was found and mended, for the log.
    pub notes: Vec<String>,
}

/// Why a namenode cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Log, vote, identity or image.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// The image verifies, but is not a namespace.
    #[error("the image at {index} cannot be loaded: {source}")]
    Image {
        /// Of the image.
        index: LogIndex,
        /// Why.
        source: namespace::ImageError,
    },
}

impl NamenodeCore {
    /// Opens the member in a folder: loads the newest image; entries after it are applied as they are known
    /// to be committed. A single voter leads after its first batch is durable.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed then.
    pub fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        expected: Option<&ClusterId>,
        config: CoreConfig,
        random: Arc<dyn Randomness>,
        now: Moment,
    ) -> Result<OpenedCore, OpenError> {
        let opened = Consensus::open(disk, dir, expected, config.consensus.clone(), &random)?;
        let namespace = match opened.recovered.image {
            Some(mut image) => {
                let index = image.info().meta.index;
                commit::load(&mut image).map_err(|source| OpenError::Image { index, source })?
            }
            None => Namespace::new(),
        };
        let blocks = BlockManager::new(config.blocks.clone(), now);
        let applied = namespace.applied().0;
        let shared = Arc::new(Shared::new(namespace, blocks));
        let core = Self {
            role: opened.consensus.role(),
            identity: opened.identity.clone(),
            consensus: opened.consensus,
            images: opened.images.clone(),
            shared: Arc::clone(&shared),
            random,
            waiting: VecDeque::new(),
            flights: BTreeMap::new(),
            next_context: 1,
            parked: Vec::new(),
            reads: Reads::default(),
            long: LongWork::default(),
            scan: Scan::default(),
            open_look: None,
            open_look_end: InodeId::ROOT,
            upkeep: Upkeep::new(now),
            applied,
            started: now,
            stopped: false,
            config,
        };
        core.sync_storages();
        core.sync_services(now);
        Ok(OpenedCore {
            core,
            writer: opened.writer,
            images: opened.images,
            shared,
            identity: opened.identity,
            notes: opened.recovered.notes,
        })
    }

    /// Takes an event and does everything that follows from it.
    pub fn handle(&mut self, event: Event, now: Moment, wall_ns: i64, out: &mut Vec<Effect>) {
        self.take(event, now, wall_ns, out);
        self.pump(now, wall_ns, out);
    }

    /// Takes an event in; what goes into the log waits for [`NamenodeCore::pump`].
    pub fn take(&mut self, event: Event, now: Moment, wall_ns: i64, out: &mut Vec<Effect>) {
        if self.stopped {
            return;
        }
        match event {
            Event::Request { ticket, caller, request } => self.intake(ticket, caller, request, (now, wall_ns), out),
            Event::Raft(message) => {
                if let Err(error) = self.consensus.step(message) {
                    tracing::warn!(%error, "a Raft message was refused");
                }
            }
            Event::Persisted(done) => self.consensus.persisted(done),
            Event::ImageWritten(result) => self.image_written(result, now),
            Event::GoOn => self.go_on(wall_ns, out),
            Event::ImageSent { to, delivered } => self.consensus.image_sent(to, delivered),
            Event::Gone(ticket) => self.gone(ticket, now, out),
            Event::Tick => self.tick(now, wall_ns, out),
        }
    }

    /// Proposes what waits and follows the log as far as it goes.
    pub fn pump(&mut self, now: Moment, wall_ns: i64, out: &mut Vec<Effect>) {
        while !self.stopped {
            self.propose_waiting((now, wall_ns), out);
            let Some(ready) = self.consensus.ready() else { break };
            out.extend(ready.messages.into_iter().map(Effect::SendRaft));
            out.extend(ready.send_images.into_iter().map(Effect::SendImage));
            out.extend(ready.persist.map(Effect::Persist));
            self.new_role(ready.role, now, out);
            if let Some(image) = ready.install_image {
                self.install(&image, out);
            }
            for entry in ready.committed {
                self.commit(&entry, (now, wall_ns), out);
            }
            for state in ready.read_states {
                self.reads.confirmed(state.context, state.index);
            }
            self.answer_reads((now, wall_ns), out);
            self.after_commit(out);
        }
        if !self.stopped && self.long.wants_a_step() {
            out.push(Effect::GoOn);
        }
    }

    /// State that doors may read.
    #[must_use]
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
    /// Who this member is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }
    /// Who leads, as of the last event.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }
    /// Time between two [`Event::Tick`].
    #[must_use]
    pub const fn tick_interval(&self) -> std::time::Duration {
        self.config.tick
    }
    fn alone(&self) -> bool {
        self.identity.initial_voters.len() == 1
    }

    /// Makes the block map know every storage of the replicated registry, in its order.
    fn sync_storages(&self) {
        let namespace = self.shared.namespace.read();
        let mut blocks = self.shared.blocks.write();
        let known = blocks.registry().storages().count();
        for record in namespace.storages().iter().skip(known) {
            if let Err(error) = blocks.add_storage(&record.storage, &record.node, &record.media) {
                tracing::error!(%error, "the replicated registry holds a storage that does not fit");
            }
        }
    }
}
