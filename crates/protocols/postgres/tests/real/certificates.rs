//! Client certificates of `halligan login`: in without a password, and out with a sentence.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halligan_session::node_event::NodeEvent;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use tokio::process::Command;

use crate::support::*;

/// As control's, with times of one's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

fn named(text: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, text);
    all
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut own = CertificateParams::default();
        own.distinguished_name = named(name);
        own.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        own.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = STANDARD.encode(own.self_signed(&key).unwrap().der());
        Self { issuer: Issuer::new(own, key), certificate }
    }

    /// Certificate and key, PEM.
    pub fn person(&self, person: &str, ended: bool) -> (String, String) {
        let mut one = CertificateParams::default();
        one.distinguished_name = named(person);
        one.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        one.not_before = rcgen::date_time_ymd(2024, 1, 1);
        one.not_after = rcgen::date_time_ymd(if ended { 2025 } else { 2099 }, 1, 1);
        let key = KeyPair::generate().unwrap();
        let made = one.signed_by(&key, &self.issuer).unwrap();
        (made.pem(), key.serialize_pem())
    }

    pub fn in_roster(&self) -> Vec<String> {
        vec![self.certificate.clone()]
    }
}

/// `psql` that shows this certificate and knows no password.
fn showing(world: &World, shown: &(String, String), sql: &str) -> Command {
    use std::os::unix::fs::PermissionsExt as _;
    let write = |file: &str, text: &str| -> PathBuf {
        let path = world.folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (certificate, key) = (write("client.crt", &shown.0), write("client.key", &shown.1));
    let mut psql = world.psql();
    psql.env_remove("PGPASSWORD").env("PGSSLCERT", certificate).env("PGSSLKEY", key).args(["-w", "-c", sql]);
    psql
}

async fn said(psql: Command) -> Result<String, String> {
    let output = finished(psql).await;
    if output.status.success() {
        Ok(text(&output.stdout).trim().to_owned())
    } else {
        Err(text(&output.stderr).trim().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_halligan_login_opens_without_a_password() {
    let world = World::new().await;
    let authority = Authority::new("Halligan login");
    world.put_roster_as(2, |roster| roster.client_ca = authority.in_roster()).await;
    let ana = authority.person("ana", false);
    assert_eq!(said(showing(&world, &ana, "SELECT current_user")).await.unwrap(), "orders_write");
    let mut older = showing(&world, &ana, "SELECT 12");
    older.env("PGSSLMAXPROTOCOLVERSION", "TLSv1.2");
    assert_eq!(said(older).await.unwrap(), "12");
    let opened = world.told(|event| matches!(event, NodeEvent::SessionOpened { .. })).await;
    let NodeEvent::SessionOpened { login, person, .. } = opened else { unreachable!() };
    assert!(login.starts_with("client certificate ") && person.as_str() == "ana", "{login}");
    // Who shows none is asked for a password, as before.
    assert_eq!(world.sql("SELECT 3").await.unwrap(), "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_good_is_refused_with_a_sentence() {
    let world = World::new().await;
    let (authority, other) = (Authority::new("Halligan login"), Authority::new("Halligan login"));
    // Before control has sent an authority, nobody's certificate is good.
    let ana = authority.person("ana", false);
    let error = said(showing(&world, &ana, "SELECT 1")).await.unwrap_err();
    assert!(error.contains("not signed by the login authority"), "{error}");
    world.put_roster_as(2, |roster| roster.client_ca = authority.in_roster()).await;
    assert_eq!(said(showing(&world, &ana, "SELECT 1")).await.unwrap(), "1");
    for (shown, sentence) in [
        (other.person("ana", false), "it was not signed by the login authority of this installation"),
        (authority.person("ana", true), "it ended at 2025-01-01"),
        (authority.person("bo", false), "its person may not log in"),
        (authority.person("Ana Li", false), "it does not name a person"),
    ] {
        let error = said(showing(&world, &shown, "SELECT 1")).await.unwrap_err();
        assert!(error.contains(sentence), "{sentence}: {error}");
        // Refused, not asked for a password.
        assert!(!error.contains("password supplied"), "{error}");
    }
    world
        .told(|event| matches!(event, NodeEvent::Refused { what, reason, .. } if what.contains(LOGIN) && reason.contains("ended at")))
        .await;
    // Somebody who may log in and holds no grant.
    world
        .put_roster_as(3, |roster| {
            roster.client_ca = authority.in_roster();
            let bo = roster.people[0].clone();
            roster.people.push(halligan_session::roster::RosterPerson { id: name("bo"), ..bo });
        })
        .await;
    let error = said(showing(&world, &authority.person("bo", false), "SELECT 1")).await.unwrap_err();
    assert!(error.contains("no access to orders-db/work for you"), "{error}");
    // Of somebody else's authority: as good as none.
    let strange = Authority::new("Somebody").person("ana", false);
    let mut psql = showing(&world, &strange, "SELECT 4");
    let error = said(psql).await.unwrap_err();
    assert!(error.contains("no password supplied"), "{error}");
    psql = showing(&world, &strange, "SELECT 4");
    psql.env("PGPASSWORD", PASSWORD);
    assert_eq!(said(psql).await.unwrap(), "4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authority_and_people_change_with_the_roster_while_it_runs() {
    let world = World::new().await;
    let (old, new) = (Authority::new("Halligan login"), Authority::new("Halligan login"));
    let by = async |authority: &Authority| {
        said(showing(&world, &authority.person("ana", false), "SELECT 1")).await
    };
    world.put_roster_as(2, |roster| roster.client_ca = old.in_roster()).await;
    assert!(by(&old).await.is_ok() && by(&new).await.is_err());
    world.put_roster_as(3, |roster| roster.client_ca = [old.in_roster(), new.in_roster()].concat()).await;
    assert!(by(&old).await.is_ok() && by(&new).await.is_ok());
    world.put_roster_as(4, |roster| roster.client_ca = new.in_roster()).await;
    assert!(by(&old).await.is_err() && by(&new).await.is_ok());
    // She is shut out: her certificate is as it was, and opens nothing.
    world
        .put_roster_as(5, |roster| {
            roster.client_ca = new.in_roster();
            roster.people.clear();
        })
        .await;
    assert!(by(&new).await.unwrap_err().contains("its person may not log in"));
}

/// Shows a certificate whose key it does not have.
#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl ResolvesClientCert for Thief {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_without_its_key_ends_the_handshake() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::new().await;
    let authority = Authority::new("Halligan login");
    world.put_roster_as(2, |roster| roster.client_ca = authority.in_roster()).await;
    let (certificate, own_key) = authority.person("ana", false);
    let (_, wrong_key) = authority.person("eve", false);
    for (key, good) in [(own_key, true), (wrong_key, false)] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            let key = provider.key_provider.load_private_key(key).unwrap();
            let shown =
                CertifiedKey::new(vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()], key);
            let root = std::fs::read(world.folder.path().join("root.pem")).unwrap();
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(&root).unwrap()).unwrap();
            let mut config = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_client_cert_resolver(Arc::new(Thief(Arc::new(shown))));
            config.alpn_protocols = vec![b"postgresql".to_vec()];
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let got = async {
                let mut stream =
                    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
                let mut out = bytes::BytesMut::new();
                halligan_protocol_postgres::codec::Writer(&mut out).startup(
                    halligan_protocol_postgres::codec::Version::V3_0,
                    &[("user", LOGIN), ("database", "orders")],
                );
                stream.write_all(&out).await?;
                let mut first = [0; 9];
                stream.read_exact(&mut first).await?;
                Ok::<_, std::io::Error>(first)
            };
            let got = tokio::time::timeout(Duration::from_secs(10), got).await.unwrap();
            match good {
                // AuthenticationOk at once.
                true => assert_eq!(got.unwrap(), [b'R', 0, 0, 0, 8, 0, 0, 0, 0]),
                false => assert!(got.is_err(), "{got:?}"),
            }
        }
    }
}

/// libpq shows what lies in `~/.postgresql`, also as PostgreSQL's own manual has such certificates made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_else_s_certificate_of_version_1_keeps_nobody_out_who_has_a_password() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &[&str]| {
        let mut openssl = std::process::Command::new("openssl");
        let output = openssl.args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    openssl(&[
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=dba", "-keyout", "key", "-out", "csr",
    ]);
    openssl(&["x509", "-req", "-in", "csr", "-signkey", "key", "-out", "certificate"]);
    assert!(openssl(&["x509", "-in", "certificate", "-noout", "-text"]).contains("Version: 1 "));
    let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
    let mut psql = showing(&world, &(read("certificate"), read("key")), "SELECT 1");
    psql.env("PGPASSWORD", PASSWORD);
    assert_eq!(said(psql).await.as_deref(), Ok("1"));
}
