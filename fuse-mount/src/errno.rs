//! The one table of error numbers: what a program is told for each refusal of the cluster.
//!
//! Nothing that may not have happened is success, and nothing whose outcome is not known gets a number that says that
//! nothing happened: that is `EIO`.

use std::io;

use client::{ErrorCode, FsError};

/// A number of `errno.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// The outcome is not known, data are damaged, or nobody can be reached.
    pub const EIO: Self = Self(libc::EIO);
    /// There is no such name.
    pub const ENOENT: Self = Self(libc::ENOENT);
    /// The name is taken.
    pub const EEXIST: Self = Self(libc::EEXIST);
    /// What the program holds is gone, or another file has its name.
    pub const ESTALE: Self = Self(libc::ESTALE);
    /// No such handle, or not open for this.
    pub const EBADF: Self = Self(libc::EBADF);
    /// An argument that makes no sense here.
    pub const EINVAL: Self = Self(libc::EINVAL);
    /// The namespace cannot do this.
    pub const EOPNOTSUPP: Self = Self(libc::EOPNOTSUPP);
    /// Nobody may do this here.
    pub const EPERM: Self = Self(libc::EPERM);
    /// The caller may not do this.
    pub const EACCES: Self = Self(libc::EACCES);
    /// Names are UTF-8.
    pub const EILSEQ: Self = Self(libc::EILSEQ);
    /// The file is in use in a way that does not allow this.
    pub const EBUSY: Self = Self(libc::EBUSY);
    /// No room.
    pub const ENOSPC: Self = Self(libc::ENOSPC);
    /// Beyond the longest file.
    pub const EFBIG: Self = Self(libc::EFBIG);
    /// No such attribute.
    pub const ENODATA: Self = Self(libc::ENODATA);
    /// The caller's buffer is too small.
    pub const ERANGE: Self = Self(libc::ERANGE);

    /// As the system counts.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }

    /// What a refusal means to a program.
    #[must_use]
    pub const fn of_code(code: ErrorCode) -> Self {
        Self(match code {
            ErrorCode::NotFound => libc::ENOENT,
            ErrorCode::AlreadyExists => libc::EEXIST,
            ErrorCode::NotADirectory => libc::ENOTDIR,
            ErrorCode::IsADirectory => libc::EISDIR,
            ErrorCode::NotEmpty => libc::ENOTEMPTY,
            ErrorCode::PermissionDenied | ErrorCode::BadToken => libc::EACCES,
            ErrorCode::InvalidPath | ErrorCode::InvalidArgument | ErrorCode::InvalidMove => libc::EINVAL,
            ErrorCode::NameTooLong => libc::ENAMETOOLONG,
            // Somebody may try again, and it was certainly not done.
            ErrorCode::FileOpen | ErrorCode::SafeMode | ErrorCode::Overloaded => libc::EBUSY,
            ErrorCode::NoSpace | ErrorCode::NotEnoughNodes => libc::ENOSPC,
            ErrorCode::QuotaExceeded => libc::EDQUOT,
            ErrorCode::ReadOnly => libc::EROFS,
            ErrorCode::NoAttribute => libc::ENODATA,
            ErrorCode::Unsupported => libc::EOPNOTSUPP,
            ErrorCode::Timeout => libc::ETIMEDOUT,
            // Another writer has the file now, or it is another file.
            ErrorCode::LeaseLost | ErrorCode::StaleStamp | ErrorCode::Changed => libc::ESTALE,
            // Unknown outcomes, damage, nobody there, and whatever a later version may say.
            _ => libc::EIO,
        })
    }

    /// The same of something that only owners, or only superusers, may do: `EPERM`, where others say `EACCES`.
    #[must_use]
    pub const fn of_owners(code: ErrorCode) -> Self {
        match code {
            ErrorCode::PermissionDenied => Self::EPERM,
            other => Self::of_code(other),
        }
    }

    /// What an error of this machine's own files means to a program: those of the cache folder.
    #[must_use]
    pub fn of_local(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) if number == libc::ENOSPC || number == libc::EDQUOT => Self(libc::ENOSPC),
            Some(number) if number == libc::EFBIG => Self::EFBIG,
            _ => Self::EIO,
        }
    }
}

impl From<&FsError> for Errno {
    fn from(error: &FsError) -> Self {
        Self::of_code(error.code)
    }
}

impl From<FsError> for Errno {
    fn from(error: FsError) -> Self {
        Self::of_code(error.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code of this version, and what `errno.h` calls its number.
    const TABLE: &[(ErrorCode, i32)] = &[
        (ErrorCode::Internal, libc::EIO),
        (ErrorCode::NotFound, libc::ENOENT),
        (ErrorCode::AlreadyExists, libc::EEXIST),
        (ErrorCode::NotADirectory, libc::ENOTDIR),
        (ErrorCode::IsADirectory, libc::EISDIR),
        (ErrorCode::NotEmpty, libc::ENOTEMPTY),
        (ErrorCode::PermissionDenied, libc::EACCES),
        (ErrorCode::InvalidPath, libc::EINVAL),
        (ErrorCode::NameTooLong, libc::ENAMETOOLONG),
        (ErrorCode::InvalidArgument, libc::EINVAL),
        (ErrorCode::FileOpen, libc::EBUSY),
        (ErrorCode::LeaseLost, libc::ESTALE),
        (ErrorCode::SafeMode, libc::EBUSY),
        (ErrorCode::NotLeader, libc::EIO),
        (ErrorCode::NoSpace, libc::ENOSPC),
        (ErrorCode::NotEnoughNodes, libc::ENOSPC),
        (ErrorCode::NotReplicatedYet, libc::EIO),
        (ErrorCode::Timeout, libc::ETIMEDOUT),
        (ErrorCode::Unavailable, libc::EIO),
        (ErrorCode::Corrupt, libc::EIO),
        (ErrorCode::VersionMismatch, libc::EIO),
        (ErrorCode::WrongCluster, libc::EIO),
        (ErrorCode::StaleStamp, libc::ESTALE),
        (ErrorCode::SessionExpired, libc::EIO),
        (ErrorCode::Overloaded, libc::EBUSY),
        (ErrorCode::InvalidMove, libc::EINVAL),
        (ErrorCode::NoReplica, libc::EIO),
        (ErrorCode::BadToken, libc::EACCES),
        (ErrorCode::Unsupported, libc::EOPNOTSUPP),
        (ErrorCode::OutcomeUnknown, libc::EIO),
        (ErrorCode::WriteFailed, libc::EIO),
        (ErrorCode::QuotaExceeded, libc::EDQUOT),
        (ErrorCode::ReadOnly, libc::EROFS),
        (ErrorCode::NoAttribute, libc::ENODATA),
        (ErrorCode::Changed, libc::ESTALE),
    ];

    #[test]
    fn every_refusal_has_its_number_and_an_unknown_outcome_is_eio() {
        for code in ErrorCode::ALL {
            let row = TABLE.iter().find(|(listed, _)| listed == code);
            let (_, number) = row.unwrap_or_else(|| panic!("{code:?} is not in the table"));
            assert_eq!(Errno::of_code(*code).number(), *number, "{code:?}");
        }
        assert_eq!(TABLE.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn what_only_owners_may_do_is_not_permitted_to_others() {
        assert_eq!(Errno::of_owners(ErrorCode::PermissionDenied), Errno::EPERM);
        assert_eq!(Errno::of_owners(ErrorCode::OutcomeUnknown), Errno::EIO);
    }

    #[test]
    fn a_full_cache_folder_is_told_as_such() {
        let of = |number| Errno::of_local(&io::Error::from_raw_os_error(number));
        assert_eq!((of(libc::ENOSPC), of(libc::EDQUOT)), (Errno::ENOSPC, Errno::ENOSPC));
        assert_eq!((of(libc::EFBIG), of(libc::EBADF)), (Errno::EFBIG, Errno::EIO));
    }
}
