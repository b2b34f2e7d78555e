//! How an entry of a listing is printed: as an object, as a long line, as a name.

use client::{FileKind, FileStatus};
use serde::Serialize;

use super::failure::Failure;
use super::text::mode::push_mode;
use super::text::plain;
use super::text::size::shown as shown_size;
use super::text::table::push_padded;
use super::text::time::{ShortTimes, time};

/// An entry as an object of `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct EntryObject<'a> {
    v: u32,
    r#type: &'static str,
    path: &'a str,
    kind: &'static str,
    size: u64,
    replication: u32,
    ec: Option<&'a str>,
    block_size: u64,
    owner: &'a str,
    group: &'a str,
    mode: String,
    mtime: String,
    atime: String,
    inode: u64,
    links: u32,
    open: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    acl: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    quota: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    snapshots: bool,
}

/// The object for an entry; `path` is its full path.
pub(crate) fn object<'a>(status: &'a FileStatus, path: &'a str) -> EntryObject<'a> {
    EntryObject {
        v: 1,
        r#type: "entry",
        path,
        kind: kind_name(status.kind()),
        size: status.len_bytes,
        replication: status.replication,
        ec: None,
        block_size: status.block_size_bytes,
        owner: &status.owner,
        group: &status.group,
        mode: format!("{:04o}", status.mode),
        mtime: time(status.mtime_ns),
        atime: time(status.atime_ns),
        inode: status.inode,
        links: status.nlink,
        open: status.open_for_write,
        target: (status.kind() == FileKind::Symlink).then_some(status.symlink_target.as_str()),
        acl: status.has_acl,
        quota: status.has_quota,
        snapshots: status.snapshottable,
    }
}

/// Appends the object as a line.
pub(crate) fn push_object(out: &mut Vec<u8>, status: &FileStatus, path: &str) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, &object(status, path)).map_err(|error| Failure::output(&error.into()))?;
    out.push(b'\n');
    Ok(())
}

/// Name of a kind in `--json`.
pub(crate) const fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Unspecified | FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharacterDevice => "character-device",
        FileKind::BlockDevice => "block-device",
    }
}

/// Appends the name, with a slash after a directory, and nothing that a terminal would act on.
pub(crate) fn push_name(out: &mut String, entry: &FileStatus) {
    let name = plain(&entry.path);
    out.push_str(&name);
    if entry.kind() == FileKind::Directory && !name.ends_with('/') {
        out.push('/');
    }
}

/// How long lines are to look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LongStyle {
    /// Sizes with units instead of bytes.
    pub(crate) human: bool,
    /// The time of the last access instead of the last change.
    pub(crate) access_time: bool,
}

/// Appends a long line for each entry, aligned among themselves.
pub(crate) fn push_long(out: &mut String, entries: &[FileStatus], style: LongStyle) {
    let sizes: Vec<String> = entries.iter().map(|entry| size_cell(entry, style.human)).collect();
    let widest = |cell: fn(&FileStatus) -> usize| entries.iter().map(cell).max().unwrap_or(0);
    let mode_width = widest(|entry| if entry.has_acl { 11 } else { 10 });
    let copies_width = widest(|entry| copies_cell(entry).len());
    let owner_width = widest(|entry| entry.owner.chars().count());
    let group_width = widest(|entry| entry.group.chars().count());
    let size_width = sizes.iter().map(String::len).max().unwrap_or(0);
    let mut times = ShortTimes::default();
    let mut mode = String::new();
    for (entry, size) in entries.iter().zip(&sizes) {
        mode.clear();
        push_mode(&mut mode, entry);
        for (cell, width, right) in [
            (mode.as_str(), mode_width, false),
            (&copies_cell(entry), copies_width, false),
            (&entry.owner, owner_width, false),
            (&entry.group, group_width, false),
            (size, size_width, true),
        ] {
            push_padded(out, cell, width, right);
            out.push_str("  ");
        }
        out.push_str(times.of(if style.access_time { entry.atime_ns } else { entry.mtime_ns }));
        out.push_str("  ");
        push_name(out, entry);
        if entry.kind() == FileKind::Symlink {
            out.push_str(" -> ");
            out.push_str(&plain(&entry.symlink_target));
        }
        if entry.open_for_write {
            out.push_str("  (being written)");
        }
        out.push('\n');
    }
}

fn size_cell(entry: &FileStatus, human: bool) -> String {
    if entry.kind() == FileKind::File { shown_size(entry.len_bytes, human) } else { "-".to_owned() }
}

fn copies_cell(entry: &FileStatus) -> String {
    if entry.kind() == FileKind::File { format!("x{}", entry.replication) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: FileKind, path: &str) -> FileStatus {
        let (owner, group) = ("ana".to_owned(), "supergroup".to_owned());
        FileStatus { path: path.into(), kind: kind as i32, mode: 0o755, owner, group, ..FileStatus::default() }
    }

    #[test]
    fn long_lines_are_aligned() {
        let entries = [
            FileStatus { len_bytes: 2048, replication: 3, open_for_write: true, ..entry(FileKind::File, "f") },
            FileStatus { has_acl: true, owner: "bob-the-first".into(), ..entry(FileKind::Directory, "d") },
            FileStatus { symlink_target: "../x\u{7}".into(), ..entry(FileKind::Symlink, "l") },
        ];
        let mut text = String::new();
        push_long(&mut text, &entries, LongStyle::default());
        assert_eq!(
            text,
            "-rwxr-xr-x   x3  ana            supergroup  2048  1970-01-01 00:00  f  (being written)\n\
             drwxr-xr-x+  -   bob-the-first  supergroup     -  1970-01-01 00:00  d/\n\
             lrwxr-xr-x   -   ana            supergroup     -  1970-01-01 00:00  l -> ../x?\n"
        );
    }

    #[test]
    fn objects_name_what_is_special_only_where_it_is() {
        let mut out = Vec::new();
        push_object(&mut out, &entry(FileKind::File, "x"), "/d/x").unwrap();
        let plain: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&plain["v"], &plain["path"], &plain["mode"]), (&1.into(), &"/d/x".into(), &"0755".into()));
        assert!(plain.get("target").is_none() && plain.get("acl").is_none());
        let link = FileStatus { symlink_target: "t".into(), ..entry(FileKind::Symlink, "x") };
        assert_eq!(serde_json::to_value(object(&link, "/x")).unwrap()["target"], "t");
    }
}
