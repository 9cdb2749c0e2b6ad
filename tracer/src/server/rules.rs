//! What the user may add to the defaults: `--port` and `--server`, from text to rule.
//!
//! Parsing is apart from [`super::filter`], so that each error names the word that is wrong, while
//! contradictions *between* flags are found there, when all of them are known.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use super::{RuleError, System, ports::port_number};

/// `--port 6000=postgresql`, or `--port 6000` for a system that only the user knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRule {
    /// The server's port.
    pub port: u16,
    /// What listens there, if it was said.
    pub system: Option<System>,
}

impl fmt::Display for PortRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.port)?;
        write_system(formatter, self.system)
    }
}

impl FromStr for PortRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (port, system) = split_system(text)?;
        Ok(Self {
            port: parse_port(port, text)?,
            system,
        })
    }
}

/// `--server`: an address, a network, either with a port, or the path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerRule {
    /// `10.0.0.5`, `10.0.0.0/8:6000`, `2001:db8::/32`, `[2001:db8::/32]:5432`.
    Address {
        /// Which servers.
        prefix: Prefix,
        /// Only this port, even one that isn't known as a database's.
        port: Option<u16>,
    },
    /// `/run/x.sock`, `@abstract`, either with `=system`.
    Path {
        /// As the kernel shows it, `@` for the leading NUL of an abstract name.
        path: String,
        /// What listens there, if it was said.
        system: Option<System>,
    },
}

impl fmt::Display for ServerRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { prefix, port: None } => write!(formatter, "{prefix}"),
            Self::Address {
                prefix,
                port: Some(port),
            } if prefix.address.is_ipv6() => {
                write!(formatter, "[{prefix}]:{port}")
            }
            Self::Address {
                prefix,
                port: Some(port),
            } => write!(formatter, "{prefix}:{port}"),
            Self::Path { path, system } => {
                write!(formatter, "{}", path.escape_debug())?;
                write_system(formatter, *system)
            }
        }
    }
}

impl FromStr for ServerRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.starts_with(['/', '@']) {
            let (path, system) = split_system(text)?;
            if path.len() < 2 {
                return Err(RuleError::new(format!("{text:?} is not the path of a socket")));
            }
            return Ok(Self::Path {
                path: path.to_owned(),
                system,
            });
        }
        let (prefix, port) = split_port(text)?;
        let port = port.map(|port| parse_port(port, text)).transpose()?;
        Ok(Self::Address {
            prefix: Prefix::parse(prefix, text)?,
            port,
        })
    }
}

/// A network: an address whose first `length` bits count. Host bits are zero, v4-mapped is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Whether the address is in this network. IPv4 is never in an IPv6 network, not even in `::/0`.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && {
            let (network, length) = self.in_128_bits();
            masked(to_v6(address), length) == network
        }
    }

    /// The same network with IPv4 as v4-mapped IPv6, as a kernel trie holds it.
    #[must_use]
    pub fn in_128_bits(self) -> (Ipv6Addr, u8) {
        match self.address {
            IpAddr::V4(address) => (
                address.to_ipv6_mapped(),
                self.length.saturating_add(V4_MAPPED_BITS),
            ),
            IpAddr::V6(address) => (address, self.length),
        }
    }

    fn parse(text: &str, whole: &str) -> Result<Self, RuleError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| {
            RuleError::new(format!(
                "{address:?} in {whole:?} is not an IP address; host names are not looked up, write ADDR[/LEN][:PORT] \
                 (IPv6 with a port in brackets: [2001:db8::/32]:5432) or the path of a unix socket"
            ))
        })?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(longest), |length| {
            let digits = length.bytes().all(|byte| byte.is_ascii_digit());
            let number = length.parse().ok().filter(|number| digits && *number <= longest);
            number.ok_or_else(|| {
                RuleError::new(format!(
                    "{length:?} in {whole:?} is not a prefix length from 0 to {longest}"
                ))
            })
        })?;
        let network = match address {
            IpAddr::V4(v4) => masked(v4.to_ipv6_mapped(), length + V4_MAPPED_BITS),
            IpAddr::V6(v6) => masked(v6, length),
        };
        // "::ffff:10.0.0.0/104" is 10.0.0.0/8; with fewer than 96 bits it is more than IPv4.
        match network.to_ipv4_mapped() {
            Some(v4) if address.is_ipv4() => Ok(Self {
                address: v4.into(),
                length,
            }),
            Some(v4) if length >= V4_MAPPED_BITS => Ok(Self {
                address: v4.into(),
                length: length - V4_MAPPED_BITS,
            }),
            _ => Ok(Self {
                address: network.into(),
                length,
            }),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = if self.address.is_ipv4() { 32 } else { 128 };
        if self.length == longest {
            write!(formatter, "{}", self.address)
        } else {
            write!(formatter, "{}/{}", self.address, self.length)
        }
    }
}

/// `::ffff:0:0/96`, <https://www.rfc-editor.org/rfc/rfc4291#section-2.5.5.2>.
const V4_MAPPED_BITS: u8 = 96;

fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn masked(address: Ipv6Addr, length: u8) -> Ipv6Addr {
    let mask = u128::MAX
        .checked_shl(128 - u32::from(length.min(128)))
        .unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

/// Takes `:PORT` off. Without brackets an IPv6 address can't have one: `::1:5432` is an address.
fn split_port(text: &str) -> Result<(&str, Option<&str>), RuleError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest
            .split_once(']')
            .ok_or_else(|| RuleError::new(format!("the bracket in {text:?} is not closed")))?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((inside, Some(port))),
            None if after.is_empty() => Ok((inside, None)),
            None => Err(RuleError::new(format!(
                "{after:?} after the bracket in {text:?} is not :PORT (a prefix length goes inside: [2001:db8::/32]:5432)"
            ))),
        };
    }
    match text.rsplit_once(':') {
        Some((address, port)) if !address.contains(':') => Ok((address, Some(port))),
        _ => Ok((text, None)),
    }
}

fn split_system(text: &str) -> Result<(&str, Option<System>), RuleError> {
    match text.rsplit_once('=') {
        Some((before, system)) => Ok((before, Some(system.parse()?))),
        None => Ok((text, None)),
    }
}

fn parse_port(port: &str, whole: &str) -> Result<u16, RuleError> {
    port_number(port).ok_or_else(|| {
        RuleError::new(format!(
            "{port:?} in {whole:?} is not a port number from 1 to 65535"
        ))
    })
}

fn write_system(formatter: &mut fmt::Formatter<'_>, system: Option<System>) -> fmt::Result {
    system.map_or(Ok(()), |system| write!(formatter, "={system}"))
}

#[cfg(test)]
mod tests;
