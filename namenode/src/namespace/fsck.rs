//! Looking at every file below a path, some at a time, and recounting what is kept step by step.
//!
//! The cursor is the path of the last name that was looked at, below the top: names that come and go meanwhile are
//! seen or not, those that stay are seen once.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::BlockId;
use proto::log::CallerRecord;
use proto::path::{FsPath, MAX_PATH_BYTES};

use super::Namespace;
use super::resolve::Last;
use super::store::records::{Kind, flags};
use super::store::totals::Totals;

/// Bytes of a cursor: a path below the top. Renames can make trees deeper than a path may be long.
const MAX_CURSOR_BYTES: usize = 64 * MAX_PATH_BYTES;

/// What one step looked at.
#[derive(Clone, Debug, Default)]
pub struct FsckStep {
    /// Where the next step begins; empty after the last one.
    pub cursor: Vec<u8>,
    /// Files.
    pub files: Vec<FileLookedAt>,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// What does not agree with what was counted step by step.
    pub contradictions: Vec<String>,
    /// Were the totals of each directory of this step recounted?
    pub recounted: bool,
}

/// A file, and its committed blocks.
#[derive(Clone, Debug)]
pub struct FileLookedAt {
    /// Full path.
    pub path: String,
    /// Committed bytes.
    pub len_bytes: u64,
    /// Copies wanted.
    pub replication: u32,
    /// Blocks with their final length.
    pub blocks: Vec<BlockId>,
    /// Is it being written?
    pub open: bool,
}

impl Namespace {
    /// Looks at up to `most` names after a cursor, and checks every total, reference and owner on the way: the totals of
    /// a directory against the sum of its entries, entries against indexes, blocks against their file.
    ///
    /// # Errors
    /// `PermissionDenied` unless the caller is a superuser; `NotFound`; `InvalidArgument` for a bad cursor.
    pub fn fsck_step(&self, who: &CallerRecord, path: &FsPath, cursor: &[u8], most: usize) -> FsResult<FsckStep> {
        let who = self.who(who)?;
        who.need_superuser("look at every file")?;
        let top = self.find(&who, path, Last::Follow)?;
        let below = std::str::from_utf8(cursor).ok().filter(|text| text.len() <= MAX_CURSOR_BYTES);
        let below = below.ok_or_else(|| FsError::new(ErrorCode::InvalidArgument, "this is no cursor of fsck"))?;
        let mut step = FsckStep { recounted: true, ..FsckStep::default() };
        let top_path = if path.is_root() { String::new() } else { path.as_str().to_owned() };
        if cursor.is_empty() {
            self.look_at(top, path.as_str(), &mut step);
        }
        if !self.store.inode(top).is_dir() {
            return Ok(step);
        }
        // Directories on the way to the cursor, each with the name after which it goes on.
        let mut open: Vec<(u32, String, String)> = vec![(top, String::new(), String::new())];
        for name in below.split('/').filter(|name| !name.is_empty()) {
            let Some((at, at_path, after)) = open.last_mut() else { break };
            name.clone_into(after);
            let child = self.store.child(*at, name).map(|entry| self.store.inode_of(entry));
            let Some(child) = child.filter(|slot| self.store.inode(*slot).is_dir()) else { break };
            let child_path = format!("{at_path}/{name}");
            open.push((child, child_path, String::new()));
        }
        let mut looked_at = 0;
        while let Some((at, at_path, after)) = open.pop() {
            let mut entries = self.store.entries_after(at, &after);
            let Some(entry) = entries.next() else { continue };
            let (name, slot) = (self.store.name(entry).to_owned(), self.store.inode_of(entry));
            let here = format!("{at_path}/{name}");
            self.check_entry_of(at, entry, &here, &mut step);
            self.look_at(slot, &format!("{top_path}{here}"), &mut step);
            open.push((at, at_path, name));
            if self.store.inode(slot).is_dir() {
                open.push((slot, here.clone(), String::new()));
            }
            looked_at += 1;
            if looked_at >= most {
                step.cursor = here.into_bytes();
                return Ok(step);
            }
        }
        Ok(step)
    }

    fn look_at(&self, slot: u32, path: &str, step: &mut FsckStep) {
        let inode = self.store.inode(slot);
        match inode.kind {
            Kind::Directory => {
                step.directories += 1;
                let children = &self.store.directory(slot).children;
                let sum = children.iter().map(|child| self.store.weight(child)).fold(Totals::default(), Totals::plus);
                if self.store.directory(slot).below != sum {
                    step.contradictions.push(format!("{path}: its totals are not the sum of its entries"));
                }
            }
            Kind::Symlink => step.symlinks += 1,
            Kind::File => step.files.push(self.file_looked_at(slot, path, step.contradictions.len())),
            Kind::Free | Kind::Link => step.contradictions.push(format!("{path}: an entry without an inode")),
        }
        if inode.has(flags::OPEN) != self.store.open.get(&inode.id).is_some() {
            step.contradictions.push(format!("{path}: its lease and its state disagree"));
        }
    }

    fn file_looked_at(&self, slot: u32, path: &str, _found: usize) -> FileLookedAt {
        let committed = self.store.chain(slot).map(|block| self.store.block(block)).filter(|block| block.committed());
        FileLookedAt {
            path: path.to_owned(),
            len_bytes: self.store.extent(slot).len_bytes,
            replication: u32::from(self.store.inode(slot).replication),
            blocks: committed.map(|block| BlockId::from_raw(block.id)).collect(),
            open: self.store.inode(slot).has(flags::OPEN),
        }
    }

    fn check_entry_of(&self, directory: u32, entry: u32, path: &str, step: &mut FsckStep) {
        let mut say = |what: &str| step.contradictions.push(format!("{path}: {what}"));
        if self.store.inode(entry).parent != directory
            || self.store.child(directory, self.store.name(entry)) != Some(entry)
        {
            say("the index does not find it");
        }
        let slot = self.store.inode_of(entry);
        if entry != slot && !self.store.links_of(slot).contains(&entry) {
            say("its inode does not know this name");
        }
        let mut extent = (0, 0);
        for block in self.store.chain(slot) {
            let record = self.store.block(block);
            if record.inode != slot || self.store.block_slot(record.id) != Some(block) {
                say("a block belongs to another file");
            }
            extent = (extent.0 + 1, extent.1 + record.len_bytes);
        }
        if self.store.inode(slot).is_file()
            && (self.store.extent(slot).count, self.store.extent(slot).len_bytes) != extent
        {
            say("its length is not the sum of its blocks");
        }
    }
}
