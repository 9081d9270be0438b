//! `kill -9` of a shim: all of its container dies with it, and the engine says so.

use davit_tests::engine::Engine;
use davit_tests::image::{Compression, Layout, append, busybox_layer};
use davit_tests::wait::{until, until_true};

fn shim_pid(engine: &Engine, container: &str) -> String {
    let id = engine.field(container, "{{.Id}}");
    let told = engine.run_dir().join("shim").join(id).join("shim.json");
    let text = until("the shim's own record", || std::fs::read_to_string(&told).ok());
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["pid"].to_string()
}

fn dies_whole(engine: &Engine, name: &str, needle: &str) {
    until("the process runs", || (!engine.processes_with(needle).is_empty()).then_some(()));
    let begun = std::time::Instant::now();
    engine.kill_on_host(&shim_pid(engine, name)).unwrap();
    until_true("its processes are gone", || engine.processes_with(needle).is_empty());
    assert!(begun.elapsed().as_secs() < 5, "took {:?}", begun.elapsed());
}

fn told_and_removable(engine: &Engine, name: &str) {
    until_true("ps tells", || engine.field(name, "{{.State.Status}} {{.State.ExitCode}}") == "exited 137");
    assert!(
        engine.field(name, "{{.State.Error}}").contains("shim"),
        "{}",
        engine.field(name, "{{.State.Error}}")
    );
    engine.ok(["rm", name]);
}

#[test]
fn with_any_kind_of_entrypoint() {
    let engine = Engine::start().unwrap();
    let cases: [(&str, &[&str], &str); 3] = [
        ("plain", &["busybox", "sh", "-c", "sleep 7001 & sleep 7001 & wait"], "sleep 7001"),
        ("user", &["-u", "nobody", "busybox", "sleep", "7002"], "sleep 7002"),
        ("init", &["--init", "busybox", "sleep", "7003"], "sleep 7003"),
    ];
    for (name, words, needle) in cases {
        engine.ok(["run", "-d", "--name", name].iter().chain(words).copied());
        dies_whole(&engine, name, needle);
        told_and_removable(&engine, name);
    }
}

/// A setuid program clears the parent-death signal of whoever executes it.
#[test]
fn with_a_setuid_entrypoint() {
    let engine = Engine::start_empty().unwrap();
    let folder = engine.host().folder().join("layout");
    let mut layout = Layout::new(folder.clone()).unwrap();
    layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let busybox = std::fs::read("/bin/busybox").unwrap();
    append(&mut tar, "bin/busybox-suid", tar::EntryType::Regular, 0o4755, &busybox).unwrap();
    layout.layer(&tar.into_inner().unwrap(), Compression::Gzip).unwrap();
    layout.finish("suid:1", &serde_json::json!({"User": "1234"})).unwrap();
    let archive = engine.host().folder().join("suid.tar");
    let packed =
        std::process::Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(&archive).arg(".").status();
    assert!(packed.unwrap().success());
    engine.ok(["load", "-q", "-i", &archive.display().to_string()]);
    engine.ok(["run", "-d", "--name", "suid", "suid:1", "/bin/busybox-suid", "sleep", "7004"]);
    dies_whole(&engine, "suid", "sleep 7004");
    told_and_removable(&engine, "suid");
}

#[test]
fn with_the_controller_dead() {
    let mut engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "c", "busybox", "sleep", "7005"]);
    let pid = shim_pid(&engine, "c");
    engine.kill_controller().unwrap();
    engine.kill_on_host(&pid).unwrap();
    until_true("its processes are gone", || engine.processes_with("sleep 7005").is_empty());
    engine.start_controller().unwrap();
    told_and_removable(&engine, "c");
}
