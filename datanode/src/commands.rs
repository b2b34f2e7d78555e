//! Carrying out a namenode's commands, at the moment when it happens.

use std::time::Duration;

use base::clock::Moment;
use proto::cluster::{
    CommandResult, CopyReplica, DeleteReplicas, FinishReplica, PrepareRecovery, ReplicaFound,
    ReplicaState as WireState, VerifyReplicas,
};
use proto::ids::BadId;
use proto::ids::{BlockId, GenerationStamp, StorageId};
use transfer::digest::{Prefix, SEGMENT_BYTES};
use transfer::{BlockRef, Target, TransferSetup, WireError, WriteSetup, WriteStage};

use crate::agent::{COMMAND_LIFE, Command};
use crate::node::Node;
use crate::receive::chain;
use crate::serve::ReadSession;
use crate::store::{ReplicaReader, StoreError};

/// Time in which a recovery reads a replica that is whole. The namenode waits 10 s for an answer.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// Time since the namenode was asked for commands, after which nothing is read any more: with many recoveries at a time some
/// wait for their turn, and who answers after 10 s counts as gone.
const READ_UNTIL: Duration = Duration::from_secs(4);

/// Why a command is not carried out any more; `None` while it may be. To be asked right before it is done.
#[must_use]
pub fn void(node: &Node, command: &Command, now: Moment) -> Option<String> {
    if now >= command.void_at {
        return Some("the command came too late and is void".to_owned());
    }
    if command.term < node.highest_term() {
        return Some(format!("{} is below this node's {}", command.term, node.highest_term()));
    }
    None
}

/// Deletes replicas, one by one, while the command is not void. Waits for the disk.
pub fn delete(node: &Node, command: &Command, what: &DeleteReplicas, now: impl Fn() -> Moment) -> CommandResult {
    let mut error = String::new();
    let storage = match StorageId::parse(&what.storage) {
        Ok(storage) => storage,
        Err(bad) => return result(command, Err(bad.to_string())),
    };
    for block in &what.blocks {
        if let Some(reason) = void(node, command, now()) {
            return result(command, Err(reason));
        }
        let (id, stamp) = (BlockId::from_raw(block.id), GenerationStamp::from_raw(block.stamp));
        let deleted = match what.reason.as_str() {
            "corrupt" => node.store().delete_damaged(&storage, id, stamp, now()),
            _ => node.store().delete(&storage, id, stamp, now()),
        };
        match deleted {
            Ok(()) => tracing::debug!(block = %id, %storage, reason = what.reason, "deleted"),
            // The others are tried nevertheless; the leader hears of the first failure.
            Err(failure) if error.is_empty() => error = chain(&failure),
            Err(_) => {}
        }
    }
    result(command, if error.is_empty() { Ok(()) } else { Err(error) })
}

/// Reads replicas whole, one by one, while the command is not void: the leader asks again. Waits for the disk.
pub fn verify(node: &Node, command: &Command, what: &VerifyReplicas, now: impl Fn() -> Moment) -> CommandResult {
    let mut error = String::new();
    let storage = match StorageId::parse(&what.storage) {
        Ok(storage) => storage,
        Err(bad) => return result(command, Err(bad.to_string())),
    };
    for (number, block) in what.blocks.iter().enumerate() {
        if let Some(reason) = void(node, command, now()) {
            return result(command, Err(reason));
        }
        let (id, stamp) = (BlockId::from_raw(block.id), GenerationStamp::from_raw(block.stamp));
        // Malformed ones and those of a namenode that sends none: the replica is compared with itself only.
        let digest = what.digests.get(number).and_then(|digest| Prefix::try_from(digest.as_ref()).ok());
        match node.store().verify(&storage, (id, stamp), digest.as_ref()) {
            Ok(sound) => tracing::info!(block = %id, %storage, sound, "a replica was read whole"),
            Err(failure) if error.is_empty() => error = chain(&failure),
            Err(_) => {}
        }
    }
    result(command, if error.is_empty() { Ok(()) } else { Err(error) })
}

/// First half of a block's recovery: the writer is stopped, lower stamps are shut out, and what is there is told. Waits for
/// the disk, and for the writer.
pub fn prepare_recovery(
    node: &Node,
    command: &Command,
    what: &PrepareRecovery,
    now: impl Fn() -> Moment,
) -> CommandResult {
    let begun = now();
    let until = begun.plus(READ_WITHIN).min(command.void_at.minus(COMMAND_LIFE).plus(READ_UNTIL));
    let is_late = || now() >= until;
    if let Some(reason) = void(node, command, begun) {
        return result(command, Err(reason));
    }
    let found = parse(&what.storage).and_then(|storage| {
        let id = BlockId::from_raw(what.block.as_ref().map_or(0, |block| block.id));
        let recovery = GenerationStamp::from_raw(what.recovery_stamp);
        node.store().prepare_recovery_within(&storage, id, recovery, &is_late).map_err(|error| chain(&error))
    });
    match found {
        Err(error) => result(command, Err(error)),
        Ok(found) => {
            let none = ReplicaFound { state: WireState::Deleted as i32, ..ReplicaFound::default() };
            let replica = found.map_or(none, |found| ReplicaFound {
                state: found.state.to_wire() as i32,
                stamp: found.stamp.raw(),
                len_bytes: found.len_bytes,
                acked_bytes: found.acked_bytes,
                restarted: found.restarted,
            });
            CommandResult { replica: Some(replica), ..result(command, Ok(())) }
        }
    }
}

/// Second half: the replica gets its length and the recovery's stamp, and is finalised durably. Waits for the disk.
pub fn finish_replica(node: &Node, command: &Command, what: &FinishReplica, now: Moment) -> CommandResult {
    if let Some(reason) = void(node, command, now) {
        return result(command, Err(reason));
    }
    let finished = parse(&what.storage).and_then(|storage| {
        let block = what.block.as_ref().ok_or_else(|| "the command names no block".to_owned())?;
        let recovery = GenerationStamp::from_raw(what.recovery_stamp);
        let finished = node.store().finish_recovery(&storage, BlockId::from_raw(block.id), recovery, block.len_bytes);
        finished.map_err(|error| chain(&error))
    });
    result(command, finished.map(drop))
}

fn parse(storage: &str) -> Result<StorageId, String> {
    StorageId::parse(storage).map_err(|bad: BadId| bad.to_string())
}

/// The result of a command.
#[must_use]
pub fn result(command: &Command, outcome: Result<(), String>) -> CommandResult {
    let error = outcome.err().unwrap_or_default();
    CommandResult { number: command.number, ok: error.is_empty(), error, replica: None }
}

/// What a copy needs: the replica open for reading, and what the first target is asked.
#[derive(Debug)]
pub struct CopyJob {
    /// The replica, from its first to its last byte.
    pub session: ReadSession,
    /// Set-up for `target`.
    pub setup: WriteSetup,
    /// The node to dial.
    pub target: Target,
}

/// Why a copy cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The command is malformed.
    #[error(transparent)]
    Command(#[from] WireError),
    /// The replica cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nobody to copy to.
    #[error("the command names no target")]
    NoTarget,
}

/// Opens a replica to be copied. The target verifies what arrives, finalises it and reports it.
///
/// # Errors
/// [`CopyError`].
pub fn begin_copy(node: &Node, what: &CopyReplica) -> Result<CopyJob, CopyError> {
    let block = BlockRef::from_common(&what.block.clone().unwrap_or_default())?;
    let targets = what.targets.iter().map(Target::from_common).collect::<Result<Vec<_>, _>>()?;
    let reader = node.store().open_whole(&block)?;
    // The replica's own stamp and length are what is copied.
    let block = BlockRef { stamp: reader.stamp(), len_bytes: reader.len_bytes(), ..block };
    let (chunks, len_bytes) = (reader.chunks(), reader.len_bytes());
    let (leaves, digest_observed) = match reader.leaves() {
        // Its data may be good, and it may be the last one: the checksums say so on the way. The scrubber judges the rest.
        Err(StoreError::NotWhole { .. }) => {
            reader.suspect();
            (Vec::new(), false)
        }
        other => other?,
    };
    let session = ReadSession::new(reader, 0, len_bytes, true)?.with_leaves(leaves);
    let target = targets.first().cloned().ok_or(CopyError::NoTarget)?;
    let setup = WriteSetup::create(block, what.token.clone(), String::new(), &targets, chunks);
    let setup = WriteSetup { digest_observed, ..setup.ok_or(CopyError::NoTarget)? };
    Ok(CopyJob { session, setup, target })
}

/// What bringing another node up to date needs: leaves of whole segments only, because the block goes on.
pub(crate) fn begin_transfer(
    setup: &TransferSetup,
    new_stamp: GenerationStamp,
    reader: ReplicaReader,
) -> Result<CopyJob, CopyError> {
    let (chunks, len_bytes) = (reader.chunks(), reader.len_bytes());
    let (mut leaves, digest_observed) = match reader.leaves() {
        Err(StoreError::NotWhole { .. }) => (Vec::new(), false),
        other => other?,
    };
    leaves.truncate(usize::try_from(len_bytes / SEGMENT_BYTES).unwrap_or(usize::MAX));
    let session = ReadSession::new(reader, 0, len_bytes, true)?.with_leaves(leaves);
    let target = setup.targets.first().cloned().ok_or(CopyError::NoTarget)?;
    let block = BlockRef { len_bytes, ..setup.block.clone() };
    let written = WriteSetup::create(block, setup.token.clone(), setup.client_name.clone(), &setup.targets, chunks);
    let written = written.ok_or(CopyError::NoTarget)?.resume(WriteStage::TransferRbw, new_stamp, (0, 0));
    Ok(CopyJob { session, setup: WriteSetup { digest_observed, ..written }, target })
}
