//! Changes a container that is there: its limits, its restart policy, its published ports and its mounts.

use std::sync::Arc;

use davit_proto::container::{ContainerSpec, Phase, Resources, UpdateRequest};
use davit_proto::id::ContainerId;
use davit_proto::status::Classify as _;
use davit_proto::{reason, task};
use oci_spec::runtime::LinuxResources;

use super::bundle::Bundle;
use super::live::status_of;
use super::publish::{self, Wanted};
use super::spec::resource;
use super::{create, mount, spec, validate, want};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::events;
use crate::shim::{LONG, within};
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
    if mounts(request) {
        mount::check(&container, &request.mount_add, &request.mount_remove)?;
    }
    if let Some(restart) = request.restart {
        let spec = ContainerSpec { restart: Some(restart), ..container.spec.clone().unwrap_or_default() };
        validate::restart(&spec)?;
    }
    let wanted = ports(request);
    if !(wanted.add.is_empty() && wanted.remove.is_empty()) {
        publish::check(&container, &wanted)?;
    }
    Ok(())
}

fn mounts(request: &UpdateRequest) -> bool {
    !(request.mount_add.is_empty() && request.mount_remove.is_empty())
}

fn ports(request: &UpdateRequest) -> Wanted {
    Wanted { add: request.publish_add.clone(), remove: request.publish_remove.clone() }
}

async fn change(
    engine: &Arc<Engine>,
    id: &ContainerId,
    request: UpdateRequest,
    actor: &Actor,
) -> Result<Vec<String>, Error> {
    let restart = request.restart;
    let wanted = ports(&request);
    let mut told = Vec::new();
    // First, for it is the likeliest to be refused.
    if !(wanted.add.is_empty() && wanted.remove.is_empty()) {
        let spec = publish::check(&engine.container(id)?, &wanted)?;
        told = publish::publish(engine, id, spec).await?;
    }
    if mounts(&request) {
        let spec = mount::check(&engine.container(id)?, &request.mount_add, &request.mount_remove)?;
        mount::change(engine, id, spec).await?;
    }
    let (limits, warnings) = match request.resources.filter(|change| *change != Resources::default()) {
        Some(change) => {
            let limits = limits(engine, id, &change).await?;
            let warnings = apply(engine, id, &limits, actor).await?;
            (Some(limits.wanted), warnings)
        }
        None => (None, Vec::new()),
    };
    let entered = engine.store.update(id, |record| {
        let container = record.container.as_mut()?;
        let spec = container.spec.get_or_insert_default();
        if let Some(policy) = restart {
            spec.restart = Some(policy);
        }
        if let Some(limits) = &limits {
            spec.resources = Some(limits.clone());
        }
        let facts = [("cause", actor.text().to_owned())];
        let told = Change::told(events::of_container(container, "update", facts));
        told.map(|change| change.explained("was updated", actor.text()))
    });
    let Some(record) = entered else { return Ok(Vec::new()) };
    // Were it only in the bundle, the next start would take it from there without a word.
    engine.store.written(record.container.as_ref().map_or(0, |container| container.revision)).await;
    // The shim looks there before each restart.
    want::want(engine, id, want::wanted(engine, id))?;
    let bundle = Bundle::new(engine.config.bundle(id));
    bundle.write_spec(&record).map_err(Error::io(format!("write {}", bundle.file("spec.json").display())))?;
    create::keep(engine, id).await?;
    told.extend(warnings);
    Ok(told)
}

/// New limits, in the words of the request and of the runtime.
struct Limits {
    wanted: Resources,
    runtime: LinuxResources,
}

/// What the limits come to when some are changed. Everything that can be known to be wrong is refused here.
async fn limits(engine: &Engine, id: &ContainerId, change: &Resources) -> Result<Limits, Error> {
    let wish = engine.container(id)?.spec.unwrap_or_default();
    let wanted = resource::merged(&wish.resources.unwrap_or_default(), change);
    resource::check(&wanted)?;
    // Only the limits: the devices that the container uses were found when it was made.
    let limited = ContainerSpec { resources: Some(wanted.clone()), ..ContainerSpec::default() };
    let spec = limited.clone();
    let devices = tokio::task::spawn_blocking(move || spec::Devices::find(&spec));
    let devices = devices
        .await
        .map_err(|error| Error::Task { doing: "look at the host", why: error.to_string() })??;
    let runtime = resource::resources(&limited, &devices, &engine.facts.host)?;
    Ok(Limits { wanted, runtime })
}

/// Sets the limits of a container that lives, then notes them where its shim looks before each further life. One that
/// does not live gets them when it is started.
async fn apply(
    engine: &Arc<Engine>,
    id: &ContainerId,
    limits: &Limits,
    actor: &Actor,
) -> Result<Vec<String>, Error> {
    let container = engine.container(id)?;
    let status = status_of(&container);
    if status.phase() == Phase::Unknown {
        return Err(Error::Unreachable { id: id.clone(), why: status.error });
    }
    let Ok(shim) = engine.shim(id) else { return Ok(Vec::new()) };
    let failed = |error: serde_json::Error| Error::io("write the limits as JSON")(error.into());
    let resources = serde_json::to_vec(&limits.runtime).map_err(failed)?;
    let request = task::UpdateRequest { resources, actor: actor.to_string() };
    let changed = match within(LONG, "change the limits", shim.tasks().update(request)).await {
        Ok(changed) => changed,
        // Its last life is over, and its shim about to go.
        Err(error) if error.reason() == reason::CONTAINER_NOT_RUNNING => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let bundle = Bundle::new(engine.config.bundle(id));
    let noted = bundle.read_config().and_then(|config| match config {
        Some(mut config) => {
            enter(&mut config, &limits.runtime);
            bundle.write_config(&config)
        }
        None => Ok(()),
    });
    noted.map_err(Error::io(format!("write {}", bundle.file("config.json").display())))?;
    Ok(changed.warnings)
}

/// Everything but the rules for devices, which an update leaves alone.
fn enter(config: &mut oci_spec::runtime::Spec, limits: &LinuxResources) {
    let Some(linux) = config.linux_mut() else { return };
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().clone());
    let mut resources = limits.clone();
    resources.set_devices(rules);
    linux.set_resources(Some(resources));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_keeps_the_rules_for_devices() {
        let config = r#"{"ociVersion":"1.2.0","linux":{"resources":{"pids":{"limit":5},
            "devices":[{"allow":true,"type":"c","major":7,"minor":1,"access":"r"}]}}}"#;
        let mut config: oci_spec::runtime::Spec = serde_json::from_str(config).unwrap();
        let limits = r#"{"pids":{"limit":9},"devices":[{"allow":false,"access":"rwm"}]}"#;
        enter(&mut config, &serde_json::from_str(limits).unwrap());
        let resources = config.linux().as_ref().unwrap().resources().clone().unwrap();
        assert_eq!(resources.pids().unwrap().limit(), 9);
        assert_eq!(resources.devices().as_ref().unwrap()[0].major(), Some(7));
    }
}
