//! Transcripts: what people type and what they see, kept in `tests/golden/*.txt` and played against a cluster.
//!
//! ```text
//!   $ blockyard ls /data          each line with `$ ` is given to sh
//!   a.txt                         what follows is what it prints, standard output first, then standard error
//!   [3]                           and how it ends, unless that is 0
//! ```
//!
//! Lines with `## ` are remarks. What is never the same twice (times, inode
//! numbers, ids, ports) is masked. With `BLOCKYARD_GOLDEN=write` the files are written instead of compared: read
//! the difference before it is committed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Cluster;
use crate::command::{binary, run};

/// Environment variable that has the transcripts written anew, if it is `write`.
pub const WRITE_VARIABLE: &str = "BLOCKYARD_GOLDEN";

/// Plays a transcript of `tests/golden` as user `ana`.
///
/// # Panics
/// If it differs.
pub fn play(cluster: &Cluster, name: &str) {
    let path = folder().join(format!("{name}.txt"));
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut played = String::new();
    for line in kept.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            played.push_str(&format!("{line}\n{}", mask(&said(cluster, command))));
        } else if line.starts_with("## ") {
            played.push_str(&format!("{line}\n"));
        }
    }
    if std::env::var(WRITE_VARIABLE).is_ok_and(|value| value == "write") {
        std::fs::write(&path, played).expect("the transcript can be written");
        return;
    }
    if played == kept {
        return;
    }
    let differs = played.lines().zip(kept.lines()).position(|(a, b)| a != b);
    let at = differs.unwrap_or_else(|| played.lines().count().min(kept.lines().count()));
    let around = |text: &str| text.lines().skip(at.saturating_sub(4)).take(12).collect::<Vec<_>>().join("\n  ");
    panic!(
        "{} differs from line {} on (written anew with {WRITE_VARIABLE}=write)\n--- kept\n  {}\n--- now\n  {}",
        path.display(),
        at + 1,
        around(&kept),
        around(&played)
    );
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// What a command prints, and how it ends.
fn said(cluster: &Cluster, command: &str) -> String {
    let binary = binary();
    let beside = binary.parent().expect("the binary is in a folder").display().to_string();
    let path = format!("{beside}:{}", std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BLOCKYARD_") {
            shell.env_remove(name);
        }
    }
    shell.args(["-c", &format!("umask 022\n{command}")]).env("PATH", path).stdin(Stdio::null());
    shell.env("BLOCKYARD_FS", &cluster.ready().fs).env("BLOCKYARD_USER", "ana").current_dir(cluster.scratch(""));
    let ended = run(shell);
    let mut text = ended.text() + &ended.stderr;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str("(no newline)\n");
    }
    if ended.code() != 0 {
        text.push_str(&format!("[{}]\n", ended.code()));
    }
    text
}

/// The text with everything that is never the same twice replaced by its shape.
#[must_use]
pub fn mask(text: &str) -> String {
    let shapes = ["dddd-dd-ddTdd:dd:dd.dddZ", "dddd-dd-dd dd:dd:dd", "dddd-dd-dd dd:dd", "sdddddddd-dddddd.ddd"];
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let fitting = shapes.iter().find(|shape| fits(rest, shape));
        if let Some(shape) = fitting {
            masked.push_str(shape);
            rest = &rest[shape.len()..];
            continue;
        }
        let before = ["\"inode\":", "inode     ", "inode  ", "127.0.0.1:", "\"id\":"]
            .iter()
            .find(|word| rest.starts_with(**word));
        if let Some(word) = before {
            masked.push_str(word);
            let after = rest[word.len()..].trim_start_matches(' ');
            masked.push_str(&" ".repeat(rest.len() - word.len() - after.len()));
            rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            masked.push_str(if rest.len() < after.len() { "N" } else { "" });
            continue;
        }
        masked.push(c);
        rest = &rest[c.len_utf8()..];
    }
    masked
}

/// Does the text begin with this shape, in which `d` stands for a digit?
fn fits(text: &str, shape: &str) -> bool {
    text.len() >= shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
            b'd' => byte.is_ascii_digit(),
            other => byte == other,
        })
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn what_changes_is_masked_and_columns_stay() {
        assert_eq!(mask("x3  ana  12  2026-11-25 07:09  f1\n"), "x3  ana  12  dddd-dd-dd dd:dd  f1\n");
        assert_eq!(
            mask("\"mtime\":\"2026-11-25T07:09:16.087Z\",\"inode\":16389,"),
            "\"mtime\":\"dddd-dd-ddTdd:dd:dd.dddZ\",\"inode\":N,"
        );
        assert_eq!(mask("inode     16389\nat 127.0.0.1:8020 ä"), "inode     N\nat 127.0.0.1:N ä");
        assert_eq!(mask("s20261125-070916.087"), "sdddddddd-dddddd.ddd");
    }
}
