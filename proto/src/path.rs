//! The one place for path and name rules. Every door parses with [`FsPath`]; nothing else splits paths.
//!
//! A path is absolute, of UTF-8 components of 1 to 255 bytes, without `/` or NUL, none of them `.` or `..`.
//! There is no normalising here: what is accepted is exactly what is stored and replayed (scar SC-04).

use std::fmt;

use crate::error::{ErrorCode, FsError};

/// Longest component, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest path, in bytes (HDFS: 8000 characters).
pub const MAX_PATH_BYTES: usize = 8000;
/// Deepest path, in components (HDFS: 1000).
pub const MAX_DEPTH: usize = 1000;

/// A path that keeps the rules.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FsPath(Box<str>);

impl FsPath {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Parses an absolute path.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidPath`] or [`ErrorCode::NameTooLong`], saying which rule is broken and what to do.
    pub fn parse(text: &str) -> Result<Self, FsError> {
        if text == "/" {
            return Ok(Self::root());
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(invalid(text, "it is not absolute", "begin the path with '/'"));
        };
        if text.len() > MAX_PATH_BYTES {
            return Err(too_long(text, "the path", MAX_PATH_BYTES));
        }
        let mut depth = 0;
        for name in rest.split('/') {
            check_component(text, name)?;
            depth += 1;
        }
        if depth > MAX_DEPTH {
            return Err(invalid(text, "it has more than 1000 components", "use a flatter tree"));
        }
        Ok(Self(text.into()))
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Is this the root?
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.as_str() == "/"
    }
    /// Names from the root down; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.0.split('/').filter(|name| !name.is_empty())
    }
    /// Last name; `None` for the root.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.components().next_back()
    }
    /// The path above; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let cut = self.0.rfind('/')?;
        match (self.is_root(), cut) {
            (true, _) => None,
            (false, 0) => Some(Self::root()),
            (false, cut) => self.0.get(..cut).map(|text| Self(text.into())),
        }
    }
    /// This path with one more name.
    ///
    /// # Errors
    /// As [`FsPath::parse`].
    pub fn join(&self, name: &str) -> Result<Self, FsError> {
        check_name(name)?;
        let base = if self.is_root() { "" } else { self.as_str() };
        Self::parse(&format!("{base}/{name}"))
    }
    /// Is `self` the same as `ancestor`, or below it?
    #[must_use]
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self
                .as_str()
                .strip_prefix(ancestor.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl From<FsPath> for String {
    fn from(path: FsPath) -> Self {
        path.as_str().to_owned()
    }
}

impl fmt::Display for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Checks one name by itself.
///
/// # Errors
/// As [`FsPath::parse`].
pub fn check_name(name: &str) -> Result<(), FsError> {
    if name.contains('/') {
        return Err(invalid(name, "a name holds no '/'", "give one component only"));
    }
    check_component(name, name)
}

fn check_component(path: &str, name: &str) -> Result<(), FsError> {
    match name {
        "" => Err(invalid(path, "it has an empty component", "remove doubled or trailing slashes")),
        "." | ".." => Err(invalid(path, "'.' and '..' are no names here", "write the path out")),
        _ if name.len() > MAX_NAME_BYTES => Err(too_long(path, "a name in it", MAX_NAME_BYTES)),
        _ if name.contains('\0') => Err(invalid(path, "it has a NUL byte", "remove it")),
        _ => Ok(()),
    }
}

fn invalid(path: &str, why: &str, hint: &str) -> FsError {
    FsError::new(ErrorCode::InvalidPath, format!("invalid path: {why}")).with_path(shorten(path)).with_hint(hint)
}
fn too_long(path: &str, what: &str, limit: usize) -> FsError {
    FsError::new(ErrorCode::NameTooLong, format!("{what} is longer than {limit} bytes"))
        .with_path(shorten(path))
        .with_hint("use a shorter name")
}
fn shorten(path: &str) -> String {
    path.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules() {
        let long = format!("/{}", "x".repeat(256));
        for bad in ["", "a", "a/b", "//", "/a//b", "/a/", "/.", "/a/..", "/../a", "/a\0b", &long] {
            assert!(FsPath::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["/", "/a", "/a/b c", "/ä/…", "/.a", "/a..", &long[..256]] {
            assert!(FsPath::parse(good).is_ok(), "{good:?}");
        }
        assert!(FsPath::parse(&"/a".repeat(1001)).is_err());
    }

    #[test]
    fn lengths_end_where_the_rules_say() {
        let code = |text: &str| FsPath::parse(text).err().map(|error| error.code);
        for len in 1..=MAX_NAME_BYTES {
            assert_eq!(code(&format!("/{}", "n".repeat(len))), None);
        }
        for name in ["n".repeat(256), "n".repeat(300), "\u{10ffff}".repeat(64)] {
            assert_eq!(code(&format!("/{name}")), Some(ErrorCode::NameTooLong));
            assert_eq!(check_name(&name).err().map(|error| error.code), Some(ErrorCode::NameTooLong));
        }
        assert_eq!(code(&format!("/{}", "…".repeat(85))), None, "bytes count, not characters");
        assert_eq!(code(&"/a".repeat(MAX_DEPTH)), None);
        assert_eq!(code(&"/a".repeat(MAX_DEPTH + 1)), Some(ErrorCode::InvalidPath));
        let long = format!("/{}", "n".repeat(249)).repeat(32);
        assert_eq!((long.len(), code(&long)), (MAX_PATH_BYTES, None));
        assert_eq!(code(&format!("{long}n")), Some(ErrorCode::NameTooLong));
        let error = FsPath::parse(&"x".repeat(1 << 20)).unwrap_err();
        assert!(error.path.len() <= 1200 && error.message.len() < 200, "a refusal does not repeat a megabyte");
    }

    #[test]
    fn join_and_parent_are_inverse() {
        for name in ["a", ".a", "…", " ", "\n"] {
            let path = FsPath::root().join("top").and_then(|top| top.join(name)).unwrap();
            assert_eq!((path.name(), path.parent().unwrap().as_str()), (Some(name), "/top"));
        }
        for bad in ["", ".", "..", "a/b", "/", "\0", "a\0"] {
            assert!(FsPath::root().join(bad).is_err(), "{bad:?}");
        }
        let long = FsPath::parse(&format!("/{}", "n".repeat(249)).repeat(32)).unwrap();
        assert_eq!(long.join("n").unwrap_err().code, ErrorCode::NameTooLong);
    }

    #[test]
    fn below_means_whole_components() {
        let p = |s: &str| FsPath::parse(s).unwrap_or_else(|_| FsPath::root());
        assert!(p("/a/b").starts_with(&p("/a")));
        assert!(!p("/ab").starts_with(&p("/a")));
        assert!(p("/ab").starts_with(&FsPath::root()));
        assert_eq!(p("/a").parent(), Some(FsPath::root()));
        assert_eq!(FsPath::root().parent(), None);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in any::<String>(), slashes in "[a/.\0]{0,30}") {
            for text in [text, slashes] {
                let keeps = text.starts_with('/')
                    && !text.contains('\0')
                    && (text == "/"
                        || text.split('/').skip(1).all(|name| !matches!(name, "" | "." | "..") && name.len() <= 255));
                let fits = text.len() <= MAX_PATH_BYTES && text.matches('/').count() <= MAX_DEPTH;
                prop_assert_eq!(FsPath::parse(&text).is_ok(), keeps && fits);
            }
        }

        #[test]
        fn whatever_is_accepted_is_kept_and_parses_again(text in ".{0,40}") {
            if let Ok(path) = FsPath::parse(&text) {
                prop_assert_eq!(path.as_str(), &text);
                let mut rebuilt = FsPath::root();
                for name in path.components() {
                    rebuilt = rebuilt.join(name).map_err(|e| TestCaseError::fail(e.to_string()))?;
                }
                prop_assert_eq!(rebuilt, path);
            }
        }
    }
}
