//! The two records of which an image has millions, decoded by hand: what prost would take, without a copy of the
//! strings. Unknown fields are skipped, of a field that comes twice the last one counts.
#![deny(clippy::indexing_slicing)]

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::records::InodeRecord;

/// Why a record cannot be decoded.
type Fault = String;

/// A value as it stands in a record.
enum Value<'a> {
    Number(u64),
    Fixed(i64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(self) -> Result<u64, Fault> {
        if let Self::Number(number) = self { Ok(number) } else { Err(wrong()) }
    }
    /// Longer numbers are cut, as prost does.
    fn small(self) -> Result<u32, Fault> {
        Ok(self.number()? as u32)
    }
    fn fixed(self) -> Result<i64, Fault> {
        if let Self::Fixed(number) = self { Ok(number) } else { Err(wrong()) }
    }
    fn bytes(self) -> Result<&'a [u8], Fault> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(wrong()) }
    }
    fn text(self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|error| error.to_string())
    }
}

fn wrong() -> Fault {
    "a field of another type".into()
}

/// Cuts a delimited part off.
pub(super) fn delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let len = decode_varint(rest).map_err(|error| error.to_string())?;
    let fits = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len));
    let (part, after) = fits.ok_or("it ends early")?;
    *rest = after;
    Ok(part)
}

/// Calls `take` for each field with a number below `known`.
fn each_field<'a>(
    mut rest: &'a [u8],
    known: u32,
    mut take: impl FnMut(u32, Value<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    while !rest.is_empty() {
        let (tag, kind) = decode_key(&mut rest).map_err(|error| error.to_string())?;
        if tag >= known {
            skip_field(kind, tag, &mut rest, DecodeContext::default()).map_err(|error| error.to_string())?;
            continue;
        }
        let value = match kind {
            WireType::Varint => Value::Number(decode_varint(&mut rest).map_err(|error| error.to_string())?),
            WireType::SixtyFourBit => Value::Fixed(rest.try_get_i64_le().map_err(|error| error.to_string())?),
            WireType::LengthDelimited => Value::Bytes(delimited(&mut rest)?),
            _ => return Err(wrong()),
        };
        take(tag, value)?;
    }
    Ok(())
}

/// An [`InodeRecord`] that borrows its strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InodeFields<'a> {
    pub(super) id: u64,
    pub(super) parent: u64,
    pub(super) name: &'a str,
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) group: u32,
    pub(super) mtime_ns: i64,
    pub(super) ctime_ns: i64,
    pub(super) atime_ns: i64,
    pub(super) replication: u32,
    pub(super) block_size_units: u32,
    pub(super) target: u64,
    pub(super) symlink: &'a str,
}

impl<'a> InodeFields<'a> {
    pub(super) fn decode(record: &'a [u8]) -> Result<Self, Fault> {
        let mut inode = Self::default();
        each_field(record, 16, |tag, value| {
            match tag {
                1 => inode.id = value.number()?,
                2 => inode.parent = value.number()?,
                3 => inode.name = value.text()?,
                4 => inode.kind = value.small()?,
                5 => inode.flags = value.small()?,
                6 => inode.mode = value.small()?,
                7 => inode.owner = value.small()?,
                8 => inode.group = value.small()?,
                9 => inode.mtime_ns = value.fixed()?,
                10 => inode.ctime_ns = value.fixed()?,
                11 => inode.atime_ns = value.fixed()?,
                12 => inode.replication = value.small()?,
                13 => inode.block_size_units = value.small()?,
                14 => inode.target = value.number()?,
                _ => inode.symlink = value.text()?,
            }
            Ok(())
        })?;
        Ok(inode)
    }
    pub(super) fn of(record: &'a InodeRecord) -> Self {
        Self {
            id: record.id,
            parent: record.parent,
            name: &record.name,
            kind: record.kind,
            flags: record.flags,
            mode: record.mode,
            owner: record.owner,
            group: record.group,
            mtime_ns: record.mtime_ns,
            ctime_ns: record.ctime_ns,
            atime_ns: record.atime_ns,
            replication: record.replication,
            block_size_units: record.block_size_units,
            target: record.target,
            symlink: &record.symlink,
        }
    }
}

/// A record of a block that borrows its digest; the storages are put into a vector that is used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlockFields<'a> {
    pub(super) inode: u64,
    pub(super) id: i64,
    pub(super) stamp: u64,
    pub(super) len_bytes: u64,
    pub(super) flags: u32,
    pub(super) digest: &'a [u8],
}

impl<'a> BlockFields<'a> {
    pub(super) fn decode(record: &'a [u8], storages: &mut Vec<u32>) -> Result<Self, Fault> {
        let mut block = Self::default();
        storages.clear();
        each_field(record, 8, |tag, value| {
            match (tag, value) {
                (1, value) => block.inode = value.number()?,
                (2, value) => {
                    let number = value.number()?;
                    block.id = (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
                }
                (3, value) => block.stamp = value.number()?,
                (4, value) => block.len_bytes = value.number()?,
                (5, value) => block.flags = value.small()?,
                (6, Value::Number(number)) => storages.push(number as u32),
                (6, value) => {
                    let mut packed = value.bytes()?;
                    while !packed.is_empty() {
                        storages.push(decode_varint(&mut packed).map_err(|error| error.to_string())? as u32);
                    }
                }
                (_, value) => block.digest = value.bytes()?,
            }
            Ok(())
        })?;
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::namespace::image::encode::Fields;
    use crate::namespace::image::records::BlockRecord;

    fn inode() -> impl Strategy<Value = InodeRecord> {
        let ids = (any::<u64>(), any::<u64>(), any::<u64>());
        let small = prop::array::uniform7(prop_oneof![Just(0), any::<u32>()]);
        let times = prop::array::uniform3(prop_oneof![Just(0), any::<i64>()]);
        (ids, ".{0,300}", ".{0,20}", small, times).prop_map(|((id, parent, target), name, symlink, small, times)| {
            let [kind, flags, mode, owner, group, replication, block_size_units] = small;
            let [mtime_ns, ctime_ns, atime_ns] = times;
            InodeRecord {
                id,
                parent,
                name,
                kind,
                flags,
                mode,
                owner,
                group,
                mtime_ns,
                ctime_ns,
                atime_ns,
                replication,
                block_size_units,
                target,
                symlink,
            }
        })
    }

    proptest! {
        #[test]
        fn inodes_are_as_prost_has_them(record in inode()) {
            let bytes = record.encode_to_vec();
            let fields = InodeFields::decode(&bytes).map_err(TestCaseError::fail)?;
            prop_assert_eq!(fields, InodeFields::of(&record));
            let mut ours = Vec::new();
            crate::namespace::image::write::encode_inode(&fields, &mut Fields::new(&mut ours));
            prop_assert_eq!(ours, bytes);
        }

        #[test]
        fn blocks_are_as_prost_has_them(
            (inode, id, stamp, len_bytes, flags) in any::<(u64, i64, u64, u64, u32)>(),
            storages in prop::collection::vec(any::<u32>(), 0..9),
            digest in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let record = BlockRecord {
                inode, id, stamp, len_bytes, flags, storages: storages.clone(), digest: digest.clone().into(),
            };
            let bytes = record.encode_to_vec();
            let mut found = vec![7];
            let fields = BlockFields::decode(&bytes, &mut found).map_err(TestCaseError::fail)?;
            prop_assert_eq!(fields, BlockFields { inode, id, stamp, len_bytes, flags, digest: &digest });
            prop_assert_eq!(&found, &storages);
            let mut ours = Vec::new();
            crate::namespace::image::write::encode_block(&fields, storages.iter().copied(), &mut Fields::new(&mut ours));
            prop_assert_eq!(ours, bytes);
        }

        #[test]
        fn garbage_is_taken_as_prost_takes_it(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let ours = InodeFields::decode(&bytes).ok();
            let prosts = InodeRecord::decode(bytes.as_slice()).ok();
            prop_assert_eq!(ours, prosts.as_ref().map(InodeFields::of));
            let mut storages = Vec::new();
            let ours = BlockFields::decode(&bytes, &mut storages).ok().map(|fields| (fields.id, fields.digest.to_vec()));
            let prosts = BlockRecord::decode(bytes.as_slice()).ok().map(|record| (record.id, record.digest.to_vec()));
            prop_assert_eq!(ours, prosts);
        }
    }
}
