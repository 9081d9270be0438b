//! Lives that follow each other by policy, with nobody there but the shim.

use std::os::unix::fs::MetadataExt as _;

use crate::harness::{Attachment, Shim, Spec, cgroups, is_alive, listening, nobody, possible, typing, until};
use davit_proto::journal::{Entry, What};
use davit_proto::status::RemoteError;
use davit_proto::task::{
    ConfigureRequest, DeleteRequest, ExecRequest, KillRequest, PauseRequest, ResizeRequest, Snapshot,
    StartRequest, StopRequest, TaskState, WaitRequest,
};
use davit_proto::types::TerminalSize;
use davit_proto::types::exit::How;
use davit_proto::wanted::{Mode, Want};

const ACTOR: &str = "davit test (uid 0, pid 12)";

fn start(life: u64) -> StartRequest {
    StartRequest { life, actor: ACTOR.into() }
}

fn delays(journal: &[Entry]) -> Vec<(u64, u32)> {
    let restarts = journal.iter().filter_map(|entry| match entry.what {
        What::Restarting { delay_ms, count } => Some((delay_ms, count)),
        _ => None,
    });
    restarts.collect()
}

fn runs(life: u64) -> impl Fn(&Snapshot) -> bool {
    move |state| state.life == life && state.state() == TaskState::Running
}

fn waits_after(life: u64) -> impl Fn(&Snapshot) -> bool {
    move |state| state.life == life && state.state() == TaskState::Restarting
}

fn open_stdin() -> ConfigureRequest {
    ConfigureRequest { open_stdin: true, ..ConfigureRequest::default() }
}

async fn created(script: &str, mode: Mode, max_retries: u32) -> Shim {
    let shim = Shim::create(&Spec::shell(script), ConfigureRequest::default()).await;
    shim.want(Want::Run, mode, max_retries);
    shim
}

#[tokio::test]
async fn failures_are_retried_with_growing_delays_until_it_gives_up() {
    if !possible() {
        return;
    }
    let mut shim = created("echo life; exit 3", Mode::OnFailure, 2).await;
    let mut client = shim.attach(listening()).await;
    shim.client.start(start(1)).await.unwrap();
    let mut waiter = shim.client.clone();
    let first = tokio::spawn(async move { waiter.wait(WaitRequest { life: 1, ..Default::default() }).await });
    let mut waiter = shim.client.clone();
    let last = tokio::spawn(async move { waiter.wait(WaitRequest::default()).await });
    let (said, dropped, exit) = client.rest().await;
    assert_eq!((said[0].as_slice(), dropped), (&b"life\nlife\nlife\n"[..], 0), "one client for all lives");
    assert_eq!((exit.life, exit.how), (3, Some(How::Code(3))));
    assert_eq!(first.await.unwrap().unwrap().into_inner().exit.unwrap().life, 1);
    assert_eq!(last.await.unwrap().unwrap().into_inner().exit.unwrap().life, 3);
    drop(client);
    shim.gone().await;
    assert_eq!(shim.exit_record().unwrap(), exit);
    assert_eq!(shim.log(), ["stdout life"; 3]);

    let journal = shim.journal();
    assert_eq!(delays(&journal), [(100, 1), (200, 2)]);
    let told: Vec<(u64, &str)> = journal.iter().map(|entry| (entry.life, entry.cause.as_str())).collect();
    assert_eq!(
        told,
        [
            (1, ACTOR),
            (1, ""),
            (1, "restart policy on-failure:2"),
            (2, "restart policy on-failure:2, restart 1 after 100ms"),
            (2, ""),
            (2, "restart policy on-failure:2"),
            (3, "restart policy on-failure:2, restart 2 after 200ms"),
            (3, ""),
            (3, "restart policy on-failure:2: it failed again after 2 restarts"),
        ]
    );
    assert_eq!(journal[8].what, What::GaveUp);
    assert!(matches!(journal[3].what, What::Start { pid } if pid > 0));
}

#[tokio::test]
async fn a_later_life_has_the_namespaces_and_the_address_of_the_first() {
    if !possible() {
        return;
    }
    // The first life leaves an address, a file in its writable layer, one in memory and a process behind.
    let script = "read line; if test -e /tmp/file; then ip addr show lo; test -e /dev/shm/gone && echo kept; \
        echo again; sleep 1000; fi; ip addr add 192.0.2.77/32 dev lo; touch /tmp/file /dev/shm/gone; \
        sleep 1000 & exit 0";
    let spec = Spec { net_admin: true, ..Spec::shell(script) };
    let mut shim = Shim::create(&spec, open_stdin()).await;
    shim.want(Want::Run, Mode::UnlessStopped, 0);
    let mut client = shim.attach(typing("")).await;
    shim.client.start(start(1)).await.unwrap();
    let before = shim.state().await;
    let net = before.network_namespace.unwrap();
    let inode = |pid: i32, name: &str| std::fs::metadata(format!("/proc/{pid}/{name}")).unwrap().ino();
    let namespaces = ["ns/net", "ns/ipc", "ns/uts"].map(|name| inode(before.pid, name));
    assert_eq!(namespaces[0], net.inode);
    client.type_at(0, "\n", false).await;
    let after = shim.await_state("a second life", runs(2)).await;
    assert_eq!((after.restart_count, after.exit.as_ref().unwrap().life), (1, 1));
    assert_eq!(after.network_namespace, Some(net), "others were told of it");
    assert_eq!(inode(net.pid, &format!("fd/{}", net.fd)), net.inode);
    assert_eq!(["ns/net", "ns/ipc", "ns/uts"].map(|name| inode(after.pid, name)), namespaces);
    client.type_at(1, "\n", false).await;
    let said = client.says("again").await;
    assert!(said.contains("192.0.2.77") && !said.contains("kept"), "{said}");
    let processes = || {
        let procs = cgroups(&shim.id).pop().unwrap().join("cgroup.procs");
        std::fs::read_to_string(procs).unwrap().lines().count()
    };
    until("the shell and its sleep", || processes() == 2).await;
    shim.client.delete(DeleteRequest { force: true }).await.unwrap();
    drop(client);
    shim.gone().await;
}

#[tokio::test]
async fn what_is_wanted_decides_and_not_who_is_there() {
    if !possible() {
        return;
    }
    // Written, and the one who wrote it died before it could call: the next end is the last.
    let mut shim = created("sleep 0.2; exit 0", Mode::Always, 0).await;
    shim.client.start(start(1)).await.unwrap();
    shim.want(Want::Stop, Mode::Always, 0);
    shim.client = nobody().await;
    shim.gone().await;
    assert_eq!(shim.exit_record().unwrap().life, 1);
    assert_eq!(delays(&shim.journal()), []);

    // The same while it waits for its next life.
    let mut shim = created("exit 1", Mode::Always, 0).await;
    shim.client.start(start(1)).await.unwrap();
    let waits = |state: &Snapshot| state.life >= 4 && state.state() == TaskState::Restarting;
    let life = shim.await_state("a wait", waits).await.life;
    shim.want(Want::Stop, Mode::Always, 0);
    shim.client = nobody().await;
    shim.gone().await;
    assert_eq!(shim.exit_record().unwrap().life, life);

    // Nothing and nonsense start nothing.
    for wanted in [None, Some("{\"revision\":1,\"want\":\"dance\"}")] {
        let mut shim = created("exit 1", Mode::Always, 0).await;
        let path = shim.bundle().join("wanted");
        match wanted {
            Some(text) => std::fs::write(path, text).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        shim.client.start(start(1)).await.unwrap();
        shim.gone().await;
        assert_eq!(shim.exit_record().unwrap().life, 1);
    }
}

async fn waiting(script: &str) -> (Shim, Attachment) {
    let mut shim = created(script, Mode::Always, 0).await;
    let client = shim.attach(listening()).await;
    shim.client.start(start(1)).await.unwrap();
    // A delay of 1.6 s is long enough for some calls.
    let state = shim.await_state("a wait", waits_after(5)).await;
    assert_eq!((state.restart_count, state.pid, state.exit.unwrap().life), (5, 0, 5));
    (shim, client)
}

#[tokio::test]
async fn calls_are_answered_while_it_waits_for_its_next_life() {
    if !possible() {
        return;
    }
    let (mut shim, mut client) = waiting("exit 1").await;
    let refused = RemoteError::from(shim.client.delete(DeleteRequest { force: false }).await.unwrap_err());
    assert_eq!(refused.message, "the container is restarting (life 5 is over)");
    let kill = KillRequest { signal: 15, ..KillRequest::default() };
    let killed = shim.client.kill(kill).await.unwrap_err();
    let paused = shim.client.pause(PauseRequest::default()).await.unwrap_err();
    for refused in [killed, paused] {
        assert_eq!(RemoteError::from(refused).message, "the container is not running");
    }
    let stop = StopRequest { signal: 15, timeout: None, actor: ACTOR.into() };
    let exit = shim.client.stop(stop).await.unwrap().into_inner().exit.unwrap();
    assert_eq!((exit.life, exit.exit_code), (5, 1));
    assert_eq!(client.rest().await.2.life, 5);
    drop(client);
    shim.gone().await;
    assert_eq!(shim.journal().pop().unwrap().what, What::Stop { signal: 15, timeout_ms: None });

    let (mut shim, client) = waiting("exit 1").await;
    shim.client.kill(KillRequest { signal: 9, ..KillRequest::default() }).await.unwrap();
    drop(client);
    shim.gone().await;
    assert_eq!(shim.journal().pop().unwrap().what, What::Signal { signal: 9 });

    let (mut shim, client) = waiting("exit 1").await;
    shim.client.delete(DeleteRequest { force: true }).await.unwrap();
    drop(client);
    shim.gone().await;
    assert_eq!(shim.exit_record().unwrap().life, 5);
}

#[tokio::test]
async fn a_person_need_not_wait_and_starts_the_count_anew() {
    if !possible() {
        return;
    }
    let script = "test -e /tmp/on && echo up && sleep 1000; exit 1";
    let (mut shim, mut client) = waiting(script).await;
    // In its writable layer, which nobody has mounted in this moment.
    std::fs::create_dir_all(shim.bundle().join("upper/tmp")).unwrap();
    std::fs::write(shim.bundle().join("upper/tmp/on"), "").unwrap();
    shim.client.start(start(6)).await.unwrap();
    client.says("up").await;
    let state = shim.state().await;
    assert_eq!((state.state(), state.life, state.restart_count), (TaskState::Running, 6, 0));
    let last = shim.journal().pop().unwrap();
    assert!(matches!(last.what, What::Start { .. }) && last.cause == ACTOR, "{last:?}");
    // A stop of this life is the end, whatever the file says.
    let timeout = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    shim.client.stop(StopRequest { signal: 15, timeout, actor: ACTOR.into() }).await.unwrap();
    drop(client);
    shim.gone().await;
    assert_eq!(shim.exit_record().unwrap().life, 6);
}

#[tokio::test]
async fn a_life_that_cannot_begin_is_a_failure_but_the_first() {
    if !possible() {
        return;
    }
    let spec = Spec { args: vec!["/nowhere".into()], ..Spec::default() };
    let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
    shim.want(Want::Run, Mode::Always, 0);
    shim.client.start(start(1)).await.unwrap_err();
    shim.gone().await;
    assert_eq!(delays(&shim.journal()), []);

    // The program takes itself away.
    let mut shim = created("rm /bin/sh", Mode::Always, 0).await;
    shim.client.start(start(1)).await.unwrap();
    shim.await_state("some failures", |state| state.exit.as_ref().is_some_and(|exit| exit.life >= 3)).await;
    let journal = shim.journal();
    let ends = journal.iter().filter_map(|entry| match &entry.what {
        What::Exit { unborn, exit_code, .. } => Some((entry.life, *unborn, *exit_code)),
        _ => None,
    });
    assert_eq!(ends.take(3).collect::<Vec<_>>(), [(1, false, 0), (2, true, 127), (3, true, 127)]);
    assert!(shim.exit_record().unwrap().reason.contains("/bin/sh"));
    // A person is told, and that is all.
    shim.await_state("another", waits_after(5)).await;
    let error = shim.client.start(start(6)).await.unwrap_err();
    assert!(error.message().contains("/bin/sh"), "{error}");
    shim.gone().await;
    assert_eq!(shim.exit_record().unwrap().life, 6);
}

#[tokio::test]
async fn processes_of_the_hosts_numbers_do_not_live_on_into_the_next_life() {
    if !possible() {
        return;
    }
    let spec = Spec { host_pids: true, ..Spec::shell("sleep 1000 & echo $!; read line; exit 1") };
    let mut shim = Shim::launch_shared().await;
    shim.make(&spec, open_stdin()).await.unwrap();
    shim.want(Want::Run, Mode::OnFailure, 1);
    let mut client = shim.attach(typing("")).await;
    shim.client.start(start(1)).await.unwrap();
    let first: u32 = client.says("\n").await.trim().parse().unwrap();
    client.type_at(0, "\n", false).await;
    let second: u32 = client.says("\n").await.trim().parse().unwrap();
    assert!(!is_alive(first), "gone before the next life");
    assert!(is_alive(second));
    client.type_at(1, "\n", false).await;
    assert_eq!(client.rest().await.2.life, 2);
    until("every process is gone", || !is_alive(second)).await;
    drop(client);
    shim.gone().await;
}

#[tokio::test]
async fn a_terminal_keeps_its_client_and_its_size() {
    if !possible() {
        return;
    }
    let spec = Spec { terminal: true, ..Spec::shell("read line; stty size; exit 1") };
    let mut shim = Shim::create(&spec, open_stdin()).await;
    shim.want(Want::Run, Mode::OnFailure, 1);
    let mut client = shim.attach(typing("")).await;
    shim.client.start(start(1)).await.unwrap();
    let size = Some(TerminalSize { rows: 33, columns: 101 });
    shim.client.resize(ResizeRequest { size, ..ResizeRequest::default() }).await.unwrap();
    client.type_at(0, "a\n", false).await;
    client.says("33 101").await;
    shim.await_state("a second life", runs(2)).await;
    client.type_at(2, "b\n", false).await;
    client.says("33 101").await;
    assert_eq!(client.rest().await.2.life, 2);
    drop(client);
    shim.gone().await;
}

/// What a process has open, by kind.
fn descriptors(pid: u32) -> Vec<String> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let kind =
        |link: std::path::PathBuf| link.display().to_string().split([':', '[']).next().unwrap().to_owned();
    let mut kinds: Vec<String> = links.map(kind).collect();
    kinds.sort();
    kinds
}

/// Kilobytes that the process has written to; those of the program are its own or shared as other shims come and go.
fn memory(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let own = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    own.trim_end_matches("kB").trim().parse().unwrap()
}

/// Lets life follow life, without the delays of the policy, until one of some number is over.
async fn hurry(shim: &mut Shim, life: u64) {
    loop {
        let waits = |state: &Snapshot| state.state() == TaskState::Restarting;
        let last = shim.await_state("the end of a life", waits).await.life;
        if last >= life {
            return;
        }
        // The policy may have been faster.
        let _ = shim.client.start(start(last + 1)).await;
    }
}

#[tokio::test]
async fn fifty_lives_leave_nothing_in_the_shim() {
    if !possible() {
        return;
    }
    let script = "test -e /tmp/stay && echo up && sleep 1000; exit 1";
    let mut shim = created(script, Mode::Always, 0).await;
    shim.client.start(start(1)).await.unwrap();
    let stay = shim.bundle().join("upper/tmp/stay");
    let mut seen = Vec::new();
    for life in [3, 50] {
        hurry(&mut shim, life).await;
        std::fs::create_dir_all(stay.parent().unwrap()).unwrap();
        std::fs::write(&stay, "").unwrap();
        until("one of them stays", || shim.log().len() > seen.len()).await;
        seen.push((descriptors(shim.pid), memory(shim.pid)));
        std::fs::remove_file(&stay).unwrap();
        shim.client.kill(KillRequest { signal: 9, ..KillRequest::default() }).await.unwrap();
    }
    let [(open, own), (still_open, now)] = seen.try_into().unwrap();
    assert_eq!(still_open, open);
    // Without optimisation a stack that was not given back yet is 100 kB.
    assert!(now < own + 256, "{now} kB after fifty lives, {own} kB after three");
    shim.client.delete(DeleteRequest { force: true }).await.unwrap();
    shim.gone().await;
    shim.journal();
}

#[tokio::test]
async fn execs_end_with_their_life_and_the_next_one_has_its_own() {
    if !possible() {
        return;
    }
    let mut shim = created("trap 'exit 1' TERM; while :; do sleep 0.01; done", Mode::Always, 0).await;
    shim.client.start(start(1)).await.unwrap();
    let mut open = None;
    for life in 1..=4 {
        let exec_id = format!("exec-{life}");
        let args = ["/bin/sleep", "1000"].map(str::to_owned).to_vec();
        let exec = ExecRequest { exec_id: exec_id.clone(), args, ..ExecRequest::default() };
        shim.client.exec(exec).await.unwrap();
        match &open {
            // The first one to end leaves something to be remembered of it, the later ones the same.
            None => open = (life == 2).then(|| descriptors(shim.pid).len()),
            Some(open) => assert_eq!(descriptors(shim.pid).len(), *open),
        }
        // In turn by itself and by force, which leaves a cgroup that nobody can be cloned into.
        let kill = match life % 2 {
            0 => KillRequest { signal: 15, ..KillRequest::default() },
            _ => KillRequest { signal: 9, all: true, ..KillRequest::default() },
        };
        shim.client.kill(kill).await.unwrap();
        let waited = shim.client.wait(WaitRequest { exec_id, ..WaitRequest::default() }).await.unwrap();
        let exit = waited.into_inner().exit.unwrap();
        assert_eq!((exit.life, exit.how), (life, Some(How::Signal(9))));
        shim.await_state("the end of a life", waits_after(life)).await;
        shim.client.start(start(life + 1)).await.unwrap();
    }
    shim.client.delete(DeleteRequest { force: true }).await.unwrap();
    shim.gone().await;
    let journal = shim.journal();
    let told = |life| journal.iter().filter(move |entry| entry.life == life).map(|entry| &entry.what);
    assert!(told(3).any(|what| matches!(what, What::ExecStart { .. })), "{journal:#?}");
    assert!(told(3).any(|what| matches!(what, What::ExecExit { exit_code: 137, .. })), "{journal:#?}");
}
