//! Several networks of one container: at its making, joined and left while it runs, over restarts and the engine's death.

use davit_tests::engine::{Engine, binaries};
use davit_tests::wait::until_true;

fn networks(engine: &Engine, names: &[&str]) {
    for (n, name) in names.iter().enumerate() {
        engine.ok(["network", "create", "--subnet", &format!("10.{}.0.0/24", 100 + n), name]);
    }
}

fn inside(engine: &Engine, container: &str, command: &str) -> String {
    engine.ok(["exec", container, "sh", "-c", command]).stdout
}

/// The addresses of its links but the loopback's, in order.
fn addresses(engine: &Engine, container: &str) -> Vec<String> {
    let command = "ip -4 -o addr show | sed -n 's/.*: \\(eth[0-9]*\\) .*inet \\([0-9.]*\\).*/\\1 \\2/p'";
    let mut seen: Vec<String> = inside(engine, container, command).lines().map(str::to_owned).collect();
    seen.sort();
    seen
}

fn default_route(engine: &Engine, container: &str) -> String {
    inside(engine, container, "ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'").trim().to_owned()
}

fn hosts(engine: &Engine, container: &str) -> String {
    inside(engine, container, "cat /etc/hosts")
}

/// What the engine says when it refuses.
fn refused(engine: &Engine, code: i32, words: &[&str]) -> String {
    let answer = engine.davit(words);
    assert_eq!(answer.code, code, "{words:?}: {answer:?}");
    answer.stderr
}

fn events_of_networks(engine: &Engine, container: &str) -> Vec<String> {
    let id = engine.field(container, "{{.Id}}");
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "type=network", "--format", "json"];
    let told = engine.ok(words).stdout;
    let event = |line: &str| -> Option<String> {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let facts = &event["Actor"]["Attributes"];
        let text = format!("{} {}", event["Action"].as_str()?, facts["name"].as_str()?);
        (facts["container"] == id.as_str()).then_some(text)
    };
    told.lines().filter_map(event).collect()
}

#[test]
fn several_networks_from_the_start() {
    let engine = Engine::start().unwrap();
    networks(&engine, &["a", "b"]);
    let both = "name=a,ip=10.100.0.7,alias=one,alias=two,mac-address=02:00:00:00:00:07";
    engine.ok(["run", "-d", "--name", "c", "--network", both, "--network", "b", "busybox", "sleep", "1000"]);
    assert_eq!(addresses(&engine, "c"), ["eth0 10.100.0.7", "eth1 10.101.0.2"]);
    assert_eq!(default_route(&engine, "c"), "10.100.0.1", "the first one gives it");
    assert_eq!(inside(&engine, "c", "cat /sys/class/net/eth0/address"), "02:00:00:00:00:07\n");
    let text = hosts(&engine, "c");
    let short = engine.field("c", "{{.Config.Hostname}}");
    assert!(text.contains(&format!("10.100.0.7\t{short}\n10.101.0.2\t{short}\n")), "{text}");
    assert_eq!(engine.field("c", "{{.NetworkSettings.Networks.a.IPAMConfig.IPv4Address}}"), "10.100.0.7");
    assert_eq!(engine.field("c", "{{.NetworkSettings.Networks.b.IPAddress}}"), "10.101.0.2");
    assert_eq!(engine.field("c", "{{.NetworkSettings.Networks.b.Gateway}}"), "10.101.0.1");
    let names = engine.field("c", "{{json .NetworkSettings.Networks.a.DNSNames}}");
    assert_eq!(names, format!("[\"c\",\"one\",\"two\",\"{short}\"]"));
    let aliases = engine.field("c", "{{json .NetworkSettings.Networks.a.Aliases}}");
    assert_eq!(aliases, format!("[\"one\",\"two\",\"{short}\"]"));
    for network in ["a", "b"] {
        let listed = engine.ok(["ps", "--filter", &format!("network={network}"), "--format", "{{.Names}}"]);
        assert_eq!(listed.stdout, "c\n");
    }
    assert_eq!(engine.ok(["ps", "-q", "--filter", "network=bridge"]).stdout, "");
    let shown = engine.ok(["network", "inspect", "a", "--format", "{{json .Containers}}"]).stdout;
    assert!(
        shown.contains("\"Name\":\"c\"") && shown.contains("\"IPv4Address\":\"10.100.0.7/24\""),
        "{shown}"
    );
    assert!(shown.contains("\"MacAddress\":\"02:00:00:00:00:07\""), "{shown}");
    // Over a restart all stays as it was asked for.
    engine.ok(["restart", "-t", "0", "c"]);
    assert_eq!(addresses(&engine, "c")[0], "eth0 10.100.0.7");
    assert_eq!(addresses(&engine, "c").len(), 2);
}

#[test]
fn a_running_container_joins_and_leaves() {
    let engine = Engine::start().unwrap();
    networks(&engine, &["a", "b"]);
    engine.ok(["run", "-d", "--name", "c", "--add-host", "up:host-gateway", "busybox", "sleep", "1000"]);
    let inode = inside(&engine, "c", "stat -c %i /etc/hosts; echo '1.2.3.4 mine' >> /etc/hosts");
    assert_eq!(default_route(&engine, "c"), "172.17.0.1");
    engine.ok(["network", "connect", "--ip", "10.100.0.9", "--alias", "web", "a", "c"]);
    engine.ok(["network", "connect", "b", "c"]);
    let bridge = engine.field("c", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    assert_eq!(
        addresses(&engine, "c"),
        [format!("eth0 {bridge}"), "eth1 10.100.0.9".into(), "eth2 10.101.0.2".into()]
    );
    assert_eq!(default_route(&engine, "c"), "172.17.0.1", "it stays where it was");
    let short = engine.field("c", "{{.Config.Hostname}}");
    let text = hosts(&engine, "c");
    for line in [
        format!("{bridge}\t{short}\n"),
        format!("10.100.0.9\t{short}\n"),
        format!("10.101.0.2\t{short}\n"),
        "172.17.0.1\tup\n".into(),
        "1.2.3.4 mine\n".into(),
    ] {
        assert_eq!(text.matches(&line).count(), 1, "{line:?} in {text}");
    }
    assert_eq!(inside(&engine, "c", "stat -c %i /etc/hosts"), inode, "the same file still");
    engine.ok(["run", "--rm", "--network", "a", "busybox", "ping", "-c", "1", "-W", "2", "10.100.0.9"]);

    engine.ok(["network", "disconnect", "bridge", "c"]);
    assert_eq!(addresses(&engine, "c"), ["eth1 10.100.0.9", "eth2 10.101.0.2"]);
    assert_eq!(default_route(&engine, "c"), "10.100.0.1", "the next one gives it");
    let text = hosts(&engine, "c");
    assert!(!text.contains(&format!("{bridge}\t")) && text.contains("10.100.0.1\tup\n"), "{text}");
    assert!(text.contains("1.2.3.4 mine\n"), "{text}");
    assert_eq!(engine.field("c", "{{len .NetworkSettings.Networks}}"), "2");

    engine.ok(["network", "disconnect", "a", "c"]);
    engine.ok(["network", "disconnect", "b", "c"]);
    assert!(addresses(&engine, "c").is_empty() && default_route(&engine, "c").is_empty());
    engine.ok(["restart", "-t", "0", "c"]);
    assert!(addresses(&engine, "c").is_empty(), "not the default one again");
    engine.ok(["network", "connect", "b", "c"]);
    assert_eq!(addresses(&engine, "c").len(), 1);
    assert_eq!(default_route(&engine, "c"), "10.101.0.1");
    engine.ok(["rm", "-f", "c"]);
    for network in ["a", "b"] {
        assert_eq!(engine.ok(["network", "inspect", "-f", "{{len .Containers}}", network]).stdout, "0\n");
        assert_eq!(engine.ok(["network", "rm", network]).stdout, format!("{network}\n"));
    }
}

#[test]
fn a_stopped_container_joins_at_its_next_start() {
    let engine = Engine::start().unwrap();
    networks(&engine, &["a"]);
    engine.ok(["run", "--name", "c", "busybox", "true"]);
    engine.ok(["network", "connect", "--ip", "10.100.0.5", "a", "c"]);
    assert_eq!(engine.field("c", "{{.NetworkSettings.Networks.a.IPAddress}}"), "");
    engine.ok(["network", "disconnect", "bridge", "c"]);
    let output = engine.ok(["start", "-a", "c"]);
    assert_eq!(output.stdout, "");
    let command = ["run", "-d", "--name", "d", "busybox", "sleep", "1000"];
    engine.ok(command);
    engine.ok(["stop", "-t", "0", "d"]);
    engine.ok(["network", "connect", "--ip", "10.100.0.6", "a", "d"]);
    engine.ok(["network", "disconnect", "bridge", "d"]);
    engine.ok(["start", "d"]);
    assert_eq!(addresses(&engine, "d"), ["eth0 10.100.0.6"]);
    engine.ok(["stop", "-t", "0", "d"]);
    // A network that stopped containers refer to goes, and they say so at their start.
    engine.ok(["network", "rm", "a"]);
    let said = refused(&engine, 1, &["start", "d"]);
    assert!(said.contains("network a not found"), "{said}");
    engine.ok(["network", "disconnect", "a", "d"]);
    engine.ok(["start", "d"]);
}

/// The name of a network that is gone is not taken for the beginning of another one's id.
#[test]
fn a_network_that_is_gone_is_nobody_else() {
    let engine = Engine::start().unwrap();
    let host = engine.ok(["network", "ls", "-q", "--no-trunc", "--filter", "name=host"]).stdout;
    let name = host.get(..2).unwrap();
    engine.ok(["network", "create", name]);
    engine.ok(["run", "--name", "c", "--network", name, "busybox", "true"]);
    engine.ok(["network", "rm", name]);
    let said = refused(&engine, 1, &["start", "c"]);
    assert!(said.contains(&format!("network {name} not found")), "{said}");
    engine.ok(["network", "disconnect", name, "c"]);
    engine.ok(["start", "-a", "c"]);
}

#[test]
fn what_cannot_be_is_refused_in_dockers_words() {
    let engine = Engine::start().unwrap();
    networks(&engine, &["a", "b"]);
    let sleep = ["busybox", "sleep", "1000"];
    let run = |words: &[&str]| engine.ok(["run", "-d"].iter().chain(words).chain(&sleep).copied());
    run(&["--name", "c", "--network", "a", "--ip", "10.100.0.9"]);
    run(&["--name", "host", "--network", "host"]);
    run(&["--name", "none", "--network", "none"]);
    run(&["--name", "share", "--network", "container:c"]);
    for (words, expected) in [
        (&["network", "connect", "nope", "c"][..], "network nope not found"),
        (&["network", "connect", "a", "nope"], "no such container: nope"),
        (&["network", "connect", "a", "c"], "endpoint with name c already exists in network a"),
        (&["network", "connect", "host", "c"], "connected to host network"),
        (&["network", "connect", "none", "c"], "private (none) mode"),
        (&["network", "connect", "a", "host"], "sharing network namespace"),
        (&["network", "connect", "a", "share"], "sharing network namespace"),
        (&["network", "connect", "a", "none"], "private (none) mode"),
        (&["network", "connect", "--ip", "10.100.0.9", "b", "c"], "10.100.0.9"),
        (&["network", "connect", "--ip", "mine", "b", "c"], "must be an IPv4 address"),
        (&["network", "connect", "--alias", "a b", "b", "c"], "a b"),
        (&["network", "connect", "--link", "c", "b", "c"], "cannot be linked to itself"),
        (&["network", "disconnect", "b", "c"], "is not connected to network b"),
        (&["network", "disconnect", "host", "host"], "disconnected from host network"),
        (&["network", "disconnect", "bridge", "share"], "sharing network namespace"),
        (&["network", "rm", "bridge"], "bridge is a pre-defined network and cannot be removed"),
        (&["network", "rm", "a"], "network a has active endpoints (name:\"c\" id:\""),
        (&["network", "create", "host"], "already exists"),
        (&["network", "create", "a"], "network with name a already exists"),
        (&["network", "inspect", "nope"], "network nope not found"),
        (&["network", "create", "--gateway", "10.9.0.1", "x"], "must have a corresponding subnet"),
        (&["network", "create", "--aux-address", "x=10.9.0.1", "x"], "must have a corresponding subnet"),
    ] {
        let said = refused(&engine, 1, words);
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    for (words, expected) in [
        (&["--network", "nope"][..], "network nope not found"),
        (&["--network", "a", "--network", "a"], "specified multiple times"),
        (&["--network", "a", "--network", "host"], "host"),
        (&["--network", "a", "--ip", "10.100.0.9"], "is held by container"),
        (&["--network", "a", "--ip", "10.200.0.9"], "10.200.0.9"),
        (&["--network", "name=a,ip=10.100.0.8", "--ip", "10.100.0.7"], "conflicting options"),
        (&["--network", "host", "--link", "c"], "can't be used with links"),
        (&["--network", "a", "--network-alias", "not/one"], "not/one"),
    ] {
        let words: Vec<&str> = ["run", "-d"].iter().chain(words).chain(&sleep).copied().collect();
        let said = refused(&engine, 125, &words);
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    assert_eq!(addresses(&engine, "c"), ["eth0 10.100.0.9"], "nothing was changed");
    assert_eq!(engine.field("c", "{{len .NetworkSettings.Networks}}"), "1");
    engine.ok(["network", "disconnect", "-f", "b", "c"]);
    engine.ok(["network", "disconnect", "-f", "b", "nope"]);
    // From none to one's own: as docker allows.
    engine.ok(["network", "disconnect", "none", "none"]);
    let warned = engine.ok(["network", "connect", "b", "none"]).stderr;
    assert!(warned.contains("no resolver of its own"), "{warned}");
    assert_eq!(addresses(&engine, "none").len(), 1);
}

#[test]
fn the_default_bridge_gives_fixed_addresses_too() {
    let engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "c", "--ip", "172.17.0.99", "busybox", "sleep", "1000"]);
    assert_eq!(addresses(&engine, "c"), ["eth0 172.17.0.99"]);
    engine.ok(["restart", "-t", "0", "c"]);
    assert_eq!(addresses(&engine, "c"), ["eth0 172.17.0.99"]);
    let shared =
        engine.ok(["run", "--rm", "--network", "container:c", "busybox", "cat", "/etc/hosts"]).stdout;
    assert!(shared.contains("172.17.0.99\t"), "{shared}");
}

#[test]
fn who_shares_a_network_sees_it_change() {
    let engine = Engine::start().unwrap();
    networks(&engine, &["a"]);
    engine.ok(["run", "-d", "--name", "c", "busybox", "sleep", "1000"]);
    engine.ok(["run", "-d", "--name", "d", "--network", "container:c", "busybox", "sleep", "1000"]);
    engine.ok(["network", "connect", "--ip", "10.100.0.9", "a", "c"]);
    assert!(hosts(&engine, "d").contains("10.100.0.9\t"));
    assert_eq!(addresses(&engine, "d"), addresses(&engine, "c"));
    engine.ok(["network", "disconnect", "a", "c"]);
    assert!(!hosts(&engine, "d").contains("10.100.0.9"));
}

#[test]
fn changes_are_told() {
    let engine = Engine::start().unwrap();
    networks(&engine, &["a"]);
    engine.ok(["run", "-d", "--name", "c", "busybox", "sleep", "1000"]);
    engine.ok(["network", "connect", "a", "c"]);
    engine.ok(["network", "disconnect", "a", "c"]);
    assert_eq!(events_of_networks(&engine, "c"), ["connect bridge", "connect a", "disconnect a"]);
    engine.ok(["stop", "-t", "0", "c"]);
    until_true("the end is told", || {
        events_of_networks(&engine, "c").last().is_some_and(|last| last == "disconnect bridge")
    });
    let why = engine.ok(["why", "c"]).stdout;
    assert!(why.contains("joined the network a") && why.contains("left the network a"), "{why}");
    engine.ok(["network", "rm", "a"]);
    let told = ["events", "--since", "1h", "--until", "0s", "--filter", "type=network", "--format"];
    let told = engine.ok(told.into_iter().chain(["{{.Action}} {{.Actor.Attributes.name}}"])).stdout;
    assert!(told.starts_with("create a\n") && told.ends_with("destroy a\n"), "{told}");
}

#[test]
fn an_engine_that_dies_amid_a_change_ends_it_or_undoes_it() {
    let mut engine = Engine::start().unwrap();
    networks(&engine, &["a"]);
    engine.ok(["run", "-d", "--name", "c", "-p", "8080:80", "busybox", "sleep", "1000"]);
    let listed =
        std::process::Command::new(binaries().join("davitd")).arg("--list-failpoints").output().unwrap();
    let points = String::from_utf8(listed.stdout).unwrap();
    let points: Vec<&str> = points.lines().filter(|point| point.contains("connect.")).collect();
    assert_eq!(points.len(), 6, "{points:?}");
    for point in points {
        for action in ["abort", "error"] {
            let joins = point.starts_with("connect.");
            engine.davit(["network", if joins { "disconnect" } else { "connect" }, "a", "c"]);
            engine.kill_controller().unwrap();
            engine.start_controller_at(&format!("{point}={action}")).unwrap();
            engine.davit(["network", if joins { "connect" } else { "disconnect" }, "a", "c"]);
            engine.end_controller().unwrap();
            engine.start_controller().unwrap();
            let agrees = || {
                let recorded = engine.field("c", "{{json .NetworkSettings.Networks}}");
                let there = addresses(&engine, "c");
                let known = engine.ok(["network", "inspect", "-f", "{{len .Containers}}", "a"]).stdout;
                let says = usize::from(recorded.contains("10.100"));
                let named = hosts(&engine, "c").matches("10.100.0.").count();
                there.len() == 1 + says && known == format!("{says}\n") && named == says
            };
            until_true(&format!("{point}={action}: record, service, namespace and hosts agree"), agrees);
            if addresses(&engine, "c").len() == 1 {
                engine.ok(["network", "connect", "a", "c"]);
            }
            assert_eq!(addresses(&engine, "c").len(), 2, "{point}={action}: it can join");
        }
    }
    engine.ok(["rm", "-f", "c"]);
    engine.ok(["network", "rm", "a"]);
}

#[test]
fn another_name_is_kept_and_told() {
    let engine = Engine::start().unwrap();
    networks(&engine, &["a"]);
    engine.ok(["run", "-d", "--name", "c", "--network", "a", "busybox", "sleep", "1000"]);
    engine.ok(["run", "-d", "--name", "e", "--network", "a", "busybox", "sleep", "1000"]);
    let resolves = |name: &str| engine.davit(["exec", "e", "ping", "-c", "1", "-W", "2", name]).code == 0;
    assert!(resolves("c"));
    engine.ok(["rename", "c", "d"]);
    assert!(resolves("d") && !resolves("c"));
    let shown = engine.ok(["network", "inspect", "a", "--format", "{{json .Containers}}"]).stdout;
    assert!(shown.contains("\"Name\":\"d\""), "{shown}");
    let said = refused(&engine, 1, &["network", "rm", "a"]);
    assert!(said.contains("name:\"d\""), "{said}");
}

#[test]
fn both_families_come_and_go_together() {
    let engine = Engine::start().unwrap();
    let ranges = ["--ipv6", "--subnet", "10.100.0.0/24", "--subnet", "fd00:7::/64", "--gateway", "fd00:7::1"];
    engine.ok(["network", "create"].iter().chain(&ranges).chain(&["six"]).copied());
    let make = ["run", "-d", "--name", "c", "-h", "box", "--add-host", "up:host-gateway", "--network", "six"];
    engine.ok(make.iter().chain(&["--ip6", "fd00:7::9", "busybox", "sleep", "1000"]).copied());
    let text = hosts(&engine, "c");
    for line in ["10.100.0.2\tbox\n", "fd00:7::9\tbox\n", "10.100.0.1\tup\n", "fd00:7::1\tup\n"] {
        assert_eq!(text.matches(line).count(), 1, "{line:?} in {text}");
    }
    let field = |name: &str| engine.field("c", &format!("{{{{.NetworkSettings.Networks.six.{name}}}}}"));
    assert_eq!((field("GlobalIPv6Address"), field("GlobalIPv6PrefixLen")), ("fd00:7::9".into(), "64".into()));
    assert_eq!(field("IPv6Gateway"), "fd00:7::1");
    assert_eq!(field("IPAMConfig.IPv6Address"), "fd00:7::9");
    let shown = engine.ok(["network", "inspect", "six"]).stdout;
    assert!(shown.contains("\"IPv6Address\": \"fd00:7::9/64\""), "{shown}");
    assert!(shown.contains("\"EnableIPv6\": true") && shown.contains("\"ReceivedBytes\""), "{shown}");
    engine.ok(["network", "disconnect", "six", "c"]);
    let text = hosts(&engine, "c");
    assert!(!text.contains("box") && !text.contains("\tup"), "{text}");
    engine.ok(["network", "connect", "--ip6", "fd00:7::a", "--ip", "10.100.0.10", "six", "c"]);
    let text = hosts(&engine, "c");
    assert!(
        text.contains("10.100.0.10\tbox\nfd00:7::a\tbox\n") && text.contains("fd00:7::1\tup\n"),
        "{text}"
    );
    inside(&engine, "c", "ping -6 -c 1 -W 2 fd00:7::1");
}

#[test]
fn lists_and_prunes_as_docker_does() {
    let engine = Engine::start().unwrap();
    let made = engine.ok(["network", "create", "--label", "tier=1", "mine"]).stdout;
    assert_eq!(made.trim_end().len(), 64, "its id: {made}");
    engine.ok(["network", "create", "used"]);
    engine.ok(["run", "-d", "--name", "c", "--network", "used", "busybox", "sleep", "1000"]);
    let listed = engine.ok(["network", "ls"]).stdout;
    let heads: Vec<&str> = listed.lines().next().unwrap_or_default().split("   ").map(str::trim).collect();
    let heads: Vec<&str> = heads.into_iter().filter(|head| !head.is_empty()).collect();
    assert_eq!(heads, ["NETWORK ID", "NAME", "DRIVER", "SCOPE"], "{listed}");
    assert!(listed.contains(made.get(..12).unwrap()), "{listed}");
    let names =
        |filter: &str| engine.ok(["network", "ls", "--filter", filter, "--format", "{{.Name}}"]).stdout;
    assert_eq!(names("type=builtin"), "bridge\nhost\nnone\n");
    assert_eq!(names("label=tier=1"), "mine\n");
    assert_eq!(names("driver=null"), "none\n");
    assert_eq!(names("dangling=true"), "mine\n");
    assert_eq!(engine.ok(["network", "ls", "-q", "--no-trunc", "--filter", "name=mine"]).stdout, made);
    assert_eq!(engine.davit_with_input(["network", "prune"], b"n\n").code, 0);
    assert_eq!(names("type=custom"), "mine\nused\n");
    let pruned = engine.davit_with_input(["network", "prune"], b"y\n");
    assert!(pruned.stdout.contains("WARNING! This will remove all custom networks not used"), "{pruned:?}");
    assert!(pruned.stdout.contains("Deleted Networks:\nmine\n"), "{pruned:?}");
    assert_eq!(names("type=custom"), "used\n");
}
