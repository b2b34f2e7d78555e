//! Known bugs put back, one at a time: the test that is named for each must fail then, and pass without.
//!
//! ```text
//!   tests/mutations.toml   [package.binary]  mutation = "path::of::the_test"
//!   heavy: build every test binary once ─▶ each named test without any bug: passes
//!                                       └▶ the same with its bug put back:   fails by itself, in time
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base::mutation::Mutation;

/// A test that has not ended by then has not noticed anything: whoever waits for ever must say so by itself.
const PATIENCE: Duration = Duration::from_secs(180);
/// Tests that run at a time.
const AT_A_TIME: usize = 2;
/// Scars of which a bug must be put back, at least.
const SCARS_AT_LEAST: usize = 40;

/// A mutation and the test that catches it.
#[derive(Clone, Debug)]
struct Catch {
    mutation: String,
    package: String,
    /// `lib`, or the name of an integration test.
    binary: String,
    test: String,
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn catches() -> Vec<Catch> {
    let text = std::fs::read_to_string(top().join("tests/mutations.toml")).expect("tests/mutations.toml");
    let list: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>> = toml::from_str(&text).expect("TOML");
    let mut catches = Vec::new();
    for (package, binaries) in list {
        for (binary, tests) in binaries {
            for (mutation, test) in tests {
                let (package, binary) = (package.clone(), binary.clone());
                catches.push(Catch { mutation, package, binary, test });
            }
        }
    }
    catches
}

/// Number of the scar in a mutation's name.
fn scar(mutation: &str) -> u32 {
    mutation.split('-').nth(1).and_then(|number| number.parse().ok()).expect("sc-<number>-<what>")
}

#[test]
fn every_mutation_has_one_test_and_every_test_exists() {
    let catches = catches();
    let listed: BTreeSet<&str> = catches.iter().map(|catch| catch.mutation.as_str()).collect();
    let known: BTreeSet<&str> = Mutation::ALL.iter().map(|mutation| mutation.name()).collect();
    assert_eq!(listed, known, "the list and base/src/mutation.rs name the same bugs");
    assert_eq!(listed.len(), catches.len(), "a bug is listed once");
    for Catch { mutation, package, binary, test } in &catches {
        let file = if binary == "lib" { "src".into() } else { format!("tests/{binary}") };
        let place = top().join(package).join(file);
        let shown = super::rules::exists(&top(), &format!("{package}::{test}"));
        assert!(shown, "{mutation}: {package} has no test {test}");
        assert!(place.exists() || place.with_extension("rs").exists(), "{mutation}: {} is not there", place.display());
    }
    let scars: BTreeSet<u32> = listed.iter().map(|mutation| scar(mutation)).collect();
    assert!(scars.len() >= SCARS_AT_LEAST, "{} scars, {SCARS_AT_LEAST} are wanted", scars.len());
}

/// A mutation that nothing asks for would be caught by no test.
#[test]
fn every_mutation_has_its_place_in_the_code() {
    let members = ["base", "auth", "transfer", "namenode", "datanode", "client", "cli"];
    let texts: Vec<String> =
        members.iter().flat_map(|member| super::rules::sources(&top().join(member).join("src"))).collect();
    for mutation in Mutation::ALL {
        let call = format!("mutated!({mutation:?})");
        assert!(texts.iter().any(|text| text.contains(&call)), "{call} stands nowhere");
    }
}

#[test]
fn heavy_mutations_are_caught_by_the_tests_that_are_named_for_them() {
    if !tests::heavy("mutations") {
        return;
    }
    let catches = catches();
    let binaries = build();
    let binary_of = |catch: &Catch| {
        let key = (catch.package.clone(), catch.binary.clone());
        binaries.get(&key).cloned().unwrap_or_else(|| panic!("there is no test binary {} {}", key.0, key.1))
    };
    // Without a bug: each test once, whatever it is named for.
    let sound: BTreeMap<(PathBuf, String), Catch> =
        catches.iter().map(|catch| ((binary_of(catch), catch.test.clone()), catch.clone())).collect();
    let sound = each(sound.into_values().collect(), |catch| run(&binary_of(&catch), &catch, None));
    let mut faults: Vec<String> = Vec::new();
    for (catch, end) in &sound {
        if !matches!(end, End::Passed(_)) {
            faults.push(format!("{} {}: without a bug it {end:?}", catch.package, catch.test));
        }
    }
    let mut caught = each(catches, |catch| run(&binary_of(&catch), &catch, Some(&catch.mutation)));
    caught.sort_by(|(one, _), (other, _)| {
        (scar(&one.mutation), &one.mutation).cmp(&(scar(&other.mutation), &other.mutation))
    });
    for (catch, end) in &caught {
        println!("{:<38} {:<28} {}::{}", catch.mutation, end.words(), catch.package, catch.test);
        if !matches!(end, End::Failed(_)) {
            faults.push(format!("{} was not caught by {}::{}: it {end:?}", catch.mutation, catch.package, catch.test));
        }
    }
    let scars: BTreeSet<u32> = caught.iter().map(|(catch, _)| scar(&catch.mutation)).collect();
    println!("{} bugs put back, of {} scars; {} not caught", caught.len(), scars.len(), faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// How a test ended.
#[derive(Clone, Debug)]
enum End {
    /// It ran, and passed.
    Passed(Duration),
    /// It ran, and failed.
    Failed(Duration),
    /// It did not end in time.
    Hung,
    /// Anything else: there is no such test, or the process died.
    Odd(String),
}

impl End {
    fn words(&self) -> String {
        match self {
            Self::Passed(time) => format!("NOT CAUGHT {:>7} ms", time.as_millis()),
            Self::Failed(time) => format!("caught     {:>7} ms", time.as_millis()),
            Self::Hung => "NOT CAUGHT (it hung)".to_owned(),
            Self::Odd(words) => format!("NOT CAUGHT (it {words})"),
        }
    }
}

/// Builds every test of the workspace as this one was built; the binaries by package and name.
fn build() -> BTreeMap<(String, String), PathBuf> {
    let me = std::env::current_exe().expect("this test's binary");
    let folder = me.ancestors().nth(2).expect("target/PROFILE/deps");
    let name = folder.file_name().and_then(|name| name.to_str()).expect("the profile's folder");
    let profile = if name == "debug" { "dev" } else { name };
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo)
        .args(["test", "--no-run", "--workspace", "--locked", "--message-format=json", "--profile", profile])
        .current_dir(top())
        .env("CARGO_TARGET_DIR", folder.parent().expect("target"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo");
    assert!(built.status.success(), "the tests do not build");
    let mut binaries = BTreeMap::new();
    for line in String::from_utf8_lossy(&built.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let (Some(path), target) = (message["executable"].as_str(), &message["target"]) else { continue };
        if message["profile"]["test"] != true {
            continue;
        }
        let manifest = Path::new(message["manifest_path"].as_str().expect("a manifest"));
        let package = manifest.parent().and_then(Path::file_name).and_then(|name| name.to_str()).expect("a member");
        let is_lib = target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib"));
        let binary = if is_lib { "lib" } else { target["name"].as_str().expect("a name") };
        binaries.insert((package.to_owned(), binary.to_owned()), PathBuf::from(path));
    }
    binaries
}

/// Does something for each, [`AT_A_TIME`] at a time.
fn each(catches: Vec<Catch>, run: impl Fn(Catch) -> End + Sync) -> Vec<(Catch, End)> {
    let (waiting, ended) = (Mutex::new(catches), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(catch) = waiting.lock().expect("the list").pop() else { return };
                    let end = run(catch.clone());
                    ended.lock().expect("the results").push((catch, end));
                }
            });
        }
    });
    ended.into_inner().expect("the results")
}

/// Runs one test by itself.
fn run(binary: &Path, catch: &Catch, mutation: Option<&str>) -> End {
    let began = Instant::now();
    let log = tempfile::NamedTempFile::new().expect("a file for its output");
    let mut child = Command::new(binary)
        .args(["--exact", &catch.test, "--test-threads=1"])
        .current_dir(top().join(&catch.package))
        .env("BLOCKYARD_MUTATION", mutation.unwrap_or_default())
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .env_remove(tests::HEAVY_VARIABLE)
        .stdin(Stdio::null())
        .stdout(log.reopen().expect("the file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("the test's binary");
    let waited = tests::wait::within(PATIENCE, || child.try_wait().expect("the test"));
    let Some(status) = waited else {
        child.kill().and_then(|()| child.wait()).expect("the test ends");
        return End::Hung;
    };
    let said = std::fs::read_to_string(log.path()).unwrap_or_default();
    match status.code() {
        Some(0) if said.contains("1 passed; 0 failed") => End::Passed(began.elapsed()),
        Some(101) if said.contains("0 passed; 1 failed") => End::Failed(began.elapsed()),
        _ => End::Odd(format!("ended with {status}: {}", said.lines().last().unwrap_or_default())),
    }
}
