//! Reads: a session's packets on a stream.

use datanode::serve::ReadSession;
use transfer::{BlockRef, ReadSetup, reply};

use super::DatanodeHost;
use crate::message::Part;
use crate::network::StreamId;
use crate::planted::Planted;
use crate::scene::Scene;

impl DatanodeHost {
    pub(super) fn serve(&mut self, stream: StreamId, setup: &ReadSetup, scene: &mut Scene) {
        let (address, wall_ms) = (self.address(), self.wall_ms(scene));
        let Some(running) = &self.running else { return };
        let begun = match self.planted {
            Some(Planted::StampIgnored) => self.read_whatever_is_there(setup),
            _ => running.node.begin_read(setup, wall_ms).map_err(|refusal| (refusal.status, refusal.message)),
        };
        let mut session = match begun {
            Ok(session) => session,
            Err((status, message)) => {
                scene.push(stream, address, Part::Reply(Box::new(reply::refused(status, &message, ""))));
                scene.close(stream, address);
                return self.note_damage(setup.block.id, scene);
            }
        };
        scene.push(stream, address, Part::Reply(Box::new(session.reply())));
        // The reader closes after the last packet; an error of the disk ends the connection before.
        while let Ok(Some(packet)) = session.next_packet() {
            let last = packet.head.last;
            scene.push(stream, address, Part::Packet(packet));
            if last {
                return;
            }
        }
        scene.close(stream, address);
        self.note_damage(setup.block.id, scene);
    }

    /// The planted bug: the replica's stamp is not compared.
    fn read_whatever_is_there(&self, setup: &ReadSetup) -> Result<ReadSession, (transfer::Status, String)> {
        let failed = |why: String| (transfer::Status::Error, why);
        let Some(running) = &self.running else { return Err(failed("down".to_owned())) };
        let store = running.node.store();
        let (_, replica) = store.replica(setup.block.id).ok_or_else(|| failed("no replica".to_owned()))?;
        let block = BlockRef { stamp: replica.stamp, ..setup.block.clone() };
        store
            .open_reader(&block)
            .and_then(|reader| ReadSession::new(reader, setup.offset_bytes, setup.len_bytes, setup.send_checksums))
            .map_err(|error| failed(error.to_string()))
    }
}
