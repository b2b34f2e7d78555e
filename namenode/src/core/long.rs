//! What takes longer than one hold of the locks: reads in steps, and the rights of callers on large trees. One step is
//! made at a time, by turns, and other events have their turn in between.
//!
//! ```text
//!   delete of a large tree ─▶ log ─▶ apply: "too large to check here" ─▶ RightsWalk, step by step
//!                                                                            │ all rights there
//!     nothing under way, nothing in the tree changed since ◀─ no: again ─────┤
//!       │ yes                                                                ▼ one is missing: refused
//!       └▶ the same delete, with `checked_inode`, first in the next entry ─▶ apply unlinks without looking
//! ```
//!
//! What is promised: on each directory of the tree the caller had the right when it was looked at, and from then until
//! the delete is applied nothing happened in the tree by which it could have lost one: no change of mode, owner, group
//! or ACL of a directory, no new directory, no new entry where there was none or in a sticky one. So the delete does
//! what one that looks at everything in one step would have done. Only this leader makes entries in its term, and
//! there is none between the look at that (`RightsWalk::still_true`) and the delete: if another member leads before it
//! is in the log, it is never applied. Every member applies the same, because the word of the leader is in the command.
//!
//! If something changed, the walk comes again over what changed. When that is little it is done on the spot, while
//! nothing goes into the log: so a tree in which directories are made all the time can be deleted. One in which much
//! changes again and again is given up after [`TRIES`], with an error that says to try again.
//!
//! A caller that asks again with the same call gets the walk that is under way. One that is gone gets some time to do so.

use std::collections::VecDeque;
use std::time::Duration;

use base::clock::Moment;
use bytes::Bytes;
use proto::error::{ErrorCode, FsError};
use proto::ids::InodeId;
use proto::log::command::Op;
use proto::log::{CallerRecord, Command, Delete, Entry};

use super::batch::{Then, Waiting};
use super::intake::overloaded;
use super::trash::OldTree;
use super::{Effect, NamenodeCore};
use crate::namespace::Applied;
use crate::namespace::walk::{NAMES_AT_ONCE, Need, RightsWalk};
use crate::service::request::Ticket;
use crate::service::walk::Walk;

/// Reads and checks that may be under way.
const MAX_LONG: usize = 1024;
/// Times that a tree is looked through, if something changes in it meanwhile.
const TRIES: u32 = 4;
/// Steps of a walk that comes again which are made on the spot; everything that changes something waits for them.
const STEPS_ON_THE_SPOT: usize = if cfg!(test) { 2 } else { 48 };
/// A caller that is gone may ask again within this time, and finds its walk where it was.
const GONE: Duration = Duration::from_secs(60);

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct LongWork {
    /// The first one has the next turn.
    turns: VecDeque<Long>,
    /// Deletes whose callers have all rights, as of the last step.
    checked: Vec<Check>,
    /// Is a step asked for?
    asked: bool,
}

#[derive(Debug)]
enum Long {
    Read(Ticket, Box<Walk>),
    Check(Box<Check>),
}

/// A delete that waits for its caller's rights.
#[derive(Debug)]
struct Check {
    record: CallerRecord,
    call: (Bytes, u64, u64),
    delete: Delete,
    then: Then,
    walk: RightsWalk,
    tries: u32,
    /// Since when nobody waits for it.
    gone: Option<Moment>,
    /// Was the call looked up in its session?
    looked_up: bool,
}

impl LongWork {
    /// True if a step is to be asked for: there is something to do, and none is asked for yet.
    pub(super) fn wants_a_step(&mut self) -> bool {
        let wants = !self.turns.is_empty() && !self.asked;
        self.asked |= wants;
        wants
    }
    pub(super) fn is_full(&self) -> bool {
        self.turns.len() + self.checked.len() >= MAX_LONG
    }
    /// Is there a delete that can go into the next entry?
    pub(super) const fn has_checked(&self) -> bool {
        !self.checked.is_empty()
    }
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.checked.is_empty()
    }
    /// The walk of the same call, if it is under way.
    fn same(&mut self, call: &(Bytes, u64, u64), delete: &Delete) -> Option<&mut Check> {
        let turns = self.turns.iter_mut().filter_map(|long| match long {
            Long::Check(check) => Some(&mut **check),
            Long::Read(..) => None,
        });
        let is_same =
            |check: &&mut Check| (&check.call.0, check.call.1) == (&call.0, call.1) && check.delete.path == delete.path;
        if call.0.is_empty() { None } else { turns.chain(&mut self.checked).find(is_same) }
    }
    pub(super) fn push_read(&mut self, ticket: Ticket, walk: Box<Walk>) {
        self.turns.push_back(Long::Read(ticket, walk));
    }
}

impl Check {
    /// A refusal after the call was looked up in its session is certain.
    fn refusal(&self, error: FsError) -> FsError {
        if self.looked_up { error.decided() } else { error }
    }
}

impl NamenodeCore {
    /// A command was refused because the tree of this inode is large: its caller's rights are looked at in steps.
    pub(super) fn begin_check(
        &mut self,
        then: Then,
        (entry, command): (&Entry, &Command),
        top: InodeId,
        applied: Applied,
        out: &mut Vec<Effect>,
    ) {
        let looked_up = applied.looked_up;
        let decided = |error: FsError| if looked_up { error.decided() } else { error };
        let delete = match &command.op {
            // The path leads to another tree than the one that was looked at.
            Some(Op::Delete(delete)) if delete.checked_inode == 0 => delete.clone(),
            _ => {
                let error = applied.result.err().unwrap_or_else(busy);
                return self.refuse(then, decided(error), out);
            }
        };
        let call = (command.session.clone(), command.call, command.lowest_unanswered);
        if let Some(check) = self.long.same(&call, &delete) {
            let before = std::mem::replace(&mut check.then, then);
            (check.gone, check.call) = (None, call);
            let text = "the same call came again: its answer goes there";
            return self.refuse(before, FsError::new(ErrorCode::Overloaded, text), out);
        }
        if self.long.is_full() {
            return self.refuse(then, decided(overloaded()), out);
        }
        let record = entry.callers.get(command.caller as usize).cloned().unwrap_or_default();
        let walk = RightsWalk::new(Need::ToDelete, top.raw());
        self.long.turns.push_back(Long::Check(Box::new(Check {
            record,
            call,
            delete,
            then,
            walk,
            tries: 1,
            gone: None,
            looked_up,
        })));
    }

    /// Deletes a tree for the cluster itself, with the rights of somebody: that one and no other, if it is still where it
    /// was found. The delete names the inode, which stands for rights that were looked at as well: so they are, however
    /// small the tree is.
    pub(super) fn delete_tree(&mut self, record: CallerRecord, tree: OldTree, then: Then) {
        let delete = Delete { path: tree.path, recursive: true, checked_inode: 0 };
        let walk = RightsWalk::new(Need::ToDelete, tree.inode.raw());
        let call = (Bytes::new(), 0, 0);
        let check = Check { record, call, delete, then, walk, tries: 1, gone: None, looked_up: false };
        self.long.turns.push_back(Long::Check(Box::new(check)));
    }

    /// Makes the step whose turn it is.
    pub(super) fn go_on(&mut self, wall_ns: i64, out: &mut Vec<Effect>) {
        self.long.asked = false;
        match self.long.turns.pop_front() {
            Some(Long::Read(ticket, mut walk)) => {
                let response = match self.shared.walk((wall_ns, self.life_ms()), &mut walk) {
                    Ok(false) => return self.long.turns.push_back(Long::Read(ticket, walk)),
                    Ok(true) => Ok(walk.answer()),
                    Err(error) => Err(error),
                };
                out.push(Effect::Reply { ticket, response });
            }
            Some(Long::Check(check)) if check.gone.is_some_and(|at| self.upkeep.ticked.since(at) >= GONE) => {
                self.refuse(check.then, nobody_waits(), out);
            }
            Some(Long::Check(mut check)) => match self.look_on(&mut check) {
                Ok(false) => self.long.turns.push_back(Long::Check(check)),
                Ok(true) => self.long.checked.push(*check),
                Err(error) => {
                    let refusal = check.refusal(error);
                    self.refuse(check.then, refusal, out);
                }
            },
            None => {}
        }
    }

    fn look_on(&self, check: &mut Check) -> Result<bool, FsError> {
        let namespace = self.shared.namespace.read();
        let who = namespace.who(&check.record)?;
        let mut left = NAMES_AT_ONCE;
        check.walk.step(&namespace, &who, &mut left)
    }

    /// No entry is under way: what was found holds, or is looked at again. What holds goes before everything that waits.
    pub(super) fn put_checked_first(&mut self, out: &mut Vec<Effect>) {
        let mut steps_left = STEPS_ON_THE_SPOT;
        for mut check in std::mem::take(&mut self.long.checked) {
            match self.holds_now(&mut check, &mut steps_left) {
                Ok(true) => {
                    check.delete.checked_inode = check.walk.top();
                    let Check { record, call, delete, then, .. } = check;
                    self.waiting.push_front(Waiting { record, call, op: Op::Delete(delete), then });
                }
                Ok(false) if check.tries < TRIES => {
                    check.tries += 1;
                    self.long.turns.push_back(Long::Check(Box::new(check)));
                }
                Ok(false) => {
                    let refusal = check.refusal(busy().with_path(&check.delete.path));
                    self.refuse(check.then, refusal, out);
                }
                Err(error) => {
                    let refusal = check.refusal(error);
                    self.refuse(check.then, refusal, out);
                }
            }
        }
    }

    /// Does the caller have every right in the tree at this moment? What changed since the walk is looked at again on the
    /// spot, if it is little: only this thread changes anything, so it holds in between. Readers have their turn.
    fn holds_now(&self, check: &mut Check, steps_left: &mut usize) -> Result<bool, FsError> {
        {
            let namespace = self.shared.namespace.read();
            // If the tree is gone, `apply` says so, and leaves what is in its place alone.
            if check.walk.still_true(&namespace) || check.walk.is_moot(&namespace) {
                return Ok(true);
            }
        }
        check.walk = check.walk.again();
        while *steps_left > 0 {
            *steps_left -= 1;
            if self.look_on(check)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Nobody waits for this answer any more. A read ends; a check goes on for a while if its caller may come again.
    pub(super) fn gone(&mut self, ticket: Ticket, now: Moment, out: &mut Vec<Effect>) {
        let is_its = |then: &Then| matches!(then, Then::Answer { ticket: of, .. } if *of == ticket);
        for check in self.long.turns.iter_mut().filter_map(|long| match long {
            Long::Check(check) => Some(check),
            Long::Read(..) => None,
        }) {
            if is_its(&check.then) {
                // Without a session nobody can come again.
                let since = if check.call.0.is_empty() { Moment::START } else { now };
                check.gone.get_or_insert(since);
            }
        }
        if let Some(at) = self.long.turns.iter().position(|long| matches!(long, Long::Read(of, _) if *of == ticket)) {
            self.long.turns.remove(at);
            out.push(Effect::Reply { ticket, response: Err(nobody_waits()) });
        }
    }
    /// Is there work that may be for nobody?
    #[must_use]
    pub fn has_long_work(&self) -> bool {
        !self.long.is_empty()
    }

    /// This member leads no more. Nothing of what is under way was done.
    pub(super) fn abandon_long(&mut self, refusal: &FsError, out: &mut Vec<Effect>) {
        let LongWork { turns, checked, asked } = std::mem::take(&mut self.long);
        self.long.asked = asked;
        for long in turns {
            match long {
                Long::Read(ticket, _) => out.push(Effect::Reply { ticket, response: Err(refusal.clone()) }),
                Long::Check(check) => self.refuse(check.then, refusal.clone(), out),
            }
        }
        for check in checked {
            self.refuse(check.then, refusal.clone(), out);
        }
    }
}

fn nobody_waits() -> FsError {
    FsError::new(ErrorCode::Timeout, "nobody waited for the answer any more")
}

fn busy() -> FsError {
    let text = "rights in the tree changed again and again while they were checked";
    FsError::new(ErrorCode::Overloaded, text).with_hint("try again in a moment, or delete its directories one by one")
}
