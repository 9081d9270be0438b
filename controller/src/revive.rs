//! Starts again what nobody else can: containers whose shim was killed, and after a restart of the host all that their
//! policies say. As long as its shim lives, a container is restarted there, whoever else is dead.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use davit_proto::container::Phase;
use davit_proto::id::ContainerId;
use davit_proto::status::chain;
use davit_proto::store::ContainerRecord;
use davit_proto::wanted::{Mode, Want};
use futures_util::StreamExt as _;

use crate::actor::Actor;
use crate::container::live::{self, status_of};
use crate::container::{journal, links, start, want};
use crate::engine::Engine;
use crate::store::{self, Change};

/// Wait before the first restart after a shim was killed; doubled each time until the last.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(60);
/// A life that took so long begins the waits anew, in seconds.
const LONG_LIFE: u64 = 10;
/// Containers that are started at the same time when the engine begins.
const WIDTH: usize = 4;

/// Why a container without a shim is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Its shim was killed, now or while the engine was dead.
    CutOff,
    /// The host was restarted, which ends all and forgives what a person stopped where the policy says always.
    Reboot,
}

/// How often in a row each container's shim was killed after a short life.
#[derive(Debug, Default)]
pub struct Cuts(Mutex<HashMap<ContainerId, u32>>);

impl Cuts {
    /// How long to wait before the next start.
    fn delay(&self, id: &ContainerId, lived: u64) -> Duration {
        let mut cuts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = cuts.entry(id.clone()).or_default();
        if lived >= LONG_LIFE {
            *count = 0;
        }
        let delay = FIRST_DELAY.saturating_mul(1 << (*count).min(20)).min(LAST_DELAY);
        *count += 1;
        delay
    }

    fn forget(&self, known: impl Fn(&ContainerId) -> bool) {
        let mut cuts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cuts.len() > 64 {
            cuts.retain(|id, _| known(id));
        }
    }
}

/// Whether a container that has no shim is to be started.
fn is_due(record: &ContainerRecord, wanted: Want, occasion: Occasion) -> bool {
    let Some(container) = &record.container else { return false };
    let status = status_of(container);
    // One that was never started waits for a person, and so does one whose program could not be executed.
    let Some(exit) = status.exit.as_ref().filter(|exit| exit.started_at.is_some()) else { return false };
    if !matches!(status.phase(), Phase::Exited | Phase::Restarting) {
        return false;
    }
    let restart = want::restart(&container.spec.clone().unwrap_or_default());
    // By its policy, or because its health asked for its end: nobody says of that what is wanted.
    let gave_up = status.life != 0 && [record.gave_up, record.stopping].contains(&status.life);
    let run = wanted == Want::Run;
    match (restart.mode, occasion) {
        (Mode::No, _) => false,
        (Mode::Always, Occasion::Reboot) => true,
        (Mode::UnlessStopped, Occasion::Reboot) => run,
        (Mode::Always | Mode::UnlessStopped, Occasion::CutOff) => run && !gave_up,
        (Mode::OnFailure, _) => {
            let tries = restart.max_retries == 0 || status.restart_count < restart.max_retries;
            run && exit.exit_code != 0 && tries && !gave_up
        }
    }
}

/// Whether a container does not run and its policy says that it should, as after the death of its shim.
#[must_use]
pub fn is_overdue(engine: &Engine, id: &ContainerId) -> bool {
    engine.store.get(id).is_some_and(|record| is_due(&record, want::wanted(engine, id), Occasion::CutOff))
}

/// A shim was killed: its container is started again when its policy says so, later each time.
pub fn after_a_cut(engine: &Arc<Engine>, id: &ContainerId) {
    let Some(record) = engine.store.get(id) else { return };
    if !is_due(&record, want::wanted(engine, id), Occasion::CutOff) {
        return;
    }
    let exit = record.container.as_ref().and_then(|container| status_of(container).exit);
    let delay = engine.cuts.delay(id, exit.as_ref().and_then(journal::seconds).unwrap_or_default());
    engine.cuts.forget(|id| engine.store.get(id).is_some());
    engine.store.update(id, |record| {
        let status = status_of(record.container.as_ref()?);
        if status.phase() != Phase::Exited {
            return None;
        }
        let count = status.restart_count + 1;
        live::restarting(record, count);
        let change = format!("waits {delay:?} for its restart {count}");
        Change::silent().map(|told| told.explained(change, "its shim was killed, and its policy says so"))
    });
    let (engine, id) = (engine.clone(), id.clone());
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        again(&engine, &id, Occasion::CutOff).await;
    });
}

/// The engine begins: what is at rest and should not be is started, a few at a time, and who needs others after them.
pub async fn at_rest(engine: &Arc<Engine>, occasion: Occasion) {
    let ids = engine.store.all().records;
    let due = ids.iter().filter_map(|record| {
        let id = store::record_id(record).ok()?;
        let container = record.container.as_ref()?;
        let at_rest = status_of(container).phase() == Phase::Exited && !engine.has_shim(&id);
        let due = at_rest && is_due(record, want::wanted(engine, &id), occasion);
        due.then(|| (id, links::needed(container.spec.as_ref())))
    });
    for wave in waves(due.collect()) {
        futures_util::stream::iter(wave)
            .for_each_concurrent(WIDTH, |id| async move { again(engine, &id, occasion).await })
            .await;
    }
}

/// Containers in the order in which they can be started: each wave needs only those before it. Who needs each other comes
/// last, and says why it cannot be started.
fn waves(mut due: Vec<(ContainerId, Vec<String>)>) -> Vec<Vec<ContainerId>> {
    let mut waves = Vec::new();
    while !due.is_empty() {
        let left: HashSet<String> = due.iter().map(|(id, _)| id.to_string()).collect();
        let (mut wave, mut rest): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(_, needed)| !needed.iter().any(|other| left.contains(other)));
        if wave.is_empty() {
            wave = std::mem::take(&mut rest);
        }
        waves.push(wave.into_iter().map(|(id, _)| id).collect());
        due = rest;
    }
    waves
}

async fn again(engine: &Arc<Engine>, id: &ContainerId, occasion: Occasion) {
    let actor = Actor::engine(match occasion {
        Occasion::CutOff => "the engine, by its restart policy: its shim was killed",
        Occasion::Reboot => "the engine, by its restart policy: the host was restarted",
    });
    let started =
        start::by_policy(engine, id, move |record, wanted| is_due(record, wanted, occasion), &actor).await;
    let failed = match started {
        Ok(Some(_)) => None,
        Ok(None) => Some(None),
        Err(error) if error.is_missing() => return,
        Err(error) => Some(Some(chain(&error))),
    };
    let Some(why) = failed else { return };
    if let Some(why) = &why {
        engine.recovered(format!("container {id} was not started again: {why}"));
    }
    engine.store.update(id, |record| {
        // Somebody else started or removed it.
        let waits = !engine.has_shim(id) && store::phase(record) == Phase::Restarting;
        let change = if waits { live::alone(record) } else { None };
        match &why {
            None => change,
            Some(why) => {
                change.or_else(Change::silent).map(|c| c.explained("was not started again", why.clone()))
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_others_is_started_after_them() {
        let ids: Vec<ContainerId> = (0..4).map(|_| ContainerId::generate().unwrap()).collect();
        let due = |needs: [&[usize]; 4]| {
            let needed = |list: &[usize]| list.iter().map(|n| ids[*n].to_string()).collect();
            ids.iter().cloned().zip(needs.map(needed)).collect()
        };
        let places = |waves: Vec<Vec<ContainerId>>| -> Vec<Vec<usize>> {
            let place = |id: &ContainerId| ids.iter().position(|known| known == id).unwrap();
            waves.iter().map(|wave| wave.iter().map(place).collect()).collect()
        };
        assert_eq!(places(waves(due([&[1, 2], &[2], &[], &[]]))), [vec![2, 3], vec![1], vec![0]]);
        assert_eq!(places(waves(due([&[1], &[0], &[], &[]]))), [vec![2, 3], vec![0, 1]], "a circle");
        assert!(waves(Vec::new()).is_empty());
    }
    use davit_proto::container::{Container, ContainerSpec, ContainerStatus, RestartMode, RestartPolicy};
    use davit_proto::types::Exit;

    fn record(mode: RestartMode, code: u32, restarts: u32) -> ContainerRecord {
        let exit = Exit {
            life: 1,
            exit_code: code,
            started_at: Some(prost_types::Timestamp::default()),
            ..Exit::default()
        };
        let mut status = ContainerStatus {
            life: 1,
            exit: Some(exit),
            restart_count: restarts,
            ..ContainerStatus::default()
        };
        status.set_phase(Phase::Exited);
        let restart = Some(RestartPolicy {
            mode: mode.into(),
            max_retries: if mode == RestartMode::OnFailure { 3 } else { 0 },
        });
        let spec = Some(ContainerSpec { restart, ..ContainerSpec::default() });
        let container = Container { spec, status: Some(status), ..Container::default() };
        ContainerRecord { container: Some(container), ..ContainerRecord::default() }
    }

    #[test]
    fn every_policy_at_every_occasion() {
        use Occasion::{CutOff, Reboot};
        use RestartMode::{Always, No, OnFailure, UnlessStopped};
        for (mode, code, wanted, occasion, due) in [
            (No, 1, Want::Run, Reboot, false),
            (Always, 0, Want::Run, CutOff, true),
            (Always, 0, Want::Stop, CutOff, false),
            (Always, 0, Want::Stop, Reboot, true),
            (UnlessStopped, 0, Want::Run, CutOff, true),
            (UnlessStopped, 0, Want::Run, Reboot, true),
            (UnlessStopped, 0, Want::Stop, Reboot, false),
            (OnFailure, 137, Want::Run, CutOff, true),
            (OnFailure, 137, Want::Run, Reboot, true),
            (OnFailure, 0, Want::Run, Reboot, false),
            (OnFailure, 137, Want::Stop, Reboot, false),
        ] {
            assert_eq!(
                is_due(&record(mode, code, 0), wanted, occasion),
                due,
                "{mode:?} {code} {wanted:?} {occasion:?}"
            );
        }
        assert!(!is_due(&record(OnFailure, 1, 3), Want::Run, Reboot), "tried often enough");
    }

    #[test]
    fn who_gave_up_or_never_ran_is_left_alone() {
        let gave_up = ContainerRecord { gave_up: 1, ..record(RestartMode::Always, 1, 0) };
        assert!(!is_due(&gave_up, Want::Run, Occasion::CutOff));
        assert!(is_due(&gave_up, Want::Run, Occasion::Reboot));
        let unhealthy = ContainerRecord { stopping: 1, ..record(RestartMode::Always, 143, 0) };
        assert!(!is_due(&unhealthy, Want::Run, Occasion::CutOff));
        let mut unborn = record(RestartMode::Always, 127, 0);
        let status = unborn.container.as_mut().unwrap().status.as_mut().unwrap();
        status.exit.as_mut().unwrap().started_at = None;
        assert!(!is_due(&unborn, Want::Run, Occasion::Reboot));
    }

    #[test]
    fn waits_grow_until_a_life_is_long() {
        let cuts = Cuts::default();
        let id: ContainerId = "ab".repeat(32).parse().unwrap();
        let waits: Vec<_> = (0..4).map(|_| cuts.delay(&id, 1).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800]);
        assert_eq!(cuts.delay(&id, 30), FIRST_DELAY);
        for _ in 0..30 {
            cuts.delay(&id, 0);
        }
        assert_eq!(cuts.delay(&id, 0), LAST_DELAY);
    }
}
