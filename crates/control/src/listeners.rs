//! Where gateways take people's clients in. Each gateway says it of itself with every greeting; people's machines keep it,
//! so that they find the way when control is down.

use std::collections::BTreeMap;

use halligan_link::messages::{ClientListener, PeerInfo, Role};
use serde_json::json;

use crate::control::Control;
use crate::documents::parse;
use crate::error::ControlError;
use crate::nodes::NodeRecord;

/// A gateway names at most this many protocols, each with as many keys.
const MOST: usize = 8;
/// No address and no key is longer.
const MOST_BYTES: usize = 8192;

/// What is wrong with this listener, if anything: nothing of it may become another line or an option on a client's machine.
fn wrong(protocol: &str, listener: &ClientListener) -> Option<&'static str> {
    let plain = |text: &str, more: &[u8]| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    if protocol.is_empty() || protocol.len() > 32 || !plain(protocol, b"-") {
        return Some("a protocol's name is short and plain");
    }
    let good = listener.address.rsplit_once(':').is_some_and(|(host, port)| {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse::<u16>().is_ok_and(|port| port > 0);
        port && !host.is_empty() && !host.starts_with('-') && plain(host, b".-:_") && host.len() <= 255
    });
    if !good {
        return Some("its address is not HOST:PORT");
    }
    let key = |line: &String| line.len() <= MOST_BYTES && plain(line, b" @.,:;=+/_-");
    if listener.host_keys.len() > MOST || !listener.host_keys.iter().all(key) {
        return Some("a host key is one plain line, and there are few");
    }
    None
}

impl Control {
    /// Keeps what a gateway says of its listeners. What has no good form, or names another node's place, is left out and
    /// logged: the gateway goes on, and people have what was known before.
    pub(crate) async fn keep_listeners(
        &self,
        peer: &PeerInfo,
        said: &BTreeMap<String, ClientListener>,
    ) -> Result<(), ControlError> {
        let Some(found) = self.store().get(&NodeRecord::key(&peer.name)).await? else { return Ok(()) };
        let mut record: NodeRecord = parse(&found.key, &found.body)?;
        if record.listeners == *said {
            return Ok(());
        }
        let others: Vec<NodeRecord> = self.node_records().await?;
        let taken = |address: &str| {
            let listens = |other: &NodeRecord| other.listeners.values().any(|at| at.address == address);
            others.iter().any(|other| other.name != peer.name && !other.expelled && listens(other))
        };
        let mut kept = BTreeMap::new();
        for (protocol, listener) in said.iter().take(MOST) {
            let trouble = wrong(protocol, listener)
                .or_else(|| taken(&listener.address).then_some("another gateway is known at this address"));
            match trouble {
                None => {
                    kept.insert(protocol.clone(), listener.clone());
                }
                Some(say) => {
                    let address = listener.address.escape_default().take(300).collect::<String>();
                    tracing::warn!(node = %peer.name, address, "people are not told where this gateway listens: {say}");
                    if let Some(before) = record.listeners.get(protocol) {
                        kept.insert(protocol.clone(), before.clone());
                    }
                }
            }
        }
        if record.listeners == kept {
            return Ok(());
        }
        record.listeners = kept;
        let detail = json!(record.listeners).to_string();
        self.put_node(&record, "listeners", &detail).await
    }

    /// Gateways with where people's clients come in, and whether each is connected here.
    pub async fn gateways(&self) -> Result<Vec<(NodeRecord, bool)>, ControlError> {
        let all = self.node_records().await?.into_iter();
        let gateways =
            all.filter(|node| node.role == Role::Gateway && !node.expelled && !node.listeners.is_empty());
        Ok(gateways
            .map(|node| (self.peer(&node.name).is_some(), node))
            .map(|(here, node)| (node, here))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str, key: &str) -> ClientListener {
        ClientListener { address: address.to_owned(), host_keys: vec![key.to_owned()] }
    }

    #[test]
    fn nothing_that_a_gateway_says_becomes_another_line_or_an_option() {
        for good in ["gw.example.org:2222", "192.0.2.7:22", "[2001:db8::7]:2222"] {
            assert_eq!(wrong("ssh", &at(good, "ssh-ed25519 AAAA+/=")), None, "{good}");
        }
        for bad in
            ["", "gw", "gw:0", "gw:70000", ":22", "-oProxyCommand=x:22", "a b:22", "a\nb:22", "gw:22\n"]
        {
            assert!(wrong("ssh", &at(bad, "ssh-ed25519 AAAA")).is_some(), "{bad:?}");
        }
        assert!(wrong("ssh", &at("gw:22", "ssh-ed25519 AAAA\n* ssh-ed25519 BBBB")).is_some());
        assert!(wrong("s\nsh", &at("gw:22", "ssh-ed25519 AAAA")).is_some());
    }
}
