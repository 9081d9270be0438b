//! Addresses, the way out, published ports.

use davit_tests::engine::Engine;
use davit_tests::wait::until_true;

const SERVE: &str = "mkdir -p /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w";

fn fetch(mut command: std::process::Command, url: &str) -> Option<String> {
    let output = command.args(["-s", "-m", "3", url]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn addresses_are_dockers() {
    let engine = Engine::start().unwrap();
    let address = "ip -4 addr show eth0 | sed -n 's/.*inet \\([^ ]*\\).*/\\1/p'";
    assert_eq!(engine.ok(["run", "--rm", "busybox", "sh", "-c", address]).line(), "172.17.0.2/16");
    assert_eq!(
        engine.ok(["run", "--rm", "busybox", "sh", "-c", address]).line(),
        "172.17.0.3/16",
        "in sequence"
    );
    let mac = engine.ok(["run", "--rm", "busybox", "cat", "/sys/class/net/eth0/address"]);
    assert_eq!(mac.line(), "02:42:ac:11:00:04");
    engine.ok(["run", "-d", "--name", "web", "busybox", "sleep", "1000"]);
    assert_eq!(engine.field("web", "{{.NetworkSettings.IPAddress}}"), "172.17.0.5");
    let hosts = engine.ok(["run", "--rm", "-h", "box", "busybox", "cat", "/etc/hosts"]).stdout;
    assert!(hosts.contains("172.17.0.6\tbox"), "{hosts}");
    engine.ok(["run", "--rm", "busybox", "ping", "-c", "1", "-W", "2", "172.17.0.5"]);
    engine.ok(["run", "--rm", "busybox", "ping", "-c", "1", "-W", "2", "172.17.0.1"]);
}

#[test]
fn none_and_host_modes() {
    let engine = Engine::start().unwrap();
    let links = "ls /sys/class/net | tr '\\n' ' '";
    assert_eq!(engine.ok(["run", "--rm", "--network", "none", "busybox", "sh", "-c", links]).stdout, "lo ");
    let host =
        engine.ok(["run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"]).stdout;
    let seen = engine.host().command("readlink").arg("/proc/self/ns/net").output().unwrap();
    assert_eq!(host, String::from_utf8_lossy(&seen.stdout));
}

#[test]
fn a_published_port_answers_where_it_should() {
    let engine = Engine::start().unwrap();
    let neighbour = engine.host().neighbour().unwrap();
    engine.ok([
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "-p",
        "127.0.0.1:8082:80",
        "busybox",
        "sh",
        "-c",
        SERVE,
    ]);
    let curl = || engine.host().command("curl");
    until_true("the host reaches it by loopback", || {
        fetch(curl(), "http://127.0.0.1:8080/").as_deref() == Some("hello\n")
    });
    for url in
        ["http://10.99.0.1:8080/", "http://127.0.0.1:8082/", "http://172.17.0.2/", "http://172.17.0.1:8080/"]
    {
        assert_eq!(fetch(curl(), url).as_deref(), Some("hello\n"), "host → {url}");
    }
    assert_eq!(fetch(curl(), "http://10.99.0.1:8082/"), None, "published on loopback only");
    assert_eq!(fetch(neighbour.command("curl"), "http://10.99.0.1:8080/").as_deref(), Some("hello\n"));
    assert_eq!(fetch(neighbour.command("curl"), "http://10.99.0.1:8082/"), None);
    assert_eq!(
        fetch(neighbour.command("curl"), "http://172.17.0.2/"),
        None,
        "not published to the neighbour"
    );
    let ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 10.99.0.1 8080";
    let from_container = engine.ok(["run", "--rm", "busybox", "sh", "-c", ask]).stdout;
    assert!(
        from_container.ends_with("hello\n"),
        "from another container by the host's address: {from_container}"
    );

    let ports = engine.ok(["ps", "--format", "{{.Ports}}"]).stdout;
    assert!(ports.contains("0.0.0.0:8080->80/tcp") && ports.contains("127.0.0.1:8082->80/tcp"), "{ports}");
    assert_eq!(engine.ok(["port", "web", "80/tcp"]).stdout.lines().next(), Some("0.0.0.0:8080"));
    let taken = engine.davit(["run", "-d", "-p", "8080:80", "busybox", "sleep", "1"]);
    assert_eq!(taken.code, 125, "{taken:?}");
    assert!(taken.stderr.contains("8080"), "{taken:?}");

    engine.ok(["rm", "-f", "web"]);
    until_true("nobody answers any more", || fetch(curl(), "http://127.0.0.1:8080/").is_none());
    engine.ok(["run", "-d", "--name", "again", "-p", "8080:80", "busybox", "sh", "-c", SERVE]);
    until_true("the port serves the next one", || fetch(curl(), "http://127.0.0.1:8080/").is_some());
}

#[test]
fn udp_is_published_too() {
    let engine = Engine::start().unwrap();
    let neighbour = engine.host().neighbour().unwrap();
    // busybox speaks no UDP; the host's netcat does, with the libraries it needs.
    let serve = "while :; do echo answered | /usr/bin/nc.openbsd -u -l -w 1 53; done";
    let mut words = vec!["run", "-d", "-p", "5353:53/udp"];
    words.extend(["-v", "/usr:/usr:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro"]);
    words.extend(["busybox", "sh", "-c", serve]);
    engine.ok(words);
    until_true("the neighbour gets an answer", || {
        let asked = neighbour.command("sh").args(["-c", "echo hi | nc -u -w 1 10.99.0.1 5353"]).output();
        asked.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("answered"))
    });
}

#[test]
fn ports_answer_while_the_controller_is_dead_and_nothing_stays() {
    let mut engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", SERVE]);
    until_true("it answers", || fetch(engine.host().command("curl"), "http://127.0.0.1:8080/").is_some());
    engine.kill_controller().unwrap();
    assert!(fetch(engine.host().command("curl"), "http://127.0.0.1:8080/").is_some());
    engine.start_controller().unwrap();
    assert!(fetch(engine.host().command("curl"), "http://127.0.0.1:8080/").is_some());
    engine.ok(["rm", "-f", "web"]);
    until_true("no veth is left", || {
        let links =
            engine.host().command("ip").args(["-o", "link", "show", "type", "veth"]).output().unwrap();
        links.stdout.is_empty()
    });
    let rules = engine.host().command("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&rules.stdout).contains("8080"));
}

#[test]
fn ports_follow_a_container_that_leaves_its_last_network() {
    let engine = Engine::start().unwrap();
    let curl = || engine.host().command("curl");
    engine.ok(["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", SERVE]);
    until_true("it answers", || fetch(curl(), "http://127.0.0.1:8080/").is_some());
    engine.ok(["network", "disconnect", "bridge", "web"]);
    assert_eq!(fetch(curl(), "http://127.0.0.1:8080/"), None, "on no network");
    engine.ok(["network", "create", "one"]);
    engine.ok(["network", "connect", "one", "web"]);
    until_true("it answers where it is now", || fetch(curl(), "http://127.0.0.1:8080/").is_some());
}

#[test]
fn a_bridge_without_room_says_so() {
    let engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "first", "busybox", "sleep", "1000"]);
    let links =
        (1..1023).map(|n| format!("link add v{n} type veth peer name p{n}\nlink set v{n} master davit0\n"));
    let batch = engine.host().folder().join("links");
    std::fs::write(&batch, links.collect::<String>()).unwrap();
    let filled = engine.host().command("ip").arg("-batch").arg(&batch).output().unwrap();
    assert!(filled.status.success(), "{filled:?}");
    let refused = engine.davit(["run", "--rm", "busybox", "true"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(refused.stderr.contains("room for 1023 containers"), "{refused:?}");
    assert!(engine.host().command("ip").args(["link", "del", "v7"]).status().unwrap().success());
    assert_eq!(engine.ok(["run", "--rm", "busybox", "echo", "works"]).stdout, "works\n");
}
