//! What must be there: every acknowledged change, and for a change cut off by a crash either side of it.
//!
//! ```text
//!   put acknowledged      {content}            cut off   {nothing, content}: never half of it
//!   rm acknowledged       {nothing}            cut off   {content, nothing}
//!   mv acknowledged       a nothing, b content cut off   exactly one of the two names has it
//! ```
//!
//! What was seen once after a crash must stay: a check makes the states it saw the only allowed ones.

use std::collections::BTreeMap;
use std::path::Path;

use base::random::SeededRandom;

use crate::{Cluster, tree};

/// Contents by recipe, so that a ledger of many files is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Seed of the bytes.
    pub seed: u64,
    /// Length.
    pub len_bytes: u64,
}

impl Content {
    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        tree::bytes(&SeededRandom::new(self.seed), self.len_bytes)
    }
}

/// Allowed states of names.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    names: BTreeMap<String, Vec<Option<Content>>>,
    /// Moves whose end is not known: from, to, what.
    moves: Vec<(String, String, Content)>,
}

impl Ledger {
    /// A put begins.
    pub fn putting(&mut self, name: &str, content: Content) {
        self.names.insert(name.to_owned(), vec![None, Some(content)]);
    }
    /// A put was acknowledged.
    pub fn put(&mut self, name: &str, content: Content) {
        self.names.insert(name.to_owned(), vec![Some(content)]);
    }
    /// A removal begins.
    pub fn removing(&mut self, name: &str) {
        self.names.entry(name.to_owned()).or_default().push(None);
    }
    /// A removal was acknowledged.
    pub fn removed(&mut self, name: &str) {
        self.names.insert(name.to_owned(), vec![None]);
    }
    /// A move begins.
    pub fn moving(&mut self, from: &str, to: &str, content: Content) {
        self.moves.push((from.to_owned(), to.to_owned(), content));
        self.names.insert(from.to_owned(), vec![None, Some(content)]);
        self.names.insert(to.to_owned(), vec![None, Some(content)]);
    }
    /// A move was acknowledged.
    pub fn moved(&mut self, from: &str, to: &str, content: Content) {
        self.moves.retain(|(a, b, _)| a != from || b != to);
        self.removed(from);
        self.put(to, content);
    }
    /// Names that are certainly there.
    #[must_use]
    pub fn certain(&self) -> Vec<(String, Content)> {
        let one = |(name, states): (&String, &Vec<Option<Content>>)| match states[..] {
            [Some(content)] => Some((name.clone(), content)),
            _ => None,
        };
        self.names.iter().filter_map(one).collect()
    }
    /// How many names it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }
    /// Does it know none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names with a prefix, taken out.
    #[must_use]
    pub fn part(&mut self, prefix: &str) -> Self {
        let (own, rest) = std::mem::take(&mut self.names).into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.names = rest;
        Self { names: own, moves: vec![] }
    }
    /// Takes the names of another ledger in.
    pub fn take_over(&mut self, other: Self) {
        self.names.extend(other.names);
        self.moves.extend(other.moves);
    }

    /// Gets the directory out of the cluster and compares it with what must be there.
    ///
    /// # Panics
    /// If anything acknowledged is missing or different, or anything is there that nobody put.
    pub fn check(&mut self, cluster: &Cluster, directory: &str) {
        let out = cluster.scratch("check");
        if out.exists() {
            std::fs::remove_dir_all(&out).expect("remove the last check's copy");
        }
        let got = cluster.run(&["get", "-r", directory, crate::command::arg(&out)]);
        assert!(got.status.success(), "get of {directory} failed: {}{}{}", got.text(), got.stderr, cluster.logs());
        self.compare(&out);
    }

    fn compare(&mut self, out: &Path) {
        let found = tree::list(out);
        for name in found.iter().filter(|(_, size)| size.is_some()).map(|(path, _)| crate::command::arg(path)) {
            assert!(self.names.contains_key(name), "{name} is there but nobody put it");
        }
        let mut seen = BTreeMap::new();
        for (name, allowed) in &self.names {
            let bytes = found.contains_key(Path::new(name)).then(|| std::fs::read(out.join(name)).expect("copy"));
            let matching = allowed.iter().copied().find(|state| match (state, &bytes) {
                (None, None) => true,
                (Some(content), Some(bytes)) => content.len_bytes == bytes.len() as u64 && content.bytes() == *bytes,
                _ => false,
            });
            let Some(state) = matching else {
                let len = bytes.map(|bytes| bytes.len());
                panic!("{name}: allowed are {allowed:?}, but it is there with length {len:?}");
            };
            seen.insert(name.clone(), vec![state]);
        }
        for (from, to, content) in &self.moves {
            let has = |name: &String| seen.get(name).is_some_and(|states| states[0] == Some(*content));
            assert!(has(from) != has(to), "the move of {from} to {to} left it under both names or none");
        }
        self.moves.clear();
        self.names = seen;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(dir.path().join(name), bytes).unwrap());
        dir
    }

    #[test]
    fn a_missing_acknowledged_file_is_found_out() {
        let content = Content { seed: 1, len_bytes: 10 };
        let mut ledger = Ledger::default();
        ledger.put("a", content);
        ledger.putting("b", content);
        ledger.compare(place(&[("a", &content.bytes())]).path());
        let lost = place(&[]);
        assert!(std::panic::catch_unwind(move || ledger.clone().compare(lost.path())).is_err());
    }

    #[test]
    fn half_a_file_and_a_doubled_move_are_found_out() {
        let content = Content { seed: 2, len_bytes: 10 };
        let mut ledger = Ledger::default();
        ledger.putting("a", content);
        let half = place(&[("a", &content.bytes()[..5])]);
        assert!(std::panic::catch_unwind(move || ledger.clone().compare(half.path())).is_err());
        let mut ledger = Ledger::default();
        ledger.moving("a", "b", content);
        let both = place(&[("a", &content.bytes()), ("b", &content.bytes())]);
        let doubled = ledger.clone();
        assert!(std::panic::catch_unwind(move || doubled.clone().compare(both.path())).is_err());
        ledger.compare(place(&[("b", &content.bytes())]).path());
        assert_eq!(ledger.certain(), [("b".to_owned(), content)]);
    }
}
