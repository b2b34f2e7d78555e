//! By which way a benchmark reads, and the proof that it did.
//!
//! A client of its own for each way: one that never borrows descriptors, and one that borrows wherever a datanode of this
//! machine lends them. What the second one reads counts as local only if its own figures say that the bytes came so.

use clap::{Args, ValueEnum};
use client::FsResult;

use super::stage::Stage;
use crate::verbs::Failure;

/// Of a hundred bytes of a local figure, so many came through descriptors at least.
const LOCAL_SHARE: u64 = 99;

/// By which way a reader gets the bytes of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Door {
    /// From a datanode over TCP, every checksum verified
    Tcp,
    /// Through descriptors that a datanode of this machine lends, every checksum verified
    Local,
}

impl Door {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Local => "local",
        }
    }
}

/// The flag.
#[derive(Debug, Args)]
pub(super) struct DoorOptions {
    /// By which way it is read [default: both, `local` only where a datanode of this machine lends]
    #[arg(long = "door", value_name = "DOOR,…", value_enum, value_delimiter = ',')]
    doors: Vec<Door>,
}

/// The ways that are measured.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) doors: Vec<Door>,
    /// Nobody chose, and nobody lends.
    local_left_out: bool,
}

impl DoorOptions {
    /// Finds out which ways there are, with a file that has a block.
    pub(super) async fn choose(&self, stage: &Stage, path: &str) -> Result<Doors, Failure> {
        let named = !self.doors.is_empty();
        let wanted = |door: &Door| !named || self.doors.contains(door);
        let mut doors: Vec<Door> = [Door::Tcp, Door::Local].into_iter().filter(wanted).collect();
        let local_left_out = doors.contains(&Door::Local) && !lends(stage, path).await?;
        if local_left_out {
            if named {
                let hint = "--door tcp; or run it on a datanode's machine, without --local-reads off";
                return Err(Failure::usage("no datanode lends descriptors to this process", hint));
            }
            doors.retain(|door| *door != Door::Local);
        }
        Ok(Doors { doors, local_left_out })
    }
}

impl Doors {
    /// What is said of a way that was not measured.
    pub(super) fn note(&self) -> Option<&'static str> {
        self.local_left_out.then_some("not measured: the local door, no datanode lends descriptors to this process")
    }
}

/// Is a replica of the file lent to the client that borrows?
async fn lends(stage: &Stage, path: &str) -> FsResult<bool> {
    let client = stage.reads_by(Door::Local);
    client.open(path).await?.read_at(0, 1).await?;
    Ok(client.local_figures().borrowed > 0)
}

/// Tells whether bytes that are about to be read came by the way that their figure names.
#[derive(Debug)]
pub(super) struct Proof {
    door: Door,
    before_bytes: u64,
}

impl Proof {
    pub(super) fn begin(stage: &Stage, door: Door) -> Self {
        Self { door, before_bytes: stage.reads_by(door).local_figures().read_bytes }
    }
    /// So many bytes were read since. The client over TCP has no other way.
    pub(super) fn check(&self, stage: &Stage, bytes: u64) -> Result<(), Failure> {
        let came_bytes = stage.reads_by(self.door).local_figures().read_bytes.saturating_sub(self.before_bytes);
        match self.door {
            Door::Local if !is_local(came_bytes, bytes) => Err(Failure::server(format!(
                "{came_bytes} of {bytes} bytes came through the local door, the others over TCP: that is no figure of either"
            ))),
            Door::Local | Door::Tcp => Ok(()),
        }
    }
}

fn is_local(came_bytes: u64, bytes: u64) -> bool {
    u128::from(came_bytes) * 100 >= u128::from(bytes) * u128::from(LOCAL_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_local_only_if_its_bytes_were() {
        assert!(is_local(100, 100) && is_local(99, 100) && is_local(8192, 4096) && is_local(0, 0));
        assert!(!is_local(98, 100) && !is_local(0, 1));
    }
}
