//! A disk of a datanode does not answer for a while.

use base::random::{Randomness, SeededRandom};

use super::Kind;
use crate::cluster::Cluster;
use crate::hosts::{DatanodeHost, millis};
use crate::message::Event;

impl Cluster {
    /// Lets one of the disks hang, if not too many nodes are in trouble. `random` is not that of the other faults.
    pub(crate) fn begin_hang(&mut self, random: &SeededRandom) {
        let at = random.below(self.datanodes.len() as u64) as usize;
        let volume = random.below(2) as usize;
        // Not noticed; slow; so long that its replicas count as away.
        let lasts = match random.below(4) {
            0 => millis(200 + random.below(1_500)),
            1 => millis(3_000 + random.below(4_000)),
            _ => millis(11_000 + random.below(12_000)),
        };
        let failed = |host: &DatanodeHost| host.faulty || !host.is_up();
        if failed(&self.datanodes[at]) || self.datanodes.iter().filter(|host| failed(host)).count() >= 2 {
            return;
        }
        let host = &mut self.datanodes[at];
        let until = self.scene.now().plus(lasts);
        host.begin_hang(volume % host.volumes(), until);
        let life = host.life();
        self.scene.after(lasts, Event::HangOver(at, life));
        self.scene.say(format_args!("FAULT {:?} of datanode {at} for {lasts:?}", Kind::HangDisk));
        self.scene.trace.mix(&[Kind::HangDisk as u64]);
        self.faults.count += 1;
        self.faults.kinds.insert(Kind::HangDisk);
    }
}
