//! What goes into the core and what comes out.

use auth::Caller;
use proto::error::FsResult;
use proto::ids::MemberId;
use proto::raft::RaftMessage;

use crate::consensus::{ImageInfo, ImageMeta, PersistBatch, PersistDone, SendImage};
use crate::namespace::FrozenNamespace;
use crate::service::request::{Request, Response, Ticket};

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// A door asks. Answered by exactly one [`Effect::Reply`] with the same ticket.
    Request {
        /// Chosen by the driver.
        ticket: Ticket,
        /// Who asks.
        caller: Caller,
        /// What.
        request: Request,
    },
    /// A message of another member.
    Raft(RaftMessage),
    /// The committer made batches durable.
    Persisted(PersistDone),
    /// The image thread is done with the job that it was given; an error is a text for the log.
    ImageWritten(Result<ImageInfo, String>),
    /// The parts of an image were handed to the network, or not.
    ImageSent {
        /// Whom they were for.
        to: MemberId,
        /// All of them?
        delivered: bool,
    },
    /// The other events that were waiting had their turn: the answer to [`Effect::GoOn`].
    GoOn,
    /// Nobody waits for this answer any more. Said at least of calls for which there is long work.
    Gone(Ticket),
    /// Time passed: one every [`CoreConfig::tick`](super::CoreConfig::tick).
    Tick,
}

/// Something is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Answer a request.
    Reply {
        /// Of the request.
        ticket: Ticket,
        /// The answer.
        response: FsResult<Response>,
    },
    /// Send to another member.
    SendRaft(RaftMessage),
    /// Give to the [`LogWriter`](crate::consensus::LogWriter), in this order; then [`Event::Persisted`].
    Persist(PersistBatch),
    /// Write an image elsewhere, while operations go on; then [`Event::ImageWritten`].
    WriteImage(Box<ImageJob>),
    /// Send an image to a follower; then [`Event::ImageSent`].
    SendImage(SendImage),
    /// There is more to do than one step of it: take in what waits, then [`Event::GoOn`]. At most one is on its way.
    GoOn,
    /// This member cannot go on: stop it, with this reason.
    Stop(String),
}

/// An image to write with [`ImageStore::write`](crate::consensus::ImageStore::write).
pub struct ImageJob {
    /// What it is of.
    pub meta: ImageMeta,
    /// Its contents.
    pub frozen: FrozenNamespace,
}

impl std::fmt::Debug for ImageJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageJob").field("meta", &self.meta).finish_non_exhaustive()
    }
}
