//! Committed entries: applied to the namespace, carried over to the block map, answered.

use base::clock::Moment;
use parking_lot::RwLockWriteGuard;
use prost::Message;
use proto::error::{ErrorCode, FsError};
use proto::ids::LogIndex;
use proto::log::Entry;

use super::batch::{Step, Then};
use super::{Effect, NamenodeCore};
use crate::consensus::{CommittedEntry, ImageInfo, ImageReader, Role};
use crate::namespace::{Applied, ImageError, Namespace};
use crate::service::View;

/// Effects on the block map that are taken over before waiting readers are let in.
const EFFECTS_AT_ONCE: usize = 64;

impl NamenodeCore {
    /// Applies one entry and answers whoever waits for it.
    pub(super) fn commit(&mut self, committed: &CommittedEntry, (now, wall_ns): (Moment, i64), out: &mut Vec<Effect>) {
        let entry = match decode(committed) {
            Ok(entry) => entry,
            Err(reason) => return self.stop(reason, out),
        };
        let applied = self.apply(committed, &entry);
        self.applied = committed.index;
        self.upkeep.note_entry(committed.payload.len());
        self.sync_storages();
        self.sync_services(now);
        self.carry_over(&applied, now);
        self.note_leases(&entry, &applied, now);
        let ours =
            |flight: &super::Flight| (flight.proposed.index, flight.proposed.term) == (committed.index, committed.term);
        if self.flights.get(&committed.context).is_some_and(ours)
            && let Some(flight) = self.flights.remove(&committed.context)
        {
            for ((then, applied), command) in flight.items.into_iter().zip(applied).zip(&entry.commands) {
                match applied.unchecked {
                    Some(top) => self.begin_check(then, (&entry, command), top, applied, out),
                    None => self.settle(then, applied, (now, wall_ns), out),
                }
            }
        }
    }

    /// Applies an entry a few commands at a time: in between whoever waits may read. Nobody else writes, so what is
    /// seen then is what a shorter entry would have left.
    fn apply(&self, committed: &CommittedEntry, entry: &Entry) -> Vec<Applied> {
        let mut namespace = self.shared.namespace.write();
        if let Err(refusal) = namespace.begin(committed.index, committed.term, entry) {
            return entry.commands.iter().map(|_| Applied::refused(refusal.clone())).collect();
        }
        let mut applied = Vec::with_capacity(entry.commands.len());
        while let Some(rest) = entry.commands.get(applied.len()..).filter(|rest| !rest.is_empty()) {
            if !applied.is_empty() {
                RwLockWriteGuard::bump(&mut namespace);
            }
            applied.extend(namespace.apply_within(entry, rest));
        }
        applied
    }

    /// Tells the block map what an entry did, a few effects at a time, and has it judge what became due meanwhile.
    fn carry_over(&self, applied: &[Applied], now: Moment) {
        let namespace = self.shared.namespace.read();
        let mut blocks = self.shared.blocks.write();
        let mut taken = 0;
        for effect in applied.iter().flat_map(|applied| &applied.effects) {
            if taken == EFFECTS_AT_ONCE {
                blocks.judge_due(&*namespace, now, 2 * taken);
                taken = 0;
                RwLockWriteGuard::bump(&mut blocks);
            }
            blocks.effect(effect, &*namespace, now);
            taken += 1;
        }
        blocks.judge_due(&*namespace, now, 2 * taken);
    }

    fn settle(&mut self, then: Then, applied: Applied, (now, wall_ns): (Moment, i64), out: &mut Vec<Effect>) {
        match then {
            Then::Answer { ticket, user, request } => {
                let life_ms = i64::try_from(self.config.token_life.as_millis()).unwrap_or(i64::MAX);
                let looked_up = applied.looked_up;
                let decided = |error: FsError| if looked_up { error.decided() } else { error };
                let response = applied.result.map_err(decided).and_then(|outcome| {
                    self.shared.with((wall_ns, life_ms), |view: &View<'_>| view.answer(&user, &request, outcome))
                });
                let response = match response {
                    Err(error) if error.code == ErrorCode::FileOpen => {
                        Err(decided(self.want_open_file(&request, error, now)))
                    }
                    response => response,
                };
                out.push(Effect::Reply { ticket, response });
            }
            Then::Register { ticket, request, last: true, caller } => {
                tracing::debug!(address = caller.address, "storages are registered");
                let response = applied.result.and_then(|_| self.go_on_registering(&request, now));
                out.push(Effect::Reply { ticket, response });
            }
            Then::Register { .. } => {}
            Then::Recovery(inode) => self.recovery_applied(inode, applied.result, now),
            Then::Upkeep(step) => {
                if let Err(error) = &applied.result {
                    tracing::warn!(?step, %error, "an operation of the cluster itself was refused");
                }
                self.upkeep.done(step);
                if step == Step::Format {
                    self.look_at_safe_mode(now);
                }
            }
        }
    }

    /// Leadership as of now: begins or ends it.
    pub(super) fn new_role(&mut self, role: Role, now: Moment, out: &mut Vec<Effect>) {
        let before = std::mem::replace(&mut self.role, role);
        {
            let mut member = self.shared.member.write();
            member.term = role.term;
            member.serving = role.serving;
            member.alone = self.alone();
        }
        if (before.serving, before.term) == (role.serving, role.term) {
            return;
        }
        if before.serving {
            tracing::info!(term = before.term.raw(), "this namenode leads no more");
            // What it knew of a million blocks is given back after the lock.
            let before = self.shared.blocks.write().follow();
            drop(before);
            self.upkeep.running.clear();
            self.abandon_all(out);
        }
        if role.serving {
            let (hash, applied) = {
                let namespace = self.shared.namespace.read();
                (namespace.state_hash(), namespace.applied().0)
            };
            tracing::info!(
                term = role.term.raw(),
                applied = applied.raw(),
                state_hash = format_args!("{hash:016x}"),
                "this namenode leads"
            );
            self.begin_leases(now);
            self.upkeep.last_entry = now;
            let before = self.shared.blocks.write().lead(role.term, now);
            drop(before);
            self.look_at_safe_mode(now);
            self.bootstrap();
        }
    }

    /// Replaces the state by an image that the leader sent.
    pub(super) fn install(&mut self, image: &ImageInfo, out: &mut Vec<Effect>) {
        let index = image.meta.index;
        let loaded = match self.images.open(index) {
            Ok(mut reader) => load(&mut reader).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match loaded {
            Ok(namespace) => {
                // Millions of records are given back after the lock.
                let before = std::mem::replace(&mut *self.shared.namespace.write(), namespace);
                drop(before);
                let before = self.shared.blocks.write().forget_replicas();
                drop(before);
                self.applied = index;
                self.sync_storages();
                tracing::info!(index = index.raw(), "an image of the leader was installed");
            }
            Err(reason) => self.stop(format!("the image at {index} cannot be loaded: {reason}"), out),
        }
    }

    pub(super) fn stop(&mut self, reason: String, out: &mut Vec<Effect>) {
        self.stopped = true;
        self.shared.member.write().serving = false;
        out.push(Effect::Stop(reason));
    }

    /// Index of the last applied entry.
    #[must_use]
    pub const fn applied(&self) -> LogIndex {
        self.applied
    }
}

/// Loads the namespace of an image. It must be the one that the image's header speaks of: entries are applied
/// behind the header's index.
pub(super) fn load(image: &mut ImageReader) -> Result<Namespace, ImageError> {
    let meta = image.info().meta;
    let namespace = Namespace::read_from(image)?;
    if namespace.applied() == (meta.index, meta.term) && namespace.state_hash() == meta.state_hash {
        return Ok(namespace);
    }
    let what = format!("its header says {} and hash {:016x}, its body does not", meta.index, meta.state_hash);
    Err(ImageError::Damaged { what, section: 0, offset: 0 })
}

/// An entry of a newer program, or one that is no entry, stops the member: it must not be skipped.
fn decode(committed: &CommittedEntry) -> Result<Entry, String> {
    if committed.payload.is_empty() {
        return Ok(Entry::default());
    }
    let entry = Entry::decode(committed.payload.as_ref())
        .map_err(|error| format!("the log entry at {} cannot be decoded: {error}", committed.index))?;
    Namespace::check_version(&entry).map_err(|error| format!("the log entry at {}: {error}", committed.index))?;
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use base::crash::CrashPoint;
    use base::disk::{Disk, MemDisk};
    use base::random::{Randomness, SeededRandom};
    use proto::ids::{ClusterId, MemberId, PoolId, Term};

    use super::*;
    use crate::consensus::{Consensus, ConsensusConfig, Identity, ImageMeta};

    #[test]
    fn n_8_an_image_whose_body_is_of_another_index_or_hash_is_refused() {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/nn"), CrashPoint::CreateServerDir).unwrap();
        let member = MemberId::from_raw(1);
        let (cluster, pool) = (ClusterId::new("1"), PoolId::new("1"));
        let identity = Identity { cluster, pool, member, initial_voters: vec![member] };
        let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(1));
        let (shared, config) = (disk.shared(), ConsensusConfig::default());
        Consensus::format(&shared, Path::new("/nn"), &identity, &config, &random).unwrap();
        let images = Consensus::open(&shared, Path::new("/nn"), None, config, &random).unwrap().images;
        let mut namespace = Namespace::new();
        for (index, said, hash_offset) in [(3, 3, 0), (4, 5, 0), (6, 6, 1)] {
            namespace.apply(LogIndex::from_raw(index), Term::from_raw(1), &Entry::default());
            let state_hash = namespace.state_hash() + hash_offset;
            let meta = ImageMeta { index: LogIndex::from_raw(said), term: Term::from_raw(1), state_hash };
            let frozen = namespace.freeze();
            images.write(meta, &mut |out| frozen.write_to(out).map_err(std::io::Error::other)).unwrap();
            let loaded = load(&mut images.open(meta.index).unwrap());
            assert_eq!(loaded.is_ok(), (index, hash_offset) == (said, 0), "index {index}");
        }
    }
}
