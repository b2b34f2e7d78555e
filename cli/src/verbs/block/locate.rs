//! `block locate`: blocks with the nodes, racks and storages that hold them.

use client::BlockLocation;
use proto::common::{LocatedBlock, StorageLocation};
use serde_json::{Value, json};

use super::Targets;
use super::target::{Selected, each_selected};
use crate::verbs::Outcome;
use crate::verbs::context::Context;
use crate::verbs::text::size::size;
use crate::verbs::text::table::table;
use crate::verbs::text::{counted, plain};

/// Runs `block locate`.
pub(super) async fn run(targets: &Targets, context: &Context) -> Outcome {
    each_selected(targets, context, async |selected| {
        if context.output.is_json() {
            return selected
                .blocks
                .iter()
                .try_for_each(|(index, block)| context.output.object(&object(&selected.path, *index, block)));
        }
        context.output.block(&text(&selected))
    })
    .await
}

fn object(path: &str, index: usize, block: &LocatedBlock) -> Value {
    let of = block.block.clone().unwrap_or_default();
    let place = BlockLocation::of(block);
    let replicas: Vec<Value> = block.locations.iter().map(replica).collect();
    let storages: Vec<&str> = block.locations.iter().map(|at| at.storage.as_str()).collect();
    json!({
        "v": 1, "type": "block", "path": path, "index": index, "id": of.id, "generation": of.stamp, "pool": of.pool,
        "offset": block.offset_bytes, "length": of.len_bytes, "hosts": place.hosts, "racks": place.racks,
        "storages": storages, "replicas": replicas, "corrupt": block.corrupt,
    })
}

fn replica(at: &StorageLocation) -> Value {
    json!({
        "node": at.node, "host": at.host, "port": at.transfer_port, "rack": at.rack, "storage": at.storage,
    })
}

fn text(selected: &Selected) -> String {
    let Selected { path, status, blocks } = selected;
    let replicas = blocks.iter().map(|(_, block)| block.locations.len()).sum::<usize>();
    let counts = format!(
        "{}, {}",
        counted(blocks.len() as u64, "block", "blocks"),
        counted(replicas as u64, "replica", "replicas")
    );
    let sizes = format!("{}  block {}", size(status.len_bytes), size(status.block_size_bytes));
    let head = format!("{}  {sizes}  replication {}  {counts}{}\n", plain(path), status.replication, health(selected));
    if blocks.is_empty() {
        return head;
    }
    let columns = ["#", "block", "offset", "length", "replicas (nearest first)"].map(str::to_owned).to_vec();
    let rows = blocks.iter().map(|(index, block)| row(*index, block));
    head + &table(&std::iter::once(columns).chain(rows).collect::<Vec<_>>(), &[0, 1, 2, 3])
}

/// What is wrong with the blocks, as far as the namenode knows.
fn health(selected: &Selected) -> String {
    let wanted = selected.status.replication as usize;
    let count = |wrong: &dyn Fn(&LocatedBlock) -> bool| selected.blocks.iter().filter(|(_, one)| wrong(one)).count();
    let told: Vec<String> = [
        (count(&|block| block.locations.is_empty()), "without a replica"),
        (count(&|block| block.corrupt), "corrupt"),
        (count(&|block| !block.locations.is_empty() && block.locations.len() < wanted), "with too few replicas"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) }
}

fn row(index: usize, block: &LocatedBlock) -> Vec<String> {
    let of = block.block.clone().unwrap_or_default();
    let at = |at: &StorageLocation| format!("{}:{} {}", at.host, at.transfer_port, at.rack);
    let mut replicas: Vec<String> = block.locations.iter().map(at).collect();
    if replicas.is_empty() {
        replicas.push("none".to_owned());
    }
    let corrupt = if block.corrupt { "  corrupt" } else { "" };
    vec![
        index.to_string(),
        of.id.to_string(),
        block.offset_bytes.to_string(),
        of.len_bytes.to_string(),
        replicas.join("  ") + corrupt,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::FileStatus;
    use proto::common::Block;

    fn block(id: i64, offset_bytes: u64, nodes: u32) -> LocatedBlock {
        let at = |n: u32| StorageLocation {
            node: format!("n{n}"),
            storage: format!("DS-{n}"),
            host: format!("h{n}"),
            transfer_port: 9866,
            rack: format!("/r{}", n % 2),
            ..StorageLocation::default()
        };
        LocatedBlock {
            block: Some(Block { pool: "BP-1".into(), id, stamp: 1001, len_bytes: 100 }),
            offset_bytes,
            locations: (0..nodes).map(at).collect(),
            ..LocatedBlock::default()
        }
    }

    fn file(blocks: Vec<(usize, LocatedBlock)>) -> Selected {
        let status = FileStatus { len_bytes: 200, replication: 2, block_size_bytes: 100, ..FileStatus::default() };
        Selected { path: "/x".into(), status, blocks }
    }

    #[test]
    fn every_block_has_a_line_and_troubles_are_named() {
        let shown = text(&file(vec![(0, block(7, 0, 2)), (1, block(8, 100, 1))]));
        assert_eq!(
            shown,
            "/x  200 B  block 100 B  replication 2  2 blocks, 3 replicas: 1 with too few replicas\n\
             #  block  offset  length  replicas (nearest first)\n\
             0      7       0     100  h0:9866 /r0  h1:9866 /r1\n\
             1      8     100     100  h0:9866 /r0\n"
        );
        let lost = LocatedBlock { corrupt: true, ..block(9, 0, 0) };
        let shown = text(&file(vec![(0, lost)]));
        assert!(shown.contains(": 1 without a replica, 1 corrupt\n") && shown.contains("none  corrupt\n"), "{shown}");
        assert_eq!(text(&file(vec![])), "/x  200 B  block 100 B  replication 2  0 blocks, 0 replicas\n");
    }

    #[test]
    fn an_object_names_every_replica() {
        let object = object("/x", 3, &block(7, 300, 3));
        assert_eq!((&object["id"], &object["index"], &object["generation"]), (&7.into(), &3.into(), &1001.into()));
        assert_eq!(object["hosts"], json!(["h0", "h1", "h2"]));
        assert_eq!(object["racks"], json!(["/r0", "/r1"]));
        assert_eq!(
            object["replicas"][2],
            json!({"node": "n2", "host": "h2", "port": 9866, "rack": "/r0", "storage": "DS-2"})
        );
    }
}
