//! Names of everything below a volume.
//!
//! ```text
//!   <volume>/identity                         who this volume is (two slots)
//!   <volume>/term                             highest Raft term obeyed (two slots)
//!   <volume>/scrub                            how far the scrubber has come (two slots)
//!   <volume>/lock                             held by the running node
//!   <volume>/check                            what a volume that hung is tried with
//!   <volume>/unsynced                         a sync failed: what is open may be in the page cache alone
//!   <volume>/reserve                          room for deletes on a full disk
//!   <volume>/meta.new                         a meta file that is being made anew, with the leaves of a digest
//!   <volume>/current/<pool>/d3f/blk_<id>      data, raw
//!   <volume>/current/<pool>/d3f/blk_<id>_<stamp>.meta
//!   <volume>/current/<pool>/d3f/blk_<id>.open  what an open replica holds at least (see `side`)
//!   <volume>/trash/blk_<id>_<stamp>.data|.meta   deleted a short while ago
//! ```
//!
//! 256 folders of one level: at a million replicas each holds some eight thousand names, which directory
//! indexes take well, and a scan opens 256 folders rather than tens of thousands (SC-63). Blocks that are
//! allocated one after another share a folder, so that their closes share its sync.

use std::path::{Path, PathBuf};

use proto::ids::{BlockId, GenerationStamp, PoolId};

pub(crate) const IDENTITY: &str = "identity";
pub(crate) const TERM: &str = "term";
pub(crate) const SCRUB: &str = "scrub";
pub(crate) const LOCK: &str = "lock";
pub(crate) const CHECK: &str = "check";
pub(crate) const UNSYNCED: &str = "unsynced";
pub(crate) const RESERVE: &str = "reserve";
pub(crate) const META_NEW: &str = "meta.new";
pub(crate) const CURRENT: &str = "current";
pub(crate) const TRASH: &str = "trash";

/// Number of folders below a pool's.
pub(crate) const FOLDERS: u16 = 256;
/// This many blocks in a row share a folder.
const RUN: i64 = 256;

/// What a name below a pool's folders means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Data(BlockId),
    Meta(BlockId, GenerationStamp),
    Other,
}

pub(crate) fn pool_dir(volume: &Path, pool: &PoolId) -> PathBuf {
    volume.join(CURRENT).join(pool.as_str())
}

/// Folder number of a block.
pub(crate) fn folder_of(id: BlockId) -> u16 {
    let run = if base::mutated!(Sc63FolderForEachBlock) { 1 } else { RUN };
    id.raw().div_euclid(run).rem_euclid(i64::from(FOLDERS)) as u16
}

pub(crate) fn folder_name(folder: u16) -> String {
    format!("d{folder:02x}")
}

/// Number of a folder from its name; `None` for names of something else.
pub(crate) fn parse_folder(name: &str) -> Option<u16> {
    let folder = u16::from_str_radix(name.strip_prefix('d')?, 16).ok()?;
    (folder < FOLDERS && folder_name(folder) == name).then_some(folder)
}

pub(crate) fn data_name(id: BlockId) -> String {
    id.to_string()
}

pub(crate) fn meta_name(id: BlockId, stamp: GenerationStamp) -> String {
    format!("{id}_{}.meta", stamp.raw())
}

/// Name of the side record of an open replica. A scan passes it over.
pub(crate) fn side_name(id: BlockId) -> String {
    format!("{id}.open")
}

pub(crate) fn trash_name(id: BlockId, stamp: GenerationStamp) -> String {
    format!("{id}_{}.data", stamp.raw())
}

pub(crate) fn parse(name: &str) -> Name {
    parse_known(name).unwrap_or(Name::Other)
}

fn parse_known(name: &str) -> Option<Name> {
    let rest = name.strip_prefix("blk_")?;
    let parsed = match rest.strip_suffix(".meta") {
        None => Name::Data(BlockId::from_raw(rest.parse().ok()?)),
        Some(rest) => {
            let (id, stamp) = rest.rsplit_once('_')?;
            Name::Meta(BlockId::from_raw(id.parse().ok()?), GenerationStamp::from_raw(stamp.parse().ok()?))
        }
    };
    // Only names that this program would write: "blk_007" is somebody else's.
    let ours = match &parsed {
        Name::Data(id) => data_name(*id),
        Name::Meta(id, stamp) => meta_name(*id, *stamp),
        Name::Other => return None,
    };
    (ours == name).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for raw in [1, -16, 1_073_741_825, i64::MAX, i64::MIN] {
            let (id, stamp) = (BlockId::from_raw(raw), GenerationStamp::FIRST);
            assert_eq!(parse(&data_name(id)), Name::Data(id));
            assert_eq!(parse(&meta_name(id, stamp)), Name::Meta(id, stamp));
            assert_eq!(parse_folder(&folder_name(folder_of(id))), Some(folder_of(id)));
        }
    }

    #[test]
    fn strangers_are_left_alone() {
        for name in
            ["", "blk_", "blk_007", "blk_x", "blk_1_x.meta", "blk_1.meta", "lost+found", "blk_1_01.meta", "blk_1.open"]
        {
            assert_eq!(parse(name), Name::Other, "{name}");
        }
        for name in ["d", "d100", "dff0", "d0f", "x00", "d+1"] {
            assert_eq!(parse_folder(name).is_some(), name == "d0f", "{name}");
        }
    }

    #[test]
    fn sc_63_a_million_blocks_in_a_row_spread_over_256_folders() {
        let mut counts = [0_u32; FOLDERS as usize];
        for i in 0..1_048_576 {
            counts[usize::from(folder_of(BlockId::from_raw(BlockId::FIRST.raw() + i)))] += 1;
        }
        assert!(counts.iter().all(|n| (3500..4700).contains(n)), "{counts:?}");
        assert_eq!(folder_of(BlockId::from_raw(512)), folder_of(BlockId::from_raw(513)));
    }
}
