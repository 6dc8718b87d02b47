//! One's SSH public keys, and API tokens for programs.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use halligan_client::types::{ApiTokenWish, SignInView, SshKey, SshKeyWish, TokenScope};
use halligan_core::time::Span;

use super::ask;
use super::desk::Desk;
use super::enrol::write_private;
use super::failure::said;
use super::sign_in::{sign_in_table, without_comment};
use crate::output::{Look, printable};

/// One's SSH public keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Lists them.
    List,
    /// Registers one; gateways know you by it from then on, also when the server is away.
    Add {
        /// The public key's file, such as ~/.ssh/id_ed25519.pub.
        file: PathBuf,
        /// A word for it; the comment in the file if not said.
        #[arg(long, value_name = "WORD")]
        label: Option<String>,
        /// A fresh code of your authenticator.
        #[arg(long, value_name = "CODE")]
        totp: Option<String>,
    },
    /// Takes one away.
    Remove {
        /// Its file, or `ssh-ed25519 AAAA…` as the list shows it.
        key: String,
    },
}

impl Keys {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        let keys = match self {
            Self::List => client.me().await.context("failed to list your keys")?.ssh_keys,
            Self::Add { file, label, totp } => {
                let line = std::fs::read_to_string(&file)
                    .with_context(|| format!("failed to read {}", file.display()))?;
                if line.contains("PRIVATE KEY") {
                    let say = format!("{} holds a private key; it stays on this machine", file.display());
                    return Err(said(say, "give the file that ends in .pub"));
                }
                let comment = line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
                let wish = SshKeyWish {
                    openssh: without_comment(&line),
                    label: label.unwrap_or(comment),
                    totp: ask::code(totp.as_deref())?,
                };
                client.add_ssh_key(&wish).await.context("failed to register the key")?
            }
            Self::Remove { key } => {
                let line = match std::fs::read_to_string(&key) {
                    Ok(text) => text,
                    Err(_) => key,
                };
                client.remove_ssh_key(&without_comment(&line)).await.context("failed to take the key away")?
            }
        };
        desk.print(&keys, |look| key_table(look, &keys))
    }
}

fn key_table(look: &Look, keys: &[SshKey]) -> String {
    let mut table = look.table(&["label", "added", "key"]);
    for key in keys {
        table.add_row([printable(&key.label), look.when(key.added_at), printable(&key.openssh)]);
    }
    table.trim_fmt()
}

/// What an API token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Read what you may see.
    Read,
    /// File standard requests.
    Request,
    /// Read metrics.
    Metrics,
}

/// API tokens.
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Makes one.
    Create {
        /// A word for it.
        label: String,
        /// What it may do; may be given more than once.
        #[arg(long = "scope", value_enum, required = true)]
        scopes: Vec<Scope>,
        /// How long it lives, at most 365d.
        #[arg(long = "for", value_name = "TIME", default_value = "30d")]
        lifetime: Span,
        /// Writes the token into this file, for its owner alone, instead of printing it.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// A fresh code of your authenticator.
        #[arg(long, value_name = "CODE")]
        totp: Option<String>,
    },
    /// Lists them.
    List,
    /// Ends one.
    End {
        /// As the list names it.
        id: String,
    },
}

impl Tokens {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        match self {
            Self::Create { label, scopes, lifetime, to, totp } => {
                let scopes = scopes
                    .iter()
                    .map(|scope| match scope {
                        Scope::Read => TokenScope::Read,
                        Scope::Request => TokenScope::Request,
                        Scope::Metrics => TokenScope::Metrics,
                    })
                    .collect();
                let wish = ApiTokenWish { label, scopes, lifetime, totp: ask::code(totp.as_deref())? };
                let made = client.make_api_token(&wish).await.context("failed to make the token")?;
                let ends = desk.look.when(made.sign_in.expires_at);
                if let Some(file) = &to {
                    write_private(file, &made.token)?;
                    let text = format!("the token is in {}; it ends {ends}", file.display());
                    return desk.print(&made.sign_in, |_| text);
                }
                desk.print(&made, |_| format!("{}\nshown this once; it ends {ends}", printable(&made.token)))
            }
            Self::List => {
                let all = client.sign_ins().await.context("failed to list tokens")?;
                let tokens: Vec<SignInView> = all.into_iter().filter(|one| one.scopes.is_some()).collect();
                desk.print(&tokens, |look| sign_in_table(look, &tokens))
            }
            Self::End { id } => {
                client.end_sign_in(&id).await.with_context(|| format!("failed to end {}", printable(&id)))?;
                desk.print(&serde_json::json!({ "ended": id }), |_| format!("{} has ended", printable(&id)))
            }
        }
    }
}
