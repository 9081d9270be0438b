//! Docker's words for containers, written down.

use std::time::{Duration, UNIX_EPOCH};

use davit_proto::container::ContainerSpec;
use davit_proto::types::Exit;
use prost_types::Timestamp;

use super::*;

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1000)
}

fn with(phase: Phase) -> ContainerStatus {
    ContainerStatus { phase: phase.into(), started_at: at(995), ..ContainerStatus::default() }
}

fn exited(code: u32, reason: &str) -> ContainerStatus {
    let exit = Exit { exit_code: code, finished_at: at(993), reason: reason.into(), ..Exit::default() };
    ContainerStatus { exit: Some(exit), ..with(Phase::Exited) }
}

#[test]
fn status_as_docker_says_it() {
    for (status, wanted) in [
        (with(Phase::Running), "Up 5 seconds"),
        (with(Phase::Paused), "Up 5 seconds (Paused)"),
        (with(Phase::Created), "Created"),
        (exited(0, ""), "Exited (0) 7 seconds ago"),
        (exited(137, "its shim was killed"), "Exited (137) 7 seconds ago (its shim was killed)"),
        (with(Phase::Unknown), "Unknown (its shim cannot be reached)"),
        (ContainerStatus { health: "healthy".into(), ..with(Phase::Running) }, "Up 5 seconds (healthy)"),
        (
            ContainerStatus { health: "starting".into(), ..with(Phase::Running) },
            "Up 5 seconds (health: starting)",
        ),
    ] {
        assert_eq!(status_text(&status, now()), wanted);
    }
}

fn port(host_ip: &str, host_port: u32, container_port: u32, protocol: &str) -> PortSpec {
    PortSpec {
        host_ip: host_ip.into(),
        host_port,
        container_port,
        protocol: protocol.into(),
        ..PortSpec::default()
    }
}

#[test]
fn ports_as_docker_shows_them() {
    let shown = |published: &[PortSpec], exposed: &[&str]| {
        let exposed: Vec<String> = exposed.iter().map(ToString::to_string).collect();
        ports(published, &exposed, Phase::Running)
    };
    assert_eq!(shown(&[port("", 8080, 80, "tcp")], &["80/tcp"]), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
    assert_eq!(shown(&[port("127.0.0.1", 53, 53, "udp")], &[]), "127.0.0.1:53->53/udp");
    assert_eq!(shown(&[], &["443/tcp", "80/tcp", "81/tcp"]), "80-81/tcp, 443/tcp");
    let run: Vec<_> = (0..3).map(|n| port("0.0.0.0", 8000 + n, 80 + n, "")).collect();
    assert_eq!(shown(&run, &["90/udp"]), "0.0.0.0:8000-8002->80-82/tcp, 90/udp");
    let apart = [port("0.0.0.0", 8000, 80, ""), port("0.0.0.0", 9000, 81, "")];
    assert_eq!(shown(&apart, &[]), "0.0.0.0:8000->80/tcp, 0.0.0.0:9000->81/tcp");
    let down = [port("0.0.0.0", 9000, 80, ""), port("0.0.0.0", 8000, 81, "")];
    assert_eq!(shown(&down, &[]), "0.0.0.0:9000->80/tcp, 0.0.0.0:8000->81/tcp");
    assert_eq!(ports(&run, &[], Phase::Exited), "");
}

#[test]
fn a_row() {
    let container = Container {
        id: "9e05a1d2c183".to_owned() + &"0".repeat(52),
        name: "magical_mccarthy".into(),
        spec: Some(ContainerSpec { image: "ubuntu:18.04".into(), ..ContainerSpec::default() }),
        status: Some(exited(0, "")),
        created_at: at(992),
        args: vec!["/docker-entrypoint.sh".into(), "a \"b\"".into()],
        labels: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
        ..Container::default()
    };
    let row = of(&container, now(), false);
    let field = |name: &str| match row.field(name) {
        Some(Document::Text(text)) => text.as_str(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(field("ID"), "9e05a1d2c183");
    assert_eq!(field("Command"), "\"/docker-entrypoint.…\"");
    assert_eq!(field("RunningFor"), "8 seconds ago");
    assert_eq!(field("Status"), "Exited (0) 7 seconds ago");
    assert_eq!(field("Labels"), "a=1,b=2");
    assert_eq!(field("State"), "exited");
    let whole = of(&container, now(), true);
    assert_eq!(whole.field("Command"), Some(&"\"/docker-entrypoint.sh a \\\"b\\\"\"".into()));
    for column in COLUMNS {
        assert!(row.field(column.field).is_some(), "{}", column.field);
    }
}
