//! What is in a file, as a number: two files with the same number hold the same bytes.

use std::ops::Range;
use std::path::Path;

use base::local::LocalReader;
use sha2::{Digest, Sha256};

use crate::verbs::context::Context;
use crate::verbs::failure::Failure;
use crate::verbs::transfer::{CHUNK_BYTES, local};

/// SHA-256 of all bytes, and how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) len_bytes: u64,
    pub(crate) sha256: [u8; 32],
}

/// A content that is not complete yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hasher {
    len_bytes: u64,
    sha256: Sha256,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.len_bytes += bytes.len() as u64;
        self.sha256.update(bytes);
    }
    pub(crate) const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
    /// The content so far.
    pub(crate) fn content(&self) -> Content {
        Content { len_bytes: self.len_bytes, sha256: self.sha256.clone().finalize().into() }
    }
}

/// Reads a file of the cluster.
pub(crate) async fn of_cluster(context: &Context, path: &str) -> Result<Content, Failure> {
    of_range(context, path, 0..u64::MAX).await
}

/// Reads a range of a file of the cluster.
pub(crate) async fn of_range(context: &Context, path: &str, range: Range<u64>) -> Result<Content, Failure> {
    let at = |error: client::FsError| Failure::from(error).at(path);
    let mut reader = context.client.open(path).await.map_err(at)?;
    reader.seek(range.start);
    reader.end_at(range.end);
    let mut hasher = Hasher::default();
    while let Some(bytes) = reader.next().await.map_err(at)? {
        hasher.update(&bytes);
    }
    Ok(hasher.content())
}

/// Reads a file of this machine.
pub(crate) async fn of_local(path: &Path) -> Result<Content, Failure> {
    let here = path.to_owned();
    local("read", path, move || {
        let mut reader = LocalReader::open(&here)?;
        let mut hasher = Hasher::default();
        loop {
            let chunk = reader.read_chunk(CHUNK_BYTES)?;
            if chunk.is_empty() {
                return Ok(hasher.content());
            }
            hasher.update(&chunk);
        }
    })
    .await
}

/// Reads bytes that are at hand, `len_bytes` of them, or as many as there are.
pub(crate) fn of_bytes_at(
    len_bytes: u64,
    mut read_at: impl FnMut(&mut [u8], u64) -> std::io::Result<usize>,
) -> std::io::Result<Hasher> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    while hasher.len_bytes < len_bytes {
        let left = usize::try_from(len_bytes - hasher.len_bytes).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let wanted = buffer.get_mut(..left).unwrap_or_default();
        let read = read_at(wanted, hasher.len_bytes)?;
        if read == 0 {
            break;
        }
        hasher.update(wanted.get(..read).unwrap_or_default());
    }
    Ok(hasher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_however_it_is_read() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut whole = Hasher::default();
        whole.update(&bytes);
        let read_at = |buffer: &mut [u8], at: u64| {
            let rest = &bytes[usize::try_from(at).unwrap().min(bytes.len())..];
            let n = rest.len().min(buffer.len()).min(70_001);
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        };
        assert_eq!(of_bytes_at(3_000_000, read_at).unwrap().content(), whole.content());
        assert_eq!(of_bytes_at(9_000_000, read_at).unwrap().content(), whole.content(), "the end comes before");
        assert_ne!(of_bytes_at(2_999_999, read_at).unwrap().content(), whole.content());
        let known = Hasher::default().content();
        assert_eq!((known.len_bytes, known.sha256[..4].to_vec()), (0, vec![0xe3, 0xb0, 0xc4, 0x42]));
    }
}
