//! A ledger's leaf holds 32 KiB, and no event that somebody can cause is larger, whatever script they write in.

use halligan_core::command::{Command, FileRequest};
use halligan_core::leaf::LEAF_MAX_BYTES;
use halligan_core::request::Verdict;
use halligan_core::testing::organisation::name;
use halligan_core::testing::story::{Story, answers, emergency};

/// Four bytes each in UTF-8.
fn words(count: usize) -> String {
    "𝔥".repeat(count)
}

#[test]
fn the_longest_words_fit_into_a_leaf() {
    let mut story = Story::begin();
    story.catalog(|catalog| {
        for number in 0..1000 {
            let person = name(&format!("a-lead-with-a-rather-long-name-{number}"));
            catalog.people.insert(person.clone(), Default::default());
            catalog.groups.get_mut("leads").unwrap().members.insert(person);
        }
    });
    let file = FileRequest {
        reason: words(2000),
        why_not_lower: Some(words(1000)),
        ..emergency("anna", "orders-host/operate", "sev2")
    };
    let request = story.file("anna", file).unwrap();
    let too_long =
        FileRequest { why_not_lower: Some(words(1001)), ..emergency("anna", "orders-host/root", "sev2") };
    assert!(story.file("anna", too_long).is_err());
    story
        .by(
            "anna",
            Command::Escalate {
                request,
                severity: name("sev1"),
                scenario: name("outage"),
                criteria_confirmed: true,
                incident: None,
                number: 1,
                reason: words(1000),
            },
        )
        .unwrap();
    let bypass =
        Command::Bypass { request, reason: words(2000), confirmation: "orders-host/operate".to_owned() };
    story.by("anna", bypass).unwrap();
    let grant = story.grant_of(request).unwrap();
    story.activate(grant).unwrap();
    story.by("anna", Command::GiveBack { grant }).unwrap();
    let other = story.file("ben", emergency("ben", "orders-host/operate", "sev2")).unwrap();
    let reason = Some(words(2000));
    story.by("hana", Command::Decide { request: other, verdict: Verdict::Deny, version: 1, reason }).unwrap();
    let mut answers = answers();
    answers.prevention = words(2000);
    answers.note = words(2000);
    answers.empty_activity_explained = Some(words(2000));
    let review = *story.world().reviews.keys().next().unwrap();
    story.by("pia", Command::JudgeReview { review, answers }).unwrap();
    for event in &story.history {
        let size = serde_json::to_vec(event).unwrap().len();
        assert!(size < LEAF_MAX_BYTES - 4096, "{} has {size} bytes", event.name());
    }
}
