//! The blocks of an open file come in pages: the namenode answers with so many at a time.

use proto::namespace::OpenResponse;

use super::reader::len_of;

/// What a further page did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// There are more blocks now.
    Joined,
    /// It is of another file, which took the name meanwhile.
    Replaced,
    /// It brought nothing: the namenode names no more.
    Nothing,
}

/// Where the first block begins that is not there yet; `None` if the blocks reach the end of the file.
pub(crate) fn next_page_bytes(opened: &OpenResponse) -> Option<u64> {
    let len_bytes = opened.status.as_ref()?.len_bytes;
    let end = end_bytes(opened);
    (end < len_bytes).then_some(end)
}

/// Appends a page that was asked for at [`next_page_bytes`].
pub(crate) fn join_page(opened: &mut OpenResponse, page: OpenResponse) -> Page {
    let inode = |response: &OpenResponse| response.status.as_ref().map(|status| status.inode);
    if inode(opened) != inode(&page) {
        return Page::Replaced;
    }
    let (end, before) = (end_bytes(opened), opened.blocks.len());
    opened.blocks.extend(page.blocks.into_iter().filter(|block| block.offset_bytes >= end));
    if end_bytes(opened) > end && opened.blocks.len() > before { Page::Joined } else { Page::Nothing }
}

fn end_bytes(opened: &OpenResponse) -> u64 {
    opened.blocks.last().map_or(0, |block| block.offset_bytes.saturating_add(len_of(block)))
}

#[cfg(test)]
mod tests {
    use proto::common::{Block, LocatedBlock};
    use proto::namespace::FileStatus;

    use super::*;

    fn answer(inode: u64, len_bytes: u64, blocks: std::ops::Range<u64>) -> OpenResponse {
        let block = |n| LocatedBlock {
            block: Some(Block { len_bytes: 10, ..Block::default() }),
            offset_bytes: n * 10,
            ..LocatedBlock::default()
        };
        let status = Some(FileStatus { inode, len_bytes, ..FileStatus::default() });
        OpenResponse { status, blocks: blocks.map(block).collect() }
    }

    #[test]
    fn v_2_pages_are_asked_for_until_the_whole_file_is_named() {
        let mut opened = answer(7, 50, 0..2);
        assert_eq!(next_page_bytes(&opened), Some(20));
        assert_eq!(join_page(&mut opened, answer(7, 50, 2..4)), Page::Joined);
        assert_eq!(next_page_bytes(&opened), Some(40));
        assert_eq!(join_page(&mut opened, answer(7, 50, 4..5)), Page::Joined);
        assert_eq!((next_page_bytes(&opened), opened.blocks.len()), (None, 5));
        assert_eq!(next_page_bytes(&answer(7, 0, 0..0)), None, "an empty file");
    }

    #[test]
    fn another_file_and_a_page_of_nothing_end_it() {
        let mut opened = answer(7, 50, 0..2);
        assert_eq!(join_page(&mut opened, answer(8, 50, 2..4)), Page::Replaced);
        assert_eq!(join_page(&mut opened, answer(7, 50, 0..2)), Page::Nothing, "a namenode that repeats itself");
        assert_eq!(join_page(&mut opened, answer(7, 50, 0..0)), Page::Nothing);
        assert_eq!(opened, answer(7, 50, 0..2));
    }
}
