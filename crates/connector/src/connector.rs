//! What a connector of one kind must do.

use halligan_core::catalog::SystemKind;
use halligan_core::ids::GrantId;
use halligan_core::proof::Evidence;
use halligan_core::time::Time;
use halligan_link::messages::{PeerInfo, Request, Response};
use halligan_session::{BoxFuture, SignedLease};

use crate::error::ConnectorError;

/// Makes, ends and proves credentials of one kind of target. Every call may be repeated, can be resumed after a crash,
/// and ends in bounded time.
pub trait Connector: Send + Sync + 'static {
    /// Its kind.
    fn kind(&self) -> SystemKind;
    /// The grant may have credentials from now on.
    fn activate<'a>(&'a self, lease: &'a SignedLease) -> BoxFuture<'a, Result<(), ConnectorError>>;
    /// It may not any more, ever. Returns from when on its end can be proved.
    fn deactivate(&self, grant: GrantId, fencing: u64) -> BoxFuture<'_, Result<Time, ConnectorError>>;
    /// Looks whether its credentials still open the door.
    fn look(&self, grant: GrantId, fencing: u64) -> BoxFuture<'_, Result<Evidence, ConnectorError>>;
    /// Answers what only this kind is asked, by control or by a gateway of this site; `None` for everything else.
    fn answer<'a>(
        &'a self,
        peer: &'a PeerInfo,
        request: Request,
    ) -> BoxFuture<'a, Option<Result<Response, ConnectorError>>>;
    /// What it does unasked, for as long as the connector runs. Need not return.
    fn keep_watch(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
    /// What a person should know, as sentences.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}
