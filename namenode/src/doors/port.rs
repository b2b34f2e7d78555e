//! The one port of clients and datanodes: accepts, caps, tells the carriers apart by their first bytes.
//!
//! ```text
//!   accept ─▶ place (at most so many) ─▶ first 4 bytes, within a time-out ─┬▶ framed: served by this task
//!      │ no descriptor left:                                               ├▶ grpc: over a bounded channel to tonic
//!      └ pause, go on                                                      └▶ anything else: closed, counted
//! ```
//!
//! Everything here happens before anybody is asked who they are, so everything has a bound.

mod figures;
mod opening;
mod places;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use base::http::Readiness;
use base::net::{TcpListener, TcpStream};
use base::task::{CancellationToken, JoinSet};
use tokio::sync::mpsc;

pub(super) use figures::Open;
pub use figures::PortFigures;
pub(super) use opening::Opening;
pub(super) use places::{Place, Places};

use super::grpc::{self, Incoming};
use super::{Carrier, Desk, Peer, framed};

/// Pause after a failed accept (no descriptors left, for one): trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A failure that goes on is told again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// Connections on their way to tonic.
const HANDED_OVER: usize = 64;

/// Limits of the port.
#[derive(Clone, Copy, Debug)]
pub struct PortLimits {
    /// Connections of all carriers; more are turned away.
    pub max_connections: usize,
    /// Time for the first bytes of a connection.
    pub preamble: Duration,
    /// A connection without a call for so long is closed.
    pub idle: Duration,
}

/// The port, ready to serve.
#[derive(Debug)]
pub struct Port {
    /// Where connections come in.
    pub listener: TcpListener,
    /// Where calls go.
    pub desk: Desk,
    /// Its limits.
    pub limits: PortLimits,
    /// Its figures.
    pub figures: PortFigures,
}

/// What every connection needs.
struct Context {
    desk: Desk,
    limits: PortLimits,
    figures: PortFigures,
    grpc: mpsc::Sender<Incoming>,
    stop: CancellationToken,
}

impl Port {
    /// Serves until the token is cancelled; then calls under way are answered.
    ///
    /// # Errors
    /// The gRPC door's.
    ///
    /// # Cancel safety
    /// Dropping the future cuts all connections of the framed carrier off.
    pub async fn serve(self, ready: Readiness, stop: CancellationToken) -> Result<(), tonic::transport::Error> {
        let (sender, incoming) = mpsc::channel(HANDED_OVER);
        let open = grpc::serve(self.desk.clone(), ready, incoming, stop.clone());
        let Self { listener, desk, limits, figures } = self;
        let accepting = accept(listener, Context { desk, limits, figures, grpc: sender, stop });
        let (served, ()) = tokio::join!(open, accepting);
        served
    }
}

async fn accept(listener: TcpListener, context: Context) {
    let context = Arc::new(context);
    let places = Places::new(context.limits.max_connections);
    let mut connections = JoinSet::new();
    let mut told = None;
    loop {
        let accepted = tokio::select! {
            () = context.stop.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                note_panic(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => match places.take() {
                Some(place) => {
                    connections.spawn(connection(stream, address, place, Arc::clone(&context)));
                }
                None => {
                    context.figures.turned_away();
                    tell(&mut told, &context, || {
                        tracing::warn!(limit = context.limits.max_connections, "a connection is turned away: too many");
                    });
                }
            },
            Err(error) => {
                context.figures.accept_failed();
                tell(&mut told, &context, || tracing::warn!(%error, "cannot accept a connection"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Nobody new: the port is closed, and tonic hears that no further connection comes.
    drop((listener, context));
    while let Some(ended) = connections.join_next().await {
        note_panic(ended);
    }
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended in a panic");
    }
}

/// Says something now and not again for a while: whoever causes it may do so very often.
fn tell(told: &mut Option<Moment>, context: &Context, say: impl FnOnce()) {
    let now = context.desk.clock().now();
    if told.is_none_or(|before| now.since(before) >= TELL_AGAIN) {
        *told = Some(now);
        say();
    }
}

/// One connection, from its first byte on.
async fn connection(mut stream: TcpStream, address: SocketAddr, place: Place, context: Arc<Context>) {
    let opening = tokio::select! {
        () = context.stop.cancelled() => return,
        opening = tokio::time::timeout(context.limits.preamble, Opening::read(&mut stream)) => opening,
    };
    let opening = match opening {
        Ok(Ok(opening)) => opening,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "a connection ended before it said anything"),
        Err(_elapsed) => {
            context.figures.stranger();
            return tracing::info!(%address, "a connection is closed: it did not say in time what it speaks");
        }
    };
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%address, %error, "a connection ended at once");
    }
    let peer = |carrier| Peer::new(&address.ip().to_string(), carrier);
    match opening.carrier() {
        Some(Carrier::Framed) => {
            let _open = context.figures.opened(Carrier::Framed);
            let limits = framed::Limits { preamble: context.limits.preamble, idle: context.limits.idle };
            let door = framed::Door { desk: context.desk.clone(), peer: peer(Carrier::Framed), limits };
            framed::serve(stream, opening.bytes(), door, context.stop.clone()).await;
            drop(place);
        }
        Some(Carrier::Grpc) => {
            let open = context.figures.opened(Carrier::Grpc);
            let activity = grpc::Activity::new(peer(Carrier::Grpc), &context.desk, context.limits.idle);
            let incoming = Incoming::new(stream, opening, activity, (place, open));
            if context.grpc.send(incoming).await.is_err() {
                tracing::debug!(%address, "a connection came while the gRPC door closed");
            }
        }
        None => {
            context.figures.stranger();
            tracing::info!(%address, "a connection is closed: {opening}");
        }
    }
}
