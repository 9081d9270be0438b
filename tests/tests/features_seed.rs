//! What the notes that davit was begun from promise and no other test shows: images that come by themselves, what `info`
//! tells, how containers are kept apart, and that who runs in the background outlives the terminal.

use davit_tests::engine::{Engine, Services};
use davit_tests::image::{Compression, Layout, busybox_layer};
use davit_tests::registry::Registry;
use davit_tests::terminal::Terminal;
use davit_tests::wait::until_true;
use serde_json::json;

#[test]
fn run_and_create_fetch_what_is_not_here() {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    let mut layout = Layout::new(engine.host().folder().join("layout")).unwrap();
    layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
    let config = json!({"Cmd": ["echo", "by default"], "Env": ["PATH=/bin"], "StopSignal": "SIGQUIT"});
    layout.finish("t", &config).unwrap();
    // No tag anywhere below: it is `latest` on both sides.
    for name in ["first", "second"] {
        registry.push_layout(engine.host(), layout.folder(), "t", &format!("{name}:latest")).unwrap();
    }
    let (first, second) = (format!("{}/first", registry.address()), format!("{}/second", registry.address()));

    let never = engine.davit(["run", "--rm", "--pull", "never", &first]);
    assert_eq!(never.code, 125, "{never:?}");
    let ran = engine.ok(["run", "--name", "one", &first]);
    assert_eq!(ran.stdout, "by default\n", "{ran:?}");
    assert!(ran.stderr.contains(&format!("Unable to find image '{first}:latest' locally")), "{ran:?}");
    assert_eq!(engine.ok(["run", "--rm", &first, "echo", "mine"]).stdout, "mine\n", "it is here now");
    let cidfile = engine.host().folder().join("cid").display().to_string();
    let made = engine.ok(["create", "--name", "two", "--cidfile", &cidfile, &second]);
    assert_eq!(made.line().len(), 64);
    assert_eq!(std::fs::read_to_string(&cidfile).unwrap(), made.line());
    let again = engine.davit(["create", "--cidfile", &cidfile, &second]);
    assert!(again.code == 125 && again.stderr.contains("--cidfile exists"), "{again:?}");
    assert_eq!(engine.field("two", "{{.State.Status}} {{.Config.StopSignal}}"), "created SIGQUIT");

    // In docker's order: fetched, made, begun.
    let words = ["events", "--since", "1h", "--until", "0s", "--format", "{{.Type}} {{.Action}}"];
    let told =
        engine.ok(words.iter().copied().chain(["--filter", "event=pull", "--filter", "container=one"]));
    assert!(told.stdout.is_empty(), "no event is both: {told:?}");
    let told = engine.ok(words).stdout;
    let place =
        |what: &str| told.lines().position(|line| line == what).unwrap_or_else(|| panic!("{what}: {told}"));
    assert!(place("image pull") < place("container create"), "{told}");
    assert!(place("container create") < place("container start"), "{told}");
    let images = engine.ok(["images", "--format", "{{.Repository}} {{.Tag}}"]).stdout;
    assert!(images.contains(&format!("{first} latest\n")), "{images}");
}

/// The names that the notes show, without those of parts that davit has not.
const TOLD: &[&str] = &[
    "Containers",
    "Running",
    "Paused",
    "Stopped",
    "Images",
    "Server Version",
    "Storage Driver",
    "Backing Filesystem",
    "Supports d_type",
    "Native Overlay Diff",
    "Logging Driver",
    "Cgroup Driver",
    "Plugins",
    "Volume",
    "Network",
    "Log",
    "Swarm",
    "Runtimes",
    "Default Runtime",
    "Init Binary",
    "Security Options",
    "Kernel Version",
    "Operating System",
    "OSType",
    "Architecture",
    "CPUs",
    "Total Memory",
    "Name",
    "ID",
    "Docker Root Dir",
    "Debug Mode",
    "Registry",
    "Labels",
    "Experimental",
    "Insecure Registries",
    "Live Restore Enabled",
];

#[test]
fn info_tells_of_both_sides_and_counts_by_state() {
    let engine =
        Engine::start_with(Services::of_this_run(), &["--insecure-registry=10.9.0.0/16", "--label=rack=7"])
            .unwrap();
    engine.load_busybox().unwrap();
    engine.ok(["create", "--name", "made", "busybox"]);
    engine.ok(["run", "--name", "ended", "busybox", "true"]);
    for name in ["runs", "frozen"] {
        engine.ok(["run", "-d", "--name", name, "busybox", "sleep", "1000"]);
    }
    engine.ok(["pause", "frozen"]);
    let text = engine.ok(["info"]).stdout;
    let (client, server) = text.split_once("\nServer:\n").unwrap_or_else(|| panic!("two sides: {text}"));
    assert!(client.starts_with("Client:"), "{text}");
    let value = |name: &str| {
        let found = server.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
        found.unwrap_or_else(|| panic!("{name}: {server}")).trim().to_owned()
    };
    for name in TOLD {
        value(name);
    }
    assert_eq!(["Containers", "Running", "Paused", "Stopped"].map(value), ["4", "1", "1", "2"]);
    assert_eq!(value("Docker Root Dir"), engine.root().display().to_string());
    assert_eq!((value("Live Restore Enabled"), value("Logging Driver")), ("true".into(), "cri".into()));
    assert!(server.contains("\n  seccomp\n   Profile: default\n"), "{server}");
    assert_eq!(value("Supports d_type"), "true", "or no overlay would have been mounted: {server}");
    assert!(server.contains("\n Labels:\n  rack=7\n"), "{server}");
    assert!(["1", "2"].contains(&value("Cgroup Version").as_str()), "{server}");
    assert!(
        value("CPUs").parse::<u32>().is_ok_and(|cpus| cpus > 0) && value("Total Memory").ends_with("iB"),
        "{server}"
    );
    assert!(engine.ok(["-v"]).stdout.starts_with("davit version "));
}

#[test]
fn containers_of_one_image_see_nothing_of_each_other() {
    let engine = Engine::start().unwrap();
    let script = "echo $1 > /mine; sleep 1000";
    for name in ["one", "two"] {
        engine.ok(["run", "-d", "--name", name, "busybox", "sh", "-c", script, "sh", name]);
    }
    let inside = |name: &str, line: &str| engine.davit(["exec", name, "sh", "-c", line]);
    for name in ["one", "two"] {
        until_true("it has written", || inside(name, "cat /mine").stdout == format!("{name}\n"));
        let seen = inside(name, "ps -o pid,args").stdout;
        assert_eq!(seen.matches("sleep 1000").count(), 1, "its own alone: {seen}");
        let kernel = engine.host().command("uname").arg("-r").output().unwrap();
        assert_eq!(inside(name, "uname -r").stdout.as_bytes(), kernel.stdout, "one kernel for all");
        assert_eq!(inside(name, "hostname").stdout.trim(), engine.field(name, "{{.Config.Hostname}}"));
    }
    // What the other one's processes are called on the host means nothing inside.
    let pid = engine.field("two", "{{.State.Pid}}");
    let killed = inside("one", &format!("kill -9 {pid}"));
    assert_ne!(killed.code, 0, "{killed:?}");
    assert_eq!(engine.field("two", "{{.State.Running}}"), "true");
    // And the image is as it was.
    assert_eq!(engine.davit(["run", "--rm", "busybox", "cat", "/mine"]).code, 1);

    let links = inside("one", "ls /sys/class/net | sort | tr '\\n' ' '; cat /sys/class/net/eth0/mtu").stdout;
    assert_eq!(links, "eth0 lo 1500\n");
    let shown = inside("one", "ifconfig eth0; ifconfig lo").stdout;
    for word in ["HWaddr", "Bcast:172.17.255.255", "Mask:255.255.0.0", "MTU:1500", "inet addr:127.0.0.1"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert_ne!(inside("two", "ip -4 addr show eth0").stdout, inside("one", "ip -4 addr show eth0").stdout);
}

#[test]
fn what_runs_in_the_background_outlives_the_terminal() {
    let engine = Engine::start().unwrap();
    let program = engine.command(["run", "-d", "--name", "back", "busybox", "sleep", "1000"]);
    let terminal = Terminal::run(&engine.host().name(), &program).unwrap();
    terminal.shows("ended with 0");
    drop(terminal);
    until_true("no client is left", || engine.processes_with("davit.* run -d").is_empty());
    assert_eq!(engine.field("back", "{{.State.Running}}"), "true");
}
