//! `concat`: the blocks of closed files move behind those of another one, in one step and without copying.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::Concat;
use proto::path::FsPath;

use crate::namespace::access::{EXECUTE, READ, WRITE, Who};
use crate::namespace::resolve::Last;
use crate::namespace::store::NONE;
use crate::namespace::store::records::{flags, rare};
use crate::namespace::{BlockEffect, Call, Namespace, Outcome, registry};

/// Most sources of one call: they are joined in one step, while nobody can look.
pub(in crate::namespace) const MAX_SOURCES: usize = 250;
/// Most blocks that one call moves: as many as a file may have unless the settings say otherwise, so that a file of which
/// the sum is allowed can be joined. It is one step, for a block of one file cannot be moved and the next one not.
pub(in crate::namespace) const MAX_MOVED_BLOCKS: u64 = 10_000;
/// The same of entries before version 5.
const MAX_MOVED_BLOCKS_ONCE: u64 = 5000;
/// Most sources of entries before version 3, which moved any number of blocks.
const MAX_SOURCES_ONCE: usize = 10_000;
/// What it costs to join one file, in looks at entries; its blocks cost one each.
const JOIN_WORK: usize = 8;

impl Namespace {
    /// As HDFS demands: all in one directory, closed, not empty, with no other names, and blocks no larger than the
    /// target's.
    pub(in crate::namespace) fn concat(
        &mut self,
        call: &Call<'_>,
        concat: &Concat,
        effects: &mut Vec<BlockEffect>,
    ) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&concat.target)?;
        let once = call.version < 3;
        let most = if once { MAX_SOURCES_ONCE } else { MAX_SOURCES };
        if concat.sources.is_empty() || concat.sources.len() > most {
            return Err(registry::invalid(format!("concat takes 1 to {most} sources"))
                .with_path(path.as_str())
                .with_hint("join them in several calls"));
        }
        self.work += JOIN_WORK * concat.sources.len();
        let (target, entry) = self.find_entry(&who, &path, Last::Keep)?;
        let directory = self.store.inode(entry).parent;
        self.work += self.store.links_of(target).len();
        self.check_part(target, &path)?;
        who.need(&self.store, target, WRITE)?;
        let mut sources = Vec::with_capacity(concat.sources.len());
        for source in &concat.sources {
            sources.push(self.check_source_of_concat(&who, target, (directory, &path), source, &sources)?);
        }
        if directory != NONE {
            who.need(&self.store, directory, WRITE | EXECUTE)?;
        }
        let blocks: u64 = sources.iter().map(|source| self.store.extent(*source).count).sum();
        let most = if call.version < 5 { MAX_MOVED_BLOCKS_ONCE } else { MAX_MOVED_BLOCKS };
        if blocks > most && !once {
            let text = format!("the sources have {blocks} blocks, one call moves {most}");
            let hint = if sources.len() > 1 { "join them in several calls" } else { "copy it behind the other one" };
            return Err(registry::invalid(text).with_path(path.as_str()).with_hint(hint));
        }
        self.work += blocks as usize;
        let most = self.settings.max_blocks_per_file;
        if self.store.extent(target).count + blocks > most {
            return Err(registry::invalid(format!(
                "the file would have more than {most} blocks, the most that it may"
            )));
        }
        self.check_quota_of_concat(target, &sources)?;

        for source in sources {
            self.append_file(call, (source, target), directory, effects);
        }
        Ok(Outcome::Status(self.status(target, path.as_str())))
    }

    /// The blocks of a file become the last ones of another one, which was looked at: the file is gone.
    pub(super) fn append_file(
        &mut self,
        call: &Call<'_>,
        (source, target): (u32, u32),
        directory: u32,
        effects: &mut Vec<BlockEffect>,
    ) {
        let replication = self.store.inode(target).replication;
        self.set_replication(source, replication, effects);
        self.store.unlink(source);
        self.store.move_blocks(source, target);
        self.discard_tree(source, effects);
        self.store.edit(target, |inode| {
            inode.mtime_ns = call.now_ns;
            inode.ctime_ns = call.now_ns;
        });
        self.touch(directory, call.now_ns);
    }

    fn check_part(&self, slot: u32, path: &FsPath) -> FsResult<()> {
        let inode = self.store.inode(slot);
        let refuse = |code, what: &str| Err(FsError::new(code, what).with_path(path.as_str()));
        if inode.is_dir() {
            return refuse(ErrorCode::IsADirectory, "is a directory");
        }
        if !inode.is_file() {
            return refuse(ErrorCode::InvalidArgument, "only files can be joined");
        }
        if inode.has(flags::OPEN) {
            return refuse(ErrorCode::FileOpen, "the file is being written");
        }
        if self.store.extent(slot).count == 0 {
            return refuse(ErrorCode::InvalidArgument, "the file is empty");
        }
        Ok(())
    }
    pub(super) fn check_source_of_concat(
        &self,
        who: &Who<'_>,
        target: u32,
        (directory, beside): (u32, &FsPath),
        source: &str,
        before: &[u32],
    ) -> FsResult<u32> {
        let path = FsPath::parse(source)?;
        // By name in the directory that was found for the target: one walk serves all.
        let name = path.name().filter(|_| path.parent() == beside.parent());
        let name = name.ok_or_else(|| {
            registry::invalid("all files must be in one directory".to_owned()).with_path(path.as_str())
        })?;
        let entry = self.store.child(directory, name).ok_or_else(|| FsError::not_found(path.as_str()))?;
        let slot = self.store.inode_of(entry);
        self.check_part(slot, &path)?;
        who.need(&self.store, slot, READ)?;
        let inode = self.store.inode(slot);
        let refuse = |what: &str| Err(registry::invalid(what.to_owned()).with_path(path.as_str()));
        if slot == target || before.contains(&slot) {
            return refuse("a file is joined with itself, or twice");
        }
        if inode.has_rare(rare::LINKS) {
            return refuse("the file has other names");
        }
        if inode.has_rare(rare::GHOSTS | rare::VERSIONS) || self.seen_by_snapshots(entry) {
            return refuse("a snapshot holds the file");
        }
        if inode.block_size_units > self.store.inode(target).block_size_units {
            return refuse("its blocks may be larger than those of the target");
        }
        who.need_unstuck(&self.store, directory, entry)?;
        Ok(slot)
    }
    fn check_quota_of_concat(&self, target: u32, sources: &[u32]) -> FsResult<()> {
        let copies = u64::from(self.store.inode(target).replication);
        let space = |slot: &u32| self.store.extent(*slot).len_bytes.saturating_mul(copies);
        self.check_space_of_names(target, sources.iter().map(space).sum(), 0, sources)
    }
}
