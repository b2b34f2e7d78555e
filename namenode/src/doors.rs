//! Doors: protocols that translate into service calls and decide nothing.
//!
//! ```text
//!                 ┌ "byk1" ▶ framed   our client: frames, many calls under way, one write for many answers ┐
//!   port ─ sniffs ┤                                                                                          ├▶ desk
//!     limits      └ "PRI " ▶ grpc     everyone: Namespace, Cluster, health, reflection                      ┘
//!
//!   Desk ─┬▶ read at once (one voter)      ─▶ answer
//!         └▶ core, over a bounded channel  ─▶ answer        audit record, figures, deadline, overload: here
//! ```
//!
//! Both carriers bring the same messages to the same desk, so that a call has one meaning however it came.

mod desk;
mod framed;
mod grpc;
mod port;

use std::sync::Arc;

pub use desk::{Call, Desk, DeskLimits, Taken, Waiting};
pub use port::{Port, PortFigures, PortLimits};

/// How a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// Our frames (`proto::framing`).
    Framed,
    /// gRPC.
    Grpc,
}

impl Carrier {
    /// Name in audit records and figures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Framed => "framed",
            Self::Grpc => "grpc",
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address, without the port.
    pub address: Arc<str>,
    /// How it speaks.
    pub carrier: Carrier,
}

impl Peer {
    /// A peer at an address.
    #[must_use]
    pub fn new(address: &str, carrier: Carrier) -> Self {
        Self { address: address.into(), carrier }
    }
}
