//! The block map against datanodes of a few lines, and a namespace that is a table.

mod balance;
mod drain;
mod harness;
mod homes;
mod late;
mod nodes;
mod placement;
mod reading;
mod recovery;
mod removal;
mod repair;
mod reports;
mod safe_mode;
mod services;
mod storms;
mod verify;
