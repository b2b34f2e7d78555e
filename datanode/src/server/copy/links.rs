//! Connections to other nodes that carried a copy and may carry the next one: small replicas go one after the other
//! over one connection, not each with a connection and two threads of its own.

use std::time::Duration;

use base::clock::Moment;
use base::net::BlockingStream;
use parking_lot::Mutex;
use transfer::Target;

/// Time for which an idle connection is kept. Shorter than its target's patience.
const KEEP: Duration = Duration::from_secs(2);
/// Idle connections at most.
const MOST: usize = 64;

#[derive(Debug)]
struct Idle {
    host: String,
    port: u16,
    stream: BlockingStream,
    since: Moment,
}

/// Idle connections, those used last at the end.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<Vec<Idle>>);

impl Links {
    /// A connection to this node, if one is idle. The node may have closed it meanwhile.
    pub(super) fn take(&self, target: &Target, now: Moment) -> Option<BlockingStream> {
        let mut idle = self.0.lock();
        idle.retain(|link| now.since(link.since) < KEEP);
        let to_it = |link: &Idle| (link.host.as_str(), link.port) == (target.host.as_str(), target.transfer_port);
        let place = idle.iter().rposition(to_it)?;
        Some(idle.remove(place).stream)
    }
    /// Keeps a connection on which nothing is under way.
    pub(super) fn put(&self, target: &Target, stream: BlockingStream, now: Moment) {
        let mut idle = self.0.lock();
        idle.retain(|link| now.since(link.since) < KEEP);
        if idle.len() == MOST {
            idle.remove(0);
        }
        idle.push(Idle { host: target.host.clone(), port: target.transfer_port, stream, since: now });
    }
    /// Closes what nobody has used lately.
    pub(super) fn tend(&self, now: Moment) {
        self.0.lock().retain(|link| now.since(link.since) < KEEP);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::SocketAddr;

    use proto::ids::{NodeId, StorageId};

    use super::*;

    #[test]
    fn a_connection_is_used_again_by_copies_to_its_own_target_and_not_when_it_is_old() {
        let listener = base::net::listen_blocking(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = |transfer_port| Target {
            node: NodeId::new("n"),
            storage: StorageId::new("s"),
            host: "127.0.0.1".into(),
            transfer_port,
        };
        let at = |ms| Moment::after_start(Duration::from_millis(ms));
        let links = Links::default();
        assert!(links.take(&target(port), at(0)).is_none());
        let stream = base::net::dial_blocking("127.0.0.1", port, KEEP).unwrap();
        let (mut there, _) = listener.accept().unwrap();
        links.put(&target(port), stream, at(0));
        assert!(links.take(&target(port.wrapping_add(1)), at(1)).is_none());
        let mut again = links.take(&target(port), at(1)).unwrap();
        again.write_all(b"x").unwrap();
        assert_eq!(there.read(&mut [0; 2]).unwrap(), 1);
        links.put(&target(port), again, at(10));
        links.tend(at(10 + KEEP.as_millis() as u64));
        assert_eq!(there.read(&mut [0]).unwrap(), 0, "it is closed");
        assert!(links.take(&target(port), at(10)).is_none());
    }
}
