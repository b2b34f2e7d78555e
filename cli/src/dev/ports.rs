//! Which ports the roles of a development cluster listen on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// `--ports`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// The well-known ones; a taken one is replaced by a free one near it.
    Default,
    /// Whatever is free.
    Random,
    /// A row of ports from here on; a taken one is an error.
    From(u16),
}

impl FromStr for Ports {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Self::Default),
            "random" => Ok(Self::Random),
            number => match number.parse() {
                Ok(port) if port >= 1024 => Ok(Self::From(port)),
                _ => Err("write `default`, `random`, or a port from 1024 on".to_owned()),
            },
        }
    }
}

/// Ports of one role: its protocol's and its operations page's. 0: the role takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RolePorts {
    pub(crate) main: u16,
    pub(crate) http: u16,
}

impl RolePorts {
    pub(crate) fn addresses(self) -> (SocketAddr, SocketAddr) {
        (loopback(self.main), loopback(self.http))
    }
}

/// The ports of all roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) namenode: RolePorts,
    pub(crate) datanodes: Vec<RolePorts>,
    /// What to tell the user about replaced ports.
    pub(crate) notes: Vec<String>,
}

/// How far from a taken port a replacement is looked for before any free one is taken.
const NEAR: u16 = 64;

/// Chooses the ports.
///
/// # Errors
/// A taken port in a row that the user asked for.
pub(crate) fn plan(ports: Ports, datanodes: u16) -> io::Result<Plan> {
    plan_with(ports, datanodes, &is_free)
}

fn plan_with(ports: Ports, datanodes: u16, free: &dyn Fn(u16) -> bool) -> io::Result<Plan> {
    let wanted: Vec<u16> = match ports {
        Ports::Random => vec![0; 2 + 2 * usize::from(datanodes)],
        Ports::Default => well_known(datanodes),
        Ports::From(base) => (0..2 + 2 * datanodes).map(|i| base.saturating_add(i)).collect(),
    };
    let mut notes = Vec::new();
    let mut chosen: Vec<u16> = Vec::new();
    for &port in &wanted {
        let taken = |p: u16| chosen.contains(&p) || !free(p);
        if port == 0 || !taken(port) {
            chosen.push(port);
        } else if matches!(ports, Ports::From(_)) {
            let text = format!("port {port} is in use by another process; choose another --ports BASE or `random`");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        } else {
            let near = (port..port.saturating_add(NEAR)).find(|p| !taken(*p) && !wanted.contains(p)).unwrap_or(0);
            let instead = if near == 0 { "a random one".to_owned() } else { near.to_string() };
            notes.push(format!("port {port} is in use by another process; using {instead}"));
            chosen.push(near);
        }
    }
    let mut pairs = chosen.chunks_exact(2).map(|pair| RolePorts { main: pair[0], http: pair[1] });
    let namenode = pairs.next().unwrap_or(RolePorts { main: 0, http: 0 });
    Ok(Plan { namenode, datanodes: pairs.collect(), notes })
}

/// 8020 and 9870, then 9866/9864, 9876/9874, 9886/9884, …
fn well_known(datanodes: u16) -> Vec<u16> {
    let mut ports = vec![8020, 9870];
    for i in 0..datanodes {
        ports.extend([9866 + 10 * i, 9864 + 10 * i]);
    }
    ports
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn is_free(port: u16) -> bool {
    base::net::listen_blocking(loopback(port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_ports_give_way_and_say_so() {
        let plan = plan_with(Ports::Default, 2, &|port| port != 8020 && port != 8021).unwrap();
        assert_eq!(plan.namenode, RolePorts { main: 8022, http: 9870 });
        assert_eq!(plan.datanodes, [RolePorts { main: 9866, http: 9864 }, RolePorts { main: 9876, http: 9874 }]);
        assert_eq!(plan.notes, ["port 8020 is in use by another process; using 8022"]);
    }

    #[test]
    fn a_replacement_never_takes_another_roles_port() {
        let plan = plan_with(Ports::Default, 2, &|port| port != 9864).unwrap();
        assert_eq!(plan.datanodes[0], RolePorts { main: 9866, http: 9865 });
    }

    #[test]
    fn a_row_is_taken_as_it_is_or_refused() {
        let plan = plan_with(Ports::From(5000), 1, &|_| true).unwrap();
        assert_eq!(
            (plan.namenode.main, plan.namenode.http, plan.datanodes[0].main, plan.datanodes[0].http),
            (5000, 5001, 5002, 5003)
        );
        let error = plan_with(Ports::From(5000), 1, &|port| port != 5002).unwrap_err();
        assert!(error.to_string().contains("port 5002 is in use"));
    }

    #[test]
    fn the_flag_parses() {
        assert_eq!("default".parse(), Ok(Ports::Default));
        assert_eq!("random".parse(), Ok(Ports::Random));
        assert_eq!("7000".parse(), Ok(Ports::From(7000)));
        for bad in ["", "80", "70000", "-1", "yes"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad}");
        }
    }
}
