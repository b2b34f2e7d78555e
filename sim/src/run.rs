//! One seed from its begin to its verdict.

use std::time::Duration;

use base::clock::Moment;
use base::random::{Randomness, SeededRandom};

use datanode::store::{Store, StoreError, VerifyStep};
use namenode::namespace::Namespace;
use transfer::{BlockRef, Verified};

use crate::admin::Admin;
use crate::cluster::{Cluster, Loggers, Phase};
use crate::coverage::Coverage;
use crate::hosts::namenode::pool_id;
use crate::hosts::{ClientHost, DatanodeHost, NamenodeHost};
use crate::planted::Planted;
use crate::scene::Scene;

/// Size of a simulated cluster and of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Namenodes.
    pub voters: usize,
    /// Datanodes.
    pub datanodes: usize,
    /// Disks of each datanode.
    pub volumes: usize,
    /// Clients.
    pub clients: usize,
    /// Operations, at least.
    pub operations: u32,
    /// Faults, at least.
    pub faults: u32,
    /// Kinds of faults, at least.
    pub kinds: usize,
    /// Have datanodes scrubbers? Rot that waits to be found by a reader is worth testing too.
    pub scrubs: bool,
    /// Does an administrator take nodes out of service and balance, do disks hang, and do clients share logs?
    pub extended: bool,
}

impl Shape {
    /// The shape that belongs to a seed: one voter and three in turn.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x5eed);
        Self {
            voters: if seed.is_multiple_of(2) { 1 } else { 3 },
            datanodes: 4 + random.below(3) as usize,
            volumes: 1 + random.below(2) as usize,
            clients: 4,
            operations: 500,
            faults: 20,
            kinds: 5,
            // Without a draw: seeds of before stay the runs that they were.
            scrubs: seed % 5 == 3,
            extended: seed % 4 >= 2,
        }
    }
    /// The shape that a seed had before there were logs, administrators, and disks that hang.
    #[must_use]
    pub fn of_old_seed(seed: u64) -> Self {
        Self { extended: false, ..Self::of_seed(seed) }
    }
}

/// A run to be made.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// What everything follows from.
    pub seed: u64,
    /// Size of the cluster.
    pub shape: Shape,
    /// A bug to plant.
    pub planted: Option<Planted>,
    /// Show what happens.
    pub loud: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Hash over all that happened.
    pub trace: u64,
    /// Things in the trace.
    pub events: u64,
    /// Rare events.
    pub coverage: Coverage,
    /// Operations of clients.
    pub operations: u32,
    /// Faults.
    pub faults: u32,
    /// Kinds of faults.
    pub kinds: usize,
    /// Simulated time.
    pub lasted: Duration,
    /// What must never be, if it was.
    pub failure: Option<String>,
}

impl Report {
    /// Of a run that did not come to its end.
    #[must_use]
    pub fn failed(seed: u64, failure: String) -> Self {
        Self {
            seed,
            trace: 0,
            events: 0,
            coverage: Coverage::default(),
            operations: 0,
            faults: 0,
            kinds: 0,
            lasted: Duration::ZERO,
            failure: Some(failure),
        }
    }
}

/// Time in which a cluster without faults must be whole again: a delete that its node refused, because the command came
/// too late, is looked at again only when every block is, each ten minutes.
const HEALING: Duration = Duration::from_secs(900);
/// Time in which everything must be read back.
const READING: Duration = Duration::from_secs(600);
/// Room of the smallest disk of a cluster that is balanced.
const SMALL_BYTES: u64 = 6 << 20;
/// No run lasts longer.
const LONGEST: Duration = Duration::from_secs(7200);

impl Run {
    /// The run of a seed, as the gate makes it.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Self { seed, shape: Shape::of_seed(seed), planted: None, loud: false }
    }

    /// Makes it.
    #[must_use]
    pub fn go(&self) -> Report {
        let random = SeededRandom::new(self.seed);
        let scene = Scene::new(random.next_u64(), self.loud);
        let Shape { voters, datanodes, volumes, clients, extended, .. } = self.shape;
        let namenodes: Result<Vec<_>, _> =
            (0..voters).map(|at| NamenodeHost::new(at, voters, random.next_u64(), self.planted, extended)).collect();
        let namenodes = match namenodes {
            Ok(namenodes) => namenodes,
            Err(error) => return self.report_of(&scene, Some(format!("a namenode cannot be formatted: {error}"))),
        };
        let mut datanodes: Vec<_> =
            (0..datanodes).map(|at| DatanodeHost::new(at, voters, volumes, random.next_u64(), self.planted)).collect();
        datanodes.iter_mut().for_each(|host| host.scrubs = self.shape.scrubs);
        let clients = (0..clients).map(|at| ClientHost::new(at, voters, random.next_u64(), self.planted)).collect();
        let mut cluster = Cluster::new(scene, namenodes, datanodes, clients, self.planted);
        if extended {
            self.extend(&mut cluster);
        }
        cluster.start();
        if self.shape.faults > 0 {
            cluster.schedule_fault();
        }
        self.play(&mut cluster);
        let failure = cluster.scene.violated().map(str::to_owned);
        for disk in disks(&cluster) {
            cluster.scene.trace.mix(&[disk.0, disk.1]);
        }
        let mut report = self.report_of(&cluster.scene, failure);
        report.operations = cluster.owners.iter().map(|owner| owner.done).sum();
        (report.faults, report.kinds) = (cluster.faults.count, cluster.faults.kinds.len());
        report
    }

    /// What comes beside, with randomness that is not that of the world: but for what it does, nothing changes by it.
    fn extend(&self, cluster: &mut Cluster) {
        let random = SeededRandom::new(self.seed ^ 0xad317);
        // One is fuller than the others with as many bytes.
        for (at, host) in cluster.datanodes.iter_mut().enumerate() {
            host.resize(if at == 0 { SMALL_BYTES } else { 4 * SMALL_BYTES });
        }
        if self.shape.faults > 0 {
            cluster.loggers = Some(Loggers::new(random.next_u64()));
            cluster.admin = Some(Admin::new(random.next_u64()));
            cluster.schedule_admin();
        }
    }

    fn report_of(&self, scene: &Scene, failure: Option<String>) -> Report {
        Report {
            seed: self.seed,
            trace: scene.trace.hash(),
            events: scene.trace.events(),
            coverage: scene.coverage.clone(),
            operations: 0,
            faults: 0,
            kinds: 0,
            lasted: scene.now().since(Moment::START),
            failure,
        }
    }

    fn play(&self, cluster: &mut Cluster) {
        let worked = |cluster: &Cluster| {
            let done: u32 = cluster.owners.iter().map(|owner| owner.done).sum();
            done >= self.shape.operations
                && cluster.faults.count >= self.shape.faults
                && cluster.faults.kinds.len() >= self.shape.kinds
        };
        if !until(cluster, LONGEST, "the work is done", worked) {
            return;
        }
        cluster.scene.say(format_args!("all faults are lifted"));
        cluster.lift_all_faults();
        if !until_healthy(cluster) {
            return;
        }
        cluster.begin_verification();
        let verified = |cluster: &Cluster| {
            cluster.owners.iter().all(crate::cluster::Owner::verified)
                && cluster.clients.iter().all(|client| !client.is_busy())
        };
        if !until(cluster, READING, "everything is read back", verified) {
            return;
        }
        // Readers may have found damage: that must heal as well.
        cluster.phase = Phase::Heal;
        if until_healthy(cluster) {
            finish(cluster);
        }
    }
}

/// Lets things happen until something is so. False: the run has failed.
fn until(cluster: &mut Cluster, within: Duration, what: &str, so: impl Fn(&Cluster) -> bool) -> bool {
    let end = cluster.scene.now().plus(within);
    let mut next_look = cluster.scene.now();
    while cluster.scene.violated().is_none() {
        if cluster.scene.now() >= next_look {
            if so(cluster) {
                return true;
            }
            next_look = cluster.scene.now().plus(Duration::from_millis(200));
        }
        if cluster.scene.now() >= end || !cluster.step() {
            let text = format!("after {} s not so: {what} ({})", within.as_secs(), state(cluster));
            cluster.scene.violation(text);
        }
    }
    false
}

fn until_healthy(cluster: &mut Cluster) -> bool {
    until(cluster, HEALING, "the cluster is whole again", |cluster| {
        unhealthy(cluster).is_none() && cluster.clients.iter().all(|client| !client.is_busy())
    })
}

/// Why the cluster is not whole.
fn unhealthy(cluster: &Cluster) -> Option<String> {
    let mut states = Vec::new();
    for (at, host) in cluster.namenodes.iter().enumerate() {
        let Some(shared) = host.shared() else { return Some(format!("namenode {at} is down")) };
        let namespace = shared.namespace.read();
        states.push((namespace.applied().0.raw(), namespace.state_hash()));
        if namespace.counts().open_files > 0 {
            return Some(format!("{} files are open", namespace.counts().open_files));
        }
        if namespace.reclaim_pending() > 0 {
            return Some(format!("{} inodes wait to be reclaimed", namespace.reclaim_pending()));
        }
        let blocks = shared.blocks.read();
        if let Some(reason) = blocks.safe_mode().filter(|_| host.role().is_some_and(|role| role.serving)) {
            return Some(format!("namenode {at} is in safe mode: {reason}"));
        }
        let counts = blocks.counts();
        let open =
            [counts.under_replicated, counts.missing, counts.corrupt, counts.pending_copy, counts.pending_delete];
        if open.iter().any(|count| *count > 0) {
            return Some(format!("namenode {at}: {counts:?}"));
        }
    }
    if states.iter().any(|state| *state != states[0]) {
        return Some(format!("members differ: {states:?}"));
    }
    if !cluster.namenodes.iter().any(|host| host.role().is_some_and(|role| role.serving)) {
        return Some("nobody leads".to_owned());
    }
    if cluster.admin.as_ref().is_some_and(Admin::is_busy) {
        return Some("the administrator is not done".to_owned());
    }
    if let Some((out, _)) = cluster.out_of_service() {
        return Some(format!("datanode {out} is out of service"));
    }
    let down = cluster.datanodes.iter().position(|host| !host.is_up());
    down.map(|at| format!("datanode {at} is down"))
}

fn state(cluster: &Cluster) -> String {
    let busy = cluster.clients.iter().filter(|client| client.is_busy()).count();
    let health = unhealthy(cluster).unwrap_or_else(|| "healthy".to_owned());
    format!("{health}; {busy} clients are busy{}", poor_blocks(cluster))
}

/// Blocks with fewer copies than wanted: what the leader knows of each, and what the datanodes hold.
fn poor_blocks(cluster: &Cluster) -> String {
    let mut text = String::new();
    let leads = |host: &&NamenodeHost| host.role().is_some_and(|role| role.serving);
    let Some(shared) = cluster.namenodes.iter().find(leads).and_then(NamenodeHost::shared) else { return text };
    let (namespace, blocks) = (shared.namespace.read(), shared.blocks.read());
    namespace.for_each_block(|view| {
        let mut good = blocks.replicas().good(view.block);
        good.retain(|storage| blocks.registry().counts(*storage));
        if view.committed && good.len() < view.replication as usize {
            let held: Vec<_> = cluster
                .datanodes
                .iter()
                .enumerate()
                .filter_map(|(at, host)| Some((at, host.store()?.replica(view.block)?)))
                .collect();
            let odd = blocks.replicas().odd_of(view.block);
            text.push_str(&format!("\n    {view:?}\n      good {good:?} odd {odd:?}\n      held {held:?}"));
        }
    });
    for block in blocks.replicas().odd_blocks_after(None, 1000) {
        let odd = blocks.replicas().odd_of(block);
        let held: Vec<_> = cluster
            .datanodes
            .iter()
            .enumerate()
            .filter_map(|(at, host)| Some((at, host.store()?.replica(block)?)))
            .collect();
        text.push_str(&format!("\n    odd {block} {:?} {odd:?} held {held:?}", namespace.block(block)));
    }
    for (index, storage) in blocks.registry().storages() {
        let node = blocks.registry().node(storage.node);
        let (service, room) = (node.service, (storage.available_bytes, storage.open_writes));
        text.push_str(&format!(
            "\n    {index:?} {:?} {:?} {service:?} {:?} room {room:?}",
            storage.failure, node.state, node.host
        ));
    }
    text
}

/// The last look: everything counted anew, images that are what they are of, nothing deleted that is needed.
fn finish(cluster: &mut Cluster) {
    cluster.checks.at_the_end(&cluster.namenodes, &mut cluster.scene);
    let mut problems = Vec::new();
    for (at, host) in cluster.namenodes.iter().enumerate() {
        let Some(shared) = host.shared() else { continue };
        let namespace = shared.namespace.read();
        if namespace.recount() != namespace.counts() {
            problems.push(format!(
                "namenode {at} counts {:?}, a recount {:?}",
                namespace.counts(),
                namespace.recount()
            ));
        }
        let mut image = Vec::new();
        let again = match namespace.freeze().write_to(&mut image) {
            Ok(_) => Namespace::read_from(&mut image.as_slice()),
            Err(error) => {
                problems.push(format!("namenode {at} wrote no image: {error}"));
                continue;
            }
        };
        match again {
            Ok(again) if again.state_hash() == namespace.state_hash() => {}
            Ok(_) => problems.push(format!("the image of namenode {at} is of another state")),
            Err(error) => problems.push(format!("the image of namenode {at} cannot be read: {error}")),
        }
    }
    problems.extend(digests(cluster));
    for problem in problems {
        cluster.scene.violation(problem);
    }
}

/// Every whole replica has the digest that its writer told the namenode, whichever way it came there; those apart of
/// which bits were flipped, and those on disks that failed.
fn digests(cluster: &Cluster) -> Vec<String> {
    let mut problems = Vec::new();
    let running = cluster.namenodes.iter().filter_map(NamenodeHost::shared);
    let Some(newest) = running.max_by_key(|shared| shared.namespace.read().applied().0) else { return problems };
    newest.namespace.read().for_each_block(|view| {
        if !view.committed {
            return;
        }
        // What was appended to, cut or recovered has none until a scrubber makes one, which stays at its node.
        if view.digest.is_none() {
            if !cluster.checks.may_lack_digest(&view) {
                problems.push(format!("{} was written at one go and has no digest: {view:?}", view.block));
            }
            return;
        }
        for (at, host) in cluster.datanodes.iter().enumerate() {
            let flipped = cluster.checks.rotten.contains(&(at, view.block));
            let Some(store) = host.store().filter(|_| !flipped && host.holds(view.block, view.stamp)) else { continue };
            let (pool, id, stamp) = (pool_id(), view.block, view.stamp);
            let block = BlockRef { pool, id, stamp, len_bytes: view.len_bytes };
            if let Ok(found) = read_whole(store, &block)
                && found.digest != view.digest
            {
                problems.push(format!("datanode {at} has other bytes of {}: {found:?}, not {:?}", id, view.digest));
            }
        }
    });
    problems
}

fn read_whole(store: &Store, block: &BlockRef) -> Result<Verified, StoreError> {
    let mut verification = store.begin_verify(block)?;
    loop {
        if let VerifyStep::Done(found) = verification.step()? {
            return Ok(found);
        }
    }
}

fn disks(cluster: &Cluster) -> Vec<(u64, u64)> {
    let namenodes = cluster.namenodes.iter().map(|host| host.disk.trace());
    namenodes.chain(cluster.datanodes.iter().map(|host| host.disk.trace())).collect()
}
