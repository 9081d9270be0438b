//! A full disk: what gives space back works without any, and the engine starts on one.

use std::path::PathBuf;
use std::process::Command;

use davit_tests::engine::{Engine, Services};
use davit_tests::image::{Compression, Layout, busybox_layer, many_files};
use serde_json::json;

/// An engine whose root is a small ext4 of its own, without blocks that only root may use.
struct SmallDisk {
    engine: Engine,
}

impl SmallDisk {
    fn start(megabytes: u64) -> Self {
        let mut engine = Engine::start_with(Services::Embedded, &[]).unwrap();
        engine.end_controller().unwrap();
        let image = engine.host().folder().join("disk.img");
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).status().unwrap();
        assert!(made.success(), "mkfs.ext4");
        let root = engine.root();
        let mounted =
            engine.host().command("mount").args(["-o", "loop"]).arg(&image).arg(&root).output().unwrap();
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        engine.start_controller().unwrap();
        Self { engine }
    }

    /// A path below the root as this test reaches it: the disk is mounted on the engine's host only.
    fn seen(&self, path: &str) -> PathBuf {
        self.engine.host().seen_at(&self.engine.root().join(path).display().to_string())
    }

    fn free(&self) -> u64 {
        let space = rustix::fs::statvfs(self.seen("")).unwrap();
        space.f_bavail * space.f_frsize
    }

    /// Takes the last block.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::options().create(true).append(true).open(self.seen("fill")).unwrap();
        for size in [1 << 20, 4096, 512] {
            let piece = vec![b'x'; size];
            while file.write_all(&piece).is_ok() {}
        }
        file.sync_all().unwrap_or_else(|error| eprintln!("{error}"));
        assert_eq!(self.free(), 0);
    }

    fn load(&self, name: &str, seed: u64, bytes: usize) {
        let folder = self.engine.host().folder().join(format!("layout-{seed}"));
        let mut layout = Layout::new(folder.clone()).unwrap();
        layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
        layout.layer(&many_files(seed, 20, bytes).unwrap(), Compression::Gzip).unwrap();
        layout.finish(name, &json!({"Cmd": ["sh"]})).unwrap();
        let archive = self.engine.host().folder().join("archive.tar");
        let tar = Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&archive).arg(".").status();
        assert!(tar.unwrap().success());
        self.engine.ok(["load", "-q", "-i", &archive.display().to_string()]);
    }
}

#[test]
fn all_removals_work_on_a_full_disk_and_give_the_space_back() {
    let disk = SmallDisk::start(64);
    let engine = &disk.engine;
    disk.load("a:1", 1, 4_000_000);
    disk.load("b:1", 2, 4_000_000);
    engine.ok(["tag", "a:1", "again:1"]);
    engine.ok(["run", "--name", "big", "a:1", "sh", "-c", "head -c 3000000 /dev/urandom > /f"]);
    engine.ok(["run", "-d", "--name", "runs", "a:1", "sleep", "1000"]);
    engine.ok(["run", "--rm", "-v", "v:/v", "a:1", "sh", "-c", "head -c 3000000 /dev/urandom > /v/f"]);
    engine.ok(["network", "create", "net"]);
    let removals: [&[&str]; 7] = [
        &["rmi", "again:1"],
        &["rmi", "b:1"],
        &["rm", "big"],
        &["volume", "rm", "v"],
        &["network", "rm", "net"],
        &["rm", "-f", "runs"],
        &["system", "prune", "-a", "-f"],
    ];
    for removal in removals {
        disk.fill();
        engine.ok(removal);
        let gives = !matches!(removal, ["rmi", "again:1"] | ["network", ..] | ["rm", "-f", _]);
        if gives {
            davit_tests::wait::until_true(&format!("{removal:?} gives space back"), || {
                disk.free() > 1_000_000
            });
        }
    }
    assert_eq!(engine.ok(["images", "-q"]).stdout, "");
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout, "");
    std::fs::remove_file(disk.seen("fill")).unwrap();
    engine.load_busybox().unwrap();
    engine.ok(["run", "--rm", "busybox", "true"]);
}

#[test]
fn the_engine_starts_on_a_full_disk() {
    let mut disk = SmallDisk::start(64);
    disk.load("a:1", 1, 4_000_000);
    disk.engine.ok(["run", "-d", "--name", "runs", "a:1", "sleep", "1000"]);
    disk.engine.ok(["create", "--name", "stopped", "a:1"]);
    disk.fill();
    for _ in 0..2 {
        disk.engine.kill_controller().unwrap();
        disk.engine.start_controller().unwrap();
        assert_eq!(disk.engine.field("runs", "{{.State.Status}}"), "running");
        assert_eq!(disk.engine.ok(["ps", "-a", "-q"]).stdout.lines().count(), 2);
    }
    let engine = &disk.engine;
    let refused = engine.davit(["create", "a:1"]);
    assert!(refused.code != 0 && refused.stderr.to_lowercase().contains("no space"), "{refused:?}");
    engine.ok(["rm", "-f", "runs", "stopped"]);
    engine.ok(["rmi", "a:1"]);
    davit_tests::wait::until_true("space is back", || disk.free() > 4_000_000);
    engine.load_busybox().unwrap();
    engine.ok(["run", "--rm", "busybox", "true"]);
}
