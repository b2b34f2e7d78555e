//! May a write go on with the replica that is here, and from where? Decided without a disk.
//!
//! ```text
//!   what is here (state, stamp, length, fence)  +  what the writer wants (stage, stamps, lengths)  ─▶  Verdict
//! ```
//!
//! Stamps are the fence: nothing of a lower stamp than the replica's, or of one that a recovery has shut out, changes it.

use proto::ids::{BlockId, GenerationStamp};
use transfer::WriteStage;

use super::error::StoreError;
use super::replica::{Replica, ReplicaState};

/// What a writer wants of a replica that may exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Kind of write.
    pub stage: WriteStage,
    /// Lowest stamp of a replica that it may go on with.
    pub floor: GenerationStamp,
    /// Stamp that the replica gets.
    pub new_stamp: GenerationStamp,
    /// Bytes that were acknowledged to the writer.
    pub min_bytes: u64,
    /// Bytes that the writer has sent at most.
    pub max_bytes: u64,
}

impl Wish {
    /// Bytes that may have been acknowledged at most: of what only closes, or appends, just those that the writer knows of.
    pub(crate) const fn most_bytes(&self) -> u64 {
        match self.stage {
            WriteStage::PipelineSetupAppend | WriteStage::PipelineCloseRecovery => self.min_bytes,
            _ => self.max_bytes,
        }
    }
}

/// What is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Here {
    pub(crate) replica: Replica,
    /// Length that counts: of an open replica of this run what is stored, of one that was found at a start what was read and
    /// is good. `None`: nobody has read it.
    pub(crate) len_bytes: Option<u64>,
    /// Stamp of the recovery that has shut others out.
    pub(crate) fence: Option<GenerationStamp>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is none: it is made.
    Create,
    /// What is here makes room for a new one.
    Replace,
    /// It is gone on with, from this length.
    Resume { at_bytes: u64 },
}

/// Decides.
///
/// # Errors
/// [`StoreError::NotFound`], [`StoreError::StaleStamp`], [`StoreError::Fenced`], [`StoreError::NotWhole`],
/// [`StoreError::Exists`], [`StoreError::WrongLength`].
pub(crate) fn decide(id: BlockId, wish: &Wish, here: Option<&Here>) -> Result<Verdict, StoreError> {
    use WriteStage as Stage;
    let Some(here) = here else {
        let nothing_to_lose = match wish.stage {
            Stage::TransferRbw => true,
            Stage::PipelineSetupStreamingRecovery => wish.min_bytes == 0 && !base::mutated!(Sc36NothingCannotBeResumed),
            _ => false,
        };
        return if nothing_to_lose { Ok(Verdict::Create) } else { Err(StoreError::NotFound(id)) };
    };
    check_stamps(id, wish, here)?;
    if wish.stage == Stage::TransferRbw {
        return match (here.replica.state, here.len_bytes) {
            // It may be a good copy of what the namespace has: never touched for one that is in the making.
            (ReplicaState::Finalized, _) => Err(StoreError::Exists(id)),
            // A beginning of the same bytes: the copy goes on with it. Thrown away it would be what is lost with the source,
            // should that go before the copy is whole (F-1).
            (ReplicaState::BeingWritten | ReplicaState::WaitingRecovery, Some(at_bytes))
                if here.replica.stamp >= wish.floor && !base::mutated!(Sc27CopyBeginsAnew) =>
            {
                Ok(Verdict::Resume { at_bytes })
            }
            _ => Ok(Verdict::Replace),
        };
    }
    if here.replica.stamp < wish.floor {
        return Err(StoreError::StaleStamp { id, found: here.replica.stamp, sent: wish.floor });
    }
    let not_whole = StoreError::NotWhole { id, state: here.replica.state.as_str() };
    let len_bytes = match (here.replica.state, wish.stage) {
        (ReplicaState::Corrupt, _) => return Err(not_whole),
        (ReplicaState::Finalized, _) => here.replica.len_bytes,
        (_, Stage::PipelineSetupAppend) => return Err(not_whole),
        // What a start found may lack what was acknowledged: read, its length says whether it does (SC-27).
        (ReplicaState::BeingWritten | ReplicaState::WaitingRecovery, _) => here.len_bytes.ok_or(not_whole)?,
    };
    let most_bytes = wish.most_bytes();
    let any_length = wish.stage == Stage::PipelineSetupAppend && base::mutated!(Sc29AppendAtAnyLength);
    if !(wish.min_bytes..=most_bytes).contains(&len_bytes) && !any_length {
        return Err(StoreError::WrongLength {
            id,
            found_bytes: len_bytes,
            min_bytes: wish.min_bytes,
            max_bytes: most_bytes,
        });
    }
    Ok(Verdict::Resume { at_bytes: len_bytes })
}

fn check_stamps(id: BlockId, wish: &Wish, here: &Here) -> Result<(), StoreError> {
    if let Some(fence) = here.fence
        && wish.new_stamp <= fence
    {
        return Err(StoreError::Fenced { id, fence, sent: wish.new_stamp });
    }
    if here.replica.stamp > wish.new_stamp {
        return Err(StoreError::StaleStamp { id, found: here.replica.stamp, sent: wish.new_stamp });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use WriteStage as Stage;

    fn stamp(n: u64) -> GenerationStamp {
        GenerationStamp::from_raw(n)
    }
    fn wish(stage: Stage, min_bytes: u64, max_bytes: u64) -> Wish {
        Wish { stage, floor: stamp(5), new_stamp: stamp(7), min_bytes, max_bytes }
    }
    fn here(state: ReplicaState, at: u64, len_bytes: u64) -> Here {
        let replica = Replica { stamp: stamp(at), len_bytes, state };
        Here { replica, len_bytes: Some(len_bytes), fence: None }
    }
    fn said(wish: &Wish, here: Option<&Here>) -> String {
        match decide(BlockId::FIRST, wish, here) {
            Ok(verdict) => format!("{verdict:?}"),
            Err(error) => error.to_string(),
        }
    }
    const RECOVERIES: [Stage; 3] =
        [Stage::PipelineSetupStreamingRecovery, Stage::PipelineSetupAppendRecovery, Stage::PipelineCloseRecovery];
    const OPEN: [ReplicaState; 2] = [ReplicaState::BeingWritten, ReplicaState::WaitingRecovery];

    #[test]
    fn v_4_a_replica_is_gone_on_with_at_every_stamp_between_floor_and_the_new_one_and_at_no_other() {
        for stage in RECOVERIES {
            for state in [OPEN[0], OPEN[1], ReplicaState::Finalized] {
                for at in 3..=9 {
                    let verdict = decide(BlockId::FIRST, &wish(stage, 100, 100), Some(&here(state, at, 100)));
                    match at {
                        5..=7 => assert_eq!(verdict.unwrap(), Verdict::Resume { at_bytes: 100 }, "{stage:?} {state:?}"),
                        _ => assert!(matches!(verdict, Err(StoreError::StaleStamp { .. })), "{stage:?} {state:?} {at}"),
                    }
                }
            }
        }
    }

    #[test]
    fn sc_26_a_recovery_shuts_out_its_own_and_every_lower_stamp() {
        for stage in [RECOVERIES[0], RECOVERIES[2], Stage::PipelineSetupAppend, Stage::TransferRbw] {
            for (fence, shut) in [(6, false), (7, true), (8, true)] {
                let state = if stage == Stage::TransferRbw { OPEN[1] } else { ReplicaState::Finalized };
                let here = Here { fence: Some(stamp(fence)), ..here(state, 5, 100) };
                let verdict = decide(BlockId::FIRST, &wish(stage, 100, 100), Some(&here));
                assert_eq!(matches!(verdict, Err(StoreError::Fenced { .. })), shut, "{stage:?} {fence}: {verdict:?}");
            }
        }
    }

    #[test]
    fn sc_34_what_was_acknowledged_must_be_there_and_nothing_that_was_never_sent() {
        for state in OPEN {
            for (len_bytes, good) in [(99, false), (100, true), (150, true), (200, true), (201, false)] {
                let here = here(state, 5, len_bytes);
                let streaming = decide(BlockId::FIRST, &wish(RECOVERIES[0], 100, 200), Some(&here));
                assert_eq!(streaming.is_ok(), good, "{len_bytes}: {streaming:?}");
                let closing = decide(BlockId::FIRST, &wish(RECOVERIES[2], 100, 200), Some(&here));
                assert_eq!(closing.is_ok(), len_bytes == 100, "nothing is sent after it: {closing:?}");
            }
        }
    }

    #[test]
    fn sc_27_a_replica_that_a_start_found_is_no_writers_before_it_was_read() {
        for stage in RECOVERIES {
            let here = Here { len_bytes: None, ..here(ReplicaState::WaitingRecovery, 5, 100) };
            assert!(said(&wish(stage, 100, 200), Some(&here)).contains("waiting for recovery"));
        }
    }

    #[test]
    fn sc_29_an_append_needs_the_whole_replica_at_the_length_that_the_lease_told() {
        let append = |len| wish(Stage::PipelineSetupAppend, len, len);
        assert_eq!(said(&append(100), Some(&here(ReplicaState::Finalized, 5, 100))), "Resume { at_bytes: 100 }");
        assert!(said(&append(99), Some(&here(ReplicaState::Finalized, 5, 100))).contains("100 bytes"));
        assert!(said(&append(100), Some(&here(OPEN[0], 5, 100))).contains("being written"));
        assert!(said(&append(100), Some(&here(ReplicaState::Corrupt, 5, 100))).contains("corrupt"));
        assert!(said(&append(100), None).contains("no replica"));
    }

    #[test]
    fn sc_36_where_nothing_was_acknowledged_a_node_without_a_replica_begins_one() {
        assert_eq!(said(&wish(RECOVERIES[0], 0, 9), None), "Create");
        assert!(said(&wish(RECOVERIES[0], 1, 9), None).contains("no replica"));
        assert!(said(&wish(RECOVERIES[2], 0, 0), None).contains("no replica"));
        assert_eq!(said(&wish(Stage::TransferRbw, 0, 0), None), "Create");
    }

    #[test]
    fn i_2_f_1_a_transfer_goes_on_with_what_is_open_replaces_what_is_no_beginning_and_never_what_is_whole() {
        let transfer = wish(Stage::TransferRbw, 0, 0);
        for state in [OPEN[0], OPEN[1], ReplicaState::Corrupt] {
            let goes_on = if state == ReplicaState::Corrupt { "Replace" } else { "Resume { at_bytes: 100 }" };
            for (at, said_of_it) in [(3, "Replace"), (5, goes_on), (7, goes_on)] {
                assert_eq!(said(&transfer, Some(&here(state, at, 100))), said_of_it);
            }
            let unread = Here { len_bytes: None, ..here(state, 7, 100) };
            assert_eq!(said(&transfer, Some(&unread)), "Replace");
            assert!(said(&transfer, Some(&here(state, 8, 100))).contains("gs 8"), "a newer one stays");
        }
        assert!(said(&transfer, Some(&here(ReplicaState::Finalized, 3, 100))).contains("exists"));
    }
}
