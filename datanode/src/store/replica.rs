//! What a node knows of one replica.

use proto::cluster::ReplicaState as WireState;
use proto::ids::GenerationStamp;

/// State of a replica.
///
/// ```text
///   create ──▶ BeingWritten ──finalise──▶ Finalized ──damage found──▶ Corrupt ──read whole and sound──▶ Finalized
///                   │ writer gone, or the node died
///                   ▼
///             WaitingRecovery         never served as whole
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplicaState {
    /// A writer is streaming.
    BeingWritten,
    /// Half-written, and nobody writes: reported so, never served as whole.
    WaitingRecovery,
    /// Whole and durable.
    Finalized,
    /// Found damaged on this node.
    Corrupt,
}

impl ReplicaState {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeingWritten => "being written",
            Self::WaitingRecovery => "half-written and waiting for recovery",
            Self::Finalized => "finalized",
            Self::Corrupt => "corrupt",
        }
    }
    /// In reports.
    #[must_use]
    pub const fn to_wire(self) -> WireState {
        match self {
            Self::BeingWritten => WireState::BeingWritten,
            Self::WaitingRecovery => WireState::WaitingRecovery,
            Self::Finalized => WireState::Finalized,
            Self::Corrupt => WireState::Corrupt,
        }
    }
}

/// A replica of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its generation stamp.
    pub stamp: GenerationStamp,
    /// Its length in bytes; while it is not finalised, how many bytes its checksums cover.
    pub len_bytes: u64,
    /// Its state.
    pub state: ReplicaState,
}
