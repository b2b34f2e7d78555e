//! The talk with one namenode.

use std::collections::{BTreeMap, BTreeSet};

use base::clock::Moment;
use proto::cluster::{
    CommandResult, HeartbeatRequest, HeartbeatResponse, IncrementalReportResponse, RegisterRequest, RegisterResponse,
    ReportBucketsResponse, ReportHashesResponse,
};
use proto::error::FsError;
use proto::ids::Term;
use std::time::Duration;

use super::reports::Stream;
use super::{AgentConfig, CALL_LIFE, Call, CallNumber, RETRY};
use crate::node::Node;

/// Results that wait for the next heartbeat.
const MAX_RESULTS: usize = 4096;
/// Longest wait of a result for others that share its heartbeat.
const RESULTS_WAIT: Duration = Duration::from_millis(50);

/// Shortest time between heartbeats that a leader may ask for.
const SOONEST: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Register,
    Heartbeat,
    Report,
}

/// State of the talk with one namenode.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) registered: bool,
    /// It was registered once since the node started.
    pub(super) was_registered: bool,
    /// Calls under way, with the moment they were made. One of a kind.
    calls: BTreeMap<CallNumber, (Kind, Moment)>,
    not_before: Moment,
    heartbeat_due: Moment,
    heartbeat: Option<Duration>,
    streams: BTreeMap<String, Stream>,
    /// The storage that the report under way is about.
    reporting: Option<String>,
    report_not_before: Moment,
    results: Vec<CommandResult>,
    results_sent: usize,
    /// Results since the last heartbeat was made, and since when there are any.
    news: usize,
    news_since: Option<Moment>,
    /// The highest term that a heartbeat has told: a new leader counts the node's copies only when it has heard its own. Only
    /// one that is durable is told: after a restart the node would obey the leader before again.
    term_told: Term,
    /// Changes of the volumes' health that heartbeats have told.
    health_told: u64,
    /// Commands that were accepted and have no result yet: a leader may send them again.
    running: BTreeSet<u64>,
}

impl Link {
    /// Makes the calls that are due.
    pub(super) fn pump(
        &mut self,
        node: &Node,
        config: &AgentConfig,
        active_transfers: u32,
        durable_term: Term,
        (mut next_call, now): (CallNumber, Moment),
        out: &mut Vec<(CallNumber, Call)>,
    ) {
        self.drop_lost_calls(now);
        let mut call = |calls: &mut BTreeMap<CallNumber, (Kind, Moment)>, kind, request| {
            calls.insert(next_call, (kind, now));
            out.push((next_call, request));
            next_call += 1;
        };
        if !self.registered {
            if !self.under_way(Kind::Register) && now >= self.not_before {
                call(&mut self.calls, Kind::Register, Call::Register(registration(node, config, durable_term)));
            }
            return;
        }
        let health = node.store().health_changes();
        let is_told = self.health_told == health && self.term_told >= durable_term;
        let due = now >= self.heartbeat_due || self.has_news(now) || !is_told;
        if !self.under_way(Kind::Heartbeat) && due {
            self.health_told = health;
            self.term_told = durable_term;
            let request = Call::Heartbeat(self.heartbeat_request(node, config, active_transfers));
            self.heartbeat_due = now.plus(self.heartbeat.unwrap_or(config.heartbeat));
            call(&mut self.calls, Kind::Heartbeat, request);
        }
        if !self.under_way(Kind::Report) && now >= self.report_not_before {
            self.find_storages(node);
            let due = self.streams.iter_mut().find_map(|(storage, stream)| {
                let request = stream.next_call(node, storage, now)?;
                Some((storage.clone(), request))
            });
            if let Some((storage, request)) = due {
                self.reporting = Some(storage);
                call(&mut self.calls, Kind::Report, request);
            }
        }
    }

    /// Registered, and every storage has been reported in full.
    pub(super) fn reported(&self) -> bool {
        self.registered && !self.streams.is_empty() && self.streams.values().all(Stream::reported)
    }
    /// Changes of a storage below this number need not be kept for this namenode.
    pub(super) fn heard(&self, storage: &str) -> u64 {
        self.streams.get(storage).map_or(0, Stream::next)
    }
    /// The call that an answer belongs to: the moment it was made. `None` if it counted as lost.
    pub(super) fn take_call(&mut self, call: CallNumber) -> Option<Moment> {
        self.calls.remove(&call).map(|(_, sent_at)| sent_at)
    }
    pub(super) fn call_failed(&mut self, error: &FsError, now: Moment) {
        if self.registered {
            tracing::debug!(%error, "a call to a namenode failed");
        } else {
            tracing::warn!(%error, hint = error.hint, "a namenode did not take the registration");
        }
        self.retry_at(now.plus(RETRY));
        self.fail_report();
        self.results_sent = 0;
    }
    pub(super) fn retry_at(&mut self, at: Moment) {
        self.not_before = at;
        self.report_not_before = at;
    }

    pub(super) fn took_registration(
        &mut self,
        node: &Node,
        answer: &RegisterResponse,
        config: &AgentConfig,
        now: Moment,
    ) {
        (self.registered, self.was_registered) = (true, true);
        self.heartbeat_due = now;
        self.heartbeat = match answer.heartbeat_interval_ms {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        };
        self.find_storages(node);
        self.streams.values_mut().for_each(|stream| stream.registered(answer.full_report, now, config.full_report));
    }
    pub(super) fn took_heartbeat(&mut self, node: &Node, answer: &HeartbeatResponse, now: Moment) {
        self.results.drain(..self.results_sent.min(self.results.len()));
        self.results_sent = 0;
        if answer.reregister || node.key_number() != Some(answer.key_number) {
            self.register_again(now);
        } else if answer.full_report {
            self.streams.values_mut().for_each(Stream::report_in_full);
        }
        if answer.leader && answer.again_in_ms > 0 {
            let soon = Duration::from_millis(answer.again_in_ms).max(SOONEST);
            self.heartbeat_due = self.heartbeat_due.min(now.plus(soon));
        }
    }
    pub(super) fn took_incremental(&mut self, answer: &IncrementalReportResponse, now: Moment) {
        if answer.reregister {
            return self.register_again(now);
        }
        if let Some(stream) = self.reported_stream() {
            stream.took_incremental(answer);
        }
    }
    pub(super) fn took_hashes(&mut self, answer: &ReportHashesResponse, now: Moment, full_report: Duration) {
        if answer.reregister {
            return self.register_again(now);
        }
        if let Some(stream) = self.reported_stream() {
            stream.took_hashes(answer, now, full_report);
        }
    }
    pub(super) fn took_buckets(&mut self, answer: &ReportBucketsResponse, now: Moment, full_report: Duration) {
        if answer.reregister {
            return self.register_again(now);
        }
        if let Some(stream) = self.reported_stream() {
            stream.took_buckets(answer, now, full_report);
        }
    }

    /// Notes a command as running; false if it runs already.
    pub(super) fn accept(&mut self, number: u64) -> bool {
        self.running.insert(number)
    }
    pub(super) fn command_done(&mut self, result: CommandResult) {
        self.running.remove(&result.number);
        if self.results.len() < MAX_RESULTS {
            self.results.push(result);
        }
        self.news += 1;
    }
    /// Is there a result that should not wait for the heartbeat that is due? The leader gives the next work in answer to
    /// it: as soon as half of what was given is done, the rest lasts until more is here. A heartbeat for each of
    /// many small copies would cost more than the copies.
    fn has_news(&mut self, now: Moment) -> bool {
        if self.news == 0 {
            return false;
        }
        let since = *self.news_since.get_or_insert(now);
        self.news >= self.running.len() || now.since(since) >= RESULTS_WAIT
    }

    fn under_way(&self, kind: Kind) -> bool {
        self.calls.values().any(|(k, _)| *k == kind)
    }
    fn drop_lost_calls(&mut self, now: Moment) {
        let lost: Vec<(CallNumber, Kind)> = self
            .calls
            .iter()
            .filter(|(_, (_, sent_at))| now.since(*sent_at) >= CALL_LIFE)
            .map(|(call, (kind, _))| (*call, *kind))
            .collect();
        for (call, kind) in lost {
            self.calls.remove(&call);
            match kind {
                Kind::Report => self.fail_report(),
                Kind::Heartbeat => self.results_sent = 0,
                Kind::Register => {}
            }
        }
    }
    fn register_again(&mut self, now: Moment) {
        self.registered = false;
        self.not_before = now;
        self.fail_report();
    }
    fn fail_report(&mut self) {
        if !self.under_way(Kind::Report)
            && let Some(stream) = self.reported_stream()
        {
            stream.call_failed();
        }
    }
    fn reported_stream(&mut self) -> Option<&mut Stream> {
        let storage = self.reporting.take()?;
        self.streams.get_mut(&storage)
    }
    fn find_storages(&mut self, node: &Node) {
        for report in node.store().reports() {
            if report.failed {
                // What a failed volume held is not reported any more; its state travels with heartbeats.
                self.streams.remove(&report.storage);
            } else {
                // One that hung and is back is reported in full.
                self.streams.entry(report.storage).or_insert_with(Stream::due);
            }
        }
    }
    fn heartbeat_request(&mut self, node: &Node, config: &AgentConfig, active_transfers: u32) -> HeartbeatRequest {
        self.results_sent = self.results.len();
        (self.news, self.news_since) = (0, None);
        HeartbeatRequest {
            node: node.id().to_string(),
            cluster: node.store().membership().map(|(cluster, _)| cluster.to_string()).unwrap_or_default(),
            storages: node.store().reports(),
            active_transfers,
            highest_term: self.term_told.raw(),
            results: self.results.clone(),
            copy_streams: config.copy_streams,
            copy_rate_bytes_per_s: config.copy_rate_bytes_per_s,
        }
    }
}

fn registration(node: &Node, config: &AgentConfig, durable_term: Term) -> RegisterRequest {
    RegisterRequest {
        protocol_version: proto::PROTOCOL_VERSION,
        cluster: node.store().membership().map(|(cluster, _)| cluster.to_string()).unwrap_or_default(),
        node: node.id().to_string(),
        host: config.host.clone(),
        transfer_port: u32::from(config.transfer_port),
        http_address: config.http_address.clone(),
        rack: config.rack.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        highest_term: durable_term.raw(),
        storages: node.store().reports(),
        machine: config.machine.clone(),
        local_socket: config.local_socket.clone(),
    }
}
