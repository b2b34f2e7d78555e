//! The emptier of the trash. Clients move what they delete to `/user/<user>/.Trash/Current/…`; here `Current` becomes a
//! checkpoint named by its time now and then, and checkpoints go when they are old, as in HDFS.
//!
//! How old a checkpoint is counts from when this leader first saw it, by the log's time: a wrong clock, a restart or
//! another leader can make trash live longer, never shorter. It is the age of what is there, not of its name: names can be
//! exchanged for others, and what was live data a moment ago is none of what is old. What is found old is named by its inode
//! to the end, so that what comes to its place meanwhile is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::calendar::DateTime;
use base::clock::Moment;
use proto::ids::InodeId;
use proto::log::{CallerRecord, Rename};
use proto::namespace::{FileKind, FileStatus};
use proto::path::FsPath;

use crate::namespace::Namespace;

/// Where the users' trash is.
const USERS: &str = "/user";
const TRASH: &str = ".Trash";
const CURRENT: &str = "Current";
/// Users that are looked at in one go.
const USERS_AT_ONCE: usize = 100;
/// Checkpoints of one user that are looked at.
const CHECKPOINTS: usize = 1000;
/// Old checkpoints that are taken up with one look: clients have their turn as well.
const AT_ONCE: usize = 64;
/// Time between two looks, once all users had their turn.
const LOOK: Duration = Duration::from_secs(1);

/// Where the emptier stands.
#[derive(Debug)]
pub(super) struct Trash {
    looked: Moment,
    checkpointed: Moment,
    /// The last user that was looked at.
    after: String,
    /// Are `Current`s made checkpoints in this round?
    checkpointing: bool,
    /// By path of the trash and inode of the checkpoint: log time in ms at which it was seen there first.
    seen: BTreeMap<String, BTreeMap<u64, u64>>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Makes `Current`s checkpoints.
    pub(super) renames: Vec<(CallerRecord, Rename)>,
    /// Checkpoints that are old.
    pub(super) old: Vec<(CallerRecord, OldTree)>,
}

/// A checkpoint that is old, under the name that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OldTree {
    pub(super) path: String,
    pub(super) inode: InodeId,
}

impl Trash {
    pub(super) const fn new(now: Moment) -> Self {
        Self { looked: now, checkpointed: now, after: String::new(), checkpointing: false, seen: BTreeMap::new() }
    }

    /// What is to be done now.
    pub(super) fn look(
        &mut self,
        namespace: &Namespace,
        record: &CallerRecord,
        (now, wall_ns): (Moment, i64),
    ) -> Found {
        let settings = namespace.settings();
        let interval_ms = settings.trash_interval_ms;
        if interval_ms == 0 || namespace.identity().is_none() || now.since(self.looked) < LOOK {
            return Found::default();
        }
        self.looked = now;
        if self.after.is_empty() {
            let every_ms = if settings.trash_checkpoint_ms == 0 { interval_ms } else { settings.trash_checkpoint_ms };
            self.checkpointing = now.since(self.checkpointed) >= Duration::from_millis(every_ms);
            if self.checkpointing {
                self.checkpointed = now;
            }
        }
        let Ok(users) = FsPath::parse(USERS) else { return Found::default() };
        let Ok((users, more)) = namespace.list(record, &users, &self.after, USERS_AT_ONCE) else {
            self.after.clear();
            self.seen.clear();
            return Found::default();
        };
        let after = users.last().filter(|_| more).map(|user| user.path.clone()).unwrap_or_default();
        self.forget_absent(&after, &users);
        self.after = after;
        let mut found = Found::default();
        for user in users {
            self.look_at_user(namespace, record, &format!("{USERS}/{}/{TRASH}", user.path), wall_ns, &mut found);
        }
        found
    }

    /// What was seen of users between the last one that was looked at and `until` (empty: the end) who are not there any more:
    /// nobody looks at them again.
    fn forget_absent(&mut self, until: &str, users: &[FileStatus]) {
        let there: BTreeSet<&str> = users.iter().map(|user| user.path.as_str()).collect();
        let after = self.after.as_str();
        self.seen.retain(|trash, _| {
            let user = user_of(trash);
            let listed = user > after && (until.is_empty() || user <= until);
            !listed || there.contains(user)
        });
    }

    fn look_at_user(
        &mut self,
        namespace: &Namespace,
        record: &CallerRecord,
        trash: &str,
        wall_ns: i64,
        found: &mut Found,
    ) {
        // The owner acts, with no more rights than its own: symbolic links of users lead nowhere but where they may go.
        let Some(owner) = owner_of_directories(namespace, record, trash) else {
            self.seen.remove(trash);
            return;
        };
        let Ok(path) = FsPath::parse(trash) else { return };
        let Ok((entries, _)) = namespace.list(record, &path, "", CHECKPOINTS) else { return };
        let (log_ms, interval_ms) = (namespace.log_time_ms(), namespace.settings().trash_interval_ms);
        let names: BTreeSet<String> = entries.iter().map(|entry| entry.path.clone()).collect();
        let seen = self.seen.entry(trash.to_owned()).or_default();
        let checkpoints = entries.iter().filter(|entry| is_checkpoint(&entry.path));
        let here: BTreeSet<u64> = checkpoints.map(|entry| entry.inode).collect();
        seen.retain(|inode, _| here.contains(inode));
        for entry in entries {
            let at = format!("{trash}/{}", entry.path);
            if entry.path == CURRENT {
                if self.checkpointing {
                    let to = format!("{trash}/{}", free_name(&checkpoint_name(wall_ns), &names));
                    found.renames.push((owner.clone(), Rename { from: at, to, replace: false, exchange: false }));
                }
            } else if is_checkpoint(&entry.path) {
                let key = entry.inode;
                let first_ms = *seen.entry(key).or_insert(log_ms);
                if log_ms.saturating_sub(first_ms) >= interval_ms && found.old.len() < AT_ONCE {
                    // In case nothing comes of it.
                    seen.remove(&key);
                    found.old.push((owner.clone(), OldTree { path: at, inode: InodeId::from_raw(entry.inode) }));
                }
            }
        }
        if seen.is_empty() {
            self.seen.remove(trash);
        }
    }
}

/// The user in the path of a trash.
fn user_of(trash: &str) -> &str {
    trash.strip_prefix(USERS).and_then(|rest| rest.strip_suffix(TRASH)).unwrap_or(trash).trim_matches('/')
}

/// Whose trash this is, if it and the directory of the user are real directories.
fn owner_of_directories(namespace: &Namespace, record: &CallerRecord, trash: &str) -> Option<CallerRecord> {
    let path = FsPath::parse(trash).ok()?;
    let home = namespace.stat_link(record, &path.parent()?).ok()?;
    let trash = namespace.stat_link(record, &path).ok()?;
    let real = home.kind() == FileKind::Directory && trash.kind() == FileKind::Directory;
    real.then(|| CallerRecord { user: trash.owner.clone(), groups: vec![trash.owner] })
}

/// `yyMMddHHmmss`, in UTC.
fn checkpoint_name(wall_ns: i64) -> String {
    let t = DateTime::of_unix_ns(wall_ns);
    format!("{:02}{:02}{:02}{:02}{:02}{:02}", t.year.rem_euclid(100), t.month, t.day, t.hour, t.minute, t.second)
}

/// The clock may stand still, or go back.
fn free_name(name: &str, taken: &BTreeSet<String>) -> String {
    let numbered = (1..).map(|n: u32| format!("{name}-{n}"));
    let mut all = std::iter::once(name.to_owned()).chain(numbered);
    all.find(|name| !taken.contains(name)).unwrap_or_default()
}

/// Names of other forms are none of the emptier's business.
fn is_checkpoint(name: &str) -> bool {
    name.len() >= 12 && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_of_users_that_are_gone_is_forgotten_once_their_part_of_the_list_is_looked_at() {
        let mut trash = Trash::new(Moment::START);
        let seen = |user: &str| (format!("{USERS}/{user}/{TRASH}"), BTreeMap::from([(7, 7)]));
        trash.seen = ["a", "b", "c", "d", "e"].into_iter().map(seen).collect();
        let left = |trash: &Trash| trash.seen.keys().map(|at| user_of(at).to_owned()).collect::<String>();
        let there = |users: &[&str]| -> Vec<FileStatus> {
            users.iter().map(|user| FileStatus { path: (*user).to_owned(), ..FileStatus::default() }).collect()
        };
        trash.forget_absent("c", &there(&["a", "c"]));
        assert_eq!(left(&trash), "acde");
        trash.after = "c".to_owned();
        trash.forget_absent("", &there(&["d"]));
        assert_eq!(left(&trash), "acd");
    }

    #[test]
    fn checkpoints_are_named_as_in_hdfs() {
        assert_eq!(checkpoint_name(1_795_339_719_515_000_000), "261122092839");
        assert_eq!(user_of("/user/ana/.Trash"), "ana");
        assert!(is_checkpoint("261122092839") && is_checkpoint("261122092839-1") && !is_checkpoint("Current"));
    }
}
