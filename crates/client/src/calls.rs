//! Every call of the API by name.

use std::time::Duration;

use halligan_core::ids::{BatchId, EntitlementName, GrantId, Name, PersonId, RequestId, ReviewId, SessionId};
use halligan_core::time::Span;
use zeroize::Zeroizing;

use crate::client::Client;
use crate::error::ClientError;
use crate::types::*;

type Answer<T> = Result<T, ClientError>;

/// A path with a query; only pairs that have a value are written.
fn query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value {
            text.append_pair(name, value);
        }
    }
    let text = text.finish();
    if text.is_empty() { path.to_owned() } else { format!("{path}?{text}") }
}

fn word<T: serde::Serialize>(value: &T) -> Option<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => Some(text),
        _ => None,
    }
}

fn paged(path: &str, which: Option<String>, paging: &Paging) -> String {
    let limit = paging.limit.map(|limit| limit.to_string());
    query(path, &[("which", which), ("after", paging.after.clone()), ("limit", limit)])
}

/// A path segment that somebody typed.
fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

impl Client {
    // --- signing in ---------------------------------------------------------------------------
    /// Signs in; use [`Client::with_token`] with what comes back.
    pub async fn sign_in(&self, wish: &SignInWish) -> Answer<SignedIn> {
        self.post("sign-in", wish).await
    }
    /// The caller's sign-ins and API tokens.
    pub async fn sign_ins(&self) -> Answer<Vec<SignInView>> {
        self.get("sign-ins").await
    }
    /// Ends one of the caller's sign-ins or API tokens.
    pub async fn end_sign_in(&self, id: &str) -> Answer<()> {
        self.delete(&format!("sign-ins/{}", segment(id)), &()).await
    }
    /// Ends the sign-in that asks.
    pub async fn sign_out(&self) -> Answer<()> {
        self.end_sign_in("current").await
    }
    /// Shows a second factor, to be fresh for a while.
    pub async fn step_up(&self, totp: &str) -> Answer<SteppedUp> {
        self.post("step-up", &Totp { totp: totp.to_owned() }).await
    }
    /// Makes an API token.
    pub async fn make_api_token(&self, wish: &ApiTokenWish) -> Answer<SignedIn> {
        self.post("api-tokens", wish).await
    }
    /// First half of an enrolment.
    pub async fn begin_enrolment(&self, secret: Zeroizing<String>) -> Answer<EnrolmentBegun> {
        self.post("enrolment/begin", &EnrolmentBegin { secret }).await
    }
    /// Second half of an enrolment.
    pub async fn finish_enrolment(&self, wish: &EnrolmentFinish) -> Answer<WhoseIt> {
        self.post("enrolment/finish", wish).await
    }
    /// Makes an enrolment for somebody.
    pub async fn invite(&self, person: &PersonId, totp: Option<&str>) -> Answer<Invited> {
        self.post(&format!("people/{person}/invite"), &MaybeTotp { totp: totp.map(str::to_owned) }).await
    }
    /// Confirms an enrolment that another administrator made.
    pub async fn confirm_enrolment(&self, id: &str, totp: &str) -> Answer<WhoseIt> {
        self.post(&format!("enrolments/{}/confirm", segment(id)), &Totp { totp: totp.to_owned() }).await
    }
    /// Shuts a person out at once.
    pub async fn disable(&self, person: &PersonId) -> Answer<()> {
        self.post_only(&format!("people/{person}/disable"), &serde_json::json!({})).await
    }
    /// Who the caller is.
    pub async fn me(&self) -> Answer<Me> {
        self.get("me").await
    }
    /// Registers an SSH public key.
    pub async fn add_ssh_key(&self, wish: &SshKeyWish) -> Answer<Vec<SshKey>> {
        self.post("ssh-keys", wish).await
    }
    /// Takes an SSH public key away.
    pub async fn remove_ssh_key(&self, openssh: &str) -> Answer<Vec<SshKey>> {
        self.post("ssh-keys/remove", &SshKeyRemoval { openssh: openssh.to_owned() }).await
    }
    /// A certificate by which gateways know the caller.
    pub async fn login_certificate(
        &self,
        public_key: &str,
        lifetime: Option<Span>,
    ) -> Answer<LoginCertificate> {
        let wish = LoginCertificateWish { public_key: public_key.to_owned(), lifetime };
        self.post("login-certificate", &wish).await
    }
    /// An X.509 certificate by which gateways know the caller in TLS.
    pub async fn client_certificate(
        &self,
        public_key: &str,
        lifetime: Option<Span>,
    ) -> Answer<ClientCertificate> {
        let wish = ClientCertificateWish { public_key: public_key.to_owned(), lifetime };
        self.post("client-certificate", &wish).await
    }
    /// A password for one login through a gateway.
    pub async fn one_time_password(&self, entitlement: &EntitlementName) -> Answer<OneTimePassword> {
        self.post("one-time-passwords", &OneTimePasswordWish { entitlement: entitlement.clone() }).await
    }

    /// A password for connections to a database through the gateways.
    pub async fn connect_password(&self, entitlement: &EntitlementName) -> Answer<ConnectPassword> {
        self.post("connect-passwords", &ConnectPasswordWish { entitlement: entitlement.clone() }).await
    }

    // --- requests -----------------------------------------------------------------------------
    /// Asks for one or several entitlements.
    pub async fn file_requests(&self, wish: &RequestWish) -> Answer<Filed> {
        self.post("requests", wish).await
    }
    /// Requests.
    pub async fn requests(&self, of: RequestsOf, paging: &Paging) -> Answer<Page<RequestView>> {
        self.get(&paged("requests", word(&of), paging)).await
    }
    /// One request.
    pub async fn request(&self, id: RequestId) -> Answer<RequestView> {
        self.get(&format!("requests/{id}")).await
    }
    /// Waits until it is decided, and if it is approved until its grant is active or failed; at most `longest` (the
    /// server gives up after 60 s: ask again).
    pub async fn wait_for_request(&self, id: RequestId, longest: Duration) -> Answer<RequestView> {
        let longest = longest.min(Duration::from_secs(60));
        let seconds = Some(format!("{}s", longest.as_secs()));
        self.get_slowly(&query(&format!("requests/{id}/wait"), &[("for", seconds)]), longest).await
    }
    /// Approves, having seen that version.
    pub async fn approve(&self, id: RequestId, wish: &DecisionWish) -> Answer<RequestView> {
        self.post(&format!("requests/{id}/approve"), wish).await
    }
    /// Denies, having seen that version.
    pub async fn deny(&self, id: RequestId, wish: &DecisionWish) -> Answer<RequestView> {
        self.post(&format!("requests/{id}/deny"), wish).await
    }
    /// Takes one's own approval back.
    pub async fn take_back(&self, id: RequestId) -> Answer<RequestView> {
        self.post(&format!("requests/{id}/take-back"), &serde_json::json!({})).await
    }
    /// Takes one's own request back.
    pub async fn withdraw(&self, id: RequestId) -> Answer<RequestView> {
        self.post(&format!("requests/{id}/withdraw"), &serde_json::json!({})).await
    }
    /// Vouches for the severity of somebody else's request.
    pub async fn attest_severity(&self, id: RequestId) -> Answer<RequestView> {
        self.post(&format!("requests/{id}/attest-severity"), &serde_json::json!({})).await
    }
    /// Turns a request into a graver one.
    pub async fn escalate(&self, id: RequestId, wish: &EscalateWish) -> Answer<RequestView> {
        self.post(&format!("requests/{id}/escalate"), wish).await
    }
    /// Goes in without waiting.
    pub async fn bypass(&self, id: RequestId, wish: &BypassWish) -> Answer<RequestView> {
        self.post(&format!("requests/{id}/bypass"), wish).await
    }
    /// The requests of a batch.
    pub async fn batch(&self, id: BatchId) -> Answer<Vec<RequestView>> {
        self.get(&format!("batches/{id}")).await
    }
    /// Approves several requests of a batch by one code.
    pub async fn approve_batch(&self, id: BatchId, wish: &BatchApproval) -> Answer<Vec<FiledItem>> {
        self.post(&format!("batches/{id}/approve"), wish).await
    }

    // --- grants and sessions ------------------------------------------------------------------
    /// Grants.
    pub async fn grants(&self, which: Which, paging: &Paging) -> Answer<Page<GrantView>> {
        self.get(&paged("grants", word(&which), paging)).await
    }
    /// One grant.
    pub async fn grant(&self, id: GrantId) -> Answer<GrantView> {
        self.get(&format!("grants/{id}")).await
    }
    /// Asks for more time; says what became of the child request.
    pub async fn extend(&self, id: GrantId, wish: &ExtendWish) -> Answer<RequestView> {
        self.post(&format!("grants/{id}/extend"), wish).await
    }
    /// Is done.
    pub async fn give_back(&self, id: GrantId) -> Answer<GrantView> {
        self.post(&format!("grants/{id}/give-back"), &serde_json::json!({})).await
    }
    /// Ends somebody's access.
    pub async fn revoke(&self, id: GrantId, wish: &ReasonWish) -> Answer<GrantView> {
        self.post(&format!("grants/{id}/revoke"), wish).await
    }
    /// One of two who say that the proof is not needed.
    pub async fn waive_proof(&self, id: GrantId, wish: &ReasonWish) -> Answer<GrantView> {
        self.post(&format!("grants/{id}/waive-proof"), wish).await
    }
    /// The owner says that the target is gone.
    pub async fn target_gone(&self, id: GrantId, wish: &ReasonWish) -> Answer<GrantView> {
        self.post(&format!("grants/{id}/target-gone"), wish).await
    }
    /// Keeps a grant beyond mitigation.
    pub async fn keep_grant(&self, id: GrantId, wish: &KeepWish) -> Answer<GrantView> {
        self.post(&format!("grants/{id}/keep"), wish).await
    }
    /// Ends every grant of a person, a system or an incident.
    pub async fn revoke_many(&self, wish: &RevokeMany) -> Answer<Vec<RevokedItem>> {
        self.post("revoke", wish).await
    }
    /// Sessions.
    pub async fn sessions(&self, which: Which, paging: &Paging) -> Answer<Page<SessionView>> {
        self.get(&paged("sessions", word(&which), paging)).await
    }
    /// One session.
    pub async fn session(&self, id: SessionId) -> Answer<SessionView> {
        self.get(&format!("sessions/{id}")).await
    }
    /// Kills a session.
    pub async fn terminate(&self, id: SessionId, wish: &ReasonWish) -> Answer<SessionView> {
        self.post(&format!("sessions/{id}/terminate"), wish).await
    }
    /// One of two who say that the absence of a recording is explained.
    pub async fn waive_gap(&self, id: SessionId, wish: &ReasonWish) -> Answer<SessionView> {
        self.post(&format!("sessions/{id}/waive-gap"), wish).await
    }
    /// Statements that wait for a second person.
    pub async fn statements(&self) -> Answer<Vec<StatementView>> {
        self.get("statements").await
    }
    /// Lets one pass.
    pub async fn allow_statement(
        &self,
        id: SessionId,
        hold: u32,
        wish: &ReasonWish,
    ) -> Answer<StatementView> {
        self.post(&format!("sessions/{id}/statements/{hold}/allow"), wish).await
    }
    /// Does not.
    pub async fn deny_statement(&self, id: SessionId, hold: u32, wish: &ReasonWish) -> Answer<StatementView> {
        self.post(&format!("sessions/{id}/statements/{hold}/deny"), wish).await
    }
    /// Begins to watch a live session: an event, and an alert to those concerned. Says the watch's id.
    pub async fn watch(&self, id: SessionId) -> Answer<WatchBegun> {
        self.post(&format!("sessions/{id}/watch"), &serde_json::json!({})).await
    }
    /// What happened since the last piece; waits some seconds if nothing has.
    pub async fn watch_next(&self, id: SessionId, watch: &str) -> Answer<Watched> {
        let path = query(&format!("sessions/{id}/watch"), &[("watch", Some(watch.to_owned()))]);
        self.get_slowly(&path, Duration::from_secs(30)).await
    }
    /// The recording as it is stored: encrypted, for the auditor's machine.
    pub async fn download_recording<W: std::io::Write>(&self, id: SessionId, sink: &mut W) -> Answer<u64> {
        self.download(&format!("sessions/{id}/recording"), sink).await
    }
    /// The recording in the clear, as far as its class permits.
    pub async fn replay<W: std::io::Write>(
        &self,
        id: SessionId,
        form: ReplayForm,
        sink: &mut W,
    ) -> Answer<u64> {
        self.download(&query(&format!("sessions/{id}/replay"), &[("form", word(&form))]), sink).await
    }

    // --- incidents and reviews ----------------------------------------------------------------
    /// Incidents.
    pub async fn incidents(&self, which: Which, paging: &Paging) -> Answer<Page<IncidentView>> {
        self.get(&paged("incidents", word(&which), paging)).await
    }
    /// One incident, by `INC-7` or id.
    pub async fn incident(&self, which: &str) -> Answer<IncidentView> {
        self.get(&format!("incidents/{}", segment(which))).await
    }
    /// Opens one.
    pub async fn open_incident(&self, wish: &IncidentWish) -> Answer<IncidentView> {
        self.post("incidents", wish).await
    }
    /// The harm is over: all its grants end.
    pub async fn mitigate(&self, which: &str) -> Answer<IncidentView> {
        self.post(&format!("incidents/{}/mitigate", segment(which)), &serde_json::json!({})).await
    }
    /// Closes it, or says what blocks.
    pub async fn close_incident(&self, which: &str) -> Answer<IncidentView> {
        self.post(&format!("incidents/{}/close", segment(which)), &serde_json::json!({})).await
    }
    /// One of two who end it without proof.
    pub async fn close_unproven(&self, which: &str, wish: &ReasonWish) -> Answer<IncidentView> {
        self.post(&format!("incidents/{}/close-unproven", segment(which)), wish).await
    }
    /// Opens it again.
    pub async fn reopen(&self, which: &str, wish: &ReasonWish) -> Answer<IncidentView> {
        self.post(&format!("incidents/{}/reopen", segment(which)), wish).await
    }
    /// Says something in it.
    pub async fn add_note(&self, which: &str, text: &str) -> Answer<IncidentView> {
        let wish = NoteWish { text: text.to_owned() };
        self.post(&format!("incidents/{}/notes", segment(which)), &wish).await
    }
    /// Links the outside ticket.
    pub async fn add_link(&self, which: &str, link: &str) -> Answer<IncidentView> {
        let wish = LinkWish { link: link.to_owned() };
        self.post(&format!("incidents/{}/links", segment(which)), &wish).await
    }
    /// Changes its severity.
    pub async fn change_severity(&self, which: &str, wish: &SeverityWish) -> Answer<IncidentView> {
        self.post(&format!("incidents/{}/severity", segment(which)), wish).await
    }
    /// Says what became of a change, by its index.
    /// The owner of a system may judge without seeing the incident, so nothing of it is answered.
    pub async fn judge_change(&self, which: &str, change: u32, wish: &ChangeWish) -> Answer<()> {
        self.post_only(&format!("incidents/{}/changes/{change}", segment(which)), wish).await
    }
    /// Reviews.
    pub async fn reviews(&self, which: Which, paging: &Paging) -> Answer<Page<ReviewView>> {
        self.get(&paged("reviews", word(&which), paging)).await
    }
    /// One review.
    pub async fn review(&self, id: ReviewId) -> Answer<ReviewView> {
        self.get(&format!("reviews/{id}")).await
    }
    /// Takes it up.
    pub async fn start_review(&self, id: ReviewId) -> Answer<ReviewView> {
        self.post(&format!("reviews/{id}/start"), &serde_json::json!({})).await
    }
    /// Judges it.
    pub async fn judge_review(&self, id: ReviewId, wish: &JudgeWish) -> Answer<ReviewView> {
        self.post(&format!("reviews/{id}/judge"), wish).await
    }
    /// Puts it off.
    pub async fn defer_review(&self, id: ReviewId, wish: &DeferWish) -> Answer<ReviewView> {
        self.post(&format!("reviews/{id}/defer"), wish).await
    }
    /// Adds something to do.
    pub async fn add_action(&self, id: ReviewId, wish: &ActionWish) -> Answer<ReviewView> {
        self.post(&format!("reviews/{id}/actions"), wish).await
    }
    /// It is done.
    pub async fn complete_action(&self, id: ReviewId, action: u32) -> Answer<ReviewView> {
        self.post(&format!("reviews/{id}/actions/{action}/done"), &serde_json::json!({})).await
    }

    // --- what waits, what there is ------------------------------------------------------------
    /// Everything that waits for the caller.
    pub async fn tasks(&self) -> Answer<Tasks> {
        self.get("tasks").await
    }
    /// Entitlements that the caller may ask for.
    pub async fn askable(&self, paging: &Paging) -> Answer<Page<Askable>> {
        self.get(&paged("catalog/entitlements", None, paging)).await
    }
    /// Scenarios.
    pub async fn scenarios(&self) -> Answer<Vec<ScenarioView>> {
        self.get("catalog/scenarios").await
    }
    /// The catalog in force, without its systems; for those who look after it.
    pub async fn catalog(&self) -> Answer<CatalogView> {
        self.get("catalog").await
    }
    /// Its systems; for those who look after it.
    pub async fn systems(&self, paging: &Paging) -> Answer<Page<SystemView>> {
        self.get(&paged("catalog/systems", None, paging)).await
    }
    /// Nodes.
    pub async fn status(&self) -> Answer<StatusView> {
        self.get("status").await
    }
    /// Sends a test alert over one route, or over all.
    pub async fn test_alerts(&self, route: Option<&str>) -> Answer<Vec<AlertTested>> {
        self.post("alerts/test", &AlertTest { route: route.map(str::to_owned) }).await
    }
    /// Nodes that joined.
    pub async fn nodes(&self) -> Answer<Vec<NodeView>> {
        self.get("nodes").await
    }
    /// A token by which one node may join.
    pub async fn make_join_token(&self, wish: &JoinTokenWish) -> Answer<JoinTokenMade> {
        self.post("nodes/join-tokens", wish).await
    }
    /// Takes a node's right to speak away.
    pub async fn expel(&self, name: &Name, totp: &str) -> Answer<()> {
        self.delete(&format!("nodes/{name}"), &Totp { totp: totp.to_owned() }).await
    }
    /// The last checkpoint of control's ledger: a signed note.
    pub async fn checkpoint(&self) -> Answer<String> {
        self.text("checkpoint").await
    }
    /// A file of the ledger by its tlog-tiles path, such as `tile/0/000` or `tile/entries/000`.
    pub async fn ledger_file<W: std::io::Write>(&self, path: &str, sink: &mut W) -> Answer<u64> {
        self.download(&format!("ledger/{path}"), sink).await
    }
    /// Whether the server takes work.
    pub async fn ready(&self) -> Answer<Ready> {
        self.get("ready").await
    }
    /// Metrics, as Prometheus reads them.
    pub async fn metrics(&self) -> Answer<String> {
        self.text("metrics").await
    }
}
