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
