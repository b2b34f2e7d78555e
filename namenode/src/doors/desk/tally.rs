//! Counts a call and records it, also when nobody waits for its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::clock::Moment;
use proto::error::FsResult;

use super::{Inner, Peer, is_node};
use crate::audit::Record;
use crate::service::request::{Request, Response};

/// One call in work. Dropping it ends the call: as it was told, else as abandoned.
#[derive(Debug)]
pub(super) struct Tally {
    desk: Arc<Inner>,
    before: usize,
    method: &'static str,
    code: &'static str,
    started: Moment,
    record: Option<Record>,
}

impl Tally {
    pub(super) fn begin(desk: &Arc<Inner>, request: &Request, peer: &Peer) -> Self {
        desk.figures.begin();
        Self {
            before: desk.in_work.fetch_add(1, Ordering::Relaxed),
            desk: Arc::clone(desk),
            method: request.command(),
            code: "abandoned",
            started: desk.clock.now(),
            record: (!is_node(request)).then(|| Record::new(request, peer)),
        }
    }

    /// Calls that were in work when this one began.
    pub(super) const fn calls_before(&self) -> usize {
        self.before
    }

    /// Notes how the call ended.
    pub(super) fn ended(&mut self, result: FsResult<Response>) -> FsResult<Response> {
        self.code = result.as_ref().map_or_else(|error| error.code.as_str(), |_| "ok");
        if let Some(record) = &mut self.record {
            record.ended(&result);
        }
        result
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.desk.in_work.fetch_sub(1, Ordering::Relaxed);
        self.desk.figures.end(self.method, self.code, self.desk.clock.now().since(self.started));
    }
}
