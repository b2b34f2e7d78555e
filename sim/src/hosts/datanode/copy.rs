//! Copies: a replica goes to another node by the leader's command.

use base::clock::Moment;
use datanode::agent::{AgentEvent, Command, Task};
use datanode::commands;
use datanode::serve::ReadSession;
use proto::ids::BlockId;
use proto::transfer::BlockOpResponse;
use transfer::{Ack, Status, reply};

use super::{DatanodeHost, dial};
use crate::coverage::Rare;
use crate::message::Part;
use crate::network::StreamId;
use crate::scene::Scene;

/// A copy under way.
#[derive(Debug)]
pub(super) struct Copying {
    namenode: usize,
    command: Command,
    session: ReadSession,
    last_seqno: Option<i64>,
    /// When something came from the target.
    pub(super) heard: Moment,
}

impl DatanodeHost {
    pub(super) fn begin_copy(&mut self, namenode: usize, command: Command, scene: &mut Scene) {
        let address = self.address();
        let Some(running) = &mut self.running else { return };
        let Task::Copy(what) = &command.task else { return };
        match commands::begin_copy(&running.node, what) {
            Ok(job) => {
                let stream = dial(scene, address, &job.target);
                let copy = Copying { namenode, command, session: job.session, last_seqno: None, heard: scene.now() };
                running.copies.insert(stream, copy);
                scene.push(stream, address, Part::Write(Box::new(job.setup)));
            }
            Err(error) => {
                let result = commands::result(&command, Err(error.to_string()));
                if let Some(block) = &what.block {
                    self.note_damage(BlockId::from_raw(block.id), scene);
                }
                self.agent(AgentEvent::CommandDone { namenode, result }, scene);
            }
        }
    }

    pub(super) fn copy_reply(&mut self, stream: StreamId, said: &BlockOpResponse, scene: &mut Scene) {
        let address = self.address();
        let Some(running) = &mut self.running else { return };
        let Some(copy) = running.copies.get_mut(&stream) else { return };
        copy.heard = scene.now();
        let mut failed = None;
        if reply::status_of(said) != Status::Success {
            failed = Some(said.message().to_owned());
        }
        while failed.is_none() && copy.last_seqno.is_none() {
            match copy.session.next_packet() {
                Ok(Some(packet)) => {
                    copy.last_seqno = packet.head.last.then_some(packet.head.seqno);
                    scene.push(stream, address, Part::Packet(packet));
                }
                Ok(None) => break,
                Err(error) => failed = Some(error.to_string()),
            }
        }
        if let Some(why) = failed
            && let Some(copy) = running.copies.remove(&stream)
        {
            self.note_damage(copy.session.reader().id(), scene);
            self.end_copy(stream, &copy, Err(why), scene);
        }
    }

    pub(super) fn copy_ack(&mut self, stream: StreamId, ack: &Ack, scene: &mut Scene) {
        let Some(running) = &mut self.running else { return };
        let Some(copy) = running.copies.get_mut(&stream) else { return };
        copy.heard = scene.now();
        let outcome = match ack.first_bad() {
            Some(_) => Err(format!("the target said {:?}", ack.replies)),
            None if copy.last_seqno == Some(ack.seqno) => Ok(()),
            None => return,
        };
        if let Some(copy) = running.copies.remove(&stream) {
            self.end_copy(stream, &copy, outcome, scene);
        }
    }

    pub(super) fn end_copy(
        &mut self,
        stream: StreamId,
        copy: &Copying,
        outcome: Result<(), String>,
        scene: &mut Scene,
    ) {
        scene.hit(if outcome.is_ok() { Rare::CopyMade } else { Rare::CopyFailed });
        scene.close(stream, self.address());
        let result = commands::result(&copy.command, outcome);
        self.agent(AgentEvent::CommandDone { namenode: copy.namenode, result }, scene);
    }
}
