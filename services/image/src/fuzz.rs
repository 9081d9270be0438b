//! What the fuzz targets reach of the image service: readers of foreign bytes, without a store around them.

use std::path::Path;

use crate::commit;
use crate::document::{Descriptor, Document, Platform};
use crate::holder::Holders;
use crate::image::{self, Image};
use crate::index::References;
use crate::list;
use crate::platform::choose;

/// A manifest or an index and a configuration, as they are read after a pull: what is taken for an image can be told of
/// and built upon.
pub fn image(descriptor: &Descriptor, manifest_bytes: &[u8], config_bytes: &[u8]) {
    let host = Platform::host();
    let manifest = match Document::parse(manifest_bytes, &descriptor.media_type) {
        Ok(Document::Manifest(manifest)) => manifest,
        Ok(Document::Index(index)) => {
            if choose(&index.manifests, &host).is_none() {
                let _ = image::no_platform(&index.manifests, &host).to_string();
            }
            return;
        }
        Err(_) => return,
    };
    let Ok(config) = image::check(&manifest, config_bytes) else { return };
    let image = Image {
        descriptor: descriptor.clone(),
        manifest,
        manifest_bytes: manifest_bytes.to_vec().into(),
        config,
        config_bytes: config_bytes.to_vec().into(),
    };
    let sizes = vec![u64::MAX; image.diff_ids().len()];
    assert!(list::history(&image, &sizes).len() >= sizes.len(), "each layer is in the history");
    let _ = (image.created(), image.blobs().count());
    commit::fuzz::upon(&image);
}

/// The service's own records in a folder: `index.json`, and `use/<container id>.json`.
pub fn records(root: &Path) {
    if let Ok(references) = References::open(root) {
        let entries = references.entries().expect("it was just read");
        references.change(|_| ()).expect("what was read can be written");
        let again = References::open(root).expect("what was written can be read");
        assert_eq!(again.entries().expect("it was just read"), entries);
    }
    if let Ok(holders) = Holders::open(root) {
        for (_, holder) in holders.all() {
            assert!(!holder.manifests().is_empty(), "what is held is held by its manifest");
        }
    }
}
