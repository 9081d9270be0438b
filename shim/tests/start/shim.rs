//! The death of a shim: played by this program, in a pid namespace of its own or in the host's.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use davit_sys::process::{self, Child, NewNamespaces, SIGKILL, Spawn};

use crate::Scene;
use crate::fixture::Container;
use crate::init::{Namespace, Stdio};

pub const SCENES: &[Scene] = &[
    ("a_killed_shim_takes_its_container_along", a_killed_shim_takes_its_container_along),
    ("also_where_it_shares_the_hosts_pids", also_where_it_shares_the_hosts_pids),
    ("the_hosts_pids_are_seen", the_hosts_pids_are_seen),
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
