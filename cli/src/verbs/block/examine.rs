//! One replica, read from its node from beginning to end: is it sound?

use client::ErrorCode;
use proto::common::{LocatedBlock, StorageLocation};
use sha2::{Digest, Sha256};

use super::judge::Finding;
use crate::verbs::context::Context;

/// Reads a replica and compares it with its checksums. A failure is a finding, too.
pub(super) async fn examine(context: &Context, block: &LocatedBlock, at: &StorageLocation) -> Finding {
    let mut reader = context.client.read_replica(block, at);
    let mut sha256 = Sha256::new();
    loop {
        match reader.next().await {
            Ok(Some(bytes)) => sha256.update(&bytes),
            Ok(None) => return Finding::Sound(sha256.finalize().into()),
            Err(error) if error.code == ErrorCode::Corrupt => return Finding::Damaged(error.message),
            Err(error) => return Finding::Unreadable(error.message),
        }
    }
}
