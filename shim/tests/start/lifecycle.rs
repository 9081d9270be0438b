//! Beginnings and ends.

use std::fs;
use std::io::Write;

use davit_sys::process::Exit;
use davit_sys::pty::WindowSize;
use serde_json::json;

use crate::Scene;
use crate::fixture::{Container, piped, read};
use crate::init::{Init, Namespace, Stdio};

pub const SCENES: &[Scene] = &[
    ("exit_codes_and_signals", exit_codes_and_signals),
    ("streams_arrive", streams_arrive),
    ("not_found_and_not_executable", not_found_and_not_executable),
    ("terminal", terminal),
    ("nothing_runs_before_the_gate", nothing_runs_before_the_gate),
    ("dropping_a_waiting_init_ends_it", dropping_a_waiting_init_ends_it),
    ("second_life_keeps_namespaces", second_life_keeps_namespaces),
    ("joined_namespace_must_be_the_one_meant", joined_namespace_must_be_the_one_meant),
    ("another_containers_pids_are_seen", another_containers_pids_are_seen),
    ("reaper_forwards_and_mirrors", reaper_forwards_and_mirrors),
    ("reaper_has_a_terminal_too", reaper_has_a_terminal_too),
    ("killing_the_cgroup_ends_all", killing_the_cgroup_ends_all),
    ("out_of_memory_is_counted", out_of_memory_is_counted),
];

fn exit_codes_and_signals() {
    assert_eq!(Container::shell("exit 7").run().exit, Exit::Exited(7));
    // Pid 1 of a namespace cannot kill itself, but the shim can.
    let container = Container::command(&["sleep", "100"]);
    let mut init = container.prepare(None);
    container.configure(&mut init, piped().0).unwrap();
    init.start().unwrap();
    assert_eq!(init.reap().unwrap(), None);
    init.signal(9).unwrap();
    assert_eq!(init.reap_blocking().unwrap(), Exit::Signaled(9));
    assert_eq!(init.reap().unwrap(), Some(Exit::Signaled(9)));
}

fn streams_arrive() {
    let container = Container::command(&["cat"]);
    let mut init = container.prepare(None);
    let (input, feeder) = davit_sys::fd::pipe(4096).unwrap();
    let (reader, writer) = davit_sys::fd::pipe(4096).unwrap();
    let streams = [input, writer.try_clone().unwrap(), writer];
    container.configure(&mut init, Stdio::Given(streams)).unwrap();
    init.start().unwrap();
    fs::File::from(feeder).write_all(b"through").unwrap();
    assert_eq!(read(reader), "through");
    assert_eq!(init.reap_blocking().unwrap(), Exit::Exited(0));
}

fn not_found_and_not_executable() {
    let error = |container: Container| container.try_run().unwrap_err();
    let missing = error(Container::command(&["nosuch"]));
    assert_eq!(missing.exit_code(), 127);
    assert_eq!(missing.to_string(), "exec: \"nosuch\": executable file not found in $PATH");
    let missing = error(Container::command(&["/no/such"]));
    assert_eq!(missing.exit_code(), 127);
    assert!(missing.to_string().contains("no such file or directory"), "{missing}");
    let denied = error(Container::command(&["/etc/passwd"]));
    assert_eq!(denied.exit_code(), 126);
    assert!(denied.to_string().contains("permission denied"), "{denied}");
    let directory = error(Container::command(&["/etc"]));
    assert_eq!(directory.exit_code(), 126);
    assert!(directory.to_string().contains("is a directory"), "{directory}");
    let container = Container::command(&["/bin/text"]);
    fs::write(container.lower().join("bin/text"), "no program\n").unwrap();
    fs::set_permissions(
        container.lower().join("bin/text"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let format = error(container);
    assert_eq!(format.exit_code(), 126);
    assert!(format.to_string().contains("exec format error"), "{format}");
}

fn terminal() {
    let container = Container::shell(
        "test -t 0 && test -t 1 && test -t 2 && stty size && readlink /proc/self/fd/0; ls -l /dev/console; : >/dev/tty && echo tty",
    );
    let mut init = container.prepare(None);
    let size = WindowSize { rows: 31, columns: 97 };
    let configured = container.configure(&mut init, Stdio::Terminal(Some(size))).unwrap();
    let master = configured.terminal.unwrap();
    assert_eq!(davit_sys::pty::window_size(&master).unwrap(), size);
    init.start().unwrap();
    let out = read_terminal(master);
    assert!(
        out.contains("31 97\r\n/dev/pts/0\r\n") && out.contains("/dev/console") && out.contains("tty\r\n"),
        "{out}"
    );
    assert_eq!(init.reap_blocking().unwrap(), Exit::Exited(0));
}

/// A master whose slaves are gone says so with an error.
fn read_terminal(master: std::os::fd::OwnedFd) -> String {
    use std::io::Read;
    let mut file = fs::File::from(master);
    let (mut out, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = file.read(&mut part) {
        out.extend_from_slice(&part[..n]);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn nothing_runs_before_the_gate() {
    let container = Container::shell("echo ran");
    let mut init = container.prepare(None);
    let (stdio, reader) = piped();
    container.configure(&mut init, stdio).unwrap();
    assert!(fs::read_to_string(format!("/proc/{}/comm", init.host_pid())).unwrap().starts_with("exe"));
    init.start().unwrap();
    assert_eq!(read(reader), "ran\n");
    init.reap_blocking().unwrap();
}

fn dropping_a_waiting_init_ends_it() {
    let container = Container::shell("echo never");
    let mut init = container.prepare(None);
    let pidfd = init.pidfd().try_clone_to_owned().unwrap();
    let (stdio, reader) = piped();
    container.configure(&mut init, stdio).unwrap();
    drop(init);
    assert_eq!(davit_sys::process::wait(pidfd).unwrap(), Exit::Exited(1));
    assert_eq!(read(reader), "");
}

fn second_life_keeps_namespaces() {
    let script = "for n in net uts pid; do readlink /proc/self/ns/$n; done; cat /proc/sys/kernel/hostname; ip link set lo down";
    let container = Container::shell(script);
    let mut first = container.prepare(None);
    let (stdio, reader) = piped();
    container.configure(&mut first, stdio).unwrap();
    first.start().unwrap();
    let one = read(reader);
    first.reap_blocking().unwrap();
    let kept = first.namespaces().keep().unwrap();
    drop(first);
    let mut second = container.prepare(Some(&kept));
    let (stdio, reader) = piped();
    container.configure(&mut second, stdio).unwrap();
    second.start().unwrap();
    let two = read(reader);
    second.reap_blocking().unwrap();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (one, two) = (lines(&one), lines(&two));
    assert_eq!(one[..2], two[..2]);
    assert_ne!(one[2], two[2]);
    assert_eq!(one[3], "inside");
}

fn joined_namespace_must_be_the_one_meant() {
    let owner = Container::shell("true");
    let holder = owner.prepare(None);
    let namespace = &holder.namespaces().net;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(namespace)).into();
    let inode = davit_sys::namespace::inode(namespace).unwrap();
    let mut guest = Container::shell("readlink /proc/self/ns/net");
    guest.shape.net = Namespace::Joined { path, inode };
    assert_eq!(guest.run().out, format!("net:[{inode}]\n"));
    if let Namespace::Joined { inode, .. } = &mut guest.shape.net {
        *inode += 1;
    }
    let error = Init::prepare(&guest.shape, &guest.cgroup, None).unwrap_err();
    assert!(error.to_string().contains("its owner has gone"), "{error}");
}

fn another_containers_pids_are_seen() {
    let owner = Container::command(&["sleep", "77"]);
    let mut init = owner.prepare(None);
    owner.configure(&mut init, piped().0).unwrap();
    init.start().unwrap();
    let path = format!("/proc/{}/ns/pid", init.host_pid());
    let inode = davit_sys::namespace::inode(davit_sys::namespace::open(path.as_ref()).unwrap()).unwrap();
    let mut guest = Container::shell("cat /proc/1/cmdline; test $$ -gt 1 && echo; echo not one");
    guest.shape.pid = Namespace::Joined { path: path.into(), inode };
    assert_eq!(guest.run().out, "sleep\x0077\0\nnot one\n");
    init.signal(9).unwrap();
    init.reap_blocking().unwrap();
}

fn reaper_forwards_and_mirrors() {
    let script = "trap 'exit 42' TERM; echo $$; (sleep 0.01 &); while :; do sleep 0.01; done";
    let container = Container::shell(script).annotated("davit.init", "true");
    let mut init = container.prepare(None);
    let (stdio, reader) = piped();
    container.configure(&mut init, stdio).unwrap();
    init.start().unwrap();
    let mut first = [0; 2];
    let mut reader = fs::File::from(reader);
    std::io::Read::read_exact(&mut reader, &mut first).unwrap();
    assert_eq!(&first, b"2\n");
    init.signal(15).unwrap();
    assert_eq!(init.reap_blocking().unwrap(), Exit::Exited(42));
    let killed = Container::shell("kill -9 $$").annotated("davit.init", "true").run();
    assert_eq!(killed.exit, Exit::Exited(137));
    let missing = Container::command(&["nosuch"]).annotated("davit.init", "true").try_run().unwrap_err();
    assert_eq!(missing.exit_code(), 127);
}

fn reaper_has_a_terminal_too() {
    let container = Container::shell(": >/dev/tty && echo tty").annotated("davit.init", "true");
    let mut init = container.prepare(None);
    let configured = container.configure(&mut init, Stdio::Terminal(None)).unwrap();
    init.start().unwrap();
    assert_eq!(read_terminal(configured.terminal.unwrap()), "tty\r\n");
    assert_eq!(init.reap_blocking().unwrap(), Exit::Exited(0));
}

fn killing_the_cgroup_ends_all() {
    let container = Container::shell("setsid sleep 100 & setsid sleep 100 & echo up; sleep 100");
    let mut init = container.prepare(None);
    let (stdio, reader) = piped();
    container.configure(&mut init, stdio).unwrap();
    init.start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(container.cgroup.freeze()).unwrap();
    runtime.block_on(container.cgroup.empty()).unwrap();
    assert_eq!(init.reap_blocking().unwrap(), Exit::Signaled(9));
    read(reader);
}

fn out_of_memory_is_counted() {
    let script = "dd if=/dev/zero of=/dev/null bs=100M count=1";
    let container =
        Container::command(&["sh", "-c", script]).with("/linux/resources/memory", json!({"limit": 16 << 20}));
    let before = container.cgroup.oom_kills().unwrap();
    assert_ne!(container.run().exit, Exit::Exited(0));
    assert!(container.cgroup.oom_kills().unwrap() > before);
}
