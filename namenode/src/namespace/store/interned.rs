//! Names of users and groups, each kept once. Numbers are given in the order of first use, which is the order of
//! the log: they are equal on every member. None is ever forgotten.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// Strings by number.
#[derive(Default)]
pub(crate) struct Interned {
    texts: Arc<Vec<Arc<str>>>,
    numbers: HashMap<Arc<str>, u32, FxBuildHasher>,
}

impl Interned {
    /// The number of a string, if it was ever used.
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }
    /// The number of a string, given now if it has none.
    pub(crate) fn intern(&mut self, text: &str) -> u32 {
        if let Some(number) = self.find(text) {
            return number;
        }
        let number = self.texts.len() as u32;
        let text: Arc<str> = text.into();
        Arc::make_mut(&mut self.texts).push(text.clone());
        self.numbers.insert(text, number);
        number
    }
    /// The string of a number.
    pub(crate) fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }
    /// All strings by number, shared.
    pub(crate) const fn texts(&self) -> &Arc<Vec<Arc<str>>> {
        &self.texts
    }
}
