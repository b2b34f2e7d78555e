//! The outcome of a command, as the client is told it.

use auth::token::Mode;
use proto::common::{Block, LocatedBlock};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace as n;

use super::View;
use super::request::{Request, Response};
use crate::namespace::{NewBlock, Outcome};

impl View<'_> {
    /// Puts an outcome into the answer that its request expects.
    ///
    /// # Errors
    /// `Internal` if the outcome is of another kind than the request: shown, never guessed around.
    pub fn answer(&self, user: &str, request: &Request, outcome: Outcome) -> FsResult<Response> {
        Ok(match (request, outcome) {
            (Request::Mkdir(_), Outcome::Mkdir(status)) => Response::Mkdir(n::MkdirResponse { status: Some(status) }),
            (Request::Create(_), Outcome::Create { inode, lease_epoch, first_block, status }) => {
                Response::Create(n::CreateResponse {
                    inode: inode.raw(),
                    lease_epoch: lease_epoch.raw(),
                    first_block: first_block.map(|block| self.new_block(user, &block)),
                    status: Some(status),
                })
            }
            (Request::AddBlock(_), Outcome::AddBlock(block)) => {
                Response::AddBlock(n::AddBlockResponse { block: Some(self.new_block(user, &block)) })
            }
            (Request::Complete(_), Outcome::Complete(status)) => {
                Response::Complete(n::CompleteResponse { status: Some(status) })
            }
            (Request::Delete(_), Outcome::Deleted { files, directories }) => {
                Response::Delete(n::DeleteResponse { files, directories })
            }
            (Request::NewStamp(r), Outcome::NewStamp { stamp, more }) => {
                let block = self.restamped(user, r, stamp, &more)?;
                Response::NewStamp(n::NewStampResponse { block: Some(block) })
            }
            (Request::UpdatePipeline(_), Outcome::Done) => Response::UpdatePipeline(n::UpdatePipelineResponse {}),
            (Request::Publish(_), Outcome::Status(status)) => {
                Response::Publish(n::PublishResponse { status: Some(status) })
            }
            (Request::Append(r), Outcome::Appending { inode, lease_epoch, status, last }) => {
                Response::Append(n::AppendResponse {
                    inode: inode.raw(),
                    lease_epoch: lease_epoch.raw(),
                    status: Some(status),
                    new_stamp: last.as_ref().map_or(0, |last| last.new_stamp.raw()),
                    last: last.map(|last| self.reopened(user, &r.client_host, &last)),
                })
            }
            (Request::Truncate(_), Outcome::Truncated { status, done }) => {
                Response::Truncate(n::TruncateResponse { status: Some(status), done })
            }
            (Request::RecoverLease(_), Outcome::Recovering { status, closed }) => {
                Response::RecoverLease(n::RecoverLeaseResponse { closed, status: Some(status) })
            }
            (Request::AbandonBlock(_), Outcome::Done) => Response::AbandonBlock(n::AbandonBlockResponse {}),
            (Request::Discard(_), Outcome::Done) => Response::Discard(n::DiscardResponse {}),
            (Request::Rename(_), Outcome::Done) => Response::Rename(n::RenameResponse {}),
            (Request::SetAttributes(_), Outcome::Status(status)) => {
                Response::SetAttributes(n::SetAttributesResponse { status: Some(status) })
            }
            (Request::Symlink(_), Outcome::Status(status)) => {
                Response::Symlink(n::SymlinkResponse { status: Some(status) })
            }
            (Request::MakeNode(_), Outcome::Status(status)) => {
                Response::MakeNode(n::MakeNodeResponse { status: Some(status) })
            }
            (Request::Link(_), Outcome::Status(status)) => Response::Link(n::LinkResponse { status: Some(status) }),
            (Request::Concat(_), Outcome::Status(status)) => {
                Response::Concat(n::ConcatResponse { status: Some(status) })
            }
            (Request::CreateSnapshot(_), Outcome::Named(path)) => {
                Response::CreateSnapshot(n::CreateSnapshotResponse { path })
            }
            (Request::SetNodeState(r), Outcome::Named(node)) => {
                let job = super::jobs::job_of(r.service(), &node);
                Response::SetNodeState(n::SetNodeStateResponse { node, job })
            }
            (Request::CancelJob(_), Outcome::Named(_)) => Response::CancelJob(n::CancelJobResponse {}),
            (Request::SetQuota(_), Outcome::Done) => Response::SetQuota(n::SetQuotaResponse {}),
            (Request::SetXattr(_), Outcome::Done) => Response::SetXattr(n::SetXattrResponse {}),
            (Request::RemoveXattr(_), Outcome::Done) => Response::RemoveXattr(n::RemoveXattrResponse {}),
            (Request::ChangeAcl(_), Outcome::Done) => Response::ChangeAcl(n::ChangeAclResponse {}),
            (Request::AllowSnapshots(_), Outcome::Done) => Response::AllowSnapshots(n::AllowSnapshotsResponse {}),
            (Request::RenameSnapshot(_), Outcome::Done) => Response::RenameSnapshot(n::RenameSnapshotResponse {}),
            (Request::DeleteSnapshot(_), Outcome::Done) => Response::DeleteSnapshot(n::DeleteSnapshotResponse {}),
            (request, outcome) => {
                tracing::error!(command = request.command(), ?outcome, "an outcome of another kind");
                return Err(FsError::new(ErrorCode::Internal, "the namespace answered another call"));
            }
        })
    }

    /// A block to write, with addresses and a token for all its targets.
    fn new_block(&self, user: &str, block: &NewBlock) -> LocatedBlock {
        let registry = self.blocks.registry();
        let nodes: Vec<_> = block.storages.iter().map(|storage| registry.node_of(*storage).id.clone()).collect();
        LocatedBlock {
            block: Some(Block {
                pool: self.pool().to_owned(),
                id: block.block.raw(),
                stamp: block.stamp.raw(),
                len_bytes: 0,
            }),
            offset_bytes: block.offset_bytes,
            token: self.mint(user, &[Mode::Write, Mode::Read], (block.block, block.stamp), &nodes),
            locations: block.storages.iter().map(|storage| registry.location(*storage)).collect(),
            corrupt: false,
            open: false,
            left_out: 0,
            untouched: false,
            digest: bytes::Bytes::new(),
        }
    }
}
