//! A gateway's folder as months of use leave it: a roster, and as many leases in force as one wants.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use ed25519_dalek::SigningKey;
use halligan_core::catalog::{OnPartition, ProofPolicy, RecordingPolicy, SshCapabilities, SystemKind};
use halligan_core::ids::{EntitlementName, GrantId, Name, PersonId};
use halligan_core::time::{Span, Time};
use halligan_gateway::countdown::{Count, Reading};
use halligan_gateway::shelf::{Shelf, StoredLease};
use halligan_gateway::{Clock as _, SystemClock};
use halligan_session::lease::{Lease, SignedLease, Target};
use halligan_session::roster::{Roster, RosterPerson, SignedRoster};

use crate::story::name;

/// People on the roster; leases are spread over them.
const PEOPLE: u64 = 1_000;

/// Control's key in these folders.
pub fn control_key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

/// Who holds the lease of this number.
pub fn person(number: u64) -> PersonId {
    name(&format!("person-{}", number % PEOPLE))
}

/// What the lease of this number opens.
pub fn entitlement(number: u64) -> EntitlementName {
    EntitlementName { system: name(&format!("host-{number}")), role: name("operate") }
}

/// Whether the lease of this number has a free seat. Every other one has none, so that a decision can be had that goes all
/// the way and ends before anything is written.
pub const fn has_seats(number: u64) -> bool {
    number.is_multiple_of(2)
}

/// Fills a gateway's folder. The files are those that a gateway writes, only not synced one by one.
pub fn fill(folder: &Path, count: u64) -> Result<()> {
    let key = control_key();
    let shelf = Shelf::open(folder)?;
    let now = Time::from_micros(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?);
    let people = (0..PEOPLE)
        .map(|number| RosterPerson {
            id: person(number),
            name: format!("Person {number}"),
            ssh_keys: Vec::new(),
        })
        .collect();
    let roster = Roster { version: 1, serial: 1, issued_at: now, people, ..Roster::default() };
    shelf.put_roster(&SignedRoster::sign(&roster, &key)?)?;
    let reading = Reading::of(&SystemClock);
    for number in 0..count {
        let lease = lease(number, now);
        let stored = StoredLease {
            lease: SignedLease::sign(&lease, &key)?,
            count: Count::begin(lease.remaining, reading, SystemClock.boot_id()),
        };
        fs::write(folder.join("leases").join(lease.grant.to_string()), serde_json::to_vec(&stored)?)?;
    }
    Ok(())
}

fn lease(number: u64, now: Time) -> Lease {
    let entitlement = entitlement(number);
    let remaining = Span::hours(4);
    Lease {
        version: 1,
        grant: GrantId::from_bits((1_795_170_000_000_u128 << 80) | u128::from(number)),
        fencing: 3,
        person: person(number),
        person_name: format!("Person {}", number % PEOPLE),
        incident: None,
        emergency: true,
        reason: "orders are stuck since the last release".to_owned(),
        target: Target {
            system: entitlement.system.clone(),
            kind: SystemKind::Ssh,
            address: "192.0.2.1:22".to_owned(),
            site: Name::main(),
            account: "app".to_owned(),
            host_keys: vec![format!("ssh-ed25519 {}", "A".repeat(68))],
            postgres: None,
        },
        entitlement,
        ssh: SshCapabilities::default(),
        postgres: Default::default(),
        recording: RecordingPolicy::default(),
        recipients: vec![recipient()],
        proof: ProofPolicy::default(),
        on_partition: OnPartition::Keep,
        idle_limit: None,
        issued_at: now,
        deadline: now.plus(remaining),
        remaining,
        most_sessions: if has_seats(number) { 32 } else { 0 },
        policy_digest: "0".repeat(64),
        approvals: Vec::new(),
    }
}

/// An auditor whose key nobody holds.
fn recipient() -> String {
    use std::sync::OnceLock;
    static AUDITOR: OnceLock<String> = OnceLock::new();
    AUDITOR
        .get_or_init(|| {
            halligan_recording::Identity::generate()
                .map(|identity| identity.recipient().to_string())
                .unwrap_or_default()
        })
        .clone()
}
