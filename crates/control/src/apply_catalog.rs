//! Puts a new catalog into force: systems first, under a generation that nobody looks at; then a proposal, which the core
//! lets through at once or keeps for a second person (rule 11); then one commit that turns the head.

use std::ops::ControlFlow;

use halligan_catalog::{Checker, Nodes, Place, Places, Plan, Systems, Unreadable};
use halligan_core::catalog::{Catalog, OfficeName, System};
use halligan_core::change::{ChangeSubject, ProposeChange};
use halligan_core::command::{Actor, Command, FactorUse};
use halligan_core::event::Event;
use halligan_core::ids::{ChangeId, FreshIds, Name, PersonId};
use halligan_core::leaf::LeafBody;
use halligan_core::refusal::{Refusal, RefusalCode};
use halligan_link::Role;
use halligan_store::{DocumentKey, DocumentWrite, Order, Store};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::catalog::{CatalogHead, head_key, system_key, system_kind};
use crate::control::Control;
use crate::documents::{bytes, parse};
use crate::error::ControlError;
use crate::people::account::Account;
use crate::people::sign_in::Caller;

/// Most lines of changes and widenings that a proposal lists.
const MOST_LINES: usize = 100;

/// A catalog on its way into force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proposal {
    /// The change under which a second person finds it.
    pub change: ChangeId,
    /// What will be in force.
    pub head: CatalogHead,
    /// How many systems it has.
    pub systems: u64,
    /// SHA-256 over the systems' texts in order of name, hex.
    pub systems_sha256: String,
    /// What changes, in lines.
    pub changes: Vec<String>,
    /// What becomes wider, in lines.
    pub widening: Vec<String>,
    /// The version that it goes back to.
    pub rolls_back_to: Option<u64>,
}

/// What became of an `apply`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Applied {
    /// The change.
    pub change: ChangeId,
    /// The version in force; none while a second person is waited for.
    pub version: Option<u64>,
    /// In force by one person because there is no other.
    pub single_administrator: bool,
    /// What changes.
    pub changes: Vec<String>,
    /// What becomes wider.
    pub widening: Vec<String>,
    /// Who could confirm it, while it waits.
    pub confirmers: Vec<PersonId>,
}

/// The systems of one generation, read in pages.
struct Stored {
    store: Store,
    generation: u64,
    runtime: tokio::runtime::Handle,
}

impl Systems for Stored {
    fn each(&self, visit: &mut dyn FnMut(&Place, &System) -> ControlFlow<()>) -> Result<(), Unreadable> {
        let kind = system_kind(self.generation);
        let place = Place::nowhere();
        let fail = |say: String| Unreadable { place: Place::nowhere(), say };
        let mut after: Option<String> = None;
        loop {
            let page = self
                .runtime
                .block_on(self.store.list(&kind, after.as_deref(), 1000, Order::Ascending))
                .map_err(|error| fail(error.to_string()))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.id.clone());
            for document in &page {
                let system: System =
                    serde_json::from_slice(&document.body).map_err(|error| fail(error.to_string()))?;
                if visit(&place, &system).is_break() {
                    return Ok(());
                }
            }
        }
    }
}

fn proposal_key(change: ChangeId) -> DocumentKey {
    DocumentKey::new("proposal", change.to_string())
}

fn version_key(version: u64) -> DocumentKey {
    DocumentKey::new("catalog-version", format!("{version:012}"))
}

impl Control {
    /// A new generation of systems, not in force until a catalog names it.
    pub async fn new_generation(&self) -> Result<u64, ControlError> {
        // Generation 0 belongs to the empty catalog.
        self.count_up(&DocumentKey::new("counter", "systems")).await
    }

    /// Puts systems into a generation that is not in force. Names must be new in it.
    pub async fn put_systems(&self, generation: u64, systems: Vec<System>) -> Result<(), ControlError> {
        let in_force = self.in_force();
        if generation <= in_force.head.systems_generation {
            return Err(Refusal::new(
                RefusalCode::WrongState,
                "this generation of systems is in force, or was",
            )
            .into());
        }
        let writes = systems
            .iter()
            .map(|system| Ok(DocumentWrite::put(system_key(generation, &system.name), 0, bytes(system)?)))
            .collect::<Result<Vec<_>, ControlError>>()?;
        self.store().bulk_put(&system_kind(generation), writes).await.map_err(|error| match error {
            halligan_store::CommitError::Conflict { key } => {
                Refusal::new(RefusalCode::DoesNotFit, format!("system {} is defined twice", key.id)).into()
            }
            other => ControlError::Commit(other),
        })
    }

    fn systems_of(&self, generation: u64) -> Stored {
        Stored { store: self.store().clone(), generation, runtime: tokio::runtime::Handle::current() }
    }

    /// Proposes a catalog. `generation` names its systems; none keeps those in force.
    pub async fn apply_catalog(
        &self,
        caller: &Caller,
        factor: FactorUse,
        catalog: Catalog,
        generation: Option<u64>,
    ) -> Result<Applied, ControlError> {
        self.propose(caller, factor, catalog, generation, None).await
    }

    /// Proposes to go back to an earlier version.
    pub async fn roll_back_catalog(
        &self,
        caller: &Caller,
        factor: FactorUse,
        version: u64,
    ) -> Result<Applied, ControlError> {
        let key = version_key(version);
        let Some(found) = self.store().get(&key).await? else {
            return Err(Refusal::not_found(format_args!("catalog version {version}")).into());
        };
        let earlier: CatalogHead = parse(&key, &found.body)?;
        self.propose(caller, factor, earlier.catalog, Some(earlier.systems_generation), Some(version)).await
    }

    async fn propose(
        &self,
        caller: &Caller,
        factor: FactorUse,
        mut catalog: Catalog,
        generation: Option<u64>,
        rolls_back_to: Option<u64>,
    ) -> Result<Applied, ControlError> {
        self.refresh_catalog().await?;
        let in_force = self.in_force();
        let before = &in_force.head;
        let generation = generation.unwrap_or(before.systems_generation);
        let now = self.now();
        let troubles = halligan_catalog::keep_left(&before.catalog, &mut catalog, &Places::default());
        if let Some(trouble) = troubles.first() {
            return Err(Refusal::new(RefusalCode::DoesNotFit, trouble.to_string()).into());
        }
        // The catalog of the first start counts as none: whoever comes with the first real one is not new.
        let old = (before.version > 1).then_some(&before.catalog);
        halligan_catalog::stamp_since(old, &mut catalog, now);
        let mut gateways = std::collections::BTreeMap::<Name, u32>::new();
        for node in
            self.node_records().await?.into_iter().filter(|node| !node.expelled && node.role == Role::Gateway)
        {
            *gateways.entry(node.site).or_default() += 1;
        }
        let (old_systems, new_systems) =
            (self.systems_of(before.systems_generation), self.systems_of(generation));
        let old_catalog = before.catalog.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let empty = Places::default();
            let mut checker = Checker::new(&catalog, &empty, &Nodes::gateways(gateways), now);
            let mut hash = Sha256::new();
            let mut count = 0u64;
            new_systems.each(&mut |place, system| {
                checker.system(place, system);
                hash.update(serde_json::to_vec(system).unwrap_or_default());
                count += 1;
                ControlFlow::Continue(())
            })?;
            let report = checker.finish();
            let plan = halligan_catalog::diff((&old_catalog, &old_systems), (&catalog, &new_systems))?;
            Ok::<_, Unreadable>((catalog, report, plan, count, hex::encode(hash.finalize())))
        })
        .await
        .map_err(ControlError::local("check the catalog"))?;
        let (catalog, report, plan, systems, systems_sha256) =
            looked.map_err(ControlError::local("read the systems"))?;
        if !report.passes() {
            return Err(Refusal::new(
                RefusalCode::DoesNotFit,
                format!("the catalog is not accepted:\n{report}"),
            )
            .next("mend it; `halligan catalog check` says the same before you apply")
            .into());
        }
        let changes =
            lines(plan.changes.iter().map(ToString::to_string), plan.changes.len() as u64 + plan.left_out);
        let widening = widening_lines(&plan);
        let mut seed = [0u8; 16];
        getrandom::fill(&mut seed).map_err(ControlError::local("draw randomness"))?;
        let change: ChangeId = FreshIds::new(seed, now).make();
        let head = CatalogHead { version: before.version + 1, systems_generation: generation, catalog };
        let proposal = Proposal {
            change,
            head,
            systems,
            systems_sha256,
            changes: changes.clone(),
            widening: widening.clone(),
            rolls_back_to,
        };
        let body = bytes(&proposal)?;
        let digest = hex::encode(Sha256::digest(&body));
        let summary = summary(&plan, rolls_back_to);
        let write = DocumentWrite::put(proposal_key(change), 0, body);
        let commit = halligan_store::Commit {
            documents: vec![write],
            commit_time: now.micros(),
            ..Default::default()
        };
        self.store().commit(commit).await?;
        let ask = ProposeChange {
            id: change,
            subject: ChangeSubject::Catalog,
            about: None,
            digest,
            summary,
            widening: plan.widens(),
            able: self.able_to_confirm(&caller.person).await?,
        };
        let outcome =
            self.run(&caller.actor_with(Some(factor)), Command::ProposeChange(Box::new(ask))).await?;
        let applied = outcome.events.iter().find_map(|event| match event {
            Event::ChangeApplied { alone, .. } => Some(*alone),
            _ => None,
        });
        let version = match applied {
            Some(_) => Some(self.put_in_force(&caller.actor(), &proposal).await?),
            None => None,
        };
        let confirmers = match (version, outcome.world.changes.get(&change)) {
            (None, Some(found)) => found.confirmers.iter().cloned().collect(),
            _ => Vec::new(),
        };
        Ok(Applied {
            change,
            version,
            single_administrator: applied == Some(true),
            changes,
            widening,
            confirmers,
        })
    }

    /// A second person puts a proposal into force.
    pub async fn confirm_catalog(
        &self,
        caller: &Caller,
        factor: FactorUse,
        change: ChangeId,
    ) -> Result<Applied, ControlError> {
        let proposal = self.proposal(change).await?;
        let digest = hex::encode(Sha256::digest(bytes(&proposal)?));
        self.run(&caller.actor_with(Some(factor)), Command::ConfirmChange { change, digest }).await?;
        let version = self.put_in_force(&caller.actor(), &proposal).await?;
        Ok(Applied {
            change,
            version: Some(version),
            single_administrator: false,
            changes: proposal.changes,
            widening: proposal.widening,
            confirmers: Vec::new(),
        })
    }

    /// A proposal as a second person reads it.
    pub async fn proposal(&self, change: ChangeId) -> Result<Proposal, ControlError> {
        let key = proposal_key(change);
        match self.store().get(&key).await? {
            Some(found) => parse(&key, &found.body),
            None => Err(Refusal::not_found(format_args!("change {change}")).into()),
        }
    }

    /// Holders of the two offices who can sign in with a second factor; if none but the proposer can, anybody who can.
    async fn able_to_confirm(
        &self,
        proposer: &PersonId,
    ) -> Result<std::collections::BTreeSet<PersonId>, ControlError> {
        let in_force = self.in_force();
        let mut able = std::collections::BTreeSet::new();
        for office in [OfficeName::CloudAdministrator, OfficeName::SecurityOfficer] {
            for person in in_force.head.catalog.holders(office) {
                if self.account(&person).await?.is_some_and(|(account, _)| can_confirm(&account)) {
                    able.insert(person);
                }
            }
        }
        if able.iter().all(|person| person == proposer) {
            able.extend(
                Account::all(self.store())
                    .await?
                    .into_iter()
                    .filter(can_confirm)
                    .map(|account| account.person),
            );
        }
        Ok(able)
    }

    /// An agreed change is put into force if nobody has done so yet: whoever agreed may have been cut off in between.
    pub(crate) async fn finish_change(&self, change: ChangeId) -> Result<(), ControlError> {
        let key = proposal_key(change);
        // Changes of other subjects are in force with the commit that agreed to them.
        let Some(found) = self.store().get(&key).await? else { return Ok(()) };
        let proposal: Proposal = parse(&key, &found.body)?;
        self.put_in_force(&Actor::Clock, &proposal).await.map(drop)
    }

    /// Turns the head to what was agreed. Doing it again changes nothing.
    async fn put_in_force(&self, actor: &Actor, proposal: &Proposal) -> Result<u64, ControlError> {
        let version = proposal.head.version;
        for _ in 0..8 {
            let current = self.store().get(&head_key()).await?;
            let revision = current.as_ref().map_or(0, |found| found.revision);
            let held: Option<CatalogHead> =
                current.map(|found| parse(&found.key, &found.body)).transpose()?;
            if let Some(held) = held.filter(|held| held.version >= version) {
                if held == proposal.head {
                    self.refresh_catalog().await?;
                    return Ok(version);
                }
                let refusal =
                    Refusal::new(RefusalCode::Stale, "the catalog has changed since this was proposed");
                return Err(refusal.next("propose it again").into());
            }
            let body = bytes(&proposal.head)?;
            let leaf = LeafBody::CatalogApplied {
                version,
                sha256: hex::encode(Sha256::digest(&body)),
                systems: proposal.systems,
                systems_sha256: proposal.systems_sha256.clone(),
                changes: proposal.changes.clone(),
                rolls_back_to: proposal.rolls_back_to,
            };
            let writes = vec![
                DocumentWrite::put(version_key(version), 0, body.clone()),
                DocumentWrite::put(head_key(), revision, body),
            ];
            match self.note(actor, leaf, writes).await {
                Ok(_) => {
                    self.refresh_catalog().await?;
                    self.push_roster().await?;
                    return Ok(version);
                }
                Err(ControlError::Commit(halligan_store::CommitError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ControlError::Busy)
    }
}

fn can_confirm(account: &Account) -> bool {
    !account.disabled && account.totp_enrolled_at.is_some()
}

fn lines(texts: impl Iterator<Item = String>, count: u64) -> Vec<String> {
    let mut out: Vec<String> = texts.take(MOST_LINES).map(|line| line.chars().take(200).collect()).collect();
    let more = count.saturating_sub(out.len() as u64);
    if more > 0 {
        out.push(format!("… and {more} more"));
    }
    out
}

fn widening_lines(plan: &Plan) -> Vec<String> {
    let count = plan.widening.len() as u64 + plan.widening_left_out;
    lines(plan.widening.iter().map(|one| format!("{}: {}", one.entry, one.say)), count)
}

fn summary(plan: &Plan, rolls_back_to: Option<u64>) -> String {
    let [added, removed, changed] = plan.systems;
    let back = rolls_back_to.map(|version| format!("roll back to version {version}: ")).unwrap_or_default();
    format!(
        "{back}{} entries change; systems: {added} new, {removed} gone, {changed} changed; {} changes widen who may do what",
        plan.changes.len() as u64 + plan.left_out,
        plan.widening.len() as u64 + plan.widening_left_out
    )
}
