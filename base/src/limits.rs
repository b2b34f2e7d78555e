//! Limits of the process that a server needs raised.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets the process open as many files as the system allows it to: the usual soft limit of 1,024 is a relic, and a
/// datanode holds two files and up to two sockets for each block that is written. Says how many it may open now;
/// `None`: any number.
pub fn raise_open_files() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let allowed = raise_open_files();
        assert_eq!(allowed, getrlimit(Resource::Nofile).maximum);
        assert_eq!(raise_open_files(), allowed, "again changes nothing");
    }
}
