//! What of a volume, of an image, of a folder of the host is shown, and how.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use davit_tests::engine::Engine;

fn place(engine: &Engine, volume: &str) -> PathBuf {
    engine.ok(["volume", "create", volume]);
    engine.ok(["volume", "inspect", "--format", "{{.Mountpoint}}", volume]).line().into()
}

#[test]
fn parts_of_a_volume_do_not_lead_out_of_it() {
    let engine = Engine::start().unwrap();
    let folder = place(&engine, "data");
    let secret = engine.host().folder().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "secret").unwrap();
    fs::create_dir_all(folder.join("a/b")).unwrap();
    fs::write(folder.join("a/b/file"), "inside\n").unwrap();
    fs::write(folder.join("single"), "single\n").unwrap();
    symlink("/a/b", folder.join("link")).unwrap();
    symlink(&secret, folder.join("out")).unwrap();
    symlink("../../../../../../../etc", folder.join("up")).unwrap();
    let mount = |part: &str, more: &str| format!("type=volume,src=data,dst=/p,volume-subpath={part}{more}");
    let run = |part: &str, more: &str, script: &str| {
        engine.davit(["run", "--rm", "--mount", &mount(part, more), "busybox", "sh", "-c", script])
    };
    assert_eq!(run("a/b", "", "ls -A /p; cat /p/file").stdout, "file\ninside\n");
    assert_eq!(run("link", "", "cat /p/file").stdout, "inside\n", "a link inside it is followed");
    assert_eq!(run("single", "", "cat /p").stdout, "single\n");
    assert_eq!(run("a", ",readonly", "touch /p/x 2>/dev/null || echo refused").stdout, "refused\n");
    for missing in ["out", "up", "none", "a/b/none", "single/x"] {
        let answer = run(missing, "", "cat /p/*");
        assert_eq!(answer.code, 125, "{missing}: {answer:?}");
        assert!(answer.stderr.contains("cannot access path"), "{missing}: {answer:?}");
        assert!(answer.stderr.contains(missing), "{answer:?}");
    }
    for wrong in ["../x", "/a", "a/../../b"] {
        assert_eq!(run(wrong, "", "true").code, 125, "{wrong}");
    }
    // What is seen of a container that does not run is the same.
    engine.ok(["create", "--name", "c", "--mount", &mount("link", ""), "busybox"]);
    let out = engine.host().folder().join("copied");
    engine.ok(["cp", "c:/p/file", &out.display().to_string()]);
    assert_eq!(fs::read_to_string(out).unwrap(), "inside\n");
}

#[test]
fn another_image_is_mounted_and_kept() {
    let engine = Engine::start().unwrap();
    engine.ok(["tag", "busybox", "tools:1"]);
    let from_image = |more: &str| format!("type=image,source=tools:1,target=/tools{more}");
    let shown = "ls /tools/bin/busybox; touch /tools/x 2>/dev/null || echo read-only";
    let run = ["run", "--rm", "--mount", &from_image(""), "busybox", "sh", "-c", shown];
    assert_eq!(engine.ok(run).stdout, "/tools/bin/busybox\nread-only\n");
    let run =
        ["run", "--rm", "--mount", &from_image(",image-subpath=bin"), "busybox", "ls", "/tools/busybox"];
    assert_eq!(engine.ok(run).stdout, "/tools/busybox\n");
    let run = [
        "run",
        "--rm",
        "--userns",
        "auto",
        "--mount",
        &from_image(""),
        "busybox",
        "stat",
        "-c",
        "%u",
        "/tools/bin",
    ];
    assert_eq!(engine.ok(run).stdout, "0\n", "by the container's own numbers");

    let missing = ["run", "--rm", "--mount", "type=image,source=no/such:1,target=/i", "busybox", "true"];
    let answer = engine.davit(missing);
    assert_eq!(answer.code, 125, "{answer:?}");
    assert!(answer.stderr.to_lowercase().contains("no such image"), "{answer:?}");
    let answer =
        engine.davit(["run", "--rm", "--mount", &from_image(",image-subpath=none"), "busybox", "true"]);
    assert_eq!(answer.code, 125, "{answer:?}");
    assert!(answer.stderr.contains("cannot access path none"), "{answer:?}");
    assert_eq!(engine.ok(["ps", "-aq"]).stdout, "");

    engine.ok(["create", "--name", "user", "--mount", &from_image(""), "busybox", "ls", "/tools/bin/sh"]);
    let mounts = engine.field("user", "{{json .Mounts}}");
    for part in [r#""Type":"image""#, r#""Source":"tools:1""#, r#""Destination":"/tools""#, r#""RW":false"#] {
        assert!(mounts.contains(part), "{part}: {mounts}");
    }
    // The name goes, what it meant stays.
    engine.ok(["rmi", "tools:1"]);
    assert_eq!(engine.ok(["start", "-a", "user"]).stdout, "/tools/bin/sh\n");
    engine.ok(["rm", "user"]);
}

#[test]
fn an_image_that_is_mounted_cannot_go() {
    let engine = Engine::start().unwrap();
    let archive = engine.host().folder().join("other.tar");
    engine.ok(["save", "-o", &archive.display().to_string(), "busybox"]);
    let id = engine.ok(["images", "-q", "--no-trunc", "busybox"]).line().to_owned();
    engine.ok(["create", "--name", "user", "--mount", &format!("type=image,src={id},dst=/i"), "busybox"]);
    let refused = engine.davit(["rmi", "busybox"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    engine.ok(["rm", "user"]);
    engine.ok(["rmi", "busybox"]);
    assert_eq!(engine.ok(["images", "-q"]).stdout, "");
}

#[test]
fn read_only_means_what_is_mounted_below_too() {
    let engine = Engine::start().unwrap();
    let top = engine.host().folder().join("top");
    let below = top.join("below");
    fs::create_dir_all(&below).unwrap();
    let mounted = engine.host().command("mount").args(["-t", "tmpfs", "below"]).arg(&below).status().unwrap();
    assert!(mounted.success());
    assert!(engine.host().command("touch").arg(below.join("seen")).status().unwrap().success());
    let script = "ls /t/below; for f in /t /t/below; do touch $f/x 2>/dev/null && echo wrote $f; done; rm -f /t/below/x";
    let top = top.display().to_string();
    let volume = engine.ok(["run", "--rm", "-v", &format!("{top}:/t:ro,z"), "busybox", "sh", "-c", script]);
    assert_eq!(volume.stdout, "seen\n");
    for (more, wanted) in [
        ("readonly", "seen\n"),
        ("readonly,bind-recursive=enabled,consistency=cached", "seen\n"),
        ("readonly,bind-propagation=rprivate,bind-recursive=readonly", "seen\n"),
        ("readonly,bind-recursive=writable", "seen\nwrote /t/below\n"),
        ("readonly,bind-recursive=disabled", ""),
        ("readonly,bind-nonrecursive", ""),
    ] {
        let mount = format!("type=bind,src={top},dst=/t,{more}");
        let answer = engine.ok(["run", "--rm", "--mount", &mount, "busybox", "sh", "-c", script]);
        assert_eq!(answer.stdout, wanted, "{more}");
    }
    let options = engine.ok([
        "run",
        "--rm",
        "--tmpfs",
        "/a:size=1m,mode=1700,exec",
        "--mount",
        "type=tmpfs,dst=/b,tmpfs-size=2m,tmpfs-mode=0711",
        "busybox",
        "sh",
        "-c",
        "stat -c %a /a /b; grep -E ' /(a|b) ' /proc/mounts | cut -d' ' -f2,4",
    ]);
    let lines: Vec<&str> = options.stdout.lines().collect();
    assert_eq!(lines[..2], ["1700", "711"]);
    let of = |target: &str| lines.iter().find(|line| line.starts_with(target)).copied().unwrap_or_default();
    assert!(of("/a ").contains("size=1024k") && !of("/a ").contains("noexec"), "{options:?}");
    assert!(of("/b ").contains("size=2048k") && of("/b ").contains("noexec"), "{options:?}");
}

#[test]
fn what_cannot_be_is_said_before_anything_is_made() {
    let engine = Engine::start().unwrap();
    let missing = engine.host().folder().join("missing");
    let bind = format!("type=bind,src={},dst=/d", missing.display());
    for (words, said) in [
        (vec!["--mount", &bind], "bind source path does not exist"),
        (vec!["-v", "/a:/d", "-v", "v:/d"], "duplicate mount point"),
        (vec!["-v", "v:/d", "--tmpfs", "/d"], "duplicate mount point"),
        (vec!["-v", "relative/path:/d"], "includes invalid characters for a local volume name"),
        (vec!["-v", "~/x:/d"], "includes invalid characters for a local volume name"),
        (vec!["-v", "/a:/d:odd"], "invalid mode: odd"),
        (vec!["--mount", "type=bind,src=/a,dst=/d,bind-recursive=readonly"], "requires 'readonly'"),
    ] {
        let words = ["run", "--rm"].into_iter().chain(words).chain(["busybox", "true"]);
        let answer = engine.davit(words.clone());
        assert_eq!(answer.code, 125, "{:?}: {answer:?}", words.collect::<Vec<_>>());
        assert!(answer.stderr.contains(said), "{said}: {answer:?}");
    }
    assert!(!missing.exists(), "only -v makes a missing folder");
    assert_eq!(engine.ok(["ps", "-aq"]).stdout, "");
    assert_eq!(engine.ok(["volume", "ls", "-q"]).stdout, "");
}
