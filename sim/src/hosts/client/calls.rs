//! Calls of the namenodes: attempts, deadlines, numbers. The decisions are those of `client::retry` and
//! `client::session`; this is what `client::rpc` does around them, without sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use base::random::{Randomness, SeededRandom};
use client::retry::{Attempts, Next, Verdict, judge};
use client::session::{CallNumber, Session};
use namenode::service::request::{Request, Response};
use proto::common::RequestHeader;
use proto::error::{ErrorCode, FsError, FsResult};

use crate::coverage::Rare;
use crate::hosts::namenode::USER;
use crate::message::{Address, Message, Timer};
use crate::scene::Scene;

/// Deadline of a call.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// Time between renewals of leases, as much shorter than a lease as in the product.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(2);

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The only call of its operation.
    Simple,
    Page,
    Create,
    AddBlock,
    AbandonBlock,
    Append,
    NewStamp,
    UpdatePipeline,
    Publish,
    Complete,
    Open,
    Relocate,
    /// Nobody waits for it.
    Aside,
}

/// A call that is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) purpose: Purpose,
    pub(super) job: u64,
    pub(super) result: FsResult<Response>,
}

#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    job: u64,
    request: Request,
    attempts: Attempts,
    until: Moment,
    /// Of a call that changes something.
    session: Option<Arc<Session>>,
    number: Option<CallNumber>,
    /// May the session be replaced if it is forgotten?
    replaceable: bool,
}

/// All calls of a client.
#[derive(Debug)]
pub(super) struct Calls {
    client: usize,
    namenodes: usize,
    random: Arc<SeededRandom>,
    life: u64,
    session: Arc<Session>,
    preferred: usize,
    pending: BTreeMap<u64, Pending>,
    /// Attempts that wait for an answer, with their calls.
    attempts: BTreeMap<u64, u64>,
    next: u64,
}

impl Calls {
    pub(super) fn new(client: usize, namenodes: usize, random: Arc<SeededRandom>) -> Self {
        let session = Session::new(random.as_ref());
        Self {
            client,
            namenodes,
            random,
            life: 1,
            session,
            preferred: client,
            pending: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next: 1,
        }
    }
    pub(super) const fn session(&self) -> &Arc<Session> {
        &self.session
    }
    /// The client died: nothing is awaited any more.
    pub(super) fn begin_life(&mut self) {
        self.life += 1;
        self.pending.clear();
        self.attempts.clear();
        self.session = Session::new(self.random.as_ref());
    }
    const fn address(&self) -> Address {
        Address::Client(self.client)
    }
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Makes a call. `session`: for one that changes something, the session that it belongs to.
    pub(super) fn begin(
        &mut self,
        (purpose, job): (Purpose, u64),
        request: Request,
        (session, replaceable): (Option<&Arc<Session>>, bool),
        within: Duration,
        scene: &mut Scene,
    ) -> Option<Ended> {
        let session = session.cloned();
        let attempts = Attempts::new(request.command(), session.is_some());
        let until = scene.now().plus(within);
        let key = self.number();
        self.pending
            .insert(key, Pending { purpose, job, request, attempts, until, session, number: None, replaceable });
        self.try_again(key, scene)
    }

    /// Makes an attempt of a call.
    pub(super) fn try_again(&mut self, key: u64, scene: &mut Scene) -> Option<Ended> {
        let pending = self.pending.get_mut(&key)?;
        if pending.number.is_none()
            && let Some(session) = &pending.session
        {
            pending.number = session.try_begin();
            if pending.number.is_none() {
                // Too many calls lie behind an unanswered one: it has to wait for that.
                scene.wake(Address::Client(self.client), self.life, Duration::from_millis(20), Timer::Retry(key));
                return None;
            }
        }
        let left = pending.attempts.patience(pending.until.since(scene.now()), self.namenodes);
        let mut request = pending.request.clone();
        request.set_header(header(pending.number.as_ref(), left, self.random.as_ref()));
        let to = Address::Namenode(self.preferred % self.namenodes.max(1));
        let attempt = self.number();
        self.attempts.insert(attempt, key);
        scene.send(self.address(), to, &Message::Call { call: attempt, request: Box::new(request) });
        scene.wake(self.address(), self.life, left, Timer::AttemptOver(attempt));
        None
    }

    /// An answer came.
    pub(super) fn answered(&mut self, attempt: u64, answer: FsResult<Response>, scene: &mut Scene) -> Option<Ended> {
        let key = self.attempts.remove(&attempt)?;
        match answer {
            Ok(response) => self.end(key, Ok(response)),
            Err(error) => self.failed(key, error, scene),
        }
    }
    /// No answer came in time.
    pub(super) fn attempt_over(&mut self, attempt: u64, scene: &mut Scene) -> Option<Ended> {
        let key = self.attempts.remove(&attempt)?;
        // A silent namenode may be cut off: a new connection is dialled, perhaps to another one.
        self.failed(key, FsError::new(ErrorCode::Timeout, "not answered in time"), scene)
    }

    fn failed(&mut self, key: u64, error: FsError, scene: &mut Scene) -> Option<Ended> {
        let pending = self.pending.get_mut(&key)?;
        match error.code {
            ErrorCode::SafeMode => scene.hit(Rare::SafeModeSeen),
            ErrorCode::NoSpace => scene.hit(Rare::NamenodeFull),
            _ => {}
        }
        let verdict = judge(&error);
        if matches!(verdict, Verdict::Again { elsewhere: true, .. }) {
            self.preferred += 1;
        }
        match pending.attempts.failed(error, verdict, pending.until, scene.now(), self.random.as_ref()) {
            Next::AfterPause(pause) => {
                scene.wake(Address::Client(self.client), self.life, pause, Timer::Retry(key));
                None
            }
            Next::End(error) if error.code == ErrorCode::SessionExpired && pending.replaceable => {
                self.replace_session(key, scene)
            }
            Next::End(error) => self.end(key, Err(error)),
        }
    }

    /// A session that the namenode has forgotten is replaced: the refusal proves that the call did not take effect.
    fn replace_session(&mut self, key: u64, scene: &mut Scene) -> Option<Ended> {
        self.session = Session::new(self.random.as_ref());
        let pending = self.pending.get_mut(&key)?;
        pending.session = Some(Arc::clone(&self.session));
        pending.number = None;
        pending.replaceable = false;
        pending.attempts = Attempts::new(pending.request.command(), true);
        self.try_again(key, scene)
    }

    fn end(&mut self, key: u64, result: FsResult<Response>) -> Option<Ended> {
        let pending = self.pending.remove(&key)?;
        self.attempts.retain(|_, of| *of != key);
        Some(Ended { purpose: pending.purpose, job: pending.job, result })
    }
}

fn header(number: Option<&CallNumber>, left: Duration, random: &dyn Randomness) -> RequestHeader {
    let mut header = RequestHeader {
        protocol_version: proto::PROTOCOL_VERSION,
        user: USER.to_owned(),
        request_id: format!("{:016x}", random.next_u64()),
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
