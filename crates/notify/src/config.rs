//! The part of the server's configuration that says how alerts leave.

use std::collections::BTreeMap;
use std::path::PathBuf;

use halligan_core::ids::Name;
use halligan_core::time::Span;
use serde::{Deserialize, Serialize};

/// How alerts leave this server. Which alerts go where stands in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    /// The mail server; without it nobody gets mail.
    pub smtp: Option<SmtpConfig>,
    /// Files of webhook secrets by the name that routes use: one `whsec_…` a line, each of them signs. Read anew for
    /// every delivery, so a secret is changed by writing the file.
    pub webhook_secrets: BTreeMap<Name, PathBuf>,
    /// PEM file of the only authorities that webhook receivers are accepted under; without it the public ones.
    pub webhook_roots: Option<PathBuf>,
    /// Where people open Halligan in a browser, `https://halligan.example.org`; stands in mails.
    pub public_url: Option<String>,
    /// An alert that could not be delivered for this long is given up, with an error in the log.
    pub give_up_after: Span,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            smtp: None,
            webhook_secrets: BTreeMap::new(),
            webhook_roots: None,
            public_url: None,
            give_up_after: Span::days(7),
        }
    }
}

/// A mail server that takes our mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    /// Name or address; its certificate must be for it.
    pub host: String,
    /// 587 is usual for `starttls`, 465 for `implicit`.
    pub port: u16,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: SmtpTls,
    /// Sender, `Halligan <halligan@example.org>`.
    pub from: String,
    /// Who we log in as; with `password_file`, or neither.
    #[serde(default)]
    pub user: Option<String>,
    /// File with the password; read anew for every mail.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// PEM file of the only authorities that the server is accepted under; without it the public ones.
    #[serde(default)]
    pub root_file: Option<PathBuf>,
}

/// How a connection to the mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SmtpTls {
    /// STARTTLS, and nothing is sent without it (RFC 3207).
    #[default]
    Starttls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// No TLS; refused unless the server is on this machine.
    NoneOnLoopback,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_manual_shows_and_refuses_what_it_does_not_know() {
        let text = r#"
public_url = "https://halligan.example.org"
webhook_secrets = { siem = "/etc/halligan/siem.whsec" }

[smtp]
host = "mail.example.org"
port = 465
tls = "implicit"
from = "Halligan <halligan@example.org>"
"#;
        let config: NotifyConfig = toml::from_str(text).unwrap();
        assert_eq!(config.smtp.unwrap().tls, SmtpTls::Implicit);
        assert_eq!(config.give_up_after, Span::days(7));
        assert_eq!(toml::from_str::<NotifyConfig>("").unwrap(), NotifyConfig::default());
        for bad in ["smpt = 1", "[smtp]\nhost = 'a'\nport = 1\nfrom = 'a@b'\npassword = 'hunter2'"] {
            assert!(toml::from_str::<NotifyConfig>(bad).is_err(), "{bad}");
        }
    }
}
