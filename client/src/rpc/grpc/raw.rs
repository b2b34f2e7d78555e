//! Requests leave as messages, answers come as bytes.
//!
//! A codec that decodes answers itself tells an unreadable one as an internal error of the transport, which looks like a
//! connection that broke. We decode outside, where the difference is known.

use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Codec of a call whose request is `M`.
pub(super) struct RawCodec<M>(PhantomData<fn(M)>);

/// Encodes requests.
pub(super) struct Requests<M>(PhantomData<fn(M)>);

/// Passes answers on as they come.
pub(super) struct Answers;

impl<M> Default for RawCodec<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<M: prost::Message + 'static> Codec for RawCodec<M> {
    type Encode = M;
    type Decode = Bytes;
    type Encoder = Requests<M>;
    type Decoder = Answers;

    fn encoder(&mut self) -> Self::Encoder {
        Requests(PhantomData)
    }
    fn decoder(&mut self) -> Self::Decoder {
        Answers
    }
}

impl<M: prost::Message + 'static> Encoder for Requests<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, item: M, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Answers {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
