//! Images: the whole replicated state as checksummed sections, written from a frozen view while operations go on.
//!
//! ```text
//!   "BYNSIMG1" version │ frame │ frame │ … │ end frame        frame = kind, length, records, CRC32C, records
//!   meta · strings · storages · keys · inodes · blocks · open files · sessions · answers · queue ·
//!   attributes · snapshots · history · sweeps · end
//! ```
//!
//! Everything is in the order of ids, so that members at the same index write the same bytes. Slots, indexes and
//! totals are not in it. Layout and what a reader does with damage: `docs/formats/image.md`.

mod decode;
mod encode;
mod frame;
mod history;
mod read;
mod records;
mod write;

pub(super) use read::read;
pub use write::FrozenNamespace;

/// First bytes of an image body.
const MAGIC: [u8; 8] = *b"BYNSIMG1";
/// Version of the layout. Older ones lack what came later, and are read as well; pipes, sockets and devices came last.
const VERSION: u32 = 8;
/// Since then blocks that have a length may be open, or cut off, and leases may have stamps.
const SINCE_RECOVERY: u32 = 4;
/// Since then it is noted what writers were offered, which open blocks got no pipeline, and which loss was accepted.
const SINCE_OFFERS: u32 = 7;
/// Every version that is read. Of two of them more than one bit differs: none is another one that was damaged.
const KNOWN_VERSIONS: [u32; 5] = [1, 2, SINCE_RECOVERY, SINCE_OFFERS, VERSION];

/// Kinds of sections, in the order in which they come. The numbers are durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Section {
    Meta = 1,
    Strings = 2,
    Storages = 3,
    Keys = 4,
    Inodes = 5,
    Blocks = 6,
    Open = 7,
    Sessions = 8,
    Answers = 9,
    Queue = 10,
    Attributes = 11,
    Snapshots = 12,
    History = 13,
    Sweeps = 14,
    End = 15,
}

impl Section {
    const ALL: [Self; 15] = [
        Self::Meta,
        Self::Strings,
        Self::Storages,
        Self::Keys,
        Self::Inodes,
        Self::Blocks,
        Self::Open,
        Self::Sessions,
        Self::Answers,
        Self::Queue,
        Self::Attributes,
        Self::Snapshots,
        Self::History,
        Self::Sweeps,
        Self::End,
    ];
    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|section| *section as u32 == number)
    }
}
