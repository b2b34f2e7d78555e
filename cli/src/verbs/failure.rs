//! Failures as people and scripts see them: one line, a hint, an exit status.

use std::io;
use std::path::Path;

use client::{ErrorCode, FsError};
use serde_json::{Value, json};

use crate::exit::Status;

/// A failure of a verb, or of one of its items.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    error: FsError,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cluster,
    Local,
    Usage,
    Interrupted,
    /// Whoever read our output went away: no message, as with every other command.
    Quiet,
    /// Not a failure at all: the answer of a verb that answers by its exit status.
    Verdict(Status),
}

impl From<FsError> for Failure {
    fn from(error: FsError) -> Self {
        Self { error, kind: Kind::Cluster }
    }
}

impl Failure {
    /// A local file or the machine itself.
    pub(crate) fn local(what: &str, path: impl AsRef<Path>, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => ErrorCode::NotFound,
            io::ErrorKind::PermissionDenied => ErrorCode::PermissionDenied,
            io::ErrorKind::AlreadyExists => ErrorCode::AlreadyExists,
            io::ErrorKind::StorageFull => ErrorCode::NoSpace,
            _ => ErrorCode::Internal,
        };
        let path = path.as_ref().display().to_string();
        let error = FsError::new(code, format!("cannot {what} on this machine: {}", plain(error))).with_path(path);
        Self { error, kind: Kind::Local }
    }
    /// A local item that cannot be copied.
    pub(crate) fn item(path: &Path, message: &str, hint: &str) -> Self {
        let error = FsError::new(ErrorCode::InvalidArgument, message).with_path(path.display().to_string());
        Self { error: error.with_hint(hint), kind: Kind::Local }
    }
    /// A command line that makes no sense.
    pub(crate) fn usage(message: impl Into<String>, hint: &str) -> Self {
        let error = FsError::new(ErrorCode::InvalidArgument, message).with_hint(hint);
        Self { error, kind: Kind::Usage }
    }
    /// Ctrl-C. `left` says what became of what was under way.
    pub(crate) fn interrupted(left: &str) -> Self {
        let error = FsError::new(ErrorCode::Unavailable, "interrupted").with_hint(left);
        Self { error, kind: Kind::Interrupted }
    }
    /// A server that this command started, or looks at beside its calls.
    pub(crate) fn server(message: impl Into<String>) -> Self {
        FsError::new(ErrorCode::Internal, message).into()
    }
    /// Standard output cannot be written.
    pub(crate) fn output(error: &io::Error) -> Self {
        let kind = if error.kind() == io::ErrorKind::BrokenPipe { Kind::Quiet } else { Kind::Local };
        let text = format!("cannot write to standard output: {}", plain(error));
        Self { error: FsError::new(ErrorCode::Internal, text), kind }
    }

    /// The answer of a verb that answers by its exit status. Nothing is printed.
    pub(crate) fn verdict(status: Status) -> Self {
        Self { error: FsError::new(ErrorCode::Internal, "no"), kind: Kind::Verdict(status) }
    }

    pub(crate) const fn code(&self) -> ErrorCode {
        self.error.code
    }
    pub(crate) const fn is_quiet(&self) -> bool {
        matches!(self.kind, Kind::Quiet)
    }
    pub(crate) const fn is_verdict(&self) -> bool {
        matches!(self.kind, Kind::Verdict(_))
    }
    /// Does it end a verb that has more to do, too? Ctrl-C, and nobody who reads, do.
    pub(crate) const fn ends_all(&self) -> bool {
        matches!(self.kind, Kind::Interrupted | Kind::Quiet)
    }
    pub(crate) fn has_hint(&self) -> bool {
        !self.error.hint.is_empty()
    }
    pub(crate) fn path(&self) -> &str {
        &self.error.path
    }
    /// Gives a hint where there is none.
    pub(crate) fn or_hint(mut self, hint: impl FnOnce() -> Option<String>) -> Self {
        if self.error.hint.is_empty()
            && let Some(hint) = hint()
        {
            self.error.hint = hint;
        }
        self
    }
    /// Names the path where none is named.
    pub(crate) fn at(mut self, path: &str) -> Self {
        if self.error.path.is_empty() {
            path.clone_into(&mut self.error.path);
        }
        self
    }

    /// Exit status if this is all that is to say.
    pub(crate) fn status(&self) -> Status {
        match self.kind {
            Kind::Usage => Status::USAGE,
            Kind::Interrupted => Status::INTERRUPTED,
            Kind::Quiet => Status::OK,
            Kind::Verdict(status) => status,
            Kind::Cluster | Kind::Local => status_of(&self.error),
        }
    }
    /// Two lines for a person.
    pub(crate) fn text(&self) -> String {
        let hint = if self.error.hint.is_empty() { String::new() } else { format!("\n  hint: {}", self.error.hint) };
        format!("error: {}{hint}", self.error)
    }
    /// One object for a script.
    pub(crate) fn json(&self) -> Value {
        json!({
            "v": 1, "type": "error", "code": self.error.code.as_str(), "path": self.error.path,
            "message": self.error.message, "hint": self.error.hint, "retryable": self.error.retryable(),
        })
    }
}

fn status_of(error: &FsError) -> Status {
    match error.code {
        ErrorCode::NotFound => Status::NOT_FOUND,
        ErrorCode::PermissionDenied | ErrorCode::BadToken => Status::DENIED,
        ErrorCode::InvalidPath | ErrorCode::NameTooLong => Status::USAGE,
        // Not the same call, but the same command may do.
        ErrorCode::Changed => Status::TEMPORARY,
        _ if error.retryable() => Status::TEMPORARY,
        _ => Status::FAILED,
    }
}

/// The system's words without "(os error 2)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_two_lines_and_one_object() {
        let failure = Failure::from(FsError::not_found("/dta")).or_hint(|| Some("did you mean /data ?".into()));
        assert_eq!(failure.text(), "error: no such file or directory: /dta\n  hint: did you mean /data ?");
        assert_eq!(failure.json()["code"], "not_found");
        assert_eq!(failure.status(), Status::NOT_FOUND);
    }

    #[test]
    fn statuses_are_the_documented_ones() {
        let status = |code| Failure::from(FsError::new(code, "x")).status().0;
        assert_eq!(status(ErrorCode::PermissionDenied), 4);
        assert_eq!(status(ErrorCode::SafeMode), 5);
        assert_eq!(status(ErrorCode::Changed), 5);
        assert_eq!(status(ErrorCode::AlreadyExists), 1);
        assert_eq!(status(ErrorCode::InvalidPath), 2);
        assert_eq!(Failure::interrupted("").status().0, 130);
        assert_eq!(Failure::usage("x", "y").status().0, 2);
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(Failure::local("read", "x", &missing).status().0, 3);
    }
}
