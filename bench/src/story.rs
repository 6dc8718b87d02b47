//! Whole emergencies in memory: real decisions of the core and the leaves that control would write of them. What the
//! measurements of the core and of the verifier go over.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, anyhow, bail};
use halligan_control::documents::stored;
use halligan_core::apply::apply;
use halligan_core::catalog::{
    Catalog, CheckKind, FactorKind, Office, OfficeName, Person, Policy, PolicyRule, ResolvedEntitlement,
    Scenario, Scope, Severity, Step, System, Who,
};
use halligan_core::command::{Actor, Answers, Command, DocumentRef, Due, FactorUse, FileRequest};
use halligan_core::decide::{Context, decide};
use halligan_core::event::Event;
use halligan_core::ids::{
    EntitlementName, FreshIds, GrantId, IncidentId, Name, RecordingId, RequestId, SessionId,
};
use halligan_core::leaf::{ChainLink, DocumentDigest, Leaf, LeafBody};
use halligan_core::proof::{Check, Evidence, Finding, SaidBy};
use halligan_core::react::incident_of;
use halligan_core::request::{Mode, Verdict};
use halligan_core::review::Classification;
use halligan_core::time::{Span, Time};
use halligan_core::world::{Facts, World};
use halligan_ledger::leaf_hash;
use halligan_verify::replay::kind_and_id;
use sha2::{Digest as _, Sha256};

/// When the first emergency begins.
const START: Time = Time::from_micros(1_795_170_000_000_000);

/// A name that is known to be one.
pub fn name(text: &str) -> Name {
    text.parse().unwrap_or_else(|_| Name::main())
}

/// A decision about to be made: what it sees and what is asked.
pub struct Moment {
    /// Name of the command.
    pub what: &'static str,
    /// What is loaded.
    pub world: World,
    /// Who.
    pub actor: Actor,
    /// What.
    pub command: Command,
    /// When.
    pub now: Time,
}

/// The organisation, and what has happened so far.
pub struct Story {
    catalog: Catalog,
    entitlements: BTreeMap<EntitlementName, ResolvedEntitlement>,
    world: World,
    revisions: HashMap<DocumentRef, u64>,
    chains: HashMap<IncidentId, (u64, String)>,
    now: Time,
    responders: u64,
    count: u64,
    /// Leaves that nobody has taken yet.
    pub leaves: Vec<Vec<u8>>,
    /// Events so far.
    pub events: u64,
    /// What was decided, if it is to be kept.
    pub moments: Option<Vec<Moment>>,
}

struct Told {
    incident: IncidentId,
    request: RequestId,
    grant: GrantId,
    session: SessionId,
    recording: RecordingId,
}

impl Story {
    /// Nothing has happened. So many people take turns as responders: what rules remember of a person (up to 200 uses) is
    /// written with every request of theirs.
    pub fn new(responders: u64) -> Result<Self> {
        let catalog = catalog(responders);
        let system: System = serde_json::from_value(serde_json::json!({
            "name": "orders-host", "kind": "ssh", "address": "192.0.2.1:22",
            "entitlements": { "operator": {
                "account": "ops", "ladder": "observe", "requested_by": [{"anyone": true}],
                "standard_policy": "one", "emergency_policy": "one"
            }}
        }))?;
        let resolved = catalog.resolve(&system, &name("operator")).context("no such entitlement")?;
        Ok(Self {
            catalog,
            entitlements: [(resolved.name.clone(), resolved)].into(),
            world: World::default(),
            revisions: HashMap::new(),
            chains: HashMap::new(),
            now: START,
            responders,
            count: 0,
            leaves: Vec::new(),
            events: 0,
            moments: None,
        })
    }

    /// The facts of every decision here.
    pub fn facts(&self) -> Facts<'_> {
        Facts { catalog: &self.catalog, catalog_version: 1, entitlements: &self.entitlements }
    }

    fn person(&self, who: &Name) -> Actor {
        let factor = FactorUse {
            kind: FactorKind::Totp,
            at: self.now,
            enrolled_at: START.minus(Span::days(90)),
            for_this_act: true,
        };
        Actor::Person { id: who.clone(), factor: Some(factor), token: false }
    }

    /// As control does it: decide, apply, digests, leaf.
    fn run(&mut self, what: &'static str, actor: &Actor, command: Command) -> Result<Vec<Event>> {
        self.now = self.now.plus(Span::seconds(1));
        self.count += 1;
        if let Some(moments) = &mut self.moments {
            let world = self.world.clone();
            moments.push(Moment {
                what,
                world,
                actor: actor.clone(),
                command: command.clone(),
                now: self.now,
            });
        }
        let mut seed = [0; 16];
        seed.iter_mut().zip(self.count.to_be_bytes()).for_each(|(to, from)| *to = from);
        let mut context = Context { now: self.now, actor, ids: FreshIds::new(seed, self.now) };
        let events = decide(&self.world, &self.facts(), &mut context, &command)
            .map_err(|refusal| anyhow!("{what} was refused: {}", refusal.say))?;
        if events.is_empty() {
            return Ok(events);
        }
        self.world.changed.clear();
        for event in &events {
            apply(&mut self.world, event, self.now);
        }
        self.events += events.len() as u64;
        self.write(actor, &events)?;
        Ok(events)
    }

    fn write(&mut self, actor: &Actor, events: &[Event]) -> Result<()> {
        let late = self.catalog.settings.revocation_late_after;
        let mut documents = Vec::new();
        for document in &self.world.changed {
            let Some(form) = stored(&self.world, document, late)? else { continue };
            let revision = self.revisions.entry(document.clone()).or_default();
            *revision += 1;
            let (kind, id) = kind_and_id(document);
            let sha256 = hex::encode(Sha256::digest(&form.body));
            documents.push(DocumentDigest { kind: kind.to_owned(), id, revision: *revision, sha256 });
        }
        let chain = incident_of(&self.world).map(|incident| {
            let (count, head) = self.chains.get(&incident).cloned().unwrap_or_default();
            ChainLink { incident, number: count + 1, previous: head }
        });
        self.world.changed.clear();
        let leaf = Leaf {
            v: 1,
            at: self.now,
            actor: actor.clone(),
            catalog: 1,
            body: LeafBody::Events { events: events.to_vec() },
            documents,
            chain: chain.clone(),
        };
        let bytes = serde_json::to_vec(&leaf)?;
        if let Some(link) = chain {
            self.chains.insert(link.incident, (link.number, leaf_hash(&bytes).to_hex()));
        }
        self.leaves.push(bytes);
        Ok(())
    }

    /// One emergency from the request to the closed incident.
    pub fn emergency(&mut self, number: u64) -> Result<()> {
        let who = name(&format!("responder-{}", number % self.responders));
        let told = self.opened(number, &who)?;
        self.worked(&told)?;
        self.closed(&told, &who)?;
        // Past the time in which one use counts as the continuation of another (rule 7).
        self.now = self.now.plus(Span::minutes(20));
        // A closed incident is not loaded again. (Standings go on.)
        self.world.requests.clear();
        self.world.grants.clear();
        self.world.sessions.clear();
        self.world.incidents.clear();
        self.world.reviews.clear();
        self.chains.clear();
        Ok(())
    }

    fn opened(&mut self, number: u64, who: &Name) -> Result<Told> {
        let file = FileRequest {
            beneficiary: who.clone(),
            entitlement: "orders-host/operator".parse()?,
            mode: Mode::Emergency,
            severity: Some(name("sev1")),
            severity_attested: false,
            scenario: Some(name("stuck")),
            criteria_confirmed: true,
            incident: None,
            incident_number: number,
            reason: "orders are stuck since the last release, customers call".to_owned(),
            link: None,
            why_not_lower: None,
            duration: Some(Span::minutes(20)),
            batch: None,
        };
        let actor = self.person(who);
        let events = self.run("file", &actor, Command::FileRequest(Box::new(file)))?;
        let (mut incident, mut filed) = (None, None);
        for event in &events {
            match event {
                Event::IncidentOpened { incident: opened } => incident = Some(opened.id),
                Event::RequestFiled { request } => filed = Some((request.id, request.version)),
                _ => {}
            }
        }
        let (Some(incident), Some((request, version))) = (incident, filed) else {
            bail!("the request opened nothing")
        };
        let approver = self.person(&name("kim"));
        let reason = Some("go ahead".to_owned());
        let approve = Command::Decide { request, verdict: Verdict::Approve, version, reason };
        let events = self.run("approve", &approver, approve)?;
        let grant = events.iter().find_map(|event| match event {
            Event::GrantScheduled { grant } => Some(grant.id),
            _ => None,
        });
        let grant = grant.context("the approval made no grant")?;
        self.run("begin activation", &Actor::Clock, Command::BeginActivation { grant })?;
        let connector = Actor::Node { name: name("connector-1") };
        let gateway = Actor::Node { name: name("gw-1") };
        let fencing = self.fencing(grant)?;
        self.run("activated", &connector, Command::ReportActivated { grant, fencing })?;
        let held = Command::ReportLeaseHeld { grant, fencing, gateway: name("gw-1") };
        self.run("lease held", &gateway, held)?;
        // Nothing is due: what the sweeper mostly finds.
        self.run("wake", &Actor::Clock, Command::Wake(Due::Grant(grant)))?;
        let mut seed = [7; 16];
        seed.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
        let mut ids = FreshIds::new(seed, self.now);
        let (session, recording): (SessionId, RecordingId) = (ids.make(), ids.make());
        let opened = Command::ReportSessionOpened {
            session,
            grant,
            gateway: name("gw-1"),
            recording,
            client: "192.0.2.7:50000".to_owned(),
            login: "public key".to_owned(),
            at: self.now,
        };
        self.run("session opened", &gateway, opened)?;
        Ok(Told { incident, request, grant, session, recording })
    }

    fn fencing(&self, grant: GrantId) -> Result<u64> {
        Ok(self.world.grants.get(&grant).context("the grant is gone")?.fencing)
    }

    fn worked(&mut self, told: &Told) -> Result<()> {
        let gateway = Actor::Node { name: name("gw-1") };
        let session = told.session;
        let channel = |detail: &str| Command::ReportChannel {
            session,
            kind: "exec".to_owned(),
            detail: detail.to_owned(),
        };
        self.run("channel", &gateway, channel("systemctl status orders"))?;
        self.run("channel", &gateway, channel("systemctl restart orders"))?;
        self.now = self.now.plus(Span::seconds(60));
        let (reason, at) = ("client_left".to_owned(), self.now);
        self.run("session ended", &gateway, Command::ReportSessionEnded { session, reason, at })?;
        let sha256 = hex::encode(Sha256::digest(told.recording.to_string()));
        let finished = Command::ReportRecordingFinished {
            session,
            bytes: 20_000,
            frames: 12,
            sha256: sha256.clone(),
            chain_head: sha256.clone(),
            complete: true,
        };
        self.run("recording finished", &gateway, finished)?;
        let kept = Command::ReportRecordingStored { session, sha256 };
        self.run("recording stored", &gateway, kept)?;
        Ok(())
    }

    fn closed(&mut self, told: &Told, who: &Name) -> Result<()> {
        let Told { incident, grant, request, .. } = *told;
        let (gateway, connector) =
            (Actor::Node { name: name("gw-1") }, Actor::Node { name: name("connector-1") });
        let person = self.person(who);
        self.run("give back", &person, Command::GiveBack { grant })?;
        let fencing = self.fencing(grant)?;
        let ended = Command::ReportLeaseEnded { grant, fencing, gateway: name("gw-1"), sessions_ended: 0 };
        self.run("lease ended", &gateway, ended)?;
        let provable_at = self.now.plus(Span::seconds(60));
        self.run("deactivated", &connector, Command::ReportDeactivated { grant, fencing, provable_at })?;
        self.now = provable_at;
        let check = Check {
            kind: CheckKind::Credential,
            finding: Finding::Proven,
            said_by: SaidBy::Connector,
            detail: "refused, and a fresh one accepted".to_owned(),
        };
        let evidence = Evidence { at: self.now, checks: vec![check] };
        self.run("looked", &connector, Command::ReportLooked { grant, fencing, evidence })?;
        let reviews: Vec<_> = self
            .world
            .incidents
            .get(&incident)
            .with_context(|| format!("the incident of {request} is gone"))?
            .reviews
            .keys()
            .copied()
            .collect();
        for review in reviews {
            let answers = Answers {
                classification: Classification::GenuineEmergency,
                invoked_correctly: true,
                too_wide: false,
                approvals_timely: true,
                prevention: "more disk".to_owned(),
                note: String::new(),
                empty_activity_explained: None,
            };
            let reviewer = self.person(&name("sam"));
            self.run("judge review", &reviewer, Command::JudgeReview { review, answers })?;
        }
        let lead = self.person(&name("sam"));
        self.run("close incident", &lead, Command::CloseIncident { incident })?;
        Ok(())
    }
}

fn catalog(responders: u64) -> Catalog {
    let mut catalog = Catalog { organisation: "Example".to_owned(), ..Catalog::default() };
    let people = (0..responders).map(|number| format!("responder-{number}"));
    for person in people.chain(["kim", "sam"].map(str::to_owned)) {
        catalog.people.insert(name(&person), Person { name: person, ..Person::default() });
    }
    for office in [OfficeName::SecurityOfficer, OfficeName::IncidentLead, OfficeName::Auditor] {
        catalog.offices.insert(office, Office { people: [name("sam")].into(), ..Office::default() });
    }
    catalog.severities.insert(name("sev1"), Severity { rank: 1, ..Severity::default() });
    let step = Step {
        name: "second pair of eyes".to_owned(),
        approvers: vec![Who::Person(name("kim"))],
        quorum: 1,
        fallback: Vec::new(),
        factors: Default::default(),
        reason_required: false,
        timer: None,
    };
    let rule = PolicyRule { steps: vec![step], ..PolicyRule::default() };
    catalog.policies.insert(name("one"), Policy { meaning: String::new(), rules: vec![rule] });
    let scenario = Scenario {
        title: "Orders are stuck".to_owned(),
        invoked_by: vec![Who::Anyone(true)],
        scope: vec![Scope { systems: [name("orders-host")].into(), ..Scope::default() }],
        ..Scenario::default()
    };
    catalog.scenarios.insert(name("stuck"), scenario);
    catalog
}
