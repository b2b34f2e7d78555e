//! All hosts of a run, and the loop that gives them their events.

mod logging;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use base::clock::Moment;
use proto::error::ErrorCode;

use crate::admin::Admin;
use crate::checks::Checks;
use crate::coverage::Rare;
use crate::faults::Faults;
use crate::hosts::client::Finished;
use crate::hosts::{ClientHost, DatanodeHost, Death, NamenodeHost, millis};
use crate::logs::{LOGS, is_log, log_path};
use crate::message::{Address, Event, Message, Timer};
use crate::oracle::Oracle;
use crate::planted::Planted;
use crate::registers::Registers;
use crate::scene::Scene;
use crate::workload::{Op, Outcome, SHARED, next_op, shared_path, tag_of};

pub use logging::Loggers;

/// What a client's owner knows of it.
#[derive(Debug)]
pub struct Owner {
    /// Its home now.
    pub oracle: Oracle,
    /// Homes of its earlier lives.
    pub former: Vec<Oracle>,
    /// Operations that are over.
    pub done: u32,
    tags: u64,
    /// The next operation must be a change that is carried out: an outcome is unknown.
    doubt: bool,
    /// At the end: what is still to be looked at, with the home that it belongs to.
    verify: VecDeque<(usize, Op)>,
    verifying: Option<usize>,
    /// A write of a shared file that is under way.
    shared_write: Option<(String, u64, Moment)>,
}

/// What the run is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Operations and faults.
    Work,
    /// No more faults, no more operations: the cluster heals.
    Heal,
    /// Everything is read back.
    Verify,
}

/// All hosts.
#[derive(Debug)]
pub struct Cluster {
    /// What they share.
    pub scene: Scene,
    /// Namenodes.
    pub namenodes: Vec<NamenodeHost>,
    /// Datanodes.
    pub datanodes: Vec<DatanodeHost>,
    /// Clients.
    pub clients: Vec<ClientHost>,
    /// What their owners know.
    pub owners: Vec<Owner>,
    /// Shared files.
    pub registers: Registers,
    /// What must hold.
    pub checks: Checks,
    /// What goes wrong.
    pub faults: Faults,
    /// What the run is at.
    pub phase: Phase,
    /// Frozen hosts, with the moments at which they wake up.
    pub frozen: Vec<(Address, Moment)>,
    /// Datanodes that lost power, and when.
    power_cuts: Vec<(Moment, usize)>,
    /// Who takes nodes out of service and balances, in runs that have somebody.
    pub admin: Option<Admin>,
    /// Logs that clients share, in runs that have them.
    pub loggers: Option<Loggers>,
    planted: Option<Planted>,
}

/// Datanodes that lost power since a moment.
fn dark_since(power_cuts: &[(Moment, usize)], since: Moment) -> BTreeSet<usize> {
    power_cuts.iter().rev().take_while(|(when, _)| *when >= since).map(|(_, node)| *node).collect()
}

impl Owner {
    fn new(client: usize) -> Self {
        Self {
            oracle: Oracle::new(format!("/c{client}")),
            former: Vec::new(),
            done: 0,
            tags: 0,
            doubt: false,
            verify: VecDeque::new(),
            verifying: None,
            shared_write: None,
        }
    }
    /// The home that an operation of the verification is about.
    fn home(&mut self, number: usize) -> &mut Oracle {
        let count = self.former.len();
        if number < count { &mut self.former[number] } else { &mut self.oracle }
    }
    /// Has everything been looked at?
    #[must_use]
    pub fn verified(&self) -> bool {
        self.verify.is_empty() && self.verifying.is_none()
    }
}

impl Cluster {
    /// Hosts that do not run yet.
    #[must_use]
    pub fn new(
        scene: Scene,
        namenodes: Vec<NamenodeHost>,
        datanodes: Vec<DatanodeHost>,
        clients: Vec<ClientHost>,
        planted: Option<Planted>,
    ) -> Self {
        let owners = (0..clients.len()).map(Owner::new).collect();
        Self {
            scene,
            namenodes,
            datanodes,
            clients,
            owners,
            registers: Registers::default(),
            checks: Checks::default(),
            faults: Faults::default(),
            phase: Phase::Work,
            frozen: Vec::new(),
            power_cuts: Vec::new(),
            admin: None,
            loggers: None,
            planted,
        }
    }

    /// Starts every host.
    pub fn start(&mut self) {
        for namenode in &mut self.namenodes {
            namenode.start(&mut self.scene);
        }
        for datanode in &mut self.datanodes {
            datanode.start(&mut self.scene);
        }
        for client in &self.clients {
            client.start(&mut self.scene);
        }
    }

    /// Every host but clients.
    #[must_use]
    pub fn servers(&self) -> Vec<Address> {
        let namenodes = (0..self.namenodes.len()).map(Address::Namenode);
        namenodes.chain((0..self.datanodes.len()).map(Address::Datanode)).collect()
    }
    /// Does this host run?
    #[must_use]
    pub fn is_up(&self, host: Address) -> bool {
        match host {
            Address::Namenode(at) => self.namenodes[at].is_up(),
            Address::Datanode(at) => self.datanodes[at].is_up(),
            Address::Client(_) => true,
        }
    }
    fn life(&self, host: Address) -> u64 {
        match host {
            Address::Namenode(at) => self.namenodes[at].life(),
            Address::Datanode(at) => self.datanodes[at].life(),
            Address::Client(at) => self.clients[at].life(),
        }
    }

    /// Lets the next thing happen. False: nothing is left.
    pub fn step(&mut self) -> bool {
        let Some(event) = self.scene.next_event() else { return false };
        match event {
            Event::Arrive { to, from, message } => {
                if let Some(thaw) = self.thaw(to) {
                    self.scene.at(thaw, Event::Arrive { to, from, message });
                    return true;
                }
                self.mix(to, from.number(), message.number());
                self.arrive(to, from, message);
                self.after(to);
            }
            Event::Wake { host, life, timer } => {
                if life != self.life(host) {
                    return true;
                }
                if let Some(thaw) = self.thaw(host) {
                    self.scene.at(thaw, Event::Wake { host, life, timer });
                    return true;
                }
                self.mix(host, 1000, timer.number());
                self.wake(host, timer);
                self.after(host);
            }
            Event::Fault => self.begin_fault(),
            Event::FaultOver(undo) => self.end_fault(undo),
            Event::Restart(host) => self.restart(host),
            Event::Repair(at) => self.repair(at),
            Event::Silence(at, job, silence) => self.fall_silent(at, job, silence),
            Event::Admin => self.admin_turn(),
            Event::HangOver(at, life) => self.datanodes[at].end_hang(life, &mut self.scene),
        }
        true
    }

    fn mix(&mut self, host: Address, from: u64, what: u64) {
        let now = self.scene.now().elapsed_from_start().as_nanos() as u64;
        self.scene.trace.mix(&[now, host.number(), from, what]);
    }
    fn thaw(&mut self, host: Address) -> Option<Moment> {
        let now = self.scene.now();
        self.frozen.retain(|(_, until)| *until > now);
        self.frozen.iter().find(|(frozen, _)| *frozen == host).map(|(_, until)| *until)
    }

    fn arrive(&mut self, to: Address, from: Address, message: Message) {
        match to {
            Address::Namenode(at) => self.namenodes[at].arrive(from, message, &mut self.scene),
            Address::Datanode(at) => self.datanodes[at].arrive(from, message, &mut self.scene),
            Address::Client(at) => self.clients[at].arrive(from, message, &mut self.scene),
        }
    }
    fn wake(&mut self, host: Address, timer: Timer) {
        match host {
            Address::Namenode(at) => self.namenodes[at].wake(timer, &mut self.scene),
            Address::Datanode(at) => {
                if self.planted == Some(Planted::StampIgnored) {
                    self.tell_stamps(at);
                }
                self.datanodes[at].wake(timer, &mut self.scene);
            }
            Address::Client(at) => match timer {
                Timer::Tick => self.client_turn(at),
                timer => self.clients[at].wake(timer, &mut self.scene),
            },
        }
    }

    /// What follows when a host has done something.
    fn after(&mut self, host: Address) {
        match host {
            Address::Namenode(at) => {
                if self.namenodes[at].disk.stopped() {
                    self.scene.hit(Rare::NamenodeDiedAtPoint);
                    self.die_for_a_while(host);
                }
                self.checks.look(at, &self.namenodes[at], &mut self.scene);
            }
            Address::Datanode(at) => {
                if self.datanodes[at].disk.stopped() {
                    self.scene.hit(Rare::DatanodeDiedAtPoint);
                    self.die_for_a_while(host);
                }
                for deletion in std::mem::take(&mut self.datanodes[at].deletions) {
                    self.checks.deleted(&deletion, &self.namenodes, &self.datanodes, &mut self.scene);
                }
            }
            Address::Client(at) => {
                self.look_at_log(at);
                for finished in self.clients[at].take_finished() {
                    self.client_finished(at, finished);
                }
            }
        }
    }

    fn die_for_a_while(&mut self, host: Address) {
        let death = if self.scene.one_in(2) { Death::Kill } else { Death::PowerCut };
        self.kill(host, death);
        let wait = millis(200 + self.scene.below(4000));
        self.scene.after(wait, Event::Restart(host));
    }
    /// Kills a host.
    pub fn kill(&mut self, host: Address, death: Death) {
        match host {
            Address::Namenode(at) => self.namenodes[at].die(death, &mut self.scene),
            Address::Datanode(at) => {
                if death == Death::PowerCut {
                    self.note_power_cut(at);
                }
                self.datanodes[at].die(death, &mut self.scene);
            }
            Address::Client(at) => {
                self.clients[at].die(&mut self.scene);
                self.after(host);
            }
        }
    }
    /// What a datanode had in memory is gone.
    pub(crate) fn note_power_cut(&mut self, at: usize) {
        self.power_cuts.push((self.scene.now(), at));
        let homes = self.owners.iter_mut().flat_map(|owner| owner.former.iter_mut().chain([&mut owner.oracle]));
        homes.for_each(|oracle| oracle.power_cut(at));
        if let Some(loggers) = &mut self.loggers {
            loggers.logs.power_cut(at);
        }
    }
    /// Disks of datanodes have failed since the last look: what others have lost already may be nowhere else.
    fn note_disk_faults(&mut self) {
        let failed: Vec<usize> = (0..self.datanodes.len()).filter(|at| self.datanodes[*at].has_failed_anew()).collect();
        for owner in &mut self.owners {
            for oracle in owner.former.iter_mut().chain([&mut owner.oracle]) {
                failed.iter().for_each(|at| oracle.disk_fails(*at));
            }
        }
    }
    /// Starts a host that is down.
    pub fn restart(&mut self, host: Address) {
        if self.is_up(host) {
            return;
        }
        match host {
            Address::Namenode(at) => {
                if !self.namenodes[at].start(&mut self.scene) {
                    self.scene.after(Duration::from_secs(1), Event::Restart(host));
                }
            }
            Address::Datanode(at) => {
                self.datanodes[at].start(&mut self.scene);
                self.look_for_old_rot(at);
            }
            Address::Client(_) => {}
        }
        self.after(host);
    }

    /// A volume that failed is out of service until its node starts again.
    fn repair(&mut self, at: usize) {
        if self.datanodes[at].is_up() && self.datanodes[at].faulty {
            self.kill(Address::Datanode(at), Death::Kill);
            self.restart(Address::Datanode(at));
        }
    }
    /// The bug that is planted, if one is.
    #[must_use]
    pub const fn planted(&self) -> Option<Planted> {
        self.planted
    }

    /// The planted bug needs to know what it pretends.
    fn tell_stamps(&mut self, datanode: usize) {
        let running = self.namenodes.iter().filter_map(NamenodeHost::shared);
        let Some(newest) = running.max_by_key(|shared| shared.namespace.read().applied().0) else { return };
        let mut stamps = std::collections::BTreeMap::new();
        newest.namespace.read().for_each_block(|view| {
            stamps.insert(view.block, view.stamp);
        });
        self.datanodes[datanode].stamps = stamps;
    }

    /// A client has time for its next operation.
    fn client_turn(&mut self, at: usize) {
        if self.clients[at].is_busy() {
            return;
        }
        let op = match self.phase {
            Phase::Work => self.next_op(at),
            Phase::Heal if self.owners[at].doubt => self.next_op(at),
            Phase::Heal => {
                let life = self.clients[at].life();
                return self.scene.wake(Address::Client(at), life, millis(500), Timer::Tick);
            }
            Phase::Verify => {
                let owner = &mut self.owners[at];
                let Some((home, op)) = owner.verify.pop_front() else { return };
                owner.verifying = Some(home);
                op
            }
        };
        let owner = &mut self.owners[at];
        if let Op::Write { path, tag, .. } = &op
            && path.starts_with("/shared/")
        {
            owner.shared_write = Some((path.clone(), *tag, self.scene.now()));
        }
        self.clients[at].begin(op, &mut self.scene);
    }

    fn next_op(&mut self, at: usize) -> Op {
        let now = self.scene.now();
        let owner = &mut self.owners[at];
        owner.tags += 1;
        let tag = ((at as u64 + 1) << 48) | owner.tags;
        if self.phase == Phase::Work
            && let Some(op) = self.loggers.as_ref().and_then(|loggers| loggers.next_op(at, tag, now))
        {
            return op;
        }
        let (home, tree) = (owner.oracle.home.clone(), owner.oracle.tree());
        let lost_home = !tree.contains_key(&home);
        if (owner.doubt && (self.phase == Phase::Heal || !self.scene.one_in(4))) || lost_home {
            return Op::Mkdir { path: home, parents: true };
        }
        next_op(&self.scene.random, &home, tree, tag)
    }

    fn client_finished(&mut self, at: usize, finished: Finished) {
        self.note_disk_faults();
        let owner = &mut self.owners[at];
        owner.done += 1;
        let home = owner.verifying.take().unwrap_or(usize::MAX);
        let of_log = is_log(finished.op.path()).then(|| self.log_finished(at, &finished));
        let Finished { op, outcome, begun, ended, fence } = finished;
        let owner = &mut self.owners[at];
        let verdict = if let Some(verdict) = of_log {
            verdict
        } else if op.path().starts_with("/shared/") {
            self.shared_finished(at, &op, &outcome, begun, ended)
        } else {
            let oracle = owner.home(home);
            oracle.settled = (0, 0);
            let verdict = oracle.observe(&op, &outcome, &fence);
            if !op.manner().is_some_and(|manner| manner.sync) {
                oracle.left_unsynced(&op, &outcome, &dark_since(&self.power_cuts, begun));
            }
            let (happened, did_not) = oracle.settled;
            (0..happened).for_each(|_| self.scene.hit(Rare::UnknownHappened));
            (0..did_not).for_each(|_| self.scene.hit(Rare::UnknownDidNotHappen));
            verdict
        };
        if let Err(what) = verdict {
            self.scene.violation(format!("client {at}: {what}"));
        }
        let owner = &mut self.owners[at];
        owner.doubt = owner.oracle.in_doubt();
        if ended.is_none() {
            // A new life begins in a new home: late calls of the old one may still change that.
            let next = Oracle::new(format!("/c{at}.{}", self.clients[at].life()));
            owner.former.push(std::mem::replace(&mut owner.oracle, next));
            owner.doubt = false;
            return;
        }
        if self.phase == Phase::Verify
            && let Outcome::Failed(code) = outcome
            && !matches!(code, ErrorCode::NotFound | ErrorCode::NotADirectory | ErrorCode::IsADirectory)
        {
            self.scene.violation(format!("client {at}: after all faults were lifted, {op:?} failed: {code:?}"));
        }
        let slowly = if self.phase == Phase::Heal { 3_000 } else { 0 };
        let think = millis(slowly + self.scene.below(if self.scene.one_in(10) { 400 } else { 30 }));
        let life = self.clients[at].life();
        self.scene.wake(Address::Client(at), life, think, Timer::Tick);
    }

    fn shared_finished(
        &mut self,
        at: usize,
        op: &Op,
        outcome: &Outcome,
        begun: Moment,
        ended: Option<Moment>,
    ) -> Result<(), String> {
        match (op, outcome) {
            (Op::Write { path, tag, .. }, _) => {
                self.owners[at].shared_write = None;
                match outcome {
                    Outcome::Done => self.registers.wrote(path, *tag, begun, ended),
                    Outcome::Unknown => self.registers.wrote(path, *tag, begun, None),
                    _ => {}
                }
                Ok(())
            }
            (Op::Read { path, .. }, Outcome::Bytes { len_bytes, bytes, .. }) => {
                let Some(tag) = tag_of(&bytes.0).filter(|_| bytes.0.len() as u64 == *len_bytes) else {
                    return Err(format!("{path} is no whole file: {len_bytes} bytes, {} read", bytes.0.len()));
                };
                self.check_shared(path, Some(tag), begun, ended)
            }
            (Op::Read { path, .. }, Outcome::Failed(ErrorCode::NotFound)) => {
                self.check_shared(path, None, begun, ended)
            }
            _ => Ok(()),
        }
    }

    fn check_shared(
        &mut self,
        path: &str,
        tag: Option<u64>,
        begun: Moment,
        ended: Option<Moment>,
    ) -> Result<(), String> {
        let under_way: Vec<(u64, Moment)> = self
            .owners
            .iter()
            .filter_map(|owner| owner.shared_write.as_ref())
            .filter(|(other, ..)| other == path)
            .map(|(_, tag, begun)| (*tag, *begun))
            .collect();
        self.registers.read(path, tag, (begun, ended.unwrap_or(begun)), &under_way)
    }

    /// Lets every client look at everything that it knows of.
    pub fn begin_verification(&mut self) {
        self.phase = Phase::Verify;
        for at in 0..self.clients.len() {
            let owner = &mut self.owners[at];
            for number in 0..=owner.former.len() {
                let oracle = owner.home(number);
                let (home, paths) = (oracle.home.clone(), oracle.paths());
                owner.verify.push_back((number, Op::Stat { path: home }));
                for (path, (dir, file)) in paths {
                    if dir {
                        owner.verify.push_back((number, Op::List { path: path.clone() }));
                    }
                    if file {
                        owner.verify.push_back((number, Op::Read { path, part: (0, 1000) }));
                    }
                }
            }
            for number in 0..SHARED {
                owner.verify.push_back((usize::MAX, Op::Read { path: shared_path(number), part: (0, 1000) }));
            }
            for number in (0..LOGS).filter(|_| self.loggers.is_some()) {
                owner.verify.push_back((usize::MAX, Op::Read { path: log_path(number), part: (0, 1000) }));
            }
            let life = self.clients[at].life();
            self.scene.wake(Address::Client(at), life, millis(1), Timer::Tick);
        }
    }
}
