//! Where every door brings its calls: caller, limits, deadline, audit, figures, in one place.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use auth::Caller;
use base::clock::Clock;
use proto::error::{ErrorCode, FsError, FsResult};
use tokio::sync::{Semaphore, oneshot};

use crate::audit::Record;
use crate::core::Shared;
use crate::metrics::Figures;
use crate::server::Message;
use crate::service::admit;
use crate::service::request::{Request, Response};

/// A call on its way to the core.
#[derive(Debug)]
pub struct Call {
    /// Who asks.
    pub caller: Caller,
    /// What.
    pub request: Request,
    /// Where the answer goes; a closed one means that nobody waits any more.
    pub answer: oneshot::Sender<FsResult<Response>>,
}

/// Limits of a desk.
#[derive(Clone, Copy, Debug)]
pub struct DeskLimits {
    /// Calls in work at a time.
    pub max_calls: usize,
    /// Longest wait, and the wait of clients that name none.
    pub deadline: Duration,
    /// Life of a block token, in ms.
    pub token_life_ms: i64,
}

/// Takes calls of all doors to the core. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    core: SyncSender<Message>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    figures: Figures,
    places: Arc<Semaphore>,
    limits: DeskLimits,
}

impl Desk {
    /// A desk in front of a core.
    #[must_use]
    pub fn new(
        core: SyncSender<Message>,
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        figures: Figures,
        limits: DeskLimits,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limits.max_calls));
        Self { core, shared, clock, figures, places, limits }
    }

    /// Answers a call from an address. Calls of the client's service leave exactly one audit record.
    ///
    /// # Errors
    /// The service's refusals; `Overloaded`, `Timeout`, `Unavailable` from here.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer, not the call: it may take effect. The record says "abandoned".
    pub async fn call(&self, request: Request, address: &str) -> FsResult<Response> {
        let mut tally = Tally::begin(self, &request, address);
        let result = self.serve(request, address).await;
        tally.end(&result);
        result
    }

    async fn serve(&self, request: Request, address: &str) -> FsResult<Response> {
        let Ok(_place) = self.places.try_acquire() else {
            let text = format!("more than {} calls are in work", self.limits.max_calls);
            return Err(FsError::new(ErrorCode::Overloaded, text).with_hint("try again in a moment"));
        };
        let caller = match request.header() {
            Some(header) => admit::caller(Some(header), address)?,
            None if is_node(&request) => Caller { address: address.to_owned(), ..Caller::internal("datanode") },
            None => admit::caller(None, address)?,
        };
        admit::admit(&request)?;
        let wall = (self.clock.wall_ns(), self.limits.token_life_ms);
        if let Some(answer) = self.shared.read_alone(&caller, &request, self.clock.now(), wall) {
            return answer;
        }
        self.ask_core(caller, request).await
    }

    async fn ask_core(&self, caller: Caller, request: Request) -> FsResult<Response> {
        let asked_ms = request.header().map_or(0, |header| header.deadline_ms);
        let deadline = match asked_ms {
            0 => self.limits.deadline,
            ms => Duration::from_millis(ms).min(self.limits.deadline),
        };
        let (answer, answered) = oneshot::channel();
        let call = Call { caller, request, answer };
        match self.core.try_send(Message::Call(Box::new(call))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(FsError::new(ErrorCode::Overloaded, "too many calls are waiting"));
            }
            Err(TrySendError::Disconnected(_)) => return Err(stopping()),
        }
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(response)) => response,
            Ok(Err(_closed)) => Err(stopping()),
            Err(_elapsed) => {
                let text = format!("no answer within {} ms; the call may still take effect", deadline.as_millis());
                Err(FsError::new(ErrorCode::Timeout, text))
            }
        }
    }
}

fn stopping() -> FsError {
    FsError::new(ErrorCode::Unavailable, "the namenode is stopping").with_hint("try again in a moment")
}

const fn is_node(request: &Request) -> bool {
    matches!(
        request,
        Request::Register(_)
            | Request::Heartbeat(_)
            | Request::IncrementalReport(_)
            | Request::ReportHashes(_)
            | Request::ReportBuckets(_)
    )
}

/// Counts a call and records it, also when its future is dropped half way.
struct Tally<'a> {
    desk: &'a Desk,
    method: &'static str,
    code: &'static str,
    started: base::clock::Moment,
    record: Option<Record>,
}

impl<'a> Tally<'a> {
    fn begin(desk: &'a Desk, request: &Request, address: &str) -> Self {
        desk.figures.begin();
        Self {
            desk,
            method: request.command(),
            code: "abandoned",
            started: desk.clock.now(),
            record: (!is_node(request)).then(|| Record::new(request, address)),
        }
    }
    fn end(&mut self, result: &FsResult<Response>) {
        self.code = result.as_ref().map_or_else(|error| error.code.as_str(), |_| "ok");
        if let Some(record) = &mut self.record {
            record.ended(result);
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.desk.figures.end(self.method, self.code, self.desk.clock.now().since(self.started));
    }
}
