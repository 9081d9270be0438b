//! What hostile images and requests must not reach, and what every container is confined by: the rows of the threat
//! model that are about start, told by what the first program inside sees.
//!
//! Beside each scene stands a canary, a file of the host that must not change, and a secret, one that must not be
//! seen inside. What a shape or a spec alone can show is tested at the shim (`shim/tests/start`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use davit_tests::engine::{Answer, Engine};
use davit_tests::image::{Compression, Layout, append, busybox_layer};
use davit_tests::wait::until_true;
use serde_json::{Value, json};

/// An engine with a canary and a secret beside it.
struct Scene {
    engine: Engine,
    number: std::cell::Cell<u32>,
}

const SECRET: &str = "never-to-be-seen-inside-4711";

/// One entry of an image's last layer.
enum Entry<'a> {
    Link(&'a str, &'a str),
    File(&'a str, &'a str),
    Folder(&'a str),
    Fifo(&'a str),
}

impl Scene {
    fn new() -> Self {
        let engine = Engine::start().unwrap();
        fs::create_dir(engine.host().folder().join("outside")).unwrap();
        let scene = Self { engine, number: std::cell::Cell::new(0) };
        fs::write(scene.canary(), SECRET).unwrap();
        scene
    }

    fn canary(&self) -> PathBuf {
        self.engine.host().folder().join("outside/canary")
    }

    /// Loads an image of busybox with more in it.
    fn image(&self, config: &Value, entries: &[Entry<'_>]) -> String {
        self.number.set(self.number.get() + 1);
        let name = format!("hostile:{}", self.number.get());
        let folder = self.engine.host().folder().join(format!("layout{}", self.number.get()));
        let mut layout = Layout::new(folder.clone()).unwrap();
        layout.layer(&busybox_layer().unwrap(), Compression::None).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        for entry in entries {
            match entry {
                Entry::File(path, text) => {
                    append(&mut tar, path, tar::EntryType::Regular, 0o755, text.as_bytes()).unwrap();
                }
                Entry::Folder(path) => {
                    append(&mut tar, path, tar::EntryType::Directory, 0o755, b"").unwrap();
                }
                Entry::Fifo(path) => append(&mut tar, path, tar::EntryType::Fifo, 0o666, b"").unwrap(),
                Entry::Link(path, target) => {
                    // A folder of the layer below is not replaced by a link of the same name, but after a whiteout.
                    let (parent, leaf) = path.rsplit_once('/').unwrap_or(("", path));
                    let whiteout = format!("{parent}/.wh.{leaf}");
                    let whiteout = whiteout.trim_start_matches('/');
                    append(&mut tar, whiteout, tar::EntryType::Regular, 0o644, b"").unwrap();
                    let mut header = tar::Header::new_gnu();
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    header.set_mode(0o777);
                    tar.append_link(&mut header, path, target).unwrap();
                }
            }
        }
        layout.layer(&tar.into_inner().unwrap(), Compression::None).unwrap();
        layout.finish(&name, config).unwrap();
        let archive = self.engine.host().folder().join("image.tar");
        let packed = Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&archive).arg(".").status();
        assert!(packed.unwrap().success());
        self.engine.ok(["load", "-q", "-i", &archive.display().to_string()]);
        name
    }

    fn run(&self, words: &[&str]) -> Answer {
        let answer = self.engine.davit(["run", "--rm"].iter().chain(words).copied());
        assert!(!answer.stdout.contains(SECRET), "the secret was seen: {words:?} {answer:?}");
        assert_eq!(fs::read_to_string(self.canary()).unwrap(), SECRET, "the canary changed: {words:?}");
        answer
    }

    /// It must be the engine that refuses, with one clear sentence.
    fn refused(&self, words: &[&str], with: &str) {
        let answer = self.run(words);
        assert_eq!(answer.code, 125, "{words:?}: {answer:?}");
        assert!(answer.stderr.contains(with), "{words:?}: {with:?} in {answer:?}");
        let left = self.engine.ok(["ps", "-a"]).stdout;
        assert_eq!(left.lines().count(), 1, "{words:?} left something: {left}\n{}", self.engine.end_of_log());
    }
}

// ---- What every container is confined by (section 4). --------------------------------------------------------------

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

// ---- The rows of section 2 that are about start. -------------------------------------------------------------------

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
