//! The proof that a grant's certificates no longer open the door.
//!
//! Each certificate of the grant is offered to the target with its own key, which the connector made and kept for this,
//! and must be refused; a fresh one that runs nothing must be accepted on the same connection, with the same principal and
//! the same source addresses. Without that positive control a refusal proves nothing: to a client an expired certificate, a
//! wrong principal, another source address and a missing revocation list look the same.

use std::sync::Arc;
use std::time::Duration;

use halligan_connector::ConnectorError;
use halligan_core::catalog::CheckKind;
use halligan_core::ids::GrantId;
use halligan_core::proof::{Check, Evidence, Finding, SaidBy};
use halligan_core::time::{Span, Time};
use halligan_session::{Lease, NodeEvent};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, PrivateKey};
use tokio::time::{Instant, sleep, timeout};

use crate::authority::{Wish, new_keypair, new_serial};
use crate::certificates::{IssuedCertificate, certificate_refused, certificates};
use crate::connector::{Inner, SshConnector, key_sha256};
use crate::host_key::HostKeys;
use crate::pace::Pace;
use crate::probe::{Credential, Door, Found, knock};

/// A look that has taken this long begins no further connection. (Its caller waits two minutes.)
const LOOK_MOST: Duration = Duration::from_secs(60);
/// How long a probe certificate opens anything.
const PROBE_WINDOW: Span = Span::seconds(60);
/// What a probe certificate would run, if a channel were ever opened.
const PROBE_COMMAND: &str = "/bin/true";
/// Serials named in an evidence; the others are counted.
const SERIALS_SHOWN: usize = 12;

/// What is known before anybody dials.
struct Plan {
    lease: Option<Lease>,
    tombstone_at: Time,
    provable_at: Time,
    certificates: Vec<IssuedCertificate>,
    proven: Option<Evidence>,
}

/// A finding about the credential.
struct Verdict {
    finding: Finding,
    said_by: SaidBy,
    detail: String,
}

impl Verdict {
    fn unknown(said_by: SaidBy, detail: impl Into<String>) -> Self {
        Self { finding: Finding::Unknown, said_by, detail: detail.into() }
    }
}

/// See [`crate::Connector::look`].
pub async fn look(
    connector: &SshConnector,
    grant: GrantId,
    fencing: u64,
) -> Result<Evidence, ConnectorError> {
    let begun = Instant::now();
    let plan = connector.blocking(move |inner| inner.plan(grant, fencing)).await?;
    if let Some(proven) = plan.proven {
        return Ok(proven);
    }
    let asked = |kind| plan.lease.as_ref().is_none_or(|lease| lease.proof.checks.contains(&kind));
    let mut checks = Vec::new();
    if asked(CheckKind::Credential) {
        let Verdict { finding, said_by, detail } = credential(connector, grant, &plan, begun).await?;
        checks.push(Check { kind: CheckKind::Credential, finding, said_by, detail });
    }
    for kind in [CheckKind::Processes, CheckKind::AuthorizedKeys] {
        if plan.lease.is_some() && asked(kind) {
            let detail = "this connector cannot look for that yet".to_owned();
            checks.push(Check { kind, finding: Finding::Unknown, said_by: SaidBy::Connector, detail });
        }
    }
    connector.blocking(move |inner| inner.site.conclude(grant, fencing, checks)).await
}

async fn credential(
    connector: &SshConnector,
    grant: GrantId,
    plan: &Plan,
    begun: Instant,
) -> Result<Verdict, ConnectorError> {
    let inner = &connector.inner;
    if plan.certificates.is_empty() {
        let detail = format!(
            "this connector never issued a certificate for this grant, and issues none since {}; there was nothing to try",
            plan.tombstone_at
        );
        return Ok(Verdict { finding: Finding::Proven, said_by: SaidBy::Connector, detail });
    }
    if inner.site.journal().now() < plan.provable_at {
        let detail = format!(
            "a certificate of this grant opens the door until then: provable at {}",
            plan.provable_at
        );
        return Ok(Verdict::unknown(SaidBy::Connector, detail));
    }
    let Some(lease) = &plan.lease else {
        return Ok(Verdict::unknown(SaidBy::Connector, "the lease of this grant is not kept here any more"));
    };
    let host_keys = match HostKeys::parse(&lease.target.host_keys) {
        Ok(keys) => keys,
        Err(why) => return Ok(Verdict::unknown(SaidBy::Connector, why)),
    };
    let door =
        Door { address: lease.target.address.clone(), account: lease.target.account.clone(), host_keys };
    let pace = inner.paces.of(&door.address);
    let Ok(mut pace) = timeout(LOOK_MOST, pace.lock()).await else {
        return Ok(Verdict::unknown(SaidBy::Connector, "another look at this target is still under way"));
    };
    try_all(connector, grant, plan, &door, &mut pace, begun).await
}

async fn try_all(
    connector: &SshConnector,
    grant: GrantId,
    plan: &Plan,
    door: &Door,
    pace: &mut Pace,
    begun: Instant,
) -> Result<Verdict, ConnectorError> {
    let inner = &connector.inner;
    let mut waiting: Vec<IssuedCertificate> =
        plan.certificates.iter().filter(|one| one.refused_at.is_none()).cloned().collect();
    let mut last = String::new();
    while let Some(first) = waiting.first() {
        let pause = pace.pause();
        if begun.elapsed() + pause > LOOK_MOST {
            let detail = format!("{} certificates are still to be tried; look again", waiting.len());
            return Ok(Verdict::unknown(SaidBy::Connector, detail));
        }
        sleep(pause).await;
        // One connection for certificates that differ in nothing but serial, key and time.
        let (principal, source) = (first.principal.clone(), first.source_address.clone());
        let batch: Vec<IssuedCertificate> = waiting
            .iter()
            .filter(|one| one.principal == principal && one.source_address == source)
            .take(pace.offers)
            .cloned()
            .collect();
        let old: Vec<Credential> = match batch.iter().map(credential_of).collect() {
            Ok(old) => old,
            Err(why) => return Ok(Verdict::unknown(SaidBy::Connector, why)),
        };
        let address = door.address.clone();
        let fresh = connector
            .blocking(move |inner| inner.probe_credential(Some(grant), &address, &principal, &source))
            .await?;
        let now = inner.site.journal().now();
        let found = knock(door, &old, &fresh, now).await;
        let fresh_serial = fresh.certificate.serial();
        match found {
            Found::Shut { host_key } => {
                let done: Vec<u64> = batch.iter().map(|one| one.serial).collect();
                last = format!(
                    "then the fresh probe certificate {fresh_serial} was accepted on the same connection (host key {host_key})"
                );
                connector.blocking(move |inner| inner.note_refused(grant, &batch, now)).await?;
                waiting.retain(|one| !done.contains(&one.serial));
            }
            Found::Open { serial } => {
                let valid_before =
                    batch.iter().find(|one| one.serial == serial).map_or(now, |one| one.valid_before);
                let detail = format!(
                    "{} let the old certificate {serial} in as {} at {now}, though its window was over at {valid_before}{}; the connection was closed without opening a channel",
                    door.address,
                    door.account,
                    if inner.krl.is_delivered() { " or it stands in the revocation list" } else { "" },
                );
                return Ok(Verdict { finding: Finding::Failed, said_by: SaidBy::Target, detail });
            }
            Found::Unclear { why, hung_up, .. } => {
                pace.last_failed = Some(Instant::now());
                if hung_up && pace.offers > 1 {
                    // Perhaps it takes fewer keys on one connection than most do.
                    pace.offers = 1;
                    continue;
                }
                return Ok(Verdict::unknown(SaidBy::Target, why));
            }
        }
    }
    let all = plan.certificates.len();
    let earlier = plan.certificates.iter().filter(|one| one.refused_at.is_some()).count();
    let mut detail = format!(
        "{} refused {} as {}",
        door.address,
        named(plan.certificates.iter().map(|one| one.serial)),
        door.account
    );
    if earlier > 0 {
        detail.push_str(&format!(" ({earlier} of {all} in an earlier look)"));
    }
    if last.is_empty() {
        last = "beside a fresh probe certificate that was accepted".to_owned();
    }
    Ok(Verdict { finding: Finding::Proven, said_by: SaidBy::Target, detail: format!("{detail}; {last}") })
}

/// `certificate 7`, or `certificates 7, 8 and 3 more`.
fn named(serials: impl ExactSizeIterator<Item = u64>) -> String {
    let count = serials.len();
    let shown: Vec<String> = serials.take(SERIALS_SHOWN).map(|serial| serial.to_string()).collect();
    let more = match count.saturating_sub(SERIALS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("certificate{} {}{more}", if count == 1 { "" } else { "s" }, shown.join(", "))
}

/// The very certificate and key of a session.
fn credential_of(issued: &IssuedCertificate) -> Result<Credential, String> {
    let serial = issued.serial;
    let Some(seed) = &issued.seed else { return Err(format!("the key of certificate {serial} is gone")) };
    let read = || {
        let certificate = Certificate::from_openssh(&issued.certificate)?;
        let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(seed.expose())), "")?;
        Ok(Credential { certificate, key: Arc::new(key) })
    };
    read()
        .map_err(|error: russh::keys::ssh_key::Error| format!("certificate {serial} cannot be read: {error}"))
}

impl Inner {
    /// What a look needs.
    fn plan(&self, grant: GrantId, fencing: u64) -> Result<Plan, ConnectorError> {
        let state = self.site.begin_look(grant, fencing)?;
        let Some(tombstone) = &state.tombstone else { return Err(ConnectorError::Inside) };
        Ok(Plan {
            lease: self.site.held_lease(&state)?,
            tombstone_at: tombstone.at,
            provable_at: tombstone.provable_at,
            certificates: certificates(self.site.grants(), grant)?,
            proven: state.proven,
        })
    }

    /// A fresh certificate that would run nothing, its serial a leaf.
    pub(crate) fn probe_credential(
        &self,
        grant: Option<GrantId>,
        target: &str,
        principal: &str,
        source_address: &str,
    ) -> Result<Credential, ConnectorError> {
        let now = self.site.journal().now();
        let (pair, _seed) = new_keypair()?;
        let serial = new_serial()?;
        let (valid_after, valid_before) = (now.minus(self.config.clock_slack), now.plus(PROBE_WINDOW));
        let wish = Wish {
            serial,
            key_id: match grant {
                Some(grant) => format!("halligan probe grant={grant}"),
                None => "halligan probe".to_owned(),
            },
            principal,
            valid_after,
            valid_before,
            source_address,
            pty: false,
            force_command: Some(PROBE_COMMAND),
        };
        let certificate = self.authority.sign(&pair, &wish)?;
        let key = PrivateKey::new(KeypairData::Ed25519(pair), "")
            .map_err(ConnectorError::key("make a probe's key"))?;
        self.site.journal().write(NodeEvent::ProbeIssued {
            grant,
            target: target.to_owned(),
            serial,
            principal: principal.to_owned(),
            key_sha256: key_sha256(certificate.public_key())?,
            valid_after,
            valid_before,
        })?;
        Ok(Credential { certificate, key: Arc::new(key) })
    }

    fn note_refused(
        &self,
        grant: GrantId,
        batch: &[IssuedCertificate],
        at: Time,
    ) -> Result<(), ConnectorError> {
        batch.iter().try_for_each(|issued| certificate_refused(self.site.grants(), grant, issued, at))
    }
}
