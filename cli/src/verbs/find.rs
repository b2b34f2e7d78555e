//! `find`: names below a directory that fit. The conditions themselves are in [`condition`].

mod condition;

use base::clock::{Clock, SystemClock};
use clap::Args;

use super::Outcome;
use super::context::Context;
use super::each::{each, start};
use super::entry::object;
use super::failure::Failure;
use super::paths::PATHS_HELP;
use super::paths::glob::Names;
use super::paths::walk::{Found, Walk};
use condition::{Amount, Condition, Kinds, Mode, read_age, read_kinds, read_perm, read_size};

/// Flags of `find`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
All conditions must hold. Their names may also be written with one dash, as in `find / -name '*.log'`.

{PATHS_HELP}

Examples:
  blockyard find /logs --name '*.gz' --mtime +30        files that did not change for 30 days
  blockyard find /data --type f --size +1G --json       large files, for a script
  blockyard find . --type d --empty --print0 | xargs -0 blockyard rmdir")
)]
pub(crate) struct FindOptions {
    /// Where to look
    #[arg(default_value = "/", value_name = "PATH")]
    paths: Vec<String>,
    /// The name fits this pattern
    #[arg(long, value_name = "PATTERN", value_parser = |text: &str| Names::parse(text, false))]
    name: Option<Names>,
    /// The name fits this pattern, large and small letters alike
    #[arg(long, value_name = "PATTERN", value_parser = |text: &str| Names::parse(text, true))]
    iname: Option<Names>,
    /// The whole path fits this pattern; * also stands for slashes
    #[arg(long, value_name = "PATTERN", value_parser = |text: &str| Names::parse(text, false))]
    path: Option<Names>,
    /// Of this kind: f file, d directory, l symbolic link; several with commas
    #[arg(long, value_name = "f|d|l", value_parser = read_kinds)]
    r#type: Option<Kinds>,
    /// This many bytes, with K, M, G, T; +N more than that, -N less
    #[arg(long, value_name = "[+-]N", value_parser = read_size, allow_hyphen_values = true)]
    size: Option<Amount>,
    /// Changed this many whole days ago; +N longer ago, -N less long; also 90m, 6h, 7d
    #[arg(long, value_name = "[+-]N", value_parser = read_age, allow_hyphen_values = true)]
    mtime: Option<Amount>,
    /// Read this long ago, as --mtime
    #[arg(long, value_name = "[+-]N", value_parser = read_age, allow_hyphen_values = true)]
    atime: Option<Amount>,
    /// Changed after this file of the cluster was
    #[arg(long, value_name = "FILE")]
    newer: Option<String>,
    /// An empty file or directory
    #[arg(long)]
    empty: bool,
    /// Of this owner; -user NAME, with one dash, is the same
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Of this group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Exactly these permission bits; -MODE all of them, /MODE any
    #[arg(long, value_name = "[-/]MODE", value_parser = read_perm, allow_hyphen_values = true)]
    perm: Option<Mode>,
    /// Go this deep at most; 0: PATH itself only
    #[arg(long, value_name = "N")]
    maxdepth: Option<usize>,
    /// Leave out what is less deep
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    mindepth: usize,
    /// A zero byte after each path, for xargs -0
    #[arg(long)]
    print0: bool,
    /// Print paths, as without it
    #[arg(long, hide = true)]
    print: bool,
}

/// Conditions that may be written with one dash, and their flags. `--user` is who calls, with every verb.
pub(crate) const ONE_DASH: &[(&str, &str)] = &[
    ("-name", "--name"),
    ("-iname", "--iname"),
    ("-path", "--path"),
    ("-type", "--type"),
    ("-size", "--size"),
    ("-mtime", "--mtime"),
    ("-atime", "--atime"),
    ("-newer", "--newer"),
    ("-empty", "--empty"),
    ("-user", "--owner"),
    ("-group", "--group"),
    ("-perm", "--perm"),
    ("-maxdepth", "--maxdepth"),
    ("-mindepth", "--mindepth"),
    ("-print0", "--print0"),
    ("-print", "--print"),
];

/// Runs `find`.
pub(crate) async fn run(options: &FindOptions, context: &Context) -> Outcome {
    let now_ns = SystemClock::new().wall_ns();
    let newer = match &options.newer {
        Some(file) => Some(context.client.stat(&context.absolute(file)?).await?.mtime_ns),
        None => None,
    };
    let condition = Condition {
        name: options.name.as_ref(),
        iname: options.iname.as_ref(),
        path: options.path.as_ref(),
        kinds: options.r#type,
        size: options.size,
        mtime: options.mtime,
        atime: options.atime,
        newer_than_ns: newer,
        empty: options.empty,
        user: options.owner.as_deref(),
        group: options.group.as_deref(),
        perm: options.perm,
        now_ns,
    };
    each(context, &options.paths, async |path| find(options, &condition, context, path).await).await
}

async fn find(options: &FindOptions, condition: &Condition<'_>, context: &Context, path: &str) -> Outcome {
    let top = start(context, path).await?;
    let mut walk = Walk::below(&context.client, &top);
    let mut found = top;
    let mut out = Page::default();
    loop {
        if options.maxdepth.is_some_and(|most| found.depth >= most) {
            walk.prune();
        }
        if found.depth >= options.mindepth && condition.holds(&found) {
            out.push(options, context, &found)?;
        }
        found = loop {
            match walk.next().await {
                None => return out.print(context),
                Some(Ok(found)) => break found,
                Some(Err(failure)) => {
                    out.print(context)?;
                    context.output.item_failed(&failure);
                }
            }
        };
    }
}

/// Lines that are printed together.
#[derive(Debug, Default)]
struct Page {
    bytes: Vec<u8>,
}

impl Page {
    const FULL_BYTES: usize = 64 << 10;

    fn push(&mut self, options: &FindOptions, context: &Context, found: &Found) -> Outcome {
        if context.output.is_json() {
            let object = object(&found.status, &found.path);
            serde_json::to_writer(&mut self.bytes, &object).map_err(|error| Failure::output(&error.into()))?;
        } else {
            self.bytes.extend_from_slice(found.path.as_bytes());
        }
        self.bytes.push(if options.print0 { 0 } else { b'\n' });
        if self.bytes.len() >= Self::FULL_BYTES { self.print(context) } else { Ok(()) }
    }

    fn print(&mut self, context: &Context) -> Outcome {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let printed = context.output.bytes(&self.bytes);
        self.bytes.clear();
        printed
    }
}
