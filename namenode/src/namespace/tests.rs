//! Tests of the whole namespace.

mod appends;
mod attributes;
mod fields;
mod harness;
mod images;
mod limits;
mod model;
mod nodes;
mod outcomes;
mod pipelines;
mod recoveries;
mod scars;
mod services;
mod slices;
mod snapshots;
mod truncates;
mod whole;
mod writers;
