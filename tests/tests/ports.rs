//! Published ports, from everywhere: who reaches a container by which address, and who does not. The table below is
//! what is promised; each row is asked for over TCP and UDP, with and without `br_netfilter`.

use davit_tests::engine::{Engine, Services};
use davit_tests::place::{BOTH, Over, Place, Responder};
use davit_tests::wait::until_true;

use Who::{Attacker, Cousin, Host, Neighbour, Sibling, Web};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The host of the engine: 127.0.0.1, ::1, 10.99.0.1, and the bridge's 172.17.0.1.
    Host,
    /// Another host on the same link: 10.99.0.2.
    Neighbour,
    /// The container itself: 172.17.0.2.
    Web,
    /// A container on the same bridge: 172.17.0.3.
    Sibling,
    /// A container on another bridge: 172.18.0.2.
    Cousin,
    /// A neighbour, and a container, that route 127.0.0.0/8 to the host.
    Attacker,
}

/// What is published: on every address of the host, and on 127.0.0.1 alone. Beside it the container has port 81, and
/// the host a service of its own on 127.0.0.1:9999.
const PUBLISHED: [&str; 8] =
    ["-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:8082:80", "-p", "127.0.0.1:8082:80/udp"];

/// Who, asking where, hears what: the container's name and the address that it saw; nothing of `None`.
const TABLE: &[(Who, &str, Option<&str>)] = &[
    // The host, by each of its addresses. What came by loopback is seen as the bridge's address.
    (Host, "127.0.0.1:8080", Some("web 172.17.0.1")),
    (Host, "127.5.5.5:8080", Some("web 172.17.0.1")),
    (Host, "[::1]:8080", Some("web 172.17.0.1")),
    (Host, "10.99.0.1:8080", Some("web ")),
    (Host, "172.17.0.1:8080", Some("web ")),
    (Host, "172.17.0.2:80", Some("web 172.17.0.1")),
    // What is published on 127.0.0.1 alone is there, and nowhere else.
    (Host, "127.0.0.1:8082", Some("web 172.17.0.1")),
    (Host, "10.99.0.1:8082", None),
    (Host, "172.17.0.1:8082", None),
    (Host, "[::1]:8082", None),
    (Host, "127.0.0.1:80", None),
    // A neighbour: its address is kept, and nothing but what is published can be reached.
    (Neighbour, "10.99.0.1:8080", Some("web 10.99.0.2")),
    (Neighbour, "10.99.0.1:8082", None),
    (Neighbour, "10.99.0.1:81", None),
    (Neighbour, "172.17.0.1:8080", Some("web 10.99.0.2")),
    (Neighbour, "172.17.0.2:80", None),
    (Neighbour, "172.17.0.2:81", None),
    // Containers, by the host's addresses: back in at the door that they came out of.
    (Web, "10.99.0.1:8080", Some("web ")),
    (Web, "172.17.0.1:8080", Some("web ")),
    (Web, "10.99.0.1:8082", None),
    (Sibling, "10.99.0.1:8080", Some("web ")),
    (Sibling, "172.17.0.1:8080", Some("web ")),
    (Sibling, "10.99.0.1:8082", None),
    (Sibling, "172.17.0.2:80", Some("web 172.17.0.3")),
    (Cousin, "10.99.0.1:8080", Some("web ")),
    (Cousin, "172.18.0.1:8080", Some("web ")),
    (Cousin, "172.17.0.1:8080", Some("web ")),
    (Cousin, "10.99.0.1:8082", None),
    (Cousin, "172.17.0.2:80", None),
    // Who routes 127.0.0.0/8 to the host gets nothing: neither of the host nor of what is published.
    (Attacker, "127.0.0.1:9999", None),
    (Attacker, "127.0.0.1:8080", None),
    (Attacker, "127.0.0.1:8082", None),
];

/// All that ask.
struct Scene {
    host: Place,
    neighbour: Place,
    web: Place,
    sibling: Place,
    cousin: Place,
}

impl Scene {
    fn new(engine: &Engine) -> Self {
        let neighbour = engine.host().neighbour().unwrap();
        engine.ok(["network", "create", "other"]);
        let run = |name: &str, network: &str, ports: &[&str]| {
            let mut words = vec!["run", "-d", "--name", name, "--network", network];
            words.extend(ports);
            words.extend(["busybox", "sleep", "1000"]);
            engine.ok(words);
            engine.place(name).unwrap()
        };
        Self {
            web: run("web", "bridge", &PUBLISHED),
            sibling: run("sibling", "bridge", &[]),
            cousin: run("cousin", "other", &[]),
            host: engine.host().place().unwrap(),
            neighbour: neighbour.place().unwrap(),
        }
    }

    fn of(&self, who: Who) -> Vec<&Place> {
        match who {
            Host => vec![&self.host],
            Neighbour => vec![&self.neighbour],
            Web => vec![&self.web],
            Sibling => vec![&self.sibling],
            Cousin => vec![&self.cousin],
            Attacker => vec![&self.neighbour, &self.sibling],
        }
    }

    /// Asks all of these rows at once; answers with those that came out otherwise.
    fn wrong(&self, rows: impl Iterator<Item = (Who, &'static str, Option<&'static str>)>) -> Vec<String> {
        std::thread::scope(|scope| {
            let mut asked = Vec::new();
            for (who, to, wanted) in rows {
                for place in self.of(who) {
                    for over in BOTH {
                        asked.push(scope.spawn(move || {
                            let heard = if wanted.is_some() {
                                place.waits_for(over, to)
                            } else {
                                place.asks(over, to)
                            };
                            let right = match (&heard, wanted) {
                                (Some(heard), Some(wanted)) if wanted.ends_with(' ') => {
                                    heard.starts_with(wanted)
                                }
                                (Some(heard), Some(wanted)) => heard == wanted,
                                (None, None) => true,
                                _ => false,
                            };
                            (!right).then(|| format!("{who:?} → {to} {over:?}: {heard:?} and not {wanted:?}"))
                        }));
                    }
                }
            }
            asked.into_iter().filter_map(|row| row.join().unwrap()).collect()
        })
    }
}

#[test]
fn the_table_holds_with_and_without_br_netfilter() {
    let engine = Engine::start().unwrap();
    let scene = Scene::new(&engine);
    let _web =
        [Responder::new(&scene.web, "web", "0.0.0.0:80"), Responder::new(&scene.web, "inner", "0.0.0.0:81")];
    let _secret = Responder::new(&scene.host, "secret", "127.0.0.1:9999");
    scene.neighbour.run("ip route replace 172.16.0.0/12 via 10.99.0.1");
    let rows = || TABLE.iter().copied();
    for value in ["0", "1"] {
        let keys = ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"];
        if !keys.iter().all(|key| scene.host.set(key, value)) {
            eprintln!("skipped: this kernel has no br_netfilter to set to {value}");
        }
        assert_eq!(
            scene.wrong(rows().filter(|(who, ..)| *who != Attacker)),
            Vec::<String>::new(),
            "br_netfilter {value}"
        );
    }
    scene.neighbour.route_loopback("10.99.0.1", "eth0");
    scene.sibling.route_loopback("172.17.0.1", "eth0");
    assert_eq!(scene.wrong(rows().filter(|(who, ..)| *who == Attacker)), Vec::<String>::new());
}

#[test]
fn both_families_are_published() {
    let engine = Engine::start().unwrap();
    let neighbour = engine.host().neighbour().unwrap();
    let (host, far) = (engine.host().place().unwrap(), neighbour.place().unwrap());
    host.run("ip addr add fd99::1/64 dev lan0 nodad");
    far.run("ip addr add fd99::2/64 dev eth0 nodad");
    engine.ok(["network", "create", "--ipv6", "--subnet", "fd77::/64", "six"]);
    let ports = [
        "-p",
        "8080:80",
        "-p",
        "8080:80/udp",
        "-p",
        "[fd99::1]:8081:80",
        "-p",
        "[::1]:8082:80",
        "-p",
        "0.0.0.0:8083:80",
    ];
    let mut words = vec!["run", "-d", "--name", "web", "--network", "six"];
    words.extend(ports);
    words.extend(["busybox", "sleep", "1000"]);
    engine.ok(words);
    let web = engine.place("web").unwrap();
    let _responder = Responder::new(&web, "web", "[::]:80");
    for over in BOTH {
        for to in ["127.0.0.1:8080", "[::1]:8080", "10.99.0.1:8080", "[fd99::1]:8080"] {
            assert!(host.hears(over, to).starts_with("web "), "{over:?} {to}");
        }
        assert_eq!(far.hears(over, "[fd99::1]:8080"), "web fd99::2", "its address is kept");
        assert_eq!(far.hears(over, "10.99.0.1:8080"), "web 10.99.0.2");
    }
    assert_eq!(far.hears(Over::Tcp, "[fd99::1]:8081"), "web fd99::2");
    assert!(host.hears(Over::Tcp, "[::1]:8082").starts_with("web "));
    for (from, to) in [
        (&far, "10.99.0.1:8081"),
        (&far, "[fd99::1]:8082"),
        (&host, "127.0.0.1:8082"),
        (&far, "[fd99::1]:8083"),
        (&host, "[::1]:8083"),
        (&far, "[fd77::2]:80"),
    ] {
        assert_eq!(from.asks(Over::Tcp, to), None, "{to}");
    }
    let shown = engine.ok(["port", "web", "80/tcp"]).stdout;
    for line in ["0.0.0.0:8080", "[::]:8080", "[fd99::1]:8081", "[::1]:8082", "0.0.0.0:8083"] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
}

#[test]
fn two_hosts_reach_each_others_ports_and_keep_their_addresses() {
    let (here, there) = (Engine::start().unwrap(), Engine::start().unwrap());
    here.host().cable("wire0", "192.0.2.1/24", there.host(), "192.0.2.2/24").unwrap();
    let web = |engine: &Engine| {
        engine.ok([
            "run",
            "-d",
            "--name",
            "web",
            "-p",
            "8080:80",
            "-p",
            "8080:80/udp",
            "busybox",
            "sleep",
            "1000",
        ]);
        engine.place("web").unwrap()
    };
    let (web_here, web_there) = (web(&here), web(&there));
    let _responders =
        [Responder::new(&web_here, "here", "0.0.0.0:80"), Responder::new(&web_there, "there", "0.0.0.0:80")];
    let (host_here, host_there) = (here.host().place().unwrap(), there.host().place().unwrap());
    for over in BOTH {
        assert_eq!(host_here.hears(over, "192.0.2.2:8080"), "there 192.0.2.1");
        assert_eq!(host_there.hears(over, "192.0.2.1:8080"), "here 192.0.2.2");
        assert_eq!(
            web_here.hears(over, "192.0.2.2:8080"),
            "there 192.0.2.1",
            "a container goes out as its host"
        );
    }
}

#[test]
fn an_internal_network_has_no_way_out_nor_in() {
    let engine = Engine::start().unwrap();
    let neighbour = engine.host().neighbour().unwrap();
    let (host, far) = (engine.host().place().unwrap(), neighbour.place().unwrap());
    engine.ok(["network", "create", "--internal", "inner"]);
    for (name, network, port) in
        [("a", "inner", "8080:80"), ("b", "inner", "8081:80"), ("c", "bridge", "8082:80")]
    {
        engine.ok([
            "run",
            "-d",
            "--name",
            name,
            "--network",
            network,
            "-p",
            port,
            "busybox",
            "sleep",
            "1000",
        ]);
    }
    let (a, b, c) = (engine.place("a").unwrap(), engine.place("b").unwrap(), engine.place("c").unwrap());
    let _responders = [
        Responder::new(&a, "a", "0.0.0.0:80"),
        Responder::new(&c, "c", "0.0.0.0:80"),
        Responder::new(&far, "far", "0.0.0.0:80"),
    ];
    let inner = engine.field("a", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let outer = engine.field("c", "{{.NetworkSettings.IPAddress}}");
    for over in BOTH {
        assert!(b.hears(over, &format!("{inner}:80")).starts_with("a "), "live traffic within");
        for (from, to) in [
            (&a, "10.99.0.2:80".to_owned()),
            (&a, format!("{outer}:80")),
            (&a, "10.99.0.1:8082".to_owned()),
            (&c, format!("{inner}:80")),
            (&far, "10.99.0.1:8080".to_owned()),
            (&far, format!("{inner}:80")),
        ] {
            assert_eq!(from.asks(over, &to), None, "{over:?} {to}");
        }
    }
    assert!(host.hears(Over::Tcp, &format!("{inner}:80")).starts_with("a "), "the host is on the bridge");
}

/// What `nft list ruleset` says of tables that are not ours.
fn foreign(place: &Place) -> String {
    let rules = place.run("nft list ruleset");
    let mut ours = false;
    let kept = rules.lines().filter(|line| {
        if line.starts_with("table ") {
            ours = line.starts_with("table inet davit");
        }
        !ours
    });
    kept.collect::<Vec<_>>().join("\n")
}

#[test]
fn other_firewalls_are_left_alone_and_told_of() {
    let engine = Engine::start().unwrap();
    let host = engine.host().place().unwrap();
    host.run("nft add table inet mine");
    host.run("nft add chain inet mine in { type filter hook input priority 0 ; policy accept ; }");
    host.run("nft add rule inet mine in tcp dport 23 drop");
    host.run("nft add set inet mine friends { type ipv4_addr ; elements = { 10.0.0.1 } ; }");
    host.run("iptables -A INPUT -p tcp --dport 24 -j DROP");
    host.run("iptables -P FORWARD ACCEPT");
    host.run("iptables -t nat -A POSTROUTING -s 10.1.0.0/16 -j MASQUERADE");
    let (before, iptables) = (
        foreign(&host),
        host.run("iptables-save").lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n"),
    );
    engine.ok(["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sleep", "1000"]);
    engine.ok(["update", "--publish-add", "8081:81", "--publish-rm", "8080:80", "web"]);
    engine.ok(["network", "create", "other"]);
    assert_eq!(foreign(&host), before, "during");
    assert!(host.run("nft list ruleset").contains("tcp . 8081 : 172.17.0.2 . 81"));

    host.run("iptables -P FORWARD DROP");
    let told = engine.ok(["run", "-d", "--name", "told", "-p", "8082:80", "busybox", "sleep", "1000"]);
    assert!(told.stderr.contains("ip filter FORWARD"), "{told:?}");
    let info = engine.ok(["info"]);
    assert!(
        info.stdout.contains("ip filter FORWARD") || info.stderr.contains("ip filter FORWARD"),
        "{info:?}"
    );
    host.run("iptables -P FORWARD ACCEPT");
    engine.ok(["rm", "-f", "web", "told"]);
    engine.ok(["network", "rm", "other"]);
    assert_eq!(foreign(&host), before, "after");
    let after =
        host.run("iptables-save").lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n");
    let uncounted = |text: &str| {
        text.split('[')
            .map(|part| part.split_once(']').map_or(part, |(_, rest)| rest).to_owned())
            .collect::<String>()
    };
    assert_eq!(uncounted(&after), uncounted(&iptables));
}

#[test]
fn a_flush_is_made_good_within_a_second() {
    let engine = Engine::start().unwrap();
    let host = engine.host().place().unwrap();
    engine.ok(["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sleep", "1000"]);
    let web = engine.place("web").unwrap();
    let _responder = Responder::new(&web, "web", "0.0.0.0:80");
    assert_eq!(host.hears(Over::Tcp, "127.0.0.1:8080"), "web 172.17.0.1");
    for damage in ["nft flush ruleset", "nft delete table inet", "nft flush ruleset"] {
        let table = host.run("nft list tables").trim().rsplit(' ').next().unwrap_or_default().to_owned();
        let damage = if damage.ends_with("inet") { format!("{damage} {table}") } else { damage.to_owned() };
        let begun = std::time::Instant::now();
        host.run(&damage);
        until_true("it answers again", || host.asks(Over::Tcp, "127.0.0.1:8080").is_some());
        let took = begun.elapsed();
        eprintln!("{damage}: back after {took:?}");
        assert!(took < std::time::Duration::from_secs(3), "{took:?}; a second on a machine that is not busy");
    }
    assert!(host.set("ipv4/ip_forward", "0"));
    until_true("forwarding is on again", || host.setting("ipv4/ip_forward") == "1");
    host.run("ip link set davit0 down");
    until_true("the bridge is up again", || host.asks(Over::Tcp, "127.0.0.1:8080").is_some());
    host.run("ip link del davit0");
    until_true("what cannot be mended is told", || {
        let info = engine.ok(["info"]);
        format!("{}{}", info.stdout, info.stderr).contains("somebody removed bridge davit0")
    });
    let log = std::fs::read_to_string(engine.log(if Services::of_this_run() == Services::Embedded {
        "davitd"
    } else {
        "davit-network"
    }))
    .unwrap();
    assert!(log.matches("somebody changed our firewall").count() <= 2, "told once, not each time: {log}");
}

#[test]
fn ports_come_and_go_while_a_container_runs() {
    let engine = Engine::start().unwrap();
    let host = engine.host().place().unwrap();
    engine.ok(["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sleep", "1000"]);
    engine.ok(["run", "-d", "--name", "other", "-p", "9000:90", "busybox", "sleep", "1000"]);
    let web = engine.place("web").unwrap();
    let responder = Responder::new(&web, "web", "0.0.0.0:80");
    engine.ok(["update", "--publish-add", "8081:80", "--publish-add", "127.0.0.1::80/udp", "web"]);
    for to in ["127.0.0.1:8081", "[::1]:8081", "127.0.0.1:8080"] {
        assert!(host.hears(Over::Tcp, to).starts_with("web "), "{to}");
    }
    let chosen = engine.ok(["port", "web", "80/udp"]).stdout.trim().to_owned();
    assert!(chosen.starts_with("127.0.0.1:"), "{chosen}");
    assert!(host.hears(Over::Udp, &chosen).starts_with("web "));

    // What is taken is refused with who has it, and nothing is half made.
    let shown = engine.ok(["port", "web"]).stdout;
    for (taken, by) in [("9000:80", "\"other\""), ("9999:80", "davit")] {
        let _listener = host.within(|| std::net::TcpListener::bind("127.0.0.1:9999").unwrap());
        let refused = engine.davit(["update", "--publish-add", "8085:80", "--publish-add", taken, "web"]);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains(by) || refused.stderr.contains("pid "), "{refused:?}");
        assert_eq!(engine.ok(["port", "web"]).stdout, shown);
        assert_eq!(host.asks(Over::Tcp, "127.0.0.1:8085"), None);
        host.within(|| std::net::TcpListener::bind("127.0.0.1:8085")).expect("it was let go of");
    }
    let unknown = engine.davit(["update", "--publish-rm", "7777:80", "web"]);
    assert!(unknown.code != 0 && unknown.stderr.contains("publishes no such port"), "{unknown:?}");

    // One goes while its connections do, and what it led to can change.
    engine.ok([
        "update",
        "--publish-rm",
        "0.0.0.0:8080",
        "--publish-rm",
        "8081:80",
        "--publish-add",
        "8081:81",
        "web",
    ]);
    let _inner = Responder::new(&web, "inner", "0.0.0.0:81");
    for to in ["127.0.0.1:8081", "[::1]:8081"] {
        assert!(host.hears(Over::Tcp, to).starts_with("inner "), "{to}");
    }
    for to in ["127.0.0.1:8080", "[::1]:8080"] {
        assert_eq!(host.asks(Over::Tcp, to), None, "{to}");
    }
    host.within(|| std::net::TcpListener::bind("[::]:8080")).expect("it is free again");
    assert!(
        engine
            .ok(["ps", "--format", "{{.Ports}}", "--filter", "name=web"])
            .stdout
            .contains("0.0.0.0:8081->81/tcp")
    );
    drop(responder);
}

#[test]
fn what_was_changed_is_kept_through_a_stop_and_the_death_of_the_engine() {
    let mut engine = Engine::start().unwrap();
    let host = engine.host().place().unwrap();
    engine.ok(["run", "-d", "--name", "web", "-p", "8081:81", "-p", "80/udp", "busybox", "sleep", "1000"]);
    engine.ok(["update", "--publish-rm", "80/udp", "web"]);
    engine.ok(["stop", "-t", "0", "web"]);
    engine.ok(["update", "--publish-add", "8086:80", "web"]);
    engine.ok(["start", "web"]);
    let web = engine.place("web").unwrap();
    let _responder = Responder::new(&web, "web", "0.0.0.0:80");
    assert!(host.hears(Over::Tcp, "127.0.0.1:8086").starts_with("web "));
    engine.kill_controller().unwrap();
    assert!(host.hears(Over::Tcp, "[::1]:8086").starts_with("web "), "nobody but the shim is needed");
    engine.start_controller().unwrap();
    assert_eq!(
        engine.ok(["port", "web"]).stdout,
        "80/tcp -> 0.0.0.0:8086\n80/tcp -> [::]:8086\n81/tcp -> 0.0.0.0:8081\n81/tcp -> [::]:8081\n"
    );
}

#[test]
fn a_change_that_was_cut_off_is_finished_at_the_next_start() {
    let mut engine = Engine::start().unwrap();
    let host = engine.host().place().unwrap();
    engine.ok(["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sleep", "1000"]);
    let web = engine.place("web").unwrap();
    let _responder = Responder::new(&web, "web", "0.0.0.0:80");
    for (at, point) in ["publish.wanted", "publish.reserved", "publish.led"].into_iter().enumerate() {
        engine.kill_controller().unwrap();
        engine.start_controller_at(&format!("{point}=abort")).unwrap();
        let (old, new) = (format!("{}:80", 8080 + at), format!("{}:80", 8081 + at));
        let cut = engine.davit(["update", "--publish-rm", &old, "--publish-add", &new, "web"]);
        assert_ne!(cut.code, 0, "{point}: {cut:?}");
        engine.end_controller().unwrap();
        engine.start_controller().unwrap();
        let (old, new) = (format!("127.0.0.1:{}", 8080 + at), format!("127.0.0.1:{}", 8081 + at));
        until_true("the change is made", || host.asks(Over::Tcp, &new).is_some());
        until_true("and whole", || host.asks(Over::Tcp, &old).is_none());
        let number = old.rsplit(':').next().unwrap_or_default();
        until_true("and let go of", || {
            host.within(|| std::net::TcpListener::bind(format!("[::]:{number}")).is_ok())
        });
        until_true("and told", || {
            engine.ok(["port", "web", "80"]).line().ends_with(&format!(":{}", 8081 + at))
        });
    }
}

#[test]
fn ranges_and_chosen_ports() {
    let engine = Engine::start().unwrap();
    let host = engine.host().place().unwrap();
    let begun = std::time::Instant::now();
    engine.ok(["run", "-d", "--name", "many", "-p", "20000-29999:20000-29999", "busybox", "sleep", "1000"]);
    eprintln!("a container with 10,000 ports: {:?}", begun.elapsed());
    let many = engine.place("many").unwrap();
    let _responder = Responder::new(&many, "many", "0.0.0.0:25000");
    assert_eq!(host.hears(Over::Tcp, "127.0.0.1:25000"), "many 172.17.0.1");
    assert!(
        engine.ok(["ps", "--format", "{{.Ports}}"]).stdout.contains("0.0.0.0:20000-29999->20000-29999/tcp")
    );
    let taken = engine.davit(["run", "-d", "-p", "25000:80", "busybox", "sleep", "1"]);
    assert!(taken.code == 125 && taken.stderr.contains("\"many\""), "{taken:?}");
    engine.ok(["update", "--publish-rm", "25000:25000", "many"]);
    assert_eq!(host.asks(Over::Tcp, "127.0.0.1:25000"), None);
    host.within(|| std::net::TcpListener::bind("0.0.0.0:25000")).expect("it was let go of");
    engine.ok(["rm", "-f", "many"]);

    let first = engine.ok([
        "run",
        "-d",
        "-p",
        "8000-8002:80",
        "-p",
        "127.0.0.1::81",
        "-p",
        "82",
        "busybox",
        "sleep",
        "1000",
    ]);
    let second = engine.ok(["run", "-d", "-p", "8000-8002:80", "busybox", "sleep", "1000"]);
    assert_eq!(engine.ok(["port", first.line(), "80"]).stdout, "0.0.0.0:8000\n[::]:8000\n");
    assert_eq!(engine.ok(["port", second.line(), "80"]).stdout, "0.0.0.0:8001\n[::]:8001\n");
    assert!(engine.ok(["port", first.line(), "81"]).stdout.starts_with("127.0.0.1:"));
    let third =
        engine.ok(["run", "-d", "-P", "--expose", "90", "--expose", "91/udp", "busybox", "sleep", "1000"]);
    let shown = engine.ok(["port", third.line()]).stdout;
    assert!(shown.contains("90/tcp -> 0.0.0.0:") && shown.contains("91/udp -> [::]:"), "{shown}");
    let sctp = engine.davit(["run", "-d", "-p", "99:99/sctp", "busybox", "sleep", "1000"]);
    assert!(sctp.code == 0 || sctp.stderr.contains("this kernel has no sctp"), "{sctp:?}");
}
