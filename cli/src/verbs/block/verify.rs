//! `block verify`: every replica read from its node, and compared with the others.

use base::task::JoinSet;
use proto::common::LocatedBlock;
use serde_json::json;

use super::Targets;
use super::examine::examine;
use super::judge::{Finding, Verdict, judge};
use super::target::{Selected, each_selected};
use crate::exit::Status;
use crate::verbs::Outcome;
use crate::verbs::context::Context;
use crate::verbs::failure::Failure;
use crate::verbs::text::bytes::hex;
use crate::verbs::text::size::size;
use crate::verbs::text::{counted, plain};

/// Runs `block verify`.
pub(super) async fn run(targets: &Targets, context: &Context) -> Outcome {
    let mut sound = true;
    each_selected(targets, context, async |selected| {
        let mut tally = Tally::default();
        for (index, block) in &selected.blocks {
            verify(context, &selected, (*index, block), &mut tally).await?;
        }
        sound &= tally.is_sound();
        match context.output.is_json() {
            true => context.output.object(&tally.object(&selected)),
            false => context.output.line(&tally.text(&selected)),
        }
    })
    .await?;
    // A problem that was found counts more than a target that could not be looked at.
    if sound { Ok(()) } else { Err(Failure::verdict(Status::PROBLEMS)) }
}

/// Reads all replicas of a block at the same time: they are on different nodes.
async fn verify(context: &Context, file: &Selected, block: (usize, &LocatedBlock), tally: &mut Tally) -> Outcome {
    let (index, block) = block;
    let mut jobs = JoinSet::new();
    for (number, at) in block.locations.iter().enumerate() {
        let (context, block, at) = (context.clone(), block.clone(), at.clone());
        jobs.spawn(async move { (number, examine(&context, &block, &at).await) });
    }
    let mut findings = vec![Finding::Unreadable("it was not read".to_owned()); block.locations.len()];
    while let Some(joined) = jobs.join_next().await {
        let broken = |error: tokio::task::JoinError| Failure::local("run a call", "", &std::io::Error::other(error));
        let (number, finding) = joined.map_err(broken)?;
        if let Some(slot) = findings.get_mut(number) {
            *slot = finding;
        }
    }
    let verdicts = judge(&findings);
    let len_bytes = block.block.as_ref().map_or(0, |block| block.len_bytes);
    tally.add(&verdicts, file.status.replication as usize, len_bytes);
    if !context.output.is_json() && verdicts.is_empty() {
        let id = block.block.as_ref().map_or(0, |block| block.id);
        context.output.line(&format!("missing     block {id} of {}: it has no replica", plain(&file.path)))?;
    }
    for (number, verdict) in verdicts.iter().enumerate() {
        if let (Some(at), Some(finding)) = (block.locations.get(number), findings.get(number)) {
            report(context, &file.path, Replica { index, block, at, finding, verdict: *verdict })?;
        }
    }
    Ok(())
}

/// One replica with what is to be said of it.
struct Replica<'a> {
    index: usize,
    block: &'a LocatedBlock,
    at: &'a proto::common::StorageLocation,
    finding: &'a Finding,
    verdict: Verdict,
}

/// Says what was found: for scripts of every replica, for people of those that are not well.
fn report(context: &Context, path: &str, one: Replica<'_>) -> Outcome {
    let Replica { index, block, at, finding, verdict } = one;
    let of = block.block.clone().unwrap_or_default();
    let (sha256, message) = match finding {
        Finding::Sound(sha256) => (Some(hex(sha256)), ""),
        Finding::Damaged(why) | Finding::Unreadable(why) => (None, why.as_str()),
    };
    if context.output.is_json() {
        return context.output.object(&json!({
            "v": 1, "type": "replica", "path": path, "index": index, "id": of.id, "generation": of.stamp,
            "offset": block.offset_bytes, "length": of.len_bytes, "node": at.node, "host": at.host,
            "port": at.transfer_port, "rack": at.rack, "storage": at.storage, "status": verdict.name(),
            "sha256": sha256, "message": message,
        }));
    }
    if verdict == Verdict::Ok {
        return Ok(());
    }
    let why = if message.is_empty() { "its checksums are right, but the others hold other bytes" } else { message };
    let place = format!("{}:{} {}", at.host, at.transfer_port, at.storage);
    context.output.line(&format!("{:<10}  block {} of {} on {place}: {why}", verdict.name(), of.id, plain(path)))
}

/// What was found of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    replicas: u64,
    bytes: u64,
    damaged: u64,
    unreadable: u64,
    differ: u64,
    /// Blocks without a replica.
    missing: u64,
    /// Blocks with fewer replicas than wanted.
    thin: u64,
}

impl Tally {
    fn add(&mut self, verdicts: &[Verdict], wanted: usize, len_bytes: u64) {
        let count = |wanted: Verdict| verdicts.iter().filter(|verdict| **verdict == wanted).count() as u64;
        self.replicas += verdicts.len() as u64;
        self.bytes += len_bytes * (verdicts.len() as u64 - count(Verdict::Unreadable));
        self.damaged += count(Verdict::Damaged);
        self.unreadable += count(Verdict::Unreadable);
        self.differ += count(Verdict::Differs);
        self.missing += u64::from(verdicts.is_empty());
        self.thin += u64::from(!verdicts.is_empty() && verdicts.len() < wanted);
    }
    const fn is_sound(&self) -> bool {
        self.damaged + self.unreadable + self.differ + self.missing == 0
    }

    fn object(&self, file: &Selected) -> serde_json::Value {
        json!({
            "v": 1, "type": "block-verify", "path": file.path, "sound": self.is_sound(), "blocks": file.blocks.len(),
            "replicas": self.replicas, "bytes": self.bytes, "damaged": self.damaged, "unreadable": self.unreadable,
            "differ": self.differ, "missing": self.missing, "under_replicated": self.thin,
        })
    }

    fn text(&self, file: &Selected) -> String {
        let some = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let troubles: Vec<String> = [
            some(self.damaged, "damaged"),
            some(self.unreadable, "unreadable"),
            some(self.differ, "that differ"),
            some(self.missing, "blocks without a replica"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let state = if troubles.is_empty() { "all sound".to_owned() } else { troubles.join(", ") };
        let thin = some(self.thin, "blocks have too few replicas").map(|text| format!("; {text}")).unwrap_or_default();
        let blocks = counted(file.blocks.len() as u64, "block", "blocks");
        let replicas = counted(self.replicas, "replica", "replicas");
        format!("{}  {blocks}, {replicas}, {} read: {state}{thin}", plain(&file.path), size(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::FileStatus;

    #[test]
    fn a_file_is_sound_if_all_its_replicas_are() {
        let file = Selected { path: "/x".into(), status: FileStatus::default(), blocks: Vec::new() };
        let mut tally = Tally::default();
        tally.add(&[Verdict::Ok, Verdict::Ok], 3, 100);
        assert!(tally.is_sound());
        assert_eq!(
            tally.text(&file),
            "/x  0 blocks, 2 replicas, 200 B read: all sound; 1 blocks have too few replicas"
        );
        let mut worse = tally;
        worse.add(&[Verdict::Ok, Verdict::Damaged, Verdict::Unreadable], 3, 100);
        assert!(!worse.is_sound() && worse.text(&file).contains("400 B read: 1 damaged, 1 unreadable;"));
        assert_eq!((worse.object(&file)["sound"].as_bool(), worse.thin), (Some(false), 1));
        let mut gone = Tally::default();
        gone.add(&[], 3, 100);
        assert!(!gone.is_sound() && gone.text(&file).ends_with("1 blocks without a replica"));
    }
}
