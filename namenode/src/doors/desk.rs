//! Where every door brings its calls: caller, limits, deadline, audit, figures, in one place.
//!
//! ```text
//!   Desk::take ─┬▶ Taken::Answered   refused, or a read that this namenode answers at once
//!               └▶ Taken::Waiting    a future: the core's answer, or a long read step by step; or the deadline
//! ```

mod tally;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::task::{Context, Poll};
use std::time::Duration;

use auth::Caller;
use base::clock::Clock;
use proto::error::{ErrorCode, FsError, FsResult};
use tally::Tally;
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use tokio::time::Sleep;

use super::Peer;
use crate::core::Shared;
use crate::metrics::Figures;
use crate::server::Message;
use crate::service::admit;
use crate::service::read::Read;
use crate::service::request::{Request, Response};
use crate::service::walk::Walk;

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
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: SyncSender<Message>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    figures: Figures,
    in_work: AtomicUsize,
    limits: DeskLimits,
}

/// What became of a call at once.
#[derive(Debug)]
pub enum Taken {
    /// It is answered.
    Answered(FsResult<Response>),
    /// It takes its time.
    Waiting(Waiting),
}

/// A call that takes its time. Ends with its answer or at its deadline.
///
/// # Cancel safety
/// Dropping it gives up the answer, not the call: what changes something may take effect. The record says "abandoned".
#[derive(Debug)]
pub struct Waiting {
    on_its_way: OnItsWay,
    deadline: Pin<Box<Sleep>>,
    allowed: Duration,
    tally: Tally,
}

/// Where an answer comes from.
#[derive(Debug)]
enum OnItsWay {
    /// The core has the call.
    Core(oneshot::Receiver<FsResult<Response>>),
    /// A read that is done step by step, here: the task does other things in between.
    Walk(Option<Box<Walk>>, Arc<Inner>),
}

impl OnItsWay {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<FsResult<Response>> {
        match self {
            // One task polls many of these at a time: its budget would have it poll most of them twice.
            Self::Core(answered) => match pin!(unconstrained(answered)).poll(context) {
                Poll::Ready(Ok(response)) => Poll::Ready(response),
                Poll::Ready(Err(_closed)) => Poll::Ready(Err(stopping())),
                Poll::Pending => Poll::Pending,
            },
            Self::Walk(at, desk) => {
                let Some(walk) = at else { return Poll::Ready(Err(stopping())) };
                let wall = (desk.clock.wall_ns(), desk.limits.token_life_ms);
                match desk.shared.walk(wall, walk) {
                    Ok(false) => {
                        context.waker().wake_by_ref();
                        Poll::Pending
                    }
                    Ok(true) => Poll::Ready(at.take().map_or_else(|| Err(stopping()), |walk| Ok(walk.answer()))),
                    Err(error) => Poll::Ready(Err(error)),
                }
            }
        }
    }
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
        Self { inner: Arc::new(Inner { core, shared, clock, figures, in_work: AtomicUsize::new(0), limits }) }
    }

    /// Answers a call of a peer. Calls of the client's service leave exactly one audit record.
    ///
    /// # Errors
    /// The service's refusals; `Overloaded`, `Timeout`, `Unavailable` from here.
    ///
    /// # Cancel safety
    /// As [`Waiting`].
    pub async fn call(&self, request: Request, peer: &Peer) -> FsResult<Response> {
        match self.take(request, peer) {
            Taken::Answered(result) => result,
            Taken::Waiting(waiting) => waiting.await,
        }
    }

    /// Takes a call in, and answers it if that needs no waiting. Needs a tokio runtime with time.
    #[must_use]
    pub fn take(&self, request: Request, peer: &Peer) -> Taken {
        let mut tally = Tally::begin(&self.inner, &request, peer);
        let caller = match self.admit(&request, peer, &tally) {
            Ok(caller) => caller,
            Err(error) => return Taken::Answered(tally.ended(Err(error))),
        };
        let Inner { shared, clock, limits, .. } = &*self.inner;
        let wall = (clock.wall_ns(), limits.token_life_ms);
        let allowed = self.allowed(&request);
        let on_its_way = match shared.read_alone(&caller, &request, clock.now(), wall) {
            Some(Read::Answered(answer)) => return Taken::Answered(tally.ended(answer)),
            Some(Read::Walking(walk)) => OnItsWay::Walk(Some(walk), Arc::clone(&self.inner)),
            None => match self.ask_core(caller, request) {
                Ok(answered) => OnItsWay::Core(answered),
                Err(error) => return Taken::Answered(tally.ended(Err(error))),
            },
        };
        let deadline = Box::pin(tokio::time::sleep(allowed));
        Taken::Waiting(Waiting { on_its_way, deadline, allowed, tally })
    }

    /// How long a call may take.
    fn allowed(&self, request: &Request) -> Duration {
        let longest = self.inner.limits.deadline;
        match request.header().map_or(0, |header| header.deadline_ms) {
            0 => longest,
            ms => Duration::from_millis(ms).min(longest),
        }
    }

    /// The clock of the door.
    pub(super) fn clock(&self) -> &dyn Clock {
        self.inner.clock.as_ref()
    }

    /// Who calls, if the call may be looked at.
    fn admit(&self, request: &Request, peer: &Peer, tally: &Tally) -> FsResult<Caller> {
        let max_calls = self.inner.limits.max_calls;
        if tally.calls_before() >= max_calls {
            let text = format!("more than {max_calls} calls are in work");
            return Err(FsError::new(ErrorCode::Overloaded, text).with_hint("try again in a moment"));
        }
        let caller = match request.header() {
            None if is_node(request) => Caller { address: peer.address.to_string(), ..Caller::internal("datanode") },
            header => admit::caller(header, &peer.address)?,
        };
        admit::admit(request)?;
        Ok(caller)
    }

    /// Gives a call to the core. Where its answer comes from.
    fn ask_core(&self, caller: Caller, request: Request) -> FsResult<oneshot::Receiver<FsResult<Response>>> {
        let (answer, answered) = oneshot::channel();
        let call = Call { caller, request, answer };
        match self.inner.core.try_send(Message::Call(Box::new(call))) {
            Ok(()) => Ok(answered),
            Err(TrySendError::Full(_)) => Err(FsError::new(ErrorCode::Overloaded, "too many calls are waiting")),
            Err(TrySendError::Disconnected(_)) => Err(stopping()),
        }
    }
}

impl Future for Waiting {
    type Output = FsResult<Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<FsResult<Response>> {
        let this = &mut *self;
        let result = match this.on_its_way.poll(context) {
            Poll::Ready(response) => response,
            Poll::Pending => {
                std::task::ready!(pin!(unconstrained(this.deadline.as_mut())).poll(context));
                let ms = this.allowed.as_millis();
                let text = format!("no answer within {ms} ms; the call may still take effect");
                Err(FsError::new(ErrorCode::Timeout, text))
            }
        };
        Poll::Ready(this.tally.ended(result))
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
