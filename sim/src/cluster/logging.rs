//! Clients that append to logs, fall silent with the lease in their hands, and take the file from each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::clock::Moment;
use base::random::{Randomness, SeededRandom};
use proto::error::ErrorCode;

use super::{Cluster, dark_since};
use crate::coverage::Rare;
use crate::hosts::client::Finished;
use crate::hosts::millis;
use crate::hosts::namenode::{HARD_LIMIT, SOFT_LIMIT};
use crate::logs::{LOGS, Logs, Segment, is_log, log_path, may_be_gone};
use crate::message::{Address, Event};
use crate::workload::{Manner, Op, Outcome};

/// Share of operations that are about logs: one of so many.
const ONE_IN: u64 = 12;
/// The same of clients that see a silent writer.
const ONE_IN_TAKES: u64 = 20;

/// Who has which log, and who is silent.
#[derive(Debug)]
pub struct Loggers {
    random: SeededRandom,
    /// What was written to them.
    pub logs: Logs,
    /// Appends that have a lease and were looked at: by client, its job.
    holding: BTreeMap<usize, u64>,
    /// Clients that were silenced with the lease in their hands, with the logs.
    silent: BTreeMap<usize, (String, Moment)>,
    /// Clients whose file somebody else has got meanwhile.
    taken: BTreeSet<usize>,
}

impl Loggers {
    /// With randomness of its own.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (logs, holding, silent, taken) = Default::default();
        Self { random: SeededRandom::new(seed), logs, holding, silent, taken }
    }

    /// Something about a log, now and then. `tag` is new.
    pub fn next_op(&self, at: usize, tag: u64, now: Moment) -> Option<Op> {
        let long = |since: &Moment| now.since(*since) > SOFT_LIMIT;
        let silent = self.silent.iter().find(|(client, (_, since))| **client != at && long(since));
        if let Some((_, (path, _))) = silent
            && self.random.below(ONE_IN_TAKES) == 0
        {
            return Some(self.append(path.clone(), tag));
        }
        if self.random.below(ONE_IN) > 0 {
            return None;
        }
        let path = log_path(self.random.below(LOGS));
        Some(match self.random.below(10) {
            _ if !self.logs.exists(&path) => Op::Write {
                path,
                tag,
                len_bytes: 0,
                overwrite: false,
                replication: 3,
                block_size_bytes: 8192,
                manner: Manner::default(),
            },
            0..4 => Op::Read { path, part: (0, 1000) },
            _ => self.append(path, tag),
        })
    }
    fn append(&self, path: String, tag: u64) -> Op {
        let len_bytes = 16 + self.random.below(if self.random.below(4) == 0 { 12_000 } else { 2_000 }) as usize;
        let flush_every = (self.random.below(2) == 0).then(|| 1 + self.random.below(len_bytes as u64) as usize);
        let drop_after = (self.random.below(10) == 0).then(|| self.random.below(len_bytes as u64) as usize);
        Op::Append { path, tag, len_bytes, manner: Manner { flush_every, sync: self.random.below(2) == 0, drop_after } }
    }
}

impl Cluster {
    /// Looks whether a client has just got a log: whose was it, and does it fall silent with it?
    pub(super) fn look_at_log(&mut self, at: usize) {
        let Some(loggers) = &mut self.loggers else { return };
        let Some((path, job, segment)) = self.clients[at].appending().filter(|(path, ..)| is_log(path)) else {
            loggers.holding.remove(&at);
            return;
        };
        if loggers.holding.insert(at, job) == Some(job) {
            return;
        }
        let now = self.scene.now();
        for (other, client) in self.clients.iter().enumerate().filter(|(other, _)| *other != at) {
            let Some((theirs, _, before)) = client.appending() else { continue };
            if theirs != path || before.base_bytes > segment.base_bytes {
                continue;
            }
            loggers.taken.insert(other);
            let since = loggers.silent.get(&other).map(|(_, since)| *since);
            // Its lease runs on: nobody but the one who wanted the file has ended it.
            if since.is_some_and(|since| now.since(since) + Duration::from_secs(3) < HARD_LIMIT) {
                self.scene.hit(Rare::LeaseTaken);
            }
        }
        if loggers.random.below(4) == 0 {
            let silence = millis(6_000 + loggers.random.below(9_000));
            let wait = Duration::from_micros(loggers.random.below(6_000));
            self.scene.after(wait, Event::Silence(at, job, silence));
        }
    }
    pub(super) fn fall_silent(&mut self, at: usize, job: u64, silence: Duration) {
        let Some(loggers) = &mut self.loggers else { return };
        let Some((path, _, segment)) = self.clients[at].appending().filter(|(_, now, _)| *now == job) else { return };
        loggers.silent.insert(at, (path.to_owned(), self.scene.now()));
        self.frozen.push((Address::Client(at), self.scene.now().plus(silence)));
        self.scene.say(format_args!("client {at} falls silent for {silence:?} with {path}, {segment:?}"));
    }

    /// Segments of clients that have a log, or believe so.
    fn segments_under_way(&self, path: &str) -> Vec<Segment> {
        let one = |client: &crate::hosts::ClientHost| {
            let (_, _, mut segment) = client.appending().filter(|(other, ..)| *other == path)?;
            let dark = client.unsynced_since().map(|since| dark_since(&self.power_cuts, since));
            if dark.is_some_and(|dark| may_be_gone(&dark)) {
                segment.least_bytes = 0;
            }
            Some(segment)
        };
        self.clients.iter().filter_map(one).collect()
    }

    /// An operation on a log is over.
    pub(super) fn log_finished(&mut self, at: usize, finished: &Finished) -> Result<(), String> {
        let Finished { op, outcome, begun, ended, .. } = finished;
        let under_way = self.segments_under_way(op.path());
        let synced = op.manner().is_none_or(|manner| manner.sync);
        let dark = if synced { BTreeSet::new() } else { dark_since(&self.power_cuts, *begun) };
        let (now, reader) = (self.scene.now(), (at, self.clients[at].life()));
        let Some(loggers) = &mut self.loggers else { return Ok(()) };
        match (op, outcome) {
            (Op::Append { path, tag, len_bytes, .. }, _) => {
                loggers.silent.remove(&at);
                if loggers.taken.remove(&at) && matches!(outcome, Outcome::Left { .. }) {
                    self.scene.hit(Rare::FormerWriterFenced);
                }
                let outcome = match *outcome {
                    Outcome::Left { base_bytes, most_bytes, .. } if may_be_gone(&dark) => {
                        Outcome::Left { base_bytes, least_bytes: base_bytes, most_bytes }
                    }
                    _ => outcome.clone(),
                };
                if !synced && matches!(outcome, Outcome::Left { .. }) {
                    loggers.logs.left_unsynced(path, *tag, dark);
                }
                loggers.logs.appended(path, (*tag, *len_bytes), &outcome, now, &under_way)
            }
            (Op::Write { path, .. }, Outcome::Done | Outcome::Failed(ErrorCode::AlreadyExists)) => {
                loggers.logs.seen(path, now);
                Ok(())
            }
            (Op::Read { path, .. }, Outcome::Bytes { len_bytes, open, bytes, .. }) => {
                if bytes.0.len() as u64 != *len_bytes {
                    return Err(format!("{path} has {len_bytes} bytes, {} were read", bytes.0.len()));
                }
                let verdict =
                    loggers.logs.read(path, (&bytes.0, *open), reader, (*begun, ended.unwrap_or(now)), &under_way);
                if !dark_since(&self.power_cuts, *begun).is_empty() {
                    loggers.logs.forget_seen_open(path);
                }
                verdict
            }
            (Op::Read { path, .. }, Outcome::Failed(ErrorCode::NotFound)) => loggers.logs.missing(path, *begun),
            _ => Ok(()),
        }
    }
}
