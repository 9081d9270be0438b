//! Docker's fields, written down.

use davit_proto::container::{MountSpec, MountStatus, NetworkStatus, PortSpec, RestartMode, RestartPolicy};
use davit_proto::types::Exit;
use prost_types::Timestamp;

use super::*;

fn container() -> Container {
    let bind = MountSpec {
        kind: MountKind::Bind.into(),
        source: "/a".into(),
        target: "/b".into(),
        read_only: true,
        create_source: true,
        ..MountSpec::default()
    };
    let image = MountSpec {
        kind: MountKind::Image.into(),
        source: "busybox".into(),
        target: "/i".into(),
        subpath: "etc".into(),
        ..MountSpec::default()
    };
    let port =
        PortSpec { host_port: 8080, container_port: 80, protocol: "tcp".into(), ..PortSpec::default() };
    Container {
        id: "ab".repeat(32),
        name: "web".into(),
        image_id: "sha256:00".into(),
        args: vec!["nginx".into(), "-g".into()],
        env: vec!["PATH=/bin".into()],
        exposed_ports: vec!["80/tcp".into(), "443/tcp".into()],
        created_at: Some(Timestamp { seconds: 1_619_838_000, nanos: 5 }),
        spec: Some(ContainerSpec {
            image: "nginx".into(),
            mounts: vec![bind, image],
            ports: vec![port.clone()],
            restart: Some(RestartPolicy { mode: RestartMode::OnFailure.into(), max_retries: 3 }),
            ..ContainerSpec::default()
        }),
        status: Some(ContainerStatus {
            phase: Phase::Running.into(),
            pid: 77,
            networks: vec![NetworkStatus {
                network: "bridge".into(),
                ipv4: "172.17.0.2".into(),
                ipv4_prefix: 16,
                ..NetworkStatus::default()
            }],
            ports: vec![port],
            mounts: vec![MountStatus {
                kind: MountKind::Bind.into(),
                source: "/a".into(),
                target: "/b".into(),
                read_only: true,
                ..MountStatus::default()
            }],
            exit: Some(Exit { exit_code: 3, ..Exit::default() }),
            ..ContainerStatus::default()
        }),
        ..Container::default()
    }
}

fn at(document: &Document, path: &str) -> String {
    let found = path.split('.').try_fold(document, |document, name| document.field(name));
    found.unwrap_or_else(|| panic!("{path} is missing")).compact()
}

#[test]
fn fields_that_scripts_look_for() {
    let document = document(&container(), &[], true);
    for (path, wanted) in [
        ("Name", "\"/web\""),
        ("Path", "\"nginx\""),
        ("Args", "[\"-g\"]"),
        ("Created", "\"2021-05-01T03:00:00.000000005Z\""),
        ("State.Status", "\"running\""),
        ("State.Running", "true"),
        ("State.Pid", "77"),
        ("State.ExitCode", "0"),
        ("State.FinishedAt", "\"0001-01-01T00:00:00Z\""),
        ("Image", "\"sha256:00\""),
        ("HostConfig.Binds", "[\"/a:/b:ro\"]"),
        (
            "HostConfig.Mounts",
            r#"[{"Type":"image","Source":"busybox","Target":"/i","ImageOptions":{"Subpath":"etc"}}]"#,
        ),
        ("HostConfig.NetworkMode", "\"bridge\""),
        ("HostConfig.PortBindings", r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}"#),
        ("HostConfig.RestartPolicy", r#"{"Name":"on-failure","MaximumRetryCount":3}"#),
        ("HostConfig.ShmSize", "67108864"),
        ("HostConfig.CapAdd", "null"),
        ("Config.Env", "[\"PATH=/bin\"]"),
        ("Config.Cmd", "[\"nginx\",\"-g\"]"),
        ("Config.Image", "\"nginx\""),
        ("Config.Hostname", "\"abababababab\""),
        ("Config.ExposedPorts", r#"{"80/tcp":{},"443/tcp":{}}"#),
        ("NetworkSettings.IPAddress", "\"172.17.0.2\""),
        ("NetworkSettings.Networks.bridge.IPPrefixLen", "16"),
        (
            "NetworkSettings.Ports",
            r#"{"443/tcp":null,"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}]}"#,
        ),
        (
            "Mounts",
            r#"[{"Type":"bind","Source":"/a","Destination":"/b","Mode":"ro","RW":false,"Propagation":""}]"#,
        ),
        ("SizeRw", "0"),
    ] {
        assert_eq!(at(&document, path), wanted, "{path}");
    }
}

#[test]
fn an_end_is_told_when_it_is_over() {
    let mut container = container();
    let status = container.status.as_mut().unwrap();
    status.set_phase(Phase::Exited);
    status.exit.as_mut().unwrap().reason = "its shim was killed".into();
    let document = document(&container, &[], false);
    assert_eq!(at(&document, "State.ExitCode"), "3");
    assert_eq!(at(&document, "State.Error"), "\"its shim was killed\"");
    assert_eq!(at(&document, "NetworkSettings.Ports"), "{}");
    assert!(document.field("SizeRw").is_none());
}
