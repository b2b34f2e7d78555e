//! pjdfstest: every case that ext4 passes on this machine passes in a mount, too.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::{Place, has, said};

/// Cases that ext4 passes and a mount does not, each with its reason. One that passes by now must go.
const KNOWN: [(&str, &str); 1] = [(
    "link::link_count_max",
    "it skips itself: the C library does not know how many names a file may have in a mount",
)];
/// Its settings: what is tried, and who is not root.
const SETTINGS: &str = "[features]
posix_fallocate = {}
rename_ctime = {}
utimensat = {}
utime_now = {}
[settings]
naptime = 0.01
allow_remount = false
expected_failures = []
[dummy_auth]
entries = [ [\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"] ]
";

/// What became of each case.
fn cases(dir: &Path, scratch: &Path) -> BTreeMap<String, String> {
    let settings = scratch.join("pjdfstest.toml");
    std::fs::write(&settings, SETTINGS).expect("settings");
    let mut command = Command::new("pjdfstest");
    command.arg("-c").arg(&settings).arg("-p").arg(dir);
    let (_, said) = said(&mut command, &scratch.join("pjdfstest.log"));
    let of = |line: &str| {
        let (name, end) = line.rsplit_once(char::is_whitespace)?;
        let name = name.split_whitespace().next().filter(|name| name.contains("::"))?;
        Some((name.to_owned(), end.to_owned()))
    };
    let cases: BTreeMap<String, String> = said.lines().filter_map(of).collect();
    assert!(cases.len() > 300, "only {} cases: {said}", cases.len());
    cases
}

#[test]
fn heavy_pjdfstest_passes_what_ext4_passes() {
    let Some(place) = Place::new() else { return };
    if !has("pjdfstest") {
        return;
    }
    let scratch = place.local("scratch");
    let (there, here) = (cases(&place.local("own"), &scratch), cases(&place.folder("pjd"), &scratch));
    let passed = |cases: &BTreeMap<String, String>, name: &str| cases.get(name).is_some_and(|end| end == "ok");
    let wanted: Vec<&String> = there.keys().filter(|name| passed(&there, name)).collect();
    let missing: Vec<&str> = wanted.iter().filter(|name| !passed(&here, name)).map(|name| name.as_str()).collect();
    println!("pjdfstest: {} of {} cases that ext4 passes", wanted.len() - missing.len(), wanted.len());
    missing.iter().for_each(|name| println!("  not here: {name}"));
    let known: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
    assert_eq!(missing, known);
}
