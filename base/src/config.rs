//! Settings of a server: a TOML file, then the environment, then flags, into one serde struct.
//!
//! ```text
//!   defaults  <  FILE.toml  <  BLOCKYARD_SECTION__KEY  <  --flag
//!                    └──────────┬─────────────────────────┘
//!                    every key is tried alone first: all faults are told at once,
//!                    each with where it came from; an unknown key names the nearest one
//! ```
//!
//! The struct is `Default + Serialize + Deserialize` with `#[serde(default)]` on it and on its sections: its
//! serialised default is the list of known keys. Durations and sizes use [`HumanDuration`] and [`ByteSize`].

mod sources;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use sources::{ENVIRONMENT_PREFIX, Sources};
use sources::{Setting, Text};
pub use units::{BadUnit, ByteSize, HumanDuration};

/// A configuration file longer than this is refused.
const FILE_LIMIT_BYTES: u64 = 1 << 20;

/// One thing wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where the setting came from: `file.toml:12`, `environment variable BLOCKYARD_…`, `flag --…`.
    pub origin: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Settings that cannot be used: every fault, not only the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl ConfigError {
    /// A single fault.
    #[must_use]
    pub fn one(origin: impl Into<String>, message: impl Into<String>) -> Self {
        Self { faults: vec![Fault { origin: origin.into(), message: message.into() }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {}", fault.origin, fault.message)?;
        }
        Ok(())
    }
}

/// Loads the settings from all sources.
///
/// # Errors
/// [`ConfigError`] with every unknown key, every value that does not fit, and an unreadable or malformed file.
pub fn load<T: Default + Serialize + DeserializeOwned>(sources: &Sources) -> Result<T, ConfigError> {
    build(chosen::<T>(sources)?)
}

/// One setting as it is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Dotted.
    pub key: String,
    /// Its value, as the struct writes it.
    pub value: serde_json::Value,
    /// Where it came from; `default` if no source sets it.
    pub origin: String,
}

impl Shown {
    /// Does a source set it?
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.origin != DEFAULT_ORIGIN
    }
}

const DEFAULT_ORIGIN: &str = "default";

/// Every key with the value that [`load`] would give it, and where that comes from.
///
/// # Errors
/// As [`load`].
pub fn show<T: Default + Serialize + DeserializeOwned>(sources: &Sources) -> Result<Vec<Shown>, ConfigError> {
    let chosen = chosen::<T>(sources)?;
    let origins: BTreeMap<String, String> =
        chosen.iter().map(|(key, (_, origin))| (key.clone(), origin.clone())).collect();
    let settings: T = build(chosen)?;
    let mut shown = Vec::new();
    collect(&serialised(&settings)?, "", &mut |key, value| {
        let origin = origins.get(key).map_or(DEFAULT_ORIGIN, String::as_str).to_owned();
        shown.push(Shown { key: key.to_owned(), value: value.clone(), origin });
    });
    Ok(shown)
}

/// The strongest setting of each key, with its origin.
type Chosen = BTreeMap<String, (toml::Value, String)>;

fn chosen<T: Default + Serialize + DeserializeOwned>(sources: &Sources) -> Result<Chosen, ConfigError> {
    let known = known_keys::<T>()?;
    let mut faults = Vec::new();
    let mut chosen = Chosen::new();
    for setting in sources.settings(&mut faults) {
        match check::<T>(&setting, &known) {
            Ok(value) => {
                chosen.insert(setting.key, (value, setting.origin));
            }
            Err(message) => faults.push(Fault { origin: setting.origin, message }),
        }
    }
    if faults.is_empty() { Ok(chosen) } else { Err(ConfigError { faults }) }
}

fn build<T: DeserializeOwned>(chosen: Chosen) -> Result<T, ConfigError> {
    let mut table = toml::Table::new();
    for (key, (value, _)) in chosen {
        insert(&mut table, &key, value);
    }
    T::deserialize(table).map_err(|error| ConfigError::one("configuration", error.message()))
}

/// Every key that the struct knows, dotted, with the sections themselves left out.
///
/// # Errors
/// If the default cannot be serialised: a fault of the struct, not of the user.
pub fn known_keys<T: Default + Serialize>() -> Result<Vec<String>, ConfigError> {
    let mut keys = Vec::new();
    collect(&serialised(&T::default())?, "", &mut |key, _| keys.push(key.to_owned()));
    Ok(keys)
}

fn serialised<T: Serialize>(settings: &T) -> Result<serde_json::Value, ConfigError> {
    serde_json::to_value(settings).map_err(|error| ConfigError::one("built-in defaults", error.to_string()))
}

/// Goes through the keys, dotted, with the sections themselves left out.
fn collect(value: &serde_json::Value, prefix: &str, take: &mut impl FnMut(&str, &serde_json::Value)) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                collect(field, &key, take);
            }
        }
        _ => take(prefix, value),
    }
}

/// The value that fits the key's type, or what is wrong with it.
fn check<T: DeserializeOwned>(setting: &Setting, known: &[String]) -> Result<toml::Value, String> {
    if !known.contains(&setting.key) {
        return Err(unknown_key(&setting.key, known));
    }
    let candidates = match &setting.text {
        Text::Typed(value) => vec![value.clone()],
        Text::Untyped(text) => sources::candidates(text),
    };
    let mut first_error = None;
    for value in candidates {
        let mut alone = toml::Table::new();
        insert(&mut alone, &setting.key, value.clone());
        match T::deserialize(alone) {
            Ok(_) => return Ok(value),
            Err(error) => {
                first_error.get_or_insert_with(|| error.message().trim().to_owned());
            }
        }
    }
    Err(format!("{}: {}", setting.key, first_error.unwrap_or_default()))
}

fn unknown_key(key: &str, known: &[String]) -> String {
    match nearest(key, known.iter().map(String::as_str)) {
        Some(near) => format!("unknown key {key:?}; did you mean {near:?}?"),
        None => format!("unknown key {key:?}; the keys are {}", known.join(", ")),
    }
}

/// The candidate most like `word`, if any is like it at all.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LIKE: f64 = 0.6;
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn insert(table: &mut toml::Table, key: &str, value: toml::Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let entry = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let bytes = crate::disk::read_file(&crate::disk::OsDisk, path, FILE_LIMIT_BYTES)
        .map_err(|error| format!("cannot read the configuration: {error}"))?;
    String::from_utf8(bytes).map_err(|error| format!("the configuration is not UTF-8: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::time::Duration;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Section {
        listen: String,
        heartbeat: HumanDuration,
        reserve: ByteSize,
        dirs: Vec<String>,
        limit: Option<u64>,
        on: bool,
    }
    impl Default for Section {
        fn default() -> Self {
            Self {
                listen: "127.0.0.1:1".into(),
                heartbeat: HumanDuration(Duration::from_secs(3)),
                reserve: ByteSize(1 << 20),
                dirs: vec![],
                limit: None,
                on: false,
            }
        }
    }
    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Both {
        datanode: Section,
        namenode: Section,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        use std::io::Write;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn later_sources_win() {
        let file = file("[namenode]\nlisten = \"f:1\"\nheartbeat = \"5s\"\nreserve = \"2MiB\"\n");
        let sources = Sources::new()
            .file(file.path())
            .environment([("BLOCKYARD_NAMENODE__HEARTBEAT", "7s"), ("BLOCKYARD_NAMENODE__LIMIT", "9"), ("PATH", "/")])
            .flag("namenode.heartbeat", "--heartbeat", "250ms")
            .flag("namenode.dirs", "--dir", "[\"a\", \"b\"]")
            .flag("namenode.on", "--on", "true");
        let got: Both = load(&sources).unwrap();
        assert_eq!(got.namenode.listen, "f:1");
        assert_eq!(got.namenode.heartbeat.0, Duration::from_millis(250));
        assert_eq!(got.namenode.reserve.0, 2 << 20);
        assert_eq!(got.namenode.limit, Some(9));
        assert_eq!(got.namenode.dirs, ["a", "b"]);
        assert!(got.namenode.on);
        assert_eq!(got.datanode, Section::default());
    }

    #[test]
    fn every_fault_is_told_with_its_origin_and_the_nearest_key() {
        let file = file("[namenode]\nlisen = \"f:1\"\n\nheartbeat = \"5 parsecs\"\n[datanod]\non = true\n");
        let sources = Sources::new().file(file.path()).environment([("BLOCKYARD_NAMENODE__RESERVE", "lots")]);
        let error = load::<Both>(&sources).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.faults.len(), 4, "{text}");
        assert!(text.contains(":2: unknown key \"namenode.lisen\"; did you mean \"namenode.listen\"?"), "{text}");
        assert!(text.contains(":4: namenode.heartbeat"), "{text}");
        assert!(text.contains("did you mean \"datanode.on\"?"), "{text}");
        assert!(text.contains("environment variable BLOCKYARD_NAMENODE__RESERVE: namenode.reserve"), "{text}");
    }

    #[test]
    fn what_is_in_force_is_shown_with_its_origin() {
        let file = file("[namenode]\nheartbeat = \"1m\"\nreserve = \"2MiB\"\n");
        let sources = Sources::new().file(file.path()).environment([("BLOCKYARD_NAMENODE__RESERVE", "4096")]);
        let shown = show::<Both>(&sources).unwrap();
        assert_eq!(shown.iter().map(|one| one.key.clone()).collect::<Vec<_>>(), known_keys::<Both>().unwrap());
        let one = |key: &str| shown.iter().find(|one| one.key == key).cloned().unwrap();
        let reserve = one("namenode.reserve");
        assert_eq!(
            (reserve.value, reserve.origin.as_str()),
            ("4KiB".into(), "environment variable BLOCKYARD_NAMENODE__RESERVE")
        );
        assert!(one("namenode.heartbeat").origin.ends_with(":2") && one("namenode.heartbeat").is_set());
        assert!(one("datanode.on").origin == "default" && !one("datanode.on").is_set());
        assert!(show::<Both>(&sources.flag("namenode.on", "--on", "perhaps")).is_err());
    }

    #[test]
    fn malformed_missing_and_misplaced_files_are_refused() {
        let bad = file("[namenode\n");
        assert!(load::<Both>(&Sources::new().file(bad.path())).unwrap_err().to_string().contains(":1:"));
        let gone = load::<Both>(&Sources::new().file(Path::new("/nonexistent/x.toml"))).unwrap_err();
        assert!(gone.to_string().contains("cannot read"));
        let misplaced = file("namenode = 3\n");
        assert!(load::<Both>(&Sources::new().file(misplaced.path())).is_err());
    }
}
