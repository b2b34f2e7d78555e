//! What a path argument names.
//!
//! ```text
//!   "logs/*.gz" ─▶ absolute   relative paths begin at /user/USER
//!               ─▶ glob       the pattern, pure
//!               ─▶ expand     the pattern against the cluster: sorted paths; none is an error
//!   a directory ─▶ walk       everything below it
//!   two paths   ─▶ real       are they of one directory?
//! ```

mod expand;
pub(crate) mod glob;
mod real;
pub(crate) mod walk;

/// Said in the help of verbs that take paths.
pub(crate) const PATHS_HELP: &str = "\
Paths that do not begin with / begin at /user/USER. * ? [a-c] [^a] {a,b} are patterns, quote them from your shell;
\\ before a character takes its meaning away, and a path that exists exactly as it is written is taken as it is.";

/// A path of the cluster as people type it: one slash at the end is forgiven.
pub(crate) fn typed(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some(rest) if !rest.is_empty() && !rest.ends_with('/') => rest,
        _ => path,
    }
}

/// The path that a typed one stands for.
pub(crate) fn absolute(path: &str, user: &str) -> String {
    let path = typed(path);
    if path.starts_with('/') {
        return path.to_owned();
    }
    let home = home_of(user);
    match path.strip_prefix("./").unwrap_or(path) {
        "." => home,
        rest => format!("{home}/{rest}"),
    }
}

/// Where relative paths of a user begin.
pub(crate) fn home_of(user: &str) -> String {
    format!("/user/{user}")
}

/// Where what a user removes is kept.
pub(crate) fn trash_of(user: &str) -> String {
    below(&home_of(user), ".Trash")
}

/// A name below a directory.
pub(crate) fn below(directory: &str, name: &str) -> String {
    if directory == "/" { format!("/{name}") } else { format!("{directory}/{name}") }
}

/// Last name of a path of the cluster; `None` for the root.
pub(crate) fn name_of(path: &str) -> Option<&str> {
    typed(path).rsplit('/').next().filter(|name| !name.is_empty())
}

/// The path above; `None` for the root.
pub(crate) fn parent_of(path: &str) -> Option<&str> {
    match typed(path).rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

/// Is `path` the same as `ancestor`, or below it?
pub(crate) fn is_within(path: &str, ancestor: &str) -> bool {
    ancestor == "/" || path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_typed() {
        assert_eq!([typed("/"), typed("/a/"), typed("/a//"), typed("/a")], ["/", "/a", "/a//", "/a"]);
        assert_eq!([name_of("/a/b/"), name_of("/"), name_of("/a")], [Some("b"), None, Some("a")]);
        assert_eq!([below("/", "a"), below("/a", "b")], ["/a", "/a/b"]);
        assert_eq!([parent_of("/"), parent_of("/a"), parent_of("/a/b/")], [None, Some("/"), Some("/a")]);
        assert!(is_within("/a/b", "/a") && is_within("/a", "/a") && is_within("/a", "/") && !is_within("/ab", "/a"));
    }

    #[test]
    fn relative_paths_begin_at_home() {
        let of = |path| absolute(path, "ana");
        assert_eq!(
            [of("x"), of("./x/y/"), of("."), of("./"), of("/x")],
            ["/user/ana/x", "/user/ana/x/y", "/user/ana", "/user/ana", "/x"]
        );
    }
}
