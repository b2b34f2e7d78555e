//! Trees of files: made from a seed, compared byte by byte.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use base::random::{Randomness, SeededRandom};

/// What [`make`] made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// Files.
    pub files: u64,
    /// Directories below the top.
    pub directories: u64,
    /// Bytes in all files.
    pub bytes: u64,
}

/// Makes a tree: nested folders, empty ones too, empty files, small ones, some of several packets, odd names.
///
/// # Panics
/// If the file system refuses.
pub fn make(top: &Path, seed: u64, files: u64) -> Made {
    let random = SeededRandom::new(seed);
    let mut made = Made::default();
    fs::create_dir_all(top).expect("top");
    for i in 0..files {
        let mut dir = top.to_path_buf();
        for level in 0..random.below(4) {
            dir.push(format!("d{level}-{}", random.below(5)));
        }
        if !dir.is_dir() {
            fs::create_dir_all(&dir).expect("folder");
        }
        let name = match i % 7 {
            0 => format!("with space {i}"),
            1 => format!("ünïcode-{i}"),
            2 => format!("{i}.tar.gz"),
            3 => format!("-dash{i}"),
            _ => format!("file{i}"),
        };
        let len = match random.below(20) {
            0 => 0,
            1 => 300_000 + random.below(2_000_000),
            2..=4 => 20_000 + random.below(100_000),
            _ => random.below(4000),
        };
        fs::write(dir.join(name), bytes(&random, len)).expect("file");
        made.files += 1;
        made.bytes += len;
    }
    fs::create_dir_all(top.join("empty").join("emptier")).expect("folder");
    made.directories = list(top).values().filter(|size| size.is_none()).count() as u64;
    made
}

/// Bytes that do not compress and differ from call to call.
pub fn bytes(random: &SeededRandom, len_bytes: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len_bytes).expect("length")];
    random.fill(&mut bytes);
    bytes
}

/// Every name below `top` with its length; `None` for directories.
///
/// # Panics
/// If the tree cannot be read.
#[must_use]
pub fn list(top: &Path) -> BTreeMap<PathBuf, Option<u64>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![top.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).expect("folder") {
            let entry = entry.expect("entry");
            let kind = entry.file_type().expect("type");
            let below = entry.path().strip_prefix(top).expect("below").to_path_buf();
            if kind.is_dir() {
                found.insert(below, None);
                todo.push(entry.path());
            } else if kind.is_file() {
                found.insert(below, Some(entry.metadata().expect("metadata").len()));
            }
        }
    }
    found
}

/// Compares two trees name by name and byte by byte.
///
/// # Panics
/// At the first difference.
pub fn assert_same(a: &Path, b: &Path) {
    let (left, right) = (list(a), list(b));
    for name in left.keys() {
        assert!(right.contains_key(name), "{} is missing in {}", name.display(), b.display());
    }
    for (name, size) in &right {
        assert_eq!(left.get(name), Some(size), "{} differs or is too much in {}", name.display(), b.display());
        if size.is_some() {
            assert!(same_bytes(&a.join(name), &b.join(name)), "{} differs", name.display());
        }
    }
}

fn same_bytes(a: &Path, b: &Path) -> bool {
    let (mut a, mut b) = (fs::File::open(a).expect("open"), fs::File::open(b).expect("open"));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let (n, m) = (fill(&mut a, &mut left), fill(&mut b, &mut right));
        if n != m || left[..n] != right[..m] {
            return false;
        }
        if n == 0 {
            return true;
        }
    }
}

fn fill(file: &mut fs::File, buffer: &mut [u8]) -> usize {
    let mut done = 0;
    while done < buffer.len() {
        match file.read(&mut buffer[done..]).expect("read") {
            0 => break,
            n => done += n,
        }
    }
    done
}
