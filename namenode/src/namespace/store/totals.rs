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
}

impl Totals {
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
        }
    }
}
