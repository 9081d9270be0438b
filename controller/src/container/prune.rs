//! Removes the containers that do not run.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use davit_proto::container::{Container, Phase, PruneRequest, PruneResponse};
use davit_proto::id::ContainerId;
use davit_proto::status::chain;
use davit_proto::time::system_time;

use super::live::status_of;
use super::remove::{self, How};
use super::size;
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::filter::{Filters, Invalid};

/// How long the files of one container may be counted before it goes.
const MEASURE: Duration = Duration::from_secs(30);

/// Removes every container that does not run and that the conditions name.
///
/// # Errors
/// When a condition makes no sense. One that will not go does not keep the others.
pub async fn prune(
    engine: &Arc<Engine>,
    request: PruneRequest,
    actor: &Actor,
) -> Result<PruneResponse, Error> {
    let filters = Filters::new(&request.filters, &["until", "label", "label!"])?;
    let until = filters.values("until").iter().map(|text| moment(text)).collect::<Result<Vec<_>, _>>()?;
    let mut pruned = PruneResponse::default();
    for container in engine.containers().0 {
        let idle = matches!(status_of(&container).phase(), Phase::Created | Phase::Exited);
        if !idle || !is_named(&container, &filters, &until) {
            continue;
        }
        let id: ContainerId = container.id.parse()?;
        let size = size::of(engine, &id, Instant::now() + MEASURE).await.unwrap_or_else(|error| {
            tracing::warn!(container_id = %id, error = %chain(&error), "not measured");
            size::Size::default()
        });
        match remove::remove(engine, &id, How::default(), actor).await {
            Ok(()) => {
                pruned.container_ids.push(container.id);
                pruned.reclaimed_bytes += size.disk();
            }
            Err(error) => tracing::warn!(container_id = %id, error = %chain(&error), "not pruned"),
        }
    }
    Ok(pruned)
}

fn is_named(container: &Container, filters: &Filters, until: &[SystemTime]) -> bool {
    let made = container.created_at.as_ref().map_or(SystemTime::UNIX_EPOCH, system_time);
    let without = |text: &String| match text.split_once('=') {
        Some((key, value)) => container.labels.get(key).is_none_or(|found| found != value),
        None => !container.labels.contains_key(text),
    };
    until.iter().all(|limit| made < *limit)
        && filters.labels(&container.labels)
        && filters.values("label!").iter().all(without)
}

/// A moment as docker takes it: a timestamp, seconds since 1970, or how long ago.
fn moment(text: &str) -> Result<SystemTime, Invalid> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.into());
    }
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into()));
    }
    let ago = text.parse::<jiff::SignedDuration>().ok().and_then(|ago| Duration::try_from(ago).ok());
    ago.and_then(|ago| SystemTime::now().checked_sub(ago)).ok_or_else(|| {
        Invalid::new("until", text, "must be a time, seconds since 1970, or a duration such as 24h")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_numbers_or_durations() {
        let at = |text: &str| moment(text).unwrap();
        assert_eq!(at("2026-11-20T22:00:00Z"), SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_212_000));
        assert_eq!(at("60"), SystemTime::UNIX_EPOCH + Duration::from_secs(60));
        let day = SystemTime::now().duration_since(at("24h")).unwrap();
        assert!(day >= Duration::from_secs(86_399) && day < Duration::from_secs(86_500));
        for bad in ["", "yesterday", "-1h", "24 bananas"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
