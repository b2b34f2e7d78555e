//! Refusals as the standard library's errors, for readers and writers that speak its traits.

use std::io::{self, ErrorKind};

use proto::error::{ErrorCode, FsError};

/// A refusal as an [`io::Error`]: its kind by the code, the whole [`FsError`] inside (see [`io::Error::downcast`]).
///
/// ```
/// use client::{FsError, io::into_io};
///
/// let error = into_io(FsError::not_found("/a"));
/// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
/// assert_eq!(error.downcast::<FsError>().unwrap().path, "/a");
/// ```
#[must_use]
pub fn into_io(error: FsError) -> io::Error {
    io::Error::new(kind_of(error.code), error)
}

const fn kind_of(code: ErrorCode) -> ErrorKind {
    match code {
        ErrorCode::NotFound | ErrorCode::NoAttribute => ErrorKind::NotFound,
        ErrorCode::AlreadyExists => ErrorKind::AlreadyExists,
        ErrorCode::NotADirectory => ErrorKind::NotADirectory,
        ErrorCode::IsADirectory => ErrorKind::IsADirectory,
        ErrorCode::NotEmpty => ErrorKind::DirectoryNotEmpty,
        ErrorCode::PermissionDenied | ErrorCode::BadToken => ErrorKind::PermissionDenied,
        ErrorCode::InvalidPath | ErrorCode::InvalidArgument | ErrorCode::InvalidMove => ErrorKind::InvalidInput,
        ErrorCode::NameTooLong => ErrorKind::InvalidFilename,
        ErrorCode::FileOpen => ErrorKind::ResourceBusy,
        ErrorCode::NoSpace => ErrorKind::StorageFull,
        ErrorCode::QuotaExceeded => ErrorKind::QuotaExceeded,
        ErrorCode::ReadOnly => ErrorKind::ReadOnlyFilesystem,
        ErrorCode::Timeout => ErrorKind::TimedOut,
        ErrorCode::Unsupported => ErrorKind::Unsupported,
        ErrorCode::Corrupt => ErrorKind::InvalidData,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_taken_for_an_interruption_or_the_end() {
        // The standard library's helpers try these again, or stop quietly.
        for code in ErrorCode::ALL {
            let kind = into_io(FsError::new(*code, "x")).kind();
            assert!(
                !matches!(kind, ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::UnexpectedEof),
                "{code:?}"
            );
        }
    }
}
