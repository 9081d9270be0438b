//! What a stage has come to: files, a config, arguments.
//!
//! What files it has is told by the digests of its layers alone, so that steps that come to the same files find the
//! same steps after them, whoever did them and when. Everything else that its image will say is kept here: an image
//! that a step left may have been made by another file, with other labels and another history.

use std::sync::Arc;

use davit_dockerfile::change::Config;
use davit_dockerfile::scope::{Args, Platform};
use davit_proto::image::{CommitOpen, Platform as WirePlatform};
use serde_json::Value;

use crate::document::{self, Document};
use crate::engine::{Image, wire};
use crate::epoch::Epoch;
use crate::error::Error;
use crate::key::Key;
use crate::platform::{self, host};
use crate::tree::Tree;
use crate::view::View;

/// Settings that no step's files depend on: they speak to containers of the image that will be.
const INERT: [&str; 9] = [
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "StopSignal",
    "Volumes",
];

/// What a stage has come to.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// An image whose files are its files; none for no files at all.
    pub image: Option<Image>,
    /// Its config.
    pub config: Config,
    /// How its layers came to be, as images tell it, and what was said before the last of them.
    history: Vec<Value>,
    /// What was said since that image was made, and made no layer.
    pub pending: Vec<String>,
    /// When the last layer was made, as images tell it.
    pub(super) created: String,
    /// What its layers hold, lowest first.
    diff_ids: Vec<String>,
    /// What it runs on; empty for this host.
    platform: String,
    /// Arguments.
    pub(super) args: Args,
    /// Its author.
    pub(super) author: String,
}

impl State {
    /// Begins upon an image.
    pub fn of(image: Option<Image>) -> Result<Self, Error> {
        let Document { config, history, diff_ids, created, platform } = match &image {
            Some(image) => Document::read(&image.told.config)?,
            None => Document::default(),
        };
        let config = Config::new(config);
        Ok(Self { image, config, history, created, diff_ids, platform, ..Self::default() })
    }

    /// Begins upon nothing: with what every image says.
    pub(super) fn scratch() -> Self {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let config = [("Env".to_owned(), Value::from(vec![path])), ("WorkingDir".to_owned(), "/".into())];
        Self { config: Config::new(config.into_iter().collect()), ..Self::default() }
    }

    /// For a platform, as long as there is no image that says one.
    pub(super) fn of_platform(mut self, platform: &Platform) -> Self {
        if *platform != host() {
            self.platform = platform.to_string();
        }
        self
    }

    /// The platform that an image from nothing must be told.
    fn bare_platform(&self) -> Option<WirePlatform> {
        let bare = self.image.is_none() && !self.platform.is_empty();
        bare.then(|| platform::parse(&self.platform).ok().map(|platform| wire(&platform))).flatten()
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

    /// The name of its files: what nobody wrote into them does not count.
    pub fn chain(&self) -> String {
        self.diff_ids.join(" ")
    }

    /// Begins the name of a step upon it: all that the step's files depend on.
    pub(super) fn key(&self, kind: &str, epoch: Epoch) -> Key {
        let mut key = Key::new(Some(&self.chain()), kind);
        key.add(self.platform.as_bytes());
        key.add(epoch.described().as_bytes());
        let settings = self.config.map().iter().filter(|(name, _)| !INERT.contains(&name.as_str()));
        for (name, value) in settings {
            key.add(name.as_bytes());
            key.add(value.to_string().as_bytes());
        }
        key
    }

    /// Goes on upon the image that a step left, now or before.
    pub(super) fn stepped(&mut self, text: &str, image: Image) -> Result<(), Error> {
        let Document { diff_ids, created, platform, .. } = Document::read(&image.told.config)?;
        self.created = created;
        self.say();
        // A command that changed nothing has no layer.
        let empty = diff_ids.len() == self.diff_ids.len();
        self.history.push(document::step(text, &self.created, &self.author, empty));
        (self.diff_ids, self.platform, self.image) = (diff_ids, platform, Some(image));
        Ok(())
    }

    /// What was said becomes part of its history.
    fn say(&mut self) {
        let said = self.pending.drain(..);
        self.history.extend(said.map(|text| document::step(&text, &self.created, &self.author, true)));
    }

    pub(super) fn config_bytes(&self) -> Vec<u8> {
        Value::Object(self.config.map().clone()).to_string().into_bytes()
    }

    /// The image that a step with a layer leaves.
    pub(super) fn open(&self, created_by: String, reference: String) -> CommitOpen {
        CommitOpen {
            base: self.image.as_ref().map(|image| image.id.clone()).unwrap_or_default(),
            config: self.config_bytes().into(),
            author: self.author.clone(),
            created_by,
            reference,
            platform: self.bare_platform(),
            ..CommitOpen::default()
        }
    }

    /// The image that it is, with all that was said of it.
    pub(super) fn whole(&mut self) -> CommitOpen {
        self.say();
        let history = Value::Array(self.history.clone()).to_string().into_bytes();
        CommitOpen { history: history.into(), ..self.open(String::new(), String::new()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use davit_proto::image::InspectResponse;
    use serde_json::{Map, json};

    fn image(diff_ids: &[&str], labels: &Value, created: &str) -> Image {
        let document = json!({ "created": created, "rootfs": { "diff_ids": diff_ids },
            "config": { "Env": ["A=1"], "Labels": labels } });
        let config = document.to_string().into_bytes();
        Image {
            id: created.to_owned(),
            told: InspectResponse { config: config.into(), ..Default::default() },
        }
    }

    #[test]
    fn what_counts_is_what_a_step_sees() {
        let epoch = Epoch::of(&HashMap::new()).unwrap();
        let key = |state: &State| state.key("RUN", epoch).reference();
        let one = State::of(Some(image(&["a", "b"], &json!({}), "then"))).unwrap();
        let other = State::of(Some(image(&["a", "b"], &json!({ "x": "y" }), "now"))).unwrap();
        assert_eq!(key(&one), key(&other), "neither times nor labels count");
        let files = State::of(Some(image(&["a", "c"], &json!({}), "then"))).unwrap();
        assert_ne!(key(&one), key(&files));
        assert_ne!(key(&one), one.key("COPY", epoch).reference());
        assert_ne!(key(&one), key(&State::default()));
    }

    #[test]
    fn its_history_is_its_own() {
        let mut state = State::of(Some(image(&["a"], &json!({}), "then"))).unwrap();
        state.pending.push("ENV B=2".to_owned());
        state.stepped("RUN x", image(&["a", "b"], &json!({ "of": "another" }), "now")).unwrap();
        state.stepped("RUN true", image(&["a", "b"], &json!({}), "later")).unwrap();
        state.pending.push("CMD y".to_owned());
        let open = state.whole();
        let history: Vec<Value> = serde_json::from_slice(&open.history).unwrap();
        let step = |text: &str, created: &str, empty| document::step(text, created, "", empty);
        let wanted = [
            json!({}),
            step("ENV B=2", "now", true),
            step("RUN x", "now", false),
            step("RUN true", "later", true),
            step("CMD y", "later", true),
        ];
        assert_eq!(history, wanted);
        let config: Map<String, Value> = serde_json::from_slice(&open.config).unwrap();
        assert_eq!(config["Labels"], json!({}), "what another build said is not said here");
    }
}
