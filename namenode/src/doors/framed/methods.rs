//! Method numbers and the service's types, from the one table.

use prost::Message;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::framing::{Head, Kind, put};
use proto::namespace as n;

use crate::service::request::{Request, Response};

macro_rules! translate {
    ($($number:literal $name:ident $method:ident($request:ident -> $response:ident) = $command:literal;)*) => {
        /// The request of a method.
        pub(super) fn request(method: u32, message: &[u8]) -> FsResult<Request> {
            let decoded = match method {
                $($number => n::$request::decode(message).map(Request::$name),)*
                _ => {
                    let text = format!("method {method} is not known");
                    return Err(FsError::new(ErrorCode::Unsupported, text)
                        .with_hint("use a client of the same release as the cluster"));
                }
            };
            decoded.map_err(|error| FsError::new(ErrorCode::Corrupt, format!("the request cannot be decoded: {error}")))
        }

        /// Appends the answer to a call, or the refusal that takes its place.
        pub(super) fn put_result(out: &mut Vec<u8>, call: u64, method: u32, result: &FsResult<Response>) {
            let head = Head { call, kind: Kind::Answer, method };
            let answered = match (method, result) {
                $(($number, Ok(Response::$name(answer))) => put(out, head, answer),)*
                (_, Err(error)) => return put_refusal(out, call, method, error),
                _ => {
                    let text = format!("the answer to method {method} is of another kind");
                    return put_refusal(out, call, method, &FsError::new(ErrorCode::Internal, text));
                }
            };
            if let Err(broken) = answered {
                put_refusal(out, call, method, &FsError::new(ErrorCode::Internal, format!("the answer: {broken}")));
            }
        }
    };
}
proto::client_methods!(translate);

fn put_refusal(out: &mut Vec<u8>, call: u64, method: u32, error: &FsError) {
    put_error(out, Head { call, kind: Kind::Refusal, method }, error);
}

/// Appends a frame that carries an error.
pub(super) fn put_error(out: &mut Vec<u8>, head: Head, error: &FsError) {
    if let Err(broken) = put(out, head, &error.to_detail()) {
        // Texts of errors are shorter than any limit by far; an empty detail is an internal error.
        tracing::error!(%broken, "a refusal does not fit a frame");
        proto::framing::put_bare(out, head);
    }
}
