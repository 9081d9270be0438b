//! What registries and archives say of an image: index or manifest, configuration, and the words around them. What is
//! taken for an image is one for every reader: the store's, the controller's, the builder's.
#![no_main]

use davit_dockerfile::change::Config;
use davit_image::digest::digest;
use davit_image::document::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use davit_image::registry::manifest::{ManifestKind, classify};
use libfuzzer_sys::fuzz_target;

const TYPES: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

// The announced kind, a document, and behind a NUL byte a configuration or a body.
fuzz_target!(|input: &[u8]| {
    let Some((kind, input)) = input.split_first() else { return };
    let (first, second) = match input.iter().position(|byte| *byte == 0) {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &b""[..]),
    };
    if kind % 8 == 7 {
        davit_image::registry::fuzz::answer(first, second);
        return;
    }
    let announced = TYPES.get(usize::from(kind % 8)).copied();
    if let Ok((kind, media_type)) = classify(first, announced) {
        assert_eq!(kind == ManifestKind::Index, [OCI_INDEX, DOCKER_INDEX].contains(&media_type.as_str()));
        let descriptor = Descriptor::new(media_type, digest(first), first.len() as u64);
        davit_image::fuzz::image(&descriptor, first, second);
    }
    if let Ok(serde_json::Value::Object(mut document)) = serde_json::from_slice(second) {
        if let Some(serde_json::Value::Object(defaults)) = document.remove("config") {
            let _ = Config::new(defaults);
        }
    }
    let _ = davit_controller::container::spec::ImageConfig::parse(second);
});
