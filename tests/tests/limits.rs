//! Limits, proven from inside and outside: what a container may use, and what is counted, listed and told of it. The
//! same tests on hosts with cgroup v1 and v2.

use std::time::{Duration, Instant};

use davit_tests::cgroup::{Cgroup, Hierarchy};
use davit_tests::engine::{Answer, Engine};
use davit_tests::wait::{until, until_true};

/// Runs a shell line in a new container with flags.
fn run(engine: &Engine, flags: &[&str], script: &str) -> Answer {
    engine.davit([&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat())
}

/// Starts a shell line in the background and answers with its container's id.
fn start(engine: &Engine, flags: &[&str], script: &str) -> String {
    engine.ok([&["run", "-d"], flags, &["busybox", "sh", "-c", script]].concat()).line().to_owned()
}

/// Serves a short file and a long one.
const SERVE: &str = "mkdir -p /w; echo hello > /w/index.html; head -c 3000000 /dev/zero > /w/big; \
    exec httpd -f -p 80 -h /w";
/// Takes a megabyte of memory after the other, for ever.
const HOG: &str = "x=$(head -c 1000000 /dev/zero | tr '\\0' x); while :; do x=$x$x; done";

#[test]
fn a_memory_hog_is_killed_and_reported() {
    let engine = Engine::start().unwrap();
    let id = start(&engine, &["--memory", "32m", "--memory-swap", "32m"], HOG);
    assert_eq!(engine.ok(["wait", &id]).line(), "137");
    assert_eq!(engine.field(&id, "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
    let fine = engine.ok(["run", "-d", "--memory", "32m", "busybox", "true"]).line().to_owned();
    engine.ok(["wait", &fine]);
    assert_eq!(engine.field(&fine, "{{.State.OOMKilled}} {{.State.ExitCode}}"), "false 0");
}

#[test]
fn short_memory_is_told_of_while_init_lives() {
    let engine = Engine::start().unwrap();
    let script = format!(
        "sh -c \"{HOG}\"; echo survived $?; sleep 1000",
        HOG = HOG.replace('"', "\\\"").replace('$', "\\$")
    );
    let id = start(&engine, &["--memory", "32m", "--memory-swap", "32m"], &script);
    until_true("the hog was killed and init lives", || {
        engine.ok(["logs", &id]).stdout.contains("survived 137")
    });
    assert_eq!(engine.field(&id, "{{.State.Running}}"), "true");
    let journal = engine.root().join("containers").join(&id).join("life");
    until_true("the journal tells of it", || {
        std::fs::read_to_string(&journal).unwrap_or_default().contains(r#""event":"oom""#)
    });
    engine.ok(["kill", &id]);
    engine.ok(["wait", &id]);
    assert_eq!(engine.field(&id, "{{.State.OOMKilled}}"), "true");
}

#[test]
fn a_fork_bomb_stops_at_the_limit_of_processes() {
    let engine = Engine::start().unwrap();
    let bomb = "(b() { sleep 1000 & b & b & wait; }; b) 2>/dev/null & exec sleep 1000";
    let id = start(&engine, &["--pids-limit", "40"], bomb);
    let cgroup = Cgroup::of(&engine, &id);
    let refused =
        |cgroup: &Cgroup| cgroup.text("pids.events").trim_start_matches("max ").parse::<u64>().unwrap();
    until_true("the kernel refused a process", || refused(&cgroup) > 0);
    for _ in 0..20 {
        assert!(cgroup.number("pids.current") <= 40);
    }
    assert_eq!(engine.field(&id, "{{.State.Running}}"), "true");
    // The host goes on as ever.
    assert_eq!(run(&engine, &[], "echo fine").line(), "fine");
    engine.ok(["rm", "-f", &id]);
}

/// Processor time that a container uses in two seconds, in seconds.
#[expect(clippy::cast_precision_loss, reason = "a hundredth of a second is near enough")]
fn used(cgroup: &Cgroup) -> f64 {
    let (begun, before) = (Instant::now(), cgroup.cpu_nanoseconds());
    until_true("two seconds are over", || begun.elapsed() >= Duration::from_secs(2));
    (cgroup.cpu_nanoseconds() - before) as f64 / 1e9
}

#[test]
fn half_a_processor_is_half_of_one() {
    let engine = Engine::start().unwrap();
    // On one processor of its own each, so that neither takes the other's time.
    let spin = "while :; do :; done";
    let id = start(&engine, &["--cpus", "0.5"], spin);
    let half = used(&Cgroup::of(&engine, &id));
    engine.ok(["rm", "-f", &id]);
    assert!((0.2..=1.15).contains(&half), "{half} s in 2 s of half a processor");
    let id = start(&engine, &["--cpu-quota", "20000", "--cpu-period", "40000"], spin);
    let cgroup = Cgroup::of(&engine, &id);
    let half = used(&cgroup);
    assert!((0.2..=1.15).contains(&half), "{half} s in 2 s of half a processor");
    // The twin without a limit gets what the other may not use.
    engine.ok(["update", "--cpus", "0.1", &id]);
    let tenth = used(&cgroup);
    engine.ok(["update", "--cpu-quota", "-1", &id]);
    let whole = used(&cgroup);
    engine.ok(["rm", "-f", &id]);
    assert!(tenth < 0.35, "{tenth} s in 2 s of a tenth");
    assert!(whole > 2.0 * tenth, "without a limit {whole} s, with one {tenth} s");
}

#[test]
fn the_choice_of_processors_is_seen_inside() {
    let engine = Engine::start().unwrap();
    let allowed =
        run(&engine, &["--cpuset-cpus", "0", "--cpuset-mems", "0"], "grep _allowed_list /proc/self/status");
    assert_eq!(allowed.stdout, "Cpus_allowed_list:\t0\nMems_allowed_list:\t0\n");
    let absent = run(&engine, &["--cpuset-cpus", "0,999"], "true");
    assert_eq!(absent.code, 125);
    assert!(absent.stderr.contains("999") && absent.stderr.contains("this host has"), "{absent:?}");
}

#[test]
fn limits_are_in_the_kernels_files() {
    let engine = Engine::start().unwrap();
    let id = start(
        &engine,
        &[
            "-m",
            "64m",
            "--memory-swap",
            "96m",
            "--memory-reservation",
            "32m",
            "-c",
            "512",
            "--pids-limit",
            "77",
        ],
        "sleep 1000",
    );
    let cgroup = Cgroup::of(&engine, &id);
    assert_eq!(cgroup.text("pids.max"), "77");
    match cgroup.hierarchy() {
        Hierarchy::Legacy => {
            assert_eq!(cgroup.number("memory.limit_in_bytes"), 64 << 20);
            assert_eq!(cgroup.number("memory.soft_limit_in_bytes"), 32 << 20);
            assert_eq!(cgroup.number("cpu.shares"), 512);
            if cgroup.has("memory.memsw.limit_in_bytes") {
                assert_eq!(cgroup.number("memory.memsw.limit_in_bytes"), 96 << 20);
            }
        }
        Hierarchy::Unified => {
            assert_eq!(cgroup.number("memory.max"), 64 << 20);
            assert_eq!(cgroup.number("memory.low"), 32 << 20);
            assert_eq!(cgroup.number("cpu.weight"), 20);
            if cgroup.has("memory.swap.max") {
                assert_eq!(cgroup.number("memory.swap.max"), 32 << 20);
            }
        }
    }
    let unlimited = start(&engine, &["-m", "64m", "--memory-swap", "-1", "--pids-limit", "-1"], "sleep 1000");
    let cgroup = Cgroup::of(&engine, &unlimited);
    assert_eq!(cgroup.text("pids.max"), "max");
    match cgroup.hierarchy() {
        Hierarchy::Legacy if cgroup.has("memory.memsw.limit_in_bytes") => {
            assert!(cgroup.number("memory.memsw.limit_in_bytes") > 1 << 60);
        }
        Hierarchy::Unified if cgroup.has("memory.swap.max") => {
            assert_eq!(cgroup.text("memory.swap.max"), "max");
        }
        _ => {}
    }
}

#[test]
fn limits_that_cannot_be_are_refused_with_their_names() {
    let engine = Engine::start().unwrap();
    for (flags, named) in [
        (&["--memory", "4m"][..], &["memory", "4194304", "6m"][..]),
        (&["--memory", "64m", "--memory-swap", "32m"], &["memory_swap", "33554432"]),
        (&["--memory-swap", "32m"], &["memory_swap", "33554432"]),
        (&["--cpus", "900"], &["900", "this host has"]),
        (&["--cpu-shares", "1"], &["cpu_shares", "1"]),
        (&["--cpu-quota", "10"], &["cpu_quota", "10"]),
        (&["--blkio-weight", "5"], &["blkio_weight", "5"]),
        (&["--ulimit", "nofile=9:8"], &["nofile=9:8"]),
        (&["--device-read-bps", "/dev/null:1mb"], &["/dev/null", "block device"]),
        (&["--device", "/dev/no-such-device"], &["/dev/no-such-device"]),
        (&["--sysctl", "kernel.core_pattern=x"], &["kernel.core_pattern"]),
        (&["--oom-score-adj", "2000"], &["oom_score_adj", "2000"]),
        (&["--cgroup-parent", "/a/../b"], &["cgroup_parent", "/a/../b"]),
    ] {
        let refused = run(&engine, flags, "true");
        assert_eq!(refused.code, 125, "{flags:?}: {refused:?}");
        for part in named {
            assert!(refused.stderr.contains(part), "{flags:?} names {part}: {refused:?}");
        }
    }
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout, "", "nothing half-made stays");
}

#[test]
fn update_changes_each_limit_live_and_for_the_next_life() {
    let engine = Engine::start().unwrap();
    let id = start(&engine, &["-m", "64m", "--memory-swap", "64m", "--cpu-shares", "512"], "sleep 1000");
    let twin = start(&engine, &[], "sleep 1000");
    engine.ok(["update", "-m", "128m", "--memory-swap", "256m", "--pids-limit", "55", &id, &twin]);
    engine.ok(["update", "--cpus", "0.5", "--cpuset-cpus", "0", "--memory-reservation", "16m", &id]);
    let check = |cgroup: &Cgroup| {
        assert_eq!(cgroup.text("pids.max"), "55");
        assert_eq!(cgroup.text("cpuset.cpus"), "0");
        match cgroup.hierarchy() {
            Hierarchy::Legacy => {
                assert_eq!(cgroup.number("memory.limit_in_bytes"), 128 << 20);
                assert_eq!(cgroup.number("memory.soft_limit_in_bytes"), 16 << 20);
                assert_eq!(cgroup.number("cpu.cfs_quota_us"), 50_000);
                assert_eq!(cgroup.number("cpu.shares"), 512, "what is not named stays");
            }
            Hierarchy::Unified => {
                assert_eq!(cgroup.number("memory.max"), 128 << 20);
                assert_eq!(cgroup.number("memory.low"), 16 << 20);
                assert_eq!(cgroup.text("cpu.max"), "50000 100000");
                assert_eq!(cgroup.number("cpu.weight"), 20, "what is not named stays");
            }
        }
    };
    check(&Cgroup::of(&engine, &id));
    assert_eq!(Cgroup::of(&engine, &twin).text("pids.max"), "55");
    assert_eq!(engine.field(&id, "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"), "134217728 55");
    engine.ok(["restart", "-t", "0", &id]);
    check(&Cgroup::of(&engine, &id));
    // One that is stopped gets its limits at the next start.
    engine.ok(["stop", "-t", "0", &twin]);
    engine.ok(["update", "--pids-limit", "33", &twin]);
    engine.ok(["start", &twin]);
    assert_eq!(Cgroup::of(&engine, &twin).text("pids.max"), "33");
}

#[test]
fn memory_in_use_is_not_taken_away_by_an_update() {
    let engine = Engine::start().unwrap();
    // Held in a tmpfs, which cannot be given back without swap.
    let id = start(
        &engine,
        &["-m", "128m", "--memory-swap", "128m", "--shm-size", "96m"],
        "head -c 60000000 /dev/zero > /dev/shm/held; echo held; sleep 1000",
    );
    until_true("memory is held", || engine.ok(["logs", &id]).stdout.contains("held"));
    let refused = engine.davit(["update", "-m", "16m", "--memory-swap", "16m", &id]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("16777216") && refused.stderr.contains("in use"), "{refused:?}");
    assert_eq!(engine.field(&id, "{{.State.Running}} {{.HostConfig.Memory}}"), "true 134217728");
    let cgroup = Cgroup::of(&engine, &id);
    let file = if cgroup.hierarchy() == Hierarchy::Legacy { "memory.limit_in_bytes" } else { "memory.max" };
    assert_eq!(cgroup.number(file), 128 << 20, "the old limit holds");
}

/// A block device of the host with a file system on it: where the tests' folder is.
fn disk(engine: &Engine) -> Option<String> {
    let listed =
        engine.host().command("findmnt").args(["-no", "SOURCE", "--target"]).arg(engine.root()).output();
    let device = String::from_utf8_lossy(&listed.ok()?.stdout).trim().to_owned();
    (device.starts_with("/dev/") && std::path::Path::new(&device).exists()).then_some(device)
}

#[test]
fn block_devices_are_throttled() {
    let engine = Engine::start().unwrap();
    let Some(disk) = disk(&engine) else {
        eprintln!("skipped: the tests' folder is on no block device");
        return;
    };
    let rate = |rate: &str| format!("{disk}:{rate}");
    let flags = ["--device-write-bps", &rate("1mb"), "--device-read-iops", &rate("1000")];
    let script = "dd if=/dev/zero of=/file bs=256k count=12 oflag=direct 2>/dev/null || dd if=/dev/zero of=/file bs=256k \
        count=12 conv=fsync 2>/dev/null; echo done; sleep 1000";
    let id = start(&engine, &flags, script);
    let cgroup = Cgroup::of(&engine, &id);
    match cgroup.hierarchy() {
        Hierarchy::Legacy => {
            assert!(cgroup.text("blkio.throttle.write_bps_device").ends_with(" 1048576"));
            assert!(cgroup.text("blkio.throttle.read_iops_device").ends_with(" 1000"));
        }
        Hierarchy::Unified => {
            let limits = cgroup.text("io.max");
            assert!(limits.contains("wbps=1048576") && limits.contains("riops=1000"), "{limits}");
        }
    }
    let begun = Instant::now();
    until_true("3 MB are written", || engine.ok(["logs", &id]).stdout.contains("done"));
    let slow = begun.elapsed();
    let id = start(&engine, &[], script);
    let begun = Instant::now();
    until_true("3 MB are written", || engine.ok(["logs", &id]).stdout.contains("done"));
    let fast = begun.elapsed();
    assert!(slow > Duration::from_millis(1500) && slow > 2 * fast, "throttled {slow:?}, free {fast:?}");
}

#[test]
fn devices_are_allowed_and_denied() {
    let engine = Engine::start().unwrap();
    // The kernel's log: every host has it, and writing to it asks for no further right.
    let open = "(: > /dev/x) 2>&1 && echo opened";
    let made = |rule: &[&str]| {
        let flags = [&["--cap-add", "MKNOD"], rule].concat();
        run(&engine, &flags, &format!("mknod /dev/x c 1 11; {open}")).stdout
    };
    assert!(!made(&[]).contains("opened"), "a node that one makes oneself opens nothing");
    let ruled = made(&["--device-cgroup-rule", "c 1:11 w"]);
    assert!(ruled.contains("opened"), "{ruled}");
    let given = run(&engine, &["--device", "/dev/kmsg:/dev/x:w"], open);
    assert!(given.stdout.contains("opened"), "{given:?}");
    let write = run(&engine, &["--device", "/dev/kmsg:/dev/x:r"], open);
    assert!(!write.stdout.contains("opened"), "only reading was allowed: {write:?}");
    let all = run(&engine, &["--privileged"], "(: > /dev/kmsg) 2>&1 && echo opened");
    assert!(all.stdout.contains("opened"), "{all:?}");
}

#[test]
fn what_a_process_may_do_is_seen_inside() {
    let engine = Engine::start().unwrap();
    let limits = run(
        &engine,
        &["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "nproc=500"],
        "ulimit -Sn; ulimit -Hn; ulimit -c; grep processes /proc/self/limits | tr -s ' '",
    );
    assert_eq!(limits.stdout, "100\n200\n0\nMax processes 500 500 processes \n");
    let flags = ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=4242"];
    let set = run(&engine, &flags, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax");
    assert_eq!(set.stdout, "1\n4242\n");
    let score = run(&engine, &["--oom-score-adj", "700"], "cat /proc/self/oom_score_adj");
    assert_eq!(score.line(), "700");
    let shm = run(&engine, &["--shm-size", "1m"], "df -k /dev/shm | tail -1 | awk '{print $2}'");
    assert_eq!(shm.line(), "1024", "{shm:?}");
    assert_eq!(run(&engine, &[], "df -k /dev/shm | tail -1 | awk '{print $2}'").line(), "65536");
    let groups = run(&engine, &["--group-add", "4321", "--group-add", "www"], "id -G");
    assert!(groups.stdout.contains("4321"), "{groups:?}");
    let stop = start(
        &engine,
        &["--stop-signal", "USR1", "--stop-timeout", "20"],
        "trap 'exit 7' USR1; echo up; while :; do sleep 0.1; done",
    );
    until_true("the trap is set", || engine.ok(["logs", &stop]).stdout.contains("up"));
    engine.ok(["stop", &stop]);
    assert_eq!(engine.field(&stop, "{{.State.ExitCode}}"), "7");
}

#[test]
fn names_and_resolvers_are_as_asked() {
    let engine = Engine::start().unwrap();
    let files = run(
        &engine,
        &[
            "-h",
            "box",
            "--domainname",
            "example.org",
            "--add-host",
            "db:10.1.2.3",
            "--dns",
            "10.9.9.9",
            "--dns-search",
            "example.org",
            "--dns-option",
            "ndots:3",
        ],
        "hostname; cat /proc/sys/kernel/domainname; cat /etc/hosts /etc/resolv.conf",
    );
    for line in ["box", "example.org", "10.1.2.3\tdb", "search example.org", "options ndots:3"] {
        assert!(files.stdout.lines().any(|seen| seen == line), "{line}: {files:?}");
    }
}

#[test]
fn processes_memory_and_names_are_shared_with_another_container() {
    let engine = Engine::start().unwrap();
    let owner = start(
        &engine,
        &["--name", "owner", "--ipc", "shareable", "-h", "ours"],
        "echo secret > /dev/shm/note; exec sleep 1234",
    );
    until_true("the note is written", || engine.processes_with("sleep 1234").len() == 1);
    let with =
        |flag: &str| run(&engine, &[flag, "container:owner"], "ps; cat /dev/shm/note; hostname; true").stdout;
    let seen = with("--pid");
    assert!(seen.contains("sleep 1234") && !seen.contains("secret"), "{seen}");
    let seen = with("--ipc");
    assert!(seen.contains("secret") && !seen.contains("sleep 1234"), "{seen}");
    let seen = with("--uts");
    assert!(seen.ends_with("ours\n"), "{seen}");
    // Ended by the shared signal of its own init only.
    let joined = start(&engine, &["--pid", "container:owner"], "exec sleep 4321");
    engine.ok(["rename", "owner", "renamed"]);
    engine.ok(["restart", "-t", "0", &joined]);
    assert_eq!(
        engine.field(&joined, "{{.State.Running}} {{.HostConfig.PidMode}}"),
        format!("true container:{owner}")
    );
    engine.ok(["rm", "-f", &joined]);
    assert!(engine.processes_with("sleep 4321").is_empty());
    assert_eq!(engine.field(&owner, "{{.State.Running}}"), "true");
    // An owner's end takes those who live among its processes.
    let joined = start(&engine, &["--pid", "container:renamed"], "exec sleep 4321");
    engine.ok(["kill", &owner]);
    assert_eq!(engine.ok(["wait", &joined]).line(), "137");
    let refused = run(&engine, &["--pid", "container:renamed"], "true");
    assert!(refused.code == 125 && refused.stderr.contains("not running"), "{refused:?}");
    let private = start(&engine, &["--name", "private"], "sleep 1000");
    let refused = run(&engine, &["--ipc", "container:private"], "true");
    assert!(refused.code == 125 && refused.stderr.contains("shareable"), "{refused:?}");
    engine.ok(["rm", "-f", &private]);
}

#[test]
fn a_network_is_shared_with_another_container() {
    let engine = Engine::start().unwrap();
    let owner = start(&engine, &["--name", "owner"], SERVE);
    let address = engine.field(&owner, "{{.NetworkSettings.IPAddress}}");
    let script = "grep -c . /proc/net/dev; until wget -qO- http://127.0.0.1/; do sleep 0.1; done; hostname; cat /etc/hosts";
    let seen = run(&engine, &["--network", "container:owner"], script);
    assert!(seen.stdout.contains("hello") && seen.stdout.contains(&address), "{address}: {seen:?}");
    assert!(seen.stdout.contains(&owner[..12]), "the name is the owner's: {seen:?}");
    let refused = run(&engine, &["--network", "container:owner", "-p", "80"], "true");
    assert!(refused.code == 125 && refused.stderr.contains("conflicting options"), "{refused:?}");
    let refused = run(&engine, &["--network", "container:nobody"], "true");
    assert!(refused.code == 125 && refused.stderr.contains("nobody"), "{refused:?}");
}

#[test]
fn the_hosts_processes_and_names_are_shared_and_go_with_their_shim() {
    let engine = Engine::start().unwrap();
    let id =
        start(&engine, &["--pid", "host", "--uts", "host", "--ipc", "host"], "sleep 7777 & exec sleep 7778");
    let seen = run(&engine, &["--pid", "host"], "ps").stdout;
    assert!(seen.contains("davitd") && seen.contains("sleep 7778"), "{seen}");
    let shim = engine.field(&id, "{{.State.Pid}}");
    assert_ne!(shim, "0");
    // Not nested in the shim's process namespace: a guard ends it with the shim.
    let shims = engine.processes_with(&format!("serve --id {id}"));
    assert_eq!(shims.len(), 1, "{shims:?}");
    engine.kill_on_host(&shims[0].to_string()).unwrap();
    until_true("all of it ended", || {
        engine.processes_with("sleep 7777").is_empty() && engine.processes_with("sleep 7778").is_empty()
    });
}

#[test]
fn a_container_is_made_below_the_cgroup_that_was_asked_for() {
    let engine = Engine::start().unwrap();
    let below = format!("/{}/team/blue", engine.host().name());
    let id = start(&engine, &["--cgroup-parent", "team/blue", "--pids-limit", "31"], "sleep 1000");
    let cgroup = Cgroup::at(&format!("{below}/{id}"));
    assert_eq!(cgroup.text("pids.max"), "31");
    let other = start(&engine, &["--cgroup-parent", &below, "--pids-limit", "32"], "sleep 1000");
    let second = Cgroup::at(&format!("{below}/{other}"));
    assert_eq!(second.text("pids.max"), "32");
    engine.ok(["rm", "-f", &id, &other]);
    assert!(!cgroup.exists() && !second.exists(), "cgroups go with their containers");
}

#[test]
fn killing_for_want_of_memory_is_switched_off_where_the_kernel_can() {
    let engine = Engine::start().unwrap();
    let answer = run(&engine, &["-m", "32m", "--oom-kill-disable"], "echo started");
    if Hierarchy::of_this_host() == Hierarchy::Legacy {
        assert_eq!(answer.line(), "started", "{answer:?}");
    } else {
        assert_eq!(answer.code, 125);
        assert!(answer.stderr.contains("cgroup v2"), "{answer:?}");
    }
}

#[test]
fn stats_are_real() {
    let engine = Engine::start().unwrap();
    let busy = start(
        &engine,
        &["--name", "busy", "-m", "64m"],
        "head -c 20000000 /dev/zero > /dev/shm/x; while :; do :; done",
    );
    let idle = start(&engine, &["--name", "idle"], "sleep 1000 & sleep 1000 & wait");
    let ended = start(&engine, &["--name", "ended"], "true");
    engine.ok(["wait", &ended]);
    let rows = until("the busy one holds its memory", || {
        let shown = engine.ok(["stats", "--no-stream", "--format", "json"]).stdout;
        let rows: Vec<serde_json::Value> =
            shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let busy = rows.iter().find(|row| row["Name"] == "busy")?;
        let percent: f64 = busy["MemPerc"].as_str()?.trim_end_matches('%').parse().ok()?;
        (percent > 20.0).then_some(rows)
    });
    assert_eq!(rows.len(), 2, "only those that run: {rows:?}");
    let of = |name: &str| rows.iter().find(|row| row["Name"] == name).unwrap();
    let percent = |row: &serde_json::Value| {
        row["CPUPerc"].as_str().unwrap().trim_end_matches('%').parse::<f64>().unwrap()
    };
    assert!(percent(of("busy")) > 10.0 && percent(of("idle")) < 10.0, "{rows:?}");
    assert!(of("busy")["MemUsage"].as_str().unwrap().ends_with("/ 64MiB"), "{rows:?}");
    assert!(
        of("busy")["ID"].as_str().unwrap() == &busy[..12]
            && idle.starts_with(of("idle")["ID"].as_str().unwrap())
    );
    assert_eq!(of("idle")["PIDs"], "3");
    let all = engine.ok(["stats", "--no-stream", "-a", "--no-trunc"]).stdout;
    let heads: Vec<&str> =
        all.lines().next().unwrap().split("  ").map(str::trim).filter(|h| !h.is_empty()).collect();
    assert_eq!(
        heads,
        ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]
    );
    let stopped = all.lines().find(|line| line.starts_with(&ended)).unwrap();
    assert!(stopped.contains("--"), "{all}");
    let bytes = engine.ok(["stats", "--no-stream", "--format", "{{.NetIO}}", "busy"]).stdout;
    assert!(bytes.contains('/') && bytes.contains('B'), "{bytes}");
    assert_eq!(engine.davit(["stats", "--no-stream", "nobody"]).code, 1);
}

#[test]
fn traffic_is_counted() {
    let engine = Engine::start().unwrap();
    let id = start(&engine, &["--name", "server"], SERVE);
    let address = engine.field(&id, "{{.NetworkSettings.IPAddress}}");
    let ask =
        format!("until [ $(wget -qO- http://{address}/big | wc -c) = 3000000 ]; do sleep 0.1; done; echo ok");
    let fetched = run(&engine, &[], &ask);
    assert_eq!(fetched.line(), "ok", "{fetched:?}");
    let shown = engine.ok(["stats", "--no-stream", "--format", "{{.NetIO}}", "server"]).stdout;
    let sent = shown.trim().split(" / ").nth(1).unwrap();
    assert!(sent.ends_with("MB") && sent.trim_end_matches("MB").parse::<f64>().unwrap() >= 3.0, "{shown}");
}

#[test]
fn top_lists_the_processes_as_the_host_sees_them() {
    let engine = Engine::start().unwrap();
    let id = start(
        &engine,
        &["-u", "33"],
        "sleep 5551 & sh -c 'exec sleep 5552' \"$(printf 'a\\033[2Jb')\" & wait",
    );
    let top = until("all run", || {
        let answer = engine.davit(["top", &id]);
        (answer.stdout.contains("sleep 5552")).then_some(answer.stdout)
    });
    let mut lines = top.lines();
    let heads: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(heads, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{top}");
    let init = engine.field(&id, "{{.State.Pid}}");
    assert!(
        rows.iter().any(|row| row[1] == init) && rows.iter().filter(|row| row[2] == init).count() == 2,
        "{top}"
    );
    assert!(!top.contains('\u{1b}'), "what drives a terminal is written out");
    let chosen = engine.ok(["top", &id, "-eo", "pid,uid,comm"]).stdout;
    assert!(
        chosen.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == [init.as_str(), "33", "sh"]),
        "{chosen}"
    );
    assert!(engine.ok(["top", &id, "aux"]).stdout.starts_with("USER"));
    let refused = engine.davit(["top", &id, "--forest"]);
    assert!(refused.code == 1 && refused.stderr.contains("--forest"), "{refused:?}");
    engine.ok(["rm", "-f", &id]);
    assert_eq!(engine.davit(["top", &id]).code, 1);
}
