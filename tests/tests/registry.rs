//! What else is asked of registries: all tags, other platforms, manifests, search, mirrors.

use davit_tests::engine::{Engine, Services};
use davit_tests::image::{Compression, Layout, busybox_layer};
use davit_tests::registry::Registry;
use serde_json::{Value, json};

/// A small image at the registry.
fn put(engine: &Engine, registry: &Registry, name: &str, says: &str) {
    let folder = engine.host().folder().join(name.replace(['/', ':'], "-"));
    let mut layout = Layout::new(folder).unwrap();
    layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
    layout.finish("m", &json!({"Cmd": ["echo", says]})).unwrap();
    registry.push_layout(engine.host(), layout.folder(), "m", name).unwrap();
}

/// Puts a document at the registry as it is.
fn put_manifest(engine: &Engine, registry: &Registry, name: &str, media_type: &str, document: &Value) {
    let put = engine
        .host()
        .command("curl")
        .args(["-sfX", "PUT", "-H", &format!("Content-Type: {media_type}"), "-d", &document.to_string()])
        .arg(format!("http://{}/v2/{name}", registry.address()))
        .status();
    assert!(put.unwrap().success());
}

#[test]
fn every_tag_of_a_repository_comes() {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    for tag in ["1", "2", "three"] {
        put(&engine, &registry, &format!("some/app:{tag}"), tag);
    }
    // Something else that lives beside images.
    let manifest: Value =
        serde_json::from_str(&engine.ok(["manifest", "inspect", "127.0.0.1:5000/some/app:1"]).stdout)
            .unwrap();
    let mut chart = manifest;
    chart["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    put_manifest(&engine, &registry, "some/app/manifests/chart", media_type, &chart);

    let name = format!("{}/some/app", registry.address());
    let pulled = engine.ok(["pull", "-a", &name]);
    assert!(pulled.stdout.trim_end().ends_with(&name), "{pulled:?}");
    assert!(pulled.stdout.contains("chart: Skipped: "), "{pulled:?}");
    for tag in ["1", "2", "three"] {
        assert!(pulled.stdout.contains(&format!("{tag}: Pulling from some/app")), "{pulled:?}");
        assert_eq!(engine.ok(["run", "--rm", &format!("{name}:{tag}")]).line(), tag);
    }
    assert_eq!(engine.davit(["pull", "-a", &format!("{name}:1")]).code, 1);
    assert_eq!(engine.davit(["pull", "-a", &format!("{}/nobody", registry.address())]).code, 1);
}

#[test]
fn a_platform_that_is_not_there_is_refused_with_those_that_are() {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    put(&engine, &registry, "some/app:one", "x");
    let name = format!("{}/some/app", registry.address());
    let whole: Value =
        serde_json::from_str(&engine.ok(["manifest", "inspect", "-v", &format!("{name}:one")]).stdout)
            .unwrap();
    let descriptor = &whole["Descriptor"];
    assert_eq!(whole["Ref"], format!("{name}:one"), "{whole}");
    assert_eq!(descriptor["platform"]["os"], "linux", "{whole}");
    assert!(whole["OCIManifest"]["layers"].is_array(), "{whole}");

    let platform = |os: &str, architecture: &str| {
        let mut entry = descriptor.clone();
        entry["platform"] = json!({"os": os, "architecture": architecture});
        entry
    };
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type,
        "manifests": [platform("linux", "s390x"), platform("linux", "riscv64")],
    });
    put_manifest(&engine, &registry, "some/app/manifests/many", media_type, &index);
    let many = format!("{name}:many");
    for words in [vec!["pull", &many], vec!["pull", "--platform", "linux/arm64", &many]] {
        let refused = engine.davit(&words);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("no image for platform linux/"), "{refused:?}");
        assert!(refused.stderr.contains("linux/s390x, linux/riscv64"), "{refused:?}");
    }
    let refused = engine.davit(["pull", "--platform", "linux/arm64", &format!("{name}:one")]);
    assert!(refused.stderr.contains("no image for platform linux/arm64"), "{refused:?}");

    let shown = engine.ok(["manifest", "inspect", &many]).stdout;
    assert!(shown.starts_with("{\n\t\""), "a tab a level: {shown}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), index);
    let parts: Value = serde_json::from_str(&engine.ok(["manifest", "inspect", "-v", &many]).stdout).unwrap();
    assert_eq!(parts.as_array().map(Vec::len), Some(2), "{parts}");
    assert_eq!(parts[1]["Descriptor"]["platform"]["architecture"], "riscv64");
    let missing = engine.davit(["manifest", "inspect", &format!("{name}:none")]);
    assert!(missing.code == 1 && missing.stderr.contains("not found"), "{missing:?}");
}

#[test]
fn a_registry_without_a_search_is_searched_by_its_list() {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    for name in ["tools/busybox:1", "my-busybox:1", "alpine:1"] {
        put(&engine, &registry, name, "x");
    }
    let address = registry.address();
    let found = engine.ok(["search", &format!("{address}/busybox")]).stdout;
    let mut lines = found.lines();
    let head = lines.next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(head, "NAME DESCRIPTION STARS OFFICIAL");
    let names: Vec<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, [format!("{address}/my-busybox"), format!("{address}/tools/busybox")]);
    let one = engine.ok(["search", "--limit", "1", "--format", "{{.Name}}", &format!("{address}/busybox")]);
    assert_eq!(one.line(), format!("{address}/my-busybox"));
    assert_eq!(engine.davit(["search", "--filter", "stars=many", &format!("{address}/x")]).code, 1);
    assert_eq!(engine.davit(["search", "--limit", "1000", &format!("{address}/x")]).code, 1);
    let nobody = engine.davit(["search", "127.0.0.1:1/x"]);
    assert!(nobody.code == 1 && nobody.stderr.contains("127.0.0.1:1"), "{nobody:?}");
}

#[test]
fn a_mirror_that_is_dead_holds_nobody_up() {
    let flags = ["--registry-mirror", "http://127.0.0.1:2", "--registry-mirror", "http://127.0.0.1:5000"];
    let engine = Engine::start_with(Services::Embedded, &flags).unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    put(&engine, &registry, "library/mirrored:1", "still here");
    engine.ok(["pull", "mirrored:1"]);
    assert_eq!(engine.ok(["run", "--rm", "mirrored:1"]).line(), "still here");
}
