//! Open directories: what is read of them, at which places.
//!
//! ```text
//!   as many names as fit ─▶ Whole   in the order of the names' hashes, and a name's hash is its place: it is the same in
//!                                   every listing, so that the kernel may keep one and go on in the next
//!   more                 ─▶ Pages   in the order of the names, counted; a window bounds what is kept
//! ```

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use base::clock::{Clock, Moment};
use client::{Client, FileStatus, Listing};
use fuser::FileAttr;

use crate::changes::Asked;
use crate::core::{Answer, Core};
use crate::errno::Errno;

/// Places of the directory itself and of the one above it.
const DOTS: u64 = 2;
/// One `opendir`.
#[derive(Debug)]
pub(crate) struct OpenDirectory {
    pub(crate) number: u64,
    uid: u32,
    client: Client,
    listed: tokio::sync::Mutex<Option<Listed>>,
}

/// What was read of a directory.
#[derive(Debug)]
enum Listed {
    /// All of it, each name with its place, and when it was asked for.
    Whole(Vec<(u64, Found)>, Moment),
    Pages(Cursor),
}

/// The part of a listing between the oldest place that may be asked for again and the newest that was.
#[derive(Debug)]
struct Cursor {
    listing: Listing,
    window: VecDeque<Found>,
    /// Place of the first entry of the window.
    at: u64,
    /// The name before it, if there is one.
    before: String,
    /// When the page that comes may have been asked for: with the one before it.
    ahead: Option<When>,
}

/// When the cluster was asked.
#[derive(Clone, Copy, Debug)]
struct When {
    asked: Asked,
    at: Moment,
}

/// An entry of a page.
#[derive(Debug)]
struct Found {
    status: FileStatus,
    when: When,
}

/// What a directory's reader is given.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// `.`
    Itself,
    /// `..`
    Above,
    /// A name in it, of which the kernel is told no more than that.
    Name(&'a FileStatus),
    /// A name in it that the kernel was told of, once, and for how long it may believe what it was told.
    Told(&'a str, FileAttr, Duration),
}

impl OpenDirectory {
    pub(crate) fn new(number: u64, uid: u32, client: Client) -> Self {
        Self { number, uid, client, listed: tokio::sync::Mutex::default() }
    }
}

/// What is given to the kernel in one answer.
struct Giving<F> {
    /// The kernel is told of the entries, not only what they are called.
    tells: bool,
    take: F,
    /// The kernel was given something.
    any: bool,
}

impl Core {
    /// Gives the entries behind a place to `take`, each with its own, until it says that it is full; `tells`: with what the kernel
    /// is to be told of them.
    pub(crate) async fn read_directory(
        &self,
        directory: &OpenDirectory,
        (from, tells): (u64, bool),
        mut take: impl FnMut(u64, Entry<'_>) -> bool,
    ) -> Answer<()> {
        let mut listed = directory.listed.lock().await;
        let mut place = from;
        while place < DOTS {
            let entry = if place == 0 { Entry::Itself } else { Entry::Above };
            if !take(place + 1, entry) {
                return Ok(());
            }
            place += 1;
        }
        let begins = from < DOTS;
        let mut giving = Giving { tells, take, any: begins };
        let is_old = matches!(&*listed, Some(Listed::Whole(_, at)) if tells && self.is_too_old(*at));
        if begins || listed.is_none() || is_old {
            let again = self.read_whole(directory).await;
            match again {
                Ok(again) => *listed = Some(again),
                // The kernel was given the first ones: the error comes when it asks for more.
                Err(_) if giving.any => {
                    *listed = None;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        match listed.as_mut() {
            Some(Listed::Whole(all, _)) => {
                let first = all.partition_point(|(at, _)| *at <= place);
                for (at, found) in all.iter().skip(first) {
                    if !self.give(directory, (*at, found), &mut giving).await? {
                        break;
                    }
                }
                Ok(())
            }
            Some(Listed::Pages(cursor)) => self.read_pages(directory, cursor, place, &mut giving).await,
            None => Ok(()),
        }
    }

    /// Reads a directory from its beginning, as a whole if it is not too long.
    async fn read_whole(&self, directory: &OpenDirectory) -> Answer<Listed> {
        let begun = self.clock.now();
        let mut cursor = self.begin(directory, (String::new(), DOTS))?;
        while cursor.window.len() <= self.config.max_whole_names {
            if !self.more(&mut cursor).await? {
                self.inodes
                    .lock()
                    .listed(directory.number, Some((directory.uid, begun.plus(self.config.attribute_ttl))));
                return Ok(Listed::Whole(by_hash(cursor.window), begun));
            }
        }
        self.inodes.lock().listed(directory.number, None);
        Ok(Listed::Pages(cursor))
    }

    /// Begins to read a directory behind a name.
    fn begin(&self, directory: &OpenDirectory, (before, at): (String, u64)) -> Answer<Cursor> {
        let listing = directory.client.list(&self.path(directory.number)?)?.after(&before);
        Ok(Cursor { listing, window: VecDeque::new(), at, before, ahead: None })
    }

    /// May the kernel not be told of what was asked for then? It would ask for each entry again.
    fn is_too_old(&self, at: Moment) -> bool {
        self.clock.now().since(at) >= self.config.attribute_ttl
    }

    async fn read_pages<F: FnMut(u64, Entry<'_>) -> bool>(
        &self,
        directory: &OpenDirectory,
        cursor: &mut Cursor,
        mut place: u64,
        giving: &mut Giving<F>,
    ) -> Answer<()> {
        self.go_to(directory, cursor, place).await?;
        let is_old = cursor.window.front().is_some_and(|found| giving.tells && self.is_too_old(found.when.at));
        if is_old && cursor.at == place {
            *cursor = self.begin(directory, (std::mem::take(&mut cursor.before), place))?;
        }
        let mut index = 0;
        loop {
            if index == cursor.window.len() {
                match self.more(cursor).await {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(_) if giving.any => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            let Some(found) = cursor.window.get(index) else { return Ok(()) };
            if !self.give(directory, (place + 1, found), giving).await? {
                return Ok(());
            }
            index += 1;
            place += 1;
        }
    }

    /// Gives an entry to the kernel, unless it is gone. False: no more is wanted.
    async fn give<F: FnMut(u64, Entry<'_>) -> bool>(
        &self,
        directory: &OpenDirectory,
        (at, found): (u64, &Found),
        giving: &mut Giving<F>,
    ) -> Answer<bool> {
        let entry = match giving.tells {
            true => match self.tell_entry(directory, found).await {
                // The kernel was told of some: the error comes when it asks for more.
                Err(_) if giving.any => return Ok(false),
                told => told?,
            },
            false => Some(Entry::Name(&found.status)),
        };
        let Some(entry) = entry else { return Ok(true) };
        let told = if let Entry::Told(_, attr, _) = &entry { Some(attr.ino.0) } else { None };
        let taken = (giving.take)(at, entry);
        giving.any |= taken;
        if !taken {
            // The kernel was not told after all.
            told.into_iter().for_each(|number| self.inodes.lock().forget(number, 1));
        }
        Ok(taken)
    }

    /// Tells the kernel of an entry, as it is by now if this mount has changed it since its page was asked for; `None`: it is
    /// gone.
    async fn tell_entry<'a>(&self, directory: &OpenDirectory, found: &'a Found) -> Answer<Option<Entry<'a>>> {
        let (number, name) = (directory.number, &found.status.path);
        let ttl = self.config.attribute_ttl;
        let believed = ttl.saturating_sub(self.clock.now().since(found.when.at));
        // What is known here was learned later, perhaps: another mount put another file there.
        let is_known_as_another = {
            let inodes = self.inodes.lock();
            inodes.child(number, name).is_some_and(|child| inodes.inode(child) != found.status.inode)
        };
        if !is_known_as_another
            && let Some(attr) = self.tell_if_new(found.when.asked, (number, name), &found.status, believed)
        {
            return Ok(Some(Entry::Told(name, attr, believed)));
        }
        match self.look_up(&directory.client, number, name).await {
            Ok(attr) => Ok(Some(Entry::Told(name, attr, ttl))),
            Err(Errno::ENOENT | Errno::ESTALE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves the window to a place: what is before it was read.
    async fn go_to(&self, directory: &OpenDirectory, cursor: &mut Cursor, place: u64) -> Answer<()> {
        if place < cursor.at {
            *cursor = self.begin(directory, (String::new(), DOTS))?;
        }
        while cursor.at < place {
            if cursor.window.is_empty() && !self.more(cursor).await? {
                return Ok(());
            }
            if let Some(found) = cursor.window.pop_front() {
                cursor.before = found.status.path;
            }
            cursor.at += 1;
        }
        Ok(())
    }

    /// Another page; false at the end.
    async fn more(&self, cursor: &mut Cursor) -> Answer<bool> {
        let now = When { asked: self.inodes.lock().asked(), at: self.clock.now() };
        let page = self.ask(cursor.listing.next_page()).await?;
        let when = cursor.ahead.replace(now).unwrap_or(now);
        let any = !page.is_empty();
        cursor.window.extend(page.into_iter().map(|status| Found { status, when }));
        Ok(any)
    }
}

/// All entries at their places.
fn by_hash(entries: VecDeque<Found>) -> Vec<(u64, Found)> {
    let mut all: Vec<_> = entries.into_iter().map(|found| (place_of(&found.status.path), found)).collect();
    all.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| a.status.path.cmp(&b.status.path)));
    let mut before = DOTS;
    for (at, _) in &mut all {
        *at = (*at).max(before + 1);
        before = *at;
    }
    all
}

/// Where a name is in its directory: what programs get is a positive number.
fn place_of(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    (hasher.finish() >> 2).max(DOTS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inodes::Inodes;

    fn found(name: &str) -> Found {
        let status = FileStatus { path: name.to_owned(), ..FileStatus::default() };
        Found { status, when: When { asked: Inodes::default().asked(), at: Moment::START } }
    }

    #[test]
    fn a_name_has_the_same_place_whatever_else_there_is() {
        let names: Vec<String> = (0..500).map(|number| format!("f{number}")).collect();
        let all = by_hash(names.iter().map(|name| found(name)).collect());
        assert!(all.is_sorted_by(|(one, _), (other, _)| one < other) && all.iter().all(|(at, _)| *at > DOTS));
        assert!(all.iter().all(|(at, _)| i64::try_from(*at).is_ok()));
        let half = by_hash(names.iter().step_by(2).map(|name| found(name)).collect());
        for (at, entry) in &half {
            let same = all.iter().find(|(_, other)| other.status.path == entry.status.path);
            assert_eq!(same.map(|(at, _)| at), Some(at));
        }
    }
}
