//! Containers find each other by name, and everybody else by the host's servers.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use davit_tests::engine::{Answer, Engine, Services};
use davit_tests::wait::{until, until_true};

/// Questions as programs of the C library's ask them, without its cache, search list and patience. `ask` answers with
/// the code and the records, `raw` with whatever comes.
const ASK: &str = r#"
import socket, struct, sys, time, os
def question(name, kind=1, id=4242, extra=b"", more=0):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".") if l)
    return struct.pack(">HHHHHH", id, 0x100, 1, 0, 0, more) + labels + b"\0" + struct.pack(">HH", kind, 1) + extra
def raw(message, timeout=10):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(timeout); s.connect(("127.0.0.11", 53)); s.send(message)
    return s.recv(65535)
def over_tcp(message):
    s = socket.create_connection(("127.0.0.11", 53), 10); s.sendall(struct.pack(">H", len(message)) + message)
    data = b""
    while len(data) < 2 or len(data) < 2 + struct.unpack(">H", data[:2])[0]:
        part = s.recv(65536)
        if not part: break
        data += part
    return data[2:]
def read(message, asked):
    assert message[:2] == asked[:2] and message[2] & 0x80, message
    count = struct.unpack(">H", message[6:8])[0]
    at, found = 12, []
    while message[at]: at += message[at] + 1
    at += 5
    for _ in range(count):
        kind, _, _, length = struct.unpack(">HHIH", message[at + 2:at + 12]); data = message[at + 12:at + 12 + length]; at += 12 + length
        if kind == 1: found.append(socket.inet_ntop(socket.AF_INET, data))
        elif kind == 28: found.append(socket.inet_ntop(socket.AF_INET6, data))
        else: found.append(str(kind))
    return message[3] & 15, sorted(found), bool(message[2] & 2)
def ask(name, kind=1):
    q = question(name, kind); code, found, cut = read(raw(q), q)
    if cut: code, found, cut = read(over_tcp(q), q)
    return " ".join([["good", "malformed", "failed", "absent"][code] if code < 4 else str(code)] + found)
"#;

/// A server that knows three names, and writes down what it was asked.
const SERVER: &str = r#"
import socket, struct, sys, threading
ip, log = sys.argv[1], open(sys.argv[2], "a", buffering=1)
def answer(message, tcp):
    at, labels = 12, []
    while message[at]: labels.append(message[at + 1:at + 1 + message[at]].decode()); at += message[at] + 1
    name, kind = ".".join(labels), struct.unpack(">H", message[at + 1:at + 3])[0]
    edns = struct.unpack(">H", message[10:12])[0]
    log.write(f"{'tcp' if tcp else 'udp'} {name} {kind} {edns}\n")
    addresses = {"one.example": ["192.0.2.1"], "big.example": [f"192.0.{n // 250}.{n % 250}" for n in range(1000)], "nas": ["192.0.2.9"]}.get(name)
    flags, records = 0x8180 if addresses else 0x8183, addresses or []
    if kind != 1: records = []
    if len(records) > 20 and not tcp: flags, records = flags | 0x200, []
    body = b"".join(struct.pack(">HHHIH", 0xc00c, 1, 1, 60, 4) + socket.inet_aton(a) for a in records)
    return message[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + message[12:at + 5] + body
def stream(c):
    with c:
        length = struct.unpack(">H", c.recv(2))[0]; reply = answer(c.recv(length), True); c.sendall(struct.pack(">H", len(reply)) + reply)
def listen():
    while True: threading.Thread(target=stream, args=(t.accept()[0],), daemon=True).start()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind((ip, 53))
t = socket.create_server((ip, 53))
threading.Thread(target=listen, daemon=True).start()
log.write("ready\n")
while True:
    message, asker = u.recvfrom(65535); u.sendto(answer(message, False), asker)
"#;

/// Runs Python in a container's network namespace, with the host's files.
fn python(engine: &Engine, container: &str, script: &str) -> String {
    let pid = engine.field(container, "{{.State.Pid}}");
    python_at(engine, &pid, script)
}

/// The same, when nobody can be asked for the process any more.
fn python_at(engine: &Engine, pid: &str, script: &str) -> String {
    let mut command = engine.host().command("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).args(["python3", "-c", &format!("{ASK}\n{script}")]);
    let answer = Answer::from(command.output().unwrap());
    assert_eq!(answer.code, 0, "{script}: {}", answer.stderr);
    answer.stdout.trim().to_owned()
}

fn ask(engine: &Engine, container: &str, name: &str) -> String {
    python(engine, container, &format!("print(ask({name:?}))"))
}

fn start(engine: &Engine, flags: &[&str]) -> String {
    let words = ["run", "-d"].iter().chain(flags).chain(&["busybox", "sleep", "1000"]);
    engine.ok(words.collect::<Vec<_>>()).line().to_owned()
}

/// A server on the host of a test. Dropping it ends it.
struct Server {
    nsenter: Child,
    log: PathBuf,
}

impl Server {
    fn start(engine: &Engine, ip: &str) -> Self {
        let log = engine.host().folder().join(format!("asked-{ip}"));
        std::fs::write(&log, "").unwrap();
        Self::spawn(engine.host().command("python3"), ip, log)
    }

    fn spawn(mut python: Command, ip: &str, log: PathBuf) -> Self {
        let nsenter = python.args(["-c", SERVER, ip]).arg(&log).stdin(Stdio::null()).spawn().unwrap();
        let server = Self { nsenter, log };
        until_true("the server listens", || server.asked().contains("ready"));
        server
    }

    fn asked(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What runs is its child, which ends with the host of the test at the latest.
        let _ = self.nsenter.kill();
        let _ = self.nsenter.wait();
    }
}

/// Gives the host of a test a resolv.conf of its own.
fn resolv_conf(engine: &Engine, text: &str) {
    let path = engine.host().folder().join("resolv.conf");
    std::fs::write(&path, text).unwrap();
    let mut mount = engine.host().command("mount");
    assert!(mount.arg("--bind").arg(&path).arg("/etc/resolv.conf").status().unwrap().success());
}

#[test]
fn containers_find_each_other_by_all_their_names() {
    let engine = Engine::start().unwrap();
    engine.ok(["network", "create", "lab"]);
    for (network, names) in [("lab", ["web", "www", "web.lab"]), ("bridge", ["old", "elder", "elder.bridge"])]
    {
        let id = start(&engine, &["--network", network, "--name", names[0], "--network-alias", names[1]]);
        let ip =
            engine.field(&id, &format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}"));
        let other = start(&engine, &["--network", network, "--userns", "auto"]);
        for name in names.iter().copied().chain([id.get(..12).unwrap(), &names[0].to_uppercase()]) {
            assert_eq!(ask(&engine, &other, name), format!("good {ip}"), "{name}");
        }
        let kinds = python(
            &engine,
            &other,
            &format!("print(ask({0:?}, 28), ask({0:?}, 255), ask({0:?}, 15))", names[0]),
        );
        assert_eq!(kinds, "good good good", "there, and without such records");
        let looks = format!("nslookup {ip} && ping -c 1 -W 5 {} && nslookup {}", names[0], names[1]);
        let seen = engine.ok(["exec", &other, "sh", "-c", &looks]).stdout;
        assert!(seen.contains(&format!("name = {}.{network}", names[0])), "{seen}");
        assert!(seen.contains(&format!("PING {} ({ip})", names[0])), "{seen}");
    }
    let alone = start(&engine, &[]);
    assert_ne!(ask(&engine, &alone, "web").split(' ').next(), Some("good"), "of another network");
    assert_eq!(ask(&engine, &alone, "localhost"), "good 127.0.0.1");
}

#[test]
fn an_alias_of_several_is_all_of_them_and_v6_has_its_own() {
    let engine = Engine::start().unwrap();
    engine.ok(["network", "create", "--ipv6", "six"]);
    let ids: Vec<_> =
        (0..3).map(|_| start(&engine, &["--network", "six", "--network-alias", "all"])).collect();
    let every = |field: &str| {
        let template = format!("{{{{(index .NetworkSettings.Networks \"six\").{field}}}}}");
        let mut all: Vec<_> = ids.iter().map(|id| engine.field(id, &template)).collect();
        all.sort();
        format!("good {}", all.join(" "))
    };
    assert_eq!(ask(&engine, &ids[0], "all"), every("IPAddress"));
    assert_eq!(python(&engine, &ids[0], "print(ask('all', 28))"), every("GlobalIPv6Address"));
}

#[test]
fn names_follow_their_containers() {
    let engine = Engine::start().unwrap();
    let asker = start(&engine, &["--name", "asker"]);
    start(&engine, &["--name", "web"]);
    assert_eq!(ask(&engine, &asker, "web"), "good 172.17.0.3");
    engine.ok(["rename", "web", "shop"]);
    assert_eq!(ask(&engine, &asker, "shop"), "good 172.17.0.3");
    assert_ne!(ask(&engine, &asker, "web"), "good 172.17.0.3");
    engine.ok(["stop", "-t", "0", "shop"]);
    until_true("a stopped container has no name", || !ask(&engine, &asker, "shop").starts_with("good"));
    // Somebody else gets the address, perhaps; the name goes where its container is.
    start(&engine, &["--name", "between"]);
    engine.ok(["start", "shop"]);
    let ip = engine.field("shop", "{{.NetworkSettings.IPAddress}}");
    assert_eq!(ask(&engine, &asker, "shop"), format!("good {ip}"));
    engine.ok(["rm", "-f", "shop"]);
    assert!(!ask(&engine, &asker, "shop").starts_with("good"));
    let files = std::fs::read_dir(engine.run_dir().join("dns")).unwrap().count();
    assert_eq!(files, 3, "one zone, two views");
    engine.ok(["rm", "-f", "asker", "between"]);
    assert_eq!(std::fs::read_dir(engine.run_dir().join("dns")).unwrap().count(), 0);
}

#[test]
fn a_link_is_a_name_of_one_container() {
    let engine = Engine::start().unwrap();
    start(&engine, &["--name", "db"]);
    let linked = start(&engine, &["--link", "db:store"]);
    let other = start(&engine, &[]);
    assert_eq!(ask(&engine, &linked, "store"), "good 172.17.0.2");
    assert!(!ask(&engine, &other, "store").starts_with("good"));
    engine.ok(["stop", "-t", "0", "db"]);
    until_true("who is stopped is nowhere", || ask(&engine, &linked, "store") == "absent");
    start(&engine, &["--name", "between"]);
    engine.ok(["start", "db"]);
    let ip = engine.field("db", "{{.NetworkSettings.IPAddress}}");
    assert_eq!(ask(&engine, &linked, "store"), format!("good {ip}"));
}

#[test]
fn names_resolve_while_every_engine_process_is_dead() {
    let mut engine = Engine::start_with(Services::Separate, &[]).unwrap();
    engine.load_busybox().unwrap();
    start(&engine, &["--name", "web"]);
    let asker = engine.ok(["run", "-d", "--restart", "always", "busybox", "sleep", "1000"]).line().to_owned();
    let pid = engine.field(&asker, "{{.State.Pid}}");
    engine.kill_controller().unwrap();
    for service in ["davit-image", "davit-volume", "davit-network"] {
        engine.kill(service).unwrap();
    }
    assert_eq!(python_at(&engine, &pid, "print(ask('web'))"), "good 172.17.0.2");
    let before = engine.processes_with("sleep 1000");
    engine.kill_on_host(&pid).unwrap();
    let again = until("its next life", || {
        let now = engine.processes_with("sleep 1000");
        now.into_iter().find(|pid| !before.contains(pid))
    });
    assert_eq!(python_at(&engine, &again.to_string(), "print(ask('web'))"), "good 172.17.0.2");
}

#[test]
fn other_names_are_asked_of_the_hosts_servers() {
    let engine = Engine::start().unwrap();
    // Nobody is behind the first one: what is sent there gets no answer at all.
    let silent = "ip link add quiet type veth peer name quiet1 && ip addr add 192.0.2.1/24 dev quiet && \
        ip link set quiet up && ip link set quiet1 up && ip neigh add 192.0.2.53 lladdr 02:00:00:00:00:01 dev quiet";
    assert!(engine.host().command("sh").args(["-c", silent]).status().unwrap().success());
    resolv_conf(&engine, "search corp.example\nnameserver 127.0.0.1\n");
    let server = Server::start(&engine, "127.0.0.1");
    let web = start(&engine, &["--name", "web"]);
    let conf = engine.ok(["exec", &web, "cat", "/etc/resolv.conf"]).stdout;
    assert_eq!(conf, "nameserver 127.0.0.11\nsearch corp.example\noptions ndots:0\n");
    assert_eq!(ask(&engine, &web, "one.example"), "good 192.0.2.1");
    assert_eq!(ask(&engine, &web, "nas"), "good 192.0.2.9", "names without a dot too");
    assert_eq!(ask(&engine, &web, "none.example"), "absent");
    assert_eq!(ask(&engine, &web, "big.example").split(' ').count(), 1001);
    let edns =
        r#"q = question("one.example", extra=b"\0\0\x29\x10\0\0\0\0\0\0\0", more=1); print(read(raw(q), q))"#;
    assert_eq!(python(&engine, &web, edns), "(0, ['192.0.2.1'], False)");
    for own in ["web", "web.bridge", "localhost"] {
        assert!(ask(&engine, &web, own).starts_with("good"));
    }
    let reverse =
        "print(ask('2.0.17.172.in-addr.arpa', 12), ask('77.0.17.172.in-addr.arpa', 12), ask('web', 28))";
    assert_eq!(python(&engine, &web, reverse), "good 12 absent good");
    let asked = server.asked();
    for line in ["udp one.example 1 0", "udp big.example 1 0", "tcp big.example 1 0", "udp one.example 1 1"] {
        assert!(asked.lines().any(|seen| seen == line), "{line}: {asked}");
    }
    assert!(!asked.contains("web") && !asked.contains("arpa") && !asked.contains("localhost"), "{asked}");

    resolv_conf(&engine, "nameserver 192.0.2.53\nnameserver 127.0.0.1\n");
    let timed = "t = time.time(); a = ask('one.example'); first = time.time() - t; t = time.time(); b = ask('one.example'); print(a, b, first < 4.5, time.time() - t < 1)";
    assert_eq!(python(&engine, &web, timed), "good 192.0.2.1 good 192.0.2.1 True True");

    let own = Server::start(&engine, "127.0.0.2");
    let given = start(&engine, &["--dns", "127.0.0.2", "--dns-search", "lan"]);
    assert_eq!(ask(&engine, &given, "one.example"), "good 192.0.2.1");
    assert!(own.asked().contains("one.example"));
    let conf = engine.ok(["exec", &given, "cat", "/etc/resolv.conf"]).stdout;
    assert!(conf.starts_with("nameserver 127.0.0.11\n") && conf.contains("search lan\n"), "{conf}");
}

#[test]
fn an_internal_network_asks_nobody_and_the_hosts_network_has_no_resolver() {
    let engine = Engine::start().unwrap();
    resolv_conf(&engine, "nameserver 127.0.0.1\n");
    let server = Server::start(&engine, "127.0.0.1");
    engine.ok(["network", "create", "--internal", "inside"]);
    start(&engine, &["--network", "inside", "--name", "db"]);
    let app = start(&engine, &["--network", "inside"]);
    let ip = engine.field("db", "{{(index .NetworkSettings.Networks \"inside\").IPAddress}}");
    assert_eq!(ask(&engine, &app, "db"), format!("good {ip}"));
    let secret = "print(ask('secret.one.example'), ask('8.8.8.8.in-addr.arpa', 12), ask('secret', 16))";
    assert_eq!(python(&engine, &app, secret), "absent absent absent");
    assert_eq!(server.asked(), "ready\n");
    for network in ["host", "none"] {
        let conf =
            engine.ok(["run", "--rm", "--network", network, "busybox", "cat", "/etc/resolv.conf"]).stdout;
        assert_eq!(conf, "nameserver 127.0.0.1\n", "{network}");
    }
    let joined =
        engine.ok(["run", "--rm", "--network", &format!("container:{app}"), "busybox", "nslookup", "db"]);
    assert!(joined.stdout.contains(&ip), "{}", joined.stdout);
}

#[test]
fn a_dns_server_in_a_container_has_port_53_for_itself() {
    let engine = Engine::start().unwrap();
    let server = start(&engine, &["--name", "dns"]);
    let asker = start(&engine, &[]);
    let pid = engine.field(&server, "{{.State.Pid}}");
    let mut python3 = engine.host().command("nsenter");
    python3.arg(format!("--net=/proc/{pid}/ns/net")).arg("python3");
    let log = engine.host().folder().join("inside");
    let _running = Server::spawn(python3, "0.0.0.0", log);
    let look = |server: &str| engine.davit(["exec", &asker, "nslookup", "one.example", server]).stdout;
    assert!(look("172.17.0.2").contains("192.0.2.1"));
    assert!(look("dns").contains("192.0.2.1"), "by its name");
    assert_eq!(ask(&engine, &server, "dns"), "good 172.17.0.2", "and its own resolver is where it was");
}

#[test]
fn nothing_that_a_container_sends_hurts_more_than_itself() {
    let engine = Engine::start().unwrap();
    resolv_conf(&engine, "nameserver 127.0.0.1\n");
    let web = start(&engine, &["--name", "web"]);
    let shims = engine.processes_with("davit-shim serve");
    assert_eq!(shims.len(), 1);
    let hostile = r#"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("127.0.0.11", 53)); s.setblocking(False)
q = question("web")
bad = [b"", b"\0" * 5, q[:12], q[:-1], q + b"x", b"\0\1\x28\0" + q[4:], q[:4] + b"\0\2" + q[6:], q[:12] + b"\xc0\x0c\0\1\0\1",
       q[:12] + b"\x3f" + b"a" * 30, q[:2] + b"\x80" + q[3:], os.urandom(3000), b"\xff" * 65000, question(".".join(["a"] * 127) + ".b")]
for n in range(20000):
    try: s.send(bad[n % len(bad)] if n % 2 else question(f"x{n}.example", id=n))
    except (BlockingIOError, ConnectionError): pass
streams = []
for n in range(40):
    c = socket.socket(); c.setblocking(False); c.connect_ex(("127.0.0.11", 53)); streams.append(c)
time.sleep(0.2)
for c in streams[:20]:
    try: c.send(b"\xff\xff" + b"z" * 100)
    except OSError: pass
t = time.time(); print(ask("web"), time.time() - t < 5)
"#;
    assert_eq!(python(&engine, &web, hostile), "good 172.17.0.2 True");
    assert_eq!(engine.processes_with("davit-shim serve"), shims);
    assert_eq!(engine.ok(["exec", &web, "echo", "fine"]).line(), "fine");
}
