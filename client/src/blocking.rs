//! The client without `async`: for programs that have no runtime.
//!
//! ```text
//!   your thread ── call ──▶ Engine: a small runtime of this client's own ── the async client
//! ```
//!
//! Every call blocks its thread until it is over. Inside an async runtime that would stop the runtime's other tasks, so
//! such calls are refused with [`ErrorCode::InvalidArgument`] instead: use [`crate::Client`] there.
//!
//! ```
//! use std::io::{Read, Write};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let elsewhere = tokio::runtime::Runtime::new()?;
//! # let cluster = elsewhere.block_on(minicluster::MiniCluster::start(1))?;
//! # let address = cluster.uri();
//! use client::blocking::Client;
//!
//! let client = Client::new(client::Client::builder().connect(address).user("root"))?;
//! let mut file = client.create("/hello", Default::default())?;
//! file.write_all(b"hello")?;
//! file.close()?;
//!
//! let mut text = String::new();
//! client.open("/hello")?.read_to_string(&mut text)?;
//! assert_eq!(text, "hello");
//!
//! // Whatever has no method here:
//! let summary = client.run(|client| async move { client.content_summary("/").await })?;
//! assert_eq!(summary.files, 1);
//! # elsewhere.block_on(cluster.shutdown())?;
//! # Ok(())
//! # }
//! ```

mod reader;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{DeleteResponse, FileStatus};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::{AppendOptions, ClientBuilder, CreateOptions, RecoveredLease, Replace, Split, SplitOptions, Truncated};
pub use reader::Reader;
pub use writer::Writer;

/// Threads of a client's runtime: one receives and verifies while the other does.
const THREADS: usize = 2;
/// Time that dropped writers have, when the last clone of a client goes, to tell the namenode of it.
const SETTLE: Duration = Duration::from_secs(1);

/// A cluster, as one user sees it. Cloning is cheap; all clones share connections, the session and the runtime.
#[derive(Clone, Debug)]
pub struct Client {
    client: crate::Client,
    engine: Arc<Engine>,
}

/// The runtime. It ends with the last client, reader and writer.
#[derive(Debug)]
struct Engine {
    /// Always there, until it is dropped.
    runtime: Option<Runtime>,
    client: crate::Client,
}

impl Engine {
    fn run<T>(&self, call: impl Future<Output = T>) -> FsResult<T> {
        if !may_block() {
            let text = "a blocking call was made inside an async runtime, whose other tasks it would stop";
            return Err(FsError::new(ErrorCode::InvalidArgument, text)
                .with_hint("use client::Client there, or call from a thread of its own (std::thread::spawn)"));
        }
        let gone = || FsError::new(ErrorCode::Internal, "the client's runtime is gone");
        Ok(self.runtime.as_ref().ok_or_else(gone)?.block_on(call))
    }
}

/// Not on threads of a runtime, those of `spawn_blocking` included (they cannot be told from others), and not where
/// a thread is ending and tokio's own state is gone already.
fn may_block() -> bool {
    Handle::try_current().is_err_and(|error| error.is_missing_context())
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if may_block() {
            runtime.block_on(self.client.settle(SETTLE));
        }
        // Never waits: a client may be dropped anywhere, also inside another runtime.
        runtime.shutdown_background();
    }
}

impl Client {
    /// A client with a runtime of its own. Nothing is dialled before the first call.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`]; [`ErrorCode::Internal`] if the machine has no room for further threads.
    pub fn new(builder: ClientBuilder) -> FsResult<Self> {
        let client = builder.build()?;
        let no_threads = |error| FsError::new(ErrorCode::Internal, format!("a client's threads do not start: {error}"));
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("blockyard-io")
            .enable_all()
            .build()
            .map_err(no_threads)?;
        let engine = Arc::new(Engine { runtime: Some(runtime), client: client.clone() });
        Ok(Self { client, engine })
    }

    /// Makes any calls of the async client, and waits for what comes of them.
    ///
    /// # Errors
    /// Those of the calls; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn run<T, F: Future<Output = FsResult<T>>>(&self, calls: impl FnOnce(crate::Client) -> F) -> FsResult<T> {
        self.engine.run(calls(self.client.clone()))?
    }

    /// As [`crate::Client::create`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn create(&self, path: &str, options: CreateOptions) -> FsResult<Writer> {
        let writer = self.engine.run(self.client.create(path, options))??;
        Ok(Writer::new(writer, Arc::clone(&self.engine)))
    }

    /// As [`crate::Client::append`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn append(&self, path: &str, options: AppendOptions) -> FsResult<Writer> {
        let writer = self.engine.run(self.client.append(path, options))??;
        Ok(Writer::new(writer, Arc::clone(&self.engine)))
    }

    /// As [`crate::Client::truncate`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn truncate(&self, path: &str, len_bytes: u64) -> FsResult<Truncated> {
        self.engine.run(self.client.truncate(path, len_bytes))?
    }

    /// As [`crate::Client::truncate_expecting`].
    ///
    /// # Errors
    /// As there.
    pub fn truncate_expecting(&self, path: &str, len_bytes: u64, expected_len_bytes: u64) -> FsResult<Truncated> {
        self.engine.run(self.client.truncate_expecting(path, len_bytes, expected_len_bytes))?
    }

    /// As [`crate::Client::recover_lease`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn recover_lease(&self, path: &str) -> FsResult<RecoveredLease> {
        self.engine.run(self.client.recover_lease(path))?
    }

    /// As [`crate::Client::recover_lease_accepting_loss`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn recover_lease_accepting_loss(&self, path: &str) -> FsResult<RecoveredLease> {
        self.engine.run(self.client.recover_lease_accepting_loss(path))?
    }

    /// As [`crate::Client::open`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn open(&self, path: &str) -> FsResult<Reader> {
        let reader = self.engine.run(self.client.open(path))??;
        Ok(Reader::new(reader, Arc::clone(&self.engine)))
    }

    /// As [`crate::Client::stat`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn stat(&self, path: &str) -> FsResult<FileStatus> {
        self.engine.run(self.client.stat(path))?
    }

    /// All entries of a directory, by name. For directories that may be huge, go through [`crate::Client::list`] with
    /// [`Client::run`].
    ///
    /// # Errors
    /// As [`crate::Listing::next`]; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn list(&self, path: &str) -> FsResult<Vec<FileStatus>> {
        let listing = self.client.list(path)?;
        self.engine.run(listing.collect())?
    }

    /// As [`crate::Client::mkdir`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn mkdir(&self, path: &str, mode: u32, parents: bool) -> FsResult<FileStatus> {
        self.engine.run(self.client.mkdir(path, mode, parents))?
    }

    /// As [`crate::Client::rename`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn rename(&self, from: &str, to: &str, replace: Replace) -> FsResult<()> {
        self.engine.run(self.client.rename(from, to, replace))?
    }

    /// As [`crate::Client::delete`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn delete(&self, path: &str, recursive: bool) -> FsResult<DeleteResponse> {
        self.engine.run(self.client.delete(path, recursive))?
    }

    /// As [`crate::Client::splits`].
    ///
    /// # Errors
    /// As there; [`ErrorCode::InvalidArgument`] inside an async runtime.
    pub fn splits(&self, path: &str, options: &SplitOptions) -> FsResult<Vec<Split>> {
        self.engine.run(self.client.splits(path, options))?
    }
}
