//! Calls over our own frames: one connection, on which the calls of all tasks overlap.
//!
//! ```text
//!   call ─▶ frame into the outbox, place in the table ─▶ one task for the connection
//!     ▲                                                    ├ writes all of the outbox at once
//!     └──────────── answer, by the number of the call ◀────┘ reads, finds whose answer it is
//! ```
//!
//! The preamble and the first request leave together. A call that is dropped takes its place back and cancels itself at
//! the server. When the connection ends, all its calls end, and the next one makes a new connection.

mod connection;
mod shared;
mod silence;

use std::sync::Arc;
use std::time::Duration;

use base::task::TaskTracker;
use parking_lot::Mutex;
use proto::error::{ErrorCode, FsError};
use proto::framing::{Broken, Kind};
use proto::methods::Method;

use super::link::{Trouble, decoded, garbled};
use crate::address::HostPort;
use shared::Ended;
pub(super) use shared::Handle;

/// The connection to one namenode, made when it is needed.
#[derive(Debug)]
pub(super) struct FramedLink {
    address: HostPort,
    connect_timeout: Duration,
    /// How long a connection may owe something and be silent.
    patience: Duration,
    current: Mutex<Option<Arc<Handle>>>,
    /// Held while one is made: calls that come together share it.
    dialling: tokio::sync::Mutex<()>,
    /// How often a dial failed, and why it did last.
    failed: Mutex<(u64, String)>,
    tasks: TaskTracker,
}

impl FramedLink {
    pub(super) fn new(address: &HostPort, connect_timeout: Duration, patience: Duration) -> Self {
        Self {
            address: address.clone(),
            connect_timeout,
            patience,
            current: Mutex::new(None),
            dialling: tokio::sync::Mutex::new(()),
            failed: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// A connection; the one that is there if it still takes calls. Who comes while another one dials shares what comes
    /// of it, also its failure: behind a black hole each would wait for a whole time-out, one after the other.
    pub(super) async fn connect(&self) -> Result<Arc<Handle>, Trouble> {
        if let Some(open) = self.open() {
            return Ok(open);
        }
        let failures_before = self.failed.lock().0;
        let _only_one = self.dialling.lock().await;
        if let Some(open) = self.open() {
            return Ok(open);
        }
        if let (failures, why) = &*self.failed.lock()
            && *failures > failures_before
        {
            return Err(Trouble::Unreached(why.clone()));
        }
        let HostPort { host, port } = &self.address;
        let stream = base::net::dial(host, *port, self.connect_timeout).await.map_err(|error| {
            let mut failed = self.failed.lock();
            *failed = (failed.0 + 1, error.to_string());
            Trouble::Unreached(error.to_string())
        })?;
        let handle = Handle::new();
        base::task::spawn(&self.tasks, connection::run(stream, handle.shared(), self.patience));
        *self.current.lock() = Some(Arc::clone(&handle));
        Ok(handle)
    }

    fn open(&self) -> Option<Arc<Handle>> {
        self.current.lock().as_ref().filter(|handle| handle.takes_calls()).cloned()
    }

    /// The next call makes a new connection if this one is the current one; calls under way keep theirs.
    pub(super) fn forget(&self, handle: &Arc<Handle>) {
        self.current.lock().take_if(|current| Arc::ptr_eq(current, handle));
    }

    /// One call. `None`: the connection took no further calls, and nothing was sent.
    pub(super) async fn call<M: Method>(&self, handle: &Handle, request: &M) -> Option<Result<M::Answer, Trouble>> {
        let too_long = |broken: Broken| FsError::new(ErrorCode::InvalidArgument, broken.to_string());
        Some(match handle.call(request).await {
            Ok((Kind::Refusal, message)) => {
                Err(shared::refusal(&message).map_or_else(|error| garbled::<M>(&error), Trouble::Refused))
            }
            Ok((_, message)) => decoded::<M>(message),
            Err(Ended::Over) => return None,
            Err(Ended::TooLong(broken)) => Err(Trouble::Refused(too_long(broken))),
            Err(Ended::NotTaken(error)) => Err(Trouble::NotTaken(error)),
            Err(Ended::Broken(why)) => Err(Trouble::Broken(ErrorCode::Unavailable, why)),
        })
    }
}

#[cfg(test)]
mod tests;
