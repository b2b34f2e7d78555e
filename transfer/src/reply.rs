//! Answers to the set-up of an operation, and the reader's last word.

use std::io::Read;

use proto::transfer::{BlockOpResponse, ClientReadStatus, ReadOpChecksumInfo, Status};

use crate::frame::{encode_delimited, read_delimited};
use crate::{ChunkFormat, WireError};

/// Longest text of a refusal that is sent.
const MAX_TEXT_CHARS: usize = 1024;

/// "The pipeline stands": no bad link, said explicitly because Hadoop's client reads the field.
#[must_use]
pub fn pipeline_ready() -> BlockOpResponse {
    BlockOpResponse {
        status: Status::Success as i32,
        first_bad_link: Some(String::new()),
        ..BlockOpResponse::default()
    }
}

/// "Packets follow from here, with these checksums."
#[must_use]
pub fn reading(format: ChunkFormat, chunk_offset_bytes: u64) -> BlockOpResponse {
    BlockOpResponse {
        status: Status::Success as i32,
        read_op_checksum_info: Some(ReadOpChecksumInfo {
            checksum: format.to_wire(),
            chunk_offset: chunk_offset_bytes,
        }),
        ..BlockOpResponse::default()
    }
}

/// A refusal. `bad_link` is `host:port` of the node at fault when that is not this one; empty otherwise.
#[must_use]
pub fn refused(status: Status, message: &str, bad_link: &str) -> BlockOpResponse {
    BlockOpResponse {
        status: status as i32,
        first_bad_link: Some(bad_link.to_owned()),
        message: Some(message.chars().take(MAX_TEXT_CHARS).collect()),
        ..BlockOpResponse::default()
    }
}

/// Status of an answer; numbers that no version knows count as an error.
#[must_use]
pub fn status_of(reply: &BlockOpResponse) -> Status {
    Status::try_from(reply.status).unwrap_or(Status::Error)
}

/// Reads an answer.
///
/// # Errors
/// [`WireError`]; [`WireError::Closed`] if the peer went away instead of answering.
pub fn read(reader: &mut impl Read) -> Result<BlockOpResponse, WireError> {
    read_delimited(reader, "reply")
}

/// The reader's last word: `ChecksumOk`, `Success` (not verified) or `ErrorChecksum`.
#[must_use]
pub fn read_status(status: Status) -> Vec<u8> {
    encode_delimited(&ClientReadStatus { status: status as i32 })
}

/// Reads the reader's last word.
///
/// # Errors
/// [`WireError`]; [`WireError::Closed`] if the reader had enough before the end.
pub fn read_read_status(reader: &mut impl Read) -> Result<Status, WireError> {
    let wire: ClientReadStatus = read_delimited(reader, "read status")?;
    Ok(Status::try_from(wire.status).unwrap_or(Status::Error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ready_is_hadoops_bytes() {
        assert_eq!(encode_delimited(&pipeline_ready()), [4, 8, 0, 0x12, 0]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(reply) = read(&mut &bytes[..]) {
                let _known_or_error = status_of(&reply);
            }
            read_read_status(&mut &bytes[..]).ok();
        }

        #[test]
        fn refusals_survive_the_wire_and_are_bounded(text in ".{0,2000}", link in "[a-z0-9.:]{0,40}") {
            let refusal = refused(Status::Error, &text, &link);
            let bytes = encode_delimited(&refusal);
            prop_assert!(bytes.len() <= crate::MAX_MESSAGE_BYTES);
            prop_assert_eq!(read(&mut &bytes[..]).unwrap(), refusal);
        }
    }

    #[test]
    fn words_survive_the_wire() {
        assert_eq!(read_read_status(&mut &read_status(Status::ChecksumOk)[..]).unwrap(), Status::ChecksumOk);
        let refusal = refused(Status::ErrorAccessToken, "token expired", "h:1");
        let read_back = read(&mut &encode_delimited(&refusal)[..]).unwrap();
        assert_eq!(read_back, refusal);
        assert_eq!(status_of(&read_back), Status::ErrorAccessToken);
        assert_eq!(status_of(&BlockOpResponse { status: 77, ..BlockOpResponse::default() }), Status::Error);
    }
}
