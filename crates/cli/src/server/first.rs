//! What a first start leaves behind for its operator: the auditors' key, and the enrolment of the first administrator.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use halligan_control::Control;
use halligan_control::people::enrol::FIRST_LIFETIME;
use halligan_core::ids::PersonId;
use halligan_recording::{Identity, Recipient};
use zeroize::Zeroizing;

use super::process::write_private;
use crate::config::Config;

/// Name of the file with the first enrolment's secret.
pub const ENROLMENT_FILE: &str = "first-enrolment";

/// Whom every recording's key is wrapped to. Without any in the configuration an identity is made, once.
pub fn auditors(config: &Config) -> anyhow::Result<Vec<Recipient>> {
    let folder = &config.server.folder;
    let parse = |text: &str| {
        text.trim()
            .parse::<Recipient>()
            .with_context(|| format!("failed to read the auditor's key `{}`", text.trim()))
    };
    if !config.auditors.recipients.is_empty() {
        return config.auditors.recipients.iter().map(|text| parse(text)).collect();
    }
    let (secret, public) = (folder.join("auditor.key"), folder.join("auditor.pub"));
    if public.exists() {
        let text =
            fs::read_to_string(&public).with_context(|| format!("failed to read {}", public.display()))?;
        if secret.exists() {
            tracing::warn!(file = %secret.display(), "the auditor's private key still lies on this machine: move it offline");
        }
        return Ok(vec![parse(&text)?]);
    }
    let identity = Identity::generate().context("failed to make the auditor's key")?;
    let text = identity.to_secret_text().context("failed to write the auditor's key")?;
    write_private(&secret, &Zeroizing::new(format!("{}\n", *text)))?;
    write_private(&public, &format!("{}\n", identity.recipient()))?;
    tracing::warn!(
        file = %secret.display(),
        "no auditor is configured: a key that opens every recording was made. MOVE IT OFFLINE NOW, to whoever audits, and \
         name its public half in [auditors]"
    );
    Ok(vec![identity.recipient()])
}

/// On a first start: an enrolment for the first administrator, in a private file. Later: makes sure that none lies about.
pub async fn enrolment(
    control: &Control,
    folder: &Path,
    administrator: &str,
) -> anyhow::Result<Option<Zeroizing<String>>> {
    let file = folder.join(ENROLMENT_FILE);
    let person = PersonId::new(administrator).context("failed to read the administrator's id")?;
    let Some(secret) = control.first_enrolment(&person).await? else {
        let _ = fs::remove_file(&file);
        return Ok(None);
    };
    write_private(&file, &Zeroizing::new(format!("{}\n", *secret)))?;
    let minutes = FIRST_LIFETIME.as_seconds() / 60;
    tracing::warn!(
        person = %person,
        file = %file.display(),
        "first start: the one-time enrolment of the first administrator is in the file; it dies in {minutes} minutes"
    );
    let lifetime = Duration::from_secs(u64::try_from(FIRST_LIFETIME.as_seconds()).unwrap_or(0));
    tokio::spawn(async move {
        tokio::time::sleep(lifetime).await;
        let _ = fs::remove_file(&file);
    });
    Ok(Some(secret))
}
