//! The scrubbers: a step is an event, so that anything may come between two of them.

use std::time::Duration;

use datanode::scrub::ScrubOptions;
use datanode::store::Turn;

use super::DatanodeHost;
use crate::coverage::Rare;
use crate::hosts::millis;
use crate::message::Timer;
use crate::scene::Scene;

/// So much that every replica is read some times in a run, and not all of them at once.
pub(super) const OPTIONS: ScrubOptions = ScrubOptions { rate_bytes_per_s: 4 << 20, period: Duration::from_secs(20) };

impl DatanodeHost {
    /// Lets the scrubber of each volume begin, where the run has them.
    pub(super) fn start_scrubs(&self, scene: &mut Scene) {
        let Some(running) = &self.running else { return };
        for volume in 0..running.scrubs.len() {
            scene.wake(self.address(), self.life, millis(1), Timer::Scrub(volume));
        }
    }

    /// One step of a volume's scrubber.
    pub(super) fn scrub(&mut self, volume: usize, scene: &mut Scene) {
        let (now, wall_s) = (scene.now(), u64::try_from(self.wall_ms(scene) / 1000).unwrap_or(0));
        let Some(scrub) = self.running.as_ref().and_then(|running| running.scrubs.get(volume)) else { return };
        if let Some(until) = self.scrub_waits(scrub.storage()) {
            return scene.wake(self.address(), self.life, until.since(now), Timer::Scrub(volume));
        }
        let Some(scrub) = self.running.as_mut().and_then(|running| running.scrubs.get_mut(volume)) else { return };
        let turn = scrub.turn(now, wall_s);
        let wait = match &turn {
            Turn::Rest(until) => until.since(now).max(millis(1)),
            Turn::Did { .. } => millis(1),
        };
        scene.wake(self.address(), self.life, wait, Timer::Scrub(volume));
        if let Turn::Did { damaged: Some(block), .. } = turn {
            scene.hit(Rare::ScrubberFound);
            scene.say(format_args!("the scrubber of {:?} found {block} damaged", self.address()));
            self.note_damage(block, scene);
        }
    }
}
