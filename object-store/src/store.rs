//! The store: what it is made of, and the trait.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use client::{Client, FsResult};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use crate::error::{Doing, STORE};
use crate::place::Root;
use crate::put::check_attributes;
use crate::upload::Upload;

/// Objects that are removed at the same time.
const REMOVALS: usize = 10;

/// How a store makes and removes objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// Copies of new objects; 0 stands for the cluster's default.
    pub replication: u32,
    /// Length of a block of new objects in bytes; 0 stands for the cluster's default.
    pub block_size_bytes: u64,
    /// Directories that become empty when an object is removed or moved go, too, up to the store's root. An object that
    /// is just being made in such a directory fails then; so this is off unless set.
    pub remove_empty_directories: bool,
}

/// A directory of a cluster as an [`ObjectStore`]: its files are the objects. See the [crate's page](crate) for what holds.
///
/// Cloning is cheap; all clones share the client's connections.
#[derive(Clone)]
pub struct BlockyardStore {
    client: Client,
    root: Root,
    options: StoreOptions,
}

impl BlockyardStore {
    /// All of a cluster, as the client's user sees it.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, root: Root::default(), options: StoreOptions::default() }
    }

    /// A directory of a cluster. It need not exist: the first object makes it. No location names anything above or beside
    /// it. That is an order of names, not a fence: symbolic links are followed, as everywhere in a cluster, also those that
    /// lead out of the directory, and what may be read and written is decided by the rights of the client's user alone.
    /// Whoever must not reach the rest of the cluster needs a user of his own.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidPath`](client::ErrorCode::InvalidPath) unless `directory` is an absolute path.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use blockyard_object_store::BlockyardStore;
    /// use client::Client;
    ///
    /// let client = Client::builder().connect("blockyard://127.0.0.1:8020").user("ana").build()?;
    /// let store = BlockyardStore::below(client.clone(), "/warehouse")?;
    /// assert_eq!(store.to_string(), "Blockyard(/warehouse)");
    /// assert!(BlockyardStore::below(client, "warehouse").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn below(client: Client, directory: &str) -> FsResult<Self> {
        Ok(Self { root: Root::parse(directory)?, ..Self::new(client) })
    }

    /// The same with these options.
    #[must_use]
    pub fn with_options(self, options: StoreOptions) -> Self {
        Self { options, ..self }
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }
    pub(crate) const fn root(&self) -> &Root {
        &self.root
    }
    pub(crate) const fn options(&self) -> &StoreOptions {
        &self.options
    }
}

impl fmt::Display for BlockyardStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.root.as_str())
    }
}

impl fmt::Debug for BlockyardStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (root, options) = (self.root.as_str(), &self.options);
        f.debug_struct("BlockyardStore").field("root", &root).field("options", options).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for BlockyardStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.put_object(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        check_attributes(&opts.attributes)?;
        let writer = self.create(location, Doing::Writing, false).await?;
        Ok(Box::new(Upload::new(location.clone(), writer)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.get_object(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.get_parts(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let removals = locations.map(move |location| {
            let store = store.clone();
            async move {
                let location = location?;
                store.remove_object(&location).await.map(|()| location)
            }
        });
        removals.buffered(REMOVALS).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects(prefix, "")
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects(prefix, offset.as_ref())
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.directory(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.copy_object(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.rename_object(from, to, options).await
    }
}
