//! The power goes while images are pulled, loaded, committed, built and removed, and containers and volumes are made and removed: the
//! engine starts on what is left without any help, nothing that was answered is lost, whatever is listed is whole, and
//! the space of what was half done comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use davit_tests::chance::Chance;
use davit_tests::disk::{Disk, Unflushed};
use davit_tests::engine::{Engine, Services};
use davit_tests::host::Host;
use davit_tests::image::{Compression, Layout, busybox_layer, many_files};
use davit_tests::registry::Registry;
use davit_tests::store::{Store, occupied};
use davit_tests::wait::until_true;
use serde_json::json;

/// `DAVIT_TEST_CUTS` asks for more, `DAVIT_TEST_SEED` for those of another run.
const CUTS: u64 = 20;
const REMOTE: [&str; 3] = ["127.0.0.1:5000/p0:1", "127.0.0.1:5000/p1:1", "127.0.0.1:5000/p2:1"];
const ARCHIVED: [&str; 2] = ["archived0:1", "archived1:1"];
const CONTAINERS: [&str; 4] = ["c0", "c1", "c2", "c3"];
const COMMITTED: [&str; 2] = ["made0:1", "made1:1"];
const BUILT: [&str; 2] = ["built0:1", "built1:1"];
const VOLUMES: [&str; 2] = ["v0", "v1"];
/// Where an operation waits a moment, one a cut: the cut then mostly falls into it.
const SLOW: [&str; 10] = [
    "create.recorded",
    "create.intent",
    "create.content",
    "create.configured",
    "create.done",
    "start.wanted",
    "remove.marked",
    "release.trash",
    "release.services",
    "release.record",
];

/// What is known of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// The engine said that it is there.
    There,
    /// The engine said that it is gone.
    Gone,
    /// It was asked for the one or the other and had not answered yet.
    Asked,
}

type Known = BTreeMap<&'static str, Told>;

/// Everything that was asked for, and what was answered.
#[derive(Debug, Default)]
struct Answers {
    images: Known,
    containers: Known,
    volumes: Known,
}

/// One of those who use the engine when the power goes.
struct Worker<'a> {
    engine: &'a Engine,
    power: &'a AtomicBool,
    chance: Chance,
}

impl Worker<'_> {
    /// Turns one name after the other from gone to there or back, until the power goes.
    fn work(
        mut self,
        names: &[&'static str],
        mut known: Known,
        turn: impl Fn(&str, bool, u64) -> Words,
    ) -> Known {
        while self.power.load(Ordering::SeqCst) {
            let name = names[usize::try_from(self.chance.below(names.len() as u64)).unwrap()];
            let make = known.insert(name, Told::Asked).unwrap_or(Told::Gone) == Told::Gone;
            let words = turn(name, make, self.chance.below(100));
            let answer = self.engine.davit(&words);
            if answer.code == 0 {
                known.insert(name, if make { Told::There } else { Told::Gone });
            } else {
                let over = !self.power.load(Ordering::SeqCst);
                assert!(over, "{words:?}: {answer:?}\n{}", self.engine.end_of_log());
            }
        }
        known
    }
}

type Words = Vec<String>;

fn words(words: &[&str]) -> Words {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A build that is not quite what an earlier one was.
fn build(name: &str, turn: u64, archives: &Path) -> Words {
    let turn = format!("TURN={turn}");
    let context = archives.join("context").display().to_string();
    words(&["build", "-q", "--build-arg", &turn, "-t", name, &context])
}

struct Scene {
    engine: Engine,
    disk: Disk,
    registry: Option<Registry>,
    archives: PathBuf,
    answers: Answers,
    seed: u64,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let host = Host::new().unwrap();
        let disk = Disk::new(256).unwrap();
        disk.mount(&host, &host.folder().join("root")).unwrap();
        let engine = Engine::start_on(host, Services::Embedded, &[]).unwrap();
        let registry = Registry::start(engine.host()).unwrap();
        let archives = engine.host().folder().join("archives");
        fs::create_dir(&archives).unwrap();
        let (base, kinds) =
            (busybox_layer().unwrap(), [Compression::Gzip, Compression::Zstd, Compression::None]);
        for (at, name) in REMOTE.iter().chain(&ARCHIVED).enumerate() {
            let mut layout = Layout::new(archives.join(format!("layout{at}"))).unwrap();
            layout.layer(&base, Compression::Gzip).unwrap();
            for part in 0..2 {
                let seed = (at * 2 + part) as u64;
                layout.layer(&many_files(seed, 60, 600_000).unwrap(), kinds[(at + part) % 3]).unwrap();
            }
            layout.finish(name, &json!({"Cmd": ["true"], "Env": ["PATH=/bin"]})).unwrap();
            if REMOTE.contains(name) {
                let (_, repository) = name.split_once('/').unwrap();
                registry.push_layout(engine.host(), layout.folder(), name, repository).unwrap();
            } else {
                pack(layout.folder(), &archives.join(name));
            }
        }
        engine.load_busybox().unwrap();
        engine.ok([
            "run",
            "--name",
            "kept",
            "-v",
            "kept:/data",
            "busybox",
            "sh",
            "-c",
            "echo kept > /data/file && sync",
        ]);
        let context = archives.join("context");
        fs::create_dir(&context).unwrap();
        let dockerfile = "FROM busybox\nCOPY file /file\nARG TURN\nRUN echo $TURN > /turn; cat /file > /other\n\
            CMD [\"cat\", \"/turn\"]\n";
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        fs::write(context.join("file"), many_files(99, 4, 300_000).unwrap()).unwrap();
        let script =
            "for n in 1 2 3 4 5 6 7 8; do echo $n > /tmp/$n; done; cat /bin/busybox > /large; rm /etc/group";
        engine.ok(["run", "--name", "changed", "busybox", "sh", "-c", script]);
        Self { engine, disk, registry: Some(registry), archives, answers: Answers::default(), seed }
    }

    /// The engine's root as its host sees it: there the disk is mounted.
    fn root(&self) -> PathBuf {
        self.engine.host().seen_at(&self.engine.root().display().to_string())
    }

    fn store(&self) -> Store {
        Store::at(self.root().join("image"))
    }

    /// Lets the engine work for a moment, cuts the power, and starts again.
    fn cut(&mut self, number: u64) {
        let mut chance = Chance::new(self.seed + number);
        let power = AtomicBool::new(true);
        let (engine, archives, known) = (&self.engine, &self.archives, &self.answers);
        let worker =
            |n: u64| Worker { engine, power: &power, chance: Chance::new(self.seed + number * 7 + n) };
        let moment = Duration::from_millis(100 + chance.below(900));
        let answers = std::thread::scope(|scope| {
            let pulls = scope.spawn(|| {
                worker(1).work(&REMOTE, part(&known.images, &REMOTE), |name, make, _| {
                    if make { words(&["pull", "-q", name]) } else { words(&["rmi", name]) }
                })
            });
            let loads = scope.spawn(|| {
                worker(2).work(&ARCHIVED, part(&known.images, &ARCHIVED), |name, make, _| {
                    let archive = archives.join(name).display().to_string();
                    if make { words(&["load", "-q", "-i", &archive]) } else { words(&["rmi", name]) }
                })
            });
            let commits = scope.spawn(|| {
                worker(6).work(&COMMITTED, part(&known.images, &COMMITTED), |name, make, _| {
                    if make { words(&["commit", "changed", name]) } else { words(&["rmi", name]) }
                })
            });
            let builds = scope.spawn(|| {
                worker(8).work(&BUILT, part(&known.images, &BUILT), |name, make, chance| {
                    if make { build(name, chance, archives) } else { words(&["rmi", name]) }
                })
            });
            let containers = |n: u64, names: &'static [&'static str]| {
                worker(n).work(names, part(&known.containers, names), |name, make, chance| {
                    match (make, chance) {
                        (true, 50..) => words(&["create", "--name", name, "-v", "/data", "busybox", "true"]),
                        (true, _) => words(&["run", "-d", "--name", name, "busybox", "sleep", "1000"]),
                        (false, _) => words(&["rm", "-f", "-v", name]),
                    }
                })
            };
            let one = scope.spawn(move || containers(3, &CONTAINERS[..2]));
            let other = scope.spawn(move || containers(4, &CONTAINERS[2..]));
            let volumes = scope.spawn(|| {
                worker(5).work(&VOLUMES, known.volumes.clone(), |name, make, _| {
                    words(&["volume", if make { "create" } else { "rm" }, name])
                })
            });
            std::thread::sleep(moment);
            power.store(false, Ordering::SeqCst);
            engine.host().kill_all().unwrap();
            let join = |workers: Vec<std::thread::ScopedJoinHandle<'_, Known>>| {
                workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Known>()
            };
            Answers {
                images: join(vec![pulls, loads, commits, builds]),
                containers: join(vec![one, other]),
                volumes: join(vec![volumes]),
            }
        });
        self.answers = answers;
        self.reboot(number, &mut chance);
    }

    fn reboot(&mut self, number: u64, chance: &mut Chance) {
        let unflushed = match chance.below(4) {
            0 => Unflushed::Kept,
            1 => Unflushed::Lost,
            _ => Unflushed::Some(self.seed + number),
        };
        let slow = SLOW[usize::try_from(number).unwrap() % SLOW.len()];
        eprintln!("cut {number}, seed {}: {unflushed:?}, {:?}; next slow: {slow}", self.seed, self.answers);
        self.registry = None;
        let (root, disk) = (self.engine.root(), &self.disk);
        self.engine.reboot(&format!("{slow}=delay:200"), |host| disk.cut(host, &root, unflushed)).unwrap();
        self.registry = Some(Registry::start(self.engine.host()).unwrap());
    }

    /// Looks after everything, and learns what became of what was not answered.
    fn verify(&mut self) {
        self.store().verify().unwrap();
        let engine = &self.engine;
        let lines = |arguments: &[&str]| -> BTreeSet<String> {
            engine.ok(arguments.iter().copied()).stdout.lines().map(str::to_owned).collect()
        };
        until_true("each container is one thing or the other", || {
            let states = lines(&["ps", "-a", "--format", "{{.State}}"]);
            !["creating", "removing", "unknown", "running"].iter().any(|between| states.contains(*between))
        });
        until_true("what builds left is gone", || {
            lines(&["ps", "-a", "-q", "--filter", "label=invalid.build.step"]).is_empty()
        });
        let images = lines(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        let containers = lines(&["ps", "-a", "--format", "{{.Names}}"]);
        let volumes = lines(&["volume", "ls", "-q"]);
        check("image", &mut self.answers.images, &images);
        check("container", &mut self.answers.containers, &containers);
        check("volume", &mut self.answers.volumes, &volumes);

        for image in &images {
            engine.ok(["run", "--rm", image, "true"]);
        }
        for container in containers.iter().filter(|name| CONTAINERS.contains(&name.as_str())) {
            engine.ok(["start", container]);
            engine.ok(["stop", "-t", "0", container]);
        }
        let kept = engine.ok(["run", "--rm", "-v", "kept:/data", "busybox", "cat", "/data/file"]);
        assert_eq!(kept.stdout, "kept\n");
        self.nothing_half_done(&lines(&["ps", "-a", "-q", "--no-trunc"]));
    }

    /// No folder is there that nothing names.
    fn nothing_half_done(&self, containers: &BTreeSet<String>) {
        let (root, store) = (self.root(), self.store());
        until_true("what was half done is gone", || {
            let names = |folder: &str| -> BTreeSet<String> {
                let listed = fs::read_dir(root.join(folder)).unwrap();
                listed.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
            };
            let uses =
                names("image/use").iter().map(|name| name.trim_end_matches(".json").to_owned()).collect();
            names("trash").is_empty()
                && names("containers") == *containers
                && *containers == uses
                && store.under_way().unwrap().iter().all(|name| name.ends_with(".part"))
        });
    }
}

fn part(known: &Known, names: &[&'static str]) -> Known {
    known.iter().filter(|(name, _)| names.contains(name)).map(|(name, told)| (*name, *told)).collect()
}

fn check(kind: &str, known: &mut Known, listed: &BTreeSet<String>) {
    for (name, told) in known {
        let there = listed.contains(*name);
        match told {
            Told::There => assert!(there, "{kind} {name} was answered and is lost: {listed:?}"),
            Told::Gone => assert!(!there, "{kind} {name} was removed and is back: {listed:?}"),
            Told::Asked => *told = if there { Told::There } else { Told::Gone },
        }
    }
}

fn pack(folder: &Path, archive: &Path) {
    let packed =
        std::process::Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(archive).arg(".").status();
    assert!(packed.unwrap().success());
}

#[test]
fn whatever_was_answered_outlives_the_power() {
    let asked = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = asked("DAVIT_TEST_SEED");
    let mut scene = Scene::new(seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()));
    for number in 0..asked("DAVIT_TEST_CUTS").unwrap_or(CUTS) {
        scene.cut(number);
        scene.verify();
    }
    // All that was half done is given back with the rest.
    let engine = &scene.engine;
    for container in engine.ok(["ps", "-a", "-q"]).stdout.lines() {
        engine.ok(["rm", "-f", "-v", container]);
    }
    engine.ok(["builder", "prune", "-a", "-f"]);
    engine.ok(["image", "prune", "-a", "-f"]);
    let image = scene.root().join("image");
    until_true("all space is given back", || occupied(&image) < 128 << 10);
}

#[test]
fn the_disk_loses_what_was_not_flushed() {
    for unflushed in [Unflushed::Kept, Unflushed::Lost, Unflushed::Some(1)] {
        let mut host = Host::new().unwrap();
        let (disk, at) = (Disk::new(64).unwrap(), host.folder().join("disk"));
        disk.mount(&host, &at).unwrap();
        let file = |host: &Host, name: &str| host.seen_at(&at.join(name).display().to_string());
        let synced = fs::File::create(file(&host, "synced")).unwrap();
        std::io::Write::write_all(&mut &synced, b"synced").unwrap();
        synced.sync_all().unwrap();
        fs::write(file(&host, "cached"), "cached").unwrap();
        drop(synced);
        disk.cut(&mut host, &at, unflushed).unwrap();
        assert_eq!(fs::read_to_string(file(&host, "synced")).unwrap(), "synced", "{unflushed:?}");
        assert!(!file(&host, "cached").exists(), "{unflushed:?}: the cut cut nothing off");
    }
}
