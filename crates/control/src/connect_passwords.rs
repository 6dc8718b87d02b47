//! Connect passwords that are still good: what gateways need to know of each is kept, sealed under the account key, until it
//! expires, so that a gateway that starts, joins or comes back takes it too, from the address that used it first.
//!
//! Of the password itself nothing is kept but SCRAM's keys.

use std::net::IpAddr;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use halligan_core::grant::GrantState;
use halligan_core::ids::{EntitlementName, GrantId, Name, PersonId};
use halligan_core::time::Time;
use halligan_link::messages::{Request, Response, Seed};
use halligan_link::{Peer, Role};
use halligan_session::scram::ScramKeys;
use halligan_store::{Commit, CommitError, Document, DocumentKey, DocumentWrite, Order};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::control::Control;
use crate::documents::{bytes, parse};
use crate::effects;
use crate::error::ControlError;
use crate::timers::chain;

/// The kind of its documents. They are no part of the ledger: they are gone after minutes.
const KIND: &str = "connect-password";
/// Looked at in one go.
const PAGE: usize = 200;

/// A password that takes connections.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Outstanding {
    pub person: PersonId,
    pub entitlement: EntitlementName,
    pub grant: GrantId,
    /// Whose gateways take it.
    pub site: Name,
    pub stored_key: Seed,
    pub server_key: Seed,
    pub expires: Time,
    /// The first address that used it.
    pub client: Option<IpAddr>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    nonce: String,
    ciphertext: String,
}

impl Outstanding {
    pub(crate) fn request(&self) -> Request {
        Request::PutConnectPassword {
            person: self.person.clone(),
            entitlement: self.entitlement.clone(),
            grant: self.grant,
            stored_key: self.stored_key.clone(),
            server_key: self.server_key.clone(),
            expires: self.expires,
            client: self.client,
        }
    }

    pub(crate) fn keys(keys: &ScramKeys) -> (Seed, Seed) {
        (Seed::new(keys.stored_key), Seed::new(keys.server_key))
    }

    /// As gateways name it, too.
    fn key(&self) -> DocumentKey {
        DocumentKey::new(KIND, hex::encode(sha2::Sha256::digest(self.stored_key.expose())))
    }
}

impl Control {
    /// Keeps one until it expires.
    pub(crate) async fn keep_connect_password(&self, one: &Outstanding) -> Result<(), ControlError> {
        self.put_connect_password(one, 0).await?;
        Ok(())
    }

    /// False if somebody else wrote it meanwhile.
    async fn put_connect_password(&self, one: &Outstanding, revision: u64) -> Result<bool, ControlError> {
        let key = one.key();
        let mut nonce = [0u8; 24];
        getrandom::fill(&mut nonce).map_err(ControlError::local("draw randomness"))?;
        let plain = Zeroizing::new(bytes(one)?);
        let payload = Payload { msg: &plain, aad: key.id.as_bytes() };
        let ciphertext = self
            .password_cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| ControlError::said("seal a connect password", "the cipher refused"))?;
        let sealed = Sealed { nonce: hex::encode(nonce), ciphertext: hex::encode(ciphertext) };
        let mut write = DocumentWrite::put(key, revision, bytes(&sealed)?);
        write.due_at = Some(one.expires.micros());
        match self.store().commit(self.quietly(write)).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn quietly(&self, write: DocumentWrite) -> Commit {
        Commit { documents: vec![write], commit_time: self.now().micros(), ..Commit::default() }
    }

    /// Another key than that of accounts, made from it.
    fn password_cipher(&self) -> XChaCha20Poly1305 {
        let mut hash = sha2::Sha256::new();
        hash.update(b"halligan-connect-passwords-v1\0");
        hash.update(*self.keys().account);
        XChaCha20Poly1305::new(&Key::from(<[u8; 32]>::from(hash.finalize())))
    }

    fn read_connect_password(&self, document: &Document) -> Result<Outstanding, ControlError> {
        let broken = || ControlError::said("open a connect password", "it is not sealed under this key");
        let sealed: Sealed = parse(&document.key, &document.body)?;
        let nonce: [u8; 24] =
            hex::decode(sealed.nonce).ok().and_then(|raw| raw.try_into().ok()).ok_or_else(broken)?;
        let ciphertext = hex::decode(sealed.ciphertext).map_err(|_| broken())?;
        let payload = Payload { msg: &ciphertext, aad: document.key.id.as_bytes() };
        let plain = self.password_cipher().decrypt(&XNonce::from(nonce), payload).map_err(|_| broken())?;
        serde_json::from_slice(&Zeroizing::new(plain)).map_err(|_| broken())
    }

    /// A gateway is linked: it is given the passwords of its site that are still good.
    pub(crate) async fn give_connect_passwords(&self, gateway: &Peer) -> Result<(), ControlError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.store().list(KIND, after.as_deref(), PAGE, Order::Ascending).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.id.clone());
            for document in &page {
                let one = self.read_connect_password(document)?;
                let good = one.site == gateway.info().site && self.now() < one.expires;
                if good && self.stands(one.grant).await? {
                    tell(gateway, &one).await;
                }
            }
        }
    }

    async fn stands(&self, grant: GrantId) -> Result<bool, ControlError> {
        let found = effects::grant(self, grant).await?;
        let now = self.now();
        Ok(found.is_some_and(|grant| {
            grant.state == GrantState::Active && grant.deadline.is_some_and(|deadline| now < deadline)
        }))
    }

    /// A gateway was the first to see it used. The first to say so is believed, and every gateway of the site is told.
    pub(crate) async fn connect_password_used(
        &self,
        gateway: &Name,
        site: &Name,
        password: &str,
        client: IpAddr,
    ) -> Result<(), ControlError> {
        let key = DocumentKey::new(KIND, password);
        for _ in 0..8 {
            let Some(document) = self.store().get(&key).await? else { return Ok(()) };
            let mut one = self.read_connect_password(&document)?;
            if one.site != *site {
                return Ok(());
            }
            let news = one.client.is_none();
            one.client.get_or_insert(client);
            if news && !self.put_connect_password(&one, document.revision).await? {
                continue;
            }
            for peer in self.peers(Role::Gateway, site) {
                // Who said it knows it, unless another was first.
                if peer.info().name != *gateway || one.client != Some(client) {
                    tell(&peer, &one).await;
                }
            }
            return Ok(());
        }
        Err(ControlError::Busy)
    }

    /// Those that have expired are gone.
    pub(crate) async fn forget_connect_passwords(&self) -> Result<(), ControlError> {
        for document in self.store().due(self.now().micros(), &[KIND], PAGE).await? {
            let write = DocumentWrite::delete(document.key, document.revision);
            match self.store().commit(self.quietly(write)).await {
                Ok(_) | Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

async fn tell(gateway: &Peer, one: &Outstanding) {
    let name = &gateway.info().name;
    match gateway.call(one.request()).await {
        Ok(Response::Ok) => {}
        Ok(other) => tracing::warn!(gateway = %name, answer = other.name(), "a password was not taken"),
        Err(error) => tracing::warn!(gateway = %name, error = %chain(&error), "a password was not taken"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use halligan_core::grant::Grant;
    use halligan_core::time::Span;
    use halligan_link::{Handler, PeerInfo, in_process};
    use halligan_session::control_plane::BoxFuture;
    use halligan_session::scram::ScramSalt;
    use halligan_session::secret::Secret;
    use halligan_store::{SqliteOptions, Store};

    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::control::ControlOptions;

    async fn control(folder: &Path) -> Control {
        let store = Store::open_sqlite(SqliteOptions::new(folder.join("store.sqlite"))).await.unwrap();
        let options = ControlOptions {
            name: Name::new("control").unwrap(),
            site: Name::main(),
            folder: folder.join("control"),
            origin: "test.example/halligan".into(),
            auditors: Vec::new(),
            link_addresses: Vec::new(),
            clock: Arc::new(SystemClock),
        };
        Control::open(options, store).await.unwrap()
    }

    /// What gateways are told of a password: its stored key, and from where it may be used.
    #[derive(Default)]
    struct Told(Mutex<Vec<([u8; 32], Option<IpAddr>)>>);

    impl Handler for Told {
        fn handle<'a>(&'a self, _: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
            if let Request::PutConnectPassword { stored_key, client, .. } = request {
                self.0.lock().unwrap().push((*stored_key.expose(), client));
            }
            Box::pin(async { Response::Ok })
        }
    }

    impl Told {
        async fn is(&self, wanted: &[([u8; 32], Option<IpAddr>)]) {
            let until = std::time::Instant::now() + Duration::from_secs(10);
            while *self.0.lock().unwrap() != wanted {
                assert!(std::time::Instant::now() < until, "{:?}", self.0.lock().unwrap());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn gateway(control: &Control, name: &str, site: &str) -> (Arc<Told>, Peer) {
        let told = Arc::new(Told::default());
        let info =
            PeerInfo { name: Name::new(name).unwrap(), role: Role::Gateway, site: Name::new(site).unwrap() };
        let (at_control, at_gateway) = in_process(control.handler(), control.info(), told.clone(), info);
        control.connected(at_control);
        (told, at_gateway)
    }

    async fn put_grant(control: &Control, state: GrantState) -> GrantId {
        let golden = include_bytes!("../../core/tests/golden/documents/grant.json");
        let mut grant: Grant = serde_json::from_slice(golden).unwrap();
        grant.state = state;
        grant.deadline = Some(control.now().plus(Span::hours(1)));
        let key = DocumentKey::new("grant", grant.id.to_string());
        let revision = control.store().get(&key).await.unwrap().map_or(0, |found| found.revision);
        let write = DocumentWrite::put(key, revision, bytes(&grant).unwrap());
        control.store().commit(control.quietly(write)).await.unwrap();
        grant.id
    }

    async fn keep(control: &Control, grant: GrantId, site: &str, password: &str, life: Span) -> [u8; 32] {
        let salt = ScramSalt { salt: [1; 16], iterations: 2 };
        let keys = ScramKeys::from_password(&Secret::new(password.to_owned()), &salt);
        let (stored_key, server_key) = Outstanding::keys(&keys);
        let one = Outstanding {
            person: Name::new("ana").unwrap(),
            entitlement: "orders-db/work".parse().unwrap(),
            grant,
            site: Name::new(site).unwrap(),
            stored_key,
            server_key,
            expires: control.now().plus(life),
            client: None,
        };
        control.keep_connect_password(&one).await.unwrap();
        keys.stored_key
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_password_outlives_gateways_and_control_with_the_address_that_used_it_first() {
        let folder = tempfile::tempdir().unwrap();
        let before = control(folder.path()).await;
        let grant = put_grant(&before, GrantState::Active).await;
        let key = keep(&before, grant, "main", "of ana", Span::minutes(10)).await;
        keep(&before, grant, "elsewhere", "of another site", Span::minutes(10)).await;
        let (told, asks) = gateway(&before, "gw-1", "main");
        let (beside, beside_asks) = gateway(&before, "gw-2", "main");
        told.is(&[(key, None)]).await;
        beside.is(&[(key, None)]).await;
        // The first use is known to the other; who is late learns whose it is.
        let password = hex::encode(sha2::Sha256::digest(key));
        let used = |from: [u8; 4]| Request::ConnectPasswordUsed {
            entitlement: "orders-db/work".parse().unwrap(),
            password: password.clone(),
            client: from.into(),
        };
        let first = Some(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(asks.call(used([192, 0, 2, 1])).await.unwrap(), Response::Ok);
        beside.is(&[(key, None), (key, first)]).await;
        told.is(&[(key, None)]).await;
        assert_eq!(beside_asks.call(used([192, 0, 2, 9])).await.unwrap(), Response::Ok);
        beside.is(&[(key, None), (key, first), (key, first)]).await;
        // A gateway that has forgotten all, and a control too.
        let (again, _asks) = gateway(&before, "gw-1", "main");
        again.is(&[(key, first)]).await;
        before.stop().await;
        drop(before);
        let after = control(folder.path()).await;
        let (again, _asks) = gateway(&after, "gw-1", "main");
        again.is(&[(key, first)]).await;
        // What lies in the store tells nobody the keys.
        let stored = after.store().list(KIND, None, 10, Order::Ascending).await.unwrap();
        assert_eq!(stored.len(), 2);
        assert!(stored.iter().all(|one| !String::from_utf8_lossy(&one.body).contains(&hex::encode(key))));
        // With its grant it ends.
        put_grant(&after, GrantState::Revoking).await;
        let (none, _asks) = gateway(&after, "gw-3", "main");
        tokio::time::sleep(Duration::from_millis(200)).await;
        none.is(&[]).await;
        after.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_has_expired_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let control = control(folder.path()).await;
        let grant = put_grant(&control, GrantState::Active).await;
        keep(&control, grant, "main", "short", Span::micros(1)).await;
        let key = keep(&control, grant, "main", "long", Span::minutes(10)).await;
        assert!(SystemClock.now() > Time::default());
        tokio::time::sleep(Duration::from_millis(5)).await;
        let (told, _asks) = gateway(&control, "gw-1", "main");
        told.is(&[(key, None)]).await;
        control.forget_connect_passwords().await.unwrap();
        let left = control.store().list(KIND, None, 10, Order::Ascending).await.unwrap();
        assert_eq!(left.len(), 1);
        control.stop().await;
    }
}
