//! The steps that one build asked for, and where else than on this machine they may be.
//!
//! A cache at a registry is an index whose manifests are those of steps' images, each with the name of its step. It is
//! read once; a step's image is fetched when that step is asked for and is not here. So a cache's word is taken for
//! what a step makes: whoever names one trusts who wrote it. What is fetched is what the digest says, as in any pull.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use davit_proto::build::CacheSource;
use davit_proto::build::build_response::Event;
use davit_proto::image::Credential;
use davit_proto::status::chain;
use davit_proto::step::{ANNOTATION, is_step};
use serde_json::Value;

use crate::engine::{Engine, Found};
use crate::error::Error;
use crate::progress::Progress;

/// Steps that a cache may have.
const STEPS: usize = 100_000;

/// The steps of one build.
#[derive(Debug)]
pub struct Steps {
    progress: Progress,
    elsewhere: BTreeMap<String, Place>,
    /// Diff ids of the images of steps that were asked for, by their names.
    asked: Mutex<BTreeMap<String, Vec<String>>>,
}

/// Where a step can be fetched from.
#[derive(Debug, Clone)]
pub struct Place {
    /// The image, by its digest in its repository.
    pub reference: String,
    /// Who asks for it.
    pub credential: Option<Credential>,
}

impl Steps {
    /// Reads the caches that are named. One that cannot be read is warned of and passed over.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn read(engine: &Engine, sources: &[CacheSource], progress: Progress) -> Result<Self, Error> {
        let mut elsewhere = BTreeMap::new();
        for source in sources {
            let told = progress.begin(&format!("importing cache manifest from {}", source.reference)).await?;
            match places(engine, source).await {
                // What is named first is asked first.
                Ok(places) => places.into_iter().for_each(|(step, place)| {
                    elsewhere.entry(step).or_insert(place);
                }),
                Err(error) => {
                    let text = format!("cache {} is not used: {}", source.reference, chain(&error));
                    progress.tell(Event::Warning(text)).await?;
                }
            }
            told.tell(davit_proto::build::StepState::Done).await?;
        }
        Ok(Self { progress, elsewhere, asked: Mutex::default() })
    }

    /// Where a step can be fetched from.
    pub fn place(&self, step: &str) -> Option<Place> {
        self.elsewhere.get(step).cloned()
    }

    /// A step's image is here.
    pub fn note(&self, step: &str, diff_ids: &[String]) {
        self.lock().insert(step.to_owned(), diff_ids.to_vec());
    }

    /// A step could not be fetched: it is done instead.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn warn(&self, place: &Place, error: &Error) -> Result<(), Error> {
        let text = format!("a step of cache {} is done anew: {}", place.reference, chain(error));
        self.progress.tell(Event::Warning(text)).await
    }

    /// The names of all that were asked for, and of those whose layers are the lowest of some.
    pub fn names(&self, diff_ids: &[String]) -> (Vec<String>, Vec<String>) {
        let asked = self.lock();
        let below = asked.iter().filter(|(_, own)| !own.is_empty() && diff_ids.starts_with(own));
        (asked.keys().cloned().collect(), below.map(|(step, _)| step.clone()).collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The steps that a cache has: of the index itself, or of that which lies beside an image.
async fn places(engine: &Engine, source: &CacheSource) -> Result<Vec<(String, Place)>, Error> {
    let CacheSource { reference, credential } = source;
    let found = engine.document(reference, credential.clone()).await?;
    let repository = repository(&found.reference).to_owned();
    let mut steps = steps(&found.content);
    if steps.is_empty() {
        let hex = found.digest.trim_start_matches("sha256:");
        let beside = davit_proto::step::beside(&repository, hex);
        let Found { content, .. } = engine.document(&beside, credential.clone()).await?;
        steps = self::steps(&content);
    }
    let place =
        |digest: &str| Place { reference: format!("{repository}@{digest}"), credential: credential.clone() };
    Ok(steps.into_iter().map(|(step, digest)| (step, place(&digest))).collect())
}

/// A full reference without its tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// The steps that an index names, with the digests of their manifests. What is no such index names none.
fn steps(index: &[u8]) -> Vec<(String, String)> {
    let document: Value = serde_json::from_slice(index).unwrap_or_default();
    let manifests = document.get("manifests").and_then(Value::as_array).into_iter().flatten();
    let step = |manifest: &Value| {
        let step = manifest.get("annotations")?.get(ANNOTATION)?.as_str()?;
        let digest = manifest.get("digest")?.as_str()?;
        is_step(step).then(|| (step.to_owned(), digest.to_owned()))
    };
    manifests.filter_map(step).take(STEPS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_steps_count() {
        let step = format!("{}:{}", davit_proto::step::REPOSITORY, "a".repeat(64));
        let index = serde_json::json!({"manifests": [
            {"digest": "sha256:1", "annotations": {ANNOTATION: step}},
            {"digest": "sha256:2", "annotations": {ANNOTATION: "alpine:3"}},
            {"digest": "sha256:3"},
        ]});
        assert_eq!(steps(index.to_string().as_bytes()), [(step, "sha256:1".to_owned())]);
        assert!(steps(b"no JSON").is_empty());
    }

    #[test]
    fn a_repository_is_what_stands_before_tag_and_digest() {
        for (reference, wanted) in [
            ("localhost:5000/a/b:tag", "localhost:5000/a/b"),
            ("localhost:5000/a", "localhost:5000/a"),
            ("docker.io/library/a@sha256:00", "docker.io/library/a"),
        ] {
            assert_eq!(repository(reference), wanted);
        }
    }
}
