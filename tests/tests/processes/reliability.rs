//! What docs/reliability.md says is held against the code: it names every promise once, and what it names exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base::mutation::Mutation;

/// Promises by the letter of their kind.
const PROMISES: &[(&str, usize)] = &[("N", 8), ("D", 9), ("V", 5), ("F", 17), ("L", 10), ("S", 13), ("R", 6), ("U", 4)];
const INVARIANTS: usize = 21;
const SCARS: usize = 105;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    std::fs::read_to_string(top().join("docs/reliability.md")).expect("docs/reliability.md")
}

/// Rows of the page whose first cell begins with this, as their cells.
fn rows<'a>(page: &'a str, prefix: &str) -> Vec<Vec<&'a str>> {
    let lines = page.lines().filter(|line| line.starts_with(&format!("| {prefix}-")));
    lines.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect()).collect()
}

/// What a cell names: tests by crate and path, and paths of the repository.
fn named(cell: &str) -> Vec<&str> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.contains("::") || name.contains('/') || name.ends_with(".toml")).collect()
}

fn check_that_all_exists(id: &str, cells: &[&str]) {
    for name in cells.iter().flat_map(|cell| named(cell)) {
        assert!(super::rules::exists(&top(), name), "{id} names {name}, which does not exist");
    }
}

#[test]
fn every_promise_has_one_row_that_says_whether_it_is_kept_and_by_which_test() {
    let page = page();
    for (kind, count) in PROMISES {
        let rows = rows(&page, kind);
        let ids: Vec<String> = rows.iter().map(|cells| cells[0].to_owned()).collect();
        let wanted: Vec<String> = (1..=*count).map(|number| format!("{kind}-{number}")).collect();
        assert_eq!(ids, wanted, "each promise once, in their order");
        for cells in &rows {
            let [id, promise, covered, shown_by, missing] = cells[..] else { panic!("malformed row: {cells:?}") };
            assert!(!promise.is_empty(), "{id} says what is promised");
            match covered {
                "yes" => assert!(!named(shown_by).is_empty(), "{id} is shown by something"),
                "part" => {
                    assert!(!named(shown_by).is_empty() && !missing.is_empty(), "{id} says which part is missing")
                }
                "no" => assert!(named(shown_by).is_empty(), "{id} is not covered, but names {shown_by}"),
                other => panic!("{id}: covered is {other:?}"),
            }
            check_that_all_exists(id, cells);
        }
    }
}

#[test]
fn every_invariant_is_asserted_somewhere() {
    let page = page();
    let rows = rows(&page, "I");
    let ids: Vec<&str> = rows.iter().map(|cells| cells[0]).collect();
    let wanted: Vec<String> = (1..=INVARIANTS).map(|number| format!("I-{number}")).collect();
    assert_eq!(ids, wanted, "each invariant once, in their order");
    for cells in &rows {
        let [id, _, shown_by] = cells[..] else { panic!("malformed row: {cells:?}") };
        assert!(named(shown_by).iter().any(|name| name.contains("::")), "{id} has a test");
        check_that_all_exists(id, cells);
    }
}

#[test]
fn scars_are_counted_and_name_their_tests_and_their_bugs() {
    let page = page();
    let rows = rows(&page, "SC");
    let mut scars = BTreeSet::new();
    let mut bugs: BTreeMap<&str, &str> = BTreeMap::new();
    for cells in &rows {
        let [id, _, shown_by, put_back] = cells[..] else { panic!("malformed row: {cells:?}") };
        let number: usize = id.trim_start_matches("SC-").parse().expect("a number");
        assert!((1..=SCARS).contains(&number) && scars.insert(number), "{id}");
        assert!(named(shown_by).iter().any(|name| name.contains("::")), "{id} has a test");
        check_that_all_exists(id, cells);
        for bug in put_back.split('`').skip(1).step_by(2) {
            assert!(bug.starts_with(&format!("sc-{number:02}-")), "{id} has the bug {bug}");
            bugs.insert(bug, id);
        }
    }
    let known: BTreeSet<&str> = Mutation::ALL.iter().map(|mutation| mutation.name()).collect();
    assert_eq!(bugs.keys().copied().collect::<BTreeSet<_>>(), known, "the bugs of base/src/mutation.rs");
    let with_bugs = bugs.values().collect::<BTreeSet<_>>().len();
    let told = format!("**{} of {SCARS} scars** have a test, of **{with_bugs}** the bug can be put back", rows.len());
    assert!(page.contains(&told), "the page says: {told}");
}

/// Names of an enum's variants, or of a list that makes one, in a source.
fn variants(file: &str, from: &str) -> usize {
    let source = std::fs::read_to_string(top().join(file)).expect("a source");
    let body = source.split_once(from).unwrap_or_else(|| panic!("{file} has no {from}")).1;
    let inside = body.lines().take_while(|line| *line != "}");
    inside.filter(|line| line.strip_prefix("    ").is_some_and(|rest| rest.starts_with(char::is_uppercase))).count()
}

#[test]
fn what_is_simulated_is_counted_in_the_simulation() {
    let counts = [
        ("operations of clients", variants("sim/src/workload.rs", "pub enum Op {")),
        ("kinds of faults", variants("sim/src/faults.rs", "pub enum Kind {")),
        ("rare events", variants("sim/src/coverage.rs", "rare_events! {\n    // ")),
        ("faults of a disk", variants("base/src/disk/faults.rs", "pub enum DiskFaultKind {")),
    ];
    let page = page();
    for (what, found) in counts {
        let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {what} | ")));
        let told = row.and_then(|rest| rest.split(" | ").next()).and_then(|number| number.parse::<usize>().ok());
        let told = told.unwrap_or_else(|| panic!("the page counts {what}"));
        assert!(0 < told && told <= found, "{what}: the page says {told}, there are {found}");
    }
}
