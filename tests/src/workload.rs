//! Work that a crash interrupts: puts, moves and removals by real commands, noted in a ledger.

use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use base::random::{Randomness, SeededRandom};
use rustix::process::Signal;

use crate::ledger::{Content, Ledger};
use crate::{Cluster, cluster};

/// Directory that the workload works in.
pub const DIRECTORY: &str = "/work";

/// Shared between the workers and who ends them.
#[derive(Debug, Default)]
pub struct Control {
    halt: AtomicBool,
    done: AtomicU64,
    running: [AtomicI32; 8],
}

impl Control {
    /// Ends the workers: no further command, and the running ones are killed.
    pub fn halt(&self) {
        self.halt.store(true, Ordering::SeqCst);
        for pid in &self.running {
            let pid = pid.load(Ordering::SeqCst);
            if pid != 0 {
                cluster::signal(pid, Signal::KILL);
            }
        }
    }
    /// Acknowledged changes so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }
    fn halted(&self) -> bool {
        self.halt.load(Ordering::SeqCst)
    }
}

/// One worker: its names begin with its letter, so that no two touch the same.
#[derive(Debug)]
pub struct Worker<'a> {
    cluster: &'a Cluster,
    control: &'a Control,
    slot: usize,
    random: SeededRandom,
    serial: u64,
    largest_bytes: u64,
}

impl<'a> Worker<'a> {
    /// A worker with its own seed, which also keeps its names apart from those of other seeds.
    #[must_use]
    pub fn new(cluster: &'a Cluster, control: &'a Control, slot: usize, seed: u64, largest_bytes: u64) -> Self {
        Self {
            cluster,
            control,
            slot,
            random: SeededRandom::new(seed),
            serial: seed.wrapping_mul(1 << 20),
            largest_bytes,
        }
    }

    /// Works until halted or until `limit` changes were tried.
    pub fn work(&mut self, ledger: &mut Ledger, limit: u64) {
        for _ in 0..limit {
            if self.control.halted() {
                return;
            }
            let mine = format!("w{}-", self.slot);
            let own: Vec<_> = ledger.certain().into_iter().filter(|(name, _)| name.starts_with(&mine)).collect();
            let pick = (!own.is_empty()).then(|| own[self.random.below(own.len() as u64) as usize].clone());
            match (self.random.below(10), pick) {
                (0, Some((name, _))) => self.remove(ledger, &name),
                (1 | 2, Some((name, content))) => self.rename(ledger, &name, content),
                _ => self.put(ledger),
            }
        }
    }

    fn fresh_name(&mut self) -> String {
        self.serial += 1;
        format!("w{}-{:x}", self.slot, self.serial)
    }

    fn put(&mut self, ledger: &mut Ledger) {
        let name = self.fresh_name();
        let len_bytes = match self.random.below(10) {
            0 => 0,
            1 => self.random.below(self.largest_bytes),
            _ => self.random.below(20_000),
        };
        let content = Content { seed: self.random.next_u64(), len_bytes };
        ledger.putting(&name, content);
        if self.run(&["put", "-", &full(&name)], &content.bytes()) {
            ledger.put(&name, content);
        }
    }

    fn rename(&mut self, ledger: &mut Ledger, from: &str, content: Content) {
        let to = self.fresh_name();
        ledger.moving(from, &to, content);
        if self.run(&["mv", &full(from), &full(&to)], b"") {
            ledger.moved(from, &to, content);
        }
    }

    fn remove(&mut self, ledger: &mut Ledger, name: &str) {
        ledger.removing(name);
        if self.run(&["rm", &full(name)], b"") {
            ledger.removed(name);
        }
    }

    /// Runs a command; `true` if it was acknowledged.
    fn run(&self, args: &[&str], input: &[u8]) -> bool {
        let mut command = self.cluster.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the command starts");
        let running = &self.control.running[self.slot];
        running.store(i32::try_from(child.id()).expect("pid"), Ordering::SeqCst);
        if self.control.halted() {
            // Halted between the check and the start: nobody else would kill it.
            child.kill().expect("kill");
        }
        // A killed command leaves its pipe: its status tells.
        let fed = child.stdin.take().is_none_or(|mut stdin| stdin.write_all(input).is_ok());
        let status = child.wait().expect("wait");
        running.store(0, Ordering::SeqCst);
        let acknowledged = status.success();
        if acknowledged {
            assert!(fed, "a command succeeded without having read its input");
            self.control.done.fetch_add(1, Ordering::SeqCst);
        }
        acknowledged
    }
}

fn full(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

/// Runs `workers` workers while `meanwhile` decides when it is enough; then halts them.
pub fn run(
    cluster: &Cluster,
    ledger: &mut Ledger,
    seed: u64,
    workers: usize,
    largest_bytes: u64,
    meanwhile: impl FnOnce(&Control),
) {
    let control = Control::default();
    let mut ledgers: Vec<Ledger> = (0..workers).map(|slot| ledger.part(&format!("w{slot}-"))).collect();
    std::thread::scope(|scope| {
        for (slot, own) in ledgers.iter_mut().enumerate() {
            let control = &control;
            scope.spawn(move || {
                let seed = seed.wrapping_mul(31).wrapping_add(slot as u64);
                Worker::new(cluster, control, slot, seed, largest_bytes).work(own, u64::MAX);
            });
        }
        meanwhile(&control);
        control.halt();
    });
    ledgers.into_iter().for_each(|own| ledger.take_over(own));
}
