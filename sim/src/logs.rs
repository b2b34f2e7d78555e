//! Logs: files to which every client appends, one at a time, and which are taken from writers that fall silent.
//!
//! ```text
//!   append ─▶ lease, length before ─▶ segment { base, least … most } ─▶ acknowledged: all of it; left: what was flushed
//!   a read ─▶ is every byte of the segment that begins there? did the file get shorter?
//! ```
//!
//! A writer learns with its lease how long the file is, so that segments have their places before anything is written. Of two
//! writers the later one begins behind all that was acknowledged to the earlier one: that is what a lease is for, and an
//! acknowledgement that comes to a writer after somebody else has the file would break it.

use std::collections::{BTreeMap, BTreeSet};

use base::clock::Moment;

use crate::workload::{Outcome, content};

/// Logs of a run.
pub const LOGS: u64 = 2;

/// Path of a log.
#[must_use]
pub fn log_path(number: u64) -> String {
    format!("/logs/l{number}")
}
/// Is this the path of a log?
#[must_use]
pub fn is_log(path: &str) -> bool {
    path.starts_with("/logs/")
}

/// What one writer did to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which contents.
    pub tag: u64,
    /// Length of the file when the lease was given.
    pub base_bytes: usize,
    /// Bytes that are there for sure.
    pub least_bytes: usize,
    /// Bytes that were given to the writer.
    pub most_bytes: usize,
}

impl Segment {
    const fn least_end(&self) -> usize {
        self.base_bytes + self.least_bytes
    }
    const fn most_end(&self) -> usize {
        self.base_bytes + self.most_bytes
    }
}

#[derive(Clone, Debug, Default)]
struct Log {
    /// Somebody was told that it is there.
    exists: Option<Moment>,
    segments: Vec<(Segment, Moment)>,
    /// What reads saw of its length while it was closed, each with the end of the read.
    lengths: Vec<(usize, Moment)>,
    /// Segments that were flushed without a sync and left, with the nodes that lost power since they were begun.
    unsynced: Vec<(u64, BTreeSet<usize>)>,
    /// What reads saw of its length while it was open, each with its reader (a client, and its life) and its end, since a node
    /// lost power the last time. One reader never sees it go back (V-3); another one asks when other nodes are silent.
    seen_open: Vec<((usize, u64), usize, Moment)>,
}

/// Nodes of a pipeline, at least: what is in their memory only is gone when all of them lose power (D-2).
const LEAST_HOMES: usize = 2;

/// May what was flushed without a sync be gone, when these nodes have lost power?
#[must_use]
pub fn may_be_gone(dark: &BTreeSet<usize>) -> bool {
    dark.len() >= LEAST_HOMES
}

/// All logs.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    logs: BTreeMap<String, Log>,
}

impl Logs {
    /// Is a log known to be there?
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.logs.get(path).is_some_and(|log| log.exists.is_some())
    }
    /// Somebody was told that a log is there.
    pub fn seen(&mut self, path: &str, at: Moment) {
        self.logs.entry(path.to_owned()).or_default().exists.get_or_insert(at);
    }

    /// An append is over. `under_way`: segments whose writers have a lease, or believe so.
    ///
    /// # Errors
    /// If no order of the writers explains it.
    pub fn appended(
        &mut self,
        path: &str,
        (tag, len_bytes): (u64, usize),
        outcome: &Outcome,
        at: Moment,
        under_way: &[Segment],
    ) -> Result<(), String> {
        let segment = match outcome {
            Outcome::Appended { base_bytes } => {
                Segment { tag, base_bytes: *base_bytes, least_bytes: len_bytes, most_bytes: len_bytes }
            }
            Outcome::Left { base_bytes, least_bytes, most_bytes } => Segment {
                tag,
                base_bytes: *base_bytes,
                least_bytes: least_bytes - base_bytes,
                most_bytes: most_bytes - base_bytes,
            },
            _ => return Ok(()),
        };
        self.seen(path, at);
        if let Some(log) = self.logs.get_mut(path) {
            log.segments.push((segment, at));
        }
        in_order(&self.all(path, under_way)).map_err(|why| format!("{path}: {why}"))
    }

    /// A writer has left what it flushed without a sync; these nodes lost power since it began.
    pub fn left_unsynced(&mut self, path: &str, tag: u64, dark: BTreeSet<usize>) {
        self.logs.entry(path.to_owned()).or_default().unsynced.push((tag, dark));
    }
    /// A node lost power.
    pub fn power_cut(&mut self, node: usize) {
        for log in self.logs.values_mut() {
            log.seen_open.clear();
            let gone = log.unsynced.extract_if(.., |(_, dark)| {
                dark.insert(node);
                may_be_gone(dark)
            });
            let gone: Vec<u64> = gone.map(|(tag, _)| tag).collect();
            let segments = log.segments.iter_mut().map(|(segment, _)| segment);
            segments.filter(|segment| gone.contains(&segment.tag)).for_each(|segment| segment.least_bytes = 0);
        }
    }

    fn all(&self, path: &str, under_way: &[Segment]) -> Vec<Segment> {
        let over = self.logs.get(path).into_iter().flat_map(|log| &log.segments).map(|(segment, _)| *segment);
        let mut all: Vec<Segment> = over.chain(under_way.iter().copied()).collect();
        all.sort_by_key(|segment| (segment.base_bytes, segment.least_end()));
        all
    }

    /// A read of a whole log is over.
    ///
    /// # Errors
    /// If that is not what the writers wrote, if what was acknowledged before it began is missing, or if the log was longer
    /// before.
    pub fn read(
        &mut self,
        path: &str,
        (bytes, open): (&[u8], bool),
        reader: (usize, u64),
        (begun, ended): (Moment, Moment),
        under_way: &[Segment],
    ) -> Result<(), String> {
        let all = self.all(path, under_way);
        explains(&all, bytes).map_err(|why| format!("{path}: {why}"))?;
        self.seen(path, ended);
        let Some(log) = self.logs.get_mut(path) else { return Ok(()) };
        let acknowledged = log.segments.iter().filter(|(_, at)| *at < begun).map(|(segment, _)| segment.least_end());
        let least = acknowledged.max().unwrap_or(0);
        if bytes.len() < least {
            return Err(format!("{path} has {} bytes, {least} were acknowledged before", bytes.len()));
        }
        // What anybody saw is there when it is closed (V-1).
        let counts = |whose: &(usize, u64)| !open || *whose == reader;
        let of_open = log.seen_open.iter().filter(|(whose, ..)| counts(whose)).map(|(_, len, at)| (*len, *at));
        let mut lengths = log.lengths.iter().copied().chain(of_open);
        if let Some((longer, _)) = lengths.find(|(len, at)| *len > bytes.len() && *at < begun) {
            return Err(format!("{path} has {} bytes, a read before saw {longer}", bytes.len()));
        }
        if !open {
            // What it shows of a segment was closed, and is durable.
            let len_bytes = bytes.len();
            let shown = |tag: u64| log.segments.iter().any(|(s, _)| s.tag == tag && s.least_end() <= len_bytes);
            log.unsynced.retain(|(tag, _)| !shown(*tag));
        }
        if open {
            log.seen_open.push((reader, bytes.len(), ended));
        } else {
            log.lengths.push((bytes.len(), ended));
        }
        Ok(())
    }
    /// A node lost power during a read: what it saw of an open block may have gone before it was over.
    pub fn forget_seen_open(&mut self, path: &str) {
        if let Some(log) = self.logs.get_mut(path) {
            log.seen_open.clear();
        }
    }
    /// A read found no such file.
    ///
    /// # Errors
    /// If it was there before.
    pub fn missing(&self, path: &str, begun: Moment) -> Result<(), String> {
        let known = self.logs.get(path).and_then(|log| log.exists);
        match known.filter(|at| *at < begun) {
            Some(_) => Err(format!("{path} is missing")),
            None => Ok(()),
        }
    }
}

/// Does each writer begin behind what was acknowledged to those before it?
fn in_order(all: &[Segment]) -> Result<(), String> {
    match all.windows(2).find(|two| two[0].least_end() > two[1].base_bytes) {
        Some(two) => Err(format!("{:?} was acknowledged, and {:?} does not begin behind it", two[0], two[1])),
        None => Ok(()),
    }
}

/// Are these the bytes of the segments that begin in them?
fn explains(all: &[Segment], bytes: &[u8]) -> Result<(), String> {
    let mut from = 0;
    while from < bytes.len() {
        let here = all.iter().filter(|segment| segment.base_bytes == from);
        let to = all.iter().map(|segment| segment.base_bytes).filter(|base| *base > from).min();
        let to = to.unwrap_or(bytes.len()).min(bytes.len());
        let fits = |segment: &Segment| {
            segment.most_end() >= to && content(segment.tag, segment.most_bytes).get(..to - from) == bytes.get(from..to)
        };
        if !here.clone().any(fits) {
            let known: Vec<&Segment> = here.collect();
            return Err(format!("bytes {from} to {to} of {} were written by none of {known:?}", bytes.len()));
        }
        from = to;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A reader.
    const HERE: (usize, u64) = (0, 1);

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }
    fn left(base_bytes: usize, flushed: usize, given: usize) -> Outcome {
        Outcome::Left { base_bytes, least_bytes: base_bytes + flushed, most_bytes: base_bytes + given }
    }
    fn open(tag: u64, base_bytes: usize, flushed: usize, given: usize) -> Segment {
        Segment { tag, base_bytes, least_bytes: flushed, most_bytes: given }
    }

    #[test]
    fn v_4_a_writer_whose_file_was_taken_is_told_of_nothing_that_is_not_there() {
        let mut logs = Logs::default();
        // The first writer flushed 40 bytes and fell silent; the second one was given the file at 60.
        let silent = open(1, 0, 40, 100);
        logs.appended("/l", (2, 30), &Outcome::Appended { base_bytes: 60 }, at(5), &[silent]).unwrap();
        logs.appended("/l", (1, 100), &left(0, 60, 100), at(9), &[]).unwrap();
        let mut late = Logs::default();
        late.appended("/l", (2, 30), &Outcome::Appended { base_bytes: 60 }, at(5), &[silent]).unwrap();
        let wrong = late.appended("/l", (1, 100), &Outcome::Appended { base_bytes: 0 }, at(9), &[]);
        assert!(wrong.is_err(), "it was told that all its bytes are there, behind the back of the second one");
        let mut twice = Logs::default();
        twice.appended("/l", (2, 30), &Outcome::Appended { base_bytes: 60 }, at(5), &[]).unwrap();
        let flushed_too = twice.appended("/l", (3, 9), &left(60, 3, 9), at(9), &[]);
        assert!(flushed_too.is_err(), "two writers have bytes at the same place");
    }

    #[test]
    fn what_was_flushed_to_a_log_without_a_sync_may_go_when_two_nodes_lose_power_and_not_before() {
        let mut logs = Logs::default();
        logs.left_unsynced("/l", 1, BTreeSet::from([4]));
        logs.appended("/l", (1, 100), &left(0, 40, 100), at(1), &[]).unwrap();
        let first = content(1, 100);
        logs.power_cut(4);
        assert!(logs.read("/l", (&first[..39], true), HERE, (at(2), at(3)), &[]).is_err(), "one node alone");
        let mut closed = Logs::default();
        closed.left_unsynced("/l", 1, BTreeSet::from([4]));
        closed.appended("/l", (1, 100), &left(0, 40, 100), at(1), &[]).unwrap();
        closed.read("/l", (&first[..40], false), HERE, (at(2), at(3)), &[]).unwrap();
        closed.power_cut(5);
        assert!(closed.read("/l", (&first[..39], false), HERE, (at(2), at(3)), &[]).is_err(), "it was closed before");
        logs.power_cut(5);
        logs.read("/l", (&first[..39], false), HERE, (at(2), at(3)), &[]).unwrap();
    }

    #[test]
    fn a_log_is_the_segments_of_its_writers_and_never_gets_shorter() {
        let mut logs = Logs::default();
        logs.appended("/l", (1, 100), &left(0, 40, 100), at(1), &[]).unwrap();
        let first = content(1, 100);
        logs.read("/l", (&first[..50], false), HERE, (at(2), at(3)), &[]).unwrap();
        assert!(logs.read("/l", (&first[..39], false), HERE, (at(2), at(3)), &[]).is_err(), "flushed");
        assert!(logs.read("/l", (&first[..45], false), HERE, (at(4), at(5)), &[]).is_err(), "a read before saw more");
        logs.read("/l", (&first[..45], false), HERE, (at(2), at(5)), &[]).unwrap();
        logs.read("/l", (&first[..60], true), HERE, (at(2), at(5)), &[]).unwrap();
        assert!(
            logs.read("/l", (&first[..55], false), HERE, (at(6), at(7)), &[]).is_err(),
            "it was open, and had more"
        );
        let mut dark = logs.clone();
        dark.power_cut(1);
        dark.read("/l", (&first[..55], false), HERE, (at(6), at(7)), &[]).unwrap();
        let mut open_still = logs.clone();
        assert!(open_still.read("/l", (&first[..55], true), HERE, (at(6), at(7)), &[]).is_err(), "the same reader");
        for other in [(1, 1), (0, 2)] {
            open_still.read("/l", (&first[..55], true), other, (at(6), at(7)), &[]).unwrap();
        }
        logs.read("/l", (&first[..50], false), HERE, (at(4), at(5)), &[]).unwrap();
        let both = [&first[..50], &content(2, 20)].concat();
        assert!(logs.read("/l", (&both, false), HERE, (at(4), at(5)), &[]).is_err(), "nobody wrote the end");
        logs.read("/l", (&both, false), HERE, (at(4), at(5)), &[open(2, 50, 0, 20)]).unwrap();
        assert!(
            logs.read("/l", (&both, false), HERE, (at(4), at(5)), &[open(2, 50, 0, 19)]).is_err(),
            "more than was given"
        );
        logs.appended("/l", (2, 20), &Outcome::Appended { base_bytes: 50 }, at(6), &[]).unwrap();
        assert!(
            logs.read("/l", (&first, false), HERE, (at(7), at(8)), &[]).is_err(),
            "the second one's bytes are gone"
        );
        logs.read("/l", (&both, false), HERE, (at(7), at(8)), &[]).unwrap();
        assert!(logs.missing("/l", at(2)).is_err() && logs.missing("/m", at(2)).is_ok());
    }
}
