//! `--userns`: root inside is nobody outside, and no file is copied or chowned for it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use davit_tests::engine::Engine;
use davit_tests::wait::until_true;

/// `first id on the host` of a container.
fn first_id(engine: &Engine, container: &str) -> u32 {
    let map = engine.field(container, "{{index .HostConfig.IDMappings.UidMap 0}}");
    map.split(':').nth(1).and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("{map}"))
}

fn status_of(engine: &Engine, container: &str) -> String {
    let pid = engine.field(container, "{{.State.Pid}}");
    let seen = engine.host().command("cat").arg(format!("/proc/{pid}/status")).output().unwrap();
    String::from_utf8(seen.stdout).unwrap()
}

fn owner(path: impl AsRef<std::path::Path>) -> (u32, u32) {
    let meta = fs::symlink_metadata(path.as_ref()).unwrap();
    (meta.uid(), meta.gid())
}

/// Every path of the image's layers with owner and time of change.
fn layers(engine: &Engine) -> String {
    let listed = engine
        .host()
        .command("find")
        .arg(engine.root().join("image/layers"))
        .args(["-printf", "%p %U:%G %C@ %i\\n"])
        .output()
        .unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn numbers_inside_outside_and_on_disk() {
    let engine = Engine::start().unwrap();
    let before = layers(&engine);
    assert!(before.contains("busybox"), "{before}");
    let script = "echo new > /made; mkdir /dir; echo x > /dir/theirs; chown 33:44 /dir/theirs; chown 7 /etc/passwd; \
        stat -c '%u:%g' /bin/busybox /made /dir/theirs; cat /proc/self/uid_map; sleep 8001";
    engine.ok(["run", "-d", "--userns", "200000:300000:65536", "--name", "c", "busybox", "sh", "-c", script]);
    until_true("it sleeps", || engine.ok(["logs", "c"]).stdout.trim_end().ends_with("65536"));
    let logs = engine.ok(["logs", "c"]).stdout;
    let words: Vec<&str> = logs.split_whitespace().collect();
    assert_eq!(words, ["0:0", "0:0", "33:44", "0", "200000", "65536"], "{logs}");
    let status = status_of(&engine, "c");
    assert!(status.contains("Uid:\t200000\t200000\t200000\t200000"), "{status}");
    assert!(status.contains("Gid:\t300000\t300000\t300000\t300000"), "{status}");
    assert_eq!(engine.field("c", "{{.HostConfig.UsernsMode}}"), "200000:300000:65536");

    let upper = engine.root().join("containers").join(engine.field("c", "{{.Id}}")).join("upper");
    assert_eq!(owner(upper.join("made")), (0, 0));
    assert_eq!(owner(upper.join("dir/theirs")), (33, 44));
    assert_eq!(owner(upper.join("etc/passwd")).0, 7);
    assert_eq!(layers(&engine), before, "no layer is copied or touched");
    // Only what it wrote is on disk, beside the empty files that the engine's own are mounted on.
    let listed =
        engine.host().command("find").arg(&upper).args(["-type", "f", "-size", "+0"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 3);
    engine.ok(["rm", "-f", "c"]);
}

#[test]
fn a_volume_has_the_same_numbers_for_everybody() {
    let engine = Engine::start().unwrap();
    let run = |userns: &str, script: &str| {
        engine
            .ok(["run", "--rm", "--userns", userns, "-v", "data:/data", "busybox", "sh", "-c", script])
            .stdout
    };
    run("auto", "echo a > /data/a; chown 5:6 /data/a");
    assert_eq!(run("host", "stat -c %u:%g /data/a; echo b > /data/b; chown 1000 /data/b"), "5:6\n");
    assert_eq!(
        run("auto:size=2000", "stat -c %u /data/a /data/b; rm /data/b && echo removed"),
        "5\n1000\nremoved\n"
    );

    let shared = engine.host().folder().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "x").unwrap();
    let bind = |options: &str| {
        let volume = format!("{}:/b{options}", shared.display());
        let script = "stat -c %u /b/file; touch /b/new 2>/dev/null && echo wrote";
        engine.davit(["run", "--rm", "--userns", "auto", "-v", &volume, "busybox", "sh", "-c", script]).stdout
    };
    assert_eq!(bind(""), "65534\n", "the host's files are nobody's");
    assert_eq!(bind(":idmap"), "0\nwrote\n");
    assert_eq!(owner(shared.join("new")), (0, 0));
}

#[test]
fn ids_that_nobody_named_are_its_own_and_stay() {
    let mut engine = Engine::start().unwrap();
    for name in ["one", "two"] {
        engine.ok([
            "run",
            "-d",
            "--userns",
            "auto",
            "--name",
            name,
            "busybox",
            "sh",
            "-c",
            "id -u > /id; sleep 8002",
        ]);
    }
    let (one, two) = (first_id(&engine, "one"), first_id(&engine, "two"));
    assert!(one.abs_diff(two) >= 65_536, "{one} {two}");
    assert!(status_of(&engine, "one").contains(&format!("Uid:\t{one}\t")));
    engine.ok(["stop", "-t", "0", "one"]);
    engine.ok(["run", "-d", "--userns", "auto", "--name", "three", "busybox", "sleep", "8002"]);
    assert!(![one, two].contains(&first_id(&engine, "three")), "a stopped container keeps its ids");
    engine.ok(["start", "one"]);
    assert_eq!(first_id(&engine, "one"), one);
    assert!(status_of(&engine, "one").contains(&format!("Uid:\t{one}\t")));

    engine.kill_controller().unwrap();
    engine.start_controller().unwrap();
    assert_eq!((first_id(&engine, "one"), first_id(&engine, "two")), (one, two));
    let ids: Vec<u32> = ["four", "five"]
        .map(|name| {
            engine.ok(["create", "--userns", "auto", "--name", name, "busybox"]);
            first_id(&engine, name)
        })
        .to_vec();
    assert!(ids.iter().all(|id| ![one, two].contains(id)) && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn the_network_works_both_ways() {
    let engine = Engine::start().unwrap();
    let server = "echo hello > /index.html; httpd -f -p 80 -h /";
    engine.ok([
        "run", "-d", "--userns", "auto", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", server,
    ]);
    let get = || engine.host().command("busybox").args(["wget", "-qO-", "http://127.0.0.1:8080/"]).output();
    until_true("a port below 1024 answers", || get().is_ok_and(|answer| answer.stdout == b"hello\n"));
    let address = engine.field("web", "{{.NetworkSettings.IPAddress}}");
    let answer = engine.ok([
        "run",
        "--rm",
        "--userns",
        "auto",
        "busybox",
        "sh",
        "-c",
        &format!("ping -c1 -W5 {address} > /dev/null && wget -qO- http://{address}/"),
    ]);
    assert_eq!(answer.stdout, "hello\n");
    engine.ok(["rm", "-f", "web"]);
}

#[test]
fn it_dies_whole_with_its_shim_and_leaves_nothing() {
    let engine = Engine::start().unwrap();
    engine.ok([
        "run",
        "-d",
        "--userns",
        "auto",
        "--name",
        "c",
        "busybox",
        "sh",
        "-c",
        "sleep 8003 & sleep 8003",
    ]);
    until_true("both run", || engine.processes_with("sleep 8003").len() >= 2);
    let id = engine.field("c", "{{.Id}}");
    let told = fs::read_to_string(engine.run_dir().join("shim").join(id).join("shim.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&told).unwrap();
    engine.kill_on_host(&record["pid"].to_string()).unwrap();
    until_true("its processes are gone", || engine.processes_with("sleep 8003").is_empty());
    until_true("ps tells", || engine.field("c", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137");
    engine.ok(["start", "c"]);
    until_true("it runs again", || engine.processes_with("sleep 8003").len() >= 2);
    engine.ok(["rm", "-f", "c"]);
    let namespaces = engine.host().command("lsns").args(["-t", "user", "-n", "-o", "NS"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&namespaces.stdout).lines().count(),
        1,
        "the host's user namespace only"
    );
}

#[test]
fn users_terminals_devices_and_limits() {
    let engine = Engine::start().unwrap();
    let out = |words: &[&str]| {
        let begin = ["run", "--rm", "--userns", "auto"];
        engine.ok(begin.iter().chain(words).copied()).stdout
    };
    assert_eq!(
        out(&["-u", "1000:1001", "busybox", "sh", "-c", "id -u; id -g; echo again > /dev/stdout"]),
        "1000\n1001\nagain\n"
    );
    assert_eq!(out(&["-t", "busybox", "sh", "-c", "stat -c %u /dev/console; tty"]), "0\r\n/dev/pts/0\r\n");
    assert_eq!(
        out(&[
            "--tmpfs",
            "/t:mode=1777",
            "-u",
            "5",
            "busybox",
            "sh",
            "-c",
            "echo > /t/x; stat -c %u /t /t/x"
        ]),
        "0\n5\n"
    );
    assert_eq!(out(&["--read-only", "busybox", "sh", "-c", "touch /x 2>/dev/null || echo no"]), "no\n");
    assert_eq!(out(&["-m", "64m", "--pids-limit", "50", "busybox", "echo", "limited"]), "limited\n");
    assert_eq!(
        out(&["--sysctl", "net.ipv4.ip_forward=1", "busybox", "cat", "/proc/sys/net/ipv4/ip_forward"]),
        "1\n"
    );
    assert_eq!(
        out(&[
            "--device",
            "/dev/zero:/dev/mine:r",
            "busybox",
            "sh",
            "-c",
            "head -c3 /dev/mine | wc -c; mknod /n c 1 3 2>/dev/null || echo no"
        ]),
        "3\nno\n"
    );
    assert_eq!(
        out(&["--cap-add", "SYS_ADMIN", "busybox", "sh", "-c", "mount -t tmpfs x /tmp && echo mounted"]),
        "mounted\n"
    );
    assert_eq!(
        out(&[
            "--init",
            "busybox",
            "sh",
            "-c",
            "id -u; cat /etc/hosts | grep -c localhost; echo x >> /etc/hosts && echo ours"
        ])
        .lines()
        .last(),
        Some("ours")
    );
}

#[test]
fn what_does_not_go_together_is_said() {
    let engine = Engine::start().unwrap();
    let said = |words: &[&str]| {
        let answer = engine.davit(["run", "--rm"].iter().chain(words).chain(&["busybox", "true"]).copied());
        assert_eq!(answer.code, 125, "{answer:?}");
        answer.stderr
    };
    assert!(
        said(&["--privileged", "--userns", "auto"])
            .contains("privileged mode is incompatible with user namespaces")
    );
    assert!(said(&["--network", "host", "--userns", "auto"]).contains("host's network namespace"));
    assert!(said(&["--pid", "host", "--userns", "auto"]).contains("host PID namespace"));
    assert!(said(&["--userns", "keep-id"]).contains("must be host, auto, auto:size=N or UID:GID:SIZE"));
    assert!(said(&["--userns", "0:0:65536"]).contains("root of the host"));
    assert!(said(&["--userns", "auto:size=100", "-u", "1000"]).contains("not all of these ids"));
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout, "");
    engine.ok(["run", "--rm", "--privileged", "--userns", "host", "busybox", "true"]);
}
