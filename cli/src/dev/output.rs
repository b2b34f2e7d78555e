//! What `blockyard dev` says: a banner for people, JSON lines for programs.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::folder::Folder;
use super::process::Ended;
use super::roles::{Facts, Kind};

/// A running role with its name in this cluster.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) facts: Facts,
}

/// The ready line of `--json`.
#[derive(Debug, Serialize)]
struct ReadyLine<'a> {
    v: u32,
    #[serde(rename = "type")]
    line: &'static str,
    fs: &'a str,
    http: String,
    roles: Vec<RoleLine<'a>>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct RoleLine<'a> {
    role: Kind,
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    dir: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<SocketAddr>,
    http: String,
    name: &'a str,
}

#[derive(Debug, Serialize)]
struct EventLine<'a> {
    v: u32,
    #[serde(rename = "type")]
    line: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Speaks in the form that was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    /// With `--exec`, standard output belongs to the command: everything is said on standard error.
    pub(crate) aside: bool,
}

impl Output {
    /// Everything runs.
    pub(crate) fn ready(self, fs: &str, roles: &[Named], folder: &Folder, replication: u16, after: Duration) {
        let text = if self.json {
            let namenode = roles.iter().find(|role| role.facts.role == Kind::Namenode);
            let line = ReadyLine {
                v: 1,
                line: "ready",
                fs,
                http: namenode.map_or_else(String::new, |role| format!("http://{}", role.facts.http)),
                roles: roles.iter().map(role_line).collect(),
                seconds: (after.as_secs_f64() * 1000.0).round() / 1000.0,
            };
            serde_json::to_string(&line).unwrap_or_default()
        } else {
            banner(fs, roles, folder, replication, after)
        };
        self.say(&text);
    }

    /// A role ended by itself.
    pub(crate) fn ended(self, ended: &Ended) {
        let text = format!("{} ended with {}", ended.name, ended.how);
        self.event("exit", Some(&ended.name), text);
    }

    /// Something worth knowing, such as a replaced port.
    pub(crate) fn note(self, text: &str) {
        self.event("note", None, text.to_owned());
    }

    /// Everything stops now.
    pub(crate) fn stopping(self) {
        self.event("stopping", None, "stopping; Ctrl-C again ends it at once".to_owned());
    }

    fn event(self, line: &str, name: Option<&str>, text: String) {
        if self.json {
            let event = EventLine { v: 1, line, name, message: Some(text) };
            self.say(&serde_json::to_string(&event).unwrap_or_default());
        } else {
            self.say(&text);
        }
    }

    fn say(self, text: &str) {
        let said = if self.aside { writeln!(io::stderr(), "{text}") } else { writeln!(io::stdout(), "{text}") };
        if let Err(error) = said {
            // Nobody listens any more: the cluster goes on, the log keeps the words.
            tracing::warn!(%error, text, "cannot say this");
        }
    }
}

fn role_line(role: &Named) -> RoleLine<'_> {
    let facts = &role.facts;
    RoleLine {
        role: facts.role,
        pid: facts.pid,
        id: &facts.id,
        dir: &facts.dir,
        data: (facts.role == Kind::Datanode).then_some(facts.address),
        http: format!("http://{}", facts.http),
        name: &role.name,
    }
}

fn banner(fs: &str, roles: &[Named], folder: &Folder, replication: u16, after: Duration) -> String {
    let http = roles.iter().find(|role| role.facts.role == Kind::Namenode).map(|role| role.facts.http);
    let http = http.map_or_else(String::new, |address| format!("http://{address}"));
    let nodes: Vec<String> = roles
        .iter()
        .filter(|role| role.facts.role == Kind::Datanode)
        .map(|role| format!("{} :{}", role.name, role.facts.address.port()))
        .collect();
    format!(
        "blockyard {version} development cluster: not for production data (no TLS, callers are believed, one machine)

  files     {fs}     export BLOCKYARD_FS={fs}
  health    {http}/readyz
  metrics   {http}/metrics
  nodes     {nodes}      replication {replication}
  data      {top} ({free})

ready in {seconds:.2} s.  Try:
  blockyard put README.md /      blockyard ls /      blockyard cat /README.md      blockyard cluster status
  Ctrl-C stops everything",
        version = env!("CARGO_PKG_VERSION"),
        nodes = nodes.join("  "),
        top = folder.top().display(),
        free = folder.free(),
        seconds = after.as_secs_f64(),
    )
}
