//! What must be there, and what may be there: pure.
//!
//! ```text
//!   an operation begins    may(name, state)      what was and what comes are both allowed
//!   it was acknowledged    is(name, state)       only this
//!   it was refused         is(name, before)
//!   nobody knows           (nothing)             both stay allowed until somebody looks, when it cannot change any more
//!   a read                 Judge: begin ─▶ bytes … ─▶ end: is what was read one of the allowed states?
//! ```
//!
//! Each worker has a book of the names of its own directory: it alone changes them, everybody may read them.

use std::collections::BTreeMap;

use super::words::{Content, Difference, WriterNumber};

/// What a name can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing.
    Absent,
    /// A file with the first bytes of a content: at least `least_bytes` of them.
    File { content: Content, least_bytes: u64 },
}

impl State {
    /// A file with all of a content.
    pub(super) fn whole(content: Content) -> Self {
        let least_bytes = content.len_bytes();
        Self::File { content, least_bytes }
    }
    /// Bytes that it has at least.
    pub(super) const fn len_bytes(&self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::File { least_bytes, .. } => *least_bytes,
        }
    }
    /// The content of a file whose length is known.
    fn certain(&self) -> Option<&Content> {
        match self {
            Self::File { content, least_bytes } if *least_bytes == content.len_bytes() => Some(content),
            _ => None,
        }
    }
}

/// Counts the changes of a name: equal before and after a read, nothing happened in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(u64);

#[derive(Clone, Debug)]
struct Name {
    allowed: Vec<State>,
    version: Version,
}

/// A move whose end is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: String,
    pub(super) to: String,
}

/// The names of one directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    names: BTreeMap<String, Name>,
    moves: Vec<Move>,
    changes: u64,
}

impl Book {
    /// An operation begins that may make this of the name.
    pub(super) fn may(&mut self, name: &str, state: State) {
        let version = self.next_version();
        let entry = self.names.entry(name.to_owned());
        let entry = entry.or_insert_with(|| Name { allowed: vec![State::Absent], version });
        entry.version = version;
        if !entry.allowed.contains(&state) {
            entry.allowed.push(state);
        }
    }
    /// More of a file that is being written was acknowledged. Who reads it meanwhile may still see less: no new version.
    pub(super) fn grew(&mut self, name: &str, state: State) {
        if let Some(one) = self.names.get_mut(name) {
            one.allowed = vec![state];
        }
    }
    /// It is known what the name is.
    pub(super) fn is(&mut self, name: &str, state: State) {
        let version = self.next_version();
        if state == State::Absent {
            self.names.remove(name);
        } else {
            self.names.insert(name.to_owned(), Name { allowed: vec![state], version });
        }
    }
    /// A move begins.
    pub(super) fn moving(&mut self, from: &str, to: &str) {
        let Some(content) = self.content(from).cloned() else { return };
        self.may(from, State::Absent);
        self.may(to, State::whole(content));
        self.moves.push(Move { from: from.to_owned(), to: to.to_owned() });
    }
    /// A move is decided: the content is under its new name, or still under the old one (`to_was` is then what the new
    /// name has).
    pub(super) fn moved(&mut self, from: &str, to: &str, content: &Content, done: bool, to_was: State) {
        self.moves.retain(|one| one.from != from || one.to != to);
        match done {
            true => {
                self.is(from, State::Absent);
                self.is(to, State::whole(content.clone()));
            }
            false => {
                self.is(from, State::whole(content.clone()));
                self.is(to, to_was);
            }
        }
    }
    /// A move is decided by what was seen under both names.
    pub(super) fn forget_move(&mut self, one: &Move) {
        self.moves.retain(|other| other != one);
    }
    fn next_version(&mut self) -> Version {
        self.changes += 1;
        Version(self.changes)
    }

    /// The content of a file of which everything is known.
    pub(super) fn content(&self, name: &str) -> Option<&Content> {
        match &self.names.get(name)?.allowed[..] {
            [state] => state.certain(),
            _ => None,
        }
    }
    /// Names of which everything is known, in order.
    pub(super) fn certain(&self) -> Vec<&str> {
        self.names.keys().map(String::as_str).filter(|name| self.content(name).is_some()).collect()
    }
    /// Names that may be this or that.
    pub(super) fn doubtful(&self) -> Vec<&str> {
        self.names.keys().map(String::as_str).filter(|name| self.content(name).is_none()).collect()
    }
    /// All names that may be there.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }
    /// What a name may be, and its version.
    pub(super) fn allowed(&self, name: &str) -> (Version, Vec<State>) {
        let unknown = || (Version(0), vec![State::Absent]);
        self.names.get(name).map_or_else(unknown, |one| (one.version, one.allowed.clone()))
    }
    /// Is a name still as it was?
    pub(super) fn unchanged(&self, name: &str, since: Version) -> bool {
        self.names.get(name).map_or(Version(0), |one| one.version) == since
    }
    /// Moves of which nobody knows whether they happened.
    pub(super) fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// What is wrong with a complete listing.
    pub(super) fn judge_listing(&self, listed: &[String]) -> Option<String> {
        let missing = self.certain().into_iter().find(|name| !listed.iter().any(|there| there == name));
        if let Some(name) = missing {
            return Some(format!("{name} is not in the listing"));
        }
        let surplus = listed.iter().find(|name| !self.names.contains_key(*name));
        if let Some(name) = surplus {
            return Some(format!("{name} is in the listing, although it is not there"));
        }
        let doubled = (1..listed.len()).find(|at| listed.get(*at) == listed.get(at - 1));
        doubled.and_then(|at| listed.get(at)).map(|name| format!("{name} is in the listing twice"))
    }
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Bytes that were acknowledged and are not there.
    pub(super) lost_bytes: u64,
    /// Was a byte delivered that is not the right one?
    pub(super) is_wrong: bool,
    /// What is there, and what ought to be.
    pub(super) text: String,
}

/// Compares what is read of a file, piece by piece, with what it may be.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    allowed: Vec<State>,
    /// Where each allowed state was given up, and why.
    failed: Vec<Option<Difference>>,
    at_bytes: u64,
}

impl Judge {
    /// A read begins.
    pub(super) fn new(allowed: Vec<State>) -> Self {
        let failed = vec![None; allowed.len()];
        Self { allowed, failed, at_bytes: 0 }
    }
    /// Bytes read so far.
    pub(super) const fn at_bytes(&self) -> u64 {
        self.at_bytes
    }
    /// The next bytes of the file.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for (state, failed) in self.allowed.iter().zip(&mut self.failed) {
            if let (State::File { content, .. }, None) = (state, &failed) {
                *failed = content.differs(self.at_bytes, bytes);
            }
        }
        self.at_bytes += bytes.len() as u64;
    }
    /// The file is over: which of the allowed states it is. A file whose length was open is now known.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn end(&self, newest: WriterNumber) -> Result<State, Wrong> {
        let mut why: Option<(u64, Wrong)> = None;
        for (state, failed) in self.allowed.iter().zip(&self.failed) {
            let State::File { content, least_bytes } = state else { continue };
            let (reached, wrong) = match failed {
                Some(difference) => {
                    (difference.at_bytes, Wrong { lost_bytes: 0, is_wrong: true, text: difference.text(newest) })
                }
                None if self.at_bytes < *least_bytes => {
                    let text = format!("{} bytes are there, {least_bytes} ought to be", self.at_bytes);
                    (self.at_bytes, Wrong { lost_bytes: least_bytes - self.at_bytes, is_wrong: false, text })
                }
                None => return Ok(State::whole(content.cut(self.at_bytes))),
            };
            // The state that fitted longest is the one that was meant.
            if why.as_ref().is_none_or(|(best, _)| *best < reached) {
                why = Some((reached, wrong));
            }
        }
        Err(why.map_or_else(
            || Wrong { lost_bytes: 0, is_wrong: true, text: "a file is there, although it ought not to be".to_owned() },
            |(_, wrong)| wrong,
        ))
    }
    /// There is no such file.
    ///
    /// # Errors
    /// What is lost.
    pub(super) fn absent(&self) -> Result<State, Wrong> {
        if self.allowed.contains(&State::Absent) {
            return Ok(State::Absent);
        }
        let least = self.allowed.iter().map(|state| match state {
            State::Absent => 0,
            State::File { least_bytes, .. } => *least_bytes,
        });
        let lost_bytes = least.min().unwrap_or(0);
        Err(Wrong {
            lost_bytes,
            is_wrong: false,
            text: format!("it is not there; it ought to have {lost_bytes} bytes"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: WriterNumber = WriterNumber(9);

    fn content(writer: u32, len_bytes: u64) -> Content {
        Content::new(WriterNumber(writer), len_bytes)
    }

    fn read(book: &Book, name: &str, there: &Content) -> Result<State, Wrong> {
        let mut judge = Judge::new(book.allowed(name).1);
        for from in (0..there.len_bytes()).step_by(1000) {
            judge.feed(&there.bytes(from, 1000));
        }
        judge.end(NEWEST)
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_nothing_else() {
        let mut book = Book::default();
        book.may("a", State::whole(content(1, 5000)));
        assert!(Judge::new(book.allowed("a").1).absent().is_ok(), "not acknowledged yet");
        assert!(read(&book, "a", &content(1, 5000)).is_ok());
        book.is("a", State::whole(content(1, 5000)));
        assert_eq!(Judge::new(book.allowed("a").1).absent().unwrap_err().lost_bytes, 5000);
        let short = read(&book, "a", &content(1, 4000)).unwrap_err();
        assert_eq!((short.lost_bytes, short.is_wrong), (1000, false));
        assert!(read(&book, "a", &content(2, 5000)).unwrap_err().is_wrong);
        assert!(read(&book, "never", &content(1, 10)).unwrap_err().is_wrong);
        assert_eq!(book.certain(), ["a"]);
        book.is("a", State::Absent);
        assert!(book.names().is_empty());
    }

    #[test]
    fn a_replacement_whose_end_is_unknown_is_either_whole_and_never_a_mixture() {
        let mut book = Book::default();
        book.is("a", State::whole(content(1, 3000)));
        book.may("a", State::whole(content(2, 4000)));
        assert_eq!(book.doubtful(), ["a"]);
        assert_eq!(read(&book, "a", &content(1, 3000)), Ok(State::whole(content(1, 3000))));
        assert_eq!(read(&book, "a", &content(2, 4000)), Ok(State::whole(content(2, 4000))));
        let mixture = content(2, 2000).appended(WriterNumber(1), 1000);
        assert!(read(&book, "a", &mixture).unwrap_err().text.contains("offset 2000"));
        assert!(read(&book, "a", &content(2, 3999)).is_err());
        assert!(Judge::new(book.allowed("a").1).absent().is_err());
    }

    #[test]
    fn d_5_a_file_whose_writer_died_has_at_least_what_was_flushed() {
        let mut book = Book::default();
        book.is("a", State::File { content: content(1, 9000), least_bytes: 2000 });
        assert_eq!(read(&book, "a", &content(1, 2500)), Ok(State::whole(content(1, 2500))));
        assert_eq!(read(&book, "a", &content(1, 1999)).unwrap_err().lost_bytes, 1);
        assert!(read(&book, "a", &content(1, 9000).appended(WriterNumber(1), 1)).unwrap_err().is_wrong);
        assert!(book.certain().is_empty(), "its length is not known");
    }

    #[test]
    fn v_1_a_file_that_is_written_only_grows_and_its_readers_go_on() {
        let mut book = Book::default();
        let open = |least_bytes| State::File { content: content(1, 9000), least_bytes };
        book.may("a", open(0));
        assert!(Judge::new(book.allowed("a").1).absent().is_ok(), "not flushed yet");
        let (version, before) = book.allowed("a");
        book.grew("a", open(3000));
        assert!(book.unchanged("a", version), "a read that began before is judged by what was there then");
        let mut early = Judge::new(before);
        early.feed(&content(1, 9000).bytes(0, 500));
        assert!(early.end(NEWEST).is_ok());
        assert!(Judge::new(book.allowed("a").1).absent().is_err());
        assert_eq!(read(&book, "a", &content(1, 2999)).unwrap_err().lost_bytes, 1);
    }

    #[test]
    fn a_move_is_under_one_of_both_names() {
        let mut book = Book::default();
        book.is("a", State::whole(content(1, 10)));
        book.moving("a", "b");
        assert_eq!((book.doubtful(), book.moves().len()), (vec!["a", "b"], 1));
        book.moved("a", "b", &content(1, 10), true, State::Absent);
        assert_eq!((book.certain(), book.moves().len()), (vec!["b"], 0));
        book.moving("b", "c");
        book.moved("b", "c", &content(1, 10), false, State::Absent);
        assert_eq!(book.names(), ["b"]);
    }

    #[test]
    fn a_version_tells_whether_a_name_was_touched() {
        let mut book = Book::default();
        book.is("a", State::whole(content(1, 10)));
        let (version, _) = book.allowed("a");
        book.is("b", State::whole(content(2, 10)));
        assert!(book.unchanged("a", version));
        book.may("a", State::Absent);
        assert!(!book.unchanged("a", version));
        let (nothing, _) = book.allowed("c");
        assert!(book.unchanged("c", nothing));
        book.may("c", State::whole(content(3, 1)));
        assert!(!book.unchanged("c", nothing));
    }

    #[test]
    fn listings_have_what_is_certain_and_nothing_unknown() {
        let mut book = Book::default();
        book.is("a", State::whole(content(1, 10)));
        book.may("b", State::whole(content(2, 10)));
        let listed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(book.judge_listing(&listed(&["a"])), None);
        assert_eq!(book.judge_listing(&listed(&["a", "b"])), None);
        assert!(book.judge_listing(&listed(&["b"])).unwrap().contains("a is not in the listing"));
        assert!(book.judge_listing(&listed(&["a", "z"])).unwrap().contains("z is in the listing, although"));
        assert!(book.judge_listing(&listed(&["a", "a"])).unwrap().contains("twice"));
    }
}
