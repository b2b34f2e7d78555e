//! Nodes out of service and long work, as people ask for them: names are resolved here, and blocks get their paths.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::NodeId;
use proto::log::CallerRecord;
use proto::log::SetNodeService;
use proto::log::command::Op;
use proto::namespace as n;

use super::View;
use super::request::Request;
use crate::blocks::{Blocker, JobKind, JobView};
use crate::namespace::NodeService;

/// The job that a service of a node amounts to; empty for a node in service.
pub(super) fn job_of(service: n::NodeService, node: &str) -> String {
    let kind = match service {
        n::NodeService::Decommissioned => JobKind::Decommission,
        n::NodeService::Maintenance => JobKind::Maintenance,
        n::NodeService::InService | n::NodeService::Unspecified => return String::new(),
    };
    format!("{}-{node}", kind.as_str())
}

/// Is this the name of a balance, which the leader alone knows?
pub(crate) fn is_balance(job: &str) -> bool {
    job.strip_prefix(JobKind::Balance.as_str()).is_some_and(|rest| rest.starts_with('-'))
}

/// The refusal of a job that nobody knows.
pub(crate) fn no_such_job(job: &str) -> FsError {
    FsError::new(ErrorCode::NotFound, format!("there is no job {job:?}")).with_hint("see `blockyard jobs ls`")
}

impl View<'_> {
    /// The command that takes a node out of service or back, or that ends a job by taking its node back.
    pub(super) fn node_service(&self, request: &Request, remembered: bool) -> FsResult<Op> {
        let command = match request {
            Request::SetNodeState(r) => self.node_named(&r.node).and_then(|node| {
                if r.service() == n::NodeService::Unspecified {
                    return Err(FsError::new(
                        ErrorCode::InvalidArgument,
                        "the request does not say what the node is to be",
                    ));
                }
                let service = r.service().into();
                let node = node.as_str().to_owned();
                Ok(SetNodeService { node, service: i32::cast_unsigned(service), maintenance_ms: r.maintenance_ms })
            }),
            Request::CancelJob(r) => self.back_in_service(&r.job),
            _ => Err(FsError::new(ErrorCode::Unsupported, "this call is not offered")),
        };
        match command {
            // Its answer is known already, whatever these checks say now.
            Err(_) if remembered => Ok(Op::SetNodeService(SetNodeService::default())),
            other => other.map(Op::SetNodeService),
        }
    }

    fn back_in_service(&self, job: &str) -> FsResult<SetNodeService> {
        let services = self.namespace.services_in_force();
        let is_it = |(node, service): &&(NodeId, NodeService)| {
            let service = n::NodeService::try_from(service.parts().0.cast_signed()).unwrap_or_default();
            job_of(service, node.as_str()) == job
        };
        let (node, _) = services.iter().find(is_it).ok_or_else(|| no_such_job(job))?;
        let service = i32::cast_unsigned(n::NodeService::InService.into());
        Ok(SetNodeService { node: node.as_str().to_owned(), service, maintenance_ms: 0 })
    }

    /// The datanode that somebody means by an id, a host, or a host and port.
    fn node_named(&self, text: &str) -> FsResult<NodeId> {
        let mut named = Vec::new();
        for (_, node) in self.blocks.registry().nodes() {
            if node.id.as_str() == text {
                return Ok(node.id.clone());
            }
            if !node.host.is_empty() && (node.host == text || format!("{}:{}", node.host, node.transfer_port) == text) {
                named.push((node.id.clone(), node.transfer_port));
            }
        }
        match named.as_slice() {
            [(node, _)] => Ok(node.clone()),
            [] => Err(FsError::new(ErrorCode::NotFound, format!("no datanode is called {text:?}"))
                .with_hint("name it by its id, its host, or its HOST:PORT: see `blockyard node ls`")),
            several => {
                let ports: Vec<String> = several.iter().map(|(_, port)| format!("{text}:{port}")).collect();
                Err(FsError::new(ErrorCode::InvalidArgument, format!("{} datanodes are on {text}", several.len()))
                    .with_hint(format!("name one of them: {}", ports.join(", "))))
            }
        }
    }

    /// Long work, all of it or one job. Superusers are told the paths of files that hold it up: others may not see them.
    pub(super) fn list_jobs(
        &self,
        who: &CallerRecord,
        request: &n::ListJobsRequest,
        now: base::clock::Moment,
    ) -> FsResult<n::ListJobsResponse> {
        let mut jobs = self.blocks.jobs(now);
        if !request.job.is_empty() {
            jobs.retain(|job| job.name == request.job);
            if jobs.is_empty() {
                return Err(no_such_job(&request.job));
            }
        }
        let paths = self.namespace.is_superuser(who);
        Ok(n::ListJobsResponse { jobs: jobs.into_iter().map(|job| self.job_status(job, paths)).collect() })
    }

    fn job_status(&self, job: JobView, paths: bool) -> n::JobStatus {
        let eta_ms = job.eta.map_or(0, |eta| u64::try_from(eta.as_millis()).unwrap_or(u64::MAX).max(1));
        n::JobStatus {
            blocked_by: job.blockers.iter().map(|blocker| self.blocker(blocker, paths)).collect(),
            job: job.name,
            kind: job.kind.as_str().to_owned(),
            state: job.state.as_str().to_owned(),
            subject: job.subject.map(|node| node.as_str().to_owned()).unwrap_or_default(),
            done_blocks: job.done_blocks,
            total_blocks: job.total_blocks,
            done_bytes: job.done_bytes,
            total_bytes: job.total_bytes,
            rate_bytes_per_s: job.rate_bytes_per_s,
            eta_ms,
            running_ms: u64::try_from(job.running.as_millis()).unwrap_or(u64::MAX),
            blocked: job.blocked,
        }
    }

    fn blocker(&self, blocker: &Blocker, paths: bool) -> String {
        let Some(block) = blocker.block else { return blocker.why.to_string() };
        match self.namespace.path_of_block(block).filter(|_| paths) {
            Some(path) => format!("{block} of {path}: {}", blocker.why),
            None => format!("{block}: {}", blocker.why),
        }
    }

    /// Time until a maintenance ends by itself, in ms; 0: it does not.
    pub(super) fn service_ends_in_ms(&self, service: NodeService) -> u64 {
        match service {
            NodeService::Maintenance { until_ms } if until_ms > 0 => {
                until_ms.saturating_sub(self.namespace.log_time_ms()).max(1)
            }
            _ => 0,
        }
    }
}
