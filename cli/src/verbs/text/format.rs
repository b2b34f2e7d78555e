//! `stat --format`: a text with sequences that stand for what is known of an entry.

use client::{FileKind, FileStatus};

use super::mode::rights_text;
use super::time::plain_time;
use crate::verbs::paths::name_of;

/// What the sequences are, for the help.
pub(crate) const SEQUENCES: &str = "\
Sequences of --format:
  %n  name               %N  path, with a link's target     %F  kind            %i  inode
  %a  mode, octal        %A  mode, rwxr-x---                %u  owner           %g  group
  %b  length in bytes    %o  block size                     %r  copies          %h  names (hard links)
  %x  last access, UTC   %y  last change of the data, UTC   %z  last change of anything, UTC
  %X  %Y  %Z  the same in ms since 1970                     %%  a percent sign";

/// A format that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Sequence(char),
}

impl Format {
    /// Reads a format. `\n` and `\t` stand for what they do everywhere.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match (c, if matches!(c, '%' | '\\') { chars.next() } else { None }) {
                ('%', Some('%')) => plain.push('%'),
                ('%', Some(sequence)) if "nNFiaAugborhxyzXYZ".contains(sequence) => {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Sequence(sequence));
                }
                ('%', Some(other)) => return Err(format!("%{other} is no sequence; see blockyard stat --help")),
                ('%', None) => return Err("a percent sign is written %%".to_owned()),
                ('\\', Some('n')) => plain.push('\n'),
                ('\\', Some('t')) => plain.push('\t'),
                ('\\', Some(other)) => plain.extend(['\\', other].iter().skip(usize::from(other == '\\'))),
                (other, _) => plain.push(other),
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    /// The text for an entry.
    pub(crate) fn render(&self, status: &FileStatus, path: &str) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Sequence(sequence) => out.push_str(&value(*sequence, status, path)),
            }
        }
        out
    }
}

fn value(sequence: char, status: &FileStatus, path: &str) -> String {
    let ms = |ns: i64| ns.div_euclid(1_000_000).to_string();
    match sequence {
        'n' => name_of(path).unwrap_or("/").to_owned(),
        'N' if status.kind() == FileKind::Symlink => format!("{path} -> {}", status.symlink_target),
        'N' => path.to_owned(),
        'F' => kind_name(status.kind()).to_owned(),
        'i' => status.inode.to_string(),
        'a' => format!("{:o}", status.mode),
        'A' => rights_text(status.mode),
        'u' => status.owner.clone(),
        'g' => status.group.clone(),
        'b' => status.len_bytes.to_string(),
        'o' => status.block_size_bytes.to_string(),
        'r' => status.replication.to_string(),
        'h' => status.nlink.to_string(),
        'x' => plain_time(status.atime_ns),
        'y' => plain_time(status.mtime_ns),
        'z' => plain_time(status.ctime_ns),
        'X' => ms(status.atime_ns),
        'Y' => ms(status.mtime_ns),
        'Z' => ms(status.ctime_ns),
        other => other.to_string(),
    }
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File | FileKind::Unspecified => "regular file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symbolic link",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharacterDevice => "character device",
        FileKind::BlockDevice => "block device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_stand_for_what_is_known() {
        let status = FileStatus {
            kind: FileKind::File as i32,
            mode: 0o644,
            len_bytes: 12,
            owner: "ana".into(),
            group: "etl".into(),
            replication: 3,
            block_size_bytes: 1 << 27,
            mtime_ns: 1_795_339_719_515_000_000,
            inode: 7,
            nlink: 1,
            ..FileStatus::default()
        };
        let shown = |format: &str| Format::parse(format).map(|format| format.render(&status, "/d/a.txt"));
        assert_eq!(
            shown("%a %A %b %F %g %n %o %r %u %y %Y").unwrap(),
            "644 rw-r--r-- 12 regular file etl a.txt 134217728 3 ana 2026-11-22 09:28:39 1795339719515"
        );
        assert_eq!(shown(r"%N %h %i 100%%\t\\\q").unwrap(), "/d/a.txt 1 7 100%\t\\\\q");
        assert!(shown("%q").unwrap_err().contains("%q"));
        assert!(shown("%").is_err());
    }
}
