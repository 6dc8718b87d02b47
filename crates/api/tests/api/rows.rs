//! Every call with words that fit, so that what comes back is about rights and not about words.

use crate::world::World;

/// One call.
pub struct Row {
    pub method: &'static str,
    /// As the OpenAPI text has it.
    pub path: &'static str,
    /// With the world's own ids.
    pub concrete: String,
    /// `{totp}` stands for the caller's code.
    pub body: Option<String>,
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJpUFXQhKqgh0HFzlnK75OugcOGzcMS9OWb97ITHTpcv";
const CLIENT_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEXg0SwWd6hNS07hcT/GQoXsyOP/DJ\nU6cJWdt3sDisjLL0SX+x/+4WKgIbJYz0g8+nwx3+cl06BcEavbC/bvSXrA==\n-----END PUBLIC KEY-----\n";

/// All calls of the API, in order of path.
pub fn rows(world: &World) -> Vec<Row> {
    let facts = &world.facts;
    let (grant, session, pending) = (facts.grant, facts.session, facts.pending);
    let (review, ended, readable) = (facts.review, facts.ended, facts.readable);
    let tomorrow = facts.clock + 86_400_000_000;
    let version = facts.pending_version;
    let get = |path: &'static str, concrete: String| Row { method: "GET", path, concrete, body: None };
    let post = |path: &'static str, concrete: String, body: serde_json::Value| Row {
        method: "POST",
        path,
        concrete,
        body: Some(body.to_string()),
    };
    let totp = serde_json::json!({"totp": "{totp}"});
    let nothing = serde_json::json!({});
    let reason = serde_json::json!({"reason": "it must end", "totp": "{totp}"});
    let words = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let ghost = "chg_00000000000000000000000000";
    vec![
        post("/alerts/test", "/alerts/test".into(), nothing.clone()),
        post(
            "/api-tokens",
            "/api-tokens".into(),
            words(r#"{"label": "x", "scopes": ["read"], "lifetime": "1d", "totp": "{totp}"}"#),
        ),
        get("/batches/{id}", "/batches/bat_00000000000000000000000000".into()),
        post(
            "/batches/{id}/approve",
            "/batches/bat_00000000000000000000000000/approve".into(),
            words(r#"{"requests": [], "totp": "{totp}"}"#),
        ),
        get("/catalog", "/catalog".into()),
        post(
            "/catalog/apply",
            "/catalog/apply".into(),
            words(r#"{"catalog": {"organisation": "Other"}, "totp": "{totp}"}"#),
        ),
        post("/catalog/check-live", "/catalog/check-live".into(), nothing.clone()),
        get("/catalog/entitlements", "/catalog/entitlements".into()),
        get("/catalog/proposals/{id}", format!("/catalog/proposals/{ghost}")),
        post("/catalog/proposals/{id}/confirm", format!("/catalog/proposals/{ghost}/confirm"), totp.clone()),
        post(
            "/catalog/proposals/{id}/reject",
            format!("/catalog/proposals/{ghost}/reject"),
            words(r#"{"reason": "no"}"#),
        ),
        post("/catalog/rollback", "/catalog/rollback".into(), words(r#"{"version": 7, "totp": "{totp}"}"#)),
        get("/catalog/scenarios", "/catalog/scenarios".into()),
        get("/catalog/systems", "/catalog/systems".into()),
        post("/catalog/systems", "/catalog/systems".into(), words("{}")),
        get("/checkpoint", "/checkpoint".into()),
        post(
            "/client-certificate",
            "/client-certificate".into(),
            serde_json::json!({"public_key": CLIENT_KEY}),
        ),
        post(
            "/connect-passwords",
            "/connect-passwords".into(),
            words(r#"{"entitlement": "orders-db/operate"}"#),
        ),
        post("/enrolment/begin", "/enrolment/begin".into(), words(r#"{"secret": "enrol_00"}"#)),
        post(
            "/enrolment/finish",
            "/enrolment/finish".into(),
            words(r#"{"secret": "enrol_00", "password": "correct horse battery", "totp": "000000"}"#),
        ),
        post("/enrolments/{id}/confirm", "/enrolments/0000000000000000/confirm".into(), totp.clone()),
        get("/gateways", "/gateways".into()),
        get("/grants", "/grants?which=all".into()),
        get("/grants/{id}", format!("/grants/{grant}")),
        post(
            "/grants/{id}/extend",
            format!("/grants/{grant}/extend"),
            words(r#"{"duration": "30m", "reason": "not done", "totp": "{totp}"}"#),
        ),
        post("/grants/{id}/give-back", format!("/grants/{grant}/give-back"), nothing.clone()),
        post(
            "/grants/{id}/keep",
            format!("/grants/{grant}/keep"),
            serde_json::json!({"until": facts.clock + 600_000_000, "reason": "watch it", "totp": "{totp}"}),
        ),
        post("/grants/{id}/revoke", format!("/grants/{grant}/revoke"), reason.clone()),
        post("/grants/{id}/target-gone", format!("/grants/{ended}/target-gone"), reason.clone()),
        post("/grants/{id}/waive-proof", format!("/grants/{ended}/waive-proof"), reason.clone()),
        get("/incidents", "/incidents?which=all".into()),
        post("/incidents", "/incidents".into(), words(r#"{"title": "Another", "severity": "sev2"}"#)),
        get("/incidents/{id}", "/incidents/INC-1".into()),
        post(
            "/incidents/{id}/changes/{index}",
            "/incidents/INC-1/changes/0".into(),
            words(r#"{"fate": "rolled_back", "note": "put right"}"#),
        ),
        post("/incidents/{id}/close", "/incidents/INC-1/close".into(), nothing.clone()),
        post("/incidents/{id}/close-unproven", "/incidents/INC-1/close-unproven".into(), reason.clone()),
        get("/incidents/{id}/evidence", "/incidents/INC-1/evidence".into()),
        post("/incidents/{id}/links", "/incidents/INC-1/links".into(), words(r#"{"link": "OPS-1"}"#)),
        post("/incidents/{id}/mitigate", "/incidents/INC-1/mitigate".into(), nothing.clone()),
        post("/incidents/{id}/notes", "/incidents/INC-1/notes".into(), words(r#"{"text": "looking"}"#)),
        post("/incidents/{id}/reopen", "/incidents/INC-1/reopen".into(), reason.clone()),
        post(
            "/incidents/{id}/severity",
            "/incidents/INC-1/severity".into(),
            words(r#"{"severity": "sev2", "reason": "less bad"}"#),
        ),
        post("/ledger/check", "/ledger/check".into(), nothing.clone()),
        get("/ledger/{path}", "/ledger/checkpoint".into()),
        get("/live", "/live".into()),
        post("/login-certificate", "/login-certificate".into(), serde_json::json!({"public_key": KEY})),
        get("/me", "/me".into()),
        get("/metrics", "/metrics".into()),
        get("/nodes", "/nodes".into()),
        post(
            "/nodes/join-tokens",
            "/nodes/join-tokens".into(),
            words(
                r#"{"name": "gw-2", "role": "gateway", "site": "main", "lifetime": "1h", "totp": "{totp}"}"#,
            ),
        ),
        Row {
            method: "DELETE",
            path: "/nodes/{name}",
            concrete: "/nodes/gw-1".into(),
            body: Some(totp.to_string()),
        },
        post(
            "/one-time-passwords",
            "/one-time-passwords".into(),
            words(r#"{"entitlement": "orders-db/operate"}"#),
        ),
        post("/people/{id}/disable", "/people/sten/disable".into(), nothing.clone()),
        post("/people/{id}/invite", "/people/newt/invite".into(), totp.clone()),
        get("/ready", "/ready".into()),
        get("/requests", "/requests?which=all".into()),
        post(
            "/requests",
            "/requests".into(),
            words(
                r#"{"entitlements": ["sealed-db/observe"], "mode": "standard", "reason": "a look", "totp": "{totp}"}"#,
            ),
        ),
        get("/requests/{id}", format!("/requests/{pending}")),
        post(
            "/requests/{id}/approve",
            format!("/requests/{pending}/approve"),
            serde_json::json!({"version": version, "totp": "{totp}"}),
        ),
        post(
            "/requests/{id}/attest-severity",
            format!("/requests/{pending}/attest-severity"),
            nothing.clone(),
        ),
        post(
            "/requests/{id}/bypass",
            format!("/requests/{pending}/bypass"),
            words(r#"{"reason": "no time", "confirmation": "orders-db/observe", "totp": "{totp}"}"#),
        ),
        post(
            "/requests/{id}/deny",
            format!("/requests/{pending}/deny"),
            serde_json::json!({"version": version, "reason": "not now"}),
        ),
        post(
            "/requests/{id}/escalate",
            format!("/requests/{pending}/escalate"),
            words(
                r#"{"severity": "sev1", "scenario": "db-locked", "criteria_confirmed": true, "reason": "worse", "totp": "{totp}"}"#,
            ),
        ),
        post("/requests/{id}/take-back", format!("/requests/{pending}/take-back"), nothing.clone()),
        get("/requests/{id}/wait", format!("/requests/{pending}/wait?for=0s")),
        post("/requests/{id}/withdraw", format!("/requests/{pending}/withdraw"), nothing.clone()),
        get("/reviews", "/reviews?which=all".into()),
        get("/reviews/{id}", format!("/reviews/{review}")),
        post(
            "/reviews/{id}/actions",
            format!("/reviews/{review}/actions"),
            serde_json::json!({"what": "write it down", "owner": "rita", "due_at": tomorrow}),
        ),
        post(
            "/reviews/{id}/actions/{index}/done",
            format!("/reviews/{review}/actions/0/done"),
            nothing.clone(),
        ),
        post(
            "/reviews/{id}/defer",
            format!("/reviews/{review}/defer"),
            serde_json::json!({"until": tomorrow, "reason": "busy"}),
        ),
        post(
            "/reviews/{id}/judge",
            format!("/reviews/{review}/judge"),
            words(
                r#"{"classification": "genuine_emergency", "invoked_correctly": true, "too_wide": false, "approvals_timely": true, "prevention": "an index", "totp": "{totp}"}"#,
            ),
        ),
        post("/reviews/{id}/start", format!("/reviews/{review}/start"), nothing.clone()),
        post("/revoke", "/revoke".into(), words(r#"{"incident": "INC-1", "reason": "over"}"#)),
        get("/sessions", "/sessions?which=all".into()),
        get("/sessions/{id}", format!("/sessions/{session}")),
        get("/sessions/{id}/recording", format!("/sessions/{readable}/recording")),
        get("/sessions/{id}/replay", format!("/sessions/{readable}/replay?form=transcript")),
        post(
            "/sessions/{id}/statements/{hold}/allow",
            format!("/sessions/{session}/statements/1/allow"),
            reason.clone(),
        ),
        post(
            "/sessions/{id}/statements/{hold}/deny",
            format!("/sessions/{session}/statements/1/deny"),
            reason.clone(),
        ),
        post("/sessions/{id}/terminate", format!("/sessions/{session}/terminate"), reason.clone()),
        post("/sessions/{id}/waive-gap", format!("/sessions/{session}/waive-gap"), reason.clone()),
        get("/sessions/{id}/watch", format!("/sessions/{session}/watch?watch=00")),
        post("/sessions/{id}/watch", format!("/sessions/{session}/watch"), nothing.clone()),
        post(
            "/sign-in",
            "/sign-in".into(),
            words(r#"{"name": "sten", "password": "wrong wrong wrong", "totp": "{totp}"}"#),
        ),
        get("/sign-ins", "/sign-ins".into()),
        Row { method: "DELETE", path: "/sign-ins/{id}", concrete: "/sign-ins/current".into(), body: None },
        post(
            "/ssh-keys",
            "/ssh-keys".into(),
            serde_json::json!({"openssh": KEY, "label": "laptop", "totp": "{totp}"}),
        ),
        post("/ssh-keys/remove", "/ssh-keys/remove".into(), serde_json::json!({"openssh": KEY})),
        get("/status", "/status".into()),
        post("/step-up", "/step-up".into(), totp.clone()),
        get("/statements", "/statements".into()),
        get("/tasks", "/tasks".into()),
    ]
}
