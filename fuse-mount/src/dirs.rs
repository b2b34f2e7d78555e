//! Open directories: listings as far as they are read, with a window that bounds what is kept.

use std::collections::VecDeque;

use client::{Client, FileStatus, Listing};

use crate::core::{Answer, Core};

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
    window: VecDeque<FileStatus>,
    /// Place of the first entry of the window.
    at: u64,
}

/// What a directory's reader is given.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// `.`
    Itself,
    /// `..`
    Above,
    /// A name in it.
    Name(&'a FileStatus),
}

impl OpenDirectory {
    pub(crate) fn new(number: u64, client: Client) -> Self {
        Self { number, client, cursor: tokio::sync::Mutex::default() }
    }
}

impl Core {
    /// Gives the entries from a place on to `take`, each with the place behind it, until it says that it is full.
    pub(crate) async fn read_directory(
        &self,
        directory: &OpenDirectory,
        from: u64,
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
        let mut index = 0;
        loop {
            if index == cursor.window.len() && !self.more(&mut cursor).await? {
                return Ok(());
            }
            let Some(entry) = cursor.window.get(index) else { return Ok(()) };
            if !take(place + 1, Entry::Name(entry)) {
                return Ok(());
            }
            index += 1;
            place += 1;
        }
    }

    /// Moves the window to a place: what is before it was read.
    async fn go_to(&self, directory: &OpenDirectory, cursor: &mut Cursor, place: u64) -> Answer<()> {
        if cursor.listing.is_none() || place < cursor.at {
            let listing = directory.client.list(&self.path(directory.number)?)?;
            *cursor = Cursor { listing: Some(listing), window: VecDeque::new(), at: DOTS };
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
        let page = self.ask(listing.next_page()).await?;
        let any = !page.is_empty();
        cursor.window.extend(page);
        Ok(any)
    }
}
