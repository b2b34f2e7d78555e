//! `blockyard dev`: a whole cluster on this machine.

pub(crate) mod ports;
pub(crate) mod roles;

use crate::args::{DevOptions, Global};
use crate::exit::Status;

/// Runs the cluster until a signal or the end of `--exec`.
pub(crate) fn run(options: &DevOptions, _global: &Global) -> Status {
    match ports::plan(options.ports, options.datanodes.unwrap_or(3)) {
        Ok(_) => Status::FAILED,
        Err(error) => {
            eprintln!("error: {error}");
            Status::FAILED
        }
    }
}
