//! What must hold at every step: equal states, one leader in a term, the deletion rule.

use std::collections::{BTreeMap, BTreeSet};

use namenode::namespace::BlockState;
use proto::ids::BlockId;

use crate::coverage::Rare;
use crate::hosts::datanode::Deletion;
use crate::hosts::{DatanodeHost, NamenodeHost};
use crate::scene::Scene;

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
    /// Blocks whose copies went because no file holds them; some members had not heard of that yet.
    orphans: BTreeSet<BlockId>,
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
        let holders = |count: &dyn Fn(usize) -> bool| {
            let others = datanodes.iter().enumerate().filter(|(at, _)| at != datanode && count(*at));
            others.filter(|(_, host)| host.holds(*block, view.stamp)).count() as u32
        };
        let sound = holders(&|at| !self.rotten.contains(&(at, *block)));
        let all = holders(&|_| true);
        let needed = if reason == "surplus" { view.replication } else { view.replication.min(2) };
        if sound == 0 || all < needed {
            scene.violation(format!(
                "datanode {datanode} deleted {block} {stamp} (whole: {whole}) as {reason}: {all} other copies are left, {sound} of them sound, {needed} are needed"
            ));
        }
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

/// A block as the member that applied most knows it.
#[must_use]
pub fn newest_view(block: BlockId, namenodes: &[NamenodeHost]) -> Option<BlockState> {
    let running = namenodes.iter().filter_map(NamenodeHost::shared);
    let newest = running.max_by_key(|shared| shared.namespace.read().applied().0)?;
    let view = newest.namespace.read().block(block);
    view
}
