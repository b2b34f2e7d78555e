//! All waiting operations go into one log entry; a batch in flight is answered when it is applied.

use auth::Caller;
use base::clock::Moment;
use bytes::Bytes;
use prost::Message;
use proto::error::{ErrorCode, FsError};
use proto::ids::InodeId;
use proto::log::command::Op;
use proto::log::{CallerRecord, Command, Entry};

use super::{Effect, NamenodeCore};
use crate::consensus::{ProposeError, Proposed, Room};
use crate::namespace::{COMMAND_SET_VERSION, Namespace};
use crate::service::request::{Request, Ticket};

/// An operation that waits for the log.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) record: CallerRecord,
    /// Session, call, lowest unanswered; empty for operations that are not remembered.
    pub(super) call: (Bytes, u64, u64),
    pub(super) op: Op,
    pub(super) then: Then,
}

/// What happens when an operation is applied.
#[derive(Debug)]
pub(super) enum Then {
    /// A client is answered.
    Answer { ticket: Ticket, user: String, request: Box<Request> },
    /// A registration goes on (`last`: with the last of its storages).
    Register { ticket: Ticket, caller: Caller, request: Box<Request>, last: bool },
    /// The step is noted as done.
    Upkeep(Step),
    /// The recovery of a file goes on.
    Recovery(InodeId),
}

/// The cluster's own operations, of which one is under way at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Format,
    Reclaim,
    ReleaseLease,
    Time,
    AccessTimes,
    Trash,
}

/// A proposed entry.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) proposed: Proposed,
    pub(super) items: Vec<Then>,
}

/// Entries proposed and not applied: one is being made durable while the next is being filled.
const MAX_FLIGHTS: usize = 2;

/// Does an operation make the state larger, or need room as if it did? Those that do not have the reserve of a full disk.
fn grows(op: &Op, namespace: &Namespace) -> bool {
    // A writer whose file is in its place says so before the first flush in each block: only a name takes room.
    if let Op::Publish(publish) = op {
        return namespace.is_unpublished(InodeId::from_raw(publish.inode));
    }
    !matches!(
        op,
        Op::Delete(_)
            | Op::Discard(_)
            | Op::AbandonBlock(_)
            // Whoever writes what was begun while there was room comes to its end: it holds no more afterwards.
            | Op::Complete(_)
            | Op::NewStamp(_)
            | Op::UpdatePipeline(_)
            | Op::Reclaim(_)
            | Op::ReleaseLease(_)
            | Op::Tick(_)
            | Op::BeginRecovery(_)
            | Op::FinishRecovery(_)
            | Op::RecoverLease(_)
    )
}

impl NamenodeCore {
    /// Cuts entries of what waits, while fewer than [`MAX_FLIGHTS`] are under way.
    pub(super) fn propose_waiting(&mut self, (now, wall_ns): (Moment, i64), out: &mut Vec<Effect>) {
        if !self.role.serving {
            return;
        }
        self.refuse_for_room(out);
        while self.flights.len() < MAX_FLIGHTS {
            if self.long.has_checked() {
                // Entries under way may change rights: what was checked holds for the very next one only.
                if !self.flights.is_empty() {
                    return;
                }
                self.put_checked_first(out);
            }
            if self.waiting.is_empty() {
                return;
            }
            let (entry, items) = self.cut((now, wall_ns));
            let context = self.next_context;
            self.next_context += 1;
            match self.consensus.propose(context, Bytes::from(entry.encode_to_vec())) {
                Ok(proposed) => {
                    self.upkeep.last_entry = now;
                    self.flights.insert(context, Flight { proposed, items });
                }
                Err(error) => {
                    self.give_back(entry, items, error, out);
                    return;
                }
            }
        }
    }

    fn cut(&mut self, (now, wall_ns): (Moment, i64)) -> (Entry, Vec<Then>) {
        let mut entry = Entry {
            version: COMMAND_SET_VERSION,
            leader_wall_ns: wall_ns,
            elapsed_ms: now.since(self.upkeep.last_entry).as_millis() as u64,
            ..Entry::default()
        };
        let mut items = Vec::new();
        let mut bytes = 0;
        while items.len() < self.config.max_batch_commands && bytes < self.config.max_batch_bytes {
            let Some(next) = self.waiting.pop_front() else { break };
            let caller = entry.callers.iter().rposition(|known| *known == next.record).unwrap_or_else(|| {
                entry.callers.push(next.record);
                entry.callers.len() - 1
            });
            let (session, call, lowest_unanswered) = next.call;
            let command = Command { caller: caller as u32, session, call, lowest_unanswered, op: Some(next.op) };
            bytes += command.encoded_len();
            entry.commands.push(command);
            items.push(next.then);
        }
        (entry, items)
    }

    /// The log did not take an entry: what can wait waits again, the rest is refused.
    fn give_back(&mut self, mut entry: Entry, items: Vec<Then>, error: ProposeError, out: &mut Vec<Effect>) {
        if error == ProposeError::Busy {
            for (command, then) in entry.commands.drain(..).zip(items).rev() {
                let record = entry.callers.get(command.caller as usize).cloned().unwrap_or_default();
                let call = (command.session, command.call, command.lowest_unanswered);
                let Some(op) = command.op else { continue };
                self.waiting.push_front(Waiting { record, call, op, then });
            }
            return;
        }
        let refusal = match error {
            ProposeError::NotLeader { .. } => self.not_leader(),
            ProposeError::NoSpace => no_space(),
            ProposeError::TooLarge { .. } | ProposeError::Busy => {
                FsError::new(ErrorCode::InvalidArgument, error.to_string())
            }
        };
        for then in items {
            self.refuse(then, refusal.clone(), out);
        }
    }

    /// Tells whoever waits for an operation that it was not (or may not have been) carried out.
    pub(super) fn refuse(&mut self, then: Then, error: FsError, out: &mut Vec<Effect>) {
        match then {
            Then::Answer { ticket, .. } | Then::Register { ticket, last: true, .. } => {
                out.push(Effect::Reply { ticket, response: Err(error) });
            }
            Then::Register { .. } => {}
            Then::Upkeep(step) => self.upkeep.done(step),
            Then::Recovery(inode) => {
                self.shared.blocks.write().recovery_was_refused(inode, self.upkeep.ticked);
            }
        }
    }

    /// When the disk is full, what grows is refused and deletes still work.
    fn refuse_for_room(&mut self, out: &mut Vec<Effect>) {
        if self.consensus.room() == Room::Normal {
            return;
        }
        let (refused, kept): (Vec<_>, Vec<_>) = {
            let namespace = self.shared.namespace.read();
            self.waiting.drain(..).partition(|waiting| grows(&waiting.op, &namespace))
        };
        self.waiting.extend(kept);
        for waiting in refused {
            self.refuse(waiting.then, no_space(), out);
        }
    }

    /// Everything that waits or is under way gets an answer: this member leads no more.
    pub(super) fn abandon_all(&mut self, out: &mut Vec<Effect>) {
        let refusal = self.not_leader();
        for waiting in std::mem::take(&mut self.waiting) {
            self.refuse(waiting.then, refusal.clone(), out);
        }
        for then in std::mem::take(&mut self.flights).into_values().flat_map(|flight| flight.items) {
            // It is in the log, so the next leader may commit it: a client must not take it for undone. A session repeats
            // the call safely; without one nobody can know what became of it. Nodes register again anyway.
            let error = match &then {
                Then::Answer { .. } => {
                    FsError::new(ErrorCode::OutcomeUnknown, "the leader changed while the call was under way")
                        .with_hint("the same call again is answered with what became of it")
                }
                Then::Register { .. } | Then::Upkeep(_) | Then::Recovery(_) => refusal.clone(),
            };
            self.refuse(then, error, out);
        }
        for parked in std::mem::take(&mut self.parked) {
            out.push(Effect::Reply { ticket: parked.ticket, response: Err(refusal.clone()) });
        }
        self.abandon_long(&refusal, out);
        for (ticket, ..) in self.reads.take_all() {
            out.push(Effect::Reply { ticket, response: Err(refusal.clone()) });
        }
    }
}

fn no_space() -> FsError {
    FsError::new(ErrorCode::NoSpace, "the namenode's disk is full")
        .with_hint("free space on the disk of the namenode's folder; deletes still work")
}
