//! Real mounts of real clusters, used as programs use directories.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "these tests stand where programs are, with the system's own files; a failure may be loud"
)]

mod behind;
mod content;
mod failures;
mod figures;
mod holes;
mod limits;
mod names;
mod place;
mod random;
mod rights;
