//! The operations, one file each. Each one decides first and then makes changes that cannot fail (scar SC-03):
//! below the line where an operation takes `&mut self.store` there is no `?`.

pub(super) mod acl;
mod append;
mod attributes;
mod blocks;
mod close;
mod concat;
mod create;
mod delete;
mod leases;
mod links;
mod make;
mod mkdir;
mod nodes;
mod pipeline;
mod quota;
mod recovery;
mod rename;
pub(super) mod snapshots;
mod truncate;
pub(super) mod xattrs;

#[cfg(test)]
pub(super) use concat::{MAX_MOVED_BLOCKS, MAX_SOURCES};
#[cfg(test)]
pub(super) use delete::CHECKED_AT_ONCE;
#[cfg(test)]
pub(super) use links::MAX_NAMES;
pub(super) use nodes::no_content;
#[cfg(test)]
pub(super) use truncate::MAX_CUT_BLOCKS;

/// Added to the mode of directories that are made on the way, so that their maker can go on below them.
const OWNER_WRITE_EXECUTE: u16 = 0o300;
