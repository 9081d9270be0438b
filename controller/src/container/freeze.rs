//! A container that is frozen for as long as its files are read, and no longer: not when the reader fails, not when the
//! client goes, and not when this process is killed, for a mark in the bundle says whose the freeze is.
//!
//! ```text
//! mark ─▶ pause ─▶ … ─▶ resume ─▶ no mark
//!  └─ killed anywhere: the next start resumes and takes the mark away
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use davit_proto::container::Phase;
use davit_proto::id::ContainerId;
use tokio::sync::Mutex;

use super::bundle::Bundle;
use super::live::status_of;
use super::{pause, resume};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint;

/// How many readers each frozen container has.
#[derive(Debug, Default)]
pub struct Freezes {
    readers: Mutex<HashMap<ContainerId, usize>>,
}

/// A container that stays frozen until the last of these is gone.
#[derive(Debug)]
pub struct Frozen {
    engine: Arc<Engine>,
    id: ContainerId,
    actor: Actor,
    thawed: bool,
}

impl Frozen {
    /// Freezes a container. None when it does not run, or is frozen by somebody else's wish: that one stays.
    ///
    /// # Errors
    /// When it runs and cannot be frozen.
    pub async fn begin(engine: &Arc<Engine>, id: &ContainerId, actor: &Actor) -> Result<Option<Self>, Error> {
        // A caller who goes away cuts nothing in halves: what nobody takes thaws.
        let freezing = tokio::spawn(Self::freeze(engine.clone(), id.clone(), actor.clone()));
        freezing.await.map_err(|error| Error::Task { doing: "freeze a container", why: error.to_string() })?
    }

    async fn freeze(engine: Arc<Engine>, id: ContainerId, actor: Actor) -> Result<Option<Self>, Error> {
        engine.heard_from(&id).await;
        let mut readers = engine.freezes.readers.lock().await;
        match readers.get_mut(&id) {
            Some(count) => *count += 1,
            None if pause_marked(&engine, &id, &actor).await? => {
                readers.insert(id.clone(), 1);
            }
            None => return Ok(None),
        }
        drop(readers);
        Ok(Some(Self { engine, id, actor, thawed: false }))
    }

    /// Lets the container run on, unless somebody else still reads it.
    ///
    /// # Errors
    /// When it is frozen and stays so.
    pub async fn thaw(mut self) -> Result<(), Error> {
        self.thawed = true;
        thaw(&self.engine, &self.id, &self.actor).await
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if self.thawed {
            return;
        }
        let (engine, id, actor) = (self.engine.clone(), self.id.clone(), self.actor.clone());
        tokio::spawn(async move {
            if let Err(error) = thaw(&engine, &id, &actor).await {
                tracing::error!(container_id = %id, %error, "a container stays frozen");
            }
        });
    }
}

async fn thaw(engine: &Arc<Engine>, id: &ContainerId, actor: &Actor) -> Result<(), Error> {
    let mut readers = engine.freezes.readers.lock().await;
    match readers.get_mut(id) {
        Some(count) if *count > 1 => {
            *count -= 1;
            return Ok(());
        }
        _ => readers.remove(id),
    };
    resume_marked(engine, id, actor).await
}

/// Marks a container and freezes it. False when there is nothing to freeze.
async fn pause_marked(engine: &Arc<Engine>, id: &ContainerId, actor: &Actor) -> Result<bool, Error> {
    if status_of(&engine.container(id)?).phase() != Phase::Running {
        return Ok(false);
    }
    let bundle = Bundle::new(engine.config.bundle(id));
    bundle.mark_frozen().map_err(Error::io(format!("mark container {id} as frozen")))?;
    let frozen = match failpoint::pass(failpoint::COMMIT_MARKED).await {
        Ok(()) => pause::pause(engine, id, actor).await,
        Err(error) => Err(error),
    };
    let unmark = || bundle.unmark_frozen().map_err(Error::io(format!("take the mark from container {id}")));
    match frozen {
        Ok(()) => Ok(true),
        // It ended, or was frozen by somebody else, since it was looked at.
        Err(Error::Phase { .. } | Error::NotRunning { .. }) => unmark().map(|()| false),
        Err(error @ Error::Failpoint(_)) => unmark().and(Err(error)),
        Err(error) => {
            // It may be frozen all the same.
            if let Err(error) = resume_marked(engine, id, actor).await {
                tracing::error!(container_id = %id, %error, "a container may stay frozen");
            }
            Err(error)
        }
    }
}

/// Lets a marked container run on, and takes the mark away.
async fn resume_marked(engine: &Arc<Engine>, id: &ContainerId, actor: &Actor) -> Result<(), Error> {
    match resume::resume(engine, id, actor).await {
        // Somebody was quicker, or it has ended, or is no more.
        Ok(()) | Err(Error::Phase { .. } | Error::NotRunning { .. } | Error::Unresolved(_)) => {}
        Err(error) => return Err(error),
    }
    let bundle = Bundle::new(engine.config.bundle(id));
    bundle.unmark_frozen().map_err(Error::io(format!("take the mark from container {id}")))
}

/// Lets those containers run on that an earlier process froze and could not thaw.
pub async fn thaw_left(engine: &Arc<Engine>, bundles: impl Iterator<Item = &ContainerId>) {
    for id in bundles {
        let marked = Bundle::new(engine.config.bundle(id)).is_marked_frozen();
        if !marked.unwrap_or(false) || engine.freezes.readers.lock().await.contains_key(id) {
            continue;
        }
        match resume_marked(engine, id, &Actor::engine("recovery")).await {
            Ok(()) => engine.recovered(format!("container {id} was frozen for a commit, and runs on")),
            Err(error) => tracing::error!(container_id = %id, %error, "a container stays frozen"),
        }
    }
}
