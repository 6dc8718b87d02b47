//! Why a session ended: a word for ledgers and a sentence for the person at the terminal.

use std::fmt;

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The deadline of its grant.
    Expired,
    /// The person gave the grant back.
    GivenBack,
    /// The grant was ended; in words why.
    Revoked { why: String },
    /// Somebody cut this session; in words why.
    Killed { why: String },
    /// Nothing moved for as long as the entitlement allows.
    Idle,
    /// The recording could not be written; no byte passed unrecorded.
    RecordingLost { why: String },
    /// The session used up its part of the gateway's disk.
    SpoolSpent,
    /// The client went away, or was done.
    ClientLeft,
    /// The target went away, or was done.
    TargetLeft,
    /// The target could not be reached or did not let us in.
    TargetRefused { why: String },
    /// The gateway is being stopped.
    GatewayStopping,
    /// The gateway stopped without ending the session; found at the next start.
    GatewayRestarted,
    /// A newer lease of the same grant no longer allows it.
    Superseded,
    /// Control has been away for longer than the entitlement allows.
    ControlAway,
}

impl EndReason {
    /// A fixed word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::GivenBack => "given_back",
            Self::Revoked { .. } => "revoked",
            Self::Killed { .. } => "killed",
            Self::Idle => "idle",
            Self::RecordingLost { .. } => "recording_lost",
            Self::SpoolSpent => "spool_spent",
            Self::ClientLeft => "client_left",
            Self::TargetLeft => "target_left",
            Self::TargetRefused { .. } => "target_refused",
            Self::GatewayStopping => "gateway_stopping",
            Self::GatewayRestarted => "gateway_restarted",
            Self::Superseded => "superseded",
            Self::ControlAway => "control_away",
        }
    }

    /// What was said about it, if anything.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Revoked { why }
            | Self::Killed { why }
            | Self::RecordingLost { why }
            | Self::TargetRefused { why } => Some(why.as_str()).filter(|why| !why.is_empty()),
            _ => None,
        }
    }

    /// As it stands in a ledger: the code, and the detail behind a colon (at most 500 characters, no control characters).
    pub fn for_ledger(&self) -> String {
        match self.detail() {
            Some(detail) => format!("{}: {}", self.code(), printable(detail, 500)),
            None => self.code().to_owned(),
        }
    }
}

impl fmt::Display for EndReason {
    /// A sentence for the person whose session it was. Safe for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "Your access has ended: its deadline has passed. Ask for an extension or make a new request.",
            Self::GivenBack => "Your access has ended: it was given back.",
            Self::Revoked { .. } => "Your access has ended: the grant was revoked",
            Self::Killed { .. } => "This session was ended by somebody else",
            Self::Idle => "This session has ended: nothing moved for too long. Your access goes on; connect again.",
            Self::RecordingLost { .. } => {
                "This session has ended: it can no longer be recorded. Nothing passed unrecorded. Try another gateway."
            }
            Self::SpoolSpent => {
                "This session has ended: it used up the room for its recording. Your access goes on; connect again."
            }
            Self::ClientLeft => "The session has ended.",
            Self::TargetLeft => "The target ended the connection.",
            Self::TargetRefused { .. } => "The target could not be opened",
            Self::GatewayStopping => "This session has ended: the gateway is being stopped. Connect again, or by another gateway.",
            Self::GatewayRestarted => "This session has ended: the gateway was restarted.",
            Self::Superseded => "This session has ended: the grant was changed. Connect again.",
            Self::ControlAway => {
                "This session has ended: control cannot be reached, and this entitlement does not go on without it."
            }
        })?;
        match self.detail() {
            _ if !self.takes_detail() => Ok(()),
            Some(detail) => write!(f, ": {}.", printable(detail, 200).trim_end_matches('.')),
            None => f.write_str("."),
        }
    }
}

impl EndReason {
    const fn takes_detail(&self) -> bool {
        matches!(self, Self::Revoked { .. } | Self::Killed { .. } | Self::TargetRefused { .. })
    }
}

/// At most `most` characters of `text` with every control character replaced: log viewers are terminals.
pub fn printable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_as_sentences_and_carry_no_escapes() {
        let killed = EndReason::Killed { why: "wrong host\x1b]0;x\x07".to_owned() };
        assert_eq!(
            killed.to_string(),
            "This session was ended by somebody else: wrong host\u{fffd}]0;x\u{fffd}."
        );
        assert!(killed.for_ledger().starts_with("killed: wrong host"));
        assert_eq!(
            EndReason::Revoked { why: String::new() }.to_string(),
            "Your access has ended: the grant was revoked."
        );
        assert!(
            EndReason::RecordingLost { why: "ENOSPC".to_owned() }.to_string().ends_with("another gateway.")
        );
        assert_eq!(EndReason::Expired.for_ledger(), "expired");
    }
}
