//! Figures, printed as text for people or as one JSON object.

use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Outcome;

/// Figures in the order in which they were measured.
pub(super) struct Report {
    json: bool,
    figures: Map<String, Value>,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self { json, figures: Map::new() }
    }
    /// A count, or a size with its unit in the name.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.put(name, json!(value), &value.to_string());
    }
    /// Something per file, or a share.
    pub(super) fn ratio(&mut self, name: &str, value: f64) {
        self.put(name, json!((value * 100.0).round() / 100.0), &format!("{value:.2}"));
    }
    /// So many in this time.
    pub(super) fn rate(&mut self, name: &str, count: u64, took: Duration) {
        let rate = (count as f64 / took.as_secs_f64().max(1e-9)).round();
        self.put(name, json!(rate), &format!("{rate:.0}"));
    }
    /// A time.
    pub(super) fn millis(&mut self, name: &str, took: Duration) {
        let millis = took.as_secs_f64() * 1e3;
        self.put(name, json!((millis * 1000.0).round() / 1000.0), &format!("{millis:.3}"));
    }
    fn put(&mut self, name: &str, value: Value, text: &str) {
        if !self.json {
            println!("{name:<44} {text:>16}");
        }
        self.figures.insert(name.to_owned(), value);
    }
    /// Prints what was not printed yet.
    pub(super) fn print(&self) -> Outcome<()> {
        if self.json {
            let text = Value::Object(self.figures.clone()).to_string();
            writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
