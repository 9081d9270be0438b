//! Published ports: who reaches a container, by which address, and who does not. Each test on a host of its own.

use std::time::Duration;

use crate::lab::engine::Engine;
use crate::lab::talk::{BOTH, Over, Responder, hears, hears_nothing, says, silent};
use crate::lab::{Place, on_a_host, run, until};

/// What a container publishes in most tests: on every address, and on loopback alone.
const PORTS: [&str; 4] = ["8080:80/tcp", "8080:80/udp", "127.0.0.1:8082:80/tcp", "127.0.0.1:8082:80/udp"];

#[test]
fn privileged_the_host_reaches_it_by_each_of_its_addresses() {
    on_a_host(async || {
        let (engine, host, web) = (Engine::new().await, Place::here(), Place::new());
        let _neighbour = host.neighbour();
        engine.run(&web, &PORTS).await;
        let _responder = Responder::new(&web, "web", "0.0.0.0:80");
        for over in BOTH {
            for to in
                ["127.0.0.1:8080", "127.5.5.5:8080", "127.0.0.1:8082", "192.0.2.1:8080", "172.17.0.1:8080"]
            {
                assert!(hears(&host, over, to).starts_with("web "), "{to}");
            }
            hears_nothing(&host, over, "192.0.2.1:8082");
            hears_nothing(&host, over, "127.0.0.1:80");
        }
        assert_eq!(hears(&host, Over::Tcp, "127.0.0.1:8080"), "web 172.17.0.1");
    });
}

#[test]
fn privileged_a_neighbour_reaches_what_is_published_and_nothing_else() {
    on_a_host(async || {
        let (engine, host, web) = (Engine::new().await, Place::here(), Place::new());
        let neighbour = host.neighbour();
        engine.run(&web, &PORTS).await;
        let _responders =
            [Responder::new(&web, "web", "0.0.0.0:80"), Responder::new(&web, "inner", "0.0.0.0:81")];
        let _secret = Responder::new(&host, "secret", "127.0.0.1:9999");
        neighbour.ip("route add 172.17.0.0/16 via 192.0.2.1");
        for over in BOTH {
            assert_eq!(hears(&neighbour, over, "192.0.2.1:8080"), "web 192.0.2.2", "its address is kept");
            for to in ["192.0.2.1:8082", "172.17.0.2:80", "172.17.0.2:81", "192.0.2.1:81"] {
                hears_nothing(&neighbour, over, to);
            }
        }
        route_loopback(&neighbour, "192.0.2.1", "uplink");
        for over in BOTH {
            for to in ["127.0.0.1:9999", "127.0.0.1:8080", "127.0.0.1:8082"] {
                hears_nothing(&neighbour, over, to);
            }
        }
    });
}

#[test]
fn privileged_containers_reach_it_through_the_host() {
    on_a_host(async || {
        let (engine, host, web, sibling, cousin) =
            (Engine::new().await, Place::here(), Place::new(), Place::new(), Place::new());
        let _neighbour = host.neighbour();
        engine.network("other", false).await;
        engine.run(&web, &PORTS).await;
        engine.run(&sibling, &[]).await;
        engine.attach(&cousin, "other", &[]).await.unwrap();
        let _responder = Responder::new(&web, "web", "0.0.0.0:80");
        let _secret = Responder::new(&host, "secret", "127.0.0.1:9999");
        for from in [&web, &sibling, &cousin] {
            for over in BOTH {
                for to in ["192.0.2.1:8080", "172.17.0.1:8080"] {
                    assert!(hears(from, over, to).starts_with("web "), "{to}");
                }
                hears_nothing(from, over, "192.0.2.1:8082");
            }
        }
        for over in BOTH {
            assert_eq!(hears(&sibling, over, "172.17.0.2:80"), "web 172.17.0.3");
            hears_nothing(&cousin, over, "172.17.0.2:80");
        }
        route_loopback(&sibling, "172.17.0.1", "eth0");
        for over in BOTH {
            for to in ["127.0.0.1:9999", "127.0.0.1:8080", "127.0.0.1:8082"] {
                hears_nothing(&sibling, over, to);
            }
        }
    });
}

#[test]
fn privileged_the_way_out_and_the_way_that_stays_closed() {
    on_a_host(async || {
        let (engine, host, web) = (Engine::new().await, Place::here(), Place::new());
        let neighbour = host.neighbour();
        // A second neighbour, to see that the host did not become a router.
        let beyond = Place::new();
        beyond.within(|| {
            let task = std::fs::read_link("/proc/thread-self").unwrap();
            host.ip(&format!(
                "link add cable2 type veth peer name uplink netns {}",
                task.file_name().unwrap().to_str().unwrap()
            ));
        });
        host.ip("addr add 198.51.100.1/24 dev cable2");
        host.ip("link set cable2 up");
        beyond.ip("addr add 198.51.100.2/24 dev uplink");
        beyond.ip("link set uplink up");
        beyond.ip("route add default via 198.51.100.1");
        neighbour.ip("route add default via 192.0.2.1");
        let _far = Responder::new(&beyond, "far", "0.0.0.0:70");

        // A new namespace has the machine's own setting.
        host.sysctl("ipv4/ip_forward", "0");
        engine.run(&web, &[]).await;
        assert_eq!(host.setting("ipv4/ip_forward"), "1");
        for over in BOTH {
            assert_eq!(hears(&web, over, "198.51.100.2:70"), "far 198.51.100.1", "masqueraded");
            hears_nothing(&neighbour, over, "198.51.100.2:70");
        }
        // Another engine on the host is not cut off by that.
        let second = Engine::with(|config| {
            config.instance = "second".parse().unwrap();
            config.bridge = "second0".parse().unwrap();
        })
        .await;
        let other = Place::new();
        assert_eq!(second.run(&other, &["8090:80/tcp"]).await.ipv4, "172.18.0.2");
        let _responder = Responder::new(&other, "other", "0.0.0.0:80");
        for over in BOTH {
            assert_eq!(hears(&other, over, "198.51.100.2:70"), "far 198.51.100.1");
        }
        assert!(hears(&neighbour, Over::Tcp, "192.0.2.1:8090").starts_with("other "));
        assert!(hears(&web, Over::Tcp, "172.17.0.1:8090").starts_with("other "));
        hears_nothing(&web, Over::Tcp, "172.18.0.2:80");
        let tables = host.within(|| run("nft", "list tables"));
        assert_eq!(tables.lines().collect::<Vec<_>>(), ["table inet davit", "table inet davit-second"]);
    });
}

#[test]
fn privileged_old_flows_follow_a_port() {
    on_a_host(async || {
        let (engine, host, old, new) = (Engine::new().await, Place::here(), Place::new(), Place::new());
        let neighbour = host.neighbour();
        // A neighbour that speaks before anybody publishes, from one port all the time.
        let line = neighbour.within(|| std::net::UdpSocket::bind("192.0.2.2:7000").unwrap());
        line.connect("192.0.2.1:8080").unwrap();
        line.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let _ = line.send(b"?");
        engine.run(&old, &["8080:80/udp"]).await;
        let first = Responder::new(&old, "old", "0.0.0.0:80");
        says(&line, "old ");
        // The container goes while its namespace lives on; another one takes its port.
        engine.release(&old).await;
        engine.run(&new, &["8080:80/udp"]).await;
        let _second = Responder::new(&new, "new", "0.0.0.0:80");
        says(&line, "new ");
        drop(first);
    });
}

#[test]
fn privileged_ports_come_and_go_while_it_runs() {
    on_a_host(async || {
        let (mut engine, host, web) = (Engine::new().await, Place::here(), Place::new());
        let neighbour = host.neighbour();
        engine.run(&web, &["8080:80/udp", "127.0.0.1:8082:80/tcp"]).await;
        let _responder = Responder::new(&web, "web", "0.0.0.0:80");
        let line = |from: &str| {
            let line = neighbour.within(|| std::net::UdpSocket::bind(from).unwrap());
            line.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            line
        };
        let (kept, lost) = (line("192.0.2.2:7000"), line("192.0.2.2:7001"));
        kept.connect("192.0.2.1:8080").unwrap();
        lost.connect("192.0.2.1:8090").unwrap();
        says(&kept, "web ");
        for _again in 0..2 {
            engine.publish(&web, &["8080:80/udp", "8090:80/udp", "8090:80/tcp"]).await.unwrap();
            hears(&host, Over::Tcp, "127.0.0.1:8090");
            hears_nothing(&host, Over::Tcp, "127.0.0.1:8082");
            says(&lost, "web ");
        }
        engine.publish(&web, &["8080:80/udp"]).await.unwrap();
        silent(&lost);
        says(&kept, "web ");
        engine.kill();
        engine.start(|_| {}).await;
        assert!(
            host.within(|| run("nft", "list table inet davit")).contains("udp . 8080 : 172.17.0.2 . 80 }")
        );

        let taken = Place::new();
        engine.run(&taken, &[]).await;
        for port in ["8080:81/udp", "127.0.0.1:8080:81/udp"] {
            let refused = engine.publish(&taken, &["1:1/tcp", port]).await.unwrap_err();
            assert!(refused.message.contains(web.id.as_str()), "{refused:?}");
            hears_nothing(&host, Over::Tcp, "127.0.0.1:1");
        }
        let told = engine.publish(&Place::new(), &["9:9/tcp"]).await.unwrap();
        assert!(told[0].contains("no address of its own"), "on no network: {told:?}");
        hears_nothing(&host, Over::Tcp, "127.0.0.1:9");
        engine.publish(&Place::new(), &[]).await.unwrap();
    });
}

#[test]
fn privileged_rows_of_ports_are_one_element() {
    on_a_host(async || {
        let (engine, host, web) = (Engine::new().await, Place::here(), Place::new());
        let row = |host: u32, container: u32, count: u32| -> Vec<String> {
            (0..count).map(|n| format!("{}:{}/tcp", host + n, container + n)).collect()
        };
        let names = |ports: &[String]| -> Vec<&'static str> {
            ports.iter().map(|port| &*port.clone().leak()).collect()
        };
        let (equal, shifted) = (row(10_000, 10_000, 10_000), row(21_000, 14_000, 1_500));
        engine.run(&web, &names(&equal)).await;
        let begun = std::time::Instant::now();
        engine.publish(&web, &names(&[equal.clone(), shifted].concat())).await.unwrap();
        eprintln!("1,500 shifted ports beside 10,000 equal ones: {:?}", begun.elapsed());
        let _responder = Responder::new(&web, "web", "0.0.0.0:15000");
        for port in ["127.0.0.1:15000", "127.0.0.1:22000"] {
            hears(&host, Over::Tcp, port);
        }
        let table = || host.within(|| run("nft", "list table inet davit"));
        assert!(table().contains("elements = { tcp . 10000-19999 : 172.17.0.2 }"));
        assert!(table().contains("tcp . 22499 : 172.17.0.2 . 15499"));
        host.within(|| run("nft", "flush ruleset"));
        until(|| host.within(|| run("nft", "list ruleset")).contains("10000-19999"));
        hears(&host, Over::Tcp, "127.0.0.1:15000");
        engine.publish(&web, &["127.0.0.1:15000:15001/tcp"]).await.unwrap();
        assert!(!table().contains("tcp . 22499") && !table().contains("10000-19999"));
        engine.release(&web).await;
        assert!(!table().contains("15000"));
    });
}

#[test]
fn privileged_a_flushed_firewall_comes_back() {
    on_a_host(async || {
        let (engine, host, web) = (Engine::new().await, Place::here(), Place::new());
        engine.run(&web, &PORTS).await;
        let _responder = Responder::new(&web, "web", "0.0.0.0:80");
        for damage in [
            "flush ruleset",
            "delete table inet davit",
            "flush chain inet davit guard",
            "flush map inet davit any4",
            "add rule inet davit forward counter drop",
        ] {
            host.within(|| run("nft", damage));
            until(|| whole(&host));
            hears(&host, Over::Tcp, "127.0.0.1:8080");
        }
        host.sysctl("ipv4/ip_forward", "0");
        until(|| host.setting("ipv4/ip_forward") == "1");
        // A container that comes right after a flush does not wait for the next look.
        host.within(|| run("nft", "flush ruleset"));
        let next = Place::new();
        engine.run(&next, &["8081:80/tcp"]).await;
        assert!(whole(&host));
    });
}

#[test]
fn privileged_a_killed_service_is_not_missed() {
    on_a_host(async || {
        let (mut engine, host, web) = (Engine::new().await, Place::here(), Place::new());
        let before = engine.run(&web, &PORTS).await;
        let _responder = Responder::new(&web, "web", "0.0.0.0:80");
        engine.kill();
        for over in BOTH {
            hears(&host, over, "127.0.0.1:8080");
        }
        host.within(|| run("nft", "delete table inet davit"));
        engine.start(|_| {}).await;
        assert!(whole(&host), "restored at start");
        assert_eq!(engine.inspect("bridge").await.unwrap().endpoints, std::slice::from_ref(&before));
        assert_eq!(engine.run(&web, &PORTS).await, before);
        assert_eq!(engine.run(&Place::new(), &[]).await.ipv4, "172.17.0.3");
        engine.release(&web).await;
        hears_nothing(&host, Over::Tcp, "127.0.0.1:8080");
    });
}

#[test]
fn privileged_other_firewalls_are_told_of() {
    on_a_host(async || {
        let (engine, host) = (Engine::new().await, Place::here());
        assert!(
            engine
                .attach(&Place::new(), "bridge", &["1:1/tcp"])
                .await
                .unwrap()
                .warnings
                .iter()
                .all(|w| !w.contains("firewall"))
        );
        host.within(|| run("nft", "add table ip strict"));
        host.within(|| {
            run("nft", "add chain ip strict FORWARD { type filter hook forward priority 0 ; policy drop ; }")
        });
        let warnings = engine.attach(&Place::new(), "bridge", &["2:2/tcp"]).await.unwrap().warnings;
        assert!(warnings.iter().any(|warning| warning.contains("ip strict FORWARD")), "{warnings:?}");
    });
}

/// Whether our table has its rules and the four ports.
fn whole(host: &Place) -> bool {
    host.within(|| {
        let output =
            std::process::Command::new("nft").args(["list", "table", "inet", "davit"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.contains("ip saddr 127.0.0.0/8 iifname @bridges counter")
            && text.contains("tcp . 8080 : 172.17.0.2 . 80")
            && text.contains("oifname @bridges counter")
            && !text.contains("\n\t\tcounter packets")
    })
}

/// Sends 127.0.0.0/8 to a router, as somebody does who looks for what listens on its loopback.
fn route_loopback(place: &Place, router: &str, link: &str) {
    for conf in ["all", link] {
        place.sysctl(&format!("ipv4/conf/{conf}/route_localnet"), "1");
        place.sysctl(&format!("ipv4/conf/{conf}/rp_filter"), "0");
    }
    place.ip("addr flush dev lo");
    place.ip(&format!("route add 127.0.0.0/8 via {router} dev {link}"));
}
