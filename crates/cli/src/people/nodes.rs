//! Gateways and connectors, for platform administrators.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use halligan_client::types::{JoinTokenWish, NodeView};
use halligan_core::ids::Name;
use halligan_core::time::Span;
use serde_json::json;

use super::ask;
use super::desk::Desk;
use super::enrol::write_private;
use crate::output::{Look, Tone, printable};

/// Gateways and connectors.
#[derive(Debug, Subcommand)]
pub enum Nodes {
    /// Lists them.
    List,
    /// Makes a token by which one node may join, once.
    Token {
        /// The node's name.
        name: Name,
        /// What it is.
        #[arg(long, value_enum)]
        role: Role,
        /// Its site.
        #[arg(long, value_name = "NAME")]
        site: Name,
        /// Where connectors reach a gateway, `host:port`.
        #[arg(long, value_name = "ADDRESS")]
        address: Option<String>,
        /// The token dies after this; at most 24h.
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        lifetime: Span,
        /// Writes the token into this file, for its owner alone, instead of printing it.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// A fresh code of your authenticator.
        #[arg(long, value_name = "CODE")]
        totp: Option<String>,
    },
    /// Takes a node's right to speak away, at once.
    Expel {
        /// Its name.
        name: Name,
        /// A fresh code of your authenticator.
        #[arg(long, value_name = "CODE")]
        totp: Option<String>,
    },
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Where people come in.
    Gateway,
    /// What changes and looks at targets.
    Connector,
}

impl Nodes {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        match self {
            Self::List => {
                let nodes = client.nodes().await.context("failed to list nodes")?;
                desk.print(&nodes, |look| table(look, &nodes))
            }
            Self::Token { name, role, site, address, lifetime, to, totp } => {
                let role = match role {
                    Role::Gateway => "gateway",
                    Role::Connector => "connector",
                };
                let totp = ask::code(totp.as_deref())?;
                let wish = JoinTokenWish {
                    name: name.clone(),
                    role: role.to_owned(),
                    site,
                    address,
                    lifetime,
                    totp,
                };
                let made = client
                    .make_join_token(&wish)
                    .await
                    .with_context(|| format!("failed to make a token for {name}"))?;
                let dies = desk.look.when(made.expires_at);
                if let Some(file) = &to {
                    write_private(file, &made.token)?;
                    let value = json!({ "name": name, "expires_at": made.expires_at, "token_file": file });
                    return desk
                        .print(&value, |_| format!("the token is in {}; it dies {dies}", file.display()));
                }
                desk.print(&made, |_| format!("{}\nshown this once; it dies {dies}", printable(&made.token)))
            }
            Self::Expel { name, totp } => {
                let code = ask::code(totp.as_deref())?;
                client.expel(&name, &code).await.with_context(|| format!("failed to expel {name}"))?;
                desk.print(&json!({ "name": name, "expelled": true }), |_| format!("{name} is expelled"))
            }
        }
    }
}

/// A list of nodes.
pub fn table(look: &Look, nodes: &[NodeView]) -> String {
    let mut table = look.table(&["name", "role", "site", "state", "joined", "mirrored leaves", "key"]);
    for node in nodes {
        let (tone, state) = match (node.expelled, node.connected) {
            (true, _) => (Tone::Plain, "expelled"),
            (false, true) => (Tone::Good, "connected"),
            (false, false) => (Tone::Bad, "away"),
        };
        table.add_row([
            look.cell(Tone::Plain, &node.name),
            look.cell(Tone::Plain, printable(&node.role)),
            look.cell(Tone::Plain, &node.site),
            look.cell(tone, state),
            look.cell(Tone::Plain, look.when(node.joined_at)),
            look.cell(Tone::Plain, node.mirrored),
            look.cell(Tone::Plain, printable(node.key_sha256.get(..16).unwrap_or(&node.key_sha256))),
        ]);
    }
    table.trim_fmt()
}
