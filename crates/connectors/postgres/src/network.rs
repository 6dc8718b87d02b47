//! Networks of IP addresses, as catalogs and `pg_hba.conf` write them.

use std::net::IpAddr;

/// `192.0.2.0/24`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Reads `address` or `address/bits`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        Self::new(address, bits.unwrap_or(width(address)))
    }

    /// From an address and a mask, as `pg_hba_file_rules` shows them.
    pub fn masked(address: &str, mask: &str) -> Option<Self> {
        let (address, mask): (IpAddr, IpAddr) = (address.parse().ok()?, mask.parse().ok()?);
        let ones = number(mask).leading_ones() - (128 - width(mask));
        let whole = number(mask).count_ones() - (128 - width(mask)) == ones;
        (whole && width(mask) == width(address)).then(|| Self::new(address, ones))?
    }

    fn new(address: IpAddr, bits: u32) -> Option<Self> {
        (bits <= width(address)).then_some(Self { address, bits })
    }

    /// Whether everything of `other` is in it.
    pub fn covers(&self, other: &Self) -> bool {
        width(self.address) == width(other.address)
            && self.bits <= other.bits
            && ((number(self.address) ^ number(other.address)) << (128 - width(self.address))).leading_zeros()
                >= self.bits
    }

    /// Whether it is all addresses of its family.
    pub const fn is_all(&self) -> bool {
        self.bits == 0
    }

    /// Whether it is of IPv4.
    pub const fn is_v4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

const fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address in the low bits; for IPv4 all bits above are one, so that masks are whole.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => (u128::MAX << 32) | u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_cover_what_is_in_them() {
        let covers = |a: &str, b: &str| Network::parse(a).unwrap().covers(&Network::parse(b).unwrap());
        assert!(covers("192.0.2.0/24", "192.0.2.7") && covers("0.0.0.0/0", "10.0.0.0/8"));
        assert!(
            covers("192.0.2.7", "192.0.2.7/32") && covers("::1", "::1/128") && covers("::/0", "fe80::/10")
        );
        assert!(!covers("192.0.2.0/24", "192.0.3.7") && !covers("192.0.2.7/32", "192.0.2.0/24"));
        assert!(!covers("0.0.0.0/0", "::1") && !covers("::/0", "127.0.0.1") && !covers("fe80::/10", "::1"));
        assert_eq!(Network::masked("192.0.2.0", "255.255.255.0"), Network::parse("192.0.2.0/24"));
        assert_eq!(Network::masked("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), Network::parse("::1"));
        assert_eq!(Network::masked("0.0.0.0", "0.0.0.0"), Network::parse("0.0.0.0/0"));
        assert_eq!(Network::masked("1.2.3.4", "255.0.255.0"), None);
        assert_eq!(Network::parse("1.2.3.4/33"), None);
    }
}
