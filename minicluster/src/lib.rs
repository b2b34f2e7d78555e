//! A whole cluster inside a test: one namenode and some datanodes on the test's runtime, on free loopback ports, in a
//! temporary folder.
//!
//! ```text
//!   MiniCluster::start(3) ─▶ TEMP/namenode, TEMP/dn1, TEMP/dn2, TEMP/dn3 ─▶ waits until all have reported
//!        ├ client()               a client of it, as its superuser
//!        ├ stop_datanode(0)       gone, its folder stays; start_datanode(0) brings it back
//!        └ shutdown()             all end, the folder is removed
//! ```
//!
//! It runs the shipping servers with their defaults, so that a test that passes here says something of a real cluster.
//! Whoever wants processes to kill starts `blockyard dev --processes`.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let cluster = minicluster::MiniCluster::start(1).await?;
//! let client = cluster.client()?;
//! let mut writer = client.create("/hello", client::CreateOptions::default()).await?;
//! writer.write_all(b"hello").await?;
//! writer.close().await?;
//! let reader = client.open("/hello").await?;
//! assert_eq!(&reader.read_at(0, 5).await?[..], b"hello");
//! cluster.shutdown().await?;
//! # Ok(())
//! # })
//! # }
//! ```

mod cluster;

pub use cluster::{MiniCluster, MiniClusterBuilder, MiniClusterError};
