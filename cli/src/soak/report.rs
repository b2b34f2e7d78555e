//! What a run prints.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::finish::Finished;
use super::memory::Memory;
use super::shared::{Shared, Wait};
use super::stall::Cause;
use crate::verbs::{Failure, Output};

/// All that was found out.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) minutes: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) memory: Arc<Memory>,
    pub(super) finished: Finished,
}

const WAITS: [(Wait, &str); 3] = [(Wait::Write, "write"), (Wait::Read, "read"), (Wait::Names, "names")];
const CAUSES: [Cause; 4] = [Cause::Nothing, Cause::Datanode, Cause::Datanodes, Cause::Namenode];

impl Report {
    /// Was something found?
    pub(super) fn failed(&self) -> bool {
        self.shared.findings() > 0
    }

    /// Prints it.
    ///
    /// # Errors
    /// Standard output's.
    pub(super) fn print(&self, output: &Output) -> Result<(), Failure> {
        match output.is_json() {
            true => output.object(&self.json()),
            false => output.line(&self.text()),
        }
    }

    fn json(&self) -> Value {
        let shared = &self.shared;
        let (seen, missed) = shared.repairs();
        let mut all = json!({
            "v": 1, "type": "soak", "version": env!("CARGO_PKG_VERSION"),
            "seed": self.seed, "minutes": self.minutes, "ok": !self.failed(),
            "faults": shared.faults_json(), "faults_injected": shared.so_far().1,
            "operations": shared.operations_json(), "operations_ended": shared.so_far().0,
            "failed": shared.failed_json(),
            "checked": shared.checked.load(Ordering::Relaxed),
            "checked_bytes": shared.checked_bytes.load(Ordering::Relaxed),
            "checked_replicas": shared.checked_replicas.load(Ordering::Relaxed),
            "killed_clients": shared.killed_json(),
            "changed_while_read": shared.unjudged.load(Ordering::Relaxed),
            "max_write_stall_ms": shared.longest_ms(Wait::Write, Cause::Datanode),
            "max_read_stall_ms": shared.longest_ms(Wait::Read, Cause::Datanode),
            "stalls_ms": self.stalls_json(),
            "one_copy_repair_start_ms": shared.repair_ms(),
            "one_copy_repairs": seen, "one_copy_repairs_missed": missed,
            "memory": self.memory.json(),
            "whole_after_s": self.finished.whole_after_s, "fsck_status": self.finished.fsck_status,
        });
        if let (Value::Object(all), Value::Object(findings)) = (&mut all, shared.findings_json()) {
            all.extend(findings);
        }
        all
    }

    fn stalls_json(&self) -> Value {
        let of = |wait| -> Map<String, Value> {
            let one = |cause: &Cause| (cause.name().to_owned(), json!(self.shared.longest_ms(wait, *cause)));
            CAUSES.iter().map(one).collect()
        };
        WAITS.iter().map(|(wait, name)| ((*name).to_owned(), Value::Object(of(*wait)))).collect()
    }

    fn text(&self) -> String {
        let shared = &self.shared;
        let (operations, faults) = shared.so_far();
        let ms = |ms: Option<u64>| ms.map_or("none".to_owned(), |ms| format!("{ms} ms"));
        let mut lines = vec![
            format!("seed {}, {} minutes: {operations} operations, {faults} faults", self.seed, self.minutes),
            format!("faults      {}", flat(&shared.faults_json())),
            format!("operations  {}", flat(&shared.operations_json())),
            format!(
                "compared    {} files, listings and ranges, {} MiB; {} changed while they were read",
                shared.checked.load(Ordering::Relaxed),
                shared.checked_bytes.load(Ordering::Relaxed) >> 20,
                shared.unjudged.load(Ordering::Relaxed)
            ),
            format!("replicas    {} read whole at the end", shared.checked_replicas.load(Ordering::Relaxed)),
            format!("killed      clients, by how far they were: {}", flat(&shared.killed_json())),
            format!(
                "stalls      write {}, read {} while one datanode was away; all: {}",
                ms(shared.longest_ms(Wait::Write, Cause::Datanode)),
                ms(shared.longest_ms(Wait::Read, Cause::Datanode)),
                flat(&self.stalls_json())
            ),
            format!("repair      of what had one copy left began after {} at most", ms(shared.repair_ms())),
        ];
        lines.extend(self.memory.lines().into_iter().map(|line| format!("memory      {line}")));
        let whole = self.finished.whole_after_s;
        lines.push(match whole {
            Some(seconds) => format!("whole       {seconds} s after the last fault was lifted"),
            None => "whole       not in time".to_owned(),
        });
        lines.push(format!("fsck        {}", self.finished.fsck.lines().nth(1).unwrap_or("said nothing").trim()));
        let findings = shared.findings_text();
        match findings.is_empty() {
            true => lines.push("found       nothing lost, nothing wrong".to_owned()),
            false => {
                lines.extend(findings.into_iter().map(|line| format!("FOUND       {line}")));
                lines.push(format!("again       blockyard soak --minutes {} --seed {}", self.minutes, self.seed));
            }
        }
        lines.join("\n")
    }
}

/// An object on one line: `a 1, b (c 2, d 3)`.
fn flat(value: &Value) -> String {
    match value {
        Value::Object(all) => {
            let parts = all.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| match value {
                Value::Object(_) => format!("{key} ({})", flat(value)),
                other => format!("{key} {other}"),
            });
            parts.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_one_line() {
        assert_eq!(flat(&json!({ "a": 1, "b": { "c": 2, "d": null } })), "a 1, b (c 2)");
    }
}
