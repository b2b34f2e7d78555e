//! The store against real clusters: object_store's public suite, and what it does not ask.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod listings;
mod objects;
mod suite;
mod uploads;

use blockyard_object_store::{BlockyardStore, StoreOptions};
use futures_util::TryStreamExt;
use minicluster::MiniCluster;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// Blocks small enough for objects of many.
const BLOCK_BYTES: u64 = 64 << 10;

/// A cluster and a store below one of its directories.
struct Place {
    cluster: MiniCluster,
    store: BlockyardStore,
}

impl Place {
    async fn new() -> Self {
        let cluster = MiniCluster::start(1).await.unwrap();
        let store = BlockyardStore::below(cluster.client().unwrap(), "/store").unwrap();
        Self { cluster, store }
    }

    /// With blocks of [`BLOCK_BYTES`].
    async fn of_small_blocks() -> Self {
        let Self { cluster, store } = Self::new().await;
        let options = StoreOptions { block_size_bytes: BLOCK_BYTES, ..StoreOptions::default() };
        Self { cluster, store: store.with_options(options) }
    }

    fn client(&self) -> client::Client {
        self.cluster.client().unwrap()
    }

    async fn put(&self, location: &str, content: &[u8]) {
        self.store.put(&path(location), content.to_vec().into()).await.unwrap();
    }

    async fn read(&self, location: &str) -> Vec<u8> {
        self.store.get(&path(location)).await.unwrap().bytes().await.unwrap().to_vec()
    }

    async fn list(&self, prefix: Option<&str>) -> Vec<String> {
        let metas: Vec<_> = self.store.list(prefix.map(path).as_ref()).try_collect().await.unwrap();
        metas.into_iter().map(|meta| meta.location.to_string()).collect()
    }

    /// Names in a directory of the cluster, as the cluster says, below the store's.
    async fn names(&self, directory: &str) -> Vec<String> {
        let listing = self.client().list(format!("/store/{directory}").trim_end_matches('/')).unwrap();
        listing.collect().await.unwrap().into_iter().map(|entry| entry.path).collect()
    }

    async fn end(self) {
        self.cluster.shutdown().await.unwrap();
    }
}

/// A location exactly as written.
fn path(location: &str) -> Path {
    Path::parse(location).unwrap()
}

/// Bytes of which every stretch tells where it is from.
fn content(len_bytes: usize) -> Vec<u8> {
    (0..len_bytes).map(|at| (at / 251 + at) as u8).collect()
}
