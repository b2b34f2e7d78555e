//! Calls to the namenodes: one connection to each, deadlines, retries with the same number, failover.
//!
//! ```text
//!   Rpc::call ─ attempts, pauses (retry) ─▶ Link (one namenode) ─┬▶ framed   our frames, the default
//!                                                                └▶ grpc
//! ```

mod framed;
mod grpc;
mod link;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base::clock::{Clock, Moment};
use base::random::Randomness;
use proto::common::RequestHeader;
use proto::error::FsResult;
use proto::methods::Method;

pub use link::Carrier;
use link::{Failed, Link};

use crate::address::ClusterAddress;
use crate::retry::{Attempts, Next, Verdict};
use crate::session::{CallNumber, Session};

/// The namenodes, as this client reaches them.
#[derive(Debug)]
pub(crate) struct Rpc {
    namenodes: Vec<Link>,
    preferred: AtomicUsize,
    ever_connected: AtomicBool,
    user: String,
    /// How long a cluster that was never reached is tried.
    patience: Duration,
    /// Of the last call; they go up from a random one.
    request_id: AtomicU64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Randomness>,
}

/// One call: what it is called in messages, its end, and its number if it changes something.
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static str,
    pub(crate) until: Moment,
    pub(crate) session: Option<&'a Arc<Session>>,
}

impl Rpc {
    pub(crate) fn new(
        address: &ClusterAddress,
        carrier: Carrier,
        user: String,
        patience: Duration,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Randomness>,
    ) -> FsResult<Self> {
        let namenodes =
            address.namenodes().iter().map(|address| Link::new(address, carrier)).collect::<FsResult<_>>()?;
        let (preferred, ever_connected) = (AtomicUsize::new(0), AtomicBool::new(false));
        let request_id = AtomicU64::new(random.next_u64());
        Ok(Self { namenodes, preferred, ever_connected, user, patience, request_id, clock, random })
    }

    /// Makes a call, in as many attempts as it needs; the header is filled in here.
    pub(crate) async fn call<M: Method>(&self, call: Call<'_>, request: &M) -> FsResult<M::Answer> {
        let begun = self.clock.now();
        let number = match call.session {
            Some(session) => Some(session.begin().await),
            None => None,
        };
        let mut attempts = Attempts::new(call.operation, number.is_some());
        loop {
            let preferred = self.preferred.load(Ordering::Relaxed);
            let left = attempts.patience(call.until.since(self.clock.now()), self.namenodes.len());
            let failed = match self.attempt(&call, preferred, number.as_ref(), left, request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if matches!(failed.verdict, Verdict::Again { elsewhere: true, .. }) {
                self.give_up_on(preferred);
            }
            let patient = !failed.unreached || self.ever_connected.load(Ordering::Relaxed);
            let until = if patient { call.until } else { call.until.min(begun.plus(self.patience)) };
            let now = self.clock.now();
            match attempts.failed(failed.error, failed.verdict, until, now, self.random.as_ref()) {
                Next::AfterPause(pause) => tokio::time::sleep(pause).await,
                Next::End(error) => return Err(error),
            }
        }
    }

    async fn attempt<M: Method>(
        &self,
        call: &Call<'_>,
        preferred: usize,
        number: Option<&CallNumber>,
        left: Duration,
        request: &M,
    ) -> Result<M::Answer, Failed> {
        let mut request = request.clone();
        request.set_header(self.header(number, left));
        self.namenode(preferred).call(call.operation, &request, left, &self.ever_connected).await
    }

    /// The next namenode is preferred, unless another call that failed at this one has seen to that.
    fn give_up_on(&self, preferred: usize) {
        let next = preferred.wrapping_add(1);
        if self.preferred.compare_exchange(preferred, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            tracing::trace!("another namenode is preferred already");
        }
    }

    fn namenode(&self, preferred: usize) -> &Link {
        let at = preferred % self.namenodes.len().max(1);
        // A cluster address names at least one namenode.
        &self.namenodes[at]
    }

    fn header(&self, number: Option<&CallNumber>, left: Duration) -> RequestHeader {
        let mut header = RequestHeader {
            protocol_version: proto::PROTOCOL_VERSION,
            user: self.user.clone(),
            request_id: format!("{:016x}", self.request_id.fetch_add(1, Ordering::Relaxed)),
            deadline_ms: left.as_millis() as u64,
            ..RequestHeader::default()
        };
        if let Some(number) = number {
            header.session = bytes::Bytes::copy_from_slice(number.session_id().as_bytes());
            header.call = number.number();
            header.lowest_unanswered = number.lowest_unanswered();
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::clock::SystemClock;
    use base::random::SeededRandom;

    #[test]
    fn several_calls_that_fail_at_one_namenode_skip_none() {
        let address = ClusterAddress::parse("blockyard://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3").unwrap();
        let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SeededRandom::new(1)));
        let rpc = Rpc::new(&address, Carrier::Framed, "ana".to_owned(), Duration::ZERO, clock, random).unwrap();
        let preferred = || rpc.preferred.load(Ordering::Relaxed);
        for _ in 0..3 {
            rpc.give_up_on(0);
        }
        assert_eq!(preferred(), 1, "the second one is asked first");
        rpc.give_up_on(1);
        assert_eq!(preferred(), 2);
    }
}
