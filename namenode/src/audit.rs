//! One record for every call of the client's service, refusals and abandoned calls included.
//!
//! HDFS's line, so that existing parsers read it, on the log target `audit`:
//! tab-separated: `allowed=true ugi=ana (auth:SIMPLE) ip=/127.0.0.1 cmd=mkdirs src=/a dst=null perm=… proto=framed result=ok`.
//! `allowed=false` is a refused permission; every other refusal shows in `result`.

use std::fmt;

use proto::error::{ErrorCode, FsError};
use proto::namespace::FileStatus;

use crate::doors::Peer;
use crate::service::request::{Request, Response};

/// The record of one call. Written when it is dropped, exactly once, whatever became of the call.
#[derive(Debug)]
pub struct Record {
    peer: Peer,
    command: &'static str,
    user: String,
    names: (String, String),
    perm: Option<String>,
    result: Option<Result<(), ErrorCode>>,
}

/// Text that cannot break the line; `null` stands for none.
struct Clean<'a>(&'a str);

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("null");
        }
        let mut rest = self.0;
        while let Some(at) = rest.find(char::is_control) {
            let (plain, from) = rest.split_at(at);
            f.write_str(plain)?;
            let mut chars = from.chars();
            if let Some(control) = chars.next() {
                write!(f, "{}", control.escape_default())?;
            }
            rest = chars.as_str();
        }
        f.write_str(rest)
    }
}

/// Longest user name in a record; longer ones are refused anyway.
const USER_CHARS: usize = 255;

/// What the call names: source and destination. Calls by inode are shown as HDFS shows such paths.
fn names(request: &Request) -> (String, String) {
    let inode = |inode: u64| (format!("/.reserved/.inodes/{inode}"), String::new());
    let path = |path: &String| (path.clone(), String::new());
    match request {
        Request::Mkdir(r) => path(&r.path),
        Request::Create(r) => path(&r.path),
        Request::Delete(r) => path(&r.path),
        Request::Stat(r) => path(&r.path),
        Request::List(r) => path(&r.path),
        Request::Open(r) => path(&r.path),
        Request::Rename(r) => (r.from.clone(), r.to.clone()),
        Request::AddBlock(r) => inode(r.inode),
        Request::AbandonBlock(r) => inode(r.inode),
        Request::Complete(r) => inode(r.inode),
        Request::Discard(r) => inode(r.inode),
        Request::NewStamp(r) => inode(r.inode),
        Request::UpdatePipeline(r) => inode(r.inode),
        Request::Publish(r) => inode(r.inode),
        Request::Concat(r) => (r.sources.join(","), r.target.clone()),
        other => {
            let [src, dst] = crate::service::paths(other);
            (src.cloned().unwrap_or_default(), dst.cloned().unwrap_or_default())
        }
    }
}

/// What was called, with the options that matter to whoever reads the record later, as HDFS writes them.
const fn command(request: &Request) -> &'static str {
    match request {
        Request::RecoverLease(r) if r.accept_loss => "recoverLease (options=[ACCEPT_LOSS])",
        other => other.command(),
    }
}

impl Record {
    /// Begins the record of a call of a peer.
    #[must_use]
    pub fn new(request: &Request, peer: &Peer) -> Self {
        let user = request.header().map_or("", |header| header.user.as_str());
        let end = user.char_indices().nth(USER_CHARS).map_or(user.len(), |(at, _)| at);
        Self {
            peer: peer.clone(),
            command: command(request),
            user: user[..end].to_owned(),
            names: names(request),
            perm: None,
            result: None,
        }
    }

    /// Notes how the call ended.
    pub fn ended(&mut self, result: &Result<Response, FsError>) {
        self.result = Some(result.as_ref().map(|_| ()).map_err(|error| error.code));
        if let Ok(Response::Mkdir(proto::namespace::MkdirResponse { status: Some(status) })) = result {
            self.perm = Some(permissions(status));
        }
        if let Ok(Response::Create(proto::namespace::CreateResponse { status: Some(status), .. })) = result {
            self.perm = Some(permissions(status));
        }
    }
}

/// `owner:group:rwxr-xr-x`.
fn permissions(status: &FileStatus) -> String {
    let bits: String =
        (0..9).rev().map(|bit| if status.mode & (1 << bit) == 0 { '-' } else { ['x', 'w', 'r'][bit % 3] }).collect();
    format!("{}:{}:{bits}", Clean(&status.owner), Clean(&status.group))
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (allowed, result) = match self.result {
            Some(Ok(())) => (true, "ok"),
            Some(Err(code)) => (code != ErrorCode::PermissionDenied, code.as_str()),
            None => (true, "abandoned"),
        };
        write!(
            f,
            "allowed={allowed}\tugi={} (auth:SIMPLE)\tip=/{}\tcmd={}\tsrc={}\tdst={}\tperm={}\tproto={}\tresult={result}",
            Clean(&self.user),
            Clean(&self.peer.address),
            self.command,
            Clean(&self.names.0),
            Clean(&self.names.1),
            self.perm.as_deref().unwrap_or("null"),
            self.peer.carrier.as_str(),
        )
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        tracing::info!(target: "audit", "{self}");
    }
}

#[cfg(test)]
mod tests {
    use proto::common::RequestHeader;
    use proto::namespace::{MkdirRequest, RecoverLeaseRequest, RenameRequest};

    use super::*;
    use crate::doors::Carrier;

    #[test]
    fn a_name_cannot_forge_a_second_record() {
        let header = Some(RequestHeader { user: "ana".into(), ..Default::default() });
        let request = RenameRequest { header, from: "/a\nallowed=true\tugi=root".into(), ..Default::default() };
        let peer = Peer::new("127.0.0.1", Carrier::Framed);
        let line = Record::new(&request.into(), &peer).to_string();
        let wanted = "allowed=true\tugi=ana (auth:SIMPLE)\tip=/127.0.0.1\tcmd=rename\t\
            src=/a\\nallowed=true\\tugi=root\tdst=null\tperm=null\tproto=framed\tresult=abandoned";
        assert_eq!(line, wanted);
        let nobody = Record::new(&MkdirRequest::default().into(), &peer).to_string();
        assert!(nobody.starts_with("allowed=true\tugi=null"), "{nobody}");
    }

    #[test]
    fn s_10_an_accepted_loss_shows() {
        let line = |accept_loss| {
            let header = Some(RequestHeader { user: "root".into(), ..Default::default() });
            let request = RecoverLeaseRequest { header, path: "/a".into(), accept_loss };
            Record::new(&request.into(), &Peer::new("127.0.0.1", Carrier::Framed)).to_string()
        };
        assert!(line(true).contains("\tcmd=recoverLease (options=[ACCEPT_LOSS])\tsrc=/a\t"), "{}", line(true));
        assert!(line(false).contains("\tcmd=recoverLease\tsrc=/a\t"), "{}", line(false));
    }

    #[test]
    fn a_user_name_is_cut_between_characters() {
        let header = Some(RequestHeader { user: "ü".repeat(300), ..Default::default() });
        let record = Record::new(&MkdirRequest { header, ..Default::default() }.into(), &Peer::new("x", Carrier::Grpc));
        assert_eq!(record.user.chars().count(), USER_CHARS);
    }

    #[test]
    fn permissions_read_like_a_listing() {
        let status = FileStatus { mode: 0o1750, owner: "a".into(), group: "g".into(), ..Default::default() };
        assert_eq!(permissions(&status), "a:g:rwxr-x---");
    }
}
