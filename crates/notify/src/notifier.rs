//! Which way each alert takes, and the delivery of one alert over one route.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use halligan_control::catalog::CatalogHead;
use halligan_control::clock::{Clock as _, SystemClock};
use halligan_control::effects::{AlertSink, Dispatch, Tested};
use halligan_core::catalog::{Catalog, RouteTarget, Who, WhoContext};
use halligan_core::effect::{Alert, AlertKind};
use halligan_core::ids::{Name, PersonId};
use halligan_core::time::{Span, Time};
use halligan_session::control_plane::BoxFuture;
use sha2::{Digest, Sha256};
use url::Url;

use crate::config::NotifyConfig;
use crate::error::{NotifyError, chain};
use crate::lane::Lane;
use crate::mail::{MailError, Mailer};
use crate::message::{Message, kind_name};
use crate::signature::Keys;
use crate::webhook::{Answer, Webhooks, shown, target};

/// Where the catalog in force is asked for.
pub type CatalogInForce = Arc<dyn Fn() -> Arc<CatalogHead> + Send + Sync>;

/// Routes to a person's own address begin so; names of the catalog have no colon.
const PERSON: &str = "person:";
/// A mail that the server refuses for good is tried again for so long: such answers also come from servers in disorder.
const REFUSED_FOR_GOOD: Span = Span::hours(1);

/// Delivers alerts. Cheap to clone.
#[derive(Clone)]
pub struct Notifier(Arc<Inner>);

pub(crate) struct Inner {
    pub config: NotifyConfig,
    pub catalog: CatalogInForce,
    pub mailer: Option<Mailer>,
    webhooks: Webhooks,
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
}

/// What became of a test alert at one receiver.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TestDelivery {
    /// A host, or a person's address.
    pub to: String,
    /// None if it was taken; else why not, in a sentence.
    pub error: Option<String>,
}

/// Why a delivery failed.
struct Failure {
    say: String,
    /// The receiver itself is in order.
    only_this: bool,
}

impl Failure {
    fn receiver(say: String) -> Self {
        Self { say, only_this: false }
    }
}

impl Notifier {
    /// Checks the configuration and sets up TLS; connects nowhere.
    pub fn new(mut config: NotifyConfig, catalog: CatalogInForce) -> Result<Self, NotifyError> {
        if let Some(text) = &config.public_url {
            config.public_url = Some(public_url(text)?);
        }
        let mailer = config.smtp.clone().map(Mailer::new).transpose()?;
        let webhooks = Webhooks::new(config.webhook_roots.as_deref())?;
        Ok(Self(Arc::new(Inner { config, catalog, mailer, webhooks, lanes: Mutex::default() })))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// Sends a test alert over one route of the catalog, or to `person:<id>`, once, and says what each receiver did.
    /// `by` is who asks for it.
    pub async fn send_test(&self, route: &str, by: &str) -> Result<Vec<TestDelivery>, NotifyError> {
        let inner = &self.0;
        let head = (inner.catalog)();
        let at = SystemClock.now();
        let message = Message::Test { route, by, at };
        let id = stable_id(&format!("test/{}/{route}", at.micros()));
        let people = match (route.strip_prefix(PERSON), head.catalog.routes.get(route).map(|route| &route.to))
        {
            (Some(person), _) => person.parse().into_iter().collect(),
            (None, Some(RouteTarget::Mail(who))) => reached(&head.catalog, who, None, at),
            (None, Some(RouteTarget::Webhook { url, secret })) => {
                let to = target(url).map_or_else(|_| route.to_owned(), |url| shown(&url));
                let result = inner.post(url, secret, &id, &message).await;
                let error = match result {
                    Ok(Answer::Taken) => None,
                    Ok(Answer::Gone) => Some("it answered 410: it wants no alerts any more".to_owned()),
                    Err(failure) => Some(failure.say),
                };
                return Ok(vec![TestDelivery { to, error }]);
            }
            (None, None) => {
                let known: Vec<&str> = head.catalog.routes.keys().map(Name::as_str).collect();
                return Err(NotifyError::NoRoute { route: route.to_owned(), known: known.join(", ") });
            }
        };
        let mut deliveries = Vec::new();
        for person in people {
            let address = head.catalog.people.get(&person).and_then(|found| found.email.clone());
            let to = address.unwrap_or_else(|| person.to_string());
            let id = stable_id(&format!("{id}/{person}"));
            let error = match inner.mail(&head.catalog, &person, &id, &message).await {
                Ok(true) => None,
                Ok(false) => Some("this person has no mail address in the catalog".to_owned()),
                Err(failure) => Some(failure.say),
            };
            deliveries.push(TestDelivery { to, error });
        }
        Ok(deliveries)
    }
}

impl AlertSink for Notifier {
    /// Webhook routes by their name; mail as one route for each person, so that nobody gets an alert twice and one bad
    /// address delays nobody.
    fn routes(&self, alert: &Alert) -> Vec<String> {
        let head = (self.0.catalog)();
        let catalog = &head.catalog;
        let kind = kind_name(alert.kind);
        let now = SystemClock.now();
        let mut webhooks = Vec::new();
        let mut people: BTreeSet<PersonId> =
            alert.people.iter().filter(|id| has_address(catalog, id)).cloned().collect();
        for (name, route) in &catalog.routes {
            if !route.alerts.is_empty() && !route.alerts.contains(kind.as_str()) {
                continue;
            }
            match &route.to {
                RouteTarget::Webhook { .. } => webhooks.push(name.to_string()),
                // Said at the start, by `problems`: not again with every alert.
                RouteTarget::Mail(_) if self.0.mailer.is_none() => {}
                RouteTarget::Mail(who) => people.extend(reached(catalog, who, beneficiary(alert), now)),
            }
        }
        let mail = people.into_iter().filter(|_| self.0.mailer.is_some()).map(|id| format!("{PERSON}{id}"));
        webhooks.extend(mail);
        webhooks
    }

    fn deliver<'a>(
        &'a self,
        route: &'a str,
        id: &'a str,
        alert: &'a Dispatch,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.0.deliver(route, id, alert))
    }

    fn problems(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(Self::problems(self))
    }

    fn test<'a>(&'a self, route: &'a str, by: &'a str) -> BoxFuture<'a, Result<Vec<Tested>, String>> {
        Box::pin(async move {
            let done = self.send_test(route, by).await.map_err(|error| crate::error::chain(&error))?;
            Ok(done.into_iter().map(|one| Tested { to: one.to, error: one.error }).collect())
        })
    }
}

impl Inner {
    async fn deliver(&self, route: &str, id: &str, dispatch: &Dispatch) -> Result<(), String> {
        let kind = kind_name(dispatch.alert.kind);
        let age = SystemClock.now().since(dispatch.at);
        if age > self.config.give_up_after {
            tracing::error!(route, kind, at = %dispatch.at, "an alert was never delivered and is given up");
            return Ok(());
        }
        let id = stable_id(id);
        let head = (self.catalog)();
        let message = Message::Alert(dispatch);
        let result = match route.strip_prefix(PERSON) {
            Some(person) => self.to_person(&head.catalog, person, &id, &message).await,
            None => self.to_route(&head.catalog, route, &id, &message).await,
        };
        match result {
            Err(failure) if failure.only_this && age > REFUSED_FOR_GOOD => {
                tracing::error!(
                    route,
                    kind,
                    id,
                    why = failure.say,
                    "an alert is refused for good and is given up"
                );
                Ok(())
            }
            Err(failure) => Err(failure.say),
            Ok(()) => {
                tracing::debug!(route, kind, id, "an alert was delivered");
                Ok(())
            }
        }
    }

    async fn to_person(
        &self,
        catalog: &Catalog,
        person: &str,
        id: &str,
        message: &Message<'_>,
    ) -> Result<(), Failure> {
        let lane = self.lane("mail");
        let _turn = lane.enter().await.map_err(Failure::receiver)?;
        let sent = match person.parse() {
            Ok(person) => self.mail(catalog, &person, id, message).await,
            Err(_) => Ok(false),
        };
        match &sent {
            Ok(_) => lane.succeeded(),
            // The server answers, and that is all a lane asks for.
            Err(failure) if failure.only_this => lane.succeeded(),
            Err(failure) => lane.failed(&failure.say),
        }
        if !sent? {
            tracing::warn!(person, "an alert is for somebody who has no mail address any more");
        }
        Ok(())
    }

    /// False if there is no address to send to.
    async fn mail(
        &self,
        catalog: &Catalog,
        person: &PersonId,
        id: &str,
        message: &Message<'_>,
    ) -> Result<bool, Failure> {
        let Some(mailer) = &self.mailer else {
            return Err(Failure::receiver("no mail server is configured".to_owned()));
        };
        let Some((name, address)) = catalog
            .people
            .get(person)
            .filter(|found| !found.left)
            .and_then(|found| found.email.as_deref().map(|email| (found.name.as_str(), email)))
        else {
            return Ok(false);
        };
        let letter = message.letter(catalog, self.config.public_url.as_deref());
        mailer
            .send(name, address, id, letter)
            .await
            .map(|()| true)
            .map_err(|error: MailError| Failure { only_this: error.only_this_mail(), say: chain(&error) })
    }

    async fn to_route(
        &self,
        catalog: &Catalog,
        route: &str,
        id: &str,
        message: &Message<'_>,
    ) -> Result<(), Failure> {
        let Some(RouteTarget::Webhook { url, secret }) = catalog.routes.get(route).map(|found| &found.to)
        else {
            tracing::warn!(route, "an alert was for a webhook that is not in the catalog any more");
            return Ok(());
        };
        let lane = self.lane(&target(url).map_or_else(|_| url.clone(), |url| shown(&url)));
        let _turn = lane.enter().await.map_err(Failure::receiver)?;
        let answer = self.post(url, secret, id, message).await;
        match &answer {
            Ok(_) => lane.succeeded(),
            Err(failure) => lane.failed(&failure.say),
        }
        if answer? == Answer::Gone {
            // The catalog says that alerts go there: only a change of the catalog ends that.
            tracing::error!(
                route,
                id,
                "a webhook receiver answered 410 Gone: this alert is NOT delivered; take the route out of the catalog or repair the receiver"
            );
        }
        Ok(())
    }

    async fn post(
        &self,
        url: &str,
        secret: &Name,
        id: &str,
        message: &Message<'_>,
    ) -> Result<Answer, Failure> {
        let body = message.json().map_err(|error| Failure::receiver(chain(&error)))?;
        let file = self.config.webhook_secrets.get(secret).ok_or_else(|| {
            Failure::receiver(format!(
                "webhook_secrets of the server's configuration has no file for `{secret}`"
            ))
        })?;
        let keys = Keys::read(file).await.map_err(|error| Failure::receiver(chain(&error)))?;
        let at = SystemClock.now().micros() / 1_000_000;
        self.webhooks.post(url, &keys, id, at, body).await.map_err(|error| Failure::receiver(chain(&error)))
    }

    fn lane(&self, receiver: &str) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(receiver.to_owned()).or_insert_with(|| Arc::new(Lane::new())).clone()
    }
}

/// An id of 36 letters and digits from the outbox's: fit for headers, the same for repetitions.
fn stable_id(id: &str) -> String {
    let digest = hex::encode(Sha256::digest(id));
    format!("msg_{}", digest.get(..32).unwrap_or(&digest))
}

fn has_address(catalog: &Catalog, id: &PersonId) -> bool {
    catalog.people.get(id).is_some_and(|person| !person.left && person.email.is_some())
}

/// Everybody whom these words name and who has an address.
pub(crate) fn reached(
    catalog: &Catalog,
    who: &[Who],
    beneficiary: Option<&PersonId>,
    now: Time,
) -> BTreeSet<PersonId> {
    let nobody = Name::main();
    let context = WhoContext { beneficiary: beneficiary.unwrap_or(&nobody), system: None, now };
    let mut people = catalog.people_of(who, context);
    people.retain(|id| has_address(catalog, id));
    people
}

/// Whose manager `manager: true` means: the one whose access it is. Other alerts name whom they are for.
fn beneficiary(alert: &Alert) -> Option<&PersonId> {
    match alert.kind {
        AlertKind::Approved
        | AlertKind::Denied
        | AlertKind::Active
        | AlertKind::BeforeDeadline
        | AlertKind::Ended
        | AlertKind::RevocationLate
        | AlertKind::RevocationFailed
        | AlertKind::RevocationUnknown => alert.people.first(),
        _ => None,
    }
}

fn public_url(text: &str) -> Result<String, NotifyError> {
    let bad = || NotifyError::PublicUrl { url: crate::text::one_line(text, 120) };
    let url = Url::parse(text).map_err(|_| bad())?;
    let plain = matches!(url.scheme(), "https" | "http")
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain { Ok(url.as_str().trim_end_matches('/').to_owned()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_fit_for_headers() {
        assert_eq!(stable_id("a/b c"), stable_id("a/b c"));
        assert_ne!(stable_id("a/b"), stable_id("a/c"));
        assert_eq!(stable_id("ü\n").len(), 36);
    }

    #[test]
    fn public_urls_are_plain() {
        assert_eq!(public_url("https://h.example.org/").unwrap(), "https://h.example.org");
        for bad in ["h.example.org", "javascript:alert(1)", "https://u@h/", "https://h/?a", "https://h/#a"] {
            assert!(public_url(bad).is_err(), "{bad}");
        }
    }
}
