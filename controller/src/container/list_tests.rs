//! Conditions of a list on containers made by hand.

use std::collections::HashMap;

use davit_proto::container::{ContainerSpec, EndpointSpec, MountStatus, NetworkStatus, PortSpec};
use davit_proto::types::{Exit, Filter};

use super::*;

fn container(name: &str, phase: Phase, code: Option<u32>) -> Container {
    let mut status = ContainerStatus {
        exit: code.map(|exit_code| Exit { exit_code, ..Exit::default() }),
        mounts: vec![MountStatus { name: "data".into(), target: "/data".into(), ..Default::default() }],
        networks: vec![NetworkStatus {
            network: "bridge".into(),
            network_id: "0123456789abcdef".into(),
            ..Default::default()
        }],
        ports: vec![PortSpec { host_port: 8080, container_port: 80, ..Default::default() }],
        ..Default::default()
    };
    status.set_phase(phase);
    Container {
        id: format!("{name:0>64}"),
        name: name.into(),
        status: Some(status),
        image_id: "sha256:1".into(),
        labels: HashMap::from([("tier".to_owned(), "web".to_owned())]),
        exposed_ports: vec!["80/tcp".into()],
        spec: Some(ContainerSpec {
            image: "busybox".into(),
            networks: vec![EndpointSpec { network: "named".into(), ..Default::default() }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn conditions(list: &[(&str, &str)]) -> Conditions {
    let filters: Vec<Filter> =
        list.iter().map(|(key, value)| Filter { key: (*key).into(), value: (*value).into() }).collect();
    Conditions {
        filters: Filters::new(&filters, &KEYS).unwrap(),
        ancestors: HashSet::from(["sha256:9".to_owned()]),
        ..Conditions::default()
    }
}

fn holds(list: &[(&str, &str)], container: &Container) -> bool {
    conditions(list).hold(0, container)
}

#[test]
fn each_condition_finds_what_it_names() {
    let web = container("web", Phase::Exited, Some(3));
    for (key, yes, no) in [
        ("id", "web", "xyz"),
        ("name", "^we", "^eb"),
        ("name", "^/web$", "^/we$"),
        ("label", "tier", "tire"),
        ("label", "tier=web", "tier=db"),
        ("status", "exited", "running"),
        ("exited", "3", "0"),
        ("health", "none", "healthy"),
        ("ancestor", "busybox", "alpine"),
        ("volume", "data", "dat"),
        ("volume", "/data", "/dat"),
        ("network", "bridge", "host"),
        ("network", "0123456789ab", "0123"),
        ("network", "named", "name"),
        ("publish", "8080", "80"),
        ("publish", "8000-8100/tcp", "8080/udp"),
        ("expose", "80/tcp", "8080"),
    ] {
        assert!(holds(&[(key, yes)], &web), "{key}={yes}");
        assert!(!holds(&[(key, no)], &web), "{key}={no}");
    }
    let running = container("x", Phase::Running, Some(3));
    assert!(!holds(&[("exited", "3")], &running), "an earlier life's code is not its");
    let descendant = Container { image_id: "sha256:9".into(), ..container("y", Phase::Running, None) };
    assert!(holds(&[("ancestor", "alpine")], &descendant));
}

#[test]
fn keys_hold_together_and_values_are_alternatives() {
    let web = container("web", Phase::Exited, Some(0));
    assert!(holds(&[("name", "x"), ("name", "web"), ("status", "exited")], &web));
    assert!(!holds(&[("name", "web"), ("status", "running")], &web));
    assert!(conditions(&[("status", "running")]).wants_stopped());
    assert!(!conditions(&[("name", "x")]).wants_stopped());
}

#[test]
fn before_and_since_are_places_in_the_list() {
    let web = container("web", Phase::Running, None);
    let older = Conditions { older_than: Some(3), ..Conditions::default() };
    assert!(older.hold(4, &web) && !older.hold(3, &web));
    let newer = Conditions { newer_than: Some(3), ..Conditions::default() };
    assert!(newer.hold(2, &web) && !newer.hold(3, &web));
}

#[test]
fn only_what_may_have_a_process_is_shown_without_a_word() {
    for (phase, shown) in [
        (Phase::Running, true),
        (Phase::Paused, true),
        (Phase::Unknown, true),
        (Phase::Created, false),
        (Phase::Exited, false),
        (Phase::Removing, false),
    ] {
        assert_eq!(is_shown(&live::status_of(&container("a", phase, None))), shown, "{phase:?}");
    }
}

#[test]
fn frames_are_bounded_by_count_and_by_size() {
    assert_eq!(frames(vec![], 7), [ListResponse { revision: 7, ..ListResponse::default() }]);
    let many: Vec<_> = (0..250).map(|n| container(&n.to_string(), Phase::Running, None)).collect();
    let sizes = |list| frames(list, 1).iter().map(|frame| frame.containers.len()).collect::<Vec<_>>();
    assert_eq!(sizes(many), [100, 100, 50]);
    let large = Container { args: vec!["x".repeat(400 << 10)], ..container("a", Phase::Running, None) };
    assert_eq!(sizes(vec![large; 5]), [2, 2, 1]);
}

#[test]
fn a_token_names_a_place_between_containers() {
    let made = |id: &str, seconds, nanos| Container {
        id: id.into(),
        created_at: Some(prost_types::Timestamp { seconds, nanos }),
        ..Container::default()
    };
    let listed = [made("b", 9, 1), made("a", 8, 5), made("c", 8, 5), made("a", 8, 4), made("d", -1, 0)];
    let places: Vec<_> = listed.iter().map(Place::of).collect();
    assert!(places.is_sorted());
    for (container, place) in listed.iter().zip(&places) {
        assert_eq!(Place::of_token(&token(container)).unwrap().as_ref(), Some(place));
    }
    assert_eq!(Place::of_token("").unwrap(), None);
    for bad in ["x", "1.2", "1.x.a"] {
        assert!(Place::of_token(bad).is_err(), "{bad}");
    }
}
