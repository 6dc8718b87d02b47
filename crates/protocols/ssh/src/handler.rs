//! What a client may ask, as the SSH library reads it. Nothing here waits for the target's leg: requests and bytes go
//! into the channel's queue, and the relay takes them from there.

use std::sync::Arc;

use halligan_session::Waiting;
use russh::keys::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty};

use crate::auth::{Attempt, Authenticator};
use crate::connection::{Connection, MOST_CHANNELS};
use crate::refuse::{prohibited, write_down};
use crate::relay;
use crate::socket::Gate;

const NO_FORWARDING: &str = "connections are not forwarded through Halligan";

pub(crate) struct ClientHandler {
    pub(crate) connection: Arc<Connection>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) authenticator: Authenticator,
}

impl ClientHandler {
    fn attempt(&self, (auth, login): Attempt) -> Auth {
        if let Some(login) = login {
            self.connection.logged_in(login);
        }
        auth
    }

    fn refuse_channel(&self, what: String, reply: ChannelOpenHandle) -> Result<(), russh::Error> {
        if self.connection.refused_too_often() {
            return Err(russh::Error::Disconnect);
        }
        let connection = Arc::clone(&self.connection);
        self.connection.tasks.spawn(async move {
            write_down(&connection, &what, NO_FORWARDING).await;
            reply.reject(prohibited(NO_FORWARDING)).await;
        });
        Ok(())
    }

    fn refuse_forward(&self, what: String) -> Result<bool, russh::Error> {
        if self.connection.refused_too_often() {
            return Err(russh::Error::Disconnect);
        }
        let connection = Arc::clone(&self.connection);
        self.connection.tasks.spawn(async move { write_down(&connection, &what, NO_FORWARDING).await });
        Ok(false)
    }

    /// Sends the relay's answer to the request that was just read.
    async fn reply(&self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        let answer = match self.connection.channel(channel) {
            Some(known) => known.answer().await,
            None => Some(false),
        };
        match answer {
            Some(true) => session.channel_success(channel),
            Some(false) => session.channel_failure(channel),
            None => Ok(()),
        }
    }

    async fn took(&self, channel: ChannelId, bytes: usize) -> Result<(), russh::Error> {
        if self.connection.flow.arrived(channel, bytes).await.is_err() {
            tracing::warn!(client = %self.connection.from.client, "a client ignored its window");
            return Err(russh::Error::Inconsistent);
        }
        Ok(())
    }
}

impl Handler for ClientHandler {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let worth =
            Authenticator::worth_signing(&*self.connection.control, offer.public_key, offer.algorithm);
        Ok(if worth { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let Connection { control, from, .. } = &*self.connection;
        let attempt =
            self.authenticator.public_key(&**control, user, key.public_key, key.algorithm, from).await;
        Ok(self.attempt(attempt))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        let Connection { control, from, .. } = &*self.connection;
        let attempt = self.authenticator.certificate(&**control, user, certificate, from).await;
        Ok(self.attempt(attempt))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let answer =
            response.map(|mut answers| answers.next().map(|first| first.to_vec()).unwrap_or_default());
        let Connection { control, from, .. } = &*self.connection;
        let attempt = self.authenticator.password(&**control, user, answer, from).await;
        Ok(self.attempt(attempt))
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        if self.connection.login().is_none() {
            return Err(russh::Error::Inconsistent);
        }
        self.connection.has_handle(session.handle());
        self.gate.open();
        self.waiting = None;
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.connection.add_channel(channel.id()) {
            Some(known) => {
                let relay = relay::run(Arc::clone(&self.connection), channel, reply, known);
                self.connection.tasks.spawn(relay);
            }
            None => {
                let reason = format!("a connection has at most {MOST_CHANNELS} channels");
                reply.reject(ChannelOpenFailure::Other { code: 4, reason }).await;
            }
        }
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse_channel("channel x11".to_owned(), reply)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse_channel(format!("channel direct-tcpip to {host}:{port}"), reply)
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse_channel(format!("channel forwarded-tcpip from {host}:{port}"), reply)
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse_channel(format!("channel direct-streamlocal to {path}"), reply)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.refuse_forward(format!("tcpip-forward of {address}:{port}"))
    }

    async fn streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Self::Error> {
        self.refuse_forward(format!("streamlocal-forward of {path}"))
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(known) = self.connection.channel(channel) {
            known.close();
        }
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        self.took(channel, data.len()).await
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _: u32,
        data: &[u8],
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.took(channel, data.len()).await
    }

    fn adjust_window(&mut self, channel: ChannelId, _current: u32) -> u32 {
        self.connection.flow.next_window(channel)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.reply(channel, session).await
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.reply(channel, session).await
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.reply(channel, session).await
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.reply(channel, session).await
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.reply(channel, session).await
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.reply(channel, session).await
    }

    async fn agent_request(&mut self, channel: ChannelId, _: &mut Session) -> Result<bool, Self::Error> {
        // The library sends the reply itself; the relay's answer is always no.
        match self.connection.channel(channel) {
            Some(known) => Ok(known.answer().await.unwrap_or(false)),
            None => Ok(false),
        }
    }
}
