//! The small files of a member: identity, vote, lock, and the mark of an unfinished format.
//!
//! The order of `format` is what makes a crash harmless: the mark first, the identity last but for the
//! removal of the mark. So "mark without identity" means that nothing was ever acknowledged here, and
//! anything else without an identity or a vote file has *lost* it and is refused (scars SC-16, SC-50).

use std::io;
use std::path::Path;
use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::{Disk, DiskLock};
use base::random::Randomness;
use base::two_slot::TwoSlotFile;
use prost::Message;
use proto::ids::{ClusterId, MemberId, PoolId};
use proto::raft::HardState;
use proto::store::NamenodeIdentity;

use super::log::{cluster_hash, create_first};
use super::{ConsensusError, Identity};

pub(super) const IDENTITY: &str = "identity";
pub(super) const VOTE: &str = "vote";
const LOCK: &str = "lock";
const FORMATTING: &str = "formatting";
const IDENTITY_MAGIC: [u8; 8] = *b"BYNNIDEN";
const VOTE_MAGIC: [u8; 8] = *b"BYNNVOTE";
const IDENTITY_VERSION: u32 = 1;

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ConsensusError {
    move |source| ConsensusError::Io { operation, path: path.display().to_string(), source }
}

/// Names in the folder that are not its lock.
fn names(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, ConsensusError> {
    if disk.info(dir).map_err(io_error("look at", dir))?.is_none() {
        return Ok(Vec::new());
    }
    let entries = disk.read_dir(dir).map_err(io_error("list", dir))?;
    Ok(entries.into_iter().map(|entry| entry.name).filter(|name| name != LOCK).collect())
}

/// Takes the folder for this process.
pub(super) fn lock(disk: &dyn Disk, dir: &Path) -> Result<Arc<dyn DiskLock>, ConsensusError> {
    match disk.lock(&dir.join(LOCK)) {
        Ok(held) => Ok(Arc::from(held)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ConsensusError::Locked { dir: dir.display().to_string() })
        }
        Err(error) => Err(io_error("lock", &dir.join(LOCK))(error)),
    }
}

/// Was a member formatted here? An interrupted format does not count.
pub(super) fn is_formatted(disk: &dyn Disk, dir: &Path) -> Result<bool, ConsensusError> {
    let names = names(disk, dir)?;
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    // A folder that lost its identity counts as formatted: opening it says what is missing.
    Ok(has(IDENTITY) || (!names.is_empty() && !has(FORMATTING)))
}

/// Makes a new member.
pub(super) fn format(
    disk: &dyn Disk,
    dir: &Path,
    identity: &Identity,
    segment_bytes: u64,
    random: &dyn Randomness,
) -> Result<(), ConsensusError> {
    check(identity)?;
    disk.create_dir_all(dir, CrashPoint::CreateServerDir).map_err(io_error("create", dir))?;
    let _lock = lock(disk, dir)?;
    begin_format(disk, dir)?;
    let vote = HardState::default().encode_to_vec();
    drop(TwoSlotFile::create(disk, &dir.join(VOTE), VOTE_MAGIC, &vote, CrashPoint::VoteSync)?);
    create_first(disk, dir, cluster_hash(&identity.cluster), random, segment_bytes)
        .map_err(|(operation, source)| io_error(operation, dir)(source))?;
    let body = encode_identity(identity);
    drop(TwoSlotFile::create(disk, &dir.join(IDENTITY), IDENTITY_MAGIC, &body, CrashPoint::IdentitySync)?);
    finish_format(disk, dir)
}

fn check(identity: &Identity) -> Result<(), ConsensusError> {
    let voters = &identity.initial_voters;
    let mut distinct = voters.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let sound = identity.member.raw() != 0
        && voters.contains(&identity.member)
        && distinct.len() == voters.len()
        && distinct.first().is_some_and(|first| first.raw() != 0);
    if sound {
        return Ok(());
    }
    let text = "member ids must be distinct and not 0, and the member must be one of the first voters";
    Err(ConsensusError::BadConfig(text.to_owned()))
}

/// Sets the mark, after removing what an interrupted format left.
fn begin_format(disk: &dyn Disk, dir: &Path) -> Result<(), ConsensusError> {
    let names = names(disk, dir)?;
    let unfinished = names.iter().any(|n| n == FORMATTING) && !names.iter().any(|n| n == IDENTITY);
    for name in &names {
        let ours = name == FORMATTING || name == VOTE || name.ends_with(".new") || name.starts_with("log-");
        if (!unfinished || !ours) && !base::mutated!(Sc50FullFolderIsFormatted) {
            return Err(ConsensusError::NotEmpty { dir: dir.display().to_string(), found: name.clone() });
        }
    }
    for name in names.iter().filter(|name| *name != FORMATTING) {
        let path = dir.join(name);
        disk.remove_file(&path, CrashPoint::SegmentRemove).map_err(io_error("remove", &path))?;
    }
    let mark = dir.join(FORMATTING);
    if !unfinished {
        drop(disk.create_new(&mark, CrashPoint::CreateServerDir).map_err(io_error("create", &mark))?);
    }
    disk.sync_dir(dir, CrashPoint::NamenodeDirSync).map_err(io_error("sync", dir))
}

/// The member exists from now on.
fn finish_format(disk: &dyn Disk, dir: &Path) -> Result<(), ConsensusError> {
    let mark = dir.join(FORMATTING);
    disk.remove_file(&mark, CrashPoint::IdentitySync).map_err(io_error("remove", &mark))?;
    disk.sync_dir(dir, CrashPoint::NamenodeDirSync).map_err(io_error("sync", dir))
}

/// Refuses an empty or absent folder, before anything is created in it.
pub(super) fn check_formatted(disk: &dyn Disk, dir: &Path) -> Result<(), ConsensusError> {
    if is_formatted(disk, dir)? {
        return Ok(());
    }
    Err(ConsensusError::NotFormatted { dir: dir.display().to_string() })
}

/// Reads identity and vote; both must be there, or neither anything else.
pub(super) fn open(disk: &dyn Disk, dir: &Path) -> Result<(Identity, TwoSlotFile, HardState), ConsensusError> {
    let names = names(disk, dir)?;
    let text = || dir.display().to_string();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if names.is_empty() || (has(FORMATTING) && !has(IDENTITY)) {
        return Err(ConsensusError::NotFormatted { dir: text() });
    }
    let missing = |missing: &'static str| {
        let found = names.iter().find(|name| *name != missing).cloned().unwrap_or_default();
        ConsensusError::Missing { dir: text(), missing, found }
    };
    let identity = TwoSlotFile::open(disk, &dir.join(IDENTITY), IDENTITY_MAGIC, CrashPoint::IdentitySync)?;
    let (_, body) = identity.ok_or_else(|| missing(IDENTITY))?;
    let identity = decode_identity(&body, &dir.join(IDENTITY))?;
    let vote = TwoSlotFile::open(disk, &dir.join(VOTE), VOTE_MAGIC, CrashPoint::VoteSync)?;
    let (vote, body) = vote.ok_or_else(|| missing(VOTE))?;
    let hard_state = HardState::decode(body.as_slice()).map_err(|error| malformed(&dir.join(VOTE), &error))?;
    if has(FORMATTING) {
        finish_format(disk, dir)?;
    }
    Ok((identity, vote, hard_state))
}

fn malformed(path: &Path, error: &dyn std::fmt::Display) -> ConsensusError {
    let what = format!("the record verifies, but it is malformed: {error}");
    ConsensusError::Rot { file: path.display().to_string(), offset: 0, what }
}

fn encode_identity(identity: &Identity) -> Vec<u8> {
    NamenodeIdentity {
        version: IDENTITY_VERSION,
        cluster: identity.cluster.as_str().to_owned(),
        pool: identity.pool.as_str().to_owned(),
        member: identity.member.raw(),
        created_by: env!("CARGO_PKG_VERSION").to_owned(),
        initial_voters: identity.initial_voters.iter().map(|voter| voter.raw()).collect(),
    }
    .encode_to_vec()
}

fn decode_identity(body: &[u8], path: &Path) -> Result<Identity, ConsensusError> {
    let read = NamenodeIdentity::decode(body).map_err(|error| malformed(path, &error))?;
    if read.version != IDENTITY_VERSION {
        let (file, known) = (path.display().to_string(), IDENTITY_VERSION);
        return Err(ConsensusError::Newer { file, found: read.version, known });
    }
    let identity = Identity {
        cluster: ClusterId::parse(&read.cluster).map_err(|error| malformed(path, &error))?,
        pool: PoolId::parse(&read.pool).map_err(|error| malformed(path, &error))?,
        member: MemberId::from_raw(read.member),
        initial_voters: read.initial_voters.into_iter().map(MemberId::from_raw).collect(),
    };
    check(&identity).map_err(|error| malformed(path, &error))?;
    Ok(identity)
}
