//! Texts that are kept: the help of every verb in `cli/tests/golden`, the settings in `docs/cli/settings.md`.
//!
//! With `BLOCKYARD_GOLDEN=write` they are written instead of compared: read the difference before it is committed.

use std::path::{Path, PathBuf};

use base::local::{LocalReader, LocalWriter};
use clap::CommandFactory;

use crate::args::Cli;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares a text with the kept one.
fn check(path: &str, now: &str) {
    let file = top().join(path);
    if std::env::var("BLOCKYARD_GOLDEN").is_ok_and(|value| value == "write") {
        let mut writer = LocalWriter::create(&file, 0o644).unwrap();
        writer.write(now.as_bytes()).unwrap();
        return writer.finish(&file, true).unwrap();
    }
    let read = LocalReader::open(&file).and_then(|mut reader| reader.read_chunk(1 << 20));
    let kept = read.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).unwrap_or_default();
    if kept != now {
        let line = kept.lines().zip(now.lines()).position(|(a, b)| a != b);
        let line = line.unwrap_or_else(|| kept.lines().count().min(now.lines().count()));
        let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
        panic!(
            "{path} differs from line {} on (written anew with BLOCKYARD_GOLDEN=write):\n  kept {:?}\n  now  {:?}",
            line + 1,
            at(&kept),
            at(now)
        );
    }
}

fn verbs_below(command: &clap::Command, name: &str, out: &mut Vec<(String, String)>) {
    out.push((name.to_owned(), command.clone().render_long_help().to_string()));
    for verb in command.get_subcommands() {
        verbs_below(verb, &format!("{name}-{}", verb.get_name()), out);
    }
}

#[test]
fn the_help_of_every_verb_is_kept() {
    let mut cli = Cli::command();
    cli.build();
    let mut helps = Vec::new();
    verbs_below(&cli, "blockyard", &mut helps);
    assert!(helps.len() > 50);
    for (name, help) in &helps {
        // Lines that end with spaces are no use to anyone.
        let help: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        let fits = |line: &str| line.chars().count() <= 120 || line.starts_with("Usage:");
        assert!(help.lines().all(fits), "{name}: a line of its help is too long\n{help}");
        check(&format!("cli/tests/golden/{name}.txt"), &help);
    }
    for (file, _) in base::local::read_dir(&top().join("cli/tests/golden")).unwrap() {
        let name = file.to_str().unwrap().trim_end_matches(".txt").to_owned();
        assert!(helps.iter().any(|(verb, _)| *verb == name), "there is no verb for the kept help {name}");
    }
}

#[test]
fn the_page_of_settings_is_the_table() {
    check("docs/cli/settings.md", &crate::config::page());
}
