//! Who is at the other end of a call.

use tonic::Request;
use tonic::transport::server::UdsConnectInfo;

use crate::actor::{Actor, Peer};

/// Whoever made a call of this name.
pub(super) fn of<T>(call: &str, request: &Request<T>) -> Actor {
    let connection = request.extensions().get::<UdsConnectInfo>();
    let peer = connection.and_then(|connection| connection.peer_cred);
    Actor::client(call, peer.map(|peer| Peer { uid: peer.uid(), pid: peer.pid() }))
}
