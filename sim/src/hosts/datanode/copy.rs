//! Copies: a replica goes to another node by the leader's command, or at the word of its writer.

use base::clock::Moment;
use datanode::agent::{AgentEvent, Command, Task};
use datanode::commands;
use datanode::serve::ReadSession;
use datanode::store::ReplicaReader;
use proto::ids::BlockId;
use proto::transfer::BlockOpResponse;
use transfer::catch_up::TransferReply;
use transfer::{Ack, ReplicaStateSetup, Status, TransferSetup, reply};

use super::{DatanodeHost, dial};
use crate::coverage::Rare;
use crate::message::Part;
use crate::network::StreamId;
use crate::scene::Scene;

/// A copy under way.
#[derive(Debug)]
pub(super) struct Copying {
    whose: Whose,
    session: ReadSession,
    last_seqno: Option<i64>,
    /// When something came from the target.
    pub(super) heard: Moment,
}

/// Who waits for a copy.
#[derive(Debug)]
enum Whose {
    Leader(usize, Command),
    /// A writer, on this connection.
    Writer(StreamId),
}

impl DatanodeHost {
    pub(super) fn begin_transfer(&mut self, up: StreamId, setup: &TransferSetup, scene: &mut Scene) {
        let (address, wall_ms) = (self.address(), self.wall_ms(scene));
        let Some(running) = &mut self.running else { return };
        match running.node.begin_transfer(setup, wall_ms) {
            Ok(job) => {
                let stream = dial(scene, address, &job.target);
                let (whose, heard) = (Whose::Writer(up), scene.now());
                running.copies.insert(stream, Copying { whose, session: job.session, last_seqno: None, heard });
                scene.push(stream, address, Part::Write(Box::new(job.setup)));
            }
            Err(refusal) => {
                scene.push(up, address, Part::Reply(Box::new(reply::refused(refusal.status, &refusal.message, ""))));
                scene.close(up, address);
            }
        }
    }

    pub(super) fn tell_how_far(&self, up: StreamId, setup: &ReplicaStateSetup, scene: &mut Scene) {
        let (address, wall_ms) = (self.address(), self.wall_ms(scene));
        let Some(running) = &self.running else { return };
        let said = match running.node.progress(setup, wall_ms) {
            Ok(Some(progress)) => progress.to_reply(),
            Ok(None) => transfer::progress::absent("no replica on this node"),
            Err(refusal) => reply::refused(refusal.status, &refusal.message, ""),
        };
        scene.push(up, address, Part::Reply(Box::new(said)));
    }

    pub(super) fn begin_copy(&mut self, namenode: usize, command: Command, scene: &mut Scene) {
        let address = self.address();
        let Some(running) = &mut self.running else { return };
        let Task::Copy(what) = &command.task else { return };
        match commands::begin_copy(&running.node, what) {
            Ok(job) => {
                let stream = dial(scene, address, &job.target);
                let (whose, heard) = (Whose::Leader(namenode, command), scene.now());
                running.copies.insert(stream, Copying { whose, session: job.session, last_seqno: None, heard });
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
        let mut damaged = None;
        let outcome = match ack.first_bad() {
            Some(bad) => {
                let reader = copy.session.reader();
                if ack.replies.get(bad) == Some(&Status::ErrorChecksum) && is_damaged(reader) {
                    reader.mark_corrupt();
                    damaged = Some(reader.id());
                }
                Err(format!("the target said {:?}", ack.replies))
            }
            None if copy.last_seqno == Some(ack.seqno) => Ok(()),
            None => return,
        };
        let ended = running.copies.remove(&stream);
        if let Some(block) = damaged {
            self.note_damage(block, scene);
        }
        if let Some(copy) = ended {
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
        let address = self.address();
        scene.close(stream, address);
        match &copy.whose {
            Whose::Leader(namenode, command) => {
                scene.hit(if outcome.is_ok() { Rare::CopyMade } else { Rare::CopyFailed });
                let result = commands::result(command, outcome);
                self.agent(AgentEvent::CommandDone { namenode: *namenode, result }, scene);
            }
            Whose::Writer(up) => {
                let said = match outcome {
                    Ok(()) => TransferReply::Done,
                    Err(message) => TransferReply::Failed { status: Status::Error, bad_link: String::new(), message },
                };
                scene.push(*up, address, Part::Reply(Box::new(said.to_wire())));
                scene.close(*up, address);
            }
        }
    }
}

/// Is what a target refused damaged on this node's disk already, rather than on its way? As the product does it; of a replica
/// that is being written the last checksum is in memory.
fn is_damaged(reader: &ReplicaReader) -> bool {
    let (mut data, mut sums) = (vec![0; reader.len_bytes() as usize], Vec::new());
    let read = reader.read_data(0, &mut data).and_then(|()| reader.read_checksums(0, reader.len_bytes(), &mut sums));
    read.is_ok() && !reader.is_unfinished() && reader.chunks().verify(&data, &sums).is_err()
}
