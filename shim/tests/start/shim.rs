//! The death of a shim: played by this program, in a pid namespace of its own or in the host's.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use davit_sys::memory::SealedExecutable;
use davit_sys::process::{self, Child, NewNamespaces, SIGKILL, Spawn};

use crate::Scene;
use crate::fixture::Container;
use crate::init::{Namespace, Stdio};

pub const SCENES: &[Scene] = &[
    ("a_killed_shim_takes_its_container_along", a_killed_shim_takes_its_container_along),
    ("also_where_it_shares_the_hosts_pids", also_where_it_shares_the_hosts_pids),
    ("the_hosts_pids_are_seen", the_hosts_pids_are_seen),
    ("launch_leaves_a_shim_that_is_nobodys_child", launch_leaves_a_shim_that_is_nobodys_child),
];

/// What the container does: children in sessions of their own, and no regard for any signal.
const STUBBORN: &str = "trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM; sleep 1000' & setsid sleep 1000 & \
    echo up; while :; do sleep 1000; done";

/// The part of the shim: starts a container, says so, and waits to be killed.
pub fn run() -> ExitCode {
    let host_pid = std::env::args().nth(2).is_some_and(|word| word == "host");
    let mut container = Container::shell(STUBBORN);
    if host_pid {
        container.shape.pid = Namespace::Host;
    }
    let mut init = container.prepare(None);
    let out = || std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    let null = File::open("/dev/null").unwrap();
    container.configure(&mut init, Stdio::Given([null.into(), out(), out()])).unwrap();
    let tasks = container.cgroup.tasks_files().into_iter().next().unwrap_or_default();
    println!("{} {tasks}", container.dir.path().display());
    std::io::stdout().flush().unwrap();
    init.start().unwrap();
    init.reap_blocking().unwrap();
    ExitCode::FAILURE
}

fn start(pids: &str, namespaces: NewNamespaces) -> (Child, OwnedFd) {
    let (reader, writer) = davit_sys::fd::pipe(4096).unwrap();
    let args = ["start", "shim", pids].map(|word| CString::new(word).unwrap());
    let child = process::spawn(&Spawn {
        program: c"/proc/self/exe",
        args: &args,
        env: &[],
        fds: &[(writer.as_fd(), 1), (std::io::stderr().as_fd(), 2)],
        namespaces,
        cgroup: None,
        session: true,
    });
    (child.unwrap(), reader)
}

fn kill_and_look(pids: &str, namespaces: NewNamespaces) {
    let (child, reader) = start(pids, namespaces);
    let mut lines = BufReader::new(File::from(reader)).lines();
    let place = lines.next().unwrap().unwrap();
    let (dir, tasks) = place.split_once(' ').unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "up");
    assert!(!std::fs::read_to_string(tasks).unwrap().is_empty());
    let killed = Instant::now();
    process::signal(&child.pidfd, SIGKILL).unwrap();
    process::wait(&child.pidfd).unwrap();
    // The pipe's writers are the shim's and the container's processes.
    assert!(lines.next().is_none());
    while !std::fs::read_to_string(tasks).unwrap().is_empty() {
        assert!(killed.elapsed() < Duration::from_secs(1), "processes outlive their shim");
        std::thread::yield_now();
    }
    sweep(dir, tasks);
}

/// What the killed one could not do.
fn sweep(dir: &str, tasks: &str) {
    let name = std::path::Path::new(tasks).parent().unwrap();
    let (id, parent) = (name.file_name().unwrap(), name.parent().unwrap().file_name().unwrap());
    let parent = parent.to_str().unwrap();
    crate::cgroup::ContainerCgroup::create(parent, id.to_str().unwrap()).unwrap().remove().unwrap();
    crate::fixture::remove_parent(parent);
    std::fs::remove_dir_all(dir).unwrap();
}

fn a_killed_shim_takes_its_container_along() {
    kill_and_look("own", NewNamespaces::PID);
}

fn also_where_it_shares_the_hosts_pids() {
    kill_and_look("host", NewNamespaces::NONE);
}

fn the_hosts_pids_are_seen() {
    let mut container = Container::shell("test -d /proc/$0 && echo seen; test $$ -gt 1 && echo not one");
    container.spec["process"]["args"].as_array_mut().unwrap().push(std::process::id().to_string().into());
    container.shape.pid = Namespace::Host;
    assert_eq!(container.run().out, "seen\nnot one\n");
}

/// The real binary this time, from a sealed memory file, as the controller starts it.
fn launch_leaves_a_shim_that_is_nobodys_child() {
    let sealed = SealedExecutable::new(env!("CARGO_BIN_EXE_davit-shim").as_ref()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("shim.sock")).unwrap();
    let (unconfigured, hold) = davit_sys::fd::pipe(4096).unwrap();
    let id = format!("{:064x}", std::process::id());
    let parent = format!("davit-launch-{}", std::process::id());
    let here = dir.path().to_str().unwrap();
    let words = ["davit-shim", "launch", "--id", &id, "--bundle", here, "--run", here, "--instance", "test"];
    let more = ["--cgroup-parent", &parent, "--unconfigured-fd", "4"];
    let args: Vec<CString> = words.iter().chain(&more).map(|word| CString::new(*word).unwrap()).collect();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let launch = process::spawn(&Spawn {
        program: &sealed.c_path(),
        args: &args,
        env: &[],
        fds: &[
            (null.as_fd(), 0),
            (null.as_fd(), 1),
            (std::io::stderr().as_fd(), 2),
            (listener.as_fd(), 3),
            (unconfigured.as_fd(), 4),
        ],
        namespaces: NewNamespaces::NONE,
        cgroup: None,
        session: false,
    })
    .unwrap();
    drop(unconfigured);
    assert_eq!(process::wait(&launch.pidfd).unwrap(), process::Exit::Exited(0));
    let pid = shim_of(&id);
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let status = read("status");
    let field = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)).unwrap().trim().to_owned();
    assert_ne!(field("PPid:"), std::process::id().to_string());
    assert!(field("NSpid:").ends_with("\t1"), "{status}");
    assert!(read("cgroup").lines().all(|l| l.ends_with(&format!("/{parent}/shims"))), "{}", read("cgroup"));
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert!(program.to_str().unwrap().starts_with("/memfd:davit-shim"), "{program:?}");
    // It names itself once it serves.
    let begun = Instant::now();
    while read("comm") != "davit-shim\n" {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", read("comm"));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap().as_os_str(), "/");
    let shim = process::pidfd_open(pid).unwrap();
    // Nobody has configured it, and now nobody will.
    drop(hold);
    assert!(davit_sys::fd::wait_readable(&shim, Some(Duration::from_secs(10))).unwrap());
    crate::cgroup::ContainerCgroup::create(&parent, "shims").unwrap().remove().unwrap();
    crate::fixture::remove_parent(&parent);
}

fn shim_of(id: &str) -> i32 {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let serves = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.get(1) == Some(&&b"serve"[..]) && words.contains(&id.as_bytes())
    };
    numbers.into_iter().find(serves).expect("no shim was started")
}
