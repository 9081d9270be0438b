//! A watcher sees everything once: over fifty deaths of the engine, from any revision that is still kept, and not from
//! one that is not.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use davit_proto::container::containers_client::ContainersClient;
use davit_proto::container::{Container, ListRequest, RestartPolicy, UpdateRequest};
use davit_proto::system::WatchRequest;
use davit_proto::system::system_client::SystemClient;
use davit_proto::transport::{self, Address};
use davit_tests::chance::Chance;
use davit_tests::engine::Engine;
use davit_tests::events::{Event, FORMAT, expected};
use davit_tests::wait::until_true;
use tonic::Code;
use tonic::transport::Channel;

/// Starts, stops, kills and removes containers until it is told to end; what fails because the engine is dead fails.
fn busy(commands: &[std::process::Command], over: &AtomicBool, seed: u64) {
    let mut random = Chance::new(seed);
    while !over.load(Ordering::Relaxed) {
        let template = &commands[usize::try_from(random.below(commands.len() as u64)).unwrap()];
        let mut command = std::process::Command::new(template.get_program());
        command.args(template.get_args());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.unwrap().wait().unwrap();
    }
}

fn commands(engine: &Engine) -> Vec<std::process::Command> {
    let mut commands = Vec::new();
    for n in 0..10 {
        let name = format!("c{n}");
        for words in [
            vec!["run", "-d", "--name", &name, "busybox", "sleep", "1000"],
            vec!["run", "-d", "--name", &name, "--restart", "always", "busybox", "sleep", "0.2"],
            vec!["stop", "-t", "0", &name],
            vec!["kill", &name],
            vec!["start", &name],
            vec!["rm", "-f", &name],
        ] {
            commands.push(engine.command(words));
        }
    }
    commands
}

/// Whether a container lives after these events; an error names the one that cannot be.
fn lives(events: &[Event]) -> Result<bool, usize> {
    let (mut there, mut alive) = (false, false);
    for (place, event) in events.iter().enumerate() {
        let can_be = match event.action.as_str() {
            "create" => !there && place == 0,
            "start" | "stop" | "destroy" => there && !alive,
            "die" => alive,
            // Also between two lives.
            "kill" => there,
            _ => false,
        };
        if !can_be {
            return Err(place);
        }
        match event.action.as_str() {
            "create" => there = true,
            "destroy" => there = false,
            "start" => alive = true,
            "die" => alive = false,
            _ => {}
        }
    }
    Ok(alive)
}

#[test]
fn a_watcher_sees_everything_once_over_fifty_deaths() {
    let mut engine = Engine::start().unwrap();
    let seen = engine.host().folder().join("seen");
    let mut watcher = engine
        .command(["events", "--filter", "type=container", "--format", FORMAT])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&seen).unwrap())
        .spawn()
        .unwrap();
    let read = || Event::read(&std::fs::read_to_string(&seen).unwrap_or_default());
    // Only then it watches.
    until_true("the watcher sees something", || {
        engine.ok(["run", "--rm", "busybox", "true"]);
        !read().is_empty()
    });

    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = [0x2545_F491_4F6C_DD1D, 0x9E37_79B9_7F4A_7C15_u64]
        .into_iter()
        .map(|seed| {
            let (over, commands) = (over.clone(), commands(&engine));
            std::thread::spawn(move || busy(&commands, &over, seed))
        })
        .collect();
    let mut random = Chance::new(0xD1B5_4A32_D192_ED03);
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(20 + random.below(200)));
        engine.kill_controller().unwrap();
        engine.start_controller().unwrap();
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    for n in 0..10 {
        engine.davit(["stop", "-t", "0", &format!("c{n}")]);
    }
    let engine = engine;
    let mut past = engine.past();
    until_true("nothing happens any more, and all is seen", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = engine.past();
        let quiet = now == past && read().last() == now.last();
        past = now;
        quiet
    });
    watcher.kill().unwrap();
    watcher.wait().unwrap();

    let seen = read();
    assert!(seen.is_sorted_by(|a, b| a.revision < b.revision), "no double, in order");
    let first = seen[0].revision;
    past.retain(|event| event.revision >= first);
    assert_eq!(seen, past, "no gap");
    assert!(seen.len() > 100, "something happened: {}", seen.len());
    by_container(&engine, seen);
}

/// The events of each container are exactly what its journal says while it is there, and in an order that can be when it
/// is not.
fn by_container(engine: &Engine, seen: Vec<Event>) {
    let mut each: HashMap<String, Vec<Event>> = HashMap::new();
    for event in seen {
        each.entry(event.id.clone()).or_default().push(event);
    }
    let mut compared = 0;
    for (id, events) in each {
        let journal = engine.journal(&id);
        assert_eq!(lives(&events), Ok(false), "{events:#?} {journal:#?}");
        if engine.bundle(&id).exists() {
            let told: Vec<_> = events.into_iter().skip(1).map(|event| (event.action, event.at)).collect();
            assert_eq!(told, expected(&journal), "{id}");
            compared += 1;
        }
    }
    assert!(compared > 0, "at least one container is left");
}

async fn channel(engine: &Engine) -> Channel {
    transport::dial(&Address::Unix(engine.socket())).await.unwrap()
}

async fn list(client: &mut ContainersClient<Channel>, request: ListRequest) -> (Vec<Container>, u64, String) {
    let mut answer = client.list(request).await.unwrap().into_inner();
    let (mut containers, mut revision, mut token) = (Vec::new(), 0, String::new());
    while let Some(frame) = answer.message().await.unwrap() {
        containers.extend(frame.containers);
        revision = frame.revision;
        token = frame.next_page_token;
    }
    (containers, revision, token)
}

#[tokio::test]
async fn lists_have_pages_and_a_revision_to_watch_from() {
    let engine = Engine::start().unwrap();
    for n in 0..5 {
        engine.ok(["create", "--name", &format!("c{n}"), "busybox", "true"]);
    }
    let mut client = ContainersClient::new(channel(&engine).await);
    let mut request = ListRequest { all: true, page_size: 2, ..ListRequest::default() };
    let mut names = Vec::new();
    let mut pages = 0;
    let last = loop {
        let (page, revision, token) = list(&mut client, request.clone()).await;
        names.extend(page.into_iter().map(|container| container.name));
        pages += 1;
        // What comes meanwhile shifts nothing.
        engine.ok(["create", "--name", &format!("later{pages}"), "busybox", "true"]);
        if token.is_empty() {
            break revision;
        }
        request.page_token = token;
    };
    assert_eq!((pages, names), (3, ["c4", "c3", "c2", "c1", "c0"].map(str::to_owned).to_vec()));

    let mut system = SystemClient::new(channel(&engine).await);
    let watch = WatchRequest { from_revision: last, ..WatchRequest::default() };
    let mut changes = system.watch(watch).await.unwrap().into_inner();
    let begins = changes.message().await.unwrap().unwrap();
    assert_eq!((begins.event, begins.revision), (None, last));
    let next = changes.message().await.unwrap().unwrap().event.unwrap();
    assert_eq!((next.action.as_str(), next.attributes["name"].as_str()), ("create", "later3"));

    let old = WatchRequest { from_revision: 1, ..WatchRequest::default() };
    let refused = system.watch(old).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    assert!(refused.message().contains("the last 10000 are kept"), "{}", refused.message());
    let bad = ListRequest { page_token: "x".into(), ..ListRequest::default() };
    assert_eq!(client.list(bad).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_update_may_say_which_revision_it_means() {
    let engine = Engine::start().unwrap();
    engine.ok(["create", "--name", "c", "busybox", "true"]);
    let mut client = ContainersClient::new(channel(&engine).await);
    let (listed, ..) = list(&mut client, ListRequest { all: true, ..ListRequest::default() }).await;
    let revision = listed[0].revision;
    let restart = Some(RestartPolicy { mode: 3, max_retries: 0 });
    let request =
        UpdateRequest { container: "c".into(), restart, if_revision: revision, ..UpdateRequest::default() };
    client.update(request.clone()).await.unwrap();
    let refused = client.update(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    assert_eq!(engine.field("c", "{{.HostConfig.RestartPolicy.Name}}"), "always");
}

#[test]
fn the_past_is_told_by_time_and_filter() {
    let engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "one", "-l", "tier=1", "busybox", "sleep", "1000"]);
    engine.ok(["run", "--name", "two", "busybox", "true"]);
    engine.ok(["kill", "one"]);
    until_true("its end is told", || {
        engine.actions(&engine.field("one", "{{.Id}}")).contains(&"die".to_owned())
    });
    let told = |words: &[&str]| {
        let all = ["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"];
        let stdout = engine.ok(all.iter().chain(words).copied()).stdout;
        stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(told(&["--filter", "container=one"]), ["create", "start", "kill", "die"]);
    assert_eq!(told(&["--filter", "label=tier=1", "--filter", "event=die"]), ["die"]);
    assert_eq!(told(&["--filter", "type=image"]), ["load"]);
    assert_eq!(
        told(&["--filter", "container=two", "--filter", "event=die", "--filter", "event=start"]),
        ["start", "die"]
    );
    assert!(told(&["--filter", "image=nothing"]).is_empty());
    let line =
        engine.ok(["events", "--since", "1h", "--until", "0s", "--filter", "event=kill", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&line.stdout).unwrap();
    assert_eq!(json["Actor"]["Attributes"]["signal"], "9");
    assert!(json["Actor"]["Attributes"]["cause"].as_str().unwrap().starts_with("kill by uid 0"));
    assert_eq!((json["status"].as_str(), json["scope"].as_str()), (Some("kill"), Some("local")));
}

#[test]
fn a_client_that_goes_midway_leaves_nothing_half_made() {
    let mut engine = Engine::start().unwrap();
    engine.kill_controller().unwrap();
    engine.start_controller_at("create.content=delay:700").unwrap();
    let mut child =
        engine.command(["create", "--name", "c", "busybox", "true"]).stdout(Stdio::null()).spawn().unwrap();
    until_true("it is being made", || {
        std::fs::read_dir(engine.root().join("containers")).map_or(0, Iterator::count) == 1
    });
    child.kill().unwrap();
    child.wait().unwrap();
    until_true("it is made all the same", || engine.davit(["start", "c"]).code == 0);
    until_true("and works", || engine.field("c", "{{.State.Status}} {{.State.ExitCode}}") == "exited 0");
    engine.ok(["rm", "c"]);
    until_true("nothing is left", || {
        std::fs::read_dir(engine.root().join("containers")).map_or(0, Iterator::count) == 0
            && engine.processes_with("davit-shim").is_empty()
    });
}
