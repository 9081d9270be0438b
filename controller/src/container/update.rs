//! Changes a container that is there: its limits and its restart policy.

use std::sync::Arc;

use davit_proto::container::{ContainerSpec, UpdateRequest};
use davit_proto::id::ContainerId;

use super::bundle::Bundle;
use super::{create, spec, validate, want};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::events;
use crate::store::Change;

/// Changes a container; answers with what a person should know. A caller who goes away does not stop it midway.
///
/// # Errors
/// When the request is wrong, the container is not at the revision that was expected, or a step fails.
pub async fn update(
    engine: &Arc<Engine>,
    id: &ContainerId,
    request: UpdateRequest,
    actor: &Actor,
) -> Result<Vec<String>, Error> {
    let (engine, id, actor) = (engine.clone(), id.clone(), actor.clone());
    let changed = tokio::spawn(async move {
        let _turn = engine.turn(&id).await;
        engine.heard_from(&id).await;
        check(&engine, &id, &request)?;
        change(&engine, &id, request, &actor).await
    });
    changed.await.map_err(|error| Error::Task { doing: "update the container", why: error.to_string() })?
}

/// Everything that can be refused, before anything is changed.
fn check(engine: &Engine, id: &ContainerId, request: &UpdateRequest) -> Result<(), Error> {
    let record = engine.record(id)?;
    let container = record.container.clone().unwrap_or_default();
    if request.if_revision != 0 && request.if_revision != container.revision {
        return Err(Error::Outdated {
            container: container.name,
            expected: request.if_revision,
            present: container.revision,
        });
    }
    let ports = !(request.publish_add.is_empty() && request.publish_remove.is_empty());
    let mounts = !(request.mount_add.is_empty() && request.mount_remove.is_empty());
    if ports || mounts {
        let what = if ports { "changing published ports is" } else { "changing mounts is" };
        return Err(spec::Error::Unserved(what.to_owned()).into());
    }
    if let Some(restart) = request.restart {
        let spec = ContainerSpec { restart: Some(restart), ..container.spec.unwrap_or_default() };
        validate::restart(&spec)?;
    }
    Ok(())
}

async fn change(
    engine: &Arc<Engine>,
    id: &ContainerId,
    request: UpdateRequest,
    actor: &Actor,
) -> Result<Vec<String>, Error> {
    let restart = request.restart;
    let entered = engine.store.update(id, |record| {
        let container = record.container.as_mut()?;
        let spec = container.spec.get_or_insert_default();
        if let Some(policy) = restart {
            spec.restart = Some(policy);
        }
        Change::told(events::of_container(container, "update", []))
    });
    let Some(record) = entered else { return Ok(Vec::new()) };
    // The shim looks there before each restart.
    want::want(engine, id, want::wanted(engine, id))?;
    let bundle = Bundle::new(engine.config.bundle(id));
    bundle.write_spec(&record).map_err(Error::io(format!("write {}", bundle.file("spec.json").display())))?;
    create::keep(engine, id).await?;
    Ok(Vec::new())
}
