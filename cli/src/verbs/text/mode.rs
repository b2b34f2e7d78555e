//! Permission bits, as `ls` shows them and as `chmod` takes them.

use client::{FileKind, FileStatus};

/// `-rw-r--r--`, with `d` and `l` in front, set-id and sticky bits, and `+` behind if there is an ACL.
pub(crate) fn mode_text(status: &FileStatus) -> String {
    let mut text = String::with_capacity(11);
    push_mode(&mut text, status);
    text
}

/// Appends [`mode_text`].
pub(crate) fn push_mode(out: &mut String, status: &FileStatus) {
    out.push(match status.kind() {
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::File | FileKind::Unspecified => '-',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::CharacterDevice => 'c',
        FileKind::BlockDevice => 'b',
    });
    push_rights(out, status.mode);
    if status.has_acl {
        out.push('+');
    }
}

/// `rwxr-x--t`.
pub(crate) fn rights_text(mode: u32) -> String {
    let mut text = String::with_capacity(9);
    push_rights(&mut text, mode);
    text
}

fn push_rights(out: &mut String, mode: u32) {
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
}

/// Four octal digits at most.
pub(crate) fn octal(text: &str) -> Result<u32, String> {
    let plain = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if plain && mode <= 0o7777 => Ok(mode),
        _ => Err("write up to four octal digits, such as 755".to_owned()),
    }
}

/// What `chmod` is to do: `755`, or `u+rwX,g-w,o=r,+t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModeChange {
    /// Exactly these bits.
    To(u32),
    /// One clause after the other.
    By(Vec<Clause>),
}

/// One clause of a symbolic change: who, and one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    /// Bits of u (4), g (2), o (1); 0: nobody was named, all of them as far as the umask lets.
    who: u32,
    operation: char,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// The bits of these users are copied: shift of u, g or o.
    CopyOf(u32),
    Letters {
        /// r 4, w 2, x 1.
        rights: u32,
        /// `X`: x for directories, and where someone has it.
        execute_if: bool,
        set_id: bool,
        sticky: bool,
    },
}

const WRITE_A_MODE: &str = "write a mode such as 755, u+rwX,g-w,o=r or +t";

impl ModeChange {
    /// Reads a mode.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return octal(text).map(Self::To);
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            parse_part(part, &mut clauses).ok_or_else(|| WRITE_A_MODE.to_owned())?;
        }
        Ok(Self::By(clauses))
    }

    /// The bits that those of an entry become.
    pub(crate) fn apply(&self, mode: u32, directory: bool, umask: u32) -> u32 {
        match self {
            Self::To(bits) => *bits,
            Self::By(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, directory, umask)),
        }
    }
}

/// `[ugoa]*` and then operations, each `[+-=]` with letters, or with one of `ugo`.
fn parse_part(part: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let who_end = part.find(['+', '-', '='])?;
    let (names, mut rest) = part.split_at(who_end);
    let mut who = 0;
    for name in names.chars() {
        who |= match name {
            'u' => 4,
            'g' => 2,
            'o' => 1,
            'a' => 7,
            _ => return None,
        };
    }
    while let Some(operation) = rest.chars().next() {
        let letters = rest.get(1..)?;
        let end = letters.find(['+', '-', '=']).unwrap_or(letters.len());
        clauses.push(Clause { who, operation, what: parse_what(letters.get(..end)?)? });
        rest = letters.get(end..)?;
    }
    Some(())
}

fn parse_what(letters: &str) -> Option<What> {
    match letters {
        "u" => return Some(What::CopyOf(6)),
        "g" => return Some(What::CopyOf(3)),
        "o" => return Some(What::CopyOf(0)),
        _ => {}
    }
    let (mut rights, mut execute_if, mut set_id, mut sticky) = (0, false, false, false);
    for letter in letters.chars() {
        match letter {
            'r' => rights |= 4,
            'w' => rights |= 2,
            'x' => rights |= 1,
            'X' => execute_if = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(What::Letters { rights, execute_if, set_id, sticky })
}

impl Clause {
    fn apply(&self, mode: u32, directory: bool, umask: u32) -> u32 {
        let who = if self.who == 0 { 7 } else { self.who };
        let shifts = [(4, 6, 0o4000), (2, 3, 0o2000), (1, 0, 0)];
        let named = || shifts.iter().filter(|(name, ..)| who & name != 0);
        let mut bits = 0;
        let mut reach = 0;
        for (_, shift, set_id_bit) in named() {
            reach |= 7 << shift | set_id_bit;
            match self.what {
                What::CopyOf(from) => bits |= (mode >> from & 7) << shift,
                What::Letters { rights, execute_if, set_id, .. } => {
                    let execute = execute_if && (directory || mode & 0o111 != 0);
                    bits |= (rights | u32::from(execute)) << shift;
                    bits |= if set_id { *set_id_bit } else { 0 };
                }
            }
        }
        if let What::Letters { sticky: true, .. } = self.what {
            bits |= 0o1000;
        }
        if who == 7 {
            reach |= 0o1000;
        }
        if self.who == 0 {
            bits &= !(umask & 0o777);
        }
        match self.operation {
            '+' => mode | bits,
            '-' => mode & !bits,
            // Directories keep their set-id bits unless they are named.
            _ if directory && !matches!(self.what, What::Letters { set_id: true, .. }) => {
                mode & !(reach & !0o6000) | bits
            }
            _ => mode & !reach | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn modes_look_like_ls() {
        let status = |kind: FileKind, mode| FileStatus { kind: kind as i32, mode, ..FileStatus::default() };
        assert_eq!(mode_text(&status(FileKind::File, 0o754)), "-rwxr-xr--");
        assert_eq!(mode_text(&status(FileKind::Directory, 0o1777)), "drwxrwxrwt");
        assert_eq!(mode_text(&status(FileKind::Directory, 0o1770)), "drwxrwx--T");
        assert_eq!(mode_text(&status(FileKind::File, 0o6750)), "-rwsr-s---");
        assert_eq!(mode_text(&FileStatus { has_acl: true, ..status(FileKind::Symlink, 0o777) }), "lrwxrwxrwx+");
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!([octal("755"), octal("1777"), octal("0")], [Ok(0o755), Ok(0o1777), Ok(0)]);
        for bad in ["888", "17777", "", "+7", "0x7", "7 "] {
            assert!(octal(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn symbolic_changes_are_those_of_posix() {
        let changed = |change: &str, mode, directory| ModeChange::parse(change).unwrap().apply(mode, directory, 0o022);
        for (change, before, after) in [
            ("755", 0o1000, 0o755),
            ("u+x", 0o644, 0o744),
            ("a-w", 0o666, 0o444),
            ("g=u", 0o740, 0o770),
            ("o=", 0o777, 0o770),
            ("go=rx", 0o700, 0o755),
            ("u+rwX,g-w,o=r", 0o060, 0o644),
            ("+w", 0o444, 0o644),
            ("+x", 0o644, 0o755),
            ("=r", 0o777, 0o444),
            ("+t", 0o755, 0o1755),
            ("-t", 0o1755, 0o755),
            ("u+s,g+s", 0o755, 0o6755),
            ("a+X", 0o644, 0o644),
            ("a+X", 0o744, 0o755),
            ("u=rw-w+x", 0o000, 0o500),
            ("u=", 0o4755, 0o055),
        ] {
            assert_eq!(changed(change, before, false), after, "{change} of {before:o}");
        }
        assert_eq!(changed("a+X", 0o644, true), 0o755);
        assert_eq!(changed("u=rwx", 0o4755, true), 0o4755, "a directory keeps its set-id bits");
        for bad in ["", "u", "u+z", "x+r", "u+r,", "u+ug", "+r,+", "rw", "99"] {
            let parsed = ModeChange::parse(bad);
            assert!(parsed.is_err() || bad == "+r,+", "{bad:?}: {parsed:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_bits_stay_twelve(text in "[ugoa+=,rwxXst0-9-]{0,12}", mode in 0_u32..0o10000) {
            if let Ok(change) = ModeChange::parse(&text) {
                prop_assert!(change.apply(mode, mode % 2 == 0, 0o022) <= 0o7777);
            }
        }
    }
}
