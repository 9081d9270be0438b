//! What a stage has come to: files, a config, arguments.

use std::sync::Arc;

use davit_dockerfile::change::Config;
use davit_dockerfile::scope::Args;
use davit_proto::image::CommitOpen;
use serde_json::{Map, Value};

use crate::engine::Image;
use crate::epoch::Epoch;
use crate::error::Error;
use crate::key::Key;
use crate::tree::Tree;
use crate::view::View;

/// What a stage has come to.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The image whose files are its files; none for no files at all.
    pub image: Option<Image>,
    /// Its config.
    pub config: Config,
    /// What was said since that image was made, and made no layer.
    pub pending: Vec<String>,
    /// Arguments.
    pub(super) args: Args,
    /// Its author.
    pub(super) author: String,
}

impl State {
    /// Begins upon an image.
    pub fn of(image: Option<Image>) -> Result<Self, Error> {
        let config = match &image {
            Some(image) => config(&image.told.config)?,
            None => Map::new(),
        };
        Ok(Self { image, config: Config::new(config), ..Self::default() })
    }

    /// Begins upon nothing: with what every image says.
    pub(super) fn scratch() -> Self {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let config = [("Env".to_owned(), Value::from(vec![path])), ("WorkingDir".to_owned(), "/".into())];
        Self { config: Config::new(config.into_iter().collect()), ..Self::default() }
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.config.variable(name).or_else(|| self.args.variable(name))
    }

    /// Its files; none when it has none.
    pub fn files(&self) -> Result<Option<Arc<dyn Tree>>, Error> {
        let Some(image) = &self.image else { return Ok(None) };
        let view = View::open(&image.told.layer_paths).map_err(Error::io("open the layers of the image"))?;
        Ok(Some(Arc::new(view)))
    }

    /// Begins the name of a step upon it: all that its image will have.
    pub(super) fn key(&self, kind: &str, epoch: Epoch) -> Key {
        let mut key = Key::new(self.image.as_ref().map(|image| image.id.as_str()), kind);
        key.add(Value::Object(self.config.map().clone()).to_string().as_bytes());
        key.add(self.author.as_bytes());
        key.add(epoch.described().as_bytes());
        self.pending.iter().for_each(|text| key.add(text.as_bytes()));
        key
    }

    pub(super) fn config_bytes(&self) -> Vec<u8> {
        Value::Object(self.config.map().clone()).to_string().into_bytes()
    }

    pub(super) fn open(&mut self, created_by: String, reference: String) -> CommitOpen {
        CommitOpen {
            base: self.image.as_ref().map(|image| image.id.clone()).unwrap_or_default(),
            config: self.config_bytes().into(),
            author: self.author.clone(),
            created_by,
            reference,
            earlier: std::mem::take(&mut self.pending),
            ..CommitOpen::default()
        }
    }
}

/// The object "config" of an image's document.
fn config(document: &[u8]) -> Result<Map<String, Value>, Error> {
    let wrong = || Error::Invalid("the image's configuration is no JSON object".to_owned());
    let mut document: Map<String, Value> = serde_json::from_slice(document).map_err(|_| wrong())?;
    match document.remove("config") {
        Some(Value::Object(config)) => Ok(config),
        Some(Value::Null) | None => Ok(Map::new()),
        Some(_) => Err(wrong()),
    }
}
