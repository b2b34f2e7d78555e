//! Long work of the cluster: what the log says of nodes is handed to the block map, maintenance ends in time, and balancing
//! begins and ends at a superuser's word.

use auth::Caller;
use base::clock::Moment;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::log;
use proto::log::command::Op;
use proto::namespace as n;

use super::NamenodeCore;
use super::batch::Step;
use super::intake::safe_mode;
use crate::service::request::{Request, Response};

/// Longest distance from the mean that a balance may allow, in percent.
const MAX_THRESHOLD_PERCENT: u32 = 100;

impl NamenodeCore {
    /// Tells the block map which nodes are out of service, as of the log and its time.
    pub(super) fn sync_services(&self, now: Moment) {
        let namespace = self.shared.namespace.read();
        let services = namespace.services_in_force();
        if self.shared.blocks.read().services() == services {
            return;
        }
        self.shared.blocks.write().set_services(services, now);
    }

    /// A maintenance ends when the log's time has passed its end: an entry makes it pass, if nothing else does.
    pub(super) fn end_maintenance(&mut self, now: Moment) {
        let due = {
            let namespace = self.shared.namespace.read();
            let passed_ms = u64::try_from(now.since(self.upkeep.last_entry).as_millis()).unwrap_or(u64::MAX);
            let log_time_ms = namespace.log_time_ms().saturating_add(passed_ms);
            namespace.next_end_of_maintenance_ms().is_some_and(|end_ms| end_ms <= log_time_ms)
        };
        if due {
            self.step(Step::Time, [Op::Tick(log::Tick {})]);
        }
    }

    /// Begins or cancels a balance: the leader's own work, of which the log knows nothing.
    pub(super) fn balance(&self, caller: &Caller, request: &Request, now: Moment) -> FsResult<Response> {
        self.shared.with((0, 0), |view| {
            if let Some(reason) = view.blocks.safe_mode() {
                return Err(safe_mode(reason));
            }
            if view.namespace.is_superuser(&view.record(caller)) {
                return Ok(());
            }
            Err(FsError::new(ErrorCode::PermissionDenied, "only a superuser balances the cluster"))
        })?;
        let mut blocks = self.shared.blocks.write();
        match request {
            Request::Balance(r) if r.threshold_percent > MAX_THRESHOLD_PERCENT => {
                Err(FsError::new(ErrorCode::InvalidArgument, "a threshold is 1 to 100 percent"))
            }
            Request::Balance(r) => match blocks.begin_balance(r.threshold_percent, r.rate_bytes_per_s, now) {
                Ok(job) => Ok(Response::Balance(n::BalanceResponse { job })),
                Err(other) => Err(FsError::new(ErrorCode::AlreadyExists, format!("{other} is under way"))
                    .with_hint(format!("wait for it, or end it with `blockyard jobs cancel {other}`"))),
            },
            // What has ended is cancelled as well as it can be: a retry is answered like the first attempt.
            Request::CancelJob(r) if blocks.cancel_balance(&r.job, now) || blocks.had_balance(&r.job) => {
                Ok(Response::CancelJob(n::CancelJobResponse {}))
            }
            Request::CancelJob(r) => Err(crate::service::jobs::no_such_job(&r.job)),
            _ => Err(FsError::new(ErrorCode::Unsupported, "this call is not offered")),
        }
    }
}
