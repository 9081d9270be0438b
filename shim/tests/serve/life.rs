//! Lives of real containers under a real shim.

use std::time::{Duration, Instant};

use crate::harness::{Shim, Spec, is_alive, listening, possible, until};
use davit_proto::journal::What;
use davit_proto::reason;
use davit_proto::status::RemoteError;
use davit_proto::task::{
    ConfigureRequest, DeleteRequest, KillRequest, PortReservation, ReserveRequest, StateRequest, StopRequest,
    TaskState, WaitRequest, WatchRequest,
};
use davit_proto::types::exit::How;
use tonic::Code;

#[tokio::test]
async fn a_life_from_prepare_to_the_exit_record() {
    if !possible() {
        return;
    }
    let mut shim = Shim::launch().await;
    let announced = shim.announcement();
    assert_eq!(announced["container_id"], shim.id.as_str());
    assert_eq!(announced["instance"], "test");
    let prepared = shim.prepare().await.unwrap();
    assert_eq!(prepared.shim_pid, shim.pid as i32);
    let net = prepared.network_namespace.unwrap();
    let link = std::fs::read_link(format!("/proc/{}/fd/{}", net.pid, net.fd)).unwrap();
    assert_eq!(link.to_str().unwrap(), format!("net:[{}]", net.inode));

    let spec = Spec::shell("echo out; echo err >&2; exit 3");
    shim.make(&spec, ConfigureRequest::default()).await.unwrap();
    let mut client = shim.attach(listening()).await;
    let mut watch = shim.client.watch(WatchRequest::default()).await.unwrap().into_inner();
    let started = shim.start(1).await.unwrap();
    assert!(started.pid > 0 && started.started_at.is_some());
    let ([out, err], dropped, exit) = client.rest().await;
    assert_eq!((out, err, dropped), (b"out\n".to_vec(), b"err\n".to_vec(), 0));
    assert_eq!((exit.life, exit.how, exit.exit_code), (1, Some(How::Code(3)), 3));
    assert!(exit.started_at.is_some() && exit.finished_at.is_some() && !exit.oom_killed);
    assert_eq!(shim.exit_record(), Some(exit.clone()));
    assert_eq!(shim.log(), ["stdout out", "stderr err"]);

    let mut last = None;
    while let Some(state) = watch.message().await.unwrap() {
        last = state.snapshot;
    }
    let last = last.unwrap();
    assert_eq!((last.state(), last.exit), (TaskState::Stopped, Some(exit)));
    drop((client, watch));
    shim.gone().await;
    let journal = shim.journal();
    let exit = What::Exit { exit_code: 3, signal: None, oom: false, unborn: false };
    assert_eq!(journal.last().unwrap().what, exit);
    assert_eq!((journal.len(), last.journal), (2, 2));
}

#[tokio::test]
async fn a_container_outlives_every_client() {
    if !possible() {
        return;
    }
    let spec = Spec { volatile: true, ..Spec::shell("echo one; sleep 0.5; echo two; exit 7") };
    let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
    shim.start(1).await.unwrap();
    shim.client = crate::harness::nobody().await;
    let pid = shim.pid;
    until("the shim is gone", || !is_alive(pid)).await;
    assert_eq!(shim.exit_record().unwrap().exit_code, 7);
    assert_eq!(shim.log(), ["stdout one", "stdout two"]);
    shim.gone().await;
}

#[tokio::test]
async fn every_call_can_be_repeated() {
    if !possible() {
        return;
    }
    let spec = Spec::shell("sleep 100");
    let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
    shim.prepare().await.unwrap();
    shim.client.configure(ConfigureRequest::default()).await.unwrap();
    let first = shim.start(2).await.unwrap();
    assert_eq!(shim.start(2).await.unwrap(), first);
    let other = RemoteError::from(shim.start(3).await.unwrap_err());
    assert!(other.is(reason::CONTAINER_RUNNING), "{other:?}");
    let old = RemoteError::from(shim.start(1).await.unwrap_err());
    assert!(old.is("LIFE_IS_OVER"), "{old:?}");
    let refused = shim.client.delete(DeleteRequest { force: false }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    shim.client.delete(DeleteRequest { force: true }).await.unwrap();
    shim.gone().await;
    assert_eq!(shim.exit_record().unwrap().how, Some(How::Signal(9)));
}

#[tokio::test]
async fn a_life_is_lived_once_also_by_another_shim() {
    if !possible() {
        return;
    }
    let spec = Spec::shell("exit 0");
    let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
    shim.start(1).await.unwrap();
    shim.gone().await;
    let root = std::mem::replace(&mut shim.root, tempfile::tempdir().unwrap());
    let mut next = Shim::launch_for(shim.id.clone(), root).await;
    next.make(&spec, ConfigureRequest::default()).await.unwrap();
    let again = RemoteError::from(next.start(1).await.unwrap_err());
    assert!(again.is("LIFE_IS_OVER"), "{again:?}");
    next.start(2).await.unwrap();
    next.gone().await;
    assert_eq!(next.exit_record().unwrap().life, 2);
}

#[tokio::test]
async fn a_command_that_cannot_run_uses_up_its_life_and_says_why() {
    if !possible() {
        return;
    }
    for (command, why, code) in
        [("/nowhere", reason::COMMAND_NOT_FOUND, 127), ("/etc", reason::COMMAND_NOT_EXECUTABLE, 126)]
    {
        let spec = Spec { args: vec![command.into()], ..Spec::default() };
        let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
        let mut client = shim.attach(listening()).await;
        let error = RemoteError::from(shim.start(1).await.unwrap_err());
        assert!(error.is(why), "{error:?}");
        assert!(error.message.contains(command), "{error:?}");
        let (_, _, exit) = client.rest().await;
        assert_eq!((exit.exit_code, exit.how, exit.started_at), (code, None, None));
        assert_eq!(exit.reason, error.message);
        assert_eq!(shim.exit_record(), Some(exit));
        drop(client);
        shim.gone().await;
    }
}

#[tokio::test]
async fn stop_asks_first_and_kills_later() {
    if !possible() {
        return;
    }
    let obedient = Spec::shell("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done");
    let mut shim = Shim::create(&obedient, ConfigureRequest::default()).await;
    let mut client = shim.attach(listening()).await;
    shim.start(1).await.unwrap();
    client.says("ready").await;
    let timeout = Some(prost_types::Duration { seconds: 100, nanos: 0 });
    let stopped = shim
        .client
        .stop(StopRequest { signal: 15, timeout, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stopped.exit.unwrap().exit_code, 5);
    drop(client);
    shim.gone().await;

    let deaf = Spec::shell("trap '' TERM; echo ready; while :; do sleep 0.01; done");
    let mut shim = Shim::create(&deaf, ConfigureRequest::default()).await;
    let mut client = shim.attach(listening()).await;
    shim.start(1).await.unwrap();
    client.says("ready").await;
    let timeout = Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 });
    let before = Instant::now();
    {
        // The caller goes at once; the clock is the shim's.
        let mut caller = shim.client.clone();
        let call = caller.stop(StopRequest { signal: 15, timeout, ..Default::default() });
        let cut = tokio::time::timeout(Duration::from_millis(100), call).await;
        assert!(cut.is_err(), "{cut:?}");
    }
    let (_, _, exit) = client.rest().await;
    assert!(before.elapsed() >= Duration::from_millis(300));
    assert_eq!((exit.how, exit.exit_code), (Some(How::Signal(9)), 137));
    drop(client);
    shim.gone().await;
}

#[tokio::test]
async fn signals_reach_init_and_sigkill_all() {
    if !possible() {
        return;
    }
    let spec = Spec::shell("trap 'echo usr' USR1; echo ready; while :; do sleep 0.01; done");
    let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
    let early =
        shim.client.kill(KillRequest { signal: 9, all: false, ..Default::default() }).await.unwrap_err();
    assert!(RemoteError::from(early).is(reason::CONTAINER_NOT_RUNNING));
    let mut client = shim.attach(listening()).await;
    shim.start(1).await.unwrap();
    client.says("ready").await;
    for (signal, all) in [(0, false), (65, false), (15, true)] {
        let error = shim.client.kill(KillRequest { signal, all, ..Default::default() }).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    shim.client.kill(KillRequest { signal: 10, all: false, ..Default::default() }).await.unwrap();
    client.says("usr").await;
    shim.client.kill(KillRequest { signal: 9, all: true, ..Default::default() }).await.unwrap();
    let (_, _, exit) = client.rest().await;
    assert_eq!(exit.exit_code, 137);
    drop(client);
    shim.gone().await;
}

#[tokio::test]
async fn a_killed_shim_takes_its_container_along() {
    if !possible() {
        return;
    }
    // Two generations, a session of its own, deaf to everything that can be ignored.
    let script = "trap '' TERM HUP INT; (sleep 1000 & sleep 1000; true) & echo ready; sleep 1000; true";
    let mut shim = Shim::create(&Spec::shell(script), ConfigureRequest::default()).await;
    let mut client = shim.attach(listening()).await;
    shim.start(1).await.unwrap();
    client.says("ready").await;
    let procs = crate::harness::cgroups(&shim.id).pop().unwrap().join("cgroup.procs");
    let read = || std::fs::read_to_string(&procs).unwrap();
    until("init, a shell and three sleeps", || read().lines().count() == 5).await;
    let pids: Vec<u32> = read().lines().map(|line| line.parse().unwrap()).collect();
    for stray in [1, 2, 10, 12, 15] {
        // Nothing that somebody sends by mistake.
        let pidfd = davit_sys::process::pidfd_open(shim.pid as i32).unwrap();
        davit_sys::process::signal(&pidfd, stray).unwrap();
    }
    let state = shim.client.state(StateRequest {}).await.unwrap().into_inner().snapshot.unwrap();
    assert_eq!(state.state(), TaskState::Running);
    let pidfd = davit_sys::process::pidfd_open(shim.pid as i32).unwrap();
    let killed = Instant::now();
    davit_sys::process::signal(&pidfd, 9).unwrap();
    until("every process is gone", || pids.iter().all(|pid| !is_alive(*pid))).await;
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    assert_eq!(shim.exit_record(), None);
}

#[tokio::test]
async fn a_shim_that_nobody_configures_ends_with_its_controller() {
    if !possible() {
        return;
    }
    let mut empty = Shim::launch().await;
    empty.abandon();
    empty.gone().await;
    let mut prepared = Shim::launch().await;
    prepared.prepare().await.unwrap();
    prepared.abandon();
    prepared.gone().await;
    let mut deleted = Shim::launch().await;
    deleted.prepare().await.unwrap();
    deleted.client.delete(DeleteRequest { force: false }).await.unwrap();
    deleted.gone().await;
    assert_eq!(deleted.exit_record(), None);
}

#[tokio::test]
async fn a_container_that_cannot_be_configured_leaves_nothing() {
    if !possible() {
        return;
    }
    let mut shim = Shim::launch().await;
    shim.prepare().await.unwrap();
    std::fs::write(shim.bundle().join("config.json"), "{").unwrap();
    let error = shim.client.configure(ConfigureRequest::default()).await.unwrap_err();
    assert!(error.message().contains("config.json"), "{error}");
    shim.gone().await;
}

#[tokio::test]
async fn ports_are_held_until_the_end() {
    if !possible() {
        return;
    }
    let mut shim = Shim::launch().await;
    shim.prepare().await.unwrap();
    let port = |host_port, protocol: &str| PortReservation {
        host_ip: "127.0.0.1".into(),
        host_port,
        protocol: protocol.into(),
        ..PortReservation::default()
    };
    let request = ReserveRequest { ports: vec![port(0, "tcp"), port(0, "udp")], known: 0 };
    let held = shim.client.reserve(request.clone()).await.unwrap().into_inner().ports;
    assert_eq!(shim.client.reserve(request).await.unwrap().into_inner().ports, held, "a repeat");
    let tcp = held[0].host_port as u16;
    let taken = std::net::TcpListener::bind(("127.0.0.1", tcp)).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    assert!(std::net::UdpSocket::bind(("127.0.0.1", held[1].host_port as u16)).is_err());
    assert_ne!(held[1].host_port, 0);

    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = other.local_addr().unwrap().port();
    let request = ReserveRequest { ports: vec![port(number.into(), "tcp")], known: 0 };
    let error = RemoteError::from(shim.client.reserve(request).await.unwrap_err());
    assert!(error.is(reason::PORT_TAKEN), "{error:?}");
    assert!(error.message.contains(&format!("127.0.0.1:{number}/tcp")), "{error:?}");
    assert!(error.message.contains(&format!("pid {}", std::process::id())), "{error:?}");
    shim.client.delete(DeleteRequest::default()).await.unwrap();
    shim.gone().await;
    std::net::TcpListener::bind(("127.0.0.1", tcp)).unwrap();
}

#[tokio::test]
async fn wait_knows_its_life() {
    if !possible() {
        return;
    }
    let mut shim = Shim::create(&Spec::shell("exit 9"), ConfigureRequest::default()).await;
    let mut early = shim.client.clone();
    let wait =
        tokio::spawn(async move { early.wait(WaitRequest { life: 4, ..WaitRequest::default() }).await });
    let mut wrong = shim.client.clone();
    let old =
        tokio::spawn(async move { wrong.wait(WaitRequest { life: 3, ..WaitRequest::default() }).await });
    shim.start(4).await.unwrap();
    assert_eq!(wait.await.unwrap().unwrap().into_inner().exit.unwrap().exit_code, 9);
    assert_eq!(old.await.unwrap().unwrap_err().code(), Code::OutOfRange);
    shim.gone().await;
}

#[tokio::test]
async fn want_of_memory_is_told() {
    if !possible() {
        return;
    }
    let limited = |script| Spec { memory: Some(24 << 20), ..Spec::shell(script) };
    let mut hungry = Shim::create(&limited("exec tail /dev/zero"), ConfigureRequest::default()).await;
    hungry.start(1).await.unwrap();
    hungry.gone().await;
    let exit = hungry.exit_record().unwrap();
    assert_eq!((exit.oom_killed, exit.how), (true, Some(How::Signal(9))), "{}", hungry.shim_log());
    let mut modest = Shim::create(&limited("kill -9 $$"), ConfigureRequest::default()).await;
    modest.start(1).await.unwrap();
    modest.gone().await;
    assert!(!modest.exit_record().unwrap().oom_killed);
}

#[tokio::test]
async fn a_container_with_the_hosts_pids_ends_as_whole_as_any() {
    if !possible() {
        return;
    }
    let script = "sleep 1000 & echo $$ $!; read line; exit 6";
    let spec = Spec { host_pids: true, ..Spec::shell(script) };
    let stdin = ConfigureRequest { open_stdin: true, ..ConfigureRequest::default() };
    let run = async || {
        let mut shim = Shim::launch_shared().await;
        shim.make(&spec, stdin.clone()).await.unwrap();
        let mut client = shim.attach(crate::harness::typing("")).await;
        let started = shim.start(1).await.unwrap();
        let said = client.says("\n").await;
        let pids: Vec<u32> = said.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids[0], started.pid as u32, "it sees the host's numbers");
        (shim, client, pids)
    };
    // Ends by itself: what it left behind is killed.
    let (shim, mut client, pids) = run().await;
    client.type_at(0, "\n", false).await;
    let (_, _, exit) = client.rest().await;
    assert_eq!(exit.exit_code, 6);
    until("every process is gone", || pids.iter().all(|pid| !is_alive(*pid))).await;
    drop(client);
    shim.gone().await;
    // Its shim is killed.
    let (shim, _client, pids) = run().await;
    let pidfd = davit_sys::process::pidfd_open(shim.pid as i32).unwrap();
    let killed = Instant::now();
    davit_sys::process::signal(&pidfd, 9).unwrap();
    until("every process is gone", || pids.iter().all(|pid| !is_alive(*pid))).await;
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
}
