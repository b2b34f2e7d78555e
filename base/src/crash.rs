//! Crash points: every durable call of [`crate::disk`] names one, so each can be killed at in a test.
//!
//! A process started with `BLOCKYARD_CRASH=<point>:<before|after>[:<nth>]` dies by SIGKILL immediately
//! before or after the nth durable call that names the point. The simulation asks its own disk instead.
//! [`CrashPoint::ALL`] is the list that the crash test walks: a new durable step cannot be written
//! without adding a point here, and a point here is killed at by the test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! crash_points {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A named durable step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CrashPoint { $($(#[$doc])* $name),* }

        impl CrashPoint {
            /// Every point, in the order of this file.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The name used in `BLOCKYARD_CRASH` and in traces.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

crash_points! {
    // --- both servers ---
    /// A server's folder is created.
    CreateServerDir = "create-server-dir";
    /// A slot of an identity file is made durable.
    IdentitySync = "identity-sync";
    // --- namenode: consensus ---
    /// A new log segment is created and sized.
    SegmentCreate = "segment-create";
    /// A batch of log records is made durable.
    LogSync = "log-sync";
    /// A torn or conflicting tail of the log is cut.
    LogTruncate = "log-truncate";
    /// A segment below the image is removed.
    SegmentRemove = "segment-remove";
    /// A slot of the vote file is made durable.
    VoteSync = "vote-sync";
    /// An image's temporary file is created.
    ImageCreate = "image-create";
    /// An image's bytes are made durable.
    ImageSync = "image-sync";
    /// An image gets its final name.
    ImageRename = "image-rename";
    /// An older image, or a half-written one, is removed.
    ImageRemove = "image-remove";
    /// The names in the namenode's folder are made durable.
    NamenodeDirSync = "namenode-dir-sync";
    /// The delete reserve or the image's room is set aside.
    ReserveAllocate = "reserve-allocate";
    // --- datanode: block store ---
    /// A block's data file is created at its final path.
    BlockCreate = "block-create";
    /// A block's meta file is created.
    MetaCreate = "meta-create";
    /// A block's data are made durable.
    BlockSync = "block-sync";
    /// A block's checksums and trailer are made durable.
    MetaSync = "meta-sync";
    /// The names of a block's files are made durable.
    BlockDirSync = "block-dir-sync";
    /// A replica's data file is removed (or moved to quarantine).
    BlockRemove = "block-remove";
    /// A replica's meta file is removed.
    MetaRemove = "meta-remove";
    /// A folder below a volume is created.
    VolumeDirCreate = "volume-dir-create";
    /// Everything that a start finds on a volume is made durable before it is believed.
    VolumeSync = "volume-sync";
    /// A slot of the file with the highest term is made durable.
    TermSync = "term-sync";
    /// A slot of the file that says how far a volume's scrubber has come is made durable.
    ScrubSync = "scrub-sync";
    /// The file is created that will replace a meta file without the leaves of a digest.
    LeavesCreate = "leaves-create";
    /// It is made durable.
    LeavesSync = "leaves-sync";
    /// It takes the place of the meta file.
    LeavesRename = "leaves-rename";
    /// One that is of no use (any more) is removed.
    LeavesRemove = "leaves-remove";
    /// A volume that hung is tried, or a sync of it has failed: the file that is for it, or tells of it, is created.
    CheckCreate = "check-create";
    /// It is made durable.
    CheckSync = "check-sync";
    /// It is removed.
    CheckRemove = "check-remove";
    /// The room for deletes on a full disk is set aside.
    RoomAllocate = "room-allocate";
    /// It is given up, because something needs it.
    RoomRemove = "room-remove";
    /// The file is created that says what an open replica holds at least.
    SideCreate = "side-create";
    /// A slot of it is made durable.
    SideSync = "side-sync";
    /// It is removed, because its replica is whole or gone.
    SideRemove = "side-remove";
    /// The meta file of a replica gets the name of a new stamp.
    RestampRename = "restamp-rename";
    /// Checksums or data beyond the length that a replica goes on from are cut off.
    ReplicaCut = "replica-cut";
}

/// On which side of the durable call the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before the call: nothing of the step is durable.
    Before,
    /// After the call: the step is durable, nothing after it ran.
    After,
}

#[derive(Debug)]
struct Armed {
    point: CrashPoint,
    side: Side,
    countdown: AtomicU64,
}

/// Name of the environment variable that arms a crash point.
pub const CRASH_VARIABLE: &str = "BLOCKYARD_CRASH";

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED.get_or_init(|| std::env::var(CRASH_VARIABLE).ok().as_deref().and_then(parse)).as_ref()
}

fn parse(text: &str) -> Option<Armed> {
    let mut parts = text.split(':');
    let name = parts.next()?;
    let point = CrashPoint::ALL.iter().copied().find(|p| p.name() == name)?;
    let side = match parts.next()? {
        "before" => Side::Before,
        "after" => Side::After,
        _ => return None,
    };
    let nth = parts.next().map_or(Some(1), |n| n.parse().ok())?;
    Some(Armed { point, side, countdown: AtomicU64::new(nth) })
}

/// Dies here if this point is armed and its turn has come.
pub fn reach(point: CrashPoint, side: Side) {
    let Some(armed) = armed() else { return };
    if armed.point == point && armed.side == side && armed.countdown.fetch_sub(1, Ordering::SeqCst) == 1 {
        // SIGKILL rather than abort: nothing of the process may run any more.
        let me = rustix::process::getpid();
        if rustix::process::kill_process(me, rustix::process::Signal::KILL).is_err() {
            std::process::abort();
        }
        loop {
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_parse() {
        for point in CrashPoint::ALL {
            let same = CrashPoint::ALL.iter().filter(|p| p.name() == point.name()).count();
            assert_eq!(same, 1, "{}", point.name());
            let armed = parse(&format!("{}:after:3", point.name()));
            assert!(armed.is_some_and(|a| a.point == *point && a.side == Side::After));
        }
        assert!(parse("nonsense:before").is_none());
        assert!(parse("log-sync:sideways").is_none());
    }
}
