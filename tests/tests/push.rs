//! Images into a registry, judged by another tool and by the registry's own log.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use davit_tests::engine::Engine;
use davit_tests::host::Host;
use davit_tests::image::{Compression, Layout, busybox_layer, many_files};
use davit_tests::registry::Registry;
use serde_json::{Value, json};

/// An image of two layers, as an OCI archive's folder.
fn two_layers(folder: &Path, tag: &str, compression: Compression) -> Layout {
    let mut layout = Layout::new(folder.to_owned()).unwrap();
    layout.layer(&busybox_layer().unwrap(), compression).unwrap();
    layout.layer(&many_files(7, 20, 50_000).unwrap(), compression).unwrap();
    layout.finish(tag, &json!({"Cmd": ["true"], "Labels": {"made": "here"}})).unwrap();
    layout
}

fn skopeo(host: &Host, arguments: &[&str]) -> String {
    let output = host.command("skopeo").arg("--insecure-policy").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What another tool says that a reference names: its digest and its bytes.
fn at_registry(host: &Host, reference: &str) -> (String, Vec<u8>) {
    let name = format!("docker://{reference}");
    let raw = skopeo(host, &["inspect", "--tls-verify=false", "--raw", &name]);
    let digest = skopeo(host, &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &name]);
    (digest.trim().to_owned(), raw.into_bytes())
}

#[test]
fn what_is_pushed_is_what_others_read() {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    for (tag, compression) in
        [("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("plain", Compression::None)]
    {
        let layout = two_layers(&engine.host().folder().join(tag), tag, compression);
        registry.push_layout(engine.host(), layout.folder(), tag, &format!("origin/{tag}:1")).unwrap();
        let origin = format!("{}/origin/{tag}:1", registry.address());
        engine.ok(["pull", &origin]);
        let target = format!("{}/copy/{tag}:2", registry.address());
        engine.ok(["tag", &origin, &target]);
        let told = engine.ok(["push", &target]).stdout;
        let (digest, bytes) = at_registry(engine.host(), &target);
        assert_eq!((digest.clone(), bytes.clone()), at_registry(engine.host(), &origin), "byte for byte");
        assert!(told.contains(&format!("2: digest: {digest} size: {}", bytes.len())), "{told}");
        assert!(told.contains("The push refers to repository [127.0.0.1:5000/copy/"), "{told}");
        assert!(told.contains("Mounted from origin/"), "{told}");
        let inspected: Value = serde_json::from_str(&engine.ok(["inspect", &target]).stdout).unwrap();
        let digests = inspected[0]["RepoDigests"].to_string();
        assert!(digests.contains(&format!("127.0.0.1:5000/copy/{tag}@{digest}")), "{digests}");
        let folder = engine.host().folder().join(format!("{tag}-copied"));
        let copied = format!("oci:{}:x", folder.display());
        skopeo(
            engine.host(),
            &["copy", "--quiet", "--src-tls-verify=false", &format!("docker://{target}"), &copied],
        );
    }
}

#[test]
fn only_what_is_missing_is_sent() {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    let layout = two_layers(&engine.host().folder().join("made"), "m", Compression::Gzip);
    let archive = format!("oci-archive:{}", engine.host().folder().join("made.tar").display());
    skopeo(engine.host(), &["copy", "--quiet", &format!("oci:{}:m", layout.folder().display()), &archive]);
    let loaded = engine.ok(["load", "-i", engine.host().folder().join("made.tar").to_str().unwrap()]);
    let id = loaded.stdout.trim().rsplit(": ").next().unwrap().to_owned();
    let name = format!("{}/mine/app", registry.address());
    engine.ok(["tag", &id, &format!("{name}:1")]);
    let first = engine.ok(["push", &format!("{name}:1")]).stdout;
    assert_eq!(first.matches(": Pushed").count(), 2, "{first}");
    let writes = registry.writes();
    assert!(writes > 0);

    let second = engine.ok(["push", &format!("{name}:1")]).stdout;
    assert_eq!(second.matches(": Layer already exists").count(), 2, "{second}");
    assert_eq!(registry.writes(), writes, "what is there is not sent again");

    engine.ok(["tag", &id, &format!("{name}:2")]);
    engine.ok(["tag", &id, &format!("{name}:3")]);
    let all = engine.ok(["push", "-a", &name]).stdout;
    for tag in ["1", "2", "3"] {
        assert!(all.contains(&format!("{tag}: digest: sha256:")), "{all}");
    }
    assert_eq!(registry.writes(), writes + 2, "two names for what is there");
    assert_eq!(engine.ok(["push", "-q", &format!("{name}:2")]).stdout.trim(), format!("{name}:2"));

    let refused = engine.davit(["push", "-a", &format!("{name}:1")]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let refused = engine.davit(["push", &format!("{name}:absent")]);
    assert!(refused.stderr.contains("does not exist locally with the tag"), "{refused:?}");
    let refused = engine.davit(["push", "127.0.0.1:1/nobody:1"]);
    assert_eq!(refused.code, 1, "{refused:?}");
}

#[test]
fn one_platform_of_many_is_pushed_and_said() {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    let layout = two_layers(&engine.host().folder().join("one"), "m", Compression::Gzip);
    registry.push_layout(engine.host(), layout.folder(), "m", "some/app:amd64").unwrap();
    let name = format!("{}/some/app", registry.address());
    let (manifest, bytes) = at_registry(engine.host(), &format!("{name}:amd64"));
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest,
            "size": bytes.len(), "platform": {"os": "linux", "architecture": "amd64"},
        }],
    });
    let put = engine
        .host()
        .command("curl")
        .args(["-sfX", "PUT", "-H", "Content-Type: application/vnd.oci.image.index.v1+json", "-d"])
        .arg(index.to_string())
        .arg(format!("http://{}/v2/some/app/manifests/many", registry.address()))
        .status();
    assert!(put.unwrap().success());
    engine.ok(["pull", "--platform", "linux/amd64", &format!("{name}:many")]);
    let other = format!("{}/other/app:1", registry.address());
    engine.ok(["tag", &format!("{name}:many"), &other]);
    let again = engine.ok(["push", &format!("{name}:many")]).stdout;
    assert!(again.contains(&format!("many: digest: {manifest} size: ")), "{again}");
    assert!(again.contains(&format!("-> {manifest}")), "{again}");
    assert_eq!(at_registry(engine.host(), &format!("{name}:many")).0, manifest);
    engine.ok(["push", &other]);
    assert_eq!(at_registry(engine.host(), &other).0, manifest);
}

#[test]
fn a_push_that_is_killed_is_finished_by_the_next() {
    let mut engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    let layout = two_layers(&engine.host().folder().join("made"), "m", Compression::Gzip);
    registry.push_layout(engine.host(), layout.folder(), "m", "origin:1").unwrap();
    engine.ok(["pull", &format!("{}/origin:1", registry.address())]);
    // Another registry, so that nothing is taken over; it stands still, so that the push hangs midway.
    let name = format!("{}/origin:1", registry.address());
    let target = format!("{}/target:1", registry.address().replace("127.0.0.1", "localhost"));
    engine.ok(["tag", &name, &target]);
    let pid = registry.pid().to_string();
    std::process::Command::new("kill").args(["-STOP", &pid]).status().unwrap();
    let mut push = engine.command(["push", &target]).stdout(Stdio::piped()).spawn().unwrap();
    let told = BufReader::new(push.stdout.take().unwrap());
    assert!(told.lines().map_while(Result::ok).any(|line| line.ends_with(": Preparing")));
    engine.kill_controller().unwrap();
    std::process::Command::new("kill").args(["-CONT", &pid]).status().unwrap();
    assert!(!push.wait().unwrap().success());
    engine.start_controller().unwrap();
    engine.ok(["push", &target]);
    assert_eq!(at_registry(engine.host(), &target), at_registry(engine.host(), &name));
}
