//! Where a cluster is: `blockyard://host:port[,host:port…]`.

use std::fmt;

use proto::error::{ErrorCode, FsError, FsResult};

/// Scheme of the address of a cluster.
pub const SCHEME: &str = "blockyard://";
/// Port of a namenode when none is named.
pub const DEFAULT_PORT: u16 = 8020;

/// Host and port of one namenode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address; an IPv6 address is without its brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The namenodes of a cluster: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterAddress {
    namenodes: Vec<HostPort>,
}

impl ClusterAddress {
    /// Reads an address as a person writes it; the scheme may be left out.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`], saying what is wrong.
    pub fn parse(text: &str) -> FsResult<Self> {
        let hosts = match text.split_once("://") {
            Some(("blockyard", rest)) => rest,
            Some((scheme, _)) => return Err(invalid(text, &format!("scheme {scheme:?} is not known"))),
            None => text,
        };
        let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
        let namenodes = hosts.split(',').map(|one| parse_one(text, one)).collect::<FsResult<Vec<_>>>()?;
        Ok(Self { namenodes })
    }
    /// The namenodes, in the order in which they are tried.
    #[must_use]
    pub fn namenodes(&self) -> &[HostPort] {
        &self.namenodes
    }
}

impl fmt::Display for ClusterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        for (i, one) in self.namenodes.iter().enumerate() {
            write!(f, "{}{one}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

fn parse_one(text: &str, one: &str) -> FsResult<HostPort> {
    let (host, port) = match one.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match one.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (one, None),
        },
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().map_err(|error| invalid(text, &format!("port {port:?}: {error}")))?,
    };
    let well_formed =
        !host.is_empty() && !host.chars().any(|c| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '@'));
    if !well_formed {
        return Err(invalid(text, &format!("host {host:?} is not one")));
    }
    Ok(HostPort { host: host.to_owned(), port })
}

fn invalid(text: &str, why: &str) -> FsError {
    FsError::new(ErrorCode::InvalidArgument, format!("{text:?} names no cluster: {why}"))
        .with_hint("write blockyard://HOST:PORT, further namenodes after commas")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        let hosts = |text: &str| ClusterAddress::parse(text).map(|a| a.to_string()).ok();
        assert_eq!(hosts("blockyard://127.0.0.1:9").as_deref(), Some("blockyard://127.0.0.1:9"));
        assert_eq!(hosts("nn1").as_deref(), Some("blockyard://nn1:8020"));
        assert_eq!(hosts("blockyard://a:1,b:2/").as_deref(), Some("blockyard://a:1,b:2"));
        assert_eq!(hosts("blockyard://[::1]:7").as_deref(), Some("blockyard://[::1]:7"));
        assert_eq!(hosts("[::1]").as_deref(), Some("blockyard://[::1]:8020"));
        for bad in ["", "hdfs://a:1", "blockyard://", "a:x", "a:70000", "a b", "a,,b", "blockyard://a/b"] {
            assert_eq!(hosts(bad), None, "{bad:?}");
        }
    }
}
