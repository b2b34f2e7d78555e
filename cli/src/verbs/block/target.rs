//! What an argument of `block` means: blocks of files, by their paths or their own ids.

use std::collections::BTreeSet;

use base::task::JoinSet;
use client::{Client, ErrorCode, FileKind, FileStatus, FsError, Reader};
use proto::common::LocatedBlock;

use super::Targets;
use crate::verbs::Outcome;
use crate::verbs::context::Context;
use crate::verbs::each::settle;
use crate::verbs::failure::Failure;
use crate::verbs::paths::walk::{Found, Walk};

/// Files that are asked for their blocks at a time.
const IN_FLIGHT: usize = 64;

/// Blocks of one file that are meant.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) path: String,
    pub(super) status: FileStatus,
    /// With their places among the blocks of the file.
    pub(super) blocks: Vec<(usize, LocatedBlock)>,
}

/// The id that an argument is, if it is one: `1073741841`, `blk_1073741841`, `blk_1073741841_1009`.
fn id_of(argument: &str) -> Option<i64> {
    let text = argument.strip_prefix("blk_").unwrap_or(argument);
    let (id, generation) = text.split_once('_').map_or((text, None), |(id, generation)| (id, Some(generation)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let named = argument.starts_with("blk_");
    let number = digits(id) || named && id.strip_prefix('-').is_some_and(digits);
    let whole = generation.is_none_or(|generation| named && digits(generation));
    (number && whole).then(|| id.parse().ok()).flatten()
}

/// Runs `one` for what each argument names. A failed one does not stop the others.
pub(super) async fn each_selected(
    targets: &Targets,
    context: &Context,
    mut one: impl AsyncFnMut(Selected) -> Outcome,
) -> Outcome {
    let ids: BTreeSet<i64> = targets.targets.iter().filter_map(|argument| id_of(argument)).collect();
    let mut found = if ids.is_empty() { Vec::new() } else { find(targets, context, ids).await? };
    for argument in &targets.targets {
        let Some(id) = id_of(argument) else {
            for path in expanded(context, argument).await? {
                let done = match select(&context.client, &path).await {
                    Ok(selected) => one(selected).await,
                    Err(error) => Err(error.into()),
                };
                settle(context, argument, done.map_err(|failure| failure.at(&path))).await?;
            }
            continue;
        };
        let at = found.iter().position(|(of, _)| *of == id);
        let done = match at {
            Some(at) => one(found.swap_remove(at).1).await,
            None => Err(no_such_block(argument, &targets.below)),
        };
        settle(context, "/", done).await?;
    }
    Ok(())
}

fn no_such_block(argument: &str, below: &str) -> Failure {
    let text = format!("no file below {below} that you may read has the block {argument}");
    Failure::from(FsError::new(ErrorCode::NotFound, text).with_hint("it may be of a deleted file, or of a snapshot"))
}

/// The paths of an argument; none if it is told already that there are none.
async fn expanded(context: &Context, argument: &str) -> Result<Vec<String>, Failure> {
    match context.expand(argument).await {
        Ok(paths) => Ok(paths),
        Err(failure) => settle(context, argument, Err(failure)).await.map(|()| Vec::new()),
    }
}

async fn select(client: &Client, path: &str) -> Result<Selected, FsError> {
    let reader = client.open(path).await?;
    Ok(selected(path, &reader, |_| true))
}

fn selected(path: &str, reader: &Reader, wanted: impl Fn(&LocatedBlock) -> bool) -> Selected {
    let blocks = reader.blocks().iter().enumerate().filter(|(_, block)| wanted(block));
    let blocks = blocks.map(|(index, block)| (index, LocatedBlock::clone(block))).collect();
    Selected { path: path.to_owned(), status: reader.status().clone(), blocks }
}

/// Looks for the files that blocks belong to.
async fn find(targets: &Targets, context: &Context, mut ids: BTreeSet<i64>) -> Result<Vec<(i64, Selected)>, Failure> {
    let below = context.absolute(&targets.below)?;
    let status = context.client.stat(&below).await.map_err(|error| Failure::from(error).at(&below))?;
    let top = Found { path: below, depth: 0, status };
    let mut walk = Walk::below(&context.client, &top);
    let mut looks: JoinSet<Option<(String, Reader)>> = JoinSet::new();
    let mut found = Vec::new();
    if !top.is_directory() {
        looks.spawn(open_if_readable(context.client.clone(), top.path));
    }
    while !ids.is_empty() {
        let more = if looks.len() < IN_FLIGHT { walk.next().await } else { None };
        match more {
            // What cannot be listed is not the caller's to see; that a block was not found is told in the end.
            Some(Err(failure)) if failure.code() == ErrorCode::PermissionDenied => {}
            Some(Err(failure)) => return Err(failure),
            Some(Ok(entry)) => {
                if entry.status.kind() == FileKind::File && entry.status.len_bytes > 0 {
                    looks.spawn(open_if_readable(context.client.clone(), entry.path));
                }
            }
            None => match looks.join_next().await {
                None => break,
                Some(Ok(Some((path, reader)))) => note_found(&path, &reader, &mut ids, &mut found),
                Some(Ok(None)) => {}
                Some(Err(error)) => return Err(Failure::local("run a call", "", &std::io::Error::other(error))),
            },
        }
    }
    Ok(found)
}

fn note_found(path: &str, reader: &Reader, ids: &mut BTreeSet<i64>, found: &mut Vec<(i64, Selected)>) {
    let id_of = |block: &LocatedBlock| block.block.as_ref().map(|block| block.id);
    for id in reader.blocks().iter().filter_map(|block| id_of(block)) {
        if ids.remove(&id) {
            found.push((id, selected(path, reader, |block| id_of(block) == Some(id))));
        }
    }
}

async fn open_if_readable(client: Client, path: String) -> Option<(String, Reader)> {
    match client.open(&path).await {
        Ok(reader) => Some((path, reader)),
        Err(error) => {
            tracing::debug!("{path} is not looked at: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_blocks_and_everything_else_is_a_path() {
        let expected = [
            ("1073741841", Some(1_073_741_841)),
            ("blk_7", Some(7)),
            ("blk_7_1009", Some(7)),
            ("blk_-7_1009", Some(-7)),
            ("/7", None),
            ("./7", None),
            ("7x", None),
            ("7_1009", None),
            ("-7", None),
            ("blk_", None),
            ("blk_7_", None),
            ("blk_7_x", None),
            ("", None),
            ("99999999999999999999", None),
        ];
        for (text, id) in expected {
            assert_eq!(id_of(text), id, "{text}");
        }
    }
}
