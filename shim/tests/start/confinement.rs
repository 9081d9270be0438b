//! What a container may do, as its first program sees it.

use std::fs;

use davit_sys::file::Root;
use davit_sys::mount;
use davit_sys::namespace::{self, Kind};
use serde_json::json;

use crate::Scene;
use crate::fixture::Container;

pub const SCENES: &[Scene] = &[
    ("only_three_descriptors", only_three_descriptors),
    ("capabilities_are_exact", capabilities_are_exact),
    ("masks_and_read_only_paths", masks_and_read_only_paths),
    ("privileged_has_neither", privileged_has_neither),
    ("system_calls_are_filtered", system_calls_are_filtered),
    ("the_kernels_surface_is_small", the_kernels_surface_is_small),
    ("no_new_privileges", no_new_privileges),
    ("devices", devices),
    ("cgroups_are_joined_and_shown", cgroups_are_joined_and_shown),
    ("a_host_with_the_unified_hierarchy_only", a_host_with_the_unified_hierarchy_only),
    ("host_name_and_sysctls", host_name_and_sysctls),
    ("limits", limits),
    ("environment_is_the_specs", environment_is_the_specs),
    ("own_namespaces_and_loopback", own_namespaces_and_loopback),
];

fn run(script: &str) -> String {
    Container::shell(script).run().out
}

fn only_three_descriptors() {
    let list = "for n in $(echo /proc/self/fd/*); do :; done; ls /proc/$$/fd; :";
    assert_eq!(run(list), "0\n1\n2\n");
    let reaped = Container::shell(list).annotated("davit.init", "true").run();
    assert_eq!(reaped.out, "0\n1\n2\n");
}

fn status(container: Container, key: &str) -> String {
    let out = container.run().out;
    let line = out.lines().find(|l| l.starts_with(key)).unwrap_or_else(|| panic!("{key} in {out}"));
    line.split_once(':').unwrap().1.trim().to_owned()
}

fn capabilities_are_exact() {
    let get = |key: &str| status(Container::shell("cat /proc/self/status"), key);
    for key in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(get(key), "00000000a80425fb", "{key}");
    }
    assert_eq!((get("CapInh"), get("CapAmb")), ("0".repeat(16), "0".repeat(16)));
    let user = || Container::shell("cat /proc/self/status").annotated("davit.user", "app");
    for key in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(status(user(), key), "0".repeat(16), "{key}");
    }
    assert_eq!(status(user(), "CapBnd"), "00000000a80425fb");
    // The reaper has no more than it needs.
    let reaper = Container::shell("cat /proc/1/status").annotated("davit.init", "true");
    assert_eq!(status(reaper, "CapEff"), "0000000000000020");
}

/// The last mount on a path, as `/proc/mounts` shows it.
fn mounted<'a>(mounts: &'a str, path: &str) -> Option<(&'a str, bool)> {
    let line = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some(path))?;
    let mut words = line.split(' ');
    Some((words.next()?, words.nth(2)?.split(',').any(|option| option == "ro")))
}

fn masks_and_read_only_paths() {
    let out = run(
        "cat /proc/kcore /proc/keys /proc/timer_list /proc/interrupts 2>/dev/null | dd bs=1 count=1 2>/dev/null; \
        for d in /sys/firmware /proc/scsi; do ls -A $d 2>/dev/null; done; mkdir /sys/fs/cgroup/x 2>/dev/null && echo made",
    );
    assert_eq!(out, "");
    let mounts = run("cat /proc/mounts");
    for path in ["/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/sys", "/sys/fs/cgroup", "/sys/firmware"]
    {
        assert!(mounted(&mounts, path).unwrap().1, "{path} in {mounts}");
    }
    for path in ["/proc/keys", "/proc/timer_list", "/proc/interrupts"] {
        assert!(mounted(&mounts, path).is_some(), "{path} in {mounts}");
    }
    let cgroups = mounts.lines().filter(|line| line.starts_with("cgroup"));
    assert!(cgroups.clone().count() > 0 && cgroups.clone().all(|line| line.contains(" ro,")), "{mounts}");
}

fn privileged_has_neither() {
    let mut container = Container::shell("grep -E 'Seccomp:' /proc/self/status; cat /proc/mounts");
    container.shape.privileged = true;
    let out = container.run().out;
    assert!(out.starts_with("Seccomp:\t0\n"), "{out}");
    assert_eq!(mounted(&out, "/proc/sys"), None);
    assert_eq!(mounted(&out, "/proc/keys"), None);
    assert!(!mounted(&out, "/sys").unwrap().1 && !mounted(&out, "/proc").unwrap().1, "{out}");
}

fn system_calls_are_filtered() {
    assert_eq!(status(Container::shell("cat /proc/self/status"), "Seccomp"), "2");
    let open = || Container::shell("cat /proc/self/status").annotated("davit.seccomp", "unconfined");
    assert_eq!(status(open(), "Seccomp"), "0");
    assert!(run("unshare -r true 2>&1 || echo denied").contains("denied"));
    assert!(run("mount -t tmpfs x /tmp 2>&1 || echo denied").contains("denied"));
    let own = Container::shell("mkdir /tmp/a 2>&1; echo on").with(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}),
    );
    let out = own.run().out;
    assert!(out.contains("No space left") && out.ends_with("on\n"), "{out}");
}

/// Calls by number, from the host's perl in a container whose root is the host's, read-only.
fn the_kernels_surface_is_small() {
    if !cfg!(target_arch = "x86_64") || !std::path::Path::new("/usr/bin/perl").exists() {
        println!("skipped: needs /usr/bin/perl on x86-64");
        return;
    }
    let calls = [
        ("unshare a user namespace", "272, 0x10000000", "EPERM"),
        ("clone a user namespace", "56, 0x10000011, 0, 0, 0, 0", "EPERM"),
        ("clone3", "435, 0, 0", "ENOSYS"),
        ("keyctl", "250, 0, -3, 0", "EPERM"),
        ("add_key", "248, 0, 0, 0, 0, 0", "EPERM"),
        ("io_uring_setup", "425, 1, 0", "EPERM"),
        ("userfaultfd", "323, 0", "EPERM"),
        ("bpf", "321, 0, 0, 0", "EPERM"),
        ("perf_event_open", "298, 0, 0, 0, 0, 0", "EPERM"),
        ("mount", "165, 0, 0, 0, 0, 0", "EPERM"),
        ("fsopen", "430, 0, 0", "EPERM"),
        ("pivot_root", "155, 0, 0", "EPERM"),
        ("setns", "308, 0, 0", "EPERM"),
        ("AF_ALG", "41, 38, 5, 0", "EPERM"),
        ("AF_ALG with high bits", "41, 0x100000026, 5, 0", "EPERM"),
        ("AF_VSOCK", "41, 40, 1, 0", "EPERM"),
        ("personality of the forbidden kind", "135, 0x40000", "EPERM"),
        ("an x32 call", "0x40000027", "ENOSYS"),
        ("a call of the future", "900", "ENOSYS"),
        ("getpid", "39", "0"),
        ("personality", "135, 0xffffffff", "0"),
    ];
    let script: String = calls
        .iter()
        .map(|(_, call, _)| format!("$! = 0; syscall({call}); print $!{{EPERM}} ? 'EPERM' : $!{{ENOSYS}} ? 'ENOSYS' : $! + 0, qq(\\n);"))
        .collect();
    let mut container =
        Container::command(&["/usr/bin/perl", "-e", &script]).with("/root/readonly", json!(true));
    container.spec["mounts"][0] = json!({"destination": "/", "type": "bind", "source": "/"});
    let out = container.run().out;
    let seen: Vec<&str> = out.lines().collect();
    assert_eq!(seen.len(), calls.len(), "{out}");
    for ((what, _, wanted), seen) in calls.iter().zip(seen) {
        assert_eq!(seen, *wanted, "{what}");
    }
}

fn no_new_privileges() {
    let get = |value: bool| {
        status(
            Container::shell("cat /proc/self/status").with("/process/noNewPrivileges", json!(value)),
            "NoNewPrivs",
        )
    };
    assert_eq!((get(true), get(false)), ("1".to_owned(), "0".to_owned()));
}

fn devices() {
    let out = run("for n in null zero full random urandom tty; do stat -c '%n %a %t:%T' /dev/$n; done; \
        dd if=/dev/zero of=/dev/null bs=1 count=1 2>/dev/null && echo null; \
        mknod /tmp/tun c 10 200 && (: < /tmp/tun) 2>/dev/null && echo opened tun; readlink /dev/ptmx");
    assert!(out.contains("/dev/null 666 1:3\n") && out.contains("null\n"), "{out}");
    assert!(!out.contains("opened") && out.ends_with("pts/ptmx\n"), "{out}");
    let more = Container::shell("stat -c '%n %a %u' /dev/x/tun; (: < /dev/x/tun) && echo opened")
        .with("/linux/devices/-", json!({"path": "/dev/x/tun", "type": "c", "major": 10, "minor": 200,
                                         "fileMode": 0o640, "uid": 5}))
        .with("/linux/resources/devices", json!([{"allow": false, "access": "rwm"},
                                                 {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "r"}]));
    let out = more.run().out;
    assert!(out.contains("/dev/x/tun 640 5\nopened\n"), "{out}");
}

fn cgroups_are_joined_and_shown() {
    let container = Container::shell("cat /proc/self/cgroup; sleep 100")
        .with("/linux/resources/pids", json!({"limit": 99}));
    let mut init = container.prepare(None);
    let (stdio, _reader) = crate::fixture::piped();
    container.configure(&mut init, stdio).unwrap();
    let seen = fs::read_to_string(format!("/proc/{}/cgroup", init.host_pid())).unwrap();
    assert!(seen.lines().all(|l| l.contains("/davit-start-")), "{seen}");
    drop(init);
    drop(container);
    let out =
        run("cat /proc/self/cgroup; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null");
    assert!(out.lines().filter(|l| l.contains(':')).all(|l| l.ends_with(":/")), "{out}");
    assert!(out.ends_with("4096\n"), "{out}");
}

/// Played in a mount namespace from which the old hierarchies were taken away, and then the new one too.
fn a_host_with_the_unified_hierarchy_only() {
    let played = std::thread::spawn(|| {
        namespace::leave(Kind::Mount).unwrap();
        let root = Root::open("/".as_ref()).unwrap();
        let private = Some(mount::Propagation::Private);
        mount::set_attributes(&root, mount::TreeDepth::Recursive, mount::Attributes::NONE, private).unwrap();
        let layout = crate::cgroup::Layout::of_this_host().unwrap();
        layout.legacy.iter().for_each(|hierarchy| mount::detach(&hierarchy.at).unwrap());
        let script = "cat /proc/self/cgroup; grep cgroup /proc/mounts; (: < /dev/null) && echo null; \
            mknod /tmp/tun c 10 200 && (: < /tmp/tun) 2>/dev/null && echo opened tun";
        let unified = Container::shell(script).run().out;
        mount::detach(&layout.unified.unwrap()).unwrap();
        let hidden = Container::shell(script).run();
        crate::fixture::clean_up_unified();
        (unified, hidden.out)
    });
    let (unified, hidden) = played.join().unwrap();
    for out in [unified, hidden] {
        assert!(out.contains("0::/\n") && out.contains(" /sys/fs/cgroup cgroup2 ro,"), "{out}");
        assert!(out.contains("null\n") && !out.contains("opened"), "{out}");
    }
}

fn host_name_and_sysctls() {
    let container =
        Container::shell("hostname; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ping_group_range")
            .with("/linux/sysctl/net.ipv4.ip_forward", json!("1"))
            .with("/linux/sysctl/net.ipv4.ping_group_range", json!("0 2147483647"));
    assert_eq!(container.run().out, "inside\n1\n0\t2147483647\n");
    for (name, value) in [("kernel.core_pattern", "x"), ("a", "1+kernel.core_pattern=x")] {
        let refused = Container::shell("true").with("/linux/sysctl", json!({name: value}));
        assert!(refused.try_run().is_err(), "{name}");
    }
}

fn limits() {
    let container = Container::shell("ulimit -n; ulimit -c")
        .with("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456}]));
    assert_eq!(container.run().out, "123\n0\n");
    // Fewer than we need on the way are the program's to live with, and it is another user's as well.
    for least in [0, 1, 3] {
        let container = Container::shell("ulimit -n")
            .with("/process/user", json!({"uid": 7, "gid": 7}))
            .with("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": least, "hard": least}]));
        let run = container.run();
        assert_eq!(run.out, format!("{least}\n"));
    }
    // More than this host allows is the most it allows, and a warning.
    let more = Container::shell("ulimit -n")
        .with("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 1 << 22, "hard": 1 << 22}]))
        .with("/process/oomScoreAdj", json!(-500));
    let mut init = more.prepare(None);
    let configured = more.configure(&mut init, crate::fixture::piped().0);
    let may = davit_sys::privilege::permitted().unwrap();
    let resource = davit_sys::privilege::Capabilities::named("SYS_RESOURCE").unwrap();
    if may.intersection(resource) != resource {
        assert_eq!(configured.unwrap().warnings.len(), 2);
    }
}

fn environment_is_the_specs() {
    let out = run("env");
    let mut lines: Vec<&str> =
        out.lines().filter(|l| !l.starts_with("SHLVL") && !l.starts_with("PWD")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["COLOUR=red", "HOME=/root", "PATH=/bin"]);
}

fn own_namespaces_and_loopback() {
    let out = run(
        "for n in net uts ipc pid mnt cgroup; do readlink /proc/self/ns/$n; done; ip -o link | grep -c .; \
        ip -o addr show lo | grep -c 127.0.0.1; echo $$",
    );
    let lines: Vec<&str> = out.lines().collect();
    for (line, name) in lines.iter().zip(["net", "uts", "ipc", "pid", "mnt", "cgroup"]) {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(line, &host.to_str().unwrap(), "{name}");
    }
    assert_eq!(lines[7..], ["1", "1"], "{out}");
}
