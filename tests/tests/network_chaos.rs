//! Containers come, go, move between networks and change their names and ports, asked by several clients at once, while
//! the controller and the network service are killed at any moment. Who is not touched notices nothing, and afterwards
//! everybody tells the same about who is where.
//!
//! What happens follows from a seed, which is printed; `DAVIT_TEST_SEED` gives it, `DAVIT_TEST_ROUNDS` how much happens.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use davit_tests::chance::{Chance, seed, setting};
use davit_tests::engine::{Engine, Services};
use davit_tests::left;
use davit_tests::recipe::Recipe;
use davit_tests::wait::{DEADLINE, until};

const NETWORKS: [&str; 3] = ["one", "two", "bridge"];
const CONTAINERS: u64 = 6;
const CLIENTS: u64 = 3;
const KILLS: usize = 6;
const SERVE: &str = "mkdir -p /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w";

/// Asks for its neighbour's name and page, and for its own host's published port, all the time.
const PROBE: &str = r#"
while :; do
    found=$(timeout 5 nslookup -type=a answerer 127.0.0.11 2>&1) || echo "FAILED to look up answerer: $found"
    address=$(echo "$found" | sed -n 's/^Address: *\([0-9.]*\)$/\1/p' | tail -n 1)
    page=$(timeout 5 wget -q -O - "http://$address/" 2>&1)
    [ "$page" = hello ] || echo "FAILED to fetch from answerer at $address: $page"
    page=$(timeout 5 wget -q -O - "http://$1:8080/" 2>&1)
    [ "$page" = hello ] || echo "FAILED to fetch from port 8080 of $1: $page"
    echo asked
done
"#;

/// A name of a container, whether or not there is one.
fn container(chance: &mut Chance) -> String {
    format!("c{}", chance.below(CONTAINERS))
}

/// A network that people made.
fn user_network(chance: &mut Chance) -> &'static str {
    chance.of(&NETWORKS[..2])
}

/// A port that other clients want too: one of them gets it.
fn port(chance: &mut Chance) -> String {
    format!("{}:80", 9000 + chance.below(8))
}

/// The words of one thing that a client asks for.
fn wish(chance: &mut Chance) -> Vec<String> {
    let name = container(chance);
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    match chance.below(20) {
        0..=2 => run(chance, &name),
        3..=5 => words(&["start", &name]),
        6..=7 => words(&["stop", "-t", "0", &name]),
        8..=10 => words(&["restart", "-t", "0", &name]),
        11 => words(&["rm", "-f", &name]),
        12..=13 => words(&["rename", &name, &container(chance)]),
        14..=15 => words(&["network", "connect", user_network(chance), &name]),
        16 => words(&["network", "disconnect", user_network(chance), &name]),
        17..=18 => words(&["update", "--publish-add", &port(chance), &name]),
        _ => words(&["update", "--publish-rm", &port(chance), &name]),
    }
}

/// A new container on a random network.
fn run(chance: &mut Chance, name: &str) -> Vec<String> {
    let (port, network, alias) = (port(chance), chance.of(&NETWORKS), format!("a{}", chance.below(3)));
    let mut run = vec!["run", "-d", "--name", name, "--network", network, "-p", &port];
    if network != "bridge" {
        run.extend(["--network-alias", &alias]);
    }
    run.extend(["busybox", "sh", "-c", SERVE]);
    run.into_iter().map(str::to_owned).collect()
}

/// Asks for one thing after the other, until enough was answered between enough kills; tells how many were granted.
/// What is cut off by a kill does not count.
fn play(davit: &Recipe, mut chance: Chance, rounds: u64, kills: &AtomicUsize) -> usize {
    let (mut granted, mut answered) = (0, 0);
    while answered < rounds || kills.load(Ordering::SeqCst) < KILLS {
        let words = wish(&mut chance);
        let answer = davit.ask(&words);
        let why = answer.stderr.lines().next().unwrap_or_default();
        eprintln!("{}: {} {why}", words.join(" ").replace(SERVE, "…"), answer.code);
        granted += usize::from(answer.code == 0);
        answered += u64::from(!answer.is_cut());
    }
    granted
}

/// Fetches the page until it is told to stop; answers how often, and what went wrong and when.
fn fetch_until(curl: &Recipe, over: &AtomicBool, rules: &Recipe) -> (usize, Vec<String>) {
    let begun = Instant::now();
    let (mut fetched, mut failed) = (0, Vec::new());
    while !over.load(Ordering::SeqCst) {
        match curl.run::<&str>(&[]) {
            answer if answer.stdout == "hello\n" => fetched += 1,
            answer => {
                if failed.is_empty() {
                    eprintln!("{}", rules.run::<&str>(&[]).stdout);
                }
                failed.push(format!("after {:?}: {}", begun.elapsed(), answer.stderr.trim_end()));
            }
        }
    }
    (fetched, failed)
}
/// Kills the one or the other at random moments, and starts it again, until the clients are done.
fn kill_until(engine: &mut Engine, victims: &[&'static str], chance: &mut Chance, counts: &Counts) {
    let Counts { done, kills } = counts;
    while done.load(Ordering::SeqCst) < usize::try_from(CLIENTS).unwrap() {
        std::thread::sleep(chance.millis(1200));
        let victim = chance.of(victims);
        engine.kill(victim).unwrap();
        std::thread::sleep(chance.millis(200));
        engine.start_process(victim).unwrap();
        kills.fetch_add(1, Ordering::SeqCst);
    }
}

/// How far it is.
#[derive(Default)]
struct Counts {
    /// Clients that have asked enough.
    done: AtomicUsize,
    /// Kills, with the starts after them.
    kills: AtomicUsize,
}

/// Tells the firewall's rules.
fn rules(engine: &Engine) -> Recipe {
    Recipe::of(engine.host().command("nft").args(["list", "ruleset"]))
}

/// Two containers that nobody touches; one of them asks the other one all the time.
fn bystanders(engine: &Engine) {
    for network in ["one", "two"] {
        engine.ok(["network", "create", network]);
    }
    engine.ok([
        "run",
        "-d",
        "--name",
        "answerer",
        "--network",
        "one",
        "-p",
        "8080:80",
        "busybox",
        "sh",
        "-c",
        SERVE,
    ]);
    let gateway = engine.field("answerer", "{{.NetworkSettings.Networks.one.Gateway}}");
    engine.ok([
        "run",
        "-d",
        "--name",
        "asker",
        "--network",
        "one",
        "busybox",
        "sh",
        "-c",
        PROBE,
        "sh",
        &gateway,
    ]);
    // The first questions may come before the page is there.
    until("it asks and is answered", || {
        let lines = engine.ok(["logs", "-n", "3", "asker"]).stdout;
        (lines == "asked\n".repeat(3)).then_some(())
    });
}

fn chaos(services: Services, victims: &[&'static str]) {
    let (seed, rounds) = (seed(), setting("DAVIT_TEST_ROUNDS").unwrap_or(51));
    eprintln!("DAVIT_TEST_SEED={seed}");
    let mut engine = Engine::start_with(services, &[]).unwrap();
    engine.load_busybox().unwrap();
    let before = left::nothing(&engine);
    bystanders(&engine);
    let asked_before = engine.ok(["logs", "asker"]).stdout.lines().count();

    let mut chance = Chance::new(seed.rotate_left(32));
    for number in 0..CONTAINERS {
        // Two that want the same port: the second one is not started.
        engine.davit(run(&mut chance, &format!("c{number}")));
    }
    let (davit, curl, rules) = (Recipe::davit(&engine), Recipe::curl(&engine, 8080), rules(&engine));
    let (counts, over) = (Counts::default(), AtomicBool::new(false));
    let (granted, (fetched, failed)) = std::thread::scope(|scope| {
        let (davit, curl, rules, counts, over) = (&davit, &curl, &rules, &counts, &over);
        let play = |number: u64| {
            let chance = Chance::new(seed.wrapping_add(number));
            scope.spawn(move || {
                let played =
                    std::panic::catch_unwind(|| play(davit, chance, rounds / CLIENTS, &counts.kills));
                counts.done.fetch_add(1, Ordering::SeqCst);
                played
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(play).collect();
        let prober = scope.spawn(move || fetch_until(curl, over, rules));
        kill_until(&mut engine, victims, &mut Chance::new(!seed), counts);
        let granted: usize = clients.into_iter().map(|client| client.join().unwrap().unwrap()).sum();
        over.store(true, Ordering::SeqCst);
        (granted, prober.join().unwrap())
    });
    eprintln!("{granted} of {rounds} or more granted, {fetched} pages fetched from the host");
    assert!(granted as u64 >= rounds / 10, "{granted} of {rounds} granted: too little happened");
    assert!(failed.is_empty() && fetched > 10, "{failed:#?}");

    engine.agree(DEADLINE);
    let told = engine.ok(["logs", "asker"]).stdout;
    let failed: Vec<&str> = told.lines().skip(asked_before).filter(|line| *line != "asked").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(told.lines().count() > asked_before + 10, "it asked all the time");
    clear(&engine);
    left::settle(&engine, &before, "the network's chaos");
}

fn clear(engine: &Engine) {
    let ids = engine.ok(["ps", "-a", "-q"]).stdout;
    engine.ok(["rm", "-f"].into_iter().chain(ids.split_whitespace()));
    engine.ok(["network", "rm", "one", "two"]);
}

#[test]
fn kills_of_the_controller_are_not_noticed() {
    chaos(Services::Embedded, &["davitd"]);
}

#[test]
fn kills_of_the_controller_and_of_the_network_service_are_not_noticed() {
    chaos(Services::Separate, &["davit-network", "davitd", "davit-network"]);
}

/// The firewall is loaded whole or not at all: a connection that begins meanwhile finds its way.
#[test]
fn a_start_of_the_engine_interrupts_no_way_to_a_port() {
    let mut engine = Engine::start().unwrap();
    engine.ok(["network", "create", "one"]);
    engine.ok(["network", "create", "two"]);
    for (network, port) in [("two", "8081:80"), ("one", "8080:80"), ("bridge", "8082:80")] {
        engine.ok(["run", "-d", "--network", network, "-p", port, "busybox", "sh", "-c", SERVE]);
    }
    let curls = [8080, 8081, 8082].map(|port| Recipe::curl(&engine, port));
    for curl in &curls {
        until("the page is there", || (curl.run::<&str>(&[]).code == 0).then_some(()));
    }
    let (over, rules) = (AtomicBool::new(false), rules(&engine));
    let fetched = std::thread::scope(|scope| {
        let (over, rules) = (&over, &rules);
        let probers = curls.each_ref().map(|curl| scope.spawn(move || fetch_until(curl, over, rules)));
        for _ in 0..5 {
            engine.kill_controller().unwrap();
            engine.start_controller().unwrap();
        }
        over.store(true, Ordering::SeqCst);
        probers.map(|prober| prober.join().unwrap())
    });
    for (fetched, failed) in fetched {
        assert!(failed.is_empty() && fetched > 5, "{fetched} fetched, {failed:#?}");
    }
}

/// Containers of every kind that holds something of the network.
fn populate(engine: &Engine) {
    for network in ["one", "two"] {
        engine.ok(["network", "create", network]);
    }
    let run = |words: &[&str]| engine.ok([&["run", "-d"], words].concat());
    run(&["--name", "web", "--network", "one", "-p", "8080:80", "busybox", "sh", "-c", SERVE]);
    run(&["--name", "both", "--network", "two", "-p", "9000-9019:80-99", "busybox", "sleep", "9000"]);
    engine.ok(["network", "connect", "one", "both"]);
    run(&["--rm", "--name", "fleeting", "-p", "9100:80/udp", "busybox", "sleep", "9000"]);
    engine.ok([
        "create",
        "--name",
        "waiting",
        "--network",
        "two",
        "-p",
        "9200:80",
        "busybox",
        "sleep",
        "9000",
    ]);
}

/// Engine, network service and shims die at once, and with the shims all that ran.
fn kill_all(engine: &mut Engine, services: Services) {
    engine.kill_controller().unwrap();
    if services == Services::Separate {
        engine.kill("davit-network").unwrap();
    }
    let shims = engine.processes_with("davit-shim serve");
    assert_eq!(shims.len(), 4, "{shims:?}");
    for shim in shims {
        engine.kill_on_host(&shim.to_string()).unwrap();
    }
}

fn all_die(services: Services) {
    let mut engine = Engine::start_with(services, &[]).unwrap();
    engine.load_busybox().unwrap();
    let before = left::nothing(&engine);
    populate(&engine);
    engine.agree(DEADLINE);

    kill_all(&mut engine, services);
    if services == Services::Separate {
        engine.start_service("davit-network").unwrap();
    }
    engine.start_controller().unwrap();
    until("it is known that all ended", || {
        let states = engine.ok(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).stdout;
        let ended =
            !states.contains("running") && !states.contains("unknown") && !states.contains("fleeting");
        ended.then_some(())
    });
    engine.agree(DEADLINE);
    let kept = left::of(&engine);
    let held = |item: &&String| {
        ["/.lease/", ".view", "veth", "\"dv0", "shim "].iter().any(|word| item.contains(word))
    };
    assert_eq!(kept.iter().filter(held).collect::<Vec<_>>(), [""; 0], "nothing is left of what died");

    engine.ok(["start", "web"]);
    until("the page is there again", || {
        (Recipe::curl(&engine, 8080).run::<&str>(&[]).code == 0).then_some(())
    });
    engine.agree(DEADLINE);
    clear(&engine);
    left::settle(&engine, &before, "an engine that died whole");
}

#[test]
fn what_died_whole_is_cleared_by_the_next_start() {
    all_die(Services::Embedded);
}

#[test]
fn what_died_with_the_services_is_cleared_by_the_next_start() {
    all_die(Services::Separate);
}
