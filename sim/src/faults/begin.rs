//! How each kind of fault begins.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base::crash::{CrashPoint, Side};
use base::disk::{Disk, DiskFault, DiskFaultKind};
use namenode::namespace::BlockState;
use proto::ids::{BlockId, GenerationStamp};
use transfer::{BlockRef, ChunkFormat};

use super::{Kind, Undo};
use crate::cluster::{Cluster, Phase};
use crate::coverage::Rare;
use crate::hosts::datanode::block_folder;
use crate::hosts::namenode::pool_id;
use crate::hosts::{Death, NamenodeHost, millis};
use crate::message::{Address, Event};
use crate::network::Noise;
use crate::planted::Planted;

/// Durable steps of namenodes at which they are let die.
const NAMENODE_STEPS: &[CrashPoint] = &[
    CrashPoint::LogSync,
    CrashPoint::LogSync,
    CrashPoint::SegmentCreate,
    CrashPoint::SegmentRemove,
    CrashPoint::VoteSync,
    CrashPoint::ImageCreate,
    CrashPoint::ImageSync,
    CrashPoint::ImageRename,
    CrashPoint::ImageRemove,
    CrashPoint::NamenodeDirSync,
];
/// Durable steps of datanodes at which they are let die.
const DATANODE_STEPS: &[CrashPoint] = &[
    CrashPoint::BlockCreate,
    CrashPoint::MetaCreate,
    CrashPoint::BlockSync,
    CrashPoint::BlockSync,
    CrashPoint::MetaSync,
    CrashPoint::BlockDirSync,
    CrashPoint::BlockRemove,
    CrashPoint::MetaRemove,
    CrashPoint::TermSync,
];

impl Cluster {
    /// The next fault.
    pub fn begin_fault(&mut self) {
        if self.phase != Phase::Work {
            return;
        }
        let kind = self.pick_kind();
        if self.begin_kind(kind) {
            self.scene.say(format_args!("FAULT {kind:?}"));
            self.scene.trace.mix(&[kind as u64]);
            self.faults.count += 1;
            self.faults.kinds.insert(kind);
        }
        self.schedule_fault();
    }

    fn pick_kind(&self) -> Kind {
        match self.scene.below(100) {
            0..10 => Kind::Kill,
            10..20 => Kind::PowerCut,
            20..32 => Kind::DieAtStep,
            32..38 => Kind::KillLeader,
            38..40 => Kind::AllLosePower,
            40..47 => Kind::CutOneWay,
            47..53 => Kind::Isolate,
            53..62 => Kind::Noise,
            62..67 => Kind::DiskError,
            67..70 => Kind::DatanodeFull,
            70..73 => Kind::NamenodeFull,
            73..76 => Kind::LogError,
            76..80 => Kind::ReplicaRot,
            80..83 => Kind::LogRot,
            83..87 => Kind::StaleReplica,
            87..91 => Kind::ClientDies,
            91..95 => Kind::Freeze,
            95..97 => Kind::ClockJump,
            _ => Kind::SlowDisk,
        }
    }

    fn begin_kind(&mut self, kind: Kind) -> bool {
        match kind {
            Kind::Kill => self.take_down(Death::Kill),
            Kind::PowerCut => self.take_down(Death::PowerCut),
            Kind::DieAtStep => self.arm(),
            Kind::KillLeader => self.kill_leader(),
            Kind::AllLosePower => self.all_lose_power(),
            Kind::CutOneWay => self.cut_one_way(),
            Kind::Isolate => self.isolate(),
            Kind::Noise => self.make_noise(),
            Kind::DiskError => self.spoil_disk(),
            Kind::DatanodeFull => self.fill(false),
            Kind::NamenodeFull => self.fill(true),
            Kind::LogError => self.spoil_log(),
            Kind::ReplicaRot => self.rot_replica(),
            Kind::LogRot => self.rot_log(),
            Kind::StaleReplica => self.bring_stale_replica(),
            Kind::ClientDies => self.kill_client(),
            Kind::Freeze => self.freeze(),
            Kind::ClockJump => self.jump_clock(),
            Kind::SlowDisk => self.slow_down(),
            // It has randomness of its own, and is begun by whoever has that.
            Kind::HangDisk => false,
        }
    }

    fn for_a_while(&self) -> Duration {
        millis(500 + self.scene.below(9_000))
    }
    fn some_namenode(&self) -> usize {
        self.scene.below(self.namenodes.len() as u64) as usize
    }
    fn some_datanode(&self) -> usize {
        self.scene.below(self.datanodes.len() as u64) as usize
    }
    fn some_server(&self) -> Address {
        if self.scene.one_in(3) {
            Address::Namenode(self.some_namenode())
        } else {
            Address::Datanode(self.some_datanode())
        }
    }
    /// May one more of its kind be down? Faults go on while work goes on.
    fn can_spare(&self, host: Address) -> bool {
        let down = match host {
            Address::Namenode(_) => self.namenodes.iter().filter(|host| !host.is_up()).count(),
            _ => self.datanodes.iter().filter(|host| !host.is_up()).count(),
        };
        self.is_up(host) && down < 2
    }

    fn take_down(&mut self, death: Death) -> bool {
        let host = self.some_server();
        if !self.can_spare(host) {
            return false;
        }
        self.kill(host, death);
        // Now and then for so long that a datanode counts as dead.
        let long = matches!(host, Address::Datanode(_)) && self.scene.one_in(3);
        let wait = if long { millis(18_000 + self.scene.below(10_000)) } else { self.for_a_while() };
        self.scene.after(wait, Event::Restart(host));
        true
    }

    fn arm(&mut self) -> bool {
        let host = self.some_server();
        if !self.can_spare(host) {
            return false;
        }
        let side = if self.scene.one_in(2) { Side::Before } else { Side::After };
        let nth = 1 + self.scene.below(3);
        match host {
            Address::Namenode(at) => {
                let step = NAMENODE_STEPS[self.scene.below(NAMENODE_STEPS.len() as u64) as usize];
                self.namenodes[at].die_at(step, side, nth);
            }
            Address::Datanode(at) => {
                let step = match self.datanodes[at].scrubs && self.scene.one_in(10) {
                    true => CrashPoint::ScrubSync,
                    false => DATANODE_STEPS[self.scene.below(DATANODE_STEPS.len() as u64) as usize],
                };
                self.datanodes[at].die_at(step, side, nth);
            }
            Address::Client(_) => {}
        }
        self.scene.after(millis(15_000), Event::FaultOver(Undo::Disarm(host)));
        true
    }

    fn leader(&self) -> Option<usize> {
        self.namenodes.iter().position(|host| host.role().is_some_and(|role| role.serving))
    }
    fn kill_leader(&mut self) -> bool {
        let Some(at) = self.leader() else { return false };
        let death = if self.scene.one_in(2) { Death::Kill } else { Death::PowerCut };
        self.kill(Address::Namenode(at), death);
        let wait = millis(100 + self.scene.below(4_000));
        self.scene.after(wait, Event::Restart(Address::Namenode(at)));
        true
    }
    fn all_lose_power(&mut self) -> bool {
        self.scene.hit(Rare::AllLostPower);
        for host in self.servers() {
            self.kill(host, Death::PowerCut);
            let wait = millis(100 + self.scene.below(3_000));
            self.scene.after(wait, Event::Restart(host));
        }
        true
    }

    fn some_host(&self) -> Address {
        match self.scene.below(4) {
            0 => Address::Client(self.scene.below(self.clients.len() as u64) as usize),
            _ => self.some_server(),
        }
    }
    fn cut(&mut self, links: Vec<(Address, Address)>) {
        links.iter().for_each(|(from, to)| self.scene.network.cut(*from, *to));
        let wait = self.for_a_while();
        self.scene.after(wait, Event::FaultOver(Undo::Mend(links)));
    }
    fn cut_one_way(&mut self) -> bool {
        let (from, to) = (self.some_host(), self.some_host());
        if from == to {
            return false;
        }
        self.scene.hit(Rare::CutOneWay);
        self.cut(vec![(from, to)]);
        true
    }
    fn isolate(&mut self) -> bool {
        let host = self.some_server();
        let one_way = self.scene.one_in(3);
        let clients = (0..self.clients.len()).map(Address::Client);
        let others: Vec<Address> = self.servers().into_iter().chain(clients).filter(|other| *other != host).collect();
        let there = others.iter().map(|other| (host, *other));
        let back = others.iter().map(|other| (*other, host));
        let links = if one_way { back.collect() } else { there.chain(back).collect() };
        self.cut(links);
        true
    }
    fn make_noise(&mut self) -> bool {
        let noise = Noise {
            lost: self.scene.below(80),
            twice: self.scene.below(120),
            late: self.scene.below(250),
            late_by: millis(20 + self.scene.below(3_000)),
            damaged: if self.scene.one_in(3) { self.scene.below(20) } else { 0 },
        };
        self.scene.network.set_noise(noise);
        let wait = self.for_a_while();
        self.scene.after(wait, Event::FaultOver(Undo::Quiet));
        true
    }

    fn spoil_disk(&mut self) -> bool {
        let at = self.some_datanode();
        let failed = |host: &crate::hosts::DatanodeHost| host.faulty || !host.is_up();
        if self.datanodes.iter().filter(|host| failed(host)).count() >= 2 || failed(&self.datanodes[at]) {
            return false;
        }
        let kind = match self.scene.below(3) {
            0 => DiskFaultKind::SyncError,
            1 => DiskFaultKind::WriteError,
            _ => DiskFaultKind::ReadError,
        };
        let fault = DiskFault::once(kind).on(&block_folder(0)).after(self.scene.below(6));
        self.datanodes[at].disk.inject(fault);
        self.datanodes[at].faulty = true;
        // Someone looks after it later.
        let wait = millis(8_000 + self.scene.below(20_000));
        self.scene.after(wait, Event::Repair(at));
        true
    }
    fn fill(&mut self, namenode: bool) -> bool {
        let host =
            if namenode { Address::Namenode(self.some_namenode()) } else { Address::Datanode(self.some_datanode()) };
        if !self.is_up(host) {
            return false;
        }
        self.set_room(host, true);
        let wait = self.for_a_while();
        self.scene.after(wait, Event::FaultOver(Undo::Room(host)));
        true
    }
    fn spoil_log(&mut self) -> bool {
        let at = self.some_namenode();
        if !self.can_spare(Address::Namenode(at)) {
            return false;
        }
        let kind = if self.scene.one_in(2) { DiskFaultKind::SyncError } else { DiskFaultKind::WriteError };
        // A segment is known by the name that it was created under.
        self.namenodes[at].disk.inject(DiskFault::once(kind).on("/log.new").after(self.scene.below(4)));
        if self.scene.one_in(2) {
            // What a failed sync left in the page cache alone must not be believed: a power cut takes it.
            let wait = millis(1_000 + self.scene.below(3_000));
            self.scene.after(wait, Event::FaultOver(Undo::LosePower(at)));
        }
        true
    }

    /// A committed block with its holders, from the member that knows most.
    fn some_block(&self) -> Option<(BlockId, BlockState, Vec<usize>)> {
        let running = self.namenodes.iter().filter_map(NamenodeHost::shared);
        let newest = running.max_by_key(|shared| shared.namespace.read().applied().0)?;
        let namespace = newest.namespace.read();
        let blocks = namespace.blocks_after(None, 100_000);
        let block = *blocks.get(self.scene.below(blocks.len() as u64) as usize)?;
        let view = namespace.block(block).filter(|view| view.committed)?;
        let holds = |(at, host): (usize, &crate::hosts::DatanodeHost)| host.holds(block, view.stamp).then_some(at);
        let holders = self.datanodes.iter().enumerate().filter_map(holds).collect();
        Some((block, view, holders))
    }
    fn rot_replica(&mut self) -> bool {
        let Some((block, state, holders)) = self.some_block() else { return false };
        let already = holders.iter().any(|at| self.checks.rotten.contains(&(*at, block)));
        // Of a file with one copy the others are surplus, and it is chance which of them stays.
        if already || holders.len() < 3 || state.replication < 2 {
            return false;
        }
        let at = holders[self.scene.below(holders.len() as u64) as usize];
        let Some(path) = self.data_file(at, block) else { return false };
        let disk = &self.datanodes[at].disk;
        let len = disk.info(&path).ok().flatten().map_or(0, |info| info.len_bytes);
        let (offset, bit) = (self.scene.below(len), self.scene.below(8) as u8);
        if len == 0 || disk.flip_bit(&path, offset, bit).is_err() {
            return false;
        }
        self.checks.rotten.insert((at, block));
        if let Some(byte) = self.byte_of(at, block, offset) {
            self.checks.flips.insert((at, block), (offset, byte));
        }
        self.scene.say(format_args!("byte {offset} of {block} at datanode {at} rots"));
        true
    }
    /// The data of a block at a datanode.
    fn data_file(&self, at: usize, block: BlockId) -> Option<PathBuf> {
        let name = format!("/{block}");
        let mut files = self.datanodes[at].disk.files().into_iter();
        files.find(|path| path.contains("/current/") && path.ends_with(&name)).map(PathBuf::from)
    }
    fn byte_of(&self, at: usize, block: BlockId, offset: u64) -> Option<u8> {
        let path = self.data_file(at, block)?;
        let file = self.datanodes[at].disk.open(&path, base::disk::OpenMode::Read).ok()?;
        let mut byte = [0];
        file.read_medium_at(&mut byte, offset).ok().map(|()| byte[0])
    }
    /// A datanode has started: what was removed there is back if its folder was not synced before a power cut, and it is as
    /// rotten as it was.
    pub(crate) fn look_for_old_rot(&mut self, at: usize) {
        let flips: Vec<_> = self.checks.flips.iter().filter(|((host, _), _)| *host == at).collect();
        let back = |(key, (offset, byte)): ((usize, BlockId), (u64, u8))| {
            (self.byte_of(key.0, key.1, offset) == Some(byte)).then_some(key)
        };
        let back: Vec<_> = flips.into_iter().filter_map(|(key, flip)| back((*key, *flip))).collect();
        self.checks.rotten.extend(back);
    }
    /// A disk from before an append comes back: a whole replica of an older stamp, with other bytes.
    fn bring_stale_replica(&mut self) -> bool {
        let Some((block, BlockState { stamp, len_bytes, .. }, holders)) = self.some_block() else { return false };
        let at = self.some_datanode();
        if holders.contains(&at) || holders.len() < 2 || len_bytes == 0 {
            return false;
        }
        let Some(store) = self.datanodes[at].store() else { return false };
        let old = GenerationStamp::from_raw(stamp.raw() - 1);
        let named = BlockRef { pool: pool_id(), id: block, stamp: old, len_bytes };
        let format = ChunkFormat::CRC32C_512;
        let Ok(mut writer) = store.create(&named, None, format) else { return false };
        let bytes = vec![0xa5; len_bytes as usize];
        writer.write(0, &bytes, &format.compute(&bytes)).is_ok() && writer.finalise().is_ok()
    }

    /// A namenode loses power, and bits of what it had synced rot before it comes back.
    fn rot_log(&mut self) -> bool {
        let at = self.some_namenode();
        if !self.can_spare(Address::Namenode(at)) {
            return false;
        }
        self.kill(Address::Namenode(at), Death::PowerCut);
        self.scene.after(millis(500), Event::Restart(Address::Namenode(at)));
        let disk = self.namenodes[at].disk.clone();
        let logs: Vec<String> = disk.files().into_iter().filter(|path| path.contains("/log-")).collect();
        let used = |path: &String| {
            let bytes = base::disk::read_file(&disk, Path::new(path), 1 << 20).unwrap_or_default();
            bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64
        };
        let Some((path, len)) = logs.iter().map(|path| (path, used(path))).rfind(|(_, len)| *len > 2000) else {
            return true;
        };
        // In the first half: what is there was synced long ago.
        let offset = 64 + self.scene.below(len / 2);
        let bit = self.scene.below(8) as u8;
        let path = PathBuf::from(path);
        if self.planted() == Some(Planted::RotReadAsEnd) {
            self.cut_silently(at, &path, offset);
        } else {
            self.namenodes[at].flip(path, offset, bit);
        }
        true
    }
    /// The planted bug: damage is taken for the end of the log.
    fn cut_silently(&mut self, at: usize, path: &Path, offset: u64) {
        let disk = self.namenodes[at].disk.shared();
        let cut = disk.open(path, base::disk::OpenMode::ReadWrite).and_then(|file| {
            let len = file.len_bytes()?;
            file.write_at(&vec![0; (len - offset) as usize], offset)?;
            file.sync(CrashPoint::LogTruncate)
        });
        if let Err(error) = cut {
            self.scene.say(format_args!("the planted bug could not cut the log: {error}"));
        }
    }

    fn kill_client(&mut self) -> bool {
        let at = self.scene.below(self.clients.len() as u64) as usize;
        if self.clients[at].is_writing() {
            self.scene.hit(Rare::ClientDied);
        }
        self.kill(Address::Client(at), Death::Kill);
        true
    }
    fn freeze(&mut self) -> bool {
        // A client that writes, for longer than its lease, if there is one.
        let writes =
            self.clients.iter().position(crate::hosts::ClientHost::is_writing).filter(|_| self.scene.one_in(2));
        let (host, most) = match writes {
            Some(client) => (Address::Client(client), 40_000),
            None => (self.some_host(), 20_000),
        };
        if !self.is_up(host) {
            return false;
        }
        self.scene.hit(Rare::Frozen);
        let until = self.scene.now().plus(millis(1_000 + self.scene.below(most)));
        self.frozen.push((host, until));
        true
    }
    fn jump_clock(&mut self) -> bool {
        self.scene.hit(Rare::ClockJumped);
        let hours = self.scene.below(7) as i64 - 3;
        let error = hours * 3_600_000_000_000;
        match self.some_server() {
            Address::Namenode(at) => self.namenodes[at].wall_error_ns = error,
            Address::Datanode(at) => self.datanodes[at].wall_error_ns = error,
            Address::Client(_) => {}
        }
        true
    }
    fn slow_down(&mut self) -> bool {
        let at = self.some_namenode();
        self.namenodes[at].slow = millis(20 + self.scene.below(1_500));
        let wait = self.for_a_while();
        self.scene.after(wait, Event::FaultOver(Undo::Fast(at)));
        true
    }
}
