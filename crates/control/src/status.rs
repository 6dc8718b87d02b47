//! How this installation is: what waits, what is not signed yet, how the nodes are. For those who look after it, in one
//! answer; the figures that are counted are in `figures.rs`.

use std::time::Duration;

use halligan_core::leaf::Leaf;
use halligan_core::time::{Span, Time};
use halligan_link::messages::{Request, Response};

use crate::control::Control;
use crate::error::ControlError;
use crate::nodes::NodeRecord;

/// A node answers within this time, or is shown as silent.
const NODE_WITHIN: Duration = Duration::from_secs(3);

/// How it is.
#[derive(Clone, Debug)]
pub struct Status {
    /// Effects and alerts that wait to be done.
    pub outbox: u64,
    /// Age of the oldest of them; zero for none.
    pub outbox_age: Span,
    /// Leaves that no checkpoint covers yet.
    pub unsigned: u64,
    /// Age of the oldest of them; zero for none. More than some seconds: the sequencer stands still.
    pub unsigned_age: Span,
    /// Bytes free where control keeps its folder.
    pub disk_free: u64,
    /// This node's clock is too far off the database's: it decides nothing.
    pub clock_is_bad: bool,
    /// Alerts of this run that no route took.
    pub alerts_unrouted: u64,
    /// What keeps alerts from leaving.
    pub alert_problems: Vec<String>,
    /// Nodes that were not expelled.
    pub nodes: Vec<NodeStatus>,
}

/// How a node is.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// As it joined.
    pub record: NodeRecord,
    /// It is connected here.
    pub connected: bool,
    /// When it was heard last, in this run of control.
    pub last_contact: Option<Time>,
    /// What it said just now.
    pub answer: Option<NodeAnswer>,
}

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct NodeAnswer {
    /// Version of its binary.
    pub version: String,
    /// Its clock minus control's, in microseconds; known to within half the time of the question.
    pub clock_offset: i64,
    /// Live sessions.
    pub sessions: u64,
    /// Leases held.
    pub leases: u64,
    /// Recordings that wait for control.
    pub spooled: u64,
    /// Bytes free in its folder.
    pub disk_free: u64,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Control {
    /// How everything is. Asks every connected node, at once, and waits a few seconds at most.
    pub async fn status(&self) -> Result<Status, ControlError> {
        let head = self.store().head().await?;
        let outbox = self.store().outbox_stats().await?;
        let signed = head.signed.as_ref().map_or(0, |signed| signed.size);
        let unsigned = head.size.saturating_sub(signed);
        let oldest = match unsigned {
            0 => None,
            _ => self.store().leaves(signed, 1).await?.pop().map(|(_, leaf)| leaf),
        };
        let oldest = oldest.and_then(|leaf| serde_json::from_slice::<Leaf>(&leaf).ok());
        let now = self.now();
        let folder = &self.options().folder;
        let disk = rustix::fs::statvfs(folder)
            .map_err(std::io::Error::from)
            .map_err(ControlError::local(format!("look how much room there is in {}", folder.display())))?;
        let alert_problems = match self.alert_sink() {
            Some(sink) => sink.problems().await,
            None => vec!["no alerts leave this server".to_owned()],
        };
        let mut asked = tokio::task::JoinSet::new();
        for (place, record) in
            self.node_records().await?.into_iter().filter(|record| !record.expelled).enumerate()
        {
            let control = self.clone();
            asked.spawn(async move { (place, control.ask_status(record).await) });
        }
        let mut nodes = asked.join_all().await;
        nodes.sort_by_key(|(place, _)| *place);
        Ok(Status {
            outbox: outbox.count,
            outbox_age: outbox.oldest.map_or(Span::ZERO, |oldest| now.since(Time::from_micros(oldest))),
            unsigned,
            unsigned_age: oldest.map_or(Span::ZERO, |leaf| now.since(leaf.at)),
            disk_free: disk.f_bavail.saturating_mul(disk.f_frsize),
            clock_is_bad: self.clock_is_bad(),
            alerts_unrouted: self.counts().get("alerts_unrouted").copied().unwrap_or(0),
            alert_problems,
            nodes: nodes.into_iter().map(|(_, node)| node).collect(),
        })
    }

    async fn ask_status(&self, record: NodeRecord) -> NodeStatus {
        let peer = self.peer(&record.name);
        let clock = &self.options().clock;
        let answer = match &peer {
            Some(peer) => {
                let before = clock.now();
                let said = peer.call_within(Request::Status, NODE_WITHIN).await;
                let took = clock.now().micros() - before.micros();
                match said {
                    Ok(Response::Status {
                        version,
                        time,
                        leases,
                        sessions,
                        spooled,
                        disk_free,
                        warnings,
                        ..
                    }) => Some(NodeAnswer {
                        version,
                        clock_offset: time.micros() - before.micros() - took / 2,
                        sessions,
                        leases,
                        spooled,
                        disk_free,
                        warnings,
                    }),
                    _ => None,
                }
            }
            None => None,
        };
        if answer.is_some() {
            self.0.nodes.heard(&record.name, self.now());
        }
        NodeStatus {
            connected: peer.is_some(),
            last_contact: self.0.nodes.last_heard(&record.name),
            answer,
            record,
        }
    }
}
