//! When do the copies of blocks begin of which one copy is left?

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;

use super::shared::Shared;
use super::stall::Cause;
use crate::page;

/// A node that is silent for less makes nothing begin: the namenode waits for 10 s.
pub(super) const WORTH_WATCHING: Duration = Duration::from_secs(13);
/// When they have to have begun.
const PROMISED: Duration = Duration::from_secs(30);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Operations pages of the servers that are left.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    pub(super) datanodes: Vec<String>,
    pub(super) namenode: Option<String>,
}

/// Watches the servers for so long, and tells the run when the first such copy was made.
pub(super) async fn watch(shared: &Shared, pages: &Pages, lasts: Duration) {
    let silent = shared.clock.now();
    let end = silent.plus(lasts);
    let (mut sent, mut began, mut wanted): (BTreeMap<&str, f64>, Option<Moment>, bool) = (BTreeMap::new(), None, false);
    while shared.clock.now() < end {
        if began.is_none() {
            for page in &pages.datanodes {
                let Some(now) = copied_bytes(page).await else { continue };
                // Less than before: it was started anew.
                let before = sent.insert(page, now).unwrap_or(now);
                if now > before {
                    began.get_or_insert(shared.clock.now());
                }
            }
            wanted |= endangered(pages).await.is_some_and(|count| count > 0.0);
        }
        let left = end.since(shared.clock.now());
        tokio::time::sleep(left.min(LOOK)).await;
    }
    let now = shared.clock.now();
    // Without the namenode nobody can give orders: that is told by other figures.
    if shared.faulty().lock().cause(silent, began.unwrap_or(now)) == Cause::Namenode {
        return;
    }
    match began {
        Some(began) => shared.repair_began(Some(u64::try_from(began.since(silent).as_millis()).unwrap_or(u64::MAX))),
        None if wanted && now.since(silent) > PROMISED => shared.repair_began(None),
        None => {}
    }
}

/// Bytes that a datanode sent for blocks with one copy left.
async fn copied_bytes(address: &str) -> Option<f64> {
    let text = page::ask(address, "/metrics").await.ok()?;
    value_of(&text, "blockyard_replication_bytes_total{reason=\"endangered\"}").or(page::is_ok(&text).then_some(0.0))
}

/// Blocks with one copy left, or none, as the namenode counts them.
async fn endangered(pages: &Pages) -> Option<f64> {
    let text = page::ask(pages.namenode.as_deref()?, "/metrics").await.ok()?;
    value_of(&text, "blockyard_blocks_endangered")
}

/// The value of one line of a page.
fn value_of(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_that_of_its_line_alone() {
        let page = "blockyard_replication_bytes_total{reason=\"endangered\"} 17\n\
            blockyard_replication_bytes_total{reason=\"lacking\"} 4\nblockyard_blocks_endangered 2\n";
        assert_eq!(value_of(page, "blockyard_replication_bytes_total{reason=\"endangered\"}"), Some(17.0));
        assert_eq!(value_of(page, "blockyard_blocks_endangered"), Some(2.0));
        assert_eq!(value_of(page, "blockyard_blocks"), None);
    }
}
