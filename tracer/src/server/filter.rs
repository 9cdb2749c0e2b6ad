//! The user's flags and the defaults, put together into one question: is this a database, and which?
//!
//! Flags narrow (`--db`, `--server`) or widen (`--port`, `--all-ports`). Each combination either has one
//! meaning or is refused with a way out: at an incident, a filter that silently matches nothing looks just
//! like a healthy host.
//!
//! The kernel gets [`Databases::port_bitmap`] and [`Databases::prefixes`]. Both accept a little too much
//! together (any listed address with any listed port); [`Databases::system_of_tcp`] is exact.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use super::{
    PortRule, RuleError, ServerRule, System,
    ports::{DEFAULT_PORTS, system_of_port},
    rules::Prefix,
    unix_path::{plain_path, system_of_path},
};

/// The FILTER flags that say which servers are databases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--db`: only these systems.
    pub db: Vec<System>,
    /// `--port`: these ports too.
    pub ports: Vec<PortRule>,
    /// `--server`: only these servers.
    pub servers: Vec<ServerRule>,
    /// `--all-ports`: every port.
    pub all_ports: bool,
}

/// What is a database, by the defaults and the user's flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Databases {
    /// Ports that are databases wherever the server is.
    ports: BTreeMap<u16, System>,
    all_ports: bool,
    /// Empty: every system.
    db: Vec<System>,
    /// `None`: every server.
    servers: Option<Servers>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Servers {
    addresses: Vec<(Prefix, Option<(u16, System)>)>,
    paths: Vec<(String, System)>,
}

impl Databases {
    /// Puts the flags together.
    ///
    /// # Errors
    ///
    /// When flags contradict each other, or could never match anything.
    pub fn build(flags: &Flags) -> Result<Self, RuleError> {
        if flags.all_ports && !flags.db.is_empty() {
            return Err(RuleError::new(format!(
                "--all-ports takes every port for a database, --db {} only the ports of those systems: leave one of them \
                 out, or name the further ports with --port 6000={}",
                list(&flags.db),
                flags.db[0],
            )));
        }
        let mut databases = Self {
            ports: BTreeMap::new(),
            all_ports: flags.all_ports,
            db: flags.db.clone(),
            servers: None,
        };
        for (port, system) in DEFAULT_PORTS {
            if let Some(system) = databases.wanted(*system) {
                databases.ports.insert(*port, system);
            }
        }
        let added = databases.added_ports(&flags.ports)?;
        databases.ports.extend(&added);
        databases.servers = databases.servers(&flags.servers, &added)?;
        databases.check_each_system_can_match()?;
        Ok(databases)
    }

    /// The system behind a TCP server, `None` if it is no database. Exact.
    #[must_use]
    pub fn system_of_tcp(&self, address: IpAddr, port: u16) -> Option<System> {
        let known = || {
            self.ports
                .get(&port)
                .copied()
                .or_else(|| self.all_ports.then_some(System::Unknown))
        };
        let Some(servers) = &self.servers else {
            return known();
        };
        servers
            .addresses
            .iter()
            .filter(|(prefix, _)| prefix.contains(address))
            .find_map(|(_, only)| match only {
                Some((only, system)) => (*only == port).then_some(*system),
                None => known(),
            })
    }

    /// The system behind a unix-domain socket, `None` if it is no database. When servers were named, only
    /// those of them that are paths.
    #[must_use]
    pub fn system_of_unix(&self, path: &str) -> Option<System> {
        let Some(servers) = &self.servers else {
            return system_of_path(path).and_then(|(system, _)| self.wanted(system));
        };
        let path = plain_path(path);
        servers
            .paths
            .iter()
            .find(|(rule, _)| *rule == path)
            .map(|(_, system)| *system)
    }

    /// Bit `p % 64` of word `p / 64` is set if port `p` could be a database's on some server. A superset of
    /// [`Self::system_of_tcp`], for the kernel.
    #[must_use]
    pub fn port_bitmap(&self) -> [u64; 1024] {
        let single = |port: u16| (usize::from(port / 64), 1_u64 << (port % 64));
        let mut bitmap = [0; 1024];
        let addresses = self.servers.as_ref().map(|servers| servers.addresses.as_slice());
        let any_known = addresses.is_none_or(|rules| rules.iter().any(|(_, only)| only.is_none()));
        if any_known && self.all_ports {
            return [u64::MAX; 1024];
        }
        let known = self.ports.keys().copied().filter(|_| any_known);
        let named = addresses
            .unwrap_or_default()
            .iter()
            .filter_map(|(_, only)| only.map(|(port, _)| port));
        for (word, bit) in known.chain(named).map(single) {
            bitmap[word] |= bit;
        }
        bitmap
    }

    /// The networks of servers, IPv4 as v4-mapped, sorted and without doubles; empty means any address. A superset of
    /// [`Self::system_of_tcp`], for the kernel. (When only unix sockets were named, the bitmap is empty.)
    #[must_use]
    pub fn prefixes(&self) -> Vec<(Ipv6Addr, u8)> {
        let addresses = self.servers.iter().flat_map(|servers| &servers.addresses);
        let mut prefixes: Vec<_> = addresses.map(|(prefix, _)| prefix.in_128_bits()).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes
    }

    /// The name under which `--db` wants a system, `None` if it doesn't. A port can't tell `MariaDB` from
    /// `MySQL`, so `--db mariadb` means the ports of both, and calls them what the user does.
    fn wanted(&self, system: System) -> Option<System> {
        if self.db.is_empty() || self.db.contains(&system) {
            return Some(system);
        }
        self.db
            .iter()
            .copied()
            .find(|wanted| wanted.shares_ports_of() == Some(system))
    }

    /// The system of a server that a flag names: as said, else by default, else the one of `--db`.
    fn settle(
        &self,
        flag: &str,
        said: Option<System>,
        default: Option<System>,
        way_out: &str,
    ) -> Result<System, RuleError> {
        match (said.or(default), self.db.as_slice()) {
            (Some(system), _) => self.wanted(system).ok_or_else(|| {
                let hint = said.map_or(way_out, |_| "name the system in --db too");
                RuleError::new(format!(
                    "{flag} is {system}, which --db {} leaves out: drop one of them, or {hint}",
                    list(&self.db)
                ))
            }),
            (None, []) => Ok(System::Unknown),
            (None, [only]) => Ok(*only),
            (None, several) => Err(RuleError::new(format!(
                "{flag} could be any of --db {}: {way_out}",
                list(several)
            ))),
        }
    }

    fn added_ports(&self, rules: &[PortRule]) -> Result<BTreeMap<u16, System>, RuleError> {
        let mut said: BTreeMap<u16, System> = BTreeMap::new();
        for PortRule { port, system } in rules {
            let Some(system) = *system else { continue };
            if let Some(other) = said.insert(*port, system)
                && other != system
            {
                return Err(RuleError::new(format!(
                    "--port {port}={other} and --port {port}={system} contradict each other: keep one"
                )));
            }
        }
        let mut added = BTreeMap::new();
        for PortRule { port, .. } in rules {
            let said = said.get(port).copied();
            let flag = format!(
                "--port {}",
                PortRule {
                    port: *port,
                    system: said
                }
            );
            let way_out = format!("write which, as in --port {port}={}", self.example());
            added.insert(*port, self.settle(&flag, said, system_of_port(*port), &way_out)?);
        }
        Ok(added)
    }

    fn servers(
        &self,
        rules: &[ServerRule],
        added: &BTreeMap<u16, System>,
    ) -> Result<Option<Servers>, RuleError> {
        let mut servers = Servers::default();
        for rule in rules {
            let flag = format!("--server {rule}");
            match rule {
                ServerRule::Address { prefix, port: None } => servers.addresses.push((*prefix, None)),
                ServerRule::Address {
                    prefix,
                    port: Some(port),
                } => {
                    let way_out = format!("write which, as in --port {port}={}", self.example());
                    let said = added.get(port).copied();
                    let system = self.settle(&flag, said, system_of_port(*port), &way_out)?;
                    servers.addresses.push((*prefix, Some((*port, system))));
                }
                ServerRule::Path { path, system } => {
                    let way_out = format!("write which, as in {flag}={}", self.example());
                    let default = system_of_path(path).map(|(system, _)| system);
                    let system = self.settle(&flag, *system, default, &way_out)?;
                    servers.paths.push((plain_path(path), system));
                }
            }
        }
        Ok((!rules.is_empty()).then_some(servers))
    }

    /// A system in `--db` that no port and no socket leads to would be a filter that matches nothing.
    fn check_each_system_can_match(&self) -> Result<(), RuleError> {
        let named = self.servers.iter().flat_map(|servers| {
            let ports = servers
                .addresses
                .iter()
                .filter_map(|(_, only)| only.map(|(_, system)| system));
            ports.chain(servers.paths.iter().map(|(_, system)| *system))
        });
        let reachable: BTreeSet<System> = self.ports.values().copied().chain(named).collect();
        for system in &self.db {
            if system.shares_ports_of().is_none() && !reachable.contains(system) {
                return Err(RuleError::new(format!(
                    "no default port is known for --db {system}: add its port, as in --port 6000={system}"
                )));
            }
        }
        Ok(())
    }

    fn example(&self) -> System {
        self.db.first().copied().unwrap_or(System::Postgresql)
    }
}

fn list(systems: &[System]) -> String {
    systems
        .iter()
        .map(|system| system.name())
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests;
