//! Which of the configured folders are this node's: a disk may have been put into the wrong machine, or copied (F-17).
//!
//! The most folders decide. Where no side has more, nobody can say who this node is, and it does not start. A stranger stays
//! as it is, and the node starts without it. Of two folders with one storage id one is a copy of the other: nobody can say
//! which one is behind, so neither is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::Disk;
use proto::ids::{ClusterId, NodeId, PoolId, StorageId};

use super::error::StoreError;
use super::identity::IdentityFile;
use super::volume::Volume;

/// What the look into a folder came to: the node that it says it is of. A sync that failed is not tried again as if nothing
/// had been, so that folder is out.
pub(super) type FirstLook = Result<Option<NodeId>, StoreError>;

/// Looks whose a folder is.
pub(super) fn look(disk: &dyn Disk, dir: &Path) -> FirstLook {
    Ok(IdentityFile::open(disk, dir)?.map(|(_, identity)| identity.node))
}

/// The node id of most volumes that have one: new volumes of an old node get it.
///
/// # Errors
/// If as many volumes have another node's id: before anything was made.
pub(super) fn known_node(dirs: &[PathBuf], looked: &[FirstLook]) -> Result<Option<NodeId>, StoreError> {
    let said = |(dir, looked): (&'_ PathBuf, &FirstLook)| Some((dir.clone(), looked.as_ref().ok()?.clone()?));
    let found: Vec<(PathBuf, NodeId)> = dirs.iter().zip(looked).filter_map(said).collect();
    let found: Vec<(&Path, NodeId)> = found.iter().map(|(dir, node)| (dir.as_path(), node.clone())).collect();
    most("node", &found)
}

/// Takes the volumes out that are not this node's, or not its cluster's, or there twice. Each is a problem.
///
/// # Errors
/// If nobody can say which ones are.
pub(super) fn put_out(volumes: &mut Vec<Arc<Volume>>) -> Result<Vec<StoreError>, StoreError> {
    let mut problems = copies(volumes);
    let nodes: Vec<(&Path, NodeId)> = volumes.iter().map(|one| (one.dir.as_path(), one.node.clone())).collect();
    if let Some(ours) = most("node", &nodes)? {
        let strangers = volumes.extract_if(.., |one| one.node != ours);
        problems.extend(strangers.map(|one| stranger(&one.dir, format!("node {}", one.node), format!("node {ours}"))));
    }
    let cluster_of = |one: &Arc<Volume>| one.state.lock().membership.clone();
    let text = |(cluster, pool): &(ClusterId, PoolId)| format!("cluster {cluster}, pool {pool}");
    let clusters: Vec<(&Path, (ClusterId, PoolId))> =
        volumes.iter().filter_map(|one| Some((one.dir.as_path(), cluster_of(one)?))).collect();
    if let Some(ours) = most_by("cluster", &clusters, text)? {
        let strangers = volumes.extract_if(.., |one| cluster_of(one).is_some_and(|theirs| theirs != ours));
        let problem = |one: Arc<Volume>| {
            let theirs = cluster_of(&one).map(|theirs| text(&theirs)).unwrap_or_default();
            stranger(&one.dir, theirs, text(&ours))
        };
        problems.extend(strangers.map(problem));
    }
    Ok(problems)
}

/// Volumes whose storage id another one has, too.
fn copies(volumes: &mut Vec<Arc<Volume>>) -> Vec<StoreError> {
    let mut dirs: BTreeMap<StorageId, Vec<PathBuf>> = BTreeMap::new();
    volumes.iter().for_each(|one| dirs.entry(one.storage.clone()).or_default().push(one.dir.clone()));
    dirs.retain(|_, dirs| dirs.len() > 1);
    volumes.retain(|one| !dirs.contains_key(&one.storage));
    let problem = |(storage, dirs): (StorageId, Vec<PathBuf>)| {
        let names: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        StoreError::Refused {
            path: names.join(" and "),
            problem: format!(
                "have one storage id, {storage}: one is a copy of the other, and may be behind. Neither is used; take the \
                 copy out of the settings. Nothing was changed"
            ),
        }
    };
    dirs.into_iter().map(problem).collect()
}

fn stranger(dir: &Path, found: String, expected: String) -> StoreError {
    StoreError::WrongCluster { what: format!("{} is not used: it", dir.display()), found, expected }
}

/// What most folders say.
fn most<T: Ord + Clone + std::fmt::Display>(kind: &str, said: &[(&Path, T)]) -> Result<Option<T>, StoreError> {
    most_by(kind, said, |one| format!("{kind} {one}"))
}

fn most_by<T: Ord + Clone>(
    kind: &str,
    said: &[(&Path, T)],
    text: impl Fn(&T) -> String,
) -> Result<Option<T>, StoreError> {
    let mut counts: BTreeMap<&T, usize> = BTreeMap::new();
    said.iter().for_each(|(_, what)| *counts.entry(what).or_default() += 1);
    let Some((best, count)) = counts.iter().max_by_key(|(_, count)| **count) else { return Ok(None) };
    let rival = counts.iter().find(|(other, rivals)| *other != best && *rivals == count);
    let Some((other, _)) = rival else { return Ok(Some((*best).clone())) };
    let dir = |what: &T| said.iter().find(|(_, said)| said == what).map(|(dir, _)| dir.display().to_string());
    let (one, another) = (dir(other).unwrap_or_default(), dir(best).unwrap_or_default());
    Err(StoreError::WrongCluster {
        what: format!("{one} (as many folders as with another {kind} in {another}: take the wrong ones out)"),
        found: text(other),
        expected: text(best),
    })
}
