//! Ranges, parts of them, and what a person may say of a bridge. Each test on a host of its own.

use davit_proto::network::{CreateRequest, Subnet};

use crate::lab::engine::Engine;
use crate::lab::talk::{Over, Responder, hears};
use crate::lab::{Place, on_a_host};

fn wanted(name: &str, ranges: &[(&str, &str, &str)]) -> CreateRequest {
    let subnet = |(cidr, gateway, part): &(&str, &str, &str)| Subnet {
        cidr: (*cidr).into(),
        gateway: (*gateway).into(),
        ip_range: (*part).into(),
        ..Subnet::default()
    };
    CreateRequest {
        name: name.into(),
        subnets: ranges.iter().map(subnet).collect(),
        ..CreateRequest::default()
    }
}

#[test]
fn privileged_the_next_range_when_one_is_full() {
    on_a_host(async || {
        let (engine, host) = (Engine::new().await, Place::here());
        let ranges = [("10.9.0.0/29", "", ""), ("10.9.8.0/24", "10.9.8.200", ""), ("fd00:9::/64", "", "")];
        let made = engine.create(wanted("wide", &ranges)).await.unwrap();
        let places: Vec<Place> = (0..7).map(|_| Place::new()).collect();
        let mut given = Vec::new();
        for place in &places {
            let endpoint = engine.attach(place, "wide", &[]).await.unwrap().endpoints.remove(0);
            given.push((endpoint.ipv4, endpoint.ipv4_prefix, endpoint.ipv4_gateway));
        }
        assert_eq!(given[4], ("10.9.0.6".into(), 29, "10.9.0.1".into()));
        assert_eq!(given[5], ("10.9.8.1".into(), 24, "10.9.8.200".into()));
        let addresses = host.ip(&format!("addr show dev {}", made.interface));
        for gateway in ["10.9.0.1/29", "10.9.8.200/24", "fd00:9::1/64"] {
            assert!(addresses.contains(gateway), "{gateway} in {addresses}");
        }
        assert!(places[5].ip("route").contains("default via 10.9.8.200 dev eth0"));
        // Across the ranges of one network, by way of the bridge.
        let _responder = Responder::new(&places[0], "first", "0.0.0.0:80");
        assert!(hears(&places[5], Over::Tcp, "10.9.0.2:80").starts_with("first "));
        // A freed one of the first range is taken before the second goes on.
        engine.detach(&places[2], "wide").await.unwrap();
        let next = engine.attach(&Place::new(), "wide", &[]).await.unwrap().endpoints.remove(0);
        assert_eq!((&*next.ipv4, &*next.ipv6), ("10.9.0.4", "fd00:9::9"));
    });
}

#[test]
fn privileged_a_gateway_and_a_part() {
    on_a_host(async || {
        let engine = Engine::new().await;
        let ranges = [("10.9.0.0/24", "10.9.0.254", "10.9.0.128/30")];
        let made = engine.create(wanted("part", &ranges)).await.unwrap();
        let told = &made.subnets[0];
        assert_eq!((&*told.cidr, &*told.gateway, &*told.ip_range), ranges[0]);
        let places: Vec<Place> = (0..4).map(|_| Place::new()).collect();
        let mut given = Vec::new();
        for place in &places {
            given.push(engine.attach(place, "part", &[]).await.unwrap().endpoints.remove(0).ipv4);
        }
        assert_eq!(given, ["10.9.0.128", "10.9.0.129", "10.9.0.130", "10.9.0.131"]);
        let place = Place::new();
        assert!(engine.attach(&place, "part", &[]).await.unwrap_err().is("ADDRESSES_EXHAUSTED"));
        // What is asked for by name may be outside the part.
        let mut outside = crate::lab::engine::request(&place, "part", &[]);
        outside.endpoints[0].ipv4 = "10.9.0.9".into();
        engine.client().attach(outside).await.unwrap();
        assert!(place.ip("route").contains("default via 10.9.0.254"));
    });
}

#[test]
fn privileged_ranges_that_cannot_be() {
    on_a_host(async || {
        let (engine, host) = (Engine::new().await, Place::here());
        host.ip("link add lan type bridge");
        host.ip("addr add 172.18.5.1/24 dev lan");
        host.ip("-6 route add blackhole fd00:5::/48");
        assert_eq!(engine.network("first", false).await.subnets[0].cidr, "172.19.0.0/16", "round the host's");
        for (reason, words, ranges) in [
            ("RANGE_TAKEN", "network first", &[("172.19.7.0/24", "", "")][..]),
            ("RANGE_TAKEN", "by link lan", &[("172.18.0.0/16", "", "")]),
            ("RANGE_TAKEN", "fd00:5:0:1::/64", &[("fd00:5:0:1::/64", "", "")]),
            ("INVALID_FIELD", "overlaps 10.9.0.0/16", &[("10.9.0.0/16", "", ""), ("10.9.1.0/24", "", "")]),
            ("INVALID_FIELD", "hosts", &[("fe80::/64", "", "")]),
            ("INVALID_FIELD", "gateway", &[("10.9.0.0/24", "10.8.0.1", "")]),
            ("INVALID_FIELD", "gateway", &[("10.9.0.0/24", "fd00::1", "")]),
            ("INVALID_FIELD", "part", &[("10.9.0.0/24", "", "10.8.0.0/28")]),
            ("INVALID_FIELD", "wants a subnet", &[("", "10.9.0.1", "")]),
            ("INVALID_FIELD", "wants a subnet", &[("", "", "10.9.0.0/28")]),
        ] {
            let error = engine.create(wanted("n", ranges)).await.unwrap_err();
            assert!(error.is(reason) && error.message.contains(words), "{ranges:?}: {error:?}");
        }
        assert!(engine.create(wanted("first", &[])).await.unwrap_err().is("NETWORK_EXISTS"));
    });
}

#[test]
fn privileged_a_name_and_a_size_for_the_bridge() {
    on_a_host(async || {
        let (engine, host, place) = (Engine::new().await, Place::here(), Place::new());
        for (name, link, mtu, given) in [
            ("long", "blue0", 1400, ["com.docker.network.bridge.name", "com.docker.network.driver.mtu"]),
            ("short", "red0", 9000, ["name", "mtu"]),
        ] {
            let mut request = wanted(name, &[]);
            let values = [link.to_owned(), mtu.to_string()];
            request.options = given.map(str::to_owned).into_iter().zip(values).collect();
            let made = engine.create(request.clone()).await.unwrap();
            assert_eq!((&*made.interface, made.options), (link, request.options.clone()));
            let endpoint = engine.join(&place, &[name], &[]).await.unwrap().remove(0);
            let text = format!("mtu {mtu} ");
            assert!(host.ip(&format!("link show {link}")).contains(&text));
            assert!(host.ip("link show type veth").contains(&text));
            assert!(place.ip(&format!("link show {}", endpoint.interface)).contains(&text));
        }
        let mut again = wanted("again", &[]);
        again.options = [("name".to_owned(), "blue0".to_owned())].into();
        let error = engine.create(again.clone()).await.unwrap_err();
        assert!(error.is("BRIDGE_TAKEN") && error.message.contains("network long"), "{error}");
        again.options.insert("com.docker.network.bridge.name".into(), "green0".into());
        assert!(engine.create(again.clone()).await.unwrap_err().is("INVALID_FIELD"));
        again.options =
            [("com.docker.network.bridge.enable_ip_masquerade".to_owned(), "false".to_owned())].into();
        let error = engine.create(again).await.unwrap_err();
        assert!(error.message.contains("com.docker.network.driver.mtu"), "names what is served: {error}");
    });
}
