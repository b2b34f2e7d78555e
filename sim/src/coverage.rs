//! Rare events that matter, counted. A run of all seeds in which one never happened tested less than it seems to.

macro_rules! rare_events {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// A rare event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rare { $($(#[$doc])* $name),* }

        impl Rare {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

rare_events! {
    // --- namenodes ---
    /// A second member came to lead a group.
    LeaderChanged;
    /// A leader was cut off and stepped down, or restarted as a follower.
    LeaderDeposed;
    /// An image was written while operations went on.
    ImageWritten;
    /// A follower that lagged got an image from its leader.
    ImageInstalled;
    /// A restart began from an image.
    StartedFromImage;
    /// A restart found a torn tail and cut it.
    TornTailCut;
    /// A restart found damage in what had been durable, and refused.
    RotRefused;
    /// A sync or a write of the log failed and the namenode stopped.
    LogFailed;
    /// A namenode died at a named durable step.
    NamenodeDiedAtPoint;
    /// The namenode's disk was full and growth was refused.
    NamenodeFull;
    /// A client was told to wait for the end of safe mode.
    SafeModeSeen;
    /// A datanode was silent for so long that it counted as dead.
    NodeDead;
    /// Copies were ordered, made and reported.
    CopyMade;
    /// A copy failed.
    CopyFailed;
    /// A node was drained, and the leader said that it may go.
    NodeDrained;
    /// An empty node took the place of a drained one, whose bytes are gone for ever.
    DrainedNodeReplaced;
    /// A node was ready for its maintenance, and was away for a while.
    MaintenanceReady;
    /// A node was taken back into service.
    BackInService;
    /// A balance moved a block.
    BalanceMoved;
    // --- deletions ---
    /// A replica of a deleted file went.
    DeletedUser;
    /// A copy too many went.
    DeletedSurplus;
    /// A copy of an older stamp, or a half-written one, went.
    DeletedStale;
    /// A damaged copy went.
    DeletedCorrupt;
    /// A command came too late, or from a deposed leader, and was refused.
    CommandVoid;
    /// A replica that a reader or its node had called damaged was read whole and counted again.
    SuspectCleared;
    // --- datanodes ---
    /// A volume failed and was taken out of service.
    VolumeCondemned;
    /// A datanode died at a named durable step.
    DatanodeDiedAtPoint;
    /// A scrubber found a damaged replica that nobody had read.
    ScrubberFound;
    /// A replica was stopped for a recovery and told how far it is.
    RecoveryPrepared;
    /// A replica got its length and stamp from a recovery.
    ReplicaRecovered;
    /// A half-written replica was found after a crash.
    HalfWrittenFound;
    /// A write was refused for want of room.
    DatanodeFull;
    /// A packet arrived damaged and was refused.
    PacketDamaged;
    /// A call of a disk did not come back for a while, and something waited for it.
    DiskHung;
    /// Whoever waited for such a call was told to go elsewhere.
    HangCut;
    /// A volume hung for so long that its replicas counted as away.
    VolumeAway;
    /// A volume that had hung was used again.
    VolumeBack;
    // --- clients ---
    /// A pipeline failed and the block was written to other nodes.
    PipelineReplaced;
    /// A pipeline failed and went on with what was acknowledged, at a higher stamp.
    PipelineRepaired;
    /// The same when only the end of the block was missing.
    CloseRepaired;
    /// A further node was brought up to date with what had been acknowledged.
    CaughtUp;
    /// What a writer had given was held by all.
    Flushed;
    /// And durably.
    Synced;
    /// A writer ended behind a flush, and the cluster had to close its file.
    WriterLeft;
    /// Something was appended in a block of its own.
    Appended;
    /// Something was appended to a block that had room.
    PartialBlockAppended;
    /// A reader saw a file that was being written.
    OpenFileRead;
    /// A write failed with a clear error.
    WriteFailed;
    /// A writer was dropped, and nothing was published.
    WriterDropped;
    /// A client died while it wrote.
    ClientDied;
    /// A call ended without anyone knowing its outcome.
    OutcomeUnknown;
    /// A call with an unknown outcome had taken effect.
    UnknownHappened;
    /// A call with an unknown outcome had not taken effect.
    UnknownDidNotHappen;
    /// A lease ran out before its file was closed.
    LeaseLost;
    /// A file was taken from a writer that was silent for the soft limit.
    LeaseTaken;
    /// A writer came back after its file was taken, and was refused.
    FormerWriterFenced;
    /// A reader left a replica for another one and got every byte.
    ReadFailover;
    /// A second attempt at a slow read was faster than the first one.
    HedgeWon;
    /// A reader found a damaged chunk and reported it.
    ChecksumMismatch;
    /// A reader asked again where a block is.
    Relocated;
    /// A read failed with a clear error.
    ReadFailed;
    // --- the world ---
    /// A message was delivered twice.
    Duplicated;
    /// A message was lost.
    Lost;
    /// A message was held back for long.
    Delayed;
    /// A link was cut one way.
    CutOneWay;
    /// A host was frozen and woke up.
    Frozen;
    /// A wall clock jumped.
    ClockJumped;
    /// The whole cluster lost power at once.
    AllLostPower;
}

/// How often each rare event happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    counts: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { counts: vec![0; Rare::ALL.len()] }
    }
}

impl Coverage {
    /// It happened.
    pub fn hit(&mut self, event: Rare) {
        self.counts[event as usize] += 1;
    }
    /// How often it happened.
    #[must_use]
    pub fn count(&self, event: Rare) -> u64 {
        self.counts[event as usize]
    }
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, more)| *sum += more);
    }
    /// Events that never happened.
    #[must_use]
    pub fn missing(&self) -> Vec<Rare> {
        Rare::ALL.iter().copied().filter(|event| self.count(*event) == 0).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Rare::ALL.iter().try_for_each(|event| writeln!(f, "  {event:?}: {}", self.count(*event)))
    }
}
