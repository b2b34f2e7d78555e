//! Which files of a tree are copied: `--include` and `--exclude`. Pure.
//!
//! A file is taken if it fits an include, or there is none, and fits no exclude; the order of the flags says nothing. A
//! directory is gone into unless it fits an exclude: includes are for files. A pattern without a slash is for the last
//! name; one with a slash is for the whole path below what was named, and there a star goes over slashes, too. A slash
//! at the end means directories only, one at the beginning means nothing more than that the pattern has one.

use super::paths::glob::Names;

/// Said in the help of verbs that take these flags.
pub(crate) const FILTERS_HELP: &str = "\
With --include only files that fit one of its patterns are taken, with --exclude none that fit one of those, and no
directory that does. A pattern without / is for the last name, one with / for the path below what is named; one that
ends with / is for directories. * ? [a-c] [^a] {a,b} as in paths; * takes slashes, too.";

/// A pattern of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    names: Names,
    whole_path: bool,
    directories_only: bool,
}

impl Rule {
    /// Reads the value of a flag.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let directories_only = text.len() > 1 && text.ends_with('/');
        let inner = if directories_only { text.trim_end_matches('/') } else { text };
        let pattern = inner.strip_prefix('/').unwrap_or(inner);
        if pattern.is_empty() {
            return Err("write a pattern such as *.log, tmp/ or deep/*.csv".to_owned());
        }
        let names = Names::parse(pattern, false).map_err(|error| error.to_string())?;
        Ok(Self { names, whole_path: inner.contains('/'), directories_only })
    }

    fn fits(&self, below: &str, directory: bool) -> bool {
        let name = below.rsplit('/').next().unwrap_or(below);
        (directory || !self.directories_only) && self.names.matches(if self.whole_path { below } else { name })
    }
}

/// All filters of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    pub(crate) include: Vec<Rule>,
    pub(crate) exclude: Vec<Rule>,
}

impl Filters {
    /// Is a file taken? `below` is its path below what was named, or its name if it was named itself.
    pub(crate) fn takes(&self, below: &str) -> bool {
        let included = self.include.is_empty() || self.include.iter().any(|rule| rule.fits(below, false));
        included && !self.exclude.iter().any(|rule| rule.fits(below, false))
    }
    /// Is a directory below the one that was named gone into?
    pub(crate) fn enters(&self, below: &str) -> bool {
        !self.exclude.iter().any(|rule| rule.fits(below, true))
    }
}

/// A path below a directory, of which `""` is the directory itself.
pub(crate) fn join(below: &str, name: &str) -> String {
    if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(include: &[&str], exclude: &[&str]) -> Filters {
        let rules = |texts: &[&str]| texts.iter().map(|text| Rule::parse(text).unwrap()).collect();
        Filters { include: rules(include), exclude: rules(exclude) }
    }

    #[test]
    fn without_filters_everything_is_taken() {
        let all = Filters::default();
        assert!(all.takes("a/b") && all.enters("a"));
    }

    #[test]
    fn names_and_paths() {
        let logs = filters(&["*.log", "*.{csv,tsv}"], &["old*", "deep/er/*", "tmp/"]);
        for (path, taken) in [
            ("a.log", true),
            ("x/y/a.log", true),
            ("x.csv", true),
            ("x.txt", false),
            ("old.log", false),
            ("x/old.log", false),
            ("old/x.log", true),
            ("deep/er/x.log", false),
            ("deep/er/and/x.log", false),
            ("deep/x.log", true),
            ("x/deep/er/x.log", true),
            ("tmp", false),
        ] {
            assert_eq!(logs.takes(path), taken, "{path}");
        }
        for (directory, entered) in [("tmp", false), ("x/tmp", false), ("old", false), ("deep/er", true), ("x", true)] {
            assert_eq!(logs.enters(directory), entered, "{directory}");
        }
        assert!(filters(&[], &["tmp/"]).takes("tmp"), "a file of that name is no directory");
    }

    #[test]
    fn a_slash_in_front_holds_a_pattern_to_the_top() {
        let top = filters(&[], &["/x"]);
        assert!(!top.takes("x") && top.takes("d/x"));
        let any = filters(&[], &["x"]);
        assert!(!any.takes("x") && !any.takes("d/x"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "/", "//", &"{a,b}".repeat(13)] {
            assert!(Rule::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(join("", "a"), "a");
        assert_eq!(join("a/b", "c"), "a/b/c");
    }
}
