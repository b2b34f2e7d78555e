//! What `find` looks for, as a pure test of an entry.

use client::FileKind;

use crate::verbs::paths::glob::Names;
use crate::verbs::paths::name_of;
use crate::verbs::paths::walk::Found;
use crate::verbs::text::mode::octal;
use crate::verbs::text::size;

const DAY_NS: i64 = 86_400_000_000_000;

/// Kinds that are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds {
    files: bool,
    directories: bool,
    links: bool,
}

/// An amount, and on which side of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount {
    side: Side,
    /// Bytes, or ns.
    value: i64,
    /// Amounts are counted in whole ones of these.
    unit: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Less,
    Exactly,
    More,
}

/// Permission bits, and how many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Exactly(u32),
    All(u32),
    Any(u32),
}

/// All that must hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Condition<'a> {
    pub(crate) name: Option<&'a Names>,
    pub(crate) iname: Option<&'a Names>,
    pub(crate) path: Option<&'a Names>,
    pub(crate) kinds: Option<Kinds>,
    pub(crate) size: Option<Amount>,
    pub(crate) mtime: Option<Amount>,
    pub(crate) atime: Option<Amount>,
    pub(crate) newer_than_ns: Option<i64>,
    pub(crate) empty: bool,
    pub(crate) user: Option<&'a str>,
    pub(crate) group: Option<&'a str>,
    pub(crate) perm: Option<Mode>,
    pub(crate) now_ns: i64,
}

impl Condition<'_> {
    /// Does it hold for an entry?
    pub(crate) fn holds(&self, found: &Found) -> bool {
        let (status, kind) = (&found.status, found.status.kind());
        let name = name_of(&found.path).unwrap_or("/");
        let file = kind == FileKind::File;
        self.kinds.is_none_or(|kinds| kinds.holds(kind))
            && self.name.is_none_or(|names| names.matches(name))
            && self.iname.is_none_or(|names| names.matches(name))
            && self.path.is_none_or(|names| names.matches(&found.path))
            && self.size.is_none_or(|size| file && size.holds(i64::try_from(status.len_bytes).unwrap_or(i64::MAX)))
            && self.mtime.is_none_or(|age| age.holds(self.now_ns.saturating_sub(status.mtime_ns)))
            && self.atime.is_none_or(|age| age.holds(self.now_ns.saturating_sub(status.atime_ns)))
            && self.newer_than_ns.is_none_or(|ns| status.mtime_ns > ns)
            && (!self.empty || is_empty(found))
            && self.user.is_none_or(|user| status.owner == user)
            && self.group.is_none_or(|group| status.group == group)
            && self.perm.is_none_or(|perm| perm.holds(status.mode))
    }
}

fn is_empty(found: &Found) -> bool {
    match found.status.kind() {
        FileKind::File => found.status.len_bytes == 0,
        FileKind::Directory => found.status.children == 0,
        _ => false,
    }
}

impl Kinds {
    const fn holds(self, kind: FileKind) -> bool {
        match kind {
            FileKind::File | FileKind::Unspecified => self.files,
            FileKind::Directory => self.directories,
            FileKind::Symlink => self.links,
            _ => false,
        }
    }
}

impl Amount {
    const fn holds(self, value: i64) -> bool {
        let whole = value.div_euclid(self.unit);
        let wanted = self.value / self.unit;
        match self.side {
            Side::Less => whole < wanted,
            Side::Exactly => whole == wanted,
            Side::More => whole > wanted,
        }
    }
}

impl Mode {
    const fn holds(self, mode: u32) -> bool {
        match self {
            Self::Exactly(bits) => mode == bits,
            Self::All(bits) => mode & bits == bits,
            Self::Any(bits) => bits == 0 || mode & bits != 0,
        }
    }
}

/// Reads `f`, `d`, `l`, or several with commas.
pub(crate) fn read_kinds(text: &str) -> Result<Kinds, String> {
    let mut kinds = Kinds { files: false, directories: false, links: false };
    for one in text.split(',') {
        match one {
            "f" => kinds.files = true,
            "d" => kinds.directories = true,
            "l" => kinds.links = true,
            _ => return Err("write f for files, d for directories, l for symbolic links".to_owned()),
        }
    }
    Ok(kinds)
}

fn side(text: &str) -> (Side, &str) {
    if let Some(rest) = text.strip_prefix('+') {
        (Side::More, rest)
    } else if let Some(rest) = text.strip_prefix('-') {
        (Side::Less, rest)
    } else {
        (Side::Exactly, text)
    }
}

/// Reads `100`, `+1G`, `-10K`.
pub(crate) fn read_size(text: &str) -> Result<Amount, String> {
    let (side, rest) = side(text);
    // `c` is how others spell bytes.
    let bytes = size::parse(rest.strip_suffix('c').unwrap_or(rest))?;
    let value = i64::try_from(bytes).map_err(|error| error.to_string())?;
    Ok(Amount { side, value, unit: 1 })
}

/// Reads days, or `90m`, `6h`, `7d`, with a sign.
pub(crate) fn read_age(text: &str) -> Result<Amount, String> {
    let (side, rest) = side(text);
    let units = [('m', 60_000_000_000), ('h', 3_600_000_000_000), ('d', DAY_NS)];
    let found = units.iter().find_map(|(letter, unit)| Some((rest.strip_suffix(*letter)?, *unit)));
    let (digits, unit) = found.unwrap_or((rest, DAY_NS));
    let count = digits.parse::<u32>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let value = count.and_then(|count| unit.checked_mul(i64::from(count)));
    value
        .map(|value| Amount { side, value, unit })
        .ok_or_else(|| "write days, or 90m, 6h, 7d; + for longer, - for less long".to_owned())
}

/// Reads `644`, `-200`, `/022`.
pub(crate) fn read_perm(text: &str) -> Result<Mode, String> {
    if let Some(rest) = text.strip_prefix('-') {
        octal(rest).map(Mode::All)
    } else if let Some(rest) = text.strip_prefix('/') {
        octal(rest).map(Mode::Any)
    } else {
        octal(text).map(Mode::Exactly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::FileStatus;

    fn found(kind: FileKind, len_bytes: u64, mode: u32, mtime_ns: i64) -> Found {
        let status =
            FileStatus { kind: kind as i32, len_bytes, mode, mtime_ns, owner: "ana".into(), ..FileStatus::default() };
        Found { path: "/logs/2026/app.LOG".into(), depth: 2, status }
    }

    #[test]
    fn each_condition_decides() {
        let names = |text: &str, ignore| Names::parse(text, ignore).unwrap();
        let (log, ilog, path) = (names("*.log", false), names("*.log", true), names("/logs/*.LOG", false));
        let file = found(FileKind::File, 1024, 0o640, 10 * DAY_NS);
        let now = Condition { now_ns: 13 * DAY_NS + 5, ..Condition::default() };
        let holds = |condition: Condition<'_>| condition.holds(&file);
        assert!(holds(now));
        assert!(!holds(Condition { name: Some(&log), ..now }) && holds(Condition { iname: Some(&ilog), ..now }));
        assert!(holds(Condition { path: Some(&path), ..now }));
        for (size, yes) in [("1K", true), ("+1K", false), ("-1K", false), ("+1023c", true), ("-2k", true)] {
            assert_eq!(holds(Condition { size: Some(read_size(size).unwrap()), ..now }), yes, "{size}");
        }
        for (age, yes) in [("3", true), ("+2", true), ("+3", false), ("-4", true), ("72h", true), ("+4000m", true)] {
            assert_eq!(holds(Condition { mtime: Some(read_age(age).unwrap()), ..now }), yes, "{age}");
        }
        for (perm, yes) in
            [("640", true), ("0600", false), ("-600", true), ("-002", false), ("/044", true), ("/007", false)]
        {
            assert_eq!(holds(Condition { perm: Some(read_perm(perm).unwrap()), ..now }), yes, "{perm}");
        }
        for (kinds, yes) in [("f", true), ("d", false), ("d,l,f", true)] {
            assert_eq!(holds(Condition { kinds: Some(read_kinds(kinds).unwrap()), ..now }), yes, "{kinds}");
        }
        assert!(holds(Condition { user: Some("ana"), ..now }) && !holds(Condition { group: Some("x"), ..now }));
        assert!(holds(Condition { newer_than_ns: Some(1), ..now }) && !holds(Condition { empty: true, ..now }));
        assert!(Condition { empty: true, ..now }.holds(&found(FileKind::Directory, 0, 0, 0)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in ["", "x", "+", "1.5", "-1w"] {
            assert!(read_age(bad).is_err() && read_size(bad).is_err() && read_perm(bad).is_err(), "{bad:?}");
        }
        assert!(read_kinds("p").is_err() && read_kinds("").is_err());
    }
}
