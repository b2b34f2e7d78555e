//! Directories page by page.

use std::collections::VecDeque;

use proto::error::FsResult;
use proto::namespace::FileStatus;
use proto::path::FsPath;

use crate::client::Client;

/// The entries of one directory, by name. Each page is one consistent view; a name that exists during the
/// whole listing appears exactly once.
#[derive(Debug)]
pub struct Listing {
    client: Client,
    path: FsPath,
    page: VecDeque<FileStatus>,
    start_after: String,
    more: bool,
}

impl Listing {
    pub(crate) const fn new(client: Client, path: FsPath) -> Self {
        Self { client, path, page: VecDeque::new(), start_after: String::new(), more: true }
    }

    /// The next entry, whose path is its name only; `None` after the last. The listing of a file has one entry,
    /// with an empty path: the file itself.
    ///
    /// # Errors
    /// The namenode's refusals. The listing can be continued after a retryable one.
    ///
    /// # Cancel safety
    /// No entry is lost if the future is dropped.
    pub async fn next(&mut self) -> FsResult<Option<FileStatus>> {
        while self.page.is_empty() && self.more {
            let answer = self.client.list_page(&self.path, &self.start_after).await?;
            self.more = answer.more && !answer.entries.is_empty();
            if let Some(last) = answer.entries.last() {
                self.start_after.clone_from(&last.path);
            }
            self.page = answer.entries.into();
        }
        Ok(self.page.pop_front())
    }

    /// All entries that are left.
    ///
    /// # Errors
    /// As [`Listing::next`].
    pub async fn collect(mut self) -> FsResult<Vec<FileStatus>> {
        let mut all = Vec::new();
        while let Some(entry) = self.next().await? {
            all.push(entry);
        }
        Ok(all)
    }
}
