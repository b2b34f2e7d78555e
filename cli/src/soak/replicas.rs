//! Every replica of every block, read from its node from beginning to end and compared with what the file is to hold: a reader
//! looks at one of them, and any one may be asked next.

use std::sync::atomic::Ordering;

use client::{Client, FsResult};

use super::shared::Shared;
use super::words::{Content, WriterNumber};

/// Compares the bytes of one replica, piece by piece, with the part of a content that its block is to hold.
#[derive(Clone, Debug)]
struct ReplicaJudge<'a> {
    content: &'a Content,
    at_bytes: u64,
    end_bytes: u64,
    wrong: Option<String>,
}

impl<'a> ReplicaJudge<'a> {
    /// Of a block that begins at `from_bytes` of its file.
    const fn new(content: &'a Content, from_bytes: u64, len_bytes: u64) -> Self {
        Self { content, at_bytes: from_bytes, end_bytes: from_bytes + len_bytes, wrong: None }
    }
    /// The next bytes.
    fn feed(&mut self, bytes: &[u8], newest: WriterNumber) {
        if self.wrong.is_none() {
            self.wrong = self.content.differs(self.at_bytes, bytes).map(|difference| difference.text(newest));
        }
        self.at_bytes += bytes.len() as u64;
    }
    /// The node said that this was all: what is wrong with it?
    fn end(self) -> Option<String> {
        let off = (self.at_bytes != self.end_bytes)
            .then(|| format!("it ends at {} of the file, its block at {}", self.at_bytes, self.end_bytes));
        self.wrong.or(off)
    }
}

/// Reads every replica of a file that holds exactly `content`; what is wrong is found.
///
/// # Errors
/// If the namenode does not say where the blocks are.
pub(super) async fn compare(shared: &Shared, client: &Client, path: &str, content: &Content) -> FsResult<()> {
    let reader = client.open(path).await?;
    for block in reader.blocks() {
        let len_bytes = block.block.as_ref().map_or(0, |block| block.len_bytes);
        if block.locations.is_empty() {
            shared.found("replica", path, format!("the block at {} has none", block.offset_bytes));
        }
        for at in &block.locations {
            let mut judge = ReplicaJudge::new(content, block.offset_bytes, len_bytes);
            let mut replica = client.read_replica(block, at);
            let wrong = loop {
                match replica.next().await {
                    Ok(Some(bytes)) => judge.feed(&bytes, shared.newest()),
                    Ok(None) => break judge.end(),
                    Err(error) => break Some(error.to_string()),
                }
            };
            shared.checked_replicas.fetch_add(1, Ordering::Relaxed);
            if let Some(wrong) = wrong {
                let place = format!("{path}, block at {}, node {}", block.offset_bytes, at.node);
                shared.found("replica", &place, wrong);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: WriterNumber = WriterNumber(9);

    fn judged(content: &Content, (from, len): (u64, u64), there: &[u8]) -> Option<String> {
        let mut judge = ReplicaJudge::new(content, from, len);
        there.chunks(700).for_each(|piece| judge.feed(piece, NEWEST));
        judge.end()
    }

    #[test]
    fn f_8_one_replica_that_is_stale_short_or_long_is_found_among_good_ones() {
        let content = Content::new(WriterNumber(1), 5000).appended(WriterNumber(2), 3000);
        let block = (4096, 3904);
        let good = content.bytes(4096, 3904);
        assert_eq!(judged(&content, block, &good), None);
        let stale = Content::new(WriterNumber(1), 8000).bytes(4096, 3904);
        let text = judged(&content, block, &stale).expect("the second writer's bytes are missing");
        assert!(text.contains("offset 5000"), "{text}");
        assert!(judged(&content, block, &good[..3903]).is_some(), "short");
        let of_the_next_file = [&good[..], &[0]].concat();
        assert!(judged(&content, block, &of_the_next_file).is_some(), "long");
        assert!(judged(&content, (0, 4096), &good).is_some(), "of another place of the file");
    }
}
