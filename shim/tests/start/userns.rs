//! Containers in a user namespace: other numbers outside, the same numbers inside and on disk.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use davit_sys::pty::WindowSize;
use serde_json::json;

use crate::Scene;
use crate::fixture::{Container, piped, read};
use crate::init::{IdMap, Init, Namespace, Stdio};

pub const SCENES: &[Scene] = &[
    ("userns_root_inside_is_nobody_outside", root_inside_is_nobody_outside),
    ("userns_files_have_the_containers_numbers", files_have_the_containers_numbers),
    ("userns_has_its_kernel_file_systems", has_its_kernel_file_systems),
    ("userns_confinement_is_the_same", confinement_is_the_same),
    ("userns_users_and_streams", users_and_streams),
    ("userns_binds_are_mapped_when_asked_for", binds_are_mapped_when_asked_for),
    ("userns_devices", devices),
    ("userns_terminal", terminal),
    ("userns_second_life_keeps_its_namespaces", second_life_keeps_its_namespaces),
    ("userns_host_ipc_uts_and_cgroups", host_ipc_uts_and_cgroups),
    ("userns_small_maps", small_maps),
    ("userns_what_cannot_be_shared_is_refused", what_cannot_be_shared_is_refused),
];

const IDS: IdMap = IdMap { uid: 300_000, gid: 400_000, count: 65_536 };

fn mapped(script: &str) -> Container {
    let mut container = Container::shell(script);
    container.shape.user = Namespace::Own;
    container.shape.ids = Some(IDS);
    container
}

fn root_inside_is_nobody_outside() {
    let container = mapped("id -u; id -g; cat /proc/self/uid_map; sleep 100");
    let mut init = container.prepare(None);
    let (stdio, reader) = piped();
    container.configure(&mut init, stdio).unwrap();
    init.start().unwrap();
    let mut reader = fs::File::from(reader);
    let (mut out, mut some) = (Vec::new(), [0; 100]);
    while !out.ends_with(b"65536\n") {
        let n = std::io::Read::read(&mut reader, &mut some).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&out));
        out.extend_from_slice(&some[..n]);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", init.host_pid())).unwrap();
    assert!(status.contains("Uid:\t300000\t300000\t300000\t300000"), "{status}");
    assert!(status.contains("Gid:\t400000\t400000\t400000\t400000"), "{status}");
    assert!(status.contains("Groups:\t \n"), "{status}");
    // All that it is in belongs to its user namespace.
    let user = davit_sys::namespace::inode(init.namespaces().user.as_ref().unwrap()).unwrap();
    let link = fs::read_link(format!("/proc/{}/ns/user", init.host_pid())).unwrap();
    assert_eq!(link.to_str().unwrap(), format!("user:[{user}]"));
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", init.host_pid())).unwrap();
    assert!(cgroups.lines().all(|l| l.contains("/davit-start-")), "{cgroups}");
    init.signal(9).unwrap();
    init.reap_blocking().unwrap();
    let out = String::from_utf8(out).unwrap();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "0", "300000", "65536"], "{out}");
}

fn files_have_the_containers_numbers() {
    let container = mapped(
        "stat -c '%u:%g' /bin/busybox /home/theirs; echo new > /made; chown 33:44 /made; chown 5:6 /home/theirs; \
         stat -c '%u:%g %n' /made /home/theirs; mkdir /tmp/d; chmod 1777 /tmp/d; rm /etc/passwd && echo gone",
    );
    fs::write(container.lower().join("home/theirs"), "x").unwrap();
    chown(container.lower().join("home/theirs"), Some(1000), Some(1001)).unwrap();
    let out = container.run().out;
    assert_eq!(out, "0:0\n1000:1001\n33:44 /made\n5:6 /home/theirs\ngone\n");
    let upper = container.dir.path().join("upper");
    let owner = |name: &str| {
        let meta = fs::symlink_metadata(upper.join(name)).unwrap();
        (meta.uid(), meta.gid())
    };
    assert_eq!((owner("made"), owner("home/theirs"), owner("tmp/d")), ((33, 44), (5, 6), (0, 0)));
    // The layer itself is as it was, and a container without a user namespace sees the same.
    assert_eq!(fs::metadata(container.lower().join("home/theirs")).unwrap().uid(), 1000);
    let mut again = container;
    again.shape = crate::init::Shape::standard();
    let again = again.with("/process/args", json!(["sh", "-c", "stat -c '%u:%g' /made /home/theirs"]));
    assert_eq!(again.run().out, "33:44\n5:6\n");
}

fn has_its_kernel_file_systems() {
    let out = mapped(
        "cat /proc/mounts; echo 1 > /proc/sys/net/ipv4/ip_forward; ip -o addr show lo | grep -c 127.0.0.1",
    )
    .run()
    .out;
    for (path, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/mqueue", "mqueue"),
    ] {
        assert!(out.contains(&format!(" {path} {kind} ")), "{path} in {out}");
    }
    for path in ["/sys", "/proc/sys", "/proc/irq", "/sys/fs/cgroup"] {
        let line = out.lines().rfind(|l| l.split(' ').nth(1) == Some(path));
        assert!(line.unwrap_or_else(|| panic!("{path} in {out}")).contains(" ro,"), "{path} in {out}");
    }
    assert!(out.ends_with("\n1\n"), "{out}");
    let set = mapped("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax; hostname")
        .with("/linux/sysctl/net.ipv4.ip_forward", json!("1"))
        .with("/linux/sysctl/kernel.shmmax", json!("12345678"));
    assert_eq!(set.run().out, "1\n12345678\ninside\n");
}

fn confinement_is_the_same() {
    let out = mapped("cat /proc/self/status /proc/keys; ls -A /sys/firmware; ls /proc/$$/fd; :").run().out;
    for line in
        ["CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "CapInh:\t0000000000000000", "Seccomp:\t2"]
    {
        assert!(out.contains(line), "{line} in {out}");
    }
    assert!(out.ends_with("\n0\n1\n2\n"), "{out}");
    assert!(mapped("unshare -r true 2>&1 || echo denied").run().out.contains("denied"));
    let nofile = mapped("ulimit -n")
        .with("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456}]));
    assert_eq!(nofile.run().out, "123\n");
}

fn users_and_streams() {
    let container =
        mapped("id -u; id -G; echo again > /dev/stdout; : > /dev/null; stat -c %u:%g /proc/self/")
            .annotated("davit.user", "app");
    assert_eq!(container.run().out, "1000\n1001 50\nagain\n1000:1001\n");
    let error = mapped("true").annotated("davit.user", "70000").try_run().unwrap_err().to_string();
    assert!(error.contains("not all of these ids are in the container's user namespace"), "{error}");
}

fn binds_are_mapped_when_asked_for() {
    let host = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::write(host.path().join("file"), "x").unwrap();
    let bind = |target: &str, options: &[&str]| json!({"destination": target, "type": "bind", "source": host.path(), "options": options});
    let out = mapped("stat -c %u /plain/file /mapped/file; echo > /mapped/new; (echo > /plain/no) 2>/dev/null || echo denied")
        .with("/mounts/-", bind("/plain", &["rbind"]))
        .with("/mounts/-", bind("/mapped", &["rbind", "idmap"]))
        .run()
        .out;
    assert_eq!(out, "65534\n0\ndenied\n");
    assert_eq!(fs::metadata(host.path().join("new")).unwrap().uid(), 0);
    assert!(!host.path().join("no").exists());
    // A file system without id-mapped mounts is named, not shown with wrong owners.
    let proc =
        json!({"destination": "/p", "type": "bind", "source": "/sys/kernel", "options": ["bind", "idmap"]});
    let error = mapped("true").with("/mounts/-", proc).try_run().unwrap_err().to_string();
    assert!(error.contains("/sys/kernel with the container's ids"), "{error}");
}

fn devices() {
    let out = mapped(
        "for n in null zero full random urandom tty; do stat -c '%n %a %u %t:%T' /dev/$n; done; \
         dd if=/dev/zero of=/dev/null bs=1 count=1 2>/dev/null && echo works; \
         (: < /dev/x/tun) && echo opened; stat -c '%a %u' /dev/x/tun; \
         mknod /tmp/null c 1 3 2>/dev/null || echo refused",
    )
    .with("/linux/devices/-", json!({"path": "/dev/x/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o640, "uid": 5}))
    .with("/linux/resources/devices", json!([{"allow": false, "access": "rwm"},
                                             {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "r"}]))
    .run()
    .out;
    assert!(out.starts_with("/dev/null 666 0 1:3\n") && out.contains("/dev/tty 666 0 5:0\n"), "{out}");
    assert!(out.ends_with("works\nopened\n640 5\nrefused\n"), "{out}");
}

fn terminal() {
    let container = mapped("test -t 0 && stty size && stat -c %u /dev/console && : > /dev/tty && echo tty");
    let mut init = container.prepare(None);
    let size = WindowSize { rows: 31, columns: 97 };
    let configured = container.configure(&mut init, Stdio::Terminal(Some(size))).unwrap();
    let master = configured.terminal.unwrap();
    init.start().unwrap();
    init.reap_blocking().unwrap();
    let mut out = [0; 256];
    let got = std::io::Read::read(&mut fs::File::from(master), &mut out).unwrap();
    assert_eq!(String::from_utf8_lossy(&out[..got]), "31 97\r\n0\r\ntty\r\n");
}

fn second_life_keeps_its_namespaces() {
    let container = mapped(
        "readlink /proc/self/ns/net; readlink /proc/self/ns/user; cat /count 2>/dev/null; echo x >> /count",
    );
    let mut first = container.prepare(None);
    let life = |init: &mut Init| {
        let (stdio, reader) = piped();
        container.configure(init, stdio).unwrap();
        init.start().unwrap();
        init.reap_blocking().unwrap();
        read(reader)
    };
    let before = life(&mut first);
    let kept = first.namespaces().keep().unwrap();
    drop(first);
    let mut second = container.prepare(Some(&kept));
    assert_eq!(life(&mut second), format!("{before}x\n"));
}

fn host_ipc_uts_and_cgroups() {
    let mut container = mapped(
        "for n in ipc uts cgroup; do readlink /proc/self/ns/$n; done; ls /sys/fs/cgroup | head -1; \
        mkdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x 2>/dev/null || echo readonly; ls -d /dev/shm",
    );
    container.shape.ipc = Namespace::Host;
    container.shape.uts = Namespace::Host;
    container.shape.cgroup = Namespace::Host;
    let out = container.run().out;
    for (line, name) in out.lines().zip(["ipc", "uts", "cgroup"]) {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_eq!(line, host.to_str().unwrap());
    }
    assert!(out.ends_with("readonly\n/dev/shm\n"), "{out}");
}

fn small_maps() {
    let mut container =
        mapped("id -u; stat -c %u /bin/busybox /home/theirs; : > /dev/ptmx && echo terminals");
    container.shape.ids = Some(IdMap { count: 2, ..IDS });
    fs::write(container.lower().join("home/theirs"), "x").unwrap();
    chown(container.lower().join("home/theirs"), Some(1000), Some(1000)).unwrap();
    assert_eq!(container.run().out, "0\n0\n65534\nterminals\n");
}

fn what_cannot_be_shared_is_refused() {
    let refused = |change: fn(&mut Container)| {
        let mut container = mapped("true");
        change(&mut container);
        container.try_run().unwrap_err().to_string()
    };
    let together = "cannot be privileged, nor share processes";
    assert!(refused(|c| c.shape.privileged = true).contains(together));
    assert!(refused(|c| c.shape.net = Namespace::Host).contains(together));
    assert!(refused(|c| c.shape.pid = Namespace::Host).contains(together));
    assert!(refused(|c| c.shape.ids = None).contains("must be asked for together"));
    assert!(refused(|c| c.shape.user = Namespace::Host).contains("must be asked for together"));
}
