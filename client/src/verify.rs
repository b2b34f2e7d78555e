//! Having replicas read whole by their own nodes, and comparing them with what the namespace says.
//!
//! ```text
//!   Client::verify_replica ──VERIFY_REPLICA──▶ the replica's node: reads, compares with checksums and its own leaves
//!                          ◀──length, digest── damage that it finds it reports by itself
//!   digest of the namespace ≠ digest of the bytes ──report──▶ namenode: has the node look once more, and replaces it
//! ```

use std::time::Duration;

use proto::common::{LocatedBlock, StorageLocation};
use proto::error::{ErrorCode, FsError, FsResult};
use transfer::digest::{self, Prefix};
use transfer::{BlockRef, Op, Status, Verified, VerifySetup, reply};

use crate::Client;
use crate::datanode::{NoAnswer, Question};

/// Time to reach a node.
const DIAL: Duration = Duration::from_secs(5);
/// Silence after which a node is given up: it gives a sign of life every second, unless its disk hangs.
const SILENCE: Duration = Duration::from_secs(30);

/// What became of reading a replica whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaCheck {
    /// What is wrong with it; `None`: it is sound.
    pub damage: Option<String>,
    /// Generation stamp of the replica.
    pub stamp: u64,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Its bytes have the digest that the namespace has. False: there is none, or the replica is damaged.
    pub has_digest_of_namespace: bool,
}

/// The digest that the namespace has of a block; `None` if it has none.
#[must_use]
pub fn digest_of(block: &LocatedBlock) -> Option<Prefix> {
    Prefix::try_from(block.digest.as_ref()).ok()
}

/// One digest for a whole file, of those of its blocks: SHA-256 over the length (8 bytes, little-endian) and the digest of
/// each, cut to 16 bytes. `None` if a block has none. Files with the same bytes in blocks of the same lengths have the
/// same.
#[must_use]
pub fn file_digest<'a>(blocks: impl IntoIterator<Item = &'a LocatedBlock>) -> Option<Prefix> {
    let blocks = blocks.into_iter().map(|block| Some((block.block.as_ref()?.len_bytes, digest_of(block)?)));
    Some(digest::of_blocks(&blocks.collect::<Option<Vec<_>>>()?))
}

impl Client {
    /// Has the node of a replica read it whole from its disk, and compares what it says with the namespace. Damage is
    /// reported, so that the replica is replaced. `block` is one of [`crate::Reader::blocks`], `replica` one of its
    /// locations; 0 bytes a second leave the rate to the node.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] if the node cannot be reached, [`ErrorCode::Timeout`] if it is silent,
    /// [`ErrorCode::BadToken`] if the block was looked up too long ago, [`ErrorCode::NoReplica`] if the node has no such
    /// replica or could not read it.
    ///
    /// # Cancel safety
    /// The node notices that nobody listens any more within a second.
    pub async fn verify_replica(
        &self,
        block: &LocatedBlock,
        replica: &StorageLocation,
        rate_bytes_per_s: u64,
    ) -> FsResult<ReplicaCheck> {
        let said = ask(block, replica, rate_bytes_per_s).await?;
        let (check, is_news) = judge(block, said);
        if is_news {
            self.inner.report_bad(block.block.clone().unwrap_or_default(), replica.storage.clone()).await;
        }
        Ok(check)
    }
}

/// Compares what a node said with the namespace; true: the node does not know that its replica is damaged.
fn judge(block: &LocatedBlock, said: Verified) -> (ReplicaCheck, bool) {
    let Verified { stamp, len_bytes, digest, damage, .. } = said;
    let mut check = ReplicaCheck { damage, stamp: stamp.raw(), len_bytes, has_digest_of_namespace: false };
    let named = block.block.as_ref().map(|named| (named.stamp, named.len_bytes));
    if check.damage.is_some() || named.is_none_or(|(stamp, _)| stamp != check.stamp) {
        // Of another stamp: an append is under way, and the namespace does not speak of this one.
        return (check, false);
    }
    if let Some((_, expected_bytes)) = named.filter(|(_, expected_bytes)| *expected_bytes != len_bytes) {
        check.damage = Some(format!("it has {len_bytes} bytes and should have {expected_bytes}"));
        return (check, true);
    }
    let known = digest_of(block);
    check.has_digest_of_namespace = known.is_some() && known == digest;
    if known.is_some() && !check.has_digest_of_namespace {
        check.damage = Some("its bytes agree with its checksums, but they are not those that were written".to_owned());
    }
    let is_news = check.damage.is_some();
    (check, is_news)
}

async fn ask(block: &LocatedBlock, replica: &StorageLocation, rate_bytes_per_s: u64) -> FsResult<Verified> {
    let at = format!("{}:{}", replica.host, replica.transfer_port);
    let fault = |code, what: String| FsError::new(code, format!("datanode {at}: {what}"));
    let request = request(block, rate_bytes_per_s).map_err(|what| fault(ErrorCode::InvalidArgument, what))?;
    let said = |(code, what): NoAnswer| fault(code, what);
    let mut question = Question::ask(replica, &request, DIAL).await.map_err(said)?;
    loop {
        let response = question.answer(SILENCE).await.map_err(said)?;
        match reply::status_of(&response) {
            Status::InProgress => {}
            Status::Success => {
                return Verified::from_reply(&response).map_err(|error| fault(ErrorCode::Corrupt, error.to_string()));
            }
            Status::ErrorAccessToken => return Err(fault(ErrorCode::BadToken, response.message().to_owned())),
            Status::ErrorUnsupported => return Err(fault(ErrorCode::Unsupported, response.message().to_owned())),
            _ => return Err(fault(ErrorCode::NoReplica, response.message().to_owned())),
        }
    }
}

fn request(block: &LocatedBlock, rate_bytes_per_s: u64) -> Result<Op, String> {
    let (named, token) = (block.block.as_ref().ok_or("the block has no name")?, block.token.clone());
    let block = BlockRef::from_common(named).map_err(|error| error.to_string())?;
    let setup = VerifySetup { block, token, rate_bytes_per_s };
    setup.to_op().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::common::Block;
    use proto::ids::GenerationStamp;
    use transfer::verify::LeafOrigin;

    use super::*;

    fn located(digest: &[u8]) -> LocatedBlock {
        let block = Block { pool: "BP-1".into(), id: 1, stamp: 1001, len_bytes: 5 };
        LocatedBlock { block: Some(block), digest: Bytes::copy_from_slice(digest), ..LocatedBlock::default() }
    }
    fn said(stamp: u64, len_bytes: u64, digest: u8, damage: Option<&str>) -> Verified {
        let digest = damage.is_none().then_some([digest; 16]);
        let (stamp, damage) = (GenerationStamp::from_raw(stamp), damage.map(str::to_owned));
        Verified { stamp, len_bytes, digest, damage, leaves: LeafOrigin::None }
    }

    #[test]
    fn only_what_the_node_cannot_know_is_news() {
        let known = located(&[7; 16]);
        let cases = [
            ("sound", &known, said(1001, 5, 7, None), false, false, true),
            ("no digest in the namespace", &located(&[]), said(1001, 5, 9, None), false, false, false),
            ("other bytes", &known, said(1001, 5, 9, None), true, true, false),
            ("shorter", &known, said(1001, 4, 7, None), true, true, false),
            ("found by the node", &known, said(1001, 5, 7, Some("bits")), true, false, false),
            ("a newer stamp", &known, said(1002, 6, 9, None), false, false, false),
        ];
        for (what, block, said, damaged, news, same) in cases {
            let (check, is_news) = judge(block, said);
            assert_eq!(
                (check.damage.is_some(), is_news, check.has_digest_of_namespace),
                (damaged, news, same),
                "{what}"
            );
        }
    }

    #[test]
    fn a_file_has_a_digest_if_every_block_has_one() {
        let (one, other, none) = (located(&[1; 16]), located(&[2; 16]), located(&[]));
        let both = file_digest(&[one.clone(), other.clone()]);
        assert!(both.is_some());
        assert_ne!(both, file_digest(&[other.clone(), one.clone()]), "their order counts");
        assert_ne!(both, file_digest(std::slice::from_ref(&one)));
        assert_eq!(file_digest(&[one, none, other]), None);
        assert!(file_digest(&[]).is_some(), "an empty file");
    }
}
