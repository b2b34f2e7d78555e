//! The client: how it is built, and the calls on names.

use std::sync::Arc;
use std::time::Duration;

use base::clock::{Clock, Moment, SystemClock};
use base::random::{OsRandom, Randomness};
use base::task::TaskTracker;
use parking_lot::Mutex;
use proto::common::{Block, LocatedBlock};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::SessionId;
use proto::methods::Method;
use proto::namespace as n;
use proto::namespace::FileStatus;
use proto::path::FsPath;

use transfer::BlockDigest;

use crate::address::ClusterAddress;
use crate::avoid::Avoided;
use crate::list::Listing;
use crate::read::buffers::Buffers;
use crate::read::idle::IdleConnections;
use crate::read::local::{Lenders, LocalFigures, LocalReads};
use crate::read::race::Hedging;
use crate::read::{ReadConfig, Reader, Shown};
use crate::retry::unread_success;
use crate::rpc::{Call, Carrier, Rpc};
use crate::session::Session;
use crate::splits::{Split, SplitOptions, splits};
use crate::write::{WriteConfig, Writer};

/// Deadline of a call when the builder names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time to tell a namenode that a writer gave up; then it is tried again after pauses, up to the hard limit of leases.
const DISCARD: Duration = Duration::from_secs(3);
const DISCARD_PAUSE: Duration = Duration::from_secs(10);
const DISCARD_TRIES: u32 = 120;
/// How long a cluster that was never reached is tried when the builder says nothing.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);

/// A cluster, as one user sees it. Cloning is cheap; all clones share connections and the session.
///
/// Every call ends by its deadline and says what is known: [`ErrorCode::OutcomeUnknown`] only if the call may
/// have taken effect. Futures may be dropped at any time; a call that changes something may then have happened.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones, writers and readers share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) rpc: Rpc,
    session: Mutex<Arc<Session>>,
    timeout: Duration,
    pub(crate) name: String,
    host: String,
    pub(crate) write: WriteConfig,
    pub(crate) read: ReadConfig,
    pub(crate) avoided: Avoided,
    /// What was shown of open blocks.
    pub(crate) shown: Mutex<Shown>,
    pub(crate) idle: Arc<IdleConnections>,
    pub(crate) local: Lenders,
    /// What readers hold ahead of their applications.
    pub(crate) buffers: Arc<Buffers>,
    /// What positional reads receive.
    pub(crate) positional: Buffers,
    pub(crate) hedging: Hedging,
    pub(crate) tasks: TaskTracker,
    /// Tasks that nobody waits for: what they do is done at the end in any case.
    pub(crate) rests: TaskTracker,
    /// The session whose leases were renewed last, and when.
    renewed: Mutex<Option<(SessionId, Moment)>>,
}

/// Builds a [`Client`].
#[derive(Debug)]
pub struct ClientBuilder {
    address: Option<String>,
    carrier: Carrier,
    user: String,
    host: String,
    timeout: Duration,
    patience: Duration,
    write: WriteConfig,
    read: ReadConfig,
    local_reads: LocalReads,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Randomness>,
}

impl ClientBuilder {
    /// Names the cluster: `blockyard://host:port[,host:port…]`.
    #[must_use]
    pub fn connect(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }
    /// What carries the calls; [`Carrier::Framed`] unless set.
    #[must_use]
    pub const fn carrier(mut self, carrier: Carrier) -> Self {
        self.carrier = carrier;
        self
    }
    /// Names the calling user.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }
    /// Says on which host the caller runs, so that replicas near it are preferred.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }
    /// Deadline of each call; 30 s unless set.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
    /// How long calls try a cluster that this client has never reached; 10 s unless set.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
    /// Bounds of writers.
    #[must_use]
    pub const fn write_config(mut self, config: WriteConfig) -> Self {
        self.write = config;
        self
    }
    /// Whether blocks get a digest beside their CRCs, unless [`CreateOptions::digest`] says otherwise;
    /// [`BlockDigest::Sha256`] unless set. Part of [`ClientBuilder::write_config`].
    #[must_use]
    pub const fn digest(mut self, digest: BlockDigest) -> Self {
        self.write.digest = digest;
        self
    }
    /// Bounds of readers.
    #[must_use]
    pub const fn read_config(mut self, config: ReadConfig) -> Self {
        self.read = config;
        self
    }
    /// Whether replicas on this machine are read through borrowed descriptors; [`LocalReads::Auto`] unless set.
    #[must_use]
    pub const fn local_reads(mut self, local_reads: LocalReads) -> Self {
        self.local_reads = local_reads;
        self
    }
    /// Checks the settings. Nothing is dialled before the first call.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for a malformed or missing address, or an empty user.
    pub fn build(self) -> FsResult<Client> {
        let missing = |what: &str, hint: &str| {
            FsError::new(ErrorCode::InvalidArgument, format!("no {what} is named")).with_hint(hint)
        };
        let address = self.address.ok_or_else(|| missing("cluster", "call connect(\"blockyard://HOST:PORT\")"))?;
        if self.user.is_empty() {
            return Err(missing("user", "call user(NAME)"));
        }
        let address = ClusterAddress::parse(&address)?;
        let session = Mutex::new(Session::new(self.random.as_ref()));
        let name = format!("blockyard-{:016x}", self.random.next_u64());
        let inner = Inner {
            rpc: Rpc::new(&address, self.carrier, self.user, self.patience, self.clock, self.random)?,
            session,
            timeout: self.timeout,
            name,
            host: self.host,
            write: self.write,
            buffers: Arc::new(Buffers::new(self.read.ahead.client_bytes)),
            positional: Buffers::new(self.read.positional_bytes),
            hedging: Hedging::new(self.read.hedge),
            read: self.read,
            avoided: Avoided::default(),
            shown: Mutex::default(),
            idle: Arc::default(),
            local: Lenders::new(self.local_reads),
            tasks: TaskTracker::new(),
            rests: TaskTracker::new(),
            renewed: Mutex::new(None),
        };
        Ok(Client { inner: Arc::new(inner) })
    }
}

/// How a file is created. The default refuses to replace, wants the directory to exist, and publishes on close.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Replace a file that is there, at the moment of publishing.
    pub overwrite: bool,
    /// Make missing directories above it.
    pub parents: bool,
    /// Permission bits, umask already applied; `None` stands for 0644.
    pub mode: Option<u32>,
    /// Permission bits before the umask: taken instead where a default ACL is inherited.
    pub unmasked_mode: Option<u32>,
    /// Copies; 0 stands for the cluster's default.
    pub replication: u32,
    /// Length of a block in bytes; 0 stands for the cluster's default.
    pub block_size_bytes: u64,
    /// The caller knows that no data follow: then no block is asked for.
    pub empty: bool,
    /// The file is visible, and open, from now on: what it replaces is gone at once, and if the writer does not
    /// close it, it stays listed as open. For callers whose users expect that, such as Hadoop's and a mount's.
    pub publish_at_once: bool,
    /// Whether its blocks get a digest; `None`: as the client does.
    pub digest: Option<BlockDigest>,
}

/// How a file is opened for writing at its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct AppendOptions {
    /// Leave the last block as it is and begin a new one, even if it has room: cheaper for the datanodes, and the block
    /// keeps its digest.
    pub new_block: bool,
    /// Whether new blocks get a digest; `None`: as the client does. A block that is written on has none.
    pub digest: Option<BlockDigest>,
}

/// A change to how a name is moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// A target that exists is an error.
    #[default]
    Refuse,
    /// Replaces a file or an empty directory at the target.
    Allow,
    /// Both names are there, and each gets what the other one had, in one step.
    Exchange,
}

impl Client {
    /// Begins to build a client.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            address: None,
            carrier: Carrier::default(),
            user: String::new(),
            host: String::new(),
            timeout: DEFAULT_TIMEOUT,
            patience: DEFAULT_PATIENCE,
            write: WriteConfig::default(),
            read: ReadConfig::default(),
            local_reads: LocalReads::default(),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(OsRandom),
        }
    }

    /// Creates a file for writing. It appears, whole, when the writer is closed.
    ///
    /// # Errors
    /// The namenode's refusals; [`ErrorCode::OutcomeUnknown`] leaves at most an unpublished file behind.
    pub async fn create(&self, path: &str, options: CreateOptions) -> FsResult<Writer> {
        let path = FsPath::parse(path)?;
        let request = n::CreateRequest {
            header: None,
            path: path.as_str().to_owned(),
            mode: options.mode.unwrap_or(0o644),
            overwrite: options.overwrite,
            parents: options.parents,
            replication: options.replication,
            block_size_bytes: options.block_size_bytes,
            publish: if options.publish_at_once { n::Publish::AtOnce } else { n::Publish::OnClose } as i32,
            // A request for a block can name nodes that are not to get it, this one cannot.
            with_first_block: !options.empty && self.unreachable_nodes().is_empty(),
            client_host: self.inner.host.clone(),
            unmasked_mode: options.unmasked_mode,
        };
        let (answer, session) = self.inner.change("create", &request).await?;
        if answer.status.is_none() {
            return Err(half_told("create"));
        }
        let visible = options.publish_at_once;
        Ok(Writer::start(Arc::clone(&self.inner), session, path, answer, (options.digest, visible)))
    }

    /// Opens a file that is there, and closed, for writing at its end. Where that is, is decided with the lease:
    /// [`Writer::position_bytes`]. Readers see the file all the time, and what is appended from each flush on.
    ///
    /// # Errors
    /// The namenode's refusals: [`ErrorCode::FileOpen`] while somebody else writes the file.
    pub async fn append(&self, path: &str, options: AppendOptions) -> FsResult<Writer> {
        let path = FsPath::parse(path)?;
        let request = n::AppendRequest {
            header: None,
            path: path.as_str().to_owned(),
            new_block: options.new_block,
            client_host: self.inner.host.clone(),
        };
        let (answer, session) = self.inner.change("append", &request).await?;
        if answer.status.is_none() {
            return Err(half_told("append"));
        }
        Ok(Writer::append(Arc::clone(&self.inner), session, path, answer, options.digest))
    }

    /// Identities of datanodes that this client could not reach in the last seconds: its readers ask them last, its writers
    /// ask for blocks on others. A node that answers is trusted at once.
    #[must_use]
    pub fn unreachable_nodes(&self) -> Vec<String> {
        self.inner.avoided.unreachable(self.inner.rpc.clock.now())
    }

    /// Opens a file for reading. One that is being written is read up to what was flushed.
    ///
    /// # Errors
    /// The namenode's refusals; [`ErrorCode::NoReplica`] if the file is being written and nobody can say how long it is.
    pub async fn open(&self, path: &str) -> FsResult<Reader> {
        let path = FsPath::parse(path)?;
        let opened = self.inner.open_whole(&path).await?;
        Reader::new(Arc::clone(&self.inner), path, opened)
    }

    /// Cuts a file into parts for the tasks of a compute job (see [`splits`]).
    ///
    /// # Errors
    /// As [`Client::open`] and [`splits`].
    pub async fn splits(&self, path: &str, options: &SplitOptions) -> FsResult<Vec<Split>> {
        let file = self.open(path).await?.layout();
        splits(&file, options).map_err(|error| error.with_path(path))
    }

    /// What is known of a name.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn stat(&self, path: &str) -> FsResult<FileStatus> {
        let path = FsPath::parse(path)?;
        self.stat_request(n::StatRequest { path: path.into(), ..n::StatRequest::default() }).await
    }

    /// What is known of a name; of a symbolic link itself, not of what it names.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn stat_link(&self, path: &str) -> FsResult<FileStatus> {
        let path = FsPath::parse(path)?;
        self.stat_request(n::StatRequest { path: path.into(), no_follow: true, ..n::StatRequest::default() }).await
    }

    async fn stat_request(&self, request: n::StatRequest) -> FsResult<FileStatus> {
        self.inner.ask("stat", &request).await?.status.ok_or_else(incomplete)
    }

    /// The entries of a directory, page by page, by name. Nothing is asked before the first page is wanted.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidPath`].
    pub fn list(&self, path: &str) -> FsResult<Listing> {
        Ok(Listing::new(self.clone(), FsPath::parse(path)?))
    }

    pub(crate) async fn list_page(&self, path: &FsPath, start_after: &str) -> FsResult<n::ListResponse> {
        let (path, start_after) = (path.as_str().to_owned(), start_after.to_owned());
        self.inner.ask("list", &n::ListRequest { path, start_after, ..n::ListRequest::default() }).await
    }

    /// Makes a directory; with `parents`, also what is missing above it, and an existing one is success.
    /// `mode` has the umask applied already.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn mkdir(&self, path: &str, mode: u32, parents: bool) -> FsResult<FileStatus> {
        self.mkdir_inheriting(path, mode, None, parents).await
    }

    /// As [`Client::mkdir`]; `unmasked_mode` is the mode before the umask: a default ACL that is inherited takes that
    /// and masks by itself.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn mkdir_inheriting(
        &self,
        path: &str,
        mode: u32,
        unmasked_mode: Option<u32>,
        parents: bool,
    ) -> FsResult<FileStatus> {
        let path = FsPath::parse(path)?;
        let request = n::MkdirRequest { header: None, path: path.into(), mode, parents, unmasked_mode };
        let (answer, _) = self.inner.change("mkdir", &request).await?;
        answer.status.ok_or_else(|| half_told("mkdir"))
    }

    /// Renames a file or a tree to exactly `to`, or exchanges two of them.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn rename(&self, from: &str, to: &str, replace: Replace) -> FsResult<()> {
        let (from, to) = (FsPath::parse(from)?, FsPath::parse(to)?);
        let request = n::RenameRequest {
            header: None,
            from: from.into(),
            to: to.into(),
            replace: replace == Replace::Allow,
            exchange: replace == Replace::Exchange,
        };
        self.inner.change("rename", &request).await?;
        Ok(())
    }

    /// Removes a file or a directory, with `recursive` also a full one. Says how much went.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn delete(&self, path: &str, recursive: bool) -> FsResult<n::DeleteResponse> {
        let path = FsPath::parse(path)?;
        let request = n::DeleteRequest { header: None, path: path.into(), recursive };
        Ok(self.inner.change("delete", &request).await?.0)
    }

    /// Health and size of the cluster.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn status(&self) -> FsResult<n::ClusterStatusResponse> {
        self.inner.ask("cluster status", &n::ClusterStatusRequest::default()).await
    }

    /// The datanodes that the namenode knows.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn nodes(&self) -> FsResult<Vec<n::NodeStatus>> {
        Ok(self.inner.ask("node list", &n::ListNodesRequest::default()).await?.nodes)
    }

    /// Identity, defaults and version of the cluster.
    ///
    /// # Errors
    /// The namenode's refusals.
    pub async fn server_info(&self) -> FsResult<n::ServerInfoResponse> {
        self.inner.ask("server info", &n::ServerInfoRequest::default()).await
    }

    /// What was read through borrowed descriptors so far, by all clones.
    #[must_use]
    pub fn local_figures(&self) -> LocalFigures {
        self.inner.local.figures()
    }

    /// Waits until dropped writers have told the namenode that nothing will come of them, `within` at most.
    pub async fn settle(&self, within: Duration) {
        self.inner.tasks.close();
        let waited = tokio::time::timeout(within, self.inner.tasks.wait()).await;
        if waited.is_err() {
            tracing::debug!("writers were still ending after {within:?}");
        }
        self.inner.tasks.reopen();
    }
}

impl Inner {
    /// The end of a call that begins now.
    pub(crate) fn deadline(&self) -> Moment {
        self.rpc.clock.now().plus(self.timeout)
    }

    /// A call that changes nothing.
    pub(crate) async fn ask<M: Method>(&self, operation: &'static str, request: &M) -> FsResult<M::Answer> {
        self.rpc.call(Call { operation, until: self.deadline(), session: None }, request).await
    }

    /// A call that changes something, with the session that it was made in. A session that the namenode has
    /// forgotten is replaced: the refusal proves that the call did not take effect.
    pub(crate) async fn change<M: Method>(
        &self,
        operation: &'static str,
        request: &M,
    ) -> FsResult<(M::Answer, Arc<Session>)> {
        let until = self.deadline();
        let session = self.session.lock().clone();
        match self.rpc.call(Call { operation, until, session: Some(&session) }, request).await {
            Err(error) if error.code == ErrorCode::SessionExpired => {
                let session = self.replace_session(&session);
                let answer = self.rpc.call(Call { operation, until, session: Some(&session) }, request).await?;
                Ok((answer, session))
            }
            other => other.map(|answer| (answer, session)),
        }
    }

    fn replace_session(&self, expired: &Arc<Session>) -> Arc<Session> {
        let mut current = self.session.lock();
        if Arc::ptr_eq(&current, expired) {
            *current = Session::new(self.rpc.random.as_ref());
        }
        Arc::clone(&current)
    }

    /// Located blocks of a range of a file; `len_bytes` 0 is to the end.
    pub(crate) async fn open(
        &self,
        path: &FsPath,
        offset_bytes: u64,
        len_bytes: u64,
        until: Moment,
    ) -> FsResult<n::OpenResponse> {
        let call = Call { operation: "open", until, session: None };
        let (path, client_host) = (path.as_str().to_owned(), self.host.clone());
        let client_machine = self.local.machine().to_owned();
        let request = n::OpenRequest { header: None, path, offset_bytes, len_bytes, client_host, client_machine };
        self.rpc.call(call, &request).await
    }

    /// The next block of a file that a writer holds.
    pub(crate) async fn add_block(
        &self,
        session: &Arc<Session>,
        request: n::AddBlockRequest,
        until: Moment,
    ) -> FsResult<LocatedBlock> {
        let call = Call { operation: "add block", until, session: Some(session) };
        let request = n::AddBlockRequest { client_host: self.host.clone(), ..request };
        self.rpc.call(call, &request).await?.block.ok_or_else(incomplete)
    }

    /// A higher stamp for the block of a writer, and further nodes.
    pub(crate) async fn new_stamp(
        &self,
        session: &Arc<Session>,
        request: n::NewStampRequest,
        until: Moment,
    ) -> FsResult<LocatedBlock> {
        let call = Call { operation: "new stamp", until, session: Some(session) };
        let request = n::NewStampRequest { client_host: self.host.clone(), ..request };
        self.rpc.call(call, &request).await?.block.ok_or_else(incomplete)
    }

    /// The pipeline of a writer stands again.
    pub(crate) async fn update_pipeline(
        &self,
        session: &Arc<Session>,
        request: n::UpdatePipelineRequest,
        until: Moment,
    ) -> FsResult<()> {
        let call = Call { operation: "update pipeline", until, session: Some(session) };
        self.rpc.call(call, &request).await?;
        Ok(())
    }

    /// Makes a file visible that is being written.
    pub(crate) async fn publish(
        &self,
        session: &Arc<Session>,
        request: n::PublishRequest,
        until: Moment,
    ) -> FsResult<()> {
        let call = Call { operation: "publish", until, session: Some(session) };
        self.rpc.call(call, &request).await?;
        Ok(())
    }

    /// Gives a block back.
    pub(crate) async fn abandon_block(
        &self,
        session: &Arc<Session>,
        request: n::AbandonBlockRequest,
        until: Moment,
    ) -> FsResult<()> {
        let call = Call { operation: "abandon block", until, session: Some(session) };
        self.rpc.call(call, &request).await?;
        Ok(())
    }

    /// Publishes a file.
    pub(crate) async fn complete(&self, session: &Arc<Session>, request: n::CompleteRequest) -> FsResult<FileStatus> {
        let call = Call { operation: "publish", until: self.deadline(), session: Some(session) };
        self.rpc.call(call, &request).await?.status.ok_or_else(|| half_told("publish"))
    }

    /// Says that a writer gave up. Whoever waits for it waits for a short time only; if no namenode could be told by then,
    /// it is tried on for as long as this client lives and the lease could last: other writers of the session keep that
    /// alive, and the file would stay locked (SC-43).
    pub(crate) async fn discard(self: &Arc<Self>, session: &Arc<Session>, request: n::DiscardRequest) {
        if self.try_discard(session, &request, DISCARD).await {
            return;
        }
        let (inner, session) = (Arc::downgrade(self), Arc::clone(session));
        base::task::spawn(&self.rests, async move {
            for _ in 0..DISCARD_TRIES {
                tokio::time::sleep(DISCARD_PAUSE).await;
                let Some(inner) = inner.upgrade() else { return };
                if inner.try_discard(&session, &request, DISCARD).await {
                    return;
                }
            }
        });
    }

    /// Was a namenode told?
    async fn try_discard(&self, session: &Arc<Session>, request: &n::DiscardRequest, within: Duration) -> bool {
        let call = Call { operation: "discard", until: self.rpc.clock.now().plus(within), session: Some(session) };
        match self.rpc.call(call, request).await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!("a discarded writer could not be reported: {error}");
                // Whatever else it says, it knows of the file no more than this.
                !error.retryable() && error.code != ErrorCode::OutcomeUnknown
            }
        }
    }

    /// Tells the namenode of a corrupt replica.
    pub(crate) async fn report_bad(&self, block: Block, storage: String) {
        let call = Call {
            operation: "report bad replica",
            until: self.rpc.clock.now().plus(Duration::from_secs(3)),
            session: None,
        };
        let id = block.id;
        let request = n::ReportBadReplicaRequest { header: None, block: Some(block), storages: vec![storage] };
        if let Err(error) = self.rpc.call(call, &request).await {
            tracing::warn!("a corrupt replica of block {id} could not be reported: {error}");
        }
    }

    /// Renews the leases of a session, once in a while however many writers ask.
    pub(crate) async fn renew_lease(&self, session: &Arc<Session>, every: Duration) {
        let now = self.rpc.clock.now();
        let of = *session.id();
        {
            let mut renewed = self.renewed.lock();
            if renewed.is_some_and(|(session, at)| session == of && now.since(at) < every / 2) {
                return;
            }
            *renewed = Some((of, now));
        }
        let call = Call { operation: "renew lease", until: now.plus(Duration::from_secs(10)), session: Some(session) };
        if let Err(error) = self.rpc.call(call, &n::RenewLeaseRequest::default()).await {
            tracing::debug!("leases were not renewed: {error}");
            // The next writer that asks tries again.
            self.renewed.lock().take_if(|(session, at)| *session == of && *at == now);
        }
    }
}

/// An answer without its main part: this client and the namenode do not mean the same by it.
pub(crate) fn incomplete() -> FsError {
    FsError::new(ErrorCode::Corrupt, "the namenode's answer is incomplete")
        .with_hint("use a client of the same release as the cluster")
}

/// The same of a call that changed something: the namenode said yes, and to what is not known.
pub(crate) fn half_told(operation: &str) -> FsError {
    unread_success(operation, &incomplete())
}
