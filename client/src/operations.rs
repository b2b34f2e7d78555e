//! Calls for administrators: nodes out of service, long work of the cluster.

use std::time::Duration;

use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace as n;
use proto::namespace::{JobStatus, NodeService};

use crate::client::Client;

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Client {
    /// Takes a datanode out of service for good, or for a while, or back. `node` is its id, its host, or its host and port.
    /// A maintenance ends by itself after `maintenance`, or when told so; for other services it is `None`. The node's id,
    /// and the job that empties it (empty for a node in service).
    ///
    /// # Errors
    /// The namenode's refusals: `PermissionDenied` for all but superusers, `NotFound`, `InvalidArgument` for a host with
    /// several datanodes.
    pub async fn set_node_state(
        &self,
        node: &str,
        service: NodeService,
        maintenance: Option<Duration>,
    ) -> FsResult<(String, String)> {
        let maintenance_ms = maintenance.map_or(0, ms);
        let request =
            n::SetNodeStateRequest { header: None, node: node.to_owned(), service: service.into(), maintenance_ms };
        let answer = self.inner.change("set node state", &request).await?.0;
        Ok((answer.node, answer.job))
    }

    /// Long work of the cluster, as its leader sees it: nodes that are emptied, balancing.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn jobs(&self) -> FsResult<Vec<JobStatus>> {
        Ok(self.inner.ask("job list", &n::ListJobsRequest::default()).await?.jobs)
    }

    /// One job.
    ///
    /// # Errors
    /// `NotFound` if the leader knows none of this name: a balance ends with its leader.
    pub async fn job(&self, job: &str) -> FsResult<JobStatus> {
        let request = n::ListJobsRequest { header: None, job: job.to_owned() };
        let jobs = self.inner.ask("job", &request).await?.jobs;
        jobs.into_iter().next().ok_or_else(|| FsError::new(ErrorCode::NotFound, format!("there is no job {job:?}")))
    }

    /// Ends a job. A node that was being emptied is back in service.
    ///
    /// # Errors
    /// `NotFound`, and the namenode's other refusals.
    pub async fn cancel_job(&self, job: &str) -> FsResult<()> {
        let request = n::CancelJobRequest { header: None, job: job.to_owned() };
        self.inner.change("cancel job", &request).await?;
        Ok(())
    }

    /// Evens out how full the datanodes are, until each is within `threshold_percent` of the mean (0: 10), at most so many
    /// bytes a second (0: what the nodes allow). The name of the job; the same as before if the same is under way.
    ///
    /// # Errors
    /// `AlreadyExists` if another balance is under way, and the namenode's other refusals.
    pub async fn balance(&self, threshold_percent: u32, rate_bytes_per_s: u64) -> FsResult<String> {
        let request = n::BalanceRequest { header: None, threshold_percent, rate_bytes_per_s };
        Ok(self.inner.change("balance", &request).await?.0.job)
    }
}
