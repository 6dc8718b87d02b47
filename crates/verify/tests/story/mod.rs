//! An organisation, a control that only decides and writes leaves, and nodes that write theirs: real decisions of the
//! core, real ledgers, real recordings. What a whole server would have left behind, without one.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it serves tests")]
#![allow(clippy::allow_attributes, dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use halligan_core::apply::apply;
use halligan_core::catalog::{
    Catalog, CheckKind, FactorKind, Person, Policy, PolicyRule, ResolvedEntitlement, Scenario, Scope,
    Severity, Step, System, Who,
};
use halligan_core::command::{Actor, Answers, Command, DocumentRef, FactorUse, FileRequest};
use halligan_core::decide::{Context, decide};
use halligan_core::event::Event;
use halligan_core::ids::{
    EntitlementName, FreshIds, GrantId, IncidentId, Name, RecordingId, RequestId, SessionId,
};
use halligan_core::leaf::{ChainLink, DocumentDigest, Leaf, LeafBody};
use halligan_core::node_event::{NodeEvent, NodeLeaf};
use halligan_core::proof::{Check, Evidence, Finding, SaidBy};
use halligan_core::react::incident_of;
use halligan_core::request::{Mode, Verdict};
use halligan_core::review::Classification;
use halligan_core::time::{Span, Time};
use halligan_core::world::{Facts, World};
use halligan_ledger::{
    Checkpoint, LedgerSigner, MemoryTree, SignedNote, TileWriter, TrustPolicy, leaf_hash, sign,
};
use halligan_recording::{
    Budget, Class, Durability, Identity, Record, RecordKind, RecordingMeta, RecordingWriter,
};
use halligan_verify::replay::kind_and_id;
use halligan_verify::{Contents, LedgerPart, write_bundle};
use sha2::{Digest as _, Sha256};

pub const START: Time = Time::from_micros(1_795_170_000_000_000);

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// What a ledger is while it grows.
pub struct Log {
    pub signer: LedgerSigner,
    pub leaves: Vec<Vec<u8>>,
}

impl Log {
    fn new(origin: &str) -> Self {
        let seed: [u8; 32] = Sha256::digest(origin).into();
        Self { signer: LedgerSigner::from_seed(origin, &seed).unwrap(), leaves: Vec::new() }
    }

    pub fn tree(&self) -> MemoryTree {
        let mut tree = MemoryTree::new();
        tree.extend(self.leaves.iter().map(|leaf| leaf_hash(leaf)));
        tree
    }

    pub fn note_at(&self, size: usize) -> SignedNote {
        let mut tree = MemoryTree::new();
        tree.extend(self.leaves.iter().take(size).map(|leaf| leaf_hash(leaf)));
        let head = Checkpoint { origin: self.signer.origin().into(), size: size as u64, root: tree.root() };
        sign(&self.signer, &head).unwrap()
    }

    /// The leaves that `wanted` takes, with proofs to the last checkpoint.
    pub fn part(&self, wanted: impl Fn(u64, &[u8]) -> bool, earlier: &[SignedNote]) -> LedgerPart {
        let leaves = (0_u64..)
            .zip(&self.leaves)
            .filter(|(index, leaf)| wanted(*index, leaf))
            .map(|(index, leaf)| (index, leaf.clone()))
            .collect();
        LedgerPart::collect(&self.tree(), self.note_at(self.leaves.len()), leaves, earlier).unwrap()
    }

    /// As a folder of tiles.
    pub fn tiles(&self, folder: &Path) {
        let mut writer = TileWriter::open(folder).unwrap();
        for leaf in &self.leaves {
            writer.append(leaf.clone()).unwrap();
        }
        writer.commit(&self.note_at(self.leaves.len())).unwrap();
    }
}

pub struct Shell {
    pub folder: PathBuf,
    pub catalog: Catalog,
    pub entitlements: BTreeMap<EntitlementName, ResolvedEntitlement>,
    pub world: World,
    pub stored: HashMap<DocumentRef, (u64, Vec<u8>)>,
    pub chains: HashMap<IncidentId, (u64, String)>,
    pub control: Log,
    pub gateway: Log,
    pub connector: Log,
    pub now: Time,
    pub count: u64,
    pub auditor: Identity,
    pub reason: String,
    /// Who asks and works.
    pub responder: String,
    pub recordings: Vec<(RecordingId, PathBuf)>,
    pub with_recordings: bool,
}

/// The ids of one incident.
#[derive(Clone, Copy)]
pub struct Told {
    pub incident: IncidentId,
    pub request: RequestId,
    pub grant: GrantId,
    pub session: SessionId,
    pub recording: RecordingId,
}

impl Shell {
    pub fn new(folder: &Path) -> Self {
        let catalog = catalog();
        let system: System = serde_json::from_value(serde_json::json!({
            "name": "orders-host", "kind": "ssh", "address": "10.0.0.1:22",
            "entitlements": { "operator": {
                "account": "ops", "ladder": "observe", "requested_by": [{"anyone": true}],
                "standard_policy": "one", "emergency_policy": "one"
            }}
        }))
        .unwrap();
        let resolved = catalog.resolve(&system, &name("operator")).unwrap();
        let mut shell = Self {
            folder: folder.to_owned(),
            catalog,
            entitlements: [(resolved.name.clone(), resolved)].into(),
            world: World::default(),
            stored: HashMap::new(),
            chains: HashMap::new(),
            control: Log::new("example.org/control"),
            gateway: Log::new("example.org/gw-1"),
            connector: Log::new("example.org/connector-1"),
            now: START,
            count: 0,
            auditor: Identity::generate().unwrap(),
            reason: "orders are stuck".to_owned(),
            responder: "pat".to_owned(),
            recordings: Vec::new(),
            with_recordings: true,
        };
        for (node, key) in [
            ("gw-1", shell.gateway.signer.key().to_string()),
            ("connector-1", shell.connector.signer.key().to_string()),
        ] {
            shell.note(LeafBody::Node {
                what: "ledger_key_pinned".to_owned(),
                node: node.to_owned(),
                detail: key,
            });
        }
        shell
    }

    pub fn person(&self, who: &str) -> Actor {
        let factor = FactorUse {
            kind: FactorKind::Totp,
            at: self.now,
            enrolled_at: START.minus(Span::days(90)),
            for_this_act: true,
        };
        Actor::Person { id: name(who), factor: Some(factor), token: false }
    }

    fn write(
        &mut self,
        actor: &Actor,
        body: LeafBody,
        documents: Vec<DocumentDigest>,
        incident: Option<IncidentId>,
    ) {
        let chain = incident.map(|incident| {
            let (count, head) = self.chains.get(&incident).cloned().unwrap_or_default();
            ChainLink { incident, number: count + 1, previous: head }
        });
        let leaf = Leaf {
            v: 1,
            at: self.now,
            actor: actor.clone(),
            catalog: 1,
            body,
            documents,
            chain: chain.clone(),
        };
        let bytes = serde_json::to_vec(&leaf).unwrap();
        if let Some(link) = chain {
            self.chains.insert(link.incident, (link.number, leaf_hash(&bytes).to_hex()));
        }
        self.control.leaves.push(bytes);
    }

    pub fn note(&mut self, body: LeafBody) {
        self.write(&Actor::Clock, body, Vec::new(), None);
    }

    /// As control does it: decide, apply, digests, leaf.
    pub fn run(&mut self, actor: &Actor, command: Command) -> Vec<Event> {
        self.now = self.now.plus(Span::seconds(1));
        self.count += 1;
        let seed: [u8; 32] = Sha256::digest(self.count.to_be_bytes()).into();
        let mut half = [0; 16];
        half.copy_from_slice(seed.get(..16).unwrap());
        let mut context = Context { now: self.now, actor, ids: FreshIds::new(half, self.now) };
        let facts = Facts { catalog: &self.catalog, catalog_version: 1, entitlements: &self.entitlements };
        let events = match decide(&self.world, &facts, &mut context, &command) {
            Ok(events) => events,
            Err(refusal) => panic!("{command:?}: {refusal:?}"),
        };
        if events.is_empty() {
            return events;
        }
        self.world.changed.clear();
        for event in &events {
            apply(&mut self.world, event, self.now);
        }
        let mut digests = Vec::new();
        let changed = self.world.changed.clone();
        for document in &changed {
            let Some(body) = form(&self.world, document) else { continue };
            let revision = self.stored.get(document).map_or(0, |(revision, _)| *revision) + 1;
            let (kind, id) = kind_and_id(document);
            let sha256 = hex::encode(Sha256::digest(&body));
            digests.push(DocumentDigest { kind: kind.to_owned(), id, revision, sha256 });
            self.stored.insert(document.clone(), (revision, body));
        }
        let incident = incident_of(&self.world);
        self.world.changed.clear();
        self.write(actor, LeafBody::Events { events: events.clone() }, digests, incident);
        events
    }

    pub fn node(&mut self, node: &str, event: NodeEvent) {
        let leaf = NodeLeaf { v: 1, node: name(node), at: self.now, event };
        let log = if node == "gw-1" { &mut self.gateway } else { &mut self.connector };
        log.leaves.push(serde_json::to_vec(&leaf).unwrap());
    }

    /// One emergency from the request to the closed incident.
    pub fn emergency(&mut self, number: u64) -> Told {
        let told = self.up_to_session(number);
        self.end_session(told);
        self.close(told);
        told
    }

    pub fn up_to_session(&mut self, number: u64) -> Told {
        let person = Person { name: self.responder.clone(), ..Person::default() };
        self.catalog.people.insert(name(&self.responder), person);
        let entitlement: EntitlementName = "orders-host/operator".parse().unwrap();
        let pat = self.person(&self.responder);
        let file = FileRequest {
            beneficiary: name(&self.responder),
            entitlement: entitlement.clone(),
            mode: Mode::Emergency,
            severity: Some(name("sev1")),
            severity_attested: false,
            scenario: Some(name("stuck")),
            criteria_confirmed: true,
            incident: None,
            incident_number: number,
            reason: self.reason.clone(),
            link: None,
            why_not_lower: None,
            duration: Some(Span::minutes(20)),
            batch: None,
        };
        let events = self.run(&pat, Command::FileRequest(Box::new(file)));
        let (mut incident, mut request) = (None, None);
        for event in &events {
            match event {
                Event::IncidentOpened { incident: opened } => incident = Some(opened.id),
                Event::RequestFiled { request: filed } => request = Some((filed.id, filed.version)),
                _ => {}
            }
        }
        let incident = incident.expect("an incident is opened");
        let (request, version) = request.expect("a request is filed");
        let kim = self.person("kim");
        let decide =
            Command::Decide { request, verdict: Verdict::Approve, version, reason: Some("go".into()) };
        let events = self.run(&kim, decide);
        let grant = events
            .iter()
            .find_map(|event| match event {
                Event::GrantScheduled { grant } => Some(grant.id),
                _ => None,
            })
            .expect("a grant is scheduled");
        self.run(&Actor::Clock, Command::BeginActivation { grant });
        let connector = Actor::Node { name: name("connector-1") };
        let gateway = Actor::Node { name: name("gw-1") };
        let fencing = self.world.grant(grant).unwrap().fencing;
        self.node("connector-1", NodeEvent::Activated { grant, fencing });
        self.run(&connector, Command::ReportActivated { grant, fencing });
        self.run(&gateway, Command::ReportLeaseHeld { grant, fencing, gateway: name("gw-1") });
        let deadline = self.world.grant(grant).unwrap().deadline.unwrap();
        self.node("gw-1", NodeEvent::LeaseHeld { grant, fencing, sha256: "00".repeat(32), deadline });
        let mut ids = FreshIds::new([number as u8; 16], self.now);
        let (session, recording): (SessionId, RecordingId) = (ids.make(), ids.make());
        let at = self.now;
        let (client, login) = ("192.0.2.7:50000".to_owned(), "public key".to_owned());
        self.node(
            "gw-1",
            NodeEvent::SessionOpened {
                session,
                grant,
                fencing,
                person: name(&self.responder),
                entitlement,
                recording,
                client: client.clone(),
                login: login.clone(),
            },
        );
        let gw = name("gw-1");
        self.run(
            &gateway,
            Command::ReportSessionOpened { session, grant, gateway: gw, recording, client, login, at },
        );
        self.node(
            "connector-1",
            NodeEvent::CertificateIssued {
                grant,
                session,
                serial: number * 2,
                principal: "halligan:orders-host:ops".to_owned(),
                key_sha256: "11".repeat(32),
                valid_after: at.minus(Span::seconds(30)),
                valid_before: at.plus(Span::seconds(60)),
            },
        );
        let (kind, detail) = ("exec".to_owned(), "systemctl restart orders".to_owned());
        self.node(
            "gw-1",
            NodeEvent::ChannelOpened { session, channel: 1, kind: kind.clone(), detail: detail.clone() },
        );
        self.run(&gateway, Command::ReportChannel { session, kind, detail });
        Told { incident, request, grant, session, recording }
    }

    pub fn end_session(&mut self, told: Told) {
        let Told { grant, session, recording, .. } = told;
        let gateway = Actor::Node { name: name("gw-1") };
        self.now = self.now.plus(Span::seconds(30));
        let reason = "the person left".to_owned();
        self.node("gw-1", NodeEvent::SessionEnded { session, grant, reason: reason.clone() });
        let at = self.now;
        self.run(&gateway, Command::ReportSessionEnded { session, reason, at });
        let (bytes, frames, records, sha256, chain_head) = self.record(session, recording);
        self.node(
            "gw-1",
            NodeEvent::RecordingFinished {
                session,
                grant,
                recording,
                bytes,
                frames,
                records,
                sha256: sha256.clone(),
                chain_head: chain_head.clone(),
                complete: true,
            },
        );
        let finished = Command::ReportRecordingFinished {
            session,
            bytes,
            frames,
            sha256: sha256.clone(),
            chain_head,
            complete: true,
        };
        self.run(&gateway, finished);
        self.run(&gateway, Command::ReportRecordingStored { session, sha256 });
    }

    fn record(&mut self, session: SessionId, recording: RecordingId) -> (u64, u64, u64, String, String) {
        if !self.with_recordings {
            return (1, 1, 1, "22".repeat(32), "22".repeat(32));
        }
        let meta = RecordingMeta {
            recording_id: recording.to_string(),
            session_id: session.to_string(),
            class: Class::Readable,
            started_at_micros: 1,
        };
        let budget = Budget { spool_bytes: 1 << 20 };
        let to = [self.auditor.recipient()];
        let mut writer =
            RecordingWriter::create(&self.folder, meta, &to, budget, Durability::Windowed).unwrap();
        for (at, text) in [(10, "systemctl restart orders"), (20, "true")] {
            let kind = RecordKind::Command { channel: 1, text: text.to_owned() };
            writer.write(&Record { at_micros: at, kind }).unwrap();
        }
        let finished = writer.finish(30, "the person left").unwrap();
        self.recordings.push((recording, finished.path.clone()));
        let records = finished.records.unwrap();
        (
            finished.bytes,
            finished.frames,
            records,
            finished.sha256.to_string(),
            finished.chain_head.to_string(),
        )
    }

    pub fn close(&mut self, told: Told) {
        let Told { incident, grant, .. } = told;
        let gateway = Actor::Node { name: name("gw-1") };
        let connector = Actor::Node { name: name("connector-1") };
        let pat = self.person(&self.responder);
        self.run(&pat, Command::GiveBack { grant });
        let fencing = self.world.grant(grant).unwrap().fencing;
        self.node(
            "gw-1",
            NodeEvent::LeaseEnded { grant, fencing, reason: "given back".into(), sessions_ended: 0 },
        );
        let ended = Command::ReportLeaseEnded { grant, fencing, gateway: name("gw-1"), sessions_ended: 0 };
        self.run(&gateway, ended);
        let provable_at = self.now.plus(Span::seconds(60));
        self.node("connector-1", NodeEvent::Deactivated { grant, fencing, provable_at });
        self.run(&connector, Command::ReportDeactivated { grant, fencing, provable_at });
        self.now = provable_at;
        let check = |kind, said_by| Check {
            kind,
            finding: Finding::Proven,
            said_by,
            detail: "refused, and a fresh one accepted".to_owned(),
        };
        let evidence =
            Evidence { at: self.now, checks: vec![check(CheckKind::Credential, SaidBy::Connector)] };
        self.node("connector-1", NodeEvent::Looked { grant, fencing, evidence: evidence.clone() });
        self.run(&connector, Command::ReportLooked { grant, fencing, evidence });
        let reviews: Vec<_> = self.world.incidents.get(&incident).unwrap().reviews.keys().copied().collect();
        for review in reviews {
            let sam = self.person("sam");
            let answers = Answers {
                classification: Classification::GenuineEmergency,
                invoked_correctly: true,
                too_wide: false,
                approvals_timely: true,
                prevention: "more disk".to_owned(),
                note: String::new(),
                empty_activity_explained: None,
            };
            self.run(&sam, Command::JudgeReview { review, answers });
        }
        let sam = self.person("sam");
        self.run(&sam, Command::CloseIncident { incident });
    }

    pub fn policy(&self) -> TrustPolicy {
        let keys = [self.control.signer.key(), self.gateway.signer.key(), self.connector.signer.key()];
        TrustPolicy::unwitnessed(&keys).unwrap()
    }

    /// What control would collect.
    pub fn contents(&self, told: Told) -> Contents {
        let of_incident = |_: u64, leaf: &[u8]| {
            let leaf: Leaf = serde_json::from_slice(leaf).unwrap();
            match &leaf.chain {
                Some(link) => link.incident == told.incident,
                None => matches!(leaf.body, LeafBody::Node { .. }),
            }
        };
        let of_node = |_: u64, leaf: &[u8]| {
            let text = String::from_utf8_lossy(leaf);
            text.contains(&told.grant.to_string()) || text.contains(&told.session.to_string())
        };
        let mut documents = BTreeMap::new();
        let world = &self.world;
        for (document, (_, body)) in &self.stored {
            let belongs = match document {
                DocumentRef::Incident(id) => *id == told.incident,
                DocumentRef::Request(id) => world.requests.get(id).unwrap().incident == Some(told.incident),
                DocumentRef::Grant(id) => world.grants.get(id).unwrap().incident == Some(told.incident),
                DocumentRef::Session(id) => world.sessions.get(id).unwrap().incident == Some(told.incident),
                DocumentRef::Review(id) => world.reviews.get(id).unwrap().incident == Some(told.incident),
                _ => false,
            };
            if belongs {
                documents.insert(document.clone(), body.clone());
            }
        }
        let earlier = [self.control.note_at(5)];
        let nodes = [(name("gw-1"), &self.gateway), (name("connector-1"), &self.connector)];
        Contents {
            incident: told.incident,
            created: self.now,
            documents,
            control: self.control.part(of_incident, &earlier),
            nodes: nodes.into_iter().map(|(node, log)| (node, log.part(of_node, &[]))).collect(),
            recordings: self
                .recordings
                .iter()
                .filter(|(recording, _)| *recording == told.recording)
                .cloned()
                .collect(),
            policy: self.policy(),
        }
    }

    pub fn bundle(&self, told: Told) -> PathBuf {
        let path = self.folder.join("INC.halligan");
        write_bundle(&path, &self.contents(told)).unwrap();
        path
    }
}

fn form(world: &World, document: &DocumentRef) -> Option<Vec<u8>> {
    let bytes = |value: serde_json::Result<Vec<u8>>| Some(value.unwrap());
    match document {
        DocumentRef::Request(id) => bytes(serde_json::to_vec(world.requests.get(id)?)),
        DocumentRef::Grant(id) => bytes(serde_json::to_vec(world.grants.get(id)?)),
        DocumentRef::Session(id) => bytes(serde_json::to_vec(world.sessions.get(id)?)),
        DocumentRef::Incident(id) => bytes(serde_json::to_vec(world.incidents.get(id)?)),
        DocumentRef::Review(id) => bytes(serde_json::to_vec(world.reviews.get(id)?)),
        DocumentRef::Standing(id) => bytes(serde_json::to_vec(world.standings.get(id)?)),
        DocumentRef::Change(id) => bytes(serde_json::to_vec(world.changes.get(id)?)),
    }
}

fn catalog() -> Catalog {
    let mut catalog = Catalog { organisation: "Example".into(), ..Catalog::default() };
    for person in ["pat", "kim", "sam"] {
        catalog.people.insert(name(person), Person { name: person.to_owned(), ..Person::default() });
    }
    for office in ["security-officer", "incident-lead", "auditor"] {
        let office = serde_json::from_value(serde_json::json!(office)).unwrap();
        let held = serde_json::from_value(serde_json::json!({"people": ["sam"]})).unwrap();
        catalog.offices.insert(office, held);
    }
    catalog.severities.insert(name("sev1"), Severity { rank: 1, ..Severity::default() });
    let step: Step = serde_json::from_value(
        serde_json::json!({"name": "second pair of eyes", "approvers": [{"person": "kim"}]}),
    )
    .unwrap();
    let rule = PolicyRule { steps: vec![step], ..PolicyRule::default() };
    catalog.policies.insert(name("one"), Policy { meaning: String::new(), rules: vec![rule] });
    let scenario = Scenario {
        title: "Orders are stuck".into(),
        invoked_by: vec![Who::Anyone(true)],
        scope: vec![Scope { systems: [name("orders-host")].into(), ..Scope::default() }],
        ..Scenario::default()
    };
    catalog.scenarios.insert(name("stuck"), scenario);
    catalog
}
