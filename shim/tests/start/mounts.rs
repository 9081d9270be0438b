//! What is mounted inside, and what an image cannot do about it.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::Scene;
use crate::fixture::Container;

pub const SCENES: &[Scene] = &[
    ("writes_go_to_the_writable_layer", writes_go_to_the_writable_layer),
    ("binds_of_folders_and_files", binds_of_folders_and_files),
    ("binds_are_private_and_read_only", binds_are_private_and_read_only),
    ("read_only_is_of_all_or_of_the_top", read_only_is_of_all_or_of_the_top),
    ("a_part_of_a_source_stays_inside_it", a_part_of_a_source_stays_inside_it),
    ("an_image_is_mounted_read_only", an_image_is_mounted_read_only),
    ("tmpfs_and_shm_sizes", tmpfs_and_shm_sizes),
    ("read_only_root", read_only_root),
    ("images_cannot_move_the_system_mounts", images_cannot_move_the_system_mounts),
    ("targets_stay_in_the_root", targets_stay_in_the_root),
    ("working_directory", working_directory),
    ("the_host_sees_nothing", the_host_sees_nothing),
    ("a_volatile_layer_mounts_again", a_volatile_layer_mounts_again),
];

fn bind(source: &std::path::Path, target: &str, options: &[&str]) -> serde_json::Value {
    json!({"destination": target, "type": "bind", "source": source, "options": options})
}

fn writes_go_to_the_writable_layer() {
    let container = Container::shell("echo new > /etc/new; chmod 700 /tmp; stat -c %a /");
    assert_eq!(container.run().out, "755\n");
    let upper = container.dir.path().join("upper");
    assert_eq!(fs::read_to_string(upper.join("etc/new")).unwrap(), "new\n");
    assert!(!container.lower().join("etc/new").exists());
    // Nothing but what was written and the mount points.
    assert!(upper.join("proc").is_dir() && !upper.join("proc/self").exists());
}

fn binds_of_folders_and_files() {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("folder")).unwrap();
    fs::write(host.path().join("folder/file"), "content\n").unwrap();
    let container =
        Container::shell("cat /new/deep/place/file /etc/one /data/two; echo back > /new/deep/place/out")
            .with("/mounts/-", bind(&host.path().join("folder"), "/new/deep/place", &["rbind"]))
            .with("/mounts/-", bind(&host.path().join("folder/file"), "/etc/one", &["rbind", "ro"]))
            .with("/mounts/-", bind(&host.path().join("folder/file"), "/data/two", &["bind", "ro"]));
    assert_eq!(container.run().out, "content\n".repeat(3));
    assert_eq!(fs::read_to_string(host.path().join("folder/out")).unwrap(), "back\n");
    let mismatch = Container::shell("true").with("/mounts/-", bind(host.path(), "/etc/passwd", &["rbind"]));
    let error = mismatch.try_run().unwrap_err().to_string();
    assert!(error.contains("source is a directory, target is not"), "{error}");
    let missing = Container::shell("true").with("/mounts/-", bind(&host.path().join("no"), "/x", &["rbind"]));
    assert!(missing.try_run().unwrap_err().to_string().contains("no such file or directory"));
}

fn binds_are_private_and_read_only() {
    let host = tempfile::tempdir().unwrap();
    let mut container =
        Container::shell("(: > /data/x) 2>/dev/null && echo wrote; mount -t tmpfs t /own; touch /own/inside")
            .with("/mounts/-", bind(host.path(), "/data", &["rbind", "ro"]))
            .with("/mounts/-", bind(host.path(), "/own", &["rbind"]));
    container.shape.privileged = true;
    let all: Vec<String> = davit_sys::privilege::Capabilities(u64::MAX).names();
    let container =
        container.with("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    let outcome = container.run();
    assert_eq!((outcome.out.as_str(), outcome.exit.code()), ("", 0));
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 0);
}

fn read_only_is_of_all_or_of_the_top() {
    // In a mount namespace of its own, which ends with the thread.
    std::thread::spawn(with_a_mount_below).join().unwrap();
}

fn with_a_mount_below() {
    use davit_sys::mount::{Attributes, FileSystem, Propagation, TreeDepth, attach, set_attributes};
    let open = |path: &std::path::Path| davit_sys::file::open_dir(path).unwrap();
    davit_sys::namespace::leave(davit_sys::namespace::Kind::Mount).unwrap();
    let all = open(std::path::Path::new("/"));
    set_attributes(&all, TreeDepth::Recursive, Attributes::NONE, Some(Propagation::Private)).unwrap();
    let host = tempfile::tempdir().unwrap();
    let below = host.path().join("below");
    fs::create_dir(&below).unwrap();
    let tmpfs = FileSystem::open("tmpfs").unwrap().mount(Attributes::NONE).unwrap();
    attach(&tmpfs, open(&below)).unwrap();
    let script = "for f in /all /all/below /top /top/below /one /one/below; do \
                  (: > $f/x) 2>/dev/null && echo $f; done; true";
    let container = Container::shell(script)
        .with("/mounts/-", bind(host.path(), "/all", &["rbind", "rro"]))
        .with("/mounts/-", bind(host.path(), "/top", &["rbind", "ro"]))
        .with("/mounts/-", bind(host.path(), "/one", &["bind", "rro"]));
    let out = container.run().out;
    drop(tmpfs);
    davit_sys::mount::detach(&below).unwrap();
    assert_eq!(out, "/top/below\n");
}

fn a_part_of_a_source_stays_inside_it() {
    let host = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(host.path().join("a/b")).unwrap();
    fs::write(host.path().join("a/b/file"), "inside\n").unwrap();
    symlink("/a/b", host.path().join("link")).unwrap();
    symlink(outside.path(), host.path().join("out")).unwrap();
    let with = |part: &str| {
        let options = ["rbind".to_owned(), format!("x-davit-subpath={part}")];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Container::shell("cat /p/file").with("/mounts/-", bind(host.path(), "/p", &options))
    };
    assert_eq!(with("a/b").run().out, "inside\n");
    assert_eq!(with("link").run().out, "inside\n");
    for missing in ["out", "none", "a/b/file/x", "../../../../../../../.."] {
        let tried = with(missing).try_run();
        let said = tried.map(|outcome| outcome.out).unwrap_or_else(|error| error.to_string());
        // What leads up ends at the top, and shows nothing but the source.
        let good =
            if missing.starts_with("..") { !said.contains("inside") } else { said.contains("access path") };
        assert!(good, "{missing}: {said}");
    }
}

fn an_image_is_mounted_read_only() {
    let layers = tempfile::tempdir().unwrap();
    let (low, top) = (layers.path().join("low"), layers.path().join("top"));
    fs::create_dir_all(low.join("etc")).unwrap();
    fs::create_dir_all(top.join("etc")).unwrap();
    fs::write(low.join("etc/low"), "low\n").unwrap();
    fs::write(top.join("etc/top"), "top\n").unwrap();
    let image = |layers: &[&std::path::Path], target: &str, more: &[&str]| {
        let lower = layers.iter().map(|layer| format!("lowerdir={}", layer.display()));
        let options: Vec<String> = lower.chain(more.iter().map(|&option| option.to_owned())).collect();
        json!({"destination": target, "type": "overlay", "source": "overlay", "options": options})
    };
    let script = "cat /both/etc/low /both/etc/top /one/etc/low /part/low /file; ls /part; \
                  for f in /both /one /part; do (: > $f/x) 2>/dev/null && echo wrote; done; true";
    let container = Container::shell(script)
        .with("/mounts/-", image(&[&top, &low], "/both", &["rro", "nosuid", "nodev"]))
        .with("/mounts/-", image(&[&low], "/one", &["rw"]))
        .with("/mounts/-", image(&[&top, &low], "/part", &["x-davit-subpath=etc"]))
        .with("/mounts/-", image(&[&top, &low], "/file", &["x-davit-subpath=etc/top"]));
    assert_eq!(container.run().out, "low\ntop\nlow\nlow\ntop\nlow\ntop\n");
    assert!(!low.join("x").exists() && !top.join("x").exists());
}

fn tmpfs_and_shm_sizes() {
    let container = Container::shell("grep -E ' /(run/t|dev/shm) ' /proc/mounts; stat -c %a /run/t")
        .with("/mounts/-", json!({"destination": "/dev/shm", "type": "tmpfs", "options": ["size=3m"]}))
        .with(
            "/mounts/-",
            json!({"destination": "/run/t", "type": "tmpfs",
                                  "options": ["size=2m", "mode=1700", "noexec", "nosuid"]}),
        );
    let out = container.run().out;
    assert!(out.contains("/dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=3072k"), "{out}");
    assert!(out.contains("/run/t tmpfs rw,nosuid,noexec,relatime,size=2048k,mode=1700"), "{out}");
    assert!(out.ends_with("1700\n"), "{out}");
}

fn read_only_root() {
    let container =
        Container::shell("(: > /x) 2>/dev/null && echo wrote; echo > /dev/null; : > /run/y && echo tmp")
            .with("/root/readonly", json!(true))
            .with("/mounts/-", json!({"destination": "/run", "type": "tmpfs"}));
    assert_eq!(container.run().out, "tmp\n");
}

fn images_cannot_move_the_system_mounts() {
    type Trick = fn(&std::path::Path);
    let tricks: [(&str, Trick); 5] = [
        ("proc is a link", |root| symlink("/tmp", root.join("proc")).unwrap()),
        ("proc is a file", |root| fs::write(root.join("proc"), "").unwrap()),
        ("sys is a link to proc", |root| symlink("/proc", root.join("sys")).unwrap()),
        ("dev is a link", |root| symlink("/etc", root.join("dev")).unwrap()),
        ("dev is a file", |root| fs::write(root.join("dev"), "").unwrap()),
    ];
    for (what, trick) in tricks {
        let container = Container::shell("true");
        trick(&container.lower());
        let error = container.try_run().unwrap_err().to_string();
        assert!(error.contains("of the image is not a directory"), "{what}: {error}");
    }
}

fn targets_stay_in_the_root() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("secret"), "secret\n").unwrap();
    let canary = tempfile::tempdir().unwrap();
    let outside = canary.path().to_str().unwrap().trim_start_matches('/').to_owned();
    // A link out of the image leads to the same path inside it.
    let container = Container::shell("cat /jump/in/secret; ls -d /$0")
        .with("/mounts/-", bind(host.path(), "/jump/in", &["rbind"]));
    symlink(format!("../../../../../../{outside}"), container.lower().join("jump")).unwrap();
    assert!(container.run().out.starts_with("secret\n"));
    assert_eq!(fs::read_dir(canary.path()).unwrap().count(), 0);
    for (target, link) in [("/root-link", "/"), ("/into-proc", "/proc/sys"), ("/into-sys", "/sys")] {
        let container = Container::shell("true").with("/mounts/-", bind(host.path(), target, &["rbind"]));
        symlink(link, container.lower().join(target.trim_start_matches('/'))).unwrap();
        let error = container.try_run().unwrap_err().to_string();
        assert!(error.contains("mount target"), "{target}: {error}");
    }
    let magic = Container::shell("true").with("/mounts/-", bind(host.path(), "/fd-link/x", &["rbind"]));
    symlink("/proc/self/fd/0", magic.lower().join("fd-link")).unwrap();
    assert!(magic.try_run().is_err());
}

fn working_directory() {
    let at = |cwd: &str| Container::shell("pwd").with("/process/cwd", json!(cwd));
    assert_eq!(at("/made/for/it").run().out, "/made/for/it\n");
    assert_eq!(at("/tmp/../etc").run().out, "/etc\n");
    for bad in
        ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/cwd", "/proc/self/root", "/etc/passwd", "relative"]
    {
        assert!(at(bad).try_run().is_err(), "{bad}");
    }
    let linked = at("/link/x");
    symlink("/proc/self/fd/3", linked.lower().join("link")).unwrap();
    assert!(linked.try_run().is_err());
}

fn the_host_sees_nothing() {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let container = Container::shell("true");
    let mut init = container.prepare(None);
    let configured = container.configure(&mut init, crate::fixture::piped().0).unwrap();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    let root = davit_sys::file::Root::from_fd(configured.root);
    assert!(root.read("/etc/passwd".as_ref(), 1000).unwrap().starts_with(b"root:"));
    init.start().unwrap();
    init.reap_blocking().unwrap();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

fn a_volatile_layer_mounts_again() {
    let container = Container::shell("echo x >> /log; cat /log");
    assert_eq!(container.run().out, "x\n");
    let marker = container.dir.path().join("work/work/incompat/volatile");
    fs::create_dir_all(&marker).unwrap();
    assert_eq!(container.run().out, "x\nx\n");
}
