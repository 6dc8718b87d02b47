//! A real mail server that demands STARTTLS and a login, and keeps each message as a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::process::{Child, free_port};

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The address of the envelope, without brackets.
    pub sender: String,
    /// Everybody whom the envelope names.
    pub recipients: Vec<String>,
    /// Headers and body, undecoded.
    pub text: String,
}

/// The server. It ends when dropped.
#[derive(Debug)]
pub struct TestMail {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl TestMail {
    /// The account that may send.
    pub const USER: &str = "halligan";
    /// Its password.
    pub const PASSWORD: &str = "mail for tests";

    /// Starts it on a free loopback port. Fails with the way out when its interpreter is missing.
    pub async fn start() -> Result<Self> {
        let python = interpreter()?;
        let folder = tempfile::tempdir().context("failed to make a folder for the mail server")?;
        write_certificates(folder.path())?;
        let script = folder.path().join("mail_server.py");
        fs::write(&script, include_str!("mail_server.py"))?;
        let port = free_port()?;
        let mut command = Command::new(python);
        command.arg(&script).arg(folder.path()).args([Self::USER, Self::PASSWORD, &port.to_string()]);
        let mut child = Child::start("mail", &mut command, folder.path())?;
        child.wait_for_line("listening", Duration::from_secs(30)).await?;
        Ok(Self { child, port, folder })
    }

    /// Port on 127.0.0.1. The certificate is for `localhost` and `127.0.0.1`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority to trust, a PEM file.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Lets the server answer every message with "451 come back later", or take them again.
    pub fn set_refusing(&self, refusing: bool) -> Result<()> {
        let flag = self.folder.path().join("refusing");
        if refusing {
            fs::write(flag, "")?;
        } else if flag.exists() {
            fs::remove_file(flag)?;
        }
        Ok(())
    }

    /// All messages so far, in the order in which they came.
    pub fn messages(&self) -> Result<Vec<Message>> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.folder.path())?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        files.iter().map(|path| read(path)).collect()
    }

    /// Waits until there are at least `count` messages, and returns all.
    pub async fn wait_for(&self, count: usize, timeout: Duration) -> Result<Vec<Message>> {
        let until = Instant::now() + timeout;
        loop {
            let messages = self.messages()?;
            if messages.len() >= count {
                return Ok(messages);
            }
            if Instant::now() > until {
                bail!(
                    "{} of {count} messages arrived within {timeout:?}\n{}",
                    messages.len(),
                    self.child.tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the server: its port refuses connections from now on.
    pub fn stop(&mut self) {
        self.child.kill_tree();
    }
}

/// The interpreter that has aiosmtpd: in the folder `HALLIGAN_VENV`, or in `target/venv`.
pub fn interpreter() -> Result<PathBuf> {
    let venv = std::env::var_os("HALLIGAN_VENV")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/venv"), PathBuf::from);
    let python = venv.join("bin/python");
    if !python.exists() {
        bail!("failed to start a mail server: there is no {}; run `cargo xtask setup`", python.display());
    }
    Ok(python)
}

fn read(path: &Path) -> Result<Message> {
    let value: serde_json::Value = serde_json::from_slice(&fs::read(path)?)
        .with_context(|| format!("failed to read the message {}", path.display()))?;
    let text = |key: &str| value.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let recipients = value.get("recipients").and_then(|v| v.as_array());
    Ok(Message {
        sender: text("sender"),
        recipients: recipients.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        text: text("text"),
    })
}

/// An authority, and a certificate under it: rustls refuses an authority that presents itself as a server.
fn write_certificates(folder: &Path) -> Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::<String>::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // With one name for both, clients take the server's certificate for one that signed itself.
    authority.distinguished_name.push(DnType::CommonName, "mail authority for tests");
    fs::write(folder.join("authority.pem"), authority.self_signed(&authority_key)?.pem())?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    fs::write(folder.join("certificate.pem"), server.signed_by(&key, &issuer)?.pem())?;
    fs::write(folder.join("key.pem"), key.serialize_pem())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python's own SMTP client: the second opinion on ours.
    fn send(mail: &TestMail, password: &str) -> std::process::Output {
        let script = r#"
import smtplib, ssl, sys
port, authority, user, password = sys.argv[1:]
client = smtplib.SMTP("127.0.0.1", int(port))
client.starttls(context=ssl.create_default_context(cafile=authority))
client.login(user, password)
client.sendmail("halligan@example.org", ["ada@example.org"], "Subject: hello\r\n\r\nthe bar is out\r\n")
client.quit()
"#;
        Command::new(interpreter().unwrap())
            .args(["-c", script, &mail.port().to_string()])
            .arg(mail.authority())
            .args([TestMail::USER, password])
            .output()
            .unwrap()
    }

    #[tokio::test]
    async fn takes_mail_over_tls_with_a_login_and_refuses_when_told() {
        let mut mail = TestMail::start().await.unwrap();
        let sent = send(&mail, TestMail::PASSWORD);
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
        let messages = mail.wait_for(1, Duration::from_secs(5)).await.unwrap();
        assert_eq!(messages[0].recipients, ["ada@example.org"]);
        assert!(messages[0].text.contains("the bar is out"));

        assert!(!send(&mail, "wrong").status.success());
        mail.set_refusing(true).unwrap();
        let refused = send(&mail, TestMail::PASSWORD);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("451"));
        mail.set_refusing(false).unwrap();
        assert!(send(&mail, TestMail::PASSWORD).status.success());
        assert_eq!(mail.messages().unwrap().len(), 2);
        mail.stop();
        assert!(!send(&mail, TestMail::PASSWORD).status.success());
    }
}
