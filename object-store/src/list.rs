//! The listings of a store.

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{Error, ListResult, ObjectMeta, Result};

use crate::store::BlockyardStore;
use crate::walk::{Found, Walk, Wanted};

/// Objects of a page, if nobody says otherwise.
const PAGE_KEYS: usize = 1000;

impl BlockyardStore {
    /// All objects below a prefix whose path comes after `after`, in the order of their paths, as they are asked for.
    pub(crate) fn objects(&self, prefix: Option<&Path>, after: &str) -> BoxStream<'static, Result<ObjectMeta>> {
        let directory = prefix.cloned().unwrap_or_default();
        let wanted = Wanted { directory, after: after.to_owned(), deep: true, ..Wanted::default() };
        let walk = match self.walk(wanted) {
            Ok(walk) => walk,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let found = stream::unfold(walk, async |mut walk| Some((walk.next().await.transpose()?, walk)));
        let objects = found.try_filter_map(async |found| match found {
            Found::Object(meta) => Ok(Some(meta)),
            Found::Directory(_) => Ok(None),
        });
        objects.boxed()
    }

    /// What is in one directory.
    pub(crate) async fn directory(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let directory = prefix.cloned().unwrap_or_default();
        let mut walk = self.walk(Wanted { directory, ..Wanted::default() })?;
        let mut all = empty();
        while let Some(found) = walk.next().await? {
            add(&mut all, found);
        }
        Ok(all)
    }

    fn walk(&self, wanted: Wanted) -> Result<Walk> {
        Walk::new(self.client().clone(), self.root().clone(), wanted)
    }
}

/// Pages of objects whose paths begin with any text, also in the middle of a name. Pages are in the order of paths and
/// name each object once; the token of a page is the last key on it, so that it never grows old.
#[async_trait]
impl PaginatedListStore for BlockyardStore {
    /// `max_keys` is 1000 unless set, and at least 1. The one delimiter is `/`.
    async fn list_paginated(&self, prefix: Option<&str>, options: PaginatedListOptions) -> Result<PaginatedListResult> {
        if options.delimiter.as_deref().is_some_and(|delimiter| delimiter != "/") {
            return Err(Error::NotSupported { source: "the only delimiter is /".into() });
        }
        let mut page = PaginatedListResult { result: empty(), page_token: None };
        let Some((directory, name_prefix)) = directory_and_name(prefix.unwrap_or_default()) else { return Ok(page) };
        let after = options.page_token.max(options.offset).unwrap_or_default();
        let deep = options.delimiter.is_none();
        let mut walk = self.walk(Wanted { directory, name_prefix, after, deep })?;
        let room = options.max_keys.unwrap_or(PAGE_KEYS).max(1);
        let mut last = None;
        while let Some(found) = walk.next().await? {
            if page.result.objects.len() + page.result.common_prefixes.len() == room {
                page.page_token = last;
                break;
            }
            last = Some(found.key());
            add(&mut page.result, found);
        }
        Ok(page)
    }
}

/// The directory in which all objects are whose paths begin with a text, and how their names begin. `None` if no path can.
fn directory_and_name(prefix: &str) -> Option<(Path, String)> {
    let Some((above, name)) = prefix.rsplit_once('/') else { return Some((Path::default(), prefix.to_owned())) };
    let directory = Path::parse(above).ok()?;
    (!above.is_empty() && directory.as_ref() == above).then(|| (directory, name.to_owned()))
}

fn empty() -> ListResult {
    ListResult { common_prefixes: Vec::new(), objects: Vec::new() }
}

fn add(all: &mut ListResult, found: Found) {
    match found {
        Found::Object(meta) => all.objects.push(meta),
        Found::Directory(path) => all.common_prefixes.push(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_directory_and_the_beginning_of_a_name() {
        let of = |prefix| directory_and_name(prefix).map(|(directory, name)| format!("{directory} + {name}"));
        assert_eq!(of("").unwrap(), " + ");
        assert_eq!(of("fo").unwrap(), " + fo");
        assert_eq!(of("a/b/").unwrap(), "a/b + ");
        assert_eq!(of("a/b/c d").unwrap(), "a/b + c d");
        for no_path in ["/", "/a", "a//b", "a//", "../b", "a/./b"] {
            assert_eq!(of(no_path), None, "{no_path}");
        }
    }
}
