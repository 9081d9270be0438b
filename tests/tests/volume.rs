//! Folders, files and volumes inside containers.

use std::fs;

use davit_tests::engine::Engine;

#[test]
fn host_folders_and_files_are_shared() {
    let engine = Engine::start().unwrap();
    let shared = engine.host().folder().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "of the host\n").unwrap();
    let folder = format!("{}:/data", shared.display());
    let file = format!("{}:/etc/one-file:ro", shared.join("file").display());
    let answer = engine.ok([
        "run", "--rm", "-v", &folder, "-v", &file, "busybox", "sh", "-c",
        "cat /data/file /etc/one-file; echo made > /data/new; echo x > /etc/one-file 2>/dev/null || echo read-only",
    ]);
    assert_eq!(answer.stdout, "of the host\nof the host\nread-only\n");
    assert_eq!(fs::read_to_string(shared.join("new")).unwrap(), "made\n");

    let missing = engine.host().folder().join("not/yet");
    engine.ok(["run", "--rm", "-v", &format!("{}:/d", missing.display()), "busybox", "touch", "/d/x"]);
    assert!(missing.join("x").exists(), "a missing folder is made, as docker does");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&engine.host().name()), "nothing is mounted on the host");
}

#[test]
fn named_volumes_outlive_their_containers() {
    let engine = Engine::start().unwrap();
    engine.ok(["run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/x"]);
    assert_eq!(engine.ok(["volume", "ls", "-q"]).stdout, "data\n");
    assert_eq!(
        engine.ok(["run", "--rm", "-v", "data:/other", "busybox", "cat", "/other/x"]).stdout,
        "kept\n"
    );
    let place = engine.ok(["volume", "inspect", "--format", "{{.Mountpoint}}", "data"]);
    assert_eq!(fs::read_to_string(std::path::Path::new(place.line()).join("x")).unwrap(), "kept\n");

    engine.ok(["create", "--name", "user", "-v", "data:/d", "busybox"]);
    let refused = engine.davit(["volume", "rm", "data"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    engine.ok(["rm", "user"]);
    assert_eq!(engine.ok(["volume", "rm", "data"]).line(), "data");
    assert_eq!(engine.ok(["volume", "ls", "-q"]).stdout, "");
}

#[test]
fn anonymous_volumes_go_with_rm_v() {
    let engine = Engine::start().unwrap();
    engine.ok(["create", "--name", "a", "-v", "/data", "busybox"]);
    assert_eq!(engine.ok(["volume", "ls", "-q"]).line().len(), 64);
    engine.ok(["rm", "-v", "a"]);
    assert_eq!(engine.ok(["volume", "ls", "-q"]).stdout, "");
    engine.ok(["run", "--rm", "-v", "/data", "busybox", "touch", "/data/x"]);
    assert_eq!(engine.ok(["volume", "ls", "-q"]).stdout, "", "--rm takes them along");
}

#[test]
fn volumes_of_another_container_are_shared() {
    let engine = Engine::start().unwrap();
    let shared = engine.host().folder().join("shared");
    fs::create_dir(&shared).unwrap();
    let folder = format!("{}:/home/test_dir", shared.display());
    engine.ok([
        "run",
        "--name",
        "volume_override",
        "-v",
        &folder,
        "-v",
        "db:/db",
        "-v",
        "/own",
        "busybox",
        "sh",
        "-c",
        "echo folder > /home/test_dir/a; echo named > /db/b; echo nameless > /own/c",
    ]);
    let all = "cat /home/test_dir/a /db/b /own/c";
    let taken = ["run", "--name", "taker", "--volumes-from", "volume_override", "busybox", "sh", "-c", all];
    assert_eq!(engine.ok(taken).stdout, "folder\nnamed\nnameless\n");
    assert_eq!(
        engine.ok(["start", "-a", "taker"]).stdout,
        "folder\nnamed\nnameless\n",
        "in its next life too"
    );
    assert_eq!(engine.field("taker", "{{json .HostConfig.VolumesFrom}}"), "[\"volume_override\"]");
    assert_eq!(engine.field("taker", "{{json .HostConfig.Binds}}"), "null");
    assert_eq!(engine.field("taker", "{{len .Mounts}}"), "3");

    // One that takes from a taker has all of it; its own mounts come first; nothing can be written.
    let script =
        "cat /db/b; ls /own; for d in /db /home/test_dir; do touch $d/x 2>/dev/null || echo refused; done";
    let answer = engine.ok([
        "run",
        "--rm",
        "--volumes-from",
        "taker:ro",
        "--tmpfs",
        "/own",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(answer.stdout, "named\nrefused\nrefused\n");

    // What was taken outlives its owner, and goes with nobody who took it.
    engine.ok(["rm", "volume_override"]);
    assert_eq!(engine.ok(["start", "-a", "taker"]).stdout, "folder\nnamed\nnameless\n");
    engine.ok(["rm", "-v", "taker"]);
    assert_eq!(engine.ok(["volume", "ls", "-q"]).stdout.lines().count(), 2, "db, and the one without a name");

    let missing = engine.davit(["create", "--volumes-from", "nobody", "busybox"]);
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(missing.stderr.contains("nobody"), "{missing:?}");
    let odd = engine.davit(["run", "--volumes-from", "db:rx", "busybox"]);
    assert_eq!(odd.code, 125, "{odd:?}");
    assert!(odd.stderr.contains("ro or rw"), "{odd:?}");
}
