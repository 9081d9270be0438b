//! Makes a container: with [`assemble`](super::assemble) the one place that shows the order.
//!
//! Each step leaves only what [`release`] finds by the container's id, so the engine may be cut off anywhere: what
//! is half-made is released at the next start.

use std::sync::Arc;

use davit_proto::container::{Container, ContainerSpec, ContainerStatus, CreateRequest, Phase, UserIds};
use davit_proto::id::{ContainerId, InvalidId, Name};
use davit_proto::status::chain;
use davit_proto::store::ContainerRecord;
use davit_proto::task::{IdMap, Shape};
use prost::Message as _;
use sha2::Digest as _;

use super::assemble::{self, Assembled, Made};
use super::bundle::Bundle;
use super::{join, launch, links, network, release, remove, shape, userns, validate, volumes_from};
use crate::actor::Actor;
use crate::engine::{Engine, Turn};
use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::pool::{self, Item, Kind};
use crate::store::{self, Conflict, Inserted};
use crate::{name, supervise};

/// Names that are tried before the store is asked to decide.
const NAMES: u32 = 20;

/// What the answer to a create promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// The container survives a power cut.
    Durable,
    /// It survives the death of the engine. [`keep`] makes it durable later, beside its start.
    Cached,
}

/// A container that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: ContainerId,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Number of the change.
    pub revision: u64,
}

/// Makes a container. A caller who goes away meanwhile does not stop it midway.
///
/// # Errors
/// When the request is wrong, the name is taken, or a step fails; then nothing is left.
pub async fn create(
    engine: &Arc<Engine>,
    request: CreateRequest,
    promise: Promise,
    actor: &Actor,
) -> Result<Created, Error> {
    validate::create(&request)?;
    let mut spec = request.spec.clone().unwrap_or_default();
    join::name_by_id(engine, &mut spec)?;
    links::name_by_id(engine, &mut spec)?;
    network::name(engine, &mut spec).await?;
    volumes_from::take(engine, &mut spec)?;
    let wish = Wish { shape: shape::of(&spec)?, spec };
    let (engine, actor) = (engine.clone(), actor.clone());
    let made = tokio::spawn(async move {
        match intend(&engine, &request, &wish).await? {
            Intent::Repeated(created) => {
                if promise == Promise::Durable {
                    keep(&engine, &created.id).await?;
                }
                Ok(created)
            }
            Intent::New(record, _turn, item) => finish(&engine, &record, item, promise, &actor).await,
        }
    });
    made.await.map_err(|error| Error::Task { doing: "make the container", why: error.to_string() })?
}

/// What is kept of a request.
#[derive(Clone)]
struct Wish {
    /// Other containers are named by their ids.
    spec: ContainerSpec,
    shape: Shape,
}

/// Makes a container that was made before survive a power cut: its files, which are the ground, and the store.
///
/// # Errors
/// When the disk refuses.
pub async fn keep(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let bundle = Bundle::new(engine.config.bundle(id));
    let doing = format!("make {} durable", bundle.path().display());
    let files = tokio::task::spawn_blocking(move || bundle.sync());
    let (files, store) = tokio::join!(files, engine.store.sync());
    files
        .map_err(|error| Error::Task { doing: "sync", why: error.to_string() })?
        .map_err(Error::io(doing))?;
    if let Err(error) = store {
        // It said so itself, once; the bundle is enough to rebuild the record from.
        tracing::debug!(%error, container_id = %id, "kept by its files only");
    }
    Ok(())
}

enum Intent {
    /// A new record, the turn to make it true, and a shim that was prepared for it before it was known.
    New(Arc<ContainerRecord>, Turn, Option<Item>),
    /// The same request came before.
    Repeated(Created),
}

/// Step 1: what is wanted, before anything is done. Its id is that of a prepared shim, where there is one that fits.
async fn intend(engine: &Arc<Engine>, request: &CreateRequest, wish: &Wish) -> Result<Intent, Error> {
    let item = Kind::of(&wish.spec, &wish.shape).and_then(|kind| engine.pool.take(kind));
    let id = match &item {
        Some(item) => item.id.clone(),
        None => ContainerId::generate()
            .map_err(|error| Error::io("make a container id")(std::io::Error::other(error)))?,
    };
    // Nobody knows the id yet, so the turn is free.
    let turn = engine.turn(&id).await;
    let first = match enter_new(engine, &id, request, wish).await {
        Ok(None) => {
            return write_down(engine, &id, item).await.map(|(record, item)| Intent::New(record, turn, item));
        }
        Ok(Some(first)) => Ok(Intent::Repeated(first)),
        Err(error) => Err(error),
    };
    drop(turn);
    if let Some(item) = item {
        pool::give_back(engine, item).await;
    }
    first
}

/// Enters a new record; answers with what came of an earlier request that was the same.
async fn enter_new(
    engine: &Arc<Engine>,
    id: &ContainerId,
    request: &CreateRequest,
    wish: &Wish,
) -> Result<Option<Created>, Error> {
    let mut tries = 0;
    loop {
        let chosen = choose_name(engine, &request.name, tries)?;
        match insert(engine, id, chosen, request, wish)? {
            Ok(Inserted::New(_)) => return Ok(None),
            Ok(Inserted::Repeated(first)) => {
                if let Some(created) = join(engine, &first, request).await {
                    return Ok(Some(created));
                }
            }
            Err(Conflict::NameTaken { .. }) if request.name.is_empty() && tries < NAMES * 2 => {}
            Err(conflict) => return Err(conflict.into()),
        }
        tries += 1;
    }
}

/// Writes the request into the bundle.
async fn write_down(
    engine: &Arc<Engine>,
    id: &ContainerId,
    item: Option<Item>,
) -> Result<(Arc<ContainerRecord>, Option<Item>), Error> {
    engine.pool.reveal(id);
    let record = engine.record(id)?;
    let bundle = Bundle::new(engine.config.bundle(id));
    let written = async {
        pass(failpoint::CREATE_RECORDED).await?;
        let failed = || Error::io(format!("make {}", bundle.path().display()));
        if item.is_none() {
            bundle.make().map_err(failed())?;
        }
        bundle.write_spec(&record).map_err(failed())?;
        if item.is_some() {
            bundle.claim().map_err(failed())?;
            pass(failpoint::POOL_TAKEN).await?;
        }
        pass(failpoint::CREATE_INTENT).await
    };
    match written.await {
        Ok(()) => Ok((record, item)),
        Err(error) => {
            drop(item.map(Item::into_prepared));
            Err(undo(engine, id, error).await)
        }
    }
}

/// Ids are chosen and written down before anybody else can choose.
fn insert(
    engine: &Engine,
    id: &ContainerId,
    name: Name,
    request: &CreateRequest,
    wish: &Wish,
) -> Result<Result<Inserted, Conflict>, Error> {
    if !userns::lacks_ids(&wish.shape) {
        return Ok(engine.store.insert(new_record(engine, id, name, request, wish)));
    }
    let _choosing = engine.choosing_ids();
    let listing = engine.store.all();
    let taken: Vec<_> = listing.records.iter().filter_map(|record| userns::ids_of(record)).collect();
    let named = wish.spec.namespaces.as_ref();
    let wanted = userns::parse(named.map_or("", |names| names.user.as_str()))?;
    let mut wish = wish.clone();
    if let userns::Wanted::Auto { count } = wanted {
        wish.shape.ids = Some(userns::choose(count, &taken, &engine.config.instance)?);
    }
    Ok(engine.store.insert(new_record(engine, id, name, request, &wish)))
}

/// Steps 2 to 6, or none of them: also when the disk refuses what the answer would promise.
async fn finish(
    engine: &Arc<Engine>,
    record: &ContainerRecord,
    item: Option<Item>,
    promise: Promise,
    actor: &Actor,
) -> Result<Created, Error> {
    let id = store::record_id(record)?;
    let made = async {
        let assembled = assemble_new(engine, record, item).await?;
        // 6: it is made.
        let record = assemble::enter(engine, &id, &assembled, &Made::New(actor))?;
        pass(failpoint::CREATE_DONE).await?;
        if promise == Promise::Durable {
            keep(engine, &id).await?;
        }
        let revision = record.container.as_ref().map_or(0, |container| container.revision);
        Ok(Created { id: id.clone(), warnings: assembled.warnings(), revision })
    };
    match made.await {
        Ok(created) => Ok(created),
        Err(error) => Err(undo(engine, &id, error).await),
    }
}

/// Steps 2 to 5 of a new container. A prepared shim that was killed while nobody looked is no reason to fail.
async fn assemble_new(
    engine: &Arc<Engine>,
    record: &ContainerRecord,
    item: Option<Item>,
) -> Result<Assembled, Error> {
    let id = store::record_id(record)?;
    let taken = item.is_some();
    match assemble::assemble(engine, record, None, item.map(Item::into_prepared)).await {
        Err(error) if taken && launch::is_gone(engine, &id, &error).await => {
            tracing::warn!(container_id = %id, error = %chain(&error), "a prepared shim was dead: a new one");
            release::settle(engine, &id).await?;
            assemble::assemble(engine, record, None, None).await
        }
        other => other,
    }
}

fn new_record(
    engine: &Engine,
    id: &ContainerId,
    name: Name,
    request: &CreateRequest,
    wish: &Wish,
) -> ContainerRecord {
    let bundle = Bundle::new(engine.config.bundle(id));
    let mut status = ContainerStatus {
        bundle_path: bundle.path().display().to_string(),
        log_path: bundle.file("log/stdio.log").display().to_string(),
        ..ContainerStatus::default()
    };
    status.set_phase(Phase::Creating);
    let ids = |ids: IdMap| UserIds { host_uid: ids.host_uid, host_gid: ids.host_gid, count: ids.count };
    status.user_ids = wish.shape.ids.map(ids);
    ContainerRecord {
        version: store::VERSION,
        container: Some(Container {
            id: id.to_string(),
            name: name.to_string(),
            spec: Some(wish.spec.clone()),
            status: Some(status),
            created_at: Some(store::now()),
            ..Container::default()
        }),
        request_key: request.request_key.clone(),
        request_hash: hash(request),
        shape: wish.shape.encode_to_vec(),
        written_at: None,
        remove_volumes: false,
        journal: 0,
        stopping: 0,
        gave_up: 0,
        oom_told: 0,
        rewiring: false,
    }
}

/// The request without its key, as a digest. Maps have no order, so they are brought into one first.
fn hash(request: &CreateRequest) -> Vec<u8> {
    let mut hash = sha2::Sha256::new();
    let mut spec = request.spec.clone().unwrap_or_default();
    for map in [&mut spec.labels, &mut spec.sysctls, &mut spec.annotations] {
        let mut pairs: Vec<_> = std::mem::take(map).into_iter().collect();
        pairs.sort();
        for text in pairs.into_iter().flat_map(|(key, value)| [key, value]) {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.update([0xff; 8]);
    }
    hash.update((request.name.len() as u64).to_be_bytes());
    hash.update(request.name.as_bytes());
    hash.update(spec.encode_to_vec());
    hash.finalize().to_vec()
}

fn choose_name(engine: &Engine, given: &str, tries: u32) -> Result<Name, Error> {
    if !given.is_empty() {
        return given.parse().map_err(|error: InvalidId| error.into());
    }
    for attempt in tries..=tries + NAMES {
        let generated = if attempt < NAMES { name::generate() } else { name::generate_numbered(attempt) };
        let generated = generated.map_err(|error| Error::io("make a name")(std::io::Error::other(error)))?;
        if !engine.store.has_name(generated.as_str()) {
            return Ok(generated);
        }
    }
    let generated = name::generate_numbered(tries);
    generated.map_err(|error| Error::io("make a name")(std::io::Error::other(error)))
}

/// The answer of the first of two like requests, once it is known; `None` when the first one failed.
async fn join(engine: &Arc<Engine>, first: &ContainerId, request: &CreateRequest) -> Option<Created> {
    let _turn = engine.turn(first).await;
    let revision = match engine.store.get(first) {
        Some(record) => record.container.as_ref().map_or(0, |container| container.revision),
        // Made and removed again: the answer is still its id.
        None => engine.store.request(&request.request_key).map(|_| engine.store.revision())?,
    };
    Some(Created { id: first.clone(), warnings: Vec::new(), revision })
}

/// Releases what a failed create left. The error that matters is the first one.
async fn undo(engine: &Arc<Engine>, id: &ContainerId, error: Error) -> Error {
    let told = engine.store.get(id).is_some_and(|record| store::phase(&record) != Phase::Creating);
    if told {
        // Should this not succeed now, it is tried again, also by the next engine.
        remove::mark(engine, id, true, &Actor::engine(&format!("its creation failed: {}", chain(&error))));
    }
    if let Err(left) = release::release(engine, id, release::How { told, ..release::UNDO }).await {
        tracing::error!(container_id = %id, error = %chain(&left), "a failed create left something");
        supervise::later(engine, id);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, key: &str, labels: &[(&str, &str)]) -> CreateRequest {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let spec = ContainerSpec { image: "alpine".into(), labels, ..ContainerSpec::default() };
        CreateRequest { spec: Some(spec), name: name.into(), request_key: key.into() }
    }

    #[test]
    fn like_requests_have_like_hashes_whatever_their_maps_order() {
        let pairs: Vec<_> = (0..20).map(|n| (format!("k{n}"), "v")).collect();
        let forwards: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        let backwards: Vec<_> = forwards.iter().rev().copied().collect();
        let one = hash(&request("a", "x", &forwards));
        assert_eq!(one, hash(&request("a", "y", &backwards)), "the key is no part of it");
        assert_ne!(one, hash(&request("b", "x", &forwards)));
        assert_ne!(one, hash(&request("a", "x", &forwards[1..])));
        assert_ne!(hash(&request("a", "", &[("ab", "c")])), hash(&request("a", "", &[("a", "bc")])));
    }
}
