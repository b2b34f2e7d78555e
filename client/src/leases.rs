//! Files that are open: cutting closed ones, taking open ones from writers that are gone, and who has which.

use std::time::Duration;

use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace as n;
use proto::namespace::FileStatus;
use proto::path::FsPath;

use crate::Client;
use crate::client::half_told;
use crate::tail::block_around;

/// The first pause between two looks at a file that is to be closed; they get longer.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(1);
/// Longest part of a block that is rather copied than cut by the datanodes.
const MOST_COPIED_BYTES: u64 = 16 << 20;

/// What became of cutting a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Truncated {
    /// The file.
    pub status: FileStatus,
    /// It is cut. Else its last block is being cut by the datanodes; the file is open until it is:
    /// [`Client::until_closed`].
    pub done: bool,
}

/// What became of taking a file from its writer.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoveredLease {
    /// The file; `None` if it was never visible and is gone with its writer.
    pub status: Option<FileStatus>,
    /// It is closed, or gone. Else its datanodes are asked what they have: [`Client::until_closed`].
    pub closed: bool,
}

impl Client {
    /// Cuts a closed file to its first `len_bytes`, which it must have. At the end of a block that is done at once;
    /// inside one its replicas are cut, too, and the file is open until they are. Inside one that a snapshot sees, the
    /// part of it that stays is copied first, into a file beside this one: the caller must be allowed to read the file,
    /// and to write to its directory.
    ///
    /// # Errors
    /// The namenode's refusals: [`ErrorCode::FileOpen`] while somebody writes the file, [`ErrorCode::InvalidArgument`] if it
    /// is shorter.
    pub async fn truncate(&self, path: &str, len_bytes: u64) -> FsResult<Truncated> {
        self.truncate_to(path, len_bytes, None).await
    }

    /// As [`Client::truncate`], if the file has `expected_len_bytes` in the step that cuts it: for a length that was reckoned
    /// from the one that the file had. Else bytes would go that somebody wrote, and was told of, since then.
    ///
    /// # Errors
    /// As [`Client::truncate`]; [`ErrorCode::Changed`] if the file has another length, and nothing was cut.
    pub async fn truncate_expecting(&self, path: &str, len_bytes: u64, expected_len_bytes: u64) -> FsResult<Truncated> {
        self.truncate_to(path, len_bytes, Some(expected_len_bytes)).await
    }

    /// As [`Client::truncate`], of this inode only, and done at once where that takes no long copy: datanodes cut their replicas
    /// when they hear of it, which takes seconds. The caller must be allowed to read the file, and to write to its directory.
    ///
    /// # Errors
    /// As [`Client::truncate`]; [`ErrorCode::Changed`] if the path leads to another file by now, and nothing was cut.
    pub async fn truncate_inode(&self, path: &str, inode: u64, len_bytes: u64) -> FsResult<Truncated> {
        let path = FsPath::parse(path)?;
        // Nothing of the first block stays: there is nothing to copy.
        if len_bytes > 0 {
            let reader = self.open(path.as_str()).await?;
            let kept_bytes = block_around(&reader, len_bytes).map_or(0, |(begin_bytes, _)| len_bytes - begin_bytes);
            if (1..=MOST_COPIED_BYTES).contains(&kept_bytes) {
                return self.truncate_by_copy(&path, len_bytes, Some(reader.len_bytes()), Some(inode)).await;
            }
        }
        let (text, expected_inode) = (path.clone().into(), Some(inode));
        let request = n::TruncateRequest { path: text, len_bytes, expected_inode, ..Default::default() };
        match self.truncate_request(request).await {
            Err(error) if error.code == ErrorCode::Unsupported => {
                self.truncate_by_copy(&path, len_bytes, None, Some(inode)).await
            }
            cut => cut,
        }
    }

    /// Gives a closed file the content of another one beside it, which is gone then. In one step, under all its names; it
    /// stays the same file: inode, owner, mode, and what else it has beside its content.
    ///
    /// # Errors
    /// The namenode's refusals; [`ErrorCode::Changed`] if the path leads to another inode.
    pub async fn replace_content(&self, path: &str, inode: u64, with: &str) -> FsResult<FileStatus> {
        let (path, tail) = (FsPath::parse(path)?.into(), Some(FsPath::parse(with)?.into()));
        let request = n::TruncateRequest { path, tail, whole: true, expected_inode: Some(inode), ..Default::default() };
        Ok(self.truncate_request(request).await?.status)
    }

    async fn truncate_to(&self, path: &str, len_bytes: u64, expected_len_bytes: Option<u64>) -> FsResult<Truncated> {
        let path = FsPath::parse(path)?;
        let request =
            n::TruncateRequest { path: path.clone().into(), len_bytes, expected_len_bytes, ..Default::default() };
        match self.truncate_request(request).await {
            Err(error) if error.code == ErrorCode::Unsupported => {
                self.truncate_by_copy(&path, len_bytes, expected_len_bytes, None).await
            }
            cut => cut,
        }
    }

    pub(crate) async fn truncate_request(&self, request: n::TruncateRequest) -> FsResult<Truncated> {
        let (answer, _) = self.inner.change("truncate", &request).await?;
        let status = answer.status.ok_or_else(|| half_told("truncate"))?;
        Ok(Truncated { status, done: answer.done })
    }

    /// Takes a file from its writer, which may be gone or not: nothing that it sends from now on counts. The file gets
    /// closed with everything that was flushed. Of a file that is closed already nothing is changed.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn recover_lease(&self, path: &str) -> FsResult<RecoveredLease> {
        self.recover(path, false).await
    }

    /// As [`Client::recover_lease`], for superusers: what does not answer is taken for lost, and so is what it may have
    /// held of bytes that were flushed. The file is closed with the best of what is left. A block of which nothing is
    /// left goes, or is missing from then on, if readers have seen it.
    ///
    /// # Errors
    /// [`ErrorCode::PermissionDenied`] for others; the namenode's refusals.
    pub async fn recover_lease_accepting_loss(&self, path: &str) -> FsResult<RecoveredLease> {
        self.recover(path, true).await
    }

    async fn recover(&self, path: &str, accept_loss: bool) -> FsResult<RecoveredLease> {
        let path = FsPath::parse(path)?;
        let request = n::RecoverLeaseRequest { header: None, path: path.into(), accept_loss };
        let (answer, _) = self.inner.change("recover lease", &request).await?;
        Ok(RecoveredLease { status: answer.status, closed: answer.closed })
    }

    /// Waits until a file is closed, `within` this time; answers what it is then.
    ///
    /// # Errors
    /// [`ErrorCode::FileOpen`] if it is still open then; the namenode's refusals.
    pub async fn until_closed(&self, path: &str, within: Duration) -> FsResult<FileStatus> {
        let until = self.inner.rpc.clock.now().plus(within);
        let mut pause = FIRST_LOOK;
        loop {
            let status = self.stat(path).await?;
            if !status.open_for_write {
                return Ok(status);
            }
            let left = until.since(self.inner.rpc.clock.now());
            if left.is_zero() {
                let text = format!("it is still open after {} s", within.as_secs());
                let error = FsError::new(ErrorCode::FileOpen, text).with_path(path);
                return Err(error.with_hint("`blockyard lease ls` says who has it, and what it waits for"));
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// A page of the files that are being written or recovered, by inode; of those below `path` only, if it is not
    /// empty. `start_after`: the inode of the last one that is known, 0 for the first page; `limit` 0: the server's page.
    /// The second part says whether there are more.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn list_leases(&self, path: &str, start_after: u64, limit: u32) -> FsResult<(Vec<n::LeaseStatus>, bool)> {
        let path = if path.is_empty() { String::new() } else { FsPath::parse(path)?.into() };
        let request = n::ListLeasesRequest { header: None, path, start_after, limit };
        let answer = self.inner.ask("list leases", &request).await?;
        Ok((answer.leases, answer.more))
    }
}
