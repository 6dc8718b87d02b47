//! What of a configuration fits together. Every complaint names its key and says what to do.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use halligan_core::ids::Name;
use halligan_link::Role;

use super::{Config, StoreKind};

/// A node that shall get a join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its role.
    pub role: Role,
    /// Its name.
    pub name: Name,
    /// Where connectors reach it, if it is a gateway.
    pub address: Option<String>,
}

/// Reads `ROLE:NAME` or `gateway:NAME@HOST:PORT`.
pub fn expected(text: &str) -> Result<Expected, String> {
    let form = "write `gateway:NAME@HOST:PORT` or `connector:NAME`";
    let (role, rest) = text.split_once(':').ok_or_else(|| form.to_owned())?;
    let (name, address) = match rest.split_once('@') {
        Some((name, address)) => (name, Some(address.to_owned())),
        None => (rest, None),
    };
    let name = Name::new(name).map_err(|error| error.to_string())?;
    let role = match (role, &address) {
        ("gateway", Some(address))
            if address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) =>
        {
            Role::Gateway
        }
        ("gateway", _) => return Err(format!("connectors must know where the gateway listens: {form}")),
        ("connector", None) => Role::Connector,
        ("connector", Some(_)) => return Err("a connector listens nowhere; leave the address out".to_owned()),
        _ => return Err(form.to_owned()),
    };
    Ok(Expected { role, name, address })
}

impl Config {
    /// Relative paths count from the folder of the configuration file.
    pub(super) fn resolve(&mut self, folder: &Path) {
        let absolute = |path: &mut PathBuf| {
            if path.is_relative() {
                *path = folder.join(&*path);
            }
        };
        absolute(&mut self.server.folder);
        let optional = [
            &mut self.server.tls.certificate,
            &mut self.server.tls.key,
            &mut self.store.path,
            &mut self.store.password_file,
            &mut self.store.root_certificate,
            &mut self.gateway.host_certificate,
            &mut self.gateway.postgres_certificate,
            &mut self.gateway.postgres_key,
            &mut self.connector.krl.path,
            &mut self.connector.vault_key,
            &mut self.connector.postgres.client_certificate,
            &mut self.connector.postgres.client_key,
        ];
        optional.into_iter().flatten().for_each(absolute);
        let notify = &mut self.notify;
        notify.webhook_secrets.values_mut().for_each(absolute);
        notify.webhook_roots.iter_mut().for_each(absolute);
        if let Some(smtp) = &mut notify.smtp {
            smtp.password_file.iter_mut().chain(&mut smtp.root_file).for_each(absolute);
        }
    }

    /// What cannot work: key and sentence.
    pub(super) fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong: Vec<(&'static str, String)> = Vec::new();
        let names = [
            ("server.name", &self.server.name),
            ("server.site", &self.server.site),
            ("server.administrator", &self.server.administrator),
            ("gateway.name", &self.gateway.name),
            ("connector.name", &self.connector.name),
        ];
        for (key, name) in names {
            if let Err(error) = Name::new(name.as_str()) {
                wrong.push((key, error.to_string()));
            }
        }
        let roles = [
            (true, "server.name", &self.server.name),
            (self.gateway.enabled, "gateway.name", &self.gateway.name),
            (self.connector.enabled, "connector.name", &self.connector.name),
        ];
        let mut seen = Vec::new();
        for (_, key, name) in roles.iter().filter(|(on, ..)| *on) {
            if seen.contains(name) {
                wrong.push((key, format!("another role of this process is called `{name}` already")));
            }
            seen.push(name);
        }
        for (key, address) in
            [("server.listen", &self.server.listen), ("gateway.listen", &self.gateway.listen)]
        {
            if address_of(address).is_none() {
                wrong.push((key, "write an address and a port, `127.0.0.1:7300`".to_owned()));
            }
        }
        let gateway = &self.gateway;
        if gateway.postgres_listen.as_ref().is_some_and(|address| address_of(address).is_none()) {
            let say = "write an address and a port, `0.0.0.0:6432`".to_owned();
            wrong.push(("gateway.postgres_listen", say));
        }
        if gateway.postgres_certificate.is_some() != gateway.postgres_key.is_some() {
            wrong.push(("gateway.postgres_certificate", "a certificate and its key go together".to_owned()));
        }
        for (key, address) in [
            ("gateway.public_address", &gateway.public_address),
            ("gateway.postgres_public_address", &gateway.postgres_public_address),
        ] {
            if address.as_ref().is_some_and(|address| crate::people::ssh::split_address(address).is_none()) {
                wrong.push((key, "write a host and a port, `halligan.example.org:2222`".to_owned()));
            }
        }
        if self.server.plain_http && !address_of(&self.server.listen).is_some_and(|at| at.ip().is_loopback())
        {
            wrong.push((
                "server.plain_http",
                "plain HTTP is only served on a loopback address; leave it out to serve HTTPS".to_owned(),
            ));
        }
        if self.server.tls.certificate.is_some() != self.server.tls.key.is_some() {
            wrong.push(("server.tls.certificate", "a certificate and its key go together".to_owned()));
        }
        self.check_store(&mut wrong);
        if self.ledger.origin.is_empty()
            || self.ledger.origin.contains(char::is_whitespace)
            || self.ledger.origin.contains('+')
        {
            wrong.push((
                "ledger.origin",
                "a name like `example.org/halligan`, without spaces and `+`".to_owned(),
            ));
        }
        for recipient in &self.auditors.recipients {
            if recipient.parse::<halligan_recording::Recipient>().is_err() {
                wrong.push(("auditors.recipients", format!("`{recipient}` is no age public key (`age1…`)")));
            }
        }
        for text in &self.link.write_join_tokens {
            if let Err(say) = expected(text) {
                wrong.push(("link.write_join_tokens", format!("`{text}`: {say}")));
            }
        }
        if self.link.listen.is_none() && !self.link.write_join_tokens.is_empty() {
            wrong.push(("link.listen", "nodes can only join where control listens for them".to_owned()));
        }
        if self.connector.source_addresses.is_empty() {
            wrong.push((
                "connector.source_addresses",
                "without any a certificate would open doors from anywhere".to_owned(),
            ));
        }
        let postgres = &self.connector.postgres;
        if postgres.client_certificate.is_some() != postgres.client_key.is_some() {
            wrong.push((
                "connector.postgres.client_certificate",
                "a client certificate needs `client_key`, and a key its certificate".to_owned(),
            ));
        }
        for (key, networks) in [
            ("connector.source_addresses", &self.connector.source_addresses),
            ("connector.postgres.gateways", &postgres.gateways),
        ] {
            for network in networks.iter().filter(|network| !is_network(network)) {
                wrong.push((key, format!("`{network}` is no network; write `192.0.2.7/32`")));
            }
        }
        if self.server.drain_seconds > 3_600 {
            wrong.push(("server.drain_seconds", "an hour at most".to_owned()));
        }
        wrong
    }

    fn check_store(&self, wrong: &mut Vec<(&'static str, String)>) {
        match self.store.kind {
            StoreKind::Sqlite if self.store.url.is_some() => {
                wrong.push(("store.url", "only with kind = \"postgres\"".to_owned()));
            }
            StoreKind::Postgres => match &self.store.url {
                None => wrong.push((
                    "store.url",
                    "PostgreSQL needs one, `postgresql://halligan@db/halligan`".to_owned(),
                )),
                Some(url) if holds_password(url) => wrong.push((
                    "store.url",
                    "it holds a password; put that into a file of its own and name it in `password_file`"
                        .to_owned(),
                )),
                Some(_) => {}
            },
            StoreKind::Sqlite => {}
        }
    }
}

/// An address as it stands, or by the resolver's word.
pub fn address_of(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.to_socket_addrs().ok()?.next())
}

fn holds_password(url: &str) -> bool {
    let of_url = url.split_once("://").is_some_and(|(_, rest)| {
        rest.split('/')
            .next()
            .and_then(|host| host.rsplit_once('@'))
            .is_some_and(|(user, _)| user.contains(':'))
    });
    of_url || url.contains("password=")
}

fn is_network(text: &str) -> bool {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_may_join_is_named_in_one_word() {
        let found = expected("gateway:gw-1@192.0.2.7:7302").unwrap();
        assert_eq!((found.role, found.name.as_str()), (Role::Gateway, "gw-1"));
        assert_eq!(found.address.as_deref(), Some("192.0.2.7:7302"));
        assert_eq!(expected("connector:con-1").unwrap().role, Role::Connector);
        for wrong in
            ["gateway:gw-1", "connector:c@h:1", "control:x", "gw-1", "gateway:GW 1@h:1", "gateway:g@h"]
        {
            assert!(expected(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn passwords_do_not_belong_into_the_url() {
        assert!(holds_password("postgresql://u:p@h/db"));
        assert!(holds_password("host=h user=u password=p"));
        assert!(!holds_password("postgresql://u@h:5432/db"));
        assert!(is_network("10.0.0.0/8") && is_network("::1") && !is_network("10.0.0.0/33"));
    }
}
