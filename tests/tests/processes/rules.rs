//! Rules of the repository, read from `cargo metadata` and from the documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

fn metadata() -> Metadata {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let options = ["--locked", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned);
    MetadataCommand::new().manifest_path(top).other_options(options).exec().expect("cargo metadata")
}

/// Members and what each may use, directly.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("base", &[]),
    ("transfer", &["proto", "base"]),
    ("auth", &["proto", "base"]),
    ("namenode", &["proto", "base", "transfer", "auth"]),
    ("datanode", &["proto", "base", "transfer", "auth"]),
    ("client", &["proto", "base", "transfer", "auth"]),
    ("minicluster", &["base", "namenode", "datanode", "client"]),
    ("blockyard-object-store", &["proto", "base", "client"]),
    ("fuse-mount", &["base", "client"]),
    ("cli", &["proto", "base", "transfer", "auth", "namenode", "datanode", "client", "fuse-mount"]),
    ("sim", &["proto", "base", "transfer", "auth", "namenode", "datanode", "client"]),
    ("tests", &["proto", "base", "transfer", "auth", "namenode", "datanode", "client", "sim"]),
];

#[test]
fn crate_arrows_point_one_way() {
    let metadata = metadata();
    let rules: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(name, may)| (*name, may.iter().copied().collect())).collect();
    for package in metadata.workspace_packages() {
        let may = rules.get(package.name.as_str()).unwrap_or_else(|| panic!("no rule for {}", package.name));
        for dependency in &package.dependencies {
            if rules.contains_key(dependency.name.as_str()) && dependency.kind != DependencyKind::Development {
                assert!(may.contains(dependency.name.as_str()), "{} must not use {}", package.name, dependency.name);
            }
        }
    }
}

/// Licences that may be linked into an Apache-2.0 program.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "MIT-0",
    "Unicode-3.0",
    "Apache-2.0 WITH LLVM-exception",
];

#[test]
fn licences_are_allowed() {
    for package in &metadata().packages {
        let licence = package.license.as_deref().unwrap_or("none");
        assert!(licence_is_allowed(licence), "{} {} has licence {licence}", package.name, package.version);
    }
}

/// An SPDX expression is allowed if every AND part has an allowed OR alternative.
fn licence_is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "");
    plain
        .split(" AND ")
        .all(|part| part.split(" OR ").flat_map(|one| one.split('/')).any(|one| LICENCES.contains(&one.trim())))
}

#[test]
fn licence_expressions_are_understood() {
    assert!(licence_is_allowed("MIT OR GPL-3.0"));
    assert!(licence_is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(licence_is_allowed("MIT/Apache-2.0"));
    assert!(!licence_is_allowed("MIT AND GPL-3.0"));
    assert!(!licence_is_allowed("none"));
}

#[test]
fn there_is_one_version_of_what_speaks_to_the_wire() {
    let metadata = metadata();
    for name in ["tonic", "prost", "hyper", "rustls", "h2", "tokio", "axum"] {
        let versions: Vec<String> =
            metadata.packages.iter().filter(|p| p.name.as_str() == name).map(|p| p.version.to_string()).collect();
        assert!(versions.len() <= 1, "{name} in versions {versions:?}");
    }
}

#[test]
fn members_take_their_dependencies_from_the_one_table() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("manifest");
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            } else if section.contains("dependencies") && !line.trim().is_empty() && !line.starts_with('#') {
                assert!(line.contains("workspace = true"), "{}: {line}", package.manifest_path);
            }
        }
        check_member(package);
    }
}

fn check_member(package: &Package) {
    assert_eq!(package.edition.to_string(), "2024", "{}", package.name);
    assert_eq!(package.license.as_deref(), Some("Apache-2.0"), "{}", package.name);
    let manifest = std::fs::read_to_string(&package.manifest_path).expect("manifest");
    assert!(manifest.contains("[lints]\nworkspace = true"), "{} takes the workspace's lints", package.name);
}

/// What a `done` row of docs/acceptance.md names in backquotes exists: a path of the repository, or a test by
/// its crate and path.
#[test]
fn done_rows_of_the_acceptance_page_name_what_exists() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(top.join("docs/acceptance.md")).expect("docs/acceptance.md");
    for row in page.lines().filter(|line| line.starts_with("| 0")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, id, _, shown_by, _, status, ..] = cells[..] else { panic!("malformed row: {row}") };
        assert!(["done", "part", "open", "missed"].contains(&status), "{id}: status {status:?}");
        if status != "done" {
            continue;
        }
        let named: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{id} is done but names nothing that shows it");
        for name in named {
            assert!(exists(&top, name), "{id} names {name:?}, which does not exist");
        }
    }
}

/// A test that is not run shows nothing: it is mended, or goes.
#[test]
fn no_test_is_ignored() {
    let marks = [["#[", "ignore"].concat(), ["``", "`ignore"].concat(), [", ", "ignore)]"].concat()];
    let found = lines_with(&[""], |line| marks.iter().any(|mark| line.contains(mark)));
    assert!(found.is_empty(), "tests that are not run:\n{}", found.join("\n"));
}

/// A test that sleeps is slow, and fails on a machine that is slower than its author's: it waits for a condition.
#[test]
fn no_test_sleeps() {
    let mark = ["::sl", "eep("].concat();
    let found = lines_with(&["tests"], |line| line.contains(&mark));
    assert!(found.is_empty(), "tests that sleep:\n{}", found.join("\n"));
}

/// Lines of the members' sources, in these folders of each, as `file:line: text`.
fn lines_with(folders: &[&str], is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let top = top.canonicalize().expect("the repository");
    let mut waiting: Vec<PathBuf> = ARROWS
        .iter()
        // A package is not always named like its folder.
        .map(|(member, _)| top.join(member.trim_start_matches("blockyard-")))
        .flat_map(|member| folders.iter().map(move |folder| member.join(folder)).collect::<Vec<_>>())
        .filter(|folder| folder.is_dir())
        .collect();
    assert!(!waiting.is_empty());
    let mut found = BTreeSet::new();
    while let Some(folder) = waiting.pop() {
        for path in std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                let shown = path.strip_prefix(&top).unwrap_or(&path).display();
                let lines = text.lines().enumerate().filter(|(_, line)| is_wanted(line));
                found.extend(lines.map(|(number, line)| format!("{shown}:{}: {}", number + 1, line.trim())));
            }
        }
    }
    found.into_iter().collect()
}

#[test]
fn lines_are_found_with_their_places() {
    let found = lines_with(&["tests/processes"], |line| line.starts_with("fn lines_are_found_with_their_places"));
    let [one] = &found[..] else { panic!("{found:?}") };
    assert!(one.starts_with("tests/tests/processes/rules.rs:") && one.ends_with("() {"), "{one}");
}

/// Every page of docs/formats that a source, a schema or another page names exists, and the index names every page.
#[test]
fn format_pages_that_are_named_exist() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = top.join("docs/formats");
    let members = ARROWS.iter().map(|(member, _)| top.join(member));
    let mut texts: Vec<String> = members.flat_map(|member| sources(&member)).collect();
    texts.extend(files(&top.join("proto/schema"), "proto"));
    let pages = files(&folder, "md");
    let marker = ["docs", "formats", ""].join("/");
    let mut named = BTreeSet::new();
    for text in &texts {
        named.extend(text.split(&marker).skip(1).filter_map(page_name));
    }
    for text in &pages {
        named.extend(text.split("](").skip(1).filter_map(page_name));
    }
    assert!(named.len() > 8, "{named:?}");
    for name in &named {
        assert!(folder.join(name).exists(), "{name} is named, but docs/formats does not have it");
    }
    let index = std::fs::read_to_string(folder.join("README.md")).expect("the index");
    for entry in std::fs::read_dir(&folder).expect("docs/formats").flatten() {
        let name = entry.file_name().into_string().expect("a name");
        assert!(name == "README.md" || index.contains(&format!("({name})")), "the index does not name {name}");
    }
    for text in pages {
        for test in text.split('`').skip(1).step_by(2).filter(|word| word.ends_with("_the_format_page")) {
            let made = texts.iter().any(|source| source.contains(&format!("fn {test}(")));
            assert!(made, "the pages name the test {test}, which does not exist");
        }
    }
}

/// The example is no member and is not built here: at least its paths lead to our crates, and it locks the version of
/// object_store that the adapter implements. With another one it would not compile.
#[test]
fn the_datafusion_example_fits_the_adapter() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let example = top.join("examples/datafusion");
    let manifest = std::fs::read_to_string(example.join("Cargo.toml")).expect("the example's manifest");
    let manifest: toml::Table = toml::from_str(&manifest).expect("TOML");
    assert!(manifest.contains_key("workspace"), "it is a workspace of its own");
    let mut ours = 0;
    for (name, dependency) in manifest["dependencies"].as_table().expect("dependencies") {
        let Some(path) = dependency.get("path").and_then(toml::Value::as_str) else { continue };
        let named = std::fs::read_to_string(example.join(path).join("Cargo.toml")).expect("a crate of ours");
        let named: toml::Table = toml::from_str(&named).expect("TOML");
        assert_eq!(named["package"]["name"].as_str(), Some(name.as_str()), "{path}");
        ours += 1;
    }
    assert!(ours >= 3, "it uses our crates by path");
    assert_eq!(locked(&example, "object_store"), locked(&top, "object_store"));
}

/// Versions of a package in a folder's lock file.
fn locked(dir: &Path, name: &str) -> Vec<String> {
    let lock = std::fs::read_to_string(dir.join("Cargo.lock")).expect("Cargo.lock");
    let lock: toml::Table = toml::from_str(&lock).expect("TOML");
    let packages = lock["package"].as_array().expect("packages");
    let wanted = packages.iter().filter(|package| package["name"].as_str() == Some(name));
    let versions: Vec<String> = wanted.filter_map(|package| package["version"].as_str().map(str::to_owned)).collect();
    assert!(!versions.is_empty(), "{} does not lock {name}", dir.display());
    versions
}

/// The name of a page at the start of a text.
fn page_name(text: &str) -> Option<String> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))?;
    let name = text[..end].trim_end_matches('.');
    name.ends_with(".md").then(|| name.to_owned())
}

/// Contents of the files in a folder with this extension.
fn files(dir: &Path, extension: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder").flatten().map(|entry| entry.path());
    let wanted = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
    wanted.map(|path| std::fs::read_to_string(path).expect("a text")).collect()
}

pub(super) fn exists(top: &Path, name: &str) -> bool {
    match name.split_once("::") {
        None => top.join(name).exists(),
        Some((member, path)) => {
            let test = path.rsplit("::").next().unwrap_or(path);
            sources(&top.join(member)).iter().any(|text| text.contains(&format!("fn {test}(")))
        }
    }
}

pub(super) fn sources(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return vec![] };
    let mut texts = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            texts.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            texts.push(std::fs::read_to_string(&path).expect("source"));
        }
    }
    texts
}
