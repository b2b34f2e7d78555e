//! A disk in memory that tells the durable from the volatile, for the simulation and for tests.
//!
//! ```text
//!             live (what the process sees)          durable (what a power cut leaves)
//!   files     pages of 4 KiB ───────── sync ──────▶ pages of 4 KiB
//!   names     tree of directories ──── sync_dir ──▶ tree of directories
//!
//!   power_cut(randomness): durable state, plus any part of what was not synced: whole writes, single
//!   sectors of 512 bytes of them, lengths without contents, names without their neighbours.
//!   process_died(): the live state stays (the page cache survives a kill), open files and locks do not.
//! ```
//!
//! Faults are injected with [`MemDisk::inject`], room is bounded per device with [`MemDisk::add_device`], and a
//! process can be stopped at a named durable step with [`MemDisk::stop_at`]. Everything is deterministic:
//! the same calls and the same generator leave the same bytes.
//!
//! A delay or a hang keeps the calling thread, as a real disk does. Where there is only one thread, [`MemDisk::count_waits`]
//! adds up what the calls would have taken instead.

mod contents;
mod names;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use self::contents::Contents;
use self::names::{Child, Names, parts_of};
use super::faults::{DiskCall, DiskFault, Faults, Verdict, torn};
use super::{DirEntry, Disk, DiskFile, DiskLock, FileInfo, OpenMode, Space};
use crate::crash::{CrashPoint, Side};
use crate::random::Randomness;

/// The unit in which a disk writes atomically: a torn write keeps or loses whole sectors.
pub const SECTOR_BYTES: usize = 512;

/// What a hang counts as where nobody can wait for its end.
pub const HANG: Duration = Duration::from_secs(3600);

/// A shared disk in memory. Clones are handles of the same disk.
#[derive(Clone, Debug)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
    /// Told when faults are taken away or a life ends: hung calls look again.
    released: Arc<Condvar>,
}

#[derive(Debug)]
struct Device {
    prefix: Vec<String>,
    capacity_bytes: u64,
    used_bytes: u64,
}

#[derive(Debug)]
struct Inode {
    contents: Contents,
    /// For fault rules and messages: where the file was created.
    path: String,
    device: usize,
    links: u32,
    handles: u32,
}

#[derive(Debug)]
struct State {
    names: Names,
    inodes: Vec<Option<Inode>>,
    devices: Vec<Device>,
    faults: Faults,
    /// What delays and hangs would have taken, if they are only counted.
    waits: Option<Duration>,
    /// Raised when the process dies: handles and locks of an older life are void.
    life: u64,
    stop: Option<(CrashPoint, Side, u64)>,
    stopped: bool,
    locks: Vec<String>,
    operations: u64,
    trace: u64,
}

fn died() -> io::Error {
    io::Error::other("the process died here (simulated)")
}

impl Default for MemDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl MemDisk {
    /// An empty disk without bounds, with a root directory and no faults.
    #[must_use]
    pub fn new() -> Self {
        let device = Device { prefix: Vec::new(), capacity_bytes: 1 << 50, used_bytes: 0 };
        let state = State {
            names: Names::new(),
            inodes: Vec::new(),
            devices: vec![device],
            faults: Faults::default(),
            waits: None,
            life: 0,
            stop: None,
            stopped: false,
            locks: Vec::new(),
            operations: 0,
            trace: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), released: Arc::new(Condvar::new()) }
    }

    /// The disk behind the seam.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Makes everything below `prefix` a device with room of its own, or changes its room. Files that exist
    /// already stay on the device they were created on.
    pub fn add_device(&self, prefix: &Path, capacity_bytes: u64) {
        let mut state = self.state.lock();
        let prefix = parts_of(prefix);
        match state.devices.iter_mut().find(|device| device.prefix == prefix) {
            Some(device) => device.capacity_bytes = capacity_bytes,
            None => state.devices.push(Device { prefix, capacity_bytes, used_bytes: 0 }),
        }
    }

    /// Adds a fault; several may wait at once.
    pub fn inject(&self, fault: DiskFault) {
        self.state.lock().faults.push(fault);
    }

    /// Takes all waiting and lasting faults away. Calls that hang go on, and go well.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
        self.released.notify_all();
    }

    /// From now on no call waits: what delays would have taken is added up, and a hang counts as [`HANG`] and goes well.
    pub fn count_waits(&self) {
        self.state.lock().waits.get_or_insert_default();
    }

    /// What the calls since the last look would have taken because of delays and hangs, if they are counted.
    #[must_use]
    pub fn take_waits(&self) -> Duration {
        self.state.lock().waits.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many times faults took effect since the disk was made.
    #[must_use]
    pub fn faults_fired(&self) -> u64 {
        self.state.lock().faults.fired()
    }

    /// Lets the process die at the nth (from 1) call from now that names `point`. The call and everything after
    /// it fails until [`MemDisk::process_died`] or [`MemDisk::power_cut`]; `Side::After` does the step first.
    pub fn stop_at(&self, point: CrashPoint, side: Side, nth: u64) {
        self.state.lock().stop = Some((point, side, nth.max(1)));
    }

    /// Stops the process now: every call fails until [`MemDisk::process_died`] or [`MemDisk::power_cut`]. What the
    /// process holds can be dropped meanwhile without touching the disk.
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.released.notify_all();
    }

    /// Did the process reach its stopping point?
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// The process is gone and the machine still runs: contents and names stay, open files and locks do not.
    pub fn process_died(&self) {
        self.state.lock().end_life();
        self.released.notify_all();
    }

    /// The power fails: synced contents and names stay; of everything else any part may stay.
    pub fn power_cut(&self, randomness: &dyn Randomness) {
        let mut state = self.state.lock();
        state.end_life();
        // Three kinds of luck: all unsynced work lost, all kept, or each sector and name by itself.
        let style = randomness.below(4);
        for inode in state.inodes.iter_mut().flatten() {
            inode.contents.power_cut(randomness, style);
        }
        state.names.power_cut(randomness, style);
        state.drop_unlinked();
        self.released.notify_all();
    }

    /// Flips one bit of a file, on the medium and in the cache alike.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, `InvalidInput` if it is shorter than that.
    pub fn flip_bit(&self, path: &Path, offset_bytes: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.file_id(path)?;
        let inode = state.inode(id)?;
        if offset_bytes >= inode.contents.len_bytes() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        inode.contents.flip_bit(offset_bytes, bit);
        Ok(())
    }

    /// Paths of all files a process would find now, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.state.lock().names.files()
    }

    /// Number of calls so far, and a hash over their kinds, places and lengths: equal for equal runs.
    #[must_use]
    pub fn trace(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.operations, state.trace)
    }
}

impl State {
    fn end_life(&mut self) {
        self.life += 1;
        self.stop = None;
        self.stopped = false;
        self.locks.clear();
        for inode in self.inodes.iter_mut().flatten() {
            inode.handles = 0;
        }
        self.drop_unlinked();
    }

    /// Frees inodes that neither a live name, nor a durable one, nor an open file refers to.
    fn drop_unlinked(&mut self) {
        let (live, durable) = (self.names.live_links(), self.names.durable_links());
        for device in &mut self.devices {
            device.used_bytes = 0;
        }
        for (id, slot) in self.inodes.iter_mut().enumerate() {
            let Some(inode) = slot else { continue };
            inode.links = live.get(&id).copied().unwrap_or(0);
            let keep = inode.links > 0 || inode.handles > 0;
            if !keep && !durable.contains_key(&id) {
                *slot = None;
            } else if keep {
                let used = inode.contents.allocated_bytes();
                if let Some(device) = self.devices.get_mut(inode.device) {
                    device.used_bytes += used;
                }
            }
        }
    }

    fn trace(&mut self, words: [u64; 3]) {
        self.operations += 1;
        for word in words {
            self.trace = (self.trace.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.stopped { Err(died()) } else { Ok(()) }
    }

    /// Is this the call, and the side of it, at which the process dies?
    fn reach(&mut self, point: CrashPoint, at: Side) -> io::Result<()> {
        let Some((armed, side, left)) = &mut self.stop else { return Ok(()) };
        if *armed != point || *side != at {
            return Ok(());
        }
        *left -= 1;
        if *left > 0 {
            return Ok(());
        }
        self.stopped = true;
        self.stop = None;
        Err(died())
    }

    /// Runs a durable step between the two sides of its crash point.
    fn step<T>(
        &mut self,
        point: CrashPoint,
        path: &str,
        run: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        self.alive()?;
        self.trace([point as u64, path.len() as u64, 0]);
        self.reach(point, Side::Before)?;
        let done = run(self)?;
        self.reach(point, Side::After)?;
        Ok(done)
    }

    fn file_id(&self, path: &Path) -> io::Result<usize> {
        match self.names.find(path) {
            Some(Child::File(id)) => Ok(id),
            Some(Child::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))),
        }
    }

    fn inode(&mut self, id: usize) -> io::Result<&mut Inode> {
        self.inodes.get_mut(id).and_then(Option::as_mut).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn device_of(&self, parts: &[String]) -> usize {
        let of = |(_, device): &(usize, &Device)| parts.starts_with(&device.prefix);
        self.devices.iter().enumerate().filter(of).max_by_key(|(_, device)| device.prefix.len()).map_or(0, |(at, _)| at)
    }

    /// Sets room for `grow_bytes` more aside on the file's device.
    fn charge(&mut self, device: usize, grow_bytes: u64) -> io::Result<()> {
        let Some(device) = self.devices.get_mut(device) else { return Ok(()) };
        if grow_bytes > 0 && device.used_bytes.saturating_add(grow_bytes) > device.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        device.used_bytes += grow_bytes;
        Ok(())
    }

    fn sync_names(&mut self, dir: &Path) -> io::Result<()> {
        for id in self.names.sync(dir)? {
            // The durable name that kept an unlinked file's bytes is gone now.
            if self.inode(id).is_ok_and(|inode| inode.links == 0 && inode.handles == 0)
                && !self.names.durable_refers_to(id)
            {
                self.inodes[id] = None;
            }
        }
        Ok(())
    }

    fn unlink(&mut self, id: usize) {
        let Ok(inode) = self.inode(id) else { return };
        inode.links = inode.links.saturating_sub(1);
        self.release(id);
    }

    /// Gives the room of a file back once nobody can reach it.
    fn release(&mut self, id: usize) {
        let Ok(inode) = self.inode(id) else { return };
        if inode.links > 0 || inode.handles > 0 {
            return;
        }
        let (used, device) = (inode.contents.allocated_bytes(), inode.device);
        if let Some(device) = self.devices.get_mut(device) {
            device.used_bytes = device.used_bytes.saturating_sub(used);
        }
        if !self.names.durable_refers_to(id) {
            self.inodes[id] = None;
        }
    }
}

impl MemDisk {
    /// Lets the faults that wait for this call strike: those that take time do it here, without the lock; the others say
    /// what is to become of the call.
    fn meet(&self, call: DiskCall, path: &str) -> io::Result<Verdict> {
        let mut state = self.state.lock();
        state.alive()?;
        let verdict = state.faults.judge(call, path);
        match (verdict, &mut state.waits) {
            (Verdict::Fail(error), _) => Err(error),
            (Verdict::Delay(delay), Some(waits)) => {
                *waits = waits.saturating_add(delay);
                Ok(Verdict::Proceed)
            }
            (Verdict::Hang(_), Some(waits)) => {
                *waits = waits.saturating_add(HANG);
                Ok(Verdict::Proceed)
            }
            (Verdict::Delay(delay), None) => {
                drop(state);
                std::thread::sleep(delay);
                Ok(Verdict::Proceed)
            }
            (Verdict::Hang(number), None) => {
                let life = state.life;
                while state.faults.is_there(number) && state.life == life && !state.stopped {
                    self.released.wait(&mut state);
                }
                if state.life == life && !state.stopped { Ok(Verdict::Proceed) } else { Err(died()) }
            }
            (other, _) => Ok(other),
        }
    }
    /// As [`MemDisk::meet`], for a call on a path.
    fn meet_at(&self, call: DiskCall, path: &Path) -> io::Result<Verdict> {
        self.meet(call, &path.to_string_lossy())
    }

    fn handle(&self, state: &mut State, id: usize, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        state.inode(id)?.handles += 1;
        Ok(Arc::new(MemFile { disk: self.clone(), id, life: state.life, writable }))
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let call = if mode == OpenMode::ReadWrite { DiskCall::OpenForWriting } else { DiskCall::Open };
        self.meet_at(call, path)?;
        let mut state = self.state.lock();
        state.alive()?;
        let id = state.file_id(path)?;
        self.handle(&mut state, id, mode == OpenMode::ReadWrite)
    }

    fn create_new(&self, path: &Path, point: CrashPoint) -> io::Result<Arc<dyn DiskFile>> {
        self.meet_at(DiskCall::Create, path)?;
        let mut state = self.state.lock();
        let text = path.to_string_lossy().into_owned();
        // The handle is made after the step: one that is dropped by a stop would lock the state again.
        let id = state.step(point, &text, |state| {
            let device = state.device_of(&parts_of(path));
            let id = state.inodes.len();
            state.names.link(path, id)?;
            let contents = Contents::default();
            state.inodes.push(Some(Inode { contents, path: text.clone(), device, links: 1, handles: 0 }));
            Ok(id)
        })?;
        self.handle(&mut state, id, true)
    }

    fn create_dir_all(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        let state = self.state.lock();
        state.alive()?;
        if matches!(state.names.find(path), Some(Child::Dir(_))) {
            return Ok(());
        }
        drop(state);
        self.meet_at(DiskCall::CreateDir, path)?;
        let mut state = self.state.lock();
        state.step(point, &path.to_string_lossy(), |state| state.names.create_dirs(path))
    }

    fn rename(&self, from: &Path, to: &Path, point: CrashPoint) -> io::Result<()> {
        self.meet_at(DiskCall::Rename, to)?;
        let mut state = self.state.lock();
        state.step(point, &to.to_string_lossy(), |state| {
            if let Some(replaced) = state.names.rename(from, to)? {
                state.unlink(replaced);
            }
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        self.meet_at(DiskCall::Remove, path)?;
        let mut state = self.state.lock();
        state.step(point, &path.to_string_lossy(), |state| {
            let id = state.file_id(path)?;
            state.names.unlink(path)?;
            state.unlink(id);
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        let verdict = self.meet_at(DiskCall::SyncDir, path)?;
        let mut state = self.state.lock();
        state.step(point, &path.to_string_lossy(), |state| match verdict {
            Verdict::Lose => Ok(()),
            _ => state.sync_names(path),
        })
    }

    fn sync_all(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        let verdict = self.meet_at(DiskCall::SyncAll, path)?;
        let mut state = self.state.lock();
        state.step(point, &path.to_string_lossy(), |state| {
            if matches!(verdict, Verdict::Lose) {
                return Ok(());
            }
            let mut dirs = vec![path.to_path_buf()];
            while let Some(dir) = dirs.pop() {
                for (name, child) in state.names.list(&dir)? {
                    match child {
                        Child::Dir(_) => dirs.push(dir.join(name)),
                        Child::File(id) => state.inode(id)?.contents.sync(),
                    }
                }
                state.sync_names(&dir)?;
            }
            Ok(())
        })
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.meet_at(DiskCall::List, path)?;
        let mut state = self.state.lock();
        state.alive()?;
        let children = state.names.list(path)?;
        let mut entries = Vec::with_capacity(children.len());
        for (name, child) in children {
            let info = state.info_of(child)?;
            entries.push(DirEntry { name, info });
        }
        Ok(entries)
    }

    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>> {
        self.meet_at(DiskCall::Info, path)?;
        let mut state = self.state.lock();
        state.alive()?;
        match state.names.find(path) {
            None => Ok(None),
            Some(child) => state.info_of(child).map(Some),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.meet_at(DiskCall::Space, path)?;
        let state = self.state.lock();
        state.alive()?;
        let device = &state.devices[state.device_of(&parts_of(path))];
        Ok(Space {
            capacity_bytes: device.capacity_bytes,
            available_bytes: device.capacity_bytes.saturating_sub(device.used_bytes),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.meet_at(DiskCall::Lock, path)?;
        let mut state = self.state.lock();
        state.alive()?;
        let text = path.to_string_lossy().into_owned();
        if state.names.find(path).is_none() {
            let device = state.device_of(&parts_of(path));
            let id = state.inodes.len();
            state.names.link(path, id)?;
            let contents = Contents::default();
            state.inodes.push(Some(Inode { contents, path: text.clone(), device, links: 1, handles: 0 }));
        }
        if state.locks.contains(&text) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locks.push(text.clone());
        Ok(Box::new(MemLock { disk: self.clone(), path: text, life: state.life }))
    }
}

impl State {
    fn info_of(&mut self, child: Child) -> io::Result<FileInfo> {
        Ok(match child {
            Child::Dir(_) => FileInfo { len_bytes: 0, is_dir: true },
            Child::File(id) => FileInfo { len_bytes: self.inode(id)?.contents.len_bytes(), is_dir: false },
        })
    }
}

#[derive(Debug)]
struct MemLock {
    disk: MemDisk,
    path: String,
    life: u64,
}

impl DiskLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.life == self.life {
            state.locks.retain(|held| *held != self.path);
        }
    }
}

#[derive(Debug)]
struct MemFile {
    disk: MemDisk,
    id: usize,
    life: u64,
    writable: bool,
}

impl Drop for MemFile {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.life == self.life
            && let Ok(inode) = state.inode(self.id)
        {
            inode.handles = inode.handles.saturating_sub(1);
            state.release(self.id);
        }
    }
}

impl MemFile {
    /// The disk's state, if this file's process still lives.
    fn state(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.disk.state.lock();
        state.alive()?;
        if state.life == self.life { Ok(state) } else { Err(died()) }
    }

    fn writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    /// The path for fault rules, and what is to become of a call.
    fn meet(&self, call: DiskCall) -> io::Result<(String, Verdict)> {
        let path = self.state()?.inode(self.id)?.path.clone();
        let verdict = self.disk.meet(call, &path)?;
        Ok((path, verdict))
    }

    fn change(
        &self,
        (call, point): (DiskCall, CrashPoint),
        run: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> io::Result<()> {
        self.writable()?;
        let (path, _) = self.meet(call)?;
        self.state()?.step(point, &path, run)
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        let (path, verdict) = self.meet(DiskCall::Read)?;
        let mut state = self.state()?;
        let read = state.inode(self.id)?.contents.read(buffer, offset_bytes);
        match verdict {
            Verdict::Flip => {
                if let Some(byte) = buffer.get_mut(read / 2) {
                    *byte ^= 1;
                }
            }
            Verdict::Stale => {
                state.faults.make_stale(&path, offset_bytes, buffer.get_mut(..read).unwrap_or_default());
            }
            _ => {}
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        self.writable()?;
        let (path, verdict) = self.meet(DiskCall::Write)?;
        let mut state = self.state()?;
        state.trace([self.id as u64, offset_bytes, bytes.len() as u64]);
        if state.faults.keep_before(&path) {
            let mut old = vec![0; bytes.len()];
            state.inode(self.id)?.contents.read(&mut old, offset_bytes);
            state.faults.note_before(&path, offset_bytes, old);
        }
        let (mut at, mut stored) = (offset_bytes, bytes);
        match verdict {
            // The drive says yes, and the cache agrees until it is dropped: reads see what is on the medium.
            Verdict::Lose => stored = &[],
            Verdict::Tear(unit) => {
                stored = bytes.get(..torn(offset_bytes, bytes.len(), unit)).unwrap_or_default();
            }
            Verdict::Misdirect => at = offset_bytes ^ contents::PAGE_BYTES as u64,
            _ => {}
        }
        let (grow, device) = {
            let inode = state.inode(self.id)?;
            (inode.contents.growth_bytes(at, stored.len()), inode.device)
        };
        state.charge(device, grow)?;
        let contents = &mut state.inode(self.id)?.contents;
        contents.write(stored, at);
        contents.extend_to(offset_bytes + bytes.len() as u64);
        Ok(())
    }

    fn sync(&self, point: CrashPoint) -> io::Result<()> {
        let met = self.meet(DiskCall::Sync);
        let mut state = self.state()?;
        let path = state.inode(self.id)?.path.clone();
        let verdict = match met {
            Ok((_, verdict)) => verdict,
            Err(error) => {
                // As the kernel does it: the pages are marked clean all the same, and a second sync says yes.
                state.inode(self.id)?.contents.forget_dirty();
                return Err(error);
            }
        };
        state.step(point, &path, |state| {
            if !matches!(verdict, Verdict::Lose) {
                state.inode(self.id)?.contents.sync();
            }
            Ok(())
        })
    }

    fn set_len(&self, len_bytes: u64, point: CrashPoint) -> io::Result<()> {
        self.change((DiskCall::SetLen, point), |state| {
            let inode = state.inode(self.id)?;
            let before = inode.contents.allocated_bytes();
            inode.contents.set_len(len_bytes);
            let freed = before.saturating_sub(inode.contents.allocated_bytes());
            let device = inode.device;
            if let Some(device) = state.devices.get_mut(device) {
                device.used_bytes = device.used_bytes.saturating_sub(freed);
            }
            Ok(())
        })
    }

    fn allocate(&self, offset_bytes: u64, len_bytes: u64, point: CrashPoint) -> io::Result<()> {
        self.change((DiskCall::Allocate, point), |state| {
            let inode = state.inode(self.id)?;
            let len = usize::try_from(len_bytes).map_err(io::Error::other)?;
            let (grow, device) = (inode.contents.growth_bytes(offset_bytes, len), inode.device);
            state.charge(device, grow)?;
            state.inode(self.id)?.contents.allocate(offset_bytes, len_bytes);
            Ok(())
        })
    }

    fn start_writeback(&self, _offset_bytes: u64, _len_bytes: u64) {}

    fn len_bytes(&self) -> io::Result<u64> {
        self.meet(DiskCall::Info)?;
        Ok(self.state()?.inode(self.id)?.contents.len_bytes())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
