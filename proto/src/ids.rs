//! Newtypes for every id, in Hadoop's ranges, so that a Hadoop client can carry them unchanged.
//!
//! Raw integers appear only inside codecs (`from_raw`, `raw`); there is no arithmetic but `next`.

use std::fmt;

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name($raw);

        impl $name {
            /// Wraps a number read from the wire or from disk.
            #[must_use]
            pub const fn from_raw(raw: $raw) -> Self {
                Self(raw)
            }
            /// The number, for codecs.
            #[must_use]
            pub const fn raw(self) -> $raw {
                self.0
            }
            /// The id after this one. Saturates at the end of the range, which no cluster reaches.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

numeric_id!(
    /// An inode. Sequential, never reused.
    InodeId, u64, "inode ");
numeric_id!(
    /// A block. Positive for replicated blocks; negative, low four bits zero, for erasure-coded groups.
    BlockId, i64, "blk_");
numeric_id!(
    /// Generation stamp of a block: raised by every repair, append and recovery; the only fence at datanodes.
    GenerationStamp, u64, "gs ");
numeric_id!(
    /// Raft term.
    Term, u64, "term ");
numeric_id!(
    /// Index of a log entry, from 1.
    LogIndex, u64, "index ");
numeric_id!(
    /// Number of a write lease of a file, kept by the namenodes.
    LeaseEpoch, u64, "lease ");
numeric_id!(
    /// A voting or learning namenode, never reused.
    MemberId, u64, "member ");

impl InodeId {
    /// The root directory; as in HDFS, the first inode of all.
    pub const ROOT: Self = Self(16_385);
}
impl BlockId {
    /// The id before the first block (HDFS: 1073741824 is the last reserved one).
    pub const FIRST: Self = Self(1_073_741_825);
    /// Bucket of this block in full reports.
    #[must_use]
    pub const fn bucket(self) -> u32 {
        (self.0.rem_euclid(crate::report::BUCKETS as i64)) as u32
    }
}
impl GenerationStamp {
    /// The first stamp (HDFS: 1000 is the last reserved one).
    pub const FIRST: Self = Self(1001);
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Prefix of every id of this kind.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id from the text after the prefix (a uuid, for most kinds).
            #[must_use]
            pub fn new(suffix: &str) -> Self {
                Self(format!("{}{suffix}", Self::PREFIX).into())
            }
            /// Reads an id from the wire, from disk or from a person.
            ///
            /// # Errors
            /// [`BadId`] if the prefix is missing, the text is empty, longer than 128 bytes, or not of
            /// letters, digits, `-`, `_` and `.`.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                check_text(stringify!($name), text, Self::PREFIX)?;
                Ok(Self(text.into()))
            }
            /// The whole text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_id!(
    /// A cluster: `CID-<uuid>`.
    ClusterId, "CID-");
string_id!(
    /// A block pool: `BP-…`.
    PoolId, "BP-");
string_id!(
    /// A storage, one disk of one node: `DS-<uuid>`.
    StorageId, "DS-");
string_id!(
    /// A datanode: a uuid without prefix, as in HDFS.
    NodeId, "");

/// An id that does not have the form of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is malformed: expected {expected}")]
pub struct BadId {
    /// Kind of the id.
    pub kind: &'static str,
    /// What was found, cut at 128 bytes.
    pub text: String,
    /// What the form is.
    pub expected: &'static str,
}

fn check_text(kind: &'static str, text: &str, prefix: &'static str) -> Result<(), BadId> {
    let well_formed = text.len() <= 128
        && text.len() > prefix.len()
        && text.starts_with(prefix)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if well_formed {
        return Ok(());
    }
    Err(BadId {
        kind,
        text: text.chars().take(128).collect(),
        expected: "its prefix, then letters, digits, '-', '_' or '.', at most 128 bytes",
    })
}

/// A client's session: 16 random bytes chosen by the client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Wraps random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
    /// Reads a session from the wire; `None` unless it is 16 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn string_ids_want_their_prefix() {
        assert!(StorageId::parse("DS-1").is_ok());
        for bad in ["", "DS-", "BP-1", "DS-a/b", "DS-\0"] {
            assert!(StorageId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(StorageId::parse(&format!("DS-{}", "x".repeat(126))).is_err());
    }

    #[test]
    fn ids_come_back_from_their_text_and_numbers() {
        for raw in [0, 1, u64::MAX] {
            assert_eq!(InodeId::from_raw(raw).raw(), raw);
            assert_eq!(LogIndex::from_raw(raw).next().raw(), raw.saturating_add(1));
        }
        for raw in [i64::MIN, -16, 0, i64::MAX] {
            assert_eq!(BlockId::from_raw(raw).raw(), raw);
            assert!((BlockId::from_raw(raw).bucket() as usize) < crate::report::BUCKETS);
        }
        assert_eq!(BlockId::FIRST.to_string(), "blk_1073741825");
        assert_eq!(StorageId::parse(StorageId::new("x-1").as_str()), Ok(StorageId::new("x-1")));
        assert_eq!(SessionId::new([0xab; 16]).to_string(), "ab".repeat(16));
        for len in [0, 15, 17, 1 << 20] {
            assert_eq!(SessionId::from_slice(&vec![1; len]), None, "{len}");
        }
        assert_eq!(SessionId::from_slice(&[7; 16]), Some(SessionId::new([7; 16])));
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_or_refused_shortly(text in any::<String>(), plain in "[A-Za-z0-9._-]{0,140}") {
            for text in [text.clone(), plain.clone(), format!("DS-{plain}"), format!("BP-{text}")] {
                let good = |prefix: &str| {
                    text.len() <= 128
                        && text.len() > prefix.len()
                        && text.starts_with(prefix)
                        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                };
                prop_assert_eq!(StorageId::parse(&text).is_ok(), good("DS-"));
                prop_assert_eq!(PoolId::parse(&text).is_ok(), good("BP-"));
                prop_assert_eq!(ClusterId::parse(&text).is_ok(), good("CID-"));
                match NodeId::parse(&text) {
                    Ok(id) => prop_assert!(good("") && id.as_str() == text),
                    Err(bad) => prop_assert!(!good("") && bad.text.chars().count() <= 128),
                }
            }
        }
    }

    #[test]
    fn buckets_of_negative_blocks_are_in_range() {
        assert!(BlockId::from_raw(-16).bucket() < 1024);
        assert_eq!(BlockId::from_raw(1024).bucket(), 0);
    }
}
