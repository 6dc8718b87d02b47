//! The listener: TLS, or plain HTTP on this machine's own address; limits on headers and time; a graceful end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tokio::task::JoinHandle;

use crate::certificate::Certificate;
use crate::errors::ServeError;

/// Headers are read for at most this long.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
const MOST_HEADERS: usize = 64;
const MOST_HEADER_BYTES: usize = 32 * 1024;
/// Calls under way get this long to end.
const DRAIN: Duration = Duration::from_secs(10);

/// How to serve.
pub struct Serving {
    /// Where to listen.
    pub address: SocketAddr,
    /// The certificate; none means plain HTTP, which only a loopback address may have.
    pub certificate: Option<Certificate>,
    /// What is served: [`crate::router`], with pages beside it if there are any.
    pub router: Router,
}

/// A running listener.
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    /// SHA-256 (hex) of its certificate, which clients pin; none with plain HTTP.
    pub certificate_print: Option<String>,
    /// The certificate in use, with TLS.
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Served {
    /// How people on this machine reach it.
    pub fn url(&self) -> String {
        let scheme = if self.certificate_print.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// Shows another certificate to new connections. Nothing happens with plain HTTP.
    pub fn renew(&mut self, certificate: Certificate) -> Result<(), ServeError> {
        if let Some(tls) = &self.tls {
            let print = certificate.print();
            tls.reload_from_config(Arc::new(certificate.server_config()?));
            self.certificate_print = Some(print);
        }
        Ok(())
    }

    /// Takes no new calls, lets those under way end, and stops.
    pub async fn stop(self) {
        self.handle.graceful_shutdown(Some(DRAIN));
        match self.task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the API's listener ended with an error"),
            Err(error) => tracing::warn!(%error, "the API's listener was cut off"),
        }
    }
}

/// Binds and serves until [`Served::stop`].
pub fn serve(serving: Serving) -> Result<Served, ServeError> {
    let listen = |source| ServeError::Listen { address: serving.address.to_string(), source };
    if serving.certificate.is_none() && !serving.address.ip().is_loopback() {
        return Err(ServeError::NotLoopback { address: serving.address.to_string() });
    }
    let listener = std::net::TcpListener::bind(serving.address).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let handle = Handle::new();
    let service = serving.router.into_make_service_with_connect_info::<SocketAddr>();
    let certificate_print = serving.certificate.as_ref().map(Certificate::print);
    let tls = serving.certificate.map(Certificate::server_config).transpose()?;
    let tls = tls.map(|config| RustlsConfig::from_config(Arc::new(config)));
    let task = match tls.clone() {
        Some(config) => {
            let mut server =
                axum_server::from_tcp_rustls(listener, config).map_err(listen)?.handle(handle.clone());
            limit(server.http_builder());
            tokio::spawn(async move { server.serve(service).await })
        }
        None => {
            let mut server = axum_server::from_tcp(listener).map_err(listen)?.handle(handle.clone());
            limit(server.http_builder());
            tokio::spawn(async move { server.serve(service).await })
        }
    };
    Ok(Served { address, certificate_print, tls, handle, task })
}

fn limit(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    builder
        .http1()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_headers(MOST_HEADERS)
        .max_buf_size(MOST_HEADER_BYTES);
    builder
        .http2()
        .timer(hyper_util::rt::TokioTimer::new())
        .max_header_list_size(MOST_HEADER_BYTES as u32)
        .max_concurrent_streams(64)
        .keep_alive_interval(Some(Duration::from_secs(30)));
}
