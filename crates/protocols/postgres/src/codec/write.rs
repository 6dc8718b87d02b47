//! Messages of our own making.

use bytes::{BufMut, BytesMut};

use super::server::TransactionStatus;
use super::startup::Version;

/// How a client is asked who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationRequest<'a> {
    Ok,
    Sasl { mechanisms: &'a [&'a str] },
    SaslContinue { data: &'a [u8] },
    SaslFinal { data: &'a [u8] },
}

/// How bad an error or notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement has failed.
    Error,
    /// The connection ends.
    Fatal,
    Warning,
    Notice,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
        }
    }
}

/// Appends messages to a buffer. Texts are cut at their first NUL, which would end them on the wire.
#[derive(Debug)]
pub struct Writer<'a>(pub &'a mut BytesMut);

impl Writer<'_> {
    /// A message with a type byte, or without (`None`, the first packets). The caller's bodies are our own and
    /// small; a length past 2 GiB cannot come about.
    fn message(&mut self, kind: Option<u8>, body: impl FnOnce(&mut BytesMut)) -> &mut Self {
        if let Some(kind) = kind {
            self.0.put_u8(kind);
        }
        let start = self.0.len();
        self.0.put_u32(0);
        body(self.0);
        let length = (self.0.len() - start) as u32;
        if let Some(place) = self.0.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self
    }

    pub fn authentication(&mut self, request: AuthenticationRequest<'_>) -> &mut Self {
        use AuthenticationRequest as A;
        self.message(Some(b'R'), |out| match request {
            A::Ok => out.put_u32(0),
            A::Sasl { mechanisms } => {
                out.put_u32(10);
                mechanisms.iter().for_each(|name| text(out, name.as_bytes()));
                out.put_u8(0);
            }
            A::SaslContinue { data } => {
                out.put_u32(11);
                out.put_slice(data);
            }
            A::SaslFinal { data } => {
                out.put_u32(12);
                out.put_slice(data);
            }
        })
    }

    /// `code` is the SQLSTATE.
    pub fn error(&mut self, severity: Severity, code: &str, message: &str, hint: Option<&str>) -> &mut Self {
        self.said(b'E', severity, code, message, hint)
    }

    pub fn notice(&mut self, severity: Severity, code: &str, message: &str) -> &mut Self {
        self.said(b'N', severity, code, message, None)
    }

    fn said(
        &mut self,
        kind: u8,
        severity: Severity,
        code: &str,
        message: &str,
        hint: Option<&str>,
    ) -> &mut Self {
        self.message(Some(kind), |out| {
            let fields = [(b'S', severity.word()), (b'V', severity.word()), (b'C', code), (b'M', message)];
            for (letter, value) in fields.into_iter().chain(hint.map(|hint| (b'H', hint))) {
                out.put_u8(letter);
                text(out, value.as_bytes());
            }
            out.put_u8(0);
        })
    }

    pub fn ready_for_query(&mut self, status: TransactionStatus) -> &mut Self {
        self.message(Some(b'Z'), |out| {
            out.put_u8(match status {
                TransactionStatus::Idle => b'I',
                TransactionStatus::Open => b'T',
                TransactionStatus::Failed => b'E',
            });
        })
    }

    pub fn parameter_status(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        self.message(Some(b'S'), |out| {
            text(out, name);
            text(out, value);
        })
    }

    /// Four bytes of key for protocol 3.0, 4 to 256 for 3.2.
    pub fn backend_key_data(&mut self, process: u32, key: &[u8]) -> &mut Self {
        self.message(Some(b'K'), |out| {
            out.put_u32(process);
            out.put_slice(key);
        })
    }

    /// The newest minor version that is spoken here. (It is sent as the whole version, as PostgreSQL does,
    /// although the documentation speaks of the minor one.)
    pub fn negotiate_protocol_version(
        &mut self,
        version: Version,
        unknown: &[impl AsRef<[u8]>],
    ) -> &mut Self {
        self.message(Some(b'v'), |out| {
            out.put_u32(code(version));
            out.put_u32(unknown.len() as u32);
            unknown.iter().for_each(|name| text(out, name.as_ref()));
        })
    }

    pub fn ssl_request(&mut self) -> &mut Self {
        self.message(None, |out| out.put_u32(80_877_103))
    }

    pub fn cancel_request(&mut self, process: u32, key: &[u8]) -> &mut Self {
        self.message(None, |out| {
            out.put_u32(80_877_102);
            out.put_u32(process);
            out.put_slice(key);
        })
    }

    pub fn startup(&mut self, version: Version, parameters: &[(&str, &str)]) -> &mut Self {
        self.message(None, |out| {
            out.put_u32(code(version));
            for (name, value) in parameters {
                text(out, name.as_bytes());
                text(out, value.as_bytes());
            }
            out.put_u8(0);
        })
    }

    pub fn sasl_initial_response(&mut self, mechanism: &str, data: &[u8]) -> &mut Self {
        self.message(Some(b'p'), |out| {
            text(out, mechanism.as_bytes());
            out.put_u32(data.len() as u32);
            out.put_slice(data);
        })
    }

    pub fn sasl_response(&mut self, data: &[u8]) -> &mut Self {
        self.message(Some(b'p'), |out| out.put_slice(data))
    }

    pub fn query(&mut self, sql: &str) -> &mut Self {
        self.message(Some(b'Q'), |out| text(out, sql.as_bytes()))
    }

    pub fn terminate(&mut self) -> &mut Self {
        self.message(Some(b'X'), |_| {})
    }
}

fn code(version: Version) -> u32 {
    (u32::from(version.major) << 16) | u32::from(version.minor)
}

fn text(out: &mut BytesMut, value: &[u8]) {
    out.put_slice(value.split(|byte| *byte == 0).next().unwrap_or_default());
    out.put_u8(0);
}
