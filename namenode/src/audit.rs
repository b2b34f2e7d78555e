//! One record for every call of the client's service, refusals and abandoned calls included.
//!
//! HDFS's line, so that existing parsers read it, on the log target `audit`:
//! tab-separated: `allowed=true ugi=ana (auth:SIMPLE) ip=/127.0.0.1 cmd=mkdirs src=/a dst=null perm=… proto=grpc result=ok`.
//! `allowed=false` is a refused permission; every other refusal shows in `result`.

use std::fmt::Write;

use proto::error::{ErrorCode, FsError};
use proto::namespace::FileStatus;

use crate::service::request::{Request, Response};

/// The record of one call. Written when it is dropped, exactly once, whatever became of the call.
#[derive(Debug)]
pub struct Record {
    line: String,
    perm: String,
    result: Option<Result<(), ErrorCode>>,
}

/// Text that cannot break the line.
fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().collect() } else { String::from(c) };
    text.chars().map(shown).collect()
}

fn or_null(text: &str) -> String {
    if text.is_empty() { "null".to_owned() } else { clean(text) }
}

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
        Request::Concat(r) => (r.sources.join(","), r.target.clone()),
        other => {
            let [src, dst] = crate::service::paths(other);
            (src.cloned().unwrap_or_default(), dst.cloned().unwrap_or_default())
        }
    }
}

impl Record {
    /// Begins the record of a call from an address.
    #[must_use]
    pub fn new(request: &Request, address: &str) -> Self {
        let header = request.header();
        let user = header.map_or("", |header| header.user.as_str());
        let (src, dst) = names(request);
        let mut line = String::with_capacity(160);
        // Writing to a string cannot fail.
        let written = write!(
            line,
            "ugi={} (auth:SIMPLE)\tip=/{}\tcmd={}\tsrc={}\tdst={}",
            or_null(&user.chars().take(255).collect::<String>()),
            clean(address),
            request.command(),
            or_null(&src),
            or_null(&dst)
        );
        debug_assert!(written.is_ok());
        Self { line, perm: "null".to_owned(), result: None }
    }

    /// Notes how the call ended.
    pub fn ended(&mut self, result: &Result<Response, FsError>) {
        self.result = Some(result.as_ref().map(|_| ()).map_err(|error| error.code));
        if let Ok(Response::Mkdir(proto::namespace::MkdirResponse { status: Some(status) })) = result {
            self.perm = permissions(status);
        }
        if let Ok(Response::Create(proto::namespace::CreateResponse { status: Some(status), .. })) = result {
            self.perm = permissions(status);
        }
    }
}

/// `owner:group:rwxr-xr-x`.
fn permissions(status: &FileStatus) -> String {
    let bits: String =
        (0..9).rev().map(|bit| if status.mode & (1 << bit) == 0 { '-' } else { ['x', 'w', 'r'][bit % 3] }).collect();
    format!("{}:{}:{bits}", clean(&status.owner), clean(&status.group))
}

impl Drop for Record {
    fn drop(&mut self) {
        let (allowed, result) = match self.result {
            Some(Ok(())) => (true, "ok"),
            Some(Err(code)) => (code != ErrorCode::PermissionDenied, code.as_str()),
            None => (true, "abandoned"),
        };
        tracing::info!(
            target: "audit",
            "allowed={allowed}\t{}\tperm={}\tproto=grpc\tresult={result}",
            self.line,
            self.perm
        );
    }
}

#[cfg(test)]
mod tests {
    use proto::common::RequestHeader;
    use proto::namespace::{MkdirRequest, RenameRequest};

    use super::*;

    #[test]
    fn a_name_cannot_forge_a_second_record() {
        let header = Some(RequestHeader { user: "ana".into(), ..Default::default() });
        let request = RenameRequest { header, from: "/a\nallowed=true\tugi=root".into(), ..Default::default() };
        let record = Record::new(&request.into(), "127.0.0.1");
        assert_eq!(record.line.matches('\n').count(), 0);
        assert_eq!(record.line.matches('\t').count(), 4);
        assert!(record.line.starts_with("ugi=ana (auth:SIMPLE)\tip=/127.0.0.1\tcmd=rename\tsrc=/a\\n"));
        assert!(Record::new(&MkdirRequest::default().into(), "x").line.starts_with("ugi=null"));
    }

    #[test]
    fn permissions_read_like_a_listing() {
        let status = FileStatus { mode: 0o1750, owner: "a".into(), group: "g".into(), ..Default::default() };
        assert_eq!(permissions(&status), "a:g:rwxr-x---");
    }
}
