//! What the connector answers on its links. Control activates, deactivates and looks; gateways of the same site ask for
//! credentials; nobody else is heard.

use std::sync::Arc;

use halligan_core::time::Time;
use halligan_link::messages::{Hello, PROTOCOL, PeerInfo, Request, Response, Role};
use halligan_link::report::keep_reporting;
use halligan_link::{BoxFuture, Handler, KeptLink};
use halligan_session::roster::{Roster, SignedRoster};
use tokio::sync::watch;

use crate::error::ConnectorError;
use crate::journal::Journal;
use crate::kinds::SiteConnectors;
use crate::state::{read_json, write_json};

const ROSTER_FILE: &str = "roster.json";

/// Answers for one connector.
#[derive(Debug)]
pub struct ConnectorHandler {
    connectors: SiteConnectors,
    roster: watch::Sender<Option<Roster>>,
}

impl ConnectorHandler {
    /// For this connector, with the roster it held last.
    pub fn new(connectors: SiteConnectors) -> Result<Self, ConnectorError> {
        let path = connectors.site().config().folder.join(ROSTER_FILE);
        let held: Option<SignedRoster> = read_json(&path)?;
        // One that control's present key did not sign is as good as none.
        let roster = held.and_then(|signed| signed.verify(&connectors.site().config().control).ok());
        Ok(Self { connectors, roster: watch::Sender::new(roster) })
    }

    /// The connector.
    pub const fn connectors(&self) -> &SiteConnectors {
        &self.connectors
    }

    /// The roster it holds: where the site's gateways listen, and by which keys they are known.
    pub fn roster(&self) -> watch::Receiver<Option<Roster>> {
        self.roster.subscribe()
    }

    /// How this node introduces itself.
    pub fn hello(&self) -> Hello {
        let journal = self.connectors.site().journal();
        Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: Role::Connector,
            name: self.connectors.site().config().name.clone(),
            ledger_size: journal.size(),
            time: journal.now(),
            roster: self.roster.borrow().as_ref().map_or(0, |roster| roster.serial),
            ledger_key: journal.ledger().signer().key().to_string(),
            leases: Vec::new(),
            listeners: std::collections::BTreeMap::new(),
        }
    }

    /// Reports this connector's ledger to control over `link`, on each new connection from where control has it. Never
    /// returns.
    pub async fn report(self: Arc<Self>, link: Arc<KeptLink>) {
        let journal: Arc<Journal> = Arc::clone(self.connectors.site().journal());
        let this = Arc::clone(&self);
        keep_reporting(journal, link, move || this.hello(), |_| ()).await;
    }

    fn put_roster(&self, signed: &SignedRoster) -> Result<(), ConnectorError> {
        let roster = signed.verify(&self.connectors.site().config().control)?;
        let held = self.roster.borrow().as_ref().map_or(0, |held| held.serial);
        if roster.serial < held {
            return Err(ConnectorError::refused(format!(
                "roster {} is overtaken by {held}, which this connector holds",
                roster.serial
            )));
        }
        write_json(&self.connectors.site().config().folder.join(ROSTER_FILE), signed)?;
        self.roster.send_replace(Some(roster));
        Ok(())
    }

    fn status(&self) -> Response {
        let journal = self.connectors.site().journal();
        let disk_free = rustix::fs::statvfs(&self.connectors.site().config().folder)
            .map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let stats = journal.ledger().stats();
        let mut warnings = self.connectors.warnings();
        if stats.poisoned {
            warnings.push(
                "the connector's ledger cannot be written: nothing is issued until it is restarted"
                    .to_owned(),
            );
        }
        if stats.full {
            warnings.push("the connector's disk is full".to_owned());
        }
        Response::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: journal.boot().to_owned(),
            time: journal.now(),
            ledger_size: journal.size(),
            leases: 0,
            sessions: 0,
            spooled: 0,
            disk_free,
            warnings,
        }
    }

    async fn answer(&self, peer: &PeerInfo, request: Request) -> Result<Response, ConnectorError> {
        let name = request.name();
        match (peer.role, request) {
            (_, Request::Ping) => Ok(Response::Ok),
            (_, Request::NodeTime) => Ok(Response::NodeTime { time: self.connectors.site().journal().now() }),
            (_, Request::Status) => Ok(self.status()),
            (Role::Control, Request::Hello(_)) => {
                Ok(Response::Welcome { hello: self.hello(), acknowledged: 0 })
            }
            (Role::Control, Request::PutRoster { roster }) => self.put_roster(&roster).map(|()| Response::Ok),
            (Role::Control, Request::Activate { lease }) => {
                self.connectors.activate(&lease).await.map(|()| Response::Ok)
            }
            (Role::Control, Request::Deactivate { grant, fencing }) => {
                let provable_at: Time = self.connectors.deactivate(grant, fencing).await?;
                Ok(Response::Deactivated { provable_at })
            }
            (Role::Control, Request::Look { grant, fencing }) => {
                Ok(Response::Evidence { evidence: self.connectors.look(grant, fencing).await? })
            }
            (Role::Control, request) => self.of_a_kind(peer, request).await,
            (Role::Gateway, request) if peer.site == self.connectors.site().config().site => {
                self.of_a_kind(peer, request).await
            }
            _ => Err(may_not(peer, name)),
        }
    }

    async fn of_a_kind(&self, peer: &PeerInfo, request: Request) -> Result<Response, ConnectorError> {
        match self.connectors.answer(peer, &request).await {
            Some(answer) => answer,
            None => Err(may_not(peer, request.name())),
        }
    }
}

fn may_not(peer: &PeerInfo, name: &str) -> ConnectorError {
    ConnectorError::refused(format!("{peer} may not ask this connector for `{name}`"))
}

impl Handler for ConnectorHandler {
    fn handle<'a>(&'a self, peer: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            match self.answer(peer, request).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::warn!(%peer, error = error.sentence(), "refused or failed");
                    Response::error(error.sentence())
                }
            }
        })
    }
}
