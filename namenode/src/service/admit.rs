//! What every request must be before anything looks at it.

use auth::Caller;
use proto::PROTOCOL_VERSION;
use proto::common::RequestHeader;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::SessionId;

use super::request::Request;

/// Checks version, header and session of a request.
///
/// # Errors
/// `VersionMismatch`, `InvalidArgument`, `PermissionDenied`.
pub fn admit(request: &Request) -> FsResult<()> {
    match request {
        Request::Register(register) => check_version(register.protocol_version),
        Request::Heartbeat(_)
        | Request::IncrementalReport(_)
        | Request::ReportHashes(_)
        | Request::ReportBuckets(_) => Ok(()),
        client => {
            let header = client.header().ok_or_else(no_header)?;
            check_version(header.protocol_version)?;
            check_session(header)
        }
    }
}

/// The caller that a header names, from an address.
///
/// # Errors
/// `InvalidArgument` without a header, `PermissionDenied` for a name that cannot be one.
pub fn caller(header: Option<&RequestHeader>, address: &str) -> FsResult<Caller> {
    let header = header.ok_or_else(no_header)?;
    Caller::simple(&header.user, address, &header.request_id).ok_or_else(|| {
        let text = format!("{:?} is not a user name", header.user.chars().take(64).collect::<String>());
        FsError::new(ErrorCode::PermissionDenied, text).with_hint("name the caller with --user")
    })
}

fn no_header() -> FsError {
    FsError::new(ErrorCode::InvalidArgument, "the request has no header")
}

fn check_version(version: u32) -> FsResult<()> {
    if version == PROTOCOL_VERSION {
        return Ok(());
    }
    let text = format!("the caller speaks version {version} of the protocol, this namenode speaks {PROTOCOL_VERSION}");
    Err(FsError::new(ErrorCode::VersionMismatch, text).with_hint("use a client of the same release as the cluster"))
}

fn check_session(header: &RequestHeader) -> FsResult<()> {
    let refuse = |what| Err(FsError::new(ErrorCode::InvalidArgument, what));
    match header.session.len() {
        0 => Ok(()),
        16 if header.call == 0 => refuse("calls of a session are numbered from 1"),
        16 if header.lowest_unanswered == 0 || header.lowest_unanswered > header.call => {
            refuse("the lowest unanswered call is between 1 and this call")
        }
        16 => Ok(()),
        _ => refuse("a session is 16 bytes"),
    }
}

/// The session of a request, if it has one.
#[must_use]
pub fn session(header: Option<&RequestHeader>) -> Option<SessionId> {
    header.and_then(|header| SessionId::from_slice(&header.session))
}

#[cfg(test)]
mod tests {
    use proto::namespace::StatRequest;

    use super::*;

    fn stat(header: Option<RequestHeader>) -> Request {
        StatRequest { header, path: "/".into() }.into()
    }

    #[test]
    fn other_versions_missing_headers_and_bad_sessions_are_refused() {
        let good = RequestHeader { protocol_version: PROTOCOL_VERSION, user: "ana".into(), ..Default::default() };
        assert!(admit(&stat(Some(good.clone()))).is_ok());
        let code = |request| admit(&request).unwrap_err().code;
        assert_eq!(code(stat(None)), ErrorCode::InvalidArgument);
        let other = RequestHeader { protocol_version: 9, ..good.clone() };
        assert_eq!(code(stat(Some(other))), ErrorCode::VersionMismatch);
        for (session, call, lowest) in [(vec![1; 15], 1, 1), (vec![1; 16], 0, 0), (vec![1; 16], 2, 3)] {
            let bad = RequestHeader { session: session.into(), call, lowest_unanswered: lowest, ..good.clone() };
            assert_eq!(code(stat(Some(bad))), ErrorCode::InvalidArgument);
        }
        let session = RequestHeader { session: vec![1; 16].into(), call: 3, lowest_unanswered: 2, ..good };
        assert!(admit(&stat(Some(session))).is_ok());
        assert_eq!(caller(None, "a").unwrap_err().code, ErrorCode::InvalidArgument);
    }
}
