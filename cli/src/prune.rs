//! What all the prunes say, in docker's words: which kind went, and how much came free. Each kind's own verb and
//! `davit system prune` say the same.

use davit_proto::container;
use davit_proto::image;
use davit_proto::network;
use davit_proto::status::{ErrorKind, RemoteError};
use davit_proto::types::Filter;
use davit_proto::volume;

use crate::client::Engine;
use crate::error::Error;
use crate::image::rm;
use crate::{human, output};

/// What a prune took.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Docker's list of it; empty when nothing went.
    pub text: String,
    /// Bytes of disk that came free.
    pub bytes: u64,
}

impl Pruned {
    fn of(head: &str, lines: &str, bytes: u64) -> Self {
        let text = if lines.is_empty() { String::new() } else { format!("{head}:\n{lines}\n") };
        Self { text, bytes }
    }
}

/// The last line of every prune that frees disk space.
pub fn total(bytes: u64) -> String {
    format!("Total reclaimed space: {}\n", human::exact_size(bytes))
}

fn lines(names: &[String]) -> String {
    names.iter().map(|name| format!("{}\n", output::visible(name))).collect()
}

/// Containers that do not run.
pub async fn containers(engine: &Engine, filters: Vec<Filter>) -> Result<Pruned, Error> {
    let request = container::PruneRequest { filters };
    let answer = engine.containers().await?.prune(request).await.map_err(RemoteError::from)?.into_inner();
    Ok(Pruned::of("Deleted Containers", &lines(&answer.container_ids), answer.reclaimed_bytes))
}

/// Networks that nobody uses.
pub async fn networks(engine: &Engine, filters: Vec<Filter>) -> Result<Pruned, Error> {
    let request = network::PruneRequest { filters };
    let answer = engine.networks().await?.prune(request).await.map_err(RemoteError::from)?.into_inner();
    Ok(Pruned::of("Deleted Networks", &lines(&answer.names), 0))
}

/// Volumes that nobody uses: those that nobody named, or all.
pub async fn volumes(engine: &Engine, filters: Vec<Filter>, all: bool) -> Result<Pruned, Error> {
    let request = volume::PruneRequest { all, filters };
    let answer = engine.volumes().await?.prune(request).await.map_err(RemoteError::from)?.into_inner();
    Ok(Pruned::of("Deleted Volumes", &lines(&answer.names), answer.reclaimed_bytes))
}

/// Images that no container uses: those without a tag, or all.
pub async fn images(engine: &Engine, filters: Vec<Filter>, all: bool) -> Result<Pruned, Error> {
    let request = image::PruneRequest { all, filters };
    let answer = engine.images().await?.prune(request).await.map_err(RemoteError::from)?.into_inner();
    let lines = rm::told(&answer.removed, ["untagged", "deleted"]);
    Ok(Pruned::of("Deleted Images", &lines, answer.reclaimed_bytes))
}

/// What builds keep for the next one. An engine that does not build keeps nothing.
pub async fn builds(engine: &Engine, filters: Vec<String>, all: bool) -> Result<Pruned, Error> {
    let pruned = crate::build::prune::ask(engine, crate::build::usage::filters(&filters)?, all, 0).await;
    let answer = match pruned {
        Err(Error::Remote(error)) if error.kind == ErrorKind::Unimplemented => return Ok(Pruned::default()),
        other => other?,
    };
    let ids: Vec<String> = answer.records.into_iter().map(|record| record.id).collect();
    Ok(Pruned::of("Deleted build cache objects", &lines(&ids), answer.reclaimed_bytes))
}
