//! Makes leases: what a gateway and a connector need to know of a grant, signed.

use halligan_core::catalog::{RecordingClass, SystemKind};
use halligan_core::grant::Grant;
use halligan_core::request::Mode;
use halligan_core::time::Time;
use halligan_session::lease::{Lease, SignedLease, Target};

use crate::control::Control;
use crate::error::ControlError;

/// Most sessions that one lease lets be open at one time.
const MOST_SESSIONS: u32 = 32;

impl Control {
    /// A lease of this grant that ends at `deadline`, signed now.
    pub async fn lease(&self, grant: &Grant, deadline: Time) -> Result<SignedLease, ControlError> {
        let in_force = self.in_force();
        let found = in_force.entitlement(self.store(), &grant.entitlement).await?;
        let resolved = found.ok_or_else(|| {
            ControlError::said(
                "make the lease",
                format!("{} is not in the catalog any more", grant.entitlement),
            )
        })?;
        let person = in_force.head.catalog.people.get(&grant.person);
        let entitlement = resolved.entitlement;
        let system = resolved.system;
        let mut recipients: Vec<String> = self.options().auditors.iter().map(ToString::to_string).collect();
        if entitlement.recording.class == RecordingClass::Readable {
            recipients.push(self.keys().playback.recipient().to_string());
        }
        let most_sessions = match system.kind {
            SystemKind::Ssh => MOST_SESSIONS,
            SystemKind::Postgres => entitlement.postgres.connections,
        };
        let issued_at = self.now();
        let lease = Lease {
            version: 1,
            grant: grant.id,
            fencing: grant.fencing,
            person: grant.person.clone(),
            person_name: person.map(|found| found.name.clone()).unwrap_or_default(),
            entitlement: grant.entitlement.clone(),
            incident: grant.incident,
            emergency: grant.mode == Mode::Emergency,
            reason: grant.reason.chars().take(500).collect(),
            target: Target {
                system: system.name,
                kind: system.kind,
                address: system.address,
                site: system.site,
                account: entitlement.account,
                host_keys: system.host_keys,
                postgres: system.postgres,
            },
            ssh: entitlement.ssh,
            postgres: entitlement.postgres,
            recording: entitlement.recording,
            recipients,
            proof: entitlement.proof,
            on_partition: entitlement.on_partition,
            idle_limit: entitlement.idle_limit,
            issued_at,
            deadline,
            remaining: deadline.since(issued_at),
            most_sessions,
            policy_digest: in_force.digest.clone(),
            approvals: Vec::new(),
        };
        SignedLease::sign(&lease, &self.keys().lease).map_err(ControlError::local("sign the lease"))
    }
}
