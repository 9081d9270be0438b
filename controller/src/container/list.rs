//! `ps`: containers by docker's conditions. A read: it waits for nobody's operation.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use davit_proto::container::{Container, ContainerStatus, ListRequest, ListResponse, Phase};
use davit_proto::image;
use davit_proto::port::each;
use davit_proto::status::{Classify as _, ErrorKind};
use futures_util::stream::{self, Stream};
use prost::Message as _;

use super::live;
use super::size;
use super::spec::port;
use crate::engine::Engine;
use crate::error::Error;
use crate::filter::{Filters, Invalid, matches};
use crate::shim::{SHORT, within};

/// What a list can be narrowed by.
const KEYS: [&str; 13] = [
    "id", "name", "label", "status", "ancestor", "before", "since", "volume", "network", "exited", "health",
    "publish", "expose",
];
/// Most containers of one frame.
const FRAME: usize = 100;
/// Bytes after which a frame is sent, well below what a message may have.
const BYTES: usize = 1 << 20;

/// Lists containers, newest first.
///
/// # Errors
/// When a condition cannot be one, or names a container that is not there.
pub async fn list(
    engine: &Arc<Engine>,
    request: ListRequest,
) -> Result<impl Stream<Item = Result<ListResponse, Error>> + Send + 'static + use<>, Error> {
    let filters = Filters::new(&request.filters, &KEYS)?;
    let (containers, revision) = engine.containers();
    let conditions = Conditions::new(engine, filters, &containers).await?;
    let all = request.all || request.limit > 0 || conditions.wants_stopped();
    let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
    let after = Place::of_token(&request.page_token)?;
    let none = ContainerStatus::default();
    let mut found: Vec<Container> = containers
        .into_iter()
        .enumerate()
        .filter(|(place, container)| {
            (all || is_shown(status_of(container, &none))) && conditions.hold(*place, container)
        })
        .map(|(_, container)| container)
        .take(limit)
        .filter(|container| after.as_ref().is_none_or(|after| Place::of(container) > *after))
        .collect();
    let rest = match request.page_size as usize {
        0 => Vec::new(),
        size => found.split_off(size.min(found.len())),
    };
    let token = if rest.is_empty() { String::new() } else { found.last().map(token).unwrap_or_default() };
    let mut frames = frames(found, revision);
    if let Some(last) = frames.last_mut() {
        last.next_page_token = token;
    }
    // Who watches from this revision on must find it again, whatever happens to this process.
    engine.store.written(revision).await;
    let frames = stream::iter(frames);
    let (engine, with_size) = (engine.clone(), request.size);
    Ok(futures_util::StreamExt::then(frames, move |mut frame| {
        let engine = engine.clone();
        async move {
            if with_size {
                for container in &mut frame.containers {
                    size::measure(&engine, container).await?;
                }
            }
            Ok(frame)
        }
    }))
}

/// Where a container stands in every list: newest first, and then by id. What comes and goes between two pages shifts
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place(Reverse<(i64, i32)>, String);

impl Place {
    fn of(container: &Container) -> Self {
        let at = container.created_at.as_ref().map_or((0, 0), |at| (at.seconds, at.nanos));
        Self(Reverse(at), container.id.clone())
    }

    fn of_token(token: &str) -> Result<Option<Self>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        let invalid = || Error::Invalid {
            what: "page_token",
            value: token.chars().take(200).collect(),
            rule: "must be one that a list answered with".to_owned(),
        };
        let mut parts = token.splitn(3, '.');
        let mut part = || parts.next().ok_or_else(invalid);
        let (seconds, nanos, id) = (part()?, part()?, part()?);
        let seconds = seconds.parse().map_err(|_| invalid())?;
        let nanos = nanos.parse().map_err(|_| invalid())?;
        Ok(Some(Self(Reverse((seconds, nanos)), id.to_owned())))
    }
}

/// Asks for what stands behind this container.
fn token(container: &Container) -> String {
    let Place(Reverse((seconds, nanos)), id) = Place::of(container);
    format!("{seconds}.{nanos}.{id}")
}

/// A container's status, where it stands: hundreds are looked at for one list.
fn status_of<'a>(container: &'a Container, none: &'a ContainerStatus) -> &'a ContainerStatus {
    container.status.as_ref().unwrap_or(none)
}

/// What is listed without a word: all that may have a process.
fn is_shown(status: &ContainerStatus) -> bool {
    live::is_live(status.phase()) || status.phase() == Phase::Unknown
}

/// At least one frame, for the revision's sake.
fn frames(containers: Vec<Container>, revision: u64) -> Vec<ListResponse> {
    let mut frames = vec![ListResponse { revision, ..ListResponse::default() }];
    let mut bytes = 0_usize;
    for container in containers {
        let size = container.encoded_len();
        let full = |frame: &ListResponse| {
            frame.containers.len() >= FRAME || (!frame.containers.is_empty() && bytes + size > BYTES)
        };
        if frames.last().is_none_or(full) {
            frames.push(ListResponse { revision, ..ListResponse::default() });
            bytes = 0;
        }
        bytes += size;
        if let Some(frame) = frames.last_mut() {
            frame.containers.push(container);
        }
    }
    frames
}

/// Conditions with everything looked up that they name.
#[derive(Debug, Default)]
struct Conditions {
    filters: Filters,
    /// Image ids that are an ancestor asked for, or descend from one.
    ancestors: HashSet<String>,
    /// Places in the list, newest first, that are before (older than) all named containers.
    older_than: Option<usize>,
    /// Places that are since (newer than) all named containers.
    newer_than: Option<usize>,
}

impl Conditions {
    async fn new(engine: &Arc<Engine>, filters: Filters, containers: &[Container]) -> Result<Self, Error> {
        for value in filters.values("status") {
            status_word(value)?;
        }
        for value in filters.values("exited") {
            value.parse::<i64>().map_err(|_| Invalid::new("exited", value, "must be an exit code"))?;
        }
        for key in ["publish", "expose"] {
            for value in filters.values(key) {
                port::parse_exposed(value)
                    .map_err(|_| Invalid::new(key, value, "must be port[-port][/tcp|udp|sctp]"))?;
            }
        }
        for value in filters.values("health") {
            if !["starting", "healthy", "unhealthy", "none"].contains(&value.as_str()) {
                let rule = "must be starting, healthy, unhealthy or none";
                return Err(Invalid::new("health", value, rule).into());
            }
        }
        let place = |text: &str| -> Result<usize, Error> {
            let id = engine.find(text)?;
            let at = containers.iter().position(|container| container.id == id.as_str());
            at.ok_or_else(|| crate::store::Unresolved::NotFound(text.to_owned()).into())
        };
        let places =
            |key: &str| filters.values(key).iter().map(|text| place(text)).collect::<Result<Vec<_>, _>>();
        let (older_than, newer_than) =
            (places("before")?.into_iter().max(), places("since")?.into_iter().min());
        let ancestors = ancestors(engine, filters.values("ancestor"), containers).await?;
        Ok(Self { filters, ancestors, older_than, newer_than })
    }

    /// Conditions that only a stopped container can meet ask for stopped ones.
    fn wants_stopped(&self) -> bool {
        ["status", "exited"].iter().any(|key| !self.filters.values(key).is_empty())
    }

    fn hold(&self, place: usize, container: &Container) -> bool {
        let Self { filters, .. } = self;
        let none = ContainerStatus::default();
        let status = status_of(container, &none);
        let slashed = format!("/{}", container.name);
        filters.any("id", |text| matches(text, &container.id))
            && filters.any("name", |text| matches(text, &container.name) || matches(text, &slashed))
            && filters.labels(&container.labels)
            && filters.any("status", |text| status_word(text).is_ok_and(|phase| phase == status.phase()))
            && filters.any("exited", |text| has_exited(text, status))
            && filters.any("health", |text| text == health(status))
            && filters.any("ancestor", |text| self.descends(text, container))
            && filters.any("volume", |text| has_volume(text, status))
            && filters.any("network", |text| has_network(text, container, status))
            && filters.any("publish", |text| publishes(text, status))
            && filters.any("expose", |text| exposes(text, container))
            && self.older_than.is_none_or(|named| place > named)
            && self.newer_than.is_none_or(|named| place < named)
    }

    fn descends(&self, text: &str, container: &Container) -> bool {
        let named = container.spec.as_ref().is_some_and(|spec| spec.image == text);
        named || self.ancestors.contains(&container.image_id)
    }
}

fn status_word(text: &str) -> Result<Phase, Invalid> {
    Ok(match text {
        "creating" => Phase::Creating,
        "created" => Phase::Created,
        "running" => Phase::Running,
        "paused" => Phase::Paused,
        "restarting" => Phase::Restarting,
        "exited" | "dead" => Phase::Exited,
        "removing" => Phase::Removing,
        "unknown" => Phase::Unknown,
        _ => {
            let rule = "must be created, running, paused, restarting, exited, removing or unknown";
            return Err(Invalid::new("status", text, rule));
        }
    })
}

fn has_exited(text: &str, status: &ContainerStatus) -> bool {
    let code = status.exit.as_ref().map(|exit| i64::from(exit.exit_code));
    status.phase() == Phase::Exited && code.is_some_and(|code| text.parse() == Ok(code))
}

fn health(status: &ContainerStatus) -> &str {
    if status.health.is_empty() { "none" } else { &status.health }
}

fn has_volume(text: &str, status: &ContainerStatus) -> bool {
    status.mounts.iter().any(|mount| mount.name == text || mount.target == text || mount.source == text)
}

fn has_network(text: &str, container: &Container, status: &ContainerStatus) -> bool {
    let wanted = container.spec.iter().flat_map(|spec| &spec.networks).any(|net| net.network == text);
    let joined = status.networks.iter().any(|net| {
        net.network == text
            || net.network_id == text
            || (text.len() >= 12 && net.network_id.starts_with(text))
    });
    wanted || joined
}

fn publishes(text: &str, status: &ContainerStatus) -> bool {
    let wanted = port::parse_exposed(text).unwrap_or_default();
    each(&status.ports).iter().any(|found| {
        let protocol = port::protocol(found);
        wanted.iter().any(|(number, kind)| u32::from(*number) == found.host_port && *kind == protocol)
    })
}

fn exposes(text: &str, container: &Container) -> bool {
    let wanted = port::parse_exposed(text).unwrap_or_default();
    wanted.iter().any(|(number, kind)| container.exposed_ports.contains(&format!("{number}/{kind}")))
}

/// The images of these containers that are one of those named, or have all its layers below their own. A
/// name that no image has is no error: no container has it as its ancestor.
async fn ancestors(
    engine: &Arc<Engine>,
    named: &[String],
    containers: &[Container],
) -> Result<HashSet<String>, Error> {
    if named.is_empty() {
        return Ok(HashSet::new());
    }
    let mut roots = Vec::new();
    for text in named {
        roots.extend(layers(engine, text).await?);
    }
    let mut found: HashMap<String, bool> = HashMap::new();
    for container in containers.iter().filter(|container| !container.image_id.is_empty()) {
        if found.contains_key(&container.image_id) {
            continue;
        }
        let mut descends = roots.iter().any(|root| root.id == container.image_id);
        if !descends && let Some(own) = layers(engine, &container.image_id).await? {
            descends = roots.iter().any(|root| own.diff_ids.starts_with(&root.diff_ids));
        }
        found.insert(container.image_id.clone(), descends);
    }
    Ok(found.into_iter().filter(|(_, descends)| *descends).map(|(id, _)| id).collect())
}

/// An image, as far as ancestry goes.
struct Layers {
    id: String,
    diff_ids: Vec<String>,
}

async fn layers(engine: &Arc<Engine>, image: &str) -> Result<Option<Layers>, Error> {
    let request = image::InspectRequest { image: image.to_owned() };
    match within(SHORT, "look for the image", engine.images().inspect(request)).await {
        Ok(answer) => Ok(answer.image.map(|image| Layers { id: image.id, diff_ids: answer.diff_ids })),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidArgument) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
