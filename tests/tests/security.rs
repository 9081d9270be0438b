//! What hostile images and requests must not reach: the rows of the threat model that are about start, told by what
//! the first program inside sees. What confines every container is in `confinement`; what a shape or a spec alone can
//! show is tested at the shim (`shim/tests/start`).

use std::fs;
use std::process::Command;

use davit_tests::scene::{Entry, Scene};
use davit_tests::wait::until_true;
use serde_json::json;

#[test]
fn the_engines_binary_is_out_of_reach() {
    let scene = Scene::new();
    let binary = davit_tests::engine::binaries().join("davit-shim");
    let before = fs::read(&binary).unwrap();
    let entries = [
        Entry::File("self", "#!/proc/self/exe\n"),
        Entry::File("launch", "#!/proc/self/exe launch\n"),
        Entry::File("serve", "#!/proc/self/exe serve\n"),
        Entry::File("enter", "#!/proc/self/exe enter\n"),
    ];
    let image = scene.image(&json!({}), &entries);
    for program in ["/self", "/launch", "/serve", "/enter", "/proc/self/exe"] {
        for more in [&[][..], &["--userns", "auto"], &["--init"]] {
            let answer = scene.run(&[more, &[&image, program]].concat());
            assert_ne!(answer.code, 0, "{program}: {answer:?}");
        }
    }
    // Whoever looks at pid 1 while it still is ours finds nothing to open, and nothing that can be written.
    let script = "for p in /proc/[0-9]*; do (: >> $p/exe) 2>/dev/null && echo wrote; (: > $p/exe) 2>/dev/null && echo emptied; done; echo done";
    for words in [&["--init"][..], &["--init", "--cap-add", "SYS_PTRACE"], &["--cap-add", "SYS_PTRACE"]] {
        let answer = scene.run(&[words, &["busybox", "sh", "-c", script]].concat());
        // Its own shell is a file of the container's, which is busy.
        assert_eq!(answer.stdout, "done\n", "{answer:?}");
    }
    assert_eq!(fs::read(&binary).unwrap(), before);
}

#[test]
fn working_directories_stay_inside() {
    let scene = Scene::new();
    for bad in [
        "/proc/self/fd/7",
        "/proc/self/fd/3",
        "/proc/1/cwd",
        "/proc/self/root",
        "/proc/thread-self/fd/8/../..",
    ] {
        let answer = scene.run(&["-w", bad, "busybox", "pwd"]);
        assert_eq!(answer.code, 125, "{bad}: {answer:?}");
        let image = scene.image(&json!({"WorkingDir": bad}), &[]);
        assert_eq!(scene.run(&[&image, "sh", "-c", "pwd"]).code, 125, "{bad}");
    }
    let up = scene.canary().parent().unwrap().display().to_string();
    let image = scene.image(
        &json!({"WorkingDir": "/work/dir"}),
        &[Entry::Link("work", "/../../../../.."), Entry::Link("out", &format!("/../../..{up}"))],
    );
    let answer = scene.run(&[&image, "sh", "-c", "ls canary; cat canary"]);
    assert!(!answer.stdout.contains("canary"), "{answer:?}");
    scene.run(&["-w", "/out/made", &image, "sh", "-c", "ls .."]);
    let outside: Vec<_> = fs::read_dir(up).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(outside, ["canary"], "nothing was made outside");
}

#[test]
fn users_are_numbers_or_names_and_never_both() {
    let scene = Scene::new();
    let trap = "1000:x:0:0:trap:/:/bin/sh\nroot:x:0:0::/:/bin/sh\n0:x:7:7::/:\n";
    let image = scene.image(&json!({"User": "1000"}), &[Entry::File("etc/passwd", trap)]);
    assert_eq!(scene.run(&[&image, "id", "-u"]).stdout, "1000\n");
    assert_eq!(scene.run(&["-u", "0", &image, "id", "-u"]).stdout, "0\n");
    for bad in ["2147483648", "4294967296", "4294967295", "-1", "+1", "1:2147483648", "1:-1"] {
        scene.refused(&[&format!("--user={bad}"), &image, "id"], "invalid user");
        let odd = scene.image(&json!({"User": bad}), &[]);
        assert_eq!(scene.run(&[&odd, "id"]).code, 125, "{bad}");
    }
    scene.refused(&["-u", "nosuch", &image, "id"], "unable to find user nosuch");
    // Databases that are too large, no files, or lead out.
    let large = "x".repeat(11 << 20);
    let canary = format!("/../../../../../..{}", scene.canary().display());
    for entry in
        [Entry::File("etc/passwd", &large), Entry::Fifo("etc/group"), Entry::Link("etc/passwd", "/dev/zero")]
    {
        let image = scene.image(&json!({"User": "root"}), &[entry]);
        let begun = std::time::Instant::now();
        let answer = scene.run(&[&image, "true"]);
        assert_eq!(answer.code, 125, "{answer:?}");
        assert!(begun.elapsed().as_secs() < 20);
    }
    let image = scene.image(&json!({"User": "root"}), &[Entry::Link("etc/passwd", &canary)]);
    assert_ne!(scene.run(&[&image, "cat", "/etc/passwd"]).code, 0, "it leads nowhere inside");
}

#[test]
fn images_cannot_move_proc_sys_and_dev() {
    let scene = Scene::new();
    let outside = scene.canary().parent().unwrap().display().to_string();
    let away = format!("/../../../../..{outside}");
    for (entries, what) in [
        (vec![Entry::Link("proc", "/tmp")], "/proc"),
        (vec![Entry::Link("proc", &away)], "/proc"),
        (vec![Entry::Link("sys", "/proc")], "/sys"),
        (vec![Entry::Link("sys", "proc/self/fd")], "/sys"),
        (vec![Entry::Link("dev", &away)], "/dev"),
        (vec![Entry::Link("dev", "/etc")], "/dev"),
    ] {
        let image = scene.image(&json!({}), &entries);
        for more in [&[][..], &["--userns", "auto"], &["--privileged"]] {
            scene.refused(
                &[more, &[&image, "true"]].concat(),
                &format!("{what} of the image is not a directory"),
            );
        }
    }
    // What an image has in /dev is covered, and never looked at.
    let image = scene.image(
        &json!({}),
        &[
            Entry::Link("dev/null", &away),
            Entry::Link("dev/shm", &away),
            Entry::Link("dev/pts", "/proc"),
            Entry::Fifo("dev/console"),
        ],
    );
    let answer = scene.run(&["-t", &image, "sh", "-c", "echo x > /dev/null; stat -c %t:%T /dev/null; ls /dev/shm | wc -l; test -c /dev/console && echo console"]);
    assert_eq!(answer.stdout, "1:3\r\n0\r\nconsole\r\n", "{answer:?}");
    for volume in ["/proc", "/proc/sys", "/sys", "/x/../proc"] {
        let image = scene.image(&json!({"Volumes": {volume: {}}}), &[]);
        assert_eq!(scene.run(&[&image, "true"]).code, 125, "{volume}");
        let bind = format!("{outside}:{volume}");
        if volume != "/sys" {
            assert_eq!(scene.run(&["-v", &bind, "busybox", "true"]).code, 125, "{bind}");
        }
    }
}

#[test]
fn mount_targets_stay_inside() {
    let scene = Scene::new();
    let outside = scene.canary().parent().unwrap().display().to_string();
    let image = scene.image(
        &json!({"Volumes": {"/../../../etc/sub": {}, "/link/inner": {}, "/away": {}}}),
        &[
            Entry::Link("link", "/../../../../../../../"),
            Entry::Link("away", &format!("/../../../../..{outside}")),
        ],
    );
    let answer = scene.run(&[
        &image,
        "sh",
        "-c",
        "mount | grep -c -E ' (/etc/sub|/inner|/link/inner) '; touch /away/x; ls /etc/sub",
    ]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stdout.starts_with("2\n"), "{answer:?}");
    let entries: Vec<_> = fs::read_dir(&outside).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(entries, ["canary"]);
    let host = scene.engine.host().command("cat").arg("/proc/self/mountinfo").output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    assert!(!host.contains("/etc/sub") && !host.contains("overlay"), "{host}");
    // A link to a place where nothing must be mounted.
    let image = scene.image(&json!({}), &[Entry::Link("p", "/proc/sys"), Entry::Link("r", "/")]);
    for target in ["/p", "/r", "/r/../proc/self"] {
        let answer = scene.run(&["-v", &format!("{outside}:{target}:ro"), &image, "true"]);
        assert_eq!(answer.code, 125, "{target}: {answer:?}");
    }
}

#[test]
fn the_engines_files_go_nowhere_else() {
    let scene = Scene::new();
    let canary = format!("/../../../../../..{}", scene.canary().display());
    for name in ["hosts", "resolv.conf", "hostname"] {
        let path = format!("etc/{name}");
        let image = scene.image(&json!({}), &[Entry::Link(&path, &canary)]);
        let answer =
            scene.run(&[&image, "sh", "-c", &format!("echo overwritten > /{path}; cat /etc/hosts | wc -l")]);
        assert_eq!(answer.code, 0, "{name}: {answer:?}");
        let image = scene.image(&json!({}), &[Entry::Fifo(&path)]);
        let begun = std::time::Instant::now();
        let answer = scene.run(&[&image, "sh", "-c", &format!("head -c1 /{path} | wc -c")]);
        assert_eq!(answer.stdout, "1\n", "{name}: {answer:?}");
        assert!(begun.elapsed().as_secs() < 20);
        let image = scene.image(&json!({}), &[Entry::Folder(&path)]);
        assert_eq!(scene.run(&[&image, "true"]).code, 125, "{name} is a folder");
    }
    let image = scene.image(
        &json!({}),
        &[Entry::Link("etc", &format!("/../../..{}", scene.canary().parent().unwrap().display()))],
    );
    scene.run(&[&image, "true"]);
    let outside = scene.canary().parent().unwrap().to_owned();
    let entries: Vec<_> = fs::read_dir(outside).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(entries, ["canary"]);
}

#[test]
fn words_of_an_image_are_data() {
    let scene = Scene::new();
    let host_before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let labels = json!({"davit.user": "0", "davit.seccomp": "unconfined", "davit.privileged": "true", "davit.init": "true",
        "io.kubernetes.cri.untrusted-workload": "false", "run.oci.hooks": "/bin/sh", "io.podman.annotations.privileged": "TRUE"});
    let image = scene.image(&json!({"User": "1000", "Labels": labels}), &[]);
    let answer = scene.run(&[&image, "sh", "-c", "grep -E 'Uid|Seccomp:' /proc/self/status; echo $$"]);
    assert_eq!(answer.stdout, "Uid:\t1000\t1000\t1000\t1000\nSeccomp:\t2\n1\n", "{answer:?}");
    let annotated = scene.run(&[
        "--annotation",
        "davit.user=0",
        "--annotation",
        "davit.seccomp=unconfined",
        "-u",
        "5",
        "busybox",
        "grep",
        "-E",
        "^Uid|Seccomp:",
        "/proc/self/status",
    ]);
    assert!(annotated.code == 125 || annotated.stdout == "Uid:\t5\t5\t5\t5\nSeccomp:\t2\n", "{annotated:?}");
    for sysctl in [
        "a=1+kernel.core_pattern=x",
        "kernel.core_pattern=x",
        "net.ipv4.x\n=1",
        "net/../kernel/core_pattern=x",
        "kernel.msgmax=1\n2",
    ] {
        assert_eq!(scene.run(&["--sysctl", sysctl, "busybox", "true"]).code, 125, "{sysctl:?}");
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), host_before);
    // Environment that is none.
    for env in [json!(["=x"]), json!(["NOVALUE"]), json!(["A=b\u{0}c"])] {
        let image = scene.image(&json!({"Env": env, "User": "www"}), &[]);
        let answer = scene.run(&[&image, "env"]);
        assert!(answer.code == 125 || !answer.stdout.contains('\0'), "{env}: {answer:?}");
    }
}

#[test]
fn bytes_for_a_terminal_are_escaped() {
    let scene = Scene::new();
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[31m\r\u{202e}x";
    let label = format!("l={evil}");
    scene.engine.ok([
        "run",
        "-d",
        "--name",
        "c",
        "--label",
        &label,
        "busybox",
        "sh",
        "-c",
        "sleep 9001",
        evil,
    ]);
    let raw = |text: &str| text.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}'));
    for words in [&["ps", "-a", "--no-trunc"][..], &["inspect", "c"], &["ps", "--format", "json"]] {
        let answer = scene.engine.davit(words.iter().copied());
        assert_eq!(answer.code, 0, "{answer:?}");
        assert!(!raw(&answer.stdout), "{words:?}: {:?}", answer.stdout);
    }
    // A template is for programs, who get what is there, but for a terminal.
    for template in ["{{.Labels}} {{.Command}}", "table {{.Command}}\t{{.Label \"l\"}}"] {
        let command = scene.engine.command(["ps", "-a", "--format", template]);
        let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy());
        let line: Vec<_> =
            [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
        let shown = Command::new("script").args(["-qec", &line.join(" "), "/dev/null"]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap().replace("\r\n", "\n");
        assert!(shown.contains("owned") && !raw(&shown), "{template}: {shown:?}");
    }
    let answer = scene.engine.davit(["run", "--rm", "busybox", evil]);
    assert!(answer.code == 127 && !raw(answer.stderr.trim_end()), "{answer:?}");
    let answer = scene.engine.davit(["inspect", evil]);
    assert!(answer.code != 0 && !raw(answer.stderr.trim_end()), "{answer:?}");
    scene.engine.ok(["rm", "-f", "c"]);
}

/// A container exchanges a component of another's mount target while that one starts. `DAVIT_TEST_ROUNDS` says how
/// often; the rule wants 10,000.
#[test]
fn races_for_mount_points_end_inside() {
    let scene = Scene::new();
    let rounds: u32 = std::env::var("DAVIT_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let outside = scene.canary().parent().unwrap().display().to_string();
    let swap = format!(
        "mkdir -p /v/real/deep; ln -s /../../../../..{outside} /v/link; \
         while :; do mv -T /v/real /v/x; mv -T /v/link /v/real; mv -T /v/real /v/link; mv -T /v/x /v/real; done"
    );
    scene.engine.ok(["run", "-d", "--name", "swapper", "-v", "shared:/v", "busybox", "sh", "-c", &swap]);
    until_true("it swaps", || scene.engine.davit(["top", "swapper"]).code == 0);
    for round in 0..rounds {
        let target = if round % 2 == 0 { "/v/real/deep" } else { "/v/real/made/on/the/way" };
        let secret = format!("type=tmpfs,dst={target}");
        let answer = scene.run(&[
            "-v",
            "shared:/v",
            "--mount",
            &secret,
            "busybox",
            "sh",
            "-c",
            "cat /v/real/canary /v/real/deep/canary 2>/dev/null; echo x > /v/real/deep/y 2>/dev/null; :",
        ]);
        assert!([0, 125].contains(&answer.code), "{answer:?}");
    }
    let entries: Vec<_> = fs::read_dir(&outside).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(entries, ["canary"]);
    let host = scene.engine.host().command("cat").arg("/proc/self/mountinfo").output().unwrap();
    assert!(!String::from_utf8_lossy(&host.stdout).contains("/outside"));
    scene.engine.ok(["rm", "-f", "swapper"]);
}
