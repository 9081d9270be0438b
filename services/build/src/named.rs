//! Contexts beside the main one: what FROM, `COPY --from` and `RUN --mount=from` find under a name before they look for
//! an image, and what takes the place of a stage of the same name.

use std::collections::BTreeMap;
use std::sync::Arc;

use davit_dockerfile::word::Word;
use davit_dockerfile::{Dockerfile, Stage};
use davit_proto::build::{NamedContext, StepState};

use crate::context::Files;
use crate::engine::Engine;
use crate::error::Error;
use crate::layout;
use crate::progress::Progress;

/// Contexts that a build may have.
const MOST: usize = 1000;

/// Where the files of a name are.
#[derive(Debug, Clone)]
pub enum Place {
    /// Files.
    Files(Arc<Files>),
    /// An image, by reference or id.
    Image(String),
    /// An image in a layout among files: its tag or digest.
    Layout(Arc<Files>, String),
}

/// Contexts by name.
#[derive(Debug, Clone, Default)]
pub struct Named(BTreeMap<String, Place>);

impl Named {
    /// One more. Of two with one name the last holds.
    pub fn insert(&mut self, name: &str, place: Place) {
        self.0.insert(key(name), place);
    }

    /// What a name stands for; none when it is the name of an image.
    pub fn get(&self, name: &str) -> Option<&Place> {
        if self.0.is_empty() { None } else { self.0.get(&key(name)) }
    }

    /// Hands images that lie in layouts to the engine; from then on they are images by id.
    ///
    /// # Errors
    /// A layout is none, or the engine refuses it.
    pub async fn load(&mut self, engine: &Engine, progress: &Progress) -> Result<(), Error> {
        for (name, place) in &mut self.0 {
            if let Place::Layout(files, wanted) = place {
                let step = progress.begin(&format!("[context {name}] oci-layout")).await?;
                let (files, wanted) = (Arc::clone(files), wanted.clone());
                let archive = crate::stage::blocking(move || layout::archive(files, &wanted)).await?;
                let image = engine.load(Arc::new(archive)).await?;
                *place = Place::Image(image);
                step.tell(StepState::Done).await?;
            }
        }
        Ok(())
    }
}

/// One name for all ways to write an image's: `alpine`, `docker.io/library/alpine:latest`.
fn key(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let short = lower.strip_prefix("docker.io/").unwrap_or(&lower);
    let short = short.strip_prefix("library/").unwrap_or(short);
    short.strip_suffix(":latest").unwrap_or(short).to_owned()
}

/// Checks names before anything is sent for them.
///
/// # Errors
/// One is no name, or there are too many.
pub fn check(contexts: &[NamedContext]) -> Result<(), Error> {
    if contexts.len() > MOST {
        return Err(Error::Invalid(format!("more than {MOST} contexts beside the main one")));
    }
    for NamedContext { name, .. } in contexts {
        let fine = !name.is_empty()
            && name.len() <= 1024
            && !name.chars().any(|c| c.is_control() || c.is_whitespace());
        if !fine || name == "scratch" || name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::Invalid(format!("invalid name of a context {name:?}")));
        }
    }
    Ok(())
}

/// Lets a stage be what a context of its name is, and nothing else.
pub fn replace(file: &mut Dockerfile, contexts: &[NamedContext]) {
    let named = |stage: &Stage| {
        let name = stage.name()?;
        contexts.iter().find(|context| key(&context.name) == name).map(|_| name)
    };
    for stage in &mut file.stages {
        if let Some(name) = named(stage) {
            stage.from.base = Word::made(&name, stage.at, stage.from.base.escape());
            stage.from.platform = None;
            stage.instructions.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_one_name_however_it_is_written() {
        let mut named = Named::default();
        named.insert("alpine", Place::Image("x".to_owned()));
        for name in ["alpine", "Alpine", "alpine:latest", "docker.io/library/alpine", "library/alpine:latest"]
        {
            assert!(named.get(name).is_some(), "{name}");
        }
        assert!(named.get("alpine:3").is_none() && named.get("quay.io/library/alpine").is_none());
    }

    #[test]
    fn a_stage_gives_way_to_a_context_of_its_name() {
        let text = "FROM busybox AS Base\nRUN false\nFROM base\nCOPY --from=base /x /x\n";
        let mut file = Dockerfile::parse(text).unwrap();
        replace(&mut file, &[NamedContext { name: "base".to_owned(), source: None }]);
        assert!(file.stages[0].instructions.is_empty());
        assert_eq!(file.stages[0].from.base.text(), "base");
        assert_eq!(file.stages[1].instructions.len(), 1);
    }

    #[test]
    fn names_are_names() {
        let of = |name: &str| check(&[NamedContext { name: name.to_owned(), source: None }]);
        assert!(of("a").is_ok() && of("docker.io/library/x:1").is_ok());
        for wrong in ["", "a b", "scratch", "0", "a\n"] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
