//! Requests: read at once, put to the log, parked until reports come, or refused.

use std::collections::BTreeMap;

use auth::Caller;
use base::clock::Moment;
use proto::error::{ErrorCode, FsError};
use proto::ids::LogIndex;
use proto::log::CallerRecord;
use proto::namespace as n;

use super::batch::{Then, Waiting};
use super::{Effect, NamenodeCore};
use crate::service::admit::{admit, session};
use crate::service::jobs;
use crate::service::read::{Read, not_formatted};
use crate::service::request::{Request, Response, Ticket};
use crate::service::write::Prepared;

/// A change that waits, holding nothing, for reports that prove its block.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) ticket: Ticket,
    caller: Caller,
    request: Request,
    deadline: Moment,
}

type Asked = (Ticket, Caller, Request);

/// Reads of a group: one round of read-index for all that wait.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: Vec<Asked>,
    rounds: BTreeMap<u64, Round>,
    next: u64,
}

#[derive(Debug)]
struct Round {
    reads: Vec<Asked>,
    asked: Moment,
    index: Option<LogIndex>,
}

impl Reads {
    pub(super) fn confirmed(&mut self, context: u64, index: LogIndex) {
        if let Some(round) = self.rounds.get_mut(&context) {
            round.index = Some(index);
        }
    }
    pub(super) fn take_all(&mut self) -> Vec<Asked> {
        let mut all = std::mem::take(&mut self.waiting);
        all.extend(std::mem::take(&mut self.rounds).into_values().flat_map(|round| round.reads));
        all
    }
    fn take_answerable(&mut self, applied: LogIndex) -> Vec<Round> {
        let ready = |round: &Round| round.index.is_some_and(|index| index <= applied);
        self.rounds.extract_if(.., |_, round| ready(round)).map(|(_, round)| round).collect()
    }
}

impl NamenodeCore {
    pub(super) fn not_leader(&self) -> FsError {
        let text = match self.role.leader_id {
            Some(leader) if leader != self.identity.member => format!("this namenode does not lead; {leader} does"),
            _ => "this namenode does not lead (yet)".to_owned(),
        };
        FsError::new(ErrorCode::NotLeader, text).with_hint("try again in a moment, or ask another namenode")
    }

    /// Takes a request in.
    pub(super) fn intake(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        request: Request,
        (now, wall_ns): (Moment, i64),
        out: &mut Vec<Effect>,
    ) {
        let refused = match admit(&request) {
            Err(error) => Some(error),
            Ok(()) if request.header().is_none() => {
                return self.node_request(ticket, caller, request, (now, wall_ns), out);
            }
            Ok(()) => self.not_now(),
        };
        if let Some(error) = refused {
            out.push(Effect::Reply { ticket, response: Err(error) });
            return;
        }
        if let Some(session) = session(request.header()) {
            self.shared.leases.write().touch(session, now);
        }
        match &request {
            Request::RenewLease(_) => {
                let lease_ms = self.shared.namespace.read().settings().lease_hard_limit_ms;
                let response = Ok(Response::RenewLease(n::RenewLeaseResponse { lease_ms }));
                out.push(Effect::Reply { ticket, response });
            }
            Request::ReportBadReplica(report) => {
                self.bad_replica(report, now);
                let response = Ok(Response::ReportBadReplica(n::ReportBadReplicaResponse {}));
                out.push(Effect::Reply { ticket, response });
            }
            Request::Balance(_) => {
                let response = self.balance(&caller, &request, now);
                out.push(Effect::Reply { ticket, response });
            }
            Request::CancelJob(cancel) if jobs::is_balance(&cancel.job) => {
                let response = self.balance(&caller, &request, now);
                out.push(Effect::Reply { ticket, response });
            }
            _ => self.read_or_change(ticket, caller, request, (now, wall_ns), out),
        }
    }

    /// Why no client can be served now.
    fn not_now(&self) -> Option<FsError> {
        if !self.role.serving {
            return Some(self.not_leader());
        }
        self.shared.namespace.read().identity().is_none().then(not_formatted)
    }

    pub(super) fn life_ms(&self) -> i64 {
        i64::try_from(self.config.token_life.as_millis()).unwrap_or(i64::MAX)
    }

    fn read_or_change(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        request: Request,
        (now, wall_ns): (Moment, i64),
        out: &mut Vec<Effect>,
    ) {
        if is_read(&request) {
            if self.alone() {
                self.read_now(ticket, &caller, &request, (now, wall_ns), out);
            } else if self.reads.waiting.len() >= self.config.max_waiting {
                out.push(Effect::Reply { ticket, response: Err(overloaded()) });
            } else {
                self.reads.waiting.push((ticket, caller, request));
            }
            return;
        }
        if let Err(error) = self.change(ticket, &caller, &request, wall_ns) {
            match error {
                Postponed::Refused(error) => out.push(Effect::Reply { ticket, response: Err(error) }),
                Postponed::NotYet(_) if self.parked.len() >= self.config.max_waiting => {
                    out.push(Effect::Reply { ticket, response: Err(overloaded()) });
                }
                Postponed::NotYet(_) => {
                    let deadline = now.plus(self.config.report_wait);
                    self.parked.push(Parked { ticket, caller, request, deadline });
                }
            }
        }
    }

    /// Answers a read, or begins with it.
    fn read_now(
        &mut self,
        ticket: Ticket,
        caller: &Caller,
        request: &Request,
        (now, wall_ns): (Moment, i64),
        out: &mut Vec<Effect>,
    ) {
        let read = self.shared.read((wall_ns, self.life_ms()), caller, request, now);
        let response = match read {
            Some(Read::Answered(response)) => response,
            Some(Read::Walking(_)) if self.long.is_full() => Err(overloaded()),
            Some(Read::Walking(walk)) => return self.long.push_read(ticket, walk),
            None => Err(FsError::new(ErrorCode::Unsupported, "this call is not offered")),
        };
        out.push(Effect::Reply { ticket, response });
    }

    fn change(&mut self, ticket: Ticket, caller: &Caller, request: &Request, wall_ns: i64) -> Result<(), Postponed> {
        if self.waiting.len() >= self.config.max_waiting {
            return Err(Postponed::Refused(overloaded()));
        }
        let random = &*self.random;
        let (record, prepared) = self.shared.with((wall_ns, self.life_ms()), |view| {
            let (safe_mode, record) = (view.blocks.safe_mode().map(safe_mode), view.record(caller));
            let refusal = safe_mode.map_or_else(|| view.allow(&record, request), Err);
            let prepared = refusal.and_then(|()| {
                let not_offered = || Err(FsError::new(ErrorCode::Unsupported, "this call is not offered"));
                view.prepare(request, random).unwrap_or_else(not_offered)
            });
            (record, prepared)
        });
        match prepared {
            Err(error) => Err(Postponed::Refused(error)),
            Ok(Prepared::NotYet(error)) => Err(Postponed::NotYet(error)),
            // An entry that the log cannot take would be refused with everything else in it.
            Ok(Prepared::Propose(op)) if op.encoded_len() > self.config.max_batch_bytes / COMMAND_PART => {
                let text = format!("{} of {} bytes is too long", request.command(), op.encoded_len());
                Err(Postponed::Refused(FsError::new(ErrorCode::InvalidArgument, text)))
            }
            Ok(Prepared::Propose(op)) => {
                self.wait_for_log(ticket, record, request, op);
                Ok(())
            }
        }
    }

    fn wait_for_log(&mut self, ticket: Ticket, record: CallerRecord, request: &Request, op: proto::log::command::Op) {
        let call = request.header().map_or_else(
            || (bytes::Bytes::new(), 0, 0),
            |header| (header.session.clone(), header.call, header.lowest_unanswered),
        );
        let then = Then::Answer { ticket, user: record.user.clone(), request: Box::new(request.clone()) };
        self.waiting.push_back(Waiting { record, call, op, then });
    }

    /// Looks at parked changes again: reports came in, or time passed.
    pub(super) fn retry_parked(&mut self, (now, wall_ns): (Moment, i64), out: &mut Vec<Effect>) {
        for parked in std::mem::take(&mut self.parked) {
            match self.change(parked.ticket, &parked.caller, &parked.request, wall_ns) {
                Ok(()) => {}
                Err(Postponed::NotYet(_)) if now < parked.deadline => self.parked.push(parked),
                Err(Postponed::NotYet(error) | Postponed::Refused(error)) => {
                    out.push(Effect::Reply { ticket: parked.ticket, response: Err(error) });
                }
            }
        }
    }

    fn bad_replica(&mut self, report: &n::ReportBadReplicaRequest, now: Moment) {
        let Some(block) = &report.block else { return };
        let namespace = self.shared.namespace.read();
        let mut blocks = self.shared.blocks.write();
        let storages = blocks.storages_named(&report.storages);
        let id = proto::ids::BlockId::from_raw(block.id);
        let current = namespace.block(id).is_some_and(|known| known.stamp.raw() == block.stamp);
        if current && storages.len() <= report.storages.len() {
            tracing::warn!(block = %id, storages = ?report.storages, "a reader found replicas damaged");
            blocks.mark_corrupt(id, &storages, &*namespace, now);
        }
    }

    /// Starts a round of read-index for all reads that wait, and answers those that may be.
    pub(super) fn answer_reads(&mut self, (now, wall_ns): (Moment, i64), out: &mut Vec<Effect>) {
        for round in self.reads.take_answerable(self.applied) {
            self.shared.blocks.write().quorum_confirmed(round.asked);
            for (ticket, caller, request) in round.reads {
                self.read_now(ticket, &caller, &request, (now, wall_ns), out);
            }
        }
        if !self.reads.waiting.is_empty() && self.reads.rounds.is_empty() {
            self.ask_quorum(now, out);
        }
    }

    /// Asks the quorum whether this member still leads, for all reads that wait (perhaps none).
    pub(super) fn ask_quorum(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.reads.next += 1;
        let reads = std::mem::take(&mut self.reads.waiting);
        match self.consensus.read_index(self.reads.next) {
            Ok(()) => {
                self.reads.rounds.insert(self.reads.next, Round { reads, asked: now, index: None });
            }
            Err(error) => {
                let refusal = FsError::new(ErrorCode::NotLeader, error.to_string());
                let refused = |(ticket, ..): Asked| Effect::Reply { ticket, response: Err(refusal.clone()) };
                out.extend(reads.into_iter().map(refused));
            }
        }
    }
    /// Is a question to the quorum under way?
    pub(super) fn asking(&self) -> bool {
        !self.reads.rounds.is_empty()
    }
}

/// A command may have this part of an entry.
const COMMAND_PART: usize = 4;

enum Postponed {
    Refused(FsError),
    NotYet(FsError),
}

const fn is_read(request: &Request) -> bool {
    matches!(
        request,
        Request::ServerInfo(_)
            | Request::Stat(_)
            | Request::List(_)
            | Request::Open(_)
            | Request::ClusterStatus(_)
            | Request::ListNodes(_)
            | Request::ListJobs(_)
            | Request::ContentSummary(_)
            | Request::GetXattrs(_)
            | Request::GetAcl(_)
            | Request::CheckAccess(_)
            | Request::ListSnapshots(_)
            | Request::DiffSnapshots(_)
            | Request::Fsck(_)
            | Request::ListLeases(_)
    )
}

pub(super) fn overloaded() -> FsError {
    FsError::new(ErrorCode::Overloaded, "too many calls are waiting").with_hint("try again in a moment")
}

pub(super) fn safe_mode(reason: &str) -> FsError {
    FsError::new(ErrorCode::SafeMode, format!("the namenode is in safe mode: {reason}"))
        .with_hint("it ends by itself when the datanodes have reported their blocks")
}
