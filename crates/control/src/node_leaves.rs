//! What nodes write into their ledgers, as commands.

use halligan_core::command::Command;
use halligan_core::node_event::{NodeEvent, NodeLeaf};
use halligan_link::messages::PeerInfo;

/// What a node's leaf asks of control. A connector's results come as answers to control's own calls; of its leaves only
/// what nobody asked for is more than evidence.
pub(crate) fn command_of(peer: &PeerInfo, leaf: NodeLeaf) -> Option<Command> {
    let gateway = peer.name.clone();
    Some(match leaf.event {
        NodeEvent::LeaseHeld { grant, fencing, .. } => Command::ReportLeaseHeld { grant, fencing, gateway },
        NodeEvent::LeaseEnded { grant, fencing, sessions_ended, .. } => {
            Command::ReportLeaseEnded { grant, fencing, gateway, sessions_ended }
        }
        NodeEvent::SessionOpened { session, grant, recording, client, login, .. } => {
            Command::ReportSessionOpened { session, grant, gateway, recording, client, login, at: leaf.at }
        }
        NodeEvent::ChannelOpened { session, kind, detail, .. } => {
            Command::ReportChannel { session, kind, detail }
        }
        NodeEvent::TransferEnded { session, path, direction, bytes, sha256, .. } => {
            let what = format!("file {path} written: {bytes} bytes, sha256 {sha256}");
            if direction != "upload" {
                return None;
            }
            Command::ReportChange { session, what }
        }
        NodeEvent::StatementHeld { session, hold, class, sha256, text, parameters, until } => {
            Command::ReportStatementHeld {
                session,
                hold,
                class,
                sha256,
                text,
                parameters,
                at: leaf.at,
                until,
            }
        }
        NodeEvent::StatementSettled { session, hold, allowed, by, reason } => {
            Command::ReportStatementSettled { session, hold, allowed, by, reason }
        }
        NodeEvent::DatabaseChanged { session, what, .. } => Command::ReportChange { session, what },
        NodeEvent::SessionEnded { session, reason, .. } => {
            Command::ReportSessionEnded { session, reason, at: leaf.at }
        }
        NodeEvent::RecordingFinished { session, sha256, .. } if sha256.is_empty() => {
            let reason = "its gateway was killed and could not read it back".to_owned();
            Command::ReportRecordingLost { session, reason }
        }
        NodeEvent::RecordingFinished { session, bytes, frames, sha256, chain_head, complete, .. } => {
            Command::ReportRecordingFinished { session, bytes, frames, sha256, chain_head, complete }
        }
        NodeEvent::Refused { person, what, client, reason } => {
            Command::ReportRefused { person, what, client, reason }
        }
        NodeEvent::LoginUnexplained { grant, system, user, from, why, times } => {
            let what = format!("{user} logged in from {from}, {times} times ({why})");
            Command::ReportUnexplained { grant: Some(grant), system, what }
        }
        NodeEvent::DatabaseUserEnded { grant, system, user, reason } => {
            let what = format!("{user} was still there and was ended: {reason}");
            Command::ReportUnexplained { grant, system, what }
        }
        _ => return None,
    })
}

/// The core itself sees that it has taken this report before. Others are known by the leaf that they came from.
pub(crate) const fn tells_again(command: &Command) -> bool {
    !matches!(
        command,
        Command::ReportChannel { .. } | Command::ReportRefused { .. } | Command::ReportUnexplained { .. }
    )
}

#[cfg(test)]
mod tests {
    use halligan_core::ids::GrantId;
    use halligan_core::time::Time;
    use halligan_link::messages::Role;

    use super::*;

    #[test]
    fn what_a_connector_found_past_the_gateways_is_told_once() {
        let name = |text: &str| text.parse().unwrap();
        let peer = PeerInfo { name: name("con-1"), role: Role::Connector, site: name("main") };
        let grant = GrantId::from_bits(7);
        let login = NodeEvent::LoginUnexplained {
            grant,
            system: name("orders-db"),
            user: "postgres".to_owned(),
            from: "192.0.2.7".to_owned(),
            why: "a superuser's account".to_owned(),
            times: 2,
        };
        let leaf = NodeLeaf { v: 1, node: name("con-1"), at: Time::from_micros(1), event: login };
        let command = command_of(&peer, leaf).unwrap();
        assert!(!tells_again(&command), "its leaf's number tells one report from the next");
        let Command::ReportUnexplained { grant: Some(of), what, .. } = command else { panic!("{command:?}") };
        assert_eq!(
            (of, what.as_str()),
            (grant, "postgres logged in from 192.0.2.7, 2 times (a superuser's account)")
        );
    }
}
