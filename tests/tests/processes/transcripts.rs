//! The command line as people see it: every verb's output, hints and statuses, against what `tests/golden` keeps.

use tests::{Cluster, Options};

/// A cluster whose superuser is the one of the transcripts.
fn cluster() -> Options {
    Options::default().env("BLOCKYARD_USER", "ana")
}

fn play(names: &[&str], options: Options) {
    let cluster = Cluster::with(options);
    names.iter().for_each(|name| tests::golden::play(&cluster, name));
}

#[test]
fn looking() {
    play(&["look", "patterns"], cluster());
}

#[test]
fn changing() {
    play(&["change", "attributes"], cluster());
}

#[test]
fn copying() {
    play(&["copies"], Options { datanodes: 1, ..cluster() });
}

#[test]
fn snapshots_and_errors() {
    play(&["snapshots", "errors"], Options { datanodes: 1, ..cluster() });
}

#[test]
fn the_trash() {
    play(&["trash"], Options { datanodes: 1, ..cluster().env("BLOCKYARD_NAMENODE__TRASH_INTERVAL", "1h") });
}

/// Every transcript is played by one of the tests here.
#[test]
fn no_transcript_is_forgotten() {
    let source = include_str!("transcripts.rs");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for entry in std::fs::read_dir(folder).expect("tests/golden").flatten() {
        let name = entry.file_name().into_string().expect("a name");
        let name = name.strip_suffix(".txt").expect("transcripts end with .txt");
        assert!(source.contains(&format!("\"{name}\"")), "nobody plays {name}");
    }
}
