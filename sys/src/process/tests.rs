//! Tests of spawning, reaping and naming processes.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::RawFd;

use super::*;

fn strings(list: &[&str]) -> Vec<CString> {
    list.iter().map(|s| CString::new(*s).unwrap()).collect()
}

fn shell(script: &str, fds: &[(BorrowedFd<'_>, RawFd)], namespaces: NewNamespaces) -> io::Result<Child> {
    spawn(&Spawn {
        program: c"/bin/sh",
        args: &strings(&["sh", "-c", script]),
        env: &strings(&["PATH=/usr/bin:/bin"]),
        fds,
        namespaces,
        cgroup: None,
        session: true,
    })
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    let child = shell("exit 7", &[], NewNamespaces::NONE).unwrap();
    assert_eq!(wait(&child.pidfd).unwrap(), Exit::Exited(7));
    let child = shell("kill -9 $$", &[], NewNamespaces::NONE).unwrap();
    assert_eq!(wait(&child.pidfd).unwrap().code(), 137);
}

#[test]
fn a_running_child_is_signaled_and_reaped_by_descriptor() {
    let child = shell("exec sleep 100", &[], NewNamespaces::NONE).unwrap();
    assert_eq!(try_wait(&child.pidfd).unwrap(), None);
    assert_eq!(host_pid(&child.pidfd).unwrap(), u32::try_from(child.pid).unwrap());
    assert!(start_time(host_pid(&child.pidfd).unwrap()).unwrap() > 0);
    signal(&child.pidfd, SIGKILL).unwrap();
    assert_eq!(wait(&child.pidfd).unwrap(), Exit::Signaled(9));
    assert!(host_pid(&child.pidfd).is_err());
}

#[test]
fn a_program_that_is_not_there_is_the_callers_error() {
    let nothing = Spawn {
        program: c"/nonexistent/program",
        args: &[],
        env: &[],
        fds: &[],
        namespaces: NewNamespaces::NONE,
        cgroup: None,
        session: false,
    };
    assert_eq!(spawn(&nothing).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn only_the_named_descriptors_arrive_even_when_numbers_cross() {
    let (reader, writer) = io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    // Only low numbers can be handed over, and other tests beside this one hold descriptors too.
    let (a, b) = std::iter::repeat_with(|| {
        (std::fs::File::open("/etc/passwd").unwrap(), std::fs::File::open("/etc/group").unwrap())
    })
    .take(100_000)
    .find(|(a, b)| a.as_raw_fd() < 64 && b.as_raw_fd() < 64)
    .expect("two low numbers come free");
    // Each wants the number that the other one has.
    let fds = [
        (null.as_fd(), 0),
        (writer.as_fd(), 1),
        (writer.as_fd(), 2),
        (a.as_fd(), b.as_raw_fd()),
        (b.as_fd(), a.as_raw_fd()),
    ];
    let script = format!(
        "readlink /proc/self/fd/{} /proc/self/fd/{}; for n in $(seq 0 400); do [ -e /proc/$$/fd/$n ] && echo $n; done; true",
        a.as_raw_fd(),
        b.as_raw_fd()
    );
    let child = shell(&script, &fds, NewNamespaces::NONE).unwrap();
    drop(writer);
    let mut out = String::new();
    { reader }.read_to_string(&mut out).unwrap();
    wait(&child.pidfd).unwrap();
    let mut expected =
        vec!["/etc/group".to_owned(), "/etc/passwd".into(), "0".into(), "1".into(), "2".into()];
    let mut numbers = [a.as_raw_fd(), b.as_raw_fd()];
    numbers.sort_unstable();
    expected.extend(numbers.iter().map(ToString::to_string));
    let mut seen: Vec<_> = out.lines().map(str::to_owned).collect();
    seen[2..].sort_by_key(|n| n.parse::<i32>().unwrap());
    assert_eq!(seen, expected);
}

#[test]
fn privileged_a_new_pid_namespace_starts_at_one() {
    let (reader, writer) = io::pipe().unwrap();
    let namespaces = NewNamespaces::PID.with(NewNamespaces::MOUNT).with(NewNamespaces::NET);
    let child = shell("echo $$", &[(writer.as_fd(), 1)], namespaces).unwrap();
    drop(writer);
    let mut out = String::new();
    { reader }.read_to_string(&mut out).unwrap();
    assert_eq!(wait(&child.pidfd).unwrap(), Exit::Exited(0));
    assert_eq!(out, "1\n");
}

#[test]
fn stat_survives_a_hostile_name() {
    let stat = "12 (a) b (c)) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 999 1000";
    assert_eq!(stat_field(stat, 20), Some(3));
    assert_eq!(stat_field(stat, 22), Some(999));
    assert_eq!(stat_field("nonsense", 22), None);
}

#[test]
fn signals_by_name_and_number() {
    for (name, number) in
        [("KILL", 9), ("sigterm", 15), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("10", 10), ("RTMIN", 34)]
    {
        assert_eq!(signal_number(name), Some(number), "{name}");
    }
    for bad in ["", "0", "65", "-9", "SIGNOPE", "RTMIN+99", "RTMINX"] {
        assert_eq!(signal_number(bad), None, "{bad}");
    }
}

#[test]
fn identities_of_this_process() {
    assert_eq!(own_host_pid().unwrap(), std::process::id());
    assert_eq!(boot_id().unwrap().len(), 36);
}
