//! Two mounts of one cluster, used at once.

use tests::command::arg;
use tests::tree;

use super::programs::shell;
use super::{Place, has};
use crate::mounts;

#[test]
fn heavy_what_programs_do_in_one_mount_others_find_in_another() {
    let Some(place) = Place::new() else { return };
    let Some(other) = mounts::target(&place.cluster, "other") else { return };
    mounts::mount(&place.cluster, &other, &["--allow-other"]).ok();
    let (from, dir) = (place.local("from"), place.folder("two"));
    let there = other.join("two");
    tree::make(&from, 14, 600);
    // Into each of the two at the same time, and each looks at what the other one has.
    let fill = |here: &str| format!("mkdir {here}; tar -C {} -cf - . | tar -C {here} -xf -", arg(&from));
    let (one, two) = (arg(&dir).to_owned(), arg(&there).to_owned());
    let both = format!("({}) & first=$!; (cd {two}; {}); wait $first", fill("one"), fill("two"));
    shell(&place, &dir, &both);
    for place_of in [&dir, &there] {
        tree::assert_same(&from, &place_of.join("one"));
        tree::assert_same(&from, &place_of.join("two"));
    }
    shell(&place, &dir, &format!("diff -r {one} {two}"));
    // Line after line from both into one log each, read through the other one.
    let log = |here: &str, name: &str| format!("for i in $(seq 100); do echo $i >> {here}/{name}; done");
    shell(&place, &dir, &format!("({}) & first=$!; {}; wait $first", log(&one, "a"), log(&two, "b")));
    shell(&place, &dir, &format!("seq 100 | cmp - {two}/a; seq 100 | cmp - {one}/b"));
    if has("git") {
        let commit = "git -c user.name=n -c user.email=e@e commit -q -m";
        shell(&place, &dir, &format!("git init -q repo; cd repo; echo 1 > f; git add f; {commit} one"));
        shell(&place, &there.join("repo"), &format!("git fsck --full; echo 2 > g; git add g; {commit} two"));
        let said =
            shell(&place, &dir.join("repo"), "git fsck --full; git rev-list --count HEAD; git status --porcelain");
        assert_eq!(said, "2\n");
    }
    if has("sqlite3") {
        // One after the other: locks hold within one mount.
        let insert = |n: u32| format!("sqlite3 d.db 'CREATE TABLE IF NOT EXISTS t(i); INSERT INTO t VALUES({n})'");
        for n in 0..20 {
            shell(&place, if n % 2 == 0 { &dir } else { &there }, &insert(n));
        }
        let asked = "sqlite3 d.db 'PRAGMA integrity_check; SELECT count(*) FROM t'";
        assert_eq!((shell(&place, &dir, asked), shell(&place, &there, asked)), ("ok\n20\n".into(), "ok\n20\n".into()));
    }
    place.cluster.run(&["umount", arg(&other)]).ok();
}
