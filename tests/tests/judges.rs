//! Images go to other tools and come from them, with every byte, mode, owner, attribute, hard link and time.

use std::path::{Path, PathBuf};

use davit_tests::engine::Engine;
use davit_tests::image::Layout;
use davit_tests::judge::{Podman, copy, inspect, is_there, unpacked};
use davit_tests::registry::Registry;
use davit_tests::rich;
use davit_tests::tree::{self, Tree};

const IMAGE: &str = "127.0.0.1:5000/rich:1";

/// An engine, a registry, and an image with everything in it.
struct Scene {
    engine: Engine,
    _registry: Registry,
    layout: Layout,
    truth: Tree,
}

impl Scene {
    fn new() -> Self {
        let engine = Engine::start_empty().unwrap();
        let registry = Registry::start(engine.host()).unwrap();
        let folder = engine.host().folder().join("rich");
        std::fs::create_dir(&folder).unwrap();
        let (layout, truth) = rich::image(&folder, "t").unwrap();
        registry.push_layout(engine.host(), layout.folder(), "t", "rich:1").unwrap();
        Self { engine, _registry: registry, layout, truth }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.engine.host().folder().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// The tree as a container of ours shows it.
    fn ours(&self, image: &str) -> Tree {
        self.engine.ok(["run", "-d", "--name", "shows", image, "sleep", "1000"]);
        let pid = self.engine.field("shows", "{{.State.Pid}}");
        let tree =
            tree::read(&self.engine.host().seen_at(&format!("/proc/{pid}/root/{}", rich::FOLDER))).unwrap();
        self.engine.ok(["rm", "-f", "shows"]);
        tree
    }

    fn same(&self, tree: &Tree, whose: &str) {
        let differences = tree::differences(&self.truth, tree);
        assert!(differences.is_empty(), "{whose}: {differences:#?}");
    }

    /// What umoci makes of an image in skopeo's words.
    fn umoci(&self, image: &str) -> Tree {
        let layout = tempfile::Builder::new().prefix("copied-").tempdir_in(self.file("")).unwrap();
        copy(self.engine.host(), image, &format!("oci:{}:t", layout.path().display())).unwrap();
        unpacked(self.engine.host(), layout.path(), "t", rich::FOLDER).unwrap()
    }
}

fn digests(folder: &Path) -> Vec<String> {
    let listed = std::fs::read_dir(folder.join("blobs/sha256")).unwrap();
    let mut names: Vec<String> =
        listed.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_others_pushed_is_what_our_containers_show() {
    let scene = Scene::new();
    scene.engine.ok(["pull", "-q", IMAGE]);
    assert_eq!(scene.engine.ok(["run", "--rm", IMAGE]).stdout, "plain\n");
    scene.same(&scene.ours(IMAGE), "a container of ours");
    // The store is read in place, and holds the very blobs.
    let store = scene.engine.root().join("image");
    let said = inspect(scene.engine.host(), &format!("oci:{}:{IMAGE}", store.display())).unwrap();
    assert_eq!(said["Layers"].as_array().map(Vec::len), Some(3), "{said}");
    assert_eq!(said["Labels"]["a"], "b", "{said}");
    assert_eq!(digests(&store), digests(scene.layout.folder()));
    if is_there("umoci") {
        scene.same(&scene.umoci(&format!("oci:{}:{IMAGE}", store.display())), "umoci, from our store");
    }
}

#[test]
fn what_we_save_and_push_is_read_by_others() {
    let scene = Scene::new();
    let (engine, host) = (&scene.engine, scene.engine.host());
    engine.ok(["pull", "-q", IMAGE]);
    let (docker, oci) = (scene.path("docker.tar"), scene.path("oci.tar"));
    engine.ok(["save", "-o", &docker, IMAGE]);
    engine.ok(["save", "--format-archive", "oci", "-o", &oci, IMAGE]);
    engine.ok(["tag", IMAGE, "127.0.0.1:5000/again:2"]);
    engine.ok(["push", "-q", "127.0.0.1:5000/again:2"]);
    let pushed = inspect(host, "docker://127.0.0.1:5000/again:2").unwrap();
    let first = inspect(host, &format!("docker://{IMAGE}")).unwrap();
    assert_eq!(pushed["Digest"], first["Digest"]);
    assert_eq!(pushed["Layers"], first["Layers"]);

    let images = [
        format!("docker-archive:{docker}"),
        format!("oci-archive:{oci}"),
        "docker://127.0.0.1:5000/again:2".to_owned(),
    ];
    for image in &images {
        inspect(host, image).unwrap();
        if is_there("umoci") {
            scene.same(&scene.umoci(image), &format!("umoci, {image}"));
        }
    }
    if is_there("podman") {
        for image in &images {
            let podman = Podman::new(host).unwrap();
            let id = podman.ok(&["pull", "-q", "--tls-verify=false", image]).unwrap();
            let id = id.trim();
            assert_eq!(podman.run(id, &[]).unwrap(), "plain\n", "{image}");
            scene.same(&podman.tree(id, rich::FOLDER).unwrap(), &format!("podman, {image}"));
            podman.end().unwrap();
        }
    }
}

#[test]
fn what_podman_made_and_saves_runs_with_us() {
    let scene = Scene::new();
    if !is_there("podman") {
        return;
    }
    let (engine, host) = (&scene.engine, scene.engine.host());
    let podman = Podman::new(host).unwrap();
    podman.ok(&["pull", "-q", "--tls-verify=false", IMAGE]).unwrap();
    // A container of podman's changes something, and becomes an image.
    let change =
        "echo made > /made && mkdir /folder && chmod 1777 /folder && ln /made /folder/link && rm /etc/group";
    podman
        .ok(&["run", "--name", "c", "--network", "none", "--cgroups", "disabled", IMAGE, "sh", "-c", change])
        .unwrap();
    podman.ok(&["commit", "-q", "c", "podmans:1"]).unwrap();
    let works = |image: &str| {
        let asked = "cat /made && stat -c '%a' /folder && stat -c '%h' /folder/link && test ! -e /etc/group";
        assert_eq!(engine.ok(["run", "--rm", image, "sh", "-c", asked]).stdout, "made\n1777\n2\n", "{image}");
        scene.same(&scene.ours(image), image);
    };
    for format in ["docker-archive", "oci-archive"] {
        let archive = scene.path(format);
        podman.ok(&["save", "-q", "--format", format, "-o", &archive, "podmans:1"]).unwrap();
        engine.ok(["load", "-q", "-i", &archive]);
        works("localhost/podmans:1");
        engine.ok(["rmi", "localhost/podmans:1"]);
    }
    podman.ok(&["push", "-q", "--tls-verify=false", "podmans:1", "127.0.0.1:5000/podmans:1"]).unwrap();
    engine.ok(["pull", "-q", "127.0.0.1:5000/podmans:1"]);
    works("127.0.0.1:5000/podmans:1");
    podman.end().unwrap();
}

#[test]
fn what_we_commit_is_what_others_unpack() {
    let scene = Scene::new();
    let (engine, host) = (&scene.engine, scene.engine.host());
    engine.ok(["pull", "-q", IMAGE]);
    // Each kind of change: new, other mode, other owner, gone, a folder in the place of another one, one more name.
    let change = "cd /tree && echo new > added && chmod 600 plain && chown 3:4 setuid && rm dangling large \
        && rm -r replaced && mkdir replaced && echo again > replaced/again && ln added sticky/again \
        && mkfifo replaced/fifo && touch -d @1000000000 added";
    engine.ok(["run", "--name", "c", IMAGE, "busybox", "sh", "-c", change]);
    engine.ok([
        "commit",
        "-m",
        "changed",
        "-c",
        "CMD [\"cat\", \"/tree/added\"]",
        "c",
        "127.0.0.1:5000/made:1",
    ]);
    let made = "127.0.0.1:5000/made:1";
    assert_eq!(engine.ok(["run", "--rm", made]).stdout, "new\n");
    let ours = scene.ours(made);
    assert!(ours.contains_key(Path::new("replaced/again")) && !ours.contains_key(Path::new("large")));
    engine.ok(["push", "-q", made]);
    let saved = scene.path("made.tar");
    engine.ok(["save", "-o", &saved, made]);
    for image in [format!("docker://{made}"), format!("docker-archive:{saved}")] {
        if is_there("umoci") {
            let differences = tree::differences(&ours, &scene.umoci(&image));
            assert!(differences.is_empty(), "umoci, {image}: {differences:#?}");
        }
        if is_there("podman") {
            let podman = Podman::new(host).unwrap();
            let id = podman.ok(&["pull", "-q", "--tls-verify=false", &image]).unwrap();
            assert_eq!(podman.run(id.trim(), &[]).unwrap(), "new\n", "{image}");
            let differences = tree::differences(&ours, &podman.tree(id.trim(), rich::FOLDER).unwrap());
            assert!(differences.is_empty(), "podman, {image}: {differences:#?}");
            podman.end().unwrap();
        }
    }
}
