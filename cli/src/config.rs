//! `config`: the settings of the servers, seen from outside.
//!
//! ```text
//!   show       every key with its value, and with --origin where that comes from
//!   explain    what a key means                      ◀── keys: the one table of meanings
//!   validate   everything that is wrong with a file
//! ```

mod keys;
mod validate;

use std::path::PathBuf;

use base::config::{ConfigError, Shown, Sources, nearest};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::args::Global;
use crate::exit::Status;
use crate::server::Settings;
use keys::{KEYS, Key};

/// `config VERB`.
#[derive(Debug, Args)]
pub(crate) struct ConfigVerb {
    #[command(subcommand)]
    verb: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show the settings that a server would use here
    Show(ShowOptions),
    /// Explain a key
    Explain(ExplainOptions),
    /// Check a file, and say everything that is wrong with it
    Validate(ValidateOptions),
}

/// Flags of `config show`.
#[derive(Debug, Args)]
#[command(after_help = "\
A flag wins over BLOCKYARD_SECTION__KEY in the environment, that over the file, that over the default.

Examples:
  blockyard config show --config namenode.toml --origin namenode
  BLOCKYARD_DATANODE__RESERVE=2GiB blockyard config show datanode.reserve --origin")]
struct ShowOptions {
    /// A section or a key [default: all]
    #[arg(value_name = "SECTION|KEY")]
    what: Vec<String>,
    /// Settings (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// As for the servers: overrides a key of the file
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where each value comes from, too
    #[arg(long)]
    origin: bool,
}

/// Flags of `config explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockyard config explain namenode.trash_interval
  blockyard config explain datanode                   all keys of the section, a line each")]
struct ExplainOptions {
    /// A key, or a section [default: all keys, a line each]
    #[arg(value_name = "KEY|SECTION")]
    what: Vec<String>,
}

/// Flags of `config validate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Ends with 6 if something is wrong. Folders that the file leaves to flags are not missed.

Example:
  blockyard config validate namenode.toml")]
struct ValidateOptions {
    /// The file
    file: PathBuf,
}

/// Runs `config VERB`.
pub(crate) fn run(verb: &ConfigVerb, global: &Global) -> Status {
    let ended = match &verb.verb {
        ConfigCommand::Show(options) => show(options, global),
        ConfigCommand::Explain(options) => explain(options, global),
        ConfigCommand::Validate(options) => validate::run(&options.file, global),
    };
    ended.unwrap_or_else(|error| {
        for fault in &error.faults {
            tell(global, "error", &fault.origin, &fault.message);
        }
        Status::USAGE
    })
}

/// Says a fault, or that there is none.
fn tell(global: &Global, kind: &str, origin: &str, message: &str) {
    if global.json {
        print(&json!({"v": 1, "type": kind, "code": "bad_setting", "origin": origin, "message": message}).to_string());
    } else if origin.is_empty() {
        eprintln!("error: {message}");
    } else {
        eprintln!("error: {origin}: {message}");
    }
}

/// Prints a line; whoever does not read it has seen enough.
fn print(line: &str) {
    use std::io::Write;
    if let Err(error) = writeln!(std::io::stdout().lock(), "{line}")
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("error: cannot write to standard output: {error}");
    }
}

/// The keys that words name: keys themselves, or sections.
fn chosen(words: &[String]) -> Result<Vec<&'static Key>, ConfigError> {
    if words.is_empty() {
        return Ok(KEYS.iter().collect());
    }
    let mut found = Vec::new();
    for word in words {
        let before = found.len();
        found.extend(KEYS.iter().filter(|key| key.name == word || key.section() == word));
        if found.len() == before {
            return Err(ConfigError::one("", unknown(word)));
        }
    }
    Ok(found)
}

fn unknown(word: &str) -> String {
    let sections = KEYS.iter().map(Key::section);
    let bare =
        KEYS.iter().filter(|key| key.name.split_once('.').is_some_and(|(_, key)| key == word)).map(|key| key.name);
    let near = bare.clone().next().or_else(|| nearest(word, KEYS.iter().map(|key| key.name).chain(sections)));
    match near {
        Some(near) => format!("unknown key {word:?}; did you mean {near:?}?"),
        None => format!("unknown key {word:?}; `blockyard config explain` lists them"),
    }
}

fn show(options: &ShowOptions, global: &Global) -> Result<Status, ConfigError> {
    let mut sources = Sources::new().process_environment();
    if let Some(file) = &options.config {
        sources = sources.file(file);
    }
    for text in &options.set {
        let parts =
            text.split_once('=').ok_or_else(|| ConfigError::one("flag --set", format!("{text:?} is not KEY=VALUE")))?;
        sources = sources.flag(parts.0.trim(), "--set", parts.1);
    }
    let settings = base::config::show::<Settings>(&sources)?;
    let wanted = chosen(&options.what)?;
    let width = wanted.iter().map(|key| key.name.len()).max().unwrap_or(0);
    for key in wanted {
        let Some(Shown { value, origin, .. }) = settings.iter().find(|setting| setting.key == key.name) else {
            continue;
        };
        if global.json {
            print(&json!({"v": 1, "type": "setting", "key": key.name, "value": value, "origin": origin}).to_string());
        } else if options.origin {
            print(&format!("{:<width$} = {:<24}  # {origin}", key.name, in_toml(value)));
        } else {
            print(&format!("{:<width$} = {}", key.name, in_toml(value)));
        }
    }
    Ok(Status::OK)
}

/// The value as it is written in a file.
fn in_toml(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => toml::Value::String(text.clone()).to_string(),
        // Numbers, booleans and lists of texts are written alike in both.
        other => other.to_string().replace("\",\"", "\", \""),
    }
}

fn explain(options: &ExplainOptions, global: &Global) -> Result<Status, ConfigError> {
    let defaults = base::config::show::<Settings>(&Sources::new())?;
    let default = |key: &Key| {
        let found = defaults.iter().find(|setting| setting.key == key.name);
        found.map_or(serde_json::Value::Null, |setting| setting.value.clone())
    };
    let wanted = chosen(&options.what)?;
    let whole = options.what.iter().all(|word| word.contains('.')) && !options.what.is_empty();
    let width = wanted.iter().map(|key| key.name.len()).max().unwrap_or(0);
    for (at, key) in wanted.into_iter().enumerate() {
        if global.json {
            print(
                &json!({
                    "v": 1, "type": "key", "key": key.name, "kind": key.kind.name(), "default": default(key),
                    "meaning": key.meaning, "used": key.used, "once": key.once, "environment": key.variable(),
                })
                .to_string(),
            );
        } else if whole {
            print(&format!("{}{}", if at == 0 { "" } else { "\n" }, key.text(&in_toml(&default(key)))));
        } else {
            print(&format!("{:<width$}  {}", key.name, key.meaning));
        }
    }
    Ok(Status::OK)
}

/// The page `docs/cli/settings.md`.
#[cfg(test)]
pub(crate) fn page() -> String {
    let defaults = base::config::show::<Settings>(&Sources::new()).unwrap();
    let mut page = String::from(
        "# Settings\n\nA flag wins over the environment, that over the file, that over the default. This page is made from the\ntable \
         behind `blockyard config explain`; a test holds both together, and the table against what the servers read.\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            section = key.section();
            page.push_str(&format!("\n## {section}\n\n| key | default | written as | meaning |\n|---|---|---|---|\n"));
        }
        let default = defaults.iter().find(|setting| setting.key == key.name).unwrap();
        let once = if key.once { " Read when a cluster is made, never again." } else { "" };
        let (name, default) = (key.name.trim_start_matches(section).trim_start_matches('.'), in_toml(&default.value));
        page.push_str(&format!("| `{name}` | `{default}` | {} | {}{once} |\n", key.kind.name(), key.meaning));
    }
    page
}
