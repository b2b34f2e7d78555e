//! `append`: local files, or standard input, at the end of a file of the cluster.

use std::path::Path;

use base::local::LocalReader;
use clap::Args;
use client::{AppendOptions as Appending, CreateOptions, ErrorCode, FsError, Writer};

use super::Outcome;
use super::context::Context;
use super::each::settle;
use super::entry::object;
use super::failure::Failure;
use super::paths::PATHS_HELP;
use super::transfer::local;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Flags of `append`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
Writes the local files behind what PATH has, in the order in which they are named. Readers see PATH all the time; what
is appended can be seen when it is all there, or from time to time with --flush. Nobody else can write PATH meanwhile:
if somebody does already, `blockyard lease ls PATH` says who.

If it is interrupted, or a local file cannot be read to its end, PATH keeps what was written until then.

{PATHS_HELP}

Examples:
  blockyard append today.log /logs/all.log
  journalctl -f | blockyard append --flush - /logs/journal
  blockyard tail -f /logs/journal               elsewhere: follows what is appended")
)]
pub(crate) struct AppendOptions {
    /// Local files (- is standard input), then the file of the cluster
    #[arg(required = true, num_args = 2.., value_name = "FILE… PATH")]
    paths: Vec<String>,
    /// Make PATH if it is not there
    #[arg(short, long)]
    create: bool,
    /// Show what came after each piece that was read, and have it held by every datanode first
    #[arg(long)]
    flush: bool,
    /// As --flush, and have it durable on every datanode first
    #[arg(long)]
    sync: bool,
    /// Begin a new block, even if the last one has room
    #[arg(long)]
    new_block: bool,
}

/// Runs `append`.
pub(crate) async fn run(options: &AppendOptions, context: &Context) -> Outcome {
    let Some((target, sources)) = options.paths.split_last() else {
        return Err(Failure::usage("nothing to append", "blockyard append FILE… PATH"));
    };
    let path = context.absolute(target)?;
    let done = append(options, context, sources, &path).await;
    settle(context, target, done.map_err(|failure| failure.at(&path))).await
}

async fn append(options: &AppendOptions, context: &Context, sources: &[String], path: &str) -> Outcome {
    // A file that cannot be opened is told before anything is changed.
    let mut readers = Vec::new();
    for source in sources {
        readers.push((source, open(source)?));
    }
    let mut writer = begin(options, context, path).await?;
    let mut failed = None;
    for (source, reader) in readers {
        failed = copy(options, &mut writer, source, reader).await.err();
        if failed.is_some() {
            break;
        }
    }
    let written_bytes = writer.written_bytes();
    match (writer.close().await, failed) {
        // Whoever ended the writer has said why.
        (_, Some(failure)) => {
            Err(failure.or_hint(|| Some(format!("up to {written_bytes} bytes were appended before"))))
        }
        (Err(error), None) => Err(error.into()),
        (Ok(status), None) if context.output.is_json() => context.output.record(&object(&status, path)),
        (Ok(_), None) => Ok(()),
    }
}

fn open(source: &str) -> Result<LocalReader, Failure> {
    match source {
        "-" => Ok(LocalReader::stdin()),
        path => LocalReader::open(Path::new(path)).map_err(|error| Failure::local("open", path, &error)),
    }
}

async fn begin(options: &AppendOptions, context: &Context, path: &str) -> Result<Writer, Failure> {
    let appending = Appending { new_block: options.new_block, ..Appending::default() };
    match context.client.append(path, appending).await {
        Ok(writer) => Ok(writer),
        Err(error) if error.code == ErrorCode::NotFound && options.create => {
            let create = CreateOptions { mode: Some(context.masked(0o666)), ..CreateOptions::default() };
            Ok(context.client.create(path, create).await?)
        }
        Err(error) if error.code == ErrorCode::NotFound => {
            let failure = context.explained(Failure::from(error).at(path)).await;
            Err(failure.or_hint(|| Some("make it with --create".to_owned())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads ahead by one piece.
async fn copy(options: &AppendOptions, writer: &mut Writer, source: &str, mut reader: LocalReader) -> Outcome {
    let flushes = options.flush || options.sync;
    loop {
        let read = local("read", Path::new(source), move || {
            // Whoever wants to see it at once does not wait until a piece is full.
            let bytes = if flushes { reader.read_some(CHUNK_BYTES)? } else { reader.read_chunk(CHUNK_BYTES)? };
            Ok((reader, bytes))
        });
        let (rest, bytes) = read.await?;
        reader = rest;
        if bytes.is_empty() {
            return Ok(());
        }
        writer.write(bytes).await?;
        let flushed: Result<(), FsError> = match (options.sync, options.flush) {
            (true, _) => writer.sync_data().await,
            (false, true) => writer.flush().await,
            (false, false) => Ok(()),
        };
        flushed?;
    }
}
