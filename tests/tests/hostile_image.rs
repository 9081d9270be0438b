//! Registries and archives that lie, stall or attack: each one clear error, nothing left, and the next
//! pull works.

use std::fs;

use davit_tests::engine::{Answer, Engine};
use davit_tests::image::{Compression, Layout, busybox_layer, many_files};
use davit_tests::registry::Registry;
use serde_json::json;

struct Scene {
    engine: Engine,
    registry: Registry,
    layout: Layout,
    name: String,
}

fn scene() -> Scene {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    let mut layout = Layout::new(engine.host().folder().join("layout")).unwrap();
    layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
    layout.layer(&many_files(7, 200, 4_000_000).unwrap(), Compression::Gzip).unwrap();
    layout.finish("t", &json!({"Cmd": ["echo", "fine"]})).unwrap();
    registry.push_layout(engine.host(), layout.folder(), "t", "app:1").unwrap();
    let name = format!("{}/app:1", registry.address());
    Scene { engine, registry, layout, name }
}

impl Scene {
    /// The registry's file of the image's last layer.
    fn layer_file(&self) -> std::path::PathBuf {
        let blobs = self.layout.folder().join("blobs/sha256");
        let largest =
            fs::read_dir(blobs).unwrap().flatten().max_by_key(|e| e.metadata().unwrap().len()).unwrap();
        self.registry.blob(&largest.file_name().to_string_lossy())
    }

    fn fails_and_leaves_nothing(&self, what: &str) -> Answer {
        let answer = self.engine.davit(["pull", &self.name]);
        assert_ne!(answer.code, 0, "{what}: {answer:?}");
        let said = answer.stderr.trim_end().lines().last().unwrap_or_default();
        assert!(said.starts_with("davit:") && said.len() > 20, "{what}: one clear sentence: {answer:?}");
        assert_eq!(self.engine.ok(["images", "-q"]).stdout, "", "{what}: no half image");
        answer
    }

    fn then_works(&self) {
        self.engine.ok(["pull", "-q", &self.name]);
        assert_eq!(self.engine.ok(["run", "--rm", &self.name]).stdout, "fine\n");
    }
}

#[test]
fn a_corrupted_blob() {
    let scene = scene();
    let file = scene.layer_file();
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 0xff;
    fs::write(&file, &bad).unwrap();
    scene.fails_and_leaves_nothing("one byte flipped");
    fs::write(&file, &good).unwrap();
    scene.then_works();
}

#[test]
fn a_truncated_layer() {
    let scene = scene();
    let file = scene.layer_file();
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[..good.len() / 3]).unwrap();
    scene.fails_and_leaves_nothing("a third of the layer");
    fs::write(&file, &good).unwrap();
    scene.then_works();
}

#[test]
fn a_registry_that_hangs_or_goes_away() {
    let scene = scene();
    let pid = scene.registry.pid().to_string();
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    let begun = std::time::Instant::now();
    scene.fails_and_leaves_nothing("a registry that does not answer");
    assert!(begun.elapsed().as_secs() <= 65, "took {:?}", begun.elapsed());
    signal("-CONT");
    scene.then_works();
    scene.engine.ok(["rmi", &scene.name]);
    signal("-KILL");
    scene.fails_and_leaves_nothing("no registry");
}

#[test]
fn a_layer_of_another_digest_than_it_says() {
    let scene = scene();
    // The diff id in the configuration is not that of the layer.
    let mut lying = Layout::new(scene.engine.host().folder().join("lying")).unwrap();
    lying.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
    lying.finish("t", &json!({"Cmd": ["true"]})).unwrap();
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(lying.folder().join("index.json")).unwrap()).unwrap();
    assert!(index["manifests"][0]["digest"].is_string());
    let config = fs::read_dir(lying.folder().join("blobs/sha256"))
        .unwrap()
        .flatten()
        .find_map(|entry| {
            let value: serde_json::Value = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
            value.get("rootfs").is_some().then_some(value)
        })
        .expect("the configuration");
    let mut forged = Layout::new(scene.engine.host().folder().join("forged")).unwrap();
    forged.layer(&many_files(9, 1, 100).unwrap(), Compression::Gzip).unwrap();
    forged.finish_with_diff_ids("t", &json!({"Cmd": ["true"]}), &config["rootfs"]["diff_ids"]).unwrap();
    scene.registry.push_layout(scene.engine.host(), forged.folder(), "t", "forged:1").unwrap();
    let answer = scene.engine.davit(["pull", &format!("{}/forged:1", scene.registry.address())]);
    assert_ne!(answer.code, 0, "{answer:?}");
    assert_eq!(scene.engine.ok(["images", "-q"]).stdout, "");
}

/// Path, kind and link target of one entry.
type Entry = (String, tar::EntryType, String);

#[test]
fn archives_that_attack() {
    let scene = scene();
    let canary = scene.engine.host().folder().join("canary");
    fs::write(&canary, "untouched").unwrap();
    let up = "../".repeat(12);
    let outside = canary.display().to_string();
    let cases: [(&str, Vec<Entry>); 5] = [
        ("dot-dot", vec![(format!("{up}{}", &outside[1..]), tar::EntryType::Regular, String::new())]),
        ("absolute", vec![(outside.clone(), tar::EntryType::Regular, String::new())]),
        (
            "through a link",
            vec![
                ("link".into(), tar::EntryType::Symlink, "/".into()),
                (format!("link{outside}"), tar::EntryType::Regular, String::new()),
            ],
        ),
        ("hard link out", vec![("hard".into(), tar::EntryType::Link, outside.clone())]),
        ("hard link up", vec![("hard".into(), tar::EntryType::Link, format!("{up}{}", &outside[1..]))]),
    ];
    for (what, entries) in cases {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, kind, target) in &entries {
            raw_entry(&mut tar, path, *kind, target);
        }
        let folder = scene.engine.host().folder().join(what.replace(' ', "-"));
        let mut layout = Layout::new(folder).unwrap();
        layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
        layout.layer(&tar.into_inner().unwrap(), Compression::None).unwrap();
        layout.finish("t", &json!({"Cmd": ["cat", "/hard"]})).unwrap();
        let name = format!("attack/{}:1", what.replace(' ', "-"));
        scene.registry.push_layout(scene.engine.host(), layout.folder(), "t", &name).unwrap();
        let name = format!("{}/{name}", scene.registry.address());
        let answer = scene.engine.davit(["pull", &name]);
        assert_eq!(fs::read_to_string(&canary).unwrap(), "untouched", "{what}");
        if answer.code == 0 {
            // Confined is as good as refused, as long as nothing of the host is seen.
            let seen = scene.engine.davit(["run", "--rm", &name]);
            assert!(!seen.stdout.contains("untouched"), "{what}: {seen:?}");
        }
    }
}

/// An entry with a path as it stands, which the tar crate's own setters would refuse.
fn raw_entry(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, target: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o666);
    let bytes: &[u8] = if kind == tar::EntryType::Regular { b"overwritten" } else { b"" };
    header.set_size(bytes.len() as u64);
    let raw = header.as_mut_bytes();
    raw[..path.len()].copy_from_slice(path.as_bytes());
    raw[157..157 + target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    tar.append(&header, bytes).unwrap();
}
