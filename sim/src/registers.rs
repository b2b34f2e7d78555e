//! Shared files as registers: all clients overwrite and read them, and what is read must be linearizable.
//!
//! A read may not return contents that were overwritten, for sure, before it began, nor contents whose write began
//! after it ended, nor anything that nobody wrote. Files are never deleted here, so once a write has ended the file
//! is there.

use std::collections::BTreeMap;

use base::clock::Moment;

#[derive(Clone, Copy, Debug)]
struct Write {
    tag: u64,
    begun: Moment,
    /// `None`: not acknowledged; it may take effect at any time, or never.
    ended: Option<Moment>,
}

/// The history of all shared files.
#[derive(Debug, Default)]
pub struct Registers {
    writes: BTreeMap<String, Vec<Write>>,
    /// Newest begin of a write that some finished read has seen, with the end of that read.
    seen: BTreeMap<String, Vec<(u64, Moment)>>,
}

impl Registers {
    /// A write is over. `ended`: when it was acknowledged; `None` if nobody knows what became of it.
    pub fn wrote(&mut self, path: &str, tag: u64, begun: Moment, ended: Option<Moment>) {
        self.writes.entry(path.to_owned()).or_default().push(Write { tag, begun, ended });
    }

    /// A read is over: it brought `tag`, or found no file. Writes that are still under way are given beside.
    ///
    /// # Errors
    /// If no order of the writes explains it.
    pub fn read(
        &mut self,
        path: &str,
        tag: Option<u64>,
        (begun, ended): (Moment, Moment),
        under_way: &[(u64, Moment)],
    ) -> Result<(), String> {
        let mut writes = self.writes.get(path).cloned().unwrap_or_default();
        writes.extend(under_way.iter().map(|(tag, begun)| Write { tag: *tag, begun: *begun, ended: None }));
        let Some(tag) = tag else {
            return match writes.iter().find(|write| write.ended.is_some_and(|at| at < begun)) {
                Some(write) => Err(format!("{path} is missing, though {:x} was acknowledged before", write.tag)),
                None => Ok(()),
            };
        };
        let Some(found) = writes.iter().find(|write| write.tag == tag) else {
            return Err(format!("{path} holds {tag:x}, which nobody wrote"));
        };
        if found.begun > ended {
            return Err(format!("{path} held {tag:x} before it was written"));
        }
        let older = |write: &&Write| found.ended.is_some_and(|at| at < write.begun);
        if let Some(newer) = writes.iter().filter(older).find(|write| write.ended.is_some_and(|at| at < begun)) {
            return Err(format!("{path} holds {tag:x}, though {:x} replaced it before the read began", newer.tag));
        }
        // Reads do not go back: what an earlier read saw was there from its end on.
        let seen = self.seen.entry(path.to_owned()).or_default();
        for (other, at) in seen.iter().filter(|(other, at)| *other != tag && *at < begun) {
            let newer = writes.iter().find(|write| write.tag == *other);
            if newer.is_some_and(|newer| found.ended.is_some_and(|ended| ended < newer.begun)) {
                return Err(format!("{path} holds {tag:x}, though {other:x} was read until {at:?}"));
            }
        }
        seen.push((tag, ended));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }

    #[test]
    fn stale_reads_and_reads_of_nothing_are_found() {
        let mut registers = Registers::default();
        registers.wrote("/k", 1, at(1), Some(at(2)));
        registers.wrote("/k", 2, at(3), Some(at(5)));
        registers.read("/k", Some(1), (at(4), at(6)), &[]).unwrap();
        registers.read("/k", Some(2), (at(4), at(6)), &[]).unwrap();
        assert!(registers.read("/k", Some(1), (at(7), at(8)), &[]).is_err(), "replaced before");
        assert!(registers.read("/k", None, (at(7), at(8)), &[]).is_err(), "missing");
        assert!(registers.read("/k", Some(3), (at(7), at(8)), &[]).is_err(), "nobody wrote it");
        registers.read("/k", Some(3), (at(7), at(8)), &[(3, at(7))]).unwrap();
        registers.wrote("/k", 3, at(7), None);
        registers.read("/k", Some(2), (at(9), at(10)), &[]).unwrap_err();
    }
}
