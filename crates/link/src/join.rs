//! A node joins with a token that works once. Control makes the token and keeps only its digest; the node makes its key,
//! dials control (whose key the token pins), and shows the secret over a connection that its new key proved. Control takes
//! the token, notes the key and answers with all that the node has to trust.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use halligan_core::ids::Name;
use halligan_core::time::Time;
use halligan_session::control_plane::BoxFuture;
use halligan_session::roster::SignedRoster;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::error::LinkError;
use crate::frame::{FRAME_MOST_BYTES, FrameReader};
use crate::messages::{PeerInfo, Role};
use crate::node_key::{KeyPrint, NodeKey};
use crate::root_file::RootFile;
use crate::tls::{self, HANDSHAKE_TIME, JOIN_PROTOCOL};

/// How every token begins.
const TOKEN_PREFIX: &str = "halligan-join-1.";
/// Stands before a secret when it is digested.
const SECRET_DOMAIN: &[u8] = b"halligan-join-v1\0";
/// An unknown node may send this much and no more.
const REQUEST_MOST_BYTES: usize = 4 * 1024;
/// A token's text is no longer than this.
const TOKEN_MOST_BYTES: usize = 8 * 1024;

/// Lets one node join, once. The text form is what a person carries from control to the node.
#[derive(Clone)]
pub struct JoinToken {
    /// Who the node will be.
    pub info: PeerInfo,
    /// Where control listens for links.
    pub control_addresses: Vec<String>,
    /// Print of control's node key.
    pub control_key: KeyPrint,
    /// When it dies, by control's clock.
    pub expires: Time,
    secret: JoinSecret,
}

/// 128 random bits, hex on the wire, wiped when dropped.
#[derive(Clone)]
struct JoinSecret(Zeroizing<[u8; 16]>);

impl JoinSecret {
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(SECRET_DOMAIN);
        hash.update(*self.0);
        hex::encode(hash.finalize())
    }
}
impl Serialize for JoinSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(hex::encode(*self.0)))
    }
}
impl<'de> Deserialize<'de> for JoinSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let mut secret = Self(Zeroizing::new([0u8; 16]));
        hex::decode_to_slice(text.as_str(), &mut *secret.0)
            .map_err(|_| serde::de::Error::custom("a join secret is 32 hexadecimal digits"))?;
        Ok(secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, until {}, secret)", self.info, self.expires)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenText {
    name: Name,
    role: Role,
    site: Name,
    control_addresses: Vec<String>,
    control_key: KeyPrint,
    secret: JoinSecret,
    expires: Time,
}

/// Text that is no join token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no join token: it begins with `{TOKEN_PREFIX}` and must be copied whole")]
pub struct BadJoinToken;

impl JoinToken {
    /// A new token with a random secret of 128 bits.
    pub fn make(
        info: PeerInfo,
        control_addresses: Vec<String>,
        control_key: KeyPrint,
        expires: Time,
    ) -> Result<Self, LinkError> {
        let mut secret = JoinSecret(Zeroizing::new([0u8; 16]));
        getrandom::fill(&mut *secret.0)
            .map_err(|error| LinkError::Io { what: "draw a secret".to_owned(), source: error.into() })?;
        Ok(Self { info, control_addresses, control_key, expires, secret })
    }

    /// What a person carries to the node. A secret until it was used.
    pub fn text(&self) -> Zeroizing<String> {
        let text = TokenText {
            name: self.info.name.clone(),
            role: self.info.role,
            site: self.info.site.clone(),
            control_addresses: self.control_addresses.clone(),
            control_key: self.control_key,
            secret: self.secret.clone(),
            expires: self.expires,
        };
        let json = Zeroizing::new(serde_json::to_vec(&text).unwrap_or_default());
        Zeroizing::new(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(&*json)))
    }

    /// What control keeps, to recognise it.
    pub fn pending(&self) -> PendingJoin {
        PendingJoin {
            digest: self.secret.digest(),
            info: self.info.clone(),
            expires: self.expires,
            address: None,
            used_by: None,
        }
    }
}

impl FromStr for JoinToken {
    type Err = BadJoinToken;
    fn from_str(text: &str) -> Result<Self, BadJoinToken> {
        let body = text.trim().strip_prefix(TOKEN_PREFIX).ok_or(BadJoinToken)?;
        if body.len() > TOKEN_MOST_BYTES {
            return Err(BadJoinToken);
        }
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| BadJoinToken)?);
        let text: TokenText = serde_json::from_slice(&json).map_err(|_| BadJoinToken)?;
        Ok(Self {
            info: PeerInfo { name: text.name, role: text.role, site: text.site },
            control_addresses: text.control_addresses,
            control_key: text.control_key,
            expires: text.expires,
            secret: text.secret,
        })
    }
}

/// A token as control keeps it: without its secret. Control stores the change before it answers the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingJoin {
    /// SHA-256 of domain tag and secret, hex: how an attempt is matched.
    pub digest: String,
    /// Who the node will be.
    pub info: PeerInfo,
    /// When it dies.
    pub expires: Time,
    /// Where connectors will reach the node, if it is a gateway; control's administrator says so, not the node.
    #[serde(default)]
    pub address: Option<String>,
    /// The key that used it.
    pub used_by: Option<KeyPrint>,
}

/// Why a node may not join. The sentences say no more than somebody may know who has the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefused {
    /// No such token.
    #[error("control does not know this token; ask for a new one")]
    Unknown,
    /// Used before, by this node or by somebody else.
    #[error("this token was used before; if that was not you, tell security, and ask for a new one")]
    Used,
    /// Too late.
    #[error("this token has expired; ask for a new one")]
    Expired,
}

impl PendingJoin {
    /// Takes the token for the node that holds `key`.
    pub fn take(&mut self, key: KeyPrint, now: Time) -> Result<PeerInfo, JoinRefused> {
        if self.used_by.is_some() {
            return Err(JoinRefused::Used);
        }
        if now >= self.expires {
            return Err(JoinRefused::Expired);
        }
        self.used_by = Some(key);
        Ok(self.info.clone())
    }
}

/// An attempt to join. The key was proved by the handshake.
#[derive(Clone, Debug)]
pub struct JoinAttempt {
    /// Matches [`PendingJoin::digest`].
    pub digest: String,
    /// The node's key.
    pub key: KeyPrint,
    /// Version of its binary, as it says.
    pub version: String,
    /// Where it comes from.
    pub from: SocketAddr,
}

/// Control's part: finds the token, takes it ([`PendingJoin::take`]), stores that, allows the key.
pub trait Admission: Send + Sync + 'static {
    /// What the node shall trust, or a sentence that says why it may not join ([`JoinRefused`]).
    fn admit<'a>(&'a self, attempt: JoinAttempt) -> BoxFuture<'a, Result<Welcome, String>>;
}

/// All that a new node needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// What it trusts from now on.
    pub root: RootFile,
    /// Who people and nodes are.
    pub roster: SignedRoster,
}

#[derive(Serialize, Deserialize)]
struct JoinRequest {
    secret: JoinSecret,
    key_sha256: KeyPrint,
    version: String,
}

#[derive(Serialize, Deserialize)]
enum JoinAnswer {
    #[serde(rename = "welcome")]
    Welcome(Box<Welcome>),
    #[serde(rename = "refused")]
    Refused { say: String },
}

/// Joins: shows the token to control, checks what comes back and writes the root file into `folder`.
pub async fn join(token: &JoinToken, key: &NodeKey, folder: &Path) -> Result<Welcome, LinkError> {
    let request = JoinRequest {
        secret: token.secret.clone(),
        key_sha256: key.print(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut last =
        LinkError::Refused { address: "control".to_owned(), why: "the token names no address".to_owned() };
    for address in &token.control_addresses {
        let stream = match tls::dial(address, key, &[token.control_key], JOIN_PROTOCOL).await {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        // From here on the token may be used up: another address would only say so.
        let welcome = ask(stream, address, &request).await?;
        let refused = |why: String| LinkError::Refused { address: address.clone(), why };
        check_welcome(token, &welcome).map_err(refused)?;
        welcome.root.save(folder)?;
        return Ok(welcome);
    }
    Err(last)
}

fn check_welcome(token: &JoinToken, welcome: &Welcome) -> Result<(), String> {
    let root = &welcome.root;
    root.check()?;
    if root.info() != token.info {
        return Err(format!("it calls this node {}, the token says {}", root.info(), token.info));
    }
    if !root.control_node_keys.contains(&token.control_key) {
        return Err("its own key is not among those it wants to be known by".to_owned());
    }
    welcome.roster.verify(&root.lease_key()?).map(|_| ()).map_err(|error| error.to_string())
}

async fn ask<S>(mut stream: S, address: &str, request: &JoinRequest) -> Result<Welcome, LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    send(&mut stream, request).await?;
    let frame = FrameReader::new(stream, FRAME_MOST_BYTES, HANDSHAKE_TIME).next().await?;
    let refused = |why: String| LinkError::Refused { address: address.to_owned(), why };
    let frame = frame.ok_or_else(|| refused("it hung up without an answer".to_owned()))?;
    match serde_json::from_slice(&frame) {
        Ok(JoinAnswer::Welcome(welcome)) => Ok(*welcome),
        Ok(JoinAnswer::Refused { say }) => Err(refused(say)),
        Err(error) => Err(refused(format!("its answer cannot be read: {error}"))),
    }
}

/// Control's end of a joining connection: one request, one answer, nothing else.
pub(crate) async fn receive<S>(
    stream: S,
    key: KeyPrint,
    from: SocketAddr,
    admission: &dyn Admission,
) -> Result<(), LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut reader = FrameReader::new(stream, REQUEST_MOST_BYTES, HANDSHAKE_TIME);
    let frame = timeout(HANDSHAKE_TIME, reader.next())
        .await
        .map_err(|_| LinkError::Silent { seconds: HANDSHAKE_TIME.as_secs() })??;
    let Some(frame) = frame else { return Ok(()) };
    let answer = match understand(&frame, key, from) {
        Ok(attempt) => match admission.admit(attempt).await {
            Ok(welcome) => JoinAnswer::Welcome(Box::new(welcome)),
            Err(say) => JoinAnswer::Refused { say },
        },
        Err(say) => JoinAnswer::Refused { say },
    };
    let joined = matches!(answer, JoinAnswer::Welcome(_));
    tracing::info!(%from, %key, joined, "a node asked to join");
    let mut stream = reader.into_stream();
    send(&mut stream, &answer).await?;
    stream.shutdown().await.map_err(LinkError::io("end the connection of a joining node"))?;
    // Reading to the end lets the answer arrive before the connection is torn down.
    let _ = timeout(HANDSHAKE_TIME, stream.read(&mut [0u8; 1])).await;
    Ok(())
}

fn understand(frame: &[u8], key: KeyPrint, from: SocketAddr) -> Result<JoinAttempt, String> {
    let request: JoinRequest = serde_json::from_slice(frame)
        .map_err(|_| "a node that has not joined may ask for nothing else".to_owned())?;
    if request.key_sha256 != key {
        return Err("the key of this connection is not the one that is to join".to_owned());
    }
    let version = request.version.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
    Ok(JoinAttempt { digest: request.secret.digest(), key, version, from })
}

async fn send<S, T>(stream: &mut S, message: &T) -> Result<(), LinkError>
where
    S: AsyncWrite + Unpin,
    T: Serialize,
{
    let json = Zeroizing::new(
        serde_json::to_vec(message).map_err(|error| LinkError::Malformed { detail: error.to_string() })?,
    );
    if json.len() > FRAME_MOST_BYTES {
        return Err(LinkError::TooLarge { what: "join", bytes: json.len(), most: FRAME_MOST_BYTES });
    }
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes();
    let written = async {
        stream.write_all(&length).await?;
        stream.write_all(&json).await?;
        stream.flush().await
    };
    timeout(HANDSHAKE_TIME, written)
        .await
        .map_err(|_| LinkError::Silent { seconds: HANDSHAKE_TIME.as_secs() })?
        .map_err(LinkError::io("send to the other side of a join"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;
    impl Admission for Nobody {
        fn admit<'a>(&'a self, _: JoinAttempt) -> BoxFuture<'a, Result<Welcome, String>> {
            panic!("what is no join must not reach control")
        }
    }

    async fn answer_to(bytes: &[u8]) -> Option<String> {
        let (mut far, near) = tokio::io::duplex(64 * 1024);
        far.write_all(bytes).await.unwrap();
        let key = KeyPrint::of_spki(b"a");
        let from = "127.0.0.1:1".parse().unwrap();
        let serve = tokio::spawn(async move { receive(near, key, from, &Nobody).await });
        let mut heard = Vec::new();
        let frame = FrameReader::new(&mut far, FRAME_MOST_BYTES, HANDSHAKE_TIME).next().await.unwrap();
        if let Some(frame) = frame {
            heard.extend_from_slice(&frame);
        }
        drop(far);
        let _ = serve.await.unwrap();
        (!heard.is_empty()).then(|| String::from_utf8(heard).unwrap())
    }

    #[tokio::test]
    async fn an_unknown_node_may_send_nothing_but_a_join() {
        let ask = crate::frame::encode(crate::frame::Kind::Ask, 1, &crate::Request::Status).unwrap();
        assert!(answer_to(&ask).await.unwrap().contains("may ask for nothing else"));
        let long = u32::try_from(REQUEST_MOST_BYTES + 1).unwrap().to_be_bytes();
        assert_eq!(answer_to(&long).await, None);
        let request = JoinRequest {
            secret: JoinSecret(Zeroizing::new([1; 16])),
            key_sha256: KeyPrint::of_spki(b"b"),
            version: String::new(),
        };
        let json = serde_json::to_vec(&request).unwrap();
        let frame = [&u32::try_from(json.len()).unwrap().to_be_bytes()[..], &json].concat();
        assert!(answer_to(&frame).await.unwrap().contains("not the one that is to join"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for bad in ["", "halligan-join-1.", "halligan-join-1.e30", "halligan-join-2.e30", "ssh-ed25519 AAAA"]
        {
            assert_eq!(bad.parse::<JoinToken>().unwrap_err(), BadJoinToken, "{bad}");
        }
    }
}
