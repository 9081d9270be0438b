//! The shim's socket beside its own service: health, reflection, strangers.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::harness::{Shim, Spec, possible, until};
use davit_proto::reason;
use davit_proto::status::RemoteError;
use davit_proto::task::tasks_client::TasksClient;
use davit_proto::task::{
    ConfigureRequest, ExecRequest, PauseRequest, PrepareRequest, StateRequest, TaskState,
};
use davit_proto::transport::{Address, dial};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::test]
async fn health_and_reflection_are_served() {
    if !possible() {
        return;
    }
    let shim = Shim::launch().await;
    let channel = dial(&Address::Unix(shim.socket())).await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "davit.task.v1.Tasks"] {
        let request = HealthCheckRequest { service: service.into() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    }
    let unknown = HealthCheckRequest { service: "davit.image.v1.Images".into() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);

    let mut reflection = ServerReflectionClient::new(channel);
    let ask = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let requests = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("davit.task.v1.Tasks".into())),
    ];
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => {
            let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
            assert_eq!(names, ["davit.task.v1.Tasks", "grpc.health.v1.Health"]);
        }
        other => panic!("{other:?}"),
    }
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::FileDescriptorResponse(files) => assert_eq!(files.file_descriptor_proto.len(), 1),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    if !possible() {
        return;
    }
    let mut shim = Shim::launch().await;
    let state = shim.client.state(StateRequest {}).await.unwrap().into_inner().snapshot.unwrap();
    assert_eq!((state.state(), state.generation), (TaskState::Empty, 1));
    assert_eq!(state.shim_pid as u32, shim.pid);
    let exec = ExecRequest { exec_id: "a".into(), args: vec!["/bin/true".into()], ..ExecRequest::default() };
    let exec = RemoteError::from(shim.client.exec(exec).await.unwrap_err());
    assert!(exec.is(reason::CONTAINER_NOT_RUNNING), "{exec:?}");
    let pause = shim.client.pause(PauseRequest::default()).await.unwrap_err();
    assert_eq!(pause.code(), Code::FailedPrecondition);
    let early = shim.start(1).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition);
    let other = PrepareRequest { container_id: "ab".repeat(32), shape: None };
    assert_eq!(shim.client.prepare(other).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn strangers_are_bounded() {
    if !possible() {
        return;
    }
    let mut shim = Shim::launch().await;
    // Half-open, silent, and talking nonsense.
    let mut peers: Vec<UnixStream> =
        (0..1500).filter_map(|_| UnixStream::connect(shim.socket()).ok()).collect();
    for peer in peers.iter_mut().step_by(2) {
        let _ = peer.write_all(b"GET / HTTP/1.1\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff");
    }
    // The connection that was there before is served as before.
    let state = shim.client.state(StateRequest {});
    tokio::time::timeout(Duration::from_secs(5), state).await.unwrap().unwrap();
    let fds = std::fs::read_dir(format!("/proc/{}/fd", shim.pid)).unwrap().count();
    assert!(fds < 700, "{fds} descriptors");
    for peer in &mut peers {
        peer.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let _ = peer.read(&mut [0; 64]);
    }
    drop(peers);
    let dialled = async {
        loop {
            if let Ok(channel) = dial(&Address::Unix(shim.socket())).await
                && TasksClient::new(channel).state(StateRequest {}).await.is_ok()
            {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), dialled).await.expect("places come free");
}

#[tokio::test]
async fn an_idle_shim_keeps_little_of_its_stack() {
    if !possible() {
        return;
    }
    let spec = Spec::shell("sleep 1000");
    let mut shim = Shim::create(&spec, ConfigureRequest::default()).await;
    shim.start(1).await.unwrap();
    let kilobytes = || {
        let maps = std::fs::read_to_string(format!("/proc/{}/smaps", shim.pid)).unwrap();
        let stack = maps.split_once("[stack]").unwrap().1;
        let line = stack.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
        line.trim_end_matches("kB").trim().parse::<u32>().unwrap()
    };
    // Without optimisation its calls touch 170 kB; a release build goes from 52 to 16.
    until("the stack is given back", || kilobytes() <= 120).await;
}
