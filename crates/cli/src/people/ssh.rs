//! Going in: the stock `ssh` with the right key, certificate and pinned host keys; what `ssh_config` needs. When the server cannot be asked, what is at hand is used: gateways know people without it.

use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use halligan_client::ClientError;
use halligan_client::types::{Listener, Paging, Which};
use halligan_core::grant::GrantState;
use halligan_core::ids::EntitlementName;

use super::desk::Desk;
use super::failure::{self, said};
use super::sign_in::refresh_ssh;
use crate::output::printable;
use crate::profile::{Home, KnownGateway, Profile};

/// Opens a session with the stock `ssh`.
#[derive(Debug, Args)]
#[command(
    after_help = "Everything after SYSTEM/ROLE goes to ssh. Put -- before options that halligan has too, \
such as -o."
)]
pub struct Ssh {
    /// Where to.
    #[arg(value_name = "SYSTEM/ROLE")]
    entitlement: EntitlementName,
    /// Options and command for ssh.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SSH ARGUMENT")]
    arguments: Vec<String>,
    /// The gateway, by name or address; the first of the system's site if not said.
    #[arg(long, value_name = "GATEWAY")]
    gateway: Option<String>,
}

impl Ssh {
    /// Becomes `ssh`; returns only if that failed.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<ExitCode> {
        let mut profile = desk.profile()?;
        let connected = self.prepare(desk, &mut profile).await?;
        let gateway = self.choose(&profile, &connected)?;
        let mut command = Command::new("ssh");
        command.args(options(&desk.home, gateway)?);
        let (host, _) = split_address(&gateway.address).unwrap_or((&gateway.address, 22));
        command.arg(format!("{}+{}@{host}", self.entitlement.role, self.entitlement.system));
        command.args(&self.arguments);
        let error = command.exec();
        Err(said(format!("failed to start ssh: {error}"), "install the OpenSSH client"))
    }

    /// Refreshes what the server gives; says which gateways hold the grant. A server that is away stops nothing.
    async fn prepare(&self, desk: &Desk, profile: &mut Profile) -> anyhow::Result<Vec<String>> {
        let Some(token) = profile.token.clone() else { return Ok(Vec::new()) };
        let client = profile.client()?.with_token(token);
        if let Err(error) = refresh_ssh(&desk.home, profile, &client, false).await {
            if !desk.home.key().exists() {
                return Err(error);
            }
            failure::print(&error);
            eprintln!("going on with the key and certificate at hand");
            return Ok(Vec::new());
        }
        let grants = match client.grants(Which::Mine, &Paging { after: None, limit: Some(200) }).await {
            Ok(page) => page.items,
            Err(ClientError::Unreachable { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(anyhow::Error::new(error).context("failed to look for your grant")),
        };
        let mine = grants.iter().find(|view| {
            view.grant.entitlement == self.entitlement && view.grant.state == GrantState::Active
        });
        if mine.is_none() {
            // The gateway decides; this only saves a riddle.
            desk.note(&format!(
                "you seem to hold no active grant of {0}\nnext: halligan request {0} --reason \"…\"",
                self.entitlement
            ));
        }
        Ok(mine.map(|view| view.gateways.clone()).unwrap_or_default())
    }

    fn choose<'a>(&self, profile: &'a Profile, connected: &[String]) -> anyhow::Result<&'a Listener> {
        let known = profile.gateways.iter().filter_map(|gateway| Some((gateway, gateway.ssh()?)));
        let wanted = |(gateway, at): &(&KnownGateway, &Listener)| {
            self.gateway.as_ref().is_none_or(|wanted| gateway.name == *wanted || at.address == *wanted)
        };
        let mut found: Vec<(&KnownGateway, &Listener)> = known.filter(wanted).collect();
        // Those that hold the grant's lease first, then those that a person pinned.
        found.sort_by_key(|(gateway, _)| (!connected.contains(&gateway.name), !gateway.pinned));
        found.first().map(|(_, at)| *at).ok_or_else(|| {
            let which =
                self.gateway.as_deref().map(|name| format!(" {}", printable(name))).unwrap_or_default();
            said(
                format!("failed to find the gateway{which}: no address and host key is known for it"),
                "sign in again with `halligan login`, which asks the server for it; or pin it: halligan login --gateway \
                 HOST:PORT --gateway-key \"ssh-ed25519 AAAA…\"",
            )
        })
    }
}

/// What makes stock `ssh` use this key, this certificate, and believe no other host key.
fn options(home: &Home, gateway: &Listener) -> anyhow::Result<Vec<String>> {
    let (_, port) = split_address(&gateway.address)
        .ok_or_else(|| said(format!("{} is no address", printable(&gateway.address)), "write HOST:PORT"))?;
    let option = |name: &str, value: &dyn std::fmt::Display| format!("-o{name}={value}");
    let mut options = vec![
        format!("-p{port}"),
        format!("-i{}", home.key().display()),
        option("IdentitiesOnly", &"yes"),
        option("UserKnownHostsFile", &home.known_hosts().display()),
        option("GlobalKnownHostsFile", &"/dev/null"),
        option("StrictHostKeyChecking", &"yes"),
        option("UpdateHostKeys", &"no"),
    ];
    if home.certificate().exists() {
        options.push(option("CertificateFile", &home.certificate().display()));
    }
    Ok(options)
}

/// The pinned keys of all gateways, as `ssh` reads them.
pub fn write_known_hosts(home: &Home, profile: &Profile) -> anyhow::Result<()> {
    home.write(&home.known_hosts(), known_hosts(&profile.gateways).as_bytes())
}

fn known_hosts(gateways: &[KnownGateway]) -> String {
    let mut text = String::new();
    for gateway in gateways.iter().filter_map(KnownGateway::ssh) {
        let Some((host, port)) = split_address(&gateway.address) else { continue };
        let host = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
        for line in gateway.host_keys.iter().filter_map(|line| host_key_line(line)) {
            let (marker, key) = match line.strip_prefix(AUTHORITY) {
                Some(key) => (AUTHORITY, key),
                None => ("", line.as_str()),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{marker}{host} {key}");
        }
    }
    text
}

const AUTHORITY: &str = "@cert-authority ";

/// A host key without its comment, if it is one: what goes into `known_hosts` must not be able to hold another line.
pub fn host_key_line(text: &str) -> Option<String> {
    let (marker, key) = match text.trim().strip_prefix(AUTHORITY) {
        Some(key) => (AUTHORITY, key),
        None => ("", text.trim()),
    };
    let mut words = key.split_whitespace();
    let (kind, blob) = (words.next()?, words.next()?);
    let known = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.@".contains(&byte));
    let bytes = STANDARD.decode(blob).ok()?;
    // The blob names its own kind (RFC 4253, section 6.6).
    let length = usize::try_from(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
    let named = bytes.get(4..)?.get(..length)? == kind.as_bytes();
    (known && named).then(|| format!("{marker}{kind} {blob}"))
}

/// `host:port` or `[v6]:port`. Neither part can be taken for an option or another word.
pub fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte));
    let good = plain && !host.is_empty() && !host.starts_with('-');
    good.then_some((host, port.parse().ok().filter(|port| *port > 0)?))
}

/// Prints what belongs into `~/.ssh/config`.
pub async fn config(desk: &Desk) -> anyhow::Result<()> {
    let mut profile = desk.profile()?;
    if let Some(token) = profile.token.clone() {
        let client = profile.client()?.with_token(token);
        if let Err(error) = refresh_ssh(&desk.home, &mut profile, &client, false).await {
            failure::print(&error);
        }
    }
    let blocks = config_blocks(&desk.home, &profile.gateways);
    if blocks.is_empty() {
        return Err(said(
            "failed to write ssh's configuration: no gateway is known",
            "sign in with `halligan login`, which asks the server for them",
        ));
    }
    desk.print(&serde_json::json!({ "ssh_config": blocks }), |_| blocks.clone())
}

fn config_blocks(home: &Home, gateways: &[KnownGateway]) -> String {
    let mut text = String::new();
    let known = gateways.iter().filter_map(|gateway| Some((gateway, gateway.ssh()?)));
    for (index, (gateway, at)) in known.enumerate() {
        let Some((host, port)) = split_address(&at.address) else { continue };
        let plain = gateway.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        let name = if plain { format!(" halligan-{}", gateway.name) } else { String::new() };
        let first = if index == 0 { "halligan" } else { "" };
        let alias = format!("{first}{name}");
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "# ssh role+system@{alias}\nHost {}\n    HostName {host}\n    Port {port}\n    IdentityFile \"{}\"\n    CertificateFile \"{}\"\n    \
             IdentitiesOnly yes\n    UserKnownHostsFile \"{}\"\n    GlobalKnownHostsFile /dev/null\n    \
             StrictHostKeyChecking yes\n    UpdateHostKeys no\n\n",
            alias.trim(),
            home.key().display(),
            home.certificate().display(),
            home.known_hosts().display(),
            alias = alias.split_whitespace().next().unwrap_or("halligan"),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn gateway(address: &str, keys: &[&str]) -> KnownGateway {
        KnownGateway {
            name: "gw-1".to_owned(),
            site: None,
            listeners: BTreeMap::from([(
                "ssh".to_owned(),
                Listener {
                    address: address.to_owned(),
                    host_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
                },
            )]),
            pinned: false,
        }
    }

    #[test]
    fn addresses_cannot_become_options() {
        assert_eq!(split_address("gw.example.org:2222"), Some(("gw.example.org", 2222)));
        assert_eq!(split_address("[::1]:22"), Some(("::1", 22)));
        for bad in
            ["-oProxyCommand=x:22", "host", "host:0", "host:99999", ":22", "a b:22", "a\nb:22", "a,b:22"]
        {
            assert_eq!(split_address(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_host_key_is_one_line_and_names_its_own_kind() {
        assert_eq!(host_key_line(&format!(" {KEY} root@gw\n")).as_deref(), Some(KEY));
        let authority = format!("@cert-authority {KEY}");
        assert_eq!(host_key_line(&authority).as_deref(), Some(authority.as_str()));
        for bad in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
        ] {
            assert_eq!(host_key_line(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn known_hosts_holds_what_was_pinned() {
        let authority = format!("@cert-authority {KEY} comment");
        let gateways = [gateway("127.0.0.1:2222", &[KEY, "rubbish"]), gateway("gw:22", &[&authority])];
        assert_eq!(known_hosts(&gateways), format!("[127.0.0.1]:2222 {KEY}\n@cert-authority gw {KEY}\n"));
    }

    #[test]
    fn the_lines_for_ssh_config_pin_everything() {
        let home = Home::at(std::path::Path::new("/home/anna/.config/halligan"));
        insta::assert_snapshot!(config_blocks(&home, &[gateway("127.0.0.1:2222", &[KEY])]));
    }
}
