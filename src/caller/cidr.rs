//! Ranges of IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of IP addresses such as `10.0.0.0/8` or `fd00::/8`.
///
/// An IPv4 address is the same address when it is written as an IPv6 one (`::ffff:10.0.0.1`, which
/// is how a socket that takes both reports it); `::/0` is all of IPv6 and nothing of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// Why a text is not a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// What stands before the `/` is no IP address.
    #[error("this is not an IP address")]
    Address,
    /// What stands behind the `/` is no length of a prefix.
    #[error("the number behind `/` must be between 0 and {most}")]
    Prefix {
        /// The bits that an address of this kind has.
        most: u8,
    },
    /// An address in the range, and not its first one: a slip in one of the two numbers.
    #[error("this range begins at {begin}")]
    NotTheFirst {
        /// The range with these bits.
        begin: Cidr,
    },
}

impl Cidr {
    /// Reads a range; an address without a `/` is a range of one.
    ///
    /// # Errors
    /// [`CidrError`]; a range whose address has bits behind its prefix is refused, because nobody
    /// can tell which of the two numbers was meant.
    pub fn parse(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        let most = width(address);
        let prefix = match prefix {
            None => most,
            Some(text) => {
                // `u8::from_str` would take `+8`, and `08` is octal to some.
                let plain = |prefix: &u8| *prefix <= most && prefix.to_string() == text;
                text.parse().ok().filter(plain).ok_or(CidrError::Prefix { most })?
            }
        };
        let (network, prefix) = match address.to_canonical() {
            // 96 bits say that this is IPv4; a range that shares fewer does not begin here.
            v4 if v4 != address && prefix >= 96 => (v4, prefix - 96),
            _ => (address, prefix),
        };
        let begin = Self { network: masked(network, prefix), prefix };
        if begin.network == network { Ok(begin) } else { Err(CidrError::NotTheFirst { begin }) }
    }

    /// Whether the address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.prefix) == self.network
    }

    /// Whether all its addresses are this machine's own.
    pub fn is_loopback(&self) -> bool {
        self.network.is_loopback()
    }

    /// The first of its addresses.
    pub fn first(&self) -> IpAddr {
        self.network
    }

    /// How many bits its addresses share.
    pub(crate) fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with zeros behind its first `prefix` bits.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let rest = u32::from(width(address).saturating_sub(prefix));
    // Shifting by the whole width is no shift at all in the processor.
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has(range: &str, address: &str) -> bool {
        Cidr::parse(range).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_range_has_its_addresses_and_no_others() {
        for (range, within, without) in [
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            ("10.1.2.3", ["10.1.2.3", "::ffff:10.1.2.3"], ["10.1.2.2", "10.1.2.4"]),
            ("10.1.2.2/31", ["10.1.2.2", "10.1.2.3"], ["10.1.2.1", "10.1.2.4"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "fd00::1"]),
            ("fd00::/8", ["fd00::", "fdff::1"], ["fc00::1", "fe00::"]),
            ("::1", ["::1", "0:0::1"], ["::2", "127.0.0.1"]),
            ("::/0", ["::", "ffff::1"], ["10.0.0.1", "::ffff:10.0.0.1"]),
        ] {
            for address in within {
                assert!(has(range, address), "{address} in {range}");
            }
            for address in without {
                assert!(!has(range, address), "{address} in {range}");
            }
        }
    }

    #[test]
    fn an_ipv4_address_is_itself_in_either_form() {
        assert!(has("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(has("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(has("::ffff:10.0.0.0/104", "::ffff:10.1.2.3"));
        assert_eq!(Cidr::parse("::ffff:10.0.0.0/104"), Cidr::parse("10.0.0.0/8"));
        assert_eq!(Cidr::parse("::ffff:0:0/96"), Cidr::parse("0.0.0.0/0"));
        assert!(!has("fd00::/8", "::ffff:253.0.0.1"));
    }

    #[test]
    fn what_could_be_a_slip_is_refused() {
        for (text, most) in [
            ("10.0.0.0/33", 32),
            ("10.0.0.0/", 32),
            ("10.0.0.0/08", 32),
            ("10.0.0.0/+8", 32),
            ("10.0.0.0/255.0.0.0", 32),
            ("fd00::/129", 128),
            ("fd00::/-1", 128),
        ] {
            assert_eq!(Cidr::parse(text), Err(CidrError::Prefix { most }), "{text}");
        }
        for text in ["", "/8", "10/8", "10.0.0/8", "010.0.0.0/8", "localhost", "10.0.0.1:80"] {
            assert_eq!(Cidr::parse(text), Err(CidrError::Address), "{text}");
        }
        let told = |text| Cidr::parse(text).unwrap_err().to_string();
        assert_eq!(told("10.1.0.0/8"), "this range begins at 10.0.0.0/8");
        assert_eq!(told("fd00::1/64"), "this range begins at fd00::/64");
        assert!(matches!(Cidr::parse("::ffff:0:0/95"), Err(CidrError::NotTheFirst { .. })));
    }

    proptest! {
        #[test]
        fn an_address_lies_in_the_range_that_shares_its_first_bits(
            base: u128, other: u128, shared in 0..=128u32, prefix in 0..=128u32,
        ) {
            let keep = u128::MAX.checked_shl(128 - shared).unwrap_or(0);
            let other = (base & keep) | (other & !keep);
            let network = masked(Ipv6Addr::from_bits(base).into(), prefix as u8);
            let range = Cidr { network, prefix: prefix as u8 };
            let same = (base ^ other).leading_zeros() >= prefix;
            let address = IpAddr::from(Ipv6Addr::from_bits(other));
            prop_assume!(network.to_canonical() == network && address.to_canonical() == address);
            prop_assert_eq!(range.contains(address), same);
            prop_assert_eq!(Cidr::parse(&range.to_string()), Ok(range));
        }
    }
}
