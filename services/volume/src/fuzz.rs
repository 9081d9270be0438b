//! What the fuzz targets reach of the volume service: its checks of requests, and its records.

use std::path::Path;

use davit_proto::types::Filter as Condition;
use davit_proto::volume::{CreateRequest, Use};

use crate::api;
use crate::options::Medium;
use crate::store::Store;
use crate::usage::Usage;

/// A wish for a volume, and what its options come to.
pub fn create(request: CreateRequest) {
    let Ok(wanted) = api::wanted(request) else { return };
    let _ = Medium::parse(&wanted.options);
    let record = wanted.clone().record();
    assert!(wanted.agrees(&record).is_ok(), "a volume is what was asked for");
}

/// A wish of a container.
pub fn prepare(uses: Vec<Use>) {
    uses.into_iter().for_each(|wire| drop(api::use_(wire)));
}

/// Conditions of a list.
pub fn filter(conditions: Vec<Condition>) {
    let _ = api::filter(conditions);
}

/// The records in a folder: `<name>/volume.json`, `.use/<container id>.json`. What can be read is the same when it is
/// read again.
pub fn records(path: &Path) {
    if let Ok(store) = Store::open(path) {
        let records = store.load().expect("the folder can be listed");
        for record in records.values() {
            let _ = (Medium::parse(&record.options), record.is_plain());
            store.rewrite(record).expect("what was read can be written");
        }
        assert_eq!(store.load().expect("the folder can be listed"), records);
    }
    if let Ok(mut usage) = Usage::open(&path.join(".use")) {
        for id in usage.containers() {
            let uses = usage.of(&id).expect("it is known").clone();
            usage.record(&id, uses).expect("what was read can be written");
        }
        let again = Usage::open(&path.join(".use")).expect("what was written can be read");
        assert_eq!(again.by_volume(), usage.by_volume());
    }
}
