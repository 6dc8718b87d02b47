//! Links between roles that run in one process: the same frames, over a pipe in memory.

use std::sync::Arc;

use crate::messages::PeerInfo;
use crate::peer::{Handler, Peer, Timing};

/// Bytes that wait in each direction.
const PIPE: usize = 256 * 1024;

/// Links two roles. `info_a` is who A is and `handler_a` answers what B asks. The first of the pair is held by A and
/// leads to B; the second is held by B and leads to A.
pub fn in_process(
    handler_a: Arc<dyn Handler>,
    info_a: PeerInfo,
    handler_b: Arc<dyn Handler>,
    info_b: PeerInfo,
) -> (Peer, Peer) {
    let (end_a, end_b) = tokio::io::duplex(PIPE);
    let at_a = Peer::start(end_a, info_b, handler_a, Timing::default());
    let at_b = Peer::start(end_b, info_a, handler_b, Timing::default());
    (at_a, at_b)
}
