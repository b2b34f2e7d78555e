//! Refusals as every part and every door sees them: a stable code, a message, a hint, and whether a retry makes sense.

use crate::common::ErrorDetail;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $retryable:literal;)*) => {
        /// What went wrong, as a number that never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[$doc])* $name = $number),* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The code of a number; unknown numbers are [`ErrorCode::Internal`].
            #[must_use]
            pub const fn from_number(number: u32) -> Self {
                match number { $($number => Self::$name,)* _ => Self::Internal }
            }
            /// Name in `--json` output.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
            /// May the same call succeed later without anyone doing something?
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable),* }
            }
        }
    };
}

error_codes! {
    /// A bug, or a state that the other codes do not name.
    Internal = 1, "internal", false;
    /// No such file or directory.
    NotFound = 2, "not_found", false;
    /// The target exists and may not be replaced.
    AlreadyExists = 3, "already_exists", false;
    /// A component of the path is not a directory.
    NotADirectory = 4, "not_a_directory", false;
    /// A file was expected.
    IsADirectory = 5, "is_a_directory", false;
    /// A directory that still has entries.
    NotEmpty = 6, "not_empty", false;
    /// The caller may not do this.
    PermissionDenied = 7, "permission_denied", false;
    /// A path that breaks the rules.
    InvalidPath = 8, "invalid_path", false;
    /// A name or path that is too long.
    NameTooLong = 9, "name_too_long", false;
    /// An argument out of its range.
    InvalidArgument = 10, "invalid_argument", false;
    /// Someone else writes this file, or it is being recovered.
    FileOpen = 11, "file_open", true;
    /// The caller's lease on the file is over.
    LeaseLost = 12, "lease_lost", false;
    /// The namenode is starting up and changes nothing yet.
    SafeMode = 13, "safe_mode", true;
    /// Another member leads.
    NotLeader = 14, "not_leader", true;
    /// A disk or the log has no room left.
    NoSpace = 15, "no_space", false;
    /// Too few live datanodes with room.
    NotEnoughNodes = 16, "not_enough_nodes", true;
    /// The block has fewer proven copies than the minimum.
    NotReplicatedYet = 17, "not_replicated_yet", true;
    /// The deadline passed; the outcome may be unknown.
    Timeout = 18, "timeout", true;
    /// The server cannot be reached or is stopping.
    Unavailable = 19, "unavailable", true;
    /// Data or a message failed its checksum, or cannot be decoded.
    Corrupt = 20, "corrupt", false;
    /// Client and server speak different versions.
    VersionMismatch = 21, "version_mismatch", false;
    /// A node, disk or client of another cluster.
    WrongCluster = 22, "wrong_cluster", false;
    /// An older generation stamp than the replica's.
    StaleStamp = 23, "stale_stamp", false;
    /// The session of a retried call is not remembered any more: the outcome of the first try is unknown.
    SessionExpired = 24, "session_expired", false;
    /// Limits reached; try again later.
    Overloaded = 25, "overloaded", true;
    /// A rename of a directory into itself, or of the root.
    InvalidMove = 26, "invalid_move", false;
    /// No live replica holds the data.
    NoReplica = 27, "no_replica", true;
    /// A token or receipt that does not verify.
    BadToken = 28, "bad_token", false;
    /// Known, but not offered by this version.
    Unsupported = 29, "unsupported", false;
    /// The call's answer was lost and cannot be known.
    OutcomeUnknown = 30, "outcome_unknown", false;
    /// A write failed at the datanodes and nothing was published.
    WriteFailed = 31, "write_failed", true;
    /// A quota of names or space does not allow it.
    QuotaExceeded = 32, "quota_exceeded", false;
    /// A snapshot, or a name that is kept for snapshots.
    ReadOnly = 33, "read_only", false;
    /// No such extended attribute.
    NoAttribute = 34, "no_attribute", false;
    /// What the caller reckoned with is not so any more: look again, and make another call.
    Changed = 35, "changed", false;
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", path_suffix(.path))]
pub struct FsError {
    /// What went wrong.
    pub code: ErrorCode,
    /// One line for a person, without the path.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// The path that it is about; may be empty.
    pub path: String,
    /// The namenode looked the call up in its session first: this is what became of it, whichever attempt brought it.
    pub decided: bool,
}

fn path_suffix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(": {path}") }
}

/// Result of every service function.
pub type FsResult<T> = Result<T, FsError>;

impl FsError {
    /// A refusal without path and hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: String::new(), path: String::new(), decided: false }
    }
    /// Names the path.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }
    /// Says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
    /// Says that the call was looked up in its session.
    #[must_use]
    pub const fn decided(mut self) -> Self {
        self.decided = true;
        self
    }
    /// `no such file or directory: PATH`.
    #[must_use]
    pub fn not_found(path: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, "no such file or directory").with_path(path)
    }
    /// May the same call succeed later?
    #[must_use]
    pub const fn retryable(&self) -> bool {
        self.code.retryable()
    }
    /// For the wire.
    #[must_use]
    pub fn to_detail(&self) -> ErrorDetail {
        ErrorDetail {
            code: self.code as u32,
            message: self.message.clone(),
            hint: self.hint.clone(),
            retryable: self.retryable(),
            path: self.path.clone(),
            decided: self.decided,
        }
    }
    /// From the wire.
    #[must_use]
    pub fn from_detail(detail: ErrorDetail) -> Self {
        Self {
            code: ErrorCode::from_number(detail.code),
            message: detail.message,
            hint: detail.hint,
            path: detail.path,
            decided: detail.decided,
        }
    }
    /// As a gRPC status: the detail travels whole, the gRPC code is for strangers.
    #[must_use]
    pub fn to_status(&self) -> tonic::Status {
        use prost::Message;
        let details = self.to_detail().encode_to_vec();
        tonic::Status::with_details(self.grpc_code(), self.to_string(), details.into())
    }
    /// From a gRPC status: ours if it carries a detail, else by its gRPC code.
    #[must_use]
    pub fn from_status(status: &tonic::Status) -> Self {
        use prost::Message;
        if let Ok(detail) = ErrorDetail::decode(status.details())
            && detail.code != 0
        {
            return Self::from_detail(detail);
        }
        let code = match status.code() {
            tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => ErrorCode::Timeout,
            tonic::Code::Unavailable => ErrorCode::Unavailable,
            tonic::Code::ResourceExhausted => ErrorCode::Overloaded,
            tonic::Code::Unimplemented => ErrorCode::Unsupported,
            tonic::Code::InvalidArgument => ErrorCode::InvalidArgument,
            _ => ErrorCode::Internal,
        };
        Self::new(code, status.message())
    }
    fn grpc_code(&self) -> tonic::Code {
        match self.code {
            ErrorCode::NotFound => tonic::Code::NotFound,
            ErrorCode::AlreadyExists => tonic::Code::AlreadyExists,
            ErrorCode::PermissionDenied => tonic::Code::PermissionDenied,
            ErrorCode::BadToken => tonic::Code::Unauthenticated,
            ErrorCode::InvalidPath | ErrorCode::NameTooLong | ErrorCode::InvalidArgument | ErrorCode::InvalidMove => {
                tonic::Code::InvalidArgument
            }
            ErrorCode::Timeout => tonic::Code::DeadlineExceeded,
            ErrorCode::NoSpace | ErrorCode::Overloaded => tonic::Code::ResourceExhausted,
            ErrorCode::Internal => tonic::Code::Internal,
            ErrorCode::Corrupt => tonic::Code::DataLoss,
            code if code.retryable() => tonic::Code::Unavailable,
            _ => tonic::Code::FailedPrecondition,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_are_distinct_and_round_trip() {
        for (i, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(*code as usize, i + 1, "codes are numbered without gaps");
            assert_eq!(ErrorCode::from_number(*code as u32), *code);
        }
    }

    #[test]
    fn every_code_travels_and_unknown_ones_are_internal() {
        for code in ErrorCode::ALL {
            let error = FsError::new(*code, "m").with_path("/ü").with_hint("h");
            assert_eq!(FsError::from_status(&error.to_status()), error);
            assert!(FsError::from_status(&error.clone().decided().to_status()).decided && !error.decided);
            assert_eq!(error.to_detail().retryable, code.retryable());
        }
        for number in [0, ErrorCode::ALL.len() as u32 + 1, u32::MAX] {
            assert_eq!(ErrorCode::from_number(number), ErrorCode::Internal);
        }
        let names: std::collections::BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len(), "names are distinct");
    }

    proptest! {
        #[test]
        fn a_status_of_a_stranger_is_an_error_by_its_grpc_code(details in proptest::collection::vec(any::<u8>(), 0..60)) {
            let status = tonic::Status::with_details(tonic::Code::Unavailable, "gone", details.clone().into());
            let error = FsError::from_status(&status);
            // Some garbage is a detail with a code: then that counts.
            let coded = <ErrorDetail as prost::Message>::decode(details.as_slice()).is_ok_and(|detail| detail.code != 0);
            prop_assert!(coded || (error.code, error.message.as_str()) == (ErrorCode::Unavailable, "gone"));
        }
    }

    #[test]
    fn a_status_carries_the_whole_refusal() {
        let error = FsError::not_found("/x").with_hint("look again");
        assert_eq!(FsError::from_status(&error.to_status()), error);
        assert_eq!(FsError::from_status(&tonic::Status::unavailable("gone")).code, ErrorCode::Unavailable);
    }
}
