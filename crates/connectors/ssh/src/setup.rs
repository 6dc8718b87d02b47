//! What to install at a target, and whether it is installed.

use halligan_core::ids::Name;
use halligan_session::lease::Target;

use crate::connector::SshConnector;
use crate::host_key::HostKeys;
use crate::probe::{Door, Found, knock};
use halligan_connector::ConnectorError;

/// Where the set-up text puts its files.
const FOLDER: &str = "/etc/ssh/halligan";

impl SshConnector {
    /// The lines that let this site's certificates in at one account of one system, as a text to follow. The principal
    /// names system and account, so that a certificate for one host opens no other.
    pub fn sshd_setup(&self, system: &Name, account: &str) -> String {
        let krl = if self.inner.krl.is_delivered() {
            format!(
                "\n    RevokedKeys {FOLDER}/revoked_keys        # must exist: without it sshd refuses everybody"
            )
        } else {
            String::new()
        };
        format!(
            "# On the host {system}, as root:\n\
             # 1. {FOLDER}/site_ca.pub\n    {ca}\n\
             # 2. {FOLDER}/principals/{account}\n    halligan:{system}:{account}\n\
             # 3. /etc/ssh/sshd_config.d/10-halligan.conf\n\
             \x20   TrustedUserCAKeys {FOLDER}/site_ca.pub\n\
             \x20   AuthorizedPrincipalsFile {FOLDER}/principals/%u\n\
             \x20   MaxAuthTries 6\n\
             \x20   LogLevel VERBOSE{krl}\n\
             # 4. check and reload: sshd -t && systemctl reload ssh\n\
             # Close the direct way in as well: no other keys in {account}'s authorized_keys, no password login.\n",
            ca = self.ca_public_line(),
        )
    }

    /// Whether a target can be reached, shows a pinned host key and accepts this site's certificates for its account. Opens
    /// no channel. `Err` holds the sentence that says what to mend.
    pub async fn check_target(&self, target: &Target) -> Result<(), ConnectorError> {
        let wrong = |why: String| ConnectorError::refused(format!("{}: {why}", target.system));
        let host_keys = HostKeys::parse(&target.host_keys).map_err(wrong)?;
        let door = Door { address: target.address.clone(), account: target.account.clone(), host_keys };
        let pace = self.inner.paces.of(&door.address);
        let mut pace = pace.lock().await;
        tokio::time::sleep(pace.pause()).await;
        let (address, principal) = (door.address.clone(), target.principal());
        let fresh = self
            .blocking(move |inner| inner.probe_credential(None, &address, &principal, &inner.source_address))
            .await?;
        match knock(&door, &[], &fresh, self.inner.site.journal().now()).await {
            Found::Shut { .. } => Ok(()),
            Found::Unclear { why, .. } => {
                pace.last_failed = Some(tokio::time::Instant::now());
                Err(wrong(why))
            }
            Found::Open { .. } => Err(ConnectorError::Inside),
        }
    }
}
