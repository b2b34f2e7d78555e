//! The roles of a development cluster: names, what is known of a running one, single variables for one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a role does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Namenode,
    Datanode,
}

impl Kind {
    /// The server verb of this role.
    pub(crate) const fn verb(self) -> &'static str {
        match self {
            Self::Namenode => "namenode",
            Self::Datanode => "datanode",
        }
    }
}

/// What a role tells when it listens; `blockyard namenode --json` prints it as its first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) v: u32,
    #[serde(rename = "type")]
    pub(crate) line: String,
    pub(crate) role: Kind,
    pub(crate) pid: i32,
    /// Identity of a datanode, empty for a namenode.
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    /// Clients' address of a namenode, data address of a datanode.
    pub(crate) address: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Facts {
    pub(crate) fn new(role: Kind, id: String, dir: PathBuf, address: SocketAddr, http: SocketAddr) -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self { v: 1, line: "listening".to_owned(), role, pid, id, dir, address, http }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_environment_parses() {
        let got: RoleEnv = "dn1:BLOCKYARD_CRASH=block-sync:before:2".parse().unwrap();
        assert_eq!((got.role.as_str(), got.name.as_str()), ("dn1", "BLOCKYARD_CRASH"));
        assert_eq!(got.value, "block-sync:before:2");
        assert!("dn1".parse::<RoleEnv>().is_err());
        assert!("dn1:x".parse::<RoleEnv>().is_err());
    }
}
