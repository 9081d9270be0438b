//! `--link`: an alias in the hosts file, in the environment and at the resolver, wherever the other container is now.

use davit_tests::engine::Engine;
use davit_tests::wait::until_true;

const SLEEP: [&str; 3] = ["busybox", "sleep", "1000"];

fn run(engine: &Engine, words: &[&str]) {
    engine.ok(["run", "-d"].iter().chain(words).chain(&SLEEP).copied());
}

fn inside(engine: &Engine, container: &str, command: &str) -> String {
    engine.ok(["exec", container, "sh", "-c", command]).stdout
}

fn address(engine: &Engine, container: &str) -> String {
    engine.field(container, "{{.NetworkSettings.IPAddress}}")
}

fn line(engine: &Engine, container: &str, alias: &str) -> String {
    inside(engine, container, &format!("grep '\t{alias} ' /etc/hosts || true"))
}

#[test]
fn a_link_is_hosts_and_environment() {
    let engine = Engine::start().unwrap();
    run(&engine, &["--name", "mysql", "--expose", "3306", "-e", "DATABASE=wp"]);
    run(&engine, &["--name", "wordpress", "--link", "mysql:my-db", "-e", "MY_DB_NAME=mine"]);
    let (ip, short) = (address(&engine, "mysql"), engine.field("mysql", "{{.Config.Hostname}}"));
    assert_eq!(line(&engine, "wordpress", "my-db"), format!("{ip}\tmy-db {short} mysql\n"));
    inside(&engine, "wordpress", "ping -c 1 -W 2 my-db");
    let env = inside(&engine, "wordpress", "env");
    for wanted in [
        format!("MY_DB_PORT=tcp://{ip}:3306"),
        format!("MY_DB_PORT_3306_TCP=tcp://{ip}:3306"),
        format!("MY_DB_PORT_3306_TCP_ADDR={ip}"),
        "MY_DB_PORT_3306_TCP_PORT=3306".into(),
        "MY_DB_PORT_3306_TCP_PROTO=tcp".into(),
        "MY_DB_ENV_DATABASE=wp".into(),
        "MY_DB_NAME=mine".into(),
    ] {
        assert!(env.lines().any(|line| line == wanted), "{wanted} in {env}");
    }
    assert!(!env.contains("MY_DB_ENV_PATH"), "{env}");
    let links = engine.field("wordpress", "{{json .HostConfig.Links}}");
    assert_eq!(links, "[\"/mysql:/wordpress/my-db\"]");
    assert!(!engine.field("wordpress", "{{json .Config.Env}}").contains("3306"), "not its own");
    assert_eq!(engine.ok(["ps", "--format", "{{.Names}}"]).stdout, "wordpress\nmysql\n");
}

#[test]
fn a_link_follows_its_target() {
    let mut engine = Engine::start().unwrap();
    run(&engine, &["--name", "db"]);
    run(&engine, &["--name", "web", "--link", "db"]);
    let inode = inside(&engine, "web", "stat -c %i /etc/hosts");
    let old = address(&engine, "db");
    engine.ok(["stop", "-t", "0", "db"]);
    // Somebody else takes its address meanwhile, or at least the next one in the row.
    run(&engine, &["--name", "other"]);
    engine.ok(["start", "db"]);
    let new = address(&engine, "db");
    assert_ne!(old, new);
    assert!(line(&engine, "web", "db").starts_with(&format!("{new}\t")), "{}", line(&engine, "web", "db"));
    // Ids are of letters too, and one may hold the alias.
    assert_eq!(inside(&engine, "web", "grep -c '\t.*\\bdb\\b' /etc/hosts"), "1\n");
    assert_eq!(inside(&engine, "web", "stat -c %i /etc/hosts"), inode, "the same file still");
    inside(&engine, "web", "ping -c 1 -W 2 db");
    engine.ok(["rename", "db", "store"]);
    assert!(line(&engine, "web", "db").ends_with(" store\n"), "the alias stays, the name follows");
    engine.kill_controller().unwrap();
    engine.start_controller().unwrap();
    engine.ok(["restart", "-t", "0", "store"]);
    let newest = address(&engine, "store");
    assert!(line(&engine, "web", "db").starts_with(&format!("{newest}\t")));
    engine.ok(["restart", "-t", "0", "web"]);
    assert!(
        line(&engine, "web", "db").starts_with(&format!("{newest}\t")),
        "by its id, whatever its name is"
    );
    // A target that is gone leaves no link behind, and keeps nobody from starting.
    engine.ok(["rm", "-f", "store"]);
    engine.ok(["restart", "-t", "0", "web"]);
    assert_eq!(line(&engine, "web", "db"), "");
}

#[test]
fn what_cannot_be_linked_is_refused() {
    let engine = Engine::start().unwrap();
    engine.ok(["network", "create", "mine"]);
    engine.ok(["run", "--name", "ended", "busybox", "true"]);
    run(&engine, &["--name", "away", "--network", "mine"]);
    run(&engine, &["--name", "here"]);
    for (words, expected) in [
        (&["--link", "nope"][..], "no such container: nope"),
        (&["--name", "x", "--link", "ended:e"], "cannot link to a non running container: /ended AS /x/e"),
        (&["--name", "self", "--link", "self"], "no such container: self"),
        (&["--link", "away"], "does not belong to the default network"),
        (&["--link", "here:"], "CONTAINER:ALIAS"),
        (&["--link", "here:a", "--link", "away:a"], "two links"),
        (&["--network", "none", "--link", "here"], "can't be used with links"),
        (&["--network", "container:here", "--link", "here"], "can't be used with links"),
        (&["\u{2014}link", "here"], "did you mean two hyphens, --link?"),
        (&["--lnk", "here"], "--link"),
    ] {
        let answer = engine.davit(["run", "-d"].iter().chain(words).chain(&SLEEP).copied());
        assert_eq!(answer.code, 125, "{words:?}: {answer:?}");
        assert!(answer.stderr.contains(expected), "{words:?}: {}", answer.stderr);
    }
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout.lines().count(), 3, "nothing was left");
}

#[test]
fn on_networks_of_its_own_a_link_is_a_name() {
    let engine = Engine::start().unwrap();
    engine.ok(["network", "create", "mine"]);
    run(&engine, &["--name", "db", "--network", "mine", "--expose", "3306"]);
    run(&engine, &["--name", "web", "--network", "mine", "--link", "db:store"]);
    until_true("the alias resolves", || {
        engine.davit(["exec", "web", "ping", "-c", "1", "-W", "2", "store"]).code == 0
    });
    assert!(!inside(&engine, "web", "env").contains("STORE_"), "no variables there, as with docker");
    assert!(!inside(&engine, "web", "cat /etc/hosts").contains("store"));
    assert_ne!(engine.davit(["exec", "db", "ping", "-c", "1", "-W", "2", "store"]).code, 0, "its own alone");
    let circle = engine.davit(["network", "connect", "--link", "web", "bridge", "db"]);
    assert_eq!(circle.code, 1);
    assert!(circle.stderr.contains("cannot be linked to itself"), "{circle:?}");
    run(&engine, &["--name", "late"]);
    engine.ok(["network", "connect", "--link", "db:later", "mine", "late"]);
    until_true("the alias of a late link resolves", || {
        engine.davit(["exec", "late", "ping", "-c", "1", "-W", "2", "later"]).code == 0
    });
}
