//! `cp`: docker's rules of what goes where, in every state of a container, and nothing outside is ever touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use davit_tests::engine::{Answer, Engine};
use davit_tests::wait::until_true;

const SLEEP: [&str; 2] = ["sleep", "8002"];

fn running(engine: &Engine, flags: &[&str], name: &str) {
    engine.ok([&["run", "-d", "--name", name], flags, &["busybox"], &SLEEP].concat());
}

/// A path below the folder of a test's host.
fn at(engine: &Engine, name: &str) -> PathBuf {
    engine.host().folder().join(name)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn sh(engine: &Engine, container: &str, script: &str) -> String {
    engine.ok(["exec", container, "sh", "-c", script]).stdout
}

fn refused(engine: &Engine, words: &[&str], sentence: &str) -> Answer {
    let answer = engine.davit(words);
    assert_eq!(answer.code, 1, "{words:?}: {answer:?}");
    assert!(answer.stderr.contains(sentence), "{words:?}: {answer:?}");
    answer
}

/// A small tree with one of each.
fn tree(top: &Path) {
    fs::create_dir_all(top.join("sub/deep")).unwrap();
    fs::write(top.join("file"), "content\n").unwrap();
    fs::write(top.join("sub/deep/x"), [7; 70_000]).unwrap();
    fs::hard_link(top.join("file"), top.join("sub/second")).unwrap();
    symlink("../file", top.join("sub/link")).unwrap();
    fs::set_permissions(top.join("file"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(top.join("sub"), fs::Permissions::from_mode(0o1777)).unwrap();
    let old = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123));
    fs::File::open(top.join("file")).unwrap().set_times(old).unwrap();
}

/// Everything that can be seen of a tree but its owners.
fn look(top: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let what = match () {
                () if meta.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
                () if meta.is_file() => {
                    format!("{} {}", meta.nlink(), String::from_utf8_lossy(&fs::read(&path).unwrap()))
                }
                () => String::new(),
            };
            let about = format!("{:o} {}.{:09} {what}", meta.mode(), meta.mtime(), meta.mtime_nsec());
            seen.insert(text(path.strip_prefix(top).unwrap()), about);
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    seen
}

fn helpers(engine: &Engine) -> usize {
    engine.processes_with("^davit-shim copy").len()
}

#[test]
fn there_and_back_with_everything_kept() {
    let engine = Engine::start().unwrap();
    running(&engine, &[], "web");
    let here = at(&engine, "here");
    tree(&here);
    let answer = engine.ok(["cp", &text(&here), "web:/tmp/there"]);
    assert!(
        answer.stderr.starts_with("Successfully copied ")
            && answer.stderr.ends_with("kB to web:/tmp/there\n"),
        "{answer:?}"
    );
    assert_eq!(answer.stdout, "");
    assert_eq!(
        sh(&engine, "web", "stat -c '%u:%g %a %n' /tmp/there/*"),
        "0:0 4750 /tmp/there/file\n0:0 1777 /tmp/there/sub\n"
    );
    let back = at(&engine, "back");
    let answer = engine.ok(["cp", "-q", "web:/tmp/there", &text(&back)]);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""));
    assert_eq!(look(&here), look(&back));
    // One small file is a header, a block and the end.
    fs::write(at(&engine, "small"), "x").unwrap();
    let small = fs::File::options().write(true).open(at(&engine, "small")).unwrap();
    small.set_modified(std::time::UNIX_EPOCH).unwrap();
    let answer = engine.ok(["cp", &text(&at(&engine, "small")), "web:/tmp"]);
    assert_eq!(answer.stderr, "Successfully copied 2.05kB to web:/tmp\n");

    // Owners: root's inside and the caller's here, unless they are to be kept.
    std::os::unix::fs::chown(here.join("file"), Some(1234), Some(4321)).unwrap();
    engine.ok(["cp", &text(&here.join("file")), "web:/tmp/plain"]);
    engine.ok(["cp", "-a", &text(&here.join("file")), "web:/tmp/kept"]);
    assert_eq!(sh(&engine, "web", "stat -c '%u:%g' /tmp/plain /tmp/kept"), "0:0\n1234:4321\n");
    engine.ok(["cp", "web:/tmp/kept", &text(&at(&engine, "mine"))]);
    engine.ok(["cp", "-a", "web:/tmp/kept", &text(&at(&engine, "theirs"))]);
    let owner = |name: &str| fs::metadata(at(&engine, name)).map(|meta| (meta.uid(), meta.gid())).unwrap();
    assert_eq!((owner("mine"), owner("theirs")), ((0, 0), (1234, 4321)));
    assert_eq!(helpers(&engine), 0);
}

#[test]
fn dockers_rules_of_names_into_a_container() {
    let engine = Engine::start().unwrap();
    running(&engine, &[], "c");
    let s = at(&engine, "s");
    fs::create_dir(&s).unwrap();
    fs::write(s.join("f"), "f").unwrap();
    symlink("s", at(&engine, "l")).unwrap();
    let (folder, file) = (text(&s), text(&s.join("f")));
    let find = |place: &str| sh(&engine, "c", &format!("cd {place} && find . | sort | tr '\\n' ' '"));
    sh(
        &engine,
        "c",
        "mkdir -p /d/there; echo old > /d/old; ln -s there /d/into; ln -s old /d/over; ln -s none /d/dangling",
    );
    for (from, to, place, wanted) in [
        (file.as_str(), "c:/d/new", "/d/new", None),
        (&file, "c:/d/there", "/d/there", Some(". ./f ")),
        (&file, "c:/d/old", "/d/old", None),
        (&file, "c:d/relative", "/d/relative", None),
        (&folder, "c:/d/made", "/d/made", Some(". ./f ")),
        (&folder, "c:/d/made", "/d/made", Some(". ./f ./s ./s/f ")),
        (&folder, "c:/d/made2/", "/d/made2", Some(". ./f ")),
        (&format!("{folder}/."), "c:/d/made3", "/d/made3", Some(". ./f ")),
        (&format!("{folder}/."), "c:/d/there", "/d/there", Some(". ./f ")),
        (&format!("{folder}/"), "c:/d/there/", "/d/there", Some(". ./f ./s ./s/f ")),
        (&text(&at(&engine, "l")), "c:/d/alink", "/d/alink", None),
        (&format!("{}/", text(&at(&engine, "l"))), "c:/d/afolder", "/d/afolder", Some(". ./f ")),
        (&file, "c:/d/into", "/d/there", Some(". ./f ./s ./s/f ")),
        (&file, "c:/d/dangling", "/d/none", None),
    ] {
        engine.ok(["cp", from, to]);
        match wanted {
            Some(wanted) => assert_eq!(find(place), wanted, "{from} {to}"),
            None => assert!(!sh(&engine, "c", &format!("stat -c %n {place}")).is_empty(), "{from} {to}"),
        }
    }
    assert_eq!(sh(&engine, "c", "cat /d/old; readlink /d/alink"), "fs\n");
    engine.ok(["cp", "-L", &text(&at(&engine, "l")), "c:/d/followed"]);
    assert_eq!(find("/d/followed"), ". ./f ");
    engine.ok(["cp", &file, "c:/d/over"]);
    assert_eq!(sh(&engine, "c", "test -L /d/over && cat /d/old"), "f", "what the link leads to is replaced");

    for (from, to, sentence) in [
        (file.as_str(), "c:/d/none2/", "no such directory"),
        (&file, "c:/none/f", "Could not find the file /none in container c"),
        (&folder, "c:/d/old", "cannot copy directory"),
        ("/none", "c:/d", "lstat /none: "),
        (&file, "none:/d", "o such container"),
        (&file, &folder, "must specify at least one container source"),
        (&file, "c:/dev/null", "must be a directory or a regular file"),
        (&file, "c:/proc/sys", "file system of the kernel"),
    ] {
        refused(&engine, &["cp", from, to], sentence);
    }
    sh(&engine, "c", "mkdir -p /d/clash/f /d/clash2; touch /d/clash2/s");
    refused(&engine, &["cp", &file, "c:/d/clash"], "cannot overwrite directory with non-directory");
    refused(&engine, &["cp", &folder, "c:/d/clash2"], "cannot overwrite non-directory with directory");
    assert_eq!(sh(&engine, "c", "find / -xdev -name '.davit-cp*'"), "", "nothing unfinished is left");
}

#[test]
fn dockers_rules_of_names_out_of_a_container() {
    let engine = Engine::start().unwrap();
    running(&engine, &[], "c");
    sh(&engine, "c", "mkdir -p /s; echo f > /s/f; ln -s /s /l; ln -s s/f /lf");
    let d = at(&engine, "d");
    fs::create_dir_all(d.join("there")).unwrap();
    fs::write(d.join("old"), "old").unwrap();
    symlink("there", d.join("into")).unwrap();
    let to = |name: &str| text(&d.join(name));
    let has = |name: &str| d.join(name).symlink_metadata().is_ok();
    for (from, target, made) in [
        ("c:/s/f", "new", "new"),
        ("c:/s/f", "there", "there/f"),
        ("c:s/f", "there/", "there/f"),
        ("c:/s", "made", "made/f"),
        ("c:/s", "made", "made/s/f"),
        ("c:/s/.", "made2", "made2/f"),
        ("c:/s/.", "there/.", "there/f"),
        ("c:/s/", "into", "there/s/f"),
        ("c:/l", "link", "link"),
        ("c:/l/", "folder", "folder/f"),
    ] {
        engine.ok(["cp", from, &to(target)]);
        assert!(has(made), "{from} {target}");
    }
    assert!(d.join("link").symlink_metadata().unwrap().is_symlink());
    engine.ok(["cp", "c:/s/f", &to("old")]);
    assert_eq!(fs::read_to_string(d.join("old")).unwrap(), "f\n");
    engine.ok(["cp", "-L", "c:/lf", &to("there")]);
    assert_eq!(fs::read_to_string(d.join("there/lf")).unwrap(), "f\n");
    for (from, target, sentence) in [
        ("c:/none", to("x"), "Could not find the file /none in container c"),
        ("c:/s/f/x", to("x"), "not a directory"),
        ("c:/s/f", to("none/x"), &format!("invalid output path: directory {:?} does not exist", to("none"))),
        ("c:/s/f", to("none/"), "no such directory"),
        ("c:/s", to("old"), "cannot copy directory"),
        ("c:/s/f", "/dev/null".into(), "must be a directory or a regular file"),
        ("c:/proc/version", to("x"), "Could not find the file /proc/version in container c"),
    ] {
        refused(&engine, &["cp", from, &target], sentence);
    }
    assert!(!has("x"));
}

#[test]
fn in_every_state_and_across_volumes() {
    let engine = Engine::start().unwrap();
    let shared = at(&engine, "shared");
    fs::create_dir(&shared).unwrap();
    let bind = format!("{}:/bind", text(&shared));
    fs::write(at(&engine, "f"), "in").unwrap();
    let file = text(&at(&engine, "f"));
    engine.ok([
        &["create", "--name", "c", "-v", &bind, "-v", "vol:/vol", "--tmpfs", "/scratch", "busybox"][..],
        &SLEEP,
    ]
    .concat());
    let data = engine.ok(["volume", "inspect", "--format", "{{.Mountpoint}}", "vol"]).line().to_owned();
    let round = |state: &str| {
        for place in ["/root", "/bind", "/vol"] {
            engine.ok(["cp", &file, &format!("c:{place}/{state}")]);
            let back = at(&engine, &format!("back-{state}"));
            engine.ok(["cp", &format!("c:{place}/{state}"), &text(&back)]);
            assert_eq!(fs::read_to_string(&back).unwrap(), "in", "{state} {place}");
        }
        for folder in [&shared, Path::new(&data)] {
            assert_eq!(fs::read_to_string(folder.join(state)).unwrap(), "in", "{state} {}", folder.display());
        }
    };
    round("created");
    engine.ok(["start", "c"]);
    round("running");
    engine.ok(["cp", &file, "c:/scratch/f"]);
    assert_eq!(sh(&engine, "c", "cat /scratch/f /root/created"), "inin");
    // A file of the engine's, on which something is mounted, is written in place.
    fs::write(at(&engine, "hosts"), "127.0.0.1 me\n").unwrap();
    engine.ok(["cp", &text(&at(&engine, "hosts")), "c:/etc/hosts"]);
    assert_eq!(sh(&engine, "c", "cat /etc/hosts"), "127.0.0.1 me\n");
    engine.ok(["pause", "c"]);
    round("paused");
    engine.ok(["unpause", "c"]);
    engine.ok(["stop", "-t", "0", "c"]);
    round("stopped");
    // Twice at the same time: they do not disturb each other.
    let both: Vec<_> =
        (0..2).map(|n| engine.command(["cp", &file, &format!("c:/root/{n}")]).spawn().unwrap()).collect();
    for mut child in both {
        assert!(child.wait().unwrap().success());
    }
    engine.ok(["start", "c"]);
    assert_eq!(sh(&engine, "c", "cat /root/stopped /root/paused /root/0 /root/1"), "inininin");
    let mounts = engine.host().command("cat").arg("/proc/self/mounts").output().unwrap();
    let mounts = String::from_utf8(mounts.stdout).unwrap();
    assert!(
        !mounts.contains("overlay /tmp/dvt")
            && !mounts.contains(&format!("{}/containers", text(&engine.root()))),
        "{mounts}"
    );
    assert_eq!(helpers(&engine), 0);
}

#[test]
fn what_is_read_only_stays_so() {
    let engine = Engine::start().unwrap();
    fs::create_dir(at(&engine, "ro")).unwrap();
    fs::write(at(&engine, "f"), "x").unwrap();
    let file = text(&at(&engine, "f"));
    let bind = format!("{}:/ro:ro", text(&at(&engine, "ro")));
    running(&engine, &["--read-only", "-v", &bind, "-v", "v:/rw"], "c");
    for _ in ["running", "stopped"] {
        refused(&engine, &["cp", &file, "c:/root/f"], "container rootfs is marked read-only");
        refused(&engine, &["cp", &file, "c:/ro/f"], "mounted volume is marked read-only");
        engine.ok(["cp", &file, "c:/rw/f"]);
        engine.ok(["cp", "c:/etc/passwd", &text(&at(&engine, "passwd"))]);
        engine.ok(["stop", "-t", "0", "c"]);
    }
    assert_eq!(fs::read_dir(at(&engine, "ro")).unwrap().count(), 0);
}

#[test]
fn archives_on_standard_input_and_output() {
    let engine = Engine::start().unwrap();
    running(&engine, &[], "c");
    let here = at(&engine, "here");
    tree(&here);
    let made = std::process::Command::new("tar").arg("-C").arg(&here).args(["-c", "."]).output().unwrap();
    assert!(made.status.success());
    sh(&engine, "c", "mkdir /in");
    let answer = engine.davit_with_input(["cp", "-", "c:/in"], &made.stdout);
    assert_eq!(answer.code, 0, "{answer:?}");
    let out = engine.command(["cp", "c:/in/.", "-"]).output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    let back = at(&engine, "back");
    fs::create_dir(&back).unwrap();
    let mut child = std::process::Command::new("tar")
        .arg("-C")
        .arg(&back)
        .args(["-xp"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&out.stdout).unwrap();
    assert!(child.wait().unwrap().success());
    let seconds = |seen: BTreeMap<String, String>| -> Vec<String> {
        // GNU tar writes whole seconds where nobody asks for more.
        seen.into_iter()
            .map(|(name, about)| {
                format!(
                    "{name} {} {:?}",
                    about.split('.').next().unwrap(),
                    about.split_once(' ').and_then(|(_, rest)| rest.split_once(' '))
                )
            })
            .collect()
    };
    assert_eq!(seconds(look(&here)).len(), seconds(look(&back)).len());
    assert_eq!(fs::read(here.join("sub/deep/x")).unwrap(), fs::read(back.join("sub/deep/x")).unwrap());

    let refuses = |input: &[u8], to: &str, sentence: &str| {
        let answer = engine.davit_with_input(["cp", "-", to], input);
        assert_eq!(answer.code, 1, "{answer:?}");
        assert!(answer.stderr.contains(sentence), "{answer:?}");
    };
    refuses(&made.stdout, "c:/etc/passwd", "must be a directory");
    refuses(&made.stdout, "c:/none", "must be a directory");
    refuses(&made.stdout[..1000], "c:/in", "archive ends in the middle of an entry");
    refuses(
        b"no archive at all, and longer than nothing".repeat(30).as_slice(),
        "c:/in",
        "wrong header checksum",
    );
}

#[test]
fn from_one_container_to_another() {
    let engine = Engine::start().unwrap();
    running(&engine, &[], "a");
    engine.ok(["create", "--name", "b", "busybox"]);
    sh(&engine, "a", "mkdir -p /d/e; echo one > /d/e/f; chown -R 5:6 /d; mkfifo /d/p");
    let answer = engine.ok(["cp", "a:/d", "b:/copied"]);
    assert!(answer.stderr.ends_with(" to b:/copied\n"), "{answer:?}");
    engine.ok(["cp", "-aq", "a:/d", "b:/kept"]);
    engine.ok(["cp", "-q", "b:/copied/e/f", "b:/again"]);
    engine.ok(["cp", "b:/copied", "a:/"]);
    assert_eq!(
        sh(&engine, "a", "cat /copied/e/f; stat -c '%u:%g %F' /copied/e /copied/p"),
        "one\n0:0 directory\n0:0 fifo\n"
    );
    engine.ok(["cp", "-a", "b:/kept/e", "a:/kept"]);
    assert_eq!(sh(&engine, "a", "stat -c %u:%g /kept"), "5:6\n");
    engine.ok(["cp", "b:/again", &text(&at(&engine, "again"))]);
    assert_eq!(fs::read_to_string(at(&engine, "again")).unwrap(), "one\n");
    refused(&engine, &["cp", "a:/none", "b:/x"], "Could not find the file /none in container a");
    refused(&engine, &["cp", "a:/d", "b:/none/x"], "Could not find the file /none in container b");
}

#[test]
fn a_container_that_swaps_links_gets_nobody_out() {
    let engine = Engine::start().unwrap();
    let outside = at(&engine, "outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "of the host").unwrap();
    let script = format!(
        "mkdir /t; cd /t; while :; do mkdir d 2>/dev/null; echo mine > d/secret; rm -rf d; ln -s {} d; rm d; ln -s / d; rm d; done",
        text(&outside)
    );
    engine.ok(["run", "-d", "--name", "c", "busybox", "sh", "-c", &script]);
    until_true("it swaps", || engine.davit(["exec", "c", "ls", "/t/d"]).code == 0);
    let source = at(&engine, "payload");
    fs::create_dir_all(source.join("e")).unwrap();
    fs::write(source.join("e/from-the-copy"), "x").unwrap();
    let back = at(&engine, "back");
    fs::create_dir(&back).unwrap();
    let before = fs::metadata(&outside).unwrap();
    for round in 0..60 {
        // Most of them fail, which is as good.
        engine.davit(["cp", "-q", &format!("{}/.", text(&source)), "c:/t/d"]);
        engine.davit(["cp", "-q", &text(&source), "c:/t/d/x"]);
        engine.davit(["cp", "-q", "-L", "c:/t/d/secret", &text(&back.join(format!("s{round}")))]);
        engine.davit(["cp", "-q", "c:/t/d/", &text(&back.join(format!("d{round}")))]);
        let got = back.join(format!("s{round}"));
        if let Ok(read) = fs::read_to_string(&got) {
            assert_ne!(read, "of the host", "round {round}");
        }
        // A copy of the container's whole root would fill the disk.
        let _ = fs::remove_dir_all(back.join(format!("d{round}")));
    }
    let after = fs::metadata(&outside).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "nothing was made outside");
    assert_eq!((before.mtime_nsec(), before.ctime_nsec()), (after.mtime_nsec(), after.ctime_nsec()));
    assert!(!Path::new("/from-the-copy").exists() && !Path::new("/e").exists());
}

#[test]
fn a_client_or_an_engine_that_goes_leaves_nothing() {
    let mut engine = Engine::start().unwrap();
    running(&engine, &[], "c");
    engine.ok(["create", "--name", "stopped", "busybox"]);
    engine.ok(["start", "stopped"]);
    engine.ok(["wait", "stopped"]);
    let header = {
        let mut header = tar::Header::new_ustar();
        header.set_path("big").unwrap();
        header.set_size(1 << 30);
        header.set_mode(0o644);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let begin = |container: &str| {
        let to = format!("{container}:/");
        let mut child =
            engine.command(["cp", "-", &to]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(&header).unwrap();
        child.stdin.as_mut().unwrap().write_all(&[1; 600_000]).unwrap();
        until_true("a helper works", || helpers(&engine) > 0);
        child
    };
    for container in ["c", "stopped"] {
        let mut child = begin(container);
        child.kill().unwrap();
        child.wait().unwrap();
        until_true("the helper goes with its client", || helpers(&engine) == 0);
    }
    assert_eq!(sh(&engine, "c", "ls /big 2>/dev/null; true"), "", "no half file has the name");

    // Whoever starts or removes a container does not wait for a copy that never ends.
    let mut child = begin("stopped");
    let answer = engine.davit(["start", "stopped"]);
    assert!(answer.code == 1 && answer.stderr.contains("its files are being copied"), "{answer:?}");
    engine.ok(["rm", "stopped"]);
    child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("while its files were copied"), "{said}");

    // A container that ends takes its copies along.
    let mut child = begin("c");
    engine.ok(["stop", "-t", "0", "c"]);
    assert!(!child.wait().unwrap().success());
    until_true("the helper goes with the container", || helpers(&engine) == 0);
    engine.ok(["start", "c"]);

    let mut child = begin("c");
    engine.kill_controller().unwrap();
    assert!(!child.wait().unwrap().success());
    until_true("the helper goes with the engine", || helpers(&engine) == 0);
    engine.start_controller().unwrap();
    engine.wait_until_it_answers();
    fs::write(at(&engine, "f"), "after").unwrap();
    engine.ok(["cp", &text(&at(&engine, "f")), "c:/f"]);
    assert_eq!(sh(&engine, "c", "cat /f"), "after");
}

#[test]
fn a_user_namespace_keeps_its_numbers() {
    let engine = Engine::start().unwrap();
    let here = at(&engine, "here");
    tree(&here);
    std::os::unix::fs::chown(here.join("file"), Some(33), Some(44)).unwrap();
    running(&engine, &["--userns", "200000:300000:65536"], "c");
    for state in ["running", "stopped"] {
        engine.ok(["cp", &text(&here), &format!("c:/plain-{state}")]);
        engine.ok(["cp", "-a", &text(&here), &format!("c:/kept-{state}")]);
        let back = at(&engine, &format!("back-{state}"));
        engine.ok(["cp", "-a", &format!("c:/kept-{state}"), &text(&back)]);
        let file = fs::metadata(back.join("file")).unwrap();
        assert_eq!((file.uid(), file.gid()), (33, 44), "{state}");
        let folder = fs::metadata(back.join("sub")).unwrap();
        assert_eq!((folder.uid(), folder.gid()), (0, 0), "{state}");
        assert_eq!(look(&here), look(&back), "{state}");
        if state == "running" {
            engine.ok(["stop", "-t", "0", "c"]);
        }
    }
    engine.ok(["start", "c"]);
    let seen = sh(&engine, "c", "stat -c %u:%g /plain-*/file /kept-*/file /kept-*/sub");
    assert_eq!(seen, "0:0\n0:0\n33:44\n33:44\n0:0\n0:0\n");
    std::os::unix::fs::chown(here.join("file"), Some(70_000), Some(0)).unwrap();
    refused(
        &engine,
        &["cp", "-a", &text(&here.join("file")), "c:/x"],
        "owner 70000:0 is none of the container's",
    );
}

#[test]
fn many_files_go_and_come() {
    let engine = Engine::start().unwrap();
    running(&engine, &[], "c");
    let here = at(&engine, "many");
    for folder in 0..20 {
        let folder = here.join(format!("d{folder}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..100 {
            fs::write(folder.join(format!("f{file}")), format!("{file}").repeat(file)).unwrap();
        }
    }
    engine.ok(["cp", &text(&here), "c:/many"]);
    let back = at(&engine, "back");
    engine.ok(["cp", "c:/many", &text(&back)]);
    assert_eq!(look(&here), look(&back));
}
