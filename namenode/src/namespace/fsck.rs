//! Looking at every file below a path, some at a time, and recounting what is kept step by step.
//!
//! A wide directory is added up in steps of its own. If something changed below it meanwhile, it is added up again, and
//! given up after a few tries: then the step says that it did not recount everything. So a busy tree never shows a
//! contradiction that is none.
//!
//! The cursor is the path of the last name that was looked at, below the top: names that come and go meanwhile are
//! seen or not, those that stay are seen once.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::BlockId;
#[cfg(test)]
use proto::log::CallerRecord;
use proto::path::{FsPath, MAX_PATH_BYTES};

use super::Namespace;
use super::access::Who;
use super::resolve::Last;
use super::store::records::{Kind, flags};
use super::store::totals::Totals;
use super::walk::Walk;

/// Bytes of a cursor: a path below the top. Renames can make trees deeper than a path may be long.
const MAX_CURSOR_BYTES: usize = 64 * MAX_PATH_BYTES;

/// What it costs to look at a name, as adding one up costs 1.
const NAME_COST: usize = 2;
/// Times that the entries of a directory are added up, if they change meanwhile.
const SUM_TRIES: u32 = 4;

/// What one call looked at.
#[derive(Clone, Debug, Default)]
pub struct FsckStep {
    /// Where the next call begins; empty after the last one.
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

/// A look at up to so many names after a cursor, in steps. Every total, reference and owner is checked on the way: the
/// totals of a directory against the sum of its entries, entries against indexes, blocks against their file.
#[derive(Debug)]
pub(crate) struct FsckWalk {
    path: FsPath,
    cursor: String,
    /// Names that are still to be looked at.
    names: usize,
    top: Option<u64>,
    /// Directories on the way, each with its path below the top and the name after which it goes on.
    open: Vec<(u64, String, String)>,
    sum: Option<Sum>,
    found: FsckStep,
}

/// A directory whose entries are being added up.
#[derive(Debug)]
struct Sum {
    directory: u64,
    path: String,
    after: Box<str>,
    sum: Totals,
    /// Of the directory, when the adding began: if it is another number now, the sum is of no one moment.
    changes: u64,
    tries: u32,
}

impl FsckWalk {
    /// For superusers only.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad cursor.
    pub(crate) fn new(path: FsPath, cursor: &[u8], most: usize) -> FsResult<Self> {
        let below = std::str::from_utf8(cursor).ok().filter(|text| text.len() <= MAX_CURSOR_BYTES);
        let below = below.ok_or_else(|| FsError::new(ErrorCode::InvalidArgument, "this is no cursor of fsck"))?;
        let found = FsckStep { recounted: true, ..FsckStep::default() };
        Ok(Self { path, cursor: below.to_owned(), names: most, top: None, open: Vec::new(), sum: None, found })
    }
    /// The files that were looked at and not taken yet.
    pub(crate) const fn files(&mut self) -> &mut Vec<FileLookedAt> {
        &mut self.found.files
    }

    fn begin(&mut self, namespace: &Namespace, who: &Who<'_>, left: &mut usize) -> FsResult<()> {
        who.need_superuser("look at every file")?;
        let top = namespace.find(who, &self.path, Last::Follow)?;
        self.top = Some(namespace.store.inode(top).id);
        if self.cursor.is_empty() {
            let path = self.path.as_str().to_owned();
            self.look_at(namespace, top, path, left);
        }
        if !namespace.store.inode(top).is_dir() {
            return Ok(());
        }
        self.open.push((namespace.store.inode(top).id, String::new(), String::new()));
        let mut at = top;
        for name in self.cursor.split('/').filter(|name| !name.is_empty()) {
            let Some((_, at_path, after)) = self.open.last_mut() else { break };
            name.clone_into(after);
            let child = namespace.store.child(at, name).map(|entry| namespace.store.inode_of(entry));
            let Some(child) = child.filter(|slot| namespace.store.inode(*slot).is_dir()) else { break };
            let child_path = format!("{at_path}/{name}");
            self.open.push((namespace.store.inode(child).id, child_path, String::new()));
            at = child;
        }
        Ok(())
    }

    /// Looks at the next name. False: there is none.
    fn look_at_next(&mut self, namespace: &Namespace, left: &mut usize) -> bool {
        let store = &namespace.store;
        while let Some((id, at_path, after)) = self.open.pop() {
            *left = left.saturating_sub(NAME_COST);
            let Some(at) = store.slot(id).filter(|slot| store.inode(*slot).is_dir()) else { continue };
            let Some(entry) = store.entries_after(at, &after).next() else {
                if *left == 0 && !self.open.is_empty() {
                    return true;
                }
                continue;
            };
            let (name, slot) = (store.name(entry).to_owned(), store.inode_of(entry));
            let here = format!("{at_path}/{name}");
            self.check_entry_of(namespace, at, entry, &here, left);
            self.open.push((id, at_path, name));
            if store.inode(slot).is_dir() {
                self.open.push((store.inode(slot).id, here.clone(), String::new()));
            }
            let top = if self.path.is_root() { "" } else { self.path.as_str() };
            self.look_at(namespace, slot, format!("{top}{here}"), left);
            self.names = self.names.saturating_sub(1);
            if self.names == 0 {
                self.found.cursor = here.into_bytes();
            }
            return true;
        }
        false
    }

    fn look_at(&mut self, namespace: &Namespace, slot: u32, path: String, left: &mut usize) {
        let (store, found) = (&namespace.store, &mut self.found);
        let inode = store.inode(slot);
        if inode.has(flags::OPEN) != store.open.get(&inode.id).is_some() {
            found.contradictions.push(format!("{path}: its lease and its state disagree"));
        }
        match inode.kind {
            Kind::Directory => {
                found.directories += 1;
                let changes = store.directory(slot).changes;
                let (after, sum) = (Box::default(), Totals::default());
                self.sum = Some(Sum { directory: inode.id, path, after, sum, changes, tries: 1 });
            }
            Kind::Symlink => found.symlinks += 1,
            Kind::File | Kind::Fifo | Kind::Socket | Kind::CharacterDevice | Kind::BlockDevice => {
                *left = left.saturating_sub(usize::try_from(store.extent(slot).count).unwrap_or(usize::MAX));
                found.files.push(namespace.file_looked_at(slot, path));
            }
            Kind::Free | Kind::Link => found.contradictions.push(format!("{path}: an entry without an inode")),
        }
    }

    fn check_entry_of(&mut self, namespace: &Namespace, directory: u32, entry: u32, path: &str, left: &mut usize) {
        let store = &namespace.store;
        let mut say = |what: &str| self.found.contradictions.push(format!("{path}: {what}"));
        if store.inode(entry).parent != directory || store.child(directory, store.name(entry)) != Some(entry) {
            say("the index does not find it");
        }
        let slot = store.inode_of(entry);
        if entry != slot {
            // Many are compared in the time of one other look.
            *left = left.saturating_sub(store.links_of(slot).len() / 64);
            if !store.links_of(slot).contains(&entry) {
                say("its inode does not know this name");
            }
        }
        let mut extent = (0, 0);
        for block in store.chain(slot) {
            let record = store.block(block);
            if record.inode != slot || store.block_slot(record.id) != Some(block) {
                say("a block belongs to another file");
            }
            extent = (extent.0 + 1, extent.1 + record.len_bytes);
        }
        *left = left.saturating_sub(usize::try_from(extent.0).unwrap_or(usize::MAX));
        if store.inode(slot).is_file() && (store.extent(slot).count, store.extent(slot).len_bytes) != extent {
            say("its length is not the sum of its blocks");
        }
    }

    /// Adds on. True: this directory is done.
    fn add_up(&mut self, namespace: &Namespace, left: &mut usize) -> bool {
        let (store, Some(at)) = (&namespace.store, &mut self.sum) else { return true };
        let slot = store.slot(at.directory).filter(|slot| store.inode(*slot).is_dir() && store.hangs(*slot));
        let Some(slot) = slot else { return true };
        let directory = store.directory(slot);
        if directory.changes != at.changes {
            if at.tries >= SUM_TRIES {
                self.found.recounted = false;
                return true;
            }
            (at.after, at.sum, at.changes) = (Box::default(), Totals::default(), directory.changes);
            at.tries += 1;
        }
        let mut last = None;
        let mut entries = store.entries_after(slot, &at.after);
        while *left > 0 {
            let Some(entry) = entries.next() else {
                if directory.below != at.sum {
                    let text = format!("{}: its totals are not the sum of its entries", at.path);
                    self.found.contradictions.push(text);
                }
                return true;
            };
            *left -= 1;
            at.sum = at.sum.plus(store.weight(entry));
            last = Some(entry);
        }
        if let Some(last) = last {
            at.after = store.name(last).into();
        }
        false
    }
}

impl Walk for FsckWalk {
    type Answer = FsckStep;

    fn step(&mut self, namespace: &Namespace, who: &Who<'_>, left: &mut usize) -> FsResult<bool> {
        if self.top.is_none() {
            self.begin(namespace, who, left)?;
        }
        while *left > 0 {
            if self.sum.is_some() {
                if !self.add_up(namespace, left) {
                    return Ok(false);
                }
                self.sum = None;
            } else if self.names == 0 || !self.look_at_next(namespace, left) {
                return Ok(true);
            }
        }
        Ok(false)
    }
    fn answer(self) -> FsckStep {
        self.found
    }
}

impl Namespace {
    /// As [`FsckWalk`], without letting anybody in between.
    ///
    /// # Errors
    /// `PermissionDenied` unless the caller is a superuser; `NotFound`; `InvalidArgument` for a bad cursor.
    #[cfg(test)]
    pub(crate) fn fsck_step(
        &self,
        who: &CallerRecord,
        path: &FsPath,
        cursor: &[u8],
        most: usize,
    ) -> FsResult<FsckStep> {
        self.walk_whole(who, FsckWalk::new(path.clone(), cursor, most)?)
    }

    fn file_looked_at(&self, slot: u32, path: String) -> FileLookedAt {
        let committed = self.store.chain(slot).map(|block| self.store.block(block)).filter(|block| block.committed());
        FileLookedAt {
            path,
            len_bytes: self.store.extent(slot).len_bytes,
            replication: u32::from(self.store.inode(slot).replication),
            blocks: committed.map(|block| BlockId::from_raw(block.id)).collect(),
            open: self.store.inode(slot).has(flags::OPEN),
        }
    }
}
