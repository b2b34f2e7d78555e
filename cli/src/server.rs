//! `blockyard namenode` and `blockyard datanode`: one role in this process.

use crate::args::{Global, ServerOptions};
use crate::exit::Status;

/// Runs a namenode until a signal.
pub(crate) fn namenode(options: &ServerOptions, global: &Global) -> Status {
    eprintln!("error: cannot run {options:?} {global:?}");
    Status::FAILED
}

/// Runs a datanode until a signal.
pub(crate) fn datanode(options: &ServerOptions, global: &Global) -> Status {
    eprintln!("error: cannot run {options:?} {global:?}");
    Status::FAILED
}
