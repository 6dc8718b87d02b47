//! Where webhooks may go: never to addresses that only this machine or its cloud answers on, such as metadata services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// May a webhook go there? Private networks may, link-local and metadata addresses may not, in whatever clothes.
pub fn allowed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => allowed_v4(v4),
        IpAddr::V6(v6) => {
            let embedded = embedded_v4(v6);
            !(v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                // Metadata of Amazon's machines.
                || v6.segments().starts_with(&[0xfd00, 0x0ec2])
                || embedded.is_some_and(|v4| !allowed_v4(v4)))
        }
    }
}

fn allowed_v4(v4: Ipv4Addr) -> bool {
    !(v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        // "This network", RFC 1122: Linux takes 0.0.0.0 for itself.
        || v4.octets().starts_with(&[0])
        // Metadata of Alibaba's and Oracle's machines.
        || v4 == Ipv4Addr::new(100, 100, 100, 200)
        || v4 == Ipv4Addr::new(192, 0, 0, 192))
}

/// The IPv4 address inside a mapped, compatible, translated (RFC 6052) or 6to4 (RFC 3056) address.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        // `::1` is loopback, not an address inside one.
        [0, 0, 0, 0, 0, 0, 0, 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, g, h] | [0x64, 0xff9b, 0, 0, 0, 0, g, h] => low(g, h),
        [0x2002, b, c, ..] => low(b, c),
        _ => None,
    }
}

/// May clear text go there?
pub fn loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// A name that leads where webhooks may not go.
#[derive(Debug, thiserror::Error)]
#[error("{host} leads to {address}, where webhooks must not go")]
pub struct Forbidden {
    host: String,
    address: IpAddr,
}

/// Resolves names and refuses those that lead astray. The connection is made to what was checked, so a name that
/// changes its mind between check and use gains nothing.
pub struct Guarded(pub fn(IpAddr) -> bool);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let may = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(bad) = found.iter().find(|address| !may(address.ip())) {
                return Err(Forbidden { host: name.as_str().to_owned(), address: bad.ip() }.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_out_of_reach_in_whatever_clothes() {
        for bad in [
            "169.254.169.254",
            "169.254.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "fe80::1",
            "febf::1",
            "::",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(!allowed(bad.parse().unwrap()), "{bad}");
        }
        for good in [
            "127.0.0.1",
            "::1",
            "10.0.0.8",
            "192.168.1.1",
            "203.0.113.5",
            "fd12::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(allowed(good.parse().unwrap()), "{good}");
        }
        assert!(loopback("::ffff:127.0.0.1".parse().unwrap()) && !loopback("10.0.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_name_that_leads_astray_is_refused() {
        let refuse = Guarded(|_| false).resolve("localhost".parse().unwrap()).await;
        assert!(refuse.err().unwrap().to_string().contains("must not go"));
        let mut found = Guarded(loopback).resolve("localhost".parse().unwrap()).await.unwrap();
        assert!(found.next().is_some());
    }
}
