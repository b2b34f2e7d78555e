//! READ_BLOCK: a range of a replica as packets, data by sendfile.

use std::io::{self, Write};
use std::os::fd::AsFd;

use base::net::{self, BlockingStream};
use proto::transfer::OpReadBlock;
use transfer::{ReadSetup, Status, WireError, encode_delimited, reply};

use super::Context;
use super::connection::{Next, refuse};
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
pub(super) fn serve(context: &Context, stream: &BlockingStream, op: &OpReadBlock) -> Next {
    let opened = ReadSetup::from_op(op)
        .map_err(|error| Refusal { status: Status::ErrorInvalid, message: error.to_string() })
        .and_then(|setup| context.node.begin_read(&setup, context.wall_ms()));
    let mut session = match opened {
        Ok(session) => session,
        Err(refusal) => {
            tracing::debug!(%refusal, "a read is refused");
            context.figures.ended("read", false);
            // Nothing of the peer is unread: it may ask for another block.
            return refuse(stream, &refusal, "").map_or(Next::End, |()| Next::Stay);
        }
    };
    let sent = send(context, stream, &mut session);
    context.figures.ended("read", sent.is_ok());
    match sent {
        Ok(()) => last_word(stream, session.reader()),
        Err(error) => {
            tracing::debug!(block = %session.reader().id(), error = %crate::receive::chain(&error), "a read ended early");
            context.wake.changed();
            Next::End
        }
    }
}

fn send(context: &Context, stream: &BlockingStream, session: &mut ReadSession) -> Result<(), SendError> {
    net::send_more(stream.as_fd(), &encode_delimited(&session.reply()))?;
    while let Some(step) = session.next_step()? {
        send_step(stream, session.reader(), &step)?;
        context.figures.sent_bytes.inc_by(step.len_bytes);
    }
    Ok(())
}

/// Sends one packet: its head and checksums, then its data straight from the page cache.
pub(super) fn send_step(mut stream: &BlockingStream, reader: &ReplicaReader, step: &ReadStep) -> Result<(), SendError> {
    let prefix = step.prefix();
    if step.len_bytes == 0 {
        return Ok(stream.write_all(&prefix)?);
    }
    let Some(file) = reader.data().descriptor() else {
        let mut data = vec![0; step.len_bytes as usize];
        reader.read_data(step.offset_bytes, &mut data)?;
        net::send_more(stream.as_fd(), &prefix)?;
        return Ok(stream.write_all(&data)?);
    };
    net::send_more(stream.as_fd(), &prefix)?;
    net::send_file(stream.as_fd(), file, step.offset_bytes, step.len_bytes).map_err(|error| {
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
fn last_word(mut stream: &BlockingStream, reader: &ReplicaReader) -> Next {
    match reply::read_read_status(&mut stream) {
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
