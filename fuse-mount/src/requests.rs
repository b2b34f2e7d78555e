//! How a request becomes a task, and a task an answer.

use std::ffi::OsStr;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base::clock::Clock;
use base::task::TaskTracker;
use fuser::{FileAttr, Generation, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyXattr};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::core::{Answer, Core};
use crate::errno::Errno;

/// What fuser calls.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) core: Arc<Core>,
    runtime: Handle,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
}

impl From<Errno> for fuser::Errno {
    fn from(errno: Errno) -> Self {
        Self::from_i32(errno.number())
    }
}

/// Names of attributes are UTF-8.
pub(crate) fn utf8(name: &OsStr) -> Answer<String> {
    name.to_str().map(str::to_owned).ok_or(Errno::EILSEQ)
}

impl Kernel {
    pub(crate) fn new(core: Arc<Core>, runtime: Handle, tasks: TaskTracker) -> Self {
        let permits = Arc::new(Semaphore::new(core.config.max_requests.max(1)));
        Self { core, runtime, tasks, permits }
    }

    /// Starts a request. If too many are under way, the kernel waits.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        &self,
        request: &'static str,
        work: impl FnOnce(Arc<Core>) -> F,
    ) {
        let begun = self.core.clock.now();
        let permits = Arc::clone(&self.permits);
        let permit = match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_all_taken) => self.runtime.block_on(permits.acquire_owned()).ok(),
        };
        let (core, work) = (Arc::clone(&self.core), work(Arc::clone(&self.core)));
        let _on_runtime = self.runtime.enter();
        drop(base::task::spawn(&self.tasks, async move {
            work.await;
            core.figures.answered(request, core.clock.now().since(begun));
            drop(permit);
        }));
    }

    /// Goes on with a request that was answered. It keeps no other from being worked on.
    pub(crate) fn go_on_behind<F: Future<Output = ()> + Send + 'static>(
        &self,
        request: &'static str,
        work: impl FnOnce(Arc<Core>) -> F,
    ) {
        self.core.figures.answered(request, Duration::ZERO);
        let work = work(Arc::clone(&self.core));
        let _on_runtime = self.runtime.enter();
        drop(base::task::spawn(&self.tasks, work));
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.core.config.attribute_ttl
    }

    /// Requests that end with a name's attributes.
    pub(crate) fn entry<F>(
        &self,
        request: &'static str,
        reply: ReplyEntry,
        work: impl FnOnce(Arc<Core>) -> F + Send + 'static,
    ) where
        F: Future<Output = Answer<FileAttr>> + Send + 'static,
    {
        let ttl = self.ttl();
        self.start(request, move |core| async move {
            match work(Arc::clone(&core)).await {
                Ok(attr) => reply.entry(&ttl, &attr, Generation(0)),
                Err(error) => reply.error(core.figures.failed(request, error).into()),
            }
        });
    }

    /// Requests that end with nothing.
    pub(crate) fn empty<F>(
        &self,
        request: &'static str,
        reply: ReplyEmpty,
        work: impl FnOnce(Arc<Core>) -> F + Send + 'static,
    ) where
        F: Future<Output = Answer<()>> + Send + 'static,
    {
        self.start(request, move |core| async move {
            match work(Arc::clone(&core)).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(core.figures.failed(request, error).into()),
            }
        });
    }

    /// Requests that end with a file's attributes.
    pub(crate) fn attr<F>(
        &self,
        request: &'static str,
        reply: ReplyAttr,
        work: impl FnOnce(Arc<Core>) -> F + Send + 'static,
    ) where
        F: Future<Output = Answer<FileAttr>> + Send + 'static,
    {
        let ttl = self.ttl();
        self.start(request, move |core| async move {
            match work(Arc::clone(&core)).await {
                Ok(attr) => reply.attr(&ttl, &attr),
                Err(error) => reply.error(core.figures.failed(request, error).into()),
            }
        });
    }
}

/// Bytes of an attribute, or how many there are for who gave no room.
pub(crate) fn give_xattr(reply: ReplyXattr, size: u32, bytes: &[u8]) {
    match (size, u32::try_from(bytes.len())) {
        (0, Ok(len)) => reply.size(len),
        (size, Ok(len)) if len <= size => reply.data(bytes),
        _ => reply.error(Errno::ERANGE.into()),
    }
}
