//! Directories page by page.

use std::collections::VecDeque;

use base::task::JoinSet;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{FileStatus, ListResponse};
use proto::path::FsPath;

use crate::client::Client;

/// The entries of one directory, by name. Each page is one consistent view; a name that exists during the
/// whole listing appears exactly once.
///
/// Whoever goes through a whole directory has the next page asked for while it works on this one: from the middle
/// of the first page on, so that a caller who wants a few entries only costs one call.
#[derive(Debug)]
pub struct Listing {
    client: Client,
    path: FsPath,
    page: VecDeque<FileStatus>,
    start_after: String,
    more: bool,
    /// The next page, on its way. At most one; dropping the listing gives it up.
    ahead: JoinSet<FsResult<ListResponse>>,
    /// The next page is asked for when no more than this is left of the current one.
    ask_at: usize,
}

impl Listing {
    pub(crate) fn new(client: Client, path: FsPath) -> Self {
        let (page, start_after) = (VecDeque::new(), String::new());
        Self { client, path, page, start_after, more: true, ahead: JoinSet::new(), ask_at: 0 }
    }

    /// Leaves out names that come before all those that begin with `prefix`, as far as that saves work: some of
    /// them may still be listed. To be called before the first entry is asked for.
    #[must_use]
    pub fn starting_before(mut self, prefix: &str) -> Self {
        // What is one character shorter comes before it, and so do few other names.
        self.start_after = prefix.char_indices().last().map_or("", |(end, _)| &prefix[..end]).to_owned();
        self
    }

    /// Begins behind a name, whether that is there or not. To be called before the first entry is asked for.
    #[must_use]
    pub fn after(mut self, name: &str) -> Self {
        name.clone_into(&mut self.start_after);
        self
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
        self.fill().await?;
        let entry = self.page.pop_front();
        self.ask_ahead();
        Ok(entry)
    }

    /// The entries that are there already, or the next page; none after the last.
    ///
    /// # Errors
    /// As [`Listing::next`].
    ///
    /// # Cancel safety
    /// No entry is lost if the future is dropped.
    pub async fn next_page(&mut self) -> FsResult<VecDeque<FileStatus>> {
        self.fill().await?;
        let page = std::mem::take(&mut self.page);
        self.ask_ahead();
        Ok(page)
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

    /// Sees to it that the current page has an entry, unless there are no more.
    async fn fill(&mut self) -> FsResult<()> {
        while self.page.is_empty() && self.more {
            let ended = |error| FsError::new(ErrorCode::Internal, format!("a listing ended early: {error}"));
            let answer = match self.ahead.join_next().await {
                Some(joined) => joined.map_err(ended)??,
                None => self.client.list_page(&self.path, &self.start_after).await?,
            };
            check_names(&answer, &self.start_after).map_err(|error| error.with_path(self.path.as_str()))?;
            self.more = answer.more && !answer.entries.is_empty();
            if let Some(last) = answer.entries.last() {
                self.start_after.clone_from(&last.path);
            }
            // After the first page the caller has shown that it goes on.
            self.ask_at = if self.ask_at == 0 { answer.entries.len() / 2 } else { usize::MAX };
            self.page = answer.entries.into();
        }
        Ok(())
    }

    fn ask_ahead(&mut self) {
        if self.more && self.page.len() <= self.ask_at && self.ahead.is_empty() {
            let (client, path, start_after) = (self.client.clone(), self.path.clone(), self.start_after.clone());
            self.ahead.spawn(async move { client.list_page(&path, &start_after).await });
        }
    }
}

/// Names become parts of paths, also on the caller's machine: whoever answers may not lead out of the directory by them.
/// Nor may a name come twice: as a link, and then as a directory that is entered through it. Only a file that is listed
/// itself has no name.
fn check_names(answer: &ListResponse, start_after: &str) -> FsResult<()> {
    let alone = answer.entries.len() == 1 && !answer.more;
    let is_name = |name: &str| match name {
        "" => alone,
        "." | ".." => false,
        name => !name.contains(['/', '\0']),
    };
    let mut before = start_after;
    for entry in &answer.entries {
        let name = entry.path.as_str();
        if !is_name(name) {
            return Err(strange(format!("the namenode lists {name:?}, which is not a name")));
        }
        if !name.is_empty() && name <= before {
            return Err(strange(format!("the namenode lists {name:?} after {before:?}: out of order, or twice")));
        }
        before = name;
    }
    Ok(())
}

fn strange(text: String) -> FsError {
    FsError::new(ErrorCode::Corrupt, text).with_hint("do not use this cluster before you know why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_9_names_that_lead_elsewhere_are_refused() {
        let answer = |names: &[&str], more| {
            let entry = |name: &&str| FileStatus { path: (*name).to_owned(), ..FileStatus::default() };
            ListResponse { entries: names.iter().map(entry).collect(), more }
        };
        for bad in ["..", ".", "a/b", "/etc/passwd", "../x", "a\0b", ""] {
            let error = check_names(&answer(&["\x01", bad], false), "").unwrap_err();
            assert_eq!(error.code, ErrorCode::Corrupt, "{bad:?}");
        }
        assert!(check_names(&answer(&[""], true), "").is_err());
        assert!(check_names(&answer(&[""], false), "").is_ok(), "a file that is listed itself");
        assert!(check_names(&answer(&["...", "..a", "\\", "a..", "x y"], true), "").is_ok());
    }

    #[test]
    fn s_9_a_name_comes_once_and_in_its_order() {
        let answer = |names: &[&str]| {
            let entry = |name: &&str| FileStatus { path: (*name).to_owned(), ..FileStatus::default() };
            ListResponse { entries: names.iter().map(entry).collect(), more: true }
        };
        assert!(check_names(&answer(&["a", "b", "c"]), "").is_ok() && check_names(&answer(&["b"]), "a").is_ok());
        // A link that leads elsewhere, and then a directory of that name: what is in it would be written there.
        for (names, after) in [(&["x", "x"][..], ""), (&["x", "y", "x"], ""), (&["b", "a"], ""), (&["x", "y"], "x")] {
            let error = check_names(&answer(names), after).unwrap_err();
            assert_eq!(error.code, ErrorCode::Corrupt, "{names:?} after {after:?}");
        }
    }
}
