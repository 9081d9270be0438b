//! Networks that a container joins and leaves while it runs, each test on a host of its own.

use std::sync::Arc;

use davit_proto::network::DetachRequest;

use crate::lab::engine::{Engine, request};
use crate::lab::talk::{Over, Responder, hears, hears_nothing};
use crate::lab::{Place, on_a_host};

/// The lines of a container's default routes.
fn ways_out(place: &Place) -> Vec<String> {
    place.ip("route show default").lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn privileged_networks_are_joined_and_left_while_it_runs() {
    on_a_host(async || {
        let (engine, host, a, b) = (Engine::new().await, Place::here(), Place::new(), Place::new());
        engine.network("blue", false).await;
        engine.network("red", false).await;
        engine.run(&a, &[]).await;
        engine.attach(&b, "red", &[]).await.unwrap();
        let both = engine.join(&a, &["blue", "red"], &[]).await.unwrap();
        let places: Vec<(&str, &str)> = both.iter().map(|e| (&*e.interface, &*e.ipv4)).collect();
        assert_eq!(places, [("eth1", "172.18.0.2"), ("eth2", "172.19.0.3")]);
        assert_eq!(engine.join(&a, &["red", "blue"], &[]).await.unwrap(), [both[1].clone(), both[0].clone()]);
        assert_eq!(ways_out(&a), ["default via 172.17.0.1 dev eth0"]);
        let _responder = Responder::new(&b, "b", "0.0.0.0:80");
        assert_eq!(hears(&a, Over::Tcp, "172.19.0.2:80"), "b 172.19.0.3");

        engine.detach(&a, "red").await.unwrap();
        engine.detach(&a, "red").await.unwrap();
        assert!(!a.ip("-o link").contains("eth2"), "gone when it is answered");
        assert_eq!(engine.inspect("red").await.unwrap().endpoints.len(), 1);
        hears_nothing(&a, Over::Tcp, "172.19.0.2:80");
        assert_eq!(host.ip("-o link show type veth").lines().count(), 3);
        // The next free name inside, the next address in turn.
        let again = engine.join(&a, &["red"], &[]).await.unwrap().remove(0);
        assert_eq!((&*again.interface, &*again.ipv4), ("eth2", "172.19.0.4"));
    });
}

#[test]
fn privileged_the_next_network_gives_the_way_out() {
    on_a_host(async || {
        let (engine, host, a) = (Engine::new().await, Place::here(), Place::new());
        engine.network("inside", true).await;
        engine.network("blue", false).await;
        engine.join(&a, &["inside"], &[]).await.unwrap();
        assert!(ways_out(&a).is_empty());
        engine.join(&a, &["bridge", "blue"], &["8080:80/tcp"]).await.unwrap();
        assert_eq!(ways_out(&a), ["default via 172.17.0.1 dev eth1"]);
        let _responder = Responder::new(&a, "a", "0.0.0.0:80");
        hears(&host, Over::Tcp, "127.0.0.1:8080");

        engine.detach(&a, "bridge").await.unwrap();
        assert_eq!(ways_out(&a), ["default via 172.19.0.1 dev eth2"]);
        for to in ["127.0.0.1:8080", "172.19.0.1:8080"] {
            hears(&host, Over::Tcp, to);
        }
        engine.detach(&a, "inside").await.unwrap();
        assert_eq!(ways_out(&a), ["default via 172.19.0.1 dev eth2"]);
        engine.detach(&a, "blue").await.unwrap();
        hears_nothing(&host, Over::Tcp, "127.0.0.1:8080");
        assert!(ways_out(&a).is_empty() && engine.holders().await.is_empty());
        // Nothing of it stays in the way of another container.
        let b = Place::new();
        engine.run(&b, &["8080:80/tcp"]).await;
    });
}

#[test]
fn privileged_what_was_cut_off_is_finished_by_asking_again() {
    on_a_host(async || {
        let (engine, host, a) = (Engine::new().await, Place::here(), Place::new());
        engine.network("blue", false).await;
        let first = engine.join(&a, &["bridge", "blue"], &["8080:80/tcp"]).await.unwrap();
        let _responder = Responder::new(&a, "a", "0.0.0.0:80");
        // As a detach that got as far as the kernel leaves it.
        a.ip("link del eth0");
        a.ip("route add default via 172.18.0.1");
        engine.detach(&a, "bridge").await.unwrap();
        assert_eq!(ways_out(&a), ["default via 172.18.0.1 dev eth1"]);
        hears(&host, Over::Tcp, "127.0.0.1:8080");
        assert_eq!(engine.inspect("bridge").await.unwrap().endpoints, []);

        // As one leaves it that somebody takes back: an attach makes all as it was.
        let b = Place::new();
        let before = engine.join(&b, &["blue", "bridge"], &["9090:80/tcp"]).await.unwrap();
        b.ip("link del eth0");
        b.ip("route add default via 172.17.0.1");
        assert_eq!(engine.join(&b, &["blue", "bridge"], &["9090:80/tcp"]).await.unwrap(), before);
        assert_eq!(ways_out(&b), ["default via 172.18.0.1 dev eth0"]);
        let _other = Responder::new(&b, "b", "0.0.0.0:80");
        hears(&host, Over::Tcp, "127.0.0.1:9090");
        // What runs inside may change its address; the link is known by its other end.
        b.ip("link set eth1 address 02:00:00:00:00:77");
        assert_eq!(engine.join(&b, &["blue", "bridge"], &[]).await.unwrap(), before);
        assert_ne!(first[0].ipv4, before[1].ipv4);
    });
}

#[test]
fn privileged_a_container_whose_namespace_is_gone_leaves_too() {
    on_a_host(async || {
        let (engine, host, a) = (Engine::new().await, Place::here(), Place::new());
        engine.network("blue", false).await;
        engine.join(&a, &["bridge", "blue"], &["8080:80/tcp"]).await.unwrap();
        let detach = |netns_inode, network: &str| DetachRequest {
            container_id: a.id.to_string(),
            network: network.into(),
            netns_pid: 1,
            netns_fd: 999,
            netns_inode,
        };
        engine.client().detach(detach(7, "bridge")).await.unwrap();
        assert_eq!(engine.inspect("bridge").await.unwrap().endpoints, []);
        assert_eq!(host.ip("-o link show type veth").lines().count(), 1);
        let nowhere = DetachRequest { netns_pid: 0, ..detach(0, "blue") };
        engine.client().detach(nowhere).await.unwrap();
        assert!(engine.holders().await.is_empty());
        assert!(host.ip("-o link show type veth").is_empty());
        let error = engine.detach(&a, "nowhere").await.unwrap_err();
        assert!(error.is("NETWORK_NOT_FOUND"), "{error}");
    });
}

#[test]
fn privileged_names_are_told_and_what_goes_alone_stays_alone() {
    on_a_host(async || {
        let (engine, a, b) = (Engine::new().await, Place::new(), Place::new());
        engine.network("blue", false).await;
        let mut wanted = request(&a, "bridge", &[]);
        wanted.container_name = "web".into();
        engine.client().attach(wanted).await.unwrap();
        let joined = engine.join(&a, &["blue"], &[]).await.unwrap().remove(0);
        assert_eq!(joined.container_name, "web", "it was told once");
        assert_eq!(engine.inspect("bridge").await.unwrap().endpoints[0].container_name, "web");

        engine.attach(&b, "none", &[]).await.unwrap();
        for (place, networks) in [(&b, &["blue"][..]), (&a, &["none"]), (&Place::new(), &["none", "blue"])] {
            let error = engine.join(place, networks, &[]).await.unwrap_err();
            assert!(error.is("INVALID_FIELD"), "{error}");
        }
        engine.detach(&b, "none").await.unwrap();
        engine.join(&b, &["blue"], &[]).await.unwrap();
    });
}

#[test]
fn privileged_sixty_four_come_and_go_at_once() {
    on_a_host(async || {
        let (engine, host) = (Arc::new(Engine::new().await), Place::here());
        engine.network("blue", false).await;
        let calls = (0..64_u32).map(|n| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                let place = Place::new();
                let port = format!("{}:80/tcp", 20_000 + n);
                let both = engine.join(&place, &["bridge", "blue"], &[&port]).await.unwrap();
                engine.detach(&place, if n % 2 == 0 { "bridge" } else { "blue" }).await.unwrap();
                let back =
                    if n % 4 == 0 { engine.join(&place, &["bridge"], &[]).await.unwrap() } else { vec![] };
                (place, both, back)
            })
        });
        let (mut places, mut addresses) = (Vec::new(), Vec::new());
        for call in calls.collect::<Vec<_>>() {
            let (place, both, back) = call.await.unwrap();
            addresses.extend(both.into_iter().chain(back).map(|endpoint| endpoint.ipv4));
            assert_eq!(ways_out(&place).len(), 1);
            places.push(place);
        }
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 64 + 64 + 16, "no address twice");
        assert_eq!(host.ip("-o link show type veth").lines().count(), 64 + 16);
        for (network, members) in [("bridge", 32 + 16), ("blue", 32)] {
            assert_eq!(engine.inspect(network).await.unwrap().endpoints.len(), members);
        }
        let _responder = Responder::new(&places[2], "third", "0.0.0.0:80");
        assert!(hears(&host, Over::Tcp, "127.0.0.1:20002").starts_with("third "));
    });
}
