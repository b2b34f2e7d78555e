//! A namenode: the shipping core, committer and image writer, with time between them in which it can die.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use auth::Caller;
use base::crash::{CrashPoint, Side};
use base::disk::{Disk, MemDisk};
use base::random::{Randomness, SeededRandom};
use namenode::consensus::{
    Consensus, ConsensusConfig, ConsensusError, Identity, ImageStore, LogWriter, PersistBatch, Role, SendImage,
};
use namenode::core::{
    Bootstrap, CoreConfig, Effect, Event, ImageJob, InitialDirectory, NamenodeCore, OpenError, Shared,
};
use namenode::service::admit;
use namenode::service::request::{Request, Response, Ticket};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{ClusterId, MemberId, PoolId};
use proto::log::Settings;

use super::{Death, micros, millis, wall_ns};
use crate::coverage::Rare;
use crate::message::{Address, Message, Timer};
use crate::planted::{LateDisk, Planted};
use crate::scene::Scene;

/// Name of the user above all permission checks; every simulated client calls as this one.
pub const USER: &str = "sim";
/// Folder of a namenode on its disk.
const DIR: &str = "/nn";
/// Room of a namenode's disk while nobody fills it.
const ROOM_BYTES: u64 = 1 << 30;

/// Silence after which others may have a writer's file, in runs with logs.
pub const SOFT_LIMIT: Duration = Duration::from_secs(4);
/// Silence after which the file is closed, in runs with logs.
pub const HARD_LIMIT: Duration = Duration::from_secs(20);

/// A bit that was flipped.
#[derive(Debug)]
struct Rot {
    path: PathBuf,
    offset: u64,
    bit: u8,
    /// What was around it then.
    damaged: Vec<u8>,
}

/// A namenode.
#[derive(Debug)]
pub struct NamenodeHost {
    index: usize,
    voters: usize,
    /// Its disk.
    pub disk: MemDisk,
    random: Arc<dyn Randomness>,
    life: u64,
    running: Option<Running>,
    /// Its machine lost power: nobody answers for it.
    pub dark: bool,
    /// Error of its wall clock.
    pub wall_error_ns: i64,
    /// Time that the committer takes beside the usual.
    pub slow: Duration,
    /// Bits that were flipped in its log while it was down.
    rot: Vec<Rot>,
    planted: Option<Planted>,
    /// Has it short leases?
    extended: bool,
    late: LateDisk,
}

#[derive(Debug)]
struct Running {
    core: NamenodeCore,
    writer: LogWriter,
    images: ImageStore,
    shared: Arc<Shared>,
    callers: BTreeMap<u64, (Address, u64)>,
    next_ticket: u64,
    waiting: Vec<PersistBatch>,
    committing: bool,
    own_images: BTreeSet<u64>,
    ticks: u64,
}

/// Sizes and times of a simulated namenode: small, so that everything that is rare comes up in minutes.
fn config(extended: bool) -> CoreConfig {
    let settings = Settings {
        superuser_group: "supergroup".to_owned(),
        default_replication: 3,
        default_block_size_bytes: 8 << 10,
        max_replication: 16,
        min_block_size_bytes: 1 << 10,
        max_block_size_bytes: 1 << 20,
        lease_hard_limit_ms: if extended { HARD_LIMIT.as_millis() as u64 } else { 8_000 },
        feature_level: 1,
        max_blocks_per_file: 1 << 10,
        max_directory_entries: 1 << 10,
        ..Default::default()
    };
    CoreConfig {
        consensus: ConsensusConfig {
            segment_bytes: 32 << 10,
            image_reserve_bytes: 64 << 10,
            tail_bytes: 4 << 10,
            // A message has to fit into what is left of a segment.
            max_message_bytes: 4 << 10,
            ..ConsensusConfig::default()
        },
        blocks: namenode::blocks::BlocksConfig {
            stale_after: Duration::from_secs(4),
            dead_after: Duration::from_secs(15),
            settle: Duration::from_secs(2),
            copy_timeout: Duration::from_secs(20),
            delete_delay: Duration::from_secs(6),
            ..Default::default()
        },
        heartbeat_interval: Duration::from_secs(1),
        image_every_bytes: 24 << 10,
        image_every_entries: 120,
        idle_entry: Duration::from_secs(10),
        bootstrap: Some(Bootstrap {
            superuser: USER.to_owned(),
            settings,
            directories: Vec::from(["/shared", "/logs"].map(folder)),
        }),
        lease_soft_limit: if extended { SOFT_LIMIT } else { CoreConfig::default().lease_soft_limit },
        ..CoreConfig::default()
    }
}

fn folder(path: &str) -> InitialDirectory {
    InitialDirectory { path: path.to_owned(), mode: 0o755, owner: USER.to_owned() }
}

/// Id of the simulated cluster.
#[must_use]
pub fn cluster_id() -> ClusterId {
    ClusterId::new("simulated")
}
/// Id of its block pool.
#[must_use]
pub fn pool_id() -> PoolId {
    PoolId::new("simulated")
}

impl NamenodeHost {
    /// A formatted member of a group of `voters`. It does not run yet.
    ///
    /// # Errors
    /// What formatting refuses.
    pub fn new(
        index: usize,
        voters: usize,
        seed: u64,
        planted: Option<Planted>,
        extended: bool,
    ) -> Result<Self, ConsensusError> {
        let disk = MemDisk::new();
        disk.add_device(Path::new(DIR), ROOM_BYTES);
        let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(seed));
        let identity = Identity {
            cluster: cluster_id(),
            pool: pool_id(),
            member: MemberId::from_raw(index as u64 + 1),
            initial_voters: (1..=voters as u64).map(MemberId::from_raw).collect(),
        };
        Consensus::format(&disk.shared(), Path::new(DIR), &identity, &config(extended).consensus, &random)?;
        Ok(Self {
            index,
            voters,
            disk,
            random,
            life: 0,
            running: None,
            dark: false,
            wall_error_ns: 0,
            slow: Duration::ZERO,
            rot: Vec::new(),
            planted,
            extended,
            late: LateDisk::default(),
        })
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> Address {
        Address::Namenode(self.index)
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
    /// The state that doors may read, while it runs.
    #[must_use]
    pub fn shared(&self) -> Option<&Arc<Shared>> {
        self.running.as_ref().map(|running| &running.shared)
    }
    /// Who leads, as it sees it; `None` while it is down.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.running.as_ref().map(|running| running.core.role())
    }
    /// Makes its disk as large as it was, or smaller.
    pub fn set_room(&self, full: bool) {
        let used = self.disk.space(Path::new(DIR)).map_or(0, |space| space.capacity_bytes - space.available_bytes);
        self.disk.add_device(Path::new(DIR), if full { used + (4 << 10) } else { ROOM_BYTES });
    }
    /// Lets it die at a named durable step.
    pub fn die_at(&self, point: CrashPoint, side: Side, nth: u64) {
        self.disk.stop_at(point, side, nth);
    }

    /// Starts it on what its disk holds. False: it refused, for a reason that was put there.
    pub fn start(&mut self, scene: &mut Scene) -> bool {
        self.life += 1;
        self.dark = false;
        self.disk.clear_faults();
        let mut disk = self.disk.shared();
        if self.planted == Some(Planted::AckBeforeSync) {
            disk = self.late.around(disk);
        }
        let (cluster, now) = (cluster_id(), scene.now());
        match NamenodeCore::open(
            &disk,
            Path::new(DIR),
            Some(&cluster),
            config(self.extended),
            Arc::clone(&self.random),
            now,
        ) {
            Ok(opened) => {
                if opened.notes.iter().any(|note| note.contains("not whole")) {
                    scene.hit(Rare::TornTailCut);
                }
                if opened.core.applied().raw() > 0 {
                    scene.hit(Rare::StartedFromImage);
                }
                scene.say(format_args!(
                    "{:?} starts, applied {} {:?}",
                    self.address(),
                    opened.core.applied(),
                    opened.notes
                ));
                let own_images = opened.images.newest().map(|newest| newest.meta.index.raw()).into_iter().collect();
                self.running = Some(Running {
                    core: opened.core,
                    writer: opened.writer,
                    images: opened.images,
                    shared: opened.shared,
                    callers: BTreeMap::new(),
                    next_ticket: 1,
                    waiting: Vec::new(),
                    committing: false,
                    own_images,
                    ticks: 0,
                });
                scene.wake(self.address(), self.life, millis(1), Timer::Tick);
                self.pump(scene);
                true
            }
            Err(error) => self.refused(&error, scene),
        }
    }

    fn refused(&mut self, error: &OpenError, scene: &mut Scene) -> bool {
        let rotten =
            matches!(error, OpenError::Consensus(ConsensusError::Rot { .. } | ConsensusError::Incomplete { .. }));
        if rotten && !self.rot.is_empty() {
            scene.say(format_args!("{:?} refuses to start: {error}", self.address()));
            scene.hit(Rare::RotRefused);
            self.mend_rot(scene);
        } else {
            scene.violation(format!("{:?} cannot be opened: {}", self.address(), causes(error)));
        }
        // What it held while it looked is given back.
        self.disk.process_died();
        false
    }

    /// A bit of a file rots.
    pub fn flip(&mut self, path: PathBuf, offset: u64, bit: u8) {
        if self.disk.flip_bit(&path, offset, bit).is_ok() {
            let damaged = self.around(&path, offset);
            self.rot.push(Rot { path, offset, bit, damaged });
        }
    }
    /// The bytes around a place of a file, nothing if there is no such place.
    fn around(&self, path: &Path, offset: u64) -> Vec<u8> {
        let bytes = base::disk::read_file(&self.disk, path, 1 << 20).unwrap_or_default();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        bytes.get(at.saturating_sub(16)..at.saturating_add(16)).unwrap_or_default().to_vec()
    }
    /// The operator puts the damaged file back.
    pub fn mend_rot(&mut self, scene: &mut Scene) {
        for Rot { path, offset, bit, damaged } in std::mem::take(&mut self.rot) {
            // The damage was where nobody looks, and the file went its way meanwhile; or it was in the last batch, which was
            // cut as a torn tail, and other records were written there.
            if self.around(&path, offset) != damaged {
                continue;
            }
            if let Err(error) = self.disk.flip_bit(&path, offset, bit) {
                scene.violation(format!("{} was damaged at {offset} and cannot be put back: {error}", path.display()));
            }
        }
    }

    /// It dies.
    pub fn die(&mut self, death: Death, scene: &mut Scene) {
        let Some(running) = self.running.take() else { return };
        scene.say(format_args!("{:?} dies: {death:?}", self.address()));
        for (from, call) in running.callers.values() {
            if death == Death::Kill && scene.one_in(2) {
                scene.send(self.address(), *from, &broken(*call));
            }
        }
        self.disk.stop();
        drop(running);
        self.late.forget();
        match death {
            Death::Kill => self.disk.process_died(),
            Death::PowerCut => self.disk.power_cut(self.random.as_ref()),
        }
        self.dark = death == Death::PowerCut;
        self.life += 1;
    }

    /// A message came.
    pub fn arrive(&mut self, from: Address, message: Message, scene: &mut Scene) {
        if self.running.is_none() {
            if let Message::Call { call, .. } = message
                && !self.dark
            {
                scene.send(self.address(), from, &broken(call));
            }
            return;
        }
        match message {
            Message::Call { call, request } => self.call(from, call, *request, scene),
            Message::Raft(message) => self.event(Event::Raft(*message), scene),
            Message::Answer { .. } | Message::Stream { .. } => {}
        }
    }

    fn call(&mut self, from: Address, call: u64, request: Request, scene: &mut Scene) {
        let address = format!("{from:?}");
        let caller = match request.header() {
            Some(header) => admit::caller(Some(header), &address),
            None => Ok(Caller { address, ..Caller::internal("datanode") }),
        };
        let Some(running) = &mut self.running else { return };
        match caller {
            Err(error) => self.answer(from, call, Err(error), scene),
            Ok(caller) => {
                let ticket = Ticket(running.next_ticket);
                running.next_ticket += 1;
                running.callers.insert(ticket.0, (from, call));
                self.event(Event::Request { ticket, caller, request }, scene);
            }
        }
    }

    fn answer(&self, to: Address, call: u64, answer: FsResult<Response>, scene: &mut Scene) {
        scene.send(self.address(), to, &Message::Answer { call, answer: Box::new(answer) });
    }

    /// A timer fired.
    pub fn wake(&mut self, timer: Timer, scene: &mut Scene) {
        match timer {
            Timer::Tick => {
                scene.wake(self.address(), self.life, millis(100), Timer::Tick);
                self.tick(scene);
            }
            Timer::Commit => self.commit(scene),
            Timer::Committed(done) => {
                self.event(Event::Persisted(done), scene);
                self.look_for_foreign_image(scene);
            }
            Timer::Image(job) => self.write_image(*job, scene),
            Timer::GoOn => self.event(Event::GoOn, scene),
            Timer::ImageDone(result) => self.event(Event::ImageWritten(result), scene),
            _ => {}
        }
    }

    fn tick(&mut self, scene: &mut Scene) {
        self.event(Event::Tick, scene);
        let Some(running) = &mut self.running else { return };
        running.ticks += 1;
        if running.ticks.is_multiple_of(10) {
            self.late.flush();
        }
        if running.ticks.is_multiple_of(16)
            && running.core.role().serving
            && running.shared.blocks.read().node_counts().2 > 0
        {
            scene.hit(Rare::NodeDead);
        }
    }

    fn event(&mut self, event: Event, scene: &mut Scene) {
        let mut out = Vec::new();
        let (now, wall) = (scene.now(), wall_ns(scene.now(), self.wall_error_ns));
        let Some(running) = &mut self.running else { return };
        let served = running.core.role().serving;
        running.core.handle(event, now, wall, &mut out);
        if served && !running.core.role().serving {
            scene.hit(Rare::LeaderDeposed);
        }
        self.carry_out(out, scene);
    }

    fn pump(&mut self, scene: &mut Scene) {
        let mut out = Vec::new();
        let (now, wall) = (scene.now(), wall_ns(scene.now(), self.wall_error_ns));
        if let Some(running) = &mut self.running {
            running.core.pump(now, wall, &mut out);
        }
        self.carry_out(out, scene);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, scene: &mut Scene) {
        for effect in effects {
            let Some(running) = &mut self.running else { return };
            match effect {
                Effect::Reply { ticket, response } => match running.callers.remove(&ticket.0) {
                    Some((to, call)) => self.answer(to, call, response, scene),
                    None => scene.violation(format!("{:?} answered {ticket:?} twice", self.address())),
                },
                Effect::Persist(batch) => {
                    running.waiting.push(batch);
                    self.begin_commit(scene);
                }
                Effect::SendRaft(message) => {
                    scene.say(format_args!(
                        "raft {} -> {} kind {} term {} index {} of {} commit {} entries {} reject {} hint {}",
                        message.from,
                        message.to,
                        message.kind,
                        message.term,
                        message.index,
                        message.log_term,
                        message.commit,
                        message.entries.len(),
                        message.reject,
                        message.reject_hint
                    ));
                    let to = Address::Namenode((message.to as usize).saturating_sub(1));
                    scene.send(self.address(), to, &Message::Raft(Box::new(message)));
                }
                Effect::WriteImage(job) => {
                    let wait = millis(5 + scene.below(300));
                    scene.wake(self.address(), self.life, wait, Timer::Image(job));
                }
                Effect::GoOn => scene.wake(self.address(), self.life, micros(1), Timer::GoOn),
                Effect::SendImage(send) => self.send_image(&send, scene),
                Effect::Stop(reason) => scene.violation(format!("{:?} stopped: {reason}", self.address())),
            }
        }
    }

    fn begin_commit(&mut self, scene: &mut Scene) {
        let (address, life, slow) = (self.address(), self.life, self.slow);
        let Some(running) = &mut self.running else { return };
        if !running.committing && !running.waiting.is_empty() {
            running.committing = true;
            let wait = slow + micros(200 + scene.below(3000));
            scene.wake(address, life, wait, Timer::Commit);
        }
    }

    /// One write and sync for all batches that wait.
    fn commit(&mut self, scene: &mut Scene) {
        let (address, life) = (self.address(), self.life);
        let Some(running) = &mut self.running else { return };
        running.committing = false;
        let batches = std::mem::take(&mut running.waiting);
        match running.writer.write(batches) {
            Ok(done) => {
                scene.wake(address, life, micros(50), Timer::Committed(done));
                self.begin_commit(scene);
            }
            Err(_) if self.disk.stopped() => {}
            Err(error) => {
                scene.say(format_args!("{address:?} stops: {}", causes(&error)));
                scene.hit(Rare::LogFailed);
                self.die(Death::Kill, scene);
                scene.after(millis(500), crate::message::Event::Restart(address));
            }
        }
    }

    fn write_image(&mut self, job: ImageJob, scene: &mut Scene) {
        let (address, life) = (self.address(), self.life);
        let Some(running) = &mut self.running else { return };
        let mut body = |out: &mut dyn std::io::Write| job.frozen.write_to(out).map_err(std::io::Error::other);
        let result = running.images.write(job.meta, &mut body).map_err(|error| causes(&error));
        match &result {
            Ok(info) => {
                running.own_images.insert(info.meta.index.raw());
                scene.hit(Rare::ImageWritten);
            }
            Err(error) => scene.say(format_args!("{address:?} wrote no image: {error}")),
        }
        scene.wake(address, life, millis(1), Timer::ImageDone(result));
    }

    fn send_image(&mut self, send: &SendImage, scene: &mut Scene) {
        let address = self.address();
        let to = Address::Namenode((send.to.raw() as usize).saturating_sub(1));
        let Some(running) = &self.running else { return };
        let mut parts = Vec::new();
        let read = running.images.parts(send, |part| parts.push(part));
        let delivered = read.is_ok() && !scene.network.is_cut(address, to);
        if delivered {
            for part in parts {
                scene.send(address, to, &Message::Raft(Box::new(part)));
            }
        }
        self.event(Event::ImageSent { to: send.to, delivered }, scene);
    }

    fn look_for_foreign_image(&mut self, scene: &mut Scene) {
        let Some(running) = &mut self.running else { return };
        if let Some(newest) = running.images.newest()
            && running.own_images.insert(newest.meta.index.raw())
        {
            scene.hit(Rare::ImageInstalled);
        }
    }

    /// Members of its group.
    #[must_use]
    pub const fn voters(&self) -> usize {
        self.voters
    }
}

fn broken(call: u64) -> Message {
    let error = FsError::new(ErrorCode::Unavailable, "the connection broke");
    Message::Answer { call, answer: Box::new(Err(error)) }
}

/// An error with its causes.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
