//! Containers that are frozen and thawed.

use crate::harness::{Shim, Spec, cgroups, listening, possible, until};
use davit_proto::journal::What;
use davit_proto::status::RemoteError;
use davit_proto::task::{
    ConfigureRequest, DeleteRequest, KillRequest, PauseRequest, ResumeRequest, Snapshot, StopRequest,
    TaskState,
};
use davit_proto::types::exit::How;

const ACTOR: &str = "davit test (uid 0, pid 12)";
/// Never sleeps: its processor time stands still only when it is frozen.
const BUSY: &str = "trap 'exit 5' TERM; echo ready; while :; do :; done";

async fn running(script: &str) -> Shim {
    let mut shim = Shim::create(&Spec::shell(script), ConfigureRequest::default()).await;
    let mut client = shim.attach(listening()).await;
    shim.start(1).await.unwrap();
    client.says("ready").await;
    shim
}

async fn pause(shim: &mut Shim) -> Snapshot {
    shim.client.pause(PauseRequest { actor: ACTOR.into() }).await.unwrap();
    shim.state().await
}

/// Clock ticks that a process has run for.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = rest.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn what_is_paused_stands_still() {
    if !possible() {
        return;
    }
    let mut shim = running(BUSY).await;
    let pid = shim.state().await.pid;
    let paused = pause(&mut shim).await;
    assert_eq!((paused.state(), paused.pid, paused.life), (TaskState::Paused, pid, 1));
    let frozen = cgroups(&shim.id).iter().any(|cgroup| {
        std::fs::read_to_string(cgroup.join("cgroup.events")).is_ok_and(|events| events.contains("frozen 1"))
    });
    assert!(frozen, "it was answered before it was true");
    let before = ticks(pid);
    let again = RemoteError::from(shim.client.pause(PauseRequest::default()).await.unwrap_err());
    assert_eq!(again.message, "the container is already paused");
    let begun = std::time::Instant::now();
    // Long enough for some ticks, were it running.
    until("time has passed", || begun.elapsed().as_millis() > 200).await;
    assert_eq!(ticks(pid), before);
    shim.client.resume(ResumeRequest { actor: ACTOR.into() }).await.unwrap();
    assert_eq!(shim.state().await.state(), TaskState::Running);
    until("it runs again", || ticks(pid) > before).await;
    let not = RemoteError::from(shim.client.resume(ResumeRequest::default()).await.unwrap_err());
    assert_eq!(not.message, "the container is not paused");
    let journal = shim.journal();
    let told: Vec<_> = journal.iter().skip(1).map(|entry| (&entry.what, entry.cause.as_str())).collect();
    assert_eq!(told, [(&What::Pause, ACTOR), (&What::Resume, ACTOR)]);
    shim.client.delete(DeleteRequest { force: true }).await.unwrap();
    shim.gone().await;
}

#[tokio::test]
async fn a_stop_thaws_what_shall_hear_it() {
    if !possible() {
        return;
    }
    let mut shim = running(BUSY).await;
    pause(&mut shim).await;
    let timeout = Some(prost_types::Duration { seconds: 100, nanos: 0 });
    let stop = StopRequest { signal: 15, timeout, actor: ACTOR.into() };
    let exit = shim.client.stop(stop).await.unwrap().into_inner().exit.unwrap();
    assert_eq!(exit.how, Some(How::Code(5)));
    shim.gone().await;
    let what: Vec<What> = shim.journal().into_iter().map(|entry| entry.what).collect();
    assert!(matches!(
        what.as_slice(),
        [What::Start { .. }, What::Pause, What::Stop { signal: 15, .. }, What::Resume, What::Exit { .. }]
    ));
}

#[tokio::test]
async fn what_is_paused_can_be_killed_and_deleted() {
    if !possible() {
        return;
    }
    for all in [false, true] {
        let mut shim = running(BUSY).await;
        pause(&mut shim).await;
        // Heard when it goes on.
        shim.client.kill(KillRequest { signal: 10, ..KillRequest::default() }).await.unwrap();
        assert_eq!(shim.state().await.state(), TaskState::Paused);
        shim.client.kill(KillRequest { signal: 9, all, ..KillRequest::default() }).await.unwrap();
        shim.gone().await;
        assert_eq!(shim.exit_record().unwrap().how, Some(How::Signal(9)));
    }
    let mut shim = running(BUSY).await;
    pause(&mut shim).await;
    let refused = RemoteError::from(shim.client.delete(DeleteRequest { force: false }).await.unwrap_err());
    assert_eq!(refused.message, "the container is paused");
    shim.client.delete(DeleteRequest { force: true }).await.unwrap();
    shim.gone().await;
    assert_eq!(shim.journal().pop().unwrap().cause, "signal 9 from a removal by force");
}

#[tokio::test]
async fn only_what_runs_can_be_paused() {
    if !possible() {
        return;
    }
    let mut shim = Shim::create(&Spec::shell("exit 0"), ConfigureRequest::default()).await;
    let paused = shim.client.pause(PauseRequest::default()).await.map(|_| ());
    let resumed = shim.client.resume(ResumeRequest::default()).await.map(|_| ());
    for answer in [paused, resumed] {
        assert_eq!(RemoteError::from(answer.unwrap_err()).message, "the container is not running");
    }
}
