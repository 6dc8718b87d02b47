//! How a machine becomes a node: control's tokens, written for those who set up, and the joining itself.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use halligan_control::Control;
use halligan_core::time::Span;
use halligan_link::{JoinToken, NodeKey, PeerInfo, RootFile, join};
use zeroize::Zeroizing;

use super::process::{make_private, write_private};
use crate::config::{Config, expected};

/// A token that lies in a file dies after this.
const LIFETIME: Span = Span::hours(1);
/// Larger files hold no token.
const TOKEN_MOST_BYTES: u64 = 16 * 1024;

fn file_of(config: &Config, name: &str) -> PathBuf {
    config.server.folder.join(format!("join-{name}.token"))
}

/// Writes a token for each node that the configuration expects and that has not joined yet.
pub async fn write_tokens(control: &Control, config: &Config) -> anyhow::Result<()> {
    let known = control.node_records().await?;
    for text in &config.link.write_join_tokens {
        let wanted = expected(text).map_err(anyhow::Error::msg)?;
        let file = file_of(config, wanted.name.as_str());
        if known.iter().any(|node| node.name == wanted.name && !node.expelled) {
            let _ = fs::remove_file(&file);
            continue;
        }
        let site = control.options().site.clone();
        let info = PeerInfo { name: wanted.name, role: wanted.role, site };
        let token = control.join_token(info.clone(), wanted.address, LIFETIME).await?;
        write_private(&file, &Zeroizing::new(format!("{}\n", *token.text())))?;
        tracing::info!(node = %info, file = %file.display(), "a join token lies in the file for an hour; it works once");
    }
    Ok(())
}

/// Joins with a token: a file that holds it, `-` for standard input, or its text.
pub async fn join_node(token: &str, folder: &Path) -> anyhow::Result<PeerInfo> {
    let text = read_token(token)?;
    let token: JoinToken = text.parse()?;
    make_private(folder)?;
    if let Some(root) = RootFile::load(folder)? {
        bail!(
            "{} is the folder of {} already; give the new node a folder of its own",
            folder.display(),
            root.info()
        );
    }
    let key = NodeKey::load_or_make(folder)?;
    let welcome = join(&token, &key, folder).await.context("failed to join")?;
    Ok(welcome.root.info())
}

fn read_token(token: &str) -> anyhow::Result<Zeroizing<String>> {
    if token.starts_with("halligan-join-") {
        return Ok(Zeroizing::new(token.to_owned()));
    }
    let mut text = Zeroizing::new(String::new());
    if token == "-" {
        std::io::stdin()
            .take(TOKEN_MOST_BYTES)
            .read_to_string(&mut text)
            .context("failed to read the token")?;
    } else {
        fs::File::open(token)
            .and_then(|file| file.take(TOKEN_MOST_BYTES).read_to_string(&mut text))
            .with_context(|| format!("failed to read the token's file {token}"))?;
    }
    Ok(text)
}
