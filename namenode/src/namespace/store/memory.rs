//! What the namespace takes in memory, by part: what was allocated, not only what is used.

use super::Store;

impl Store {
    /// Bytes by part.
    pub(crate) fn memory_by_part(&self) -> Vec<(&'static str, u64)> {
        let directories = self.directories.capacity() * size_of::<super::Directory>();
        let children: u64 = self.directories.iter().map(|directory| directory.children.bytes()).sum();
        vec![
            ("inodes", self.inodes.bytes()),
            ("names", self.names.bytes()),
            ("name_index", self.index.bytes()),
            ("inode_ids", self.by_id.bytes()),
            ("children", children),
            ("directories", directories as u64),
            ("blocks", self.blocks.bytes()),
            ("block_ids", self.by_block.bytes()),
            ("extents", (self.extents.allocation_size() + self.links.allocation_size()) as u64),
        ]
    }
}
