//! The command line as a person meets it, without any cluster.

use std::process::Command;

#[test]
fn help_teaches_the_first_steps() {
    let out = Command::new(env!("CARGO_BIN_EXE_blockyard")).arg("--help").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0));
    for words in ["blockyard dev", "BLOCKYARD_FS", "put -r", "help exit-codes"] {
        assert!(text.contains(words), "{words:?} is not in the help: {text}");
    }
}

#[test]
fn an_unknown_verb_names_the_nearest_and_is_a_usage_error() {
    let out = Command::new(env!("CARGO_BIN_EXE_blockyard")).arg("datanod").output().unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(text.contains(r#"unknown command "datanod"; did you mean "datanode"?"#), "{text}");
}

#[test]
fn exit_statuses_are_explained() {
    let out = Command::new(env!("CARGO_BIN_EXE_blockyard")).args(["help", "exit-codes"]).output().unwrap();
    assert!(String::from_utf8(out.stdout).unwrap().contains("storage refused"));
}

#[test]
fn without_a_cluster_the_error_says_how_to_start_one() {
    let out = Command::new(env!("CARGO_BIN_EXE_blockyard"))
        .args(["--fs", "blockyard://127.0.0.1:1", "ls", "/"])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(5), "{text}");
    assert!(text.contains("blockyard dev"), "{text}");
}
