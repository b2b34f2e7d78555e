//! The block map against datanodes of a few lines, and a namespace that is a table.

mod harness;
mod nodes;
mod placement;
mod reading;
mod recovery;
mod removal;
mod repair;
mod reports;
mod safe_mode;
mod storms;
mod verify;
