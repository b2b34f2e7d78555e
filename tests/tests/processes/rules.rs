//! Rules of the repository, read from `cargo metadata` and from the documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

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
    ("cli", &["proto", "base", "transfer", "auth", "namenode", "datanode", "client"]),
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

fn exists(top: &Path, name: &str) -> bool {
    match name.split_once("::") {
        None => top.join(name).exists(),
        Some((member, path)) => {
            let test = path.rsplit("::").next().unwrap_or(path);
            sources(&top.join(member)).iter().any(|text| text.contains(&format!("fn {test}(")))
        }
    }
}

fn sources(dir: &Path) -> Vec<String> {
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
