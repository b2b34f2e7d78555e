//! Sessions: a retried call takes effect once, and the memory that this needs is bounded.
//!
//! ```text
//!   call 7 ──▶ below lowest_unanswered?  refused: an old copy that was on its way for long
//!              remembered?               the same answer again, nothing changes
//!              forgotten?                OutcomeUnknown: it took effect, the answer is gone
//!              else                      applied, and its answer remembered
//! ```
//!
//! A session keeps the latest [`MAX_OUTCOMES`] answers in log order; of older ones it keeps the numbers, as ranges.
//! A session is dropped [`IDLE_MS`] of log time after its last call, unless it holds a lease. All of this is state:
//! it is in the log's order, in images and in the state hash.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::SessionId;
use rustc_hash::FxBuildHasher;

use super::hash::Mixer;
use super::store::hash_kind;
use super::store::sharded::Sharded;

/// Answers that a session keeps.
pub(crate) const MAX_OUTCOMES: usize = 256;
/// Ranges of forgotten calls that a session keeps, before it refuses new calls.
pub(crate) const MAX_RANGES: usize = 256;
/// As [`MAX_RANGES`], for the lowest unanswered call: only its answer lets the session go on.
pub(crate) const MAX_RANGES_OF_LOWEST: usize = 2 * MAX_RANGES;
/// Sessions in all; beyond it the longest idle one without a lease goes.
pub(crate) const MAX_SESSIONS: usize = 1 << 20;
/// Log time without a call after which a session is dropped, to within [`TOUCH_MS`].
pub(crate) const IDLE_MS: u64 = 600_000;
/// Last use is kept in steps of this, so that a busy session does not move in the queue with each call.
pub(crate) const TOUCH_MS: u64 = 16_384;
/// Sessions that one entry drops at most.
const MAX_DROPS_PER_ENTRY: usize = 1024;

/// What is remembered of one session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Session {
    /// Log time of the last call, in [`TOUCH_MS`].
    pub(crate) seen: u64,
    /// Calls below are answered: no copy of them may take effect.
    pub(crate) lowest: u64,
    /// Encoded answers by call, in log order.
    pub(crate) outcomes: VecDeque<(u64, Arc<[u8]>)>,
    /// Calls whose answers are gone: first → last of each range, not adjacent, all at or above `lowest`.
    pub(crate) forgotten: BTreeMap<u64, u64>,
}

/// Whether a call is new.
pub(crate) enum Admission {
    /// It has not been applied: apply it, then [`Sessions::remember`].
    New,
    /// It has been applied with this (encoded) answer.
    Again(Arc<[u8]>),
}

/// All sessions.
pub(crate) struct Sessions {
    table: Sharded<SessionId, Arc<Session>>,
    /// Leases by holder. Derived from the open files.
    leases: HashMap<SessionId, u32, FxBuildHasher>,
    /// Sessions without leases by last use. Derived.
    idle: BTreeSet<(u64, SessionId)>,
    /// Wrapping sum of the hashes of sessions and outcomes.
    pub(crate) hash: u64,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { table: Sharded::new(), leases: HashMap::default(), idle: BTreeSet::new(), hash: 0 }
    }
    /// Number of sessions.
    pub(crate) const fn len(&self) -> usize {
        self.table.len()
    }
    /// Would this call be answered again?
    pub(crate) fn remembers(&self, id: SessionId, call: u64) -> bool {
        self.table.get(&id).is_some_and(|session| session.outcomes.iter().any(|(number, _)| *number == call))
    }
    /// Is this session remembered?
    pub(crate) fn knows(&self, id: SessionId) -> bool {
        self.table.get(&id).is_some()
    }
    /// Memory of sessions and answers.
    pub(crate) fn bytes(&self) -> u64 {
        let of_one = |session: &Arc<Session>| {
            let answers: usize = session.outcomes.iter().map(|(_, answer)| answer.len() + 16).sum();
            size_of::<Session>() + session.outcomes.capacity() * size_of::<(u64, Arc<[u8]>)>() + answers
        };
        self.table.sorted().into_iter().map(|(_, session)| of_one(session)).sum::<usize>() as u64
    }
    /// A frozen view.
    pub(crate) fn freeze(&self) -> Sharded<SessionId, Arc<Session>> {
        self.table.clone()
    }

    /// Looks whether a call may be applied, and notes that the session is alive. Refusals change nothing.
    ///
    /// # Errors
    /// `InvalidArgument` for impossible numbers, `SessionExpired` for a session or a call that is over,
    /// `OutcomeUnknown` for a call whose answer is gone, `Overloaded` when the session has too many gaps.
    pub(crate) fn admit(&mut self, id: SessionId, call: u64, lowest: u64, log_time_ms: u64) -> FsResult<Admission> {
        if call == 0 || lowest == 0 || lowest > call {
            return Err(FsError::new(ErrorCode::InvalidArgument, "the numbers of the call are impossible")
                .with_hint("number calls from 1, and let lowest_unanswered be at most the call"));
        }
        let Some(session) = self.table.get(&id) else {
            if lowest != 1 {
                return Err(expired("the session is not known any more"));
            }
            self.open(id, log_time_ms)?;
            return Ok(Admission::New);
        };
        if call < session.lowest {
            return Err(expired("the call was acknowledged before: this is an old copy of it"));
        }
        let again = session.outcomes.iter().find(|(number, _)| *number == call).map(|(_, answer)| answer.clone());
        if again.is_none() && covers(&session.forgotten, call) {
            return Err(FsError::new(ErrorCode::OutcomeUnknown, "the call was applied, but its answer is gone")
                .with_hint("look at the path to see what happened"));
        }
        let most = if call == lowest { MAX_RANGES_OF_LOWEST } else { MAX_RANGES };
        if again.is_none() && ranges_from(&session.forgotten, lowest) >= most {
            return Err(FsError::new(ErrorCode::Overloaded, "the session has too many unacknowledged calls")
                .with_hint("wait for the answer of the lowest unanswered call"));
        }
        self.touch(id, lowest, log_time_ms);
        Ok(again.filter(|_| !base::mutated!(Sc97RetryTakesEffectAgain)).map_or(Admission::New, Admission::Again))
    }

    /// Keeps the answer of an applied call.
    pub(crate) fn remember(&mut self, id: SessionId, call: u64, answer: Arc<[u8]>) {
        let Some(session) = self.table.get_mut(&id) else { return };
        let session = Arc::make_mut(session);
        self.hash = self.hash.wrapping_add(outcome_hash(id, call, &answer));
        session.outcomes.push_back((call, answer));
        if session.outcomes.len() > MAX_OUTCOMES
            && let Some((oldest, answer)) = session.outcomes.pop_front()
        {
            let before = header_hash(id, session);
            add_to_ranges(&mut session.forgotten, oldest);
            self.hash = self.hash.wrapping_sub(before).wrapping_add(header_hash(id, session));
            self.hash = self.hash.wrapping_sub(outcome_hash(id, oldest, &answer));
        }
    }

    /// A session got a lease: it is not dropped while it holds one.
    pub(crate) fn lease_taken(&mut self, id: Option<SessionId>) {
        let Some(id) = id else { return };
        *self.leases.entry(id).or_insert(0) += 1;
        if let Some(session) = self.table.get(&id) {
            self.idle.remove(&(session.seen, id));
        }
    }
    /// A lease of a session ended.
    pub(crate) fn lease_ended(&mut self, id: Option<SessionId>) {
        let Some(id) = id else { return };
        let Some(count) = self.leases.get_mut(&id) else { return };
        *count -= 1;
        if *count == 0 {
            self.leases.remove(&id);
            if let Some(session) = self.table.get(&id) {
                self.idle.insert((session.seen, id));
            }
        }
    }

    /// Drops sessions that were idle for too long.
    pub(crate) fn expire(&mut self, log_time_ms: u64) {
        let Some(limit) = (log_time_ms / TOUCH_MS).checked_sub(IDLE_MS.div_ceil(TOUCH_MS)) else { return };
        for _ in 0..MAX_DROPS_PER_ENTRY {
            match self.idle.first() {
                Some((seen, id)) if *seen < limit => {
                    let id = *id;
                    self.drop_session(id);
                }
                _ => return,
            }
        }
    }

    /// Puts back a session from an image, before the leases.
    pub(crate) fn restore(&mut self, id: SessionId, session: Session) -> bool {
        let hash = session
            .outcomes
            .iter()
            .fold(header_hash(id, &session), |hash, (call, answer)| hash.wrapping_add(outcome_hash(id, *call, answer)));
        self.idle.insert((session.seen, id));
        self.hash = self.hash.wrapping_add(hash);
        self.table.insert(id, Arc::new(session)).is_none()
    }

    fn open(&mut self, id: SessionId, log_time_ms: u64) -> FsResult<()> {
        if self.table.len() >= MAX_SESSIONS {
            match self.idle.first() {
                Some((_, oldest)) => {
                    let oldest = *oldest;
                    self.drop_session(oldest);
                }
                None => return Err(FsError::new(ErrorCode::Overloaded, "every session of the cluster holds a lease")),
            }
        }
        let session = Session { seen: log_time_ms / TOUCH_MS, lowest: 1, ..Session::default() };
        self.restore(id, session);
        Ok(())
    }
    fn touch(&mut self, id: SessionId, lowest: u64, log_time_ms: u64) {
        let seen = log_time_ms / TOUCH_MS;
        let Some(session) = self.table.get(&id) else { return };
        let before = session.seen;
        if before == seen && lowest <= session.lowest {
            return;
        }
        if before != seen && self.idle.remove(&(before, id)) {
            self.idle.insert((seen, id));
        }
        self.change(id, |session, hash| {
            session.seen = seen;
            if lowest > session.lowest {
                session.lowest = lowest;
                session.outcomes.retain(|(call, answer)| {
                    let keep = *call >= lowest;
                    if !keep {
                        *hash = hash.wrapping_sub(outcome_hash(id, *call, answer));
                    }
                    keep
                });
                cut_ranges(&mut session.forgotten, lowest);
            }
        });
    }
    fn change(&mut self, id: SessionId, change: impl FnOnce(&mut Session, &mut u64)) {
        let Some(session) = self.table.get_mut(&id) else { return };
        let session = Arc::make_mut(session);
        let before = header_hash(id, session);
        change(session, &mut self.hash);
        self.hash = self.hash.wrapping_sub(before).wrapping_add(header_hash(id, session));
    }
    fn drop_session(&mut self, id: SessionId) {
        let Some(session) = self.table.remove(&id) else { return };
        self.idle.remove(&(session.seen, id));
        let hash = session
            .outcomes
            .iter()
            .fold(header_hash(id, &session), |hash, (call, answer)| hash.wrapping_add(outcome_hash(id, *call, answer)));
        self.hash = self.hash.wrapping_sub(hash);
    }
}

fn expired(why: &str) -> FsError {
    FsError::new(ErrorCode::SessionExpired, why)
        .with_hint("start a new session; look whether the last call took effect")
}

fn header_hash(id: SessionId, session: &Session) -> u64 {
    let mut mixer = Mixer::new(hash_kind::SESSION);
    mixer.bytes(id.as_bytes()).word(session.seen).word(session.lowest);
    for (first, last) in &session.forgotten {
        mixer.word(*first).word(*last);
    }
    mixer.finish()
}
fn outcome_hash(id: SessionId, call: u64, answer: &[u8]) -> u64 {
    Mixer::new(hash_kind::OUTCOME).bytes(id.as_bytes()).word(call).bytes(answer).finish()
}

fn covers(ranges: &BTreeMap<u64, u64>, call: u64) -> bool {
    ranges.range(..=call).next_back().is_some_and(|(_, last)| *last >= call)
}
/// Number of ranges that [`cut_ranges`] would leave.
fn ranges_from(ranges: &BTreeMap<u64, u64>, lowest: u64) -> usize {
    ranges.len() - ranges.values().take_while(|last| **last < lowest).count()
}
fn add_to_ranges(ranges: &mut BTreeMap<u64, u64>, call: u64) {
    let mut first = call;
    if let Some((before, last)) = ranges.range(..call).next_back()
        && *last == call - 1
    {
        first = *before;
    }
    let last = ranges.remove(&(call.saturating_add(1))).unwrap_or(call);
    ranges.insert(first, last);
}
fn cut_ranges(ranges: &mut BTreeMap<u64, u64>, lowest: u64) {
    let above = ranges.split_off(&lowest);
    let straddling = ranges.last_key_value().map(|(_, last)| *last).filter(|last| *last >= lowest);
    *ranges = above;
    if let Some(last) = straddling {
        ranges.insert(lowest, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u8) -> SessionId {
        SessionId::new([n; 16])
    }
    fn new_call(sessions: &mut Sessions, call: u64, lowest: u64, now: u64) {
        assert!(matches!(sessions.admit(id(1), call, lowest, now), Ok(Admission::New)), "call {call}");
        sessions.remember(id(1), call, Arc::from(call.to_le_bytes().as_slice()));
    }
    fn code(result: FsResult<Admission>) -> Option<ErrorCode> {
        result.err().map(|error| error.code)
    }

    #[test]
    fn a_call_is_new_once() {
        let mut sessions = Sessions::new();
        new_call(&mut sessions, 1, 1, 0);
        assert!(matches!(sessions.admit(id(1), 1, 1, 0), Ok(Admission::Again(a)) if *a == 1_u64.to_le_bytes()));
        new_call(&mut sessions, 2, 2, 0);
        assert_eq!(code(sessions.admit(id(1), 1, 1, 0)), Some(ErrorCode::SessionExpired));
        assert_eq!(code(sessions.admit(id(2), 5, 5, 0)), Some(ErrorCode::SessionExpired));
        for (call, lowest) in [(0, 0), (0, 1), (1, 0), (1, 2)] {
            assert_eq!(code(sessions.admit(id(3), call, lowest, 0)), Some(ErrorCode::InvalidArgument));
        }
    }

    #[test]
    fn old_answers_are_forgotten_but_not_their_calls() {
        let mut sessions = Sessions::new();
        for call in 2..=1 + MAX_OUTCOMES as u64 + 10 {
            new_call(&mut sessions, call, 1, 0);
        }
        assert_eq!(code(sessions.admit(id(1), 2, 1, 0)), Some(ErrorCode::OutcomeUnknown));
        assert!(matches!(sessions.admit(id(1), 12, 1, 0), Ok(Admission::Again(_))));
        new_call(&mut sessions, 1, 1, 0);
        new_call(&mut sessions, 1000, 1000, 0);
        let session = sessions.table.get(&id(1)).cloned().unwrap_or_default();
        assert_eq!((session.outcomes.len(), session.forgotten.len()), (1, 0));
    }

    #[test]
    fn n_7_a_session_full_of_gaps_goes_on_with_its_lowest_call() {
        let mut sessions = Sessions::new();
        // Every second call is lost on its way: gaps that only those calls can fill.
        let full = 2 * (MAX_OUTCOMES + MAX_RANGES) as u64;
        for call in (2..=full).step_by(2) {
            new_call(&mut sessions, call, 1, 0);
        }
        assert_eq!(code(sessions.admit(id(1), full + 2, 1, 0)), Some(ErrorCode::Overloaded));
        assert_eq!(code(sessions.admit(id(1), 3, 1, 0)), Some(ErrorCode::Overloaded));
        for lowest in (1..full).step_by(2) {
            new_call(&mut sessions, lowest, lowest, 0);
        }
        new_call(&mut sessions, full + 2, full + 1, 0);
        let session = sessions.table.get(&id(1)).cloned().unwrap_or_default();
        assert_eq!((session.outcomes.len(), session.forgotten.len()), (1, 0));
    }

    #[test]
    fn a_call_that_acknowledges_the_gaps_is_admitted() {
        let mut sessions = Sessions::new();
        let full = 2 * (MAX_OUTCOMES + MAX_RANGES) as u64;
        for call in (2..=full).step_by(2) {
            new_call(&mut sessions, call, 1, 0);
        }
        assert_eq!(code(sessions.admit(id(1), full + 1, 2, 0)), Some(ErrorCode::Overloaded));
        new_call(&mut sessions, full + 1, 9, 0);
    }

    #[test]
    fn idle_sessions_go_unless_they_hold_a_lease() {
        let mut sessions = Sessions::new();
        new_call(&mut sessions, 1, 1, 0);
        sessions.lease_taken(Some(id(1)));
        sessions.expire(10 * IDLE_MS);
        assert_eq!(sessions.len(), 1);
        sessions.lease_ended(Some(id(1)));
        sessions.expire(IDLE_MS - 1);
        assert_eq!(sessions.len(), 1);
        sessions.expire(IDLE_MS + 2 * TOUCH_MS);
        assert_eq!((sessions.len(), sessions.hash), (0, 0));
    }

    proptest! {
        #[test]
        fn ranges_are_a_set(calls in proptest::collection::vec(1_u64..60, 0..60), lowest in 1_u64..60) {
            let mut ranges = BTreeMap::new();
            let mut model = BTreeSet::new();
            for call in calls {
                if model.insert(call) {
                    add_to_ranges(&mut ranges, call);
                }
            }
            let before_cut = ranges_from(&ranges, lowest);
            cut_ranges(&mut ranges, lowest);
            for call in 1..70 {
                prop_assert_eq!(covers(&ranges, call), call >= lowest && model.contains(&call));
            }
            prop_assert_eq!(before_cut, ranges.len());
            let ends: Vec<_> = ranges.iter().map(|(first, last)| (*first, *last)).collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
