//! One operation from its begin to its outcome.

use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use client::session::Session;
use namenode::service::request::{Request, Response};
use proto::error::{ErrorCode, FsError};
use proto::namespace as n;
use proto::namespace::FileKind;

use super::ClientHost;
use super::calls::{DEADLINE, Ended, Purpose};
use super::reading::Reading;
use super::writing::Writing;
use crate::coverage::Rare;
use crate::logs::Segment;
use crate::scene::Scene;
use crate::workload::{Listed, Op, Outcome};

/// An operation under way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) op: Op,
    begun: Moment,
    pub(super) session: Arc<Session>,
    pub(super) lowest: u64,
    /// Deadline of its calls.
    pub(super) patience: Duration,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Waits for its only call.
    Simple,
    /// Collects pages.
    Listing(Vec<Listed>),
    Writing(Box<Writing>),
    Reading(Box<Reading>),
}

impl Job {
    pub(super) fn new(id: u64, op: Op, begun: Moment, session: Arc<Session>, lowest: u64) -> Self {
        let stage = match &op {
            Op::List { .. } => Stage::Listing(Vec::new()),
            Op::Write { tag, len_bytes, manner, .. } | Op::Append { tag, len_bytes, manner, .. } => {
                Stage::Writing(Box::new(Writing::new(*tag, *len_bytes, *manner)))
            }
            Op::Read { part, .. } => Stage::Reading(Box::new(Reading::new(*part))),
            _ => Stage::Simple,
        };
        Self { id, op, begun, session, lowest, patience: DEADLINE, stage }
    }
    pub(super) const fn is_writing(&self) -> bool {
        matches!(self.stage, Stage::Writing(_))
    }
    /// What an append has written by now, if it has got its file.
    pub(super) fn segment(&self) -> Option<(&str, u64, Segment)> {
        match (&self.op, &self.stage) {
            (Op::Append { path, tag, .. }, Stage::Writing(writing)) => {
                writing.segment(*tag).map(|segment| (path.as_str(), self.id, segment))
            }
            _ => None,
        }
    }
    /// When it began, if what it flushes is not synced.
    pub(super) fn unsynced_since(&self) -> Option<Moment> {
        self.op.manner().filter(|manner| !manner.sync).map(|_| self.begun)
    }
    /// What its owner knows if the client dies now.
    pub(super) fn outcome_of_death(&self) -> Outcome {
        match &self.stage {
            Stage::Writing(writing) => writing.left().unwrap_or(Outcome::Unknown),
            _ => Outcome::Unknown,
        }
    }
    pub(super) fn into_op(self) -> (Op, Moment) {
        (self.op, self.begun)
    }
}

impl ClientHost {
    pub(super) fn begin_job(&mut self, scene: &mut Scene) {
        let Some(job) = &self.job else { return };
        let header = None;
        let (purpose, request) = match &job.op {
            Op::Mkdir { path, parents } => (
                Purpose::Simple,
                n::MkdirRequest { header, path: path.clone(), mode: 0o755, parents: *parents, unmasked_mode: None }
                    .into(),
            ),
            Op::Rename { from, to, replace } => {
                let (from, to) = (from.clone(), to.clone());
                (Purpose::Simple, n::RenameRequest { header, from, to, replace: *replace, exchange: false }.into())
            }
            Op::Delete { path, recursive } => {
                (Purpose::Simple, n::DeleteRequest { header, path: path.clone(), recursive: *recursive }.into())
            }
            Op::Stat { path } => {
                (Purpose::Simple, n::StatRequest { header, path: path.clone(), no_follow: false }.into())
            }
            Op::List { path } => (Purpose::Page, page(path, "")),
            Op::Read { path, .. } => (Purpose::Open, open(path, 0, 0)),
            Op::Truncate { path, len_bytes } => (
                Purpose::Simple,
                n::TruncateRequest { header, path: path.clone(), len_bytes: *len_bytes as u64, ..Default::default() }
                    .into(),
            ),
            Op::Write { .. } => return self.begin_write(scene),
            Op::Append { .. } => return self.begin_append(scene),
        };
        let changes = job.op.changes();
        self.ask(purpose, request, changes, scene);
    }

    /// Makes a call of the current job, in its session if it changes something.
    pub(super) fn ask(&mut self, purpose: Purpose, request: Request, changes: bool, scene: &mut Scene) {
        let patience = self.job.as_ref().map_or(DEADLINE, |job| job.patience);
        self.ask_within(purpose, request, changes, patience, scene);
    }
    pub(super) fn ask_within(
        &mut self,
        purpose: Purpose,
        request: Request,
        changes: bool,
        within: Duration,
        scene: &mut Scene,
    ) {
        let Some(job) = &self.job else { return };
        let (id, session) = (job.id, changes.then(|| Arc::clone(&job.session)));
        let replaceable = matches!(purpose, Purpose::Simple | Purpose::Create | Purpose::Append);
        if let Some(ended) = self.calls.begin((purpose, id), request, (session.as_ref(), replaceable), within, scene) {
            self.call_ended(ended, scene);
        }
    }

    /// A call is over.
    pub(super) fn call_ended(&mut self, ended: Ended, scene: &mut Scene) {
        if ended.purpose == Purpose::Aside || self.job.as_ref().is_none_or(|job| job.id != ended.job) {
            return;
        }
        // The session may have been replaced on the way.
        if let Some(job) = &mut self.job
            && matches!(ended.purpose, Purpose::Simple | Purpose::Create | Purpose::Append)
            && job.session.id() != self.calls.session().id()
        {
            job.session = Arc::clone(self.calls.session());
            job.lowest = 0;
        }
        match ended.purpose {
            Purpose::Simple => {
                let outcome = simple_outcome(ended.result);
                if outcome == Outcome::Unknown {
                    scene.hit(Rare::OutcomeUnknown);
                }
                self.finish(outcome, scene);
            }
            Purpose::Page => self.page_came(ended, scene),
            Purpose::Create
            | Purpose::Append
            | Purpose::AddBlock
            | Purpose::AbandonBlock
            | Purpose::NewStamp
            | Purpose::UpdatePipeline
            | Purpose::Publish
            | Purpose::Complete => self.writer_call_ended(ended, scene),
            Purpose::Open | Purpose::Relocate => self.reader_call_ended(ended, scene),
            Purpose::Aside => {}
        }
    }

    fn page_came(&mut self, ended: Ended, scene: &mut Scene) {
        let Some(Job { op: Op::List { path }, stage: Stage::Listing(all), .. }) = &mut self.job else { return };
        match ended.result {
            Ok(Response::List(answer)) => {
                all.extend(answer.entries.iter().map(listed));
                match answer.entries.last() {
                    Some(last) if answer.more => {
                        let request = page(path, &last.path);
                        self.ask(Purpose::Page, request, false, scene);
                    }
                    _ => {
                        let all = std::mem::take(all);
                        self.finish(Outcome::Entries(all), scene);
                    }
                }
            }
            Ok(_) => self.finish(Outcome::Failed(ErrorCode::Internal), scene),
            Err(error) => self.finish(Outcome::Failed(error.code), scene),
        }
    }

    pub(super) fn renew(&mut self, scene: &mut Scene) {
        if !self.is_writing() {
            return;
        }
        let Some(session) = self.job.as_ref().map(|job| Arc::clone(&job.session)) else { return };
        let request = n::RenewLeaseRequest { header: None }.into();
        let within = Duration::from_secs(10);
        self.aside(request, Some(&session), within, scene);
    }

    /// Asks for something in an administrator's name; nobody waits for the answer.
    pub fn administer(&mut self, request: Request, changes: bool, scene: &mut Scene) {
        let session = changes.then(|| Arc::clone(self.calls.session()));
        self.aside(request, session.as_ref(), Duration::from_secs(20), scene);
    }

    /// A call that nobody waits for.
    pub(super) fn aside(
        &mut self,
        request: Request,
        session: Option<&Arc<Session>>,
        within: Duration,
        scene: &mut Scene,
    ) {
        let ended = self.calls.begin((Purpose::Aside, 0), request, (session, false), within, scene);
        debug_assert!(ended.is_none(), "calls end later");
    }
}

fn simple_outcome(result: Result<Response, FsError>) -> Outcome {
    match result {
        Ok(Response::Stat(answer)) => answer
            .status
            .as_ref()
            .map_or(Outcome::Failed(ErrorCode::Internal), |status| Outcome::Status(listed(status))),
        Ok(_) => Outcome::Done,
        Err(error) if error.code == ErrorCode::OutcomeUnknown => Outcome::Unknown,
        Err(error) => Outcome::Failed(error.code),
    }
}

pub(super) fn listed(status: &n::FileStatus) -> Listed {
    let name = status.path.rsplit('/').next().unwrap_or_default().to_owned();
    let (is_dir, open) = (status.kind() == FileKind::Directory, status.open_for_write);
    Listed { name, is_dir, len_bytes: status.len_bytes, open }
}

fn page(path: &str, start_after: &str) -> Request {
    n::ListRequest { header: None, path: path.to_owned(), start_after: start_after.to_owned(), limit: 3 }.into()
}

pub(super) fn open(path: &str, offset_bytes: u64, len_bytes: u64) -> Request {
    n::OpenRequest { header: None, path: path.to_owned(), offset_bytes, len_bytes, ..n::OpenRequest::default() }.into()
}
