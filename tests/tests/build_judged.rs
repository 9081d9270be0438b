//! Dockerfiles of every kind, built by us and by buildah from the same folder: each comes to what is written down
//! beside it, and to what buildah makes of it, but where docker and buildah differ.
//!
//! `DAVIT_TEST_CASE=name` (or `all`) prints what came of it, in the words of a case.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use davit_tests::buildah::Buildah;
use davit_tests::case::{self, Case};
use davit_tests::engine::Engine;
use davit_tests::image::{Compression, Layout, busybox};
use davit_tests::judge::is_there;
use davit_tests::tree::{self, Node, Tree};
use serde_json::{Map, Value};

/// When all files of contexts were modified.
const CONTEXT: i64 = 1_600_000_000;
/// Names of the image with programs that stand for compilers and the like.
const TOOLS: [&str; 5] = ["golang:1.22", "rust:1.80", "node:20", "python:3.12", "nginx:1.27"];
/// What of a config is compared.
const FIELDS: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "ExposedPorts",
    "Volumes",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
];
/// What buildah mounts over in the steps of its chroot, and leaves where it was not there before.
const STUBS: [(&str, &str); 4] = [
    ("/etc/hostname", "file 755 0:0 \"\""),
    ("/etc/hosts", "file 755 0:0 \"\""),
    ("/etc/resolv.conf", "file 755 0:0 \"\""),
    ("/run", "folder 755 0:0"),
];
/// Cases that are built at the same time.
const WORKERS: usize = 3;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/build")
}

/// An engine and a judge with the same images.
struct Court<'a> {
    engine: &'a Engine,
    buildah: Option<Buildah<'a>>,
    /// Trees of the images that cases begin with.
    bases: BTreeMap<String, Told>,
}

/// A tree in the words of cases, and which of it has the time of the context.
#[derive(Debug, Default)]
struct Told {
    entries: BTreeMap<String, String>,
    dated: BTreeSet<String>,
    changed: BTreeMap<String, (i64, i64)>,
}

impl Told {
    fn of(root: &Path, tree: &Tree) -> Result<Self> {
        let mut told = Self::default();
        for (path, node) in tree {
            let name = case::path(path);
            if node.modified == (CONTEXT, 0) {
                told.dated.insert(name.clone());
            }
            if node.content.starts_with("file") {
                told.changed.insert(name.clone(), node.modified);
            }
            told.entries.insert(name, tell(root, path, node)?);
        }
        Ok(told)
    }

    /// What is not in a base, or is otherwise there.
    fn upon(&self, base: &Self) -> BTreeMap<String, String> {
        let mut news = BTreeMap::new();
        for (path, entry) in &self.entries {
            let same =
                base.entries.get(path) == Some(entry) && base.changed.get(path) == self.changed.get(path);
            if !same {
                let dated = if self.dated.contains(path) { " @context" } else { "" };
                news.insert(path.clone(), format!("{entry}{dated}"));
            }
        }
        let gone = base.entries.keys().filter(|path| !self.entries.contains_key(*path));
        news.extend(gone.map(|path| (path.clone(), "gone".to_owned())));
        news
    }
}

/// An entry in the words of cases.
fn tell(root: &Path, path: &Path, node: &Node) -> Result<String> {
    let (mode, (uid, gid)) = (node.mode, node.owner);
    let mut text = match (node.content.split_once(' '), &node.link_to) {
        (_, Some(first)) => format!("same {mode:o} {uid}:{gid} {}", case::path(first)),
        (Some(("link", target)), None) => format!("link {uid}:{gid} -> {target}"),
        (Some(("file", rest)), None) => {
            let bytes = fs::read(root.join(path))?;
            let short = String::from_utf8(bytes).ok().filter(|text| text.len() <= 200);
            let digest = || format!("sha256:{}", rest.rsplit(' ').next().unwrap_or_default());
            let content = short.map_or_else(digest, |text| Value::String(text).to_string());
            format!("file {mode:o} {uid}:{gid} {content}")
        }
        _ => format!("{} {mode:o} {uid}:{gid}", node.content),
    };
    for (name, value) in &node.attributes {
        text.push_str(&format!(" {name}={}", hex::encode(value)));
    }
    Ok(text)
}

/// The image with tools, as an OCI layout: busybox, and what lies in `tests/cases/tools`.
fn tools(folder: &Path) -> Result<PathBuf> {
    let unpacked = folder.join("busybox");
    fs::create_dir_all(&unpacked)?;
    run(Command::new("tar").arg("-C").arg(&unpacked).arg("-xf").arg(busybox()?))?;
    let mut layer = fs::read_dir(&unpacked)?.flatten().map(|entry| entry.path());
    let layer = layer.find(|path| path.extension().is_some_and(|e| e == "tar"));
    let mut layout = Layout::new(folder.join("tools"))?;
    layout.layer(&fs::read(layer.context("busybox's layer")?)?, Compression::None)?;
    let flags =
        ["--owner=0", "--group=0", "--mode=u=rwX,go=rX", "--mtime=@1500000000", "--sort=name", "-cf", "-"];
    let packed = Command::new("tar").args(flags).arg("-C").arg(cases().join("../tools")).arg(".").output()?;
    ensure!(packed.status.success(), "tar: {}", String::from_utf8_lossy(&packed.stderr));
    layout.layer(&packed.stdout, Compression::Gzip)?;
    let path = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let config = serde_json::json!({
        "Env": [path, "LANG=C.UTF-8"], "Cmd": ["bash"], "Labels": {"maintainer": "tools"}, "WorkingDir": "/",
    });
    layout.finish("tools:1", &config)?;
    Ok(layout.folder().to_owned())
}

fn run(command: &mut Command) -> Result<()> {
    let done = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

impl<'a> Court<'a> {
    fn new(engine: &'a Engine) -> Result<Self> {
        let folder = engine.host().folder();
        let layout = tools(folder)?;
        let archive = folder.join("tools.tar");
        run(Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&archive).arg("."))?;
        let loaded = engine.ok(["load", "-q", "-i", &archive.display().to_string()]).stdout;
        ensure!(loaded.contains("tools"), "{loaded}");
        TOOLS.iter().for_each(|name| drop(engine.ok(["tag", "tools:1", name])));
        let buildah = if is_there("buildah") { Some(Buildah::new(engine.host())?) } else { None };
        if let Some(buildah) = &buildah {
            buildah.load(&format!("docker-archive:{}", busybox()?.display()), &["busybox"])?;
            buildah.load(&format!("oci-archive:{}", archive.display()), &TOOLS)?;
        }
        let mut court = Self { engine, buildah, bases: BTreeMap::new() };
        for name in ["busybox", "tools:1"] {
            let (told, _) = court.ours(name)?;
            court.bases.insert(name.to_owned(), told);
        }
        Ok(court)
    }

    /// An image of ours: its tree, as overlay puts its layers together, and its config.
    fn ours(&self, image: &str) -> Result<(Told, Value)> {
        let mut said: Value = serde_json::from_str(&self.engine.ok(["inspect", image]).stdout)?;
        let layers = said[0]["RootFS"]["Layers"].as_array().cloned().unwrap_or_default();
        let store = self.engine.root().join("image/layers");
        let folder = |layer: &Value| {
            let digest = layer.as_str().unwrap_or_default();
            store.join(digest.trim_start_matches("sha256:")).join("fs").display().to_string()
        };
        let point = tempfile::Builder::new().prefix("tree-").tempdir_in(self.engine.host().folder())?;
        let [top, one, two] = ["top", "one", "two"].map(|name| point.path().join(name));
        let empty = [one, two];
        [&top, &empty[0], &empty[1]].into_iter().try_for_each(fs::create_dir)?;
        // Overlay wants two layers at least.
        let below = layers.iter().rev().map(folder).chain(empty.map(|path| path.display().to_string()));
        let options = format!("lowerdir={}", below.collect::<Vec<_>>().join(":"));
        let top = top.display().to_string();
        run(self.engine.host().command("mount").args(["-t", "overlay", "-o", &options, "tree", &top]))?;
        let root = self.engine.host().seen_at(&top);
        let told = tree::read(&root).and_then(|tree| Told::of(&root, &tree));
        run(self.engine.host().command("umount").arg(&top))?;
        Ok((told?, said[0]["Config"].take()))
    }

    /// Builds a case, and answers with all that is not as it should be.
    fn judge(&self, name: &str) -> Result<Vec<String>> {
        let case = Case::read(&cases().join(name).join("case"))?;
        let context = self.context(name)?;
        let path = context.display().to_string();
        for (file, image) in &case.before {
            let file = context.join(file).display().to_string();
            self.engine.ok(["build", "-q", "-f", &file, "-t", image, &path]);
        }
        let image = format!("case-{name}");
        let flags: Vec<String> = case.flags.iter().map(|flag| flag.replace("{}", &path)).collect();
        let words = ["build", "--progress=plain", "-t", &image].map(str::to_owned);
        let answer = self.engine.davit(words.into_iter().chain(flags.clone()).chain([path.clone()]));
        ensure!(answer.code == 0, "{}", answer.stderr);
        let (told, config) = self.ours(&image)?;
        let config = fields(&config);
        let empty = Told::default();
        let base = match case.base.as_str() {
            "scratch" => &empty,
            "busybox" => &self.bases["busybox"],
            _ => &self.bases["tools:1"],
        };
        let news = told.upon(base);
        if std::env::var_os("DAVIT_TEST_CASE").is_some() {
            let config = config.iter().map(|(field, value)| format!("config {field} {value}\n"));
            let news = news.iter().map(|(path, entry)| format!("{path} {entry}\n"));
            println!("came of {name}:\n{}", config.chain(news).collect::<String>());
        }
        let mut wrong = differences("written down", "built", &case.tree, &news);
        wrong.extend(differences("written down", "built", &texts(&case.config), &texts(&config)));
        if case.unknown.is_none() {
            wrong.extend(self.beside(&case, &context, &image, (&told, &config))?);
        }
        fs::remove_dir_all(&context)?;
        Ok(wrong)
    }

    /// The same by buildah.
    fn beside(
        &self,
        case: &Case,
        context: &Path,
        image: &str,
        (told, config): (&Told, &Map<String, Value>),
    ) -> Result<Vec<String>> {
        let Some(buildah) = &self.buildah else { return Ok(Vec::new()) };
        for (file, name) in &case.before {
            buildah.build(context, name, &["-f".to_owned(), context.join(file).display().to_string()])?;
        }
        let path = context.display().to_string();
        let flags: Vec<String> = case.flags.iter().map(|flag| flag.replace("{}", &path)).collect();
        buildah.build(context, image, &flags)?;
        let (root, tree) = buildah.tree(image)?;
        let mut theirs = Told::of(&root, &tree)?;
        let stub = |path: &String, entry: &String| {
            STUBS.contains(&(path, entry)) && !told.entries.contains_key(path)
        };
        theirs.entries.retain(|path, entry| !stub(path, entry));
        let mut wrong = differences("ours", "buildah's", &stamped(told, &theirs), &stamped(&theirs, told));
        let their_config = fields(&buildah.config(image)?);
        wrong.extend(differences("ours", "buildah's", &texts(config), &texts(&their_config)));
        let excused =
            |line: &String| case.differs.keys().any(|what| line.split(": ").next() == Some(what.as_str()));
        let (excused, mut wrong): (Vec<_>, Vec<_>) = wrong.into_iter().partition(excused);
        // An excuse for nothing hides what comes to be wrong later.
        for what in case.differs.keys() {
            if !excused.iter().any(|line| line.split(": ").next() == Some(what.as_str())) {
                wrong.push(format!("{what}: is said to differ from buildah's, and does not"));
            }
        }
        Ok(wrong)
    }

    /// A copy of a case's context, with what git has no words for.
    fn context(&self, name: &str) -> Result<PathBuf> {
        let folder = self.engine.host().folder().join(format!("context-{name}"));
        let case = cases().join(name);
        run(Command::new("cp").arg("-a").arg(case.join("context")).arg(&folder))?;
        run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(&folder))?;
        let prepare = case.join("prepare");
        if prepare.exists() {
            run(Command::new("sh").arg("-eu").arg(&prepare).current_dir(&folder))?;
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        run(Command::new("find").arg(&folder).args([
            "-depth",
            "-exec",
            "touch",
            "-h",
            "-d",
            "@1600000000",
            "{}",
            "+",
        ]))?;
        Ok(folder)
    }
}

/// What a config says of the fields that count.
fn fields(config: &Value) -> Map<String, Value> {
    let mut told = Map::new();
    for field in FIELDS {
        let mut value = config[field].clone();
        if let Value::Object(labels) = &mut value {
            labels.remove("io.buildah.version");
        }
        let nothing = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        if !nothing {
            told.insert(field.to_owned(), value);
        }
    }
    told
}

fn texts<'a>(config: impl IntoIterator<Item = (&'a String, &'a Value)>) -> BTreeMap<String, String> {
    config.into_iter().map(|(field, value)| (format!("config {field}"), value.to_string())).collect()
}

/// A tree's entries; those that have the context's time here or there say whether they have it.
fn stamped(told: &Told, other: &Told) -> BTreeMap<String, String> {
    let stamp = |path: &String| {
        let either = told.dated.contains(path) || other.dated.contains(path);
        if either && told.dated.contains(path) { " @context" } else { "" }
    };
    told.entries.iter().map(|(path, entry)| (path.clone(), format!("{entry}{}", stamp(path)))).collect()
}

fn differences(
    one: &str,
    other: &str,
    first: &BTreeMap<String, String>,
    second: &BTreeMap<String, String>,
) -> Vec<String> {
    let keys: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    let differ = keys.into_iter().filter(|key| first.get(*key) != second.get(*key));
    let nothing = "nothing".to_owned();
    let line = |key: &String| {
        let (one_is, other_is) = (first.get(key).unwrap_or(&nothing), second.get(key).unwrap_or(&nothing));
        format!("{key}: {one}: {one_is}\n      {other}: {other_is}")
    };
    differ.map(line).collect()
}

#[test]
fn every_case_comes_to_what_is_written_down_and_to_what_buildah_makes_of_it() {
    let mut names: Vec<String> = fs::read_dir(cases())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 20, "{names:?}");
    if let Ok(only) = std::env::var("DAVIT_TEST_CASE") {
        names.retain(|name| only == "all" || *name == only);
    }
    let engine = Engine::start().unwrap();
    let court = Court::new(&engine).unwrap();
    let (left, wrong) = (Mutex::new(names), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(name) = left.lock().unwrap().pop() else { return };
                    let lines = court.judge(&name).unwrap_or_else(|error| vec![format!("{error:#}")]);
                    wrong.lock().unwrap().extend(lines.into_iter().map(|line| format!("{name}: {line}")));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "\n{}\n{}", wrong.join("\n"), engine.end_of_log());
}
