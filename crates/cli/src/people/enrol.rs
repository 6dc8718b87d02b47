//! Enrolment: from a one-time secret to a password and an authenticator; and accounts of others.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use halligan_client::types::EnrolmentFinish;
use halligan_core::ids::PersonId;
use serde_json::json;
use zeroize::Zeroizing;

use super::ask;
use super::desk::Desk;
use super::failure::said;
use crate::output::{Format, printable};
use crate::profile::{KnownBy, Profile};

/// Turns an enrolment into your password and authenticator.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --totp at a terminal that nobody sits at, it begins the enrolment and prints what the \
authenticator needs; the same command with --totp and --password-file finishes it."
)]
pub struct Enrol {
    /// The enrolment's secret, `enrol_…`; asked for if not given. It works once, and dies soon.
    secret: Option<String>,
    /// Reads the secret from the first line of this file.
    #[arg(long, value_name = "FILE", conflicts_with = "secret")]
    secret_file: Option<PathBuf>,
    /// The server: https://…, or http://localhost:…
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Believe the server with exactly this certificate (SHA-256).
    #[arg(long, value_name = "SHA256", conflicts_with = "ca")]
    trust: Option<String>,
    /// Believe servers with a certificate of this authority (PEM).
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Reads the new password from the first line of this file instead of asking.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The code that the new authenticator shows.
    #[arg(long, value_name = "CODE")]
    totp: Option<String>,
}

impl Enrol {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = self.profile(desk)?.client()?;
        let secret = match (&self.secret, &self.secret_file) {
            (Some(secret), _) => Zeroizing::new(secret.trim().to_owned()),
            (None, Some(file)) => ask::first_line(file)?,
            (None, None) => ask::password("The enrolment's secret:", None)?,
        };
        if let (Some(totp), Some(file)) = (&self.totp, &self.password_file) {
            let wish = EnrolmentFinish { secret, password: ask::first_line(file)?, totp: totp.clone() };
            return finish(desk, &client, &wish).await;
        }
        let begun = client.begin_enrolment(secret.clone()).await.context("failed to begin the enrolment")?;
        let text = authenticator_secret(&begun.otpauth).unwrap_or_default();
        if !ask::somebody() {
            let value = json!({ "person": begun.person, "otpauth": *begun.otpauth, "secret": text });
            return desk.print(&value, |_| {
                format!(
                    "{}\nsecret as text: {text}\nnext: the same with --totp CODE --password-file FILE",
                    *begun.otpauth
                )
            });
        }
        eprintln!(
            "Enrolment of {}. Give this to your authenticator; it is a secret and shown once:\n",
            begun.person
        );
        eprintln!("    {}\n\nor type this secret: {text}\n", printable(&begun.otpauth));
        let totp = match &self.totp {
            Some(code) => code.clone(),
            None => ask::line("The code that it shows now:")?,
        };
        let password = ask::new_password(self.password_file.as_deref())?;
        finish(desk, &client, &EnrolmentFinish { secret, password, totp }).await
    }

    fn profile(&self, desk: &Desk) -> anyhow::Result<Profile> {
        let before = desk.home.load()?;
        let server = match (&self.server, &before) {
            (Some(server), _) => server.clone(),
            (None, Some(profile)) => profile.server.clone(),
            (None, None) => return Err(said("no server was named", "add --server https://…")),
        };
        let trust = if let Some(sha256) = &self.trust {
            KnownBy::Certificate { sha256: sha256.clone() }
        } else if let Some(file) = &self.ca {
            let pem = std::fs::read_to_string(file)
                .with_context(|| format!("failed to read {}", file.display()))?;
            KnownBy::Authority { pem }
        } else {
            before.filter(|profile| profile.server == server).map_or(KnownBy::System, |profile| profile.trust)
        };
        let profile = Profile::new(server, trust);
        // The next command knows the server then.
        if desk.home.load()?.is_none() {
            desk.home.save(&profile)?;
        }
        Ok(profile)
    }
}

async fn finish(desk: &Desk, client: &halligan_client::Client, wish: &EnrolmentFinish) -> anyhow::Result<()> {
    let who = client.finish_enrolment(wish).await.context("failed to finish the enrolment")?;
    desk.print(&who, |_| format!("{} is enrolled\nnext: halligan login --name {}", who.person, who.person))
}

/// The secret of an `otpauth://` address, in groups of four for typing.
fn authenticator_secret(otpauth: &str) -> Option<String> {
    let (_, query) = otpauth.split_once('?')?;
    let secret = query.split('&').find_map(|pair| pair.strip_prefix("secret="))?;
    let plain = secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'=');
    plain.then(|| {
        let letters: Vec<char> = secret.chars().collect();
        letters.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
    })
}

/// Accounts of others.
#[derive(Debug, Subcommand)]
pub enum People {
    /// Makes an enrolment for somebody: new here, or with a lost password or authenticator.
    Invite {
        /// Who.
        person: PersonId,
        /// A fresh code of your authenticator.
        #[arg(long, value_name = "CODE")]
        totp: Option<String>,
        /// Writes the secret into this file, for its owner alone, instead of printing it.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Confirms an enrolment that another administrator made.
    Confirm {
        /// As `invite` named it.
        id: String,
        /// A fresh code of your authenticator.
        #[arg(long, value_name = "CODE")]
        totp: Option<String>,
    },
    /// Shuts somebody out at once: sign-ins, tokens and keys end.
    Disable {
        /// Who.
        person: PersonId,
    },
}

impl People {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        match self {
            Self::Invite { person, totp, to } => {
                let invited = ask::with_code(totp.as_deref(), |code| {
                    let (client, person) = (client.clone(), person.clone());
                    async move { client.invite(&person, code.as_deref()).await }
                })
                .await
                .with_context(|| format!("failed to invite {person}"))?;
                let mut said = format!("enrolment {} for {person}", printable(&invited.id));
                if invited.needs_confirmation {
                    said.push_str("; it works once another administrator has confirmed it");
                    said.push_str(&format!(
                        "\nnext: they type `halligan people confirm {}`",
                        printable(&invited.id)
                    ));
                }
                if let Some(file) = &to {
                    write_private(file, &invited.secret)?;
                    said.push_str(&format!("\nits secret is in {}", file.display()));
                    let value = json!({ "id": invited.id, "needs_confirmation": invited.needs_confirmation, "secret_file": file });
                    return desk.print(&value, |_| said);
                }
                if desk.format == Format::Json {
                    return crate::output::json(&invited);
                }
                println!("{said}\nits secret, shown this once: {}", printable(&invited.secret));
                Ok(())
            }
            Self::Confirm { id, totp } => {
                let code = ask::code(totp.as_deref())?;
                let who = client
                    .confirm_enrolment(&id, &code)
                    .await
                    .with_context(|| format!("failed to confirm {}", printable(&id)))?;
                desk.print(&who, |_| format!("the enrolment of {} is confirmed", who.person))
            }
            Self::Disable { person } => {
                client.disable(&person).await.with_context(|| format!("failed to disable {person}"))?;
                desk.print(&json!({ "person": person, "disabled": true }), |_| {
                    format!("{person} is shut out")
                })
            }
        }
    }
}

/// A new file that only its owner reads.
pub fn write_private(file: &std::path::Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let what = || format!("failed to write {}", file.display());
    let mut opened =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).with_context(what)?;
    writeln!(opened, "{text}").with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_shown_in_groups_for_typing() {
        let uri = "otpauth://totp/Halligan:anna?secret=JBSWY3DPEHPK3PXP&issuer=Halligan";
        assert_eq!(authenticator_secret(uri).unwrap(), "JBSW Y3DP EHPK 3PXP");
        assert!(authenticator_secret("otpauth://totp/x?secret=\u{1b}[2J").is_none());
        assert!(authenticator_secret("otpauth://totp/x").is_none());
    }

    #[test]
    fn a_secret_goes_into_a_new_private_file_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        write_private(&file, "enrol_x").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_private(&file, "enrol_y").is_err());
    }
}
