//! Names of session roles: everything of ours at a server is found by them.

use halligan_core::ids::{GrantId, Name};
use sha2::{Digest as _, Sha256};

/// What each begins with.
const PREFIX: &str = "halligan_";
/// What each standing role begins with.
const STANDING: &str = "halligan_prep_";
/// So much is left for the group.
const STANDING_GROUP_MOST: usize = 46;
/// PostgreSQL cuts names at 63 bytes: so much is left for the gateway.
const GATEWAY_MOST: usize = 23;

/// The role of a grant at one gateway. A gateway's name that is too long is cut, with a digest of it at the end.
pub fn session_role(grant: GrantId, gateway: &Name) -> String {
    let gateway = gateway.to_string();
    if gateway.len() <= GATEWAY_MOST {
        return format!("{PREFIX}{grant}_{gateway}");
    }
    let digest = hex::encode(Sha256::digest(gateway.as_bytes()));
    let (head, tail): (String, String) =
        (gateway.chars().take(14).collect(), digest.chars().take(8).collect());
    format!("{PREFIX}{grant}_{head}-{tail}")
}

/// The standing role of this number of a group. A group's name that is too long is cut, with a digest of it at the end.
pub fn standing_role(number: u8, group: &str) -> String {
    if group.len() <= STANDING_GROUP_MOST {
        return format!("{STANDING}{number:02}_{group}");
    }
    let digest = hex::encode(Sha256::digest(group.as_bytes()));
    let (head, tail): (String, String) = (group.chars().take(37).collect(), digest.chars().take(8).collect());
    format!("{STANDING}{number:02}_{head}-{tail}")
}

/// Whether a role is a standing one, by its name.
pub fn is_standing(role: &str) -> bool {
    role.starts_with(STANDING)
}

/// The grant that a role of this name belongs to, if the name is one of ours.
pub fn grant_of(role: &str) -> Option<GrantId> {
    let (grant, gateway) = role.strip_prefix(PREFIX)?.split_at_checked(30)?;
    gateway.strip_prefix('_').filter(|rest| !rest.is_empty())?;
    grant.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_names_its_grant_and_fits() {
        let grant = GrantId::from_bits(77);
        for gateway in ["gw-1", "a", "gateway.of.a.very.long.name-in-frankfurt-3"] {
            let role = session_role(grant, &Name::new(gateway).unwrap());
            assert!(role.len() <= 63, "{role}");
            assert_eq!(grant_of(&role), Some(grant));
        }
        let other = session_role(grant, &Name::new("gateway.of.a.very.long.name-in-frankfurt-4").unwrap());
        assert_ne!(
            other,
            session_role(grant, &Name::new("gateway.of.a.very.long.name-in-frankfurt-3").unwrap())
        );
        for foreign in ["halligan_owner", "postgres", "halligan_grt_1_gw", &format!("halligan_{grant}_")] {
            assert_eq!(grant_of(foreign), None, "{foreign}");
        }
    }
}
