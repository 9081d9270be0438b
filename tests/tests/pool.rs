//! Shims that are prepared ahead: taken by what fits, seen by nobody, and gone without a trace whatever happens.

use std::collections::BTreeSet;
use std::fs;

use davit_tests::engine::{Engine, Services};
use davit_tests::left;
use davit_tests::wait::until;
use serde_json::Value;

const MOST: usize = 4;

/// An engine that prepares shims ahead from now on.
fn engine() -> Engine {
    let mut engine = Engine::start().unwrap();
    with_pool(&mut engine, MOST);
    engine
}

fn with_pool(engine: &mut Engine, most: usize) {
    engine.kill_controller().unwrap();
    engine.set_pool(most);
    engine.start_controller().unwrap();
}

/// Items by their ids: folders that nobody asked for, whose shims have told who they are.
fn items(engine: &Engine) -> BTreeSet<String> {
    let folders = fs::read_dir(engine.seen_root().join("containers")).unwrap().flatten();
    let is_item = |folder: &fs::DirEntry| {
        folder.path().join("ahead").exists() && !folder.path().join("spec.json").exists()
    };
    let ids = folders.filter(is_item).map(|folder| folder.file_name().into_string().unwrap());
    ids.filter(|id| engine.run_dir().join("shim").join(id).join("shim.json").exists()).collect()
}

/// The address that an item has, once it has one.
fn address(engine: &Engine, id: &str) -> Option<String> {
    let lease = engine.seen_root().join("network/.lease").join(id);
    let lease = fs::read(&lease).or_else(|_| fs::read(lease.with_extension("json"))).ok()?;
    let lease: Value = serde_json::from_slice(&lease).ok()?;
    Some(lease["leases"][0]["wired"]["ipv4"].as_str()?.to_owned())
}

/// Waits for so many items that are on the bridge.
fn ready(engine: &Engine, count: usize) -> BTreeSet<String> {
    until("shims are prepared", || {
        let items: BTreeSet<String> =
            items(engine).into_iter().filter(|id| address(engine, id).is_some()).collect();
        (items.len() >= count).then_some(items)
    })
}

/// Has some prepared, by asking once.
fn filled(engine: &Engine) -> BTreeSet<String> {
    engine.ok(["run", "--rm", "busybox", "true"]);
    ready(engine, 2)
}

#[test]
fn what_fits_takes_one_and_is_all_that_it_asked_for() {
    let engine = engine();
    assert_eq!(items(&engine).len(), 0, "nobody has asked");
    let prepared = filled(&engine);
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout, "");
    assert_eq!(engine.ok(["network", "inspect", "bridge", "-f", "{{len .Containers}}"]).stdout, "0\n");
    let words = [
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "-v",
        "/data",
        "-m",
        "64m",
        "-e",
        "A=b",
        "--add-host",
        "there:10.0.0.1",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--shm-size",
        "1m",
        "busybox",
        "sleep",
        "1000",
    ];
    let web = engine.ok(words).line().to_owned();
    assert!(prepared.contains(&web), "{web} of {prepared:?}");
    let shown = engine.ok(["network", "inspect", "bridge", "-f", "{{len .Containers}}"]).stdout;
    assert_eq!(shown, "1\n", "what waits is no container");
    let script = "hostname; echo $A; cat /proc/sys/net/ipv4/ip_forward; df -k /dev/shm | tail -1 | awk '{print $2}'; \
                  ls -d /data; grep -c there /etc/hosts; hostname -i";
    let said = engine.ok(["exec", "web", "sh", "-c", script]).stdout;
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said[..6], [&web[..12], "b", "1", "1024", "/data", "1"], "{said:?}");
    assert_eq!(said[6], engine.field("web", "{{.NetworkSettings.IPAddress}}"));
    assert_eq!(engine.field("web", "{{.HostConfig.Memory}}"), "67108864");

    let second = engine.ok(["run", "-d", "--name", "other", "-h", "box", "busybox", "sleep", "1000"]);
    assert_eq!(engine.ok(["exec", "other", "hostname"]).stdout, "box\n");
    let at = engine.field("web", "{{.NetworkSettings.IPAddress}}");
    engine.ok(["exec", "other", "ping", "-c", "1", "-W", "5", &at]);
    engine.ok(["exec", "other", "ping", "-c", "1", "-W", "5", "172.17.0.1"]);
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout.lines().count(), 2, "{}", second.line());

    // A stopped one begins its next life like any other.
    engine.ok(["restart", "-t", "0", "web"]);
    assert_eq!(engine.field("web", "{{.State.Running}}"), "true");
    engine.ok(["rm", "-f", "-v", "web", "other"]);
}

#[test]
fn what_differs_takes_none_and_an_address_is_whose_who_asks() {
    let engine = engine();
    let prepared = filled(&engine);
    for flags in [&["--pid", "host"][..], &["--privileged"], &["--network", "host"]] {
        let words = [&["run", "-d"], flags, &["busybox", "sleep", "1000"]].concat();
        let id = engine.ok(words).line().to_owned();
        assert!(!prepared.contains(&id), "{flags:?}");
        engine.ok(["rm", "-f", &id]);
    }
    // The name is taken, so nothing is made, and what was taken for it is there for the next one.
    engine.ok(["run", "-d", "--name", "web", "busybox", "sleep", "1000"]);
    assert_ne!(engine.davit(["run", "--name", "web", "busybox", "true"]).code, 0);

    let prepared = ready(&engine, 1);
    let wanted = address(&engine, prepared.first().unwrap()).unwrap();
    engine.ok(["run", "-d", "--name", "asks", "--ip", &wanted, "busybox", "sleep", "1000"]);
    assert_eq!(engine.field("asks", "{{.NetworkSettings.IPAddress}}"), wanted);
    engine.ok(["exec", "asks", "ping", "-c", "1", "-W", "5", "172.17.0.1"]);
    engine.ok(["rm", "-f", "asks", "web"]);
}

#[test]
fn many_at_once_share_what_there_is() {
    let engine = engine();
    filled(&engine);
    let said: Vec<String> = std::thread::scope(|scope| {
        let one = |n: usize| {
            let engine = &engine;
            let run = move |m: usize| {
                engine.ok(["run", "--rm", "busybox", "echo", &(n * 3 + m).to_string()]).stdout
            };
            scope.spawn(move || (0..3).map(run).collect::<String>())
        };
        let all: Vec<_> = (0..10).map(one).collect();
        all.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let wanted: String = (0..30).map(|n| format!("{n}\n")).collect();
    assert_eq!(said.concat(), wanted);
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout, "");
}

#[test]
fn what_happens_to_those_who_wait_happens_to_nobody_else() {
    let mut engine = Engine::start_with(Services::Separate, &[]).unwrap();
    engine.load_busybox().unwrap();
    with_pool(&mut engine, MOST);
    filled(&engine);
    // Their shims are killed.
    for pid in engine.processes_with("davit-shim serve") {
        // One may have been replaced meanwhile.
        let _ = engine.kill_on_host(&pid.to_string());
    }
    // One that is taken in the very moment of its death fails, as any shim's container does.
    until("what waits no more is not taken", || {
        (engine.davit(["run", "--rm", "busybox", "echo", "works"]).stdout == "works\n").then_some(())
    });
    // Their bridge is taken away.
    ready(&engine, 2);
    let gone = engine.host().command("ip").args(["link", "delete", "davit0"]).status().unwrap();
    assert!(gone.success());
    let ping = ["run", "--rm", "busybox", "ping", "-c", "1", "-W", "5", "172.17.0.1"];
    until("the bridge is there again", || (engine.davit(ping).code == 0).then_some(()));
    // The service that gave them their addresses begins anew.
    ready(&engine, 2);
    engine.kill("davit-network").unwrap();
    engine.start_service("davit-network").unwrap();
    for _ in 0..3 {
        engine.ok(ping);
    }
}

/// The engine dies with shims that wait, or while it makes or hands out one: nothing is left of them.
#[test]
fn an_engine_that_dies_leaves_none() {
    let mut engine = Engine::start().unwrap();
    let nothing = left::nothing(&engine);
    with_pool(&mut engine, MOST);
    filled(&engine);
    with_pool(&mut engine, 0);
    left::settle(&engine, &nothing, "an engine that was killed");
    for (point, asks, actions) in [
        ("pool.folder", 1, &["abort", "error"][..]),
        ("pool.prepared", 1, &["abort"]),
        ("pool.attached", 1, &["abort"]),
        ("pool.taken", 2, &["abort", "error"]),
        ("release.early", 2, &["abort", "error"]),
        ("release.trash", 2, &["abort"]),
    ] {
        for action in actions {
            engine.kill_controller().unwrap();
            engine.set_pool(MOST);
            let setting = format!("{point}={action}");
            eprintln!("{setting}");
            engine.start_controller_at(&setting).unwrap();
            for _ in 0..asks {
                // What comes of it is another test's; here it only has to begin.
                engine.davit(["run", "--rm", "--name", "c", "busybox", "true"]);
                until("some are prepared, or the engine is dead or fails", || {
                    let over = engine.davit(["version"]).code != 0
                        || engine.end_of_log().contains("was told to fail");
                    (over || items(&engine).len() >= 2).then_some(())
                });
            }
            engine.end_controller().unwrap();
            engine.set_pool(0);
            engine.start_controller().unwrap();
            left::settle(&engine, &nothing, &setting);
            assert_eq!(
                engine.ok(["run", "--rm", "--name", "c", "busybox", "echo", "works"]).stdout,
                "works\n"
            );
            // Or the next engine would finish what this one had to leave.
            left::settle(&engine, &nothing, &setting);
        }
    }
}
