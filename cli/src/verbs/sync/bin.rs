//! Removing at the destination, and putting something new in the place of something old.

use std::sync::Arc;

use base::local;
use client::{ErrorCode, FsError, Replace};

use super::side::Side;
use crate::verbs::Outcome;
use crate::verbs::failure::Failure;
use crate::verbs::transfer::{Shared, local as on_disk};
use crate::verbs::trash::Trash;

/// Where things go that are removed.
#[derive(Clone, Debug)]
pub(super) struct Bin {
    shared: Arc<Shared>,
    /// Is what is removed in the cluster moved to the trash?
    keeps: bool,
}

impl Bin {
    pub(super) const fn new(shared: Arc<Shared>, keeps: bool) -> Self {
        Self { shared, keeps }
    }

    /// Removes what has this name, with all that is in it.
    pub(super) async fn remove(&self, target: &Side) -> Outcome {
        match target {
            Side::Local(path) => {
                let here = path.clone();
                on_disk("remove", path, move || local::remove(&here)).await.map(drop)
            }
            Side::Cluster(path) => self.remove_in_cluster(path).await.map_err(|failure| failure.at(path)),
        }
    }

    async fn remove_in_cluster(&self, path: &str) -> Outcome {
        let context = &self.shared.context;
        let trash = Trash::of(context);
        if self.keeps && !trash.holds(path) {
            return trash.take(context, path).await.map(drop);
        }
        match context.client.delete(path, true).await {
            // It is gone, whoever removed it.
            Err(error) if error.code == ErrorCode::NotFound => Ok(()),
            other => other.map(drop).map_err(Failure::from),
        }
    }

    /// Puts what was made at `new`, beside `target`, in its place. If that fails `target` is there as it was, or `new` is.
    pub(super) async fn put_in_place(&self, new: &Side, target: &Side) -> Outcome {
        if let Err(failure) = self.remove(target).await {
            if self.is_untouched(target).await {
                self.discard(new).await;
                return Err(failure);
            }
            return Err(self.kept(new, failure));
        }
        rename(&self.shared, new, target).await.map_err(|failure| self.kept(new, failure))
    }

    /// Is what could not be removed certainly as it was? Of a directory some may be gone.
    async fn is_untouched(&self, target: &Side) -> bool {
        let there = target.look(&self.shared.context).await;
        there.is_ok_and(|there| there.is_some_and(|there| !there.is_directory()))
    }

    fn kept(&self, new: &Side, failure: Failure) -> Failure {
        let text = format!("what was copied is whole, at {}", new.shown());
        if failure.has_hint() {
            self.shared.context.output.note(&text);
        }
        failure.or_hint(|| Some(text))
    }

    /// Removes for good what was made beside a target that stays. May be called if nothing is there.
    pub(super) async fn discard(&self, new: &Side) {
        let for_good = Self { shared: Arc::clone(&self.shared), keeps: false };
        if for_good.remove(new).await.is_err() {
            self.shared.context.output.note(&format!("{} is left over, remove it", new.shown()));
        }
    }
}

async fn rename(shared: &Shared, from: &Side, to: &Side) -> Outcome {
    match (from, to) {
        (Side::Local(from), Side::Local(to)) => {
            let (from, there) = (from.clone(), to.clone());
            on_disk("rename to", to, move || local::rename(&from, &there, false)).await
        }
        (Side::Cluster(from), Side::Cluster(to)) => {
            let renamed = shared.context.client.rename(from, to, Replace::Refuse).await;
            renamed.map_err(|error: FsError| Failure::from(error).at(to))
        }
        // Both lie in one directory.
        _ => Err(Failure::server("a copy lies on the other side than its target").at(&to.shown())),
    }
}
