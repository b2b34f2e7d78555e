//! What nobody knew, looked at: once it cannot change any more.

use std::time::Duration;

use client::FsResult;

use super::Worker;
use crate::soak::model::{Move, State};
use crate::soak::reading;

/// After so long no call is under way any more: its deadline is over, and no process is stopped for as long.
const SETTLED: Duration = Duration::from_secs(90);

/// Longest wait for the end of a recovery that somebody else began.
const RECOVERED: Duration = Duration::from_secs(150);

impl Worker {
    /// Looks at the names that have been in doubt for long enough.
    pub(super) async fn settle_old(&mut self) {
        let now = self.shared.clock.now();
        while let Some((since, name)) = self.doubts.pop_front_if(|(since, _)| now.since(*since) >= SETTLED) {
            if self.settle(&name).await.is_err() {
                self.doubts.push_back((since, name));
                return;
            }
        }
    }

    /// Looks at all that is in doubt: nothing is under way any more.
    ///
    /// # Errors
    /// The client's.
    pub(in crate::soak) async fn settle_all(&mut self) -> FsResult<()> {
        self.doubts.clear();
        let names: Vec<String> = self.book().lock().doubtful().into_iter().map(str::to_owned).collect();
        for name in names {
            self.settle(&name).await?;
        }
        Ok(())
    }

    async fn settle(&self, name: &str) -> FsResult<()> {
        let of = |one: &&Move| one.from == name || one.to == name;
        let moved = self.book().lock().moves().iter().find(of).cloned();
        match moved {
            Some(moved) => self.settle_move(&moved).await,
            None => self.settle_name(name).await.map(drop),
        }
    }

    /// What a name is. It stays so.
    async fn settle_name(&self, name: &str) -> FsResult<Option<State>> {
        let (_, allowed) = self.book().lock().allowed(name);
        let path = self.path(name);
        if self.client.stat(&path).await.is_ok_and(|status| status.open_for_write) {
            // Recovery decides about its length.
            self.client.until_closed(&path, RECOVERED).await?;
        }
        match reading::judge(&self.shared, &self.client, &path, allowed).await? {
            Ok(state) => {
                self.book().lock().is(name, state.clone());
                Ok(Some(state))
            }
            Err(wrong) => {
                self.shared.found_wrong(&path, &wrong);
                // Told once: from now on nothing is said of this name.
                self.book().lock().is(name, State::Absent);
                Ok(None)
            }
        }
    }

    /// The content is under one of the two names.
    async fn settle_move(&self, moved: &Move) -> FsResult<()> {
        let (_, allowed) = self.book().lock().allowed(&moved.from);
        let Some(State::File { content, .. }) = allowed.into_iter().find(|state| *state != State::Absent) else {
            return self.settle_name(&moved.from).await.map(drop);
        };
        let (Some(from), Some(to)) = (self.settle_name(&moved.from).await?, self.settle_name(&moved.to).await?) else {
            self.book().lock().forget_move(moved);
            return Ok(());
        };
        self.book().lock().forget_move(moved);
        let there = State::whole(content);
        if (from == there) == (to == there) {
            let where_it_is = if from == there { "both names have it" } else { "neither name has it" };
            let text = format!("after a move to {} of which nobody knew the end {where_it_is}", moved.to);
            self.shared.found("move", &self.path(&moved.from), text);
        }
        Ok(())
    }
}
