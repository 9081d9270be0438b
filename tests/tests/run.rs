//! `run` as a person types it: output, input, exit codes, flags.

use davit_tests::engine::Engine;

#[test]
fn exit_codes_are_dockers() {
    let engine = Engine::start().unwrap();
    let code = |arguments: &[&str]| engine.davit(arguments).code;
    assert_eq!(code(&["run", "--rm", "busybox", "true"]), 0);
    assert_eq!(code(&["run", "--rm", "busybox", "sh", "-c", "exit 3"]), 3);
    assert_eq!(code(&["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]), 137);
    assert_eq!(
        code(&["run", "--rm", "busybox", "sh", "-c", "kill -TERM $$; sleep 1"]),
        0,
        "pid 1 ignores TERM"
    );
    assert_eq!(code(&["run", "--rm", "busybox", "no-such-command"]), 127);
    assert_eq!(code(&["run", "--rm", "busybox", "/etc/passwd"]), 126);
    assert_eq!(code(&["run", "--rm", "--no-such-flag", "busybox"]), 125);
    assert_eq!(code(&["run", "--rm", "--name", "not a name", "busybox", "true"]), 125);
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout, "", "nothing half-made stays");
}

#[test]
fn output_and_errors_go_their_own_ways() {
    let engine = Engine::start().unwrap();
    let answer = engine.ok(["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn input_goes_in_whole_and_comes_back_whole() {
    let engine = Engine::start().unwrap();
    let answer = engine.davit_with_input(["run", "-i", "--rm", "busybox", "cat"], b"hi\n");
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "hi\n"));

    let megabytes: Vec<u8> =
        (0..3_000_000_u32).flat_map(|n| format!("{n:08}\n").into_bytes()).take(6_000_000).collect();
    let answer = engine.davit_with_input(["run", "-i", "--rm", "busybox", "md5sum"], &megabytes);
    let direct = std::process::Command::new("md5sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write as _;
            child.stdin.take().expect("piped").write_all(&megabytes)?;
            child.wait_with_output()
        })
        .unwrap();
    assert_eq!(answer.stdout, String::from_utf8_lossy(&direct.stdout), "{answer:?}");
}

#[test]
fn much_output_arrives_whole() {
    let engine = Engine::start().unwrap();
    let answer = engine.ok(["run", "--rm", "busybox", "seq", "1", "200000"]);
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(answer.stdout == expected, "got {} of {} bytes", answer.stdout.len(), expected.len());
}

#[test]
fn identity_environment_and_place_are_as_asked() {
    let engine = Engine::start().unwrap();
    let run = |flags: &[&str], script: &str| {
        let words: Vec<&str> =
            ["run", "--rm"].iter().chain(flags).chain(&["busybox", "sh", "-c", script]).copied().collect();
        engine.ok(words).stdout.trim_end().to_owned()
    };
    assert_eq!(run(&["-h", "box"], "hostname; cat /etc/hostname"), "box\nbox");
    assert_eq!(run(&["-e", "A=b c", "-e", "D="], "echo \"$A:$D\""), "b c:");
    assert_eq!(run(&["-w", "/tmp/new"], "pwd"), "/tmp/new");
    assert_eq!(run(&["-u", "www"], "id -u; id -g; id -G"), "33\n33\n33 29");
    assert_eq!(run(&["-u", "1234:55"], "id -u; id -g"), "1234\n55");
    assert_eq!(
        run(&["-u", "www"], "grep -E '^Cap(Inh|Eff|Amb)' /proc/self/status | tr -d '\\n'"),
        "CapInh:\t0000000000000000CapEff:\t0000000000000000CapAmb:\t0000000000000000"
    );
    assert_eq!(run(&["--cap-drop", "ALL"], "grep CapBnd /proc/self/status"), "CapBnd:\t0000000000000000");
    assert_eq!(run(&[], "grep CapEff /proc/self/status"), "CapEff:\t00000000a80425fb", "Docker's set");
    assert_eq!(
        run(
            &["--read-only", "--tmpfs", "/scratch"],
            "touch /x 2>/dev/null || echo no; touch /scratch/x && echo yes"
        ),
        "no\nyes"
    );
    assert_eq!(run(&["--init"], "echo $$"), "2", "the small init is process 1");
    assert_eq!(run(&["--entrypoint", "echo"], "x"), "sh -c x");
}

#[test]
fn a_container_sees_nothing_of_the_host() {
    let engine = Engine::start().unwrap();
    let script = "ls /proc/self/fd | wc -l; cat /proc/sys/kernel/core_pattern >/dev/null; \
        echo x > /proc/sys/kernel/core_pattern 2>/dev/null && echo writable; \
        cat /proc/kcore 2>/dev/null | head -c 1 | wc -c; ls /sys/firmware | wc -l; \
        mount -t tmpfs none /mnt 2>/dev/null && echo mounted; \
        mknod /dev/x b 8 0 2>/dev/null && head -c 1 /dev/x 2>/dev/null && echo disk; \
        grep -c . /proc/mounts; ps | wc -l";
    let answer = engine.ok(["run", "--rm", "busybox", "sh", "-c", script]);
    let lines: Vec<&str> = answer.stdout.lines().collect();
    // 0, 1, 2 and the folder that ls itself opened.
    assert_eq!(lines.first(), Some(&"4"), "{answer:?}");
    assert_eq!(lines.get(1), Some(&"0"), "kcore is masked: {answer:?}");
    assert_eq!(lines.get(2), Some(&"0"), "firmware is masked: {answer:?}");
    for word in ["writable", "mounted", "disk"] {
        assert!(!answer.stdout.contains(word), "{word}: {answer:?}");
    }
    let seccomp = engine.ok(["run", "--rm", "busybox", "grep", "^Seccomp:", "/proc/self/status"]);
    assert_eq!(seccomp.line(), "Seccomp:\t2");
}

#[test]
fn no_new_privileges_is_obeyed() {
    let engine = Engine::start().unwrap();
    let status = ["busybox", "grep", "NoNewPrivs", "/proc/self/status"];
    let with: Vec<&str> =
        ["run", "--rm", "--security-opt", "no-new-privileges"].iter().chain(&status).copied().collect();
    assert_eq!(engine.ok(with).line(), "NoNewPrivs:\t1");
}

#[test]
fn wrong_words_get_a_right_one() {
    let engine = Engine::start_empty().unwrap();
    let answer = engine.davit(["rnu", "busybox"]);
    assert_ne!(answer.code, 0);
    assert!(answer.stderr.contains("run"), "{answer:?}");
    let answer = engine.davit(["run", "no-such-image-anywhere.invalid/x:1"]);
    assert_eq!(answer.code, 125, "{answer:?}");
    let answer = engine.davit(["stop", "nobody"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.stderr.contains("nobody"), "{answer:?}");
}
