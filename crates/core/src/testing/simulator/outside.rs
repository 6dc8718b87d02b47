//! The world outside: gateways and connectors as simple machines that obey leases, deadlines and fencing numbers, and
//! what is on its way between them and control.

use std::collections::{BTreeMap, VecDeque};

use crate::catalog::StatementClass;
use crate::command::Command;
use crate::ids::{GrantId, Name, SessionId};
use crate::proof::{Evidence, Finding};
use crate::testing::organisation::name;
use crate::testing::story::evidence;
use crate::time::{Span, Time};

/// How long a credential that was made opens the door.
const LOGIN_WINDOW: Span = Span::seconds(60);

/// A clock that is a little off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Skew(pub i64);

impl Skew {
    /// What it shows at this true time.
    pub const fn shows(self, now: Time) -> Time {
        Time::from_micros(now.micros().saturating_add(self.0))
    }
    /// The true time at which it shows this.
    pub const fn reaches(self, shown: Time) -> Time {
        Time::from_micros(shown.micros().saturating_sub(self.0))
    }
}

/// What a connector knows of one grant.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// The highest number seen.
    pub highest: u64,
    /// Credentials can be made.
    pub open: bool,
    /// The last credential opens until then (true time).
    pub credential_until: Time,
    /// A tombstone, provable from then on (its clock).
    pub tombstone: Option<Time>,
}

/// Makes and ends credentials at targets.
#[derive(Clone, Debug, Default)]
pub struct Connector {
    /// Its clock.
    pub skew: Skew,
    /// By grant.
    pub doors: BTreeMap<GrantId, Door>,
    /// Broken on purpose: takes any number.
    pub ignores_fencing: bool,
}

impl Connector {
    /// Opens the door, if this is not an old message.
    pub fn activate(&mut self, grant: GrantId, fencing: u64) -> bool {
        let ignores = self.ignores_fencing;
        let door = self.doors.entry(grant).or_default();
        if !ignores && (fencing < door.highest || door.tombstone.is_some()) {
            return false;
        }
        door.highest = door.highest.max(fencing);
        door.open = true;
        true
    }

    /// Shuts it for ever; says from when that can be proved.
    pub fn deactivate(&mut self, now: Time, grant: GrantId, fencing: u64) -> Option<Time> {
        let door = self.doors.entry(grant).or_default();
        if fencing < door.highest {
            return None;
        }
        door.highest = fencing;
        door.open = false;
        let window = self.skew.shows(door.credential_until);
        Some(*door.tombstone.get_or_insert(self.skew.shows(now).max(window)))
    }

    /// Tries the old credential and a fresh one.
    /// `sees` is what the target lets be seen, out of ten: mostly the truth, sometimes nothing, sometimes an old state.
    pub fn look(&self, now: Time, grant: GrantId, sees: u64) -> Evidence {
        let finding = match sees {
            _ if self.opens(now, grant) => Finding::Failed,
            0 => Finding::Failed,
            1 | 2 => Finding::Unknown,
            _ => Finding::Proven,
        };
        evidence(self.skew.shows(now), finding)
    }

    /// Would a login succeed?
    pub fn opens(&self, now: Time, grant: GrantId) -> bool {
        self.doors.get(&grant).is_some_and(|door| door.open || now < door.credential_until)
    }

    /// Makes a credential for a session.
    pub fn issue(&mut self, now: Time, grant: GrantId) -> bool {
        match self.doors.get_mut(&grant).filter(|door| door.open) {
            Some(door) => {
                door.credential_until = now.plus(LOGIN_WINDOW);
                true
            }
            None => false,
        }
    }
}

/// A lease in a gateway's hand.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Its number.
    pub fencing: u64,
    /// When it ends, in true time: what is left of it, or its deadline by the gateway's clock, whichever is first.
    pub until: Time,
}

/// A session that goes on.
#[derive(Clone, Debug)]
pub struct Live {
    /// Its grant.
    pub grant: GrantId,
    /// Ends with its lease.
    pub until: Time,
    /// Statements that were ever held in it.
    pub last_hold: u32,
    /// Those that wait, and until when, in true time.
    pub waiting: BTreeMap<u32, Time>,
}

/// Lets people in under leases.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Its name.
    pub name: Name,
    /// Its clock.
    pub skew: Skew,
    /// Leases that it holds.
    pub leases: BTreeMap<GrantId, Held>,
    /// The highest number seen of each grant.
    pub highest: BTreeMap<GrantId, u64>,
    /// Sessions that go on.
    pub live: BTreeMap<SessionId, Live>,
    /// What its ledger says and control has not heard yet, in order.
    pub reports: VecDeque<Command>,
    /// Held statements that it let pass.
    pub passed: Vec<(SessionId, u32)>,
    /// Broken on purpose: lets held statements pass when nobody has answered.
    pub passes_unasked: bool,
    /// The report that was delivered last, which may come twice.
    pub repeated: Option<Command>,
}

impl Gateway {
    /// A gateway without leases.
    pub fn new(id: &str, skew: Skew) -> Self {
        Self {
            name: name(id),
            skew,
            leases: BTreeMap::new(),
            highest: BTreeMap::new(),
            live: BTreeMap::new(),
            reports: VecDeque::new(),
            passed: Vec::new(),
            passes_unasked: false,
            repeated: None,
        }
    }

    /// Takes a lease, if it is not older than what it knows.
    pub fn put(&mut self, now: Time, grant: GrantId, fencing: u64, deadline: Time, remaining: Span) {
        if fencing < self.highest.get(&grant).copied().unwrap_or(0) {
            return;
        }
        self.highest.insert(grant, fencing);
        let until = now.plus(remaining).min(self.skew.reaches(deadline));
        if until <= now {
            return;
        }
        self.leases.insert(grant, Held { fencing, until });
        for live in self.live.values_mut().filter(|live| live.grant == grant) {
            live.until = until;
        }
        self.reports.push_back(Command::ReportLeaseHeld { grant, fencing, gateway: self.name.clone() });
    }

    /// Ends a lease and what goes on under it.
    pub fn revoke(&mut self, now: Time, grant: GrantId, fencing: u64) {
        let highest = self.highest.entry(grant).or_default();
        if fencing < *highest {
            return;
        }
        *highest = fencing;
        self.let_go(now, grant, fencing, "revoked");
    }

    fn let_go(&mut self, now: Time, grant: GrantId, fencing: u64, why: &str) {
        self.leases.remove(&grant);
        let ended: Vec<SessionId> =
            self.live.iter().filter(|(_, live)| live.grant == grant).map(|(id, _)| *id).collect();
        for session in &ended {
            self.end(now, *session, why);
        }
        let sessions_ended = ended.len() as u32;
        let gateway = self.name.clone();
        self.reports.push_back(Command::ReportLeaseEnded { grant, fencing, gateway, sessions_ended });
    }

    /// A statement waits for a second person.
    pub fn hold(&mut self, now: Time, session: SessionId, limit: Span) {
        let Some(live) = self.live.get_mut(&session) else { return };
        live.last_hold += 1;
        let hold = live.last_hold;
        live.waiting.insert(hold, now.plus(limit));
        let at = self.skew.shows(now);
        let text = format!("drop table orders_{hold}");
        let class = StatementClass::Schema;
        self.reports.push_back(Command::ReportStatementHeld {
            session,
            hold,
            class,
            sha256: crate::node_event::held_statement_digest(class, &text, None),
            text,
            parameters: None,
            at,
            until: at.plus(limit),
        });
    }

    /// A second person answered, if it still waits.
    pub fn release(&mut self, now: Time, session: SessionId, hold: u32, allow: bool, by: &str) {
        let waits = self.live.get_mut(&session).and_then(|live| live.waiting.get(&hold));
        if waits.is_some_and(|until| now < *until) {
            self.settle(session, hold, allow, by);
        }
    }

    fn settle(&mut self, session: SessionId, hold: u32, allowed: bool, by: &str) {
        if let Some(live) = self.live.get_mut(&session) {
            live.waiting.remove(&hold);
        }
        if allowed {
            self.passed.push((session, hold));
        }
        let (by, reason) = (by.to_owned(), String::new());
        self.reports.push_back(Command::ReportStatementSettled { session, hold, allowed, by, reason });
    }

    /// Ends one session; its recording follows.
    pub fn end(&mut self, now: Time, session: SessionId, why: &str) {
        let Some(live) = self.live.get(&session) else { return };
        let waiting: Vec<u32> = live.waiting.keys().copied().collect();
        // A gateway that crashes settles nothing.
        for hold in waiting.into_iter().filter(|_| why != "crash") {
            self.settle(session, hold, false, "");
        }
        self.live.remove(&session);
        let at = self.skew.shows(now);
        self.reports.push_back(Command::ReportSessionEnded { session, reason: why.to_owned(), at });
        let sha256 = format!("{:064x}", session.bits());
        self.reports.push_back(Command::ReportRecordingFinished {
            session,
            bytes: 1000,
            frames: 3,
            chain_head: sha256.clone(),
            sha256,
            complete: why != "crash",
        });
    }

    /// Time passes: what has reached its deadline ends at it, whatever control does.
    pub fn pass(&mut self, to: Time) {
        let over: Vec<(GrantId, Held)> =
            self.leases.iter().filter(|(_, held)| held.until <= to).map(|(id, held)| (*id, *held)).collect();
        for (grant, held) in over {
            self.let_go(held.until, grant, held.fencing, "deadline");
        }
        let late: Vec<(SessionId, u32)> = self
            .live
            .iter()
            .flat_map(|(session, live)| {
                live.waiting.iter().map(move |(hold, until)| (*session, *hold, *until))
            })
            .filter(|(_, _, until)| *until <= to)
            .map(|(session, hold, _)| (session, hold))
            .collect();
        for (session, hold) in late {
            self.settle(session, hold, self.passes_unasked, "");
        }
    }
}

/// On its way between control and the nodes.
#[derive(Clone, Debug)]
pub enum Mail {
    /// To the connector.
    Activate {
        /// Which.
        grant: GrantId,
        /// Its number.
        fencing: u64,
    },
    /// To the connector.
    Deactivate {
        /// Which.
        grant: GrantId,
        /// Its number.
        fencing: u64,
    },
    /// To the connector.
    Look {
        /// Which.
        grant: GrantId,
        /// Its number.
        fencing: u64,
    },
    /// To a gateway.
    Put {
        /// Which gateway.
        gateway: usize,
        /// Which.
        grant: GrantId,
        /// Its number.
        fencing: u64,
        /// When access ends, by control's clock.
        deadline: Time,
        /// What is left of it.
        remaining: Span,
    },
    /// To a gateway.
    Revoke {
        /// Which gateway.
        gateway: usize,
        /// Which.
        grant: GrantId,
        /// Its number.
        fencing: u64,
    },
    /// To a gateway.
    Kill {
        /// Which gateway.
        gateway: usize,
        /// Which.
        session: SessionId,
    },
    /// To a gateway.
    Release {
        /// Which gateway.
        gateway: usize,
        /// Which.
        session: SessionId,
        /// Its number there.
        hold: u32,
        /// It may pass.
        allow: bool,
        /// Who says so.
        by: String,
    },
    /// To control, from the connector.
    Report(Command),
}
