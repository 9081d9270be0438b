//! Networks with IPv6, through the whole engine.

use davit_tests::engine::Engine;

#[test]
fn both_families_beside_each_other() {
    let engine = Engine::start().unwrap();
    engine.ok([
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "fd00:17::/64",
        "--subnet",
        "10.77.0.0/24",
        "blue",
    ]);
    let run = |name: &str, more: &[&str]| {
        let base = ["run", "-d", "--name", name, "--network", "blue"];
        let args: Vec<&str> = base.iter().chain(more).chain(&["busybox", "sleep", "1000"]).copied().collect();
        engine.ok(args);
    };
    run("one", &[]);
    run("two", &["--ip6", "fd00:17::99", "--ip", "10.77.0.99"]);
    for address in ["fd00:17::2", "fd00:17::99", "10.77.0.99", "fd00:17::1"] {
        let family = if address.contains(':') { "-6" } else { "-4" };
        engine.ok(["exec", "one", "ping", family, "-c", "1", "-W", "3", address]);
    }
    let routes = engine.ok(["exec", "two", "ip", "-6", "route"]).stdout;
    assert!(routes.contains("default via fd00:17::1 dev eth0"), "{routes}");
    let inspect = "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}} {{end}}{{.EnableIPv6}}";
    let told = engine.ok(["network", "inspect", "-f", inspect, "blue"]).stdout;
    for part in ["fd00:17::/64 fd00:17::1", "10.77.0.0/24 10.77.0.1", "true"] {
        assert!(told.contains(part), "{part} in {told}");
    }

    // A network with a private range of its own, joined and left while the container runs.
    engine.ok(["network", "create", "--ipv6", "-o", "mtu=1400", "private"]);
    engine.ok(["run", "-d", "--name", "three", "busybox", "sleep", "1000"]);
    let addresses = || engine.ok(["exec", "three", "ip", "-6", "addr"]).stdout;
    assert!(!addresses().contains("inet6 fd"), "{}", addresses());
    engine.ok(["network", "connect", "private", "three"]);
    assert!(addresses().contains("inet6 fd") && addresses().contains("mtu 1400"), "{}", addresses());
    engine.ok(["network", "disconnect", "private", "three"]);
    assert!(!addresses().contains("inet6 fd"), "{}", addresses());
}
