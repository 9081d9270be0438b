//! Restart policies: carried out by the shim while the engine is dead or alive, by the engine where no shim is left.

use std::fs;

use davit_proto::journal::What;
use davit_tests::engine::Engine;
use davit_tests::events::expected;
use davit_tests::wait::{DEADLINE, until_true};

fn run(engine: &Engine, name: &str, policy: &str, script: &str) -> String {
    let words = ["run", "-d", "--name", name, "--restart", policy, "busybox", "sh", "-c", script];
    engine.ok(words).line().to_owned()
}

fn state(engine: &Engine, name: &str) -> String {
    engine.field(name, "{{.State.Status}} {{.State.ExitCode}}")
}

fn restarts(engine: &Engine, name: &str) -> u32 {
    engine.field(name, "{{.RestartCount}}").parse().unwrap()
}

fn shim_pid(engine: &Engine, name: &str) -> String {
    engine.field(name, "{{.State.ShimPid}}")
}

fn lives(engine: &Engine, id: &str) -> usize {
    engine.journal(id).iter().filter(|entry| matches!(entry.what, What::Start { .. })).count()
}

#[test]
fn each_policy_does_what_it_says() {
    let engine = Engine::start().unwrap();
    let always = run(&engine, "always", "always", "echo life; sleep 0.2");
    run(&engine, "fails", "on-failure:2", "sleep 0.1; exit 3");
    run(&engine, "ends", "on-failure", "exit 0");
    run(&engine, "never", "no", "exit 4");
    run(&engine, "unless", "unless-stopped", "sleep 1000");

    until_true("it was restarted twice", || restarts(&engine, "always") >= 2);
    let words = engine.ok(["ps", "-a", "--filter", "name=always", "--format", "{{.Status}}"]);
    assert!(words.line().starts_with("Up ") || words.line().starts_with("Restarting (0)"), "{words:?}");
    engine.ok(["stop", "always"]);
    assert!(state(&engine, "always").starts_with("exited "));
    let told = engine.actions(&always);
    assert_eq!(told.iter().filter(|action| *action == "stop").count(), 1, "{told:?}");
    let begun = told.iter().filter(|action| *action == "start").count();
    assert_eq!(begun, lives(&engine, &always));
    assert_eq!(engine.ok(["logs", "always"]).stdout.lines().count(), begun, "a line a life");

    until_true("it gave up", || state(&engine, "fails") == "exited 3" && restarts(&engine, "fails") == 2);
    let fails = engine.field("fails", "{{.Id}}");
    until_true("its last end is told", || {
        engine.actions(&fails) == ["create", "start", "die", "start", "die", "start", "die"]
    });
    let why = engine.ok(["why", "fails"]).stdout;
    assert!(why.contains("is not started again by its restart policy"), "{why}");
    until_true("an end that is no failure is the end", || state(&engine, "ends") == "exited 0");
    until_true("no is no", || state(&engine, "never") == "exited 4");
    assert_eq!((restarts(&engine, "ends"), restarts(&engine, "never")), (0, 0));

    // An end from outside is no stop; a person's kill is.
    engine.kill_on_host(&engine.field("unless", "{{.State.Pid}}")).unwrap();
    until_true("it is started again", || {
        restarts(&engine, "unless") == 1 && state(&engine, "unless").starts_with("running")
    });
    engine.ok(["kill", "unless"]);
    until_true("it stays down", || state(&engine, "unless") == "exited 137");
    assert_eq!(restarts(&engine, "unless"), 1);

    engine.ok(["start", "always"]);
    engine.ok(["update", "--restart", "no", "always"]);
    until_true("the new policy holds at its next end", || state(&engine, "always") == "exited 0");
    let refused = engine.davit(["run", "--rm", "--restart", "always", "busybox", "true"]);
    assert_eq!(
        (refused.code, refused.stderr.as_str()),
        (125, "davit: conflicting options: --restart and --rm\n")
    );
    let refused = engine.davit(["run", "--restart", "sometimes", "busybox", "true"]);
    assert!(refused.stderr.contains("invalid restart policy: unknown policy 'sometimes'"), "{refused:?}");
}

#[test]
fn lives_go_on_while_the_controller_is_dead_and_are_told_afterwards() {
    let mut engine = Engine::start().unwrap();
    let turns = run(&engine, "turns", "always", "echo life; sleep 0.5; exit 1");
    let fails = run(&engine, "fails", "on-failure:1", "sleep 1; exit 9");
    let gone = engine.ok(["run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "2"]).line().to_owned();
    let alone = engine.past().last().unwrap().revision;
    engine.kill_controller().unwrap();
    let before = lives(&engine, &turns);
    until_true("it lives on by itself", || lives(&engine, &turns) >= before + 3);
    until_true("the other one gave up", || {
        engine.journal(&fails).iter().any(|entry| entry.what == What::GaveUp)
    });
    until_true("the third one ended", || {
        engine.journal(&gone).iter().any(|entry| matches!(entry.what, What::Exit { .. }))
    });
    // Not what begins while the engine comes back and reads one journal after the other.
    let at_of = |id: &String| expected(&engine.journal(id)).into_iter().map(|(_, at)| at).collect::<Vec<_>>();
    let happened: Vec<_> = [&turns, &fails, &gone].into_iter().flat_map(at_of).collect();
    engine.start_controller().unwrap();

    until_true("what was to go with its end is removed", || {
        engine.ok(["ps", "-a", "-q", "--filter", "name=gone"]).stdout.is_empty()
    });
    assert_eq!(engine.actions(&gone), ["create", "start", "die", "destroy"]);
    engine.ok(["stop", "-t", "0", "turns"]);
    for id in [&turns, &fails] {
        let past = engine.past();
        let told: Vec<_> = past.into_iter().filter(|e| e.id == *id).map(|e| (e.action, e.at)).collect();
        assert_eq!(told[0].0, "create");
        assert_eq!(told[1..], expected(&engine.journal(id)), "in order, with the real times");
    }
    assert_eq!(state(&engine, "fails"), "exited 9");
    assert_eq!(engine.ok(["logs", "turns"]).stdout.lines().count(), lives(&engine, &turns));
    let past = engine.past();
    assert!(past.is_sorted_by_key(|event| event.revision));
    // What happened to one while it happened to another is told so too.
    let back = past.iter().find(|event| event.action == "destroy").unwrap().revision;
    let missed: Vec<_> = past.iter().filter(|e| (alone + 1..back).contains(&e.revision)).collect();
    assert!(missed.iter().any(|event| event.id == gone) && missed.iter().any(|event| event.id == fails));
    let unseen: Vec<_> = missed.iter().filter(|event| happened.contains(&event.at)).collect();
    assert!(unseen.iter().any(|event| event.id == turns) && unseen.iter().any(|event| event.id == fails));
    assert!(unseen.is_sorted_by(|a, b| a.at <= b.at), "{missed:#?}");
}

#[test]
fn a_killed_shim_is_replaced_where_the_policy_says_so() {
    let mut engine = Engine::start().unwrap();
    run(&engine, "kept", "always", "sleep 1000");
    run(&engine, "dropped", "no", "sleep 1000");
    run(&engine, "stopped", "unless-stopped", "sleep 1000");
    engine.ok(["stop", "-t", "0", "stopped"]);
    for name in ["kept", "dropped"] {
        engine.kill_on_host(&shim_pid(&engine, name)).unwrap();
    }
    until_true("the end is told", || state(&engine, "dropped") == "exited 137");
    until_true("a new shim has it", || state(&engine, "kept").starts_with("running"));
    assert_eq!(restarts(&engine, "kept"), 1);

    let pid = shim_pid(&engine, "kept");
    engine.kill_controller().unwrap();
    engine.kill_on_host(&pid).unwrap();
    until_true("the shim is gone", || engine.processes_with("davit-shim serve").is_empty());
    engine.start_controller().unwrap();
    until_true("it is started again", || {
        state(&engine, "kept").starts_with("running") && shim_pid(&engine, "kept") != pid
    });
    assert_eq!(state(&engine, "stopped"), "exited 137");

    // A stop while the engine waits to start it again has the last word.
    for _ in 0..6 {
        until_true("it runs", || state(&engine, "kept").starts_with("running"));
        engine.kill_on_host(&shim_pid(&engine, "kept")).unwrap();
        until_true("it is down", || !state(&engine, "kept").starts_with("running"));
    }
    engine.ok(["stop", "kept"]);
    assert!(state(&engine, "kept").starts_with("exited"), "{}", state(&engine, "kept"));
    let refused = engine.davit(["exec", "kept", "true"]);
    assert_ne!(refused.code, 0);
}

/// Everything that runs is gone, and so is the run directory.
fn reboot(engine: &mut Engine) {
    engine.kill_controller().unwrap();
    for pid in engine.processes_with("davit-shim serve") {
        engine.kill_on_host(&pid.to_string()).unwrap();
    }
    until_true("no shim is left", || engine.processes_with("davit-shim serve").is_empty());
    for entry in fs::read_dir(engine.run_dir()).unwrap().flatten() {
        // The sockets of services that have processes of their own are still theirs.
        if entry.path().is_dir() {
            fs::remove_dir_all(entry.path()).unwrap();
        } else if entry.path().extension().is_none_or(|extension| extension != "sock") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    engine.start_controller().unwrap();
}

#[test]
fn after_a_reboot_policies_say_what_runs() {
    let mut engine = Engine::start().unwrap();
    for (name, policy) in
        [("always", "always"), ("unless", "unless-stopped"), ("fails", "on-failure"), ("no", "no")]
    {
        run(&engine, name, policy, "sleep 1000");
        run(&engine, &format!("{name}-stopped"), policy, "sleep 1000");
        engine.ok(["stop", "-t", "0", &format!("{name}-stopped")]);
    }
    engine.ok(["create", "--name", "made", "--restart", "always", "busybox", "sleep", "1000"]);
    let id = engine.field("always", "{{.Id}}");
    reboot(&mut engine);

    for name in ["always", "always-stopped", "unless", "fails"] {
        until_true(&format!("{name} runs"), || state(&engine, name).starts_with("running"));
    }
    for name in ["unless-stopped", "fails-stopped", "no", "no-stopped"] {
        assert_eq!(state(&engine, name), "exited 137", "{name}");
    }
    assert_eq!(state(&engine, "made"), "created 0");
    assert_eq!(engine.field("no", "{{.State.Error}}"), "the host was restarted");
    assert_eq!(engine.actions(&id), ["create", "start", "die", "start"]);
    let why = engine.ok(["why", "always"]).stdout;
    assert!(why.contains("the engine, by its restart policy: the host was restarted"), "{why}");

    // An ordinary death of the engine afterwards is no reboot.
    engine.ok(["stop", "-t", "0", "always"]);
    engine.kill_controller().unwrap();
    engine.start_controller().unwrap();
    assert_eq!(state(&engine, "always"), "exited 137");
}

#[test]
fn to_stop_what_waits_at_its_gate_takes_nothing_from_it() {
    let engine = Engine::start().unwrap();
    engine.ok(["create", "--name", "c", "--restart", "always", "busybox", "sleep", "1000"]);
    let before = engine.field("c", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    engine.ok(["stop", "c"]);
    assert_eq!(engine.field("c", "{{.NetworkSettings.Networks.bridge.IPAddress}}"), before);
    assert_eq!(engine.field("c", "{{.State.Status}}"), "created");
    engine.agree(DEADLINE);
    engine.ok(["start", "c"]);
    assert_eq!(engine.field("c", "{{.NetworkSettings.Networks.bridge.IPAddress}}"), before);
    engine.agree(DEADLINE);
}

/// An engine that is cut off between making a shim for the next life and beginning that life leaves nobody waiting.
#[test]
fn a_restart_that_is_cut_off_before_the_gate_opens_is_made_up_for() {
    let mut engine = Engine::start().unwrap();
    let words = ["run", "-d", "--name", "c", "--restart", "always", "busybox", "sleep", "1000"];
    for point in ["create.configured=abort", "create.done=error", "start.wanted=abort", "start.wanted=error"]
    {
        engine.ok(words);
        engine.kill_controller().unwrap();
        engine.start_controller_at(point).unwrap();
        engine.kill_on_host(&shim_pid(&engine, "c")).unwrap();
        if point.ends_with("abort") {
            until_true("the engine is cut off", || engine.davit(["version"]).code != 0);
        }
        engine.end_controller().unwrap();
        engine.start_controller().unwrap();
        let runs = || state(&engine, "c").starts_with("running");
        let begun = std::time::Instant::now();
        while !runs() {
            assert!(
                begun.elapsed() < DEADLINE,
                "{point}: {}\n{}",
                engine.ok(["why", "c"]).stdout,
                engine.end_of_log()
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        engine.agree(DEADLINE);
        engine.ok(["rm", "-f", "c"]);
    }
}

#[test]
fn what_is_drained_ends_in_order_and_runs_again_when_the_host_is_back() {
    let mut engine = Engine::start().unwrap();
    let deaf = "sleep 1000";
    let orderly = "trap 'echo in order; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    for (name, policy) in [("always", "always"), ("unless", "unless-stopped"), ("no", "no")] {
        run(&engine, name, policy, orderly);
        until_true("it listens", || engine.ok(["logs", name]).stdout == "ready\n");
    }
    run(&engine, "deaf", "unless-stopped", deaf);
    run(&engine, "fails", "on-failure", deaf);
    run(&engine, "stopped", "unless-stopped", deaf);
    engine.ok(["stop", "-t", "0", "stopped"]);

    let drained = engine.ok(["system", "drain", "-t", "1"]).stdout;
    let mut names: Vec<&str> = drained.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["always", "deaf", "fails", "no", "unless"]);
    for (name, ended) in [
        ("always", "exited 0"),
        ("unless", "exited 0"),
        ("no", "exited 0"),
        ("deaf", "exited 137"),
        ("fails", "exited 137"),
    ] {
        assert_eq!(state(&engine, name), ended, "{name}");
    }
    assert_eq!(engine.ok(["logs", "always"]).stdout, "ready\nin order\n");
    assert_eq!(engine.ok(["system", "drain"]).stdout, "", "a second time there is nothing to do");

    reboot(&mut engine);
    for name in ["always", "unless", "deaf", "fails"] {
        until_true(&format!("{name} runs"), || state(&engine, name).starts_with("running"));
    }
    assert_eq!((state(&engine, "no"), state(&engine, "stopped")), ("exited 0".into(), "exited 137".into()));
    let why = engine.ok(["why", "always"]).stdout;
    assert!(why.contains("the host goes down: drain by uid 0"), "{why}");
}
