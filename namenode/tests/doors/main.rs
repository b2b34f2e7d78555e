//! A namenode over its real doors: loopback ports, files in a temporary folder.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "tests stand outside of the product, and may fail loudly"
)]

mod audit;
mod both;
mod framed;
mod harness;
mod limits;
mod open;
mod server;
