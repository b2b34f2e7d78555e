//! What goes wrong, when, and how it ends.

mod begin;
mod hang;

use std::collections::BTreeSet;

use crate::cluster::{Cluster, Phase};
use crate::hosts::{Death, millis};
use crate::message::{Address, Event};
use crate::network::Noise;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A server's process is killed.
    Kill,
    /// A server's machine loses power.
    PowerCut,
    /// A server dies in the middle of a durable step.
    DieAtStep,
    /// The leader dies.
    KillLeader,
    /// Everything loses power at once.
    AllLosePower,
    /// A link is cut one way.
    CutOneWay,
    /// A server is cut off from everyone.
    Isolate,
    /// Messages are lost, late, repeated, out of order, damaged.
    Noise,
    /// A datanode's disk fails a write or a sync.
    DiskError,
    /// A datanode's disk is full.
    DatanodeFull,
    /// A namenode's disk is full.
    NamenodeFull,
    /// A namenode's log cannot be synced.
    LogError,
    /// Bits of a replica rot.
    ReplicaRot,
    /// Bits of a namenode's log rot while it is down.
    LogRot,
    /// A replica of an older stamp turns up.
    StaleReplica,
    /// A client dies.
    ClientDies,
    /// A host is frozen for a while.
    Freeze,
    /// A wall clock jumps.
    ClockJump,
    /// A namenode's disk is slow.
    SlowDisk,
    /// A datanode's disk does not answer.
    HangDisk,
}

/// How a fault ends.
#[derive(Clone, Debug)]
pub enum Undo {
    /// Links are mended.
    Mend(Vec<(Address, Address)>),
    /// The network is quiet again.
    Quiet,
    /// There is room again.
    Room(Address),
    /// A step at which a host was to die was not reached.
    Disarm(Address),
    /// The disk is as fast as before.
    Fast(usize),
    /// A namenode whose log could not be synced loses power as well.
    LosePower(usize),
}

/// The faults of a run.
#[derive(Debug, Default)]
pub struct Faults {
    /// How many began.
    pub count: u32,
    /// Their kinds.
    pub kinds: BTreeSet<Kind>,
}

impl Cluster {
    /// Lets the first fault come.
    pub fn schedule_fault(&mut self) {
        let wait = millis(400 + self.scene.below(2200));
        self.scene.after(wait, Event::Fault);
    }

    /// A fault ends.
    pub fn end_fault(&mut self, undo: Undo) {
        if self.phase != Phase::Work {
            // Everything was lifted already.
            return;
        }
        match undo {
            Undo::Mend(links) => links.into_iter().for_each(|(from, to)| self.scene.network.mend(from, to)),
            Undo::Quiet => self.scene.network.set_noise(Noise::default()),
            Undo::Room(host) => self.set_room(host, false),
            Undo::Disarm(host) => self.disarm(host),
            Undo::LosePower(at) => {
                self.kill(Address::Namenode(at), Death::PowerCut);
                self.scene.after(millis(500), Event::Restart(Address::Namenode(at)));
            }
            Undo::Fast(at) => self.namenodes[at].slow = std::time::Duration::ZERO,
        }
    }

    pub(crate) fn set_room(&self, host: Address, full: bool) {
        match host {
            Address::Namenode(at) => self.namenodes[at].set_room(full),
            Address::Datanode(at) => self.datanodes[at].set_room(full),
            Address::Client(_) => {}
        }
    }
    fn disarm(&self, host: Address) {
        use base::crash::{CrashPoint, Side};
        match host {
            Address::Namenode(at) => self.namenodes[at].die_at(CrashPoint::LogSync, Side::Before, u64::MAX),
            Address::Datanode(at) => self.datanodes[at].die_at(CrashPoint::LogSync, Side::Before, u64::MAX),
            Address::Client(_) => {}
        }
    }

    /// All faults end: links, disks, clocks; what is down comes up.
    pub fn lift_all_faults(&mut self) {
        self.phase = Phase::Heal;
        self.scene.network.heal();
        self.frozen.clear();
        for host in self.servers() {
            self.disarm(host);
            self.set_room(host, false);
        }
        for at in 0..self.namenodes.len() {
            self.namenodes[at].disk.clear_faults();
            self.namenodes[at].slow = std::time::Duration::ZERO;
            if !self.namenodes[at].is_up() {
                self.namenodes[at].mend_rot(&mut self.scene);
                self.restart(Address::Namenode(at));
            }
        }
        for at in 0..self.datanodes.len() {
            let life = self.datanodes[at].life();
            self.datanodes[at].end_hang(life, &mut self.scene);
            self.datanodes[at].disk.clear_faults();
            // A volume that failed is out of service, and a replica that could not be read is not served, until the
            // node starts again.
            let failed = self.datanodes[at].store().is_some_and(|store| store.counts().volumes_failed > 0);
            if failed || self.datanodes[at].faulty {
                self.kill(Address::Datanode(at), Death::Kill);
            }
            self.restart(Address::Datanode(at));
        }
    }
}
