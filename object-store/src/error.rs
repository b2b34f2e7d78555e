//! Refusals of the cluster as object_store's errors. Each has the [`FsError`] inside, with its hint.

use client::{ErrorCode, FsError};
use object_store::Error;
use object_store::path::Path;

/// What errors and messages call this store.
pub(crate) const STORE: &str = "Blockyard";

/// What was to be done: a refusal means one thing to a reader and another to a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Anything with an object that must be there.
    Reading,
    /// Making an object, or replacing it.
    Writing,
    /// Making an object that must not be there yet.
    Creating,
}

/// A refusal that is about an object.
pub(crate) fn refused(error: FsError, location: &Path, doing: Doing) -> Error {
    let (code, path, source) = (error.code, location.to_string(), Box::new(error));
    match (code, doing) {
        (ErrorCode::NotFound, _) => Error::NotFound { path, source },
        // A directory is no object, and nothing lies below a file.
        (ErrorCode::IsADirectory | ErrorCode::NotADirectory, Doing::Reading) => Error::NotFound { path, source },
        (ErrorCode::AlreadyExists, _) => Error::AlreadyExists { path, source },
        // Somebody who publishes at once holds the name.
        (ErrorCode::FileOpen, Doing::Creating) => Error::AlreadyExists { path, source },
        (ErrorCode::PermissionDenied, _) => Error::PermissionDenied { path, source },
        (ErrorCode::BadToken, _) => Error::Unauthenticated { path, source },
        (ErrorCode::Unsupported, _) => Error::NotSupported { source },
        _ => Error::Generic { store: STORE, source },
    }
}

/// There is no such object, for a reason that the cluster does not know.
pub(crate) fn not_found(location: &Path, why: &'static str) -> Error {
    Error::NotFound { path: location.to_string(), source: why.into() }
}

/// Something that is against the rules of this store.
pub(crate) fn wrong(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: STORE, source: what.into() }
}

/// Something that this store does not do.
pub(crate) fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: STORE.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    fn kind(code: ErrorCode, doing: Doing) -> &'static str {
        match refused(FsError::new(code, "x"), &Path::from("a"), doing) {
            Error::NotFound { .. } => "not found",
            Error::AlreadyExists { .. } => "exists",
            Error::PermissionDenied { .. } => "denied",
            Error::Unauthenticated { .. } => "unauthenticated",
            Error::NotSupported { .. } => "not supported",
            Error::Generic { .. } => "generic",
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_refusal_is_told_by_what_was_to_be_done() {
        for doing in [Doing::Reading, Doing::Writing, Doing::Creating] {
            assert_eq!(kind(ErrorCode::NotFound, doing), "not found");
            assert_eq!(kind(ErrorCode::AlreadyExists, doing), "exists");
            assert_eq!(kind(ErrorCode::PermissionDenied, doing), "denied");
            assert_eq!(kind(ErrorCode::BadToken, doing), "unauthenticated");
            assert_eq!(kind(ErrorCode::Unsupported, doing), "not supported");
            // Whoever takes "not known" for "not there" or "already there" goes wrong.
            for code in [ErrorCode::OutcomeUnknown, ErrorCode::Timeout, ErrorCode::NoReplica, ErrorCode::Corrupt] {
                assert_eq!(kind(code, doing), "generic");
            }
        }
        assert_eq!(kind(ErrorCode::IsADirectory, Doing::Reading), "not found");
        assert_eq!(kind(ErrorCode::NotADirectory, Doing::Reading), "not found");
        assert_eq!(kind(ErrorCode::IsADirectory, Doing::Writing), "generic");
        assert_eq!(kind(ErrorCode::NotADirectory, Doing::Creating), "generic");
        assert_eq!(kind(ErrorCode::FileOpen, Doing::Creating), "exists");
        assert_eq!(kind(ErrorCode::FileOpen, Doing::Writing), "generic");
    }

    #[test]
    fn the_refusal_is_inside() {
        for code in ErrorCode::ALL {
            let refusal = FsError::new(*code, "x").with_hint("do this");
            let error = refused(refusal.clone(), &Path::from("a"), Doing::Reading);
            let source = error.source().and_then(|source| source.downcast_ref::<FsError>());
            assert_eq!(source, Some(&refusal));
        }
    }
}
