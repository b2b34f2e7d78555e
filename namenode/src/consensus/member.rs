//! The member: Raft driven by messages and ticks, answering with effects.

use std::path::Path;
use std::sync::Arc;

use base::disk::Disk;
use base::random::Randomness;
use bytes::Bytes;
use proto::ids::{ClusterId, LogIndex, MemberId};
use proto::raft::RaftMessage;

use super::image::{ImageReader, ImageStore};
use super::log::LogWriter;
use super::{
    ConsensusConfig, ConsensusError, Identity, ImageInfo, PersistDone, ProposeError, Proposed, Ready, Role, Room,
    StepError,
};

/// A member of the group. Not shared: one thread owns it.
#[derive(Debug)]
pub struct Consensus {
    role: Role,
}

/// What [`Consensus::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The member. Entries after the image come out of `ready()` as they are (again) known to be committed.
    pub consensus: Consensus,
    /// Goes to the committer thread.
    pub writer: LogWriter,
    /// Goes to the thread that writes images.
    pub images: ImageStore,
    /// Who this is.
    pub identity: Identity,
    /// Where the state machine starts from.
    pub recovered: Recovered,
}

/// Where the state machine starts from.
#[derive(Debug)]
pub struct Recovered {
    /// The newest usable image; `None`: start from nothing.
    pub image: Option<ImageReader>,
    /// Last index in the log, committed or not.
    pub last_index: LogIndex,
    /// What was found and mended on the way, for the log of the server.
    pub notes: Vec<String>,
}

impl Consensus {
    /// Makes a new member in an empty (or absent) folder. A format that was interrupted is begun again.
    ///
    /// # Errors
    /// [`ConsensusError::NotEmpty`] and the disk's.
    pub fn format(disk: &Arc<dyn Disk>, dir: &Path, identity: &Identity) -> Result<(), ConsensusError> {
        Err(ConsensusError::BadConfig(format!("{disk:?} {} {identity:?}: not built yet", dir.display())))
    }

    /// Was a member formatted in this folder? False also for an interrupted format.
    ///
    /// # Errors
    /// The disk's.
    pub fn is_formatted(disk: &Arc<dyn Disk>, dir: &Path) -> Result<bool, ConsensusError> {
        Err(ConsensusError::BadConfig(format!("{disk:?} {}: not built yet", dir.display())))
    }

    /// Opens the member in a folder. A single voter campaigns at once: it leads after its first batch.
    /// `expected`: the cluster that the folder must belong to, if the caller knows it.
    ///
    /// # Errors
    /// [`ConsensusError`]; nothing was changed then.
    pub fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        expected: Option<&ClusterId>,
        config: ConsensusConfig,
        random: &Arc<dyn Randomness>,
    ) -> Result<Opened, ConsensusError> {
        Err(ConsensusError::BadConfig(format!("{disk:?} {} {expected:?} {config:?} {random:?}", dir.display())))
    }

    /// Who leads, as of the last call.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Room left for the log, as of the last [`PersistDone`].
    #[must_use]
    pub const fn room(&self) -> Room {
        Room::Normal
    }

    /// Appends a payload to the log. `context` comes back with the committed entry.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing was appended then.
    pub fn propose(&mut self, context: u64, payload: Bytes) -> Result<Proposed, ProposeError> {
        let _ = (context, payload);
        Err(ProposeError::Busy)
    }

    /// Takes a message of a peer.
    ///
    /// # Errors
    /// [`StepError`]; the message changed nothing then.
    pub fn step(&mut self, message: RaftMessage) -> Result<(), StepError> {
        let _ = message;
        Err(StepError::Malformed("not built yet"))
    }

    /// One tick of time passed.
    pub fn tick(&mut self) {}

    /// Stands for election now.
    pub fn campaign(&mut self) {}

    /// Asks for a linearizable read; the answer comes as a [`super::ReadState`].
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] if this member cannot serve (yet).
    pub fn read_index(&mut self, context: u64) -> Result<(), ProposeError> {
        let _ = context;
        Err(ProposeError::Busy)
    }

    /// What is to be done now; `None` if nothing. Call it until then after every other call.
    pub fn ready(&mut self) -> Option<Ready> {
        None
    }

    /// A batch is durable. What waited for it comes out of the next `ready()`.
    pub fn persisted(&mut self, done: PersistDone) {
        let _ = done;
    }

    /// An image is durable: the log below the older image that is kept can go.
    pub fn image_written(&mut self, image: &ImageInfo) {
        let _ = image;
    }

    /// The parts of an image were handed to the network (or not): replication goes on.
    pub fn image_sent(&mut self, to: MemberId, delivered: bool) {
        let _ = (to, delivered);
    }
}
