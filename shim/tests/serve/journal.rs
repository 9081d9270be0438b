//! What a shim writes down of what happened, and why.

use crate::harness::{Shim, Spec, listening, possible};
use davit_proto::journal::{Entry, What};
use davit_proto::task::{
    ConfigureRequest, KillRequest, StartRequest, StopRequest, WaitRequest, WatchRequest,
};

const ACTOR: &str = "davit test (uid 0, pid 12)";

fn causes(journal: &[Entry]) -> Vec<(u64, &What, &str)> {
    journal.iter().map(|entry| (entry.life, &entry.what, entry.cause.as_str())).collect()
}

fn killed(signal: u32) -> What {
    What::Exit { exit_code: 128 + signal, signal: Some(signal), oom: false, unborn: false }
}

async fn ready(shim: &mut Shim, life: u64) -> u32 {
    let mut client = shim.attach(listening()).await;
    let start = StartRequest { life, actor: ACTOR.into() };
    let pid = shim.client.start(start).await.unwrap().into_inner().pid;
    client.says("ready").await;
    u32::try_from(pid).unwrap()
}

#[tokio::test]
async fn who_did_what_is_written_before_it_is_told() {
    if !possible() {
        return;
    }
    let spec = Spec::shell("trap : USR1; echo ready; while :; do sleep 0.01; done");
    let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
    let pid = ready(&mut shim, 1).await;
    let mut watch = shim.client.watch(WatchRequest::default()).await.unwrap().into_inner();
    for signal in [10, 9] {
        let kill = KillRequest { signal, actor: ACTOR.into(), ..KillRequest::default() };
        shim.client.kill(kill).await.unwrap();
    }
    let mut seen = 0;
    while let Some(state) = watch.message().await.unwrap() {
        let told = state.snapshot.unwrap().journal;
        assert!(told >= seen && told <= shim.journal().last().unwrap().n, "{told} after {seen}");
        seen = told;
    }
    drop(watch);
    shim.gone().await;
    let journal = shim.journal();
    let end = format!("signal 9 from {ACTOR}");
    assert_eq!(
        causes(&journal),
        [
            (1, &What::Start { pid }, ACTOR),
            (1, &What::Signal { signal: 10 }, ACTOR),
            (1, &What::Signal { signal: 9 }, ACTOR),
            (1, &killed(9), end.as_str()),
        ]
    );
    assert_eq!(seen, 4);

    // Another shim of the same container goes on.
    let root = std::mem::replace(&mut shim.root, tempfile::tempdir().unwrap());
    let mut next = Shim::launch_for(shim.id.clone(), root).await;
    next.make(&spec, ConfigureRequest::default()).await.unwrap();
    assert_eq!(next.state().await.journal, 4);
    ready(&mut next, 2).await;
    assert_eq!(next.state().await.journal, 5);
    let timeout = Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
    let stop = StopRequest { signal: 28, timeout, actor: ACTOR.into() };
    next.client.stop(stop).await.unwrap();
    next.gone().await;
    let journal = next.journal();
    let last = causes(&journal[5..]);
    assert_eq!(last[0], (2, &What::Stop { signal: 28, timeout_ms: Some(50) }, ACTOR));
    assert_eq!(last[1], (2, &What::StopTimeout, ACTOR));
    assert_eq!(last[2].1, &killed(9));
    assert!(last[2].2.contains("after a stop from davit test"), "{last:?}");
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_stops_nothing() {
    if !possible() {
        return;
    }
    let spec = Spec::shell("echo ready; read line; exit 4");
    let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
    // Not a file: neither opened nor written to.
    std::fs::create_dir(shim.bundle().join("life")).unwrap();
    let mut client = shim.client.clone();
    let wait =
        tokio::spawn(async move { client.wait(WaitRequest { life: 1, ..WaitRequest::default() }).await });
    shim.start(1).await.unwrap();
    assert_eq!(wait.await.unwrap().unwrap().into_inner().exit.unwrap().exit_code, 4);
    assert_eq!(shim.exit_record().unwrap().exit_code, 4);
    shim.gone().await;
    assert!(shim.shim_log().contains("the journal was not written"), "{}", shim.shim_log());
}

#[tokio::test]
async fn want_of_memory_is_the_cause() {
    if !possible() {
        return;
    }
    let spec = Spec { memory: Some(24 << 20), ..Spec::shell("exec tail /dev/zero") };
    let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
    shim.start(1).await.unwrap();
    shim.gone().await;
    let last = shim.journal().pop().unwrap();
    assert_eq!(last.cause, "out of memory: 1 process killed by the kernel, limit 24 MiB");
    assert_eq!(last.what, What::Exit { exit_code: 137, signal: Some(9), oom: true, unborn: false });
}

#[tokio::test]
async fn a_life_that_never_began_says_why() {
    if !possible() {
        return;
    }
    let spec = Spec { args: vec!["/nowhere".into()], ..Spec::default() };
    let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
    shim.start(1).await.unwrap_err();
    shim.gone().await;
    let last = shim.journal().pop().unwrap();
    assert_eq!(last.what, What::Exit { exit_code: 127, signal: None, oom: false, unborn: true });
    assert!(last.cause.contains("/nowhere"), "{last:?}");
}
