//! READ_BLOCK: a range of a replica as packets; long ones by sendfile, short ones with one send.

use std::io::{self, Write};
use std::os::fd::AsFd;

use base::net::{self, BlockingStream, Counted};
use proto::transfer::OpReadBlock;
use transfer::{ReadSetup, Status, WireError, encode_delimited, reply};

use super::Context;
use super::connection::Next;
use super::peer::Peer;
use crate::node::Refusal;
use crate::serve::{ReadSession, ReadStep};
use crate::store::{ReplicaReader, StoreError};

/// Why sending stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("send")]
    Socket(#[from] io::Error),
}

/// Serves one read.
pub(super) fn serve(context: &Context, peer: &mut Peer<'_>, op: &OpReadBlock) -> Next {
    let opened = ReadSetup::from_op(op)
        .map_err(|error| Refusal { status: Status::ErrorInvalid, message: error.to_string() })
        .and_then(|setup| context.node.begin_read(&setup, context.wall_ms()));
    let mut session = match opened {
        Ok(session) => session,
        Err(refusal) => {
            tracing::debug!(%refusal, "a read is refused");
            context.figures.ended("read", false);
            // Nothing of the peer is unread: it may ask for another block.
            return peer.refuse(&refusal, "").map_or(Next::End, |()| Next::Stay);
        }
    };
    peer.gathered.extend_from_slice(&encode_delimited(&session.reply()));
    let send = if session.is_short() { send_short } else { send_long };
    let sent = send(context, peer, &mut session);
    context.figures.ended("read", sent.is_ok());
    match sent {
        Ok(()) => Next::LastWord(session.into_reader()),
        Err(error) => {
            tracing::debug!(block = %session.reader().id(), error = %crate::receive::chain(&error), "a read ended early");
            context.wake.changed();
            Next::End
        }
    }
}

/// Sends all of a short answer at once: its bytes are copied, which costs less than three more calls.
fn send_short(context: &Context, peer: &mut Peer<'_>, session: &mut ReadSession) -> Result<(), SendError> {
    let mut sent_bytes = 0;
    while let Some(step) = session.next_step()? {
        peer.gathered.extend_from_slice(&step.prefix());
        let start = peer.gathered.len();
        // At most a short read's worth.
        peer.gathered.resize(start + step.len_bytes as usize, 0);
        session.reader().read_data(step.offset_bytes, peer.gathered.get_mut(start..).unwrap_or_default())?;
        sent_bytes += step.len_bytes;
    }
    peer.tell()?;
    context.figures.sent_bytes.inc_by(sent_bytes);
    Ok(())
}

/// Sends packet by packet, data straight from the page cache; the answer leaves with the first one.
fn send_long(context: &Context, peer: &mut Peer<'_>, session: &mut ReadSession) -> Result<(), SendError> {
    let stream = peer.stream();
    while let Some(step) = session.next_step()? {
        peer.gathered.extend_from_slice(&step.prefix());
        let sent = send_gathered(stream, session.reader(), &step, &peer.gathered);
        peer.gathered.clear();
        sent?;
        context.figures.sent_bytes.inc_by(step.len_bytes);
    }
    Ok(())
}

/// Sends one packet: its head and checksums, then its data straight from the page cache.
pub(super) fn send_step(stream: &BlockingStream, reader: &ReplicaReader, step: &ReadStep) -> Result<(), SendError> {
    send_gathered(stream, reader, step, &step.prefix())
}

/// Sends one packet, of which `before` is everything before its data.
fn send_gathered(
    stream: &BlockingStream,
    reader: &ReplicaReader,
    step: &ReadStep,
    before: &[u8],
) -> Result<(), SendError> {
    if step.len_bytes == 0 {
        return Ok(Counted(stream).write_all(before)?);
    }
    let Some(file) = reader.data().descriptor() else {
        let mut data = vec![0; step.len_bytes as usize];
        reader.read_data(step.offset_bytes, &mut data)?;
        net::send_more(stream.as_fd(), before)?;
        return Ok(Counted(stream).write_all(&data)?);
    };
    net::send_more(stream.as_fd(), before)?;
    // Watched as every other read of a disk: the kernel reads the file inside this call.
    let reading = || reader.reading();
    net::send_file_watched(stream.as_fd(), file, step.offset_bytes, step.len_bytes, reading).map_err(|error| {
        if blames_the_file(&error) {
            reader.mark_corrupt();
        }
        SendError::Socket(error)
    })
}

/// Did the disk fail rather than the socket? A file that is shorter than its replica counts too.
fn blames_the_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// What the reader says after the last packet; only a reader that says something gets another operation.
pub(super) fn last_word(peer: &mut Peer<'_>, reader: &ReplicaReader) -> Next {
    match reply::read_read_status(peer) {
        Ok(Status::ChecksumOk | Status::Success) => Next::Stay,
        Ok(status) => {
            // The reader tells the namenode by itself, if it is one of ours; a Hadoop client may be gone before.
            if status == Status::ErrorChecksum {
                reader.suspect();
            }
            tracing::warn!(block = %reader.id(), status = status.as_str_name(), "a reader is not content");
            Next::Stay
        }
        Err(WireError::Closed | WireError::Io(_)) => Next::End,
        Err(error) => {
            tracing::debug!(%error, "a reader's last word is not understood");
            Next::End
        }
    }
}
