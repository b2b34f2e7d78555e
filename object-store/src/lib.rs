//! Blockyard as a store of the [`object_store`] crate: whatever reads and writes through that (DataFusion, Delta, Lance,
//! Polars, …) reads and writes files of a cluster. It passes object_store's public integration suite against a real
//! cluster.
//!
//! ```text
//!   BlockyardStore ── put, get, delete, copy, rename ─┐
//!     ├─ Upload        a multipart upload: one writer ┼─▶ client ─▶ the cluster
//!     ├─ parts         MultipartStore: files, joined ─┤
//!     └─ list ─▶ Walk  directories, one at a time ────┘
//! ```
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! # let cluster = minicluster::MiniCluster::start(1).await?;
//! # let address = cluster.uri();
//! use blockyard_object_store::BlockyardStore;
//! use futures_util::TryStreamExt;
//! use object_store::{ObjectStore, ObjectStoreExt, path::Path};
//!
//! let client = client::Client::builder().connect(address).user("root").build()?;
//! let store = BlockyardStore::below(client, "/warehouse")?;
//! let object = Path::from("t/year=2026/part-0.csv");
//! store.put(&object, "1,2,3".into()).await?;
//! assert_eq!(&store.get_range(&object, 2..5).await?[..], b"2,3");
//!
//! let all: Vec<_> = store.list(Some(&Path::from("t"))).try_collect().await?;
//! assert_eq!((&all[0].location, all[0].size), (&object, 5));
//! # cluster.shutdown().await?;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # What holds
//!
//! - **Objects are files**, at the same path below the store's root, names taken as they are. Directories are no objects:
//!   what is asked of one is [`NotFound`](object_store::Error::NotFound), and an empty one is in no listing. A file and a
//!   directory cannot have the same name: where `a` is an object, `a/b` cannot be made, nor the other way round.
//! - **An object appears whole, and durable, or not at all**; what it replaces stays until then. That holds for `put`,
//!   `copy` and uploads in parts, and `rename` is one step. [`PutMode::Create`](object_store::PutMode::Create) and its
//!   like are decided by the cluster when the object appears: of several writers one succeeds. Of several that overwrite
//!   the last one does. Reading goes on with the version that it began with, unless that is gone from the disks.
//! - **`e_tag`** is made of the file's inode, time and length; each version of an object has its own. Conditions on reads
//!   are judged by it and by the time of change.
//! - **Listings** are in the order of paths, and ask for a page at a time, as they are read. An object that is there all
//!   the while is in them exactly once. A name in the cluster that no location can say (one with a control character) is
//!   an [`InvalidPath`](object_store::Error::InvalidPath) in its place; the others follow. Symbolic links to files are
//!   objects; links to directories are not looked into, though a location may lead through one, also to what is outside of
//!   the store's directory. A file that somebody
//!   writes visibly (`publish_at_once`) is listed as long as its closed blocks.
//! - **Uploads in parts** write one file, in the order in which the parts were asked for; the futures may be awaited in any
//!   order. An upload that is dropped leaves nothing. [`MultipartStore`](object_store::multipart::MultipartStore) is for
//!   parts from several processes: each part is a file, and their blocks are joined without copying, so that parts
//!   should be as long as a block. Only parts that a snapshot sees are copied when the upload is completed. [`PaginatedListStore`](object_store::list::PaginatedListStore) is there, too.
//! - **Reading** is the client's: `get_ranges` merges neighbours and reads in parallel, replicas on this machine are read
//!   through borrowed descriptors, every byte is verified.
//! - **Refusals** keep the client's [`FsError`](client::FsError) inside, with what to do about it.
//!
//! # What it does not do
//!
//! - [`PutMode::Update`](object_store::PutMode::Update): the cluster has no "replace if it is still this one". Refused as
//!   not implemented, as object_store's own store for local files does.
//! - Attributes (content type, metadata): refused as not implemented, likewise. They could be kept as extended
//!   attributes, but then every `get` would cost another call to look for them. Tags are ignored, as object_store asks.
//! - Versions: a `get` that names one is refused.
//!
//! The version of object_store is the one that DataFusion and parquet take. Later versions change the trait: this crate
//! follows when those do.

mod error;
mod get;
mod list;
mod order;
mod parts;
mod place;
mod put;
mod store;
mod upload;
mod walk;

pub use store::{BlockyardStore, StoreOptions};
