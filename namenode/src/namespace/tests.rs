//! Tests of the whole namespace.

mod attributes;
mod fields;
mod harness;
mod images;
mod limits;
mod model;
mod outcomes;
mod scars;
mod services;
mod slices;
mod snapshots;
mod whole;
mod writers;
