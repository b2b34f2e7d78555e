//! A disk that hangs: the connections that need it stand still, all others go on.
//!
//! ```text
//!   part of a connection ─▶ machine ─▶ a call of the disk hung? ─┬─ no    what it says goes out at once
//!                                                                └─ yes   when the disk goes on; the connection waits
//!                  the volume's calls ─▶ watch ─▶ slow, away; the connection is cut, and its peers go elsewhere
//! ```
//!
//! There is one thread, so that the call itself comes back at once. What is done on the disk is done, as it would be in the
//! end; nobody hears of it before.

use std::path::Path;
use std::sync::Arc;

use base::clock::Moment;
use base::disk::{Calls, Cut, DiskFault, DiskFaultKind, Stay, with_cut};
use datanode::agent::{Command, Task};
use datanode::store::VolumeState;
use parking_lot::Mutex;
use proto::ids::{BlockId, StorageId};

use super::DatanodeHost;
use crate::coverage::Rare;
use crate::message::{Address, Part};
use crate::network::StreamId;
use crate::scene::{Said, Scene};

/// A volume that hangs.
#[derive(Debug)]
pub(super) struct Hang {
    storage: StorageId,
    calls: Arc<Calls>,
    until: Moment,
    waiting: Vec<Waiting>,
    /// Connections whose waiting was cut.
    cut: Arc<Mutex<Vec<StreamId>>>,
}

/// A connection that waits for the disk.
#[derive(Debug)]
struct Waiting {
    stream: StreamId,
    said: Vec<Said>,
    /// What came meanwhile, on it and on those that belong to it.
    parts: Vec<(Address, StreamId, Part)>,
    call: Stay,
}

impl DatanodeHost {
    /// A volume does not answer from now on.
    pub(crate) fn begin_hang(&mut self, volume: usize, until: Moment) {
        let dir = self.dirs().into_iter().nth(volume);
        let (Some(running), Some(dir)) = (&mut self.running, dir) else { return };
        let store = running.node.store();
        let known = store.health().into_iter().find(|(_, at, ..)| *at == dir).map(|(storage, ..)| storage);
        let Some((storage, calls)) = known.and_then(|storage| Some((storage.clone(), store.calls(&storage)?))) else {
            return;
        };
        running.hang = Some(Hang { storage, calls, until, waiting: Vec::new(), cut: Arc::default() });
        self.disk.count_waits();
        self.disk.inject(DiskFault::lasting(DiskFaultKind::Hang).on(&format!("{}/", dir.display())));
        self.faulty = true;
    }
    /// It goes on; void if the node has died since.
    pub(crate) fn end_hang(&mut self, life: u64, scene: &mut Scene) {
        let running = self.running.as_mut().filter(|_| self.life == life);
        let Some(hang) = running.and_then(|running| running.hang.take()) else { return };
        self.disk.clear_faults();
        self.faulty = false;
        for Waiting { said, parts, call, .. } in hang.waiting {
            drop(call);
            scene.say_held(said);
            for (from, stream, part) in parts {
                self.part(from, stream, part, scene);
            }
        }
    }
    /// Does one of its volumes hang?
    pub(super) fn hangs(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.hang.is_some())
    }

    /// A part of a connection while a volume hangs.
    pub(super) fn part_of_hung(&mut self, from: Address, stream: StreamId, part: Part, scene: &mut Scene) {
        let Some(running) = &mut self.running else { return };
        // Acks of a pipeline go up only behind what was written before.
        let whole = running.downs.get(&stream).copied().unwrap_or(stream);
        let waiting = running.hang.iter_mut().flat_map(|hang| &mut hang.waiting).find(|one| one.stream == whole);
        if let Some(waiting) = waiting {
            return waiting.parts.push((from, stream, part));
        }
        let other = self.disk.take_waits();
        scene.hold();
        self.part(from, stream, part, scene);
        let said = scene.take_held();
        let waits = self.disk.take_waits();
        match self.running.as_mut().and_then(|running| running.hang.as_mut()).filter(|_| !waits.is_zero()) {
            Some(hang) => {
                scene.hit(Rare::DiskHung);
                scene.say(format_args!("{stream:?} waits for a disk, after {other:?} that nobody waited for"));
                hang.waits(whole, said);
            }
            None => scene.say_held(said),
        }
    }

    /// Has a command to do with the volume that hangs? Then until when it waits for that.
    pub(super) fn command_waits(&self, command: &Command) -> Option<Moment> {
        let running = self.running.as_ref()?;
        let hang = running.hang.as_ref()?;
        let ids: Vec<i64> = match &command.task {
            Task::Delete(what) => what.blocks.iter().map(|block| block.id).collect(),
            Task::Verify(what) => what.blocks.iter().map(|block| block.id).collect(),
            Task::Prepare(what) => what.block.iter().map(|block| block.id).collect(),
            Task::Finish(what) => what.block.iter().map(|block| block.id).collect(),
            Task::Copy(what) => what.block.iter().map(|block| block.id).collect(),
        };
        let storage = |id: i64| running.node.store().replica(BlockId::from_raw(id)).map(|(storage, _)| storage);
        ids.into_iter().any(|id| storage(id).as_ref() == Some(&hang.storage)).then_some(hang.until)
    }
    /// Until when the scrubber of a volume waits for it.
    pub(super) fn scrub_waits(&self, storage: &StorageId) -> Option<Moment> {
        let hang = self.running.as_ref()?.hang.as_ref()?;
        (hang.storage == *storage).then_some(hang.until)
    }

    /// Looks after its volumes without waiting for one, as the server does several times a second.
    pub(super) fn look_at_health(&mut self, scene: &mut Scene) {
        let now = scene.now();
        let Some(running) = &mut self.running else { return };
        let store = running.node.store();
        let before = store.health();
        store.watch(now);
        for (storage, ..) in &before {
            store.check_again(storage);
        }
        for ((_, _, was, _), (_, _, is, _)) in before.iter().zip(&store.health()) {
            match (was, is) {
                (VolumeState::Working | VolumeState::Slow, VolumeState::Hung) => scene.hit(Rare::VolumeAway),
                (VolumeState::Hung, VolumeState::Working) => scene.hit(Rare::VolumeBack),
                _ => {}
            }
        }
        let cut = running.hang.iter().flat_map(|hang| std::mem::take(&mut *hang.cut.lock()));
        for stream in cut.collect::<Vec<_>>() {
            scene.hit(Rare::HangCut);
            scene.lose(stream);
        }
    }
}

impl Hang {
    /// A connection waits from now on.
    fn waits(&mut self, stream: StreamId, said: Vec<Said>) {
        let cut = Arc::clone(&self.cut);
        let cut = Cut::new(move || cut.lock().push(stream));
        let call = with_cut(cut, || self.calls.stay("hang", Arc::from(Path::new("/dn"))));
        self.waiting.push(Waiting { stream, said, parts: Vec::new(), call });
    }
}
