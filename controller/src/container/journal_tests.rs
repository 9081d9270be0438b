//! Journals as shims write them, and what becomes of them.

use davit_proto::container::{Container, ContainerSpec, ContainerStatus, Phase, RestartMode, RestartPolicy};

use super::*;

const START: What = What::Start { pid: 7 };

fn exit(code: u32) -> What {
    What::Exit { exit_code: code, signal: None, oom: false, unborn: false }
}

fn record(mode: RestartMode) -> ContainerRecord {
    let mut status = ContainerStatus { netns_path: "/proc/1/fd/9".into(), ..ContainerStatus::default() };
    status.set_phase(Phase::Created);
    let restart = Some(RestartPolicy { mode: mode.into(), max_retries: 0 });
    let spec = Some(ContainerSpec { restart, ..ContainerSpec::default() });
    let container = Container { name: "web".into(), spec, status: Some(status), ..Container::default() };
    ContainerRecord { container: Some(container), ..ContainerRecord::default() }
}

fn journal(entries: &[(u64, What)]) -> Vec<Entry> {
    let entry = |(place, (life, what)): (usize, &(u64, What))| Entry {
        n: place as u64 + 1,
        at: format!("2026-11-21T01:02:{place:02}.5Z"),
        life: *life,
        what: what.clone(),
        cause: "kill by uid 0".into(),
    };
    entries.iter().enumerate().map(entry).collect()
}

/// What is told of a journal, and the record afterwards.
fn told(record: &mut ContainerRecord, journal: &[Entry], begun: u64) -> Vec<String> {
    let mut told = Vec::new();
    for (place, entry) in journal.iter().enumerate() {
        let Some(born) = is_born(entry, &journal[place + 1..], begun) else { break };
        if let Some(change) = enter(record, entry, &Facts { exit: None, born }) {
            assert_eq!(change.at.unwrap().seconds % 60, place as i64, "the time at which it happened");
            told.extend(change.events.into_iter().map(|event| event.action));
        }
    }
    told
}

fn phase(record: &ContainerRecord) -> Phase {
    live::status_of(record.container.as_ref().unwrap()).phase()
}

#[test]
fn a_stop_is_told_as_docker_tells_it() {
    let mut record = record(RestartMode::No);
    let stop = What::Stop { signal: 15, timeout_ms: Some(10_000) };
    let journal = journal(&[(1, START), (1, stop), (1, What::StopTimeout), (1, exit(137))]);
    assert_eq!(told(&mut record, &journal, 0), ["start", "kill", "kill", "die", "stop"]);
    assert_eq!(phase(&record), Phase::Exited);
    assert_eq!(record.journal, 4);
    assert!(told(&mut record, &journal, ALL).is_empty(), "once");
    let status = live::status_of(record.container.as_ref().unwrap());
    assert!(status.netns_path.is_empty());
    assert_eq!(status.exit.unwrap().exit_code, 137);
}

#[test]
fn a_restart_by_policy_keeps_the_address_and_counts() {
    let mut record = record(RestartMode::Always);
    let wait = What::Restarting { delay_ms: 100, count: 1 };
    let journal =
        journal(&[(1, START), (1, exit(1)), (1, wait), (2, START), (2, What::Pause), (2, What::Resume)]);
    assert_eq!(told(&mut record, &journal[..3], ALL), ["start", "die"]);
    assert_eq!(phase(&record), Phase::Restarting);
    assert_eq!(told(&mut record, &journal, 0), ["start", "pause", "unpause"]);
    let status = live::status_of(record.container.as_ref().unwrap());
    assert_eq!((status.phase(), status.restart_count, status.life), (Phase::Running, 1, 2));
    assert!(!status.netns_path.is_empty());
}

#[test]
fn a_stop_between_two_lives_is_no_signal() {
    let mut record = record(RestartMode::Always);
    let wait = What::Restarting { delay_ms: 100, count: 1 };
    let stop = What::Stop { signal: 15, timeout_ms: None };
    let journal = journal(&[(1, START), (1, exit(1)), (1, wait), (1, stop)]);
    assert_eq!(told(&mut record, &journal, 0), ["start", "die", "stop"]);
}

#[test]
fn a_start_that_is_only_tried_waits_for_its_outcome() {
    let mut waits = record(RestartMode::No);
    let tried = journal(&[(1, START)]);
    assert!(told(&mut waits, &tried, 0).is_empty());
    assert_eq!((phase(&waits), waits.journal), (Phase::Created, 0));
    assert_eq!(told(&mut waits, &tried, 1), ["start"]);

    let mut never = record(RestartMode::No);
    let unborn = What::Exit { exit_code: 127, signal: None, oom: false, unborn: true };
    let failed = journal(&[(1, START), (1, unborn)]);
    assert!(told(&mut never, &failed, 0).is_empty(), "neither start nor die");
    assert_eq!((phase(&never), never.journal), (Phase::Created, 2));
    let error = live::status_of(never.container.as_ref().unwrap()).error;
    assert_eq!(error, "kill by uid 0");
}

#[test]
fn want_of_memory_is_told_once_a_life() {
    let oom = |code| What::Exit { exit_code: code, signal: Some(9), oom: true, unborn: false };
    let mut killed = record(RestartMode::No);
    assert_eq!(told(&mut killed, &journal(&[(1, START), (1, oom(137))]), 0), ["start", "oom", "die"]);
    let mut warned = record(RestartMode::No);
    let entries = journal(&[(1, START), (1, What::Oom { kills: 2 }), (1, oom(137))]);
    assert_eq!(told(&mut warned, &entries, 0), ["start", "oom", "die"]);
}

#[test]
fn execs_and_health_have_dockers_names() {
    let mut record = record(RestartMode::No);
    let health = |status: &str| What::Health { status: status.into(), failing_streak: 0 };
    let entries = journal(&[
        (1, START),
        (1, health("starting")),
        (1, health("healthy")),
        (1, What::ExecStart { exec: "e1".into(), command: "ls -l".into() }),
        (1, What::ExecExit { exec: "e1".into(), exit_code: 2 }),
        (1, What::Unknown),
    ]);
    let expected = ["start", "health_status: healthy", "exec_create: ls -l", "exec_start: ls -l", "exec_die"];
    assert_eq!(told(&mut record, &entries, 0), expected);
    assert_eq!(record.journal, 6);
    assert_eq!(live::status_of(record.container.as_ref().unwrap()).health, "healthy");
}

#[test]
fn what_was_cut_from_the_journal_is_said() {
    let mut record = record(RestartMode::No);
    let entries = journal(&[(1, START), (1, What::Pause), (1, What::Resume), (1, exit(3))]);
    enter(&mut record, &entries[0], &Facts { exit: None, born: true }).unwrap();
    let change = enter(&mut record, &entries[3], &Facts { exit: None, born: true }).unwrap();
    let note = change.why.unwrap();
    assert_eq!(note.change, "2 entries of the journal were lost; ended with exit code 3");
    assert_eq!(change.events[0].attributes["cause"], "kill by uid 0");
}

#[test]
fn a_removal_is_not_undone_by_late_news() {
    let mut record = record(RestartMode::Always);
    let wait = What::Restarting { delay_ms: 1, count: 1 };
    let journal = journal(&[(1, START), (1, exit(0)), (1, wait), (2, START), (2, exit(137))]);
    told(&mut record, &journal[..1], ALL);
    record.container.as_mut().unwrap().status.as_mut().unwrap().set_phase(Phase::Removing);
    assert_eq!(told(&mut record, &journal, 0), ["die", "start", "die"]);
    assert_eq!(phase(&record), Phase::Removing);
}

#[test]
fn what_happened_to_several_is_told_by_time_and_to_one_by_place() {
    let times = |times: &[u32]| times.iter().map(|n| format!("2026-11-21T00:00:{n:02}.000000000Z")).collect();
    let order = in_order(&[times(&[1, 5, 3, 9]), times(&[2, 4, 6]), times(&[])]);
    // The 3 comes after its own 5 and before the other's 6.
    assert_eq!(order, [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2), (0, 3)]);
    assert_eq!(in_order(&[]), []);
}
