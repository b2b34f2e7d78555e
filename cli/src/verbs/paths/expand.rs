//! Patterns against the cluster: one directory after another, each listed once.

use std::collections::{BTreeMap, BTreeSet};

use client::{ErrorCode, FileKind, FsError};

use super::glob::{Component, Glob, Pattern, is_special};
use super::{absolute, below, trash_of, typed};
use crate::verbs::context::Context;
use crate::verbs::failure::Failure;

/// Directories to look into, and which rows of components go on in each.
type Level<'a> = BTreeMap<String, Vec<&'a [Component]>>;

impl Context {
    /// The path that an argument stands for if it is no pattern: for names that are to be made.
    pub(crate) fn absolute(&self, argument: &str) -> Result<String, Failure> {
        if argument.is_empty() {
            return Err(Failure::usage("an empty path", "write / for the root, . for your home"));
        }
        Ok(absolute(argument, self.user()))
    }

    /// The paths that an argument names, sorted. One without special characters names itself, whether it exists
    /// or not; a pattern that nothing fits is an error. The caller's trash fits only what begins with a dot: `rm -r '*'`
    /// means what is kept beside it, and would remove for good what it moved there a moment ago.
    pub(crate) async fn expand(&self, argument: &str) -> Result<Vec<String>, Failure> {
        let text = self.absolute(argument)?;
        if !is_special(&text) || self.look(&text).await?.is_some() {
            return Ok(vec![text]);
        }
        let pattern = Pattern::parse(&text)
            .map_err(|error| Failure::usage(format!("{error}: {argument}"), "write the paths one by one"))?;
        let found = self.matches(&pattern).await?;
        if found.is_empty() {
            let error = FsError::new(ErrorCode::NotFound, "nothing fits the pattern").with_path(text);
            return Err(Failure::from(error.with_hint(r"put \ before a character that is meant as it is")));
        }
        Ok(found.into_iter().collect())
    }

    async fn matches(&self, pattern: &Pattern) -> Result<BTreeSet<String>, Failure> {
        let mut found = BTreeSet::new();
        let rows: Vec<&[Component]> = pattern.alternatives.iter().map(Vec::as_slice).collect();
        let mut level = Level::from([("/".to_owned(), rows)]);
        while !level.is_empty() {
            let mut next = Level::new();
            for (directory, rows) in level {
                self.matches_in(&directory, &rows, &mut found, &mut next).await?;
            }
            level = next;
        }
        Ok(found)
    }

    async fn matches_in<'a>(
        &self,
        directory: &str,
        rows: &[&'a [Component]],
        found: &mut BTreeSet<String>,
        next: &mut Level<'a>,
    ) -> Result<(), Failure> {
        let mut globs: Vec<(&Glob, &'a [Component])> = Vec::new();
        for row in rows {
            match row.split_first() {
                Some((Component::Glob(glob), rest)) => globs.push((glob, rest)),
                Some((Component::Name(name), rest)) => {
                    let path = below(directory, name);
                    if !rest.is_empty() {
                        next.entry(path).or_default().push(rest);
                    } else if self.is_there(&path).await? {
                        found.insert(typed(&path).to_owned());
                    }
                }
                None => {}
            }
        }
        if globs.is_empty() { Ok(()) } else { self.list_in(directory, &globs, found, next).await }
    }

    async fn list_in<'a>(
        &self,
        directory: &str,
        globs: &[(&Glob, &'a [Component])],
        found: &mut BTreeSet<String>,
        next: &mut Level<'a>,
    ) -> Result<(), Failure> {
        let prefix = common_prefix(globs.iter().map(|(glob, _)| glob.prefix()));
        let mut listing = self.client.list(directory)?.starting_before(&prefix);
        loop {
            let entry = match listing.next().await {
                Ok(Some(entry)) => entry,
                Err(error) if !matches!(error.code, ErrorCode::NotFound | ErrorCode::NotADirectory) => {
                    return Err(Failure::from(error).at(directory));
                }
                // Nothing is there for the pattern to fit.
                Ok(None) | Err(_) => return Ok(()),
            };
            let name = &entry.path;
            if name.is_empty() || (name.as_str() > prefix.as_str() && !name.starts_with(&prefix)) {
                return Ok(());
            }
            for (glob, rest) in globs.iter().filter(|(glob, _)| glob.matches(name)) {
                debug_assert!(name.starts_with(&glob.prefix()));
                let path = below(directory, name);
                if path == trash_of(self.user()) && !glob.begins_with_dot() {
                    continue;
                }
                if rest.is_empty() {
                    found.insert(path);
                } else if matches!(entry.kind(), FileKind::Directory | FileKind::Symlink) {
                    next.entry(path).or_default().push(rest);
                }
            }
        }
    }

    async fn is_there(&self, path: &str) -> Result<bool, Failure> {
        match self.client.stat_link(typed(path)).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.code, ErrorCode::NotFound | ErrorCode::NotADirectory) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// What all of the texts begin with.
fn common_prefix(mut texts: impl Iterator<Item = String>) -> String {
    let Some(mut common) = texts.next() else { return String::new() };
    for text in texts {
        let same = common.chars().zip(text.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
        common.truncate(same);
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_have_their_beginning_in_common() {
        let common = |texts: &[&str]| common_prefix(texts.iter().map(|text| (*text).to_owned()));
        assert_eq!(
            [common(&["part-1", "part-2"]), common(&["ä", "ö"]), common(&["x"]), common(&[])],
            ["part-", "", "x", ""]
        );
    }
}
