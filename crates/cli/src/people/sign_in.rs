//! Signing in and out, and where one is signed in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use halligan_client::types::{GatewayView, Listener, Me, SignInView, SignInWish};
use halligan_client::{CertificatePrint, Client, look_at_certificate};
use halligan_core::ids::PersonId;

use super::desk::Desk;
use super::failure::said;
use super::{ask, client_certificate};
use crate::output::{Look, printable};
use crate::profile::{CertificateTimes, Home, KnownBy, KnownGateway, Profile};

/// Signs in, and gets the certificates (SSH, TLS) by which gateways know you.
#[derive(Debug, Args)]
pub struct Login {
    /// The server: https://…, or http://localhost:…; the last one if not said.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Who you are; the last one if not said.
    #[arg(long, value_name = "NAME")]
    name: Option<PersonId>,
    /// Reads the password from the first line of this file instead of asking.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A code of your authenticator.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
    /// Believe the server with exactly this certificate (SHA-256, as it printed at its first start).
    #[arg(long, value_name = "SHA256", conflicts_with = "ca")]
    trust: Option<String>,
    /// Believe servers with a certificate of this authority (PEM).
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Pin a gateway by hand, `HOST:PORT`, against what the server says; needs --gateway-key.
    #[arg(long, value_name = "ADDRESS", requires = "gateway_key")]
    gateway: Option<String>,
    /// The gateway's host key, `ssh-ed25519 AAAA…`.
    #[arg(long, value_name = "KEY", requires = "gateway")]
    gateway_key: Option<String>,
}

impl Login {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let before = desk.home.load()?;
        let server = match (&self.server, &before) {
            (Some(server), _) => server.trim_end_matches('/').to_owned(),
            (None, Some(profile)) => profile.server.clone(),
            (None, None) => return Err(said("no server was named", "add --server https://…")),
        };
        let name = match (&self.name, before.as_ref().and_then(|profile| profile.person.clone())) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => name,
            (None, None) => return Err(said("no person was named", "add --name NAME")),
        };
        let trust = self.known_by(desk, &server, before.as_ref()).await?;
        // What was learnt of another server says nothing about this one.
        let mut profile = match before {
            Some(profile) if profile.server == server => Profile { trust, ..profile },
            _ => Profile::new(server.clone(), trust),
        };
        if let (Some(address), Some(key)) = (&self.gateway, &self.gateway_key) {
            pin(&mut profile, address, key)?;
        }
        let password = ask::password(&format!("Password of {name}:"), self.password_file.as_deref())?;
        let client = profile.client()?;
        let wish = |totp: Option<String>| SignInWish {
            name: name.to_string(),
            password: password.clone(),
            totp,
            label: machine(),
        };
        let totp = match &self.totp {
            Some(code) => Some(code.clone()),
            None if ask::somebody() => Some(ask::code(None)?).filter(|code| !code.is_empty()),
            None => None,
        };
        let signed_in = client.sign_in(&wish(totp)).await.context("failed to sign in")?;
        if profile.person.as_ref() != Some(&name) {
            profile.certificate = None;
            profile.client_certificate = None;
        }
        profile.person = Some(name.clone());
        profile.token = Some(signed_in.token.clone());
        profile.token_expires = Some(signed_in.sign_in.expires_at);
        desk.home.save(&profile)?;
        let client = client.with_token(signed_in.token);
        // Without an SSH certificate everything but `halligan ssh` works: it is said and not fatal.
        if let Err(error) = refresh_ssh(&desk.home, &mut profile, &client, true).await {
            super::failure::print(&error);
        }
        if let Err(error) = client_certificate::refresh(&desk.home, &mut profile, &client, true).await {
            super::failure::print(&error);
        }
        desk.print(&signed_in.sign_in, |look| {
            let mut text = format!(
                "signed in to {server} as {name}; the sign-in ends {}",
                look.when(signed_in.sign_in.expires_at)
            );
            if let Some(times) = profile.certificate {
                text.push_str(&format!("\nSSH certificate ends {}", look.when(times.valid_until)));
            }
            if let Some(times) = profile.client_certificate {
                text.push_str(&format!(
                    "\nclient certificate for databases ends {}: {}",
                    look.when(times.valid_until),
                    desk.home.client_certificate().display()
                ));
            }
            text
        })
    }

    async fn known_by(&self, desk: &Desk, server: &str, before: Option<&Profile>) -> anyhow::Result<KnownBy> {
        if let Some(sha256) = &self.trust {
            let print: CertificatePrint = sha256.parse()?;
            return Ok(KnownBy::Certificate { sha256: print.to_string() });
        }
        if let Some(file) = &self.ca {
            let pem = std::fs::read_to_string(file)
                .with_context(|| format!("failed to read {}", file.display()))?;
            return Ok(KnownBy::Authority { pem });
        }
        if let Some(profile) = before.filter(|profile| profile.server == server) {
            return Ok(profile.trust.clone());
        }
        let known = Profile::new(server.to_owned(), KnownBy::System);
        if server.starts_with("http://") || known.client()?.ready().await.is_ok() {
            return Ok(KnownBy::System);
        }
        let shown =
            desk.waiting("asking the server for its certificate", look_at_certificate(server)).await?;
        let Some(shown) = shown else { return Ok(KnownBy::System) };
        let print = shown.print().to_string();
        if !ask::somebody() {
            return Err(said(
                format!(
                    "failed to trust {server}: no authority that this machine trusts vouches for its certificate"
                ),
                format!(
                    "compare {print} with what the server printed at its first start, then add --trust {print}"
                ),
            ));
        }
        eprintln!(
            "No authority that this machine trusts vouches for {server}. Its certificate has the SHA-256\n"
        );
        eprintln!("    {print}\n\nCompare it with what the server printed at its first start.");
        if ask::yes("Is it the same?")? {
            Ok(KnownBy::Certificate { sha256: print })
        } else {
            Err(said(
                format!("{server} is not trusted"),
                "ask your administrator for the server's certificate",
            ))
        }
    }
}

fn pin(profile: &mut Profile, address: &str, key: &str) -> anyhow::Result<()> {
    let wrong = |what: &str| {
        said(
            format!("failed to pin the gateway: {what}"),
            "write --gateway HOST:PORT --gateway-key \"ssh-ed25519 AAAA…\"",
        )
    };
    if super::ssh::split_address(address).is_none() {
        return Err(wrong("its address is not HOST:PORT"));
    }
    let key = super::ssh::host_key_line(key).ok_or_else(|| wrong("its key is no OpenSSH public key"))?;
    let at = |gateway: &KnownGateway| gateway.ssh().is_some_and(|known| known.address == address);
    profile.gateways.retain(|gateway| !at(gateway));
    profile.gateways.push(KnownGateway {
        name: "pinned".to_owned(),
        site: None,
        listeners: BTreeMap::from([(
            "ssh".to_owned(),
            Listener { address: address.to_owned(), host_keys: vec![key] },
        )]),
        pinned: true,
    });
    Ok(())
}

/// Asks for a fresh certificate if the one at hand is older than half of its life, and for the gateways.
pub async fn refresh_ssh(
    home: &Home,
    profile: &mut Profile,
    client: &Client,
    always: bool,
) -> anyhow::Result<()> {
    make_key(home)?;
    let now = crate::output::now();
    let held = profile.certificate.filter(|_| home.certificate().exists());
    if always || held.is_none_or(|times| times.wants_renewal(now)) {
        let public = std::fs::read_to_string(home.public_key())
            .with_context(|| format!("failed to read {}", home.public_key().display()))?;
        let given = client
            .login_certificate(&without_comment(&public), None)
            .await
            .context("failed to get an SSH certificate")?;
        home.write(&home.certificate(), format!("{}\n", given.certificate.trim()).as_bytes())?;
        profile.certificate = Some(CertificateTimes { made_at: now, valid_until: given.valid_until });
    }
    let gateways = client.gateways().await.context("failed to ask for the gateways")?;
    keep_gateways(profile, gateways);
    super::ssh::write_known_hosts(home, profile)?;
    home.save(profile)
}

/// Keeps where the gateways are, for when nobody can be asked.
pub fn keep_gateways(profile: &mut Profile, gateways: Vec<GatewayView>) {
    profile.gateways.retain(|gateway| gateway.pinned);
    let told = gateways.into_iter().map(|gateway| KnownGateway {
        name: gateway.name.to_string(),
        site: Some(gateway.site.to_string()),
        listeners: gateway.listeners,
        pinned: false,
    });
    let address = |gateway: &KnownGateway| gateway.ssh().map(|known| known.address.clone());
    let pinned: Vec<String> = profile.gateways.iter().filter_map(address).collect();
    profile.gateways.extend(told.map(|mut gateway| {
        // What a person pinned goes before the server's word.
        if address(&gateway).is_some_and(|address| pinned.contains(&address)) {
            gateway.listeners.remove("ssh");
        }
        gateway
    }));
}

fn make_key(home: &Home) -> anyhow::Result<()> {
    if home.key().exists() && home.public_key().exists() {
        return Ok(());
    }
    home.make()?;
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "halligan", "-f"])
        .arg(home.key())
        .output()
        .map_err(|error| {
            said(format!("failed to start ssh-keygen: {error}"), "install the OpenSSH client")
        })?;
    if output.status.success() {
        Ok(())
    } else {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(said(
            format!("ssh-keygen failed to make {}: {why}", home.key().display()),
            "look at the folder's rights",
        ))
    }
}

/// `type base64` of a public key file's line.
pub fn without_comment(line: &str) -> String {
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("halligan on {}", name.trim()).chars().filter(|c| !c.is_control()).take(100).collect()
}

/// Ends this machine's sign-in.
pub async fn log_out(desk: &Desk) -> anyhow::Result<()> {
    let mut profile = desk.profile()?;
    let ended = match profile.token.take() {
        Some(token) => Some(profile.client()?.with_token(token).sign_out().await),
        None => None,
    };
    // The token goes from this machine whatever the server says.
    profile.token_expires = None;
    profile.certificate = None;
    profile.client_certificate = None;
    desk.home.save(&profile)?;
    for certificate in [desk.home.certificate(), desk.home.client_certificate()] {
        match std::fs::remove_file(&certificate) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to remove {}", certificate.display()));
            }
            _ => {}
        }
    }
    match ended {
        Some(Err(error)) if error.status() != Some(401) => {
            Err(anyhow::Error::new(error)
                .context("signed out here, but failed to end the sign-in at the server"))
        }
        _ => desk.print(&serde_json::json!({ "signed_in": false }), |_| "signed out".to_owned()),
    }
}

/// Says who the caller is.
pub async fn who_am_i(desk: &Desk) -> anyhow::Result<()> {
    let me = desk.client()?.me().await.context("failed to ask who you are")?;
    desk.print(&me, |look| card(look, &me))
}

fn card(look: &Look, me: &Me) -> String {
    let offices: Vec<String> = me.offices.iter().map(ToString::to_string).collect();
    let when = |time: Option<_>| time.map(|time| look.when(time)).unwrap_or_default();
    let mut text = look.card(&[
        ("person", me.person.to_string()),
        ("name", printable(&me.name)),
        ("offices", offices.join(", ")),
        ("sign-in ends", look.when(me.sign_in.expires_at)),
        ("password set", when(me.password_set_at)),
        ("authenticator", when(me.totp_enrolled_at)),
        ("SSH keys", me.ssh_keys.len().to_string()),
    ]);
    if me.single_administrator {
        text.push_str("\n\nSingle administrator: nobody else can confirm changes yet. Invite a second one.");
    }
    text
}

/// Where one is signed in.
#[derive(Debug, Subcommand)]
pub enum SignIns {
    /// Lists sign-ins.
    List,
    /// Ends one.
    End {
        /// As the list names it; `current` for this machine's.
        id: String,
    },
}

impl SignIns {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        match self {
            Self::List => {
                let all = client.sign_ins().await.context("failed to list sign-ins")?;
                let mine: Vec<SignInView> = all.into_iter().filter(|one| one.scopes.is_none()).collect();
                desk.print(&mine, |look| sign_in_table(look, &mine))
            }
            Self::End { id } => {
                client.end_sign_in(&id).await.with_context(|| format!("failed to end {id}"))?;
                desk.print(&serde_json::json!({ "ended": id }), |_| format!("{} has ended", printable(&id)))
            }
        }
    }
}

/// Sign-ins and API tokens alike.
pub fn sign_in_table(look: &Look, sign_ins: &[SignInView]) -> String {
    let mut table = look.table(&["id", "label", "from", "made", "ends", ""]);
    for one in sign_ins {
        let scopes = one.scopes.iter().flatten().map(crate::output::word).collect::<Vec<_>>().join(", ");
        table.add_row([
            printable(&one.id),
            printable(&one.label),
            printable(&one.client),
            look.when(one.created_at),
            look.when(one.expires_at),
            if one.current { "this one".to_owned() } else { scopes },
        ]);
    }
    table.trim_fmt()
}
