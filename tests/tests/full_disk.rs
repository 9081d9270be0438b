//! The disk under the engine is full, or nearly: whatever is asked then either works or ends with one error that says
//! so, nothing is half there, nothing that was there is lost, and as soon as there is room again it works.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use davit_tests::disk::small;
use davit_tests::engine::{Answer, Engine, Services};
use davit_tests::host::Host;
use davit_tests::image::{Compression, Layout, busybox_layer, many_files};
use davit_tests::registry::Registry;
use davit_tests::store::Store;
use davit_tests::wait::until_true;
use serde_json::json;

const IMAGE: &str = "127.0.0.1:5000/app:1";
/// Space that is left, in KiB, when an image comes: from nothing to nearly enough.
const FOR_IMAGES: [u64; 8] = [0, 4, 300, 2_500, 4_800, 5_400, 6_000, 6_600];
/// And when a container becomes one.
const FOR_COMMITS: [u64; 6] = [0, 4, 40, 1_000, 3_000, 5_000];
/// And when something small is asked for: block by block.
const FOR_BLOCKS: [u64; 9] = [0, 4, 8, 12, 16, 20, 24, 32, 48];

/// An engine whose root is on a small disk of its own.
struct Scene {
    engine: Engine,
    _registry: Registry,
    archive: PathBuf,
}

/// What is listed.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    images: BTreeSet<String>,
    containers: BTreeSet<String>,
    volumes: BTreeSet<String>,
}

impl Scene {
    fn new() -> Self {
        let host = Host::new().unwrap();
        small(&host, 96, &host.folder().join("root")).unwrap();
        let engine = Engine::start_on(host, Services::of_this_run(), &[]).unwrap();
        let registry = Registry::start(engine.host()).unwrap();
        let folder = engine.host().folder().join("app");
        let mut layout = Layout::new(folder.clone()).unwrap();
        layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
        layout.layer(&many_files(1, 300, 3_000_000).unwrap(), Compression::Gzip).unwrap();
        layout.finish(IMAGE, &json!({"Cmd": ["true"], "Env": ["PATH=/bin"]})).unwrap();
        registry.push_layout(engine.host(), layout.folder(), IMAGE, "app:1").unwrap();
        let archive = engine.host().folder().join("app.tar");
        let packed = Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(&archive).arg(".").status();
        assert!(packed.unwrap().success());
        engine.load_busybox().unwrap();
        engine.ok(["run", "-d", "--name", "there", "busybox", "sleep", "1000"]);
        Self { engine, _registry: registry, archive }
    }

    fn root(&self) -> PathBuf {
        self.engine.host().seen_at(&self.engine.root().display().to_string())
    }

    /// Leaves so many KiB free, or a little less.
    fn fill(&self, left: u64) {
        let root = self.root();
        for number in 0.. {
            let space = rustix::fs::statvfs(&root).unwrap();
            let take = (space.f_bavail * space.f_frsize).saturating_sub(left << 10);
            if take < 4096 {
                return;
            }
            // What the file itself takes beside its bytes is found in the next round.
            let file = fs::File::create(root.join(format!(".filler{number}"))).unwrap();
            let mode = rustix::fs::FallocateFlags::empty();
            if rustix::fs::fallocate(file, mode, 0, take).is_err() {
                return;
            }
        }
    }

    fn make_room(&self) {
        for entry in fs::read_dir(self.root()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".filler") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    fn listed(&self) -> Listed {
        let lines = |words: &[&str]| {
            self.engine.ok(words.iter().copied()).stdout.lines().map(str::to_owned).collect()
        };
        Listed {
            images: lines(&["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]),
            containers: lines(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"]),
            volumes: lines(&["volume", "ls", "-q"]),
        }
    }

    /// Asks for the same with ever more space left, and at last with enough. `undo` takes back what worked. Tells how
    /// often it did not.
    fn ask(&self, spaces: &[u64], words: &[&str], undo: &[&[&str]]) -> usize {
        let undo = || undo.iter().for_each(|words| drop(self.engine.ok(words.iter().copied())));
        let mut refused = 0;
        for &left in spaces {
            let before = self.listed();
            self.fill(left);
            let answer = self.engine.davit(words);
            let worked = answer.code == 0;
            if !worked {
                refused += 1;
                says_why(words, left, &answer);
                let after = self.listed();
                assert_eq!(after, before, "{words:?} with {left} KiB left is half there");
            }
            self.make_room();
            Store::at(self.root().join("image")).verify().unwrap();
            if worked {
                undo();
            }
            assert_eq!(self.listed(), before, "{words:?} with {left} KiB left");
        }
        self.engine.ok(words);
        undo();
        self.nothing_half_done();
        refused
    }

    fn nothing_half_done(&self) {
        let ids: BTreeSet<String> =
            self.engine.ok(["ps", "-a", "-q", "--no-trunc"]).stdout.lines().map(str::to_owned).collect();
        until_true("what was half done is gone", || {
            let names = |folder: &str| -> BTreeSet<String> {
                let listed = fs::read_dir(self.root().join(folder)).unwrap();
                listed.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
            };
            names("trash").is_empty()
                && names("containers") == ids
                && names("image/ingest").iter().all(|name| name.ends_with(".part"))
        });
    }
}

/// One error, which says what is the matter.
fn says_why(words: &[&str], left: u64, answer: &Answer) {
    let said = answer.stderr.to_lowercase();
    assert!(
        said.contains("no space left") || said.contains("not enough disk space"),
        "{words:?} with {left} KiB left: {answer:?}"
    );
    assert_eq!(answer.stderr.trim_end().lines().count(), 1, "{words:?} with {left} KiB left: {answer:?}");
}

#[test]
fn images_come_whole_or_not_at_all() {
    let scene = Scene::new();
    let archive = scene.archive.display().to_string();
    let remove: [&[&str]; 1] = [&["rmi", IMAGE]];
    assert!(scene.ask(&FOR_IMAGES, &["pull", "-q", IMAGE], &remove) > 3);
    assert!(scene.ask(&FOR_IMAGES, &["load", "-q", "-i", &archive], &remove) > 3);
    assert!(scene.ask(&FOR_BLOCKS[..3], &["tag", "busybox", "another:1"], &[&["rmi", "another:1"]]) > 0);
}

/// A container with a few MiB of its own.
fn engine_changes(engine: &Engine) {
    let script = "cat /bin/busybox /bin/busybox > /large; echo small > /small; rm /etc/group";
    engine.ok(["run", "--name", "changed", "busybox", "sh", "-c", script]);
}

#[test]
fn containers_come_whole_or_not_at_all() {
    let scene = Scene::new();
    let folder = scene.engine.host().folder();
    let file = folder.join("file");
    fs::write(&file, vec![7; 4_000_000]).unwrap();
    let file = file.display().to_string();
    let run = ["run", "-d", "--name", "c", "-v", "/data", "busybox", "sleep", "1000"];
    assert!(scene.ask(&FOR_BLOCKS, &["create", "--name", "c", "busybox", "true"], &[&["rm", "c"]]) > 2);
    assert!(scene.ask(&FOR_BLOCKS, &run, &[&["rm", "-f", "-v", "c"]]) > 2);
    assert!(scene.ask(&FOR_BLOCKS, &["run", "--rm", "busybox", "true"], &[]) > 2);
    assert!(scene.ask(&FOR_BLOCKS[..3], &["volume", "create", "v"], &[&["volume", "rm", "v"]]) > 0);
    engine_changes(&scene.engine);
    let commit = ["commit", "changed", "made:1"];
    assert!(scene.ask(&FOR_COMMITS, &commit, &[&["rmi", "made:1"]]) > 3);
    let copy = ["cp", "-q", &file, "there:/file"];
    assert!(scene.ask(&FOR_IMAGES[..4], &copy, &[&["exec", "there", "rm", "/file"]]) > 3);
    // It needs no room.
    assert_eq!(scene.ask(&[0], &["exec", "there", "true"], &[]), 0);
}

/// What a build did before the disk was full stays for the next one; what it was doing goes.
#[test]
fn builds_end_with_a_whole_image_or_none() {
    let scene = Scene::new();
    let folder = scene.engine.host().folder().join("context");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), many_files(9, 4, 2_000_000).unwrap()).unwrap();
    let dockerfile = "FROM busybox\nCOPY file /file\nRUN cat /file /file > /more\nCMD [\"ls\", \"/more\"]\n";
    fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    let folder = folder.display().to_string();
    let build = ["build", "-q", "-t", "built:1", &folder];
    let before = scene.listed();
    let mut refused = 0;
    for left in [0, 4, 40, 1_000, 2_500, 5_000, 9_000, 13_000] {
        scene.fill(left);
        let answer = scene.engine.davit(build);
        if answer.code != 0 {
            refused += 1;
            let said = answer.stderr.to_lowercase();
            assert!(
                said.contains("no space left") || said.contains("not enough disk space"),
                "{left} KiB left: {answer:?}"
            );
            until_true("the step's container is gone", || scene.listed() == before);
        }
        scene.make_room();
        Store::at(scene.root().join("image")).verify().unwrap();
        if answer.code == 0 {
            scene.engine.ok(["rmi", "built:1"]);
        }
        scene.engine.ok(["builder", "prune", "-a", "-f"]);
        assert_eq!(scene.listed(), before, "{left} KiB left");
    }
    assert!(refused > 3, "{refused} of 8 builds were refused");
    scene.engine.ok(build);
    assert_eq!(scene.engine.ok(["run", "--rm", "built:1"]).stdout, "/more\n");
    scene.nothing_half_done();
}

#[test]
fn a_full_disk_is_cleaned_up() {
    let scene = Scene::new();
    let engine = &scene.engine;
    engine.ok(["pull", "-q", IMAGE]);
    engine.ok(["create", "--name", "c", IMAGE]);
    scene.fill(0);
    // What runs goes on, and is seen.
    assert_eq!(engine.field("there", "{{.State.Running}}"), "true");
    engine.ok(["logs", "there"]);
    engine.ok(["rm", "c"]);
    engine.ok(["rm", "-f", "there"]);
    engine.ok(["rmi", IMAGE]);
    // What they took is free again, though the disk is as full as it was.
    engine.ok(["run", "--rm", "busybox", "true"]);
}
