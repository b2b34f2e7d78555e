//! The way to one namenode, over either carrier.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::methods::Method;

use super::framed::{FramedLink, Handle};
use super::grpc::GrpcLink;
use crate::address::HostPort;
use crate::retry::{ATTEMPT_TIMEOUT, Verdict, judge};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest silence of a connection that owes an answer: longer than any attempt waits for one.
const PATIENCE: Duration = Duration::from_secs(ATTEMPT_TIMEOUT.as_secs() * 3 / 2);

/// What carries calls to the namenodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carrier {
    /// Our own frames: the cheaper one.
    #[default]
    Framed,
    /// gRPC, as everyone else speaks it.
    Grpc,
}

/// The way to one namenode.
#[derive(Debug)]
pub(super) struct Link {
    address: HostPort,
    carried: Carried,
}

#[derive(Debug)]
enum Carried {
    Framed(FramedLink),
    Grpc(Box<GrpcLink>),
}

/// The connection of an attempt.
#[derive(Debug)]
enum Used {
    Framed(Arc<Handle>),
    Grpc(u64),
}

/// Why a call brought no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no connection, for this reason. Nothing was sent.
    Unreached(String),
    /// The namenode said no.
    Refused(FsError),
    /// The namenode's word on the call cannot be read.
    Garbled(FsError),
    /// The namenode did not look at the call: it was going.
    NotTaken(FsError),
    /// The connection failed after the call was sent, or what answers is no namenode.
    Broken(ErrorCode, String),
    /// There was no answer in time.
    Silent,
}

/// A failed attempt, and what it means.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: FsError,
    pub(super) verdict: Verdict,
    /// The namenode was not reached at all.
    pub(super) unreached: bool,
}

impl Link {
    pub(super) fn new(address: &HostPort, carrier: Carrier) -> FsResult<Self> {
        let carried = match carrier {
            Carrier::Framed => Carried::Framed(FramedLink::new(address, CONNECT_TIMEOUT, PATIENCE)),
            Carrier::Grpc => Carried::Grpc(Box::new(GrpcLink::new(address, CONNECT_TIMEOUT)?)),
        };
        Ok(Self { address: address.clone(), carried })
    }

    /// One attempt of a call; `ever_connected` is set as soon as there is a connection.
    pub(super) async fn call<M: Method>(
        &self,
        operation: &'static str,
        request: &M,
        within: Duration,
        ever_connected: &AtomicBool,
    ) -> Result<M::Answer, Failed> {
        // What a silent attempt was made on: only that is forgotten, not what others have made meanwhile.
        let on = Mutex::new(None);
        let connected = |used: Used| {
            *on.lock() = Some(used);
            ever_connected.store(true, Ordering::Relaxed);
        };
        let attempt = async {
            match &self.carried {
                Carried::Framed(link) => loop {
                    let connection = link.connect().await?;
                    connected(Used::Framed(Arc::clone(&connection)));
                    // A connection that ended just now took nothing: the call goes out on a new one.
                    if let Some(answered) = link.call(&connection, request).await {
                        return answered;
                    }
                },
                Carried::Grpc(link) => {
                    let stub = link.connect().await?;
                    connected(Used::Grpc(stub.0));
                    link.call(stub, request.clone()).await
                }
            }
        };
        let ended = tokio::time::timeout(within, attempt).await;
        let trouble = match (ended, on.into_inner()) {
            (Ok(Ok(answer)), _) => return Ok(answer),
            (Ok(Err(trouble)), _) => trouble,
            (Err(_elapsed), Some(used)) => {
                // A connection without answers is not trusted with the next call.
                self.forget(&used);
                Trouble::Silent
            }
            (Err(_elapsed), None) => Trouble::Unreached("no answer in time".to_owned()),
        };
        Err(self.explained(operation, trouble))
    }

    fn forget(&self, used: &Used) {
        match (&self.carried, used) {
            (Carried::Framed(link), Used::Framed(connection)) => link.forget(connection),
            (Carried::Grpc(link), Used::Grpc(number)) => link.forget(*number),
            (Carried::Framed(_), Used::Grpc(_)) | (Carried::Grpc(_), Used::Framed(_)) => {}
        }
    }

    /// What a person is told, and what it means for the next attempt.
    fn explained(&self, operation: &str, trouble: Trouble) -> Failed {
        let address = &self.address;
        let sent = |error: FsError| Failed { verdict: judge(&error), error, unreached: false };
        match trouble {
            Trouble::Refused(error) => sent(error),
            Trouble::Garbled(error) => Failed { verdict: Verdict::Garbled, error, unreached: false },
            Trouble::NotTaken(error) => {
                let verdict = match judge(&error) {
                    Verdict::Again { elsewhere, .. } => Verdict::Again { elsewhere, doubtful: false },
                    other => other,
                };
                Failed { verdict, error, unreached: false }
            }
            Trouble::Broken(code, why) => sent(
                FsError::new(code, format!("the connection to {address} failed: {why}"))
                    .with_hint(format!("check that a namenode of Blockyard listens on {address}")),
            ),
            Trouble::Silent => sent(
                FsError::new(ErrorCode::Timeout, format!("{operation} at {address} was not answered in time"))
                    .with_hint("try again"),
            ),
            Trouble::Unreached(why) => Failed {
                error: FsError::new(ErrorCode::Unavailable, format!("cannot reach the cluster: {why} ({address})"))
                    .with_hint("start a local one with `blockyard dev`, or name another with --fs"),
                verdict: Verdict::Again { elsewhere: true, doubtful: false },
                unreached: true,
            },
        }
    }
}

/// The answer in a message of a namenode.
pub(super) fn decoded<M: Method>(message: Bytes) -> Result<M::Answer, Trouble> {
    <M::Answer as prost::Message>::decode(message).map_err(|error| garbled::<M>(&error))
}

pub(super) fn garbled<M: Method>(error: &prost::DecodeError) -> Trouble {
    let text = format!("the answer to {} cannot be decoded: {error}", M::NAME);
    let hint = "use a client of the same release as the cluster";
    Trouble::Garbled(FsError::new(ErrorCode::Corrupt, text).with_hint(hint))
}
