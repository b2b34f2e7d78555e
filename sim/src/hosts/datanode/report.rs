//! The agent's calls as messages, and their answers.

use datanode::agent::{AgentEvent, Answer, Call};
use namenode::service::request::{Request, Response};
use proto::cluster::ReplicaRecord;
use proto::error::FsResult;
use proto::ids::BlockId;

use super::{AnswerOf, DatanodeHost, wrong_answer};
use crate::message::{Address, Message};
use crate::planted::Planted;
use crate::scene::Scene;

impl DatanodeHost {
    /// Sends a call of the agent.
    pub(super) fn call(&mut self, namenode: usize, call: u64, request: Call, scene: &mut Scene) {
        let mut request = match request {
            Call::Register(register) => Request::Register(register),
            Call::Heartbeat(heartbeat) => Request::Heartbeat(heartbeat),
            Call::Incremental(report) => Request::IncrementalReport(report),
            Call::Hashes(report) => Request::ReportHashes(report),
            Call::Buckets(report) => Request::ReportBuckets(report),
        };
        if self.planted == Some(Planted::StampIgnored) {
            self.forget_stamps(&mut request);
        }
        if scene.trace.is_loud() && !matches!(&request, Request::Heartbeat(beat) if beat.results.is_empty()) {
            let text = match &request {
                Request::Heartbeat(beat) => format!("results {:?}", beat.results),
                Request::ReportHashes(report) => format!("hashes {} at {}", report.storage, report.sequence),
                other => format!("{other:?}"),
            };
            scene.say(format_args!(
                "{:?} -> namenode {namenode} call {call}: {}",
                self.address(),
                &text[..text.len().min(900)]
            ));
        }
        let message = Message::Call { call, request: Box::new(request) };
        scene.send(self.address(), Address::Namenode(namenode), &message);
    }

    /// The planted bug: every replica is reported as if it were the current one.
    fn forget_stamps(&self, request: &mut Request) {
        let forget = |record: &mut ReplicaRecord| {
            if let Some(stamp) = self.stamps.get(&BlockId::from_raw(record.id)) {
                record.stamp = stamp.raw();
            }
        };
        match request {
            Request::IncrementalReport(report) => report.changes.iter_mut().for_each(forget),
            Request::ReportBuckets(report) => {
                report.buckets.iter_mut().flat_map(|bucket| &mut bucket.replicas).for_each(forget);
            }
            _ => {}
        }
    }

    /// An answer came.
    pub(super) fn answered(&mut self, from: Address, call: u64, answer: FsResult<Response>, scene: &mut Scene) {
        let Address::Namenode(namenode) = from else { return };
        if scene.trace.is_loud() && !matches!(&answer, Ok(Response::Heartbeat(beat)) if beat.commands.is_empty()) {
            let text = format!("{answer:?}");
            scene.say(format_args!(
                "{:?} <- namenode {namenode} call {call}: {}",
                self.address(),
                &text[..text.len().min(300)]
            ));
        }
        if self.running.is_none() {
            return;
        }
        let answer: AnswerOf = answer.and_then(|response| match response {
            Response::Register(answer) => Ok(Answer::Register(answer)),
            Response::Heartbeat(answer) => Ok(Answer::Heartbeat(answer)),
            Response::IncrementalReport(answer) => Ok(Answer::Incremental(answer)),
            Response::ReportHashes(answer) => Ok(Answer::Hashes(answer)),
            Response::ReportBuckets(answer) => Ok(Answer::Buckets(answer)),
            _ => Err(wrong_answer()),
        });
        self.agent(AgentEvent::Answer { namenode, call, answer }, scene);
    }
}
