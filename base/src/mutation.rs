//! Known bugs that can be put back, one at a time, to see that a test notices.
//!
//! ```text
//!   BLOCKYARD_MUTATION=sc-41-acks-by-arrival cargo test …     the one test that is named for it must fail
//! ```
//!
//! Each variant of [`Mutation`] is a bug that other file systems have had, and that the code here avoids at one place;
//! at that place stands `mutated!(…)`, and with the variable set the code there does what the bug did. The list of
//! mutations and the tests that catch them is `tests/mutations.toml`.
//!
//! Only builds with debug assertions look at the variable. In others [`active`] is a constant `false`, and neither the
//! variable's name nor the bugs are in the program.

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A bug that can be put back. Named after the scar that it left elsewhere.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Mutation { $($(#[$doc])* $name),* }

        impl Mutation {
            /// Every mutation, in the order of this file.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The name by which it is asked for, `sc-<number of the scar>-<what it does>`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

mutations! {
    // --- namespace, log, image ---
    /// A tree that was unlinked is still written to: its log entries cannot be replayed later.
    Sc01DeletedFileIsWritten = "sc-01-deleted-file-is-written";
    /// A lease ends before the checks that may refuse the call: memory and log differ after a refusal.
    Sc03ChangeBeforeCheck = "sc-03-change-before-check";
    /// A door leaves the rules for paths to others.
    Sc04DoorDoesNotCheckPaths = "sc-04-door-does-not-check-paths";
    /// What arrives of one image is taken for a part of another one.
    Sc06PartsOfImagesMix = "sc-06-parts-of-images-mix";
    /// The older images go before the new one is there.
    Sc07OldImageGoesFirst = "sc-07-old-image-goes-first";
    /// The mode of an inode loses its high bits in an image.
    Sc08ModeIsCut = "sc-08-mode-is-cut";
    /// Attributes of the root are not in images.
    Sc09RootIsSpecial = "sc-09-root-is-special";
    /// What a snapshot refers to is freed with its last living name.
    Sc10SnapshotIsForgotten = "sc-10-snapshot-is-forgotten";
    /// A truncate inside a block takes away what a snapshot sees of it.
    Sc12SnapshotIsCut = "sc-12-snapshot-is-cut";
    /// A file whose last living name went, and that snapshots see, keeps its lease.
    Sc11LeaseOfTheDead = "sc-11-lease-of-the-dead";
    /// An image lists no leases of files that nobody sees yet: the same fact is told twice, in two ways.
    Sc13LeasesAreNotTheOpenFiles = "sc-13-leases-are-not-the-open-files";
    /// A vote counts before it is durable.
    Sc18VoteIsNotSynced = "sc-18-vote-is-not-synced";
    /// A vote file that is older than the log is believed.
    Sc18OldVoteFileCounts = "sc-18-old-vote-file-counts";
    /// Damage in the middle of the log is cut like a torn tail, with everything behind it.
    Sc19RotIsCutLikeATornTail = "sc-19-rot-is-cut-like-a-torn-tail";
    /// A vote has one copy: when it rots, the one before it comes back.
    Sc19VoteHasNoTwin = "sc-19-vote-has-no-twin";
    /// Entries are acknowledged before they are durable.
    Sc20AckBeforeSync = "sc-20-ack-before-sync";
    /// An entry is found by its path, but in no listing.
    Sc21EntryIsInNoListing = "sc-21-entry-is-in-no-listing";
    /// A gap in the log is taken for its end: a member that lost a part takes itself for whole.
    Sc22GapIsTheEndOfTheLog = "sc-22-gap-is-the-end-of-the-log";
    /// The totals of a directory keep what was moved out of it.
    Sc23TotalsKeepWhatLeft = "sc-23-totals-keep-what-left";
    /// An image of a newer program is read as if it were of this one.
    Sc24NewerImageIsRead = "sc-24-newer-image-is-read";

    // --- leases and recovery ---
    /// A writer whose file was taken from it still commits.
    Sc25RecoveryFencesNobody = "sc-25-recovery-fences-nobody";
    /// A flush is answered on the word of datanodes alone: they may have forgotten whom they were told to stop.
    Sc25FlushIsNotAskedFor = "sc-25-flush-is-not-asked-for";
    /// A recovery that was overtaken by a later one ends the file.
    Sc26OvertakenRecoveryCounts = "sc-26-overtaken-recovery-counts";
    /// A node that was restarted takes a block from a writer that it was told to stop before.
    Sc26RestartForgetsFences = "sc-26-restart-forgets-fences";
    /// What a node found at its start speaks for the pipeline as if it had been there all the time.
    Sc27RestartedReplicaIsBelieved = "sc-27-restarted-replica-is-believed";
    /// A copy that broke off speaks for the pipeline that its node is of.
    Sc27UnfinishedCopySpeaks = "sc-27-unfinished-copy-speaks";
    /// A copy throws away what a node has before it has more.
    Sc27CopyBeginsAnew = "sc-27-copy-begins-anew";
    /// A copy in the place of a replica breaks off before its first byte, and its node says that it has nothing.
    Sc27ReplacedIsNothing = "sc-27-replaced-is-nothing";
    /// A recovery waits for a node that never answers.
    Sc28OneIsWaitedForForEver = "sc-28-one-is-waited-for-for-ever";
    /// One replica alone becomes the block though others would be heard soon.
    Sc28OneAloneIsEnough = "sc-28-one-alone-is-enough";
    /// A home that is gone for good is taken for one that never had anything.
    Sc28LossIsProof = "sc-28-loss-is-proof";
    /// An append goes on behind whatever length a replica has.
    Sc29AppendAtAnyLength = "sc-29-append-at-any-length";
    /// What is appended to is not read before.
    Sc29AppendReadsNothing = "sc-29-append-reads-nothing";
    /// A block that readers may have seen is given back because its writer was told of no acknowledgement.
    Sc33SeenBlockIsAbandoned = "sc-33-seen-block-is-abandoned";
    /// A write is begun by nobody whose end could be noticed.
    Sc33WriterWithoutSession = "sc-33-writer-without-session";

    /// A writer that is given up publishes what it has.
    Sc32AbortedWriteIsPublished = "sc-32-aborted-write-is-published";

    // --- the write pipeline ---
    /// A packet that overlaps what is there is taken to begin where the replica ends.
    Sc34PacketsBeginAtTheEnd = "sc-34-packets-begin-at-the-end";
    /// A writer that was stopped changes files after all.
    Sc35StoppedWriterGoesOn = "sc-35-stopped-writer-goes-on";
    /// A pipeline in which nothing was acknowledged cannot be begun on a node that has nothing.
    Sc36NothingCannotBeResumed = "sc-36-nothing-cannot-be-resumed";
    /// Who reports damage is blamed for it.
    Sc37ReporterIsBlamed = "sc-37-reporter-is-blamed";
    /// Failures of a pipeline are counted over the whole life of a file.
    Sc38FailuresAreNeverForgotten = "sc-38-failures-are-never-forgotten";
    /// A block is committed with the length that it had one packet ago.
    Sc39LengthIsStale = "sc-39-length-is-stale";
    /// Acks are matched by their arrival.
    Sc41AcksByArrival = "sc-41-acks-by-arrival";
    /// A flush that asks for a sync asks for none on the wire.
    Sc44SyncIsLost = "sc-44-sync-is-lost";
    /// A file that is in the way of a new replica is written over, and keeps its tail.
    Sc46OldBytesStay = "sc-46-old-bytes-stay";

    // --- storage of a datanode ---
    /// Names of finalised replicas are not made durable.
    Sc47NamesAreNotSynced = "sc-47-names-are-not-synced";
    /// Names of log segments are not made durable before they are relied on.
    Sc47SegmentNameIsNotSynced = "sc-47-segment-name-is-not-synced";
    /// After a failed sync the log is synced again, which then says yes.
    Sc48LogSyncIsRepeated = "sc-48-log-sync-is-repeated";
    /// As before, for the folders of a volume.
    Sc48FolderSyncIsRepeated = "sc-48-folder-sync-is-repeated";
    /// A replica that could not be synced is found whole by the next start of its node.
    Sc48UnsyncedTrailerStays = "sc-48-unsynced-trailer-stays";
    /// The second copy of a block on a node is deleted when the node starts.
    Sc49DuplicateIsDeletedAtStart = "sc-49-duplicate-is-deleted-at-start";
    /// A volume without an identity is taken for a new one.
    Sc50NoIdentityIsNew = "sc-50-no-identity-is-new";
    /// A namenode is formatted in a folder that holds something.
    Sc50FullFolderIsFormatted = "sc-50-full-folder-is-formatted";
    /// A replica is condemned for what was seen while it changed.
    Sc51ChangingReplicaIsJudged = "sc-51-changing-replica-is-judged";
    /// Files of a replica that are missing are noticed, and nobody is told.
    Sc52DamageIsNotTold = "sc-52-damage-is-not-told";
    /// One bad disk keeps the node from starting.
    Sc54OneBadDiskStopsTheNode = "sc-54-one-bad-disk-stops-the-node";
    /// Copies on a disk that its node started without still count.
    Sc54MissingDiskCounts = "sc-54-missing-disk-counts";
    /// A write that failed keeps its room.
    Sc55RoomIsNotGivenBack = "sc-55-room-is-not-given-back";
    /// The namenode grows until its disk has no room for its log.
    Sc57NoRoomIsKept = "sc-57-no-room-is-kept";
    /// The new checksum file takes the place of the old one before it is durable.
    Sc58NewFileIsNotSynced = "sc-58-new-file-is-not-synced";
    /// A writer ends a replica that was deleted and begun anew by another one.
    Sc59WriterOfAnotherReplica = "sc-59-writer-of-another-replica";
    /// A log that is shorter than its image is taken for a whole one.
    Sc60ShortLogIsWhole = "sc-60-short-log-is-whole";
    /// Files under the name of another replica are taken for that one.
    Sc62MisplacedReplicaIsBelieved = "sc-62-misplaced-replica-is-believed";
    /// Blocks that are written one after another lie in as many folders.
    Sc63FolderForEachBlock = "sc-63-folder-for-each-block";

    // --- reports, block map, safe mode ---
    /// A report that is older than a change undoes it.
    Sc64OlderReportWins = "sc-64-older-report-wins";
    /// A replica of another stamp proves that a block is whole.
    Sc65OldStampProves = "sc-65-old-stamp-proves";
    /// A receipt counts for any stamp.
    Sc65ReceiptOfAnyStamp = "sc-65-receipt-of-any-stamp";
    /// A damaged replica is good again once its node has restarted.
    Sc66MarkIsForgotten = "sc-66-mark-is-forgotten";
    /// Two disks of a node are two copies.
    Sc67DisksAreNodes = "sc-67-disks-are-nodes";
    /// The first part of a report counts as the whole.
    Sc68PartCountsAsReport = "sc-68-part-counts-as-report";
    /// A copy that is made of an old stamp holds up the repair of the new one.
    Sc69CopyOfAnOldStampCounts = "sc-69-copy-of-an-old-stamp-counts";
    /// A node obeys a leader of an earlier term.
    Sc70DeposedLeaderIsObeyed = "sc-70-deposed-leader-is-obeyed";
    /// A new leader deletes by what it heard before its term.
    Sc70DeletesBeforeAReport = "sc-70-deletes-before-a-report";
    /// A disk may come up under another node.
    Sc71DiskChangesItsNode = "sc-71-disk-changes-its-node";
    /// A node gets the commands that were meant for its former life.
    Sc71FormerLifeIsAnswered = "sc-71-former-life-is-answered";
    /// Safe mode waits for nodes that never come back.
    Sc72SafeModeNeverEnds = "sc-72-safe-mode-never-ends";
    /// What is not known yet is taken for removed.
    Sc73UnknownIsGone = "sc-73-unknown-is-gone";

    // --- repair ---
    /// Copies of an older stamp count as places where an open block stays.
    Sc75OldCopiesStay = "sc-75-old-copies-stay";
    /// Copies on nodes that have fallen silent count as the others, and one that is heard of goes for them.
    Sc76SilentCopiesCount = "sc-76-silent-copies-count";
    /// A copy goes although news of the others is on its way.
    Sc77NewsIsNotWaitedFor = "sc-77-news-is-not-waited-for";
    /// What arrives is stored and passed on as it is.
    Sc82DamageIsCopiedOn = "sc-82-damage-is-copied-on";
    /// A gap in the changes of a node is passed over.
    Sc83GapIsPassedOver = "sc-83-gap-is-passed-over";
    /// The repair of a block goes on after its file is gone.
    Sc84DeletedBlockIsRepaired = "sc-84-deleted-block-is-repaired";
    /// New blocks are repaired before their reports can be there.
    Sc85NewBlockIsRepaired = "sc-85-new-block-is-repaired";

    // --- clients ---
    /// A block of which no replica can be read is taken for the end of the file.
    Sc88NoReplicaIsTheEnd = "sc-88-no-replica-is-the-end";
    /// A read whose replicas all failed asks where they are, again and again.
    Sc89RetriesAreNotCounted = "sc-89-retries-are-not-counted";
    /// Files of a replica that was replaced stay open for readers.
    Sc91OldFilesAreRead = "sc-91-old-files-are-read";
    /// A clock that was wrong once decides what needs no look for years.
    Sc92ClockIsTrusted = "sc-92-clock-is-trusted";
    /// Second attempts are made whatever they cost: when all is slow, the load doubles.
    Sc95SecondAttemptsAreFree = "sc-95-second-attempts-are-free";
    /// A slow replica is waited for while another one is idle.
    Sc96SlowReplicaIsWaitedFor = "sc-96-slow-replica-is-waited-for";
    /// A call that was refused because the file is open happens when a copy of it comes late.
    Sc97RefusalIsForgotten = "sc-97-refusal-is-forgotten";
    /// A repeated call takes effect again.
    Sc97RetryTakesEffectAgain = "sc-97-retry-takes-effect-again";
    /// Doubt is taken for refusal: what may be published is thrown away.
    Sc98DoubtIsRefusal = "sc-98-doubt-is-refusal";

    // --- access ---
    /// A block token opens any block.
    Sc100TokenOpensAnyBlock = "sc-100-token-opens-any-block";
    /// A superuser's calls are everybody's.
    Sc102EverybodyIsSuperuser = "sc-102-everybody-is-superuser";
    /// Attributes are shown to those who may only pass by.
    Sc104AttributesAreShown = "sc-104-attributes-are-shown";
}

/// Is this bug put back in this process?
#[inline(always)]
#[must_use]
pub fn active(mutation: Mutation) -> bool {
    cfg!(debug_assertions) && chosen::mutation() == Some(mutation)
}

/// `mutated!(Sc41AcksByArrival)`: is this bug put back?
#[macro_export]
macro_rules! mutated {
    ($name:ident) => {
        $crate::mutation::active($crate::mutation::Mutation::$name)
    };
}

#[cfg(debug_assertions)]
mod chosen {
    use std::sync::OnceLock;

    use super::Mutation;

    const VARIABLE: &str = "BLOCKYARD_MUTATION";

    /// The mutation that the environment asks for, read once.
    ///
    /// # Panics
    /// If it asks for one that there is not: a run that proves nothing must not look like one that does.
    pub(super) fn mutation() -> Option<Mutation> {
        static CHOSEN: OnceLock<Option<Mutation>> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let name = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty())?;
            let found = Mutation::ALL.iter().copied().find(|mutation| mutation.name() == name);
            assert!(found.is_some(), "{VARIABLE}={name}: there is no such mutation");
            found
        })
    }
}

#[cfg(not(debug_assertions))]
mod chosen {
    pub(super) const fn mutation() -> Option<super::Mutation> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_begin_with_a_scar() {
        for (number, mutation) in Mutation::ALL.iter().enumerate() {
            let name = mutation.name();
            assert!(Mutation::ALL.iter().skip(number + 1).all(|other| other.name() != name), "{name} twice");
            let scar = name.strip_prefix("sc-").and_then(|rest| rest.split('-').next()).unwrap();
            assert!(scar.parse::<u32>().is_ok_and(|scar| (1..=105).contains(&scar)), "{name}");
            let variant = format!("{mutation:?}").to_lowercase();
            assert_eq!(variant, name.replace('-', ""), "variant and name say the same");
        }
    }
}
