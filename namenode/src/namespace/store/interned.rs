//! Names of users and groups, each kept once. Numbers are given in the order of first use, which is the order of
//! the log: they are equal on every member. None is ever forgotten.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// Strings that are kept at most: a caller who makes up names must not fill the memory.
pub(crate) const MAX_TEXTS: usize = 1 << 20;

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
    /// Is this string kept already, or is there room for it?
    pub(crate) fn has_room(&self, text: &str) -> bool {
        self.texts.len() < MAX_TEXTS || self.find(text).is_some()
    }
    /// Is there room for so many more that somebody makes up? A quarter is left for owners of files.
    pub(crate) fn has_room_for(&self, more: usize) -> bool {
        more == 0 || self.texts.len() + more <= MAX_TEXTS / 4 * 3
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_1_names_are_bounded() {
        let mut interned = Interned::default();
        interned.intern("7");
        assert!(interned.has_room("new"));
        interned.texts = Arc::new(vec![Arc::from("7"); MAX_TEXTS]);
        assert!(interned.has_room("7") && !interned.has_room("new"));
    }
}
