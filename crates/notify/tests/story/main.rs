//! Alerts at real receivers: a mail server, HTTP servers with and without TLS, and control's own outbox.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod mail;
mod manual;
mod outbox;
mod receiver;
mod webhook;

use std::sync::Arc;

use halligan_control::catalog::CatalogHead;
use halligan_control::clock::{Clock as _, SystemClock};
use halligan_control::effects::Dispatch;
use halligan_core::catalog::{Catalog, Person, Route, RouteTarget};
use halligan_core::effect::{Alert, AlertKind};
use halligan_core::ids::{IncidentId, RequestId};
use halligan_notify::{Notifier, NotifyConfig};

/// The secret of the standard's own examples.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn person(name: &str, email: Option<&str>) -> Person {
    Person { name: name.to_owned(), email: email.map(str::to_owned), ..Person::default() }
}

fn route(alerts: &[&str], to: RouteTarget) -> Route {
    Route { alerts: alerts.iter().map(|name| name.parse().unwrap()).collect(), to }
}

/// Anna, Ben and Cleo, who has no address; and these routes.
fn catalog(routes: Vec<(&str, Route)>) -> Catalog {
    let mut catalog = Catalog { organisation: "Acme".to_owned(), ..Catalog::default() };
    for (id, name, email) in [
        ("anna", "Anna Ångström", Some("anna@example.org")),
        ("ben", "Ben", Some("ben@example.org")),
        ("cleo", "Cleo", None),
    ] {
        catalog.people.insert(id.parse().unwrap(), person(name, email));
    }
    for (name, route) in routes {
        catalog.routes.insert(name.parse().unwrap(), route);
    }
    catalog
}

fn notifier(config: NotifyConfig, catalog: Catalog) -> Notifier {
    let head = Arc::new(CatalogHead { version: 1, systems_generation: 1, catalog });
    Notifier::new(config, Arc::new(move || Arc::clone(&head))).unwrap()
}

fn dispatch(kind: AlertKind, say: &str, people: &[&str]) -> Dispatch {
    Dispatch {
        alert: Alert {
            kind,
            say: say.to_owned(),
            request: Some(RequestId::from_bits(1)),
            grant: None,
            session: None,
            incident: Some(IncidentId::from_bits(2)),
            review: None,
            people: people.iter().map(|id| id.parse().unwrap()).collect(),
        },
        at: SystemClock.now(),
        checkpoint: Some("example.org/halligan/control\n7\nq83v\n\n— example.org abc\n".to_owned()),
    }
}
