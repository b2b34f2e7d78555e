//! Doors: protocols that translate into service calls and decide nothing.
//!
//! ```text
//!   tonic ─▶ Namespace, Cluster (grpc) ─▶ Desk::call ─┬▶ read at once (one voter)      ─▶ answer
//!                                          │          └▶ core, over a bounded channel ─▶ answer
//!                                          └ audit record, figures, deadline, overload
//! ```

mod desk;
mod grpc;

pub use desk::{Call, Desk, DeskLimits};
pub use grpc::router;
