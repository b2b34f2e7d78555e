//! Verbs that do the same with many paths: a failed one does not stop the others.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use base::task::JoinSet;
use client::{ErrorCode, FileKind};

use super::Outcome;
use super::context::Context;
use super::failure::Failure;
use super::paths::home_of;
use super::paths::walk::{Found, Walk};

/// Changes that wait for the namenode at a time. It answers those that come together with one write of its log.
const IN_FLIGHT: usize = 64;

/// Runs `one` for each path that the arguments name.
pub(crate) async fn each(context: &Context, arguments: &[String], one: impl AsyncFnMut(&str) -> Outcome) -> Outcome {
    each_there(context, arguments, false, one).await
}

/// As [`each`]; with `missing_is_fine` a pattern that nothing fits is no failure.
pub(crate) async fn each_there(
    context: &Context,
    arguments: &[String],
    missing_is_fine: bool,
    mut one: impl AsyncFnMut(&str) -> Outcome,
) -> Outcome {
    for argument in arguments {
        match context.expand(argument).await {
            Err(failure) if missing_is_fine && failure.code() == ErrorCode::NotFound => {}
            Ok(paths) => {
                for path in &paths {
                    let done = one(path).await.map_err(|failure| failure.at(path));
                    settle(context, argument, done).await?;
                }
            }
            Err(failure) => settle(context, argument, Err(failure)).await?,
        }
    }
    Ok(())
}

/// As [`each_there`] for changes: what one pattern stands for is changed many at a time, in no order.
pub(crate) async fn each_together(
    context: &Context,
    arguments: &[String],
    missing_is_fine: bool,
    one: impl AsyncFn(&str) -> Outcome,
) -> Outcome {
    for argument in arguments {
        let paths = match context.expand(argument).await {
            Err(failure) if missing_is_fine && failure.code() == ErrorCode::NotFound => continue,
            Err(failure) => {
                settle(context, argument, Err(failure)).await?;
                continue;
            }
            Ok(paths) => paths,
        };
        together(context, paths.into_iter().map(|path| Named { argument: argument.clone(), path }).collect(), &one)
            .await?;
    }
    Ok(())
}

/// A path, and the argument that named it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    argument: String,
    pub(crate) path: String,
}

/// What arguments name, each path once. An argument that names nothing is told, and left out.
pub(crate) async fn named(context: &Context, arguments: &[String]) -> Result<Vec<Named>, Failure> {
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    for argument in arguments {
        match context.expand(argument).await {
            Ok(paths) => {
                let new = paths.into_iter().filter(|path| seen.insert(path.clone()));
                all.extend(new.map(|path| Named { argument: argument.clone(), path }));
            }
            Err(failure) => settle(context, argument, Err(failure)).await?,
        }
    }
    Ok(all)
}

/// What arguments name, each path once; an argument that names nothing is a failure of the whole verb.
pub(crate) async fn expand_all(context: &Context, arguments: &[String]) -> Result<Vec<String>, Failure> {
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    for argument in arguments {
        all.extend(context.expand(argument).await?.into_iter().filter(|path| seen.insert(path.clone())));
    }
    Ok(all)
}

/// Runs `one` for each path, many at a time, in no order.
pub(crate) async fn together(context: &Context, all: Vec<Named>, one: &impl AsyncFn(&str) -> Outcome) -> Outcome {
    let mut waiting = all.iter();
    let mut running = Vec::new();
    loop {
        while running.len() < IN_FLIGHT {
            let Some(Named { argument, path }) = waiting.next() else { break };
            let job = async move { (argument, one(path).await.map_err(|failure| failure.at(path))) };
            running.push(Box::pin(job));
        }
        if running.is_empty() {
            return Ok(());
        }
        let (argument, done) = first_done(&mut running).await;
        settle(context, argument, done).await?;
    }
}

/// Waits for one of the futures, and takes it out. There must be one.
async fn first_done<F: Future + Unpin>(running: &mut Vec<F>) -> F::Output {
    poll_fn(|task| {
        for (at, future) in running.iter_mut().enumerate() {
            if let Poll::Ready(done) = Pin::new(future).poll(task) {
                drop(running.swap_remove(at));
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    })
    .await
}

/// Runs `one` for each name that is to be made: no patterns.
pub(crate) async fn each_new(context: &Context, arguments: &[String], one: impl AsyncFn(&str) -> Outcome) -> Outcome {
    for argument in arguments {
        let done = match context.absolute(argument) {
            Ok(path) => one(&path).await.map_err(|failure| failure.at(&path)),
            Err(failure) => Err(failure),
        };
        settle(context, argument, done).await?;
    }
    Ok(())
}

/// Counts what was done, and says what failed; `Err` if nothing else can be said.
pub(crate) async fn settle(context: &Context, argument: &str, done: Outcome) -> Outcome {
    match done {
        Ok(()) => context.output.item_done(),
        Err(failure) if failure.is_quiet() => return Err(failure),
        Err(failure) => {
            let failure = context.explained(failure).await;
            let missing = failure.code() == ErrorCode::NotFound && !argument.starts_with('/');
            let home = || missing.then(|| format!("relative paths begin at {}", home_of(context.user())));
            context.output.item_failed(&failure.or_hint(home));
        }
    }
    Ok(())
}

/// Runs `change` for an entry and, if `recursive`, for everything below it, many at a time; a directory is changed
/// before it is looked into. Failures below are told here; the number of entries is counted as done.
pub(crate) async fn each_below<F>(
    context: &Context,
    start: Found,
    recursive: bool,
    change: impl Fn(Context, Found) -> F,
) -> Outcome
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut walk = Walk::below(&context.client, &start);
    change(context.clone(), start).await?;
    if !recursive {
        return Ok(());
    }
    let mut jobs: JoinSet<Outcome> = JoinSet::new();
    while let Some(found) = walk.next().await {
        let done = match found {
            Err(failure) => Err(failure),
            Ok(found) if found.is_directory() => {
                let path = found.path.clone();
                change(context.clone(), found).await.map_err(|failure| failure.at(&path))
            }
            Ok(found) => {
                if jobs.len() >= IN_FLIGHT {
                    finish_one(context, &mut jobs).await?;
                }
                let (path, job) = (found.path.clone(), change(context.clone(), found));
                jobs.spawn(async move { job.await.map_err(|failure| failure.at(&path)) });
                continue;
            }
        };
        settle(context, "/", done).await?;
    }
    while !jobs.is_empty() {
        finish_one(context, &mut jobs).await?;
    }
    Ok(())
}

async fn finish_one(context: &Context, jobs: &mut JoinSet<Outcome>) -> Outcome {
    let Some(joined) = jobs.join_next().await else { return Ok(()) };
    let broken = |error: tokio::task::JoinError| Failure::local("run a call", "", &std::io::Error::other(error));
    settle(context, "/", joined.map_err(broken)?).await
}

/// Where a change begins. By itself a link stands for what it leads to. A walk follows no link, not even one that it
/// begins at (POSIX's `-P`): a pattern may have fitted it, and what it leads to may be anyone's tree.
pub(crate) async fn start_change(context: &Context, path: &str, recursive: bool) -> Result<Found, Failure> {
    let mut top = start(context, path).await?;
    if !recursive && top.status.kind() == FileKind::Symlink {
        top.status = context.client.stat(path).await?;
    }
    Ok(top)
}

/// As [`start_change`], for what links do not have themselves: `None` for a link that is not followed, which counts as
/// left out.
pub(crate) async fn start_beside_links(
    context: &Context,
    path: &str,
    recursive: bool,
) -> Result<Option<Found>, Failure> {
    let top = start_change(context, path, recursive).await?;
    if top.status.kind() != FileKind::Symlink {
        return Ok(Some(top));
    }
    context.output.item_left_out(path, "is a symbolic link, which -R does not follow,");
    Ok(None)
}

/// What is at a path itself, links not followed, as the beginning of a walk.
pub(crate) async fn start(context: &Context, path: &str) -> Result<Found, Failure> {
    let status = context.client.stat_link(path).await?;
    Ok(Found { path: path.to_owned(), depth: 0, status })
}
