//! `test`: questions that the exit status answers.

use clap::{ArgGroup, Args};
use client::{ErrorCode, FileKind, FileStatus, FsResult};
use serde_json::json;

use super::Outcome;
use super::context::Context;
use super::failure::Failure;
use super::paths::PATHS_HELP;
use crate::exit::Status;

/// Flags of `test`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("question").required(true),
    after_help = PATHS_HELP,
    after_long_help = format!("\
Ends with 0 for yes and 1 for no; with another status if there is no answer (`blockyard help exit-codes`). A pattern
must fit something, and the answer must be yes for all of it.

{PATHS_HELP}

Example:
  blockyard test -e /data/_SUCCESS && echo done")
)]
pub(crate) struct TestOptions {
    /// The path
    path: String,
    /// Is there something?
    #[arg(short, long, group = "question")]
    exists: bool,
    /// A directory?
    #[arg(short, long, group = "question")]
    directory: bool,
    /// A file?
    #[arg(short, long, group = "question")]
    file: bool,
    /// A symbolic link?
    #[arg(short = 'L', long, group = "question")]
    symlink: bool,
    /// Something that is not empty?
    #[arg(short, long, group = "question")]
    size: bool,
    /// A file that is empty?
    #[arg(short, long, group = "question")]
    zero: bool,
    /// May the user read it?
    #[arg(short, long, group = "question")]
    read: bool,
    /// May the user write it?
    #[arg(short, long, group = "question")]
    write: bool,
    /// May the user execute it, or look into it?
    #[arg(short = 'x', long, group = "question")]
    execute: bool,
}

/// Runs `test`.
pub(crate) async fn run(options: &TestOptions, context: &Context) -> Outcome {
    let paths = match context.expand(&options.path).await {
        Ok(paths) => paths,
        Err(failure) if failure.code() == ErrorCode::NotFound => vec![],
        Err(failure) => return Err(failure),
    };
    let mut yes = !paths.is_empty();
    for path in &paths {
        yes = yes && answer(options, context, path).await?;
    }
    if context.output.is_json() {
        context.output.object(&json!({"v": 1, "type": "test", "path": options.path, "result": yes}))?;
    }
    if yes { Ok(()) } else { Err(Failure::verdict(Status::FAILED)) }
}

async fn answer(options: &TestOptions, context: &Context, path: &str) -> Result<bool, Failure> {
    let rights = u32::from(options.read) * 4 + u32::from(options.write) * 2 + u32::from(options.execute);
    if rights != 0 {
        return no_if_missing(context.client.check_access(path, rights).await).map(|allowed| allowed == Some(true));
    }
    let status = match options.symlink {
        true => context.client.stat_link(path).await,
        false => context.client.stat(path).await,
    };
    Ok(no_if_missing(status)?.is_some_and(|status| holds(options, &status)))
}

fn no_if_missing<T>(answer: FsResult<T>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if matches!(error.code, ErrorCode::NotFound | ErrorCode::NotADirectory) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn holds(options: &TestOptions, status: &FileStatus) -> bool {
    let kind = status.kind();
    let empty = match kind {
        FileKind::Directory => status.children == 0,
        _ => status.len_bytes == 0,
    };
    options.exists
        || options.directory && kind == FileKind::Directory
        || options.file && kind == FileKind::File
        || options.symlink && kind == FileKind::Symlink
        || options.size && !empty
        || options.zero && kind == FileKind::File && empty
}
