//! Sends mail: one letter to one person, over TLS, logged in.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use crate::address::loopback;
use crate::config::{SmtpConfig, SmtpTls};
use crate::error::NotifyError;
use crate::message::Letter;
use crate::signature::read_secret_file;
use crate::text::one_line;
use crate::webhook::read_roots;

/// For one mail, from the connection to the last word.
const TIME_OUT: Duration = Duration::from_secs(30);
const CONNECT_TIME_OUT: Duration = Duration::from_secs(10);

pub struct Mailer {
    config: SmtpConfig,
    from: Mailbox,
}

/// A mail that was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Not an address.
    #[error("`{address}` is not a mail address")]
    Address {
        /// What stands in the catalog.
        address: String,
        /// What is wrong with it.
        #[source]
        source: lettre::address::AddressError,
    },
    /// The mail cannot be written.
    #[error("failed to write the mail")]
    Compose {
        /// Why.
        #[source]
        source: lettre::error::Error,
    },
    /// The password cannot be read.
    #[error("failed to read the mail password from {path}")]
    Password {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The authorities cannot be read.
    #[error("failed to set up TLS for mail")]
    Roots {
        /// Why.
        #[source]
        source: NotifyError,
    },
    /// Clear text to another machine.
    #[error("{host} is not this machine, and mail leaves it by TLS only")]
    ClearText {
        /// Where to.
        host: String,
    },
    /// The name leads nowhere.
    #[error("failed to find the mail server {host}")]
    Resolve {
        /// Which.
        host: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server is not reached, or says no.
    #[error("the mail server {host} did not take it")]
    Smtp {
        /// Which.
        host: String,
        /// Why.
        #[source]
        source: lettre::transport::smtp::Error,
    },
    /// It took too long.
    #[error("the mail server {host} did not take it within {} s", TIME_OUT.as_secs())]
    TimeOut {
        /// Which.
        host: String,
    },
}

impl MailError {
    /// Is it this one mail that the server will not have (RFC 5321 section 4.2.3), while others may go through?
    pub fn only_this_mail(&self) -> bool {
        match self {
            Self::Address { .. } | Self::Compose { .. } => true,
            Self::Smtp { source, .. } => source
                .status()
                .is_some_and(|code| matches!(u16::from(code), 550 | 551 | 552 | 553 | 554 | 556)),
            _ => false,
        }
    }
}

impl Mailer {
    /// Checks the configuration; nothing is connected yet.
    pub fn new(config: SmtpConfig) -> Result<Self, NotifyError> {
        let from = config
            .from
            .parse::<Mailbox>()
            .map_err(|source| NotifyError::From { from: config.from.clone(), source })?;
        if config.user.is_some() != config.password_file.is_some() {
            return Err(NotifyError::HalfALogin);
        }
        match (&config.root_file, config.tls) {
            (Some(_), SmtpTls::NoneOnLoopback) => return Err(NotifyError::RootsWithoutTls),
            (Some(path), _) => drop(read_roots(path)?),
            (None, _) => {}
        }
        Ok(Self { config, from })
    }

    /// Where mail goes first.
    pub fn config(&self) -> &SmtpConfig {
        &self.config
    }

    /// Sends one letter. `id` is the same for repetitions, and of letters, digits and `_` only.
    pub async fn send(&self, name: &str, address: &str, id: &str, letter: Letter) -> Result<(), MailError> {
        let mail = self.compose(name, address, id, letter)?;
        let host = || self.config.host.clone();
        let sending = async {
            let transport = self.transport().await?;
            transport.send(mail).await.map(drop).map_err(|source| MailError::Smtp { host: host(), source })
        };
        tokio::time::timeout(TIME_OUT, sending)
            .await
            .unwrap_or_else(|_| Err(MailError::TimeOut { host: host() }))
    }

    fn compose(&self, name: &str, address: &str, id: &str, letter: Letter) -> Result<Mail, MailError> {
        let parsed: Address = address
            .parse()
            .map_err(|source| MailError::Address { address: one_line(address, 100), source })?;
        let domain = self.from.email.domain();
        let name = Some(one_line(name, 60)).filter(|name| !name.is_empty());
        let mut builder = Mail::builder()
            .from(self.from.clone())
            .to(Mailbox::new(name, parsed))
            .subject(one_line(&letter.subject, 200))
            .date_now()
            .message_id(Some(format!("<{id}@{domain}>")))
            // RFC 3834: no out-of-office answers, please.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .header(ContentType::TEXT_PLAIN);
        if let Some(thread) = letter.thread {
            builder = builder.references(format!("<{thread}@{domain}>"));
        }
        builder.body(letter.body).map_err(|source| MailError::Compose { source })
    }

    async fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailError> {
        let SmtpConfig { host, port, tls, user, password_file, root_file, .. } = &self.config;
        let (host, tls) = match tls {
            SmtpTls::Starttls => (host.clone(), Tls::Required(parameters(host, root_file.as_deref())?)),
            SmtpTls::Implicit => (host.clone(), Tls::Wrapper(parameters(host, root_file.as_deref())?)),
            // To the address that was checked, not to the name once more.
            SmtpTls::NoneOnLoopback => (this_machine(host, *port).await?.to_string(), Tls::None),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(*port)
            .tls(tls)
            .timeout(Some(CONNECT_TIME_OUT))
            .hello_name(ClientId::Domain(self.from.email.domain().to_owned()));
        if let (Some(user), Some(path)) = (user, password_file) {
            let password = read_secret_file(path)
                .await
                .map_err(|source| MailError::Password { path: path.display().to_string(), source })?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            builder = builder.credentials(Credentials::new(user.clone(), password));
        }
        Ok(builder.build())
    }
}

fn parameters(host: &str, roots: Option<&Path>) -> Result<TlsParameters, MailError> {
    let smtp = |source| MailError::Smtp { host: host.to_owned(), source };
    let mut builder = TlsParameters::builder(host.to_owned());
    builder = match roots {
        None => builder.certificate_store(CertificateStore::WebpkiRoots),
        Some(path) => {
            let mut only = builder.certificate_store(CertificateStore::None);
            for root in read_roots(path).map_err(|source| MailError::Roots { source })? {
                only = only.add_root_certificate(Certificate::from_der(root.to_vec()).map_err(smtp)?);
            }
            only
        }
    };
    builder.build().map_err(smtp)
}

/// The first address of a host, if all its addresses are on this machine.
async fn this_machine(host: &str, port: u16) -> Result<IpAddr, MailError> {
    let found: Vec<IpAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|source| MailError::Resolve { host: host.to_owned(), source })?
        .map(|address| address.ip())
        .collect();
    match found.first() {
        Some(first) if found.iter().all(|address| loopback(*address)) => Ok(*first),
        _ => Err(MailError::ClearText { host: host.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailer(from: &str) -> Result<Mailer, NotifyError> {
        Mailer::new(SmtpConfig {
            host: "192.0.2.1".to_owned(),
            port: 25,
            tls: SmtpTls::NoneOnLoopback,
            from: from.to_owned(),
            user: None,
            password_file: None,
            root_file: None,
        })
    }

    fn letter(subject: &str) -> Letter {
        Letter { subject: subject.to_owned(), body: "hello\n".to_owned(), thread: Some("req_1".to_owned()) }
    }

    #[test]
    fn no_header_can_be_smuggled_in() {
        let mailer = mailer("Halligan <halligan@example.org>").unwrap();
        let evil = "a\r\nBcc: eve@example.org";
        let mail = mailer.compose(evil, "ada@example.org", "msg_1", letter(evil)).unwrap();
        let text = String::from_utf8(mail.formatted()).unwrap();
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(!head.lines().any(|line| line.to_ascii_lowercase().starts_with("bcc")), "{head}");
        assert!(head.contains("Message-ID: <msg_1@example.org>"), "{head}");
        assert!(head.contains("References: <req_1@example.org>"), "{head}");
        assert_eq!(mail.envelope().to().len(), 1);
        for bad in
            ["ada@example.org\r\nRCPT TO:<eve@example.org>", "ada@example.org>, <eve@example.org", "ada"]
        {
            assert!(mailer.compose("Ada", bad, "msg_1", letter("x")).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn clear_text_never_leaves_the_machine() {
        let mailer = mailer("halligan@example.org").unwrap();
        let error = mailer.send("Ada", "ada@example.org", "msg_1", letter("x")).await.unwrap_err();
        assert!(matches!(error, MailError::ClearText { .. }), "{error}");
    }

    #[test]
    fn bad_configuration_is_told_apart() {
        assert!(matches!(mailer("nobody").err(), Some(NotifyError::From { .. })));
        let half = Mailer::new(SmtpConfig {
            user: Some("u".to_owned()),
            ..mailer("halligan@example.org").unwrap().config
        });
        assert!(matches!(half.err(), Some(NotifyError::HalfALogin)));
    }
}
