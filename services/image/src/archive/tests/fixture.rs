//! Small images and archives of them, byte by byte.

use std::io::Write as _;

use davit_proto::id::Digest;

use crate::content::Content;
use crate::digest::digest;

/// A store in a temporary folder.
pub(super) fn store() -> (tempfile::TempDir, Content) {
    let folder = tempfile::tempdir().unwrap();
    let content = Content::open(folder.path()).unwrap();
    (folder, content)
}

/// A tar archive being written.
#[derive(Default)]
pub(super) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub(super) fn file(&mut self, name: &str, data: &[u8]) {
        self.entry(tar::EntryType::Regular, name, "", data);
    }

    pub(super) fn symlink(&mut self, name: &str, target: &str) {
        self.entry(tar::EntryType::Symlink, name, target, b"");
    }

    pub(super) fn hardlink(&mut self, name: &str, target: &str) {
        self.entry(tar::EntryType::Link, name, target, b"");
    }

    /// Any entry; the name is written as it is, which the `tar` crate would refuse for bad ones.
    pub(super) fn entry(&mut self, kind: tar::EntryType, name: &str, target: &str, data: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        let raw = header.as_mut_bytes();
        raw[..name.len()].copy_from_slice(name.as_bytes());
        raw[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

/// An image of two uncompressed layers, the lower of which all images share.
pub(super) struct Image {
    pub(super) layers: Vec<Vec<u8>>,
    pub(super) config: Vec<u8>,
    pub(super) config_digest: Digest,
    pub(super) manifest: Vec<u8>,
}

pub(super) fn image(name: &str) -> Image {
    let layer = |file: &str, text: &str| {
        let mut tar = Tar::default();
        tar.file(file, text.as_bytes());
        tar.finish()
    };
    let layers = vec![layer("shared", "lower"), layer(name, "upper")];
    let ids: Vec<String> = layers.iter().map(|layer| format!(r#""{}""#, digest(layer))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/{name}"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    )
    .into_bytes();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{},{}]}}"#,
        descriptor("application/vnd.oci.image.config.v1+json", &config),
        descriptor("application/vnd.oci.image.layer.v1.tar", &layers[0]),
        descriptor("application/vnd.oci.image.layer.v1.tar", &layers[1]),
    )
    .into_bytes();
    Image { config_digest: digest(&config), layers, config, manifest }
}

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, digest(bytes), bytes.len())
}

/// As docker wrote archives before version 25.
pub(super) fn docker_archive(images: &[(&Image, &[&str])]) -> Vec<u8> {
    let mut tar = Tar::default();
    let mut items = Vec::new();
    for (number, (image, tags)) in images.iter().enumerate() {
        let mut paths = Vec::new();
        for (level, layer) in image.layers.iter().enumerate() {
            let path = format!("image{number}layer{level}/layer.tar");
            tar.entry(tar::EntryType::Directory, path.trim_end_matches("layer.tar"), "", b"");
            tar.file(&path, layer);
            paths.push(format!(r#""{path}""#));
        }
        let config = format!("{}.json", image.config_digest.hex());
        tar.file(&config, &image.config);
        let tags: Vec<String> = tags.iter().map(|tag| format!(r#""{tag}""#)).collect();
        items.push(format!(
            r#"{{"Config":"{config}","RepoTags":[{}],"Layers":[{}]}}"#,
            tags.join(","),
            paths.join(",")
        ));
    }
    tar.file("manifest.json", format!("[{}]", items.join(",")).as_bytes());
    tar.file("repositories", b"{}");
    tar.finish()
}

fn blobs(tar: &mut Tar, image: &Image, known: &mut Vec<Digest>) {
    for blob in image.layers.iter().chain([&image.config, &image.manifest]) {
        let digest = digest(blob);
        if !known.contains(&digest) {
            tar.file(&format!("blobs/sha256/{}", digest.hex()), blob);
            known.push(digest);
        }
    }
}

fn layout(tar: &mut Tar, listed: &str) {
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    tar.file("index.json", format!(r#"{{"schemaVersion":2,"manifests":[{listed}]}}"#).as_bytes());
}

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// The OCI form of one image with these annotations.
pub(super) fn oci_archive(image: &Image, annotations: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Tar::default();
    blobs(&mut tar, image, &mut Vec::new());
    layout(&mut tar, &annotated(&image.manifest, MANIFEST_TYPE, annotations));
    tar.finish()
}

/// An index of these platforms and of `s390x`, which the archive lacks.
pub(super) fn index_archive(images: &[(&str, &Image)], name: &str) -> Vec<u8> {
    let mut tar = Tar::default();
    let mut known = Vec::new();
    let child = |architecture: &str, bytes: &[u8]| {
        let plain = descriptor(MANIFEST_TYPE, bytes);
        let plain = plain.trim_end_matches('}');
        format!(r#"{plain},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#)
    };
    let mut children = vec![child("s390x", b"another platform's")];
    for (architecture, image) in images {
        blobs(&mut tar, image, &mut known);
        children.push(child(architecture, &image.manifest));
    }
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","));
    tar.file(&format!("blobs/sha256/{}", digest(index.as_bytes()).hex()), index.as_bytes());
    let index_type = "application/vnd.oci.image.index.v1+json";
    layout(&mut tar, &annotated(index.as_bytes(), index_type, &[("io.containerd.image.name", name)]));
    tar.finish()
}

fn annotated(bytes: &[u8], media_type: &str, annotations: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = annotations.iter().map(|(key, value)| format!(r#""{key}":"{value}""#)).collect();
    let plain = descriptor(media_type, bytes);
    format!(r#"{},"annotations":{{{}}}}}"#, plain.trim_end_matches('}'), pairs.join(","))
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
