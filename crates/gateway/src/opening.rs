//! Opening a session: lease, limits, disk, recording, ledger, in this order, and only then the permit. Nothing is dialled
//! before the ledger has synced the leaf of this opening.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use halligan_core::catalog::{Durability, RecordingClass};
use halligan_core::ids::{EntitlementName, GrantId, PersonId};
use halligan_core::time::Span;
use halligan_link::{Request, Response};
use halligan_recording::{Budget, Class, Record, RecordKind, RecordingMeta, RecordingWriter};
use halligan_session::control_plane::{
    BoxFuture, ClientConnection, ControlPlane, LoginProof, Person, Refusal,
};
use halligan_session::lease::Lease;
use halligan_session::node_event::NodeEvent;
use halligan_session::{CancelDesk, CancelRequest, EndReason, ScramSalt, Session};

use crate::countdown::Reading;
use crate::engine::{Engine, Gateway};
use crate::held::{Held, Wanted};
use crate::live::{Beginning, Live, Parts, with_sources};
use crate::metrics::count;
use crate::shelf::free_bytes;
use crate::spool::Slip;
use crate::threads::partition_ends;

impl ControlPlane for Gateway {
    fn knows_key(&self, openssh: &str) -> bool {
        self.engine.knows_key(openssh)
    }

    fn scram_salt(&self, login: &str) -> ScramSalt {
        self.engine.scram_salt(login)
    }

    fn login<'a>(
        &'a self,
        proof: LoginProof,
        from: &'a ClientConnection,
    ) -> BoxFuture<'a, Result<Person, Refusal>> {
        Box::pin(self.engine.login(proof, from))
    }

    fn takes_cancels(&self, desk: Weak<dyn CancelDesk>) {
        self.engine.cancels.add(desk);
    }

    fn pass_cancel(&self, request: CancelRequest) {
        self.engine.pass_cancel(request);
    }

    fn open<'a>(
        &'a self,
        person: &'a Person,
        entitlement: &'a EntitlementName,
        from: &'a ClientConnection,
    ) -> BoxFuture<'a, Result<Session, Refusal>> {
        Box::pin(async move {
            match self.engine.open(person, entitlement, from).await {
                Ok(session) => Ok(session),
                Err(refusal) => {
                    count(&self.engine.metrics.sessions_refused);
                    let what = format!("open {entitlement}");
                    let client = from.client.to_string();
                    self.engine.tell_refused(Some(person.id.clone()), &what, &client, &refusal.say);
                    Err(refusal)
                }
            }
        })
    }
}

/// A place among the live sessions. Given back when dropped, unless the session took it over.
struct Seat {
    engine: Arc<Engine>,
    grant: GrantId,
    person: PersonId,
    kept: bool,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.kept {
            self.engine.leave_seat(self.grant, &self.person);
        }
    }
}

impl Engine {
    async fn open(
        self: &Arc<Self>,
        person: &Person,
        entitlement: &EntitlementName,
        from: &ClientConnection,
    ) -> Result<Session, Refusal> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Refusal::new(EndReason::GatewayStopping.to_string()));
        }
        let (held, mut seat) = self.lease_for(person, entitlement).await?;
        let lease = held.lease();
        self.room_on_disk()?;
        let prepared = self.prepare(&held, &lease, person, from).await?;
        let slip = prepared.slip.clone();
        let opened = NodeEvent::SessionOpened {
            session: slip.session,
            grant: slip.grant,
            fencing: lease.fencing,
            person: person.id.clone(),
            entitlement: entitlement.clone(),
            recording: slip.recording,
            client: prepared.client.clone(),
            login: person.how.clone(),
        };
        let receipt = match self.journal.append(opened).await {
            Ok(receipt) => receipt,
            Err(error) => {
                self.throw_away(slip).await;
                return Err(Refusal::new(format!(
                    "This gateway cannot write its ledger: {}.",
                    with_sources(&error)
                )));
            }
        };
        let live = Live::new(Arc::clone(self), prepared);
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(live.id(), Arc::clone(&live));
        seat.kept = true;
        count(&self.metrics.sessions_opened);
        count(&self.metrics.sessions_live);
        // Whoever shut the lease meanwhile did not see this session in the list.
        if held.is_shut() {
            live.cut(EndReason::Revoked { why: String::new() });
        } else if self.stopping.load(Ordering::SeqCst) {
            live.cut(EndReason::GatewayStopping);
        }
        Ok(Session::open(receipt, Box::new(Parts(live))))
    }

    /// The lease that this person may use for this entitlement, the one that runs longest, with a place on it.
    async fn lease_for(
        self: &Arc<Self>,
        person: &Person,
        entitlement: &EntitlementName,
    ) -> Result<(Arc<Held>, Seat), Refusal> {
        let none = || {
            Refusal::new(format!(
                "There is no access to {entitlement} for you in force here. \
                 Ask with `halligan request {entitlement}`, or wait until it is active."
            ))
        };
        if !person.may_open(entitlement) {
            return Err(none());
        }
        // A person who was taken off the roster since they signed in gets nothing new.
        let known = self
            .roster()
            .is_some_and(|roster| roster.person_by_id(&person.id, String::new(), None).is_some());
        if !known {
            return Err(none());
        }
        let silent = self.clock.boot().saturating_sub(self.links.control_seen());
        let mut refusal = None;
        let usable = self.leases.usable(&person.id, entitlement, self.clock.boot());
        for held in usable.into_iter().filter(|held| person.may_use(held.grant) && self.is_genuine(held)) {
            if partition_ends(held.lease().on_partition, silent) {
                refusal.get_or_insert_with(|| Refusal::new(EndReason::ControlAway.to_string()));
            } else if self.runs(&held).await {
                match self.take_seat(&held.lease()) {
                    Ok(seat) => return Ok((held, seat)),
                    // Another grant may have a place.
                    Err(full) => refusal = Some(full),
                }
            }
        }
        Err(refusal.unwrap_or_else(none))
    }

    /// Whether the clocks, and control where they differ, let this lease be used now.
    async fn runs(&self, held: &Held) -> bool {
        let control = self.links.control();
        let now = Reading::of(&*self.clock);
        if held.weigh(now, control.is_some()) == Wanted::AskControl
            && let Some(peer) = control
            && let Ok(Response::GrantState { active, .. }) =
                peer.ask(Request::IsGrantActive { grant: held.grant }).await
        {
            held.heard(active, self.clock.boot());
            held.weigh(Reading::of(&*self.clock), true);
        }
        !held.over(self.clock.boot())
    }

    fn take_seat(self: &Arc<Self>, lease: &Lease) -> Result<Seat, Refusal> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let of_person = seats.by_person.get(&lease.person).copied().unwrap_or(0);
        let of_grant = seats.by_grant.get(&lease.grant).copied().unwrap_or(0);
        if seats.all >= self.options.most_sessions {
            return Err(Refusal::new(
                "This gateway carries as many sessions as it may. Use another gateway.",
            ));
        }
        if of_person >= self.options.most_sessions_per_person {
            return Err(Refusal::new(format!("You have {of_person} sessions open; close one first.")));
        }
        if of_grant >= lease.most_sessions as usize {
            return Err(Refusal::new(format!(
                "This grant allows {of_grant} sessions at one time; close one first."
            )));
        }
        seats.all += 1;
        *seats.by_person.entry(lease.person.clone()).or_default() += 1;
        *seats.by_grant.entry(lease.grant).or_default() += 1;
        Ok(Seat { engine: Arc::clone(self), grant: lease.grant, person: lease.person.clone(), kept: false })
    }

    fn room_on_disk(&self) -> Result<(), Refusal> {
        let low = "This gateway's disk is nearly full, so it could not record you. Use another gateway.";
        match free_bytes(self.spool.folder()) {
            Ok(free) if free >= self.options.disk_reserve_bytes => {}
            Ok(_) => return Err(Refusal::new(low)),
            Err(error) => {
                return Err(Refusal::new(format!("This gateway cannot tell how full its disk is: {error}.")));
            }
        }
        self.shelf.take_reserve().map_err(|_| Refusal::new(low))
    }

    /// The recording, with its first record and its slip, synced.
    async fn prepare(
        self: &Arc<Self>,
        held: &Arc<Held>,
        lease: &Arc<Lease>,
        person: &Person,
        from: &ClientConnection,
    ) -> Result<Beginning, Refusal> {
        let cannot = |why: String| {
            Refusal::new(format!("This session could not be recorded, so it is not opened: {why}."))
        };
        if lease.recipients.is_empty() {
            return Err(cannot("the lease names nobody who may open the recording".to_owned()));
        }
        let recipients = lease
            .recipients
            .iter()
            .map(|text| text.parse::<halligan_recording::Recipient>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| cannot(error.to_string()))?;
        let mut ids = self.fresh_ids().map_err(|error| cannot(error.to_string()))?;
        let slip = Slip {
            recording: ids.make(),
            session: ids.make(),
            grant: lease.grant,
            ledger_from: self.journal.size(),
            finished: None,
        };
        let opened_at = self.journal.now();
        let opened_boot = self.clock.boot();
        let client = from.client.to_string();
        let first = Record::new(
            0,
            RecordKind::SessionStart {
                metadata: metadata(lease, &slip, person, from, opened_at).to_string(),
            },
        );
        let meta = RecordingMeta {
            recording_id: slip.recording.to_string(),
            session_id: slip.session.to_string(),
            class: match lease.recording.class {
                RecordingClass::Readable => Class::Readable,
                RecordingClass::Sealed => Class::Sealed,
            },
            started_at_micros: opened_at.micros().unsigned_abs(),
        };
        let budget = Budget { spool_bytes: lease.recording.spool_budget_bytes };
        let durability = match lease.recording.durability {
            Durability::Ordinary => halligan_recording::Durability::Windowed,
            Durability::Strict => halligan_recording::Durability::Strict,
        };
        let (engine, kept) = (Arc::clone(self), slip.clone());
        let made = tokio::task::spawn_blocking(move || {
            engine.spool.put_first(&kept).map_err(|error| with_sources(&error))?;
            let make = || {
                let mut writer =
                    RecordingWriter::create(engine.spool.folder(), meta, &recipients, budget, durability)?;
                writer.write(&first)?;
                Ok(writer)
            };
            make().map_err(|error: halligan_recording::RecordingError| {
                // Nothing happened in it: it must not look like a lost one.
                let _ = engine.spool.remove(kept.recording);
                with_sources(&error)
            })
        })
        .await
        .map_err(|_| cannot("the gateway is stopping".to_owned()))?;
        let writer = made.map_err(cannot)?;
        Ok(Beginning { held: Arc::clone(held), slip, writer, client, opened_at, opened_boot })
    }

    /// A recording of a session that was never opened.
    async fn throw_away(self: &Arc<Self>, slip: Slip) {
        let engine = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || engine.spool.remove(slip.recording)).await;
        if let Ok(Err(error)) = done {
            tracing::warn!("{}", with_sources(&error));
        }
    }
}

fn metadata(
    lease: &Lease,
    slip: &Slip,
    person: &Person,
    from: &ClientConnection,
    opened_at: halligan_core::time::Time,
) -> serde_json::Value {
    let left: Span = lease.deadline.since(opened_at);
    serde_json::json!({
        "session": slip.session,
        "grant": slip.grant,
        "recording": slip.recording,
        "person": person.id,
        "person_name": person.name,
        "login": person.how,
        "client": from.client.to_string(),
        "gateway": from.gateway,
        "entitlement": lease.entitlement,
        "system": lease.target.system,
        "account": lease.target.account,
        "address": lease.target.address,
        "incident": lease.incident,
        "emergency": lease.emergency,
        "reason": lease.reason,
        "opened_at": opened_at.to_string(),
        "deadline": lease.deadline.to_string(),
        "left": left.to_string(),
    })
}
