//! Writes: the next node is asked first, then packets go down and acks come up.
//!
//! ```text
//!   Write ─▶ begin_write ─▶ (next node: Opening, until its reply) ─▶ Receiving ─▶ Finished, Failed, or left
//! ```

use std::time::Duration;

use base::clock::Moment;
use datanode::agent::AgentEvent;
use datanode::receive::{BlockReceiver, ReceiveEffect};
use datanode::store::ReplicaWriter;
use proto::transfer::BlockOpResponse;
use transfer::{Ack, Packet, Status, WriteSetup, WriteStage, reply};

use super::{DatanodeHost, dial};
use crate::coverage::Rare;
use crate::message::{Address, Part};
use crate::network::StreamId;
use crate::scene::Scene;

/// A stream on which nothing came for so long is given up, as by the server (`peer_timeout`).
pub(super) const PEER_TIMEOUT: Duration = Duration::from_secs(60);

/// A write whose next node has not answered yet.
#[derive(Debug)]
pub(super) struct Opening {
    since: Moment,
    writer: ReplicaWriter,
    stage: WriteStage,
    down: StreamId,
    link: String,
}

/// A write under way.
#[derive(Debug)]
pub(super) struct Receiving {
    /// When something came on its stream.
    heard: Moment,
    receiver: BlockReceiver,
    down: Option<StreamId>,
}

impl DatanodeHost {
    pub(super) fn begin_write(&mut self, _from: Address, up: StreamId, setup: &WriteSetup, scene: &mut Scene) {
        let (address, wall_ms) = (self.address(), self.wall_ms(scene));
        let Some(running) = &mut self.running else { return };
        let writer = match running.node.begin_write(setup, wall_ms) {
            Ok(writer) => writer,
            Err(refusal) => {
                if refusal.message.contains("room") {
                    scene.hit(Rare::DatanodeFull);
                }
                scene.push(up, address, Part::Reply(Box::new(reply::refused(refusal.status, &refusal.message, ""))));
                return scene.close(up, address);
            }
        };
        match (setup.for_next(), setup.targets.first()) {
            (Some(next), Some(target)) => {
                let down = dial(scene, address, target);
                running.downs.insert(down, up);
                running
                    .opening
                    .insert(up, Opening { since: scene.now(), writer, stage: setup.stage, down, link: target.link() });
                scene.push(down, address, Part::Write(Box::new(next)));
            }
            _ => {
                let receiver = BlockReceiver::new(writer, false);
                running.receiving.insert(up, Receiving { heard: scene.now(), receiver, down: None });
                scene.push(up, address, Part::Reply(Box::new(reply::pipeline_ready())));
                self.close_if_whole(up, setup.stage, scene);
            }
        }
    }

    /// The end of a block is told by the set-up alone, if all its bytes are there.
    fn close_if_whole(&mut self, up: StreamId, stage: WriteStage, scene: &mut Scene) {
        if stage != WriteStage::PipelineCloseRecovery {
            return;
        }
        let Some(running) = &mut self.running else { return };
        let Some(write) = running.receiving.get_mut(&up) else { return };
        let mut out = Vec::new();
        write.receiver.on_close(&running.node, &mut out);
        self.carry_out(up, None, out, scene);
    }

    /// The next node answered the set-up (of a write, or of a copy).
    pub(super) fn reply_from_below(&mut self, down: StreamId, said: &BlockOpResponse, scene: &mut Scene) {
        let address = self.address();
        let Some(running) = &mut self.running else { return };
        if running.copies.contains_key(&down) {
            return self.copy_reply(down, said, scene);
        }
        let Some(up) = running.downs.get(&down).copied() else { return };
        let Some(opening) = running.opening.remove(&up) else { return };
        let status = reply::status_of(said);
        if status == Status::Success {
            let receiver = BlockReceiver::new(opening.writer, true);
            running.receiving.insert(up, Receiving { heard: scene.now(), receiver, down: Some(down) });
            scene.push(up, address, Part::Reply(Box::new(reply::pipeline_ready())));
            return self.close_if_whole(up, opening.stage, scene);
        }
        running.downs.remove(&down);
        let link =
            if said.first_bad_link().is_empty() { opening.link.clone() } else { said.first_bad_link().to_owned() };
        drop(opening);
        scene.close(down, address);
        scene.push(up, address, Part::Reply(Box::new(reply::refused(status, said.message(), &link))));
        scene.close(up, address);
    }

    pub(super) fn packet(&mut self, up: StreamId, packet: &Packet, scene: &mut Scene) {
        let Some(running) = &mut self.running else { return };
        let Some(write) = running.receiving.get_mut(&up) else { return };
        write.heard = scene.now();
        let mut out = Vec::new();
        write.receiver.on_packet(&running.node, &packet.view(), &mut out);
        self.carry_out(up, Some(packet), out, scene);
    }

    pub(super) fn ack_from_below(&mut self, down: StreamId, ack: Ack, scene: &mut Scene) {
        let Some(running) = &mut self.running else { return };
        if running.copies.contains_key(&down) {
            return self.copy_ack(down, &ack, scene);
        }
        let Some(up) = running.downs.get(&down).copied() else { return };
        let Some(write) = running.receiving.get_mut(&up) else { return };
        let mut out = Vec::new();
        write.receiver.on_downstream_ack(ack, &mut out);
        self.carry_out(up, None, out, scene);
    }

    /// The next node is gone.
    pub(super) fn below_lost(&mut self, up: StreamId, scene: &mut Scene) {
        let address = self.address();
        let Some(running) = &mut self.running else { return };
        if let Some(opening) = running.opening.remove(&up) {
            let why = "the next node cannot be reached";
            let refusal = reply::refused(Status::ErrorInvalid, why, &opening.link);
            drop(opening);
            scene.push(up, address, Part::Reply(Box::new(refusal)));
            return scene.close(up, address);
        }
        let Some(write) = running.receiving.get_mut(&up) else { return };
        let mut out = Vec::new();
        write.receiver.on_downstream_lost(&mut out);
        self.carry_out(up, None, out, scene);
    }

    /// Whoever sent is gone: what is not finished stays half-written.
    pub(super) fn above_lost(&mut self, up: StreamId, scene: &mut Scene) {
        let address = self.address();
        let Some(running) = &mut self.running else { return };
        let opening = running.opening.remove(&up).map(|opening| opening.down);
        let receiving = running.receiving.remove(&up).and_then(|write| write.down);
        for down in opening.into_iter().chain(receiving) {
            running.downs.remove(&down);
            scene.close(down, address);
        }
    }

    /// Gives up on streams that are silent: an end whose close was lost says nothing more.
    pub(super) fn end_silent(&mut self, scene: &mut Scene) {
        let (now, address) = (scene.now(), self.address());
        let silent = |since: Moment| now.since(since) >= PEER_TIMEOUT;
        let Some(running) = &self.running else { return };
        let opening = running.opening.iter().filter(|(_, opening)| silent(opening.since)).map(|(up, _)| *up);
        let receiving = running.receiving.iter().filter(|(_, write)| silent(write.heard)).map(|(up, _)| *up);
        let writes: Vec<StreamId> = opening.chain(receiving).collect();
        let copies = running.copies.iter().filter(|(_, copy)| silent(copy.heard)).map(|(stream, _)| *stream);
        let copies: Vec<StreamId> = copies.collect();
        for up in writes {
            self.above_lost(up, scene);
            scene.close(up, address);
        }
        for stream in copies {
            self.closed(stream, scene);
        }
    }

    fn carry_out(&mut self, up: StreamId, packet: Option<&Packet>, effects: Vec<ReceiveEffect>, scene: &mut Scene) {
        let address = self.address();
        for effect in effects {
            let Some(running) = &mut self.running else { return };
            let down = running.receiving.get(&up).and_then(|write| write.down);
            match effect {
                ReceiveEffect::Forward => {
                    if let (Some(down), Some(packet)) = (down, packet) {
                        scene.push(down, address, Part::Packet(packet.clone()));
                    }
                }
                ReceiveEffect::Ack(ack) => {
                    if ack.replies.first() == Some(&Status::ErrorChecksum) {
                        scene.hit(Rare::PacketDamaged);
                    }
                    // A process that died in a durable step of this packet acknowledges nothing any more.
                    if !self.disk.stopped() {
                        scene.push(up, address, Part::Ack(ack));
                    }
                }
                ReceiveEffect::Finished | ReceiveEffect::Failed => {
                    running.receiving.remove(&up);
                    if let Some(down) = down {
                        running.downs.remove(&down);
                        scene.close(down, address);
                    }
                    scene.close(up, address);
                    self.agent(AgentEvent::Tick, scene);
                }
            }
        }
    }
}
