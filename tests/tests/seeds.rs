//! The container chapters of the notes that davit was begun from, typed into a real terminal as they stand there, with
//! `davit` for `docker`.

use davit_tests::engine::Engine;
use davit_tests::image;
use davit_tests::person::Person;
use davit_tests::terminal::Terminal;
use davit_tests::wait::until_true;

fn engine() -> Engine {
    let engine = Engine::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archive = image::with_bash(folder.path(), "ubuntu:18.04").unwrap();
    engine.ok(["load", "-q", "-i", &archive.display().to_string()]);
    engine.ok(["tag", "ubuntu:18.04", "ubuntu:14.04"]);
    engine
}

#[test]
fn run_leave_come_back_and_remove() {
    let engine = engine();
    let mut person = Person::at(&engine);
    assert!(person.types("davit -v", 0).contains("davit version"));
    person.enters("davit run -i -t ubuntu:18.04", "inside#");
    person.leaves();
    assert!(!person.types("davit ps", 0).contains("ubuntu:18.04"));
    let all = person.types("davit ps -a | cut -c1-45", 0);
    assert!(all.contains("CONTAINER ID") && all.contains("ubuntu:18.04"), "{all}");

    person.types("davit create -i -t --name mycontainer ubuntu:18.04", 0);
    person.types("davit start mycontainer", 0);
    person.enters("davit attach mycontainer", "");
    person.terminal.key("Enter").unwrap();
    person.terminal.shows("inside#");
    person.says("echo inside-$((40+2))", "inside-42");
    person.detaches();
    assert_eq!(engine.field("mycontainer", "{{.State.Running}}"), "true", "ctrl-p ctrl-q leaves it running");
    assert!(person.types("davit ps --format '{{.Names}}'", 0).contains("mycontainer"));
    person.enters("davit exec -it mycontainer /bin/bash", "inside#");
    person.says("echo $$-$((6*7))", "-42");
    person.leaves();
    person.types("davit pause mycontainer", 0);
    assert!(person.types("davit ps --format '{{.Status}}'", 0).contains("(Paused)"));
    person.types("davit unpause mycontainer", 0);
    person.types("davit rename mycontainer yours", 0);
    assert!(person.types("davit inspect yours | head -5", 0).contains("\"Id\""));
    let refused = person.types("davit rm yours", 1);
    assert!(refused.contains("running"), "{refused}");
    person.types("davit stop yours", 0);
    person.types("davit rm yours", 0);

    person.types("davit run -d --name tc ubuntu:18.04 bash -c 'echo served; sleep 1000'", 0);
    until_true("it has spoken", || engine.davit(["logs", "tc"]).stdout.contains("served"));
    assert!(person.types("davit logs tc", 0).contains("served"));
    person.types("davit kill tc", 0);
    until_true("it is dead", || engine.field("tc", "{{.State.ExitCode}}") == "137");
    person.types("davit run -d --name one ubuntu:18.04 sleep 1000", 0);
    person.types("davit run -d --rm --name two ubuntu:18.04 sleep 1000", 0);
    person.types("davit stop -t 0 $(davit ps -a -q)", 0);
    until_true("--rm removed it", || !engine.ok(["ps", "-a"]).stdout.contains("two"));
    person.types("davit rm $(davit ps -a -q)", 0);
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout, "");
}

#[test]
fn remove_by_force_and_prune() {
    let engine = engine();
    let mut person = Person::at(&engine);
    person.types("davit run -d --name one ubuntu:18.04 sleep 1000", 0);
    person.types("davit rm -f one", 0);
    person.types("davit run -d --name two ubuntu:18.04 sleep 1000", 0);
    person.types("davit rm -r two", 0);
    person.types("davit run --name three ubuntu:18.04 true", 0);
    person.types("davit create --name four ubuntu:18.04", 0);
    person.types("davit run -d --name five ubuntu:18.04 sleep 1000", 0);
    person.enters("davit container prune", "[y/N]");
    person.says("y", "Total reclaimed space");
    assert_eq!(engine.ok(["ps", "-a", "--format", "{{.Names}}"]).stdout, "five\n");
    person.types("davit stop -t 0 `davit ps -a -q`", 0);
    person.types("davit rm `davit ps -a -q`", 0);
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout, "");
}

#[test]
fn the_terminal_is_mirrored_and_a_foreground_container_ends_with_it() {
    let engine = engine();
    let mut one = Person::at(&engine);
    one.enters("davit run -i -t --name network_test ubuntu:14.04", "inside#");
    let two =
        Terminal::run(&format!("{}-2", engine.host().name()), &engine.command(["attach", "network_test"]))
            .unwrap();
    until_true("the second is attached", || {
        two.key("Enter").unwrap();
        two.screen().contains("inside#")
    });
    one.says("echo mirror-$((40+2))", "mirror-42");
    two.shows("mirror-42");
    one.says("busybox ifconfig eth0 | busybox grep 'inet addr'", "172.");
    drop(one);
    until_true("it ended with its terminal", || {
        engine.field("network_test", "{{.State.Running}}") == "false"
    });
}

#[test]
fn an_application_of_two_containers() {
    let engine = engine();
    let mut person = Person::at(&engine);
    person.types("davit run -d --name mysql -e MYSQL_DATABASE=wordpress ubuntu:18.04 sleep 1000", 0);
    // As a page of the notes has it: the long dash of a word processor.
    let hint = person.types("davit run -d \u{2014}link mysql:mysql ubuntu:18.04 sleep 1000", 125);
    assert!(hint.contains("--link?"), "{hint}");
    person.types("davit run -d --name wordpress --link mysql:mysql -p 80:80 ubuntu:18.04 sleep 1000", 0);
    let hosts = person.types("davit exec wordpress busybox grep mysql /etc/hosts", 0);
    assert!(hosts.contains(&engine.field("mysql", "{{.NetworkSettings.IPAddress}}")), "{hosts}");
    person.types("davit exec wordpress busybox ping -c 1 -W 2 mysql", 0);
    let env = person.types("davit exec wordpress busybox env", 0);
    assert!(env.contains("MYSQL_ENV_MYSQL_DATABASE=wordpress"), "{env}");
    assert!(person.types("davit ps --format '{{.Names}} {{.Ports}}'", 0).contains("0.0.0.0:80->80/tcp"));

    person.types("davit network create mybridge", 0);
    assert!(person.types("davit network ls", 0).contains("mybridge"));
    person.types("davit run -d --name one --network mybridge ubuntu:18.04 sleep 1000", 0);
    person.types("davit run -d --name two --network mybridge ubuntu:18.04 sleep 1000", 0);
    person.types("davit exec two busybox ping -c 1 -W 2 one", 0);
    person.types("davit network disconnect mybridge two", 0);
    person.types("davit exec two busybox ping -c 1 -W 2 one", 1);
    person.types("davit network connect mybridge two", 0);
    person.types("davit exec two busybox ping -c 1 -W 2 one", 0);
    assert!(person.types("davit network inspect mybridge | grep IPAM", 0).contains("IPAM"));
    person.types("davit rm -f one two mysql wordpress", 0);
    person.types("davit network rm mybridge", 0);
}
