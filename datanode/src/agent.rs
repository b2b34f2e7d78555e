//! The node's side of its talk with the namenodes: registration, heartbeats, reports, commands. Sans-I/O.
//!
//! ```text
//!   Tick, answers, finished commands ──▶ Agent ──▶ register, heartbeat, report, keep the term, delete, copy
//! ```
//!
//! Every namenode of the list gets every report, so that a new leader knows the blocks already. One call of a
//! kind is under way per namenode; an answer that does not come counts as lost after [`CALL_LIFE`].
//!
//! The deletion rule at this end: a command counts only if it came in the answer to a heartbeat, from a
//! leader, in a term not below the highest that this node knows; the term is durable before the command is
//! carried out; and ten seconds after the heartbeat was *sent* it is void.

mod link;
mod reports;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use proto::cluster::{
    CommandResult, CopyReplica, DeleteReplicas, FinishReplica, HeartbeatRequest, HeartbeatResponse,
    IncrementalReportRequest, IncrementalReportResponse, NodeCommand, PrepareRecovery, RegisterRequest,
    RegisterResponse, ReportBucketsRequest, ReportBucketsResponse, ReportHashesRequest, ReportHashesResponse,
    VerifyReplicas, node_command,
};
use proto::error::FsResult;
use proto::ids::{GenerationStamp, Term};

use auth::{NodeKey, NodeKeys};

use crate::node::Node;
use link::Link;

/// A command is void this long after the heartbeat that fetched it was sent.
pub const COMMAND_LIFE: Duration = Duration::from_secs(10);
/// A call without an answer counts as lost after this time.
pub const CALL_LIFE: Duration = Duration::from_secs(10);
/// Pause after a failed call.
const RETRY: Duration = Duration::from_millis(500);
/// Commands that wait for their term to become durable; more are dropped, and sent again by the leader.
const MAX_HELD: usize = 1024;

/// What the agent says of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Namenodes, by number.
    pub namenodes: usize,
    /// Host at which clients reach the node.
    pub host: String,
    /// Port of its transfer server.
    pub transfer_port: u16,
    /// `host:port` of its operations pages; empty if there are none.
    pub http_address: String,
    /// Rack, for placement.
    pub rack: String,
    /// What the machine calls itself; empty if it has no name.
    pub machine: String,
    /// Path of the local door; empty if there is none.
    pub local_socket: String,
    /// Time between heartbeats until a namenode says otherwise.
    pub heartbeat: Duration,
    /// A full report is sent this long after the one before it.
    pub full_report: Duration,
    /// Copies for others that the node makes at a time.
    pub copy_streams: u32,
    /// Bytes a second that it sends for those that are not urgent; 0: as fast as it can.
    pub copy_rate_bytes_per_s: u64,
}

/// Number of a call, so that a late answer is not taken for another one's.
pub type CallNumber = u64;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentEvent {
    /// Time passed, or replicas changed.
    Tick,
    /// A namenode answered.
    Answer {
        /// Which namenode.
        namenode: usize,
        /// Which call.
        call: CallNumber,
        /// What it said.
        answer: FsResult<Answer>,
    },
    /// A term is durable on this node, or could not be made so.
    TermKept {
        /// The term.
        term: Term,
        /// Is it durable?
        kept: bool,
    },
    /// A command was carried out or refused.
    CommandDone {
        /// The namenode that sent it.
        namenode: usize,
        /// Outcome.
        result: CommandResult,
    },
}

/// An answer of a namenode.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Call::Register`].
    Register(RegisterResponse),
    /// To [`Call::Heartbeat`].
    Heartbeat(HeartbeatResponse),
    /// To [`Call::Incremental`].
    Incremental(IncrementalReportResponse),
    /// To [`Call::Hashes`].
    Hashes(ReportHashesResponse),
    /// To [`Call::Buckets`].
    Buckets(ReportBucketsResponse),
}

/// A call to a namenode.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Who this node is.
    Register(RegisterRequest),
    /// It lives, and has this much room.
    Heartbeat(HeartbeatRequest),
    /// What changed.
    Incremental(IncrementalReportRequest),
    /// A full report begins.
    Hashes(ReportHashesRequest),
    /// The buckets that differ.
    Buckets(ReportBucketsRequest),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentEffect {
    /// Call a namenode, and bring its answer back.
    Call {
        /// Which namenode.
        namenode: usize,
        /// Number of the call.
        call: CallNumber,
        /// What to ask.
        request: Box<Call>,
    },
    /// Make a term durable (`Store::raise_term`), and say so.
    KeepTerm(Term),
    /// Carry a command out, unless it is void by then (see [`crate::commands`]), and say so.
    Carry {
        /// The namenode that sent it.
        namenode: usize,
        /// The command.
        command: Command,
    },
}

/// A command that was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Its number.
    pub number: u64,
    /// Term of the leader that gave it.
    pub term: Term,
    /// It is void from this moment on.
    pub void_at: Moment,
    /// What to do.
    pub task: Task,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Delete replicas.
    Delete(DeleteReplicas),
    /// Copy a replica to other nodes.
    Copy(CopyReplica),
    /// Read replicas whole.
    Verify(VerifyReplicas),
    /// Stop a replica's writer and say what is there.
    Prepare(PrepareRecovery),
    /// Give a replica that was prepared its length and stamp, and finalise it.
    Finish(FinishReplica),
}

/// The agent of one node.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    links: Vec<Link>,
    /// Commands by the term that has to be durable first.
    held: BTreeMap<Term, Vec<(usize, Command)>>,
    durable_term: Term,
    /// The term that is being made durable.
    keeping: Option<Term>,
    next_call: CallNumber,
    active_transfers: u32,
}

impl Agent {
    /// An agent that knows the node's durable term.
    #[must_use]
    pub fn new(config: AgentConfig, node: &Node) -> Self {
        let links = (0..config.namenodes).map(|_| Link::default()).collect();
        let durable_term = node.store().highest_term();
        node.saw_term(durable_term);
        Self { config, links, held: BTreeMap::new(), durable_term, keeping: None, next_call: 1, active_transfers: 0 }
    }
    /// Connections that carry data now, for the next heartbeats.
    pub const fn set_active_transfers(&mut self, count: u32) {
        self.active_transfers = count;
    }
    /// Has any namenode taken this node's registration and its full report?
    #[must_use]
    pub fn ready(&self) -> bool {
        self.links.iter().any(Link::reported)
    }
    /// Is the node registered anywhere?
    #[must_use]
    pub fn registered(&self) -> bool {
        self.links.iter().any(|link| link.registered)
    }

    /// Takes an event in; what is to be done is appended to `out`.
    pub fn handle(&mut self, node: &Node, event: AgentEvent, now: Moment, out: &mut Vec<AgentEffect>) {
        match event {
            AgentEvent::Tick => {}
            AgentEvent::Answer { namenode, call, answer } => self.answered(node, (namenode, call), answer, now, out),
            AgentEvent::TermKept { term, kept } => self.term_kept(term, kept, out),
            AgentEvent::CommandDone { namenode, result } => {
                if let Some(link) = self.links.get_mut(namenode) {
                    link.command_done(result);
                }
            }
        }
        self.pump(node, now, out);
    }

    fn pump(&mut self, node: &Node, now: Moment, out: &mut Vec<AgentEffect>) {
        // This is the timer that waits for no disk (SC-53): what hangs is in the next heartbeat.
        node.store().watch(now);
        for (namenode, link) in self.links.iter_mut().enumerate() {
            let mut calls = Vec::new();
            link.pump(node, &self.config, self.active_transfers, self.durable_term, (self.next_call, now), &mut calls);
            for (call, request) in calls {
                self.next_call = self.next_call.max(call + 1);
                out.push(AgentEffect::Call { namenode, call, request: Box::new(request) });
            }
        }
        // A change that every namenode has heard is not kept any longer.
        for report in node.store().reports() {
            let heard = self.links.iter().map(|link| link.heard(&report.storage)).min().unwrap_or(0);
            if let Ok(storage) = proto::ids::StorageId::parse(&report.storage) {
                node.store().forget_changes(&storage, heard);
            }
        }
    }

    fn answered(
        &mut self,
        node: &Node,
        (namenode, call): (usize, CallNumber),
        answer: FsResult<Answer>,
        now: Moment,
        out: &mut Vec<AgentEffect>,
    ) {
        let Some(link) = self.links.get_mut(namenode) else { return };
        let Some(sent_at) = link.take_call(call) else { return };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                link.call_failed(&error, now);
                return;
            }
        };
        match answer {
            Answer::Register(answer) => {
                if take_registration(node, &answer, !link.was_registered) {
                    link.took_registration(node, &answer, &self.config, now);
                } else {
                    link.retry_at(now.plus(RETRY * 10));
                }
            }
            Answer::Heartbeat(mut answer) => {
                let commands = std::mem::take(&mut answer.commands);
                link.took_heartbeat(node, &answer, now);
                if answer.leader {
                    let term = Term::from_raw(answer.term);
                    self.take_commands(node, namenode, (term, sent_at.plus(COMMAND_LIFE)), commands, out);
                }
            }
            Answer::Incremental(answer) => link.took_incremental(&answer, now),
            Answer::Hashes(answer) => link.took_hashes(&answer, now, self.config.full_report),
            Answer::Buckets(answer) => link.took_buckets(&answer, now, self.config.full_report),
        }
    }

    fn take_commands(
        &mut self,
        node: &Node,
        namenode: usize,
        (term, void_at): (Term, Moment),
        commands: Vec<NodeCommand>,
        out: &mut Vec<AgentEffect>,
    ) {
        if term < node.highest_term() && !base::mutated!(Sc70DeposedLeaderIsObeyed) {
            tracing::warn!(%term, highest = %node.highest_term(), "commands of a deposed leader are refused");
            for command in commands {
                let error = format!("{term} is below this node's {}", node.highest_term());
                if let Some(link) = self.links.get_mut(namenode) {
                    link.command_done(CommandResult { number: command.number, ok: false, error, replica: None });
                }
            }
            return;
        }
        node.saw_term(term);
        if term > self.durable_term && self.keeping != Some(term) {
            self.keeping = Some(term);
            out.push(AgentEffect::KeepTerm(term));
        }
        for command in commands {
            let Some(task) = command.kind.map(task_of) else { continue };
            let accepted = self.links.get_mut(namenode).is_some_and(|link| link.accept(command.number));
            if !accepted {
                continue;
            }
            let command = Command { number: command.number, term, void_at, task };
            if term <= self.durable_term {
                out.push(AgentEffect::Carry { namenode, command });
                continue;
            }
            let held = self.held.entry(term).or_default();
            if held.len() < MAX_HELD {
                held.push((namenode, command));
            } else if let Some(link) = self.links.get_mut(namenode) {
                link.command_done(crate::commands::result(&command, Err("too many commands wait".to_owned())));
            }
        }
    }

    fn term_kept(&mut self, term: Term, kept: bool, out: &mut Vec<AgentEffect>) {
        if self.keeping == Some(term) {
            self.keeping = None;
        }
        if !kept {
            // Tried again with the next heartbeat; until then nothing is carried out.
            tracing::error!(%term, "the highest term cannot be made durable: commands are not carried out");
            for (namenode, command) in std::mem::take(&mut self.held).into_values().flatten() {
                if let Some(link) = self.links.get_mut(namenode) {
                    let refused = Err(format!("{term} cannot be made durable on this node"));
                    link.command_done(crate::commands::result(&command, refused));
                }
            }
            return;
        }
        self.durable_term = self.durable_term.max(term);
        let later = self.held.split_off(&self.durable_term.next());
        let due = std::mem::replace(&mut self.held, later);
        let due = due.into_values().flatten();
        out.extend(due.map(|(namenode, command)| AgentEffect::Carry { namenode, command }));
    }
}

fn task_of(kind: node_command::Kind) -> Task {
    match kind {
        node_command::Kind::Delete(delete) => Task::Delete(delete),
        node_command::Kind::Copy(copy) => Task::Copy(copy),
        node_command::Kind::Verify(verify) => Task::Verify(verify),
        node_command::Kind::PrepareRecovery(prepare) => Task::Prepare(prepare),
        node_command::Kind::FinishReplica(finish) => Task::Finish(finish),
    }
}

/// Takes cluster and keys from a registration. False: it is not for this node. `first`: of this namenode since the node
/// started; whatever fences it had before are forgotten, and writers have to be told by it.
fn take_registration(node: &Node, answer: &RegisterResponse, first: bool) -> bool {
    let ids = proto::ids::ClusterId::parse(&answer.cluster)
        .and_then(|cluster| proto::ids::PoolId::parse(&answer.pool).map(|pool| (cluster, pool)));
    let (cluster, pool) = match ids {
        Ok(ids) => ids,
        Err(error) => {
            tracing::error!(%error, "a namenode answered a registration with malformed ids");
            return false;
        }
    };
    if let Err(error) = node.store().join(&cluster, &pool) {
        tracing::error!(error = %crate::receive::chain(&error), "this node cannot join the namenode's cluster");
        return false;
    }
    if first {
        node.store().forgot_fences_below(GenerationStamp::from_raw(answer.next_stamp));
    }
    let key = |number: u32, bytes: &[u8]| NodeKey::from_slice(bytes).map(|key| (number, key));
    let keys = [key(answer.key_number, &answer.node_key), key(answer.previous_key_number, &answer.previous_node_key)];
    node.set_keys(NodeKeys::new(keys.into_iter().flatten().collect()));
    true
}
