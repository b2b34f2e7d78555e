//! `put`: local files and trees into the cluster.
//!
//! Links are followed, as `hdfs dfs -put` does: the cluster gets what they lead to. A link that leads to
//! nothing, to a directory that contains it, or to a device is a failed item; everything else is copied.

use std::path::{Path, PathBuf};

use base::local::{self, LocalInfo, LocalKind};
use clap::Args;
use client::{CreateOptions, ErrorCode, FileKind};

use super::Outcome;
use super::context::Context;
use super::copy::upload::{Kept, Upload, upload, upload_stream};
use super::digest::DigestOptions;
use super::failure::Failure;
use super::filter::{FILTERS_HELP, join};
use super::mv::{Destination, refuse_doubles};
use super::paths::below;
use super::text::size::parse_positive;
use super::transfer::{Plan, Shared, Transfer, TransferOptions, local};

/// Flags of `put`.
#[derive(Debug, Args)]
#[command(
    after_help = format!("If DESTINATION is a directory, the sources are copied into it; otherwise it is the name of the copy.
`-` as the source is standard input. Links are followed, and each hard link is a file of its own. Files appear when
they are whole and durable. A long file is written in parts side by side, each of which counts as one of --jobs.

--resume leaves a file alone that is at its target with the same length and the same time of change; if only the time
differs, both are read and compared. Everything else is copied as without it, from its beginning.

{FILTERS_HELP}

Examples:
  blockyard put report.csv /data/             a file into a directory
  blockyard put -r logs /data/logs            a tree; as /data/logs/logs if /data/logs exists
  blockyard put -r --resume --preserve logs /data/logs      the same again, after it was interrupted
  tar c . | blockyard put - /backup.tar       a stream")
)]
pub(crate) struct PutOptions {
    /// Local files, then where to put them
    #[arg(required = true, num_args = 2.., value_name = "SOURCE… DESTINATION")]
    paths: Vec<String>,
    #[command(flatten)]
    transfer: TransferOptions,
    /// Make what is missing above DESTINATION
    #[arg(short, long)]
    parents: bool,
    /// Keep modes and times
    #[arg(long)]
    preserve: bool,
    /// Copies of each file [default: the cluster's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    replication: Option<u32>,
    /// Bytes of a block, with K, M or G [default: the cluster's]
    #[arg(long, value_name = "SIZE", value_parser = parse_positive)]
    block_size: Option<u64>,
    #[command(flatten)]
    digest: DigestOptions,
}

/// Runs `put`.
pub(crate) async fn run(options: &PutOptions, context: &Context) -> Outcome {
    let Some((target, sources)) = options.paths.split_last() else {
        return Err(Failure::usage("nothing to put", "blockyard put SOURCE… DESTINATION"));
    };
    let Destination { path: target, into } = Destination::find(context, target, sources.len() > 1).await?;
    if into {
        refuse_doubles(targets(sources, &target), String::clone)?;
    }
    let transfer = Transfer::new("put", &options.transfer, context);
    let mut put = Put { options, context, transfer, directories: Vec::new() };
    for source in sources {
        if let Err(failure) = put.source(source, &target, into).await {
            put.transfer.shared().failed(failure.at(source)).await;
        }
    }
    if options.preserve {
        put.transfer.settle().await;
        // What is made in a directory changes its time: the deepest ones come first.
        for (path, kept) in put.directories.iter().rev() {
            if let Err(failure) = kept.give(context, path).await {
                put.transfer.shared().failed(failure).await;
            }
        }
    }
    put.transfer.finish(options.transfer.recursive || sources.len() > 1).await
}

/// What each local source becomes in a directory. One that has no name is told when its turn comes.
fn targets(sources: &[String], directory: &str) -> Vec<(String, String)> {
    let target = |source: &String| Some((source.clone(), below(directory, &base_name(Path::new(source)).ok()?)));
    sources.iter().filter_map(target).collect()
}

struct Put<'a> {
    options: &'a PutOptions,
    context: &'a Context,
    transfer: Transfer,
    /// The directories that were made, with what they get in the end. One that was there keeps what it has.
    directories: Vec<(String, Kept)>,
}

impl Put<'_> {
    async fn source(&mut self, source: &str, target: &str, into: bool) -> Outcome {
        if source == "-" {
            return self.standard_input(target, into).await;
        }
        let path = PathBuf::from(source);
        let found = look(&path)?;
        let remote = match into {
            true => below(target, &base_name(&path)?),
            false => target.to_owned(),
        };
        match found.kind {
            LocalKind::Directory if !self.options.transfer.recursive => {
                Err(Failure::item(&path, "is a directory", "copy the tree with -r"))
            }
            LocalKind::Directory => self.tree(path, found, remote).await,
            _ => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.file(path, found, remote, (&name, self.options.parents)).await
            }
        }
    }

    async fn standard_input(&mut self, target: &str, into: bool) -> Outcome {
        if into {
            return Err(Failure::usage("standard input needs a name", "give the path of a file as the destination"));
        }
        let create =
            CreateOptions { mode: Some(self.context.masked(0o666)), ..self.create_options(self.options.parents) };
        let copy = upload_stream(self.transfer.shared(), target.to_owned(), create);
        self.transfer.start(copy).await;
        Ok(())
    }

    fn create_options(&self, parents: bool) -> CreateOptions {
        CreateOptions {
            overwrite: self.options.transfer.force,
            parents,
            replication: self.options.replication.unwrap_or(0),
            block_size_bytes: self.options.block_size.unwrap_or(0),
            digest: Some(self.options.digest.wanted()),
            ..CreateOptions::default()
        }
    }

    /// `below` is its path below the directory that was named, or its name.
    async fn file(
        &mut self,
        local: PathBuf,
        found: LocalInfo,
        remote: String,
        (below, parents): (&str, bool),
    ) -> Outcome {
        let shared = self.transfer.shared();
        if !shared.filters.takes(below) {
            return Ok(());
        }
        if found.kind != LocalKind::File {
            return Err(Failure::item(&local, "is neither a file nor a directory", "it was not copied"));
        }
        let create =
            CreateOptions { mode: Some(self.context.masked(found.mode & 0o777)), ..self.create_options(parents) };
        let keep = self.kept(found);
        shared.progress.found(found.len_bytes);
        self.transfer.start(upload(shared, Upload { local, found, remote, create, keep })).await;
        Ok(())
    }

    fn kept(&self, found: LocalInfo) -> Option<Kept> {
        self.options.preserve.then_some(Kept { mode: Some(found.mode), times: found.times })
    }

    /// Copies a tree: each directory is made before what is in it, files are copied side by side.
    async fn tree(&mut self, root: PathBuf, found: LocalInfo, remote: String) -> Outcome {
        self.directory(&remote, found, self.options.parents).await?;
        let top = Level { local: root, remote, below: String::new(), chain: vec![found.identity] };
        let mut waiting = vec![top];
        while let Some(level) = waiting.pop() {
            let shared = self.transfer.shared();
            let here = level.local.clone();
            let entries = match local("read", &level.local, move || local::read_dir(&here)).await {
                Ok(entries) => entries,
                Err(failure) => {
                    shared.failed(failure).await;
                    continue;
                }
            };
            for (name, found) in entries {
                if shared.is_stopped() {
                    return Ok(());
                }
                // What another copy is receiving there is nobody's data.
                if local::is_temporary(&name) {
                    continue;
                }
                match self.entry(&level, &level.local.join(&name), found).await {
                    Ok(Some(level)) => waiting.push(level),
                    Ok(None) => {}
                    Err(failure) => shared.failed(failure).await,
                }
            }
        }
        Ok(())
    }

    /// Starts the copy of a file, or makes a directory and answers it as the next level.
    async fn entry(&mut self, level: &Level, path: &Path, found: LocalInfo) -> Result<Option<Level>, Failure> {
        let inside = join(&level.below, &path.file_name().unwrap_or_default().to_string_lossy());
        let shared = self.transfer.shared();
        let (takes, enters) = (shared.filters.takes(&inside), shared.filters.enters(&inside));
        // What is left out is not looked at: it may lead to nothing, or have a name that cannot be copied.
        let followed = match found.kind {
            LocalKind::Symlink if takes => look(path)?,
            LocalKind::Symlink if enters => match look(path) {
                Ok(found) if found.is_dir() => found,
                _ => return Ok(None),
            },
            _ => found,
        };
        if !(if followed.is_dir() { enters } else { takes }) {
            return Ok(None);
        }
        let target = below(&level.remote, &base_name(path)?);
        if !followed.is_dir() {
            self.file(path.to_owned(), followed, target, (&inside, false)).await?;
            return Ok(None);
        }
        if level.chain.contains(&followed.identity) {
            return Err(Failure::item(path, "is a link to a directory that contains it", "it was not copied"));
        }
        self.directory(&target, followed, false).await?;
        let chain = level.chain.iter().copied().chain([followed.identity]).collect();
        Ok(Some(Level { local: path.to_owned(), remote: target, below: inside, chain }))
    }

    async fn directory(&mut self, remote: &str, found: LocalInfo, parents: bool) -> Outcome {
        // Its owner must be able to fill it, also where the original is read-only.
        let mode = self.context.masked(found.mode & 0o777) | 0o700;
        if enter_directory(&self.transfer.shared(), remote, mode, parents).await?
            && let Some(kept) = self.kept(found)
        {
            self.directories.push((remote.to_owned(), kept));
        }
        Ok(())
    }
}

/// A directory that is to be copied.
#[derive(Debug)]
struct Level {
    local: PathBuf,
    remote: String,
    /// Its path below the directory that was named.
    below: String,
    /// It, and the directories that it was reached through, also over links.
    chain: Vec<(u64, u64)>,
}

/// Makes a directory of the cluster for a transfer, or says that it would. `false`: one was there, or none was made.
pub(crate) async fn enter_directory(shared: &Shared, path: &str, mode: u32, parents: bool) -> Result<bool, Failure> {
    if !shared.manner.dry_run {
        return make_directory(&shared.context, path, mode, parents).await;
    }
    match shared.context.look(path).await? {
        None => shared.planned(Plan { act: "mkdir", from: "", path, bytes: 0 })?,
        Some(status) if status.kind() == FileKind::Directory => {}
        Some(_) => {
            let error = client::FsError::new(ErrorCode::AlreadyExists, "already exists").with_path(path);
            return Err(error.into());
        }
    }
    Ok(false)
}

/// Makes a directory of the cluster. `false`: one was there, and stays as it is.
pub(crate) async fn make_directory(context: &Context, path: &str, mode: u32, parents: bool) -> Result<bool, Failure> {
    // Without `parents` first: with it the answer does not tell whether it was there.
    let mut made = context.client.mkdir(path, mode, false).await;
    if parents && made.as_ref().is_err_and(|error| error.code == ErrorCode::NotFound) {
        made = context.client.mkdir(path, mode, true).await;
    }
    match made {
        Ok(_) => Ok(true),
        Err(error) if error.code == ErrorCode::AlreadyExists => {
            let there = context.look(path).await?;
            let directory = there.is_some_and(|status| status.kind() == FileKind::Directory);
            if directory { Ok(false) } else { Err(error.into()) }
        }
        Err(error) => Err(error.into()),
    }
}

/// What is at a local path, links followed.
fn look(path: &Path) -> Result<LocalInfo, Failure> {
    let found = local::info(path).map_err(|error| Failure::local("read", path, &error))?;
    let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "no such file or directory");
    found.ok_or_else(|| Failure::local("read", path, &missing()))
}

/// The name under which a local path is copied into a directory.
fn base_name(path: &Path) -> Result<String, Failure> {
    let name = match path.file_name() {
        Some(name) => name.to_owned(),
        // `.`, `..` and such: the name of what they lead to.
        None => local::canonical(path)
            .map_err(|error| Failure::local("read", path, &error))?
            .file_name()
            .map(std::ffi::OsStr::to_owned)
            .ok_or_else(|| Failure::item(path, "has no name", "name the destination"))?,
    };
    name.into_string().map_err(|name| {
        Failure::item(&path.with_file_name(name), "its name is not UTF-8", "rename it; it was not copied")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_the_same_name_are_seen_whatever_they_are_called() {
        let sources = ["a/x", "b/x/", "."].map(str::to_owned);
        let refused = refuse_doubles(targets(&sources, "/d"), String::clone).unwrap_err().text();
        assert!(refused.contains("a/x and b/x/ would both become /d/x"), "{refused}");
        refuse_doubles(targets(&sources[1..], "/d"), String::clone).unwrap();
    }

    #[test]
    fn names_of_copies() {
        assert_eq!(base_name(Path::new("/a/b/")).unwrap(), "b");
        let here = local::canonical(Path::new(".")).unwrap();
        assert_eq!(base_name(Path::new(".")).unwrap(), here.file_name().unwrap().to_str().unwrap());
        assert!(base_name(Path::new("/")).is_err());
    }
}
