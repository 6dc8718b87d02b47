//! Requests to cancel a database statement. They come on connections of their own, without a login, and through a balancer
//! possibly to another gateway than the session's; the key's number tells which gateway gave it out.

use std::net::SocketAddr;

use halligan_core::ids::Name;
use sha2::Digest as _;

use crate::secret::Secret;

/// Bits of a key's number that are the gateway's; one number has 31.
pub const GATEWAY_BITS: u32 = 10;
/// Longest key, in bytes (protocol 3.2 of PostgreSQL).
pub const KEY_MOST_BYTES: usize = 256;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct CancelRequest {
    /// The number.
    pub process: u32,
    /// The secret beside it, [`KEY_MOST_BYTES`] at most.
    pub key: Secret<Vec<u8>>,
    /// From where.
    pub client: SocketAddr,
    /// The gateway that it came to, if it was another.
    pub through: Option<Name>,
}

impl CancelRequest {
    /// The number of the gateway that gave the key out.
    pub const fn gateway(&self) -> u32 {
        self.process >> (31 - GATEWAY_BITS) & ((1 << GATEWAY_BITS) - 1)
    }
}

/// Where requests for sessions of this gateway end: its listener.
pub trait CancelDesk: Send + Sync + 'static {
    /// Does what is asked, if the key is one of its own. Nobody is told whether it was.
    fn cancel(&self, request: &CancelRequest);
}

/// A gateway's number in keys, from its name. Two gateways may share one.
pub fn gateway_number(name: &Name) -> u32 {
    let digest = sha2::Sha256::digest(name.as_str().as_bytes());
    digest.first_chunk().copied().map_or(0, u32::from_be_bytes) >> (32 - GATEWAY_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_the_gateway() {
        let name = Name::new("gw-1").unwrap();
        let number = gateway_number(&name);
        assert!(number < 1 << GATEWAY_BITS);
        let request = CancelRequest {
            process: (number << (31 - GATEWAY_BITS)) | 77,
            key: Secret::new(vec![7; 4]),
            client: "192.0.2.7:1".parse().unwrap(),
            through: None,
        };
        assert_eq!(request.gateway(), number);
        assert!(!format!("{request:?}").contains("[7"), "the key is not shown");
    }
}
