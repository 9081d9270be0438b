//! What becomes of what was built: `--output`, `--push`, `--metadata-file`, `--iidfile`.
//!
//! Files come along with the build. Archives of images and what goes to registries are asked for after it, by the same
//! calls as `davit save` and `davit push` make.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use bytes::Bytes;
use davit_proto::build::{BuildOpen, Built, Outcome};
use davit_proto::image::{ArchiveFormat, SaveRequest};

use super::cache::Caches;
use super::files::Files;
use crate::args::build::BuildArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::image::pull::Place;
use crate::image::{push, save};
use crate::spec::output::{self as spec, Output};
use crate::{reference, usage};

/// The variable that says when a result is dated; as an argument of the build it goes before that of this side.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// All that becomes of one result.
pub struct Exports {
    outputs: Vec<Output>,
    tags: Vec<String>,
    /// Those of them that no output has for itself.
    common: Vec<String>,
    caches: Caches,
    iidfile: Option<String>,
    metadata: Option<String>,
    quiet: bool,
}

impl Exports {
    /// As flags say.
    pub fn of(args: &BuildArgs) -> Result<Self, Error> {
        let mut outputs: Vec<Output> =
            args.output.iter().map(|text| spec::parse(text)).collect::<Result<_, _>>()?;
        if args.push {
            // docker's short form of one output more.
            outputs.push(Output::Image { names: Vec::new(), push: true });
        }
        if args.load {
            outputs.push(Output::Image { names: Vec::new(), push: false });
        }
        let mut tags = args.tag.clone();
        for output in &outputs {
            match output {
                Output::Archive { names, .. } | Output::Image { names, .. } => tags.extend(names.clone()),
                Output::Folder(_) | Output::Files(_) => {}
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        tags.iter().try_for_each(|tag| usage::check_target(tag))?;
        let exports = Self {
            outputs,
            tags,
            common: args.tag.clone(),
            caches: Caches::of(args)?,
            iidfile: args.iidfile.clone(),
            metadata: args.metadata_file.clone(),
            quiet: args.quiet,
        };
        exports.check()?;
        Ok(exports)
    }

    fn check(&self) -> Result<(), Error> {
        let to_stdout =
            |output: &&Output| matches!(output, Output::Files(None) | Output::Archive { dest: None, .. });
        let printed = self.outputs.iter().filter(to_stdout).count() + usize::from(self.quiet);
        if printed > 1 {
            return Err(Error::Usage("only one thing can be written to standard output".to_owned()));
        }
        if self.outputs.iter().any(|output| to_stdout(&output)) && std::io::stdout().is_terminal() {
            let text = "an archive is nothing for a terminal: name a file with dest=, or redirect";
            return Err(Error::Usage(text.to_owned()));
        }
        let nameless =
            |output: &Output| matches!(output, Output::Image { push: true, names } if names.is_empty());
        if self.common.is_empty() && self.outputs.iter().any(nameless) {
            return Err(Error::Usage("tag is needed when pushing to registry".to_owned()));
        }
        Ok(())
    }

    /// Tells the engine what is needed of it.
    pub fn fill(&self, open: &mut BuildOpen) {
        let files = |output: &Output| matches!(output, Output::Folder(_) | Output::Files(_));
        let listed = self.outputs.is_empty()
            || !self.tags.is_empty()
            || self.outputs.iter().any(|output| matches!(output, Output::Image { .. }));
        let outcome = if listed {
            Outcome::Unspecified
        } else if self.outputs.iter().all(files) && self.iidfile.is_none() {
            Outcome::Files
        } else {
            Outcome::Unlisted
        };
        if let Ok(epoch) = std::env::var(EPOCH) {
            open.build_args.entry(EPOCH.to_owned()).or_insert(epoch);
        }
        open.tags.clone_from(&self.tags);
        open.set_outcome(outcome);
        open.cache_from = self.caches.sources();
        open.send_files = self.outputs.iter().any(files);
    }

    /// Writes a piece of the files of the result. Nothing is made or replaced before there is one.
    pub async fn write(&self, files: &mut Option<Files>, piece: &Bytes) -> Result<(), Error> {
        let files = match files {
            Some(files) => files,
            None => files.insert(self.files()?),
        };
        files.write(piece).await
    }

    fn files(&self) -> Result<Files, Error> {
        let mut files = Files::default();
        for output in &self.outputs {
            match output {
                Output::Folder(path) => files.add_folder(path)?,
                Output::Files(path) => files.add_archive(path.as_deref())?,
                Output::Archive { .. } | Output::Image { .. } => {}
            }
        }
        Ok(files)
    }

    /// Writes archives, sends to registries, and tells in files what was made.
    pub async fn finish(&self, engine: &Engine, files: Option<Files>, built: &Built) -> Result<(), Error> {
        if let Some(files) = files {
            files.finish().await?;
        }
        for output in &self.outputs {
            match output {
                Output::Archive { oci, dest, names } => {
                    let names = if names.is_empty() { &self.common } else { names };
                    let format = if *oci { ArchiveFormat::Oci } else { ArchiveFormat::Docker };
                    let images = if names.is_empty() { vec![built.image_id.clone()] } else { names.clone() };
                    let request = SaveRequest { images, format: format.into() };
                    save::write(engine, request, dest.as_deref()).await?;
                }
                Output::Image { names, push: true } => {
                    let names = if names.is_empty() { &self.common } else { names };
                    self.push(engine, names).await?;
                }
                Output::Image { push: false, .. } | Output::Folder(_) | Output::Files(_) => {}
            }
        }
        self.caches.finish(engine, built, (&self.pushed(), self.quiet)).await?;
        if let Some(file) = &self.iidfile {
            write(file, &built.image_id)?;
        }
        if let Some(file) = &self.metadata {
            write(file, &metadata(built))?;
        }
        Ok(())
    }

    /// Nothing is told of what is sent to registries.
    pub fn hush(&mut self) {
        self.quiet = true;
    }

    /// Takes in caches of this side, before the build.
    pub async fn begin(&self, engine: &Engine) -> Result<(), Error> {
        self.caches.take_in(engine).await
    }

    /// The names that are sent to registries.
    fn pushed(&self) -> Vec<String> {
        let sent = |output: &Output| match output {
            Output::Image { names, push: true } if names.is_empty() => self.common.clone(),
            Output::Image { names, push: true } => names.clone(),
            _ => Vec::new(),
        };
        self.outputs.iter().flat_map(sent).collect()
    }

    async fn push(&self, engine: &Engine, names: &[String]) -> Result<(), Error> {
        for name in names {
            push::one(engine, name, self.quiet, Place::Stderr).await?;
        }
        Ok(())
    }
}

fn write(file: &str, text: &str) -> Result<(), Error> {
    std::fs::write(file, text).map_err(|error| Error::io(format!("write {file}"), error))
}

/// What was made, in the words of buildx.
fn metadata(built: &Built) -> String {
    let mut said = BTreeMap::new();
    if !built.image_id.is_empty() {
        said.insert("containerimage.config.digest", built.image_id.clone());
        said.insert("containerimage.digest", built.digest.clone());
    }
    if !built.references.is_empty() {
        let names: Vec<String> = built.references.iter().map(|name| reference::full(name)).collect();
        said.insert("image.name", names.join(","));
    }
    let text = serde_json::to_string_pretty(&said).expect("texts are JSON");
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_said_as_buildx_does() {
        let built = Built {
            image_id: "sha256:a".into(),
            digest: "sha256:b".into(),
            references: vec!["app".into(), "localhost:5000/app:1".into()],
            ..Built::default()
        };
        let said: serde_json::Value = serde_json::from_str(&metadata(&built)).unwrap();
        assert_eq!(
            said,
            serde_json::json!({
                "containerimage.config.digest": "sha256:a",
                "containerimage.digest": "sha256:b",
                "image.name": "docker.io/library/app:latest,localhost:5000/app:1",
            })
        );
        assert_eq!(metadata(&Built::default()), "{}\n");
    }
}
