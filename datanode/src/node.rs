//! What every operation of this node needs: its store, its keys, and the checks before anything is touched.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use proto::ids::{NodeId, Term};
use transfer::local::ACCESS_VERSION;
use transfer::{
    BlockRef, BorrowSetup, ChecksumKind, LocalLoan, Progress, ReadSetup, ReplicaStateSetup, Status, TransferSetup,
    VerifySetup, WriteSetup, WriteStage,
};

use auth::NodeKeys;
use auth::token::{self, Mode, Wanted};

use crate::commands::{CopyError, CopyJob};
use crate::serve::{ReadSession, SHORT_BYTES};
use crate::store::{Borrower, ReplicaReader, ReplicaWriter, Store, StoreError, Verification, Wish};

/// An operation refused before it began.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// As told to the peer.
    pub status: Status,
    /// For people.
    pub message: String,
}

impl Refusal {
    fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::new(error.status(), crate::receive::chain(&error))
    }
}

/// A datanode without its sockets.
#[derive(Debug)]
pub struct Node {
    store: Store,
    keys: RwLock<NodeKeys>,
    highest_term: AtomicU64,
}

impl Node {
    /// A node over its store. It opens nothing until [`Node::set_keys`].
    #[must_use]
    pub fn new(store: Store) -> Self {
        let highest_term = AtomicU64::new(store.highest_term().raw());
        Self { store, keys: RwLock::new(NodeKeys::default()), highest_term }
    }
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &NodeId {
        self.store.node()
    }
    /// Its store.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }
    /// Takes the keys of a registration.
    pub fn set_keys(&self, keys: NodeKeys) {
        *self.keys.write() = keys;
    }
    /// The highest term that this node has seen, durable or not: commands of lower ones are void.
    #[must_use]
    pub fn highest_term(&self) -> Term {
        Term::from_raw(self.highest_term.load(Ordering::SeqCst))
    }
    pub(crate) fn saw_term(&self, term: Term) {
        self.highest_term.fetch_max(term.raw(), Ordering::SeqCst);
    }
    /// Number of the newest key; `None` before the first registration.
    #[must_use]
    pub fn key_number(&self) -> Option<u32> {
        self.keys.read().newest().map(|(number, _)| number)
    }
    pub(crate) fn with_keys<T>(&self, run: impl FnOnce(&NodeKeys) -> T) -> T {
        run(&self.keys.read())
    }

    /// Checks a write and starts its replica, or goes on with one; whoever wrote that is stopped for good. `now_wall_ms` is for the token's end only.
    ///
    /// # Errors
    /// [`Refusal`], to be sent to the peer. Nothing stays behind.
    pub fn begin_write(&self, setup: &WriteSetup, now_wall_ms: i64) -> Result<ReplicaWriter, Refusal> {
        self.begin_write_within(setup, now_wall_ms, &|| false)
    }
    /// As [`Node::begin_write`]; what is appended to is read before, until `is_late`.
    ///
    /// # Errors
    /// As [`Node::begin_write`].
    pub fn begin_write_within(
        &self,
        setup: &WriteSetup,
        now_wall_ms: i64,
        is_late: &dyn Fn() -> bool,
    ) -> Result<ReplicaWriter, Refusal> {
        if matches!(setup.stage, WriteStage::DataStreaming | WriteStage::PipelineClose | WriteStage::TransferFinalized)
        {
            let what = setup.stage.as_str_name();
            return Err(Refusal::new(Status::ErrorUnsupported, format!("{what} is not offered by this version")));
        }
        if setup.chunks.kind() == ChecksumKind::Null {
            return Err(Refusal::new(Status::ErrorUnsupported, "blocks are written with checksums only"));
        }
        // A datanode that copies has no client.
        let mode = if setup.client_name.is_empty() { Mode::Copy } else { Mode::Write };
        if setup.new_stamp < setup.block.stamp {
            return Err(Refusal::new(Status::ErrorInvalid, "the new generation stamp is below the block's"));
        }
        let block = BlockRef { stamp: setup.new_stamp, ..setup.block.clone() };
        self.check_token(&setup.token, &block, mode, now_wall_ms)?;
        // Storages of Hadoop clients may be left out of a pipeline: then this node chooses.
        let storage = setup.storage.as_ref().filter(|storage| storage.as_str() != transfer::op::ANY_STORAGE);
        if setup.stage != WriteStage::PipelineSetupCreate {
            if mode == Mode::Copy {
                return Err(Refusal::new(Status::ErrorInvalid, "only the writer of a block goes on with it"));
            }
            // The token says from which stamp on its bearer may touch replicas: the one that the header names is not below.
            self.check_token(&setup.token, &setup.block, mode, now_wall_ms)?;
            let (stage, floor, new_stamp) = (setup.stage, setup.block.stamp, setup.new_stamp);
            let wish = Wish { stage, floor, new_stamp, min_bytes: setup.min_bytes, max_bytes: setup.max_bytes };
            let writer = self.store.resume_within(&setup.block, &wish, storage, setup.chunks, is_late)?;
            writer.set_observed(setup.digest_observed);
            return Ok(writer);
        }
        let writer = match mode {
            Mode::Copy => self.store.create_copy(&block, storage, setup.chunks)?,
            Mode::Read | Mode::Write => self.store.create_new(&block, storage, setup.chunks)?,
        };
        writer.set_observed(setup.digest_observed);
        Ok(writer)
    }

    /// Checks a read and opens the replica.
    ///
    /// # Errors
    /// As [`Node::begin_write`].
    pub fn begin_read(&self, setup: &ReadSetup, now_wall_ms: i64) -> Result<ReadSession, Refusal> {
        self.check_token(&setup.token, &setup.block, Mode::Read, now_wall_ms)?;
        let reader = match setup.len_bytes <= SHORT_BYTES {
            true => self.store.open_shared(&setup.block)?,
            false => self.store.open_reader(&setup.block)?,
        };
        Ok(ReadSession::new(reader, setup.offset_bytes, setup.len_bytes, setup.send_checksums)?)
    }

    /// Checks a request to read a replica whole; nothing is read yet.
    ///
    /// # Errors
    /// As [`Node::begin_write`].
    pub fn begin_verify(&self, setup: &VerifySetup, now_wall_ms: i64) -> Result<Verification, Refusal> {
        self.check_token(&setup.token, &setup.block, Mode::Read, now_wall_ms)?;
        Ok(self.store.begin_verify(&setup.block)?)
    }

    /// How far a replica is, for its readers and its writer. From memory. `None`: there is none here, on no disk of this
    /// node; one that cannot be served is a refusal.
    ///
    /// # Errors
    /// As [`Node::begin_write`].
    pub fn progress(&self, setup: &ReplicaStateSetup, now_wall_ms: i64) -> Result<Option<Progress>, Refusal> {
        let may = |mode| self.check_token(&setup.token, &setup.block, mode, now_wall_ms);
        may(Mode::Read).or_else(|_refusal| may(Mode::Write))?;
        match self.store.progress(&setup.block) {
            Ok(progress) => Ok(Some(progress)),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Checks a request to bring another node up to date, and opens what is sent: what was acknowledged through this node,
    /// and its leaves.
    ///
    /// # Errors
    /// As [`Node::begin_write`]; [`Status::ErrorInvalid`] if this node has less than is asked for.
    pub fn begin_transfer(&self, setup: &TransferSetup, now_wall_ms: i64) -> Result<CopyJob, Refusal> {
        self.check_token(&setup.token, &setup.block, Mode::Write, now_wall_ms)?;
        let new_stamp = setup.new_stamp.unwrap_or(setup.block.stamp);
        let wanted_bytes = setup.block.len_bytes;
        let reader = self.store.open_for_transfer(&setup.block)?;
        if reader.len_bytes() < wanted_bytes {
            let text = format!("{wanted_bytes} bytes are asked for, {} were acknowledged here", reader.len_bytes());
            return Err(Refusal::new(Status::ErrorInvalid, text));
        }
        crate::commands::begin_transfer(setup, new_stamp, reader).map_err(|error| match error {
            CopyError::Store(error) => error.into(),
            other => Refusal::new(Status::ErrorInvalid, other.to_string()),
        })
    }

    /// Checks a request for descriptors, and lends them. A change of the replica since calls the loan back.
    ///
    /// # Errors
    /// As [`Node::begin_write`]; [`Status::Error`] if too many are lent, [`Status::ErrorUnsupported`] for readers that do
    /// not know this layout of files.
    pub fn begin_loan(
        &self,
        setup: &BorrowSetup,
        borrower: &Borrower,
        now_wall_ms: i64,
    ) -> Result<(LocalLoan, ReplicaReader), Refusal> {
        self.check_token(&setup.token, &setup.block, Mode::Read, now_wall_ms)?;
        if setup.max_version < ACCESS_VERSION {
            let text = format!("this node lends files of version {ACCESS_VERSION} only");
            return Err(Refusal::new(Status::ErrorUnsupported, text));
        }
        // Entered before the files are opened, so that whoever changes the replica from now on finds the loan.
        let loan = borrower.lend(setup.block.id).map_err(|full| Refusal::new(Status::Error, full.to_string()))?;
        let opened = self.store.open_whole(&setup.block).map_err(Refusal::from).and_then(|reader| {
            if borrower.holds(loan) {
                return Ok(reader);
            }
            Err(Refusal::new(Status::Error, "the replica changed while it was opened"))
        });
        let reader = opened.inspect_err(|_| borrower.give_back(loan))?;
        let lent = LocalLoan {
            loan,
            node: self.id().clone(),
            stamp: reader.stamp(),
            data_offset_bytes: 0,
            len_bytes: reader.len_bytes(),
            checksums_offset_bytes: reader.checksums().1,
            chunks: reader.chunks(),
        };
        Ok((lent, reader))
    }

    fn check_token(&self, bytes: &[u8], block: &BlockRef, mode: Mode, now_wall_ms: i64) -> Result<(), Refusal> {
        let wanted = Wanted { pool: &block.pool, block: block.id, stamp: block.stamp, mode };
        let checked = token::decode(bytes)
            .and_then(|token| self.with_keys(|keys| token::check(Some(&token), keys, self.id(), &wanted, now_wall_ms)));
        checked.map_err(|error| Refusal::new(Status::ErrorAccessToken, error.to_string()))
    }
}
