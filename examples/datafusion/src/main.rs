//! SQL over Parquet files in a Blockyard cluster, with DataFusion.
//!
//! ```text
//!   cargo run                                                  in a cluster of its own, gone afterwards
//!   cargo run -- blockyard://127.0.0.1:8020 ana /user/ana/shop in yours, as this user, in this directory
//! ```
//!
//! It writes two tables, one of them partitioned by month, asks for a join with sums, and holds the answer against what
//! plain Rust computes from the same rows. It ends with an error if they differ.

mod shop;

use std::sync::Arc;

use blockyard_object_store::BlockyardStore;
use client::Client;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionContext;
use futures_util::TryStreamExt;
use minicluster::MiniCluster;
use object_store::ObjectStore;
use url::Url;

/// What the tables are under; the name after `//` only says which store is meant.
const STORE: &str = "blockyard://shop/";
/// Turnover by country from March on.
const QUESTION: &str = "
    SELECT c.country, count(*) AS orders, sum(o.cents) AS cents
    FROM orders o JOIN customers c ON o.customer = c.id
    WHERE o.month >= '03'
    GROUP BY c.country ORDER BY c.country";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            let cluster = MiniCluster::start(3).await.map_err(external)?;
            let store = BlockyardStore::below(cluster.client().map_err(external)?, "/shop").map_err(external)?;
            run(store).await?;
            cluster.shutdown().await.map_err(external)
        }
        [address, user, directory] => {
            let client = Client::builder().connect(address).user(user).build().map_err(external)?;
            run(BlockyardStore::below(client, directory).map_err(external)?).await
        }
        _ => Err(DataFusionError::Configuration("usage: datafusion-example [ADDRESS USER DIRECTORY]".to_owned())),
    }
}

async fn run(store: BlockyardStore) -> Result<()> {
    println!("store     {store}");
    if let Some(object) = store.list(None).try_next().await? {
        let text = format!("there is {} already: name a directory without files", object.location);
        return Err(DataFusionError::Configuration(text));
    }
    let context = SessionContext::new();
    let url = Url::parse(STORE).map_err(external)?;
    context.register_object_store(&url, Arc::new(store));
    write_tables(&context).await?;
    open_tables(&context).await?;
    let answer = context.sql(QUESTION).await?;
    answer.clone().show().await?;
    let found = shop::turnover_of(&answer.collect().await?)?;
    let expected = shop::turnover();
    if found != expected {
        return Err(DataFusionError::Execution(format!("the answer is {found:?}, not {expected:?}")));
    }
    println!("right: {} countries, as computed without SQL", expected.len());
    Ok(())
}

/// Parquet files of both tables; those of orders in a directory for each month.
async fn write_tables(context: &SessionContext) -> Result<()> {
    let customers = context.read_batch(shop::customers()?)?;
    let options = DataFrameWriteOptions::new().with_single_file_output(true);
    customers.write_parquet(&format!("{STORE}customers.parquet"), options, None).await?;
    let orders = context.read_batch(shop::orders()?)?;
    let options = DataFrameWriteOptions::new().with_partition_by(vec!["month".to_owned()]);
    orders.write_parquet(&format!("{STORE}orders/"), options, None).await?;
    Ok(())
}

/// Tables of what is there, as any other program would find them.
async fn open_tables(context: &SessionContext) -> Result<()> {
    let of_customers = format!("CREATE EXTERNAL TABLE customers STORED AS PARQUET LOCATION '{STORE}customers.parquet'");
    let of_orders =
        format!("CREATE EXTERNAL TABLE orders STORED AS PARQUET PARTITIONED BY (month) LOCATION '{STORE}orders/'");
    for statement in [of_customers, of_orders] {
        context.sql(&statement).await?.collect().await?;
    }
    let files = context.sql("SELECT count(*) AS orders, count(DISTINCT month) AS months FROM orders").await?;
    files.show().await
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
