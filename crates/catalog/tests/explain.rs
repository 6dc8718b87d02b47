//! Explanations of the sample catalog: what happens if …, and who could get in.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use halligan_catalog::{
    Ask, BypassWay, Explanation, Loaded, Outcome, Systems, Way, explain_ask, explain_who, load_folder,
};
use halligan_core::catalog::ResolvedEntitlement;
use halligan_core::ids::{EntitlementName, Name};
use halligan_core::request::Mode;
use halligan_core::standing::Standing;
use halligan_core::time::{Span, Time};

/// 2026-11-22, noon: a Sunday.
const NOW: Time = Time::from_micros(1_795_348_800_000_000);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn sample() -> Loaded {
    load_folder(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/catalog")).unwrap()
}

fn resolved(loaded: &Loaded, entitlement: &str) -> ResolvedEntitlement {
    let entitlement: EntitlementName = entitlement.parse().unwrap();
    let system = loaded.systems.find(&entitlement.system).unwrap().unwrap();
    loaded.catalog.resolve(&system, &entitlement.role).unwrap()
}

fn ask(person: &str, severity: &str, scenario: &str) -> Ask {
    Ask {
        person: name(person),
        mode: Mode::Emergency,
        severity: Some(name(severity)),
        scenario: Some(name(scenario)),
        duration: None,
        severity_attested: false,
    }
}

fn explained(entitlement: &str, ask: &Ask, standing: Option<&Standing>) -> Explanation {
    let loaded = sample();
    explain_ask(&loaded.catalog, &resolved(&loaded, entitlement), ask, NOW, standing).unwrap()
}

fn people(explanation: &Explanation) -> Vec<String> {
    explanation
        .steps
        .iter()
        .map(|step| step.people.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn customers_data_needs_two_distinct_approvers() {
    let found = explained("orders-host/root", &ask("anna", "sev1", "critical-downtime"), None);
    assert_eq!(found.outcome, Outcome::Waits);
    assert_eq!(people(&found), ["carla mara", "dmitri"]);
    assert_eq!(found.distinct_approvers, 2);
    assert_eq!(found.bypass, Some(BypassWay::After(Span::ZERO)));
    let text = found.to_string();
    for said in [
        "waits for people, by policy emergency-two-approvers",
        "step system: 1 of carla, mara; after 10m others are asked as well",
        "for 1h; at most 2h at a time, 6h in all",
        "needs: confirm: Customers are affected now",
        "needs: say why a lower step of the ladder is not enough",
        "then: an incident is opened",
        "bypass: takes effect at once, loudly",
    ] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
}

#[test]
fn sev1_on_the_shop_is_granted_at_once_and_reviewed() {
    let found = explained("shop-host/operate", &ask("anna", "sev1", "critical-downtime"), None);
    assert_eq!(found.outcome, Outcome::AtOnce);
    assert!(found.follows.iter().any(|text| text.starts_with("a review (retroactive approval)")), "{found}");
    let found = explained("shop-host/operate", &ask("anna", "sev2", "critical-downtime"), None);
    assert_eq!((found.outcome.clone(), people(&found)), (Outcome::Waits, vec!["carla mara".to_owned()]));
    let long = Ask { duration: Some(Span::hours(2)), ..ask("anna", "sev1", "critical-downtime") };
    assert_eq!(explained("shop-host/operate", &long, None).outcome, Outcome::AtOnce);
    let longer = Ask { duration: Some(Span::hours(3)), ..long };
    assert!(matches!(explained("shop-host/operate", &longer, None).outcome, Outcome::Refused(_)));
}

#[test]
fn what_is_remembered_of_a_person_counts() {
    let mut standing = Standing::new(name("anna"));
    standing.automatic = vec![NOW.minus(Span::hours(1)); 3];
    let found = explained("shop-host/operate", &ask("anna", "sev1", "critical-downtime"), Some(&standing));
    assert_eq!(found.outcome, Outcome::Waits, "three times today: a person must approve");
}

#[test]
fn refusals_are_in_the_cores_words() {
    let found = explained("orders-host/root", &ask("ava", "sev1", "critical-downtime"), None);
    assert!(matches!(found.outcome, Outcome::Refused(_)));
    assert!(found.to_string().contains("ava is not among those who may ask for orders-host/root"), "{found}");
    let found = explained("orders-host/root", &ask("anna", "sev3", "critical-downtime"), None);
    assert!(found.to_string().contains("scenario critical-downtime is not for sev3"), "{found}");
    let standard =
        Ask { mode: Mode::Standard, severity: None, scenario: None, ..ask("anna", "sev1", "db-locked") };
    let found = explained("orders-host/root", &standard, None);
    assert!(found.to_string().contains("only in an emergency"), "{found}");
}

#[test]
fn an_attested_severity_is_told_as_the_way() {
    let mut loaded = sample();
    let policy = loaded.catalog.policies.get_mut("emergency-at-once").unwrap();
    let automatic = policy.rules.first_mut().unwrap().automatic.as_mut().unwrap();
    automatic.severity = halligan_core::catalog::SeverityWord::Attested;
    let resolved = resolved(&loaded, "shop-host/operate");
    let ask = ask("anna", "sev1", "critical-downtime");
    let found = explain_ask(&loaded.catalog, &resolved, &ask, NOW, None).unwrap();
    assert_eq!(found.outcome, Outcome::Waits);
    assert!(found.to_string().contains("if somebody else, or an alert source, vouches"), "{found}");
}

#[test]
fn who_could_get_in_is_told_by_way() {
    let loaded = sample();
    let found = explain_who(&loaded.catalog, &resolved(&loaded, "shop-host/operate"), NOW).unwrap();
    let row = |wanted: fn(&Way) -> bool| {
        found.rows.iter().find(|row| wanted(&row.way)).unwrap_or_else(|| panic!("{found}"))
    };
    assert_eq!(row(|way| *way == Way::AtOnce).people, [name("anna"), name("ben")]);
    assert!(
        row(|way| matches!(way, Way::Bypass { .. }))
            .cases
            .contains(&(Some(name("sev2")), Some(name("critical-downtime"))))
    );
    let text = found.to_string();
    assert!(text.contains("standard use"), "{text}");
    assert!(text.contains("approved by 1 of carla, mara (lead)"), "{text}");
    let found = explain_who(&loaded.catalog, &resolved(&loaded, "orders-host/root"), NOW).unwrap();
    let said = found.to_string();
    assert!(!said.contains("standard use") && !said.contains("at once, by policy"), "{said}");
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<halligan_catalog::WhoExplanation>(&json).unwrap(), found);
}
