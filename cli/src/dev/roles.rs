//! The roles of a development cluster: their names, folders and environment.

use std::str::FromStr;

/// An environment variable for one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoleEnv {
    /// `namenode`, `dn1`, `dn2`, …
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for RoleEnv {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(role, rest)| Some((role, rest.split_once('=')?)));
        let Some((role, (name, value))) = parsed else { return Err("write ROLE:NAME=VALUE".to_owned()) };
        Ok(Self { role: role.to_owned(), name: name.to_owned(), value: value.to_owned() })
    }
}
