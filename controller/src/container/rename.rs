//! Gives a container another name.

use std::sync::Arc;

use davit_proto::id::{ContainerId, Name};

use super::bundle::Bundle;
use super::{converge, create, hosts};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::store::Change;

/// Renames a container, in the store and in its bundle.
///
/// # Errors
/// When the name is no name, or taken.
pub async fn rename(engine: &Arc<Engine>, id: &ContainerId, name: &str, actor: &Actor) -> Result<(), Error> {
    let name: Name = name.parse()?;
    let _turn = engine.turn(id).await;
    let before = engine.container(id)?.name;
    // Who is cut off before its networks know tells them at the next start.
    mark(engine, id, engine.has_shim(id));
    let renamed = engine.store.rename(id, name.as_str(), actor.text());
    let record = renamed.inspect_err(|_| mark(engine, id, false))?;
    // Were it only in the bundle, the next start would take it from there without a word.
    let revision = record.container.as_ref().map_or(0, |container| container.revision);
    engine.store.written(revision).await;
    let bundle = Bundle::new(engine.config.bundle(id));
    if let Err(error) = converge::name(engine, id).await {
        engine.store.rename(id, &before, actor.text())?;
        mark(engine, id, false);
        return Err(error);
    }
    mark(engine, id, false);
    hosts::follow_links(engine, id)?;
    let record = engine.record(id)?;
    bundle.write_spec(&record).map_err(Error::io(format!("write {}", bundle.file("spec.json").display())))?;
    create::keep(engine, id).await
}

fn mark(engine: &Engine, id: &ContainerId, rewiring: bool) {
    engine.store.update(id, |record| {
        let before = std::mem::replace(&mut record.rewiring, rewiring);
        if before == rewiring { None } else { Change::silent() }
    });
}
