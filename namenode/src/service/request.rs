//! Everything that can be asked of a namenode, as one type, and its answers.
//!
//! ```text
//!   door ── Request + Caller ──▶ core ── FsResult<Response> ──▶ door
//! ```
//!
//! Messages are the contract's own: a door of another protocol translates into these.

use proto::cluster as c;
use proto::common::RequestHeader;
use proto::namespace as n;

/// Number of a waiting request, chosen by the driver of the core and echoed in its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

macro_rules! all_requests {
    (namespace { $($name:ident($request:ident -> $response:ident) = $command:literal;)* }
     cluster { $($node_name:ident($node_request:ident -> $node_response:ident) = $node_command:literal;)* }) => {
        /// A request of a client or of a datanode.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $(#[doc = concat!("`", stringify!($name), "` of the client's service.")] $name(n::$request),)*
            $(#[doc = concat!("`", stringify!($node_name), "` of the datanodes' service.")] $node_name(c::$node_request),)*
        }

        /// The answer to a [`Request`], of the same name.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response {
            $(#[doc = concat!("Answers `", stringify!($name), "`.")] $name(n::$response),)*
            $(#[doc = concat!("Answers `", stringify!($node_name), "`.")] $node_name(c::$node_response),)*
        }

        impl Request {
            /// Name in audit records and metrics, as HDFS calls it where HDFS has it.
            #[must_use]
            pub const fn command(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $command,)*
                    $(Self::$node_name(_) => $node_command,)*
                }
            }
            /// Sets the header of a client's request; datanodes' requests have none.
            pub fn set_header(&mut self, header: RequestHeader) {
                match self {
                    $(Self::$name(request) => request.header = Some(header),)*
                    $(Self::$node_name(_) => drop(header),)*
                }
            }
            /// Header of a client's request; `None` for datanodes' requests and for a missing header.
            #[must_use]
            pub const fn header(&self) -> Option<&RequestHeader> {
                match self {
                    $(Self::$name(request) => request.header.as_ref(),)*
                    $(Self::$node_name(_) => None,)*
                }
            }
        }

        $(
            impl From<n::$request> for Request {
                fn from(request: n::$request) -> Self { Self::$name(request) }
            }
            impl TryFrom<Response> for n::$response {
                type Error = WrongAnswer;
                fn try_from(response: Response) -> Result<Self, WrongAnswer> {
                    match response { Response::$name(answer) => Ok(answer), _ => Err(WrongAnswer($command)) }
                }
            }
        )*
        $(
            impl From<c::$node_request> for Request {
                fn from(request: c::$node_request) -> Self { Self::$node_name(request) }
            }
            impl TryFrom<Response> for c::$node_response {
                type Error = WrongAnswer;
                fn try_from(response: Response) -> Result<Self, WrongAnswer> {
                    match response { Response::$node_name(answer) => Ok(answer), _ => Err(WrongAnswer($node_command)) }
                }
            }
        )*
    };
}

macro_rules! requests {
    ($($number:literal $name:ident $method:ident($request:ident -> $response:ident) = $command:literal;)*) => {
        all_requests! {
            namespace { $($name($request -> $response) = $command;)* }
            cluster {
                Register(RegisterRequest -> RegisterResponse) = "register";
                Heartbeat(HeartbeatRequest -> HeartbeatResponse) = "heartbeat";
                IncrementalReport(IncrementalReportRequest -> IncrementalReportResponse) = "incrementalReport";
                ReportHashes(ReportHashesRequest -> ReportHashesResponse) = "reportHashes";
                ReportBuckets(ReportBucketsRequest -> ReportBucketsResponse) = "reportBuckets";
            }
        }
    };
}

proto::client_methods!(requests);

/// The core answered another request than the one asked: a bug, shown rather than guessed around.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer to {0} is of another kind")]
pub struct WrongAnswer(pub &'static str);
