//! What the demonstration stands on: two real SSH hosts, a real PostgreSQL, a store, and Halligan in one process or in three.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use halligan_testkit::postgres::TestPostgres;
use halligan_testkit::postgres_target::PostgresTarget;
use halligan_testkit::process::{Child, free_port, halligan_bin};
use halligan_testkit::sshd::TestSshd;
use tempfile::TempDir;

use crate::http;

/// Group roles of the database, and what each may.
const GROUPS: [(&str, &str); 3] = [
    ("orders_readers", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO GROUP"),
    (
        "orders_operators",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO GROUP; GRANT CREATE ON SCHEMA public TO GROUP",
    ),
    (
        "orders_admins",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO GROUP; GRANT CREATE ON SCHEMA public TO GROUP",
    ),
];

/// How many processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All three roles in one.
    One,
    /// Control, gateway and connector apart, over mutual TLS.
    Three,
}

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Embedded.
    Sqlite,
    /// A real server.
    Postgres,
}

/// Everything that runs. It ends with this value.
pub struct Place {
    pub folder: TempDir,
    pub layout: Layout,
    pub api: u16,
    pub ssh: u16,
    /// Where the gateway takes PostgreSQL clients.
    pub psql: u16,
    pub server: Option<Child>,
    pub gateway: Option<Child>,
    pub connector: Option<Child>,
    pub orders: Option<TestSshd>,
    pub shop: Option<TestSshd>,
    pub database: Option<PostgresTarget>,
    pub postgres: Option<TestPostgres>,
    link: u16,
    gateway_link: u16,
}

impl Place {
    /// Starts Halligan, then the hosts that trust its connector.
    pub async fn start(layout: Layout, store: StoreKind) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("halligan-demo-").tempdir()?;
        let postgres = match store {
            StoreKind::Sqlite => None,
            StoreKind::Postgres => Some(TestPostgres::start()?),
        };
        let mut place = Self {
            folder,
            layout,
            api: free_port()?,
            ssh: free_port()?,
            psql: free_port()?,
            server: None,
            gateway: None,
            connector: None,
            orders: None,
            shop: None,
            database: None,
            postgres,
            link: free_port()?,
            gateway_link: free_port()?,
        };
        place.configure()?;
        place.start_server().await?;
        if layout == Layout::Three {
            place.join("gw-1", "gateway").await?;
            place.join("con-1", "connector").await?;
            place.start_gateway()?;
            place.start_connector()?;
        }
        place.start_hosts().await?;
        place.start_database()?;
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// State folder of a role.
    pub fn role_folder(&self, role: &str) -> PathBuf {
        match (self.layout, role) {
            (Layout::Three, "gateway" | "connector") => self.path(&format!("node-{role}")),
            _ => self.path("state").join(role),
        }
    }

    fn config(&self) -> PathBuf {
        self.path("halligan.toml")
    }

    fn configure(&self) -> Result<()> {
        let state = self.path("state");
        let (api, ssh, psql) = (self.api, self.ssh, self.psql);
        let (link, gateway_link) = (self.link, self.gateway_link);
        let mut text = format!(
            "[server]\nfolder = \"{}\"\nlisten = \"127.0.0.1:{api}\"\npublic_url = \"http://localhost:{api}\"\nplain_http = true\nadministrator = \"cleo\"\ndrain_seconds = 2\n\n",
            state.display()
        );
        text += "[ledger]\norigin = \"orders.example/halligan\"\n\n[limits]\ndisk_reserve_mib = 16\n\n";
        if let Some(postgres) = &self.postgres {
            text += &format!("[store]\nkind = \"postgres\"\nurl = \"{}\"\n\n", postgres.url());
        }
        let separate = self.layout == Layout::Three;
        text += &format!(
            "[gateway]\nenabled = {}\nlisten = \"127.0.0.1:{ssh}\"\nlink_listen = \"127.0.0.1:{gateway_link}\"\npostgres_listen = \"127.0.0.1:{psql}\"\n\n",
            !separate
        );
        text += &format!("[connector]\nenabled = {}\n\n", !separate);
        if separate {
            text += &format!(
                "[link]\nlisten = \"127.0.0.1:{link}\"\naddresses = [\"127.0.0.1:{link}\"]\nwrite_join_tokens = [\"gateway:gw-1@127.0.0.1:{gateway_link}\", \"connector:con-1\"]\n"
            );
        }
        fs::write(self.config(), text).context("failed to write the configuration")
    }

    /// The command that starts a process of this layout: `server`, `gateway` or `connector`.
    pub fn command(&self, process: &str) -> Result<Command> {
        let mut command = Command::new(halligan_bin()?);
        match process {
            "gateway" => {
                command.arg("gateway").arg("--folder").arg(self.role_folder("gateway"));
                command.args(["--listen", &format!("127.0.0.1:{}", self.ssh)]);
                command.args(["--link-listen", &format!("127.0.0.1:{}", self.gateway_link)]);
                command.args(["--postgres-listen", &format!("127.0.0.1:{}", self.psql)]);
            }
            "connector" => {
                command.arg("connector").arg("--folder").arg(self.role_folder("connector"));
            }
            _ => {
                command.args(["server", "--config"]).arg(self.config());
            }
        }
        Ok(command)
    }

    /// Starts control (with the other roles in it, if they are not apart) and waits until it is ready.
    pub async fn start_server(&mut self) -> Result<()> {
        self.server = Some(Child::start("server", &mut self.command("server")?, self.folder.path())?);
        self.ready().await
    }

    /// Waits until control takes work.
    pub async fn ready(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        while http::get(self.api, "/ready").is_err() {
            if Instant::now() > end {
                bail!("the server is not ready after 20 s:\n{}", self.log("server"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The last lines that a role wrote.
    pub fn log(&self, name: &str) -> String {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(name) && entry.path().is_file() {
                lines.extend(fs::read_to_string(entry.path()).unwrap_or_default().lines().map(str::to_owned));
            }
        }
        let from = lines.len().saturating_sub(40);
        lines.split_off(from).join("\n")
    }

    async fn join(&self, name: &str, role: &str) -> Result<()> {
        let token = self.path("state").join(format!("join-{name}.token"));
        let end = Instant::now() + Duration::from_secs(10);
        while !token.exists() {
            if Instant::now() > end {
                bail!("the server wrote no join token for {name}:\n{}", self.log("server"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let output = Command::new(halligan_bin()?)
            .args(["node", "join"])
            .arg(&token)
            .arg("--folder")
            .arg(self.role_folder(role))
            .output()?;
        if !output.status.success() {
            bail!("{name} could not join: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn start_gateway(&mut self) -> Result<()> {
        self.gateway = Some(Child::start("gateway", &mut self.command("gateway")?, self.folder.path())?);
        Ok(())
    }

    fn start_connector(&mut self) -> Result<()> {
        self.connector =
            Some(Child::start("connector", &mut self.command("connector")?, self.folder.path())?);
        Ok(())
    }

    /// The site's certificate authority, public half: what the targets trust.
    pub fn site_ca(&self) -> Result<String> {
        let output = Command::new("ssh-keygen").arg("-y").arg("-f").arg(self.site_ca_file()).output()?;
        if !output.status.success() {
            bail!("failed to read the site's key: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Its private half, which only the connector has.
    pub fn site_ca_file(&self) -> PathBuf {
        self.role_folder("connector").join("site_ca")
    }

    async fn start_hosts(&mut self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.site_ca_file().exists() {
            if Instant::now() > end {
                bail!("the connector made no key:\n{}", self.log("connector"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let ca = self.site_ca()?;
        let host = |system: &str| {
            let mut builder = TestSshd::builder().trust_ca(&ca);
            for account in ["halligan-app", "halligan-ops"] {
                builder = builder.principals(account, [format!("halligan:{system}:{account}")]);
            }
            builder.start()
        };
        self.orders = Some(host("orders-host").await?);
        self.shop = Some(host("shop-host").await?);
        Ok(())
    }

    /// A PostgreSQL server with the set-up that `halligan connector postgres-setup` prints.
    fn start_database(&mut self) -> Result<()> {
        let database = PostgresTarget::start()?;
        let mut command = Command::new(halligan_bin()?);
        command.args(["connector", "postgres-setup", "--database", "orders"]);
        for (group, rights) in GROUPS {
            database.sql("postgres", &format!("CREATE ROLE {group} NOLOGIN"))?;
            database.sql("orders", &rights.replace("GROUP", group))?;
            command.args(["--group", group]);
        }
        command.args(["--prepared", "orders_operators=2"]);
        // Where a connector in the gateway's own machine expects gateways.
        command.args(["--gateway", "127.0.0.1/32", "--gateway", "::1/128", "--connector", "127.0.0.1/32"]);
        match self.layout {
            Layout::One => command.arg("--config").arg(self.config()),
            Layout::Three => command.arg("--folder").arg(self.role_folder("connector")),
        };
        let output = command.output()?;
        if !output.status.success() {
            bail!("no set-up script: {}", String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8(output.stdout)?;
        let lines: String = text
            .lines()
            .filter_map(|line| line.strip_prefix("-- "))
            .filter(|line| line.starts_with("host"))
            .fold(String::new(), |all, line| all + line + "\n");
        database.install(&text, &lines)?;
        // The authority that opens standing roles stands in the script's first lines.
        let said = |line: &str| line.strip_prefix("--").map(|rest| rest.trim().to_owned() + "\n");
        let said: String = text.lines().filter_map(said).collect();
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        let authority =
            said.find(begin).zip(said.find(end)).and_then(|(from, to)| said.get(from..to + end.len()));
        database.trust_clients_of(authority.context("the script names no authority")?)?;
        self.database = Some(database);
        Ok(())
    }

    /// The sample catalog with the addresses and keys of these hosts, and windows that suit a demonstration.
    pub fn catalog(&self, sample: &Path) -> Result<PathBuf> {
        let folder = self.path("catalog");
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(sample)? {
            let entry = entry?;
            let text = fs::read_to_string(entry.path())?;
            let text = if entry.file_name() == "systems.yaml" { self.systems(&text)? } else { text };
            fs::write(folder.join(entry.file_name()), text)?;
        }
        Ok(folder)
    }

    fn systems(&self, text: &str) -> Result<String> {
        let mut out = String::new();
        for line in text.lines() {
            let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
            if let Some(line) = self.of_database(line) {
                out += &format!("{indent}{line}\n");
                continue;
            }
            let replaced = [("orders-host", &self.orders), ("shop-host", &self.shop)].into_iter().find_map(
                |(name, host)| {
                    let host = host.as_ref()?;
                    if line.ends_with(&format!("# replace: address of {name}")) {
                        Some(Ok(format!("{indent}address: {}", host.address())))
                    } else if line.ends_with(&format!("# replace: host key of {name}")) {
                        Some(host.host_key_openssh().map(|key| {
                            format!(
                                "{indent}- {}",
                                key.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
                            )
                        }))
                    } else {
                        None
                    }
                },
            );
            out += &replaced.transpose()?.unwrap_or_else(|| line.to_owned());
            out.push('\n');
            // A login window of seconds, so that a proof does not keep the audience waiting for a minute.
            if line.trim_start().starts_with("account: halligan-") {
                out += &format!("{indent}proof: {{login_window: 4s}}\n");
            }
        }
        Ok(out)
    }

    /// What stands in place of a line of the sample that says where the database is.
    fn of_database(&self, line: &str) -> Option<String> {
        let database = self.database.as_ref()?;
        let text = line.trim_start();
        if text.ends_with("# replace: address of orders-db") {
            Some(format!("address: {}", database.address()))
        } else if text.starts_with("server_ca: ") {
            Some(format!("server_ca: {}", serde_json::Value::from(database.ca_pem())))
        } else {
            None
        }
    }
}
