//! What a tree holds, in numbers. Kept step by step in every directory, recounted from scratch by the tests.

/// Entries and bytes of a tree. A file with two names in the tree counts twice: so that what a directory holds is the
/// sum of its entries, whatever other names they have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) files: u64,
    pub(crate) directories: u64,
    pub(crate) symlinks: u64,
    /// Bytes in committed blocks.
    pub(crate) len_bytes: u64,
    /// Bytes times copies; a block that is being written counts in full.
    pub(crate) space_bytes: u64,
    /// Directories that may have snapshots, in the lower half, and snapshots, in the upper one: so that whoever moves or
    /// removes a tree does not look at all that there are anywhere.
    pub(crate) marks: u64,
}

/// One snapshot among the marks.
const SNAPSHOT: u64 = 1 << 32;

impl Totals {
    /// Of one directory that may have snapshots, and has so many.
    pub(crate) const fn marks(snapshots: usize) -> Self {
        let none = Self { files: 0, directories: 0, symlinks: 0, len_bytes: 0, space_bytes: 0, marks: 0 };
        Self { marks: 1 + SNAPSHOT * snapshots as u64, ..none }
    }
    /// Of one snapshot.
    pub(crate) const fn snapshot() -> Self {
        Self::marks(1).minus(Self::marks(0))
    }
    /// Is there a directory that may have snapshots?
    pub(crate) const fn has_roots(&self) -> bool {
        !self.marks.is_multiple_of(SNAPSHOT)
    }
    /// Is there a snapshot?
    pub(crate) const fn has_snapshots(&self) -> bool {
        self.marks >= SNAPSHOT
    }
    /// What a name quota counts.
    pub(crate) const fn names(&self) -> u64 {
        self.files.wrapping_add(self.directories).wrapping_add(self.symlinks)
    }
    /// Adds; wrapping, so that the difference of two totals is a total, too.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            files: self.files.wrapping_add(other.files),
            directories: self.directories.wrapping_add(other.directories),
            symlinks: self.symlinks.wrapping_add(other.symlinks),
            len_bytes: self.len_bytes.wrapping_add(other.len_bytes),
            space_bytes: self.space_bytes.wrapping_add(other.space_bytes),
            marks: self.marks.wrapping_add(other.marks),
        }
    }
    /// So many times; wrapping, see [`Totals::plus`].
    pub(crate) const fn times(self, count: u64) -> Self {
        Self {
            files: self.files.wrapping_mul(count),
            directories: self.directories.wrapping_mul(count),
            symlinks: self.symlinks.wrapping_mul(count),
            len_bytes: self.len_bytes.wrapping_mul(count),
            space_bytes: self.space_bytes.wrapping_mul(count),
            marks: self.marks.wrapping_mul(count),
        }
    }
    /// Subtracts; wrapping, see [`Totals::plus`].
    pub(crate) const fn minus(self, other: Self) -> Self {
        Self {
            files: self.files.wrapping_sub(other.files),
            directories: self.directories.wrapping_sub(other.directories),
            symlinks: self.symlinks.wrapping_sub(other.symlinks),
            len_bytes: self.len_bytes.wrapping_sub(other.len_bytes),
            space_bytes: self.space_bytes.wrapping_sub(other.space_bytes),
            marks: self.marks.wrapping_sub(other.marks),
        }
    }
}
