//! Containers on networks, each test on a host of its own.

use crate::lab::engine::{Engine, request};
use crate::lab::talk::{BOTH, Over, Responder, hears, hears_nothing};
use crate::lab::{Place, on_a_host, until};

#[test]
fn privileged_containers_are_wired_and_talk() {
    on_a_host(async || {
        let (engine, host) = (Engine::new().await, Place::here());
        let (a, b) = (Place::new(), Place::new());
        let first = engine.run(&a, &[]).await;
        assert_eq!((&*first.ipv4, first.ipv4_prefix, &*first.ipv4_gateway), ("172.17.0.2", 16, "172.17.0.1"));
        assert_eq!((&*first.mac, &*first.interface), ("02:42:ac:11:00:02", "eth0"));
        assert_eq!(engine.run(&b, &[]).await.ipv4, "172.17.0.3");

        let _responders =
            [Responder::new(&a, "a", "0.0.0.0:80"), Responder::new(&host, "host", "172.17.0.1:81")];
        for over in BOTH {
            assert_eq!(hears(&b, over, "172.17.0.2:80"), "a 172.17.0.3");
            assert_eq!(hears(&host, over, "172.17.0.2:80"), "a 172.17.0.1");
            assert_eq!(hears(&b, over, "172.17.0.1:81"), "host 172.17.0.3");
            assert_eq!(hears(&a, over, "127.0.0.1:80"), "a 127.0.0.1");
        }
        assert!(a.ip("route").contains("default via 172.17.0.1 dev eth0"));
        assert!(a.ip("link show eth0").contains("02:42:ac:11:00:02"));
        assert_eq!(a.ip("-6 addr show dev eth0"), "", "no IPv6 that nobody asked for");
        assert!(host.ip("-d link show type bridge_slave").contains("hairpin on"));
        assert_eq!(host.setting("ipv6/conf/davit0/disable_ipv6"), "1");
        assert_eq!(
            (
                &*host.setting("ipv4/conf/davit0/route_localnet"),
                &*host.setting("ipv4/conf/all/route_localnet")
            ),
            ("1", "0")
        );

        let bridge = engine.inspect("bridge").await.unwrap();
        assert_eq!((&*bridge.interface, &*bridge.subnets[0].cidr), ("davit0", "172.17.0.0/16"));
        assert!(bridge.endpoints.contains(&first) && bridge.endpoints.len() == 2);
    });
}

#[test]
fn privileged_attach_and_release_may_be_asked_again() {
    on_a_host(async || {
        let (engine, host, a) = (Engine::new().await, Place::here(), Place::new());
        let ports = ["8080:80/tcp"];
        let once = engine.attach(&a, "bridge", &ports).await.unwrap();
        assert_eq!(engine.attach(&a, "bridge", &ports).await.unwrap(), once);
        assert_eq!(host.ip("-o link show type veth").lines().count(), 1);
        let _responder = Responder::new(&a, "a", "0.0.0.0:80");
        hears(&host, Over::Tcp, "127.0.0.1:8080");

        assert_eq!(engine.holders().await, [a.id.to_string()]);
        engine.release(&a).await;
        engine.release(&a).await;
        assert!(engine.holders().await.is_empty());
        assert!(engine.inspect("bridge").await.unwrap().endpoints.is_empty());
        hears_nothing(&host, Over::Tcp, "127.0.0.1:8080");

        // Not the lowest free: the first one's may still be in somebody's cache.
        assert_eq!(engine.run(&Place::new(), &[]).await.ipv4, "172.17.0.3");
    });
}

#[test]
fn privileged_a_new_life_keeps_its_address() {
    on_a_host(async || {
        let (engine, host) = (Engine::new().await, Place::here());
        let first = Place::new();
        let before = engine.run(&first, &["8080:80/tcp", "9090:90/tcp"]).await;
        {
            let _responder = Responder::new(&first, "first", "0.0.0.0:80");
            hears(&host, Over::Tcp, "127.0.0.1:8080");
        }
        // The same container in a new namespace, the old one and its link still there.
        let second = first.again();
        assert_eq!(engine.run(&second, &["8080:80/tcp"]).await, before);
        let _responder = Responder::new(&second, "second", "0.0.0.0:80");
        assert_eq!(hears(&host, Over::Tcp, "172.17.0.2:80"), "second 172.17.0.1");
        assert!(hears(&host, Over::Tcp, "127.0.0.1:8080").starts_with("second "));
        let other = Place::new();
        engine.run(&other, &["9090:90/tcp"]).await;
    });
}

#[test]
fn privileged_a_namespace_goes_with_its_holder() {
    on_a_host(async || {
        let (engine, host, place) = (Engine::new().await, Place::here(), Place::new());
        // Another process holds it, as a shim does, and nobody else.
        let hold = "exec 9</proc/self/ns/net; exec sleep 60";
        let mut holder =
            place.within(|| std::process::Command::new("sh").args(["-c", hold]).spawn().unwrap());
        until(|| {
            std::fs::read_link(format!("/proc/{}/exe", holder.id()))
                .is_ok_and(|exe| !exe.ends_with("sh") && !exe.ends_with("dash"))
        });
        let mut wanted = request(&place, "bridge", &["8080:80/tcp"]);
        (wanted.netns_pid, wanted.netns_fd) = (holder.id().try_into().unwrap(), 9);
        engine.client().attach(wanted).await.unwrap();
        let id = place.id.clone();
        drop(place);
        assert_eq!(host.ip("-o link show type veth").lines().count(), 1);
        holder.kill().unwrap();
        holder.wait().unwrap();
        until(|| host.ip("-o link show type veth").is_empty());
        let release = davit_proto::network::ReleaseRequest { container_id: id.to_string() };
        engine.client().release(release).await.unwrap();
        assert!(!host.within(|| crate::lab::run("nft", "list table inet davit")).contains("8080"));
    });
}

#[test]
fn privileged_many_at_once_have_an_address_each() {
    on_a_host(async || {
        let engine = std::sync::Arc::new(Engine::new().await);
        let calls = (0..32_u32).map(|n| {
            let engine = std::sync::Arc::clone(&engine);
            tokio::spawn(async move {
                let place = Place::new();
                let port = format!("{}:80/udp", 20_000 + n);
                let address = engine.run(&place, &[&port]).await.ipv4;
                if n % 2 == 0 {
                    engine.release(&place).await;
                }
                address
            })
        });
        let mut addresses = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            addresses.push(call.await.unwrap());
        }
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 32);
        assert_eq!(engine.inspect("bridge").await.unwrap().endpoints.len(), 16);
        assert_eq!(engine.holders().await.len(), 16);
    });
}

#[test]
fn privileged_host_and_none() {
    on_a_host(async || {
        let (engine, host, a) = (Engine::new().await, Place::here(), Place::new());
        let answer = engine.attach(&a, "none", &["80:80/tcp"]).await.unwrap();
        assert_eq!((&*answer.endpoints[0].ipv4, &*answer.endpoints[0].network_name), ("", "none"));
        assert_eq!(answer.warnings.len(), 1);
        assert!(a.ip("-o link").lines().all(|line| line.contains("lo:")) && a.ip("link").contains(",UP"));

        let b = Place::new();
        engine.attach(&b, "host", &[]).await.unwrap();
        assert_eq!(engine.inspect("host").await.unwrap().endpoints[0].container_id, b.id.to_string());
        assert!(!host.ip("-o link").contains("davit0"), "nobody needed a bridge");
        assert_eq!(engine.inspect("none").await.unwrap().driver, "null");
    });
}

#[test]
fn privileged_what_cannot_be_is_refused_in_words() {
    on_a_host(async || {
        let (engine, host, a) = (Engine::new().await, Place::here(), Place::new());
        let client = || engine.client();
        for (reason, change) in [
            (
                "NETWORK_NOT_FOUND",
                (|r| r.endpoints[0].network = "nowhere".into())
                    as fn(&mut davit_proto::network::AttachRequest),
            ),
            ("NETNS_GONE", |r| r.netns_inode += 1),
            ("NETNS_GONE", |r| r.netns_fd = 9999),
            ("INVALID_FIELD", |r| r.netns_pid = -1),
            ("INVALID_FIELD", |r| r.netns_pid = 0),
            ("INVALID_FIELD", |r| r.endpoints.clear()),
            ("INVALID_FIELD", |r| r.endpoints[0].ipv4 = "172.17.0.1".into()),
            ("INVALID_FIELD", |r| r.endpoints[0].ipv4 = "10.0.0.1".into()),
            ("INVALID_FIELD", |r| r.endpoints[0].mac = "ff:ff:ff:ff:ff:ff".into()),
            ("INVALID_NAME", |r| r.container_id = "../../x".into()),
            ("INVALID_FIELD", |r| r.endpoints[0].ipv6 = "fd00::2".into()),
            ("INVALID_FIELD", |r| r.ports[0].host_port = 70_000),
            ("INVALID_FIELD", |r| r.ports[0].protocol = "icmp".into()),
        ] {
            let mut request = request(&a, "bridge", &["8080:80/tcp"]);
            change(&mut request);
            let error = davit_proto::status::RemoteError::from(client().attach(request).await.unwrap_err());
            assert!(error.is(reason), "{reason}: {error:?}");
            engine.release(&a).await;
        }
        let own = request(&host, "bridge", &[]);
        assert_eq!(client().attach(own).await.unwrap_err().code(), tonic::Code::InvalidArgument);
        assert!(!host.ip("-o link").contains("eth0"), "the host was not wired to itself");

        let b = Place::new();
        engine.run(&b, &["127.0.0.1:8080:80/tcp"]).await;
        let error = engine.attach(&a, "bridge", &["8080:80/tcp"]).await.unwrap_err();
        assert!(error.is("PORT_TAKEN") && error.message.contains(b.id.as_str()), "{error}");
        engine.run(&a, &["8080:80/udp", "127.0.0.2:8080:80/tcp"]).await;
    });
}

#[test]
fn privileged_wanted_addresses() {
    on_a_host(async || {
        let (engine, a, b) = (Engine::new().await, Place::new(), Place::new());
        let mut wanted = request(&a, "bridge", &[]);
        wanted.endpoints[0].ipv4 = "172.17.9.9".into();
        wanted.endpoints[0].mac = "02:00:00:00:00:09".into();
        let got = engine.client().attach(wanted.clone()).await.unwrap().into_inner().endpoints.remove(0);
        assert_eq!((&*got.ipv4, &*got.mac), ("172.17.9.9", "02:00:00:00:00:09"));
        wanted =
            davit_proto::network::AttachRequest { endpoints: wanted.endpoints, ..request(&b, "bridge", &[]) };
        let error = davit_proto::status::RemoteError::from(engine.client().attach(wanted).await.unwrap_err());
        assert!(error.is("ADDRESS_TAKEN"), "{error}");
        let _responder = Responder::new(&a, "a", "0.0.0.0:80");
        engine.run(&b, &[]).await;
        assert_eq!(hears(&b, Over::Udp, "172.17.9.9:80"), "a 172.17.0.2");
    });
}

#[test]
fn privileged_twenty_attaches_are_quick() {
    on_a_host(async || {
        let engine = Engine::new().await;
        engine.run(&Place::new(), &[]).await;
        for ports in [false, true] {
            let mut times = Vec::new();
            for n in 0..20_u32 {
                let place = Place::new();
                let ports = if ports { vec![format!("{}:80/tcp", 10_000 + n)] } else { vec![] };
                let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
                let begun = std::time::Instant::now();
                engine.run(&place, &ports).await;
                times.push(begun.elapsed());
            }
            times.sort();
            eprintln!("attach, ports {ports}: min {:?}, p50 {:?}, max {:?}", times[0], times[10], times[19]);
            assert!(times[10].as_millis() < 50, "{times:?}");
        }
    });
}

#[test]
fn privileged_the_two_hundredth_costs_what_the_second_did() {
    on_a_host(async || {
        let engine = Engine::new().await;
        engine.run(&Place::new(), &[]).await;
        let mut places = Vec::new();
        let mut times = Vec::new();
        for n in 0..220_u32 {
            let place = Place::new();
            let port = format!("{}:80/tcp", 10_000 + n);
            let begun = std::time::Instant::now();
            engine.run(&place, &[&port]).await;
            times.push(begun.elapsed());
            places.push(place);
        }
        // The quickest of many: others on the machine make single ones slow.
        let quickest = |times: &[std::time::Duration]| times.iter().min().copied().unwrap();
        let (first, last) = (quickest(&times[..100]), quickest(&times[120..]));
        let mut leaving = Vec::new();
        for place in &places {
            let begun = std::time::Instant::now();
            engine.detach(place, "bridge").await.unwrap();
            leaving.push(begun.elapsed());
        }
        let (full, empty) = (quickest(&leaving[..100]), quickest(&leaving[120..]));
        eprintln!(
            "attach: first {first:?}, two hundredth {last:?}; detach: {full:?} of 220, {empty:?} of the last"
        );
        assert!(last < first * 2, "{times:?}");
    });
}
