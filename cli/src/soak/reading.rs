//! Reading a file and comparing every byte with what it may be.

use std::sync::atomic::Ordering;

use client::{Client, ErrorCode, FsResult};

use super::model::{Judge, State, Wrong};
use super::shared::{Shared, Wait};

/// Reads a file from its beginning to its end; nothing is kept of it but the judgement.
///
/// # Errors
/// The client's. A file that is not there is an answer.
pub(super) async fn judge(
    shared: &Shared,
    client: &Client,
    path: &str,
    allowed: Vec<State>,
) -> FsResult<Result<State, Wrong>> {
    let mut judge = Judge::new(allowed);
    let opened = shared.metered(Wait::Names, client.open(path)).await;
    let mut reader = match opened {
        Ok(reader) => reader,
        Err(error) if error.code == ErrorCode::NotFound => return Ok(judge.absent()),
        Err(error) => return Err(error),
    };
    while let Some(bytes) = shared.metered(Wait::Read, reader.next()).await? {
        judge.feed(&bytes);
    }
    shared.checked_bytes.fetch_add(judge.at_bytes(), Ordering::Relaxed);
    shared.checked.fetch_add(1, Ordering::Relaxed);
    Ok(judge.end(shared.newest()))
}
