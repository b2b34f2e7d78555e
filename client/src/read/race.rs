//! A range of a block that is read once, or twice where it pays: the shell of [`Hedge`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::common::{LocatedBlock, StorageLocation};
use proto::error::FsResult;
use proto::path::FsPath;

use super::hedge::{FirstPackets, Hedge, HedgeBudget, HedgeConfig, HedgeEffect, HedgeEvent, Lane};
use super::stream::BlockStream;
use crate::avoid::Avoided;
use crate::client::Inner;
use crate::write::sleep_until;

/// Time for the end of a range whose bytes are all there: then its connection is not worth more waiting.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// What the readers of a client know of second attempts.
#[derive(Debug)]
pub(crate) struct Hedging {
    config: HedgeConfig,
    packets: Mutex<FirstPackets>,
    budget: Mutex<HedgeBudget>,
}

impl Hedging {
    pub(crate) fn new(config: HedgeConfig) -> Self {
        Self { config, packets: Mutex::default(), budget: Mutex::new(HedgeBudget::new(&config)) }
    }

    fn read_begins(&self) -> Hedge {
        self.budget.lock().read_begins(&self.config);
        Hedge::new(&self.config, self.packets.lock().delay(&self.config))
    }
}

/// Nodes that a stream has asked, the present one last. Its owner knows them even while the stream is busy.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<Mutex<Vec<String>>>);

/// Longer lists of replicas are not kept track of.
const MAX_ASKED: usize = 64;

impl Asked {
    /// The stream turns to a node.
    pub(super) fn add(&self, node: &str) {
        let mut asked = self.0.lock();
        asked.retain(|one| one != node);
        if asked.len() < MAX_ASKED {
            asked.push(node.to_owned());
        }
    }
    /// The present node served the stream to its end.
    pub(super) fn served_by(&self, avoided: &Avoided) {
        if let Some(node) = self.0.lock().last() {
            avoided.served(node);
        }
    }
    fn present(&self) -> Option<String> {
        self.0.lock().last().cloned()
    }
    /// Puts nodes that were asked behind the others. Is there another one?
    fn put_last(&self, locations: &mut [StorageLocation]) -> bool {
        let asked = self.0.lock();
        locations.sort_by_key(|at| asked.contains(&at.node));
        locations.first().is_some_and(|at| !asked.contains(&at.node))
    }
}

/// A range of a block that is being read.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) path: FsPath,
    pub(super) block: Arc<LocatedBlock>,
    /// First byte within the block that was not delivered.
    pub(super) offset_bytes: u64,
    /// Bytes that were not delivered.
    pub(super) len_bytes: u64,
}

/// The verified bytes of a range, in order.
#[derive(Debug)]
pub(super) struct RacedStream {
    inner: Arc<Inner>,
    range: Range,
    hedge: Hedge,
    first: Runner,
    second: Option<(Runner, Granted)>,
}

/// A second attempt that counts as under way.
#[derive(Debug)]
struct Granted(Arc<Inner>);

impl Drop for Granted {
    fn drop(&mut self) {
        self.0.hedging.budget.lock().over();
    }
}

type Said = FsResult<Option<Bytes>>;
type Pull = Pin<Box<dyn Future<Output = (Box<BlockStream>, Said)> + Send>>;

/// One of the streams. It goes on where it was when a future that waited for it is dropped.
struct Runner {
    asked: Asked,
    state: State,
}

enum State {
    Rests(Box<BlockStream>),
    Pulls(Pull),
    /// Only while the state changes, or after a panic of the stream.
    Gone,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Runner {
    fn new(inner: &Arc<Inner>, range: &Range, block: Arc<LocatedBlock>) -> Self {
        let asked = Asked::default();
        let (inner, path) = (Arc::clone(inner), range.path.clone());
        let stream = BlockStream::new(inner, path, block, range.offset_bytes, range.len_bytes, asked.clone());
        Self { asked, state: State::Rests(Box::new(stream)) }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Said> {
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Rests(mut stream) => State::Pulls(Box::pin(async move {
                let said = stream.next().await;
                (stream, said)
            })),
            busy => busy,
        };
        let State::Pulls(pull) = &mut self.state else { return Poll::Pending };
        let (stream, said) = ready!(pull.as_mut().poll(context));
        self.state = State::Rests(stream);
        Poll::Ready(said)
    }
}

/// What came next.
enum Seen {
    Said(Lane, Said),
    Late,
}

impl RacedStream {
    pub(super) fn new(inner: Arc<Inner>, mut range: Range) -> Self {
        let now = inner.rpc.clock.now();
        // As a rule nobody is avoided, and all reads of a file share what is known of its blocks.
        if inner.avoided.is_any() {
            inner.avoided.order(&mut Arc::make_mut(&mut range.block).locations, now);
        }
        let hedge = inner.hedging.read_begins();
        let first = Runner::new(&inner, &range, Arc::clone(&range.block));
        Self { inner, range, hedge, first, second: None }
    }

    /// The next verified bytes; `None` at the end of the range.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Said {
        if self.range.len_bytes == 0 {
            let ended = tokio::time::timeout(END_PATIENCE, std::future::poll_fn(|context| self.first.poll(context)));
            // A node that falls silent behind its last byte has done its duty.
            return ended.await.unwrap_or(Ok(None));
        }
        self.tell(HedgeEvent::Waits);
        loop {
            match self.seen().await {
                Seen::Late => self.tell(HedgeEvent::Tick),
                Seen::Said(lane, Ok(Some(bytes))) => {
                    self.tell(HedgeEvent::Brought(lane));
                    self.range.offset_bytes += bytes.len() as u64;
                    self.range.len_bytes = self.range.len_bytes.saturating_sub(bytes.len() as u64);
                    return Ok(Some(bytes));
                }
                Seen::Said(lane, Err(_)) if self.hedge.is_racing() => self.tell(HedgeEvent::Failed(lane)),
                Seen::Said(_, said) => return said,
            }
        }
    }

    async fn seen(&mut self) -> Seen {
        let late = sleep_until(self.hedge.next_deadline(), self.inner.rpc.clock.now());
        let (first, second) = (&mut self.first, &mut self.second);
        let said = std::future::poll_fn(|context| {
            if let Poll::Ready(said) = first.poll(context) {
                return Poll::Ready((Lane::First, said));
            }
            match second {
                Some((second, _)) => second.poll(context).map(|said| (Lane::Second, said)),
                None => Poll::Pending,
            }
        });
        tokio::select! {
            biased;
            (lane, said) = said => Seen::Said(lane, said),
            () = late => Seen::Late,
        }
    }

    fn tell(&mut self, event: HedgeEvent) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let mut effects = Vec::new();
            self.hedge.handle(event, self.inner.rpc.clock.now(), &mut effects);
            for effect in effects {
                match effect {
                    HedgeEffect::WantsSecond => next = Some(HedgeEvent::Second { granted: self.start_second() }),
                    HedgeEffect::Took(took) => self.inner.hedging.packets.lock().note(took),
                    HedgeEffect::Drop { lane, slower } => self.drop_lane(lane, slower),
                }
            }
        }
    }

    /// Begins to read what is left from another replica, if there is one, and the budget allows it.
    fn start_second(&mut self) -> bool {
        let mut block = LocatedBlock::clone(&self.range.block);
        let now = self.inner.rpc.clock.now();
        self.inner.avoided.order(&mut block.locations, now);
        if !self.first.asked.put_last(&mut block.locations) {
            return false;
        }
        let hedging = &self.inner.hedging;
        if !hedging.budget.lock().grant(&hedging.config, now) {
            tracing::debug!("a read is slow, and there were too many second attempts lately");
            return false;
        }
        let second = Runner::new(&self.inner, &self.range, Arc::new(block));
        self.second = Some((second, Granted(Arc::clone(&self.inner))));
        true
    }

    fn drop_lane(&mut self, lane: Lane, slower: bool) {
        let Some((second, granted)) = self.second.take() else { return };
        if lane == Lane::First {
            let lost = std::mem::replace(&mut self.first, second);
            // Its next block would wait for it again, and spend the budget.
            if let Some(node) = lost.asked.present().filter(|_| slower) {
                self.inner.avoided.add(node, self.inner.rpc.clock.now());
            }
        }
        drop(granted);
    }
}
