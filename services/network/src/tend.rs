//! What is looked after while nobody calls: the firewall, which others may flush; forwarding, which others may switch
//! off; bridges, which others may take down or away; and the files of names.
//!
//! The kernel tells of each change to any table, so a flush is made good at once. The rest is looked at now and then,
//! and so is the firewall where the kernel cannot tell.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::link;
use crate::netlink::Events;
use crate::networks::{Networks, Shared};

/// How often it is looked without a cause.
const PERIOD: Duration = Duration::from_secs(3);
/// How long further changes are waited for, so that a burst of them is one look.
const GATHER: Duration = Duration::from_millis(30);
/// What is put right again and again is told once in so long.
const QUIET: Duration = Duration::from_secs(60);

/// What was told already.
#[derive(Debug, Default)]
struct Told {
    problems: BTreeSet<String>,
    restored: Option<Instant>,
}

/// Looks after the networks until the last handle of them is gone.
pub fn start(networks: &Networks) {
    let shared = Arc::downgrade(networks.shared());
    let mut events = Events::open()
        .inspect_err(
            |error| tracing::warn!(%error, "the kernel tells of no changes to firewalls: looking instead"),
        )
        .ok();
    let told = Arc::<Mutex<Told>>::default();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let all = tokio::select! {
                _ = ticks.tick() => true,
                failed = changed(events.as_ref()) => {
                    if let Err(error) = failed {
                        tracing::warn!(%error, "the kernel tells of no more changes to firewalls: looking instead");
                        events = None;
                    }
                    tokio::time::sleep(GATHER).await;
                    false
                }
            };
            let Some(networks) = Weak::<Shared>::upgrade(&shared).map(Networks::of) else { return };
            let told = Arc::clone(&told);
            let look = move || networks.tend(&mut told.lock().unwrap_or_else(PoisonError::into_inner), all);
            if tokio::task::spawn_blocking(look).await.is_err() {
                tracing::error!("looking after the networks failed; this is a fault of davit");
            }
        }
    });
}

/// Waits for a change; without anybody who tells of it, forever.
async fn changed(events: Option<&Events>) -> std::io::Result<()> {
    match events {
        Some(events) => events.changed().await,
        None => std::future::pending().await,
    }
}

impl Networks {
    /// Looks once: at all, or only at what was told to have changed.
    fn tend(&self, told: &mut Told, all: bool) {
        let mut problems = BTreeSet::new();
        let repaired = self.ground().firewall.repair();
        match repaired {
            Ok(false) => {}
            Ok(true) => {
                if told.restored.is_none_or(|at| at.elapsed() > QUIET) {
                    tracing::warn!("somebody changed our firewall table or forwarding; restored");
                }
                told.restored = Some(Instant::now());
            }
            Err(error) => {
                problems.insert(format!("cannot look after our firewall table: {}", chain(&error.into())));
            }
        }
        if all {
            self.repair_names();
            match self.examine() {
                Ok(found) => problems.extend(found),
                Err(error) => {
                    problems.insert(format!("cannot look after bridges: {}", chain(&error)));
                }
            }
        } else {
            problems.extend(told.problems.iter().cloned());
        }
        for problem in problems.difference(&told.problems) {
            tracing::error!("{problem}");
        }
        told.problems = problems;
    }

    /// What is wrong with the bridges that containers are on, other than what can be put right: one that is down is
    /// brought up. One that is gone is made again when the next container comes.
    pub fn examine(&self) -> Result<Vec<String>, Error> {
        let mut problems = Vec::new();
        let mut ground = self.ground();
        let used: Vec<_> = {
            let books = self.books();
            let used = books.networks().filter(|network| !books.members(&network.id).is_empty());
            used.filter_map(|network| Some((network.clone(), network.bridge.clone()?.link))).collect()
        };
        if used.is_empty() {
            return Ok(problems);
        }
        let failed = || Error::kernel("look at the bridges");
        let connection = link::open().map_err(failed())?;
        for (network, bridge) in used {
            match link::find(&connection, bridge.as_str()).map_err(failed())? {
                Some(found) if found.up => {}
                Some(found) => {
                    link::up(&connection, found.index).map_err(failed())?;
                    tracing::warn!(%bridge, network = %network.name, "somebody took a bridge down; it is up again");
                }
                None => {
                    ground.doubt(&network.id);
                    problems.push(format!(
                        "somebody removed bridge {bridge}: containers on network {} reach nobody until they are \
                         started again",
                        network.name
                    ));
                }
            }
        }
        Ok(problems)
    }

    /// What a person should know of this host.
    pub fn warnings(&self) -> Result<Vec<String>, Error> {
        let mut warnings = self.examine()?;
        warnings.extend(self.ground().firewall.foreign_drops());
        Ok(warnings)
    }
}

fn chain(error: &Error) -> String {
    davit_proto::status::chain(error)
}
