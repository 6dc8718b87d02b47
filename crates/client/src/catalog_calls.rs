//! Calls that put catalogs into force, and what is fetched in one piece: evidence, gateways.

use halligan_core::ids::ChangeId;

use crate::client::Client;
use crate::error::ClientError;
use crate::types::*;

type Answer<T> = Result<T, ClientError>;

impl Client {
    /// Stores systems that no catalog in force names yet: JSON, one a line, at most some megabytes at once. Give the
    /// generation of the first answer with what follows.
    pub async fn put_systems(&self, generation: Option<u64>, lines: String) -> Answer<CatalogGeneration> {
        let path = match generation {
            Some(generation) => format!("catalog/systems?generation={generation}"),
            None => "catalog/systems".to_owned(),
        };
        self.post_lines(&path, lines).await
    }
    /// Puts a catalog into force, or proposes it.
    pub async fn apply_catalog(&self, wish: &CatalogApplyWish) -> Answer<CatalogApplied> {
        self.post_slowly("catalog/apply", wish).await
    }
    /// Goes back to an earlier version.
    pub async fn roll_back_catalog(&self, version: u64, totp: &str) -> Answer<CatalogApplied> {
        self.post_slowly("catalog/rollback", &CatalogRollbackWish { version, totp: totp.to_owned() }).await
    }
    /// Puts a proposal of somebody else into force.
    pub async fn confirm_catalog(&self, change: ChangeId, totp: &str) -> Answer<CatalogApplied> {
        let wish = Totp { totp: totp.to_owned() };
        self.post_slowly(&format!("catalog/proposals/{change}/confirm"), &wish).await
    }
    /// A proposal as a second person reads it.
    pub async fn catalog_proposal(&self, change: ChangeId) -> Answer<serde_json::Value> {
        self.get(&format!("catalog/proposals/{change}")).await
    }
    /// Says no to a proposal, or takes one's own back.
    pub async fn reject_catalog(&self, change: ChangeId, reason: &str) -> Answer<()> {
        let wish = serde_json::json!({ "reason": reason });
        self.post_only(&format!("catalog/proposals/{change}/reject"), &wish).await
    }
    /// The evidence bundle of an incident, by `INC-7` or id.
    pub async fn evidence<W: std::io::Write>(&self, which: &str, sink: &mut W) -> Answer<u64> {
        let which: String = url::form_urlencoded::byte_serialize(which.as_bytes()).collect();
        self.download(&format!("incidents/{which}/evidence"), sink).await
    }
    /// Looks at systems themselves, against the catalog in force.
    pub async fn check_live(&self, wish: &LiveCheckWish) -> Answer<LiveCheck> {
        self.post_slowly("catalog/check-live", wish).await
    }
    /// Gateways, with where clients come in and the keys that they pin.
    pub async fn gateways(&self) -> Answer<Vec<GatewayView>> {
        self.get("gateways").await
    }
}
