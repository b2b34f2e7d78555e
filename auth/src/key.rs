//! Keys of tokens and receipts: one master key in the replicated log, one derived key per datanode.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use proto::ids::NodeId;
use sha2::Sha256;

/// Bytes of every key here.
pub const KEY_BYTES: usize = 32;

/// MAC of everything that this crate signs.
pub(crate) type HmacSha256 = Hmac<Sha256>;

/// A key from which every node's key is derived. Known to namenodes only.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; KEY_BYTES]);

impl MasterKey {
    /// Wraps random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }
    /// Reads a key from the log; `None` if it has another length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
    /// The bytes, for the log.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
    /// The key of one node. Knowing it tells nothing about another node's.
    #[must_use]
    pub fn node_key(&self, node: &NodeId) -> NodeKey {
        NodeKey(mac(&self.0, &[b"blockyard node key", node.as_str().as_bytes()]))
    }
}

/// The key of one datanode.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeKey([u8; KEY_BYTES]);

impl NodeKey {
    /// Reads a key from the registration answer; `None` if it has another length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
    /// The bytes, for the registration answer.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

// Keys never reach logs, errors or crash files.
impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}
impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(…)")
    }
}

/// The keys that a datanode accepts: the newest, and the one before it while tokens made with it live on.
#[derive(Clone, Debug, Default)]
pub struct NodeKeys {
    keys: Vec<(u32, NodeKey)>,
}

impl NodeKeys {
    /// Takes the keys of a registration answer, newest first.
    #[must_use]
    pub fn new(newest_first: Vec<(u32, NodeKey)>) -> Self {
        Self { keys: newest_first }
    }
    /// The key with this number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&NodeKey> {
        self.keys.iter().find(|(n, _)| *n == number).map(|(_, key)| key)
    }
    /// The newest key and its number.
    #[must_use]
    pub fn newest(&self) -> Option<(u32, &NodeKey)> {
        self.keys.first().map(|(n, key)| (*n, key))
    }
}

/// HMAC-SHA-256 over parts, each preceded by its length, so that parts cannot run into each other.
pub(crate) fn mac(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; 32] {
    feed(key, parts).finalize().into_bytes().into()
}

/// Does `tag` verify? In constant time.
pub(crate) fn verify(key: &[u8; KEY_BYTES], parts: &[&[u8]], tag: &[u8]) -> bool {
    feed(key, parts).verify_slice(tag).is_ok()
}

fn feed(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> HmacSha256 {
    // A fixed-length array key cannot have a wrong length: `new` takes the block-sized form of it.
    let mut block = [0_u8; 64];
    block[..KEY_BYTES].copy_from_slice(key);
    let mut hmac = HmacSha256::new(&block.into());
    for part in parts {
        hmac.update(&(part.len() as u64).to_le_bytes());
        hmac.update(part);
    }
    hmac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let key = [7; KEY_BYTES];
        assert_ne!(mac(&key, &[b"ab", b"c"]), mac(&key, &[b"a", b"bc"]));
        assert!(verify(&key, &[b"ab", b"c"], &mac(&key, &[b"ab", b"c"])));
        assert!(!verify(&key, &[b"ab", b"c"], &[0; 32]));
        assert!(!verify(&key, &[b"ab", b"c"], &[]));
    }

    #[test]
    fn nodes_have_different_keys_and_debug_hides_them() {
        let master = MasterKey::new([9; KEY_BYTES]);
        let (a, b) = (master.node_key(&NodeId::new("a")), master.node_key(&NodeId::new("b")));
        assert!(a != b);
        assert_eq!(format!("{master:?}{a:?}"), "MasterKey(…)NodeKey(…)");
    }
}
