//! What stands in the databases of a server before a grant's first session, so that what is there afterwards can be told
//! from it.

use std::collections::BTreeMap;

use futures::future::join_all;
use halligan_connector::ConnectorError;
use halligan_session::Lease;

use crate::connector::PostgresConnector;
use crate::ending::cron_database;
use crate::server::Address;
use crate::state::{change_users, users};

/// Under this name stand the jobs of pg_cron; no database has such a name here.
pub const CRON: &str = "(pg_cron)";

impl PostgresConnector {
    /// Once for each grant. A database that does not answer is left out: then its look says what is not known.
    pub(crate) async fn note_before(&self, lease: &Lease, at: &Address) -> Result<(), ConnectorError> {
        let grant = lease.grant;
        let known = self.blocking(move |inner| users(inner.site.grants(), grant)).await?;
        if !known.before_in.is_empty() || !known.users.is_empty() {
            return Ok(());
        }
        let found = self.stands_in(lease, at, &[]).await;
        let before: BTreeMap<String, Vec<String>> =
            found.into_iter().filter_map(|(database, found)| Some((database, found.ok()?))).collect();
        self.blocking(move |inner| {
            change_users(&inner.site, grant, |known| {
                if known.before_in.is_empty() {
                    known.before_in = before;
                }
                Ok(())
            })
        })
        .await
    }

    /// What stands in each database of a lease that has no owner among the roles of sessions, and which jobs would run as
    /// its group or as these roles.
    pub(crate) async fn stands_in(
        &self,
        lease: &Lease,
        at: &Address,
        logins: &[String],
    ) -> BTreeMap<String, Result<Vec<String>, ConnectorError>> {
        let servers = &self.inner.servers;
        let group = lease.target.account.as_str();
        let databases = lease.target.postgres.as_ref().map(|target| lease.postgres.databases_of(target));
        let looks = databases.unwrap_or_default().iter().map(async |database| {
            let what = format!("look at what stands in {database}");
            let sql = "SELECT halligan.standing_in($1)::text";
            (database.clone(), servers.call_in(at, database, &what, sql, &[&group]).await)
        });
        let jobs = async {
            let database = cron_database(servers, at).await?;
            let Some(database) = database else { return Ok(None) };
            let names: Vec<&str> = std::iter::once(group).chain(logins.iter().map(String::as_str)).collect();
            let sql = "SELECT halligan.cron_jobs($1)::text";
            servers.call_in(at, &database, "look at jobs of pg_cron", sql, &[&names]).await.map(Some)
        };
        let (found, jobs) = tokio::join!(join_all(looks), jobs);
        let mut found: BTreeMap<_, _> = found.into_iter().collect();
        if let Some(jobs) = jobs.transpose() {
            found.insert(CRON.to_owned(), jobs);
        }
        found
    }
}
