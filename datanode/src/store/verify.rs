//! Reading a replica whole for somebody who asks about it, slice by slice, so that the asker's rate can be kept.
//!
//! As the scrubber: a difference counts when it is seen twice, and is then noted and reported.

use proto::ids::PoolId;
use transfer::Verified;
use transfer::verify::LeafOrigin;

use super::error::StoreError;
use super::look::{Look, LookError, Watch};
use super::replica::ReplicaState;

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyStep {
    /// There is more.
    Going {
        /// Bytes read from the disk.
        bytes: u64,
    },
    /// This is what was found.
    Done(Verified),
}

/// A replica that is being verified.
#[derive(Debug)]
pub struct Verification {
    watch: Watch,
    pool: PoolId,
    look: Option<Look>,
    /// It differed once.
    again: bool,
}

impl Verification {
    pub(crate) const fn new(watch: Watch, pool: PoolId) -> Self {
        Self { watch, pool, look: None, again: false }
    }

    /// Reads on. Waits for the disk. Not to be called after [`VerifyStep::Done`].
    ///
    /// # Errors
    /// [`StoreError::Changed`] if the replica is not the same any more; a want of descriptors or memory.
    pub fn step(&mut self) -> Result<VerifyStep, StoreError> {
        let looked = match &mut self.look {
            Some(look) => look.slice().map(|slice| (slice.bytes, slice.sound)),
            None => Look::begin(&self.watch, &self.pool, None).map(|look| {
                self.look = Some(look);
                (0, false)
            }),
        };
        if !self.watch.is_unchanged() {
            return Err(StoreError::Changed(self.watch.id()));
        }
        match looked {
            Ok((bytes, false)) => Ok(VerifyStep::Going { bytes }),
            Ok((_, true)) => self.note(None),
            Err(LookError::Store(error)) if error.is_exhausted() => Err(error),
            Err(_) if !self.again => {
                (self.again, self.look) = (true, None);
                Ok(VerifyStep::Going { bytes: 0 })
            }
            Err(error) => self.note(Some(crate::receive::chain(&error))),
        }
    }

    fn note(&mut self, damage: Option<String>) -> Result<VerifyStep, StoreError> {
        let (id, replica) = (self.watch.id(), self.watch.replica());
        if let Some(damage) = &damage {
            let storage = &self.watch.volume().storage;
            tracing::error!(block = %id, %storage, damage, "a replica that was asked about is damaged");
        }
        // One that was called damaged stays so: the namespace's digest, which only the namenode sends, may have said it.
        let is_news = damage.is_some() || replica.state == ReplicaState::Finalized;
        if is_news && !self.watch.volume().looked_at(&self.watch, damage.is_none(), false) {
            return Err(StoreError::Changed(id));
        }
        let digest = self.look.as_ref().filter(|_| damage.is_none()).map(Look::digest);
        let leaves = self.look.as_ref().map_or(LeafOrigin::None, Look::leaf_origin);
        let (stamp, len_bytes) = (replica.stamp, replica.len_bytes);
        Ok(VerifyStep::Done(Verified { stamp, len_bytes, digest, damage, leaves }))
    }
}
