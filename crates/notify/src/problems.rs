//! What would keep alerts from leaving, found before an alert has to.

use halligan_control::clock::{Clock as _, SystemClock};
use halligan_core::catalog::RouteTarget;

use crate::error::chain;
use crate::notifier::{Notifier, reached};
use crate::signature::{Keys, read_secret_file};
use crate::webhook::target;

impl Notifier {
    /// Looks at the configuration and at the routes of the catalog in force, and says what does not fit. Connects nowhere;
    /// see [`Notifier::send_test`] for that. A server says these at its start, and starts all the same.
    pub async fn problems(&self) -> Vec<String> {
        let inner = self.inner();
        let head = (inner.catalog)();
        let mut found = Vec::new();
        if head.catalog.routes.is_empty() && head.version > 0 {
            found.push(
                "the catalog has no routes: no alert goes anywhere but to people's own addresses".to_owned(),
            );
        }
        if let Some(path) = inner.mailer.as_ref().and_then(|mailer| mailer.config().password_file.as_ref())
            && let Err(error) = read_secret_file(path).await
        {
            found.push(format!("smtp.password_file {}: {error}", path.display()));
        }
        for (name, path) in &inner.config.webhook_secrets {
            if let Err(error) = Keys::read(path).await {
                found.push(format!("webhook_secrets.{name}: {}", chain(&error)));
            }
        }
        for (name, route) in &head.catalog.routes {
            match &route.to {
                RouteTarget::Mail(_) if inner.mailer.is_none() => {
                    found
                        .push(format!("route {name} is by mail, but the server's configuration has no smtp"));
                }
                RouteTarget::Mail(who) => {
                    if reached(&head.catalog, who, None, SystemClock.now()).is_empty() {
                        found.push(format!("route {name}: nobody on it has a mail address now"));
                    }
                }
                RouteTarget::Webhook { url, secret } => {
                    if let Err(say) = target(url) {
                        found.push(format!("route {name}: {say}"));
                    }
                    if !inner.config.webhook_secrets.contains_key(secret) {
                        found.push(format!(
                            "route {name}: webhook_secrets of the server's configuration has no file for `{secret}`"
                        ));
                    }
                }
            }
        }
        found
    }
}
