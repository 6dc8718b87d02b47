//! Who a client is: by a client certificate of `halligan login`, or SCRAM with a connect password, of which only keys are
//! known anywhere. Strangers see the same steps, words and times whatever they say.

use std::time::Duration;

use bytes::BytesMut;
use halligan_session::{ClientConnection, ControlPlane, LoginProof, Person};
use tokio::time::Instant;

use crate::codec::{
    AuthenticationRequest, ClientScanner, FromClientMessage, NotKept, Piece, Severity, Startup, Writer,
};
use crate::scram::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ServerFirst, ServerStarted, nonce};
use crate::socket::Leg;

/// Least time for a refused attempt.
const REFUSAL_TIME: Duration = Duration::from_millis(250);
/// Longest login name, in bytes.
const LOGIN_BYTES: usize = 256;

/// Nobody has logged in; the client has been told what it may know.
#[derive(Debug)]
pub(crate) struct NotIn;

/// A client that is being asked.
pub(crate) struct Asking<'a> {
    pub(crate) leg: &'a mut Leg,
    /// What was read behind the startup packet.
    pub(crate) read: &'a mut BytesMut,
    /// The hash of our certificate, if TLS ends here.
    pub(crate) binding: Option<&'a [u8]>,
    /// The certificate that it showed, which says that the login authority signed it.
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) from: &'a ClientConnection,
}

impl Asking<'_> {
    /// Gives the person and the login name. `out` may hold what is to be said before the question.
    pub(crate) async fn person(
        mut self,
        control: &dyn ControlPlane,
        startup: &Startup,
        out: &mut BytesMut,
    ) -> Result<(Person, String), NotIn> {
        let login =
            startup.parameter("user").and_then(|user| std::str::from_utf8(user).ok()).unwrap_or_default();
        let login = if login.len() > LOGIN_BYTES { "" } else { login };
        if let Some(certificate) = self.certificate.take() {
            return self.by_certificate(control, login, certificate, out).await;
        }
        let begun = Instant::now();
        match self.attempt(control, login, out).await {
            Ok(person) => Ok((person, login.to_owned())),
            Err(why) => {
                tracing::info!(client = %self.from.client, why = %why.escape_debug(), "login refused");
                tokio::time::sleep_until(begun + REFUSAL_TIME).await;
                out.clear();
                let shown = halligan_session::end_reason::printable(login, LOGIN_BYTES);
                Writer(out).error(
                    Severity::Fatal,
                    "28P01",
                    &format!("password authentication failed for user \"{shown}\""),
                    Some("`halligan password` prints the login name and a connect password for ten minutes."),
                );
                let _gone = self.leg.send(out).await;
                Err(NotIn)
            }
        }
    }

    /// No password is asked for: the handshake has proved that the client holds the key.
    async fn by_certificate(
        self,
        control: &dyn ControlPlane,
        login: &str,
        certificate: Vec<u8>,
        out: &mut BytesMut,
    ) -> Result<(Person, String), NotIn> {
        let proof = LoginProof::ClientCertificate { login: login.to_owned(), certificate };
        let begun = Instant::now();
        match control.login(proof, self.from).await {
            Ok(person) => {
                Writer(out).authentication(AuthenticationRequest::Ok);
                self.leg.send(out).await.map_err(|_| NotIn)?;
                Ok((person, login.to_owned()))
            }
            Err(refusal) => {
                tracing::info!(client = %self.from.client, why = %refusal.say.escape_debug(), "login refused");
                tokio::time::sleep_until(begun + REFUSAL_TIME).await;
                let hint = "Without a certificate (sslcertmode=disable) a connect password is asked for.";
                Writer(out).error(
                    Severity::Fatal,
                    "28000",
                    &format!("Halligan: {}", refusal.say),
                    Some(hint),
                );
                let _gone = self.leg.send(out).await;
                Err(NotIn)
            }
        }
    }

    async fn attempt(
        &mut self,
        control: &dyn ControlPlane,
        login: &str,
        out: &mut BytesMut,
    ) -> Result<Person, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let with_plus = [SCRAM_SHA_256_PLUS, SCRAM_SHA_256];
        let mechanisms = if self.binding.is_some() { &with_plus[..] } else { &[SCRAM_SHA_256][..] };
        Writer(out).authentication(AuthenticationRequest::Sasl { mechanisms });
        self.leg.send(out).await.map_err(|error| text(&error))?;
        let mut scanner = ClientScanner::new(0);
        let body = self.answer(&mut scanner).await?;
        let first = ServerFirst::read(&body, self.binding).map_err(|error| text(&error))?;
        let mut random = [0; 18];
        getrandom::fill(&mut random).map_err(|error| text(&error))?;
        let (challenge, started) = first.challenge(&control.scram_salt(login), &nonce(&random));
        Writer(out).authentication(AuthenticationRequest::SaslContinue { data: &challenge });
        self.leg.send(out).await.map_err(|error| text(&error))?;
        let body = self.answer(&mut scanner).await?;
        let (auth_message, client_proof) = started.proof(&body).map_err(|error| text(&error))?;
        let proof = LoginProof::Scram { login: login.to_owned(), auth_message, client_proof };
        let person = control.login(proof, self.from).await.map_err(|refusal| refusal.say)?;
        let signature = person.server_signature.ok_or("the control plane did not answer the proof")?;
        Writer(out)
            .authentication(AuthenticationRequest::SaslFinal { data: &ServerStarted::last(&signature) })
            .authentication(AuthenticationRequest::Ok);
        self.leg.send(out).await.map_err(|error| text(&error))?;
        Ok(person)
    }

    async fn answer(&mut self, scanner: &mut ClientScanner) -> Result<bytes::Bytes, String> {
        loop {
            match scanner.next(self.read, &mut NotKept).map_err(|error| error.to_string())? {
                Some(Piece::Message { message: FromClientMessage::Password { body }, .. }) => {
                    return Ok(body);
                }
                Some(_) => return Err("something else came in place of an answer".to_owned()),
                None => match self.leg.more(self.read).await {
                    Ok(true) => {}
                    Ok(false) => return Err("the client left".to_owned()),
                    Err(error) => return Err(error.to_string()),
                },
            }
        }
    }
}
