//! Makes rosters: who people and nodes are, signed, with a serial that only grows.

use std::collections::BTreeSet;

use halligan_core::ids::PersonId;
use halligan_core::leaf::LeafBody;
use halligan_link::messages::Request;
use halligan_session::roster::{Roster, RosterNode, RosterPerson, SignedRoster};
use halligan_store::{DocumentKey, DocumentWrite, Order};

use crate::control::Control;
use crate::documents::{bytes, parse};
use crate::error::ControlError;
use crate::nodes::NodeRecord;
use crate::people::account::Account;
use crate::timers::chain;

impl Control {
    /// The roster as things stand, with a serial of its own.
    pub async fn roster(&self) -> Result<SignedRoster, ControlError> {
        let in_force = self.in_force();
        let accounts = Account::all(self.store()).await?;
        let disabled: BTreeSet<PersonId> = accounts
            .iter()
            .filter(|account| account.disabled)
            .map(|account| account.person.clone())
            .collect();
        let people = accounts
            .into_iter()
            .filter(|account| !account.disabled && !account.ssh_keys.is_empty())
            .filter_map(|account| {
                let person =
                    in_force.head.catalog.people.get(&account.person).filter(|person| !person.left)?;
                Some(RosterPerson {
                    id: account.person,
                    name: person.name.clone(),
                    ssh_keys: account.ssh_keys.into_iter().map(|key| key.openssh).collect(),
                })
            })
            .collect::<Vec<_>>();
        let mut known = people;
        // People without a registered key sign in by certificate or one-time password: they must be known by id.
        for (id, person) in &in_force.head.catalog.people {
            if !person.left && !disabled.contains(id) && !known.iter().any(|found| found.id == *id) {
                known.push(RosterPerson { id: id.clone(), name: person.name.clone(), ssh_keys: Vec::new() });
            }
        }
        let mut nodes: Vec<RosterNode> = self
            .node_records()
            .await?
            .into_iter()
            .filter(|node| !node.expelled)
            .map(|node| RosterNode {
                name: node.name,
                role: node.role,
                site: node.site,
                key_sha256: node.key_sha256,
                address: node.address,
            })
            .collect();
        nodes.push(RosterNode {
            name: self.options().name.clone(),
            role: halligan_link::Role::Control,
            site: self.options().site.clone(),
            key_sha256: self.keys().node.print().to_string(),
            address: self.options().link_addresses.first().cloned(),
        });
        let roster = Roster {
            version: 1,
            serial: self.next_serial().await?,
            issued_at: self.now(),
            login_ca: vec![self.keys().login_public()?],
            client_ca: vec![self.keys().client.certificate()],
            people: known,
            nodes,
            ledger_key: self.keys().ledger.key().to_string(),
            scram_salt_key: hex::encode(*self.keys().scram_salt),
        };
        SignedRoster::sign(&roster, &self.keys().lease).map_err(ControlError::local("sign the roster"))
    }

    async fn next_serial(&self) -> Result<u64, ControlError> {
        let key = DocumentKey::new("counter", "roster");
        self.count_up(&key).await
    }

    /// The next number of a counter, never given twice.
    pub async fn count_up(&self, key: &DocumentKey) -> Result<u64, ControlError> {
        for _ in 0..64 {
            let found = self.store().get(key).await?;
            let (revision, value): (u64, u64) = match &found {
                Some(document) => (document.revision, parse(key, &document.body)?),
                None => (0, 0),
            };
            let next = value + 1;
            let commit = halligan_store::Commit {
                documents: vec![DocumentWrite::put(key.clone(), revision, bytes(&next)?)],
                commit_time: self.now().micros(),
                ..Default::default()
            };
            match self.store().commit(commit).await {
                Ok(_) => return Ok(next),
                Err(halligan_store::CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ControlError::Busy)
    }

    /// People or nodes changed: tells every connected node.
    pub async fn push_roster(&self) -> Result<(), ControlError> {
        let roster = self.roster().await?;
        if let Ok(read) = roster.verify(&self.keys().lease.verifying_key()) {
            self.0.nodes.allowed.set_roster(&read);
        }
        for peer in self.0.nodes.all() {
            let request = Request::PutRoster { roster: roster.clone() };
            if let Err(error) = peer.call(request).await {
                tracing::warn!(node = %peer.info().name, error = %chain(&error), "failed to give the roster");
            }
        }
        Ok(())
    }

    /// Every node that ever joined.
    pub async fn node_records(&self) -> Result<Vec<NodeRecord>, ControlError> {
        let page = self.store().list("node", None, 1000, Order::Ascending).await?;
        page.iter().map(|document| parse(&document.key, &document.body)).collect()
    }

    /// Notes something about a node, with its record.
    pub(crate) async fn put_node(
        &self,
        record: &NodeRecord,
        what: &str,
        detail: &str,
    ) -> Result<(), ControlError> {
        for _ in 0..16 {
            let key = NodeRecord::key(&record.name);
            let revision = self.store().get(&key).await?.map_or(0, |found| found.revision);
            let body = LeafBody::Node {
                what: what.to_owned(),
                node: record.name.to_string(),
                detail: detail.to_owned(),
            };
            let write = DocumentWrite::put(key, revision, bytes(record)?);
            match self.note(&halligan_core::command::Actor::Clock, body, vec![write]).await {
                Ok(_) => return Ok(()),
                Err(ControlError::Commit(halligan_store::CommitError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ControlError::Busy)
    }
}
