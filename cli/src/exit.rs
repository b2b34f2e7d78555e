//! What the exit status says.

use std::process::ExitCode;

/// Exit status of a verb. Servers give the first four a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u8);

impl Status {
    /// Everything asked for was done.
    pub(crate) const OK: Self = Self(0);
    /// At least one item failed; for a server: it could not go on.
    pub(crate) const FAILED: Self = Self(1);
    /// The command line makes no sense; for a server: bad configuration.
    pub(crate) const USAGE: Self = Self(2);
    /// A file verb: not found. (A server's 3 is [`Status::STORAGE_REFUSED`].)
    pub(crate) const NOT_FOUND: Self = Self(3);
    /// Permission denied, or not authenticated.
    pub(crate) const DENIED: Self = Self(4);
    /// Temporary: a retry may help.
    pub(crate) const TEMPORARY: Self = Self(5);
    /// A check found problems.
    pub(crate) const PROBLEMS: Self = Self(6);
    /// Ctrl-C.
    pub(crate) const INTERRUPTED: Self = Self(130);
    /// A server: it refused its storage (wrong cluster, unknown layout, lost identity, locked).
    pub(crate) const STORAGE_REFUSED: Self = Self(3);
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.0)
    }
}

/// Text of `blockyard help exit-codes`.
pub(crate) const TEXT: &str = "\
file verbs
    0  everything asked for was done
    1  at least one item failed or was left out; of `test`: no
    2  the command line makes no sense
    3  not found
    4  permission denied
    5  temporary: unreachable, safe mode, time-out; a retry may help
    6  a check found problems (fsck, config validate, soak)
  130  interrupted

servers (namenode, datanode, dev)
    0  stopped as asked
    1  could not start, or could not go on
    2  bad configuration or command line: restarting does not help
    3  storage refused (wrong cluster, lost identity, unknown layout, folder in use): restarting does not help
  130  ended at once by a second SIGINT;  143  by a second SIGTERM
  `dev --exec CMD` ends with CMD's own status.
";
