//! What must hold at every step: equal states, one leader in a term, the deletion rule.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::clock::Moment;
use namenode::namespace::{BlockState, BlockView, Namespace, NodeService};
use proto::ids::{BlockId, GenerationStamp, NodeId};

use crate::coverage::Rare;
use crate::hosts::datanode::Deletion;
use crate::hosts::{DatanodeHost, NamenodeHost};
use crate::scene::Scene;

/// The deletion rule speaks of copies that are *known*. What a node finds out about its own copy is news to the leader for
/// as long as the node counts as live without having said so (4 s, and a heartbeat that is 3 s late), and a command that
/// was given before lives for 10 s: until then a copy that has turned out to be damaged may have been counted. No rule
/// can do without that time; its bytes are judged by themselves all the same (`rotten`).
const NEWS: Duration = Duration::from_secs(17);

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Checks {
    /// State hash by applied index, with the member that showed it first.
    hashes: BTreeMap<u64, (u64, usize)>,
    applied: BTreeMap<usize, u64>,
    leaders: BTreeMap<u64, usize>,
    last_leader: Option<usize>,
    /// Replicas whose bytes were damaged on purpose.
    pub rotten: BTreeSet<(usize, BlockId)>,
    /// Where such a byte is and what it became: what was removed may be back after a power cut, rot and all.
    pub flips: BTreeMap<(usize, BlockId), (u64, u8)>,
    /// Blocks whose copies went because no file holds them; some members had not heard of that yet.
    orphans: BTreeSet<BlockId>,
    /// Blocks that were appended to, cut, or recovered: they have no digest of a writer any more.
    pub reopened: BTreeSet<BlockId>,
    /// Datanodes that are being emptied, and since when that is known.
    pub leaving: BTreeMap<usize, Moment>,
}

impl Checks {
    /// Looks at a namenode after it did something.
    pub fn look(&mut self, index: usize, host: &NamenodeHost, scene: &mut Scene) {
        let (Some(shared), Some(role)) = (host.shared(), host.role()) else {
            self.applied.remove(&index);
            return;
        };
        let namespace = shared.namespace.read();
        let applied = namespace.applied().0.raw();
        if self.applied.insert(index, applied) != Some(applied) {
            self.compare(applied, namespace.state_hash(), index, scene);
            self.note_reopened(&namespace);
        }
        drop(namespace);
        if role.leader {
            let term = role.term.raw();
            let first = *self.leaders.entry(term).or_insert(index);
            if first != index {
                scene.violation(format!("namenodes {first} and {index} both lead in term {term}"));
            }
        }
        if role.serving && self.last_leader != Some(index) {
            if self.last_leader.replace(index).is_some() {
                scene.hit(Rare::LeaderChanged);
            }
            scene.say(format_args!("namenode {index} leads in {}", role.term));
        }
    }

    /// Notes which blocks are open again. Whoever opens one must be answered, or replicas be asked, before it is closed: so
    /// the leader is seen with it open.
    fn note_reopened(&mut self, namespace: &Namespace) {
        for open in namespace.open_files_after(None, usize::MAX) {
            let Some(last) = namespace.lease(open.inode).and_then(|lease| lease.last_block) else { continue };
            // A new block is known to hold nothing before its writer commits it.
            if !last.committed && (open.recovery.is_some() || last.len_bytes > 0) {
                self.reopened.insert(last.block);
            }
        }
    }

    fn compare(&mut self, applied: u64, hash: u64, index: usize, scene: &mut Scene) {
        scene.trace.mix(&[applied, hash]);
        let (first, by) = *self.hashes.entry(applied).or_insert((hash, index));
        if first != hash {
            let text =
                format!("at index {applied} namenode {index} has state {hash:016x}, namenode {by} had {first:016x}");
            scene.violation(text);
        }
    }

    /// Looks at what a datanode removed by command.
    pub fn deleted(
        &mut self,
        deletion: &Deletion,
        namenodes: &[NamenodeHost],
        datanodes: &[DatanodeHost],
        scene: &mut Scene,
    ) {
        let Deletion { datanode, block, stamp, whole, reason } = deletion;
        scene.say(format_args!("datanode {datanode} deleted {block} {stamp} ({reason})"));
        match reason.as_str() {
            "deleted" => scene.hit(Rare::DeletedUser),
            "surplus" => scene.hit(Rare::DeletedSurplus),
            "stale" => scene.hit(Rare::DeletedStale),
            _ => scene.hit(Rare::DeletedCorrupt),
        }
        self.rotten.remove(&(*datanode, *block));
        if reason == "deleted" {
            self.orphans.insert(*block);
        }
        let Some(view) = newest_view(*block, namenodes) else { return };
        if reason == "deleted" || !view.committed {
            return;
        }
        let is_behind = self.all_are_behind(namenodes);
        let is_old = is_behind && datanodes.iter().any(|host| host.holds_newer(*block, view.stamp));
        if is_behind && self.orphans.contains(block) {
            return;
        }
        let now = scene.now();
        // What leaves is no reason to remove what stays; the command may be older than the news that it leaves.
        let out = services(namenodes);
        let leaves = |at: &usize| {
            let known = self.leaving.get(at).is_some_and(|since| now.since(*since) >= NEWS);
            let node = datanodes[*at].store().map(datanode::store::Store::node);
            reason == "surplus" && known && node.is_some_and(|node| out.iter().any(|(other, _)| other == node))
        };
        let others: Vec<usize> = (0..datanodes.len())
            .filter(|at| at != datanode && !leaves(at))
            .filter(|at| {
                let newer = is_old && datanodes[*at].holds_newer(*block, view.stamp);
                newer || counted(&datanodes[*at], *block, view.stamp, now)
            })
            .collect();
        let sound = others.iter().filter(|at| !self.rotten.contains(&(**at, *block))).count() as u32;
        let all = others.len() as u32;
        let needed = match reason.as_str() {
            // How many copies are asked for may have changed since.
            _ if is_old => 1,
            // What was appended to meanwhile has other copies; this one is not of them.
            "surplus" if *stamp == view.stamp => view.replication,
            _ => view.replication.min(2),
        };
        if sound == 0 || all < needed {
            scene.violation(format!(
                "datanode {datanode} deleted {block} {stamp} (whole: {whole}) as {reason}: {all} other copies are left, {sound} of them sound, {needed} are needed"
            ));
        }
    }

    /// Has no running member applied what one that is gone had applied? Its view of a block may be older than the block.
    fn all_are_behind(&self, namenodes: &[NamenodeHost]) -> bool {
        let seen = self.hashes.last_key_value().map_or(0, |(applied, _)| *applied);
        let running = namenodes.iter().filter_map(NamenodeHost::shared);
        running.map(|shared| shared.namespace.read().applied().0.raw()).max().is_none_or(|newest| newest < seen)
    }

    /// May a committed block be without the digest of a writer?
    #[must_use]
    pub fn may_lack_digest(&self, view: &BlockView) -> bool {
        self.reopened.contains(&view.block)
    }

    /// At the end: no block whose copies went for good belongs to a file.
    pub fn at_the_end(&self, namenodes: &[NamenodeHost], scene: &mut Scene) {
        for block in &self.orphans {
            if newest_view(*block, namenodes).is_some() {
                scene.violation(format!("{block} was deleted as nobody's, but a file holds it"));
            }
        }
    }
}

/// May a leader count this node's copy, as far as it can know by now?
#[must_use]
pub fn counted(host: &DatanodeHost, block: BlockId, stamp: GenerationStamp, now: Moment) -> bool {
    let since = Moment::after_start(now.since(Moment::START).saturating_sub(NEWS));
    host.holds(block, stamp) || host.found_damage_since(block, stamp, since)
}

/// Nodes out of service, as the member that applied most knows them.
fn services(namenodes: &[NamenodeHost]) -> Vec<(NodeId, NodeService)> {
    let running = namenodes.iter().filter_map(NamenodeHost::shared);
    let newest = running.max_by_key(|shared| shared.namespace.read().applied().0);
    newest.map(|shared| shared.namespace.read().services_in_force()).unwrap_or_default()
}

/// A block as the member that applied most knows it.
#[must_use]
pub fn newest_view(block: BlockId, namenodes: &[NamenodeHost]) -> Option<BlockState> {
    let running = namenodes.iter().filter_map(NamenodeHost::shared);
    let newest = running.max_by_key(|shared| shared.namespace.read().applied().0)?;
    let namespace = newest.namespace.read();
    namespace.block(block)
}
