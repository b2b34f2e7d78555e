//! Calls on names, of one kind.

use std::sync::Arc;
use std::time::Duration;

use base::clock::SystemClock;
use clap::ValueEnum;
use client::{Client, CreateOptions, FsResult, Replace};

use super::workers::{self, Measured, Shift, Turn};

/// Names in the directory that `list` lists.
const LISTED: u64 = 100;
/// Names that `stat` asks for, by turns.
const ASKED: u64 = 1000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Op {
    /// Create an empty file and publish it: two calls, both durable
    Create,
    /// Ask for a file
    Stat,
    /// List a directory of 100 names
    List,
    /// Make a directory
    Mkdir,
    /// Rename a file
    Rename,
    /// Delete a file (they are made before)
    Delete,
    /// A call with nothing to do: the price of carrying it
    #[value(skip)]
    Nothing,
}

/// What it is measured with.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// One client, and one connection, each.
    pub(super) clients: Vec<Client>,
    pub(super) clock: Arc<SystemClock>,
    /// Where everything is done.
    pub(super) dir: String,
    pub(super) in_flight: u64,
    /// Names made for `delete`.
    pub(super) names: u64,
}

impl Load {
    fn client(&self, number: u64) -> &Client {
        let at = usize::try_from(number).unwrap_or(0) % self.clients.len().max(1);
        // There is one at least.
        &self.clients[at]
    }

    /// Makes what an operation needs.
    pub(super) async fn prepare(&self, op: Op) -> FsResult<()> {
        let count = match op {
            Op::Create | Op::Mkdir | Op::Nothing => return Ok(()),
            Op::List => LISTED,
            Op::Stat => ASKED,
            Op::Rename => self.in_flight,
            Op::Delete => self.names,
        };
        let hour = Duration::from_secs(3600);
        self.run(Op::Create, Duration::ZERO, hour, count).await.map(drop)
    }

    /// Keeps calls in flight for a while after a warm-up, or until `limit` of them were made.
    pub(super) async fn run(&self, op: Op, warm_up: Duration, during: Duration, limit: u64) -> FsResult<Measured> {
        let shift = Shift { in_flight: self.in_flight, warm_up, during, limit };
        let load = self.clone();
        workers::run(&self.clock, shift, move |turn| {
            let (client, dir) = (load.client(turn.worker).clone(), load.dir.clone());
            async move { once(&client, op, &dir, turn).await }
        })
        .await
    }
}

async fn once(client: &Client, op: Op, dir: &str, Turn { worker, round, number }: Turn) -> FsResult<()> {
    match op {
        Op::Create => {
            let options = CreateOptions { empty: true, ..CreateOptions::default() };
            client.create(&format!("{dir}/f{number}"), options).await?.close().await.map(drop)
        }
        Op::Stat => client.stat(&format!("{dir}/f{}", number % ASKED)).await.map(drop),
        Op::List => client.list(dir)?.next().await.map(drop),
        Op::Mkdir => client.mkdir(&format!("{dir}/d{number}"), 0o755, false).await.map(drop),
        Op::Rename => {
            let [there, back] = [format!("{dir}/f{worker}"), format!("{dir}/r{worker}")];
            let (from, to) = if round.is_multiple_of(2) { (there, back) } else { (back, there) };
            client.rename(&from, &to, Replace::Refuse).await
        }
        Op::Delete => client.delete(&format!("{dir}/f{number}"), false).await.map(drop),
        Op::Nothing => client.server_info().await.map(drop),
    }
}
