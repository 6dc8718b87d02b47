//! A real PostgreSQL as a target: TLS with a CA of its own, databases with something in them, NOLOGIN group roles, and a
//! `pg_hba.conf` that lets nobody in but its administrator until [`PostgresTarget::install`] says otherwise.
//!
//! Its log has every statement and every connection, so that a test can look for what must not stand there.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PublicKeyData,
};

use crate::postgres::TestPostgres;

/// What stands in each database of a target before anybody is let in.
const CONTENT: &str =
    "CREATE TABLE public.orders (id BIGINT PRIMARY KEY, customer TEXT NOT NULL, cents BIGINT NOT NULL);
INSERT INTO public.orders SELECT n, 'customer ' || n, n * 100 FROM generate_series(1, 1000) n;";

/// What a [`PostgresTarget`] shall be.
#[derive(Clone, Debug)]
pub struct Builder {
    databases: Vec<String>,
    settings: Vec<(String, String)>,
    major: Option<u32>,
}

impl Builder {
    /// A server of this major.
    pub fn major(mut self, major: u32) -> Self {
        self.major = Some(major);
        self
    }

    /// One more database, beside `orders`.
    pub fn database(mut self, name: &str) -> Self {
        self.databases.push(name.to_owned());
        self
    }

    /// A setting of the server, as in `postgresql.conf`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<PostgresTarget> {
        let mut settings: Vec<(&str, &str)> = vec![
            ("fsync", "off"),
            ("log_statement", "all"),
            ("log_connections", "on"),
            ("log_line_prefix", "%m [%p] %u@%d %a "),
            ("max_prepared_transactions", "10"),
            ("wal_level", "logical"),
            ("password_encryption", "scram-sha-256"),
        ];
        settings.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut server = TestPostgres::start_major(self.major, &settings)?;
        let authority = Authority::make()?;
        let (certificate, key) = authority.server()?;
        let files = [
            ("ssl_cert_file", server.put_file("server.pem", &certificate)?),
            ("ssl_key_file", server.put_file("server.key", &key)?),
            ("ssl_ca_file", server.put_file("ca.pem", &authority.pem)?),
        ];
        let file_settings: Vec<(&str, String)> =
            files.iter().map(|(name, path)| (*name, path.display().to_string())).collect();
        server.stop()?;
        for (name, value) in
            file_settings.iter().map(|(name, value)| (*name, value.as_str())).chain([("ssl", "on")])
        {
            server.set(name, value);
        }
        server.write_hba(&hba(""))?;
        server.resume()?;
        let target = PostgresTarget { server, authority, databases: self.databases };
        target.fill()?;
        Ok(target)
    }
}

/// See the module. It ends when the value is dropped.
#[derive(Debug)]
pub struct PostgresTarget {
    server: TestPostgres,
    authority: Authority,
    databases: Vec<String>,
}

impl PostgresTarget {
    /// The group role that may read every table.
    pub const READERS: &'static str = "orders_read";
    /// The group role that may read and write every table and make new ones.
    pub const WRITERS: &'static str = "orders_write";
    /// The name in the server's certificate, beside 127.0.0.1.
    pub const SERVER_NAME: &'static str = "db.halligan.test";

    /// A server with the database `orders`.
    pub fn builder() -> Builder {
        Builder { databases: vec!["orders".to_owned()], settings: Vec::new(), major: None }
    }

    /// [`PostgresTarget::builder`] with nothing changed.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.server.port()))
    }

    /// Who signed its certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.authority.pem
    }

    /// Its databases, beside `postgres`.
    pub fn databases(&self) -> &[String] {
        &self.databases
    }

    /// Connection string of its superuser, over a Unix socket, without a password.
    pub fn superuser_url(&self, database: &str) -> String {
        self.server.url_of(database)
    }

    /// Runs SQL as its superuser and returns what `psql -A -t` prints.
    pub fn sql(&self, database: &str, text: &str) -> Result<String> {
        self.server.sql(database, text)
    }

    /// Runs a set-up script as its superuser in `postgres` and in each database, puts `lines` before those of
    /// `pg_hba.conf`, and has the server read it.
    pub fn install(&self, script: &str, lines: &str) -> Result<()> {
        for database in self.all_databases() {
            self.run_script(database, script)?;
        }
        self.set_hba(lines)
    }

    /// Runs a script as `psql -f` does, as superuser, stopping at the first error.
    pub fn run_script(&self, database: &str, script: &str) -> Result<String> {
        let path = self.server.put_file("script.sql", script)?;
        self.server.file(database, &path).with_context(|| format!("the script failed in {database}"))
    }

    /// Puts `lines` before those of `pg_hba.conf` (which let in the superuser on the Unix socket, everybody with a
    /// password over TLS, and nobody else), and has the server read it.
    pub fn set_hba(&self, lines: &str) -> Result<()> {
        self.server.write_hba(&hba(lines))?;
        self.sql("postgres", "SELECT pg_reload_conf()")?;
        // The postmaster takes the signal when it comes round; a look at the view proves only the file.
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(())
    }

    /// Takes clients' certificates of another authority, too.
    pub fn trust_clients_of(&self, authority: &str) -> Result<()> {
        self.server.put_file("ca.pem", &format!("{}\n{authority}\n", self.authority.pem))?;
        self.sql("postgres", "SELECT pg_reload_conf()")?;
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(())
    }

    /// A certificate by which a client is `name` where `pg_hba.conf` says `cert` or `clientcert`: certificate and key, PEM.
    pub fn client_certificate(&self, name: &str) -> Result<(String, String)> {
        self.authority.client(name)
    }

    /// Its roles, their verifiers and memberships, as a backup has them.
    pub fn dump_roles(&self) -> Result<String> {
        self.server.dump_roles()
    }

    /// A certificate by which whoever holds the key of this point (P-256, uncompressed) is `name`, PEM.
    pub fn sign_client_key(&self, name: &str, point: &[u8]) -> Result<String> {
        self.authority.client_key(name, point)
    }

    /// All that the server has logged.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// The server, to stop, kill and start it again.
    pub fn server(&mut self) -> &mut TestPostgres {
        &mut self.server
    }

    /// Where a program that must run as the server's user may keep files.
    pub fn folder(&self) -> PathBuf {
        self.server.folder().to_owned()
    }

    fn all_databases(&self) -> impl Iterator<Item = &str> {
        std::iter::once("postgres").chain(self.databases.iter().map(String::as_str))
    }

    fn fill(&self) -> Result<()> {
        let (readers, writers) = (Self::READERS, Self::WRITERS);
        self.sql("postgres", &format!("CREATE ROLE {readers} NOLOGIN; CREATE ROLE {writers} NOLOGIN"))?;
        for database in &self.databases {
            self.server.create_database(database)?;
            let rights = format!(
                "{CONTENT}
                 GRANT SELECT ON ALL TABLES IN SCHEMA public TO {readers};
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {writers};
                 GRANT CREATE ON SCHEMA public TO {writers};"
            );
            self.sql(database, &rights)?;
        }
        Ok(())
    }
}

fn hba(first: &str) -> String {
    format!(
        "local all postgres trust\n{first}\nhostssl all all 127.0.0.1/32 scram-sha-256\nhostssl all all ::1/128 scram-sha-256\n"
    )
}

/// Signs the server's certificate and those of clients.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn make() -> Result<Self> {
        let key = KeyPair::generate().context("failed to make a key")?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "database authority for tests");
        let pem = params.self_signed(&key).context("failed to make the authority")?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    fn server(&self) -> Result<(String, String)> {
        let names = ["127.0.0.1", "localhost", PostgresTarget::SERVER_NAME].map(str::to_owned);
        self.sign(CertificateParams::new(names)?, "database for tests", ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn client(&self, name: &str) -> Result<(String, String)> {
        self.sign(CertificateParams::new(Vec::new())?, name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn client_key(&self, name: &str, point: &[u8]) -> Result<String> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = Point(point.to_vec());
        Ok(params.signed_by(&key, &self.issuer).context("failed to sign a certificate")?.pem())
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<(String, String)> {
        let key = KeyPair::generate().context("failed to make a key")?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &self.issuer).context("failed to sign a certificate")?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// Somebody else's key.
struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_tls_has_groups_and_obeys_its_hba() {
        let target = PostgresTarget::builder().database("stock").start().unwrap();
        assert_eq!(target.databases(), ["orders", "stock"]);
        assert_eq!(target.sql("stock", "SELECT count(*) FROM orders").unwrap(), "1000");
        assert_eq!(target.sql("postgres", "SHOW ssl").unwrap(), "on");
        target.install("CREATE ROLE one LOGIN PASSWORD NULL", "").unwrap_err();
        target.install("SELECT 1;", "host all orders_read all reject").unwrap();
        let rules =
            target.sql("postgres", "SELECT auth_method FROM pg_hba_file_rules ORDER BY line_number").unwrap();
        assert_eq!(rules, "trust\nreject\nscram-sha-256\nscram-sha-256");
        assert!(target.log().contains("pg_reload_conf"));
    }
}
