//! Networks that people make, ranges that are taken, and settings that change. Each test on a host of its own.

use crate::lab::engine::Engine;
use crate::lab::talk::{BOTH, Over, Responder, hears, hears_nothing};
use crate::lab::{Place, on_a_host};
use davit_proto::network::{CreateRequest, ListRequest, PruneRequest, RemoveRequest, Subnet};
use davit_proto::status::RemoteError;
use davit_proto::types::Filter;

async fn names(engine: &Engine, conditions: &[(&str, &str)]) -> Vec<String> {
    let filters = conditions.iter().map(|(key, value)| Filter { key: (*key).into(), value: (*value).into() });
    let mut pages =
        engine.client().list(ListRequest { filters: filters.collect() }).await.unwrap().into_inner();
    let mut names = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        names.extend(page.networks.into_iter().map(|network| network.name));
    }
    names
}

#[test]
fn privileged_the_default_range_moves_out_of_the_way() {
    on_a_host(async || {
        let host = Place::here();
        host.ip("link add other type bridge");
        host.ip("addr add 172.17.0.1/16 dev other");
        host.ip("route add blackhole 172.18.64.0/18");
        let engine = Engine::new().await;
        assert_eq!(engine.run(&Place::new(), &[]).await.ipv4, "172.19.0.2");
        assert_eq!(engine.inspect("bridge").await.unwrap().subnets[0].cidr, "172.19.0.0/16");
    });
}

#[test]
fn privileged_a_range_that_was_asked_for_is_had_or_refused() {
    on_a_host(async || {
        let host = Place::here();
        let mut engine =
            Engine::with(|config| config.bridge_subnet = Some("10.88.0.5/24".parse().unwrap())).await;
        let got = engine.run(&Place::new(), &[]).await;
        assert_eq!((&*got.ipv4, &*got.ipv4_gateway, got.ipv4_prefix), ("10.88.0.1", "10.88.0.5", 24));
        engine.kill();

        host.ip("link add other type bridge");
        host.ip("addr add 10.99.0.1/16 dev other");
        let second = Engine::with(|config| {
            config.bridge_subnet = Some("10.99.7.0/24".parse().unwrap());
            config.bridge = "other0".parse().unwrap();
            config.instance = "other".parse().unwrap();
        })
        .await;
        let error = second.attach(&Place::new(), "bridge", &[]).await.unwrap_err();
        assert!(error.is("RANGE_TAKEN") && error.message.contains("10.99.7.0/24"), "{error}");
        assert!(!host.ip("-o link").contains("other0:"));
    });
}

#[test]
fn privileged_a_bridge_of_somebody_else_is_left_alone() {
    on_a_host(async || {
        let host = Place::here();
        host.ip("link add davit0 type bridge");
        let engine = Engine::new().await;
        let error = engine.attach(&Place::new(), "bridge", &[]).await.unwrap_err();
        assert!(error.is("BRIDGE_TAKEN") && error.message.contains("davit0"), "{error}");
        assert!(!host.ip("addr show davit0").contains("172.17"));

        host.ip("link del davit0");
        let a = Place::new();
        engine.run(&a, &[]).await;
        // A bridge that somebody removes comes back with the next container.
        host.ip("link del davit0");
        let b = Place::new();
        engine.run(&b, &[]).await;
        let _responder = Responder::new(&b, "b", "0.0.0.0:80");
        hears(&host, Over::Tcp, "172.17.0.3:80");
    });
}

#[test]
fn privileged_networks_that_people_make() {
    on_a_host(async || {
        let (engine, host) = (Engine::new().await, Place::here());
        let made = engine.network("blue", false).await;
        assert_eq!((&*made.subnets[0].cidr, &*made.driver, made.id.len()), ("172.18.0.0/16", "bridge", 64));
        let (a, b, c) = (Place::new(), Place::new(), Place::new());
        assert_eq!(engine.attach(&a, "blue", &[]).await.unwrap().endpoints[0].ipv4, "172.18.0.2");
        engine.attach(&b, &made.id[..12], &[]).await.unwrap();
        engine.run(&c, &[]).await;
        let _responder = Responder::new(&a, "a", "0.0.0.0:80");
        for over in BOTH {
            hears(&b, over, "172.18.0.2:80");
            hears_nothing(&c, over, "172.18.0.2:80");
        }
        // A second network for a running container.
        let joined = engine.attach(&c, "blue", &[]).await.unwrap().endpoints.remove(0);
        assert_eq!((&*joined.interface, &*joined.ipv4), ("eth1", "172.18.0.4"));
        assert_eq!(hears(&c, Over::Tcp, "172.18.0.2:80"), "a 172.18.0.4");

        let remove = |name: &str| RemoveRequest { network: name.into() };
        let error = RemoteError::from(engine.client().remove(remove("blue")).await.unwrap_err());
        assert!(error.is("NETWORK_IN_USE") && error.message.contains(a.id.as_str()), "{error}");
        let error = RemoteError::from(engine.client().remove(remove("bridge")).await.unwrap_err());
        assert!(error.is("NETWORK_BUILT_IN"), "{error}");
        for place in [&a, &b, &c] {
            engine.release(place).await;
        }
        engine.client().remove(remove("blue")).await.unwrap();
        assert!(!host.ip("-o link").contains(&made.interface));
        assert!(engine.inspect("blue").await.unwrap_err().is("NETWORK_NOT_FOUND"));
        assert!(!host.within(|| crate::lab::run("nft", "list ruleset")).contains(&made.interface));
    });
}

#[test]
fn privileged_an_internal_network_stays_inside() {
    on_a_host(async || {
        let (engine, host, a, b) = (Engine::new().await, Place::here(), Place::new(), Place::new());
        let neighbour = host.neighbour();
        engine.network("inside", true).await;
        let endpoint = engine.attach(&a, "inside", &["8080:80/tcp"]).await.unwrap().endpoints.remove(0);
        assert_eq!(endpoint.ipv4_gateway, "");
        engine.attach(&b, "inside", &[]).await.unwrap();
        assert!(!a.ip("route").contains("default"));
        a.ip("route add default via 172.18.0.1");
        neighbour.ip("route add 172.18.0.0/16 via 192.0.2.1");
        let _responders =
            [Responder::new(&a, "a", "0.0.0.0:80"), Responder::new(&neighbour, "n", "0.0.0.0:70")];
        for over in BOTH {
            hears(&b, over, "172.18.0.2:80");
            hears_nothing(&a, over, "192.0.2.2:70");
            hears_nothing(&neighbour, over, "172.18.0.2:80");
            hears_nothing(&neighbour, over, "192.0.2.1:8080");
        }
    });
}

#[test]
fn privileged_what_cannot_be_made_is_refused_in_words() {
    on_a_host(async || {
        let engine = Engine::new().await;
        let with = |change: fn(&mut CreateRequest)| {
            let mut request = CreateRequest { name: "n".into(), ..CreateRequest::default() };
            change(&mut request);
            request
        };
        let subnet = |cidr: &str| Subnet { cidr: cidr.into(), ..Subnet::default() };
        let mut overlapping = with(|_| {});
        overlapping.subnets = vec![subnet("172.17.4.0/24")];
        let mut outside = with(|_| {});
        outside.subnets = vec![Subnet { gateway: "10.1.0.1".into(), ..subnet("10.0.0.0/24") }];
        for (reason, request) in [
            ("NETWORK_EXISTS", with(|r| r.name = "bridge".into())),
            ("INVALID_NAME", with(|r| r.name = "a/b".into())),
            ("NOT_IMPLEMENTED", with(|r| r.driver = "macvlan".into())),
            ("INVALID_FIELD", with(|r| drop(r.options.insert("mtu".into(), "67".into())))),
            ("INVALID_FIELD", with(|r| drop(r.options.insert("colour".into(), "red".into())))),
            ("INVALID_NAME", with(|r| drop(r.options.insert("name".into(), "a/b".into())))),
            ("BRIDGE_TAKEN", with(|r| drop(r.options.insert("name".into(), "davit0".into())))),
            ("BRIDGE_TAKEN", with(|r| drop(r.options.insert("name".into(), "lo".into())))),
            ("RANGE_TAKEN", overlapping),
            ("INVALID_FIELD", outside),
        ] {
            let error = RemoteError::from(engine.client().create(request).await.unwrap_err());
            assert!(error.is(reason), "{reason}: {error:?}");
        }
        assert_eq!(names(&engine, &[]).await, ["bridge", "host", "none"]);
        engine.network("blue", false).await;
        assert_eq!(names(&engine, &[("type", "custom")]).await, ["blue"]);
        assert_eq!(names(&engine, &[("dangling", "true"), ("driver", "bridge")]).await, ["blue"]);
        let pruned = engine.client().prune(PruneRequest { filters: vec![] }).await.unwrap().into_inner();
        assert_eq!(pruned.names, ["blue"]);
    });
}

#[test]
fn privileged_a_broken_record_is_kept() {
    on_a_host(async || {
        let mut engine = Engine::new().await;
        engine.network("blue", false).await;
        engine.kill();
        let record = engine.root().join("network/blue.json");
        std::fs::write(&record, "{").unwrap();
        engine.start(|_| {}).await;
        assert_eq!(names(&engine, &[]).await, ["bridge", "host", "none"]);
        let request = CreateRequest { name: "blue".into(), ..CreateRequest::default() };
        let error = RemoteError::from(engine.client().create(request).await.unwrap_err());
        assert!(error.is("NETWORK_RECORD_BROKEN") && error.message.contains("blue.json"), "{error}");
        assert_eq!(std::fs::read_to_string(&record).unwrap(), "{");
    });
}
