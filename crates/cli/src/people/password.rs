//! `halligan password`: for one login by SSH, or for the connections of a database's tools, with the line to type.

use anyhow::Context as _;
use clap::Args;
use halligan_client::types::ConnectPassword;
use halligan_client::{Client, ClientError};
use halligan_core::ids::EntitlementName;

use super::desk::Desk;
use super::ssh::split_address;
use crate::output::{Look, printable};

/// The protocol under which gateways name their PostgreSQL listener.
const POSTGRES: &str = "postgres";

/// Makes a password.
#[derive(Debug, Args)]
pub struct Password {
    /// For which; you hold an active grant of it.
    #[arg(value_name = "SYSTEM/ROLE")]
    entitlement: EntitlementName,
}

impl Password {
    /// Carries it out.
    pub async fn run(self, desk: &Desk) -> anyhow::Result<()> {
        let client = desk.client()?;
        let failed = || format!("failed to make a password for {}", self.entitlement);
        // The server knows what kind of system it is.
        match client.connect_password(&self.entitlement).await {
            Ok(made) => {
                let gateways = listeners(&client, &made).await;
                return desk.print(&made, |look| for_a_database(look, &made, &gateways));
            }
            Err(ClientError::Problem(problem)) if problem.code == "does_not_fit" => {}
            Err(error) => return Err(anyhow::Error::new(error).context(failed())),
        }
        let made = client.one_time_password(&self.entitlement).await.with_context(failed)?;
        desk.print(&made, |look| {
            format!(
                "{}\nworks once, as login {}, and dies {}",
                printable(&made.password),
                printable(&made.login),
                look.when(made.expires_at)
            )
        })
    }
}

/// Where the gateways that took the password let database clients in.
async fn listeners(client: &Client, made: &ConnectPassword) -> Vec<String> {
    let Ok(gateways) = client.gateways().await else { return Vec::new() };
    gateways
        .into_iter()
        .filter(|gateway| made.gateways.contains(&gateway.name))
        .filter_map(|mut gateway| Some(gateway.listeners.remove(POSTGRES)?.address))
        .collect()
}

/// The password alone on the first line, then what to type. The password stands in no line that a shell would remember.
fn for_a_database(look: &Look, made: &ConnectPassword, gateways: &[String]) -> String {
    let mut text = format!(
        "{}\nfor login {}, from the first address that uses it, {} connections at one time; takes no new one {}",
        printable(&made.password),
        printable(&made.login),
        made.connections,
        look.when(made.expires_at)
    );
    let address = gateways.iter().find_map(|address| split_address(address));
    let (host, port) = match address {
        Some((host, port)) => (host.to_owned(), port.to_string()),
        None => ("GATEWAY".to_owned(), "PORT".to_owned()),
    };
    for database in made.databases.iter().filter(|name| plain(name)) {
        // With channel binding no one in between learns or uses anything, whoever signed the certificate.
        text.push_str(&format!(
            "\n\npsql \"host={host} port={port} dbname={database} user={} sslmode=require channel_binding=require\"",
            printable(&made.login)
        ));
    }
    text
}

/// Needs no quoting in a connection string or a shell.
fn plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use halligan_core::ids::Name;
    use halligan_core::time::Time;
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn a_database_password_comes_with_the_line_to_type_and_does_not_stand_in_it() {
        let made = ConnectPassword {
            login: "read-only+orders-db".to_owned(),
            password: Zeroizing::new("00112233445566778899aabbccddeeff".to_owned()),
            expires_at: Time::from_micros(1_772_445_600_000_000),
            databases: vec!["orders".to_owned(), "$(reboot)".to_owned()],
            connections: 10,
            gateways: vec![Name::main()],
        };
        let look = Look::of_terminal();
        let text = for_a_database(&look, &made, &["gw.example.org:5432".to_owned()]);
        assert!(text.starts_with("00112233445566778899aabbccddeeff\n"), "{text}");
        let line = "psql \"host=gw.example.org port=5432 dbname=orders user=read-only+orders-db sslmode=require \
                    channel_binding=require\"";
        assert!(text.ends_with(line), "{text}");
        assert!(!text.contains("reboot"), "{text}");
        let nowhere = for_a_database(&look, &made, &[]);
        assert!(nowhere.contains("host=GATEWAY port=PORT"), "{nowhere}");
    }
}
