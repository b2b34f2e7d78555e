//! Against Hadoop's own classes: a real Java datanode takes our blocks and serves them, ours serve a real Java client, and
//! both stand in one pipeline.
//!
//! Opt-in, because it needs a JDK (17 to 23, `java` and `javac` in the path) and Hadoop's jars:
//! `BLOCKYARD_JAVA=$(.ci/java-peers) cargo test -p datanode --test transfer java`.

mod client;
mod datanode;
mod mixed;
mod peer;
mod wire;

use std::path::PathBuf;

use transfer::ChecksumKind;

use super::*;

/// Hadoop's kinds of checksums, with its names.
const KINDS: [(ChecksumKind, &str); 3] =
    [(ChecksumKind::Crc32, "CRC32"), (ChecksumKind::Crc32c, "CRC32C"), (ChecksumKind::Null, "NULL")];
/// Bytes of a chunk: the least, the usual, one that divides nothing, and the most.
const CHUNKS: [u32; 7] = [1, 512, 777, 1024, 4096, 65_536, transfer::chunks::MAX_CHUNK_BYTES];

/// Every kind with every chunk length: format, Hadoop's name, and the length of a block that has a few chunks and a rest.
fn formats() -> impl Iterator<Item = (ChunkFormat, &'static str, usize)> {
    KINDS.into_iter().flat_map(|(kind, name)| {
        CHUNKS.into_iter().map(move |chunk_bytes| {
            let len_bytes = 300_001.max(2 * chunk_bytes + chunk_bytes / 5);
            (ChunkFormat::new(kind, chunk_bytes).unwrap(), name, len_bytes as usize)
        })
    })
}

/// Bytes in which no two neighbouring chunks are alike.
fn pattern(len_bytes: usize, salt: u64) -> Vec<u8> {
    (0..len_bytes as u64).map(|i| ((i + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// The file of that name below a folder.
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| match entry.path() {
        path if path.is_dir() => find(&path, name),
        path => path.file_name().is_some_and(|found| found == name).then_some(path),
    })
}

/// Is the replica on disk as Hadoop lays it out: data, and header and checksums at the start of the meta file? The rest
/// of the meta file.
fn on_disk(dir: &Path, block: &BlockRef, format: ChunkFormat, data: &[u8]) -> Vec<u8> {
    let read = |name: String| std::fs::read(find(dir, &name).unwrap_or_else(|| panic!("no {name}"))).unwrap();
    let (id, stamp) = (block.id.raw(), block.stamp.raw());
    assert!(read(format!("blk_{id}")) == data, "the data of {format:?}");
    let mut meta = read(format!("blk_{id}_{stamp}.meta"));
    let mut expected = vec![0, 1, format.kind().number()];
    expected.extend((format.chunk_bytes() as u32).to_be_bytes());
    expected.extend(format.compute(data));
    let rest = meta.split_off(expected.len().min(meta.len()));
    assert!(meta == expected, "the meta file of {format:?}");
    rest
}
