//! The two ends of a `sync`: a tree of this machine, or one of the cluster.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use base::local::{self, LocalInfo, LocalKind};
use client::{ErrorCode, FileKind, FileStatus, FsError};

use super::plan::{Entry, Kind};
use crate::verbs::context::Context;
use crate::verbs::copy::same::Looks;
use crate::verbs::failure::Failure;
use crate::verbs::paths::{below, trash_of};
use crate::verbs::transfer::{Shared, local as on_disk};

/// How a path of the cluster begins.
const SCHEME: &str = "blockyard:";

/// A place on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Local(PathBuf),
    Cluster(String),
}

/// What a directory is listed for. It says what comes of names that cannot be copied because they are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// To be copied: such names are failures.
    Source,
    /// To become the same: such names stay, and nobody looks at them.
    Destination,
    /// To be removed: such names are unfit, so that they stay. They are only shown, never opened.
    Doomed,
}

/// What is known of a name where it was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Origin {
    Local(LocalInfo),
    Cluster(Box<FileStatus>),
}

impl Side {
    /// Reads an argument: `blockyard:/PATH`, `blockyard:PATH` below the user's home, `blockyard://HOST:PORT/PATH` of
    /// the cluster that is talked to; everything else is a path of this machine.
    pub(super) fn parse(text: &str, context: &Context) -> Result<Self, Failure> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return match text {
                "" => Err(Failure::usage("an empty path", "write . for this directory")),
                _ => Ok(Self::Local(PathBuf::from(text))),
            };
        };
        if !rest.starts_with("//") {
            return Ok(Self::Cluster(context.absolute(rest)?));
        }
        match path_of_uri(text, context.fs()) {
            Some(path) => Ok(Self::Cluster(context.absolute(path)?)),
            None => Err(Failure::usage(
                format!("{text} is not in the cluster that is talked to, {}", context.fs()),
                "name the cluster with --fs, and its paths as blockyard:/PATH",
            )),
        }
    }

    /// A name below.
    pub(super) fn child(&self, name: &str) -> Self {
        match self {
            Self::Local(path) => Self::Local(path.join(name)),
            Self::Cluster(path) => Self::Cluster(below(path, name)),
        }
    }

    /// A new name in the same directory.
    pub(super) fn beside(&self) -> Self {
        let name = local::temporary_name();
        match self {
            Self::Local(path) => Self::Local(path.with_file_name(name)),
            Self::Cluster(path) => Self::Cluster(below(parent_of(path), &name)),
        }
    }

    /// For people and scripts.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Cluster(path) => path.clone(),
        }
    }

    /// What is there itself, links followed; `None` if there is nothing.
    pub(super) async fn look(&self, context: &Context) -> Result<Option<Origin>, Failure> {
        match self {
            Self::Local(path) => {
                let here = path.clone();
                Ok(on_disk("look at", path, move || local::info(&here)).await?.map(Origin::Local))
            }
            Self::Cluster(path) => Ok(context.look(path).await?.map(|status| Origin::Cluster(Box::new(status)))),
        }
    }

    /// The names in a directory, sorted.
    pub(super) async fn list(&self, shared: &Shared, role: Role) -> Result<Vec<Entry<Origin>>, Failure> {
        let mut entries = match self {
            Self::Local(path) => list_local(shared, path, role).await?,
            Self::Cluster(path) => list_cluster(shared, path).await?,
        };
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
}

impl Origin {
    pub(super) fn is_directory(&self) -> bool {
        match self {
            Self::Local(info) => info.is_dir(),
            Self::Cluster(status) => status.kind() == FileKind::Directory,
        }
    }
    /// Permission bits.
    pub(super) fn mode(&self) -> u32 {
        match self {
            Self::Local(info) => info.mode,
            Self::Cluster(status) => status.mode,
        }
    }
    pub(super) fn len_bytes(&self) -> u64 {
        match self {
            Self::Local(info) => info.len_bytes,
            Self::Cluster(status) => status.len_bytes,
        }
    }
}

/// The directory that a path of the cluster is in.
fn parent_of(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((parent, _)) if !parent.is_empty() => parent,
        _ => "/",
    }
}

/// The path in a URI of this cluster; `None` for one of another cluster.
fn path_of_uri<'a>(uri: &'a str, fs: &str) -> Option<&'a str> {
    match uri.strip_prefix(fs.trim_end_matches('/'))? {
        "" => Some("/"),
        path => path.starts_with('/').then_some(path),
    }
}

async fn list_local(shared: &Shared, path: &Path, role: Role) -> Result<Vec<Entry<Origin>>, Failure> {
    let here = path.to_owned();
    let found = on_disk("read", path, move || {
        let mut found = Vec::new();
        for (name, info) in local::read_dir(&here)? {
            let target = match info.kind {
                LocalKind::Symlink => Some(local::read_link(&here.join(&name))?),
                _ => None,
            };
            found.push((name, info, target));
        }
        Ok(found)
    })
    .await?;
    let mut entries = Vec::with_capacity(found.len());
    for (name, info, target) in found {
        // What another copy is receiving there is nobody's data.
        if local::is_temporary(&name) {
            continue;
        }
        let Some(name) = name.to_str() else {
            let at = path.join(&name);
            match role {
                Role::Source => {
                    shared.failed(Failure::item(&at, "its name is not UTF-8", "rename it; it was not copied")).await;
                }
                Role::Destination => {}
                Role::Doomed => {
                    let (name, kind) =
                        (name.to_string_lossy().into_owned(), Kind::Unfit("has a name that is not UTF-8"));
                    entries.push(Entry { name, kind, origin: Origin::Local(info) });
                }
            }
            continue;
        };
        let kind = kind_of_local(&info, target.as_deref().map(Path::as_os_str));
        entries.push(Entry { name: name.to_owned(), kind, origin: Origin::Local(info) });
    }
    Ok(entries)
}

fn kind_of_local(info: &LocalInfo, target: Option<&OsStr>) -> Kind {
    match info.kind {
        LocalKind::File => Kind::File(Looks { len_bytes: info.len_bytes, mtime_ns: info.times.mtime_ns }),
        LocalKind::Directory => Kind::Directory,
        LocalKind::Symlink => match target.and_then(OsStr::to_str) {
            Some(target) => Kind::Link(target.to_owned()),
            None => Kind::Unfit("leads to a name that is not UTF-8"),
        },
        LocalKind::Other => Kind::Unfit("is neither a file nor a directory nor a link"),
    }
}

async fn list_cluster(shared: &Shared, path: &str) -> Result<Vec<Entry<Origin>>, Failure> {
    let context = &shared.context;
    let at = |error: FsError| Failure::from(error).at(path);
    let trash = trash_of(context.user());
    let mut listing = context.client.list(path).map_err(at)?;
    let mut entries = Vec::new();
    while let Some(status) = listing.next().await.map_err(at)? {
        // An entry without a name: a file took the directory's place.
        if status.path.is_empty() {
            return Err(at(FsError::new(ErrorCode::NotADirectory, "not a directory")));
        }
        // What another copy is putting there is nobody's data, and what one left over nobody's either.
        if local::is_temporary(OsStr::new(&status.path)) {
            continue;
        }
        let kind = if below(path, &status.path) == trash { Kind::Unfit("is your trash") } else { kind_of(&status) };
        entries.push(Entry { name: status.path.clone(), kind, origin: Origin::Cluster(Box::new(status)) });
    }
    Ok(entries)
}

fn kind_of(status: &FileStatus) -> Kind {
    match status.kind() {
        FileKind::Directory => Kind::Directory,
        FileKind::Symlink => Kind::Link(status.symlink_target.clone()),
        FileKind::File if status.open_for_write => Kind::Unfit("is being written"),
        FileKind::File => Kind::File(Looks { len_bytes: status.len_bytes, mtime_ns: status.mtime_ns }),
        _ => Kind::Unfit("is neither a file nor a directory nor a link"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_of_the_cluster_that_is_talked_to_or_refused() {
        let fs = "blockyard://127.0.0.1:8020";
        assert_eq!(path_of_uri("blockyard://127.0.0.1:8020/a/b", fs), Some("/a/b"));
        assert_eq!(path_of_uri("blockyard://127.0.0.1:8020", fs), Some("/"));
        assert_eq!(path_of_uri("blockyard://127.0.0.1:8020/a", "blockyard://127.0.0.1:8020/"), Some("/a"));
        assert_eq!(path_of_uri("blockyard://127.0.0.1:80201/a", fs), None, "another port");
        assert_eq!(path_of_uri("blockyard://other:8020/a", fs), None);
    }

    #[test]
    fn what_is_beside_is_in_the_same_directory() {
        let beside = |path: &str| Side::Cluster(path.into()).beside().shown();
        assert!(beside("/x").starts_with("/.blockyard-") && beside("/a/x").starts_with("/a/.blockyard-"));
        assert!(Side::Local("a/x".into()).beside().shown().starts_with("a/.blockyard-"));
    }

    #[test]
    fn files_that_are_being_written_are_not_copied() {
        let status = |kind: FileKind, open_for_write| FileStatus {
            kind: kind as i32,
            open_for_write,
            len_bytes: 3,
            mtime_ns: 4,
            symlink_target: "t".into(),
            ..FileStatus::default()
        };
        assert_eq!(kind_of(&status(FileKind::File, false)), Kind::File(Looks { len_bytes: 3, mtime_ns: 4 }));
        assert_eq!(kind_of(&status(FileKind::File, true)), Kind::Unfit("is being written"));
        assert_eq!(kind_of(&status(FileKind::Symlink, false)), Kind::Link("t".into()));
        assert!(matches!(kind_of(&status(FileKind::Fifo, false)), Kind::Unfit(_)));
    }
}
