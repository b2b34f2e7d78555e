//! The client's service as a table: every door, carrier and client is made from this one list, so that none can
//! lack a method.
//!
//! ```text
//!   number  Name  method  (Request -> Response)  command in audit records
//! ```
//!
//! Numbers are those of the framed carrier and never change their meaning; gRPC uses the names.

use crate::common::RequestHeader;

/// Calls a macro with the whole table.
#[macro_export]
macro_rules! client_methods {
    ($then:ident) => {
        $then! {
            1 ServerInfo server_info(ServerInfoRequest -> ServerInfoResponse) = "serverInfo";
            2 Mkdir mkdir(MkdirRequest -> MkdirResponse) = "mkdirs";
            3 Create create(CreateRequest -> CreateResponse) = "create";
            4 AddBlock add_block(AddBlockRequest -> AddBlockResponse) = "addBlock";
            5 AbandonBlock abandon_block(AbandonBlockRequest -> AbandonBlockResponse) = "abandonBlock";
            6 Complete complete(CompleteRequest -> CompleteResponse) = "completeFile";
            7 Discard discard(DiscardRequest -> DiscardResponse) = "discard";
            8 Rename rename(RenameRequest -> RenameResponse) = "rename";
            9 Delete delete(DeleteRequest -> DeleteResponse) = "delete";
            10 Stat stat(StatRequest -> StatResponse) = "getfileinfo";
            11 List list(ListRequest -> ListResponse) = "listStatus";
            12 Open open(OpenRequest -> OpenResponse) = "open";
            13 RenewLease renew_lease(RenewLeaseRequest -> RenewLeaseResponse) = "renewLease";
            14 ReportBadReplica report_bad_replica(ReportBadReplicaRequest -> ReportBadReplicaResponse) = "reportBadBlocks";
            15 ClusterStatus cluster_status(ClusterStatusRequest -> ClusterStatusResponse) = "clusterStatus";
            16 ListNodes list_nodes(ListNodesRequest -> ListNodesResponse) = "datanodeReport";
            17 SetAttributes set_attributes(SetAttributesRequest -> SetAttributesResponse) = "setAttributes";
            18 Symlink symlink(SymlinkRequest -> SymlinkResponse) = "createSymlink";
            19 Link link(LinkRequest -> LinkResponse) = "createLink";
            20 ContentSummary content_summary(ContentSummaryRequest -> ContentSummaryResponse) = "contentSummary";
            21 SetQuota set_quota(SetQuotaRequest -> SetQuotaResponse) = "setQuota";
            22 SetXattr set_xattr(SetXattrRequest -> SetXattrResponse) = "setXAttr";
            23 GetXattrs get_xattrs(GetXattrsRequest -> GetXattrsResponse) = "getXAttrs";
            24 RemoveXattr remove_xattr(RemoveXattrRequest -> RemoveXattrResponse) = "removeXAttr";
            25 ChangeAcl change_acl(ChangeAclRequest -> ChangeAclResponse) = "changeAcl";
            26 GetAcl get_acl(GetAclRequest -> GetAclResponse) = "getAclStatus";
            27 Concat concat(ConcatRequest -> ConcatResponse) = "concat";
            28 CheckAccess check_access(CheckAccessRequest -> CheckAccessResponse) = "checkAccess";
            29 AllowSnapshots allow_snapshots(AllowSnapshotsRequest -> AllowSnapshotsResponse) = "allowSnapshot";
            30 CreateSnapshot create_snapshot(CreateSnapshotRequest -> CreateSnapshotResponse) = "createSnapshot";
            31 RenameSnapshot rename_snapshot(RenameSnapshotRequest -> RenameSnapshotResponse) = "renameSnapshot";
            32 DeleteSnapshot delete_snapshot(DeleteSnapshotRequest -> DeleteSnapshotResponse) = "deleteSnapshot";
            33 ListSnapshots list_snapshots(ListSnapshotsRequest -> ListSnapshotsResponse) = "listSnapshots";
            34 DiffSnapshots diff_snapshots(DiffSnapshotsRequest -> DiffSnapshotsResponse) = "computeSnapshotDiff";
            35 Fsck fsck(FsckRequest -> FsckResponse) = "fsck";
            36 NewStamp new_stamp(NewStampRequest -> NewStampResponse) = "updateBlockForPipeline";
            37 UpdatePipeline update_pipeline(UpdatePipelineRequest -> UpdatePipelineResponse) = "updatePipeline";
            38 Publish publish(PublishRequest -> PublishResponse) = "fsync";
            39 Append append(AppendRequest -> AppendResponse) = "append";
            40 Truncate truncate(TruncateRequest -> TruncateResponse) = "truncate";
            41 RecoverLease recover_lease(RecoverLeaseRequest -> RecoverLeaseResponse) = "recoverLease";
            42 ListLeases list_leases(ListLeasesRequest -> ListLeasesResponse) = "listOpenFiles";
            43 SetNodeState set_node_state(SetNodeStateRequest -> SetNodeStateResponse) = "setNodeState";
            44 ListJobs list_jobs(ListJobsRequest -> ListJobsResponse) = "listJobs";
            45 CancelJob cancel_job(CancelJobRequest -> CancelJobResponse) = "cancelJob";
            46 Balance balance(BalanceRequest -> BalanceResponse) = "balance";
            47 MakeNode make_node(MakeNodeRequest -> MakeNodeResponse) = "mknod";
        }
    };
}

/// A request of the client's service.
pub trait Method: prost::Message + Default + Clone + 'static {
    /// Its answer.
    type Answer: prost::Message + Default + 'static;
    /// Its number on the framed carrier.
    const NUMBER: u32;
    /// Its name in the schema.
    const NAME: &'static str;
    /// Its path on gRPC.
    const GRPC_PATH: &'static str;
    /// Who calls, and which attempt this is.
    fn header(&self) -> Option<&RequestHeader>;
    /// Sets it.
    fn set_header(&mut self, header: RequestHeader);
}

macro_rules! implement {
    ($($number:literal $name:ident $method:ident($request:ident -> $response:ident) = $command:literal;)*) => {
        $(impl Method for crate::namespace::$request {
            type Answer = crate::namespace::$response;
            const NUMBER: u32 = $number;
            const NAME: &'static str = stringify!($name);
            const GRPC_PATH: &'static str = concat!("/blockyard.namespace.v1.Namespace/", stringify!($name));
            fn header(&self) -> Option<&RequestHeader> {
                self.header.as_ref()
            }
            fn set_header(&mut self, header: RequestHeader) {
                self.header = Some(header);
            }
        })*
        /// Numbers and names of all methods, ascending.
        pub const ALL: &[(u32, &str)] = &[$(($number, stringify!($name))),*];
    };
}
client_methods!(implement);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_schema() {
        let schema = include_str!("../schema/namespace.proto");
        let service = schema.split("service Namespace {").nth(1).and_then(|rest| rest.split("\n}").next());
        let named: Vec<&str> = service
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next())
            .collect();
        assert_eq!(named, ALL.iter().map(|(_, name)| *name).collect::<Vec<_>>());
        assert!(ALL.iter().map(|(number, _)| *number).eq(1..=named.len() as u32), "numbers are given in order");
    }
}
