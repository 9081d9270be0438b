//! What every container is confined by, told by what the first program inside sees.

use std::fs;

use davit_tests::scene::{Entry, SECRET, Scene};
use davit_tests::wait::until_true;
use serde_json::{Value, json};

/// Printed by the first program inside, line by line.
const REPORT: &str = r#"
s=/proc/self/status
for k in Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp; do
    while read -r key rest; do [ "$key" = "$k:" ] && echo "$k=$(echo $rest)"; done < $s
done
fds=; for f in /proc/$$/fd/*; do n=${f##*/}; [ "$n" -le 2 ] && fds="$fds $n" || readlink $f > /dev/null && [ "$n" -gt 2 ] && [ -e $f ] && fds="$fds $n"; done; echo "fds=$fds"
echo "umask=$(umask) core=$(ulimit -c) cwd=$(pwd)"
for p in acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats; do
    [ -d /proc/$p ] && [ -n "$(ls -A /proc/$p)" ] && echo "shown /proc/$p"
    [ -f /proc/$p ] && [ -n "$(head -c1 /proc/$p)" ] && echo "shown /proc/$p"
done
for d in /sys/firmware /sys/devices/virtual/powercap /sys/devices/system/cpu/cpu*/thermal_throttle; do
    [ -d $d ] && [ -n "$(ls -A $d)" ] && echo "shown $d"
done
for w in /proc/sys/kernel/core_pattern /proc/sys/kernel/printk /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/profiling /sys/kernel/uevent_helper /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/devices/devices.allow; do
    [ -e $w ] && (: > $w) 2>/dev/null && echo "writable $w"
done
for d in /proc/bus /proc/fs /proc/irq /proc/sys /sys /sys/fs/cgroup; do mkdir $d/x 2>/dev/null && echo "made $d/x"; done
while read -r source target kind options rest; do
    case $target in /proc|/sys|/dev|/dev/pts|/dev/shm|/dev/mqueue) echo "$target=$kind $(echo $options | tr , '\n' | grep -E '^(ro|rw|nosuid|nodev|noexec)$' | tr '\n' ' ')" ;; esac
done < /proc/mounts
echo "dev=$(echo $(ls /dev))"
for d in null zero full random urandom; do (: < /dev/$d) || echo "closed $d"; done
for n in "b 8 0" "b 254 0" "c 1 1" "c 1 11" "c 10 200" "c 10 229" "c 4 0"; do
    mknod /tmp/node $n 2>/dev/null && { (: < /tmp/node) 2>/dev/null && echo "opened $n"; rm -f /tmp/node; }
done
unshare -Ur true 2>/dev/null && echo "unshared"
mount -t tmpfs t /tmp 2>/dev/null && echo "mounted"
for n in pid net ipc uts mnt cgroup; do echo "ns $(readlink /proc/self/ns/$n)"; done
"#;

/// What the report says of a container with the default capabilities.
fn assert_confined(report: &str, uid: &str, groups: &str) {
    let line = |key: &str| {
        let found = report.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{key} in {report}")).trim().to_owned()
    };
    let caps = if uid == "0" { "00000000a80425fb" } else { "0000000000000000" };
    assert_eq!(line("Uid"), [uid; 4].join(" "));
    assert_eq!(line("Groups"), groups);
    assert_eq!(line("CapEff"), caps);
    assert_eq!(line("CapPrm"), caps);
    assert_eq!(line("CapBnd"), "00000000a80425fb");
    assert_eq!((line("CapInh"), line("CapAmb")), ("0".repeat(16), "0".repeat(16)));
    assert_eq!((line("NoNewPrivs").as_str(), line("Seccomp").as_str()), ("0", "2"));
    assert_eq!(line("fds"), "0 1 2");
    assert_eq!(line("umask"), "0022 core=0 cwd=/");
    assert_eq!(line("/proc"), "proc rw nosuid nodev noexec");
    assert_eq!(line("/sys"), "sysfs ro nosuid nodev noexec");
    assert_eq!(line("/dev"), "tmpfs rw nosuid noexec");
    assert_eq!(line("/dev/pts"), "devpts rw nosuid noexec");
    assert_eq!(line("/dev/shm"), "tmpfs rw nosuid nodev noexec");
    assert_eq!(line("/dev/mqueue"), "mqueue rw nosuid nodev noexec");
    assert_eq!(
        line("dev"),
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
    for never in ["shown ", "writable ", "made ", "closed ", "opened ", "unshared", "mounted"] {
        assert!(!report.lines().any(|l| l.starts_with(never)), "{never:?} in {report}");
    }
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let inside = report.lines().find_map(|l| l.strip_prefix("ns ").filter(|n| n.starts_with(kind)));
        assert_ne!(inside.expect(kind), host.to_str().unwrap());
    }
}

#[test]
fn every_container_is_confined() {
    let scene = Scene::new();
    let report = |words: &[&str]| {
        let answer = scene.run(&[words, &["busybox", "sh", "-c", REPORT]].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.stdout
    };
    assert_confined(&report(&[]), "0", "");
    assert_confined(&report(&["-u", "www"]), "33", "29");
    assert_confined(&report(&["-u", "33:33"]), "33", "");
    assert_confined(&report(&["-u", "1234", "--group-add", "7"]), "1234", "7");
    assert_confined(&report(&["--userns", "auto"]), "0", "");
    assert_confined(&report(&["--init"]), "0", "");
}

#[test]
fn every_added_process_is_confined() {
    let scene = Scene::new();
    for (name, more) in [("plain", &[][..]), ("mapped", &["--userns", "auto"]), ("reaped", &["--init"])] {
        let begin = [&["run", "-d", "--name", name], more].concat();
        scene.engine.ok([&begin[..], &["busybox", "sleep", "9002"]].concat());
        let report = |words: &[&str]| {
            let answer = scene.engine.davit([&["exec"], words, &[name, "sh", "-c", REPORT]].concat());
            assert_eq!(answer.code, 0, "{name}: {answer:?}");
            answer.stdout
        };
        assert_confined(&report(&[]), "0", "");
        assert_confined(&report(&["-u", "www"]), "33", "29");
        let again =
            scene.engine.davit(["exec", "-u", "33", name, "sh", "-c", "echo again > /dev/stdout; id -u"]);
        assert_eq!(again.stdout, "again\n33\n", "{name}: {again:?}");
        let terminal = scene.engine.davit([
            "exec",
            "-t",
            name,
            "sh",
            "-c",
            "stat -c %u $(tty); : > /dev/tty && echo mine",
        ]);
        assert_eq!(terminal.stdout, "0\r\nmine\r\n", "{name}: {terminal:?}");
        for bad in ["/proc/self/fd/7", "/proc/1/cwd", "/proc/self/root"] {
            let answer = scene.engine.davit(["exec", "-w", bad, name, "pwd"]);
            assert_ne!(answer.code, 0, "{name}: {bad}: {answer:?}");
        }
        let script = "for p in /proc/[0-9]*; do (: >> $p/exe) 2>/dev/null && echo wrote; done; echo done";
        assert_eq!(scene.engine.ok(["exec", name, "sh", "-c", script]).stdout, "done\n");
    }
    let status = |words: &[&str]| {
        let script = "grep -E '^(Uid|CapEff|Seccomp:)' /proc/self/status | tr -d '\\n\\t'";
        scene.engine.davit([&["exec"], words, &["sh", "-c", script]].concat())
    };
    let all = fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find_map(|l| l.strip_prefix("CapPrm:\t")).unwrap().to_owned();
    assert!(status(&["--privileged", "plain"]).stdout.contains(&format!("CapEff:{all}")));
    let answer = status(&["--privileged", "mapped"]);
    assert!(answer.code != 0 && answer.stderr.contains("user namespace"), "{answer:?}");
    scene.engine.ok(["rm", "-f", "plain", "mapped", "reaped"]);
}

#[test]
fn every_health_check_is_confined() {
    let scene = Scene::new();
    for (name, more) in [("plain", &[][..]), ("mapped", &["--userns", "auto"])] {
        let begin = ["run", "-d", "--name", name, "--health-interval", "300ms", "--health-cmd", REPORT];
        scene.engine.ok([&begin[..], more, &["busybox", "sleep", "9003"]].concat());
        let first = "{{with .State.Health.Log}}{{(index . 0).ExitCode}} {{(index . 0).Output}}{{end}}";
        let mut report = String::new();
        until_true("a check is over", || {
            report = scene.engine.field(name, first);
            !report.is_empty()
        });
        assert_confined(&report.replacen("0 Uid", "Uid", 1), "0", "");
    }
    scene.engine.ok(["rm", "-f", "plain", "mapped"]);
}

#[test]
fn nothing_of_the_hosts_environment_appears() {
    let scene = Scene::new();
    let mut command =
        scene.engine.command(["run", "--rm", "-e", "GIVEN", "-e", "ODD=a=b\nc", "busybox", "env"]);
    let out = command.env("GIVEN", "1").env("HOST_SECRET", SECRET).env("LD_PRELOAD_X", "1").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let mut names: Vec<_> = text.lines().map(|l| l.split('=').next().unwrap_or_default()).collect();
    names.sort_unstable();
    // The second line of the odd one has no name: it is no variable of its own.
    assert_eq!(names, ["GIVEN", "HOME", "HOSTNAME", "ODD", "PATH", "c"], "{text}");
    assert!(text.contains("ODD=a=b\nc\n"), "{text}");
}

#[test]
fn capabilities_as_docker_gives_them() {
    let scene = Scene::new();
    let effective = |words: &[&str]| {
        let script = "grep -E '^Cap(Eff|Bnd)' /proc/self/status | tr -d '\\n\\t'";
        scene.run(&[words, &["busybox", "sh", "-c", script]].concat()).stdout
    };
    let both = |set: u64| format!("CapEff:{set:016x}CapBnd:{set:016x}");
    assert_eq!(effective(&["--cap-drop", "all"]), both(0));
    assert_eq!(
        effective(&["--cap-drop", "ALL", "--cap-add", "cap_net_raw", "--cap-add", "Chown"]),
        both(1 << 13 | 1)
    );
    assert_eq!(effective(&["--cap-drop", "CAP_MKNOD"]), both(0xa804_25fb & !(1 << 27)));
    assert_eq!(
        effective(&["--cap-add", "NET_ADMIN", "-u", "5"]),
        format!("CapEff:{:016x}CapBnd:{:016x}", 0, 0xa804_25fb_u64 | 1 << 12),
        "a user that is not root has none"
    );
    scene.refused(&["--cap-add", "NET_ADMINS", "busybox", "true"], "NET_ADMINS");
    let all = fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find_map(|l| l.strip_prefix("CapPrm:\t")).unwrap().to_owned();
    for words in [&["--privileged"][..], &["--cap-add", "ALL"]] {
        assert_eq!(effective(words), format!("CapEff:{all}CapBnd:{all}"), "{words:?}");
    }
    let open = scene.run(&["--privileged", "busybox", "sh", "-c",
        "grep -c . /proc/keys; (: < /dev/zero) && mkdir /sys/fs/cgroup/pids/x && rmdir /sys/fs/cgroup/pids/x && echo cgroups; \
         mount -t tmpfs t /tmp && echo mounted; grep Seccomp: /proc/self/status"]);
    assert!(open.stdout.ends_with("cgroups\nmounted\nSeccomp:\t0\n"), "{open:?}");
}

#[test]
fn seccomp_profiles_in_dockers_form() {
    let scene = Scene::new();
    let profile = scene.engine.host().folder().join("profile.json");
    let option = format!("seccomp={}", profile.display());
    let with = |text: &Value, words: &[&str]| {
        fs::write(&profile, text.to_string()).unwrap();
        scene.run(&[&["--security-opt", &option], words].concat())
    };
    let rule = |rule: Value| {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
            "syscalls": [rule],
        })
    };
    let mkdir = ["busybox", "sh", "-c", "mkdir /tmp/a 2>&1; echo on"];
    let full = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28});
    let out = with(&rule(full.clone()), &mkdir).stdout;
    assert!(out.contains("No space left") && out.ends_with("on\n"), "{out}");
    let mut only_with = full.clone();
    only_with["includes"] = json!({"caps": ["CAP_SYS_ADMIN"], "minKernel": "4.8"});
    assert_eq!(with(&rule(only_with.clone()), &mkdir).stdout, "on\n");
    let admin = [&["--cap-add", "SYS_ADMIN"][..], &mkdir].concat();
    assert!(with(&rule(only_with), &admin).stdout.contains("No space left"));
    let mut but_with = full;
    but_with["excludes"] = json!({"caps": ["CAP_CHOWN"]});
    assert_eq!(with(&rule(but_with), &mkdir).stdout, "on\n");
    // By an argument: mode 0700 only.
    let modes = json!({"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
        "args": [{"index": 1, "value": 0o700, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 0o700, "op": "SCMP_CMP_EQ"}]});
    // Both indexes must hold, so nothing matches; of one index twice, any does.
    let chmod = ["busybox", "sh", "-c", "chmod 700 /etc/passwd 2>&1 && chmod 711 /etc/passwd && echo on"];
    assert_eq!(with(&rule(modes.clone()), &chmod).stdout, "on\n");
    let mut any = modes;
    any["args"] = json!([{"index": 1, "value": 0o700, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 0o722, "op": "SCMP_CMP_EQ"}]);
    assert!(with(&rule(any), &chmod).stdout.contains("No space left"));
    let kill = with(
        &rule(json!({"name": "mkdir", "action": "SCMP_ACT_KILL_PROCESS"})),
        &["busybox", "sh", "-c", "mkdir /tmp/x; echo $?"],
    );
    assert_eq!(kill.stdout, "159\n", "{kill:?}");

    for (bad, said) in [
        (rule(json!({"names": ["ptrace"], "action": "SCMP_ACT_DENY"})), "\"SCMP_ACT_DENY\" of \"ptrace\""),
        (rule(json!({"names": ["mount"], "action": "SCMP_ACT_NOTIFY"})), "SCMP_ACT_NOTIFY (of \"mount\")"),
        (json!({"syscalls": []}), "defaultAction"),
    ] {
        let answer = with(&bad, &["busybox", "true"]);
        assert!(answer.code == 125 && answer.stderr.contains(said), "{said}: {answer:?}");
    }
}

#[test]
fn other_security_options() {
    let scene = Scene::new();
    let seccomp = |words: &[&str]| {
        scene
            .run(&[words, &["busybox", "grep", "-E", "Seccomp:|NoNewPrivs", "/proc/self/status"]].concat())
            .stdout
    };
    assert_eq!(seccomp(&["--security-opt", "seccomp=unconfined"]), "NoNewPrivs:\t0\nSeccomp:\t0\n");
    assert_eq!(seccomp(&["--security-opt", "no-new-privileges"]), "NoNewPrivs:\t1\nSeccomp:\t2\n");
    assert_eq!(
        seccomp(&["--security-opt", "apparmor=unconfined", "--security-opt", "label=disable"]),
        "NoNewPrivs:\t0\nSeccomp:\t2\n"
    );
    scene.refused(
        &["--security-opt", "apparmor=docker-default", "busybox", "true"],
        "AppArmor profiles are not served",
    );
    scene.refused(&["--security-opt", "label=type:x", "busybox", "true"], "SELinux labels are not served");
    scene.refused(&["--security-opt", "seccomp=/no/such", "busybox", "true"], "/no/such");
}

#[test]
fn masks_come_and_go_as_asked() {
    let scene = Scene::new();
    let seen =
        |words: &[&str], script: &str| scene.run(&[words, &["busybox", "sh", "-c", script]].concat()).stdout;
    assert_eq!(
        seen(
            &["--security-opt", "mask=/etc/passwd:/home"],
            "cat /etc/passwd; ls -A /home; mount | grep -cE ' /(etc/passwd|home) '"
        ),
        "2\n"
    );
    assert_eq!(
        seen(
            &["--security-opt", "unmask=/proc/k*"],
            "[ -s /proc/keys ] || head -c1 /proc/keys | wc -c; head -c1 /proc/timer_list | wc -c"
        )
        .lines()
        .last(),
        Some("0")
    );
    let writable = "(: > /proc/sys/net/ipv4/ip_forward) && echo open";
    assert_eq!(seen(&["--security-opt", "unmask=/proc/sys"], writable), "open\n");
    assert_eq!(seen(&["--security-opt", "systempaths=unconfined"], writable), "open\n");
    assert_eq!(
        seen(&["--security-opt", "unmask=ALL", "--security-opt", "mask=/proc/sys"], "ls -A /proc/sys"),
        ""
    );
    let cgroup = "for d in /sys/fs/cgroup/pids /sys/fs/cgroup; do mkdir $d/x 2>/dev/null && rmdir $d/x && echo made && break; done";
    assert_eq!(seen(&["--security-opt", "writable-cgroups=true"], cgroup), "made\n");
    assert_eq!(seen(&[], cgroup), "");
    // A mask that an image replaces by a link hides what the link leads to, inside.
    let image = scene.image(
        &json!({}),
        &[Entry::Link("hidden", "/etc/group"), Entry::Link("away", "/../../../../../../etc/hostname")],
    );
    let out = scene.run(&[
        "--security-opt",
        "mask=/hidden:/away",
        &image,
        "sh",
        "-c",
        "cat /etc/group /etc/hostname",
    ]);
    assert_eq!((out.code, out.stdout.as_str()), (0, ""));
}
