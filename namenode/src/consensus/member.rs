//! The member: Raft driven by messages and ticks, answering with effects.
//!
//! ```text
//!   propose step tick ─▶ engine ─▶ ready() ─┬─ messages that may go now
//!                                           ├─ PersistBatch n ─▶ LogWriter ─▶ persisted(n) ─▶ messages that waited
//!                                           └─ committed entries (only what is durable here)
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use base::random::Randomness;
use bytes::Bytes;
use proto::ids::{LogIndex, MemberId, Term};
use proto::raft::{HardState, RaftMessage};
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{RawNode, SnapshotStatus, StateRole};

use super::tail::Tail;
use super::timeout::Timeout;
use super::{
    CommittedEntry, ConsensusConfig, Identity, ImageInfo, ImageMeta, ImageStore, PersistBatch, PersistDone,
    ProposeError, Proposed, ReadState, Ready, Role, Room, SendImage, StepError, wire,
};

/// Bytes that a record has beside its payload, at most.
pub(super) const RECORD_OVERHEAD_BYTES: u64 = 160;
/// An entry may have this part of a segment.
pub(super) const ENTRY_PART: u64 = 4;
/// This part of a segment is kept for the group's own records when space is short.
const OWN_PART: u64 = 16;

/// A member of the group. Not shared: one thread owns it.
pub struct Consensus {
    raw: RawNode<Tail>,
    identity: Identity,
    config: ConsensusConfig,
    images: ImageStore,
    timeout: Timeout,
    /// Readies that are not durable yet, in order.
    waiting: VecDeque<Waiting>,
    /// Messages that may go with the next ready.
    messages: Vec<RaftMessage>,
    send_images: Vec<SendImage>,
    /// Work for the writer that no Raft ready waits for.
    outbox: PersistBatch,
    role: Role,
    room: Room,
    free_bytes: u64,
    /// Ticks since the last record, while its batch is not sealed.
    unsealed_ticks: Option<u32>,
    /// Ticks since the writer last looked for room, while there is too little.
    short_ticks: u32,
    /// Not 0: entries up to here were lost on this disk; no vote until they are here again.
    no_vote_through: u64,
    /// An image whose place in the log is not durable yet: number of its ready, and its index. Until then the engine
    /// would look for entries that it replaced when it stands for election, and stop the process.
    installing: Option<(u64, u64)>,
    /// The oldest ready that waits for the disk, by number, and the ticks since it was first seen so.
    stalled: (u64, u32),
    /// The vote file is to be written though term and vote have not changed.
    rewrite_vote: bool,
}

/// A ready whose messages wait for the disk.
#[derive(Debug)]
struct Waiting {
    number: u64,
    needs_disk: bool,
    bytes: u64,
    messages: Vec<Message>,
}

/// What the member starts with.
pub(super) struct Start {
    pub(super) raw: RawNode<Tail>,
    pub(super) identity: Identity,
    pub(super) config: ConsensusConfig,
    pub(super) images: ImageStore,
    pub(super) random: Arc<dyn Randomness>,
    pub(super) room: Room,
    pub(super) free_bytes: u64,
    pub(super) no_vote_through: u64,
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus").field("member", &self.identity.member).field("role", &self.role).finish()
    }
}

impl Consensus {
    pub(super) fn start(start: Start) -> Self {
        let Start { mut raw, identity, config, images, random, room, free_bytes, no_vote_through } = start;
        let timeout = Timeout::new(random, config.election_ticks);
        let role = Role { term: Term::from_raw(raw.raft.term), leader: false, serving: false, leader_id: None };
        let alone = identity.initial_voters.len() == 1;
        if alone {
            // Nobody to wait for: an election timeout would only delay the start.
            report("campaign", raw.campaign());
        }
        let mut member = Self {
            raw,
            identity,
            config,
            images,
            timeout,
            waiting: VecDeque::new(),
            messages: Vec::new(),
            send_images: Vec::new(),
            outbox: PersistBatch::default(),
            role,
            room,
            free_bytes,
            unsealed_ticks: Some(0),
            short_ticks: 0,
            no_vote_through,
            installing: None,
            stalled: (0, 0),
            rewrite_vote: false,
        };
        member.timeout.pin(&mut member.raw);
        member.update_role();
        member
    }

    /// Who leads, as of the last call.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Room left for the log, as of the last [`PersistDone`].
    #[must_use]
    pub const fn room(&self) -> Room {
        self.room
    }

    /// Who this is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Highest index known to be committed.
    #[must_use]
    pub fn committed(&self) -> LogIndex {
        LogIndex::from_raw(self.raw.raft.raft_log.committed)
    }

    /// Appends a payload (not empty) to the log. `context` comes back with the committed entry.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing was appended then.
    pub fn propose(&mut self, context: u64, payload: Bytes) -> Result<Proposed, ProposeError> {
        if self.raw.raft.state != StateRole::Leader {
            return Err(self.not_leader());
        }
        self.check_room(&payload)?;
        let context = Bytes::copy_from_slice(&context.to_le_bytes());
        let entry = Entry { data: payload, context, ..Entry::default() };
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.raw.raft.id;
        message.set_entries(vec![entry].into());
        if let Err(error) = self.raw.step(message) {
            tracing::debug!(%error, "proposal dropped");
            return Err(ProposeError::Busy);
        }
        let index = LogIndex::from_raw(self.raw.raft.raft_log.last_index());
        Ok(Proposed { index, term: Term::from_raw(self.raw.raft.term) })
    }

    fn not_leader(&self) -> ProposeError {
        ProposeError::NotLeader { leader: self.role.leader_id.filter(|id| *id != self.identity.member) }
    }

    /// The log must be able to take everything that was accepted: a batch that finds no room stops the member.
    fn check_room(&self, payload: &Bytes) -> Result<(), ProposeError> {
        let limit = usize::try_from(self.config.segment_bytes / ENTRY_PART).unwrap_or(usize::MAX);
        if payload.len() > limit {
            return Err(ProposeError::TooLarge { bytes: payload.len(), limit });
        }
        let needed = payload.len() as u64 + RECORD_OVERHEAD_BYTES + self.config.segment_bytes / OWN_PART;
        match self.room {
            Room::Nothing => Err(ProposeError::NoSpace),
            Room::DeletesOnly if needed + self.pending_bytes() > self.free_bytes => Err(ProposeError::NoSpace),
            Room::Normal if needed + self.pending_bytes() > self.free_bytes => Err(ProposeError::Busy),
            Room::Normal | Room::DeletesOnly => Ok(()),
        }
    }

    /// Bytes that are on their way to the log.
    fn pending_bytes(&self) -> u64 {
        let unstable = &self.raw.raft.raft_log.unstable;
        let records = unstable.entries.len() as u64 * RECORD_OVERHEAD_BYTES;
        self.waiting.iter().map(|ready| ready.bytes).sum::<u64>() + unstable.entries_size as u64 + records
    }

    /// One tick of time passed.
    pub fn tick(&mut self) {
        if self.may_stand() || self.raw.raft.state == StateRole::Leader {
            self.timeout.before_tick(&self.raw);
            self.raw.tick();
            self.timeout.pin(&mut self.raw);
        }
        self.look_at_the_disk();
        self.update_role();
        if let Some(ticks) = &mut self.unsealed_ticks {
            *ticks += 1;
            if *ticks >= self.config.seal_ticks && self.waiting.is_empty() {
                self.unsealed_ticks = None;
                self.outbox.seal = true;
            }
        }
        self.look_for_room();
    }

    /// Has the log not answered for so long that nobody should wait for it?
    #[must_use]
    pub const fn is_stalled(&self) -> bool {
        self.stalled.1 >= self.config.stall_ticks
    }

    /// A leader whose log does not answer hands over to the follower that has the most: the group must not wait for one
    /// disk (SC-17). Alone, it stays what it is: there is nobody else.
    fn look_at_the_disk(&mut self) {
        let oldest = self.waiting.iter().find(|ready| ready.needs_disk).map_or(0, |ready| ready.number);
        let was_stalled = self.is_stalled();
        self.stalled = match oldest == self.stalled.0 && oldest != 0 {
            true => (oldest, self.stalled.1.saturating_add(1)),
            false => (oldest, 0),
        };
        if !self.is_stalled() {
            return;
        }
        if !was_stalled {
            tracing::error!(ticks = self.stalled.1, "the log's disk does not answer");
        }
        if self.identity.initial_voters.len() > 1 && self.raw.raft.state == StateRole::Leader {
            tracing::error!("this member leads, and its log does not answer: it hands over");
            self.hand_over();
        }
    }
    fn hand_over(&mut self) {
        let (own, term) = (self.raw.raft.id, self.raw.raft.term);
        let others = self.raw.raft.prs().iter().filter(|(id, _)| **id != own);
        if let Some((heir, _)) = others.max_by_key(|(_, progress)| progress.matched) {
            let mut message = Message::default();
            message.set_msg_type(MessageType::MsgTimeoutNow);
            (message.from, message.to, message.term) = (own, *heir, term);
            self.emit(vec![message]);
        }
        self.raw.raft.become_follower(term, raft::INVALID_ID);
        self.timeout.pin(&mut self.raw);
    }

    /// Nothing is accepted without room, so nothing is written and the writer would never see that room came back.
    fn look_for_room(&mut self) {
        self.short_ticks = if self.room == Room::Normal { 0 } else { self.short_ticks + 1 };
        if self.short_ticks >= self.config.seal_ticks {
            self.short_ticks = 0;
            self.outbox.look_for_room = true;
        }
    }

    /// May it stand for election? Not a member that lost entries, nor one that is taking an image in, nor one whose log
    /// does not answer.
    const fn may_stand(&self) -> bool {
        self.no_vote_through == 0 && self.installing.is_none() && !self.is_stalled()
    }

    /// Stands for election now.
    pub fn campaign(&mut self) {
        if self.may_stand() {
            report("campaign", self.raw.campaign());
            self.timeout.pin(&mut self.raw);
            self.update_role();
        }
    }

    /// Asks for a linearizable read; the answer comes as a [`ReadState`] with the same `context`, which must
    /// not be used twice. A read that is not answered before this member stops leading never will be.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] if this member cannot serve (yet).
    pub fn read_index(&mut self, context: u64) -> Result<(), ProposeError> {
        self.update_role();
        if !self.role.serving {
            return Err(self.not_leader());
        }
        self.raw.read_index(context.to_le_bytes().to_vec());
        Ok(())
    }

    /// What is to be done now; `None` if nothing. Call it until then after every other call.
    pub fn ready(&mut self) -> Option<Ready> {
        let mut persist = std::mem::take(&mut self.outbox);
        let mut out = Ready {
            messages: std::mem::take(&mut self.messages),
            send_images: Vec::new(),
            persist: None,
            install_image: None,
            committed: Vec::new(),
            read_states: Vec::new(),
            role: self.role,
        };
        let engine = self.raw.has_ready();
        if engine {
            self.engine_ready(&mut persist, &mut out);
        }
        out.send_images = std::mem::take(&mut self.send_images);
        if std::mem::take(&mut self.rewrite_vote) {
            persist.hard_state = Some(self.hard_state());
        }
        let work = persist.has_work();
        if persist.has_records() {
            self.unsealed_ticks = Some(0);
        }
        if work {
            out.persist = Some(persist);
        }
        self.update_role();
        out.role = self.role;
        (engine || work || !out.messages.is_empty() || !out.send_images.is_empty()).then_some(out)
    }

    /// Takes one ready of the engine apart.
    fn engine_ready(&mut self, persist: &mut PersistBatch, out: &mut Ready) {
        let mut ready = self.raw.ready();
        let number = ready.number();
        let snapshot = ready.snapshot().get_metadata();
        let (image_index, image_term) = (snapshot.index, snapshot.term);
        if image_index != 0 {
            self.raw.mut_store().restart(image_index, image_term);
            persist.restart = Some((image_index, image_term));
            self.installing = Some((number, image_index));
            out.install_image = Some(self.image_info(image_index, image_term));
        }
        let entries = ready.take_entries();
        self.raw.mut_store().append(&entries);
        let bytes: u64 = entries.iter().map(|e| e.data.len() as u64 + RECORD_OVERHEAD_BYTES).sum();
        persist.entries = entries.into_iter().map(wire::entry_to_wire).collect();
        if let Some(hard_state) = ready.hs().cloned() {
            self.raw.mut_store().set_hard_state(hard_state);
            if ready.must_sync() {
                persist.hard_state = Some(self.hard_state());
            }
        }
        let needs_disk = persist.has_work();
        persist.number = if needs_disk { number } else { 0 };
        let now = ready.take_messages();
        let later = ready.take_persisted_messages();
        out.committed = ready.take_committed_entries().into_iter().map(committed).collect();
        out.read_states = ready.take_read_states().into_iter().filter_map(read_state).collect();
        self.raw.advance_append_async(ready);
        if let Some(last) = out.committed.last() {
            self.raw.advance_apply_to(last.index.raw());
        }
        self.emit(now);
        self.waiting.push_back(Waiting { number, needs_disk, bytes, messages: later });
        self.release_waiting(0);
        out.messages.append(&mut self.messages);
        self.evict();
        self.regain_vote();
    }

    /// What the vote file will say: the commit index only as far as it is durable here.
    fn hard_state(&self) -> HardState {
        let raft = &self.raw.raft;
        HardState {
            term: raft.term,
            vote: raft.vote,
            commit: raft.raft_log.committed.min(raft.raft_log.persisted),
            no_vote_through: self.no_vote_through,
        }
    }

    fn image_info(&self, index: u64, term: u64) -> ImageInfo {
        let index = LogIndex::from_raw(index);
        self.images.info(index).unwrap_or(ImageInfo {
            meta: ImageMeta { index, term: Term::from_raw(term), state_hash: 0 },
            body_bytes: 0,
            log_needed_after: index,
        })
    }

    /// Lets go what waited for ready `through`, and what behind it needs no disk.
    fn release_waiting(&mut self, through: u64) {
        while let Some(first) = self.waiting.front() {
            if first.needs_disk && first.number > through {
                return;
            }
            if let Some(done) = self.waiting.pop_front() {
                self.raw.on_persist_ready(done.number);
                self.note_installed(done.number);
                self.emit(done.messages);
            }
        }
    }

    /// The engine is told that an image stands for everything up to its index; entries behind it may be long in coming.
    fn note_installed(&mut self, through: u64) {
        let Some((_, index)) = self.installing.take_if(|(number, _)| *number <= through) else { return };
        if self.raw.raft.raft_log.applied < index {
            self.raw.advance_apply_to(index);
        }
    }

    /// Puts engine messages into the next ready, images apart.
    fn emit(&mut self, messages: Vec<Message>) {
        for message in messages {
            let is_image = message.get_msg_type() == MessageType::MsgSnapshot;
            let to = MemberId::from_raw(message.to);
            let Some(message) = wire::to_wire(&self.identity.cluster, message) else { continue };
            if !is_image {
                self.messages.push(message);
                continue;
            }
            let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
            self.send_images.push(SendImage { to, index: LogIndex::from_raw(index), message });
        }
    }

    /// Drops entries from memory that nobody will ask for.
    fn evict(&mut self) {
        let applied = self.raw.raft.raft_log.applied;
        let alone = self.identity.initial_voters.len() == 1;
        let imaged = self.raw.store().image().map_or(0, |(index, _)| index);
        let (through, keep) = if alone { (applied, 0) } else { (applied.min(imaged), self.config.tail_bytes) };
        self.raw.mut_store().evict(through, keep);
    }

    /// A batch is durable. What waited for it comes out of the next `ready()`.
    pub fn persisted(&mut self, done: PersistDone) {
        self.room = done.room;
        self.free_bytes = done.free_bytes;
        self.release_waiting(done.number);
        for message in done.arrived {
            match wire::from_wire(message) {
                Ok(message) => report("image", self.raw.step(message)),
                Err(error) => tracing::warn!(%error, "an image arrived that cannot be used"),
            }
        }
        self.timeout.pin(&mut self.raw);
        self.update_role();
    }

    /// An image is durable: the log below the older image that is kept can go.
    pub fn image_written(&mut self, image: &ImageInfo) {
        let (index, term) = (image.meta.index.raw(), image.meta.term.raw());
        if self.raw.store().image().is_none_or(|(known, _)| known < index) {
            self.raw.mut_store().set_image(index, term);
        }
        self.outbox.release_through = Some(image.log_needed_after.raw());
        self.evict();
    }

    /// The parts of an image were handed to the network (or not): replication goes on.
    pub fn image_sent(&mut self, to: MemberId, delivered: bool) {
        let status = if delivered { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to.raw(), status);
        self.timeout.pin(&mut self.raw);
    }

    fn update_role(&mut self) {
        let raft = &self.raw.raft;
        let leader = raft.state == StateRole::Leader;
        self.role = Role {
            term: Term::from_raw(raft.term),
            leader,
            serving: leader && raft.apply_to_current_term(),
            leader_id: (raft.leader_id != 0).then(|| MemberId::from_raw(raft.leader_id)),
        };
    }
}

/// Messages of peers.
impl Consensus {
    /// Takes a message of a peer.
    ///
    /// # Errors
    /// [`StepError`]; the message changed nothing then.
    pub fn step(&mut self, message: RaftMessage) -> Result<(), StepError> {
        self.check_address(&message)?;
        if message.snapshot.is_some() {
            return self.step_image_part(message);
        }
        let mut message = wire::from_wire(message)?;
        match message.get_msg_type() {
            // A member that lost entries cannot tell who is up to date: it does not vote.
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote | MessageType::MsgTimeoutNow
                if self.no_vote_through != 0 =>
            {
                return Ok(());
            }
            MessageType::MsgTimeoutNow if self.installing.is_some() || self.is_stalled() => return Ok(()),
            MessageType::MsgHeartbeat => self.notice_loss(&mut message),
            MessageType::MsgAppend => self.check_append(&message)?,
            MessageType::MsgAppendResponse => self.notice_loss_of(&message),
            _ => {}
        }
        self.step_engine(message);
        Ok(())
    }

    fn step_engine(&mut self, message: Message) {
        report("step", self.raw.step(message));
        self.timeout.pin(&mut self.raw);
        self.update_role();
    }

    fn check_address(&self, message: &RaftMessage) -> Result<(), StepError> {
        if message.cluster != self.identity.cluster.as_str() {
            let found = message.cluster.chars().take(64).collect();
            return Err(StepError::WrongCluster { found, expected: self.identity.cluster.as_str().to_owned() });
        }
        let known = |raw: u64| self.identity.initial_voters.iter().any(|voter| voter.raw() == raw);
        if message.to != self.identity.member.raw() || message.from == message.to || !known(message.from) {
            return Err(StepError::WrongMember { from: message.from, to: message.to });
        }
        Ok(())
    }

    fn check_append(&self, message: &Message) -> Result<(), StepError> {
        let payload: u64 = message.entries.iter().map(|e| e.data.len() as u64 + RECORD_OVERHEAD_BYTES).sum();
        let own = self.config.segment_bytes / OWN_PART;
        if payload > 0 && payload + self.pending_bytes() + own > self.free_bytes {
            return Err(StepError::NoSpace);
        }
        Ok(())
    }

    /// Queues a part of an image for the writer, or answers that it is not needed.
    fn step_image_part(&mut self, message: RaftMessage) -> Result<(), StepError> {
        let Some(snapshot) = message.snapshot.as_ref().filter(|_| message.kind == wire::IMAGE) else {
            return Err(StepError::Malformed("an image in a message of another kind"));
        };
        let mut voters = snapshot.voters.clone();
        let mut expected: Vec<_> = self.identity.initial_voters.iter().map(|voter| voter.raw()).collect();
        voters.sort_unstable();
        expected.sort_unstable();
        if voters != expected || !snapshot.learners.is_empty() {
            return Err(StepError::Malformed("the image is of another group of voters"));
        }
        let end = snapshot.offset_bytes.checked_add(snapshot.data.len() as u64);
        if end.is_none_or(|end| end > snapshot.total_bytes) {
            return Err(StepError::Malformed("a part of an image beyond its end"));
        }
        if snapshot.index == 0 || message.term == 0 {
            return Err(StepError::Malformed("an image of nothing"));
        }
        let raft = &self.raw.raft;
        if message.term >= raft.term && snapshot.index > raft.raft_log.committed {
            self.outbox.image_parts.push(message);
        } else if end == Some(snapshot.total_bytes) {
            // Not needed (any more): the engine says so to the leader.
            self.step_engine(wire::from_wire(message)?);
        }
        Ok(())
    }
}

/// Losses: entries that were acknowledged once and are not here any more.
impl Consensus {
    /// The leader says that this member acknowledged more than its log holds. It must have lost it: from now
    /// on it does not vote, and it asks for what is missing.
    fn notice_loss(&mut self, message: &mut Message) {
        let last = self.raw.raft.raft_log.last_index();
        if message.commit <= last || message.term < self.raw.raft.term {
            return;
        }
        tracing::error!(commit = message.commit, last, "this member lost log entries; it fetches them from the leader");
        self.no_vote_through = self.no_vote_through.max(message.commit);
        self.rewrite_vote = true;
        let mut answer = Message::default();
        answer.set_msg_type(MessageType::MsgAppendResponse);
        answer.from = message.to;
        answer.to = message.from;
        answer.term = message.term;
        answer.reject = true;
        answer.index = message.commit;
        answer.reject_hint = last;
        answer.log_term = self.raw.raft.raft_log.term(last).unwrap_or(0);
        self.emit(vec![answer]);
        message.commit = last;
    }

    /// A follower says that its log is shorter than what it acknowledged: it is to be sent the rest again.
    fn notice_loss_of(&mut self, message: &Message) {
        let raft = &mut self.raw.raft;
        if !message.reject || raft.state != StateRole::Leader || message.term != raft.term {
            return;
        }
        if let Some(progress) = raft.mut_prs().get_mut(message.from)
            && message.reject_hint < progress.matched
        {
            progress.become_probe();
            progress.matched = 0;
            progress.next_idx = message.index.saturating_add(1);
        }
    }

    /// Everything that was lost is here again, and known to be committed: the member votes again.
    fn regain_vote(&mut self) {
        let log = &self.raw.raft.raft_log;
        if self.no_vote_through != 0 && log.committed.min(log.persisted) >= self.no_vote_through {
            tracing::info!(index = self.no_vote_through, "what this member had lost is back; it votes again");
            self.no_vote_through = 0;
            self.rewrite_vote = true;
        }
    }
}

/// The engine says no to what is out of date; nothing of that is an error here.
fn report(what: &'static str, result: raft::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(what, %error, "the Raft engine refused");
    }
}

fn committed(mut entry: Entry) -> CommittedEntry {
    CommittedEntry {
        index: LogIndex::from_raw(entry.index),
        term: Term::from_raw(entry.term),
        context: number(&entry.context).unwrap_or(0),
        payload: entry.take_data(),
    }
}

fn read_state(state: raft::ReadState) -> Option<ReadState> {
    Some(ReadState { context: number(&state.request_ctx)?, index: LogIndex::from_raw(state.index) })
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}
