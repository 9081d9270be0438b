//! What builds keep for the next one, seen as a whole: what steps made, files of contexts, caches of commands.
//!
//! It is looked at and forgotten here; what goes by itself goes by the engine's own collection, for steps are images.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use davit_proto::build::CacheRecord;
use davit_proto::time::{system_time, timestamp};
use davit_proto::types::Filter;

use crate::context::{Kept, Store};
use crate::engine::Engine;
use crate::error::Error;
use crate::mount::cache::{Cache, Caches};
use crate::running::Running;

/// Kinds of records, in docker's words.
pub const STEP: &str = "regular";
/// Files of a context.
pub const CONTEXT: &str = "source.local";
/// What `RUN --mount=type=cache` keeps.
pub const MOUNT: &str = "exec.cachemount";
/// How long looking through caches may take.
const MEASURING: Duration = Duration::from_secs(60);
/// Times of files may lag behind the clock.
const LAG: Duration = Duration::from_secs(1);

/// A record, and by what it is removed.
#[derive(Debug, Clone)]
pub struct Record {
    /// What people are told.
    pub told: CacheRecord,
    /// By what it is known where it is: a reference, or the name of a file or folder.
    pub name: String,
}

impl Record {
    /// When it was needed last.
    fn used_at(&self) -> SystemTime {
        self.told.used_at.as_ref().map_or(SystemTime::UNIX_EPOCH, system_time)
    }
}

/// What is to be forgotten.
#[derive(Debug, Default)]
pub struct Wish {
    /// Also what images share.
    pub all: bool,
    /// Which of it.
    pub conditions: Conditions,
    /// How much may stay.
    pub keep_bytes: u64,
}

/// Where all of it is.
#[derive(Debug)]
pub struct Shelf {
    /// Contexts.
    pub store: Store,
    /// What steps made.
    pub engine: Engine,
    /// Caches of commands.
    pub caches: Arc<Caches>,
    /// What runs now.
    pub running: Running,
}

impl Shelf {
    /// All that builds keep, the one that goes first at the front.
    ///
    /// # Errors
    /// The engine does not tell, or the disk fails.
    pub async fn records(&self) -> Result<Vec<Record>, Error> {
        let mut records = self.engine.steps().await?;
        let (contexts, caches) = (self.store.clone(), Arc::clone(&self.caches));
        let kept = blocking(move || Ok((contexts.kept()?, caches.list(Instant::now() + MEASURING)?)));
        let (contexts, caches) = kept.await?;
        records.extend(caches.into_iter().map(mount));
        records.extend(contexts.into_iter().map(context));
        // Stable: of what was needed at the same moment the order that it comes in stays.
        records.sort_by_key(Record::used_at);
        if let Some(busy) = self.running.since().and_then(|busy| busy.checked_sub(LAG)) {
            for record in &mut records {
                record.told.in_use |= record.used_at() >= busy;
            }
        }
        Ok(records)
    }

    /// Forgets what is wished, and tells what that was and the bytes that came free.
    ///
    /// # Errors
    /// The engine refuses, or the disk fails; what went until then is gone.
    pub async fn prune(&self, wish: &Wish) -> Result<(Vec<CacheRecord>, u64), Error> {
        let records = self.records().await?;
        let own = |record: &Record| record.told.bytes.saturating_sub(record.told.shared_bytes);
        let mut left = records.iter().map(own).fold(0, u64::saturating_add);
        let before = self.engine.step_bytes().await?;
        let (mut gone, mut contexts, mut freed) = (Vec::new(), Vec::new(), 0_u64);
        for record in records {
            let shared = record.told.shared_bytes > 0;
            if record.told.in_use || (shared && !wish.all) || !wish.conditions.hold(&record.told) {
                continue;
            }
            if wish.keep_bytes > 0 && left <= wish.keep_bytes {
                break;
            }
            let bytes = own(&record);
            let went = match record.told.r#type.as_str() {
                STEP => self.engine.forget_step(&record.name).await?,
                MOUNT => {
                    let (caches, name) = (Arc::clone(&self.caches), record.name.clone());
                    let went = blocking(move || caches.remove(&name)).await?;
                    freed = freed.saturating_add(if went { bytes } else { 0 });
                    went
                }
                _ => {
                    contexts.push(record.name.clone());
                    true
                }
            };
            // Somebody may have begun to use it since.
            if went {
                left = left.saturating_sub(bytes);
                gone.push(record.told);
            }
        }
        freed = freed.saturating_add(before.saturating_sub(self.engine.step_bytes().await?));
        if !contexts.is_empty() {
            let store = self.store.clone();
            freed = freed.saturating_add(blocking(move || store.forget(&contexts)).await?);
        }
        Ok((gone, freed))
    }
}

/// Runs what waits for the disk where it may wait.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(call).await.map_err(|_| Error::Lost)?
}

fn mount(cache: Cache) -> Record {
    let told = CacheRecord {
        id: cache.name.clone(),
        r#type: MOUNT.to_owned(),
        description: format!("cache {} of commands", cache.id),
        bytes: cache.bytes,
        in_use: cache.in_use,
        mutable: true,
        created_at: Some(timestamp(cache.created)),
        used_at: Some(timestamp(cache.used)),
        ..CacheRecord::default()
    };
    Record { told, name: cache.name }
}

fn context(kept: Kept) -> Record {
    let told = CacheRecord {
        id: kept.id.clone(),
        r#type: CONTEXT.to_owned(),
        description: "files of a build context".to_owned(),
        bytes: kept.bytes,
        in_use: kept.in_use,
        mutable: true,
        created_at: None,
        used_at: Some(timestamp(kept.used_at)),
        ..CacheRecord::default()
    };
    Record { told, name: kept.id }
}

/// What must be true of a record.
#[derive(Debug, Default)]
pub struct Conditions(Vec<Condition>);

#[derive(Debug)]
enum Condition {
    Id(String),
    Type(String),
    Description(String),
    Before(SystemTime),
    InUse(bool),
    Shared(bool),
    Mutable(bool),
}

impl Conditions {
    /// As they come over the wire.
    ///
    /// # Errors
    /// One is not known, or has a value that makes no sense.
    pub fn read(filters: Vec<Filter>) -> Result<Self, Error> {
        filters.into_iter().map(condition).collect::<Result<_, _>>().map(Self)
    }

    /// Whether all are true.
    #[must_use]
    pub fn hold(&self, record: &CacheRecord) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Id(id) => record.id.starts_with(id.trim_end_matches('*')),
            Condition::Type(kind) => record.r#type == *kind,
            Condition::Description(part) => record.description.contains(part),
            Condition::Before(moment) => {
                record.used_at.as_ref().is_none_or(|used| system_time(used) < *moment)
            }
            Condition::InUse(wanted) => record.in_use == *wanted,
            Condition::Shared(wanted) => (record.shared_bytes > 0) == *wanted,
            Condition::Mutable(wanted) => record.mutable == *wanted,
        })
    }
}

fn condition(filter: Filter) -> Result<Condition, Error> {
    let Filter { key, value } = filter;
    let wrong = |rule: &str| Error::Invalid(format!("invalid filter {key}={value}: {rule}"));
    let truth = || match value.as_str() {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(wrong("must be true or false")),
    };
    match key.as_str() {
        "id" => Ok(Condition::Id(value)),
        "type" => Ok(Condition::Type(value)),
        "description" => Ok(Condition::Description(value)),
        "until" => {
            let seconds = value.parse().ok().map(Duration::from_secs);
            let moment = seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(seconds));
            moment.map(Condition::Before).ok_or_else(|| wrong("must be seconds since 1970"))
        }
        "inuse" => truth().map(Condition::InUse),
        "shared" => truth().map(Condition::Shared),
        "private" => truth().map(|wanted| Condition::Shared(!wanted)),
        "mutable" => truth().map(Condition::Mutable),
        "immutable" => truth().map(|wanted| Condition::Mutable(!wanted)),
        _ => Err(wrong(
            "the keys are id, until, type, description, inuse, shared, private, mutable and immutable",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(pairs: &[(&str, &str)]) -> Result<Conditions, Error> {
        let filter = |(key, value): &(&str, &str)| Filter { key: (*key).into(), value: (*value).into() };
        Conditions::read(pairs.iter().map(filter).collect())
    }

    #[test]
    fn all_conditions_must_hold() {
        let record = CacheRecord {
            id: "abcdef".into(),
            r#type: STEP.into(),
            description: "RUN make".into(),
            shared_bytes: 1,
            used_at: Some(timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(100))),
            ..CacheRecord::default()
        };
        let holds = |pairs: &[(&str, &str)]| conditions(pairs).unwrap().hold(&record);
        assert!(holds(&[]));
        assert!(holds(&[("id", "abc"), ("type", "regular"), ("description", "make"), ("shared", "")]));
        assert!(holds(&[("id", "abc*"), ("until", "101"), ("inuse", "false"), ("immutable", "true")]));
        assert!(!holds(&[("until", "100")]));
        assert!(!holds(&[("id", "abc"), ("private", "1")]));
        for wrong in [("until", "soon"), ("shared", "maybe"), ("colour", "red")] {
            assert!(conditions(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
