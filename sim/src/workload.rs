//! What clients do: operations, their outcomes, and which one comes next.

use std::fmt;

use base::random::Randomness;
use proto::error::ErrorCode;

use crate::oracle::{Entry, Tree};

/// What an application does while it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Manner {
    /// Flush when so many bytes were given, and every so many more.
    pub flush_every: Option<usize>,
    /// Make what is flushed durable as well.
    pub sync: bool,
    /// Drop the writer after so many bytes.
    pub drop_after: Option<usize>,
}

/// An operation of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make a directory.
    Mkdir {
        /// Where.
        path: String,
        /// And what is missing above it.
        parents: bool,
    },
    /// Write a file.
    Write {
        /// Where.
        path: String,
        /// Which contents.
        tag: u64,
        /// How long.
        len_bytes: usize,
        /// Replace what is there.
        overwrite: bool,
        /// Copies.
        replication: u32,
        /// Length of a block.
        block_size_bytes: u64,
        /// What the application does on the way.
        manner: Manner,
    },
    /// Write behind the end of a file.
    Append {
        /// Which.
        path: String,
        /// Which contents.
        tag: u64,
        /// How much.
        len_bytes: usize,
        /// What the application does on the way.
        manner: Manner,
    },
    /// Cut a file.
    Truncate {
        /// Which.
        path: String,
        /// To how many bytes.
        len_bytes: usize,
    },
    /// Move a file or a tree.
    Rename {
        /// From where.
        from: String,
        /// To where.
        to: String,
        /// Replace what is there.
        replace: bool,
    },
    /// Remove a file or a tree.
    Delete {
        /// What.
        path: String,
        /// Even if it is a full directory.
        recursive: bool,
    },
    /// Look at a name.
    Stat {
        /// Which.
        path: String,
    },
    /// List a directory, page by page.
    List {
        /// Which.
        path: String,
    },
    /// Read a file, or a part of it.
    Read {
        /// Which.
        path: String,
        /// From and to, in thousandths of the length.
        part: (u64, u64),
    },
}

impl Op {
    /// Does it change anything?
    #[must_use]
    pub const fn changes(&self) -> bool {
        !matches!(self, Self::Stat { .. } | Self::List { .. } | Self::Read { .. })
    }
    /// Does a file that it writes show before it is closed?
    #[must_use]
    pub const fn flushes(&self) -> bool {
        matches!(self, Self::Write { manner: Manner { flush_every: Some(_), .. }, .. })
    }
    /// How it writes, if it does.
    #[must_use]
    pub const fn manner(&self) -> Option<&Manner> {
        match self {
            Self::Write { manner, .. } | Self::Append { manner, .. } => Some(manner),
            _ => None,
        }
    }
    /// The first path that it names.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Rename { from, .. } => from,
            Self::Mkdir { path, .. }
            | Self::Write { path, .. }
            | Self::Append { path, .. }
            | Self::Truncate { path, .. }
            | Self::Delete { path, .. }
            | Self::Stat { path }
            | Self::List { path }
            | Self::Read { path, .. } => path,
        }
    }
}

/// What is seen of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its last name.
    pub name: String,
    /// Is it a directory?
    pub is_dir: bool,
    /// Length; 0 for directories. While a file is open that of its finished blocks.
    pub len_bytes: u64,
    /// Is it being written, or recovered?
    pub open: bool,
}

/// Bytes that are not shown in full.
#[derive(Clone, PartialEq, Eq)]
pub struct Data(pub Vec<u8>);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// This is there.
    Status(Listed),
    /// These are there.
    Entries(Vec<Listed>),
    /// This was read.
    Bytes {
        /// Length of the file.
        len_bytes: u64,
        /// It may still grow.
        open: bool,
        /// Where the bytes begin.
        start_bytes: u64,
        /// The bytes.
        bytes: Data,
    },
    /// It was not carried out.
    Failed(ErrorCode),
    /// The writer was dropped: nothing was published.
    Dropped,
    /// The file was so long before, and is longer by what was given, and closed.
    Appended {
        /// Its length in the answer that gave the lease.
        base_bytes: usize,
    },
    /// The writer is gone, and the file can be seen: the cluster closes it at a length between these.
    Left {
        /// Its length before; 0 if it is new.
        base_bytes: usize,
        /// All that was flushed.
        least_bytes: usize,
        /// All that was given.
        most_bytes: usize,
    },
    /// Nobody knows.
    Unknown,
}

/// Contents of a file: they say what they are, so that any reader can tell a whole file from half a one.
#[must_use]
pub fn content(tag: u64, len_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len_bytes + 8);
    bytes.extend_from_slice(&tag.to_le_bytes());
    let mut state = tag;
    while bytes.len() < len_bytes {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(len_bytes);
    bytes
}

/// Contents of a file that was written in several goes: so many bytes of each tag.
#[must_use]
pub fn contents(parts: &[(u64, usize)]) -> Vec<u8> {
    parts.iter().flat_map(|(tag, len_bytes)| content(*tag, *len_bytes)).collect()
}

/// Tag of whole contents; `None` if they are not what their begin says.
#[must_use]
pub fn tag_of(bytes: &[u8]) -> Option<u64> {
    let tag = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    (content(tag, bytes.len()) == bytes).then_some(tag)
}

/// Shared files that all clients read and overwrite.
pub const SHARED: u64 = 4;

/// Path of a shared file.
#[must_use]
pub fn shared_path(number: u64) -> String {
    format!("/shared/k{number}")
}

/// The next operation of a client, in the tree that it believes in. `tag` is new for every operation.
pub fn next_op(random: &dyn Randomness, home: &str, tree: &Tree, tag: u64) -> Op {
    let dirs: Vec<&String> = std::iter::once(home_of(tree, home))
        .flatten()
        .chain(tree.iter().filter(|(path, entry)| matches!(entry, Entry::Dir) && *path != home).map(|(path, _)| path))
        .collect();
    let files: Vec<&String> =
        tree.iter().filter(|(_, entry)| matches!(entry, Entry::File { .. })).map(|(p, _)| p).collect();
    let len_of = |path: &str| tree.get(path).map_or(0, Entry::most_bytes) as u64;
    let home_text = home.to_owned();
    let pick = |from: &[&String]| -> String {
        match from.len() as u64 {
            0 => home_text.clone(),
            len => from[random.below(len) as usize].clone(),
        }
    };
    let new_file = || format!("{}/f{}", pick(&dirs), random.below(9));
    let new_dir = || {
        let above = pick(&dirs);
        let depth = above.matches('/').count();
        if depth > 3 { format!("{home_text}/d{}", random.below(4)) } else { format!("{above}/d{}", random.below(4)) }
    };
    let missing = || format!("{}/gone{}", pick(&dirs), random.below(3));
    let shared = || shared_path(random.below(SHARED));
    match random.below(100) {
        0..10 => Op::Mkdir { path: new_dir(), parents: random.below(4) == 0 },
        10..28 => write(random, new_file(), tag, random.below(3) > 0),
        28..33 if !files.is_empty() => append(random, pick(&files), tag),
        33..35 if !files.is_empty() => {
            let path = pick(&files);
            let len_bytes = random.below(len_of(&path) + 1 + random.below(2)) as usize;
            Op::Truncate { path, len_bytes }
        }
        33..39 if !files.is_empty() => write(random, pick(&files), tag, random.below(4) > 0),
        39..44 => Op::Rename { from: pick(&files), to: new_file(), replace: random.below(2) == 0 },
        44..48 => Op::Rename { from: pick(&dirs), to: new_dir(), replace: random.below(2) == 0 },
        48..54 => Op::Delete { path: if files.is_empty() { missing() } else { pick(&files) }, recursive: false },
        54..57 if dirs.len() > 1 => Op::Delete { path: pick(&dirs[1..]), recursive: random.below(3) > 0 },
        57..64 => Op::Stat { path: if random.below(5) == 0 { missing() } else { pick(&files) } },
        64..70 => Op::List { path: pick(&dirs) },
        70..78 => write(random, shared(), tag, true),
        78..86 => Op::Read { path: shared(), part: (0, 1000) },
        86..89 => {
            let from = random.below(900);
            Op::Read { path: pick(&files), part: (from, from + random.below(1001 - from)) }
        }
        _ => Op::Read { path: pick(&files), part: (0, 1000) },
    }
}

fn home_of<'a>(tree: &'a Tree, home: &str) -> Option<&'a String> {
    tree.get_key_value(home).map(|(path, _)| path)
}

fn write(random: &dyn Randomness, path: String, tag: u64, overwrite: bool) -> Op {
    let shared = path.starts_with("/shared/");
    let block_size_bytes = [4096, 8192, 16384][random.below(3) as usize];
    let len_bytes = match random.below(10) {
        0 if !shared => 0,
        1..5 => 16 + random.below(2000),
        5..9 => 16 + random.below(2 * block_size_bytes),
        _ => block_size_bytes * (1 + random.below(3)),
    } as usize;
    let mut manner = manner(random, len_bytes);
    if shared {
        // They are registers of whole contents.
        manner.flush_every = None;
    }
    let replication = [1, 2, 2, 3, 3, 3][random.below(6) as usize];
    Op::Write { path, tag, len_bytes, overwrite, replication, block_size_bytes, manner }
}

fn append(random: &dyn Randomness, path: String, tag: u64) -> Op {
    let len_bytes = 1 + random.below(if random.below(3) == 0 { 9000 } else { 1500 }) as usize;
    Op::Append { path, tag, len_bytes, manner: manner(random, len_bytes) }
}

fn manner(random: &dyn Randomness, len_bytes: usize) -> Manner {
    let drop_after = (random.below(12) == 0).then(|| random.below(len_bytes as u64 + 1) as usize);
    let flush_every = (random.below(4) == 0 && len_bytes > 0).then(|| 1 + random.below(len_bytes as u64) as usize);
    Manner { flush_every, sync: random.below(2) == 0, drop_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_say_what_they_are_and_damage_shows() {
        for len in [8, 16, 17, 5000] {
            let mut bytes = content(77, len);
            assert_eq!((bytes.len(), tag_of(&bytes)), (len, Some(77)));
            if len > 8 {
                bytes[len - 1] ^= 1;
                assert_eq!(tag_of(&bytes), None);
            }
        }
        assert_eq!(tag_of(&[0; 7]), None);
    }
}
