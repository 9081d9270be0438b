//! skopeo and podman read what we write, and we read what they write.

use std::path::Path;
use std::process::Command;

use super::fixture::{docker_archive, image, oci_archive, store};
use super::*;

/// Whether the programs are here; says which is not.
fn can_run(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing =
        programs.iter().find(|name| !std::env::split_paths(&path).any(|folder| folder.join(name).exists()));
    if let Some(missing) = missing {
        println!("skipped: {missing} is not installed");
    }
    missing.is_none()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

fn skopeo(folder: &Path, arguments: &[&str]) -> String {
    run(Command::new("skopeo").arg("--insecure-policy").args(arguments).current_dir(folder))
}

fn podman(folder: &Path, arguments: &[&str]) -> String {
    let (root, runroot) = (folder.join("podman"), folder.join("podman-run"));
    let mut command = Command::new("podman");
    command.arg("--root").arg(&root).arg("--runroot").arg(&runroot).args(["--storage-driver", "vfs"]);
    run(command.args(arguments).current_dir(folder))
}

/// Two images in a store, one with two names.
fn two_images() -> (tempfile::TempDir, Content, Vec<LoadedImage>) {
    let (folder, content) = store();
    let archive =
        docker_archive(&[(&image("a"), &["one:1", "one:2"]), (&image("b"), &["quay.io/user/two:1"])]);
    let loaded = load(archive.as_slice(), &content).unwrap();
    (folder, content, loaded)
}

#[test]
fn skopeo_reads_what_we_save() {
    if !can_run(&["skopeo"]) {
        return;
    }
    let (folder, content, loaded) = two_images();
    let images: Vec<SavedImage> = loaded.iter().map(saved).collect();
    std::fs::write(folder.path().join("both.tar"), written(&images, &content, Format::Docker)).unwrap();
    std::fs::write(folder.path().join("both.oci"), written(&images, &content, Format::Oci)).unwrap();
    let second = &images[1..];
    std::fs::write(folder.path().join("two.oci"), written(second, &content, Format::Oci)).unwrap();
    for source in [
        "docker-archive:both.tar:one:2",
        "docker-archive:both.tar:quay.io/user/two:1",
        "oci-archive:both.oci:2",
        "oci-archive:two.oci",
        "oci-archive:both.tar:2",
    ] {
        let copy = folder.path().join("copy");
        skopeo(folder.path(), &["copy", "--quiet", source, "dir:copy"]);
        let config = if source.contains("two") { image("b").config_digest } else { image("a").config_digest };
        assert!(copy.join(config.hex()).exists(), "{source}");
        std::fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn podman_reads_what_we_save() {
    if !can_run(&["podman"]) {
        return;
    }
    let (folder, content, loaded) = two_images();
    let images: Vec<SavedImage> = loaded.iter().map(saved).collect();
    std::fs::write(folder.path().join("both.tar"), written(&images, &content, Format::Docker)).unwrap();
    podman(folder.path(), &["load", "--quiet", "-i", "both.tar"]);
    let listed = podman(folder.path(), &["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, ["docker.io/library/one:1", "docker.io/library/one:2", "quay.io/user/two:1"]);
    let id = podman(folder.path(), &["inspect", "--format", "{{.Id}}", "one:1"]);
    assert_eq!(id.trim(), image("a").config_digest.hex());

    std::fs::write(folder.path().join("two.oci"), written(&images[1..], &content, Format::Oci)).unwrap();
    podman(folder.path(), &["rmi", "--all", "--force"]);
    podman(folder.path(), &["load", "--quiet", "-i", "two.oci"]);
    let id = podman(folder.path(), &["inspect", "--format", "{{.Id}}", "quay.io/user/two:1"]);
    assert_eq!(id.trim(), image("b").config_digest.hex());
}

#[test]
fn we_read_what_skopeo_and_podman_write() {
    if !can_run(&["skopeo", "podman"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image("a");
    std::fs::write(folder.path().join("in.oci"), oci_archive(&image, &[])).unwrap();
    skopeo(folder.path(), &["copy", "--quiet", "oci-archive:in.oci", "docker-archive:s.tar:name:1"]);
    skopeo(
        folder.path(),
        &["copy", "--quiet", "oci-archive:in.oci", "oci-archive:s.oci:docker.io/library/name:1"],
    );
    podman(folder.path(), &["load", "--quiet", "-i", "s.tar"]);
    podman(folder.path(), &["save", "--quiet", "-o", "p.tar", "name:1"]);
    podman(folder.path(), &["save", "--quiet", "--format", "oci-archive", "-o", "p.oci", "name:1"]);
    podman(folder.path(), &["save", "--quiet", "-m", "-o", "pm.tar", "name:1"]);
    for name in ["s.tar", "s.oci", "p.tar", "p.oci", "pm.tar"] {
        let (_store, content) = store();
        let file = std::fs::File::open(folder.path().join(name)).unwrap();
        let loaded = load(file, &content).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(loaded.len(), 1, "{name}");
        assert_eq!(names(&loaded[0]), ["name:1"], "{name}");
        assert_eq!(content.read(&image.config_digest, 1 << 20).unwrap(), image.config, "{name}");
    }
}
