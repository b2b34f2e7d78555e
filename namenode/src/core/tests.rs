//! The core over a disk in memory: one voter, datanodes of a few lines, a clock that only tests move.

mod cluster;
mod files;
mod harness;
mod long;
mod pipelines;
mod recovery;
mod requests;
mod restart;
mod trash;
