//! `cluster status` and `node ls`.

use std::collections::BTreeMap;

use client::NodeStatus;
use serde_json::{Value, json};

use super::Outcome;
use super::context::Context;
use super::text::size::size;
use super::text::table::table;
use super::text::time::duration;

/// A check of the cluster's health: its name, whether it is well, its value, and what to say if it is not.
struct Check {
    name: &'static str,
    value: u64,
    level: Level,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warn,
    Critical,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Critical => "critical",
        }
    }
}

type Status = proto::namespace::ClusterStatusResponse;

fn checks(status: &Status) -> Vec<Check> {
    let check = |name, value: u64, bad: Level, text: &str| Check {
        name,
        value,
        level: if value == 0 { Level::Ok } else { bad },
        text: text.to_owned(),
    };
    vec![
        check("safe_mode", u64::from(status.safe_mode), Level::Warn, "in safe mode"),
        check("missing", status.missing, Level::Critical, &format!("{} blocks have no live replica", status.missing)),
        check("corrupt", status.corrupt, Level::Critical, &format!("{} blocks are corrupt", status.corrupt)),
        check(
            "under_replicated",
            status.under_replicated,
            Level::Warn,
            &format!("{} blocks have too few copies", status.under_replicated),
        ),
        check("dead_nodes", status.dead_nodes, Level::Warn, &format!("{} datanodes are dead", status.dead_nodes)),
        check("no_nodes", u64::from(status.live_nodes == 0), Level::Critical, "no datanode is live"),
    ]
}

fn overall(checks: &[Check]) -> Level {
    checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok)
}

/// Runs `cluster status`.
pub(crate) async fn status(context: &Context) -> Outcome {
    let status = context.client.status().await?;
    if context.output.is_json() {
        return context.output.object(&status_json(&status));
    }
    context.output.block(&status_text(&status))
}

fn status_json(status: &Status) -> Value {
    let checks = checks(status);
    let list: Vec<Value> = checks
        .iter()
        .map(|check| json!({"name": check.name, "status": check.level.name(), "value": check.value}))
        .collect();
    json!({
        "v": 1, "type": "cluster", "cluster": status.cluster, "pool": status.pool, "version": status.version,
        "uptime_ms": status.uptime_ms, "status": overall(&checks).name(), "checks": list,
        "safe_mode": status.safe_mode, "safe_mode_reason": status.safe_mode_reason,
        "files": status.files, "directories": status.directories, "blocks": status.blocks,
        "under_replicated": status.under_replicated, "missing": status.missing, "corrupt": status.corrupt,
        "pending_copy": status.pending_copy, "pending_delete": status.pending_delete,
        "capacity": status.capacity_bytes, "used": status.used_bytes, "available": status.available_bytes,
        "live_nodes": status.live_nodes, "dead_nodes": status.dead_nodes, "open_files": status.open_files,
        "term": status.term, "applied_index": status.applied_index,
    })
}

fn status_text(status: &Status) -> String {
    let checks = checks(status);
    let troubles: Vec<&str> =
        checks.iter().filter(|check| check.level != Level::Ok).map(|check| check.text.as_str()).collect();
    let health = match overall(&checks) {
        Level::Ok => "OK".to_owned(),
        level => format!("{}  {}", level.name().to_uppercase(), troubles.join(", ")),
    };
    let used = (status.used_bytes.saturating_mul(100)).checked_div(status.capacity_bytes).unwrap_or(0);
    let mut rows = vec![
        ("cluster", format!("{}  up {}  version {}", status.cluster, duration(status.uptime_ms), status.version)),
        ("health", health),
    ];
    if status.safe_mode && !status.safe_mode_reason.is_empty() {
        rows.push(("safe mode", status.safe_mode_reason.clone()));
    }
    rows.push((
        "capacity",
        format!(
            "{} used of {} ({used}%), {} available",
            size(status.used_bytes),
            size(status.capacity_bytes),
            size(status.available_bytes)
        ),
    ));
    rows.push((
        "names",
        format!("{} files, {} directories, {} open", status.files, status.directories, status.open_files),
    ));
    rows.push((
        "blocks",
        format!("{}, {} to copy, {} to delete", status.blocks, status.pending_copy, status.pending_delete),
    ));
    rows.push(("nodes", format!("{} live, {} dead", status.live_nodes, status.dead_nodes)));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    let hint = if status.dead_nodes > 0 { "hint: blockyard node ls\n" } else { "" };
    table(&rows, &[]) + hint
}

/// Runs `node ls`.
pub(crate) async fn nodes(context: &Context) -> Outcome {
    let nodes = context.client.nodes().await?;
    if context.output.is_json() {
        return nodes.iter().try_for_each(|node| context.output.object(&node_json(node)));
    }
    let head = ["node", "address", "state", "seen", "blocks", "used", "available", "disks"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(nodes.iter().map(node_row)).collect();
    let mut text = table(&rows, &[4, 5, 6, 7]);
    nodes.iter().for_each(|node| text.push_str(&disks_out_of_order(node)));
    context.output.block(&text)
}

/// A line for each disk that is not as it should be.
fn disks_out_of_order(node: &NodeStatus) -> String {
    let odd = node.storages.iter().filter(|one| one.state != "normal");
    odd.map(|one| format!("{} of {}: {}: {}\n", one.storage, node.node, one.state, one.why)).collect()
}

fn node_json(node: &NodeStatus) -> Value {
    let storages: Vec<Value> = node
        .storages
        .iter()
        .map(|one| {
            json!({
                "storage": one.storage, "media": one.media, "state": one.state, "capacity": one.capacity_bytes,
                "used": one.used_bytes, "available": one.available_bytes, "blocks": one.blocks, "why": one.why,
            })
        })
        .collect();
    json!({
        "v": 1, "type": "node", "id": node.node, "host": node.host, "port": node.transfer_port,
        "http": node.http_address, "rack": node.rack, "state": node.state, "last_contact_ms": node.last_contact_ms,
        "blocks": node.blocks, "version": node.version, "storages": storages,
    })
}

fn node_row(node: &NodeStatus) -> Vec<String> {
    let used = node.storages.iter().map(|one| one.used_bytes).sum();
    let available = node.storages.iter().map(|one| one.available_bytes).sum();
    let odd = node.storages.iter().filter(|one| one.state != "normal").map(|one| one.state.as_str());
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    odd.for_each(|state| *states.entry(state).or_default() += 1);
    let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let disks = node.storages.len();
    vec![
        node.node.clone(),
        format!("{}:{}", node.host, node.transfer_port),
        node.state.clone(),
        format!("{} ago", duration(node.last_contact_ms)),
        node.blocks.to_string(),
        size(used),
        size(available),
        if states.is_empty() { disks.to_string() } else { format!("{disks} ({})", states.join(", ")) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_the_worst_check() {
        let well = Status { live_nodes: 3, ..Status::default() };
        assert_eq!(overall(&checks(&well)), Level::Ok);
        let worn = Status { under_replicated: 2, ..well.clone() };
        assert_eq!(overall(&checks(&worn)), Level::Warn);
        let lost = Status { missing: 1, dead_nodes: 1, ..worn };
        assert_eq!(overall(&checks(&lost)), Level::Critical);
        assert!(status_text(&lost).contains("1 blocks have no live replica"));
        assert!(status_text(&well).contains("health    OK"), "{}", status_text(&well));
    }
}
