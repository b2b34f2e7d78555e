//! Joining closed files, in steps that a namenode takes.

use std::ops::Range;

use proto::error::FsResult;
use proto::namespace::FileStatus;

use crate::client::Client;

/// Most files that a namenode joins in one step.
pub(crate) const MAX_SOURCES: usize = 250;
/// Most blocks that it moves in one step.
pub(super) const MAX_MOVED_BLOCKS: u64 = 5000;

/// A closed file that is to become a piece of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it is.
    pub path: String,
    /// Blocks that it has.
    pub blocks: u64,
}

impl Piece {
    /// A file that one writer wrote: all its blocks but the last are full.
    #[must_use]
    pub fn of(path: String, status: &FileStatus) -> Self {
        Self { path, blocks: status.len_bytes.div_ceil(status.block_size_bytes.max(1)) }
    }
}

impl Client {
    /// Appends the blocks of closed files, none of them empty, to another; the files are gone then. What they are joined
    /// to, with all of them; `None` if there are none to join.
    ///
    /// # Errors
    /// The namenode's refusals. Of more than it joins in one step, those before the step that failed stay joined.
    pub async fn join(&self, target: &str, pieces: &[Piece]) -> FsResult<Option<FileStatus>> {
        let mut joined = None;
        for step in steps(pieces) {
            let sources = pieces.get(step).unwrap_or_default();
            let sources: Vec<String> = sources.iter().map(|piece| piece.path.clone()).collect();
            joined = Some(self.concat(target, &sources).await?);
        }
        Ok(joined)
    }
}

/// Cuts pieces into steps within the limits: a namenode joins all of a step, or nothing of it. One that is beyond them by
/// itself is a step, for the namenode to refuse.
#[must_use]
pub fn steps(pieces: &[Piece]) -> Vec<Range<usize>> {
    let mut steps: Vec<Range<usize>> = Vec::new();
    let mut blocks = 0;
    for (number, piece) in pieces.iter().enumerate() {
        let after = piece.blocks.saturating_add(blocks);
        match steps.last_mut() {
            Some(step) if step.len() < MAX_SOURCES && after <= MAX_MOVED_BLOCKS => {
                step.end = number + 1;
                blocks = after;
            }
            _ => {
                steps.push(number..number + 1);
                blocks = piece.blocks;
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(blocks: &[u64]) -> Vec<Range<usize>> {
        steps(&blocks.iter().map(|blocks| Piece { path: String::new(), blocks: *blocks }).collect::<Vec<_>>())
    }

    #[test]
    fn steps_are_as_large_as_a_namenode_takes() {
        assert!(of(&[]).is_empty());
        assert_eq!(of(&[1; 250]).len(), 1);
        assert_eq!(of(&[1; 501]), [0..250, 250..500, 500..501]);
        assert_eq!(of(&[2500, 2500, 1, 4999]), [0..2, 2..4]);
        assert_eq!(of(&[4000, 4000, 4000]), [0..1, 1..2, 2..3]);
        assert_eq!(of(&[1, 6000, 1, 1]), [0..1, 1..2, 2..4], "what is too much is refused by itself");
        assert_eq!(of(&[u64::MAX, u64::MAX]).len(), 2);
    }

    #[test]
    fn blocks_are_counted_by_length() {
        let status = |len_bytes| FileStatus { len_bytes, block_size_bytes: 10, ..FileStatus::default() };
        let blocks = |len_bytes| Piece::of("/a".into(), &status(len_bytes)).blocks;
        assert_eq!([blocks(1), blocks(10), blocks(11)], [1, 1, 2]);
        assert_eq!(Piece::of("/a".into(), &FileStatus { len_bytes: 7, ..FileStatus::default() }).blocks, 7);
    }
}
