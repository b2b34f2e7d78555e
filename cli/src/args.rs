//! What can be typed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::ConfigVerb;
use crate::dev::ports::Ports;
use crate::exit::{self, Status};
use crate::manual::{CompletionsOptions, ManOptions};
use crate::verbs::Verb;
use crate::verbs::find::ONE_DASH;

/// Everything on the command line.
#[derive(Debug, Parser)]
#[command(
    name = "blockyard",
    version,
    about = "A distributed file system in one binary",
    long_about = "A distributed file system in one binary: a namenode keeps the names, datanodes keep checksummed copies \
        of blocks,\nand the verbs below work on the files.",
    after_help = "First steps:
  blockyard dev                                   a cluster on this machine, in ./blockyard-data
  export BLOCKYARD_FS=blockyard://127.0.0.1:8020  which cluster the verbs talk to (this one is the default)
  blockyard put -r DIR /x                         copy a tree in
  blockyard ls /x                                 look at it
  blockyard get -r /x DIR                         copy it out

`blockyard VERB --help` explains a verb, `blockyard help exit-codes` the exit statuses.",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The cluster: blockyard://HOST:PORT
    #[arg(
        long,
        short = 'F',
        global = true,
        value_name = "URI",
        env = "BLOCKYARD_FS",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub(crate) fs: Option<String>,
    /// Act as this user [default: the user of the operating system]
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "BLOCKYARD_USER",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub(crate) user: Option<String>,
    /// Print JSON, one object a line
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Read replicas on this machine without the network: auto or off
    #[arg(
        long,
        global = true,
        value_name = "auto|off",
        value_parser = local_reads,
        default_value = "auto",
        hide_default_value = true,
        env = "BLOCKYARD_LOCAL_READS",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub(crate) local_reads: client::LocalReads,
}

fn local_reads(text: &str) -> Result<client::LocalReads, String> {
    match text {
        "auto" => Ok(client::LocalReads::Auto),
        "off" => Ok(client::LocalReads::Off),
        _ => Err("write auto or off".to_owned()),
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Files(Verb),
    /// Start a whole cluster on this machine, for development
    Dev(DevOptions),
    /// Run a namenode
    Namenode(ServerOptions),
    /// Run a datanode
    Datanode(ServerOptions),
    /// Mount the cluster at a directory of this machine
    Mount(crate::mount::MountOptions),
    /// Take a mount away
    Umount(crate::mount::UmountOptions),
    /// Look at settings, or check them
    Config(ConfigVerb),
    /// Print a script that completes verbs and flags in a shell
    Completions(CompletionsOptions),
    /// Write the manual pages
    Man(ManOptions),
    /// Measure a cluster
    Bench(crate::bench::BenchVerb),
    /// Put a cluster of its own under load and faults, and compare every byte
    Soak(crate::soak::SoakOptions),
    /// Explain a verb or a topic (exit-codes)
    Help(HelpTopic),
}

/// What `blockyard help` explains.
#[derive(Debug, Args)]
pub(crate) struct HelpTopic {
    /// A verb, or `exit-codes`
    topic: Vec<String>,
}

/// Flags of `blockyard dev`.
#[derive(Debug, Clone, Args)]
#[command(
    long_about = "Starts a namenode and datanodes on 127.0.0.1 that keep their data in one folder. Start it again with the \
        same folder and everything is there. For development: no TLS, and callers are believed who they say they are.",
    after_help = "The superuser of a new cluster is the user who makes it: that of the operating system, or --user NAME.

Examples:
  blockyard dev                                       ./blockyard-data, three datanodes, ports 8020, 9870, …
  blockyard dev --ephemeral --ports random            beside a running one; data are gone at the end
  blockyard dev --ephemeral --exec 'blockyard put x / && blockyard cat /x'      for tests: ends with CMD's status"
)]
pub(crate) struct DevOptions {
    /// Folder of all data
    #[arg(long, value_name = "DIR", default_value = "./blockyard-data", conflicts_with = "ephemeral")]
    pub(crate) dir: PathBuf,
    /// Use a temporary folder and remove it at the end
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Number of datanodes [default: 3, or as many as the folder has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) datanodes: Option<u16>,
    /// `default` (8020, 9870, 9866, …; a taken one is replaced), `random`, or the first of a row of ports
    #[arg(long, value_name = "default|random|BASE", default_value = "default")]
    pub(crate) ports: Ports,
    /// Run each role as a process of its own
    #[arg(long)]
    pub(crate) processes: bool,
    /// Run `sh -c CMD` with BLOCKYARD_FS set, then stop everything and end with its status
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: Option<String>,
    /// Set an environment variable for one role, as ROLE:NAME=VALUE (roles: namenode, dn1, dn2, …)
    #[arg(long, value_name = "ROLE:NAME=VALUE", requires = "processes", hide = true)]
    pub(crate) role_env: Vec<crate::dev::roles::RoleEnv>,
}

/// Flags of a server verb. All but `--config` override keys of the file.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerOptions {
    /// Settings (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Overrides a key of the file, as section.key=value; repeat for more
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Folder of the data
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Listen on addresses that other machines can reach, without authentication or encryption
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Write logs to this file instead of standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// End when standard input ends: for a parent that must not leave children behind
    #[arg(long, hide = true)]
    pub(crate) end_with_parent: bool,
}

/// Reads the command line. `Err`: everything was said already, end with this status.
pub(crate) fn parse() -> Result<Cli, Status> {
    Cli::try_parse_from(with_two_dashes(words())).map_err(|error| {
        let status = if error.use_stderr() { Status::USAGE } else { Status::OK };
        report(&error);
        status
    })
}

/// What was typed; called by mount(8), what that means.
pub(crate) fn words() -> Vec<OsString> {
    let words: Vec<OsString> = std::env::args_os().collect();
    crate::mount::helper::translated(&words).unwrap_or(words)
}

/// `find -name x` is how people know it: conditions of `find` may be written with one dash.
fn with_two_dashes(mut words: Vec<OsString>) -> Vec<OsString> {
    let is_value = |at: usize| words.get(at).is_some_and(|word| word == "--fs" || word == "-F" || word == "--user");
    let verb = (1..words.len()).find(|at| {
        let dashed = words.get(*at).is_some_and(|word| word.as_encoded_bytes().starts_with(b"-"));
        !dashed && !is_value(at - 1)
    });
    let Some(verb) = verb.filter(|at| words.get(*at).is_some_and(|word| word == "find")) else { return words };
    for word in words.iter_mut().skip(verb + 1) {
        if let Some((_, flag)) = ONE_DASH.iter().find(|(name, _)| word == name) {
            *word = flag.into();
        }
    }
    words
}

fn report(error: &clap::Error) {
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
    {
        let cli = Cli::command();
        let words: Vec<String> = std::env::args().skip(1).collect();
        let verbs: Vec<&str> = within(&cli, &words).get_subcommands().map(clap::Command::get_name).collect();
        eprintln!("{}", unknown_verb(word, &verbs));
        return;
    }
    if let Err(failed) = error.print() {
        eprintln!("{error}: {failed}");
    }
}

/// The innermost verb that the words name: `node` of `node decomission`.
fn within<'a>(cli: &'a clap::Command, words: &[String]) -> &'a clap::Command {
    words.iter().fold(cli, |at, word| at.find_subcommand(word).unwrap_or(at))
}

fn unknown_verb(word: &str, verbs: &[&str]) -> String {
    match base::config::nearest(word, verbs.iter().copied()) {
        Some(near) => format!("error: unknown command {word:?}; did you mean {near:?}?"),
        None => format!("error: unknown command {word:?}; the commands are {}", verbs.join(", ")),
    }
}

/// `blockyard help [TOPIC]`.
pub(crate) fn help(topic: &HelpTopic) -> Status {
    if topic.topic.first().is_some_and(|word| word == "exit-codes") {
        print!("{}", exit::TEXT);
        return Status::OK;
    }
    let mut command = Cli::command();
    command.build();
    let mut at = &mut command;
    for word in &topic.topic {
        let verbs: Vec<String> = at.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        match at.find_subcommand_mut(word) {
            Some(found) => at = found,
            None => {
                let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
                eprintln!("{}", unknown_verb(word, &verbs));
                return Status::USAGE;
            }
        }
    }
    match at.print_long_help() {
        Ok(()) => Status::OK,
        Err(error) => {
            eprintln!("error: {error}");
            Status::FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn conditions_of_find_may_have_one_dash() {
        let words = |words: &[&str]| {
            let given = words.iter().map(OsString::from).collect();
            let made = with_two_dashes(given).into_iter();
            made.map(|word| word.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(words(&["b", "--user", "x", "find", "/", "-name", "-size"])[5..], ["--name", "--size"]);
        assert_eq!(words(&["b", "ls", "find", "-name"])[3], "-name");
        assert_eq!(words(&["b", "--user", "find", "ls", "-name"])[4], "-name");
        assert_eq!(words(&["b", "find", "-x", "--name"])[2..], ["-x", "--name"]);
        assert!(
            Cli::try_parse_from(words(&["b", "find", "/", "-name", "*.x", "-size", "-1k", "-mtime", "+3"])).is_ok()
        );
    }

    #[test]
    fn an_unknown_verb_below_another_is_compared_with_its_own() {
        let cli = Cli::command();
        let words = ["--json", "node", "lls"].map(str::to_owned);
        assert_eq!(within(&cli, &words).get_name(), "node");
        assert_eq!(within(&cli, &words[2..]).get_name(), "blockyard");
    }

    #[test]
    fn an_unknown_verb_names_the_nearest() {
        assert_eq!(
            unknown_verb("namenod", &["ls", "namenode"]),
            r#"error: unknown command "namenod"; did you mean "namenode"?"#
        );
        assert!(unknown_verb("xyzzy", &["ls", "namenode"]).ends_with("the commands are ls, namenode"));
    }
}
