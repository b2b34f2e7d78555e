//! What `sync` does in one directory, as a function of what both sides have there. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::verbs::copy::same::{Likeness, Looks};
use crate::verbs::filter::{Filters, join};

/// A name on one side. `origin` is what whoever copies needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<T> {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) origin: T,
}

/// What a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File(Looks),
    Directory,
    /// A symbolic link: where it leads, as it is written.
    Link(String),
    /// Something that is not copied, and why. What is at the destination under its name stays.
    Unfit(&'static str),
}

/// How two sides are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Files of the same length are read and compared, whatever their times are.
    pub(super) checksum: bool,
    /// What the source does not have is removed.
    pub(super) delete: bool,
}

/// One thing to do. Numbers are places in the lists: `source` in that of the source, `there` in that of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Length and time are the same.
    Same { source: usize },
    /// The length is the same: the contents say whether it is copied.
    Compare { source: usize },
    /// Copy a file, over the one that is there if there is one.
    Copy { source: usize },
    /// Make a link, in the place of one that is there.
    Link { source: usize, replace: bool },
    /// Go into a directory; make it first if it is not there.
    Enter { source: usize, make: bool },
    /// Another kind is in the way. It goes when what comes in its place is whole.
    Replace { source: usize, there: usize },
    /// A directory is in the way, and nothing may be removed.
    Blocked { source: usize },
    /// Not copied, and told.
    LeaveOut { source: usize, why: &'static str },
    /// Remove what the source does not have. Done last, and only if nothing failed.
    Remove { there: usize },
}

impl Step {
    /// The number of the source's name that it is about.
    pub(super) const fn source(&self) -> Option<usize> {
        match self {
            Self::Same { source }
            | Self::Compare { source }
            | Self::Copy { source }
            | Self::Link { source, .. }
            | Self::Enter { source, .. }
            | Self::Replace { source, .. }
            | Self::Blocked { source }
            | Self::LeaveOut { source, .. } => Some(*source),
            Self::Remove { .. } => None,
        }
    }
}

/// Names that are one where names that differ only in case are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubles {
    /// Numbers of names of the source, each with that of the one before it that is the same there.
    pub(super) source: BTreeMap<usize, usize>,
    /// Numbers of names that only the destination has, and that are one with a name of the source.
    pub(super) there: BTreeSet<usize>,
}

impl Doubles {
    pub(super) fn is_empty(&self) -> bool {
        self.source.is_empty() && self.there.is_empty()
    }

    /// Both lists are sorted by name.
    pub(super) fn of<T, U>(source: &[Entry<T>], there: &[Entry<U>]) -> Self {
        let (mut doubles, mut folded) = (Self::default(), BTreeMap::new());
        for (number, entry) in source.iter().enumerate() {
            let first = *folded.entry(entry.name.to_lowercase()).or_insert(number);
            if first != number {
                doubles.source.insert(number, first);
            }
        }
        for (number, entry) in there.iter().enumerate() {
            let alone = source.binary_search_by(|one| one.name.cmp(&entry.name)).is_err();
            if alone && folded.contains_key(&entry.name.to_lowercase()) {
                doubles.there.insert(number);
            }
        }
        doubles
    }
}

/// What is to be done in a directory; `below` is its path below the top. Both lists are sorted by name.
///
/// What the filters leave out is neither copied nor removed.
pub(super) fn plan<T, U>(
    below: &str,
    source: &[Entry<T>],
    there: &[Entry<U>],
    rules: Rules,
    filters: &Filters,
) -> Vec<Step> {
    let wanted = |name: &str, kind: &Kind| wanted(filters, &join(below, name), kind);
    let mut steps = Vec::new();
    for (number, entry) in source.iter().enumerate() {
        if wanted(&entry.name, &entry.kind) {
            let at = there.binary_search_by(|other| other.name.cmp(&entry.name)).ok();
            // A name that is left out at the destination is not touched there.
            match at.and_then(|at| Some((at, there.get(at)?))) {
                Some((at, other)) if wanted(&other.name, &other.kind) => {
                    both(number, &entry.kind, (at, &other.kind), rules, &mut steps);
                }
                Some(_) => steps.push(Step::LeaveOut { source: number, why: "is left out at the destination" }),
                None => steps.push(alone(number, &entry.kind)),
            }
        }
    }
    if rules.delete {
        let gone = |name: &str| source.binary_search_by(|other| other.name.as_str().cmp(name)).is_err();
        let fit = |kind: &Kind| !matches!(kind, Kind::Unfit(_));
        let goes = |one: &Entry<U>| fit(&one.kind) && gone(&one.name) && wanted(&one.name, &one.kind);
        let removed = there.iter().enumerate().filter(|(_, one)| goes(one));
        steps.extend(removed.map(|(there, _)| Step::Remove { there }));
    }
    steps
}

/// Do the filters take this? `path` is its path below the top.
pub(super) fn wanted(filters: &Filters, path: &str, kind: &Kind) -> bool {
    match kind {
        Kind::Directory => filters.enters(path),
        _ => filters.takes(path),
    }
}

/// A name that only the source has.
fn alone(source: usize, kind: &Kind) -> Step {
    match kind {
        Kind::File(_) => Step::Copy { source },
        Kind::Directory => Step::Enter { source, make: true },
        Kind::Link(_) => Step::Link { source, replace: false },
        Kind::Unfit(why) => Step::LeaveOut { source, why },
    }
}

/// A name that both sides have.
fn both(source: usize, kind: &Kind, (there, other): (usize, &Kind), rules: Rules, steps: &mut Vec<Step>) {
    match (kind, other) {
        (Kind::Unfit(why), _) => steps.push(Step::LeaveOut { source, why }),
        (_, Kind::Unfit(_)) => steps.push(Step::LeaveOut { source, why: "cannot be replaced at the destination" }),
        (Kind::File(ours), Kind::File(theirs)) => steps.push(match ours.likeness(theirs) {
            Likeness::OtherLength => Step::Copy { source },
            Likeness::SameTime | Likeness::OtherTime if rules.checksum => Step::Compare { source },
            Likeness::SameTime => Step::Same { source },
            Likeness::OtherTime => Step::Copy { source },
        }),
        (Kind::Directory, Kind::Directory) => steps.push(Step::Enter { source, make: false }),
        (Kind::Link(ours), Kind::Link(theirs)) if ours == theirs => steps.push(Step::Same { source }),
        (Kind::Link(_), Kind::Link(_)) => steps.push(Step::Link { source, replace: true }),
        (_, Kind::Directory) if !rules.delete => steps.push(Step::Blocked { source }),
        _ => steps.push(Step::Replace { source, there }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::filter::Rule;
    use proptest::prelude::*;

    fn file(name: &str, len_bytes: u64, mtime_ns: i64) -> Entry<()> {
        Entry { name: name.into(), kind: Kind::File(Looks { len_bytes, mtime_ns }), origin: () }
    }
    fn directory(name: &str) -> Entry<()> {
        Entry { name: name.into(), kind: Kind::Directory, origin: () }
    }
    fn link(name: &str, target: &str) -> Entry<()> {
        Entry { name: name.into(), kind: Kind::Link(target.into()), origin: () }
    }
    fn unfit(name: &str) -> Entry<()> {
        Entry { name: name.into(), kind: Kind::Unfit("is a device"), origin: () }
    }

    const PLAIN: Rules = Rules { checksum: false, delete: false };
    const DELETE: Rules = Rules { checksum: false, delete: true };

    fn steps(source: &[Entry<()>], there: &[Entry<()>], rules: Rules) -> Vec<Step> {
        plan("", source, there, rules, &Filters::default())
    }

    #[test]
    fn what_is_new_is_copied_and_what_is_the_same_stays() {
        use Step::{Compare, Copy, Enter, Link, Same};
        let source = [file("a", 1, 1), directory("d"), file("e", 1, 1), link("l", "x"), file("z", 2, 2)];
        assert_eq!(
            steps(&source, &[], DELETE),
            [
                Copy { source: 0 },
                Enter { source: 1, make: true },
                Copy { source: 2 },
                Link { source: 3, replace: false },
                Copy { source: 4 }
            ]
        );
        let there = [file("a", 1, 1), directory("d"), file("e", 1, 9), link("l", "y"), file("z", 3, 2)];
        assert_eq!(
            steps(&source, &there, PLAIN),
            [
                Same { source: 0 },
                Enter { source: 1, make: false },
                Copy { source: 2 },
                Link { source: 3, replace: true },
                Copy { source: 4 }
            ]
        );
        assert_eq!(steps(&source, &source, PLAIN)[3], Same { source: 3 });
        let checked = steps(&source, &there, Rules { checksum: true, delete: false });
        assert_eq!(
            [&checked[0], &checked[2], &checked[4]],
            [&Compare { source: 0 }, &Compare { source: 2 }, &Copy { source: 4 }]
        );
    }

    #[test]
    fn nothing_is_removed_unless_that_was_said() {
        let (source, there) = ([file("b", 1, 1)], [directory("a"), file("b", 1, 1), file("c", 1, 1)]);
        assert_eq!(steps(&source, &there, PLAIN), [Step::Same { source: 0 }]);
        assert_eq!(
            steps(&source, &there, DELETE),
            [Step::Same { source: 0 }, Step::Remove { there: 0 }, Step::Remove { there: 2 }]
        );
    }

    #[test]
    fn another_kind_is_in_the_way() {
        use Step::{Blocked, LeaveOut, Replace};
        let (file, directory, link) = (|| [file("x", 1, 1)], || [directory("x")], || [link("x", "y")]);
        // A file or a link goes, as when a file is replaced.
        assert_eq!(steps(&file(), &link(), PLAIN), [Replace { source: 0, there: 0 }]);
        assert_eq!(steps(&directory(), &file(), PLAIN), [Replace { source: 0, there: 0 }]);
        assert_eq!(steps(&link(), &file(), PLAIN), [Replace { source: 0, there: 0 }]);
        // A directory, with all that is in it, only if that was said.
        assert_eq!(steps(&file(), &directory(), PLAIN), [Blocked { source: 0 }]);
        assert_eq!(steps(&file(), &directory(), DELETE), [Replace { source: 0, there: 0 }]);
        // What is not copied is not removed for it either.
        let why = "is a device";
        assert_eq!(steps(&[unfit("x")], &directory(), DELETE), [LeaveOut { source: 0, why }]);
        let why = "cannot be replaced at the destination";
        assert_eq!(steps(&file(), &[unfit("x")], DELETE), [LeaveOut { source: 0, why }]);
    }

    #[test]
    fn what_is_filtered_out_is_neither_copied_nor_removed() {
        let filters = Filters {
            include: vec![Rule::parse("*.log").unwrap()],
            exclude: vec![Rule::parse("old*").unwrap(), Rule::parse("top/secret/").unwrap()],
        };
        let source = [file("a.log", 1, 1), file("b.txt", 1, 1), file("old.log", 1, 1), directory("secret")];
        let there = [file("c.log", 1, 1), file("d.txt", 1, 1), directory("oldies"), directory("secret")];
        assert_eq!(
            plan("top", &source, &there, DELETE, &filters),
            [Step::Copy { source: 0 }, Step::Remove { there: 0 }]
        );
        assert_eq!(
            plan("other", &source, &there, DELETE, &filters).get(1),
            Some(&Step::Enter { source: 3, make: false })
        );
        // A directory of a name that is taken as a file, but not gone into.
        let filters = Filters { include: vec![], exclude: vec![Rule::parse("x/").unwrap()] };
        let why = "is left out at the destination";
        assert_eq!(
            plan("", &[file("x", 1, 1)], &[directory("x")], DELETE, &filters),
            [Step::LeaveOut { source: 0, why }]
        );
    }

    #[test]
    fn names_that_differ_only_in_case_are_found() {
        let all = |names: &[&str]| names.iter().map(|name| file(name, 1, 1)).collect::<Vec<_>>();
        let source = all(&["A", "README", "a", "b", "\u{c4}", "\u{e4}"]);
        let doubles = Doubles::of(&source, &all(&["B", "README", "a", "z"]));
        assert_eq!(doubles.source, BTreeMap::from([(2, 0), (5, 4)]));
        assert_eq!(doubles.there, BTreeSet::from([0]), "B is b");
        assert!(Doubles::of(&all(&["a", "b"]), &all(&["a", "c"])).is_empty());
    }

    fn any_entries() -> impl Strategy<Value = Vec<Entry<()>>> {
        let kind = prop_oneof![
            (0..2_u64, 1..3_i64).prop_map(|(len_bytes, mtime_ns)| Kind::File(Looks { len_bytes, mtime_ns })),
            Just(Kind::Directory),
            "[xy]".prop_map(Kind::Link),
            Just(Kind::Unfit("is odd")),
        ];
        proptest::collection::btree_map("[a-d]", kind, 0..5)
            .prop_map(|map| map.into_iter().map(|(name, kind)| Entry { name, kind, origin: () }).collect())
    }

    /// What a destination holds after the steps, if every copy makes it like the source.
    fn after(source: &[Entry<()>], there: &[Entry<()>], steps: &[Step]) -> Vec<Entry<()>> {
        let mut now: std::collections::BTreeMap<String, Kind> =
            there.iter().map(|entry| (entry.name.clone(), entry.kind.clone())).collect();
        for step in steps {
            match step {
                Step::Remove { there: at } => assert!(now.remove(&there[*at].name).is_some()),
                Step::Replace { source: from, there: at } => {
                    assert_eq!(source[*from].name, there[*at].name);
                    let before = now.insert(source[*from].name.clone(), source[*from].kind.clone());
                    assert_ne!(
                        before.map(|kind| std::mem::discriminant(&kind)),
                        Some(std::mem::discriminant(&source[*from].kind))
                    );
                }
                Step::Copy { source: at } | Step::Compare { source: at } => {
                    let before = now.insert(source[*at].name.clone(), source[*at].kind.clone());
                    assert!(matches!(before, None | Some(Kind::File(_))), "only files are written over");
                }
                Step::Link { source: at, replace } => {
                    let before = now.insert(source[*at].name.clone(), source[*at].kind.clone());
                    assert_eq!(*replace, matches!(before, Some(Kind::Link(_))));
                    assert!(matches!(before, None | Some(Kind::Link(_))));
                }
                Step::Enter { source: at, make } => {
                    let before = now.insert(source[*at].name.clone(), Kind::Directory);
                    assert_eq!(*make, before.is_none());
                }
                Step::Same { source: at } => assert_eq!(now.get(&source[*at].name), Some(&source[*at].kind)),
                Step::Blocked { .. } | Step::LeaveOut { .. } => {}
            }
        }
        now.into_iter().map(|(name, kind)| Entry { name, kind, origin: () }).collect()
    }

    proptest! {
        #[test]
        fn with_delete_the_destination_becomes_the_source(source in any_entries(), there in any_entries()) {
            let fit = |entries: &[Entry<()>]| !entries.iter().any(|one| matches!(one.kind, Kind::Unfit(_)));
            let done = steps(&source, &there, DELETE);
            let now = after(&source, &there, &done);
            if fit(&source) && fit(&there) {
                prop_assert_eq!(&now, &source);
            }
            // A second run has nothing to do.
            let again = steps(&source, &now, DELETE);
            let idle = |step: &Step| {
                matches!(step, Step::Same { .. } | Step::Enter { make: false, .. } | Step::LeaveOut { .. })
            };
            prop_assert!(again.iter().all(idle), "{:?}", again);
        }

        #[test]
        fn without_delete_no_name_goes(source in any_entries(), there in any_entries(), checksum in any::<bool>()) {
            let done = steps(&source, &there, Rules { checksum, delete: false });
            let now = after(&source, &there, &done);
            for entry in &there {
                prop_assert!(now.iter().any(|one| one.name == entry.name));
            }
            let removes = done.iter().any(|step| matches!(step, Step::Remove { .. }));
            prop_assert!(!removes);
        }
    }
}
