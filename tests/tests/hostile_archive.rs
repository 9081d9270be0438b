//! Archives that want out, lie, or never end, into everything that takes one: `load`, `pull`, `import` and
//! `cp`. Each is refused
//! or confined: what lies beside the engine stays as it is, nothing half is there, and no limit is without a name.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use davit_tests::engine::{Answer, Engine};
use davit_tests::image::{Compression, Layout, busybox_layer};
use davit_tests::registry::Registry;
use davit_tests::tree::{self, Tree};
use davit_tests::wait::until_true;
use serde_json::json;
use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};

/// An archive that attacks: layers of entries, each a path, its kind and where it leads.
type Attack = Vec<Vec<(String, tar::EntryType, String)>>;

const OVERWRITTEN: &[u8] = b"overwritten";

struct Scene {
    engine: Engine,
    outside: PathBuf,
    before: Tree,
}

impl Scene {
    fn new(engine: Engine) -> Self {
        let outside = engine.host().folder().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("canary"), "never to be seen inside").unwrap();
        rustix::fs::lsetxattr(&outside, "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
        let before = tree::read(&outside).unwrap();
        Self { engine, outside, before }
    }

    /// The canary's folder, itself with it, is as it was.
    fn untouched(&self, what: &str) {
        let top = self.outside.parent().unwrap();
        let differences = tree::differences(&self.before, &tree::read(&self.outside).unwrap());
        assert!(differences.is_empty(), "{what}: {differences:#?}");
        let meta = fs::metadata(&self.outside).unwrap();
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o755, 0), "{what}");
        assert!(!top.join("escaped").exists(), "{what}");
    }

    /// An answer is a success, or one sentence that a terminal can be shown.
    fn answered(&self, what: &str, answer: &Answer) {
        assert!(answer.code == 0 || answer.stderr.starts_with("davit: "), "{what}: {answer:?}");
        assert!(!answer.stderr.contains('\u{1b}') && !answer.stdout.contains('\u{1b}'), "{what}: {answer:?}");
        self.untouched(what);
    }

    /// Nothing of an image that was refused is there.
    fn nothing_left(&self, what: &str) {
        assert_eq!(self.engine.ok(["images", "-q", "--filter", "reference=attack*"]).stdout, "", "{what}");
        let ingest = self.engine.root().join("image/ingest");
        until_true(&format!("{what}: what was taken in is gone"), || {
            fs::read_dir(&ingest).unwrap().next().is_none()
        });
    }

    /// The canary as the attacks of [`attacks`] name it.
    fn attacks(&self) -> Vec<(&'static str, Attack)> {
        attacks(&self.outside.display().to_string())
    }

    fn layout(&self, name: &str, layers: &[Vec<u8>]) -> Layout {
        let folder =
            tempfile::Builder::new().prefix("attack-").tempdir_in(self.engine.host().folder()).unwrap();
        let mut layout = Layout::new(folder.keep()).unwrap();
        layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
        for layer in layers {
            layout.layer(layer, Compression::None).unwrap();
        }
        layout.finish(name, &json!({"Cmd": ["true"], "Env": ["PATH=/bin"]})).unwrap();
        layout
    }

    /// A container of an image that was let in sees nothing of the host.
    fn confined(&self, image: &str, what: &str) {
        let script = "find / -xdev -name canary -exec cat {} ';'; cat /hard /memory /disk";
        let seen = self.engine.davit(["run", "--rm", image, "sh", "-c", script]);
        assert!(!seen.stdout.contains("never to be seen"), "{what}: {seen:?}");
        assert!(!seen.stderr.contains("Input/output error"), "{what}: a device answered: {seen:?}");
        self.untouched(what);
        self.engine.ok(["rmi", "-f", image]);
    }
}

fn attacks(outside: &str) -> Vec<(&'static str, Attack)> {
    let inner = outside.trim_start_matches('/');
    let (canary, up) = (format!("{outside}/canary"), "../".repeat(12));
    let entry = |path: &str, kind, target: &str| (path.to_owned(), kind, target.to_owned());
    let to_outside = || entry("link", Symlink, outside);
    vec![
        ("up", vec![vec![entry(&format!("{up}{inner}/canary"), Regular, "")]]),
        (
            "up from a folder",
            vec![vec![entry("a", Directory, ""), entry(&format!("a/{up}{inner}/canary"), Regular, "")]],
        ),
        ("absolute", vec![vec![entry(&canary, Regular, "")]]),
        ("beside the root", vec![vec![entry("../escaped", Regular, "")]]),
        ("through a link", vec![vec![to_outside(), entry("link/canary", Regular, "")]]),
        (
            "through a link of the layer below",
            vec![vec![to_outside()], vec![entry("link/canary", Regular, "")]],
        ),
        (
            "through a chain",
            vec![vec![
                entry("a", Symlink, "b"),
                entry("b", Symlink, "/"),
                entry(&format!("a/{inner}/canary"), Regular, ""),
            ]],
        ),
        (
            "through a second name of a link",
            vec![vec![to_outside(), entry("name", Link, "link"), entry("name/canary", Regular, "")]],
        ),
        ("hard link out", vec![vec![entry("hard", Link, &canary), entry("hard", Regular, "")]]),
        ("hard link up", vec![vec![entry("hard", Link, &format!("{up}{inner}/canary"))]]),
        ("hard link through a link", vec![vec![to_outside(), entry("hard", Link, "link/canary")]]),
        ("folder over a link", vec![vec![to_outside(), entry("link", Directory, "")]]),
        (
            "folder over a link of the layer below",
            vec![vec![to_outside()], vec![entry("link", Directory, "")]],
        ),
        ("whiteout through a link", vec![vec![to_outside()], vec![entry("link/.wh.canary", Regular, "")]]),
        (
            "whiteout through a link beside it",
            vec![vec![to_outside(), entry("link/.wh.canary", Regular, "")]],
        ),
        ("opaque through a link", vec![vec![to_outside(), entry("link/.wh..wh..opq", Regular, "")]]),
        ("whiteout of the folder", vec![vec![entry("a/.wh..", Regular, "")]]),
        ("whiteout of the folder above", vec![vec![entry("a/.wh...", Regular, "")]]),
        ("whiteout of nothing", vec![vec![entry(".wh.", Regular, "")]]),
        ("whiteout that is a link", vec![vec![entry(".wh.bin", Symlink, outside)]]),
        (
            "opaque marker that is a folder",
            vec![vec![entry("a", Directory, ""), entry("a/.wh..wh..opq", Directory, "")]],
        ),
        ("a name for the terminal", vec![vec![entry("\u{1b}[2J\u{1b}]0;owned\u{7}/../x", Regular, "")]]),
        (
            "a pipe in the way",
            vec![vec![entry("pipe", Fifo, ""), entry("pipe", Regular, ""), entry("pipe/file", Regular, "")]],
        ),
        ("devices", vec![vec![entry("memory", Char, "1:1"), entry("disk", Block, "254:0")]]),
        ("no root", vec![vec![entry(".", Symlink, outside), entry("canary", Regular, "")]]),
    ]
}

/// A tar of entries with paths as they stand, which the tar crate's own setters would refuse.
fn archive(entries: &[(String, tar::EntryType, String)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, kind, target) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o777);
        header.set_uid(4711);
        header.set_mtime(1);
        let bytes = if *kind == Regular && !path.contains(".wh.") { OVERWRITTEN } else { b"" };
        header.set_size(bytes.len() as u64);
        if let Some((major, minor)) = target.split_once(':') {
            header.set_device_major(major.parse().unwrap()).unwrap();
            header.set_device_minor(minor.parse().unwrap()).unwrap();
        } else {
            header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        }
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

fn packed(layout: &Layout) -> Vec<u8> {
    let packed =
        std::process::Command::new("tar").arg("-C").arg(layout.folder()).args(["-cf", "-", "."]).output();
    packed.unwrap().stdout
}

#[test]
fn attacks_that_are_loaded() {
    let scene = Scene::new(Engine::start_empty().unwrap());
    for (what, attack) in scene.attacks() {
        let layers: Vec<Vec<u8>> = attack.iter().map(|entries| archive(entries)).collect();
        let answer =
            scene.engine.davit_with_input(["load", "-q"], &packed(&scene.layout("attack:1", &layers)));
        scene.answered(what, &answer);
        if answer.code == 0 {
            scene.confined("attack:1", what);
        }
        scene.nothing_left(what);
    }
}

#[test]
fn attacks_that_are_pulled() {
    let scene = Scene::new(Engine::start_empty().unwrap());
    let registry = Registry::start(scene.engine.host()).unwrap();
    for (number, (what, attack)) in scene.attacks().into_iter().enumerate() {
        let layers: Vec<Vec<u8>> = attack.iter().map(|entries| archive(entries)).collect();
        let layout = scene.layout("t", &layers);
        let name = format!("attack{number}:1");
        registry.push_layout(scene.engine.host(), layout.folder(), "t", &name).unwrap();
        let name = format!("{}/{name}", registry.address());
        let answer = scene.engine.davit(["pull", "-q", &name]);
        scene.answered(what, &answer);
        if answer.code == 0 {
            scene.confined(&name, what);
        }
    }
    assert_eq!(scene.engine.ok(["images", "-q"]).stdout, "");
}

#[test]
fn attacks_that_are_imported() {
    let scene = Scene::new(Engine::start_empty().unwrap());
    for (what, attack) in scene.attacks() {
        let archive = archive(&attack.concat());
        let answer = scene.engine.davit_with_input(["import", "-", "attack:1"], &archive);
        scene.answered(what, &answer);
        if answer.code == 0 {
            scene.engine.ok(["create", "--name", "c", "attack:1", "none"]);
            let seen = scene.engine.davit(["cp", "c:/", "-"]);
            assert!(!seen.stdout.contains("never to be seen"), "{what}: {seen:?}");
            scene.engine.ok(["rm", "c"]);
            scene.engine.ok(["rmi", "attack:1"]);
        }
        scene.nothing_left(what);
    }
}

#[test]
fn attacks_that_are_copied_in() {
    let scene = Scene::new(Engine::start().unwrap());
    scene.engine.ok(["run", "-d", "--name", "c", "-v", "/data", "busybox", "sleep", "1000"]);
    for (what, attack) in scene.attacks() {
        for folder in ["/tmp", "/data"] {
            let archive = archive(&attack.concat());
            let answer = scene.engine.davit_with_input(["cp", "-", &format!("c:{folder}")], &archive);
            scene.answered(what, &answer);
        }
    }
    let top = scene.engine.ok(["exec", "c", "ls", "-a", "/"]).stdout;
    assert!(!top.contains("canary") && !top.contains("escaped"), "{top}");
    let seen = scene.engine.davit(["exec", "c", "sh", "-c", "find /tmp /data -type f -exec cat {} ';'"]);
    assert!(!seen.stdout.contains("never to be seen"), "{seen:?}");
}

/// Ten GiB of zeros behind a tar's header, in ten MiB: one compressed piece over and over.
fn bomb(kind: Compression) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(10 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    let pack = |bytes: &[u8]| match kind {
        Compression::None => bytes.to_vec(),
        Compression::Zstd => zstd::encode_all(bytes, 19).unwrap(),
        Compression::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
    };
    let mut bomb = pack(header.as_bytes());
    let piece = pack(&vec![0; 1 << 20]);
    for _ in 0..10 << 10 {
        bomb.extend_from_slice(&piece);
    }
    bomb
}

#[test]
fn bombs() {
    let scene = Scene::new(Engine::start_empty().unwrap());
    let registry = Registry::start(scene.engine.host()).unwrap();
    let memory = || -> u64 {
        let pid = scene.engine.controller_pid().unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        peak.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = memory();
    for (number, kind) in [Compression::Gzip, Compression::Zstd].into_iter().enumerate() {
        let bomb = bomb(kind);
        let folder = scene.engine.host().folder().join(format!("bomb{number}"));
        let mut layout = Layout::new(folder).unwrap();
        layout.packed_layer(&bomb, kind, &"0".repeat(64)).unwrap();
        layout.finish("t", &json!({})).unwrap();
        let name = format!("attack{number}:1");
        registry.push_layout(scene.engine.host(), layout.folder(), "t", &name).unwrap();
        let answers = [
            scene.engine.davit(["pull", "-q", &format!("{}/{name}", registry.address())]),
            scene.engine.davit_with_input(["load", "-q"], &packed(&layout)),
            scene.engine.davit_with_input(["load", "-q"], &bomb),
            scene.engine.davit_with_input(["import", "-"], &bomb),
        ];
        for answer in &answers {
            assert_eq!(answer.code, 1, "{kind:?}: {answer:?}");
            assert!(
                answer.stderr.contains("decompressed") || answer.stderr.contains("limit reached"),
                "a limit with a name, {kind:?}: {answer:?}"
            );
            scene.answered("a bomb", answer);
        }
        scene.nothing_left("a bomb");
    }
    assert!(memory() < before + (256 << 10), "{before} KiB, then {} KiB", memory());
    scene.engine.load_busybox().unwrap();
}

#[test]
fn documents_without_an_end_and_streams_with_one_too_early() {
    let scene = Scene::new(Engine::start_empty().unwrap());
    let deep = "[".repeat(200_000);
    let layout = scene.layout("attack:1", &[]);
    let whole = packed(&layout);
    fs::write(layout.folder().join("index.json"), format!("{{\"schemaVersion\":2,\"manifests\":{deep}"))
        .unwrap();
    for (what, archive) in [
        ("a deep index", packed(&layout)),
        ("half an archive", whole[..whole.len() / 2].to_vec()),
        ("no archive", b"hello".to_vec()),
        ("nothing", Vec::new()),
    ] {
        let answer = scene.engine.davit_with_input(["load", "-q"], &archive);
        assert_eq!(answer.code, 1, "{what}: {answer:?}");
        scene.answered(what, &answer);
        scene.nothing_left(what);
    }
    assert_eq!(scene.engine.davit_with_input(["load", "-q"], &whole).code, 0);
}
