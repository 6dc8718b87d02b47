//! What stands in the databases of a server before a grant's first session, so that what is there afterwards can be told
//! from it.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use halligan_connector::ConnectorError;
use halligan_session::Lease;

use crate::connector::PostgresConnector;
use crate::ending::cron_database;
use crate::server::Address;
use crate::state::{change_users, users};

/// Under this name stand the jobs of pg_cron; no database has such a name here.
pub const CRON: &str = "(pg_cron)";
/// Databases that are looked at at one time.
const AT_ONCE: usize = 4;

impl PostgresConnector {
    /// Before a grant's first session. A database that does not answer is asked again by whoever comes next before that; what
    /// was never told, the look says.
    pub(crate) async fn note_before(&self, lease: &Lease, at: &Address) -> Result<(), ConnectorError> {
        let grant = lease.grant;
        let known = self.blocking(move |inner| users(inner.site.grants(), grant)).await?;
        let databases = lease.target.postgres.as_ref().map(|target| lease.postgres.databases_of(target));
        let told =
            databases.unwrap_or_default().iter().all(|database| known.before_in.contains_key(database));
        if told || !known.users.is_empty() {
            return Ok(());
        }
        let found = self.stands_in(lease, at, &[]).await;
        let before: BTreeMap<String, Vec<String>> =
            found.into_iter().filter_map(|(database, found)| Some((database, found.ok()?))).collect();
        self.blocking(move |inner| {
            change_users(&inner.site, grant, |known| {
                for (database, found) in before {
                    known.before_in.entry(database).or_insert(found);
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
        let looks = databases.unwrap_or_default().to_vec().into_iter().map(async |database| {
            let what = format!("look at what stands in {database}");
            let sql = "SELECT halligan.standing_in($1)::text";
            let found = servers.call_in(at, &database, &what, sql, &[&group]).await;
            (database, found)
        });
        // A few at a time: the connector has few seats.
        let looks = futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect::<BTreeMap<_, _>>();
        let jobs = async {
            let database = cron_database(servers, at).await?;
            let Some(database) = database else { return Ok(None) };
            let names: Vec<&str> = std::iter::once(group).chain(logins.iter().map(String::as_str)).collect();
            let sql = "SELECT halligan.cron_jobs($1)::text";
            servers.call_in(at, &database, "look at jobs of pg_cron", sql, &[&names]).await.map(Some)
        };
        let (mut found, jobs) = tokio::join!(looks, jobs);
        if let Some(jobs) = jobs.transpose() {
            found.insert(CRON.to_owned(), jobs);
        }
        found
    }
}
