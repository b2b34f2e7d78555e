//! What may go of a tree that the source does not have: not what the filters leave out, nor what cannot be copied.

use super::plan::{Kind, wanted};
use super::side::{Role, Side};
use crate::verbs::failure::Failure;
use crate::verbs::filter::join;
use crate::verbs::transfer::Shared;

/// What is removed of a tree, and what stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Doomed {
    /// Each goes with all that is in it; none lies in another.
    pub(super) goes: Vec<Side>,
    /// What is left out or cannot be copied. The directories above it stay, too.
    pub(super) stays: Vec<Side>,
}

/// A name of the tree. Those above come before it.
#[derive(Clone, Debug)]
struct Node {
    side: Side,
    /// The number of the directory that it is in.
    above: Option<usize>,
    stays: bool,
}

/// Looks through a tree of the destination; `below` is its path below the top. What is put there after this look goes
/// with its directory, as with any recursive removal.
///
/// # Errors
/// Those of listing: what cannot be read is not removed.
pub(super) async fn survey(shared: &Shared, top: &Side, below: &str, is_directory: bool) -> Result<Doomed, Failure> {
    let mut nodes = vec![Node { side: top.clone(), above: None, stays: false }];
    let mut waiting = Vec::new();
    if is_directory {
        waiting.push((0, top.clone(), below.to_owned()));
    }
    while let Some((above, side, below)) = waiting.pop() {
        for entry in side.list(shared, Role::Doomed).await? {
            let (child, path) = (side.child(&entry.name), join(&below, &entry.name));
            let stays = matches!(entry.kind, Kind::Unfit(_)) || !wanted(&shared.filters, &path, &entry.kind);
            if !stays && entry.kind == Kind::Directory {
                waiting.push((nodes.len(), child.clone(), path));
            }
            nodes.push(Node { side: child, above: Some(above), stays });
        }
    }
    Ok(split(&nodes))
}

/// The largest trees in which nothing stays, and what stays.
fn split(nodes: &[Node]) -> Doomed {
    let mut holds: Vec<bool> = nodes.iter().map(|node| node.stays).collect();
    // From the leaves up: a directory stays with what is in it.
    for (number, node) in nodes.iter().enumerate().rev() {
        if let (true, Some(above)) = (holds[number], node.above) {
            holds[above] = true;
        }
    }
    let mut doomed = Doomed::default();
    for (number, node) in nodes.iter().enumerate() {
        if node.stays {
            doomed.stays.push(node.side.clone());
        } else if !holds[number] && node.above.is_none_or(|above| holds[above]) {
            doomed.goes.push(node.side.clone());
        }
    }
    doomed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(path: &str, above: Option<usize>, stays: bool) -> Node {
        Node { side: Side::Cluster(path.into()), above, stays }
    }
    fn shown(sides: &[Side]) -> Vec<String> {
        sides.iter().map(Side::shown).collect()
    }

    #[test]
    fn what_stays_keeps_the_directories_above_it_and_nothing_else() {
        let tree = |stays| {
            [
                node("/d", None, false),
                node("/d/a.csv", Some(0), false),
                node("/d/e", Some(0), false),
                node("/d/f", Some(0), false),
                node("/d/f/x", Some(3), false),
                node("/d/e/keep.log", Some(2), stays),
                node("/d/e/y", Some(2), false),
            ]
        };
        let all = split(&tree(false));
        assert_eq!((shown(&all.goes), all.stays.len()), (vec!["/d".to_owned()], 0), "a tree goes at once");
        let some = split(&tree(true));
        assert_eq!(shown(&some.goes), ["/d/a.csv", "/d/f", "/d/e/y"]);
        assert_eq!(shown(&some.stays), ["/d/e/keep.log"]);
    }
}
