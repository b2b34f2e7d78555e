//! What the operations pages of a cluster say while one of its datanodes is dead.

use super::own::Own;
use super::roles::{metrics, value_of};
use crate::verbs::Failure;

/// The servers that are left.
#[derive(Debug)]
pub(super) struct Survivors {
    victim: String,
    namenode: Vec<String>,
    datanodes: Vec<String>,
}

/// Figures of all of them, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Whole replicas on the datanodes that are left.
    pub(super) replicas: u64,
    /// Bytes that they have sent for blocks that lack copies.
    pub(super) copied_bytes: u64,
    /// Copies that one of them made at a time, at most.
    pub(super) copies_most: u64,
    pub(super) under_replicated: u64,
    pub(super) missing: u64,
}

impl Figures {
    fn add_datanode(&mut self, page: &str) {
        let value = |name| value_of(page, name).unwrap_or(0.0) as u64;
        self.replicas += value("blockyard_datanode_blocks");
        self.copied_bytes += value("blockyard_replication_bytes_total");
        self.copies_most = self.copies_most.max(value("blockyard_datanode_copies_most"));
    }
    fn add_namenode(&mut self, page: &str) {
        let value = |name| value_of(page, name).unwrap_or(0.0) as u64;
        self.under_replicated += value("blockyard_blocks_under_replicated");
        self.missing += value("blockyard_blocks_missing");
    }
}

impl Survivors {
    /// All servers but the one with this page.
    pub(super) fn new(own: &Own, victim: &str) -> Self {
        let all: Vec<&str> = own.datanodes.iter().map(|datanode| datanode.page.as_str()).collect();
        Self {
            victim: victim.to_owned(),
            namenode: own.pages.iter().filter(|page| !all.contains(&page.as_str())).cloned().collect(),
            datanodes: all.iter().filter(|page| **page != victim).map(|page| (*page).to_owned()).collect(),
        }
    }
    /// Is this the page of the one that dies?
    pub(super) fn is_victim(&self, page: &str) -> bool {
        self.victim == page
    }
    /// Pages of those that are left.
    pub(super) fn pages(&self) -> Vec<String> {
        self.namenode.iter().chain(&self.datanodes).cloned().collect()
    }
    /// Asks all of them.
    pub(super) async fn look(&self) -> Result<Figures, Failure> {
        let mut figures = Figures::default();
        let failed = |page: &str, why: String| Failure::server(format!("the page {page} went away: {why}"));
        for page in &self.datanodes {
            figures.add_datanode(&metrics(page).await.map_err(|why| failed(page, why))?);
        }
        for page in &self.namenode {
            figures.add_namenode(&metrics(page).await.map_err(|why| failed(page, why))?);
        }
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_datanodes_are_sums_but_for_the_most() {
        let page = |blocks, most| {
            format!(
                "blockyard_datanode_blocks {blocks}\nblockyard_datanode_copies_most {most}\n\
                 blockyard_replication_bytes_total{{reason=\"endangered\"}} 5\n\
                 blockyard_replication_bytes_total{{reason=\"lacking\"}} 6\n"
            )
        };
        let mut figures = Figures::default();
        figures.add_datanode(&page(3, 8));
        figures.add_datanode(&page(4, 2));
        figures.add_namenode("blockyard_blocks_under_replicated 7\nblockyard_blocks_missing 1\n");
        let found = Figures { replicas: 7, copied_bytes: 22, copies_most: 8, under_replicated: 7, missing: 1 };
        assert_eq!(figures, found);
    }
}
