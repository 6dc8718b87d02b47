//! From `kill -9` to ready with 100,000 live grants: control until it has carried out its first command, the gateway until
//! it has answered its first login. Each is a process of its own that is really killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use halligan_control::catalog::{CatalogHead, head_key};
use halligan_control::clock::SystemClock;
use halligan_control::documents::{key_of, stored};
use halligan_control::{Control, ControlOptions};
use halligan_core::catalog::{Catalog, CheckKind, Durations, Person, Severity};
use halligan_core::command::{Actor, Command, DocumentRef};
use halligan_core::grant::{Grant, GrantState};
use halligan_core::ids::{GrantId, Name, RequestId};
use halligan_core::leaf::LeafBody;
use halligan_core::request::Mode;
use halligan_core::time::{Span, Time};
use halligan_core::world::World;
use halligan_gateway::{Gateway, Options as GatewayOptions};
use halligan_session::control_plane::{ClientConnection, ControlPlane as _};
use halligan_store::{DocumentWrite, SqliteOptions, Store};

use crate::figure::{Figure, Goal};
use crate::leases::{control_key, entitlement, fill, person};
use crate::sample::Sample;
use crate::story::name;
use crate::{Figures, Options};

/// Measures.
pub async fn measure(options: &Options, figures: &mut Figures) -> Result<()> {
    let grants = options.size(100_000, 300);
    let folder = crate::disk::folder()?;
    let (control, gateway) = (folder.path().join("control"), folder.path().join("gateway"));
    std::fs::create_dir(&control)?;
    write_grants(&control, grants).await?;
    fill(&gateway, grants)?;
    let (mut of_control, mut of_gateway) = (Sample::default(), Sample::default());
    for round in 0..options.size(5, 1) + 1 {
        for (role, folder, sample) in
            [("as-control", &control, &mut of_control), ("as-gateway", &gateway, &mut of_gateway)]
        {
            let began = Instant::now();
            let mut child = ready(role, folder)?;
            // The first start makes keys and ledgers, and follows no kill.
            if round > 0 {
                sample.push(began.elapsed().as_secs_f64());
            }
            child.kill()?;
            child.wait()?;
        }
    }
    let live = format!("{} live grants", crate::figure::number(grants as f64));
    let figure = Figure::new(
        format!("control/kill -9 to first command carried out, {live}"),
        of_control.median(),
        "s",
    );
    figures.add(figure.range(of_control.range()).goal(Goal::AtMost(2.0)));
    let figure = Figure::new(
        format!("control/kill -9 to first answer of the gateway, {live}"),
        of_gateway.median(),
        "s",
    );
    figures.add(figure.range(of_gateway.range()).goal(Goal::AtMost(2.0)));
    Ok(())
}

/// Starts one of the roles below and waits until it says that it is ready.
fn ready(role: &str, folder: &Path) -> Result<Child> {
    let mut child = Process::new(std::env::current_exe()?)
        .arg(role)
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {role}"))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    if line.trim() != "ready" {
        let status = child.wait()?;
        bail!("{role} ended before it was ready ({status})");
    }
    Ok(child)
}

fn folder_of(arguments: &[String]) -> Result<PathBuf> {
    arguments.first().map(PathBuf::from).context("no folder was given")
}

/// Says that all is there, and waits to be killed, or for the end of who started it.
async fn wait_for_the_end() -> Result<()> {
    println!("ready");
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().count()).await?;
    Ok(())
}

async fn open_control(folder: &Path) -> Result<Control> {
    let store = Store::open_sqlite(SqliteOptions::new(folder.join("store.sqlite"))).await?;
    let options = ControlOptions {
        name: name("control"),
        site: Name::main(),
        folder: folder.join("control"),
        origin: "bench.example/control".to_owned(),
        auditors: Vec::new(),
        link_addresses: Vec::new(),
        clock: Arc::new(SystemClock),
    };
    Ok(Control::open(options, store).await?)
}

/// Control alone, in a process of its own.
pub async fn control_child(arguments: &[String]) -> Result<()> {
    let control = open_control(&folder_of(arguments)?).await?;
    control.start();
    let actor = Actor::Person { id: person(1), factor: None, token: false };
    let first = Command::OpenIncident {
        title: "the first after the start".to_owned(),
        severity: name("sev1"),
        scenario: None,
        link: None,
        number: 1,
    };
    control.run(&actor, first).await?;
    wait_for_the_end().await
}

/// A gateway alone, in a process of its own.
pub async fn gateway_child(arguments: &[String]) -> Result<()> {
    let options = GatewayOptions::new(folder_of(arguments)?, name("gw-1"), control_key().verifying_key());
    let gateway = Gateway::start(options, Arc::new(halligan_gateway::SystemClock))?;
    let roster = gateway.roster().context("the gateway has no roster")?;
    let somebody = roster.person_by_id(&person(1), "key".to_owned(), None).context("nobody of that id")?;
    let from = ClientConnection { client: ([192, 0, 2, 7], 50_000).into(), gateway: name("gw-1") };
    // This lease is held and has no seat: the answer takes the whole way.
    let answer = gateway.open(&somebody, &entitlement(1), &from).await;
    if !matches!(&answer, Err(refusal) if refusal.say.contains("sessions at one time")) {
        bail!("the gateway's first answer was another one");
    }
    wait_for_the_end().await
}

/// Live grants in a store of their own, in the form in which control stores them.
async fn write_grants(folder: &Path, count: u64) -> Result<()> {
    let control = open_control(folder).await?;
    let mut catalog = Catalog { organisation: "Bench".to_owned(), ..Catalog::default() };
    for number in 0..1_000 {
        catalog
            .people
            .insert(person(number), Person { name: format!("Person {number}"), ..Person::default() });
    }
    let declared_by = vec![halligan_core::catalog::Who::Anyone(true)];
    catalog.severities.insert(name("sev1"), Severity { rank: 1, declared_by, ..Severity::default() });
    let head = CatalogHead { version: 1, systems_generation: 1, catalog };
    let body =
        LeafBody::Identity { what: "set_up".to_owned(), person: "bench".to_owned(), detail: String::new() };
    let write = DocumentWrite::put(head_key(), 0, serde_json::to_vec(&head)?);
    control.note(&Actor::Clock, body, vec![write]).await?;
    let now = control.now();
    let mut writes = Vec::new();
    for number in 0..count {
        let grant = grant(number, now);
        let reference = DocumentRef::Grant(grant.id);
        let mut world = World::default();
        world.grants.insert(grant.id, grant);
        let form = stored(&world, &reference, Span::minutes(5))?.context("the grant has no stored form")?;
        writes.push(DocumentWrite {
            key: key_of(&reference),
            expected_revision: 0,
            body: form.body,
            indexes: form.indexes,
            due_at: form.due_at.map(Time::micros),
            deleted: false,
        });
    }
    control.store().bulk_put("grant", writes).await?;
    control.stop().await;
    Ok(())
}

fn grant(number: u64, now: Time) -> Grant {
    let bits = (1_795_170_000_000_u128 << 80) | u128::from(number);
    Grant {
        id: GrantId::from_bits(bits),
        request: RequestId::from_bits(bits),
        extended_by: Vec::new(),
        person: person(number),
        entitlement: entitlement(number),
        mode: Mode::Emergency,
        severity: Some(name("sev1")),
        incident: None,
        reason: "orders are stuck since the last release".to_owned(),
        automatic: false,
        bypassed: false,
        durations: Durations::default(),
        required_checks: [CheckKind::Credential, CheckKind::GatewayConnections].into(),
        state: GrantState::Active,
        fencing: 3,
        duration: Span::hours(4),
        scheduled_at: now,
        activate_by: now.plus(Span::hours(1)),
        activated_at: Some(now),
        deadline: Some(now.plus(Span::hours(4))),
        earlier_total: Span::ZERO,
        new_total: false,
        continues: Default::default(),
        pending_extension: None,
        extensions: 0,
        warned: false,
        ended_at: None,
        end_reason: None,
        gateways: [(name("gw-1"), false)].into(),
        deactivated: false,
        provable_at: None,
        look_at: None,
        looks: 0,
        late_alerted: false,
        checks: Default::default(),
        outcome: None,
        waivers: Default::default(),
        last_session: 0,
        open_sessions: Default::default(),
        kept: None,
    }
}
