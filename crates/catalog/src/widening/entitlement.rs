//! Systems and what one may do on them.

use std::collections::BTreeMap;

use halligan_core::catalog::{
    Catalog, Durability, Durations, Entitlement, OnPartition, PostgresCapabilities, PostgresTarget,
    ProofPolicy, RecordingPolicy, Sensitivity, SshCapabilities, StatementClass, System,
};
use halligan_core::ids::Name;

use super::Wider;

pub(super) fn system(
    wider: &mut Wider,
    old_catalog: &Catalog,
    new_catalog: &Catalog,
    old: Option<&System>,
    new: Option<&System>,
) {
    // Without a system nobody gets in there.
    let Some(now) = new else { return };
    wider.about(format!("system:{}", now.name));
    let Some(before) = old else { return wider.say("a new system that people can get into") };
    let mut known = before.clone();
    known.meaning.clone_from(&now.meaning);
    wider.more("owns it", &before.owner, &now.owner);
    known.owner.clone_from(&now.owner);
    wider.more("trusts the host key", &before.host_keys, &now.host_keys);
    known.host_keys.clone_from(&now.host_keys);
    target(wider, before.postgres.as_ref(), now.postgres.as_ref());
    known.postgres.clone_from(&now.postgres);
    wider.when(
        before.labels != now.labels,
        "its labels change, and with them the profiles and scenarios that cover it",
    );
    known.labels.clone_from(&now.labels);
    wider.when(before.address != now.address, format!("it is at {} now", now.address));
    known.address.clone_from(&now.address);
    for (role, after) in &now.entitlements {
        wider.about(format!("{}/{role}", now.name));
        entitlement(wider, old_catalog, new_catalog, before.entitlements.get(role), after);
    }
    wider.about(format!("system:{}", now.name));
    for role in before.entitlements.keys().filter(|role| !now.entitlements.contains_key(*role)) {
        role_removed(wider, new_catalog, role);
    }
    known.entitlements.clone_from(&now.entitlements);
    wider.when(known != *now, "its kind, site or policies change");
}

/// An entitlement is gone, and a profile's of that role may take its place.
pub(super) fn role_removed(wider: &mut Wider, catalog: &Catalog, role: &Name) {
    let other = catalog.profiles.iter().find(|(_, profile)| profile.entitlements.contains_key(role));
    if let Some((name, _)) = other {
        wider.say(format!("without its own {role}, that of profile {name} may hold"));
    }
}

pub(super) fn entitlement(
    wider: &mut Wider,
    old_catalog: &Catalog,
    new_catalog: &Catalog,
    old: Option<&Entitlement>,
    new: &Entitlement,
) {
    let Some(old) = old else { return wider.say("a new entitlement") };
    if old == new && old.sensitivity.is_none() {
        return;
    }
    let mut known = old.clone();
    known.meaning.clone_from(&new.meaning);
    known.subsystem.clone_from(&new.subsystem);
    wider.more("may ask for it", &old.requested_by, &new.requested_by);
    known.requested_by.clone_from(&new.requested_by);
    // The class's own changes show there.
    if old.sensitivity != new.sensitivity {
        let before = class(old_catalog, old.sensitivity.as_ref());
        let after = class(new_catalog, new.sensitivity.as_ref());
        let stricter = (before.automatic_approval || !after.automatic_approval)
            && after.distinct_approvers >= before.distinct_approvers;
        wider.when(!stricter, "its class is less strict");
    }
    known.sensitivity.clone_from(&new.sensitivity);
    wider.when(new.emergency && !old.emergency, "it can be asked for in an emergency");
    known.emergency = new.emergency;
    wider.when(old.emergency_only && !new.emergency_only, "it can be asked for in everyday use");
    known.emergency_only = new.emergency_only;
    durations(wider, "", &old.durations, &new.durations);
    known.durations = new.durations.clone();
    emergency_durations(wider, &old.emergency_durations, &new.emergency_durations);
    known.emergency_durations.clone_from(&new.emergency_durations);
    // The first pattern narrows; any other change may not.
    if old.link_pattern.is_none() {
        known.link_pattern.clone_from(&new.link_pattern);
    }
    recording(wider, &old.recording, &new.recording);
    known.recording = new.recording.clone();
    capabilities(wider, &old.ssh, &new.ssh);
    known.ssh = new.ssh.clone();
    database(wider, &old.postgres, &new.postgres);
    known.postgres = new.postgres.clone();
    proof(wider, &old.proof, &new.proof);
    known.proof = new.proof.clone();
    let keeps = match (old.on_partition, new.on_partition) {
        (OnPartition::EndAfter(old), OnPartition::EndAfter(new)) => new > old,
        (OnPartition::EndAfter(_), OnPartition::Keep) => true,
        (OnPartition::Keep, _) => false,
    };
    wider.when(keeps, "sessions are kept longer while control is away");
    known.on_partition = new.on_partition;
    let idles = match (old.idle_limit, new.idle_limit) {
        (Some(old), Some(new)) => new > old,
        (Some(_), None) => true,
        (None, _) => false,
    };
    wider.when(idles, "idle sessions live longer");
    known.idle_limit = new.idle_limit;
    wider.when(new.shared_account && !old.shared_account, "its account is shared with others");
    known.shared_account = new.shared_account;
    wider.when(known != *new, "its account, policy, plane, step or link pattern changes");
}

fn class(catalog: &Catalog, name: Option<&Name>) -> Sensitivity {
    name.and_then(|name| catalog.sensitivities.get(name)).cloned().unwrap_or_default()
}

fn durations(wider: &mut Wider, at: &str, old: &Durations, new: &Durations) {
    let Durations { default: _, longest: _, extensions: _, ceiling: _ } = new;
    for (what, old, new) in [
        ("default", old.default, new.default),
        ("longest", old.longest, new.longest),
        ("ceiling", old.ceiling, new.ceiling),
    ] {
        wider.when(new > old, format!("its {what} duration{at} is longer: {old} → {new}"));
    }
    wider.when(
        new.extensions > old.extensions,
        format!("more extensions{at}: {} → {}", old.extensions, new.extensions),
    );
}

fn emergency_durations(wider: &mut Wider, old: &BTreeMap<Name, Durations>, new: &BTreeMap<Name, Durations>) {
    for (severity, now) in new {
        match old.get(severity) {
            Some(before) => durations(wider, &format!(" at {severity}"), before, now),
            None => wider.say(format!("durations of its own at {severity}")),
        }
    }
    for severity in old.keys().filter(|severity| !new.contains_key(*severity)) {
        wider.say(format!("the standard durations hold at {severity}"));
    }
}

fn recording(wider: &mut Wider, old: &RecordingPolicy, new: &RecordingPolicy) {
    if old == new {
        return;
    }
    let mut known = old.clone();
    if new.durability == Durability::Strict {
        known.durability = new.durability;
    }
    if new.input {
        known.input = true;
    }
    known.keep_content_bytes = old.keep_content_bytes.max(new.keep_content_bytes);
    known.spool_budget_bytes = new.spool_budget_bytes;
    wider.when(known != *new, "less is recorded, or somebody else may see it");
}

fn capabilities(wider: &mut Wider, old: &SshCapabilities, new: &SshCapabilities) {
    let SshCapabilities { shell: _, exec: _, sftp: _ } = new;
    for (what, old, new) in
        [("shell", old.shell, new.shell), ("exec", old.exec, new.exec), ("sftp", old.sftp, new.sftp)]
    {
        wider.when(new && !old, format!("{what} is allowed"));
    }
}

fn target(wider: &mut Wider, old: Option<&PostgresTarget>, new: Option<&PostgresTarget>) {
    let Some(new) = new else { return };
    let none = PostgresTarget::default();
    let old = old.unwrap_or(&none);
    let PostgresTarget { databases: _, server_ca: _, server_name: _ } = new;
    wider.more("sessions may open database", &old.databases, &new.databases);
    wider.when(
        (&old.server_ca, &old.server_name) != (&new.server_ca, &new.server_name),
        "another server may be taken for it: its certificate's signer or name changes",
    );
}

fn database(wider: &mut Wider, old: &PostgresCapabilities, new: &PostgresCapabilities) {
    let PostgresCapabilities {
        databases: _,
        read_only: _,
        replication: _,
        function_calls: _,
        connections: _,
        parameters: _,
        results: _,
        statements: _,
        hold_limit: _,
        hold_in_transaction: _,
        activation: _,
        direct_path_waiver: _,
    } = new;
    match (old.databases.is_empty(), new.databases.is_empty()) {
        (true, _) => {}
        (false, true) => wider.say("every database of the system may be opened"),
        (false, false) => wider.more("it may open database", &old.databases, &new.databases),
    }
    wider.when(old.read_only && !new.read_only, "it is not read-only any more");
    for (what, old, new) in [
        ("replication", old.replication, new.replication),
        ("function calls", old.function_calls, new.function_calls),
    ] {
        wider.when(new && !old, format!("{what} is allowed"));
    }
    wider.when(
        new.connections > old.connections,
        format!("more connections: {} → {}", old.connections, new.connections),
    );
    wider.when(old.parameters && !new.parameters, "parameters of statements are not kept any more");
    wider.when(old.results != new.results, "which rows of results are kept changes");
    for class in StatementClass::ALL {
        let (before, after) = (old.statements.of(class), new.statements.of(class));
        wider.when(after > before, format!("statements of class {class} pass more easily"));
    }
    wider.when(
        new.hold_limit > old.hold_limit || new.hold_in_transaction > old.hold_in_transaction,
        "statements may be held longer",
    );
    wider.when(old.activation != new.activation, "how its grants come to life changes");
    wider.when(
        new.direct_path_waiver.is_some() && old.direct_path_waiver != new.direct_path_waiver,
        "the way past the gateways may stay open",
    );
}

fn proof(wider: &mut Wider, old: &ProofPolicy, new: &ProofPolicy) {
    let ProofPolicy { checks: _, revocation_list: _, login_window: _ } = new;
    wider.fewer("the end of access is not proved any more by", &old.checks, &new.checks);
    wider.when(
        new.login_window > old.login_window,
        format!("certificates open the door for {}", new.login_window),
    );
    wider.when(
        old.revocation_list != new.revocation_list,
        "whether the target reads a revocation list changes",
    );
}
