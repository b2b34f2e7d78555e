//! Random operations: numbers that choose among few callers, names and values, so that operations meet, are refused
//! often, and a failing run can be made small.

use proptest::prelude::*;

use super::acl::{Change, Tag};
use super::rights::Person;
use super::tree::{Body, Tree};

/// Bytes that decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) kind: u8,
    pub(super) user: u8,
    pub(super) spots: [u16; 2],
    pub(super) number: u32,
}

pub(super) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<u8>(), any::<u8>(), any::<[u16; 2]>(), any::<u32>())
        .prop_map(|(kind, user, spots, number)| Step { kind, user, spots, number });
    proptest::collection::vec(step, 1..most)
}

/// A superuser, one by group, two that share a group, a stranger.
pub(super) const PEOPLE: [Person; 5] = [
    Person { name: "hdfs", groups: &["hdfs"], superuser: true },
    Person { name: "sue", groups: &["sue", "supergroup"], superuser: true },
    Person { name: "ann", groups: &["ann", "staff"], superuser: false },
    Person { name: "bob", groups: &["bob", "staff"], superuser: false },
    Person { name: "eve", groups: &["eve"], superuser: false },
];
/// Which of them calls: mostly those who are refused now and then.
pub(super) fn caller(number: u8) -> usize {
    [0, 1, 2, 2, 2, 3, 3, 4][usize::from(number % 8)]
}

pub(super) const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const TARGETS: [&str; 8] = ["b", "../c", "/w/a", "/nowhere", "d/../d", "a", ".", "../w/b/./c"];
/// Modes that let most things happen.
const MODES: [u32; 12] = [0o755, 0o777, 0o777, 0o777, 0o775, 0o1777, 0o1777, 0o2775, 0o700, 0o640, 0o500, 0];

pub(super) fn target(number: u32) -> &'static str {
    TARGETS[number as usize % TARGETS.len()]
}
pub(super) fn mode(number: u32) -> u32 {
    MODES[number as usize % MODES.len()]
}

/// A path that is there, a name below something that is there, or any path. `snapshots` are paths of snapshots.
pub(super) fn spot(tree: &Tree, snapshots: &[String], pick: u16) -> String {
    let paths = tree.paths();
    let (kind, pick) = (pick >> 12, usize::from(pick & 0xfff));
    let name = |at: usize| NAMES[pick >> (2 * at) & 3];
    let not_files: Vec<&String> =
        paths.iter().filter(|(_, id)| !matches!(tree.get(*id).body, Body::File(_))).map(|(path, _)| path).collect();
    match kind {
        0..=6 if paths.len() > 2 => paths[1 + pick % (paths.len() - 1)].0.clone(),
        7..=11 => format!("{}/{}", not_files[pick / 4 % not_files.len()], name(0)),
        12 if !snapshots.is_empty() => format!("{}/{}", snapshots[pick / 4 % snapshots.len()], name(0)),
        13 if pick.is_multiple_of(8) => "/".to_owned(),
        13 if pick % 8 == 1 => format!("{}/.snapshot", not_files[pick / 8 % not_files.len()]),
        _ => (0..1 + pick % 4).fold("/w".to_owned(), |path, at| format!("{path}/{}", name(at + 1))),
    }
}

pub(super) fn change(number: u32) -> Change {
    let all =
        [Change::Modify, Change::Modify, Change::RemoveEntries, Change::Set, Change::RemoveDefault, Change::RemoveAll];
    all[number as usize % all.len()]
}

/// Entries of an ACL for one scope: those whose bits are set.
pub(super) fn entries(bits: u32) -> Vec<(Tag, u32)> {
    let all = [
        Tag::User("bob".to_owned()),
        Tag::Group("staff".to_owned()),
        Tag::User("eve".to_owned()),
        Tag::Mask,
        Tag::Owner,
        Tag::OwningGroup,
        Tag::Other,
    ];
    let base = bits & 0x300 == 0;
    let chosen = all.into_iter().enumerate().filter(|(at, tag)| {
        bits >> at & 1 == 1 && (*at < 3 || bits >> 10 & 3 == 0)
            || base && matches!(tag, Tag::Owner | Tag::OwningGroup | Tag::Other)
    });
    chosen.map(|(at, tag)| (tag, bits >> (12 + 2 * at) & 7)).collect()
}
