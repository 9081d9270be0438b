//! What the fuzz targets reach of the network service: its checks of requests, and its books, without a kernel.

use std::path::Path;

use davit_proto::network::{AttachRequest, CreateRequest, DetachRequest};
use davit_proto::types::Filter;

use crate::api::decode;
use crate::books::Books;
use crate::ipam;

/// A wish for a network. Ranges that are taken have an address to give.
pub fn create(request: CreateRequest) {
    let Ok(wanted) = decode::wanted(request) else { return };
    for range in &wanted.ranges {
        let first = ipam::next_free(range, range.gateway, |_| false);
        assert!(first.is_none_or(|ip| range.subnet.contains(&ip) && ip != range.gateway));
    }
}

/// A wish for a place on networks.
pub fn attach(request: AttachRequest) {
    let _ = decode::attach(request);
}

/// A wish to leave one.
pub fn detach(request: DetachRequest) {
    let _ = decode::detach(request);
}

/// Conditions of a list.
pub fn filter(conditions: Vec<Filter>) {
    let _ = decode::filter(conditions);
}

/// The books in a folder: `<name>.json`, `.lease/<container id>.json`. What can be read is the same when it is read again.
pub fn books(path: &Path) {
    let Ok(mut books) = Books::open(path, "fuzz") else { return };
    let torn = books.take_torn();
    let holdings: Vec<_> = books.holdings().map(|(id, holding)| (id.clone(), holding.clone())).collect();
    let networks: Vec<_> = books.networks().cloned().collect();
    for (id, holding) in &holdings {
        let _ = (books.ways_out(holding), books.publications());
        books.hold(id, holding.clone()).expect("what was read can be written");
    }
    for network in &networks {
        let _ = books.ranges(None);
        for range in network.bridge.iter().flat_map(|bridge| &bridge.ranges) {
            let _ = ipam::next_free(range, range.gateway, |_| false);
        }
        for ipv4 in [true, false] {
            let _ = books.cursor(network, ipv4).map(|cursor| cursor.at());
        }
        books.put(network.clone()).expect("what was read can be written");
    }
    drop(books);
    let again = Books::open(path, "fuzz").expect("what was written can be read");
    assert!(again.holdings().map(|(id, holding)| (id.clone(), holding.clone())).eq(holdings));
    assert!(again.networks().cloned().eq(networks));
    for id in torn.keys() {
        again.forget_torn(id).expect("what cannot be read can be forgotten");
    }
}
