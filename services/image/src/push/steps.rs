//! Steps of builds at a registry: an index of their images that says which step each is of.

use davit_proto::step::ANNOTATION;
use serde_json::json;

use super::{Push, PushError, Pushed};
use crate::digest::digest;
use crate::document::OCI_INDEX;
use crate::pull::Progress;
use crate::reference::{DEFAULT_TAG, ImageRef};
use crate::registry::{Manifest, ManifestKind};

impl Push {
    /// Sends the index of all that was sent. It goes last: what it names is there.
    pub(super) async fn index(&self, reference: &ImageRef) -> Result<(), PushError> {
        let manifests = self.selection.chosen.iter().map(|chosen| {
            let descriptor = &chosen.image.descriptor;
            json!({
                "mediaType": descriptor.media_type,
                "digest": descriptor.digest,
                "size": descriptor.size,
                "annotations": { ANNOTATION: chosen.reference.to_string() },
            })
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": manifests.collect::<Vec<_>>(),
        });
        let bytes = bytes::Bytes::from(index.to_string());
        let (digest, size) = (digest(&bytes), bytes.len() as u64);
        let media_type = OCI_INDEX.to_owned();
        let manifest = Manifest { bytes, media_type, kind: ManifestKind::Index, digest: digest.clone() };
        let tag = reference.tag().unwrap_or(DEFAULT_TAG);
        self.repository.send_manifest(&manifest, tag).await?;
        let reference = reference.to_string();
        self.board.tell(Progress::Pushed(Pushed { reference, digest, size, part_of: None }));
        Ok(())
    }
}
