//! The processes whose time and syncs are counted: this one, and the servers by what their operations pages say.
//!
//! ```text
//!   /metrics of every role ─▶ pid, role, processor time, syncs, …   before ── the measured work ── after
//!   this process           ─▶ processor time                        the difference is what the work cost
//! ```
//!
//! Roles that share a process (`blockyard dev` without `--processes`) have one account, and it is counted once.

use std::time::Duration;

use base::clock::Clock;
use base::moved::{self, Move};
use base::process::process_cpu;
use serde_json::{Value, json};

use super::series::{Series, short};
use crate::page;
use crate::verbs::Failure;

/// A process of servers.
#[derive(Clone, Debug)]
struct Process {
    host: String,
    pid: u64,
    page: String,
    roles: Vec<String>,
}

/// The servers that are counted, and those that cannot be.
#[derive(Clone, Debug, Default)]
pub(super) struct Roles {
    processes: Vec<Process>,
    not_counted: Vec<String>,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    cpu_s: f64,
    syncs: f64,
    /// System calls that moved data.
    calls: f64,
    /// Bytes that went through the process itself.
    copied_bytes: f64,
}

impl Used {
    /// This process. It syncs nothing.
    fn here() -> Self {
        let (mut calls, mut copied_bytes) = (0, 0);
        for (what, moved) in Move::ALL.into_iter().zip(moved::counts()) {
            calls += moved.calls;
            copied_bytes += if what.copies() { moved.bytes } else { 0 };
        }
        let cpu_s = process_cpu().as_secs_f64();
        Self { cpu_s, syncs: 0.0, calls: calls as f64, copied_bytes: copied_bytes as f64 }
    }
    /// What a page tells.
    fn told(text: &str) -> Self {
        let value = |name: &str| value_of(text, name).unwrap_or(0.0);
        let copied = Move::ALL.into_iter().filter(|what| what.copies());
        Self {
            cpu_s: value("process_cpu_seconds_total"),
            syncs: value("blockyard_disk_syncs_total"),
            calls: value("blockyard_moving_calls_total"),
            copied_bytes: copied.map(|w| value(&format!("blockyard_moved_bytes_total{{of=\"{}\"}}", w.name()))).sum(),
        }
    }
    fn since(self, before: Self) -> Self {
        Self {
            cpu_s: self.cpu_s - before.cpu_s,
            syncs: self.syncs - before.syncs,
            calls: self.calls - before.calls,
            copied_bytes: self.copied_bytes - before.copied_bytes,
        }
    }
    fn add(&mut self, more: Self) {
        self.cpu_s += more.cpu_s;
        self.syncs += more.syncs;
        self.calls += more.calls;
        self.copied_bytes += more.copied_bytes;
    }
}

/// All accounts at one moment.
#[derive(Debug)]
struct Look {
    client: Used,
    servers: Vec<Used>,
}

/// What the measured work cost: processor time in seconds, syncs, calls, copies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    client: Used,
    namenode: Option<Used>,
    datanodes: Option<Used>,
    /// Of processes that have several roles.
    together: Option<Used>,
}

impl Roles {
    /// Finds the processes behind pages (`HOST:PORT`). `unknown`: roles of which no page is known.
    pub(super) async fn find(pages: &[String], unknown: Option<&str>) -> Self {
        let mut found = Self { processes: Vec::new(), not_counted: unknown.map(str::to_owned).into_iter().collect() };
        for address in pages {
            match metrics(address).await {
                Ok(text) => found.add(address, &text),
                Err(why) => found.not_counted.push(format!("{address}: {why}")),
            }
        }
        found
    }

    fn add(&mut self, address: &str, text: &str) {
        let (Some(role), Some(pid)) = (role_in(text), value_of(text, "process_pid")) else {
            self.not_counted.push(format!("{address}: its page tells no role and process"));
            return;
        };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned();
        let pid = pid as u64;
        match self.processes.iter_mut().find(|process| process.pid == pid && process.host == host) {
            Some(known) => known.roles.push(role),
            None => self.processes.push(Process { host, pid, page: address.to_owned(), roles: vec![role] }),
        }
    }

    /// Runs something and counts its time, and what all processes spent on it.
    pub(super) async fn metered<T>(
        &self,
        clock: &dyn Clock,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(T, Duration, Spent), Failure> {
        let servers = self.look().await?;
        let before = Look { client: Used::here(), servers };
        let begun = clock.now();
        let outcome = work.await?;
        let took = clock.now().since(begun);
        let client = Used::here();
        let after = Look { client, servers: self.look().await? };
        Ok((outcome, took, self.between(&before, &after)))
    }

    async fn look(&self) -> Result<Vec<Used>, Failure> {
        let mut all = Vec::with_capacity(self.processes.len());
        for process in &self.processes {
            let text = metrics(&process.page).await;
            let text = text.map_err(|why| Failure::server(format!("the page {} went away: {why}", process.page)))?;
            let pid = value_of(&text, "process_pid").map(|pid| pid as u64);
            if pid != Some(process.pid) {
                return Err(Failure::server(format!("the server at {} was started anew meanwhile", process.page)));
            }
            all.push(Used::told(&text));
        }
        Ok(all)
    }

    fn between(&self, before: &Look, after: &Look) -> Spent {
        let mut spent = Spent { client: after.client.since(before.client), ..Spent::default() };
        for ((process, before), after) in self.processes.iter().zip(&before.servers).zip(&after.servers) {
            let of = match &process.roles[..] {
                [role] if role == "namenode" => &mut spent.namenode,
                [role] if role == "datanode" => &mut spent.datanodes,
                _ => &mut spent.together,
            };
            of.get_or_insert_default().add(after.since(*before));
        }
        spent
    }

    /// Who was counted, for programs.
    pub(super) fn json(&self) -> Value {
        let client = json!({ "roles": ["client"], "pid": std::process::id() });
        let servers = self
            .processes
            .iter()
            .map(|process| json!({ "roles": process.roles, "pid": process.pid, "page": process.page }));
        std::iter::once(client).chain(servers).collect()
    }
    pub(super) fn not_counted(&self) -> &[String] {
        &self.not_counted
    }
    /// Who was counted, for people.
    pub(super) fn text(&self) -> String {
        let servers = self.processes.iter().map(|process| format!(", {} {}", process.roles.join("+"), process.pid));
        let mut text =
            format!("counted (process numbers): client {}{}", std::process::id(), servers.collect::<String>());
        for why in &self.not_counted {
            text.push_str(&format!("\nnot counted: {why}"));
        }
        text
    }
}

/// The figures of an operations page.
pub(super) async fn metrics(address: &str) -> Result<String, String> {
    let text = page::ask(address, "/metrics").await.map_err(|error| error.to_string())?;
    if page::is_ok(&text) { Ok(text) } else { Err(text.lines().next().unwrap_or("no answer").to_owned()) }
}

/// Sum of a metric over its labels, in the text of a page.
pub(super) fn value_of(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
        rest.rsplit_once(' ')?.1.parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

fn role_in(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("blockyard_build_info{"))?;
    Some(line.split_once("role=\"")?.1.split_once('"')?.0.to_owned())
}

/// What work cost, each time divided by what was done: by whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs {
    all: Series,
    client: Series,
    namenode: Series,
    datanodes: Series,
    together: Series,
}

impl Costs {
    /// Processor time, times `scale` (1e6: in µs), for each of `count` things.
    pub(super) fn add_cpu(&mut self, spent: &Spent, scale: f64, count: f64) {
        self.add(spent, |used| used.cpu_s * scale / count.max(1e-9));
        self.client.add(spent.client.cpu_s * scale / count.max(1e-9));
    }
    /// Calls that moved data, for each of `count` things.
    pub(super) fn add_calls(&mut self, spent: &Spent, count: f64) {
        self.add(spent, |used| used.calls / count.max(1e-9));
        self.client.add(spent.client.calls / count.max(1e-9));
    }
    /// How often each of `count` bytes went from the kernel to a process or back.
    pub(super) fn add_copies(&mut self, spent: &Spent, count: f64) {
        self.add(spent, |used| used.copied_bytes / count.max(1e-9));
        self.client.add(spent.client.copied_bytes / count.max(1e-9));
    }
    /// Syncs for each of `count` things.
    pub(super) fn add_syncs(&mut self, spent: &Spent, count: f64) {
        self.add(spent, |used| used.syncs / count.max(1e-9));
    }
    fn add(&mut self, spent: &Spent, of: impl Fn(Used) -> f64) {
        let mut all = of(spent.client);
        let servers = [
            (spent.namenode, &mut self.namenode),
            (spent.datanodes, &mut self.datanodes),
            (spent.together, &mut self.together),
        ];
        for (used, series) in servers {
            if let Some(used) = used {
                series.add(of(used));
                all += of(used);
            }
        }
        self.all.add(all);
    }
    fn parts(&self) -> impl Iterator<Item = (&'static str, &Series)> {
        let parts = [
            ("client", &self.client),
            ("namenode", &self.namenode),
            ("datanodes", &self.datanodes),
            ("servers", &self.together),
        ];
        parts.into_iter().filter(|(_, series)| !series.is_empty())
    }
    pub(super) const fn all(&self) -> &Series {
        &self.all
    }
    /// Median, ends, and the median of each part.
    pub(super) fn json(&self) -> Value {
        let mut value = self.all.json();
        for (part, series) in self.parts() {
            value[part] = short(series.median()).into();
        }
        value
    }
    /// `client 0.61, datanodes 3.2`.
    pub(super) fn text(&self) -> String {
        let parts: Vec<String> =
            self.parts().map(|(part, series)| format!("{part} {}", short(series.median()))).collect();
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "HTTP/1.1 200 OK\r\n\r\n# TYPE blockyard_build info\n\
        blockyard_build_info{role=\"datanode\",version=\"0.1.0\"} 1\nprocess_pid 17\nprocess_pid_other 5\n\
        blockyard_disk_syncs_total{of=\"data\"} 3\nblockyard_disk_syncs_total{of=\"names\"} 4\n# EOF\n";

    #[test]
    fn a_page_tells_role_process_and_sums() {
        assert_eq!(role_in(PAGE).as_deref(), Some("datanode"));
        assert_eq!(value_of(PAGE, "process_pid"), Some(17.0));
        assert_eq!(value_of(PAGE, "blockyard_disk_syncs_total"), Some(7.0));
        assert_eq!(value_of(PAGE, "blockyard"), None);
    }

    #[test]
    fn copies_are_bytes_that_went_through_the_process() {
        let page = "blockyard_moving_calls_total{of=\"open\"} 2\nblockyard_moving_calls_total{of=\"send\"} 5\n\
            blockyard_moved_bytes_total{of=\"read\"} 7\nblockyard_moved_bytes_total{of=\"send\"} 30\n\
            blockyard_moved_bytes_total{of=\"sendfile\"} 1000\n";
        let told = Used::told(page);
        assert_eq!((told.calls, told.copied_bytes), (7.0, 37.0));
        let before = Used::here();
        moved::note(Move::Send, 10);
        moved::note(Move::SendFile, 1 << 40);
        let since = Used::here().since(before);
        assert!(since.calls >= 2.0 && (10.0..1e12).contains(&since.copied_bytes), "{since:?}");
    }

    #[test]
    fn a_process_of_several_roles_is_counted_once() {
        let mut roles = Roles::default();
        roles.add("127.0.0.1:1", PAGE);
        roles.add("127.0.0.1:2", &PAGE.replace("datanode", "namenode"));
        roles.add("127.0.0.1:3", &PAGE.replace("pid 17", "pid 18"));
        roles.add("10.0.0.1:3", PAGE);
        roles.add("10.0.0.1:4", "HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(roles.processes.len(), 3);
        assert_eq!(roles.processes[0].roles, ["datanode", "namenode"]);
        assert_eq!(roles.not_counted.len(), 1);
        let used = |cpu_s, syncs| Used { cpu_s, syncs, ..Used::default() };
        let look = |cpu_s, syncs| Look { client: used(1.0, 0.0), servers: vec![used(cpu_s, syncs); 3] };
        let spent = roles.between(&look(1.0, 10.0), &look(3.0, 40.0));
        let (mut cpu, mut syncs) = (Costs::default(), Costs::default());
        cpu.add_cpu(&spent, 1.0, 2.0);
        syncs.add_syncs(&spent, 10.0);
        assert_eq!(cpu.json()["median"], 3.0);
        assert_eq!((&cpu.json()["servers"], &cpu.json()["datanodes"]), (&1.0.into(), &2.0.into()));
        assert_eq!((syncs.json()["median"].as_f64(), &syncs.json()["namenode"]), (Some(9.0), &Value::Null));
    }
}
