//! What becomes of a block whose writer is gone: a pure function of what its storages said, and of how long they were
//! waited for.
//!
//! ```text
//!   answers ─▶ usable: at a stamp that counts, not damaged, not shorter than what must not be lost
//!                │
//!    some that speak for the pipeline ──▶ length = max(most acknowledged, least received of those)
//!    only ones that were restarted    ──▶ the longest, after the others had their time
//!    none usable                      ──▶ nothing was ever written: the block goes; or another try
//! ```
//!
//! Why no acknowledged byte is lost. An acknowledgement of a flush passed every node of the pipeline, and a namenode
//! knows the pipeline before anything is acknowledged in it. So each node of it that was not restarted since has
//! received at least as much as was acknowledged by any of them, and one of them is enough to know. A finalised replica
//! is durable, and its receipt may be out: all of it counts as acknowledged, and it is never cut (but by a truncate). A
//! replica that was found at a start of its node may lack what was not synced (scar SC-27): such ones have a say only if
//! there are no others, and then the longest wins, because all of them are beginnings of the same bytes; its stamp does
//! not matter, for a copy of a higher stamp may have lost more in a power cut than one that left the pipeline before. A
//! copy that broke off in the place of what a home had is the same: its node says so (`ReplicaFound.restarted`).
//!
//! One replica alone is enough to know the length, but it is not enough to keep the block: its homes that are silent, and
//! have whole copies perhaps, are shut out by the recovery's stamp. So they have a longer time if it is alone.
//!
//! What speaks for nothing is not taken for an answer because of a time-out. As long as one storage of the pipeline is
//! silent, restarted replicas shorten nothing: it may have all of it. (Silence becomes loss only by a word: its node
//! was decommissioned, or a superuser accepts the loss.) Of those that answer, one may have something that cannot be
//! used, or a disk that failed; with two of them it is the same as with a silent one. Empty storages drop nothing if
//! two are away, and what is lost is no proof of anything: a block of which no home is left goes after the time in
//! which copies beside the pipeline would report. Nor does such a copy decide anything alone: it may have been on its
//! way.
//!
//! A block that was finished, is open again, and got no pipeline since, is *untouched*: nothing beyond what it was
//! finished with was acknowledged. Whoever has that much has all that counts, wherever it is: copies may have been
//! moved since the log named its storages. Whoever has more was to be cut to that and lost power before it was: what a
//! truncate took away does not come back.

use std::time::Duration;

use proto::cluster::{ReplicaFound, ReplicaState};
use proto::ids::GenerationStamp;

/// A storage that does not answer for this long is left out, if others speak for the pipeline.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// Time that is waited for homes that say nothing, if a single replica would become the block otherwise: what the others
/// hold counts for nothing afterwards, and the next loss of a disk would be that of the block (F-1). A file with one bad
/// replica has two others, and is not held up by it.
pub(super) const ALONE: Duration = Duration::from_secs(60);
/// Time that is waited for others, if only restarted replicas were found.
pub(super) const RESTARTED: Duration = Duration::from_secs(30);
/// Time after which another try is made, if nobody answers or nothing of use was found.
pub(super) const NOBODY: Duration = Duration::from_secs(20);
/// Time after which a storage of the pipeline that has nothing is believed to speak for silent ones.
pub(super) const NOTHING_WRITTEN: Duration = Duration::from_secs(60);

/// A block on fewer storages than this is lost with the next one of them.
pub(super) const FEW: usize = 2;
/// Storages of the pipeline that may be silent, or unable, when restarted or empty ones are believed after their time.
const MOST_LOST: usize = 1;

/// What a recovery must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Lowest stamp that counts: the block's.
    pub(super) stamp: GenerationStamp,
    /// Bytes that the block has at least: what it was committed with, if it is written again.
    pub(super) floor_bytes: u64,
    /// The length that a truncate gives it.
    pub(super) target_bytes: Option<u64>,
    /// Nothing beyond `floor_bytes` was acknowledged: no pipeline was logged since the block was opened again.
    pub(super) untouched: bool,
    /// A superuser takes for lost what does not answer, or has nothing of use.
    pub(super) accept_loss: bool,
}

/// A storage that was asked, and how far that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Participant {
    /// Is it of the pipeline, as the log has it? Others only reported something.
    pub(super) home: bool,
    /// What it said.
    pub(super) said: Said,
}

/// What a storage said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing so far.
    Nothing,
    /// Nothing, for so long that nobody waits for it; or it refused. It may come back, and have everything.
    Dead,
    /// Its node is gone for good: somebody said so.
    Lost,
    /// It cannot: its disk failed, as its node says.
    Unable,
    /// What it has.
    Found(ReplicaFound),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// More answers may come.
    Wait,
    /// The block gets this length on these participants.
    Finish {
        /// Of all of them.
        len_bytes: u64,
        /// By their place.
        on: Vec<usize>,
    },
    /// Nothing that counts was ever written: the block goes.
    Drop,
    /// The block is closed at what it must have, and nobody is known to hold that: its loss is accepted.
    GiveUp {
        /// What readers saw of it.
        len_bytes: u64,
    },
    /// Nothing can be decided from this: another try, later.
    Again(Why),
}

/// Why nothing could be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// No storage answered.
    NobodyAnswers,
    /// Those that answered have nothing of use.
    NothingOfUse,
    /// Those that are silent or unable may have more than what was found.
    TooFewAnswer,
    /// None of those chosen finished its replica.
    NobodyFinished,
    /// The namespace did not take the end of it.
    Refused,
}

/// What people can do about silence that does not end.
const WAY_OUT: &str = "if they are gone for good, decommission them, or a superuser gives up what they may hold: \
    `blockyard lease recover --accept-loss`";

impl Why {
    /// For people, with the names of datanodes of the pipeline that did not answer.
    pub(super) fn for_people(self, who: &str) -> String {
        let why = self.as_str();
        match self {
            Self::NobodyFinished | Self::Refused => why.to_owned(),
            _ if who.is_empty() => {
                format!("{why}; a superuser can give it up: `blockyard lease recover --accept-loss`")
            }
            _ => format!("{why}: {who}; {WAY_OUT}"),
        }
    }
    const fn as_str(self) -> &'static str {
        match self {
            Self::NobodyAnswers => "no datanode that may hold it answers",
            Self::NothingOfUse => "every replica that was found is damaged, or shorter than what must not be lost",
            Self::TooFewAnswer => "who does not answer, or has a damaged replica, may hold more",
            Self::NobodyFinished => "no datanode finished its replica",
            Self::Refused => "the namespace refused it",
        }
    }
}

/// A replica that may become the block.
#[derive(Clone, Copy)]
struct Usable {
    at: usize,
    len_bytes: u64,
    acked_bytes: u64,
    /// Does it speak for what was acknowledged?
    speaks: bool,
    /// Is it of the pipeline, or whole? Else it may be a copy that was on its way.
    counts: bool,
    restarted: bool,
}

/// Bytes that a replica must have to be one of the block's.
fn least_of(bounds: &Bounds) -> u64 {
    bounds.target_bytes.unwrap_or(bounds.floor_bytes)
}

fn usable(at: usize, participant: &Participant, bounds: &Bounds) -> Option<Usable> {
    let Said::Found(found) = participant.said else { return None };
    let finalized = found.state() == ReplicaState::Finalized;
    // What is beyond that was cut off by a truncate, and a power cut came between a replica's new name and its cut; or a
    // pipeline that the log does not know was set up over it: nothing was sent through that.
    let len_bytes = if bounds.untouched { found.len_bytes.min(bounds.floor_bytes) } else { found.len_bytes };
    let whole = finalized || matches!(found.state(), ReplicaState::BeingWritten | ReplicaState::WaitingRecovery);
    if !whole || found.stamp < bounds.stamp.raw() || found.len_bytes < least_of(bounds) {
        return None;
    }
    let restarted = found.restarted && !finalized && !base::mutated!(Sc27RestartedReplicaIsBelieved);
    let acked_bytes = if finalized { len_bytes } else { found.acked_bytes.min(len_bytes) };
    let of_the_pipeline = participant.home || bounds.untouched;
    let speaks = finalized || (of_the_pipeline && !restarted);
    let counts = finalized || of_the_pipeline;
    Some(Usable { at, len_bytes, acked_bytes, speaks, counts, restarted })
}

/// Does the storage say that it has no replica? A damaged one, or one of a lower stamp, is not none: whoever holds it
/// cannot tell what there was.
fn has_nothing(participant: &Participant) -> bool {
    matches!(participant.said, Said::Found(found) if found.state() == ReplicaState::Deleted)
}

/// Storages of the pipeline that may have more than was found.
#[derive(Clone, Copy, Default)]
struct Missing {
    /// Nothing is heard of them.
    silent: usize,
    /// They cannot tell what there was.
    unable: usize,
}

impl Missing {
    fn of(bounds: &Bounds, asked: &[Participant]) -> Self {
        let mut missing = Self::default();
        if bounds.accept_loss {
            return missing;
        }
        for participant in asked.iter().filter(|participant| participant.home) {
            match participant.said {
                Said::Lost => {}
                Said::Nothing | Said::Dead => missing.silent += 1,
                Said::Unable => missing.unable += 1,
                Said::Found(_) => {
                    let useless = !has_nothing(participant) && usable(0, participant, bounds).is_none();
                    missing.unable += usize::from(useless);
                }
            }
        }
        missing
    }
    const fn all(self) -> usize {
        self.silent + self.unable
    }
}

/// Decides what becomes of the block.
pub(super) fn decide(bounds: &Bounds, asked: &[Participant], waited: Duration) -> Decision {
    let all_heard = asked.iter().all(|participant| participant.said != Said::Nothing);
    let usable: Vec<Usable> =
        asked.iter().enumerate().filter_map(|(at, participant)| usable(at, participant, bounds)).collect();
    if usable.is_empty() {
        return decide_without(bounds, asked, waited);
    }
    // Nobody has more that counts than what was found of a block that was not touched.
    let missing = if bounds.untouched { Missing::default() } else { Missing::of(bounds, asked) };
    let received = usable.iter().filter(|replica| replica.speaks).map(|replica| replica.len_bytes).min();
    let longest = usable.iter().map(|replica| replica.len_bytes).max().unwrap_or(0);
    let strangers_only = missing.all() > 0 && !usable.iter().any(|replica| replica.counts);
    // One that never got anything, beside others that have nothing: no acknowledgement passed the whole pipeline.
    let empty = longest == 0 && asked.iter().any(|participant| participant.home && has_nothing(participant));
    let too_few = missing.all() > MOST_LOST || (missing.silent > 0 && !empty);
    let may_be_shorter = received.is_none() && bounds.target_bytes.is_none() && too_few;
    if strangers_only || may_be_shorter {
        return if waited < RESTARTED { Decision::Wait } else { Decision::Again(Why::TooFewAnswer) };
    }
    let len_bytes = match (bounds.target_bytes, received) {
        (Some(target_bytes), _) => target_bytes,
        (None, Some(received)) => {
            let live = usable.iter().filter(|replica| !replica.restarted);
            live.map(|replica| replica.acked_bytes).max().unwrap_or(0).max(received)
        }
        (None, None) => longest,
    };
    let on: Vec<usize> = usable.iter().filter(|replica| replica.len_bytes >= len_bytes).map(|r| r.at).collect();
    let enough = received.is_some() || bounds.target_bytes.is_some() || bounds.untouched;
    let settled_after = match enough {
        true if on.len() < FEW && waits_for_a_home(bounds, asked) => ALONE,
        true => ANSWER,
        false => RESTARTED,
    };
    if !all_heard && (waited < settled_after || base::mutated!(Sc28OneIsWaitedForForEver)) {
        return Decision::Wait;
    }
    if len_bytes == 0 && bounds.floor_bytes == 0 {
        // Those that were restarted may have lost what one that cannot tell had.
        let all_found = asked.iter().all(|participant| matches!(participant.said, Said::Found(_)));
        let certain = received.is_some() || (all_found && missing.all() == 0);
        // As without any replica: of those that are away one may have had it all.
        let away = missing.all() + lost(asked);
        let in_time = waited >= NOTHING_WRITTEN && (missing.all() == 0 || away <= MOST_LOST);
        return match certain || in_time {
            true => Decision::Drop,
            false if waited >= NOTHING_WRITTEN => Decision::Again(Why::TooFewAnswer),
            false => Decision::Wait,
        };
    }
    Decision::Finish { len_bytes, on }
}

/// May a home that says nothing still become one of those that have the block?
fn waits_for_a_home(bounds: &Bounds, asked: &[Participant]) -> bool {
    let silent = asked.iter().any(|participant| participant.home && participant.said == Said::Nothing);
    silent && !bounds.accept_loss && !base::mutated!(Sc28OneAloneIsEnough)
}

/// Homes that are gone for good.
fn lost(asked: &[Participant]) -> usize {
    asked.iter().filter(|participant| participant.home && participant.said == Said::Lost).count()
}

/// Is it taken for granted, after its time, that no home will ever show anything? One that has no replica proves that
/// no acknowledgement passed the whole pipeline, unless its replica was lost: so at most one other may be away then,
/// lost ones included. Without such a proof every home must be gone for good.
fn nothing_is_held(bounds: &Bounds, asked: &[Participant]) -> bool {
    let mut homes = asked.iter().filter(|participant| participant.home);
    let (missing, lost) = (Missing::of(bounds, asked).all(), lost(asked));
    let gone = missing == 0 && lost > 0;
    let proved = homes.any(has_nothing) && missing + lost <= MOST_LOST;
    gone || proved || (base::mutated!(Sc28LossIsProof) && lost > 0 && missing <= MOST_LOST)
}

fn decide_without(bounds: &Bounds, asked: &[Participant], waited: Duration) -> Decision {
    let nothing_asked_for = bounds.floor_bytes == 0 && bounds.target_bytes.is_none();
    let may_go = nothing_asked_for && nothing_is_held(bounds, asked);
    if may_go && (waited >= NOTHING_WRITTEN || asked.iter().all(has_nothing)) {
        return Decision::Drop;
    }
    // Whoever cannot answer now may come back within the time, and others may report that they have something.
    if waited < NOBODY {
        return Decision::Wait;
    }
    match (bounds.accept_loss, nothing_asked_for) {
        (true, true) => Decision::Drop,
        (true, false) => Decision::GiveUp { len_bytes: bounds.target_bytes.unwrap_or(bounds.floor_bytes) },
        _ if may_go => Decision::Wait,
        _ => {
            let any_found = asked.iter().any(|participant| matches!(participant.said, Said::Found(_)));
            Decision::Again(if any_found { Why::NothingOfUse } else { Why::NobodyAnswers })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: u64 = 1010;
    const BOUNDS: Bounds = Bounds {
        stamp: GenerationStamp::from_raw(STAMP),
        floor_bytes: 0,
        target_bytes: None,
        untouched: false,
        accept_loss: false,
    };
    const NOW: Duration = Duration::ZERO;
    /// Twice the longest wait of a single try.
    const LONG: Duration = Duration::from_secs(120);

    fn found(state: ReplicaState, len_bytes: u64, acked_bytes: u64) -> ReplicaFound {
        ReplicaFound { state: state as i32, stamp: STAMP, len_bytes, acked_bytes, restarted: false }
    }
    fn home(said: Said) -> Participant {
        Participant { home: true, said }
    }
    fn written(len_bytes: u64, acked_bytes: u64) -> Participant {
        home(Said::Found(found(ReplicaState::BeingWritten, len_bytes, acked_bytes)))
    }
    fn restarted(len_bytes: u64) -> Participant {
        let found = found(ReplicaState::WaitingRecovery, len_bytes, 0);
        home(Said::Found(ReplicaFound { restarted: true, ..found }))
    }
    fn finalized(len_bytes: u64) -> Participant {
        home(Said::Found(found(ReplicaState::Finalized, len_bytes, 0)))
    }
    fn none() -> Participant {
        home(Said::Found(ReplicaFound { stamp: 0, ..found(ReplicaState::Deleted, 0, 0) }))
    }
    fn damaged() -> Participant {
        home(Said::Found(found(ReplicaState::Corrupt, 100, 0)))
    }
    fn finish(len_bytes: u64, on: &[usize]) -> Decision {
        Decision::Finish { len_bytes, on: on.to_vec() }
    }
    fn at_stamp(participant: Participant, stamp: u64) -> Participant {
        match participant.said {
            Said::Found(found) => Participant { said: Said::Found(ReplicaFound { stamp, ..found }), ..participant },
            _ => participant,
        }
    }

    #[test]
    fn d_2_the_length_is_what_all_received_and_never_less_than_what_any_acknowledged() {
        let asked = [written(100, 80), written(95, 85), written(90, 90)];
        assert_eq!(decide(&BOUNDS, &asked, NOW), finish(90, &[0, 1, 2]));
        // Only the head of the pipeline is left: it has all that was acknowledged, and more.
        assert_eq!(decide(&BOUNDS, &[written(100, 80), home(Said::Unable)], NOW), finish(100, &[0]));
        // One that was overtaken is left out.
        assert_eq!(decide(&BOUNDS, &[written(100, 100), written(60, 60)], NOW), finish(100, &[0]));
    }

    #[test]
    fn l_6_who_does_not_answer_is_waited_for_ten_seconds_and_left_out() {
        let asked = [written(100, 80), home(Said::Nothing), written(90, 90)];
        assert_eq!(decide(&BOUNDS, &asked, NOW), Decision::Wait);
        assert_eq!(decide(&BOUNDS, &asked, ANSWER), finish(90, &[0, 2]));
    }

    #[test]
    fn f_1_one_replica_alone_becomes_the_block_only_after_others_had_their_time() {
        let untouched = Bounds { floor_bytes: 100, untouched: true, ..BOUNDS };
        let truncated = Bounds { target_bytes: Some(40), floor_bytes: 40, ..untouched };
        let silent = home(Said::Nothing);
        for (bounds, one, len_bytes) in
            [(BOUNDS, written(100, 80), 100), (untouched, finalized(100), 100), (truncated, finalized(100), 40)]
        {
            for asked in [vec![one, silent], vec![one, silent, silent], vec![one, silent, home(Said::Dead)]] {
                for waited in [NOW, ANSWER, RESTARTED, ALONE.saturating_sub(Duration::from_millis(1))] {
                    assert_eq!(decide(&bounds, &asked, waited), Decision::Wait, "{asked:?} after {waited:?}");
                }
                assert_eq!(decide(&bounds, &asked, ALONE), finish(len_bytes, &[0]), "{asked:?}");
            }
            // One that is shorter than the block is none.
            let asked = [one, at_stamp(written(30, 0), STAMP + 1), silent];
            if bounds.target_bytes.is_none() && bounds.untouched {
                assert_eq!(decide(&bounds, &asked, ANSWER), Decision::Wait);
            }
            // Two are enough, and so is one if all that is silent is no home, or its loss is accepted.
            assert_eq!(decide(&bounds, &[one, one, silent], ANSWER), finish(len_bytes, &[0, 1]));
            let stranger = Participant { home: false, ..silent };
            assert_eq!(decide(&bounds, &[one, stranger], ANSWER), finish(len_bytes, &[0]));
            assert_eq!(decide(&bounds, &[one, home(Said::Dead)], NOW), finish(len_bytes, &[0]));
            let accepted = Bounds { accept_loss: true, ..bounds };
            assert_eq!(decide(&accepted, &[one, silent], ANSWER), finish(len_bytes, &[0]));
        }
    }

    #[test]
    fn sc_27_restarted_replicas_do_not_outvote_those_that_were_there_all_the_time() {
        // What was not synced is gone from two of them.
        assert_eq!(decide(&BOUNDS, &[restarted(10), written(100, 100), restarted(20)], NOW), finish(100, &[1]));
        assert_eq!(decide(&BOUNDS, &[restarted(100), written(100, 100), restarted(20)], NOW), finish(100, &[0, 1]));
        // Alone they wait for one that cannot tell, then the longest has most.
        let asked = [restarted(10), home(Said::Unable), restarted(20)];
        assert_eq!(decide(&BOUNDS, &asked, NOW), finish(20, &[2]));
        let stranger = Participant { home: false, said: Said::Nothing };
        let asked = [restarted(10), stranger, restarted(20)];
        assert_eq!(decide(&BOUNDS, &asked, ANSWER), Decision::Wait);
        assert_eq!(decide(&BOUNDS, &asked, RESTARTED), finish(20, &[2]));
        assert_eq!(decide(&BOUNDS, &[restarted(10), restarted(20)], NOW), finish(20, &[1]));
    }

    #[test]
    fn d_2_silence_is_no_loss_and_restarted_replicas_shorten_nothing_while_it_lasts() {
        for silent in [home(Said::Nothing), home(Said::Dead)] {
            for rest in [vec![restarted(60)], vec![restarted(60), restarted(70)], vec![restarted(0)]] {
                let asked = [rest, vec![silent]].concat();
                for waited in [NOW, ANSWER] {
                    assert_eq!(decide(&BOUNDS, &asked, waited), Decision::Wait, "{asked:?}");
                }
                for waited in [RESTARTED, NOTHING_WRITTEN, LONG * 1000] {
                    assert_eq!(decide(&BOUNDS, &asked, waited), Decision::Again(Why::TooFewAnswer), "{asked:?}");
                }
            }
            // It comes back with what it received; or somebody says that it does not.
            assert_eq!(decide(&BOUNDS, &[restarted(60), written(100, 80)], NOW), finish(100, &[1]));
            assert_eq!(decide(&BOUNDS, &[restarted(60), home(Said::Lost)], NOW), finish(60, &[0]));
            let accepted = Bounds { accept_loss: true, ..BOUNDS };
            assert_eq!(decide(&accepted, &[restarted(60), silent], LONG), finish(60, &[0]));
            // A replica that was there all the time has all that was acknowledged.
            assert_eq!(decide(&BOUNDS, &[written(90, 80), silent], ALONE), finish(90, &[0]));
        }
    }

    #[test]
    fn l_6_of_a_block_that_nobody_touched_every_whole_copy_is_enough_wherever_it_is() {
        // The log's homes are gone: the copies were moved since, and were just about to be appended to.
        let stranger = |participant: Participant| Participant { home: false, ..participant };
        let copies = [
            stranger(at_stamp(written(150, 120), STAMP + 5)),
            stranger(at_stamp(restarted(130), STAMP + 5)),
            stranger(finalized(100)),
        ];
        let untouched = Bounds { floor_bytes: 100, untouched: true, ..BOUNDS };
        let truncated = Bounds { target_bytes: Some(40), floor_bytes: 40, ..untouched };
        for gone in [home(Said::Nothing), home(Said::Dead), home(Said::Unable), none()] {
            for copy in copies {
                let asked = [gone, gone, gone, copy];
                let Decision::Finish { len_bytes, on } = decide(&untouched, &asked, ALONE) else {
                    panic!("{:?} of {asked:?}", decide(&untouched, &asked, ALONE))
                };
                assert!(len_bytes >= 100 && on == [3], "{asked:?}");
                assert_eq!(decide(&truncated, &asked, ALONE), finish(40, &[3]));
                // Whoever has less than was finished has nothing of use.
                let short = stranger(at_stamp(written(99, 0), STAMP + 5));
                assert_eq!(decide(&untouched, &[gone, gone, gone, short], ANSWER), Decision::Wait);
            }
            // Once a pipeline was logged, one of its nodes may have acknowledged more.
            if !has_nothing(&gone) {
                let touched = Bounds { untouched: false, ..untouched };
                let asked = [gone, gone, gone, copies[0]];
                assert_eq!(decide(&touched, &asked, LONG), Decision::Again(Why::TooFewAnswer));
            }
        }
        assert_eq!(
            decide(&untouched, &copies, NOW),
            finish(100, &[0, 1, 2]),
            "nothing is sent before the log knows of it"
        );
    }

    #[test]
    fn d_6_what_a_truncate_took_away_does_not_come_back_with_a_replica_that_was_not_cut() {
        let untouched = Bounds { floor_bytes: 60, untouched: true, ..BOUNDS };
        let renamed_only = restarted(100);
        for others in [vec![], vec![restarted(60)], vec![written(60, 60)], vec![at_stamp(restarted(60), STAMP + 5)]] {
            let asked = [vec![renamed_only], others].concat();
            let all: Vec<usize> = (0..asked.len()).collect();
            assert_eq!(decide(&untouched, &asked, NOW), finish(60, &all), "{asked:?}");
        }
        // Whatever its node says, at whatever stamp: a copy may have been made over it, and have ended before its end.
        assert_eq!(decide(&untouched, &[at_stamp(written(100, 100), STAMP + 5)], NOW), finish(60, &[0]));
        assert_eq!(decide(&untouched, &[written(100, 100)], NOW), finish(60, &[0]));
        let cut_further = Bounds { target_bytes: Some(40), floor_bytes: 40, ..untouched };
        assert_eq!(decide(&cut_further, &[renamed_only], NOW), finish(40, &[0]));
    }

    #[test]
    fn a_loss_that_is_accepted_ends_with_the_best_of_what_is_left() {
        let accepted = Bounds { accept_loss: true, ..BOUNDS };
        for lost in [home(Said::Nothing), home(Said::Dead), home(Said::Unable), damaged()] {
            let asked = [lost, lost, restarted(60)];
            assert_eq!(decide(&BOUNDS, &asked, LONG), Decision::Again(Why::TooFewAnswer));
            if lost.said == Said::Nothing {
                assert_eq!(decide(&accepted, &asked, ANSWER), Decision::Wait, "who is only slow is heard");
            }
            assert_eq!(decide(&accepted, &asked, RESTARTED), finish(60, &[2]));
            // Nothing is left: a new block goes, one that readers have seen stays at what they saw, and is missing.
            assert_eq!(decide(&accepted, &[lost, lost, none()], LONG), Decision::Drop);
            assert_eq!(decide(&accepted, &[lost, lost], LONG), Decision::Drop);
            let seen = Bounds { floor_bytes: 80, ..accepted };
            assert_eq!(decide(&seen, &asked, NOW), Decision::Wait);
            assert_eq!(decide(&seen, &asked, NOBODY), Decision::GiveUp { len_bytes: 80 });
            let cut = Bounds { target_bytes: Some(70), floor_bytes: 70, ..accepted };
            assert_eq!(decide(&cut, &asked, NOBODY), Decision::GiveUp { len_bytes: 70 });
            // What was there all the time is not cut because of it.
            assert_eq!(decide(&accepted, &[lost, lost, written(100, 80), restarted(60)], LONG), finish(100, &[2]));
        }
    }

    #[test]
    fn d_3_a_power_cut_after_a_new_stamp_takes_the_longest_whatever_its_stamp() {
        let asked = [at_stamp(restarted(0), STAMP + 5), restarted(100)];
        assert_eq!(decide(&BOUNDS, &asked, NOW), finish(100, &[1]));
    }

    #[test]
    fn one_that_is_not_of_the_pipeline_does_not_speak_for_it() {
        // A node that was just about to be taken in has nothing yet; the homes were restarted.
        let new = Participant { home: false, ..at_stamp(written(0, 0), STAMP + 5) };
        assert_eq!(decide(&BOUNDS, &[restarted(100), new], NOW), finish(100, &[0]));
        assert_eq!(decide(&BOUNDS, &[written(100, 50), new], NOW), finish(100, &[0]));
        // What it has is as good as any other's.
        let caught_up = Participant { home: false, ..at_stamp(written(100, 0), STAMP + 5) };
        assert_eq!(decide(&BOUNDS, &[written(100, 50), caught_up], NOW), finish(100, &[0, 1]));
    }

    #[test]
    fn d_4_a_finalised_replica_is_never_cut_because_its_receipt_may_be_out() {
        assert_eq!(decide(&BOUNDS, &[finalized(100), written(90, 80), written(100, 90)], NOW), finish(100, &[0, 2]));
        let restarted_node = match finalized(100).said {
            Said::Found(found) => home(Said::Found(ReplicaFound { restarted: true, ..found })),
            other => home(other),
        };
        assert_eq!(decide(&BOUNDS, &[restarted_node, written(90, 80)], NOW), finish(100, &[0]));
        // One that an earlier recovery finished may be shorter than what another was acknowledged with.
        assert_eq!(decide(&BOUNDS, &[at_stamp(finalized(90), STAMP + 1), written(100, 100)], NOW), finish(100, &[1]));
    }

    #[test]
    fn d_6_an_append_that_got_nowhere_leaves_what_was_committed() {
        let bounds = Bounds { floor_bytes: 100, ..BOUNDS };
        let asked = [finalized(100), at_stamp(written(150, 100), STAMP + 1), finalized(100)];
        assert_eq!(decide(&bounds, &asked, NOW), finish(100, &[0, 1, 2]));
        assert_eq!(decide(&bounds, &[written(99, 0), finalized(100)], NOW), finish(100, &[1]));
        assert_eq!(decide(&bounds, &[none(), none()], NOW), Decision::Wait, "somebody must have it");
        assert_eq!(decide(&bounds, &[none(), none()], NOBODY), Decision::Again(Why::NothingOfUse));
    }

    #[test]
    fn sc_65_replicas_of_older_stamps_count_for_nothing() {
        let asked = [written(100, 100), at_stamp(written(200, 200), STAMP - 1)];
        assert_eq!(decide(&BOUNDS, &asked, NOW), finish(100, &[0]));
    }

    #[test]
    fn a_truncate_cuts_whatever_is_long_enough() {
        let bounds = Bounds { floor_bytes: 100, target_bytes: Some(40), ..BOUNDS };
        assert_eq!(decide(&bounds, &[finalized(100), finalized(100), written(30, 0)], NOW), finish(40, &[0, 1]));
        // Cut by an earlier try.
        assert_eq!(decide(&bounds, &[at_stamp(finalized(40), STAMP + 1), none()], NOW), finish(40, &[0]));
        assert_eq!(decide(&bounds, &[home(Said::Nothing), finalized(100)], NOW), Decision::Wait);
        assert_eq!(decide(&bounds, &[home(Said::Nothing), finalized(100)], ALONE), finish(40, &[1]));
    }

    #[test]
    fn sc_33_a_block_that_nobody_wrote_goes() {
        assert_eq!(decide(&BOUNDS, &[none(), none(), none()], NOW), Decision::Drop);
        let one_is_dead = [none(), home(Said::Unable), none()];
        assert_eq!(decide(&BOUNDS, &one_is_dead, ANSWER), Decision::Wait, "it may come back, and have something");
        assert_eq!(decide(&BOUNDS, &one_is_dead, NOTHING_WRITTEN), Decision::Drop);
        assert_eq!(decide(&BOUNDS, &[written(0, 0), written(0, 0)], NOW), Decision::Drop);
        let lost_all = [restarted(0), home(Said::Unable)];
        assert_eq!(decide(&BOUNDS, &lost_all, RESTARTED), Decision::Wait);
        assert_eq!(decide(&BOUNDS, &lost_all, NOTHING_WRITTEN), Decision::Drop);
        let stranger = Participant { home: false, ..none() };
        assert_eq!(decide(&BOUNDS, &[home(Said::Nothing), stranger], LONG), Decision::Again(Why::NothingOfUse));
    }

    #[test]
    fn d_2_sc_33_what_is_lost_proves_nothing() {
        let lost = home(Said::Lost);
        for away in [home(Said::Nothing), home(Said::Dead), home(Said::Unable), damaged()] {
            // Whoever is away may hold all that was flushed.
            let mixed = [vec![lost, away], vec![lost, lost, away], vec![none(), lost, away]];
            // What was restarted may have lost it: it proves nothing either.
            let restarted = matches!(away.said, Said::Unable).then(|| vec![restarted(0), lost, away]);
            for asked in mixed.into_iter().chain(restarted) {
                for waited in [NOW, ANSWER] {
                    assert_eq!(decide(&BOUNDS, &asked, waited), Decision::Wait, "{asked:?}");
                }
                let decided = decide(&BOUNDS, &asked, LONG);
                assert!(matches!(decided, Decision::Again(_)), "{decided:?} of {asked:?}");
            }
            assert_eq!(decide(&BOUNDS, &[lost, written(100, 80)], NOW), finish(100, &[1]), "it comes back");
        }
        // No home is left, or one that never had anything: others may still report a copy.
        for asked in [vec![lost, lost], vec![none(), lost], vec![lost, none(), lost], vec![restarted(0), lost]] {
            for waited in [NOW, NOBODY, RESTARTED] {
                assert_eq!(decide(&BOUNDS, &asked, waited), Decision::Wait, "{asked:?}");
            }
            assert_eq!(decide(&BOUNDS, &asked, NOTHING_WRITTEN), Decision::Drop, "{asked:?}");
            let copy = Participant { home: false, ..finalized(100) };
            assert_eq!(decide(&BOUNDS, &[asked.clone(), vec![copy]].concat(), NOW), finish(100, &[asked.len()]));
        }
    }

    #[test]
    fn two_that_are_silent_or_unable_may_have_what_was_flushed() {
        for lost in [home(Said::Nothing), home(Said::Unable), damaged(), at_stamp(damaged(), 0)] {
            for rest in [none(), restarted(0), restarted(10)] {
                let asked = [rest, lost, home(Said::Unable)];
                assert_eq!(decide(&BOUNDS, &asked, NOW), Decision::Wait, "{asked:?}");
                let decided = decide(&BOUNDS, &asked, LONG);
                assert!(matches!(decided, Decision::Again(_)), "{decided:?} of {asked:?}");
            }
            // One that was there all the time is enough.
            assert_eq!(decide(&BOUNDS, &[written(100, 80), lost, home(Said::Unable)], LONG), finish(100, &[0]));
        }
        // A replica of a lower stamp, or a damaged one, is not none.
        let asked = [none(), at_stamp(restarted(100), 0), damaged()];
        assert!(matches!(decide(&BOUNDS, &asked, LONG), Decision::Again(_)));
        assert_eq!(decide(&BOUNDS, &[none(), none(), damaged()], NOW), Decision::Wait);
    }

    #[test]
    fn a_copy_beside_the_pipeline_decides_nothing_alone() {
        let arriving = Participant { home: false, ..at_stamp(written(10, 0), STAMP + 5) };
        for bounds in [BOUNDS, Bounds { floor_bytes: 5, ..BOUNDS }] {
            for lost in [home(Said::Nothing), home(Said::Unable), damaged()] {
                let asked = [lost, none(), arriving];
                assert_eq!(decide(&bounds, &asked, NOW), Decision::Wait);
                assert_eq!(decide(&bounds, &asked, LONG), Decision::Again(Why::TooFewAnswer));
            }
        }
        assert_eq!(decide(&BOUNDS, &[none(), none(), arriving], NOW), finish(10, &[2]), "all of them were heard");
        let whole = Participant { home: false, ..finalized(100) };
        assert_eq!(decide(&BOUNDS, &[home(Said::Unable), whole], NOW), finish(100, &[1]));
    }

    #[test]
    fn nobody_at_all_is_asked_again() {
        let asked = [home(Said::Nothing), home(Said::Unable)];
        assert_eq!(decide(&BOUNDS, &asked, ANSWER), Decision::Wait);
        assert_eq!(decide(&BOUNDS, &asked, NOBODY), Decision::Again(Why::NobodyAnswers));
        assert_eq!(decide(&BOUNDS, &[], NOBODY), Decision::Again(Why::NobodyAnswers));
    }

    /// With one exception: one that is silent, while all others were restarted, may have more than they have
    /// (`d_2_silence_is_no_loss…`); that ends when it is heard, or when somebody says that it is lost.
    #[test]
    fn sc_28_every_state_of_the_replicas_with_one_permanent_fault_ends() {
        let states =
            [none(), written(0, 0), written(100, 0), written(100, 100), restarted(0), restarted(100), finalized(100)];
        let silent = [home(Said::Nothing), home(Said::Dead)];
        let told = [home(Said::Lost), home(Said::Unable), damaged(), at_stamp(damaged(), 0)];
        for first in states {
            for second in states {
                for fault in silent.into_iter().chain(told) {
                    for at in 0..3 {
                        let mut asked = vec![first, second];
                        asked.insert(at, fault);
                        let acked = asked.iter().filter_map(|participant| usable(0, participant, &BOUNDS));
                        let acked = acked.filter(|replica| !replica.restarted).map(|r| r.acked_bytes).max();
                        match decide(&BOUNDS, &asked, Duration::from_secs(60)) {
                            Decision::Finish { len_bytes, on } => {
                                assert!(len_bytes >= acked.unwrap_or(0) && !on.is_empty() && !on.contains(&at));
                            }
                            Decision::Drop => assert_eq!(acked.unwrap_or(0), 0, "{asked:?}"),
                            Decision::Again(Why::TooFewAnswer) => {
                                let speaks = [first, second]
                                    .iter()
                                    .any(|one| usable(0, one, &BOUNDS).is_some_and(|replica| replica.speaks));
                                assert!(silent.contains(&fault) && !speaks, "{asked:?}");
                            }
                            other => panic!("{other:?} of {asked:?}"),
                        }
                    }
                }
            }
        }
    }
}
