//! Volumes that are more than a folder: in memory, of the host, of a driver; and their files in and out.

use std::fs;
use std::path::Path;

use davit_tests::engine::{Engine, Services, loop_driver};
use davit_tests::host::Host;
use davit_tests::wait::until_true;

/// An engine that knows the driver `loop`, which runs.
fn with_driver() -> Engine {
    let host = Host::new().unwrap();
    let flag = loop_driver(&host);
    let mut engine = Engine::start_on(host, Services::of_this_run(), &[&flag]).unwrap();
    engine.start_loop_driver().unwrap();
    engine.load_busybox().unwrap();
    engine
}

/// Mounts below a folder, as the engine's host has them.
fn mounts_below(engine: &Engine, folder: &Path) -> usize {
    let table = engine.host().command("cat").arg("/proc/self/mounts").output().unwrap();
    let below = folder.display().to_string();
    String::from_utf8_lossy(&table.stdout).lines().filter(|line| line.contains(&below)).count()
}

#[test]
fn memory_is_one_file_system_for_all_who_use_it() {
    let mut engine = Engine::start().unwrap();
    let volumes = engine.root().join("volume");
    let options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m,mode=1777"];
    let create = [&["volume", "create"][..], &options, &["mem"]].concat();
    engine.ok(&create);
    engine.ok(&create);
    assert_eq!(
        engine
            .ok(["volume", "inspect", "--format", "{{index .Options \"o\"}} {{.Driver}} {{.Scope}}", "mem"])
            .stdout,
        "size=1m,mode=1777 local local\n"
    );
    let other = engine.davit(["volume", "create", "--opt", "type=tmpfs", "--opt", "o=size=2m", "mem"]);
    assert!(other.code == 1 && other.stderr.contains("already exists"), "{other:?}");
    let wrong = engine.davit(["volume", "create", "--opt", "type=tmpfs", "--opt", "o=siez=2m", "wrong"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("siez"), "{wrong:?}");

    engine.ok(["run", "-d", "--name", "one", "-v", "mem:/d", "busybox", "sleep", "inf"]);
    engine.ok(["run", "--rm", "-v", "mem:/d", "busybox", "sh", "-c", "echo shared > /d/x"]);
    assert_eq!(engine.ok(["exec", "one", "cat", "/d/x"]).stdout, "shared\n");
    let full = engine.davit(["exec", "one", "dd", "if=/dev/zero", "of=/d/full", "bs=64k", "count=32"]);
    assert!(full.stderr.contains("No space left"), "{full:?}");
    engine.ok(["exec", "one", "rm", "/d/full"]);
    engine.ok(["create", "--name", "two", "-v", "mem:/d", "busybox"]);
    let file = engine.host().folder().join("x");
    engine.ok(["cp", "two:/d/x", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "shared\n", "a stopped one has it too");

    engine.kill_controller().unwrap();
    engine.start_controller().unwrap();
    engine.ok(["run", "--rm", "-v", "mem:/d", "busybox", "grep", "shared", "/d/x"]);
    assert_eq!(mounts_below(&engine, &volumes), 1);
    let refused = engine.davit(["volume", "rm", "mem"]);
    assert_eq!(refused.code, 1);
    let words = "remove mem: volume is in use - [";
    let named = refused.stderr.contains("one") && refused.stderr.contains("two");
    assert!(refused.stderr.contains(words) && named, "{refused:?}");
    engine.ok(["rm", "-f", "one", "two"]);
    assert_eq!(mounts_below(&engine, &volumes), 0);
    engine.ok(["volume", "rm", "mem"]);
}

#[test]
fn a_folder_of_the_host_is_a_volume_and_outlives_it() {
    let mut engine = Engine::start().unwrap();
    let folder = engine.host().folder().join("shared");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x"), "of the host\n").unwrap();
    let device = format!("device={}", folder.display());
    engine.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "shared"]);
    engine.ok(["run", "--name", "c", "-v", "shared:/d", "busybox", "sh", "-c", "cat /d/x; echo y > /d/y"]);
    assert_eq!(fs::read_to_string(folder.join("y")).unwrap(), "y\n");

    // A reboot takes the mount; a copy from the stopped container has it again, and not the empty folder below.
    let data = engine.root().join("volume/shared/data");
    let unmount = |host: &mut Host| {
        anyhow::ensure!(host.command("umount").arg("--lazy").arg(data).status()?.success());
        Ok(())
    };
    engine.reboot("", unmount).unwrap();
    assert_eq!(mounts_below(&engine, &engine.root().join("volume")), 0);
    let file = engine.host().folder().join("copied");
    engine.ok(["cp", "c:/d/y", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "y\n");
    assert_eq!(engine.ok(["start", "-a", "c"]).stdout, "of the host\n");
    engine.ok(["rm", "c"]);
    engine.ok(["volume", "rm", "shared"]);
    assert_eq!(fs::read_to_string(folder.join("x")).unwrap(), "of the host\n");
}

#[test]
fn a_drivers_volume_has_a_hard_limit_and_a_driver_may_be_away() {
    let mut engine = with_driver();
    let images = engine.host().folder().join("images");
    assert!(engine.ok(["info", "--format", "{{json .Plugins.Volume}}"]).stdout.contains("loop"));
    engine.ok(["volume", "create", "-d", "loop", "-o", "size=8m", "small"]);
    let run = ["run", "-d", "--name", "c", "-v", "small:/d", "busybox", "sh", "-c"];
    engine.ok(run.iter().copied().chain(["echo kept > /d/x; sleep inf"]));
    let full = engine.davit(["exec", "c", "dd", "if=/dev/zero", "of=/d/full", "bs=1M", "count=16"]);
    assert!(full.stderr.contains("No space left"), "{full:?}");
    engine.ok(["exec", "c", "rm", "/d/full"]);

    engine.kill("davit-volume-loop").unwrap();
    assert_eq!(engine.ok(["exec", "c", "cat", "/d/x"]).stdout, "kept\n", "its container goes on");
    let away = engine.davit(["run", "--rm", "-v", "small:/d", "busybox", "true"]);
    assert_eq!(away.code, 125);
    assert!(away.stderr.contains("volume driver \"loop\" does not answer"), "{away:?}");
    engine.ok(["stop", "-t", "0", "c"]);
    engine.ok(["rm", "c"]);
    assert_eq!(mounts_below(&engine, &images), 1, "nobody was there to unmount it");
    engine.start_loop_driver().unwrap();
    until_true("what was held for nobody is let go", || mounts_below(&engine, &images) == 0);

    let kept = engine.ok(["run", "--rm", "-v", "small:/d", "busybox", "cat", "/d/x"]);
    assert_eq!(kept.stdout, "kept\n");
    until_true("unmounted with its last user", || mounts_below(&engine, &images) == 0);
    assert_eq!(engine.ok(["volume", "rm", "small"]).line(), "small");
    assert!(!images.join("small").exists());
    let unknown = engine.davit(["volume", "create", "-d", "nfs-plugin", "x"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("nfs-plugin"), "{unknown:?}");
}

#[test]
fn volumes_go_out_and_come_in() {
    let engine = Engine::start().unwrap();
    let script = "mkdir -p /d/a && echo text > /d/a/f && ln /d/a/f /d/g && ln -s a/f /d/l && chown 12:34 /d/a && chmod 770 /d";
    engine.ok(["run", "--rm", "-v", "from:/d", "busybox", "sh", "-c", script]);
    let archive = engine.host().folder().join("from.tar");
    let archive = archive.to_str().unwrap();
    engine.ok(["volume", "export", "-o", archive, "from"]);
    assert_eq!(engine.ok(["volume", "import", "to", archive]).line(), "to");
    assert_eq!(engine.ok(["volume", "clone", "from", "copy"]).line(), "copy");
    let look = "cd /d && stat -c '%n %a %u:%g %h %s' . a a/f g l && cat l";
    let seen = |volume: &str| {
        engine.ok(["run", "--rm", "-v", &format!("{volume}:/d"), "busybox", "sh", "-c", look]).stdout
    };
    let wanted = seen("from");
    assert!(wanted.starts_with(". 770 0:0"), "{wanted}");
    assert_eq!(seen("to"), wanted);
    assert_eq!(seen("copy"), wanted);

    let piped = engine.command(["volume", "export", "from"]).output().unwrap();
    assert!(piped.status.success());
    let import = ["volume", "import", "--label", "made=here", "piped", "-"];
    assert_eq!(engine.davit_with_input(import, &piped.stdout).line(), "piped");
    assert_eq!(seen("piped"), wanted);
    assert_eq!(engine.ok(["volume", "ls", "-q", "--filter", "label=made=here"]).stdout, "piped\n");
    let taken = engine.davit(["volume", "clone", "from", "copy"]);
    assert!(taken.code == 1 && taken.stderr.contains("already exists"), "{taken:?}");
    let noise =
        engine.davit_with_input(["volume", "import", "noise"], "no archive\n".repeat(1000).as_bytes());
    assert_eq!(noise.code, 1, "{noise:?}");
    assert!(!engine.ok(["volume", "ls", "-q"]).stdout.contains("noise"));
}
