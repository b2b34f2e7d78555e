//! What every verb needs: the client, the output, the user and its mask; and hints for paths that are not there.

use std::time::Duration;

use client::{Client, ErrorCode, FileKind, FileStatus};

use super::failure::Failure;
use super::output::Output;
use crate::args::Global;

/// Address of the cluster that `blockyard dev` starts.
pub(crate) const DEFAULT_FS: &str = "blockyard://127.0.0.1:8020";
/// How long a cluster that does not answer at all is tried.
const PATIENCE: Duration = Duration::from_millis(700);
/// Most entries of a directory that are looked at for a hint.
const HINT_ENTRIES: usize = 5000;

/// The cluster that the flags, the environment or the default name.
pub(crate) fn fs_of(global: &Global) -> &str {
    global.fs.as_deref().unwrap_or(DEFAULT_FS)
}

/// Context of a verb.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) output: Output,
    fs: String,
    user: String,
    umask: u32,
}

impl Context {
    pub(crate) fn new(global: &Global, output: Output, umask: u32) -> Result<Self, Failure> {
        let user = global.user.clone().unwrap_or_else(os_user);
        let client = Client::builder()
            .connect(fs_of(global))
            .user(user.clone())
            .host(hostname())
            .local_reads(global.local_reads)
            .patience(PATIENCE)
            .build()
            .map_err(|error| Failure::usage(error.message, &error.hint))?;
        Ok(Self { client, output, fs: fs_of(global).to_owned(), user, umask })
    }

    /// The cluster, as it was named.
    pub(crate) fn fs(&self) -> &str {
        &self.fs
    }
    /// Who calls.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }
    /// The process's mask.
    pub(crate) const fn umask(&self) -> u32 {
        self.umask
    }

    /// Permission bits that a new file gets for wanted ones.
    pub(crate) const fn masked(&self, mode: u32) -> u32 {
        mode & !self.umask & 0o7777
    }

    /// What is at a path; `None` if there is nothing.
    pub(crate) async fn look(&self, path: &str) -> Result<Option<FileStatus>, Failure> {
        match self.client.stat(path).await {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds what may have been meant to a failure that says "not found".
    pub(crate) async fn explained(&self, failure: impl Into<Failure>) -> Failure {
        let failure = failure.into();
        if failure.code() != ErrorCode::NotFound || failure.has_hint() || !failure.path().starts_with('/') {
            return failure;
        }
        let near = self.nearest(failure.path()).await;
        failure.or_hint(|| near.map(|path| format!("did you mean {path} ?")))
    }

    /// The existing path that looks most like one that does not exist: the first missing name is compared
    /// with the names beside it.
    async fn nearest(&self, path: &str) -> Option<String> {
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let mut parent = String::new();
        for (depth, name) in names.iter().enumerate() {
            let here = format!("{parent}/{name}");
            if self.look(&here).await.ok()?.is_some_and(|status| status.kind() == FileKind::Directory) {
                parent = here;
                continue;
            }
            let found = self.nearest_entry(if parent.is_empty() { "/" } else { &parent }, name).await?;
            let rest = names.get(depth + 1..).unwrap_or_default().join("/");
            let whole = if rest.is_empty() { format!("{parent}/{found}") } else { format!("{parent}/{found}/{rest}") };
            return self.look(&whole).await.ok()?.map(|_| whole);
        }
        None
    }

    async fn nearest_entry(&self, parent: &str, name: &str) -> Option<String> {
        let mut listing = self.client.list(parent).ok()?;
        let mut best: Option<(usize, String)> = None;
        for _ in 0..HINT_ENTRIES {
            let Some(entry) = listing.next().await.ok()? else { break };
            let distance = strsim::damerau_levenshtein(&entry.path, name);
            if distance <= 1 + name.chars().count() / 4 && best.as_ref().is_none_or(|(least, _)| distance < *least) {
                best = Some((distance, entry.path));
            }
        }
        best.map(|(_, name)| name)
    }
}

/// Who runs this process: the name that the user database gives, else what the environment says.
pub(crate) fn os_user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    user_of(uid)
        .or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| format!("uid{uid}"))
}

fn user_of(uid: u32) -> Option<String> {
    let mut reader = base::local::LocalReader::open(std::path::Path::new("/etc/passwd")).ok()?;
    let bytes = reader.read_chunk(1 << 20).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    passwd_name(text, uid)
}

fn passwd_name(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// What this machine calls itself.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_database_is_read() {
        let text = "root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\n";
        assert_eq!(passwd_name(text, 1000).as_deref(), Some("ana"));
        assert_eq!(passwd_name(text, 7), None);
    }
}
