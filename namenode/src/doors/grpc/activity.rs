//! Is a gRPC connection in use? HTTP/2 keeps itself alive with pings, so only calls count.

use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use parking_lot::Mutex;

use crate::doors::{Desk, Peer};

/// Calls of one connection. Every request of it carries a clone.
#[derive(Clone, Debug)]
pub(in crate::doors) struct Activity {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    peer: Peer,
    desk: Desk,
    idle_limit: Duration,
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    under_way: usize,
    last: Moment,
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Call<'a>(&'a Activity);

impl Activity {
    pub(in crate::doors) fn new(peer: Peer, desk: &Desk, idle_limit: Duration) -> Self {
        let calls = Mutex::new(Calls { under_way: 0, last: desk.clock().now() });
        Self { inner: Arc::new(Inner { peer, desk: desk.clone(), idle_limit, calls }) }
    }

    /// Who is at the other end.
    pub(super) fn peer(&self) -> &Peer {
        &self.inner.peer
    }
    /// A call begins.
    pub(super) fn begin(&self) -> Call<'_> {
        self.inner.calls.lock().under_way += 1;
        Call(self)
    }
    /// Time between two looks at [`Activity::is_over`].
    pub(super) fn look_every(&self) -> Duration {
        (self.inner.idle_limit / 4).clamp(Duration::from_millis(10), Duration::from_secs(30))
    }
    /// Has there been no call for too long?
    pub(super) fn is_over(&self) -> bool {
        let calls = self.inner.calls.lock();
        calls.under_way == 0 && self.inner.desk.clock().now().since(calls.last) >= self.inner.idle_limit
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut calls = self.0.inner.calls.lock();
        calls.under_way -= 1;
        calls.last = self.0.inner.desk.clock().now();
    }
}
