//! The calls of one connection: taken, waiting, answered.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use base::clock::Moment;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::framing::{Frame, Head, Kind, MAX_CALLS};

use super::methods;
use super::out::Out;
use crate::doors::{Desk, Peer, Taken, Waiting};
use crate::service::request::Response;

/// Bytes of answers that may wait for the client to read; beyond them nothing is read from it.
const OUT_BYTES: usize = 1 << 20;

/// The calls, and the answers on their way out.
#[derive(Debug)]
pub(super) struct Calls {
    desk: Desk,
    peer: Peer,
    waiting: FuturesUnordered<Call>,
    last: u64,
    pub(super) out: Out,
}

/// A call that the core has.
#[derive(Debug)]
struct Call {
    number: u64,
    method: u32,
    /// `None`: cancelled.
    waiting: Option<Waiting>,
    waker: Option<Waker>,
}

impl Future for Call {
    type Output = Option<(u64, u32, FsResult<Response>)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(waiting) = &mut this.waiting else { return Poll::Ready(None) };
        let polled = Pin::new(waiting).poll(context);
        if polled.is_pending() && this.waker.is_none() {
            this.waker = Some(context.waker().clone());
        }
        let result = ready!(polled);
        Poll::Ready(Some((this.number, this.method, result)))
    }
}

impl Calls {
    pub(super) fn new(desk: Desk, peer: Peer) -> Self {
        Self { desk, peer, waiting: FuturesUnordered::new(), last: 0, out: Out::default() }
    }

    pub(super) fn now(&self) -> Moment {
        self.desk.clock().now()
    }
    /// May another call be taken?
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_CALLS && self.out.len() < OUT_BYTES
    }
    /// Has the core none of them?
    pub(super) fn none_waits(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes what a frame says.
    ///
    /// # Errors
    /// Why the connection must end: the client does not keep to the protocol.
    pub(super) fn take(&mut self, frame: Frame<'_>) -> FsResult<()> {
        let Head { call, kind, method } = frame.head;
        if kind == Kind::Cancel {
            self.cancel(call);
            return Ok(());
        }
        if call <= self.last {
            let text = format!("call {call} came after call {}: numbers must ascend", self.last);
            return Err(FsError::new(ErrorCode::InvalidArgument, text));
        }
        self.last = call;
        let result = match methods::request(method, frame.message) {
            Err(error) => Err(error),
            Ok(request) => match self.desk.take(request, &self.peer) {
                Taken::Answered(result) => result,
                Taken::Waiting(waiting) => {
                    self.waiting.push(Call { number: call, method, waiting: Some(waiting), waker: None });
                    return Ok(());
                }
            },
        };
        methods::put_result(self.out.frames(), call, method, &result);
        Ok(())
    }

    /// Nobody waits for this call any more. Cancellations are rare: looking through all calls is cheap enough.
    fn cancel(&mut self, number: u64) {
        if let Some(call) = self.waiting.iter_mut().find(|call| call.number == number) {
            call.waiting = None;
            if let Some(waker) = call.waker.take() {
                waker.wake();
            }
        }
    }

    /// Puts answers of the core into `out`, while there is room. Was there any?
    pub(super) fn poll_waiting(&mut self, context: &mut Context<'_>) -> bool {
        let mut any = false;
        while self.out.len() < OUT_BYTES
            && let Poll::Ready(Some(ended)) = self.waiting.poll_next_unpin(context)
        {
            any = true;
            if let Some((call, method, result)) = ended {
                methods::put_result(self.out.frames(), call, method, &result);
            }
        }
        any
    }

    /// Says that no further call is taken, and why.
    pub(super) fn farewell(&mut self, why: &FsError) {
        let head = Head { call: self.last, kind: Kind::GoingAway, method: 0 };
        methods::put_error(self.out.frames(), head, why);
    }
}
