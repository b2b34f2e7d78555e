//! Members over real files in temporary folders, and a network in memory that loses and reorders.

mod alone;
mod damage;
mod group;
mod stall;
mod unsynced;

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::{Disk, OsDisk};
use base::random::{Randomness, SeededRandom};
use bytes::Bytes;
use proto::ids::{ClusterId, LogIndex, MemberId, PoolId, Term};
use proto::raft::RaftMessage;

use super::*;

/// A small configuration, so that segments roll and images matter.
fn config() -> ConsensusConfig {
    ConsensusConfig {
        segment_bytes: 32 << 10,
        image_reserve_bytes: 256 << 10,
        tail_bytes: 4 << 10,
        ..Default::default()
    }
}

fn identity(member: u64, voters: u64) -> Identity {
    Identity {
        cluster: ClusterId::new("test"),
        pool: PoolId::new("test"),
        member: MemberId::from_raw(member),
        initial_voters: (1..=voters).map(MemberId::from_raw).collect(),
    }
}

/// Puts a file into a folder, replacing what has the name.
fn put_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    if disk.info(path).expect("looks").is_some() {
        disk.remove_file(path, CrashPoint::SegmentRemove).expect("removes");
    }
    let file = disk.create_new(path, CrashPoint::SegmentCreate).expect("creates");
    file.write_at(bytes, 0).expect("writes");
    file.sync(CrashPoint::LogSync).expect("syncs");
}

fn get_file(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    base::disk::read_file(disk, path, 1 << 30).expect("reads")
}

fn rename(disk: &dyn Disk, from: &Path, to: &Path) {
    disk.rename(from, to, CrashPoint::ImageRename).expect("renames");
}

/// A member with a state machine that remembers every payload.
struct Node {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    random: Arc<dyn Randomness>,
    consensus: Consensus,
    writer: LogWriter,
    images: ImageStore,
    /// Payloads applied, in order, with their indexes.
    applied: BTreeMap<u64, Vec<u8>>,
    position: ImageMeta,
    outgoing: Vec<RaftMessage>,
    reads: Vec<ReadState>,
    notes: Vec<String>,
    /// What waits for a disk that hangs; `None` while it does not.
    hung: Option<Vec<PersistBatch>>,
}

fn encode_state(applied: &BTreeMap<u64, Vec<u8>>, out: &mut dyn Write) -> std::io::Result<()> {
    for (index, payload) in applied {
        out.write_all(&index.to_le_bytes())?;
        out.write_all(&(payload.len() as u64).to_le_bytes())?;
        out.write_all(payload)?;
    }
    Ok(())
}

fn decode_state(reader: &mut ImageReader) -> BTreeMap<u64, Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("a verified image reads");
    assert_eq!(bytes.len() as u64, reader.info().body_bytes);
    let mut applied = BTreeMap::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let number = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().expect("eight bytes"));
        let (index, len) = (number(0), number(8) as usize);
        applied.insert(index, rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    applied
}

impl Node {
    fn format(disk: &Arc<dyn Disk>, dir: &Path, identity: &Identity, seed: u64) {
        let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(seed));
        Consensus::format(disk, dir, identity, &config(), &random).expect("formats");
    }

    fn open(disk: &Arc<dyn Disk>, dir: &Path, seed: u64) -> Result<Self, ConsensusError> {
        let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(seed));
        let opened = Consensus::open(disk, dir, None, config(), &random)?;
        let Opened { consensus, writer, images, recovered, .. } = opened;
        let mut position = ImageMeta { index: LogIndex::from_raw(0), term: Term::from_raw(0), state_hash: 0 };
        let applied = recovered.image.map_or_else(BTreeMap::new, |mut image| {
            position = image.info().meta;
            decode_state(&mut image)
        });
        Ok(Self {
            disk: Arc::clone(disk),
            dir: dir.to_path_buf(),
            random,
            consensus,
            writer,
            images,
            applied,
            position,
            outgoing: Vec::new(),
            reads: Vec::new(),
            notes: recovered.notes,
            hung: None,
        })
    }

    fn start(disk: &Arc<dyn Disk>, dir: &Path) -> Self {
        Self::open(disk, dir, 1).expect("opens")
    }

    /// Stops (without any farewell to the disk) and starts again.
    fn restart(self) -> Self {
        let (disk, dir, seed) = (Arc::clone(&self.disk), self.dir.clone(), self.random.next_u64());
        drop(self);
        Self::open(&disk, &dir, seed).expect("opens again")
    }

    /// Does everything that is ready, writing at once.
    fn settle(&mut self) {
        while let Some(batch) = self.settle_but_disk() {
            if let Some(hung) = &mut self.hung {
                hung.push(batch);
                continue;
            }
            let done = self.writer.write(vec![batch]).expect("the disk takes it");
            self.consensus.persisted(done);
        }
    }

    /// Does what is ready up to the next batch for the disk.
    fn settle_but_disk(&mut self) -> Option<PersistBatch> {
        while let Some(ready) = self.consensus.ready() {
            self.outgoing.extend(ready.messages);
            for send in ready.send_images {
                let sent = self.images.parts(&send, |part| self.outgoing.push(part));
                self.consensus.image_sent(send.to, sent.is_ok());
            }
            if let Some(info) = ready.install_image {
                let mut image = self.images.open(info.meta.index).expect("an installed image is whole");
                self.applied = decode_state(&mut image);
                self.position = image.info().meta;
            }
            for entry in ready.committed {
                assert_eq!(entry.index.raw(), self.position.index.raw() + 1, "indexes have no gaps");
                self.position = ImageMeta { index: entry.index, term: entry.term, state_hash: entry.index.raw() };
                if !entry.payload.is_empty() {
                    self.applied.insert(entry.index.raw(), entry.payload.to_vec());
                }
            }
            self.reads.extend(ready.read_states);
            if ready.persist.is_some() {
                return ready.persist;
            }
        }
        None
    }

    fn propose(&mut self, payload: &[u8]) -> Proposed {
        self.consensus.propose(1, Bytes::copy_from_slice(payload)).expect("the leader accepts")
    }

    fn write_image(&mut self) -> ImageInfo {
        let applied = &self.applied;
        let info =
            self.images.write(self.position, &mut |out| encode_state(applied, out)).expect("an image is written");
        self.consensus.image_written(&info);
        info
    }

    fn payloads(&self) -> Vec<Vec<u8>> {
        self.applied.values().cloned().collect()
    }

    fn segments(&self) -> usize {
        let entries = self.disk.read_dir(&self.dir).expect("lists");
        entries.iter().filter(|entry| entry.name.starts_with("log-")).count()
    }
}

/// Members and the messages between them.
struct Group {
    nodes: BTreeMap<u64, Node>,
    network: VecDeque<RaftMessage>,
    random: SeededRandom,
    /// Of a hundred messages, this many are lost.
    loss_percent: u64,
    cut_off: Option<u64>,
    _dir: tempfile::TempDir,
}

impl Group {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let disk = OsDisk::shared();
        let mut nodes = BTreeMap::new();
        for member in 1..=3 {
            let path = dir.path().join(member.to_string());
            Node::format(&disk, &path, &identity(member, 3), seed + member);
            nodes.insert(member, Node::open(&disk, &path, seed * 7 + member).expect("opens"));
        }
        let random = SeededRandom::new(seed);
        Self { nodes, network: VecDeque::new(), random, loss_percent: 0, cut_off: None, _dir: dir }
    }

    /// One tick for everyone, and the messages that are under way.
    fn round(&mut self) {
        for node in self.nodes.values_mut() {
            node.consensus.tick();
        }
        for _ in 0..8 {
            self.exchange();
        }
    }

    fn exchange(&mut self) {
        for (id, node) in &mut self.nodes {
            node.settle();
            for message in node.outgoing.drain(..) {
                let cut = self.cut_off.is_some_and(|cut| cut == *id || cut == message.to);
                if !cut && self.random.below(100) >= self.loss_percent {
                    self.network.push_back(message);
                }
            }
        }
        for _ in 0..self.network.len() {
            let place = if self.loss_percent > 0 { self.random.below(self.network.len() as u64) as usize } else { 0 };
            let Some(message) = self.network.remove(place) else { continue };
            if let Some(node) = self.nodes.get_mut(&message.to)
                && let Err(error) = node.consensus.step(message)
            {
                assert_eq!(error, StepError::NoSpace, "no other refusal between sound members");
            }
        }
    }

    fn leader(&self) -> Option<u64> {
        let leads = |node: &Node| node.consensus.role().serving;
        self.nodes
            .iter()
            .filter(|(_, node)| leads(node))
            .max_by_key(|(_, n)| n.consensus.role().term)
            .map(|(id, _)| *id)
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..2_000 {
            if done(self) {
                return;
            }
            self.round();
        }
        panic!("never: {what}");
    }

    fn elect(&mut self) -> u64 {
        self.until("a leader serves", |group| group.leader().is_some());
        self.leader().expect("just seen")
    }

    fn at(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("a member")
    }

    fn restart(&mut self, id: u64) {
        let node = self.nodes.remove(&id).expect("a member");
        self.nodes.insert(id, node.restart());
    }
}
