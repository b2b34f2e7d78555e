//! Where settings come from, flattened to (dotted key, value, origin).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{Fault, read_text};

/// What names of environment variables with settings begin with. Only names with `__` after it are settings:
/// `BLOCKYARD_NAMENODE__LISTEN` is the key `namenode.listen`; `BLOCKYARD_FS` is not a setting of a server.
pub const ENVIRONMENT_PREFIX: &str = "BLOCKYARD_";

/// A value as it stood in its source.
#[derive(Debug, Clone)]
pub(super) enum Text {
    Typed(toml::Value),
    Untyped(String),
}

/// One setting of one source.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) text: Text,
    pub(super) origin: String,
}

/// The sources of settings, weakest first: file, environment, flags.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    flags: Vec<(String, String, String)>,
}

impl Sources {
    /// No source at all: the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Reads this TOML file.
    #[must_use]
    pub fn file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_owned());
        self
    }
    /// Takes variables of the form `BLOCKYARD_SECTION__KEY`; others are passed over.
    #[must_use]
    pub fn environment<N: Into<OsString>, V: Into<OsString>>(mut self, vars: impl IntoIterator<Item = (N, V)>) -> Self {
        for (name, value) in vars {
            // A name or value that is not UTF-8 can be no setting of ours.
            let (Ok(name), Ok(value)) = (name.into().into_string(), value.into().into_string()) else { continue };
            if name.strip_prefix(ENVIRONMENT_PREFIX).is_some_and(|rest| rest.contains("__")) {
                self.environment.push((name, value));
            }
        }
        self.environment.sort();
        self
    }
    /// Takes the variables of this process.
    #[must_use]
    pub fn process_environment(self) -> Self {
        self.environment(std::env::vars_os())
    }
    /// Sets a key from a flag. Flags given later win.
    #[must_use]
    pub fn flag(mut self, key: &str, flag: &str, value: impl Into<String>) -> Self {
        self.flags.push((key.to_owned(), flag.to_owned(), value.into()));
        self
    }

    /// All settings, weakest source first. Faults of the file as a whole go to `faults`.
    pub(super) fn settings(&self, faults: &mut Vec<Fault>) -> Vec<Setting> {
        let mut settings = Vec::new();
        if let Some(path) = &self.file {
            match read_text(path) {
                Ok(text) => file_settings(path, &text, &mut settings, faults),
                Err(message) => faults.push(Fault { origin: path.display().to_string(), message }),
            }
        }
        for (name, value) in &self.environment {
            let rest = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(name);
            settings.push(Setting {
                key: rest.to_ascii_lowercase().replace("__", "."),
                text: Text::Untyped(value.clone()),
                origin: format!("environment variable {name}"),
            });
        }
        for (key, flag, value) in &self.flags {
            settings.push(Setting {
                key: key.clone(),
                text: Text::Untyped(value.clone()),
                origin: format!("flag {flag}"),
            });
        }
        settings
    }
}

fn file_settings(path: &Path, text: &str, settings: &mut Vec<Setting>, faults: &mut Vec<Fault>) {
    let line_of = |offset: usize| text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1;
    let (spans, values) = match (DeTable::parse(text), text.parse::<toml::Table>()) {
        (Ok(spans), Ok(values)) => (spans, values),
        (Err(error), _) | (_, Err(error)) => {
            let line = error.span().map_or(1, |span| line_of(span.start));
            let origin = format!("{}:{line}", path.display());
            faults.push(Fault { origin, message: error.message().to_owned() });
            return;
        }
    };
    let mut walk = Walk { path, line_of: &line_of, settings };
    walk.table("", spans.get_ref(), &values);
}

struct Walk<'a> {
    path: &'a Path,
    line_of: &'a dyn Fn(usize) -> usize,
    settings: &'a mut Vec<Setting>,
}

impl Walk<'_> {
    fn table(&mut self, prefix: &str, spans: &DeTable<'_>, values: &toml::Table) {
        for (name, span) in spans {
            let key =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            match (span.get_ref(), values.get(name.get_ref().as_ref())) {
                (DeValue::Table(inner), Some(toml::Value::Table(table))) => self.table(&key, inner, table),
                (_, Some(value)) => self.settings.push(Setting {
                    key,
                    text: Text::Typed(value.clone()),
                    origin: format!("{}:{}", self.path.display(), (self.line_of)(name.span().start)),
                }),
                (_, None) => {}
            }
        }
    }
}

/// What an untyped text may mean, likeliest first: itself, or the TOML value it spells.
pub(super) fn candidates(text: &str) -> Vec<toml::Value> {
    let mut all = vec![toml::Value::String(text.to_owned())];
    if let Ok(table) = format!("v = {text}").parse::<toml::Table>()
        && table.len() == 1
        && let Some(value) = table.get("v")
    {
        all.push(value.clone());
    }
    all
}
