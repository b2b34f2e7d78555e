//! Block tokens: what a client shows a datanode to read, write or copy one block.
//!
//! ```text
//!   transfer::Token { identifier = Claims (prost), password = Seals (prost), kind, service }
//!   Seals: key number, and per target node  (node id, HMAC(node key, claims))
//! ```
//!
//! The token travels unchanged in the header of Hadoop's data transfer operations.

#![deny(clippy::indexing_slicing)]

use bytes::Bytes;
use prost::Message;
use proto::ids::{BlockId, GenerationStamp, NodeId, PoolId};
use proto::transfer::Token;

use crate::key::{self, MasterKey, NodeKeys};

/// Kind of our tokens (Hadoop's word for block tokens).
pub const KIND: &str = "HDFS_BLOCK_TOKEN";
/// Longest encoded token that is looked at.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Read the block.
    Read,
    /// Write it: create, stream, finalise.
    Write,
    /// Copy it from node to node (re-replication).
    Copy,
}

impl Mode {
    const fn bit(self) -> u32 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Copy => 4,
        }
    }
}

/// A token's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Pool of the block.
    pub pool: PoolId,
    /// The block.
    pub block: BlockId,
    /// Lowest replica stamp that the bearer may touch.
    pub floor: GenerationStamp,
    /// Highest stamp that the bearer may write.
    pub ceiling: GenerationStamp,
    /// What the bearer may do.
    pub modes: Vec<Mode>,
    /// For whom it was made.
    pub user: String,
    /// Wall time of its end, ms since the Unix epoch. Bounds misuse only: the stamp is the fence.
    pub expires_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ClaimsRecord {
    #[prost(string, tag = "1")]
    pool: String,
    #[prost(sint64, tag = "2")]
    block: i64,
    #[prost(uint64, tag = "3")]
    floor: u64,
    #[prost(uint64, tag = "4")]
    ceiling: u64,
    #[prost(uint32, tag = "5")]
    modes: u32,
    #[prost(string, tag = "6")]
    user: String,
    #[prost(sint64, tag = "7")]
    expires_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Seals {
    #[prost(uint32, tag = "1")]
    key_number: u32,
    #[prost(message, repeated, tag = "2")]
    seals: Vec<Seal>,
}

#[derive(Clone, PartialEq, Message)]
struct Seal {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(bytes = "vec", tag = "2")]
    mac: Vec<u8>,
}

/// What an operation needs of its token.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Pool of the block.
    pub pool: &'a PoolId,
    /// The block.
    pub block: BlockId,
    /// Stamp in the operation's header: must lie between floor and ceiling.
    pub stamp: GenerationStamp,
    /// What the operation does.
    pub mode: Mode,
}

/// Why a token does not open a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token, or one that cannot be decoded.
    #[error("the block token is missing or malformed")]
    Malformed,
    /// Made with a key that this node does not have (yet, or any more).
    #[error("the block token was made with key {0}, which this node does not know")]
    UnknownKey(u32),
    /// No seal for this node, or one that does not verify.
    #[error("the block token is not valid on this node")]
    NotForThisNode,
    /// Over.
    #[error("the block token has expired: ask the namenode for the block again")]
    Expired,
    /// For another pool, block, stamp or mode.
    #[error("the block token does not cover this operation: {0}")]
    NotCovered(&'static str),
}

/// Makes a token that each of `nodes` can check, encoded as Hadoop's `Token`.
#[must_use]
pub fn mint(master: &MasterKey, key_number: u32, claims: &Claims, nodes: &[NodeId]) -> Bytes {
    let identifier = ClaimsRecord {
        pool: claims.pool.as_str().to_owned(),
        block: claims.block.raw(),
        floor: claims.floor.raw(),
        ceiling: claims.ceiling.raw(),
        modes: claims.modes.iter().fold(0, |bits, mode| bits | mode.bit()),
        user: claims.user.clone(),
        expires_ms: claims.expires_ms,
    }
    .encode_to_vec();
    let seals = nodes
        .iter()
        .map(|node| Seal {
            node: node.as_str().to_owned(),
            mac: key::mac(master.node_key(node).as_bytes(), &parts(&identifier)).to_vec(),
        })
        .collect();
    let password = Seals { key_number, seals }.encode_to_vec();
    let token = Token {
        identifier: identifier.into(),
        password: password.into(),
        kind: KIND.to_owned(),
        service: String::new(),
    };
    token.encode_to_vec().into()
}

/// Decodes the bytes of [`mint`] for an operation's header.
///
/// # Errors
/// [`TokenError::Malformed`].
pub fn decode(bytes: &[u8]) -> Result<Token, TokenError> {
    if bytes.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    Token::decode(bytes).map_err(malformed)
}

/// Checks a token on a datanode.
///
/// # Errors
/// [`TokenError`]; the order of checks tells a forger nothing but that the seal is wrong.
pub fn check(
    token: Option<&Token>,
    keys: &NodeKeys,
    node: &NodeId,
    wanted: &Wanted<'_>,
    now_wall_ms: i64,
) -> Result<(), TokenError> {
    let token = token.ok_or(TokenError::Malformed)?;
    if token.identifier.len() + token.password.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    let seals = Seals::decode(token.password.as_ref()).map_err(malformed)?;
    let node_key = keys.get(seals.key_number).ok_or(TokenError::UnknownKey(seals.key_number))?;
    let seal = seals.seals.iter().find(|seal| seal.node == node.as_str()).ok_or(TokenError::NotForThisNode)?;
    if !key::verify(node_key.as_bytes(), &parts(&token.identifier), &seal.mac) {
        return Err(TokenError::NotForThisNode);
    }
    let claims = ClaimsRecord::decode(token.identifier.as_ref()).map_err(malformed)?;
    covers(&claims, wanted)?;
    if claims.expires_ms < now_wall_ms {
        return Err(TokenError::Expired);
    }
    Ok(())
}

fn covers(claims: &ClaimsRecord, wanted: &Wanted<'_>) -> Result<(), TokenError> {
    if claims.pool != wanted.pool.as_str() {
        return Err(TokenError::NotCovered("another pool"));
    }
    if claims.block != wanted.block.raw() && !base::mutated!(Sc100TokenOpensAnyBlock) {
        return Err(TokenError::NotCovered("another block"));
    }
    if wanted.stamp.raw() < claims.floor || wanted.stamp.raw() > claims.ceiling {
        return Err(TokenError::NotCovered("a stamp outside its range"));
    }
    if claims.modes & wanted.mode.bit() == 0 {
        return Err(TokenError::NotCovered("an operation that it does not allow"));
    }
    Ok(())
}

// The key's number needs no MAC of its own: another number selects another key.
fn parts(identifier: &[u8]) -> [&[u8]; 3] {
    [b"blockyard block token", b"v1", identifier]
}

fn malformed(error: prost::DecodeError) -> TokenError {
    drop(error);
    TokenError::Malformed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KEY_BYTES;
    use proptest::prelude::*;

    fn claims() -> Claims {
        Claims {
            pool: PoolId::new("1"),
            block: BlockId::FIRST,
            floor: GenerationStamp::from_raw(1001),
            ceiling: GenerationStamp::from_raw(1003),
            modes: vec![Mode::Read],
            user: String::from("ana"),
            expires_ms: 1000,
        }
    }

    fn run(master: &MasterKey, token: &Token, change: impl Fn(&mut Wanted<'_>), now_ms: i64) -> Result<(), TokenError> {
        let (pool, node) = (PoolId::new("1"), NodeId::new("n1"));
        let keys = NodeKeys::new(vec![(4, master.node_key(&node))]);
        let mut wanted =
            Wanted { pool: &pool, block: BlockId::FIRST, stamp: GenerationStamp::from_raw(1002), mode: Mode::Read };
        change(&mut wanted);
        check(Some(token), &keys, &node, &wanted, now_ms)
    }

    #[test]
    fn a_token_has_the_bytes_of_the_format_page() {
        let token = mint(&MasterKey::new([1; KEY_BYTES]), 4, &claims(), &[NodeId::new("n1")]);
        let hex: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        // Made by another program than this one.
        let page = "0a1c 0a0442502d31 108280808008 18e907 20eb07 2801 3203616e61 38d00f \
                    122a 0804 1226 0a026e31 1220 63ee21e5bafb18d9de492a39b7ba5b042735e366d4fafafd59d5df9f80f5b6bf \
                    1a10 484446535f424c4f434b5f544f4b454e 2200";
        assert_eq!(hex, page.replace(' ', ""));
    }

    #[test]
    fn a_token_beyond_the_limit_is_not_looked_at() {
        assert_eq!(decode(&vec![0; MAX_TOKEN_BYTES + 1]), Err(TokenError::Malformed));
        let long = Token { identifier: vec![0; MAX_TOKEN_BYTES + 1].into(), ..Token::default() };
        assert_eq!(run(&MasterKey::new([1; KEY_BYTES]), &long, |_| (), 0), Err(TokenError::Malformed));
    }

    #[test]
    fn sc_100_a_token_opens_exactly_what_it_names() {
        let master = MasterKey::new([1; KEY_BYTES]);
        let token = decode(&mint(&master, 4, &claims(), &[NodeId::new("n0"), NodeId::new("n1")])).unwrap();
        assert_eq!(run(&master, &token, |_| (), 1000), Ok(()));
        assert_eq!(run(&master, &token, |_| (), 1001), Err(TokenError::Expired));
        let refused = |change: fn(&mut Wanted<'_>)| run(&master, &token, change, 0).is_err();
        assert!(refused(|w| w.block = BlockId::FIRST.next()));
        assert!(refused(|w| w.mode = Mode::Write));
        assert!(refused(|w| w.stamp = GenerationStamp::from_raw(1000)));
        assert!(refused(|w| w.stamp = GenerationStamp::from_raw(1004)));
        let other = MasterKey::new([2; KEY_BYTES]);
        assert_eq!(run(&other, &token, |_| (), 0), Err(TokenError::NotForThisNode));
        let elsewhere = decode(&mint(&master, 4, &claims(), &[NodeId::new("n2")])).unwrap();
        assert_eq!(run(&master, &elsewhere, |_| (), 0), Err(TokenError::NotForThisNode));
        let old = decode(&mint(&master, 3, &claims(), &[NodeId::new("n1")])).unwrap();
        assert_eq!(run(&master, &old, |_| (), 0), Err(TokenError::UnknownKey(3)));
    }

    proptest! {
        #[test]
        fn no_flipped_byte_passes(at in 0_usize..400, bit in 0_u8..8) {
            let master = MasterKey::new([1; KEY_BYTES]);
            let whole = mint(&master, 4, &claims(), &[NodeId::new("n1")]);
            let mut bytes = whole.to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(token) = decode(&bytes) {
                let original = decode(&whole).unwrap();
                // Kind and service are not sealed: they carry no right.
                if token.identifier != original.identifier || token.password != original.password {
                    prop_assert!(run(&master, &token, |_| (), 0).is_err());
                }
            }
        }

        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let master = MasterKey::new([1; KEY_BYTES]);
            if let Ok(token) = decode(&bytes) {
                prop_assert!(run(&master, &token, |_| (), 0).is_err());
            }
        }
    }
}
