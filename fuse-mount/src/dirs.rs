//! Open directories: listings as far as they are read, with a window that bounds what is kept.

use std::collections::VecDeque;
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
    client: Client,
    cursor: tokio::sync::Mutex<Cursor>,
}

/// The part of a listing between the oldest place that may be asked for again and the newest that was.
#[derive(Debug, Default)]
struct Cursor {
    listing: Option<Listing>,
    window: VecDeque<Found>,
    /// Place of the first entry of the window.
    at: u64,
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
    pub(crate) fn new(number: u64, client: Client) -> Self {
        Self { number, client, cursor: tokio::sync::Mutex::default() }
    }
}

impl Core {
    /// Gives the entries from a place on to `take`, each with the place behind it, until it says that it is full; `tells`: with
    /// what the kernel is to be told of them.
    pub(crate) async fn read_directory(
        &self,
        directory: &OpenDirectory,
        (from, tells): (u64, bool),
        mut take: impl FnMut(u64, Entry<'_>) -> bool,
    ) -> Answer<()> {
        let mut cursor = directory.cursor.lock().await;
        let mut place = from;
        while place < DOTS {
            let entry = if place == 0 { Entry::Itself } else { Entry::Above };
            if !take(place + 1, entry) {
                return Ok(());
            }
            place += 1;
        }
        self.go_to(directory, &mut cursor, place).await?;
        let (mut index, mut any) = (0, false);
        loop {
            if index == cursor.window.len() {
                match self.more(&mut cursor).await {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    // The kernel was told of some: the error comes when it asks for more.
                    Err(_) if any => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            let Some(found) = cursor.window.get(index) else { return Ok(()) };
            let entry = match tells {
                true => match self.tell_entry(directory, found).await {
                    Err(_) if any => return Ok(()),
                    told => told?,
                },
                false => Some(Entry::Name(&found.status)),
            };
            if let Some(entry) = entry {
                let told = if let Entry::Told(_, attr, _) = &entry { Some(attr.ino.0) } else { None };
                if !take(place + 1, entry) {
                    // The kernel was not told after all.
                    told.into_iter().for_each(|number| self.inodes.lock().forget(number, 1));
                    return Ok(());
                }
                any = true;
            }
            index += 1;
            place += 1;
        }
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
        if cursor.listing.is_none() || place < cursor.at {
            let listing = directory.client.list(&self.path(directory.number)?)?;
            *cursor = Cursor { listing: Some(listing), at: DOTS, ..Cursor::default() };
        }
        while cursor.at < place {
            if cursor.window.is_empty() && !self.more(cursor).await? {
                return Ok(());
            }
            cursor.window.pop_front();
            cursor.at += 1;
        }
        Ok(())
    }

    /// Another page; false at the end.
    async fn more(&self, cursor: &mut Cursor) -> Answer<bool> {
        let Some(listing) = &mut cursor.listing else { return Ok(false) };
        let now = When { asked: self.inodes.lock().asked(), at: self.clock.now() };
        let page = self.ask(listing.next_page()).await?;
        let when = cursor.ahead.replace(now).unwrap_or(now);
        let any = !page.is_empty();
        cursor.window.extend(page.into_iter().map(|status| Found { status, when }));
        Ok(any)
    }
}
