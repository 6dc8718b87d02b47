//! PgBouncer, the plain pooler that most know: session mode, TLS on both legs, no records and no checks.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use halligan_testkit::postgres_target::PostgresTarget;
use halligan_testkit::process::{Child, free_port};

/// A running PgBouncer. It ends when it is dropped.
pub struct Pooler {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Pooler {
    /// Starts one before this server, with this certificate and key, for one user.
    pub async fn start(
        target: &mut PostgresTarget,
        (certificate, key): (&str, &str),
        (user, password): (&str, &str),
    ) -> Result<Self> {
        let (address, authority) = (target.address(), target.ca_pem().to_owned());
        let folder = target.folder();
        let files = target.server();
        let certificate = files.put_file("pooler.pem", certificate)?;
        let key = files.put_file("pooler.key", key)?;
        let authority = files.put_file("pooler-ca.pem", &authority)?;
        let users = files.put_file("pooler-users.txt", &format!("\"{user}\" \"{password}\"\n"))?;
        let port = free_port()?;
        let settings = format!(
            "[databases]\n* = host=localhost port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = session\n\
             max_client_conn = 1000\ndefault_pool_size = 100\nlog_connections = 0\nlog_disconnections = 0\n\
             ignore_startup_parameters = extra_float_digits\nclient_tls_sslmode = require\n\
             client_tls_cert_file = {}\nclient_tls_key_file = {}\nserver_tls_sslmode = verify-full\n\
             server_tls_ca_file = {}\n",
            address.port(),
            users.display(),
            certificate.display(),
            key.display(),
            authority.display(),
        );
        let settings = files.put_file("pooler.ini", &settings)?;
        let program = ["/usr/sbin/pgbouncer"].into_iter().find(|path| std::path::Path::new(path).exists());
        let mut command = Command::new(program.unwrap_or("pgbouncer"));
        command.arg(settings).current_dir(&folder);
        // It refuses to be root; the server's user is none.
        let owner = std::fs::metadata(&folder).context("the server has no folder")?;
        if rustix::process::geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let mut child = Child::start("pgbouncer", &mut command, &folder)
            .context("PgBouncer is needed: `cargo xtask setup` installs it")?;
        child.wait_for_port(([127, 0, 0, 1], port).into(), Duration::from_secs(10)).await?;
        Ok(Self { child, port })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }
}
