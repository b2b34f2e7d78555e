//! Receipts: a datanode's proof that a storage holds a replica, finalised and durable.
//!
//! Made when the last packet of a block is acknowledged, carried by the client to `complete` or to the next
//! `add_block`, checked by the leader. So closing a file waits for no report.

use proto::ids::{BlockId, GenerationStamp, NodeId, PoolId, StorageId};

use crate::key::{self, MasterKey, NodeKey, NodeKeys};

/// What a receipt attests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finalised<'a> {
    /// Pool of the block.
    pub pool: &'a PoolId,
    /// The block.
    pub block: BlockId,
    /// Stamp of the replica.
    pub stamp: GenerationStamp,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// The storage that holds it.
    pub storage: &'a StorageId,
}

/// Bytes of a receipt: key number (4, little endian) and MAC (32).
pub const RECEIPT_BYTES: usize = 36;

/// Makes a receipt with the node's newest key; `None` before the node has registered.
#[must_use]
pub fn make(keys: &NodeKeys, what: &Finalised<'_>) -> Option<Vec<u8>> {
    let (number, node_key) = keys.newest()?;
    let mut receipt = number.to_le_bytes().to_vec();
    receipt.extend_from_slice(&tag(node_key, what));
    Some(receipt)
}

/// Number of the master key that a receipt was made under.
#[must_use]
pub fn key_number(receipt: &[u8]) -> Option<u32> {
    receipt.first_chunk::<4>().filter(|_| receipt.len() == RECEIPT_BYTES).map(|b| u32::from_le_bytes(*b))
}

/// Does the receipt prove that `node` holds this? `master` is the key of [`key_number`].
#[must_use]
pub fn verify(master: &MasterKey, node: &NodeId, what: &Finalised<'_>, receipt: &[u8]) -> bool {
    let Some((_, mac)) = receipt.split_first_chunk::<4>() else { return false };
    with_parts(what, |parts| key::verify(master.node_key(node).as_bytes(), parts, mac))
}

fn tag(node_key: &NodeKey, what: &Finalised<'_>) -> [u8; 32] {
    with_parts(what, |parts| key::mac(node_key.as_bytes(), parts))
}

fn with_parts<T>(what: &Finalised<'_>, run: impl FnOnce(&[&[u8]]) -> T) -> T {
    let stamp = if base::mutated!(Sc65ReceiptOfAnyStamp) { 0 } else { what.stamp.raw() };
    run(&[
        b"blockyard receipt v1",
        what.pool.as_str().as_bytes(),
        &what.block.raw().to_le_bytes(),
        &stamp.to_le_bytes(),
        &what.len_bytes.to_le_bytes(),
        what.storage.as_str().as_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KEY_BYTES;
    use proptest::prelude::*;

    #[test]
    fn a_receipt_has_the_bytes_of_the_format_page() {
        let (pool, storage, node) = (PoolId::new("1"), StorageId::new("a"), NodeId::new("n1"));
        let keys = NodeKeys::new(vec![(1, MasterKey::new([3; KEY_BYTES]).node_key(&node))]);
        let (block, stamp) = (BlockId::FIRST, GenerationStamp::FIRST);
        let what = Finalised { pool: &pool, block, stamp, len_bytes: 10, storage: &storage };
        let hex: String = make(&keys, &what).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        // Made by another program than this one.
        assert_eq!(hex, "01000000cf03d33c1f3df4bd17cbf3d0a6d70587319b2f45a47ecd2460d0e32c43092ecf");
    }

    proptest! {
        #[test]
        fn garbage_and_damaged_receipts_prove_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..80), bit in 0_usize..288) {
            let (pool, storage, node) = (PoolId::new("1"), StorageId::new("a"), NodeId::new("n1"));
            let master = MasterKey::new([3; KEY_BYTES]);
            let (block, stamp) = (BlockId::FIRST, GenerationStamp::FIRST);
            let what = Finalised { pool: &pool, block, stamp, len_bytes: 10, storage: &storage };
            prop_assert!(!verify(&master, &node, &what, &bytes));
            prop_assert_eq!(key_number(&bytes).is_some(), bytes.len() == RECEIPT_BYTES);
            let mut receipt = make(&NodeKeys::new(vec![(1, master.node_key(&node))]), &what).unwrap();
            receipt[bit / 8] ^= 1 << (bit % 8);
            // The number in front only selects the key: another one is another key, which the leader does not have.
            let refused = !verify(&master, &node, &what, &receipt) || key_number(&receipt) != Some(1);
            prop_assert!(refused);
        }
    }

    #[test]
    fn sc_65_a_receipt_counts_for_its_stamp_length_and_storage_only() {
        let (pool, storage, other) = (PoolId::new("1"), StorageId::new("a"), StorageId::new("b"));
        let (master, node) = (MasterKey::new([3; KEY_BYTES]), NodeId::new("n1"));
        let keys = NodeKeys::new(vec![(1, master.node_key(&node))]);
        let what = Finalised {
            pool: &pool,
            block: BlockId::FIRST,
            stamp: GenerationStamp::FIRST,
            len_bytes: 10,
            storage: &storage,
        };
        let receipt = make(&keys, &what).unwrap();
        assert_eq!((receipt.len(), key_number(&receipt)), (RECEIPT_BYTES, Some(1)));
        assert!(verify(&master, &node, &what, &receipt));
        assert!(!verify(&master, &NodeId::new("n2"), &what, &receipt));
        assert!(!verify(&master, &node, &Finalised { stamp: what.stamp.next(), ..what.clone() }, &receipt));
        assert!(!verify(&master, &node, &Finalised { len_bytes: 11, ..what.clone() }, &receipt));
        assert!(!verify(&master, &node, &Finalised { storage: &other, ..what.clone() }, &receipt));
        assert!(!verify(&master, &node, &what, &receipt[..35]));
        assert!(!verify(&master, &node, &what, &[]));
        assert_eq!(key_number(&[1, 2]), None);
    }
}
