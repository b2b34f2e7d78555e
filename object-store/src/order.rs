//! The order of objects within a directory, and which of them come after a key. Pure.
//!
//! The cluster lists a directory by name, objects are ordered by their whole path, and these differ: `a/x` comes after
//! `a b`, though the directory `a` comes before the file `a b`. So a directory waits until its turn has come:
//!
//! ```text
//!   by name   a (directory)   a b   aa         a stands for a/
//!   by path   a b   a/…   aa
//! ```
//!
//! A *key* is the path of an object, or that of a directory with a slash at its end.

use std::collections::BTreeMap;

/// Brings the entries of a directory, which come by name, into the order of their keys. It keeps those only whose turn
/// has not come: directories whose name begins the names after it.
#[derive(Debug)]
pub(crate) struct ByKey<T> {
    waiting: BTreeMap<String, T>,
}

impl<T> Default for ByKey<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new() }
    }
}

impl<T> ByKey<T> {
    /// Takes the next entry, and gives those whose turn has come, with the last part of their keys.
    pub(crate) fn push(&mut self, name: &str, is_directory: bool, entry: T) -> BTreeMap<String, T> {
        // All that are still to come have this name or a later one, and a key is never before its name.
        let later = self.waiting.split_off(name);
        let ready = std::mem::replace(&mut self.waiting, later);
        let slash = if is_directory { "/" } else { "" };
        self.waiting.insert(format!("{name}{slash}"), entry);
        ready
    }

    /// There are no more entries: gives the rest.
    pub(crate) fn finish(&mut self) -> BTreeMap<String, T> {
        std::mem::take(&mut self.waiting)
    }
}

/// Can there be keys after `after` in a directory? Its key is `directory`, empty for the root of all.
pub(crate) fn has_keys_after(directory: &str, after: &str) -> bool {
    after.starts_with(directory) || directory > after
}

/// A text that all names of a directory begin with, or come after, whose keys come after `after`.
pub(crate) fn first_name<'a>(directory: &str, after: &'a str) -> &'a str {
    let Some(rest) = after.strip_prefix(directory) else { return "" };
    let name = rest.split('/').next().unwrap_or_default();
    // Of `a b`: the directory `a` comes before it by name, and after it by key.
    let end = name.bytes().position(|byte| byte < b'/').unwrap_or(name.len());
    name.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Paths as object stores compare them, with the characters around the slash.
    fn paths() -> impl Strategy<Value = BTreeSet<String>> {
        proptest::collection::btree_set("[ab !.0~]{1,3}(/[ab !.0~]{1,3}){0,2}", 0..40).prop_map(|all| {
            // A file has nothing below it.
            let is_above = |path: &String| all.iter().any(|other| other.starts_with(&format!("{path}/")));
            all.iter().filter(|path| !is_above(path)).cloned().collect()
        })
    }

    /// Names in a directory of these paths, and whether they are directories.
    fn names(all: &BTreeSet<String>, directory: &str) -> BTreeMap<String, bool> {
        all.iter()
            .filter_map(|path| path.strip_prefix(directory))
            .map(|rest| rest.split_once('/').map_or((rest.to_owned(), false), |(name, _)| (name.to_owned(), true)))
            .collect()
    }

    /// The walk, without a cluster.
    fn walk(all: &BTreeSet<String>, directory: &str, after: &str, found: &mut Vec<String>) {
        let (mut order, first) = (ByKey::default(), first_name(directory, after));
        let mut ordered = Vec::new();
        for (name, is_directory) in names(all, directory).range(first.to_owned()..) {
            ordered.extend(order.push(name, *is_directory, *is_directory));
        }
        ordered.extend(order.finish());
        for (part, is_directory) in ordered {
            let key = format!("{directory}{part}");
            if is_directory && has_keys_after(&key, after) {
                walk(all, &key, after, found);
            } else if !is_directory && *key > *after {
                found.push(key);
            }
        }
    }

    proptest! {
        #[test]
        fn a_walk_gives_every_path_after_a_key_in_order(all in paths(), after in "([ab !.0~]{1,3}(/[ab !.0~]{0,3}){0,2})?") {
            let mut found = Vec::new();
            walk(&all, "", &after, &mut found);
            let expected: Vec<String> = all.iter().filter(|path| **path > after).cloned().collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_directory_waits_for_the_files_before_its_paths() {
        let mut order = ByKey::default();
        let keys = |ready: BTreeMap<String, ()>| ready.into_keys().collect::<Vec<_>>().join(" | ");
        assert_eq!(keys(order.push("a", true, ())), "");
        assert_eq!(keys(order.push("a b", false, ())), "");
        assert_eq!(keys(order.push("a-c", true, ())), "a b");
        assert_eq!(keys(order.push("aa", false, ())), "a-c/ | a/");
        assert_eq!(keys(order.finish()), "aa");
    }

    #[test]
    fn directories_before_the_key_are_not_looked_into() {
        assert!(has_keys_after("", "anything") && has_keys_after("a/", "a/b") && has_keys_after("b/", "a/b"));
        assert!(has_keys_after("a/", "a b"), "a/ comes after a b");
        assert!(!has_keys_after("a/", "a0") && !has_keys_after("a/", "b"));
        assert_eq!(first_name("t/", "t/part-7/x"), "part");
        assert_eq!(first_name("t/", "t/x7/y"), "x7");
        assert_eq!(first_name("t/", "s/x"), "");
    }
}
