//! Networks with IPv6 beside IPv4, each test on a host of its own.

use davit_proto::network::{CreateRequest, Subnet};

use crate::lab::engine::{Engine, request};
use crate::lab::talk::{BOTH, Over, Responder, hears, hears_nothing};
use crate::lab::{Place, on_a_host};

fn dual(name: &str, cidr: &str) -> CreateRequest {
    let subnets = vec![Subnet { cidr: cidr.into(), ..Subnet::default() }];
    CreateRequest { name: name.into(), subnets, ipv6: true, ..CreateRequest::default() }
}

#[test]
fn privileged_both_families_from_one_container_to_the_next() {
    on_a_host(async || {
        let (engine, host, a, b, c) =
            (Engine::new().await, Place::here(), Place::new(), Place::new(), Place::new());
        let made = engine.create(dual("blue", "fd00:17::/64")).await.unwrap();
        assert!(made.ipv6);
        let cidrs: Vec<&str> = made.subnets.iter().map(|subnet| &*subnet.cidr).collect();
        assert_eq!(cidrs, ["172.18.0.0/16", "fd00:17::/64"]);
        let first = engine.attach(&a, "blue", &[]).await.unwrap().endpoints.remove(0);
        assert_eq!(
            (&*first.ipv4, &*first.ipv6, first.ipv6_prefix, &*first.ipv6_gateway),
            ("172.18.0.2", "fd00:17::2", 64, "fd00:17::1")
        );
        engine.attach(&b, "blue", &[]).await.unwrap();
        engine.run(&c, &[]).await;
        let _responder = Responder::new(&a, "a", "[::]:80");
        for over in BOTH {
            assert_eq!(hears(&b, over, "[fd00:17::2]:80"), "a fd00:17::3");
            assert!(hears(&b, over, "172.18.0.2:80").ends_with("172.18.0.3"));
            assert_eq!(hears(&host, over, "[fd00:17::2]:80"), "a fd00:17::1");
            hears_nothing(&c, over, "[fd00:17::2]:80");
        }
        b.within(|| crate::lab::run("ping", "-6 -c1 -W2 fd00:17::2"));
        assert!(a.ip("-6 route show default").contains("default via fd00:17::1 dev eth0"));
        for (place, link) in [(&a, "eth0"), (&host, &*made.interface)] {
            for (key, value) in [("accept_ra", "0"), ("autoconf", "0"), ("accept_redirects", "0")] {
                assert_eq!(place.setting(&format!("ipv6/conf/{link}/{key}")), value, "{link} {key}");
            }
        }
        assert_eq!(c.ip("-6 addr show dev eth0"), "", "a network without it has none of it");
        let inspected = engine.inspect("blue").await.unwrap();
        assert!(inspected.ipv6 && inspected.endpoints.contains(&first));
    });
}

#[test]
fn privileged_a_private_range_follows_from_the_network() {
    on_a_host(async || {
        let engine = Engine::new().await;
        let with_ipv6 =
            |name: &str| CreateRequest { name: name.into(), ipv6: true, ..CreateRequest::default() };
        let (one, two) =
            (engine.create(with_ipv6("one")).await.unwrap(), engine.create(with_ipv6("two")).await.unwrap());
        for network in [&one, &two] {
            let range: ipnet::Ipv6Net = network.subnets[1].cidr.parse().unwrap();
            assert!(range.prefix_len() == 64 && range.addr().octets()[0] == 0xfd, "{range}");
        }
        assert_ne!(one.subnets[1].cidr, two.subnets[1].cidr);
        let error = engine.create(dual("three", &one.subnets[1].cidr)).await.unwrap_err();
        assert!(error.is("RANGE_TAKEN") && error.message.contains("network one"), "{error}");
        let mut small = with_ipv6("four");
        small.options.insert("mtu".into(), "1200".into());
        assert!(engine.create(small).await.unwrap_err().is("INVALID_FIELD"));
    });
}

#[test]
fn privileged_wanted_addresses_of_ipv6() {
    on_a_host(async || {
        let (engine, a, b) = (Engine::new().await, Place::new(), Place::new());
        let mut range = dual("blue", "fd00:17::/64");
        range.subnets[0].gateway = "fd00:17::ff".into();
        range.subnets[0].ip_range = "fd00:17::100/120".into();
        engine.create(range).await.unwrap();
        let mut wanted = request(&a, "blue", &[]);
        wanted.endpoints[0].ipv6 = "fd00:17::9".into();
        wanted.endpoints[0].mac = "02:00:00:00:00:09".into();
        let got = engine.client().attach(wanted.clone()).await.unwrap().into_inner().endpoints.remove(0);
        assert_eq!(
            (&*got.ipv6, &*got.ipv6_gateway, &*got.mac),
            ("fd00:17::9", "fd00:17::ff", "02:00:00:00:00:09")
        );
        assert_eq!(engine.client().attach(wanted.clone()).await.unwrap().into_inner().endpoints, [got]);
        assert_eq!(engine.attach(&b, "blue", &[]).await.unwrap().endpoints[0].ipv6, "fd00:17::100");
        for (reason, change) in [
            ("ADDRESS_TAKEN", "fd00:17::9"),
            ("INVALID_FIELD", "fd00:17::ff"),
            ("INVALID_FIELD", "fd00:18::1"),
            ("INVALID_FIELD", "172.18.0.9"),
        ] {
            let mut other = request(&Place::new(), "blue", &[]);
            other.endpoints[0].ipv6 = change.into();
            let error = engine.client().attach(other).await.unwrap_err();
            let error = davit_proto::status::RemoteError::from(error);
            assert!(error.is(reason), "{change}: {error:?}");
        }
    });
}

#[test]
fn privileged_the_host_becomes_no_router_and_keeps_its_own() {
    on_a_host(async || {
        let (engine, host, a) = (Engine::new().await, Place::here(), Place::new());
        let (neighbour, beyond) = (host.neighbour(), Place::new());
        host.cable(&beyond, "cable2");
        for (link, text) in [("cable", "fd00:1::1/64"), ("cable2", "fd00:2::1/64")] {
            host.ip(&format!("addr add {text} dev {link} nodad"));
        }
        for (place, address, router) in
            [(&neighbour, "fd00:1::2/64", "fd00:1::1"), (&beyond, "fd00:2::2/64", "fd00:2::1")]
        {
            place.ip(&format!("addr add {address} dev uplink nodad"));
            place.ip(&format!("route add default via {router}"));
        }
        assert_eq!(host.setting("ipv6/conf/all/forwarding"), "0");
        host.sysctl("ipv6/conf/cable2/accept_ra", "0");
        assert_eq!(host.setting("ipv6/conf/cable/accept_ra"), "1");
        let _far = Responder::new(&beyond, "far", "[::]:70");
        engine.run(&a, &[]).await;
        assert_eq!(host.setting("ipv6/conf/all/forwarding"), "0", "nobody needs it");

        engine.create(dual("blue", "fd00:17::/64")).await.unwrap();
        engine.join(&a, &["blue"], &[]).await.unwrap();
        assert_eq!(host.setting("ipv6/conf/all/forwarding"), "1");
        let of = |link: &str| host.setting(&format!("ipv6/conf/{link}/accept_ra"));
        assert_eq!([of("cable"), of("cable2"), of("default")], ["2", "0", "2"], "what took them takes them");
        assert!(a.ip("-6 route show default").contains("via fd00:17::1 dev eth1"));
        for over in BOTH {
            assert_eq!(hears(&a, over, "[fd00:2::2]:70"), "far fd00:2::1", "masqueraded");
            hears_nothing(&neighbour, over, "[fd00:2::2]:70");
        }
        engine.detach(&a, "blue").await.unwrap();
        assert_eq!(a.ip("-6 route show default"), "");
        // Somebody who switches it off finds it on again, and the guard whole.
        host.sysctl("ipv6/conf/all/forwarding", "0");
        crate::lab::until(|| host.setting("ipv6/conf/all/forwarding") == "1");
        let rules = host.within(|| crate::lab::run("nft", "list table inet davit"));
        assert!(rules.contains("nd-router-advert") && rules.contains("nfproto ipv6"), "{rules}");
    });
}

#[test]
fn privileged_an_internal_network_stays_inside_with_ipv6_too() {
    on_a_host(async || {
        let (engine, a, b) = (Engine::new().await, Place::new(), Place::new());
        let inside = CreateRequest { internal: true, ..dual("inside", "fd00:17::/64") };
        engine.create(inside).await.unwrap();
        let got = engine.attach(&a, "inside", &[]).await.unwrap().endpoints.remove(0);
        assert_eq!((&*got.ipv6, &*got.ipv6_gateway), ("fd00:17::2", ""));
        assert_eq!(a.ip("-6 route show default"), "");
        engine.attach(&b, "inside", &[]).await.unwrap();
        let _responder = Responder::new(&a, "a", "[::]:80");
        hears(&b, Over::Tcp, "[fd00:17::2]:80");
    });
}

/// Says to everybody on a container's link that it is the router, as an attacker in it does.
fn advertise(place: &Place) {
    use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sockopt};
    place.within(|| {
        let index: u32 =
            crate::lab::run("ip", "-o link show dev eth0").split(':').next().unwrap().parse().unwrap();
        let socket =
            rustix::net::socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
        // Nobody takes one that passed a router.
        sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
        let advertisement = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        let everybody = std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, index);
        rustix::net::sendto(&socket, &advertisement, SendFlags::empty(), &everybody).unwrap();
    });
}

#[test]
fn privileged_no_container_is_taken_for_a_router() {
    on_a_host(async || {
        let (engine, host) = (Engine::new().await, Place::here());
        let places = [Place::new(), Place::new(), Place::new()];
        let [attacker, neighbour, believer] = &places;
        let made = engine.create(dual("blue", "fd00:17::/64")).await.unwrap();
        for place in &places {
            engine.attach(place, "blue", &[]).await.unwrap();
        }
        // With br_netfilter the guard sees what passes from one port of a bridge to the next, too.
        if host.within(|| std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-ip6tables").exists()) {
            host.sysctl("bridge/bridge-nf-call-ip6tables", "0");
        }
        let router = |place: &Place| place.ip("-6 route show").contains("proto ra");
        // Somebody who asks for it is told, so that those who do not ask were not spared by chance.
        believer.sysctl("ipv6/conf/eth0/accept_ra", "2");
        // The guard holds also where somebody changes the bridge's setting.
        host.sysctl(&format!("ipv6/conf/{}/accept_ra", made.interface), "2");
        crate::lab::until(|| {
            advertise(attacker);
            router(believer)
        });
        assert!(!router(&host) && !router(neighbour), "{}", host.ip("-6 route show"));
        let rules = host.within(|| crate::lab::run("nft", "list chain inet davit guard"));
        let dropped = rules.lines().find(|line| line.contains("nd-router-advert")).unwrap();
        assert!(!dropped.contains("packets 0"), "{dropped}");
    });
}

#[test]
fn privileged_published_ports_lead_to_ipv6_too() {
    on_a_host(async || {
        let (engine, host, web, other) = (Engine::new().await, Place::here(), Place::new(), Place::new());
        let neighbour = host.neighbour();
        host.ip("addr add fd00:1::1/64 dev cable nodad");
        neighbour.ip("addr add fd00:1::2/64 dev uplink nodad");
        neighbour.ip("route add fd00:17::/64 via fd00:1::1");
        engine.create(dual("blue", "fd00:17::/64")).await.unwrap();
        let ports = ["8080:80/tcp", "8080:80/udp"];
        engine.attach(&web, "blue", &ports).await.unwrap();
        engine.attach(&other, "blue", &[]).await.unwrap();
        let _responders =
            [Responder::new(&web, "web", "[::]:80"), Responder::new(&other, "other", "[::]:80")];
        for over in BOTH {
            assert_eq!(hears(&neighbour, over, "[fd00:1::1]:8080"), "web fd00:1::2", "its address is kept");
            for to in ["[fd00:1::1]:8080", "[fd00:17::1]:8080"] {
                hears(&host, over, to);
                assert!(hears(&other, over, to).starts_with("web "), "{to}");
                assert!(hears(&web, over, to).starts_with("web "), "{to}");
            }
            hears_nothing(&neighbour, over, "[fd00:17::2]:80");
        }
        // The port goes along when the container leaves the network for another one with IPv6.
        engine.create(dual("red", "fd00:18::/64")).await.unwrap();
        engine.join(&web, &["red"], &[]).await.unwrap();
        engine.detach(&web, "blue").await.unwrap();
        for over in BOTH {
            assert_eq!(hears(&neighbour, over, "[fd00:1::1]:8080"), "web fd00:1::2");
            assert_eq!(hears(&neighbour, over, "192.0.2.1:8080"), "web 192.0.2.2");
        }
    });
}
