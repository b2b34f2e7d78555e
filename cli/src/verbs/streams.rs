//! How many files, and parts of files, are copied at the same time.

use std::panic::resume_unwind;
use std::sync::Arc;

use base::task::JoinSet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The streams of a transfer: as many as `--jobs` says, whatever they copy.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    free: Arc<Semaphore>,
    most: usize,
}

impl Streams {
    pub(crate) fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), most }
    }
    /// How many there are.
    pub(crate) const fn most(&self) -> usize {
        self.most
    }
    /// Waits for a free one. They are given in the order in which they were asked for.
    pub(crate) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Does works side by side: the first in the stream that the caller has, further ones as streams get free. What came
    /// of them, in order; the first failure, and then the others end where they are.
    pub(crate) async fn share<T, E, F>(&self, works: Vec<F>) -> Result<Vec<T>, E>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let mut works = works.into_iter().enumerate();
        let (mut next, mut results, mut running) = (works.next(), Vec::new(), JoinSet::new());
        let mut own_is_free = true;
        loop {
            let own = own_is_free && next.is_some();
            let stream = tokio::select! {
                biased;
                Some(ended) = running.join_next() => {
                    let (number, was_own, result) = ended.unwrap_or_else(|error| resume_unwind(error.into_panic()));
                    own_is_free |= was_own;
                    results.push((number, result?));
                    continue;
                }
                () = std::future::ready(()), if own => None,
                Some(stream) = self.take(), if next.is_some() => Some(stream),
                else => break,
            };
            let Some((number, work)) = next.take() else { break };
            own_is_free &= stream.is_some();
            running.spawn(async move {
                let (own, result) = (stream.is_none(), work.await);
                drop(stream);
                (number, own, result)
            });
            next = works.next();
        }
        results.sort_by_key(|(number, _)| *number);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts how many works run, at most.
    #[derive(Default)]
    struct Gauge {
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl Gauge {
        async fn work(self: Arc<Self>, number: usize) -> Result<usize, String> {
            self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            self.now.fetch_sub(1, Ordering::SeqCst);
            Ok(number)
        }
    }

    async fn most_at_a_time(streams: &Streams, works: usize) -> usize {
        let gauge = Arc::new(Gauge::default());
        let done = streams.share((0..works).map(|number| Arc::clone(&gauge).work(number)).collect()).await.unwrap();
        assert_eq!(done, (0..works).collect::<Vec<_>>(), "in order");
        gauge.most.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn there_are_never_more_than_jobs_and_one_is_always_there() {
        let streams = Streams::new(3);
        let own = streams.take().await.unwrap();
        assert_eq!(most_at_a_time(&streams, 8).await, 3);
        assert_eq!(most_at_a_time(&streams, 2).await, 2);
        assert_eq!(most_at_a_time(&streams, 0).await, 0);
        let others = [streams.take().await.unwrap(), streams.take().await.unwrap()];
        assert_eq!(most_at_a_time(&streams, 5).await, 1, "in its own");
        drop(others);
        assert_eq!(most_at_a_time(&streams, 5).await, 3, "all were given back");
        drop(own);
    }

    #[tokio::test]
    async fn streams_that_get_free_are_taken_up() {
        let streams = Streams::new(2);
        let own = streams.take().await.unwrap();
        let mut other = streams.take().await;
        let met = Arc::new(tokio::sync::Barrier::new(2));
        let works = (0..2).map(|_| {
            let met = Arc::clone(&met);
            async move {
                // Only together.
                met.wait().await;
                Ok::<_, ()>(())
            }
        });
        let shared = streams.share(works.collect());
        tokio::pin!(shared);
        for _ in 0..20 {
            assert!(
                std::future::poll_fn(|context| std::task::Poll::Ready(shared.as_mut().poll(context).is_pending()))
                    .await
            );
            tokio::task::yield_now().await;
        }
        drop(other.take());
        assert_eq!(shared.await.map(|done| done.len()), Ok(2));
        drop(own);
    }

    #[tokio::test]
    async fn the_first_failure_ends_all() {
        let streams = Streams::new(4);
        let own = streams.take().await.unwrap();
        let works = (0..4).map(|number| async move {
            if number != 2 {
                std::future::pending::<()>().await;
            }
            Err::<(), _>(number)
        });
        assert_eq!(streams.share(works.collect()).await, Err(2));
        // What was ended gives its stream back when it is dropped.
        let free = [streams.take().await, streams.take().await, streams.take().await];
        assert!(free.iter().all(Option::is_some));
        drop(own);
    }
}
