//! What goes in and out of [`Consensus`](super::Consensus).

use bytes::Bytes;
use proto::ids::{ClusterId, LogIndex, MemberId, PoolId, Term};
use proto::raft::{HardState, RaftEntry, RaftMessage};

/// Who a member is. Written once, by `format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its block pool.
    pub pool: PoolId,
    /// This member's Raft id, not 0, never reused.
    pub member: MemberId,
    /// The voters that the cluster began with; this member is one of them.
    pub initial_voters: Vec<MemberId>,
}

/// Sizes and times of a member. Times are in ticks: the caller decides how long one is.
#[derive(Debug, Clone)]
pub struct ConsensusConfig {
    /// Size of a log segment; two are always held. An entry may have a quarter of it.
    pub segment_bytes: u64,
    /// Ticks without a leader after which a follower campaigns (at least; twice as many at most).
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Idle ticks after which the last batch is sealed by a marker.
    pub seal_ticks: u32,
    /// Ticks after which a log that does not answer counts as stalled: a leader of a group hands over.
    pub stall_ticks: u32,
    /// Payload bytes of one message to a follower.
    pub max_message_bytes: u64,
    /// Bytes of proposals that may wait to be committed.
    pub max_uncommitted_bytes: u64,
    /// Bytes of committed entries in one [`Ready`].
    pub max_committed_bytes: u64,
    /// Room that is always held for the next image; it grows with the images.
    pub image_reserve_bytes: u64,
    /// Bytes of applied entries kept in memory for followers that lag, above the newest image.
    pub tail_bytes: u64,
}

impl Default for ConsensusConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            election_ticks: 10,
            heartbeat_ticks: 2,
            seal_ticks: 5,
            stall_ticks: 30,
            max_message_bytes: 1 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_committed_bytes: 8 << 20,
            image_reserve_bytes: 16 << 20,
            tail_bytes: 64 << 20,
        }
    }
}

/// Where a proposal went: it is committed if and only if an entry with this index *and* term is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposed {
    /// Index of the entry.
    pub index: LogIndex,
    /// Term of the entry.
    pub term: Term,
}

/// An entry to apply. Indexes are handed out in order, without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedEntry {
    /// Index.
    pub index: LogIndex,
    /// Term.
    pub term: Term,
    /// The number given to `propose`.
    pub context: u64,
    /// What was proposed. Empty: the leader's entry that opens its term; nothing to apply but the index.
    pub payload: Bytes,
}

/// A linearizable read may be served once everything up to `index` is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadState {
    /// The number given to `read_index`.
    pub context: u64,
    /// What must have been applied.
    pub index: LogIndex,
}

/// Who leads, as this member sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// Current term.
    pub term: Term,
    /// Does this member lead?
    pub leader: bool,
    /// Does it lead, and has it handed out everything committed before its term? Only then may it answer.
    pub serving: bool,
    /// Who leads, if known.
    pub leader_id: Option<MemberId>,
}

/// How much room the log has. Set by the writer after each batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Room {
    /// The next segment and the image's room are held.
    #[default]
    Normal,
    /// The disk is full; what is left is the reserve: refuse what grows, let deletes and images pass.
    DeletesOnly,
    /// The reserve is nearly used up as well: `propose` refuses everything.
    Nothing,
}

/// What the caller has to do, in any order unless said otherwise.
#[derive(Debug)]
pub struct Ready {
    /// Send these now.
    pub messages: Vec<RaftMessage>,
    /// Send these images, with [`ImageStore::parts`](super::ImageStore::parts), then call
    /// [`Consensus::image_sent`](super::Consensus::image_sent).
    pub send_images: Vec<SendImage>,
    /// Give this to the [`LogWriter`](super::LogWriter), in the order of the readies.
    pub persist: Option<PersistBatch>,
    /// Replace the state machine by this image (it is durable) *before* applying `committed`.
    pub install_image: Option<ImageInfo>,
    /// Apply these.
    pub committed: Vec<CommittedEntry>,
    /// Answer these reads.
    pub read_states: Vec<ReadState>,
    /// Who leads now.
    pub role: Role,
}

/// A follower lags behind the log and gets the newest image.
#[derive(Debug, Clone)]
pub struct SendImage {
    /// Who gets it.
    pub to: MemberId,
    /// Index of the image to send.
    pub index: LogIndex,
    /// The message that every part is put into.
    pub(super) message: RaftMessage,
}

/// What an image is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageMeta {
    /// Last applied index in it.
    pub index: LogIndex,
    /// Term of that entry.
    pub term: Term,
    /// Running hash of the state, compared between members and after a restart.
    pub state_hash: u64,
}

/// A complete, verified, durable image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// What it is of.
    pub meta: ImageMeta,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// The log is needed from the entry after this one on (the older image that is kept, or 0).
    pub log_needed_after: LogIndex,
}

/// Work for the [`LogWriter`](super::LogWriter). Opaque: batches are written in the order they came.
#[derive(Debug, Default)]
pub struct PersistBatch {
    /// Number of the Raft ready that waits for this batch; 0: none does.
    pub(super) number: u64,
    /// Term and vote, when they changed.
    pub(super) hard_state: Option<HardState>,
    /// An image was installed: the log goes on after this index and term.
    pub(super) restart: Option<(u64, u64)>,
    /// Entries to append, after `restart`.
    pub(super) entries: Vec<RaftEntry>,
    /// Segments with nothing above this index can go.
    pub(super) release_through: Option<u64>,
    /// Seal the last batch, if nothing else is written.
    pub(super) seal: bool,
    /// See whether the disk has room again.
    pub(super) look_for_room: bool,
    /// Parts of an image that the leader sends.
    pub(super) image_parts: Vec<RaftMessage>,
}

impl PersistBatch {
    /// Is there anything to do?
    pub(super) const fn has_work(&self) -> bool {
        self.has_records()
            || self.hard_state.is_some()
            || self.release_through.is_some()
            || self.seal
            || self.look_for_room
            || !self.image_parts.is_empty()
    }

    /// Is there anything to append?
    pub(super) const fn has_records(&self) -> bool {
        self.restart.is_some() || !self.entries.is_empty()
    }

    /// Bytes of payload in it, for limits on what waits.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let entries: usize = self.entries.iter().map(|entry| entry.data.len()).sum();
        let parts = self.image_parts.iter().filter_map(|part| part.snapshot.as_ref());
        entries + parts.map(|snapshot| snapshot.data.len()).sum::<usize>()
    }
}

/// The writer's answer.
#[derive(Debug, Default)]
pub struct PersistDone {
    /// Highest number that is durable now; 0: none.
    pub(super) number: u64,
    /// Room left.
    pub(super) room: Room,
    /// Bytes of records that fit without asking the disk for more.
    pub(super) free_bytes: u64,
    /// Images that are whole, verified and durable now: the messages that brought them, without their data.
    pub(super) arrived: Vec<RaftMessage>,
}
