//! A network of namespaces: one for each machine, a bridge between them, faults by nftables. Needs root, `ip` and `nft`.
//!
//! ```text
//!   blockyard-PID-N-switch   br0 ─┬─ veth ─ eth0 10.77.0.1  blockyard-PID-N-namenode
//!                                 ├─ veth ─ eth0 10.77.0.2  blockyard-PID-N-dn1
//!                                 └─ …                      rules are in the namespace of the machine that they hit
//! ```
//!
//! The machine's own network is not touched. A dropped [`Net`] removes its namespaces, and with them links and rules;
//! what a killed test left is removed by the next one.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::is_alive;

/// Where `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";
/// How all our names begin.
const PREFIX: &str = "blockyard-";
/// Networks of this process.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// What happens to the packets of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// Nothing comes in, nothing goes out, without a word.
    Both,
    /// What others send does not arrive; what it sends does.
    Inward,
    /// What it sends does not arrive; what others send does.
    Outward,
    /// Every connection is reset by its next packet, and new ones are refused.
    Reset,
    /// Nothing goes to this machine; all others are reached.
    To(Ipv4Addr),
}

impl Cut {
    /// The rules that make it so, for the chains of incoming and outgoing packets.
    fn rules(&self) -> (String, String) {
        let (nothing, drop_in, drop_out) =
            (String::new(), "iifname \"eth0\" drop".to_owned(), "oifname \"eth0\" drop".to_owned());
        match self {
            Self::Both => (drop_in, drop_out),
            Self::Inward => (drop_in, nothing),
            Self::Outward => (nothing, drop_out),
            // A reset is let in: it is how the machine itself learns of it.
            Self::Reset => (
                "iifname \"eth0\" tcp flags & rst == rst accept\n\
                 iifname \"eth0\" meta l4proto tcp reject with tcp reset"
                    .to_owned(),
                nothing,
            ),
            Self::To(peer) => (nothing, format!("ip daddr {peer} drop")),
        }
    }
}

/// A network. Dropped, it is gone.
#[derive(Debug)]
pub struct Net {
    prefix: String,
    machines: Vec<String>,
}

impl Net {
    /// A network of machines with these names; `None` where that is not possible, with the reason printed.
    ///
    /// # Panics
    /// If it can be begun but not finished.
    #[must_use]
    pub fn new(machines: &[String]) -> Option<Self> {
        if let Some(why) = impossible() {
            println!("skipped: {why}");
            return None;
        }
        sweep();
        let prefix = format!("{PREFIX}{}-{}-", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        // From here on the guard cleans up.
        let net = Self { prefix, machines: machines.to_vec() };
        let switch = net.name("switch");
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        for machine in machines {
            net.add(&switch, machine);
        }
        Some(net)
    }

    fn add(&self, switch: &str, machine: &str) {
        let (name, port) = (self.name(machine), format!("to-{machine}"));
        let address = format!("{}/24", self.address(machine));
        ip(&["netns", "add", &name]);
        ip(&["-n", switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name]);
        ip(&["-n", switch, "link", "set", &port, "master", "br0"]);
        ip(&["-n", switch, "link", "set", &port, "up"]);
        ip(&["-n", &name, "addr", "add", &address, "dev", "eth0"]);
        ip(&["-n", &name, "link", "set", "eth0", "up"]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
    }

    fn name(&self, machine: &str) -> String {
        format!("{}{machine}", self.prefix)
    }

    /// Address of a machine.
    ///
    /// # Panics
    /// If there is no such machine.
    #[must_use]
    pub fn address(&self, machine: &str) -> Ipv4Addr {
        let number = self.machines.iter().position(|one| one == machine).expect("a machine of this network");
        Ipv4Addr::new(10, 77, 0, u8::try_from(number + 1).expect("a small network"))
    }

    /// A command that runs on a machine instead of here. Its process is that of the command itself.
    #[must_use]
    pub fn on(&self, machine: &str, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.name(machine)]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// Does this to the packets of a machine, instead of what was done to them before.
    ///
    /// # Panics
    /// If the kernel does not take the rules.
    pub fn cut(&self, machine: &str, cut: &Cut) {
        let (inward, outward) = cut.rules();
        self.rules(
            machine,
            &format!(
                "flush ruleset\ntable inet faults {{\n\
                 chain inward {{\ntype filter hook input priority 0; policy accept;\n{inward}\n}}\n\
                 chain outward {{\ntype filter hook output priority 0; policy accept;\n{outward}\n}}\n}}\n"
            ),
        );
    }

    /// Lets all packets of a machine through again.
    ///
    /// # Panics
    /// As [`Net::cut`].
    pub fn heal(&self, machine: &str) {
        self.rules(machine, "flush ruleset\n");
    }

    fn rules(&self, machine: &str, text: &str) {
        use std::io::Write;
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.name(machine), "nft", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = nft.spawn().expect("nft starts");
        child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("rules");
        done(&child.wait_with_output().expect("nft ends"), text);
    }

    /// Names of the namespaces that are there.
    #[must_use]
    pub fn there(&self) -> Vec<String> {
        names().into_iter().filter(|name| name.starts_with(&self.prefix)).collect()
    }

    /// How the names of its namespaces begin.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.there().iter().for_each(|name| remove(name));
    }
}

/// Names of all namespaces.
#[must_use]
pub fn names() -> Vec<String> {
    let entries = std::fs::read_dir(NAMES).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Removes what processes left that are gone.
fn sweep() {
    for name in names() {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<i32>().ok());
        if pid.is_some_and(|pid| !is_alive(pid)) {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    match Command::new("ip").args(["netns", "del", name]).output() {
        Ok(done) if done.status.success() => {}
        // Another test sweeps too.
        _ if !Path::new(NAMES).join(name).exists() => {}
        other => eprintln!("cannot remove the namespace {name}: {other:?}"),
    }
}

fn impossible() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("networks of namespaces can only be made by root".to_owned());
    }
    for (program, probe) in [("ip", "-V"), ("nft", "--version")] {
        if let Err(error) = Command::new(program).arg(probe).output() {
            return Some(format!("networks of namespaces need the program {program}: {error}"));
        }
    }
    let probe = format!("{PREFIX}{}-probe-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
    let made = Command::new("ip").args(["netns", "add", &probe]).output().expect("ip runs");
    if !made.status.success() {
        return Some(format!("no namespace can be made here: {}", String::from_utf8_lossy(&made.stderr).trim()));
    }
    let ruled = Command::new("ip").args(["netns", "exec", &probe, "nft", "add", "table", "inet", "probe"]).output();
    remove(&probe);
    match ruled {
        Ok(ruled) if ruled.status.success() => None,
        other => Some(format!("no rules of nftables can be set here: {other:?}")),
    }
}

fn ip(args: &[&str]) {
    done(&Command::new("ip").args(args).output().expect("ip runs"), &args.join(" "));
}

fn done(output: &Output, what: &str) {
    assert!(output.status.success(), "failed: {what}: {}", String::from_utf8_lossy(&output.stderr));
}
