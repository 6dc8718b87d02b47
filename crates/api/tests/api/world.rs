//! A small organisation in the middle of an emergency: control on a store of its own, everybody enrolled for real.
//!
//! It is made once; each test works on a copy of its folder, under a clock that only the test moves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use halligan_api::{Served, Serving, router, serve};
use halligan_control::catalog::{CatalogHead, head_key, system_key};
use halligan_control::clock::Clock;
use halligan_control::people::sign_in::Scope;
use halligan_control::{Control, ControlOptions, sequencer};
use halligan_core::catalog::{Catalog, FactorKind, StatementClass, System};
use halligan_core::command::{Actor, Command, FactorUse, FileRequest};
use halligan_core::event::Event;
use halligan_core::ids::{GrantId, IncidentId, Name, RecordingId, RequestId, ReviewId, SessionId};
use halligan_core::leaf::LeafBody;
use halligan_core::node_event::held_statement_digest;
use halligan_core::request::{Mode, Verdict};
use halligan_core::time::{Span, Time};
use halligan_link::{PeerInfo, Role};
use halligan_recording::{
    Budget, Class, Direction, Durability, Hash, Identity, Record, RecordKind, RecordingMeta, RecordingWriter,
};
use halligan_store::{DocumentWrite, SqliteOptions, Store};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use totp_rs::{Algorithm, Builder, Secret};
use zeroize::Zeroizing;

pub const PASSWORD: &str = "correct horse battery";
/// Who is who: the owner of what happens, who decides, who oversees, and somebody who has nothing to do with it.
pub const PEOPLE: [&str; 8] = ["rita", "alan", "lena", "sofia", "ava", "cleo", "paula", "sten"];

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A clock that stands still until it is moved.
pub struct TestClock(AtomicI64);

impl TestClock {
    fn at(micros: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(micros)))
    }
    pub fn forward(&self, span: Span) {
        self.0.fetch_add(span.as_micros(), Ordering::SeqCst);
    }
    pub fn time(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::SeqCst))
    }
}
impl Clock for TestClock {
    fn now(&self) -> Time {
        self.time()
    }
}

/// What the emergency consists of.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Tokens by person, and `token` for Rita's API token.
    pub tokens: BTreeMap<String, String>,
    /// Secrets of authenticators, base 32.
    pub secrets: BTreeMap<String, String>,
    /// Its grant is active and has a live session.
    pub grant: GrantId,
    pub session: SessionId,
    /// Waits for Alan.
    pub pending: RequestId,
    pub pending_version: u32,
    /// Given back, not proved; under review.
    pub ended: GrantId,
    pub review: ReviewId,
    /// Recordings in the store.
    pub readable: SessionId,
    pub sealed: SessionId,
    pub clock: i64,
}

/// The prepared world on disk.
pub struct Prepared {
    folder: TempDir,
    pub facts: Facts,
}

/// A running copy of it.
pub struct World {
    pub control: Control,
    pub clock: Arc<TestClock>,
    pub facts: Facts,
    pub address: SocketAddr,
    served: Option<Served>,
    stop: CancellationToken,
    _folder: TempDir,
}

fn catalog() -> (Catalog, Vec<System>) {
    let catalog = serde_json::json!({
        "organisation": "Test",
        "people": {
            "rita": {"name": "Rita Responder"}, "alan": {"name": "Alan Approver"}, "lena": {"name": "Lena Lead"},
            "sofia": {"name": "Sofia Security"}, "ava": {"name": "Ava Auditor"}, "cleo": {"name": "Cleo Cloud"},
            "paula": {"name": "Paula Platform"}, "sten": {"name": "Sten Stranger"}, "newt": {"name": "Newt New"},
        },
        "groups": {
            "responders": {"members": ["rita"]},
            "leads": {"members": ["alan"]},
        },
        "offices": {
            "security-officer": {"people": ["sofia"]}, "incident-lead": {"people": ["lena"]},
            "auditor": {"people": ["ava"]}, "cloud-administrator": {"people": ["cleo"]},
            "platform-owner": {"people": ["paula"]},
        },
        "severities": {"sev1": {"rank": 1}, "sev2": {"rank": 2}},
        "policies": {
            "lead": {"rules": [{"steps": [{"name": "lead", "approvers": [{"group": "leads"}]}]}]},
        },
        "scenarios": {
            "db-locked": {
                "title": "The database locks up", "criteria": ["Statements wait for each other."],
                "severities": ["sev1", "sev2"], "invoked_by": [{"group": "responders"}],
                "bypassed_by": [{"group": "responders"}], "scope": [{"systems": ["orders-db", "sealed-db"]}],
                "first_step": "operate",
            },
        },
    });
    let system = |name: &str, class: &str| {
        serde_json::json!({
            "name": name, "kind": "ssh", "address": "127.0.0.1:2222", "standard_policy": "lead", "emergency_policy": "lead",
            "entitlements": {
                "operate": {
                    "account": "app", "ladder": "operate", "requested_by": [{"group": "responders"}],
                    "recording": {"class": class},
                    "durations": {"default": "1h", "longest": "2h", "extensions": 2, "ceiling": "8h"},
                },
                "observe": {
                    "account": "app", "ladder": "observe", "requested_by": [{"group": "responders"}],
                    "durations": {"default": "1h", "longest": "2h", "extensions": 2, "ceiling": "8h"},
                },
            },
        })
    };
    let systems = [system("orders-db", "readable"), system("sealed-db", "sealed")];
    (
        serde_json::from_value(catalog).unwrap(),
        systems.into_iter().map(|system| serde_json::from_value(system).unwrap()).collect(),
    )
}

async fn open(folder: &Path, clock: Arc<TestClock>) -> Control {
    let store = Store::open_sqlite(SqliteOptions::new(folder.join("store.sqlite"))).await.unwrap();
    let auditor = Identity::generate().unwrap();
    let options = ControlOptions {
        name: name("control"),
        site: Name::main(),
        folder: folder.join("control"),
        origin: "test.example/halligan".into(),
        auditors: vec![auditor.recipient()],
        link_addresses: vec!["127.0.0.1:1".to_owned()],
        clock,
    };
    Control::open(options, store).await.unwrap()
}

fn secret_of(otpauth: &str) -> String {
    let query = otpauth.split_once('?').unwrap().1;
    query.split('&').find_map(|pair| pair.strip_prefix("secret=")).unwrap().to_owned()
}

/// The code that a phone shows at this time.
pub fn code(secret: &str, now: Time) -> String {
    let totp = Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_secret(Secret::try_from_base32(secret).unwrap())
        .with_account_name("test".to_owned())
        .build()
        .unwrap();
    totp.generate(u64::try_from(now.micros() / 1_000_000).unwrap()).to_string()
}

struct Making {
    control: Control,
    clock: Arc<TestClock>,
    secrets: BTreeMap<String, String>,
}

impl Making {
    fn code(&self, who: &str) -> String {
        code(&self.secrets[who], self.clock.time())
    }

    async fn enrol(&mut self, who: &str, secret: &str) {
        let (person, otpauth) = self.control.begin_enrolment(secret).await.unwrap();
        assert_eq!(person.as_str(), who);
        self.secrets.insert(who.to_owned(), secret_of(&otpauth));
        let password = Zeroizing::new(PASSWORD.to_owned());
        self.control.finish_enrolment(secret, password, &self.code(who)).await.unwrap();
    }

    async fn sign_in(&self, who: &str) -> String {
        let password = Zeroizing::new(PASSWORD.to_owned());
        let code = self.code(who);
        let done = self.control.sign_in(who, password, Some(&code), None, "test").await.unwrap();
        done.0.to_string()
    }

    /// As a person with a second factor shown for this act.
    async fn does(&self, who: &str, command: Command) -> Vec<Event> {
        let factor = FactorUse {
            kind: FactorKind::Totp,
            at: self.control.now(),
            enrolled_at: Time::default(),
            for_this_act: true,
        };
        let actor = Actor::Person { id: name(who), factor: Some(factor), token: false };
        self.control.run(&actor, command).await.unwrap().events
    }

    async fn reports(&self, command: Command) -> Vec<Event> {
        self.control.run(&Actor::Node { name: name("gw-1") }, command).await.unwrap().events
    }

    async fn ask(&self, entitlement: &str, incident: Option<IncidentId>) -> (RequestId, u32, IncidentId) {
        let file = FileRequest {
            beneficiary: name("rita"),
            entitlement: entitlement.parse().unwrap(),
            mode: Mode::Emergency,
            severity: Some(name("sev1")),
            severity_attested: false,
            scenario: Some(name("db-locked")),
            criteria_confirmed: true,
            incident,
            incident_number: self.control.next_incident_number().await.unwrap(),
            reason: "orders wait for each other".to_owned(),
            link: None,
            why_not_lower: Some("looking is not enough".to_owned()),
            duration: None,
            batch: None,
        };
        let events = self.does("rita", Command::FileRequest(Box::new(file))).await;
        let found = events.into_iter().find_map(|event| match event {
            Event::RequestFiled { request } => Some((request.id, request.version, request.incident.unwrap())),
            _ => None,
        });
        found.unwrap()
    }

    async fn granted(
        &self,
        entitlement: &str,
        incident: Option<IncidentId>,
    ) -> (RequestId, GrantId, IncidentId) {
        let (request, version, incident) = self.ask(entitlement, incident).await;
        let decide = Command::Decide { request, verdict: Verdict::Approve, version, reason: None };
        let events = self.does("alan", decide).await;
        let (grant, fencing) = events
            .into_iter()
            .find_map(|event| match event {
                Event::GrantScheduled { grant } => Some((grant.id, grant.fencing)),
                _ => None,
            })
            .unwrap();
        self.control.run(&Actor::Clock, Command::BeginActivation { grant }).await.unwrap();
        self.reports(Command::ReportActivated { grant, fencing }).await;
        (request, grant, incident)
    }

    async fn session(&self, grant: GrantId) -> (SessionId, RecordingId) {
        let mut seed = [0u8; 16];
        getrandom::fill(&mut seed).unwrap();
        let mut fresh = halligan_core::ids::FreshIds::new(seed, self.control.now());
        let (session, recording): (SessionId, RecordingId) = (fresh.make(), fresh.make());
        self.reports(Command::ReportSessionOpened {
            session,
            grant,
            gateway: name("gw-1"),
            recording,
            client: "192.0.2.7".to_owned(),
            login: "key".to_owned(),
            at: self.control.now(),
        })
        .await;
        (session, recording)
    }

    /// A session that has ended, with a real recording in the store.
    async fn recorded(&self, grant: GrantId, class: Class) -> SessionId {
        let (session, recording) = self.session(grant).await;
        let auditor = Identity::generate().unwrap().recipient();
        let recipients = match class {
            Class::Readable => vec![auditor, self.control.keys().playback.recipient()],
            Class::Sealed => vec![auditor],
        };
        let meta = RecordingMeta {
            recording_id: recording.to_string(),
            session_id: session.to_string(),
            class,
            started_at_micros: u64::try_from(self.control.now().micros()).unwrap(),
        };
        let folder = self.control.options().folder.join("recordings");
        let budget = Budget { spool_bytes: 1 << 20 };
        let mut writer =
            RecordingWriter::create(&folder, meta, &recipients, budget, Durability::Windowed).unwrap();
        for kind in [
            RecordKind::SessionStart { metadata: "{}".to_owned() },
            RecordKind::ChannelOpen { channel: 1, kind: "shell".to_owned() },
            RecordKind::Resize { channel: 1, columns: 80, rows: 24 },
            RecordKind::Output { channel: 1, bytes: "orders=# \u{1b}[31mselect\r\n".into() },
            RecordKind::TransferEnd {
                channel: 1,
                path: "/tmp/dump".to_owned(),
                direction: Direction::Download,
                bytes: 3,
                sha256: Hash::of(b"abc"),
                outcome: halligan_recording::Outcome::Done,
            },
        ] {
            writer.write_batch(&[Record::new(1000, kind)]).unwrap();
        }
        let finished = writer.finish(2000, "the person left").unwrap();
        let sha256 = finished.sha256.to_string();
        let at = self.control.now();
        self.reports(Command::ReportSessionEnded { session, reason: "left".to_owned(), at }).await;
        self.reports(Command::ReportRecordingFinished {
            session,
            bytes: finished.bytes,
            frames: finished.frames,
            sha256: sha256.clone(),
            chain_head: finished.chain_head.to_string(),
            complete: true,
        })
        .await;
        self.reports(Command::ReportRecordingStored { session, sha256 }).await;
        session
    }
}

/// Tests that run side by side share one; the last one takes it away.
static PREPARED: Mutex<Weak<Prepared>> = Mutex::const_new(Weak::new());

impl Prepared {
    /// The prepared world.
    pub async fn make() -> Arc<Self> {
        let mut kept = PREPARED.lock().await;
        if let Some(found) = kept.upgrade() {
            return found;
        }
        let made = Arc::new(Self::fresh().await);
        *kept = Arc::downgrade(&made);
        made
    }

    async fn fresh() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let clock = TestClock::at(i64::try_from(start).unwrap());
        let control = open(folder.path(), clock.clone()).await;
        let (catalog, systems) = catalog();
        let head = CatalogHead { version: 1, systems_generation: 1, catalog };
        let mut writes = vec![DocumentWrite::put(head_key(), 0, serde_json::to_vec(&head).unwrap())];
        for system in &systems {
            let key = system_key(1, &system.name);
            writes.push(DocumentWrite::put(key, 0, serde_json::to_vec(system).unwrap()));
        }
        let leaf = LeafBody::CatalogApplied {
            version: 1,
            sha256: String::new(),
            systems: 2,
            systems_sha256: String::new(),
            changes: Vec::new(),
            rolls_back_to: None,
        };
        control.note(&Actor::Clock, leaf, writes).await.unwrap();
        control.refresh_catalog().await.unwrap();
        let mut making = Making { control: control.clone(), clock: clock.clone(), secrets: BTreeMap::new() };
        // Everybody is enrolled by Cleo while she is the only administrator; Sofia last, for with her there are two.
        let first = control.first_enrolment(&name("cleo")).await.unwrap().unwrap();
        making.enrol("cleo", &first).await;
        clock.forward(Span::seconds(60));
        let token = making.sign_in("cleo").await;
        let caller = control.authenticate(&token).await.unwrap().unwrap();
        for who in ["rita", "alan", "lena", "ava", "paula", "sten", "sofia"] {
            let (secret, _, needs) = control.invite(&caller, &name(who), None).await.unwrap();
            assert!(!needs, "nobody else could confirm");
            making.enrol(who, &secret).await;
        }
        // Young factors do not approve.
        clock.forward(Span::hours(25));
        let mut tokens = BTreeMap::new();
        for who in PEOPLE {
            tokens.insert(who.to_owned(), making.sign_in(who).await);
        }
        clock.forward(Span::seconds(60));
        let rita = control.authenticate(&tokens["rita"]).await.unwrap().unwrap();
        let scopes = vec![Scope::Read, Scope::Request];
        let made = control
            .make_api_token(&rita, "robot", scopes, Span::days(1), &making.code("rita"))
            .await
            .unwrap();
        tokens.insert("token".to_owned(), made.0.to_string());
        control
            .admit_local(
                &PeerInfo { name: name("gw-1"), role: Role::Gateway, site: Name::main() },
                &"11".repeat(32),
                None,
            )
            .await
            .unwrap();

        let (_, grant, incident) = making.granted("orders-db/operate", None).await;
        let readable = making.recorded(grant, Class::Readable).await;
        let (session, _) = making.session(grant).await;
        making.reports(Command::ReportChange { session, what: "chmod 777 /srv".to_owned() }).await;
        let at = control.now();
        let (class, text) = (StatementClass::Schema, "drop table orders_old".to_owned());
        making
            .reports(Command::ReportStatementHeld {
                session,
                hold: 1,
                class,
                sha256: held_statement_digest(class, &text, None),
                text,
                parameters: None,
                at,
                until: at.plus(Span::minutes(30)),
            })
            .await;
        let (_, ended, _) = making.granted("sealed-db/operate", Some(incident)).await;
        let sealed = making.recorded(ended, Class::Sealed).await;
        let events = making.does("rita", Command::GiveBack { grant: ended }).await;
        let review = events.into_iter().find_map(|event| match event {
            Event::ReviewOpened { review } => Some(review.id),
            _ => None,
        });
        let (pending, pending_version, _) = making.ask("orders-db/observe", Some(incident)).await;
        clock.forward(Span::seconds(60));
        let facts = Facts {
            tokens,
            secrets: making.secrets.clone(),
            grant,
            session,
            pending,
            pending_version,
            ended,
            review: review.unwrap(),
            readable,
            sealed,
            clock: clock.time().micros(),
        };
        // The tiles, so that copies have a ledger to show.
        let stop = CancellationToken::new();
        let task = tokio::spawn(sequencer::run(control.clone(), stop.clone()));
        signed(&control).await;
        stop.cancel();
        task.await.unwrap();
        control.stop().await;
        Self { folder, facts }
    }

    /// A running copy. Its clock stands where the preparation ended.
    pub async fn open(&self) -> World {
        let folder = self.copy();
        let clock = TestClock::at(self.facts.clock);
        let control = open(folder.path(), clock.clone()).await;
        let stop = CancellationToken::new();
        tokio::spawn(sequencer::run(control.clone(), stop.clone()));
        let served = served(&control);
        let address = served.address;
        let facts = self.facts.clone();
        World { control, clock, facts, address, served: Some(served), stop, _folder: folder }
    }

    /// A copy that nothing runs on.
    pub fn copy(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path());
        folder
    }
}

fn served(control: &Control) -> Served {
    let address = "127.0.0.1:0".parse().unwrap();
    serve(Serving { address, certificate: None, router: router(control.clone()) }).unwrap()
}

/// Serves the world in this folder, its clock standing at `at`, until the process is killed. Says where.
pub async fn serve_until_killed(folder: &Path, at: i64) {
    let control = open(folder, TestClock::at(at)).await;
    let served = served(&control);
    println!("\nready {}", served.address);
    tokio::time::sleep(Duration::from_secs(120)).await;
}

/// Waits until a checkpoint covers everything.
async fn signed(control: &Control) {
    for _ in 0..200 {
        let head = control.store().head().await.unwrap();
        if head.signed.is_some_and(|signed| signed.size == head.size) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the sequencer signs nothing");
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

impl World {
    /// The code that this person's phone shows now; `000000` for somebody without one.
    pub fn code(&self, who: &str) -> String {
        let who = if who == "token" { "rita" } else { who };
        self.facts
            .secrets
            .get(who)
            .map_or_else(|| "000000".to_owned(), |secret| code(secret, self.clock.time()))
    }

    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(served) = self.served.take() {
            served.stop().await;
        }
        self.control.stop().await;
    }
}
