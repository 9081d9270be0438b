//! What an image holds at the path of a new volume becomes the volume's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;

use davit_tests::engine::Engine;
use davit_tests::image::{Compression, Layout, append, busybox_layer, many_files};
use davit_tests::wait::until_true;
use serde_json::json;

/// Loads `seed:1`: busybox with a folder `/seed` from two layers, a volume of it, and `layers` beside.
fn load(engine: &Engine, layers: &[Vec<u8>]) {
    let folder = engine.host().folder().join("layout");
    let mut layout = Layout::new(folder.clone()).unwrap();
    layout.layer(&busybox_layer().unwrap(), Compression::None).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "seed", tar::EntryType::Directory, 0o755, b"").unwrap();
    append(&mut tar, "seed/low", tar::EntryType::Regular, 0o600, b"low\n").unwrap();
    append(&mut tar, "seed/hidden", tar::EntryType::Regular, 0o600, b"hidden\n").unwrap();
    append(&mut tar, "bare", tar::EntryType::Directory, 0o1777, b"").unwrap();
    layout.layer(&tar.into_inner().unwrap(), Compression::None).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o2750);
    header.set_uid(33);
    header.set_gid(44);
    header.set_mtime(1_700_000_000);
    tar.append_data(&mut header, "seed", std::io::empty()).unwrap();
    append(&mut tar, "seed/.wh.hidden", tar::EntryType::Regular, 0o644, b"").unwrap();
    append(&mut tar, "seed/program", tar::EntryType::Regular, 0o4755, b"program\n").unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Link);
    link.set_size(0);
    tar.append_link(&mut link, "seed/second-name", "seed/program").unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "way", "/seed").unwrap();
    layout.layer(&tar.into_inner().unwrap(), Compression::None).unwrap();
    for layer in layers {
        layout.layer(layer, Compression::None).unwrap();
    }
    layout.finish("seed:1", &json!({"Cmd": ["true"], "Volumes": {"/seed": {}}})).unwrap();
    let archive = engine.host().folder().join("seed.tar");
    let packed =
        Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&archive).arg(".").status().unwrap();
    assert!(packed.success());
    engine.ok(["load", "-q", "-i", &archive.display().to_string()]);
    fs::remove_dir_all(folder).unwrap();
    fs::remove_file(archive).unwrap();
}

fn place(engine: &Engine, volume: &str) -> PathBuf {
    engine.ok(["volume", "inspect", "--format", "{{.Mountpoint}}", volume]).line().into()
}

fn names(folder: &std::path::Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_new_volume_holds_what_the_image_holds_there() {
    let engine = Engine::start().unwrap();
    load(&engine, &[]);
    let all = BTreeSet::from(["low", "program", "second-name"].map(str::to_owned));
    engine.ok(["create", "--name", "a", "-v", "data:/seed", "seed:1"]);
    let folder = place(&engine, "data");
    assert_eq!(names(&folder), all, "it is there when the container is made");
    let seen = fs::metadata(&folder).unwrap();
    assert_eq!((seen.mode() & 0o7777, seen.uid(), seen.gid()), (0o2750, 33, 44));
    assert_eq!(seen.mtime(), 1_700_000_000);
    let program = fs::metadata(folder.join("program")).unwrap();
    assert_eq!((program.mode() & 0o7777, program.nlink(), program.mtime()), (0o4755, 2, 1_767_225_600));

    // Only once, and only into an empty one.
    fs::remove_file(folder.join("low")).unwrap();
    engine.ok(["run", "--rm", "-v", "data:/seed", "seed:1", "sh", "-c", "test ! -e /seed/low"]);
    fs::remove_file(folder.join("program")).unwrap();
    fs::remove_file(folder.join("second-name")).unwrap();
    engine.ok(["start", "-a", "a"]);
    assert_eq!(names(&folder), BTreeSet::new(), "a start copies nothing");

    // The image's own volume, a path that leads over a link, another image's path.
    let own = ["run", "--rm", "seed:1", "sh", "-c", "cat /seed/low /seed/program"];
    assert_eq!(engine.ok(own).stdout, "low\nprogram\n");
    engine.ok(["run", "--rm", "-v", "link:/way", "seed:1"]);
    assert_eq!(names(&place(&engine, "link")), all);
    engine.ok(["run", "--rm", "-v", "bare:/bare", "seed:1"]);
    assert_eq!(fs::metadata(place(&engine, "bare")).unwrap().permissions().mode() & 0o7777, 0o1777);
    engine.ok(["run", "--rm", "-v", "plain:/not/there", "seed:1"]);
    assert_eq!(names(&place(&engine, "plain")), BTreeSet::new());
    assert_eq!(engine.ok(["volume", "ls", "-q"]).stdout.lines().count(), 4, "--rm took the nameless ones");

    // What is asked not to be copied is not, and a folder of the host never.
    engine.ok(["run", "--rm", "-v", "none:/seed:nocopy", "seed:1"]);
    engine.ok(["run", "--rm", "--mount", "type=volume,src=none,dst=/seed,volume-nocopy", "seed:1"]);
    assert_eq!(names(&place(&engine, "none")), BTreeSet::new());
    let host = engine.host().folder().join("host");
    engine.ok(["run", "--rm", "-v", &format!("{}:/seed", host.display()), "seed:1"]);
    assert_eq!(names(&host), BTreeSet::new());
}

#[test]
fn containers_that_start_at_once_see_all_of_it() {
    let engine = Engine::start().unwrap();
    load(&engine, &[many_files(1, 800, 3 << 20).unwrap()]);
    let counted = "find /data1 -type f | wc -l";
    std::thread::scope(|scope| {
        for number in 0..4 {
            let engine = &engine;
            scope.spawn(move || {
                let volume = if number < 3 { "all:/data1" } else { "all:/data1:ro" };
                let answer = engine.ok(["run", "--rm", "-v", volume, "seed:1", "sh", "-c", counted]);
                assert_eq!(answer.line(), "800");
            });
        }
    });
    assert!(!names(&place(&engine, "all")).iter().any(|name| name.starts_with(".davit")));
}

#[test]
fn a_copy_that_was_cut_off_is_made_anew() {
    let mut engine = Engine::start().unwrap();
    load(&engine, &[many_files(1, 4000, 16 << 20).unwrap()]);
    engine.ok(["volume", "create", "cut"]);
    let folder = place(&engine, "cut");
    let mut run = engine.command(["run", "--rm", "-v", "cut:/data1", "seed:1", "true"]);
    let mut run =
        run.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let half = folder.join(".davit-populate");
    until_true("the copy begins", || fs::read_dir(&half).is_ok_and(|mut names| names.next().is_some()));
    engine.kill_controller().unwrap();
    run.wait().unwrap();
    until_true("the helper ends with its engine", || engine.processes_with("davit-shim copy").is_empty());
    let cut = names(&folder);
    engine.start_controller().unwrap();
    // Whoever comes next finds it whole, also one that wants no copy.
    let count = "find /data1 -type f | wc -l; ls -A /data1 | wc -l";
    let next = ["run", "--rm", "-v", "cut:/data1", "seed:1", "sh", "-c", count];
    assert_eq!(engine.ok(next).stdout, "4000\n40\n", "after {cut:?}");

    // What is whole is only finished.
    engine.ok(["volume", "create", "whole"]);
    let folder = place(&engine, "whole");
    fs::create_dir_all(folder.join(".davit-populated/a")).unwrap();
    let next = ["run", "--rm", "-v", "whole:/d:nocopy", "busybox", "ls", "-A", "/d"];
    assert_eq!(engine.ok(next).stdout, "a\n");
}

#[test]
fn a_container_with_ids_of_its_own_has_its_files() {
    let engine = Engine::start().unwrap();
    load(&engine, &[]);
    let owners = "stat -c %u:%g:%a /seed; stat -c %u /seed/low; echo x > /seed/low && echo written";
    let run = ["run", "--rm", "--userns", "auto", "-v", "ids:/seed", "seed:1", "sh", "-c", owners];
    assert_eq!(engine.ok(run).stdout, "33:44:2750\n0\nwritten\n");
    assert_eq!(fs::metadata(place(&engine, "ids").join("low")).unwrap().uid(), 0);
}
