//! What every request must be before anything looks at it.

use auth::Caller;
use proto::PROTOCOL_VERSION;
use proto::common::RequestHeader;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::SessionId;
use proto::path::FsPath;

use super::request::Request;

/// Length of a block's digest, where it has one.
const DIGEST_BYTES: usize = 16;

/// Checks version, header, session, paths and sizes of a request, so that nothing malformed takes room in the log.
/// `apply` checks the same rules again: they are part of the state machine.
///
/// # Errors
/// `VersionMismatch`, `InvalidArgument`, `InvalidPath`, `NameTooLong`.
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
            check_session(header)?;
            check_writer(client, header)?;
            check_paths(client)?;
            check_digest(client)
        }
    }
}

/// A writer shows its session: by it a writer that is gone is noticed, and no other caller can go on with its file.
fn check_writer(request: &Request, header: &RequestHeader) -> FsResult<()> {
    let writes = matches!(
        request,
        Request::Create(_)
            | Request::AddBlock(_)
            | Request::AbandonBlock(_)
            | Request::Complete(_)
            | Request::Discard(_)
            | Request::NewStamp(_)
            | Request::UpdatePipeline(_)
            | Request::Publish(_)
            | Request::Append(_)
    );
    if writes && header.session.is_empty() && !base::mutated!(Sc33WriterWithoutSession) {
        return Err(FsError::new(ErrorCode::InvalidArgument, "files are written in a session")
            .with_hint("choose 16 random bytes as the session, and number its calls from 1"));
    }
    Ok(())
}

fn check_paths(request: &Request) -> FsResult<()> {
    if base::mutated!(Sc04DoorDoesNotCheckPaths) {
        return Ok(());
    }
    let paths = match request {
        Request::Mkdir(r) => [Some(&r.path), None],
        Request::Create(r) => [Some(&r.path), None],
        Request::Rename(r) => [Some(&r.from), Some(&r.to)],
        Request::Delete(r) => [Some(&r.path), None],
        Request::Stat(r) => [Some(&r.path), None],
        Request::List(r) => [Some(&r.path), None],
        Request::Open(r) => [Some(&r.path), None],
        other => super::attributes::paths(other),
    };
    if let Request::Concat(r) = request {
        r.sources.iter().try_for_each(|path| FsPath::parse(path).map(drop))?;
    }
    paths.into_iter().flatten().try_for_each(|path| FsPath::parse(path).map(drop))
}

fn check_digest(request: &Request) -> FsResult<()> {
    let finished = match request {
        Request::AddBlock(r) => r.previous.as_ref(),
        Request::Complete(r) => r.last.as_ref(),
        _ => None,
    };
    if finished.is_none_or(|block| matches!(block.digest.len(), 0 | DIGEST_BYTES)) {
        return Ok(());
    }
    Err(FsError::new(ErrorCode::InvalidArgument, format!("a digest has {DIGEST_BYTES} bytes or none")))
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
    use proto::namespace::{self as n, StatRequest};

    use super::*;

    fn stat(header: Option<RequestHeader>) -> Request {
        StatRequest { header, path: "/".into(), no_follow: false }.into()
    }

    fn header(session: &[u8], call: u64, lowest_unanswered: u64) -> Option<RequestHeader> {
        Some(RequestHeader {
            protocol_version: PROTOCOL_VERSION,
            user: "ana".into(),
            session: session.to_vec().into(),
            call,
            lowest_unanswered,
            ..RequestHeader::default()
        })
    }
    fn code(request: impl Into<Request>) -> Option<ErrorCode> {
        admit(&request.into()).err().map(|error| error.code)
    }

    #[test]
    fn other_versions_missing_headers_and_bad_sessions_are_refused() {
        assert!(admit(&stat(header(&[], 0, 0))).is_ok());
        assert_eq!(code(stat(None)), Some(ErrorCode::InvalidArgument));
        let other = header(&[], 0, 0).map(|header| RequestHeader { protocol_version: 9, ..header });
        assert_eq!(code(stat(other)), Some(ErrorCode::VersionMismatch));
        for (session, call, lowest) in [(vec![1; 15], 1, 1), (vec![1; 16], 0, 0), (vec![1; 16], 2, 3)] {
            assert_eq!(code(stat(header(&session, call, lowest))), Some(ErrorCode::InvalidArgument));
        }
        assert!(admit(&stat(header(&[1; 16], 3, 2))).is_ok());
        assert_eq!(caller(None, "a").unwrap_err().code, ErrorCode::InvalidArgument);
    }

    #[test]
    fn sc_33_writers_show_a_session() {
        let none = || header(&[], 0, 0);
        let requests = |header: Option<RequestHeader>| -> [Request; 9] {
            [
                n::CreateRequest { header: header.clone(), path: "/f".into(), ..Default::default() }.into(),
                n::AddBlockRequest { header: header.clone(), ..Default::default() }.into(),
                n::AbandonBlockRequest { header: header.clone(), ..Default::default() }.into(),
                n::CompleteRequest { header: header.clone(), ..Default::default() }.into(),
                n::DiscardRequest { header: header.clone(), ..Default::default() }.into(),
                n::NewStampRequest { header: header.clone(), ..Default::default() }.into(),
                n::UpdatePipelineRequest { header: header.clone(), ..Default::default() }.into(),
                n::PublishRequest { header: header.clone(), ..Default::default() }.into(),
                n::AppendRequest { header, path: "/f".into(), ..Default::default() }.into(),
            ]
        };
        for request in requests(none()) {
            assert_eq!(code(request.clone()), Some(ErrorCode::InvalidArgument), "{}", request.command());
        }
        for request in requests(header(&[1; 16], 1, 1)) {
            assert_eq!(code(request), None);
        }
        assert_eq!(code(n::MkdirRequest { header: none(), path: "/d".into(), ..Default::default() }), None);
    }

    #[test]
    fn sc_04_malformed_paths_never_reach_the_log() {
        let long = format!("/{}", "n".repeat(256));
        let huge = "/n".repeat(100_000);
        for (path, wanted) in [
            ("", ErrorCode::InvalidPath),
            ("relative", ErrorCode::InvalidPath),
            ("//", ErrorCode::InvalidPath),
            ("/a/../b", ErrorCode::InvalidPath),
            ("/\0", ErrorCode::InvalidPath),
            (&long, ErrorCode::NameTooLong),
            (&huge, ErrorCode::NameTooLong),
        ] {
            let (header, path) = (header(&[1; 16], 1, 1), path.to_owned());
            let requests: [Request; 12] = [
                n::MkdirRequest { header: header.clone(), path: path.clone(), ..Default::default() }.into(),
                n::CreateRequest { header: header.clone(), path: path.clone(), ..Default::default() }.into(),
                n::RenameRequest {
                    header: header.clone(),
                    from: path.clone(),
                    to: "/x".into(),
                    replace: true,
                    exchange: false,
                }
                .into(),
                n::RenameRequest {
                    header: header.clone(),
                    from: "/x".into(),
                    to: path.clone(),
                    replace: true,
                    exchange: false,
                }
                .into(),
                n::DeleteRequest { header: header.clone(), path: path.clone(), recursive: true }.into(),
                StatRequest { header: header.clone(), path: path.clone(), no_follow: false }.into(),
                n::ListRequest { header: header.clone(), path: path.clone(), ..Default::default() }.into(),
                n::OpenRequest { header: header.clone(), path: path.clone(), ..Default::default() }.into(),
                n::AppendRequest { header: header.clone(), path: path.clone(), ..Default::default() }.into(),
                n::TruncateRequest { header: header.clone(), path: path.clone(), ..Default::default() }.into(),
                n::TruncateRequest {
                    header: header.clone(),
                    path: "/x".into(),
                    tail: Some(path.clone()),
                    ..Default::default()
                }
                .into(),
                n::RecoverLeaseRequest { header, path: path.clone(), accept_loss: false }.into(),
            ];
            for request in requests {
                let error = admit(&request).unwrap_err();
                assert_eq!(error.code, wanted, "{} {:.40}", request.command(), path);
                assert!(error.path.len() <= 1200, "a refusal stays short");
            }
        }
    }

    #[test]
    fn a_digest_of_another_length_is_refused() {
        for (len, fits) in [(0, true), (16, true), (15, false), (1 << 19, false)] {
            let finished = Some(n::FinishedBlock { digest: vec![7; len].into(), ..Default::default() });
            let header = header(&[1; 16], 1, 1);
            let add = n::AddBlockRequest { header: header.clone(), previous: finished.clone(), ..Default::default() };
            assert_eq!(code(add).is_none(), fits, "{len}");
            let complete = n::CompleteRequest { header, last: finished, ..Default::default() };
            assert_eq!(code(complete).is_none(), fits, "{len}");
        }
    }
}
