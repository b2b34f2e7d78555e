//! VERIFY_REPLICA: a replica is read whole from the disk, at a bounded rate, and its asker told what was found.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::clock::Moment;
use parking_lot::{Condvar, Mutex};
use proto::transfer::OpVerifyReplica;
use transfer::{Status, Verified, VerifySetup, verify};

use super::Context;
use super::connection::Next;
use super::peer::Peer;
use crate::node::Refusal;
use crate::scrub::Pace;
use crate::store::{StoreError, Verification, VerifyStep};

/// What all askers together may have read a second: others need the disks, too.
const NODE_BYTES_PER_S: u64 = 256 << 20;
/// Slowest that anybody may have a replica read: slower ones would hold a thread and two files for days.
const LEAST_BYTES_PER_S: u64 = 64 << 10;
/// Verifications at a time.
const MAX_RUNNING: usize = 32;
/// Time between two signs of life to the asker.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Longest wait between two looks at whether the node stops.
const LOOK: Duration = Duration::from_millis(200);

/// The rate of all verifications of a node together.
#[derive(Debug)]
pub(super) struct Throttle {
    pace: Mutex<Pace>,
    /// Nobody notifies it: waiting on it is waiting for time.
    time: Condvar,
    running: AtomicUsize,
}

/// The right to one verification.
#[derive(Debug)]
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Throttle {
    pub(super) const fn new(now: Moment) -> Self {
        let pace = Mutex::new(Pace::new(NODE_BYTES_PER_S, now));
        Self { pace, time: Condvar::new(), running: AtomicUsize::new(0) }
    }
    /// A place for one more; `None` if as many run as may.
    fn place(&self) -> Option<Place<'_>> {
        let before = self.running.fetch_add(1, Ordering::SeqCst);
        let place = Place(&self.running);
        (before < MAX_RUNNING).then_some(place)
    }
    /// Counts bytes that were read; when the next may be.
    fn spend(&self, bytes: u64, now: Moment) -> Moment {
        let mut pace = self.pace.lock();
        pace.spend(bytes, now);
        pace.free_at()
    }
    fn wait(&self, time: Duration) {
        let mut pace = self.pace.lock();
        // Woken early or not: the caller looks at the clock.
        self.time.wait_for(&mut pace, time);
    }
}

/// Why there is no finding.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the asker left")]
    Socket(#[from] io::Error),
    #[error("the node stops")]
    Stopped,
}

/// Serves one verification.
pub(super) fn serve(context: &Context, peer: &mut Peer<'_>, op: &OpVerifyReplica) -> Next {
    let place = context.verifying.place();
    let begun = VerifySetup::from_op(op)
        .map_err(|error| Refusal { status: Status::ErrorInvalid, message: error.to_string() })
        .and_then(|setup| {
            let message = "as many replicas are being read as this node reads at a time: try again".to_owned();
            if place.is_some() { Ok(setup) } else { Err(Refusal { status: Status::Error, message }) }
        })
        .and_then(|setup| Ok((context.node.begin_verify(&setup, context.wall_ms())?, setup.rate_bytes_per_s)));
    let found = match begun {
        Ok((verification, rate)) => run(context, peer, verification, rate),
        Err(refusal) => {
            tracing::debug!(%refusal, "a verification is refused");
            context.figures.ended("verify", false);
            return peer.refuse(&refusal, "").map_or(Next::End, |()| Next::Stay);
        }
    };
    context.figures.ended("verify", found.is_ok());
    let told = match found {
        Ok(verified) => {
            if verified.damage.is_some() {
                context.wake.changed();
            }
            peer.answer(&verified.to_reply())
        }
        Err(Ended::Store(error)) => peer.refuse(&error.into(), ""),
        Err(error) => {
            tracing::debug!(%error, "a verification ended early");
            return Next::End;
        }
    };
    told.map_or(Next::End, |()| Next::Stay)
}

fn run(context: &Context, peer: &mut Peer<'_>, mut work: Verification, rate: u64) -> Result<Verified, Ended> {
    let began = context.clock.now();
    let rate = if rate == 0 { NODE_BYTES_PER_S } else { rate.max(LEAST_BYTES_PER_S) };
    let (mut own, mut told) = (Pace::new(rate, began), began);
    loop {
        let bytes = match work.step()? {
            VerifyStep::Done(verified) => return Ok(verified),
            VerifyStep::Going { bytes } => bytes,
        };
        let now = context.clock.now();
        own.spend(bytes, now);
        let free_at = context.verifying.spend(bytes, now).max(own.free_at());
        loop {
            let now = context.clock.now();
            if context.stop.is_cancelled() {
                return Err(Ended::Stopped);
            }
            if now.since(told) >= SIGN_OF_LIFE {
                peer.answer(&verify::in_progress())?;
                told = now;
            }
            if now >= free_at {
                break;
            }
            context.verifying.wait(free_at.since(now).min(LOOK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_6_verifications_are_bounded_in_number_and_give_their_place_back() {
        let throttle = Throttle::new(Moment::START);
        let places: Vec<_> = (0..MAX_RUNNING).filter_map(|_| throttle.place()).collect();
        assert_eq!(places.len(), MAX_RUNNING);
        assert!(throttle.place().is_none());
        drop(places);
        assert!(throttle.place().is_some());
        assert_eq!(throttle.running.load(Ordering::SeqCst), 0);
    }
}
