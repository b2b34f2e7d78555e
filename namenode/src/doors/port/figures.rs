//! The port's figures for `/metrics`.

use base::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::doors::Carrier;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    carrier: &'static str,
}

/// What the port counts.
#[derive(Clone, Debug)]
pub struct PortFigures {
    open: Family<Label, Gauge>,
    turned_away: Counter,
    strangers: Counter,
    accept_failures: Counter,
}

/// A connection that is counted as open until it is dropped.
#[derive(Debug)]
pub(in crate::doors) struct Open(Gauge);

impl PortFigures {
    /// Registers everything.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let new = Self {
            open: Family::default(),
            turned_away: Counter::default(),
            strangers: Counter::default(),
            accept_failures: Counter::default(),
        };
        metrics.register(|registry| {
            registry.register("blockyard_connections", "Open connections", new.open.clone());
            let help = "Connections beyond the limit";
            registry.register("blockyard_connections_turned_away", help, new.turned_away.clone());
            let help = "Connections that spoke no known protocol, or nothing in time";
            registry.register("blockyard_connections_strangers", help, new.strangers.clone());
            let help = "Connections that could not be accepted";
            registry.register("blockyard_accept_failures", help, new.accept_failures.clone());
        });
        new
    }

    pub(super) fn opened(&self, carrier: Carrier) -> Open {
        let gauge = self.open.get_or_create_owned(&Label { carrier: carrier.as_str() });
        gauge.inc();
        Open(gauge)
    }
    pub(super) fn turned_away(&self) {
        self.turned_away.inc();
    }
    pub(super) fn stranger(&self) {
        self.strangers.inc();
    }
    pub(super) fn accept_failed(&self) {
        self.accept_failures.inc();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
