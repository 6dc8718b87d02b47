//! A node changes its key: it makes the next one ([`NodeKey::make_next`]), tells control over its present link and proves
//! that it holds it, and takes it into use ([`NodeKey::take_next`]) when control has said yes. Control allows both keys
//! until the new one was seen on a link, so that a rotation cut short locks nobody out.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::error::LinkError;
use crate::messages::{PeerInfo, Request};
use crate::node_key::{KeyPrint, NodeKey};

/// Stands before what is signed, so that the signature means nothing elsewhere.
const ROTATE_DOMAIN: &[u8] = b"halligan-rotate-v1\0";

/// What a node sends to control. `me` is who it is.
pub fn request(me: &PeerInfo, next: &NodeKey) -> Result<Request, LinkError> {
    let proof = next.sign(&message(me, &next.print()))?;
    Ok(Request::RotateKey { public_key: next.public_key(), proof: hex::encode(proof) })
}

/// What control makes of it: the print of the new key, or a sentence that says why not. `from` is whose link it came by.
pub fn check(from: &PeerInfo, public_key: &str, proof: &str) -> Result<KeyPrint, String> {
    let mut raw = [0u8; 32];
    let key = hex::decode_to_slice(public_key, &mut raw)
        .ok()
        .and_then(|()| VerifyingKey::from_bytes(&raw).ok())
        .ok_or("the new key is no Ed25519 public key")?;
    let mut signature = [0u8; 64];
    hex::decode_to_slice(proof, &mut signature).map_err(|_| "the proof is no Ed25519 signature")?;
    let print = KeyPrint::of_ed25519(&raw);
    key.verify_strict(&message(from, &print), &Signature::from_bytes(&signature))
        .map_err(|_| format!("{from} has not proved that it holds the new key"))?;
    Ok(print)
}

fn message(node: &PeerInfo, print: &KeyPrint) -> Vec<u8> {
    [ROTATE_DOMAIN, node.name.as_str().as_bytes(), b"\0", print.to_string().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use halligan_core::ids::Name;

    use super::*;
    use crate::messages::Role;

    #[test]
    fn a_new_key_counts_only_for_the_node_that_holds_it() {
        let node =
            |name: &str| PeerInfo { name: Name::new(name).unwrap(), role: Role::Gateway, site: Name::main() };
        let next = NodeKey::make().unwrap();
        let Request::RotateKey { public_key, proof } = request(&node("gw-1"), &next).unwrap() else {
            panic!()
        };
        assert_eq!(check(&node("gw-1"), &public_key, &proof).unwrap(), next.print());
        assert!(check(&node("gw-2"), &public_key, &proof).is_err(), "a proof of one node is none of another");
        let other = NodeKey::make().unwrap().public_key();
        assert!(check(&node("gw-1"), &other, &proof).is_err(), "a key that somebody else holds");
    }
}
