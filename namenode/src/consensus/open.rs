//! Format and open: from files to a running member.
//!
//! ```text
//!   lock ─▶ identity, vote ─▶ log (judged) ─▶ newest usable image ─▶ do they join? ─▶ writer, engine
//! ```
//!
//! Nothing is changed before everything was read and found sound: a refused start leaves the files as they were.

use std::io;
use std::path::Path;
use std::sync::Arc;

use base::disk::Disk;
use base::random::Randomness;
use proto::ids::{ClusterId, LogIndex};
use proto::raft::{HardState, RaftEntry};
use raft::{Config, RawNode};

use super::image::{ImageReader, ImageStore};
use super::log::{self, LogWriter, Scan, WriterParts};
use super::member::{Consensus, Start};
use super::tail::Tail;
use super::{
    ConsensusConfig, ConsensusError, Identity, ImageError, ImageInfo, ImageMeta, LogError, PersistBatch, files, wire,
};

/// No segment may be smaller: a batch has to fit.
const MIN_SEGMENT_BYTES: u64 = 32 << 10;

/// Writes the body of an image.
pub type ImageBody<'a> = &'a mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>;

/// What [`Consensus::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The member. Entries after the image come out of `ready()` as they are (again) known to be committed.
    pub consensus: Consensus,
    /// Goes to the committer thread.
    pub writer: LogWriter,
    /// Goes to the thread that writes images.
    pub images: ImageStore,
    /// Who this is.
    pub identity: Identity,
    /// Where the state machine starts from.
    pub recovered: Recovered,
}

/// Where the state machine starts from.
#[derive(Debug)]
pub struct Recovered {
    /// The newest usable image; `None`: start from nothing.
    pub image: Option<ImageReader>,
    /// Last index in the log, committed or not.
    pub last_index: LogIndex,
    /// What was found and mended on the way, for the log of the server.
    pub notes: Vec<String>,
}

impl Consensus {
    /// Makes a new member in an empty (or absent) folder. A format that was interrupted is begun again.
    ///
    /// # Errors
    /// [`ConsensusError::NotEmpty`] and the disk's.
    pub fn format(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        identity: &Identity,
        config: &ConsensusConfig,
        random: &Arc<dyn Randomness>,
    ) -> Result<(), ConsensusError> {
        check(config)?;
        files::format(disk.as_ref(), dir, identity, config.segment_bytes, random.as_ref())
    }

    /// Makes a new member whose state begins with an image, as one that was sent by a leader leaves it: large states for
    /// benchmarks and tests. If it is interrupted the folder is of no use: remove it.
    ///
    /// # Errors
    /// As [`Consensus::format`]; the image's, or those of `body`.
    pub fn format_with_image(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        identity: &Identity,
        config: &ConsensusConfig,
        random: &Arc<dyn Randomness>,
        (meta, body): (ImageMeta, ImageBody<'_>),
    ) -> Result<(), ConsensusError> {
        Self::format(disk, dir, identity, config, random)?;
        let Opened { mut writer, images, .. } = Self::open(disk, dir, None, config.clone(), random)?;
        let (index, term) = (meta.index.raw(), meta.term.raw());
        let hard_state = Some(HardState { term, ..HardState::default() });
        let marker = PersistBatch { hard_state, restart: Some((index, term)), ..PersistBatch::default() };
        writer.write(vec![marker]).map_err(from_log)?;
        images.write(meta, body)?;
        Ok(())
    }

    /// Was a member formatted in this folder? False for an empty or absent one, and for an interrupted
    /// format; true for one that lost its identity file, which [`Consensus::open`] then refuses.
    ///
    /// # Errors
    /// The disk's.
    pub fn is_formatted(disk: &Arc<dyn Disk>, dir: &Path) -> Result<bool, ConsensusError> {
        files::is_formatted(disk.as_ref(), dir)
    }

    /// Opens the member in a folder. A single voter campaigns at once: it leads after its first batch.
    /// `expected`: the cluster that the folder must belong to, if the caller knows it.
    ///
    /// # Errors
    /// [`ConsensusError`]; nothing was changed then.
    pub fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        expected: Option<&ClusterId>,
        config: ConsensusConfig,
        random: &Arc<dyn Randomness>,
    ) -> Result<Opened, ConsensusError> {
        check(&config)?;
        files::check_formatted(disk.as_ref(), dir)?;
        let lock = files::lock(disk.as_ref(), dir)?;
        let (identity, vote, hard_state) = files::open(disk.as_ref(), dir)?;
        if let Some(expected) = expected.filter(|expected| **expected != identity.cluster) {
            return Err(ConsensusError::WrongIdentity {
                dir: dir.display().to_string(),
                kind: "cluster",
                found: identity.cluster.to_string(),
                expected: expected.to_string(),
            });
        }
        let images = ImageStore::open_dir(Arc::clone(disk), dir, &identity, config.image_reserve_bytes, lock)?;
        let cluster = log::cluster_hash(&identity.cluster);
        let parts = WriterParts {
            disk: Arc::clone(disk),
            dir: dir.to_path_buf(),
            cluster,
            segment_bytes: config.segment_bytes,
            random: Arc::clone(random),
            vote,
            images,
        };
        Opening { parts, identity, config, hard_state, notes: Vec::new() }.run()
    }
}

fn check(config: &ConsensusConfig) -> Result<(), ConsensusError> {
    let bad = |text: &str| Err(ConsensusError::BadConfig(text.to_owned()));
    if config.segment_bytes < MIN_SEGMENT_BYTES {
        return bad("a log segment must have at least 32 KiB");
    }
    if config.heartbeat_ticks == 0 || config.election_ticks <= config.heartbeat_ticks {
        return bad("the election timeout must be longer than the time between heartbeats, which must not be 0");
    }
    if config.max_uncommitted_bytes < config.max_message_bytes {
        return bad("more must be allowed to wait for commit than one message holds");
    }
    Ok(())
}

/// A member that is being opened.
struct Opening {
    parts: WriterParts,
    identity: Identity,
    config: ConsensusConfig,
    hard_state: HardState,
    notes: Vec<String>,
}

/// Image and log, joined.
struct Joined {
    image: Option<ImageInfo>,
    /// Index and term of the last entry that is not in `entries`.
    base: (u64, u64),
    entries: Vec<RaftEntry>,
    /// The log on disk does not reach the image: a marker has to say where it goes on.
    restart: bool,
}

impl Opening {
    fn run(mut self) -> Result<Opened, ConsensusError> {
        let mut scan = log::scan(self.parts.disk.as_ref(), &self.parts.dir, self.parts.cluster)?;
        if let Some(rot) = &scan.rot {
            let rot = log::rot_error(&scan, rot);
            return Err(rot);
        }
        if scan.needs_cut {
            self.notes.push("the last batch of the log was not whole (it was never acknowledged): cut".to_owned());
        }
        let joined = self.join(&mut scan)?;
        self.check_reach(&joined)?;
        let Self { parts, identity, config, hard_state, notes } = self;
        let images = parts.images.clone();
        let random = Arc::clone(&parts.random);
        let mut writer = LogWriter::open(parts, &scan)?;
        if joined.restart {
            let marker = PersistBatch { restart: Some(joined.base), ..PersistBatch::default() };
            writer.write(vec![marker]).map_err(from_log)?;
        }
        let image = joined.image.as_ref().map(|info| images.open(info.meta.index)).transpose()?;
        let last_index = LogIndex::from_raw(joined.base.0 + joined.entries.len() as u64);
        let raw = engine(&identity, &config, &hard_state, joined)?;
        let (room, free_bytes) = writer.status();
        let start = Start {
            raw,
            identity: identity.clone(),
            config,
            images: images.clone(),
            random,
            room,
            free_bytes,
            no_vote_through: hard_state.no_vote_through,
        };
        let consensus = Consensus::start(start);
        let recovered = Recovered { image, last_index, notes };
        Ok(Opened { consensus, writer, images, identity, recovered })
    }

    /// Finds the newest usable image, and what of the log comes after it.
    fn join(&mut self, scan: &mut Scan) -> Result<Joined, ConsensusError> {
        let log_start = scan.base.map(|(index, _)| index).or(scan.entries.first().map(|e| e.index - 1));
        let log_last = scan.entries.last().map(|e| e.index).or(log_start).unwrap_or(0);
        let mut damaged = None;
        let mut image = None;
        for (index, term) in self.parts.images.files()? {
            match self.parts.images.adopt(index, term) {
                Ok(info) => {
                    image = Some(info);
                    break;
                }
                // Bytes that the disk does not give back any more are damaged too.
                Err(error @ (ImageError::Damaged { .. } | ImageError::Io { .. })) => {
                    self.notes.push(format!("{error}; the image before it and the log take its place"));
                    damaged = damaged.or(Some((index, error)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let base = image.as_ref().map_or((0, 0), |info| (info.meta.index.raw(), info.meta.term.raw()));
        if let Some((index, error)) = damaged
            && (log_last < index || log_start.is_none_or(|start| start > base.0))
        {
            let what = format!("{error}, and the log does not hold everything since the image before it");
            return Err(self.incomplete(what));
        }
        if log_start.is_some_and(|start| start > base.0) {
            let start = log_start.unwrap_or(0);
            let what =
                format!("the log begins after index {start}, but there is no image of that index or a later one");
            return Err(self.incomplete(what));
        }
        // What precedes the first entry may be gone with its segment: then it was committed, and is in the image.
        let continues = scan.base.is_none() && log_start == Some(base.0);
        let reaches = base.0 == 0
            || continues
            || scan.base == Some(base)
            || scan.entries.iter().any(|entry| (entry.index, entry.term) == base);
        let entries = if reaches {
            std::mem::take(&mut scan.entries).into_iter().filter(|entry| entry.index > base.0).collect()
        } else {
            Vec::new()
        };
        Ok(Joined { image, base, entries, restart: !reaches })
    }

    /// Do vote file, image and log belong together? The vote file remembers a commit index that was durable here.
    fn check_reach(&self, joined: &Joined) -> Result<(), ConsensusError> {
        let last = joined.base.0 + joined.entries.len() as u64;
        let HardState { commit, term, .. } = self.hard_state;
        if commit > last {
            return Err(self.incomplete(format!("the log ends at index {last}, but index {commit} was committed here")));
        }
        if joined.restart && self.identity.initial_voters.len() == 1 && !base::mutated!(Sc60ShortLogIsWhole) {
            // Nobody sends images to a single voter: it wrote this one itself, of entries in its log.
            let (index, _) = joined.base;
            return Err(
                self.incomplete(format!("the log ends before index {index}, but there is an image of that index"))
            );
        }
        // The vote file is written before the first record of a term.
        match joined.entries.last() {
            Some(entry) if entry.term > term && !base::mutated!(Sc18OldVoteFileCounts) => {
                Err(self.incomplete(format!(
                    "the vote file is of term {term}, but the log holds entries of term {}: it is an older vote file",
                    entry.term
                )))
            }
            _ => Ok(()),
        }
    }

    fn incomplete(&self, what: String) -> ConsensusError {
        ConsensusError::Incomplete { dir: self.parts.dir.display().to_string(), what }
    }
}

fn from_log(error: LogError) -> ConsensusError {
    match error {
        LogError::Io { operation, path, source } => ConsensusError::Io { operation, path, source },
        LogError::Condemned => ConsensusError::BadConfig(error.to_string()),
    }
}

fn engine(
    identity: &Identity,
    config: &ConsensusConfig,
    hard_state: &HardState,
    joined: Joined,
) -> Result<RawNode<Tail>, ConsensusError> {
    let (base, image) = (joined.base, joined.image);
    let entries: Vec<_> = joined.entries.into_iter().map(wire::entry_from_wire).collect();
    let HardState { term, vote, commit, .. } = *hard_state;
    let state = raft::eraftpb::HardState { term, vote, commit: commit.max(base.0), ..Default::default() };
    let voters = identity.initial_voters.iter().map(|voter| voter.raw()).collect();
    let mut tail = Tail::new(base, entries, state, voters);
    if let Some(info) = image {
        tail.set_image(info.meta.index.raw(), info.meta.term.raw());
    }
    let raft = Config {
        id: identity.member.raw(),
        election_tick: config.election_ticks,
        heartbeat_tick: config.heartbeat_ticks,
        applied: base.0,
        max_size_per_msg: config.max_message_bytes,
        max_inflight_msgs: 256,
        check_quorum: true,
        pre_vote: true,
        // The engine's batching may put entries into an append that was anchored elsewhere (`batch_append`
        // takes any entries to continue an empty message); `wire` refuses such messages.
        batch_append: false,
        max_uncommitted_size: config.max_uncommitted_bytes,
        max_committed_size_per_ready: config.max_committed_bytes,
        ..Config::default()
    };
    let quiet = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&raft, tail, &quiet)
        .map_err(|error| ConsensusError::BadConfig(format!("the Raft engine refused: {error}")))
}
