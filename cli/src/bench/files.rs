//! Writing and reading whole files, as an application does that uses the client library.

use bytes::Bytes;
use client::{Client, CreateOptions, FsResult};

/// Bytes that are given to a writer at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes that no disk or socket can make less of.
pub(super) fn pattern(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(len);
    data.into()
}

/// What is written: pieces of one buffer, over and over.
#[derive(Clone, Debug)]
pub(super) struct Content {
    data: Bytes,
    pub(super) len_bytes: u64,
}

impl Content {
    pub(super) fn new(len_bytes: u64) -> Self {
        /// Longer than any cache of one processor.
        const BUFFER_BYTES: u64 = 16 << 20;
        let len = usize::try_from(len_bytes.min(BUFFER_BYTES)).unwrap_or(PIECE_BYTES);
        Self { data: pattern(len), len_bytes }
    }
    fn piece(&self, at: u64) -> Bytes {
        let start = usize::try_from(at % self.data.len() as u64).unwrap_or(0);
        let left = usize::try_from(self.len_bytes - at).unwrap_or(usize::MAX);
        self.data.slice(start..start + left.min(PIECE_BYTES).min(self.data.len() - start))
    }
}

/// Writes a file from create to a durable close.
pub(super) async fn write(client: &Client, path: &str, content: &Content, replication: u32) -> FsResult<()> {
    write_as(client, path, content, CreateOptions { replication, ..CreateOptions::default() }).await
}

/// The same for a file that is made in a certain way.
pub(super) async fn write_as(client: &Client, path: &str, content: &Content, options: CreateOptions) -> FsResult<()> {
    let mut writer = client.create(path, options).await?;
    let mut at = 0;
    while at < content.len_bytes {
        let piece = content.piece(at);
        at += piece.len() as u64;
        writer.write(piece).await?;
    }
    writer.close().await.map(drop)
}

/// Reads a file from open to end; gives its length.
pub(super) async fn read(client: &Client, path: &str) -> FsResult<u64> {
    let mut reader = client.open(path).await?;
    let mut count = 0;
    while let Some(bytes) = reader.next().await? {
        count += bytes.len() as u64;
        std::hint::black_box(&bytes);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_content_are_its_length() {
        for len_bytes in [0, 1, 4096, PIECE_BYTES as u64 + 1, (16 << 20) + 5] {
            let content = Content::new(len_bytes);
            let mut at = 0;
            while at < len_bytes {
                let piece = content.piece(at);
                assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
                at += piece.len() as u64;
            }
            assert_eq!(at, len_bytes);
        }
        assert_ne!(pattern(16)[..8], pattern(16)[8..]);
    }
}
