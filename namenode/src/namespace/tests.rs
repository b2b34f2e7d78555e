//! Tests of the whole namespace.

mod harness;
mod images;
mod limits;
mod model;
mod outcomes;
mod scars;
mod writers;
