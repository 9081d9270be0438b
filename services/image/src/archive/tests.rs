//! Archives as docker, skopeo and podman write them, archives that lie, and what others make of ours.

mod fixture;
mod foreign;
mod hostile;

use std::io;
use std::path::Path;

use self::fixture::{Image, Tar, docker_archive, image, oci_archive, store};
use super::*;
use crate::document::OCI_LAYER;

fn names(image: &LoadedImage) -> Vec<String> {
    image.references.iter().map(ImageRef::familiar).collect()
}

/// Loads for a platform of the tests.
fn load(source: impl Read, content: &Content) -> Result<Vec<LoadedImage>, ArchiveError> {
    load_for(source, content, "amd64")
}

fn load_for(
    source: impl Read,
    content: &Content,
    architecture: &str,
) -> Result<Vec<LoadedImage>, ArchiveError> {
    let platform = Platform { os: "linux".into(), architecture: architecture.into(), variant: String::new() };
    let mut lease = crate::lease::Leases::default().take();
    super::load(source, Intake { content, lease: &mut lease, platform: &platform })
}

/// Everything below the store, to see what a failure left.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["blobs/sha256", "ingest"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            found.push(format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy()));
        }
    }
    found
}

fn saved(image: &LoadedImage) -> SavedImage {
    SavedImage { references: image.references.clone(), manifest: image.manifest.clone() }
}

fn written(images: &[SavedImage], content: &Content, format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    save(images, content, format, &mut bytes).unwrap();
    bytes
}

#[test]
fn loads_what_docker_saved_before_it_knew_oci() {
    let (folder, content) = store();
    let image = image("a");
    let archive = docker_archive(&[(&image, &["busybox:1", "user/app:2"])]);
    let loaded = load(archive.as_slice(), &content).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(names(&loaded[0]), ["busybox:1", "user/app:2"]);
    assert_eq!(content.read(&image.config_digest, 1 << 20).unwrap(), image.config);
    for layer in &image.layers {
        assert_eq!(content.read(&crate::digest::digest(layer), 1 << 20).unwrap(), *layer);
    }
    // Configuration, two layers, and the manifest that was written for them.
    assert_eq!(files(folder.path()).len(), 4);
    let manifest = content.read(&loaded[0].manifest.digest, 1 << 20).unwrap();
    let document = crate::document::Document::parse(&manifest, &loaded[0].manifest.media_type).unwrap();
    let crate::document::Document::Manifest(manifest) = document else { panic!("an index") };
    assert!(manifest.layers.iter().all(|layer| layer.media_type == OCI_LAYER));
    assert_eq!(load(archive.as_slice(), &content).unwrap(), loaded, "the same manifest again");
}

#[test]
fn layers_shared_by_link_are_taken_once() {
    let (folder, content) = store();
    let (first, second) = (image("a"), image("b"));
    let mut tar = Tar::default();
    tar.file("m/shared.tar", &first.layers[0]);
    tar.symlink("n/layer.tar", "../m/shared.tar");
    tar.hardlink("o/layer.tar", "m/shared.tar");
    tar.file("x.tar", &first.layers[1]);
    tar.file("y.tar", &second.layers[1]);
    for image in [&first, &second] {
        tar.file(&format!("{}.json", image.config_digest.hex()), &image.config);
    }
    let item = |image: &Image, tag: &str, layers: &str| {
        format!(
            r#"{{"Config":"{}.json","RepoTags":["{tag}"],"Layers":[{layers}]}}"#,
            image.config_digest.hex()
        )
    };
    let items =
        [item(&first, "a:1", r#""n/layer.tar","x.tar""#), item(&second, "b:1", r#""./o/layer.tar","y.tar""#)];
    tar.file("./manifest.json", format!("[{}]", items.join(",")).as_bytes());
    let loaded = load(tar.finish().as_slice(), &content).unwrap();
    assert_eq!((names(&loaded[0]), names(&loaded[1])), (vec!["a:1".to_owned()], vec!["b:1".to_owned()]));
    // Two manifests, two configurations, one shared layer and one of each.
    assert_eq!(files(folder.path()).len(), 7);
}

#[test]
fn loads_oci_archives_and_their_names() {
    let (_folder, content) = store();
    let image = image("a");
    let archive = oci_archive(&image, &[("org.opencontainers.image.ref.name", "docker.io/library/x:1")]);
    let loaded = load(archive.as_slice(), &content).unwrap();
    assert_eq!(names(&loaded[0]), ["x:1"]);
    let archive = oci_archive(
        &image,
        &[("org.opencontainers.image.ref.name", "7"), ("io.containerd.image.name", "quay.io/a/b:7")],
    );
    assert_eq!(names(&load(archive.as_slice(), &content).unwrap()[0]), ["quay.io/a/b:7"]);
    let archive = oci_archive(&image, &[("org.opencontainers.image.ref.name", "latest")]);
    assert_eq!(names(&load(archive.as_slice(), &content).unwrap()[0]), Vec::<String>::new());
}

#[test]
fn compressed_archives_are_inflated() {
    let (_folder, content) = store();
    let archive = docker_archive(&[(&image("a"), &["a:1"])]);
    let gzip = fixture::gzip(&archive);
    let zstd = zstd::encode_all(archive.as_slice(), 1).unwrap();
    let plain = load(archive.as_slice(), &content).unwrap();
    assert_eq!(load(gzip.as_slice(), &content).unwrap(), plain);
    assert_eq!(load(zstd.as_slice(), &content).unwrap(), plain);
    let broken = load(&gzip[..gzip.len() / 2], &content).unwrap_err();
    assert!(matches!(broken, ArchiveError::Decompress(_) | ArchiveError::Tar { .. }), "{broken:?}");
    let xz = [&[0xfd][..], b"7zXZ\0rest"].concat();
    assert!(matches!(load(xz.as_slice(), &content), Err(ArchiveError::Compression("xz"))));
}

#[test]
fn what_is_saved_loads_again_and_is_always_the_same() {
    let (_folder, content) = store();
    let archive = docker_archive(&[(&image("a"), &["a:1", "a:2"]), (&image("b"), &["user/b:1"])]);
    let loaded = load(archive.as_slice(), &content).unwrap();
    let images: Vec<SavedImage> = loaded.iter().map(saved).collect();
    for format in [Format::Docker, Format::Oci] {
        let bytes = written(&images, &content, format);
        assert_eq!(bytes, written(&images, &content, format));
        let (_other, other) = store();
        assert_eq!(load(bytes.as_slice(), &other).unwrap(), loaded, "{format:?}");
    }
    // The same image by two names, asked for apart.
    let apart: Vec<SavedImage> = loaded[0]
        .references
        .iter()
        .map(|name| SavedImage { references: vec![name.clone()], ..saved(&loaded[0]) })
        .collect();
    assert_eq!(written(&apart, &content, Format::Docker), written(&images[..1], &content, Format::Docker));
}

#[test]
fn of_several_platforms_the_one_wanted_is_taken() {
    let (folder, content) = store();
    let (amd64, arm64) = (image("a"), image("b"));
    let archive = fixture::index_archive(&[("amd64", &amd64), ("arm64", &arm64)], "multi:1");
    let loaded = load_for(archive.as_slice(), &content, "arm64").unwrap();
    assert_eq!(loaded[0].manifest.digest, crate::digest::digest(&arm64.manifest));
    assert_eq!(names(&loaded[0]), ["multi:1"]);
    assert_eq!(files(folder.path()).len(), 4, "nothing of the other platform");
    let error = load_for(archive.as_slice(), &content, "riscv64").unwrap_err();
    assert!(error.to_string().contains("no image for platform linux/riscv64"), "{error}");
    // The index names a platform more than the archive holds.
    let error = load_for(archive.as_slice(), &content, "s390x").unwrap_err();
    assert!(error.to_string().contains("only for linux/amd64, linux/arm64"), "{error}");
}

#[test]
fn saving_what_is_not_whole_says_what_is_missing() {
    let (_folder, content) = store();
    let image = image("a");
    let loaded = load(docker_archive(&[(&image, &["a:1"])]).as_slice(), &content).unwrap();
    let layer = crate::digest::digest(&image.layers[0]);
    let path = content.path(&layer);
    std::fs::write(&path, vec![0; image.layers[0].len()]).unwrap();
    let error = save(&[saved(&loaded[0])], &content, Format::Docker, io::sink()).unwrap_err();
    assert!(
        matches!(error, ArchiveError::Content(crate::content::ContentError::WrongDigest { .. })),
        "{error:?}"
    );
    content.remove(&layer).unwrap();
    let error = save(&[saved(&loaded[0])], &content, Format::Docker, io::sink()).unwrap_err();
    assert!(error.to_string().contains(layer.as_str()), "{error}");
}
