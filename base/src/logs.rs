//! Logs: for people on a terminal, one JSON object a line otherwise. The audit trail is the target `audit`.
//!
//! The level comes from `BLOCKYARD_LOG`, else `RUST_LOG`, else the role's default; `audit` records pass any
//! level unless a filter names that target. Fields of an event stand at the top of its JSON object.

mod file;
mod json;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

pub use file::RotatingFile;
use json::JsonLines;

/// Target of audit records: `tracing::info!(target: AUDIT, …)`.
pub const AUDIT: &str = "audit";

/// Where logs go and how they look.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Filter when neither `BLOCKYARD_LOG` nor `RUST_LOG` is set; empty: `info`.
    pub default_filter: String,
    /// Goes to this file (JSON lines, turned over at 64 MiB) instead of standard error.
    pub file: Option<PathBuf>,
}

/// Sets up logging for the process. Called once, first thing.
///
/// # Errors
/// A filter that does not parse, a log file that cannot be opened, or logging set up before.
pub fn init(options: &LogOptions) -> io::Result<()> {
    let filter = filter(options)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let done = match &options.file {
        Some(path) => builder.event_format(JsonLines).with_writer(RotatingFile::open(path)?).try_init(),
        None if io::stderr().is_terminal() => {
            let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            builder.with_ansi(colour).with_writer(io::stderr).try_init()
        }
        None => builder.event_format(JsonLines).with_writer(io::stderr).try_init(),
    };
    done.map_err(io::Error::other)
}

fn filter(options: &LogOptions) -> io::Result<EnvFilter> {
    let default = if options.default_filter.is_empty() { "info" } else { &options.default_filter };
    let text = ["BLOCKYARD_LOG", "RUST_LOG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| default.to_owned());
    let text = if text.contains(AUDIT) { text } else { format!("{text},{AUDIT}=info") };
    EnvFilter::try_new(&text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("log filter {text:?}: {error}")))
}
