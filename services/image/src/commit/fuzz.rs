//! What the fuzz targets reach of commits: new documents made of an image's own.

use super::document::{NewLayer, Words, config, config_descriptor, defaults, manifest};
use crate::digest::digest;
use crate::document::{Descriptor, Document, LAYERS, OCI_LAYER, OCI_MANIFEST};
use crate::image::{Image, check};

/// An image made upon another one can be read as that could.
pub(crate) fn upon(base: &Image) {
    if base.manifest.layers.len() == LAYERS {
        return;
    }
    let layer = NewLayer { blob: Descriptor::new(OCI_LAYER, digest(b"blob"), 4), diff_id: digest(b"files") };
    let words = Words { created: "2026-11-20T22:00:00Z".to_owned(), ..Words::default() };
    let defaults = defaults(Some(base)).expect("it was read before");
    let platform = &base.config.platform;
    let made = config(Some(base), platform, defaults, Some(&layer), (&words, None));
    let made = made.expect("it was read before");
    let descriptor = config_descriptor(digest(&made), &made);
    let upper = manifest(Some(base), &descriptor, Some(&layer)).expect("it was read before");
    match Document::parse(&upper, OCI_MANIFEST) {
        Ok(Document::Manifest(manifest)) => {
            let config = check(&manifest, &made).expect("what is made of an image is one");
            assert_eq!(config.rootfs.diff_ids.len(), base.diff_ids().len() + 1);
        }
        other => panic!("what is made of a manifest is none: {other:?}"),
    }
}
