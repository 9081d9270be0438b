//! Every field of a request, wrong in turn.

use std::collections::HashMap;

use davit_proto::container::{HealthCheck, LogSpec, Resources, RestartPolicy};
use davit_proto::status::{Classify as _, ErrorKind};
use proptest::prelude::*;

use super::*;

fn good() -> ContainerSpec {
    ContainerSpec { image: "busybox".into(), ..Default::default() }
}

fn own(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}

fn kind(spec: ContainerSpec) -> Option<ErrorKind> {
    let request = CreateRequest { spec: Some(spec), ..Default::default() };
    create(&request).err().map(|error| error.kind())
}

fn map(key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_owned())])
}

fn port(host_ip: &str, host: u32, container: u32, protocol: &str) -> PortSpec {
    PortSpec {
        host_ip: host_ip.into(),
        host_port: host,
        container_port: container,
        protocol: protocol.into(),
        ..PortSpec::default()
    }
}

fn net(endpoint: EndpointSpec) -> ContainerSpec {
    ContainerSpec { networks: vec![endpoint], ..good() }
}

#[test]
fn plain_wishes_pass() {
    assert_eq!(kind(good()), None);
    assert_eq!(
        kind(ContainerSpec {
            env: vec!["A=1\n2".into(), "B".into()],
            restart: Some(RestartPolicy { mode: RestartMode::No.into(), max_retries: 0 }),
            health: Some(HealthCheck { test: own("NONE"), ..Default::default() }),
            ports: vec![port("", 0, 80, ""), port("", 0, 80, ""), port("127.0.0.1", 80, 80, "udp")],
            networks: vec![EndpointSpec { mac: "02:42:ac:11:00:02".into(), ..Default::default() }],
            ..good()
        }),
        None
    );
}

#[test]
fn restart_policies_fit_their_numbers_and_do_not_fit_auto_remove() {
    let with = |mode: RestartMode, max_retries| ContainerSpec {
        restart: Some(RestartPolicy { mode: mode.into(), max_retries }),
        ..good()
    };
    assert_eq!(kind(with(RestartMode::OnFailure, 3)), None);
    assert_eq!(kind(with(RestartMode::Always, 0)), None);
    assert_eq!(kind(with(RestartMode::Always, 3)), Some(ErrorKind::InvalidArgument));
    let both = ContainerSpec { auto_remove: true, ..with(RestartMode::UnlessStopped, 0) };
    assert_eq!(restart(&both).unwrap_err().to_string(), "conflicting options: --restart and --rm");
    assert_eq!(kind(ContainerSpec { auto_remove: true, ..with(RestartMode::No, 0) }), None);
}

#[test]
fn a_health_check_has_a_program() {
    let with = |test| ContainerSpec { health: Some(HealthCheck { test, ..Default::default() }), ..good() };
    assert_eq!(kind(with(own("CMD"))), Some(ErrorKind::InvalidArgument));
    assert_eq!(kind(with(vec!["CMD".into(), "true".into()])), None);
}

#[test]
fn what_is_not_served_is_named() {
    let spec = ContainerSpec { security_opt: own("apparmor=x"), ..good() };
    assert_eq!(kind(spec), Some(ErrorKind::Unimplemented));
}

#[test]
fn links_are_checked_before_anybody_is_looked_for() {
    assert_eq!(kind(ContainerSpec { links: own("a:b"), ..good() }), None);
    assert_eq!(kind(ContainerSpec { links: own("a:"), ..good() }), Some(ErrorKind::InvalidArgument));
    assert_eq!(kind(ContainerSpec { unconnected: true, ..good() }), Some(ErrorKind::InvalidArgument));
}

#[test]
fn another_containers_network_keeps_its_own_names() {
    let joined = net(EndpointSpec { network: "container:a".into(), ..Default::default() });
    assert_eq!(kind(joined.clone()), None);
    assert_eq!(kind(ContainerSpec { hostname: "x".into(), ..joined }), Some(ErrorKind::InvalidArgument));
}

#[test]
fn cgroup_parents_are_plain_paths() {
    for (parent, wanted) in [
        ("/a/b", None),
        ("a/b", None),
        ("/", Some(ErrorKind::InvalidArgument)),
        ("a/../b", Some(ErrorKind::InvalidArgument)),
        ("a//b", Some(ErrorKind::InvalidArgument)),
    ] {
        assert_eq!(kind(ContainerSpec { cgroup_parent: parent.into(), ..good() }), wanted, "{parent}");
    }
}

fn wrong_places() -> Vec<ContainerSpec> {
    vec![
        net(EndpointSpec { network: "../x".into(), ..Default::default() }),
        net(EndpointSpec { ipv4: "1".into(), ..Default::default() }),
        net(EndpointSpec { network: "host".into(), ipv6: "x".into(), ..Default::default() }),
        net(EndpointSpec { network: "none".into(), ipv4: "10.0.0.2".into(), ..Default::default() }),
        net(EndpointSpec { ipv6: "1.2.3.4".into(), ..Default::default() }),
        net(EndpointSpec { mac: "01:00:00:00:00:01".into(), ..Default::default() }),
        net(EndpointSpec { mac: "02:42".into(), ..Default::default() }),
        net(EndpointSpec { aliases: own("a b"), ..Default::default() }),
    ]
}

fn wrong() -> Vec<ContainerSpec> {
    let resources = |resources| ContainerSpec { resources: Some(resources), ..good() };
    vec![
        ContainerSpec { image: String::new(), ..good() },
        ContainerSpec { image: "a b".into(), ..good() },
        ContainerSpec { command: own("a\0b"), ..good() },
        ContainerSpec { volumes_from: own("a:rx"), ..good() },
        ContainerSpec { volumes_from: own(""), ..good() },
        ContainerSpec { entrypoint: own("\0"), ..good() },
        ContainerSpec { env: own("=x"), ..good() },
        ContainerSpec { env: own(""), ..good() },
        ContainerSpec { env: own("A\nB=x"), ..good() },
        ContainerSpec { env: own("A=x\0"), ..good() },
        ContainerSpec { working_dir: "x".into(), ..good() },
        ContainerSpec { working_dir: "/proc/self/fd/7".into(), ..good() },
        ContainerSpec { user: "-1".into(), ..good() },
        ContainerSpec { user: "4294967296".into(), ..good() },
        ContainerSpec { hostname: "a b".into(), ..good() },
        ContainerSpec { hostname: "x".repeat(65), ..good() },
        ContainerSpec { domainname: "a..b".into(), ..good() },
        ContainerSpec { labels: map("", "x"), ..good() },
        ContainerSpec { labels: map("a\nb", "x"), ..good() },
        ContainerSpec { annotations: map("davit.privileged", "true"), ..good() },
        ContainerSpec { cap_add: own("X"), ..good() },
        ContainerSpec { security_opt: own("x"), ..good() },
        ContainerSpec { ports: vec![port("", 80, 0, "")], ..good() },
        ContainerSpec { ports: vec![port("", 65536, 80, "")], ..good() },
        ContainerSpec { ports: vec![port("x", 80, 80, "")], ..good() },
        ContainerSpec { ports: vec![port("", 80, 80, "icmp")], ..good() },
        ContainerSpec { ports: vec![port("", 80, 80, ""), port("", 80, 81, "tcp")], ..good() },
        ContainerSpec { expose: own("0"), ..good() },
        ContainerSpec { dns: own("x"), ..good() },
        ContainerSpec { dns_search: own("a\nnameserver 1.2.3.4"), ..good() },
        ContainerSpec { dns_options: own(""), ..good() },
        ContainerSpec { extra_hosts: own("a:b"), ..good() },
        ContainerSpec { stop_signal: "SIGX".into(), ..good() },
        ContainerSpec { stop_timeout: Some(prost_types::Duration { seconds: -1, nanos: 0 }), ..good() },
        // More than a second of nanoseconds is no duration, and cannot be written down as one.
        ContainerSpec { stop_timeout: Some(prost_types::Duration { seconds: 1, nanos: i32::MAX }), ..good() },
        ContainerSpec { umask: Some(0o1000), ..good() },
        ContainerSpec { env_defaults: vec!["A".into()], ..good() },
        ContainerSpec { restart: Some(RestartPolicy { mode: 99, max_retries: 0 }), ..good() },
        resources(Resources { memory_bytes: 1, ..Default::default() }),
        ContainerSpec { log: Some(LogSpec { max_size: 1, max_files: 0 }), ..good() },
        ContainerSpec { log: Some(LogSpec { max_size: 0, max_files: u32::MAX }), ..good() },
        ContainerSpec { sysctls: map("kernel.core_pattern", "x"), ..good() },
        ContainerSpec { devices: own("x"), ..good() },
        ContainerSpec { device_cgroup_rules: own("x"), ..good() },
        ContainerSpec { ulimits: own("x"), ..good() },
        ContainerSpec { shm_size: u64::MAX, ..good() },
        ContainerSpec { group_add: own("a:b"), ..good() },
        ContainerSpec { oom_score_adj: i32::MIN, ..good() },
        ContainerSpec { platform: "linux arm".into(), ..good() },
        ContainerSpec { stdin_once: true, ..good() },
        ContainerSpec { command: vec!["x".repeat(1000); 300], ..good() },
    ]
}

#[test]
fn every_wrong_field_is_refused() {
    for spec in wrong().into_iter().chain(wrong_places()) {
        assert_eq!(kind(spec.clone()), Some(ErrorKind::InvalidArgument), "{spec:?}");
    }
    assert!(create(&CreateRequest::default()).is_err());
    for name in ["-a", "a/b", &"x".repeat(129)] {
        let request = CreateRequest { spec: Some(good()), name: name.into(), ..Default::default() };
        assert!(create(&request).is_err(), "{name}");
    }
    let request = CreateRequest { spec: Some(good()), request_key: "k".repeat(257), ..Default::default() };
    assert!(create(&request).is_err());
}

#[test]
fn errors_name_the_field_and_escape_the_value() {
    let spec = ContainerSpec { user: "a\u{1b}[2J".into(), ..good() };
    let error = create(&CreateRequest { spec: Some(spec), ..Default::default() }).unwrap_err();
    assert_eq!(error.to_string(), "invalid user \"a\\u{1b}[2J\": must be user[:group], names or numbers");
    assert_eq!(error.values()[0], ("field", "user".to_owned()));
}

proptest! {
    #[test]
    fn no_text_makes_the_checks_panic(text in ".{0,60}", number in any::<u32>()) {
        let spec = ContainerSpec {
            image: text.clone(),
            env: own(&text),
            working_dir: text.clone(),
            user: text.clone(),
            ..Default::default()
        };
        let _ = create(&CreateRequest { spec: Some(spec), ..Default::default() });
        for spec in [
            ContainerSpec { security_opt: own(&text), ..good() },
            ContainerSpec { devices: own(&text), ..good() },
            ContainerSpec { device_cgroup_rules: own(&text), ..good() },
            ContainerSpec { ulimits: own(&text), ..good() },
            ContainerSpec { expose: own(&text), ..good() },
            ContainerSpec { extra_hosts: own(&text), ..good() },
            ContainerSpec { sysctls: map(&text, &text), ..good() },
            ContainerSpec { ports: vec![port(&text, number, number, &text)], ..good() },
            net(EndpointSpec { network: text.clone(), mac: text.clone(), ..Default::default() }),
        ] {
            let _ = create(&CreateRequest { spec: Some(spec), ..Default::default() });
        }
    }
}
