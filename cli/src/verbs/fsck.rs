//! `fsck`: every file of a tree, step by step; in the end whether the namenode's totals are true. With `--full` every
//! replica is read, too.

mod full;

use bytes::Bytes;
use clap::Args;
use client::{FsckFile, FsckResponse};
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::failure::Failure;
use super::paths::PATHS_HELP;
use super::text::plain;
use super::text::size::{parse_positive, size};
use super::text::table::table;
use crate::exit::Status;
use full::Full;

/// Flags of `fsck`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
Asks the namenode for every file whose blocks are not all there, and for files that are being written. Nothing is
changed: copies that are missing are made by the cluster itself, without being asked. In the end all names are
counted from scratch and compared with the totals that the namenode keeps. For superusers.

With --full every datanode also reads its replicas of these files from its disks, and compares them with their checksums
and with the digest that was made when they were written. Damaged ones are named, and replaced by the cluster. What only
snapshots still have is left to the datanodes' own scrubbers.

Ends with 6 if data are missing or damaged, totals are wrong, or replicas could not be read; files with too few copies,
or open, are told only.

{PATHS_HELP}

Examples:
  blockyard fsck /data || blockyard cluster status
  blockyard fsck --full --rate 200M /data")
)]
pub(crate) struct FsckOptions {
    /// What to look at
    #[arg(default_value = "/", value_name = "PATH")]
    paths: Vec<String>,
    /// Print problems only
    #[arg(short, long)]
    quiet: bool,
    /// Also have every replica read whole by its datanode
    #[arg(long)]
    full: bool,
    /// With --full: bytes that each datanode reads a second at most, with K, M or G
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_positive, requires = "full")]
    rate: u64,
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Totals {
    files: u64,
    directories: u64,
    symlinks: u64,
    blocks: u64,
    len_bytes: u64,
    /// Files of which blocks are missing or damaged.
    broken: u64,
    /// Files with blocks that have too few copies.
    thin: u64,
    /// Files that are being written.
    open: u64,
    contradictions: u64,
    /// Could each directory be added up? One that changes all the time cannot.
    recounted: bool,
    /// Answers so far.
    calls: u64,
    /// What reading every replica came to, if that was asked for.
    full: Option<Full>,
}

impl Totals {
    fn add(&mut self, step: &FsckResponse) {
        self.files += step.files;
        self.directories += step.directories;
        self.symlinks += step.symlinks;
        self.blocks += step.blocks;
        self.len_bytes += step.len_bytes;
        for file in &step.problems {
            self.broken += u64::from(is_broken(file));
            self.thin += u64::from(!is_broken(file) && file.under_replicated + file.below_minimum > 0);
            self.open += u64::from(file.open_for_write);
        }
        self.contradictions += step.contradictions.len() as u64;
        self.recounted = step.recounted && (self.calls == 0 || self.recounted);
        self.calls += 1;
    }
    fn is_healthy(&self) -> bool {
        // What could not be read is not known to be sound.
        let doubtful = self.full.as_ref().is_some_and(|full| full.damaged + full.unread > 0);
        self.broken == 0 && self.contradictions == 0 && !doubtful
    }
}

const fn is_broken(file: &FsckFile) -> bool {
    file.missing > 0 || file.corrupt > 0
}

/// Runs `fsck`.
pub(crate) async fn run(options: &FsckOptions, context: &Context) -> Outcome {
    let mut healthy = true;
    for argument in &options.paths {
        for path in context.expand(argument).await? {
            match look(options, context, &path).await {
                Ok(totals) => {
                    healthy &= totals.is_healthy();
                    context.output.item_done();
                }
                Err(failure) if failure.is_quiet() => return Err(failure),
                Err(failure) => context.output.item_failed(&context.explained(failure.at(&path)).await),
            }
        }
    }
    // A problem that was found counts more than a path that could not be looked at.
    if healthy { Ok(()) } else { Err(Failure::verdict(Status::PROBLEMS)) }
}

async fn look(options: &FsckOptions, context: &Context, path: &str) -> Result<Totals, Failure> {
    let mut totals = Totals::default();
    let mut cursor = Bytes::new();
    loop {
        let step = context.client.fsck_step(path, cursor).await?;
        totals.add(&step);
        report(context, &step)?;
        if step.cursor.is_empty() {
            break;
        }
        cursor = step.cursor;
    }
    if options.full {
        totals.full = Some(full::read(context, path, options.rate).await?);
    }
    if context.output.is_json() {
        let mut object = json!({
            "v": 1, "type": "fsck", "path": path, "healthy": totals.is_healthy(), "files": totals.files,
            "directories": totals.directories, "symlinks": totals.symlinks, "blocks": totals.blocks,
            "size": totals.len_bytes, "broken_files": totals.broken, "under_replicated_files": totals.thin,
            "open_files": totals.open, "contradictions": totals.contradictions, "recounted": totals.recounted,
        });
        if let Some(full) = &totals.full {
            object["replicas_read"] = full.replicas.into();
            object["bytes_read"] = full.bytes.into();
            object["damaged_replicas"] = full.damaged.into();
            object["unread_replicas"] = full.unread.into();
            object["blocks_without_digest"] = full.without_digest.into();
        }
        context.output.object(&object)?;
    } else if !options.quiet {
        context.output.block(&summary(&totals, path))?;
    }
    Ok(totals)
}

fn report(context: &Context, step: &FsckResponse) -> Outcome {
    for file in &step.problems {
        match context.output.is_json() {
            true => context.output.object(&json!({
                "v": 1, "type": "fsck-file", "path": file.path, "size": file.len_bytes,
                "replication": file.replication, "blocks": file.blocks, "missing": file.missing,
                "corrupt": file.corrupt, "under_replicated": file.under_replicated,
                "below_minimum": file.below_minimum, "open": file.open_for_write,
            }))?,
            false => context.output.line(&problem(file))?,
        }
    }
    for text in &step.contradictions {
        match context.output.is_json() {
            true => context.output.object(&json!({"v": 1, "type": "fsck-contradiction", "message": text}))?,
            false => context.output.line(&format!("WRONG TOTAL  {text}"))?,
        }
    }
    Ok(())
}

fn problem(file: &FsckFile) -> String {
    let word = if file.missing > 0 {
        "MISSING"
    } else if file.corrupt > 0 {
        "DAMAGED"
    } else if file.under_replicated + file.below_minimum > 0 {
        "few copies"
    } else {
        "open"
    };
    // Each block is told once, as the worst that it is.
    let single = file.below_minimum.saturating_sub(file.missing + file.corrupt);
    let counts = [
        (file.missing, "without a copy"),
        (file.corrupt, "with damaged copies only"),
        (single, "with one copy"),
        (file.under_replicated.saturating_sub(single), "with too few copies"),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let open = if file.open_for_write { "; being written" } else { "" };
    let of =
        if counts.is_empty() { String::new() } else { format!("  of {} blocks {}", file.blocks, counts.join(", ")) };
    format!("{word:<10}  {}{of}{open}", plain(&file.path))
}

fn summary(totals: &Totals, path: &str) -> String {
    let mut health = Vec::new();
    let (damaged, unread) = totals.full.as_ref().map_or((0, 0), |full| (full.damaged, full.unread));
    for (count, what) in [
        (totals.broken, "files with missing or damaged data"),
        (damaged, "damaged replicas"),
        (unread, "replicas that could not be read"),
        (totals.contradictions, "wrong totals"),
    ] {
        if count > 0 {
            health.push(format!("{count} {what}"));
        }
    }
    let health = if health.is_empty() { "OK".to_owned() } else { format!("CRITICAL  {}", health.join(", ")) };
    let mut rows = vec![
        ("path", plain(path).into_owned()),
        ("health", health),
        ("files", format!("{}, {}, {} blocks", totals.files, size(totals.len_bytes), totals.blocks)),
        ("directories", format!("{}, {} symbolic links", totals.directories, totals.symlinks)),
        ("few copies", format!("{} files", totals.thin)),
        ("open", format!("{} files", totals.open)),
    ];
    if let Some(full) = &totals.full {
        let read = format!("{} read whole, {}; {} damaged", full.replicas, size(full.bytes), full.damaged);
        let unread = if full.unread > 0 { format!("; {} could not be read", full.unread) } else { String::new() };
        rows.push(("replicas", format!("{read}{unread}")));
        if full.without_digest > 0 {
            rows.push((
                "digests",
                format!("{} blocks have none: only their checksums were compared", full.without_digest),
            ));
        }
    }
    if totals.recounted {
        rows.push(("totals", "counted from scratch and compared".to_owned()));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    table(&rows, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_add_up_and_only_lost_data_are_critical() {
        let file = |path: &str| FsckFile { path: path.into(), blocks: 3, ..FsckFile::default() };
        let lost = FsckFile { missing: 1, under_replicated: 1, ..file("/lost") };
        let thin = FsckFile { below_minimum: 1, ..file("/thin") };
        let open = FsckFile { open_for_write: true, ..file("/open") };
        let mut totals = Totals::default();
        totals.add(&FsckResponse { files: 9, problems: vec![thin.clone(), open.clone()], ..FsckResponse::default() });
        assert!(totals.is_healthy() && !totals.recounted);
        assert!(summary(&totals, "/").contains("health       OK"), "{}", summary(&totals, "/"));
        totals.add(&FsckResponse {
            files: 1,
            problems: vec![lost.clone()],
            recounted: true,
            ..FsckResponse::default()
        });
        assert!(!totals.is_healthy() && !totals.recounted, "one part was not");
        assert_eq!((totals.files, totals.broken, totals.thin, totals.open), (10, 1, 1, 1));
        assert_eq!(problem(&lost), "MISSING     /lost  of 3 blocks 1 without a copy, 1 with too few copies");
        assert_eq!(problem(&thin), "few copies  /thin  of 3 blocks 1 with one copy");
        assert_eq!(problem(&open), "open        /open; being written");
        let wrong = FsckResponse { contradictions: vec!["files: 3 counted, 4 kept".into()], ..FsckResponse::default() };
        let mut totals =
            Totals { full: Some(Full { replicas: 3, bytes: 2048, ..Full::default() }), ..Totals::default() };
        assert!(totals.is_healthy() && summary(&totals, "/").contains("3 read whole, 2.0 KiB; 0 damaged"));
        totals.full = Some(Full { replicas: 3, damaged: 1, unread: 2, without_digest: 1, ..Full::default() });
        let text = summary(&totals, "/");
        assert!(!totals.is_healthy() && text.contains("CRITICAL  1 damaged replicas"), "{text}");
        assert!(text.contains("1 damaged; 2 could not be read") && text.contains("1 blocks have none"), "{text}");
        totals.full = Some(Full { replicas: 3, unread: 1, ..Full::default() });
        assert!(!totals.is_healthy() && summary(&totals, "/").contains("CRITICAL  1 replicas that could not be read"));
        totals.full = None;
        totals.add(&wrong);
        assert!(!totals.is_healthy() && summary(&totals, "/").contains("1 wrong totals"));
    }
}
