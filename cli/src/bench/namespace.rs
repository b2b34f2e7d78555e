//! `blockyard bench namespace`: builds a namespace and its block map in this process, from log entries as the server
//! applies them, and measures both.
//!
//! ```text
//!   world     files by apply: mkdir, create, complete, delete, reclaim; the block map follows with reports
//!   image     written and loaded through the image store, with its checksums and syncs
//!   hardware  what memory and disk can do, in the same run
//!   stalls    a namenode with such a state, everything slow at once, and how long a status takes meanwhile
//! ```

mod hardware;
mod image;
mod names;
mod report;
mod stalls;
mod world;

use std::path::PathBuf;

use clap::Args;

use crate::exit::Status;

use report::Report;
use world::World;

/// Flags of `blockyard bench namespace`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  blockyard bench namespace                        a million files
  blockyard bench namespace --files 10000000       ten million: takes about 2 GB of memory and of disk
  blockyard bench namespace --json --dir /data     as one JSON object, the image on that disk
  blockyard bench namespace --stalls               how long a status takes while a tree of a million files is deleted,
                                                   images are written, a datanode reports and a directory is listed")]
pub(crate) struct NamespaceOptions {
    /// Number of files, of one block with three replicas each
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=200_000_000))]
    files: u64,
    /// Folder for the image [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Number of datanodes, with one storage each
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(3..=10_000))]
    nodes: u64,
    /// Measure how long a status takes while everything slow happens at once, to N files each
    #[arg(long, conflicts_with_all = ["only", "nodes", "rounds"])]
    stalls: bool,
    /// Do this only, and no image, deletes and hardware: for counting instructions
    #[arg(long, hide = true)]
    only: Option<Only>,
    /// How often the calls of `--only` are made: two runs with different numbers differ by these calls alone
    #[arg(long, hide = true, default_value_t = 1)]
    rounds: u64,
}

/// One thing to do, many times, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// Create and complete.
    Create,
    /// Then as many status calls as files.
    Stat,
    /// Then list everything.
    List,
}

/// What went wrong, in words.
type Outcome<T> = Result<T, String>;

/// Measures and prints.
pub(super) fn run(options: &NamespaceOptions, json: bool) -> Outcome<Status> {
    let mut report = Report::new(json);
    if options.stalls {
        let folder = folder(options)?;
        stalls::measure(options.files, folder.path(), &mut report)?;
        return report.print().map(|()| Status::OK);
    }
    let mut world = World::new(options.nodes, options.only.is_none())?;
    let before_bytes = world::resident_bytes();
    world.make_directories(options.files)?;
    world.create_files(options.files)?;
    if options.only.is_none() {
        world.report_speed(options.files, &mut report);
    }
    world.report_memory(options.files, before_bytes, &mut report);
    if options.only.is_some() {
        match options.only {
            Some(Only::Stat) => world.stat_random(options.files, options.rounds, &mut report)?,
            Some(Only::List) => world.list_all(options.rounds, &mut report)?,
            Some(Only::Create) | None => {}
        }
        return report.print().map(|()| Status::OK);
    }
    world.stat_random(options.files.clamp(1_000_000, 4_000_000), 1, &mut report)?;
    world.list_all(1, &mut report)?;
    world.delete_and_make_again(options.files, &mut report)?;
    hardware::memory(&mut report);
    let folder = folder(options)?;
    let image_bytes = image::measure(&world.namespace, folder.path(), &mut report)?;
    hardware::disk(folder.path(), image_bytes, &mut report)?;
    report.print().map(|()| Status::OK)
}

fn folder(options: &NamespaceOptions) -> Outcome<tempfile::TempDir> {
    let folder = match &options.dir {
        Some(dir) => tempfile::Builder::new().prefix("blockyard-bench-").tempdir_in(dir),
        None => tempfile::Builder::new().prefix("blockyard-bench-").tempdir(),
    };
    folder.map_err(|error| format!("no folder for the image: {error}"))
}
