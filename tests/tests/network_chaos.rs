//! Containers come, go, move between networks and change their names and ports, asked by several clients at once, while
//! the controller and the network service are killed at any moment. Who is not touched notices nothing, and afterwards
//! everybody tells the same about who is where.
//!
//! What happens follows from a seed, which is printed; `DAVIT_TEST_SEED` gives it, `DAVIT_TEST_ROUNDS` how much happens.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use davit_tests::engine::{Answer, Engine, Services, binaries};
use davit_tests::left;
use davit_tests::wait::{DEADLINE, until};
use davit_tests::wiring;

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

/// SplitMix64: the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn container(&mut self) -> String {
        format!("c{}", self.below(CONTAINERS))
    }

    fn network(&mut self) -> &'static str {
        NETWORKS[usize::try_from(self.below(NETWORKS.len() as u64)).unwrap()]
    }

    fn user_network(&mut self) -> &'static str {
        NETWORKS[usize::try_from(self.below(2)).unwrap()]
    }

    /// A port that other clients want too: one of them gets it.
    fn port(&mut self) -> String {
        format!("{}:80", 9000 + self.below(8))
    }

    fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number")))
}

fn seed() -> u64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    setting("DAVIT_TEST_SEED").unwrap_or_else(|| u64::from(now()))
}

/// The words of one thing that a client asks for.
fn wish(random: &mut Random) -> Vec<String> {
    let container = random.container();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    match random.below(20) {
        0..=2 => run(random, &container),
        3..=5 => words(&["start", &container]),
        6..=7 => words(&["stop", "-t", "0", &container]),
        8..=10 => words(&["restart", "-t", "0", &container]),
        11 => words(&["rm", "-f", &container]),
        12..=13 => words(&["rename", &container, &random.container()]),
        14..=15 => words(&["network", "connect", random.user_network(), &container]),
        16 => words(&["network", "disconnect", random.user_network(), &container]),
        17..=18 => words(&["update", "--publish-add", &random.port(), &container]),
        _ => words(&["update", "--publish-rm", &random.port(), &container]),
    }
}

/// A new container on a random network.
fn run(random: &mut Random, name: &str) -> Vec<String> {
    let (port, network, alias) = (random.port(), random.network(), format!("a{}", random.below(3)));
    let mut run = vec!["run", "-d", "--name", name, "--network", network, "-p", &port];
    if network != "bridge" {
        run.extend(["--network-alias", &alias]);
    }
    run.extend(["busybox", "sh", "-c", SERVE]);
    run.into_iter().map(str::to_owned).collect()
}

/// A command of the engine's host that is run again and again, also while the engine is killed.
struct Recipe {
    program: OsString,
    words: Vec<OsString>,
}

impl Recipe {
    fn of(command: &Command) -> Self {
        Self {
            program: command.get_program().to_owned(),
            words: command.get_args().map(OsString::from).collect(),
        }
    }

    fn davit(engine: &Engine) -> Self {
        let mut command = engine.host().command("timeout");
        command.args(["60"]).arg(binaries().join("davit"));
        Self::of(command.arg("--host").arg(format!("unix://{}", engine.socket().display())))
    }

    fn curl(engine: &Engine, port: u16) -> Self {
        let url = format!("http://127.0.0.1:{port}/");
        Self::of(engine.host().command("curl").args(["-s", "-S", "-m", "5", &url]))
    }

    fn rules(engine: &Engine) -> Self {
        Self::of(engine.host().command("nft").args(["list", "ruleset"]))
    }

    fn run(&self, words: &[String]) -> Answer {
        let mut command = Command::new(&self.program);
        Answer::from(command.args(&self.words).args(words).stdin(Stdio::null()).output().unwrap())
    }

    /// Asks the engine until it is there to be asked; answers with what it said.
    fn ask(&self, words: &[String]) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.run(words);
            assert_ne!(answer.code, 124, "{words:?} hangs: {answer:?}");
            if !answer.stderr.contains("no engine answers at") {
                return answer;
            }
            assert!(begun.elapsed() < DEADLINE, "the engine stays away: {answer:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks for one thing after the other, until enough was answered between enough kills; tells how many were granted.
    /// What is cut off by a kill does not count.
    fn play(&self, mut random: Random, rounds: u64, kills: &AtomicUsize) -> usize {
        let (mut granted, mut answered) = (0, 0);
        while answered < rounds || kills.load(Ordering::SeqCst) < KILLS {
            let words = wish(&mut random);
            let answer = self.ask(&words);
            let why = answer.stderr.lines().next().unwrap_or_default();
            eprintln!("{}: {} {why}", words.join(" ").replace(SERVE, "…"), answer.code);
            granted += usize::from(answer.code == 0);
            answered += u64::from(!answer.stderr.contains("went away"));
        }
        granted
    }

    /// Fetches the page until it is told to stop; answers how often, and what went wrong and when.
    fn fetch_until(&self, over: &AtomicBool, rules: &Self) -> (usize, Vec<String>) {
        let begun = Instant::now();
        let (mut fetched, mut failed) = (0, Vec::new());
        while !over.load(Ordering::SeqCst) {
            match self.run(&[]) {
                answer if answer.stdout == "hello\n" => fetched += 1,
                answer => {
                    if failed.is_empty() {
                        eprintln!("{}", rules.run(&[]).stdout);
                    }
                    failed.push(format!("after {:?}: {}", begun.elapsed(), answer.stderr.trim_end()));
                }
            }
        }
        (fetched, failed)
    }
}

/// Kills the one or the other at random moments, and starts it again, until the clients are done.
fn kill_until(engine: &mut Engine, victims: &[&'static str], random: &mut Random, counts: &Counts) {
    let Counts { done, kills } = counts;
    while done.load(Ordering::SeqCst) < usize::try_from(CLIENTS).unwrap() {
        std::thread::sleep(random.millis(1200));
        let victim = victims[usize::try_from(random.below(victims.len() as u64)).unwrap()];
        engine.kill(victim).unwrap();
        std::thread::sleep(random.millis(200));
        match victim {
            "davitd" => engine.start_controller().unwrap(),
            service => engine.start_service(service).unwrap(),
        }
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

/// Waits until nothing is on its way and all who keep something of the network tell the same.
fn agreement(engine: &Engine) {
    let begun = Instant::now();
    loop {
        let states = engine.ok(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).stdout;
        let between = states.lines().filter(|line| {
            ["creating", "removing", "unknown", "restarting"].iter().any(|word| line.ends_with(word))
        });
        let mut found: Vec<String> = between.map(str::to_owned).collect();
        found.extend(wiring::faults(engine));
        if found.is_empty() {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{states}\n{found:#?}\n{}", engine.end_of_log());
        std::thread::sleep(Duration::from_millis(100));
    }
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

    let mut random = Random(seed.rotate_left(32));
    for number in 0..CONTAINERS {
        // Two that want the same port: the second one is not started.
        engine.davit(run(&mut random, &format!("c{number}")));
    }
    let (davit, curl, rules) = (Recipe::davit(&engine), Recipe::curl(&engine, 8080), Recipe::rules(&engine));
    let (counts, over) = (Counts::default(), AtomicBool::new(false));
    let (granted, (fetched, failed)) = std::thread::scope(|scope| {
        let (davit, curl, rules, counts, over) = (&davit, &curl, &rules, &counts, &over);
        let play = |number: u64| {
            let random = Random(seed.wrapping_add(number));
            scope.spawn(move || {
                let played = std::panic::catch_unwind(|| davit.play(random, rounds / CLIENTS, &counts.kills));
                counts.done.fetch_add(1, Ordering::SeqCst);
                played
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(play).collect();
        let prober = scope.spawn(move || curl.fetch_until(over, rules));
        kill_until(&mut engine, victims, &mut Random(!seed), counts);
        let granted: usize = clients.into_iter().map(|client| client.join().unwrap().unwrap()).sum();
        over.store(true, Ordering::SeqCst);
        (granted, prober.join().unwrap())
    });
    eprintln!("{granted} of {rounds} or more granted, {fetched} pages fetched from the host");
    assert!(granted as u64 >= rounds / 10, "{granted} of {rounds} granted: too little happened");
    assert!(failed.is_empty() && fetched > 10, "{failed:#?}");

    agreement(&engine);
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
        until("the page is there", || (curl.run(&[]).code == 0).then_some(()));
    }
    let (over, rules) = (AtomicBool::new(false), Recipe::rules(&engine));
    let fetched = std::thread::scope(|scope| {
        let (over, rules) = (&over, &rules);
        let probers = curls.each_ref().map(|curl| scope.spawn(move || curl.fetch_until(over, rules)));
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
    agreement(&engine);

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
    agreement(&engine);
    let kept = left::of(&engine);
    let held = |item: &&String| {
        ["/.lease/", ".view", "veth", "\"dv0", "shim "].iter().any(|word| item.contains(word))
    };
    assert_eq!(kept.iter().filter(held).collect::<Vec<_>>(), [""; 0], "nothing is left of what died");

    engine.ok(["start", "web"]);
    until("the page is there again", || (Recipe::curl(&engine, 8080).run(&[]).code == 0).then_some(()));
    agreement(&engine);
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
