//! Archives that lie: one clear error each, and nothing left in the store.

use super::fixture::{Tar, descriptor, docker_archive, gzip, image, oci_archive, store};
use super::*;
use crate::document::{CONFIG_BYTES, OCI_MANIFEST};

/// Loads and expects an error that says `complaint`, with an empty store after.
fn refused(archive: &[u8], complaint: &str) {
    let (folder, content) = store();
    let error = load(archive, &content).expect_err(complaint);
    let text = davit_proto::status::chain(&error);
    assert!(text.contains(complaint), "wanted {complaint:?}, got {text:?}");
    assert!(error.is_content(), "{text}");
    assert_eq!(files(folder.path()), Vec::<String>::new(), "{complaint}");
}

fn with(entries: impl FnOnce(&mut Tar)) -> Vec<u8> {
    let mut tar = Tar::default();
    entries(&mut tar);
    tar.finish()
}

#[test]
fn names_that_lead_out() {
    refused(&with(|tar| tar.file("../manifest.json", b"[]")), "leads out of the archive");
    refused(&with(|tar| tar.file("/etc/passwd", b"x")), "leads out of the archive");
    refused(&with(|tar| tar.file("a/../../x", b"x")), "leads out of the archive");
    refused(&with(|tar| tar.symlink("a/layer.tar", "../../../etc/passwd")), "leads out of the archive");
    refused(&with(|tar| tar.symlink("a", "/etc/passwd")), "leads out of the archive");
    refused(&with(|tar| tar.hardlink("a", "../x")), "leads out of the archive");
    refused(&with(|tar| tar.entry(tar::EntryType::Char, "dev", "", b"")), "neither a file");
}

#[test]
fn documents_that_are_links() {
    let archive = with(|tar| {
        tar.file("real.json", b"[]");
        tar.symlink("manifest.json", "real.json");
    });
    refused(&archive, "is a link and must be a file");
    let archive = with(|tar| {
        tar.symlink("index.json", "oci-layout");
        tar.file("oci-layout", b"{}");
    });
    refused(&archive, "is a link and must be a file");
}

#[test]
fn documents_that_are_huge_or_garbage() {
    let huge = vec![b' '; CONFIG_BYTES + 1];
    refused(&with(|tar| tar.file("manifest.json", &huge)), "larger than 8 MiB");
    refused(&with(|tar| tar.file("manifest.json", b"{")), "invalid list of images");
    refused(&with(|tar| tar.file("manifest.json", b"[]")), "holds no image");
    refused(&with(|tar| tar.file("manifest.json", "[".repeat(1 << 20).as_bytes())), "invalid list of images");
    refused(&with(|tar| tar.file("hello", b"world")), "neither a docker nor an OCI archive");
    refused(b"this is no archive at all, but it is longer than nothing", "archive ends in the middle");
    refused(&vec![b'x'; 2048], "checksum");
    refused(b"", "neither a docker nor an OCI archive");
    let many = format!("[{}]", vec![r#"{"Config":"c","Layers":[]}"#; 1001].join(","));
    refused(&with(|tar| tar.file("manifest.json", many.as_bytes())), "number of images");
}

#[test]
fn entries_that_are_missing_or_doubled() {
    let item = |config: &str| format!(r#"[{{"Config":"{config}","RepoTags":null,"Layers":["l"]}}]"#);
    refused(&with(|tar| tar.file("manifest.json", item("c").as_bytes())), "\"c\" is missing");
    refused(&with(|tar| tar.file("manifest.json", item("../c").as_bytes())), "leads out of the archive");
    let circle = with(|tar| {
        tar.symlink("c", "d");
        tar.symlink("d", "c");
        tar.file("manifest.json", item("c").as_bytes());
    });
    refused(&circle, "leads nowhere");
    let twice = with(|tar| {
        tar.file("manifest.json", b"[]");
        tar.file("./manifest.json", b"[1]");
    });
    refused(&twice, "twice");
}

#[test]
fn bytes_of_another_digest() {
    let mut image = image("a");
    image.layers[1][600] ^= 1;
    refused(&docker_archive(&[(&image, &["a:1"])]), "is corrupt");
    let archive = oci_archive(&image, &[]);
    // The fixture names the changed layer by its new digest; the manifest still wants the old one.
    refused(&archive, "is missing");

    let mut image = super::image("a");
    image.config.push(b' ');
    refused(&docker_archive(&[(&image, &["a:1"])]), "is corrupt");

    let image = super::image("a");
    let lying = with(|tar| {
        tar.file("oci-layout", b"{}");
        tar.file(&format!("blobs/sha256/{}", image.config_digest.hex()), &image.manifest);
        let listed = descriptor(OCI_MANIFEST, &image.config).replace(
            &format!(r#""size":{}"#, image.config.len()),
            &format!(r#""size":{}"#, image.manifest.len()),
        );
        tar.file("index.json", format!(r#"{{"schemaVersion":2,"manifests":[{listed}]}}"#).as_bytes());
    });
    refused(&lying, "is corrupt");
}

#[test]
fn layers_of_another_digest_leave_nothing_behind_them() {
    let image = image("a");
    let mut archive = oci_archive(&image, &[]);
    let layer = &image.layers[1];
    let at = archive.windows(layer.len()).position(|window| window == layer).unwrap();
    archive[at + 600] ^= 1;
    let (folder, content) = store();
    let error = load(archive.as_slice(), &content).unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
    assert!(files(folder.path()).iter().all(|name| name.starts_with("blobs/")), "no partial blob");
    assert_eq!(content.size(&crate::digest::digest(layer)).unwrap(), None);
}

#[test]
fn two_forms_that_disagree() {
    let (a, b) = (image("a"), image("b"));
    let oci = oci_archive(&a, &[("io.containerd.image.name", "a:1")]);
    let docker = docker_archive(&[(&b, &["b:1"])]);
    let joined = [&oci[..oci.len() - 1024], &docker[..]].concat();
    refused(&joined, "name different images");
}

#[test]
fn bad_names_and_digests() {
    let image = image("a");
    refused(&docker_archive(&[(&image, &["a/UPPER:1"])]), "names an image \"a/UPPER:1\"");
    refused(&oci_archive(&image, &[("io.containerd.image.name", "a b")]), "names an image");
    let index = br#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:../../x","size":1}]}"#;
    let archive = with(|tar| {
        tar.file("oci-layout", b"{}");
        tar.file("index.json", index);
    });
    refused(&archive, "invalid index");
}

#[test]
fn indexes_within_indexes() {
    let index_type = "application/vnd.oci.image.index.v1+json";
    let mut tar = Tar::default();
    tar.file("oci-layout", b"{}");
    let mut inner = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
    for _ in 0..10 {
        tar.file(&format!("blobs/sha256/{}", crate::digest::digest(&inner).hex()), &inner);
        inner =
            format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor(index_type, &inner)).into_bytes();
    }
    tar.file("index.json", &inner);
    refused(&tar.finish(), "an index within an index");
}

#[test]
fn a_bomb_is_stopped_by_its_ratio() {
    let (folder, content) = store();
    let bytes = gzip(&with(|tar| tar.file("zeros", &vec![0; 4 << 20])));
    let limits = Limits { ratio: 100, ratio_from: 1 << 20, ..Limits::default() };
    let error = Spool::read(bytes.as_slice(), &content.ingest_path(), &limits).unwrap_err();
    assert!(error.to_string().contains("ratio of decompressed to compressed bytes"), "{error}");
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let error = Spool::read(bytes.as_slice(), &content.ingest_path(), &limits).unwrap_err();
    assert!(error.to_string().contains("number of bytes"), "{error}");
    let limits = Limits { entries: 1, ..Limits::default() };
    let archive = with(|tar| {
        tar.file("a", b"");
        tar.file("b", b"");
    });
    let error = Spool::read(archive.as_slice(), &content.ingest_path(), &limits).unwrap_err();
    assert!(error.to_string().contains("number of entries"), "{error}");
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[test]
fn a_source_that_fails_is_told_as_such() {
    struct Failing(bool);
    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("client went away"));
            }
            let whole = gzip(&docker_archive(&[(&image("a"), &["a:1"])]));
            into[..100].copy_from_slice(&whole[..100]);
            Ok(100)
        }
    }
    let (folder, content) = store();
    let error = load(Failing(false), &content).unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Source(cause) if cause.to_string() == "client went away"),
        "{error:?}"
    );
    assert!(!error.is_content());
    assert_eq!(files(folder.path()), Vec::<String>::new());
}
