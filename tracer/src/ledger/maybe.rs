//! A number that may be unknown, in no more room than one that is known: `Option<u64>` takes sixteen bytes, and a
//! connection has a dozen of them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Makes one. What is kept is the number and one, 0 for an unknown; so an unknown is less than any number, as it is
/// in an [`Option`]. The largest number of all comes back one less: no time, count or inode gets there.
macro_rules! maybe {
    ($name:ident, $number:ty) => {
        /// See the module's head.
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) struct $name($number);

        impl $name {
            /// The number; `None` while it is unknown.
            pub(super) fn get(self) -> Option<$number> {
                self.0.checked_sub(1)
            }
        }

        impl From<Option<$number>> for $name {
            fn from(number: Option<$number>) -> Self {
                Self(number.map_or(0, |number| number.saturating_add(1)))
            }
        }

        impl From<$number> for $name {
            fn from(number: $number) -> Self {
                Some(number).into()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.get().fmt(f)
            }
        }
    };
}

maybe!(MaybeU64, u64);
maybe!(MaybeU32, u32);

/// An address and port that may be unknown: a connection has no end at port 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MaybeAddress {
    /// An IPv4 address as the IPv6 address that stands for it.
    ip: [u8; 16],
    port: u16,
}

impl MaybeAddress {
    /// The address; `None` while it is unknown.
    pub(super) fn get(self) -> Option<SocketAddr> {
        let address = || SocketAddr::new(IpAddr::from(self.ip).to_canonical(), self.port);
        (self.port != 0).then(address)
    }

    /// Takes this one over if none is known yet.
    pub(super) fn learn(&mut self, address: Option<SocketAddr>) {
        if self.port == 0 {
            *self = address.into();
        }
    }
}

impl From<Option<SocketAddr>> for MaybeAddress {
    fn from(address: Option<SocketAddr>) -> Self {
        let known = |address: SocketAddr| Self {
            ip: match address.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            }
            .octets(),
            port: address.port(),
        };
        address.map_or_else(Self::default, known)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_unknown_costs_no_room() {
        assert_eq!((size_of::<MaybeU64>(), size_of::<MaybeU32>()), (8, 4));
        assert_eq!(size_of::<MaybeAddress>(), 18);
    }

    #[test]
    fn the_largest_number_is_taken_for_the_one_before() {
        assert_eq!(MaybeU64::from(u64::MAX).get(), Some(u64::MAX - 1));
    }

    #[test]
    fn an_address_comes_back_and_only_the_first_is_taken() {
        for text in ["10.0.0.9:40000", "[2001:db8::9]:1", "[::]:65535", "0.0.0.0:1"] {
            let address = text.parse().ok();
            let mut kept = MaybeAddress::default();
            assert_eq!(kept.get(), None);
            kept.learn(address);
            kept.learn("10.0.0.1:1".parse().ok());
            assert_eq!(kept.get(), address);
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back_and_compares_as_an_option_does(
            one in prop::option::of(..u64::MAX),
            other in prop::option::of(..u64::MAX),
        ) {
            let (small, large) = (MaybeU64::from(one), MaybeU64::from(other));
            prop_assert_eq!(small.get(), one);
            prop_assert_eq!(small.cmp(&large), one.cmp(&other));
        }
    }
}
