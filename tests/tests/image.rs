//! Images from a real registry and from archives.

use davit_tests::engine::Engine;
use davit_tests::image::{Compression, Layout, append, busybox_layer, many_files};
use davit_tests::registry::Registry;
use serde_json::json;

/// A base, a second layer that hides one of its files, and one more, each compressed otherwise.
fn three_layers(folder: std::path::PathBuf, tag: &str) -> Layout {
    let mut layout = Layout::new(folder).unwrap();
    layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
    let mut second = tar::Builder::new(Vec::new());
    append(&mut second, "bin/.wh.false", tar::EntryType::Regular, 0o644, b"").unwrap();
    append(&mut second, "second", tar::EntryType::Regular, 0o640, b"two\n").unwrap();
    layout.layer(&second.into_inner().unwrap(), Compression::Zstd).unwrap();
    let mut third = tar::Builder::new(Vec::new());
    append(&mut third, "third", tar::EntryType::Regular, 0o4755, b"three\n").unwrap();
    layout.layer(&third.into_inner().unwrap(), Compression::None).unwrap();
    layout
        .finish(
            tag,
            &json!({"Cmd": ["cat", "/second", "/third"], "Env": ["PATH=/bin", "X=y"], "Labels": {"a": "b"}}),
        )
        .unwrap();
    layout
}

/// Layers in the store. Beside them lie an empty folder, and folders of what archives only imply.
fn layers(engine: &Engine) -> usize {
    let folder = std::fs::read_dir(engine.root().join("image/layers")).unwrap();
    folder.flatten().filter(|entry| entry.file_name().len() == 64).count()
}

#[test]
fn a_pull_runs_and_is_described_as_docker_does() {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    let layout = three_layers(engine.host().folder().join("layout"), "t");
    registry.push_layout(engine.host(), layout.folder(), "t", "some/app:1").unwrap();
    let name = format!("{}/some/app:1", registry.address());

    let pulled = engine.ok(["pull", &name]);
    assert!(pulled.stdout.contains("Digest: sha256:"), "{pulled:?}");
    assert!(pulled.stdout.trim_end().ends_with(&name), "{pulled:?}");
    assert_eq!(engine.ok(["run", "--rm", &name]).stdout, "two\nthree\n", "the image's own command");
    assert_eq!(engine.davit(["run", "--rm", &name, "ls", "/bin/false"]).code, 1, "the whiteout hides it");
    assert_eq!(engine.ok(["run", "--rm", &name, "stat", "-c", "%a", "/third"]).line(), "4755");

    let table = engine.ok(["images"]).stdout;
    let head = table.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(head, "REPOSITORY TAG IMAGE ID CREATED SIZE");
    let inspected: serde_json::Value = serde_json::from_str(&engine.ok(["inspect", &name]).stdout).unwrap();
    assert_eq!(inspected[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(3), "{inspected}");
    assert_eq!(inspected[0]["Config"]["Env"][1], "X=y");
    assert_eq!(inspected[0]["RepoTags"][0], name);

    engine.ok(["tag", &name, "mine:2"]);
    assert_eq!(engine.ok(["rmi", "mine:2"]).line(), "Untagged: mine:2");
    engine.ok(["create", "--name", "user", &name]);
    let refused = engine.davit(["rmi", &name]);
    assert_eq!(refused.code, 1, "{refused:?}");
    engine.ok(["rm", "user"]);
    let removed = engine.ok(["rmi", &name]).stdout;
    assert!(removed.contains("Deleted: sha256:"), "{removed}");
    assert_eq!(engine.ok(["images", "-q"]).stdout, "");
    assert_eq!(layers(&engine), 0, "no layer is left");
}

#[test]
fn layers_are_shared_and_fetched_once() {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    let base = busybox_layer().unwrap();
    for (tag, seed) in [("a", 1), ("b", 2)] {
        let mut layout = Layout::new(engine.host().folder().join(tag)).unwrap();
        layout.layer(&base, Compression::Gzip).unwrap();
        layout.layer(&many_files(seed, 10, 10_000).unwrap(), Compression::Gzip).unwrap();
        layout.finish(tag, &json!({"Cmd": ["true"]})).unwrap();
        registry.push_layout(engine.host(), layout.folder(), tag, &format!("{tag}:1")).unwrap();
    }
    let a = format!("{}/a:1", registry.address());
    let b = format!("{}/b:1", registry.address());
    engine.ok(["pull", &a]);
    let second = engine.ok(["pull", &b]).stdout;
    assert!(second.contains("Already exists"), "{second}");
    let layers = || layers(&engine);
    assert_eq!(layers(), 3);
    engine.ok(["rmi", &a]);
    assert_eq!(layers(), 2, "what b uses stays");
    engine.ok(["run", "--rm", &b, "ls", "/data2/0/0"]);
}

#[test]
fn three_hundred_megabytes_in_twenty_thousand_files() {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    let mut layout = Layout::new(engine.host().folder().join("big")).unwrap();
    layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
    for seed in 0..5 {
        layout.layer(&many_files(seed, 4_000, 60_000_000).unwrap(), Compression::Gzip).unwrap();
    }
    layout.finish("t", &json!({"Cmd": ["sh"]})).unwrap();
    registry.push_layout(engine.host(), layout.folder(), "t", "big:1").unwrap();
    let name = format!("{}/big:1", registry.address());
    engine.ok(["pull", "-q", &name]);
    let count = engine.ok(["run", "--rm", &name, "sh", "-c", "find /data* -type f | wc -l"]);
    assert_eq!(count.line(), "20000");
    assert_eq!(engine.davit(["run", "--rm", &name, "sh", "-c", "exit 3"]).code, 3);
    engine.ok(["rmi", &name]);
}

#[test]
fn the_store_is_a_layout_that_others_read() {
    let engine = Engine::start().unwrap();
    let store = engine.root().join("image");
    let inspected = engine
        .host()
        .command("skopeo")
        .args(["inspect", &format!("oci:{}:docker.io/library/busybox:latest", store.display())])
        .output()
        .unwrap();
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
}

#[test]
fn archives_go_round_through_other_tools() {
    let engine = Engine::start().unwrap();
    let folder = engine.host().folder().to_owned();
    let file = |name: &str| folder.join(name).display().to_string();
    engine.ok(["save", "-o", &file("saved.tar"), "busybox"]);
    let copied = engine
        .host()
        .command("skopeo")
        .args(["--insecure-policy", "copy"])
        .args([
            format!("docker-archive:{}", file("saved.tar")),
            format!("oci-archive:{}:copied:1", file("oci.tar")),
        ])
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    engine.ok(["rmi", "busybox"]);
    let loaded = engine.ok(["load", "-i", &file("oci.tar")]).stdout;
    assert!(loaded.contains("copied:1"), "{loaded}");
    assert_eq!(engine.ok(["run", "--rm", "copied:1", "echo", "yes"]).stdout, "yes\n");

    let saved = engine.command(["save", "copied:1"]).output().unwrap();
    assert!(saved.status.success());
    engine.ok(["rmi", "copied:1"]);
    let answer = engine.davit_with_input(["load"], &saved.stdout);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(engine.ok(["run", "--rm", "copied:1", "echo", "again"]).stdout, "again\n");
}
