//! Who a client is. Nothing here trusts an offer: a login is built only after the SSH library has verified a signature
//! over this very connection, or from a one-time password that the control plane knows.

use std::borrow::Cow;
use std::net::IpAddr;

use halligan_core::ids::EntitlementName;
use halligan_session::control_plane::entitlement_of_login;
use halligan_session::{ClientConnection, ControlPlane, LoginProof, Person, Secret};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, PublicKey};
use russh::server::Auth;
use russh::{MethodKind, MethodSet};

/// Passwords that one connection may try.
const MOST_PASSWORDS: u32 = 3;
/// A one-time password has 128 bits at most; more is never read on.
const MOST_PASSWORD_BYTES: usize = 128;
/// Smallest RSA key, in bits (NIST SP 800-131A).
const LEAST_RSA_BITS: usize = 2048;

/// Somebody who proved who they are, and what they asked for.
#[derive(Debug)]
pub(crate) struct Login {
    pub person: Person,
    /// What the login name stands for, if it can be read.
    pub entitlement: Option<EntitlementName>,
}

/// Checks one connection's attempts.
#[derive(Debug, Default)]
pub(crate) struct Authenticator {
    passwords: u32,
}

/// An attempt's result for the SSH library, with the login if it was the last one needed.
pub(crate) type Attempt = (Auth, Option<Login>);

fn refused() -> Attempt {
    (Auth::reject(), None)
}

impl Authenticator {
    /// Whether the client should sign with this key. Only a hint: it may be the key of a certificate, which is not told
    /// here. A key that needs a touch is asked for only if it is known.
    pub(crate) fn worth_signing(control: &dyn ControlPlane, key: &PublicKey, algorithm: &Algorithm) -> bool {
        match algorithm {
            Algorithm::Rsa { hash: None } | Algorithm::Dsa => false,
            Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => {
                text_of(key).is_some_and(|text| control.knows_key(&text))
            }
            _ => strong(key),
        }
    }

    /// A signature by `key` was verified.
    pub(crate) async fn public_key(
        &mut self,
        control: &dyn ControlPlane,
        user: &str,
        key: &PublicKey,
        algorithm: &Algorithm,
        from: &ClientConnection,
    ) -> Attempt {
        if matches!(algorithm, Algorithm::Rsa { hash: None }) || !strong(key) {
            return refused();
        }
        let Some(openssh) = text_of(key) else { return refused() };
        // Clients offer every key they have: only those that somebody registered count as an attempt.
        if !control.knows_key(&openssh) {
            return refused();
        }
        login(control, user, LoginProof::PublicKey { openssh }, from).await
    }

    /// A signature by the key inside `certificate` was verified, and the certificate's own by the key it names as its CA,
    /// and its time. Whether that CA is ours, and whose certificate it is, says the control plane.
    pub(crate) async fn certificate(
        &mut self,
        control: &dyn ControlPlane,
        user: &str,
        certificate: &Certificate,
        from: &ClientConnection,
    ) -> Attempt {
        if !certificate.cert_type().is_user() || certificate.valid_principals().is_empty() {
            return refused();
        }
        for (name, value) in certificate.critical_options().iter() {
            // An option that we do not enforce would be a restriction silently dropped.
            let kept = name == "source-address" && address_matches(value, from.client.ip());
            if !kept {
                tracing::info!(client = %from.client, option = %name.escape_debug(), "certificate not accepted");
                return refused();
            }
        }
        let strong_key = PublicKey::new(certificate.public_key().clone(), "");
        if !strong(&strong_key) {
            return refused();
        }
        let Ok(text) = certificate.to_openssh() else { return refused() };
        let openssh = halligan_session::roster::without_comment(&text);
        login(control, user, LoginProof::Certificate { openssh }, from).await
    }

    /// One round of keyboard-interactive: asks, or takes the answer. Strangers see the same question, answer and time.
    pub(crate) async fn password(
        &mut self,
        control: &dyn ControlPlane,
        user: &str,
        answer: Option<Vec<u8>>,
        from: &ClientConnection,
    ) -> Attempt {
        let keys_only = || Auth::Reject {
            proceed_with_methods: Some(MethodSet::from(&[MethodKind::PublicKey][..])),
            partial_success: false,
        };
        let Some(answer) = answer else {
            if self.passwords >= MOST_PASSWORDS {
                return (keys_only(), None);
            }
            let question = Auth::Partial {
                name: Cow::Borrowed(""),
                instructions: Cow::Borrowed(""),
                prompts: Cow::Borrowed(&[(Cow::Borrowed("One-time password: "), false)]),
            };
            return (question, None);
        };
        self.passwords += 1;
        let last = self.passwords >= MOST_PASSWORDS;
        let no = |last: bool| if last { (keys_only(), None) } else { refused() };
        if answer.len() > MOST_PASSWORD_BYTES {
            return no(last);
        }
        let Ok(password) = String::from_utf8(answer) else { return no(last) };
        let proof = LoginProof::OneTimePassword { login: user.to_owned(), password: Secret::new(password) };
        match login(control, user, proof, from).await {
            (Auth::Accept, somebody) => (Auth::Accept, somebody),
            _ => no(last),
        }
    }
}

async fn login(
    control: &dyn ControlPlane,
    user: &str,
    proof: LoginProof,
    from: &ClientConnection,
) -> Attempt {
    match control.login(proof, from).await {
        Ok(person) => (Auth::Accept, Some(Login { person, entitlement: entitlement_of_login(user) })),
        Err(refusal) => {
            // Never to the stranger: why is for the log.
            tracing::info!(client = %from.client, why = %refusal.say.escape_debug(), "login refused");
            refused()
        }
    }
}

fn text_of(key: &PublicKey) -> Option<String> {
    key.to_openssh().ok().map(|text| halligan_session::roster::without_comment(&text))
}

fn strong(key: &PublicKey) -> bool {
    match key.key_data() {
        KeyData::Rsa(rsa) => rsa.key_size() as usize >= LEAST_RSA_BITS,
        KeyData::Dsa(_) => false,
        _ => true,
    }
}

/// `source-address` of a certificate: addresses and networks, comma-separated (PROTOCOL.certkeys). Unreadable is no.
fn address_matches(list: &str, client: IpAddr) -> bool {
    list.split(',').any(|entry| {
        let (network, bits) = match entry.split_once('/') {
            Some((network, bits)) => (network, bits.parse::<u32>().ok()),
            None => (entry, Some(u32::MAX)),
        };
        let (Ok(network), Some(bits)) = (network.parse::<IpAddr>(), bits) else { return false };
        match (network, client) {
            (IpAddr::V4(network), IpAddr::V4(client)) => same_network(
                u128::from(u32::from(network)) << 96,
                u128::from(u32::from(client)) << 96,
                bits,
                32,
            ),
            (IpAddr::V6(network), IpAddr::V6(client)) => {
                same_network(u128::from(network), u128::from(client), bits, 128)
            }
            _ => false,
        }
    })
}

fn same_network(network: u128, client: u128, bits: u32, most: u32) -> bool {
    let bits = if bits == u32::MAX { most } else { bits };
    if bits > most {
        return false;
    }
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    network & mask == client & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_addresses_are_networks_and_unreadable_ones_let_nobody_in() {
        let client: IpAddr = "10.1.2.3".parse().unwrap();
        for list in ["10.1.2.3", "10.1.0.0/16", "192.168.0.0/16,10.0.0.0/8", "0.0.0.0/0", "10.1.2.3/32"] {
            assert!(address_matches(list, client), "{list}");
        }
        for list in ["10.1.2.4", "10.2.0.0/16", "10.1.2.3/33", "::/0", "", "10.1.2.3/x", "*"] {
            assert!(!address_matches(list, client), "{list}");
        }
        assert!(address_matches("2001:db8::/32", "2001:db8::7".parse().unwrap()));
        assert!(!address_matches("2001:db8::/32", "2001:db9::7".parse().unwrap()));
    }
}
