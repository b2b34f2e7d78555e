//! The way to one namenode, over either carrier.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::error::{ErrorCode, FsError, FsResult};
use proto::methods::Method;

use super::framed::FramedLink;
use super::grpc::GrpcLink;
use crate::address::HostPort;
use crate::retry::{Verdict, judge};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

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

/// Why a call brought no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no connection, for this reason. Nothing was sent.
    Unreached(String),
    /// The namenode said no.
    Refused(FsError),
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
    /// The namenode's word on the call cannot be read.
    Garbled(FsError),
    pub(super) verdict: Verdict,
    /// The namenode was not reached at all.
    pub(super) unreached: bool,
}

impl Link {
    pub(super) fn new(address: &HostPort, carrier: Carrier) -> FsResult<Self> {
        let carried = match carrier {
            Carrier::Framed => Carried::Framed(FramedLink::new(address, CONNECT_TIMEOUT)),
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
        let reached = AtomicBool::new(false);
        let connected = || {
            reached.store(true, Ordering::Relaxed);
            ever_connected.store(true, Ordering::Relaxed);
        };
        let attempt = async {
            match &self.carried {
                Carried::Framed(link) => loop {
                    let connection = link.connect().await?;
                    connected();
                    // A connection that ended just now took nothing: the call goes out on a new one.
                    if let Some(answered) = link.call(&connection, request).await {
                        return answered;
                    }
                },
                Carried::Grpc(link) => {
                    let stub = link.connect().await?;
                    connected();
                    link.call(stub, request.clone()).await
                }
            }
        };
        let trouble = match tokio::time::timeout(within, attempt).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(trouble)) => trouble,
            Err(_elapsed) if reached.load(Ordering::Relaxed) => {
                // A connection without answers is not trusted with the next call.
                self.forget();
                Trouble::Silent
            }
            Err(_elapsed) => Trouble::Unreached("no answer in time".to_owned()),
        };
        Err(self.explained(operation, trouble))
    }

    fn forget(&self) {
        match &self.carried {
            Carried::Framed(link) => link.forget(),
            Carried::Grpc(link) => link.forget(),
        }
    }

    /// What a person is told, and what it means for the next attempt.
    fn explained(&self, operation: &str, trouble: Trouble) -> Failed {
        let address = &self.address;
        let sent = |error: FsError| Failed { verdict: judge(&error), error, unreached: false };
        match trouble {
            Trouble::Refused(error) => sent(error),
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
            Trouble::Garbled(error) => Failed { verdict: Verdict::Garbled, error, unreached: false },
            Trouble::Unreached(why) => Failed {
                error: FsError::new(ErrorCode::Unavailable, format!("cannot reach the cluster: {why} ({address})"))
                    .with_hint("start a local one with `blockyard dev`, or name another with --fs"),
                verdict: Verdict::Again { elsewhere: true, doubtful: false },
                unreached: true,
            },
        }
    }
}
