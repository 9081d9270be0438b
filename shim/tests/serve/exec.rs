//! Processes that are added to a running container.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use davit_proto::journal::What;
use davit_proto::task::attach_response::Frame as Got;
use davit_proto::task::{
    AttachOffsets, AttachOpen, ConfigureRequest, DeleteRequest, ExecRequest, ExecsRequest, KillRequest,
    OnHangup, ResizeRequest, SeenRequest, WaitRequest,
};
use davit_proto::types::TerminalSize;
use tonic::{Code, Status};

use crate::harness::{Attachment, Shim, Spec, listening, possible, until};

/// A container that does nothing until it is killed.
async fn idle() -> Shim {
    let mut shim =
        Shim::create(&Spec::shell("while :; do sleep 1000; done"), ConfigureRequest::default()).await;
    shim.start(1).await.unwrap();
    shim
}

fn shell(id: &str, script: &str) -> ExecRequest {
    ExecRequest {
        exec_id: id.into(),
        args: vec!["/bin/sh".into(), "-c".into(), script.into()],
        on_hangup: OnHangup::HangUp.into(),
        ..ExecRequest::default()
    }
}

fn at(id: &str, stdout: u64) -> AttachOpen {
    AttachOpen { exec_id: id.into(), from: Some(AttachOffsets { stdout, stderr: 0 }), ..listening() }
}

async fn exec(shim: &mut Shim, request: ExecRequest) -> Result<Attachment, Status> {
    let id = request.exec_id.clone();
    shim.client.exec(request).await?;
    Ok(shim.attach(at(&id, 0)).await)
}

/// What a script says inside, and its exit code.
async fn said(shim: &mut Shim, request: ExecRequest) -> (String, u32) {
    let ([stdout, stderr], dropped, exit) = exec(shim, request).await.unwrap().rest().await;
    assert_eq!((dropped, String::from_utf8_lossy(&stderr).as_ref()), (0, ""));
    (String::from_utf8(stdout).unwrap(), exit.exit_code)
}

fn descriptors(shim: &Shim) -> usize {
    fs::read_dir(format!("/proc/{}/fd", shim.pid)).unwrap().count()
}

/// The v2 leaves of a container's execs.
fn leaves(shim: &Shim) -> Vec<PathBuf> {
    let entries = fs::read_to_string(format!("/proc/{}/cgroup", shim.pid)).unwrap();
    let own = entries.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let unified = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "/sys/fs/cgroup"
    } else {
        "/sys/fs/cgroup/unified"
    };
    let container = Path::new(&format!("{unified}{own}")).with_file_name(shim.id.as_str());
    let found = fs::read_dir(container).unwrap().flatten().map(|entry| entry.path());
    found.filter(|path| path.is_dir()).collect()
}

#[tokio::test]
async fn output_and_code_are_exact_and_the_streams_apart() {
    if !possible() {
        return;
    }
    let mut shim = idle().await;
    let mut client = exec(&mut shim, shell("a", "echo out; echo err >&2; exit 7")).await.unwrap();
    let ([stdout, stderr], _, exit) = client.rest().await;
    assert_eq!((stdout, stderr, exit.exit_code, exit.life), (b"out\n".into(), b"err\n".into(), 7, 1));
    let waited = WaitRequest { exec_id: "a".into(), ..WaitRequest::default() };
    assert_eq!(shim.client.wait(waited).await.unwrap().into_inner().exit, Some(exit.clone()));
    let listed = shim.client.execs(ExecsRequest {}).await.unwrap().into_inner().execs;
    assert_eq!(listed.iter().map(|exec| (exec.id.as_str(), exec.pid)).collect::<Vec<_>>(), [("a", 0)]);
    assert_eq!(listed[0].exit, Some(exit));
    // The same once more starts nothing, and what was said is still there.
    let again = shim.client.exec(shell("a", "echo out; echo err >&2; exit 7")).await.unwrap();
    assert_eq!(again.into_inner().pid, 0);
    assert_eq!(shim.attach(at("a", 2)).await.rest().await.0, [b"t\n".to_vec(), b"err\n".to_vec()]);
    assert_eq!(shim.client.exec(shell("a", "true")).await.unwrap_err().code(), Code::InvalidArgument);
    let told: Vec<What> = shim.journal().into_iter().map(|entry| entry.what).collect();
    let command = "/bin/sh -c echo out; echo err >&2; exit 7".to_owned();
    assert!(told.contains(&What::ExecStart { exec: "a".into(), command }), "{told:?}");
    assert!(told.contains(&What::ExecExit { exec: "a".into(), exit_code: 7 }), "{told:?}");
}

#[tokio::test]
async fn it_is_where_init_is_and_may_what_init_may() {
    if !possible() {
        return;
    }
    let mut shim = idle().await;
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
        let script = format!("for p in self 1; do /bin/busybox readlink /proc/$p/ns/{kind}; done");
        let (links, _) = said(&mut shim, shell(kind, &script)).await;
        let links: BTreeSet<&str> = links.lines().collect();
        assert_eq!(links.len(), 1, "{links:?}");
    }
    let script = "for p in self 1; do /bin/busybox grep -E '^(Cap|Seccomp:|NoNewPrivs|Groups|Uid|Gid)' /proc/$p/status; done";
    let (status, _) = said(&mut shim, shell("status", script)).await;
    let lines: Vec<&str> = status.lines().collect();
    let (own, inits) = lines.split_at(lines.len() / 2);
    assert_eq!(own, inits);
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let privileged = ExecRequest {
        privileged: true,
        ..shell("p", "/bin/busybox grep -E '^(CapEff|Seccomp:)' /proc/self/status")
    };
    let (status, _) = said(&mut shim, privileged).await;
    let host = fs::read_to_string("/proc/self/status").unwrap();
    let all = host.lines().find(|line| line.starts_with("CapEff")).unwrap();
    assert_eq!(status, format!("{all}\nSeccomp:\t0\n"));
    let (fds, _) = said(&mut shim, shell("fds", "exec /bin/busybox ls /proc/self/fd")).await;
    // The fourth is the one that ls reads the folder through.
    assert_eq!(fds, "0\n1\n2\n3\n");
    let (cgroup, _) = said(&mut shim, shell("path", "cat /proc/self/cgroup")).await;
    for line in cgroup.lines() {
        let (_, path) = line.rsplit_once(':').unwrap();
        assert!(path == "/" || (line.starts_with("0::/exec-")), "{line}");
    }
    let (hup, _) = said(&mut shim, shell("term", "/bin/busybox ps")).await;
    assert!(!hup.contains("davit"), "{hup}");
}

#[tokio::test]
async fn a_hundred_at_once_leave_nothing() {
    if !possible() {
        return;
    }
    let mut shim = idle().await;
    said(&mut shim, shell("first", "true")).await;
    until("the first leaf is gone", || leaves(&shim).is_empty()).await;
    let before = descriptors(&shim);
    let mut all = tokio::task::JoinSet::new();
    for n in 0_u32..100 {
        let mut client = shim.client.clone();
        let request = shell(&format!("n{n}"), &format!("echo {n}; seq {n}; exit {}", n % 50));
        all.spawn(async move {
            client.exec(request).await.unwrap();
            n
        });
    }
    while let Some(n) = all.join_next().await {
        let n = n.unwrap();
        let ([stdout, _], _, exit) = shim.attach(at(&format!("n{n}"), 0)).await.rest().await;
        let wanted: String = [n].into_iter().chain(1..=n).map(|line| format!("{line}\n")).collect();
        assert_eq!((String::from_utf8(stdout).unwrap(), exit.exit_code), (wanted, n % 50));
    }
    until("all leaves are gone", || leaves(&shim).is_empty()).await;
    until("all descriptors are closed", || descriptors(&shim) <= before).await;
    let zombies = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
        fields.next() == Some("Z") && fields.next() == Some(shim.pid.to_string().as_str())
    });
    assert_eq!(zombies.count(), 0);
    // What a client may still come for is remembered beyond the usual.
    assert_eq!(shim.client.execs(ExecsRequest {}).await.unwrap().into_inner().execs.len(), 101);
}

#[tokio::test]
async fn a_client_that_is_cut_off_misses_nothing() {
    if !possible() {
        return;
    }
    let mut shim = idle().await;
    shim.client.exec(shell("long", "seq 200000")).await.unwrap();
    let wanted: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    let mut got = Vec::new();
    let open = |stdout| AttachOpen { session: "s".into(), says_seen: true, ..at("long", stdout) };
    let mut client = shim.attach(open(0)).await;
    let (mut frames, mut cuts) = (0, 0);
    let exit = loop {
        match client.next().await {
            Some(Got::Output(output)) => {
                assert_eq!(output.offset, got.len() as u64);
                got.extend_from_slice(&output.data);
                frames += 1;
                if frames % 3 == 0 {
                    let offsets = Some(AttachOffsets { stdout: got.len() as u64, stderr: 0 });
                    let (exec_id, session) = ("long".into(), "s".into());
                    let seen = SeenRequest { exec_id, session, offsets, ..SeenRequest::default() };
                    shim.client.seen(seen).await.unwrap();
                }
                if frames % 7 == 0 && cuts < 4 {
                    cuts += 1;
                    client.cut_off();
                    client = shim.attach(open(got.len() as u64)).await;
                }
            }
            Some(Got::Exit(exit)) => break exit,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((String::from_utf8(got).unwrap() == wanted, exit.exit_code, cuts), (true, 0, 4));
}

#[tokio::test]
async fn who_is_left_alone_is_hung_up_and_who_may_stay_stays() {
    if !possible() {
        return;
    }
    let mut shim = idle().await;
    let stays = ExecRequest { on_hangup: OnHangup::Keep.into(), ..shell("stays", "echo still; sleep 1000") };
    shim.client.exec(stays).await.unwrap();
    // Does not mind SIGHUP, and has a child of its own.
    let stubborn = exec(&mut shim, shell("goes", "trap '' HUP; sleep 1000 & echo up; sleep 1000")).await;
    drop(stubborn.unwrap());
    let wait = WaitRequest { exec_id: "goes".into(), ..WaitRequest::default() };
    let waited = tokio::time::timeout(Duration::from_secs(30), shim.client.wait(wait)).await;
    let exit = waited.expect("hung up in time").unwrap().into_inner().exit.unwrap();
    assert_eq!(exit.exit_code, 137);
    until("only the leaf of the other is left", || leaves(&shim).len() == 1).await;
    let mut later = shim.attach(at("stays", 0)).await;
    assert_eq!(later.says("still").await, "still\n");
    let kill = KillRequest { signal: 15, exec_id: "stays".into(), ..KillRequest::default() };
    shim.client.kill(kill.clone()).await.unwrap();
    assert_eq!(later.rest().await.2.exit_code, 143);
    assert_eq!(shim.client.kill(kill).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn what_cannot_be_is_told_with_the_code_of_a_shell() {
    if !possible() {
        return;
    }
    let mut shim = idle().await;
    let plain = |id: &str, program: &str| ExecRequest { args: vec![program.into()], ..shell(id, "") };
    let told = shim.client.exec(plain("a", "nothing")).await.unwrap_err();
    assert_eq!(
        (told.code(), told.message()),
        (Code::NotFound, "exec: \"nothing\": executable file not found in $PATH")
    );
    let told = shim.client.exec(plain("b", "/etc/passwd")).await.unwrap_err();
    assert_eq!(
        (told.code(), told.message()),
        (Code::FailedPrecondition, "exec: \"/etc/passwd\": permission denied")
    );
    for (cwd, code) in [
        ("/proc/self/fd/7", Code::FailedPrecondition),
        ("/nowhere", Code::NotFound),
        ("etc", Code::FailedPrecondition),
    ] {
        let id = cwd.replace('/', "-");
        let request = ExecRequest { working_dir: cwd.into(), ..shell(&id, "pwd; ls") };
        let told = shim.client.exec(request).await.unwrap_err();
        assert_eq!(told.code(), code, "{cwd}: {told}");
    }
    let request = ExecRequest { user: "nosuch".into(), ..shell("f", "id") };
    assert_eq!(shim.client.exec(request).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(shim.client.exec(plain("e", "")).await.unwrap_err().code(), Code::FailedPrecondition);
    until("failed ones leave nothing", || leaves(&shim).is_empty()).await;
    let request = ExecRequest {
        user: "1000:7".into(),
        working_dir: "/tmp".into(),
        env: vec!["A=b".into()],
        ..shell("u", "id -u; id -g; pwd; echo $A")
    };
    assert_eq!(said(&mut shim, request).await, ("1000\n7\n/tmp\nb\n".into(), 0));
}

#[tokio::test]
async fn a_terminal_is_sized_before_and_while_it_runs() {
    if !possible() {
        return;
    }
    let mut shim = idle().await;
    let size = |rows, columns| Some(TerminalSize { rows, columns });
    let script = "stty size; read line; stty size; test -t 0 && test -t 1 && test -t 2; exit $?";
    let request = ExecRequest { terminal: true, open_stdin: true, size: size(33, 99), ..shell("t", script) };
    shim.client.exec(request).await.unwrap();
    let mut client = shim.attach(AttachOpen { stdin: true, ..at("t", 0) }).await;
    client.says("33 99").await;
    shim.client.resize(ResizeRequest { size: size(44, 111), exec_id: "t".into() }).await.unwrap();
    client.type_at(0, "\n", false).await;
    client.says("44 111").await;
    assert_eq!(client.rest().await.2.exit_code, 0);
}

#[tokio::test]
async fn who_ends_the_container_is_heard_all_the_same() {
    if !possible() {
        return;
    }
    let spec = Spec::shell("trap 'exit 3' TERM; while :; do sleep 1000 & wait; done");
    let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
    shim.start(1).await.unwrap();
    shim.client.exec(shell("end", "echo last; kill -TERM 1; exec sleep 1000")).await.unwrap();
    // Its client comes when all is over.
    assert_eq!(
        shim.client.wait(WaitRequest::default()).await.unwrap().into_inner().exit.unwrap().exit_code,
        3
    );
    until("the exec has ended", || {
        let journal = shim.journal();
        journal.iter().any(|entry| matches!(entry.what, What::ExecExit { .. }))
    })
    .await;
    let ([stdout, _], _, exit) = shim.attach(at("end", 0)).await.rest().await;
    assert_eq!((String::from_utf8(stdout).unwrap().as_str(), exit.exit_code), ("last\n", 137));
    shim.gone().await;
}

#[tokio::test]
async fn the_end_of_init_is_the_end_of_all() {
    if !possible() {
        return;
    }
    for host_pids in [false, true] {
        let spec = Spec { host_pids, ..Spec::shell("while :; do sleep 1000; done") };
        let mut shim = if host_pids { Shim::launch_shared().await } else { Shim::launch().await };
        shim.make(&spec, ConfigureRequest::default()).await.unwrap();
        let early = shim.client.exec(shell("early", "true")).await.unwrap_err();
        assert_eq!(
            (early.code(), early.message()),
            (Code::FailedPrecondition, "the container is not running")
        );
        shim.start(1).await.unwrap();
        let mut client = exec(&mut shim, shell("a", "echo up; sleep 1000")).await.unwrap();
        client.says("up").await;
        shim.client.delete(DeleteRequest { force: true }).await.unwrap();
        assert_eq!(client.rest().await.2.exit_code, 137);
        drop(client);
        shim.gone().await;
    }
}
