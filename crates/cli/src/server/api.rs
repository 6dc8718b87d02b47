//! The API's listener and its certificate, and the alerts that leave by mail and webhook.

use std::sync::Arc;

use anyhow::Context as _;
use halligan_api::{Certificate, Served, Serving, router, serve};
use halligan_control::Control;
use halligan_notify::Notifier;
use tokio_util::task::AbortOnDropHandle;

use super::stop::Stop;
use crate::config::{Config, address_of};

/// A running API.
pub struct ApiRole {
    /// How people reach it.
    pub url: String,
    /// SHA-256 of its certificate, which clients pin; none with plain HTTP.
    pub certificate: Option<String>,
    served: Arc<tokio::sync::Mutex<Option<Served>>>,
    _renewing: AbortOnDropHandle<()>,
}

/// Starts the API.
pub async fn start(control: &Control, config: &Config, stop: &Stop) -> anyhow::Result<ApiRole> {
    let address = address_of(&config.server.listen)
        .with_context(|| format!("failed to read server.listen = \"{}\"", config.server.listen))?;
    let certificate = if config.server.plain_http { None } else { Some(certificate(config)?) };
    let served = serve(Serving { address, certificate, router: router(control.clone()) })?;
    let url = config.server.public_url.clone().unwrap_or_else(|| served.url());
    let print = served.certificate_print.clone();
    let served = Arc::new(tokio::sync::Mutex::new(Some(served)));
    let renewing = tokio::spawn(renew(Arc::clone(&served), config.clone(), stop.clone()));
    Ok(ApiRole { url, certificate: print, served, _renewing: AbortOnDropHandle::new(renewing) })
}

impl ApiRole {
    /// Takes no new calls and lets those under way end; those that wait are cut when asked to hurry.
    pub async fn stop(self, stop: &Stop) {
        let Some(served) = self.served.lock().await.take() else { return };
        tokio::select! {
            () = served.stop() => {}
            () = stop.now.cancelled() => {}
        }
    }
}

/// The certificate from files, or the self-made one.
fn certificate(config: &Config) -> anyhow::Result<Certificate> {
    let tls = &config.server.tls;
    if let (Some(chain), Some(key)) = (&tls.certificate, &tls.key) {
        return Ok(Certificate::load(chain, key)?);
    }
    let mut names: Vec<String> = host_of(config.server.public_url.as_deref()).into_iter().collect();
    names.extend(
        address_of(&config.server.listen)
            .map(|at| at.ip())
            .filter(|ip| !ip.is_unspecified())
            .map(|ip| ip.to_string()),
    );
    Ok(Certificate::load_or_make(&config.control_folder(), &names)?)
}

/// The host of a URL, without brackets.
pub fn host_of(url: Option<&str>) -> Option<String> {
    let (_, rest) = url?.split_once("://")?;
    let host = rest.split('/').next()?;
    // An IPv6 address stands in brackets.
    if let Some(inside) = host.strip_prefix('[') {
        return inside.split(']').next().map(str::to_owned);
    }
    host.split(':').next().filter(|host| !host.is_empty()).map(str::to_owned)
}

/// Reads the certificate again whenever asked. One that cannot be used changes nothing.
async fn renew(served: Arc<tokio::sync::Mutex<Option<Served>>>, config: Config, stop: Stop) {
    let mut asked = stop.reload.clone();
    while asked.changed().await.is_ok() {
        if config.server.plain_http {
            continue;
        }
        let mut held = served.lock().await;
        let Some(served) = held.as_mut() else { return };
        let renewed = certificate(&config).and_then(|certificate| Ok(served.renew(certificate)?));
        match renewed {
            Ok(()) => {
                tracing::info!(certificate = served.certificate_print, "the certificate was read again")
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "the certificate in use is kept"),
        }
    }
}

/// Lets alerts leave as the configuration and the catalog in force say.
pub fn alerts(control: &Control, config: &Config) -> anyhow::Result<()> {
    let mut notify = config.notify.clone();
    if notify.public_url.is_none() {
        notify.public_url.clone_from(&config.server.public_url);
    }
    let catalog = control.clone();
    let notifier = Notifier::new(notify, Arc::new(move || Arc::clone(&catalog.in_force().head)))
        .context("failed to set up alerts")?;
    let started = notifier.clone();
    tokio::spawn(async move {
        let problems = started.problems().await;
        if !problems.is_empty() {
            tracing::warn!(
                problems = problems.join("; "),
                "not all alerts can leave this server; see `halligan doctor`"
            );
        }
    });
    control.set_alert_sink(Arc::new(notifier));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_certificate_is_for_the_name_that_people_use() {
        assert_eq!(
            host_of(Some("https://halligan.example.org:7300/x")).as_deref(),
            Some("halligan.example.org")
        );
        assert_eq!(host_of(Some("https://[::1]:7300")).as_deref(), Some("::1"));
        assert_eq!(host_of(None), None);
    }
}
