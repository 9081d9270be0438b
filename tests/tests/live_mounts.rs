//! Mounts that come to a container and leave it while it runs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use davit_tests::engine::Engine;
use davit_tests::wait::until_true;

fn folder(engine: &Engine, name: &str) -> PathBuf {
    let folder = engine.host().folder().join(name);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), format!("{name}\n")).unwrap();
    folder
}

fn inside(engine: &Engine, container: &str, script: &str) -> String {
    engine.davit(["exec", container, "sh", "-c", script]).stdout
}

#[test]
fn folders_volumes_and_memory_come_and_go() {
    let engine = Engine::start().unwrap();
    let host = folder(&engine, "host").display().to_string();
    engine.ok(["run", "-d", "--name", "c", "-v", "first:/first", "busybox", "sleep", "1000"]);
    let bind = format!("{host}:/srv/new/place:ro");
    engine.ok([
        "update",
        "--mount-add",
        &bind,
        "--mount-add",
        "type=volume,src=data,dst=/data",
        "--mount-add",
        "type=tmpfs,dst=/memory,tmpfs-size=1m",
        "--mount-add",
        &format!("{host}/file:/one"),
        "c",
    ]);
    let look = "cat /srv/new/place/file /one; touch /srv/new/place/x 2>/dev/null || echo ro; \
                echo kept > /data/x; grep -c ' /memory tmpfs .*size=1024k' /proc/mounts";
    assert_eq!(inside(&engine, "c", look), "host\nhost\nro\n1\n");
    let mounts = engine.field("c", "{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}}\n{{end}}");
    for line in ["volume /first true", "bind /srv/new/place false", "volume /data true", "tmpfs /memory true"]
    {
        assert!(mounts.contains(line), "{line}: {mounts}");
    }
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!table.contains(&engine.host().name()), "nothing is mounted on the host");

    // They stay over a restart, and go with it too.
    engine.ok(["restart", "-t", "0", "c"]);
    assert_eq!(
        inside(&engine, "c", "cat /srv/new/place/file /data/x; ls -d /memory"),
        "host\nkept\n/memory\n"
    );
    engine.ok([
        "update",
        "--mount-rm",
        "/srv/new/place",
        "--mount-rm",
        "/memory",
        "--mount-rm",
        "/first",
        "--mount-rm",
        "/one",
        "c",
    ]);
    let gone = "ls -A /srv/new/place /first; grep -cE ' /(srv|memory|first|one)' /proc/mounts; cat /data/x";
    assert_eq!(inside(&engine, "c", gone), "/first:\n\n/srv/new/place:\n0\nkept\n");
    assert_eq!(engine.ok(["volume", "rm", "first"]).line(), "first", "it is nobody's any more");
    engine.ok(["restart", "-t", "0", "c"]);
    assert_eq!(inside(&engine, "c", gone), "/first:\n\n/srv/new/place:\n0\nkept\n");
    assert_eq!(engine.field("c", "{{range .Mounts}}{{.Destination}} {{end}}").trim(), "/data");

    // One that does not run has them at its next start.
    engine.ok(["stop", "-t", "0", "c"]);
    engine.ok(["update", "--mount-add", &format!("{host}:/later"), "--mount-rm", "/data", "c"]);
    engine.ok(["start", "c"]);
    assert_eq!(inside(&engine, "c", "cat /later/file; ls -A /data"), "host\n");
}

#[test]
fn what_cannot_come_or_go_is_said_and_changes_nothing() {
    let engine = Engine::start().unwrap();
    let host = folder(&engine, "host").display().to_string();
    let below = folder(&engine, "host/below");
    let mounted = engine.host().command("mount").args(["-t", "tmpfs", "below"]).arg(&below).status().unwrap();
    assert!(mounted.success());
    let bind = format!("{host}:/held");
    engine.ok([
        "run",
        "-d",
        "--name",
        "c",
        "-v",
        &bind,
        "-v",
        "v:/v",
        "-v",
        "w:/v/w",
        "busybox",
        "sh",
        "-c",
        "cd /held; ln -s /proc /trick; sleep 1000",
    ]);
    until_true("it stands in the folder", || inside(&engine, "c", "ls -d /trick") == "/trick\n");
    let before = engine.field("c", "{{json .Mounts}}");
    let missing = format!("type=bind,src={host}/none,dst=/n");
    for (words, said) in [
        (vec!["--mount-rm", "/held"], "target is busy: used by process"),
        (vec!["--mount-rm", "/v"], "/v/w is mounted below it"),
        (vec!["--mount-rm", "/none"], "was not given a mount there"),
        (vec!["--mount-rm", "/proc"], "was not given a mount there"),
        (vec!["--mount-add", &missing], "does not exist"),
        (vec!["--mount-add", "x:/v"], "duplicate mount point"),
        (vec!["--mount-add", "x:/trick/sys"], "/proc"),
        (vec!["--mount-add", "x:/proc/sys"], "/proc"),
        (vec!["--mount-add", "type=image,src=busybox,dst=/i"], "image"),
        // All of it or nothing.
        (vec!["--mount-add", "x:/fine", "--mount-add", "y:/trick/sys"], "/proc"),
        (vec!["--mount-rm", "/v/w", "--mount-add", "y:/trick/sys"], "/proc"),
    ] {
        let words: Vec<&str> = ["update"].into_iter().chain(words).chain(["c"]).collect();
        let answer = engine.davit(&words);
        assert_ne!(answer.code, 0, "{words:?}: {answer:?}");
        assert!(answer.stderr.contains(said), "{words:?}: {said}: {answer:?}");
        assert_eq!(engine.field("c", "{{json .Mounts}}"), before, "{words:?}");
        assert_eq!(inside(&engine, "c", "grep -cE ' /(fine|held|v|v/w) ' /proc/mounts"), "3\n", "{words:?}");
    }
    // With what is mounted below a folder of the host, when nobody is in there.
    engine.ok(["update", "--mount-add", &format!("{host}:/free"), "c"]);
    assert_eq!(inside(&engine, "c", "grep -c ' /free' /proc/mounts"), "2\n");
    engine.ok(["update", "--mount-rm", "/free", "c"]);
    assert_eq!(inside(&engine, "c", "grep -c ' /free' /proc/mounts"), "0\n");
}

#[test]
fn a_container_with_ids_of_its_own_owns_what_comes() {
    let engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "c", "--userns", "auto", "busybox", "sleep", "1000"]);
    engine.ok(["update", "--mount-add", "ids:/ids", "--mount-add", "type=tmpfs,dst=/memory", "c"]);
    let write = "touch /ids/x /memory/x; stat -c %u /ids /ids/x /memory /memory/x | sort -u";
    assert_eq!(inside(&engine, "c", write), "0\n");
    let place = engine.ok(["volume", "inspect", "--format", "{{.Mountpoint}}", "ids"]).line().to_owned();
    assert_eq!(fs::metadata(format!("{place}/x")).unwrap().uid(), 0);
    engine.ok(["update", "--mount-rm", "/ids", "--mount-rm", "/memory", "c"]);
    assert_eq!(inside(&engine, "c", "ls -A /ids /memory; stat -c %u /ids"), "/ids:\n\n/memory:\n0\n");
}

#[test]
fn a_change_of_mounts_that_was_cut_off_is_finished_at_the_next_start() {
    let mut engine = Engine::start().unwrap();
    let old = folder(&engine, "old").display().to_string();
    engine.ok(["run", "-d", "--name", "c", "-v", &format!("{old}:/at0"), "busybox", "sleep", "1000"]);
    for (at, point) in ["mount.wanted", "mount.noted", "mount.done"].into_iter().enumerate() {
        engine.kill_controller().unwrap();
        engine.start_controller_at(&format!("{point}=abort")).unwrap();
        let (gone, new) = (format!("/at{at}"), format!("{old}:/at{}", at + 1));
        let cut = engine.davit([
            "update",
            "--mount-rm",
            &gone,
            "--mount-add",
            &new,
            "--mount-add",
            &format!("v{at}:/v{at}"),
            "c",
        ]);
        assert_ne!(cut.code, 0, "{point}: {cut:?}");
        engine.end_controller().unwrap();
        engine.start_controller().unwrap();
        let look = format!(
            "cat /at{}/file; ls -A /at{at}; grep -c ' /v{at} ' /proc/mounts; grep -c ' /at' /proc/mounts",
            at + 1
        );
        until_true("the change is made, once", || inside(&engine, "c", &look) == "old\n1\n1\n");
        let told = format!("/at{}", at + 1);
        until_true("and told", || engine.field("c", "{{json .Mounts}}").contains(&told));
        assert!(!engine.field("c", "{{json .Mounts}}").contains(&format!("\"{gone}\"")), "{point}");
    }
    engine.ok(["restart", "-t", "0", "c"]);
    assert_eq!(inside(&engine, "c", "cat /at3/file; grep -cE ' /(at|v)[0-9] ' /proc/mounts"), "old\n4\n");
}
