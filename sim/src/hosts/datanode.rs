//! A datanode: the shipping store, agent, receiver and read session, behind simulated connections.

mod copy;
mod hang;
mod report;
mod scrub;
mod serve;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use base::crash::{CrashPoint, Side};
use base::disk::MemDisk;
use base::random::SeededRandom;
use datanode::Node;
use datanode::agent::{Agent, AgentConfig, AgentEffect, AgentEvent, Command, Task};
use datanode::commands;
use datanode::store::{Replica, ReplicaState, Store, StoreOptions, VolumeScrub, VolumeState};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, GenerationStamp, StorageId};
use transfer::Target;

use self::copy::Copying;
use self::hang::Hang;
use self::write::{Opening, Receiving};
use super::{Death, micros, millis, wall_ns};
use crate::coverage::Rare;
use crate::message::{Address, Message, Part, Timer};
use crate::network::StreamId;
use crate::planted::Planted;
use crate::scene::Scene;

/// Ports of datanodes begin here.
pub const FIRST_PORT: u16 = 9000;
/// Room of each volume while nobody fills it.
pub const ROOM_BYTES: u64 = 1 << 30;

/// A replica that a command removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// By which datanode.
    pub datanode: usize,
    /// Of which block.
    pub block: BlockId,
    /// Its stamp.
    pub stamp: GenerationStamp,
    /// Was it whole?
    pub whole: bool,
    /// Why, in the command's word.
    pub reason: String,
}

/// A replica that its node found damaged.
#[derive(Clone, Copy, Debug)]
struct Damage {
    stamp: GenerationStamp,
    found: Moment,
    /// A command removed it since. A command against another copy, given before the leader heard of the damage, may
    /// still be on its way.
    removed: bool,
}

/// A datanode.
#[derive(Debug)]
pub struct DatanodeHost {
    index: usize,
    namenodes: usize,
    volumes: usize,
    rack: String,
    /// Its disks.
    pub disk: MemDisk,
    random: Arc<SeededRandom>,
    life: u64,
    running: Option<Running>,
    /// Its machine lost power: nobody answers for it.
    pub dark: bool,
    /// Error of its wall clock.
    pub wall_error_ns: i64,
    /// Deletions that were carried out and not checked yet.
    pub deletions: Vec<Deletion>,
    /// Stamps of the namespace, for the planted bug that ignores them.
    pub stamps: BTreeMap<BlockId, GenerationStamp>,
    /// Replicas that it found damaged in this life and holds to be so, or that were removed as such.
    damage: BTreeMap<BlockId, Damage>,
    /// Were disk faults put on it since its start?
    pub faulty: bool,
    /// Faults of its disk that struck, at the last look.
    fired: u64,
    /// Has it scrubbers?
    pub scrubs: bool,
    /// Room of each of its disks.
    room_bytes: u64,
    planted: Option<Planted>,
}

#[derive(Debug)]
struct Running {
    node: Node,
    agent: Agent,
    opening: BTreeMap<StreamId, Opening>,
    receiving: BTreeMap<StreamId, Receiving>,
    /// Streams to the next nodes, with the streams from above that they belong to.
    downs: BTreeMap<StreamId, StreamId>,
    copies: BTreeMap<StreamId, Copying>,
    /// The scrubber of each volume.
    scrubs: Vec<VolumeScrub>,
    /// A volume that hangs.
    hang: Option<Hang>,
    ticks: u64,
}

/// Where a datanode listens.
#[must_use]
pub fn address_of(port: u16) -> Address {
    Address::Datanode(usize::from(port.saturating_sub(FIRST_PORT)))
}

impl DatanodeHost {
    /// A datanode with empty disks. It does not run yet.
    #[must_use]
    pub fn new(index: usize, namenodes: usize, volumes: usize, seed: u64, planted: Option<Planted>) -> Self {
        let disk = MemDisk::new();
        let host = Self {
            index,
            namenodes,
            volumes,
            rack: format!("/rack{}", index % 2),
            disk,
            random: Arc::new(SeededRandom::new(seed)),
            life: 0,
            running: None,
            dark: false,
            wall_error_ns: 0,
            deletions: Vec::new(),
            stamps: BTreeMap::new(),
            damage: BTreeMap::new(),
            faulty: false,
            fired: 0,
            scrubs: false,
            room_bytes: ROOM_BYTES,
            planted,
        };
        host.set_room(false);
        host
    }

    fn dirs(&self) -> Vec<PathBuf> {
        (0..self.volumes).map(|volume| PathBuf::from(format!("/dn/v{volume}"))).collect()
    }
    /// Its address.
    #[must_use]
    pub const fn address(&self) -> Address {
        Address::Datanode(self.index)
    }
    /// Its current life.
    #[must_use]
    pub const fn life(&self) -> u64 {
        self.life
    }
    /// Does it run?
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.running.is_some()
    }
    /// Number of its disks.
    #[must_use]
    pub const fn volumes(&self) -> usize {
        self.volumes
    }
    /// Its store, while it runs.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        self.running.as_ref().map(|running| running.node.store())
    }
    /// Puts empty disks in the place of its own, while it does not run.
    pub fn replace_disks(&mut self) {
        self.disk = MemDisk::new();
        self.damage.clear();
        self.set_room(false);
    }
    /// Gives it disks of another size.
    pub fn resize(&mut self, room_bytes: u64) {
        self.room_bytes = room_bytes;
        self.set_room(false);
    }
    /// Makes its disks as large as they were, or full.
    pub fn set_room(&self, full: bool) {
        use base::disk::Disk;
        for dir in self.dirs() {
            let used = self.disk.space(&dir).map_or(0, |space| space.capacity_bytes - space.available_bytes);
            let room = self.room_bytes;
            self.disk.add_device(&dir, if full { used.min(room) + (2 << 10) } else { room });
        }
    }
    /// Lets it die at a named durable step.
    pub fn die_at(&self, point: CrashPoint, side: Side, nth: u64) {
        self.disk.stop_at(point, side, nth);
    }
    /// Does it hold so many bytes of a block, finished or not, of this stamp or a later one? Of a node that does not run only
    /// the stamp is known.
    #[must_use]
    pub fn has_of(&self, block: BlockId, stamp: GenerationStamp, len_bytes: u64) -> bool {
        if let Some(store) = self.store() {
            return store.replica(block).is_some_and(|(_, replica)| {
                replica.state != ReplicaState::Corrupt && replica.stamp >= stamp && replica.len_bytes >= len_bytes
            });
        }
        let files = self.disk.files();
        let stamp_of = |file: &String| {
            let name = file.rsplit('/').next()?.strip_suffix(".meta")?;
            name.strip_prefix(&format!("{block}_"))?.parse().ok().map(GenerationStamp::from_raw)
        };
        files.iter().filter(|file| file.contains("/current/")).filter_map(stamp_of).any(|found| found >= stamp)
    }
    /// Does it hold a whole replica of this stamp, running or not?
    #[must_use]
    pub fn holds(&self, block: BlockId, stamp: GenerationStamp) -> bool {
        match &self.running {
            Some(running) => running
                .node
                .store()
                .replica(block)
                .is_some_and(|(_, replica)| replica.state == ReplicaState::Finalized && replica.stamp == stamp),
            None => {
                let meta = format!("/{block}_{}.meta", stamp.raw());
                self.disk.files().iter().any(|file| file.contains("/current/") && file.ends_with(&meta))
            }
        }
    }
    /// Does it hold a whole replica of a higher stamp? Of one that does not run it is not known.
    #[must_use]
    pub fn holds_newer(&self, block: BlockId, stamp: GenerationStamp) -> bool {
        let replica = self.store().and_then(|store| store.replica(block));
        replica.is_some_and(|(_, replica)| replica.state == ReplicaState::Finalized && replica.stamp > stamp)
    }

    /// Did it find its replica damaged after this moment? Others may not know yet, even if it is gone by now.
    #[must_use]
    pub fn found_damage_since(&self, block: BlockId, stamp: GenerationStamp, since: Moment) -> bool {
        let Some(damage) = self.damage.get(&block) else { return false };
        let corrupt = |(_, replica): (StorageId, Replica)| replica.state == ReplicaState::Corrupt;
        let still = self.store().and_then(|store| store.replica(block)).is_some_and(corrupt);
        (still || damage.removed) && damage.stamp == stamp && damage.found >= since
    }
    /// Notes when a replica was found damaged, and tells the namenodes at once, as the server does.
    fn note_damage(&mut self, block: BlockId, scene: &mut Scene) {
        let replica = self.store().and_then(|store| store.replica(block)).map(|(_, replica)| replica);
        match replica {
            Some(replica) if replica.state == ReplicaState::Corrupt => {
                let new = Damage { stamp: replica.stamp, found: scene.now(), removed: false };
                let known = self.damage.entry(block).or_insert(new);
                if known.removed || known.stamp != replica.stamp {
                    *known = new;
                }
                self.agent(AgentEvent::Tick, scene);
            }
            Some(_) => {
                self.damage.remove(&block);
            }
            None => {}
        }
    }
    /// Has its disk failed since the last time that this was asked?
    pub(crate) fn has_failed_anew(&mut self) -> bool {
        let before = std::mem::replace(&mut self.fired, self.disk.faults_fired());
        self.fired > before
    }
    /// Notes that a command removed a replica: one that was whole is not news of a damaged one.
    fn note_removal(&mut self, deletion: &Deletion) {
        if deletion.whole {
            self.damage.remove(&deletion.block);
        } else if let Some(damage) = self.damage.get_mut(&deletion.block) {
            damage.removed |= damage.stamp == deletion.stamp;
        }
    }

    /// Starts it on what its disks hold.
    pub fn start(&mut self, scene: &mut Scene) {
        self.life += 1;
        self.dark = false;
        self.faulty = false;
        self.damage.retain(|_, damage| damage.removed);
        self.disk.clear_faults();
        let options = StoreOptions { reserve_bytes: 0, trash_keep: Duration::from_secs(20), ..StoreOptions::default() };
        let opened = Store::open(&self.disk.shared(), &self.dirs(), options, self.random.as_ref(), scene.now());
        let (store, problems) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let text = super::namenode::causes(&error);
                return scene.violation(format!("{:?} cannot be opened: {text}", self.address()));
            }
        };
        for problem in problems {
            scene.violation(format!("{:?}: {}", self.address(), super::namenode::causes(&problem)));
        }
        self.look_for_half_written(&store, scene);
        let scrubs = if self.scrubs { store.scrubs(scrub::OPTIONS) } else { Vec::new() };
        let node = Node::new(store);
        let config = AgentConfig {
            namenodes: self.namenodes,
            host: format!("dn{}", self.index),
            transfer_port: FIRST_PORT + self.index as u16,
            http_address: String::new(),
            rack: self.rack.clone(),
            machine: String::new(),
            local_socket: String::new(),
            heartbeat: Duration::from_secs(1),
            full_report: Duration::from_secs(60),
            copy_streams: 2,
            copy_rate_bytes_per_s: 0,
        };
        let agent = Agent::new(config, &node);
        scene.say(format_args!("{:?} starts, {:?}", self.address(), node.store().counts()));
        self.running = Some(Running {
            node,
            agent,
            opening: BTreeMap::new(),
            receiving: BTreeMap::new(),
            downs: BTreeMap::new(),
            copies: BTreeMap::new(),
            scrubs,
            hang: None,
            ticks: 0,
        });
        scene.wake(self.address(), self.life, millis(1 + scene.below(50)), Timer::Tick);
        self.start_scrubs(scene);
    }

    fn look_for_half_written(&self, store: &Store, scene: &mut Scene) {
        let all: Vec<u32> = (0..1024).collect();
        for report in store.reports() {
            let Ok(storage) = StorageId::parse(&report.storage) else { continue };
            let Some((_, buckets)) = store.buckets(&storage, &all) else { continue };
            let waits = proto::cluster::ReplicaState::WaitingRecovery as i32;
            if buckets.iter().flat_map(|bucket| &bucket.replicas).any(|replica| replica.state == waits) {
                scene.hit(Rare::HalfWrittenFound);
            }
        }
    }

    /// It dies.
    pub fn die(&mut self, death: Death, scene: &mut Scene) {
        let Some(running) = self.running.take() else { return };
        scene.say(format_args!("{:?} dies: {death:?}", self.address()));
        self.disk.stop();
        drop(running);
        match death {
            Death::Kill => self.disk.process_died(),
            Death::PowerCut => self.disk.power_cut(self.random.as_ref()),
        }
        self.dark = death == Death::PowerCut;
        self.life += 1;
        scene.break_streams(self.address());
    }

    /// A message came.
    pub fn arrive(&mut self, from: Address, message: Message, scene: &mut Scene) {
        match message {
            Message::Answer { call, answer } => self.answered(from, call, *answer, scene),
            Message::Stream { stream, part } if self.hangs() => self.part_of_hung(from, stream, part, scene),
            Message::Stream { stream, part } => self.part(from, stream, part, scene),
            Message::Call { .. } | Message::Raft(_) => {}
        }
    }

    fn part(&mut self, from: Address, stream: StreamId, part: Part, scene: &mut Scene) {
        if self.running.is_none() {
            match part {
                Part::Closed => {}
                // Nobody listens: a reset comes back, if there is anybody to send it.
                _ if self.dark => scene.lose(stream),
                _ => scene.close(stream, self.address()),
            }
            return;
        }
        match part {
            Part::Write(setup) => self.begin_write(from, stream, &setup, scene),
            Part::Read(setup) => self.serve(stream, &setup, scene),
            Part::Transfer(setup) => self.begin_transfer(stream, &setup, scene),
            Part::HowFar(setup) => self.tell_how_far(stream, &setup, scene),
            Part::Reply(reply) => self.reply_from_below(stream, &reply, scene),
            Part::Packet(packet) => self.packet(stream, &packet, scene),
            Part::Ack(ack) => self.ack_from_below(stream, ack, scene),
            Part::Closed => self.closed(stream, scene),
        }
    }

    /// A timer fired.
    pub fn wake(&mut self, timer: Timer, scene: &mut Scene) {
        match timer {
            Timer::Tick => {
                scene.wake(self.address(), self.life, millis(300), Timer::Tick);
                self.tick(scene);
            }
            Timer::KeepTerm(term) => {
                let Some(running) = &mut self.running else { return };
                let kept = running.node.store().raise_term(term).is_ok();
                self.agent(AgentEvent::TermKept { term, kept }, scene);
            }
            Timer::Scrub(volume) => self.scrub(volume, scene),
            Timer::Carry(namenode, command) => match self.command_waits(&command) {
                Some(until) => {
                    scene.wake(self.address(), self.life, until.since(scene.now()), Timer::Carry(namenode, command));
                }
                None => self.carry(namenode, *command, scene),
            },
            _ => {}
        }
    }

    fn tick(&mut self, scene: &mut Scene) {
        let now = scene.now();
        self.look_at_health(scene);
        let Some(running) = &mut self.running else { return };
        running.ticks += 1;
        if running.ticks.is_multiple_of(30) && running.hang.is_none() {
            running.node.store().tend(now);
            self.end_silent(scene);
        }
        let Some(running) = &mut self.running else { return };
        let busy = running.receiving.len() + running.copies.len();
        running.agent.set_active_transfers(u32::try_from(busy).unwrap_or(u32::MAX));
        if running.node.store().health().iter().any(|(_, _, state, _)| *state == VolumeState::Failed) {
            scene.hit(Rare::VolumeCondemned);
        }
        self.agent(AgentEvent::Tick, scene);
    }

    /// Gives the agent an event and does what it says.
    fn agent(&mut self, event: AgentEvent, scene: &mut Scene) {
        let (address, life) = (self.address(), self.life);
        let Some(running) = &mut self.running else { return };
        let mut out = Vec::new();
        running.agent.handle(&running.node, event, scene.now(), &mut out);
        for effect in out {
            match effect {
                AgentEffect::Call { namenode, call, request } => self.call(namenode, call, *request, scene),
                AgentEffect::KeepTerm(term) => scene.wake(address, life, micros(500), Timer::KeepTerm(term)),
                AgentEffect::Carry { namenode, command } => {
                    // Now and then a command lies around until it is void.
                    let wait = if scene.one_in(40) { millis(scene.below(14_000)) } else { millis(scene.below(30)) };
                    scene.wake(address, life, wait, Timer::Carry(namenode, Box::new(command)));
                }
            }
        }
    }

    fn carry(&mut self, namenode: usize, command: Command, scene: &mut Scene) {
        let now = scene.now();
        let Some(running) = &self.running else { return };
        if let Some(reason) = commands::void(&running.node, &command, now) {
            scene.hit(Rare::CommandVoid);
            let result = commands::result(&command, Err(reason));
            return self.agent(AgentEvent::CommandDone { namenode, result }, scene);
        }
        match &command.task {
            Task::Delete(what) => {
                let ids: Vec<BlockId> = what.blocks.iter().map(|block| BlockId::from_raw(block.id)).collect();
                let store = running.node.store();
                let before: Vec<_> = ids.iter().filter_map(|id| Some((*id, store.replica(*id)?.1))).collect();
                let result = commands::delete(&running.node, &command, what, || now);
                let gone = before.into_iter().filter(|(id, _)| store.replica(*id).is_none());
                let deletions: Vec<Deletion> = gone
                    .map(|(block, replica)| Deletion {
                        datanode: self.index,
                        block,
                        stamp: replica.stamp,
                        whole: replica.state == ReplicaState::Finalized,
                        reason: what.reason.clone(),
                    })
                    .collect();
                deletions.iter().for_each(|deletion| self.note_removal(deletion));
                self.deletions.extend(deletions);
                self.agent(AgentEvent::CommandDone { namenode, result }, scene);
            }
            Task::Verify(what) => {
                let result = commands::verify(&running.node, &command, what, || now);
                for id in what.blocks.iter().map(|block| BlockId::from_raw(block.id)) {
                    let found = running.node.store().replica(id);
                    if found.is_some_and(|(_, replica)| replica.state == ReplicaState::Finalized) {
                        scene.hit(Rare::SuspectCleared);
                    }
                }
                what.blocks.iter().for_each(|block| self.note_damage(BlockId::from_raw(block.id), scene));
                self.agent(AgentEvent::CommandDone { namenode, result }, scene);
            }
            Task::Prepare(what) => {
                let result = commands::prepare_recovery(&running.node, &command, what, || now);
                if result.ok {
                    scene.hit(Rare::RecoveryPrepared);
                }
                self.agent(AgentEvent::CommandDone { namenode, result }, scene);
            }
            Task::Finish(what) => {
                let result = commands::finish_replica(&running.node, &command, what, now);
                if result.ok {
                    scene.hit(Rare::ReplicaRecovered);
                }
                self.agent(AgentEvent::CommandDone { namenode, result }, scene);
            }
            Task::Copy(_) => self.begin_copy(namenode, command, scene),
        }
    }

    fn closed(&mut self, stream: StreamId, scene: &mut Scene) {
        let Some(running) = &mut self.running else { return };
        if let Some(copy) = running.copies.remove(&stream) {
            return self.end_copy(stream, &copy, Err("the connection broke".to_owned()), scene);
        }
        if let Some(up) = running.downs.remove(&stream) {
            return self.below_lost(up, scene);
        }
        self.above_lost(stream, scene);
    }

    fn wall_ms(&self, scene: &Scene) -> i64 {
        wall_ns(scene.now(), self.wall_error_ns) / 1_000_000
    }
}

fn dial(scene: &mut Scene, from: Address, target: &Target) -> StreamId {
    scene.network.open(from, address_of(target.transfer_port))
}

fn wrong_answer() -> FsError {
    FsError::new(ErrorCode::Internal, "an answer of another kind")
}

type AnswerOf = FsResult<datanode::agent::Answer>;

/// A folder of a datanode's disk, for faults on it.
#[must_use]
pub fn block_folder(volume: usize) -> String {
    Path::new("/dn").join(format!("v{volume}")).join("current").to_string_lossy().into_owned()
}
